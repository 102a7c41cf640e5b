"""Reading of FITS files: every kind of damage raises the same error, with the name of the file."""

import gzip
import itertools
import warnings

import numpy as np

from stellarhml.exceptions import SpectrumFileError

_CARD = 80  # bytes of a card of a header, of which there are 36 in a block
_AXES = np.frombuffer(b"NAXIS   =", dtype=np.uint8)
_MOST_AXES = 999  # FITS standard 4.0, section 4.4.1.1


def read_fits(path, extract, cure):
    """Return `extract(hdus)` of a FITS file that is whole.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    extract : callable
        Takes the HDUList and returns its content, with no reference to the open file.
    cure : str
        Sentence on what to do about a damaged file, at the end of every message.

    Returns
    -------
    content : object
        Result of `extract`.

    Raises
    ------
    SpectrumFileError
        If the file is damaged, truncated or of another kind.
    """
    from astropy.io import fits

    try:
        # astropy says "may have been truncated" as a warning only, and raises only when the data are touched. It gets
        # an open file because it leaves its own open when it fails.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _refuse_many_axes(path)
            with open(path, "rb") as file, fits.open(file, memmap=False, lazy_load_hdus=True) as hdus:
                _load(hdus)
                content = extract(hdus)
                _refuse_cut_header(hdus, file)
    except Exception as error:  # by the kind of damage OSError, ValueError, TypeError, KeyError, VerifyError, ...
        raise SpectrumFileError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as a FITS file ({type(error).__name__}: {error}); it "
            f"is damaged or truncated. {cure}"
        ) from error
    truncated = next((str(w.message) for w in caught if "truncated" in str(w.message)), None)
    if truncated:
        raise SpectrumFileError(f"{path} is truncated: {truncated} {cure}")
    return content


def _load(hdus):
    """Read all headers; a negative size in one would let astropy go back and read the same ones for ever."""
    last = -1
    for index in itertools.count():
        try:
            place = hdus[index].fileinfo()["hdrLoc"]
        except IndexError:
            return
        if place <= last:
            raise ValueError(f"extension {index} begins at byte {place}, not after the one before it")
        last = place


def _refuse_many_axes(path):
    """Raise if a header states more axes than the FITS standard allows: astropy would make a list of all of them."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else open(path, "rb") as file:
        while block := file.read(_CARD * 10_000):
            cards = np.frombuffer(block[: len(block) // _CARD * _CARD], dtype=np.uint8).reshape(-1, _CARD)
            for card in cards[np.all(cards[:, : len(_AXES)] == _AXES, axis=1)]:
                value = card[10:30].tobytes().strip()
                if value.isdigit() and int(value) > _MOST_AXES:
                    raise ValueError(f"a header states {int(value)} axes")


def plain_cards(header) -> dict:
    """Keywords of a header of astropy and their values; without comments, and cards that are no text or number."""
    return {key: value for key, value in header.items() if isinstance(value, str | int | float)}


def _refuse_cut_header(hdus, file):
    """Raise if another extension begins after the last one: astropy leaves out one whose header is not whole."""
    place = hdus[-1].fileinfo()
    file.seek(0)
    if file.read(2) == b"\x1f\x8b":  # compressed by gzip, whose own checksum shows that it is whole
        return
    file.seek(place["datLoc"] + place["datSpan"])
    if file.read(8) == b"XTENSION":
        raise ValueError(f"its extension {len(hdus)} is cut inside its header")
