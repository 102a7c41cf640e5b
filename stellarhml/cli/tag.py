"""The command `stellarhml tag`."""

from pathlib import Path

from stellarhml.cli.terminal import DONE, add_generator, refuse_input, require_file

DESCRIPTION = """\
Give each line of a generator its species (atom, ion or molecule) by a list of transitions, and save the generator.
"""

EPILOG = """\
input:
  --lines takes an extract of VALD (long or short format), a gf file of Kurucz, a list of MOOG or linemake, or CSV with
  the columns species, wavelength, excitation [eV] and log_gf; recognised by its content; it may be gzipped. Take the
  list behind the grid, or a similar one. Wavelengths are in air above 2000 angstrom, the rule of these lists, unless
  the file or --medium says vacuum. --medium must not contradict the file. The generator needs the label teff, in K.

output, on standard output, a table:
  species     the species with the largest share of a line
  lines       number of these lines
  zero point  learnt from the lines of the grid (abundance, ionisation, partition function), in dex; not learnt where no
              line tells it
  A last line has the number of lines that stay untagged: no transition of the list is strong enough there.
  --out is the generator with species, shares, excitations and log gf, which `SpectrumGenerator.line_table`, `stellarhml
  explore` and the figures show. It is written whole or not at all; tags that the generator had are replaced.

examples:
  stellarhml tag --generator generator.asdf --lines vald.lin --out tagged.asdf
  stellarhml tag --generator generator.asdf --lines lines.csv --medium vacuum --out tagged.asdf

exit codes:
  0 done, 2 error, 130 interrupted, 143 ended by SIGTERM
"""


def add_arguments(parser):
    """Add the arguments of the command."""
    add_generator(parser, required=True)
    parser.add_argument("--lines", metavar="FILE", required=True, help="list of transitions")
    parser.add_argument(
        "--medium",
        choices=("vacuum", "air"),
        help="medium of the list's wavelengths [as the file states, else air above 2000 angstrom]",
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write: NAME.asdf or NAME.joblib")


def run(arguments):
    """Tag the lines of a generator, save it, and print the species."""
    out = Path(arguments.out)
    refuse_input(out, [arguments.generator, arguments.lines])
    require_file(out)
    from stellarhml.workflows.predicting import open_generator
    from stellarhml.workflows.tagging import format_species, tag_generator

    generator = open_generator(arguments.generator, trust_pickle=arguments.trust_pickle)
    found = tag_generator(generator, arguments.lines, out, medium=arguments.medium)
    print(format_species(found.table))
    print(
        f"{found.n_tagged} of {found.n_lines} lines are tagged; {found.n_lines - found.n_tagged} stay untagged.\n"
        f"generator: {out} ({out.stat().st_size / 1e6:.1f} MB)"
    )
    return DONE
