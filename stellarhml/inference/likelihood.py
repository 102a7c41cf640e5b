r"""Likelihood of a spectrum under a model with free continua, and its maximum.

The data F of a piece of spectrum are :math:`P S(\theta)` plus noise, with S the model and P a polynomial. The
coefficients of P enter linearly and are marginalised over a flat prior: with A the terms of the polynomial times S, all
in units of the errors, and :math:`Q R = A`,

.. math:: -2 \ln L = \lVert (1 - Q Q^T) F \rVert^2 + 2 \ln \lvert \det R \rvert + const

The determinant hardly depends on the parameters; least-squares fits leave it out.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares


class Likelihood:
    """Residuals of a spectrum (`pieces`) with their derivatives, under a ForwardChain or RestChain."""

    def __init__(self, chain, parameters, pieces):
        self.chain, self.parameters, self.pieces = chain, parameters, pieces
        self.n_pixels = sum(len(piece.pixels) for piece in pieces)
        self.n_terms = sum(0 if piece.basis is None else piece.basis.shape[1] for piece in pieces)
        self._at, self._linear = None, None

    def residuals(self, variables):
        """Weighted residuals followed by those of priors, shape (n_pixels + n_priors,), at variables (n_free,)."""
        values = self.parameters.values(variables)
        fluxes = self.chain.flux(values)
        parts = [_residuals(piece, fluxes[piece.order][piece.pixels])[0] for piece in self.pieces]
        return np.concatenate([*parts, self.parameters.prior_residuals(values)])

    def residuals_for_fit(self, variables):
        """As `residuals`, and keep the derivatives for `jacobian`."""
        return self.linearise(variables).residuals

    def jacobian(self, variables):
        """Derivatives of the residuals with respect to the variables, shape (n_pixels + n_priors, n_free).

        The continuum is refitted for all parameters, so its terms are projected out (Kaufman's approximation for
        variable projection, which leaves out a term of the order of the residuals).

        References
        ----------
        .. [1] Kaufman, L. (1975), "A variable projection method for solving separable nonlinear least squares
           problems", BIT 15, 49. doi:10.1007/BF01932995
        """
        linear = self.linearise(variables)
        return linear.jacobian * self.parameters.slopes(linear.values)

    def rms(self, variables):
        """Root mean square of the weighted residuals: the paper's loss."""
        return float(np.sqrt(np.mean(self.residuals(variables) ** 2)))

    def log_likelihood(self, variables):
        """Logarithm of the likelihood times the priors, up to a constant, with the continua marginalised."""
        values = self.parameters.values(variables)
        fluxes = self.chain.flux(values)
        value = -0.5 * np.sum(self.parameters.prior_residuals(values) ** 2)
        for piece in self.pieces:
            residuals, r = _residuals(piece, fluxes[piece.order][piece.pixels])
            value -= 0.5 * np.sum(residuals**2)
            if r is not None:
                value -= np.log(np.abs(np.diag(r))).sum()
        return float(value) if np.isfinite(value) else -np.inf

    def linearise(self, variables):
        """Residuals and derivatives at free variables of shape (n_free,), as `Linear`."""
        variables = np.asarray(variables, dtype=np.float64)
        if self._at is None or not np.array_equal(self._at, variables):
            self._linear = Linear(self, self.parameters.values(variables))
            self._at = variables.copy()
        return self._linear


