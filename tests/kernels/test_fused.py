"""The compiled kernels against plain formulas, their gradients against autograd and finite differences."""

from functools import partial

import numpy as np
import pytest
import torch

from stellarhml.kernels import forms, fused
from stellarhml.kernels.autograd import line_product, line_product_reference
from stellarhml.kernels.line_profiles import PROFILES, get_profile
from stellarhml.kernels.rendering import render_lines
from stellarhml.physics import profiles as reference

NAMES = sorted(PROFILES)
LAM = 8500 + 0.02 * np.arange(700)


def make_lines(profile, seed=0, n_lines=40):
    """Random lines; among them overlapping, saturated, broad and narrow ones, and some at or over the ends."""
    rng = np.random.default_rng(seed)
    theta = np.stack(
        [
            rng.uniform(LAM[0], LAM[-1], n_lines),
            rng.uniform(-4.0, -1.5, n_lines),
            rng.uniform(np.log(0.03), np.log(0.12), n_lines),
            rng.uniform(np.log(0.01), np.log(0.1), n_lines),
            rng.uniform(-1.0, 3.0, n_lines),
            rng.uniform(-4.0, -1.0, n_lines),
        ],
        axis=1,
    )
    theta[0, :2] = LAM[100] + 0.003, 1.5  # saturated: the thin form is clamped
    theta[1, 0] = theta[0, 0] + 0.01  # on top of it
    theta[2, 1:4] = -1.0, np.log(2.0), np.log(5.0)  # broad
    theta[3, 2:4] = np.log(0.002), np.log(0.001)  # narrower than a pixel
    theta[4, 0], theta[5, 0] = LAM[0], LAM[-1]
    theta[6, 0], theta[7, 0] = LAM[0] - 0.5, LAM[-1] + 0.5
    return np.ascontiguousarray(theta[:, : len(get_profile(profile).parameters)])


def make_windows(components, seed=0):
    """Random windows, of which one is empty, one is a pixel and several are the whole spectrum."""
    rng = np.random.default_rng(seed)
    center = np.searchsorted(LAM, components[:, 0])
    half = rng.integers(20, 400, len(components))
    start, stop = np.clip(center - half, 0, len(LAM)), np.clip(center + half, 0, len(LAM))
    start[:3], stop[:3] = 0, len(LAM)
    start[8], stop[8] = 50, 50
    start[9], stop[9] = 50, 51
    return start.astype(np.int64), stop.astype(np.int64)


def components_of(theta, profile):
    return np.ascontiguousarray(get_profile(profile).components(torch.tensor(theta)).numpy())


