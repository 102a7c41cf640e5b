"""Effect of the errors of corrected lines on the fitted parameters.

A fit is linear in the data near its minimum: with the influence of each weighted residual on the parameters and the
derivatives of the spectrum with respect to a line, the parameters move by their product for each unit of a line's
fault. Faults that lines share move them by a sum, which is common to all stars of a calibration.
"""

import numpy as np

from stellarhml.inference.uncertainty import covariance_of
from stellarhml.kernels.line_columns import KINDS


def line_moves(columns, influence, weights, n_lines):
    """Changes of the fitted parameters per unit of each line's fault, (n_kinds, n_lines, n_free).

    LineColumns of each order, None where it has no model; by the number of the order, the `influence` (n_pixels,
    n_free) of its weighted residuals and the `weights` (n_pixels,) of its pixels.
    """
    n_free = next(iter(influence.values())).shape[1] if influence else 0
    moves = np.zeros((len(KINDS), n_lines, n_free))
    for number, table in influence.items():
        own = columns[number]
        if own is None:
            continue
        line, rows = own.lines(), (table * weights[number][:, None])[own.pixels()]
        for kind in range(len(KINDS)):
            for i in range(n_free):
                moves[kind, :, i] += np.bincount(line, rows[:, i] * own.table[:, kind], minlength=n_lines)
    return moves


def shared_covariance(moves, errors):
    """Covariance (n_free, n_free) by the errors of corrections that lines share, CalibrationErrors."""
    shifts = np.einsum("mkl,klf->mf", errors.modes, moves)
    return shifts.T @ shifts


def single_covariance(moves, errors):
    """Covariance (n_free, n_free) by the scatter of single lines, and the errors of their corrections."""
    return np.einsum("kl,klf,klg->fg", errors.scatter[:, None] ** 2 + errors.variances, moves, moves)


def influence_of(linear, likelihood):
    """Influence of the weighted residuals in a fit without faults, and weights, by the number of the order."""
    inside = covariance_of(linear.jacobian)
    rows = linear.jacobian[: likelihood.n_pixels] @ np.where(np.isfinite(inside), inside, 0.0)
    influence, weights, first = {}, {}, 0
    for piece, level in zip(likelihood.pieces, linear.levels(), strict=True):
        n_all, n_own = len(linear.orders[piece.order].wavelength), len(piece.pixels)
        whole = influence.setdefault(piece.order, np.zeros((n_all, rows.shape[1])))
        whole[piece.pixels] = rows[first : first + n_own]
        weights.setdefault(piece.order, np.zeros(n_all))[piece.pixels] = level
        first += n_own
    return influence, weights
