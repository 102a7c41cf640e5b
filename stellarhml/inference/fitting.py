"""Fitting: least squares of a likelihood from several starts, and the covariance of what it finds."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

EDGE = 3e-3
"""Distance from the end of the grid, in units of a label's range, at which a result counts as being at its edge."""

_RUN, _N_RUNS = 2048, 4  # pixels of a first fit
_N_GROUPS = 24  # of residuals, at least
_TELLING = 4.0  # variance of groups over that of noise: even if a third of them hold all, noise alone hardly shows it


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


def covariance_of(jacobian):
    """Covariance of parameters with given derivatives of unit-variance residuals.

    Parameters
    ----------
    jacobian : ndarray of shape (n, n_free)
        Derivatives.

    Returns
    -------
    covariance : ndarray of shape (n_free, n_free)
        Infinite on the diagonal for parameters without a trace.
    """
    size = np.linalg.norm(jacobian, axis=0)
    seen = size > 0
    covariance = np.zeros((len(size), len(size)))
    covariance[~seen, ~seen] = np.inf
    if seen.any():
        unit = jacobian[:, seen] / size[seen]
        inverse = np.linalg.pinv(unit.T @ unit, hermitian=True)
        covariance[np.ix_(seen, seen)] = inverse / np.outer(size[seen], size[seen])
    return covariance


def generator_covariance(linear, covariance, shifts, labels):
    r"""Covariance of parameters by the error of the generator.

    An error :math:`e_s` of the model, see :class:`stellarhml.synthesis.label_shifts.LabelShifts`, moves the minimum by
    :math:`b_s = (J^T J)^{-1} J^T e_s`, with all in units of the data's errors and continua projected out; the sum of
    :math:`b_s b_s^T` over what is to be expected is added to the covariance by noise. It is what a likelihood with
    the covariance of the data :math:`D + J (\sum_s b_s b_s^T) J^T`, diagonal plus low rank, would give.

    Parameters
    ----------
    linear : Linear
        The likelihood at its minimum.
    covariance : ndarray of shape (n_free, n_free)
        :math:`(J^T J)^{-1}`.
    shifts : LabelShifts
        Errors of the generator.
    labels : ndarray of shape (n_labels,)
        Labels at the minimum.

    Returns
    -------
    covariance : ndarray of shape (n_free, n_free)
        The part of the generator.
    """
    products = linear.error_projections(shifts.edges)
    moves = np.einsum("swd,wkd->sk", shifts.near(labels), products)
    finite = np.where(np.isfinite(covariance), covariance, 0.0)
    moves = moves @ finite
    return moves.T @ moves


def widen_by_groups(covariance, jacobian, residuals, sizes):
    r"""Widen a covariance by what groups of residuals say against each other.

    Residuals of a model that is wrong are not noise: those of a line, and of whole orders, go together. With
    :math:`g_c = J_c^T r_c` of each group, zero in the sum, :math:`C \sum_c g_c g_c^T C` is the covariance that their
    scatter shows (the sandwich of White 1980, in groups), whatever is correlated inside of them.

    Parameters
    ----------
    covariance : ndarray of shape (n_free, n_free)
        :math:`(J^T J)^{-1}`, with what the reduced chi-square adds.
    jacobian, residuals : ndarray of shape (n_pixels, n_free) and (n_pixels,)
        At the minimum, in units of the errors.
    sizes : sequence of int
        Numbers of pixels of the pieces, one after the other, which are groups, or are cut into groups.

    Returns
    -------
    covariance : ndarray of shape (n_free, n_free)
        With the same correlations, and larger variances where the groups show four times as much or more.
    factor : ndarray of shape (n_free,)
        By how much standard deviations were raised, 1 where they were not.

    References
    ----------
    .. [1] White, H. (1980), "A heteroskedasticity-consistent covariance matrix estimator and a direct test for
       heteroskedasticity", Econometrica 48, 817. doi:10.2307/1912934
    """
    parts = max(int(np.ceil(_N_GROUPS / len(sizes))), 1)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    starts = np.unique(np.concatenate([np.linspace(a, b, parts + 1)[:-1] for a, b in pairwise(ends)]).astype(int))
    groups = np.add.reduceat(jacobian * residuals[:, None], starts, axis=0)
    inside = np.where(np.isfinite(covariance_of(jacobian)), covariance_of(jacobian), 0.0)
    moves = groups @ inside
    shown = (moves**2).sum(axis=0) * len(groups) / max(len(groups) - jacobian.shape[1], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = shown / np.diag(covariance)
    factor = np.sqrt(np.where(ratio > _TELLING, ratio, 1.0))
    return covariance * np.outer(factor, factor), factor


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
