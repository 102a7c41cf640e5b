"""Select values of a label: all, a closed range, or exact values; and a range of wavelengths."""

from numbers import Real

import numpy as np

from stellarhml.exceptions import GridNotFoundError


def select_values(selection, available, name):
    """Select values of the label `name`, of those `available` in the grid; returns distinct values, sorted, float64.

    `selection` None takes all, a tuple (low, high) those in the closed range (GridNotFoundError if there is none); a
    number, a list or an array is taken as exact values, whether available or not. ValueError for another form.
    """
    available = np.unique(np.asarray(available, dtype=np.float64))
    if selection is None:
        return available
    if isinstance(selection, tuple):
        if (
            len(selection) != 2
            or not all(isinstance(limit, Real) for limit in selection)
            or selection[0] > selection[1]
        ):
            raise ValueError(
                f"`{name}` is the tuple {selection}, but a tuple is a closed range (lo, hi) with lo <= hi. Write "
                "exact values as a list."
            )
        values = available[(available >= selection[0]) & (available <= selection[1])]
        if not values.size:
            raise GridNotFoundError(
                f"`{name}` is the range {selection}, but there is no node in it: the grid has "
                f"{', '.join(f'{value:g}' for value in available)}. Widen the range."
            )
        return values
    # Four decimals are more than any grid has, and remove the rounding of np.arange and np.linspace.
    try:
        values = np.unique(np.round(np.asarray(selection, dtype=np.float64), 4) + 0.0)
    except (TypeError, ValueError):  # text, ragged lists, objects
        values = np.empty(0)
    if not values.size or not np.all(np.isfinite(values)):
        raise ValueError(
            f"`{name}` is {selection!r}, but exact values must be finite, at least one. Pass None for all values, a "
            "tuple (lo, hi) for a range, or a list of values."
        )
    return values


def check_limits(limits):
    """A range of wavelengths, (lo, hi) in angstrom."""
    if np.shape(limits) != (2,) or not all(isinstance(limit, Real) for limit in limits):
        raise ValueError(
            f"`wavelength` is {limits!r}, but it must be a range (lo, hi) in vacuum angstrom, or None for all pixels."
        )
    return limits
