"""Macroturbulence against integrals over the disc, explicit convolutions, differences, and a mock star."""

import numpy as np
import pytest
from mock_star import STEP, C, OneSpectrum, Star, between_nodes, observe, packaged
from scipy.interpolate import CubicSpline
from scipy.signal import oaconvolve
from scipy.special import erf

from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.macroturbulence import VMAC, Macroturbulence
from stellarhml.forward.observation import Observation
from stellarhml.forward.stages import Rows

PROFILES = ("radial-tangential", "gaussian")
MOVING = {"teff": 0.5, "rv": 21.0, "vsini": 6.0}
POWERS = pytest.mark.parametrize("power", [None, 55_000.0])
profiles = pytest.mark.parametrize("profile", PROFILES)


def light_between(profile, edges):
    """Share of the light with velocities between edges (n + 1,), in units of vmac: an integral over the disc."""
    node, weight = np.polynomial.legendre.leggauss(200)
    radius = (node + 1) / 2  # on the disc, from the center to the limb
    area = weight * radius  # of rings; their sum is 1
    if profile == "gaussian":
        return np.diff(erf(edges)) / 2
    along_the_radius, along_the_surface = (
        sum(a * np.diff(erf(edges / seen)) / 2 for a, seen in zip(area, part, strict=True))
        for part in (np.sqrt(1 - radius**2), radius)
    )
    return (along_the_radius + along_the_surface) / 2


def broadened(wavelength, flux, profile, vmac):
    """A spectrum broadened by an explicit convolution on points of 0.02 km/s: their wavelengths, and the flux."""
    x = np.arange(np.log(wavelength[0]), np.log(wavelength[-1]), STEP / C)
    reach = int(5 * vmac / STEP)
    kernel = light_between(profile, (np.arange(-reach, reach + 2) - 0.5) * STEP / vmac)
    padded = np.pad(CubicSpline(np.log(wavelength), flux)(x), reach, mode="edge")
    return np.exp(x), oaconvolve(padded, kernel, mode="valid")


def chain_of(star, pixels, power, profile):
    return ForwardChain(
        OneSpectrum(*star), Observation(pixels, resolving_power=power), stages=[Macroturbulence(profile)]
    )


@profiles
def test_transform_is_that_of_the_velocities_over_the_disc(profile):
    edges = np.linspace(-5, 5, 10_001)
    light, velocity = light_between(profile, edges), (edges[1:] + edges[:-1]) / 2
    assert light.sum() == pytest.approx(1, abs=1e-11)
    # a spectrum that is one wave, of wave numbers on both sides of where the series ends
    wave = np.array([1e-3, 0.1, 0.1999, 0.2001, 1.0, 3.0, 7.0])
    expected = np.array([light @ np.cos(k * velocity) for k in wave])
    transform, slope = Macroturbulence(profile)._broadening(wave, C)  # vmac is the speed of light
    # bins of 0.001 of vmac hide (0.001 k)^2 / 24 of a wave
    np.testing.assert_allclose(transform, expected, rtol=0, atol=1e-6)
    change = np.array([-light @ (k * velocity * np.sin(k * velocity)) for k in wave])
    np.testing.assert_allclose(slope * C, change, rtol=0, atol=1e-5)


@profiles
@POWERS
@pytest.mark.parametrize("vmac", [0.5, 6.0, 40.0])
def test_equals_an_explicit_convolution(star, profile, power, vmac):
    pixels = np.arange(8520.0, 8680.0, 0.05)
    (got,) = chain_of(star, pixels, power, profile).flux(MOVING | {"vmac": vmac})
    at = {"rv": 21.0, "vsini": 6.0, "resolving_power": power}
    expected = observe(*broadened(*star, profile, vmac), pixels, **at)
    # the tolerance of the same comparison without macroturbulence; points and pixels are interpolated linearly there
    np.testing.assert_allclose(got, expected, rtol=0, atol=3e-5)
    # what it does, and that the profiles differ
    assert np.abs(got - observe(*star, pixels, **at)).max() > 5e-4
    other = next(name for name in PROFILES if name != profile)
    assert np.abs(got - chain_of(star, pixels, power, other).flux(MOVING | {"vmac": vmac})[0]).max() > 3e-4


@profiles
@POWERS
def test_tangents_equal_differences(star, profile, power):
    chain = chain_of(star, np.arange(8600.0, 8640.0, 0.05), power, profile)
    at = MOVING | {"vmac": 4.0}
    (rows,) = chain.evaluate(at)
    np.testing.assert_allclose(rows.flux, chain.flux(at)[0], rtol=0, atol=1e-13)
    for name in ("rv", "vsini", "vmac"):
        high, low = (chain.flux(at | {name: at[name] + sign * 0.02})[0] for sign in (1, -1))
        change = (high - low) / 0.04
        # differences leave out a term of (0.02 km/s over the width of a line)^2
        np.testing.assert_allclose(rows.tangents[name], change, rtol=0, atol=5e-5 * np.abs(change).max())


