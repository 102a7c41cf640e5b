"""Decomposition: lines of many spectra with their flags; and line parameters as the rows of one matrix.

Column ``n_parameters * i + j`` is parameter j of catalogue line i. In a scipy CSR matrix a line is present where
its block has stored entries; in a dense array it is absent where its center is NaN.
"""

import warnings
from functools import partial

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from stellarhml._parallel import map_stored
from stellarhml.exceptions import LineDetectionWarning
from stellarhml.flags import SpectrumFlag, name_flags
from stellarhml.kernels.line_profiles import get_profile
from stellarhml.kernels.rendering import render_lines
from stellarhml.lines.line_fitting import decompose_row, pack, unpack, window_edges


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
        Edges of the windows, in angstrom.
    window_rms : ndarray of shape (n_spectra, n_windows)
        Root mean square of the residuals in each window.
    rms : ndarray of shape (n_spectra,)
        Root mean square of the residuals in all windows together.
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


def decompose_rows(X, settings, *, store, n_jobs, verbose):
    """Fit lines to spectra, see `VoigtLineDecomposer.decompose`.

    Parameters
    ----------
    X : ndarray of shape (n_spectra, n_pixels)
        Normalised fluxes.
    settings : FitSettings
        With a catalogue.
    store : ResultStore or None
        Keeps the fits.
    n_jobs, verbose : int, bool
        As in `stellarhml._parallel.map_stored`.

    Returns
    -------
    decomposition : Decomposition
        The lines.
    """
    fits = map_stored(
        partial(decompose_row, settings),
        X,
        store=store,
        settings=settings.digest("decompose"),
        pack=pack,
        unpack=unpack,
        n_jobs=n_jobs,
        verbose=verbose,
        description="Decomposing spectra",
    )
    fits = list(fits)
    flags = np.array([fit.flag for fit in fits], dtype=np.uint8)
    n_unfinished = np.count_nonzero(flags & SpectrumFlag.NOT_CONVERGED)
    if n_unfinished:
        warnings.warn(
            f"{n_unfinished} of {len(X)} spectra did not converge in max_iter={settings.max_iter} steps; `decompose` "
            "flags them NOT_CONVERGED. Increase max_iter, or check that the fluxes are normalised.",
            ConvergenceWarning,
            stacklevel=4,
        )
    n_empty = np.count_nonzero(flags & SpectrumFlag.NO_LINES)
    if n_empty:
        warnings.warn(
            f"{n_empty} of {len(X)} spectra have no line of the catalogue with prominence {settings.prominence}; their "
            "rows are empty. Lower `prominence`, or check that the fluxes are normalised.",
            LineDetectionWarning,
            stacklevel=4,
        )
    rows = [(fit.lines, fit.theta) for fit in fits]
    windows, n_pixels = window_edges(settings)
    square = np.stack([fit.square for fit in fits])
    return Decomposition(
        rows_to_csr(rows, len(settings.catalog.pixels), len(settings.line_parameters)),
        np.stack([fit.line_flags for fit in fits]),
        flags,
        np.array([fit.n_iter for fit in fits]),
        windows,
        np.sqrt(square),
        np.sqrt(np.average(square, axis=1, weights=n_pixels)),
    )


def render_rows(table, wavelength, n_lines, *, profile, wing_cut):
    """Render line parameters, see `VoigtLineDecomposer.inverse_transform`.

    Parameters
    ----------
    table : csr_matrix or ndarray of shape (n_spectra, n_parameters * n_lines)
        Line parameters.
    wavelength : ndarray of shape (n_pixels,)
        Wavelengths in angstrom.
    n_lines : int
        Length of the catalogue.
    profile, wing_cut : str, int or None
        Parameters of the `VoigtLineDecomposer`.

    Returns
    -------
    flux : ndarray of shape (n_spectra, n_pixels)
        Normalised fluxes.
    """
    n_parameters = len(get_profile(profile).parameters)
    if table.shape[1] != n_lines * n_parameters:
        raise ValueError(
            f"X has {table.shape[1]} columns, but {n_lines} lines of {n_parameters} parameters take "
            f"{n_lines * n_parameters}. Pass what `transform` of this decomposer returns."
        )
    flux = np.empty((table.shape[0], wavelength.size), dtype=table.dtype)
    for i in range(table.shape[0]):
        if sparse.issparse(table):
            _, theta = csr_row(table, i, n_parameters)
        else:
            _, theta = dense_row(table[i], n_parameters)
        flux[i] = render_lines(wavelength, theta, profile=profile, wing_cut=wing_cut)
        # labels outside the grid: NaN in a sparse row, or a dense row that is NaN throughout
        if np.isnan(theta).any() or (not sparse.issparse(table) and table.shape[1] and np.isnan(table[i]).all()):
            flux[i] = np.nan
    return flux


def rows_to_csr(rows, n_lines, n_parameters):
    """Stack per-spectrum lines into a CSR matrix.

    Parameters
    ----------
    rows : list of (lines, theta)
        Increasing catalogue indices, shape (k,), and parameters, shape (k, n_parameters), of each spectrum.
    n_lines : int
        Length of the catalogue.
    n_parameters : int
        Parameters of a line.

    Returns
    -------
    table : csr_matrix of shape (n_spectra, n_parameters * n_lines), float64
        All parameters, zeros stored explicitly.
    """
    columns = [(lines[:, None] * n_parameters + np.arange(n_parameters)).ravel() for lines, _ in rows]
    indptr = np.concatenate([[0], np.cumsum([len(c) for c in columns])]).astype(np.int64)
    data = np.concatenate([theta.ravel() for _, theta in rows]) if rows else np.empty(0)
    indices = np.concatenate(columns) if rows else np.empty(0, np.int64)
    return sparse.csr_matrix((data, indices, indptr), shape=(len(rows), n_parameters * n_lines))


def csr_row(table, i, n_parameters):
    """Lines of one row of a CSR matrix.

    Parameters
    ----------
    table : csr_matrix of shape (n_spectra, n_parameters * n_lines)
        Line parameters.
    i : int
        Row.
    n_parameters : int
        Parameters of a line.

    Returns
    -------
    lines : ndarray of shape (k,), int64
        Catalogue indices of the lines present.
    theta : ndarray of shape (k, n_parameters)
        Their parameters; entries of a block that are not stored are 0.
    """
    span = slice(table.indptr[i], table.indptr[i + 1])
    columns, values = table.indices[span], table.data[span]
    lines, position = np.unique(columns // n_parameters, return_inverse=True)
    theta = np.zeros((len(lines), n_parameters))
    theta[position, columns % n_parameters] = values
    return lines.astype(np.int64), theta


def dense_row(row, n_parameters):
    """Lines of one row of a dense table.

    Parameters
    ----------
    row : ndarray of shape (n_parameters * n_lines,)
        Line parameters, NaN where a line is absent.
    n_parameters : int
        Parameters of a line.

    Returns
    -------
    lines, theta : ndarray
        As in `csr_row`.
    """
    theta = row.reshape(-1, n_parameters)
    present = np.isfinite(theta).all(axis=1)
    return np.flatnonzero(present), np.asarray(theta[present], dtype=np.float64)
