"""Labels on grids with holes, and among scattered nodes."""

import warnings

import numpy as np
import pytest

from stellarhml import BayesianStellarRegressor, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid
from stellarhml.exceptions import InferenceWarning

SPAN = np.array([750.0, 1.0, 0.5])
QUICK = VoigtLineDecomposer(n_rounds=0, subsample=6)  # for tests that do not ask how well lines were learnt


@pytest.fixture(scope="module")
def grid():
    return make_stellar_grid(random_state=0)


@pytest.mark.parametrize("search", ["nodes", "bayes"])
def test_a_grid_without_one_corner_can_be_searched(grid, search):
    # PHOENIX itself lacks corners: hot stars of low gravity
    keep = ~(grid.labels == [5000.0, 3.5, -0.5]).all(axis=1)
    regressor = BayesianStellarRegressor(
        generator=SpectrumGenerator(wavelength=grid.wavelength, decomposer=QUICK),
        search=search,
        n_initial_points=8,
        n_calls=9,
        random_state=0,
    ).fit(grid.flux[keep], grid.labels[keep])
    with pytest.warns(InferenceWarning):
        regressor.predict(grid.flux[[0]])


def test_scattered_nodes_can_be_searched(grid):
    jitter = np.random.default_rng(2).uniform(-40, 40, len(grid.labels))
    labels = grid.labels + np.stack([jitter, jitter / 1000, jitter / 1000], axis=1)
    regressor = BayesianStellarRegressor(
        generator=SpectrumGenerator(wavelength=grid.wavelength, decomposer=QUICK),
        n_initial_points=8,
        n_calls=9,
        random_state=0,
    ).fit(grid.flux, labels)
    with warnings.catch_warnings():
        # the spectrum is that of a node, where linear interpolation has a kink: no gradient goes to zero there
        warnings.simplefilter("ignore", InferenceWarning)
        got = regressor.predict(grid.flux[[9]])
    np.testing.assert_allclose((got - labels[[9]]) / SPAN, 0, atol=0.05)
