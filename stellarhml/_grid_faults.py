"""Faults of the spectra of a grid: stretches without light, fluxes that are not normalised, nodes given twice.

Spectra of fewer than 50 pixels are not judged: so few pixels, such as photometry, need not look like a spectrum.
"""

import warnings
from itertools import groupby

import numpy as np

from stellarhml.exceptions import GridWarning

FEWEST_PIXELS = 50
"""Smallest length of a spectrum that is judged, and of a stretch of pixels that is a fault. Cores of saturated lines
and quantised fluxes have shorter stretches of equal pixels."""

LOWEST_LEVEL, HIGHEST_LEVEL = 0.02, 50.0
"""Limits of the 90th percentile of a normalised flux. It is 1 where lines leave gaps, and above 0.05 in the molecular
bands of cool stars; a flux in percent (100) is not normalised."""

LARGEST = 1e6
"""Largest magnitude of a normalised flux: residuals of the line model are stored up to it."""

_LEVEL = 90  # percentile of a spectrum that stands for its continuum: emission lines and deep bands do not reach it
_FADING = 1e-12  # of the largest flux: zeros beside less light than this are an underflow
_CONTINUUM = np.array([0.98, 1.3])  # of the level of all others: equal pixels between are a continuum without lines
_EQUAL = 1e-6  # of the largest flux: larger differences are more than rounding to float32
_STEP = 1e-4  # of the flux: a stretch that begins and ends with smaller steps is a maximum or minimum in 16 bits


def stretch_without_light(flux):
    """First and last + 1 of the pixels of a stretch that no model spectrum has, and its kind in words; None if none.

    These are 50 pixels or more that are zero or negative, or exactly equal and not at the level (90th percentile) of
    all others, as a continuum is. Excepted are stretches beside fluxes below 1e-12 of the largest: the blue light of a
    cool model fades below the smallest number of float32; and those without a step at either end: the flux between
    wide lines, stored in 16 bits. `flux` (n_pixels,) must be finite.
    """
    for first, stop in _stretches(flux <= 0, FEWEST_PIXELS):
        dark = not flux[first:stop].any()
        if not (dark and _is_faded(flux, first, stop)):
            return first, stop, "zero" if dark else "zero or negative"
    for first, stop in _stretches(flux[1:] == flux[:-1], FEWEST_PIXELS - 1):
        stop = stop + 1
        value, others = flux[first], np.delete(flux, slice(first, stop))
        low, high = _CONTINUUM * np.percentile(others, _LEVEL) if others.size else (value, value)
        if value > 0 and not (low <= value <= high or _is_faded(flux, first, stop) or _is_smooth(flux, first, stop)):
            return first, stop, f"the same number, {value:g},"
    return None


def _is_faded(flux, first, stop):
    """Whether there is next to no light beside a stretch of pixels, compared with the rest of the spectrum."""
    beside = [flux[i] for i in (first - 1, stop) if 0 <= i < flux.size]
    rest = max(flux[:first].max(initial=0.0), flux[stop:].max(initial=0.0))
    return rest > 0 and max(beside) <= _FADING * rest


def _is_smooth(flux, first, stop):
    """Whether a stretch of equal pixels inside a spectrum begins and ends without a step."""
    if first == 0 or stop == flux.size:
        return False
    return bool(np.abs(flux[[first - 1, stop]] - flux[first]).max() <= _STEP * flux[first])


