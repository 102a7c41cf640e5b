"""The command `stellarhml predict`."""

from contextlib import nullcontext
from pathlib import Path

from stellarhml._text import escaped, one_line
from stellarhml.cli.reading import (
    add_effects,
    add_reading,
    add_resolving_power,
    check_tellurics,
    effects_of,
    reading_of,
)
from stellarhml.cli.terminal import (
    DONE,
    ERROR,
    INTERRUPTED,
    NOT_WRITTEN,
    SOME_FAILED,
    TERMINATED,
    Terminated,
    add_generator,
    add_jobs,
    add_spectra,
    positive,
    refuse_input,
    report,
    report_error,
    require_file,
    require_folder,
)

DESCRIPTION = """\
Infer labels, radial velocity and vsini of observed spectra with a generator from `stellarhml build` or `demo`. The
continuum of each order is fitted too.
"""

EPILOG = """\
input:
  SPECTRUM is a spectrum as an archive or a pipeline gives it (--format lists them; recognised by its content), or a
  table of wavelength, flux and, if known, its error, the number of the order and marks of bad pixels: text or CSV (#
  begins a comment), ECSV, a FITS table, npz or Starfish's HDF5. Columns are found by name; without names, two or three
  are wavelength, flux and error. Wavelengths are in angstrom unless the file states a unit. --medium is needed where
  the file does not state air or vacuum, and must not contradict it. Pixels whose flux or error is not finite are
  masked, and marked ones (mask, dq, quality, flags, ... not 0). Fluxes may be in any unit and need not be normalised.
  The spectrum is fitted on its own pixels.

several grids:
  With several --generator, each star is fitted with the one of the highest evidence, judged from quick fits of the same
  pixels: the columns generator_name and generator_margin, its ln evidence over the highest of the others. Below 10 both
  fit, and one is taken for which the star is not at the edge of its grid.
  Generators that do not cover the star are named in its message. A star that none describes has the flag NO_GRID_FITS.

many stars:
  16 stars or more on the same pixels, such as those of a survey, share a table of model spectra, which takes a quarter
  of the time: each process fills it for the labels of its stars. Results are those of a star alone to a few percent of
  a standard deviation, and depend neither on --jobs nor on the other stars. --survey no fits each star alone. The table
  serves up to four labels, without macroturbulence, a second star, spots, veiling, fitted tellurics,
  --resolving-power-error or --wavelength-error; other stars, and files on other pixels, are fitted alone.

macroturbulence:
  --macroturbulence also fits the macroturbulent velocity vmac (0 to 50 km/s) of one of two profiles:
  radial-tangential (half of the surface moves along the radius, half along the surface, each with a Gaussian
  distribution exp(-v^2/vmac^2), integrated over the disc) or gaussian (this distribution along the line of sight). At
  moderate resolving power vmac and vsini are nearly degenerate, and their errors are large.

two stars, spots, veiling:
  --companion looks for the light of a second star: flux_ratio, its light over the first's in the continuum at the
  middle of the band, teff_2, logg_2, rv_2, vsini_2; [Fe/H] is common. --spots looks for a cooler part of the surface:
  teff_spot, and f_spot, the share of the surface. With --components auto they are in a row only where they are more
  likely than one star by 10 in ln evidence, which is in the column log_evidence; 2: always. --veiling fits a
  featureless light over the star's continuum, constant or sloped (change of its logarithm per 1000 angstrom). In all
  of these, lines are taken as those of the grid.

line errors:
  The strengths, velocities and widths of the lines of a grid are not those of a star. With --line-errors auto they are
  taken as uncertain where that is more likely than the grid's own lines: the microturbulence vmic is fitted too, and
  with a generator that has species (stellarhml tag) abundances such as [Si/Fe]. yes: always; no: never.

resolving power:
  Wavelength over the full width at half maximum of the line-spread function. By default the file must state it, as
  those of HPF and IGRINS do. Give grid if the grid was broadened to the resolving power of the spectrograph before the
  generator was built. With --resolving-power-error X, its relative standard deviation, a factor of it is fitted, with a
  prior of 1 +- X: the column resolving_power_factor. In slow rotators it is nearly degenerate with vsini. With
  --resolving-power-scatter X each order N has a factor of its own, resolving_power_factor_N, with a prior of 1 +- X,
  by which that of all orders is multiplied.

wavelengths:
  With --wavelength-error X the wavelengths of each order, as a whole, may be off by X km/s (standard deviation): the
  error of rv includes it, and orders count by their velocities' noise and X together.

tellurics:
  By default the model has no absorption of the Earth's atmosphere. IGRINS files are divided by a standard star already.
  --tellurics takes a transmission: a table or npz of vacuum wavelength and transmission (1 in clear air), or columns
  by species, which are multiplied: their amounts are then those of the table. Pixels below
  --tellurics-limit are masked, or the spectrum is divided by it, for which both need the same resolution. Pixels
  outside its range are masked. --standard divides by an A0V star of the same spectrograph and masks its hydrogen lines.
  Both need wavelengths in the frame of the telescope, as in HPF and IGRINS files, not of the barycenter.
  With --tellurics-mode fit the transmission is part of the model: a table of wavelength and a column for each species
  (H2O, O2, ...) or one for all, which resolves the lines, as of TAPAS, TelFit, Molecfit or SkyCalc. The amount of each
  species and the velocity of the air are fitted with the star. --tellurics-medium states air or vacuum where the file
  does not. Spectra in the frame of the barycenter need --barycentric. --out-spectra writes each spectrum divided by the
  fitted transmission, as the spectrograph saw it: NAME.fits, a table of order, wavelength (vacuum), flux, error and
  mask, which all commands read; pixels with less than --tellurics-limit are masked.

output, a table on standard output and in --out (with units in ECSV and FITS):
  star, status      the file; ok, flagged (see flags and message) or failed
  NAME, NAME_std    label and its standard deviation: all errors together
  rv, vsini, _std   velocities in km/s; with --macroturbulence also vmac
  a_H2O, ..., rv_air  with --tellurics-mode fit: amounts in units of the table, velocity of the air in km/s
  resolving_power_factor, _std  with --resolving-power-error; _N of order N with --resolving-power-scatter
  vmic, [X/Fe], ... of stars whose lines were taken as uncertain; empty for others
  flux_ratio, ...   of stars with a second star, spots or veiling; log_evidence of two components over one
  generator_name, generator_margin  with several generators: the best, and its ln evidence over that of others
  reduced_chi2      reduced chi-square of the fit, if the errors are known
  n_pixels          pixels in use
  n_rejected        pixels rejected as outliers
  rv_telescope, rv_barycenter  rv in both frames, with --barycentric
  rv_frame          frame of rv, as the file states it: telescope, barycenter, heliocenter, star (shifted to rest)
  seconds           computing time of this star
  flags, message    quality flags (a label at the edge of the grid, a poor fit, rejected pixels), or why it failed
  The order of rows is that of the arguments; a file given twice has two rows. Characters of names that cannot be
  printed, and bytes that are not UTF-8, are escaped: \\n, \\udce9.
  With --json, standard output is one JSON document: a list with an object for each file, with null for unknown values
  and the path of its `figure`. Errors and the progress bar go to standard error.

what is kept:
  With --out NAME each star is stored as soon as it is done, in the folder NAME.partial beside it. Whatever ends the
  command (Ctrl-C, SIGTERM, kill -9, a full disk, a power cut), the same command again reads the stars that are done
  and does the rest, to the same numbers. A star is read only if its spectrum, the generator, the settings and the
  version are the same. Stars that failed are tried again. When all are done the table is written and the folder is
  removed. One command at a time may use it. Without --out nothing is stored.
  With --jobs 2 or more, a star whose process is killed (most often since memory ran out) is tried once more, alone,
  and then failed; the others go on.

examples:
  stellarhml predict --generator generator.asdf --figures figures --out stars.csv night1/*.fits
  stellarhml predict --generator generator.asdf --tellurics air.npz --orders 3-10,15 hpf.fits
  stellarhml predict --generator generator.asdf --tellurics atlas.fits --tellurics-mode fit --out-spectra clean hpf.fits
  stellarhml predict --generator cool.asdf --generator hot.asdf --resolving-power 55000 --medium vacuum star.ecsv
  stellarhml predict --generator generator.asdf --standard a0v.fits --json hpf.fits
  stellarhml predict --generator generator.asdf --format igrins star.npz
  stellarhml predict --generator generator.asdf --resolving-power 45000 --medium vacuum --jobs 4 star.ecsv
  stellarhml predict --generator generator.asdf --resolving-power grid --at-rest --medium air --out labels.csv *.txt

exit codes:
  0 all done, 1 some spectra or figures failed, 2 nothing done, or the disk is full: what is done is stored,
  3 the table could not be written to --out and is printed instead, as CSV, 130 interrupted by Ctrl-C, 143 ended by
  SIGTERM: the table has the stars done before
"""

