"""Tellurics with amounts as parameters, against a brute-force calculation and finite differences."""

import numpy as np
import pytest
from mock_star import OneSpectrum, observe

from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation
from stellarhml.forward.tellurics import AirChain, Tellurics

C = 299_792.458
RV, VSINI, POWER = 21.0, 6.0, 55_000.0
AT = {"teff": 0.5, "rv": RV, "vsini": VSINI, "a_H2O": 1.7, "a_O2": 0.6, "rv_air": 0.4, "width_air": 1.3}


def _species(seed, n, tau, wavelength, *, shift=1.0, sigma=0.0):
    """Transmission of lines of half widths from 0.6 to 3 km/s, some black; as Voigt profiles if there is a sigma."""
    from scipy.special import voigt_profile

    rng = np.random.default_rng(seed)
    depth = np.zeros(wavelength.size)
    for center, strength, gamma in zip(
        rng.uniform(8500, 8700, n), rng.exponential(tau, n), rng.uniform(0.018, 0.08, n), strict=True
    ):
        depth += strength * np.pi * gamma * voigt_profile(wavelength - center * shift, sigma * 8600 / C, gamma)
    return np.exp(-depth)


@pytest.fixture(scope="module")
def table():
    wavelength = np.arange(8490.0, 8710.0, 0.005)
    return wavelength, {"H2O": _species(1, 100, 0.8, wavelength), "O2": _species(2, 30, 0.8, wavelength)}


def test_equals_a_brute_force_calculation(star, table):
    """Amounts multiply optical depths, and the air moves with its own velocity and that of the frame."""
    wavelength, air = table
    pixels = np.arange(8520.0, 8680.0, 0.05)
    stage = Tellurics(wavelength, air, velocity=-12.0)
    chain = ForwardChain(OneSpectrum(*star), Observation(pixels, resolving_power=POWER), stages=[stage])
    (got,) = chain.flux(AT)
    whole = air["H2O"] ** 1.7 * air["O2"] ** 0.6
    moved = wavelength * (1 - 12.0 / C) * (1 + 0.4 / C)
    expected = observe(*star, pixels, rv=RV, vsini=VSINI, resolving_power=POWER, transmission=(moved, whole))
    assert np.abs(got - expected).max() < 1e-4


def test_the_extra_width_is_that_of_the_optical_depth(star, table):
    pixels = np.arange(8520.0, 8680.0, 0.05)
    stage = Tellurics(*table, width=True)
    chain = ForwardChain(OneSpectrum(*star), Observation(pixels, resolving_power=POWER), stages=[stage])
    (got,) = chain.flux(AT)
    wavelength = table[0]
    wide = [_species(seed, n, 0.8, wavelength, shift=1 + 0.4 / C, sigma=1.3) for seed, n in ((1, 100), (2, 30))]
    expected = observe(
        *star,
        pixels,
        rv=RV,
        vsini=VSINI,
        resolving_power=POWER,
        transmission=(wavelength, wide[0] ** 1.7 * wide[1] ** 0.6),
    )
    # a width in km/s is not one in angstrom, and lines reach beyond the floor of the table where they are black
    assert np.abs(got - expected).max() < 1e-3
    (narrow,) = chain.flux(AT | {"width_air": 0.0})
    assert np.abs(narrow - expected).max() > 0.02


@pytest.mark.parametrize(
    ("name", "step"), [("a_H2O", 1e-3), ("a_O2", 1e-3), ("rv_air", 0.01), ("width_air", 0.01), ("rv", 0.02)]
)
def test_derivatives_equal_finite_differences(star, table, name, step):
    observation = Observation(np.arange(8600.0, 8640.0, 0.05), resolving_power=POWER)
    chain = ForwardChain(OneSpectrum(*star), observation, stages=[Tellurics(*table, width=True, velocity=5.0)])
    (rows,) = chain.evaluate(AT)
    high, low = (chain.flux(AT | {name: AT[name] + sign * step})[0] for sign in (1, -1))
    change = (high - low) / (2 * step)
    # of the rotation's own finite differences for rv, see test_transmission
    tolerance = 2e-3 if name == "rv" else 1e-4
    np.testing.assert_allclose(rows.tangents[name], change, rtol=0, atol=tolerance * np.abs(change).max())
    assert np.abs(change).max() > 0.01


def test_the_air_alone_is_that_of_featureless_light(table):
    pixels = np.arange(8520.0, 8680.0, 0.05)
    observation = Observation(pixels, resolving_power=POWER)
    flat = np.linspace(8480, 8720, 120_000)
    values = {name: AT[name] for name in ("a_H2O", "a_O2", "rv_air")}
    air = AirChain(Tellurics(*table), observation)
    (got,) = air.flux(values)
    chain = ForwardChain(OneSpectrum(flat, np.ones(flat.size)), observation, stages=[Tellurics(*table)])
    (expected,) = chain.flux(values | {"teff": 0.5, "rv": 0.0, "vsini": 0.0})
    np.testing.assert_allclose(got, expected, atol=1e-4)
    (part,) = air.part([(0, slice(100, 300))]).flux(values)
    np.testing.assert_allclose(part, got[100:300], atol=1e-5)


def test_unknown_transmission_is_not_covered(table):
    wavelength, air = table
    gap = (wavelength > 8600) & (wavelength < 8601)
    stage = Tellurics(wavelength, {"H2O": np.where(gap, np.nan, air["H2O"])}, velocity=30.0)
    at = np.array([8489.0, 8550.0, 8600.5, 8601.8]) * (1 + 30.0 / C)
    assert stage.covers(at).tolist() == [False, True, False, True]
    assert stage.moved(0.0).covers(np.array([8489.5, 8490.5, 8600.7])).tolist() == [False, True, False]


def test_derivatives_of_single_lines_pass_through_the_air(table):
    """A stronger line behind a black telluric line changes nothing."""
    from stellarhml import SpectrumGenerator
    from stellarhml.datasets import make_stellar_grid

    grid = make_stellar_grid(random_state=0)
    generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    pixels = grid.wavelength[30:-30]
    center = generator.decomposer_.line_catalog_[len(generator.decomposer_.line_catalog_) // 2]
    fine = np.arange(grid.wavelength[0] - 1, grid.wavelength[-1] + 1, 0.005)
    black = np.exp(-20 * np.exp(-0.5 * ((fine - center) / 0.15) ** 2))
    observation = Observation(pixels, resolving_power=POWER)
    values = dict(zip(generator.label_names_, grid.labels.mean(axis=0), strict=True)) | {"rv": 0.0, "vsini": 2.0}
    values |= {"a_air": 1.0, "rv_air": 0.0}
    every = np.ones(len(generator.decomposer_.line_catalog_), dtype=bool)
    clear, dark = (
        ForwardChain(generator, observation, stages=stages).line_columns(values, every)[0]
        for stages in ((), (Tellurics(fine, black),))
    )
    near = np.abs(pixels[clear.pixels()] - center) < 0.1
    assert np.abs(dark.table[near]).max() < 0.05 * np.abs(clear.table[near]).max()
    far = np.abs(pixels[clear.pixels()] - center) > 3
    np.testing.assert_allclose(dark.table[far], clear.table[far], atol=0.01 * np.abs(clear.table).max())


def test_what_is_no_table_is_refused(table):
    wavelength, air = table
    for transmissions, message in (
        ({}, "empty"),
        ({"H2O": air["H2O"][:-1]}, "shapes"),
        (air["H2O"] * 100, "values from"),
    ):
        with pytest.raises(ValueError, match=message):
            Tellurics(wavelength, transmissions)
