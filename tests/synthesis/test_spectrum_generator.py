"""SpectrumGenerator: labels to flux."""

import itertools

import joblib
import numpy as np
import pytest
from scipy.integrate import trapezoid
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline

from stellarhml import LineManifoldInterpolator, PhoenixPreprocessor, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid
from stellarhml.exceptions import ExtrapolationWarning, LabelsOutsideGridError
from stellarhml.kernels.rendering import render_lines
from stellarhml.synthesis.evaluation import TOLERANCE

BETWEEN = np.array([[5120.0, 3.7, -0.35], [5480.0, 4.2, -0.1], [5600.0, 4.4, -0.25]])
QUICK = {"n_rounds": 0, "subsample": 6}  # for tests that do not ask how well lines were learnt
SLOPE = 3e14 * (1 + 0.2 * np.linspace(-1, 1, 400))


@pytest.fixture(scope="module")
def raw_generator(grid):
    preprocessor = PhoenixPreprocessor(peak_distance=40, degree=2)
    return SpectrumGenerator(wavelength=grid.wavelength, preprocessor=preprocessor).fit(grid.labels, grid.flux * SLOPE)


def test_nodes_without_residual_are_the_model_spectra_of_the_decomposer(grid, lines_alone):
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength)
    spectra = decomposer.inverse_transform(decomposer.fit_transform(grid.flux, grid.labels))
    # the generator's parameters are good to 1e-7, and it renders to TOLERANCE
    np.testing.assert_allclose(lines_alone.predict(grid.labels), spectra, rtol=0, atol=1.2 * TOLERANCE)
    assert lines_alone.residual_ is None


def test_nodes_with_a_full_residual_are_the_spectra_themselves(grid):
    full = SpectrumGenerator(wavelength=grid.wavelength, residual_rank=len(grid.flux)).fit(grid.labels, grid.flux)
    error = full.predict(grid.labels) - grid.flux
    assert full.residual_.rank == len(grid.flux) - 1  # one less for the mean
    # each of them and the mean is stored to 1e-4, with coefficients of 1 at most
    assert np.abs(error).max() < 3e-4
    assert np.sqrt(np.mean(error**2)) < 1e-4


def test_a_residual_brings_predictions_nearer(grid, generator, lines_alone):
    def rms(model):
        return np.sqrt(np.mean((model.predict(grid.labels) - grid.flux) ** 2))

    assert rms(generator) < 0.3 * rms(lines_alone)
    assert 0 < generator.residual_.rank < len(grid.flux)
    assert generator.residual_.nbytes < 0.2 * grid.flux.astype(np.float32).nbytes


@pytest.mark.parametrize(
    ("parameters", "factor"),
    # three Teff tell no curvature from noise when one is left out: "auto" keeps fewer components than would be good
    [({"n_factors": None, "residual_rank": 24}, 0.2), ({"n_factors": None}, 0.3), ({}, 0.6)],
    ids=["all", "chosen residual", "auto"],
)
def test_predictions_between_nodes_are_better_than_pixel_interpolation(grid, parameters, factor):
    # the same lines on a grid with twice the nodes: every second Teff lies between those of the training grid
    truth = make_stellar_grid(n_teff=4, random_state=0)
    coarse = (truth.labels[:, 0] == 5000) | (truth.labels[:, 0] == 5500) | (truth.labels[:, 0] == 5750)
    model = SpectrumGenerator(wavelength=grid.wavelength, **parameters).fit(truth.labels[coarse], truth.flux[coarse])
    pixels = LineManifoldInterpolator(method="linear").fit(truth.labels[coarse], truth.flux[coarse])
    error = model.predict(truth.labels[~coarse]) - truth.flux[~coarse]
    pixel_error = pixels.predict(truth.labels[~coarse]) - truth.flux[~coarse]
    assert np.sqrt(np.mean(error**2)) < factor * np.sqrt(np.mean(pixel_error**2))


def test_score_is_one_for_its_own_predictions_and_less_for_noise(grid, generator, raw_generator):
    assert generator.score(BETWEEN, generator.predict(BETWEEN)) == pytest.approx(1, abs=1e-12)
    assert 0.999 < generator.score(grid.labels, grid.flux) <= 1
    assert generator.score(grid.labels, grid.flux[::-1]) < 0.9
    assert 0.99 < raw_generator.score(grid.labels, grid.flux * SLOPE) <= 1


