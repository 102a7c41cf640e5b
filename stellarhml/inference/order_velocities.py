"""Radial velocity of each order by itself, and errors of the wavelength solution that orders do not share."""

import numpy as np
import pandas as pd

from stellarhml._units import plain_number
from stellarhml.forward.chain import RV
from stellarhml.forward.stages import Parameter, numbered_names

_WIDEST = 10.0  # standard deviations: largest shift of an order


def check_wavelength_error(error):
    """The uncertainty of wavelengths in km/s, without a unit; None if they are exact. ValueError if it is wrong."""
    error = None if error is None else plain_number(error, ["km/s"], "`wavelength_error`")
    if error is None or (np.ndim(error) == 0 and not isinstance(error, (bool, str)) and 0 < error <= 50):
        return error
    raise ValueError(
        f"`wavelength_error` is {error!r}; it needs a standard deviation in km/s, over 0 and up to 50, by which the "
        "wavelengths of each order may be off. None takes them as exact."
    )


def order_shifts(numbers, error):
    """Shift of each order as a Parameter with a prior of 0 +- `error` km/s; None if `error` is None."""
    if error is None:
        return None
    bounds, text = (-_WIDEST * error, _WIDEST * error), "error of the wavelengths"
    return tuple(
        Parameter(
            name,
            "km/s",
            bounds,
            text,
            start=0.0,
            scale=float(error),
            prior=(0.0, float(error)),
            nuisance=True,
        )
        for name in _shift_names(numbers)
    )


def _shift_names(numbers):
    """Name of the shift of each order."""
    return numbered_names([f"wavelength shift of order {number}" for number in numbers])


def velocities_of_fit(linear, likelihood, numbers, scale):
    """Velocity of each order from a linearised likelihood, with everything else fitted too; None if rv is fixed.

    Velocities of orders take the place of rv and of shifts of orders; they have no prior. `numbers` of all orders,
    `scale` of the variance. Returns a table, see `velocity_table`.
    """
    parameters, n = likelihood.parameters, likelihood.n_pixels
    if RV.name not in parameters.free:
        return None
    replaced = {RV.name, *parameters.nuisances}
    kept = [k for k, name in enumerate(parameters.free) if name not in replaced]
    used = list(dict.fromkeys(piece.order for piece in likelihood.pieces))
    place = np.concatenate([np.full(len(piece.pixels), used.index(piece.order)) for piece in likelihood.pieces])
    column = linear.jacobian[:n, parameters.free.index(RV.name)]
    own, others, residuals = np.zeros((n, len(used))), linear.jacobian[:, kept], linear.residuals
    own[np.arange(n), place] = column
    own = np.vstack([own, np.zeros((len(residuals) - n, len(used)))])
    table = np.hstack([others, own])
    change, covariance = solve(table.T @ table, table.T @ residuals)
    first = len(kept)
    return velocity_table(
        linear.values, parameters, numbers, used, change[first:], np.diag(covariance)[first:] * max(scale, 1.0)
    )


def velocities_of_line_fit(found, numbers):
    """As `velocities_of_fit`, of a LineSolution: faults of lines are fitted, too."""
    parameters, likelihood = found.parameters, found.likelihood
    if RV.name not in parameters.free:
        return None
    linear = likelihood.linearise(found.variables)
    used = list(dict.fromkeys(piece.order for piece in likelihood.pieces))
    tables = []
    for number, rows in enumerate(linear.orders):
        table = np.zeros((len(rows.flux), len(used)))
        if number in used:
            table[:, used.index(number)] = np.nan_to_num(rows.tangents[RV.name])
        tables.append(table)
    replaced = [parameters.free.index(name) for name in (RV.name, *parameters.nuisances)]
    change, covariance = found.system.scores(found.solved, tables, without=replaced)
    return velocity_table(linear.values, parameters, numbers, used, change, np.diag(covariance))


def velocity_table(values, parameters, numbers, used, change, variance):
    """Table of velocities in km/s: `order`, its number in the file, `rv`, `rv_std`.

    `used` orders have a `change` (n,) from rv plus their shift, with a `variance`; those without lines are left out.
    """
    rows, names = [], _shift_names(numbers)
    for order, step, squared in zip(used, change.tolist(), variance.tolist(), strict=True):
        name = names[order]
        shift = values[name] if name in parameters.nuisances else 0.0
        if np.isfinite(squared):
            rows.append((numbers[order], values[RV.name] + shift + step, float(np.sqrt(squared))))
    return pd.DataFrame(rows, columns=["order", "rv", "rv_std"])


def solve(matrix, gradient):
    """Step (n,) to the minimum of a quadratic form, and its inverse (n, n); infinite where the form is zero."""
    size = np.diag(matrix)
    seen = size > 1e-12 * size.max(initial=0.0)
    scale = 1 / np.sqrt(size[seen])
    inverse = np.zeros_like(matrix)
    inverse[np.ix_(seen, seen)] = np.linalg.pinv(
        matrix[np.ix_(seen, seen)] * np.outer(scale, scale), hermitian=True
    ) * np.outer(scale, scale)
    step = -inverse @ gradient
    inverse[~seen, ~seen] = np.inf
    return step, inverse