def test_gaussian_macroturbulence_is_the_variance_of_a_gaussian(star):
    """Its variance is half of the square of vmac; the modes of the generator's error pass through the stage too."""
    (rows,) = chain_of(star, np.arange(8600.0, 8640.0, 0.05), 55_000.0, "gaussian").evaluate(MOVING | {"vmac": 4.0})
    by_variance = rows.tangents["vmac"] * C**2 / 4.0
    np.testing.assert_allclose(rows.modes["line_variance"], by_variance, rtol=0, atol=1e-9 * np.abs(by_variance).max())


@profiles
@POWERS
def test_no_macroturbulence_changes_nothing_and_can_still_grow(star, profile, power):
    pixels = np.arange(8600.0, 8640.0, 0.05)
    chain, at = chain_of(star, pixels, power, profile), MOVING | {"vmac": 0.0}
    (plain,) = ForwardChain(OneSpectrum(*star), Observation(pixels, resolving_power=power)).flux(MOVING)
    # rotation and line spread in one transform or in two
    np.testing.assert_allclose(chain.flux(at)[0], plain, rtol=0, atol=1e-12)
    wavelength = 8500 * np.exp(1e-6 * np.arange(300.0))
    before = Rows(wavelength, np.cos(wavelength), {"teff": np.sin(wavelength)}, {"line_variance": wavelength})
    after = Macroturbulence(profile).apply(before, at)
    np.testing.assert_array_equal(after.flux, before.flux)
    np.testing.assert_array_equal(after.tangents["teff"], before.tangents["teff"])
    np.testing.assert_array_equal(after.modes["line_variance"], before.modes["line_variance"])
    # the derivative by vmac vanishes, but not that by the variable of the fit
    slope = chain.evaluate(at)[0].tangents["vmac"] * VMAC.slope(0.0)
    step = 1e-3
    change = (chain.flux(at | {"vmac": VMAC.value(step)})[0] - plain) / step
    assert np.abs(change).max() > 1e-3
    # that is taken at 0.1 km/s, and this is one-sided
    np.testing.assert_allclose(slope, change, rtol=0, atol=3e-3 * np.abs(change).max())


@profiles
def test_light_from_beyond_the_pixels_is_taken(star, profile):
    """A short order is the same as a part of a long one, and what needs light from outside the band is NaN."""
    values = MOVING | {"vmac": 30.0}
    pixels = np.arange(8560.0, 8640.0, 0.05)
    (long,), (short,) = (chain_of(star, part, 55_000.0, profile).evaluate(values) for part in (pixels, pixels[600:800]))
    # 7e-7 of the light is further away than the margin
    np.testing.assert_allclose(short.flux, long.flux[600:800], rtol=0, atol=2e-6)
    for name in ("rv", "vsini", "vmac"):
        row = long.tangents[name][600:800]
        np.testing.assert_allclose(short.tangents[name], row, rtol=0, atol=1e-4 * np.abs(row).max())
    ends = np.arange(8500.1, 8530.0, 0.05)
    known = np.isfinite(chain_of(star, ends, 55_000.0, profile).flux(values)[0])
    reach = 8500 * (1 + 21.0 / C) * (1 + (6.0 + 3.5 * 30.0 + 6 * C / 55_000 / 2.3548) / C)
    assert ends[known][0] == pytest.approx(reach, abs=0.1)


def test_what_it_cannot_convolve_is_refused():
    for wrong in ("lorentzian", None, ["gaussian"]):
        with pytest.raises(ValueError, match="needs 'radial-tangential' or 'gaussian'"):
            Macroturbulence(wrong)
    even = Rows(np.linspace(8500.0, 8600.0, 500), np.ones(500))  # in wavelength, not in its logarithm
    with pytest.raises(ValueError, match="not evenly spaced in ln wavelength"):
        Macroturbulence().apply(even, {"vmac": 3.0})
    for wrong in (-1.0, np.nan, np.inf, [3.0]):
        with pytest.raises(ValueError, match=r"`vmac` is .*; it needs one number of 0 km/s or more"):
            Macroturbulence().margin({"vmac": wrong})


@pytest.mark.slow
@profiles
def test_a_mock_star_is_found_with_its_error(regressor, profile):
    wavelength, fluxes = packaged()
    vmac, vsini, power, off = 6.0, 4.0, 60_000, []
    for seed, labels in enumerate(between_nodes()):
        model = broadened(wavelength, fluxes[tuple(labels)], profile, vmac)
        star = Star(labels=labels, model=model, vsini=vsini, power=power, seed=seed, snr=200.0)
        settings = {"resolving_power": power, "fixed": {"vsini": vsini}}
        result = regressor.infer(star.spectrum, macroturbulence=profile, **settings)
        off.append((result.values["vmac"] - vmac) / result.errors["vmac"])
        assert 0.01 < result.errors["vmac"] < 0.2
        assert result.good, result.messages
        blind = regressor.infer(star.spectrum, line_errors=False, **settings)
        assert blind.reduced_chi2 > result.reduced_chi2 + 0.2
    # six stars: none beyond 3.5 standard deviations, and a scatter that six draws of a unit normal have in 99 of 100
    assert np.abs(off).max() < 3.5
    assert 0.3 < np.sqrt(np.mean(np.square(off))) < 1.8
