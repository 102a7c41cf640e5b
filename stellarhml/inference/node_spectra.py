r"""NodeSpectra: the spectra of the grid nodes, from which a search starts.

Templates are node spectra at low resolution. They give the velocity of a star and its nearest nodes.

Spectra are compared on pixels of equal velocity, after subtraction of their running mean over 1,000 km/s, so that
neither continuum nor throughput matters. The cross-correlation of depths d with weights w and a template t,

.. math:: \Delta\chi^2(v) = \frac{(\sum_i w_i d_i t_{i-v})^2}{\sum_i w_i t_{i-v}^2},

is the decrease of chi-square when the template at velocity v is fitted with a free depth.
"""

from typing import NamedTuple

import numpy as np
from numpy.polynomial import polynomial
from scipy import fft

from stellarhml._state import LARGE, StateError, check_keys, take, take_array
from stellarhml.physics.wavelength import SPEED_OF_LIGHT

_STEP = 8.0  # km/s, a pixel of the templates
_BROAD = 1000.0  # km/s, full width at half maximum of the running mean
_SPINS = (0.0, 25.0, 60.0, 120.0, 240.0)  # km/s, values of vsini to try
_ROTATION = 0.47  # standard deviation of a rotation profile over vsini
_MAX_NODES = 400  # maximum number of templates
_SCAN_PIXELS = 4096  # number of pixels that a scan of nodes compares: those in which the nodes differ most
_N_VELOCITY_NODES = 24  # templates that are cross-correlated
_CUT = 3.0  # widths of the running mean by which templates extend beyond a star's pixels
_N_PAIR_NODES, _PAIR_REACH = 8, 9  # templates of a pair; pixels by which the first may move
_ALIKE = 0.02  # one minus squared correlation below which two templates cannot be told apart
_BLOCKS = 16  # of an order; the first continuum is fitted to their bright levels
_SPIKE = 5.0  # standard deviations above the continuum from which a pixel is a spike: a cosmic ray, an emission line
_SPIKE_LEAST = 0.2  # of the continuum: error allowed to a first continuum


class Start(NamedTuple):
    """Starting point of a fit: `nodes` (n_nodes, n_labels), the nearest to the star first; `rv` and `vsini` [km/s]."""

    nodes: np.ndarray
    rv: float
    vsini: float


class Pair(NamedTuple):
    """Two stars: `nodes` (2, n_labels), `rv` (2,) [km/s], and `ratio`, light of the second over the first's."""

    nodes: np.ndarray
    rv: np.ndarray
    ratio: float


