"""One spectrum to lines: the paper's training, the second-order fit, or gully/blase itself; and what it missed."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from stellarhml.flags import LineFlag, SpectrumFlag
from stellarhml.kernels.rendering import line_depths, render_lines
from stellarhml.kernels.second_order import fit_lines
from stellarhml.lines.catalog import Detections, match_to_catalog
from stellarhml.lines.start import blase_start, learnt_start
from stellarhml.lines.tracking import refine_minima

FIT_VERSION = 4
"""Raise it when results change: what a store keeps of older versions is then no longer found."""

N_WINDOWS = 20
"""Windows of equally many pixels in which the error of a clone is told."""

ABSENT_DEPTH = 1e-4  # of the continuum; a hundredth of what the clones of the SME grid are off by
FIRST_NOISE = 10.0  # times `noise`, before anything is learnt: lines that share a blend must not run apart
_SATURATED = 0.9  # share of the limiting depth


class RowFit(NamedTuple):
    """Lines of one spectrum."""

    lines: np.ndarray
    """Catalogue indices, increasing, shape (n_lines,), int64."""
    theta: np.ndarray
    """Parameters, shape (n_lines, n_parameters), float64."""
    line_flags: np.ndarray
    """Flags of all lines of the catalogue, shape (n_catalog_lines,), uint8: see `flags.LineFlag`."""
    flag: int
    """Flags of the spectrum, see `flags.SpectrumFlag`."""
    n_iter: int
    """Steps taken."""
    square: np.ndarray
    """Mean squared difference of clone and flux in each window, shape (n_windows,)."""


def pack(fit):
    """Turn a RowFit into arrays, as a store keeps them."""
    return {name: np.asarray(value) for name, value in fit._asdict().items()}


def unpack(arrays):
    """Turn arrays that `pack` made into a RowFit."""
    return RowFit(**{**arrays, "flag": int(arrays["flag"]), "n_iter": int(arrays["n_iter"])})


def decompose_row(decomposer, row):
    """Fit the lines of one spectrum.

    Parameters
    ----------
    decomposer : VoigtLineDecomposer
        With its catalogue.
    row : ndarray of shape (n_pixels,)
        Normalised flux.

    Returns
    -------
    fit : RowFit
        The lines that the spectrum has.
    """
    flux = np.asarray(row, dtype=np.float64)
    lines, theta, line_flags, flag, n_iter = _fit(decomposer, flux)
    # the paper keeps whatever it has detected
    absent = line_depths(theta, decomposer.profile) < (ABSENT_DEPTH if decomposer.solver == "lm" else 0)
    lines, theta = lines[~absent], theta[~absent]
    gone = np.setdiff1d(np.arange(len(line_flags)), lines)
    # what was not kept has nothing else to be said of, whether it was fitted or not worth a fit
    line_flags[gone] = line_flags[gone] & np.uint8(LineFlag.ADDED) | np.uint8(LineFlag.ABSENT)
    clone = render_lines(decomposer.wavelength_, theta, profile=decomposer.profile, wing_cut=decomposer.wing_cut)
    edges = _window_pixels(decomposer)
    square = np.array([np.mean((clone - flux)[a:b] ** 2) for a, b in pairwise(edges)])
    if not len(lines):
        flag |= SpectrumFlag.NO_LINES
    if np.sqrt(np.average(square, weights=np.diff(edges))) > 3 * decomposer._typical_rms:
        flag |= SpectrumFlag.POOR_FIT
    return RowFit(lines, theta, line_flags, int(flag), n_iter, square)


def fit_and_search(decomposer, item):
    """Fit one spectrum of the training set with all lines, and look for absorption that they leave over.

    Parameters
    ----------
    decomposer : VoigtLineDecomposer
        With its catalogue.
    item : tuple of (flux,) or (flux, lines, centers)
        Normalised flux, shape (n_pixels,), and where some lines begin: catalogue indices and wavelengths [angstrom].

    Returns
    -------
    theta : ndarray of shape (n_catalog_lines, n_parameters)
        Fitted parameters.
    missed : Detections
        Minima of the residual.
    rms : float
        Error of the clone.
    """
    flux = np.asarray(item[0], dtype=np.float64)
    start = learnt_start(decomposer, flux)
    if len(item) > 1:
        start.theta[item[1], 0] = item[2]
    theta, _, _ = _solve(decomposer, flux, start, noise=decomposer.noise * (1 if decomposer._prior else FIRST_NOISE))
    residual = flux - render_lines(
        decomposer.wavelength_, theta, profile=decomposer.profile, wing_cut=decomposer.wing_cut
    )
    rms = float(np.sqrt(np.mean(residual[decomposer._loss_pixels] ** 2)))
    return theta, find_minima(decomposer, 1 + residual), rms


def window_edges(decomposer):
    """Wavelengths between which `RowFit.square` is taken, and how many pixels there are between them.

    Parameters
    ----------
    decomposer : VoigtLineDecomposer
        Fitted.

    Returns
    -------
    edges : ndarray of shape (n_windows + 1,)
        First wavelength of each window, in angstrom, and the last of all.
    n_pixels : ndarray of shape (n_windows,), int64
        Pixels of each window.
    """
    edges = _window_pixels(decomposer)
    return decomposer.wavelength_[np.minimum(edges, decomposer.wavelength_.size - 1)], np.diff(edges)


def find_minima(decomposer, flux):
    """Detect the lines of one spectrum, with positions between pixels.

    Parameters
    ----------
    decomposer : VoigtLineDecomposer
        Its `detect` finds them.
    flux : ndarray of shape (n_pixels,)
        Normalised flux.

    Returns
    -------
    detections : Detections
        The lines.
    """
    flux = np.asarray(flux, dtype=np.float64)
    pixels, prominences, widths = decomposer.detect(flux)
    return Detections(pixels, refine_minima(decomposer._scale, flux, pixels), prominences, widths)


def _fit(decomposer, flux):
    """Lines, parameters, flags of all catalogue lines, flag of the spectrum, and number of steps."""
    line_flags = np.where(decomposer._added, np.uint8(LineFlag.ADDED), np.uint8(0))
    if decomposer.backend == "blase":
        from stellarhml.lines.blase_backend import fit_with_blase

        pixels, theta = fit_with_blase(decomposer.wavelength_, flux, decomposer)
        lines = _match(decomposer, decomposer._scale[pixels])
        return lines[lines >= 0], theta[lines >= 0], line_flags, 0, decomposer.max_iter
    found = find_minima(decomposer, flux)
    matched = _match(decomposer, found.positions if decomposer.match_tolerance else decomposer._scale[found.pixels])
    known = matched >= 0
    if decomposer.solver == "adam":
        lines, theta = _fit_adam(decomposer, flux, matched[known], Detections(*(part[known] for part in found)))
        flag, n_iter = 0, decomposer.max_iter
    else:
        start = learnt_start(decomposer, flux)
        # a line that can be predicted, and will not show, is not worth its place in the fit
        lines = np.flatnonzero(line_depths(start.theta, decomposer.profile) >= 0.5 * ABSENT_DEPTH)
        if not decomposer.fit_undetected:
            lines = np.intersect1d(lines, matched)
        start = type(start)(*(part[lines] for part in start))
        theta, n_iter, converged = _solve(decomposer, flux, start)
        flag = 0 if converged else SpectrumFlag.NOT_CONVERGED
        line_flags[lines[np.any(np.abs(theta - start.theta) >= start.reach * (1 - 1e-9), axis=1)]] |= np.uint8(
            LineFlag.AT_BOUND
        )
        if decomposer.fit_undetected and decomposer.match_tolerance > 0 and len(lines):
            # where the fit has put them, which may be farther from the catalogue than the tolerance
            places = np.interp(theta[:, 0], decomposer.wavelength_, decomposer._scale)
            order = np.argsort(places, kind="stable")
            near = match_to_catalog(found.positions, places[order], tolerance=decomposer.match_tolerance)
            matched = lines[order[near[near >= 0]]]
    undetected = np.setdiff1d(lines, matched)
    line_flags[undetected] |= np.uint8(LineFlag.UNDETECTED)
    _flag_shapes(decomposer, lines, theta, line_flags)
    return lines, theta, line_flags, flag, n_iter


def _flag_shapes(decomposer, lines, theta, line_flags):
    """Flag saturated lines and those at the ends."""
    parameters = decomposer.line_parameters
    if "logit_depth" in parameters:
        limit = 1 / (1 + np.exp(-theta[:, parameters.index("logit_depth")]))
        line_flags[lines[line_depths(theta, decomposer.profile) > _SATURATED * limit]] |= np.uint8(LineFlag.SATURATED)
    ends = decomposer.wavelength_[[decomposer._loss_pixels.start, decomposer._loss_pixels.stop - 1]]
    room = np.minimum(theta[:, 0] - ends[0], ends[1] - theta[:, 0])
    line_flags[lines[room < decomposer._width[lines]]] |= np.uint8(LineFlag.AT_EDGE)


def _fit_adam(decomposer, flux, lines, found):
    """The paper's training."""
    pixels, prominences, widths = found.pixels, found.prominences, found.widths
    if decomposer.fit_undetected:
        everything = np.arange(len(decomposer._catalog))
        all_pixels, all_widths = decomposer._catalog.copy(), decomposer._width.copy()
        # those that were not detected begin as weak as they can be
        all_prominences = np.full(len(everything), 0.1 * decomposer.prominence)
        all_pixels[lines], all_prominences[lines], all_widths[lines] = pixels, prominences, widths
        lines, pixels, prominences, widths = everything, all_pixels, all_prominences, all_widths
    theta = blase_start(decomposer.wavelength_[pixels], prominences, widths, decomposer.line_parameters)
    # two detections may be nearest to lines in the other order
    order = np.argsort(lines, kind="stable")
    lines, theta = lines[order], theta[order]
    if len(lines):
        from stellarhml.kernels.training import train_adam  # which imports torch

        theta = train_adam(
            decomposer.wavelength_,
            flux,
            theta,
            profile=decomposer.profile,
            wing_cut=decomposer.wing_cut,
            pixels=decomposer._loss_pixels,
            learning_rate=decomposer.learning_rate,
            max_iter=decomposer.max_iter,
        )
    return lines, theta


def _solve(decomposer, flux, start, noise=None):
    """Levenberg-Marquardt."""
    if not len(start.theta):
        return start.theta, 0, True
    return fit_lines(
        decomposer.wavelength_,
        flux,
        start,
        profile=decomposer.profile,
        wing_cut=decomposer.wing_cut,
        pixels=decomposer._loss_pixels,
        noise=noise or decomposer.noise,
        max_iter=decomposer.max_iter,
        tol=decomposer.tol,
    )


def _window_pixels(decomposer):
    """Pixels at which windows begin, and one past the last; equally many in each, give or take one."""
    first, last = decomposer._loss_pixels.start, decomposer._loss_pixels.stop
    return np.linspace(first, last, min(N_WINDOWS, last - first) + 1).round().astype(np.int64)


def _match(decomposer, positions):
    return match_to_catalog(positions, decomposer._scale[decomposer._catalog], tolerance=decomposer.match_tolerance)
