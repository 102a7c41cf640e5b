"""ManifoldDisplay: one parameter of one line over two labels."""

import numpy as np

from stellarhml.plotting._plane import cell_edges, choose_plane, draw_cells, fill_cells, labels_text
from stellarhml.plotting._style import line_name, parameter_text
from stellarhml.synthesis.line_table import tag_columns
from stellarhml.synthesis.line_values import line_values

_LINE_TOLERANCE = 0.5  # angstrom: largest distance of `line` from a line of the catalogue


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
        Values of the labels on the fine map.
    fine_values : ndarray of shape (n_fine_y, n_fine_x)
        Parameter on the fine map, interpolated.
    parameter : str
        Label of the colour bar.
    title : str
        Title: line, with its species where it is known, and fixed labels.

    Attributes
    ----------
    ax_ : tuple of two matplotlib axes
        Nodes and interpolation.
    figure_ : matplotlib figure
        Their figure.
    node_mesh_, fine_mesh_ : matplotlib mesh
        The two maps, on one colour scale.
    colorbar_ : matplotlib colorbar
        The colour scale.
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
        labels=None,
        fixed=None,
        n_fine=60,
        ax=None,
    ):
        """Draw the manifold of a line of a fitted generator.

        Parameters
        ----------
        generator : SpectrumGenerator
            Fitted generator of at least two labels.
        line : float, default=None
            Wavelength of the line, in angstrom. None takes the line of largest equivalent width in the middle of the
            grid.
        parameter : str, default="log_amplitude"
            Parameter of the line, one of the decomposer's `line_parameters`, or its "depth", "equivalent_width" or
            "saturation" as in `SpectrumGenerator.line_table`.
        labels : tuple of two str, default=None
            Labels of the horizontal and the vertical axis. None: "teff" and "logg" where both vary, else the first two
            that do.
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
        settings = {"line": line, "parameter": parameter, "labels": labels, "fixed": fixed, "n_fine": n_fine}
        return cls.measure(generator, **settings).plot(ax=ax)

    @classmethod
    def measure(cls, generator, *, line=None, parameter="log_amplitude", labels=None, fixed=None, n_fine=60):
        """Compute the display without drawing it.

        Parameters
        ----------
        generator, line, parameter, labels, fixed, n_fine : object
            As in `from_estimator`.

        Returns
        -------
        display : ManifoldDisplay
            Not drawn yet.
        """
        names, nodes = generator.label_names_, generator.interpolator_.nodes_
        plane = choose_plane(names, nodes, labels, fixed)
        index = _choose_line(generator, line)
        x, y = plane.columns
        here = nodes[np.isclose(nodes[:, plane.rest], plane.point[plane.rest]).all(axis=1)]
        node_x, node_y = np.unique(nodes[:, x]), np.unique(nodes[:, y])
        at_nodes = line_values(generator, here, parameter, [index])[:, 0] if len(here) else np.empty(0)
        fine_x, fine_y = (np.linspace(*generator.interpolator_.bounds_[k], n_fine) for k in (x, y))
        points = np.tile(plane.point, (n_fine * n_fine, 1))
        points[:, x], points[:, y] = (values.ravel() for values in np.meshgrid(fine_x, fine_y))
        others = labels_text([names[k] for k in plane.rest], plane.point[plane.rest])
        species = tag_columns(generator, [index]).get("species", [""])[0]
        name = ("" if species else "line at ") + line_name(generator.decomposer_.line_catalog_[index], species)
        return cls(
            axes=plane.axes,
            node_x=node_x,
            node_y=node_y,
            node_values=fill_cells(here[:, x], here[:, y], node_x, node_y, at_nodes),
            fine_x=fine_x,
            fine_y=fine_y,
            fine_values=line_values(generator, points, parameter, [index]).reshape(n_fine, n_fine),
            parameter=parameter_text(parameter, saturates="logit_depth" in generator.decomposer_.line_parameters),
            title=f"{name} Å" + (f", {others}" if others else ""),
        )

    @property
    def extent(self):
        """Ends (left, right, bottom, top) of the interpolated map, half a cell beyond its outer points."""
        return tuple(float(end) for values in (self.fine_x, self.fine_y) for end in cell_edges(values)[[0, -1]])

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
        from matplotlib.colors import Normalize

        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")[1]
        ax = np.ravel(ax)
        if len(ax) != 2:
            raise ValueError(f"`ax` has {len(ax)} axes; 2 are needed, for the nodes and between them.")
        left, right = ax
        values = np.concatenate([self.node_values.ravel(), self.fine_values.ravel()])
        finite = values[np.isfinite(values)]
        norm = Normalize(*((finite.min(), finite.max()) if finite.size else (0.0, 1.0)))
        self.node_mesh_ = draw_cells(left, self.axes, self.node_x, self.node_y, self.node_values, norm=norm)
        fine = self.fine_x, self.fine_y, self.fine_values
        self.fine_mesh_ = draw_cells(right, self.axes, *fine, norm=norm, nodes=False)
        x, y = np.meshgrid(self.node_x, self.node_y)
        shown = np.isfinite(self.node_values)
        left.set_title(f"{self.title}: nodes", fontsize="medium")
        right.set_title("interpolated" + (" between the nodes (dots)" if shown.any() else ""), fontsize="medium")
        right.set(ylabel="", yticks=left.get_yticks())
        if shown.any():
            dots = {"ms": 4, "color": "white", "mec": "0.3", "mew": 0.3}
            right.plot(x[shown], y[shown], ls="none", marker=".", clip_on=False, **dots)
        else:
            left.text(0.5, 0.5, "not at any node", transform=left.transAxes, ha="center", va="center")
        self.colorbar_ = left.figure.colorbar(self.fine_mesh_, ax=[left, right], label=self.parameter)
        self.colorbar_.formatter.set_useOffset(False)
        self.ax_, self.figure_ = (left, right), left.figure
        return self


def _choose_line(generator, line):
    """Catalogue index of the line nearest to a wavelength, or of the strongest one."""
    catalog = generator.decomposer_.line_catalog_
    if not len(catalog):
        raise ValueError("The generator has no lines. Lower the decomposer's `prominence`.")
    if line is None:
        middle = generator.interpolator_.bounds_.mean(axis=1)
        widths = line_values(generator, [middle], "equivalent_width")[0]
        return int(np.nanargmax(widths)) if np.isfinite(widths).any() else 0
    index = int(np.argmin(np.abs(catalog - line)))
    if abs(catalog[index] - line) > _LINE_TOLERANCE:
        raise ValueError(
            f"`line` is {line} angstrom, but the nearest line of the catalogue is at {catalog[index]:.2f}. Choose one "
            "of the decomposer's `line_catalog_`."
        )
    return index
