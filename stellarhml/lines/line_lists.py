"""Lists of atomic and molecular transitions: VALD extracts, Kurucz' gf files, MOOG and linemake, and tables in CSV.

VALD: Ryabchikova et al. (2015), doi:10.1088/0031-8949/90/5/054005. Kurucz' columns: http://kurucz.harvard.edu. In all
of them wavelengths are in air above 2000 angstrom, unless the file says vacuum.
"""

import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stellarhml.exceptions import LineListError, SpectrumFileError
from stellarhml.lines.species import species_of, species_of_code
from stellarhml.physics.wavelength import air_to_vacuum
from stellarhml.storage.packed_files import read_bytes

_WAVENUMBERS_PER_EV = 8065.543937  # 1/cm; CODATA 2018
_AIR_ABOVE = 2000.0  # angstrom
_COLUMNS = {
    "species": ("species", "elm ion", "spec ion", "element"),
    "wavelength": ("wavelength", "wlcent", "wl", "wave", "lambda"),
    "excitation": ("excit", "excitation", "ep", "e_low", "elow", "chi"),
    "log_gf": ("gflog", "log_gf", "loggf", "log gf"),
}


class LineList(NamedTuple):
    """Transitions by increasing wavelength, all (n_transitions,).

    `species` (str, such as "Fe I"), `wavelength` [vacuum angstrom], `excitation` of the lower level [eV], `log_gf`,
    log10 of statistical weight times oscillator strength.
    """

    species: np.ndarray
    wavelength: np.ndarray
    excitation: np.ndarray
    log_gf: np.ndarray


def read_line_list(path, *, format=None, medium=None) -> LineList:
    """Read a list of transitions.

    Parameters
    ----------
    path : str or path-like
        File, which may be gzipped: a VALD extract (long or short format), a gf file of Kurucz (160 columns, nm), a list
        of MOOG or linemake (wavelength, species number, excitation, log gf), or CSV with columns `species`,
        `wavelength` (or `wlcent`), `excitation` (or `excit`) in eV and `log_gf` (or `gflog`).
    format : {"vald", "kurucz", "moog", "csv"}, default=None
        Format of the file. None: recognised from its content.
    medium : {"vacuum", "air"}, default=None
        Medium of the wavelengths. None: as the file states, else air above 2000 angstrom, which is the rule of all
        these lists.

    Returns
    -------
    lines : LineList
        The transitions, in vacuum.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    LineListError
        If it is of another format, or damaged.
    ValueError
        If an argument has another value, or `medium` contradicts the file.
    """
    if format not in (None, *_READERS):
        raise ValueError(f"`format` is {format!r}, but it must be one of {', '.join(_READERS)}, or None.")
    if medium not in (None, "vacuum", "air"):
        raise ValueError(f"`medium` is {medium!r}, but it must be 'vacuum', 'air' or None.")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file. Pass the path of a line list.")
    try:
        text = read_bytes(path).decode("utf-8", errors="replace")
    except SpectrumFileError as error:
        raise LineListError(str(error)) from error
    format = format or _recognise(text, path)
    try:
        table, stated = _READERS[format](text)
    except (ValueError, IndexError, OverflowError) as error:
        raise LineListError(
            f"{path} cannot be read as a line list in the format {format} ({error}). Correct the file or, if that is "
            f"not its format, name it: read_line_list(path, format=...) with one of {', '.join(_READERS)}."
        ) from error
    if medium and stated and medium != stated:
        raise ValueError(f"`medium` is {medium!r}, but {path} states {stated}. Leave `medium` out.")
    return _checked(table, medium or stated, path)


def as_line_list(line_list, *, medium=None) -> LineList:
    """A LineList from one, or from the path of a file in a `medium` as in `read_line_list`."""
    return line_list if isinstance(line_list, LineList) else read_line_list(line_list, medium=medium)


def _recognise(text, path):
    """Format of a text by its first lines."""
    lines = [line for line in text.splitlines()[:50] if line.strip()]
    if any(re.match(r"'[A-Z][A-Za-z0-9]* +\d+',", line) for line in lines):
        return "vald"
    for name, parse in (("kurucz", _kurucz_row), ("moog", _moog_row)):
        if lines and any(_parses(parse, line) for line in lines[:2]):
            return name
    if lines and "," in lines[0]:
        return "csv"
    raise LineListError(
        f"{path} is not a line list of a known format: {', '.join(_READERS)}. Write it as CSV with the columns "
        "species, wavelength, excitation and log_gf."
    )


def _parses(parse, line):
    try:
        parse(line)
    except (ValueError, IndexError):
        return False
    return True


