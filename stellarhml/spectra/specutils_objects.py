"""Conversion between orders and spectra of specutils, with units, uncertainties and masks."""

import copy
import warnings
from collections.abc import Mapping

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.orders import OrderBuilder, to_vacuum
from stellarhml.spectra.statements import FRAMES, check_frame, check_medium, stated_frame, stated_medium
from stellarhml.storage.fits_files import refuse_large_fits

_POWERS = {"std": 1, "var": 2, "ivar": -2}  # unit of an uncertainty, as a power of that of the flux


def import_specutils(caller):
    """Import the package specutils; the message of the ImportError names the caller."""
    try:
        with warnings.catch_warnings():  # its own dependencies deprecate things
            warnings.simplefilter("ignore")
            import specutils
    except ImportError as error:
        raise ImportError(
            f'{caller} needs the package specutils. Install it with: pip install "stellarhml[specutils]"'
        ) from error
    return specutils


def to_spectra(observed):
    """List of specutils.Spectrum, one for each order of an ObservedSpectrum."""
    specutils = import_specutils("to_specutils")
    from astropy import units as u
    from astropy.nddata import StdDevUncertainty

    kind = getattr(specutils, "Spectrum", None) or specutils.Spectrum1D  # the name before specutils 2
    unit = u.Unit(observed.meta.get("flux_unit") or "")
    spectra = []
    for number, order in zip(observed.meta["order_numbers"], observed.orders, strict=True):
        masked = np.isinf(order.error)
        spectra.append(
            kind(
                spectral_axis=order.wavelength * u.AA,
                flux=order.flux * unit,
                uncertainty=StdDevUncertainty(np.where(masked, 0.0, order.error) * unit),
                mask=masked,
                meta=copy.deepcopy(observed.meta) | {"order": number},
            )
        )
    return spectra


def from_spectra(spectra, medium, source="`spectra`"):
    """Orders and meta of spectra of specutils, see `ObservedSpectrum.from_specutils`; messages name their `source`."""
    spectra = [spectra] if hasattr(spectra, "spectral_axis") else list(spectra)
    wrong = next((s for s in spectra if not (hasattr(s, "spectral_axis") and hasattr(s, "flux"))), None)
    if wrong is not None or not spectra:
        found = type(wrong).__name__ if spectra else "an empty list"
        raise ValueError(f"`spectra` has {found}, but specutils.Spectrum, or a list of them, is needed.")
    medium, frame = medium_and_frame(spectra, medium)
    unit = spectra[0].flux.unit
    builder = OrderBuilder(source)
    rows = [
        (spectrum.spectral_axis, row, (getattr(spectrum, "meta", None) or {}).get("order"))
        for spectrum in spectra
        for row in _rows(spectrum, unit)
    ]
    numbers = [number for *_, number in rows]
    if not all(type(number) is int for number in numbers) or len(set(numbers)) < len(numbers):
        numbers = range(len(rows))
    for number, (axis, (flux, error, mask), _) in zip(numbers, rows, strict=True):
        builder.add(number, _wavelength(axis, medium), flux, error, mask)
    first = getattr(spectra[0], "meta", None) or {}
    resolving_power = first.get("resolving_power")
    meta = {
        "format": "specutils",
        "instrument": _word(first, "instrument", "INSTRUME"),
        "file": _word(first, "file"),
        "object": _word(first, "object", "OBJECT"),
        "date": _word(first, "date", "DATE-OBS"),
        "medium": medium,
        "frame": frame,
        "resolving_power": resolving_power if isinstance(resolving_power, int | float) else None,
        "errors_known": builder.errors_known,
        "flux_unit": unit.to_string() or None,
        "order_numbers": builder.numbers,
        "notes": builder.notes(),
    }
    return builder.orders, meta


def medium_and_frame(spectra, medium, default=None):
    """Medium and frame of the wavelengths of spectra of specutils, see `check_medium` and `check_frame`.

    `medium` is what the caller states. None: what the headers state, else the `default`. Every header is read; those of
    one list must agree.
    """
    found = [(_medium_of(spectrum, medium, default), _frame_of(spectrum)) for spectrum in spectra]
    for i, one in enumerate(found):
        for what, own, first in zip(("medium", "frame"), one, found[0], strict=True):
            if own != first:
                raise ValueError(
                    f"By their headers, the {what} of the wavelengths is {first or 'not stated'} for order 0 and "
                    f"{own or 'not stated'} for order {i} (counted from 0), but one is needed for all. Convert them to "
                    "one, and state it in each header."
                )
    return found[0]


