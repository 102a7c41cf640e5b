"""DecomposedGrid: the fitted lines of all nodes of a grid, and generators trained on all or some of the nodes."""

from contextlib import contextmanager
from copy import copy
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.utils.validation import FLOAT_DTYPES, check_array

from stellarhml._grid_faults import check_grid_spectra, check_nodes_given_twice
from stellarhml._validation import check_label_names, check_wavelength
from stellarhml.lines._voigt_line_decomposer import VoigtLineDecomposer
from stellarhml.manifold._line_manifold_interpolator import LineManifoldInterpolator
from stellarhml.manifold.breaks import find_breaks
from stellarhml.storage.result_store import ResultStore, digest
from stellarhml.storage.row_files import is_mapped, release, write_rows
from stellarhml.storage.working_folders import scratch_folder
from stellarhml.synthesis.flux_level import FluxLevel, sample_pixels
from stellarhml.synthesis.grid_faults import warn_of_equal_spectra, warn_of_misplaced_spectra
from stellarhml.synthesis.grid_learning import learn_from_grid

_IN_MEMORY = 1 << 29
"""Bytes: larger tables of normalised spectra go to a temporary file, as do those of memory-mapped spectra."""

_AT_ONCE = 1 << 24
"""Bytes of spectra that are normalised at once for that file."""


class FittedParts(NamedTuple):
    """Parts of a fitted generator: its fitted steps, lines, residuals of the line model, and error over the grid.

    `preprocessor`, `residual`, `error_map` and `level` (FluxLevel) may be None; `grid_id` is the hash of the grid, or
    None.
    """

    label_names: tuple
    preprocessor: object
    decomposer: object
    interpolator: object
    lines: object
    residual: object = None
    error_map: object = None
    grid_id: str | None = None
    level: object = None


class DecomposedGrid(NamedTuple):
    """A grid with fitted lines, for cross-validation over nodes.

    A generator without the held-out nodes does not fit the lines again: it learns everything that it interpolates
    (lines, factors, residuals) and its error from the other nodes. The line catalogue, the prior of the line fits and
    the continuum pixels still come from all nodes.

    `generator` has the parameters to use and need not be fitted; `preprocessor` (or None) and `decomposer` are fitted
    to all nodes. `labels` (n_spectra, n_labels); raw `flux` (n_spectra, n_pixels) and `normalised`
    (n_spectra, n_pixels_out) may be memory maps; `theta`, csr_matrix or ndarray (n_spectra, n_parameters * n_lines),
    are the line parameters.
    """

    generator: object
    label_names: tuple
    preprocessor: object
    decomposer: object
    labels: np.ndarray
    flux: np.ndarray
    normalised: np.ndarray
    theta: object

    def learn(self):
        """FittedParts of all nodes; GridIncompleteError if the interpolator needs a full grid and nodes are missing."""
        generator, decomposer, names = self.generator, self.decomposer, self.label_names
        interpolator = fit_interpolator(
            generator.interpolator, self.labels, self.theta, decomposer.line_parameters, names, self.normalised
        )
        for table in (self.theta.data, self.theta.indices) if sparse.issparse(self.theta) else ():
            release(table)  # the interpolator has its own
        learnt = learn_from_grid(
            interpolator,
            self.labels,
            self.normalised,
            decomposer.wavelength_,
            {"profile": decomposer.profile, "wing_cut": decomposer.wing_cut},
            n_factors=generator.n_factors,
            residual_rank=generator.residual_rank,
            store=_store(decomposer),
            n_jobs=decomposer.n_jobs,
            verbose=decomposer.verbose,
        )
        grid_id = digest(self.labels, decomposer.wavelength_, [digest(row) for row in self.flux])
        return FittedParts(names, self.preprocessor, decomposer, *learnt, grid_id, self._level())

    def _level(self):
        """FluxLevel of the nodes; None if the flux was normalised before, or its level is not smooth."""
        if self.preprocessor is None:
            return None
        pixels = getattr(self.preprocessor, "pixels_", slice(None))
        teff = self.labels[:, self.label_names.index("teff")] if "teff" in self.label_names else None
        wavelength = self.decomposer.wavelength_
        chosen = sample_pixels(len(wavelength))
        rows = ((raw[pixels][chosen], flat[chosen]) for raw, flat in zip(self.flux, self.normalised, strict=True))
        return FluxLevel.learn(rows, wavelength, teff)

    def fit(self, rows, *, verbose=False):
        """Train a SpectrumGenerator on some `rows` of the grid; with all rows it is that of `SpectrumGenerator.fit`.

        GridIncompleteError if the interpolator needs a full grid and nodes are missing.
        """
        tables = {name: getattr(self, name)[rows] for name in ("labels", "flux", "normalised", "theta")}
        some = self._replace(decomposer=copy(self.decomposer).set_params(verbose=verbose), **tables)
        parameters = clone(self.generator).get_params(deep=False)
        return type(self.generator).from_parts(some.learn(), **parameters)


