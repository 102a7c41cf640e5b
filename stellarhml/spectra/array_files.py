"""Spectra in named arrays: npz of NumPy, and HDF5 of Starfish."""

import importlib.util
import io
import os
import subprocess
import sys
import warnings

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.columns import Column, orders_of_columns, role_of
from stellarhml.spectra.igrins import RESOLVING_POWER
from stellarhml.spectra.statements import is_statement
from stellarhml.storage.file_sizes import LIMITS, read_npz_arrays, refuse_large

_HDF5 = ("waves", "wls", "wave", "wl", "fluxes", "fls", "flux", "fl", "sigmas", "sigma", "masks", "mask")


def read_npz(path, *, medium, igrins):
    """Orders and meta of an npz file: arrays with the names of columns, see `columns`; wavelengths in angstrom.

    Arrays are one-dimensional, with the order number of each pixel in `order`, or have a row for each order. An array
    of one text, such as `medium`, is a keyword. `igrins`: the spectrum is from IGRINS, which implies vacuum and the
    resolving power. SpectrumFileError if the file is damaged, or has other arrays.
    """
    try:
        # a damaged file raises any of a dozen exceptions; pickles, which could run code, are refused
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found, names = read_npz_arrays(path, lambda names: list(filter(_is_needed, names)))
        arrays = {name: found.get(name) for name in names}
    except SpectrumFileError:
        raise
    except Exception as error:
        raise SpectrumFileError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as an npz file ({type(error).__name__}: {error}); it "
            "is damaged or truncated. Copy it again."
        ) from error
    meta = {"instrument": "IGRINS", "resolving_power": RESOLVING_POWER} if igrins else {}
    meta["format"] = "igrins (npz)" if igrins else "npz"
    return _from_arrays(path, arrays, medium, meta, "igrins" if igrins else None)


def read_hdf5(path, *, medium):
    """Orders and meta of an HDF5 file of Starfish: `waves` (or `wls`) in angstrom, `fluxes`, `sigmas`, `masks`.

    Each data set has one row for each order, or is one order. A mask is True (or 1) where a pixel is good.
    SpectrumFileError if the file is damaged, or has other data sets; ImportError if h5py is not installed.
    """
    if importlib.util.find_spec("h5py") is None:
        raise ImportError(
            f'read_spectrum needs the package h5py for {path.name}. Install it with: pip install "stellarhml[hdf5]"'
        )
    refuse_large(path, "binary")
    arrays = _read_apart(path, _HDF5)
    names, title = arrays.pop(" names").tolist(), str(arrays.pop(" title"))
    for name in {"masks", "mask"} & set(arrays):
        with np.errstate(all="ignore"):
            arrays[name] = ~(arrays[name].astype(np.float64) > 0)
    stated = {name: arrays.pop(name) for name in list(arrays) if name.startswith(" ")}
    arrays = {name: arrays.get(name) for name in names if name in arrays or not role_of(name)}
    arrays |= {name.strip(): value for name, value in stated.items() if is_statement(name.strip())}
    return _from_arrays(path, arrays, medium, {"format": "hdf5 (Starfish)", "object": title or None})


def _read_apart(path, wanted):
    """Data sets of an HDF5 file by name, read by another process: a damaged file can crash or hang the HDF5 library."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _CHILD, str(LIMITS["binary"]), str(path), *wanted]
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=_PATIENCE, check=False)
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] if done.returncode else None
        if reason is None:
            with np.load(io.BytesIO(done.stdout), allow_pickle=False) as archive:
                return dict(archive)
        reason = reason[0] if reason and done.returncode > 0 else f"the HDF5 library crashed, {done.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"it takes longer than {_PATIENCE} s"
    raise SpectrumFileError(
        f"{path} ({path.stat().st_size} bytes) cannot be read as an HDF5 file ({reason}); it is damaged or truncated. "
        "Copy it again."
    )


_PATIENCE = 120  # s
# Takes a limit in bytes, a path and names; writes those data sets, all names and the title as an npz to its standard
# output.
_CHILD = """
import io, math, os, sys
import h5py, numpy as np
limit, path, *wanted = sys.argv[1:]
with h5py.File(path, "r") as file:
    names = list(file)
    sets = {name: file[name] for name in wanted if name in names}
    if any(part.dtype.kind not in "fiub" for part in sets.values()):
        raise ValueError("its data sets are not all of real numbers")
    claimed = sum(max(8 * part.size, part.nbytes) for part in sets.values())  # as float64
    chunks = [math.prod(part.chunks) * part.dtype.itemsize for part in sets.values() if part.chunks]
    if max(claimed, *chunks, 0) > min(1000 * os.path.getsize(path) + 2**20, int(limit)):
        raise ValueError(f"its data sets claim {claimed} bytes, or {max(chunks, default=0)} for a piece")
    arrays = {name: np.asarray(part[()]) for name, part in sets.items()}
    title = file.attrs.get("name", "")
    for name, value in file.attrs.items():
        if isinstance(value, (str, bool, np.bool_)):
            arrays[" " + name] = np.array(value)
arrays |= {" names": np.array(names, dtype=str), " title": np.array(title if isinstance(title, str) else "")}
buffer = io.BytesIO()
np.savez(buffer, **arrays)
sys.stdout.buffer.write(buffer.getvalue())
"""


def _is_needed(name):
    """Whether an array is a column of a spectrum, or may be a keyword."""
    return bool(role_of(name)) or is_statement(name)


def split_cards(arrays):
    """Separate keywords, arrays of one value that may state the medium or the frame, from other named arrays."""
    single = [name for name, array in arrays.items() if array is not None and array.ndim == 0 and is_statement(name)]
    cards = {name.upper(): arrays[name].item() for name in single}
    return cards, {name: array for name, array in arrays.items() if name not in single}


def _from_arrays(path, arrays, medium, meta, format_name=None):
    """Orders and meta of named arrays; None marks one with a name that no spectrum needs.

    `format_name` is that of a format in vacuum and in the frame of the telescope.
    """
    cards, arrays = split_cards(arrays)
    if any("transmission" in name.lower() for name in arrays) and "flux" not in map(role_of, arrays):
        raise SpectrumFileError(
            f"{path} has the arrays {', '.join(arrays)}, which are a transmission of the atmosphere, but a spectrum is "
            "needed. Pass it to mask_tellurics or divide_tellurics, on the command line with --tellurics."
        )
    known = {name: array for name, array in arrays.items() if array is not None}
    for name, array in known.items():
        if array.dtype.kind not in "fiub" or array.ndim not in (1, 2):
            raise SpectrumFileError(
                f"{path} has an array {name!r} of shape {array.shape} and type {array.dtype}, but real numbers in one "
                "dimension, or in two with a row for each order, are needed."
            )
    shape = max((array.shape for array in known.values()), key=len, default=())
    shapes = {name: array.shape for name, array in known.items()}
    # one row of wavelengths may serve all orders
    if any(own != shape and not (own == shape[1:] and role_of(name) == "wavelength") for name, own in shapes.items()):
        raise SpectrumFileError(f"{path} has arrays of the shapes {shapes}, but one shape is needed. Write them anew.")
    columns = [
        Column(name, np.empty(0) if array is None else np.broadcast_to(array, shape).ravel())
        for name, array in arrays.items()
    ]
    with np.errstate(all="ignore"):
        rows = np.repeat(np.arange(shape[0]), shape[1]) if len(shape) == 2 else None
        orders, found = orders_of_columns(columns, [cards], medium, path, format_name=format_name, rows=rows)
    return orders, found | meta | {"file": str(path)}
