"""ManifoldDisplay: one parameter of one line over two labels."""

import numpy as np
from scipy import sparse

from stellarhml.plotting._style import COLOUR_MAP, label_text, parameter_text

_LINE_TOLERANCE = 0.5  # angstrom: how far the line that is asked for may be from one of the catalogue


class ManifoldDisplay:
    """One parameter of one spectral line over two labels: at the nodes of the grid, and interpolated between them.

    Create it with :meth:`from_estimator`. Arrays are attributes; artists end in an underscore.

    Parameters
    ----------
    axes : tuple of two str
        Names of the labels, horizontal and vertical.
    node_x, node_y : ndarray of shape (n_x,) and (n_y,)
        Values of the labels at the nodes.
    node_values : ndarray of shape (n_y, n_x)
        Parameter at the nodes, NaN where the line or the node is absent.
    fine_x, fine_y : ndarray of shape (n_fine_x,) and (n_fine_y,)
        Values of the labels between.
    fine_values : ndarray of shape (n_fine_y, n_fine_x)
        Parameter there.
    parameter : str
        What the parameter is, for the colour bar.
    title : str
        Line and fixed labels.

    Attributes
    ----------
    ax_ : tuple of two matplotlib axes
        Nodes and interpolation.
    figure_ : matplotlib figure
        Their figure.
    node_mesh_, fine_mesh_ : matplotlib mesh
        The two maps, on one scale of colours.
    """

    def __init__(self, *, axes, node_x, node_y, node_values, fine_x, fine_y, fine_values, parameter, title):
        self.axes = axes
        self.node_x, self.node_y, self.node_values = node_x, node_y, node_values
        self.fine_x, self.fine_y, self.fine_values = fine_x, fine_y, fine_values
        self.parameter, self.title = parameter, title

    @classmethod
    def from_estimator(
        cls,
        generator,
        *,
        line=None,
        parameter="log_amplitude",
        labels=("teff", "logg"),
        fixed=None,
        n_fine=60,
        ax=None,
    ):
        """Draw a line's manifold of a fitted generator.

        Parameters
        ----------
        generator : SpectrumGenerator
            Fitted generator of at least two labels.
        line : float, default=None
            Wavelength of the line, in angstrom. None takes the line of largest equivalent width in the middle of the
            grid.
        parameter : str, default="log_amplitude"
            Parameter of the line, one of the decomposer's `line_parameters`.
        labels : tuple of two str, default=("teff", "logg")
            Labels of the horizontal and the vertical axis.
        fixed : dict, default=None
            Values of the other labels, by name. None, and labels not named: their largest value in the grid.
        n_fine : int, default=60
            Points along each axis of the interpolated map.
        ax : pair of matplotlib axes, default=None
            Axes for nodes and interpolation. None makes a figure.

        Returns
        -------
        display : ManifoldDisplay
            The drawn display.
        """
        names, bounds = generator.label_names_, generator.interpolator_.bounds_
        parameters = generator.decomposer_.line_parameters
        fixed = dict(fixed or {})
        unknown = [name for name in (*labels, *fixed) if name not in names]
        if unknown or len(set(labels)) != 2:
            raise ValueError(f"`labels` is {labels} and `fixed` {fixed}, but the grid has {names}. Name two of them.")
        if parameter not in parameters:
            raise ValueError(f"`parameter` is {parameter!r}, but the lines have {parameters}. Name one of them.")
        centre = bounds.mean(axis=1)
        rest = [k for k, name in enumerate(names) if name not in labels]
        point = bounds[:, 1].copy()
        point[[names.index(name) for name in fixed]] = list(fixed.values())
        index = _choose_line(generator, line, centre)
        column = index * len(parameters) + parameters.index(parameter)
        x, y = (names.index(name) for name in labels)
        nodes = generator.interpolator_.nodes_
        plane = nodes[np.isclose(nodes[:, rest], point[rest]).all(axis=1)] if rest else nodes
        node_x, node_y = np.unique(nodes[:, x]), np.unique(nodes[:, y])
        node_values = np.full((node_y.size, node_x.size), np.nan)
        if len(plane):
            place = np.searchsorted(node_y, plane[:, y]), np.searchsorted(node_x, plane[:, x])
            node_values[place] = _column(generator, plane, column)
        fine_x, fine_y = (np.linspace(*bounds[k], n_fine) for k in (x, y))
        points = np.tile(point, (n_fine * n_fine, 1))
        points[:, x], points[:, y] = (values.ravel() for values in np.meshgrid(fine_x, fine_y))
        others = ", ".join(f"{label_text(names[k]).split(' [')[0]} = {point[k]:g}" for k in rest)
        wavelength = generator.decomposer_.line_catalog_[index]
        return cls(
            axes=tuple(labels),
            node_x=node_x,
            node_y=node_y,
            node_values=node_values,
            fine_x=fine_x,
            fine_y=fine_y,
            fine_values=_column(generator, points, column).reshape(n_fine, n_fine),
            parameter=parameter_text(parameter, saturates="logit_depth" in parameters),
            title=f"line at {wavelength:.2f} Å" + (f", {others}" if others else ""),
        ).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the display.

        Parameters
        ----------
        ax : pair of matplotlib axes, default=None
            Axes for nodes and interpolation. None makes a figure.

        Returns
        -------
        self : ManifoldDisplay
            The display.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")[1]
        left, right = ax
        everything = np.concatenate([self.node_values.ravel(), self.fine_values.ravel()])
        finite = everything[np.isfinite(everything)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        scale = {"cmap": COLOUR_MAP, "vmin": low, "vmax": high, "shading": "nearest", "rasterized": True}
        self.node_mesh_ = left.pcolormesh(
            self.node_x, self.node_y, self.node_values, edgecolors="white", lw=0.5, **scale
        )
        self.fine_mesh_ = right.pcolormesh(self.fine_x, self.fine_y, self.fine_values, **scale)
        left.set(title=f"{self.title}: nodes", ylabel=label_text(self.axes[1]))
        right.set(title="interpolated between the nodes (dots)")
        for axes in (left, right):
            axes.set_xlabel(label_text(self.axes[0]))
            axes.title.set_fontsize("medium")
            if self.node_y.size <= 12:
                axes.set_yticks(self.node_y)
        x, y = np.meshgrid(self.node_x, self.node_y)
        right.plot(x.ravel(), y.ravel(), ls="none", marker=".", ms=4, color="white", mec="0.3", mew=0.3, clip_on=False)
        left.figure.colorbar(self.fine_mesh_, ax=[left, right], label=self.parameter)
        self.ax_, self.figure_ = (left, right), left.figure
        return self


def _choose_line(generator, line, labels):
    """Catalogue index of the line nearest to a wavelength, or of the strongest one."""
    catalog = generator.decomposer_.line_catalog_
    if not len(catalog):
        raise ValueError("The generator has no lines. Lower the decomposer's `prominence`.")
    if line is None:
        table = generator.line_table(labels)
        line = table["equivalent_width"].idxmax() if len(table) else catalog[0]
    index = int(np.argmin(np.abs(catalog - line)))
    if abs(catalog[index] - line) > _LINE_TOLERANCE:
        raise ValueError(
            f"`line` is {line} angstrom, but the nearest line of the catalogue is at {catalog[index]:.2f}. See the "
            "decomposer's `line_catalog_`."
        )
    return index


def _column(generator, labels, column):
    """One column of the line parameters at many labels, NaN where the line is absent, shape (n,)."""
    # in blocks, because the interpolator returns every line
    return np.concatenate([_block(generator, block, column) for block in np.array_split(labels, -(-len(labels) // 64))])


def _block(generator, labels, column):
    theta = generator.interpolator_.predict(labels)
    if not sparse.issparse(theta):
        return np.asarray(theta[:, column], dtype=np.float64)
    # explicit zeros are values; what is not stored is absent
    entries = theta.tocoo()
    values = np.full(len(labels), np.nan)
    chosen = entries.col == column
    values[entries.row[chosen]] = entries.data[chosen]
    return values
