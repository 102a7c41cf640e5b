"""Windows of pixels on which lines are evaluated."""

import numpy as np

WING_TOLERANCE = 1e-7
"""Effect on the flux below which the adaptive windows leave a line's wing out."""


def line_windows(wavelength, components, wing_cut, *, as_blase=False, tolerance=WING_TOLERANCE):
    """Windows around line centers, within the spectrum.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,)
        Increasing wavelengths in angstrom.
    components : ndarray of shape (n_lines, 6)
        Rows as in `kernels.fused`.
    wing_cut : int or None
        Width in pixels, the same for all lines (moved inwards at the ends of the spectrum; a spectrum that is
        shorter is used whole). None: each line as far as it changes the flux by more than `tolerance`.
    as_blase : bool, default=False
        Whether to take the very pixels of gully/blase, whose windows skip their last pixel and take the next.
    tolerance : float, default=1e-7
        See `wing_cut`.

    Returns
    -------
    start, stop : ndarray of shape (n_lines,), or (2 n_lines,) if `as_blase`, int64
        First pixel, and one past the last. With `as_blase` the second half holds each line's extra pixel.
    """
    if wing_cut is None:
        return _adaptive(wavelength, components, tolerance)
    n_pixels, width = wavelength.size, min(int(wing_cut), wavelength.size)
    first = np.searchsorted(wavelength, components[:, 0]).astype(np.int64) - width // 2
    if not as_blase or width == n_pixels:
        start = np.clip(first, 0, n_pixels - width)
        return start, start + width
    start = np.clip(first, 0, n_pixels - width - 1)
    return np.concatenate([start, start + width]), np.concatenate([start + width - 1, start + width + 1])


def _adaptive(wavelength, components, tolerance):
    """Where Lorentzian plus Gaussian, times the limiting depth, fall under the tolerance."""
    center, lorentz, gamma, gauss, sigma, depth = components.T
    depth = np.where(depth > 0, depth, 1.0)
    wing = gamma * np.sqrt(np.maximum(lorentz * depth / tolerance - 1, 0))
    core = sigma * np.sqrt(2 * np.log(np.maximum(gauss * depth / tolerance, 1)))
    reach = np.maximum(wing, core)
    start = np.searchsorted(wavelength, center - reach)
    stop = np.searchsorted(wavelength, center + reach, side="right")
    return start.astype(np.int64), np.maximum(stop, start).astype(np.int64)
