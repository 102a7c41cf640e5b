"""InferenceErrorDisplay: inferred minus true labels."""

import numpy as np
import pandas as pd

from stellarhml.plotting._style import MARKERS, SERIES, label_symbol, label_text

_SPLIT = 7000.0  # K, the paper's limit between cool and hot stars
_DODGE, _SPREAD = 0.012, 0.5  # offset between methods, of the range of Teff; largest offset, of its smallest step
_N_BINS = 25  # odd: one bin is centred on zero
_MANY = 300  # stars: more have smaller markers
_WIDTHS = (5, 1)  # ratio of panels to histograms
_UNITS = {"teff": ("K", 1), "rv": ("km/s", 3), "vsini": ("km/s", 3)}  # unit and decimals; others: dex, 3
_ROOM = 1.08  # axis limit over the largest difference


class InferenceErrorDisplay:
    """Inferred minus true labels against true Teff: a panel for each label, with a histogram.

    Create it with :meth:`from_predictions` or :meth:`from_frame`. Arrays are attributes; artists end in an underscore.

    Parameters
    ----------
    truth : ndarray of shape (n, n_labels)
        True labels.
    difference : ndarray of shape (n, n_labels)
        Inferred minus true labels; NaN where the inference failed.
    method : ndarray of shape (n,), str
        Method by which each star was inferred.
    names : tuple of str
        Names of the labels.

    Attributes
    ----------
    ax_, histogram_ax_ : tuple of matplotlib axes
        Panels and histograms; the latter are None if axes were given.
    figure_ : matplotlib figure
        Their figure.
    points_ : list of dict of str to matplotlib line
        Differences in each panel, by method.
    split_lines_ : list of matplotlib line
        Lines at 7000 K, if there are stars on both sides.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from stellarhml.plotting import InferenceErrorDisplay
    >>> truth = np.array([[5000.0, 4.5, 0.0], [5100.0, 4.5, 0.0], [5200.0, 4.0, -0.5]])
    >>> inferred = truth + [[3.0, 0.01, 0.02], [-4.0, 0.02, -0.01], [1.0, -0.03, 0.0]]
    >>> display = InferenceErrorDisplay.from_predictions(truth, inferred, ax=Figure())
    >>> display.difference[:, 0].tolist()
    [3.0, -4.0, 1.0]
    """

    def __init__(self, *, truth, difference, method, names):
        self.truth, self.difference, self.method, self.names = truth, difference, method, names

    @classmethod
    def from_predictions(cls, y_true, y_pred, *, names=None, method="inferred", ax=None):
        """Draw inferred labels of stars with known labels.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_stars, n_labels)
            True and inferred labels. Rows of `y_pred` with NaN are not drawn.
        names : tuple of str, default=None
            Names of the labels. None: ("teff", "logg", "feh").
        method : str or array-like of shape (n_stars,), default="inferred"
            Method by which each star was inferred; each has a marker of its own.
        ax : matplotlib figure or array-like of n_labels matplotlib axes, default=None
            Figure or axes. None makes a figure.

        Returns
        -------
        display : InferenceErrorDisplay
            The drawn display.
        """
        truth, inferred = (np.asarray(values, dtype=np.float64) for values in (y_true, y_pred))
        names = ("teff", "logg", "feh") if names is None else tuple(names)
        if truth.ndim != 2 or truth.shape != inferred.shape or truth.shape[1] != len(names):
            raise ValueError(
                f"`y_true` and `y_pred` have shapes {truth.shape}, {inferred.shape}; both need "
                f"(n_stars, {len(names)}), for {names}. Name other labels in `names`."
            )
        method = np.broadcast_to(np.asarray(method, dtype=str), len(truth))
        return cls(truth=truth, difference=inferred - truth, method=method, names=names).plot(ax=ax)

    @classmethod
    def from_frame(cls, table, *, ax=None):
        """Draw a table of `stellarhml benchmark --out`.

        Parameters
        ----------
        table : DataFrame
            One row for each star, with columns `NAME_true` and `NAME_difference` (inferred minus true) for each label;
            other columns, such as `NAME` and `NAME_std`, are not drawn. A column `search` names the methods.
        ax : matplotlib figure or array-like of n_labels matplotlib axes, default=None
            As in `from_predictions`.

        Returns
        -------
        display : InferenceErrorDisplay
            The drawn display.
        """
        names = tuple(name.removesuffix("_difference") for name in table.columns if name.endswith("_difference"))
        if not names or not {f"{name}_true" for name in names} <= set(table.columns):
            raise ValueError(
                f"`table` has columns {list(table.columns)}, but each label needs NAME_true and NAME_difference. "
                "Read a table that stellarhml benchmark --out wrote."
            )
        truth, difference = (
            table[[f"{name}_{part}" for name in names]].to_numpy(np.float64) for part in ("true", "difference")
        )
        method = table.get("search", pd.Series("inferred", index=table.index)).to_numpy(dtype=str)
        return cls(truth=truth, difference=difference, method=method, names=names).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib figure or array-like of n_labels matplotlib axes, default=None
            Given axes have no histograms. None makes a figure.

        Returns
        -------
        self : InferenceErrorDisplay
            The display.
        """
        if ax is None or hasattr(ax, "add_gridspec"):
            ax, self.histogram_ax_ = _make_axes(ax, len(self.names))
        else:
            ax, self.histogram_ax_ = np.ravel(ax), None
        if len(ax) != len(self.names):
            raise ValueError(f"`ax` has {len(ax)} axes; {len(self.names)} are needed, one for each of {self.names}.")
        across = self.names.index("teff") if "teff" in self.names else 0
        methods = list(dict.fromkeys(self.method.tolist()))
        self.points_, self.split_lines_ = [], []
        for k, axes in enumerate(ax):
            self.points_.append(self._draw_differences(axes, k, across, methods))
            if self.histogram_ax_ is not None:
                self._draw_histogram(self.histogram_ax_[k], k, methods)
        ax[-1].set_xlabel(f"true {label_text(self.names[across])}")
        for axes in ax:
            axes.label_outer()
        self.ax_, self.figure_ = tuple(ax), ax[0].figure
        if self.histogram_ax_ is not None:
            self.histogram_ax_[-1].set_xlabel("stars")
            self.figure_.align_ylabels(ax)
        return self

    def _draw_differences(self, axes, k, across, methods):
        """Draw the differences of a label, with mean and standard deviation in the legend."""
        at, points = self.truth[:, across], {}
        unit, digits = _UNITS.get(self.names[k], ("dex", 3))
        axes.axhline(0.0, color="0.4", lw=0.8, zorder=1)
        if self.names[across] == "teff" and at.min(initial=np.inf) < _SPLIT <= at.max(initial=-np.inf):
            self.split_lines_.append(axes.axvline(_SPLIT, color="0.4", lw=0.8, ls="--", zorder=1))
        values = np.unique(at)
        step = 0.0
        if len(values) > 1 and len(methods) > 1:
            step = min(_DODGE * np.ptp(values), _SPREAD * np.diff(values).min() / (len(methods) - 1))
        size = 4.5 if len(at) < _MANY * len(methods) else 3.0
        for i, name in enumerate(methods):
            rows = (self.method == name) & np.isfinite(self.difference[:, k])
            difference = self.difference[rows, k]
            text = name
            if len(difference):
                text += f": mean {difference.mean():+.{digits}f}, std {difference.std():.{digits}f} {unit}".replace(
                    "-", "\N{MINUS SIGN}"
                )
            look = {"ls": "none", "marker": MARKERS[i % len(MARKERS)], "ms": size, "mew": 0.9, "alpha": 0.85}
            (points[name],) = axes.plot(
                at[rows] + step * (i - (len(methods) - 1) / 2),
                difference,
                color=SERIES[i % len(SERIES)],
                mfc=SERIES[i % len(SERIES)] if i == 0 else "none",
                label=text,
                **look,
            )
        limit = _ROOM * np.nanmax(np.abs(self.difference[:, k]), initial=0.0)
        if limit > 0:
            axes.set_ylim(-limit, limit)
        symbol, full = label_symbol(self.names[k]), label_text(self.names[k])
        axes.set_ylabel(full.replace(symbol, f"Δ {symbol}", 1))
        place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.1, "borderpad": 0.1}
        axes.legend(ncols=max(len(methods), 1), fontsize="small", frameon=False, handletextpad=0.2, **place)
        return points

    def _draw_histogram(self, axes, k, methods):
        """Draw the distribution of the differences of a label."""
        low, high = axes.get_ylim()
        for i, name in enumerate(methods):
            difference = self.difference[(self.method == name) & np.isfinite(self.difference[:, k]), k]
            look = {"orientation": "horizontal", "color": SERIES[i % len(SERIES)], "lw": 1.2, "fill": i == 0}
            axes.stairs(*np.histogram(difference, _N_BINS, (low, high)), alpha=0.7 if i == 0 else 1.0, **look)
        axes.axhline(0.0, color="0.4", lw=0.8, zorder=1)
        axes.tick_params(labelleft=False)
        axes.xaxis.get_major_locator().set_params(integer=True)


def _make_axes(figure, n_labels):
    """A column of panels, each with a histogram."""
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(8, 2.4 * n_labels + 0.8), layout="constrained")
    cells = figure.add_gridspec(n_labels, 2, width_ratios=_WIDTHS)
    panels, histograms = [], []
    for k in range(n_labels):
        panels.append(figure.add_subplot(cells[k, 0], sharex=panels[0] if panels else None))
        histograms.append(figure.add_subplot(cells[k, 1], sharey=panels[-1]))
    return panels, tuple(histograms)
