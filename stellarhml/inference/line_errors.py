r"""Errors of a fit with line faults: noise, faults, priors, the generator, and what groups of residuals add.

With the faults marginalised, the fitted variables are linear in the data, :math:`\hat x = x + \sum_p I_p r_p` with the
influence I of each residual. The covariance is the sum of those of noise, of faults and of priors, and of the
generator's own error, whose shifts act through I.

Faults of lines are taken as independent. Whether they are, groups show: residuals of parts of the spectrum, and faults
of lines of one species and strength. If the sum over groups of squared sums exceeds what independence predicts, the
difference is a further part, "jackknife".
"""

from itertools import pairwise

import numpy as np
import pandas as pd

from stellarhml.forward.chain import ERROR_DIRECTIONS
from stellarhml.inference.calibration_moves import line_moves, shared_covariance
from stellarhml.inference.line_fit import line_groups
from stellarhml.kernels.line_columns import KINDS
from stellarhml.physics.wavelength import SPEED_OF_LIGHT, doppler_shift

FLOOR = {"teff": 120.0, "logg": 0.20, "feh": 0.10}
"""Systematic errors (K, dex) of stars whose lines differ from the grid's by more than faults of lines describe.

They are about the mean errors of nine observed stars in the optical with an SME grid (atmospheres, missing lines)."""

LEAST_INFLATION, LEAST_OF_ABUNDANCES = 2.2, 1.6
"""Least factors of the errors by noise and line faults: faults are correlated in ways that groups do not show.

They were chosen on twelve synthetic stars of other physics (the first half of `mismatch_dev`). An abundance depends on
its own lines alone."""

_N_GROUPS = 24  # minimum number of parts of the spectrum


def line_uncertainty(generator, found, shifts):
    """Parts of the covariance (n_free, n_free) of the fitted parameters of a LineSolution, by name.

    `shifts` are the LabelShifts of the generator, None to leave its error out.
    """
    system, solved = found.system, found.solved
    slopes = np.outer(system.slopes, system.slopes)
    parts = {name: part * slopes for name, part in system.parts(solved).items()}
    influence = system.influence(solved)
    if shifts is not None:
        parts["generator"] = _of_generator(found, influence, shifts) * slopes
    if generator.calibration_ is not None:
        columns = found.likelihood.chain.line_columns(found.parameters.values(found.variables), found.every_line)
        moves = line_moves(columns, influence, system.weights(), len(found.every_line))
        parts["calibration"] = shared_covariance(moves, generator.calibration_) * slopes
    own = parts["noise"] + parts["line_faults"]
    with np.errstate(divide="ignore", invalid="ignore"):
        by_order = np.diag(_of_spectrum(system, solved, influence) * slopes) / np.diag(own)
        by_species = np.diag(_of_species(generator, found) * slopes) / np.diag(parts["line_faults"])
    share = np.diag(parts["line_faults"]) / np.maximum(np.diag(own), 1e-300)
    ratio = np.maximum(np.nan_to_num(by_order), 1 + share * (np.nan_to_num(by_species) - 1))
    names = found.parameters.free
    least = np.array([LEAST_OF_ABUNDANCES if name.startswith("[") else LEAST_INFLATION for name in names])
    factor = np.maximum(np.sqrt(ratio), least)
    parts["jackknife"] = own * (np.outer(factor, factor) - 1)
    return parts


def floor_of(parameters):
    """Covariance of all parameters by `FLOOR`, (n_parameters, n_parameters).

    It is zero for those that are fixed, and at most that of a prior.
    """
    std = [
        min(FLOOR.get(name, 0.0), parameters.prior_std(name)) * (name in parameters.free) for name in parameters.names
    ]
    return np.diag(np.square(std))


