r"""Line parameters of all nodes of a grid: a bank of the lines present at each node, or a few factors.

With factors, the parameters of all lines at node k are :math:`\theta_k = \bar\theta + \sum_r s_{kr} f_r`: the
:math:`f_r` are the principal components of the parameters, each parameter weighted by its effect on the flux. Only the
scores of the nodes are interpolated; the components left out carry noise from node to node.
"""

import numpy as np
from scipy import sparse

from stellarhml._state import Sizes, StateError, check_keys, take_array
from stellarhml.kernels.combine import add_factors, add_lines, count_lines, frozen
from stellarhml.manifold.residual import take_pointers

_ROUNDING = 1e-13  # of the largest eigenvalue: smaller ones are rounding errors of the scalar products

_FEW = 32
"""Up to this number, all components are kept: small grids save little otherwise, and have few nodes to hold out."""


def principal_components(gram):
    """Principal components from scalar products.

    Parameters
    ----------
    gram : ndarray of shape (n_rows, n_rows), float64
        Scalar products of rows of mean zero, summed in double precision.

    Returns
    -------
    vectors : ndarray of shape (n_rows, n_components)
        Orthonormal weights: ``vectors.T @ rows`` are the components, with norms `sizes`, and
        ``vectors @ vectors.T @ rows`` are the rows.
    sizes : ndarray of shape (n_components,)
        Norms of the components, decreasing, without those that are rounding errors.
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
    """Number of components that predicts held-out rows best.

    A component that varies smoothly with the labels can be interpolated; one that is noise from row to row is better
    left out.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_components)
        Scores of the rows, components in decreasing order.
    samples : ErrorSamples
        Held-out rows.
    slack : float, default=1.0
        Tolerated factor above the smallest held-out error, for the sake of fewer components.

    Returns
    -------
    rank : int
        The smallest number of components whose held-out error is within `slack` of the smallest. Up to 32 components,
        all are kept; without held-out rows, at most 32.
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

    A wavelength of 10^4 angstrom in single precision is accurate to 10^-3 angstrom, its distance from the mean to
    10^-8.

    Parameters
    ----------
    indptr : ndarray of shape (n_nodes + 1,), int64
        The lines of node k are entries ``indptr[k]:indptr[k + 1]``.
    line : ndarray of shape (n_entries,), int32
        Catalogue index of each entry, increasing within a node.
    values : ndarray of shape (n_entries, n_parameters), float32
        Line parameters minus `origin`.
    origin : ndarray of shape (n_lines, n_parameters), float64
        Mean of each line.
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

        Parameters
        ----------
        table : csr_matrix or ndarray of shape (n_nodes, n_parameters * n_lines)
            Line parameters, a block of columns per line.
        n_parameters : int
            Number of parameters of a line.

        Returns
        -------
        bank : LineBank
            The same lines.
        """
        n_nodes, n_columns = table.shape
        if sparse.issparse(table):
            table = table.tocsr()
            node = np.repeat(np.arange(n_nodes), np.diff(table.indptr))
            column, value = table.indices, table.data
        else:
            node, column = np.nonzero(~np.isnan(table))
            value = table[node, column]
        n_lines = n_columns // n_parameters
        entries, place = np.unique(node * np.int64(n_lines) + column // n_parameters, return_inverse=True)
        values = np.zeros((len(entries), n_parameters))
        values[place, column % n_parameters] = value
        owner, line = np.divmod(entries, max(n_lines, 1))
        indptr = np.searchsorted(owner, np.arange(n_nodes + 1)).astype(np.int64)
        count = np.maximum(np.bincount(line, minlength=n_lines), 1)
        origin = np.stack([np.bincount(line, part, n_lines) / count for part in values.T], axis=1)
        return cls(indptr, line.astype(np.int32), (values - origin[line]).astype(np.float32), origin)

    def to_state(self) -> dict:
        """State for a file.

        Returns
        -------
        state : dict
            The arguments of the constructor.
        """
        return dict(vars(self))

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state.

        Parameters
        ----------
        state : dict
            As `to_state` returns it.

        Returns
        -------
        bank : LineBank
            With the same values.

        Raises
        ------
        StateError
            If a value is missing or invalid.
        """
        check_keys(state, ("indptr", "line", "values", "origin"))
        sizes = Sizes()
        origin = take_array(state, "origin", dtype="f8", shape=("n_lines", "n_parameters"), sizes=sizes)
        values = take_array(state, "values", dtype="f4", shape=("n_entries", "n_parameters"), sizes=sizes)
        n_lines, n_entries = len(origin), len(values)
        line = take_array(state, "line", dtype="i4", shape=("n_entries",), sizes=sizes, low=0, high=max(n_lines - 1, 0))
        indptr = take_pointers(state, "indptr", None, n_entries)
        begins = np.zeros(n_entries + 1, dtype=bool)
        begins[indptr] = True
        if (n_entries and not n_lines) or not (begins[1:-1] | (np.diff(line) > 0)).all():
            raise StateError(f"`line` must increase within each node, from 0 to at most {n_lines - 1}.")
        return cls(indptr, line, values, origin)

    def only(self, lines):
        """Keep some lines and make the others absent at all nodes, which is faster for many labels.

        Parameters
        ----------
        lines : array-like of int
            Catalogue indices of the lines to keep.

        Returns
        -------
        bank : LineBank
            A bank with the same catalogue.
        """
        kept = np.isin(self.line, lines)
        indptr = np.concatenate([[0], np.cumsum(kept)])[self.indptr]
        return LineBank(indptr, self.line[kept], self.values[kept], self.origin)

    def to_array(self, amplitude):
        """Values of all lines at all nodes.

        Parameters
        ----------
        amplitude : int
            Index of the log amplitude among the parameters.

        Returns
        -------
        values : ndarray of shape (n_nodes, n_lines, n_parameters), float32
            Line parameters minus `origin`. An absent line has its mean shape and its smallest amplitude.
        """
        values = np.zeros((self.n_nodes, *self.origin.shape), dtype=np.float32)
        least = np.zeros(self.n_lines, dtype=np.float32)
        np.minimum.at(least, self.line, self.values[:, amplitude])
        values[:, :, amplitude] = least
        node = np.repeat(np.arange(self.n_nodes), np.diff(self.indptr))
        values[node, self.line] = self.values
        return values

    def at_node(self, node):
        """Lines of one node.

        Parameters
        ----------
        node : int
            The node.

        Returns
        -------
        lines : ndarray of shape (n,), int32
            Catalogue indices.
        theta : ndarray of shape (n, n_parameters), float64
            Their parameters.
        """
        span = slice(self.indptr[node], self.indptr[node + 1])
        lines = self.line[span]
        return lines, self.origin[lines] + self.values[span]

    def lines_at(self, nodes, weights, slopes=None, *, amplitude, absent, wanted=None):
        """Lines at a weighted mean of nodes, and their derivatives.

        Parameters
        ----------
        nodes : ndarray of shape (k,), int
            Nodes with a weight.
        weights : ndarray of shape (k,)
            Weights of the nodes, of sum 1.
        slopes : ndarray of shape (n_slopes, k), default=None
            Derivatives of the weights, of sum 0.
        amplitude : int
            Index of the log amplitude among the parameters.
        absent : {"fade", "vanish"}
            Treatment of a line that is absent at some of the nodes. "fade": the mean over the nodes that have it, with
            its amplitude times their total weight. "vanish": the paper's rule, log amplitude -1000 at the nodes
            without it, and the line dropped below -100.
        wanted : ndarray of int, default=None
            Catalogue indices of the lines to compute, increasing. None: all.

        Returns
        -------
        lines : ndarray of shape (n,), int64
            Catalogue indices of the lines present, increasing.
        theta : ndarray of shape (n, n_parameters), float64
            Parameters of these lines.
        slopes : ndarray of shape (n_slopes, n, n_parameters), float64
            Derivatives of the parameters.
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

    Parameters
    ----------
    origin : ndarray of shape (n_lines, n_parameters), float64
        Mean of each line.
    factors : ndarray of shape (n_lines, n_parameters, n_factors), int16
        Factors.
    unit : ndarray of shape (n_lines, n_parameters), float32
        Units of the factors: their products are line parameters.
    scores : ndarray of shape (n_nodes, n_factors), float64
        Scores of the nodes.
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
        """Decompose the lines of all nodes.

        Parameters
        ----------
        bank : LineBank
            The lines.
        effect : ndarray of shape (n_lines, n_parameters)
            Effect of one unit of each parameter on the flux, which weights the parameters.
        choose : callable
            Takes the scores on all components, shape (n_nodes, n), largest first; returns the number of components to
            keep.
        amplitude : int
            Index of the log amplitude among the parameters.

        Returns
        -------
        factors : LineFactors
            The lines.
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
        code = np.rint(factors / step[:, None]).astype(np.int16)
        code = np.ascontiguousarray(code.T).reshape(*bank.origin.shape, -1)
        return cls(bank.origin + mean, code, 1 / effect, vectors * step)

    def to_state(self) -> dict:
        """State for a file.

        Returns
        -------
        state : dict
            The arguments of the constructor.
        """
        return dict(vars(self))

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state.

        Parameters
        ----------
        state : dict
            As `to_state` returns it.

        Returns
        -------
        factors : LineFactors
            With the same values.

        Raises
        ------
        StateError
            If a value is missing or invalid.
        """
        check_keys(state, ("origin", "factors", "unit", "scores"))
        sizes, shape = Sizes(), ("n_lines", "n_parameters")
        return cls(
            take_array(state, "origin", dtype="f8", shape=shape, sizes=sizes),
            take_array(state, "factors", dtype="i2", shape=(*shape, "n_factors"), sizes=sizes),
            take_array(state, "unit", dtype="f4", shape=shape, sizes=sizes),
            take_array(state, "scores", dtype="f8", shape=("n_nodes", "n_factors"), sizes=sizes),
        )

    def only(self, lines):
        """Return the same factors: a selection of lines would not be faster, see `LineBank.only`.

        Parameters
        ----------
        lines : array-like of int
            Ignored.

        Returns
        -------
        factors : LineFactors
            The same object.
        """
        return self

    def at_node(self, node):
        """Lines of one node.

        Parameters
        ----------
        node : int
            The node.

        Returns
        -------
        lines, theta : ndarray
            As `LineBank.at_node` returns them.
        """
        lines, theta, _ = self.lines_at([node], np.ones(1))
        return lines, theta

    def lines_at(self, nodes, weights, slopes=None, *, amplitude=None, absent=None, wanted=None):
        """Lines at a weighted mean of nodes, and their derivatives.

        Parameters
        ----------
        nodes, weights, slopes, wanted : ndarray
            As in `LineBank.lines_at`.
        amplitude, absent : object
            Ignored: no line is absent.

        Returns
        -------
        lines, theta, slopes : ndarray
            As `LineBank.lines_at` returns them.
        """
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
