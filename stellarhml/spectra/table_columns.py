"""Observed spectra in tables: wavelength, flux and its error as text, CSV, ECSV or a FITS binary table."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.physics.wavelength import air_to_vacuum
from stellarhml.spectra.table_files import Column, read_fits_columns, read_text_columns
from stellarhml.storage.atomic_files import atomic_path

_FITS_SUFFIXES = (".fits", ".fit", ".fts")

# Names are compared in lower case.
_NAMES = {
    "wavelength": ("wavelength", "wave", "lambda"),
    "flux": ("flux",),
    "error": ("error", "flux_error", "sigma", "uncertainty"),
}
# What else spectra are published with: known by name, so that it is not taken for an error.
_NOT_ERRORS = {"ivar": "1 / sqrt(ivar)", "variance": "sqrt(variance)", "var": "sqrt(var)"}
# A comment of such names alone is a header.
KNOWN_NAMES = {name for names in _NAMES.values() for name in names} | set(_NOT_ERRORS) | {"order", "mask"}


@dataclass(frozen=True, eq=False)
class SpectrumTable:
    """One observed spectrum.

    Attributes
    ----------
    wavelength : ndarray of shape (n_pixels,), dtype float64
        Vacuum wavelengths in angstrom, strictly increasing.
    flux : ndarray of shape (n_pixels,), dtype float64
        Flux in the unit of the file, finite.
    flux_error : ndarray of shape (n_pixels,), dtype float64, or None
        Standard deviation of the flux in its unit, positive; infinite marks a masked pixel, whose flux is 0.
    path : pathlib.Path
        The file it was read from.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    flux_error: np.ndarray | None
    path: Path


def read_spectrum_table(path, *, medium: str) -> SpectrumTable:
    """Read a table of wavelength, flux and, if there, error.

    Columns are found by name, in any case: `wavelength`, `wave` or `lambda`; `flux`; `error`, `flux_error`, `sigma` or
    `uncertainty`. Without names the order is wavelength, flux, error. A column of wavelengths that states a unit (ECSV,
    FITS) is converted to angstrom; one without is taken to be in angstrom. An error in another unit than the flux
    is converted to that of the flux.

    A pixel is masked if its flux is NaN or infinite, its error NaN, infinite or 0, or a column `mask` is not 0 there
    (or True, as in NumPy). It gets flux 0 and an infinite error; in a table without errors it is left out, because
    nothing could mark it.

    Parameters
    ----------
    path : str or path-like
        The file. `.fits`, `.fit` and `.fts` are FITS; everything else is text: ECSV if it says so in its first line,
        otherwise separated by commas if its first row has any, or by white space. `#` begins a comment.
    medium : {"vacuum", "air"}
        What the wavelengths are measured in. Air is converted to vacuum.

    Returns
    -------
    spectrum : SpectrumTable
        The checked spectrum.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SpectrumFileError
        If the file is empty, truncated or not numeric, or has no two columns, wavelengths that are not finite or do
        not increase, negative errors, or inverse variances in place of errors.
    """
    if medium not in ("vacuum", "air"):
        raise ValueError(
            f"`medium` is {medium!r}, but it must be 'vacuum' or 'air': what the wavelengths of the file are measured "
            "in."
        )
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Pass the path of a table of wavelength, flux and error.")
    if path.suffix.lower() in _FITS_SUFFIXES:
        columns = read_fits_columns(path)
    else:
        columns = read_text_columns(path, KNOWN_NAMES)
    columns, marked = take_mask(columns, path)
    wavelength, flux, error = choose_columns(columns, path)
    grid = _check_wavelength(wavelength, path)
    if medium == "air":
        try:
            grid = air_to_vacuum(grid)
        except ValueError as error:
            raise SpectrumFileError(f"{path} cannot be converted from air to vacuum: {error}") from error
    values = flux.values.copy()
    marked = np.zeros(len(values), dtype=bool) if marked is None else marked
    if error is None:
        good = np.isfinite(values) & ~marked
        return SpectrumTable(grid[good], values[good], None, path)
    errors = _check_error(error, flux, path)
    masked = ~np.isfinite(values) | ~np.isfinite(errors) | (errors == 0) | marked
    values[masked], errors[masked] = 0.0, np.inf
    return SpectrumTable(grid, values, errors, path)


def write_spectrum_table(path, wavelength, flux, flux_error=None) -> None:
    """Write a spectrum as a table that `read_spectrum_table` reads back exactly.

    Parameters
    ----------
    path : str or path-like
        File to write; the suffix chooses the format: `.ecsv`, `.csv` or `.fits`. It appears under its name only
        when it is whole.
    wavelength : array-like of shape (n_pixels,)
        Vacuum wavelengths in angstrom.
    flux : array-like of shape (n_pixels,)
        Flux, any unit.
    flux_error : array-like of shape (n_pixels,), default=None
        Standard deviation of the flux; infinite marks a masked pixel.

    Raises
    ------
    ValueError
        If the suffix is unknown or the lengths differ.
    """
    from astropy.table import Table

    path = Path(path)
    formats = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", **dict.fromkeys(_FITS_SUFFIXES, "fits")}
    if path.suffix.lower() not in formats:
        raise ValueError(
            f"`path` is {path}, but its suffix must be one of {', '.join(formats)}, which choose the format."
        )
    columns = {"wavelength": wavelength, "flux": flux}
    if flux_error is not None:
        columns["error"] = flux_error
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    shapes = {name: values.shape for name, values in columns.items()}
    if columns["wavelength"].ndim != 1 or len(set(shapes.values())) != 1:
        raise ValueError(f"The columns have the shapes {shapes}, but one-dimensional arrays of one length are needed.")
    table = Table(columns)
    table["wavelength"].unit = "Angstrom"
    with atomic_path(path) as temporary:
        table.write(temporary, format=formats[path.suffix.lower()])


