"""Orders of a spectrum from raw arrays: conversion to vacuum, trimming, masking, and checks."""

from typing import NamedTuple

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.physics.wavelength import air_to_vacuum


def to_vacuum(wavelength, medium, source):
    """Convert wavelengths [angstrom] to vacuum; values that are not finite or not positive stay as they are.

    SpectrumFileError, which names the `source`, if there are air wavelengths below 2000 angstrom.
    """
    if medium == "vacuum":
        return wavelength
    vacuum = np.array(wavelength, dtype=np.float64)
    with np.errstate(all="ignore"):
        known = np.isfinite(vacuum) & (vacuum > 0)
    try:
        vacuum[known] = air_to_vacuum(vacuum[known])
    except ValueError as error:
        raise SpectrumFileError(f"{source} cannot be converted from air to vacuum: {error}") from error
    return vacuum


_EDGE = 0.05  # share of the pixels at each end of an order in which wavelengths may run backwards and are trimmed
_SHORTEST, _LONGEST = 900.0, 1e7  # angstrom: the light of stars, from the Lyman limit to a millimetre
_NO_ERROR = 0.01  # error where a file gives none, in units of the order's median flux; only relative weights matter


_MARKED = "marked in the file"


class Order(NamedTuple):
    """One order (or arm) of a spectrum, or a whole one-dimensional spectrum: arrays of shape (n_pixels,), float64.

    `wavelength` [vacuum angstrom], strictly increasing; `flux`, finite; `error`, its standard deviation, positive,
    infinite where a pixel is masked.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    error: np.ndarray


class OrderBuilder:
    """Make orders from raw arrays, one after the other, and count the changes.

    Messages name the `source` of the arrays. `like_errors` are columns that may be errors but are not in use.
    Attributes: `orders` so far, with their `numbers`; `errors_known`: all of them came with errors.
    """

    def __init__(self, source, like_errors=()):
        self.source, self._like_errors = source, like_errors
        self.orders, self.numbers, self.errors_known = [], [], True
        self._masked, self._trimmed, self._reversed, self._dropped = {}, 0, [], []

    def add(self, number, wavelength, flux, error=None, bad=None):
        """Check one order and keep it; `number` is that in the file, arrays have shape (n_pixels,).

        Pixels at the ends without a wavelength [vacuum angstrom] are trimmed. A pixel is masked that is `bad` or whose
        flux or error is not finite, or whose error is not positive. SpectrumFileError if the shapes differ, or
        wavelengths are missing or do not increase inside the order.
        """
        with np.errstate(all="ignore"):  # signalling NaN
            wavelength, flux, error = (
                None if values is None else np.array(values, dtype=np.float64) for values in (wavelength, flux, error)
            )
        bad = np.zeros(flux.shape, dtype=bool) if bad is None else np.asarray(bad, dtype=bool)
        shapes = {a.shape for a in (wavelength, flux, error, bad) if a is not None}
        if len(shapes) > 1 or wavelength.ndim != 1:
            raise SpectrumFileError(
                f"{self.source}, order {number}, has wavelengths, fluxes and errors of the shapes "
                f"{sorted(shapes)}, but one shape is needed. Read the file again from its source."
            )
        if _decreases(wavelength):
            wavelength, flux, bad = wavelength[::-1], flux[::-1], bad[::-1]
            error = None if error is None else error[::-1]
            self._reversed.append(number)
        self._require_plausible(number, wavelength)
        keep = self._increasing(number, wavelength)
        self._trimmed += len(wavelength) - (keep.stop - keep.start)
        wavelength, flux, bad = (values[keep].copy() for values in (wavelength, flux, bad))
        faults = {_MARKED: bad, "flux NaN or infinite": ~np.isfinite(flux)}
        if error is None:
            good = ~np.any(list(faults.values()), axis=0)
            level = np.median(np.abs(flux[good])) if good.any() else 1.0
            error = np.full(len(flux), _NO_ERROR * (level or 1.0))
            self.errors_known = False
        else:
            error = error[keep].copy()
            with np.errstate(all="ignore"):
                faults["error or variance not finite, zero or negative"] = ~(np.isfinite(error) & (error > 0))
        masked = np.zeros(len(flux), dtype=bool)
        for reason, pixels in faults.items():
            self._masked[reason] = self._masked.get(reason, 0) + int(np.count_nonzero(pixels & ~masked))
            masked |= pixels
        if len(flux) < 2 or masked.all():
            self._dropped.append(number)
            return
        flux[~np.isfinite(flux)], error[masked] = 0.0, np.inf
        self.orders.append(Order(wavelength, flux, error))
        self.numbers.append(int(number))

    def notes(self) -> list[str]:
        """Describe the changes, one sentence for each kind; SpectrumFileError if no order is left."""
        reasons = [f"{n} {reason}" for reason, n in self._masked.items() if n]
        if not self.orders:
            cure = "Check that the columns are the right ones."
            if self._masked.get(_MARKED):
                cure = "Marks that are not 0 mean bad pixels: if yours mean good ones, invert them."
            raise SpectrumFileError(
                f"{self.source} has {len(self._dropped)} order{'s' * (len(self._dropped) != 1)} and no good pixel in "
                f"any of them{': ' if reasons else ''}{', '.join(reasons)}; at least two pixels with a finite flux and "
                f"a positive error are needed. {cure}"
            )
        notes = []
        n_masked = sum(self._masked.values())
        if n_masked:
            notes.append(f"{n_masked} pixels masked: {', '.join(reasons)}.")
        n_pixels = sum(len(order.flux) for order in self.orders)
        if self._masked.get(_MARKED, 0) > 0.5 * n_pixels:
            notes.append("Most pixels are marked in the file: check that 0 means a good pixel there.")
        if self._trimmed:
            notes.append(f"{self._trimmed} pixels without increasing wavelengths trimmed at the ends of orders.")
        if self._reversed:
            notes.append(f"Orders {_names(self._reversed)} reversed: their wavelengths decreased.")
        if self._dropped:
            notes.append(f"Orders {_names(self._dropped)} left out: no good pixel.")
        if not self.errors_known:
            why = "No errors given"
            if self._like_errors:
                why = (
                    f"{', '.join(self._like_errors)} may be errors, but are not known by name (rename standard "
                    "deviations to 'error')"
                )
            notes.append(
                f"{why}: {_NO_ERROR:g} of the median flux of each order replaces them; only relative weights are "
                "meaningful."
            )
        return notes

    def _require_plausible(self, number, wavelength):
        """Refuse wavelengths that no star is observed at: they are in another unit, or logarithms."""
        with np.errstate(all="ignore"):
            known = wavelength[np.isfinite(wavelength) & (wavelength > 0)]
        if known.size and not _SHORTEST <= np.median(known) <= _LONGEST:
            raise SpectrumFileError(
                f"{self.source}, order {number}, has wavelengths around {np.median(known):.6g} angstrom, but "
                f"{_SHORTEST:g} to {_LONGEST:g} are needed. They may be in another unit, or logarithms: state the unit "
                "(nm, um) of the column or spectral axis, name a column of log10 wavelengths 'loglam', or convert them "
                "to angstrom."
            )

    def _increasing(self, number, wavelength):
        """The slice in which wavelengths are finite, positive and increasing."""
        with np.errstate(all="ignore"):
            valid = np.isfinite(wavelength) & (wavelength > 0)
        if np.count_nonzero(valid) < 2:
            return slice(0, 0)
        start, stop = int(np.argmax(valid)), len(valid) - int(np.argmax(valid[::-1]))
        edge = int(_EDGE * (stop - start))
        with np.errstate(all="ignore"):
            steps = valid[start : stop - 1] & valid[start + 1 : stop] & (np.diff(wavelength[start:stop]) > 0)
        breaks = np.flatnonzero(~steps) + start  # step i lies between pixels i and i + 1
        left = breaks[breaks < start + edge]
        right = breaks[breaks >= stop - 1 - edge]
        middle = breaks[(breaks >= start + edge) & (breaks < stop - 1 - edge)]
        if middle.size:
            first = int(middle[0])
            raise SpectrumFileError(
                f"{self.source}, order {number}, has {middle.size} steps of wavelength inside the order that do not "
                f"increase or are not finite, first from pixel {first} ({wavelength[first]:.4f} angstrom) to pixel "
                f"{first + 1} ({wavelength[first + 1]:.4f}), but wavelengths must increase strictly. Sort the pixels "
                "by wavelength, drop repeated ones, and keep overlapping orders apart (tables: a column 'order')."
            )
        start = int(left[-1]) + 1 if left.size else start
        return slice(start, int(right[0]) + 1 if right.size else stop)


def _decreases(wavelength):
    """Whether wavelengths, where there are any, decrease throughout."""
    with np.errstate(all="ignore"):
        known = wavelength[np.isfinite(wavelength) & (wavelength > 0)]
        return known.size > 1 and bool(np.all(np.diff(known) < 0))


def _names(numbers):
    return ", ".join(map(str, numbers))
