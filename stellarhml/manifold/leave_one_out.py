r"""Prediction of nodes from others: held-out nodes, to measure the error of interpolation, and missing nodes.

A node is predicted along one axis by the polynomial through its neighbours. A missing node at the corner of a cell is
predicted from nodes on both sides; if there are none, the cell counts as outside. For the slopes of a cubic, nodes on
one side suffice: the parabola through three nodes is exact for quadratics, as the cubic is, and with the predicted
value the slope, :math:`(f_{i+1} - f_{i-1}) / 2h` on an even axis, is that of the parabola. Cells with all corners then
behave like those at the end of an axis.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

# Factors from the error of a held-out node to that within a cell
CUBIC_SCALE = 0.6  # node predicted from two on each side; an upper bound, since the error contains noise
LINEAR_SCALE = 0.25  # node predicted from one on each side: the error scales with the square of the spacing
MIDDLE_SCALE = 0.35  # middle of two nodes; 0.25 on SME spectra, 0.55 on PHOENIX in H
JUMP_SCALE = 1.0  # prediction across a jump: the error does not depend on the spacing


class ErrorSamples(NamedTuple):
    """Pairs of a prediction and its target, whose difference measures the error of interpolation.

    The prediction is compared with a target: the held-out node, or, on a label with two values, half of each node, for
    the interpolation in the middle. There, compare the spectrum of the interpolated parameters with the mean of the two
    spectra: the parameters are linear by construction. `scale` is the factor from the difference to the RMS error
    inside cells when all nodes are used. `reach` is half the distance between the two
    nodes of a prediction where the interpolation goes through all three values of a label, else NaN.
    """

    labels: np.ndarray  # (n, n_labels): labels of the samples
    axis: np.ndarray  # (n,), int64: label along which the node is predicted; -1 among scattered nodes
    weights: sparse.csr_matrix  # (n, n_rows), of the prediction; zero for the held-out node
    targets: sparse.csr_matrix  # (n, n_rows), of the target
    scale: np.ndarray  # (n,)
    reach: np.ndarray  # (n,)

    @property
    def measured(self):
        """True for held-out nodes, False for middles between two nodes; shape (n,), bool."""
        return self.scale != MIDDLE_SCALE

    @property
    def most_accurate(self):
        """Held-out nodes predicted from two nodes on each side, if there are any, else all held-out nodes.

        The error of such a prediction is mostly noise from node to node; that of a line through two neighbours also has
        a smooth part.
        """
        cubic = self.scale == CUBIC_SCALE
        return cubic if cubic.any() else self.measured


def predict_node(there, position, axis, n_side, side=None):
    """Predict a node on one axis by the polynomial through up to `n_side` nodes on each side.

    `there` are the positions of the nodes that exist, increasing; the one to predict, at `position`, is not used.
    `axis` and `side` (n_values,) are the variable of the label, and the number of the breaks of the grid below, at each
    position. Only nodes on the same side of all breaks are used if they surround the predicted one; otherwise the line
    across the break. Returns the positions in use and their weights; None where a
    side has no node.
    """
    below, above = there[there < position], there[there > position]
    if not (len(below) and len(above)):
        return None
    if side is not None and side[below[0]] != side[above[-1]]:
        own = [part[side[part] == side[position]] for part in (below, above)]
        below, above = own if len(own[0]) and len(own[1]) else (below[-1:], above[:1])
    support = np.concatenate([below[-n_side:], above[:n_side]])
    return support, _lagrange(axis[support], axis[position])


def predict_node_beyond(there, position, axis, n_side, side):
    """Predict a node on one axis from nodes on one side of it, and on its side of all breaks.

    Arguments as in `predict_node`. Returns the nearest nodes, at most three (two, if ``n_side=1``), and their weights;
    None where there are fewer than two.
    """
    own = there[side[there] == side[position]]
    parts = [own[own < position][::-1][: n_side + 1], own[own > position][: n_side + 1]]
    support = min(parts, key=lambda part: (-len(part), abs(part - position).sum()))
    support = np.sort(support)
    return None if len(support) < 2 else (support, _lagrange(axis[support], axis[position]))


def lattice_samples(owner, nodes, axes, variables, sides, *, n_side):
    """Error samples of a grid, over nodes; empty where every label has one value.

    `owner` has one dimension for each label: the number of the node at each place, negative where it is missing. `axes`
    are the values of each label, `variables` its variables as functions, `sides` the numbers of the breaks below each
    value. At most `n_side` nodes are used on each side.
    """
    labels, along, rows, scales, reaches = [], [], [], [], []
    for k, (axis, variable, side) in enumerate(zip(axes, variables, sides, strict=True)):
        lines = np.moveaxis(owner, k, -1).reshape(-1, len(axis))
        found = _middles if len(axis) == 2 else _left_out
        for at, node, weights, targets, scale, reach in found(lines, axis, variable, side, n_side):
            place = nodes[node].copy()
            place[k] = at
            labels.append(place)
            along.append(k)
            rows.append((weights, targets))
            scales.append(scale)
            reaches.append(reach)
    return ErrorSamples(
        np.array(labels).reshape(-1, nodes.shape[1]),
        np.array(along, dtype=np.int64),
        _rows([weights for weights, _ in rows], len(nodes)),
        _rows([targets for _, targets in rows], len(nodes)),
        np.array(scales, dtype=np.float64),
        np.array(reaches, dtype=np.float64),
    )


def scattered_samples(without, nodes, inside, *, at_most=256):
    """Error samples of scattered nodes strictly `inside` the hull; of more than `at_most`, evenly taken ones.

    `without` takes the number of a node; it returns other nodes, their weights at it, and whether it is outside of
    them.
    """
    if len(inside) > at_most:
        inside = inside[np.linspace(0, len(inside) - 1, at_most).round().astype(np.int64)]
    chosen, rows = [], []
    for node in inside:
        others, weights, outside = without(node)
        if not outside:
            chosen.append(node)
            rows.append((others, weights))
    chosen = np.array(chosen, dtype=np.int64)
    return ErrorSamples(
        nodes[chosen],
        np.full(len(chosen), -1, dtype=np.int64),
        _rows(rows, len(nodes)),
        _rows([([node], [1.0]) for node in chosen], len(nodes)),
        np.full(len(chosen), LINEAR_SCALE),
        np.full(len(chosen), np.nan),
    )


def _left_out(lines, axis, variable, side, n_side):
    """Nodes with neighbours on both sides: label, node, weights, targets, scale and reach of each."""
    positions = variable(axis)
    known = {}  # cache: the lines of a grid have few patterns of missing nodes
    for line in lines:
        there = np.flatnonzero(line >= 0)
        for i in there:
            key = there.tobytes(), i
            if key not in known:
                known[key] = predict_node(there, i, positions, n_side, side)
            if known[key] is not None:
                support, weights = known[key]
                scale = CUBIC_SCALE if len(support) == 4 else LINEAR_SCALE
                scale = JUMP_SCALE if side[support[0]] != side[support[-1]] else scale
                whole = n_side > 1 and len(there) == 3 and len(support) == 2
                reach = np.ptp(axis[support]) / 2 if whole else np.nan
                yield axis[i], line[i], (line[support], weights), ([line[i]], [1.0]), scale, reach


def _middles(lines, axis, variable, *_):
    """Middles between two nodes, on an axis with two values."""
    middle = axis.mean()
    low, at, high = variable(np.array([axis[0], middle, axis[1]]))
    t = (at - low) / (high - low)
    for line in lines:
        if line.min() >= 0:
            yield middle, line[0], (line, [1 - t, t]), (line, [0.5, 0.5]), MIDDLE_SCALE, np.nan


def _rows(rows, n_columns):
    """Sparse matrix from the columns and values of each row."""
    indptr = np.concatenate([[0], np.cumsum([len(columns) for columns, _ in rows])]).astype(np.int32)
    columns = np.concatenate([np.empty(0), *(columns for columns, _ in rows)]).astype(np.int32)
    values = np.concatenate([np.empty(0), *(values for _, values in rows)])
    return sparse.csr_matrix((values, columns, indptr), shape=(len(rows), n_columns))


def _lagrange(points, x):
    """Weights of the polynomial through `points` at `x`."""
    return [
        float(np.prod([(x - other) / (point - other) for other in np.delete(points, i)]))
        for i, point in enumerate(points)
    ]


# The error of a polynomial is proportional to the product of the distances to its nodes. These are the products, in
# steps, of a held-out node between 2, 3 or 4 others; one step outside three nodes the product is three times as large.
_HELD_OUT = {2: 1.0, 3: 2.0, 4: 4.0}


class Fill(NamedTuple):
    """Missing nodes as weighted sums of others.

    `fill_weights` has the nodes themselves, then missing ones in slopes, then missing ones as corners. `error_ratio`
    has, for the label along which a node was predicted, the ratio of its error to that of a node that is held out
    between others; 0 for other labels, and for nodes. No cell may have a dead node as a corner.
    """

    fill_weights: sparse.csr_matrix  # (n_nodes + 2 * n_missing, n_nodes)
    error_ratio: np.ndarray  # (n_nodes + 2 * n_missing, n_labels)
    dead: np.ndarray  # (n_missing,), bool: without neighbours on both sides of any axis


def fill_holes(owner, missing, axes, sides, n_side):
    """Predict missing nodes; those too far from any cell to be used have no weights.

    Each is predicted along the best axis: one without a break in between, then the one with the fewest steps between
    the neighbours, then the one with most values. For slopes, an axis with three nodes or more comes first, since a
    parabola is more accurate than a line; where there is none, nodes are predicted from predicted ones.

    `missing` (n_missing, n_labels) are the places without a node, in the order of `owner`; `axes` are the variables of
    each label, the rest as in `lattice_samples`.
    """
    n_nodes, n_missing = int(owner.max()) + 1, len(missing)
    rows, error_ratio = {}, np.zeros((n_nodes + 2 * n_missing, owner.ndim))

    def keep(row, k, support, shares, far):
        rows[row] = _composed(support, shares, rows, n_nodes)
        error_ratio[row, k] = far + np.abs(shares) @ error_ratio[support].sum(axis=1)

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
    # the cubic of a cell uses nodes one step outside it
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
    # on the face of a cell that counts as outside, a slope may use its missing corners
    for i in np.flatnonzero(dead):
        if n_nodes + i in rows:
            filled = n_nodes + n_missing + i
            rows[filled], error_ratio[filled] = rows[n_nodes + i], error_ratio[n_nodes + i]
    return Fill(_matrix(rows, n_nodes, n_missing), error_ratio, dead)


def _best(known, hole, axes, sides, n_side, *, beyond=False):
    """Best prediction of a missing node: (crosses a break, is a line), axis, nodes, weights and error ratio."""
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
    """Weights over existing nodes, with predicted ones replaced by their own weights."""
    total = {}
    for place, share in zip(support, shares, strict=True):
        for node, part in (rows[place] if place >= n_nodes else {place: 1.0}).items():
            total[int(node)] = total.get(int(node), 0.0) + share * part
    return total


def _matrix(rows, n_nodes, n_missing):
    """Matrix of the weights: identity rows for the nodes, then rows for the missing nodes."""
    places = [np.full(len(row), place) for place, row in rows.items()]
    places = np.concatenate([np.arange(n_nodes), *places])
    columns = np.concatenate([np.arange(n_nodes), *(list(row) for row in rows.values())]).astype(np.int64)
    values = np.concatenate([np.ones(n_nodes), *(list(row.values()) for row in rows.values())])
    return sparse.csr_matrix((values, (places, columns)), shape=(n_nodes + 2 * n_missing, n_nodes))
