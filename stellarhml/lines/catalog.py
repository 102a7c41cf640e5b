"""Identity of lines across spectra: one catalogue, to which each spectrum's detections are matched."""

import numpy as np


def build_catalog(detections, *, n_pixels, tolerance):
    """Merge the detections of many spectra into one list of lines.

    Positions where most spectra have a line come first; each takes the detections within `tolerance` that
    no earlier line has taken. With ``tolerance=0`` every pixel with a detection is a line (the paper's rule).

    Parameters
    ----------
    detections : iterable of ndarray of int
        Pixels of the lines of each spectrum.
    n_pixels : int
        Length of the spectra.
    tolerance : int
        Largest distance from a catalogue line, in pixels.

    Returns
    -------
    catalog : ndarray of shape (n_lines,), int64
        Pixels of the lines, increasing.
    """
    counts = np.zeros(n_pixels, dtype=np.int64)
    for pixels in detections:
        counts[pixels] += 1
    if tolerance == 0:
        return np.flatnonzero(counts)
    total = np.concatenate([[0], np.cumsum(counts)])
    pixel = np.arange(n_pixels)
    near = total[np.minimum(pixel + tolerance + 1, n_pixels)] - total[np.maximum(pixel - tolerance, 0)]
    candidates = np.flatnonzero(counts)
    # most detections nearby first; among equals the pixel with most of its own, then the bluer one
    order = candidates[np.lexsort((candidates, -counts[candidates], -near[candidates]))]
    left = counts > 0
    chosen = []
    for pixel in order:
        if left[pixel]:
            chosen.append(pixel)
            left[max(0, pixel - tolerance) : pixel + tolerance + 1] = False
    return np.sort(np.array(chosen, dtype=np.int64))


def match_to_catalog(pixels, catalog, *, tolerance):
    """Catalogue line of each detection of one spectrum.

    Parameters
    ----------
    pixels : ndarray of shape (n_detections,), int64
        Increasing pixels of the detections.
    catalog : ndarray of shape (n_lines,), int64
        Increasing pixels of the catalogue.
    tolerance : int
        Largest distance, in pixels.

    Returns
    -------
    lines : ndarray of shape (n_detections,), int64
        Index of the nearest catalogue line, or -1: too far, or nearer to another detection (the bluer one of
        two at the same distance keeps it).
    """
    if not len(catalog):
        return np.full(len(pixels), -1, dtype=np.int64)
    right = np.clip(np.searchsorted(catalog, pixels), 0, len(catalog) - 1)
    left = np.maximum(right - 1, 0)
    lines = np.where(np.abs(catalog[left] - pixels) <= np.abs(catalog[right] - pixels), left, right)
    distance = np.abs(catalog[lines] - pixels)
    order = np.lexsort((pixels, distance))
    taken = np.full(len(catalog), -1, dtype=np.int64)
    for k in order[::-1]:  # the nearest writes last
        taken[lines[k]] = k
    keep = (distance <= tolerance) & (taken[lines] == np.arange(len(pixels)))
    return np.where(keep, lines, -1)
