"""Lines of a spectrum as minima of its flux, as gully/blase finds them."""

import numpy as np
from scipy.signal import find_peaks, peak_widths

FWHM_PER_SIGMA = 2.355  # as in gully/blase


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
