"""How far a generated spectrum is from a given one, up to a smooth continuum."""

import numpy as np
from numpy.polynomial import legendre

EDGE = 3e-3
"""Distance from the end of the grid, in units of a label's range, at which a result counts as being at its edge."""


class Misfit:
    r"""Weighted residuals of one spectrum as a function of the free labels.

    With a continuum, the model S is multiplied by the polynomial P that minimises
    :math:`\sum_p (P_p S_p - F_p)^2 / \sigma_p^2`, a linear problem of few coefficients.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted model.
    flux : ndarray of shape (n_pixels,)
        Normalised flux.
    error : ndarray of shape (n_pixels,) or None
        Standard deviations; infinity masks a pixel. None weighs all pixels alike.
    fixed : ndarray of shape (n_labels,)
        Labels, of which those that are not free are kept.
    free : ndarray of shape (n_labels,), bool
        Labels to vary.
    continuum_degree : int or None
        Degree of the polynomial.
    """

    def __init__(self, generator, flux, error, fixed, free, continuum_degree):
        self._generator, self._fixed, self._free = generator, fixed, free
        self._used = np.arange(flux.size) if error is None else np.flatnonzero(np.isfinite(error))
        self._flux = flux[self._used]
        self._inverse = np.ones(self._used.size) if error is None else 1 / error[self._used]
        self._errors_known = error is not None
        self._basis = None
        if continuum_degree is not None:
            x = np.linspace(-1, 1, flux.size) if flux.size > 1 else np.zeros(1)
            degree = min(continuum_degree, max(self._used.size - 2, 0))
            self._basis = legendre.legvander(x[self._used], degree)

    def complete(self, values):
        """All labels, shape (n_labels,), from the free ones."""
        labels = self._fixed.copy()
        labels[self._free] = values
        return labels

    def residuals(self, values):
        """Weighted residuals, shape (n_used_pixels,), at free labels of shape (n_free,)."""
        model = self._generator.predict_nearest(self.complete(values)[None])[0][0, self._used]
        return (model * self._continuum(model) - self._flux) * self._inverse

    def jacobian(self, values):
        """Derivatives of the residuals, shape (n_used_pixels, n_free), at free labels of shape (n_free,).

        The continuum follows the labels: its directions are projected out (Kaufman's approximation of the derivatives
        of a variable projection, which leaves out a term of the order of the residuals).

        References
        ----------
        .. [1] Kaufman, L. (1975), "A variable projection method for solving separable nonlinear least squares
           problems", BIT 15, 49. doi:10.1007/BF01932995
        """
        labels = self.complete(values)[None]
        jacobian = self._generator.jacobian(labels)[0][self._used][:, self._free] * self._inverse[:, None]
        if self._basis is None:
            return jacobian
        model = self._generator.predict_nearest(labels)[0][0, self._used]
        jacobian = jacobian * self._continuum(model)[:, None]
        q, _ = np.linalg.qr(self._basis * (model * self._inverse)[:, None])
        return jacobian - q @ (q.T @ jacobian)

    def rms(self, values):
        """Root mean square of the weighted residuals: the paper's loss."""
        return float(np.sqrt(np.mean(self.residuals(values) ** 2)))

    def is_at_edge(self, values, bounds):
        """Whether the grid ends within a few thousandths of the bounds (n_free, 2) around labels (n_free,) inside them.

        A grid with missing corners, or scattered nodes, ends before the ranges of its labels do.
        """
        step = EDGE * np.ptp(bounds, axis=1) * np.eye(len(values))
        around = np.clip(np.concatenate([values[None], values + step, values - step]), bounds[:, 0], bounds[:, 1])
        labels = np.tile(self._fixed, (len(around), 1))
        labels[:, self._free] = around
        return bool(self._generator.interpolator_.locate(labels)[1].any())

    def standard_deviations(self, values):
        """Standard deviations of all labels, shape (n_labels,), linearised at free labels of shape (n_free,).

        The diagonal of (J^T W J)^-1 with the directions of the continuum projected out of J, times the scatter of
        the residuals where no errors are given. Zero for labels that are not free, infinite for one without a trace.
        """
        jacobian = self.jacobian(values)
        residual = self.residuals(values)
        n_freedom = max(residual.size - jacobian.shape[1], 1)
        variance = 1.0 if self._errors_known else residual @ residual / n_freedom
        size = np.linalg.norm(jacobian, axis=0)
        seen = size > 0
        sigma = np.full(jacobian.shape[1], np.inf)
        if seen.any():
            unit = jacobian[:, seen] / size[seen]
            sigma[seen] = np.sqrt(np.diag(np.linalg.pinv(unit.T @ unit)) * variance) / size[seen]
        std = np.zeros(len(self._fixed))
        std[self._free] = sigma
        return std

    def _continuum(self, model):
        """Polynomial that brings the model nearest to the flux."""
        if self._basis is None:
            return np.ones(model.size)
        design = self._basis * (model * self._inverse)[:, None]
        coefficients = np.linalg.lstsq(design.T @ design, design.T @ (self._flux * self._inverse), rcond=None)[0]
        return self._basis @ coefficients
