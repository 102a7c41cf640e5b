"""Tables of the lines at given labels."""

import pandas as pd

from stellarhml.kernels.rendering import line_equivalent_widths
from stellarhml.synthesis.line_values import QUANTITIES

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
    return table


def slope_of(quantity, theta, slope, bounds, profile):
    """Derivative of a quantity of lines with respect to a label, from central differences, shape (n_lines,).

    `quantity` is a function of `QUANTITIES`; `theta` and `slope` (n_lines, n_parameters) are the parameters and their
    derivatives with respect to the label. The step is 0.001 of the label's range, `bounds`.
    """
    low, high = bounds
    step = _STEP * (high - low) if high > low else 1.0
    above, below = (quantity(theta + sign * step * slope, profile) for sign in (1, -1))
    return (above - below) / (2 * step)
