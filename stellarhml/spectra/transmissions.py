"""Reading of the transmission of the atmosphere from files."""

import warnings
from pathlib import Path

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.array_files import split_cards
from stellarhml.spectra.atmosphere import Atmosphere
from stellarhml.spectra.columns import Column, in_angstrom, numbers, role_of
from stellarhml.spectra.orders import to_vacuum
from stellarhml.spectra.statements import Statement, check_medium, is_statement, stated_medium
from stellarhml.spectra.tables import astropy_columns, read_fits_columns, read_text_columns
from stellarhml.storage.file_sizes import read_npz_arrays, refuse_large
from stellarhml.storage.packed_files import read_bytes

_TRANSMISSION = ("transmission", "trans", "flux")
_TOTAL = ("transmission", "transmittance", "trans", "mtrans", "flux")
_SPECIES = ("H2O", "O2", "CO2", "CH4", "CO", "N2O", "O3", "N2", "NO2", "NO", "NH3", "SO2", "OCS", "HNO3")
_GAP = 10.0  # median steps: the transmission is unknown in wider gaps
_HIGHEST = 2.0  # values above are not a transmission, but percent or counts


def read_transmission(path):
    r"""Read the transmission of the atmosphere from a file.

    Parameters
    ----------
    path : str or path-like
        An npz file, a FITS table or a table in text, CSV or ECSV with a column each of wavelength (in angstrom, or in
        the unit that the column states; in vacuum unless the file says air) and transmission (1 where the air is
        clear). Columns are found by
        name (`wavelength`, `wavelength_A`, `wave` or `lambda`; `transmission`, `trans` or `flux`, else columns by
        species as of `read_atmosphere`, which are multiplied: their amounts are those of the table), or by position if
        there are two without names. Rows may be in any order.

    Returns
    -------
    wavelength, transmission : ndarray of shape (n,)
        As `mask_tellurics` and `divide_tellurics` take them: vacuum angstrom, strictly increasing. Gaps wider than ten
        steps, as between the orders of a spectrograph, have one NaN: the transmission is unknown there.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SpectrumFileError
        If the file is damaged, has other columns, or has values outside the range of a transmission.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from stellarhml.spectra import read_transmission
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name) / "air.txt"
    >>> _ = path.write_text("# wavelength transmission\n5000.1 0.7\n5000.0 1.0\n5000.2 0.9\n")
    >>> read_transmission(path)
    (array([5000. , 5000.1, 5000.2]), array([1. , 0.7, 0.9]))
    >>> folder.cleanup()
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file. Pass a table of wavelength and transmission.")
    wavelength, transmission = _columns(path)
    _check_values(path, wavelength, transmission)
    return _sorted(path, wavelength, transmission)


def read_atmosphere(path, *, medium=None, unit=None):
    """Read the transmission of the atmosphere by species, for `infer(tellurics=...)`.

    Lines must be resolved: a transmission at the resolution of a spectrograph is already convolved
    (:func:`stellarhml.calibration.resolve_tellurics` makes lines of it).

    Parameters
    ----------
    path : str or path-like
        An npz file, a FITS table, IPAC, VOTable, or a table in text, CSV or ECSV: a column of wavelengths, and one or
        more of transmissions (1 where the air is clear), named by species: `H2O`, `O2`, `CO2`, `CH4`, `CO`, `N2O`,
        `O3`, ..., in any case, also as `trans_H2O`. A single transmission (`transmission`, `transmittance`, `trans`,
        `flux`, or the second of two columns without names) is one species called "air". Known formats: TAPAS
        (`wavelength`, `transmittance`); SkyCalc of ESO (`lam`; `trans_ma`, the absorption by molecules, as "air", and
        `trans_o3`, or `trans` where there are no parts; scattering is left to the continuum); Molecfit (`mlambda`, else
        `lambda`, in micron and vacuum; `mtrans`); the text of TelFit (two columns without names, in nm).
    medium : {"vacuum", "air"}, default=None
        Medium of the wavelengths; required where the file does not state it. Air is converted to vacuum.
    unit : str, default=None
        Unit of the wavelengths: required for columns without names, else as the file states, or angstrom.

    Returns
    -------
    atmosphere : Atmosphere
        Vacuum wavelengths in angstrom, strictly increasing, and transmissions by species, NaN in gaps.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SpectrumFileError
        If the file is damaged, has other columns, values outside the range of a transmission, or does not state what
        the parameters must then state.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from stellarhml.spectra import read_atmosphere
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name) / "air.csv"
    >>> rows = ["wavelength (nm),H2O,O2", "850.00,1,1", "850.01,0.7,1", "850.02,1,0.9"]
    >>> _ = path.write_text(chr(10).join(rows))
    >>> read_atmosphere(path, medium="vacuum").species
    ('H2O', 'O2')
    >>> folder.cleanup()
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file. Pass a table of transmissions.")
    columns, headers = _named_columns(path, unit)
    names = {column.name.strip().lower(): column for column in columns}
    chosen = _species_columns(names)
    grid = names.get("mlambda") or next((c for c in columns if _is_wavelength(c.name)), None)
    if grid is None or not chosen:
        raise SpectrumFileError(
            f"{path} has the columns {', '.join(map(repr, names)) or 'none'}, but a wavelength and transmissions of "
            f"{', '.join(_SPECIES[:5])}, ... or a {' or '.join(_TOTAL[:2])} are needed. Rename them."
        )
    by_format = []
    if "mtrans" in names:  # Molecfit works in vacuum and in micron
        by_format, grid = (
            [Statement("vacuum", "the format Molecfit")],
            grid._replace(name="lambda", unit=grid.unit or "um"),
        )
    wavelength, _, stated = in_angstrom(grid if unit is None else grid._replace(unit=unit), path)
    stated = [*by_format, *stated_medium(headers), *stated]
    if medium is None and not stated:
        raise SpectrumFileError(
            f"{path} does not state whether its wavelengths are in vacuum or in air. Pass medium='vacuum' or 'air' to "
            "read_atmosphere; on the command line, --tellurics-medium."
        )
    wavelength = to_vacuum(wavelength, check_medium(medium, stated), path)
    rows = {name: numbers(column, path) for name, column in chosen.items()}
    for name, row in rows.items():
        _check_values(path, wavelength, row, f" of {name}")
    wavelength, *table = _sorted(path, wavelength, *rows.values())
    return Atmosphere(wavelength, dict(zip(rows, table, strict=True)))