def take_mask(columns, path):
    """The column `mask`, and the others.

    Parameters
    ----------
    columns : list of Column
        All columns of a table.
    path : pathlib.Path
        Its file, for messages.

    Returns
    -------
    others : list of Column
        All but it.
    masked : ndarray of shape (n_pixels,), bool, or None
        True where it is not 0, as in NumPy: a pixel to leave out. None if there is none.

    Raises
    ------
    SpectrumFileError
        If there are several.
    """
    masks = [column for column in columns if column.name.strip().lower() == "mask"]
    if len(masks) > 1:
        raise SpectrumFileError(f"{path} has {len(masks)} columns named 'mask', but one is needed. Rename the others.")
    others = [column for column in columns if all(column is not mask for mask in masks)]
    return others, masks[0].values != 0 if masks else None  # NaN is masked


def choose_columns(columns, path):
    """The columns of wavelength, flux and error (or None), by name or by order.

    Parameters
    ----------
    columns : list of Column
        All columns of a table.
    path : pathlib.Path
        Its file, for messages.

    Returns
    -------
    wavelength, flux, error : Column
        The three; the last is None if there is none.

    Raises
    ------
    SpectrumFileError
        If one is missing or there are several, or the table has inverse variances or variances in place of errors.
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
                    f"{path} has a column {column.name!r} and none of errors, but a standard deviation is needed, not "
                    f"that. Write {cure} as a column named 'error', or drop the column."
                )
    return chosen["wavelength"], chosen["flux"], chosen["error"]


def wavelength_in_angstrom(column: Column, path):
    """Wavelengths of a column converted to angstrom; without a unit they are taken to be that.

    Parameters
    ----------
    column : Column
        Wavelengths.
    path : pathlib.Path
        Its file, for messages.

    Returns
    -------
    wavelength : ndarray of shape (n_pixels,)
        In angstrom.

    Raises
    ------
    SpectrumFileError
        If the unit is unknown, or none of length.
    """
    from astropy import units as u

    if column.unit is None:
        return column.values
    try:
        # astropy has no plural of it, many files do
        unit = u.AA if column.unit.lower() in ("angstrom", "angstroms") else u.Unit(column.unit)
        return unit.to(u.AA, column.values)
    except (ValueError, TypeError) as error:
        raise SpectrumFileError(
            f"{path} has wavelengths in {column.unit!r}, but a unit of length that astropy knows is needed. "
            "Convert the column to angstrom."
        ) from error


def error_in_flux_unit(column: Column, flux: Column, path):
    """Errors of a column converted to the unit of the fluxes.

    Parameters
    ----------
    column, flux : Column
        Errors and fluxes.
    path : pathlib.Path
        Their file, for messages.

    Returns
    -------
    errors : ndarray of shape (n_pixels,)
        A copy, in the unit of the flux.

    Raises
    ------
    SpectrumFileError
        If the units do not convert into each other.
    """
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


def _check_wavelength(column: Column, path):
    """Wavelengths in angstrom, finite and strictly increasing."""
    grid = wavelength_in_angstrom(column, path)
    n_bad = int(np.count_nonzero(~np.isfinite(grid)))
    if n_bad:
        raise SpectrumFileError(
            f"{path} has {n_bad} wavelengths that are NaN or infinite, but all must be finite. Remove those rows."
        )
    if np.any(grid <= 0):
        raise SpectrumFileError(f"{path} has a wavelength of {grid.min():g}, but all must be positive.")
    steps = np.diff(grid)
    if np.any(steps <= 0):
        first = int(np.argmax(steps <= 0))
        cure = (
            "They decrease throughout: reverse the rows."
            if np.all(steps < 0)
            else "Sort the rows by wavelength, drop repeated ones, and read overlapping orders one by one."
        )
        raise SpectrumFileError(
            f"{path} has wavelengths that do not increase strictly: row {first + 1} ({grid[first + 1]:.4f} angstrom) "
            f"does not exceed row {first} ({grid[first]:.4f} angstrom). {cure}"
        )
    return np.asarray(grid, dtype=np.float64)


def _check_error(column: Column, flux: Column, path):
    """Errors in the unit of the flux, none of them negative."""
    errors = error_in_flux_unit(column, flux, path)
    n_negative = int(np.count_nonzero(errors < 0))
    if n_negative:
        raise SpectrumFileError(
            f"{path} has {n_negative} negative errors, but a standard deviation is positive. Write 0, NaN or inf "
            "where a pixel is to be masked."
        )
    return errors
