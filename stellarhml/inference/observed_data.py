"""ObservedData: what `infer` is given, as arrays, checked."""

from typing import NamedTuple

import numpy as np

from stellarhml._units import plain_array

_POWERS = {"std": 1, "var": 2, "ivar": -2}  # unit of an uncertainty, as a power of that of the flux


class ObservedData(NamedTuple):
    """One spectrum of one or several orders.

    Attributes
    ----------
    wavelengths, fluxes, errors : list of ndarray of shape (n_pixels,)
        Of each order: wavelengths as given, fluxes, and standard deviations, infinite where a pixel is masked. Without
        known errors these are 1.
    errors_known : bool
        Whether errors came with the spectrum.
    single : bool
        Whether one order was given, not a list of them.
    numbers : list of int
        What the orders are called, as their file numbers them.
    flipped : list of bool
        Orders that were given with decreasing wavelengths, and turned round.
    """

    wavelengths: list
    fluxes: list
    errors: list
    errors_known: bool
    single: bool
    numbers: list
    flipped: list


def read_data(spectrum, mask=None):
    """Take a spectrum apart.

    Parameters
    ----------
    spectrum : ObservedSpectrum, Spectrum, sequence of Spectrum, or tuple of arrays
        What `stellarhml.spectra.read_spectrum` returns; a `specutils.Spectrum` or a list of them (orders, arms); or
        (wavelength, flux) or (wavelength, flux, error), each an array of shape (n_pixels,), or of shape (n_orders,
        n_pixels), or a list of arrays. Wavelengths in angstrom unless they carry a unit, errors in the unit of the
        flux unless they carry their own. Masked arrays are taken with their masks.
    mask : array-like or list of those, default=None
        True where a pixel is to be left out, in the shape of the flux.

    Returns
    -------
    data : ObservedData
        The spectrum. Pixels whose flux or error is not finite are masked.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If shapes do not match, errors are zero or negative, or no pixel is left.
    """
    if hasattr(spectrum, "spectral_axis"):
        parts, single = [_from_specutils(spectrum)], True
    elif hasattr(spectrum, "orders") and hasattr(spectrum, "meta"):
        known = spectrum.meta.get("errors_known", True)
        parts, single = [_from_order(order, known) for order in spectrum.orders], False
    elif _is_list_of_spectra(spectrum):
        parts, single = [_from_specutils(part) for part in spectrum], False
    elif isinstance(spectrum, tuple) and len(spectrum) in (2, 3):
        parts, single = _from_arrays(*spectrum)
    else:
        raise TypeError(
            f"`spectrum` is a {type(spectrum).__name__}; it needs what stellarhml.spectra.read_spectrum or "
            "ObservedSpectrum.from_table returns, a specutils.Spectrum, a list of them, or a tuple "
            "(wavelength, flux) or (wavelength, flux, error) of arrays, or of lists of arrays for several orders."
        )
    masks = [None] * len(parts) if mask is None else [mask] if single else list(mask)
    if len(masks) != len(parts):
        raise ValueError(f"`mask` has {len(masks)} parts but the spectrum {len(parts)} orders. Pass one for each.")
    known = [error is not None for _, _, error in parts]
    if any(known) and not all(known):
        raise ValueError(
            f"Of {len(parts)} orders, {sum(known)} have errors and the others have none. Give errors for all, or none."
        )
    orders = [_check_order(i, *part, left_out) for i, (part, left_out) in enumerate(zip(parts, masks, strict=True))]
    numbers = list(spectrum.meta["order_numbers"]) if hasattr(spectrum, "orders") else list(range(len(parts)))
    # specutils has wave numbers and frequencies, too; arrays must increase
    flipped = [hasattr(spectrum, "spectral_axis") or _is_list_of_spectra(spectrum)] * len(parts)
    flipped = [turn and bool(order[0][0] > order[0][-1]) for turn, order in zip(flipped, orders, strict=True)]
    orders = [[part[::-1] for part in order] if f else order for f, order in zip(flipped, orders, strict=True)]
    data = ObservedData(*(list(part) for part in zip(*orders, strict=True)), all(known), single, numbers, flipped)
    n_good = sum(int(np.isfinite(error).sum()) for error in data.errors)
    if not n_good:
        n = sum(len(flux) for flux in data.fluxes)
        raise ValueError(
            f"All {n} pixels of the spectrum are masked, or their flux or error is not finite. At least some hundred "
            "good pixels are needed."
        )
    return data


def require_measured_in(medium, spectrum):
    """Raise if wavelengths cannot be in air, since they were converted, or are none.

    Parameters
    ----------
    medium : {"vacuum", "air"}
        What the caller says.
    spectrum : object
        As for `read_data`.

    Raises
    ------
    ValueError
        If it is "air", and they are not.
    """
    if medium != "air":
        return
    if hasattr(spectrum, "orders"):
        raise ValueError(
            "`medium` is 'air', but the wavelengths of an ObservedSpectrum are in vacuum: they were converted when it "
            "was made. Leave `medium` out here, and give it to read_spectrum."
        )
    spectra = [spectrum] if hasattr(spectrum, "spectral_axis") else spectrum
    if _is_list_of_spectra(spectra):
        axes = [part.spectral_axis for part in spectra]
    else:
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


def _from_order(order, errors_known):
    """Columns of one order that was read from a file; what is masked is NaN."""
    masked = ~np.isfinite(order.error)
    flux = np.where(masked, np.nan, order.flux)
    return order.wavelength, flux, order.error if errors_known else None


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
    """Standard deviations in the unit of the flux; those of masked pixels may be anything."""
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
    single = len(wavelength) > 0 and np.ndim(wavelength[0]) == 0
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


def _check_order(i, wavelength, flux, error, mask):
    """One order as arrays; what is not finite masked."""
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
    return wavelength, np.where(np.isfinite(flux), flux, 0.0), np.where(good, error, np.inf)


def _require_positive(error, *, allow_zero=False):
    wrong = (error < 0) if allow_zero else (error <= 0)
    if wrong.any():
        raise ValueError(
            f"{int(wrong.sum())} of {len(error)} errors are zero or negative, the smallest {error.min():g}. Errors are "
            "standard deviations; mask pixels without one by infinity or NaN."
        )
