"""Multilinear weights on a rectilinear grid of nodes, of which some may be missing."""

import itertools

import numpy as np
from scipy import sparse

from stellarhml.exceptions import GridIncompleteError

_EDGE = 1e-9  # labels this close to a bound, relative to the axis, count as inside


class LatticeWeights:
    """Weights of grid nodes at any labels, the same for everything that is interpolated.

    A node that is missing is itself interpolated between its nearest neighbours on one axis, the one on which they
    are fewest steps apart (on a tie, the axis with most values). Where a missing node has no neighbours on both
    sides of any axis, the cells that touch it count as outside.

    Parameters
    ----------
    nodes : ndarray of shape (n_nodes, n_labels)
        Distinct labels of the nodes.
    """

    def __init__(self, nodes):
        self.axes = [np.unique(column) for column in nodes.T]
        shape = tuple(len(axis) for axis in self.axes)
        position = tuple(np.searchsorted(axis, column) for axis, column in zip(self.axes, nodes.T, strict=True))
        owner = np.full(shape, -1, dtype=np.int64)
        owner[position] = np.arange(len(nodes))
        self.nodes = nodes
        self.missing = np.argwhere(owner < 0)
        self._owner = owner
        self._fill = {tuple(hole): _fill_hole(owner, hole, self.axes) for hole in self.missing}

    @staticmethod
    def share(nodes):
        """Fraction of the rectilinear grid spanned by `nodes` that is there."""
        return len(nodes) / np.prod([float(len(np.unique(column))) for column in nodes.T])

    def require_full(self, names):
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
        corners = []  # per axis: lower index, upper index, upper weight
        for axis, column in zip(self.axes, labels.T, strict=True):
            slack = _EDGE * max(axis[-1] - axis[0], abs(axis[0]), 1e-300)
            outside |= (column < axis[0] - slack) | (column > axis[-1] + slack)
            column = np.clip(column, axis[0], axis[-1])
            lower = np.clip(np.searchsorted(axis, column, side="right") - 1, 0, max(len(axis) - 2, 0))
            upper = np.minimum(lower + 1, len(axis) - 1)
            width = np.where(upper > lower, axis[upper] - axis[lower], 1.0)
            corners.append((lower, upper, (column - axis[lower]) / width))
        rows, columns, values = [], [], []
        for side in itertools.product((0, 1), repeat=len(self.axes)):
            weight = np.ones(len(labels))
            for (_, _, t), high in zip(corners, side, strict=True):
                weight = weight * (t if high else 1 - t)
            index = tuple(corner[high] for corner, high in zip(corners, side, strict=True))
            used = np.flatnonzero(weight > 0)
            for i, node in zip(used, self._owner[tuple(k[used] for k in index)], strict=True):
                parts = ((node, 1.0),) if node >= 0 else self._fill[tuple(int(k[i]) for k in index)]
                if parts is None:
                    outside[i] = True
                    parts = ((_nearest(self.nodes, self.axes, labels[i]), 1.0),)
                for node_k, share in parts:
                    rows.append(i)
                    columns.append(node_k)
                    values.append(weight[i] * share)
        return sparse.csr_matrix((values, (rows, columns)), shape=(len(labels), len(self.nodes))), outside


def _fill_hole(owner, hole, axes):
    """Nodes and shares that stand for a missing node, or None."""
    best = None
    for k, axis in enumerate(axes):
        line = owner[tuple(hole[:k]) + (slice(None),) + tuple(hole[k + 1 :])]
        there = np.flatnonzero(line >= 0)
        below, above = there[there < hole[k]], there[there > hole[k]]
        if len(below) and len(above):
            low, high = below[-1], above[0]
            t = (axis[hole[k]] - axis[low]) / (axis[high] - axis[low])
            candidate = (high - low, -len(axis), k, ((int(line[low]), 1 - t), (int(line[high]), t)))
            best = candidate if best is None or candidate[:3] < best[:3] else best
    return None if best is None else best[3]


def _nearest(nodes, axes, labels):
    """Node nearest to `labels`, each axis in units of its range."""
    scale = np.array([max(axis[-1] - axis[0], 1e-300) for axis in axes])
    return int(np.argmin((((nodes - labels) / scale) ** 2).sum(axis=1)))
