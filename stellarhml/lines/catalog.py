"""The catalogue: one list of lines for all spectra, and the detections of each spectrum that belong to them.

Distances are velocities, in km/s, unless the decomposer has no wavelengths: then they are pixels.
"""

from typing import NamedTuple

import numpy as np

from stellarhml.lines.tracking import SPEED_OF_LIGHT, summarise_lines, track_lines


class Detections(NamedTuple):
    """Minima of one spectrum, all of shape (n_detections,)."""

    pixels: np.ndarray
    """Pixels, increasing."""
    positions: np.ndarray
    """Velocities that stand for wavelengths (see `velocity_scale`), between pixels."""
    prominences: np.ndarray
    """In units of the continuum."""
    widths: np.ndarray
    """Standard deviations in angstrom."""


class Catalog(NamedTuple):
    """Lines of all spectra, all of shape (n_lines,)."""

    pixels: np.ndarray
    """Pixels, strictly increasing."""
    prominences: np.ndarray
    """Largest prominence of each line."""
    widths: np.ndarray
    """Median width of each line, in angstrom."""
    n_spectra: np.ndarray
    """Number of spectra in which it was detected."""
    members: list
    """For each spectrum the line of each of its detections, shape (n_detections,)."""


def velocity_scale(wavelength):
    """Positions of pixels on a scale on which distances are velocities.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,) or int
        Wavelengths in angstrom; or the number of pixels, whose index then is the scale.

    Returns
    -------
    scale : ndarray of shape (n_pixels,)
        c ln(wavelength) in km/s, or the pixel index.
    """
    if np.ndim(wavelength):
        return SPEED_OF_LIGHT * np.log(wavelength)
    return np.arange(float(wavelength))


def build_catalog(detections, scale, *, labels=None, tolerance):
    """Merge the detections of many spectra into one list of lines.

    Parameters
    ----------
    detections : list of Detections
        Lines of each spectrum.
    scale : ndarray of shape (n_pixels,)
        What `velocity_scale` returned.
    labels : ndarray of shape (n_spectra, n_labels), default=None
        Labels of the spectra, along whose axes lines are tracked.
    tolerance : float
        Largest distance between a line in one spectrum and in the next. 0: equal pixels, the paper's rule.

    Returns
    -------
    catalog : Catalog
        The lines.
    """
    # the tracker takes wavelengths, of which only the ratios count
    middle = scale[len(scale) // 2]
    places = [d.positions if tolerance else scale[d.pixels] for d in detections]
    centers = [np.exp((place - middle) / SPEED_OF_LIGHT) for place in places]
    lines = track_lines(centers, labels if tolerance else None, tolerance=tolerance)
    summary = summarise_lines(lines, centers, [d.prominences for d in detections], [d.widths for d in detections])
    pixels = nearest_pixel(scale, middle + SPEED_OF_LIGHT * np.log(summary.center))
    # two lines whose middles share a pixel cannot be told apart by it
    pixels, first, member = np.unique(pixels, return_index=True, return_inverse=True)
    members = [member.ravel()[row] for row in lines]
    prominences = np.zeros(len(pixels))
    np.maximum.at(prominences, member.ravel(), summary.prominence)
    n_spectra = np.bincount(member.ravel(), weights=summary.n_spectra, minlength=len(pixels)).astype(np.int64)
    return Catalog(pixels.astype(np.int64), prominences, summary.width[first], n_spectra, members)


def nearest_pixel(scale, positions):
    """Pixel nearest to each position.

    Parameters
    ----------
    scale : ndarray of shape (n_pixels,)
        Increasing positions of the pixels.
    positions : ndarray of shape (n,)
        Positions.

    Returns
    -------
    pixels : ndarray of shape (n,), int64
        Pixels; of two equally near the bluer.
    """
    right = np.clip(np.searchsorted(scale, positions), 0, len(scale) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(scale[left] - positions) <= np.abs(scale[right] - positions), left, right)


def match_to_catalog(positions, lines, *, tolerance):
    """Catalogue line of each detection of one spectrum.

    Parameters
    ----------
    positions : ndarray of shape (n_detections,)
        Increasing positions of the detections.
    lines : ndarray of shape (n_lines,)
        Increasing positions of the lines.
    tolerance : float
        Largest distance.

    Returns
    -------
    matched : ndarray of shape (n_detections,), int64
        Index of the nearest line, or -1: too far, or nearer to another detection (the bluer one of two at the same
        distance keeps it).
    """
    if not len(lines):
        return np.full(len(positions), -1, dtype=np.int64)
    matched = nearest_pixel(lines, positions).astype(np.int64)
    distance = np.abs(lines[matched] - positions)
    taken = np.full(len(lines), -1, dtype=np.int64)
    order = np.lexsort((positions, distance))[::-1]
    taken[matched[order]] = order  # the nearest writes last
    keep = (distance <= tolerance) & (taken[matched] == np.arange(len(positions)))
    return np.where(keep, matched, -1)
