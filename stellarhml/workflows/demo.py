"""The main job on one grid: build its generator, infer stars that the grid has not seen, and show how well it went."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor
from stellarhml.spectra.table_columns import write_spectrum_table
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.storage.saving import save
from stellarhml.workflows.building import make_generator
from stellarhml.workflows.demo_figure import draw_demo
from stellarhml.workflows.inferring_at_rest import infer_observations
from stellarhml.workflows.resampling import Observation
from stellarhml.workflows.tables import truth_table


class DemoResult(NamedTuple):
    """What a demo computed.

    Parameters
    ----------
    table : DataFrame
        As `stellarhml.workflows.tables.truth_table` makes it.
    label_names : tuple of str
        Names of the labels.
    n_lines : int
        Lines of the generator.
    build_seconds, infer_seconds : float
        Wall times of the two steps.
    files : dict
        Paths by what they are: "table", "figure", "generator", "spectrum".
    """

    table: pd.DataFrame
    label_names: tuple
    n_lines: int
    build_seconds: float
    infer_seconds: float
    files: dict


def run_demo(grid, out, *, n_jobs=None, search="nodes", snr=100.0, seed=0, verbose=None):
    """Build a generator on the nodes of a grid and infer its off-grid spectra, with noise.

    Parameters
    ----------
    grid : Bunch
        With `flux`, `labels`, `flux_offgrid`, `labels_offgrid`, `wavelength` and `label_names`, such as
        :func:`stellarhml.datasets.load_mini_grid` returns.
    out : str or path-like
        Folder for the files.
    n_jobs : int, default=None
        Workers.
    search : {"nodes", "bayes"}, default="nodes"
        Global search of the inference.
    snr : float, default=100.0
        Ratio of the median flux of each spectrum to the standard deviation of its noise in each pixel.
    seed : int, default=0
        Seed of the noise and of the search.
    verbose : bool, default=None
        Whether to show progress bars.

    Returns
    -------
    result : DemoResult
        Table, times and files.

    Raises
    ------
    ValueError
        If an off-grid spectrum is one of the grid.
    """
    require_unseen(grid.flux, grid.labels, grid.flux_offgrid, grid.labels_offgrid)
    out = Path(out)
    start = time.perf_counter()
    generator = make_generator(grid.wavelength, label_names=grid.label_names, n_jobs=n_jobs, verbose=verbose)
    generator.fit(grid.labels, grid.flux)
    built = time.perf_counter()
    regressor = BayesianStellarRegressor.from_generator(generator, search=search, random_state=seed, verbose=False)
    observations = add_noise(grid.flux_offgrid, snr=snr, seed=seed)
    inferences = infer_observations(regressor, observations, n_jobs=n_jobs, verbose=verbose)
    inferred = time.perf_counter()
    for i, inference in enumerate(inferences):
        if isinstance(inference, str):
            raise ValueError(f"Star {i + 1} could not be inferred: {inference}")
    names = [f"star {i + 1}" for i in range(len(inferences))]
    table = truth_table(names, grid.label_names, grid.labels_offgrid, inferences)
    files = {
        "table": out / "stars.csv",
        "figure": out / "figure.png",
        "generator": out / "generator.joblib",
        "spectrum": out / "star_1.fits",
    }
    with atomic_path(files["table"]) as temporary:
        table.to_csv(temporary, index=False)
    with atomic_path(files["figure"]) as temporary:
        draw_demo(regressor, observations[0], inferences[0], title=f"{names[0]}, S/N {snr:g}").savefig(
            temporary, dpi=130
        )
    write_spectrum_table(files["spectrum"], grid.wavelength, observations[0].flux, observations[0].flux_error)
    save(generator, files["generator"])
    n_lines = len(generator.decomposer_.line_catalog_)
    return DemoResult(table, grid.label_names, n_lines, built - start, inferred - built, files)


def require_unseen(flux, labels, flux_test, labels_test):
    """Raise if a test spectrum, or one with its labels, is in the training grid.

    Parameters
    ----------
    flux, labels : ndarray of shape (n_spectra, n_pixels) and (n_spectra, n_labels)
        The training grid.
    flux_test, labels_test : ndarray of shape (n_stars, n_pixels) and (n_stars, n_labels)
        The test spectra.

    Raises
    ------
    ValueError
        If so.
    """
    for star, (spectrum, label) in enumerate(zip(flux_test, labels_test, strict=True)):
        same = np.all(labels == label, axis=1) | np.all(flux == spectrum, axis=1)
        if same.any():
            raise ValueError(
                f"Test star {star + 1} is row {int(np.argmax(same))} of the training grid, but a test star must be "
                "unseen. Take it out of one of them."
            )


def add_noise(flux, *, snr, seed):
    """Observe spectra with Gaussian noise.

    Parameters
    ----------
    flux : ndarray of shape (n_stars, n_pixels)
        Noise-free fluxes.
    snr : float
        Ratio of the median flux of each spectrum to the standard deviation of the noise.
    seed : int or list of int
        Seed of the noise.

    Returns
    -------
    observations : list of Observation
        Fluxes with noise, and its standard deviations.
    """
    rng = np.random.default_rng(seed)
    observations = []
    for row in flux.astype(np.float64):
        sigma = np.median(row) / snr
        observations.append(Observation(row + sigma * rng.normal(size=row.size), np.full(row.size, sigma), True, 1.0))
    return observations
