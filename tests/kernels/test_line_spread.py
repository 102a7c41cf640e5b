"""Line-spread functions of any form against direct convolution with their densities."""

from functools import partial

import numpy as np
import pytest

from stellarhml.kernels.fourier_broadening import observe_rows
from stellarhml.kernels.line_spread import SampledForms, SampledTransform, ScaledForm, gauss_hermite, two_gaussians
from stellarhml.physics.broadening import rotation_profile

C = 299_792.458
WAVELENGTH = 8600 * np.exp(0.35 / C * np.arange(-1500, 1501))
EDGES = 8600 * np.exp(1.9 / C * np.arange(-20, 21))
AT = np.log((EDGES[1:] + EDGES[:-1]) / 2)
LINES = [(-30.0, 0.7, 1.5), (-21.0, 0.4, 1.3), (-3.0, 0.8, 2.0), (4.0, 0.5, 1.4), (22.0, 0.3, 4.0)]  # km/s, depth, km/s
SIGMA = 2.3 / C


def spectrum(x):
    flux, velocity = np.ones_like(x), (x - np.log(8600)) * C
    for center, depth, width in LINES:
        flux *= 1 - depth * np.exp(-0.5 * ((velocity - center) / width) ** 2)
    return flux


def direct(density, *, reach, vsini=0.0):
    """Mean flux in each pixel; `density` takes offsets and the ln wavelengths at which the function is wanted."""
    u = np.linspace(-reach, reach, 801)
    node, weight = np.polynomial.legendre.leggauss(8)
    middle, half = (EDGES[1:] + EDGES[:-1]) / 2, np.diff(EDGES) / 2
    x = np.log(middle[:, None] + half[:, None] * node)
    turns, turned = np.zeros(1), np.ones(1)
    if vsini:
        angle, turned = np.polynomial.legendre.leggauss(40)
        angle, turned = angle * np.pi / 2, turned * np.pi / 2
        turned, turns = turned * np.cos(angle) * rotation_profile(np.sin(angle), 1.0, 0.6), np.sin(angle) * vsini / C
    found = np.zeros(x.shape)
    for turn, share in zip(turns, turned, strict=True):
        shifted = spectrum(x[..., None] - u - turn)
        found += share * (density(u, x[..., None]) * shifted).sum(axis=-1) * (u[1] - u[0])
    return found @ weight / 2


def gauss(y):
    return np.exp(-(y**2) / 2) / np.sqrt(2 * np.pi)


def hermite_density(u, sigma, h3, h4):
    y = u / sigma
    third, fourth = (2 * y**3 - 3 * y) / np.sqrt(3), (4 * y**4 - 12 * y**2 + 3) / np.sqrt(24)
    return gauss(y) * (1 + h3 * third + h4 * fourth) / (1 + 3 * h4 / np.sqrt(24)) / sigma


def two_density(u, sigma, wide_ratio, wide_share):
    y = u / sigma
    return ((1 - wide_share) * gauss(y) + wide_share * gauss(y / wide_ratio) / wide_ratio) / sigma


FORMS = {
    "hermite": (gauss_hermite, hermite_density, {"h3": 0.08, "h4": -0.05}, 8),
    "two": (two_gaussians, two_density, {"wide_ratio": 3.0, "wide_share": 0.2}, 20),
}
WIDTHS = {"one": np.full(len(AT), SIGMA), "many": SIGMA * np.linspace(0.8, 1.3, len(AT))}


