r"""Wavelength scales: air and vacuum, Doppler shift.

Air and vacuum differ by the refractive index of standard air, :math:`\lambda_{vac} = n\,\lambda_{air}` with

.. math::
    n - 1 = \frac{0.05792105}{238.0185 - s^2} + \frac{0.00167917}{57.362 - s^2}, \quad s = 10^4 / \lambda_{vac}

(Ciddor 1996, Eq. 1, standard air of 15 C, 101325 Pa, 450 ppm CO2; valid from 2300 angstrom to 1.7 micron).

References
----------
.. [1] Ciddor, P. E. (1996), "Refractive index of air", Applied Optics 35, 1566. doi:10.1364/AO.35.001566
"""

import numpy as np

SPEED_OF_LIGHT = 299792.458  # km/s, exact (SI)


def vacuum_to_air(wavelength: np.ndarray) -> np.ndarray:
    """Convert vacuum wavelengths to standard air, in angstrom.

    ValueError below 2000 angstrom, where spectra are given in vacuum.
    """
    wavelength = _checked(wavelength)
    return wavelength / _refractive_index(wavelength)


def air_to_vacuum(wavelength: np.ndarray) -> np.ndarray:
    """Convert standard-air wavelengths to vacuum, in angstrom; ValueError below 2000 angstrom."""
    wavelength = _checked(wavelength)
    vacuum = wavelength
    for _ in range(4):  # the index changes by 1e-8 a step: three steps reach machine precision
        vacuum = wavelength * _refractive_index(vacuum)
    return vacuum


def refraction(wavelength: np.ndarray) -> np.ndarray:
    """Refractive index of standard air, minus one, at vacuum wavelengths [angstrom]."""
    return wavelength / vacuum_to_air(wavelength) - 1


def doppler_shift(wavelength: np.ndarray, rv: float) -> np.ndarray:
    """Shift wavelengths by a radial velocity [km/s, positive away from the observer], lambda (1 + rv / c).

    Shifts by rv and by -rv undo each other to first order in rv / c.
    """
    return np.asarray(wavelength, dtype=np.float64) * (1 + rv / SPEED_OF_LIGHT)


def _checked(wavelength):
    wavelength = np.asarray(wavelength, dtype=np.float64)
    if wavelength.size and wavelength.min() < 2000:
        raise ValueError(
            f"Air wavelengths are defined from 2000 angstrom on, but the smallest here is {wavelength.min():.4g}. "
            "Give wavelengths in angstrom; below 2000 angstrom spectra are in vacuum already."
        )
    return wavelength


def _refractive_index(vacuum):
    s2 = (1e4 / vacuum) ** 2
    return 1 + 0.05792105 / (238.0185 - s2) + 0.00167917 / (57.362 - s2)
