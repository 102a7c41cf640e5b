"""Reading of echelle FITS files with one image for each quantity and a row for each order."""

from pathlib import Path

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.storage.fits_files import plain_cards, read_fits

_CURE = "Copy or download it again."


def list_extensions(path) -> dict:
    """List the extensions and header entries of a FITS file, as a dict.

    `names` (list of str, upper case), `tables` (whether each is a table), `keys` (set of the primary header's and the
    first table's keywords), `headers` (a dict of each), `object`, `date`, `instrument` (str or None).
    """
    return read_fits(path, _content, _CURE)


def read_images(path, names, *, optional=()) -> dict:
    """Images of a FITS file by the names of their extensions, in any case; each (n_orders, n_pixels) float64.

    The name "" is the first image. `optional` ones may be missing. SpectrumFileError if the file is damaged, a required
    extension is missing, one is not an image of numbers, or shapes differ.
    """
    names = list(names)
    found, images = read_fits(path, lambda hdus: _images(hdus, [*names, *optional]), _CURE)
    missing = [name for name in names if name not in images]
    if missing:
        raise SpectrumFileError(
            f"{path} has the extensions {', '.join(map(repr, found))}, but {', '.join(map(repr, missing))} "
            "is needed too. Use the file as the pipeline wrote it."
        )
    for name, image in images.items():
        if image is None or image.ndim != 2 or image.dtype.kind not in "fiu":
            content = "no data" if image is None else f"data of shape {image.shape} and type {image.dtype}"
            raise SpectrumFileError(
                f"{path} has {content} in extension {name!r}, but numbers with a row for each order are needed. Use "
                "the file as the pipeline wrote it."
            )
    shapes = {name: image.shape for name, image in images.items()}
    if len(set(shapes.values())) > 1:
        raise SpectrumFileError(
            f"{path} has extensions of the shapes {shapes}, but one shape (orders, pixels) is needed. Use the file as "
            "the pipeline wrote it."
        )
    with np.errstate(all="ignore"):  # signalling NaN
        return {name: image.astype(np.float64) for name, image in images.items()}


def check_range(path, wavelength, low, high, unit):
    """Refuse wavelengths outside the range of the instrument: they are in another unit, or damaged.

    `low` and `high` are in `unit`, which the format prescribes. SpectrumFileError if the median lies outside, or no
    value is finite and positive.
    """
    with np.errstate(all="ignore"):
        known = wavelength[np.isfinite(wavelength) & (wavelength > 0)]
    if not known.size or not low <= np.median(known) <= high:
        found = f"around {np.median(known):g}" if known.size else "nowhere finite and positive"
        raise SpectrumFileError(
            f"{path} has wavelengths {found}, but this format has them in {unit}, between {low:g} and {high:g}. Use "
            "the file as the pipeline wrote it, or write a table with a unit."
        )


def source_meta(path, content, **known) -> dict:
    """Entries of `ObservedSpectrum.meta` from a FITS header."""
    return {"file": str(Path(path)), "object": content["object"], "date": content["date"], **known}


def _content(hdus):
    from astropy.io import fits

    tables = [isinstance(hdu, fits.BinTableHDU | fits.TableHDU) for hdu in hdus]
    header = hdus[0].header
    keys = set(header)
    if any(tables):
        keys |= set(hdus[tables.index(True)].header)
    words = {"object": "OBJECT", "date": "DATE-OBS", "instrument": "INSTRUME"}
    return {
        "names": [hdu.name.upper() for hdu in hdus],
        "tables": tables,
        "keys": keys,
        "headers": [plain_cards(hdu.header) for hdu in hdus],
        **{word: _text(header.get(key)) for word, key in words.items()},
    }


def _images(hdus, names):
    found = [hdu.name for hdu in hdus]
    images = {}
    for name in names:
        for hdu in hdus:
            if (hdu.name.upper() == name.upper() or (not name and getattr(hdu, "is_image", False))) and (
                name or hdu.data is not None
            ):
                images[name] = None if hdu.data is None else np.array(hdu.data)
                break
    return found, images


def _text(value):
    return str(value).strip() or None if isinstance(value, str | int | float) else None
