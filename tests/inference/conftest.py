"""A small fitted regressor on part of the packaged grid, and stars to observe with it."""

import numpy as np
import pytest

from stellarhml import BayesianStellarRegressor, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import load_mini_grid


@pytest.fixture(scope="session")
def mini_generator():
    """Every second Teff and every third pixel of the packaged grid, 8450 to 8700 angstrom, over its 99th percentile."""
    grid = load_mini_grid()
    kept = grid.labels[:, 0] % 200 == 0
    flux = grid.flux[kept, ::3].astype(float)
    flux /= np.percentile(flux, 99, axis=1)[:, None]
    quick = VoigtLineDecomposer(n_rounds=0, subsample=6)
    return SpectrumGenerator(wavelength=grid.wavelength[::3], decomposer=quick).fit(grid.labels[kept], flux)


@pytest.fixture(scope="session")
def regressor(mini_generator):
    return BayesianStellarRegressor.from_generator(mini_generator)


class Star:
    """A star as a spectrograph sees it: two orders with throughput and noise."""

    labels, rv, vsini, power = np.array([5532.0, 4.4, -0.2]), 33.0, 9.0, 40_000
    names = ("teff", "logg", "feh", "rv", "vsini")

    def __init__(self, generator, *, snr=100.0, seed=0, **changes):
        self.__dict__.update(changes)
        self.wavelength = [np.arange(8456.0, 8575.0, 0.08), np.arange(8570.0, 8694.0, 0.1)]
        flux = generator.observe(
            self.labels[None], self.wavelength, resolving_power=self.power, rv=self.rv, vsini=self.vsini
        )
        rng = np.random.default_rng(seed)
        self.flux, self.error = [], []
        for k, (x, (row,)) in enumerate(zip(self.wavelength, flux, strict=True)):
            t = np.linspace(-1, 1, len(x))
            level = (300 + 100 * k) * (1 - 0.3 * t**2 + 0.05 * t)
            self.error.append(level / snr)
            self.flux.append(level * row + rng.normal(size=len(x)) * level / snr)

    @property
    def spectrum(self):
        return self.wavelength, self.flux, self.error

    @property
    def truth(self):
        return np.array([*self.labels, self.rv, self.vsini])

    def off(self, result):
        """Errors of a result in its own standard deviations."""
        return np.array(
            [
                (result.values[name] - true) / result.errors[name]
                for name, true in zip(self.names, self.truth, strict=True)
            ]
        )


@pytest.fixture
def make_star(mini_generator):
    def make(**settings):
        return Star(mini_generator, **settings)

    return make
