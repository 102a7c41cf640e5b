"""What the parameters of a line do to the flux."""

import numpy as np
from scipy.integrate import trapezoid

from stellarhml.kernels.line_profiles import get_profile
from stellarhml.kernels.rendering import line_components, line_losses

_STEP = 1e-4  # in the logarithms; in widths of the line for its center
_POINTS = np.sinh(np.linspace(-np.arcsinh(1e5), np.arcsinh(1e5), 401)) * 1e-2  # 10^3 widths to either side
_AT_ONCE = 512


def line_effects(theta, profile):
    r"""Root of the integral of the squared derivative of a line's flux with respect to each of its parameters.

    Parameters
    ----------
    theta : ndarray of shape (n_lines, n_parameters)
        Line parameters.
    profile : str
        Name of the profile.

    Returns
    -------
    effect : ndarray of shape (n_lines, n_parameters)
        :math:`[\int (\partial f / \partial \theta)^2 d\lambda]^{1/2}` of each line alone, in the root of angstroms over
        the unit of the parameter.
    """
    blocks = [_effects(theta[first : first + _AT_ONCE], profile) for first in range(0, len(theta), _AT_ONCE)]
    return np.concatenate(blocks) if blocks else np.empty(theta.shape)


def _effects(theta, profile):
    """Effects of some lines, by central differences and quadrature."""
    components, form = line_components(theta, profile), get_profile(profile).form
    width = np.maximum(components[:, 2], components[:, 4])
    wavelength = components[:, :1] + _POINTS * width[:, None]
    effect = np.empty(theta.shape)
    for k in range(theta.shape[1]):
        step = np.full(len(theta), _STEP) if k else _STEP * components[:, 4]
        losses = []
        for sign in (-1, 1):
            moved = theta.copy()
            moved[:, k] += sign * step
            losses.append(line_losses(line_components(moved, profile), wavelength, form))
        slope = (losses[1] - losses[0]) / (2 * step[:, None])
        effect[:, k] = np.sqrt(trapezoid(slope**2, wavelength, axis=1))
    return effect
