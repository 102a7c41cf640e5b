"""Lines to flux and back: rendering, and training by automatic differentiation."""

import numpy as np
import torch

from stellarhml.kernels import forms, fused
from stellarhml.kernels.autograd import line_product
from stellarhml.kernels.profiles import get_profile
from stellarhml.kernels.windows import line_windows


def render_lines(wavelength, theta, *, profile, wing_cut, n_threads=1):
    """Render lines into a spectrum.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,)
        Increasing wavelengths in angstrom.
    theta : ndarray of shape (n_lines, n_parameters)
        Line parameters in the order of the profile.
    profile : str
        Name of the profile.
    wing_cut : int or None
        Pixels on which a line is evaluated; None adapts them to each line (see `kernels.windows`).
    n_threads : int, default=1
        Threads; the result does not depend on it.

    Returns
    -------
    flux : ndarray of shape (n_pixels,), float64
        Normalised flux, 1 where there is no line.
    """
    components = line_components(theta, profile)
    start, stop = line_windows(wavelength, components, wing_cut, as_blase=_pixels_of_blase(profile, wing_cut))
    if len(start) != len(components):
        components = np.tile(components, (2, 1))
    return fused.render(wavelength, components, start, stop, get_profile(profile).form, n_threads=n_threads)


def line_components(theta, profile):
    """Components of lines as the kernels take them.

    Parameters
    ----------
    theta : ndarray of shape (n_lines, n_parameters)
        Line parameters.
    profile : str
        Name of the profile.

    Returns
    -------
    components : ndarray of shape (n_lines, 6), float64
        Rows as in `kernels.fused`.
    """
    theta = torch.tensor(np.asarray(theta, dtype=np.float64))
    return np.ascontiguousarray(get_profile(profile).components(theta).numpy())


def line_depths(theta, profile):
    """Depth of each line alone at its center, in units of the continuum.

    Parameters
    ----------
    theta : ndarray of shape (n_lines, n_parameters)
        Line parameters.
    profile : str
        Name of the profile.

    Returns
    -------
    depth : ndarray of shape (n_lines,)
        Depths in [0, 1].
    """
    components = line_components(theta, profile)
    return _loss(components, components[:, :1], get_profile(profile).form)[:, 0]


def line_equivalent_widths(theta, profile):
    """Equivalent width of each line alone, in angstrom.

    Parameters
    ----------
    theta : ndarray of shape (n_lines, n_parameters)
        Line parameters.
    profile : str
        Name of the profile.

    Returns
    -------
    width : ndarray of shape (n_lines,)
        Integral of the depth over wavelength, by quadrature (to 1e-3 of itself) over 10^4 widths.
    """
    components = line_components(theta, profile)
    scale = np.maximum(components[:, 2], components[:, 4])[:, None]
    u = np.sinh(np.linspace(0, np.arcsinh(1e6), 801)) * 1e-2  # from a hundredth of the width to 10^4 of them
    depth = _loss(components, components[:, :1] + u * scale, get_profile(profile).form)
    return (2 * scale * 0.5 * (depth[:, 1:] + depth[:, :-1]) * np.diff(u)).sum(axis=1)


def _loss(components, wavelength, form):
    """1 - factor of each line at wavelengths of shape (n_lines, n)."""
    center, a_l, g, a_g, s, d = components.T[:, :, None]
    x = wavelength - center
    value = a_l / (1 + (x / g) ** 2) + a_g * np.exp(-0.5 * (x / s) ** 2)
    if form == forms.THIN:
        return np.minimum(value, forms.DEPTH_MAX)
    return d * (-np.expm1(-value) if form == forms.EXPONENTIAL else value / (1 + value))


def train_adam(wavelength, flux, theta, *, profile, wing_cut, pixels, learning_rate, max_iter, n_threads=1):
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
        Pixels that count in the loss.
    learning_rate : float
        Step size of Adam, in units of the parameters.
    max_iter : int
        Number of epochs.
    n_threads : int, default=1
        Threads; the result does not depend on it.

    Returns
    -------
    theta : ndarray of shape (n_lines, n_parameters), float64
        Fitted parameters.
    """
    start, stop = line_windows(
        wavelength, line_components(theta, profile), wing_cut, as_blase=_pixels_of_blase(profile, wing_cut)
    )
    copies = len(start) // len(theta)
    components_of, form = get_profile(profile).components, get_profile(profile).form
    parameters = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    target = torch.tensor(flux[pixels], dtype=torch.float64)
    adam = torch.optim.Adam([parameters], learning_rate, amsgrad=True)
    for _ in range(max_iter):
        adam.zero_grad()
        components = components_of(parameters).repeat(copies, 1)
        model = line_product(wavelength, components, start, stop, form, n_threads=n_threads)
        torch.nn.functional.mse_loss(model[pixels], target).backward()
        adam.step()
    return parameters.detach().numpy().copy()


def _pixels_of_blase(profile, wing_cut):
    return profile == "blase" and wing_cut is not None
