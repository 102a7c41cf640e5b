"""The command `stellarhml`: the demo, building a generator, inferring labels from files, and what a file is.

Nothing heavy is imported before the arguments are known to be right.
"""

import argparse
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

from stellarhml import __version__
from stellarhml.cli import benchmark as benchmark_command
from stellarhml.cli import explore as explore_command
from stellarhml.cli import help_text as manual
from stellarhml.cli import inspect as inspect_command
from stellarhml.cli import predict as predict_command
from stellarhml.cli.terminal import (
    add_grid,
    add_search,
    jobs,
    one_line,
    positive,
    read_grid,
    require_file,
    require_folder,
    seed,
    tell,
)

_DONE, _ERROR, _INTERRUPTED = 0, 2, 130


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message):
        """Print one line and exit with 2."""
        self.exit(_ERROR, f"stellarhml: error: {message}. See {self.prog} --help.\n")


def main(argv=None):
    """Run the command.

    Parameters
    ----------
    argv : list of str, default=None
        Arguments. None takes those of the process.

    Returns
    -------
    code : int
        Exit code.
    """
    arguments = _parser().parse_args(argv)
    with _one_line_warnings():
        try:
            return arguments.run(arguments)
        except KeyboardInterrupt:
            tell("interrupted")
            return _INTERRUPTED
        # what users can cause; anything else is a bug and keeps its traceback
        except (ValueError, OSError, ImportError, MemoryError) as error:
            tell(f"error: {one_line(error) or type(error).__name__}")
            return _ERROR


def _parser():
    """All arguments of the command."""
    parser = _Parser(prog="stellarhml", description=manual.MAIN, epilog=manual.MAIN_END)
    parser.add_argument("--version", action="version", version=f"stellarhml {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo", help="the whole method on packaged data", description=manual.DEMO, epilog=manual.DEMO_END
    )
    demo.set_defaults(run=_demo)
    demo.add_argument("--out", metavar="DIR", default="stellarhml-demo", help="folder for the files [%(default)s]")
    demo.add_argument("--jobs", metavar="N", type=jobs, default=2, help="processes; -1: one a core [%(default)s]")
    add_search(demo)
    demo.add_argument(
        "--snr", metavar="X", type=positive, default=100.0, help="signal-to-noise ratio of a pixel [%(default)g]"
    )
    demo.add_argument("--seed", metavar="N", type=seed, default=0, help="of noise and search [%(default)s]")

    build = commands.add_parser(
        "build", help="a generator from a folder of PHOENIX spectra", description=manual.BUILD, epilog=manual.BUILD_END
    )
    build.set_defaults(run=_build)
    add_grid(build, required=True)
    build.add_argument("--out", metavar="FILE", required=True, help="file to write: NAME.shml or NAME.joblib")
    build.add_argument("--prominence", metavar="X", type=positive, help="of the weakest line to find [0.005]")
    build.add_argument("--paper", action="store_true", help="the paper's settings in place of the defaults")
    build.add_argument("--jobs", metavar="N", type=jobs, default=1, help="processes; -1: one a core [%(default)s]")

    predict = commands.add_parser(
        "predict", help="labels of observed spectra", description=manual.PREDICT, epilog=manual.PREDICT_END
    )
    predict.set_defaults(run=predict_command.run)
    predict_command.add_arguments(predict)

    benchmark = commands.add_parser(
        "benchmark",
        help="the paper's experiment on any grid",
        description=manual.BENCHMARK,
        epilog=manual.BENCHMARK_END,
    )
    benchmark.set_defaults(run=benchmark_command.run)
    benchmark_command.add_arguments(benchmark)

    explore = commands.add_parser(
        "explore",
        help="a page in the browser: see the lines move",
        description=manual.EXPLORE,
        epilog=manual.EXPLORE_END,
    )
    explore.set_defaults(run=explore_command.run)
    explore_command.add_arguments(explore)

    inspect = commands.add_parser(
        "inspect",
        help="what is in a generator, or in a spectrum",
        description=manual.INSPECT,
        epilog=manual.INSPECT_END,
    )
    inspect.set_defaults(run=inspect_command.run)
    inspect_command.add_arguments(inspect)
    return parser


