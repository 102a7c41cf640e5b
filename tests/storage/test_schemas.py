"""Every kind of estimator that `save` takes gives a file that suits the schemas, as the asdf library checks them."""

from pathlib import Path

import asdf
import attacks
import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.pipeline import Pipeline, make_pipeline

from stellarhml import (
    BayesianStellarRegressor,
    LineCalibrator,
    LineManifoldInterpolator,
    PhoenixPreprocessor,
    SpectrumGenerator,
    VoigtLineDecomposer,
    load,
    save,
)

NAMES = ["teff", "logg", "feh"]


def quick(**parameters):
    return VoigtLineDecomposer(**{"n_rounds": 0} | parameters)


def check(estimator, folder):
    """Validate the file of an estimator, open it, and save it again: the same file."""
    path = save(estimator, folder / "estimator.asdf")
    with asdf.open(path, validate_checksums=True) as file:
        assert type(file["estimator"]) is type(estimator)
    assert save(load(path), folder / "again.asdf").read_bytes() == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"wavelength": None},
        {"label_names": ("teff", "logg", "vmic")},
        {"label_names": np.array(NAMES)},
        {"resolving_power": 60_000.0},
        {"n_factors": 2, "residual_rank": 1},
        {"n_factors": None, "residual_rank": None},
        {"decomposer": quick(wing_cut=50)},
        {"decomposer": quick(profile="pseudo-voigt")},
        {"decomposer": quick(n_lines=3, subsample=10, n_rounds=1)},
        {"interpolator": LineManifoldInterpolator(breaks={"teff": [5150]}, variables={"teff": "inverse"})},
        {"interpolator": LineManifoldInterpolator(breaks={"teff": np.array([5150.0])}, label_names=NAMES)},
        {"interpolator": LineManifoldInterpolator(breaks={}, variables={}, absent="vanish", extrapolate="nan")},
        {"interpolator": LineManifoldInterpolator(method="scattered", variables={"teff": "log"})},
        {"interpolator": LineManifoldInterpolator(method="regression", variables={"teff": "inverse"})},
        {"preprocessor": PhoenixPreprocessor(continuum="none", window=(8501.0, 8508.0))},
        {"preprocessor": PhoenixPreprocessor(continuum="each", peak_distance=20, degree=2, anchor_width=3)},
    ],
    ids=lambda parameters: f"{parameters!r:.60}",
)
def test_generators(tmp_path, with_extension, grid, parameters):
    generator = SpectrumGenerator(**{"wavelength": grid.wavelength, "decomposer": quick()} | parameters)
    check(generator, tmp_path)
    check(generator.fit(grid.labels, grid.flux), tmp_path)


def test_generators_of_other_labels(tmp_path, with_extension, grid):
    """One label, as a vector and as a column, with and without the name of a column."""
    rows = (grid.labels[:, 1:] == grid.labels[0, 1:]).all(axis=1)
    teff, flux = grid.labels[rows, :1], grid.flux[rows]
    for labels in (teff, pd.DataFrame(teff, columns=["teff"])):
        check(SpectrumGenerator(wavelength=grid.wavelength, decomposer=quick()).fit(labels, flux), tmp_path)
    generator = SpectrumGenerator(wavelength=grid.wavelength, decomposer=quick())
    check(BayesianStellarRegressor(generator=generator).fit(flux, teff[:, 0]), tmp_path)


def test_generators_without_error_map(tmp_path, with_extension, archived, plain):
    assert archived.error_map_ is None
    check(archived, tmp_path)
    generator = load(save(plain, tmp_path / "plain.asdf"))
    generator.error_map_.shifts = None
    check(generator, tmp_path)


@pytest.mark.parametrize(
    "parameters",
    [
        {"search": "bayes", "n_calls": 5, "n_initial_points": 2},
        {"search": "nodes", "polish": False, "continuum_degree": None, "generator_error": False, "verbose": True},
        {"bounds": {"teff": (5000, 5400)}, "priors": {"feh": (-0.3, 0.1)}, "random_state": 3},
    ],
    ids=str,
)
def test_regressors(tmp_path, with_extension, plain, grid, parameters):
    check(BayesianStellarRegressor(**parameters), tmp_path)
    check(BayesianStellarRegressor.from_generator(plain, **parameters), tmp_path)
    unfitted = SpectrumGenerator(wavelength=grid.wavelength, decomposer=quick())
    check(BayesianStellarRegressor(generator=unfitted, **parameters).fit(grid.flux, grid.labels), tmp_path)


def test_calibrators(tmp_path, with_extension, plain):
    stored = load(Path(__file__).parent / "fixtures" / "line_calibrator-1.0.0.asdf")
    check(stored, tmp_path)
    check(stored.generator_, tmp_path)
    check(LineCalibrator(plain, n_rounds=1, damping=True, bounds={"vmac": (0, 9)}), tmp_path)
    # without species
    stored.corrections_ = stored.corrections_.drop(columns=["species", "excitation", "log_gf"])
    stored.species_ = stored.species_[:0]
    check(stored, tmp_path)


def test_steps_fitted_alone(tmp_path, with_extension, grid):
    table = pd.DataFrame(grid.flux, columns=[f"pixel{i}" for i in range(grid.flux.shape[1])])
    for flux in (grid.flux, table):
        check(PhoenixPreprocessor(peak_distance=20, degree=1).fit(flux), tmp_path)
        check(quick(sparse_output=False).fit(flux), tmp_path)
    check(quick(wavelength=grid.wavelength).fit(grid.flux, grid.labels), tmp_path)
    theta = np.random.default_rng(0).normal(size=(len(grid.labels), 8))
    for labels in (grid.labels, pd.DataFrame(grid.labels, columns=NAMES)):
        for y in (theta, theta[:, 0], sparse.csr_matrix(theta), theta[:, :7]):
            check(LineManifoldInterpolator().fit(labels, y), tmp_path)


def test_pipelines(tmp_path, with_extension, grid, regressor):
    preprocessor = PhoenixPreprocessor(wavelength=grid.wavelength, continuum="none").fit(grid.flux)
    check(make_pipeline(preprocessor, regressor), tmp_path)
    check(make_pipeline(make_pipeline("passthrough", preprocessor), quick(), verbose=True), tmp_path)
    check(Pipeline([("a", None), ("b", "passthrough"), ("c", SpectrumGenerator())]), tmp_path)
    check(make_pipeline(quick(), LineManifoldInterpolator()), tmp_path)


def test_requests_of_metadata(tmp_path, with_extension):
    with sklearn.config_context(enable_metadata_routing=True):
        check(PhoenixPreprocessor().set_transform_request(teff=True), tmp_path)


def test_schemas_refuse_other_states(tmp_path, with_extension):
    path = save(PhoenixPreprocessor(), tmp_path / "p.asdf")
    tree, arrays = attacks.unpack(path)
    tree["estimator"].state["fitted"] = "x"
    path.write_bytes(attacks.pack(tree, arrays))
    with pytest.raises(asdf.exceptions.ValidationError):
        asdf.open(path)
