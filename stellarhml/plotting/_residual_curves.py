"""Curves over pixels: breaks at gaps, shading of unused pixels, and running RMS of residuals."""

import numpy as np

from stellarhml.plotting._style import MISSING

_GAP = 5.0  # median steps: a wider step is a gap, where curves break
_RMS_PIXELS, _RMS_POINTS = 32, 400  # running RMS: smallest number of pixels, and about the largest number of values


def break_gaps(columns):
    """Insert NaN in gaps, so that curves break, and at the end.

    `columns` (n_columns, n_pixels) are increasing wavelengths, and values over them.
    """
    steps = np.diff(columns[0])
    gaps = np.flatnonzero(steps > _GAP * np.median(steps)) + 1 if len(steps) else []
    return np.insert(columns, [*gaps, columns.shape[1]], np.nan, axis=1)


def shade(axes, wavelength, unused):
    """Shade pixels that were not used, with one bar for each run of them; returns the matplotlib collection.

    `wavelength` (n_pixels,) [angstrom], NaN in gaps; `unused` (n_pixels,) bool.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], unused, [0]])))
    first, last = edges[::2], edges[1::2] - 1
    half = 0.5 * np.nanmedian(np.diff(wavelength)) if len(wavelength) > 2 else 0.5
    runs = np.column_stack([wavelength[first] - half, wavelength[last] - wavelength[first] + 2 * half])
    return axes.broken_barh(runs, (0, 1), transform=axes.get_xaxis_transform(), color=MISSING, lw=0, zorder=0.5)


def rms(values):
    """RMS of the values that are not NaN."""
    return np.sqrt(np.nanmean(values**2))


def running_rms(wavelength, values):
    """Mean wavelengths and RMS of runs of pixels, with NaN in gaps, and the smallest number of pixels in a run.

    `wavelength` (n_pixels,) [angstrom] of orders that may overlap; `values` (n_pixels,), NaN where a pixel is not used.
    """
    good = np.flatnonzero(np.isfinite(values))
    good = good[np.argsort(wavelength[good], kind="stable")]
    x, values = wavelength[good], values[good]
    length = max(_RMS_PIXELS, -(-len(good) // _RMS_POINTS))
    steps, pieces = np.diff(x), []
    cuts = np.flatnonzero(steps > _GAP * length * np.median(steps)) + 1 if len(steps) else []
    for part in np.split(np.arange(len(x)), cuts):
        runs = np.array_split(part, max(1, len(part) // length))
        pieces += [(x[run].mean(), rms(values[run])) for run in runs] + [(np.nan, np.nan)]
    return *np.array(pieces).T, length
