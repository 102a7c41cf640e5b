"""Weights on a rectilinear grid of nodes, of which some may be missing: multilinear, or smooth and local.

The smooth weights are the tensor product of piecewise cubic Hermite interpolation with three-point slopes: continuous
with their first derivative, exact for quadratics on any spacing, at most four nodes per label.
"""

import itertools

import numpy as np
from scipy import sparse

from stellarhml.exceptions import GridIncompleteError

_EDGE = 1e-9  # labels this close to a bound, relative to the axis, count as inside


class LatticeWeights:
    """Weights of grid nodes at any labels, the same for everything that is interpolated.

    A node that is missing is itself interpolated between its neighbours on one axis (linearly, or by the polynomial
    through two on each side), the one on which they are fewest steps apart (on a tie, the axis with most values).
    Where a missing node has no neighbours on both sides of any axis, the cells that touch it count as outside.

    Parameters
    ----------
    nodes : ndarray of shape (n_nodes, n_labels)
        Distinct labels of the nodes.
    smooth : bool
        Cubic rather than linear weights, on axes of three nodes and more.
    full_for : tuple of str, default=None
        Names of the labels, if no node may be missing.

    Raises
    ------
    GridIncompleteError
        If a node is missing that may not be.
    """

    def __init__(self, nodes, *, smooth, full_for=None):
        self.axes = [np.unique(column) for column in nodes.T]
        shape = tuple(len(axis) for axis in self.axes)
        position = tuple(np.searchsorted(axis, column) for axis, column in zip(self.axes, nodes.T, strict=True))
        owner = np.full(shape, -1, dtype=np.int64)
        owner[position] = np.arange(len(nodes))
        self.nodes = nodes
        self.missing = np.argwhere(owner < 0)
        self._owner = owner
        if full_for is not None:
            self._require_full(full_for)
        self._fill = {tuple(hole): _fill_hole(owner, hole, self.axes, smooth) for hole in self.missing}
        self._slopes = [_slope_matrix(axis) if smooth and len(axis) > 2 else None for axis in self.axes]

    @staticmethod
    def share(nodes):
        """Fraction of the rectilinear grid spanned by `nodes` that is there."""
        return len(nodes) / np.prod([float(len(np.unique(column))) for column in nodes.T])

    def _require_full(self, names):
        """Raise GridIncompleteError if a node is missing."""
        if len(self.missing):
            first = {name: float(axis[i]) for name, axis, i in zip(names, self.axes, self.missing[0], strict=True)}
            shape = " x ".join(str(len(axis)) for axis in self.axes)
            raise GridIncompleteError(
                f"method='linear' needs all {self._owner.size} nodes of the {shape} grid of ({', '.join(names)}), but "
                f"{len(self.missing)} are missing, first {first}. Add them, or use method='auto', which accepts grids "
                "with missing nodes."
            )

    def weights(self, labels):
        """Weights of the nodes.

        Parameters
        ----------
        labels : ndarray of shape (n, n_labels)
            Where to interpolate; labels outside are moved to the edge of the grid.

        Returns
        -------
        weights : csr_matrix of shape (n, n_nodes)
            Rows sum to 1.
        outside : ndarray of shape (n,), bool
            Rows that were outside, or next to a missing node that nothing could stand for.
        """
        outside = np.zeros(len(labels), dtype=bool)
        inner = labels.copy()
        for k, axis in enumerate(self.axes):
            slack = _EDGE * max(axis[-1] - axis[0], abs(axis[0]), 1e-300)
            outside |= (labels[:, k] < axis[0] - slack) | (labels[:, k] > axis[-1] + slack)
            inner[:, k] = np.clip(labels[:, k], axis[0], axis[-1])
        smooth = [_axis_weights(*parts) for parts in zip(self.axes, self._slopes, inner.T, strict=True)]
        rows, columns, values = [], [], []
        for i in range(len(labels)):
            parts = self._combine([weights[i] for weights in smooth])
            if parts is None:  # a cubic reaches further than its cell: where that hits a hole, the cell's corners do
                parts = self._combine(
                    [_axis_weights(a, None, x[None])[0] for a, x in zip(self.axes, inner[i], strict=True)]
                )
            if parts is None:
                outside[i] = True
                parts = [(_nearest(self.nodes, self.axes, labels[i]), 1.0)]
            for node, weight in parts:
                rows.append(i)
                columns.append(node)
                values.append(weight)
        return sparse.csr_matrix((values, (rows, columns)), shape=(len(labels), len(self.nodes))), outside

    def _combine(self, per_axis):
        """Nodes and weights of a tensor product, or None where it needs a node that nothing stands for."""
        parts = []
        for index in itertools.product(*(np.flatnonzero(weights) for weights in per_axis)):
            weight = np.prod([weights[k] for weights, k in zip(per_axis, index, strict=True)])
            node = self._owner[index]
            stand_in = ((node, 1.0),) if node >= 0 else self._fill[tuple(map(int, index))]
            if stand_in is None:
                return None
            parts.extend((node_k, weight * share) for node_k, share in stand_in)
        return parts


