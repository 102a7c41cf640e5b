"""Line spreads of an observation: forms, kernels, matrices; the factor of the resolving power, and shifts of orders."""

import numpy as np
import pytest
from mock_star import C, OneSpectrum, observe

from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.line_spread import GaussHermite, ResolutionMatrix, SampledKernels, TwoGaussians, order_factors
from stellarhml.forward.macroturbulence import Macroturbulence
from stellarhml.forward.observation import Observation
from stellarhml.forward.stages import Parameter, Stage
from stellarhml.physics.broadening import line_spread_sigma

POWER = 40_000.0
PIXELS = np.arange(8520.0, 8680.0, 0.07)
STAR = {"teff": 0.5, "rv": 12.0, "vsini": 6.0}
OFFSETS = np.linspace(-24, 24, 49)  # km/s
SIGMA = line_spread_sigma(POWER) * C  # km/s


class Air(Stage):
    """A transmission that is at rest with the observer."""

    def apply(self, rows, values):
        through = 1 - 0.4 * np.exp(-0.5 * ((rows.wavelength - 8600.0) / 0.15) ** 2)
        return rows.through(rows.flux * through, through)


def chain(star, power, *, stages=(), pixels=PIXELS, **options):
    return ForwardChain(OneSpectrum(*star), Observation(pixels, resolving_power=power), stages=stages, **options)


def kernels(power=POWER):
    sigma = line_spread_sigma(power) * C
    return SampledKernels([8500.0, 8700.0], OFFSETS, [np.exp(-0.5 * (OFFSETS / sigma) ** 2)] * 2, unit="km/s")


@pytest.mark.parametrize("stages", [(), (Air(),)], ids=["fused", "staged"])
@pytest.mark.parametrize(
    "power",
    [
        GaussHermite(POWER),
        GaussHermite(np.full(len(PIXELS), POWER)),
        TwoGaussians(POWER, wide_ratio=2.0, wide_share=0.0),
        TwoGaussians(POWER, wide_ratio=1.0, wide_share=0.3),
        kernels(),
    ],
    ids=["series", "series of each pixel", "no second", "a second like the first", "kernels"],
)
def test_forms_without_a_deviation_are_gaussians(star, power, stages):
    plain, form = (chain(star, p, stages=stages).evaluate(STAR)[0] for p in (POWER, power))
    # a spline through three samples of a sigma
    apart = 20 if isinstance(power, SampledKernels) else 1
    np.testing.assert_allclose(form.flux, plain.flux, rtol=0, atol=apart * 2e-7)
    for group in ("tangents", "modes"):
        for name, row in getattr(plain, group).items():
            got = getattr(form, group)[name]
            np.testing.assert_allclose(
                got, row, rtol=0, atol=apart * 1e-5 * max(np.abs(row).max(), 1e-300), err_msg=name
            )


FREE = [
    GaussHermite(POWER, h3=0.05, h4=-0.03, errors={"h4": 0.1, "h3": 0.1}),
    GaussHermite(np.linspace(38_000, 43_000, len(PIXELS)), h3=0.05, errors={"h3": 0.1}),
    TwoGaussians(POWER, wide_ratio=2.5, wide_share=0.2, errors={"wide_ratio": 0.3, "wide_share": 0.1}),
    kernels(),
]


@pytest.mark.parametrize("stages", [(), (Air(), Macroturbulence())], ids=["fused", "staged"])
@pytest.mark.parametrize("power", FREE, ids=["series", "widths", "two", "kernels"])
def test_tangents_equal_differences(star, power, stages):
    shift = Parameter("shift", "km/s", (-5.0, 5.0), start=0.0)
    own = {"order_shifts": [shift], "order_factors": order_factors([7], 0.1)}
    model = chain(star, power, stages=stages, resolving_power_error=0.1, **own)
    values = STAR | {"resolving_power_factor": 1.15, "resolving_power_factor_7": 0.95, "shift": 0.4}
    values |= {parameter.name: parameter.start * 0.9 for parameter in power.parameters}
    values |= {"vmac": 4.0} if len(stages) > 1 else {}
    assert {parameter.name for parameter in model.parameters} == set(values)
    rows = model.evaluate(values)[0]
    np.testing.assert_allclose(rows.flux, model.flux(values)[0], rtol=0, atol=1e-12)
    for name in values:
        if name == "teff":
            continue
        step = 0.01 if name in ("rv", "vsini", "vmac", "shift") else 1e-4
        high, low = (model.flux(values | {name: values[name] + sign * step})[0] for sign in (1, -1))
        expected = (high - low) / (2 * step)
        atol = 3e-5 * np.abs(expected).max()
        np.testing.assert_allclose(rows.tangents[name], expected, rtol=0, atol=atol, err_msg=name)


