"""Arguments that commands share: how observed spectra are read, and which effects are fitted with a star."""

import argparse

from stellarhml.cli.terminal import positive, positive_or_none

_VEILING = {"constant": True, "sloped": "sloped"}


def add_resolving_power(parser):
    """Add the resolving power of the spectra."""
    parser.add_argument(
        "--resolving-power",
        metavar="R",
        type=_power,
        default="file",
        help="a number; file: as the file states; grid: the generator's own resolution [%(default)s]",
    )


def add_effects(parser):
    """Add the effects besides labels and velocities, which `infer` can fit."""
    parser.add_argument(
        "--macroturbulence",
        choices=("radial-tangential", "gaussian"),
        help="fit the macroturbulent velocity of this profile too",
    )
    second = parser.add_mutually_exclusive_group()
    second.add_argument("--companion", action="store_true", help="look for a second star in the spectrum")
    second.add_argument("--spots", action="store_true", help="look for cool spots on the star")
    parser.add_argument("--veiling", choices=tuple(_VEILING), help="fit a featureless light over the star's")
    parser.add_argument(
        "--resolving-power-error",
        metavar="X",
        type=positive,
        help="relative standard deviation of the resolving power, such as 0.1: fit its factor, too",
    )


def effects_of(arguments):
    """Arguments of `BayesianStellarRegressor.infer` that `add_effects` stands for."""
    return {
        "macroturbulence": arguments.macroturbulence,
        "companion": arguments.companion or None,
        "spots": arguments.spots or None,
        "veiling": _VEILING.get(arguments.veiling),
        "resolving_power_error": arguments.resolving_power_error,
    }


def add_air(parser, *, when=""):
    """Add the frame and the medium of an atmosphere that is fitted."""
    parser.add_argument(
        "--tellurics-medium", choices=("vacuum", "air"), help=f"{when}medium of that file, where it does not state it"
    )
    parser.add_argument(
        "--barycentric",
        metavar="V",
        type=_barycentric,
        help="velocity of the observatory towards the star in km/s, or header: from the header of each file",
    )


def add_reading(parser, *, fit=False):
    """Add the choice of orders, the sky and the tellurics, which may be fitted with the star if `fit`."""
    parser.add_argument(
        "--orders", metavar="LIST", type=order_numbers, help="orders to use, as inspect --orders numbers them: 3-10,15"
    )
    parser.add_argument(
        "--sky",
        metavar="X",
        type=positive_or_none,
        default=1.0,
        help="HPF: factor of the sky fibre before it is subtracted; none: sky not subtracted [1]",
    )
    parser.add_argument("--tellurics", metavar="FILE", help="transmission of the Earth's atmosphere")
    also = ", or fit its amounts with the star" if fit else ""
    parser.add_argument(
        "--tellurics-mode",
        choices=("mask", "divide", "fit") if fit else ("mask", "divide"),
        help=f"mask pixels, or divide by the transmission{also} [mask]",
    )
    parser.add_argument(
        "--tellurics-limit",
        metavar="X",
        type=_transmission,
        help="transmission below which pixels are masked [mask: 0.95, divide: 0.1"
        + (", fit, in --out-spectra: 0.3]" if fit else "]"),
    )
    if fit:
        add_air(parser, when="fit: ")
    parser.add_argument("--standard", metavar="FILE", help="A0V star of the same spectrograph, to divide by")


def reading_of(arguments):
    """Parameters of `workflows.predicting.read_spectra`."""
    return {
        "medium": arguments.medium,
        "format": arguments.format,
        "sky_scale": arguments.sky,
        "orders": arguments.orders,
        "standard": arguments.standard,
        "tellurics": arguments.tellurics,
        "tellurics_mode": arguments.tellurics_mode or "mask",
        "tellurics_limit": arguments.tellurics_limit,
    }


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


def check_tellurics(arguments):
    """Raise if options of the tellurics contradict each other, before any work."""
    for name in ("tellurics_mode", "tellurics_limit"):
        if arguments.tellurics is None and getattr(arguments, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} needs --tellurics FILE, the transmission of the atmosphere")
    if arguments.standard is not None and arguments.tellurics_mode == "fit":
        raise ValueError("--standard divides out the atmosphere that --tellurics-mode fit would fit; leave out one")
    if getattr(arguments, "tellurics_medium", None) and arguments.tellurics_mode != "fit":
        raise ValueError("--tellurics-medium is for --tellurics-mode fit; for others the file is in vacuum or says air")
    if getattr(arguments, "out_spectra", None) and arguments.tellurics_mode != "fit":
        raise ValueError("--out-spectra writes spectra without their tellurics: it needs --tellurics-mode fit")
    if arguments.standard is not None and arguments.tellurics_mode == "divide":
        raise ValueError(
            "--standard and --tellurics-mode divide would both divide out the atmosphere; leave out one, or mask what "
            "remains after the standard with --tellurics-mode mask"
        )


def _power(text):
    """Convert a resolving power, or the word file or grid."""
    if text in ("file", "grid"):
        return text
    try:
        return positive(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is neither a positive number nor file nor grid") from error


def _barycentric(text):
    """Convert a velocity, or the word header."""
    if text == "header":
        return text
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is neither a velocity in km/s nor header") from error


def _transmission(text):
    """Convert a transmission, more than 0 and at most 1."""
    value = positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is more than 1, the transmission of clear air")
    return value
