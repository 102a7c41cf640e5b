"""ErrorMapDisplay: error of a generator at held-out nodes, over labels and wavelengths."""

import numpy as np
from scipy import sparse

from stellarhml.plotting._plane import choose_plane, draw_cells, fill_cells, labels_text
from stellarhml.plotting._style import MARKERS, SERIES, label_symbol, label_text

_MAX_POINTS = 2000  # pixels that are drawn one by one
_N_BINS = 600  # otherwise
_PERCENTILES = (5, 50, 95)
_DODGE = 0.008  # of a label's range, between samples held out along different labels
_VALUE_TEXT = {"rms": "rms error", "expected": "rms error within a cell"}


class ErrorMapDisplay:
    """Error of a generator: of each held-out node against its labels, and of the pixels against wavelength.

    Create it with :meth:`from_estimator` or :meth:`from_arrays`; :meth:`plot_map` draws the error over two labels.
    Arrays are attributes; artists end in an underscore.

    Parameters
    ----------
    table : DataFrame
        One row for each point with an error, measured or estimated, as from `ErrorModel.to_frame`: the labels,
        `along`, `measured`, `rms` and `expected`.
    wavelength : ndarray of shape (n_bins,)
        Mean wavelength of each bin of pixels, in angstrom.
    std : ndarray of shape (n_bins, 3)
        5th, 50th and 95th percentile of the standard deviations of its pixels.
    edges : ndarray of shape (n_windows + 1,)
        Edges of the windows, in angstrom.
    window_error : dict of str to ndarray of shape (n_windows,)
        By label, the RMS error in each window from interpolation along that label. These errors and the error at the
        nodes add in quadrature to the error of the pixels.

    Attributes
    ----------
    ax_ : tuple of matplotlib axes
        A panel for each label and one for the wavelengths, or the panels of a map.
    figure_ : matplotlib figure
        Their figure.
    points_ : list of dict of str to matplotlib line
        In the panel of each label, the samples by the label along which nodes were held out.
    median_line_, window_lines_ : matplotlib line, dict of str to matplotlib patch
        Errors of the pixels and of the windows.
    maps_, meshes_ : dict of str to ndarray of shape (n_y, n_x), and to matplotlib mesh
        Maps of :meth:`plot_map` by the label along which nodes were held out; NaN where none was.
    """

    def __init__(self, *, table, wavelength, std, edges, window_error):
        self.table, self.wavelength, self.std = table, wavelength, std
        self.edges, self.window_error = edges, window_error

    @property
    def names(self):
        """Names of the labels."""
        return tuple(self.table.columns[: self.table.columns.get_loc("along")])

    @classmethod
    def from_estimator(cls, generator, *, labels=None, fixed=None, ax=None):
        """Draw the error of a fitted generator.

        Parameters
        ----------
        generator : SpectrumGenerator
            Fitted to spectra.
        labels : tuple of two str, default=None
            Two labels for a map, see :meth:`plot_map`.
        fixed : dict, default=None
            Values of the other labels on the map, by name. Without `labels` and `fixed`, the panels of :meth:`plot` are
            drawn.
        ax : array-like of matplotlib axes, default=None
            Axes. None makes a figure.

        Returns
        -------
        display : ErrorMapDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the error of the generator is unknown, or there are no values for the map.
        """
        model, wavelength = generator.error_map_, generator.wavelength_
        if model is None:
            raise ValueError(
                "`error_map_` of the generator is None: it was built from lines without spectra. Fit a generator to "
                "spectra."
            )
        # the mean over all rows of the grid
        everywhere = sparse.csr_matrix(np.full((1, len(model.gain)), 1 / len(model.gain)))
        squares = (model.scale[:, None] * model.window_rms.astype(np.float64)) ** 2
        table = model.to_frame()
        window_error = {name: np.sqrt(squares[rows].mean(axis=0)) for name, rows in _groups(table)}
        edges = np.append(wavelength[model.windows[:-1]], wavelength[-1:])
        drawn = {"labels": labels, "fixed": fixed, "ax": ax}
        return cls.from_arrays(table, wavelength, model.std(everywhere)[0], edges, window_error, **drawn)

    @classmethod
    def from_arrays(cls, table, wavelength, std, edges, window_error, *, labels=None, fixed=None, ax=None):
        """Draw given arrays.

        Parameters
        ----------
        table, edges, window_error : DataFrame, ndarray, dict
            As in the class.
        wavelength, std : array-like of shape (n_pixels,)
            Wavelengths in angstrom, and standard deviation of each pixel. More than 2,000 pixels are averaged in
            600 bins.
        labels, fixed, ax : tuple of two str, dict, array-like of matplotlib axes
            As in :meth:`from_estimator`.

        Returns
        -------
        display : ErrorMapDisplay
            The drawn display.
        """
        if not len(table):
            raise ValueError(
                "`table` has no rows: the grid is too small to estimate its error. A label needs three values to hold "
                "nodes out, or two for an estimate. Use a larger grid."
            )
        wavelength, std = (np.asarray(values, dtype=np.float64) for values in (wavelength, std))
        if wavelength.ndim != 1 or wavelength.shape != std.shape:
            raise ValueError(
                f"`wavelength` and `std` have shapes {wavelength.shape}, {std.shape}; both need (n_pixels,)."
            )
        bins = np.array_split(np.arange(len(std)), len(std) if len(std) <= _MAX_POINTS else _N_BINS)
        display = cls(
            table=table,
            wavelength=np.array([wavelength[rows].mean() for rows in bins]),
            std=np.array([np.percentile(std[rows], _PERCENTILES) for rows in bins]),
            edges=np.asarray(edges, dtype=np.float64),
            window_error=dict(window_error),
        )
        if labels is None and fixed is None:
            return display.plot(ax=ax)
        return display.plot_map(labels=labels, fixed=fixed, ax=ax)

    def plot(self, *, ax=None):
        """Draw the error against each label and against wavelength.

        Parameters
        ----------
        ax : array-like of n_labels + 1 matplotlib axes, default=None
            One for each label, and one for the wavelengths. None makes a figure.

        Returns
        -------
        self : ErrorMapDisplay
            The display.
        """
        names, own = self.names, ax is None
        ax = _make_axes(len(names)) if own else np.ravel(ax)
        if len(ax) != len(names) + 1:
            raise ValueError(f"`ax` has {len(ax)} axes; {len(names) + 1} are needed: {names} and the wavelengths.")
        *tops, bottom = ax
        self.points_ = [self._draw_label(axes, name) for axes, name in zip(tops, names, strict=True)]
        for axes in tops:
            axes.set_yscale("log")
        tops[0].set_ylabel("rms error / continuum")
        handles = list(self.points_[0].values())
        if own:
            tops[0].figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
        else:
            tops[0].legend(handles=handles, fontsize="x-small")
        self._draw_wavelengths(bottom)
        self.ax_, self.figure_ = tuple(ax), bottom.figure
        return self

    def plot_map(self, *, labels=None, fixed=None, value="rms", ax=None):
        """Draw the error of each node over two labels: one panel for each label along which nodes were held out.

        Parameters
        ----------
        labels : tuple of two str, default=None
            Labels of the horizontal and the vertical axis. None: "teff" and "logg" where both vary, else the first two
            that do.
        fixed : dict, default=None
            Values of the other labels, by name. None, and labels not named: their largest value. A label with only
            two values has its error in the middle between them.
        value : {"rms", "expected"}, default="rms"
            Error of the held-out node, or the error expected within a cell.
        ax : array-like of matplotlib axes, default=None
            One for each panel. None makes a figure.

        Returns
        -------
        self : ErrorMapDisplay
            The display.
        """
        from matplotlib.colors import LogNorm

        table, names = self.table, self.names
        if value not in _VALUE_TEXT:
            raise ValueError(f"`value` is {value!r}; it must be one of {tuple(_VALUE_TEXT)}.")
        if (table["along"] == "all").any():
            raise ValueError("The nodes are scattered, but a map needs a grid. Omit `labels` and `fixed`.")
        places = table[list(names)].to_numpy(dtype=np.float64)
        plane = choose_plane(names, places, labels, fixed)
        here = np.isclose(places[:, plane.rest], plane.point[plane.rest]).all(axis=1)
        panels = [(name, rows[here[rows]]) for name, rows in _groups(table) if here[rows].any()]
        if not panels:
            choices = {names[k]: np.unique(places[:, k]).tolist() for k in plane.rest}
            raise ValueError(f"There is no error estimate where `fixed` is {plane.given}. Choose from {choices}.")
        if ax is None:
            import matplotlib.pyplot as plt

            size = (1.4 + 3.8 * len(panels), 3.4)
            ax = plt.subplots(1, len(panels), figsize=size, layout="constrained", squeeze=False)[1]
        ax = np.ravel(ax)
        if len(ax) != len(panels):
            raise ValueError(f"`ax` has {len(ax)} axes; {len(panels)} are needed: {[name for name, _ in panels]}.")
        errors, measured = table[value].to_numpy(), table["measured"].to_numpy()
        drawn = errors[np.concatenate([rows for _, rows in panels])]
        positive = drawn[drawn > 0]
        norm = LogNorm(positive.min(), positive.max()) if len(positive) else None
        self.maps_, self.meshes_ = {}, {}
        for axes, (name, rows) in zip(ax, panels, strict=True):
            # nodes and middles between nodes lie on different maps
            same_kind = places[here & (measured == measured[rows[0]])]
            x, y = (np.unique(same_kind[:, k]) for k in plane.columns)
            self.maps_[name] = fill_cells(*places[rows][:, plane.columns].T, x, y, errors[rows])
            self.meshes_[name] = draw_cells(axes, plane.axes, x, y, self.maps_[name], norm=norm)
            axes.set_title(_along_text(name, measured[rows[0]]), fontsize="medium")
        for axes in ax[1:]:
            axes.set_ylabel("")
        others = labels_text([names[k] for k in plane.rest], plane.point[plane.rest])
        text = f"{_VALUE_TEXT[value]} / continuum" + (f"\n{others}" if others else "")
        ax[0].figure.colorbar(self.meshes_[panels[0][0]], ax=list(ax), label=text)
        self.ax_, self.figure_ = tuple(ax), ax[0].figure
        return self

    def _draw_label(self, axes, name):
        """Samples against one label."""
        points, at, groups = {}, self.table[name].to_numpy(dtype=np.float64), _groups(self.table)
        step = _DODGE * (np.ptp(at) or 1.0)
        for k, (along, rows) in enumerate(groups):
            measured = bool(self.table["measured"].iloc[rows[0]])
            colour = SERIES[k % len(SERIES)]
            look = {"ls": "none", "marker": MARKERS[k % len(MARKERS)], "ms": 4, "mew": 0.8, "alpha": 0.8}
            (points[along],) = axes.plot(
                at[rows] + step * (k - (len(groups) - 1) / 2),
                self.table["rms"].iloc[rows],
                color=colour,
                mfc=colour if measured else "none",
                label=_along_text(along, measured),
                **look,
            )
        axes.set_xlabel(label_text(name))
        return points

    def _draw_wavelengths(self, axes):
        """Errors of the pixels and of the windows."""
        low, median, high = self.std.T
        label = "pixels: median" if (binned := (high > low).any()) else "pixels"
        (self.median_line_,) = handles = axes.plot(self.wavelength, median, color="k", lw=0.8, label=label)
        if binned:
            band = axes.fill_between(self.wavelength, low, high, color="0.75", lw=0, label="5 to 95 %")
            handles.append(band)
        self.window_lines_ = {}
        for k, (name, error) in enumerate(self.window_error.items()):
            text = "rms" if name == "all" else f"rms of the part along {label_symbol(name)}"
            colour = SERIES[k % len(SERIES)]
            self.window_lines_[name] = axes.stairs(error, self.edges, baseline=None, color=colour, lw=1.6, label=text)
            handles.append(self.window_lines_[name])
        axes.set(yscale="log", xlim=self.edges[[0, -1]])
        axes.set(xlabel="Vacuum wavelength [Å]", ylabel="error within a cell / continuum")
        place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.0, "ncols": len(handles)}
        axes.legend(handles=handles, fontsize="small", frameon=False, **place)


def _groups(table):
    """Name and rows of the samples held out along each label, in the order of the table."""
    along = table["along"].to_numpy()
    return [(name, np.flatnonzero(along == name)) for name in dict.fromkeys(along)]


def _along_text(name, measured):
    """Legend text of the samples of a label."""
    if name == "all":
        return "held out"
    if measured:
        return f"held out along {label_symbol(name)}"
    return f"middle between the only two {label_symbol(name)}, not held out"


def _make_axes(n_labels):
    """A row of panels and one wide panel below."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(10, 6), layout="constrained")
    rows = figure.add_gridspec(2, n_labels)
    first = figure.add_subplot(rows[0, 0])
    tops = [first, *(figure.add_subplot(rows[0, k], sharey=first) for k in range(1, n_labels))]
    for axes in tops[1:]:
        axes.tick_params(which="both", labelleft=False)
    return [*tops, figure.add_subplot(rows[1, :])]