def test_a_factor_is_another_resolving_power(star):
    plain = chain(star, 1.2 * POWER).flux(STAR)[0]
    scaled = chain(star, POWER, resolving_power_error=0.1).flux(STAR | {"resolving_power_factor": 1.2})[0]
    np.testing.assert_allclose(scaled, plain, rtol=0, atol=1e-13)


def test_runs_of_one_order_share_its_factor(star):
    """As in a first fit, to some runs of pixels."""
    whole = chain(star, POWER, order_factors=order_factors([4], 0.1))
    values = STAR | {"resolving_power_factor_4": 0.8}
    runs = [(0, slice(100, 300)), (0, slice(600, 900))]
    parts = whole.part(runs).evaluate(values)
    for (_, pixels), rows in zip(runs, parts, strict=True):
        np.testing.assert_allclose(rows.flux, whole.flux(values)[0][pixels], rtol=0, atol=1e-6)
        assert np.abs(rows.tangents["resolving_power_factor_4"]).max() > 1e-3


def test_a_shift_moves_star_and_atmosphere(star):
    """Stated wavelengths that are too long by 2 km/s: those of the pixels are shorter."""
    shift = Parameter("shift", "km/s", (-5.0, 5.0), start=0.0)
    model = chain(star, POWER, stages=[Air()], order_shifts=[shift])
    true = chain(star, POWER, stages=[Air()], pixels=PIXELS / (1 + 2.0 / C))
    np.testing.assert_allclose(model.flux(STAR | {"shift": 2.0})[0], true.flux(STAR)[0], rtol=0, atol=1e-6)
    rows = model.evaluate(STAR | {"shift": 2.0})[0]
    near = np.abs(PIXELS - 8600) < 0.3
    assert np.abs(rows.tangents["shift"] - rows.tangents["rv"])[near].max() > 0.01  # which leaves the atmosphere


def test_orders_have_their_own_shifts(star):
    shifts = [Parameter(f"shift {k}", "km/s", (-5.0, 5.0), start=0.0) for k in range(2)]
    pixels = [PIXELS[:800], PIXELS[900:]]
    model = chain(star, POWER, pixels=pixels, order_shifts=shifts)
    values = STAR | {"shift 0": 1.0, "shift 1": -2.0}
    first, second = model.evaluate(values)
    (part,) = model.part([(1, slice(0, len(pixels[1])))]).evaluate(values)
    np.testing.assert_allclose(part.flux, second.flux, rtol=0, atol=1e-7)
    for rows, own, other in (
        (first, "shift 0", "shift 1"),
        (second, "shift 1", "shift 0"),
        (part, "shift 1", "shift 0"),
    ):
        assert np.abs(rows.tangents[own]).max() > 0
        assert not rows.tangents[other].any()


@pytest.mark.parametrize("unit", ["km/s", "angstrom"])
def test_a_lopsided_kernel_against_an_independent_convolution(star, unit):
    """A sharp rise and a long tail to longer wavelengths, at the independent simulator's step."""
    x = np.linspace(-30.0, 30.0, 201)
    kernel = np.where(x > 0, x**2 * np.exp(-x / 2.0), 0.0)
    scale = 1.0 if unit == "km/s" else 8600.0 / C
    power = SampledKernels([8600.0], x * scale, [kernel], unit=unit)
    got = chain(star, power).flux(STAR)[0]
    sharp = np.arange(8510.0, 8690.0, 0.002)
    light = chain(star, None, pixels=sharp).flux(STAR)[0]
    step = 0.2 / C
    even = np.exp(np.arange(np.log(8511.0), np.log(8689.0), step))
    fine = np.arange(-30.0, 30.1, 0.2)
    density = np.where(fine > 0, fine**2 * np.exp(-np.maximum(fine, 0) / 2.0), 0.0)
    smooth = np.convolve(np.interp(even, sharp, light), density / density.sum(), mode="same")
    edges = Observation(PIXELS).orders[0].edges
    total = np.concatenate([[0.0], np.cumsum(0.5 * (smooth[1:] + smooth[:-1]) * np.diff(even))])
    expected = np.diff(np.interp(edges, even, total)) / np.diff(edges)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-4)  # linear interpolation at steps of 0.2 km/s
    assert np.abs(got - chain(star, POWER).flux(STAR)[0]).max() > 0.05