def _sorted(path, wavelength, *rows):
    """Wavelengths and rows (n,) by increasing wavelength, with a NaN in each gap."""
    order = np.argsort(wavelength, kind="stable")
    wavelength = wavelength[order]
    steps = np.diff(wavelength)
    if np.any(steps == 0):
        twice = wavelength[int(np.argmin(steps))]
        raise SpectrumFileError(f"{path} has the wavelength {twice:.4f} angstrom twice. Keep one row for each.")
    gaps = np.flatnonzero(steps > _GAP * np.median(steps)) + 1
    middle = (wavelength[gaps - 1] + wavelength[gaps]) / 2
    return np.insert(wavelength, gaps, middle), *(np.insert(row[order], gaps, np.nan) for row in rows)


def _species_columns(names):
    """Columns of transmissions by species, from columns by name in lower case."""
    found = {}
    for name, column in names.items():
        bare = name.removeprefix("transmission_").removeprefix("trans_").removeprefix("t_")
        species = next((known for known in _SPECIES if known.lower() == bare), None)
        if species:
            found[species] = column
    if "trans_ma" in names:
        return {"air": names["trans_ma"]} | found
    total = next((names[name] for name in _TOTAL if name in names), None)
    return found or ({} if total is None else {"air": total})


def _named_columns(path, unit):
    """Columns of a file and its headers; the two of a file without names become wavelength and transmission."""
    head = read_bytes(path, 9)
    if head.startswith(b"PK\x03\x04"):
        columns, headers = _npz_columns(path, _is_of_atmosphere)
    elif head == b"SIMPLE  =":
        columns, headers, _ = read_fits_columns(path)
    elif head[:1] in (b"\\", b"|") or head.startswith(b"<?xml"):
        columns, headers = _astropy_columns(path, "votable" if head.startswith(b"<") else "ascii.ipac")
    else:
        columns, headers = read_text_columns(path, _is_atmosphere_header)
    if any(column.name for column in columns):
        return columns, headers
    if len(columns) != 2 or unit is None:
        raise SpectrumFileError(
            f"{path} has {len(columns)} columns without names; two with a stated unit are needed: pass unit='nm' (as "
            "TelFit writes), 'um' or 'angstrom', or write a first line such as '# wavelength H2O O2'."
        )
    return [c._replace(name=name) for c, name in zip(columns, ("wavelength", "transmission"), strict=True)], headers


def _astropy_columns(path, format):
    """Columns of an IPAC table or a VOTable, and its headers."""
    from astropy.table import Table

    refuse_large(path, "text")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return astropy_columns(Table.read(path, format=format))
    except Exception as error:  # astropy raises its own errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SpectrumFileError(f"{path} cannot be read as {format} ({reason}); it is damaged or truncated.") from error


