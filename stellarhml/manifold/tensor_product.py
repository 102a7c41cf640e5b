r"""Products of one-dimensional weights, linear or cubic, on a rectilinear grid, and their derivatives.

On a cell of width :math:`h` from node :math:`i` to node :math:`i + 1`, with :math:`t` from 0 to 1, the cubic is

.. math:: (1 + 2t)(1 - t)^2 f_i + t^2 (3 - 2t) f_{i+1} + h\,[t (1 - t)^2 f'_i - t^2 (1 - t) f'_{i+1}],

where the slope :math:`f'` at a node is that of the parabola through it and its neighbours, on uneven axes too. A cell
that is broken is linear, and slopes beside it are those of the parabola on their own side of it.
"""

import numpy as np


class TensorProduct:
    """The weights of the nodes around a point, as far as they are the same everywhere in a cell.

    Parameters
    ----------
    axes : list of ndarray
        Values on each axis, strictly increasing.
    smooth : bool
        Cubic rather than linear weights, on axes of three nodes and more.
    broken : list of ndarray of bool, default=None
        Which cells of each axis are broken. None: none.

    Attributes
    ----------
    offsets : ndarray of shape (n_stencil,)
        Flat places of the nodes around a point, from the lowest of them; the highest comes first.
    first_cell : ndarray of shape (n_labels,)
        Number of the first cell of each axis: cells of all axes are in one row.
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
        """Cell of each axis and place in it.

        Parameters
        ----------
        x : ndarray of shape (n, n_labels)
            Points within the axes.

        Returns
        -------
        cells : ndarray of shape (n, n_labels), dtype int64
            Numbers of the cells.
        t : ndarray of shape (n, n_labels)
            0 at the lower end of the cell, 1 at the upper one.
        """
        cells = np.empty(x.shape, dtype=np.int64)
        for k, inside in enumerate(self._inside):
            cells[:, k] = inside.searchsorted(x[:, k], side="right")
        cells += self.first_cell
        return cells, (x - self._low[cells]) / self._width[cells]

    def products(self, cells, t, rate=None):
        """Weights of the nodes around each point, and their derivatives.

        Parameters
        ----------
        cells, t : ndarray of shape (n, n_labels)
            What `locate` returned.
        rate : ndarray of shape (n, n_labels), default=None
            Derivatives of the axes' values by the labels. None: no derivatives.

        Returns
        -------
        places : ndarray of shape (n, n_stencil), dtype int64
            Flat places of the nodes in the grid.
        terms : list of ndarray of shape (n, n_stencil)
            The weights; with `rate`, their derivatives by each label too.
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
        """Multilinear weights of the nodes around each point, on the places of `products`.

        Parameters
        ----------
        cells : ndarray of shape (n, n_labels)
            Cells.
        t : ndarray of shape (n, n_labels), default=None
            Places in them. None: the middle, where all corners have weights.

        Returns
        -------
        weights : ndarray of shape (n, n_stencil)
            Not zero for the corners in use.
        """
        functions = np.full((*cells.shape, 4), 0.5)
        if t is not None:
            functions[..., 0], functions[..., 1] = 1 - t, t
        functions[..., 2:] = 0
        return _product(self._by_axis(functions, self._basis[cells]))

    def _by_axis(self, functions, basis):
        """Shares of the nodes on each axis, shape (n, n_nodes of the axis), from those of the four functions."""
        shares = (functions[:, :, None, :] @ basis)[:, :, 0]
        return [shares[:, k, :size] for k, size in enumerate(self._sizes)]

    def _functions(self, t):
        """The four functions of a cell: of the values at its ends, and of the slopes there."""
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
    """Derivative at a node that has a whole cell beside it: nodes, and their weights in it.

    It is that of the parabola through three neighbours of one side of all breaks, or of the chord of two.
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
