"""Identity of lines across a grid: purity and completeness where the truth is known, and the rules one by one."""

from itertools import product

import numpy as np
import pytest

from stellarhml.lines import catalog
from stellarhml.lines.catalog import (
    SPEED_OF_LIGHT,
    Detections,
    _grow_along_links,
    _neighbouring_nodes,
    _neighbouring_spectra,
    detect_lines,
    match_to_catalog,
    merge_detections,
    nearest_pixel,
    refine_minima,
    summarise_lines,
    track_lines,
    velocity_scale,
)

GRID = np.array(list(product(np.arange(5000.0, 6100, 100), [4.0, 4.5, 5.0], [-0.5, 0.0])))


def moving_lines(labels, rng, *, n_lines=200, drift=4.0, hidden=0.3, jitter=0.03, pairs=30):
    """Centers of lines that move smoothly over the grid, and which line each is.

    Mean spacing 20 km/s. Each line moves by up to `drift` km/s over the grid, a share `hidden` of them fades in part of
    it, and `pairs` of them have a companion that approaches to 1.1 km/s, where 1.4 km/s are needed to see both.
    """
    u = (labels - labels.mean(axis=0)) / np.ptp(labels, axis=0)  # -0.5 to 0.5
    rest = np.sort(rng.choice(np.arange(2 * n_lines), n_lines, replace=False)) * 10.0 + rng.uniform(-1, 1, n_lines)
    slope = rng.uniform(-drift, drift, (n_lines, 3)) * [1.0, 0.1, 0.1]  # mostly with temperature
    move = slope @ u.T  # lines, spectra
    strength = 1 + rng.normal(size=(n_lines, 3)) @ u.T
    strength[rng.random(n_lines) > hidden] += 10
    close = rng.choice(n_lines, pairs, replace=False)
    gap = rng.uniform(1.1, 1.5, pairs)[:, None] + (0.5 - u[:, 0]) * rng.uniform(1, 3, pairs)[:, None]
    position = np.concatenate([rest[:, None] + move, rest[close, None] + move[close] + gap])
    strength = np.concatenate([strength, strength[close] - rng.uniform(0.05, 0.5, pairs)[:, None]])
    centers, truth = [], []
    for x, s in zip(position.T, strength.T, strict=True):
        seen = []
        for k in np.argsort(-s):  # as `find_peaks` does: the strongest keeps others away
            if s[k] > 0.5 and all(abs(x[k] - x[j]) >= 1.4 for j in seen):
                seen.append(k)
        where = x[seen] + jitter * rng.normal(size=len(seen))
        order = np.argsort(where)
        centers.append(8500 * np.exp(where[order] / SPEED_OF_LIGHT))
        truth.append(np.array(seen)[order])
    return centers, truth


def purity_and_completeness(lines, truth):
    """Shares of detections in the main true line of their line, and in the main line of their true line."""
    table = np.zeros((1 + max(x.max() for x in lines), 1 + max(x.max() for x in truth)))
    for found, true in zip(lines, truth, strict=True):
        np.add.at(table, (found, true), 1)
    return table.max(axis=1).sum() / table.sum(), table.max(axis=0).sum() / table.sum()


def at(*velocities):
    """Centers at given velocities in km/s from 8500 angstrom."""
    return 8500 * np.exp(np.array(velocities, np.float64) / SPEED_OF_LIGHT)


def tracked(*spectra, labels, tolerance=1.0):
    """Lines of spectra given by velocities, as lists."""
    return [lines.tolist() for lines in track_lines([at(*row) for row in spectra], labels, tolerance=tolerance)]


def random_centers(rng, n_spectra, n_detections, width=300.0):
    """Unrelated detections: the hardest case for the rule that a line occurs once in a spectrum."""
    return [at(*np.sort(rng.uniform(0, width, n_detections))) for _ in range(n_spectra)]


def slow_links(centers, links, tolerance):
    """Mutual nearest detections and constrained single linkage, as one writes them down: a set of spectra per line."""
    velocity = [SPEED_OF_LIGHT * np.log(c) for c in centers]
    edges = []
    for i, j in links:
        gap = np.abs(velocity[i][:, None] - velocity[j][None, :])
        for a in range(len(velocity[i])):
            b = int(gap[a].argmin())
            if gap[:, b].argmin() == a and gap[a, b] <= tolerance:
                edges.append((gap[a, b], (i, a), (j, b)))
    group = {(i, a): {(i, a)} for i, v in enumerate(velocity) for a in range(len(v))}
    for _, one, other in sorted(edges):
        ours, theirs = group[one], group[other]
        if not {i for i, _ in ours} & {i for i, _ in theirs}:
            for member in (merged := ours | theirs):
                group[member] = merged
    return {frozenset(members) for members in group.values()}


