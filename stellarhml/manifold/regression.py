r"""Weights of nodes from regression: a Gaussian process, or polynomials of the labels, learnt on all nodes.

Both are linear in the values of the nodes, so that a prediction is a weighted sum of them, as an interpolation is, and
one vector of weights serves all lines. With the covariances K of the nodes and polynomials P of their labels, which the
data determine freely, the weights at labels x are those of universal kriging,

.. math:: w(x) = B\,k(x) + C\,p(x), \quad C = K^{-1} P\,(P^T K^{-1} P)^{-1}, \quad B = K^{-1} - C P^T K^{-1},

and add up to 1. Without the node i, the others predict it with the weights :math:`-B_{ij} / B_{ii}`: the errors of all
held-out nodes cost no more than one fit. They choose between process and polynomials; the length scales of the labels
are those of the largest likelihood.
"""

from functools import cached_property
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from stellarhml._state import StateError, check_keys, take, take_array, take_number
from stellarhml.manifold.lattice import LATTICE_SHARE, LatticeWeights
from stellarhml.manifold.leave_one_out import ErrorSamples
from stellarhml.manifold.variables import VARIABLES, take_nodes

MOST_NODES = 3000
"""Nodes of a regression: its matrices grow with their square, its time with their cube."""

_LEARN_FROM = 1000  # nodes from which length scales are learnt, of more than that
_EDGE = 1e-9
_DETERMINED = 1e-9  # smallest inverse variance of a node that the others determine, in that of the process
_DEPENDENT = 1e-8  # of the length of a polynomial: one with less of its own depends on the others
_LENGTHS = 0.05, 200.0  # shortest and longest length scale, in half ranges of the labels
_NOISE = 1e-6, 1.0  # of the variance of the process; less is lost in rounding
_FAR = 2.0  # times the largest variance of a held-out node: a label with more is outside
_MOST_SCALE = 2.0
"""Limit of the factor from held-out nodes to labels between them. On a grid a held-out node is predicted along the
finest label, and errors in cells are larger: on the optical SME grid 4 times by the process, 1.3 times in fact."""
_MAX_ITER = 60
_MOST_DEGREE = 4  # of polynomials alone
_MOST_SAMPLES = 512
_POINTS = 512  # at which the standard deviation inside the ranges is compared with that of held-out nodes


MATERN = "matern"


def _matern(squares):
    """Matern covariance of smoothness 7/2, and its derivative by the squared distance."""
    r = np.sqrt(7 * squares)
    decay = np.exp(-r)
    return (1 + r + 0.4 * r**2 + r**3 / 15) * decay, -0.7 * (1 + r + r**2 / 3) * decay


