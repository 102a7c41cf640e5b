"""The file format .shml: a fitted estimator as JSON and raw arrays in one file, which can be mapped and runs no code.

A file is one line, ``stellarhml-shml <schema> <bytes of the header> <BLAKE2b of the header>``; the header, JSON; and
the arrays, each at the first multiple of 64 bytes after what is before it, the gaps filled with zeros. Every byte is
covered: by a checksum, by what the gaps must be, or by what the line must be.
"""

import hashlib
import json
import math
import os
import re

import numpy as np

from stellarhml.exceptions import PersistenceError
from stellarhml.storage._object_tree import Decoder, Encoder, class_name, is_fortran, portable_dtype
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.storage.versions import find_versions, warn_of_versions

SUFFIX = ".shml"
SCHEMA = 1
_MAGIC = b"stellarhml-shml "
_LINE = re.compile(rb"(\d{1,9}) (\d{1,15}) ([0-9a-f]{40})\n")
_LONGEST_LINE = 128
_ALIGNMENT = 64
_MAPPED_FROM = 4096  # bytes; smaller arrays are read
_KEYS = {"schema": int, "class": str, "versions": dict, "objects": list, "arrays": list}
# what a tree or layout that no `write_safe` wrote can make its reader raise
_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, ImportError)


def write_safe(estimator, path):
    """Write an estimator.

    Parameters
    ----------
    estimator : object
        A fitted estimator.
    path : str or path-like
        File to write. It appears under its name only when it is whole.

    Raises
    ------
    PersistenceError
        If the estimator has something that the format cannot hold; its attribute path is named, and no file appears.
    """
    encoder = Encoder()
    try:
        root = encoder.encode(estimator, type(estimator).__name__)
    except RecursionError as error:
        raise PersistenceError(
            f"The {type(estimator).__name__} has a list, tuple or dictionary that contains itself or is nested too "
            "deeply for a .shml file. Save to a name that ends in .joblib."
        ) from error
    records, end = [], 0
    for name, array in encoder.arrays:
        offset = _align(end)
        end = offset + array.nbytes
        record = {"name": name, "dtype": array.dtype.str, "shape": array.shape}
        record |= {"order": "F" if is_fortran(array) else "C", "offset": offset}
        records.append(record | {"n_bytes": array.nbytes, "blake2b": _checksum(_bytes_of(array))})
    header = {
        "schema": SCHEMA,
        "class": class_name(estimator),
        "grid": encoder.grid,
        "versions": find_versions(),
        "arrays": records,
        "objects": encoder.objects,
        "root": root,
    }
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode("ascii")
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(_MAGIC + f"{SCHEMA} {len(text)} {_checksum(text)}\n".encode("ascii") + text)
        _write_gap(file)
        for _, array in encoder.arrays:
            _write_gap(file)
            file.write(_bytes_of(array))
        file.flush()
        # else a crash of the machine could leave the name without the content
        os.fsync(file.fileno())


def read_safe(path, *, mmap_mode: str | None = None, verify: bool = True, stacklevel: int = 1):
    """Read an estimator.

    Parameters
    ----------
    path : str or path-like
        File that `write_safe` wrote.
    mmap_mode : {None, "r", "c"}, default=None
        Map arrays of 4 kB and more rather than read them.
    verify : bool, default=True
        Whether to compare the arrays with their checksums. The header always is.
    stacklevel : int, default=1
        Of the warning of other versions.

    Returns
    -------
    estimator : object
        The estimator.

    Raises
    ------
    PersistenceError
        If the file is not, byte for byte, what `write_safe` writes, or was written by a newer version.
    """
    with open(os.fspath(path), "rb") as file:
        header, start = _read_header(file, path)
        warn_of_versions(path, header["versions"], stacklevel=stacklevel + 1)
        arrays = _read_arrays(file, path, header["arrays"], start, mmap_mode, verify)
    try:
        estimator = Decoder(header["objects"], arrays).decode(header["root"])
    except _NONSENSE as error:
        raise _nonsense(path, error) from error
    if class_name(estimator) != header["class"]:
        raise _nonsense(path, f"it holds a {class_name(estimator)} and says {header['class']!r:.200}")
    return estimator


def read_header(path) -> dict:
    """Read what a file says about itself, and verify all of it.

    Parameters
    ----------
    path : str or path-like
        File that `write_safe` wrote.

    Returns
    -------
    header : dict
        With "schema", "class", "grid", "versions" and "arrays".

    Raises
    ------
    PersistenceError
        As `read_safe`. Classes are not looked at: nothing is made of them.
    """
    with open(os.fspath(path), "rb") as file:
        header, start = _read_header(file, path)
        _read_arrays(file, path, header["arrays"], start, "r", True)
    return header


