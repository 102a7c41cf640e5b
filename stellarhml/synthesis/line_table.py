"""Tables of the lines at given labels."""

import pandas as pd

from stellarhml.kernels.rendering import line_equivalent_widths
from stellarhml.synthesis.line_values import QUANTITIES

_STEP = 1e-3  # step of the differences, in units of the label's range


def make_line_table(generator, weights, slopes):
    """Tabulate lines.

    Parameters
    ----------
    generator : SpectrumGenerator
        A fitted generator.
    weights : csr_matrix of shape (1, n_rows)
        Weights of the training rows.
    slopes : list of csr_matrix of shape (1, n_rows)
        Derivatives of the weights with respect to each label.

    Returns
    -------
    table : DataFrame
        One row per line, as in `SpectrumGenerator.line_table`.
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
    """Derivative of a quantity of lines with respect to a label.

    Parameters
    ----------
    quantity : callable
        One of `QUANTITIES`.
    theta, slope : ndarray of shape (n_lines, n_parameters)
        Parameters of lines, and their derivatives with respect to the label.
    bounds : tuple of (float, float)
        Range of the label; the step is 0.001 of it.
    profile : str
        Name of the line profile.

    Returns
    -------
    derivative : ndarray of shape (n_lines,)
        Derivatives from central differences.
    """
    low, high = bounds
    step = _STEP * (high - low) if high > low else 1.0
    above, below = (quantity(theta + sign * step * slope, profile) for sign in (1, -1))
    return (above - below) / (2 * step)
