"""Decomposition of spectra into lines: fits of one or many spectra, with flags, and tables of line parameters.

Column ``n_parameters * i + j`` is parameter j of catalogue line i. In a scipy CSR matrix a line is present where
its block has stored entries; in a dense array it is absent where its center is NaN.
"""

import warnings
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from stellarhml._parallel import map_stored
from stellarhml.exceptions import LineDetectionWarning
from stellarhml.flags import LineFlag, SpectrumFlag, name_flags
from stellarhml.kernels.line_profiles import get_profile
from stellarhml.kernels.rendering import line_depths, render_lines
from stellarhml.kernels.second_order import fit_lines
from stellarhml.lines.catalog import (
    Detections,
    LineCatalog,
    detect_lines,
    match_to_catalog,
    refine_minima,
    wide_lines,
)
from stellarhml.lines.prior import LinePrior, blase_start, first_guess
from stellarhml.storage.result_store import digest
from stellarhml.storage.row_files import GrowingArray, is_mapped

FIT_VERSION = 4
"""Version of the fit, to be increased when results change: stored fits of older versions are then not reused."""

N_WINDOWS = 20
"""Windows of equally many pixels in which the RMS of the residuals is reported."""

ABSENT_DEPTH = 1e-4  # of the continuum; a hundredth of the residual RMS of the SME grid
NOISE, WIDE_NOISE = 0.01, 0.005
"""Standard deviations of the flux: the usual one, and that of grids with wide lines, which a closer fit keeps apart."""

FIRST_NOISE = 10.0  # factor on the noise before a prior is learnt, so that lines of a blend do not drift apart
_SATURATED = 0.9  # share of the limiting depth


@dataclass(frozen=True)
class FitSettings:
    """All settings that a fit of a spectrum depends on; ValueError if `loss_margin` leaves no pixel.

    Fields without a comment are parameters of the `VoigtLineDecomposer`.
    """

    wavelength: np.ndarray  # (n_pixels,), in angstrom
    scale: np.ndarray  # (n_pixels,), see `stellarhml.lines.catalog.velocity_scale`
    prominence: float
    distance: int
    profile: str
    solver: str
    wing_cut: int | None
    line_margin: float
    loss_margin: float
    n_lines: int | None
    match_tolerance: float
    fit_undetected: bool
    learning_rate: float
    noise: float | None
    max_iter: int
    tol: float
    backend: str
    catalog: LineCatalog | None = None  # lines of the grid; None while they are being detected
    prior: LinePrior | None = None  # predicts line parameters, where one was learnt
    typical_rms: float = np.inf  # median RMS of residuals of the training spectra, if these were fitted

    def __post_init__(self):
        pixels = self.loss_pixels
        if pixels.stop <= pixels.start:
            raise ValueError(
                f"`loss_margin`={self.loss_margin} at either end leaves nothing of the spectra, which cover "
                f"{self.wavelength[0]:.2f} to {self.wavelength[-1]:.2f} angstrom. Lower it."
            )

    @property
    def loss_pixels(self):
        """Pixels of the loss, as a slice."""
        ends = self.wavelength[0] + self.loss_margin, self.wavelength[-1] - self.loss_margin
        first, last = np.searchsorted(self.wavelength, ends[0]), np.searchsorted(self.wavelength, ends[1], side="right")
        return slice(int(first), int(last))

    @property
    def fit_noise(self):
        """Standard deviation of the flux in a fit."""
        if self.noise is not None:
            return self.noise
        return WIDE_NOISE if self.wide_lines.any() else NOISE

    @property
    def has_wavelengths(self):
        """Whether wavelengths are in angstrom, and not the pixel index."""
        return bool(self.scale[0])

    @property
    def wide_lines(self):
        """Lines of the catalogue as wide as those of hydrogen, (n_catalog_lines,), bool."""
        widths = self.catalog.widths
        if not (self.has_wavelengths and len(widths)):
            return np.zeros(len(widths), dtype=bool)
        return wide_lines(self.wavelength[self.catalog.pixels], widths, np.median(widths))

    @property
    def line_parameters(self):
        """Names of the parameters of a line."""
        return get_profile(self.profile).parameters

    def replace(self, **changes):
        """Copy the settings with changes."""
        return replace(self, **changes)

    def render(self, theta):
        """Product of lines on all pixels, shape (n_pixels,)."""
        return render_lines(self.wavelength, theta, profile=self.profile, wing_cut=self.wing_cut)

    def digest(self, task):
        """Hash of the settings and of the task, hexadecimal digits."""
        values = dict(vars(self))
        catalog, prior = values.pop("catalog"), values.pop("prior")
        return digest(task, FIT_VERSION, values, list(catalog), None if prior is None else list(prior))