class Templates:
    """Spectra of nodes on pixels of equal velocity; `start` and `step` in ln wavelength.

    `nodes` (n_nodes, n_labels); `depth` (n_nodes, n_pixels) float32, one minus flux, minus its running mean.
    """

    def __init__(self, nodes, start, step, depth):
        self.nodes, self.start, self.step, self.depth = nodes, start, step, depth

    @classmethod
    def make(cls, wavelength, nodes, fluxes):
        """Resample the spectra of nodes to pixels of equal velocity.

        `wavelength` (n_pixels,) [angstrom] of the generator, `fluxes` an iterable of (n_pixels,). None if the generator
        has pixel indices in place of wavelengths, or fewer than 8 pixels.
        """
        wavelength = np.asarray(wavelength)
        if wavelength[0] <= 0 or len(wavelength) < 8:
            return None
        x = np.log(wavelength)
        step = max(_STEP / SPEED_OF_LIGHT, 1.5 * np.diff(x).max())
        n = int((x[-1] - x[0]) / step)
        if n < 8:
            return None
        place = np.minimum(((x - x[0]) / step).astype(int), n - 1)
        depth = np.stack([_means(place, 1 - flux, np.ones(len(flux)), n)[0] for flux in fluxes])
        ones = np.ones((1, n))
        return cls(nodes, float(x[0]), float(step), (depth - _smooth(depth, ones, step)).astype(np.float32))

    def to_state(self):
        """State for a file, see `stellarhml.storage`."""
        return {"nodes": self.nodes, "start": self.start, "step": self.step, "depth": self.depth}

    @classmethod
    def from_state(cls, state):
        """Rebuild the templates from a state, after checks."""
        check_keys(state, ("nodes", "start", "step", "depth"))
        nodes = take_array(state, "nodes", dtype="f8", shape=(None, None))
        depth = take_array(state, "depth", dtype="f4", shape=(len(nodes), None))
        start, step = take(state, "start", float), take(state, "step", float)
        if not (len(nodes) and depth.shape[1] >= 8 and 0 < step < 1 and np.isfinite(start)):
            raise StateError(
                f"The templates have {len(nodes)} nodes, {depth.shape[1]} pixels, start {start} and step {step}; they "
                "need a node, eight pixels, a finite start and a step between 0 and 1."
            )
        return cls(nodes, start, step, depth)

    def find_start(self, orders, rv_bounds, vsini_bounds, n_starts):
        """Find the velocities and the `n_starts` nearest nodes of a star; returns a Start.

        `orders` has ln wavelength, depth (one minus flux over continuum) and weight of the good pixels of each order.
        Bounds of the velocities [km/s] have equal ends for a fixed one.
        """
        ends = min(x[0] for x, _, _ in orders), max(x[-1] for x, _, _ in orders)
        return StartSearch(self, ends, rv_bounds, vsini_bounds).find_start(orders, n_starts)

    def find_pairs(self, orders, rv, rv_bounds, n_pairs):
        """Find pairs of stars whose light together may be that of a spectrum, the best first.

        Two templates at two velocities, one within 70 km/s of `rv` [km/s], the other within `rv_bounds`, are fitted
        with free depths that must be positive (TODCOR [1]_). `orders` are as in `find_start`.

        Returns a list of up to `n_pairs` Pairs, which differ in velocity by two pixels of the templates or more.

        References
        ----------
        .. [1] Zucker, S., Mazeh, T. (1994), "Study of spectroscopic binaries with TODCOR", ApJ 420, 806.
           doi:10.1086/173605
        """
        unit = SPEED_OF_LIGHT * self.step
        first = round(rv / unit) + np.arange(-_PAIR_REACH, _PAIR_REACH + 1)
        second = np.arange(np.round(rv_bounds[0] / unit), np.round(rv_bounds[1] / unit) + 1).astype(int)
        pad = int(np.abs(np.concatenate([first, second])).max()) + 2
        depth, weight = self.binned(orders, pad)
        seen = np.flatnonzero(weight > 0)
        depth, root = depth[seen].astype(np.float32), np.sqrt(weight[seen]).astype(np.float32)
        few = np.unique(np.linspace(0, len(self.nodes) - 1, _N_PAIR_NODES).round().astype(int))

        def moved(node, shifts):
            row = np.pad(self.depth[node], pad)
            return np.stack([np.roll(row, k)[seen] for k in shifts]) * root

        ones = [moved(node, first) for node in few]
        found = np.full((len(first), len(second)), -np.inf), {}
        for other in few:
            two = moved(other, second)
            b2, a2 = two @ (depth * root), (two**2).sum(axis=1)
            for node, one in zip(few, ones, strict=True):
                b1, a1, both = one @ (depth * root), (one**2).sum(axis=1), one @ two.T
                b1, a1 = b1[:, None], a1[:, None]
                with np.errstate(divide="ignore", invalid="ignore"):
                    space = a1 * a2 - both**2
                    share1, share2 = (b1 * a2 - b2 * both) / space, (b2 * a1 - b1 * both) / space
                    gain = np.where(
                        (space > _ALIKE * a1 * a2) & (share1 > 0) & (share2 > 0), b1 * share1 + b2 * share2, -np.inf
                    )
                    ratio = share2 / share1
                better = gain > found[0]
                found[0][better] = gain[better]
                found[1].update(((i, j), (node, other, ratio[i, j])) for i, j in np.argwhere(better).tolist())
        pairs, gain = [], found[0].copy()
        while len(pairs) < n_pairs and np.isfinite(gain.max(initial=-np.inf)):
            i, j = np.unravel_index(np.argmax(gain), gain.shape)
            node, other, ratio = found[1][int(i), int(j)]
            velocities = SPEED_OF_LIGHT * np.expm1(np.array([first[i], second[j]]) * self.step)
            pair = Pair(self.nodes[[node, other]], velocities, float(ratio))
            pairs.append(pair if ratio <= 1 else Pair(pair.nodes[::-1], velocities[::-1], 1 / pair.ratio))
            gain[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] = -np.inf
        return pairs

    def binned(self, orders, pad):
        """Depth, less its running mean, and weight on the pixels of the templates and `pad` more at both ends."""
        n = self.depth.shape[1] + 2 * pad
        x, depth, weight = (np.concatenate(parts) for parts in zip(*orders, strict=True))
        place = np.floor((x - self.start) / self.step).astype(int) + pad
        inside = (place >= 0) & (place < n)
        depth, weight = _means(place[inside], depth[inside], weight[inside], n, fill=False)
        there = weight > 0
        return np.where(there, depth - _smooth(depth[None], there[None].astype(float), self.step)[0], 0.0), weight


