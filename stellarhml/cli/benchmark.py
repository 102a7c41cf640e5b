"""`stellarhml benchmark`: its arguments, and what it prints and writes. Nothing heavy is imported before it runs."""

import argparse
import json
from pathlib import Path

from stellarhml import __version__
from stellarhml.cli.terminal import (
    add_grid,
    at_least,
    jobs,
    positive_or_none,
    read_grid,
    require_file,
    seed,
    tell,
)

_DONE, _SOME_FAILED, _ERROR = 0, 1, 2
_SEARCHES = ("nodes", "bayes")
_KINDS = {
    "left-out": "inner nodes that are left out",
    "planes": "nodes of Teff planes that are left out",
    "seen": "seen",
}


def add_arguments(parser):
    """Add the arguments of the command to its parser."""
    grid = parser.add_argument_group("grid, the packaged one without --phoenix")
    add_grid(grid, required=False)
    stars = parser.add_argument_group("stars")
    stars.add_argument(
        "--nodes",
        choices=tuple(_KINDS),
        default="left-out",
        help="left-out: inner nodes that the generator does not know; planes: of all nodes of a Teff; seen: its own "
        "training nodes, as in the paper [%(default)s]",
    )
    stars.add_argument("--folds", metavar="N", type=at_least(2), default=5, help="generators made [%(default)s]")
    stars.add_argument("--max-nodes", metavar="N", type=at_least(1), help="largest number of stars [all]")
    stars.add_argument("--snr", metavar="X", type=positive_or_none, help="signal-to-noise ratio of a pixel [none]")
    stars.add_argument("--seed", metavar="N", type=seed, default=0, help="of stars, noise and search [%(default)s]")
    search = parser.add_argument_group("method")
    search.add_argument(
        "--search",
        action="extend",
        type=_searches,
        metavar="NAME[,NAME]",
        help="nodes: from the nearest nodes; bayes: by Gaussian processes [nodes,bayes]",
    )
    search.add_argument(
        "--teff-known",
        metavar="W",
        type=positive_or_none,
        default=500.0,
        help="Teff is known to W kelvin on either side; none: it is free [%(default)g]",
    )
    search.add_argument(
        "--paper", action="store_true", help="bayes is the paper's own inference: no polish, no free continuum"
    )
    search.add_argument("--calls", metavar="N", type=at_least(2), help="all calls of bayes [50]")
    search.add_argument("--initial", metavar="N", type=at_least(1), help="random calls of bayes, among them [30]")
    search.add_argument(
        "--paper-generator",
        action="store_true",
        help="the generator is the paper's, its margins in proportion to the window",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="FILE", help="CSV file to write all stars to")
    output.add_argument("--json", metavar="FILE", help="JSON file to write settings and errors to")
    output.add_argument("--figure", metavar="FILE", help="picture to write, such as errors.png")
    output.add_argument("--jobs", metavar="N", type=jobs, default=1, help="processes; -1: one a core [%(default)s]")


