"""The state of one page, and the query of its address that stores it."""

from dataclasses import dataclass, field, fields, replace
from math import isfinite

from stellarhml._bounds import near_bound
from stellarhml.explore.effects import shown_factor
from stellarhml.forward.chain import RV, VSINI

LIMITS = {"rv": RV.bounds, "vsini": VSINI.bounds, "power": (1000.0, 500_000.0)}
"""Ranges of velocities in km/s and of the resolving power."""
QUANTITIES = ("depth", "equivalent_width", "saturation")
NARROWEST = 0.05
"""Smallest width of a window, in angstrom."""
NO_LINE_SPREAD = "none"
"""Value in an address for a spectrum at the generator's own resolution."""

_FIRST_WINDOW = 60.0  # angstrom
_INTEGERS = ("line", "spectrum")


@dataclass(frozen=True)
class PageState:
    """What one page shows.

    `labels` of the star; the window from `low` to `high` [angstrom]; `rv` and `vsini` [km/s]; resolving `power`, None
    for the generator's own resolution; `line`, the selected line's number in the catalogue, or None, and the `quantity`
    on its map; `spectrum`, the number of the observed spectrum that is shown; `effects`, values of the parameters of
    `Effects` by name.
    """

    labels: tuple
    low: float
    high: float
    rv: float = 0.0
    vsini: float = 0.0
    power: float | None = None
    line: int | None = None
    quantity: str = "equivalent_width"
    spectrum: int = 0
    effects: dict = field(default_factory=dict)

    @property
    def window(self):
        """Ends of the window, in angstrom."""
        return self.low, self.high

    @property
    def star(self):
        """Velocities, resolving power and effects, by the names that `spectrum_in_window` uses."""
        power = None if self.power is None else self.power * shown_factor(self.effects)
        return {"rv": self.rv, "vsini": self.vsini, "resolving_power": power, "effects": self.effects}

    def set(self, name, value, names):
        """Replace the value of a label, of a parameter of an effect, or of a field, by its name."""
        if name in self.effects:
            return replace(self, effects=self.effects | {name: float(value)})
        if name not in names:
            return replace(self, **{name: int(value) if name in _INTEGERS else value})
        k = names.index(name)
        return replace(self, labels=(*self.labels[:k], float(value), *self.labels[k + 1 :]))

    def zoom(self, shift, factor, band):
        """Shift the window by a fraction of its width and scale it, within the band."""
        width = min(max((self.high - self.low) * factor, NARROWEST), band[1] - band[0])
        low = (self.low + self.high - width) / 2 + shift * (self.high - self.low)
        low = min(max(low, band[0]), band[1] - width)
        return replace(self, low=low, high=low + width)

    def with_end(self, k, value, limits):
        """Replace one end of the window, 0 or 1; the other end moves along where they would cross."""
        ends = [*self.window]
        ends[k] = value
        if ends[1] - ends[0] < NARROWEST:
            width = max(self.high - self.low, NARROWEST)
            ends[1 - k] = value + width if k == 0 else value - width
        low = min(max(ends[0], limits[0]), limits[1] - NARROWEST)
        return replace(self, low=low, high=min(max(ends[1], low + NARROWEST), limits[1]))

    def at_line(self, index, center):
        """Select a line; the window moves there if the line is outside."""
        low, high = self.window
        if not low <= center <= high:
            low, high = center - (high - low) / 2, center + (high - low) / 2
        return replace(self, line=index, low=low, high=high)

    def edges(self, ranges):
        """Names of the labels at an end of their range in the grid.

        `ranges` are those of the labels, and of labels of a second photosphere among the effects, by name.
        """
        values = dict(zip(ranges, self.labels, strict=False)) | self.effects
        return [name for name, ends in ranges.items() if any(near_bound(values[name], *ends))]


_FIELDS = [part for part in fields(PageState) if part.name not in ("labels", "effects")]
RESERVED = (*(part.name for part in _FIELDS), "grid")
"""Names that an address uses itself: no label may have them."""


def first_state(labels, band, ranges=(), power=None, effects=None):
    """PageState of a new page.

    `band` are the ends of the generator's band, `ranges` those of the orders of an observed spectrum [angstrom]: the
    window is the middle one of those in the band, or the middle of the band. `power` is the resolving power, if known;
    `effects` are values of the parameters of `Effects`.
    """
    state = PageState(tuple(map(float, labels)), *band, power=power, effects=effects or {})
    in_band = [(max(low, band[0]), min(high, band[1])) for low, high in ranges if low < band[1] and high > band[0]]
    if in_band:
        low, high = in_band[len(in_band) // 2]
        return replace(state, low=low, high=high)
    return state.zoom(0.0, min(_FIRST_WINDOW / (band[1] - band[0]), 1.0), band)


def to_query(state, names, grid_id=None):
    """Query of the address that stores a state: texts by name."""
    query = {name: f"{value:.10g}" for name, value in zip(names, state.labels, strict=True)}
    query |= {name: f"{value:.10g}" for name, value in state.effects.items()}
    for part in _FIELDS:
        value = getattr(state, part.name)
        if value is not None and value != part.default:
            query[part.name] = value if isinstance(value, str) else f"{value:.10g}"
    query.setdefault("power", NO_LINE_SPREAD)  # a new page may have a resolving power
    return query | ({"grid": grid_id[:8]} if grid_id else {})


def from_query(query, start, limits, names, grid_id=None):
    """Read the query of an address, which may come from anyone: invalid values are ignored.

    `start` fills in what the query leaves out; `limits` are allowed ranges by name; `names` are those of the labels.
    Returns the PageState, and one message for each value that was ignored.
    """
    state, problems = start, []
    if grid_id and query.get("grid", grid_id[:8]) != grid_id[:8]:
        problems.append("The address belongs to another grid, so this page may differ from the one it came from.")
    if query.get("quantity") in QUANTITIES:
        state = replace(state, quantity=query["quantity"])
    if query.get("power") == NO_LINE_SPREAD:
        state, limits = replace(state, power=None), {name: ends for name, ends in limits.items() if name != "power"}
    for name, (low, high) in limits.items():
        value = _number(query.get(name, ""))
        if value is not None and low <= value <= high:
            state = state.set(name, value, tuple(names))
        elif name in query:
            found = f"The address has {name}={query[name][:20]}"
            problems.append(f"{found}, but a number from {low:g} to {high:g} is needed. It was ignored.")
    if state.high - state.low < 0.99 * NARROWEST:  # addresses are rounded
        problems.append(f"The window of the address is narrower than {NARROWEST} Å. It was ignored.")
        state = replace(state, low=start.low, high=start.high)
    return state, problems


def _number(text):
    """A finite number, or None."""
    try:
        return float(text) if isfinite(float(text)) else None
    except ValueError:
        return None