class Linear:
    """A likelihood linearised at given parameters: `values` by name.

    `orders` are the model and its derivatives there (Rows); `residuals` (n_pixels + n_priors,) are weighted, `jacobian`
    (n_pixels + n_priors, n_free) are their derivatives with respect to the fitted parameters.
    """

    def __init__(self, likelihood, values):
        self.values = values
        self._likelihood, self.orders = likelihood, likelihood.chain.evaluate(values)
        parameters = likelihood.parameters
        self._levels, residuals = zip(*map(self._level_and_residuals, likelihood.pieces), strict=True)
        self.residuals = np.concatenate([*residuals, parameters.prior_residuals(values)])
        jacobian = self.project([_table(rows.tangents, parameters.free) for rows in self.orders])
        self.jacobian = np.vstack([jacobian, parameters.prior_jacobian()])

    def project(self, tables):
        """Convert derivatives of the model to derivatives of the weighted residuals, continua projected out.

        `tables` has an array (n_pixels, n) for each order; the result is (n_pixels_in_use, n), of all pieces.
        """
        parts = []
        for (_level, q), table in zip(self._levels, self.weighted(tables), strict=True):
            parts.append(table if q is None else table - q @ (q.T @ table))
        return np.vstack(parts)

    def error_projections(self, edges, names, light=None):
        """Products of the Jacobian with the modes of the generator's error, shape (n_windows, n_free, n_modes).

        They are :math:`J^T e` for an error of one unit along each mode (`names`, see `Rows.modes`) in each window of
        the generator's pixels (`edges`). The error is a sum over modes and windows, so its product is the same sum.
        `light` is that of a second photosphere (SecondLight), None the star's.
        """
        jacobian = self.jacobian[: self._likelihood.n_pixels]
        modes = [rows.modes for rows in self.orders] if light is None else light.modes
        directions = np.vstack(self.weighted([_table(part, names) for part in modes]))
        places = self._likelihood.chain.generator_pixels(self.values) if light is None else light.places
        place = np.concatenate([places[piece.order][piece.pixels] for piece in self._likelihood.pieces])
        window = np.clip(np.searchsorted(edges, place, side="right") - 1, 0, len(edges) - 2)
        products = np.zeros((len(edges) - 1, jacobian.shape[1], directions.shape[1]))
        for k in np.unique(window):
            products[k] = jacobian[window == k].T @ directions[window == k]
        return products

    def levels(self):
        """Continuum times weight of the pixels in use of each piece."""
        return [level for level, _ in self._levels]

    def line_signal(self):
        """Chi-square of the model's lines: model minus the best polynomial, squared, in units of the errors."""
        total = 0.0
        for piece, (level, q) in zip(self._likelihood.pieces, self._levels, strict=True):
            lines = np.nan_to_num(self.orders[piece.order].flux[piece.pixels]) * level
            if q is not None:
                flat, _ = np.linalg.qr(piece.basis * piece.weight[:, None])
                lines = lines - flat @ (flat.T @ lines)
            total += float(lines @ lines)
        return total

    def weighted(self, tables):
        """Tables of the orders on the pixels in use of each piece, times continuum and weight."""
        return [
            np.nan_to_num(tables[piece.order][piece.pixels]) * level[:, None]
            for piece, (level, _) in zip(self._likelihood.pieces, self._levels, strict=True)
        ]

    def _level_and_residuals(self, piece):
        """Pair of continuum times weight and orthonormal continuum terms, then the weighted residuals."""
        model = self.orders[piece.order].flux[piece.pixels]
        factors = _factor(piece, model)
        residuals, _ = _residuals(piece, model, factors)
        if piece.basis is None:
            return (piece.weight, None), residuals
        return ((piece.basis @ _terms(piece, factors)) * piece.weight, factors[0]), residuals


class Solution(NamedTuple):
    """The result of a least-squares fit.

    `variables` (n_free,) at the minimum; `cost`, half the sum of squares there; `converged`, whether the fit met its
    tolerance. `n_evaluations` of the model with its derivatives are from all starts.
    """

    variables: np.ndarray
    cost: float
    converged: bool
    n_evaluations: int


def minimise(likelihood, starts, *, max_evaluations=60, tolerance=1e-8):
    """Find the best minimum from several starts; returns the Solution with the lowest sum of squares.

    `starts` are dicts of values, in which those of fixed parameters are ignored. `max_evaluations` of the model are for
    each start; `tolerance` is the relative change of the sum of squares, or of the variables, at which to stop.
    """
    parameters = likelihood.parameters
    if not parameters.free:
        nothing = np.empty(0)
        return Solution(nothing, 0.5 * float(np.sum(likelihood.residuals(nothing) ** 2)), True, 1)
    low, high = parameters.limits.T
    margin = 1e-3 * np.where(np.isfinite(high - low), high - low, 0.0)
    runs = [
        least_squares(
            likelihood.residuals_for_fit,
            np.clip(parameters.variables(start), low + margin, high - margin),
            jac=likelihood.jacobian,
            bounds=(low, high),
            x_scale="jac",
            ftol=tolerance,
            xtol=tolerance,
            gtol=tolerance,
            max_nfev=max_evaluations,
        )
        for start in starts
    ]
    best = min(runs, key=lambda run: run.cost)
    return Solution(best.x, float(best.cost), best.status > 0, sum(run.nfev for run in runs))


