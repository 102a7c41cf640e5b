"""TabulatedChain: the forward model of many stars on the same pixels, from a table that they share.

The table (`SpectrumTable`) has, at points of a lattice of the labels, the Fourier transforms of the generator's
spectra behind the line spread, with their derivatives by the labels, each computed once. Between the points they are
interpolated by cubic polynomials, which is a tenth of the work of a whole evaluation, and approximate. So a star's
chain is told the exact model once, near its best fit (`TabulatedChain.anchor`): from then on the difference to the
table, value and derivatives, is added.
"""

from numbers import Real
from typing import NamedTuple

import numpy as np

from stellarhml.forward.chain import ERROR_DIRECTIONS, ForwardChain, _window
from stellarhml.forward.stages import Rows
from stellarhml.kernels.kept_waves import hermite_weights, keep_waves, observe_waves
from stellarhml.physics.broadening import line_spread_sigma
from stellarhml.physics.wavelength import SPEED_OF_LIGHT, doppler_shift

MOST_LABELS = 4
"""Labels of a table at most: a cell has two points in each."""

_MOST_VALUES = 64  # of a label: more are of scattered nodes
_MEMORY = 1 << 30  # bytes of the spectra that a table keeps
_FASTEST = 300.0  # km/s: rotation of stars, beyond which the ends of an order are less accurate
_SLOWEST = 0.1  # km/s: as in ForwardChain
_MARGIN = 12  # pixels of the generator at each end: two interpolation stencils


class _Order(NamedTuple):
    """What the table has of an order.

    The generator's `pixels` (slice), the first and the last of their wavelengths, `ends`; in ln wavelength, sigma of
    the line spread, that of the generator's own, and the width of a pixel.
    """

    pixels: slice
    ends: np.ndarray
    sigma: float
    own_sigma: float
    pixel: float


class SpectrumTable:
    """Spectra of a generator, for one set of pixels, at points of a lattice of its labels.

    A point is computed when it is first asked for, always in the same way: what the table returns does not depend on
    the stars before.

    Parameters
    ----------
    generator : SpectrumGenerator
        A fitted generator.
    observation : Observation
        Pixels and resolving powers.
    rv_bounds : tuple of (float, float)
        Lowest and highest radial velocity, in km/s.

    Attributes
    ----------
    axes : list of ndarray
        Values of each label in the lattice.
    n_computed : int
        Number of points that have been computed.
    """

    def __init__(self, generator, observation, rv_bounds):
        self._generator, self.n_computed = generator, 0
        seen = observation.seen_from(getattr(generator, "resolving_power", None))
        self._orders = [_order_of(generator, order, rv_bounds) for order in seen.orders]
        self.axes = [_axis(column) for column in generator.interpolator_.nodes_.T]
        self._points, self._kept, self._most = [None] * len(self._orders), {}, None

    @staticmethod
    def serves(generator, observation):
        """Whether a table can be made, and is worth it: four labels at most, and a resolving power for each order.

        Parameters
        ----------
        generator, observation : object
            As for the table.

        Returns
        -------
        serves : bool
            Whether it does.
        """
        blurred = all(isinstance(order.resolving_power, Real) for order in observation.orders)
        return blurred and len(generator.label_names_) <= MOST_LABELS

    def waves(self, labels):
        """Transforms of the flux and its derivatives by the labels, interpolated.

        Parameters
        ----------
        labels : sequence of float
            Labels; those outside the lattice are moved to its edge.

        Returns
        -------
        waves : list of (Points, ndarray of shape (1 + n_labels, n_waves)) or None
            For each order; None for one outside the generator's band.
        """
        cell, weights = _cell(self.axes, labels)
        corners = [self._corner(corner) for corner in cell]
        found = []
        for number, points in enumerate(self._points):
            if self._orders[number] is None:
                found.append(None)
                continue
            total = 0.0
            for corner, weight in zip(corners, weights, strict=True):
                total = total + weight @ corner[number]
            found.append((points, total.view(np.complex128)))
        return found

    def _corner(self, place):
        """Waves of each order at one point of the lattice, real and imaginary parts side by side."""
        found = self._kept.get(place)
        if found is not None:
            return found
        labels, found = [axis[i] for axis, i in zip(self.axes, place, strict=True)], []
        wavelength = np.asarray(self._generator.wavelength_)
        for number, order in enumerate(self._orders):
            if order is None:
                found.append(None)
                continue
            rows = self._generator.render_rows(labels, order.pixels, tangents=True)
            options = {"sigma": order.sigma, "own_sigma": order.own_sigma, "pixel": order.pixel}
            points, waves = keep_waves(wavelength[order.pixels], rows, order.ends, **options)
            self._points[number] = points
            found.append(np.ascontiguousarray(waves).view(np.float64))
        self.n_computed += 1
        if self._most is None:
            size = sum(part.nbytes for part in found if part is not None)
            self._most = max(int(_MEMORY / max(size, 1)), 2 ** len(self.axes))
        while len(self._kept) >= self._most:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept[place] = found
        return found


