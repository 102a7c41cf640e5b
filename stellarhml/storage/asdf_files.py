"""Estimators as ASDF files: a YAML header that can be read, and the arrays in blocks that can be mapped.

The files are ASDF 1.5.0, and the `asdf` library opens them (:mod:`stellarhml.storage.asdf_extension`). They are written
and read here, because the library does not align blocks to 64 bytes, without which compiled code takes no mapped
array, and reads more than is safe in a file of unknown origin. Only what is written here is read:
every block is uncompressed, lies in the file and holds one array; the header is covered by a checksum of its own.
Limits: a file under 1 MB costs at most 1 s and 200 MB.
"""

import hashlib
import math
import os
import platform
import re
import struct
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath

import numpy as np

from stellarhml import __version__
from stellarhml._state import StateError, check_keys, take
from stellarhml.exceptions import PersistenceError
from stellarhml.storage.asdf_text import (
    DTYPES,
    MAX_DEPTH,
    MAX_TEXT,
    Array,
    HeaderError,
    Root,
    Tagged,
    from_text,
    to_text,
)
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.storage.file_sizes import is_sparse
from stellarhml.storage.registry import find_tag, read_state

MAGIC = b"#ASDF "
_FIRST_LINES = b"#ASDF 1.0.0\n#ASDF_STANDARD 1.5.0\n"
_END = b"\n...\n"
_BLOCK = struct.Struct(">4sHI4sQQQ16s")  # magic, bytes of the rest, flags, compression, allocated, used, data size, MD5
_BLOCK_MAGIC, _BLOCK_REST = b"\xd3BLK", 48
_ALIGNMENT = 64
_MAX_BLOCKS = 2_000
_MAPPED_FROM = 4096  # bytes; smaller arrays are read
_NO_CHECKSUM = "blake2b-" + 40 * "0"
_CHECKSUM = re.compile(rb"checksum: (blake2b-[0-9a-f]{40})\n")
_INT64 = 2**63
_PACKAGES = ("scikit-learn", "numpy", "scipy")
_NAMED_DTYPES = {np.dtype(name) for name in DTYPES.values()}


def write_asdf(estimator, path):
    """Write an estimator.

    Parameters
    ----------
    estimator : object
        With `to_state`, or a pipeline of such.
    path : str or path-like
        File to write. It appears under its name only when it is whole.

    Raises
    ------
    PersistenceError
        If the estimator has something that a file cannot hold; it is named, and no file appears.
    """
    encoder = Encoder()
    content = encoder.encode(estimator, type(estimator).__name__)
    if not isinstance(content, Tagged):
        raise _refusal("It", f"a {type(estimator).__name__}")
    tree = {"stellarhml": {"checksum": _NO_CHECKSUM, "versions": _find_versions(), "grid": encoder.grid}}
    try:
        content = pack(tree | {"estimator": content}, encoder.arrays)
        with atomic_path(path, sync=True) as temporary:
            with open(temporary, "wb") as file:
                file.writelines(content)
            read_asdf(temporary, mmap_mode="r", verify=False)  # what cannot be read again never gets its name
    except (PersistenceError, UnicodeError) as error:
        reason = str(error.__cause__ or error).rstrip(".")
        raise PersistenceError(
            f"The {type(estimator).__name__} cannot be an ASDF file: {reason}. Save to a name that ends in .joblib."
        ) from error