def _is_of_atmosphere(name):
    name = name.strip().lower()
    return _is_wavelength(name) or name == "mlambda" or bool(_species_columns({name: None}))


def _is_atmosphere_header(words):
    return any(map(_is_wavelength, words)) and any(_species_columns({word.strip().lower(): 1}) for word in words)


def _check_values(path, wavelength, transmission, what=""):
    """Raise unless wavelengths are finite and positive, and transmissions within their range."""
    if len(wavelength) < 2 or not (np.all(np.isfinite(wavelength)) and np.all(wavelength > 0)):
        raise SpectrumFileError(
            f"{path} has {len(wavelength)} wavelengths, of which {int(np.sum(~(wavelength > 0)))} are not positive, "
            "but at least two are needed, all finite and positive."
        )
    known = transmission[np.isfinite(transmission)]
    if not len(known) or known.min() < -0.5 or known.max() > _HIGHEST:
        ends = f"{known.min():g} to {known.max():g}" if len(known) else "none that is finite"
        raise SpectrumFileError(
            f"{path} has transmissions{what} of {ends}, but 1 where the air is clear and 0 where it is opaque are "
            "needed. Divide by the level of clear air."
        )


def _columns(path):
    """Wavelength in angstrom and transmission, by name or by order."""
    head = read_bytes(path, 9)
    if head.startswith(b"PK\x03\x04"):
        columns, headers = _npz_columns(path, lambda name: _is_transmission(name) or _is_of_atmosphere(name))
    elif head == b"SIMPLE  =":
        columns, headers, _ = read_fits_columns(path)
    else:
        columns, headers = read_text_columns(path, _is_header)
    if not any(column.name for column in columns):
        if len(columns) != 2:
            raise SpectrumFileError(
                f"{path} has {len(columns)} columns without names, but two, wavelength and transmission, are needed. "
                "Write a first line with their names."
            )
        columns = [column._replace(name=name) for column, name in zip(columns, ("wavelength", "flux"), strict=True)]
    arrays = {column.name: None for column in columns}
    for column in columns:
        if _is_wavelength(column.name):
            arrays[column.name] = _vacuum(column, headers, path)
        elif _is_transmission(column.name):
            arrays[column.name] = numbers(column, path)
    species = _species_columns({column.name.strip().lower(): column for column in columns})
    if species and not any(map(_is_transmission, arrays)):
        arrays["trans"] = np.prod([numbers(column, path) for column in species.values()], axis=0)
    chosen = []
    by_preference = sorted(filter(_is_transmission, arrays), key=lambda name: _TRANSMISSION.index(name.strip().lower()))
    for accepted, names in (
        (("wavelength", "wave", "lambda"), filter(_is_wavelength, arrays)),
        (_TRANSMISSION, by_preference),
    ):
        found = next(iter(names), None)
        if found is None:
            raise SpectrumFileError(
                f"{path} has the columns {', '.join(map(repr, arrays)) or 'none'}, but one named "
                f"{' or '.join(accepted)} is needed, in any case of letters. Rename it."
            )
        chosen.append(arrays[found])
    if chosen[0].shape != chosen[1].shape or chosen[0].ndim != 1:
        raise SpectrumFileError(
            f"{path} has wavelengths of shape {chosen[0].shape} and transmissions of shape {chosen[1].shape}, but one "
            "length is needed. Write them anew."
        )
    return chosen


def _vacuum(column, headers, path):
    """Vacuum wavelengths [angstrom] of a column, which are in air if the file says so."""
    wavelength, _, stated = in_angstrom(column, path)
    stated = [*stated_medium(headers), *stated]
    return to_vacuum(wavelength, check_medium(None, stated) if stated else "vacuum", path)


def _npz_columns(path, wanted):
    """Arrays of an npz file that are `wanted` as columns, and its keywords as headers; pickles are refused."""
    try:
        # a damaged file raises any of a dozen exceptions
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays, _ = read_npz_arrays(
                path,
                lambda names: [n for n in names if is_statement(n) or wanted(n)],
            )
        cards, arrays = split_cards(arrays)
        return [Column(name, array) for name, array in arrays.items()], [cards]
    except SpectrumFileError:
        raise
    except Exception as error:
        raise SpectrumFileError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as an npz file ({type(error).__name__}: {error}); it "
            "is damaged or truncated. Copy it again."
        ) from error


def _is_header(words):
    return _is_atmosphere_header(words) or (any(map(_is_wavelength, words)) and any(map(_is_transmission, words)))


def _is_wavelength(name):
    return role_of(name) == "wavelength"


def _is_transmission(name):
    return name.strip().lower() in _TRANSMISSION
