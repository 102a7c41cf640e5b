"""Telluric absorption in observed spectra: masking, and division by a transmission or by a standard star.

Wavelengths must be in the frame of the telescope, not of the barycentre, and a transmission must have the resolution of
the spectrum. Functions return a new spectrum and do not change the given one.
"""

import numpy as np

from stellarhml._units import plain_array
from stellarhml.physics.wavelength import SPEED_OF_LIGHT
from stellarhml.spectra.observed_spectrum import ObservedSpectrum

# Inverse wavelength of hydrogen at the series limit, 1/angstrom: CODATA 2018, with the reduced mass of the electron.
_RYDBERG_HYDROGEN = 1.0967758e-3
_SERIES = {"paschen": 3, "brackett": 4}  # lower levels


def mask_tellurics(
    spectrum: ObservedSpectrum, wavelength, transmission, *, threshold: float = 0.95
) -> ObservedSpectrum:
    """Mask pixels in which the atmosphere absorbs.

    Parameters
    ----------
    spectrum : ObservedSpectrum
        The spectrum.
    wavelength, transmission : array-like of shape (n,)
        Vacuum wavelengths in angstrom (or their own unit), strictly increasing, and the transmission of the
        atmosphere, 1 where it is clear, NaN where it is unknown. `read_transmission` reads them.
    threshold : float, default=0.95
        A pixel is masked where the transmission at its center, or anywhere within it, is below this. Pixels outside
        the given wavelengths are masked too.

    Returns
    -------
    spectrum : ObservedSpectrum
        Errors are infinite in masked pixels; fluxes are unchanged.

    Raises
    ------
    ValueError
        If the arrays violate these rules, all pixels would be masked, or the wavelengths of the spectrum are not in
        the frame of the telescope.
    """
    _require_telescope(spectrum)
    grid, values = _checked(wavelength, transmission)
    orders, n_new = [], 0
    for order in spectrum.orders:
        lowest = np.minimum(_interpolate(order.wavelength, grid, values), _lowest(order.wavelength, grid, values))
        bad = ~(lowest >= threshold)  # NaN outside
        n_new += int(np.count_nonzero(bad & np.isfinite(order.error)))
        orders.append(order._replace(error=np.where(bad, np.inf, order.error)))
    note = f"{n_new} pixels masked where the transmission of the atmosphere is below {threshold:g}, or not given."
    return _result(spectrum, orders, note)


def divide_tellurics(spectrum: ObservedSpectrum, wavelength, transmission, *, minimum: float = 0.1) -> ObservedSpectrum:
    """Divide a spectrum by the transmission of the atmosphere.

    Parameters
    ----------
    spectrum : ObservedSpectrum
        The spectrum.
    wavelength, transmission : array-like of shape (n,)
        As for `mask_tellurics`; interpolated linearly.
    minimum : float, default=0.1
        Pixels with less transmission, or outside the given wavelengths, are masked.

    Returns
    -------
    spectrum : ObservedSpectrum
        Fluxes and errors divided by the transmission: errors grow where it is small. An error of the transmission
        itself is not included.

    Raises
    ------
    ValueError
        If the arrays violate these rules, `minimum` is not positive, all pixels would be masked, or the wavelengths of
        the spectrum are not in the frame of the telescope.
    """
    if not minimum > 0:
        raise ValueError(f"`minimum` is {minimum}, but it must be positive: fluxes are divided by the transmission.")
    _require_telescope(spectrum)
    grid, values = _checked(wavelength, transmission)
    orders, n_new = [], 0
    for order in spectrum.orders:
        level = _interpolate(order.wavelength, grid, values)
        bad = ~(level >= minimum)
        n_new += int(np.count_nonzero(bad & np.isfinite(order.error)))
        level = np.where(bad, 1.0, level)
        orders.append(order._replace(flux=order.flux / level, error=np.where(bad, np.inf, order.error / level)))
    note = (
        f"Divided by a transmission of the atmosphere; {n_new} pixels masked where it is below {minimum:g}, or not "
        "given."
    )
    return _result(spectrum, orders, note)


