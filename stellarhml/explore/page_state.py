"""State: what one page of an explorer shows, and the query of its address from which it can be made again."""

from dataclasses import dataclass, fields, replace
from math import isfinite

LIMITS = {"rv": (-500.0, 500.0), "vsini": (0.0, 300.0), "power": (1000.0, 500_000.0)}
QUANTITIES = ("depth", "equivalent_width", "saturation")
NARROWEST = 0.05
"""What a window measures at least, in angstrom."""
SHARP = "none"
"""What an address says in place of a resolving power where there is none."""

_EDGE = 3e-3  # of a label's range: nearer than this to its end counts as at the edge
_FIRST_WINDOW = 60.0  # angstrom
_COUNTS = ("line", "spectrum")


@dataclass(frozen=True)
class State:
    """What one page shows.

    Parameters
    ----------
    labels : tuple of float
        Labels of the star.
    low, high : float
        Wavelengths between which it is seen, in angstrom.
    rv, vsini : float
        Velocities in km/s.
    power : float or None
        Resolving power. None: as sharp as the generator.
    line : int or None
        Number in the catalogue of the line that was chosen.
    quantity : str
        What the map of this line shows.
    spectrum : int
        Which of the observed spectra lies underneath.
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

    @property
    def window(self):
        """Wavelengths between which the star is seen."""
        return self.low, self.high

    @property
    def star(self):
        """Velocities and resolving power, as the functions of a view take them."""
        return {"rv": self.rv, "vsini": self.vsini, "resolving_power": self.power}

    def set(self, name, value, names):
        """The same with another value of a label or of a field, by its name."""
        if name not in names:
            return replace(self, **{name: int(value) if name in _COUNTS else value})
        k = names.index(name)
        return replace(self, labels=(*self.labels[:k], float(value), *self.labels[k + 1 :]))

    def zoom(self, shift, factor, band):
        """The same with a window that is moved by parts of its width and made wider, within a band."""
        width = min(max((self.high - self.low) * factor, NARROWEST), band[1] - band[0])
        low = (self.low + self.high - width) / 2 + shift * (self.high - self.low)
        low = min(max(low, band[0]), band[1] - width)
        return replace(self, low=low, high=low + width)

    def end(self, k, value, reach):
        """The same with another end of the window, 0 or 1; the other gives way where there would be no window."""
        ends = [*self.window]
        ends[k] = value
        if ends[1] - ends[0] < NARROWEST:
            width = max(self.high - self.low, NARROWEST)
            ends[1 - k] = value + width if k == 0 else value - width
        low = min(max(ends[0], reach[0]), reach[1] - NARROWEST)
        return replace(self, low=low, high=min(max(ends[1], low + NARROWEST), reach[1]))

    def at_line(self, index, center):
        """The same with a line chosen, and the window around it if it was not in it."""
        low, high = self.window
        if not low <= center <= high:
            low, high = center - (high - low) / 2, center + (high - low) / 2
        return replace(self, line=index, low=low, high=high)

    def edges(self, bounds):
        """Numbers of the labels that are at an end of their range in the grid."""
        pairs = enumerate(zip(self.labels, bounds, strict=True))
        return [k for k, (x, (low, high)) in pairs if low < high and min(x - low, high - x) <= _EDGE * (high - low)]


RESERVED = (*(part.name for part in fields(State)[1:]), "grid")
"""What an address calls its own parts: no label may be called so."""


def first_state(labels, band, ranges=(), power=None):
    """What a page shows first.

    Parameters
    ----------
    labels : sequence of float
        Labels of the star.
    band : tuple of (float, float)
        Wavelengths that the generator knows, in angstrom.
    ranges : sequence of (float, float), default=()
        Ends of the orders of an observed spectrum: the one in the middle of those in the band is shown.
    power : float, default=None
        Resolving power, where the spectrum states it.

    Returns
    -------
    state : State
        The state; without a spectrum a window in the middle of the band.
    """
    state = State(tuple(map(float, labels)), *band, power=power)
    there = [(max(low, band[0]), min(high, band[1])) for low, high in ranges if low < band[1] and high > band[0]]
    if there:
        low, high = there[len(there) // 2]
        return replace(state, low=low, high=high)
    return state.zoom(0.0, min(_FIRST_WINDOW / (band[1] - band[0]), 1.0), band)


def to_query(state, names, grid_id=None):
    """What the address says of a state: texts by name."""
    query = {name: f"{value:.10g}" for name, value in zip(names, state.labels, strict=True)}
    for part in fields(State)[1:]:
        value = getattr(state, part.name)
        if value is not None and value != part.default:
            query[part.name] = value if isinstance(value, str) else f"{value:.10g}"
    query.setdefault("power", SHARP)  # a page may begin with another
    return query | ({"grid": grid_id[:8]} if grid_id else {})


def from_query(query, start, limits, names, grid_id=None):
    """Read an address, which may come from anyone: what makes no sense is left out.

    Parameters
    ----------
    query : dict of str to str
        What the address says.
    start : State
        What is shown where it says nothing.
    limits : dict of str to (float, float)
        What is allowed, by name.
    names : sequence of str
        Names of the labels.
    grid_id : str, default=None
        Which grid is shown.

    Returns
    -------
    state : State
        What is to be shown.
    problems : list of str
        What was left out, in words.
    """
    state, problems = start, []
    if grid_id and query.get("grid", grid_id[:8]) != grid_id[:8]:
        problems.append("The address is of another grid: what it showed there may look different here.")
    if query.get("quantity") in QUANTITIES:
        state = replace(state, quantity=query["quantity"])
    if query.get("power") == SHARP:
        state, limits = replace(state, power=None), {name: ends for name, ends in limits.items() if name != "power"}
    for name, (low, high) in limits.items():
        value = _number(query.get(name, ""))
        if value is not None and low <= value <= high:
            state = state.set(name, value, tuple(names))
        elif name in query:
            found = f"The address has {name}={query[name][:20]}"
            problems.append(f"{found}, but it needs a number from {low:g} to {high:g}. It was left out.")
    if state.high - state.low < 0.99 * NARROWEST:  # addresses are rounded
        problems.append(f"The window of the address has no width, or less than {NARROWEST} Å. It was left out.")
        state = replace(state, low=start.low, high=start.high)
    return state, problems


def _number(text):
    """A finite number, or None."""
    try:
        return float(text) if isfinite(float(text)) else None
    except ValueError:
        return None
