"""GridSource: the spectra of a grid as a family of files has them, and the arrays that are made of them.

A family lists its nodes and wavelengths first, then reads one spectrum after the other. What all families share is
here: the choice of nodes and pixels, checks, broadening to a resolving power, and the cache on the disk.
"""

import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from stellarhml._grid_faults import describe_node, describe_stretch, stretch_without_light
from stellarhml._parallel import progress
from stellarhml.exceptions import (
    GridIncompleteError,
    GridNotFoundError,
    SpectrumFileError,
    StellarHMLWarning,
    WavelengthCoverageError,
)
from stellarhml.grids.resolution import Broadening
from stellarhml.grids.selection import check_limits, select_values
from stellarhml.grids.spectra_cache import check_cache, describe_request, open_cache, write_cache

_SAME = 1e-9  # relative difference of wavelengths that are the same
_FULLEST = 4  # a grid with more than so many possible nodes to a spectrum is scattered: no node is missing


@dataclass
class GridSource:
    """Spectra of a grid, one for each row.

    Attributes
    ----------
    labels : ndarray of shape (n_spectra, n_labels)
        Labels of the spectra.
    label_names : tuple of str
        Their names.
    wavelength : ndarray of shape (n_pixels,) or callable
        Vacuum wavelengths of the spectra in angstrom, strictly increasing; or a function of a row that gives those of
        its spectrum, where each file has its own.
    read : callable
        Takes numbers of rows and a slice of pixels, and yields for each row (None, flux) on these pixels of
        `wavelength`, or (axis, flux) for a file with wavelengths of its own, whole.
    names : list of str
        Name of each spectrum, for messages: its file, and its place in it.
    files : list of path-like
        Files that all spectra depend on.
    row_files : list of path-like or None
        File of each spectrum, None where they are all in `files`.
    origin : str
        What the spectra come from, for messages.
    description : str
        Text for the user, with {n} for the number of spectra.
    resolving_power : float or None
        That of the spectra, None where they are as computed.
    scattered : bool
        Whether the labels need not be on a lattice.
    mapped : ndarray of shape (n_spectra, n_pixels) or None
        The same fluxes as an array on the disk, if they are one.
    """

    labels: np.ndarray
    label_names: tuple
    wavelength: np.ndarray | Callable
    read: Callable
    names: list
    files: list
    origin: str
    description: str
    row_files: list | None = None
    resolving_power: float | None = None
    scattered: bool = True
    mapped: np.ndarray | None = field(default=None, repr=False)


def choose_rows(labels, label_names, selections, origin, *, scattered):
    """Rows of the selected nodes, and the labels of nodes that are missing from the selection.

    Parameters
    ----------
    labels : ndarray of shape (n_spectra, n_labels)
        Labels of all spectra.
    label_names : sequence of str
        Their names.
    selections : dict
        Selection of each label by name, see `select_values`; None takes all values.
    origin : str
        Where the spectra are, for messages.
    scattered : bool
        Whether labels need not be on a lattice.

    Returns
    -------
    rows : ndarray of shape (n,), int
        Selected rows, in the order of the labels.
    missing : ndarray of shape (n_missing, n_labels)
        Nodes of the lattice of selected values without a spectrum.
    """
    unknown = [name for name in selections if name not in label_names]
    if unknown:
        raise ValueError(
            f"`{unknown[0]}` is neither a parameter nor a label of this grid: {origin} has the labels "
            f"{', '.join(label_names)}. Select values of these."
        )
    labels = np.asarray(labels, dtype=np.float64)
    rows = np.lexsort(labels.T[::-1])
    # "All values" and ranges count values that occur with the other selected labels, not anywhere in the grid.
    for column, name in enumerate(label_names):
        selection = selections.get(name)
        if selection is not None:
            there = labels[rows, column]
            rows = rows[np.isin(there, select_values(selection, there, name))]
            if not len(rows):
                raise GridNotFoundError(
                    f"{origin} holds no spectrum with `{name}` = {selection} and the other labels as selected; its "
                    f"values of {name} are {_short(np.unique(labels[:, column]))}. Select some of these."
                )
    axes = [select_values(selections.get(name), labels[rows, i], name) for i, name in enumerate(label_names)]
    if scattered and np.prod([float(len(axis)) for axis in axes]) > _FULLEST * len(rows):
        return rows, np.empty((0, len(axes)))
    present = set(map(tuple, labels[rows].tolist()))
    absent = [node for node in product(*(axis.tolist() for axis in axes)) if node not in present]
    return rows, np.array(absent, dtype=np.float64).reshape(-1, len(axes))


