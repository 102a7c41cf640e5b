"""The line panel: species and parameters of a line, its response to each label, its manifold with the current point."""

from functools import partial

import numpy as np
from bokeh.models import ColorBar, Column, LinearColorMapper, Range1d, Select
from bokeh.palettes import Cividis256
from bokeh.plotting import figure

from stellarhml.explore.page_state import QUANTITIES
from stellarhml.explore.screen_data import line_response
from stellarhml.explore.widgets import (
    CHOSEN,
    PANELS,
    SERIES,
    SHEET,
    button,
    field,
    row,
    source,
    symbol_of,
    text,
    title_of,
    watch,
)
from stellarhml.plotting._manifold_display import ManifoldDisplay
from stellarhml.plotting._style import PLAIN_TEXT, line_name, plain_symbol

_N_FINE = 30  # points of the map along each label
_STEPS = {"teff": (100.0, "100 K")}  # for which responses are shown; 0.1 for other labels
_HINT = "Click on a line in the spectrum, or step through the lines with the buttons."


class LineView:
    """The panel; callbacks `select_line(number)`, `step(n_lines)` and `set_quantity(name)` change the page's state."""

    def __init__(self, generator, select_line, step, set_quantity):
        self._generator, self._map_key = generator, None
        names, spans = generator.label_names_, np.ptp(generator.interpolator_.bounds_, axis=1)
        varying = tuple(name for name, span in zip(names, spans, strict=True) if span > 0)
        self._axes = ("teff", "logg") if {"teff", "logg"} <= set(varying) else varying[:2]
        catalog = np.asarray(generator.decomposer_.line_catalog_)
        options = [(name, PLAIN_TEXT.get(name, name)) for name in QUANTITIES]
        self.select = Select(title="Map shows", options=options, width=170, name="quantity", stylesheets=[SHEET])
        watch(self.select, "value", set_quantity)
        ends = {"low": catalog.min(initial=0.0), "high": catalog.max(initial=1.0), "step": 0.1}
        find = lambda x: select_line(int(np.abs(catalog - x).argmin())) if len(catalog) else None  # noqa: E731
        self.field = field("field-line", "Line near [Å]", find, title="Line near [Å]", format="0.00", **ends)
        ways = (("◀", "previous line", -1), ("▶", "next line", 1))
        steps = [button(label, name, partial(step, n), aria_label=name, width=44) for label, name, n in ways]
        self.text = text("line")
        columns = {"manifold": ("image", "x", "y", "dw", "dh"), "curves": ("xs", "ys", "color", "label")}
        columns["now"] = ("x", "y", "color")
        parts = ("manifold", "nodes", "point", "curves", "now")
        self.sources = {name: source(name, *columns.get(name, ("x", "y"))) for name in parts}
        data = {name: {"source": part} for name, part in self.sources.items()}
        common = {"tools": "", "toolbar_location": None, "sizing_mode": "stretch_width", "min_width": 270}
        self._map = figure(x_range=Range1d(), y_range=Range1d(), title="Manifold", name="map", height=290, **common)
        self._map.visible = len(self._axes) == 2
        colors = LinearColorMapper(palette=Cividis256, nan_color="#e0e0e0")
        self._map.image("image", "x", "y", "dw", "dh", color_mapper=colors, **data["manifold"])
        self._map.scatter("x", "y", size=5, color="white", line_color="#404040", **data["nodes"])
        for color, width in (("white", 6), (CHOSEN, 3)):
            look = {"marker": "circle_x", "size": 17, "fill_alpha": 0.0, "line_color": color, "line_width": width}
            self._map.scatter("x", "y", **look, **data["point"])
        self._map.add_layout(ColorBar(color_mapper=colors, width=12, padding=4), "right")
        title = "Equivalent width [mÅ] along each label"
        curves = self._curves = figure(title=title, x_range=Range1d(-0.03, 1.03), name="response", height=290, **common)
        curves.multi_line("xs", "ys", color="color", line_width=2, legend_field="label", **data["curves"])
        curves.scatter("x", "y", size=10, color="color", line_color="white", **data["now"])
        curves.legend.orientation = "horizontal"
        curves.add_layout(curves.legend[0], "above")
        curves.xaxis.axis_label = "lowest (0) to highest (1) value in the grid"
        self.plots = row(self._map, curves, visible=False)
        self.layout = Column(row(*steps, self.field, self.select), self.text, self.plots, sizing_mode="stretch_width")

    def draw(self, state):
        """Show the selected line at the current labels; returns its center at rest, or None."""
        self.select.value, self.plots.visible = state.quantity, state.line is not None
        if state.line is None:
            self.text.text = PANELS.note(_HINT, "hint")
            return None
        found = line_response(self._generator, state.labels, state.line)
        self.field.value = found.name
        name = line_name(found.name, found.tag.get("species", ""))
        self.text.text = PANELS.line(found, name, PLAIN_TEXT, plain_symbol, _STEPS)
        values = dict(zip(self._generator.label_names_, state.labels, strict=True))
        along, width = found.scaled_curves(values), 1e3 * found.values.get("equivalent_width", np.nan)
        xs, ys, here = (list(part) for part in zip(*along.values(), strict=True)) if along else ([], [], [])
        colors = [SERIES[list(values).index(name) % len(SERIES)] for name in along]
        self.sources["curves"].data = {"xs": xs, "ys": ys, "color": colors, "label": [*map(symbol_of, along)]}
        self.sources["now"].data = {"x": here, "y": [width] * len(here), "color": colors}
        if len(self._axes) == 2:
            self._draw_map(state, found.name, values)
        return found.values.get("center")

    def _draw_map(self, state, line, values):
        """Move the point on the map; compute the map again only if other labels, the line or the quantity changed."""
        x, y = self._axes
        self.sources["point"].data = {"x": [values[x]], "y": [values[y]]}
        rest = {name: value for name, value in values.items() if name not in self._axes}
        key = (state.line, state.quantity, rest)
        if self._map_key == key:
            return
        settings = {"line": line, "parameter": state.quantity, "labels": self._axes, "fixed": rest, "n_fine": _N_FINE}
        shown = ManifoldDisplay.measure(self._generator, **settings)
        self._map_key = key
        left, right, bottom, top = shown.extent
        self._map.x_range.update(start=left, end=right)
        self._map.y_range.update(start=bottom, end=top)
        place = {"x": [left], "y": [bottom], "dw": [right - left], "dh": [top - bottom]}
        self.sources["manifold"].data = {"image": [shown.fine_values], **place}
        known = np.isfinite(shown.node_values)
        node_x, node_y = (part[known] for part in np.meshgrid(shown.node_x, shown.node_y))
        self.sources["nodes"].data = {"x": node_x, "y": node_y}
        self._map.xaxis.axis_label, self._map.yaxis.axis_label = map(title_of, (x, y))
        others = ", ".join(f"{symbol_of(name)} = {value:.4g}" for name, value in rest.items())
        title = PLAIN_TEXT.get(state.quantity, state.quantity)
        self._map.title.text = f"Manifold: {title}" + (f"\nat {others}" if others else "")
