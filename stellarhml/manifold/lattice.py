"""Weights on a rectilinear grid of nodes, of which some may be missing: multilinear, or smooth and local.

The smooth weights are the tensor product of piecewise cubic Hermite interpolation with three-point slopes: continuous
with their first derivative, exact for quadratics on any spacing, at most four nodes per label.
"""

import numpy as np
from scipy import sparse

from stellarhml.exceptions import GridIncompleteError
from stellarhml.manifold.leave_one_out import lattice_samples, predict_node
from stellarhml.manifold.mixture import divide
from stellarhml.manifold.tensor_product import TensorProduct
from stellarhml.manifold.variables import VARIABLES

_EDGE = 1e-9  # labels this close to a bound, relative to the axis, count as inside
_BATCH = 2**19  # numbers that are in memory at once


class LatticeWeights:
    """Weights of grid nodes at any labels, the same for everything that is interpolated.

    A node that is missing is itself interpolated between its neighbours on one axis (linearly, or by the polynomial
    through two on each side), if possible one on which no break is crossed, the one on which they are fewest steps
    apart (on a tie, the axis with most values).
    Where a missing node has no neighbours on both sides of any axis, the cells that touch it count as outside.

    Parameters
    ----------
    nodes : ndarray of shape (n_nodes, n_labels)
        Distinct labels of the nodes.
    smooth : bool
        Cubic rather than linear weights, on axes of three nodes and more.
    full_for : tuple of str, default=None
        Names of the labels, if no node may be missing.
    variables : tuple of str, default=None
        Name of the variable of each label in which to interpolate. None: the labels themselves.
    breaks : tuple of tuple of float, default=None
        Values of each label at which the grid jumps: smooth weights are linear in the cells that hold one, and do not
        reach across.

    Raises
    ------
    GridIncompleteError
        If a node is missing that may not be.
    """

    def __init__(self, nodes, *, smooth, full_for=None, variables=None, breaks=None):
        self.nodes = nodes
        self.axes = [np.unique(column) for column in nodes.T]
        self._arguments = {"smooth": smooth, "variables": variables, "breaks": breaks}
        self._variables = [VARIABLES[name] for name in variables or ("linear",) * nodes.shape[1]]
        self._bent = [k for k, variable in enumerate(self._variables) if variable is not VARIABLES["linear"]]
        self._positions = [variable.value(axis) for variable, axis in zip(self._variables, self.axes, strict=True)]
        place = tuple(np.searchsorted(axis, column) for axis, column in zip(self.axes, nodes.T, strict=True))
        owner = np.full([len(axis) for axis in self.axes], -1, dtype=np.int32)
        owner[place] = np.arange(len(nodes))
        self.missing = np.argwhere(owner < 0)
        self._owner = owner
        if full_for is not None:
            self._require_full(full_for)
        self._home = np.ravel_multi_index(place, owner.shape)
        self._low, self._high = np.array([[axis[0], axis[-1]] for axis in self.axes]).T
        slack = _EDGE * np.maximum(np.maximum(self._high - self._low, np.abs(self._low)), 1e-300)
        self._floor, self._ceiling = self._low - slack, self._high + slack
        self._broken = [_broken(*pair) for pair in zip(self.axes, breaks or ((),) * len(self.axes), strict=True)]
        self._sides = [np.concatenate([[0], np.cumsum(broken)]) for broken in self._broken]
        self._smooth = TensorProduct(self._positions, smooth=smooth, broken=self._broken)
        self._linear = TensorProduct(self._positions, smooth=False)
        self._fill_holes(2 if smooth else 1)

    def to_plain_state(self):
        """What a file without code stores: the arguments of the constructor, from which all else follows.

        Returns
        -------
        state : dict
            Arguments of the constructor.
        """
        return {"nodes": self.nodes, **self._arguments}

    @classmethod
    def from_plain_state(cls, state):
        """Make it again.

        Parameters
        ----------
        state : dict
            What `to_plain_state` returned.

        Returns
        -------
        weights : LatticeWeights
            The same weights.
        """
        return cls(**state)

    @staticmethod
    def share(nodes):
        """Fraction of the rectilinear grid spanned by `nodes` that is there."""
        return len(nodes) / np.prod([float(len(np.unique(column))) for column in nodes.T])

    def weights(self, labels, derivatives=False):
        """Weights of the nodes.

        Parameters
        ----------
        labels : ndarray of shape (n, n_labels)
            Where to interpolate; labels outside are moved to the edge of the grid.
        derivatives : bool, default=False
            Whether to return derivatives too.

        Returns
        -------
        weights : csr_matrix of shape (n, n_nodes)
            Rows sum to 1.
        outside : ndarray of shape (n,), bool
            Rows that were outside, or next to a missing node that nothing could stand for.
        slopes : list of csr_matrix of shape (n, n_nodes)
            Derivatives of the weights by each label, only with `derivatives`. Rows sum to 0. Where weights have a
            kink they are those towards higher labels, at the upper bound towards lower ones. Zero in labels of one
            value and in those that were moved.
        """
        n_rows = max(1, _BATCH // len(self._smooth.offsets))
        if len(labels) <= n_rows:
            terms, outside = self._batch(labels, derivatives)
        else:
            batches = [labels[i : i + n_rows] for i in range(0, len(labels), n_rows)]
            parts, outside = zip(*(self._batch(batch, derivatives) for batch in batches), strict=True)
            terms = [sparse.vstack(blocks, format="csr") for blocks in zip(*parts, strict=True)]
            outside = np.concatenate(outside)
        return (terms[0], outside, terms[1:]) if derivatives else (terms[0], outside)

    def divide(self, labels):
        """Labels in cells that hold a break, as mixtures of those on either side.

        Parameters
        ----------
        labels : ndarray of shape (n, n_labels)
            Labels; those outside are moved to the edge of the grid.

        Returns
        -------
        mixture : Mixture or None
            None where no cell of the grid is broken.
        """
        if not any(broken.any() for broken in self._broken):
            return None
        return divide(np.clip(labels, self._low, self._high), self.axes, self._variables, self._broken)

    def leave_one_out(self):
        """Where the error of interpolation can be probed, over nodes.

        Returns
        -------
        samples : ErrorSamples
            Inner nodes of each axis predicted without themselves; middles of cells on axes of two values.
        """
        values = [variable.value for variable in self._variables]
        n_side = 2 if self._arguments["smooth"] else 1
        return lattice_samples(self._owner, self.nodes, self.axes, values, self._sides, n_side=n_side)

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

    def _fill_holes(self, n_side):
        """Nodes and shares that stand for each missing node; `_entry` numbers nodes from 0 and holes from -1 down."""
        self._entry = self._owner.ravel().copy()
        self._stand_in = np.zeros((len(self.missing), 4), dtype=np.int32)
        self._stand_in_share = np.zeros((len(self.missing), 4))
        dead = np.zeros(self._owner.size, dtype=bool)
        for i, hole in enumerate(self.missing):
            flat = np.ravel_multi_index(hole, self._owner.shape)
            self._entry[flat] = -1 - i
            fill = _fill_hole(self._owner, hole, self._positions, self._sides, n_side)
            if fill is None:
                dead[flat] = True
            else:
                self._stand_in[i, : len(fill[0])], self._stand_in_share[i, : len(fill[0])] = fill
        self._dead = dead if dead.any() else None

    def _batch(self, labels, derivatives):
        """Weights, then derivatives by each label if asked for, and which rows are outside."""
        beyond = (labels < self._floor) | (labels > self._ceiling)
        outside = beyond.any(axis=1)
        inner = np.minimum(np.maximum(labels, self._low), self._high)
        at = inner.copy() if self._bent else inner
        for k in self._bent:
            at[:, k] = self._variables[k].value(inner[:, k])
            # a node is exactly where it is on the axis, however its variable was rounded
            nearest = np.minimum(self.axes[k].searchsorted(inner[:, k]), len(self.axes[k]) - 1)
            np.copyto(at[:, k], self._positions[k][nearest], where=self.axes[k][nearest] == inner[:, k])
        rate = None
        if derivatives:
            rate = np.where(beyond, 0.0, 1.0)
            for k in self._bent:
                rate[:, k] *= self._variables[k].slope(inner[:, k])
        cells, t = self._smooth.locate(at)
        places, terms = self._smooth.products(cells, t, rate)
        if self._dead is None:
            parts = [[(None, places, term)] for term in terms]
        else:
            parts = self._avoid_dead(labels, cells, t, rate, (places, terms), outside)
        return [self._matrix(len(labels), part) for part in parts], outside

    def _avoid_dead(self, labels, cells, t, rate, cubic, outside):
        """Terms as (rows, places, values) none of which needs a node that nothing stands for; marks `outside`."""
        # a cubic reaches further than its cell: where that hits a hole, the cell's corners do
        linear = self._linear.products(cells, t, rate)
        smooth_is_fine, linear_is_fine = self._fine(*cubic), self._fine(*linear)
        weights_are_cubic = smooth_is_fine[0]
        lost = ~(weights_are_cubic | linear_is_fine[0])
        outside |= lost
        nearest = np.array([_nearest(self.nodes, self.axes, x) for x in labels[lost]], dtype=np.int64)
        parts = [
            [
                _chosen(cubic, 0, weights_are_cubic),
                _chosen(linear, 0, ~weights_are_cubic & ~lost),
                (np.flatnonzero(lost), self._home[nearest][:, None], np.ones((len(nearest), 1))),
            ]
        ]
        for k in range(0 if rate is None else len(self.axes)):
            curved = weights_are_cubic & smooth_is_fine[k + 1]
            straight = ~curved & ~lost & linear_is_fine[k + 1]
            # on the lower face of a cell that is outside, the cell below counts
            back = np.flatnonzero(
                ~(curved | straight | lost) & (t[:, k] == 0) & (cells[:, k] > self._linear.first_cell[k])
            )
            step = np.arange(len(self.axes)) == k
            below = self._linear.products(cells[back] - step, t[back] + step, rate[back])
            well = self._fine(*below)[k + 1]
            parts.append(
                [
                    _chosen(cubic, k + 1, curved),
                    _chosen(linear, k + 1, straight),
                    (back[well], below[0][well], below[1][k + 1][well]),
                ]
            )
        return parts

    def _fine(self, places, terms):
        """Rows of each term that need no node that nothing stands for."""
        dead = self._dead[places]
        return [~(dead & (term != 0)).any(axis=1) for term in terms]

    def _matrix(self, n, parts):
        """Add up parts of (rows, places, values) to a matrix over nodes; rows None are all rows."""
        kept = [values != 0 for _, _, values in parts]
        counts = [np.count_nonzero(keep, axis=1) for keep in kept]
        columns = [self._entry[places[keep]] for (_, places, _), keep in zip(parts, kept, strict=True)]
        values = [values[keep] for (_, _, values), keep in zip(parts, kept, strict=True)]
        shape = (n, len(self.nodes))
        if parts[0][0] is None and (not len(self.missing) or columns[0].min(initial=0) >= 0):
            return sparse.csr_matrix((values[0], columns[0], _pointers(counts[0])), shape=shape)
        rows = [np.arange(n) if rows is None else rows for rows, _, _ in parts]
        rows = np.concatenate([np.repeat(row, count) for row, count in zip(rows, counts, strict=True)])
        columns, values = np.concatenate(columns), np.concatenate(values)
        there, hole = np.flatnonzero(columns >= 0), np.flatnonzero(columns < 0)
        stand_ins = -1 - columns[hole]
        shares = values[hole, None] * self._stand_in_share[stand_ins]
        rows = np.concatenate([rows[there], np.repeat(rows[hole], shares.shape[1])])
        columns = np.concatenate([columns[there], self._stand_in[stand_ins].ravel()])
        values = np.concatenate([values[there], shares.ravel()])
        matrix = sparse.csr_matrix((values, (rows, columns)), shape=shape)  # adds up what occurs twice
        matrix.eliminate_zeros()
        return matrix


def _chosen(attempt, term, rows):
    """Part of the term of an attempt that is in `rows`, a mask."""
    places, terms = attempt
    return np.flatnonzero(rows), places[rows], terms[term][rows]


def _fill_hole(owner, hole, axes, sides, n_side):
    """Nodes and shares that stand for a missing node, or None."""
    best = None
    for k, (axis, side) in enumerate(zip(axes, sides, strict=True)):
        line = owner[tuple(hole[:k]) + (slice(None),) + tuple(hole[k + 1 :])]
        there = np.flatnonzero(line >= 0)
        found = predict_node(there, hole[k], axis, n_side, side)
        if found is None:
            continue
        support, shares = found
        gap = support[support > hole[k]][0] - support[support < hole[k]][-1]
        rank = (side[support[0]] != side[support[-1]], gap, -len(axis), k)
        if best is None or rank < best[0]:
            best = rank, (line[support], shares)
    return None if best is None else best[1]


def _pointers(counts):
    """Row pointers of a sparse matrix."""
    pointers = np.zeros(len(counts) + 1, dtype=np.int32)
    np.cumsum(counts, out=pointers[1:])
    return pointers


def _nearest(nodes, axes, labels):
    """Node nearest to `labels`, each axis in units of its range."""
    scale = np.array([max(axis[-1] - axis[0], 1e-300) for axis in axes])
    return int(np.argmin((((nodes - labels) / scale) ** 2).sum(axis=1)))


def _broken(axis, breaks):
    """Which cells of an axis hold a break; one on a node breaks the cell above it."""
    broken = np.zeros(max(len(axis) - 1, 1), dtype=bool)
    cells = np.searchsorted(axis, np.asarray(breaks, dtype=np.float64), side="right") - 1
    broken[cells[(cells >= 0) & (cells < len(axis) - 1)]] = True
    return broken
