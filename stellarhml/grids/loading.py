"""A grid of any family as arrays."""

from pathlib import Path

import numpy as np

from stellarhml.exceptions import GridNotFoundError
from stellarhml.grids.array_grids import array_source, is_hdf5_name, is_starfish, is_zarr, starfish_source
from stellarhml.grids.family_names import GRID_FAMILIES
from stellarhml.grids.fits_folders import fits_folder_source
from stellarhml.grids.gollum_families import FAMILIES, family_of_files, gollum_source
from stellarhml.grids.grid_source import assemble, choose_rows, report_missing
from stellarhml.grids.phoenix_files import has_medres_files, is_phoenix_folder
from stellarhml.grids.phoenix_grid import (
    HPF_BAND,
    MISSING_CURE,
    choose_phoenix_rows,
    medres_source,
    phoenix_source,
)


def load_grid(
    path,
    family=None,
    *,
    wavelength="auto",
    resolving_power=None,
    labels=None,
    medium=None,
    unit=None,
    axis=None,
    wavelength_file=None,
    wavelength_column=None,
    flux_column=None,
    grid_resolving_power=None,
    dtype=np.float32,
    missing="raise",
    cache=None,
    verbose=None,
    return_X_y=False,
    **selection,
):
    """Load a grid of spectra of any family, whole or in part.

    One spectrum at a time is in memory besides the result; with `cache`, the result itself stays on disk. What a file
    does not state, unit and medium of wavelengths and names of labels, is never guessed.

    Parameters
    ----------
    path : str or path-like
        Folder or file of the grid:

        * a folder in PHOENIX's own layout, or of unpacked archives of its MedResFITS;
        * a folder of FITS spectra whose headers have the labels;
        * an HDF5 grid of Starfish;
        * a file of arrays, npz, HDF5 or zarr, with `labels` (n_spectra, n_labels), `wavelength` (n_pixels,) and `flux`
          (n_spectra, n_pixels), and perhaps `label_names`, `unit` and `medium`;
        * a folder of a family that gollum reads: Sonora Bobcat, Sonora Diamondback, coolTLUSTY.
    family : str, default=None
        One of "phoenix", "phoenix-medres", "fits", "starfish", "arrays", "sonora-bobcat", "sonora-diamondback" and
        "cool-tlusty". None: recognised by the names of files, and for HDF5 by the content.
    wavelength : tuple (lo, hi), "auto" or None, default="auto"
        Closed range of vacuum wavelengths to keep, in angstrom. "auto" is (8038, 12849) for a folder in PHOENIX's own
        layout, the band of the Habitable-zone Planet Finder, and everything for others. None keeps everything.
    resolving_power : float, default=None
        Resolving power to which spectra are broadened, for use with one spectrograph: they then have five pixels to a
        resolution element, of constant width in ln wavelength, and the ends of the range are lost where the grid does
        not reach beyond it. None: spectra and pixels as they are.
    labels : dict or sequence of str, default=None
        For FITS: keywords of the headers by name of the label, such as ``{"teff": "PHXTEFF", "logg": "PHXLOGG"}``. For
        arrays: names of the columns of `labels`, where the file does not have them.
    medium : {"vacuum", "air"}, default=None
        Medium of the wavelengths. None: as the files state.
    unit : {"angstrom", "nm", "um", "m"}, default=None
        Unit of the wavelengths. None: as the files state.
    axis : {"linear", "log10", "ln"}, default=None
        What the header of a FITS image gives: wavelengths or their logarithms. None: as the header states (`CTYPE1`,
        `DC-FLAG`), else linear.
    wavelength_file : str or path-like, default=None
        File of the wavelengths that all FITS spectra share: a FITS image or table, `.npy`, or text.
    wavelength_column, flux_column : str, default=None
        Columns of FITS tables. None: found by usual names.
    grid_resolving_power : float, default=None
        Resolving power that the spectra of the grid already have. None: they are as computed, or as the family states
        (10,000 for PHOENIX's R10000FITS).
    dtype : dtype, default=numpy.float32
        Type of the fluxes.
    missing : {"raise", "report"}, default="raise"
        If nodes of the selected values have no spectrum: raise an error, or leave them out, warn and list them in
        `missing`. Grids of scattered labels miss none.
    cache : str or path-like, default=None
        A `.npy` file for the fluxes, which are returned as a read-only memory map, as in `load_phoenix`.
    verbose : bool, default=None
        Whether to show a progress bar; None shows one on a terminal if it takes over two seconds.
    return_X_y : bool, default=False
        Whether to return `(flux, labels)` in place of the Bunch.
    **selection : None, tuple (lo, hi), float or array-like
        Nodes to load, by name of the label, such as ``teff=(5000, 6000), feh=[-0.5, 0]``: None takes all values, a
        tuple a closed range, a number or a list exactly those values. For PHOENIX, `alpha` is 0 by default, as in
        `load_phoenix`, and becomes a label by None, a tuple or a list.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        flux : ndarray of shape (n_spectra, n_pixels)
            As in the files, of PHOENIX and the families of gollum in erg/s/cm^2/cm; rows are sorted by the labels. A
            memory map of an npz file that is not compressed and is wanted as it is.
        labels : ndarray of shape (n_spectra, n_labels)
            Labels.
        wavelength : ndarray of shape (n_pixels,)
            Vacuum wavelengths in angstrom.
        label_names : tuple of str
            Names of the labels.
        missing : ndarray of shape (n_missing, n_labels)
            Nodes of the selected values that have no spectrum.
        filenames : list of str
            The file of each row, and its place in it.
        resolving_power : float or None
            That of the spectra, for `SpectrumGenerator`; None where they are as computed.
        binning : float
            Pixels of the grid to a pixel of the result, 1 without `resolving_power`.
        DESCR : str
            Description of the spectra.

    Raises
    ------
    GridNotFoundError
        If there is no such file or folder, or no spectrum in the selection.
    GridIncompleteError
        If nodes are missing and `missing="raise"`.
    SpectrumFileError
        If a file is damaged, does not state what is needed, or contradicts another or the parameters.
    WavelengthCoverageError
        If no pixel lies in `wavelength`.
    StoreError
        If `cache` is a file that neither `load_phoenix` nor `load_grid` has written.

    See Also
    --------
    load_phoenix : Folders in PHOENIX's own layout alone.
    fetch_phoenix : Download PHOENIX spectra.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from stellarhml.datasets import load_grid, make_stellar_grid
    >>> grid = make_stellar_grid(random_state=0)
    >>> path = Path(tempfile.mkdtemp()) / "grid.npz"
    >>> arrays = {name: grid[name] for name in ("flux", "labels", "wavelength", "label_names")}
    >>> np.savez(path, **arrays, unit="angstrom", medium="vacuum")
    >>> load_grid(path, teff=(5000, 5500), logg=4.0).labels.shape
    (6, 3)
    """
    path = Path(path).expanduser()
    family = _family_of(path) if family is None else family
    if family not in GRID_FAMILIES:
        raise ValueError(f"`family` is {family!r}, but it must be one of {', '.join(GRID_FAMILIES)}, or None.")
    if not path.exists():
        raise GridNotFoundError(f"{path} does not exist. Pass the folder or the file of the grid.")
    _refuse_unused(
        path,
        family,
        labels=labels,
        unit=unit,
        medium=medium,
        axis=axis,
        wavelength_file=wavelength_file,
        wavelength_column=wavelength_column,
        flux_column=flux_column,
        grid_resolving_power=grid_resolving_power,
    )
    shared = {"medium": medium, "resolving_power": grid_resolving_power}
    is_phoenix = family in ("phoenix", "phoenix-medres")
    alpha = selection.pop("alpha", 0.0) if is_phoenix else None
    if family == "phoenix":
        source = phoenix_source(path, alpha)
    elif family == "phoenix-medres":
        source = medres_source(path, alpha, **shared)
    elif family == "fits":
        columns = {"wavelength_column": wavelength_column, "flux_column": flux_column}
        source = fits_folder_source(
            path, labels, unit=unit, axis=axis, wavelength_file=wavelength_file, **columns, **shared
        )
    elif family in FAMILIES:
        source = gollum_source(path, family, **shared)
    else:
        make = starfish_source if family == "starfish" else array_source
        source = make(path, labels, unit=unit, **shared)
    if is_phoenix:
        rows, absent = choose_phoenix_rows(source, selection, alpha)
    else:
        rows, absent = choose_rows(
            source.labels, source.label_names, selection, source.origin, scattered=source.scattered
        )
    cure = MISSING_CURE if family == "phoenix" else "Add them,"
    report_missing(absent, len(rows), source.label_names, source.origin, missing, cure)
    if isinstance(wavelength, str):
        if wavelength != "auto":
            raise ValueError(f"`wavelength` is {wavelength!r}, but it must be a range (lo, hi), 'auto' or None.")
        wavelength = HPF_BAND if family == "phoenix" else None
    return assemble(
        source,
        rows,
        absent,
        wavelength=wavelength,
        resolving_power=resolving_power,
        dtype=dtype,
        cache=cache,
        verbose=verbose,
        return_X_y=return_X_y,
    )


