"""LineCountDisplay: the number of lines over a grid."""

import numpy as np

from stellarhml.plotting._plane import choose_plane, draw_cells, fill_cells, labels_text
from stellarhml.synthesis.line_values import count_lines

_MAX_PANELS = 24
_MAX_COLUMNS = 3  # panels in a row
_MAX_CELLS = 12  # along either axis: more leave no room for numbers


class LineCountDisplay:
    """Number of lines at each node, over two labels, for each value of the others.

    Create it with :meth:`from_estimator`. Arrays are attributes; artists end in an underscore.

    Parameters
    ----------
    axes : tuple of two str
        Names of the labels, horizontal and vertical.
    x, y : ndarray of shape (n_x,) and (n_y,)
        Values of the labels at the nodes.
    counts : ndarray of shape (n_panels, n_y, n_x)
        Numbers of lines; NaN where no node is.
    titles : sequence of str
        Values of the other labels in each panel, as text.
    depth : float
        Smallest depth of a counted line, in units of the continuum.

    Attributes
    ----------
    ax_ : tuple of matplotlib axes
        One for each panel.
    figure_ : matplotlib figure
        Their figure.
    meshes_ : tuple of matplotlib mesh
        The maps, on one colour scale.
    colorbar_ : matplotlib colorbar
        The colour scale.
    numbers_ : list of matplotlib text
        Counts in the cells.

    Examples
    --------
    >>> from stellarhml import SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> from stellarhml.plotting import LineCountDisplay
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    >>> LineCountDisplay.from_estimator(generator, depth=0.1).counts.shape
    (2, 3, 4)
    """

    def __init__(self, *, axes, x, y, counts, titles, depth):
        self.axes, self.x, self.y = axes, x, y
        self.counts, self.titles, self.depth = counts, titles, depth

    @classmethod
    def from_estimator(cls, generator, *, depth=0.005, labels=None, fixed=None, ax=None):
        """Count the lines of a fitted generator at the nodes of its grid.

        Parameters
        ----------
        generator : SpectrumGenerator
            Fitted generator of at least two labels.
        depth : float, default=0.005
            Smallest depth of a counted line, in units of the continuum: depth of the line alone, at its center.
        labels : tuple of two str, default=None
            Labels of the horizontal and the vertical axis. None: "teff" and "logg" where both vary, else the first two
            that do.
        fixed : dict, default=None
            Values of other labels, by name. Each combination of the labels not named has a panel.
        ax : array-like of matplotlib axes, default=None
            Axes, one for each panel. None makes a figure.

        Returns
        -------
        display : LineCountDisplay
            The drawn display.
        """
        names, nodes = generator.label_names_, generator.interpolator_.nodes_
        plane = choose_plane(names, nodes, labels, fixed)
        given = [names.index(name) for name in plane.given]
        nodes = nodes[np.isclose(nodes[:, given], plane.point[given]).all(axis=1)]
        if not len(nodes):
            raise ValueError(
                f"`fixed` is {plane.given}, but no node of the grid has these values. Lines are counted at nodes. "
                "Choose values of the grid."
            )
        places, panel = np.unique(nodes[:, plane.rest], axis=0, return_inverse=True)
        if len(places) > _MAX_PANELS:
            rest = tuple(names[k] for k in plane.rest if k not in given)
            raise ValueError(
                f"The other labels, {rest}, need {len(places)} panels, but at most {_MAX_PANELS} are drawn. Name some "
                "of these labels in `fixed`."
            )
        x, y = (np.unique(nodes[:, k]) for k in plane.columns)
        counts = []
        for k in range(len(places)):
            here = nodes[panel.ravel() == k]
            number = count_lines(generator, here, depth=depth)
            counts.append(fill_cells(*here[:, plane.columns].T, x, y, number))
        titles = tuple(labels_text([names[k] for k in plane.rest], place) for place in places)
        return cls(axes=plane.axes, x=x, y=y, counts=np.stack(counts), titles=titles, depth=depth).plot(ax=ax)

    def plot(self, *, ax=None, numbers=None):
        """Draw the display.

        Parameters
        ----------
        ax : array-like of matplotlib axes, default=None
            Axes, one for each panel. None makes a figure.
        numbers : bool, default=None
            Whether to write the counts into the cells. None: if there are at most 12 cells along each axis.

        Returns
        -------
        self : LineCountDisplay
            The display.
        """
        from matplotlib.colors import Normalize

        ax = self._make_axes() if ax is None else np.ravel(ax)
        if len(ax) != len(self.counts):
            raise ValueError(f"`ax` has {len(ax)} axes; {len(self.counts)} are needed: {self.titles}.")
        norm = Normalize(np.nanmin(self.counts), np.nanmax(self.counts))
        few = max(len(self.x), len(self.y)) <= _MAX_CELLS
        self.meshes_, self.numbers_ = [], []
        for axes, counts, title in zip(ax, self.counts, self.titles, strict=True):
            self.meshes_.append(draw_cells(axes, self.axes, self.x, self.y, counts, norm=norm))
            axes.set_title(title, fontsize="medium")
            if few if numbers is None else numbers:
                self.numbers_ += self._write(axes, counts, norm)
        for axes in ax:
            axes.label_outer()
        text = f"lines at least {self.depth:g} deep"
        self.colorbar_ = ax[0].figure.colorbar(self.meshes_[0], ax=list(ax), label=text)
        self.colorbar_.ax.yaxis.get_major_locator().set_params(integer=True)
        self.ax_, self.figure_, self.meshes_ = tuple(ax), ax[0].figure, tuple(self.meshes_)
        return self

    def _make_axes(self):
        """Axes in rows, without those beyond the last panel."""
        import matplotlib.pyplot as plt

        n_columns = min(len(self.counts), _MAX_COLUMNS)
        n_rows = -(-len(self.counts) // n_columns)
        size = (1.2 + 4.6 * n_columns, 0.6 + 2.6 * n_rows)
        ax = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)[1].ravel()
        for extra in ax[len(self.counts) :]:
            extra.remove()
        return ax[: len(self.counts)]

    def _write(self, axes, counts, norm):
        """Write counts into the cells, dark on light and light on dark."""
        place = {"ha": "center", "va": "center", "fontsize": "x-small"}
        return [
            axes.text(
                self.x[j], self.y[i], f"{counts[i, j]:.0f}", color="k" if norm(counts[i, j]) > 0.5 else "w", **place
            )
            for i, j in zip(*np.nonzero(np.isfinite(counts)), strict=True)
        ]
