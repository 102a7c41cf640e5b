"""The demo: build a generator on one grid, infer stars between its nodes, and compare them with the truth."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stellarhml._rounding import rounded
from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor
from stellarhml.plotting._manifold_display import ManifoldDisplay
from stellarhml.plotting._spectrum_fit import compare
from stellarhml.plotting._spectrum_fit_display import SpectrumFitDisplay
from stellarhml.plotting._style import label_text
from stellarhml.spectra.observed_spectrum import ObservedSpectrum
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.storage.saving import save
from stellarhml.workflows.generators import SUFFIX, build_generator
from stellarhml.workflows.own_pixels import add_noise, infer_rows
from stellarhml.workflows.tables import with_mean_row, with_truth, write_table

_ZOOM = 0.1  # share of the band that the second panel shows


class DemoResult(NamedTuple):
    """Results of a demo.

    `table` has one row for each star: `star`, then `NAME_true`, `NAME`, `NAME_std` and `NAME_difference` for each
    label, `reduced_chi2`, `seconds`, `flags`, `message`; the last row has the means of the absolute differences.
    `files` are paths by content: "table", "figure", "generator", "spectrum". The two times are wall times.
    """

    table: pd.DataFrame
    label_names: tuple
    n_lines: int
    build_seconds: float
    infer_seconds: float
    files: dict


def run_demo(grid, out, *, n_jobs=None, search="nodes", snr=100.0, seed=0, verbose=None):
    """Build a generator on the nodes of a grid and infer its off-grid spectra, with noise; returns a DemoResult.

    `grid` is a Bunch as `load_mini_grid` returns; files are written into the folder `out`. `snr` is the ratio of the
    median flux of each spectrum to the standard deviation of its noise in each pixel; `seed` is that of the noise and
    the search. ValueError if an off-grid spectrum is one of the grid, or a star cannot be inferred.
    """
    require_unseen(grid.flux, grid.labels, grid.flux_offgrid, grid.labels_offgrid)
    out, names = Path(out), grid.label_names
    start = time.perf_counter()
    generator = build_generator(grid, n_jobs=n_jobs, verbose=verbose)
    built = time.perf_counter()
    regressor = BayesianStellarRegressor.from_generator(generator, search=search, random_state=seed, verbose=False)
    flux, error = add_noise(grid.flux_offgrid, snr=snr, seed=seed)
    table = infer_rows(regressor, flux, error, n_jobs=n_jobs, verbose=verbose)
    inferred = time.perf_counter()
    table.insert(0, "star", [f"star {i + 1}" for i in range(len(table))])
    for row in table[table["status"] == "failed"].itertuples():
        raise ValueError(f"{row.star} could not be inferred: {row.message}")
    files = {
        "table": out / "stars.csv",
        "figure": out / "figure.png",
        "generator": out / f"generator{SUFFIX}",
        "spectrum": out / "star_1.fits",
    }
    with atomic_path(files["figure"]) as temporary:
        figure = draw_demo(regressor, flux[0], error[0], table.iloc[0], title=f"{table['star'][0]}, S/N {snr:g}")
        figure.savefig(temporary, dpi=130)
    table = with_mean_row(with_truth(table.drop(columns=["status", "rms"]), names, grid.labels_offgrid), names)
    write_table(table, files["table"])
    ObservedSpectrum([(grid.wavelength, flux[0], error[0])], {"object": "star 1"}).write(files["spectrum"])
    save(generator, files["generator"])
    n_lines = len(generator.decomposer_.line_catalog_)
    return DemoResult(table, names, n_lines, built - start, inferred - built, files)


def require_unseen(flux, labels, flux_test, labels_test):
    """Raise a ValueError if a test spectrum, or one with its labels, is in the training grid."""
    for star, (spectrum, label) in enumerate(zip(flux_test, labels_test, strict=True)):
        same = np.all(labels == label, axis=1) | np.all(flux == spectrum, axis=1)
        if same.any():
            raise ValueError(
                f"Test star {star + 1} is row {int(np.argmax(same))} of the training grid, but a test star must be "
                "unseen. Take it out of one of them."
            )


def draw_demo(regressor, flux, error, row, *, title=None):
    """Draw a star with its model, a part of both, and the manifold of a line; returns a figure not tied to a window.

    The regressor must have at least two labels; `flux` and `error` (n_pixels,); `row` is the star's of `infer_rows`.
    """
    from matplotlib.figure import Figure

    generator = regressor.generator_
    names = generator.label_names_
    labels = row[list(names)].to_numpy(dtype=np.float64)
    fit = compare(regressor, flux, labels, flux_error=error)
    line = _strong_line(generator, labels)
    figure = Figure(figsize=(11, 10.5), layout="constrained")
    rows = figure.add_gridspec(5, 2, height_ratios=(3, 1, 3, 1, 3.2))
    found = ", ".join(
        f"{label_text(name).split(' [')[0]} = {' ± '.join(rounded(row[name], row[f'{name}_std']))}" for name in names
    )
    text = f"{title}: {found}" if title else found
    pairs = [[figure.add_subplot(rows[row, :]) for row in pair] for pair in ((0, 1), (2, 3))]
    SpectrumFitDisplay.from_arrays(*fit[:2], fit.fitted, fit.flux_error, text, ax=pairs[0])
    half = 0.5 * _ZOOM * (fit.wavelength[-1] - fit.wavelength[0])
    centre = np.clip(line, fit.wavelength[0] + half, fit.wavelength[-1] - half)
    window = (centre - half, centre + half)
    SpectrumFitDisplay.from_arrays(*fit[:2], fit.fitted, fit.flux_error, ax=pairs[1], window=window)
    axes = ("teff", "logg") if {"teff", "logg"} <= set(names) else names[:2]
    maps = [figure.add_subplot(rows[4, column]) for column in range(2)]
    ManifoldDisplay.from_estimator(generator, line=line, labels=axes, ax=maps)
    return figure


def _strong_line(generator, labels):
    """Wavelength of the strongest line, in angstrom."""
    table = generator.line_table(labels)
    return float(table["equivalent_width"].idxmax() if len(table) else generator.wavelength_.mean())
