"""Conversion of specutils objects, arrays and lists of orders to an ObservedSpectrum."""

import numpy as np
from scipy.ndimage import median_filter

from stellarhml._units import plain_array, plain_number
from stellarhml._validation import check_wavelength
from stellarhml.physics.wavelength import air_to_vacuum
from stellarhml.spectra.observed_spectrum import ObservedSpectrum
from stellarhml.spectra.specutils_objects import medium_and_frame

_POWERS = {"std": 1, "var": 2, "ivar": -2}  # unit of an uncertainty, as a power of that of the flux
_SMALLEST_ERROR = 1e-12  # of the median error: a smaller one outweighs all other pixels, and loses them by rounding
# Copies of an order: wavelengths that agree to this part of a pixel (float32 keeps 0.01), in so many pixels at least,
# and fluxes whose ratio, divided by its median over so many pixels, agrees to this part of the errors or of the flux
_SAME_PIXEL, _FEWEST_SAME, _SMOOTH = 0.1, 10, 31
_SAME_FLUX = {True: 0.3, False: 1e-3}  # with and without errors; independent exposures differ by 1 of both errors


def as_observed_spectrum(spectrum, *, medium=None, mask=None, resolving_power=None):
    """Convert a spectrum and its per-pixel arguments, as `BayesianStellarRegressor.infer` takes them.

    Masks of masked arrays are kept. An order of specutils with decreasing wavelengths is reversed, together with its
    `mask` and `resolving_power`. Pixels at the ends without a wavelength are trimmed, as in files. `medium` "air" is
    converted to vacuum; None is what the header of a spectrum of specutils states, else vacuum. A resolving power may
    be an object with a method `part`, which takes the slice of the pixels that are kept.

    Returns an ObservedSpectrum and the resolving power of each order: a number, an array (n_pixels,) or None. Pixels
    that are masked, or whose flux or error is not finite, have an infinite error. Without errors,
    `meta["errors_known"]` is False and errors are 1.

    TypeError if the spectrum is of an unknown type. ValueError if shapes do not match, errors are zero, negative or
    below 1e-12 of their median, wavelengths do not increase, no pixel is left, an order is given twice, headers of
    specutils contradict each other, or `medium` contradicts one or is "air" for frequencies, energies or an
    ObservedSpectrum.
    """
    if medium not in ("vacuum", "air", None):
        raise ValueError(f"`medium` is {medium!r}; it needs 'vacuum' or 'air', the medium of the wavelengths.")
    own = hasattr(spectrum, "orders") and hasattr(spectrum, "meta")
    listed = _is_list_of_spectra(spectrum)
    single = False
    if hasattr(spectrum, "spectral_axis"):
        parts, single = [_from_specutils(spectrum)], True
    elif own:
        placeholders = not spectrum.meta["errors_known"]
        parts = [
            (order.wavelength, order.flux, _only_mask(order) if placeholders else order.error)
            for order in spectrum.orders
        ]
    elif listed:
        parts = [_from_specutils(part) for part in spectrum]
    elif isinstance(spectrum, tuple) and len(spectrum) in (2, 3):
        parts, single = _from_arrays(*spectrum)
    else:
        raise TypeError(
            f"`spectrum` is a {type(spectrum).__name__}; it needs what stellarhml.spectra.read_spectrum or "
            "ObservedSpectrum.from_table returns, a specutils.Spectrum, a list of them, or a tuple "
            "(wavelength, flux) or (wavelength, flux, error) of arrays, or of lists of arrays for several orders."
        )
    frame = None
    if listed or hasattr(spectrum, "spectral_axis"):
        given = list(spectrum) if listed else [spectrum]
        medium, frame = medium_and_frame(given, medium, default="vacuum")
    elif medium == "air":
        _require_lengths(spectrum, own)
    medium = medium or "vacuum"
    if own:
        known = spectrum.meta["errors_known"]
    else:
        given = [error is not None for _, _, error in parts]
        if any(given) and not all(given):
            raise ValueError(
                f"Of {len(parts)} orders, {sum(given)} have errors and the others have none. Give errors for all, or "
                "none."
            )
        known = all(given)
    masks = _each(mask, len(parts), single, "mask")
    powers = _powers(resolving_power, len(parts), single)
    orders, resolving_powers, n_trimmed = [], [], 0
    for i, (part, left_out, power) in enumerate(zip(parts, masks, powers, strict=True)):
        order = _checked(i, *part, left_out)
        keep = _with_wavelength(order[0])
        if keep.stop - keep.start < len(order[0]):
            n_trimmed += len(order[0]) - (keep.stop - keep.start)
            order, power = [column[keep] for column in order], _take(power, keep)
        # axes of specutils in wave number or frequency decrease in wavelength; arrays must increase
        if (hasattr(spectrum, "spectral_axis") or listed) and len(order[0]) and order[0][0] > order[0][-1]:
            backwards = slice(None, None, -1)
            order, power = [column[backwards] for column in order], _take(power, backwards)
        _require_increasing(i, order[0])
        if medium == "air":
            order[0] = air_to_vacuum(order[0])
        orders.append(tuple(order))
        resolving_powers.append(power)
    if not any(np.isfinite(error).any() for _, _, error in orders):
        n = sum(len(flux) for _, flux, _ in orders)
        raise ValueError(
            f"All {n} pixels of the spectrum are masked, or their flux or error is not finite. At least some hundred "
            "good pixels are needed."
        )
    _require_distinct(orders, known)
    if own:
        return spectrum.replace(orders), resolving_powers
    notes = [f"{n_trimmed} pixels without a wavelength trimmed at the ends of orders."] if n_trimmed else []
    meta = {"medium": medium, "frame": frame, "errors_known": known, "notes": notes}
    return ObservedSpectrum(orders, meta), resolving_powers


