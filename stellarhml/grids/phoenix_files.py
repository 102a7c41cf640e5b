"""Read PHOENIX-ACES spectra in the layout in which Goettingen publishes them.

One folder holds `WAVE_PHOENIX-ACES-AGSS-COND-2011.fits`, the vacuum wavelengths of all files in angstrom, and
`PHOENIX-ACES-AGSS-COND-2011/Z-0.0/lte05800-4.50-0.0.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits`, one spectrum each, flux in
erg/s/cm^2/cm. Reference: Husser et al. (2013), A&A 553, A6, doi:10.1051/0004-6361/201219058. Files may be compressed by
gzip (`.fits.gz`).

The archives of MedResFITS, such as `PHOENIX-ACES-AGSS-COND-2011_R10000FITS_Z-0.0.zip`, unpack to files of the same
names without a WAVE file. Headers give their wavelengths in angstrom: linear in A1FITS (`CTYPE1` AWAV), and natural
logarithms in R10000FITS (AWAV-LOG), other than the FITS standard has it.
"""

import re
from itertools import product
from pathlib import Path

import numpy as np

from stellarhml._grid_faults import describe_stretch, stretch_without_light
from stellarhml.exceptions import GridNotFoundError, SpectrumFileError
from stellarhml.spectra.orders import to_vacuum
from stellarhml.storage.fits_files import read_fits

GRID_NAME = "PHOENIX-ACES-AGSS-COND-2011"
WAVE_NAME = f"WAVE_{GRID_NAME}.fits"

_FILE_NAME = re.compile(
    r"lte(?P<teff>\d{5})(?P<logg>[+-]\d\.\d{2})(?P<feh>[+-]\d\.\d)(?:\.Alpha=(?P<alpha>[+-]\d\.\d{2}))?\."
    + re.escape(GRID_NAME)
    + r"-HiRes\.fits(?:\.gz)?"
)
_MEDRES = re.compile(re.escape(GRID_NAME) + r"_(R10000FITS|A1FITS)_Z.*")
_HEADER_KEYS = ("PHXTEFF", "PHXLOGG", "PHXM_H", "PHXALPHA")
_ANGSTROM = {"", "a", "aa", "angstrom", "angstroms"}
_ALL_PIXELS = slice(None)
_FITS_BLOCK = 2880  # bytes, by the FITS standard


def phoenix_file_name(teff: float, logg: float, feh: float, alpha: float = 0.0) -> Path:
    """Path of one spectrum, relative to the folder of the grid.

    `teff` [K] is a whole number; `logg` [log10 of cm/s2] and `alpha` [dex] have at most two decimals, `feh` [dex] one,
    else ValueError. A metallicity of zero is written `-0.0`, an [alpha/Fe] of zero not at all.

    Examples
    --------
    >>> from stellarhml.grids.phoenix_files import phoenix_file_name
    >>> phoenix_file_name(5800, 4.5, 0.0).as_posix()
    'PHOENIX-ACES-AGSS-COND-2011/Z-0.0/lte05800-4.50-0.0.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits'
    >>> phoenix_file_name(5800, 4.5, -0.5, alpha=0.2).parts[1]
    'Z-0.5.Alpha=+0.20'
    """
    for name, value, decimals in (("teff", teff, 0), ("logg", logg, 2), ("feh", feh, 1), ("alpha", alpha, 2)):
        if not np.isclose(value, np.round(value, decimals), rtol=0, atol=1e-6):
            raise ValueError(
                f"`{name}` is {value}, but PHOENIX file names hold {decimals} decimals of it. Pass the label of a "
                "node of the grid."
            )
    # Adding the zero turns -0.0 and -1e-9 into 0.0; the names have -log g, so that log g = 0 becomes "-0.00".
    feh, alpha = np.round(feh, 1) + 0.0, np.round(alpha, 2) + 0.0
    metallicity = f"{feh:+.1f}" if feh else "-0.0"
    if alpha:
        metallicity += f".Alpha={alpha:+.2f}"
    gravity = f"{-(np.round(logg, 2) + 0.0):+.2f}"
    return Path(GRID_NAME, f"Z{metallicity}", f"lte{round(teff):05d}{gravity}{metallicity}.{GRID_NAME}-HiRes.fits")


