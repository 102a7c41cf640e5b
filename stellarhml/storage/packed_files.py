"""Bytes of a file that may be compressed by gzip."""

import gzip
import zlib

from stellarhml.exceptions import SpectrumFileError

_LARGEST = 2**30  # bytes of an unpacked text


def read_bytes(path, n_bytes=None) -> bytes:
    """Content of a file, or its first bytes, unpacked if it is compressed by gzip.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    n_bytes : int, default=None
        Largest number of bytes to return. None: all of them.

    Returns
    -------
    content : bytes
        The content.

    Raises
    ------
    SpectrumFileError
        If a compressed file is damaged, or unpacks to more than 2**30 bytes.
    """
    with open(path, "rb") as file:
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            return file.read(-1 if n_bytes is None else n_bytes)
    try:
        with gzip.open(path) as file:
            content = file.read(_LARGEST + 1 if n_bytes is None else n_bytes)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SpectrumFileError(
            f"{path} cannot be unpacked ({type(error).__name__}: {error}); it is damaged or truncated. Copy it again."
        ) from error
    if len(content) > _LARGEST:
        raise SpectrumFileError(
            f"{path} unpacks to more than {_LARGEST} bytes, but a text of a spectrum has fewer. Unpack it yourself and "
            "check what it is."
        )
    return content
