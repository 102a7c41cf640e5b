"""Labels of the deepest lines in a panel."""

import numpy as np

from stellarhml.plotting._style import line_name

_APART = 0.013  # of the width of a panel, between labels


def lines_to_label(lines, n_lines, wavelength):
    """Choose at most `n_lines` lines to label, the deepest whose labels do not overlap: wavelength and text of each.

    `lines` is a DataFrame by catalogue wavelength with the columns `depth`, `observed` [angstrom] and, if known,
    `species`; lines without a pixel of `wavelength` (n_pixels,) near are left out, as are those of no depth.
    """
    steps, chosen = np.diff(wavelength), []
    if not np.isfinite(steps).any():  # one pixel
        return chosen
    low, high = np.nanmin(wavelength), np.nanmax(wavelength)
    reach = max(0.002 * (high - low), np.nanmedian(steps))
    for rest, line in lines.sort_values("depth", ascending=False).iterrows():
        x = line["observed"]
        if len(chosen) == n_lines or line["depth"] <= 0:
            break
        if np.nanmin(np.abs(wavelength - x)) <= reach and all(
            abs(x - other) >= _APART * (high - low) for other, _ in chosen
        ):
            chosen.append((x, line_name(rest, line.get("species", ""))))
    return chosen


def write_labels(axes, chosen, height, *, va):
    """Write labels upright at a height in units of the axes; `chosen` as from `lines_to_label`. Returns the texts."""
    place = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": va, "rotation": 90}
    return [axes.text(x, height, text, fontsize=6, color="0.2", **place) for x, text in chosen]
