"""Far wings interpolated on cells against the same lines on every pixel."""

import resource

import numpy as np
import pytest

from stellarhml.kernels import cells, forms, fused

FORMS = [forms.THIN, forms.EXPONENTIAL, forms.MINNAERT]
# four blocks, the first half sampled twice as densely as the second, as HPF's synthetic spectra are
LAM = np.concatenate([9900 + 0.01 * np.arange(5000), 9950 + 0.02 * np.arange(3000)])


def make_lines(n_lines=150, seed=0):
    """Ordinary lines, and extreme ones; some wings reach over everything, some windows are short."""
    rng = np.random.default_rng(seed)
    rows = np.stack(
        [
            rng.uniform(LAM[0] - 1, LAM[-1] + 1, n_lines),
            np.exp(rng.uniform(-9, -1, n_lines)),
            np.exp(rng.uniform(-4, -2, n_lines)),
            np.exp(rng.uniform(-6, -1, n_lines)),
            np.exp(rng.uniform(-4, -2, n_lines)),
            rng.uniform(0.2, 0.9, n_lines),
        ],
        axis=1,
    )
    rows[:6, 0] = LAM[2000] + np.linspace(0, 0.02, 6)  # on top of one another
    rows[6, 1:5] = 300.0, 0.1, 1000.0, 0.1  # saturated; the thin form is clamped
    rows[7, 1:3] = 0.3, 40.0  # half width of thousands of pixels
    rows[8, 1:5] = 0.0, 0.05, 0.0, 0.05  # no amplitude
    rows[9, 1] = 0.0  # Gaussian only
    rows[10, [0, 3]] = LAM[4999], 0.0  # Lorentzian only, where the sampling changes
    rows[11, 2:5:2] = 1e-5, 1e-5  # narrower than any pixel
    rows[12, 0], rows[13, 0] = LAM[0], LAM[-1]
    rows[14, 3:5] = 0.2, 2.0  # broad Gaussian
    start, stop = np.zeros(n_lines, np.int64), np.full(n_lines, len(LAM))
    start[20:] = np.clip(np.searchsorted(LAM, rows[20:, 0]) - rng.integers(1, 3000, n_lines - 20), 0, None)
    stop[20:] = np.minimum(start[20:] + rng.integers(0, 6000, n_lines - 20), len(LAM))
    return rows, start, stop


def scale_of_gradient(components, start, stop, weight, form):
    """Gradient as large as it would be if no two pixels cancelled."""
    grad = np.abs(fused.gradient(LAM, components, start, stop, np.abs(weight), form, every_pixel=True))
    _, al, g, ag, s, _ = components.T
    grad[:, 0] = al * grad[:, 1] / g + ag * grad[:, 3] / s
    return grad


@pytest.mark.parametrize("form", FORMS)
def test_flux_is_that_of_every_pixel(form):
    lines = make_lines()
    exact = fused.render(LAM, *lines, form, every_pixel=True)
    fast = fused.render(LAM, *lines, form)
    # 1e-14 in ln f for each line and level of cells, times the constants that the estimate leaves out
    np.testing.assert_allclose(fast, exact, rtol=1e-11, atol=0)
    assert not np.array_equal(fast, exact)  # a control: cells were used


@pytest.mark.parametrize("form", FORMS)
def test_gradient_is_that_of_every_pixel(form):
    lines = make_lines()
    weight = np.random.default_rng(0).normal(size=len(LAM))
    exact = fused.gradient(LAM, *lines, weight, form, every_pixel=True)
    fast = fused.gradient(LAM, *lines, weight, form)
    scale = scale_of_gradient(*lines, weight, form)
    error, usual = np.abs(fast - exact), np.arange(len(scale)) != 11
    # 1e-11 of the line's peak on each cell, against a scale that may come from far wings alone
    assert np.all(error[usual] <= 1e-7 * scale[usual])
    # a line between two pixels has no peak, only its wings at 1e-8 of that
    assert np.all(error[11] < 1e-9)
    assert not np.array_equal(fast, exact)


@pytest.mark.parametrize("form", FORMS)
def test_gradient_is_the_adjoint_of_the_flux(form):
    components, start, stop = make_lines(n_lines=40, seed=1)
    components, start, stop = components[15:], start[15:], stop[15:]
    weight = np.random.default_rng(1).normal(size=len(LAM))
    flux = fused.render(LAM, components, start, stop, form)
    grad = fused.gradient(LAM, components, start, stop, weight * flux, form)
    direction = np.random.default_rng(2).normal(size=components.shape) * np.abs(components) * (1, 1, 1, 1, 1, form != 0)
    direction[:, 0] *= 1e-6
    h = 1e-4
    up, down = (fused.render(LAM, components + side * h * direction, start, stop, form) for side in (1, -1))
    # truncation of order h^2 = 1e-8, and centers of 9900, moved by 1e-6, keep 1e-12
    tolerance = 2e-6 * np.sum(np.abs(grad * direction))
    assert np.sum(grad * direction) == pytest.approx(np.sum((up - down) / (2 * h) * weight), abs=tolerance)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_stays_visible(form, value):
    components, start, stop = make_lines()
    weight = np.ones(len(LAM))
    for column in range(6):
        broken = components.copy()
        broken[30, column] = value
        got, wanted = (fused.render(LAM, broken, start, stop, form, every_pixel=every) for every in (False, True))
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
        got, wanted = (
            fused.gradient(LAM, broken, start, stop, weight, form, every_pixel=every) for every in (False, True)
        )
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    # the thin form has no limiting depth, and a center at infinity leaves all pixels alone
    broken = components.copy()
    broken[30, 1] = np.nan
    assert np.isnan(fused.render(LAM, broken, start, stop, form)[start[30] : stop[30]]).all()