def _read_vald(text):
    """Columns of an extract of VALD, and the medium in its head."""
    head = next((line for line in text.splitlines() if "WL_" in line), "")
    found = [re.search(pattern, head) for pattern in (r"WL_(air|vac)\(([^)]*)\)", r"(?:E_low|Excit)\(([^)]*)\)")]
    if None in found:
        raise ValueError("it has no line with the names of the columns, such as WL_air(A) and E_low(eV)")
    (medium, unit), (energy,) = (match.groups() for match in found)
    long, energy = "E_low" in head, energy.lower()
    records = re.findall(r"^'([A-Z][A-Za-z0-9]* +\d+)',(.*)$", text, re.MULTILINE)
    cells = [[name, *re.split(r"\s*,\s*", rest.strip())] for name, rest in records]
    # long: wavelength, log gf, E_low; short: wavelength, excitation, (microturbulence,) log gf
    excitation, log_gf = (3, 2) if long else (2, 4 if "Vmic" in head else 3)
    table = pd.DataFrame(
        {
            "species": [row[0] for row in cells],
            "wavelength": [float(row[1]) for row in cells],
            "excitation": [float(row[excitation]) for row in cells],
            "log_gf": [float(row[log_gf]) for row in cells],
        }
    )
    if unit.lower() == "nm":
        table["wavelength"] *= 10
    elif unit.lower() in ("cm-1", "cm^-1", "1/cm"):
        table["wavelength"] = 1e8 / table["wavelength"]
    elif unit.lower() != "a":
        raise ValueError(f"its wavelengths are in {unit!r}, but A, nm or cm-1 is needed")
    if energy.startswith("cm"):
        table["excitation"] /= _WAVENUMBERS_PER_EV
    return table, "vacuum" if medium == "vac" else "air"


def _kurucz_row(line):
    """Code, wavelength [angstrom], lower level [eV] and log gf of a line of Kurucz."""
    wavelength, log_gf, code = float(line[:11]), float(line[11:18]), float(line[18:24])
    # predicted levels are negative
    levels = abs(float(line[24:36])), abs(float(line[52:64]))
    return code, 10 * wavelength, min(levels) / _WAVENUMBERS_PER_EV, log_gf


def _read_kurucz(text):
    rows = [_kurucz_row(line) for line in text.splitlines() if line.strip()]
    return _by_code(rows, 100), None


def _moog_row(line):
    """Code, wavelength [angstrom], lower level [eV] and (log) gf of a line of MOOG."""
    words = line.split()
    wavelength, code, excitation, strength = map(float, words[:4])
    if not (1 <= code < 10000 and wavelength > 100 and 0 <= excitation < 100):
        raise ValueError(f"{line.strip()!r} is no line of MOOG")
    return code, wavelength, excitation, strength


def _read_moog(text):
    rows = [line for line in text.splitlines() if line.strip()]
    if not _parses(_moog_row, rows[0]):  # a title
        rows = rows[1:]
    table = _by_code([_moog_row(line) for line in rows], 10)
    if (table["log_gf"] >= 0).all():  # MOOG's own rule: gf itself, unless one is negative
        table["log_gf"] = np.log10(table["log_gf"])
    return table, None


def _by_code(rows, ion_per_unit):
    table = pd.DataFrame(rows, columns=["code", "wavelength", "excitation", "log_gf"])
    names = {code: species_of_code(code, ion_per_unit=ion_per_unit) for code in table["code"].unique()}
    return table.assign(species=table["code"].map(names))


def _read_csv(text):
    """Columns of a table by name."""
    frame = pd.read_csv(io.StringIO(text), comment="#", skipinitialspace=True)
    names = {str(column).strip().lower().split("(")[0].strip(): column for column in frame.columns}
    found = {
        role: next((names[name] for name in accepted if name in names), None) for role, accepted in _COLUMNS.items()
    }
    missing = [role for role, column in found.items() if column is None]
    if missing:
        raise ValueError(f"it has the columns {', '.join(map(str, frame.columns))}, but {', '.join(missing)} is needed")
    table = pd.DataFrame({role: frame[column] for role, column in found.items()})
    numbers = table.columns.drop("species")
    return table.assign(**table[numbers].apply(pd.to_numeric)), None


def _checked(table, medium, path):
    """LineList of a table, in vacuum."""
    numbers = table[["wavelength", "excitation", "log_gf"]].to_numpy(dtype=np.float64)
    if not len(numbers) or not np.isfinite(numbers).all() or (numbers[:, 0] <= 0).any():
        bad = int((~np.isfinite(numbers).all(axis=1) | ~(numbers[:, 0] > 0)).sum())
        raise LineListError(
            f"{path} has {len(numbers)} transitions, {bad} of them without a wavelength, excitation or log gf. Correct "
            "these lines."
        )
    try:
        names = {name: species_of(name) for name in table["species"].unique()}
    except ValueError as error:
        raise LineListError(f"{path} has a species that is not known: {error}") from error
    wavelength = numbers[:, 0].copy()
    in_air = (wavelength > _AIR_ABOVE) & (medium != "vacuum")
    wavelength[in_air] = air_to_vacuum(wavelength[in_air])
    order = np.argsort(wavelength, kind="stable")
    species = table["species"].map(names).to_numpy(dtype=str)
    return LineList(species[order], wavelength[order], numbers[order, 1], numbers[order, 2])


_READERS = {"vald": _read_vald, "kurucz": _read_kurucz, "moog": _read_moog, "csv": _read_csv}
