"""InferenceDisplay: an observed spectrum, its best model, and the residuals."""

import numpy as np

from stellarhml.physics.wavelength import doppler_shift
from stellarhml.plotting._line_labels import lines_to_label, write_labels
from stellarhml.plotting._residual_curves import break_gaps, rms, running_rms, shade
from stellarhml.plotting._result_text import check_result, result_title
from stellarhml.plotting._style import MODEL, NOISE, OBSERVED, RESIDUAL, SERIES, UNUSED

_MANY = 5000  # pixels of a panel that are drawn as an image, in thinner lines
_ROOM, _ROOM_SPECIES = 0.72, 0.62  # of the height of a panel that spectra take where lines are labelled
_UNITS = {"error": "Residual /\nerror", "continuum": "Residual /\ncontinuum"}


class InferenceDisplay:
    """Observed spectrum of a star and its best model, over the continuum, with residuals below.

    Where the atmosphere was fitted with the star, its transmission has a panel between them.

    Create it with :meth:`from_result`. Arrays are attributes, and artists end in an underscore.

    Parameters
    ----------
    wavelength : list of ndarray of shape (n_pixels,)
        Vacuum wavelengths of each order in angstrom, as observed.
    flux, model : list of ndarray of shape (n_pixels,)
        Data and model over the continuum. NaN beyond the generator's band, where there is no continuum.
    error : list of ndarray of shape (n_pixels,)
        Standard deviations of `flux`, the model's error included; infinite where a pixel was not used.
    transmission : list of ndarray of shape (n_pixels,), default=None
        Transmission of the atmosphere as observed, if it was fitted.
    numbers : list of int, default=None
        Numbers of the orders. None counts from 0.
    lines : DataFrame, default=None
        Lines by catalogue wavelength, with their `depth`, `observed` wavelength in angstrom and, if known, `species`.
    n_lines : int, default=0
        Largest number of labelled lines in a panel.
    title : str, default=None
        Text above the figure.

    Attributes
    ----------
    ax_ : tuple of matplotlib axes
        Two for each row: fluxes, residuals; three with a transmission, which comes between.
    figure_ : matplotlib figure
        Their figure.
    flux_lines_, unused_lines_, model_lines_, residual_lines_, transmission_lines_ : list of matplotlib line
        Artists of each row; none of a transmission where there is none.
    line_texts_ : list of list of matplotlib text
        Labels of the lines in each row.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.plotting import InferenceDisplay
    >>> order = {"flux": [np.array([1, 0.5, 1])], "model": [np.array([1, 0.6, 1])], "error": [np.full(3, 0.1)]}
    >>> display = InferenceDisplay(wavelength=[np.arange(3.0)], **order)
    >>> display.residual("error")[0]
    array([ 0., -1.,  0.])
    """

    def __init__(
        self, *, wavelength, flux, model, error, transmission=None, numbers=None, lines=None, n_lines=0, title=None
    ):
        self.wavelength, self.flux, self.model, self.error = wavelength, flux, model, error
        self.transmission = transmission
        self.numbers = list(range(len(wavelength))) if numbers is None else list(numbers)
        self.lines, self.n_lines, self.title = lines, n_lines, title

    def residual(self, unit="error"):
        """Flux minus model.

        Parameters
        ----------
        unit : {"error", "continuum"}, default="error"
            Unit of the residual.

        Returns
        -------
        residual : list of ndarray of shape (n_pixels,)
            Residual of each order, NaN where a pixel was not used.
        """
        parts = []
        for flux, model, error in zip(self.flux, self.model, self.error, strict=True):
            left = np.where(np.isfinite(error), flux - model, np.nan)
            parts.append(left / error if unit == "error" else left)
        return parts

    @classmethod
    def from_result(
        cls, result, *, orders=None, generator=None, n_lines=0, residual="error", window=None, title=None, ax=None
    ):
        """Draw the spectrum and the best model of a star.

        Parameters
        ----------
        result : InferenceResult
            As from `BayesianStellarRegressor.infer`.
        orders : sequence of int, default=None
            Orders to draw in detail, one row each, by their numbers in the file, as in messages (from 0 where there are
            none). None draws all orders within the generator's band along one axis.
        generator : SpectrumGenerator, default=None
            The regressor's generator. Needed to label lines.
        n_lines : int, default=0
            Largest number of lines to label in each row: the deepest whose labels do not overlap. A label is the
            wavelength of the line in `generator.line_table`, in angstrom and at rest, with its species where the
            generator has tags (`SpectrumGenerator.tag_lines`): "Fe I 8516.41".
        residual, window, ax : str, tuple of (float, float), array-like of matplotlib axes
            As in :meth:`plot`.
        title : str, default=None
            Text above the figure. None: parameters with their errors, reduced chi-square and flags.

        Returns
        -------
        display : InferenceDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the inference failed, or lines are to be labelled without a generator.
        """
        check_result(result)
        if n_lines and generator is None:
            raise ValueError(f"`n_lines` is {n_lines}, but labels of lines need the generator. Pass `generator`, too.")
        lines = None
        if n_lines:
            table = generator.line_table([result.values[name] for name in generator.label_names_])
            observed = doppler_shift(table["center"], result.values["rv"])
            lines = table.filter(["depth", "species"]).assign(observed=observed)
        columns = {"wavelength": [], "flux": [], "model": [], "error": [], "numbers": []}
        for order in result.orders:
            # pixels that are not used may have any value
            with np.errstate(invalid="ignore", over="ignore"):
                total = np.sqrt(order.error**2 + order.model_error**2 + (result.jitter * order.continuum) ** 2)
                error = np.where(np.isfinite(order.error), total / order.continuum, np.inf)
            parts = (order.wavelength, order.flux / order.continuum, order.model / order.continuum, error, order.number)
            for column, part in zip(columns.values(), parts, strict=True):
                column.append(part)
        title = result_title(result) if title is None else title
        if result.orders and result.orders[0].transmission is not None:
            columns["transmission"] = [order.transmission for order in result.orders]
        display = cls(**columns, lines=lines, n_lines=n_lines, title=title)
        return display.plot(orders=orders, residual=residual, window=window, ax=ax)

    def plot(self, *, orders=None, residual="error", window=None, ax=None):
        """Draw the display.

        Parameters
        ----------
        orders : sequence of int, default=None
            Orders to draw in detail, one row each, by their `numbers`. None draws all along one axis.
        residual : {"error", "continuum"}, default="error"
            Unit of the residuals.
        window : tuple of (float, float), default=None
            Wavelengths to show, in angstrom. None shows all.
        ax : array-like of matplotlib axes, default=None
            Two for each row, one for fluxes, one for residuals, or three with one for the transmission between them.
            None makes a figure.

        Returns
        -------
        self : InferenceDisplay
            The display.
        """
        if residual not in _UNITS:
            raise ValueError(f"`residual` is {residual!r}; it must be one of {tuple(_UNITS)}.")
        rows = self._rows(orders, window)
        n = 2 if self.transmission is None else 3
        ax = _make_axes(len(rows), n, overview=orders is None) if ax is None else np.ravel(ax)
        if len(ax) != n * len(rows):
            words = {2: "two", 3: "three"}[n]
            raise ValueError(
                f"`ax` has {len(ax)} axes; {n * len(rows)} are needed, {words} for each of {len(rows)} rows."
            )
        self.flux_lines_, self.unused_lines_, self.model_lines_, self.residual_lines_ = [], [], [], []
        self.line_texts_, self.transmission_lines_ = [], []
        for top, bottom, row in zip(ax[::n], ax[n - 1 :: n], rows, strict=True):
            handles = self._draw_fluxes(top, row) + self._draw_residuals(bottom, row, residual, orders is None)
            low, high = np.nanmin(row["wavelength"]), np.nanmax(row["wavelength"])
            margin = 0.005 * (high - low) or 0.5
            for axes in (top, bottom):
                shade(axes, row["wavelength"], row["unused"] == 1)
            top.set(xlim=(low - margin, high + margin), ylabel="Flux / continuum")
            bottom.set(xlim=(low - margin, high + margin), ylabel=_UNITS[residual])
            top.tick_params(labelbottom=False)
            if n == 3:
                middle = ax[list(ax).index(top) + 1]
                self._draw_transmission(middle, row)
                middle.set(xlim=(low - margin, high + margin), ylabel="Trans-\nmission")
                middle.tick_params(labelbottom=False)
            if top is ax[0]:
                # above the axes, which the spectrum fills from top to bottom
                place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.0}
                look = {"fontsize": "small", "frameon": False, "handlelength": 1.5, "columnspacing": 1.2}
                legend = top.legend(handles=handles, ncols=len(handles), **place, **look)
                for handle in legend.legend_handles:
                    handle.set(linewidth=1.2, markersize=4)
        bottom.set_xlabel("Vacuum wavelength [Å]")
        if self.title:
            ax[0].set_title(self.title, fontsize="small", loc="left", pad=20)
        self.ax_, self.figure_ = tuple(ax), ax[0].figure
        self.figure_.align_ylabels(ax)
        return self

    def _rows(self, orders, window):
        """Arrays of each row, with NaN in gaps and between orders."""
        used = [k for k, error in enumerate(self.error) if np.isfinite(error).any()]
        names = {self.numbers[k]: k for k in used}
        chosen = [used] if orders is None else [[names.get(int(number))] for number in np.ravel(orders)]
        if not used or not chosen or [None] in chosen:
            raise ValueError(
                f"`orders` is {orders}, but orders with pixels in use are {list(names)}. Choose one or more of these."
            )
        low, high = (-np.inf, np.inf) if window is None else window
        rows = []
        for row in chosen:
            parts = []
            for k in row:
                wavelength, unused = self.wavelength[k], ~np.isfinite(self.error[k])
                kept = np.isfinite(self.model[k]) & (wavelength >= low) & (wavelength <= high)
                air = np.ones(len(wavelength)) if self.transmission is None else self.transmission[k]
                columns = (wavelength, self.flux[k], self.model[k], self.error[k], unused, air)
                if (kept & ~unused).any():
                    parts.append(break_gaps(np.array(columns, dtype=np.float64)[:, kept]))
            if not parts:
                span = self.wavelength[row[0]][0], self.wavelength[row[-1]][-1]
                raise ValueError(
                    f"`window`={tuple(window)} holds no pixel in use of {self._name(row)}, which is from {span[0]:.2f} "
                    f"to {span[1]:.2f} angstrom. Pass (lowest, highest) within this range."
                )
            names = "wavelength", "flux", "model", "error", "unused", "transmission"
            joined = dict(zip(names, np.hstack(parts), strict=True))
            rows.append(joined | {"name": self._name(row)})
        return rows

    def _name(self, row):
        return f"order {self.numbers[row[0]]}" if len(row) == 1 else f"{len(row)} orders"

    def _draw_fluxes(self, top, row):
        """Draw data and model of a row; returns the artists for the legend."""
        x, flux, unused = row["wavelength"], row["flux"], row["unused"] == 1
        many = len(x) > _MANY
        look = {"lw": 0.4 if many else 0.7, "rasterized": many}
        seen = np.where(unused, np.nan, flux)
        (line,) = top.step(x, seen, where="mid", color=OBSERVED, label="spectrum", **look)
        (model,) = top.plot(x, row["model"], color=MODEL, lw=0.4 if many else 0.9, rasterized=many, label="model")
        # noisy pixels, as at the ends of orders, do not set the scale
        precise = np.where(row["error"] < 5 * np.nanmedian(row["error"][~unused]), seen, np.nan)
        extremes = [*np.nanpercentile(precise, (0.2, 99.8)), np.nanmin(row["model"]), np.nanmax(row["model"])]
        low, high = min(extremes), max(extremes)
        margin = 0.05 * max(high - low, 1e-3)
        low, high = low - margin, high + margin
        # pixels off the scale are drawn at its ends; missing fluxes are zero and are not drawn
        place = np.clip(np.where(unused & (flux != 0), flux, np.nan), low, high)
        dots = {"ls": "none", "marker": "o", "ms": 1.8, "mew": 0, "color": UNUSED, "zorder": 1.5, "rasterized": many}
        (left_out,) = top.plot(x, place, label="not used", clip_on=False, **dots)
        self.flux_lines_.append(line)
        self.model_lines_.append(model)
        self.unused_lines_.append(left_out)
        self.line_texts_.append(self._label_lines(top, row))
        left = np.where(unused, np.nan, flux - row["model"])
        scatter = 1.4826 * np.nanmedian(np.abs(left))
        text = f"{row['name']}: residual rms {rms(left / row['error']):.2f} x error, scatter {scatter:.2g} x continuum"
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
        top.annotate(text, (0, 1), (0, 3), fontsize="small", **place)
        top.set_ylim(low, low + (high - low) / self._room)
        return [line, *([left_out] if unused.any() else []), model]

    def _draw_transmission(self, middle, row):
        """Draw the transmission of the atmosphere of a row."""
        many = len(row["wavelength"]) > _MANY
        look = {"color": SERIES[0], "lw": 0.4 if many else 0.9, "rasterized": many}
        self.transmission_lines_ += middle.plot(row["wavelength"], row["transmission"], **look)
        middle.set_ylim(-0.05, 1.08)

    def _draw_residuals(self, bottom, row, unit, overview):
        """Draw residuals of a row; returns the artists for the legend."""
        x, error = row["wavelength"], np.where(row["unused"] == 0, row["error"], np.nan)
        many = len(x) > _MANY
        left = np.where(np.isfinite(error), row["flux"] - row["model"], np.nan)
        ratio = left / error
        shown, scale = (ratio, np.where(np.isfinite(error), 1.0, np.nan)) if unit == "error" else (left, error)
        look = {"lw": 0.3 if many else 0.6, "rasterized": many}
        self.residual_lines_ += bottom.step(x, shown, where="mid", color=RESIDUAL, **look)
        bottom.axhline(0.0, color="0.3", lw=0.6)
        handles = []
        if overview:
            centers, size, n_pixels = running_rms(x, shown)
            handles += bottom.plot(centers, size, color=SERIES[0], lw=1.1, label=f"rms of {n_pixels} pixels")
        for sign in (-1, 1):
            (edge,) = bottom.plot(x, sign * scale, ls="--", color=NOISE, lw=0.7, label="1 std", rasterized=many)
        limit = 1.1 * max(np.nanpercentile(np.abs(shown), 99.8), np.nanmedian(scale) * 2)
        bottom.set_ylim(-limit, limit)
        return [*handles, edge]

    def _label_lines(self, top, row):
        """Label the deepest lines of a row, as far as labels do not overlap."""
        if self.lines is None:
            return []
        chosen = lines_to_label(self.lines, self.n_lines, row["wavelength"])
        for x, _ in chosen:
            top.axvline(x, self._room, self._room + 0.04, color="0.3", lw=0.6)
        return write_labels(top, chosen, self._room + 0.05, va="bottom")

    @property
    def _room(self):
        """Part of the height of a panel that spectra take."""
        if self.lines is None:
            return 1.0
        return _ROOM_SPECIES if "species" in self.lines else _ROOM


def _make_axes(n_rows, n, *, overview):
    """Axes for rows of `n` panels, fluxes above residuals, and transmission between them."""
    import matplotlib.pyplot as plt

    between = (0.9,) * (n - 2)
    if overview:
        size = {"figsize": (11, 5.5 + 1.2 * (n - 2)), "layout": "constrained"}
        return plt.subplots(n, 1, height_ratios=(3, *between, 1.6), **size)[1]
    figure = plt.figure(figsize=(11, 0.8 + (3.2 + 0.8 * (n - 2)) * n_rows), layout="constrained")
    return figure.subplots(n * n_rows, 1, height_ratios=(3, *between, 1.2) * n_rows)