def list_phoenix_files(folder) -> list[tuple[tuple, Path]]:
    """Spectra of a folder, by the names of the files: pairs of labels and path, sorted.

    Labels are teff [K], logg [dex(cm/s2)], [Fe/H] [dex], [alpha/Fe] [dex]. Zeros may have either sign in names of files
    and folders (`Z+0.0`, `Z-0.0`, `Alpha=+0.00`), so that a node may have two files. GridNotFoundError if the folder
    does not exist or holds no spectrum.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise GridNotFoundError(
            f"{folder} is not a folder. Pass the folder that holds {WAVE_NAME} and {GRID_NAME}/, or download one with "
            "stellarhml.datasets.fetch_phoenix."
        )
    found = [(_labels_of_name(path.name), path) for path in (folder / GRID_NAME).glob("Z*/*.fits*")]
    found = sorted(pair for pair in found if pair[0] is not None)
    if not found:
        raise GridNotFoundError(
            f"{folder} holds no spectrum named like {phoenix_file_name(5800, 4.5, 0.0).as_posix()}. Pass the folder "
            f"above {GRID_NAME}/, or download spectra with stellarhml.datasets.fetch_phoenix."
        )
    return found


def list_phoenix_nodes(folder) -> np.ndarray:
    """Nodes with a spectrum in a folder, by the names of the files, shape (n_nodes, 4) float64, sorted.

    Columns and errors as in `list_phoenix_files`.
    """
    return np.unique([labels for labels, _ in list_phoenix_files(folder)], axis=0)


def missing_nodes(labels) -> np.ndarray:
    """Nodes that are missing from the full rectilinear grid of `labels` (n_nodes, n_labels), sorted.

    Examples
    --------
    >>> from stellarhml.grids.phoenix_files import missing_nodes
    >>> missing_nodes([[5000, 4.0], [5000, 4.5], [5100, 4.0]])
    array([[5.1e+03, 4.5e+00]])
    """
    labels = np.asarray(labels, dtype=np.float64)
    there = set(map(tuple, labels.tolist()))
    full = product(*(np.unique(column).tolist() for column in labels.T))
    return np.array([node for node in full if node not in there]).reshape(-1, labels.shape[1])


def wave_path(folder) -> Path:
    """Path of the WAVE file of a folder, or of the one compressed by gzip where that is there instead."""
    path = Path(folder).expanduser() / WAVE_NAME
    packed = path.with_name(f"{WAVE_NAME}.gz")
    return packed if packed.is_file() and not path.is_file() else path


def read_phoenix_wavelength(folder) -> np.ndarray:
    """Wavelengths that all spectra of a folder share, shape (n_pixels,) float64 [vacuum angstrom], strictly increasing.

    GridNotFoundError if there is no WAVE file; SpectrumFileError if it is truncated or not a FITS file, states air or
    another unit, or does not increase.
    """
    path = wave_path(folder)
    if not path.is_file():
        raise GridNotFoundError(
            f"{path} does not exist. Pass the folder that holds {WAVE_NAME}; stellarhml.datasets.fetch_phoenix "
            "downloads it."
        )
    wavelength, header = _read_image(path)
    wavelength = wavelength.astype(np.float64)
    unit = str(header.get("UNIT", header.get("BUNIT", ""))).strip().lower()
    if unit not in _ANGSTROM:
        raise SpectrumFileError(f"{path} gives its unit as {unit!r}, but PHOENIX wavelengths are in angstrom. {_AGAIN}")
    medium = str(header.get("AIRORVAC", "")).strip().lower()
    if medium == "air" or str(header.get("CTYPE1", "")).strip().upper().startswith("AWAV"):
        raise SpectrumFileError(f"{path} states air wavelengths, but PHOENIX is in vacuum. {_AGAIN}")
    steps = np.diff(wavelength)
    if not np.all(np.isfinite(wavelength)) or np.any(steps <= 0):
        first = int(np.argmax(~(steps > 0)))
        raise SpectrumFileError(
            f"{path} must increase strictly, but pixel {first + 1} is {wavelength[first + 1]} after "
            f"{wavelength[first]} angstrom. {_AGAIN}"
        )
    return wavelength


def read_phoenix_spectrum(path, n_pixels: int | None = None, pixels: slice = _ALL_PIXELS, wavelength=None):
    """Read and check one spectrum; `n_pixels` is the length that the file must have, that of the WAVE file.

    Returns the flux [erg/s/cm^2/cm] in the `pixels`, in the dtype of the file, and (teff, logg, [Fe/H], [alpha/Fe]) of
    the header, or of the file name where the header lacks them (NaN if both do). FileNotFoundError if there is no such
    file; SpectrumFileError if it is truncated, not a FITS file, of another length, not finite, zero, negative or
    constant over a stretch of the `pixels`, or if header and name differ. `wavelength` (n_pixels,) [angstrom] of the
    whole file is for messages.
    """
    path = Path(path)
    flux, header = _read_image(path)
    if n_pixels is not None and flux.size != n_pixels:
        raise SpectrumFileError(
            f"{path} holds {flux.size} pixels, but the WAVE file of its folder has {n_pixels}. Take both from the "
            "same release of PHOENIX, and do not crop one of them alone."
        )
    flux = flux[pixels]
    n_bad = int(np.count_nonzero(~np.isfinite(flux)))
    if n_bad:
        raise SpectrumFileError(
            f"{path} has {n_bad} pixels that are NaN or infinite, but a model spectrum must be finite. {_AGAIN}"
        )
    found = stretch_without_light(flux)
    if found is not None:
        axis = None if wavelength is None else wavelength[pixels]
        raise SpectrumFileError(
            f"{path} is {describe_stretch(found, axis)}, but a model spectrum has light that varies everywhere: the "
            f"file was cut, perhaps, and filled up. {_AGAIN}"
        )
    named = _labels_of_name(path.name) or (np.nan,) * 4
    labels = np.array([header.get(key, value) for key, value in zip(_HEADER_KEYS, named, strict=True)], dtype=float)
    differ = ~np.isnan(named) & ~np.isclose(labels, named, rtol=0, atol=1e-3)
    if differ.any():
        first = int(np.argmax(differ))
        raise SpectrumFileError(
            f"{path} has {_HEADER_KEYS[first]} = {labels[first]} in its header, but its name says {named[first]}. "
            "Rename the file after its header, or download it again."
        )
    return flux, labels


def is_phoenix_folder(folder):
    """Whether a folder holds PHOENIX's WAVE file, or the folder of its spectra."""
    return wave_path(folder).is_file() or (folder / GRID_NAME).is_dir()


