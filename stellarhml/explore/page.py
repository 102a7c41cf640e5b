"""One page: a state of its own, the views that show it, and callbacks that change it."""

import time
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path

from bokeh.core.templates import get_env
from bokeh.events import DocumentReady
from bokeh.models import Button, Column, ColumnDataSource, CustomJS, Div, Row, Select, Spinner

from stellarhml.explore.controls import Controls
from stellarhml.explore.fit_view import FitView
from stellarhml.explore.line_view import LineView
from stellarhml.explore.look import SHEET, TEXT
from stellarhml.explore.spectrum_view import SpectrumView
from stellarhml.explore.state import POWER_LIMITS, State, from_query, to_query

_DRAW_DELAY = 2  # ms in which moves that came meanwhile are taken together
_QUICK, _PAUSE = 0.04, 160  # s: details that take longer wait until the sliders rest for so many ms
_FIRST_WINDOW = 60.0  # angstrom
_TEMPLATE = Path(__file__).with_name("page.html")
_RUN = {name: f"window.explorer.{name}(cb_obj{more});" for name, more in (("ready", ", source"), ("query", ""), ("save", ""))}


class Page:
    """One page.

    Parameters
    ----------
    document : Document
        Bokeh's document.
    shared : Shared
        Generator and spectra.
    """

    def __init__(self, document, shared):
        self._document, self._shared, self._generator = document, shared, shared.generator
        self._names, self._bounds = self._generator.label_names_, self._generator.interpolator_.bounds_
        self._drawing, self._detailing, self._seconds, self._messages = None, None, 0.0, list(shared.problems)
        self.state = self._first_state()
        self._seen = self.state
        self.controls = Controls(self._names, self._bounds, self.state, self._move)
        self.spectrum = SpectrumView(shared, self.state, self._see, self._choose)
        self.line = LineView(self._generator, self._choose, self._step, lambda name: self.change(quantity=name))
        self.fit = FitView(document, shared, lambda: self.state, self._take, self._export)
        self._query = ColumnDataSource({"query": [""]}, name="query")
        self._file = ColumnDataSource({"name": [], "text": []}, name="file")
        self._note = Div(name="note", disable_math=True, sizing_mode="stretch_width", stylesheets=[SHEET])
        self._edge = Div(name="edge", disable_math=True, sizing_mode="stretch_width", stylesheets=[SHEET])
        self._lay_out()
        self._draw()
        self._draw_details()

    def change(self, **changes):
        """Change the state; all changes that come until the page is drawn are drawn at once."""
        state = replace(self.state, **changes)
        if state == self.state:
            return
        self.state = state
        if self._drawing is None:
            self._drawing = self._document.add_timeout_callback(self._draw, _DRAW_DELAY)

    def _first_state(self):
        band = tuple(float(x) for x in self._generator.wavelength_[[0, -1]])
        low, high = band
        if self._shared.spectra:
            ranges = [ends for ends in self._shared.spectra[0][2].ranges if ends[1] > band[0] and ends[0] < band[1]]
            low, high = ranges[len(ranges) // 2] if ranges else band
            low, high = max(low, band[0]), min(high, band[1])
        elif high - low > _FIRST_WINDOW:
            low = (low + high - _FIRST_WINDOW) / 2
            high = low + _FIRST_WINDOW
        power = self._shared.spectra[0][1].meta.get("resolving_power") if self._shared.spectra else None
        power = float(power) if power and POWER_LIMITS[0] <= power <= POWER_LIMITS[1] else None
        start = State(tuple(float(x) for x in self._bounds.mean(axis=1)), low, high, power=power)
        request = self._document.session_context.request if self._document.session_context else None
        query = {name: values[0].decode(errors="replace") for name, values in request.arguments.items()} if request else {}
        state, problems = from_query(
            query, start, names=self._names, bounds=self._bounds, band=band,
            n_lines=len(self._generator.decomposer_.line_catalog_), n_spectra=len(self._shared.spectra),
            grid_id=self._generator.grid_id_,
        )  # fmt: skip
        self._messages += problems
        return state

    def _lay_out(self):
        """Put all on the page."""
        document, look = self._document, {"stylesheets": [SHEET]}
        band = self._generator.wavelength_[[0, -1]]
        ends = {"low": float(band[0]), "high": float(band[1]), "step": 1.0, "format": "0.00", "width": 104, **look}
        self._ends = [Spinner(title=text, name=name, **ends) for text, name in (("From [Å]", "from"), ("To [Å]", "to"))]
        for k, field in enumerate(self._ends):
            field.on_change("value", partial(self._type_end, k))
        moves = {"◀": (-0.5, 1.0), "▶": (0.5, 1.0), "zoom in": (0.0, 0.5), "zoom out": (0.0, 2.0), "whole band": (0.0, 1e6)}
        window = []
        for text, (shift, factor) in moves.items():
            titles = {"◀": "to shorter wavelengths", "▶": "to longer wavelengths"}
            button = Button(label=text, name=titles.get(text, text), tags=[titles.get(text, text)], width=44 if text in titles else 84, **look)
            button.on_click(lambda shift=shift, factor=factor: self._zoom(shift, factor))
            window.append(button)
        self._orders = Select(title="Order", name="order", width=150, visible=False, **look)
        self._orders.on_change("value", lambda _a, _o, value: value and self._show_order(int(value)))
        self._spectra = Select(title="Spectrum", name="spectrum-choice", width=200, value=str(self.state.spectrum), visible=len(self._shared.spectra) > 1,
                               options=[(str(i), Path(part[0]).name) for i, part in enumerate(self._shared.spectra)], **look)  # fmt: skip
        self._spectra.on_change("value", lambda _a, _o, value: self.change(spectrum=int(value)))
        png, csv = (Button(label=text, name=text.lower(), width=60, **look) for text in ("PNG", "CSV"))
        png.js_on_event("button_click", CustomJS(args={"view": self.spectrum.layout}, code="window.explorer.picture(view);"))
        csv.on_click(lambda: self._export("view.csv", self.spectrum.table(self.state).to_csv(index=False, float_format="%.10g")))
        tools = Row(*self._ends, *window, self._orders, self._spectra, png, csv, name="tools", sizing_mode="stretch_width",
                    styles={"flex-wrap": "wrap", "align-items": "end", "gap": "6px"})  # fmt: skip
        roots = {
            "controls": self.controls.layout, "notes": Column(self._note, self._edge, sizing_mode="stretch_width"),
            "view": self.spectrum.layout, "tools": tools, "line": self.line.layout, "fit": self.fit.layout,
        }  # fmt: skip
        for name, root in roots.items():
            root.name = f"root-{name}"
            document.add_root(root)
        # what stands in no layout must be referred to by something that does
        self._note.js_on_change("name", CustomJS(args={"query": self._query, "file": self._file}, code=""))
        self._query.js_on_change("data", CustomJS(code=_RUN["query"]))
        self._file.js_on_change("data", CustomJS(code=_RUN["save"]))
        document.js_on_event(DocumentReady, CustomJS(args={"source": self._query}, code=_RUN["ready"]))
        document.template = get_env().from_string(_TEMPLATE.read_text(encoding="utf-8"))
        document.template_variables["generator"] = self._shared.title
        document.title = f"{self._shared.title} - stellarhml explore"
        document.on_session_destroyed(lambda _context: self.fit.cancel())

    def _move(self, name, value):
        """What a slider or a number field does."""
        self.change(**vars(self.state.change(name, value, self._names)))

    def _see(self, low, high):
        """Another window, from the plot itself; its width is known only now and then changes the pixels too."""
        self.change(low=low, high=high)
        if self._drawing is None and self.state == self._seen:
            self._drawing = self._document.add_timeout_callback(self._draw, _DRAW_DELAY)

    def _zoom(self, shift, factor):
        first, last = (float(x) for x in self._generator.wavelength_[[0, -1]])
        low, high = self.state.window
        width = min((high - low) * factor, last - first)
        center = (low + high) / 2 + shift * (high - low)
        low = min(max(center - width / 2, first), last - width)
        self.change(low=low, high=low + width)

    def _type_end(self, k, _attr, _old, value):
        ends = list(self.state.window)
        if value is None or abs(ends[k] - value) < 0.006:
            return
        ends[k] = float(value)
        if ends[0] < ends[1]:
            self.change(low=ends[0], high=ends[1])

    def _show_order(self, i):
        low, high = self._shared.spectra[self.state.spectrum][2].ranges[i]
        if (low, high) != self.state.window:
            self.change(low=low, high=high)

    def _choose(self, index):
        """Take a line; the window follows where it is not in it."""
        x = float(self._generator.decomposer_.line_catalog_[index])
        low, high = self.state.window
        if not low <= x * (1 + self.state.rv / 3e5) <= high:
            low, high = x - (high - low) / 2, x + (high - low) / 2
        self.change(line=index, low=low, high=high)

    def _step(self, n):
        """Go on by some of the lines that are drawn."""
        shown = list(self.spectrum.lines.index) if self.spectrum.lines is not None else []
        if shown:
            here = shown.index(self.state.line) + n if self.state.line in shown else (0 if n > 0 else len(shown) - 1)
            self._choose(int(shown[min(max(here, 0), len(shown) - 1)]))

    def _take(self, result):
        """Move the sliders to what a fit found."""
        labels = tuple(result.values[name] for name in self._names)
        self.change(labels=labels, rv=result.values["rv"], vsini=result.values["vsini"])

    def _export(self, name, text):
        """Hand a file to the browser."""
        self._file.data = {"name": [name], "text": [text]}

    def _draw(self):
        self._drawing = None
        self._seen = self.state
        self._document.hold("combine")
        try:
            self.spectrum.draw(self.state)
            self.controls.show(self.state, self._bounds)
            self._tell()
        finally:
            self._document.unhold()
        if self._detailing is not None:
            self._document.remove_timeout_callback(self._detailing)
        delay = _PAUSE if self._seconds > _QUICK else 1
        self._detailing = self._document.add_timeout_callback(self._draw_details, delay)

    def _draw_details(self):
        self._detailing, begin = None, time.perf_counter()
        self._document.hold("combine")
        try:
            self.spectrum.draw_details(self.state)
            center = self.line.draw(self.state)
            self.spectrum.mark(None if center is None else center * (1 + self.state.rv / 299792.458))
            for field, value in zip(self._ends, self.state.window, strict=True):
                field.value = round(value, 2)
            self._show_orders()
            self._query.data = {"query": [to_query(self.state, self._names, self._generator.grid_id_)]}
            self._tell()
        finally:
            self._document.unhold()
        self._seconds = time.perf_counter() - begin

    def _show_orders(self):
        """The choice of orders, and which one is in view."""
        if not self._shared.spectra:
            return
        comparison = self._shared.spectra[self.state.spectrum][2]
        options = [("", "choose")]
        options += [(str(i), f"{i}: {low:.0f}-{high:.0f} Å") for i, (low, high) in enumerate(comparison.ranges)]
        same = [str(i) for i, ends in enumerate(comparison.ranges) if ends == self.state.window]
        self._orders.update(options=options, value=same[0] if same else "", visible=len(comparison.ranges) > 1)

    def _tell(self):
        """Say what is at the edge, what is drawn, and what went wrong."""
        edges = [TEXT.get(self._names[k], self._names[k]).split(" [")[0] for k in self.state.edges(self._bounds)]
        text = ""
        if self.spectrum.view.outside:
            text = "Outside the grid: the nearest point of the grid is drawn. Nothing is extrapolated."
        elif edges:
            text = f"{' and '.join(edges)} at the edge of the grid, where it ends: nothing is extrapolated."
        edge = f'<p class="edge" role="status">{escape(text)}</p>' if text else ""
        view, compared = self.spectrum.view, self.spectrum.compared
        what = f"{view.n_pixels:,} pixels in view" + (f", lowest and highest of each {view.run} drawn" if view.run > 1 else ", all drawn")
        if compared is not None and compared.n_pixels:
            what += f"; mean squared residual {compared.chi2:.3g} in units of the errors, {compared.n_pixels:,} observed pixels"
        problems = "".join(f'<p role="alert" class="problem">{escape(message)}</p>' for message in self._messages)
        self._edge.text = f"{edge}<p>{what}</p>"
        self._note.text = problems
        self._note.visible = bool(problems)
