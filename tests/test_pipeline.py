"""make_stellar_pipeline: the steps together, as scikit-learn uses them."""

import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from stellarhml import (
    BayesianStellarRegressor,
    LineManifoldInterpolator,
    PhoenixPreprocessor,
    SpectrumGenerator,
    VoigtLineDecomposer,
    make_stellar_pipeline,
)
from stellarhml.datasets import make_stellar_grid
from stellarhml.exceptions import InferenceWarning
from stellarhml.model_selection import LeaveOneNodeOut
from stellarhml.pipeline import PAPER_SETTINGS

QUICK = {
    "preprocessor": {"peak_distance": 40, "degree": 2},
    "decomposer": {"n_rounds": 0, "subsample": 6},
    "regressor": {"search": "nodes", "n_starts": 1},
}
SLOPE = 3e14 * (1 + 0.2 * np.linspace(-1, 1, 400))


@pytest.fixture(scope="module")
def grid():
    data = make_stellar_grid(random_state=0)
    data.raw = data.flux * SLOPE
    return data


@pytest.fixture(scope="module")
def star(grid):
    """A spectrum between two nodes of [Fe/H], inside the grid in all labels."""
    return grid.raw[[8, 9]].mean(axis=0, keepdims=True)


@pytest.fixture(scope="module")
def fitted(grid):
    return make_stellar_pipeline(wavelength=grid.wavelength, settings=QUICK, random_state=0).fit(grid.raw, grid.labels)


def test_pipeline_is_preprocessor_then_regressor(grid, fitted, star):
    preprocessor = PhoenixPreprocessor(wavelength=grid.wavelength, **QUICK["preprocessor"])
    regressor = BayesianStellarRegressor(
        generator=SpectrumGenerator(wavelength=grid.wavelength, decomposer=VoigtLineDecomposer(**QUICK["decomposer"])),
        random_state=0,
        **QUICK["regressor"],
    ).fit(preprocessor.fit_transform(grid.raw), grid.labels)
    np.testing.assert_array_equal(fitted.predict(star), regressor.predict(preprocessor.transform(star)))


def test_training_spectra_are_recognised(grid, fitted):
    inside = (grid.labels[:, 0] > 5000) & (grid.labels[:, 0] < 5750) & (grid.labels[:, 1] == 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InferenceWarning)  # [Fe/H] has two values: it is at a bound, or just inside
        got = fitted.predict(grid.raw[inside])
    # on three and four values of a label, "auto" keeps 8 of 9 factors: 1 % of the ranges, against 0.1 % with all lines
    np.testing.assert_allclose((got - grid.labels[inside]) / [750, 1, 0.5], 0, atol=0.02)


def test_nested_parameters_reach_their_step(grid):
    pipeline = make_stellar_pipeline(wavelength=grid.wavelength)
    assert list(pipeline.named_steps) == ["preprocess", "regress"]
    pipeline.set_params(
        preprocess__degree=3,
        regress__n_calls=60,
        regress__generator__residual_rank=2,
        regress__generator__decomposer__prominence=0.2,
        regress__generator__interpolator__method="linear",
    )
    steps = pipeline.named_steps
    assert steps["preprocess"].degree == 3
    assert steps["regress"].n_calls == 60
    assert steps["regress"].generator.residual_rank == 2
    pipeline.set_params(regress__search="nodes", preprocess__peak_distance=40).fit(grid.raw, grid.labels)
    generator = steps["regress"].generator_
    assert generator.decomposer_.prominence == 0.2
    assert generator.residual_.rank == 2
    fewer = len(generator.decomposer_.line_catalog_)
    pipeline.set_params(regress__generator__decomposer__prominence=0.005).fit(grid.raw, grid.labels)
    assert fewer < len(steps["regress"].generator_.decomposer_.line_catalog_)


def test_clone_keeps_parameters_and_forgets_the_fit(fitted):
    copy = clone(fitted)
    assert not hasattr(copy.named_steps["regress"], "generator_")
    assert copy.get_params()["regress__search"] == "nodes"
    np.testing.assert_array_equal(
        copy.get_params()["regress__generator__wavelength"], fitted.named_steps["preprocess"].wavelength
    )


def test_cross_validation_over_nodes_infers_what_it_left_out(grid):
    pipeline = make_stellar_pipeline(wavelength=grid.wavelength, settings=QUICK, random_state=0)
    splitter = LeaveOneNodeOut()
    n_splits = splitter.get_n_splits(grid.raw, grid.labels)
    assert n_splits == 4  # 2 of 4 Teff x 1 of 3 log g x 2 [Fe/H], which has nothing between
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InferenceWarning)  # [Fe/H] of the left-out nodes is at a bound
        scores = cross_val_score(pipeline, grid.raw, grid.labels, cv=splitter, scoring="neg_mean_absolute_error")
    assert scores.shape == (4,)
    assert np.all(np.isfinite(scores))
    # mean over K and dex: at most some 20 K of 250 K steps
    assert scores.min() > -10