def pack(tree, arrays):
    """Give the pieces of a file one after the other.

    Parameters
    ----------
    tree : dict
        With "stellarhml" and "estimator".
    arrays : list of ndarray
        Content of the blocks, little-endian and contiguous.

    Yields
    ------
    piece : bytes or ndarray of uint8
        Next piece of the file.
    """
    text = _FIRST_LINES + to_text(Root(tree))
    position, heads, offsets = _first_block(len(text)), [], []
    for array in arrays:
        offsets.append(position - _BLOCK.size)
        allocated = _align(position + array.nbytes + _BLOCK.size) - _BLOCK.size - position
        form = _BLOCK_REST, 0, b"\0" * 4, allocated, array.nbytes, array.nbytes
        heads.append(_BLOCK.pack(_BLOCK_MAGIC, *form, _md5(_bytes_of(array))))
        position += allocated + _BLOCK.size
    yield text.replace(_NO_CHECKSUM.encode(), _checksum(text, heads).encode(), 1)
    end = len(text)
    for offset, head, array in zip(offsets, heads, arrays, strict=True):
        yield bytes(offset - end)
        yield head
        yield _bytes_of(array)
        end = offset + len(head) + array.nbytes
    if arrays:
        yield bytes(position - _BLOCK.size - end)
    yield _index(offsets)


class Encoder:
    """Turns objects into the tree of a header, and collects their arrays.

    Attributes
    ----------
    arrays : list of ndarray
        Content of each block. An array that occurs twice is one block, and so are large ones of the same content, such
        as the wavelengths of several steps.
    grid : str or None
        The first `grid_id_` that an object has.
    """

    def __init__(self):
        self.arrays, self.grid = [], None
        self._known = {}  # id -> (value, its node); the value is kept so that its id stays its own
        self._large = {}  # form and hash of the content -> node

    def encode(self, value, where, depth=0):
        """Turn a value into a node.

        Parameters
        ----------
        value : object
            What to store.
        where : str
            Its place, for messages.
        depth : int, default=0
            Levels above it.

        Returns
        -------
        node : None, bool, int, float, str, list, dict, Array or Tagged
            What a header holds.

        Raises
        ------
        PersistenceError
            If a part of it cannot be stored.
        """
        if isinstance(value, (np.bool_, np.number, np.str_)):
            value = value.item()
        kind = type(value)
        if value is None or kind in (bool, float) or (kind is int and -_INT64 < value < _INT64):
            return value
        if kind is str or isinstance(value, PurePath):
            return str(value)
        if depth > MAX_DEPTH:
            raise _refusal(where, "nested too deeply, or inside itself")
        if kind in (list, tuple):
            return [self.encode(part, f"{where}[{i}]", depth + 1) for i, part in enumerate(value)]
        if kind is dict:
            return self._mapping(value, where, depth)
        if isinstance(value, np.ndarray):
            return self._array(value, where)
        tag = find_tag(kind)
        if tag is None:
            raise _refusal(where, f"a {kind.__module__}.{kind.__qualname__}")
        grid = getattr(value, "grid_id_", None)
        self.grid = grid if self.grid is None and isinstance(grid, str) else self.grid
        return Tagged(tag, self._mapping(state_of(value), where, depth))

    def _mapping(self, value, where, depth):
        wrong = [key for key in value if type(key) is not str or not key or key.startswith(("_", "$", "<"))]
        if wrong:
            raise _refusal(where, f"a mapping with the keys {wrong!r:.200}")
        return {key: self.encode(part, f"{where}.{key}", depth + 1) for key, part in value.items()}

    def _array(self, value, where):
        if value.dtype.kind in "OU" and value.ndim == 1 and all(isinstance(item, str) for item in value.tolist()):
            return value.tolist()  # such as `feature_names_in_`
        if id(value) not in self._known:
            fortran = value.flags.f_contiguous and not value.flags.c_contiguous
            # another order could change the last bit of a matrix product
            array = np.asarray(value, dtype=value.dtype.newbyteorder("<"), order="F" if fortran else "C")
            if type(value) not in (np.ndarray, np.memmap) or array.dtype not in _NAMED_DTYPES:
                raise _refusal(where, f"a {type(value).__name__} of dtype {value.dtype}")
            node = Array(len(self.arrays), array.dtype, array.shape, "F" if fortran else "C")
            # small ones stay apart: once read, only large ones may be maps, which nobody changes
            if array.nbytes >= _MAPPED_FROM:
                content = node.dtype.str, node.shape, node.order, _md5(_bytes_of(array))
                node = self._large.setdefault(content, node)
            if node.source == len(self.arrays):
                self.arrays.append(array)
            self._known[id(value)] = value, node
        return self._known[id(value)][1]


