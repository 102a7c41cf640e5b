"""What the tests of stages share."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def star():
    """A spectrum of narrow, deep lines on 20,001 pixels of 0.35 km/s."""
    wavelength = 8500 * np.exp(0.35 / 299_792.458 * np.arange(20_001))
    rng = np.random.default_rng(0)
    flux = np.ones(wavelength.size)
    for center, depth, sigma in zip(
        rng.uniform(8505, 8695, 150), rng.uniform(0.1, 0.9, 150), rng.uniform(0.04, 0.2, 150), strict=True
    ):
        flux *= 1 - depth * np.exp(-0.5 * ((wavelength - center) / sigma) ** 2)
    return wavelength, flux
