"""The command `stellarhml calibrate`."""

from pathlib import Path

from stellarhml._text import escaped
from stellarhml.cli.reading import add_reading, add_resolving_power, check_tellurics, reading_of
from stellarhml.cli.terminal import (
    DONE,
    SOME_FAILED,
    add_generator,
    add_jobs,
    add_spectra,
    at_least,
    positive,
    refuse_input,
    report,
    report_error,
    require_file,
)

DESCRIPTION = """\
Learn from observed reference stars, such as the Sun, what is wrong with the lines of a generator: their strengths,
wavelengths and widths. Add lines that it lacks. Save the generator with corrected lines.
"""

EPILOG = """\
input:
  SPECTRUM is a spectrum as `stellarhml predict` takes it; see there for formats, media, resolving powers and tellurics.
  --labels takes a table (CSV) of known labels: the column star has the file of a spectrum or its name, the other
  columns have the names of labels; an empty cell is unknown, as are stars without a row. Known labels are fixed. A
  label that is known for no star cannot be calibrated: on the average it stays what it was.
  --lines takes a list of transitions, as `stellarhml tag`, for a generator without species; --lines-medium is the
  medium of its wavelengths. With species, abundances are fitted, and each element gets a zero point of its own.

output, on standard output:
  The number of lines that the stars show, the size of their corrections, and a table of zero points:
  species     element or molecule
  zero point  by which the strengths of its lines are corrected, per atom, in dex
  error       its standard deviation
  stars       number of stars that show it
  --table has a row for each line: its wavelength (vacuum), species, excitation, log gf, equivalent width, number of
  stars, the corrections of its strength (dex), velocity (km/s), width (natural logarithm) and wing (dex) with their
  standard deviations, whether it is absent (less than a tenth of its strength is left), and whether it was added.
  --out is the generator with corrected lines. Files are written whole or not at all.

examples:
  stellarhml calibrate --generator tagged.asdf --labels labels.csv --out calibrated.asdf sun.fits
  stellarhml calibrate --generator g.asdf --lines vald.lin --resolving-power 55000 --out c.asdf --table lines.csv a.fits

exit codes:
  0 done, 1 done without some of the spectra, 2 error, 130 interrupted, 143 ended by SIGTERM
"""


def add_arguments(parser):
    """Add the arguments of the command."""
    parser.add_argument("spectra", nargs="+", metavar="SPECTRUM", help="files of observed reference stars")
    add_generator(parser, required=True)
    parser.add_argument("--labels", metavar="FILE", help="table (CSV) of known labels [all unknown]")
    parser.add_argument("--lines", metavar="FILE", help="list of transitions, for species [those of the generator]")
    parser.add_argument(
        "--lines-medium",
        choices=("vacuum", "air"),
        help="medium of the list's wavelengths [as the file states, else air above 2000 angstrom]",
    )
    add_spectra(parser)
    add_resolving_power(parser)
    add_reading(parser)
    parser.add_argument(
        "--rounds", metavar="N", type=at_least(1), default=3, help="number of fits of each star [%(default)s]"
    )
    parser.add_argument(
        "--grid-microturbulence",
        metavar="KM/S",
        type=positive,
        default=1.0,
        help="microturbulence of the grid's spectra [%(default)s]",
    )
    parser.add_argument(
        "--macroturbulence",
        choices=("radial-tangential", "gaussian"),
        help="fit the macroturbulent velocity of this profile too",
    )
    parser.add_argument(
        "--sun",
        action="store_true",
        help="the spectra are of the Sun (warned of if they seem not to be): its [X/Fe] are 0, and those of other "
        "stars are relative to it",
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write: NAME.asdf or NAME.joblib")
    parser.add_argument("--table", metavar="FILE", help="table to write: NAME.csv, .json, .ecsv or .fits")
    add_jobs(parser, 1)


def run(arguments):
    """Learn the corrections, save the generator, and print a summary."""
    check_tellurics(arguments)
    if arguments.lines_medium is not None and arguments.lines is None:
        raise ValueError("--lines-medium needs --lines FILE, the list of transitions")
    out, table = Path(arguments.out), None if arguments.table is None else Path(arguments.table)
    read = [*arguments.spectra, arguments.generator, arguments.labels, arguments.lines]
    read += [arguments.tellurics, arguments.standard]
    refuse_input(out, read)
    require_file(out)
    if table is not None:
        refuse_input(table, read, "--table")
    from stellarhml.workflows.calibrating import calibrate_files, format_calibration, write_corrections
    from stellarhml.workflows.generators import save_generator
    from stellarhml.workflows.predicting import open_generator
    from stellarhml.workflows.tables import require_suffix
    from stellarhml.workflows.tagging import tag_some_lines

    if table is not None:
        require_suffix(table)
        require_file(table, "--table")
    generator = open_generator(arguments.generator, trust_pickle=arguments.trust_pickle)
    if arguments.lines is not None:
        tag_some_lines(generator, arguments.lines, medium=arguments.lines_medium)
    found = calibrate_files(
        generator,
        arguments.spectra,
        labels=arguments.labels,
        resolving_power=arguments.resolving_power,
        n_rounds=arguments.rounds,
        grid_microturbulence=arguments.grid_microturbulence,
        macroturbulence=arguments.macroturbulence,
        sun=arguments.sun,
        n_jobs=arguments.jobs,
        **reading_of(arguments),
    )
    for path, message in found.failed.items():
        report_error(path, message)
    for path, doubt in found.doubts.items():
        report(f"warning: {escaped(path)}: {doubt}")
    save_generator(found.calibrator.generator_, out)
    if table is not None:
        write_corrections(found.calibrator, table)
    print(format_calibration(found))
    print(f"generator: {out} ({out.stat().st_size / 1e6:.1f} MB)")
    if table is not None:
        print(f"table: {table}")
    return SOME_FAILED if found.failed else DONE