def state_of(value) -> dict:
    """State of an object that has a tag.

    Parameters
    ----------
    value : object
        Of one of the classes of `stellarhml.storage.registry`.

    Returns
    -------
    state : dict
        What its `to_state` returns.
    """
    if hasattr(value, "to_state"):
        return value.to_state()
    from stellarhml.storage.pipelines import PipelineState  # scikit-learn's class has no method of ours

    return PipelineState.to_state(value)


def plain_state(value):
    """State of an object for the `asdf` library, which converts the objects in it itself.

    Parameters
    ----------
    value : object
        Of one of the classes of `stellarhml.storage.registry`.

    Returns
    -------
    state : dict
        Of plain values, arrays, and objects.
    """

    def plain(part):
        if isinstance(part, (np.bool_, np.number, np.str_)):
            return part.item()
        if isinstance(part, PurePath):
            return str(part)
        if type(part) in (list, tuple):  # no named tuple, which has a tag
            return [plain(item) for item in part]
        if isinstance(part, dict):
            return {key: plain(item) for key, item in part.items()}
        if isinstance(part, np.ndarray) and part.dtype.kind in "OU":
            return part.tolist()
        return part

    return plain(state_of(value))


def read_asdf(path, *, mmap_mode=None, verify=True):
    """Read an estimator.

    Parameters
    ----------
    path : str or path-like
        File that `write_asdf` wrote.
    mmap_mode : {None, "r", "c"}, default=None
        Map arrays of 4 kB and more rather than read them.
    verify : bool, default=True
        Whether to compare the blocks with their checksums. The header always is.

    Returns
    -------
    estimator : object
        The estimator.

    Raises
    ------
    PersistenceError
        If the file is not what `write_asdf` writes, or was written by a newer version.
    """
    with open(os.fspath(path), "rb") as file:
        tree, blocks = _read_header(file, path)
        arrays = _read_arrays(file, path, tree["estimator"], blocks, mmap_mode, verify)
    try:
        return _make(tree["estimator"], arrays)
    # `from_state` should raise StateError only; the tests count any other, which shows a missing check
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise PersistenceError(
            f"{path} is whole, but no estimator can be made from it: {error!s:.500} Ask its author to save it again."
        ) from error


def read_record(path):
    """Read the record of a file, and verify all of the file, without making any object.

    Parameters
    ----------
    path : str or path-like
        File that `write_asdf` wrote.

    Returns
    -------
    record : dict
        "tag", "versions", "grid" and "n_arrays".

    Raises
    ------
    PersistenceError
        As `read_asdf`.
    """
    with open(os.fspath(path), "rb") as file:
        tree, blocks = _read_header(file, path)
        _read_arrays(file, path, tree["estimator"], blocks, "r", True)
    record = tree["stellarhml"]
    return {"tag": tree["estimator"].tag, "n_arrays": len(blocks)} | {k: record[k] for k in ("versions", "grid")}


def _read_header(file, path):
    """The tree, and start and size of each block; everything but the content of the blocks is checked."""
    size = os.fstat(file.fileno()).st_size
    if is_sparse(file):
        raise _cut(path, f"of its {size} bytes less than a tenth is stored, and the rest are holes")
    head = file.read(MAX_TEXT + len(_FIRST_LINES) + len(_END))
    if not head.startswith(_FIRST_LINES[: len(head)]):
        raise PersistenceError(
            f"{path} is not an ASDF file of stellarhml: it begins with {head[:16]!r}. Pass a file that stellarhml.save "
            "wrote under a name that ends in .asdf; a joblib file must not have that ending."
        )
    end = head.find(_END)
    if end < 0:
        raise _cut(path, f"its header has no end within {MAX_TEXT} bytes")
    text = head[: end + len(_END)]
    blocks, heads, padding = _find_blocks(file, path, len(text), size)
    found = _CHECKSUM.search(text)
    if not found or padding:
        raise _cut(path, f"{padding or 'its header has no checksum'}")
    if found[1].decode() != _checksum(text[: found.start(1)] + _NO_CHECKSUM.encode() + text[found.end(1) :], heads):
        raise _cut(path, "its header does not match its checksum")
    try:
        tree = from_text(text[len(_FIRST_LINES) :])
        _check_tree(tree, blocks, size)
    except (HeaderError, StateError) as error:
        raise PersistenceError(
            f"{path} is not what stellarhml.save writes: {error!s:.500}. Ask its author to save it again."
        ) from error
    except PersistenceError as error:
        raise PersistenceError(f"{path} cannot be opened here: {error}.") from None
    return tree, blocks


