"""Spectra in named arrays: npz of NumPy, and HDF5 of Starfish."""

import importlib.util
import io
import os
import subprocess
import sys
import warnings

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.igrins import RESOLVING_POWER
from stellarhml.spectra.orders import OrderBuilder, check_medium, to_vacuum
from stellarhml.storage.file_sizes import LIMITS, read_npz_arrays, refuse_large

_NPZ = {
    "wavelength": ("wavelength", "wave", "wavelength_A", "lambda"),
    "flux": ("flux",),
    "error": ("sigma", "error", "flux_error", "uncertainty"),
    "order": ("order",),
    "mask": ("mask",),
}
_HDF5 = {
    "wavelength": ("waves", "wls", "wave", "wl"),
    "flux": ("fluxes", "fls", "flux", "fl"),
    "error": ("sigmas", "sigma"),
    "mask": ("masks", "mask"),
}


def read_npz(path, *, medium, igrins):
    """Orders and meta of an npz file: `wavelength` in angstrom, `flux`, and optionally `sigma`, `order` and `mask`.

    Arrays are one-dimensional, with the order number of each pixel in `order`, or have a row for each order. `igrins`:
    the spectrum is from IGRINS, which implies vacuum and the resolving power. SpectrumFileError if the file is damaged,
    or has other arrays.
    """
    try:
        # a damaged file raises any of a dozen exceptions; pickles, which could run code, are refused
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            known = [name for group in _NPZ.values() for name in group]
            arrays, names = read_npz_arrays(path, lambda names: [name for name in known if name in names])
    except SpectrumFileError:
        raise
    except Exception as error:
        raise SpectrumFileError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as an npz file ({type(error).__name__}: {error}); it "
            "is damaged or truncated. Copy it again."
        ) from error
    chosen = _choose(path, arrays, names, _NPZ)
    medium = check_medium(medium, by_format="igrins" if igrins else None)
    mask = chosen.pop("mask", None)  # True is bad, as in NumPy
    meta = {"instrument": "IGRINS" if igrins else None, "format": "igrins (npz)" if igrins else "npz"}
    return _build(path, chosen, mask, medium, meta | {"resolving_power": RESOLVING_POWER if igrins else None})


def read_hdf5(path, *, medium):
    """Orders and meta of an HDF5 file of Starfish: `waves` (or `wls`) in angstrom, `fluxes`, `sigmas`, `masks`.

    Each data set has one row for each order, or is one order. A mask is True (or 1) where a pixel is good.
    SpectrumFileError if the file is damaged, or has other data sets; ImportError if h5py is not installed.
    """
    medium = check_medium(medium)
    if importlib.util.find_spec("h5py") is None:
        raise ImportError(
            f'read_spectrum needs the package h5py for {path.name}. Install it with: pip install "stellarhml[hdf5]"'
        )
    refuse_large(path, "binary")
    arrays = _read_apart(path, [name for group in _HDF5.values() for name in group])
    names, title = arrays.pop(" names").tolist(), str(arrays.pop(" title"))
    chosen = _choose(path, arrays, names, _HDF5)
    mask = chosen.pop("mask", None)
    if mask is not None:
        with np.errstate(all="ignore"):
            mask = ~(mask.astype(np.float64) > 0)
    return _build(path, chosen, mask, medium, {"format": "hdf5 (Starfish)", "object": title or None})


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
arrays |= {" names": np.array(names, dtype=str), " title": np.array(title if isinstance(title, str) else "")}
buffer = io.BytesIO()
np.savez(buffer, **arrays)
sys.stdout.buffer.write(buffer.getvalue())
"""


def _choose(path, arrays, names, groups):
    """Arrays by role, each a real number for each pixel."""
    chosen = {}
    for role, accepted in groups.items():
        found = [name for name in accepted if name in arrays]
        if len(found) > 1:
            raise SpectrumFileError(
                f"{path} has {' and '.join(found)}, but one array of {role} is needed. Drop the others."
            )
        if found:
            chosen[role] = arrays[found[0]]
    for role in ("wavelength", "flux"):
        if role not in chosen:
            advice = "Rename it."
            if any("transmission" in name.lower() for name in names):
                advice = "Pass a transmission of the atmosphere to mask_tellurics or divide_tellurics instead."
            raise SpectrumFileError(
                f"{path} has the arrays {', '.join(names) or 'none'}, but one named {' or '.join(groups[role])} is "
                f"needed. {advice}"
            )
    for role, array in chosen.items():
        if array.dtype.kind not in "fiub" or array.ndim not in (1, 2):
            raise SpectrumFileError(
                f"{path} has an array of {role} of shape {array.shape} and type {array.dtype}, but real numbers in one "
                "dimension, or in two with a row for each order, are needed."
            )
    shapes = {role: array.shape for role, array in chosen.items()}
    grid, flux = shapes["wavelength"], shapes["flux"]
    others = {shape for role, shape in shapes.items() if role != "wavelength"}
    if len(others) > 1 or (grid != flux and grid != flux[1:]):  # one grid may serve all rows
        raise SpectrumFileError(f"{path} has arrays of the shapes {shapes}, but one shape is needed. Write them anew.")
    return chosen


def _build(path, chosen, mask, medium, meta):
    """Orders and meta of arrays by role; `mask` is True where a pixel is bad."""
    flux, error, labels = chosen["flux"], chosen.get("error"), chosen.get("order")
    with np.errstate(all="ignore"):
        grid = to_vacuum(np.asarray(chosen["wavelength"], dtype=np.float64), medium, path)
    builder = OrderBuilder(path)
    if labels is not None:
        groups = split_orders(path, labels.ravel())
        grid, flux = np.broadcast_to(grid, flux.shape).ravel(), flux.ravel()
        error, mask = (None if a is None else a.ravel() for a in (error, mask))
    elif flux.ndim == 2:
        groups = enumerate(range(len(flux)))
        grid = np.broadcast_to(grid, flux.shape)
    else:
        groups = [(0, slice(None))]
    for number, rows in groups:
        parts = (None if a is None else a[rows] for a in (grid, flux, error, mask))
        builder.add(number, *parts)
    note = f"Columns used: {', '.join(chosen)}{', mask' if mask is not None else ''}; wavelengths in angstrom."
    return builder.orders, meta | {
        "file": str(path),
        "medium": medium,
        "errors_known": builder.errors_known,
        "flux_unit": None,
        "order_numbers": builder.numbers,
        "notes": [note, *builder.notes()],
    }


def split_orders(path, labels):
    """Number and indices of each order, in order of first appearance, from the order number of each pixel (n_pixels,).

    SpectrumFileError if these are not whole numbers.
    """
    with np.errstate(all="ignore"):
        whole = labels.astype(np.float64)
        good = np.isfinite(whole) & (np.abs(whole) < 2**31) & (whole == np.round(whole))
    if not good.all():
        raise SpectrumFileError(
            f"{path} has {labels[~good][0]} as the number of an order, but a whole number is needed for each pixel."
        )
    values, first, member = np.unique(whole, return_index=True, return_inverse=True)
    sizes = np.bincount(member.ravel(), minlength=len(values))
    ends = np.cumsum(sizes)
    rows = np.argsort(member.ravel(), kind="stable")
    return [(int(values[k]), rows[ends[k] - sizes[k] : ends[k]]) for k in np.argsort(first)]
