"""The spectrum: the curve with its band, the lines that stand in it, the observed spectrum and the residuals."""

import numpy as np
from bokeh.events import Tap
from bokeh.models import BoxAnnotation, Column, Range1d, Span
from bokeh.plotting import figure

from stellarhml.explore.page_state import NARROWEST
from stellarhml.explore.screen_data import line_at, spread_names
from stellarhml.explore.widgets import CHOSEN, INK, MODEL, OBSERVED, QUIET, RESIDUAL, source, watch
from stellarhml.physics.wavelength import doppler_shift

_N_COLUMNS = 900  # before the page has told how wide it is
_N_TICKS, _NAME_WIDTH, _CLICK = 300, 62, 8  # lines that are marked; pixels that a name takes, that a click may miss
_TOOLS = "xpan,xwheel_zoom,box_zoom,undo,redo"


class SpectrumView:
    """The two plots; `see` is called with a window that the user asked for, `choose` with the number of a line."""

    def __init__(self, subject, state, see, choose):
        self._subject, self._see, self._choose = subject, see, choose
        self.lines, self.compared, self._columns = None, None, _N_COLUMNS
        self.range = Range1d(*state.window, name="window", bounds=subject.reach, min_interval=NARROWEST)
        self._rest = Range1d(-0.05, 0.05)
        common = {"x_range": self.range, "sizing_mode": "stretch_width", "lod_threshold": None, "min_border_left": 58}
        tools = {"tools": _TOOLS, "active_drag": "xpan", "active_scroll": "xwheel_zoom"}
        self.top = figure(height=340, y_range=(-0.02, 1.22), name="flux", **tools, **common)
        bottom = figure(height=150, y_range=self._rest, name="residual", tools="", toolbar_location=None, **common)
        columns = {"band": ("x", "lower", "upper"), "noise": ("x", "lower", "upper"), "names": ("x", "text")}
        names = ("band", "curve", "data", "residuals", "noise", "ticks", "names")
        self.sources = {name: source(name, *columns.get(name, ("x", "y"))) for name in names}
        data = {name: {"source": part} for name, part in self.sources.items()}
        top = self.top
        if subject.generator.error_map_ is not None:
            top.varea("x", "lower", "upper", color=MODEL, alpha=0.3, legend_label="error of generator", **data["band"])
        if subject.spectra:
            top.line("x", "y", color=OBSERVED, legend_label="observed", **data["data"])
        top.line("x", "y", color=MODEL, line_width=1.5, legend_label="model", **data["curve"])
        top.segment("x", 1.05, "x", 1.09, color=QUIET, **data["ticks"])
        look = {"text_font_size": "12px", "text_color": INK, "background_fill_color": "#ffffffcc"}
        top.text("x", 1.1, "text", text_align="center", **look, **data["names"])
        bottom.line("x", "y", color=RESIDUAL, **data["residuals"])
        for end in ("lower", "upper"):
            bottom.line("x", end, color=INK, line_dash="dotted", legend_label="noise, 1 std", **data["noise"])
        self._mark = Span(dimension="height", line_color=CHOSEN, line_dash="dashed", line_width=2, visible=False)
        self._unknown = [BoxAnnotation(fill_color="#d0d0d0", fill_alpha=0.6, name=name) for name in ("before", "after")]
        for part in (self._mark, *self._unknown):
            top.add_layout(part)
        for plot in (top, bottom) if subject.spectra else (top,):
            plot.legend.update(location="bottom_right", orientation="horizontal")
        top.yaxis.axis_label, bottom.yaxis.axis_label = "Normalized flux", "Residual"
        bottom.yaxis.ticker.desired_num_ticks = 5
        bottom.visible = bool(subject.spectra)
        (bottom if subject.spectra else top).xaxis.axis_label = "Observed wavelength, vacuum [Å]"
        top.xaxis.major_label_text_font_size = "0px" if subject.spectra else "11px"
        self.layout = Column(top, bottom, sizing_mode="stretch_width", name="view")
        for end in ("start", "end"):
            watch(self.range, end, lambda _: see(float(self.range.start), float(self.range.end)))
        watch(top, "inner_width", self._widen)
        top.on_event(Tap, self._tap)

    def draw(self, state):
        """Draw the curve: what must follow a slider at once."""
        if (self.range.start, self.range.end) != state.window:
            self.range.update(start=state.low, end=state.high)
        self.view = view = self._subject.view(state, self._columns)
        known = np.isfinite(view.lower)
        self.sources["curve"].data = {"x": view.wavelength, "y": view.flux}
        band = {"x": view.wavelength[known], "lower": view.lower[known], "upper": view.upper[known]}
        self.sources["band"].data = band

    def draw_details(self, state):
        """Draw what may follow a moment later: lines, the ends of the band, and what was observed."""
        low, high = state.window
        self.lines = lines = self._subject.lines(state, _N_TICKS)
        self.sources["ticks"].data = {"x": lines.center, "y": lines.depth}
        named = spread_names(lines, _NAME_WIDTH / self._columns * (high - low), state.window)
        self.sources["names"].data = {"x": lines.center[named], "text": [f"{x:.2f}" for x in lines.name[named]]}
        ends = (float(doppler_shift(end, state.rv)) for end in self._subject.band)
        self._unknown[0].right, self._unknown[1].left = ends
        self.compared = self._subject.compare(state)
        if self.compared is not None:
            (x, y), (rest_x, rest), (noise_x, noise) = self.compared.drawn(state.window, self._columns)
            self.sources["data"].data = {"x": x, "y": y}
            self.sources["residuals"].data = {"x": rest_x, "y": rest}
            self.sources["noise"].data = {"x": noise_x, "lower": -noise, "upper": noise}
            size = float(2 * np.nanquantile(np.abs(rest), 0.98)) if np.isfinite(rest).any() else 0.05
            # a scale that followed each residual would hide that they shrink
            if not 0.3 * self._rest.end < size < 1.2 * self._rest.end:
                self._rest.update(start=-size, end=size)

    def mark(self, center):
        """Mark the line that was chosen, by the wavelength of its center, or none."""
        self._mark.update(location=center, visible=center is not None)

    def _widen(self, width):
        if width and width != self._columns:
            self._columns = int(width)
            self._see(float(self.range.start), float(self.range.end))

    def _tap(self, event):
        if event.x is not None and self.lines is not None and len(self.lines.center):
            reach = _CLICK / self._columns * (self.range.end - self.range.start)
            self._choose(int(self.lines.index[line_at(self.lines, event.x, reach)]))