def test_grid_search_over_a_nested_parameter(grid):
    pipeline = make_stellar_pipeline(wavelength=grid.wavelength, settings=QUICK, random_state=0)
    search = GridSearchCV(
        pipeline,
        {"regress__generator__decomposer__prominence": [0.005, 0.3]},
        cv=[(np.arange(24) != 9, np.array([9]))],
        scoring="neg_mean_absolute_error",
        refit=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InferenceWarning)
        search.fit(grid.raw, grid.labels)
    scores = search.cv_results_["mean_test_score"]
    assert np.all(np.isfinite(scores))
    assert scores[0] != scores[1]  # the parameter arrived


def test_window_is_cropped_alike_in_all_steps(grid, star):
    settings = {**QUICK, "preprocessor": {**QUICK["preprocessor"], "window": (8502.0, 8515.0)}}
    pipeline = make_stellar_pipeline(wavelength=grid.wavelength, settings=settings, random_state=0)
    pipeline.fit(grid.raw, grid.labels)
    inside = (grid.wavelength >= 8502.0) & (grid.wavelength <= 8515.0)
    np.testing.assert_array_equal(pipeline.named_steps["preprocess"].wavelength_out_, grid.wavelength[inside])
    np.testing.assert_array_equal(pipeline.named_steps["regress"].generator_.wavelength_, grid.wavelength[inside])
    cropped = make_stellar_pipeline(wavelength=grid.wavelength[inside], settings=QUICK, random_state=0)
    cropped.fit(grid.raw[:, inside], grid.labels)
    np.testing.assert_array_equal(pipeline.predict(star), cropped.predict(star[:, inside]))
    # the list of wavelengths may be a list
    as_list = make_stellar_pipeline(wavelength=grid.wavelength.tolist(), settings=settings, random_state=0)
    np.testing.assert_array_equal(as_list.fit(grid.raw, grid.labels).predict(star), pipeline.predict(star))


def test_a_window_changed_in_one_step_only_is_refused(grid):
    pipeline = make_stellar_pipeline(wavelength=grid.wavelength, settings=QUICK)
    pipeline.set_params(preprocess__window=(8502.0, 8515.0))
    with pytest.raises(ValueError, match=r"Pass the wavelengths of exactly those columns; .* `wavelength_out_`"):
        pipeline.fit(grid.raw, grid.labels)


def test_unknown_steps_in_settings_are_refused():
    with pytest.raises(ValueError, match=r"`settings` has unknown steps \['emulator'\]; the steps are \['decomposer'"):
        make_stellar_pipeline(settings={"emulator": {}})


def test_paper_settings_are_parameters_of_every_class_and_valid():
    classes = {
        "preprocessor": PhoenixPreprocessor,
        "decomposer": VoigtLineDecomposer,
        "interpolator": LineManifoldInterpolator,
        "generator": SpectrumGenerator,
        "regressor": BayesianStellarRegressor,
    }
    assert set(classes) == set(PAPER_SETTINGS)
    for step, parameters in PAPER_SETTINGS.items():
        classes[step](**parameters)._validate_params()
    pipeline = make_stellar_pipeline(settings=PAPER_SETTINGS)
    found = pipeline.get_params()
    for name, value in PAPER_SETTINGS["decomposer"].items():
        assert found[f"regress__generator__decomposer__{name}"] == value
    for name, value in PAPER_SETTINGS["interpolator"].items():
        assert found[f"regress__generator__interpolator__{name}"] == value
    assert found["regress__generator__residual_rank"] is None
    assert found["regress__generator__n_factors"] is None
    assert found["preprocess__continuum"] == "each"


@pytest.mark.slow
def test_the_papers_chain_runs_on_a_small_grid():
    grid = make_stellar_grid(n_teff=3, n_logg=2, n_feh=2, random_state=0)
    small = {**PAPER_SETTINGS, "decomposer": {**PAPER_SETTINGS["decomposer"], "line_margin": 0, "loss_margin": 0}}
    small["preprocessor"] = {**PAPER_SETTINGS["preprocessor"], "peak_distance": 40, "degree": 2}
    small["regressor"] = {**PAPER_SETTINGS["regressor"], "n_initial_points": 12, "n_calls": 16}
    pipeline = make_stellar_pipeline(wavelength=grid.wavelength, settings=small, random_state=0)
    pipeline.fit(grid.flux * SLOPE, grid.labels)
    truth = np.array([[5250.0, 3.75, -0.25]])
    star = pipeline[-1].generator_.predict(truth)
    # unpolished, of 16 calls: a third of the ranges; the weakest label, log g, left out
    assert np.all(np.abs(pipeline[-1].predict(star) - truth)[0, [0, 2]] <= [500 / 3, 0.5 / 3])


def test_flux_errors_reach_the_regressor(grid, fitted, star):
    error = np.full((1, 400), 0.01)
    error[0, 100:150] = np.inf
    direct = fitted.named_steps["regress"].predict(
        fitted.named_steps["preprocess"].transform(star), flux_error=error, return_std=True
    )
    # without routing, keywords of predict go to the last step
    for ours, theirs in zip(fitted.predict(star, flux_error=error, return_std=True), direct, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(fitted)
        routed.named_steps["regress"].set_predict_request(flux_error=True, return_std=True)
        routed.fit(grid.raw, grid.labels)
        for ours, theirs in zip(routed.predict(star, flux_error=error, return_std=True), direct, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert not np.array_equal(routed.predict(star, return_std=True)[1], direct[1])
