r"""Weights on a rectilinear grid of nodes, of which some may be missing: multilinear, or smooth and local.

The smooth weights are the tensor product of piecewise cubic Hermite interpolation with three-point slopes: continuous
with their first derivative, exact for quadratics on any spacing, at most four nodes per label. On a cell of width
:math:`h` from node :math:`i` to node :math:`i + 1`, with :math:`t` from 0 to 1, the cubic is

.. math:: (1 + 2t)(1 - t)^2 f_i + t^2 (3 - 2t) f_{i+1} + h\,[t (1 - t)^2 f'_i - t^2 (1 - t) f'_{i+1}],

where the slope :math:`f'` at a node is that of the parabola through it and its neighbours, on uneven axes too. A cell
with a jump (broken) is linear, and slopes next to it are those of a parabola on their own side of the jump.
"""

import math
from itertools import product

import numpy as np
from scipy import sparse

from stellarhml._state import StateError, check_keys, take, take_list, take_number
from stellarhml.exceptions import GridIncompleteError
from stellarhml.manifold.breaks import split_at_breaks
from stellarhml.manifold.leave_one_out import fill_holes, lattice_samples
from stellarhml.manifold.variables import VARIABLES, take_nodes


class TensorProduct:
    """Weights of the nodes around a point, with everything precomputed that is constant in a cell.

    `axes` are the values on each axis, strictly increasing; `smooth` weights are cubic rather than linear, on axes of
    three nodes and more; `broken` is True for cells of each axis with a jump. `offsets` (n_stencil,) are the flat
    indices of the nodes around a point, relative to the lowest of them, the highest first; `first_cell` (n_labels,) is
    the number of the first cell of each axis: cells of all axes are numbered consecutively.
    """

    def __init__(self, axes, *, smooth, broken=None):
        shape = [len(axis) for axis in axes]
        broken = [np.zeros(max(n - 1, 1), dtype=bool) for n in shape] if broken is None else broken
        strides = [int(np.prod(shape[k + 1 :])) for k in range(len(axes))]
        cells = [_axis_cells(axis, smooth, gaps) for axis, gaps in zip(axes, broken, strict=True)]
        self._inside = [axis[1:-1] for axis in axes]
        self._cubic = np.array([smooth and n > 2 for n in shape])
        self._sizes = [size for *_, size in cells]
        self._low = np.concatenate([axis[: max(n - 1, 1)] for axis, n in zip(axes, shape, strict=True)])
        # an axis of one node has a cell without width, on which nothing changes
        width = [np.diff(axis) if n > 1 else np.array([np.inf]) for axis, n in zip(axes, shape, strict=True)]
        self._width = np.concatenate(width)
        self._basis = np.concatenate([basis for _, basis, _ in cells])
        self._lowest = np.concatenate([low * stride for (low, _, _), stride in zip(cells, strides, strict=True)])
        self.first_cell = np.cumsum([0] + [len(low) for low, _, _ in cells[:-1]])
        self.offsets = np.zeros(1, dtype=np.int64)
        for size, stride in zip(self._sizes, strides, strict=True):
            self.offsets = (self.offsets[:, None] + np.arange(size)[::-1] * stride).ravel()

    def locate(self, x):
        """Cell of each axis, int64, and position in it, from 0 to 1, of points `x` (n, n_labels) within the axes."""
        cells = np.empty(x.shape, dtype=np.int64)
        for k, inside in enumerate(self._inside):
            cells[:, k] = inside.searchsorted(x[:, k], side="right")
        cells += self.first_cell
        return cells, (x - self._low[cells]) / self._width[cells]

    def products(self, cells, t, rate=None):
        """Flat indices of the nodes around each point, (n, n_stencil), and a list of weights of that shape.

        `cells` and `t` are from `locate`. With `rate` (n, n_labels), derivatives of the axes' values by the labels, the
        derivatives of the weights by each label follow in the list.
        """
        places = self._lowest[cells].sum(axis=1)[:, None] + self.offsets
        basis = self._basis[cells]
        values = self._by_axis(self._functions(t), basis)
        if rate is None:
            return places, [_product(values)]
        slopes = self._by_axis(self._slopes(t) * (rate / self._width[cells])[:, :, None], basis)
        derived = [[*values[:k], slope, *values[k + 1 :]] for k, slope in enumerate(slopes)]
        return places, [_product(values), *map(_product, derived)]

    def corners(self, cells, t=None):
        """Multilinear weights of the nodes around each point, on the indices of `products`; zero except for corners.

        Without positions `t` in the cells they are those of the middle, where all corners have weights.
        """
        functions = np.full((*cells.shape, 4), 0.5)
        if t is not None:
            functions[..., 0], functions[..., 1] = 1 - t, t
        functions[..., 2:] = 0
        return _product(self._by_axis(functions, self._basis[cells]))

    def _by_axis(self, functions, basis):
        """Weights of the nodes on each axis, shape (n, n_nodes of the axis), from the four functions."""
        shares = (functions[:, :, None, :] @ basis)[:, :, 0]
        return [shares[:, k, :size] for k, size in enumerate(self._sizes)]

    def _functions(self, t):
        """The four Hermite functions of a cell: of the values at its ends, and of the slopes there."""
        s = 1 - t
        out = np.empty((*t.shape, 4))
        if not self._cubic.any():
            out[..., 0], out[..., 1], out[..., 2:] = s, t, 0
            return out
        ss, tt = s * s, t * t
        out[..., 0] = np.where(self._cubic, (1 + 2 * t) * ss, s)
        out[..., 1] = np.where(self._cubic, tt * (3 - 2 * t), t)
        out[..., 2], out[..., 3] = t * ss, -tt * s
        return out

    def _slopes(self, t):
        """Derivatives of `_functions` by `t`."""
        s = 1 - t
        out = np.empty((*t.shape, 4))
        rise = np.where(self._cubic, 6 * t * s, 1.0)
        out[..., 0], out[..., 1] = -rise, rise
        out[..., 2], out[..., 3] = s * (1 - 3 * t), t * (3 * t - 2)
        return out


