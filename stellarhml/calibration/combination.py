r"""Corrections of lines from the estimates of many stars: shrunken means, with scatters found from the data.

Star i estimates the correction :math:`c_j` of line j as :math:`y_{ij}` with the variance :math:`n_{ij}`. Lines of stars
also differ by themselves, with a scatter t, and a star whose labels are not known has fitted them to the uncorrected
lines: its estimates then contain the direction :math:`D_{ij} = \partial y_{ij} / \partial x_l` of each such label times
an unknown shift :math:`a_{il}`. With the weights :math:`w_{ij} = 1 / (n_{ij} + t^2)`,

.. math:: c_j = \frac{\sum_i w_{ij} (y_{ij} - D_{ij} a_i)}{\sum_i w_{ij} + P_j}, \qquad
   \mathrm{var}(c_j) = \frac{1}{\sum_i w_{ij} + P_j}, \qquad
   P_j = \frac{5}{4 S^2 + c_j^2 + \mathrm{var}(c_j)}.

Where lines overlap, no star tells them apart, and every star divides their common fault in the same way. Stars are not
independent then. Therefore the sum of the weights is limited, such that its share of a correction, its ratio to the sum
with P, is at most the largest share :math:`\gamma` that any star determines of the fault.

The shifts a are those of least squares, with the corrections eliminated. P is the precision of the prior of a
correction, Student's distribution with four degrees of freedom as for the faults of a star: most corrections are of the
size S, some are far larger. S is found by MacKay's fixed point, as the scale of faults, t from the differences between
the stars by the method of Paule and Mandel [1]_, all for each kind.

References
----------
.. [1] Paule, R. C. and Mandel, J. (1982), "Consensus values and weighting factors", J. Res. NBS 87, 377.
   doi:10.6028/jres.087.022
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from stellarhml.calibration.star_estimates import KINDS
from stellarhml.inference.line_faults import START

BETWEEN_STARS = {"strength": 0.05, "velocity": 0.05, "width": 0.02, "wing": 0.1}
"""Scatters between stars where no line is shown by two: a typical scatter of faults after a calibration."""

_LEAST = {kind: 0.2 * scale for kind, scale in BETWEEN_STARS.items()}  # scatter between stars
_MOST = 1.0  # scatter between stars, any kind
_SMALLEST, _LARGEST = 1e-3, {"strength": 1.0, "velocity": 1.0, "width": 0.3, "wing": 1.0}  # scatter of corrections
_TAIL = 4.0  # degrees of freedom
_OUTLIER = 9.0  # largest squared deviation of an estimate, in variances, that counts in a scatter
_ROUNDS, _SETTLED = 100, 1e-3  # relative change of a scatter


class Combined(NamedTuple):
    """Corrections and their variances, (n_kinds, n_lines); what they are made of.

    `weights`, sums over the stars; `scatter` of the corrections and scatter `between` stars, (n_kinds,).
    """

    values: np.ndarray
    variances: np.ndarray
    weights: np.ndarray
    scatter: np.ndarray
    between: np.ndarray


def combine(estimates, directions, reach, least=None):
    """Combine the LineEstimates of all stars; returns Combined.

    `directions` (n_stars, n_directions, n_kinds, n_lines), derivatives of a star's estimates with respect to shifts of
    what it does not know, zero where it knows; `reach` (n_directions,), standard deviation of these shifts; `least`
    (n_kinds, n_lines), smallest scale of the prior of each line, by which lines with one say nothing of the others.
    """
    least = np.zeros(estimates.values.shape[1:]) if least is None else least
    # lines that no star shows have no part in it
    shown = estimates.precisions.any(axis=(0, 1))
    values, precisions, slopes = estimates.values[..., shown], estimates.precisions[..., shown], directions[..., shown]
    share, least = estimates.shares[..., shown].max(axis=0), least[:, shown]
    usual = least == 0
    odds = share / np.maximum(1 - share, 1e-9)
    scatter = np.array([START[kind] for kind in KINDS])
    largest = np.array([_LARGEST[kind] for kind in KINDS])
    found = variances = np.zeros(values.shape[1:])
    moved = values
    for _ in range(_ROUNDS):
        between = np.array(
            [
                scatter_between(moved[:, k, usual[k]], precisions[:, k, usual[k]], BETWEEN_STARS[kind], _LEAST[kind])
                for k, kind in enumerate(KINDS)
            ]
        )
        weights = precisions / (1 + precisions * between[:, None] ** 2)
        prior = prior_precision(np.maximum(scatter[:, None], least), found, variances)
        total = weights.sum(axis=0)
        weights *= np.minimum(prior * odds / np.maximum(total, 1e-300), 1.0)
        total = weights.sum(axis=0)
        variances = 1 / (total + prior)
        moved = values - _drift(values, weights, variances, slopes, reach)
        found = variances * (weights * moved).sum(axis=0)
        size = (_TAIL + 1) / (_TAIL + (found**2 + variances) / scatter[:, None] ** 2) * found**2
        known = np.maximum((total * variances * usual).sum(axis=1), 1.0)
        new = np.clip(np.sqrt((size * usual).sum(axis=1) / known), _SMALLEST, largest)
        settled = np.all(np.abs(new - scatter) < _SETTLED * scatter)
        scatter = new
        if settled:
            break
    whole = np.zeros((3, *estimates.values.shape[1:]))
    whole[..., shown] = found, variances, total
    return Combined(*whole, scatter, between)


def prior_precision(scatter, values, variances):
    """Precision of the prior of corrections (n_kinds, n_lines), with the `scatter` (n_kinds, n_lines) of each."""
    return (_TAIL + 1) / (_TAIL * scatter**2 + values**2 + variances)


def scatter_between(values, precisions, unknown, least):
    """Scatter between stars beyond their variances, from their estimates (n_stars, n), at least `least`.

    `unknown` is returned where no column has the estimates of two stars.
    """
    several = (precisions > 0).sum(axis=0) > 1
    if not several.any():
        return unknown
    values, precisions = values[:, several], precisions[:, several]
    freedom = (precisions > 0).sum() - precisions.shape[1]

    def excess(scatter):
        weights = precisions / (1 + precisions * scatter**2)
        mean = (weights * values).sum(axis=0) / weights.sum(axis=0)
        return np.minimum((values - mean) ** 2 * weights, _OUTLIER).sum() - freedom

    if excess(least) <= 0:
        return least
    return _MOST if excess(_MOST) >= 0 else brentq(excess, least, _MOST, xtol=1e-3 * least)


def without_shifts(values, weights, prior, directions, reach):
    r"""Corrections without their part along some directions, so that :math:`\sum_j P_j D_j c_j = 0`.

    Of all corrections that differ by a shift of what is unknown, these are the most probable. `values`, `weights` and
    precisions of the `prior`, (n_kinds, n_lines); `directions` (n_directions, n_kinds, n_lines) and `reach` as in
    `combine`. Lines that no star shows do not change.
    """
    share = weights / (weights + prior)
    rows = directions.reshape(len(directions), -1)
    matrix = (rows * (share * prior).ravel()) @ rows.T + np.diag(1e-9 / reach**2)
    right = rows @ np.where(weights > 0, prior * values, 0.0).ravel()
    return values - share * np.einsum("d,dkl->kl", np.linalg.solve(matrix, right), directions)


def _drift(values, weights, variances, slopes, reach):
    """Changes of the estimates by the unknown shifts of each star, of the shape of `values`."""
    n_stars, n_directions = slopes.shape[:2]
    rows = slopes.reshape(n_stars * n_directions, -1)
    star = np.repeat(np.arange(n_stars), n_directions)
    weighted = rows * weights.reshape(n_stars, -1)[star]
    # the corrections that follow from the shifts are eliminated
    matrix = np.where(star[:, None] == star, weighted @ rows.T, 0.0) - (weighted * variances.ravel()) @ weighted.T
    matrix += np.diag(np.tile(1 / reach**2, n_stars))
    mean = variances * (weights * values).sum(axis=0)
    right = (weighted * (values - mean).reshape(n_stars, -1)[star]).sum(axis=1)
    shifts = np.linalg.solve(matrix, right).reshape(n_stars, n_directions)
    return np.einsum("sd,sdkl->skl", shifts, slopes)
