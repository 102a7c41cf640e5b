"""One quantity of each line at many labels, such as for a map over the grid."""

import numpy as np

from stellarhml.kernels.rendering import line_depths, line_equivalent_widths, line_saturations

QUANTITIES = {
    "depth": line_depths,
    "equivalent_width": line_equivalent_widths,
    "saturation": line_saturations,
}
"""Quantities of a line besides its parameters, as functions of the parameters and the name of the profile."""


def line_values(generator, labels, name, lines=None):
    """One quantity of each line at `labels` (n, n_labels), shape (n, n_lines) float64.

    `name` is one of the decomposer's `line_parameters` or of `QUANTITIES` (else ValueError); `lines` are increasing
    catalogue indices, None for all. NaN where a line is absent, and at labels outside the grid.
    """
    decomposer, interpolator = generator.decomposer_, generator.interpolator_
    parameters = tuple(decomposer.line_parameters)
    if name not in (*parameters, *QUANTITIES):
        raise ValueError(
            f"`parameter` is {name!r}, but the lines have {parameters} and {tuple(QUANTITIES)}. Name one of them."
        )
    if lines is not None:
        interpolator = interpolator.with_table(interpolator.table_.only(lines))
    wanted = np.arange(len(decomposer.line_catalog_)) if lines is None else np.asarray(lines)
    weights, outside = interpolator.locate(labels)
    values = np.full((len(outside), len(wanted)), np.nan)
    for i in np.flatnonzero(~outside):
        present, theta, _ = interpolator.lines_at(weights[i], wanted=wanted)
        found = QUANTITIES[name](theta, decomposer.profile) if name in QUANTITIES else theta[:, parameters.index(name)]
        values[i, np.searchsorted(wanted, present)] = found
    return values


def count_lines(generator, labels, *, depth=0.005):
    """Number of lines at `labels` (n, n_labels), shape (n,) int64; zero outside the grid.

    `depth` is the smallest central depth of a single line that is counted, in units of the continuum.
    """
    # row by row: depths of all lines at all nodes would fill the memory
    rows = (line_values(generator, [row], "depth") for row in np.asarray(labels, dtype=np.float64))
    return np.array([np.count_nonzero(values >= depth) for values in rows], dtype=np.int64)