def _family_of(path):
    """Family of a folder or file."""
    if path.is_dir():
        if is_zarr(path):
            return "arrays"
        if is_phoenix_folder(path):
            return "phoenix"
        return "phoenix-medres" if has_medres_files(path) else family_of_files(path) or "fits"
    if path.is_file() and is_hdf5_name(path):
        return "starfish" if is_starfish(path) else "arrays"
    if path.suffix.lower() == ".npz":
        return "arrays"
    if not path.exists():
        raise GridNotFoundError(f"{path} does not exist. Pass the folder or the file of the grid.")
    raise GridNotFoundError(
        f"{path} is not a grid that is known by its name: a folder, or a file named .npz, .h5, .hdf5 or .zarr, is "
        f"needed. State `family` (--family), one of {', '.join(GRID_FAMILIES)}."
    )


_USES = {
    "phoenix": (),
    "phoenix-medres": ("medium", "grid_resolving_power"),
    "fits": None,  # everything
    "starfish": ("labels", "unit", "medium", "grid_resolving_power"),
    "arrays": ("labels", "unit", "medium", "grid_resolving_power"),
    **dict.fromkeys(FAMILIES, ("medium", "grid_resolving_power")),
}


def _refuse_unused(path, family, **parameters):
    """Raise ValueError if a parameter is given that the family does not use."""
    used = _USES[family]
    for name, value in parameters.items():
        if value is not None and used is not None and name not in used:
            raise ValueError(
                f"`{name}` is {value!r}, but {path} is a grid of the family {family!r}, which does not use it. Leave "
                "it out, or state another `family` (--family)."
            )
