"""The paper's experiment: infer labels of a grid's own spectra, with generators trained with or without them."""

import time
from typing import NamedTuple

import numpy as np
import pandas as pd

from stellarhml._parallel import map_items, progress
from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor
from stellarhml.pipeline import PAPER_SETTINGS
from stellarhml.synthesis.decomposed_grid import decompose_grid
from stellarhml.workflows.folds import choose_folds
from stellarhml.workflows.generators import make_generator, require_lines, require_nodes
from stellarhml.workflows.own_pixels import add_noise, infer_rows
from stellarhml.workflows.tables import with_truth

PAPER_SEARCH = "paper"
"""Name of the paper's own inference in tables."""

_PAPER_BAND = 12849.0 - 8038.0  # angstrom, for which the paper chose the margins of its generator
_CHUNK = 16  # stars of one task, which share the preparation of a search


class BenchmarkResult(NamedTuple):
    """Results of a benchmark.

    `table` has one row for each star and method of search: `star` (row of the grid), `fold`, `search`, `status`
    (ok, flagged or failed), `NAME_true`, `NAME`, `NAME_std` and `NAME_difference` for each label, `rms`,
    `reduced_chi2`, `seconds`, `flags`, `message`. `n_lines` are those of the generator, `n_folds` is the number of
    generators. `build_seconds` and `infer_seconds` are wall times of finding the lines, and of everything after.
    """

    table: pd.DataFrame
    label_names: tuple
    n_lines: int
    n_folds: int
    build_seconds: float
    infer_seconds: float


class _Task(NamedTuple):
    """Stars of one fold that are searched within the same bounds."""

    generator: object
    parameters: dict
    bounds: dict | None
    nodes: np.ndarray
    flux: np.ndarray
    snr: float | None
    weigh: bool
    seed: int


def search_settings(searches, *, paper=False, n_calls=None, n_initial_points=None):
    """Parameters of the regressor for each method of search, "nodes" or "bayes", by its name in tables.

    With `paper`, "bayes" is the paper's own inference (neither polish nor a free continuum), called "paper". `n_calls`,
    of which `n_initial_points` are random, are those of "bayes"; None: the regressor's defaults, 50 and 30. ValueError
    if a parameter belongs to a search that is not among `searches`, or all calls would be random.
    """
    calls = {"n_calls": n_calls, "n_initial_points": n_initial_points}
    calls = {name: value for name, value in calls.items() if value is not None}
    if "bayes" not in searches and (paper or calls):
        raise ValueError(
            f"The searches are {', '.join(searches)}, but the paper's settings and numbers of calls belong to bayes. "
            "Add bayes to the searches, or leave them out."
        )
    settings = {}
    for search in dict.fromkeys(searches):
        if search == "bayes" and paper:
            settings[PAPER_SEARCH] = {**PAPER_SETTINGS["regressor"], **calls}
        else:
            settings[search] = {"search": search, **(calls if search == "bayes" else {})}
    for parameters in settings.values():
        defaults = BayesianStellarRegressor().set_params(**parameters)
        if defaults.search == "bayes" and defaults.n_calls <= defaults.n_initial_points:
            raise ValueError(
                f"Of {defaults.n_calls} calls {defaults.n_initial_points} would be random, and none guided. Give more "
                "calls in all than random ones."
            )
    return settings


