"""Derivatives of a spectrum along tangents against autograd of the plain product, differences and every pixel."""

import numpy as np
import pytest
import torch

from stellarhml.kernels import forms, fused
from stellarhml.kernels.autograd import line_product_reference
from stellarhml.kernels.fused import render_tangents
from stellarhml.kernels.line_profiles import PROFILES, get_profile
from stellarhml.kernels.rendering import render_lines, render_lines_tangents

FORMS = [forms.THIN, forms.EXPONENTIAL, forms.MINNAERT]
LAM = np.concatenate([9900 + 0.01 * np.arange(5000), 9950 + 0.02 * np.arange(5000)])  # as HPF's synthetic spectra
SPARSE = np.sort(np.random.default_rng(5).uniform(9900, 10050, 60))


def make_lines(lam, n_lines=60, n_tangents=3, seed=0):
    """Lines of all sorts, their windows, and tangents of the size of derivatives with respect to [Fe/H]."""
    rng = np.random.default_rng(seed)
    components = np.stack(
        [
            rng.uniform(lam[0] - 1, lam[-1] + 1, n_lines),
            np.exp(rng.uniform(-8, -2, n_lines)),
            np.exp(rng.uniform(-3, -1, n_lines)),
            np.exp(rng.uniform(-6, 0, n_lines)),
            np.exp(rng.uniform(-3, -2, n_lines)),
            rng.uniform(0.2, 0.9, n_lines),
        ],
        axis=1,
    )
    components[:3, 1:5] = 30.0, 0.1, 20.0, 0.1  # saturated; the thin form is clamped
    components[1, 0] = components[0, 0] + 0.05  # on top of it
    components[3, 1] = components[4, 3] = 0.0  # Gaussian only, Lorentzian only
    components[5, 1:5] = 0.0, 0.05, 0.0, 0.05  # empty
    half = rng.integers(1, len(lam) + 1, n_lines)
    center = np.searchsorted(lam, components[:, 0])
    start, stop = np.clip(center - half, 0, len(lam)), np.clip(center + half, 0, len(lam))
    start[6], stop[6] = 3, 3  # an empty window
    tangents = rng.normal(size=(n_tangents, n_lines, 6)) * components
    tangents[:, :, 0] = 0.003 * rng.normal(size=(n_tangents, n_lines))
    return components, tangents, start.astype(np.int64), stop.astype(np.int64)


def from_autograd(lam, components, tangents, start, stop, form):
    """Value and derivatives of the plain torch product, by automatic differentiation."""

    def product(rows):
        return line_product_reference(lam, rows, start, stop, form)

    rows = torch.tensor(components)
    pairs = [torch.autograd.functional.jvp(product, rows, torch.tensor(tangent)) for tangent in tangents]
    return pairs[0][0].numpy(), np.stack([derivative.numpy() for _, derivative in pairs])


def scale_of(derivative):
    """What the errors of a derivative are measured by."""
    return np.abs(derivative).max(axis=1, keepdims=True)


