"""Sliders and number fields: one pair for each label, each velocity and the resolving power."""

import numpy as np
from bokeh.models import Checkbox, Column, Row, Slider, Spinner

from stellarhml.explore.look import EDGE, SHEET, TEXT
from stellarhml.explore.state import POWER_LIMITS, RV_LIMITS, VSINI_LIMITS

_USUAL_POWER = 55_000.0


class Controls:
    """The pairs.

    Parameters
    ----------
    names : tuple of str
        Names of the labels.
    bounds : ndarray of shape (n_labels, 2)
        Their ranges.
    state : State
        What is shown first.
    change : callable
        Called with the name and the value of what the user moved.

    Attributes
    ----------
    layout : Column
        What is put on the page.
    sliders, fields : dict of str to widget
        By name.
    """

    def __init__(self, names, bounds, state, change):
        self._names, self._change, self._busy = tuple(names), change, False
        self.sliders, self.fields = {}, {}
        rows = [self._pair(name, *ends, *ends, _step(*ends)) for name, ends in zip(names, bounds, strict=True)]
        rows.append(self._pair("rv", -200.0, 200.0, *RV_LIMITS, 0.5))
        rows.append(self._pair("vsini", 0.0, 100.0, *VSINI_LIMITS, 0.5))
        self.sharp = Checkbox(label="As sharp as the grid: no line spread", active=True, name="sharp", stylesheets=[SHEET])
        self.sharp.on_change("active", lambda _attr, _old, _new: self._moved("power", self.fields["power"].value))
        rows.append(self._pair("power", 5000.0, 150_000.0, *POWER_LIMITS, 1000.0))
        self.layout = Column(*rows, self.sharp, sizing_mode="stretch_width")
        self._power = state.power or _USUAL_POWER
        self.show(state, bounds)

    def show(self, state, bounds):
        """Bring the widgets to a state; a label at the edge of the grid is marked."""
        self._busy = True
        self._power = state.power or self._power
        values = dict(zip(self._names, state.labels, strict=True))
        values |= {"rv": state.rv, "vsini": state.vsini, "power": self._power}
        for name, value in values.items():
            slider, field = self.sliders[name], self.fields[name]
            if not slider.start <= value <= slider.end:
                slider.update(start=min(slider.start, value), end=max(slider.end, value))
            if slider.value != value:
                slider.value = value
            if field.value != value:
                field.value = value
        self.sharp.active = state.power is None
        for name in ("power",):
            self.sliders[name].disabled = self.fields[name].disabled = self.sharp.active
        edges = {self._names[k] for k in state.edges(bounds)}
        for name in self._names:
            slider, at_edge = self.sliders[name], name in edges
            slider.bar_color = EDGE[at_edge]
            slider.title = TEXT.get(name, name) + (": at the edge of the grid" if at_edge else "")
        self._busy = False

    def _pair(self, name, start, end, low, high, step):
        """A slider and a number field."""
        fixed = not end > start
        look = {"stylesheets": [SHEET], "disabled": fixed, "tags": [TEXT.get(name, name)]}
        low, high, start, end = (float(part) for part in (low, high, start, start + step if fixed else end))
        slider = self.sliders[name] = Slider(
            start=start, end=end, value=start, step=step, title=TEXT.get(name, name), show_value=False,
            name=f"slider-{name}", sizing_mode="stretch_width", **look,
        )  # fmt: skip
        field = self.fields[name] = Spinner(
            low=low, high=high, value=start, step=step, width=112, name=f"field-{name}", format="0.[0000]", **look
        )
        for widget in (slider, field):
            widget.on_change("value", lambda _attr, _old, value: self._moved(name, value))
        return Row(slider, field, sizing_mode="stretch_width", styles={"align-items": "end", "gap": "8px"})

    def _moved(self, name, value):
        """Hand on what the user did; what the page did itself is not looked at."""
        if self._busy or value is None:
            return
        if name == "power":
            value = None if self.sharp.active else float(value)
        self._change(name, value)


def _step(low, high):
    """About a hundredth of a range, as a power of ten."""
    return float(10.0 ** np.floor(np.log10((high - low) / 50))) if high > low else 1.0
