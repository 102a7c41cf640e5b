"""Rotation and line spread by quadrature: laws."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erf

from stellarhml.physics.broadening import (
    broaden_quadrature,
    line_spread_sigma,
    observe_quadrature,
    rotation_profile,
)
from stellarhml.physics.wavelength import SPEED_OF_LIGHT


@pytest.mark.parametrize("limb_darkening", [0.0, 0.6, 1.0])
def test_profile_of_rotation_keeps_the_light(limb_darkening):
    total, _ = quad(lambda v: rotation_profile(v, 20.0, limb_darkening), -20, 20)
    assert total == pytest.approx(1, abs=1e-7)
    assert rotation_profile(np.array([-20.1, 20.1]), 20.0, limb_darkening) == pytest.approx([0, 0])


def test_profile_of_rotation_is_the_light_of_a_disk():
    """Chords of a limb-darkened disk, summed up over its surface."""
    x = (np.arange(4000) + 0.5) / 2000 - 1
    radius2 = x[:, None] ** 2 + x[None, :2000] ** 2  # one half of each chord
    light = np.where(radius2 < 1, 1 - 0.6 + 0.6 * np.sqrt(np.clip(1 - radius2, 0, None)), 0).sum(axis=1)
    light /= light.sum() * (x[1] - x[0]) * 30.0
    np.testing.assert_allclose(light[5:-5], rotation_profile(30.0 * x, 30.0, 0.6)[5:-5], rtol=0, atol=2e-5)


def test_resolving_power_is_of_the_full_width_at_half_maximum():
    sigma = line_spread_sigma(50000.0)
    assert np.exp(-0.5 * (0.5 / 50000.0 / sigma) ** 2) == pytest.approx(0.5)


def test_gaussian_line_stays_gaussian():
    width, sigma = 3 / SPEED_OF_LIGHT, 4 / SPEED_OF_LIGHT
    x = np.linspace(-5e-5, 5e-5, 11)
    got = broaden_quadrature(
        lambda at: np.exp(-0.5 * (at / width) ** 2), x, vsini_c=0.0, limb_darkening=0.6, sigma=sigma, step=width / 3
    )
    both = np.hypot(width, sigma)
    np.testing.assert_allclose(got, width / both * np.exp(-0.5 * (x / both) ** 2), rtol=0, atol=1e-12)


def test_pixels_are_means_over_wavelength():
    width = 1e-4
    edges = 9000 * np.exp(np.linspace(-3e-4, 3e-4, 7))
    got = observe_quadrature(
        lambda x: np.exp(-0.5 * ((x - np.log(9000)) / width) ** 2) / np.exp(x),
        edges,
        step=width / 3,
        vsini_c=0.0,
        limb_darkening=0.6,
        sigma=0.0,
    )
    whole = np.sqrt(np.pi / 2) * width * np.diff(erf(np.log(edges / 9000) / width / np.sqrt(2)))
    np.testing.assert_allclose(got, whole / np.diff(edges), rtol=1e-10)
