r"""Errors of corrections that many lines share, as modes: shifts of all lines by one standard deviation.

Their sources are the stars themselves, as far as their estimates of many lines differ together (the jackknife over
stars), labels that no star knows and microturbulence, which all stars have wrong together, and the zero points.
"""

import numpy as np

from stellarhml.calibration.combination import combine
from stellarhml.calibration.directions import change_directions, label_directions
from stellarhml.calibration.star_estimates import KINDS, LineEstimates

_FEWEST = 3  # stars that can be left out, of which the jackknife makes sense
_CHANGES = ("vmic", "damping")


def star_modes(estimates, directions, reach, unknown):
    """Differences of the corrections with each star left out, scaled to errors: (n_modes, n_kinds, n_lines).

    Arguments as of `combine`; `unknown` (n_stars, n_directions), bool. A star that alone knows a label is not left out.
    """
    stars = np.arange(len(unknown))
    others = [np.delete(stars, i) for i in stars]
    others = [rows for rows in others if len(rows) and (unknown[rows].all(axis=0) == unknown.all(axis=0)).all()]
    if len(others) < _FEWEST:
        return np.zeros((0, *estimates.values.shape[1:]))
    without = [combine(LineEstimates(*(part[rows] for part in estimates)), directions[rows], reach) for rows in others]
    values = np.array([combined.values for combined in without])
    return np.sqrt((len(stars) - 1) / len(others)) * (values - values.mean(axis=0))


def common_modes(generator, results, unknown, grid_microturbulence):
    """Errors by what all stars have fitted with the same wrong lines: labels, microturbulence, damping.

    `unknown` (n_stars, n_labels + 1), bool, as in `star_modes`. Their covariance is the mean over the stars, of which
    the noise averages out; (n_modes, n_kinds, n_lines).
    """
    names = [name for name, nowhere in zip(generator.label_names_, unknown.all(axis=0)[:-1], strict=True) if nowhere]
    changes = [name for name in _CHANGES if all(result.errors.get(name, 0.0) > 0 for result in results)]
    labels = np.mean([[result.values[name] for name in generator.label_names_] for result in results], axis=0)
    rows = [label_directions(generator, labels)[[generator.label_names_.index(name) for name in names]]]
    if changes:
        values = {name: float(np.mean([result.values[name] for result in results])) for name in changes}
        rows.append(change_directions(generator, labels, values, grid_microturbulence))
    rows, covariance = np.concatenate(rows), np.zeros((len(names) + len(changes),) * 2)
    for result in results:
        own = np.ix_(*[[result.names.index(name) for name in (*names, *changes)]] * 2)
        noise = result.covariances["noise"][own]
        covariance += (result.covariance[own] - noise * (1 - 1 / len(results))) / len(results)
    return np.einsum("md,dkl->mkl", _root(covariance), rows)


def strength_modes(covariance, responses):
    """Errors of ln strength by zero points with a covariance (n, n), of `responses` (n, n_lines), as modes."""
    modes = np.zeros((len(covariance), len(KINDS), responses.shape[1]))
    modes[:, KINDS.index("strength")] = _root(covariance) @ responses
    return modes


def _root(covariance):
    """Matrix R (n, n) with R.T @ R = covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
