"""PHOENIX spectra of a local folder as one array, read one file at a time."""

from numbers import Real
from pathlib import Path

import numpy as np

from stellarhml._validation import LABELS
from stellarhml.exceptions import GridNotFoundError
from stellarhml.grids.grid_source import GridSource, assemble, choose_rows, report_missing, require_one_of_each
from stellarhml.grids.phoenix_files import (
    find_medres_files,
    list_phoenix_files,
    read_medres_spectrum,
    read_phoenix_spectrum,
    read_phoenix_wavelength,
    wave_path,
)

HPF_BAND = (8038.0, 12849.0)
"""Band of the Habitable-zone Planet Finder in vacuum angstrom, which is the default."""

MISSING_CURE = "Download them with stellarhml.datasets.fetch_phoenix (stellarhml fetch phoenix),"


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
    alpha : float, None, tuple (lo, hi) or array-like, default=0.0
        [alpha/Fe] in dex. A number loads this value alone, and is no label of the grid. None (all values), a tuple (a
        closed range) or a list (exactly those values) makes it the fourth label, "alpha".
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
        labels : ndarray of shape (n_spectra, 3) or (n_spectra, 4)
            teff [K], logg [dex(cm/s2)], feh [dex] and, where it is a label, alpha [dex].
        wavelength : ndarray of shape (n_pixels,)
            Vacuum wavelengths in angstrom.
        label_names : tuple of str
            ("teff", "logg", "feh"), or ("teff", "logg", "feh", "alpha").
        missing : ndarray of shape (n_missing, n_labels)
            Nodes of the selected values that have no file.
        filenames : list of str
            The files, one for each row.
        resolving_power : None
            The spectra are as computed.
        binning : float
            1.0: the pixels are those of the files.
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
        If `cache` is a file that neither `load_phoenix` nor `load_grid` has written.

    See Also
    --------
    fetch_phoenix : Download the spectra first.
    load_grid : Grids of any family, also broadened for one spectrograph.
    load_mini_grid : A small grid that comes with the package.
    """
    source = phoenix_source(folder, alpha)
    rows, absent = choose_phoenix_rows(source, {"teff": teff, "logg": logg, "feh": feh}, alpha)
    report_missing(absent, len(rows), source.label_names, source.origin, missing, MISSING_CURE)
    return assemble(
        source,
        rows,
        absent,
        wavelength=wavelength,
        resolving_power=None,
        dtype=dtype,
        cache=cache,
        verbose=verbose,
        return_X_y=return_X_y,
    )


def phoenix_source(folder, alpha) -> GridSource:
    """Spectra of a folder in PHOENIX's own layout.

    `alpha` is a number, which selects the spectra with this [alpha/Fe]; otherwise all are there, with the label
    "alpha".
    """
    folder, fixed = Path(folder).expanduser(), is_one_number(alpha)
    found = list_phoenix_files(folder)
    labels, files = phoenix_labels(found, alpha, folder)

    def read(rows, pixels):
        for row in rows:
            yield None, read_phoenix_spectrum(files[row], all_pixels.size, pixels, all_pixels)[0]

    all_pixels = read_phoenix_wavelength(folder)
    return GridSource(
        labels=labels,
        label_names=LABELS if fixed else (*LABELS, "alpha"),
        wavelength=all_pixels,
        read=read,
        names=[str(path) for path in files],
        files=[wave_path(folder)],
        row_files=files,
        origin=str(folder),
        description=_DESCR.format(n="{n}", folder=folder, alpha=f" at [alpha/Fe] = {alpha}" if fixed else ""),
        scattered=False,
    )


def medres_source(folder, alpha, *, medium, resolving_power) -> GridSource:
    """Spectra of the unpacked archives of PHOENIX's MedResFITS: R10000FITS, A1FITS.

    `medium` is that of the wavelengths, of which the headers say air (AWAV) and the publication vacuum;
    `resolving_power` that of A1FITS in the band in question, whose resolution is 1 angstrom.
    """
    folder = Path(folder).expanduser()
    found, kind = find_medres_files(folder)
    if medium not in ("vacuum", "air"):
        raise ValueError(
            f"`medium` is {medium!r}, but it must be 'vacuum' or 'air' (--medium): the headers of {found[0][1]} state "
            "air (CTYPE1), and Husser et al. (2013) vacuum for all of PHOENIX. Decide by a line whose wavelength you "
            "know."
        )
    if kind == "A1FITS" and resolving_power is None:
        raise ValueError(
            f"{folder} holds spectra of PHOENIX's A1FITS, whose resolution is 1 angstrom at all wavelengths. State "
            "`grid_resolving_power` (--grid-resolving-power), the middle of your range in angstrom."
        )
    labels, files = phoenix_labels(found, alpha, folder)

    def read(rows, pixels):
        for row in rows:
            yield read_medres_spectrum(files[row], medium)

    fixed = is_one_number(alpha)
    return GridSource(
        labels=labels,
        label_names=LABELS if fixed else (*LABELS, "alpha"),
        wavelength=lambda row: read_medres_spectrum(files[row], medium)[0],
        read=read,
        names=[str(path) for path in files],
        files=[],
        row_files=files,
        origin=str(folder),
        description=_DESCR.format(n="{n}", folder=folder, alpha=f" at [alpha/Fe] = {alpha}" if fixed else ""),
        resolving_power=resolving_power or 10_000.0,
        scattered=False,
    )


def choose_phoenix_rows(source, selections, alpha):
    """Rows of the selected nodes, as `choose_rows`; SpectrumFileError if two of their files have one node."""
    if not is_one_number(alpha):
        selections = selections | {"alpha": alpha}
    rows, absent = choose_rows(source.labels, source.label_names, selections, source.origin, scattered=False)
    require_one_of_each(source.labels[rows], source.label_names, [source.names[row] for row in rows])
    return rows, absent


def phoenix_labels(found, alpha, folder):
    """Labels and paths of the files that `alpha` leaves, (n, 3) or (n, 4), and a list."""
    if not is_one_number(alpha):
        return np.array([labels for labels, _ in found]), [path for _, path in found]
    kept = [(labels[:3], path) for labels, path in found if abs(labels[3] - alpha) <= 1e-6]
    if not kept:
        alphas = np.unique([labels[3] for labels, _ in found])
        raise GridNotFoundError(
            f"{folder} holds no spectrum with [alpha/Fe] = {alpha}, only {', '.join(f'{a:g}' for a in alphas)}. Pass "
            "one of these as `alpha`, or None for all of them, as a label."
        )
    return np.array([labels for labels, _ in kept]), [path for _, path in kept]


def is_one_number(alpha):
    """Whether `alpha` is a number, one value of [alpha/Fe]; ValueError if it is text, True or not finite."""
    if isinstance(alpha, np.ndarray) and alpha.ndim == 0:
        alpha = alpha.item()
    if isinstance(alpha, str | bool) or (isinstance(alpha, Real) and not np.isfinite(alpha)):
        raise ValueError(
            f"`alpha` is {alpha!r}, but it must be a number for one value of [alpha/Fe] in dex, which is then no "
            "label, or None, a tuple (lo, hi) or a list of values, which make it one."
        )
    return isinstance(alpha, Real)


_DESCR = """PHOENIX-ACES-AGSS-COND-2011 synthetic stellar spectra

{n} spectra{alpha}, read from {folder}.

Flux at the stellar surface in erg/s/cm^2/cm against vacuum wavelength in angstrom, at the native sampling of the
library (0.01 angstrom below 10000, 0.02 above, in the default range). Spherical geometry, LTE, ACES equation of state.
Reference: Husser, T.-O. et al. (2013), A&A 553, A6, doi:10.1051/0004-6361/201219058.
"""