def _demo(arguments):
    """Run the demo and tell what came out."""
    from stellarhml.datasets._mini_grid import load_mini_grid
    from stellarhml.workflows.demo import run_demo
    from stellarhml.workflows.tables import format_truth_table

    start = time.perf_counter()
    require_folder(Path(arguments.out))
    grid = load_mini_grid()
    print(
        f"Training grid: {len(grid.labels)} spectra of {grid.wavelength.size} pixels, {grid.wavelength[0]:.0f}-"
        f"{grid.wavelength[-1]:.0f} angstrom. Test: {len(grid.labels_offgrid)} spectra between the nodes, S/N "
        f"{arguments.snr:g} per pixel.",
        flush=True,
    )
    result = run_demo(
        grid,
        arguments.out,
        n_jobs=arguments.jobs,
        search=arguments.search or "nodes",
        snr=arguments.snr,
        seed=arguments.seed,
        verbose=True,
    )
    print(f"\n{format_truth_table(result.table, result.label_names)}\n")
    for star, note in zip(result.table["star"], result.table["note"], strict=True):
        if note:
            print(f"{star}: {note}")
    print(f"Mean absolute errors: {_mean_errors(result)}. Checked: no test star is in the training grid.")
    print("Standard deviations (std) count the noise and what held-out nodes tell of the generator's error.")
    print(
        f"Generator of {result.n_lines} lines built in {result.build_seconds:.1f} s; {len(grid.labels_offgrid)} stars "
        f"inferred in {result.infer_seconds:.1f} s with {arguments.jobs} processes; all in "
        f"{time.perf_counter() - start:.1f} s."
    )
    for what, path in result.files.items():
        print(f"{what:>10}: {path}")
    return _DONE


def _mean_errors(result):
    """Mean absolute errors of a demo as text."""
    last = result.table.iloc[-1]
    units = {"teff": ("Teff", ".1f", " K"), "logg": ("log g", ".3f", " dex"), "feh": ("[Fe/H]", ".3f", " dex")}
    texts = []
    for name in result.label_names:
        text, digits, unit = units.get(name, (name, ".4g", ""))
        texts.append(f"{text} {last[f'{name}_error']:{digits}}{unit}")
    return ", ".join(texts)


def _build(arguments):
    """Build a generator and save it."""
    from stellarhml.storage.saving import save
    from stellarhml.workflows.building import make_generator, reproduction_rms

    out = Path(arguments.out)
    require_file(out)
    start = time.perf_counter()
    grid = read_grid(arguments)
    generator = make_generator(
        grid.wavelength,
        label_names=grid.label_names,
        paper=arguments.paper,
        prominence=arguments.prominence,
        n_jobs=arguments.jobs,
        verbose=True,
    )
    generator.fit(grid.labels, grid.flux)
    rms = reproduction_rms(generator, grid.flux, grid.labels)
    save(generator, out)
    print(
        f"{len(grid.labels)} spectra of {grid.wavelength.size} pixels, {grid.wavelength[0]:.2f}-"
        f"{grid.wavelength[-1]:.2f} angstrom: {len(generator.decomposer_.line_catalog_)} lines. RMS at the nodes "
        f"{rms:.5f} of the continuum. {time.perf_counter() - start:.1f} s."
    )
    print(f"generator: {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return _DONE


@contextmanager
def _one_line_warnings():
    """Show warnings as one line each on standard error."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", UserWarning)
            warnings.simplefilter("default", RuntimeWarning)
        warnings.showwarning = lambda message, category, *_: tell(f"warning: {one_line(message)}")
        yield


if __name__ == "__main__":
    sys.exit(main())