class TabulatedChain(ForwardChain):
    """The forward model of one star on the pixels of a table.

    It is that of :class:`stellarhml.forward.chain.ForwardChain` without stages, from the table until `anchor` is
    called.

    Parameters
    ----------
    table : SpectrumTable
        Spectra on the pixels of `observation`.
    generator, observation, limb_darkening, watch : object
        As of ForwardChain.
    """

    def __init__(self, table, generator, observation, *, limb_darkening=0.6, watch=None):
        super().__init__(generator, observation, limb_darkening=limb_darkening, watch=watch)
        self._table, self._difference, self._changed, self._last = table, None, None, None
        self._centers = [np.log((order.edges[1:] + order.edges[:-1]) / 2) for order in self._observation.orders]

    def anchor(self, values, changes=None):
        """Add the difference between the exact model and the table at some values, to first order in the values.

        Parameters
        ----------
        values : dict of str to float
            Values of all parameters.
        changes : LineChanges, default=None
            Changes of lines by whose parameters, at their starting values where nothing changes, the exact model is
            differentiated, too: `with_changes` then takes the derivatives from here.
        """
        self._difference, self._last = None, None
        exact = _AnchorChain(self._as(self._observation, changes))
        more = {} if changes is None else {p.name: p.start for p in changes.parameters}
        orders = exact.evaluate(values | more)
        near = self._evaluate(values, tangents=True)
        self._difference = dict(values), [_subtract(*rows) for rows in zip(orders, near, strict=True)]
        self._changed = more, [{name: rows.tangents[name] for name in more} for rows in orders], exact.rendered
        self._last = dict(values), orders, True

    @property
    def difference(self):
        """Flux of the exact model minus that of the table at the anchor, a list of ndarray of shape (n_pixels,)."""
        return [rows.flux for rows in self._difference[1]]

    def with_changes(self, changes):
        """As of ForwardChain; without offsets of lines, the model is that of the table as far as it goes."""
        chain = super().with_changes(changes)
        names = {p.name for p in changes.parameters}
        if self._changed is None or changes.offsets is not None or names != set(self._changed[0]):
            return chain
        return _ChangedChain(self, chain, *self._changed)

    def _evaluate(self, values, *, tangents):
        if self._last is not None and self._last[0] == values and self._last[2] >= tangents:
            return self._last[1]
        if self._watch is not None:
            self._watch()
        orders = self._from_table(values, tangents)
        if self._difference is not None:
            at, differences = self._difference
            moved = {name: values[name] - value for name, value in at.items()}
            orders = [_add(*rows, moved) for rows in zip(orders, differences, strict=True)]
        self._last = dict(values), orders, tangents
        return orders

    def _from_table(self, values, tangents):
        """Rows of each order as of ForwardChain, interpolated."""
        rv, vsini = values["rv"], max(values["vsini"], _SLOWEST if tangents else 0.0)
        names = self._generator.label_names_
        waves, found = self._table.waves([values[name] for name in names]), []
        for order, center, kept in zip(self._observation.orders, self._centers, waves, strict=True):
            good = None if kept is None else self._good(order, rv, vsini)
            n_rows = 1 + tangents * (len(names) + 3)
            table = np.full((n_rows, len(center)), np.nan)
            if good is not None:
                points, rows = kept
                table[:, good] = observe_waves(
                    points,
                    rows if tangents else rows[:1],
                    center[good] - np.log(doppler_shift(1.0, rv)),
                    vsini=vsini / SPEED_OF_LIGHT,
                    limb_darkening=self._limb_darkening,
                    derivatives=tangents,
                )
            if not tangents:
                found.append(Rows(order.wavelength, table[0]))
                continue
            *by_labels, by_shift, by_vsini, by_variance = table[1:]
            named = dict(zip(names, by_labels, strict=True))
            named |= {"rv": by_shift / (SPEED_OF_LIGHT + rv), "vsini": by_vsini / SPEED_OF_LIGHT}
            named["ln_resolving_power"] = -2 * order.total_sigma**2 * by_variance
            modes = {name: named[name] for name in names}
            modes |= dict(zip(ERROR_DIRECTIONS, (by_shift, by_variance), strict=True))
            found.append(Rows(order.wavelength, table[0], named, modes))
        return found

    def _good(self, order, rv, vsini):
        """Pixels of an order (slice) within the generator's band, or None."""
        wavelength, shift = self._generator.wavelength_, doppler_shift(1.0, rv)
        reach = np.exp(vsini / SPEED_OF_LIGHT + np.max(order.reach))
        if order.edges[0] / shift / reach > wavelength[2] and order.edges[-1] / shift * reach < wavelength[-3]:
            return slice(0, len(order.wavelength))
        window = _window(np.asarray(wavelength), order, rv, vsini)
        return None if window is None else window[0]


