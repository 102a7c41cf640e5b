"""Decomposition: lines of many spectra, and how far they can be trusted; how it is made, and rendered again."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from stellarhml._parallel import map_stored
from stellarhml.exceptions import LineDetectionWarning
from stellarhml.flags import SpectrumFlag, name_flags
from stellarhml.lines.catalog_learning import light_copy
from stellarhml.lines.line_fitting import decompose_row, pack, unpack, window_edges
from stellarhml.lines.settings import settings_digest
from stellarhml.lines.table import csr_row, dense_row, rows_to_csr
from stellarhml.storage.result_store import ResultStore


class Decomposition:
    """What `VoigtLineDecomposer.decompose` returns.

    Attributes
    ----------
    theta : csr_matrix of shape (n_spectra, n_parameters * n_catalog_lines)
        Line parameters, as `VoigtLineDecomposer.transform` gives them.
    line_flags : ndarray of shape (n_spectra, n_catalog_lines), uint8
        Flags of each line in each spectrum, see :class:`stellarhml.flags.LineFlag`.
    flags : ndarray of shape (n_spectra,), uint8
        Flags of each spectrum, see :class:`stellarhml.flags.SpectrumFlag`.
    n_iter : ndarray of shape (n_spectra,), int64
        Steps of the fit.
    windows : ndarray of shape (n_windows + 1,)
        Wavelengths between which the errors below are, in angstrom.
    window_rms : ndarray of shape (n_spectra, n_windows)
        Root mean square of clone minus flux in each window.
    rms : ndarray of shape (n_spectra,)
        Root mean square of clone minus flux in all windows together.
    """

    def __init__(self, theta, line_flags, flags, n_iter, windows, window_rms, rms):
        self.theta, self.line_flags, self.flags = theta, line_flags, flags
        self.n_iter, self.windows, self.window_rms, self.rms = n_iter, windows, window_rms, rms

    def to_frame(self):
        """Tabulate the spectra.

        Returns
        -------
        table : DataFrame
            One row a spectrum: `rms`, `worst_window` (the largest of `window_rms`), `n_lines`, `n_iter`, and `flags` in
            words.
        """
        n_parameters = self.theta.shape[1] // max(self.line_flags.shape[1], 1)
        return pd.DataFrame(
            {
                "rms": self.rms,
                "worst_window": self.window_rms.max(axis=1, initial=0.0),
                "n_lines": np.diff(self.theta.indptr) // max(n_parameters, 1),
                "n_iter": self.n_iter,
                "flags": [name_flags(int(flag), SpectrumFlag) for flag in self.flags],
            }
        )


def decompose_rows(decomposer, X):
    """Fit lines to spectra, see `VoigtLineDecomposer.decompose`.

    Parameters
    ----------
    decomposer : VoigtLineDecomposer
        Fitted.
    X : ndarray of shape (n_spectra, n_pixels)
        Normalised fluxes.

    Returns
    -------
    decomposition : Decomposition
        The lines.
    """
    fits = map_stored(
        partial(decompose_row, light_copy(decomposer)),
        X,
        store=None if decomposer.store is None else ResultStore(decomposer.store),
        settings=settings_digest(decomposer, "decompose"),
        pack=pack,
        unpack=unpack,
        n_jobs=decomposer.n_jobs,
        verbose=decomposer.verbose,
        description="Decomposing spectra",
    )
    fits = list(fits)
    flags = np.array([fit.flag for fit in fits], dtype=np.uint8)
    n_unfinished = np.count_nonzero(flags & SpectrumFlag.NOT_CONVERGED)
    if n_unfinished:
        warnings.warn(
            f"{n_unfinished} of {len(X)} spectra did not converge in max_iter={decomposer.max_iter} steps; `decompose` "
            "flags them NOT_CONVERGED. Increase max_iter, or check that the fluxes are normalised.",
            ConvergenceWarning,
            stacklevel=4,
        )
    n_empty = np.count_nonzero(flags & SpectrumFlag.NO_LINES)
    if n_empty:
        warnings.warn(
            f"{n_empty} of {len(X)} spectra have no line of prominence {decomposer.prominence} that the catalogue "
            "knows; their rows are empty. Lower `prominence`, or check that the fluxes are normalised.",
            LineDetectionWarning,
            stacklevel=4,
        )
    rows = [(fit.lines, fit.theta) for fit in fits]
    windows, n_pixels = window_edges(decomposer)
    square = np.stack([fit.square for fit in fits])
    return Decomposition(
        rows_to_csr(rows, len(decomposer._catalog), len(decomposer.line_parameters)),
        np.stack([fit.line_flags for fit in fits]),
        flags,
        np.array([fit.n_iter for fit in fits]),
        windows,
        np.sqrt(square),
        np.sqrt(np.average(square, axis=1, weights=n_pixels)),
    )


def render_rows(decomposer, table):
    """Render line parameters, see `VoigtLineDecomposer.inverse_transform`.

    Parameters
    ----------
    decomposer : VoigtLineDecomposer
        Fitted.
    table : csr_matrix or ndarray of shape (n_spectra, n_parameters * n_catalog_lines)
        Line parameters.

    Returns
    -------
    flux : ndarray of shape (n_spectra, n_pixels)
        Normalised fluxes.
    """
    from stellarhml.kernels.rendering import render_lines

    n_lines, n_parameters = len(decomposer._catalog), len(decomposer.line_parameters)
    if table.shape[1] != n_lines * n_parameters:
        raise ValueError(
            f"X has {table.shape[1]} columns, but {n_lines} lines of {n_parameters} parameters take "
            f"{n_lines * n_parameters}. Pass what `transform` of this decomposer returns."
        )
    flux = np.empty((table.shape[0], decomposer.wavelength_.size), dtype=table.dtype)
    for i in range(table.shape[0]):
        if sparse.issparse(table):
            _, theta = csr_row(table, i, n_parameters)
        else:
            _, theta = dense_row(table[i], n_parameters)
        flux[i] = render_lines(decomposer.wavelength_, theta, profile=decomposer.profile, wing_cut=decomposer.wing_cut)
        # labels outside the grid: NaN in a sparse row, or a dense row that is NaN throughout
        if np.isnan(theta).any() or (not sparse.issparse(table) and table.shape[1] and np.isnan(table[i]).all()):
            flux[i] = np.nan
    return flux
