"""Tables of spectra in text, CSV, ECSV and FITS, written by the package or by others."""

import csv
import json
import re
import warnings
from contextlib import contextmanager

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.columns import (
    Column,
    is_header,
    looks_like_names,
    may_be_text,
    orders_of_columns,
    role_of,
    split_orders,
    truth,
)
from stellarhml.spectra.orders import OrderBuilder
from stellarhml.spectra.statements import by_format, check_medium, comment_cards, table_headers
from stellarhml.storage.file_sizes import refuse_large
from stellarhml.storage.fits_files import plain_cards, read_fits
from stellarhml.storage.packed_files import read_bytes


def read_text_columns(path, is_header=is_header):
    """Columns of a text file, and what its comments state, as headers, each a dict of keywords (upper case).

    Columns are separated by commas, semicolons or white space; a file may be ECSV. A comment above the data that names
    a column each, as numpy.savetxt writes it, is a header if `is_header(words)`. One that seems to name columns, but
    not wavelength and flux, is an error: the third of them need not be an error.
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
    if not any(map(_is_number, first)):
        names = first
        rows.pop(0)
    else:
        above = [remark for n_before, remark in comments if not n_before]
        names = _names_in_comments(above, len(first), is_header, path)
    if not rows:
        raise SpectrumFileError(
            f"{path} has a header ({', '.join(names)}) and no rows, but one for each pixel is needed."
        )
    headers = comment_cards(remark for _, remark in comments)
    return _parse(rows, separator, names or [""] * len(first), path), headers


def _names_in_comments(comments, n_columns, is_header, path):
    """Names of the columns in the comments above the data, the last that name all of them, or None."""
    number = re.compile(r"(?:col(?:umn)?\s*)?(\d+)\s*[:=.)]?\s+(\S.*)", re.IGNORECASE)
    listed = list(filter(None, map(number.match, comments)))
    candidates = []
    if [int(match[1]) for match in listed] == list(range(1, n_columns + 1)):
        candidates.append([re.split(r"[\s,;:]", match[2])[0] for match in listed])
    for comment in comments:
        line = re.sub(r"^(?:columns?|names?|cols?)\s*[:=]\s*", "", comment, flags=re.IGNORECASE)
        mark = next((mark for mark in ",;|" if mark in line), " ")
        candidates.append([word for word in _split(line.strip("| "), mark) if word])
    candidates = [words for words in candidates if len(words) == n_columns]
    names = next((words for words in reversed(candidates) if is_header(words)), None)
    if names is None and (doubtful := next(filter(looks_like_names, candidates), None)):
        raise SpectrumFileError(
            f"{path} names its columns {', '.join(map(repr, doubtful))} in a comment, but wavelength and flux are "
            "needed among them, under names such as 'wavelength', 'flux' and 'error'. Rename them, or drop the comment "
            "if it means other things."
        )
    return names


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
        raise SpectrumFileError(
            f"{path} has {fault}; the file may be truncated, or have lines that are no data: comments begin with #."
        ) from error
    pairs = zip(names, table.colnames, strict=True)
    return [Column(name, _numbers(name, np.ma.asarray(table[key]), path)) for name, key in pairs]


def _numbers(name, cells, path):
    """Cells of a column as float64; empty cells become NaN, and marks of bad pixels may be True and False."""
    if cells.dtype.kind in "iuf":
        return cells.astype(np.float64).filled(np.nan)
    values = np.empty(len(cells))
    for k, cell in enumerate(np.ma.filled(cells, "").astype(str).tolist()):
        word = truth(cell) if may_be_text(name) else cell
        if not _is_number(word or "nan"):
            raise SpectrumFileError(
                f"{path} has {cell!r} in row {k + 1}, but a number is needed. Columns are separated by commas, "
                "semicolons or white space, and decimals by a point."
            )
        values[k] = float(word or "nan")
    return values


def read_fits_columns(path):
    """Columns of a table of a FITS file, its headers as dicts, and names of other tables with a spectrum.

    It is the first with wavelength and flux, or the first.
    """
    found = read_fits(path, _first_table, "Copy it again.")
    if found is None:
        raise SpectrumFileError(f"{path} holds no table, but one with a column each for wavelength and flux is needed.")
    return found


def _first_table(hdus):
    """Columns and headers of the first table, with a spectrum if one has, or None; and names of others with one."""
    from astropy.io import fits

    tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
    if not tables:
        return None
    spectra = [hdu for hdu in tables if is_header(hdu.columns.names)]
    table = (spectra or tables)[0]
    others = [hdu.name or f"number {tables.index(hdu) + 1}" for hdu in spectra[1:]]
    columns = [
        Column(column.name, np.array(table.data[column.name]), column.unit, table.header.get(f"TUCD{number}"))
        for number, column in enumerate(table.columns, start=1)
    ]
    comments = comment_cards([*hdus[0].header.get("COMMENT", ()), *table.header.get("COMMENT", ())])
    return columns, [plain_cards(hdus[0].header), plain_cards(table.header), *comments], others


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
    """Columns of a table of astropy, and its metadata as headers (`table_headers`); masked cells become NaN."""
    columns = []
    for name in table.colnames:
        column = table[name]
        unit = None if column.unit is None else column.unit.to_string()
        values = getattr(column, "value", column)  # a Quantity, or a Column
        if np.ma.isMaskedArray(values) and values.dtype.kind in "biuf":
            values = values.astype(np.float64).filled(np.nan)
        ucd = (getattr(column, "meta", None) or {}).get("ucd")
        columns.append(Column(name, np.asarray(values), unit or None, ucd))
    return columns, table_headers(table.meta)


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
    head = read_bytes(path, 2**16)
    return head.startswith(b"# %ECSV") and META_KEY.encode() in head


def read_table(path, *, medium, fits):
    """Orders and meta of a table of wavelength, flux and optionally error, order and marks of bad pixels.

    Text, CSV, ECSV or FITS; columns as in `columns`. Wavelengths without a unit are in angstrom.
    SpectrumFileError if the file is damaged, or has other columns.
    """
    columns, headers, *others = read_fits_columns(path) if fits else read_text_columns(path)
    columns = _one_row_of_arrays(columns, path)
    orders, meta = orders_of_columns(columns, headers, medium, path)
    if others and others[0]:
        meta["notes"].append(f"Tables not read, though they have a spectrum: {', '.join(others[0])}.")
    return orders, meta | {"file": str(path)}


def _one_row_of_arrays(columns, source):
    """Columns with a row for each pixel, from a table whose cells are arrays: that of one row is one spectrum."""
    # a column of bits has a row of them for each pixel
    arrays = [c for c in columns if np.ndim(c.values) == 2 and role_of(c.name) not in (None, "quality")]
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
    columns, headers = astropy_columns(table)
    columns = _one_row_of_arrays(columns, "the table")
    return orders_of_columns(columns, headers, medium, "the table")