def _with_wavelength(wavelength):
    """The slice from the first to the last pixel with a wavelength: finite and positive, as in files."""
    there = np.flatnonzero(np.isfinite(wavelength) & (wavelength > 0))
    return slice(int(there[0]), int(there[-1]) + 1) if len(there) else slice(0, 0)


def _require_distinct(orders, known):
    """Raise if two orders are the same data: a fit would count them twice, and quote errors too small by 0.7."""
    for i, order in enumerate(orders):
        for j, other in enumerate(orders[:i]):
            n_same = _n_copied(order, other, known)
            if n_same:
                raise ValueError(
                    f"Order {i} has {n_same} pixels with the wavelengths of order {j} (counted from 0), and fluxes "
                    f"that, but for a smooth factor, agree within {_SAME_FLUX[known]:g} of their "
                    f"{'errors' if known else 'level'}, so that they are copies of the same data: a fit would count "
                    "them twice and quote errors that are too small. Give each order once"
                    f"{'; if they are two exposures, their errors are far too large.' if known else '.'}"
                )


def _n_copied(order, other, known):
    """Number of the pixels that two orders share, if these are more than half of one and the same data, else 0.

    Copies may be rounded, in another unit, or divided by a continuum.
    """
    (x, flux, error), (y, other_flux, other_error) = sorted((order, other), key=lambda part: np.isfinite(part[2]).sum())
    if x[-1] < y[0] or x[0] > y[-1]:
        return 0
    nearest = np.searchsorted((y[1:] + y[:-1]) / 2, x)
    other_flux, other_error = other_flux[nearest], other_error[nearest]
    n_good = np.isfinite(error).sum()
    same = np.abs(y[nearest] - x) < _SAME_PIXEL * np.gradient(x)
    same &= np.isfinite(error) & np.isfinite(other_error) & (flux != 0) & (other_flux != 0)
    if same.sum() < max(n_good / 2, _FEWEST_SAME):
        return 0
    flux, error, other_flux, other_error = (part[same] for part in (flux, error, other_flux, other_error))
    with np.errstate(all="ignore"):  # units as small as 1e-200
        ratio = median_filter(flux / other_flux, min(_SMOOTH, len(flux)), mode="reflect")
        scale = np.hypot(error, ratio * other_error) if known else np.median(np.abs(flux))
        apart = np.abs(flux - ratio * other_flux) / scale
    return int(same.sum()) if np.mean(apart < _SAME_FLUX[known]) > 0.8 else 0


