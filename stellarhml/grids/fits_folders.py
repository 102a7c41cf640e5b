"""Any folder of FITS spectra whose headers have the labels.

A spectrum is the first image of one dimension, or the first table, of its file. Its wavelengths are in a file that all
spectra share, in a column of the table, or given by the header of the image (`CRVAL1`, `CDELT1`, ...).
"""

import re
from pathlib import Path

import numpy as np

from stellarhml.exceptions import GridNotFoundError, SpectrumFileError
from stellarhml.grids.grid_source import GridSource, increasing, require_one_of_each
from stellarhml.grids.wavelength_statements import chosen_medium, chosen_unit, in_vacuum_angstrom
from stellarhml.spectra.columns import role_of
from stellarhml.spectra.orders import to_vacuum
from stellarhml.spectra.wavelength_axes import header_axis
from stellarhml.storage.file_sizes import refuse_large
from stellarhml.storage.fits_files import plain_cards, read_fits

_ENDS = (".fits", ".fit", ".fits.gz", ".fit.gz")
_CURE = "Copy it again, or move it out of the folder."
_AXES = {"linear": "LINEAR", "log10": "LOGLAM", "ln": "LN-LINEAR"}
_MANY = 12  # keywords that a message lists


def is_fits_name(path):
    """Whether the name of a file is that of a FITS file, perhaps compressed by gzip."""
    return path.name.lower().endswith(_ENDS)


def fits_folder_source(
    folder,
    labels,
    *,
    medium=None,
    unit=None,
    axis=None,
    wavelength_file=None,
    wavelength_column=None,
    flux_column=None,
    resolving_power=None,
) -> GridSource:
    """Spectra of all FITS files in a folder and the folders below it.

    `labels` maps names of labels to keywords of headers; the other parameters are those of `load_grid`.
    """
    folder = Path(folder).expanduser()
    if not labels or not hasattr(labels, "items"):
        raise ValueError(
            f"`labels` is {labels!r}, but the keywords of the headers of {folder} that hold the labels are needed: "
            '{"teff": "TEFF", ...}, on the command line --labels teff=TEFF,logg=LOGG,feh=FEH.'
        )
    if axis is not None and axis not in _AXES:
        raise ValueError(
            f"`axis` is {axis!r}, but it must be one of {', '.join(_AXES)}, or None for that of the header."
        )
    shared = None if wavelength_file is None else Path(wavelength_file).expanduser()
    files = [path for path in sorted(folder.rglob("*")) if is_fits_name(path) and path.is_file()]
    files = [path for path in files if shared is None or not (shared.exists() and path.samefile(shared))]
    if not files:
        raise GridNotFoundError(
            f"{folder} holds no file named *.fits, .fit or these with .gz. Pass the folder of the spectra."
        )
    names = tuple(map(str, labels))
    nodes = np.array([_labels_of(path, labels) for path in files])
    require_one_of_each(nodes, names, files)
    stated = {"medium": medium, "unit": unit}
    columns = {"wavelength": wavelength_column, "flux": flux_column}
    common = None if shared is None else read_wavelength_file(shared, **stated)

    def read(rows, pixels):
        for row in rows:
            yield _read_spectrum(files[row], common, columns, axis, stated)

    return GridSource(
        labels=nodes,
        label_names=names,
        wavelength=lambda row: _read_spectrum(files[row], common, columns, axis, stated)[0],
        read=read,
        names=[str(path) for path in files],
        files=[] if shared is None else [shared],
        row_files=files,
        origin=str(folder),
        description=f"{{n}} spectra of the FITS files in {folder}. Fluxes as in the files.",
        resolving_power=resolving_power,
    )