_LINE_ERRORS = _SURVEY = {"auto": "auto", "yes": True, "no": False}
_BYTES_OF_ROW = 1000
"""Room that is needed for a row of the table, in bytes, with a long name and a message."""

_COMPONENTS = {"auto": "auto", "1": 1, "2": 2}


def add_arguments(parser):
    """Add the arguments of the command."""
    parser.add_argument("spectra", nargs="+", metavar="SPECTRUM", help="files of observed spectra")
    add_generator(parser, required=True, several=True)
    add_spectra(parser)
    add_resolving_power(parser)
    parser.add_argument("--at-rest", action="store_true", help="fix the radial velocity and vsini to 0")
    add_effects(parser)
    parser.add_argument(
        "--components",
        choices=tuple(_COMPONENTS),
        default="auto",
        help="with --companion or --spots: two components where the data show them, always one, or always two "
        "[%(default)s]",
    )
    parser.add_argument(
        "--resolving-power-scatter",
        metavar="X",
        type=positive,
        help="relative standard deviation of the resolving power between orders: fit a factor of each order, too",
    )
    parser.add_argument(
        "--wavelength-error",
        metavar="KM/S",
        type=positive,
        help="standard deviation of the wavelengths of an order in km/s: include it in the errors",
    )
    parser.add_argument(
        "--line-errors",
        choices=tuple(_LINE_ERRORS),
        default="auto",
        help="take the lines of the grid as uncertain: where the star needs it, always, or never [%(default)s]",
    )
    parser.add_argument(
        "--survey",
        choices=tuple(_SURVEY),
        default="auto",
        help="share a table of model spectra between stars on the same pixels: for 16 stars or more, always, or never "
        "[%(default)s]",
    )
    add_reading(parser, fit=True)
    parser.add_argument(
        "--out-spectra",
        metavar="DIR",
        help="folder for each spectrum without its tellurics: needs --tellurics-mode fit",
    )
    parser.add_argument("--out", metavar="FILE", help="table to write: NAME.csv, .json, .ecsv or .fits")
    parser.add_argument("--restart", action="store_true", help="compute all stars anew; nothing stored is read")
    parser.add_argument("--figures", metavar="DIR", help="folder for a figure of each fit")
    parser.add_argument("--json", action="store_true", help="print the table as one JSON document")
    add_jobs(parser, 1)


