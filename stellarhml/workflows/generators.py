"""Generators: made for a grid, built and saved, and that of the packaged grid."""

import warnings

import numpy as np
from sklearn.base import clone

from stellarhml._grid_faults import describe_node
from stellarhml.exceptions import PersistenceError, WorkerDiedError
from stellarhml.pipeline import PAPER_SETTINGS, make_stellar_pipeline
from stellarhml.storage.saving import load, save

SUFFIX = ".asdf"
"""Ending of the files of generators that commands choose a name for."""

_PEAK_DISTANCE = 5001  # pixels, the paper's
_ANCHOR_WIDTH = 11  # pixels: at a signal-to-noise ratio of 100, an anchor of one pixel would carry 1 % of noise


def continuum_settings(n_pixels, binning=1.0):
    """Settings of the preprocessor for spectra of `n_pixels` pixels, each of `binning` pixels of the grid's own.

    The paper's distance between maxima, and a degree that leaves about two maxima to each coefficient: 5 for the full
    band, as in the paper, and lower for short windows.
    """
    distance = max(round(_PEAK_DISTANCE / binning), _ANCHOR_WIDTH)
    width = max(2 * int(_ANCHOR_WIDTH / binning / 2) + 1, 3)  # odd
    degree = min(5, n_pixels // (2 * distance))
    return {"degree": degree, "peak_distance": distance, "anchor_width": width}


def make_generator(
    wavelength,
    *,
    label_names=None,
    resolving_power=None,
    binning=1.0,
    paper=False,
    normalised=False,
    prominence=None,
    store=None,
    n_jobs=None,
    verbose=None,
):
    """SpectrumGenerator, not fitted, with its own preprocessor, so that it takes raw flux, unless `normalised`.

    `wavelength` (n_pixels,) of the grid [vacuum angstrom]; `resolving_power` that its spectra have, or None; `binning`
    pixels of the grid's own are in a pixel; `paper` takes the paper's settings in place of the defaults;
    `prominence` is the smallest of a line, None for the default, 0.005, in either case; `store` is that of the
    `VoigtLineDecomposer`.
    """
    settings = {"preprocessor": continuum_settings(len(wavelength), binning)}
    if paper:
        settings = {name: dict(step) for name, step in PAPER_SETTINGS.items()}
    if prominence is not None:
        settings.setdefault("decomposer", {})["prominence"] = prominence
    settings.setdefault("decomposer", {})["store"] = store
    pipeline = make_stellar_pipeline(
        wavelength=wavelength,
        settings=settings,
        label_names=label_names,
        resolving_power=resolving_power,
        n_jobs=n_jobs,
        verbose=verbose,
    )
    generator = clone(pipeline.named_steps["regress"].generator)
    if normalised:
        return generator
    return generator.set_params(preprocessor=clone(pipeline.named_steps["preprocess"]))


def build_generator(
    grid, path=None, *, paper=False, normalised=False, prominence=None, store=None, n_jobs=None, verbose=None
):
    """Fit a generator to a grid of raw spectra, and save it.

    What only concerns the fit, `store`, `n_jobs` and `verbose`, is not in the generator: the file is the same to the
    last byte for any number of workers.

    Parameters
    ----------
    grid : Bunch
        With `flux`, `labels`, `wavelength` and `label_names`, and perhaps `resolving_power` and `binning`, such as
        :func:`stellarhml.datasets.load_grid` returns.
    path : str or path-like, default=None
        File to write, see :func:`stellarhml.save`. None saves nothing.
    paper, normalised, prominence, store, n_jobs, verbose : bool, bool, float, str or path-like, int, bool
        As in `make_generator`.

    Returns
    -------
    generator : SpectrumGenerator
        A fitted generator.

    Raises
    ------
    ValueError
        If the grid has one node only, or its spectra no lines. Nothing is saved then.
    WorkerDiedError
        If the worker of a spectrum died twice. It names the file of the spectrum where the grid has `filenames`.
    OSError
        If the store or the file cannot be written.
    """
    require_nodes(grid)
    settings = {
        "paper": paper,
        "normalised": normalised,
        "prominence": prominence,
        "store": store,
        "n_jobs": n_jobs,
        "verbose": verbose,
    }
    sampling = {"resolving_power": grid.get("resolving_power"), "binning": grid.get("binning", 1.0)}
    generator = make_generator(grid.wavelength, label_names=grid.label_names, **sampling, **settings)
    try:
        generator.fit(grid.labels, grid.flux)
    except WorkerDiedError as error:
        if error.spectrum is None or "filenames" not in grid:
            raise
        raise WorkerDiedError(f"{grid.filenames[error.spectrum]}: {error}") from error
    require_lines(generator.decomposer_)
    for step in (generator, generator.decomposer, generator.decomposer_):
        of_the_fit = {"store", "n_jobs", "verbose"} & set(step.get_params(deep=False))
        step.set_params(**dict.fromkeys(of_the_fit))
    if path is not None:
        save_generator(generator, path)
    return generator


def save_generator(generator, path):
    """Save a generator; OSError if the file cannot be written."""
    try:
        save(generator, path)
    except OSError as error:
        raise OSError(f"{path} could not be written ({error}). Make room, or choose another file.") from error


def require_nodes(grid):
    """Raise ValueError if a grid has fewer than two nodes."""
    if len(np.unique(grid.labels, axis=0)) < 2:
        node = describe_node(grid.labels[0], grid.label_names)
        raise ValueError(
            f"The grid has one node, {node}, but at least two are needed: a generator interpolates between nodes. "
            "Choose wider ranges of the labels."
        )


def require_lines(decomposer):
    """Raise ValueError if a fitted decomposer has no line."""
    if not len(decomposer.line_catalog_):
        low, high = decomposer.wavelength_[[0, -1]]
        raise ValueError(
            f"The spectra have no line of prominence {decomposer.prominence:g} of the continuum between {low:.2f} and "
            f"{high:.2f} angstrom ({len(decomposer.wavelength_)} pixels), but labels are inferred from lines. Choose a "
            "wider or another range of wavelengths, or a lower prominence."
        )


def constant_labels(grid):
    """Labels that have the same value at all nodes, as text; None if there are none."""
    values = zip(grid.label_names, grid.labels.T, strict=True)
    found = [f"{name} ({column[0]:g})" for name, column in values if np.ptp(column) == 0]
    if not found:
        return None
    return f"one value only of {', '.join(found)}: other values can be neither generated nor inferred."


def reproduction_rms(generator, flux, labels):
    """Residual RMS of a fitted generator at the nodes of its own grid, in units of the continuum.

    `flux` is raw, shape (n_spectra, n_pixels), and may be a memory map.
    """
    total = 0.0
    for row, label in zip(flux, labels, strict=True):
        difference = generator.predict(label[None]) - generator.normalise(row[None], label[None])
        total += float(np.mean(np.asarray(difference, dtype=np.float64) ** 2))
    return float(np.sqrt(total / len(labels)))


def packaged_generator(*, n_jobs=2, verbose=None):
    """Fitted generator of the packaged grid: built once, then kept in the folder of downloads."""
    from stellarhml import __version__
    from stellarhml.datasets._mini_grid import load_mini_grid
    from stellarhml.grids.fetch import get_data_home

    path = get_data_home() / f"packaged-{__version__}{SUFFIX}"
    if path.is_file():
        try:
            return load(path, trust_pickle=False)
        except PersistenceError:  # an interrupted build, or an older format
            path.unlink()
    print("Building the generator of the packaged grid, once", flush=True)
    generator = build_generator(load_mini_grid(), n_jobs=n_jobs, verbose=verbose)
    try:
        save(generator, path)
    except OSError as error:
        warnings.warn(f"The generator could not be saved ({error}), and will be built again.", stacklevel=2)
    return generator
