"""A spectrum as a file gives it, before units, media and bad pixels are dealt with; and its conversion to orders."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.columns import known_unit
from stellarhml.spectra.orders import OrderBuilder, to_vacuum
from stellarhml.spectra.statements import by_format, check_frame, check_medium, stated_frame, stated_medium
from stellarhml.spectra.wavelength_axes import angstroms_in, require_plausible


class RawOrder(NamedTuple):
    """One order of a file: arrays (n_pixels,).

    `error` has standard deviations, or is None; `bad` marks pixels to mask, or is None. `wavelength` is in the unit of
    its RawSpectrum; pixels without one are NaN or 0.
    """

    number: int
    wavelength: np.ndarray
    flux: np.ndarray
    error: np.ndarray | None = None
    bad: np.ndarray | None = None


@dataclass
class RawSpectrum:
    """Orders of a file, and what the documentation of its format and its headers state.

    `used` names extensions, columns or keywords in use; `unit` is that of the wavelengths (text). `medium` and `frame`
    are those of the format's documentation, or None where it states none; `stated` has Statements of the medium that
    columns make. `headers` may state both, too.
    """

    orders: list
    used: str
    unit: str = "angstrom"
    medium: str | None = None
    frame: str | None = None
    resolving_power: float | None = None
    flux_unit: str | None = None
    stated: list = field(default_factory=list)
    headers: list = field(default_factory=list)
    notes: list = field(default_factory=list)


def convert(raw, path, format, medium, content=None):
    """Orders and meta of a RawSpectrum; `medium` is what the caller states, `content` that of `list_extensions`.

    ValueError if the caller, the format and the header contradict each other in the medium or the frame, or nobody
    states the medium. SpectrumFileError if wavelengths are in another unit than the format has, or several
    spectra share them.
    """
    by_documentation = [by_format(format, raw.medium)] if raw.medium else []
    medium = check_medium(medium, [*by_documentation, *raw.stated, *stated_medium(raw.headers)])
    frame = check_frame([*([by_format(format, raw.frame)] if raw.frame else []), *stated_frame(raw.headers)])
    size = angstroms_in(raw.unit, path, "its documentation")
    orders, repeated = _without_repeated(raw.orders, path)
    no_errors = [order.error is not None and not np.any(_positive(order.error)) for order in orders]
    notes = [f"Used: {raw.used}{'' if raw.unit == 'angstrom' else f'; wavelengths in {raw.unit}'}.", *raw.notes]
    if repeated:
        notes.append(f"Orders {', '.join(map(str, repeated))} repeat others, pixel by pixel, and are left out.")
    if all(no_errors):
        notes.append("Errors are in the file, but not one of them is positive and finite: they are not used.")
    builder = OrderBuilder(path)
    for order in orders:
        grid = size * np.asarray(order.wavelength, dtype=np.float64)
        with np.errstate(all="ignore"):
            grid[~(grid > 0)] = np.nan
        if np.isfinite(grid).any():
            known = grid[np.isfinite(grid)]
            require_plausible(known[[0, -1]], path, f"{raw.used}, in {raw.unit}")
        error = None if all(no_errors) else order.error
        builder.add(order.number, to_vacuum(grid, medium, path), order.flux, error, order.bad)
    content = content or {}
    return builder.orders, {
        "file": str(path),
        "format": format,
        "instrument": content.get("instrument"),
        "object": content.get("object"),
        "date": content.get("date"),
        "medium": medium,
        "frame": frame,
        "resolving_power": raw.resolving_power,
        "errors_known": builder.errors_known,
        "flux_unit": known_unit(raw.flux_unit),
        "order_numbers": builder.numbers,
        "notes": [*notes, *builder.notes()],
    }


def _positive(values):
    with np.errstate(all="ignore"):
        return np.isfinite(values) & (np.asarray(values) > 0)


def _without_repeated(orders, path):
    """Orders without those that repeat others, and the numbers of these.

    Two spectra with the same wavelengths and other fluxes are no orders, but those of fibres, stars or visits:
    SpectrumFileError.
    """
    kept, repeated, seen = [], [], {}
    for order in orders:
        key = np.asarray(order.wavelength, dtype=np.float64).tobytes()
        first = seen.setdefault(key, order)
        if first is order:
            kept.append(order)
        elif np.array_equal(first.flux, order.flux, equal_nan=True):
            repeated.append(order.number)
        else:
            raise SpectrumFileError(
                f"{path} has the same wavelengths in rows {first.number} and {order.number}, but other fluxes, so that "
                "they are several spectra (fibres, stars or visits) and not orders of one. Write the one that you mean "
                "to a table."
            )
    return kept, repeated