def descend(likelihood, start, *, max_evaluations, settled):
    """Find the minimum near a start, by Gauss-Newton steps that are damped where they fail; returns a Solution.

    `start` is a dict of values as of `minimise`. The last step, which is taken, is shorter than `settled` standard
    deviations: as near a minimum steps shorten tenfold and more, the error is a small part of that. The model is not
    evaluated after it, and the cost is that before.
    """
    parameters = likelihood.parameters
    if not parameters.free:
        return minimise(likelihood, [start])
    low, high = parameters.limits.T
    variables = np.clip(parameters.variables(start), low, high)
    linear, n_evaluations, damping = likelihood.linearise(variables), 1, 0.0
    cost = 0.5 * float(linear.residuals @ linear.residuals)
    while True:
        jacobian = linear.jacobian * parameters.slopes(linear.values)
        curvature, gradient = jacobian.T @ jacobian, jacobian.T @ linear.residuals
        while True:
            damped = curvature + damping * np.diag(np.diag(curvature))
            step = _bounded_step(damped, gradient, low - variables, high - variables)
            size = float(np.sqrt(step @ curvature @ step))
            if n_evaluations >= max_evaluations:
                return Solution(variables, cost, False, n_evaluations)
            moved = np.clip(variables + step, low, high)
            if size < settled:
                return Solution(moved, cost, damping < 1, n_evaluations)
            tried = likelihood.linearise(moved)
            n_evaluations += 1
            found = 0.5 * float(tried.residuals @ tried.residuals)
            if found <= cost:
                break
            damping = max(10 * damping, 1e-3)
        variables, linear, cost, damping = moved, tried, found, 0.1 * damping if damping > 1e-3 else 0.0


def _bounded_step(curvature, gradient, low, high):
    """Step (n,) to the minimum of a quadratic form, within `low` and `high`; zero where the form is flat."""
    scale = np.sqrt(np.diag(curvature))
    free, step = scale > 1e-12 * scale.max(initial=0.0), np.zeros(len(gradient))
    while free.any():
        own = np.ix_(free, free)
        right = gradient[free] + curvature[np.ix_(free, ~free)] @ step[~free]
        unit = curvature[own] / np.outer(scale[free], scale[free])
        step[free] = -np.linalg.lstsq(unit, right / scale[free], rcond=1e-13)[0] / scale[free]
        beyond = np.where(free, np.maximum(low - step, step - high) * scale, 0.0)
        if not (beyond > 0).any():
            break
        k = int(np.argmax(beyond))
        step[k], free[k] = np.clip(step[k], low[k], high[k]), False
    return step


def fit_continua(pieces, fluxes):
    """Fit the continuum of each piece, for the `fluxes` (n_pixels,) of a model by the index of the order.

    Returns for each piece its pixels, and the continuum on them.
    """
    found = []
    for piece in pieces:
        factors = _factor(piece, fluxes[piece.order][piece.pixels])
        found.append(piece.continuum(None if piece.basis is None else _terms(piece, factors)))
    return found


def _terms(piece, factors):
    """Coefficients of the best continuum."""
    q, r = factors
    return np.linalg.lstsq(r, q.T @ (piece.weight * piece.flux), rcond=None)[0]


def _residuals(piece, model, factors=None):
    """Weighted residuals of a piece, zero where the model is NaN, and R of its continuum."""
    q, r = factors or _factor(piece, model)
    data = piece.weight * piece.flux
    if q is None:
        return np.nan_to_num(piece.weight * model - data), None
    return np.where(np.isfinite(model), q @ (q.T @ data) - data, 0.0), r


def _factor(piece, model):
    """QR factors of the weighted continuum terms of a piece; None where no continuum is fitted."""
    if piece.basis is None:
        return None, None
    return np.linalg.qr(piece.basis * (np.nan_to_num(model) * piece.weight)[:, None])


def _table(rows, names):
    """Named rows as the columns of an array, shape (n_pixels, n)."""
    if not names:
        return np.empty((len(next(iter(rows.values()), ())), 0))
    return np.column_stack([rows[name] for name in names])