def require_one_of_each(labels, label_names, names):
    """Raise SpectrumFileError if two spectra have the same labels; `names` are those of the spectra."""
    first = {}
    for node, name in zip(map(tuple, np.asarray(labels).tolist()), names, strict=True):
        if node in first:
            raise SpectrumFileError(
                f"{first[node]} and {name} both have the node ({', '.join(f'{x:g}' for x in node)}) in "
                f"{', '.join(label_names)}, but a node has one spectrum. Delete one of them or move it away; if they "
                "differ in another label, state it too."
            )
        first[node] = name


def report_missing(absent, n_there, label_names, origin, missing, cure):
    """Raise GridIncompleteError or warn because of missing nodes; `missing` is "raise" or "report"."""
    if missing not in ("raise", "report"):
        raise ValueError(f"`missing` is {missing!r}, but it must be 'raise' or 'report'.")
    if not len(absent):
        return
    first = ", ".join(f"({', '.join(f'{x:g}' for x in node)})" for node in absent[:5])
    found = (
        f"{len(absent)} of the {len(absent) + n_there} selected nodes have no spectrum in {origin}, first "
        f"({', '.join(label_names)}) = {first}"
    )
    if missing == "raise":
        raise GridIncompleteError(
            f"{found}. {cure} select a range without them, or pass missing='report' (--allow-missing) to go on without "
            "them."
        )
    warnings.warn(f"{found}; they are left out and listed in `missing`.", StellarHMLWarning, stacklevel=3)


def assemble(source, rows, absent, *, wavelength, resolving_power, dtype, cache, verbose, return_X_y):
    """Read the chosen `rows` of a source; returns the Bunch, or (flux, labels), that `load_grid` documents.

    `wavelength` is a range (lo, hi) in vacuum angstrom or None; `absent` are the labels of missing nodes.
    """
    rows = np.asarray(rows)
    labels = source.labels[rows]
    if callable(source.wavelength):
        source = replace(source, wavelength=source.wavelength(int(rows[0])))
    first = source.names[rows[0]]
    broadening, binning = None, 1.0
    if resolving_power is None:
        pixels = choose_pixels(source.wavelength, wavelength, source.origin)
        grid = source.wavelength[pixels].copy()
    else:
        broadening = Broadening(source, wavelength, resolving_power)
        pixels, grid, binning = broadening.pixels, broadening.wavelength, broadening.binning
    shape = len(rows), grid.size

    def spectra():
        parts = source.read(rows.tolist(), pixels)
        names = [source.names[row] for row in rows]
        for name, (axis, flux) in zip(
            progress(names, verbose=verbose, description="Reading spectra", unit="spectra"), parts, strict=True
        ):
            yield _checked(source, name, axis, flux, pixels, broadening, first)

    if cache is not None:
        cache = Path(cache)
        check_cache(cache)
        files = [*source.files, *([] if source.row_files is None else [source.row_files[row] for row in rows])]
        request = describe_request(files, labels, grid, resolving_power, dtype)
        flux = open_cache(cache, request, shape)
        if flux is None:
            flux = write_cache(cache, request, shape, spectra())
    elif _is_as_it_is(source, rows, broadening, dtype):
        for _ in spectra():  # checks alone
            pass
        flux = source.mapped[rows[0] : rows[-1] + 1, pixels]
    else:
        flux = np.empty(shape, dtype=dtype)
        with closing(spectra()) as parts:
            for row, spectrum in enumerate(parts):
                flux[row] = spectrum
    if return_X_y:
        return flux, labels
    return Bunch(
        flux=flux,
        labels=labels,
        wavelength=grid,
        label_names=tuple(source.label_names),
        missing=absent,
        filenames=[source.names[row] for row in rows],
        resolving_power=source.resolving_power if resolving_power is None else float(resolving_power),
        binning=binning,
        DESCR=source.description.format(n=len(rows)),
    )


