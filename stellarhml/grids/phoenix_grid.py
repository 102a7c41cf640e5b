"""load_phoenix: PHOENIX spectra of a local folder as one array, read one file at a time."""

import json
import warnings
from contextlib import closing, suppress
from itertools import product
from numbers import Real
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from stellarhml._parallel import progress
from stellarhml._validation import LABELS
from stellarhml.exceptions import (
    GridIncompleteError,
    GridNotFoundError,
    SpectrumFileError,
    StellarHMLWarning,
    StoreError,
    WavelengthCoverageError,
)
from stellarhml.grids.phoenix_files import (
    WAVE_NAME,
    list_phoenix_files,
    read_phoenix_spectrum,
    read_phoenix_wavelength,
)
from stellarhml.grids.selection import select_values
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.storage.result_store import digest_file
from stellarhml.storage.row_files import write_rows


def load_phoenix(
    folder,
    *,
    teff=None,
    logg=None,
    feh=None,
    alpha=0.0,
    wavelength=(8038.0, 12849.0),
    dtype=np.float32,
    missing="raise",
    cache=None,
    verbose=None,
    return_X_y=False,
):
    """Load PHOENIX-ACES spectra from a local folder in PHOENIX's own layout.

    Every file is checked: truncated or damaged files, files of another length than the WAVE file, fluxes that are
    not finite, stretches of pixels that are zero, negative or constant, headers that contradict the name, and two files
    of one node are errors that name the file. One spectrum at a time is in
    memory besides the result; with `cache`, the result itself stays on disk.

    Parameters
    ----------
    folder : str or path-like
        Folder that holds `WAVE_PHOENIX-ACES-AGSS-COND-2011.fits` and `PHOENIX-ACES-AGSS-COND-2011/`.
    teff, logg, feh : None, tuple (lo, hi), float or array-like, default=None
        Nodes to load, in K, dex(cm/s2) and dex. None takes all values in the folder, a tuple a closed range of
        them, a list or array exactly those values.
    alpha : float, default=0.0
        The one value of [alpha/Fe] to load, in dex. It is no label of the grid.
    wavelength : tuple (lo, hi) or None, default=(8038.0, 12849.0)
        Closed range of vacuum wavelengths to keep, in angstrom. The default is the band of the Habitable-zone
        Planet Finder. None keeps everything.
    dtype : dtype, default=numpy.float32
        Type of the fluxes. The files hold float32.
    missing : {"raise", "report"}, default="raise"
        If nodes of the selected values have no file: raise an error, or leave them out, warn and list them in
        `missing`. No spectrum is ever filled in.
    cache : str or path-like, default=None
        A `.npy` file for the fluxes, which are returned as a read-only memory map. It is written once, with a JSON
        file beside it, and reused while it is undamaged, and the request and the size and times of every source file
        are the same. Another file of that name is never replaced.
    verbose : bool, default=None
        Whether to show a progress bar; None shows one on a terminal if it takes over two seconds.
    return_X_y : bool, default=False
        Whether to return `(flux, labels)` in place of the Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        flux : ndarray of shape (n_spectra, n_pixels)
            erg/s/cm^2/cm; rows are sorted by teff, then logg, then feh.
        labels : ndarray of shape (n_spectra, 3)
            teff [K], logg [dex(cm/s2)], feh [dex].
        wavelength : ndarray of shape (n_pixels,)
            Vacuum wavelengths in angstrom.
        label_names : tuple of str
            ("teff", "logg", "feh").
        missing : ndarray of shape (n_missing, 3)
            Nodes of the selected values that have no file.
        filenames : list of str
            The files, one for each row.
        DESCR : str
            Description of the spectra.

    Raises
    ------
    GridNotFoundError
        If there is no folder, no WAVE file, or no spectrum in the selection.
    GridIncompleteError
        If nodes are missing and `missing="raise"`.
    SpectrumFileError
        If a file is damaged or contradicts the others.
    WavelengthCoverageError
        If no pixel lies in `wavelength`.
    StoreError
        If `cache` is a file that `load_phoenix` has not written.

    See Also
    --------
    fetch_phoenix : Download the spectra first.
    load_mini_grid : A small grid that comes with the package.
    """
    if missing not in ("raise", "report"):
        raise ValueError(f"`missing` is {missing!r}, but it must be 'raise' or 'report'.")
    alpha = _check_alpha(alpha)
    if cache is not None:
        _check_cache(Path(cache))
    folder = Path(folder).expanduser()
    labels, files, absent = _choose_nodes(folder, teff, logg, feh, alpha)
    if len(absent):
        _report_missing(folder, absent, len(labels), missing)
    all_pixels = read_phoenix_wavelength(folder)
    pixels = _choose_pixels(all_pixels, wavelength, folder)
    shape = (len(files), pixels.stop - pixels.start)

    def spectra():
        for path in progress(files, verbose=verbose, description="load_phoenix", unit="spectra"):
            yield read_phoenix_spectrum(path, all_pixels.size, pixels, all_pixels)[0]

    if cache is None:
        flux = np.empty(shape, dtype=dtype)
        for row, spectrum in enumerate(spectra()):
            flux[row] = spectrum
    else:
        request = _describe_request(folder, files, pixels, dtype)
        flux = _open_cache(Path(cache), request, shape)
        if flux is None:
            flux = _write_cache(Path(cache), request, shape, spectra())
    if return_X_y:
        return flux, labels
    return Bunch(
        flux=flux,
        labels=labels,
        wavelength=all_pixels[pixels].copy(),
        label_names=LABELS,
        missing=absent,
        filenames=[str(path) for path in files],
        DESCR=_DESCR.format(n=len(files), alpha=alpha, folder=folder),
    )