def test_raw_flux_is_its_continuum_times_the_normalised_flux(grid, raw_generator):
    raw = grid.flux * SLOPE
    # teff is a label of the grid, so its black body is divided too
    by_hand = PhoenixPreprocessor(wavelength=grid.wavelength, peak_distance=40, degree=2)
    normalised = by_hand.fit_transform(raw, teff=grid.labels[:, 0])
    np.testing.assert_array_equal(raw_generator.normalise(raw, labels=grid.labels), normalised)
    np.testing.assert_allclose(raw_generator.predict(grid.labels), normalised, rtol=0, atol=5e-3)
    direct = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, normalised)
    np.testing.assert_array_equal(raw_generator.predict(BETWEEN), direct.predict(BETWEEN))
    # without labels no black body is divided
    np.testing.assert_array_equal(raw_generator.normalise(raw), raw_generator.preprocessor_.transform(raw))


def test_wavelengths_reach_the_steps_and_the_window_crops(grid):
    preprocessor = PhoenixPreprocessor(window=(8502.0, 8512.0), peak_distance=40, degree=2)
    decomposer = VoigtLineDecomposer(**QUICK)
    model = SpectrumGenerator(wavelength=grid.wavelength, preprocessor=preprocessor, decomposer=decomposer)
    model.fit(grid.labels, grid.flux)
    inside = (grid.wavelength >= 8502) & (grid.wavelength <= 8512)
    np.testing.assert_array_equal(model.wavelength_, grid.wavelength[inside])
    assert model.predict(BETWEEN).shape == (3, inside.sum())
    assert preprocessor.wavelength is None  # what was passed in stays as it was
    assert not hasattr(preprocessor, "wavelength_")


def test_errors_are_normalised_with_their_fluxes(grid):
    preprocessor = PhoenixPreprocessor(window=(8502.0, 8512.0), peak_distance=40, degree=0)
    decomposer = VoigtLineDecomposer(**QUICK)
    model = SpectrumGenerator(wavelength=grid.wavelength, preprocessor=preprocessor, decomposer=decomposer)
    raw = grid.flux * SLOPE
    model.fit(grid.labels, raw)
    np.testing.assert_array_equal(model.input_wavelength_, grid.wavelength)
    flux, error = raw[:2].copy(), 0.01 * raw[:2]
    flux[1, 150] = 0.0  # whose ratio is unknown: that of the others is taken
    normalised = model.normalise(flux)
    got = model.normalise_error(flux, error, normalised)
    assert got.shape == normalised.shape
    np.testing.assert_allclose(got[0], 0.01 * normalised[0], rtol=1e-12)
    assert np.isfinite(got).all()
    bare = SpectrumGenerator(wavelength=grid.wavelength, decomposer=decomposer).fit(grid.labels[:4], grid.flux[:4])
    assert bare.normalise_error(flux, error, flux) is error
    np.testing.assert_array_equal(bare.input_wavelength_, grid.wavelength)


def test_the_expected_error_is_that_of_predict(generator, lines_alone):
    std = generator.predict(BETWEEN, return_std=True)[1]
    for labels, row in zip(BETWEEN, std, strict=True):
        np.testing.assert_array_equal(generator.expected_error(labels), row)
        np.testing.assert_array_equal(generator.expected_error(labels, slice(30, 50)), row[30:50])
    outside = generator.expected_error([9000.0, 3.7, -0.35])
    assert np.isfinite(outside).all()  # that of the nearest point of the grid


def test_labels_without_a_teff_divide_no_black_body(grid):
    names = ("alpha", "logg", "feh")
    model = SpectrumGenerator(
        wavelength=grid.wavelength,
        preprocessor=PhoenixPreprocessor(peak_distance=40, degree=2),
        decomposer=VoigtLineDecomposer(**QUICK),
        label_names=names,
    ).fit(grid.labels, grid.flux)
    by_hand = PhoenixPreprocessor(wavelength=grid.wavelength, peak_distance=40, degree=2).fit_transform(grid.flux)
    np.testing.assert_array_equal(model.normalise(grid.flux, labels=grid.labels), by_hand)
    assert model.label_names_ == names


@pytest.mark.parametrize("residual_rank", [None, 16])
def test_jacobian_equals_finite_differences(grid, residual_rank):
    # whole windows: adaptive ones take and drop pixels of 1e-7 as the labels move, which a small step magnifies
    model = SpectrumGenerator(
        wavelength=grid.wavelength, decomposer=VoigtLineDecomposer(wing_cut=400, **QUICK), residual_rank=residual_rank
    ).fit(grid.labels, grid.flux)
    jacobian = model.jacobian(BETWEEN)
    assert jacobian.shape == (3, 400, 3)
    span = np.array([750.0, 1.0, 0.5])
    for k in range(3):
        h = np.zeros(3)
        h[k] = 1e-3 * span[k]
        numeric = (model.predict(BETWEEN + h) - model.predict(BETWEEN - h)) / (2 * h[k])
        # rendering is good to 1e-6, here to 1e-8: over a step of 2e-3 a jump from cells to
        # pixels as the labels move, seen at 1e-8, becomes 1e-5
        np.testing.assert_allclose(jacobian[..., k] * span[k], numeric * span[k], rtol=0, atol=2e-5)
        assert np.abs(numeric * span[k]).max() > 0.01