class RowFit(NamedTuple):
    """Lines of one spectrum."""

    lines: np.ndarray  # catalogue indices, increasing, (n_lines,), int64
    theta: np.ndarray  # parameters, (n_lines, n_parameters), float64
    line_flags: np.ndarray  # `flags.LineFlag` of all lines of the catalogue, (n_catalog_lines,), uint8
    flag: int  # `flags.SpectrumFlag`
    n_iter: int  # steps taken
    square: np.ndarray  # mean squared residual in each window, (n_windows,)


def pack(fit):
    """Convert a RowFit to arrays for a store."""
    return {name: np.asarray(value) for name, value in fit._asdict().items()}


def unpack(arrays):
    """Convert arrays of `pack` to a RowFit."""
    return RowFit(**{**arrays, "flag": int(arrays["flag"]), "n_iter": int(arrays["n_iter"])})


def decompose_row(settings, row):
    """Fit the lines of one spectrum `row` (n_pixels,), with the catalogue of the settings."""
    flux = np.asarray(row, dtype=np.float64)
    lines, theta, line_flags, flag, n_iter = _fit(settings, flux)
    # the paper keeps all detected lines
    absent = line_depths(theta, settings.profile) < (ABSENT_DEPTH if settings.solver == "lm" else 0)
    lines, theta = lines[~absent], theta[~absent]
    gone = np.setdiff1d(np.arange(len(line_flags)), lines)
    # lines left out keep only the flag ADDED, whether they were fitted or not
    line_flags[gone] = line_flags[gone] & np.uint8(LineFlag.ADDED) | np.uint8(LineFlag.ABSENT)
    model = settings.render(theta)
    edges = _window_pixels(settings)
    square = np.array([np.mean((model - flux)[a:b] ** 2) for a, b in pairwise(edges)])
    if not len(lines):
        flag |= SpectrumFlag.NO_LINES
    if np.sqrt(np.average(square, weights=np.diff(edges))) > 3 * settings.typical_rms:
        flag |= SpectrumFlag.POOR_FIT
    return RowFit(lines, theta, line_flags, int(flag), n_iter, square)


def fit_and_search(settings, item):
    """Fit one spectrum of the training set with all lines, and detect lines in its residuals.

    `item` is (flux,) or (flux, lines, centers), with first guesses of centers: catalogue indices and wavelengths
    [angstrom]. Returns the parameters (n_catalog_lines, n_parameters), the Detections in the residuals, and their RMS.
    """
    flux = np.asarray(item[0], dtype=np.float64)
    start = first_guess(settings, flux)
    if len(item) > 1:
        start.theta[item[1], 0] = item[2]
    theta, _, _ = _solve(settings, flux, start, noise=settings.fit_noise * (1 if settings.prior else FIRST_NOISE))
    residual = flux - settings.render(theta)
    rms = float(np.sqrt(np.mean(residual[settings.loss_pixels] ** 2)))
    return theta, find_minima(settings, 1 + residual), rms


def window_edges(settings):
    """Edges [angstrom] of the windows of `RowFit.square`, and numbers of pixels in them.

    The edges (n_windows + 1,) are the first wavelength of each window, and the last of all.
    """
    edges = _window_pixels(settings)
    return settings.wavelength[np.minimum(edges, settings.wavelength.size - 1)], np.diff(edges)


def find_minima(settings, flux):
    """Detect the lines of one spectrum `flux` (n_pixels,), with positions to a fraction of a pixel."""
    flux = np.asarray(flux, dtype=np.float64)
    pixels, prominences, widths = detect_lines(
        settings.wavelength,
        flux,
        prominence=settings.prominence,
        distance=settings.distance,
        edge=settings.line_margin,
        n_lines=settings.n_lines,
    )
    return Detections(pixels, refine_minima(settings.scale, flux, pixels), prominences, widths)


