"""Spectra in a .npy file, which is written row by row and memory-mapped."""

import io
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
    with open(path, "wb", buffering=0) as file:
        for content in _contents(header.getvalue(), rows, dtype):
            try:
                while content:
                    content = content[file.write(content) :]
            except OSError as error:
                raise StoreError(
                    f"The {shape[0]} spectra, {dtype.itemsize * shape[0] * shape[1] / 1e6:.1f} MB, could not be "
                    f"written to {Path(path).parent} ({error}). Make room, and start the same job again: results that "
                    "are there are kept."
                ) from error


def _contents(header, rows, dtype):
    yield memoryview(header)
    for row in rows:
        yield memoryview(np.ascontiguousarray(row, dtype=dtype)).cast("B")


def is_mapped(array):
    """Whether the values of an array lie in a memory map, also where it is a view of one."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False
