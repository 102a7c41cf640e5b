"""Download chosen PHOENIX spectra into PHOENIX's own layout, then load them."""

import logging
import os
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from stellarhml._parallel import progress
from stellarhml._validation import LABELS
from stellarhml.exceptions import DownloadError, GridIncompleteError
from stellarhml.grids.download import Downloader, NotOnServerError
from stellarhml.grids.phoenix_files import WAVE_NAME, phoenix_file_name, read_phoenix_spectrum, read_phoenix_wavelength
from stellarhml.grids.phoenix_grid import load_phoenix
from stellarhml.grids.selection import select_values

logger = logging.getLogger(__name__)

PHOENIX_URL = "https://phoenix.astro.physik.uni-goettingen.de/data/v2.0/HiResFITS/"

# Values of the library at [alpha/Fe] = 0 (Husser et al. 2013, Table 1); not every combination exists.
PHOENIX_VALUES = {
    "teff": np.concatenate([np.arange(2300.0, 7000.0, 100.0), np.arange(7000.0, 12001.0, 200.0)]),
    "logg": np.arange(0.0, 6.01, 0.5),
    "feh": np.array([-4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0]),
}


def fetch_phoenix(
    *,
    teff,
    logg,
    feh,
    data_home=None,
    base_url=PHOENIX_URL,
    wavelength=(8038.0, 12849.0),
    n_retries=3,
    timeout=30,
    dry_run=False,
    verbose=None,
    return_X_y=False,
):
    """Download PHOENIX-ACES spectra (about 6 MB each) and load them.

    Files that are there are not asked for again. A download that was cut goes on where it stopped, in this call or the
    next; a file gets its name only after its length and content were checked.

    Parameters
    ----------
    teff, logg, feh : None, tuple (lo, hi), float or array-like
        Nodes to fetch, in K, dex(cm/s2) and dex, at [alpha/Fe] = 0: None for all values of the library, a tuple for a
        closed range, a list for exact values.
    data_home : str or path-like, default=None
        Where downloads are kept; the spectra go into its folder `phoenix`. None takes that of `get_data_home`.
    base_url : str, default=the server of the University of Goettingen
        Address of the folder that holds `WAVE_PHOENIX-ACES-AGSS-COND-2011.fits`.
    wavelength : tuple (lo, hi) or None, default=(8038.0, 12849.0)
        Range to load, in vacuum angstrom. The files are always fetched whole.
    n_retries : int, default=3
        How often a failed request is made again, after a growing pause.
    timeout : float, default=30
        Seconds without an answer after which a request counts as failed.
    dry_run : bool, default=False
        Ask the server for the sizes, download nothing.
    verbose : bool, default=None
        Whether to show a progress bar; None shows one on a terminal if it takes over two seconds. The total size is
        also logged beforehand, at level INFO of the logger `stellarhml.grids.fetch`.
    return_X_y : bool, default=False
        Whether to return `(flux, labels)` in place of the Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        As `load_phoenix` returns. With `dry_run`, a Bunch of `folder`, `urls` (list of those to fetch) and `n_bytes`
        (int, their total that is still to come; files whose size the server does not tell count as 0).

    Raises
    ------
    GridIncompleteError
        If the server does not have some of the nodes. Nothing is downloaded then.
    DownloadError
        If the server cannot be reached, or a file stays cut or damaged after all retries. What had arrived is kept.

    See Also
    --------
    load_phoenix : Load spectra that are there already.
    """
    folder = get_data_home(data_home) / "phoenix"
    selections = {"teff": teff, "logg": logg, "feh": feh}
    axes = {name: select_values(s, PHOENIX_VALUES[name], name) for name, s in selections.items()}
    nodes = list(product(*(axis.tolist() for axis in axes.values())))
    downloader = Downloader(base_url, folder, n_retries=n_retries, timeout=timeout)

    wanted = {Path(WAVE_NAME): None, **{phoenix_file_name(*node): node for node in nodes}}
    sizes = _ask_sizes(downloader, [name for name in wanted if not (folder / name).is_file()], wanted, verbose)
    n_bytes = sum(max(size - downloader.n_arrived(name), 0) for name, size in sizes.items() if size)
    if dry_run:
        return Bunch(folder=folder, urls=[downloader.url(name) for name in sizes], n_bytes=n_bytes)
    if sizes:
        announcement = f"fetch_phoenix: {len(sizes)} files, {n_bytes / 1e6:.1f} MB into {folder}"
        logger.info(announcement)
        with progress(None, total=n_bytes or None, verbose=verbose, description=announcement, unit="B") as bar:
            _download(downloader, sizes, wanted, bar)
    # Exact values in place of ranges: other spectra of the folder are none of this call's.
    return load_phoenix(
        folder,
        **{name: axis.tolist() for name, axis in axes.items()},
        wavelength=wavelength,
        verbose=verbose,
        return_X_y=return_X_y,
    )


def get_data_home(data_home=None):
    """Return the folder in which downloads are kept, and create it if needed.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder. None takes that of the environment variable `STELLARHML_DATA`, or else `~/.cache/stellarhml`.

    Returns
    -------
    folder : pathlib.Path
        The folder.
    """
    if data_home is None:
        data_home = os.environ.get("STELLARHML_DATA") or Path("~", ".cache", "stellarhml")
    folder = Path(data_home).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _ask_sizes(downloader, names, wanted, verbose):
    """Bytes of each file by name (None if the server does not say); nodes that it lacks are an error."""
    sizes, absent = {}, []
    for name in progress(names, verbose=verbose, description="asking for sizes", unit="files"):
        try:
            sizes[name] = downloader.size(name)
        except NotOnServerError:
            if wanted[name] is None:
                _raise_no_wave(downloader, name)
            absent.append(wanted[name])
    if absent:
        _raise_absent(absent, downloader)
    return sizes


def _download(downloader, names, wanted, bar):
    """Fetch the files in order: the wavelengths first, by whose number the spectra are checked."""
    n_pixels = None
    for name in names:
        try:
            if wanted[name] is None:
                # A WAVE file is checked as the spectra are: it opens as FITS, uncut, and its values are finite.
                downloader.fetch(name, size=names[name], check=read_phoenix_spectrum, bar=bar)
                continue
            if n_pixels is None:
                n_pixels = read_phoenix_wavelength(downloader.folder).size
            downloader.fetch(
                name,
                size=names[name],
                check=lambda path, n=n_pixels: read_phoenix_spectrum(path, n),
                bar=bar,
            )
        except NotOnServerError:  # a server that does not answer HEAD tells only now
            if wanted[name] is None:
                _raise_no_wave(downloader, name)
            _raise_absent([wanted[name]], downloader)


def _raise_no_wave(downloader, name):
    raise DownloadError(
        f"{downloader.url(name)} does not exist (404), but every PHOENIX grid has this file. Check `base_url`: it "
        "must be the address of the folder that holds it."
    ) from None


def _raise_absent(absent, downloader):
    first = ", ".join(f"({t:g}, {g:g}, {z:g})" for t, g, z in absent[:5])
    raise GridIncompleteError(
        f"{downloader.base_url} does not have {len(absent)} of the chosen nodes (404), first ({', '.join(LABELS)}) = "
        f"{first}. The library has no spectrum there; leave these values out."
    ) from None
