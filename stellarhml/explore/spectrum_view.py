"""The plots: model spectrum with its error band, ticks of the lines, observed spectrum, transmission and residuals."""

import numpy as np
from bokeh.events import Tap
from bokeh.models import BoxAnnotation, Column, Range1d, Span
from bokeh.plotting import figure

from stellarhml.explore.page_state import NARROWEST
from stellarhml.explore.screen_data import line_at, lines_to_name
from stellarhml.explore.widgets import CHOSEN, INK, MODEL, OBSERVED, QUIET, RESIDUAL, SERIES, source, watch
from stellarhml.physics.wavelength import doppler_shift
from stellarhml.plotting._style import line_name

_N_COLUMNS = 900  # until the browser reports its width
_N_TICKS, _CLICK = 300, 8  # ticks; reach of a click in screen pixels
_NAME_WIDTH, _NAME_WIDTH_SPECIES = 62, 104  # screen pixels: of a name, of one with the species
_TOOLS = "xpan,xwheel_zoom,box_zoom,undo,redo"


class SpectrumView:
    """Two plots, and a third of the transmission where an atmosphere is modelled.

    Callbacks `set_window(low, high)` and `select_line(number)` change the page's state.
    """

    def __init__(self, session, state, set_window, select_line):
        self._session, self._set_window, self._select_line = session, set_window, select_line
        self.lines, self.compared, self._columns = None, None, _N_COLUMNS
        self.range = Range1d(*state.window, name="window", bounds=session.window_limits, min_interval=NARROWEST)
        self._residual_range = Range1d(-0.05, 0.05)
        common = {"x_range": self.range, "sizing_mode": "stretch_width", "lod_threshold": None, "min_border_left": 58}
        tools = {"tools": _TOOLS, "active_drag": "xpan", "active_scroll": "xwheel_zoom"}
        self.top = figure(height=340, y_range=(-0.02, 1.22), name="flux", **tools, **common)
        bottom = figure(
            height=150, y_range=self._residual_range, name="residual", tools="", toolbar_location=None, **common
        )
        columns = {"band": ("x", "lower", "upper"), "noise": ("x", "lower", "upper"), "names": ("x", "text")}
        names = ("band", "curve", "data", "residuals", "noise", "air", "ticks", "names")
        self.sources = {name: source(name, *columns.get(name, ("x", "y"))) for name in names}
        data = {name: {"source": part} for name, part in self.sources.items()}
        top = self.top
        if session.generator.error_map_ is not None:
            top.varea("x", "lower", "upper", color=MODEL, alpha=0.3, legend_label="error of generator", **data["band"])
        if session.spectra:
            top.line("x", "y", color=OBSERVED, legend_label="observed", **data["data"])
        top.line("x", "y", color=MODEL, line_width=1.5, legend_label="model", **data["curve"])
        top.segment("x", 1.05, "x", 1.09, color=QUIET, **data["ticks"])
        look = {"text_font_size": "12px", "text_color": INK, "background_fill_color": "#ffffffcc"}
        top.text("x", 1.1, "text", text_align="center", **look, **data["names"])
        bottom.line("x", "y", color=RESIDUAL, **data["residuals"])
        for end in ("lower", "upper"):
            bottom.line("x", end, color=INK, line_dash="dotted", legend_label="noise, 1 std", **data["noise"])
        self._mark = Span(dimension="height", line_color=CHOSEN, line_dash="dashed", line_width=2, visible=False)
        self._outside_band = [
            BoxAnnotation(fill_color="#d0d0d0", fill_alpha=0.6, name=name) for name in ("before", "after")
        ]
        for part in (self._mark, *self._outside_band):
            top.add_layout(part)
        for plot in (top, bottom) if session.spectra else (top,):
            plot.legend.update(location="bottom_right", orientation="horizontal")
        top.yaxis.axis_label, bottom.yaxis.axis_label = "Normalized flux", "Residual"
        bottom.yaxis.ticker.desired_num_ticks = 5
        bottom.visible = bool(session.spectra)
        (bottom if session.spectra else top).xaxis.axis_label = "Observed wavelength, vacuum [Å]"
        top.xaxis.major_label_text_font_size = "0px" if session.spectra else "11px"
        middle = [self._transmission_plot(common)] if session.spectra and session.effects.tellurics else []
        self.layout = Column(top, *middle, bottom, sizing_mode="stretch_width", name="view")
        for end in ("start", "end"):
            watch(self.range, end, lambda _: set_window(float(self.range.start), float(self.range.end)))
        watch(top, "inner_width", self._widen)
        top.on_event(Tap, self._tap)

    def draw(self, state):
        """Draw the curve, which follows a slider at once."""
        if (self.range.start, self.range.end) != state.window:
            self.range.update(start=state.low, end=state.high)
        self.curve = curve = self._session.spectrum(state, self._columns)
        known = np.isfinite(curve.lower)
        self.sources["curve"].data = {"x": curve.wavelength, "y": curve.flux}
        band = {"x": curve.wavelength[known], "lower": curve.lower[known], "upper": curve.upper[known]}
        self.sources["band"].data = band

    def draw_details(self, state):
        """Draw what follows a moment later: lines, the ends of the band, and the observed spectrum."""
        low, high = state.window
        self.lines = lines = self._session.lines(state, _N_TICKS)
        self.sources["ticks"].data = {"x": lines.center, "y": lines.depth}
        width = _NAME_WIDTH_SPECIES if self._session.generator.tags_ is not None else _NAME_WIDTH
        named = lines_to_name(lines, width / self._columns * (high - low), state.window)
        texts = [line_name(*of) for of in zip(lines.name[named], lines.species[named], strict=True)]
        self.sources["names"].data = {"x": lines.center[named], "text": texts}
        ends = (float(doppler_shift(end, state.rv)) for end in self._session.band)
        self._outside_band[0].right, self._outside_band[1].left = ends
        self.compared = self._session.compare(state)
        if self.compared is not None:
            (x, y), (residual_x, residual), (noise_x, noise), air = self.compared.thinned(state.window, self._columns)
            self.sources["data"].data = {"x": x, "y": y}
            self.sources["residuals"].data = {"x": residual_x, "y": residual}
            self.sources["air"].data = dict(zip("xy", air, strict=True))
            self.sources["noise"].data = {"x": noise_x, "lower": -noise, "upper": noise}
            size = float(2 * np.nanquantile(np.abs(residual), 0.98)) if np.isfinite(residual).any() else 0.05
            # a scale that follows every change would hide that residuals shrink
            if not 0.3 * self._residual_range.end < size < 1.2 * self._residual_range.end:
                self._residual_range.update(start=-size, end=size)

    def mark(self, center):
        """Mark the selected line at the wavelength of its center; None removes the mark."""
        self._mark.update(location=center, visible=center is not None)

    def _transmission_plot(self, common):
        """Plot of the transmission of the atmosphere, between the others."""
        plot = figure(height=100, y_range=(-0.05, 1.08), name="transmission", tools="", toolbar_location=None, **common)
        plot.line("x", "y", color=SERIES[2], source=self.sources["air"])
        plot.yaxis.axis_label = "Transm."
        plot.yaxis.ticker.desired_num_ticks = 3
        plot.xaxis.major_label_text_font_size = "0px"
        return plot

    def _widen(self, width):
        if width and width != self._columns:
            self._columns = int(width)
            self._set_window(float(self.range.start), float(self.range.end))

    def _tap(self, event):
        if event.x is not None and self.lines is not None and len(self.lines.center):
            reach = _CLICK / self._columns * (self.range.end - self.range.start)
            self._select_line(int(self.lines.index[line_at(self.lines, event.x, reach)]))
