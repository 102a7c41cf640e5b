"""Packaged stars that the regressor on the packaged grid has not seen."""

import pytest
from mock_star import Star


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
