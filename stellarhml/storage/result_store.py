"""Store for the results of a long job, one file each, so that an interrupted job can continue.

The name of a file is a hash of everything that its result depends on: a result of other inputs is never read, and no
file needs to be invalidated.
"""

import hashlib
import io
import os
import struct
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from stellarhml.exceptions import StoreError
from stellarhml.storage.atomic_files import atomic_path

SCHEMA = 1
_SUFFIX = ".result"
_DAY = 86400.0


def digest(*parts):
    """Hash values, the same in every process and on every platform.

    Equal numbers of another type (1, 1.0, True; float32, float64) hash differently, and so do 0.0 and -0.0. NumPy
    scalars hash like the Python numbers that they hold, and tuples like lists.

    Parameters
    ----------
    *parts : None, bool, int, float, complex, str, bytes, ndarray, list, tuple or dict
        Values to hash, of any nesting. Arrays are numerical, keys of dictionaries are strings.

    Returns
    -------
    key : str
        40 hexadecimal digits.

    Raises
    ------
    TypeError
        If a value has no exact and portable form.
    """
    hasher = hashlib.blake2b(digest_size=20)
    _feed(hasher, parts)
    return hasher.hexdigest()


def digest_file(path):
    """Hash the content of a file; 40 hexadecimal digits."""
    hasher = hashlib.blake2b(digest_size=20)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


class ResultStore:
    """A folder of results, each a set of arrays in a file of its own.

    Any number of processes may read and write at once: a file appears under its name only when it is whole, and two
    that write the same result write the same.

    Parameters
    ----------
    folder : str or path-like
        Folder of the results; created if needed. Other files in it are not changed.
    """

    def __init__(self, folder):
        self.folder = Path(folder).absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.folder} cannot be used as a folder of results ({error}). Pass a folder that exists or can be "
                "created."
            ) from error
        self._remove_leftovers()

    def __len__(self):
        return len(self.keys())

    def __contains__(self, key):
        return self._path(key).exists()

    def files(self):
        """Paths of the results."""
        return list(self.folder.glob(f"[!.]*{_SUFFIX}"))

    def keys(self):
        """Keys of the results that are there, as a set."""
        return {path.name.removesuffix(_SUFFIX) for path in self.files()}

    def read(self, key):
        """Read a result.

        Parameters
        ----------
        key : str
            Its key, from `digest`.

        Returns
        -------
        arrays : dict of str to ndarray, or None
            The arrays given to `write`, to the last bit. None if there is no such file or it is not, byte for byte,
            what `write` wrote: cut short, changed, of another key, or of another schema.
        """
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        _, _, payload = content.partition(b"\n")
        # What the first line must be follows from the key and the rest, so that no byte goes unchecked.
        if content != _first_line(key, payload) + payload:
            return None
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def write(self, key, arrays):
        """Write a result.

        Parameters
        ----------
        key : str
            Its key, from `digest`.
        arrays : dict of str to array-like
            Arrays of any shape, and of any dtype but object.

        Raises
        ------
        StoreError
            If the file cannot be written, for example because the disk is full.
        """
        payload = _payload(arrays)
        try:
            with atomic_path(self._path(key)) as temporary, open(temporary, "wb") as file:
                file.write(_first_line(key, payload))
                file.write(payload)
                file.flush()
                # Else a crash of the machine could leave the name without the content.
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"A result of {len(payload) / 1000:.0f} kB could not be written to {self.folder} ({error}). The "
                f"{len(self)} results that are there are kept. Make room, or make the folder writable, and start the "
                "same job again: it goes on from there."
            ) from error

    def remove(self, key):
        """Remove a result, if it is there."""
        self._path(key).unlink(missing_ok=True)

    def clear(self):
        """Remove all results, and what killed processes left half-written."""
        for path in self.folder.glob(f"*{_SUFFIX}"):
            path.unlink(missing_ok=True)

    def _path(self, key):
        return self.folder / f"{key}{_SUFFIX}"

    def _remove_leftovers(self):
        """Remove what killed processes left half-written; younger files may be those of a live one."""
        for path in self.folder.glob(f".*.tmp{_SUFFIX}"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _DAY:
                    path.unlink()


def _payload(arrays):
    """Arrays as the bytes of an npz file: equal arrays give equal bytes, and nothing is pickled."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            # numpy.savez would write the time of day and pickle objects; a ZipInfo of its own has a fixed date.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def _first_line(key, payload):
    """What stands before the npz file: format, schema, key, and checksum of the rest."""
    checksum = hashlib.blake2b(payload, digest_size=20).hexdigest()
    return f"stellarhml-result {SCHEMA} {key} {checksum}\n".encode("ascii")


def _feed(hasher, value):
    """Hash one value: a letter for its type, the length of what follows, and its bytes or its members."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        array = _portable(value)
        hasher.update(b"a")
        _feed(hasher, [array.dtype.str, array.shape])
        hasher.update(array.reshape(-1).view(np.uint8))
    elif isinstance(value, (list, tuple)):
        hasher.update(b"l" + struct.pack("<q", len(value)))
        for member in value:
            _feed(hasher, member)
    elif isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"Keys of a dictionary must be strings to be hashed, but they are {list(value)!r:.200}.")
        hasher.update(b"d")
        _feed(hasher, [[key, value[key]] for key in sorted(value)])
    else:
        letter, content = _scalar(value)
        hasher.update(letter + struct.pack("<q", len(content)) + content)


def _scalar(value):
    """Letter and bytes of a Python scalar."""
    if value is None:
        return b"n", b""
    if isinstance(value, bool):
        return b"b", bytes([value])
    if isinstance(value, int):
        return b"i", b"%d" % value
    if isinstance(value, float):
        return b"f", struct.pack("<d", value)
    if isinstance(value, complex):
        return b"c", struct.pack("<dd", value.real, value.imag)
    if isinstance(value, str):
        return b"s", value.encode("utf-8")
    if isinstance(value, bytes):
        return b"y", value
    raise TypeError(
        f"A {type(value).__module__}.{type(value).__qualname__} cannot be hashed exactly: {value!r:.100}. Pass None, "
        "bool, int, float, complex, str, bytes, numerical arrays, or lists, tuples and dictionaries of these."
    )


def _portable(array):
    """Array in C order and little-endian, whose bytes mean the same everywhere."""
    # Objects are addresses; of a long double some bytes are arbitrary; the bytes of a masked array leave out its mask.
    largest = 16 if array.dtype.kind == "c" else 8
    if array.dtype.kind not in "biufc" or array.dtype.itemsize > largest or isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"A {type(array).__qualname__} of dtype {array.dtype} cannot be hashed exactly. Pass a plain array of "
            "booleans, or of numbers of at most 64 bits."
        )
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
