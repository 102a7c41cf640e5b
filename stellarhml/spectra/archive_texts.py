"""Text that archives give: Libre-ESpRIT (ESPaDOnS, NARVAL), IPAC tables, VOTables, and Gaia's RVS spectra."""

import csv
import io
import json
import re
import warnings

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.archives import hires_spectrum, libre_esprit_spectrum
from stellarhml.spectra.columns import numbers, orders_of_columns
from stellarhml.spectra.raw_spectrum import RawOrder, RawSpectrum, convert
from stellarhml.spectra.tables import astropy_columns, read_fits_columns, read_text_columns
from stellarhml.storage.packed_files import read_bytes

_GAIA_NM = np.round(846 + 0.01 * np.arange(2401), 2)  # grid of rvs_mean_spectrum, Gaia DR3 documentation 20.12.1
_GAIA_POWER = 11500.0  # Cropper et al. (2018), doi:10.1051/0004-6361/201832763
_GAIA = {"unit": "nm", "medium": "vacuum", "frame": "star", "resolving_power": _GAIA_POWER}
TEXTS = {
    "espadons": "Libre-ESpRIT of ESPaDOnS and NARVAL",
    "gaia": "Gaia RVS",
    "ipac": "IPAC table",
    "votable": "VOTable",
    "hires": "HIRES of KOA",
}