def _read_header(file, path):
    """The header, and where the arrays begin."""
    size = os.fstat(file.fileno()).st_size
    line = file.readline(_LONGEST_LINE)
    if not line.startswith(_MAGIC):
        if _MAGIC.startswith(line):
            raise _cut(path, f"it has {size} bytes, less than its first line")
        raise PersistenceError(
            f"{path} is not a .shml file: it begins with {line[:16]!r}, not with {_MAGIC!r}. Pass a file that "
            "stellarhml.save wrote under a name that ends in .shml; a joblib file must not have that ending."
        )
    schema = re.match(rb"\d{1,9}(?= )", line[len(_MAGIC) :])
    if schema and int(schema[0]) > SCHEMA:
        raise PersistenceError(
            f"{path} has schema {int(schema[0])}, but this version of stellarhml reads up to {SCHEMA}. Upgrade "
            "stellarhml."
        )
    fields = _LINE.fullmatch(line[len(_MAGIC) :])
    if not fields or int(fields[1]) != SCHEMA:
        raise _cut(path, f"its first line is {line!r}, not schema, length and checksum of a header")
    length = int(fields[2])
    if len(line) + length > size:
        raise _cut(path, f"it has {size} bytes, but its header alone goes to {len(line) + length}")
    text = file.read(length)
    if _checksum(text) != fields[3].decode():
        raise _cut(path, f"its header of {length} bytes has another checksum than its first line says")
    try:
        header = json.loads(text, parse_constant=_no_constant)
        for key, kind in _KEYS.items():
            if not isinstance(header[key], kind):
                raise TypeError(f"{key} is a {type(header[key]).__name__}")
        # these are shown, and terminals obey what cannot be printed
        shown = [
            header["class"],
            header["grid"] or "",
            *(str(text) for pair in header["versions"].items() for text in pair),
        ]
        if not all(text.isprintable() for text in shown):
            raise ValueError("class, grid or versions cannot be printed")
        end = _checked_end(header["arrays"])
    except _NONSENSE as error:
        raise _nonsense(path, error) from error
    start = _align(len(line) + length)
    if start + end != size:
        raise _cut(path, f"it has {size} bytes, but its header says {start + end}")
    _check_gap(file, path, start)
    return header, start


def _checked_end(records):
    """Where the last array ends, if each is where `write_safe` puts it: none overlaps, and all lie in the file."""
    end = 0
    for record in records:
        shape, offset, n_bytes = record["shape"], record["offset"], record["n_bytes"]
        if not all(type(n) is int and n >= 0 for n in (*shape, offset, n_bytes)):
            raise ValueError(f"array {record['name']!r:.100} has shape {shape!r:.100} at byte {offset!r:.100}")
        if record["order"] not in ("C", "F"):
            raise ValueError(f"array {record['name']!r:.100} has order {record['order']!r:.100}")
        if not isinstance(record["blake2b"], str):
            raise TypeError(f"array {record['name']!r:.100} has no checksum")
        needed = portable_dtype(record["dtype"]).itemsize * math.prod(shape)
        if (offset, n_bytes) != (_align(end), needed):
            raise ValueError(
                f"array {record['name']!r:.100} lies at byte {offset} and takes {n_bytes}, but must lie at "
                f"{_align(end)} and take {needed}"
            )
        end = offset + n_bytes
    return end


def _read_arrays(file, path, records, start, mmap_mode, verify):
    """All arrays, mapped or read."""
    arrays = []
    for record in records:
        first = start + record["offset"]
        form = {"shape": tuple(record["shape"]), "dtype": np.dtype(record["dtype"]), "order": record["order"]}
        if verify:
            _check_gap(file, path, first)
        try:
            if mmap_mode is not None and record["n_bytes"] >= _MAPPED_FROM:
                # a map of its own: joblib hands it to other processes by name, offset, shape and order
                array = np.memmap(file, mode=mmap_mode, offset=first, **form)
            else:
                array = np.empty(**form)
                file.seek(first)
                if file.readinto(_bytes_of(array)) != array.nbytes:
                    raise _cut(path, "it became shorter while it was read")
        except PersistenceError:
            raise
        except _NONSENSE as error:
            raise _nonsense(path, error) from error
        if verify and _checksum(_bytes_of(array)) != record["blake2b"]:
            raise _cut(path, f"the array {record['name']!r:.200} has another checksum than the header says")
        file.seek(first + record["n_bytes"])
        arrays.append(array)
    return arrays


def _check_gap(file, path, until):
    """Raise if there is anything but zeros from where the file is to a byte, and go there."""
    gap = file.read(until - file.tell())
    if gap.strip(b"\0"):
        raise _cut(path, f"a gap between its arrays, before byte {until}, is not empty")


def _write_gap(file):
    file.write(bytes(_align(file.tell()) - file.tell()))


def _bytes_of(array):
    """The bytes of a contiguous array, not copied, nor as a subclass."""
    return np.asarray(array).reshape(-1, order="A").view(np.uint8)


def _align(position):
    return -(-position // _ALIGNMENT) * _ALIGNMENT


def _checksum(content):
    # SHA-256 is faster only on processors that have instructions for it
    return hashlib.blake2b(content, digest_size=20).hexdigest()


def _no_constant(name):
    raise ValueError(f"{name} is not JSON")


def _cut(path, found):
    return PersistenceError(
        f"{path} is cut short or was changed: {found}. Copy the file again, or save the estimator anew."
    )


def _nonsense(path, error):
    detail = str(error) if isinstance(error, (str, PersistenceError)) else f"{type(error).__name__}: {error}"
    return PersistenceError(
        f"{path} is whole, but is not what stellarhml.save writes here ({detail:.500}). Ask its author to save it "
        "again, by the same version of stellarhml."
    )
