"""Lines of hydrogen, which are far wider than all others in hot stars, as lines of the catalogue.

The minimum of such a line is so flat that other lines move it, and its detections in neighbouring spectra do not belong
together by their wavelengths. The wavelengths of hydrogen are known instead.
"""

import numpy as np

from stellarhml.lines.catalog import LineCatalog, wide_lines

RYDBERG = 109677.5834e-8
"""Rydberg constant of hydrogen, in inverse angstroms of vacuum."""

_SERIES, _MEMBERS = 7, 30  # highest lower level, and lines of a series: higher ones have merged
_BEYOND = 0.005  # of the wavelength: how far outside the spectra a line can be whose wing is inside
_REPLACED = 0.5  # of the width of hydrogen: other lines so near are minima of it,
_NOT_NARROW = 4.0  # if their widths are so many times that of the usual line


def hydrogen_lines(low, high):
    """Vacuum wavelengths of the lines of hydrogen between `low` and `high`, all in angstrom, increasing.

    They are those of Rydberg's formula, to some 0.1 angstrom: fine structure is left out.
    """
    lower = np.arange(1, _SERIES + 1)[:, None]
    upper = lower + np.arange(1, _MEMBERS + 1)
    wavelength = np.sort(1 / (RYDBERG * (1 / lower**2 - 1 / upper**2)).ravel())
    return wavelength[(wavelength >= low) & (wavelength <= high)]


def with_hydrogen(catalog, tracks, settings, detections):
    """Put the lines of hydrogen into a catalogue, in place of the wide minima that were detected near them.

    Nothing changes where no spectrum has a wide minimum at a line of hydrogen.

    `catalog` is a LineCatalog; `tracks` have, for each spectrum, the lines of its minima and their wavelengths
    [angstrom], `detections` the minima themselves. Returns the catalogue and the tracks.
    """
    wavelength = settings.wavelength
    known = hydrogen_lines(wavelength[0] * (1 - _BEYOND), wavelength[-1] * (1 + _BEYOND))
    if not (settings.has_wavelengths and len(known) and len(catalog.pixels)):
        return catalog, tracks
    pixels, prominences, widths = (
        np.concatenate([getattr(found, name) for found in detections]) for name in ("pixels", "prominences", "widths")
    )
    near = np.abs(wavelength[pixels, None] - known).argmin(axis=1)
    hydrogen = np.abs(wavelength[pixels] - known[near]) < widths
    hydrogen &= wide_lines(wavelength[pixels], widths, np.median(catalog.widths))
    if not hydrogen.any():
        return catalog, tracks
    # minima of hydrogen do not belong to the narrow lines with which they were tracked
    width = np.median(widths[hydrogen])
    others = np.abs(wavelength[pixels] - known[near]) > _REPLACED * width
    others |= widths < _NOT_NARROW * np.median(catalog.widths)
    line, strength = np.concatenate([lines for lines, _ in tracks]), np.zeros(len(catalog.pixels))
    np.maximum.at(strength, line[others], prominences[others])
    at = wavelength[catalog.pixels]
    narrow = catalog.widths < _NOT_NARROW * np.median(catalog.widths)
    kept = (strength > 0) & (narrow | (np.abs(at[:, None] - known).min(axis=1) > _REPLACED * width))
    catalog = catalog._replace(prominences=strength)
    taken, new, n_pixels = set(catalog.pixels[kept].tolist()), [], len(wavelength)
    # of the lines beyond an end, the nearest has the wings of all
    first, last = np.searchsorted(known, wavelength[[0, -1]])
    for k in range(max(first - 1, 0), min(last + 1, len(known))):
        own = hydrogen & (near == k)
        prominence = prominences[own if own.any() else hydrogen].max()
        pixel = _free_pixel(min(int(np.searchsorted(wavelength, known[k])), n_pixels - 1), taken, n_pixels)
        taken.add(pixel)
        new.append((pixel, prominence, width, np.count_nonzero(own)))
    both = LineCatalog.of_detections(*(np.array(part) for part in zip(*new, strict=True)))
    both = LineCatalog(*(np.concatenate(pair) for pair in zip(catalog.only(kept), both, strict=True)))
    order = np.argsort(both.pixels)
    place = np.full(len(kept), -1)
    place[kept] = np.argsort(order)[: np.count_nonzero(kept)]
    ends = np.cumsum([len(lines) for lines, _ in tracks])[:-1]
    there = [own & (place[lines] >= 0) for own, (lines, _) in zip(np.split(others, ends), tracks, strict=True)]
    tracks = [(place[lines][own], at[own]) for own, (lines, at) in zip(there, tracks, strict=True)]
    return both.only(order), tracks


def _free_pixel(pixel, taken, n_pixels):
    """Pixel nearest to a given one that is not taken, the bluer of two."""
    near = (p for away in range(n_pixels) for p in (pixel - away, pixel + away))
    return next(p for p in near if 0 <= p < n_pixels and p not in taken)