class RegressionWeights:
    """Weights of nodes by regression on the labels.

    `nodes` (n_nodes, n_labels) are distinct; `variables` names the variable of each label, or is None. `kernel` is
    "matern", with a length scale of each label in `lengths` (n_labels,), in units of half its range, and a variance
    `noise` of the nodes relative to that of the process; or None for polynomials alone. `degree` is that of
    the polynomials, with all their interactions.
    """

    def __init__(self, nodes, variables=None, *, kernel, lengths, noise, degree):
        self.nodes, self._variables = nodes, variables
        self.kernel, self.lengths, self.noise, self.degree = kernel, lengths, noise, degree
        self._scaling = Scaling(nodes, variables)
        self._points = self._scaling.points(nodes)[0]
        self._lattice = None
        if nodes.shape[1] > 1 and LatticeWeights.share(nodes) >= LATTICE_SHARE:
            self._lattice = LatticeWeights(nodes, smooth=False, variables=variables)

    @cached_property
    def _system(self):
        """Matrices of all nodes, which take a second for 1000: not computed before they are needed."""
        with threadpool_limits(1):  # as many threads would round differently
            return _System.of(self._points, self.kernel, self.lengths, self.noise, self.degree)

    @cached_property
    def _scale(self):
        """Standard deviation inside the ranges over that of held-out nodes, by the process."""
        held_out = self._system.held_out
        points = np.random.default_rng(0).uniform(-1, 1, (_POINTS, self.nodes.shape[1]))
        inside = self._solve(np.where(self._scaling.constant, 0.0, points))[1]
        if self._lattice is None:
            inside = inside[inside <= _FAR * held_out.max()]
        known = inner_nodes(self.nodes) & np.isfinite(held_out)
        if not len(inside) or not known.any():
            return 1.0
        return float(min(np.sqrt(inside.mean() / held_out[known].mean()), _MOST_SCALE))

    @classmethod
    def learn(cls, nodes, variables, values):
        """Regression that predicts held-out nodes best.

        `values` (n_nodes, n_values), all in the same unit, are those to predict. The Gaussian process has the length
        scales of largest likelihood; of it and of polynomials, the one with the smallest held-out error is taken.
        """
        rows = np.unique(np.linspace(0, len(nodes) - 1, min(_LEARN_FROM, len(nodes))).round().astype(int))
        scaling = Scaling(nodes[rows], variables)
        points = scaling.points(nodes[rows])[0]
        values = values[rows] - values[rows].mean(axis=0)
        inner = inner_nodes(nodes[rows])
        best, least = {"kernel": None, "lengths": np.ones(nodes.shape[1]), "noise": 1.0, "degree": 0}, np.inf
        with threadpool_limits(1):
            gram = values @ values.T
            for setting in _settings(points, scaling.constant):
                if setting["kernel"] is not None:
                    setting = _learn_lengths(points, gram, setting)
                error = _held_out(points, gram, setting)[inner if inner.any() else slice(None)].sum()
                if error < 0.999 * least:  # the first of equal ones
                    best, least = setting, error
        return cls(nodes, variables, **best)

    def to_state(self) -> dict:
        """State for a file: the arguments of the constructor."""
        return {
            "nodes": self.nodes,
            "variables": None if self._variables is None else list(self._variables),
            "kernel": self.kernel,
            "lengths": self.lengths,
            "noise": float(self.noise),
            "degree": int(self.degree),
        }

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        check_keys(state, ("nodes", "variables", "kernel", "lengths", "noise", "degree"))
        nodes, variables = take_nodes(state)
        if len(nodes) > MOST_NODES:
            raise StateError(f"There are {len(nodes)} nodes of a regression; a file holds at most {MOST_NODES}.")
        kernel = take(state, "kernel", (str, type(None)))
        if kernel not in (None, MATERN):
            raise StateError(f"`kernel` is {kernel!r:.100}; it must be None or {MATERN!r}.")
        low, high = _LENGTHS
        lengths = take_array(state, "lengths", dtype="f8", shape=(nodes.shape[1],), low=low, high=high)
        noise = take_number(state, "noise", low=_NOISE[0], high=_NOISE[1])
        degree = take_number(state, "degree", low=0, high=_MOST_DEGREE, integer=True)
        n_terms = _n_terms(nodes.shape[1], degree)
        if n_terms > len(nodes):
            raise StateError(f"{n_terms} polynomials of degree {degree} need as many nodes; there are {len(nodes)}.")
        return cls(nodes, variables, kernel=kernel, lengths=lengths, noise=noise, degree=degree)

    def weights(self, labels, derivatives=False):
        """Weights of the nodes at labels (n, n_labels), moved into the ranges of the nodes; and which are outside.

        Weights are a csr_matrix (n, n_nodes), whose rows sum to 1. Outside are labels outside the ranges; on a grid, in
        cells without a corner; of scattered nodes, where the variance is twice that of any node as predicted from the
        others. With `derivatives`, a list follows: derivatives of the weights by each label, whose rows sum to 0; zero
        where a label was moved.
        """
        points, beyond, rate = self._scaling.points(labels)
        weights, variance = self._solve(points)
        far = variance > _FAR * self._system.held_out.max()
        outside = beyond.any(axis=1) | (far if self._lattice is None else self._lattice.weights(labels)[1])
        if not derivatives:
            return full_rows(weights), outside
        return full_rows(weights), outside, [full_rows(slope) for slope in self._slopes(points, rate)]

    def fill_weights(self, labels):
        """Zeros, shape (n, n_labels): a regression has no missing nodes."""
        return np.zeros(labels.shape)

    def split_at_breaks(self, labels):
        """Return None: a regression is smooth."""

    def leave_one_out(self):
        """Held-out predictions that measure the error of the regression, of nodes inside the ranges, at most 512."""
        inner = np.flatnonzero(inner_nodes(self.nodes) & np.isfinite(self._system.held_out))
        matrix = self._system.from_kernel
        inner = inner[np.unique(np.linspace(0, len(inner) - 1, min(len(inner), _MOST_SAMPLES)).round().astype(int))]
        weights = -matrix[inner] / matrix[inner, inner][:, None]
        weights[np.arange(len(inner)), inner] = 0.0
        return held_out_samples(self.nodes, inner, weights, self._scale)

    def _solve(self, points):
        """Weights (n, n_nodes) at points, and the variance of a node there, in that of the process."""
        system = self._system
        near = _covariance(points, self._points, self.kernel, self.lengths)[0]
        powers = system.polynomials(points)
        weights = near @ system.from_kernel + powers @ system.from_powers.T
        variance = (
            1.0
            + (self.noise if self.kernel else 0.0)
            - (near * (weights + powers @ system.from_powers.T)).sum(axis=1)
            + ((powers @ system.spread) * powers).sum(axis=1)
        )
        return weights, variance

    def _slopes(self, points, rate):
        """Derivatives of the weights by each label, a list of arrays (n, n_nodes); `rate` of points by labels."""
        system, slopes = self._system, []
        _, falls = _covariance(points, self._points, self.kernel, self.lengths)
        for k, length in enumerate(self.lengths):
            slope = system.polynomials(points, along=k) @ system.from_powers.T
            if self.kernel:
                apart = points[:, k, None] - self._points[:, k]
                slope += (2 * falls * apart / length**2) @ system.from_kernel
            slopes.append(slope * rate[:, k, None])
        return slopes


