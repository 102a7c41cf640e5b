"""An observed spectrum on the pixels of a generator."""

from typing import NamedTuple

import numpy as np

from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.spectra.table_columns import read_spectrum_table

_GAP = 3.0  # steps: pixels further apart than this have something missing between them
_BLOCKS = 50  # pieces of a spectrum whose bright levels stand in for pixels that are missing
_NO_ERROR = 0.01  # error of spectra that come without, in units of their median; only relative weights matter


class Observation(NamedTuple):
    """One spectrum on the pixels of a generator.

    Parameters
    ----------
    flux : ndarray of shape (n_pixels,)
        Finite; where a pixel is missing, a level interpolated between its neighbours.
    flux_error : ndarray of shape (n_pixels,) or None
        Standard deviations, infinite where a pixel is missing. None weighs all pixels of the normalised flux alike.
    errors_known : bool
        Whether the errors came with the spectrum; otherwise they are one constant.
    coverage : float
        Share of the pixels that are there.
    """

    flux: np.ndarray
    flux_error: np.ndarray
    errors_known: bool
    coverage: float


def input_wavelength(generator):
    """Wavelengths of the pixels that a fitted generator takes, in angstrom, shape (n_pixels,)."""
    return (generator.preprocessor_ or generator.decomposer_).wavelength_


def read_observation(path, generator, *, medium):
    """Read a spectrum from a table and bring it onto the pixels of a generator.

    Parameters
    ----------
    path : str or path-like
        Table of wavelength, flux and error, see :func:`stellarhml.spectra.table_columns.read_spectrum_table`.
    generator : SpectrumGenerator
        Fitted generator.
    medium : {"vacuum", "air"}
        What the wavelengths are measured in.

    Returns
    -------
    observation : Observation
        The spectrum.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SpectrumFileError
        If it cannot be read.
    WavelengthCoverageError
        If it covers none of the generator's pixels.
    """
    table = read_spectrum_table(path, medium=medium)
    return resample(table.wavelength, table.flux, table.flux_error, input_wavelength(generator))


def resample(wavelength, flux, flux_error, target):
    """Interpolate a spectrum linearly onto other pixels, and mask those that it does not cover.

    Parameters
    ----------
    wavelength, flux : ndarray of shape (n,)
        Vacuum wavelengths in angstrom, strictly increasing, and finite fluxes.
    flux_error : ndarray of shape (n,) or None
        Standard deviations of the fluxes; infinity masks a pixel.
    target : ndarray of shape (n_pixels,)
        Wavelengths to interpolate to, in angstrom.

    Returns
    -------
    observation : Observation
        The spectrum on `target`. Where `target` is the finer of the two, errors are raised by the square root of the
        ratio of the steps, because neighbouring pixels then share their noise.

    Raises
    ------
    WavelengthCoverageError
        If no pixel of `target` is covered.
    """
    if len(wavelength) < 2:
        raise WavelengthCoverageError(f"The spectrum has {len(wavelength)} pixels, but at least two are needed.")
    good = np.ones(len(wavelength), dtype=bool) if flux_error is None else np.isfinite(flux_error)
    steps = np.diff(wavelength)
    right = np.clip(np.searchsorted(wavelength, target), 1, len(wavelength) - 1)
    inside = (target >= wavelength[0]) & (target <= wavelength[-1])
    whole = good[right - 1] & good[right] & (steps[right - 1] <= _GAP * np.median(steps))
    # a target on a good pixel needs no neighbour
    exact = (good[right - 1] & (target == wavelength[right - 1])) | (good[right] & (target == wavelength[right]))
    covered = inside & (whole | exact)
    if not covered.any():
        raise WavelengthCoverageError(
            f"The spectrum covers {wavelength[0]:.2f} to {wavelength[-1]:.2f} angstrom with {good.sum()} good pixels, "
            f"and the generator {target[0]:.2f} to {target[-1]:.2f}: they share none. Check the unit of the "
            "wavelengths, or build a generator for this range."
        )
    values = np.interp(target, wavelength[good], flux[good])
    values[~covered] = _bright_level(target, values, covered)
    errors = np.full(len(target), np.inf)
    if flux_error is None:
        level = abs(np.median(values[covered])) or 1.0
        errors[covered] = _NO_ERROR * level
    else:
        coarser = np.maximum(steps[right - 1] / np.gradient(target), 1.0)
        sigma = np.interp(target, wavelength[good], flux_error[good]) * np.sqrt(coarser)
        errors[covered] = sigma[covered]
    return Observation(values, errors, flux_error is not None, float(covered.mean()))


def _bright_level(target, values, covered):
    """Level of the bright pixels around those that are missing, shape (n_missing,): a continuum goes through them."""
    blocks = np.array_split(np.flatnonzero(covered), min(_BLOCKS, int(covered.sum())))
    knots = [target[block].mean() for block in blocks]
    levels = [np.percentile(values[block], 90) for block in blocks]
    return np.interp(target[~covered], knots, levels)
