r"""Spectra of a grid that do not fit their neighbours: two nodes swapped, one bad, or with another's spectrum.

Every node that has neighbours on both sides along a label is predicted from them, pixel by pixel, by the weights of
`stellarhml.manifold.leave_one_out`. With :math:`c_s` the weights of prediction s minus its node, and :math:`G` the
products of all spectra (less their mean), the mean square error is :math:`e_s^2 = c_s^T G\, c_s`.

* Two nodes one or two steps apart are swapped if the errors fall when their spectra are exchanged: by a factor of
  three, in the product over the labels of the sums of :math:`e_s^2` before and after, and by two for each of the nodes;
  and are four times the usual ones along one label at least. Nodes at the edge count too, since they predict others.
* A node does not fit its neighbours if the errors of all other predictions with it fall likewise by a factor of ten
  when it is replaced by its own prediction, and it is twice as far from that as the nodes of the prediction are from
  their mean. The worst node comes first, and is replaced for good: its neighbours are not to blame. Corners are
  extrapolated.
* A node has another's spectrum if its own prediction, along the best label, is at least ten times as far from it as the
  spectrum of another node, or the prediction there; and half as far again as predictions along that label usually are
  from other nodes with the same value of it; and the errors fall by a factor of three when it is replaced.

In bands of 10 and 60 angstrom of an SME and of the PHOENIX grid (3000 to 6000 K), whole and with a third of the nodes,
with noise of 0.01 and with two kinds of continuum, the product was at most 2.4 and the ratio at most 4.8; swapped
neighbours had a product of 4 at least, but beside the jump of PHOENIX at 5050 K errors that are not unusual. In
sixty bands of 3000 pixels of five grids, with and without noise, no node was 1.5 times as far from its prediction.
"""

from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre
from scipy import sparse

from stellarhml.manifold.leave_one_out import JUMP_SCALE

_SWAPPED = np.log(3.0)
_FOREIGN = 10.0
_UNUSUAL = 1.5
_UNUSUAL_ERRORS = 4.0
_BOTH = np.log(2.0)  # the errors of each of two swapped nodes fall by this factor at least
_MISFIT = np.log(10.0)
_MISFIT_STEPS = 2.0
_LARGE = 0.4  # weight of a corner in the prediction of another node from which the corner is predicted
_DEGREE = 8  # of the polynomials that are no matter
_ROUNDING = 1e-12  # of squared fluxes
_FEWEST_OTHERS = 3  # errors from which the usual one is known
_LEAST = 1e-3  # of the continuum: spectra that differ by less may be exchanged without harm
_PIXELS = 8192  # about so many pixels are compared
_MOST_PAIRS = 20  # a grid with more swapped pairs is in disorder: the first ones say so


class Misplaced(NamedTuple):
    """Rows of a grid: if `swapped`, each has the spectrum of another; else the first is wrong, and like the second."""

    swapped: bool
    rows: tuple