def _fit(settings, flux):
    """Lines, parameters, flags of all catalogue lines, flag of the spectrum, and number of steps."""
    line_flags = np.where(settings.catalog.added, np.uint8(LineFlag.ADDED), np.uint8(0))
    if settings.backend == "blase":
        from stellarhml.lines.blase_backend import fit_with_blase

        pixels, theta = fit_with_blase(settings, flux)
        lines = _match(settings, settings.scale[pixels])
        return lines[lines >= 0], theta[lines >= 0], line_flags, 0, settings.max_iter
    found = find_minima(settings, flux)
    matched = _match(settings, found.positions if settings.match_tolerance else settings.scale[found.pixels])
    known = matched >= 0
    if settings.solver == "adam":
        lines, theta = _fit_adam(settings, flux, matched[known], Detections(*(part[known] for part in found)))
        flag, n_iter = 0, settings.max_iter
    else:
        start = first_guess(settings, flux)
        # lines that are predicted to be too weak to show are left out of the fit
        lines = np.flatnonzero(line_depths(start.theta, settings.profile) >= 0.5 * ABSENT_DEPTH)
        if not settings.fit_undetected:
            lines = np.intersect1d(lines, matched)
        start = type(start)(*(part[lines] for part in start))
        theta, n_iter, converged = _solve(settings, flux, start)
        flag = 0 if converged else SpectrumFlag.NOT_CONVERGED
        line_flags[lines[np.any(np.abs(theta - start.theta) >= start.reach * (1 - 1e-9), axis=1)]] |= np.uint8(
            LineFlag.AT_BOUND
        )
        if settings.fit_undetected and settings.match_tolerance > 0 and len(lines):
            # match to the fitted centers, which may be farther from the catalogue than the tolerance
            places = np.interp(theta[:, 0], settings.wavelength, settings.scale)
            order = np.argsort(places, kind="stable")
            near = match_to_catalog(found.positions, places[order], tolerance=settings.match_tolerance)
            matched = lines[order[near[near >= 0]]]
    undetected = np.setdiff1d(lines, matched)
    line_flags[undetected] |= np.uint8(LineFlag.UNDETECTED)
    _flag_shapes(settings, lines, theta, line_flags)
    return lines, theta, line_flags, flag, n_iter


def _flag_shapes(settings, lines, theta, line_flags):
    """Flag saturated lines and lines at the ends of the spectrum."""
    parameters = settings.line_parameters
    if "logit_depth" in parameters:
        limit = 1 / (1 + np.exp(-theta[:, parameters.index("logit_depth")]))
        line_flags[lines[line_depths(theta, settings.profile) > _SATURATED * limit]] |= np.uint8(LineFlag.SATURATED)
    ends = settings.wavelength[[settings.loss_pixels.start, settings.loss_pixels.stop - 1]]
    room = np.minimum(theta[:, 0] - ends[0], ends[1] - theta[:, 0])
    line_flags[lines[room < settings.catalog.widths[lines]]] |= np.uint8(LineFlag.AT_EDGE)


def _fit_adam(settings, flux, lines, found):
    """The paper's training."""
    pixels, prominences, widths = found.pixels, found.prominences, found.widths
    if settings.fit_undetected:
        everything = np.arange(len(settings.catalog.pixels))
        all_pixels, all_widths = settings.catalog.pixels.copy(), settings.catalog.widths.copy()
        # undetected lines start weak
        all_prominences = np.full(len(everything), 0.1 * settings.prominence)
        all_pixels[lines], all_prominences[lines], all_widths[lines] = pixels, prominences, widths
        lines, pixels, prominences, widths = everything, all_pixels, all_prominences, all_widths
    theta = blase_start(settings.wavelength[pixels], prominences, widths, settings.line_parameters)
    # detections and their lines may be in different order
    order = np.argsort(lines, kind="stable")
    lines, theta = lines[order], theta[order]
    if len(lines):
        from stellarhml.kernels.training import train_adam  # which imports torch

        theta = train_adam(
            settings.wavelength,
            flux,
            theta,
            profile=settings.profile,
            wing_cut=settings.wing_cut,
            pixels=settings.loss_pixels,
            learning_rate=settings.learning_rate,
            max_iter=settings.max_iter,
        )
    return lines, theta


def _solve(settings, flux, start, noise=None):
    """Levenberg-Marquardt."""
    if not len(start.theta):
        return start.theta, 0, True
    return fit_lines(
        settings.wavelength,
        flux,
        start,
        profile=settings.profile,
        wing_cut=settings.wing_cut,
        pixels=settings.loss_pixels,
        noise=noise or settings.fit_noise,
        max_iter=settings.max_iter,
        tol=settings.tol,
    )


def _window_pixels(settings):
    """First pixel of each window, and one past the last; windows have equally many pixels, to within one."""
    first, last = settings.loss_pixels.start, settings.loss_pixels.stop
    return np.linspace(first, last, min(N_WINDOWS, last - first) + 1).round().astype(np.int64)


def _match(settings, positions):
    return match_to_catalog(positions, settings.scale[settings.catalog.pixels], tolerance=settings.match_tolerance)