def check_grid_spectra(flux, wavelength, *, normalised, nodes=None, pixels=slice(None), preprocessor=None):
    """Raise ValueError if a spectrum of a grid has a stretch without light, or, if `normalised`, is not near 1.

    A normalised flux must also nowhere exceed 10^6. `preprocessor` is the one that has normalised it, for messages.

    `flux` (n_spectra, n_pixels) may be a memory map, of which `pixels` are judged; `wavelength` of these in angstrom,
    or None for pixel indices; `nodes` are the labels (n_spectra, n_labels) and their names, for messages.
    """
    for number, row in enumerate(flux):
        row = np.asarray(row[pixels])
        if row.size < FEWEST_PIXELS:
            return
        name = f"spectrum {number}" + ("" if nodes is None else f" ({describe_node(nodes[0][number], nodes[1])})")
        found = stretch_without_light(row)
        if found is not None:
            raise ValueError(
                f"In the grid, {name} is {describe_stretch(found, wavelength)}, but a model spectrum has light that "
                "varies everywhere. Read or compute this spectrum again, or cut these pixels from all spectra."
            )
        level = float(np.percentile(row, _LEVEL)) if normalised else 1.0
        if not LOWEST_LEVEL <= level <= HIGHEST_LEVEL:
            after = "" if preprocessor is None else f" by {type(preprocessor).__name__}"
            advice = (
                "For absolute fluxes, pass preprocessor=PhoenixPreprocessor() to SpectrumGenerator, or divide each "
                "spectrum by its continuum first."
                if preprocessor is None
                else "Change the parameters of the preprocessor, or take another one."
            )
            raise ValueError(
                f"The fluxes are not normalised{after}: {name} has a level (90th percentile) of {level:.3g}, but the "
                f"continuum must be 1, and the level between {LOWEST_LEVEL:g} and {HIGHEST_LEVEL:g}. {advice}"
            )
        wildest = int(np.abs(row).argmax())
        if normalised and abs(row[wildest]) > LARGEST:
            where = f"in pixel {wildest}" if wavelength is None else f"at {wavelength[wildest]:.2f} angstrom"
            raise ValueError(
                f"In the grid, {name} has a flux of {row[wildest]:.3g} {where}, but a normalised flux must not exceed "
                f"{LARGEST:g}. Read or compute this spectrum again, or cut this pixel from all spectra."
            )


def describe_stretch(found, wavelength):
    """Words for what `stretch_without_light` returns, with the range of wavelengths."""
    first, stop, kind = found
    if wavelength is None:
        return f"{kind} in pixels {first} to {stop - 1} ({stop - first} pixels)"
    return f"{kind} from {wavelength[first]:.2f} to {wavelength[stop - 1]:.2f} angstrom ({stop - first} pixels)"


def check_nodes_given_twice(labels, flux, label_names):
    """Raise ValueError if the same labels come with different spectra; warn if the spectra are the same.

    `labels` (n_spectra, n_labels), `flux` (n_spectra, n_pixels). Of fewer than 50 pixels, different ones only warn:
    they are averaged.
    """
    _, member, counts = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    member = member.ravel()
    same = []
    for node in np.flatnonzero(counts > 1):
        rows = np.flatnonzero(member == node)
        first = np.asarray(flux[rows[0]], dtype=np.float64)
        apart = [float(np.abs(np.asarray(flux[row], dtype=np.float64) - first).max()) for row in rows[1:]]
        largest, level = max(apart), float(np.abs(first).max())
        if largest <= _EQUAL * level:
            same.append(rows)
            continue
        found = (
            f"The node {describe_node(labels[rows[0]], label_names)} is given {len(rows)} times, in rows "
            f"{', '.join(map(str, rows))}, with different spectra: fluxes differ by up to {largest:.3g}, "
            f"{largest / level:.2g} of the largest flux"
        )
        if flux.shape[1] >= FEWEST_PIXELS:
            raise ValueError(f"{found}. Keep one of them, or correct the labels of the others.")
        warnings.warn(f"{found}; they are averaged.", GridWarning, stacklevel=2)
    if same:
        warnings.warn(
            f"{len(same)} nodes are given more than once, with the same spectrum, first "
            f"{describe_node(labels[same[0][0]], label_names)} in rows {', '.join(map(str, same[0]))}; it counts once.",
            GridWarning,
            stacklevel=2,
        )


def same_spectrum_at_two_nodes(labels, digests):
    """Groups of rows with different labels whose spectra are the same, by their digests; a list of lists of rows."""
    by_digest = groupby(sorted(range(len(digests)), key=lambda row: (digests[row], row)), key=digests.__getitem__)
    groups = [list(rows) for _, rows in by_digest]
    return sorted(rows for rows in groups if len(np.unique(labels[rows], axis=0)) > 1)


def describe_node(labels, label_names):
    """Labels of a node as text."""
    return ", ".join(f"{name} {value:g}" for name, value in zip(label_names, labels, strict=True))


def _stretches(chosen, shortest):
    """First and last + 1 of the runs of at least `shortest` True values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [(first, stop) for first, stop in edges.reshape(-1, 2).tolist() if stop - first >= shortest]
