"""Sliders and number fields: one pair for each label, each velocity and the resolving power."""

import math
from functools import partial

from bokeh.models import Checkbox, Column, Row, Slider

from stellarhml.explore.page_state import LIMITS
from stellarhml.explore.widgets import MODEL, RESIDUAL, SHEET, field, watch
from stellarhml.plotting._style import PLAIN_TEXT, plain_symbol

_SLIDERS = {"rv": (-200.0, 200.0, 0.5), "vsini": (0.0, 100.0, 0.5), "power": (5000.0, 150_000.0, 1000.0)}
_USUAL_POWER = 55_000.0


class Controls:
    """The pairs; `change` is called with the name and the value of what the user moved."""

    def __init__(self, names, bounds, change):
        self._names, self._bounds, self._change = tuple(names), bounds, change
        self._power = _USUAL_POWER
        self.sliders, self.fields = {}, {}
        ranges = {name: (*map(float, ends), _step(*ends)) for name, ends in zip(names, bounds, strict=True)}
        pairs = [self._pair(name, *ends) for name, ends in (ranges | _SLIDERS).items()]
        label = "As sharp as the grid: no line spread"
        self.sharp = Checkbox(label=label, name="sharp", tags=[label], stylesheets=[SHEET])
        watch(self.sharp, "active", lambda sharp: change("power", None if sharp else self._power))
        self.layout = Column(*pairs, self.sharp, sizing_mode="stretch_width")

    def show(self, state):
        """Bring the widgets to a state, and mark labels at the edge of the grid."""
        self._power = state.power or self._power
        values = zip(self._names, state.labels, strict=True)
        for name, value in (*values, ("rv", state.rv), ("vsini", state.vsini), ("power", self._power)):
            slider = self.sliders[name]
            if not slider.start <= value <= slider.end:
                slider.update(start=min(slider.start, value), end=max(slider.end, value))
            slider.value = self.fields[name].value = value
        self.sharp.active = state.power is None
        self.sliders["power"].disabled = self.fields["power"].disabled = state.power is None
        edges = state.edges(self._bounds)
        for k, name in enumerate(self._names):
            title = f"{plain_symbol(name)}: edge of the grid" if k in edges else PLAIN_TEXT.get(name, name)
            self.sliders[name].update(title=title, bar_color=MODEL if k in edges else RESIDUAL)

    def _pair(self, name, start, end, step):
        said, fixed = PLAIN_TEXT.get(name, name), not end > start
        look = {"disabled": fixed, "stylesheets": [SHEET], "tags": [said], "sizing_mode": "stretch_width"}
        ends = {"start": start, "end": start + step if fixed else end, "step": step, "value": start}
        slider = Slider(title=said, show_value=False, name=f"slider-{name}", bar_color=RESIDUAL, **ends, **look)
        act = partial(self._change, name)
        watch(slider, "value", act)
        low, high = LIMITS.get(name, (start, end))
        format = {"teff": "0.[00]", "power": "0"}.get(name, "0.[0000]")
        number = field(f"field-{name}", said, act, low=low, high=high, step=step, disabled=fixed, format=format)
        self.sliders[name], self.fields[name] = slider, number
        return Row(slider, number, sizing_mode="stretch_width", styles={"align-items": "end", "gap": "8px"})


def _step(low, high):
    """About a hundredth of a range, a power of ten."""
    return 10.0 ** math.floor(math.log10((high - low) / 50)) if high > low else 1.0
