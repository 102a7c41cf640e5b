"""Maps over two labels of a grid: choice of the labels, and drawing of cells."""

from typing import NamedTuple

import numpy as np

from stellarhml.plotting._style import COLOUR_MAP, MISSING, label_symbol, label_text

_FIRST_CHOICE = ("teff", "logg")
_MAX_TICKS = 12


class Plane(NamedTuple):
    """Two labels as axes, and values of the others.

    `axes` are the names of the labels and `columns` their columns, `rest` the columns of the others; `point`
    (n_labels,) holds values of all labels, the largest of the grid where none was given; `given` the given ones, by
    name.
    """

    axes: tuple
    columns: tuple
    rest: list
    point: np.ndarray
    given: dict


def choose_plane(names, nodes, labels=None, fixed=None):
    """Choose the axes of a map, and check them against the `nodes` (n, n_labels) of the grid; returns a Plane.

    `labels` are the horizontal and the vertical axis; None: "teff" and "logg" where both vary, else the first two that
    do. `fixed` are values of other labels, by name. ValueError if a label is unknown or does not vary, or a value lies
    outside the grid.
    """
    names, fixed = tuple(names), dict(fixed or {})
    low, high = nodes.min(axis=0), nodes.max(axis=0)
    varying = [name for name, extent in zip(names, high - low, strict=True) if extent > 0]
    if len(varying) < 2:
        raise ValueError(
            f"A map needs two labels that vary over the grid, but only {tuple(varying)} do. Use a larger grid."
        )
    if labels is None:
        labels = _FIRST_CHOICE if set(_FIRST_CHOICE) <= set(varying) else varying[:2]
    labels = tuple(labels)
    if len(labels) != 2 or len(set(labels)) != 2 or not {*labels, *fixed} <= set(names) or set(labels) & set(fixed):
        raise ValueError(f"`labels` is {labels} and `fixed` {fixed}, but the grid has {names}. Name two of them.")
    if not set(labels) <= set(varying):
        raise ValueError(f"`labels` is {labels}, but only {tuple(varying)} vary over the grid. Name two of these.")
    columns = tuple(names.index(name) for name in labels)
    point = high.astype(np.float64)
    for name, value in fixed.items():
        k = names.index(name)
        if not low[k] <= value <= high[k]:
            raise ValueError(f"`fixed` has {name}={value:g}, but the grid has {low[k]:g} to {high[k]:g}. Stay inside.")
        point[k] = value
    return Plane(labels, columns, [k for k in range(len(names)) if k not in columns], point, fixed)


def labels_text(names, values):
    """Labels and their values as text, such as "log g = 4.5"."""
    text = ", ".join(f"{label_symbol(name)} = {value:g}" for name, value in zip(names, values, strict=True))
    return text.replace("-", "\N{MINUS SIGN}")


def fill_cells(x, y, x_values, y_values, values):
    """Cells of a map, shape (n_y, n_x), from values at points (x, y); NaN in cells without a value."""
    cells = np.full((len(y_values), len(x_values)), np.nan)
    cells[np.searchsorted(y_values, y), np.searchsorted(x_values, x)] = values
    return cells


def draw_cells(ax, axes, x, y, values, *, norm, nodes=True):
    """Draw a map of `values` (n_y, n_x) over increasing `x` and `y`; cells without a value (NaN) are grey.

    Cells that are nodes have white edges. Returns the matplotlib mesh.
    """
    look = {"edgecolors": "white", "lw": 0.5} if nodes else {}
    mesh = ax.pcolormesh(cell_edges(x), cell_edges(y), values, cmap=COLOUR_MAP, norm=norm, rasterized=True, **look)
    ax.set_facecolor(MISSING)
    ax.set_xlabel(label_text(axes[0]))
    ax.set_ylabel(label_text(axes[1]))
    if nodes and len(y) <= _MAX_TICKS:
        ax.set_yticks(y)
    if nodes and len(x) == 1:
        ax.set_xticks(x)
    return mesh


def cell_edges(values):
    """Edges of cells around increasing values."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 1:
        return values[0] + np.array([-0.5, 0.5])
    middle = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])
