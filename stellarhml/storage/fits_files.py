"""Reading of FITS files: every kind of damage raises the same error, with the name of the file."""

import itertools
import warnings

from stellarhml.exceptions import SpectrumFileError


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


def _refuse_cut_header(hdus, file):
    """Raise if another extension begins after the last one: astropy leaves out one whose header is not whole."""
    place = hdus[-1].fileinfo()
    file.seek(0)
    if file.read(2) == b"\x1f\x8b":  # compressed by gzip, whose own checksum shows that it is whole
        return
    file.seek(place["datLoc"] + place["datSpan"])
    if file.read(8) == b"XTENSION":
        raise ValueError(f"its extension {len(hdus)} is cut inside its header")