def _find_blocks(file, path, end, size):
    """Start and size of each block, their headers, and what is wrong between them."""
    blocks, heads, offsets, wrong = [], [], [], ""
    position = _first_block(end) - _BLOCK.size
    file.seek(end)
    first = file.read(position + 4 - end)
    if not first.endswith(_BLOCK_MAGIC):
        position = end  # no arrays
    elif first[:-4].strip(b"\0"):
        wrong = "there is something between header and blocks"
    while True:
        file.seek(position)
        head = file.read(_BLOCK.size)
        if not head.startswith(_BLOCK_MAGIC):
            break
        if len(head) < _BLOCK.size or len(blocks) == _MAX_BLOCKS:
            raise _cut(path, f"it ends inside a block, or has more than {_MAX_BLOCKS}")
        _, rest, flags, compression, allocated, used, data_size, _ = _BLOCK.unpack(head)
        start = position + _BLOCK.size
        needed = _align(start + used + _BLOCK.size) - _BLOCK.size - start
        if (rest, flags, compression, data_size, allocated) != (_BLOCK_REST, 0, b"\0" * 4, used, needed):
            raise _cut(path, f"the block at byte {position} is compressed, streamed or of another form than ours")
        if start + allocated > size:
            raise _cut(path, f"it has {size} bytes, but a block goes to {start + allocated}")
        file.seek(start + used)
        if file.read(allocated - used).strip(b"\0"):
            wrong = f"the padding of the block at byte {position} is not empty"
        blocks.append((start, used))
        heads.append(head)
        offsets.append(position)
        position = start + allocated
    index = _index(offsets)
    file.seek(position)
    if size - position != len(index) or file.read(len(index)) != index:
        raise _cut(path, f"after byte {position} there must be an index of its {len(blocks)} blocks")
    return blocks, heads, wrong


def _check_tree(tree, blocks, size):
    """Raise HeaderError if the tree is not one of ours, or an array is not all of a block."""
    check_keys(tree, ("stellarhml", "estimator"), ("asdf_library", "history"))
    record = take(tree, "stellarhml", dict)
    check_keys(record, ("checksum", "versions", "grid"))
    versions, grid = take(record, "versions", dict), take(record, "grid", (str, type(None)))
    shown = [*versions, *(version for version in versions.values() if version is not None), grid or ""]
    # these are shown, and terminals obey what cannot be printed
    if not all(isinstance(text, str) and text.isprintable() and len(text) <= 200 for text in shown):
        raise HeaderError("its versions or the identity of its grid cannot be printed")
    if not isinstance(tree["estimator"], Tagged):
        raise HeaderError("it holds no estimator")
    seen = {}
    for array in _arrays_of(tree["estimator"]):
        if not 0 <= array.source < len(blocks) or array.nbytes != blocks[array.source][1]:
            raise HeaderError(f"an array of shape {array.shape} and {array.nbytes} bytes is not all of its block")
        # one description per block, so that no small file stands for large memory
        if seen.setdefault(array.source, array) != array:
            raise HeaderError(f"block {array.source} is described in two ways")
        if not array.nbytes and math.prod(max(n, 1) for n in array.shape) > size:
            raise HeaderError(f"an empty array has the shape {array.shape}")
    if len(seen) != len(blocks):
        raise HeaderError(f"it has {len(blocks)} blocks, of which {len(seen)} are used")