def _check_alpha(alpha):
    """`alpha` as a number; ValueError unless it is one finite number."""
    if isinstance(alpha, np.ndarray) and alpha.ndim == 0:
        alpha = alpha.item()
    if not isinstance(alpha, Real) or isinstance(alpha, bool) or not np.isfinite(alpha):
        raise ValueError(
            f"`alpha` is {alpha!r}, but it must be one number: a grid is loaded at one value of [alpha/Fe], in dex, "
            "which is not among its labels. Load each value by itself, such as alpha=0.2."
        )
    return alpha


def _choose_nodes(folder, teff, logg, feh, alpha):
    """Labels of the nodes to read, sorted, (n, 3), their files, and the labels of the missing nodes, (n_missing, 3)."""
    found = list_phoenix_files(folder)
    alphas = np.unique([labels[3] for labels, _ in found])
    found = [(labels[:3], path) for labels, path in found if abs(labels[3] - alpha) <= 1e-6]
    there = np.array([labels for labels, _ in found])
    if not len(there):
        raise GridNotFoundError(
            f"{folder} holds no spectrum with [alpha/Fe] = {alpha}, only {', '.join(f'{a:g}' for a in alphas)}. Pass "
            "one of these as `alpha`."
        )
    # "All values" and ranges count values that occur with the other selected labels, not anywhere in the folder.
    selections = dict(zip(LABELS, (teff, logg, feh), strict=True))
    for column, (name, selection) in enumerate(selections.items()):
        if selection is not None:
            there = there[np.isin(there[:, column], select_values(selection, there[:, column], name))]
            if not len(there):
                raise GridNotFoundError(
                    f"{folder} holds no spectrum with `{name}` = {selection} and the other labels as selected. See "
                    "stellarhml.grids.phoenix_files.list_phoenix_nodes(folder) for its nodes."
                )
    axes = [select_values(s, there[:, column], name) for column, (name, s) in enumerate(selections.items())]
    present = set(map(tuple, there.tolist()))
    selected = list(product(*(axis.tolist() for axis in axes)))
    absent = [node for node in selected if node not in present]
    files = {}
    for labels, path in found:
        if labels in present and labels in files:
            raise SpectrumFileError(
                f"{files[labels]} and {path} are both named for the node ({', '.join(f'{x:g}' for x in labels)}), but "
                "a node has one spectrum. Delete one of them, or move it away."
            )
        files[labels] = path
    there = np.unique(there, axis=0)
    return there, [files[tuple(node)] for node in there.tolist()], np.array(absent, dtype=np.float64).reshape(-1, 3)


