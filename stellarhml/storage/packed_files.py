"""Bytes of a file that may be compressed by gzip."""

import gzip
import zlib

from stellarhml.exceptions import SpectrumFileError
from stellarhml.storage.file_sizes import refuse_large


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
        If a compressed file is damaged, or a file is larger than a text may be.
    """
    if n_bytes is None:
        refuse_large(path, "text")
    with open(path, "rb") as file:
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            return file.read(-1 if n_bytes is None else n_bytes)
    try:
        with gzip.open(path) as file:
            return file.read(-1 if n_bytes is None else n_bytes)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SpectrumFileError(
            f"{path} cannot be unpacked ({type(error).__name__}: {error}); it is damaged or truncated. Copy it again."
        ) from error