@contextmanager
def decompose_grid(generator, labels, flux):
    """Fit the lines of all nodes of a grid; yields a DecomposedGrid.

    `generator` has the parameters to use and need not be fitted. `labels` (n_spectra, n_labels); `flux`
    (n_spectra, n_pixels), raw if it has a preprocessor, else normalised. Large tables of normalised fluxes are in a
    temporary file, which is removed at the end.

    ValueError if a node has two different spectra, or a spectrum has a stretch without light or is not normalised;
    GridWarning if spectra seem to belong to other nodes.
    """
    labels, flux = check_array(labels, dtype=np.float64), check_array(flux, dtype=FLOAT_DTYPES)
    names = check_label_names(generator.label_names, labels.shape[1])
    check_nodes_given_twice(labels, flux, names)
    alike = warn_of_equal_spectra(labels, flux, names)
    teff = labels[:, names.index("teff")] if "teff" in names else None
    preprocessor, wavelength = None, generator.wavelength
    if generator.preprocessor is not None:
        preprocessor = _with_defaults(clone(generator.preprocessor), wavelength=wavelength)
        preprocessor.fit(flux, teff=teff)
        # without wavelengths the preprocessor's output is a pixel index, which is not passed on as wavelengths
        wavelength = None if preprocessor.wavelength is None else preprocessor.wavelength_out_
        check_grid_spectra(flux, wavelength, normalised=False, nodes=(labels, names), pixels=preprocessor.pixels_)
    else:
        axis = None if wavelength is None else check_wavelength(wavelength, n_pixels=flux.shape[1])
        check_grid_spectra(flux, axis, normalised=True, nodes=(labels, names))
    decomposer = VoigtLineDecomposer() if generator.decomposer is None else clone(generator.decomposer)
    _with_defaults(decomposer, wavelength=wavelength, n_jobs=generator.n_jobs, verbose=generator.verbose)
    store = _store(decomposer)
    with normalised_rows(preprocessor, flux, teff, None if store is None else store.folder) as normalised:
        release(flux)
        if preprocessor is not None:
            check_grid_spectra(
                normalised, wavelength, normalised=True, nodes=(labels, names), preprocessor=preprocessor
            )
        warn_of_misplaced_spectra(labels, normalised, names, alike)
        theta = decomposer.fit_transform(normalised, labels)
        yield DecomposedGrid(generator, names, preprocessor, decomposer, labels, flux, normalised, theta)


def fit_interpolator(interpolator, labels, theta, parameters, label_names, flux=None):
    """Clone an interpolator (None: default parameters) and fit it to the lines of a grid.

    `theta`, csr_matrix or ndarray (n_rows, n_parameters * n_lines), NaN in a dense array where a line is absent;
    `flux`, normalised (n_rows, n_pixels), in which to find jumps of the grid, and which a regression is to predict.
    """
    interpolator = LineManifoldInterpolator() if interpolator is None else clone(interpolator)
    interpolator.set_params(parameters=parameters, label_names=label_names)
    if flux is not None and interpolator.breaks is None and interpolator.method == "auto":
        interpolator.set_params(breaks=find_breaks(labels, flux, label_names))
    return interpolator.fit(labels, theta if sparse.issparse(theta) else _as_sparse(theta), flux=flux)


@contextmanager
def normalised_rows(preprocessor, flux, teff, folder=None):
    """Normalise the spectra of a grid; yields them, shape (n_spectra, n_pixels_out).

    `flux` is raw (n_spectra, n_pixels); without a `preprocessor` it is already normalised. `teff` (n_spectra,) [K] or
    None. If `flux` is a memory map, or large, the result is one too, of a temporary file in `folder` (None: that of the
    system).
    """
    if preprocessor is None:
        yield flux
        return
    if flux.nbytes <= _IN_MEMORY and not is_mapped(flux):
        yield preprocessor.transform(flux, teff=teff)
        return
    with scratch_folder(folder) as scratch:
        path = scratch / "normalised.npy"
        shape = len(flux), len(preprocessor.wavelength_out_)
        write_rows(path, _transformed(preprocessor, flux, teff), shape, flux.dtype)
        table = np.load(path, mmap_mode="r")
        yield table
        del table  # an open map would keep the file from being removed on some systems


def _transformed(preprocessor, flux, teff):
    """Normalise a few spectra at a time; yields arrays of shape (n, n_pixels_out)."""
    step = max(_AT_ONCE // max(flux[:1].nbytes, 1), 1)
    for first in range(0, len(flux), step):
        rows = slice(first, first + step)
        yield preprocessor.transform(flux[rows], teff=None if teff is None else teff[rows])


def _store(decomposer):
    """Store of a decomposer, or None."""
    folder = getattr(decomposer, "store", None)
    return None if folder is None else ResultStore(folder)


def _as_sparse(theta):
    """Dense line parameters, NaN where a line is absent, as a sparse matrix."""
    row, column = np.nonzero(~np.isnan(theta))
    return sparse.csr_matrix((theta[row, column], (row, column)), shape=theta.shape)


def _with_defaults(estimator, **defaults):
    """Set parameters that are None."""
    current = estimator.get_params(deep=False)
    return estimator.set_params(**{k: v for k, v in defaults.items() if k in current and current[k] is None})