def _slope_matrix(axis):
    """Derivatives at the nodes of an axis as linear functions of the values: the parabola through three neighbours."""
    n = len(axis)
    slopes = np.zeros((n, n))
    for i in range(n):
        k = np.clip(np.arange(i - 1, i + 2), 0, None) if i else np.arange(3)
        k = k - max(k[-1] - (n - 1), 0)
        a, b, c = axis[k]
        x = axis[i]
        slopes[i, k] = (
            (2 * x - b - c) / ((a - b) * (a - c)),
            (2 * x - a - c) / ((b - a) * (b - c)),
            (2 * x - a - b) / ((c - a) * (c - b)),
        )
    return slopes


def _axis_weights(axis, slopes, x):
    """Weights of the nodes of one axis at `x`, shape (n, n_nodes), zero but for the neighbours."""
    n = len(axis)
    rows = np.arange(len(x))
    weights = np.zeros((len(x), n))
    if n == 1:
        weights[:, 0] = 1
        return weights
    lower = np.clip(np.searchsorted(axis, x, side="right") - 1, 0, n - 2)
    width = axis[lower + 1] - axis[lower]
    t = (x - axis[lower]) / width
    if slopes is None:
        weights[rows, lower], weights[rows, lower + 1] = 1 - t, t
        return weights
    weights[rows, lower] = (1 + 2 * t) * (1 - t) ** 2
    weights[rows, lower + 1] = t**2 * (3 - 2 * t)
    weights += (width * t * (1 - t) ** 2)[:, None] * slopes[lower]
    weights -= (width * t**2 * (1 - t))[:, None] * slopes[lower + 1]
    return weights


def _fill_hole(owner, hole, axes, smooth):
    """Nodes and shares that stand for a missing node, or None."""
    best = None
    n_side = 2 if smooth else 1
    for k, axis in enumerate(axes):
        line = owner[tuple(hole[:k]) + (slice(None),) + tuple(hole[k + 1 :])]
        there = np.flatnonzero(line >= 0)
        below, above = there[there < hole[k]], there[there > hole[k]]
        if not (len(below) and len(above)):
            continue
        rank = (above[0] - below[-1], -len(axis), k)
        if best is None or rank < best[0]:
            support = np.concatenate([below[-n_side:], above[:n_side]])
            best = rank, tuple(zip(line[support].tolist(), _lagrange(axis[support], axis[hole[k]]), strict=True))
    return None if best is None else best[1]


def _lagrange(points, x):
    """Weights of the polynomial through `points` at `x`."""
    return [
        float(np.prod([(x - other) / (point - other) for other in np.delete(points, i)]))
        for i, point in enumerate(points)
    ]


def _nearest(nodes, axes, labels):
    """Node nearest to `labels`, each axis in units of its range."""
    scale = np.array([max(axis[-1] - axis[0], 1e-300) for axis in axes])
    return int(np.argmin((((nodes - labels) / scale) ** 2).sum(axis=1)))
