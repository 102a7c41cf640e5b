"""Tables of the lines at given labels."""

import numpy as np
import pandas as pd

from stellarhml.kernels.rendering import line_equivalent_widths
from stellarhml.lines.tags import tag_lines
from stellarhml.synthesis.line_values import QUANTITIES, line_values

_N_NODES = 8  # nodes over the grid at which lines are tagged that are absent in its middle
_STEP = 1e-3  # step of the differences, in units of the label's range


def make_line_table(generator, weights, slopes):
    """Lines as a DataFrame, one row each, see `SpectrumGenerator.line_table`.

    `weights` of the training rows, csr_matrix (1, n_rows); `slopes`, a matrix of the same shape with their derivatives
    for each label.
    """
    decomposer, names = generator.decomposer_, generator.label_names_
    profile = decomposer.profile
    lines, theta, change = generator.lines_.lines(weights, slopes)
    catalog = pd.Index(decomposer.line_catalog_[lines], name="line")
    table = pd.DataFrame(theta, columns=list(decomposer.line_parameters), index=catalog)
    for name, quantity in QUANTITIES.items():
        table[name] = quantity(theta, profile)
    for name, slope, bounds in zip(names, change, generator.interpolator_.bounds_, strict=True):
        table[f"equivalent_width_per_{name}"] = slope_of(line_equivalent_widths, theta, slope, bounds, profile)
    return table.assign(**tag_columns(generator, lines))


def tag_columns(generator, lines):
    """Tags of lines by their numbers (n,) in the catalogue, see `LineTags.of_lines`; {} without tags."""
    return {} if generator.tags_ is None else generator.tags_.of_lines(lines)


def tags_of(generator, transitions):
    """LineTags of a generator by a LineList: at the middle of the grid, and where a line is absent there, at nodes."""
    names = generator.label_names_
    if "teff" not in names:
        raise ValueError(
            f"The labels of the generator are {', '.join(names)}, but tagging needs 'teff', in K: the strengths of "
            "transitions depend on it."
        )
    wavelength, nodes = generator.wavelength_, generator.interpolator_.nodes_
    if not ((transitions.wavelength > wavelength[0]) & (transitions.wavelength < wavelength[-1])).any():
        raise ValueError(
            f"The line list has {len(transitions.wavelength)} transitions, none of them in the generator's band, "
            f"{wavelength[0]:.1f} to {wavelength[-1]:.1f} vacuum angstrom. Pass a list for this band."
        )
    middle = np.argmin((((nodes - nodes.mean(axis=0)) / (np.ptp(nodes, axis=0) + 1e-9)) ** 2).sum(axis=1))
    spread = np.linspace(0, len(nodes) - 1, _N_NODES).round().astype(int)
    labels = nodes[[middle, *spread]]
    centers, depths = (line_values(generator, labels, name) for name in ("center", "log_amplitude"))
    first = np.isfinite(depths).argmax(axis=0)  # of an absent line 0, where it is NaN
    lines = np.arange(depths.shape[1])
    temperature = labels[first, names.index("teff")]
    return tag_lines(centers[first, lines], depths[first, lines] / np.log(10), transitions, temperature)


def slope_of(quantity, theta, slope, bounds, profile):
    """Derivative of a quantity of lines with respect to a label, from central differences, shape (n_lines,).

    `quantity` is a function of `QUANTITIES`; `theta` and `slope` (n_lines, n_parameters) are the parameters and their
    derivatives with respect to the label. The step is 0.001 of the label's range, `bounds`.
    """
    low, high = bounds
    step = _STEP * (high - low) if high > low else 1.0
    above, below = (quantity(theta + sign * step * slope, profile) for sign in (1, -1))
    return (above - below) / (2 * step)
