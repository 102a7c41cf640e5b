"""Download chosen PHOENIX spectra into PHOENIX's own layout, then load them."""

import logging
import os
import shutil
import warnings
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from stellarhml._parallel import progress
from stellarhml._validation import LABELS
from stellarhml.exceptions import DownloadError, GridIncompleteError, GridNotFoundError, StellarHMLWarning
from stellarhml.grids.phoenix_files import (
    WAVE_NAME,
    list_phoenix_files,
    phoenix_file_name,
    read_phoenix_spectrum,
    read_phoenix_wavelength,
    wave_path,
)
from stellarhml.grids.phoenix_grid import is_one_number, load_phoenix
from stellarhml.grids.selection import select_values

logger = logging.getLogger(__name__)

PHOENIX_URL = "https://phoenix.astro.physik.uni-goettingen.de/data/v2.0/HiResFITS/"

# Values of the library (Husser et al. 2013, Table 1); not every combination exists.
PHOENIX_VALUES = {
    "teff": np.concatenate([np.arange(2300.0, 7000.0, 100.0), np.arange(7000.0, 12001.0, 200.0)]),
    "logg": np.arange(0.0, 6.01, 0.5),
    "feh": np.array([-4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0]),
    "alpha": np.array([-0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2]),
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
    alpha=0.0,
    data_home=None,
    base_url=PHOENIX_URL,
    wavelength=(8038.0, 12849.0),
    n_retries=3,
    timeout=30,
    dry_run=False,
    missing="raise",
    verbose=None,
    return_X_y=False,
):
    """Download PHOENIX-ACES spectra (about 6 MB each) and load them.

    Existing files are not downloaded again. A file gets its name only after its length and content were checked; after
    an interruption, the next call continues with the missing files.

    Parameters
    ----------
    teff, logg, feh : None, tuple (lo, hi), float or array-like
        Nodes to fetch, in K, dex(cm/s2) and dex: None for all values of the library, a tuple for a closed range, a list
        for exact values.
    alpha : float, None, tuple (lo, hi) or array-like, default=0.0
        [alpha/Fe] in dex, as in `load_phoenix`: a number is no label of the grid, the others make it one. Values other
        than 0 exist for 3500 to 8000 K and [Fe/H] of -3 to 0.
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
    missing : {"raise", "report"}, default="raise"
        If the server does not have some of the nodes: raise an error before anything is downloaded, or leave them out
        with a warning.
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
        If the server does not have some of the nodes, and `missing="raise"`. Nothing is downloaded then.
    DownloadError
        If the server cannot be reached, the disk has no room, or a file is truncated or damaged after all retries.
        Complete files are kept.

    See Also
    --------
    load_phoenix : Load spectra from a local folder.
    """
    folder = get_data_home(data_home) / "phoenix"
    selections = {"teff": teff, "logg": logg, "feh": feh, "alpha": alpha}
    download = PhoenixDownload(
        folder, selections, base_url=base_url, n_retries=n_retries, timeout=timeout, missing=missing, verbose=verbose
    )
    if dry_run:
        return Bunch(folder=folder, urls=download.urls, n_bytes=download.n_bytes)
    if download.n_files:
        logger.info(f"fetch_phoenix: {download.announcement}")
        download.run(verbose)
    # Exact values in place of ranges: the folder may have other spectra.
    values = {name: axis.tolist() for name, axis in download.axes.items()}
    if is_one_number(alpha):
        values["alpha"] = float(alpha)
    return load_phoenix(
        folder, **values, wavelength=wavelength, missing=missing, verbose=verbose, return_X_y=return_X_y
    )


