"""Windows of pixels on which lines are evaluated."""

import numpy as np

from stellarhml.kernels.cells import edge_of
from stellarhml.kernels.forms import compiled

WING_TOLERANCE = 1e-7
"""Effect on the flux below which the adaptive windows leave a line's wing out."""

_COARSE = 1 << 12  # steps of a first search


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
    # the next number, for pixels that lie on the end itself belong to the line
    ends = np.stack([center - reach, np.nextafter(center + reach, np.inf)])
    if not wavelength.size or not np.isfinite(ends).all():
        start, stop = np.searchsorted(wavelength, ends)
        return start.astype(np.int64), np.maximum(stop, start).astype(np.int64)
    wavelength = np.require(wavelength, np.float64, ["C", "W"])  # as in `fused`
    coarse = np.linspace(wavelength[0], wavelength[-1], min(wavelength.size, _COARSE, ends.size) + 1)
    pixels = np.empty(ends.shape, np.int64)
    _search(wavelength, np.searchsorted(wavelength, coarse), ends.ravel(), pixels.ravel())
    return pixels[0], np.maximum(pixels[1], pixels[0])


@compiled
def _search(wavelength, table, values, pixels):
    """Fill the first pixel at each value or beyond; table[i] is that of the i-th of equal steps over the spectrum."""
    n_pixels, n_steps = len(wavelength), len(table) - 1
    origin, extent = wavelength[0], wavelength[-1] - wavelength[0]
    per_step = n_steps / extent if extent > 0.0 else 0.0
    for i in range(len(values)):
        value = values[i]
        position = min(max((value - origin) * per_step, 0.0), n_steps - 0.5)
        step = int(position)
        # a pixel more on either side, for rounding; a value outside of the spectrum is beyond its last step
        lo, hi = max(table[step] - 1, 0), min(table[step + 1] + 1, n_pixels)
        if value > wavelength[-1]:
            lo = hi = n_pixels
        # pixels are nearly equally spaced in a step: try to come close at once
        guess = lo + int((position - step) * (hi - lo))
        low, high = max(guess - 3, lo), min(guess + 3, hi)
        if low > lo and wavelength[low - 1] < value:
            lo = low
        if high < hi and not wavelength[high] < value:
            hi = high
        pixels[i] = edge_of(wavelength, lo, hi, value)
