"""One line: its parameters, how it responds to each label, and its manifold with the current point."""

from html import escape

import numpy as np
from bokeh.models import Button, ColorBar, Column, ColumnDataSource, Div, LinearColorMapper, Range1d, Row, Select, Spinner
from bokeh.palettes import Cividis256
from bokeh.plotting import figure

from stellarhml.explore.look import CHOSEN, SERIES, SHEET, TEXT, table
from stellarhml.explore.state import QUANTITIES
from stellarhml.plotting._manifold_display import ManifoldDisplay
from stellarhml.synthesis.line_response import respond

_N_FINE = 30  # points of the map along each label
_HINT = "Click on a line in the spectrum, or step from line to line with the buttons."


class LineView:
    """The panel of one line.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    choose, step, show : callable
        Called with the number of a line that was named, with how many lines to go on, and with what the map is to show.
    """

    def __init__(self, generator, choose, step, show):
        self._generator, self._map = generator, None
        catalog = np.asarray(generator.decomposer_.line_catalog_)
        self.field = Spinner(title="Line near [Å]", low=float(catalog[0]), high=float(catalog[-1]), step=0.1, width=130, format="0.00", name="field-line", stylesheets=[SHEET])  # fmt: skip
        self.select = Select(title="Map shows", options=[(name, TEXT[name]) for name in QUANTITIES], value=QUANTITIES[1], width=170, name="quantity", stylesheets=[SHEET])  # fmt: skip
        back, on = (Button(label=text, width=96, name=name, stylesheets=[SHEET]) for text, name in (("◀ previous", "previous-line"), ("next ▶", "next-line")))  # fmt: skip
        back.on_click(lambda: step(-1))
        on.on_click(lambda: step(1))
        self.field.on_change("value", lambda _a, _o, x: x is not None and choose(int(np.abs(catalog - x).argmin())))
        self.select.on_change("value", lambda _a, _o, name: show(name))
        self.text = Div(text=f"<p>{_HINT}</p>", name="line", disable_math=True, sizing_mode="stretch_width", stylesheets=[SHEET])
        self.image = ColumnDataSource({"image": [], "x": [], "y": [], "dw": [], "dh": []}, name="manifold")
        self.point = ColumnDataSource({"x": [], "y": []}, name="point")
        self.nodes = ColumnDataSource({"x": [], "y": []}, name="nodes")
        self.curves = ColumnDataSource({"xs": [], "ys": [], "color": [], "label": []}, name="curves")
        self.now = ColumnDataSource({"x": [], "y": [], "color": []}, name="now")
        self._colors = LinearColorMapper(palette=Cividis256, nan_color="#e0e0e0")
        common = {"tools": "", "toolbar_location": None, "height": 260, "sizing_mode": "stretch_width", "min_width": 260}
        self._heat = figure(x_range=Range1d(0, 1), y_range=Range1d(0, 1), name="map", title="", **common)
        self._heat.image("image", "x", "y", "dw", "dh", source=self.image, color_mapper=self._colors)
        self._heat.scatter("x", "y", source=self.nodes, size=4, color="white", line_color="#404040", line_width=0.5)
        self._heat.scatter("x", "y", source=self.point, marker="circle_cross", size=16, fill_alpha=0, line_color="white", line_width=5)
        self._heat.scatter("x", "y", source=self.point, marker="circle_cross", size=16, fill_alpha=0, line_color=CHOSEN, line_width=2)
        self._heat.add_layout(ColorBar(color_mapper=self._colors, width=10, padding=2), "right")
        self._response = figure(x_range=Range1d(0, 1), name="response", title="Equivalent width [mÅ] over each label's range", **common)
        self._response.multi_line("xs", "ys", source=self.curves, color="color", line_width=2, legend_field="label")
        self._response.scatter("x", "y", source=self.now, size=9, color="color", line_color="white")
        self._response.xaxis.axis_label = "from the lowest (0) to the highest (1) value in the grid"
        self._response.legend.update(label_text_font_size="12px", padding=3, margin=4, background_fill_alpha=0.85)
        for plot in (self._heat, self._response):
            plot.xaxis.axis_label_text_font_style = plot.yaxis.axis_label_text_font_style = "normal"
        self.plots = Row(self._heat, self._response, visible=False, sizing_mode="stretch_width", styles={"flex-wrap": "wrap"})
        choice = Row(back, on, self.field, self.select, styles={"flex-wrap": "wrap", "align-items": "end", "gap": "8px"})
        self.layout = Column(choice, self.text, self.plots, sizing_mode="stretch_width")

    def draw(self, state):
        """Show the line that is chosen, at the current labels."""
        self.plots.visible = state.line is not None
        if state.line is None:
            return None
        names = self._generator.label_names_
        found = respond(self._generator, state.labels, state.line)
        if self.field.value is None or abs(self.field.value - found.name) > 1e-6:
            self.field.value = found.name
        self.select.value = state.quantity
        self.text.text = self._describe(found) if found.values else f"<p>The line at {found.name:.2f} Å is absent here.</p>"
        self._draw_curves(found, state, names)
        try:
            self._draw_map(found, state, names)
        except ValueError as error:  # a grid without two labels that vary has no map
            self._heat.title.text = escape(str(error))
        return found.values.get("center")

    def _describe(self, found):
        values = [(TEXT.get(name, name), f"{value:.5g}" if name != "center" else f"{value:.3f}") for name, value in found.values.items()]
        units = {"teff": (100.0, "100 K")}
        rows = []
        for name, slopes in found.slopes.items():
            per, text = units.get(name, (0.1, "0.1"))
            rows.append((f"{TEXT.get(name, name).split(' [')[0]} + {text}", f"{1e3 * per * slopes['equivalent_width']:+.2f}", f"{per * slopes['depth']:+.4f}"))
        half = -(-len(values) // 2)
        pairs = [(*a, *(values[half + i] if half + i < len(values) else ("", ""))) for i, a in enumerate(values[:half])]
        head = ("Parameter", "value", "", "value")
        return (
            '<div style="display:flex;flex-wrap:wrap;gap:6px 28px">'
            + table(head, pairs, f"Line at {found.name:.2f} Å (vacuum, at rest)")
            + table(("Response", "equivalent width [mÅ]", "depth"), rows, "Change with each label")
            + "</div>"
        )

    def _draw_curves(self, found, state, names):
        shown = [(name, x, 1e3 * y) for name, (x, y) in found.curves.items() if x[-1] > x[0]]
        colors = [SERIES[names.index(name) % len(SERIES)] for name, _, _ in shown]
        self.curves.data = {
            "xs": [(x - x[0]) / (x[-1] - x[0]) for _, x, _ in shown],
            "ys": [y for _, _, y in shown],
            "color": colors,
            "label": [TEXT.get(name, name).split(" [")[0] for name, _, _ in shown],
        }
        here = [(state.labels[names.index(name)] - x[0]) / (x[-1] - x[0]) for name, x, _ in shown]
        self.now.data = {"x": here, "y": [1e3 * found.values.get("equivalent_width", np.nan)] * len(shown), "color": colors}

    def _draw_map(self, found, state, names):
        nodes = self._generator.interpolator_.nodes_
        values = dict(zip(names, state.labels, strict=True))
        # what the map is of: the labels along its axes do not change it
        axes = self._map.axes if self._map else ()
        rest = {name: x for name, x in values.items() if name not in axes}
        if self._map is None or self._made_for != (state.line, state.quantity, rest):
            varying = [name for name, extent in zip(names, np.ptp(nodes, axis=0), strict=True) if extent > 0]
            axes = ("teff", "logg") if {"teff", "logg"} <= set(varying) else tuple(varying[:2])
            rest = {name: x for name, x in values.items() if name not in axes}
            self._map = ManifoldDisplay.measure(
                self._generator, line=found.name, parameter=state.quantity, labels=axes, fixed=rest, n_fine=_N_FINE
            )
            self._made_for = (state.line, state.quantity, rest)
            self._show_map(rest, state.quantity)
        self.point.data = {"x": [values[axes[0]]], "y": [values[axes[1]]]}

    def _show_map(self, rest, quantity):
        shown, (x, y) = self._map, self._map.axes
        # cells are centered on the points at which the map was computed
        ends = [(v[0] - (v[1] - v[0]) / 2, v[-1] + (v[1] - v[0]) / 2) for v in (shown.fine_x, shown.fine_y)]
        (left, right), (bottom, top) = ends
        self.image.data = {"image": [shown.fine_values], "x": [left], "y": [bottom], "dw": [right - left], "dh": [top - bottom]}
        self._heat.x_range.update(start=float(left), end=float(right))
        self._heat.y_range.update(start=float(bottom), end=float(top))
        grid_x, grid_y = np.meshgrid(shown.node_x, shown.node_y)
        there = np.isfinite(shown.node_values)
        self.nodes.data = {"x": grid_x[there], "y": grid_y[there]}
        self._heat.xaxis.axis_label, self._heat.yaxis.axis_label = TEXT.get(x, x), TEXT.get(y, y)
        others = ", ".join(f"{TEXT.get(name, name).split(' [')[0]} = {value:.3g}" for name, value in rest.items())
        self._heat.title.text = f"Manifold: {TEXT[quantity]}" + (f" at {others}" if others else "")