def observed(form, sigma, shape, *, vsini=0.0, derivatives=False, edges=EDGES):
    spread = ScaledForm(partial(form, **shape), sigma, AT, reach=20 * SIGMA, wanted=range(2))
    flux = spectrum(np.log(WAVELENGTH))[None]
    return observe_rows(WAVELENGTH, flux, edges, vsini=vsini / C, spread=spread, derivatives=derivatives)


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("vsini", [0.0, 6.0])
@pytest.mark.parametrize("name", FORMS)
def test_forms_are_convolutions_with_their_densities(name, vsini, widths):
    form, density, shape, reach = FORMS[name]
    expected = direct(
        lambda u, x: density(u, np.interp(x, AT, WIDTHS[widths]), **shape), reach=reach * SIGMA, vsini=vsini
    )
    # widths are interpolated to 1e-7; the model's pixels leave open what is between them
    np.testing.assert_allclose(observed(form, WIDTHS[widths], shape, vsini=vsini)[0], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("name", FORMS)
def test_derivatives_equal_differences(name, widths):
    form, _, shape, _ = FORMS[name]
    sigma, vsini, step = WIDTHS[widths], 4.0, 1e-4
    flux, by_shift, by_vsini, by_power, *own = observed(form, sigma, shape, vsini=vsini, derivatives=True)

    def difference(change):
        return (change(1)[0] - change(-1)[0]) / (2 * step)

    expected = [difference(lambda sign: observed(form, sigma * np.exp(-sign * step), shape, vsini=vsini))]
    for key, value in shape.items():
        expected.append(
            difference(lambda sign, k=key, v=value: observed(form, sigma, shape | {k: v + sign * step}, vsini=vsini))
        )
    expected.append(difference(lambda sign: observed(form, sigma, shape, vsini=vsini + sign * step)) * C)
    for got, wanted in zip([by_power, *own, by_vsini], expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())
    np.testing.assert_allclose(flux, observed(form, sigma, shape, vsini=vsini)[0], rtol=0, atol=1e-13)
    assert by_shift.shape == flux.shape


def test_a_shifted_spectrum_meets_the_widths_of_the_pixels():
    """The derivative by the ratio of wavelengths, where widths vary by three percent a pixel."""
    form, _, shape, _ = FORMS["hermite"]
    sigma, step = SIGMA * np.exp(np.linspace(-0.4, 0.4, len(AT))), 0.05 / C

    def moved(sign):
        edges = EDGES * (1 - sign * step)
        spread = ScaledForm(
            partial(form, **shape), sigma, np.log((edges[1:] + edges[:-1]) / 2), reach=20 * SIGMA, wanted=()
        )
        return observe_rows(WAVELENGTH, spectrum(np.log(WAVELENGTH))[None], edges, spread=spread)[0]

    got = observed(form, sigma, shape, derivatives=True)[1]
    wanted = (moved(1) - moved(-1)) / (2 * step)
    apart = np.abs(got - wanted).max()
    assert apart < 2e-4 * np.abs(wanted).max()
    without = got - (observed(form, np.full(len(AT), SIGMA), shape, derivatives=True)[1])
    assert np.abs(without).max() > 100 * apart  # it would not pass with the widths of the middle


def sampled(step, shape=hermite_density, **options):
    u = np.arange(-9 * SIGMA, 9 * SIGMA, step)
    return SampledTransform(u, 7.0 * shape(u, SIGMA, **options))


@pytest.mark.parametrize(("per_sigma", "tolerance"), [(1.5, 3e-4), (3, 2e-6), (6, 1e-6)])
def test_a_sampled_kernel_is_its_spline(per_sigma, tolerance):
    shape = {"h3": 0.1, "h4": 0.05}
    forms = SampledForms([sampled(SIGMA / per_sigma, **shape)], AT[:1], 1.0)
    got = observe_rows(WAVELENGTH, spectrum(np.log(WAVELENGTH))[None], EDGES, vsini=5.0 / C, spread=forms)[0]
    expected = direct(lambda u, x: hermite_density(u, SIGMA, **shape), reach=9 * SIGMA, vsini=5.0)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


def test_kernels_are_interpolated_between_wavelengths_and_scaled():
    narrow, wide = (sampled(SIGMA / 5, lambda u, s, f=f: gauss(u / s / f)) for f in (0.8, 1.4))
    ends, factor = AT[[5, 30]], 1.2
    forms = SampledForms([narrow, wide], ends, factor)
    got = observe_rows(WAVELENGTH, spectrum(np.log(WAVELENGTH))[None], EDGES, spread=forms, derivatives=True)

    def density(u, x, factor=factor):
        share = np.clip((x - ends[0]) / (ends[1] - ends[0]), 0, 1)
        a, b = 0.8 * SIGMA / factor, 1.4 * SIGMA / factor
        return (1 - share) * gauss(u / a) / a + share * gauss(u / b) / b

    np.testing.assert_allclose(got[0], direct(density, reach=10 * SIGMA), rtol=0, atol=2e-5)  # kinks at the two ends
    step = 1e-3
    up, down = (direct(partial(density, factor=factor * np.exp(sign * step)), reach=10 * SIGMA) for sign in (1, -1))
    wanted = (up - down) / (2 * step)
    np.testing.assert_allclose(got[3], wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())


def test_a_form_of_no_deviation_is_the_gaussian():
    shape = {"h3": 0.0, "h4": 0.0}
    got = observed(gauss_hermite, WIDTHS["many"], shape, vsini=3.0, derivatives=True)
    plain = observe_rows(
        WAVELENGTH, spectrum(np.log(WAVELENGTH))[None], EDGES, vsini=3.0 / C, sigma=WIDTHS["many"], derivatives=True
    )
    for row, wanted in zip(got, plain, strict=False):
        np.testing.assert_allclose(row, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
