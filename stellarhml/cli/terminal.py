"""Types of arguments, messages, and checks of the files to write, which the commands share."""

import argparse
import sys
from pathlib import Path

from stellarhml._text import escaped
from stellarhml.spectra.format_names import FORMATS
from stellarhml.storage.atomic_files import check_writable, final_path

DONE, SOME_FAILED, ERROR, NOT_WRITTEN, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
"""Exit codes."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


def jobs(text):
    """Convert a number of processes."""
    value = int(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 processes cannot work; give 1 or more, or -1 for one per core")
    return value


def positive(text):
    """Convert a positive number."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def positive_or_none(text):
    """Convert a positive number, or the word none."""
    try:
        return None if text.lower() == "none" else positive(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is neither a positive number nor none") from error


def seed(text):
    """Convert the seed of a random generator."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**32 - 1}")
    return value


def at_least(smallest):
    """Make a converter of integers that are not too small."""

    def integer(text):
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"{text} is less than {smallest}")
        return value

    return integer


def add_jobs(parser, default):
    """Add the number of processes."""
    parser.add_argument(
        "--jobs", metavar="N", type=jobs, default=default, help="processes; -1: all cores [%(default)s]"
    )


def add_generator(parser, *, required, several=False):
    """Add the file of a generator; `several` allows more than one, and makes a list."""
    text = "generator, as saved by build or demo" + ("" if required else " [that of the packaged grid]")
    text += "; of several, each star is fitted with the best" * several
    parser.add_argument(
        "--generator", metavar="FILE", required=required, action="append" if several else "store", help=text
    )
    add_trust(parser)


def add_trust(parser):
    """Add the permission to open a pickle."""
    parser.add_argument(
        "--trust-pickle", action="store_true", help="open a generator that is a pickle (joblib), which can run any code"
    )


def add_spectra(parser):
    """Add the medium and the format of spectra."""
    parser.add_argument(
        "--medium", choices=("vacuum", "air"), help="medium of the wavelengths, if the file does not state it"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        metavar="NAME",
        help=f"format of the spectra: {', '.join(FORMATS)} [recognised; needed for an npz of IGRINS, tables of Gaia, "
        "and specutils]",
    )


def add_grid(parser, *, required):
    """Add the arguments that choose spectra from a PHOENIX folder."""
    parser.add_argument("--phoenix", metavar="FOLDER", required=required, help="folder of the grid")
    add_ranges(parser)
    parser.add_argument(
        "--wavelength", nargs=2, type=float, metavar=("LO", "HI"), help="range in vacuum angstrom [8038 12849]"
    )
    parser.add_argument("--allow-missing", action="store_true", help="go on if grid nodes have no file")


def add_ranges(parser):
    """Add the arguments that select nodes by ranges of their labels."""
    for name, text in (("teff", "Teff in K"), ("logg", "log g in dex(cm/s2)"), ("feh", "[Fe/H] in dex")):
        parser.add_argument(f"--{name}", nargs=2, type=float, metavar=("LO", "HI"), help=f"range of {text} [all]")
    parser.add_argument(
        "--alpha", nargs="+", type=float, metavar="A", help="[alpha/Fe] in dex: one value, or a range, then a label [0]"
    )


def ranges_of(arguments):
    """Selections of labels by name: a range is a tuple, one value of alpha a number."""
    given = {name: getattr(arguments, name) for name in ("teff", "logg", "feh", "alpha")}
    chosen = {name: tuple(limits) for name, limits in given.items() if limits is not None}
    if len(chosen.get("alpha", ())) == 1:
        chosen["alpha"] = chosen["alpha"][0]
    return chosen


def read_grid(arguments, cache=None):
    """Load the spectra that the arguments of `add_grid` choose; with a `cache` they stay in that file."""
    from stellarhml.grids.phoenix_grid import load_phoenix

    chosen = ranges_of(arguments)
    if arguments.wavelength is not None:
        chosen["wavelength"] = tuple(arguments.wavelength)
    return load_phoenix(
        arguments.phoenix,
        **chosen,
        missing="report" if arguments.allow_missing else "raise",
        cache=cache,
        verbose=True,
    )


def require_file(path, option="--out", n_bytes=4096):
    """Raise, before any work, if a file of `n_bytes` cannot be written."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, but {option} needs the name of a file in it.")
    require_folder(final_path(path).parent, option)
    try:
        check_writable(path, n_bytes)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror}). Make room, choose another {option}, or see the permissions "
            "of its folder."
        ) from error


def require_folder(path, option="--out"):
    """Create a folder, or raise an error that names it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path} cannot be created ({error.strerror}). Choose another {option}.") from error


def refuse_input(out, inputs, option="--out"):
    """Raise if a file to write is one of those that are read, or would replace one in a folder that is read."""
    for path in map(Path, filter(None, inputs)):
        inside = path.is_dir() and path.resolve() in out.resolve().parents
        if out.exists() and (inside or (path.exists() and out.samefile(path))):
            read = f"a file of {path}" if inside else path
            raise ValueError(f"{option} {out} would overwrite {read}, which is read. Choose another {option}.")


def report(text):
    """Write a line to standard error, above any progress bar."""
    from tqdm.auto import tqdm

    tqdm.write(f"stellarhml: {escaped(text)}", file=sys.stderr)


def report_error(path, text):
    """Write the error of a file to standard error, with the name of the file."""
    report(f"error: {text if str(path) in text else f'{path}: {text}'}")
