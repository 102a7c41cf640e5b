"""Download chosen PHOENIX spectra into PHOENIX's own layout, then load them."""

import logging
import os
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from stellarhml._parallel import progress
from stellarhml._validation import LABELS
from stellarhml.exceptions import DownloadError, GridIncompleteError, GridNotFoundError
from stellarhml.grids.phoenix_files import (
    WAVE_NAME,
    list_phoenix_files,
    phoenix_file_name,
    read_phoenix_spectrum,
    read_phoenix_wavelength,
)
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

_CHUNK = 1 << 16  # bytes read at a time
_ABSENT = (404, 410)
_NO_HEAD = (405, 501)  # the server does not state sizes
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)  # answers that may change


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

    Existing files are not downloaded again. A file gets its name only after its length and content were checked; after
    an interruption, the next call continues with the missing files.

    Parameters
    ----------
    teff, logg, feh : None, tuple (lo, hi), float or array-like
        Nodes to fetch, in K, dex(cm/s2) and dex, at [alpha/Fe] = 0: None for all values of the library, a tuple for a
        closed range, a list for exact values.
    data_home : str or path-like, default=None
        Folder of downloads; the spectra go into its folder `phoenix`. None takes that of `get_data_home`.
    base_url : str, default=the server of the University of Goettingen
        Address of the folder with `WAVE_PHOENIX-ACES-AGSS-COND-2011.fits`.
    wavelength : tuple (lo, hi) or None, default=(8038.0, 12849.0)
        Range to load, in vacuum angstrom. The files are always fetched whole.
    n_retries : int, default=3
        Number of repetitions of a failed request, after a growing pause.
    timeout : float, default=30
        Seconds without an answer after which a request counts as failed.
    dry_run : bool, default=False
        Only look up the sizes on the server, download nothing.
    verbose : bool, default=None
        Whether to show a progress bar; None shows one on a terminal if it takes over two seconds. The total size is
        also logged beforehand, at level INFO of the logger `stellarhml.grids.fetch`.
    return_X_y : bool, default=False
        Whether to return `(flux, labels)` in place of the Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        As `load_phoenix` returns. With `dry_run`, a Bunch of `folder`, `urls` (list of those to fetch) and `n_bytes`
        (int, their total; files for which the server states no size count as 0).

    Raises
    ------
    GridIncompleteError
        If the server does not have some of the nodes. Nothing is downloaded then.
    DownloadError
        If the server cannot be reached, or a file is truncated or damaged after all retries. Complete files are kept.

    See Also
    --------
    load_phoenix : Load spectra from a local folder.
    """
    if not base_url.startswith(("https://", "http://")):
        raise ValueError(f"`base_url` is {base_url!r}, but an address that begins with https:// or http:// is needed.")
    if n_retries < 0 or timeout <= 0:
        raise ValueError(
            f"`n_retries` is {n_retries} and `timeout` {timeout}, but at least 0 and more than 0 are needed."
        )
    folder = get_data_home(data_home) / "phoenix"
    selections = {"teff": teff, "logg": logg, "feh": feh}
    axes = {name: select_values(s, PHOENIX_VALUES[name], name) for name, s in selections.items()}
    nodes = list(product(*(axis.tolist() for axis in axes.values())))
    missing = {WAVE_NAME: None} | {phoenix_file_name(*node).as_posix(): node for node in nodes}
    there = _nodes_there(folder)
    missing = {name: node for name, node in missing.items() if node not in there and not (folder / name).is_file()}
    server = _Server(base_url.rstrip("/") + "/", folder, missing, n_retries, timeout)
    sizes = server.sizes(verbose)
    n_bytes = sum(size or 0 for size in sizes.values())
    if dry_run:
        return Bunch(folder=folder, urls=[server.url(name) for name in missing], n_bytes=n_bytes)
    if missing:
        announcement = f"fetch_phoenix: {len(missing)} files, {n_bytes / 1e6:.1f} MB into {folder}"
        logger.info(announcement)
        with progress(None, total=n_bytes or None, verbose=verbose, description=announcement, unit="B") as bar:
            for path in server.fetch():
                bar.update(path.stat().st_size)
    # Exact values in place of ranges: the folder may have other spectra.
    return load_phoenix(
        folder,
        **{name: axis.tolist() for name, axis in axes.items()},
        wavelength=wavelength,
        verbose=verbose,
        return_X_y=return_X_y,
    )


def _nodes_there(folder):
    """Nodes at [alpha/Fe] = 0 with a file in the folder, however it spells a zero."""
    try:
        return {labels[:3] for labels, _ in list_phoenix_files(folder) if labels[3] == 0}
    except GridNotFoundError:
        return set()


def get_data_home(data_home=None):
    """Return the folder of downloads, and create it if needed.

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