class PhoenixDownload:
    """Files of PHOENIX that a folder lacks for chosen nodes, with their sizes on the server.

    Parameters
    ----------
    folder : path-like
        Folder in PHOENIX's own layout; it need not exist.
    selections : dict
        Selections of "teff", "logg", "feh" and "alpha", see `fetch_phoenix`.
    base_url, n_retries, timeout, missing, verbose : object
        As in `fetch_phoenix`.

    Attributes
    ----------
    axes : dict of str to ndarray
        Values of each label.
    urls : list of str
        Addresses of the files to fetch.
    n_files, n_there, n_bytes : int
        Number of files to fetch, of spectra that are there, and of bytes to fetch, without files of unknown size.
    announcement : str
        The same in words.
    """

    def __init__(
        self,
        folder,
        selections,
        *,
        base_url=PHOENIX_URL,
        n_retries=3,
        timeout=30,
        missing="raise",
        verbose=None,
    ):
        if not base_url.startswith(("https://", "http://")):
            raise ValueError(
                f"`base_url` is {base_url!r}, but an address that begins with https:// or http:// is needed."
            )
        if n_retries < 0 or timeout <= 0:
            raise ValueError(
                f"`n_retries` is {n_retries} and `timeout` {timeout}, but at least 0 and more than 0 are needed."
            )
        if missing not in ("raise", "report"):
            raise ValueError(f"`missing` is {missing!r}, but it must be 'raise' or 'report'.")
        is_one_number(selections["alpha"])
        self.folder = Path(folder).expanduser()
        self.axes = {name: select_values(selections[name], PHOENIX_VALUES[name], name) for name in PHOENIX_VALUES}
        nodes = list(product(*(axis.tolist() for axis in self.axes.values())))
        there = _nodes_there(self.folder)
        wanted = {WAVE_NAME: None} | {phoenix_file_name(*node).as_posix(): node for node in nodes}
        wanted = {
            name: node for name, node in wanted.items() if node not in there and not (self.folder / name).is_file()
        }
        if wave_path(self.folder).is_file():
            wanted.pop(WAVE_NAME, None)
        self.n_there = sum(node in there for node in nodes)
        self._server = _Server(base_url.rstrip("/") + "/", self.folder, wanted, n_retries, timeout, missing)
        sizes = self._server.sizes(verbose)
        self.urls = [self._server.url(name) for name in sizes]
        self.n_files, self.n_bytes = len(sizes), sum(size or 0 for size in sizes.values())
        n_unknown = sum(size is None for size in sizes.values())
        unknown = f" and {n_unknown} files of unknown size" if n_unknown else ""
        self.announcement = f"{self.n_files} files, {self.n_bytes / 1e6:.1f} MB{unknown} into {self.folder}"

    def run(self, verbose=None):
        """Download the files; DownloadError if one cannot be, or the disk has no room for them."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise DownloadError(f"{self.folder} cannot be created ({error}). Choose another folder.") from error
        if self.n_bytes > free:
            raise DownloadError(
                f"{self.announcement} are to be downloaded, but {free / 1e6:.1f} MB are free there. Make room, choose "
                "another folder, or narrower ranges."
            )
        with progress(None, total=self.n_bytes or None, verbose=verbose, description="Downloading", unit="B") as bar:
            for path in self._server.fetch():
                bar.update(path.stat().st_size)


def _nodes_there(folder):
    """Nodes with a file in the folder, however it spells a zero, packed or not."""
    try:
        return {labels for labels, _ in list_phoenix_files(folder)}
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

    def __init__(self, base_url, folder, missing, n_retries, timeout, if_absent):
        self.base_url, self.folder, self.missing = base_url, folder, missing
        self.n_retries, self.timeout, self.if_absent = n_retries, timeout, if_absent

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
            self._lacks(absent)
        return {name: size for name, size in sizes.items() if name in self.missing}

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
            for name, node in list(self.missing.items()):  # the wavelengths first
                if node is not None and n_pixels is None:
                    n_pixels = read_phoenix_wavelength(self.folder).size
                try:
                    yield Path(client.fetch(name, downloader=download_checked))
                except (ValueError, requests.RequestException) as error:
                    if getattr(getattr(error, "response", None), "status_code", None) in _ABSENT:
                        self._lacks([name])
                    else:
                        self._raise_failed(name, error)
        finally:
            log.setLevel(level)

    def _raise_failed(self, name, error):
        raise DownloadError(
            f"{self.url(name)} could not be downloaded: {error}. Check the network and call again (complete files are "
            f"kept), or download the file by hand to {self.folder / name} and use "
            f"stellarhml.datasets.load_phoenix({str(self.folder)!r})."
        ) from error

    def _lacks(self, names):
        """Raise, or warn and go on, because the server lacks files."""
        if WAVE_NAME in names:
            raise DownloadError(
                f"{self.url(WAVE_NAME)} does not exist (404), but every PHOENIX grid has this file. Check `base_url`: "
                "it must be the address of the folder with this file."
            )
        nodes = [self.missing[name] for name in names[:5]]
        labels = LABELS if not any(node[3] for node in nodes) else (*LABELS, "alpha")
        first = ", ".join(f"({', '.join(f'{value:g}' for value in node[: len(labels)])})" for node in nodes)
        found = (
            f"{self.base_url} does not have {len(names)} of the chosen nodes (404), first ({', '.join(labels)}) = "
            f"{first}"
        )
        if self.if_absent == "raise":
            raise GridIncompleteError(
                f"{found}. The library has no spectrum there; leave these values out, or pass missing='report' "
                "(--allow-missing) to go on without them."
            )
        warnings.warn(f"{found}; they are left out.", StellarHMLWarning, stacklevel=5)
        for name in names:
            del self.missing[name]
