"""The paper's experiment: labels of a grid's own spectra, inferred with generators that know them, or do not."""

import time
from typing import NamedTuple

import numpy as np
import pandas as pd

from stellarhml._parallel import map_items, progress
from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor
from stellarhml.pipeline import PAPER_SETTINGS
from stellarhml.synthesis.decomposed_grid import decompose_grid
from stellarhml.workflows.building import make_generator
from stellarhml.workflows.demo import add_noise
from stellarhml.workflows.folds import choose_folds
from stellarhml.workflows.inferring_at_rest import infer_observations
from stellarhml.workflows.resampling import Observation

PAPER_SEARCH = "paper"
"""Name of the paper's own inference in tables."""

_PAPER_BAND = 12849.0 - 8038.0  # angstrom, which the margins of the paper's generator belong to
_CHUNK = 16  # stars of one task, which share the preparation of a search


class BenchmarkResult(NamedTuple):
    """What a benchmark computed.

    Parameters
    ----------
    table : DataFrame
        One row for each star and method of search: `node` (row of the grid), `fold`, `search`, `status` ("ok",
        "flagged" or "failed"), `<label>_true`, `<label>_inferred`, `<label>_error`, `<label>_std` for each label,
        `rms`, `seconds`, `note`.
    label_names : tuple of str
        Names of the labels.
    n_lines : int
        Lines of the generator.
    n_folds : int
        Generators that were made.
    build_seconds, infer_seconds : float
        Wall times of finding the lines, and of all that followed.
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
    """Parameters of the regressor for each method of search.

    Parameters
    ----------
    searches : sequence of {"nodes", "bayes"}
        Methods.
    paper : bool, default=False
        Whether "bayes" is the paper's own inference: neither polish nor a free continuum.
    n_calls, n_initial_points : int, default=None
        All calls, and random calls, of "bayes". None: the defaults of `BayesianStellarRegressor`, 50 and 30.

    Returns
    -------
    settings : dict of str to dict
        Parameters by the name of the method in tables; the paper's own is called "paper".

    Raises
    ------
    ValueError
        If something is asked of a search that is not among `searches`, or no call is left to be guided.
    """
    asked = {"n_calls": n_calls, "n_initial_points": n_initial_points}
    asked = {name: value for name, value in asked.items() if value is not None}
    if "bayes" not in searches and (paper or asked):
        raise ValueError(
            f"The searches are {', '.join(searches)}, but the paper's settings and numbers of calls are those of "
            "bayes. Add bayes to the searches, or leave them out."
        )
    settings = {}
    for search in dict.fromkeys(searches):
        if search == "bayes" and paper:
            settings[PAPER_SEARCH] = {**PAPER_SETTINGS["regressor"], **asked}
        else:
            settings[search] = {"search": search, **(asked if search == "bayes" else {})}
    for parameters in settings.values():
        defaults = BayesianStellarRegressor().set_params(**parameters)
        if defaults.search == "bayes" and defaults.n_calls <= defaults.n_initial_points:
            raise ValueError(
                f"Of {defaults.n_calls} calls {defaults.n_initial_points} would be random, and none guided. All calls "
                "must be more than the random ones."
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
    """Infer labels of the spectra of a grid.

    Parameters
    ----------
    grid : Bunch
        With raw `flux`, `labels`, `wavelength` and `label_names`.
    searches : dict of str to dict
        As `search_settings` makes it.
    kind, n_folds, max_nodes : str, int, int
        Which spectra, and which of them the generators do not know, see `stellarhml.workflows.folds.choose_folds`.
    snr : float, default=None
        Signal-to-noise ratio of a pixel. None: no noise. The paper's own inference does not see the errors.
    teff_known : float, default=500.0
        The search is bounded to so many K on either side of the true Teff. None: by the grid alone.
    paper_generator : bool, default=False
        Whether the generator is the paper's too, its margins in proportion to the window.
    seed : int, default=0
        Seed of noise, searches and choice of stars. Each star has its own noise and search.
    n_jobs, verbose : int, bool, default=None
        Workers, and progress bars. Results do not depend on them.

    Returns
    -------
    result : BenchmarkResult
        Labels of all stars.

    Raises
    ------
    ValueError
        If the grid has no inner node, or the paper's generator is to do without single nodes.
    """
    if paper_generator and kind == "left-out":
        raise ValueError(
            "The paper's generator interpolates linearly on a full grid, but single nodes are to be left out. Leave "
            "out planes, or take seen nodes."
        )
    names = tuple(grid.label_names)
    folds = choose_folds(grid.labels, names, kind=kind, n_folds=n_folds, max_nodes=max_nodes, seed=seed)
    start = time.perf_counter()
    template = make_generator(grid.wavelength, label_names=names, paper=paper_generator, n_jobs=n_jobs, verbose=verbose)
    if paper_generator:
        share = min(np.ptp(grid.wavelength) / _PAPER_BAND, 1.0)
        margins = {name: share * PAPER_SETTINGS["decomposer"][name] for name in ("line_margin", "loss_margin")}
        template.decomposer.set_params(**margins)
    rows = []
    n_steps = len(searches) * sum(len(test) for _, test in folds)
    with decompose_grid(template, grid.labels, grid.flux) as decomposed:
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
                        rows += [(node, k + 1, name, result) for node, result in zip(nodes, found, strict=True)]
                        bar.update(len(found))
        n_lines = len(generator.decomposer_.line_catalog_)
    inferred = time.perf_counter()
    return BenchmarkResult(
        _tabulate(rows, grid.labels, names, list(searches)), names, n_lines, len(folds), built - start, inferred - built
    )


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
    """What was found for each star of a task, an Inference or a text."""
    regressor, found = None, []
    for node, flux in zip(task.nodes, task.flux, strict=True):
        own = [task.seed, int(node)]
        if regressor is None or task.parameters["search"] == "bayes":  # whose calls are drawn for each star
            state = int(np.random.SeedSequence(own).generate_state(1)[0])
            regressor = BayesianStellarRegressor.from_generator(
                task.generator, bounds=task.bounds, random_state=state, verbose=False, **task.parameters
            )
        observation = Observation(np.asarray(flux, dtype=np.float64), None, False, 1.0)
        if task.snr is not None:
            (observation,) = add_noise(flux[None], snr=task.snr, seed=own)
        if not task.weigh:
            observation = observation._replace(flux_error=None)
        found += infer_observations(regressor, [observation], verbose=False)
    return found


def _tabulate(rows, labels, names, searches):
    """Table of results, sorted by search and node."""
    records = []
    for node, fold, search, found in sorted(rows, key=lambda row: (searches.index(row[2]), row[0])):
        failed = isinstance(found, str)
        status = "failed" if failed else "flagged" if found.note else "ok"
        record = {"node": int(node), "fold": fold, "search": search, "status": status}
        for k, name in enumerate(names):
            value, std = (np.nan, np.nan) if failed else (found.labels[k], found.std[k])
            record |= {f"{name}_true": labels[node, k], f"{name}_inferred": value}
            record |= {f"{name}_error": value - labels[node, k], f"{name}_std": std}
        record |= (
            {"rms": np.nan, "seconds": np.nan, "note": found}
            if failed
            else {
                "rms": found.rms,
                "seconds": found.seconds,
                "note": found.note,
            }
        )
        records.append(record)
    return pd.DataFrame(records)
