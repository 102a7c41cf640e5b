"""The spectrum: the curve with its band, the lines that stand in it, the observed spectrum and the residuals."""

import numpy as np
import pandas as pd
from bokeh.events import Tap
from bokeh.models import BoxAnnotation, Column, ColumnDataSource, Range1d, Span
from bokeh.plotting import figure

from stellarhml.explore.look import CHOSEN, MODEL, OBSERVED, RESIDUAL, UNKNOWN
from stellarhml.physics.wavelength import doppler_shift
from stellarhml.synthesis.viewing import spread_names, thin_pixels, view_lines, view_spectrum

_N_COLUMNS, _N_TICKS, _NAME_WIDTH = 900, 300, 62  # columns before the page has told its own; px that a name takes
_TOP, _TICK, _NAME = 1.22, (1.05, 1.09), 1.1


class SpectrumView:
    """The two plots.

    Parameters
    ----------
    shared : Shared
        Generator and spectra.
    state : State
        What is shown first.
    see, choose : callable
        Called with the two ends of the window, and with the number of a line, that the user asked for.

    Attributes
    ----------
    layout : Column
        What is put on the page.
    lines : ViewLines
        The lines that are drawn.
    compared : Compared or None
        What was observed in the window, beside the model.
    """

    def __init__(self, shared, state, see, choose):
        self._shared, self._see, self.lines, self.compared = shared, see, None, None
        self.range = Range1d(*state.window, name="window", min_interval=0.05)
        tools = "xpan,xwheel_zoom,box_zoom,undo,redo"
        common = {"x_range": self.range, "sizing_mode": "stretch_width", "output_backend": "canvas", "lod_threshold": None}
        top = self._top = figure(
            height=340, tools=tools, active_drag="xpan", active_scroll="xwheel_zoom", name="spectrum",
            y_range=(-0.02, _TOP), y_axis_label="Normalized flux", **common,
        )  # fmt: skip
        bottom = figure(
            height=150, tools="", toolbar_location=None, name="residuals",
            y_range=(-0.05, 0.05), y_axis_label="Residual", x_axis_label="Observed wavelength, vacuum [Å]", **common,
        )  # fmt: skip
        self._residual_range = bottom.y_range
        names = ("band", "curve", "data", "residuals", "noise", "ticks", "names")
        self.sources = {name: ColumnDataSource(name=name) for name in names}
        self._clear()
        top.varea("x", "lower", "upper", source=self.sources["band"], color=MODEL, alpha=0.3, legend_label="error of generator")
        top.line("x", "y", source=self.sources["data"], color=OBSERVED, line_width=1, legend_label="observed")
        top.line("x", "y", source=self.sources["curve"], color=MODEL, line_width=1.5, legend_label="model")
        top.segment("x", _TICK[0], "x", _TICK[1], source=self.sources["ticks"], color=UNKNOWN)
        top.text("x", _NAME, "text", source=self.sources["names"], text_align="center", text_font_size="12px", text_color="#1a1a1a")
        for end in ("lower", "upper"):
            bottom.line("x", end, source=self.sources["noise"], color=UNKNOWN, line_dash="dashed", legend_label="noise, 1 std")
        bottom.line("x", "y", source=self.sources["residuals"], color=RESIDUAL)
        bottom.add_layout(Span(location=0.0, dimension="width", line_color=OBSERVED))
        self._mark = Span(location=np.nan, dimension="height", line_color=CHOSEN, line_dash="dashed", line_width=2, visible=False)
        self._unknown = [BoxAnnotation(fill_color="#d0d0d0", fill_alpha=0.6, name=name) for name in ("before", "beyond")]
        for part in (self._mark, *self._unknown):
            top.add_layout(part)
        top.legend.update(location="bottom_right", orientation="horizontal", background_fill_alpha=0.85, label_text_font_size="12px", padding=3, margin=4)
        top.xaxis.major_label_text_font_size = "0px"
        for plot in (top, bottom):
            plot.yaxis.update(axis_label_text_font_style="normal", axis_label_text_color="#1a1a1a")
            plot.xaxis.update(axis_label_text_font_style="normal", axis_label_text_color="#1a1a1a")
            plot.min_border_left, plot.toolbar.logo = 58, None
        self._bottom = bottom
        bottom.visible = bool(shared.spectra)
        self.layout = Column(top, bottom, sizing_mode="stretch_width", name="view")
        self.range.on_change("start", lambda _attr, _old, _new: self._ranged())
        self.range.on_change("end", lambda _attr, _old, _new: self._ranged())
        self._columns = _N_COLUMNS
        top.on_change("inner_width", self._widen)
        top.on_event(Tap, lambda event: self._tapped(event.x, choose))

    def draw(self, state):
        """Draw the curve: what must follow a slider at once."""
        if (self.range.start, self.range.end) != state.window:
            self.range.update(start=state.low, end=state.high)
        columns = self._columns
        view = self.view = view_spectrum(self._shared.generator, state.labels, state.window, n_columns=columns, **_star(state))
        self.sources["curve"].data = {"x": view.wavelength, "y": view.flux}
        known = np.isfinite(view.lower)
        self.sources["band"].data = {"x": view.wavelength[known], "lower": view.lower[known], "upper": view.upper[known]}

    def draw_details(self, state):
        """Draw what may follow a moment later: lines, what was observed, and the ends of the band."""
        generator, columns = self._shared.generator, self._columns
        self.lines = view_lines(generator, state.labels, state.window, rv=state.rv, n_lines=_N_TICKS)
        self.sources["ticks"].data = {"x": self.lines.center}
        part = np.ptp(self.lines.center) / (state.high - state.low) if len(self.lines.center) else 0.0
        named = spread_names(self.lines, part * columns / _NAME_WIDTH)
        self.sources["names"].data = {"x": self.lines.center[named], "text": [f"{x:.2f}" for x in self.lines.name[named]]}
        first, last = doppler_shift(generator.wavelength_[[0, -1]], state.rv)
        self._unknown[0].update(left=None, right=float(first))
        self._unknown[1].update(left=float(last), right=None)
        self._draw_observed(state, columns)

    def mark(self, center):
        """Mark the line that was chosen, by its center, or none."""
        self._mark.update(location=np.nan if center is None else center, visible=center is not None)

    def table(self, state):
        """What the window shows, pixel by pixel, as a data frame."""
        view = view_spectrum(self._shared.generator, state.labels, state.window, **_star(state))
        columns = {"wavelength": view.wavelength, "model": view.flux, "model_error": (view.upper - view.lower) / 2}
        table = pd.DataFrame(columns)
        table.insert(0, "order", "generator")
        parts = [table]
        for i, order in (self.compared.orders.items() if self.compared else ()):
            level = order.continuum
            flux, error, model = order.flux / level, order.error / level, order.model / level
            parts.append(pd.DataFrame({"order": i, "wavelength": order.wavelength, "model": model, "flux": flux, "error": error}))
        table = pd.concat(parts, ignore_index=True)
        return table[table["wavelength"].between(*state.window)]

    def _draw_observed(self, state, columns):
        if not self._shared.spectra:
            return
        comparison = self._shared.spectra[state.spectrum][2]
        self.compared = comparison.at(state.labels, orders=comparison.orders_in(state.window), **_star(state))
        data, residuals, noise = ([] for _ in range(3))
        for order in self.compared.orders.values():
            seen = (order.wavelength >= state.low) & (order.wavelength <= state.high)
            x, level, good = order.wavelength[seen], order.continuum[seen], np.isfinite(order.error[seen])
            flux = np.where(good, order.flux[seen] / level, np.nan)
            rest, error = order.residual[seen] / level, np.where(good, order.error[seen] / level, np.nan)
            for place, values in ((data, flux), (residuals, rest)):
                shown, _ = thin_pixels(values, columns)
                place.append(np.stack([x[shown], values[shown]]))
            shown, _ = thin_pixels(error, columns)
            noise.append(np.stack([x[shown], error[shown]]))
        x, y = _joined(data)
        self.sources["data"].data = {"x": x, "y": y}
        x, y = _joined(residuals)
        self.sources["residuals"].data = {"x": x, "y": y}
        size = np.nanquantile(np.abs(y), 0.98) if np.isfinite(y).any() else 0.05
        # a scale that follows each residual would hide that they shrink
        if not 0.4 * self._residual_range.end < 1.3 * size < self._residual_range.end:
            self._residual_range.update(start=float(-2 * size), end=float(2 * size))
        x, y = _joined(noise)
        self.sources["noise"].data = {"x": x, "lower": -y, "upper": y}

    def _clear(self):
        for name, source in self.sources.items():
            columns = {"band": ("x", "lower", "upper"), "noise": ("x", "lower", "upper"), "names": ("x", "text"), "ticks": ("x",)}
            source.data = {column: np.empty(0) for column in columns.get(name, ("x", "y"))}

    def _ranged(self):
        self._see(float(self.range.start), float(self.range.end))

    def _widen(self, _attr, _old, width):
        if width and width != self._columns:
            self._columns = int(width)
            self._ranged()

    def _tapped(self, x, choose):
        if x is not None and self.lines is not None and len(self.lines.center):
            choose(int(self.lines.index[np.abs(self.lines.center - x).argmin()]))


def _star(state):
    return {"rv": state.rv, "vsini": state.vsini, "resolving_power": state.power}


def _joined(parts):
    """Orders one after the other, with gaps between them that no line crosses."""
    gap = np.full((2, 1), np.nan)
    return np.concatenate([piece for part in parts for piece in (part, gap)], axis=1) if parts else np.empty((2, 0))