def _require_lengths(spectrum, own):
    """Raise if wavelengths cannot be in air: already converted, or frequencies or energies."""
    if own:
        raise ValueError(
            "`medium` is 'air', but the wavelengths of an ObservedSpectrum are in vacuum: they were converted when it "
            "was made. Leave `medium` out here, and give it to read_spectrum."
        )
    axes = spectrum[0] if isinstance(spectrum, tuple) and spectrum else ()
    axes = [axes, *axes] if isinstance(axes, (list, tuple)) else [axes]
    for unit in (getattr(axis, "unit", None) for axis in axes):
        if getattr(unit, "physical_type", "length") not in ("length", "dimensionless"):
            raise ValueError(
                f"`medium` is 'air', but the spectral axis is in {unit}, which is the same in air and vacuum. Leave "
                "`medium` out."
            )


def _is_list_of_spectra(spectrum):
    try:
        return len(spectrum) > 0 and all(hasattr(part, "spectral_axis") for part in spectrum)
    except TypeError:
        return False


def _only_mask(order):
    """Unit errors in place of the placeholders of a reader; infinite where masked."""
    return np.where(np.isfinite(order.error), 1.0, np.inf)


def _each(values, n_orders, single, name):
    """One value for each order."""
    if values is None:
        return [None] * n_orders
    values = [values] if single else list(values)
    if len(values) != n_orders:
        raise ValueError(f"`{name}` has {len(values)} parts but the spectrum {n_orders} orders. Pass one for each.")
    return values


def _powers(power, n_orders, single):
    """Resolving powers without units, one for each order."""
    power = _plain_power(power)
    if power is None or np.isscalar(power) or hasattr(power, "part"):
        return [power] * n_orders
    return _each(power, n_orders, single, "resolving_power")


def _take(power, pixels):
    """Resolving power of some of the pixels."""
    if hasattr(power, "part"):
        return power.part(pixels)
    return power[pixels] if np.ndim(power) else power


def _plain_power(power):
    if power is None or np.isscalar(power) or hasattr(power, "part"):
        return power
    if isinstance(power, (list, tuple)):
        return [_plain_power(part) for part in power]
    if np.ndim(power):
        return plain_array(power, "", "`resolving_power`")
    return plain_number(power, (), "`resolving_power`")


def _from_specutils(spectrum):
    """Wavelength in angstrom, flux and error of a specutils spectrum; masked pixels are NaN."""
    wavelength = plain_array(spectrum.spectral_axis, "angstrom", "`spectral_axis`", spectral=True)
    flux, unit = np.array(spectrum.flux.value, dtype=np.float64), spectrum.flux.unit
    if flux.ndim != 1:
        raise ValueError(f"A specutils spectrum has fluxes of shape {flux.shape}; pass a list of spectra of one row.")
    good = np.ones(flux.shape, dtype=bool) if spectrum.mask is None else ~np.asarray(spectrum.mask, dtype=bool)
    error = None if spectrum.uncertainty is None else _error_of(spectrum.uncertainty, unit, good)
    flux[~good] = np.nan
    return wavelength, flux, error


def _error_of(uncertainty, unit, good):
    """Standard deviations in the unit of the flux; those of masked pixels are not checked."""
    kind = uncertainty.uncertainty_type
    if kind not in _POWERS:
        raise ValueError(f"The uncertainty of a spectrum is of type {kind!r}; it needs 'std', 'var' or 'ivar'.")
    values = np.asarray(uncertainty.array, dtype=np.float64)
    if uncertainty.unit is not None:
        values = plain_array(values * uncertainty.unit, unit ** _POWERS[kind], "`uncertainty`")
    _require_positive(values[good & np.isfinite(values)], allow_zero=kind == "ivar")
    with np.errstate(all="ignore"):
        return np.power(values, 1 / _POWERS[kind])


