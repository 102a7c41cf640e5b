"""Start values of line parameters, and for the second-order fit what holds them in place."""

import math

import numpy as np

from stellarhml.kernels.rendering import render_lines
from stellarhml.kernels.second_order import Start

# Start values of gully/blase, found there by experiment: a = 0.14 prominence [angstrom],
# sigma = 1.28 w / sqrt(2), gamma = 1.52 w / sqrt(2), w = half-prominence width / 2.355
AMPLITUDE_FACTOR = 0.14
SIGMA_FACTOR = 1.28 / math.sqrt(2)
GAMMA_FACTOR = 1.52 / math.sqrt(2)

STRONG = 0.3  # prominence from which a line's own shape is free: it shows its saturation and its damping wings
_LIMITING_DEPTH = 0.65  # of unsaturated lines, which do not show it; metal lines of the SME grid reach 0.6 to 0.8
_LOG_WING = -3.0  # wings of a twentieth of the core, which is what weak lines of the SME grid have
# Per parameter: center [in line widths], log_amplitude, log_sigma, log_gamma, logit_depth, log_wing. Chosen on
# held-out nodes of the SME grid (windows of 50 to 400 angstrom) and of the PHOENIX H band: interpolated lines plus
# residual against the node. Loose amplitudes and depths let one flat line swallow a blend at some nodes
_PRIOR_WEAK, _PRIOR_STRONG = (0.3, 3.0, 0.3, 0.5, 0.25, 1.0), (0.5, 1.5, 0.4, 0.7, 0.12, 1.0)
_REACH_WEAK, _REACH_STRONG = (1.0, 3.0, 1.0, 2.0, 3.0, 3.0), (1.0, 4.0, 2.0, 3.0, 5.0, 4.0)
_SHRINK = 0.1  # of the prior's widths once they are around what many other spectra have taught
_STEP = (0.5, 0.7, 0.7, 0.7, 0.7, 0.7)


def blase_start(centers, prominences, widths, parameters):
    """Start values of blase, from detections.

    Parameters
    ----------
    centers, prominences, widths : ndarray of shape (n_lines,)
        Wavelengths [angstrom], prominences and standard deviations [angstrom] of the minima.
    parameters : tuple of str
        Parameters of the profile.

    Returns
    -------
    theta : ndarray of shape (n_lines, n_parameters)
        Start values; for profiles with a limiting depth, the amplitude is the optical depth that gives the prominence.
    """
    widths = np.maximum(widths, np.finfo(np.float64).tiny)
    theta = [
        centers,
        np.log(AMPLITUDE_FACTOR * prominences),
        np.log(SIGMA_FACTOR * widths),
        np.log(GAMMA_FACTOR * widths),
    ]
    if "logit_depth" in parameters:
        depth = limiting_depth(prominences)
        share = np.clip(prominences / depth, 1e-9, 0.95)
        theta[1] = np.log(share / (1 - share))
        theta.append(np.log(depth / (1 - depth)))
    if "log_wing" in parameters:
        theta.append(np.full(len(centers), _LOG_WING))
    return np.stack(theta, axis=1)


def limiting_depth(depth):
    """Start value of the limiting depth of lines that are `depth` deep, dimensionless, shape (n_lines,)."""
    return np.maximum(_LIMITING_DEPTH, np.minimum(depth + 0.05, 0.97))


def second_order_start(centers, depths, prominences, widths, parameters):
    """Start, prior and bounds of the second-order fit.

    Parameters
    ----------
    centers : ndarray of shape (n_lines,)
        Wavelengths by which the lines are known, in angstrom.
    depths : ndarray of shape (n_lines,)
        Depth of this spectrum there.
    prominences, widths : ndarray of shape (n_lines,)
        Largest prominence of each line over all spectra, and its median width [angstrom].
    parameters : tuple of str
        Parameters of the profile.

    Returns
    -------
    start : Start
        Arrays of shape (n_lines, n_parameters).
    """
    n_parameters = len(parameters)
    theta = blase_start(centers, np.clip(np.minimum(prominences, depths), 1e-3, 0.95), widths, parameters)
    if "log_wing" in parameters:
        limit = limiting_depth(np.clip(depths, 1e-3, 0.95))
        depth = np.clip(np.minimum(prominences, depths), 1e-3, 0.95)
        theta[:, 1] = np.log(depth / (limit - depth))
        theta[:, 2], theta[:, 3] = np.log(0.9 * widths), np.log(widths) + 1
        theta[:, 4] = np.log(limit / (1 - limit))
    strong = (prominences > STRONG)[:, None]
    prior = np.where(strong, _PRIOR_STRONG, _PRIOR_WEAK)[:, :n_parameters]
    reach = np.where(strong, _REACH_STRONG, _REACH_WEAK)[:, :n_parameters]
    step = np.tile(_STEP, (len(centers), 1))[:, :n_parameters]
    for scale in (prior, reach, step):
        scale[:, 0] *= widths
    return Start(theta, prior, step, reach)


def learnt_start(decomposer, flux):
    """Start, prior and bounds of all lines of the catalogue, from what other spectra have taught where there is any.

    Parameters
    ----------
    decomposer : VoigtLineDecomposer
        With its catalogue.
    flux : ndarray of shape (n_pixels,)
        Normalised flux.

    Returns
    -------
    start : Start
        Arrays of shape (n_catalog_lines, n_parameters).
    """
    pixels, prior = decomposer._catalog, decomposer._prior
    depths = 1 - flux[pixels]
    if prior is None:
        return _start(decomposer, depths)
    known, theta = decomposer._known, prior.predict(flux)
    if not known.all():
        # what the lines that are known leave over is the depth of the new ones
        clone = render_lines(decomposer.wavelength_, theta, profile=decomposer.profile, wing_cut=decomposer.wing_cut)
        depths = np.where(known, depths, (clone - flux)[pixels])
    start = _start(decomposer, depths)
    start.theta[known] = theta
    start.prior_width[known] *= max(_SHRINK, prior.leverage)
    return start


def _start(decomposer, depths):
    centers = decomposer.wavelength_[decomposer._catalog]
    return second_order_start(centers, depths, decomposer._prominence, decomposer._width, decomposer.line_parameters)