def in_numpy(theta, profile):
    """The spectrum by the equations in the docstring of `kernels.line_profiles`, every line on every pixel."""
    flux = np.ones(len(LAM))
    for line in theta:
        x, (a, sigma, gamma) = LAM - line[0], np.exp(line[1:4])
        if profile == "pseudo-voigt":
            flux *= 1 - np.clip(a * reference.pseudo_voigt(x, sigma, gamma), 0, 1 - 1e-9)
        elif profile == "saturated-voigt":
            v = a * reference.pseudo_voigt(x, sigma, gamma) / reference.pseudo_voigt(0.0, sigma, gamma)
            flux *= 1 - (1 - np.exp(-v)) / (1 + np.exp(-line[4]))
        elif profile == "minnaert":
            v = a * (np.exp(-(x**2) / (2 * sigma**2)) + np.exp(line[5]) / (1 + (x / gamma) ** 2))
            flux *= 1 - v / (1 + v) / (1 + np.exp(-line[4]))
        else:  # gully/blase: own width in each term, 2.3548 for 2 sqrt(2 ln 2)
            g, lo = 2.3548 * sigma, 2 * gamma
            f = (
                g**5
                + 2.69269 * g**4 * lo
                + 2.42843 * g**3 * lo**2
                + 4.47163 * g**2 * lo**3
                + 0.07842 * g * lo**4
                + lo**5
            ) ** 0.2
            eta = 1.36603 * (lo / f) - 0.47719 * (lo / f) ** 2 + 0.11116 * (lo / f) ** 3
            lorentz = gamma / (np.pi * (x**2 + gamma**2))
            gauss = np.exp(-0.5 * (x / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
            flux *= 1 - np.clip(a * (eta * lorentz + (1 - eta) * gauss), 0, 1 - 1e-9)
    return flux


@pytest.mark.parametrize("profile", NAMES)
def test_render_equals_the_written_out_equations(profile):
    theta = make_lines(profile)
    whole = np.zeros(len(theta), np.int64), np.full(len(theta), len(LAM), np.int64)
    got = fused.render(LAM, components_of(theta, profile), *whole, get_profile(profile).form)
    # 40 factors and reordered sums: 1e-12; blase's pi of ten digits differs by 1e-10 and its effect is clamped at most
    # to 1 / (1 - v) times that
    tolerance = {"rtol": 1e-11, "atol": 1e-9} if profile == "blase" else {"rtol": 1e-11, "atol": 1e-15}
    np.testing.assert_allclose(got, in_numpy(theta, profile), **tolerance)


@pytest.mark.parametrize("every_pixel", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("profile", NAMES)
def test_render_equals_plain_torch_on_windows(profile, seed, every_pixel):
    theta = make_lines(profile, seed)
    components = components_of(theta, profile)
    windows = make_windows(components, seed)
    form = get_profile(profile).form
    got = fused.render(LAM, components, *windows, form, every_pixel=every_pixel)
    # rounding of 40 factors; where a clamped line leaves 1e-9, the subtraction 1 - v costs digits relative to it
    np.testing.assert_allclose(
        got, line_product_reference(LAM, torch.tensor(components), *windows, form).numpy(), rtol=1e-12, atol=1e-20
    )


@pytest.mark.parametrize("every_pixel", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("profile", NAMES)
def test_gradient_equals_autograd_of_the_plain_torch(profile, seed, every_pixel):
    theta = make_lines(profile, seed)
    windows = make_windows(components_of(theta, profile), seed)
    weight = torch.tensor(np.random.default_rng(seed).normal(size=len(LAM)))
    form, gradients = get_profile(profile).form, []
    for product in (partial(line_product, every_pixel=every_pixel), line_product_reference):
        parameters = torch.tensor(theta, requires_grad=True)
        flux = product(LAM, get_profile(profile).components(parameters), *windows, form)
        (flux * weight).sum().backward()
        gradients.append(parameters.grad.numpy())
    assert np.abs(gradients[1]).max() > 1  # not all zero
    # sums over 700 pixels of mixed sign, in another order
    np.testing.assert_allclose(*gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("profile", NAMES)
def test_gradient_equals_finite_differences(profile):
    theta = make_lines(profile, seed=2)
    windows = make_windows(components_of(theta, profile), seed=2)
    weight = np.random.default_rng(2).normal(size=len(LAM))
    form = get_profile(profile).form
    parameters = torch.tensor(theta, requires_grad=True)
    flux = line_product(LAM, get_profile(profile).components(parameters), *windows, form)
    (flux * torch.tensor(weight)).sum().backward()

    def loss(theta):
        return fused.render(LAM, components_of(theta, profile), *windows, form) @ weight

    numeric = np.empty_like(theta)
    for index in np.ndindex(*theta.shape):
        # steps small beside the narrowest line (0.001 angstrom): truncation of order h^2 / width^2
        h = 1e-7 if index[1] == 0 else 1e-6
        shifted = theta.copy()
        shifted[index] += h
        up = loss(shifted)
        shifted[index] -= 2 * h
        # what was added is not h: centers of 8500 keep 1e-12 of it
        numeric[index] = (up - loss(shifted)) / ((theta[index] + h) - (theta[index] - h))
    # rounding of the loss (1e-14) over the step; pixels at the edge of the clamp are kinks, weighed by their share
    np.testing.assert_allclose(parameters.grad.numpy(), numeric, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("profile", NAMES)
def test_jacobian_equals_finite_differences_through_the_profile(profile):
    theta = make_lines(profile, seed=3)
    theta = np.delete(theta, 3, axis=0)  # a line narrower than a pixel has no usable difference in its center
    form = get_profile(profile).form
    copies = torch.tensor(theta, requires_grad=True)
    chain = np.stack(
        [
            torch.autograd.grad(get_profile(profile).components(copies)[:, k].sum(), copies, allow_unused=True)[
                0
            ].numpy()
            for k in range(6)
        ],
        axis=1,
    )
    components = components_of(theta, profile)
    if get_profile(profile).chain is not None:
        np.testing.assert_allclose(get_profile(profile).chain(components), chain, rtol=1e-14, atol=1e-300)
    start, stop = make_windows(components, seed=3)
    flux = fused.render(LAM, components, start, stop, form)
    jac = fused.jacobian(LAM, components, np.ascontiguousarray(chain), start, stop, flux, form)
    assert jac.shape == (theta.shape[1], (stop - start).sum())
    edge = np.concatenate([[0], np.cumsum(stop - start)])
    for j in range(len(theta)):
        window = slice(start[j], stop[j])
        for k in range(theta.shape[1]):
            h = 1e-6
            shifted = [theta.copy(), theta.copy()]
            shifted[0][j, k] -= h
            shifted[1][j, k] += h
            low, high = (fused.render(LAM, components_of(t, profile), start, stop, form) for t in shifted)
            numeric = ((high - low) / (shifted[1][j, k] - shifted[0][j, k]))[window]
            got = jac[k, edge[j] : edge[j + 1]]
            # truncation h^2 f''' / 6 = 1e-12 / width^3 (0.01 angstrom): 1e-6; and no pixel sits at the clamp's kink
            np.testing.assert_allclose(got, numeric, rtol=1e-5, atol=1e-6, err_msg=f"line {j}, parameter {k}")


def test_clamped_pixels_have_no_gradient():
    components = np.array([[LAM[350], 3.0, 0.5, 2.0, 0.3, 0.0]])
    start, stop = np.array([345]), np.array([356])  # the core only, all of it clamped
    np.testing.assert_array_equal(
        fused.gradient(LAM, components, start, stop, np.ones(len(LAM)), forms.THIN), np.zeros((1, 6))
    )
    np.testing.assert_allclose(fused.render(LAM, components, start, stop, forms.THIN)[345:356], 1e-9, rtol=1e-6)


@pytest.mark.parametrize("profile", NAMES)
def test_no_lines_is_the_continuum(profile):
    empty = np.empty((0, len(get_profile(profile).parameters)))
    for wing_cut in (None, 6000):
        np.testing.assert_array_equal(render_lines(LAM, empty, profile=profile, wing_cut=wing_cut), np.ones(len(LAM)))


@pytest.mark.parametrize("profile", NAMES)
def test_order_of_lines_does_not_matter(profile):
    theta = make_lines(profile)
    forward = render_lines(LAM, theta, profile=profile, wing_cut=300)
    # a product of 40 factors in another order
    np.testing.assert_allclose(
        render_lines(LAM, theta[::-1].copy(), profile=profile, wing_cut=300), forward, rtol=1e-13
    )


def test_saturating_forms_stay_above_their_limiting_depth():
    for profile in ("minnaert", "saturated-voigt"):
        theta = np.array([[LAM[350], 12.0, np.log(0.1), np.log(0.05), 0.5, -3.0]])[
            :, : len(get_profile(profile).parameters)
        ]
        flux = render_lines(LAM, theta, profile=profile, wing_cut=None)
        # optical depth e^12 at the center: 1 - v / (1 + v) leaves 6e-6 of D
        assert flux.min() == pytest.approx(1 - 1 / (1 + np.exp(-0.5)), rel=2e-5)
