"""Line fits by the paper's training: automatic differentiation and Adam."""

import numpy as np
import torch

from stellarhml.kernels import gpu
from stellarhml.kernels.autograd import line_product
from stellarhml.kernels.line_profiles import get_profile
from stellarhml.kernels.rendering import line_components, profile_windows


def train_adam(
    wavelength, flux, theta, *, profile, wing_cut, pixels, learning_rate, max_iter, device=None, n_threads=1
):
    """Fit lines to a spectrum by the paper's training: mean squared error, Adam with amsgrad.

    From start values `theta` (n_lines, n_parameters) to fitted ones, float64, in `max_iter` epochs; the normalised
    `flux` (n_pixels,) counts on the slice `pixels`, `learning_rate` is in units of the parameters. Windows are those of
    the start values: of `wing_cut` pixels, or, if None, adapted to each. `device` is a torch device, such as "cuda";
    None: the compiled kernels of the CPU, whose result does not depend on `n_threads`.
    """
    if device is not None:
        options = {"profile": profile, "wing_cut": wing_cut, "learning_rate": learning_rate, "max_iter": max_iter}
        return train_adam_batch(wavelength, flux[None], [theta], pixels=pixels, device=device, **options)[0]
    start, stop = profile_windows(wavelength, line_components(theta, profile), profile, wing_cut)
    copies = len(start) // len(theta)
    components_of, form = get_profile(profile).components, get_profile(profile).form
    parameters = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    target = torch.tensor(flux[pixels], dtype=torch.float64)

    def loss():
        components = components_of(parameters).repeat(copies, 1)
        model = line_product(wavelength, components, start, stop, form, n_threads=n_threads)
        return torch.nn.functional.mse_loss(model[pixels], target)

    return _adam(parameters, loss, learning_rate, max_iter)


def train_adam_batch(wavelength, flux, theta, *, profile, wing_cut, pixels, learning_rate, max_iter, device):
    """Fit lines to many spectra (n_spectra, n_pixels) at once, each as `train_adam` would.

    Adam steps each parameter separately, so that the spectra are independent. `theta`, and the result, are lists of
    arrays (n_lines_of_spectrum, n_parameters), one for each spectrum.
    """
    n_lines = [len(rows) for rows in theta]
    theta = np.concatenate(theta)
    start, stop = profile_windows(wavelength, line_components(theta, profile), profile, wing_cut)
    copies = len(start) // max(len(theta), 1)
    spectrum = np.tile(np.repeat(np.arange(len(n_lines)), n_lines), copies)
    layout = gpu.lay_out(wavelength, start, stop, spectrum=spectrum, n_spectra=len(n_lines), device=device)
    components_of, form = get_profile(profile).components, get_profile(profile).form
    parameters = torch.tensor(theta, dtype=torch.float64, device=device, requires_grad=True)
    target = torch.tensor(flux[:, pixels], dtype=torch.float64, device=device)

    def loss():
        components = components_of(parameters).repeat(copies, 1)
        model = line_product(None, components, None, None, form, layout=layout)
        return ((model[:, pixels] - target) ** 2).mean(dim=1).sum()

    fitted = _adam(parameters, loss, learning_rate, max_iter)
    return np.split(fitted, np.cumsum(n_lines)[:-1])


def _adam(parameters, loss, learning_rate, max_iter):
    """Minimise; return the parameters as an array."""
    adam = torch.optim.Adam([parameters], learning_rate, amsgrad=True)
    for _ in range(max_iter):
        adam.zero_grad()
        loss().backward()
        adam.step()
    return parameters.detach().cpu().numpy().copy()
