r"""Flux of a black body per wavelength.

.. math:: \pi B_\lambda = \frac{2 \pi h c^2}{\lambda^5 (e^{hc/\lambda kT} - 1)}
"""

import numpy as np

_FIRST = 2 * np.pi * 6.62607015e-27 * 2.99792458e10**2  # 2 pi h c^2 in erg cm^2 / s (SI 2019, cgs)
_SECOND = 6.62607015e-27 * 2.99792458e10 / 1.380649e-16  # h c / k in cm K


def blackbody_flux(wavelength: np.ndarray, teff: float | np.ndarray) -> np.ndarray:
    """Surface flux pi B_lambda of a black body, in erg/s/cm2/cm, the unit of PHOENIX files.

    `wavelength` is vacuum angstrom, `teff`, which broadcasts with it, is in K; both are positive.
    """
    cm = np.asarray(wavelength, dtype=np.float64) * 1e-8
    return _FIRST / cm**5 / np.expm1(_SECOND / (cm * np.asarray(teff, dtype=np.float64)))


def blackbody_slope(wavelength: np.ndarray, teff: float | np.ndarray) -> np.ndarray:
    """Derivative of ln of `blackbody_flux` by `teff`, per K; arguments as there."""
    ratio = _SECOND / (np.asarray(wavelength, dtype=np.float64) * 1e-8 * np.asarray(teff, dtype=np.float64))
    return ratio / teff / -np.expm1(-ratio)