class Scaling:
    """Points between -1 and 1 of labels between the extremes of `nodes` (n_nodes, n_labels), in their variables."""

    def __init__(self, nodes, variables):
        self._variables = [VARIABLES[name] for name in variables or ("linear",) * nodes.shape[1]]
        self._bounds = nodes.min(axis=0), nodes.max(axis=0)
        low, high = (self._values(ends[None])[0] for ends in self._bounds)
        self.constant = low == high
        self._middle, self._half = (low + high) / 2, np.where(self.constant, 1.0, (high - low) / 2)

    def points(self, labels):
        """Points of labels moved into the ranges, which were outside, and derivatives of points; all (n, n_labels)."""
        low, high = self._bounds
        slack = _EDGE * np.maximum(np.maximum(np.abs(low), np.abs(high)), 1)
        beyond = (labels < low - slack) | (labels > high + slack)
        inside = np.clip(labels, low, high)
        rate = np.stack([variable.slope(x) for variable, x in zip(self._variables, inside.T, strict=True)], axis=1)
        rate = np.where(beyond | self.constant, 0.0, rate / self._half)
        return (self._values(inside) - self._middle) / self._half, beyond, rate

    def _values(self, labels):
        return np.stack([variable.value(x) for variable, x in zip(self._variables, labels.T, strict=True)], axis=1)


def inner_nodes(nodes):
    """Mask of nodes (n_nodes,) between the extremes of all labels that have three values or more."""
    wide = np.array([len(np.unique(column)) > 2 for column in nodes.T])
    if not wide.any():
        return np.zeros(len(nodes), dtype=bool)
    return ((nodes > nodes.min(axis=0)) & (nodes < nodes.max(axis=0)))[:, wide].all(axis=1)