class _Server:
    """A server folder, and the files to fetch from it: `missing` maps names to nodes (None for the wavelengths)."""

    def __init__(self, base_url, folder, missing, n_retries, timeout):
        self.base_url, self.folder, self.missing = base_url, folder, missing
        self.n_retries, self.timeout = n_retries, timeout

    def url(self, name):
        """Address of a file."""
        return self.base_url + name

    def sizes(self, verbose):
        """Bytes of each file, None where the server does not state them; nodes that it lacks are an error."""
        import requests
        from requests.adapters import HTTPAdapter, Retry

        sizes, absent = {}, []
        retry = Retry(self.n_retries, backoff_factor=0.5, status_forcelist=_TRY_AGAIN, raise_on_status=False)
        with requests.Session() as session:
            session.mount(self.base_url, HTTPAdapter(max_retries=retry))
            for name in progress(self.missing, verbose=verbose, description="Looking up sizes", unit="file"):
                try:
                    answer = session.head(self.url(name), timeout=self.timeout, allow_redirects=True)
                    if answer.status_code in _ABSENT:
                        absent.append(name)
                    elif answer.status_code not in _NO_HEAD:
                        answer.raise_for_status()
                except requests.RequestException as error:
                    self._raise_failed(name, error)
                size = answer.headers.get("Content-Length") if answer.ok else None
                sizes[name] = None if size is None else int(size)
        if absent:
            self._raise_absent(absent)
        return sizes

    def fetch(self):
        """Download and check the files, and yield their paths."""
        import pooch
        import requests

        registry = dict.fromkeys(self.missing)  # without checksums: PHOENIX publishes none
        client = pooch.create(self.folder, self.base_url, registry=registry, retry_if_failed=self.n_retries)
        download = pooch.HTTPDownloader(timeout=self.timeout, chunk_size=_CHUNK)
        n_pixels = None

        def download_checked(url, path, client):
            download(url, path, client)
            read_phoenix_spectrum(path, n_pixels)  # a ValueError, which pooch takes for a failed download

        log = pooch.get_logger()
        level = log.level
        log.setLevel("WARNING")  # no line for each file
        try:
            for name, node in self.missing.items():  # the wavelengths first
                if node is not None and n_pixels is None:
                    n_pixels = read_phoenix_wavelength(self.folder).size
                try:
                    yield Path(client.fetch(name, downloader=download_checked))
                except (ValueError, requests.RequestException) as error:
                    if getattr(getattr(error, "response", None), "status_code", None) in _ABSENT:
                        self._raise_absent([name])
                    self._raise_failed(name, error)
        finally:
            log.setLevel(level)

    def _raise_failed(self, name, error):
        raise DownloadError(
            f"{self.url(name)} could not be downloaded: {error}. Check the network and call again (complete files are "
            f"kept), or download the file by hand to {self.folder / name} and use "
            f"stellarhml.datasets.load_phoenix({str(self.folder)!r})."
        ) from error

    def _raise_absent(self, names):
        if WAVE_NAME in names:
            raise DownloadError(
                f"{self.url(WAVE_NAME)} does not exist (404), but every PHOENIX grid has this file. Check `base_url`: "
                "it must be the address of the folder with this file."
            )
        first = ", ".join("({:g}, {:g}, {:g})".format(*self.missing[name]) for name in names[:5])
        raise GridIncompleteError(
            f"{self.base_url} does not have {len(names)} of the chosen nodes (404), first ({', '.join(LABELS)}) = "
            f"{first}. The library has no spectrum there; leave these values out."
        )
