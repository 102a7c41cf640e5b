"""One spectrum to lines: the paper's training, the second-order fit, or gully/blase itself."""

import numpy as np

from stellarhml.kernels.rendering import train_adam
from stellarhml.kernels.second_order import fit_lines
from stellarhml.lines.catalog import match_to_catalog
from stellarhml.lines.start import blase_start, second_order_start


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
    lines : ndarray of shape (n_lines,), int64
        Catalogue indices, increasing.
    theta : ndarray of shape (n_lines, n_parameters), float64
        Fitted parameters.
    converged : bool
        Whether the fit met its tolerance; training by Adam always runs its epochs and counts as converged.
    """
    flux = np.asarray(row, dtype=np.float64)
    if decomposer.backend == "blase":
        from stellarhml.lines.blase_backend import fit_with_blase

        pixels, theta = fit_with_blase(decomposer.wavelength_, flux, decomposer)
        lines = match_to_catalog(pixels, decomposer._catalog, tolerance=decomposer.match_tolerance)
        return lines[lines >= 0], theta[lines >= 0], True
    pixels, prominences, widths = decomposer.detect(flux)
    lines = match_to_catalog(pixels, decomposer._catalog, tolerance=decomposer.match_tolerance)
    known = lines >= 0
    detected = lines[known], pixels[known], prominences[known], widths[known]
    fit = _fit_adam if decomposer.solver == "adam" else _fit_second_order
    return fit(decomposer, flux, *detected)


def _fit_adam(decomposer, flux, lines, pixels, prominences, widths):
    """The paper's training."""
    if decomposer.fit_undetected:
        lines, pixels, prominences, widths = _with_undetected(decomposer, flux, lines, pixels, prominences, widths)
    theta = blase_start(decomposer.wavelength_[pixels], prominences, widths, decomposer.line_parameters)
    if len(lines):
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
    return lines, theta, True


def _fit_second_order(decomposer, flux, lines, pixels, prominences, widths):
    """Levenberg-Marquardt; start and prior come from the catalogue, so that they are alike in all spectra."""
    if decomposer.fit_undetected:
        lines = np.arange(len(decomposer._catalog))
    start = second_order_start(
        decomposer.line_catalog_[lines],
        1 - flux[decomposer._catalog[lines]],
        decomposer._prominence[lines],
        decomposer._width[lines],
        decomposer.line_parameters,
    )
    if not len(lines):
        return lines, start.theta, True
    theta, _, converged = fit_lines(
        decomposer.wavelength_,
        flux,
        start,
        profile=decomposer.profile,
        wing_cut=decomposer.wing_cut,
        pixels=decomposer._loss_pixels,
        noise=decomposer.noise,
        max_iter=decomposer.max_iter,
        tol=decomposer.tol,
    )
    return lines, theta, converged


def _with_undetected(decomposer, flux, lines, pixels, prominences, widths):
    """Add the lines of the catalogue that were not detected, as weak as they can be."""
    everything = np.arange(len(decomposer._catalog))
    all_pixels, all_widths = decomposer._catalog.copy(), decomposer._width.copy()
    all_prominences = np.full(len(everything), 0.1 * decomposer.prominence)
    all_pixels[lines], all_prominences[lines], all_widths[lines] = pixels, prominences, widths
    return everything, all_pixels, all_prominences, all_widths