def held_out_samples(nodes, held_out, weights, scale):
    """ErrorSamples of nodes `held_out` (n,), int, predicted with `weights` (n, n_nodes)."""
    n = len(held_out)
    targets = sparse.csr_matrix((np.ones(n), (np.arange(n), held_out)), shape=(n, len(nodes)))
    along, unknown = np.full(n, -1, dtype=np.int64), np.full(n, np.nan)
    return ErrorSamples(nodes[held_out], along, full_rows(weights), targets, np.full(n, scale), unknown)


def full_rows(values):
    """csr_matrix of an array (n, n_columns), of which every entry is stored."""
    n, n_columns = values.shape
    columns = np.tile(np.arange(n_columns, dtype=np.int32), n)
    return sparse.csr_matrix((values.ravel(), columns, np.arange(n + 1, dtype=np.int32) * n_columns), values.shape)


class _System(NamedTuple):
    """The matrices of a regression: `from_kernel` B, `from_powers` C, and `spread`, the inverse of P^T K^-1 P.

    The polynomials P are orthonormal over the nodes: products of the labels in `terms`, times the inverse of
    `triangle`. `held_out` (n_nodes,) is the variance of each node as predicted from the others.
    """

    terms: list
    triangle: np.ndarray
    from_kernel: np.ndarray
    from_powers: np.ndarray
    spread: np.ndarray
    held_out: np.ndarray

    @classmethod
    def of(cls, points, kernel, lengths, noise, degree):
        """Matrices of nodes at `points`, the rest as in `RegressionWeights`."""
        terms, powers, triangle = _orthonormal(points, degree)
        covariance = _covariance(points, points, kernel, lengths)[0]
        covariance[np.diag_indices(len(points))] += noise if kernel else 1.0
        from_kernel, from_powers, spread = _kriging(covariance, powers)
        own = np.diag(from_kernel)
        # without others that suffice for all polynomials a node cannot be predicted
        held_out = np.full(len(own), np.inf)
        np.divide(1, own, out=held_out, where=own > _DETERMINED)
        return cls(terms, triangle, from_kernel, from_powers, spread, held_out)

    def polynomials(self, points, along=None):
        """Orthonormal polynomials at points, (n, n_terms), or their derivatives along a label."""
        return np.linalg.solve(self.triangle.T, _polynomials(points, self.terms, along).T).T


def _orthonormal(points, degree):
    """Independent products of labels up to a degree, orthonormal over the points, and the triangle that makes them so.

    A product is a tuple of columns, () for the constant. The square of a label with two values depends on the constant.
    """
    columns = range(points.shape[1])
    terms = [term for size in range(degree + 1) for term in combinations_with_replacement(columns, size)]
    powers = _polynomials(points, terms)
    triangle = np.linalg.qr(powers, mode="r")
    size = np.linalg.norm(powers, axis=0)
    kept = np.abs(np.diag(triangle)) > _DEPENDENT * np.maximum(size[: len(triangle)], 1e-300)
    terms = [term for term, keep in zip(terms, kept, strict=False) if keep]
    return terms, *np.linalg.qr(powers[:, : len(kept)][:, kept])


def _n_terms(n_labels, degree):
    """Number of products of labels up to a degree."""
    count = 1
    for k in range(1, degree + 1):
        count = count * (n_labels + k) // k
    return count


def _polynomials(points, terms, along=None):
    """Values of polynomials at points, (n, n_terms), or their derivatives along one of the columns."""
    values = np.zeros((len(points), len(terms)))
    for i, term in enumerate(terms):
        if along is None:
            values[:, i] = points[:, list(term)].prod(axis=1)
        elif along in term:
            rest = list(term)
            rest.remove(along)
            values[:, i] = term.count(along) * points[:, rest].prod(axis=1)
    return values


