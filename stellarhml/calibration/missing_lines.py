"""Lines that several reference stars show at the same wavelength at rest, and that the generator lacks."""

from typing import NamedTuple

import numpy as np

from stellarhml.physics.wavelength import SPEED_OF_LIGHT, doppler_shift

_SURE = 5.0  # significance of a line of a star, at the end of its fit
_ALONE = 10.0  # significance of a line that one star alone can show
_CLOSE = 0.3  # full widths at half maximum of a narrow line as observed: distance of the same line in two stars
_VISIBLE = 8.0  # significance at which a star would have shown a line
_SHARE = 0.5  # of the stars that could show a line, those that must
_SCATTER = 0.2  # of equivalent widths between stars
_FWHM = 2.355


class NewLine(NamedTuple):
    """A line to be added: wavelength at rest and its standard deviation, equivalent width and its own, in angstrom."""

    wavelength: float
    wavelength_std: float
    equivalent_width: float
    equivalent_width_std: float
    n_stars: int


def find_new_lines(results):
    """List of NewLine, from the `missing_lines` of the InferenceResult of each star.

    A line is taken if two stars or more show it, and half of those that could, or the only one that could with a
    significance of over ten.
    """
    tables = [result.missing_lines for result in results]
    star = np.repeat(np.arange(len(tables)), [0 if table is None else len(table) for table in tables])
    columns = ("wavelength", "equivalent_width", "equivalent_width_std", "width")
    rows = [table[list(columns)].to_numpy() for table in tables if table is not None]
    center, size, std, width = np.concatenate([np.empty((0, 4)), *rows]).T
    significance = size / np.maximum(std, 1e-300)
    left, found = significance > _SURE, []
    for first in np.argsort(-significance, kind="stable"):
        if not left[first]:
            continue
        apart = np.abs(center - center[first]) / center[first] * SPEED_OF_LIGHT
        same = np.flatnonzero(left & (apart < _CLOSE * _FWHM * np.minimum(width, width[first])))
        left[same] = False
        # of each star its most significant one
        same = same[np.argsort(-significance[same], kind="stable")]
        same = same[np.unique(star[same], return_index=True)[1]]
        could = sum(
            i in star[same] or _would_show(result, center[first], size[first], width[first])
            for i, result in enumerate(results)
        )
        if len(same) < 2 and (could > 1 or significance[first] < _ALONE):
            continue
        if len(same) < _SHARE * could:
            continue
        weight = 1 / (std[same] ** 2 + (_SCATTER * size[same]) ** 2)
        place = (significance[same] / (width[same] / SPEED_OF_LIGHT * center[same])) ** 2
        found.append(
            NewLine(
                float(np.average(center[same], weights=place)),
                float(1 / np.sqrt(place.sum())),
                float(np.average(size[same], weights=weight)),
                float(1 / np.sqrt(weight.sum())),
                len(same),
            )
        )
    return found


def _would_show(result, wavelength, equivalent_width, width):
    """Whether a line of a width [km/s] would be significant in a star, by the errors of its pixels."""
    sigma, center = width / SPEED_OF_LIGHT, np.log(wavelength * doppler_shift(1.0, result.values["rv"]))
    total = 0.0
    for order in result.orders:
        near = slice(*np.searchsorted(np.log(order.wavelength), [center - 3 * sigma, center + 3 * sigma]))
        profile = np.exp(-0.5 * ((np.log(order.wavelength[near]) - center) / sigma) ** 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            total += np.nansum((profile * order.model[near] / order.error[near]) ** 2)
    depth = equivalent_width / (np.sqrt(2 * np.pi) * sigma * wavelength)
    return bool(depth * np.sqrt(total / max(np.nan_to_num(result.reduced_chi2), 1.0)) > _VISIBLE)
