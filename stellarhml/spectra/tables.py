"""Tables of spectra in text, CSV, ECSV and FITS, written by the package or by others."""

import json
import warnings
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.array_files import split_orders
from stellarhml.spectra.orders import OrderBuilder, check_medium, to_vacuum
from stellarhml.storage.file_sizes import refuse_large
from stellarhml.storage.fits_files import read_fits

# Names are compared in lower case.
_NAMES = {
    "wavelength": ("wavelength", "wave", "lambda"),
    "flux": ("flux",),
    "error": ("error", "flux_error", "sigma", "uncertainty"),
}
# Other names of published columns, which are not standard deviations, and their conversions.
_NOT_ERRORS = {"ivar": "1 / sqrt(ivar)", "variance": "sqrt(variance)", "var": "sqrt(var)"}
# A comment that consists of these names is a header.
KNOWN_NAMES = {name for names in _NAMES.values() for name in names} | set(_NOT_ERRORS) | {"order", "mask"}


class Column(NamedTuple):
    """One column: its name ("" if the file gives none), its values, and its unit as text, or None."""

    name: str
    values: np.ndarray
    unit: str | None


def read_text_columns(path, known_names) -> list[Column]:
    """Columns of a text file, separated by commas or white space, or of an ECSV file.

    A comment right above the data that consists of `known_names` (lower case) alone is a header: numpy.savetxt writes
    its headers so.
    """
    refuse_large(path, "text")
    raw = path.read_bytes()
    if b"\0" in raw:
        raise SpectrumFileError(
            f"{path} is not a text file (it has zero bytes), and no other format was recognised. Name FITS files "
            ".fits, or write a table of wavelength, flux and error."
        )
    text = raw.decode("utf-8-sig", errors="replace")  # comments may be in any encoding, numbers are ASCII
    if text.startswith("# %ECSV"):
        return _read_ecsv(path)
    rows, comment = [], ""
    for line in text.splitlines():
        content, _, remark = line.partition("#")
        if content.strip():
            rows.append(" ".join(content.split()))
        elif not rows and remark.strip():
            comment = remark.strip()
    if not rows:
        raise SpectrumFileError(f"{path} is empty, but at least two columns, wavelength and flux, are needed.")
    comma = "," in rows[0]
    first, names = _split(rows[0], comma), None
    if not any(_is_number(cell) for cell in first):
        names = [cell.strip("\"'") for cell in first]
        rows.pop(0)
    elif len(words := _split(comment, "," in comment)) == len(first):
        names = words if all(word.lower() in known_names for word in words) else None
    if not rows:
        raise SpectrumFileError(
            f"{path} has a header ({', '.join(names)}) and no rows, but one for each pixel is needed."
        )
    return _parse(rows, comma, names or [""] * len(first), path)


def _parse(rows, comma, names, path):
    """Columns of rows of text."""
    from astropy.io import ascii

    try:
        table = ascii.read(rows, format="fast_no_header", delimiter="," if comma else " ", guess=False)
        if len(table.colnames) != len(names):
            raise ascii.InconsistentTableError(f"{len(table.colnames)} columns")
    except Exception as error:  # astropy raises its own errors, and those of its parser in C
        short = [k for k, row in enumerate(rows, start=1) if len(_split(row, comma)) != len(names)]
        fault = f"another number of columns in row {short[0]} than {len(names)}" if short else f"no columns ({error})"
        raise SpectrumFileError(f"{path} has {fault}; the file may be truncated.") from error
    pairs = zip(names, table.colnames, strict=True)
    return [Column(name, _numbers(name, np.ma.asarray(table[key]), path), None) for name, key in pairs]


def _numbers(name, cells, path):
    """Cells of a column as float64; empty cells become NaN, and a mask may have True and False."""
    if cells.dtype.kind in "iuf":
        return cells.astype(np.float64).filled(np.nan)
    values = np.empty(len(cells))
    for k, cell in enumerate(np.ma.filled(cells, "").astype(str).tolist()):
        word = {"true": "1", "false": "0"}.get(cell.lower(), cell) if _is_mask(name) else cell
        if not _is_number(word or "nan"):
            raise SpectrumFileError(
                f"{path} has {cell!r} in row {k + 1}, but a number is needed. Columns are separated by commas or white "
                "space, and decimals by a point."
            )
        values[k] = float(word or "nan")
    return values


def read_fits_columns(path) -> list[Column]:
    """Columns of the first binary table of a FITS file."""
    data = read_fits(path, _first_table, "Copy it again.")
    if data is None:
        raise SpectrumFileError(f"{path} holds no table, but one with a column each for wavelength and flux is needed.")
    return [_numeric(name, values, unit, path) for name, values, unit in data]


