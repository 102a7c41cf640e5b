"""Uncertainty of the parameters: noise, misfit of the model, and error of the generator."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from stellarhml.forward.chain import ERROR_DIRECTIONS

_N_GROUPS = 24  # minimum number of groups of residuals
_SAME = 1e-3  # share of a derivative that is left, or of shifts that is told, below which it counts as nothing
_DEGENERATE = 1e-13  # eigenvalue, over the largest, of a direction that no residual tells
_SIGNIFICANT = 4.0  # ratio of the variance of groups to that of noise; noise alone hardly reaches it


class Uncertainty(NamedTuple):
    """Uncertainty of the fitted parameters at the best fit.

    Parts of the covariance (n_free, n_free): `noise` (and misfit, with priors), `wavelength` (shifts of orders) and
    `generator` (its error); `inflation` (n_free,) of the errors for correlated residuals.
    """

    noise: np.ndarray
    wavelength: np.ndarray
    generator: np.ndarray
    reduced_chi2: float
    inflation: np.ndarray


def uncertainty_of(linear, likelihood, shifts, *, priors=True):
    """Uncertainty of the fitted parameters, from the likelihood linearised at the best fit.

    With the curvature of the likelihood :math:`H`, the prior variance :math:`P` weighted by :math:`s^2`,
    :math:`M = (H + s^2 P^{-1})^{-1}`, and :math:`f` the inflation of the errors, the estimate has the covariance
    :math:`M (f^2 H + s^4 P^{-1}) M`, to which that of the generator is added. For :math:`s = f` it is the posterior
    covariance :math:`(H / f^2 + P^{-1})^{-1}`.

    `shifts` are the LabelShifts of the generator, None to leave its error out; `priors`: whether to include the priors.
    """
    n = likelihood.n_pixels
    data, rows, residuals = linear.jacobian[:n], linear.jacobian[n:], linear.residuals[:n]
    inside = covariance_of(linear.jacobian if priors else data)
    known = np.isfinite(np.diag(inside))
    finite = np.where(np.isfinite(inside), inside, 0.0)
    reduced = float(np.sum(residuals**2)) / max(n - likelihood.n_terms - data.shape[1], 1)
    sizes = [len(piece.pixels) for piece in likelihood.pieces]
    if likelihood.parameters.nuisances:
        inflation = _inflation_with_shifts(linear, likelihood, finite, max(reduced, 1.0), sizes)
    else:
        inflation = inflation_by_groups(max(reduced, 1.0) * covariance_of(data), data, residuals, sizes)
    wavelength = np.zeros_like(finite)
    noise = max(reduced, 1.0) * np.outer(inflation, inflation) * (finite @ (data.T @ data) @ finite)
    if priors:
        moves = (likelihood.parameters.prior_scale[:, None] * rows) @ finite
        shifts_of_orders = likelihood.parameters.prior_is_of(likelihood.parameters.nuisances)
        noise += moves[~shifts_of_orders].T @ moves[~shifts_of_orders]
        wavelength += moves[shifts_of_orders].T @ moves[shifts_of_orders]
    noise[~known, ~known] = np.inf
    generator = np.zeros_like(noise)
    if shifts is not None:
        generator = generator_covariance(linear, inside, shifts)
        for light in likelihood.chain.second_lights(linear.values):
            generator += second_covariance(linear, inside, light)
    return Uncertainty(noise, wavelength, generator, reduced, inflation)


def _inflation_with_shifts(linear, likelihood, inside, scale, sizes):
    """As `inflation_by_groups`, where shifts of orders are fitted; `inside` is the covariance without inflation.

    Shifts are projected out. rv and the shifts themselves are inflated if the shifts exceed their prior.
    """
    parameters, n = likelihood.parameters, likelihood.n_pixels
    local = np.isin(parameters.free, parameters.nuisances)
    jacobian, residuals = linear.jacobian[:n], linear.residuals[:n]
    shifts = jacobian[:, local]
    size = np.sum(shifts**2, axis=0)
    shifts = shifts[:, size > 0] / np.sqrt(size[size > 0])  # of one order each, and so orthogonal
    left = jacobian[:, ~local] - shifts @ (shifts.T @ jacobian[:, ~local])
    moved = np.linalg.norm(left, axis=0) < _SAME * np.linalg.norm(jacobian[:, ~local], axis=0)
    left[:, moved] = 0.0
    found = np.ones(len(local))
    found[~local] = inflation_by_groups(
        scale * covariance_of(left), left, residuals - shifts @ (shifts.T @ residuals), sizes
    )
    of_shifts = parameters.prior_is_of(parameters.nuisances)
    rows = linear.jacobian[n:][of_shifts][:, local]
    told = np.sum(1 - np.sum((rows @ inside[np.ix_(local, local)]) * rows, axis=1))
    ratio = np.sum(linear.residuals[n:][of_shifts] ** 2) / max(told, _SAME)
    if told > _SAME and ratio > _SIGNIFICANT:
        found[local] = np.sqrt(ratio)
        found[np.flatnonzero(~local)[moved]] = np.sqrt(ratio)
    return found


def prior_scales(linear, likelihood, shifts):
    """Factors for the prior residuals, since the errors of the likelihood are larger than its noise, shape (n_priors,).

    They are standard deviations of the parameters without priors, over those due to noise alone; 1 at least.
    """
    parameters = likelihood.parameters
    uncertainty = uncertainty_of(linear, likelihood, shifts, priors=False)
    quoted = np.diag(uncertainty.noise + uncertainty.generator)
    with np.errstate(invalid="ignore"):
        ratio = quoted / np.diag(covariance_of(linear.jacobian[: likelihood.n_pixels]))
    chosen = [parameters.free.index(name) for name in parameters.prior_names]
    return np.sqrt(np.where(ratio > 1, ratio, 1.0))[chosen]


def covariance_of(jacobian):
    """Covariance (n_free, n_free) of parameters from the Jacobian (n, n_free) of residuals of unit variance.

    Infinite on the diagonal for parameters on which no residual depends.
    """
    size = np.linalg.norm(jacobian, axis=0)
    seen = size > 0
    covariance = np.zeros((len(size), len(size)))
    covariance[~seen, ~seen] = np.inf
    if seen.any():
        unit = jacobian[:, seen] / size[seen]
        # without their priors, rv and shifts of all orders are one parameter too many
        inverse = np.linalg.pinv(unit.T @ unit, rcond=_DEGENERATE, hermitian=True)
        covariance[np.ix_(seen, seen)] = inverse / np.outer(size[seen], size[seen])
    return covariance


def generator_covariance(linear, covariance, shifts):
    r"""Covariance (n_free, n_free) of parameters due to the error of the generator.

    An error :math:`e_s` of the model, see :class:`stellarhml.synthesis.error_model.LabelShifts`, shifts the best fit by
    :math:`b_s = (J^T J)^{-1} J^T e_s`, in units of the data's errors and with continua projected out. The sum of
    :math:`b_s b_s^T` over all expected errors is added to the covariance due to noise, :math:`(J^T J)^{-1}`. A
    likelihood with the data covariance :math:`D + J (\sum_s b_s b_s^T) J^T`, diagonal plus low rank, gives the same.
    """
    labels = np.array([linear.values[name] for name in shifts.names if name not in ERROR_DIRECTIONS])
    return _moved(covariance, shifts.near(labels), linear.error_projections(shifts.edges, shifts.names))


def second_covariance(linear, covariance, light):
    """As `generator_covariance`, due to the error of the generator at the labels of a second photosphere.

    `light` is its light (SecondLight). Errors at the labels of both photospheres count as independent.
    """
    error_map = light.generator.error_map_
    if error_map is None:
        return np.zeros_like(covariance)
    shifts = error_map.shifts
    products = linear.error_projections(shifts.edges, shifts.names, light)
    return _moved(covariance, shifts.near(light.labels), products)


def _moved(covariance, shifts, products):
    """Covariance of parameters by shifts (n_samples, n_windows, n_modes), from products as of `error_projections`."""
    moves = np.einsum("swd,wkd->sk", shifts, products)
    moves = moves @ np.where(np.isfinite(covariance), covariance, 0.0)
    return moves.T @ moves


def inflation_by_groups(covariance, jacobian, residuals, sizes):
    r"""Inflation of the errors, shape (n_free,), for residuals that are correlated within groups of pixels.

    Residuals of an imperfect model are not noise: those of a line, or of a whole order, are correlated. With
    :math:`g_c = J_c^T r_c` of each group, minus their mean, which is zero without priors, :math:`C \sum_c g_c g_c^T C`
    is the covariance from their scatter (the sandwich estimator of White 1980 [1]_, in groups). It holds for any
    correlation within the groups.

    `covariance` is :math:`(J^T J)^{-1}` times the reduced chi-square; `jacobian` (n_pixels, n_free) and `residuals`
    (n_pixels,) are in units of the errors; `sizes` are numbers of pixels of the pieces, which are the groups, or are
    cut into groups. The factor is 1 unless the groups have over four times the variance of noise.

    References
    ----------
    .. [1] White, H. (1980), "A heteroskedasticity-consistent covariance matrix estimator and a direct test for
       heteroskedasticity", Econometrica 48, 817. doi:10.2307/1912934
    """
    parts = max(int(np.ceil(_N_GROUPS / len(sizes))), 1)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    starts = np.unique(np.concatenate([np.linspace(a, b, parts + 1)[:-1] for a, b in pairwise(ends)]).astype(int))
    groups = np.add.reduceat(jacobian * residuals[:, None], starts, axis=0)
    groups -= groups.mean(axis=0)
    inside = covariance_of(jacobian)
    moves = groups @ np.where(np.isfinite(inside), inside, 0.0)
    scatter = (moves**2).sum(axis=0) * len(groups) / max(len(groups) - jacobian.shape[1], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = scatter / np.diag(covariance)
    return np.sqrt(np.where(ratio > _SIGNIFICANT, ratio, 1.0))