def run(arguments):
    """Infer stars from files and print the table."""
    check_tellurics(arguments)
    out = None if arguments.out is None else Path(arguments.out)
    if arguments.restart and out is None:
        raise ValueError("--restart needs --out FILE: without it nothing is stored that could be read")
    if arguments.figures is not None:
        require_folder(Path(arguments.figures), "--figures")
    if arguments.out_spectra is not None:
        require_folder(Path(arguments.out_spectra), "--out-spectra")
    read = [*arguments.spectra, *arguments.generator, arguments.tellurics, arguments.standard]
    if out is not None:
        refuse_input(out, read)
    if arguments.out_spectra is not None:
        from stellarhml.workflows.predicting import spectrum_paths

        for path in spectrum_paths(arguments.spectra, arguments.out_spectra):
            refuse_input(path, read, "--out-spectra")
            if out is not None and path.resolve() == out.resolve():
                raise ValueError(f"--out and --out-spectra would both write {path}. Choose another --out.")
    from stellarhml.workflows.tables import require_suffix

    if out is not None:
        require_suffix(out)
        require_file(out, n_bytes=_BYTES_OF_ROW * len(arguments.spectra))
    from stellarhml.storage.journal import open_journal

    with nullcontext() if out is None else open_journal(out, restart=arguments.restart) as store:
        try:
            return _predict(arguments, out, store)
        finally:  # whatever ended it
            if store is not None and len(store):
                report(
                    f"{len(store)} stars are kept in {store.folder}: the same command again reads them. Delete the "
                    "folder if it is no longer needed"
                )