def recognise_text(head):
    """Name of the format of a text by its first bytes, or None for an ordinary table."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    first = start.split(b"\n", 1)[0]
    if start.startswith(b"***Reduced spectrum"):
        return "espadons"
    if start.startswith((b"<?xml", b"<VOTABLE")) and b"VOTABLE" in start:
        return "votable"
    if start.startswith((b"\\", b"|")):
        return "hires" if b"Sig_to_Noise" in head and b"Arc_Lamp" in head else "ipac"
    if b"," in first and {b"combined_transits", b"flux", b"flux_error"} <= set(first.strip().split(b",")):
        return "gaia"
    return None


def read_archive_text(path, format, medium):
    """Orders and meta of a text in one of `TEXTS`; SpectrumFileError if it is damaged or another kind of file."""
    content = read_bytes(path)
    kind = recognise_text(content[:4096])
    if kind == "votable" and format in ("votable", "gaia"):
        return _read_votable(path, content, medium, gaia=format == "gaia")
    if kind in ("ipac", "hires") and format in ("ipac", kind):
        return _read_ipac(path, content, medium, hires=format == "hires")
    if kind == format == "gaia":
        return _from_gaia_rows(path, *_csv_cells(path, content), medium)
    if kind is None and format == "gaia":  # its CSV of one row for each pixel has nothing to be recognised by
        columns, headers = read_text_columns(path)
        return _from_gaia_pixels(path, columns, headers, medium)
    if kind in (None, "espadons") and format == "espadons":  # a file without the two lines of header, too
        return _read_espadons(path, content, medium)
    raise SpectrumFileError(
        f"{path} is a text file without the marks of format={format!r}. Leave `format` out, or pass the file that you "
        "mean."
    )


def read_gaia_fits(path, medium):
    """Orders and meta of a FITS table of one RVS spectrum, a row for each pixel, or a row of arrays."""
    columns, headers, _ = read_fits_columns(path)
    if "combined_transits" in {column.name for column in columns}:
        return _from_gaia_rows(path, {column.name: column.values for column in columns}, headers, medium)
    return _from_gaia_pixels(path, columns, headers, medium)


def _read_espadons(path, content, medium):
    """Wavelength [nm, air], intensity, error; or with Stokes V and two null spectra before the error."""
    lines = content.decode("utf-8-sig", errors="replace").splitlines()
    lines = [line for line in lines if line.strip()]
    stated = None
    if lines and lines[0].startswith("***"):
        stated, lines = (lines[1].split() if len(lines) > 1 else []), lines[2:]
    try:
        table = np.loadtxt(io.StringIO("\n".join(lines)), ndmin=2)
    except ValueError as error:
        raise SpectrumFileError(
            f"{path} has a row that is not made of numbers, or of another number of them than the first ({error}); it "
            "may be truncated. Copy it again."
        ) from error
    n_rows, n_columns = table.shape
    if n_columns not in (3, 6):
        raise SpectrumFileError(
            f"{path} has {n_columns} columns, but Libre-ESpRIT writes 3 (wavelength, intensity, error) or 6 (with "
            "Stokes V and two null spectra before the error). Write a first line with the names of the columns."
        )
    if stated is not None and stated != [str(n_rows), str(n_columns - 1)]:
        raise SpectrumFileError(
            f"{path} has {n_rows} rows of {n_columns} columns, but its second line states "
            f"{' '.join(stated) or 'nothing'}; it is truncated or changed. Copy it again."
        )
    used = f"1 (wavelength), 2 (intensity), {n_columns} (error)"
    ignored = ["Columns ignored: 3 (Stokes V), 4 and 5 (null spectra)."] if n_columns == 6 else []
    raw = libre_esprit_spectrum(path, table[:, 0], table[:, 1], table[:, -1], used, ignored)
    return convert(raw, path, "espadons", medium)


def _read_ipac(path, content, medium, *, hires):
    """A table between bars, of which names, types and units are the header."""
    from astropy.table import Table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            table = Table.read(content.decode("utf-8", errors="replace").splitlines(), format="ascii.ipac")
        except Exception as error:  # astropy raises its own errors, ValueError, IndexError, ...
            raise SpectrumFileError(
                f"{path} cannot be read as an IPAC table ({type(error).__name__}: {error}); it is damaged, or its "
                "header lacks the line of types. Copy it again."
            ) from error
    columns, _ = astropy_columns(table)
    cards = {str(key).upper(): entry["value"] for key, entry in (table.meta.get("keywords") or {}).items()}
    if hires:
        missing = {"wave", "Flux", "Error"} - {column.name for column in columns}
        if missing:
            raise SpectrumFileError(f"{path} has no column {min(missing)!r}, but tables of HIRES do. Copy it again.")
        values = {column.name: numbers(column, path) for column in columns if column.name in ("wave", "Flux", "Error")}
        return convert(hires_spectrum(values["wave"], values["Flux"], values["Error"], [cards]), path, "hires", medium)
    orders, meta = orders_of_columns(columns, [cards], medium, path)
    return orders, meta | {"file": str(path), "format": "ipac"}


def _read_votable(path, content, medium, *, gaia):
    """The first table of a VOTable; one of `gaia` needs no marks of it."""
    from astropy.io.votable import parse

    if re.search(rb"<!ENTITY|<STREAM[^>]*\shref\s*=", content, re.IGNORECASE):
        raise SpectrumFileError(
            f"{path} is a VOTable whose data lie elsewhere (STREAM href), or which defines entities; nothing is read "
            "from there. Save it with its data in it."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            votable = parse(io.BytesIO(content), verify="ignore")
            inner = votable.get_first_table()
            table = inner.to_table()
        except Exception as error:  # expat and astropy raise their own errors
            reason = (str(error).strip().splitlines() or [""])[0]
            raise SpectrumFileError(
                f"{path} cannot be read as a VOTable ({type(error).__name__}: {reason}); it is damaged or truncated. "
                "Copy it again."
            ) from error
    cards = {str(param.name or param.ID).upper(): param.value for param in inner.params}
    columns, _ = astropy_columns(table)
    names = {column.name for column in columns}
    if {"combined_transits", "flux", "flux_error"} <= names:
        cells = {column.name: column.values for column in columns}
        return _from_gaia_rows(path, cells, [cards], medium)
    if gaia or "COMBINED_TRANSITS" in cards:
        return _from_gaia_pixels(path, columns, [cards], medium)
    orders, meta = orders_of_columns(columns, [cards], medium, path)
    return orders, meta | {"file": str(path), "format": "votable"}


def _csv_cells(path, content):
    """Cells of a CSV of Gaia, one row for each source, by column; arrays are lists in brackets. And no headers."""
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig", errors="replace"))))
        cells = {
            name: [
                np.array(json.loads(row[name].replace("(", "[").replace(")", "]")), dtype=np.float64) for row in rows
            ]
            for name in ("flux", "flux_error")
        }
    except (ValueError, TypeError, AttributeError, KeyError, csv.Error) as error:
        raise SpectrumFileError(
            f"{path} has no arrays of numbers in its columns flux and flux_error ({type(error).__name__}: {error}); it "
            "may be truncated. Download it again."
        ) from error
    return cells, []


def _from_gaia_rows(path, cells, headers, medium):
    """A row of arrays for each source (RAW); their wavelengths are those of the documentation."""
    rows = [np.ma.filled(np.ma.asarray(row, dtype=np.float64), np.nan) for row in cells["flux"]]
    if len(rows) != 1:
        raise SpectrumFileError(
            f"{path} has {len(rows)} sources, but the spectrum of one is needed. Download it with one file for each "
            "source (INDIVIDUAL)."
        )
    flux, error = rows[0], np.ma.filled(np.ma.asarray(cells["flux_error"][0], dtype=np.float64), np.nan)
    if not flux.shape == error.shape == _GAIA_NM.shape:
        raise SpectrumFileError(
            f"{path} has arrays of the shapes {flux.shape} and {error.shape}, but {_GAIA_NM.shape}, from 846 to 870 nm "
            "in steps of 0.01 nm, is needed. Download it again."
        )
    used = "flux, flux_error (846 to 870 nm in steps of 0.01 nm)"
    raw = RawSpectrum([RawOrder(0, _GAIA_NM, flux, error)], used, headers=headers, **_GAIA)
    return convert(raw, path, "gaia", medium)


def _from_gaia_pixels(path, columns, headers, medium):
    """A row for each pixel (INDIVIDUAL)."""
    found = {column.name: column for column in columns}
    missing = [name for name in ("wavelength", "flux", "flux_error") if name not in found]
    if missing:
        raise SpectrumFileError(
            f"{path} has the columns {', '.join(map(repr, found))}, but {', '.join(map(repr, missing))} is needed too. "
            "Download the RVS mean spectrum again."
        )
    if (found["wavelength"].unit or "nm") != "nm":
        raise SpectrumFileError(
            f"{path} has wavelengths in {found['wavelength'].unit!r}, but Gaia's are in nm. Leave `format` out."
        )
    arrays = [numbers(found[name], path) for name in ("wavelength", "flux", "flux_error")]
    raw = RawSpectrum([RawOrder(0, *arrays)], "wavelength, flux, flux_error", headers=headers, **_GAIA)
    return convert(raw, path, "gaia", medium)