class StartSearch:
    """Search for the starting points of stars, with the transforms of templates that they share.

    `templates` are cut to ln wavelengths between the `ends` of the stars' pixels, with a margin. Bounds of the
    velocities [km/s] have equal ends for a fixed one.
    """

    def __init__(self, templates, ends, rv_bounds, vsini_bounds):
        self.ends, self._rv_bounds, self._vsini_bounds = ends, rv_bounds, vsini_bounds
        step = templates.step
        self._pad = pad = int(np.ceil(max(map(abs, rv_bounds)) / SPEED_OF_LIGHT / step)) + 2
        margin = pad + int(np.ceil(_CUT * _BROAD / SPEED_OF_LIGHT / step))
        first, last = (int(np.floor((x - templates.start) / step)) for x in ends)
        n_all = templates.depth.shape[1]
        first, last = max(min(first - margin, n_all - 1), 0), max(min(last + margin + 1, n_all), 1)
        self.nodes = templates.nodes
        self._templates = Templates(
            templates.nodes, templates.start + first * step, step, templates.depth[:, first:last]
        )
        self._size = fft.next_fast_len(last - first + 4 * pad, real=True)
        self._few = np.unique(np.linspace(0, len(self.nodes) - 1, _N_VELOCITY_NODES).round().astype(int))
        self._spins = [v for v in _SPINS if vsini_bounds[0] <= v <= vsini_bounds[1]] or [float(np.mean(vsini_bounds))]
        spectra = fft.rfft(self._templates.depth[self._few].astype(np.float64), self._size, axis=1)
        self._broad = [spectra * self._rotation(spin) for spin in self._spins]
        self._squares = [fft.rfft(fft.irfft(broad, self._size, axis=1) ** 2, axis=1) for broad in self._broad]
        self._every = {}  # all templates, by spin

    def find_start(self, orders, n_starts):
        """Start of a star; `orders` as of `Templates.find_start`."""
        pad, size, step = self._pad, self._size, self._templates.step
        depth, weight = self._templates.binned(orders, pad)
        data, mass = fft.rfft(weight * depth, size), fft.rfft(weight, size)
        shifts = np.arange(-pad, pad + 1)
        velocity = SPEED_OF_LIGHT * np.expm1(shifts * step)
        allowed = (velocity >= self._rv_bounds[0] - _STEP) & (velocity <= self._rv_bounds[1] + _STEP)
        best = (-np.inf, 0, self._spins[0])
        for spin, broad, squares in zip(self._spins, self._broad, self._squares, strict=True):
            up = fft.irfft(data * np.conj(broad), size, axis=1)[:, shifts + pad]
            down = fft.irfft(mass * np.conj(squares), size, axis=1)[:, shifts + pad]
            gain = np.where(allowed & (up > 0) & (down > 1e-9 * down.max()), up**2 / np.maximum(down, 1e-300), -np.inf)
            k = np.unravel_index(np.argmax(gain), gain.shape)
            if gain[k] > best[0]:
                best = (gain[k], _peak(shifts, gain[k[0]], k[1]) * step, spin)
        _, shift, spin = best
        at, every = int(np.round(shift / step)) + pad, self._rotated(spin)
        part = slice(at, at + every.shape[1])
        distance = ((depth[part] - every) ** 2) @ weight[part]
        order = np.argsort(distance, kind="stable")[:n_starts]
        rv = float(np.clip(SPEED_OF_LIGHT * np.expm1(shift), *self._rv_bounds))
        return Start(self.nodes[order], rv, float(spin))

    def _rotation(self, spin):
        """Transform of a rotation of `spin` km/s."""
        return _gaussian(self._size, _ROTATION * spin / SPEED_OF_LIGHT / self._templates.step)

    def _rotated(self, spin):
        """All templates with a rotation of `spin` km/s."""
        if spin not in self._every:
            depth = self._templates.depth
            every = fft.rfft(depth.astype(np.float64), self._size, axis=1)
            every = fft.irfft(every * self._rotation(spin), self._size, axis=1)
            self._every[spin] = every[:, : depth.shape[1]]
        return self._every[spin]


