r"""Weights of nodes from regression: a Gaussian process, or polynomials of the labels, learnt on all nodes.

Both are linear in the values of the nodes, so that a prediction is a weighted sum of them, as an interpolation is, and
one vector of weights serves all lines. With the covariances K of the nodes and polynomials P of their labels, which the
data determine freely, the weights at labels x are those of universal kriging,

.. math:: w(x) = B\,k(x) + C\,p(x), \quad C = K^{-1} P\,(P^T K^{-1} P)^{-1}, \quad B = K^{-1} - C P^T K^{-1},

and add up to 1. Without the node i, the others predict it with the weights :math:`-B_{ij} / B_{ii}`: the errors of all
held-out nodes cost no more than one fit. They choose the length scale of each label, and the kind of the regression.
"""

from itertools import combinations_with_replacement

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from stellarhml._state import StateError, check_keys, take, take_array, take_number
from stellarhml.manifold.leave_one_out import ErrorSamples
from stellarhml.manifold.variables import VARIABLES, take_nodes

MOST_NODES = 5000
"""Nodes of a regression: its matrices grow with their square, its time with their cube."""

_LEARN_FROM = 1000  # nodes from which length scales are learnt, of more than that
_EDGE = 1e-9
_LENGTHS = 0.05, 200.0  # shortest and longest length scale, in half ranges of the labels
_NOISE = 1e-7, 1.0  # of the variance of the process; less than 1e-7 is lost in rounding
_MAX_ITER = 60
_MOST_DEGREE = 4  # of polynomials alone
_MOST_SAMPLES = 512
_POINTS = 512  # at which the standard deviation inside the ranges is compared with that of held-out nodes


def _matern(squares):
    """Matern covariance of smoothness 7/2, and its derivative by the squared distance."""
    r = np.sqrt(7 * squares)
    decay = np.exp(-r)
    return (1 + r + 0.4 * r**2 + r**3 / 15) * decay, -0.7 * (1 + r + r**2 / 3) * decay


def _squared_exponential(squares):
    """Squared exponential covariance, and its derivative by the squared distance."""
    value = np.exp(-0.5 * squares)
    return value, -0.5 * value


KERNELS = {"matern": _matern, "squared_exponential": _squared_exponential}


