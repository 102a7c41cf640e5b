"""The line catalogue of a grid. Minima are detected in each spectrum, then tracked from node to node.

Distances are velocities in km/s, or pixels if the decomposer has no wavelengths.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.signal import find_peaks, peak_widths
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from stellarhml._state import Sizes, check_keys, take_array
from stellarhml.kernels.linking import group_medians, link_apart, mutual_nearest, nearest_apart

SPEED_OF_LIGHT = 299792.458  # km/s
FWHM_PER_SIGMA = 2.355  # as in gully/blase
_TRACKED_AT_ONCE = 200_000  # detections
_WIDE_SPEED, _WIDE_RATIO = 40.0, 10.0  # km/s, and widths of the usual line; the calcium triplet has 20 km/s


class Detections(NamedTuple):
    """Minima of one spectrum, all of shape (n_detections,)."""

    pixels: np.ndarray  # increasing
    positions: np.ndarray  # to a fraction of a pixel, on the scale of `velocity_scale`
    prominences: np.ndarray  # in units of the continuum
    widths: np.ndarray  # standard deviations in angstrom


class LineCatalog(NamedTuple):
    """Lines of all spectra, all of shape (n_lines,)."""

    pixels: np.ndarray  # strictly increasing, int64
    prominences: np.ndarray  # largest prominence of each line, in units of the continuum
    widths: np.ndarray  # median width of each line, a standard deviation in angstrom
    n_detected: np.ndarray  # number of spectra in which it was detected, int64
    added: np.ndarray  # whether it was added from residuals, bool
    predicted: np.ndarray  # whether the prior predicts it, bool; False for lines added since the prior was learnt

    @classmethod
    def of_detections(cls, pixels, prominences, widths, n_detected):
        """Catalogue of detected lines, all of shape (n_lines,)."""
        none = np.zeros(len(pixels), dtype=bool)
        return cls(pixels, prominences, widths, n_detected, none, ~none)

    def to_state(self):
        """State for a file; without `predicted`, which is True for all lines after a complete fit."""
        return {name: value for name, value in self._asdict().items() if name != "predicted"}

    @classmethod
    def from_state(cls, state, n_pixels):
        """Rebuild a catalogue for spectra of `n_pixels` from its state; raises StateError if it is invalid."""
        check_keys(state, cls._fields[:-1])
        sizes, shape = Sizes(), ("n_lines",)
        high = n_pixels - 1
        return cls(
            take_array(state, "pixels", dtype="i8", shape=shape, sizes=sizes, low=0, high=high, increasing="strictly"),
            take_array(state, "prominences", dtype="f8", shape=shape, sizes=sizes, low=0),
            take_array(state, "widths", dtype="f8", shape=shape, sizes=sizes, low=0),
            take_array(state, "n_detected", dtype="i8", shape=shape, sizes=sizes, low=0),
            take_array(state, "added", dtype="b1", shape=shape, sizes=sizes),
            np.ones(sizes["n_lines"], dtype=bool),
        )

    def only(self, keep):
        """Select lines by a boolean mask or by indices."""
        return LineCatalog(*(part[keep] for part in self))

    def with_lines(self, pixels, prominences, widths):
        """Add new, undetected lines; the result is in order of pixels."""
        n_new = len(pixels)
        new = (pixels, prominences, widths, np.zeros(n_new, np.int64), np.ones(n_new, bool), np.zeros(n_new, bool))
        both = LineCatalog(*(np.concatenate(pair) for pair in zip(self, new, strict=True)))
        return both.only(np.argsort(both.pixels))


class DetectedLines(NamedTuple):
    """Lines found in many spectra: arrays of shape (n_lines,), and the line of each detection."""

    pixels: np.ndarray  # strictly increasing
    prominences: np.ndarray  # largest prominence of each line
    widths: np.ndarray  # median width of each line, in angstrom
    n_spectra: np.ndarray  # number of spectra in which it was detected
    members: list  # for each spectrum the line of each of its detections, (n_detections,)


class LineSummary(NamedTuple):
    """Summary of the detections of each line, all of shape (n_lines,)."""

    center: np.ndarray  # median of the centers, in angstrom
    width: np.ndarray  # median of the widths, in angstrom
    prominence: np.ndarray  # the largest
    n_spectra: np.ndarray  # number of spectra in which the line was detected, int64
    drift: np.ndarray  # largest minus smallest center, in km/s


def detect_lines(wavelength, flux, *, prominence, distance=4, edge=0.0, n_lines=None):
    """Find absorption lines: minima of `flux` (n_pixels,) of at least a `prominence`, in units of the flux.

    Minima are at least `distance` pixels apart and `edge` angstrom from either end; if there are more than `n_lines`
    the most prominent are kept. Returns their pixels (int64, increasing), prominences, and widths: those at half
    prominence divided by 2.355, a standard deviation in angstrom.
    """
    if flux.size < 3:
        return np.empty(0, np.int64), np.empty(0), np.empty(0)
    pixels, found = find_peaks(-flux, prominence=prominence, distance=distance)
    if edge > 0:
        inside = (wavelength[pixels] > wavelength[0] + edge) & (wavelength[pixels] < wavelength[-1] - edge)
        pixels, found = pixels[inside], {key: value[inside] for key, value in found.items()}
    prominences = found["prominences"]
    data = (prominences, found["left_bases"], found["right_bases"])
    widths = peak_widths(-flux, pixels, prominence_data=data)[0] * np.diff(wavelength)[pixels] / FWHM_PER_SIGMA
    if n_lines is not None and len(pixels) > n_lines:
        keep = np.sort(np.argsort(-prominences, kind="stable")[:n_lines])
        return pixels[keep], prominences[keep], widths[keep]
    return pixels, prominences, widths


def wide_lines(centers, widths, usual):
    """Mask of lines as wide as those of hydrogen in hot stars, from centers and widths (n_lines,) [angstrom].

    `usual` is the width of the usual line [angstrom].
    """
    return (widths > _WIDE_SPEED / SPEED_OF_LIGHT * centers) & (widths > _WIDE_RATIO * usual)


def velocity_scale(wavelength):
    """Positions of pixels on a scale on which distances are velocities: c ln(wavelength) in km/s, (n_pixels,).

    For a number of pixels instead of wavelengths [angstrom] it is the pixel index.
    """
    if np.ndim(wavelength):
        return SPEED_OF_LIGHT * np.log(wavelength)
    return np.arange(float(wavelength))


def merge_detections(detections, scale, *, labels=None, tolerance):
    """Merge the detections of many spectra, a list of Detections, into one list of lines.

    `scale` (n_pixels,) is from `velocity_scale`. Lines are tracked along the axes of `labels` (n_spectra, n_labels).
    `tolerance` is the largest distance between a line in one spectrum and in the next; 0: equal pixels, the paper's
    rule.
    """
    # the tracker takes wavelengths, of which only the ratios matter
    middle = scale[len(scale) // 2]
    places = [d.positions if tolerance else scale[d.pixels] for d in detections]
    centers = [np.exp((place - middle) / SPEED_OF_LIGHT) for place in places]
    tracked = track_lines(centers, labels if tolerance else None, tolerance=tolerance)
    summary = summarise_lines(tracked, centers, [d.prominences for d in detections], [d.widths for d in detections])
    pixels = nearest_pixel(scale, middle + SPEED_OF_LIGHT * np.log(summary.center))
    # lines whose medians share a pixel become one
    pixels, first, member = np.unique(pixels, return_index=True, return_inverse=True)
    members = [member.ravel()[row] for row in tracked]
    prominences = np.zeros(len(pixels))
    np.maximum.at(prominences, member.ravel(), summary.prominence)
    n_spectra = np.bincount(member.ravel(), weights=summary.n_spectra, minlength=len(pixels)).astype(np.int64)
    return DetectedLines(pixels.astype(np.int64), prominences, summary.width[first], n_spectra, members)


def nearest_pixel(scale, positions):
    """Pixel nearest to each position on an increasing `scale` (n_pixels,), int64; of two equally near the bluer."""
    right = np.clip(np.searchsorted(scale, positions), 0, len(scale) - 1)
    left = np.maximum(right - 1, 0)
    # a position half way between two pixels belongs to the bluer one, whatever its rounding error
    return np.where(np.abs(scale[left] - positions) <= (1 + 1e-6) * np.abs(scale[right] - positions), left, right)


def match_to_catalog(positions, lines, *, tolerance):
    """Index of the nearest line for each detection of one spectrum, (n_detections,), int64, or -1.

    -1: farther than `tolerance`, or the line is nearer to another detection (the bluer one of two at the same distance
    keeps it). Both `positions` and `lines` increase.
    """
    if not len(lines):
        return np.full(len(positions), -1, dtype=np.int64)
    matched = nearest_pixel(lines, positions).astype(np.int64)
    distance = np.abs(lines[matched] - positions)
    taken = np.full(len(lines), -1, dtype=np.int64)
    order = np.lexsort((positions, distance))[::-1]
    taken[matched[order]] = order  # the nearest writes last
    keep = (distance <= tolerance) & (taken[matched] == np.arange(len(positions)))
    return np.where(keep, matched, -1)


def refine_minima(wavelength, flux, pixels):
    """Find minima to a fraction of a pixel: the vertex of the parabola through a pixel and its two neighbours.

    `pixels` (n_minima,) are no higher than either neighbour, in [1, n_pixels - 2]; `wavelength` (n_pixels,) need not be
    even. Returns wavelengths in angstrom, at most half a step from the pixel; the pixel itself in the middle of a
    plateau.
    """
    pixels = np.asarray(pixels)
    x = [np.asarray(wavelength, np.float64)[pixels + shift] for shift in (-1, 0, 1)]
    y = [np.asarray(flux, np.float64)[pixels + shift] for shift in (-1, 0, 1)]
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    curvature = (right - left) / (x[2] - x[0])
    curved = curvature > 0
    vertex = 0.5 * (x[0] + x[1]) - 0.5 * left / np.where(curved, curvature, 1.0)
    return np.where(curved, vertex, x[1])


def track_lines(centers, labels=None, *, tolerance):
    """Identify the detections of many spectra that belong to the same line.

    Detections of neighbouring spectra that are each other's nearest are linked, and lines grow along the links, the
    shortest first, unless two minima of one spectrum would join. A line may therefore move by more than `tolerance`
    over the grid, if it moves by less from node to node. Then lines that never occur in the same spectrum, and are each
    other's nearest among such lines, are merged if their medians lie within `tolerance`, so that a line that is
    undetected in the middle of the grid remains one line.

    Neighbours are the next nodes along each axis of the grid, where all other labels are equal. If they do not connect
    the grid (scattered labels), each node is also linked to its ``2 * n_labels`` nearest, in labels scaled by their
    range. Without labels there are no links, and detections are merged by their medians alone. Spectra with
    equal labels are neighbours of each other in a chain, ordered by their number of detections and mean wavelength; the
    k-th of a node is a neighbour of the k-th (or last) of the next node.

    `centers` has the wavelengths of each spectrum's detections [angstrom], strictly increasing, `labels` is (n_spectra,
    n_labels) or None, `tolerance` is in km/s. Returns for each spectrum the lines of its detections, int64 in [0,
    n_lines), each at most once. Lines are ordered by median wavelength, so that the numbers increase except where two
    lines cross. The result does not depend on the order of the spectra.

    A tolerance of 2 km/s suits both test grids, at R 45,000 and unbroadened: it lies between the shifts of one line and
    the spacing of different lines. Two lines may be exchanged where one step of the
    grid shifts them by more than half of their separation. Without labels a line should move by less than `tolerance`
    over all spectra.

    >>> centers = [np.array([8500.0, 8500.2]), np.array([8500.02, 8500.22]), np.array([8500.04])]
    >>> [lines.tolist() for lines in track_lines(centers, [[5000], [5100], [5200]], tolerance=1.0)]
    [[0, 1], [0, 1], [0]]
    """
    node = np.zeros(len(centers), np.int64)
    links = np.empty((0, 2), np.int64)
    if labels is not None and len(centers):
        nodes, node = np.unique(np.asarray(labels, np.float64), axis=0, return_inverse=True)
        node = node.ravel()
        links = _neighbouring_nodes(nodes)
    size = np.array([len(c) for c in centers], np.int64)
    mean = np.array([np.mean(c) if len(c) else 0.0 for c in centers])
    # sort the spectra, so that the result does not depend on their order
    order = np.lexsort((mean, size, node))
    start = np.concatenate([[0], np.cumsum(size[order])])
    position = SPEED_OF_LIGHT * np.log(np.concatenate([centers[i] for i in order] or [np.empty(0)]))
    spectrum = np.repeat(np.arange(len(order)), size[order])
    pairs = _neighbouring_spectra(node[order], links) if labels is not None else links
    line, n_lines = np.empty(len(position), np.int64), 0
    for chosen, begins in _separate_parts(position, start, tolerance):
        grown, bits = _grow_along_links(position[chosen], spectrum[chosen], begins, pairs, tolerance)
        line[chosen] = n_lines + _join_by_medians(position[chosen], grown, bits, tolerance)
        n_lines = line[chosen].max(initial=n_lines - 1) + 1
    lines = [np.empty(0, np.int64)] * len(order)
    for rank, i in enumerate(order):
        lines[i] = line[start[rank] : start[rank + 1]]
    return lines


def summarise_lines(lines, centers, prominences, widths):
    """Summarise the detections of each line: `lines` as from `track_lines`, `centers` and `widths` in angstrom."""
    line, center, prominence, width = (
        np.concatenate([*part, np.empty(0, part[0].dtype if len(part) else np.int64)])
        for part in (lines, centers, prominences, widths)
    )
    n_lines = int(line.max()) + 1 if len(line) else 0
    medians = []
    for values in (center, width):
        order = np.argsort(values, kind="stable")
        medians.append(group_medians(values[order], line[order], n_lines))
    most, lowest, highest = np.zeros(n_lines), np.full(n_lines, np.inf), np.zeros(n_lines)
    np.maximum.at(most, line, prominence)
    np.minimum.at(lowest, line, center)
    np.maximum.at(highest, line, center)
    drift = SPEED_OF_LIGHT * np.log(highest / lowest)
    return LineSummary(medians[0], medians[1], most, np.bincount(line, minlength=n_lines), drift)


def _neighbouring_nodes(nodes):
    """Pairs of nodes next to each other along an axis, shape (n_pairs, 2); of scattered nodes also the nearest."""
    n_nodes, n_labels = nodes.shape
    pairs = []
    for axis in range(n_labels):
        others = np.delete(nodes, axis, axis=1)
        order = np.lexsort((nodes[:, axis], *others.T))
        same_row = (others[order[1:]] == others[order[:-1]]).all(axis=1)
        pairs.append(np.column_stack([order[:-1], order[1:]])[same_row])
    pairs = np.concatenate(pairs)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n_nodes, n_nodes))
    if connected_components(graph, directed=False)[0] > 1:
        scale = np.ptp(nodes, axis=0)
        scaled = nodes / np.where(scale > 0, scale, 1)
        n_near = min(2 * n_labels, n_nodes - 1)
        near = cKDTree(scaled).query(scaled, n_near + 1)[1][:, 1:]  # the first is the node itself
        pairs = np.concatenate([pairs, np.column_stack([np.repeat(np.arange(n_nodes), n_near), near.ravel()])])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _neighbouring_spectra(node, links):
    """Pairs of spectra to compare, shape (n_pairs, 2): those of linked nodes, and chains within nodes.

    `node` (n_spectra,) is sorted, so that the spectra of a node follow each other.
    """
    members = np.split(np.arange(len(node)), np.flatnonzero(np.diff(node)) + 1)
    pairs = [pair for spectra in members for pair in pairwise(spectra)]
    for a, b in links:
        for k in range(max(len(members[a]), len(members[b]))):
            pairs.append((members[a][min(k, len(members[a]) - 1)], members[b][min(k, len(members[b]) - 1)]))
    return np.array(pairs, np.int64).reshape(-1, 2)


def _separate_parts(position, start, tolerance):
    """Cut many detections at gaps that no line can cross, since the memory for tracking goes as spectra squared.

    Yields the indices of the detections of each part, increasing, and where those of each spectrum begin among them
    (n_spectra + 1,); the parts are in order of position.
    """
    ordered = np.sort(position)
    gaps = np.flatnonzero(np.diff(ordered) > tolerance * (1 + 1e-9) + 1e-9)
    cuts, begin = [], 0
    for gap in gaps:
        if gap + 1 - begin >= _TRACKED_AT_ONCE:
            cuts.append((ordered[gap] + ordered[gap + 1]) / 2)
            begin = gap + 1
    # for each spectrum the first detection of each part
    edges = [start[i] + np.searchsorted(position[start[i] : start[i + 1]], cuts) for i in range(len(start) - 1)]
    edges = np.column_stack([start[:-1], np.array(edges, np.int64).reshape(len(edges), len(cuts)), start[1:]])
    for first, last in pairwise(edges.T):
        chosen = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)] or [np.empty(0, np.int64)])
        yield chosen, np.concatenate([[0], np.cumsum(last - first)])


def _grow_along_links(position, spectrum, start, pairs, tolerance):
    """Lines as chains of mutual nearest detections: line of each (n_detections,), and spectra of each line as bits."""
    size = np.diff(start)
    room = int(np.minimum(size[pairs[:, 0]], size[pairs[:, 1]]).sum())
    first, second = np.empty(room, np.int32), np.empty(room, np.int32)
    distance = np.empty(room, np.float32)
    n_links = mutual_nearest(position, start, pairs, tolerance, first, second, distance)
    first, second = first[:n_links], second[:n_links]
    # ties by wavelength, then (stable) by the labels of the pairs: one integer sorts faster than three keys
    by_position = np.argsort(position, kind="stable")
    rank = np.empty(len(position), np.uint64)
    rank[by_position] = np.arange(len(position), dtype=np.uint64)
    key = (distance[:n_links] * (2.0**31 / max(tolerance, 1e-9))).astype(np.uint64) << np.uint64(32)
    key |= np.minimum(rank[first], rank[second])
    order = np.argsort(key, kind="stable")
    del key, rank, by_position, distance
    bits = np.zeros((len(position), -(-len(size) // 64)), np.uint64)
    bits[np.arange(len(position)), spectrum // 64] = np.uint64(1) << (spectrum % 64).astype(np.uint64)
    roots, line = np.unique(link_apart(first, second, order, bits), return_inverse=True)
    return line, bits[roots]


def _join_by_medians(position, line, bits, tolerance):
    """Merge lines without a common spectrum whose medians are mutual nearest, repeatedly; number lines by median."""
    by_position = np.argsort(position, kind="stable")
    sorted_position, sorted_line = position[by_position], line[by_position]
    while True:
        median = group_medians(sorted_position, sorted_line, len(bits))
        order = np.argsort(median, kind="stable")
        bits = bits[order]
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        sorted_line = place[sorted_line]
        nearest = nearest_apart(median[order], bits, tolerance)
        here = np.arange(len(order))
        partner = np.flatnonzero((nearest > here) & (nearest[nearest] == here))
        if not len(partner):
            break
        bits[partner] |= bits[nearest[partner]]
        keep = np.ones(len(order), bool)
        keep[nearest[partner]] = False
        target = here.copy()
        target[nearest[partner]] = partner
        sorted_line = (np.cumsum(keep) - 1)[target][sorted_line]
        bits = bits[keep]
    line = np.empty_like(sorted_line)
    line[by_position] = sorted_line
    return line
