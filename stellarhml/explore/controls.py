"""Sliders and number fields: one pair for each label, velocity and parameter of an effect, and the resolving power."""

import math
from functools import partial

from bokeh.models import Checkbox, Column, Row, Slider

from stellarhml.explore.page_state import LIMITS
from stellarhml.explore.widgets import MODEL, RESIDUAL, SHEET, field, symbol_of, title_of, watch
from stellarhml.forward.line_spread import FACTOR
from stellarhml.forward.tellurics import AMOUNT

_SLIDERS = {"rv": (-200.0, 200.0, 0.5), "vsini": (0.0, 100.0, 0.5), "power": (5000.0, 150_000.0, 1000.0)}
_EFFECTS = {  # parts of ranges that are too wide for a slider
    "rv_2": (-200.0, 200.0, 0.5),
    "vsini_2": (0.0, 100.0, 0.5),
    "vmac": (0.0, 20.0, 0.1),
    "veiling": (0.0, 3.0, 0.01),
    FACTOR: (0.5, 1.5, 0.01),
}
_AMOUNT = (0.0, 5.0, 0.01)
_USUAL_POWER = 55_000.0


class Controls:
    """Pairs of a slider and a field; `change` is called with the name and the new value.

    `names` are those of the labels, `grid_ranges` their ranges and those of labels of a second photosphere by name;
    `effects` are the ranges of the parameters of `Effects` by name.
    """

    def __init__(self, names, grid_ranges, change, effects):
        self._names, self._grid_ranges, self._change = tuple(names), grid_ranges, change
        self._power, self._limits = _USUAL_POWER, LIMITS | effects
        self.sliders, self.fields = {}, {}
        ranges = {name: (*map(float, grid_ranges[name]), _step(*grid_ranges[name])) for name in names}
        pairs = [self._pair(name, *ends) for name, ends in (ranges | _SLIDERS | _ranges(effects)).items()]
        label = "No line spread: the grid's own resolution"
        self.no_spread = Checkbox(label=label, name="no-line-spread", tags=[label], stylesheets=[SHEET])
        watch(self.no_spread, "active", lambda active: change("power", None if active else self._power))
        self.layout = Column(*pairs, self.no_spread, sizing_mode="stretch_width")

    def show(self, state):
        """Show a state, and mark labels at the edge of the grid."""
        self._power = state.power or self._power
        values = dict(zip(self._names, state.labels, strict=True)) | state.effects
        values |= {"rv": state.rv, "vsini": state.vsini, "power": self._power}
        for name, value in values.items():
            slider = self.sliders[name]
            if not slider.start <= value <= slider.end:
                slider.update(start=min(slider.start, value), end=max(slider.end, value))
            slider.value = self.fields[name].value = value
        self.no_spread.active = state.power is None
        for name in {"power", FACTOR} & self.sliders.keys():
            self.sliders[name].disabled = self.fields[name].disabled = state.power is None
        edges = state.edges(self._grid_ranges)
        for name in self._grid_ranges:
            title = f"{symbol_of(name)}: edge of the grid" if name in edges else title_of(name)
            self.sliders[name].update(title=title, bar_color=MODEL if name in edges else RESIDUAL)

    def _pair(self, name, start, end, step):
        text, fixed = title_of(name), not end > start
        look = {"disabled": fixed, "stylesheets": [SHEET], "tags": [text], "sizing_mode": "stretch_width"}
        ends = {"start": start, "end": start + step if fixed else end, "step": step, "value": start}
        slider = Slider(title=text, show_value=False, name=f"slider-{name}", bar_color=RESIDUAL, **ends, **look)
        act = partial(self._change, name)
        watch(slider, "value", act)
        low, high = self._limits.get(name, (start, end))
        format = {"teff": "0.[00]", "power": "0"}.get(name, "0.[0000]")
        number = field(f"field-{name}", text, act, low=low, high=high, step=step, disabled=fixed, format=format)
        self.sliders[name], self.fields[name] = slider, number
        return Row(slider, number, sizing_mode="stretch_width", styles={"align-items": "end", "gap": "8px"})


def _ranges(effects):
    """Ends and steps of the sliders of effects by name, from the ranges of their parameters."""
    usual = _EFFECTS | {name: _AMOUNT for name in effects if name.startswith(AMOUNT)}
    return {name: usual.get(name, (*ends, _step(*ends))) for name, ends in effects.items()}


def _step(low, high):
    """Step of a slider: the power of ten below a fiftieth of the range."""
    return 10.0 ** math.floor(math.log10((high - low) / 50)) if high > low else 1.0
