"""A generator with lines that its grid lacks."""

import copy

import numpy as np

from stellarhml.kernels.rendering import line_depths, line_equivalent_widths
from stellarhml.synthesis.evaluation import LineModel

_LIKE = 20  # lines of similar strength, of which a new one is the median
_STEPS = 60  # bisections of a log amplitude
_FAINTEST, _STRONGEST = -30.0, 10.0  # log amplitudes


def add_lines(generator, wavelengths, equivalent_widths, labels):
    """Build a generator from a fitted one, with more lines.

    A new line is like the grid's lines of the most similar strength: it has the median of their widths, and changes
    with the labels by the mean of their changes, but its center is the same at all labels. Its species is not known.
    Residuals, the preprocessor and the error model stay.

    Parameters
    ----------
    generator : SpectrumGenerator
        A fitted generator; it is not changed.
    wavelengths : ndarray of shape (n_new,)
        Wavelengths of the lines at rest [vacuum angstrom]. Lines outside the band, and lines at the very pixel of one
        of the catalogue, are left out.
    equivalent_widths : ndarray of shape (n_new,)
        Equivalent widths at `labels` [angstrom], positive.
    labels : ndarray of shape (n_labels,)
        Labels at which they were found.

    Returns
    -------
    extended : SpectrumGenerator
        The new generator.
    places : ndarray of shape (n_lines,), int
        Places of the lines of `generator` in the catalogue of `extended`.
    new : ndarray of shape (n_kept,), int
        Places of the new lines there, in the order of `kept`.
    kept : ndarray of shape (n_kept,), int
        Lines that were not left out.
    """
    decomposer = generator.decomposer_
    grid, catalog, profile = np.asarray(generator.wavelength_), decomposer.line_catalog_, decomposer.profile
    pixels = np.searchsorted((grid[1:] + grid[:-1]) / 2, wavelengths)
    _, first = np.unique(pixels, return_index=True)
    free = (wavelengths > grid[0]) & (wavelengths < grid[-1]) & ~np.isin(grid[pixels], catalog)
    kept = first[free[first]]
    pixels, wavelengths, equivalent_widths = pixels[kept], wavelengths[kept], equivalent_widths[kept]
    n_lines, n_new = len(catalog), len(kept)
    order = np.argsort(np.concatenate([grid[decomposer.line_pixels], grid[pixels]]), kind="stable")
    places = np.argsort(order)
    weights, _ = generator.interpolator_.locate(np.reshape(labels, (1, -1)))
    present, theta, _ = generator.lines_.lines(weights)
    like = _similar(theta, wavelengths, equivalent_widths, profile)
    shapes = np.empty((n_new, theta.shape[1]))
    for shape, own, wavelength in zip(shapes, like, wavelengths, strict=True):
        shape[:] = _median_line(theta[own], wavelength)
    shapes[:, 1] = _log_amplitudes(shapes, equivalent_widths, profile)
    like = present[like]
    table = generator.interpolator_.table_.with_lines(shapes, like, weights.indices, weights.data, order)
    extended = copy.copy(generator)
    extended.decomposer_ = decomposer.with_lines(pixels, line_depths(shapes, profile), np.exp(shapes[:, 2]), like)
    extended.interpolator_ = generator.interpolator_.with_table(table)
    lines = generator.lines_
    extended.lines_ = LineModel(extended.interpolator_, lines.wavelength, profile=profile, wing_cut=lines.wing_cut)
    if generator.error_map_ is not None:
        extended.error_map_ = generator.error_map_.with_interpolator(extended.interpolator_)
    if generator.tags_ is not None:
        extended.tags_ = generator.tags_.with_lines(n_new, order)
    return extended, places[:n_lines], places[n_lines:], kept


def _similar(theta, wavelengths, equivalent_widths, profile):
    """Numbers of the lines (of theta) most similar to new ones in reduced equivalent width, (n_new, n_like)."""
    with np.errstate(divide="ignore"):
        own = np.log(line_equivalent_widths(theta, profile) / theta[:, 0])
    distance = np.abs(own - np.log(equivalent_widths / wavelengths)[:, None])
    return np.argsort(distance, axis=1, kind="stable")[:, :_LIKE]


def _median_line(theta, wavelength):
    """Median of lines (n, n_parameters), moved to a wavelength: widths in angstrom are proportional to it."""
    moved = theta.copy()
    moved[:, 2:4] += np.log(wavelength / theta[:, :1])
    moved[:, 0] = wavelength
    return np.median(moved, axis=0)


def _log_amplitudes(theta, equivalent_widths, profile):
    """Log amplitudes with which lines have given equivalent widths, (n,), by bisection."""
    theta = theta.copy()
    low, high = np.full(len(theta), _FAINTEST), np.full(len(theta), _STRONGEST)
    for _ in range(_STEPS):
        theta[:, 1] = 0.5 * (low + high)
        above = line_equivalent_widths(theta, profile) > equivalent_widths
        low, high = np.where(above, low, theta[:, 1]), np.where(above, theta[:, 1], high)
    return 0.5 * (low + high)