def run_benchmark(
    grid,
    searches,
    *,
    kind="left-out",
    n_folds=5,
    max_nodes=None,
    snr=None,
    teff_known=500.0,
    paper_generator=False,
    seed=0,
    n_jobs=None,
    verbose=None,
):
    """Infer labels of the spectra of a grid, with generators trained with or without them; returns a BenchmarkResult.

    Parameters
    ----------
    grid : Bunch
        With raw `flux`, `labels`, `wavelength` and `label_names`.
    searches : dict of str to dict
        As `search_settings` makes it.
    kind, n_folds, max_nodes : str, int, int
        Choice of the stars and of the held-out nodes, see `stellarhml.workflows.folds.choose_folds`.
    snr : float, default=None
        Signal-to-noise ratio of a pixel. None: no noise. The paper's own inference does not use the errors.
    teff_known : float, default=500.0
        Half width of the search range around the true Teff, in K. None: the whole grid.
    paper_generator : bool, default=False
        Whether to use the paper's generator too, with margins in proportion to the window. ValueError if combined with
        single held-out nodes.
    seed : int, default=0
        Seed of noise, searches and choice of stars. Each star has its own noise and search.
    n_jobs, verbose : int, bool, default=None
        Workers, and progress bars. Results do not depend on them.
    """
    if paper_generator and kind == "left-out":
        raise ValueError(
            "The paper's generator interpolates linearly on a full grid, but single nodes would be left out. Leave "
            "out planes, or take seen nodes."
        )
    require_nodes(grid)
    names = tuple(grid.label_names)
    folds = choose_folds(grid.labels, names, kind=kind, n_folds=n_folds, max_nodes=max_nodes, seed=seed)
    start = time.perf_counter()
    template = make_generator(grid.wavelength, label_names=names, paper=paper_generator, n_jobs=n_jobs, verbose=verbose)
    if paper_generator:
        share = min(np.ptp(grid.wavelength) / _PAPER_BAND, 1.0)
        margins = {name: share * PAPER_SETTINGS["decomposer"][name] for name in ("line_margin", "loss_margin")}
        template.decomposer.set_params(**margins)
    tables = []
    n_steps = len(searches) * sum(len(test) for _, test in folds)
    with decompose_grid(template, grid.labels, grid.flux) as decomposed:
        require_lines(decomposed.decomposer)
        built = time.perf_counter()
        with progress(None, total=n_steps, verbose=verbose, description="Inferring labels", unit="star") as bar:
            for k, (known, test) in enumerate(folds):
                bar.set_description(f"Fold {k + 1} of {len(folds)}", refresh=False)
                generator = decomposed.fit(known)
                groups = list(_groups(generator, grid.labels, test, teff_known))
                for name, parameters in searches.items():
                    weigh = snr is not None and name != PAPER_SEARCH
                    # one after the other: the spectra of all would be a second copy of the grid
                    tasks = (
                        _Task(generator, parameters, bounds, nodes, grid.flux[nodes], snr, weigh, seed)
                        for bounds, nodes in groups
                    )
                    results = map_items(_infer_stars, tasks, n_jobs=n_jobs, verbose=False)
                    for (_, nodes), found in zip(groups, results, strict=True):
                        columns = {"star": nodes, "fold": k + 1, "search": name}
                        tables.append(pd.concat([pd.DataFrame(columns), found], axis=1))
                        bar.update(len(found))
        n_lines = len(generator.decomposer_.line_catalog_)
    inferred = time.perf_counter()
    table = pd.concat(tables, ignore_index=True)
    order = np.lexsort([table["star"], table["search"].map(list(searches).index)])
    table = table.iloc[order].reset_index(drop=True)
    table = with_truth(table, names, grid.labels[table["star"]])
    return BenchmarkResult(table, names, n_lines, len(folds), built - start, inferred - built)


def _groups(generator, labels, test, teff_known):
    """Yield bounds and test stars that share them, a few at a time."""
    names = generator.label_names_
    column = names.index("teff") if "teff" in names else None
    low, high = generator.interpolator_.bounds_[column or 0]
    free = teff_known is None or column is None or low == high
    shared = np.zeros(len(test)) if free else labels[test, column]
    for value in np.unique(shared):
        nodes = test[shared == value]
        bounds = None
        if not free:
            bounds = {"teff": (float(max(low, value - teff_known)), float(min(high, value + teff_known)))}
        for part in np.array_split(nodes, -(-len(nodes) // _CHUNK)):
            yield bounds, part


def _infer_stars(task):
    """Table of the stars of a task."""
    regressor, tables = None, []
    for node, flux in zip(task.nodes, task.flux, strict=True):
        own = [task.seed, int(node)]
        if regressor is None or task.parameters["search"] == "bayes":  # its calls are drawn for each star
            state = int(np.random.SeedSequence(own).generate_state(1)[0])
            regressor = BayesianStellarRegressor.from_generator(
                task.generator, bounds=task.bounds, random_state=state, verbose=False, **task.parameters
            )
        star, error = np.asarray(flux, dtype=np.float64)[None], None
        if task.snr is not None:
            star, error = add_noise(flux[None], snr=task.snr, seed=own)
        tables.append(infer_rows(regressor, star, error if task.weigh else None, verbose=False))
    return pd.concat(tables, ignore_index=True)
