"""The command `stellarhml demo`."""

import time
from pathlib import Path

from stellarhml.cli.terminal import DONE, add_jobs, positive, require_folder, seed

DESCRIPTION = """\
Build a generator on the packaged grid (66 solar-type spectra, 8450-8700 angstrom), add noise to six spectra between
its nodes, infer their labels, and compare them with the truth. Then do so for six stars whose physics is not that of
the grid, as with real stars: wrong line strengths, missing lines, other microturbulence and abundances; once with the
lines of the grid as they are, and once with lines taken as uncertain. Takes under a minute on two cores.
"""

EPILOG = """\
output, in the folder --out:
  stars.csv       for each star and label: truth, value, standard deviation, and difference (value minus truth);
                  seconds; the group of the row; and with uncertain lines the same for vmic and abundances
  figure.png      errors of all stars; a part of a spectrum with both models; microturbulence and an abundance
  generator.asdf  the generator, with the species of its lines, for `stellarhml predict`
  star_1.fits     the first star with its noise, as an example for `stellarhml predict`
  star_7.fits     a star of other physics, likewise
The table is printed too. Standard deviations include the noise and the generator's own error, which is measured on
held-out nodes, and that of uncertain lines.

examples:
  stellarhml demo
  stellarhml demo --search bayes --out demo
  stellarhml predict --generator stellarhml-demo/generator.asdf --resolving-power grid stellarhml-demo/star_1.fits
  stellarhml predict --generator stellarhml-demo/generator.asdf --resolving-power grid stellarhml-demo/star_7.fits
"""


def add_arguments(parser):
    """Add the arguments of the command."""
    parser.add_argument("--out", metavar="DIR", default="stellarhml-demo", help="folder for the files [%(default)s]")
    parser.add_argument(
        "--search",
        choices=("nodes", "bayes"),
        default="nodes",
        help="nodes: start at the nearest grid nodes; bayes: the paper's Gaussian process, slower, for stars of the "
        "grid's physics only [%(default)s]",
    )
    parser.add_argument(
        "--snr", metavar="X", type=positive, default=100.0, help="signal-to-noise ratio per pixel [%(default)g]"
    )
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="seed of noise and search [%(default)s]")
    add_jobs(parser, 2)


def run(arguments):
    """Run the demo and print its results."""
    from stellarhml.datasets._mini_grid import load_mini_grid
    from stellarhml.workflows.demo import AFTER, run_demo
    from stellarhml.workflows.tables import format_truth_table

    start = time.perf_counter()
    require_folder(Path(arguments.out))
    grid = load_mini_grid()
    print(
        f"Training grid: {len(grid.labels)} spectra of {grid.wavelength.size} pixels, {grid.wavelength[0]:.0f}-"
        f"{grid.wavelength[-1]:.0f} angstrom. Test: {len(grid.labels_offgrid)} spectra between the nodes, and "
        f"{len(grid.labels_other)} of other physics, S/N {arguments.snr:g} per pixel.",
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
    names = result.label_names
    groups = dict(list(result.table.groupby("group", sort=False)))
    for group, rows in groups.items():
        print(f"\n{group[0].upper()}{group[1:]}\n{format_truth_table(rows, names)}")
        for star, message in zip(rows["star"], rows["message"], strict=True):
            if message:
                print(f"{star}: {message}")
    of_lines = [name for name in ("vmic", "[Ti/Fe]") if name in groups[AFTER]]
    if of_lines:
        print(f"\nMicroturbulence and titanium of these\n{format_truth_table(groups[AFTER], of_lines)}")
    print("\nMean absolute differences")
    for group, rows in groups.items():
        print(f"  {group}: {_means(rows.iloc[-1], names)}")
    print("No test star is in the training grid (checked).")
    print("Standard deviations (std) include the noise, the generator's own error, and that of uncertain lines.")
    print(
        f"Generator of {result.n_lines} lines built in {result.build_seconds:.1f} s; stars of the grid's physics "
        f"inferred in {result.infer_seconds:.1f} s, of other physics, twice, in {result.other_seconds:.1f} s with "
        f"{arguments.jobs} processes; all in {time.perf_counter() - start:.1f} s."
    )
    for content, path in result.files.items():
        print(f"{content:>10}: {path}")
    return DONE


def _means(row, names):
    """Mean absolute differences of labels as text."""
    units = {"teff": ("Teff", ".1f", " K"), "logg": ("log g", ".3f", " dex"), "feh": ("[Fe/H]", ".3f", " dex")}
    texts = []
    for name in names:
        text, digits, unit = units.get(name, (name, ".4g", ""))
        texts.append(f"{text} {row[f'{name}_difference']:{digits}}{unit}")
    return ", ".join(texts)