@pytest.mark.parametrize("seed", [0, 1])
def test_lines_that_move_and_fade_are_found_whole(seed):
    centers, truth = moving_lines(GRID, np.random.default_rng(seed))
    assert len({len(c) for c in centers}) > 10  # some fade
    lines = track_lines(centers, GRID, tolerance=2.0)
    purity, completeness = purity_and_completeness(lines, truth)
    assert purity > 0.999
    assert completeness > 0.995
    # the catalogue has each line once, where it is in the middle of the grid
    wavelength = 8490 * np.exp(0.35 * np.arange(12500) / SPEED_OF_LIGHT)
    scale = velocity_scale(wavelength)
    places = [velocity_scale(c) for c in centers]
    detections = [Detections(nearest_pixel(scale, p), p, np.ones(len(p)), np.ones(len(p))) for p in places]
    catalog = merge_detections(detections, scale, labels=GRID, tolerance=2.0)
    every, true = np.concatenate(places), np.concatenate(truth)
    middle = [np.median(every[true == k]) for k in np.unique(true)]
    np.testing.assert_allclose(scale[catalog.pixels], np.sort(middle), atol=0.176)  # half a pixel
    np.testing.assert_array_equal(catalog.n_spectra, np.bincount(true)[np.unique(true)][np.argsort(middle)])
    # minima within two pixels of 0.35 km/s of a list of lines, which is what can be had without labels
    catalog = merge_detections(detections, scale, tolerance=0.7).pixels
    matched = [match_to_catalog(p, scale[catalog], tolerance=0.7) for p in places]
    kept = [(found[found >= 0], true[found >= 0]) for found, true in zip(matched, truth, strict=True)]
    old_purity, old_completeness = purity_and_completeness(*zip(*kept, strict=True))
    assert old_purity < 0.99
    assert old_completeness < 0.7


@pytest.mark.parametrize("tolerance", [0.0, 2.0])
def test_parts_of_the_spectrum_are_tracked_as_the_whole(monkeypatch, tolerance):
    rng = np.random.default_rng(3)
    centers, _ = moving_lines(GRID, rng)
    whole = track_lines(centers, GRID, tolerance=tolerance)
    seen = []

    def counted(position, *rest, grow=_grow_along_links):
        seen.append(len(position))
        return grow(position, *rest)

    monkeypatch.setattr(catalog, "_grow_along_links", counted)
    for at_once in (1, 500):
        monkeypatch.setattr(catalog, "_TRACKED_AT_ONCE", at_once)
        parts = track_lines(centers, GRID, tolerance=tolerance)
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(parts, whole, strict=True))
        assert len(seen) > 5
        assert sum(seen) == sum(map(len, centers))
        assert min(seen[:-1]) >= at_once
        seen.clear()


def test_lines_without_labels_are_found_if_they_move_less():
    centers, truth = moving_lines(GRID, np.random.default_rng(0), drift=1.0, pairs=0)
    purity, completeness = purity_and_completeness(track_lines(centers, tolerance=2.0), truth)
    assert purity > 0.999
    assert completeness > 0.999


def test_close_lines_in_spectra_keep_their_identity():
    # pairs of sharp lines that approach from 9 to 3 pixels, where one minimum is left, while both move by 6 pixels
    labels = np.arange(13.0)[:, None]
    wavelength = 8500 + 0.01 * np.arange(2000)
    left = wavelength[100:1900:60][:, None] + 0.01 * (0.5 * labels.T + np.linspace(0, 0.9, 30)[:, None])
    right = left + 0.01 * (9 - 0.5 * labels.T)
    truth = np.concatenate([left, right])
    depth = np.concatenate([np.full(30, 0.3), np.full(30, 0.25)])
    centers, true = [], []
    for x in truth.T:
        flux = 1 - depth @ np.exp(-0.5 * ((wavelength - x[:, None]) / 0.011) ** 2)
        pixels = detect_lines(wavelength, flux, prominence=0.01)[0]
        centers.append(refine_minima(wavelength, flux, pixels))
        true.append(np.abs(centers[-1][:, None] - x).argmin(axis=1))
    assert [len(c) for c in (centers[0], centers[-1])] == [60, 30]
    lines = track_lines(centers, labels, tolerance=1.0)
    assert purity_and_completeness(lines, true) == (1.0, 1.0)