def read_wavelength_file(path, *, medium, unit):
    """Wavelengths [vacuum angstrom] of a file that spectra share, and the slice that sorts a spectrum.

    A FITS image of one dimension or a FITS table with a column of wavelengths, a `.npy` array, or text with one number
    in a line. SpectrumFileError if it is of another kind, or nobody states unit and medium.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Pass the file of the wavelengths (--wavelength-file).")
    header, stated = {}, None
    if is_fits_name(path):
        data, header = read_fits(path, _first_data, _CURE)
        if isinstance(data, dict):
            column = _column(path, data, "wavelength", None)
            values, stated = data[column][0], data[column][1]
        else:
            values, stated = data, header.get("UNIT", header.get("BUNIT", header.get("CUNIT1")))
    else:
        refuse_large(path, "text")
        try:
            values = _read_npy(path) if path.suffix == ".npy" else np.loadtxt(path, ndmin=1)
        except (ValueError, EOFError) as error:
            raise SpectrumFileError(
                f"{path} cannot be read as wavelengths ({error}). A FITS file, a .npy file, or a text with one number "
                "in a line is needed."
            ) from error
    if np.ndim(values) != 1 or np.asarray(values).dtype.kind not in "fiu":
        raise SpectrumFileError(
            f"{path} holds an array of shape {np.shape(values)}, but one wavelength for each pixel is needed."
        )
    values = in_vacuum_angstrom(
        values, path, "the file of the wavelengths", unit=unit, stated_unit=stated, medium=medium, headers=[header]
    )
    return increasing(values, str(path))


def _read_npy(path):
    with open(path, "rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _labels_of(path, labels):
    """Labels by the keywords of the headers of a file."""
    headers = read_fits(path, lambda hdus: [plain_cards(hdu.header) for hdu in hdus], _CURE)
    values = []
    for name, key in labels.items():
        key = str(key).upper()
        found = [header[key] for header in headers if key in header]
        if not found:
            numbers = [k for header in headers for k, v in header.items() if _is_number(v) and not _of_format(k)]
            raise SpectrumFileError(
                f"{path} has no {key} in its headers, which is to be the label {name!r}. Its numbers are "
                f"{', '.join(dict.fromkeys(numbers[:_MANY])) or 'none'}. Correct `labels` (--labels), or add the "
                "keyword."
            )
        try:
            values.append(float(found[0]) + 0.0)
        except ValueError:
            values.append(np.nan)
        if isinstance(found[0], bool) or not np.isfinite(values[-1]):
            raise SpectrumFileError(
                f"{path} has {key} = {found[0]!r}, which is to be the label {name!r}, but a number is needed. Correct "
                "`labels` (--labels), or the file."
            )
    return values


def _read_spectrum(path, common, columns, axis, stated):
    """Wavelengths [vacuum angstrom], increasing, and flux of a file, each (n_pixels,)."""
    data, header = read_fits(path, _first_data, _CURE)
    table = isinstance(data, dict)
    if table:
        flux = data[_column(path, data, "flux", columns["flux"])][0]
    else:
        flux = data
        if columns["flux"] or columns["wavelength"]:
            raise SpectrumFileError(
                f"{path} holds an image, which has no columns. Leave `flux_column` and `wavelength_column` out, or "
                "pass a folder of tables."
            )
    if flux.ndim != 1 or flux.size < 2 or flux.dtype.kind not in "fiu":
        raise SpectrumFileError(
            f"{path} holds an array of shape {flux.shape}, but one spectrum, a row of pixels, is needed. Write each "
            "spectrum to a file of its own."
        )
    if common is not None:
        wavelength, order = common
        if flux.size != wavelength.size:
            raise SpectrumFileError(
                f"{path} holds {flux.size} pixels, but the file of the wavelengths has {wavelength.size}. Take both "
                "from the same release, and do not crop one of them alone."
            )
    elif table:
        column = _column(path, data, "wavelength", columns["wavelength"])
        values, unit = data[column]
        values = in_vacuum_angstrom(
            values, path, f"column {column}", stated_unit=unit, headers=[header, *_named_medium(column)], **stated
        )
        wavelength, order = increasing(values, str(path))
    else:
        wavelength, order = increasing(_header_wavelength(path, header, flux.size, axis, stated), str(path))
    return wavelength, flux[order]


def _header_wavelength(path, header, n_pixels, axis, stated):
    """Wavelengths [vacuum angstrom] by the header of an image."""
    if "CRVAL1" not in header:
        raise SpectrumFileError(
            f"{path} has no wavelengths: its header has no CRVAL1. State the file that has them, `wavelength_file` "
            "(--wavelength-file)."
        )
    cards = dict(header)
    if axis is not None:
        cards = {key: value for key, value in cards.items() if key != "DC-FLAG"} | {"CTYPE1": _AXES[axis]}
    if stated["unit"] and not str(cards.get("CUNIT1", "")).strip() and "WAT1_001" not in cards:
        cards["CUNIT1"] = stated["unit"]
    found = header_axis(cards, n_pixels, str(path))
    own = found.unit if cards.get("CUNIT1") == header.get("CUNIT1") else None
    chosen_unit(stated["unit"], own, path, found.keywords)
    return to_vacuum(found.wavelength, chosen_medium(stated["medium"], path, [header]), path)


def _first_data(hdus):
    """First image of one dimension, or table, and its keywords after those of the first header.

    An image is an array; a table a dict of name to column and unit.
    """
    primary = plain_cards(hdus[0].header)
    for hdu in hdus:
        if hdu.data is None or not np.size(hdu.data):
            continue
        header = primary | plain_cards(hdu.header)
        if not hasattr(hdu, "columns"):
            data = np.asarray(hdu.data)
            return data.astype(data.dtype.newbyteorder("=")), header
        columns = {}
        for column in hdu.columns:
            values = np.asarray(hdu.data[column.name])
            if values.dtype.kind in "fiu":
                values = values[0] if values.ndim == 2 and len(values) == 1 else values
                columns[column.name] = values.astype(values.dtype.newbyteorder("=")), column.unit
        return columns, header
    raise ValueError("it has no image and no table")


def _column(path, columns, role, name):
    """Name of the column of a role, stated or found by its name."""
    if name is not None:
        found = [own for own in columns if own.lower() == name.lower()]
    else:
        found = [own for own in columns if role_of(own) == role]
    if len(found) != 1:
        which = f"a column {name!r}" if name is not None else f"one column of the {role} among those it has"
        raise SpectrumFileError(
            f"{path} has the columns {', '.join(columns) or 'of no numbers'}, but {which} is needed. State "
            f"`{role}_column` (--{role}-column)."
        )
    return found[0]


def _named_medium(column):
    """Statement of the name of a column, such as wave_vac, as a header."""
    words = [word for word in re.split(r"[^a-z]+", column.lower()) if word]
    media = {"air": "air", "vac": "vacuum", "vacuum": "vacuum"}
    return [{"MEDIUM": media[word]} for word in words if word in media]


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _of_format(key):
    """Whether a keyword describes the file, not the star."""
    return bool(re.match(r"(NAXIS|BITPIX|PCOUNT|GCOUNT|EXTEND|SIMPLE|TFIELDS|BZERO|BSCALE|CR|CD|TBCOL|TZERO)", key))