def _arrays_of(node):
    if isinstance(node, Array):
        yield node
    elif isinstance(node, Tagged):
        yield from _arrays_of(node.state)
    elif isinstance(node, (dict, list)):
        for part in node.values() if isinstance(node, dict) else node:
            yield from _arrays_of(part)


def _read_arrays(file, path, tree, blocks, mmap_mode, verify):
    """Array of each block, mapped or read."""
    arrays = {}
    for array in _arrays_of(tree):
        if array.source in arrays:
            continue
        start, n_bytes = blocks[array.source]
        form = {"shape": array.shape, "dtype": array.dtype, "order": array.order}
        if mmap_mode is not None and n_bytes >= _MAPPED_FROM:
            # a map of its own: joblib hands it to other processes by name, offset, shape and order
            content = np.memmap(file, mode=mmap_mode, offset=start, **form)
        else:
            content = np.empty(**form)
            file.seek(start)
            if file.readinto(_bytes_of(content)) != n_bytes:
                raise _cut(path, "it became shorter while it was read")
        if verify:
            file.seek(start - 16)
            if file.read(16) != _md5(_bytes_of(content)):
                raise _cut(path, f"the block at byte {start - _BLOCK.size} does not match its checksum")
        # compiled code treats a boolean with another byte as neither True nor False
        if array.dtype == bool and n_bytes and _bytes_of(content).max() > 1:
            raise _cut(path, f"the block at byte {start - _BLOCK.size} holds booleans other than 0 and 1")
        arrays[array.source] = content
    return arrays


def _make(node, arrays):
    """The value of a node. The depth is limited, as `from_text` made it."""
    if isinstance(node, list):
        return [_make(part, arrays) for part in node]
    if isinstance(node, dict):
        return {key: _make(part, arrays) for key, part in node.items()}
    if isinstance(node, Array):
        return arrays[node.source]
    if not isinstance(node, Tagged):
        return node
    return read_state(node.tag, {key: _make(part, arrays) for key, part in node.state.items()})


def _find_versions():
    """Versions of Python and the packages that write a file; None for a package that is not installed."""
    own = {"python": platform.python_version(), "stellarhml": __version__}
    return own | {name: _version(name) for name in _PACKAGES}


@cache  # reads the disk, and the packages of a process do not change
def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _index(offsets):
    """The list of blocks at the end of a file."""
    if not offsets:
        return b""
    return b"#ASDF BLOCK INDEX\n%YAML 1.1\n---\n" + b"".join(b"- %d\n" % offset for offset in offsets) + b"...\n"


def _first_block(end):
    """Where the content of the first block lies after a header that ends there."""
    return _align(end + _BLOCK.size)


def _bytes_of(array):
    """The bytes of a contiguous array, not copied, nor as a subclass."""
    return np.asarray(array).reshape(-1, order="A").view(np.uint8)


def _align(position):
    return -(-position // _ALIGNMENT) * _ALIGNMENT


def _md5(content):
    return hashlib.new("md5", content, usedforsecurity=False).digest()  # what ASDF prescribes


def _checksum(text, heads):
    """Checksum of a header whose own checksum is all zeros, and of the heads of the blocks."""
    return "blake2b-" + hashlib.blake2b(text + b"".join(heads), digest_size=20).hexdigest()


def _cut(path, found):
    return PersistenceError(
        f"{path} is cut short or was changed: {found}. Copy the file again, or save the estimator anew."
    )


def _refusal(where, found):
    return PersistenceError(
        f"{where} is {found}, which an ASDF file cannot hold. It holds None, bool, int, float, str, lists, arrays of "
        "booleans or numbers, and the estimators of stellarhml. Set it to one of these, or save to a name that ends "
        "in .joblib."
    )