class RegressionWeights:
    """Weights of nodes by regression on the labels.

    `nodes` (n_nodes, n_labels) are distinct; `variables` names the variable of each label, or is None. `kernel` is a
    key of `KERNELS`, with a length scale of each label in `lengths` (n_labels,), in units of half its range, and a
    variance `noise` of the nodes relative to that of the process; or None for polynomials alone. `degree` is that of
    the polynomials, with all their interactions.
    """

    def __init__(self, nodes, variables=None, *, kernel, lengths, noise, degree):
        self.nodes, self._variables = nodes, variables
        self.kernel, self.lengths, self.noise, self.degree = kernel, lengths, noise, degree
        self._scaling = Scaling(nodes, variables)
        self._points = self._scaling.points(nodes)[0]
        self._terms = polynomial_terms(self._points, degree)
        powers = _polynomials(self._points, self._terms)
        with threadpool_limits(1):  # as many threads would round differently
            orthogonal, self._triangle = np.linalg.qr(powers)
            covariance = _covariance(self._points, self._points, kernel, lengths)[0]
            covariance[np.diag_indices(len(nodes))] += noise if kernel else 1.0
            self._from_kernel, self._from_powers, self._spread = _kriging(covariance, orthogonal)
            own = np.diag(self._from_kernel)
            # variance of each node as predicted from the others; without others, it cannot be
            self._held_out = 1 / np.maximum(own, 1e-12 * max(own.max(), 1e-300))
            points = np.random.default_rng(0).uniform(-1, 1, (_POINTS, nodes.shape[1]))
            inside = self._solve(np.where(self._scaling.constant, 0.0, points))[1]
        tested = self._held_out[inner_nodes(nodes)]
        self._scale = float(np.sqrt(inside.mean() / tested.mean())) if len(tested) else 1.0

    @classmethod
    def learn(cls, nodes, variables, values):
        """Regression that predicts held-out nodes best.

        `values` (n_nodes, n_values), all in the same unit, are those to predict. Gaussian processes have the length
        scales of largest likelihood of the held-out nodes; of them and of polynomials, those with the smallest
        held-out error are taken.
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
                error = np.inf
                if setting["kernel"] is not None:
                    setting = _learn_lengths(points, gram, setting)
                held_out = _held_out(points, gram, **setting)
                if held_out is not None:
                    error = held_out[inner if inner.any() else slice(None)].sum()
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
        if kernel is not None and kernel not in KERNELS:
            raise StateError(f"`kernel` is {kernel!r:.100}; it must be None or one of {sorted(KERNELS)}.")
        low, high = _LENGTHS
        lengths = take_array(state, "lengths", dtype="f8", shape=(nodes.shape[1],), low=low, high=high)
        noise = take_number(state, "noise", low=_NOISE[0], high=_NOISE[1])
        degree = take_number(state, "degree", low=0, high=_MOST_DEGREE, integer=True)
        n_terms = _n_terms(nodes.shape[1], degree)
        if n_terms > max(len(nodes), 1):
            raise StateError(f"{n_terms} polynomials of degree {degree} need as many nodes; there are {len(nodes)}.")
        try:
            return cls(nodes, variables, kernel=kernel, lengths=lengths, noise=noise, degree=degree)
        except LinAlgError as error:
            raise StateError(f"The nodes do not determine a regression: {error}.") from None

    def weights(self, labels, derivatives=False):
        """Weights of the nodes at labels (n, n_labels), moved into the ranges of the nodes; and which are outside.

        Weights are a csr_matrix (n, n_nodes), whose rows sum to 1. Outside are labels outside the ranges, or farther
        from the nodes, by their variance, than any node from the others. With `derivatives`, a list follows:
        derivatives of the weights by each label, whose rows sum to 0; zero where a label was moved.
        """
        points, beyond, rate = self._scaling.points(labels)
        weights, variance = self._solve(points)
        outside = beyond.any(axis=1) | (variance > (1 + 1e-6) * self._held_out.max())
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
        inner = np.flatnonzero(inner_nodes(self.nodes))
        if len(self.nodes) < len(self._terms) + 1:
            inner = inner[:0]
        inner = inner[np.unique(np.linspace(0, len(inner) - 1, min(len(inner), _MOST_SAMPLES)).round().astype(int))]
        weights = -self._from_kernel[inner] / self._from_kernel[inner, inner][:, None]
        weights[np.arange(len(inner)), inner] = 0.0
        return held_out_samples(self.nodes, inner, weights, self._scale)

    def _solve(self, points):
        """Weights (n, n_nodes) at points, and the variance of a node there, in that of the process."""
        near = _covariance(points, self._points, self.kernel, self.lengths)[0]
        powers = self._orthogonal(_polynomials(points, self._terms))
        weights = near @ self._from_kernel + powers @ self._from_powers.T
        variance = (
            1.0
            + (self.noise if self.kernel else 0.0)
            - (near * (weights + powers @ self._from_powers.T)).sum(axis=1)
            + ((powers @ self._spread) * powers).sum(axis=1)
        )
        return weights, variance

    def _slopes(self, points, rate):
        """Derivatives of the weights by each label, a list of arrays (n, n_nodes); `rate` of points by labels."""
        _, falls = _covariance(points, self._points, self.kernel, self.lengths)
        slopes = []
        for k, length in enumerate(self.lengths):
            powers = self._orthogonal(_polynomials(points, self._terms, along=k))
            slope = powers @ self._from_powers.T
            if self.kernel:
                apart = points[:, k, None] - self._points[:, k]
                slope += (2 * falls * apart / length**2) @ self._from_kernel
            slopes.append(slope * rate[:, k, None])
        return slopes

    def _orthogonal(self, powers):
        """Polynomials that are orthonormal over the nodes."""
        return np.linalg.solve(self._triangle.T, powers.T).T


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


def polynomial_terms(points, degree):
    """Labels that are multiplied in each polynomial up to a degree: tuples of their columns, () for the constant.

    Powers that the values of a label cannot tell apart are left out: a label with two values has no square.
    """
    counts = [len(np.unique(column)) for column in points.T]
    usable = [k for k, count in enumerate(counts) if count > 1]
    terms = [()]
    for size in range(1, degree + 1):
        terms += [
            term
            for term in combinations_with_replacement(usable, size)
            if all(term.count(k) < counts[k] for k in set(term))
        ]
    return terms


def _n_terms(n_labels, degree):
    """Largest number of `polynomial_terms`."""
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
    a, b = points / lengths, others / lengths
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return KERNELS[kernel](np.maximum(squares, 0.0))


def _kriging(covariance, powers):
    """Matrices B (n_nodes, n_nodes), C (n_nodes, n_terms) and the inverse of P^T K^-1 P, of orthonormal `powers` P."""
    inverse = cho_solve(cho_factor(covariance, lower=True), np.eye(len(covariance)))
    inverse = (inverse + inverse.T) / 2
    product = inverse @ powers
    spread = np.linalg.inv(powers.T @ product)
    from_powers = product @ spread
    return inverse - from_powers @ product.T, from_powers, spread


def _settings(points, constant):
    """Regressions to try: polynomials, as far as nodes suffice, and processes with a linear trend."""
    n, n_labels = points.shape
    lengths = np.ones(n_labels)
    for degree in range(_MOST_DEGREE + 1):
        if len(polynomial_terms(points, degree)) < n:
            yield {"kernel": None, "lengths": lengths, "noise": 1.0, "degree": degree}
    trend = int(len(polynomial_terms(points, 1)) < n)
    if n > 2 and not constant.all():
        for kernel in KERNELS:
            yield {"kernel": kernel, "lengths": lengths, "noise": 1e-5, "degree": trend}


def _held_out(points, gram, *, kernel, lengths, noise, degree):
    """Squared error of each held-out node, (n_nodes,); None if the nodes do not determine it."""
    powers = np.linalg.qr(_polynomials(points, polynomial_terms(points, degree)))[0]
    covariance = _covariance(points, points, kernel, lengths)[0]
    covariance[np.diag_indices(len(points))] += noise if kernel else 1.0
    try:
        matrix = _kriging(covariance, powers)[0]
    except LinAlgError:
        return None
    own = np.diag(matrix)
    if own.min() <= 1e-10 * own.max():
        return None
    return ((matrix @ gram) * matrix).sum(axis=1) / own**2


def _learn_lengths(points, gram, setting):
    """Setting with the length scales and the noise of largest likelihood of held-out nodes."""
    degree, kernel = setting["degree"], setting["kernel"]
    powers = np.linalg.qr(_polynomials(points, polynomial_terms(points, degree)))[0]
    gram = gram / max(np.trace(gram), 1e-300)

    def loss(x):
        return _held_out_likelihood(points, gram, powers, kernel, np.exp(x[:-1]), np.exp(x[-1]))

    start = np.log(np.append(2.0 * setting["lengths"], setting["noise"]))
    bounds = [tuple(np.log(_LENGTHS))] * points.shape[1] + [tuple(np.log(_NOISE))]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _MAX_ITER})
    values = np.exp(found.x)
    lengths = np.clip(values[:-1], *_LENGTHS)
    return setting | {"lengths": lengths, "noise": float(np.clip(values[-1], *_NOISE))}


def _held_out_likelihood(points, gram, powers, kernel, lengths, noise):
    r"""Negative ln likelihood of held-out nodes, and its derivatives by the ln of each length scale and of the noise.

    Node i has the error e_i and the variance :math:`v / B_{ii}`, with v the best common factor. With the derivative
    :math:`dB = -B\,dK\,B`, those of all elements of K are a matrix M, and a parameter's is the sum of M dK.
    """
    value, fall = _covariance(points, points, kernel, lengths)
    value[np.diag_indices(len(points))] += noise
    try:
        matrix = _kriging(value, powers)[0]
    except LinAlgError:
        return np.inf, np.zeros(len(lengths) + 1)
    n, own = len(points), np.maximum(np.diag(matrix), 1e-300)
    product = matrix @ gram @ matrix  # of the errors times own
    size = np.diag(product) / own  # squared errors over their variances
    total = size.sum()
    loss = n * np.log(total) - np.log(own).sum()
    change = -2 * n / total * (matrix / own) @ product
    change += (matrix * (n / total * size / own + 1 / own)) @ matrix
    change = (change + change.T) / 2
    falling = change * fall
    scaled = points / lengths
    apart = (falling.sum(axis=1) @ scaled**2 - (scaled * (falling @ scaled)).sum(axis=0)) * 2
    return loss, np.append(-2 * apart, np.trace(change) * noise)