@pytest.mark.parametrize("every_pixel", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lam", [LAM[4000:6500], SPARSE, LAM[:1]], ids=["pixels", "sparse", "one"])
def test_derivatives_are_those_of_autograd(lam, form, every_pixel):
    lines = make_lines(lam)
    flux, derivative = render_tangents(lam, *lines, form, every_pixel=every_pixel)
    wanted_flux, wanted = from_autograd(lam, *lines, form)
    np.testing.assert_allclose(flux, wanted_flux, rtol=1e-11, atol=1e-20)
    # 1e-11 of the peak of a line for each cell, of 60 lines
    np.testing.assert_allclose(derivative / scale_of(wanted), wanted / scale_of(wanted), rtol=0, atol=1e-9)
    assert derivative.shape == (3, len(lam))


@pytest.mark.parametrize("form", FORMS)
def test_derivatives_are_differences_of_the_rendering(form):
    components, tangents, start, stop = make_lines(LAM, seed=1)
    components[:3, 1:5] = 0.2, 0.1, 0.3, 0.1  # no kinks
    components[:, 3] = np.minimum(components[:, 3], 0.4)
    tangents[:, :, 5] *= form != forms.THIN
    _, derivative = render_tangents(LAM, components, tangents, start, stop, form)
    for tangent, got in zip(tangents, derivative, strict=True):
        h = 1e-5
        up, down = (fused.render(LAM, components + side * h * tangent, start, stop, form) for side in (1, -1))
        # truncation of order h^2 = 1e-10; centers of 9900, moved by 1e-8 to 1e-12 of themselves, keep 1e-5 of a step
        np.testing.assert_allclose(got, (up - down) / (2 * h), atol=1e-4 * np.abs(got).max())


@pytest.mark.parametrize("form", FORMS)
def test_cells_give_what_every_pixel_gives(form):
    lines = make_lines(LAM)
    exact_flux, exact = render_tangents(LAM, *lines, form, every_pixel=True)
    flux, derivative = render_tangents(LAM, *lines, form)
    np.testing.assert_allclose(flux, exact_flux, rtol=1e-11)
    np.testing.assert_allclose(flux, fused.render(LAM, *lines[:1], *lines[2:], form), rtol=1e-13)
    error = np.abs(derivative - exact) / scale_of(exact)
    assert error.max() < 1e-9  # as above
    assert not np.array_equal(derivative, exact)  # a control: cells were used


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tolerance", [1e-5, 1e-7])
def test_tolerance_bounds_the_error(form, tolerance):
    lines = make_lines(LAM)
    exact_flux, exact = render_tangents(LAM, *lines, form)
    flux, derivative = render_tangents(LAM, *lines, form, tolerance=tolerance)
    # what is allowed to one line, and some lines overlap
    assert 0 < np.abs(flux - exact_flux).max() < 3 * tolerance
    np.testing.assert_allclose(
        flux, fused.render(LAM, *lines[:1], *lines[2:], form, tolerance=tolerance), rtol=1e-12, atol=1e-20
    )
    # logarithms of strengths change by 1 along these tangents, those of widths too: (x / s)^2 of them at the ends
    assert np.abs(derivative - exact).max() < 50 * tolerance


def test_clamped_pixels_have_no_derivative():
    components = np.array([[LAM[350], 3.0, 0.5, 2.0, 0.3, 0.0]])
    window = np.array([345]), np.array([356])
    flux, derivative = render_tangents(LAM, components, np.ones((2, 1, 6)), *window, forms.THIN)
    np.testing.assert_allclose(flux[345:356], 1e-9, rtol=1e-6)
    np.testing.assert_array_equal(derivative, 0.0)
    # and the other lines of a pixel count no more than the pixel itself
    wide = np.array([[LAM[350], 2.0, 0.5, 0.0, 0.3, 0.0]])  # clamped without a Gaussian, within half a width
    _, derivative = render_tangents(LAM, wide, np.ones((1, 1, 6)), np.array([0]), np.array([800]), forms.THIN)
    np.testing.assert_array_equal(derivative[0, 301:400], 0.0)
    assert np.abs(derivative[0, 401:800]).min() > 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("every_pixel", [False, True])
def test_any_number_of_threads_gives_the_same_bits(form, every_pixel):
    lines = make_lines(LAM)
    one = render_tangents(LAM, *lines, form, every_pixel=every_pixel)
    for n_threads in (2, 3):
        several = render_tangents(LAM, *lines, form, every_pixel=every_pixel, n_threads=n_threads)
        np.testing.assert_array_equal(one[0], several[0])
        np.testing.assert_array_equal(one[1], several[1])


@pytest.mark.parametrize("n_tangents", [0, 1, 5])
def test_any_number_of_tangents(n_tangents):
    components, tangents, start, stop = make_lines(LAM, n_tangents=5)
    flux, wanted = render_tangents(LAM, components, tangents, start, stop, forms.MINNAERT)
    got = render_tangents(LAM, components, tangents[:n_tangents], start, stop, forms.MINNAERT)
    np.testing.assert_array_equal(got[0], flux)
    np.testing.assert_array_equal(got[1], wanted[:n_tangents])


def test_no_lines_and_no_pixels():
    none = np.empty(0, np.int64)
    flux, derivative = render_tangents(LAM, np.empty((0, 6)), np.empty((3, 0, 6)), none, none, forms.MINNAERT)
    np.testing.assert_array_equal(flux, 1.0)
    np.testing.assert_array_equal(derivative, np.zeros((3, len(LAM))))
    line, zero = np.array([[9900.0, 0.1, 0.1, 0.1, 0.1, 0.5]]), np.zeros(1, np.int64)
    flux, derivative = render_tangents(LAM[:0], line, np.ones((3, 1, 6)), zero, zero, forms.MINNAERT)
    assert flux.shape == (0,)
    assert derivative.shape == (3, 0)


def test_what_is_not_a_number_stays_visible():
    components, tangents, start, stop = make_lines(LAM)
    tangents[1, 30, 1] = np.nan
    flux, derivative = render_tangents(LAM, components, tangents, start, stop, forms.MINNAERT)
    assert np.isfinite(flux).all()
    assert np.isfinite(derivative[[0, 2]]).all()
    assert np.isnan(derivative[1, start[30] : stop[30]]).all()


@pytest.mark.parametrize("wing_cut", [None, 300])
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_parameters_of_profiles(profile, wing_cut):
    lam, rng, n = LAM[:2000], np.random.default_rng(2), 12
    theta = rng.uniform([9900, -4, -3, -3.5, -1, -3], [9920, -2, -2, -2, 1, -1], (n, 6))
    theta = theta[:, : len(get_profile(profile).parameters)]
    dtheta = rng.normal(size=(3, *theta.shape)) * ([0.01] + [0.3] * (theta.shape[1] - 1))
    options = {"profile": profile, "wing_cut": wing_cut}
    flux, derivative = render_lines_tangents(lam, theta, dtheta, **options)
    np.testing.assert_allclose(flux, render_lines(lam, theta, **options), rtol=1e-12)
    h = 1e-6
    for along, got in zip(dtheta, derivative, strict=True):
        up, down = (render_lines(lam, theta + side * h * along, **options) for side in (1, -1))
        difference = (up - down) / (2 * h)
        # windows move by a pixel here and there, where a line jumps
        same = np.abs(got - difference) < 1e-5
        assert same.mean() > 0.9
        assert np.abs(got).max() > 0.01


def test_whole_blocks_hold_the_windows():
    start = np.array([0, 10, 5000, len(LAM) - 1, 7, len(LAM)])
    stop = np.array([1, 4096, 5001, len(LAM), 7, len(LAM)])
    first, last = fused.whole_blocks(LAM, start, stop)
    assert (first <= start).all()
    assert (last >= stop).all()
    np.testing.assert_array_equal(first[4:], last[4:])  # what was empty remains so
    bounds = fused._blocks_of(LAM)[2]
    assert np.isin(np.concatenate([first[:4], last[:4]]), bounds).all()


def test_tolerance_of_a_spectrum_bounds_its_error():
    lam, rng, n = LAM, np.random.default_rng(3), 150
    theta = rng.uniform([9900, -6, -4, -3, -1, -5], [10050, 1, -2.5, -1.5, 1, -2], (n, 6))
    whole = render_lines(lam, theta, profile="minnaert", wing_cut=len(lam))
    for tolerance in (1e-4, 2e-6):
        flux = render_lines(lam, theta, profile="minnaert", wing_cut=None, tolerance=tolerance)
        assert 0 < np.abs(flux - whole).max() < tolerance
        dtheta = np.ones((1, *theta.shape))
        same, _ = render_lines_tangents(lam, theta, dtheta, profile="minnaert", wing_cut=None, tolerance=tolerance)
        np.testing.assert_allclose(same, flux, rtol=1e-12)
