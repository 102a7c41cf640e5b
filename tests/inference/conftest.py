"""A regressor on the packaged grid, and packaged stars that it has not seen."""

import pytest
from mock_star import Star

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid


@pytest.fixture(scope="session")
def mini_generator():
    """All nodes and every third pixel of the packaged grid, 8450 to 8700 angstrom."""
    grid = load_mini_grid()
    scale = PhoenixPreprocessor(degree=2, peak_distance=1667)
    generator = SpectrumGenerator(wavelength=grid.wavelength[::3], preprocessor=scale)
    return generator.fit(grid.labels, grid.flux[:, ::3])


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
