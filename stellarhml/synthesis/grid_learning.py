"""Learning from a grid with fitted lines: factors of the lines, components of the residuals, and the error.

The spectra are read at most four times, in windows of pixels, and never held in memory together: a window of all
spectra has at most 32 MB, and the error is measured from a few spectra at a time. Lines are rendered again each time,
which takes milliseconds.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stellarhml._parallel import map_items
from stellarhml.kernels.rendering import line_effects
from stellarhml.manifold.line_tables import LineFactors, choose_rank, principal_components
from stellarhml.manifold.residual import CodedRows, ResidualBasis
from stellarhml.storage.result_store import digest
from stellarhml.storage.row_files import file_in
from stellarhml.synthesis.error_model import MEASURE_VERSION, ErrorModel, LabelShifts, csr_arrays, thin
from stellarhml.synthesis.evaluation import LineModel

_WINDOW = 8192
"""Pixels of a window, a multiple of `kernels.combine.BLOCK`."""
_NARROWEST, _AT_ONCE = 512, 1 << 22
"""Fewest pixels of a window, and the pixels of all spectra from which windows are narrower."""
_MIN_SHARE = 0.99  # share of lines present at the nodes, from which absent lines are replaced by their mean
_EFFECT_NODES = 3
_SLACK = 1.5  # tolerated factor on the held-out error of the lines: the residual replaces their last factors
_MISSED, _LEFT_OUT = 3e-3, 2e-4  # but not changes of the flux by more than the first, RMS: then the second is allowed
TOLERANCE = 1.5e-4
"""Largest rounding error of a pixel in a stored component of the residuals, whose coefficients are at most 1."""


class Grid(NamedTuple):
    """The spectra of a grid and their lines, window by window.

    `flux` is normalised (n_rows, n_pixels) and may be a memory map; `weights`, csr_matrix (n_rows, n_rows), interpolate
    at the labels of the rows. Workers see all files in `folder`, if there is one: a map of such a file goes to them by
    its path, not by its content, as joblib itself does with its own processes, but not with dask's.
    """

    lines: object
    flux: np.ndarray
    weights: object
    folder: Path | None = None

    def __reduce__(self):
        path = None if self.folder is None else file_in(self.flux, self.folder)
        return _open_grid, (self.lines, self.flux if path is None else path, self.weights, self.folder)

    def windows(self, *, narrow=False):
        """Windows of pixels, as slices; `narrow` ones can hold all rows of a large grid together."""
        n_pixels, step = self.flux.shape[1], _WINDOW
        while narrow and step > _NARROWEST and len(self.flux) * step > _AT_ONCE:
            step //= 2
        return [slice(first, min(first + step, n_pixels)) for first in range(0, n_pixels, step)]

    def render(self, weights, pixels):
        """Spectra of lines for each row of weights, on a window of pixels, shape (n, n_wanted)."""
        flux = np.empty((weights.shape[0], pixels.stop - pixels.start))
        for i, row in enumerate(flux):
            row[:] = self.lines.render(weights[i], pixels)
        return flux

    def residual(self, pixels, rows=slice(None)):
        """Flux minus line model of `rows`, on a window of pixels, shape (n_rows, n_wanted), float64."""
        model = self.render(self.weights[rows], pixels)
        return np.subtract(self.flux[rows, pixels], model, out=model)


def _open_grid(lines, flux, weights, folder):
    """Grid whose flux is an array, or the path of a file of it."""
    flux = np.load(flux, mmap_mode="r", allow_pickle=False) if isinstance(flux, Path) else flux
    return Grid(lines, flux, weights, folder)


class LearntModel(NamedTuple):
    """Result of `learn_from_grid`; the interpolator is that of the lines, or of their factors."""

    interpolator: object
    lines: LineModel
    residual: ResidualBasis | None
    error_map: ErrorModel | None


def learn_from_grid(
    interpolator, labels, flux, wavelength, line_options, *, n_factors, residual_rank, store=None, n_jobs, verbose
):
    """Learn factors, residuals and error of a grid with fitted lines; returns a LearntModel.

    `interpolator` is fitted on the lines; `labels` (n_rows, n_labels); `flux`, normalised (n_rows, n_pixels), may be a
    memory map; `wavelength` [angstrom]; `line_options` are `profile` and `wing_cut`; a `store` keeps what is measured
    of the error; the rest as in `SpectrumGenerator`.
    """
    options = {"n_jobs": n_jobs, "verbose": verbose}
    samples = interpolator.error_samples()
    interpolator = interpolator.with_table(
        compressed_lines(interpolator, samples, wavelength, profile=line_options["profile"], n_factors=n_factors)
    )
    lines = LineModel(interpolator, wavelength, **line_options)
    grid = Grid(lines, flux, interpolator.locate(labels)[0], None if store is None else store.folder)
    residual = None if residual_rank is None else learn_residual(grid, samples, residual_rank, **options)
    few = thin(samples)
    options |= {"store": store, "settings": "" if store is None else _digest(grid, few, residual, labels)}
    shifts = LabelShifts.learn(grid, residual, few, interpolator, wavelength, labels, **options)
    error_map = ErrorModel.learn(grid, few, residual, labels, interpolator.label_names, shifts, **options)
    return LearntModel(interpolator, lines, residual, error_map)


def compressed_lines(interpolator, samples, wavelength, *, profile, n_factors):
    """Compress the lines of an interpolator to LineFactors, or return its LineBank.

    With `n_factors` "auto" the number that predicts held-out nodes (`samples`) best is taken, if there are such nodes
    and 99 % of the lines are present, and more if lines on `wavelength` (n_pixels,) need them; otherwise, and with
    None, the bank is kept. In factors, a line that is absent at a node has its mean shape and its smallest amplitude.
    """
    bank = interpolator.table_
    automatic = n_factors == "auto"
    if n_factors is None or not bank.n_lines or not bank.n_nodes:
        return bank
    if automatic and (bank.share < _MIN_SHARE or not samples.measured.any() or interpolator.absent == "vanish"):
        return bank
    chosen = np.unique(np.linspace(0, bank.n_nodes - 1, _EFFECT_NODES).round().astype(int))
    effect = np.zeros_like(bank.origin)
    for row in chosen:
        lines, theta = bank.at_node(row)
        effect[lines] += line_effects(theta, profile) ** 2
    extent = np.ptp(wavelength) or 1.0
    choose = partial(_enough_factors, samples=samples, extent=extent) if automatic else partial(_at_most, n_factors)
    amplitude = tuple(interpolator.parameters).index("log_amplitude")
    return LineFactors.learn(bank, np.sqrt(effect / len(chosen)), choose, amplitude)


def _digest(grid, samples, residual, labels):
    """Hash of what the error of a generator depends on, but for the weights at other labels."""
    lines, interpolator = grid.lines, grid.lines.interpolator
    options = [lines.profile, lines.wing_cut, lines.span, interpolator.absent, list(interpolator.parameters)]
    return digest(
        MEASURE_VERSION,
        [lines.wavelength, labels, *options, vars(interpolator.table_)],
        [digest(row) for row in grid.flux],
        [*csr_arrays(grid.weights), *csr_arrays(samples.weights), *csr_arrays(samples.targets)],
        [samples.labels, samples.axis, samples.scale, samples.reach],
        None if residual is None else [vars(residual.rows), residual.coefficients],
    )


def learn_residual(grid, samples, rank, *, n_jobs, verbose):
    """Learn a ResidualBasis of the line model, of `rank` components.

    "auto" takes the number that predicts held-out nodes (`samples`) best.
    """
    windows = grid.windows(narrow=True)
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


def _enough_factors(scores, samples, extent):
    """Number of factors; `scores` (n_nodes, n) are in flux times the root of angstroms, as is the root of `extent`."""
    rank = choose_rank(scores, samples, slack=_SLACK)
    left_out = np.sqrt(np.cumsum((scores**2).mean(axis=0)[::-1])[::-1] / extent)
    return rank if left_out[rank:].max(initial=0.0) < _MISSED else int(np.count_nonzero(left_out > _LEFT_OUT))


def _at_most(rank, scores):
    return min(rank, scores.shape[1])


def _gram(grid, pixels):
    rows = grid.residual(pixels)
    rows -= rows.mean(axis=0)
    return rows @ rows.T


def _encode(grid, project, pixels):
    rows = grid.residual(pixels)
    mean = rows.mean(axis=0)
    rows -= mean
    return CodedRows.encode(np.vstack([mean, project[1:] @ rows]), TOLERANCE)
