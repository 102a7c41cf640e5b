"""Limits of files of unknown origin, checked before memory is taken: a small file may claim, or unpack to, very much.

Real spectra stay far below: 1.5 million pixels are 110 MB of text and 40 MB of arrays, an echelle spectrum of 170
orders and six images 75 MB, a spectrum of PHOENIX 6 MB. Saved generators have no limit: an ASDF file cannot claim more
than it has, and is refused if it consists of holes (:mod:`stellarhml.storage.asdf_files`).
"""

import gzip
import math
import os
import zipfile
import zlib

import numpy as np

from stellarhml.exceptions import SpectrumFileError

MB = 1_000_000
LIMITS = {"text": 200 * MB, "binary": 500 * MB}
"""Largest sizes in bytes: of a text; of a binary file, or all arrays in it, as they are, unpacked, or as float64."""

_GZIP = b"\x1f\x8b"
_SPARSE = 10  # a file of which less than one part in so many is stored, and the rest are holes
_MAX_MEMBERS = 1000  # of an archive
_CHUNK = 1 << 20  # bytes
_DOUBLE = 8  # bytes of a number as it is used, whatever it is in the file


def refuse_large(path, kind):
    """Raise SpectrumFileError if a file is too large, as it is or unpacked by gzip, or consists of holes.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    kind : {"text", "binary"}
        What it is read as.
    """
    limit = LIMITS[kind]
    with open(path, "rb") as file:
        state = os.fstat(file.fileno())
        if state.st_size > limit:
            raise _too_large(path, f"is a {kind} file of {_mb(state.st_size)}", kind)
        if is_sparse(file):
            raise SpectrumFileError(
                f"{path} has {_mb(state.st_size)}, of which less than a tenth is stored: the rest are holes, as after "
                "an interrupted copy. Copy it again."
            )
        if file.read(2) != _GZIP:
            return
        file.seek(0)
        n_bytes, unpacked = 0, gzip.GzipFile(fileobj=file)
        try:
            while chunk := unpacked.read(_CHUNK):
                n_bytes += len(chunk)
                if n_bytes > limit:
                    raise _too_large(path, f"has {_mb(state.st_size)} and unpacks to more than {_mb(limit)}", kind)
        except (OSError, EOFError, zlib.error):
            return  # damaged: its reader says how


def refuse_claim(path, n_bytes, what):
    """Raise SpectrumFileError if a part of a file claims more memory than a binary file may have, in bytes."""
    if n_bytes > LIMITS["binary"]:
        raise _too_large(path, f"claims {_mb(n_bytes)} for {what}", "binary")


def read_npz_arrays(path, names):
    """Arrays of an npz file by name, without pickles and within the limits.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    names : callable
        Takes the names of all arrays and returns those to read.

    Returns
    -------
    arrays : dict of str to ndarray
        The arrays to read.
    names : list of str
        Names of all arrays.

    Raises
    ------
    SpectrumFileError
        If the file is too large, packed or unpacked.
    Exception
        Any of a dozen, if it is damaged, or an array is a pickle.
    """
    refuse_large(path, "binary")
    refuse_large_archive(path)
    # an open file, because NumPy leaves its own open when it fails
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        found = list(archive.files)
        wanted = list(names(found))
        n_numbers = sum(_count_numbers(archive.zip, name) for name in wanted)
        refuse_claim(path, _DOUBLE * n_numbers, "its arrays, as numbers of 64 bits")
        return {name: archive[name] for name in wanted}, found


def refuse_large_archive(path):
    """Raise SpectrumFileError if a zip file has too many members, or they unpack to too much.

    A damaged one raises what `zipfile` does.
    """
    with open(path, "rb") as file:
        # each member has an entry with this mark, whatever the number in the directory says
        n_members, end = 0, b""
        while chunk := file.read(_CHUNK):
            n_members += (end + chunk).count(b"PK\x01\x02")
            end = chunk[-3:]
        if n_members > _MAX_MEMBERS:
            raise SpectrumFileError(
                f"{path} is an archive of {n_members} arrays, but at most {_MAX_MEMBERS} are read. Write those of one "
                "spectrum to a file of their own."
            )
        with zipfile.ZipFile(file) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
    refuse_claim(path, claimed, "its arrays, unpacked")


def is_sparse(file):
    """Whether an open file consists of holes, which take no space on the disk but are read as zeros."""
    state = os.fstat(file.fileno())
    if state.st_size <= MB or not hasattr(os, "SEEK_HOLE") or not hasattr(state, "st_blocks"):
        return False
    place = file.tell()
    hole = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
    os.lseek(file.fileno(), place, os.SEEK_SET)
    # some file systems count no blocks, and others pack: neither has holes
    return hole < state.st_size and 512 * state.st_blocks * _SPARSE < state.st_size


def _count_numbers(archive, name):
    """Size of an array in an npz file; raises if it claims another than its bytes, as NumPy takes the memory first."""
    member = next((found for found in (f"{name}.npy", name) if found in archive.namelist()), None)
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        left = archive.getinfo(member).file_size - file.tell()
    if dtype.hasobject:
        raise ValueError(f"the array {name!r} is a pickle, which could run code")
    if math.prod(shape) * dtype.itemsize != left:
        raise ValueError(f"the array {name!r} of shape {shape} and type {dtype} has {left} bytes")
    return math.prod(shape)


def _too_large(path, found, kind):
    return SpectrumFileError(
        f"{path} {found}, but at most {_mb(LIMITS[kind])} are read. Is it a spectrum? Cut out the part that is needed."
    )


def _mb(n_bytes):
    return f"{n_bytes / MB:,.1f} MB"