def test_jacobian_at_the_edge_is_one_sided_and_zero_for_a_fixed_label(grid):
    one = grid.labels[:, 2] == 0
    decomposer = VoigtLineDecomposer(wing_cut=400, **QUICK)
    model = SpectrumGenerator(wavelength=grid.wavelength, decomposer=decomposer).fit(grid.labels[one], grid.flux[one])
    edge = np.array([[5000.0, 3.5, 0.0]])
    jacobian = model.jacobian(edge)[0]
    np.testing.assert_array_equal(jacobian[:, 2], 0)
    for k, step in enumerate([1.5, 0.002]):  # 2e-3 of the ranges
        h = step * (np.arange(3) == k)
        at, near, far = (model.predict(edge + i * h)[0] for i in range(3))
        numeric = (4 * near - far - 3 * at) / 2
        # truncation: h^2 / 3 of third derivatives, over h; residuals in single precision, good to 2e-9, over h
        np.testing.assert_allclose(jacobian[:, k] * step / 2e-3, numeric / 2e-3, rtol=0, atol=1e-5)
        assert np.abs(numeric / 2e-3).max() > 0.01


@pytest.mark.parametrize("profile", ["minnaert", "saturated-voigt", "pseudo-voigt", "blase"])
def test_line_table_agrees_with_the_rendered_lines(grid, profile):
    model = SpectrumGenerator(
        wavelength=grid.wavelength,
        decomposer=VoigtLineDecomposer(profile=profile, max_iter=50, **QUICK),
        residual_rank=None,
    ).fit(grid.labels, grid.flux)
    table = model.line_table(BETWEEN[1])
    more = ["depth", "equivalent_width", "saturation", *(f"equivalent_width_per_{name}" for name in model.label_names_)]
    assert list(table.columns) == [*model.decomposer_.line_parameters, *more]
    np.testing.assert_array_equal(table.index, model.decomposer_.line_catalog_)
    parameters = table[list(model.decomposer_.line_parameters)].to_numpy()
    np.testing.assert_allclose(
        render_lines(grid.wavelength, parameters, profile=profile, wing_cut=None, tolerance=TOLERANCE),
        model.predict(BETWEEN[1:2])[0],
        rtol=1e-12,
    )
    for row, (_, line) in zip(parameters, table.iterrows(), strict=True):
        # sinh-spaced around the center, to 1000 widths: what lies beyond is 2 / (1000 pi) of a Lorentzian
        scale = np.exp(max(row[2], row[3]))
        lam = row[0] + scale * 1e-2 * np.sinh(np.linspace(-np.arcsinh(1e5), np.arcsinh(1e5), 4001))
        flux = render_lines(lam, row[None], profile=profile, wing_cut=len(lam))
        assert line["depth"] == pytest.approx(1 - flux.min(), rel=1e-6)
        # 0.5 %: the promised 0.1 %, and wings beyond 1000 widths, more of them for saturated lines
        assert line["equivalent_width"] == pytest.approx(trapezoid(1 - flux, lam), rel=5e-3)


def test_labels_outside_the_grid_are_refused(generator):
    with pytest.raises(LabelsOutsideGridError, match=r"teff 5000 to 5750.*'teff': 6000.0"):
        generator.predict([[5100.0, 4.0, 0.0], [6000.0, 4.0, 0.0]])
    with pytest.raises(LabelsOutsideGridError):
        generator.line_table([5100.0, 9.0, 0.0])


def test_labels_outside_are_nan_or_moved_where_asked(grid):
    x = np.array([[5100.0, 4.0, 0.0], [6000.0, 4.0, 0.0]])
    model = SpectrumGenerator(
        wavelength=grid.wavelength,
        decomposer=VoigtLineDecomposer(**QUICK),
        interpolator=LineManifoldInterpolator(extrapolate="nan"),
    )
    with pytest.warns(ExtrapolationWarning, match="1 of 2"):
        flux = model.fit(grid.labels, grid.flux).predict(x)
    assert np.isfinite(flux[0]).all()
    assert np.isnan(flux[1]).all()
    model.set_params(interpolator__extrapolate="nearest").fit(grid.labels, grid.flux)
    with pytest.warns(ExtrapolationWarning, match="moved to the nearest"):
        flux = model.predict(x)
    np.testing.assert_allclose(flux[1:], model.predict([[5750.0, 4.0, 0.0]]), rtol=1e-12)


