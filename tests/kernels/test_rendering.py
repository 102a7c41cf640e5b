"""Depths, equivalent widths, and training by Adam."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from stellarhml.kernels import profiles
from stellarhml.kernels.autograd import line_product_reference
from stellarhml.kernels.rendering import line_depths, line_equivalent_widths, render_lines, train_adam

ROWS = {
    # weak, strong (saturated or clamped), broad wings; wings narrower and wider than the core
    "pseudo-voigt": [[8500, -5, -2.5, -3.5], [8500, 1.0, -2.0, -2.0], [8500, -2.0, -2.5, -1.0]],
    "blase": [[8500, -5, -2.5, -3.5], [8500, 1.0, -2.0, -2.0], [8500, -2.0, -2.5, -1.0]],
    "saturated-voigt": [[8500, -3, -2.5, -3.5, 1.0], [8500, 3.0, -2.0, -2.0, 0.5], [8500, 5.0, -2.5, -1.0, 2.0]],
    "minnaert": [[8500, -3, -2.5, -1.5, 1.0, -3], [8500, 3.0, -2.0, -3.0, 0.5, -1], [8500, 6.0, -2.5, -1.0, 2.0, -3]],
}
CASES = [(name, np.array(row, dtype=float)) for name, rows in ROWS.items() for row in rows]


def one_line(row, profile, wavelength):
    """Depth of a single line, rendered on all of its pixels."""
    return 1 - render_lines(wavelength, row[None], profile=profile, wing_cut=wavelength.size)


@pytest.mark.parametrize(("profile", "row"), CASES)
def test_depth_is_that_of_the_rendered_line_at_its_center(profile, row):
    rendered = one_line(row, profile, row[0] + np.array([-0.5, 0.0, 0.5]))[1]
    np.testing.assert_allclose(line_depths(row[None], profile), rendered, rtol=1e-14)


@pytest.mark.parametrize(("profile", "row"), CASES)
def test_equivalent_width_is_the_integral_of_the_rendered_line(profile, row):
    scale = np.exp(max(row[2], row[3]))

    def integrand(t):  # x = scale sinh(t) carries the wings far out
        x = scale * np.sinh(t)
        return one_line(row, profile, row[0] + np.array([x]))[0] * scale * np.cosh(t)

    kinks = np.arcsinh(np.array([0.3, 1, 3, 10]))
    area = 2 * quad(integrand, 0, np.arcsinh(1e4), points=kinks, epsabs=0, epsrel=1e-6, limit=400)[0]
    # the docstring's promise for its own quadrature
    np.testing.assert_allclose(line_equivalent_widths(row[None], profile), area, rtol=1e-3)


@pytest.mark.parametrize("profile", ["pseudo-voigt"])
def test_equivalent_width_of_a_thin_line_is_its_amplitude(profile):
    row = np.array([[8500.0, -5.0, -2.5, -3.5]])
    # unit area of Eq. 2; 1e-3 for the quadrature
    np.testing.assert_allclose(line_equivalent_widths(row, profile), np.exp(-5.0), rtol=1e-3)


@pytest.mark.parametrize("profile", ["pseudo-voigt", "minnaert"])
def test_training_takes_the_steps_of_torch_adam_on_the_plain_model(profile):
    wavelength = 8500 + 0.05 * np.arange(200)
    truth = np.array([[8503.0, -2.5, -2.3, -3.0, 1.0, -3.0], [8506.02, -3.0, -2.0, -2.5, 0.8, -2.5]])
    truth = truth[:, : len(profiles.get_profile(profile).parameters)]
    flux = render_lines(wavelength, truth, profile=profile, wing_cut=200)
    begin = truth + 0.2 * np.random.default_rng(0).normal(size=truth.shape)
    pixels = slice(10, 180)
    got = train_adam(
        wavelength, flux, begin, profile=profile, wing_cut=200, pixels=pixels, learning_rate=0.05, max_iter=25
    )

    parameters = torch.tensor(begin, requires_grad=True)
    optimizer = torch.optim.Adam([parameters], lr=0.05, amsgrad=True)
    start, stop = np.zeros(2, np.int64), np.full(2, 200)
    for _ in range(25):
        optimizer.zero_grad()
        components = profiles.get_profile(profile).components(parameters)
        model = line_product_reference(wavelength, components, start, stop, profiles.get_profile(profile).form)
        ((model[pixels] - torch.tensor(flux[pixels])) ** 2).mean().backward()
        optimizer.step()
    # Adam divides by the size of the gradient, so that gradients equal to 1e-10 give steps equal to about that
    np.testing.assert_allclose(got, parameters.detach().numpy(), rtol=0, atol=1e-8)


def test_training_leaves_its_start_values_alone():
    wavelength = 8500 + 0.05 * np.arange(100)
    begin = np.array([[8502.0, -3.0, -2.3, -3.0]])
    kept = begin.copy()
    options = {"profile": "pseudo-voigt", "wing_cut": None, "pixels": slice(None), "learning_rate": 0.05}
    trained = train_adam(wavelength, np.full(100, 0.9), begin, max_iter=3, **options)
    np.testing.assert_array_equal(begin, kept)
    assert trained.flags.writeable
    assert np.abs(trained - begin).max() > 0.01
