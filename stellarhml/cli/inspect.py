"""The command `stellarhml inspect`."""

from stellarhml._text import one_line
from stellarhml.cli.terminal import DONE, ERROR, SOME_FAILED, add_spectra, add_trust, report_error

_WIDTH = 11  # of the names at the left

DESCRIPTION = """\
Describe files: saved generators and observed spectra, recognised by their contents.
"""

EPILOG = """\
output, on standard output:
  a generator  format and class; ranges of the labels, nodes, band and pixels; lines, the tables that hold them, and how
               many are tagged with species; jumps of the grid; the generator's own error; identity of the training
               grid, size, and versions of the packages that wrote the file. A damaged file is an error. A joblib file
               is a Python pickle, which runs the code of its author when it is opened: it is refused without
               --trust-pickle.
  a spectrum   format, instrument, object, date; band, resolving power that the format states, pixels, masked pixels,
               signal-to-noise ratio, and notes of the reader. With --orders each order too, by its number.
  --json prints one JSON document instead: a list with an object for each file.

examples:
  stellarhml inspect generator.asdf
  stellarhml inspect --trust-pickle generator.joblib
  stellarhml inspect --orders hpf.fits igrins.spec_a0v.fits
  stellarhml inspect --json generator.asdf night1/*.fits

exit codes:
  0 all done, 1 some files failed: neither, damaged, or not trusted, 2 nothing done
"""


def add_arguments(parser):
    """Add the arguments of the command."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="generators and spectra, in any order")
    add_trust(parser)
    add_spectra(parser)
    parser.add_argument("--orders", action="store_true", help="describe each order of a spectrum")
    parser.add_argument("--json", action="store_true", help="print one JSON document in place of text")


def run(arguments):
    """Describe files; one that fails does not stop the others."""
    from stellarhml.workflows.inspecting import inspect_file
    from stellarhml.workflows.tables import json_text

    records, n_failed = [], 0
    settings = {name: getattr(arguments, name) for name in ("medium", "format", "trust_pickle", "orders")}
    for path in arguments.files:
        try:
            record = inspect_file(path, **settings)
        except (ValueError, OSError, ImportError) as error:
            text, n_failed = one_line(error), n_failed + 1
            report_error(path, text)
            record = {"file": str(path), "kind": "failed", "error": text}
        records.append(record)
    if arguments.json:
        print(json_text(records))
    else:
        print("\n\n".join(_text(record) for record in records if record["kind"] != "failed"), end="")
        print("\n" * (n_failed < len(records)), end="")
    return ERROR if n_failed == len(records) else SOME_FAILED if n_failed else DONE


def _text(record):
    """One record as lines of text."""
    rows = _estimator_rows(record) if record["kind"] == "estimator" else _spectrum_rows(record)
    return "\n".join(f"{name:<{_WIDTH}}{text}".rstrip() for name, text in [("file", record["file"]), *rows])


def _estimator_rows(record):
    """Name and text of each line of a saved estimator."""
    pickled = record["format"] == "joblib"
    yield "format", "joblib; a pickle, which runs the code of its author" if pickled else "ASDF; holds no code"
    yield "class", record["class"] if pickled else f"{record['class']} ({record['tag']})"
    if "labels" not in record:
        yield "contents", "no fitted generator"
    else:
        yield from _generator_rows(record)
    yield "grid", record["grid"] or "not stated"
    contents = "" if pickled else f", {record['n_arrays']} arrays; checksums right"
    yield "size", f"{record['n_bytes'] / 1e6:.2f} MB{contents}"
    if record["versions"]:
        yield "saved by", ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)


def _generator_rows(record):
    """Name and text of each line of a generator."""
    for label in record["labels"]:
        unit = f" {label['unit']}" if label["unit"] else ""
        yield label["name"], f"{label['low']:g} to {label['high']:g}{unit}, {_count(label['n_values'], 'value')}"
    low, high = record["wavelength"]
    yield "nodes", str(record["n_nodes"])
    yield "band", f"{low:.2f} to {high:.2f} vacuum angstrom, {record['n_pixels']} pixels"
    own = record["resolving_power"]
    yield "resolution", "that of the grid" if own is None else f"built for a resolving power of {own:g} or less"
    factors, rank = record["n_factors"], record["residual_rank"]
    in_factors = "stored for each node" if factors is None else f"in {_count(factors, 'factor')}"
    yield "lines", f"{record['n_lines']}, {in_factors}"
    yield "tagged", f"{'none' if record['n_tagged'] is None else record['n_tagged']} of {record['n_lines']} lines"
    yield "residual", "none" if rank is None else f"rank {rank}"
    jumps = [f"{name} at {', '.join(f'{value:g}' for value in values)}" for name, values in record["breaks"].items()]
    yield "jumps", "; ".join(jumps) or "none found"
    if record["error"] is None or record["error"]["median"] is None:
        yield "error", "not measured"
    else:
        median, large = record["error"].values()
        yield "error", f"{median:.2g} of the continuum in the median pixel, below {large:.2g} in 95 % of them"


def _spectrum_rows(record):
    """Name and text of each line of a spectrum."""
    yield "format", record["format"]
    for key in ("instrument", "object", "date"):
        yield key, record[key] or "not stated"
    low, high = record["wavelength"]
    medium = {None: "medium not stated: predict needs --medium", "vacuum": "vacuum", "air": "vacuum, given in air"}
    yield "band", f"{low:.2f} to {high:.2f} angstrom ({medium[record['medium']]})"
    yield "frame", record["frame"] or "not stated"
    power = record["resolving_power"]
    yield "R", "not stated" if power is None else f"{power:g}"
    masked = f"{record['n_masked']} masked"
    yield "pixels", f"{record['n_pixels']} in {_count(record['n_orders'], 'order')}, {masked}"
    yield "S/N", _snr_text(record["median_snr"]) + (" per pixel in the median" if record["errors_known"] else "")
    yield "flux unit", record["flux_unit"] or "not stated"
    for number, note in enumerate(record["notes"]):
        yield "" if number else "notes", note
    for order in record.get("orders", ()):
        low, high = order["wavelength"]
        yield (
            f"order {order['order']}",
            f"{low:.2f} to {high:.2f} angstrom, {order['n_pixels']} pixels, {order['n_masked']} masked, S/N "
            f"{_snr_text(order['median_snr'])}",
        )


def _snr_text(value):
    return "unknown" if value is None else f"{value:.3g}"


def _count(n, what):
    return f"{n} {what}{'s' * (n != 1)}"