@pytest.mark.parametrize("n_labels", [1, 2, 4])
def test_any_number_of_labels(n_labels):
    wavelength = 8500 + 0.05 * np.arange(120)
    axes = [np.array([0.0, 0.5, 1.0])] * n_labels
    labels = np.array(list(itertools.product(*axes)))
    strength = 0.2 + 0.3 * labels.mean(axis=1)
    flux = 1 - strength[:, None] * np.exp(-0.5 * ((wavelength - 8503.01) / 0.1) ** 2)
    model = SpectrumGenerator(wavelength=wavelength).fit(labels, flux)
    x = np.full((1, n_labels), 0.3)
    want = 1 - (0.2 + 0.3 * 0.3) * np.exp(-0.5 * ((wavelength - 8503.01) / 0.1) ** 2)
    # a Gauss line in a profile with wings, held by priors: the residual takes the rest
    np.testing.assert_allclose(model.predict(x)[0], want, atol=0.005)
    assert model.jacobian(x).shape == (1, 120, n_labels)


def test_training_on_single_precision_does_not_cost_accuracy(grid, lines_alone):
    single = clone(lines_alone).fit(grid.labels, grid.flux.astype(np.float32))
    # flux in float32 is known to 1e-7; fits of both agree to their own tolerance
    np.testing.assert_allclose(single.predict(BETWEEN), lines_alone.predict(BETWEEN), atol=5e-5)


@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_joblib_gives_the_same_predictions(generator, raw_generator, tmp_path, mmap_mode):
    for model in (generator, raw_generator):
        joblib.dump(model, tmp_path / "generator.joblib")
        loaded = joblib.load(tmp_path / "generator.joblib", mmap_mode=mmap_mode)
        np.testing.assert_array_equal(loaded.predict(BETWEEN), model.predict(BETWEEN))
        np.testing.assert_array_equal(loaded.jacobian(BETWEEN[:1]), model.jacobian(BETWEEN[:1]))
        assert loaded.line_table(BETWEEN[0]).equals(model.line_table(BETWEEN[0]))
        if mmap_mode:
            assert isinstance(loaded.residual_.rows.code, np.memmap)


def sentence(grid, decomposer, *steps, **interpolation):
    """The forward model as DESIGN.md, section 4, says it."""
    return TransformedTargetRegressor(
        regressor=LineManifoldInterpolator(parameters=decomposer.line_parameters, **interpolation),
        transformer=make_pipeline(*steps, decomposer),
        check_inverse=False,
    )


@pytest.mark.parametrize("sparse_output", [True, False])
@pytest.mark.parametrize("fit_undetected", [True, False])
def test_generator_is_the_sentence_with_a_name(grid, sparse_output, fit_undetected):
    # equal pixels: the sentence hands its decomposer no labels along which lines could be tracked
    options = {**QUICK, "sparse_output": sparse_output, "fit_undetected": fit_undetected}
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength, match_tolerance=0, **options)
    preprocessor = PhoenixPreprocessor(wavelength=grid.wavelength, peak_distance=40, degree=2)
    model = sentence(grid, decomposer, preprocessor).fit(grid.labels, grid.flux * SLOPE)
    named = SpectrumGenerator(
        preprocessor=preprocessor,
        decomposer=decomposer,
        n_factors=None,
        residual_rank=None,
        label_names=("temperature", "logg", "feh"),  # the sentence has no Teff to divide a black body by
    ).fit(grid.labels, grid.flux * SLOPE)
    # the generator keeps lines in single precision about their mean, and renders to TOLERANCE
    np.testing.assert_allclose(model.predict(BETWEEN), named.predict(BETWEEN), rtol=0, atol=1.2 * TOLERANCE)


@pytest.mark.parametrize("sparse_output", [True, False])
def test_the_sentence_gives_no_flux_outside_the_grid(grid, sparse_output):
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength, sparse_output=sparse_output, **QUICK)
    model = sentence(grid, decomposer, extrapolate="nan").fit(grid.labels, grid.flux)
    with pytest.warns(ExtrapolationWarning):
        flux = model.predict([[9000.0, 4.0, 0.0]])
    assert np.isnan(flux).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(grid, bad):
    flux, labels = grid.flux.copy(), grid.labels.copy()
    flux[3, 3] = labels[3, 2] = bad
    for x, y in ((grid.labels, flux), (labels, grid.flux)):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            SpectrumGenerator(wavelength=grid.wavelength).fit(x, y)
