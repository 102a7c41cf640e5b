"""States of the tables of a calibrator, for a file."""

import numpy as np
import pandas as pd

from stellarhml._state import Sizes, check_keys, take, take_array, take_list
from stellarhml.calibration.star_estimates import KINDS

TAGS = {"species": str, "excitation": "f8", "log_gf": "f8"}
"""Types of the columns of corrections of lines with species."""

CORRECTIONS = {
    "wavelength": "f8",
    "equivalent_width": "f8",
    "n_stars": "i8",
    **{f"{kind}{suffix}": "f8" for kind in KINDS for suffix in ("", "_std")},
    "absent": "b1",
    "added": "b1",
}
"""Types of the columns of corrections; the first is the index."""

SPECIES = {"species": str, "zero_point": "f8", "zero_point_std": "f8", "n_stars": "i8"}
"""Types of the columns of zero points; the first is the index."""


def table_state(table):
    """State of a table: its columns, and the index under its own name; columns of text are lists."""
    columns = table.reset_index()
    return {
        name: column.tolist() if column.dtype.kind in "OUT" else column.to_numpy() for name, column in columns.items()
    }


def take_table(state, key, types, *, optional=()):
    """DataFrame of a key from its `table_state`; StateError if it is invalid.

    `types` of the columns by name, of which the first is the index; columns of `optional` follow it where they are
    there, all of them or none.
    """
    columns = take(state, key, dict)
    more = dict(optional) if any(name in columns for name in optional) else {}
    index, *others = types
    wanted = {index: types[index], **more, **{name: types[name] for name in others}}
    check_keys(columns, tuple(wanted))
    sizes, found = Sizes(), {}
    for name, kind in wanted.items():
        if kind is str:
            found[name] = np.array(take_list(columns, name, str, length="n_rows", sizes=sizes), dtype=object)
        else:
            found[name] = take_array(columns, name, dtype=kind, shape=("n_rows",), sizes=sizes, finite=False)
    return pd.DataFrame({name: column for name, column in found.items() if name != index}).set_index(
        pd.Index(found[index], name=index)
    )
