"""Tables of one or many orders: what the package writes itself, and what others write."""

import json
import warnings
from contextlib import contextmanager

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.array_files import split_orders
from stellarhml.spectra.media import check_medium, to_vacuum
from stellarhml.spectra.orders import OrderBuilder
from stellarhml.spectra.table_columns import (
    KNOWN_NAMES,
    astropy_columns,
    choose_columns,
    error_in_flux_unit,
    read_fits_columns,
    read_text_columns,
    take_mask,
    wavelength_in_angstrom,
)

META_KEY = "SHMLMETA"  # at most eight letters, for FITS; its value is JSON
_COLUMNS = ("order", "wavelength", "flux", "error", "mask")


def to_table(observed):
    """Table of an ObservedSpectrum, see there."""
    from astropy import units as u
    from astropy.table import Table

    orders = observed.orders
    wavelength, flux, error = (np.concatenate(parts) for parts in zip(*orders, strict=True))
    numbers = [len(order.wavelength) for order in orders]
    table = Table(
        {
            "order": np.repeat(np.asarray(observed.meta["order_numbers"], dtype=np.int64), numbers),
            "wavelength": wavelength * u.AA,
            "flux": flux,
            "error": error,
            "mask": np.isinf(error),
        },
        meta={META_KEY: json.dumps({"n_pixels": observed.n_pixels, "meta": observed.meta}, default=str)},
    )
    unit = observed.meta.get("flux_unit")
    table["wavelength"] = table["wavelength"].value
    table["wavelength"].unit = u.AA
    if unit:
        table["flux"].unit = table["error"].unit = u.Unit(unit)
    return table


def read_own_table(path, *, medium, fits):
    """Orders and meta of a table that `to_table` made.

    Parameters
    ----------
    path : pathlib.Path
        An ECSV or FITS file.
    medium : {"vacuum", None}
        What the caller says of its wavelengths, which are in vacuum.
    fits : bool
        Whether it is FITS.

    Returns
    -------
    orders, meta : list of Order, dict
        As for `ObservedSpectrum`.

    Raises
    ------
    SpectrumFileError
        If it is damaged.
    """
    from astropy.table import Table

    check_medium(medium, by_format="of ObservedSpectrum.write")
    with _one_error(path), open(path, "rb") as file:
        table = Table.read(file, format="fits") if fits else Table.read(path, format="ascii.ecsv")
    return _from_own(table, path)


@contextmanager
def _one_error(path):
    """Raise one error for all that a damaged table of `to_table` can cause."""
    try:
        with warnings.catch_warnings(record=True), np.errstate(all="ignore"):
            warnings.simplefilter("always")
            yield
    except Exception as error:  # astropy raises its own errors, those of YAML, OSError, ValueError, ...
        reason = (str(error).strip().splitlines() or [""])[0]
        raise SpectrumFileError(
            f"{path} was written by ObservedSpectrum.write, but cannot be read ({type(error).__name__}: {reason}); it "
            "is damaged or truncated. Write it again."
        ) from error


def _from_own(table, path):
    """Orders and meta of a table that `to_table` made."""
    with _one_error(path):
        columns = [np.ma.filled(np.ma.asarray(table[name]).astype(np.float64), np.nan) for name in _COLUMNS]
        written = json.loads(table.meta[META_KEY])
        meta = written["meta"]
        if not isinstance(meta, dict) or not isinstance(meta.get("notes"), list):
            raise ValueError("its meta are not those that were written")
        if str(table["wavelength"].unit) != "Angstrom":
            raise ValueError(f"its wavelengths are in {table['wavelength'].unit}")
        if written["n_pixels"] != len(table):
            raise ValueError(f"it has {len(table)} rows of {written['n_pixels']}")
    labels, wavelength, flux, error, mask = columns
    builder = OrderBuilder(path)
    for number, rows in split_orders(path, labels):
        builder.add(number, wavelength[rows], flux[rows], error[rows], np.isinf(error[rows]) | (mask[rows] != 0))
    builder.notes()  # for its error
    if len(builder.orders) != len(meta.get("order_numbers") or ()):
        meta["notes"].append(f"{len(builder.orders)} orders are left of those written.")
    return builder.orders, meta | {"order_numbers": builder.numbers}


def is_own_text(path) -> bool:
    """Whether a text file is an ECSV table that `to_table` made."""
    with open(path, "rb") as file:
        head = file.read(2**16)
    return head.startswith(b"# %ECSV") and META_KEY.encode() in head


def read_table(path, *, medium, fits):
    """Orders and meta of a table of wavelength, flux and, if there, error and order.

    Parameters
    ----------
    path : pathlib.Path
        Text, CSV, ECSV or FITS. Columns are found by name, in any case: `wavelength`, `wave` or `lambda`; `flux`;
        `error`, `flux_error`, `sigma` or `uncertainty`; `order`, a whole number for each pixel; `mask`, not 0 where a
        pixel is bad. Without names they are wavelength, flux and error, in this order. Wavelengths without a unit are
        in angstrom; an error in another unit than the flux is converted.
    medium : {"vacuum", "air"}
        What the wavelengths are measured in.
    fits : bool
        Whether it is FITS.

    Returns
    -------
    orders, meta : list of Order, dict
        As for `ObservedSpectrum`.

    Raises
    ------
    SpectrumFileError
        If it is damaged or its columns are others.
    """
    medium = check_medium(medium)
    columns = read_fits_columns(path) if fits else read_text_columns(path, KNOWN_NAMES)
    orders, meta = _from_columns(columns, medium, path)
    return orders, meta | {"file": str(path)}


def from_table(table, medium):
    """Orders and meta of a table of astropy: what `to_table` made, or as those of `read_table`."""
    if META_KEY in table.meta:
        check_medium(medium, by_format="of ObservedSpectrum.to_table")
        return _from_own(table, "the table")
    return _from_columns(astropy_columns(table, "the table"), check_medium(medium), "the table")


def _from_columns(columns, medium, path):
    """Orders and meta of columns."""
    columns, masked = take_mask(columns, path)
    labels = [column for column in columns if column.name.strip().lower() == "order"]
    wavelength, flux, error = choose_columns([c for c in columns if all(c is not label for label in labels)], path)
    if len(labels) > 1:
        raise SpectrumFileError(
            f"{path} has {len(labels)} columns named 'order', but one is needed. Rename the others."
        )
    grid = to_vacuum(wavelength_in_angstrom(wavelength, path), medium, path)
    errors = None if error is None else error_in_flux_unit(error, flux, path)
    groups = split_orders(path, labels[0].values) if labels else [(0, slice(None))]
    builder = OrderBuilder(path)
    for number, rows in groups:
        parts = (None if part is None else part[rows] for part in (errors, masked))
        builder.add(number, grid[rows], flux.values[rows], *parts)
    used = [column.name or "(no name)" for column in (wavelength, flux, error, *labels) if column is not None]
    used += [] if masked is None else ["mask (pixels where it is not 0 are left out)"]
    said = f"Columns used: {', '.join(used)}; wavelengths in {wavelength.unit or 'angstrom (no unit given)'}."
    return builder.orders, {
        "format": "table",
        "medium": medium,
        "errors_known": builder.errors_known,
        "flux_unit": _known_unit(flux.unit),
        "order_numbers": builder.numbers,
        "notes": [said, *builder.notes()],
    }


def _known_unit(text):
    """The unit as astropy writes it, or None where it knows none."""
    from astropy import units as u

    try:
        return u.Unit(text).to_string() or None if text else None
    except (ValueError, TypeError):
        return None
