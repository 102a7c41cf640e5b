"""LineCorrectionDisplay: corrections of line strengths, by species, against the strength of the lines."""

import numpy as np

from stellarhml.plotting._style import MARKERS, SERIES, UNUSED

_OTHERS = "other species"


class LineCorrectionDisplay:
    """Corrections of line strengths against the strength of the lines, with errors, by species.

    Create it with :meth:`from_estimator` or :meth:`from_frame`. Arrays are attributes; artists end in an underscore.

    Parameters
    ----------
    width : ndarray of shape (n_lines,)
        Reduced equivalent widths of the lines before the correction, log10 of equivalent width over wavelength.
    correction, error : ndarray of shape (n_lines,)
        Corrections of the strengths and their standard deviations, in dex.
    absent : ndarray of shape (n_lines,), bool
        Lines of which less than a tenth of the strength is left. They are drawn at the lower edge.
    species : ndarray of shape (n_lines,), str
        Species of the lines; "" where it is not known.
    names : tuple of str
        Species with a colour of their own.

    Attributes
    ----------
    ax_ : matplotlib axes
        The axes.
    figure_ : matplotlib figure
        Their figure.
    points_ : dict of str to matplotlib container
        Corrections with their errors by species.
    absent_ : matplotlib line
        Absent lines.
    """

    def __init__(self, *, width, correction, error, absent, species, names):
        self.width, self.correction, self.error = width, correction, error
        self.absent, self.species, self.names = absent, species, names

    @classmethod
    def from_estimator(cls, calibrator, *, species=None, min_stars=1, ax=None):
        """Draw the corrections of a fitted calibrator.

        Parameters
        ----------
        calibrator : LineCalibrator
            Fitted calibrator.
        species : sequence of str, default=None
            Species with a colour of their own, six at most. None: those of most lines.
        min_stars : int, default=1
            Number of stars that show a line.
        ax : matplotlib axes, default=None
            Axes. None makes a figure.

        Returns
        -------
        display : LineCorrectionDisplay
            The drawn display.
        """
        table = calibrator.corrections_.reset_index()
        return cls.from_frame(table, species=species, min_stars=min_stars, ax=ax)

    @classmethod
    def from_frame(cls, table, *, species=None, min_stars=1, ax=None):
        """Draw a table of corrections, such as one of `stellarhml calibrate --table`.

        Parameters
        ----------
        table : DataFrame
            One row for each line, with `wavelength`, `equivalent_width`, `strength`, `strength_std`, `n_stars`,
            `absent`, and `species` if known.
        species, min_stars, ax : object
            As in `from_estimator`.

        Returns
        -------
        display : LineCorrectionDisplay
            The drawn display.
        """
        needed = {"wavelength", "equivalent_width", "strength", "strength_std", "n_stars", "absent"}
        if not needed <= set(table.columns):
            raise ValueError(
                f"`table` has no columns {', '.join(sorted(needed - set(table.columns)))}. Take `corrections_` of a "
                "LineCalibrator with reset_index(), or a table that stellarhml calibrate --table wrote."
            )
        table = table[(table["n_stars"] >= min_stars) & (table["equivalent_width"] > 0)]
        if not len(table):
            raise ValueError(f"No line is shown by {min_stars} stars or more. Lower `min_stars`.")
        known = table["species"].fillna("").to_numpy(dtype=str) if "species" in table else np.full(len(table), "")
        if species is None:
            found, counts = np.unique(known[known != ""], return_counts=True)
            species = found[np.argsort(-counts, kind="stable")][: len(SERIES)].tolist()
        missing = [name for name in species if name not in known]
        if missing or len(species) > len(SERIES):
            raise ValueError(
                f"`species` is {tuple(species)}, but at most {len(SERIES)} can be drawn, of "
                f"{', '.join(np.unique(known[known != ''])) or 'none'}. Name some of these."
            )
        return cls(
            width=np.log10((table["equivalent_width"] / table["wavelength"]).to_numpy()),
            correction=table["strength"].to_numpy(),
            error=table["strength_std"].to_numpy(),
            absent=table["absent"].to_numpy(dtype=bool),
            species=known,
            names=tuple(species),
        ).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib axes, default=None
            Axes. None makes a figure.

        Returns
        -------
        self : LineCorrectionDisplay
            The display.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=(7.5, 4.2), layout="constrained")[1]
        ax.axhline(0.0, color="0.4", lw=0.8, zorder=1)
        others = ~np.isin(self.species, self.names)
        plain = (_OTHERS, others, UNUSED, ".") if self.names else ("lines", others, SERIES[0], "o")
        groups = [plain] if others.any() else []
        groups += [
            (name, self.species == name, SERIES[k], MARKERS[k % len(MARKERS)]) for k, name in enumerate(self.names)
        ]
        self.points_ = {}
        for name, own, colour, marker in groups:
            at = own & ~self.absent
            self.points_[name] = ax.errorbar(
                self.width[at],
                self.correction[at],
                yerr=self.error[at],
                color=colour,
                marker=marker,
                ms=4,
                ls="none",
                elinewidth=0.7,
                alpha=0.8,
                label=f"{name} ({at.sum()})",
                zorder=2 if own is others else 3,
            )
        low, high = ax.get_ylim()
        ax.set_ylim(low, high)
        gone = self.width[self.absent]
        (self.absent_,) = ax.plot(gone, np.full(len(gone), low), "v", color="k", ms=5, clip_on=False, zorder=4)
        if len(gone):
            self.absent_.set_label(f"absent ({len(gone)})")
        ax.set(xlabel=r"$\log_{10}(W_\lambda / \lambda)$ before the correction", ylabel="correction of strength [dex]")
        ax.legend(frameon=False, fontsize="small", ncols=2)
        self.ax_, self.figure_ = ax, ax.figure
        return self
