r"""What stands for the nodes that a grid lacks.

A missing node is predicted along one axis. As a corner of a cell it is predicted from nodes on both sides, and cells
with a corner that has none are outside. For the slopes of a cubic, nodes of one side will do: the parabola through
three of them is as exact for quadratics as the cubic is, and with its value the slope, :math:`(f_{i+1} - f_{i-1}) / 2h`
on an even axis, is the parabola's own. So cells whose corners are all there are what they are at the end of an axis.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from stellarhml.manifold.leave_one_out import predict_node, predict_node_beyond

# product of the steps to the nodes by which one between them is predicted, to which the error of a polynomial is
# proportional; a parabola misses a node one step beyond it by three times what it misses one between its nodes
_HELD_OUT = {2: 1.0, 3: 2.0, 4: 4.0}


class Fill(NamedTuple):
    """What stands for missing nodes.

    Attributes
    ----------
    stand_in : csr_matrix of shape (n_nodes + 2 * n_missing, n_nodes)
        Weights of the nodes: for the nodes themselves, for missing ones in slopes, and for missing ones as corners.
    doubt : ndarray of shape (n_nodes + 2 * n_missing, n_labels)
        For the label along which a node was predicted, how much greater its error is than that of a node that is held
        out between others; 0 for other labels, and for nodes.
    dead : ndarray of shape (n_missing,), bool
        Nodes that have no neighbours on both sides of any axis: no cell may have them as corners.
    """

    stand_in: sparse.csr_matrix
    doubt: np.ndarray
    dead: np.ndarray


def fill_holes(owner, missing, axes, sides, n_side):
    """Predict missing nodes.

    The best of all axes is taken: one on which no break is crossed; one on which neighbours are fewest steps apart; on
    a tie, the axis with most values. For slopes, one on which three nodes or more are at hand comes before all others,
    for a line through two misses what a parabola does not, and what has no such nodes is predicted from predictions.

    Parameters
    ----------
    owner : ndarray of int, one dimension for each label
        Number of the node at each place of the grid, negative where it is missing.
    missing : ndarray of shape (n_missing, n_labels)
        Places without a node, in the order of `owner`.
    axes : list of ndarray
        Variable of each label.
    sides : list of ndarray
        Number of the breaks below each value of each label.
    n_side : int
        Nodes in use on each side, at most.

    Returns
    -------
    fill : Fill
        What stands for them. Those that are too far from any cell to be in use have no weights.
    """
    n_nodes, n_missing = int(owner.max()) + 1, len(missing)
    rows, doubt = {}, np.zeros((n_nodes + 2 * n_missing, owner.ndim))

    def keep(row, k, support, shares, far):
        rows[row] = _composed(support, shares, rows, n_nodes)
        doubt[row, k] = far + np.abs(shares) @ doubt[support].sum(axis=1)

    known, wanted = owner.copy(), owner >= 0
    dead = np.zeros(n_missing, dtype=bool)
    for i, hole in enumerate(missing):
        best = _best(owner, hole, axes, sides, n_side)
        dead[i] = best is None
        if best is not None:
            keep(n_nodes + n_missing + i, *best[1:])
            wanted[tuple(hole)] = True
            if best[0] == (False, False):
                keep(n_nodes + i, *best[1:])
                known[tuple(hole)] = n_nodes + i
    # cubics of a cell reach one step beyond its corners
    pending = [
        i
        for i, hole in enumerate(missing)
        if known[tuple(hole)] < 0 and wanted[tuple(slice(max(place - 1, 0), place + 2) for place in hole)].any()
    ]
    while pending:
        found = {i: _best(known, missing[i], axes, sides, n_side, beyond=True) for i in pending}
        least = min((best[0] for best in found.values() if best is not None), default=None)
        found = {i: best for i, best in found.items() if best is not None and best[0] == least}
        if not found:
            break
        for i, best in found.items():
            keep(n_nodes + i, *best[1:])
        for i in found:
            known[tuple(missing[i])] = n_nodes + i
        pending = [i for i in pending if i not in found]
    # on the face of a cell that is outside, a slope may lead to its corners
    for i in np.flatnonzero(dead):
        if n_nodes + i in rows:
            rows[n_nodes + n_missing + i], doubt[n_nodes + n_missing + i] = rows[n_nodes + i], doubt[n_nodes + i]
    return Fill(_matrix(rows, n_nodes, n_missing), doubt, dead)


def _best(known, hole, axes, sides, n_side, *, beyond=False):
    """Whether it crosses a break or is a line; axis, nodes, shares and doubt of the best prediction of a hole."""
    best = None
    for k, (axis, side) in enumerate(zip(axes, sides, strict=True)):
        line = known[tuple(hole[:k]) + (slice(None),) + tuple(hole[k + 1 :])]
        there = np.flatnonzero(line >= 0)
        for from_one_side in (False, True) if beyond else (False,):
            predict = predict_node_beyond if from_one_side else predict_node
            found = predict(there, hole[k], axis, n_side, side)
            if found is None:
                continue
            support, shares = found
            crossed = bool(side[support[0]] != side[support[-1]])
            few = len(support) < 3 and len(axis) > 2 and n_side > 1
            away = np.abs(support - hole[k])
            gap = away.min() if from_one_side else away[support < hole[k]].min() + away[support > hole[k]].min()
            rank = (crossed, few, from_one_side, gap, -len(axis), k)
            rank = rank if beyond else (crossed, gap, -len(axis), k)
            if best is None or rank < best[0]:
                best = rank, (crossed, few), k, line[support], shares, np.prod(away) / _HELD_OUT[len(support)]
    return None if best is None else best[1:]


def _composed(support, shares, rows, n_nodes):
    """Weights of nodes, from those of nodes and of missing ones that are predicted themselves."""
    total = {}
    for place, share in zip(support, shares, strict=True):
        for node, part in (rows[place] if place >= n_nodes else {place: 1.0}).items():
            total[int(node)] = total.get(int(node), 0.0) + share * part
    return total


def _matrix(rows, n_nodes, n_missing):
    """Weights as a matrix, after those of the nodes."""
    places = [np.full(len(row), place) for place, row in rows.items()]
    places = np.concatenate([np.arange(n_nodes), *places])
    columns = np.concatenate([np.arange(n_nodes), *(list(row) for row in rows.values())]).astype(np.int64)
    values = np.concatenate([np.ones(n_nodes), *(list(row.values()) for row in rows.values())])
    return sparse.csr_matrix((values, (places, columns)), shape=(n_nodes + 2 * n_missing, n_nodes))