def _predict(arguments, out, store):
    """Infer the stars that the store does not have, write and print the table, and return the exit code."""
    from stellarhml.storage.result_store import digest, digest_file
    from stellarhml.workflows.predicting import INTERRUPTED as LEFT
    from stellarhml.workflows.predicting import open_generator, predict_files

    # before it is opened: a file that is replaced in between is not taken for the one that made the rows
    paths = [Path(name) for name in arguments.generator]
    generator_digest = None
    if store is not None and all(path.is_file() for path in paths):
        digests = [digest_file(path) for path in paths]
        generator_digest = digests[0] if len(paths) == 1 else digest(repr(arguments.generator), digests)
    generators = {
        name: open_generator(name, trust_pickle=arguments.trust_pickle) for name in dict.fromkeys(arguments.generator)
    }
    found = predict_files(
        generators if len(paths) > 1 else generators[arguments.generator[0]],
        arguments.spectra,
        resolving_power=arguments.resolving_power,
        at_rest=arguments.at_rest,
        resolving_power_scatter=arguments.resolving_power_scatter,
        wavelength_error=arguments.wavelength_error,
        components=_COMPONENTS[arguments.components],
        line_errors=_LINE_ERRORS[arguments.line_errors],
        survey=_SURVEY[arguments.survey],
        figures=arguments.figures,
        tellurics_medium=arguments.tellurics_medium,
        barycentric=arguments.barycentric,
        out_spectra=arguments.out_spectra,
        store=store,
        generator_digest=generator_digest,
        **effects_of(arguments),
        **reading_of(arguments),
        n_jobs=arguments.jobs,
        verbose=len(arguments.spectra) > 1 or None,
    )
    table = found.table
    failed, left = table["status"] == "failed", table["message"] == LEFT
    for row in table[failed & ~left].itertuples():
        report_error(row.star, row.message)
    for path, problem in found.problems.items():
        report_error(path, f"{path}: {problem}")
    if found.n_read:
        report(f"{found.n_read} of {len(table)} stars were done before and read from {store.folder}")
    if found.n_damaged:
        report(f"warning: {found.n_damaged} stars in {store.folder} were damaged and have been computed again")
    if left.any():
        report(f"interrupted: {(~left).sum()} of {len(left)} spectra were done, the rest is marked in the table")
    written = out is None or _write(table, out)
    if store is not None and written and not failed.any():
        for key in found.keys:
            store.remove(key)
    _print(arguments, found, failed, written)
    if left.any():
        return TERMINATED if isinstance(found.interruption, Terminated) else INTERRUPTED
    if not written:
        return NOT_WRITTEN
    return ERROR if failed.all() else SOME_FAILED if failed.any() or found.problems else DONE


def _write(table, out):
    """Write the table; if that fails for whatever reason, say so and return False."""
    from stellarhml.workflows.tables import write_table

    try:
        write_table(table, out)
    except Exception as error:
        report(f"error: {out} could not be written ({one_line(error)}). The table is on standard output")
        return False
    return True


def _print(arguments, found, failed, written):
    """Print the table: for people, as JSON, or as CSV in place of the file that could not be written."""
    from stellarhml.workflows.tables import csv_text, format_table, json_text

    if arguments.json:
        drawn = {} if arguments.figures is None else {"figure": [path and str(path) for path in found.figures]}
        print(json_text(found.table.assign(**drawn).to_dict("records")))
    elif not written:
        print(csv_text(found.table), end="")
    elif not failed.all():
        print(format_table(found.table))
        for figure in filter(None, found.figures):
            print(f"figure: {escaped(str(figure))}")
