"""What a generator learns from its grid beyond the lines: factors, residuals, and its own error.

The spectra are gone through window by window of pixels, three times at most, and never held together: lines are
rendered again each time, which takes milliseconds.
"""

from functools import partial

import numpy as np

from stellarhml._parallel import map_items
from stellarhml.kernels.effects import line_effects
from stellarhml.manifold.coded_rows import CodedRows
from stellarhml.manifold.components import choose_rank, principal_components
from stellarhml.manifold.residual import ResidualBasis
from stellarhml.synthesis.error_model import ErrorModel, thin
from stellarhml.synthesis.grid import Grid
from stellarhml.synthesis.label_shifts import LabelShifts
from stellarhml.synthesis.line_model import LineModel

_MIN_SHARE = 0.99  # of the lines that are present, for the rest to be made up
_EFFECT_NODES = 3
_SLACK = 1.5  # of the lines' held-out error: what their last factors would tell, the residual tells as well
TOLERANCE = 1.5e-4
"""Largest error of a pixel in a stored component of the residuals, whose coefficients are 1 at most."""


def learn_factors(interpolator, samples, profile, n_factors):
    """Replace an interpolator's bank of lines by factors, where that loses nothing.

    Parameters
    ----------
    interpolator : LineManifoldInterpolator
        Fitted on lines; changed.
    samples : ErrorSamples
        Places where nodes are held out.
    profile : str
        Name of the line profile.
    n_factors : int, "auto" or None
        Number of factors. "auto": as many as held-out nodes ask for, provided that there are such nodes and nearly
        every line is present at nearly every one of them. None keeps the bank.
    """
    bank = interpolator.table_
    automatic = n_factors == "auto"
    if n_factors is None or not bank.n_lines or not bank.n_nodes:
        return
    if automatic and (bank.share < _MIN_SHARE or not samples.measured.any() or interpolator.absent == "vanish"):
        return
    chosen = np.unique(np.linspace(0, bank.n_nodes - 1, _EFFECT_NODES).round().astype(int))
    effect = np.zeros_like(bank.origin)
    for row in chosen:
        lines, theta = bank.at_node(row)
        effect[lines] += line_effects(theta, profile) ** 2
    choose = partial(choose_rank, samples=samples, slack=_SLACK) if automatic else partial(_at_most, n_factors)
    interpolator.compress(np.sqrt(effect / len(chosen)), choose)


def learn_from_grid(generator, labels, flux):
    """Learn all that a generator keeps beside the fitted steps.

    Parameters
    ----------
    generator : SpectrumGenerator
        With fitted decomposer and interpolator; changed.
    labels : ndarray of shape (n_rows, n_labels)
        Labels of the grid.
    flux : ndarray of shape (n_rows, n_pixels)
        Normalised fluxes; may be a memory map.
    """
    interpolator, decomposer = generator.interpolator_, generator.decomposer_
    options = {"n_jobs": decomposer.n_jobs, "verbose": decomposer.verbose}
    samples = interpolator.error_samples()
    learn_factors(interpolator, samples, decomposer.profile, generator.n_factors)
    generator.lines_ = LineModel.of(generator)
    grid = Grid(generator.lines_, flux, interpolator.locate(labels)[0])
    if generator.residual_rank is not None:
        generator.residual_ = learn_residual(grid, samples, generator.residual_rank, **options)
    few = thin(samples)
    generator.error_map_ = ErrorModel.learn(grid, few, generator.residual_, labels, generator.label_names_, **options)
    generator.error_map_.shifts = LabelShifts.learn(
        grid, generator.residual_, few, interpolator, generator.wavelength_, labels, **options
    )


def learn_residual(grid, samples, rank, *, n_jobs, verbose):
    """Learn the components of what lines leave over.

    Parameters
    ----------
    grid : Grid
        The grid.
    samples : ErrorSamples
        Places where nodes are held out.
    rank : int or "auto"
        Number of components. "auto": as many as held-out nodes ask for.
    n_jobs, verbose : int, bool
        As in `stellarhml._parallel.map_items`.

    Returns
    -------
    residual : ResidualBasis
        The components.
    """
    windows = grid.windows()
    options = {"n_jobs": n_jobs, "verbose": verbose}
    grams = map_items(partial(_gram, grid), windows, description="Learning residuals", **options)
    gram = sum(grams, np.zeros((len(grid.flux),) * 2))
    vectors, sizes = principal_components(gram)
    kept = choose_rank(vectors * sizes, samples) if rank == "auto" else min(rank, len(sizes))
    vectors = vectors[:, :kept]
    largest = np.abs(vectors).max(axis=0, initial=0.0)
    project = np.vstack([np.full(len(grid.flux), 1 / len(grid.flux)), (vectors * largest).T])
    pieces = map_items(partial(_encode, grid, project), windows, description="Storing residuals", **options)
    return ResidualBasis(CodedRows.join(list(pieces)), vectors / largest)


def _at_most(rank, scores):
    return min(rank, scores.shape[1])


def _gram(grid, pixels):
    left = grid.left_over(pixels)
    left -= left.mean(axis=0)
    return left @ left.T


def _encode(grid, project, pixels):
    left = grid.left_over(pixels)
    mean = left.mean(axis=0)
    return CodedRows.encode(np.vstack([mean, project[1:] @ (left - mean)]), TOLERANCE)