def matrix(width=1.3, half=5):
    """A Gaussian of a width in pixels, as DESI stores it; its width grows along the order."""
    n, offsets = len(PIXELS), half - np.arange(2 * half + 1)
    rows = np.exp(-0.5 * (np.arange(-half, half + 1) / (width * np.linspace(1, 1.2, n)[:, None])) ** 2)
    rows /= rows.sum(axis=1, keepdims=True)
    data = np.zeros((len(offsets), n))
    for k, offset in enumerate(offsets):
        for j in range(n):
            if 0 <= j - offset < n:
                data[k, j] = rows[j - offset, half + offset]
    return data, rows


def test_a_resolution_matrix_multiplies_the_pixels(star):
    data, _ = matrix()
    dense = np.zeros((len(PIXELS),) * 2)
    for k, offset in enumerate(5 - np.arange(11)):
        dense += np.diag(np.diag(np.ones_like(dense) * data[k], offset), offset)
    for stages in ((), (Air(),)):
        sharp = chain(star, None, stages=stages).evaluate(STAR)[0]
        got = chain(star, ResolutionMatrix(data), stages=stages).evaluate(STAR)[0]
        inside = slice(5, -5)
        np.testing.assert_allclose(got.flux[inside], (dense @ sharp.flux)[inside], rtol=0, atol=1e-6)
        for name in ("rv", "vsini"):
            expected = (dense @ sharp.tangents[name])[inside]
            np.testing.assert_allclose(got.tangents[name][inside], expected, rtol=0, atol=1e-4 * np.abs(expected).max())
        assert np.isnan(got.flux[:5]).all()
        assert np.isnan(got.flux[-5:]).all()
        assert np.isfinite(got.flux[inside]).all()
    # a run of pixels needs its neighbours
    (part,) = chain(star, ResolutionMatrix(data)).part([(0, slice(100, 200))]).flux(STAR)
    np.testing.assert_allclose(part, got_flux(star, data)[100:200], rtol=0, atol=1e-6)


def got_flux(star, data):
    return chain(star, ResolutionMatrix(data)).flux(STAR)[0]


def test_a_resolution_matrix_may_be_reversed():
    data, rows = matrix()
    order = Observation(PIXELS, resolving_power=ResolutionMatrix(data).part(slice(None, None, -1))).orders[0]
    light = np.random.default_rng(0).normal(size=(1, len(PIXELS) + 10))
    expected = np.einsum("pd,pd->p", np.lib.stride_tricks.sliding_window_view(light[0], 11), rows[::-1, ::-1])
    np.testing.assert_allclose(order.resolving_power.apply(light)[0, 5:-5], expected[5:-5], rtol=1e-12)


@pytest.mark.parametrize(
    ("power", "sigma"),
    [
        (GaussHermite(POWER), SIGMA),
        (TwoGaussians(POWER, wide_ratio=2.0, wide_share=1e-9), SIGMA),
        (kernels(), SIGMA),
        (ResolutionMatrix(np.tile(np.exp(-0.5 * (np.arange(-5, 6) / 1.3) ** 2)[:, None] / 3.2586, len(PIXELS))), 3.17),
    ],
    ids=["series", "two", "kernels", "matrix"],
)
def test_equivalent_sigma(power, sigma):
    order = Observation(PIXELS, resolving_power=power).orders[0]
    found = np.broadcast_to(order.sigma, PIXELS.shape) * C
    assert np.median(found) == pytest.approx(sigma, rel=0.01)
    assert np.min(order.reach) * C > 3.5 * sigma


