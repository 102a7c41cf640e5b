"""The figure of the demo: errors of all stars, a piece of a spectrum, microturbulence and an abundance."""

from typing import NamedTuple

import numpy as np

from stellarhml._rounding import decimals
from stellarhml.physics.wavelength import doppler_shift
from stellarhml.plotting._line_labels import lines_to_label, write_labels
from stellarhml.plotting._spectrum_fit import compare
from stellarhml.plotting._style import MODEL, OBSERVED, SERIES, label_text
from stellarhml.workflows.tables import MEAN_ROW

_COLOURS = (SERIES[0], "0.55", MODEL)  # of the groups, in the order of the table
_WIDTH = 10.0  # angstrom of the spectrum that is shown
_N_LINES, _DEPTH = 8, 0.02  # at most so many lines have their species, and all are deeper than this
_MISSED, _PENALTY = 4.0, 10  # residual over error where a model does not fit, and weight of such pixels
_MEAN_OF = 7  # pixels over which residuals are averaged
_ROOM = 0.85  # part of the height of the panel that the spectrum takes, below the names


class Shown(NamedTuple):
    """A star and its models.

    `wavelength` (n_pixels,) [vacuum angstrom]; `flux` and `error` (n_pixels,), over the continuum, flux NaN where a
    pixel is masked; `models` (n_pixels,) by group, the better one last; `labels` (n_labels,) and `rv` [km/s] of that.
    """

    star: str
    wavelength: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    models: dict
    labels: np.ndarray
    rv: float

    @classmethod
    def from_results(cls, star, results, label_names):
        """Make it from InferenceResults by group, of one star whose spectrum has one order."""
        best = list(results.values())[-1]
        order = best.orders[0]
        flux = np.where(np.isfinite(order.error), order.flux, np.nan) / order.continuum
        models = {group: result.orders[0].model / order.continuum for group, result in results.items()}
        labels = np.array([best.values[name] for name in label_names])
        return cls(star, order.wavelength, flux, order.error / order.continuum, models, labels, best.values["rv"])

    @classmethod
    def at_rest(cls, star, regressor, flux, error, labels, group):
        """Make it from a spectrum at rest on the pixels of the regressor's generator, (n_pixels,)."""
        fit = compare(regressor, flux, labels, flux_error=error)
        return cls(star, fit.wavelength, fit.flux, fit.flux_error, {group: fit.fitted}, labels, 0.0)


def draw_demo(table, generator, shown, *, snr):
    """Draw the figure of a demo; returns a figure that is not tied to a window.

    `table` is that of a `DemoResult`, `shown` the star whose spectrum is drawn, `snr` is stated.
    """
    from matplotlib.figure import Figure

    names = generator.label_names_
    groups = dict(list(table.groupby("group", sort=False)))
    colours = dict(zip(groups, _COLOURS, strict=False))
    last = list(groups.values())[-1]
    quantities = [name for name in ("vmic", _best_abundance(last)) if f"{name}_true" in last]
    figure = Figure(figsize=(11, 8), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    above.suptitle(f"Labels found minus true, of stars that are not in the grid, S/N {snr:g}", fontsize="large")
    for axes, name in zip(np.ravel(above.subplots(1, len(names))), names, strict=True):
        _draw_errors(axes, groups, name, colours)
    left = below
    if quantities:
        left, right = below.subfigures(1, 2, width_ratios=(3.3, 1))
        for axes, name in zip(np.ravel(right.subplots(len(quantities), 1)), quantities, strict=True):
            _draw_found(axes, last[last["star"] != MEAN_ROW], name, colours[last["group"].iloc[0]])
    _draw_spectrum(*left.subplots(2, 1, height_ratios=(3, 1), sharex=True), shown, generator, colours)
    return figure


def _draw_errors(axes, groups, name, colours):
    """Draw found minus true of a label for all stars, by group."""
    start = 0
    for group, rows in groups.items():
        stars, mean = rows[rows["star"] != MEAN_ROW], rows[rows["star"] == MEAN_ROW][f"{name}_difference"].iloc[0]
        x, look = start + np.arange(len(stars)), {"color": colours[group], "marker": "o", "ms": 6, "lw": 0}
        axes.errorbar(x, stars[f"{name}_difference"], stars[f"{name}_std"], elinewidth=1.6, **look)
        place = {"ha": "center", "va": "top", "transform": axes.get_xaxis_transform(), "color": colours[group]}
        axes.text(x.mean(), -0.03, group.replace(", ", ",\n"), fontsize="small", **place)
        unit = label_text(name).partition(" [")[2].partition("(")[0].removesuffix("]")
        text = f"mean error\n{mean:.{decimals(mean)}f} {unit}"
        axes.text(x.mean(), 0.97, text, fontweight="bold", **place)
        start += len(stars) + 1.5
    axes.axhline(0, color="0.3", lw=1)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.3 * (high - low))  # room for the means
    axes.set(xticks=[], xlim=(-1, start - 1.5), title=label_text(name))