def _covariance(points, others, kernel, lengths):
    """Covariances (n, n_others) and their derivatives by the squared distance; zeros without a kernel."""
    if kernel is None:
        return np.zeros((len(points), len(others))), None
    return _matern(_squared_distances(points / lengths, others / lengths))


def _squared_distances(a, b):
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0.0)


def _kriging(covariance, powers):
    """Matrices B (n_nodes, n_nodes), C (n_nodes, n_terms) and the inverse of P^T K^-1 P, of orthonormal `powers` P."""
    inverse, failed = dpotri(np.linalg.cholesky(covariance), lower=1)
    if failed:
        raise np.linalg.LinAlgError("singular covariance")
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    product = inverse @ powers
    spread = np.linalg.inv(powers.T @ product)
    from_powers = product @ spread
    return inverse - from_powers @ product.T, from_powers, spread


def _settings(points, constant):
    """Regressions to try: polynomials, as far as nodes suffice, and a process with a linear trend."""
    n, n_labels = points.shape
    lengths = np.ones(n_labels)
    degrees = [degree for degree in range(_MOST_DEGREE + 1) if degree == 0 or _n_terms(n_labels, degree) < n]
    for degree in degrees:
        yield {"kernel": None, "lengths": lengths, "noise": 1.0, "degree": degree}
    if n > 2 and not constant.all():
        yield {"kernel": MATERN, "lengths": lengths, "noise": 1e-5, "degree": min(1, max(degrees))}


def _held_out(points, gram, setting):
    """Squared error of each held-out node, (n_nodes,); infinite where the others do not determine it."""
    try:
        matrix = _System.of(points, **setting).from_kernel
    except np.linalg.LinAlgError:
        return np.full(len(points), np.inf)
    own, error = np.diag(matrix), ((matrix @ gram) * matrix).sum(axis=1)
    held_out = np.full(len(own), np.inf)
    return np.divide(error, own**2, out=held_out, where=own > _DETERMINED)


def _learn_lengths(points, gram, setting):
    """Setting with the length scales and the noise of largest likelihood."""
    powers = _orthonormal(points, setting["degree"])[1]
    gram = gram / max(np.trace(gram), 1e-300)

    def loss(x):
        return _likelihood(points, gram, powers, np.exp(x[:-1]), np.exp(x[-1]))

    start = np.log(np.append(2.0 * setting["lengths"], setting["noise"]))
    bounds = [tuple(np.log(_LENGTHS))] * points.shape[1] + [tuple(np.log(_NOISE))]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _MAX_ITER})
    values = np.exp(found.x)
    return setting | {"lengths": np.clip(values[:-1], *_LENGTHS), "noise": float(np.clip(values[-1], *_NOISE))}


def _likelihood(points, gram, powers, lengths, noise):
    r"""Negative ln likelihood of the nodes, and its derivatives by the ln of each length scale and of the noise.

    It is restricted to what the m polynomials leave of n nodes, and the variance of the process is the best one:
    :math:`(n - m) \ln \mathrm{tr}(B G) + \ln|K| + \ln|P^T K^{-1} P|`, with the products G of the nodes. Its derivatives
    by all elements of K are a matrix M, and a parameter's is the sum of M dK.
    """
    value, fall = _matern(_squared_distances(points / lengths, points / lengths))
    value[np.diag_indices(len(points))] += noise
    try:
        matrix, _, spread = _kriging(value, powers)
    except np.linalg.LinAlgError:
        return np.inf, np.zeros(len(lengths) + 1)
    n_free, total = len(points) - powers.shape[1], max((matrix * gram).sum(), 1e-300)
    loss = n_free * np.log(total) + np.linalg.slogdet(value)[1] - np.linalg.slogdet(spread)[1]
    change = matrix - n_free / total * matrix @ gram @ matrix
    falling = change * fall
    scaled = points / lengths
    apart = (falling.sum(axis=1) @ scaled**2 - (scaled * (falling @ scaled)).sum(axis=0)) * 2
    return loss, np.append(-2 * apart, np.trace(change) * noise)
