"""Fitting: least squares of a likelihood from several starts."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

EDGE = 3e-3
"""Distance from the end of the grid, in units of a label's range, at which a result counts as being at its edge."""

_RUN, _N_RUNS = 2048, 4  # pixels of a first fit


class Solution(NamedTuple):
    """A minimum of a likelihood.

    Attributes
    ----------
    variables : ndarray of shape (n_free,)
        Where it lies.
    cost : float
        Half of the sum of squares there.
    converged : bool
        Whether the search met its tolerance.
    n_evaluations : int
        Evaluations of the model with its derivatives, from all starts.
    """

    variables: np.ndarray
    cost: float
    converged: bool
    n_evaluations: int


def minimise(likelihood, starts, *, max_evaluations=60, tolerance=1e-8):
    """Find the best minimum from several starts.

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood.
    starts : sequence of ndarray of shape (n_parameters,)
        Values to start from; those of fixed parameters are not looked at.
    max_evaluations : int, default=60
        Of the model, from each start.
    tolerance : float, default=1e-8
        Relative change of the sum of squares, or of the variables, at which to stop.

    Returns
    -------
    solution : Solution
        The best.
    """
    parameters = likelihood.parameters
    low, high = parameters.limits.T
    margin = 1e-3 * (high - low)
    if not parameters.free.any():
        nothing = np.empty(0)
        return Solution(nothing, 0.5 * float(np.sum(likelihood.residuals(nothing) ** 2)), True, 1)
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


def some_runs(errors):
    """Runs of pixels, spread over a spectrum, that are enough for a first fit.

    Parameters
    ----------
    errors : list of ndarray of shape (n_pixels,)
        Errors of each order, infinite where a pixel does not count.

    Returns
    -------
    runs : list of (int, slice)
        Number of the order, and its pixels.
    """
    runs = []
    for i, error in enumerate(errors):
        good = np.flatnonzero(np.isfinite(error))
        if len(good):
            end = int(good[-1]) + 1
            runs += [(i, slice(first, min(first + _RUN, end))) for first in range(int(good[0]), end, _RUN)]
    if len(runs) <= _N_RUNS:
        return runs
    return [runs[k] for k in np.linspace(0, len(runs) - 1, 2 * _N_RUNS + 1).round().astype(int)[1::2]]


def grid_ends_near(generator, labels, bounds):
    """Whether the grid ends within a few thousandths of its range around labels.

    A grid with missing corners, or scattered nodes, ends before the ranges of its labels do.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    labels : ndarray of shape (n_labels,)
        Labels.
    bounds : ndarray of shape (n_labels, 2)
        Bounds of the labels.

    Returns
    -------
    near : bool
        Whether it does, within the bounds.
    """
    free = bounds[:, 1] > bounds[:, 0]
    step = (EDGE * np.ptp(bounds, axis=1) * np.eye(len(labels)))[free]
    around = np.clip(np.concatenate([labels[None], labels + step, labels - step]), bounds[:, 0], bounds[:, 1])
    return bool(generator.interpolator_.locate(around)[1].any())
