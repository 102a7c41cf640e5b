r"""What each star by itself says of its lines and species, freed from the prior of its fit.

A fit gives a fault d of a line with posterior variance V, and the share :math:`\gamma` of it that the data determine.
With a Gaussian prior about zero, the data alone say :math:`y = d / \gamma` with the variance :math:`V / \gamma`.
Abundances can be degenerate, such as those of nitrogen and CN; of them the posterior mean m with covariance C, and the
precision P of the prior, give the information :math:`C^{-1} - P`, and the estimate times this, :math:`C^{-1} m`.
"""

import re
from typing import NamedTuple

import numpy as np

from stellarhml.inference.line_faults import START
from stellarhml.synthesis.line_changes import ABUNDANCE_PRIOR

KINDS = tuple(START)
"""Kinds of faults: ln "strength", "velocity" [km/s], ln "width", ln "wing"."""

_LEAST_TOLD = 0.02  # share of a fault below which the star is taken to say nothing
_SPECIES = re.compile(r"\[(\w+)/Fe\]|(\w+) strength")  # names of the parameters of LineChanges
_ACTED = ("noise", "line_faults", "prior")  # parts of a covariance that the prior acts upon; others inflate it


class LineEstimates(NamedTuple):
    """Estimates of each star, their precisions (one over the variance), and the shares that the data determine.

    All have the shape (n_stars, n_kinds, n_lines), and are 0 where a star says nothing.
    """

    values: np.ndarray
    precisions: np.ndarray
    shares: np.ndarray


def line_estimates(results, n_lines):
    """LineEstimates of the faults of lines from the InferenceResult of each star."""
    values, precisions, shares = np.zeros((3, len(results), len(KINDS), n_lines))
    for star, result in enumerate(results):
        table = result.line_faults
        for k, kind in enumerate(KINDS):
            told, variance = table[f"{kind}_told"].to_numpy(), table[f"{kind}_std"].to_numpy() ** 2
            known = (told > _LEAST_TOLD) & (variance > 0)
            line = table["line"].to_numpy()[known]
            values[star, k, line] = table[kind].to_numpy()[known] / told[known]
            precisions[star, k, line] = told[known] / variance[known]
            shares[star, k, line] = told[known]
    return LineEstimates(values, precisions, shares)


def species_parameters(results):
    """Elements and molecules whose abundance or strength was fitted to any star, by the name of the parameter."""
    matches = (_SPECIES.fullmatch(name) for result in results for name in result.names)
    return {match[0]: match[1] or match[2] for match in matches if match}


def species_information(result, names):
    """Information (n, n) of a star on the parameters `names` [dex], and the information times its estimate, (n,).

    Zero for parameters that were not fitted. The information is smaller as far as the errors were inflated.
    """
    information, product = np.zeros((len(names), len(names))), np.zeros(len(names))
    known = [k for k, name in enumerate(names) if result.errors.get(name, 0.0) > 0]  # neither absent nor fixed
    if not known:
        return information, product
    places = [result.names.index(names[k]) for k in known]
    own = np.ix_(places, places)
    acted = sum(result.covariances[part] for part in _ACTED)[own]
    inverse = np.linalg.inv(acted)
    sizes, vectors = np.linalg.eigh(inverse - np.eye(len(known)) / ABUNDANCE_PRIOR**2)
    inflation = max(np.mean(np.diag(result.covariance[own]) / np.diag(acted)), 1.0)
    mean = np.array([result.values[names[k]] for k in known])
    information[np.ix_(known, known)] = (vectors * np.maximum(sizes, 0.0)) @ vectors.T / inflation
    product[known] = inverse @ mean / inflation
    return information, product
