"""The command `stellarhml inspect`: what is in a generator, and what is in a spectrum."""

from stellarhml.cli.terminal import add_format, json_text, one_line, tell

_DONE, _SOME_FAILED, _ERROR = 0, 1, 2
_WIDTH = 11  # of the names at the left


def add_arguments(parser):
    """Add the arguments of the command."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="generators and spectra, in any order")
    parser.add_argument(
        "--open",
        action="store_true",
        help="open joblib files too, which runs the code of their authors: only files that you trust",
    )
    parser.add_argument("--orders", action="store_true", help="tell each order of a spectrum")
    parser.add_argument(
        "--medium",
        choices=("vacuum", "air"),
        help="what the wavelengths of spectra are measured in; air is converted [as the file has them]",
    )
    add_format(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document in place of text")


def run(arguments):
    """Tell what is in files; one that is neither generator nor spectrum does not stop the others."""
    from stellarhml.workflows.inspecting import inspect_file

    records, n_failed = [], 0
    for path in arguments.files:
        try:
            record = inspect_file(
                path,
                medium=arguments.medium,
                format=arguments.format,
                open_pickle=arguments.open,
                orders=arguments.orders,
            )
        except (ValueError, OSError, ImportError) as error:
            text, n_failed = one_line(error), n_failed + 1
            tell(f"error: {text if str(path) in text else f'{path}: {text}'}")
            record = {"file": str(path), "kind": "failed", "error": text}
        records.append(record)
    if arguments.json:
        print(json_text(records))
    else:
        print("\n\n".join(_text(record) for record in records if record["kind"] != "failed"), end="")
        print("\n" * (n_failed < len(records)), end="")
    return _ERROR if n_failed == len(records) else _SOME_FAILED if n_failed else _DONE


def _text(record):
    """One record as lines of text."""
    rows = _estimator_rows(record) if record["kind"] == "estimator" else _spectrum_rows(record)
    return "\n".join(f"{name:<{_WIDTH}}{text}".rstrip() for name, text in [("file", record["file"]), *rows])


def _estimator_rows(record):
    """Name and text of each line of a saved estimator."""
    kind = "a pickle: opening it runs the code of its author" if record["holds_code"] else "holds no code"
    arrays = "" if record["n_arrays"] is None else f", {record['n_arrays']} arrays"
    versions = [f"{name} {version or '(not installed)'}" for name, version in record["versions"].items()]
    yield "format", f"{record['format']}, schema {record['schema']}; {kind}"
    yield "class", record["class"]
    if not record["opened"]:
        yield "contents", "not opened; --open opens it, and runs the code in it: only if you trust its author"
    elif "labels" not in record:
        yield "contents", "no fitted generator"
    else:
        yield from _generator_rows(record)
    yield "grid", record["grid"] or "not stated"
    yield "size", f"{record['n_bytes'] / 1e6:.2f} MB{arrays}; checksums right"
    yield "saved by", ", ".join(versions)


def _generator_rows(record):
    """Name and text of each line of what a generator knows."""
    for label in record["labels"]:
        unit = f" {label['unit']}" if label["unit"] else ""
        yield label["name"], f"{label['low']:g} to {label['high']:g}{unit}, {_count(label['n_values'], 'value')}"
    low, high = record["wavelength"]
    yield "nodes", str(record["n_nodes"])
    yield "band", f"{low:.2f} to {high:.2f} vacuum angstrom, {record['n_pixels']} pixels"
    factors, rank = record["n_factors"], record["residual_rank"]
    in_factors = "kept for each node" if factors is None else f"in {_count(factors, 'factor')}"
    yield "lines", f"{record['n_lines']}, {in_factors}"
    yield "residual", "none" if rank is None else f"of rank {rank}"
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
    medium = {None: "medium not stated, which predict needs", "vacuum": "vacuum", "air": "vacuum, given in air"}
    yield "band", f"{low:.2f} to {high:.2f} angstrom ({medium[record['medium']]})"
    power = record["resolving_power"]
    yield "R", "not stated" if power is None else f"{power:g}, as the format states"
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