def find_medres_files(folder):
    """Spectra of unpacked archives of MedResFITS in a folder: pairs as `list_phoenix_files`, and the kind of archive.

    GridNotFoundError if there are none, SpectrumFileError if there are both R10000FITS and A1FITS.
    """
    folders = [path for path in [folder, *sorted(folder.iterdir())] if path.is_dir() and _MEDRES.fullmatch(path.name)]
    kinds = {_MEDRES.fullmatch(path.name)[1] for path in folders}
    found = [(_labels_of_name(path.name), path) for folder in folders for path in folder.rglob("*.fits*")]
    found = sorted(pair for pair in found if pair[0] is not None)
    if not found:
        raise GridNotFoundError(
            f"{folder} holds no folder such as {GRID_NAME}_R10000FITS_Z-0.0 with spectra named "
            f"lte05800-4.50-0.0.{GRID_NAME}-HiRes.fits. Unpack the archives of MedResFITS into it."
        )
    if len(kinds) > 1:
        raise SpectrumFileError(
            f"{folder} holds spectra of {' and '.join(sorted(kinds))}, which differ in resolution. Keep one kind in it."
        )
    return found, kinds.pop()


def has_medres_files(folder):
    """Whether a folder holds unpacked archives of MedResFITS."""
    try:
        return bool(find_medres_files(folder)[0])
    except GridNotFoundError:
        return False
    except SpectrumFileError:  # of two kinds, which the reader refuses
        return True


