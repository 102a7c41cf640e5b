"""Model spectra as a spectrograph of one resolving power sees them: broadened, and sampled as finely as that needs."""

from numbers import Real

import numpy as np

from stellarhml.exceptions import SpectrumFileError, WavelengthCoverageError
from stellarhml.grids.selection import check_limits
from stellarhml.kernels.fourier_broadening import GAUSS_REACH, broaden_rows, resample_rows
from stellarhml.physics.broadening import line_spread_sigma

PIXELS_PER_FWHM = 5
"""Pixels to the full width at half maximum of the line-spread function: interpolation between them is exact to 3e-5."""

_FEWEST = 2.0  # pixels of the grid to the same width
_MARGIN = 8  # pixels at each end: a stencil of the interpolation
_OVERSAMPLING = 0.8  # largest step of the interpolated spectrum, in units of the grid's shortest


class Broadening:
    """Gaussian line spread of a constant resolving power, on pixels of a constant step in ln wavelength.

    Parameters
    ----------
    source : GridSource
        Spectra with their `wavelength`, `resolving_power` and `origin`.
    limits : tuple of (float, float) or None
        Range of wavelengths in angstrom, None for all.
    resolving_power : float
        Wavelength over the full width at half maximum, after broadening.

    Attributes
    ----------
    pixels : slice
        Pixels of the source that are needed, which reach further than the result.
    wavelength : ndarray of shape (n_pixels,)
        Wavelengths of the result, in angstrom.
    binning : float
        Pixels of the source to a pixel of the result.

    Raises
    ------
    ValueError
        If the resolving power is not a number over 1, or is above that of the spectra.
    WavelengthCoverageError
        If no pixel of the result lies in the range.
    """

    def __init__(self, source, limits, resolving_power):
        if not isinstance(resolving_power, Real) or not 1 < resolving_power < np.inf:
            raise ValueError(f"`resolving_power` is {resolving_power!r}, but it must be one finite number over 1.")
        own = source.resolving_power
        if own is not None and resolving_power > own:
            raise ValueError(
                f"`resolving_power` is {resolving_power:g}, but the spectra of {source.origin} have {own:g} only, and "
                "cannot be sharpened. Choose at most this, or spectra of a higher resolving power."
            )
        self._source, self._power = source, float(resolving_power)
        spread = line_spread_sigma(self._power)
        self._sigma = np.sqrt(max(spread**2 - (0.0 if own is None else line_spread_sigma(own) ** 2), 0.0))
        x = np.log(source.wavelength)
        lo, hi = (x[0], x[-1]) if limits is None else np.log(check_limits(limits))
        margin = GAUSS_REACH * self._sigma
        first = max(int(np.searchsorted(x, lo - margin, "left")) - _MARGIN, 0)
        stop = min(int(np.searchsorted(x, hi + margin, "right")) + _MARGIN, x.size)
        self.pixels = slice(first, stop)
        step = 1 / (self._power * PIXELS_PER_FWHM)
        if stop - first >= 2 * _MARGIN:
            lo, hi = max(lo, x[first] + margin), min(hi, x[stop - 1] - margin)
        number = np.arange(np.ceil(lo / step - 1e-9), np.floor(hi / step + 1e-9) + 1)
        if stop - first < 2 * _MARGIN or number.size < _MARGIN:
            raise WavelengthCoverageError(
                f"At a resolving power of {self._power:g}, fewer than {_MARGIN} pixels of {source.origin} are left in "
                f"the range {limits or 'of all wavelengths'}: its wavelengths go from {source.wavelength[0]:g} to "
                f"{source.wavelength[-1]:g} angstrom, and the ends are lost to the line spread. Choose a wider range."
            )
        self._require_sampling(x[self.pixels], source.origin)
        self._step, self._number = step, number
        self.wavelength = np.exp(number * step)
        inside = np.count_nonzero((x >= lo) & (x <= hi))
        self.binning = max(inside / number.size, 1.0)

    def apply(self, flux, axis=None, name=""):
        """Broaden and sample one spectrum.

        Parameters
        ----------
        flux : ndarray of shape (n,)
            Flux on `pixels` of the source, or on `axis`.
        axis : ndarray of shape (n,), default=None
            Wavelengths of a spectrum that has its own, in angstrom, increasing.
        name : str, default=""
            Name of the spectrum, for messages.

        Returns
        -------
        flux : ndarray of shape (n_pixels,), dtype float64
            Flux on `wavelength`.
        """
        if axis is None:
            axis = self._source.wavelength[self.pixels]
        else:
            axis, flux = self._cut(axis, flux, name)
        x = np.log(axis)
        finest = _OVERSAMPLING * np.diff(x).min()
        n_fine = max(int(np.ceil(self._step / finest)), 1)  # fine steps to a pixel of the result
        step = self._step / n_fine
        first, last = int(np.ceil(x[0] / step)), int(np.floor(x[-1] / step))
        at = np.clip(np.exp(np.arange(first, last + 1) * step), axis[0], axis[-1])
        fine = resample_rows(axis, np.asarray(flux, dtype=np.float64)[None], at)
        if self._sigma:
            fine = broaden_rows(fine, step, lambda k: np.exp(-0.5 * (k * self._sigma) ** 2))
        wanted = (self._number * n_fine).astype(np.int64) - first
        return fine[0, np.clip(wanted, 0, len(at) - 1)]

    def _cut(self, axis, flux, name):
        """The part of a spectrum with its own wavelengths that is needed."""
        margin = np.exp(GAUSS_REACH * self._sigma)
        lo, hi = self.wavelength[0] / margin, self.wavelength[-1] * margin
        if axis[0] > lo * (1 + 1e-9) or axis[-1] < hi * (1 - 1e-9):
            raise SpectrumFileError(
                f"{name} has wavelengths from {axis[0]:.2f} to {axis[-1]:.2f} angstrom, but {lo:.2f} to {hi:.2f} are "
                "needed. Choose a range (`wavelength`) that all spectra have."
            )
        pixels = slice(
            max(int(np.searchsorted(axis, lo)) - _MARGIN, 0), min(int(np.searchsorted(axis, hi)) + _MARGIN, axis.size)
        )
        self._require_sampling(np.log(axis[pixels]), name)
        return axis[pixels], flux[pixels]

    def _require_sampling(self, x, name):
        """Raise ValueError if pixels at `x`, in ln wavelength, do not resolve the line-spread function."""
        coarsest = float(np.diff(x).max())
        if coarsest * self._power * _FEWEST > 1:
            raise ValueError(
                f"`resolving_power` is {self._power:g}, but {name} has pixels of up to 1/{1 / coarsest:.0f} of the "
                f"wavelength, and {_FEWEST:g} to a resolution element are needed. Choose at most "
                f"{1 / (coarsest * _FEWEST):.0f}, or leave it out."
            )
