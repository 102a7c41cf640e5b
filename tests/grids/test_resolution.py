"""Spectra broadened for one spectrograph, against quadrature, and where they must be refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.grids.resolution import PIXELS_PER_FWHM, Broadening
from stellarhml.kernels.fourier_broadening import resample_rows
from stellarhml.physics.broadening import broaden_quadrature, line_spread_sigma

STEP = 0.01
WAVELENGTH = 8500 + STEP * np.arange(4000)


def lines(x):
    """Two lines, of sigma 0.03 and 0.05 angstrom and a third of a pixel off the pixels; `x` in ln angstrom."""
    wavelength = np.exp(x)
    return 1 - sum(
        depth * np.exp(-0.5 * ((wavelength - center) / sigma) ** 2)
        for depth, center, sigma in ((0.6, 8519.9933, 0.03), (0.4, 8520.4033, 0.05))
    )


def source(wavelength=WAVELENGTH, power=None):
    return SimpleNamespace(wavelength=wavelength, resolving_power=power, origin="the grid")


@pytest.mark.parametrize("power", [20_000, 60_000])
def test_equals_quadrature(power):
    broadening = Broadening(source(), (8515, 8525), power)
    flux = broadening.apply(lines(np.log(WAVELENGTH[broadening.pixels])))
    x = np.log(broadening.wavelength)
    expected = broaden_quadrature(
        lines, x, vsini_c=0, limb_darkening=0, sigma=line_spread_sigma(power), step=0.01 / 8520
    )
    # interpolation of the narrower line, of three pixels to its sigma, by eight points
    np.testing.assert_allclose(flux, expected, atol=3e-5)
    assert broadening.wavelength[0] >= 8515
    assert broadening.wavelength[-1] <= 8525
    np.testing.assert_allclose(np.diff(x), 1 / (power * PIXELS_PER_FWHM))
    assert broadening.binning == pytest.approx(8520 / (power * PIXELS_PER_FWHM) / STEP, rel=0.02)


def test_pixels_are_close_enough_to_interpolate():
    broadening = Broadening(source(), (8515, 8525), 30_000)
    flux = broadening.apply(lines(np.log(WAVELENGTH[broadening.pixels])))
    at = np.arange(8518.0, 8522.0, 0.0037)
    between = resample_rows(broadening.wavelength, flux[None], at)[0]
    expected = broaden_quadrature(
        lines, np.log(at), vsini_c=0, limb_darkening=0, sigma=line_spread_sigma(30_000), step=0.01 / 8520
    )
    np.testing.assert_allclose(between, expected, atol=5e-5)


def test_two_steps_equal_one():
    fine = Broadening(source(), (8510, 8530), 60_000)
    once = fine.apply(lines(np.log(WAVELENGTH[fine.pixels])))
    again = Broadening(source(fine.wavelength, 60_000), (8516, 8524), 25_000)
    direct = Broadening(source(), (8516, 8524), 25_000)
    np.testing.assert_allclose(again.wavelength, direct.wavelength)
    np.testing.assert_allclose(
        again.apply(once[again.pixels]), direct.apply(lines(np.log(WAVELENGTH[direct.pixels]))), atol=5e-5
    )


def test_own_wavelengths_give_the_same_pixels():
    broadening = Broadening(source(), (8515, 8525), 30_000)
    axis = np.exp(np.arange(np.log(8505), np.log(8535), 0.9e-6))
    flux = broadening.apply(lines(np.log(WAVELENGTH[broadening.pixels])))
    np.testing.assert_allclose(broadening.apply(lines(np.log(axis)), axis, "other.fits"), flux, atol=3e-5)
    with pytest.raises(ValueError, match=r"other\.fits has wavelengths from 8516\.00 .* needed.*Choose a range"):
        broadening.apply(lines(np.log(axis)), axis + (8516 - axis[0]), "other.fits")


def test_ends_that_receive_light_from_outside_are_left_out():
    broadening = Broadening(source(), None, 20_000)
    reach = 6 * line_spread_sigma(20_000) * 8500
    assert broadening.wavelength[0] - WAVELENGTH[0] == pytest.approx(reach, abs=0.1)
    assert WAVELENGTH[-1] - broadening.wavelength[-1] == pytest.approx(reach, abs=0.1)


@pytest.mark.parametrize("power", [0, -5, 1, np.nan, np.inf, "sharp", [2e4, 3e4]])
def test_no_resolving_power(power):
    with pytest.raises(ValueError, match=r"`resolving_power` is .* one finite number over 1"):
        Broadening(source(), None, power)


def test_refused():
    with pytest.raises(ValueError, match=r"`resolving_power` is 20000, but the spectra of the grid have 10000 only"):
        Broadening(source(power=10_000.0), None, 20_000)
    with pytest.raises(ValueError, match=r"has pixels of up to 1/\d+ of the wavelength.* Choose at most 4\d\d\d\d\d"):
        Broadening(source(), None, 600_000)
    with pytest.raises(WavelengthCoverageError, match=r"Choose a wider range"):
        Broadening(source(), (8515, 8515.2), 20_000)