def test_weights_that_are_nan_reach_the_lines_of_their_pixel_and_no_other():
    components, start, stop = make_lines()
    weight = np.ones(len(LAM))
    weight[4321] = np.nan
    grad = fused.gradient(LAM, components, start, stop, weight, forms.MINNAERT)
    np.testing.assert_array_equal(np.isnan(grad[:, 1]), (start <= 4321) & (stop > 4321))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("every_pixel", [False, True])
def test_any_number_of_threads_gives_the_same_bits(form, every_pixel):
    components, start, stop = make_lines()
    weight = np.random.default_rng(0).normal(size=len(LAM))
    chain = np.random.default_rng(0).normal(size=(len(components), 6, 5))
    results = []
    for n_threads in (1, 2, 3):
        how = {"every_pixel": every_pixel, "n_threads": n_threads}
        flux = fused.render(LAM, components, start, stop, form, **how)
        grad = fused.gradient(LAM, components, start, stop, weight, form, **how)
        jac = fused.jacobian(LAM, components, chain, start, stop, flux, form, n_threads=n_threads)
        results.append((flux, grad, jac))
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_memory_is_linear():
    lam = 8000 + 0.02 * np.arange(200_000)
    components = np.tile([9000.0, 0.01, 0.05, 0.1, 0.05, 0.5], (1000, 1))
    components[:, 0] = np.linspace(lam[0], lam[-1], 1000)
    start, stop = np.zeros(1000, np.int64), np.full(1000, len(lam))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    flux = fused.render(lam, components, start, stop, forms.MINNAERT)
    fused.gradient(lam, components, start, stop, flux, forms.MINNAERT)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 100  # MB; lines times pixels would be 1,600


@pytest.mark.parametrize("n_pixels", [0, 1, 2, 15])
def test_spectra_of_a_few_pixels(n_pixels):
    lam = 9000 + 0.02 * np.arange(n_pixels)
    line = np.array([[9000.0, 0.1, 0.001, 0.1, 0.001, 0.5]])
    window = np.array([0]), np.array([n_pixels])
    exact = fused.render(lam, line, *window, forms.THIN, every_pixel=True)
    np.testing.assert_allclose(fused.render(lam, line, *window, forms.THIN), exact, rtol=1e-12)
    assert exact.shape == (n_pixels,)


def test_wavelengths_with_a_gap():
    lam = np.concatenate([4000 + 0.01 * np.arange(3000), 15000 + 0.1 * np.arange(3000)])
    components = np.stack(np.broadcast_arrays(lam[10::100], 0.2, 0.05, 0.3, 0.02, 0.5), axis=1)
    start, stop = np.zeros(len(components), np.int64), np.full(len(components), len(lam))
    exact, fast = (
        fused.render(lam, components, start, stop, forms.MINNAERT, every_pixel=every) for every in (True, False)
    )
    np.testing.assert_allclose(fast, exact, rtol=1e-11)


def test_interpolation_between_parent_and_child_is_exact_for_polynomials():
    t, powers = forms.CHEBYSHEV, np.arange(cells.NODES)
    for side, split in zip((-1, 1), cells._SPLIT, strict=True):
        np.testing.assert_allclose(split @ t[:, None] ** powers, ((t[:, None] + side) / 2) ** powers, atol=1e-13)


def test_exponential_and_logarithm():
    y = np.concatenate([-np.geomspace(1e-300, 699, 500), [0.0, -1e5, np.nan]])
    got = np.array([_exp(value) for value in y])
    np.testing.assert_allclose(got[:501], np.exp(y[:501]), rtol=1e-13)  # 3e-14 with fused multiply-add
    assert got[501] == _exp(-700.0)
    assert np.isnan(got[502])
    x = np.geomspace(1e-300, 1e300, 501)
    np.testing.assert_allclose([_log(value) for value in x], np.log(x), rtol=1e-15, atol=1e-15)
    assert -2000 < _log(0.0) < -700


@forms.compiled
def _exp(y):
    return forms.exp(y)


@forms.compiled
def _log(y):
    return forms.log(y)
