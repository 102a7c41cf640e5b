"""LinePrior: parameters of lines from the look of the spectrum as a whole."""

import numpy as np
import pytest

from stellarhml.lines.prior import MAX_SCORES, LinePrior

N_PIXELS, PIXELS = 60, np.array([5, 12, 20, 33, 41, 50])
PATTERNS = np.random.default_rng(0).normal(size=(3, len(PIXELS)))
COEFFICIENTS = np.random.default_rng(1).normal(size=(4, 5, 6))  # of 5 lines


def grid(*factors):
    """Spectra whose logarithm, and parameters that, are linear in hidden factors, shape (n_spectra, n_factors)."""
    factors = np.atleast_2d(np.array(factors, np.float64))
    k = factors.shape[1]
    flux = np.full((len(factors), N_PIXELS), 0.123)
    flux[:, PIXELS] = np.exp(-0.6 + 0.05 * factors @ PATTERNS[:k])
    return flux, COEFFICIENTS[0] + np.tensordot(factors, COEFFICIENTS[1 : k + 1], axes=1)


def learn(flux, theta):
    return LinePrior.learn(PIXELS, flux[:, PIXELS], theta)


@pytest.fixture(scope="module")
def factors():
    return np.random.default_rng(2).uniform(-1, 1, (20, 3))


def test_parameters_that_scores_determine_are_reproduced(factors):
    flux, theta = grid(*factors)
    prior = learn(flux, theta)
    assert prior.components.shape == (3, len(PIXELS))
    for row, wanted in zip(flux, theta, strict=True):
        np.testing.assert_allclose(prior.predict(row), wanted, atol=1e-10)
    # and for spectra between those of the training set
    for weights in np.random.default_rng(3).dirichlet(np.ones(20), 5):
        row, wanted = grid(weights @ factors)
        np.testing.assert_allclose(prior.predict(row[0]), wanted[0], atol=1e-10)


def test_scores_have_unit_variance_and_are_uncorrelated(factors):
    flux, theta = grid(*factors)
    prior = learn(flux, theta)
    scores = (np.log(flux[:, PIXELS]) - prior.mean) @ prior.components.T
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scores.T @ scores / len(flux), np.eye(3), atol=1e-9)


def test_what_the_scores_do_not_determine_is_averaged(factors):
    flux, theta = grid(*factors)
    noise = np.random.default_rng(4).normal(size=theta.shape)
    prior = learn(flux, theta + noise)
    design = np.column_stack([np.ones(20), factors])
    wanted = design @ np.linalg.lstsq(design, (theta + noise).reshape(20, -1), rcond=None)[0]
    np.testing.assert_allclose([prior.predict(row).ravel() for row in flux], wanted, atol=1e-10)


def test_other_pixels_do_not_count(factors):
    flux, theta = grid(*factors)
    spoilt = flux[3].copy()
    spoilt[np.setdiff1d(np.arange(N_PIXELS), PIXELS)] = np.linspace(-1, 7, N_PIXELS - len(PIXELS))
    np.testing.assert_array_equal(learn(flux, theta).predict(spoilt), learn(flux, theta).predict(flux[3]))


def test_scores_stay_within_a_tenth_of_the_training_range():
    steps = np.linspace(0, 1, 11)[:, None]
    flux, theta = grid(*steps)
    prior = learn(flux, theta)
    for beyond, clipped in [(1.05, 1.05), (1.5, 1.1), (8.0, 1.1), (-0.07, -0.07), (-4.0, -0.1)]:
        row, _ = grid([beyond])
        np.testing.assert_allclose(prior.predict(row[0]), grid([clipped])[1][0], atol=1e-10)


@pytest.mark.parametrize("value", [0.0, -0.3, 1e-30])
def test_dark_pixels_give_finite_numbers(factors, value):
    flux, theta = grid(*factors)
    dark = flux[0].copy()
    dark[PIXELS[2]] = value
    prior = learn(flux, theta)
    assert np.isfinite(prior.predict(dark)).all()
    dark_too = dark.copy()
    dark_too[PIXELS[2]] = 0.02
    np.testing.assert_array_equal(prior.predict(dark), prior.predict(dark_too))
    flux[0] = dark
    assert all(np.isfinite(part).all() for part in learn(flux, theta))


def test_the_order_of_rows_does_not_matter(factors):
    flux, theta = grid(*factors)
    order = np.random.default_rng(5).permutation(20)
    one, other = learn(flux, theta), learn(flux[order], theta[order])
    for row in [*flux, *grid([3.0, -2.0, 0.5], [-1.0, 4.0, 2.0])[0]]:
        np.testing.assert_allclose(one.predict(row), other.predict(row), atol=1e-9)


def test_no_more_scores_than_spectra_less_one():
    rng = np.random.default_rng(6)
    pixels = np.arange(40)
    flux, theta = np.exp(-rng.uniform(size=(30, 40))), rng.normal(size=(30, 2, 6))
    assert LinePrior.learn(pixels, flux, theta).components.shape == (MAX_SCORES, 40)
    few = LinePrior.learn(pixels, flux[:4], theta[:4])
    assert few.components.shape == (3, 40)
    np.testing.assert_allclose([few.predict(row) for row in flux[:4]], theta[:4], atol=1e-9)


@pytest.mark.parametrize("n_spectra", [1, 2, 7])
def test_equal_spectra_predict_the_mean(n_spectra):
    flux, theta = grid(*[[0.3, -0.2, 0.5]] * n_spectra)
    theta += np.random.default_rng(7).normal(size=theta.shape)
    prior = learn(flux, theta)
    assert prior.components.shape == (0, len(PIXELS))
    for row in [flux[0], grid([2.0, 2.0, 2.0])[0][0], np.ones(N_PIXELS)]:
        np.testing.assert_allclose(prior.predict(row), theta.mean(axis=0), atol=1e-12)


def test_noise_of_rounding_is_no_component():
    flux, theta = grid([0.3, -0.2, 0.5], [0.3, -0.2, 0.5], [0.3, -0.2, 0.5])
    flux[1:, PIXELS] *= 1 + 1e-14 * np.random.default_rng(8).normal(size=(2, len(PIXELS)))
    assert learn(flux, theta).components.shape == (0, len(PIXELS))


def test_constant_flux():
    theta = np.random.default_rng(9).normal(size=(3, 5, 6))
    prior = learn(np.ones((3, N_PIXELS)), theta)
    np.testing.assert_allclose(prior.predict(np.ones(N_PIXELS)), theta.mean(axis=0), atol=1e-12)


def test_no_lines(factors):
    flux, theta = grid(*factors)
    assert learn(flux, theta[:, :0]).predict(flux[0]).shape == (0, 6)


@pytest.mark.parametrize(("n_spectra", "leverage"), [(1, 1.0), (2, 1.0), (4, 1.0), (8, 0.5), (20, 0.2)])
def test_leverage_is_the_number_of_coefficients_for_each_spectrum(factors, n_spectra, leverage):
    flux, theta = grid(*factors[:n_spectra])
    assert learn(flux, theta).leverage == pytest.approx(leverage)


def test_leverage_of_equal_spectra():
    flux, theta = grid(*[[0.3, -0.2, 0.5]] * 5)
    assert learn(flux, theta).leverage == pytest.approx(1 / 5)
