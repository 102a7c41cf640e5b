"""Fitted generators that several files look at."""

import pytest

from stellarhml import SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid


@pytest.fixture(scope="session")
def grid():
    return make_stellar_grid(random_state=0)


@pytest.fixture(scope="session")
def generator(grid):
    """Factors and residuals, as the defaults choose them."""
    return SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)


@pytest.fixture(scope="session")
def lines_alone(grid):
    """All lines, nothing else."""
    model = SpectrumGenerator(wavelength=grid.wavelength, n_factors=None, residual_rank=None)
    return model.fit(grid.labels, grid.flux)


@pytest.fixture(scope="session")
def whole_windows(grid):
    """Lines on all pixels, so that no window moves with the labels."""
    decomposer = VoigtLineDecomposer(n_rounds=0, subsample=6, wing_cut=400)
    return SpectrumGenerator(wavelength=grid.wavelength, decomposer=decomposer).fit(grid.labels, grid.flux)