def hydrogen_windows(half_width: float = 1000.0, *, n_upper: int = 20) -> list[tuple[float, float]]:
    """Windows around the Paschen and Brackett lines, which are intrinsic to an A0V star.

    Parameters
    ----------
    half_width : float, default=1000.0
        Half width of each window, in km/s.
    n_upper : int, default=20
        Highest upper level of the transitions.

    Returns
    -------
    windows : list of (float, float)
        Limits in vacuum angstrom, by increasing wavelength. They may overlap.

    Examples
    --------
    >>> from stellarhml.spectra import hydrogen_windows
    >>> low, high = hydrogen_windows(100.0, n_upper=5)[0]  # Paschen beta
    >>> round((low + high) / 2, 1)
    12821.7
    """
    centers = [
        1 / _RYDBERG_HYDROGEN / (1 / lower**2 - 1 / upper**2)
        for lower in _SERIES.values()
        for upper in range(lower + 1, n_upper + 1)
    ]
    share = half_width / SPEED_OF_LIGHT
    return [(center * (1 - share), center * (1 + share)) for center in sorted(centers)]


def divide_standard(
    spectrum: ObservedSpectrum, standard: ObservedSpectrum, *, windows=None, minimum: float = 0.1
) -> ObservedSpectrum:
    """Divide a spectrum by that of a telluric standard, an A0V star observed with the same spectrograph.

    The division removes telluric absorption and blaze together. Each order is divided by the order of the standard with
    the largest overlap in wavelength, interpolated linearly to its pixels. The result is a ratio: it still contains
    the inverse continuum of the standard, close to a black body of 9,600 K, and the ratio of the two exposures.

    Parameters
    ----------
    spectrum, standard : ObservedSpectrum
        The target and the standard, read in the same way.
    windows : list of (float, float), default=None
        Windows around intrinsic lines of the standard, in vacuum angstrom, which are masked. None:
        `hydrogen_windows()`; an empty list masks nothing.
    minimum : float, default=0.1
        Pixels in which the standard has less than this share of the bright (90th percentile) flux of its order are
        masked.

    Returns
    -------
    spectrum : ObservedSpectrum
        Ratios, with the errors of both. Pixels that the standard masks or does not cover are masked. The number of
        orders is unchanged.

    Raises
    ------
    ValueError
        If all pixels would be masked, or the wavelengths of one are not in the frame of the telescope.
    """
    for part in (spectrum, standard):
        _require_telescope(part)
    windows = hydrogen_windows() if windows is None else list(windows)
    orders, n_lost, n_lines = [], 0, 0
    for order in spectrum.orders:
        flux, error = _of_standard(order.wavelength, standard, minimum)
        lines = np.zeros(len(flux), dtype=bool)
        for low, high in windows:
            lines |= (order.wavelength >= low) & (order.wavelength <= high)
        good = np.isfinite(order.error)
        lost = ~np.isfinite(error)
        n_lost += int(np.count_nonzero(lost & good))
        n_lines += int(np.count_nonzero(lines & good & ~lost))
        level = np.where(lost, 1.0, flux)
        ratio = order.flux / level
        with np.errstate(invalid="ignore"):
            sigma = np.hypot(order.error, ratio * np.where(lost, 0.0, error)) / level
        orders.append(order._replace(flux=ratio, error=np.where(lost | lines | ~good, np.inf, sigma)))
    who = standard.meta.get("object") or "a standard"
    note = (
        f"Divided by {who}; {n_lost} pixels masked where it has too little flux or none, {n_lines} in {len(windows)} "
        "windows around its intrinsic lines."
    )
    return _result(spectrum, orders, note, flux_unit=None)


