"""Laws of the black body."""

import numpy as np
import pytest
from scipy.constants import Stefan_Boltzmann
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from stellarhml.physics.blackbody import blackbody_flux

WIEN = 2.897771955e7  # displacement constant, angstrom K (CODATA 2018)


@pytest.mark.parametrize("teff", [2300.0, 5777.0, 12000.0])
def test_integral_over_wavelength_is_stefan_boltzmann(teff):
    # in ln(lambda) the integrand is a bump whose tails beyond e^-4 and e^9 of the peak hold less than 1e-9
    peak = np.log(WIEN / teff)
    total, _ = quad(
        lambda u: float(blackbody_flux(np.exp(u), teff)) * np.exp(u) * 1e-8, peak - 4, peak + 9, epsrel=1e-10, limit=200
    )
    watt = 1e-3  # erg/s/cm2 to W/m2
    assert total * watt == pytest.approx(Stefan_Boltzmann * teff**4, rel=1e-8)


@pytest.mark.parametrize("teff", [2300.0, 5777.0, 12000.0])
def test_peak_obeys_wien(teff):
    found = minimize_scalar(
        lambda u: -np.log(blackbody_flux(np.exp(u), teff)),
        bracket=(np.log(WIEN / teff) - 0.3, np.log(WIEN / teff), np.log(WIEN / teff) + 0.2),
    )
    # a maximum is found to the square root of the machine precision
    assert np.exp(found.x) * teff == pytest.approx(WIEN, rel=1e-6)


def test_long_waves_follow_rayleigh_and_jeans():
    # the next term of the series, h c / (2 lambda k T), is 1.2e-5 at 10 cm and 5800 K
    lam, teff = 1e9, 5800.0
    c, k = 2.99792458e10, 1.380649e-16
    assert blackbody_flux(lam, teff) == pytest.approx(2 * np.pi * c * k * teff / (lam * 1e-8) ** 4, rel=2e-5)


def test_temperatures_broadcast():
    lam = np.array([8000.0, 9000.0, 10000.0])
    both = blackbody_flux(lam, np.array([[4000.0], [5000.0]]))
    np.testing.assert_array_equal(both, [blackbody_flux(lam, 4000.0), blackbody_flux(lam, 5000.0)])
    assert np.all(both[1] > both[0])