def test_the_equivalent_gaussian_has_the_same_square():
    u = np.linspace(-30, 30, 20_001)
    for power, density in (
        (
            TwoGaussians(POWER, wide_ratio=3.0, wide_share=0.2),
            0.8 * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi) + 0.2 * np.exp(-(u**2) / 18) / np.sqrt(18 * np.pi),
        ),
        (
            GaussHermite(POWER, h3=0.1, h4=0.08),
            np.exp(-(u**2) / 2)
            / np.sqrt(2 * np.pi)
            * (1 + 0.1 * (2 * u**3 - 3 * u) / np.sqrt(3) + 0.08 * (4 * u**4 - 12 * u**2 + 3) / np.sqrt(24)),
        ),
    ):
        density = density / (density.sum() * (u[1] - u[0]))
        square = (density**2).sum() * (u[1] - u[0])
        assert power.sigma * C == pytest.approx(SIGMA / (2 * np.sqrt(np.pi) * square), rel=1e-6)


def test_rows_are_the_independent_simulators(star):
    """All of the way from the star, with a Gaussian given as kernels."""
    expected = observe(*star, PIXELS, rv=12.0, vsini=6.0, resolving_power=POWER)
    inside = slice(50, -50)
    np.testing.assert_allclose(chain(star, kernels()).flux(STAR)[0][inside], expected[inside], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussHermite(0.5), "finite number over 1"),
        (lambda: GaussHermite(POWER, h3=0.5), r"`h3` is 0.5; it needs a number from -0.3 to 0.3"),
        (lambda: GaussHermite(POWER, errors={"h5": 0.1}), "`errors` has 'h5': 0.1; it needs positive"),
        (lambda: GaussHermite(POWER, errors={"h3": 0.0}), "positive standard deviations of h3 or h4"),
        (lambda: TwoGaussians(POWER, wide_ratio=0.5, wide_share=0.1), "`wide_ratio` is 0.5"),
        (lambda: ResolutionMatrix(np.full((3, 50), np.nan)), "have a median sum of nan"),
        (lambda: SampledKernels([8600.0], OFFSETS, [OFFSETS], unit="nm"), "`unit` is 'nm'"),
        (lambda: SampledKernels([8600.0, 8700.0], OFFSETS, [OFFSETS], unit="km/s"), "a row for each wavelength"),
        (lambda: SampledKernels([8600.0], -OFFSETS, [OFFSETS], unit="km/s"), "`offset` must be finite and increase"),
        (lambda: SampledKernels([8600.0], OFFSETS, [1 + 0 * OFFSETS], unit="km/s"), "has 1 of its peak at an end"),
        (lambda: ResolutionMatrix(np.ones((4, 100))), "odd number of diagonals"),
        (lambda: ResolutionMatrix(np.ones((3, 100))), "median sum of 3; it must be 1"),
        (lambda: Observation(PIXELS, resolving_power=ResolutionMatrix(np.full((1, 90), 1.0))), "Order 0: .*90 pixels"),
        (lambda: Observation(PIXELS, resolving_power=GaussHermite(np.full(9, POWER))), "Order 0: .*9 values for"),
        (lambda: ResolutionMatrix(np.full((1, 90), 1.0)).edges, "belongs to no pixels yet"),
    ],
)
def test_messages_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("power", [None, ResolutionMatrix(np.full((1, len(PIXELS)), 1.0))], ids=["none", "matrix"])
def test_what_cannot_be_scaled_has_no_factor(star, power):
    with pytest.raises(ValueError, match="which cannot be scaled"):
        chain(star, power, resolving_power_error=0.1)


@pytest.mark.parametrize("scatter", [0.0, -1.0, 2.0, True, "a", np.nan, [0.1]])
def test_scatters_between_orders_are_in_reason(star, scatter):
    with pytest.raises(ValueError, match=r"`resolving_power_scatter` is .*such as 0\.03 for 3 %"):
        order_factors([1, 2], scatter)


@pytest.mark.parametrize("error", [0.0, 1.5, True, "a", [0.1, 0.1]])
def test_the_error_of_a_resolving_power_is_relative(star, error):
    with pytest.raises(ValueError, match=r"`resolving_power_error` is .*such as 0\.1 for 10 %"):
        chain(star, POWER, resolving_power_error=error)
