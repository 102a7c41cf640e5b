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

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,)
        Increasing wavelengths in angstrom.
    flux : ndarray of shape (n_pixels,), float64
        Normalised flux.
    theta : ndarray of shape (n_lines, n_parameters)
        Start values.
    profile : str
        Name of the profile.
    wing_cut : int or None
        Pixels on which a line is evaluated, around its start value; None adapts them to each start value.
    pixels : slice
        Pixels of the loss.
    learning_rate : float
        Step size of Adam, in units of the parameters.
    max_iter : int
        Number of epochs.
    device : str or torch.device, default=None
        Device, such as "cuda". None: the compiled kernels of the CPU.
    n_threads : int, default=1
        Threads on the CPU; the result does not depend on it.

    Returns
    -------
    theta : ndarray of shape (n_lines, n_parameters), float64
        Fitted parameters.
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
    """Fit lines to many spectra at once, each as `train_adam` would.

    Adam steps each parameter separately, so that the spectra are independent.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,)
        Increasing wavelengths in angstrom.
    flux : ndarray of shape (n_spectra, n_pixels), float64
        Normalised fluxes.
    theta : list of ndarray of shape (n_lines_of_spectrum, n_parameters)
        Start values for each spectrum.
    profile, wing_cut, pixels, learning_rate, max_iter : str, int or None, slice, float, int
        As in `train_adam`.
    device : str or torch.device
        Device, such as "cuda".

    Returns
    -------
    theta : list of ndarray of shape (n_lines_of_spectrum, n_parameters), float64
        Fitted parameters.
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