def _first_table(hdus):
    """Name, values and unit of each column of the first table, or None if there is none."""
    from astropy.io import fits

    table = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)), None)
    return None if table is None else [(c.name, np.array(table.data[c.name]), c.unit) for c in table.columns]


def _read_ecsv(path):
    """Columns of an ECSV file; masked cells become NaN."""
    from astropy.table import Table

    try:
        table = Table.read(path, format="ascii.ecsv")
    except Exception as error:  # astropy raises its own errors, ValueError or those of the YAML reader
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SpectrumFileError(f"{path} cannot be read as ECSV ({reason}); it is damaged or truncated.") from error
    return astropy_columns(table, path)


def astropy_columns(table, source) -> list[Column]:
    """Columns of a table of astropy; masked cells become NaN. Messages name its `source`."""
    columns = []
    for name in table.colnames:
        column = table[name]
        unit = None if column.unit is None else column.unit.to_string()
        values = getattr(column, "value", column)  # a Quantity, or a Column
        if np.ma.isMaskedArray(values) and values.dtype.kind in ("biuf" if _is_mask(name) else "iuf"):
            values = values.astype(np.float64).filled(np.nan)
        columns.append(_numeric(name, np.asarray(values), unit, source))
    return columns


def _numeric(name, values, unit, path):
    """A Column of float64, or an error that names the column."""
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in ("biuf" if _is_mask(name) else "iuf"):
        raise SpectrumFileError(
            f"{path} has a column {name!r} of shape {values.shape} and type {values.dtype}, but one real number for "
            "each pixel is needed. Leave the column out, or write one row for each pixel."
        )
    return Column(name, values.astype(np.float64), unit or None)


def _split(content, comma):
    return [cell.strip() for cell in content.split(",")] if comma else content.split()


def _is_mask(name):
    """Whether a column may have True and False."""
    return name.strip().lower() == "mask"


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def take_mask(columns, path):
    """Separate the column `mask` from the others; returns these, and a mask of pixels to leave out, (n_pixels,) bool.

    It is True where `mask` is not 0, as in NumPy; None without such a column. SpectrumFileError if there are several.
    """
    masks = [column for column in columns if column.name.strip().lower() == "mask"]
    if len(masks) > 1:
        raise SpectrumFileError(f"{path} has {len(masks)} columns named 'mask', but one is needed. Rename the others.")
    others = [column for column in columns if all(column is not mask for mask in masks)]
    return others, masks[0].values != 0 if masks else None  # NaN is masked


def choose_columns(columns, path):
    """Choose the columns of wavelength, flux and error (or None), by name, or by position in a file without names.

    SpectrumFileError if one is missing or ambiguous, or the table has variances or inverse variances in place of
    errors.
    """
    named = any(column.name for column in columns)
    if len(columns) < 2:
        raise SpectrumFileError(
            f"{path} has {len(columns)} column, but at least two are needed: wavelength and flux, separated by white "
            "space or commas."
        )
    if not named:
        return columns[0], columns[1], columns[2] if len(columns) > 2 else None
    names = ", ".join(repr(column.name) for column in columns)
    chosen = {}
    for role, accepted in _NAMES.items():
        matches = [column for column in columns if column.name.strip().lower() in accepted]
        if len(matches) > 1:
            raise SpectrumFileError(
                f"{path} has {len(matches)} columns that could be the {role} among {names}, but one is needed. Rename "
                "the others."
            )
        chosen[role] = matches[0] if matches else None
    for role, advice in (("wavelength", "Rename it; without a unit it must be in angstrom."), ("flux", "Rename it.")):
        if chosen[role] is None:
            raise SpectrumFileError(
                f"{path} has the columns {names}, but one named {' or '.join(_NAMES[role])} is needed. {advice}"
            )
    if chosen["error"] is None:
        for column in columns:
            cure = _NOT_ERRORS.get(column.name.strip().lower())
            if cure:
                raise SpectrumFileError(
                    f"{path} has a column {column.name!r} and no errors, but standard deviations are needed. Write "
                    f"{cure} as a column named 'error', or drop the column."
                )
    return chosen["wavelength"], chosen["flux"], chosen["error"]


