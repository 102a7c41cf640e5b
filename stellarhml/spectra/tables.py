"""Tables of spectra in text, CSV, ECSV and FITS, written by the package or by others."""

import csv
import json
import warnings
from contextlib import contextmanager

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.columns import Column, is_header, may_be_text, orders_of_columns, role_of, split_orders
from stellarhml.spectra.orders import OrderBuilder
from stellarhml.spectra.statements import by_format, check_medium, comment_cards
from stellarhml.storage.fits_files import plain_cards, read_fits
from stellarhml.storage.packed_files import read_bytes


def read_text_columns(path, is_header=is_header):
    """Columns of a text file, and what its comments state, as a dict of keywords (upper case).

    Columns are separated by commas, semicolons or white space; a file may be ECSV. A comment right above the data that
    names a column each, as numpy.savetxt writes it, is a header if `is_header(words)`.
    """
    raw = read_bytes(path)
    if b"\0" in raw:
        raise SpectrumFileError(
            f"{path} is not a text file (it has zero bytes), and no other format was recognised. Name FITS files "
            ".fits, or write a table of wavelength, flux and error."
        )
    text = raw.decode("utf-8-sig", errors="replace")  # comments may be in any encoding, numbers are ASCII
    if text.startswith("# %ECSV"):
        return _read_ecsv(path)
    rows, comments = [], []
    for line in text.splitlines():
        content, _, remark = line.partition("#")
        if content.strip():
            rows.append(" ".join(content.split()))
        elif remark.strip():
            comments.append((len(rows), remark.strip()))
    if not rows:
        raise SpectrumFileError(f"{path} is empty, but at least two columns, wavelength and flux, are needed.")
    separator = next((mark for mark in ",;" if mark in rows[0]), " ")
    first, names = _split(rows[0], separator), None
    above = [remark for n_before, remark in comments if not n_before]
    if not any(map(_is_number, first)):
        names = first
        rows.pop(0)
    elif above:
        words = _split(above[-1], "," if "," in above[-1] else " ")
        names = words if len(words) == len(first) and is_header(words) else None
    if not rows:
        raise SpectrumFileError(
            f"{path} has a header ({', '.join(names)}) and no rows, but one for each pixel is needed."
        )
    cards = comment_cards(remark for _, remark in comments)
    return _parse(rows, separator, names or [""] * len(first), path), cards


def _parse(rows, separator, names, path):
    """Columns of rows of text."""
    from astropy.io import ascii

    try:
        table = ascii.read(rows, format="fast_no_header", delimiter=separator, guess=False)
        if len(table.colnames) != len(names):
            raise ascii.InconsistentTableError(f"{len(table.colnames)} columns")
    except Exception as error:  # astropy raises its own errors, and those of its parser in C
        short = [k for k, row in enumerate(rows, start=1) if len(_split(row, separator)) != len(names)]
        fault = f"another number of columns in row {short[0]} than {len(names)}" if short else f"no columns ({error})"
        raise SpectrumFileError(f"{path} has {fault}; the file may be truncated.") from error
    pairs = zip(names, table.colnames, strict=True)
    return [Column(name, _numbers(name, np.ma.asarray(table[key]), path)) for name, key in pairs]


def _numbers(name, cells, path):
    """Cells of a column as float64; empty cells become NaN, and marks of bad pixels may be True and False."""
    if cells.dtype.kind in "iuf":
        return cells.astype(np.float64).filled(np.nan)
    values = np.empty(len(cells))
    for k, cell in enumerate(np.ma.filled(cells, "").astype(str).tolist()):
        word = {"true": "1", "false": "0"}.get(cell.lower(), cell) if may_be_text(name) else cell
        if not _is_number(word or "nan"):
            raise SpectrumFileError(
                f"{path} has {cell!r} in row {k + 1}, but a number is needed. Columns are separated by commas, "
                "semicolons or white space, and decimals by a point."
            )
        values[k] = float(word or "nan")
    return values