class NodeSpectra:
    """Spectra of the nodes (n_nodes, n_labels) of a grid, from which searches start.

    `flux` (n_nodes, n_chosen) is that in those `pixels` of the generator in which the nodes differ most. `templates`
    are spectra at low resolution, for stars of unknown velocity; None where the generator has no wavelengths.
    """

    def __init__(self, nodes, pixels, flux, templates):
        self.nodes, self.pixels, self.flux, self.templates = nodes, pixels, flux, templates

    @classmethod
    def render(cls, generator, nodes):
        """Render the spectra of `nodes` (n_nodes, n_labels)."""
        flux = np.concatenate([generator.predict_nearest(node[None])[0].astype(np.float32) for node in nodes])
        pixels = np.sort(np.argsort(-flux.std(axis=0), kind="stable")[:_SCAN_PIXELS])
        few = _some_nodes(len(nodes))
        templates = Templates.make(generator.wavelength_, nodes[few], flux[few])
        return cls(nodes, pixels, flux[:, pixels].astype(np.float64), templates)

    def nearest(self, flux, weight):
        """Nodes (n_nodes, n_labels), sorted by their weighted sum of squared differences from a spectrum at rest.

        `flux` and `weight` (n_pixels,) are on the generator's pixels.
        """
        distance = ((self.flux - flux[self.pixels]) ** 2) @ weight[self.pixels]
        return self.nodes[np.argsort(distance, kind="stable")]

    def to_state(self):
        """State for a file, see `stellarhml.storage`."""
        return {"nodes": self.nodes, "pixels": self.pixels, "flux": self.flux, "templates": self.templates}

    @classmethod
    def from_state(cls, state):
        """Rebuild the spectra from a state, after checks; `check_against` checks them against the generator."""
        check_keys(state, ("nodes", "pixels", "flux", "templates"))
        nodes = take_array(state, "nodes", dtype="f8", shape=(None, None))
        pixels = take_array(state, "pixels", dtype="i8", shape=(None,), low=0, increasing=True)
        flux = take_array(state, "flux", dtype="f8", shape=(len(nodes), len(pixels)), low=-LARGE, high=LARGE)
        templates = take(state, "templates", (Templates, type(None)))
        if not len(nodes) or not len(pixels):
            raise StateError(f"There are {len(nodes)} nodes on {len(pixels)} pixels; one of each is needed.")
        return cls(nodes, pixels, flux, templates)

    def check_against(self, generator):
        """Check that the spectra match a generator; StateError for another number of labels, or a pixel outside it."""
        n_labels, n_pixels = len(generator.label_names_), len(generator.wavelength_)
        found = {self.nodes.shape[1], n_labels if self.templates is None else self.templates.nodes.shape[1]}
        if found != {n_labels} or self.pixels[-1] >= n_pixels:
            raise StateError(
                f"The spectra of the nodes have {sorted(found)} labels and pixels up to {self.pixels[-1]}; the "
                f"generator has {n_labels} labels and {n_pixels} pixels."
            )