def _product(factors):
    """Products of one number from each axis, the last axis running fastest."""
    out = factors[0]
    for factor in factors[1:]:
        out = (out[:, :, None] * factor[:, None, :]).reshape(len(out), out.shape[1] * factor.shape[1])
    return out


def _axis_cells(axis, smooth, broken):
    """Lowest node, shares of the nodes in the four functions, and number of nodes, for each cell of an axis."""
    n = len(axis)
    cell = np.arange(max(n - 1, 1))
    basis = np.zeros((len(cell), 4, 4))
    if n == 1:
        basis[0, 0, 0] = 1
        return cell, basis, 1
    cubic = smooth and n > 2
    size = min(n, 4) if cubic else 2
    lowest = np.clip(cell - 1, 0, n - size) if cubic else cell
    last = lowest + size - 1  # which comes first
    basis[cell, 0, last - cell] = basis[cell, 1, last - cell - 1] = 1
    if not cubic:
        return lowest, basis, size
    for c in cell:
        if broken[c]:  # both slopes are that of the chord: f_{i+1} - f_i over the width
            basis[c, 2:] = basis[c, 1] - basis[c, 0]
            continue
        for function, node in ((2, c), (3, c + 1)):
            support, slope = _slope(axis, node, broken)
            basis[c, function, last[c] - support] = (axis[c + 1] - axis[c]) * slope
    return lowest, basis, size