def _draw_spectrum(top, bottom, shown, generator, colours):
    """Draw a part of a spectrum with its models, and what they leave."""
    low, high = part_to_draw(shown, generator)
    inside = (shown.wavelength >= low) & (shown.wavelength <= high)
    x, flux = shown.wavelength[inside], shown.flux[inside]
    top.step(x, flux, where="mid", color=OBSERVED, lw=0.7, label=shown.star)
    for group, model in shown.models.items():
        top.plot(x, model[inside], color=colours[group], lw=1.8, label=group.split(", ")[-1])
        bottom.plot(x, _smooth(flux - model[inside]), color=colours[group], lw=1.4)
    bottom.axhline(0, color="0.3", lw=0.8)
    lines = generator.line_table(shown.labels)
    lines = lines.assign(observed=doppler_shift(lines["center"], shown.rv)).query("@low < observed < @high")
    chosen = []
    if "species" in lines:
        chosen = lines_to_label(lines.query("species != '' and depth > @_DEPTH"), _N_LINES, x)
    seen = np.concatenate([flux, *(model[inside] for model in shown.models.values())])
    span = np.nanmin(seen), np.nanmax(seen)
    top.set(ylabel="Flux / continuum", xlim=(low, high))
    top.set_ylim(span[0] - 0.03, span[0] + (span[1] - span[0]) / _ROOM)
    for text in write_labels(top, chosen, _ROOM, va="bottom"):
        text.set(fontsize=8, text=text.get_text().rsplit(" ", 1)[0])  # the species alone
    top.legend(fontsize="small", frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    bottom.set(ylabel="Residual", xlabel="Vacuum wavelength [Å]")


def part_to_draw(shown, generator):
    """Ends [angstrom] of the part to draw: where the last model fits what the first does not, or the strongest line."""
    limit = _MISSED * shown.error / np.sqrt(_MEAN_OF)
    fits = [np.abs(_smooth(shown.flux - model)) < limit for model in shown.models.values()]  # not where it is masked
    if len(fits) > 1:
        n = min(int(_WIDTH / np.median(np.diff(shown.wavelength))), len(shown.flux) - 1)
        total = np.cumsum(np.where(fits[-1], ~fits[0], -_PENALTY))
        score = total[n:] - total[:-n]
        best = np.flatnonzero(score == score.max())
        start = best[len(best) // 2]
        return shown.wavelength[start], shown.wavelength[start + n]
    table = generator.line_table(shown.labels)
    line = table["equivalent_width"].idxmax() if len(table) else shown.wavelength.mean()
    low, high = shown.wavelength[[0, -1]]
    center = np.clip(line, low + _WIDTH / 2, max(high - _WIDTH / 2, low + _WIDTH / 2))
    return center - _WIDTH / 2, center + _WIDTH / 2


def _smooth(residual):
    """Mean of neighbouring pixels, with less noise than a pixel has."""
    return np.convolve(residual, np.full(_MEAN_OF, 1 / _MEAN_OF), mode="same")


def _draw_found(axes, stars, name, colour):
    """Draw the values found of a quantity of the lines against the true ones."""
    true, found, std = stars[f"{name}_true"], stars[name], stars[f"{name}_std"]
    axes.errorbar(true, found, std, marker="o", ms=5, lw=0, elinewidth=1.4, color=colour)
    ends = np.nanmin([true, found - std]), np.nanmax([true, found + std])
    axes.plot(ends, ends, color="0.3", lw=1)
    axes.set(xlabel="true", ylabel="found", title=label_text(name) + " [dex]" * name.startswith("["))


def _best_abundance(table):
    """Column of the abundance "[X/Fe]" that most stars have, of these the one with the smallest errors; or None."""
    stars = table[table["star"] != MEAN_ROW]
    names = [name for name in stars if name.startswith("[") and name.endswith("/Fe]")]
    return min(names, key=lambda name: (stars[name].isna().sum(), stars[f"{name}_std"].median()), default=None)
