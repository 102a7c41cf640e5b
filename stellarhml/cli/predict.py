"""The command `stellarhml predict`: from files of observed spectra to a table."""

import argparse
from pathlib import Path

from stellarhml.cli.terminal import (
    INTERRUPTED,
    add_format,
    add_search,
    jobs,
    json_text,
    one_line,
    order_numbers,
    positive,
    positive_or_none,
    refuse_input,
    require_file,
    require_folder,
    seed,
    tell,
)

_DONE, _SOME_FAILED, _ERROR, _INTERRUPTED = 0, 1, 2, 130
_TABLES = (".csv", ".json", ".ecsv", ".fits")
_OBSERVED_ONLY = ("figures", "format", "orders", "sky", "tellurics", "standard")


def add_arguments(parser):
    """Add the arguments of the command."""
    parser.add_argument("spectra", nargs="+", metavar="SPECTRUM", help="files to read")
    parser.add_argument("--generator", metavar="FILE", required=True, help="file that build or demo wrote")
    parser.add_argument(
        "--medium",
        choices=("vacuum", "air"),
        help="what the wavelengths are measured in; needed unless the format of the file says it",
    )
    parser.add_argument(
        "--resolving-power",
        metavar="R",
        type=_power,
        help="wavelength over full width of the line spread; a number; file: as the format states; or grid: the grid "
        "was made as sharp as the spectra. Without it, the spectra are taken to be at rest, too",
    )
    parser.add_argument("--out", metavar="FILE", help="table to write: NAME.csv, .json, .ecsv or .fits")
    parser.add_argument("--json", action="store_true", help="print the table as one JSON document in place of text")
    add_search(parser, paper=True)
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="of the search [%(default)s]")
    parser.add_argument("--jobs", metavar="N", type=jobs, default=1, help="processes; -1: one a core [%(default)s]")
    observed = parser.add_argument_group("only with --resolving-power")
    observed.add_argument("--figures", metavar="DIR", help="folder for a picture of each fit")
    add_format(observed)
    observed.add_argument(
        "--orders", metavar="LIST", type=order_numbers, help="orders to use, as inspect --orders numbers them: 3-10,15"
    )
    observed.add_argument(
        "--sky",
        metavar="X",
        type=positive_or_none,
        default=argparse.SUPPRESS,
        help="HPF: factor of the sky fibre before it is subtracted; none: the sky is left in [1]",
    )
    observed.add_argument(
        "--tellurics",
        metavar="FILE",
        help="transmission of the atmosphere: a table or npz of vacuum wavelength and transmission",
    )
    observed.add_argument(
        "--tellurics-mode",
        choices=("mask", "divide"),
        help="mask: leave out pixels where the air absorbs; divide: divide by the transmission [mask]",
    )
    observed.add_argument(
        "--tellurics-limit",
        metavar="X",
        type=_share,
        help="transmission below which pixels are masked [mask: 0.95, divide: 0.1]",
    )
    observed.add_argument(
        "--standard", metavar="FILE", help="A0V star seen by the same spectrograph, by which spectra are divided"
    )


def run(arguments):
    """Infer labels of files; one that cannot be read does not stop the others."""
    from stellarhml.storage.saving import load
    from stellarhml.synthesis._spectrum_generator import SpectrumGenerator
    from stellarhml.workflows.predicting import draw_results, write_table
    from stellarhml.workflows.tables import format_spectrum_table

    observed = arguments.resolving_power is not None
    _check(arguments, observed)
    if arguments.out is not None:
        _check_out(arguments)
    generator = load(arguments.generator)
    if not isinstance(generator, SpectrumGenerator):
        raise ValueError(
            f"{arguments.generator} holds a {type(generator).__name__}, but a SpectrumGenerator is needed. Pass a file "
            "that stellarhml build or demo wrote."
        )
    table, names, results = (_observed if observed else _at_rest)(arguments, generator)
    if arguments.out is not None:
        write_table(table, arguments.out)
    failed, left = table["status"] == "failed", table["note"] == INTERRUPTED
    for path, note in zip(table["spectrum"][failed & ~left], table["note"][failed & ~left], strict=True):
        tell(f"error: {note if path in note else f'{path}: {note}'}")
    if left.any():
        tell(f"interrupted: {(~left).sum()} of {len(left)} spectra were done, the rest is marked in the table")
    figures = [] if arguments.figures is None else draw_results(arguments.spectra, results, arguments.figures)
    if arguments.json:
        drawn = {"figure": [None if figure is None else str(figure) for figure in figures]} if figures else {}
        print(json_text(table.assign(**drawn).to_dict("records")))
    elif not failed.all():
        print(format_spectrum_table(table, names))
        for figure in filter(None, figures):
            print(f"figure: {figure}")
    if left.any():
        return _INTERRUPTED
    return _ERROR if failed.all() else _SOME_FAILED if failed.any() else _DONE