def _slope(axis, node, broken):
    """Nodes, and their weights in the derivative at a node with an unbroken cell next to it.

    The derivative is that of the parabola through three nodes on one side of all breaks, or of the line through two.
    """
    breaks = np.flatnonzero(broken)
    first = max((b + 1 for b in breaks if b < node), default=0)
    final = min((b for b in breaks if b >= node), default=len(axis) - 1)
    support = first + np.arange(2) if final - first == 1 else np.clip(node - 1, first, final - 2) + np.arange(3)
    x = axis[node]
    if len(support) == 2:
        return support, np.array([-1.0, 1.0]) / (axis[support[1]] - axis[support[0]])
    a, b, c = axis[support]
    weights = (
        (2 * x - b - c) / ((a - b) * (a - c)),
        (2 * x - a - c) / ((b - a) * (b - c)),
        (2 * x - a - b) / ((c - a) * (c - b)),
    )
    return support, np.array(weights)


_STORED_HOLES, _STORED_AXIS = 2000, 2000  # limits for a grid in a file: more takes longer than a second

LATTICE_SHARE = 0.5
"""Nodes that fill at least this share of their rectilinear grid are treated as a grid with missing nodes."""

_EDGE = 1e-9  # labels this close to a bound, relative to the axis, count as inside
_BATCH = 2**19  # numbers in memory at once


