r"""Likelihood: how well a model with free continua explains a spectrum, and what follows for the parameters.

The data F of a piece of spectrum are :math:`P S(\theta)` plus noise, with S the model and P a polynomial. Its
coefficients enter linearly and are marginalised over a flat prior: with A the polynomials' terms times S, all in units
of the errors, and :math:`Q R = A`,

.. math:: -2 \ln L = \lVert (1 - Q Q^T) F \rVert^2 + 2 \ln \lvert \det R \rvert + const

The determinant hardly depends on the parameters; fits leave it out.
"""

import itertools

import numpy as np
from numpy.polynomial import legendre

from stellarhml.forward.observation import SPEED_OF_LIGHT

_LIGHT_PER_TERM = 1000.0  # km/s of wavelengths for each coefficient of a continuum
_LIGHT_PER_PIECE = 6000.0  # km/s: longer orders have several polynomials
_LEAST_DEGREE = 5  # of an order: what a blaze and its flat field leave over
_FEW = 20  # pixels for each coefficient, at least


class Piece:
    """Pixels that share a continuum.

    Parameters
    ----------
    order : int
        Number of the order.
    pixels : ndarray of int
        Its pixels in use.
    flux, weight : ndarray of shape (n_pixels_in_use,)
        Fluxes, and one over their standard deviations.
    basis : ndarray of shape (n_pixels_in_use, n_terms) or None
        Terms of the polynomial. None: fluxes are compared as they are.
    whole : callable
        Takes coefficients; returns the pixels from first to last of the piece and the polynomial there.
    """

    def __init__(self, order, pixels, flux, weight, basis, whole):
        self.order, self.pixels, self.flux, self.weight, self.basis = order, pixels, flux, weight, basis
        self.whole = whole


def cut_pieces(wavelengths, fluxes, errors, degree):
    """Cut orders into pieces with a continuum each.

    Parameters
    ----------
    wavelengths, fluxes, errors : list of ndarray of shape (n_pixels,)
        Of each order. Infinite errors mask pixels.
    degree : int, "auto" or None
        Degree of the polynomial of each order; "auto": a degree for each 1,000 km/s, five at least, and several
        polynomials where an order has over 6,000 km/s; None: no polynomial.

    Returns
    -------
    pieces : list of Piece
        Those with enough pixels for their polynomial.
    """
    pieces = []
    for i, (wavelength, flux, error) in enumerate(zip(wavelengths, fluxes, errors, strict=True)):
        good = np.flatnonzero(np.isfinite(error))
        if not len(good):
            continue
        n_pieces, degree_of_piece = 1, degree
        if degree == "auto":
            light = SPEED_OF_LIGHT * np.log(wavelength[good[-1]] / wavelength[good[0]])
            n_pieces = max(int(np.ceil(light / _LIGHT_PER_PIECE)), 1)
            degree_of_piece = max(round(light / n_pieces / _LIGHT_PER_TERM), _LEAST_DEGREE)
        bounds = np.linspace(good[0], good[-1] + 1, n_pieces + 1).round().astype(int)
        for first, last in itertools.pairwise(bounds):
            used = good[(good >= first) & (good < last)]
            limit = len(used) // _FEW if degree == "auto" else max(len(used) - 2, 0)
            if not len(used) or (degree == "auto" and limit < 1):
                continue
            basis, whole = _terms(first, last, used, degree_of_piece, limit)
            pieces.append(Piece(i, used, flux[used], 1 / error[used], basis, whole))
    return pieces


