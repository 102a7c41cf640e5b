"""Shrunken means of the estimates of many stars, on numbers drawn from the model itself."""

import numpy as np
import pytest

from stellarhml.calibration.combination import combine, prior_precision, scatter_between, without_shifts
from stellarhml.calibration.star_estimates import LineEstimates

N_STARS, N_LINES = 5, 400
SCATTER = np.array([0.3, 0.2, 0.05, 0.15])  # of corrections by kind
BETWEEN = np.array([0.1, 0.06, 0.02, 0.1])  # of stars


@pytest.fixture
def drawn():
    """True corrections, and estimates of them by five stars, of which each shows three quarters of the lines."""
    rng = np.random.default_rng(3)
    truth = SCATTER[:, None] * rng.standard_t(4, size=(4, N_LINES))
    noise = np.exp(rng.uniform(np.log(0.01), np.log(0.3), size=(N_STARS, 4, N_LINES)))
    own = BETWEEN[:, None] * rng.normal(size=noise.shape)
    values = truth + own + noise * rng.normal(size=noise.shape)
    shown = rng.uniform(size=(N_STARS, 1, N_LINES)) < 0.75
    shown[:, :, -20:] = False
    precisions = np.where(shown, noise**-2.0, 0.0)
    shares = precisions / (precisions + SCATTER[:, None] ** -2)
    return truth, LineEstimates(np.where(shown, values, 0.0), precisions, shares)


def test_scatters_are_found_and_errors_hold(drawn):
    truth, estimates = drawn
    found = combine(estimates, np.zeros((N_STARS, 1, 4, N_LINES)), np.ones(1))
    # 400 lines: 5 % of a scatter, its tails included; noise adds to the small ones
    np.testing.assert_allclose(found.scatter, SCATTER, rtol=0.25)
    np.testing.assert_allclose(found.between, BETWEEN, rtol=0.25)
    shown = found.weights > 0
    off = ((found.values - truth) / np.sqrt(np.where(shown, found.variances, 1.0)))[shown]
    assert np.sqrt(np.mean(off**2)) == pytest.approx(1.0, abs=0.1)
    assert (found.values[:, -20:] == 0).all()


def test_corrections_are_shrunken(drawn):
    _, estimates = drawn
    found = combine(estimates, np.zeros((N_STARS, 1, 4, N_LINES)), np.ones(1))
    weights = estimates.precisions / (1 + estimates.precisions * found.between[:, None] ** 2)
    shown = found.weights > 0
    mean = (weights * estimates.values).sum(axis=0)[shown] / weights.sum(axis=0)[shown]
    prior = prior_precision(found.scatter[:, None], found.values, found.variances)[shown]
    np.testing.assert_allclose(found.values[shown], mean * found.weights[shown] / (found.weights[shown] + prior), 1e-2)
    assert (np.abs(found.values[shown]) < np.abs(mean)).all()
    # no more than the best of the stars knows
    share = found.weights[shown] / (found.weights[shown] + prior)
    assert (share < estimates.shares.max(axis=0)[shown] * 1.001).all()


def test_lines_that_no_star_tells_apart_are_corrected_together():
    """Two lines with one fault: each star gives half of it to either, and so do the corrections of any number."""
    shape = (8, 4, 2)
    precisions = np.full(shape, 0.2**-2)  # of half of the fault, as large as the prior's
    estimates = LineEstimates(np.full(shape, 0.4), precisions, np.full(shape, 0.5))
    found = combine(estimates, np.zeros((8, 1, 4, 2)), np.ones(1))
    np.testing.assert_allclose(found.values[0], 0.2, rtol=0.05)


def test_unknown_shifts_of_stars_do_not_enter(drawn):
    """Four stars have their estimates shifted along a direction, each by an amount of its own, and one has not."""
    _, estimates = drawn
    rng = np.random.default_rng(1)
    direction = rng.normal(size=(4, N_LINES)) * SCATTER[:, None]
    shifts = np.array([0.0, 1.0, 1.5, 0.7, 1.2])
    moved = estimates._replace(values=estimates.values + shifts[:, None, None] * direction * (estimates.precisions > 0))
    free = np.zeros((N_STARS, 1, 4, N_LINES))
    free[1:, 0] = direction

    def part(found):
        shown = found.weights > 0
        return (found.values * direction)[shown].sum() / (direction**2)[shown].sum()

    nothing = np.zeros((N_STARS, 1, 4, N_LINES)), np.ones(1)
    true = part(combine(estimates, *nothing))
    assert part(combine(moved, *nothing)) > true + 0.5
    assert part(combine(moved, free, np.array([10.0]))) == pytest.approx(true, abs=0.1)


def test_what_no_star_knows_is_taken_out():
    rng = np.random.default_rng(2)
    values, directions = rng.normal(size=(4, 50)), rng.normal(size=(2, 4, 50))
    weights, prior = rng.uniform(1, 100, size=(4, 50)), rng.uniform(1, 10, size=(4, 50))
    weights[:, :10] = 0
    left = without_shifts(values * (weights > 0), weights, prior, directions, np.ones(2))
    np.testing.assert_allclose(np.einsum("dkl,kl->d", directions, prior * left), 0, atol=1e-6)
    assert (left[:, :10] == 0).all()
    again = without_shifts(left, weights, prior, directions, np.ones(2))
    np.testing.assert_allclose(again, left, atol=1e-6)


def test_scatter_between_stars():
    rng = np.random.default_rng(5)
    values = rng.normal(scale=np.hypot(0.1, 0.05), size=(4, 500))
    precisions = np.full(values.shape, 0.05**-2)
    assert scatter_between(values, precisions, 0.3, 0.01) == pytest.approx(0.1, rel=0.1)
    # outliers hardly count
    values[0, :10] += 5.0
    assert scatter_between(values, precisions, 0.3, 0.01) == pytest.approx(0.1, rel=0.2)
    # estimates that agree better than their errors
    assert scatter_between(0.1 * values, precisions, 0.3, 0.01) == 0.01
    # one star
    assert scatter_between(values[:1], precisions[:1], 0.3, 0.01) == 0.3