def fault_table(generator, found):
    """Faults of the lines of a star as a DataFrame, one row for each line with a fault among the unknowns.

    Indexed by the line's wavelength in the catalogue; `line` is its number there. For each kind the fault, its
    standard deviation, and the share that the data determine, such as `strength`, `strength_std` and `strength_told`.
    """
    system, faults, told = found.system, found.faults, found.solved.told()
    lines = np.unique(system.line)
    table = pd.DataFrame({"line": lines}, index=pd.Index(generator.decomposer_.line_catalog_[lines], name="wavelength"))
    if generator.tags_ is not None:
        table["species"] = generator.tags_.names()[lines]
    for k, kind in enumerate(KINDS):
        own = system.kind == k
        share = np.zeros(len(faults.values[kind]))
        share[system.line[own]] = told[own]
        seen = faults.seen[kind][lines]
        std = np.where(seen, np.sqrt(faults.variances[kind][lines]), faults.prior_scale(kind)[lines])
        table[kind], table[f"{kind}_std"], table[f"{kind}_told"] = faults.values[kind][lines], std, share[lines]
    return table


def missing_table(found):
    """Lines that a star shows and the model lacks, as a DataFrame, see `InferenceResult.missing_lines`."""
    shift, rows = doppler_shift(1.0, found.parameters.values(found.variables)["rv"]), []
    for number, part in found.missing.items():
        wavelength = np.exp(part.center) / shift
        area = np.sqrt(2 * np.pi) * part.sigma * wavelength
        width = np.full(len(wavelength), part.sigma * SPEED_OF_LIGHT)
        rows.append(np.column_stack([wavelength, part.depth * area, part.depth_std * area, width]))
        rows[-1] = np.column_stack([rows[-1], np.full(len(wavelength), number)])
    names = ["wavelength", "equivalent_width", "equivalent_width_std", "width", "order"]
    table = pd.DataFrame(np.concatenate(rows) if rows else np.empty((0, 5)), columns=names)
    return table.astype({"order": int}).sort_values("wavelength", ignore_index=True)


def _of_generator(found, influence, shifts):
    """Covariance of the variables due to the generator's own error, as in `uncertainty.generator_covariance`."""
    likelihood, names = found.likelihood, shifts.names
    linear = likelihood.linearise(found.variables)
    places, weights = likelihood.chain.generator_pixels(linear.values), found.system.weights()
    n_windows = len(shifts.edges) - 1
    products = np.zeros((n_windows, len(likelihood.parameters.free), len(names)))
    for number, table in influence.items():
        modes = linear.orders[number].modes
        rows = np.nan_to_num(np.column_stack([modes[name] for name in names])) * weights[number][:, None]
        window = np.clip(np.searchsorted(shifts.edges, places[number], side="right") - 1, 0, n_windows - 1)
        for k in np.unique(window):
            products[k] += table[window == k].T @ rows[window == k]
    labels = np.array([linear.values[name] for name in names if name not in ERROR_DIRECTIONS])
    moves = np.einsum("swd,wkd->sk", shifts.near(labels), products)
    return moves.T @ moves


def _of_spectrum(system, solved, influence):
    """Covariance of the variables from the scatter between parts of the spectrum."""
    residuals, moves = system.linear_residuals(solved), []
    n_parts = max(int(np.ceil(_N_GROUPS / max(len(influence), 1))), 1)
    for number, table in influence.items():
        used = np.flatnonzero(residuals[number])
        if len(used):
            ends = np.linspace(used[0], used[-1] + 1, n_parts + 1).round().astype(int)
            moves += [table[a:b].T @ residuals[number][a:b] for a, b in pairwise(ends)]
    moves = np.array(moves)
    moves -= moves.mean(axis=0)
    return moves.T @ moves * len(moves) / max(len(moves) - 1, 1)


def _of_species(generator, found):
    """Covariance of the variables from faults that lines of a species and similar strength share."""
    system, solved = found.system, found.solved
    kernel = system.pulls(solved)
    group = line_groups(generator, system, found.saturation)
    sums = np.zeros((group.max(initial=-1) + 1, kernel.shape[1]))
    np.add.at(sums, group, kernel * solved.present[:, None])
    left = kernel * np.sqrt(solved.variances)[:, None]
    return sums.T @ sums + left.T @ left
