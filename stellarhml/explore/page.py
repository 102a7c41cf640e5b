"""One page: its state, the views that show it, and the callbacks that change it."""

import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from bokeh.core.templates import get_env
from bokeh.models import Column, Select

from stellarhml.explore.controls import Controls
from stellarhml.explore.fit_view import FitView
from stellarhml.explore.line_view import LineView
from stellarhml.explore.spectrum_view import SpectrumView
from stellarhml.explore.widgets import FOLDER, PANELS, SHEET, THEME, button, field, row, source, text, watch
from stellarhml.physics.wavelength import doppler_shift
from stellarhml.plotting._style import plain_symbol

_DELAY = 2  # ms: moves that arrive within are drawn together
_QUICK, _SOON, _PAUSE = 0.04, 40, 160  # s, ms, ms: details slower than _QUICK wait until sliders rest for _PAUSE
_STEPS = (("◀", "to shorter wavelengths", -0.5), ("▶", "to longer wavelengths", 0.5))  # in widths of the window
_ZOOMS = (("Zoom in", 0.5), ("Zoom out", 2.0), ("Whole band", 1e9))
_TEMPLATE = get_env().from_string((FOLDER / "page.html").read_text(encoding="utf-8"))


class Page:
    """One page in a Bokeh document."""

    def __init__(self, document, session):
        self._document, self._session = document, session
        self._drawing, self._detailing, self._seconds, self._updating = None, None, 0.0, False
        self._exports = count()
        request = getattr(document.session_context, "request", None)
        query = request.arguments.items() if request else ()
        self.state, problems = session.read_address(
            {name: values[0].decode(errors="replace") for name, values in query}
        )
        self.controls = Controls(session.names, session.grid_ranges, self._move, session.effects.limits)
        set_window = lambda low, high: self.change(low=low, high=high)  # noqa: E731
        self.spectrum = SpectrumView(session, self.state, set_window, self._select_line)
        self.line = LineView(session.generator, self._select_line, self._step, lambda name: self.change(quantity=name))
        self.fit = FitView(document, session, lambda: self.state, self._show_result, self._export)
        self._problems, self._status = text("problems"), text("status")
        self._problems.text = "".join(PANELS.note(problem, "problem") for problem in [*session.problems, *problems])
        self._problems.visible = bool(self._problems.text)
        with document.models.freeze():  # Bokeh looks for all models again at every root otherwise: half of the time
            self._lay_out()
            self._draw()
            self._draw_details()

    def change(self, **changes):
        """Change parts of the state."""
        self.set_state(replace(self.state, **changes))

    def set_state(self, state):
        """Set the state and draw it soon; changes that the page itself makes to its widgets are ignored."""
        if not self._updating:
            self.state = state
            if self._drawing is None:
                self._drawing = self._document.add_timeout_callback(self._draw, _DELAY)

    def _lay_out(self):
        """Put all widgets on the page."""
        document, (low, high) = self._document, self._session.window_limits
        ends = {"low": low, "high": high, "step": 1.0, "format": "0.00", "width": 104}
        self._ends = [
            field("from", "from wavelength", partial(self._set_end, 0), title="From [Å]", **ends),
            field("to", "to wavelength", partial(self._set_end, 1), title="To [Å]", **ends),
        ]
        zooms = [
            button(label, name, partial(self._zoom, by, 1), aria_label=name, width=44) for label, name, by in _STEPS
        ]
        zooms += [button(label, label.lower(), partial(self._zoom, 0, factor)) for label, factor in _ZOOMS]
        self._orders = Select(title="Order", name="order", width=175, visible=False, stylesheets=[SHEET])
        watch(self._orders, "value", self._show_order)
        options = [(str(i), Path(part[0]).name) for i, part in enumerate(self._session.spectra)]
        look = {"title": "Spectrum", "width": 180, "visible": len(options) > 1, "stylesheets": [SHEET]}
        spectra = Select(name="spectrum", options=options, value=str(self.state.spectrum), **look)
        watch(spectra, "value", lambda value: self.change(spectrum=int(value)))
        picture = button("PNG", "png", partial(self._export, "view.png", ""), width=60)  # the browser makes it
        csv = button("CSV", "csv", self._export_view, width=60)
        roots = {
            "controls": self.controls.layout,
            "notes": Column(self._problems, self._status, sizing_mode="stretch_width"),
            "view": self.spectrum.layout,
            "tools": row(*self._ends, *zooms, self._orders, spectra, picture, csv),
            "line": self.line.layout,
            "fit": self.fit.layout,
        }
        for name, root in roots.items():
            root.name = f"root-{name}"
            document.add_root(root)
        self._query, self._file = source("query", "query"), source("file", "name", "text", "number")
        for part in (self._query, self._file):  # page.js follows them
            document.add_root(part)
        document.template = _TEMPLATE
        document.template_variables["generator"] = self._session.title
        document.title, document.theme = f"{self._session.title} - stellarhml explore", THEME

    def _move(self, name, value):
        self.set_state(self.state.set(name, value, self._session.names))

    def _zoom(self, shift, factor):
        self.set_state(self.state.zoom(shift, factor, self._session.band))

    def _set_end(self, k, value):
        same = abs(self.state.window[k] - value) <= 0.006  # fields show two digits
        self.set_state(self.state if same else self.state.with_end(k, value, self._session.window_limits))

    def _show_order(self, value):
        if value:
            low, high = self._session.ranges(self.state)[int(value)]
            self.change(low=low, high=high)

    def _select_line(self, index):
        """Select a line; the window moves to it."""
        self.set_state(self.state.at_line(index, float(doppler_shift(self._session.catalog[index], self.state.rv))))

    def _step(self, n):
        shown = self.spectrum.lines.index.tolist()
        if shown:
            here = shown.index(self.state.line) + n if self.state.line in shown else min(n, 0)
            self._select_line(shown[here % len(shown)])

    def _show_result(self, result):
        """Move the sliders to the result of a fit."""
        labels = tuple(result.values[name] for name in self._session.names)
        effects = self._session.effects.fitted(self.state.effects, result)
        self.change(labels=labels, rv=result.values["rv"], vsini=result.values["vsini"], effects=effects)

    def _export(self, name, content):
        # the number makes the second export of the same a change
        self._file.data = {"name": [name], "text": [content], "number": [next(self._exports)]}

    def _export_view(self):
        self._export("view.csv", self._session.table(self.state).to_csv(index=False, float_format="%.10g"))

    def _draw(self):
        """Draw the curve at once, and schedule the details."""
        self._drawing = None
        with self._one_message():
            self.spectrum.draw(self.state)
            self.controls.show(self.state)
            self._show_status()
        slow = self._seconds > _QUICK
        if slow and self._detailing is not None:
            self._document.remove_timeout_callback(self._detailing)
        if slow or self._detailing is None:
            self._detailing = self._document.add_timeout_callback(self._draw_details, _PAUSE if slow else _SOON)

    def _draw_details(self):
        self._detailing, begin = None, time.perf_counter()
        with self._one_message():
            self.spectrum.draw_details(self.state)
            center = self.line.draw(self.state)
            self.spectrum.mark(None if center is None else float(doppler_shift(center, self.state.rv)))
            for end, value in zip(self._ends, self.state.window, strict=True):
                end.value = round(value, 2)
            ranges = self._session.ranges(self.state)
            options = [(str(i), name) for i, name in enumerate(self._session.order_names(self.state))]
            same = next((str(i) for i, ends in enumerate(ranges) if ends == self.state.window), "")
            self._orders.update(options=[("", "choose"), *options], value=same, visible=len(ranges) > 1)
            self._query.data = {"query": self._session.address(self.state)}
            self._show_status()
        self._seconds = time.perf_counter() - begin

    @contextmanager
    def _one_message(self):
        """Send all changes to the browser in one message."""
        self._document.hold("combine")
        self._updating = True
        try:
            yield
        finally:
            try:
                self._document.unhold()  # runs the callbacks of all changes
            finally:
                self._updating = False

    def _show_status(self):
        """Say which labels are at the edge of the grid, and how many pixels are drawn."""
        edges = [plain_symbol(name) for name in self.state.edges(self._session.grid_ranges)]
        self._status.text = PANELS.status(edges, self.spectrum.curve, self.spectrum.compared)
