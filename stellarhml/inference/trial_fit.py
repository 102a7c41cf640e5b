"""TrialFit: a quick fit of one generator to some runs of the pixels of a star, to compare it with other generators."""

from typing import NamedTuple

import numpy as np

from stellarhml.inference.likelihood import fit_continua, minimise
from stellarhml.inference.quality import bound_flags
from stellarhml.inference.star_fit import StarFit
from stellarhml.inference.uncertainty import covariance_of

_MAX_EVALUATIONS = 30
_TOLERANCE = 1e-4  # relative, of the sum of squares
_SURE, _FAR_NODES, _FAR_SHARE = 5.0, 2.0, 0.2  # beyond the grid: standard deviations, nodes, share of the range


class Outcome(NamedTuple):
    """How a generator fits; arrays have shape (n_pixels,), of the same pixels for all generators.

    `residual` is data minus model, NaN where the model has no light; `flat`, that of a continuum without lines; both
    in units of the standard deviation, whose square is `variance`, with the generator's own error. `prior` is half the
    sum of squares of the priors, `n_free` the number of fitted parameters, `n_terms` that of the continua's.
    """

    residual: np.ndarray
    flat: np.ndarray
    variance: np.ndarray
    prior: float
    n_free: int
    n_terms: int


class TrialFit(StarFit):
    """A StarFit that stops after a quick fit of some runs of pixels; lines are those of the grid.

    Call `begin`, `keep`, `fit`, `accepted`, `keep`, `fit` and `outcome`, in this sequence: what is kept must be the
    same for all generators. Errors of the data are those given, or those that FitData takes from the data alone.
    """

    def begin(self):
        """Find a starting point; returns whether the generator covers each good pixel, an array for each order."""
        self._first = self._start()
        self.n_given = self._data.n_given
        return self._in_use()

    def keep(self, pixels):
        """Leave out all other pixels; `pixels` has a bool array (n_pixels,) for each order."""
        self._data.keep(pixels)

    def choose_runs(self):
        """Fit some runs of the pixels that are in use alone."""
        self._runs = self._data.some_runs()
        inside = [np.zeros(len(error), dtype=bool) for error in self._data.errors]
        for i, span in self._runs:
            inside[i][span] = True
        self._data.keep(inside)
        self.values = self._first_fit(self._starts(self._first))

    def fit(self):
        """Fit the runs, with the generator's own error in the variance; returns the parameters' values by name."""
        self._add_own_error()
        likelihood = self.likelihood
        solution = minimise(likelihood, [self.values], max_evaluations=_MAX_EVALUATIONS, tolerance=_TOLERANCE)
        self.values = self.parameters.values(solution.variables)
        return self.values

    def accepted(self):
        """Whether the fit would keep each pixel, an array for each order; those are far off that it would clip."""
        before = [error.copy() for error in self._data.errors]
        self._data.reject(self._compare(self.values))
        kept = self._in_use()
        self._data.errors = before
        return kept

    def outcome(self):
        """Outcome of the fit."""
        likelihood, parameters = self.likelihood, self.parameters
        variables = parameters.variables(self.values)
        residuals = likelihood.residuals(variables)
        fluxes = likelihood.chain.flux(self.values)
        there = np.concatenate([np.isfinite(fluxes[piece.order][piece.pixels]) for piece in likelihood.pieces])
        return Outcome(
            np.where(there, residuals[: likelihood.n_pixels], np.nan),
            np.concatenate([_without_lines(piece) for piece in likelihood.pieces]),
            np.concatenate([piece.weight**-2 for piece in likelihood.pieces]),
            0.5 * float(np.sum(residuals[likelihood.n_pixels :] ** 2)),
            len(parameters.free),
            likelihood.n_terms,
        )

    def bound_flags(self):
        """Flag, with its message, of parameters that ended at a bound or at the edge of the grid."""
        return list(bound_flags(self._generator, self.likelihood, self.values))

    def beyond_the_grid(self, reduced_chi2):
        """Names of labels at the edge of the grid whose best value lies far beyond it.

        The best values without bounds are those of the model linearised at the edge. Far are five standard deviations,
        which the reduced chi-square inflates, two nodes, and a fifth of the range of the grid.
        """
        if not self.bound_flags():
            return []
        parameters = self.parameters
        linear = self.likelihood.linearise(parameters.variables(self.values))
        covariance = covariance_of(linear.jacobian)
        if not np.isfinite(covariance).all():
            return []
        steps, far = -covariance @ (linear.jacobian.T @ linear.residuals), []
        sigmas = np.sqrt(np.diag(covariance) * max(reduced_chi2, 1.0))
        for name, spacing in zip(self._generator.label_names_, self._generator.interpolator_.spacings_, strict=True):
            if name not in parameters.free:
                continue
            k, (low, high) = parameters.free.index(name), parameters.bounds[name]
            best = self.values[name] + steps[k]
            if max(low - best, best - high) > max(_SURE * sigmas[k], _FAR_NODES * spacing, _FAR_SHARE * (high - low)):
                far.append(name)
        return far

    def _in_use(self):
        return [np.isfinite(error) for error in self._data.errors]

    def _add_own_error(self):
        """Make the likelihood of the runs with the generator's error at the values so far."""
        self._data.extra = [np.zeros(len(error)) for error in self._data.errors]
        self.likelihood = self._likelihood(self._runs)
        if not self._settings.generator_error or self._generator.error_map_ is None:
            return
        chain, pieces = self.likelihood.chain, self.likelihood.pieces
        labels = np.array([self.values[name] for name in self._generator.label_names_])
        std, places = np.nan_to_num(self._generator.expected_error(labels)), chain.generator_pixels(self.values)
        continua = fit_continua(pieces, chain.flux(self.values))
        for piece, (pixels, level) in zip(pieces, continua, strict=True):
            i, span = self._runs[piece.order]
            self._data.extra[i][span][pixels] = (std[places[piece.order][pixels]] * level) ** 2
        self.likelihood = self._likelihood(self._runs)


def _without_lines(piece):
    """Weighted residuals of a piece from the best continuum alone, shape (n_pixels,)."""
    data = piece.weight * piece.flux
    if piece.basis is None:
        return data - piece.weight
    q, _ = np.linalg.qr(piece.basis * piece.weight[:, None])
    return data - q @ (q.T @ data)
