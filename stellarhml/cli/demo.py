"""The command `stellarhml demo`."""

import time
from pathlib import Path

from stellarhml.cli.terminal import DONE, add_jobs, positive, require_folder, seed

DESCRIPTION = """\
Build a generator on the packaged grid (66 solar-type spectra, 8450-8700 angstrom), add noise to six spectra between
its nodes, infer their labels, and compare them with the truth. Takes under a minute on two cores.
"""

EPILOG = """\
output, in the folder --out:
  stars.csv       for each star and label: truth, value, standard deviation, and difference (value minus truth); seconds
  figure.png      a star, its model and the residuals; the strength of its strongest line over the grid
  generator.asdf  the generator, for `stellarhml predict`
  star_1.fits     the first star with its noise, as an example for `stellarhml predict`
The table is printed too. Standard deviations include the noise and the generator's own error, which is measured on
held-out nodes.

examples:
  stellarhml demo
  stellarhml demo --search bayes --out demo
  stellarhml predict --generator stellarhml-demo/generator.asdf --resolving-power grid stellarhml-demo/star_1.fits
"""


def add_arguments(parser):
    """Add the arguments of the command."""
    parser.add_argument("--out", metavar="DIR", default="stellarhml-demo", help="folder for the files [%(default)s]")
    parser.add_argument(
        "--search",
        choices=("nodes", "bayes"),
        default="nodes",
        help="nodes: start at the nearest grid nodes; bayes: the paper's Gaussian process, slower [%(default)s]",
    )
    parser.add_argument(
        "--snr", metavar="X", type=positive, default=100.0, help="signal-to-noise ratio per pixel [%(default)g]"
    )
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="seed of noise and search [%(default)s]")
    add_jobs(parser, 2)


def run(arguments):
    """Run the demo and print its results."""
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
        search=arguments.search,
        snr=arguments.snr,
        seed=arguments.seed,
        verbose=True,
    )
    print(f"\n{format_truth_table(result.table, result.label_names)}\n")
    for star, message in zip(result.table["star"], result.table["message"], strict=True):
        if message:
            print(f"{star}: {message}")
    print(f"Mean absolute differences: {_means(result)}. No test star is in the training grid (checked).")
    print("Standard deviations (std) include the noise and the generator's own error.")
    print(
        f"Generator of {result.n_lines} lines built in {result.build_seconds:.1f} s; {len(grid.labels_offgrid)} stars "
        f"inferred in {result.infer_seconds:.1f} s with {arguments.jobs} processes; all in "
        f"{time.perf_counter() - start:.1f} s."
    )
    for content, path in result.files.items():
        print(f"{content:>10}: {path}")
    return DONE


def _means(result):
    """Mean absolute differences of a demo as text."""
    last = result.table.iloc[-1]
    units = {"teff": ("Teff", ".1f", " K"), "logg": ("log g", ".3f", " dex"), "feh": ("[Fe/H]", ".3f", " dex")}
    texts = []
    for name in result.label_names:
        text, digits, unit = units.get(name, (name, ".4g", ""))
        texts.append(f"{text} {last[f'{name}_difference']:{digits}}{unit}")
    return ", ".join(texts)
