"""The demo: build a generator on one grid, infer stars between its nodes, and compare them with the truth.

Stars of the grid's own physics come first. Where the grid brings stars of other physics, these are inferred twice: with
the lines of the grid as they are, and with lines taken as uncertain.
"""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor
from stellarhml.inference._inference_result import results_table
from stellarhml.spectra.observed_spectrum import ObservedSpectrum
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.storage.saving import save
from stellarhml.workflows.demo_figure import Shown, draw_demo
from stellarhml.workflows.generators import SUFFIX, build_generator
from stellarhml.workflows.own_pixels import add_noise, infer_rows
from stellarhml.workflows.tables import with_mean_row, with_truth, write_table

OWN, BEFORE, AFTER = "physics of the grid", "other physics, lines of the grid", "other physics, lines uncertain"
"""Groups of rows of the table."""

_LINE_ERRORS = {BEFORE: False, AFTER: "auto"}


class DemoResult(NamedTuple):
    """Results of a demo.

    `table` has one row for each star: `star`, then `NAME_true`, `NAME`, `NAME_std` and `NAME_difference` for each
    label, `reduced_chi2`, `seconds`, `flags`, `message`, and its `group`, OWN, BEFORE or AFTER; the last row of each
    group has the means of the absolute differences. Rows of AFTER also have these four for "vmic" and abundances such
    as "[Ti/Fe]". `files` are paths by content: "table", "figure", "generator", "spectrum", and "other", the spectrum of
    a star of other physics. The times are wall times; `other_seconds` is None without such stars.
    """

    table: pd.DataFrame
    label_names: tuple
    n_lines: int
    build_seconds: float
    infer_seconds: float
    other_seconds: float | None
    files: dict


def run_demo(grid, out, *, n_jobs=None, search="nodes", snr=100.0, seed=0, verbose=None):
    """Build a generator on the nodes of a grid and infer its other spectra, with noise; returns a DemoResult.

    `grid` is a Bunch as `load_mini_grid` returns; what belongs to stars of other physics, and the line list, may be
    missing. Files are written into the folder `out`. `snr` is the ratio of the median flux of each spectrum to the
    standard deviation of its noise in each pixel; `seed` is that of the noise and the search. ValueError if a test
    spectrum is one of the grid, or a star cannot be inferred.
    """
    n_own, has_others = len(grid.flux_offgrid), "flux_other" in grid
    flux, truth = grid.flux_offgrid, grid.labels_offgrid
    if has_others:
        flux, truth = np.concatenate([flux, grid.flux_other]), np.concatenate([truth, grid.labels_other])
    require_unseen(grid.flux, grid.labels, flux, truth)
    out, names = Path(out), grid.label_names
    stars = [f"star {i + 1}" for i in range(len(flux))]
    start = time.perf_counter()
    generator = build_generator(grid, n_jobs=n_jobs, verbose=verbose)
    built = time.perf_counter()
    regressor = BayesianStellarRegressor.from_generator(generator, search=search, random_state=seed, verbose=False)
    flux, error = add_noise(flux, snr=snr, seed=seed)
    own = infer_rows(regressor, flux[:n_own], error[:n_own], n_jobs=n_jobs, verbose=verbose)
    inferred = time.perf_counter()
    own.insert(0, "star", stars[:n_own])
    for row in own[own["status"] == "failed"].itertuples():
        raise ValueError(f"{row.star} could not be inferred: {row.message}")
    own = own.drop(columns=["status", "rms"])
    tables = [with_mean_row(with_truth(own, names, truth[:n_own]), names).assign(group=OWN)]
    if has_others:
        generator.tag_lines(grid.line_list)
        spectra = [(grid.wavelength, *star) for star in zip(flux[n_own:], error[n_own:], strict=True)]
        first = {}
        for group, line_errors in _LINE_ERRORS.items():
            settings = {"line_errors": line_errors, "random_state": seed, "verbose": False}
            changed = BayesianStellarRegressor.from_generator(generator, **settings)
            results = changed.infer_many(spectra, resolving_power=None, n_jobs=n_jobs, verbose=verbose)
            tables.append(_table_of_others(results, stars[n_own:], grid).assign(group=group))
            first[group] = results[0]
        shown = Shown.from_results(stars[n_own], first, names)
    else:
        found = own.loc[0, list(names)].to_numpy(dtype=np.float64)
        shown = Shown.at_rest(stars[0], regressor, flux[0], error[0], found, OWN)
    done = time.perf_counter()
    table = pd.concat(tables, ignore_index=True)
    files = {
        "table": out / "stars.csv",
        "figure": out / "figure.png",
        "generator": out / f"generator{SUFFIX}",
        "spectrum": out / "star_1.fits",
    }
    with atomic_path(files["figure"]) as temporary:
        figure = draw_demo(table, generator, shown, snr=snr)
        figure.savefig(temporary, dpi=130)
    write_table(table, files["table"])
    written = {"spectrum": 0}
    if has_others:
        written["other"], files["other"] = n_own, out / f"star_{n_own + 1}.fits"
    for content, k in written.items():
        ObservedSpectrum([(grid.wavelength, flux[k], error[k])], {"object": stars[k]}).write(files[content])
    save(generator, files["generator"])
    n_lines = len(generator.decomposer_.line_catalog_)
    other_seconds = done - inferred if has_others else None
    return DemoResult(table, names, n_lines, built - start, inferred - built, other_seconds, files)


def require_unseen(flux, labels, flux_test, labels_test):
    """Raise a ValueError if a test spectrum, or one with its labels, is in the training grid."""
    for star, (spectrum, label) in enumerate(zip(flux_test, labels_test, strict=True)):
        same = np.all(labels == label, axis=1) | np.all(flux == spectrum, axis=1)
        if same.any():
            raise ValueError(
                f"Test star {star + 1} is row {int(np.argmax(same))} of the training grid, but a test star must be "
                "unseen. Take it out of one of them."
            )


def _table_of_others(results, stars, grid):
    """Table of the results of the stars of other physics, with truth and means; ValueError if one failed."""
    table = results_table(results, stars, status=True)
    for row in table[table["status"] == "failed"].itertuples():
        raise ValueError(f"{row.star} could not be inferred: {row.message}")
    known = {f"[{element}/Fe]": values for element, values in grid.x_fe_other.items()} | {"vmic": grid.vmic_other}
    found = [name for name in sorted(known, reverse=True) if name in table]  # vmic first
    names = (*grid.label_names, *found)
    columns = [column for name in names for column in (name, f"{name}_std")]
    truth = np.column_stack([grid.labels_other, *(known[name] for name in found)])
    table = table[["star", *columns, "reduced_chi2", "seconds", "flags", "message"]]
    return with_mean_row(with_truth(table, names, truth), names)