def find_misplaced(labels, flux, samples):
    """Find rows of a grid whose spectra do not fit their neighbours; a list of Misplaced.

    Only nodes of a rectilinear grid are tested, with or without holes. Along labels of two values nothing is predicted:
    an error at a node that has neighbours on both sides along no label, such as a corner, is seen where it is large.

    Parameters
    ----------
    labels : ndarray of shape (n_nodes, n_labels)
        Labels of the rows, each node once.
    flux : ndarray of shape (n_nodes, n_pixels)
        Normalised fluxes, which may be a memory map.
    samples : ErrorSamples
        Held-out nodes over the rows, from `LineManifoldInterpolator.error_samples`.

    Returns
    -------
    found : list of Misplaced
        Swapped rows; then one row that fits nothing, or a row and another that is like it, the clearest first.
    """
    chosen = np.flatnonzero(samples.measured & (samples.axis >= 0))
    if not len(chosen):
        return []
    flux = np.asarray(flux[:, :: max(flux.shape[1] // _PIXELS, 1)], dtype=np.float64)
    flux = _without_continuum(flux - flux.mean(axis=0))
    products = flux @ flux.T / flux.shape[1]
    held_out = _HeldOut.of_samples(samples, chosen)
    pairs = _neighbours(labels)
    order = np.arange(len(labels))
    for _ in range(_MOST_PAIRS):
        gain = _gain_of_swaps(held_out, products[np.ix_(order, order)], pairs)
        best = int(np.argmax(gain))
        if gain[best] < _SWAPPED:
            break
        order[pairs[best]] = order[pairs[best][::-1]]
    swapped = _cycles(order)
    taken = {row for rows in swapped for row in rows}
    products = products[np.ix_(order, order)]
    misfits, products, gain = _misfits(held_out, products, taken)
    foreign = _with_foreign_spectrum(held_out, products, gain, taken | {rows[0] for rows in misfits})
    return [Misplaced(True, rows) for rows in swapped] + [Misplaced(False, rows) for rows in misfits + foreign]


def _without_continuum(flux):
    """Spectra less their best polynomials: a continuum that was found anew at each node jumps from node to node."""
    n_pixels = flux.shape[1]
    basis, _ = np.linalg.qr(legendre.legvander(np.linspace(-1, 1, n_pixels), min(_DEGREE, n_pixels // 10)))
    return flux - (flux @ basis) @ basis.T


def _cycles(order):
    """Rows that a permutation exchanges with one another, as tuples of increasing rows."""
    moved, cycles = set(np.flatnonzero(order != np.arange(len(order))).tolist()), []
    while moved:
        row = min(moved)
        cycle = []
        while row not in cycle:
            cycle.append(row)
            row = int(order[row])
        moved -= set(cycle)
        cycles.append(tuple(sorted(cycle)))
    return cycles


class _HeldOut(NamedTuple):
    """Predictions of held-out nodes along one label."""

    weights: sparse.csr_matrix  # (n, n_rows), of the prediction minus the node
    node: np.ndarray  # (n,), int: row of the node
    jump: np.ndarray  # (n,), bool: whether a jump of the grid lies between the nodes of the prediction
    beside: list  # for each place along the label, the predictions there

    @classmethod
    def of_samples(cls, samples, chosen):
        """One for each label with held-out nodes."""
        parts = []
        for axis in np.unique(samples.axis[chosen]):
            own = chosen[samples.axis[chosen] == axis]
            target = samples.targets[own]
            places = samples.labels[own, axis]
            beside = [np.flatnonzero(places == place) for place in np.unique(places)]
            weights = sparse.csr_matrix(samples.weights[own] - target)
            parts.append(cls(weights, target.indices, samples.scale[own] == JUMP_SCALE, beside))
        return parts

    def errors(self, products):
        """Products of the weights with all spectra, (n, n_rows), and mean square errors of the predictions, (n,)."""
        along = self.weights @ products
        return along, np.maximum(np.asarray(self.weights.multiply(along).sum(axis=1)).ravel(), 0.0)

    def usual(self, errors):
        """Median error of the predictions at the same place along the label, or of all where they are few; (n,)."""
        usual = np.full(len(errors), np.median(errors))
        for rows in self.beside:
            if len(rows) > _FEWEST_OTHERS:
                usual[rows] = np.median(errors[rows])
        return usual


def _neighbours(labels):
    """Pairs of rows that are one or two steps apart along one label, all other labels equal, shape (n_pairs, 2)."""
    pairs = []
    for k in range(labels.shape[1]):
        others = np.delete(labels, k, axis=1)
        order = np.lexsort((labels[:, k], *others.T))
        for step in (1, 2):
            low, high = order[:-step], order[step:]
            same = (others[low] == others[high]).all(axis=1)
            pairs.append(np.stack([low[same], high[same]], axis=1))
    return np.concatenate(pairs)


def _distances(products):
    """Mean square differences of all pairs of spectra."""
    size = np.diag(products)
    return np.maximum(size[:, None] + size - 2 * products, 0.0)


def _gain_of_swaps(held_out, products, pairs):
    """Logarithm of the product over labels of the sums of squared errors before a swap and after, (n_pairs,).

    -inf where the errors are not unusual along any label, or the errors of one of the two nodes do not fall: those of
    predictions in which it has more weight than the other.
    """
    n_pairs, apart = len(pairs), _distances(products)
    signs = np.tile([-1.0, 1.0], (n_pairs, 1))
    columns = np.repeat(np.arange(n_pairs), 2)
    exchange = sparse.csc_matrix((signs.ravel(), (pairs.ravel(), columns)), shape=(len(products), n_pairs))
    gain, excess, of_each = np.zeros(n_pairs), np.zeros(n_pairs), np.zeros((2, n_pairs))
    for label in held_out:
        along, errors = label.errors(products)
        # a swap of k and j adds d (u_k - u_j) to the weights, with d their difference
        touched = sparse.coo_matrix(label.weights @ exchange)
        sample, pair, d = touched.row, touched.col, touched.data
        k, j = pairs[pair].T
        after = errors[sample] + 2 * d * (along[sample, k] - along[sample, j]) + d**2 * apart[k, j]
        before, after, usual = errors[sample], np.maximum(after, 0.0), label.usual(errors)[sample]
        gain += _log_ratio(pair, before, after, n_pairs)
        np.maximum(excess, _excess(pair, before, after, usual, n_pairs), out=excess)
        heavier = np.abs(_entries(label.weights, sample, k)) >= np.abs(_entries(label.weights, sample, j))
        for own, chosen in zip(of_each, (heavier, ~heavier), strict=True):
            own += _log_ratio(pair[chosen], before[chosen], after[chosen], n_pairs)
    unusual = (apart[tuple(pairs.T)] > _LEAST**2) & (excess > _UNUSUAL_ERRORS)
    return np.where(unusual & (of_each.min(axis=0) > _BOTH), gain, -np.inf)


def _entries(matrix, rows, columns):
    return np.asarray(matrix[rows, columns]).ravel()


def _log_ratio(group, before, after, n_groups):
    """Logarithm of the ratio of the sums before and after of each group; rounding of equal spectra does not decide."""
    sums = (np.bincount(group, part + _ROUNDING, n_groups) + 1e-300 for part in (before, after))
    return np.subtract(*map(np.log, sums))


def _excess(group, before, after, usual, n_groups):
    """Ratio of the sums before to the usual ones of each group, 0 where they do not fall."""
    before, after, usual = (np.bincount(group, part + _ROUNDING, n_groups) + 1e-300 for part in (before, after, usual))
    return np.where(after < before, before / usual, 0.0)


def _misfits(held_out, products, taken):
    """Rows that do not fit their neighbours, the worst first, and the products with predictions in their place.

    Each is the row whose replacement by its prediction lets the errors of all other predictions with it fall most;
    after it, the row that has the same spectrum, if there is one.
    """
    found, apart, taken = [], _distances(products), set(taken)
    np.fill_diagonal(apart, np.inf)
    for _ in range(_MOST_PAIRS):
        gain, own, spread, change = _gain_of_predictions(held_out, products)
        gain[list(taken)] = -np.inf
        apart_from_others = own > np.maximum(_MISFIT_STEPS**2 * spread, _LEAST**2)
        worst = int(np.argmax(np.where(apart_from_others, gain, -np.inf)))
        if not apart_from_others[worst] or gain[worst] < _MISFIT:
            break
        taken.add(worst)
        like = int(np.argmin(apart[worst]))
        found.append((worst, like) if apart[worst, like] * _FOREIGN**2 < own[worst] else (worst,))
        replaced = np.eye(len(products))
        replaced[worst] += change[[worst]].toarray()[0]
        products = replaced @ products @ replaced.T
    return found, products, gain


def _gain_of_predictions(held_out, products):
    """Gain as of a swap, when a row is replaced by its best prediction, and what the prediction is like.

    Its squared error; the mean square distance of its nodes from their mean, (n_rows,); and its weights minus the row,
    (n_rows, n_rows). The gain is -inf where nothing predicts the row, or the errors are usual along all labels.
    """
    n = len(products)
    own, part, row = np.full(n, np.inf), np.full(n, -1), np.zeros(n, dtype=int)
    weights = sparse.lil_matrix((n, n))
    all_errors = [label.errors(products) for label in held_out]
    inner = np.isin(np.arange(n), np.concatenate([label.node for label in held_out]))
    for number, (label, (_, errors)) in enumerate(zip(held_out, all_errors, strict=True)):
        # a corner is predicted by no other nodes, but by those whose prediction has a large weight for it
        there = sparse.coo_matrix(label.weights)
        own_node = label.node[there.row] == there.col
        usable = ~label.jump[there.row] & np.where(inner[there.col], own_node, abs(there.data) > _LARGE)
        for sample, node, d in zip(there.row[usable], there.col[usable], there.data[usable], strict=True):
            error = errors[sample] / d**2
            if error < own[node]:
                own[node], part[node], row[node] = error, number, sample
                weights[node] = label.weights[sample] / -d
    weights = weights.tocsr()
    gain, excess = np.zeros(n), np.zeros(n)
    for number, (label, (along, errors)) in enumerate(zip(held_out, all_errors, strict=True)):
        touched = sparse.coo_matrix(label.weights)
        other = (part[touched.col] >= 0) & ((part[touched.col] != number) | (row[touched.col] != touched.row))
        sample, node, d = touched.row[other], touched.col[other], touched.data[other]
        after = errors[sample] + 2 * d * (along @ weights.T)[sample, node] + d**2 * own[node]
        before, after, usual = errors[sample], np.maximum(after, 0.0), label.usual(errors)[sample]
        gain += _log_ratio(node, before, after, n)
        np.maximum(excess, _excess(node, before, after, usual, n), out=excess)
    others = abs(weights)
    others.setdiag(0)
    others = sparse.diags(1 / np.maximum(np.asarray(others.sum(axis=1)).ravel(), 1e-300)) @ others
    spread = others @ np.diag(products) - np.asarray(others.multiply(others @ products).sum(axis=1)).ravel()
    return np.where((part >= 0) & (excess > _UNUSUAL_ERRORS), gain, -np.inf), own, spread, weights


def _with_foreign_spectrum(held_out, products, gain, taken):
    """Rows whose spectrum is far nearer to that of another row, or to the prediction there, than to their own.

    Pairs of the row and the other; rows in `taken` are left out.
    """
    n, size = len(products), np.diag(products)
    nearest = _distances(products)
    np.fill_diagonal(nearest, np.inf)
    like, near = nearest.argmin(axis=0), nearest.min(axis=0)
    own, usual = np.full(n, np.inf), np.full(n, np.inf)
    for label in held_out:
        along, errors = label.errors(products)
        rows = np.arange(len(errors))
        best = rows[~label.jump & (errors < own[label.node])]
        own[label.node[best]], usual[label.node[best]] = errors[best], label.usual(errors)[best]
        # squared distance of each prediction, which is weights plus node, to each spectrum
        length = errors + 2 * along[rows, label.node] + size[label.node]
        away = np.maximum(length[:, None] - 2 * (along + products[label.node]) + size, 0.0)
        away[rows, label.node] = np.inf
        best, least = away.argmin(axis=0), away.min(axis=0)
        closer = least < near
        like[closer], near[closer] = label.node[best][closer], least[closer]
    ratio = own / np.maximum(near, (_LEAST / 10) ** 2)
    foreign = (
        np.isfinite(own) & (gain > _SWAPPED) & (own > _LEAST**2) & (ratio > _FOREIGN**2) & (own > _UNUSUAL**2 * usual)
    )
    found = []
    for node in sorted(np.flatnonzero(foreign).tolist(), key=lambda node: -ratio[node]):
        if node not in taken:
            found.append((node, int(like[node])))
            taken = taken | {node, int(like[node])}
    return found
