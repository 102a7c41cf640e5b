r"""Line parameters of all nodes of a grid: a bank of the lines present at each node, or a few factors.

With factors, the parameters of all lines at node k are :math:`\theta_k = \bar\theta + \sum_r s_{kr} f_r`: the
:math:`f_r` are the principal components of the parameters, each parameter weighted by its effect on the flux. Only the
scores of the nodes are interpolated; the components left out carry noise from node to node.
"""

from itertools import pairwise

import numpy as np
from scipy import sparse

from stellarhml._state import LARGE, Sizes, StateError, check_keys, take_array
from stellarhml.kernels.combine import add_factors, add_lines, count_lines, frozen
from stellarhml.manifold.residual import take_pointers

_ROUNDING = 1e-13  # of the largest eigenvalue: smaller ones are rounding errors of the scalar products

_FEW = 32
"""Up to this number, all components are kept: small grids save little otherwise, and have few nodes to hold out."""


def principal_components(gram):
    """Principal components of rows of mean zero, from their scalar products `gram` (n_rows, n_rows), float64.

    Returns orthonormal `vectors` (n_rows, n_components), such that ``vectors.T @ rows`` are the components and
    ``vectors @ vectors.T @ rows`` are the rows, and the lengths of the components, decreasing, without those that are
    rounding errors.
    """
    squares, vectors = np.linalg.eigh(gram)
    order = np.argsort(squares)[::-1]
    order = order[squares[order] > _ROUNDING * max(squares.max(initial=0.0), 0.0)]
    vectors = vectors[:, order]
    # fix the sign by the first of the largest entries; rounding decides between equal ones, differently on each CPU
    size = np.abs(vectors)
    largest = (size >= (1 - 1e-6) * size.max(axis=0, initial=0.0)).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(len(order))])
    return vectors, np.sqrt(squares[order])


def choose_rank(scores, samples, slack=1.0):
    """Number of components that predicts held-out rows best, the smallest on a tie.

    A component that varies smoothly with the labels is predicted by its interpolated scores; one that is noise from row
    to row is better left out. `scores` (n_rows, n_components) are in decreasing order of components. A held-out error
    up to `slack` times the smallest is accepted for fewer components. Up to 32 components, all are kept; without
    held-out rows, at most 32.
    """
    best = samples.most_accurate
    if not best.any() or scores.shape[1] <= _FEW:
        return min(scores.shape[1], _FEW)
    missed = (samples.targets - samples.weights)[best] @ scores
    # a kept component costs its error at held-out rows; one left out costs its scores at all rows, since the rows that
    # can be held out (the middle one of three) need not show it
    kept, left_out = (missed**2).mean(axis=0), (scores**2).mean(axis=0)
    error = np.concatenate([[0.0], np.cumsum(kept)]) + np.concatenate([np.cumsum(left_out[::-1])[::-1], [0.0]])
    return int(np.argmax(error <= slack**2 * (1 + 1e-9) * error.min()))  # equal but for rounding


ABSENT_LOG_AMPLITUDE = -1000.0
"""Log amplitude of a line at a node where it was not found, under the paper's rule."""

VANISHED_LOG_AMPLITUDE = -100.0
"""Log amplitude below which the paper drops an interpolated line."""