def _check_out(arguments):
    """Raise if the table cannot be written, is no table, or is a file that is read."""
    out = Path(arguments.out)
    require_file(out)
    if out.suffix.lower() not in _TABLES:
        raise ValueError(f"--out {out} is to be a table, but its name ends in none of {', '.join(_TABLES)}. Rename it.")
    refuse_input(out, [*arguments.spectra, arguments.generator, arguments.tellurics, arguments.standard])


def _check(arguments, observed):
    """Raise if arguments do not go together, before any work."""
    if not observed:
        given = [name for name in _OBSERVED_ONLY if getattr(arguments, name, None) is not None]
        given += ["sky"] if "sky" in arguments and arguments.sky is None else []
        if given:
            raise ValueError(f"--{given[0]} needs --resolving-power: without it, spectra are tables at rest")
        if arguments.medium is None:
            raise ValueError("--medium is needed: say whether the wavelengths are measured in vacuum or air")
    if observed and (arguments.paper or arguments.search == "bayes"):
        raise ValueError(
            "--resolving-power fits velocities, rotation and continua, which neither --paper nor --search bayes do; "
            "leave it out for spectra at rest, or leave them out"
        )
    for name in ("tellurics_mode", "tellurics_limit"):
        if arguments.tellurics is None and getattr(arguments, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} needs --tellurics FILE, the transmission of the atmosphere")
    if arguments.standard is not None and arguments.tellurics_mode == "divide":
        raise ValueError(
            "--standard and --tellurics-mode divide would both take the atmosphere out; leave out one, or mask what "
            "the standard leaves over with --tellurics-mode mask"
        )
    if arguments.figures is not None:
        require_folder(Path(arguments.figures), "--figures")


def _observed(arguments, generator):
    """Table, names of the parameters and results of spectra as telescopes deliver them."""
    from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor
    from stellarhml.workflows.predicting import infer_spectra, table_of
    from stellarhml.workflows.preparing import Atmosphere, Reading, prepare_spectra

    reading = Reading(arguments.medium, arguments.format, getattr(arguments, "sky", 1.0))
    atmosphere = Atmosphere.read(
        reading,
        standard=arguments.standard,
        tellurics=arguments.tellurics,
        mode=arguments.tellurics_mode or "mask",
        limit=arguments.tellurics_limit,
    )
    spectra = prepare_spectra(arguments.spectra, reading, numbers=arguments.orders, atmosphere=atmosphere)
    names = (*generator.label_names_, "rv", "vsini")
    results = spectra
    if not all(isinstance(spectrum, str) for spectrum in spectra):
        regressor = BayesianStellarRegressor.from_generator(generator, verbose=False)
        results = infer_spectra(
            regressor,
            spectra,
            resolving_power=arguments.resolving_power,
            n_jobs=arguments.jobs,
            verbose=len(spectra) > 1 or None,
        )
    return table_of(arguments.spectra, names, results), names, results


def _at_rest(arguments, generator):
    """Table, names of the labels and results of spectra at rest."""
    from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor
    from stellarhml.pipeline import PAPER_SETTINGS
    from stellarhml.workflows.inferring_at_rest import infer_observations
    from stellarhml.workflows.resampling import read_observation
    from stellarhml.workflows.tables import spectrum_table

    results = []
    for path in arguments.spectra:
        try:
            results.append(read_observation(path, generator, medium=arguments.medium))
        except (ValueError, OSError) as error:
            results.append(one_line(error))
    good = [result for result in results if not isinstance(result, str)]
    if good:
        settings = PAPER_SETTINGS["regressor"] if arguments.paper else {"search": arguments.search or "nodes"}
        regressor = BayesianStellarRegressor.from_generator(
            generator, random_state=arguments.seed, verbose=False, **settings
        )
        found = iter(infer_observations(regressor, good, n_jobs=arguments.jobs, verbose=len(good) > 1 or None))
        results = [result if isinstance(result, str) else _pair(result, next(found)) for result in results]
    return spectrum_table(arguments.spectra, generator.label_names_, results), generator.label_names_, results


def _pair(observation, inference):
    """What was found for an observation, with it; or why nothing was."""
    return inference if isinstance(inference, str) else (observation, inference)


def _power(text):
    """Convert a resolving power, or the word file or grid."""
    if text in ("file", "grid"):
        return text
    try:
        return positive(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is neither a positive number nor file nor grid") from error


def _share(text):
    """Convert a share that is more than 0 and at most 1."""
    value = positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is more than 1, the transmission of clear air")
    return value