class _AnchorChain(ForwardChain):
    """A chain that keeps the generator's flux of its evaluation: `rendered`, pairs of pixels (slice) and flux."""

    def __init__(self, chain):
        vars(self).update(vars(chain), rendered=[])

    def _rendered(self, values, pixels, tangents):
        rows = super()._rendered(values, pixels, tangents)
        self.rendered.append((pixels, rows[0]))
        return rows


class _ChangedChain(ForwardChain):
    """A `chain` with changes of lines, near the anchor of a `tabulated` one.

    `of_changes` are the values of their parameters with which nothing changes: there the table serves. `tangents` by
    name, of each order, are derivatives by these parameters, and `rendered` is the generator's flux, both from the
    anchor.
    """

    def __init__(self, tabulated, chain, of_changes, tangents, rendered):
        vars(self).update(vars(chain))
        self._tabulated, self._of_changes, self._tangents, self._known = tabulated, of_changes, tangents, rendered

    def _evaluate(self, values, *, tangents):
        if self._is_changed(values):
            return super()._evaluate(values, tangents=tangents)
        found = self._tabulated._evaluate(values, tangents=tangents)
        more = self._tangents if tangents else [{}] * len(found)
        return [
            Rows(rows.wavelength, rows.flux, rows.tangents | own, rows.modes)
            for rows, own in zip(found, more, strict=True)
        ]

    def _rendered(self, values, pixels, tangents):
        for known, flux in () if tangents or self._is_changed(values) else self._known:
            if known.start <= pixels.start and pixels.stop <= known.stop:
                return flux[None, pixels.start - known.start : pixels.stop - known.start]
        return super()._rendered(values, pixels, tangents)

    def _is_changed(self, values):
        """Whether the lines are not those of the grid."""
        return any(values[name] != value for name, value in self._of_changes.items())


def _subtract(rows, others):
    """Rows minus others, as far as these go."""
    tangents = {name: rows.tangents[name] - other for name, other in others.tangents.items()}
    modes = {name: row - others.modes[name] for name, row in rows.modes.items()}
    return Rows(rows.wavelength, rows.flux - others.flux, tangents, modes)


def _add(rows, difference, moved):
    """Rows plus a difference, whose flux is extrapolated by how far the parameters have `moved`."""
    flux = rows.flux + difference.flux
    for name, step in moved.items():
        if step:
            flux += step * difference.tangents[name]
    tangents = {name: row + difference.tangents[name] for name, row in rows.tangents.items()}
    modes = {name: tangents.get(name, row) for name, row in rows.modes.items()}
    modes |= {name: rows.modes[name] + difference.modes[name] for name in ERROR_DIRECTIONS if name in modes}
    return Rows(rows.wavelength, flux, tangents, modes)


def _order_of(generator, order, rv_bounds):
    """_Order of an order of the detector; None if it does not overlap the generator's band."""
    wavelength = np.asarray(generator.wavelength_)
    reach = np.exp(_FASTEST / SPEED_OF_LIGHT + np.max(order.reach))
    fastest = [doppler_shift(1.0, rv) for rv in rv_bounds]
    ends = order.edges[0] / fastest[1] / reach, order.edges[-1] / fastest[0] * reach
    first, last = np.searchsorted(wavelength, ends)
    pixels = slice(max(int(first) - _MARGIN, 0), int(last) + _MARGIN)
    if len(wavelength[pixels]) < 2 * _MARGIN:
        return None
    low, high = wavelength[pixels][[0, -1]]
    own = 0.0 if order.own_power is None else line_spread_sigma(order.own_power)
    pixel = float(np.median(np.diff(np.log(order.edges))))
    return _Order(pixels, np.array([low, high]), order.median_sigma, own, pixel)


def _axis(values):
    """Values of a label in the lattice of a table, from those of the nodes."""
    axis = np.unique(values)
    if len(axis) > _MOST_VALUES:
        return np.linspace(axis[0], axis[-1], _MOST_VALUES // 4 + 1)
    return axis


def _cell(axes, labels):
    """Corners of the cell of some labels, as places on the axes, and weights of their spectra (`hermite_weights`)."""
    n = len(axes)
    first, position, length = [0] * n, np.zeros(n), np.zeros(n)
    for a, (axis, label) in enumerate(zip(axes, labels, strict=True)):
        if len(axis) > 1:
            x = min(max(label, axis[0]), axis[-1])
            first[a] = min(max(int(np.searchsorted(axis, x, side="right")) - 1, 0), len(axis) - 2)
            length[a] = axis[first[a] + 1] - axis[first[a]]
            position[a] = (x - axis[first[a]]) / length[a]
    weights = np.empty((2**n, 1 + n, 1 + n))
    hermite_weights(position, length, weights)
    corners = [tuple(i + (corner >> a & 1) for a, i in enumerate(first)) for corner in range(2**n)]
    kept = [k for k, corner in enumerate(corners) if all(i < len(axis) for i, axis in zip(corner, axes, strict=True))]
    return [corners[k] for k in kept], weights[kept]