@pytest.mark.parametrize("labels", [GRID[:12], np.random.default_rng(0).normal(size=(12, 3)), np.zeros((12, 1)), None])
def test_a_line_occurs_once_in_a_spectrum_whatever_their_order(labels):
    rng = np.random.default_rng(3)
    centers = random_centers(rng, 12, 40)
    lines = track_lines(centers, labels, tolerance=3.0)
    assert all(len(set(row)) == len(row) == 40 for row in lines)
    every = np.concatenate(lines)
    np.testing.assert_array_equal(np.unique(every), np.arange(every.max() + 1))
    assert every.max() + 1 < 0.5 * every.size
    medians = [np.median(np.concatenate(centers)[every == k]) for k in range(every.max() + 1)]
    assert (np.diff(medians) > 0).all()
    shuffled = rng.permutation(12)
    again = track_lines([centers[i] for i in shuffled], None if labels is None else labels[shuffled], tolerance=3.0)
    for i, row in zip(shuffled, again, strict=True):
        np.testing.assert_array_equal(row, lines[i])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_links_are_those_of_a_slow_reference(seed):
    rng = np.random.default_rng(seed)
    labels = np.array(list(product(range(27), range(3))), np.float64)  # more than 64: two words of bits
    centers = random_centers(rng, len(labels), 15, width=100.0)
    links = [(i, j) for i, j in product(range(81), range(81)) if i < j and np.abs(labels[i] - labels[j]).sum() == 1]
    wanted = slow_links(centers, links, 2.0)
    assert len(wanted) < 0.6 * 15 * len(labels)
    size = np.full(len(labels), 15)
    start = np.concatenate([[0], np.cumsum(size)])
    spectrum = np.repeat(np.arange(len(labels)), size)
    position = SPEED_OF_LIGHT * np.log(np.concatenate(centers))
    pairs = _neighbouring_spectra(np.arange(len(labels)), _neighbouring_nodes(labels))
    assert set(map(tuple, pairs)) == set(links)
    line, bits = _grow_along_links(position, spectrum, start, pairs, 2.0)
    found = [np.flatnonzero(line == k) for k in range(len(bits))]
    assert {frozenset((int(spectrum[k]), int(k - start[spectrum[k]])) for k in group) for group in found} == wanted
    for group, words in zip(found, bits, strict=True):
        assert sum(int(word).bit_count() for word in words) == len(group)


def test_a_line_may_move_by_more_than_the_tolerance():
    steps = [[0.9 * k] for k in range(6)]
    assert tracked(*steps, labels=np.arange(6)[:, None]) == [[0]] * 6
    assert max(tracked(*steps, labels=None))[0] > 0
    assert tracked([0], [1.1], labels=[[0], [1]]) == [[0], [1]]


def test_a_line_that_is_missing_in_the_middle_remains_one():
    labels = np.arange(5)[:, None]
    assert tracked([0, 9], [0.1, 9], [9], [0.6, 9], [0.7, 9], labels=labels) == [[0, 1], [0, 1], [1], [0, 1], [0, 1]]
    assert tracked([0, 9], [9], [1.1, 9], labels=labels[:3]) == [[0, 2], [2], [1, 2]]
    # another line of a common spectrum in between does not part it
    assert tracked([0, 0.4], [], [0.6], labels=labels[:3], tolerance=0.7) == [[0, 1], [], [1]]
    assert tracked([0.0], [0.3, 1.3], [], [0.5], labels=labels[:4], tolerance=0.7) == [[0], [0, 1], [], [0]]


def test_of_equal_distances_the_bluer_wins():
    assert tracked([0, 0.5], [0.25], labels=[[0], [1]], tolerance=0.3) == [[0, 1], [0]]
    assert tracked([0.25], [0, 0.5], labels=[[0], [1]], tolerance=0.3) == [[0], [0, 1]]


