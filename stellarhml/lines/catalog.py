"""Identity of lines across spectra: one catalogue, to which each spectrum's detections are matched."""

import numpy as np


def build_catalog(detections, *, n_pixels, tolerance):
    """Merge the detections of many spectra into one list of lines.

    Positions where most spectra have a line come first; each takes the detections within `tolerance` that
    no earlier line has taken. With ``tolerance=0`` every pixel with a detection is a line (the paper's rule).

    Parameters
    ----------
    detections : list of (pixels, prominences, widths)
        Lines of each spectrum, as `peaks.detect_lines` returns them.
    n_pixels : int
        Length of the spectra.
    tolerance : int
        Largest distance from a catalogue line, in pixels.

    Returns
    -------
    catalog : ndarray of shape (n_lines,), int64
        Pixels of the lines, increasing.
    prominence : ndarray of shape (n_lines,)
        Largest prominence of each line.
    width : ndarray of shape (n_lines,)
        Median width of each line, in angstrom.
    """
    counts = np.zeros(n_pixels, dtype=np.int64)
    for pixels, _, _ in detections:
        counts[pixels] += 1
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
    catalog = np.sort(np.array(chosen, dtype=np.int64))
    # two lines of one spectrum that are nearest to the same catalogue line: the one that loses it gets its own
    for pixels, _, _ in detections:
        lost = pixels[match_to_catalog(pixels, catalog, tolerance=tolerance) < 0]
        catalog = np.union1d(catalog, lost).astype(np.int64) if len(lost) else catalog
    return catalog, *_summarise(detections, catalog, tolerance)


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


def _summarise(detections, catalog, tolerance):
    """Largest prominence and median width of each catalogue line over all spectra."""
    matched = [match_to_catalog(pixels, catalog, tolerance=tolerance) for pixels, _, _ in detections]
    line = np.concatenate([lines[lines >= 0] for lines in matched])
    prominences = np.concatenate([p[lines >= 0] for lines, (_, p, _) in zip(matched, detections, strict=True)])
    widths = np.concatenate([w[lines >= 0] for lines, (_, _, w) in zip(matched, detections, strict=True)])
    prominence, width = np.zeros(len(catalog)), np.zeros(len(catalog))
    np.maximum.at(prominence, line, prominences)
    order = np.lexsort((widths, line))
    stop = np.searchsorted(line[order], np.arange(len(catalog)), side="right")
    begin = np.searchsorted(line[order], np.arange(len(catalog)))
    middle = (begin + stop) // 2  # upper median
    return prominence, widths[order][middle] if len(catalog) else width
