"""Arrays that are written piece by piece to files and memory-mapped."""

import io
import mmap
import tempfile
from pathlib import Path

import numpy as np

from stellarhml.exceptions import StoreError


def write_rows(path, rows, shape, dtype):
    """Write rows to a .npy file.

    They go through writes, not through a memory map: on a full disk a write raises an error, whereas a map ends the
    process.

    Parameters
    ----------
    path : str or path-like
        File to write.
    rows : iterable of ndarray
        Arrays of shape (n_pixels,) or (n, n_pixels), one after the other.
    shape : tuple of (int, int)
        Number of all rows, and of pixels.
    dtype : dtype
        Type of the file.

    Raises
    ------
    StoreError
        If the file cannot be written, for example because the disk is full.
    """
    dtype, header = np.dtype(dtype), io.BytesIO()
    form = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, form)
    what = f"{shape[0]} spectra, {dtype.itemsize * shape[0] * shape[1] / 1e6:.1f} MB,", Path(path).parent
    with open(path, "wb", buffering=0) as file:
        _write(file, memoryview(header.getvalue()), *what)
        for row in rows:
            _write(file, _bytes_of(row, dtype), *what)


def _bytes_of(values, dtype):
    """Values in another type, as bytes; copied only if needed."""
    return memoryview(np.ascontiguousarray(values, dtype=dtype)).cast("B")


def _write(file, content, what, folder):
    """Write all of the content to an unbuffered file; StoreError if that fails."""
    try:
        while content:
            content = content[file.write(content) :]
    except OSError as error:
        raise StoreError(
            f"{what} could not be written to {folder} ({error}). Make room, and start the same job again: results that "
            "are there are kept."
        ) from error


def is_mapped(array):
    """Whether the values of an array lie in a memory map, also where it is a view of one."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


def file_in(array, folder):
    """Path of the .npy file in `folder` or below that an array is a map of, whole; None of any other array."""
    root = array
    while isinstance(root, np.ndarray) and isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None:
        return None
    path = Path(root.filename)
    whole = (root.shape, root.dtype, root.ctypes.data) == (array.shape, array.dtype, array.ctypes.data)
    return path if whole and path.suffix == ".npy" and path.is_relative_to(Path(folder).absolute()) else None


def release(array):
    """Let the system take back the memory of a map of a file; what is used again is read from the file again.

    Copy-on-write maps (mode "c") and arrays in memory are left alone.
    """
    base = array
    while isinstance(base, np.ndarray) and getattr(base, "mode", None) != "c":
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


class GrowingArray:
    """A one-dimensional array that grows, in memory or in a file; a context manager, which closes the file.

    Parameters
    ----------
    dtype : dtype
        Type of the values.
    on_disk : bool, default=False
        Whether the values go to a temporary file without a name, which disappears with the process however it ends.
    folder : path-like, default=None
        Folder of that file. None: that of the system for temporary files.
    """

    def __init__(self, dtype, *, on_disk=False, folder=None):
        self._array, self._size = np.empty(0, dtype), 0
        self._folder = tempfile.gettempdir() if folder is None else folder
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0) if on_disk else None  # noqa: SIM115 (kept open)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._file is not None:
            self._file.close()

    def extend(self, values):
        """Add values (n,); StoreError if the disk is full."""
        size = self._size + len(values)
        if self._file is None:
            if size > len(self._array):  # a third more, so that few calls move the array
                self._array.resize(max(size, 4 * self._size // 3), refcheck=False)
            self._array[self._size : size] = values
        else:
            _write(self._file, _bytes_of(values, self._array.dtype), "The lines of the spectra", self._folder)
        self._size = size

    def finish(self):
        """The array, writable; the values on disk are a memory map. Nothing can be added any more."""
        if self._file is None:
            self._array.resize(self._size, refcheck=False)
        if self._file is None or not self._size:
            return self._array
        # a plain array over the map: joblib would send a np.memmap to workers by the name, which it has not
        return np.frombuffer(mmap.mmap(self._file.fileno(), 0), self._array.dtype)