def read_medres_spectrum(path, medium):
    """Wavelengths [vacuum angstrom] and flux [erg/s/cm^2/cm] of a spectrum of MedResFITS, each (n_pixels,).

    `medium` is that of the wavelengths in the file. SpectrumFileError if it is damaged, or its header gives no
    wavelengths.
    """
    flux, header = _read_image(Path(path))
    start, step, kind = header.get("CRVAL1"), header.get("CDELT1"), str(header.get("CTYPE1", "")).strip().upper()
    if not all(isinstance(value, int | float) for value in (start, step)) or kind not in _MEDRES_AXES:
        raise SpectrumFileError(
            f"{path} has CRVAL1 = {start!r}, CDELT1 = {step!r} and CTYPE1 = {kind!r}, but numbers and one of "
            f"{', '.join(_MEDRES_AXES)} are needed for its wavelengths. Unpack the archive again."
        )
    wavelength = start + step * (np.arange(flux.size) + 1 - header.get("CRPIX1", 1))
    with np.errstate(all="ignore"):
        wavelength = np.exp(wavelength) if kind.endswith("-LOG") else wavelength
    if not (_SHORTEST < wavelength[0] < wavelength[-1] < _LONGEST):
        raise SpectrumFileError(
            f"{path} has wavelengths from {wavelength[0]:g} to {wavelength[-1]:g} angstrom by CRVAL1 = {start:g}, "
            f"CDELT1 = {step:g} and CTYPE1 = {kind!r}, but PHOENIX has {_SHORTEST:g} to {_LONGEST:g}. Unpack the "
            "archive again."
        )
    return to_vacuum(wavelength, medium, path), flux


_MEDRES_AXES = ("AWAV", "AWAV-LOG", "WAVE", "WAVE-LOG")
_SHORTEST, _LONGEST = 400.0, 60_000.0  # angstrom
_AGAIN = "Delete the file and download it again (stellarhml.datasets.fetch_phoenix)."


def _labels_of_name(name):
    """Labels (teff, logg, feh, alpha) of a PHOENIX file name, or None if it is not one."""
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        return None
    return (
        float(match["teff"]),
        -float(match["logg"]) + 0.0,  # the name writes a hyphen before log g, hence the sign
        float(match["feh"]) + 0.0,
        float(match["alpha"] or 0.0) + 0.0,
    )


def _read_image(path):
    """First image of a FITS file as a native one-dimensional array, and its header; raises if it is truncated."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    data, header = read_fits(path, lambda hdus: (hdus[0].data, hdus[0].header), _AGAIN)
    n_bytes = path.stat().st_size
    if n_bytes % _FITS_BLOCK and path.suffix != ".gz":  # a cut in the header of a later part goes unnoticed by astropy
        raise SpectrumFileError(
            f"{path} is truncated: it has {n_bytes} bytes, but FITS files consist of blocks of {_FITS_BLOCK}. {_AGAIN}"
        )
    if data is None or data.ndim != 1 or data.size < 2:
        shape = None if data is None else data.shape
        raise SpectrumFileError(
            f"{path} holds an array of shape {shape} in its first part, but one spectrum, a row of pixels, is needed. "
            f"{_AGAIN}"
        )
    return data.astype(data.dtype.newbyteorder("=")), header