def test_spectra_of_one_node_are_neighbours():
    # a line that only the second spectrum of each node shows moves along with the second spectra
    spectra = [[0], [0, 5], [0.2], [0.2, 5.9], [0.4], [0.4, 6.8]]
    assert tracked(*spectra, labels=[[0], [0], [1], [1], [2], [2]]) == [[0], [0, 1]] * 3
    # a node with fewer: its last one is the neighbour of the rest
    assert tracked([0, 5], [0, 5.9], [0.2, 6.2], labels=[[0], [1], [1]]) == [[0, 1]] * 3


def test_scattered_labels_are_linked_to_their_nearest():
    rng = np.random.default_rng(0)
    labels = rng.uniform([4000, 3, -1], [6000, 5, 0], (150, 3))
    centers, truth = moving_lines(labels, rng, n_lines=50, pairs=5)
    purity, completeness = purity_and_completeness(track_lines(centers, labels, tolerance=2.0), truth)
    assert purity > 0.99
    assert completeness > 0.99


def test_tolerance_zero_on_pixels_is_the_catalogue_of_the_paper():
    rng = np.random.default_rng(0)
    pixels = [np.sort(rng.choice(np.arange(0, 300, 4) + rng.integers(0, 2), 30, False)) for _ in range(12)]
    wavelength = 8500 + 0.01 * np.arange(310)
    lines = track_lines([wavelength[p] for p in pixels], GRID[:12], tolerance=0.0)
    detections = [Detections(p, np.empty(30), np.ones(30), np.ones(30)) for p in pixels]
    catalog = merge_detections(detections, velocity_scale(wavelength), labels=GRID[:12], tolerance=0).pixels
    for found, p in zip(lines, pixels, strict=True):
        np.testing.assert_array_equal(catalog[found], p)


@pytest.mark.parametrize("labels", [None, [[0.0], [1.0]]])
def test_spectra_without_lines(labels):
    assert [len(lines) for lines in track_lines([np.empty(0), np.empty(0)], labels, tolerance=1.0)] == [0, 0]
    lines = track_lines([np.empty(0), at(3.0)], labels, tolerance=1.0)
    assert [row.tolist() for row in lines] == [[], [0]]
    assert all(len(part) == 0 for part in summarise_lines([np.empty(0, np.int64)], *[[np.empty(0)]] * 3))
    assert track_lines([], None, tolerance=1.0) == []


def test_the_summary_of_a_line():
    centers = [at(0, 10), at(1), at(3, 10)]
    lines = track_lines(centers, [[0], [1], [2]], tolerance=2.0)
    prominences, widths = [[0.1, 0.2], [0.4], [0.3, 0.1]], [[0.1, 0.5], [0.9], [0.2, 0.7]]
    found = summarise_lines(lines, centers, [np.array(p) for p in prominences], [np.array(w) for w in widths])
    np.testing.assert_allclose(found.center, at(1, 10), rtol=1e-14)
    np.testing.assert_allclose(found.width, [0.2, 0.6], rtol=1e-14)
    np.testing.assert_array_equal(found.prominence, [0.4, 0.2])
    np.testing.assert_array_equal(found.n_spectra, [3, 2])
    np.testing.assert_allclose(found.drift, [3, 0], rtol=1e-8, atol=1e-12)


def test_minima_are_refined_by_a_parabola():
    rng = np.random.default_rng(0)
    wavelength = np.cumsum(rng.uniform(0.5, 1.5, 60))
    vertex = rng.uniform(wavelength[20], wavelength[40], 25)
    pixels = np.array([np.argmin((wavelength - v) ** 2) for v in vertex])
    refined = [
        refine_minima(wavelength, 2 + 3 * (wavelength - v) ** 2, [p])[0] for v, p in zip(vertex, pixels, strict=True)
    ]
    np.testing.assert_allclose(refined, vertex, rtol=1e-12)
    # narrow Gaussians, to a twentieth of a pixel
    x = np.arange(60.0)
    flux = [1 - np.exp(-0.5 * ((x - v) / 1.5) ** 2) for v in vertex]
    refined = [refine_minima(x, f, [f.argmin()])[0] for f in flux]
    assert np.abs(refined - vertex).max() < 0.05


def test_a_plateau_stays_where_it_is():
    flux = np.array([1.0, 0.5, 0.5, 0.5, 1.0, 0.2, 0.2, 1.0])
    np.testing.assert_allclose(refine_minima(np.arange(8.0), flux, [2, 5]), [2.0, 5.5], rtol=1e-12)