class LatticeWeights:
    """Weights of grid nodes at any labels, the same for every interpolated quantity.

    A missing node is predicted from others, see `stellarhml.manifold.leave_one_out.fill_holes`, so that cells with all
    corners are as accurate next to a missing node as elsewhere. Where a missing node has no neighbours on both sides
    of any axis, the cells that touch it count as outside.

    `nodes` (n_nodes, n_labels) are distinct; `smooth` weights are cubic rather than linear, on axes of three nodes and
    more. With `full_for`, names of the labels, a missing node raises GridIncompleteError. `variables` names the
    variable of each label in which to interpolate. `breaks` are values of each label at which the grid jumps: smooth
    weights are linear in cells with a jump, and do not use nodes across it.
    """

    def __init__(self, nodes, *, smooth, full_for=None, variables=None, breaks=None):
        self.nodes = nodes
        self.axes = [np.unique(column) for column in nodes.T]
        if full_for is not None:
            _require_full(nodes, self.axes, full_for)
        self._arguments = {"smooth": smooth, "variables": variables, "breaks": breaks}
        self._variables = [VARIABLES[name] for name in variables or ("linear",) * nodes.shape[1]]
        self._bent = [k for k, variable in enumerate(self._variables) if variable is not VARIABLES["linear"]]
        self._positions = [variable.value(axis) for variable, axis in zip(self._variables, self.axes, strict=True)]
        place = tuple(np.searchsorted(axis, column) for axis, column in zip(self.axes, nodes.T, strict=True))
        owner = np.full([len(axis) for axis in self.axes], -1, dtype=np.int32)
        owner[place] = np.arange(len(nodes))
        self.missing = np.argwhere(owner < 0)
        self._owner, self._entry, self._dead = owner, owner.ravel(), None
        self._low, self._high = np.array([[axis[0], axis[-1]] for axis in self.axes]).T
        slack = _EDGE * np.maximum(np.maximum(self._high - self._low, np.abs(self._low)), 1e-300)
        self._floor, self._ceiling = self._low - slack, self._high + slack
        self._broken = [_broken(*pair) for pair in zip(self.axes, breaks or ((),) * len(self.axes), strict=True)]
        self._sides = [np.concatenate([[0], np.cumsum(broken)]) for broken in self._broken]
        self._smooth = TensorProduct(self._positions, smooth=smooth, broken=self._broken)
        if len(self.missing):
            hole = self._entry < 0
            self._entry = np.where(hole, len(nodes) - 1 + np.cumsum(hole), self._entry).astype(np.int32)
            self._fill, self._error_ratio, dead = fill_holes(
                owner, self.missing, self._positions, self._sides, 2 if smooth else 1
            )
            if dead.any():
                self._dead = np.zeros(owner.size, dtype=bool)
                self._dead[hole] = dead

    def to_state(self) -> dict:
        """State for a file: "nodes", "smooth", "variables" and "breaks", from which everything else is computed."""
        variables, breaks = self._arguments["variables"], self._arguments["breaks"]
        return {
            "nodes": self.nodes,
            "smooth": bool(self._arguments["smooth"]),
            "variables": None if variables is None else list(variables),
            "breaks": None if breaks is None else [list(values) for values in breaks],
        }

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        check_keys(state, ("nodes", "smooth", "variables", "breaks"))
        nodes, variables = take_nodes(state)
        smooth = take(state, "smooth", bool)
        breaks = take_list(state, "breaks", list, length=nodes.shape[1], optional=True)
        if breaks is not None:
            breaks = tuple(tuple(take_number({"breaks": x}, "breaks") for x in values) for values in breaks)
        # the grid of scattered nodes would not fit into memory
        share, longest = cls.share(nodes), max(len(np.unique(column)) for column in nodes.T)
        n_missing = len(nodes) / share - len(nodes)
        if share < LATTICE_SHARE or n_missing > _STORED_HOLES or longest > _STORED_AXIS:
            raise StateError(
                f"`nodes` fill {share:.2g} of a grid with {longest} values of a label; they must fill {LATTICE_SHARE}, "
                f"leave out at most {_STORED_HOLES}, and have at most {_STORED_AXIS} values of a label."
            )
        return cls(nodes, smooth=smooth, variables=variables, breaks=breaks)

    @staticmethod
    def share(nodes):
        """Fraction of the rectilinear grid spanned by `nodes` that has a node."""
        return len(nodes) / np.prod([float(len(np.unique(column))) for column in nodes.T])

    def weights(self, labels, derivatives=False):
        """Weights of the nodes at labels (n, n_labels), moved to the grid's edge if outside; and which are outside.

        Weights are a csr_matrix (n, n_nodes) whose rows sum to 1. Outside are also rows next to a missing node that
        could not be filled. With `derivatives`, a list follows: derivatives of the weights by each label, whose rows
        sum to 0. At a kink of the weights they are those towards higher labels, at the upper bound towards lower ones;
        zero for labels with one value and for those that were moved.
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

    def split_at_breaks(self, labels):
        """Replace labels in cells with a jump by the edges of the cell, as a Mixture; None if no cell is broken.

        Labels (n, n_labels) outside are moved to the edge of the grid.
        """
        if not any(broken.any() for broken in self._broken):
            return None
        return split_at_breaks(np.clip(labels, self._low, self._high), self.axes, self._variables, self._broken)

    def leave_one_out(self):
        """Held-out predictions that measure the error of interpolation.

        Inner nodes of each axis are predicted from their neighbours; on axes with two values, the middles of cells.
        """
        values = [variable.value for variable in self._variables]
        n_side = 2 if self._arguments["smooth"] else 1
        return lattice_samples(self._owner, self.nodes, self.axes, values, self._sides, n_side=n_side)

    def fill_weights(self, labels):
        """Weights of missing nodes that are filled from others, by the label along which they are, (n, n_labels).

        Absolute weights, each times the ratio of the error of that node to that of a held-out node; 0 in a full grid.
        Labels (n, n_labels) outside are moved to the edge of the grid.
        """
        if not len(self.missing):
            return np.zeros((len(labels), len(self.axes)))
        parts = [np.zeros((0, len(self.axes)))]
        n_rows = max(1, _BATCH // len(self._smooth.offsets))
        for i in range(0, len(labels), n_rows):
            cells, t, _ = self._place(labels[i : i + n_rows])
            places, (term,) = self._smooth.products(cells, t)
            columns = self._columns(cells, places)
            hole = columns >= len(self.nodes)
            share = np.zeros((len(cells), len(self.axes)))
            np.add.at(share, np.nonzero(hole)[0], np.abs(term[hole])[:, None] * self._error_ratio[columns[hole]])
            parts.append(share)
        return np.concatenate(parts)

    def _batch(self, labels, derivatives):
        """Weights, then with `derivatives` those with respect to each label, and a mask of rows outside."""
        beyond = (labels < self._floor) | (labels > self._ceiling)
        outside = beyond.any(axis=1)
        cells, t, rate = self._place(labels, beyond if derivatives else None)
        places, terms = self._smooth.products(cells, t, rate)
        columns = self._columns(cells, places)
        if self._dead is not None:
            lost = np.flatnonzero((self._dead[places] & (self._smooth.corners(cells, t) != 0)).any(axis=1))
            outside[lost] = True
            for term in terms:
                term[lost] = 0.0
            terms[0][lost, 0] = 1.0
            columns[lost, 0] = [_nearest(self.nodes, self.axes, x) for x in labels[lost]]
        return [self._matrix(columns, term) for term in terms], outside

    def _columns(self, cells, places):
        """Numbers of nodes at flat indices; missing nodes follow, first those in slopes, then those at corners."""
        columns = self._entry[places]
        hole = columns >= len(self.nodes)
        if hole.any():
            columns[hole & (self._smooth.corners(cells) != 0)] += len(self.missing)
        return columns

    def _place(self, labels, beyond=None):
        """Cells, positions in them, and, if the mask `beyond` of labels outside is given, slopes of the variables."""
        inner = np.minimum(np.maximum(labels, self._low), self._high)
        at = inner.copy() if self._bent else inner
        for k in self._bent:
            at[:, k] = self._variables[k].value(inner[:, k])
            # at a node, use the stored value of its variable: rounding must not move it
            nearest = np.minimum(self.axes[k].searchsorted(inner[:, k]), len(self.axes[k]) - 1)
            np.copyto(at[:, k], self._positions[k][nearest], where=self.axes[k][nearest] == inner[:, k])
        rate = None
        if beyond is not None:
            rate = np.where(beyond, 0.0, 1.0)
            for k in self._bent:
                rate[:, k] *= self._variables[k].slope(inner[:, k])
        return *self._smooth.locate(at), rate

    def _matrix(self, columns, values):
        """Values of nodes and missing nodes as a matrix over nodes."""
        kept = values != 0
        columns = columns[kept]
        pointers = _pointers(np.count_nonzero(kept, axis=1))
        n_nodes = len(self.nodes)
        if columns.max(initial=0) < n_nodes:
            return sparse.csr_matrix((values[kept], columns, pointers), shape=(len(values), n_nodes))
        shape = (len(values), n_nodes + 2 * len(self.missing))
        matrix = sparse.csr_matrix((values[kept], columns, pointers), shape=shape) @ self._fill
        matrix.eliminate_zeros()
        return matrix


def _require_full(nodes, axes, names):
    """Raise GridIncompleteError if a node is missing; does not build the grid, which may not fit into memory."""
    n_full = math.prod(len(axis) for axis in axes)
    if len(nodes) == n_full:
        return
    there = set(map(tuple, nodes.tolist()))
    first = next(labels for labels in product(*(axis.tolist() for axis in axes)) if labels not in there)
    shape = " x ".join(str(len(axis)) for axis in axes)
    raise GridIncompleteError(
        f"method='linear' needs all {n_full} nodes of the {shape} grid of ({', '.join(names)}), but "
        f"{n_full - len(nodes)} are missing, first {dict(zip(names, first, strict=True))}. Add them, or use "
        "method='auto', which accepts grids with missing nodes."
    )


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
    """Mask of the cells of an axis with a jump; a jump at a node breaks the cell above it."""
    broken = np.zeros(max(len(axis) - 1, 1), dtype=bool)
    cells = np.searchsorted(axis, np.asarray(breaks, dtype=np.float64), side="right") - 1
    broken[cells[(cells >= 0) & (cells < len(axis) - 1)]] = True
    return broken
