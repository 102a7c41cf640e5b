"""The fast path of an observation against quadrature."""

import numpy as np
import pytest
from scipy.integrate import quad

from stellarhml.kernels.fourier_broadening import broaden_rows, observe_rows, rotation_transform
from stellarhml.physics.broadening import broaden_quadrature, line_spread_sigma, observe_quadrature, rotation_profile
from stellarhml.physics.wavelength import SPEED_OF_LIGHT

# PHOENIX's own wavelengths: the step doubles at 10000 angstrom
WAVELENGTH = np.concatenate([9980 + 0.01 * np.arange(2000), 10000 + 0.02 * np.arange(1001)])
EDGES = 9999.4 + 0.065 * np.arange(21)
LINES = [(9999.5, 0.7, 1.5), (9999.9, 0.4, 1.3), (10000.02, 0.8, 2.0), (10000.3, 0.5, 1.4), (10000.6, 0.3, 4.0)]


def _spectrum(x):
    flux = np.ones_like(x)
    for center, depth, width in LINES:
        flux *= 1 - depth * np.exp(-0.5 * ((x - np.log(center)) * SPEED_OF_LIGHT / width) ** 2)
    return flux


def _observe(rv=0.0, vsini=0.0, power=None, limb_darkening=0.6, derivatives=False, edges=EDGES):
    return observe_rows(
        WAVELENGTH,
        _spectrum(np.log(WAVELENGTH))[None],
        edges / (1 + rv / SPEED_OF_LIGHT),
        vsini=vsini / SPEED_OF_LIGHT,
        limb_darkening=limb_darkening,
        sigma=None if power is None else line_spread_sigma(power),
        derivatives=derivatives,
    )


@pytest.mark.parametrize(
    ("vsini", "power", "rv", "tol"),
    [
        (0, None, 0, 1e-5),
        (0, 1e5, 0, 2e-6),
        (0, 55000, 12, 1e-6),
        (0, 1e4, 0, 1e-6),
        (3, None, -7, 2e-6),
        (5, 1e5, 3, 1e-6),
        (150, None, 0, 1e-6),
        (40, 2e4, -12, 1e-6),
    ],
)
def test_equals_quadrature_across_a_change_of_sampling(vsini, power, rv, tol):
    expected = observe_quadrature(
        _spectrum,
        EDGES,
        ratio=1 + rv / SPEED_OF_LIGHT,
        step=1 / SPEED_OF_LIGHT,
        vsini_c=vsini / SPEED_OF_LIGHT,
        limb_darkening=0.6,
        sigma=0.0 if power is None else line_spread_sigma(power),
        pixel_nodes=12 if power or vsini > 10 else 24,
    )
    np.testing.assert_allclose(_observe(rv, vsini, power)[0], expected, rtol=0, atol=tol)


def test_table_of_resolving_powers_is_the_width_at_each_point():
    power, ratio = np.linspace(40000, 80000, len(EDGES) - 1), 1 + 2.0 / SPEED_OF_LIGHT
    got = _observe(2.0, 4.0, power)[0]
    node, weight = np.polynomial.legendre.leggauss(10)
    center = (EDGES[1:] + EDGES[:-1]) / 2
    for i in (3, 8, 15):
        x = np.log((center[i] + node * 0.0325) / ratio)
        sigma = np.interp(x, np.log(center / ratio), line_spread_sigma(power))
        star = {"vsini_c": 4.0 / SPEED_OF_LIGHT, "limb_darkening": 0.6, "step": 1 / SPEED_OF_LIGHT}
        points = [broaden_quadrature(_spectrum, at, sigma=width, **star) for at, width in zip(x, sigma, strict=True)]
        assert got[i] == pytest.approx(weight @ points / 2, abs=2e-6)
    np.testing.assert_allclose(_observe(2.0, 4.0, np.full(20, 5e4)), _observe(2.0, 4.0, 5e4), rtol=0, atol=1e-12)