def read_fits_columns(path):
    """Columns of the first table of a FITS file, and the headers of the file and of the table, as dicts."""
    found = read_fits(path, _first_table, "Copy it again.")
    if found is None:
        raise SpectrumFileError(f"{path} holds no table, but one with a column each for wavelength and flux is needed.")
    return found


def _first_table(hdus):
    """Columns and headers of the first table, or None if there is none."""
    from astropy.io import fits

    table = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)), None)
    if table is None:
        return None
    columns = [
        Column(column.name, np.array(table.data[column.name]), column.unit, table.header.get(f"TUCD{number}"))
        for number, column in enumerate(table.columns, start=1)
    ]
    return columns, [plain_cards(hdus[0].header), plain_cards(table.header)]


def _read_ecsv(path):
    """Columns of an ECSV file, and its metadata; masked cells become NaN."""
    from astropy.table import Table

    try:
        table = Table.read(path, format="ascii.ecsv")
    except Exception as error:  # astropy raises its own errors, ValueError or those of the YAML reader
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SpectrumFileError(f"{path} cannot be read as ECSV ({reason}); it is damaged or truncated.") from error
    return astropy_columns(table)


def astropy_columns(table):
    """Columns of a table of astropy, and its metadata by keyword (upper case); masked cells become NaN."""
    columns = []
    for name in table.colnames:
        column = table[name]
        unit = None if column.unit is None else column.unit.to_string()
        values = getattr(column, "value", column)  # a Quantity, or a Column
        if np.ma.isMaskedArray(values) and values.dtype.kind in "biuf":
            values = values.astype(np.float64).filled(np.nan)
        ucd = (getattr(column, "meta", None) or {}).get("ucd")
        columns.append(Column(name, np.asarray(values), unit or None, ucd))
    return columns, {str(key).upper(): value for key, value in table.meta.items()}


def _split(content, separator):
    """Cells of a row, without blanks and quotes; a unit in brackets belongs to the word before it."""
    if separator != " ":
        return [cell.strip().strip("\"'") for cell in next(csv.reader([content], delimiter=separator))]
    words = []
    for word in content.split():
        if words and word[0] in "[(":
            words[-1] += f" {word}"
        else:
            words.append(word.strip("\"'"))
    return words


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


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

    check_medium(medium, [by_format("of ObservedSpectrum.write")])
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
    head = read_bytes(path, 2**16)
    return head.startswith(b"# %ECSV") and META_KEY.encode() in head


def read_table(path, *, medium, fits):
    """Orders and meta of a table of wavelength, flux and optionally error, order and marks of bad pixels.

    Text, CSV, ECSV or FITS; columns as in `columns`. Wavelengths without a unit are in angstrom.
    SpectrumFileError if the file is damaged, or has other columns.
    """
    columns, headers = read_fits_columns(path) if fits else read_text_columns(path)
    columns = _one_row_of_arrays(columns, path)
    orders, meta = orders_of_columns(columns, headers if fits else [headers], medium, path)
    return orders, meta | {"file": str(path)}


def _one_row_of_arrays(columns, source):
    """Columns with a row for each pixel, from a table whose cells are arrays: that of one row is one spectrum."""
    arrays = [column for column in columns if np.ndim(column.values) == 2 and role_of(column.name)]
    if not arrays:
        return columns
    n_rows, n_pixels = arrays[0].values.shape
    if n_rows != 1:
        raise SpectrumFileError(
            f"{source} has {n_rows} rows of arrays of {n_pixels} pixels ({arrays[0].name!r}), but it is not known "
            "whether they are orders, stars or visits. Write one row for each pixel, with a column 'order' if they are "
            "orders."
        )
    return [column._replace(values=column.values[0]) for column in columns if column.values.shape == (1, n_pixels)]


def from_table(table, medium):
    """Orders and meta of an astropy table, made by `to_table` or with the columns of `read_table`."""
    if META_KEY in table.meta:
        check_medium(medium, [by_format("of ObservedSpectrum.to_table")])
        return _from_own(table, "the table")
    columns, header = astropy_columns(table)
    columns = _one_row_of_arrays(columns, "the table")
    return orders_of_columns(columns, [header], medium, "the table")
