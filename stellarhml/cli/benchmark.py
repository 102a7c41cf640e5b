"""The command `stellarhml benchmark`."""

import argparse
from pathlib import Path

from stellarhml import __version__
from stellarhml.cli.terminal import (
    DONE,
    ERROR,
    SOME_FAILED,
    add_grid,
    add_jobs,
    at_least,
    positive_or_none,
    read_grid,
    refuse_input,
    report,
    require_file,
    seed,
)

_SEARCHES = ("nodes", "bayes")
_KINDS = {
    "left-out": "inner nodes that are left out",
    "planes": "nodes of Teff planes that are left out",
    "seen": "seen",
}

DESCRIPTION = """\
The experiment of the paper, as a cross-validation on any grid: infer the labels of the grid's own spectra, and compare
them with the truth. By default the generators are trained without the nodes that are inferred.
"""

EPILOG = """\
stars:
  left-out  inner nodes. Those of one fold are held out together, and no two of them are neighbours along a label; the
            generator is trained on all others. The lines are found once, in all spectra; everything that is
            interpolated, and the generator's error, is learnt without the fold. The steps of the grid are doubled
            around a star, so that differences are larger than for a star between the nodes of the full grid. A label
            with two values has no inner value: stars then lie at an edge of the grid, which bounds the search and
            lowers the differences.
  planes    the same, with all nodes of every N-th inner value of Teff held out together (N: --folds).
  seen      as in the paper: all nodes, inferred with a generator that was trained on them.

search:
  By default Teff is known to 500 K, as in the paper. nodes: start at the nearest grid nodes. bayes: 30 random and 20
  guided calls, then the same polish; with --paper its best call is the result, called "paper" in the tables.
  --calls 120 --initial 100 is the published version. Without noise all pixels have equal weights; with --snr they are
  weighted by their errors, except in the paper's inference. --paper-generator needs a full grid: use it with seen nodes
  or planes. The paper's margins of 30 and 60 angstrom shrink with the window.

output:
  Mean, median and standard deviation of the absolute differences below and above 7000 K, with those of the paper for
  its own run (seen, no noise, Teff known to 500 K, 8038-12849 angstrom); seconds are those of one star.
  --out     a row for each star and search: truth, value, standard deviation and difference of each label, residual RMS,
            reduced chi-square, seconds; status (ok, flagged or failed), flags and message
  --json    the settings and the summary
  --figure  the differences of each label against Teff

examples:
  stellarhml benchmark --search nodes --figure errors.png
  stellarhml benchmark --nodes seen --search bayes --paper --max-nodes 20 --out stars.csv --json errors.json
  stellarhml benchmark --phoenix PHOENIX/ --teff 4000 6000 --wavelength 8450 8700 --max-nodes 50 --snr 100 --jobs 4

exit codes:
  0 all done, 1 some stars failed, 2 nothing done
"""


def add_arguments(parser):
    """Add the arguments of the command to its parser."""
    grid = parser.add_argument_group("grid (without --phoenix: the packaged grid)")
    add_grid(grid, required=False)
    stars = parser.add_argument_group("stars")
    stars.add_argument(
        "--nodes",
        choices=tuple(_KINDS),
        default="left-out",
        help="left-out: inner nodes, held out of the training; planes: all nodes of a Teff held out; seen: training "
        "nodes, as in the paper [%(default)s]",
    )
    stars.add_argument("--folds", metavar="N", type=at_least(2), default=5, help="number of folds [%(default)s]")
    stars.add_argument("--max-nodes", metavar="N", type=at_least(1), help="largest number of stars [all]")
    stars.add_argument("--snr", metavar="X", type=positive_or_none, help="signal-to-noise ratio per pixel [no noise]")
    stars.add_argument("--seed", metavar="N", type=seed, default=0, help="seed of all random choices [%(default)s]")
    search = parser.add_argument_group("method")
    search.add_argument(
        "--search",
        action="extend",
        type=_searches,
        metavar="NAME[,NAME]",
        help="nodes: start at the nearest grid nodes; bayes: Gaussian process [nodes,bayes]",
    )
    search.add_argument(
        "--teff-known",
        metavar="W",
        type=positive_or_none,
        default=500.0,
        help="search Teff within W kelvin of the truth; none: in the whole grid [%(default)g]",
    )
    search.add_argument("--paper", action="store_true", help="bayes as in the paper: no polish, no free continuum")
    search.add_argument("--calls", metavar="N", type=at_least(2), help="calls of bayes in all [50]")
    search.add_argument("--initial", metavar="N", type=at_least(1), help="random calls of bayes [30]")
    search.add_argument(
        "--paper-generator",
        action="store_true",
        help="the paper's generator, with margins in proportion to the window",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="FILE", help="table of all stars to write: NAME.csv, .json, .ecsv or .fits")
    output.add_argument("--json", metavar="FILE", help="JSON file to write: settings and summary")
    output.add_argument("--figure", metavar="FILE", help="figure to write, such as errors.png")
    add_jobs(output, 1)