def _some_nodes(n_nodes):
    """Indices of the nodes that become templates: all, or 400 spread over the grid."""
    if n_nodes <= _MAX_NODES:
        return np.arange(n_nodes)
    return np.linspace(0, n_nodes - 1, _MAX_NODES).round().astype(int)


def first_continuum(flux, error):
    """Estimate the continuum of an order, and find its spikes (cosmic rays, emission lines), each (n_pixels,).

    The continuum is a polynomial through bright pixels, 0 where the order is dark; spikes are pixels far above it, or
    far below zero. `error` is infinite where a pixel is masked.
    """
    good = np.isfinite(error)
    x = np.linspace(-1, 1, len(flux))
    blocks = [block for block in np.array_split(np.flatnonzero(good), _BLOCKS) if len(block)]
    at = np.array([x[block].mean() for block in blocks])
    level = np.array([np.percentile(flux[block], 85) for block in blocks])
    if np.median(level) <= 0:
        return np.zeros(len(flux)), np.zeros(len(flux), dtype=bool)
    kept = level < 3 * np.median(level)
    degree = min(3, max(int(kept.sum()) // 4, 0))
    continuum = polynomial.polyval(x, polynomial.polyfit(at[kept], level[kept], degree))
    # a blaze may fall faster at its ends than the polynomial: a pixel as bright as its neighbourhood is no spike
    local = np.interp(x, at[kept], level[kept])
    for _ in range(4):
        apart = flux - continuum
        scatter = 1.4826 * np.median(np.abs(apart[good])) + 1e-300
        kept = good & (apart > -1.0 * scatter) & (apart < 3.0 * scatter)
        if kept.sum() < 10 * (degree + 1):
            break
        continuum = polynomial.polyval(x, polynomial.polyfit(x[kept], flux[kept], degree))
    margin = np.maximum(_SPIKE * np.where(good, error, 0.0), _SPIKE_LEAST * np.abs(continuum))
    spikes = good & ((flux > np.maximum(continuum, local) + margin) | (flux < -margin))
    return continuum, spikes


def _peak(shifts, gain, k):
    """Position of a maximum to a fraction of a pixel, from a parabola."""
    if 0 < k < len(gain) - 1 and np.isfinite(gain[k - 1 : k + 2]).all():
        left, middle, right = gain[k - 1 : k + 2]
        curvature = left - 2 * middle + right
        if curvature < 0:
            return shifts[k] + 0.5 * (left - right) / curvature
    return float(shifts[k])


def _means(place, values, weight, n, *, fill=True):
    """Weighted means of values in each of n bins, and the weights of the bins; empty bins interpolated or zero."""
    total = np.bincount(place, weight, n)[:n]
    mean = np.bincount(place, weight * values, n)[:n]
    there = total > 0
    mean[there] /= total[there]
    if fill and not there.all():
        mean[~there] = np.interp(np.flatnonzero(~there), np.flatnonzero(there), mean[there])
    return mean, total


def _smooth(rows, there, step):
    """Running mean of rows, over the pixels that have data."""
    n = rows.shape[1]
    size = fft.next_fast_len(2 * n, real=True)
    kernel = _gaussian(size, _BROAD / 2.355 / SPEED_OF_LIGHT / step)
    top = fft.irfft(fft.rfft(rows * there, size, axis=1) * kernel, size, axis=1)[:, :n]
    bottom = fft.irfft(fft.rfft(there, size, axis=1) * kernel, size, axis=1)[:, :n]
    return top / np.maximum(bottom, 1e-6)


def _gaussian(size, sigma):
    """Fourier transform of a Gaussian of `sigma` pixels."""
    frequency = np.arange(size // 2 + 1) / size
    return np.exp(-2 * (np.pi * sigma * frequency) ** 2)