def _from_arrays(wavelength, flux, error=None):
    """Orders from arrays or lists of arrays."""
    wavelength = _in_angstrom(wavelength)
    # a list of arrays is a list of orders
    single = all(np.ndim(part) == 0 for part in wavelength[:1])
    columns = [[part] if single else list(part) for part in (wavelength, flux)]
    columns.append([None] * len(columns[0]) if error is None else [error] if single else list(error))
    if len({len(column) for column in columns}) > 1:
        raise ValueError(
            f"Wavelengths, fluxes and errors have {', '.join(str(len(column)) for column in columns)} orders. Pass the "
            "same number of each."
        )
    return list(zip(*columns, strict=True)), single


def _in_angstrom(wavelength):
    """Wavelengths in angstrom, an array or a list of arrays."""
    ragged = isinstance(wavelength, np.ndarray) and wavelength.dtype.kind == "O"
    if ragged or isinstance(wavelength, (list, tuple)):
        return [_in_angstrom(part) if np.ndim(part) or hasattr(part, "unit") else part for part in wavelength]
    return plain_array(wavelength, "angstrom", "`wavelength`", spectral=True)


def _checked(i, wavelength, flux, error, mask):
    """Arrays of one order: fluxes finite, errors infinite where a pixel is left out."""
    wavelength = np.asarray(wavelength, dtype=np.float64)
    unit = getattr(flux, "unit", None)
    flux = plain_array(flux, unit, "`flux`")
    error = np.ones(flux.shape) if error is None else plain_array(error, unit, "`error`")
    left_out = np.zeros(flux.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    shapes = wavelength.shape, flux.shape, error.shape, left_out.shape
    if len(set(shapes)) > 1 or flux.ndim != 1:
        raise ValueError(
            f"Order {i}: wavelength, flux, error and mask have shapes {', '.join(map(str, shapes))}; they need one "
            "value for each pixel."
        )
    good = np.isfinite(flux) & np.isfinite(error) & ~left_out
    try:
        _require_positive(error[good])
    except ValueError as problem:
        raise ValueError(f"Order {i}: {problem}") from problem
    smallest = _SMALLEST_ERROR * np.median(error[good]) if good.any() else 0.0
    if (error[good] < smallest).any():
        raise ValueError(
            f"Order {i}: {int((error[good] < smallest).sum())} of {len(error)} errors are below {_SMALLEST_ERROR:g} of "
            f"their median, the smallest {error[good].min():g}: such a pixel would outweigh all others. Mask it, or "
            "correct its error."
        )
    return [wavelength, np.where(np.isfinite(flux), flux, 0.0), np.where(good, error, np.inf)]


def _require_positive(error, *, allow_zero=False):
    wrong = (error < 0) if allow_zero else (error <= 0)
    if wrong.any():
        raise ValueError(
            f"{int(wrong.sum())} of {len(error)} errors are zero or negative, the smallest {error.min():g}. Errors are "
            "standard deviations; mask pixels without an error by infinity or NaN."
        )


def _require_increasing(i, wavelength):
    """Raise if the wavelengths of an order do not increase, or are fewer than two."""
    try:
        if len(wavelength) < 2:
            raise ValueError(f"`wavelength` has {len(wavelength)} pixels, but at least two are needed.")
        if np.all(np.diff(wavelength) < 0):
            raise ValueError(
                f"`wavelength` must increase strictly, but decreases from {wavelength[0]:.4f} to {wavelength[-1]:.4f} "
                "angstrom. Reverse it (wavelength[::-1]), and flux, error and all else that has a value for each pixel."
            )
        check_wavelength(wavelength)
    except ValueError as error:
        raise ValueError(f"Order {i}: {error}") from error
