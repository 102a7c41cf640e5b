"""Polynomial continua through local maxima.

A continuum through each spectrum's *own* maxima (the paper's) changes its set of pixels from one grid node to the
next, and the normalised flux jumps with it. Through pixels *shared* by all spectra the continuum is linear in the
flux, so it is as smooth in the labels as the flux itself.
"""

import numpy as np
from numpy.polynomial import legendre
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

SUNKEN = 0.02
"""Share of the continuum by which a maximum may lie below it: inside a broad line there are maxima too."""


def find_anchors(flux, *, distance, width=1):
    """Local maxima of a spectrum, at least `distance` pixels apart.

    Parameters
    ----------
    flux : ndarray of shape (n_pixels,)
        Flux, any unit.
    distance : int
        Smallest distance between two maxima, in pixels; more than the spectrum has keeps the highest one.
    width : int, default=1
        The flux is averaged over this many pixels first.

    Returns
    -------
    anchors : ndarray of shape (n_anchors,), int64
        Pixels of the maxima, increasing; the highest pixel if there is no local maximum.
    """
    smooth = uniform_filter1d(flux, width, mode="nearest") if width > 1 else flux
    anchors = find_peaks(smooth, distance=max(1, min(distance, flux.size)))[0]
    return anchors if anchors.size else np.array([int(np.argmax(smooth))])


def drop_sunken_anchors(flux, wavelength, anchors, *, degree, width=1):
    """Leave out anchors that lie inside lines: far below the polynomial through the others.

    Parameters
    ----------
    flux : ndarray of shape (n_pixels,)
        The spectrum on which the anchors were found.
    wavelength : ndarray of shape (n_pixels,)
        Increasing wavelengths in angstrom.
    anchors : ndarray of shape (n_anchors,), int64
        Pixels of local maxima.
    degree, width : int
        As in `continuum_operator`.

    Returns
    -------
    anchors : ndarray of shape (n_kept,), int64
        Without those more than 2 % below the fit, dropped one by one from the lowest; degree + 2 are always kept.
    """
    while len(anchors) > degree + 2:
        solve, basis, members = continuum_operator(wavelength, anchors, degree=degree, width=width)
        level = flux[members].mean(axis=1)
        ratio = level / (basis[anchors] @ (solve @ level))
        lowest = int(np.argmin(ratio))
        if ratio[lowest] > 1 - SUNKEN:
            break
        anchors = np.delete(anchors, lowest)
    return anchors


def continuum_operator(wavelength, anchors, *, degree, width=1):
    """Least-squares polynomial through anchors, as two small matrices.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,)
        Increasing wavelengths in angstrom.
    anchors : ndarray of shape (n_anchors,)
        Pixels to fit.
    degree : int
        Degree of the polynomial in wavelength; at most n_anchors - 1 is used.
    width : int, default=1
        An anchor's flux is the mean over this many pixels around it.

    Returns
    -------
    solve : ndarray of shape (n_coefficients, n_anchors)
        Anchor fluxes to Legendre coefficients.
    basis : ndarray of shape (n_pixels, n_coefficients)
        Coefficients to continuum.
    members : ndarray of shape (n_anchors, width), int64
        Pixels that make up each anchor.
    """
    degree = min(degree, len(anchors) - 1)
    span = max(wavelength[-1] - wavelength[0], np.finfo(float).tiny)
    x = 2 * (wavelength - wavelength[0]) / span - 1
    basis = legendre.legvander(x, degree)
    solve = np.linalg.pinv(basis[anchors])
    members = np.clip(anchors[:, None] + np.arange(width) - width // 2, 0, wavelength.size - 1)
    return solve, basis, members
