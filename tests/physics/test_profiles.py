"""Line profiles: areas, widths, and the limits between which they mix."""

import numpy as np
import pytest
from scipy.integrate import quad

from stellarhml.physics import profiles

X = np.linspace(-3.0, 3.0, 601)  # angstrom


@pytest.mark.parametrize("shape", [profiles.gaussian, profiles.lorentzian])
def test_full_width_at_half_maximum(shape):
    fwhm = 0.37
    np.testing.assert_allclose(
        shape(np.array([fwhm / 2, -fwhm / 2]), fwhm), shape(np.zeros(1), fwhm)[0] / 2, rtol=1e-14
    )


@pytest.mark.parametrize(
    "profile",
    [
        lambda x: profiles.gaussian(x, 0.3),
        lambda x: profiles.lorentzian(x, 0.3),
        lambda x: profiles.voigt(x, 0.1, 0.07),
        lambda x: profiles.pseudo_voigt(x, 0.1, 0.07),
    ],
    ids=["gaussian", "lorentzian", "voigt", "pseudo-voigt"],
)
def test_unit_area(profile):
    area = 2 * (quad(profile, 0, 1)[0] + quad(profile, 1, np.inf)[0])
    assert area == pytest.approx(1, rel=1e-7)  # quad's own tolerance is 1.5e-8


def test_pure_gauss_limit():
    # the Lorentz share of gamma = 1e-12 sigma is 1e-12; at three sigma and more its wings are what is left: absolute
    got = profiles.pseudo_voigt(X, 0.2, 2e-13)
    np.testing.assert_allclose(got, profiles.gaussian(X, 0.2 * np.sqrt(8 * np.log(2))), atol=1e-11)


def test_pure_lorentz_limit():
    # eta(1) = 1.36603 - 0.47719 + 0.11116 = 1 exactly, f = f_L
    got = profiles.pseudo_voigt(X, 2e-13, 0.2)
    np.testing.assert_allclose(got, profiles.lorentzian(X, 0.4), rtol=1e-10)


@pytest.mark.parametrize("ratio", np.logspace(-3, 3, 13))
def test_close_to_the_exact_profile(ratio):
    # Ida et al. (2000) give 1.2 % of the peak for this approximation; measured: 0.22 % at the center, 1.27 % on flanks
    sigma, gamma = 0.1, 0.1 * ratio
    x = np.linspace(-10, 10, 2001) * (sigma + gamma)
    exact = profiles.voigt(x, sigma, gamma)
    error = np.abs(profiles.pseudo_voigt(x, sigma, gamma) - exact) / exact.max()
    assert error[1000] < 0.0025
    assert error.max() < 0.013


def test_spectrum_is_a_product_of_its_lines():
    lam = 8500 + np.linspace(0, 4, 81)
    lines = np.array([[8501.0, 0.05, 0.1, 0.02], [8501.2, 0.1, 0.15, 0.05]])
    alone = [profiles.spectrum(lam, lines[i : i + 1]) for i in range(2)]
    np.testing.assert_allclose(profiles.spectrum(lam, lines), alone[0] * alone[1], rtol=1e-15)
    np.testing.assert_allclose(alone[0], 1 - 0.05 * profiles.pseudo_voigt(lam - 8501.0, 0.1, 0.02), rtol=1e-15)


def test_a_line_cannot_absorb_more_than_all():
    deep = profiles.spectrum(np.array([8500.0]), np.array([[8500.0, 50.0, 0.1, 0.1]]))
    np.testing.assert_allclose(deep, [1e-9], rtol=1e-6)  # blase's clamp; 1 - (1 - 1e-9) rounds to 1e-9 within 1e-7
