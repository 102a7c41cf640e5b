"""Line profiles directly from their equations, the reference for tests of the kernels.

No code is shared with `stellarhml.kernels`, on purpose.
"""

import numpy as np
from scipy.special import voigt_profile


def gaussian(x: np.ndarray, fwhm: float) -> np.ndarray:
    """Gaussian of unit area and full width `fwhm`, all lengths in angstrom."""
    sigma = fwhm / np.sqrt(8 * np.log(2))
    return np.exp(-(x**2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2)


def lorentzian(x: np.ndarray, fwhm: float) -> np.ndarray:
    """Lorentzian of unit area and full width `fwhm`, all lengths in angstrom."""
    return fwhm / (2 * np.pi) / (x**2 + fwhm**2 / 4)


def voigt(x: np.ndarray, sigma: float, gamma: float) -> np.ndarray:
    """Exact Voigt profile of unit area: Gauss standard deviation and Lorentz half width, in angstrom."""
    return voigt_profile(x, sigma, gamma)


def pseudo_voigt(x: np.ndarray, sigma: float, gamma: float) -> np.ndarray:
    """Evaluate Eq. 2 of the paper at unit area; `sigma` and the half width `gamma` in angstrom."""
    g, lo = np.sqrt(8 * np.log(2)) * sigma, 2 * gamma
    powers = [1, 2.69269, 2.42843, 4.47163, 0.07842, 1]
    f = sum(c * g ** (5 - k) * lo**k for k, c in enumerate(powers)) ** (1 / 5)
    eta = np.polyval([0.11116, -0.47719, 1.36603, 0], lo / f)
    return eta * lorentzian(x, f) + (1 - eta) * gaussian(x, f)


def spectrum(wavelength: np.ndarray, lines: np.ndarray, shape=pseudo_voigt) -> np.ndarray:
    """Product of 1 - a V over lines (center, a, sigma, gamma), every line on every pixel, V clamped as in blase."""
    flux = np.ones(len(wavelength))
    for center, area, sigma, gamma in lines:
        flux *= 1 - np.clip(area * shape(wavelength - center, sigma, gamma), 0, 1 - 1e-9)
    return flux
