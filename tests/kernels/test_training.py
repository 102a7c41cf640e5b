"""Training by Adam."""

import numpy as np
import pytest
import torch

from stellarhml.kernels.autograd import line_product_reference
from stellarhml.kernels.line_profiles import get_profile
from stellarhml.kernels.rendering import render_lines
from stellarhml.kernels.training import train_adam


@pytest.mark.parametrize("profile", ["pseudo-voigt", "minnaert"])
def test_training_takes_the_steps_of_torch_adam_on_the_plain_model(profile):
    wavelength = 8500 + 0.05 * np.arange(200)
    truth = np.array([[8503.0, -2.5, -2.3, -3.0, 1.0, -3.0], [8506.02, -3.0, -2.0, -2.5, 0.8, -2.5]])
    truth = truth[:, : len(get_profile(profile).parameters)]
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
        components = get_profile(profile).components(parameters)
        model = line_product_reference(wavelength, components, start, stop, get_profile(profile).form)
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