def choose_pixels(all_pixels, limits, origin):
    """Slice of the pixels in the closed range `limits`, or of all of them."""
    if limits is None:
        return slice(0, all_pixels.size)
    lo, hi = check_limits(limits)
    pixels = slice(int(np.searchsorted(all_pixels, lo, "left")), int(np.searchsorted(all_pixels, hi, "right")))
    if pixels.stop <= pixels.start:
        raise WavelengthCoverageError(
            f"`wavelength` is ({lo}, {hi}) angstrom, but no pixel of {origin} lies in it: they go from "
            f"{all_pixels[0]:g} to {all_pixels[-1]:g} angstrom. Choose a range inside that."
        )
    return pixels


def increasing(wavelength, name):
    """Wavelengths (n_pixels,) in increasing order, and the slice that reverses a spectrum where they decrease."""
    steps = np.diff(wavelength)
    if wavelength.size > 1 and np.all(steps < 0):
        return wavelength[::-1], slice(None, None, -1)
    if wavelength.size < 2 or not np.all(np.isfinite(wavelength)) or not np.all(steps > 0):
        first = int(np.argmax(~(steps > 0))) if wavelength.size > 1 else 0
        raise SpectrumFileError(
            f"{name} has wavelengths that do not increase or decrease strictly at pixel {first}, of "
            f"{wavelength.size}. Write the file again with sorted wavelengths, each once."
        )
    return wavelength, slice(None)


def _checked(source, name, axis, flux, pixels, broadening, first):
    """A spectrum after all checks, broadened if asked for; `first` is the name of the one with the wavelengths."""
    same = axis is not None and flux.shape == axis.shape == source.wavelength.shape
    if same and np.allclose(axis, source.wavelength, rtol=_SAME, atol=0):
        axis, flux = None, flux[pixels]
    n_needed = (pixels.stop - pixels.start) if axis is None else axis.size
    if flux.shape != (n_needed,):
        raise SpectrumFileError(
            f"{name} has fluxes of shape {flux.shape}, but there are {n_needed} wavelengths. All spectra of a grid "
            "need one flux for each wavelength: take both from the same release."
        )
    n_bad = int(np.count_nonzero(~np.isfinite(flux)))
    if n_bad:
        raise SpectrumFileError(
            f"{name} has {n_bad} pixels that are NaN or infinite, but a model spectrum must be finite. Choose a range "
            "of wavelengths without them, or compute or copy it again."
        )
    found = stretch_without_light(np.asarray(flux))
    if found is not None:
        where = source.wavelength[pixels] if axis is None else axis
        raise SpectrumFileError(
            f"{name} is {describe_stretch(found, where)}, but a model spectrum has light that varies everywhere: the "
            "file was cut, perhaps, and filled up. Copy or compute it again."
        )
    if broadening is not None:
        return broadening.apply(flux, axis, name)
    if axis is not None:
        reference = source.wavelength
        raise SpectrumFileError(
            f"{name} has {axis.size} pixels from {axis[0]:.4f} to {axis[-1]:.4f} angstrom, but {first} has "
            f"{reference.size} from {reference[0]:.4f} to {reference[-1]:.4f}, and a grid needs the same wavelengths "
            "in all spectra. Resample them, or let them be resampled: state `resolving_power` (--resolving-power)."
        )
    return flux


def _is_as_it_is(source, rows, broadening, dtype):
    """Whether the result is a part of an array on the disk as it stands."""
    whole = source.mapped is not None and broadening is None and source.mapped.dtype == np.dtype(dtype)
    return whole and bool(np.all(np.diff(rows) == 1))


def describe_row(origin, number, labels, label_names):
    """Name of a spectrum that is a row of an array."""
    return f"{origin}, spectrum {number} ({describe_node(labels, label_names)})"


def _short(values):
    text = ", ".join(f"{value:g}" for value in values[:12])
    return f"{text}, ... {values[-1]:g}" if len(values) > 12 else text
