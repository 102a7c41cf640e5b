"""CornerDisplay: the posterior of the parameters of a star, in pairs."""

import numpy as np
from scipy.ndimage import gaussian_filter

from stellarhml._rounding import decimals
from stellarhml.plotting._result_text import check_result, quality_text
from stellarhml.plotting._style import MODEL, SERIES, label_symbol, label_text

_LEVELS = (1 - np.exp(-0.5), 1 - np.exp(-2.0))  # probability within 1 and 2 sigma of two Gaussian parameters
_INTERVAL = (15.865, 84.135)  # percentiles of the central 68 %
_CONTOURS = ("auto", "draws", "covariance")
_SMOOTH = 1.5  # bins, standard deviation
_SIZE, _MARGINS = 2.0, (0.95, 0.3, 0.9, 0.85)  # inches: of a panel; left, right, below and above
_NEAR = 3.0  # sigma: a nearer bound cuts the posterior, which is then not Gaussian


class CornerDisplay:
    """Posterior of a star: histograms of the parameters, and contours for each pair.

    Contours hold 39 % and 86 % of the probability, like ellipses of one and two standard deviations. Create it with
    :meth:`from_result`. Arrays are attributes; artists end in an underscore.

    Parameters
    ----------
    names : sequence of str
        Names of the parameters: labels, "rv" and "vsini" (km/s).
    draws : ndarray of shape (n_draws, n_parameters)
        Draws from the posterior.
    bounds : ndarray of shape (n_parameters, 2), default=None
        Bounds of the parameters. None: unbounded.
    mean : ndarray of shape (n_parameters,), default=None
        Centre of the ellipses.
    covariance : ndarray of shape (n_parameters, n_parameters), default=None
        Covariance, for ellipses as contours. None: contours of the density of the draws.
    truths : dict, default=None
        True values by name, where they are known.
    title : str, default=None
        Text above the figure.

    Attributes
    ----------
    ax_ : ndarray of shape (n_parameters, n_parameters), matplotlib axes
        Panels; those above the diagonal are empty.
    figure_ : matplotlib figure
        Their figure.
    contours_ : dict of (str, str) to list
        Contours of one and two sigma by pair of parameters, abscissa first.
    truth_lines_ : list of matplotlib line
        Lines at true values.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.plotting import CornerDisplay
    >>> draws = np.random.default_rng(0).normal([5800.0, 4.4], [20.0, 0.1], size=(500, 2))
    >>> CornerDisplay(names=("teff", "logg"), draws=draws).summary("teff")
    'T_eff: 5798 +20 -19'
    """

    def __init__(self, *, names, draws, bounds=None, mean=None, covariance=None, truths=None, title=None):
        self.names, self.draws, self.bounds = tuple(names), draws, bounds
        self.mean, self.covariance, self.truths, self.title = mean, covariance, truths, title

    @classmethod
    def from_result(
        cls, result, *, names=None, n_draws=2000, truths=None, contours="auto", random_state=0, title=None, ax=None
    ):
        """Draw the posterior of a star.

        Parameters
        ----------
        result : InferenceResult
            As from `BayesianStellarRegressor.infer`.
        names : sequence of str, default=None
            Parameters to draw. None draws all free parameters.
        n_draws : int, default=2000
            Number of draws, by `result.sample`.
        truths : dict, default=None
            True values by name, drawn as lines. Values of parameters that are not drawn are ignored.
        contours : {"auto", "draws", "covariance"}, default="auto"
            "covariance": ellipses. "draws": contours of the density of the draws. "auto": ellipses if the posterior is
            Gaussian, that is, was not sampled and has no bound within three standard deviations; else "draws".
        random_state : int, RandomState instance or None, default=0
            Seed of the draws.
        title : str, default=None
            Text above the figure. None: reduced chi-square and flags.
        ax : array of n_parameters x n_parameters matplotlib axes, default=None
            Axes. None makes a figure.

        Returns
        -------
        display : CornerDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the inference failed, or a name is not a free parameter.
        """
        check_result(result)
        if contours not in _CONTOURS:
            raise ValueError(f"`contours` is {contours!r}; it must be one of {_CONTOURS}.")
        free = [name for name in result.names if result.errors[name] > 0]
        names = tuple(free if names is None else names)
        if not names or not set(names) <= set(free) or len(set(names)) < len(names):
            raise ValueError(
                f"`names` is {names}, but the free parameters are {tuple(free)}. Name each one to draw once."
            )
        truths = dict(truths or {})
        if not set(truths) <= set(result.names):
            raise ValueError(
                f"`truths` names {tuple(truths)}, but the parameters are {tuple(result.names)}. Use these names."
            )
        columns = [list(result.names).index(name) for name in names]
        covariance = result.covariance[np.ix_(columns, columns)]
        bounds, mean = (np.array([part[name] for name in names]) for part in (result.bounds, result.values))
        if contours == "auto":
            with np.errstate(invalid="ignore"):
                distance = np.abs(bounds - mean[:, None]) / np.sqrt(np.diag(covariance))[:, None]
            gaussian = result.draws is None and distance.min() > _NEAR
            contours = "covariance" if gaussian else "draws"
        if contours == "covariance" and not np.isfinite(covariance).all():
            raise ValueError("The covariance is not finite, but ellipses need it. Use contours='draws'.")
        display = cls(
            names=names,
            draws=result.sample(n_draws, random_state=random_state)[:, columns],
            bounds=bounds,
            mean=mean,
            covariance=covariance if contours == "covariance" else None,
            truths={name: float(value) for name, value in truths.items() if name in names},
            title=quality_text(result) if title is None else title,
        )
        return display.plot(ax=ax)

    def summary(self, name):
        """Mean of a parameter and its central 68 % interval, as text.

        Parameters
        ----------
        name : str
            Name of the parameter.

        Returns
        -------
        text : str
            Such as "RV: 12.31 +0.04 -0.03".
        """
        mean, low, high = self._interval(name)
        digits = decimals(max((high - low) / 2, 1e-12))
        symbol = label_symbol(name).replace("$", "").replace(r"\mathrm{eff}", "eff")
        return f"{symbol}: {mean:.{digits}f} +{high - mean:.{digits}f} -{mean - low:.{digits}f}"

    def plot(self, *, ax=None):
        """Draw the display.

        Parameters
        ----------
        ax : array of n_parameters x n_parameters matplotlib axes, default=None
            Axes. None makes a figure.

        Returns
        -------
        self : CornerDisplay
            The display.
        """
        n = len(self.names)
        own = ax is None
        ax = _make_axes(n) if own else np.asarray(ax)
        if ax.size != n * n:
            raise ValueError(f"`ax` has {ax.size} axes; {n} x {n} are needed, for {self.names}.")
        self.ax_ = ax.reshape(n, n)
        self.contours_, self.truth_lines_ = {}, []
        limits = [self._limits(k) for k in range(n)]
        for (row, column), axes in np.ndenumerate(self.ax_):
            if column > row:
                axes.axis("off")
                continue
            if column == row:
                self._draw_histogram(axes, column, limits[column])
            else:
                self._draw_pair(axes, column, row, limits)
            self._draw_truths(axes, column, row)
            _label(axes, self.names[column], self.names[row], bottom=row == n - 1, left=column == 0 < row)
        self._add_legend()
        self.figure_ = self.ax_[0, 0].figure
        if own:
            self.figure_.align_labels()
        return self

    def _interval(self, name):
        values = self.draws[:, self.names.index(name)]
        return values.mean(), *np.percentile(values, _INTERVAL)

    def _limits(self, k):
        """Limits of an axis: nearly all draws and the true value, within the bounds."""
        values = self.draws[:, k]
        low, high = np.percentile(values, (0.05, 99.95))
        margin = 0.15 * (high - low) or 1.0
        low, high = low - margin, high + margin
        if self.bounds is not None:
            low, high = max(low, self.bounds[k][0]), min(high, self.bounds[k][1])
        truth = (self.truths or {}).get(self.names[k], low)
        return min(low, truth - margin * (truth < low)), max(high, truth + margin * (truth > high))

    def _draw_histogram(self, axes, k, limits):
        name = self.names[k]
        mean, low, high = self._interval(name)
        n_bins = int(np.clip(np.sqrt(len(self.draws)) / 1.5, 8, 40))
        axes.hist(self.draws[:, k], bins=n_bins, histtype="stepfilled", fc="0.88", ec="0.35", lw=0.8)
        axes.axvspan(low, high, color=SERIES[0], alpha=0.2, lw=0)
        axes.axvline(mean, color=SERIES[0], lw=1.2)
        digits = decimals(max((high - low) / 2, 1e-12))
        ends = f"^{{+{high - mean:.{digits}f}}}_{{-{mean - low:.{digits}f}}}"
        axes.set_title(f"{label_symbol(name)} = ${mean:.{digits}f}{ends}$", fontsize="medium")
        axes.set(xlim=limits, yticks=[])

    def _draw_pair(self, axes, column, row, limits):
        x, y = self.draws[:, column], self.draws[:, row]
        axes.plot(x, y, ls="none", marker="o", ms=1.3, mew=0, color="0.6", alpha=0.6, rasterized=True)
        draw = self._draw_density if self.covariance is None else self._draw_ellipses
        self.contours_[self.names[column], self.names[row]] = draw(axes, column, row, limits)
        axes.set(xlim=limits[column], ylim=limits[row])

    def _draw_ellipses(self, axes, column, row, limits):
        pair = [column, row]
        values, vectors = np.linalg.eigh(self.covariance[np.ix_(pair, pair)])
        angle = np.linspace(0, 2 * np.pi, 201)
        circle = (vectors * np.sqrt(np.maximum(values, 0.0))) @ [np.cos(angle), np.sin(angle)]
        drawn = []
        for sigma, width in ((1, 1.6), (2, 0.9)):
            x, y = self.mean[pair][:, None] + sigma * circle
            drawn += axes.plot(x, y, color=SERIES[0], lw=width)
        return drawn

    def _draw_density(self, axes, column, row, limits):
        """Contours of the smoothed histogram: the densest bins that hold 39 and 86 % of the draws."""
        n_bins = int(np.clip(len(self.draws) ** 0.5 / 1.5, 10, 60))
        ends = [limits[column], limits[row]]
        counts, x, y = np.histogram2d(self.draws[:, column], self.draws[:, row], bins=n_bins, range=ends)
        # no smoothing across a bound
        density = gaussian_filter(counts, _SMOOTH, mode="reflect")
        falling = np.sort(density.ravel())[::-1]
        held = np.cumsum(falling) / falling.sum()
        levels = np.unique([falling[np.searchsorted(held, level)] for level in _LEVELS])
        # contours reach the ends of the axes, where a bound may be
        density = np.pad(density, 1, mode="edge")
        centers = [np.concatenate([e[:1], (e[1:] + e[:-1]) / 2, e[-1:]]) for e in (x, y)]
        return [axes.contour(*centers, density.T, levels=levels, colors=SERIES[0], linewidths=(0.9, 1.6))]

    def _draw_truths(self, axes, column, row):
        truths, look = self.truths or {}, {"color": MODEL, "lw": 1.2, "ls": "--"}
        if self.names[column] in truths:
            self.truth_lines_.append(axes.axvline(truths[self.names[column]], **look))
        if row != column and self.names[row] in truths:
            self.truth_lines_.append(axes.axhline(truths[self.names[row]], **look))

    def _add_legend(self):
        """Title and legend, in the empty corner."""
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], color=SERIES[0], lw=1.6, label="1 sigma, 39 %"),
            Line2D([], [], color=SERIES[0], lw=0.9, label="2 sigma, 86 %"),
        ]
        handles = handles if len(self.names) > 1 else []
        if self.truths:
            handles.append(Line2D([], [], color=MODEL, lw=1.2, ls="--", label="truth"))
        corner = self.ax_[0, -1]
        if handles:
            corner.legend(handles=handles, loc="upper right", fontsize="small", frameon=False)
        if self.title:
            self.ax_[0, 0].figure.suptitle(self.title, fontsize="medium", ha="left", x=0.02, y=0.99, va="top")


def _make_axes(n):
    import matplotlib.pyplot as plt

    left, right, bottom, top = _MARGINS
    width, height = _SIZE * n + left + right, _SIZE * n + bottom + top
    place = {"left": left / width, "right": 1 - right / width, "bottom": bottom / height, "top": 1 - top / height}
    grid = {**place, "wspace": 0.1, "hspace": 0.1}
    return plt.subplots(n, n, figsize=(width, height), gridspec_kw=grid, squeeze=False)[1]


def _label(axes, x_name, y_name, *, bottom, left):
    """Labels on the outer panels, few ticks, and no offset in their numbers."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    axes.xaxis.set_major_locator(MaxNLocator(4, prune="both"))
    axes.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    axes.tick_params(labelsize="small", labelbottom=bottom, labelleft=left)
    axes.tick_params(axis="x", labelrotation=45)
    if bottom:
        axes.set_xlabel(label_text(x_name))
    if x_name != y_name:
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    if left:
        axes.set_ylabel(label_text(y_name))