class Decomposition:
    """Result of `VoigtLineDecomposer.decompose`.

    Attributes
    ----------
    theta : csr_matrix of shape (n_spectra, n_parameters * n_catalog_lines)
        Line parameters, as `VoigtLineDecomposer.transform` returns them.
    line_flags : ndarray of shape (n_spectra, n_catalog_lines), uint8
        Flags of each line in each spectrum, see :class:`stellarhml.flags.LineFlag`.
    flags : ndarray of shape (n_spectra,), uint8
        Flags of each spectrum, see :class:`stellarhml.flags.SpectrumFlag`.
    n_iter : ndarray of shape (n_spectra,), int64
        Steps of the fit.
    windows : ndarray of shape (n_windows + 1,)
        Edges of the windows, in angstrom.
    window_rms : ndarray of shape (n_spectra, n_windows)
        Residual RMS in each window.
    rms : ndarray of shape (n_spectra,)
        Residual RMS over all windows.
    """

    def __init__(self, theta, line_flags, flags, n_iter, windows, window_rms, rms):
        self.theta, self.line_flags, self.flags = theta, line_flags, flags
        self.n_iter, self.windows, self.window_rms, self.rms = n_iter, windows, window_rms, rms

    def to_frame(self):
        """Tabulate the spectra.

        Returns
        -------
        table : DataFrame
            One row per spectrum: `rms`, `worst_window` (the largest of `window_rms`), `n_lines`, `n_iter`, and `flags`
            in words.
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
    """Fit lines to spectra (n_spectra, n_pixels), see `VoigtLineDecomposer.decompose`; a `store` keeps the fits."""
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
        spectra=range(len(X)),
    )
    kept = []  # of each fit all but its lines, which are in memory once, or on the disk like the spectra

    def lines_of_fits():
        for fit in fits:
            kept.append(fit._replace(lines=None, theta=None))
            yield fit.lines, fit.theta

    on_disk = {"on_disk": is_mapped(X), "folder": None if store is None else store.folder}
    theta = rows_to_csr(lines_of_fits(), len(settings.catalog.pixels), len(settings.line_parameters), **on_disk)
    flags = np.array([fit.flag for fit in kept], dtype=np.uint8)
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
    windows, n_pixels = window_edges(settings)
    square = np.stack([fit.square for fit in kept])
    return Decomposition(
        theta,
        np.stack([fit.line_flags for fit in kept]),
        flags,
        np.array([fit.n_iter for fit in kept]),
        windows,
        np.sqrt(square),
        np.sqrt(np.average(square, axis=1, weights=n_pixels)),
    )


def render_rows(table, wavelength, n_lines, *, profile, wing_cut):
    """Render line parameters to flux (n_spectra, n_pixels), see `VoigtLineDecomposer.inverse_transform`.

    `table` is a csr_matrix or ndarray of shape (n_spectra, n_parameters * n_lines).
    """
    n_parameters = len(get_profile(profile).parameters)
    if table.shape[1] != n_lines * n_parameters:
        raise ValueError(
            f"X has {table.shape[1]} columns, but {n_lines} lines of {n_parameters} parameters need "
            f"{n_lines * n_parameters}. Pass the result of `transform` of this decomposer."
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


def rows_to_csr(rows, n_lines, n_parameters, *, on_disk=False, folder=None):
    """Stack the lines of spectra into a CSR matrix (n_spectra, n_parameters * n_lines), zeros stored explicitly.

    `rows`, an iterable, has increasing catalogue indices (k,) and parameters (k, n_parameters) of each spectrum. With
    `on_disk` they lie in a memory map of a temporary file in `folder`.
    """
    indptr, place = [0], {"on_disk": on_disk, "folder": folder}
    with GrowingArray(np.int32, **place) as indices, GrowingArray(np.float64, **place) as data:
        for lines, theta in rows:
            indices.extend((lines[:, None] * n_parameters + np.arange(n_parameters)).ravel())
            data.extend(theta.ravel())
            indptr.append(indptr[-1] + theta.size)
        shape = len(indptr) - 1, n_parameters * n_lines
        return sparse.csr_matrix((data.finish(), indices.finish(), np.array(indptr, np.int64)), shape=shape)


def csr_row(table, i, n_parameters):
    """Catalogue indices (k,), int64, and parameters (k, n_parameters) of the lines in row i of a CSR matrix.

    Entries of a block that are not stored are 0.
    """
    span = slice(table.indptr[i], table.indptr[i + 1])
    columns, values = table.indices[span], table.data[span]
    lines, position = np.unique(columns // n_parameters, return_inverse=True)
    theta = np.zeros((len(lines), n_parameters))
    theta[position, columns % n_parameters] = values
    return lines.astype(np.int64), theta


def dense_row(row, n_parameters):
    """Lines of one row (n_parameters * n_lines,) of a dense table, NaN where a line is absent, as from `csr_row`."""
    theta = row.reshape(-1, n_parameters)
    present = np.isfinite(theta).all(axis=1)
    return np.flatnonzero(present), np.asarray(theta[present], dtype=np.float64)
