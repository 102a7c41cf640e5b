"""State: what one page shows, and the query of its address from which it can be made again."""

from dataclasses import dataclass, fields, replace
from math import isfinite

RV_LIMITS, VSINI_LIMITS, POWER_LIMITS = (-500.0, 500.0), (0.0, 300.0), (1000.0, 500_000.0)
QUANTITIES = ("depth", "equivalent_width", "saturation")
_EDGE = 3e-3  # of a label's range: nearer than this to its end counts as at the edge


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

    def change(self, name, value, names):
        """The same with another value of a label or a field, by its name."""
        if name in names:
            k = names.index(name)
            return replace(self, labels=(*self.labels[:k], float(value), *self.labels[k + 1 :]))
        return replace(self, **{name: value})

    def edges(self, bounds):
        """Numbers of the labels that are at an end of their range in the grid."""
        near = (min(x - low, high - x) <= _EDGE * (high - low) for x, (low, high) in zip(self.labels, bounds, strict=True))
        return [k for k, (is_near, (low, high)) in enumerate(zip(near, bounds, strict=True)) if is_near and high > low]


def to_query(state, names, grid_id):
    """Text of the address behind the question mark.

    Parameters
    ----------
    state : State
        What is shown.
    names : sequence of str
        Names of the labels.
    grid_id : str or None
        Which grid it belongs to.

    Returns
    -------
    query : dict of str to str
        By name, in the order in which they are written.
    """
    query = {name: f"{value:.10g}" for name, value in zip(names, state.labels, strict=True)}
    for field in fields(State)[1:]:
        value = getattr(state, field.name)
        if value is not None and value != field.default:
            query[field.name] = value if isinstance(value, str) else f"{value:.10g}"
    return query | ({"grid": grid_id[:8]} if grid_id else {})


def from_query(query, start, *, names, bounds, band, n_lines, n_spectra, grid_id=None):
    """Read an address.

    Parameters
    ----------
    query : dict of str to str
        What it says. It may come from anyone: all that does not make sense is left out.
    start : State
        What is shown where it says nothing.
    names, bounds : sequence
        Names of the labels and their ranges.
    band : tuple of (float, float)
        Wavelengths that can be seen.
    n_lines, n_spectra : int
        How many there are.
    grid_id : str, default=None
        Which grid is shown.

    Returns
    -------
    state : State
        What is to be shown.
    problems : list of str
        What was left out, in words.
    """
    limits = dict(zip(names, bounds, strict=True)) | {"rv": RV_LIMITS, "vsini": VSINI_LIMITS, "power": POWER_LIMITS}
    limits |= {"low": band, "high": band, "line": (0, n_lines - 1), "spectrum": (0, max(n_spectra - 1, 0))}
    state, problems = start, []
    for name, text in query.items():
        if name == "grid":
            if grid_id and text != grid_id[:8]:
                problems.append("the address is of another grid, so that its view may differ")
        elif name == "quantity" and text in QUANTITIES:
            state = replace(state, quantity=text)
        elif name in limits and (value := _number(text)) is not None and limits[name][0] <= value <= limits[name][1]:
            state = state.change(name, int(value) if name in ("line", "spectrum") else value, tuple(names))
        elif name in limits:
            low, high = limits[name]
            problems.append(f"the address sets {name} to {text[:20]!r}, which is not a number from {low:g} to {high:g}")
    if not state.low < state.high:
        problems.append("the window of the address has no width")
        state = replace(state, low=start.low, high=start.high)
    return state, problems


def _number(text):
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None