def run(arguments):
    """Run the command.

    Parameters
    ----------
    arguments : Namespace
        What was parsed.

    Returns
    -------
    code : int
        Exit code.
    """
    from stellarhml.datasets._mini_grid import load_mini_grid
    from stellarhml.workflows.benchmark_tables import edge_note, format_summary, summarise
    from stellarhml.workflows.benchmarking import run_benchmark, search_settings

    files = {name: getattr(arguments, name) for name in ("out", "json", "figure")}
    files = {name: Path(path) for name, path in files.items() if path is not None}
    for name, path in files.items():
        require_file(path, f"--{name}")
    if "figure" in files:
        _require_picture(files["figure"])
    searches = search_settings(
        arguments.search or _SEARCHES,
        paper=arguments.paper,
        n_calls=arguments.calls,
        n_initial_points=arguments.initial,
    )
    if arguments.phoenix is None:
        _require_no_ranges(arguments)
        grid = load_mini_grid()
    else:
        grid = read_grid(arguments)
    result = run_benchmark(
        grid,
        searches,
        kind=arguments.nodes,
        n_folds=arguments.folds,
        max_nodes=arguments.max_nodes,
        snr=arguments.snr,
        teff_known=arguments.teff_known,
        paper_generator=arguments.paper_generator,
        seed=arguments.seed,
        n_jobs=arguments.jobs,
        verbose=True,
    )
    table = result.table
    failed = table[table["status"] == "failed"]
    for row in failed.itertuples():
        tell(f"error: node {row.node}, {row.search}: {row.note}")
    if len(failed) == len(table):
        return _ERROR
    summary = summarise(table, result.label_names)
    print(_describe(arguments, grid, result))
    print(f"\n{format_summary(summary, result.label_names)}\n")
    n_flagged = int((table["status"] == "flagged").sum())
    print(f"Errors are absolute. {n_flagged} of {len(table)} results are flagged, {len(failed)} failed.")
    if note := edge_note(table, grid.labels, result.label_names):
        print(note)
    _write(files, arguments, searches, grid, result, summary)
    for name, path in files.items():
        print(f"{ {'out': 'table'}.get(name, name):>7}: {path}")
    return _SOME_FAILED if len(failed) else _DONE


def _searches(text):
    names = text.split(",")
    for name in names:
        if name not in _SEARCHES:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(_SEARCHES)}")
    return names


def _require_no_ranges(arguments):
    """Raise if spectra are chosen from a folder that is not given."""
    given = [name for name in ("teff", "logg", "feh", "wavelength") if getattr(arguments, name) is not None]
    given += ["allow-missing"] if arguments.allow_missing else []
    if given:
        raise ValueError(
            f"--{given[0]} chooses from a folder of PHOENIX, but there is none. Give --phoenix, or leave it out to "
            "take the packaged grid."
        )


def _require_picture(path):
    """Raise, before any work, if matplotlib cannot write such a file."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        raise ValueError(f"--figure is {path}, but its ending must be one of {', '.join(known)}.")


def _describe(arguments, grid, result):
    """What was done, as text."""
    wavelength, n_stars = grid.wavelength, result.table["node"].nunique()
    noise = "without noise" if arguments.snr is None else f"S/N {arguments.snr:g} per pixel"
    known = "Teff free" if arguments.teff_known is None else f"Teff known to {arguments.teff_known:g} K"
    made = "all nodes" if arguments.nodes == "seen" else f"the others, in {result.n_folds} folds"
    return (
        f"Grid: {len(grid.labels)} spectra of {wavelength.size} pixels, {wavelength[0]:.0f}-{wavelength[-1]:.0f} "
        f"angstrom. Stars: {n_stars} nodes ({_KINDS[arguments.nodes]}), {noise}, {known}.\n"
        f"Generators of {result.n_lines} lines from {made}: lines found in {result.build_seconds:.1f} s, all stars "
        f"inferred in {result.infer_seconds:.1f} s with {arguments.jobs} processes."
    )


def _write(files, arguments, searches, grid, result, summary):
    """Write the files that were asked for."""
    from stellarhml.storage.atomic_files import atomic_path
    from stellarhml.workflows.benchmark_tables import as_record

    if "out" in files:
        with atomic_path(files["out"]) as temporary:
            result.table.to_csv(temporary, index=False)
    if "json" in files:
        names = ("nodes", "folds", "max_nodes", "snr", "seed", "teff_known", "paper_generator", "phoenix")
        settings = {name: getattr(arguments, name) for name in names} | {"searches": searches}
        record = {"stellarhml": __version__, "settings": settings, **as_record(grid, result, summary)}
        with atomic_path(files["json"]) as temporary:
            temporary.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    if "figure" in files:
        from matplotlib.figure import Figure

        from stellarhml.plotting._inference_error_display import InferenceErrorDisplay

        figure = Figure(figsize=(8, 2.4 * len(result.label_names) + 0.8), layout="constrained")
        InferenceErrorDisplay.from_frame(result.table, ax=figure)
        with atomic_path(files["figure"]) as temporary:
            figure.savefig(temporary, dpi=150, format=files["figure"].suffix[1:].lower())
