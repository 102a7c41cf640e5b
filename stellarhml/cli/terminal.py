"""What the commands share: types of arguments, messages, and files that must be writable before any work is done."""

import argparse
import json
import math
import sys
from pathlib import Path

INTERRUPTED = "interrupted before it was done"


def jobs(text):
    """Convert a number of processes."""
    value = int(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 processes cannot work; give 1 or more, or -1 for one a core")
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


def order_numbers(text):
    """Convert numbers of orders, such as 3-10,15."""
    numbers = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise argparse.ArgumentTypeError(f"{part!r} is neither a number nor a range such as 3-10")
        first, last = int(low), int(high or low)
        if first > last or last > 99_999:
            raise argparse.ArgumentTypeError(f"{part!r} is no range from a lower number to a higher one")
        numbers.extend(range(first, last + 1))
    return numbers


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


def add_search(parser, *, paper=False):
    """Add the arguments that choose the search."""
    group = parser.add_mutually_exclusive_group()
    if paper:
        group.add_argument("--paper", action="store_true", help="the paper's inference: no polish, no free continuum")
    group.add_argument(
        "--search",
        choices=("nodes", "bayes"),
        help="nodes: from the nearest nodes; bayes: the paper's, by Gaussian processes, slower [nodes]",
    )
    return group


def add_format(parser):
    """Add the argument that says what kind of files spectra are."""
    parser.add_argument(
        "--format",
        choices=("hpf", "igrins", "table", "npz", "hdf5", "specutils"),
        help="what kind of file the spectra are [recognised; an npz of IGRINS and specutils must be named]",
    )


def add_grid(parser, *, required):
    """Add the arguments that choose the spectra of a PHOENIX folder."""
    parser.add_argument("--phoenix", metavar="FOLDER", required=required, help="folder of the grid")
    for name, text in (("teff", "K"), ("logg", "dex(cm/s2)"), ("feh", "dex")):
        parser.add_argument(f"--{name}", nargs=2, type=float, metavar=("LO", "HI"), help=f"range to read, {text} [all]")
    parser.add_argument(
        "--wavelength",
        nargs=2,
        type=float,
        metavar=("LO", "HI"),
        help="window, vacuum angstrom [8038 12849]",
    )
    parser.add_argument("--allow-missing", action="store_true", help="go on if nodes of the ranges have no file")


def read_grid(arguments):
    """Load the spectra that the arguments of `add_grid` choose."""
    from stellarhml.grids.phoenix_grid import load_phoenix

    ranges = {name: getattr(arguments, name) for name in ("teff", "logg", "feh", "wavelength")}
    return load_phoenix(
        arguments.phoenix,
        **{name: tuple(limits) for name, limits in ranges.items() if limits is not None},
        missing="report" if arguments.allow_missing else "raise",
        verbose=True,
    )


def require_file(path, option="--out"):
    """Raise, before any work, if a file cannot be written."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, but {option} needs the name of a file in it.")
    require_folder(path.parent, option)


def require_folder(path, option="--out"):
    """Create a folder, or raise an error that names it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path} cannot be made a folder ({error.strerror}). Choose another {option}.") from error


def refuse_input(out, inputs):
    """Raise if a file to write is one of those that are read."""
    for path in filter(None, inputs):
        if out.exists() and Path(path).exists() and out.samefile(path):
            raise ValueError(f"--out {out} would overwrite {path}, which is read. Choose another --out.")


def until_interrupted(results, total):
    """List `total` results; from where Ctrl-C comes, INTERRUPTED in their place, if there is one before."""
    done = []
    try:
        for result in results:
            done.append(result)
    except KeyboardInterrupt:
        if not done:
            raise
    return done + [INTERRUPTED] * (total - len(done))


def one_line(error):
    """Text of an error without line breaks."""
    return " ".join(str(error).split())


def tell(text):
    """Write a line to standard error, above any progress bar."""
    from tqdm.auto import tqdm

    tqdm.write(f"stellarhml: {text}", file=sys.stderr)


def json_text(value):
    """Text of a JSON document; what is not finite, which JSON does not know, becomes null."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _plain(value):
    """A value with nothing in it but what JSON knows."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):  # numbers of NumPy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