def run(arguments):
    """Run the benchmark and print its summary."""
    from stellarhml.datasets._mini_grid import load_mini_grid
    from stellarhml.workflows.benchmark_tables import edge_note, format_summary, summarise
    from stellarhml.workflows.benchmarking import run_benchmark, search_settings
    from stellarhml.workflows.tables import require_suffix

    files = {name: getattr(arguments, name) for name in ("out", "json", "figure")}
    files = {name: Path(path) for name, path in files.items() if path is not None}
    for name, path in files.items():
        require_file(path, f"--{name}")
        refuse_input(path, [arguments.phoenix], f"--{name}")
    if "out" in files:
        require_suffix(files["out"])
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
        report(f"error: node {row.star}, {row.search}: {row.message}")
    if len(failed) == len(table):
        return ERROR
    summary = summarise(table, result.label_names)
    print(_describe(arguments, grid, result))
    print(f"\n{format_summary(summary, result.label_names)}\n")
    n_flagged = int((table["status"] == "flagged").sum())
    print(f"Differences are absolute. {n_flagged} of {len(table)} results are flagged, {len(failed)} failed.")
    if note := edge_note(table, grid.labels, result.label_names):
        print(note)
    _write(files, arguments, searches, grid, result, summary)
    for name, path in files.items():
        print(f"{ {'out': 'table'}.get(name, name):>7}: {path}")
    return SOME_FAILED if len(failed) else DONE


def _searches(text):
    names = text.split(",")
    for name in names:
        if name not in _SEARCHES:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(_SEARCHES)}")
    return names


def _require_no_ranges(arguments):
    """Raise if a range is given without a folder of PHOENIX spectra."""
    given = [name for name in ("teff", "logg", "feh", "alpha", "wavelength") if getattr(arguments, name) is not None]
    given += ["allow-missing"] if arguments.allow_missing else []
    if given:
        raise ValueError(
            f"--{given[0]} chooses from a folder of PHOENIX spectra, but none is given. Give --phoenix, or leave "
            f"--{given[0]} out for the packaged grid."
        )


def _require_picture(path):
    """Raise, before any work, if matplotlib cannot write such a file."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        raise ValueError(f"--figure is {path}, but its ending must be one of {', '.join(known)}.")


def _describe(arguments, grid, result):
    """Grid, stars and times as text."""
    wavelength, n_stars = grid.wavelength, result.table["star"].nunique()
    noise = "without noise" if arguments.snr is None else f"S/N {arguments.snr:g} per pixel"
    known = "Teff free" if arguments.teff_known is None else f"Teff known to {arguments.teff_known:g} K"
    known_nodes = "all nodes" if arguments.nodes == "seen" else f"the others, in {result.n_folds} folds"
    return (
        f"Grid: {len(grid.labels)} spectra of {wavelength.size} pixels, {wavelength[0]:.0f}-{wavelength[-1]:.0f} "
        f"angstrom. Stars: {n_stars} nodes ({_KINDS[arguments.nodes]}), {noise}, {known}.\n"
        f"Generators of {result.n_lines} lines from {known_nodes}: lines found in {result.build_seconds:.1f} s, all "
        f"stars inferred in {result.infer_seconds:.1f} s with {arguments.jobs} processes."
    )


def _write(files, arguments, searches, grid, result, summary):
    """Write the table, the JSON file and the figure."""
    from stellarhml.storage.atomic_files import atomic_path
    from stellarhml.workflows.benchmark_tables import as_record, draw_differences
    from stellarhml.workflows.tables import json_text, write_table

    if "out" in files:
        write_table(result.table, files["out"])
    if "json" in files:
        names = ("nodes", "folds", "max_nodes", "snr", "seed", "teff_known", "paper_generator", "phoenix")
        settings = {name: getattr(arguments, name) for name in names} | {"searches": searches}
        record = {"stellarhml": __version__, "settings": settings, **as_record(grid, result, summary)}
        with atomic_path(files["json"]) as temporary:
            temporary.write_text(json_text(record) + "\n")
    if "figure" in files:
        draw_differences(result, files["figure"])