def wavelength_in_angstrom(column: Column, path):
    """Convert the wavelengths of a column to angstrom, which is assumed where it has no unit.

    SpectrumFileError if the unit is unknown, or not a length.
    """
    from astropy import units as u

    if column.unit is None:
        return column.values
    try:
        # many files have the plural, which astropy does not know
        unit = u.AA if column.unit.lower() in ("angstrom", "angstroms") else u.Unit(column.unit)
        return unit.to(u.AA, column.values)
    except (ValueError, TypeError) as error:
        raise SpectrumFileError(
            f"{path} has wavelengths in {column.unit!r}, but a unit of length that astropy knows is needed. "
            "Convert the column to angstrom."
        ) from error


def error_in_flux_unit(column: Column, flux: Column, path):
    """Convert the errors of a column to the unit of the fluxes; a copy, SpectrumFileError if they do not convert."""
    from astropy import units as u

    if column.unit is None or flux.unit is None or column.unit == flux.unit:
        return column.values.copy()
    try:
        return u.Unit(column.unit).to(u.Unit(flux.unit), column.values)
    except (ValueError, TypeError) as error:
        raise SpectrumFileError(
            f"{path} has errors in {column.unit!r} and fluxes in {flux.unit!r}, but the two must convert into "
            "each other. Write both in one unit."
        ) from error


META_KEY = "SHMLMETA"  # at most eight letters, for FITS; its value is JSON
_COLUMNS = ("order", "wavelength", "flux", "error", "mask")


def to_table(observed):
    """Table of an ObservedSpectrum, see `ObservedSpectrum.to_table`."""
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
    """Orders and meta of a table, FITS or else ECSV, that `to_table` made; SpectrumFileError if the file is damaged.

    `medium` is what the caller states; these files are in vacuum.
    """
    from astropy.table import Table

    check_medium(medium, by_format="of ObservedSpectrum.write")
    refuse_large(path, "binary" if fits else "text")
    with _one_error(path), open(path, "rb") as file:
        table = Table.read(file, format="fits") if fits else Table.read(path, format="ascii.ecsv")
    return _from_own(table, path)


@contextmanager
def _one_error(path):
    """Turn every exception from a damaged table of `to_table` into a SpectrumFileError."""
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
            raise ValueError("its metadata are damaged")
        if str(table["wavelength"].unit) != "Angstrom":
            raise ValueError(f"its wavelengths are in {table['wavelength'].unit}")
        if written["n_pixels"] != len(table):
            raise ValueError(f"it has {len(table)} of {written['n_pixels']} rows")
    labels, wavelength, flux, error, mask = columns
    builder = OrderBuilder(path)
    for number, rows in split_orders(path, labels):
        builder.add(number, wavelength[rows], flux[rows], error[rows], np.isinf(error[rows]) | (mask[rows] != 0))
    builder.notes()  # raises if no order is left
    if len(builder.orders) != len(meta.get("order_numbers") or ()):
        meta["notes"].append(f"{len(builder.orders)} of the orders written have good pixels.")
    return builder.orders, meta | {"order_numbers": builder.numbers}


def is_own_text(path) -> bool:
    """Whether a text file is an ECSV table that `to_table` made."""
    with open(path, "rb") as file:
        head = file.read(2**16)
    return head.startswith(b"# %ECSV") and META_KEY.encode() in head


def read_table(path, *, medium, fits):
    """Orders and meta of a table of wavelength, flux and optionally error, order and mask: text, CSV, ECSV or FITS.

    Columns are found by name, in any case: `wavelength`, `wave` or `lambda`; `flux`; `error`, `flux_error`, `sigma` or
    `uncertainty`; `order`, a whole number for each pixel; `mask`, not 0 where a pixel is bad. Without names they are
    wavelength, flux and error, in this order. Wavelengths without a unit are in angstrom; errors are converted to the
    unit of the flux. SpectrumFileError if the file is damaged, or has other columns.
    """
    medium = check_medium(medium)
    columns = read_fits_columns(path) if fits else read_text_columns(path, KNOWN_NAMES)
    orders, meta = _from_columns(columns, medium, path)
    return orders, meta | {"file": str(path)}


def from_table(table, medium):
    """Orders and meta of an astropy table, made by `to_table` or with the columns of `read_table`."""
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
    note = f"Columns used: {', '.join(used)}; wavelengths in {wavelength.unit or 'angstrom (no unit given)'}."
    return builder.orders, {
        "format": "table",
        "medium": medium,
        "errors_known": builder.errors_known,
        "flux_unit": _known_unit(flux.unit),
        "order_numbers": builder.numbers,
        "notes": [note, *builder.notes()],
    }


def _known_unit(text):
    """The unit in the notation of astropy, or None if astropy does not know it."""
    from astropy import units as u

    try:
        return u.Unit(text).to_string() or None if text else None
    except (ValueError, TypeError):
        return None
