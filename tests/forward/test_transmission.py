"""Transmission in front of the line spread, against a brute-force calculation."""

import numpy as np
import pytest
from mock_star import OneSpectrum, observe

from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation
from stellarhml.forward.transmission import Transmission

RV, VSINI, POWER = 21.0, 6.0, 55_000.0


@pytest.fixture(scope="module")
def air():
    """Telluric lines of half widths from 0.6 to 3 km/s, of which some are black, on a table of 0.15 km/s."""
    wavelength = np.arange(8495.0, 8705.0, 0.004)
    rng = np.random.default_rng(1)
    depth = np.zeros(wavelength.size)
    for center, tau, gamma in zip(
        rng.uniform(8500, 8700, 120), rng.exponential(1.5, 120), rng.uniform(0.018, 0.08, 120), strict=True
    ):
        depth += tau / (1 + ((wavelength - center) / gamma) ** 2)
    return wavelength, np.exp(-depth)


def test_equals_a_brute_force_calculation(star, air):
    pixels = np.arange(8520.0, 8680.0, 0.05)
    chain = ForwardChain(OneSpectrum(*star), Observation(pixels, resolving_power=POWER), stages=[Transmission(*air)])
    (got,) = chain.flux({"teff": 0.5, "rv": RV, "vsini": VSINI})
    # by explicit convolutions on points of 0.02 km/s: finer than the star and the table by ten times and more
    expected = observe(*star, pixels, rv=RV, vsini=VSINI, resolving_power=POWER, transmission=air)
    assert np.abs(got - expected).max() < 1e-4
    # what it replaces: the star and the air blurred apart, and multiplied on the pixels of the detector
    alone = observe(*star, pixels, rv=RV, vsini=VSINI, resolving_power=POWER)
    apart = alone * observe(air[0], np.ones(air[0].size), pixels, resolving_power=POWER, transmission=air)
    assert np.abs(apart - expected).max() > 0.01


def test_tangents_pass_through_the_air(star, air):
    """The star's velocity moves the star and not the air."""
    chain = ForwardChain(
        OneSpectrum(*star),
        Observation(np.arange(8600.0, 8640.0, 0.05), resolving_power=POWER),
        stages=[Transmission(*air)],
    )
    at = {"teff": 0.5, "rv": RV, "vsini": VSINI}
    (rows,) = chain.evaluate(at)
    for name in ("rv", "vsini"):
        high, low = (chain.flux(at | {name: at[name] + sign * 0.02})[0] for sign in (1, -1))
        change = (high - low) / 0.04
        np.testing.assert_allclose(rows.tangents[name], change, rtol=0, atol=2e-3 * np.abs(change).max())


def test_what_is_no_table_is_refused():
    x = np.linspace(8500.0, 8510.0, 100)
    for table, message in (
        ((x, np.ones(99)), "shapes"),
        ((x[:5], np.ones(5)), "shapes"),
        ((x, np.where(x > 8505, np.nan, 1.0)), "not finite"),
        ((x[::-1], np.ones(100)), "do not increase"),
    ):
        with pytest.raises(ValueError, match=message):
            Transmission(*table)
