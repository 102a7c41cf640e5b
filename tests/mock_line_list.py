"""Lists of transitions for the lines of a generator."""

import numpy as np
import pandas as pd

from stellarhml.lines.line_lists import LineList

ZERO_POINTS = {"Fe I": 5.5, "CN": 1.0}


def mock_line_list(generator, *, left_out=()):
    """One transition for each line, of iron and CN in turn, as strong as the line at the middle of the grid.

    Transitions of the lines `left_out`, by their numbers, are not in the list.
    """
    table = generator.line_table(generator.interpolator_.nodes_.mean(axis=0))
    species = np.array(list(ZERO_POINTS))[np.arange(len(table)) % 2]
    zero = np.array([ZERO_POINTS[name] for name in species])
    log_gf = table["log_amplitude"].to_numpy() / np.log(10) - zero
    columns = species, table["center"].to_numpy(), np.zeros(len(table)), log_gf
    return LineList(*(np.delete(column, list(left_out)) for column in columns))


def write_line_list(path, transitions):
    """Write a LineList as CSV, in vacuum."""
    pd.DataFrame(transitions._asdict()).to_csv(path, index=False, float_format="%.6f")
    return str(path)