def _require_telescope(spectrum):
    """Raise if wavelengths were shifted to another frame, in which telluric lines are not at rest."""
    frame = spectrum.meta.get("frame")
    if frame not in (None, "telescope"):
        raise ValueError(
            f"{spectrum!r} has wavelengths in the frame of the {frame} by its file, but telluric lines are at rest in "
            "the frame of the telescope. Use the spectrum before its velocity was corrected, or shift its wavelengths "
            "back and set meta['frame'] to 'telescope' (`ObservedSpectrum.replace(orders, frame='telescope')`)."
        )


def _result(spectrum, orders, note, **meta):
    """The new spectrum; raises if no pixel is left."""
    if spectrum.meta.get("frame") is None:
        note += " The file does not state the frame of its wavelengths: taken to be that of the telescope."
    if all(np.isinf(order.error).all() for order in orders):
        raise ValueError(
            f"No pixel of {spectrum!r} would be left: {note} Check the unit and the range of the wavelengths, or lower "
            "the limit."
        )
    return spectrum.replace(orders, note, **meta)


def _checked(wavelength, transmission):
    """Both as float64 arrays, after checks; NaN is kept."""
    grid = plain_array(wavelength, "angstrom", "`wavelength`", spectral=True)
    values = plain_array(transmission, "", "`transmission`")
    if grid.ndim != 1 or grid.shape != values.shape or len(grid) < 2:
        raise ValueError(
            f"`wavelength` and `transmission` have the shapes {grid.shape} and {values.shape}, but one length of at "
            "least two is needed."
        )
    if not (np.all(np.isfinite(grid)) and np.all(np.diff(grid) > 0)):
        raise ValueError(
            "`wavelength` must be finite and increase strictly. Sort both arrays, and drop repeated pixels."
        )
    return grid, values


def _interpolate(wavelength, grid, values):
    """Linear interpolation, NaN outside the grid and next to NaN."""
    return np.interp(wavelength, grid, values, left=np.nan, right=np.nan)


def _lowest(wavelength, grid, values):
    """Lowest value of the grid within each pixel, infinite where no grid point lies in it."""
    middle = (wavelength[1:] + wavelength[:-1]) / 2
    if not len(middle):
        return np.full(len(wavelength), np.inf)
    edges = np.concatenate([[2 * wavelength[0] - middle[0]], middle, [2 * wavelength[-1] - middle[-1]]])
    cuts = np.searchsorted(grid, edges)
    lowest = np.minimum.reduceat(np.append(values, np.inf), np.column_stack([cuts[:-1], cuts[1:]]).ravel())[::2]
    return np.where(cuts[1:] > cuts[:-1], lowest, np.inf)


def _of_standard(wavelength, standard, minimum):
    """Flux and error of the standard on the pixels of one order; the error is infinite where it is unusable."""
    shared = [
        min(wavelength[-1], order.wavelength[-1]) - max(wavelength[0], order.wavelength[0]) for order in standard.orders
    ]
    order = standard.orders[int(np.argmax(shared))]
    grid, n = order.wavelength, len(order.wavelength)
    good = np.isfinite(order.error)
    if max(shared) <= 0 or n < 2 or not good.any():
        return np.ones(len(wavelength)), np.full(len(wavelength), np.inf)
    right = np.clip(np.searchsorted(grid, wavelength), 1, n - 1)
    weight = (wavelength - grid[right - 1]) / (grid[right] - grid[right - 1])
    inside = (weight > -0.5) & (weight < 1.5)  # half a pixel beyond the outermost centers
    weight = np.clip(weight, 0, 1)
    flux = (1 - weight) * order.flux[right - 1] + weight * order.flux[right]
    finite = np.where(good, order.error, 0.0)
    error = np.hypot((1 - weight) * finite[right - 1], weight * finite[right])
    whole = (good[right - 1] | (weight == 1)) & (good[right] | (weight == 0))
    bright = np.percentile(order.flux[good], 90)
    usable = inside & whole & (flux >= minimum * bright) & (flux > 0)
    return np.where(usable, flux, 1.0), np.where(usable, error, np.inf)