class LineBank:
    """Parameters of the lines present at each node, in single precision relative to the mean of each line.

    A wavelength of 10^4 angstrom in single precision is accurate to 10^-3 angstrom, its distance from the line's mean
    to 10^-8. The lines of node k are entries ``indptr[k]:indptr[k + 1]``. `line` (n_entries,), int32, is the catalogue
    index of each, increasing within a node; `values` (n_entries, n_parameters), float32, are line parameters minus
    `origin` (n_lines, n_parameters), float64, the mean of each line.
    """

    def __init__(self, indptr, line, values, origin):
        self.indptr, self.line, self.values, self.origin = indptr, line, values, origin

    @property
    def n_lines(self):
        """Length of the catalogue."""
        return len(self.origin)

    @property
    def n_nodes(self):
        """Number of nodes."""
        return len(self.indptr) - 1

    @property
    def share(self):
        """Fraction of lines times nodes that is present; 1 without lines."""
        return len(self.line) / max(self.n_lines * self.n_nodes, 1) if self.n_lines else 1.0

    @property
    def nbytes(self):
        """Memory of the tables, in bytes."""
        return sum(part.nbytes for part in (self.indptr, self.line, self.values, self.origin))

    @classmethod
    def from_table(cls, table, n_parameters):
        """Build a bank from a CSR matrix, or from a dense array with NaN where a line is absent.

        The table is of shape (n_nodes, n_parameters * n_lines), a block of columns per line.
        """
        table = table.tocsr() if sparse.issparse(table) else table
        n_nodes, n_lines = table.shape[0], table.shape[1] // n_parameters
        # twice node by node: sorting all entries at once would take ten times their memory
        count, origin = np.zeros(n_lines, dtype=np.int64), np.zeros((n_lines, n_parameters))
        indptr = np.zeros(n_nodes + 1, dtype=np.int64)
        for node in range(n_nodes):
            lines, theta = _lines_of_row(table, node, n_parameters)
            indptr[node + 1] = indptr[node] + len(lines)
            count[lines] += 1
            origin[lines] += theta
        origin /= np.maximum(count, 1)[:, None]
        line, values = np.empty(indptr[-1], np.int32), np.empty((indptr[-1], n_parameters), np.float32)
        for node in range(n_nodes):
            lines, theta = _lines_of_row(table, node, n_parameters)
            span = slice(indptr[node], indptr[node + 1])
            line[span], values[span] = lines, theta - origin[lines]
        return cls(indptr, line, values, origin)

    def to_state(self) -> dict:
        """State for a file: the arguments of the constructor."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        check_keys(state, ("indptr", "line", "values", "origin"))
        sizes = Sizes()
        origin = take_array(
            state, "origin", dtype="f8", shape=("n_lines", "n_parameters"), sizes=sizes, low=-LARGE, high=LARGE
        )
        values = take_array(state, "values", dtype="f4", shape=("n_entries", "n_parameters"), sizes=sizes)
        n_lines, n_entries = len(origin), len(values)
        line = take_array(state, "line", dtype="i4", shape=("n_entries",), sizes=sizes, low=0, high=max(n_lines - 1, 0))
        indptr = take_pointers(state, "indptr", None, n_entries)
        begins = np.zeros(n_entries + 1, dtype=bool)
        begins[indptr] = True
        if (n_entries and not n_lines) or not (begins[1:-1] | (np.diff(line) > 0)).all():
            raise StateError(f"`line` must increase within each node, from 0 to at most {n_lines - 1}.")
        return cls(indptr, line, values, origin)

    def shifted(self, change):
        """The same lines with `change` (n_lines, n_parameters) added to their parameters at every node."""
        return LineBank(self.indptr, self.line, self.values, self.origin + change)

    def with_lines(self, theta, like, nodes, weights, order):
        """The same lines and new ones, which change from node to node by the mean of the changes of others.

        Parameters
        ----------
        theta : ndarray of shape (n_new, n_parameters)
            Parameters of the new lines at a weighted mean of `nodes` (k,) with `weights` (k,). Their first one, the
            center, is the same at all nodes.
        like : ndarray of shape (n_new, n_like), int
            Lines that they are like. A line is absent where all of these are.
        order : ndarray of shape (n_lines + n_new,), int
            Lines, old ones first, in the order of the result.

        Returns
        -------
        bank : LineBank
            The lines in this order.
        """
        n_new, n_parameters = theta.shape
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        parts, change = [], np.zeros((n_new, n_parameters))
        weight_of = dict(zip(nodes.tolist(), weights.tolist(), strict=True))
        number = np.full(self.n_lines, -1)
        for node in range(self.n_nodes):
            span = slice(self.indptr[node], self.indptr[node + 1])
            number[:] = -1
            number[self.line[span]] = np.arange(span.stop - span.start)
            found = number[like]
            there = found >= 0
            count = there.sum(axis=1)
            own = np.zeros((n_new, n_parameters))
            np.add.at(own, np.nonzero(there)[0], self.values[span][found[there]])
            own /= np.maximum(count, 1)[:, None]
            own[:, 0] = 0.0
            change += weight_of.get(node, 0.0) * own
            line = np.concatenate([place[self.line[span]], place[self.n_lines :][count > 0]])
            values = np.concatenate([self.values[span], own[count > 0].astype(np.float32)])
            sort = np.argsort(line)
            parts.append((line[sort], values[sort]))
        origin = np.concatenate([self.origin, theta - change])[order]
        indptr = np.concatenate([[0], np.cumsum([len(line) for line, _ in parts])]).astype(np.int64)
        lines = np.concatenate([line for line, _ in parts]).astype(np.int32)
        return LineBank(indptr, lines, np.concatenate([values for _, values in parts]), origin)

    def only(self, lines):
        """Keep some lines and make the others absent at all nodes, which is faster for many labels."""
        kept = np.isin(self.line, lines)
        indptr = np.concatenate([[0], np.cumsum(kept)])[self.indptr]
        return LineBank(indptr, self.line[kept], self.values[kept], self.origin)

    def to_array(self, amplitude):
        """Values of all lines at all nodes, minus `origin`, (n_nodes, n_lines, n_parameters), float32.

        An absent line has its mean shape and its smallest amplitude; `amplitude` is the index of the log
        amplitude.
        """
        values = np.zeros((self.n_nodes, *self.origin.shape), dtype=np.float32)
        least = np.zeros(self.n_lines, dtype=np.float32)
        spans = [slice(*ends) for ends in pairwise(self.indptr.tolist())]
        for span in spans:
            lines = self.line[span]
            least[lines] = np.minimum(least[lines], self.values[span, amplitude])
        values[:, :, amplitude] = least
        for node, span in zip(values, spans, strict=True):  # node by node, which takes no memory besides
            node[self.line[span]] = self.values[span]
        return values

    def completed(self, amplitude):
        """The same lines, all present at every node; those that were absent as in `to_array`."""
        values = self.to_array(amplitude).reshape(-1, self.origin.shape[1])
        line = np.tile(np.arange(self.n_lines, dtype=np.int32), self.n_nodes)
        return LineBank(np.arange(self.n_nodes + 1, dtype=np.int64) * self.n_lines, line, values, self.origin)

    def at_node(self, node):
        """Catalogue indices (n,), int32, and parameters (n, n_parameters), float64, of the lines of one node."""
        span = slice(self.indptr[node], self.indptr[node + 1])
        lines = self.line[span]
        return lines, self.origin[lines] + self.values[span]

    def lines_at(self, nodes, weights, slopes=None, *, amplitude, absent, wanted=None):
        """Lines at a weighted mean of nodes, and their derivatives.

        `nodes` (k,) have `weights` (k,) of sum 1, `slopes` (n_slopes, k) are derivatives of these, of sum 0.
        `amplitude` is the index of the log amplitude among the parameters. A line that is absent from some of the nodes
        is, with ``absent="fade"``, the mean over the nodes that have it, its amplitude times their total weight; with
        "vanish", the paper's rule, its log amplitude is -1000 at the nodes without it, and it is dropped below -100.
        Only lines with catalogue indices in `wanted`, increasing, are computed; None: all.

        Returns catalogue indices of the lines present, increasing, int64, their parameters (n, n_parameters), and the
        derivatives of these, (n_slopes, n, n_parameters), float64.
        """
        wanted = np.arange(self.n_lines) if wanted is None else np.asarray(wanted)
        place = np.full(self.n_lines, -1)
        place[wanted] = np.arange(len(wanted))
        slopes = np.zeros((0, len(nodes))) if slopes is None else slopes
        sums = np.vstack([weights, slopes])
        table = frozen(self.indptr, self.line)
        nodes = np.asarray(nodes, dtype=np.int64)
        count = np.zeros(len(wanted), dtype=np.int64)
        count_lines(*table, nodes, place, count)
        complete = count == len(nodes)
        share = np.zeros((len(sums), len(wanted)))
        total = np.zeros((len(sums), len(wanted), self.origin.shape[1]))
        add_lines(*table, *frozen(self.values), nodes, place, complete, sums, _positive(sums), share, total)
        kept = share[0] > 0
        lines, share = wanted[kept], share[:, kept]
        mean = total[0, kept] / share[0][:, None]
        change = (total[1:, kept] - share[1:, :, None] * mean) / share[0][:, None]
        theta = self.origin[lines] + mean
        if absent == "fade":
            theta[:, amplitude] += np.log(np.minimum(share[0], 1.0))
            change[:, :, amplitude] += share[1:] / share[0]
            return lines, theta, change
        log_amplitude, share_of = theta[:, amplitude] - ABSENT_LOG_AMPLITUDE, share[0]
        theta[:, amplitude] = log_amplitude * share_of + ABSENT_LOG_AMPLITUDE
        change[:, :, amplitude] = change[:, :, amplitude] * share_of + log_amplitude * share[1:]
        kept = theta[:, amplitude] >= VANISHED_LOG_AMPLITUDE
        return lines[kept], theta[kept], change[:, kept]


def _lines_of_row(table, node, n_parameters):
    """Lines of one row of a csr_matrix, or of an array with NaN, and their parameters; 0 where not stored."""
    if sparse.issparse(table):
        span = slice(table.indptr[node], table.indptr[node + 1])
        column, value = table.indices[span], table.data[span]
    else:
        column = np.flatnonzero(~np.isnan(table[node]))
        value = table[node, column]
    lines, place = np.unique(column // n_parameters, return_inverse=True)
    theta = np.zeros((len(lines), n_parameters))
    theta[place, column % n_parameters] = value
    return lines, theta


def _positive(sums):
    """Weights without the negative ones of cubic interpolation, which have no meaning where a line is absent."""
    # at a node, the other nodes have zero weight but a derivative
    positive = np.where(sums[0] >= 0, sums, 0.0)
    whole = positive[0].sum()
    positive[0] /= whole
    positive[1:] = (positive[1:] - positive[0] * positive[1:].sum(axis=1, keepdims=True)) / whole
    return positive


_LARGEST = 32767  # of 16 bits
_AT_ONCE = 4096


class LineFactors:
    """Lines of many nodes in terms of factors.

    `origin` (n_lines, n_parameters), float64, is the mean of each line, `factors` (n_lines, n_parameters, n_factors),
    int16, times `unit` (n_lines, n_parameters), float32, are in the units of line parameters, and `scores` (n_nodes,
    n_factors), float64, are those of the nodes.
    """

    share = 1.0  # every line is present at every node

    def __init__(self, origin, factors, unit, scores):
        self.origin, self.factors, self.unit, self.scores = origin, factors, unit, scores

    @property
    def n_lines(self):
        """Length of the catalogue."""
        return len(self.origin)

    @property
    def n_nodes(self):
        """Number of nodes."""
        return len(self.scores)

    @property
    def nbytes(self):
        """Memory of the tables, in bytes."""
        return sum(part.nbytes for part in (self.origin, self.factors, self.unit, self.scores))

    @classmethod
    def learn(cls, bank, effect, choose, amplitude):
        """Decompose the lines of all nodes of a bank.

        `effect` (n_lines, n_parameters) is the effect of a unit of each parameter on the flux, which weights the
        parameters. `choose` takes the scores on all components, (n_nodes, n), largest first, and returns the number to
        keep. `amplitude` is the index of the log amplitude among the parameters.
        """
        # parameters without an effect on the flux still need a positive weight
        effect = np.maximum(effect, 1e-6 * effect.max(initial=1e-20)).astype(np.float32)
        table = bank.to_array(amplitude)
        mean = table.mean(axis=0, dtype=np.float64)
        table -= mean.astype(np.float32)
        table *= effect
        table = table.reshape(len(table), -1)
        vectors, sizes = principal_components(_gram(table))
        vectors = vectors[:, : choose(vectors * sizes)]
        factors = vectors.T.astype(np.float32) @ table
        step = np.maximum(np.abs(factors).max(axis=1, initial=0.0).astype(np.float64) / _LARGEST, 1e-300)
        code = np.empty(factors.shape, np.int16)
        for i in range(len(step)):  # one at a time: in double precision all take four times the memory of the table
            code[i] = np.rint(factors[i] / step[i, None])
        code = np.ascontiguousarray(code.T).reshape(*bank.origin.shape, -1)
        return cls(bank.origin + mean, code, 1 / effect, vectors * step)

    def to_state(self) -> dict:
        """State for a file: the arguments of the constructor."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        check_keys(state, ("origin", "factors", "unit", "scores"))
        sizes, shape = Sizes(), ("n_lines", "n_parameters")
        return cls(
            take_array(state, "origin", dtype="f8", shape=shape, sizes=sizes, low=-LARGE, high=LARGE),
            take_array(state, "factors", dtype="i2", shape=(*shape, "n_factors"), sizes=sizes),
            take_array(state, "unit", dtype="f4", shape=shape, sizes=sizes),
            take_array(
                state, "scores", dtype="f8", shape=("n_nodes", "n_factors"), sizes=sizes, low=-LARGE, high=LARGE
            ),
        )

    def shifted(self, change):
        """The same lines with `change` (n_lines, n_parameters) added to their parameters at every node."""
        return LineFactors(self.origin + change, self.factors, self.unit, self.scores)

    def with_lines(self, theta, like, nodes, weights, order):
        """The same lines and new ones, as `LineBank.with_lines`."""
        change = (self.factors[like] * self.unit[like][..., None].astype(np.float64)).mean(axis=1)
        change[:, 0] = 0.0
        unit = np.maximum(np.abs(change).max(axis=2, initial=0.0) / _LARGEST, 1e-30).astype(np.float32)
        code = np.rint(change / unit[..., None].astype(np.float64)).astype(np.int16)
        moved = (code * unit[..., None].astype(np.float64)) @ (weights @ self.scores[nodes])
        factors, unit, origin = (
            np.ascontiguousarray(np.concatenate(pair)[order])
            for pair in ((self.factors, code), (self.unit, unit), (self.origin, theta - moved))
        )
        return LineFactors(origin, factors, unit, self.scores)

    def only(self, lines):
        """These factors unchanged: a selection of lines would not be faster, see `LineBank.only`."""
        return self

    def at_node(self, node):
        """Lines of one node, as from `LineBank.at_node`."""
        lines, theta, _ = self.lines_at([node], np.ones(1))
        return lines, theta

    def lines_at(self, nodes, weights, slopes=None, *, amplitude=None, absent=None, wanted=None):
        """As `LineBank.lines_at`; `amplitude` and `absent` are ignored, since no line is absent."""
        wanted = np.arange(self.n_lines) if wanted is None else np.asarray(wanted)
        sums = np.asarray(weights)[None] if slopes is None else np.vstack([weights, slopes])
        total = np.zeros((len(sums), len(wanted), self.origin.shape[1]))
        add_factors(wanted, *frozen(self.factors, self.unit), sums @ self.scores[nodes], total)
        return wanted, self.origin[wanted] + total[0], total[1:]


def _gram(table):
    """Scalar products of rows, in double precision: rounding of large components would hide small ones."""
    gram = np.zeros((len(table), len(table)))
    for first in range(0, table.shape[1], _AT_ONCE):
        part = table[:, first : first + _AT_ONCE].astype(np.float64)
        gram += part @ part.T
    return gram