def _medium_of(spectrum, medium, default):
    """Medium of one spectrum. Frequencies and energies are the same in both."""
    unit = spectrum.spectral_axis.unit
    if unit.physical_type in ("length", "dimensionless"):
        stated = stated_medium(_headers(spectrum))
        return check_medium(medium if stated else medium or default, stated)
    if medium == "air":
        raise ValueError(
            f"`medium` is 'air', but the spectral axis is in {unit}, which is the same in air and vacuum. Leave "
            "`medium` out, or pass 'vacuum'."
        )
    return check_medium(medium or "vacuum")


def _frame_of(spectrum):
    """Frame of one spectrum, by its metadata or its header, or None."""
    own = (getattr(spectrum, "meta", None) or {}).get("frame")
    return own if isinstance(own, str) and own in FRAMES else check_frame(stated_frame(_headers(spectrum)))


def _headers(spectrum):
    """Headers of a spectrum, each a dict of keywords (upper case): that of its file, and its own metadata."""
    from astropy.io.fits import Header

    meta = getattr(spectrum, "meta", None) or {}
    header = meta.get("header")
    header = dict(header) if isinstance(header, Mapping | Header) else {}  # others may be anything
    return [
        {key: value for key, value in header.items() if isinstance(key, str)},
        {key: value for key, value in meta.items() if isinstance(key, str) and key.isupper()},
    ]


def _wavelength(axis, medium):
    """Vacuum wavelengths in angstrom of a spectral axis."""
    from astropy import units as u

    axis = u.Quantity(axis)
    try:
        with np.errstate(all="ignore"):
            grid = axis.to_value(u.AA, equivalencies=u.spectral())
    except u.UnitConversionError as error:
        raise ValueError(
            f"`spectra` has a spectral axis in {axis.unit or 'no unit'}, but a length, frequency, wave number or "
            "energy is needed. Give the axis such a unit."
        ) from error
    return to_vacuum(np.array(grid, dtype=np.float64), medium, "`spectra`")


def _rows(spectrum, unit):
    """Yield flux, error (or None) and mask (or None) of each row, in `unit`."""
    from astropy import units as u

    try:
        flux = np.asarray(spectrum.flux.to_value(unit), dtype=np.float64)
    except u.UnitConversionError as error:
        raise ValueError(
            f"`spectra` has fluxes in {spectrum.flux.unit} and in {unit}, but the two must convert into each other. "
            "Convert them separately."
        ) from error
    error = _error(spectrum.uncertainty, spectrum.flux.unit, unit)
    mask = None if spectrum.mask is None else np.broadcast_to(np.asarray(spectrum.mask, dtype=bool), flux.shape)
    if flux.ndim > 2:
        raise ValueError(f"`spectra` has fluxes of shape {flux.shape}, but one or two dimensions are needed.")
    if flux.ndim < 2:
        yield flux, error, mask
        return
    for row in range(len(flux)):
        yield flux[row], None if error is None else error[row], None if mask is None else mask[row]


def _error(uncertainty, own_unit, unit):
    """Standard deviations in `unit`, or None."""
    from astropy import units as u

    if uncertainty is None or uncertainty.array is None:
        return None
    kind = uncertainty.uncertainty_type
    if kind not in _POWERS:
        raise ValueError(
            f"`spectra` has uncertainties of the kind {type(uncertainty).__name__} ({kind!r}), but a standard "
            "deviation, variance or inverse variance is needed. Use StdDevUncertainty, VarianceUncertainty or "
            "InverseVariance."
        )
    values = np.asarray(uncertainty.array, dtype=np.float64)
    given = uncertainty.unit if uncertainty.unit is not None else own_unit ** _POWERS[kind]
    try:
        factor = (1 * given).to_value(unit ** _POWERS[kind])
    except u.UnitConversionError as error:
        raise ValueError(
            f"`spectra` has uncertainties in {given}, which do not belong to fluxes in {unit}. Give them a unit that "
            "does."
        ) from error
    with np.errstate(all="ignore"):  # zero and negative ones become pixels to mask
        return np.power(values * factor, 1 / _POWERS[kind])


def _word(meta, *names):
    """The first entry of `meta` or of its FITS header with one of the names, as text."""
    for place in (meta, meta.get("header") or {}):
        for name in names:
            value = place.get(name) if hasattr(place, "get") else None
            if value is not None:
                return str(value)
    return None


def read_specutils(path, medium):
    """Orders and meta of a file that specutils reads with one of its own loaders; SpectrumFileError if it cannot."""
    specutils = import_specutils("read_spectrum(format='specutils')")
    refuse_large_fits(path)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            spectra = specutils.SpectrumList.read(str(path))
    except Exception as error:  # loaders raise what they like
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SpectrumFileError(
            f"{path} cannot be read by specutils {specutils.__version__} ({type(error).__name__}: {reason}); a file "
            "that one of its loaders knows is needed. Read it yourself and pass it to ObservedSpectrum.from_specutils."
        ) from error
    orders, meta = from_spectra(spectra, medium, path)
    return orders, meta | {"file": str(path)}