class Likelihood:
    """Residuals of a spectrum with their derivatives, and what they say of the parameters.

    Parameters
    ----------
    model : RestModel or ObservedModel
        The model.
    parameters : Parameters
        What is fitted.
    pieces : list of Piece
        The data.
    """

    def __init__(self, model, parameters, pieces):
        self.model, self.parameters, self.pieces = model, parameters, pieces
        self.n_pixels = sum(len(piece.pixels) for piece in pieces)
        self.n_terms = sum(0 if piece.basis is None else piece.basis.shape[1] for piece in pieces)
        self._at, self._linear = None, None

    def residuals(self, variables):
        """Weighted residuals, then those of priors, shape (n_pixels + n_priors,), at free variables (n_free,)."""
        values = self.parameters.values(variables)
        return self._complete(self._compare(self.model.flux(values)), values)

    def residuals_for_fit(self, variables):
        """`residuals`, with the derivatives computed on the way and kept for `jacobian`."""
        return self.linearise(variables).residuals

    def jacobian(self, variables):
        """Derivatives of the residuals by the variables, shape (n_pixels + n_priors, n_free).

        The continuum follows the parameters: its directions are projected out (Kaufman's approximation of the
        derivatives of a variable projection, which leaves out a term of the order of the residuals).

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
        fluxes = self.model.flux(values)
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

    def continua(self, fluxes):
        """Continuum of each piece: pixels from its first to its last, and values there, as pairs.

        Parameters
        ----------
        fluxes : list of ndarray of shape (n_pixels,)
            The model.

        Returns
        -------
        continua : list of tuple of ndarray
            One pair a piece.
        """
        return fit_continua(self.pieces, fluxes)

    def _compare(self, fluxes):
        """Weighted residuals of the pixels."""
        return np.concatenate([_residuals(piece, fluxes[piece.order][piece.pixels])[0] for piece in self.pieces])

    def _complete(self, residuals, values):
        return np.concatenate([residuals, self.parameters.prior_residuals(values)])


class Linear:
    """A likelihood near one place.

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood.
    values : ndarray of shape (n_parameters,)
        The place.

    Attributes
    ----------
    values : ndarray of shape (n_parameters,)
        The place.
    evaluation : Evaluation
        The model there.
    residuals : ndarray of shape (n_pixels + n_priors,)
        Weighted residuals.
    jacobian : ndarray of shape (n_pixels + n_priors, n_free)
        Derivatives by the free values.
    """

    def __init__(self, likelihood, values):
        self.values = values
        self._likelihood, self.evaluation = likelihood, likelihood.model.evaluate(values)
        parameters = likelihood.parameters
        self._levels, residuals = zip(*map(self._level_and_residuals, likelihood.pieces), strict=True)
        jacobian = self.project([part[:, parameters.free] for part in self.evaluation.jacobians])
        self.residuals = np.concatenate([*residuals, parameters.prior_residuals(values)])
        self.jacobian = np.vstack([jacobian, parameters.prior_jacobian()])

    def project(self, tables):
        """Derivatives of the model as derivatives of the weighted residuals, continua projected out.

        Parameters
        ----------
        tables : list of ndarray of shape (n_pixels, n)
            Of each order.

        Returns
        -------
        projected : ndarray of shape (n_pixels_in_use, n)
            Of all pieces.
        """
        parts = []
        for (_level, q), table in zip(self._levels, self._weighted(tables), strict=True):
            parts.append(table if q is None else table - q @ (q.T @ table))
        return np.vstack(parts)

    def error_projections(self, edges):
        """Products of the residuals' derivatives with errors of the model, window by window.

        Parameters
        ----------
        edges : ndarray of shape (n_windows + 1,)
            Windows, in pixels of the generator.

        Returns
        -------
        products : ndarray of shape (n_windows, n_free, n_directions)
            An error that is the sum over windows of directions times shifts has the products summed over both.
        """
        jacobian = self.jacobian[: self._likelihood.n_pixels]
        directions = np.vstack(self._weighted(self.evaluation.directions))
        places = self._likelihood.model.places(self.values)
        place = np.concatenate([places[piece.order][piece.pixels] for piece in self._likelihood.pieces])
        window = np.clip(np.searchsorted(edges, place, side="right") - 1, 0, len(edges) - 2)
        products = np.zeros((len(edges) - 1, jacobian.shape[1], directions.shape[1]))
        for k in np.unique(window):
            products[k] = jacobian[window == k].T @ directions[window == k]
        return products

    def line_signal(self):
        """Sum of squares, in units of the errors, of what continua without lines leave over of the model."""
        total = 0.0
        for piece, (level, q) in zip(self._likelihood.pieces, self._levels, strict=True):
            lines = np.nan_to_num(self.evaluation.fluxes[piece.order][piece.pixels]) * level
            if q is not None:
                flat, _ = np.linalg.qr(piece.basis * piece.weight[:, None])
                lines = lines - flat @ (flat.T @ lines)
            total += float(lines @ lines)
        return total

    def _weighted(self, tables):
        """Tables of the orders on the pixels in use, times continuum and weight."""
        return [
            np.nan_to_num(tables[piece.order][piece.pixels]) * level[:, None]
            for piece, (level, _) in zip(self._likelihood.pieces, self._levels, strict=True)
        ]

    def _level_and_residuals(self, piece):
        """Continuum times weight on the pixels in use and the directions of the continuum; weighted residuals."""
        model = self.evaluation.fluxes[piece.order][piece.pixels]
        factors = _factor(piece, model)
        residuals, _ = _residuals(piece, model, factors)
        if piece.basis is None:
            return (piece.weight, None), residuals
        q, r = factors
        terms = np.linalg.lstsq(r, q.T @ (piece.weight * piece.flux), rcond=None)[0]
        return ((piece.basis @ terms) * piece.weight, q), residuals


def fit_continua(pieces, fluxes):
    """Continuum of each piece by which a model comes nearest to the data.

    Parameters
    ----------
    pieces : list of Piece
        The data.
    fluxes : list or dict of ndarray of shape (n_pixels,)
        The model, by the number of the order.

    Returns
    -------
    continua : list of tuple of ndarray
        For each piece the pixels from its first to its last, and values there.
    """
    found = []
    for piece in pieces:
        terms = None
        if piece.basis is not None:
            q, r = _factor(piece, fluxes[piece.order][piece.pixels])
            terms = np.linalg.lstsq(r, q.T @ (piece.weight * piece.flux), rcond=None)[0]
        found.append(piece.whole(terms))
    return found


def _residuals(piece, model, factors=None):
    """Weighted residuals of a piece, zero where there is no model, and the triangle of its continuum."""
    q, r = factors or _factor(piece, model)
    data = piece.weight * piece.flux
    if q is None:
        return np.nan_to_num(piece.weight * model - data), None
    return np.where(np.isfinite(model), q @ (q.T @ data) - data, 0.0), r


def _factor(piece, model):
    """Directions of a piece's continuum in the weighted data, orthonormal, and their triangle; None without one."""
    if piece.basis is None:
        return None, None
    return np.linalg.qr(piece.basis * (np.nan_to_num(model) * piece.weight)[:, None])


class _Whole:
    """A polynomial on all pixels of a piece."""

    def __init__(self, first, last, degree):
        self.first, self.last, self.degree = first, last, degree

    def at(self, pixels):
        x = 2 * (pixels - self.first) / max(self.last - 1 - self.first, 1) - 1
        return legendre.legvander(x, self.degree)

    def __call__(self, terms):
        pixels = np.arange(self.first, self.last)
        return pixels, np.ones(len(pixels)) if terms is None else self.at(pixels) @ terms


def _terms(first, last, used, degree, limit):
    """Terms of a polynomial on the pixels in use, and the polynomial."""
    whole = _Whole(first, last, 0 if degree is None else min(degree, limit))
    return (None if degree is None else whole.at(used)), whole
