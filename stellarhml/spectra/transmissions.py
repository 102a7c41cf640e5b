"""Reading of the transmission of the atmosphere from files."""

import warnings
from pathlib import Path

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.array_files import split_cards
from stellarhml.spectra.columns import Column, in_angstrom, numbers, role_of
from stellarhml.spectra.orders import to_vacuum
from stellarhml.spectra.statements import check_medium, is_statement, stated_medium
from stellarhml.spectra.tables import read_fits_columns, read_text_columns
from stellarhml.storage.file_sizes import read_npz_arrays
from stellarhml.storage.packed_files import read_bytes

_TRANSMISSION = ("transmission", "trans", "flux")
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
        name (`wavelength`, `wavelength_A`, `wave` or `lambda`; `transmission`, `trans` or `flux`), or by position if
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
    if len(wavelength) < 2 or not (np.all(np.isfinite(wavelength)) and np.all(wavelength > 0)):
        raise SpectrumFileError(
            f"{path} has {len(wavelength)} wavelengths, of which {int(np.sum(~(wavelength > 0)))} are not positive, "
            "but at least two are needed, all finite and positive."
        )
    known = transmission[np.isfinite(transmission)]
    if not len(known) or known.min() < -0.5 or known.max() > _HIGHEST:
        ends = f"{known.min():g} to {known.max():g}" if len(known) else "none that is finite"
        raise SpectrumFileError(
            f"{path} has transmissions of {ends}, but 1 where the air is clear and 0 where it is opaque are needed. "
            "Divide by the level of clear air."
        )
    order = np.argsort(wavelength, kind="stable")
    wavelength, transmission = wavelength[order], transmission[order]
    steps = np.diff(wavelength)
    if np.any(steps == 0):
        twice = wavelength[int(np.argmin(steps))]
        raise SpectrumFileError(f"{path} has the wavelength {twice:.4f} angstrom twice. Keep one row for each.")
    gaps = np.flatnonzero(steps > _GAP * np.median(steps)) + 1
    middle = (wavelength[gaps - 1] + wavelength[gaps]) / 2
    return np.insert(wavelength, gaps, middle), np.insert(transmission, gaps, np.nan)


def _columns(path):
    """Wavelength in angstrom and transmission, by name or by order."""
    head = read_bytes(path, 9)
    if head.startswith(b"PK\x03\x04"):
        columns, headers = _npz_columns(path)
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


def _npz_columns(path):
    """Arrays of an npz file as columns, and its keywords as headers; pickles are refused."""
    try:
        # a damaged file raises any of a dozen exceptions
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays, _ = read_npz_arrays(
                path,
                lambda names: [n for n in names if _is_wavelength(n) or _is_transmission(n) or is_statement(n)],
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
    return any(map(_is_wavelength, words)) and any(map(_is_transmission, words))


def _is_wavelength(name):
    return role_of(name) == "wavelength"


def _is_transmission(name):
    return name.strip().lower() in _TRANSMISSION
