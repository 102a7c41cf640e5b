"""Which weights interpolate between given nodes."""

import numpy as np

from stellarhml.manifold.lattice import LATTICE_SHARE, LatticeWeights
from stellarhml.manifold.scattered import ScatteredWeights
from stellarhml.manifold.variables import DEFAULT_VARIABLES, check_variable_values, check_variables


def make_weights(nodes, names, *, method, variables, breaks):
    """Weights of the nodes, in their variables.

    Parameters
    ----------
    nodes : ndarray of shape (n_nodes, n_labels)
        Distinct labels of the nodes.
    names : tuple of str
        Names of the labels.
    method : {"auto", "linear", "scattered"}
        As in `LineManifoldInterpolator`.
    variables, breaks : dict or None
        As in `LineManifoldInterpolator`.

    Returns
    -------
    weights : LatticeWeights or ScatteredWeights
        The weights.

    Raises
    ------
    ValueError
        If `variables` or `breaks` do not fit the labels.
    GridIncompleteError
        If ``method="linear"`` and nodes are missing.
    """
    grid = method == "linear" or (method == "auto" and LatticeWeights.share(nodes) >= LATTICE_SHARE)
    if variables is None:
        default = DEFAULT_VARIABLES if grid and method == "auto" else {}
        variables = {name: variable for name, variable in default.items() if name in names}
    variables = check_variables(variables, names)
    check_variable_values(nodes, variables, names)
    breaks = _check_breaks(breaks or {}, names)
    if not grid and len(names) > 1:
        return ScatteredWeights(nodes, variables)
    full_for = names if method == "linear" else None
    return LatticeWeights(nodes, smooth=method == "auto", full_for=full_for, variables=variables, breaks=breaks)


def _check_breaks(breaks, names):
    """Breaks of each label, as a tuple of tuples of float."""
    unknown = [name for name in breaks if name not in names]
    if unknown:
        raise ValueError(
            f"`breaks` has {unknown}, but the labels are {list(names)}. Use those names, or set `label_names`."
        )
    found = {name: np.atleast_1d(np.asarray(values, dtype=np.float64)) for name, values in breaks.items()}
    for name, values in found.items():
        if values.ndim != 1 or not np.isfinite(values).all():
            raise ValueError(
                f"`breaks` of {name!r} is {breaks[name]!r}; it needs a list of finite values of the label."
            )
    return tuple(tuple(found[name].tolist()) if name in found else () for name in names)
