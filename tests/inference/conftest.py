"""A regressor on the packaged grid, and packaged stars that it has not seen."""

import numpy as np
import pytest
from mock_star import Star

from stellarhml import BayesianStellarRegressor, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import load_mini_grid


@pytest.fixture(scope="session")
def mini_generator():
    """All nodes and every third pixel of the packaged grid, 8450 to 8700 angstrom, over the 99th percentile."""
    grid = load_mini_grid()
    flux = grid.flux[:, ::3].astype(float)
    flux /= np.percentile(flux, 99, axis=1)[:, None]
    quick = VoigtLineDecomposer(n_rounds=0, subsample=6)
    return SpectrumGenerator(wavelength=grid.wavelength[::3], decomposer=quick).fit(grid.labels, flux)


@pytest.fixture(scope="session")
def regressor(mini_generator):
    return BayesianStellarRegressor.from_generator(mini_generator)


@pytest.fixture
def make_star():
    """Make a :class:`mock_star.Star`: a packaged spectrum, by default the one at 5401 K, 4.347, -0.209."""
    return Star


@pytest.fixture
def make_model_star(mini_generator):
    """Make a Star of the generator's own spectrum at any labels, for tests in which its error must not count."""

    def make(*, labels=(5532.0, 4.4, -0.2), **settings):
        model = mini_generator.wavelength_, mini_generator.predict([labels])[0]
        return Star(labels=labels, model=model, **settings)

    return make
