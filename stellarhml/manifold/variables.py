"""Variables of interpolation: each label, or an increasing function of it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from stellarhml._state import StateError, take_array, take_list

THETA = 5040.0  # K; 5040 K / Teff is the base-ten exponent of a Boltzmann factor per eV of excitation energy
SATURATION = 0.2  # 1/dex; measured on [Fe/H] from -0.5 to 0.5, where lines grow more slowly than their element


class Variable(NamedTuple):
    """An increasing function of a label, its derivative, and whether it needs positive labels."""

    value: Callable
    slope: Callable
    positive: bool


def _same(x):
    return x


def _inverse(x):
    return -THETA / x


def _inverse_slope(x):
    return THETA / x**2


def _saturating(x):
    return -np.exp(-SATURATION * x)


def _saturating_slope(x):
    return SATURATION * np.exp(-SATURATION * x)


VARIABLES = {
    "linear": Variable(_same, np.ones_like, positive=False),
    "inverse": Variable(_inverse, _inverse_slope, positive=True),
    "log": Variable(np.log, np.reciprocal, positive=True),
    "saturating": Variable(_saturating, _saturating_slope, positive=False),
}
"""By name: x, -5040 / x, ln x, and -exp(-0.2 x) with x in dex."""

DEFAULT_VARIABLES = {"feh": "saturating"}
"""Variables with a smaller interpolation error than the label itself, by the label's name."""


def check_variables(variables, names):
    """The name of the variable of each label; ValueError if a label or a variable is unknown.

    Labels that are not in the dict `variables` are used themselves.
    """
    unknown = [name for name in variables if name not in names]
    if unknown:
        raise ValueError(
            f"`variables` has {unknown}, but the labels are {list(names)}. Use those names, or set `label_names`."
        )
    for name, variable in variables.items():
        if variable not in VARIABLES:
            raise ValueError(
                f"`variables` sets {name!r} to {variable!r}, but there are only {sorted(VARIABLES)}. Choose one."
            )
    return tuple(variables.get(name, "linear") for name in names)


def check_variable_values(nodes, variables, names):
    """Raise ValueError where a variable is undefined, not finite, or the same for different labels of the nodes."""
    for column, variable, name in zip(nodes.T, variables, names, strict=True):
        if variable == "linear":
            continue
        axis = np.unique(column)
        found = f"The variable {variable!r} of {name!r}"
        cure = "Choose another in `variables`; variables={} uses the labels themselves."
        if VARIABLES[variable].positive and axis[0] <= 0:
            raise ValueError(f"{found} needs positive labels, but there is {axis[0]:g}. {cure}")
        with np.errstate(over="ignore", under="ignore"):
            value, slope = VARIABLES[variable].value(axis), VARIABLES[variable].slope(axis)
        bad = ~(np.isfinite(value) & np.isfinite(slope))
        if bad.any():
            raise ValueError(f"{found} is not finite at {axis[np.argmax(bad)]:g}. {cure}")
        if len(axis) > 1 and np.diff(value).min() <= 0:
            first = int(np.argmin(np.diff(value)))
            raise ValueError(
                f"{found} has the same value at {axis[first]:g} and {axis[first + 1]:g}, to the last digit. {cure}"
            )


def take_nodes(state):
    """Distinct nodes (n_nodes, n_labels), sorted, and the variable of each label (or None), of a state of weights.

    StateError if they are invalid, or a variable is undefined at a node.
    """
    nodes = take_array(state, "nodes", dtype="f8", shape=(None, None), low=-1e100, high=1e100)
    if not nodes.size or not np.array_equal(np.unique(nodes, axis=0), nodes):
        raise StateError(
            f"`nodes` has shape {nodes.shape}; it needs at least one node and one label, sorted and distinct."
        )
    variables = take_list(state, "variables", str, length=nodes.shape[1], optional=True)
    if variables is None:
        return nodes, None
    names = [f"label {k}" for k in range(nodes.shape[1])]
    try:
        variables = check_variables(dict(zip(names, variables, strict=True)), names)
        check_variable_values(nodes, variables, names)
    except ValueError as error:
        raise StateError(str(error)) from None
    return nodes, variables
