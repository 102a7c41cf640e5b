"""A file of the spectra of a grid, written once and reused while request and source files are the same."""

import json
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from stellarhml.exceptions import StoreError
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.storage.result_store import digest, digest_file
from stellarhml.storage.row_files import write_rows


def describe_request(files, labels, wavelength, resolving_power, dtype):
    """Request and source files of a cache, as JSON can hold them.

    `files` are the files that the spectra depend on; `labels` (n_spectra, n_labels) and `wavelength` (n_pixels,) those
    of the result.
    """
    sources = []
    for path in files:
        status = Path(path).stat()
        # a file put in the place of another may have its size and time of content, but not of change
        sources.append([str(Path(path).resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return {
        "schema": 3,
        "spectra": digest(np.ascontiguousarray(labels), np.ascontiguousarray(wavelength)),
        "resolving_power": None if resolving_power is None else float(resolving_power),
        "dtype": np.dtype(dtype).str,
        "sources": sources,
    }


def check_cache(cache):
    """Raise if `cache` is a folder, or it or the JSON file beside it is not a cache of spectra."""
    if cache.is_dir():
        raise ValueError(
            f"`cache` is the folder {cache}, but it must be a file for the fluxes. Pass a name in it, such as "
            f"{cache / 'phoenix.npy'}."
        )
    sidecar, foreign = _sidecar(cache), None
    if cache.exists() and not sidecar.exists():
        foreign = cache
    with suppress(OSError, ValueError):  # absent, or damaged: ours
        content = json.loads(sidecar.read_text())
        foreign = foreign if isinstance(content, dict) and "checksum" in content else sidecar
    if foreign is not None:
        raise StoreError(
            f"{foreign} was not written by load_phoenix or load_grid, which would replace it by spectra. Move it away, "
            "or choose another name or folder for them."
        )


def open_cache(cache, request, shape):
    """Memory map of an undamaged cache with the same request, or None."""
    try:
        sidecar = json.loads(_sidecar(cache).read_text())
        if sidecar != {**request, "checksum": sidecar["checksum"]} or sidecar["checksum"] != digest_file(cache):
            return None
        flux = np.load(cache, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError):  # missing, cut short, or of another version: write it again
        return None
    return flux if flux.shape == shape and flux.dtype.str == request["dtype"] else None


def write_cache(cache, request, shape, spectra):
    """Write a new cache under a temporary name, rename it, and open it."""
    with atomic_path(cache, sync=True) as temporary, closing(spectra):  # and its progress bar, on an error
        write_rows(temporary, spectra, shape, request["dtype"])
        checksum = digest_file(temporary)
        # The JSON file comes first: after an interruption between the two, the old cache is known as ours, and stale.
        with atomic_path(_sidecar(cache), sync=True) as beside:
            beside.write_text(json.dumps({**request, "checksum": checksum}))
    return np.load(cache, mmap_mode="r", allow_pickle=False)


def _sidecar(cache):
    """Path of the JSON file of a cache."""
    return cache.with_name(cache.name + ".json")
