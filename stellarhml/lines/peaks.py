"""Lines of a spectrum as minima of its flux, with blase's start values."""

import math

import numpy as np
from scipy.signal import find_peaks, peak_widths

from stellarhml.kernels.profiles import get_profile

# Start values of gully/blase, found there by experiment: a = 0.14 prominence [angstrom],
# sigma = 1.28 w / sqrt(2), gamma = 1.52 w / sqrt(2), w = half-prominence width / 2.355
AMPLITUDE_FACTOR = 0.14
SIGMA_FACTOR = 1.28 / math.sqrt(2)
GAMMA_FACTOR = 1.52 / math.sqrt(2)
FWHM_PER_SIGMA = 2.355
SATURATED_DEPTH = 0.9  # start value of the limiting depth of a saturated line: deep lines of cool stars reach it


def detect_lines(wavelength, flux, *, prominence, distance=4, edge=0.0):
    """Find absorption lines.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,)
        Increasing wavelengths in angstrom.
    flux : ndarray of shape (n_pixels,)
        Normalised flux.
    prominence : float
        Smallest prominence of a minimum, in units of the flux.
    distance : int, default=4
        Smallest distance between two minima, in pixels.
    edge : float, default=0.0
        Minima closer than this to either end are left out, in angstrom.

    Returns
    -------
    pixels : ndarray of shape (n_lines,), int64
        Pixels of the minima, increasing.
    prominences : ndarray of shape (n_lines,)
        Their prominences.
    widths : ndarray of shape (n_lines,)
        Their widths at half prominence divided by 2.355: a standard deviation, in angstrom.
    """
    if flux.size < 3:
        return np.empty(0, np.int64), np.empty(0), np.empty(0)
    pixels, found = find_peaks(-flux, prominence=prominence, distance=distance)
    if edge > 0:
        inside = (wavelength[pixels] > wavelength[0] + edge) & (wavelength[pixels] < wavelength[-1] - edge)
        pixels, found = pixels[inside], {key: value[inside] for key, value in found.items()}
    prominences = found["prominences"]
    data = (prominences, found["left_bases"], found["right_bases"])
    widths = peak_widths(-flux, pixels, prominence_data=data)[0] * np.diff(wavelength)[pixels] / FWHM_PER_SIGMA
    return pixels, prominences, widths


def start_values(centers, prominences, widths, profile):
    """Start values of line parameters from detections.

    Parameters
    ----------
    centers : ndarray of shape (n_lines,)
        Wavelengths of the minima, in angstrom.
    prominences : ndarray of shape (n_lines,)
        Their prominences.
    widths : ndarray of shape (n_lines,)
        Their widths as standard deviations, in angstrom.
    profile : str
        Name of the profile.

    Returns
    -------
    theta : ndarray of shape (n_lines, n_parameters)
        Start values, for the first two profiles those of blase.
    """
    widths = np.maximum(widths, np.finfo(np.float64).tiny)
    theta = [centers, np.log(AMPLITUDE_FACTOR * prominences), np.log(SIGMA_FACTOR * widths), np.log(GAMMA_FACTOR * widths)]
    if "logit_depth" in get_profile(profile).parameters:
        depth = np.full(len(centers), SATURATED_DEPTH)
        theta[1] = np.log(-np.log1p(-np.minimum(prominences / depth, 0.95)))
        theta.append(np.log(depth / (1 - depth)))
    return np.stack(theta, axis=1)
