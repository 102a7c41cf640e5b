"""A generator of many labels at scattered nodes."""

import copy

import numpy as np
import pytest
from mock_line_grid import tag_in_turn
from scipy.stats import qmc
from sklearn.ensemble import ExtraTreesRegressor

from stellarhml import (
    BayesianStellarRegressor,
    LineManifoldInterpolator,
    SpectrumGenerator,
    VoigtLineDecomposer,
    load,
    save,
)
from stellarhml.exceptions import PersistenceError
from stellarhml.flags import InferenceFlag
from stellarhml.plotting import ErrorMapDisplay

NAMES = ("teff", "logg", "feh", "vmic", "mg_fe")
LOW, HIGH = np.array([5000.0, 3.5, -0.8, 0.8, -0.3]), np.array([6500.0, 4.8, 0.3, 2.0, 0.4])
WAVELENGTH = np.arange(8500.0, 8516.0, 0.03)


def draw(n, seed):
    return LOW + (HIGH - LOW) * qmc.Sobol(5, seed=seed).random(n)


def spectra(labels, wavelength=WAVELENGTH):
    """Lines whose strengths and widths are functions of all labels; every third is of magnesium."""
    rng, flux = np.random.default_rng(0), np.ones((len(labels), len(wavelength)))
    teff, logg, feh, vmic, mg = labels.T
    for k in range(12):
        center = 8501 + 1.25 * k + rng.uniform(-0.2, 0.2)
        strength = np.exp(
            rng.uniform(-1.5, 1.5)
            + rng.uniform(-0.6, 0.9) * (5800 - teff) / 700
            + rng.uniform(-0.2, 0.2) * (logg - 4)
            + np.log(10) * (0.9 * feh + (mg if k % 3 == 0 else 0))
        )
        sigma = 0.06 * np.sqrt(0.6 + 0.15 * vmic**2)
        v = np.exp(-(((wavelength - center) / sigma[:, None]) ** 2) / 2)
        flux *= 1 - 0.8 * strength[:, None] * v / (1 + strength[:, None] * v)
    return flux


def observe(labels):
    """Mean flux in each pixel of a star."""
    parts = np.linspace(-0.4, 0.4, 5)[:, None] * 0.03  # of a pixel
    return np.mean([spectra(labels[None], WAVELENGTH + part)[0] for part in parts], axis=0)


def make(**parameters):
    interpolator = LineManifoldInterpolator(method="regression", **parameters)
    options = {"decomposer": VoigtLineDecomposer(n_rounds=0, subsample=6), "label_names": NAMES}
    return SpectrumGenerator(wavelength=WAVELENGTH, interpolator=interpolator, **options)


@pytest.fixture(scope="module")
def generator():
    labels = draw(128, 0)
    return make().fit(labels, spectra(labels))


@pytest.fixture(scope="module")
def stars():
    return draw(32, 1) * 0.9 + 0.05 * (LOW + HIGH)  # not at the very edge


def test_spectra_and_their_errors(generator, stars):
    flux, std = generator.predict(stars, return_std=True)
    error = np.sqrt(np.mean((flux - spectra(stars)) ** 2, axis=1))
    # five labels and 128 nodes: what changes by 0.1 from node to node is right to 0.003
    assert np.median(error) < 0.003
    assert 0.5 < np.sqrt(np.mean(std**2)) / np.sqrt(np.mean(error**2)) < 2
    frame = ErrorMapDisplay.from_estimator(generator).plot()
    assert frame is not None
    assert set(generator.error_map_.to_frame()["along"]) == {"all"}


def test_derivatives(generator, stars):
    jacobian = generator.jacobian(stars[:2])
    for k, step in enumerate(1e-3 * np.diag(HIGH - LOW)):
        reference = (generator.predict(stars[:2] + step) - generator.predict(stars[:2] - step)) / 2e-3
        # rendering is right to 1e-6, over the step
        np.testing.assert_allclose(jacobian[:, :, k] * (HIGH - LOW)[k], reference, atol=2e-3)


def test_tables_and_files(tmp_path, generator, stars):
    table = generator.line_table(stars[0])
    assert "equivalent_width_per_mg_fe" in table
    of_magnesium = table["equivalent_width_per_mg_fe"] > 0.1 * table["equivalent_width"]
    assert 3 <= of_magnesium.sum() <= 6  # 4 of 12
    again = load(save(generator, tmp_path / "g.asdf"))
    np.testing.assert_array_equal(again.predict(stars), generator.predict(stars))
    np.testing.assert_array_equal(again.expected_error(stars[0]), generator.expected_error(stars[0]))


def test_five_labels_of_a_star(generator, stars):
    regressor = BayesianStellarRegressor.from_generator(generator)
    rng, error, away = np.random.default_rng(0), np.full(len(WAVELENGTH), 0.003), []
    settings = {"resolving_power": 1e6, "fixed": {"vsini": 0.0}}
    for labels in stars[:3]:
        flux = rng.normal(observe(labels), error)
        result = regressor.infer((WAVELENGTH, flux, error), **settings)
        away += [(result.values[name] - label) / result.errors[name] for name, label in zip(NAMES, labels, strict=True)]
        assert result.errors["teff"] < 0.2 * (HIGH - LOW)[0]
    assert np.sqrt(np.mean(np.square(away))) < 2
    hot = observe(np.array([6900.0, 4.2, -0.2, 1.4, 0.0]))
    assert InferenceFlag.AT_BOUND in regressor.infer((WAVELENGTH, hot, error), **settings).flags


def test_an_element_that_is_a_label_is_no_abundance_besides(generator, stars):
    regressor = BayesianStellarRegressor.from_generator(tag_in_turn(copy.copy(generator), ["Mg I", "Si I", "Fe I"]))
    star = WAVELENGTH, spectra(stars[:1])[0], np.full(len(WAVELENGTH), 0.003)
    with pytest.raises(ValueError, match=r"'Mg', but the tagged lines are of Si .*labels do not count"):
        regressor.infer(star, resolving_power=1e6, abundances=["Mg"])


def test_a_regressor_of_scikit_learn(tmp_path, stars):
    labels = draw(64, 0)
    theirs = make(regressor=ExtraTreesRegressor(20, random_state=0)).fit(labels, spectra(labels))
    flux, std = theirs.predict(stars, return_std=True)
    assert np.isfinite(std).all()
    assert np.sqrt(np.mean((flux - spectra(stars)) ** 2)) < 0.15
    with pytest.raises(PersistenceError, match="ExtraTreesRegressor"):
        save(theirs, tmp_path / "g.asdf")
    np.testing.assert_array_equal(load(save(theirs, tmp_path / "g.joblib")).predict(stars), flux)