@pytest.mark.parametrize("power", [None, 5e4, np.linspace(50000, 52000, len(EDGES) - 1)], ids=["none", "one", "table"])
@pytest.mark.parametrize("vsini", [0.5, 20.0])
def test_derivatives_equal_differences(power, vsini):
    def difference(step, **changed):
        high, low = ({name: value + sign * step for name, value in changed.items()} for sign in (1, -1))
        star = {"rv": 3.0, "vsini": vsini}
        return (_observe(power=power, **star | high)[0] - _observe(power=power, **star | low)[0]) / (2 * step)

    got = _observe(3.0, vsini, power, derivatives=True)
    expected = [difference(0.02, rv=3.0) * (SPEED_OF_LIGHT + 3.0), difference(0.02, vsini=vsini) * SPEED_OF_LIGHT]
    if power is None:
        expected.append(np.zeros(len(EDGES) - 1))
    else:
        up, down = (_observe(3.0, vsini, power * np.exp(sign * 1e-3))[0] for sign in (1, -1))
        expected.append((up - down) / 2e-3)
    np.testing.assert_array_equal(got[0], _observe(3.0, vsini, power)[0])
    for row, wanted in zip(got[1:], expected, strict=True):
        np.testing.assert_allclose(row, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max() + 1e-12)


def test_small_widths_go_over_into_none():
    sharp = _observe()[0]
    for vsini in (1e-8, 1e-3):
        np.testing.assert_allclose(_observe(vsini=vsini)[0], sharp, rtol=0, atol=1e-6)
    np.testing.assert_allclose(_observe(power=1e9)[0], sharp, rtol=0, atol=1e-8)
    assert np.abs(_observe(derivatives=True)[2]).max() == 0  # even in vsini


def test_rows_are_treated_alike_and_a_constant_stays():
    flux = _spectrum(np.log(WAVELENGTH))
    options = {"vsini": 1e-4, "sigma": 1e-5}
    got = observe_rows(WAVELENGTH, np.stack([flux, np.ones_like(flux), 2 * flux - 3]), EDGES, **options)
    np.testing.assert_allclose(got[1], 1, rtol=0, atol=1e-9)
    np.testing.assert_allclose(got[2], 2 * got[0] - 3, rtol=0, atol=1e-9)
    np.testing.assert_allclose(got[:1], observe_rows(WAVELENGTH, flux[None], EDGES, **options), rtol=0, atol=1e-13)


@pytest.mark.parametrize("limb_darkening", [0.0, 0.6, 1.0])
def test_transform_of_rotation_is_that_of_the_profile(limb_darkening):
    q = np.array([0.0, 1e-3, 0.1, 0.2999, 0.3001, 1.0, 5.0, 17.0])
    transform, slope = rotation_transform(q, limb_darkening)
    for value, got, change in zip(q, transform, slope, strict=True):

        def light(angle, value=value):
            return np.cos(angle) * rotation_profile(np.sin(angle), 1.0, limb_darkening), value * np.sin(angle)

        expected = quad(lambda a: light(a)[0] * np.cos(light(a)[1]), -np.pi / 2, np.pi / 2, epsabs=1e-13)[0]
        by_q = quad(lambda a: -light(a)[0] * np.sin(a) * np.sin(light(a)[1]), -np.pi / 2, np.pi / 2, epsabs=1e-13)[0]
        assert got == pytest.approx(expected, abs=1e-10)
        assert change == pytest.approx(by_q, abs=1e-10)


def test_rows_whose_ends_differ_are_convolved_as_if_they_had_none():
    """A Gaussian line on a slope and another Gaussian: variances add; an odd number of points, 0.1 apart."""
    x = 0.1 * np.arange(401)

    def line(variance):
        return np.exp(-0.5 * (x - 20) ** 2 / variance) / np.sqrt(variance)

    rows, middle = np.stack([line(0.2), 1 - line(0.2) + x / 40]), slice(100, -100)
    got = broaden_rows(rows, 0.1, lambda k: np.exp(-(k**2) * 0.01 / 2))[:, middle]
    expected = np.stack([line(0.21), 1 - line(0.21) + x / 40])[:, middle]
    # a jump between the ends would ring in the middle: by 3e-7, and its derivative by 1e-4
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-8)
    by_variance = broaden_rows(rows, 0.1, lambda k: -(k**2) / 2 * np.exp(-(k**2) * 0.01 / 2))[:, middle]
    change = (line(0.21 + 1e-4) - line(0.21 - 1e-4))[middle] / 2e-4
    np.testing.assert_allclose(by_variance, [change, -change], rtol=0, atol=1e-5)
