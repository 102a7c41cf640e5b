"""DecompositionDisplay: a spectrum, its line model, the residual, and the lines."""

import numpy as np

from stellarhml.flags import LineFlag
from stellarhml.plotting._line_labels import lines_to_label, write_labels
from stellarhml.plotting._spectrum_fit_display import SpectrumFitDisplay
from stellarhml.synthesis.line_values import QUANTITIES

# Rows of ticks from the spectrum upwards; colours of Okabe and Ito (2008) that the spectra do not use
_COLOURS = {"detected": "#0072B2", "undetected": "#E69F00", "added": "#009E73"}
_LOWEST_ROW, _ROW_STEP = 0.855, 0.055  # in units of the height of the axes
_ROOM, _ROOM_LABELS = 1.27, 1.75  # height of the axes for a flux range of 1, with room for ticks, and for labels
_LABEL_HEIGHT = 0.82  # of their upper ends, in units of the height of the axes
_AXES_WIDTH = 550  # points, about: ticks are at most a quarter as thick as their mean distance
_THICKEST, _THINNEST = 1.4, 0.15  # points
_LONGEST, _SHORTEST = 8.0, 5.0  # points


class DecompositionDisplay:
    """One spectrum as lines: flux and line model, a tick for each line above, and the residual below.

    Ticks come in three rows. From the spectrum upwards: lines detected in this spectrum; lines fitted though this
    spectrum has no minimum there (:data:`~stellarhml.flags.LineFlag.UNDETECTED`); undetected
    lines added from residuals (:data:`~stellarhml.flags.LineFlag.ADDED`). Create it with :meth:`from_estimator` or
    :meth:`from_arrays`. Arrays are attributes; artists end in an underscore.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,)
        Vacuum wavelengths in angstrom.
    flux, model : ndarray of shape (n_pixels,)
        Normalised flux, and the product of the lines. NaN masks a pixel.
    centers : ndarray of shape (n_lines,)
        Centers of the lines, in angstrom.
    line_flags : ndarray of shape (n_lines,), int
        Their flags, see :class:`stellarhml.flags.LineFlag`.
    title : str, default=None
        Text above the figure.
    lines : DataFrame, default=None
        Lines that can be labelled, by catalogue wavelength, with their `depth`, `observed` center in angstrom and, if
        known, `species`.
    n_lines : int, default=0
        Largest number of labelled lines.

    Attributes
    ----------
    ax_ : tuple of two matplotlib axes
        Fluxes and residuals.
    figure_ : matplotlib figure
        Their figure.
    flux_line_, model_line_, residual_line_ : matplotlib line
        Lines of the spectra and the residual.
    ticks_ : dict of str to matplotlib line
        The ticks of each kind of line.
    line_texts_ : list of matplotlib text
        Labels of lines.
    rms_text_ : matplotlib text
        Text with the residual RMS.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.flags import LineFlag
    >>> from stellarhml.plotting import DecompositionDisplay
    >>> flux, model = np.array([1, 0.5, 1]), np.array([1, 0.6, 1])
    >>> display = DecompositionDisplay(
    ...     wavelength=np.arange(3.0), flux=flux, model=model, centers=[1.0], line_flags=[LineFlag.ADDED]
    ... )
    >>> display.kinds
    array(['added'], dtype='<U10')
    >>> round(display.rms(), 3)
    0.058
    """

    def __init__(self, *, wavelength, flux, model, centers, line_flags, title=None, lines=None, n_lines=0):
        self.wavelength, self.flux, self.model = wavelength, flux, model
        self.centers, self.line_flags, self.title = centers, line_flags, title
        self.lines, self.n_lines = lines, n_lines

    @property
    def residual(self):
        """Flux minus model, shape (n_pixels,)."""
        return self.flux - self.model

    @property
    def kinds(self):
        """Kind of each line, "detected", "undetected" or "added", shape (n_lines,)."""
        flags = np.asarray(self.line_flags, dtype=np.int64)
        seen = np.where(flags & LineFlag.UNDETECTED, "undetected", "detected")
        return np.where(flags & LineFlag.ADDED, "added", seen)

    def rms(self, window=None):
        """RMS of the residual.

        Parameters
        ----------
        window : tuple of (float, float), default=None
            Wavelengths to include, in angstrom. None: all.

        Returns
        -------
        rms : float
            In units of the continuum.
        """
        return float(np.sqrt(np.nanmean(self.residual[self._shown(window)] ** 2)))

    @classmethod
    def from_estimator(cls, decomposer, x, *, window=None, ax=None, title=None, n_lines=0, tags=None):
        """Fit the lines of a spectrum and draw them.

        Parameters
        ----------
        decomposer : VoigtLineDecomposer
            Fitted decomposer.
        x : array-like of shape (n_pixels,)
            Normalised flux, as the decomposer's `transform` takes it. Pixels at the ends that its fit leaves
            out (`loss_margin`) are not drawn.
        window : tuple of (float, float), default=None
            Wavelengths to show, in angstrom. None shows all.
        ax : pair of matplotlib axes, default=None
            Axes for fluxes and residuals. None makes a figure.
        title : str, default=None
            Text above the figure.
        n_lines : int, default=0
            Largest number of lines to label: the deepest in the window whose labels do not overlap. A label is the
            wavelength of the line in `line_catalog_`, in angstrom.
        tags : LineTags, default=None
            Species of the decomposer's lines for the labels ("Fe I 8516.41"): `tags_` of a generator whose
            `decomposer_` it is, after `tag_lines`.

        Returns
        -------
        display : DecompositionDisplay
            The drawn display.
        """
        flux = np.asarray(x, dtype=np.float64)
        decomposition = decomposer.decompose(flux[None])
        names = decomposer.line_parameters
        line, parameter = np.divmod(decomposition.theta.indices, len(names))
        is_center = parameter == names.index("center")
        wavelength, model = decomposer.wavelength_, decomposer.inverse_transform(decomposition.theta)[0]
        lines = _lines_of(decomposer, line, parameter, decomposition.theta.data, tags) if n_lines else None
        used = (wavelength >= decomposition.windows[0]) & (wavelength <= decomposition.windows[-1])
        return cls.from_arrays(
            wavelength[used],
            flux[used],
            model[used],
            decomposition.theta.data[is_center],
            decomposition.line_flags[0, line[is_center]],
            window=window,
            ax=ax,
            title=title,
            lines=lines,
            n_lines=n_lines,
        )

    @classmethod
    def from_arrays(
        cls, wavelength, flux, model, centers, line_flags, *, window=None, ax=None, title=None, lines=None, n_lines=0
    ):
        """Draw given arrays.

        Parameters
        ----------
        wavelength, flux, model : array-like of shape (n_pixels,)
            Vacuum wavelengths in angstrom, normalised flux, product of the lines.
        centers : array-like of shape (n_lines,)
            Centers of the lines, in angstrom.
        line_flags : array-like of shape (n_lines,)
            Their flags, see :class:`stellarhml.flags.LineFlag`.
        window : tuple of (float, float), default=None
            Wavelengths to show, in angstrom. None shows all.
        ax : pair of matplotlib axes, default=None
            Axes for fluxes and residuals. None makes a figure.
        title : str, default=None
            Text above the figure.
        lines, n_lines : DataFrame, int
            Lines to label, as in the class.

        Returns
        -------
        display : DecompositionDisplay
            The drawn display.
        """
        spectra = [np.asarray(values, dtype=np.float64) for values in (wavelength, flux, model)]
        if len({values.shape for values in spectra}) != 1 or spectra[0].ndim != 1:
            raise ValueError(
                f"`wavelength`, `flux` and `model` have the shapes {[values.shape for values in spectra]}; they need "
                "one value for each pixel of one spectrum."
            )
        centers, line_flags = np.asarray(centers, dtype=np.float64), np.asarray(line_flags)
        if centers.ndim != 1 or centers.shape != line_flags.shape:
            raise ValueError(
                f"`centers` and `line_flags` have the shapes {centers.shape} and {line_flags.shape}; they need one "
                "value for each line of one spectrum."
            )
        display = cls(
            wavelength=spectra[0],
            flux=spectra[1],
            model=spectra[2],
            centers=centers,
            line_flags=line_flags,
            title=title,
            lines=lines,
            n_lines=n_lines,
        )
        return display.plot(window=window, ax=ax)

    def plot(self, *, window=None, ax=None):
        """Draw the display.

        Parameters
        ----------
        window : tuple of (float, float), default=None
            Wavelengths to show, in angstrom. None shows all.
        ax : pair of matplotlib axes, default=None
            Axes for fluxes and residuals. None makes a figure.

        Returns
        -------
        self : DecompositionDisplay
            The display.
        """
        shown = self._shown(window)
        fit = SpectrumFitDisplay(wavelength=self.wavelength, flux=self.flux, fitted=self.model, title=self.title)
        fit.plot(ax=ax, window=window)
        self.ax_, self.figure_ = fit.ax_, fit.figure_
        self.flux_line_, self.model_line_, self.residual_line_ = fit.flux_line_, fit.fitted_line_, fit.residual_line_
        # the model lies so close to the spectrum that only a thinner line shows both
        self.flux_line_.set_linewidth(1.5)
        self.model_line_.set(label="model", linewidth=0.8)
        top, bottom = self.ax_

        self.ticks_ = {}
        low, high = top.get_xlim()
        centers, kinds = np.asarray(self.centers), self.kinds
        inside = (centers >= low) & (centers <= high)
        most = max(np.count_nonzero(inside & (kinds == kind)) for kind in _COLOURS)
        thickness = np.clip(0.25 * _AXES_WIDTH / max(most, 1), _THINNEST, _THICKEST)
        length = np.interp(thickness, (_THINNEST, _THICKEST), (_SHORTEST, _LONGEST))
        for row, (kind, colour) in enumerate(_COLOURS.items()):
            x = centers[inside & (kinds == kind)]
            (self.ticks_[kind],) = top.plot(
                x,
                np.full(x.size, _LOWEST_ROW + _ROW_STEP * row),
                transform=top.get_xaxis_transform(),
                ls="none",
                marker="|",
                markersize=length,
                markeredgewidth=thickness,
                color=colour,
                label=f"{kind} ({x.size})",
            )
        drawn = np.concatenate([self.flux[shown], self.model[shown]])
        lowest = np.nanmin(drawn)
        extent = max(np.nanmax(drawn) - lowest, 1e-3)
        chosen = lines_to_label(self.lines, self.n_lines, self.wavelength[shown]) if self.n_lines else []
        self.line_texts_ = write_labels(top, chosen, _LABEL_HEIGHT, va="top")
        top.set_ylim(lowest - 0.04 * extent, lowest + (_ROOM_LABELS if chosen else _ROOM) * extent)

        handles = [self.flux_line_, self.model_line_, *self.ticks_.values()]
        place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.0, "ncols": len(handles)}
        look = {"fontsize": "small", "frameon": False, "handlelength": 1.5, "handletextpad": 0.5}
        legend = top.legend(handles=handles, **place, **look)
        for handle in legend.legend_handles[2:]:
            handle.set(markersize=_LONGEST, markeredgewidth=_THICKEST)
        here = "" if window is None else f"{self.rms(window):.2g} in this window, "
        text = f"RMS {here}{self.rms():.2g} in all"
        self.rms_text_ = bottom.set_title(text, fontsize="small", loc="right", pad=3)
        return self

    def _shown(self, window):
        """Which pixels are in a window, shape (n_pixels,)."""
        if window is None:
            return np.ones(len(self.wavelength), dtype=bool)
        shown = (self.wavelength >= window[0]) & (self.wavelength <= window[1])
        if not shown.any():
            raise ValueError(
                f"`window`={tuple(window)} holds no pixel of the spectrum, which covers {self.wavelength[0]:.2f} to "
                f"{self.wavelength[-1]:.2f} angstrom. Pass (lowest, highest) within this range."
            )
        return shown


def _lines_of(decomposer, line, parameter, values, tags):
    """Lines of one spectrum for labels: a DataFrame by catalogue wavelength with depth, center and, by `tags`, species.

    `line` and `parameter` (n_values,) are the numbers of the line and of the parameter of each of the `values`.
    """
    import pandas as pd

    catalog, names = decomposer.line_catalog_, decomposer.line_parameters
    if tags is not None and len(tags.tagged) != len(catalog):
        raise ValueError(
            f"`tags` is of {len(tags.tagged)} lines, but the decomposer has {len(catalog)}. Pass `tags_` and "
            "`decomposer_` of the same generator."
        )
    theta = np.zeros((len(catalog), len(names)))
    theta[line, parameter] = values
    present = np.unique(line)
    theta = theta[present]
    columns = {"depth": QUANTITIES["depth"](theta, decomposer.profile), "observed": theta[:, names.index("center")]}
    if tags is not None:
        columns["species"] = tags.of_lines(present)["species"]
    return pd.DataFrame(columns, index=catalog[present])