def _report_missing(folder, absent, n_there, missing):
    """Raise or warn because of missing nodes."""
    first = ", ".join(f"({t:g}, {g:g}, {z:g})" for t, g, z in absent[:5])
    found = (
        f"{len(absent)} of the {len(absent) + n_there} selected nodes have no file in {folder}, first (teff, logg, "
        f"feh) = {first}"
    )
    if missing == "raise":
        raise GridIncompleteError(
            f"{found}. Download them with stellarhml.datasets.fetch_phoenix, select a range without them, or pass "
            "missing='report' to go on without them."
        )
    warnings.warn(f"{found}; they are left out and listed in `missing`.", StellarHMLWarning, stacklevel=3)


def _choose_pixels(all_pixels, limits, folder):
    """Slice of the pixels in the closed range `limits`."""
    if limits is None:
        return slice(0, all_pixels.size)
    if np.shape(limits) != (2,) or not all(isinstance(limit, Real) for limit in limits):
        raise ValueError(
            f"`wavelength` is {limits!r}, but it must be a range (lo, hi) in vacuum angstrom, or None for all pixels."
        )
    lo, hi = limits
    pixels = slice(int(np.searchsorted(all_pixels, lo, "left")), int(np.searchsorted(all_pixels, hi, "right")))
    if pixels.stop <= pixels.start:
        raise WavelengthCoverageError(
            f"`wavelength` is ({lo}, {hi}) angstrom, but no pixel of {folder / WAVE_NAME} lies in it: they go from "
            f"{all_pixels[0]:g} to {all_pixels[-1]:g} angstrom. Choose a range inside that."
        )
    return pixels


def _describe_request(folder, files, pixels, dtype):
    """Request and source files of a cache, as JSON can hold them."""
    sources = []
    for path in [folder / WAVE_NAME, *files]:
        status = path.stat()
        # a file put in the place of another may have its size and time of content, but not of change
        sources.append([str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return {"schema": 2, "pixels": [pixels.start, pixels.stop], "dtype": np.dtype(dtype).str, "sources": sources}


def _check_cache(cache):
    """Raise if `cache` is a folder, or it or the JSON file beside it is not of `load_phoenix`."""
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
            f"{foreign} was not written by load_phoenix, which would replace it by spectra. Move it away, or choose "
            "another name or folder for them."
        )


def _open_cache(cache, request, shape):
    """Memory map of an undamaged cache with the same request, or None."""
    try:
        sidecar = json.loads(_sidecar(cache).read_text())
        if sidecar != {**request, "checksum": sidecar["checksum"]} or sidecar["checksum"] != digest_file(cache):
            return None
        flux = np.load(cache, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError):  # missing, cut short, or of another version: write it again
        return None
    return flux if flux.shape == shape and flux.dtype.str == request["dtype"] else None


def _write_cache(cache, request, shape, spectra):
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


_DESCR = """PHOENIX-ACES-AGSS-COND-2011 synthetic stellar spectra

{n} spectra at [alpha/Fe] = {alpha}, read from {folder}.

Flux at the stellar surface in erg/s/cm^2/cm against vacuum wavelength in angstrom, at the native sampling of the
library (0.01 angstrom below 10000, 0.02 above, in the default range). Spherical geometry, LTE, ACES equation of state.
Reference: Husser, T.-O. et al. (2013), A&A 553, A6, doi:10.1051/0004-6361/201219058.
"""
