"""Detection of lines, and their identity across spectra."""

import numpy as np
import pytest
from scipy.signal import find_peaks, peak_prominences, peak_widths

from stellarhml import VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid
from stellarhml.lines.catalog import Detections, detect_lines, match_to_catalog, merge_detections, velocity_scale
from stellarhml.lines.prior import blase_start


@pytest.fixture(scope="module")
def spectrum():
    grid = make_stellar_grid(n_pixels=600, n_lines=20, random_state=1, noise=0.002)
    return grid.wavelength, grid.flux[5]


def detections(*rows):
    """Detections as `merge_detections` takes them: pixels given, prominence 0.1, width 0.2."""
    return [
        Detections(np.array(row, np.int64), np.array(row, float), np.full(len(row), 0.1), np.full(len(row), 0.2))
        for row in rows
    ]


def dips(*rows, n_pixels=200, sigma=1.2, depth=0.3):
    """Spectra with narrow lines at given pixels."""
    x = np.arange(n_pixels)
    return np.array([1 - sum(depth * np.exp(-0.5 * ((x - p) / sigma) ** 2) for p in row) + 0 * x for row in rows])


@pytest.mark.parametrize("prominence", [0.004, 0.05])
def test_detected_lines_have_the_prominences_and_widths_of_scipy(spectrum, prominence):
    lam, flux = spectrum
    pixels, found, widths = detect_lines(lam, flux, prominence=prominence)
    assert len(pixels) > 5
    np.testing.assert_array_equal(found, peak_prominences(-flux, pixels)[0])
    half_width = peak_widths(-flux, pixels, rel_height=0.5)[0] * 0.05  # angstrom per pixel
    np.testing.assert_allclose(widths, half_width / 2.355, rtol=1e-9)
    # none is left out: every local minimum of that prominence, at least 4 pixels from a deeper one
    minima = find_peaks(-flux, distance=4)[0]
    np.testing.assert_array_equal(pixels, minima[peak_prominences(-flux, minima)[0] >= prominence])


def test_prominence_of_an_isolated_line_is_its_depth():
    pixels, prominences, widths = detect_lines(np.arange(200.0), dips([80, 130])[0], prominence=0.01)
    np.testing.assert_array_equal(pixels, [80, 130])
    np.testing.assert_allclose(prominences, 0.3, rtol=1e-12)
    # a Gaussian's half width over 2.355 is its sigma; linear interpolation between pixels costs some percent
    np.testing.assert_allclose(widths, 1.2, rtol=0.05)


def test_widths_are_in_angstrom_on_an_uneven_scale():
    lam = np.concatenate([np.arange(100) * 0.01, 1 + np.arange(100) * 0.02])
    _, _, widths = detect_lines(lam, dips([50, 150])[0], prominence=0.01)
    assert widths[1] / widths[0] == pytest.approx(2, rel=1e-6)


def test_lines_near_either_end_are_left_out():
    lam = np.arange(200) * 0.5
    pixels = detect_lines(lam, dips([9, 11, 100, 188, 191], sigma=0.4)[0], prominence=0.001, distance=1, edge=5.0)[0]
    np.testing.assert_array_equal(pixels, [11, 100, 188])


@pytest.mark.parametrize("n_pixels", [1, 2])
def test_too_short_for_a_minimum(n_pixels):
    assert all(len(part) == 0 for part in detect_lines(np.arange(float(n_pixels)), np.ones(n_pixels), prominence=0.01))


def test_start_values_are_those_of_blase():
    # DESIGN.md, section 2: ln a = ln(0.14 prominence), sigma = 1.28 w / sqrt(2), gamma = 1.52 w / sqrt(2)
    prominence, width = np.array([0.3, 0.01]), np.array([0.1, 0.04])
    theta = blase_start(np.array([8500.0, 8501.0]), prominence, width, ("center", "log_amplitude", "log_sigma", "x"))
    want = [[8500.0, 8501.0], 0.14 * prominence, 1.28 * width / np.sqrt(2), 1.52 * width / np.sqrt(2)]
    np.testing.assert_allclose(theta[:, 0], want[0], rtol=0)
    np.testing.assert_allclose(np.exp(theta[:, 1:]), np.transpose(want[1:]), rtol=1e-14)


def test_untrained_lines_of_a_decomposer_are_near_the_start_values_of_blase(spectrum):
    # one epoch of Adam moves every parameter by the learning rate at most
    lam, flux = spectrum
    decomposer = VoigtLineDecomposer(
        wavelength=lam, profile="blase", solver="adam", max_iter=1, learning_rate=1e-6, match_tolerance=0
    )
    theta = decomposer.fit_transform(flux[None]).toarray().reshape(-1, 4)
    pixels, prominences, widths = detect_lines(lam, flux, prominence=0.005)
    np.testing.assert_allclose(theta, blase_start(lam[pixels], prominences, widths, range(4)), rtol=0, atol=1.1e-6)


def test_tolerance_zero_means_equal_pixels():
    found = detections([10, 20], [11, 20], [12])
    # where between the pixels the minima are does not count
    found = [d._replace(positions=d.positions + 0.4) for d in found]
    for labels in (None, np.arange(3.0)[:, None]):
        catalog = merge_detections(found, velocity_scale(40), labels=labels, tolerance=0)
        np.testing.assert_array_equal(catalog.pixels, [10, 11, 12, 20])
        np.testing.assert_array_equal(catalog.prominences, 0.1)
        np.testing.assert_array_equal(catalog.widths, 0.2)
        np.testing.assert_array_equal(catalog.n_spectra, [1, 1, 1, 2])


def test_tolerance_two_merges_a_line_that_moves_by_a_pixel():
    catalog = merge_detections(detections([10, 30], [11, 30], [11, 31], [12, 30]), velocity_scale(40), tolerance=2)
    np.testing.assert_array_equal(catalog.pixels, [11, 30])
    np.testing.assert_array_equal(catalog.n_spectra, 4)


def test_tolerances_are_velocities_where_there_are_wavelengths():
    # 3 pixels of 0.02 angstrom at 8500 angstrom are 2.1 km/s, and at 2500 angstrom they are 7.2 km/s
    for first, n_lines in [(8500.0, {2.0: 2, 2.2: 1, 7.4: 1}), (2500.0, {2.0: 2, 2.2: 2, 7.4: 1})]:
        scale = velocity_scale(first + 0.02 * np.arange(40))
        found = [d._replace(positions=scale[d.pixels]) for d in detections([10], [13])]
        for tolerance, wanted in n_lines.items():
            assert len(merge_detections(found, scale, tolerance=tolerance).pixels) == wanted


def test_the_pixel_of_a_line_is_the_nearest_to_its_middle():
    scale = velocity_scale(8500 * np.exp(np.cumsum(np.linspace(1e-6, 4e-6, 200))))
    places = [np.array([scale[50] + 0.2 * (scale[51] - scale[50])]), np.array([scale[51]]), np.array([scale[52]])]
    # the detections' own pixels are 0, 1, 2: only their positions count
    found = [d._replace(positions=x) for d, x in zip(detections([0], [1], [2]), places, strict=True)]
    catalog = merge_detections(found, scale, labels=[[0.0], [1.0], [2.0]], tolerance=2)
    np.testing.assert_array_equal(catalog.pixels, [51])


def test_lines_whose_middles_share_a_pixel_are_one():
    # 0.4 pixels apart, but no neighbours in the sense of a tolerance of 0.3
    found = [d._replace(positions=np.array([x])) for d, x in zip(detections([10], [10]), [9.8, 10.2], strict=True)]
    found[1] = found[1]._replace(prominences=np.array([0.7]))
    catalog = merge_detections(found, velocity_scale(40), labels=[[0.0], [1.0]], tolerance=0.3)
    assert [part.tolist() for part in catalog[:4]] == [[10], [0.7], [0.2], [2]]
    assert [rows.tolist() for rows in catalog.members] == [[0], [0]]


def test_catalogue_does_not_depend_on_the_order_of_the_spectra():
    rng = np.random.default_rng(0)
    found = detections(*[np.sort(rng.choice(np.arange(0, 300, 4) + rng.integers(0, 2), 30, False)) for _ in range(12)])
    scale = velocity_scale(310)
    for labels in (None, rng.uniform(size=(12, 2))):
        forward = merge_detections(found, scale, labels=labels, tolerance=2)
        backward = merge_detections(found[::-1], scale, labels=None if labels is None else labels[::-1], tolerance=2)
        for ours, theirs in zip(
            forward[:4] + tuple(forward.members), backward[:4] + tuple(backward.members[::-1]), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_a_line_keeps_its_largest_prominence_and_a_middle_width():
    found = [
        Detections(np.array([p]), np.array([float(p)]), np.array([prominence]), np.array([width]))
        for p, prominence, width in [(10, 0.1, 0.3), (11, 0.4, 0.1), (10, 0.2, 0.2)]
    ]
    catalog = merge_detections(found, velocity_scale(30), tolerance=2)
    assert [part.tolist() for part in catalog[:4]] == [[10], [0.4], [0.2], [3]]


@pytest.mark.parametrize("tolerance", [0, 2])
def test_no_detections_give_an_empty_catalogue(tolerance):
    catalog = merge_detections(detections([], []), velocity_scale(30), tolerance=tolerance)
    assert [len(part) for part in catalog[:4]] == [0, 0, 0, 0]
    assert [len(rows) for rows in catalog.members] == [0, 0]


def test_matching_prefers_the_nearest_and_gives_a_line_once():
    catalog = np.array([10, 20, 30])
    lines = match_to_catalog(np.array([9, 11, 19, 23, 32]), catalog, tolerance=2)
    # 9 and 11 are equally near to 10: the bluer keeps it; 23 is too far
    np.testing.assert_array_equal(lines, [0, -1, 1, -1, 2])
    np.testing.assert_array_equal(match_to_catalog(np.array([8, 11]), catalog, tolerance=2), [-1, 0])
    np.testing.assert_array_equal(match_to_catalog(np.array([5]), np.empty(0, np.int64), tolerance=2), [-1])
    assert len(match_to_catalog(np.empty(0, np.int64), catalog, tolerance=2)) == 0


@pytest.mark.parametrize("separation", [5, 6, 9])
def test_two_lines_of_one_spectrum_never_merge(separation):
    decomposer = VoigtLineDecomposer().fit(dips([50, 50 + separation], [51], [50 + separation - 1]))
    flux = dips([50, 50 + separation])
    theta = decomposer.set_params(fit_undetected=False).transform(flux)
    assert theta.nnz == 2 * 6


def test_lines_at_the_smallest_distance_do_not_merge_either():
    sharp = dips([50, 54], [52], [52], sigma=0.8)
    assert [len(VoigtLineDecomposer().fit(sharp).detect(row)[0]) for row in sharp] == [2, 1, 1]
    assert len(VoigtLineDecomposer().fit(sharp).line_catalog_) >= 2


def test_the_most_prominent_lines_are_kept():
    x = np.arange(200)
    flux = 1 - sum(d * np.exp(-0.5 * ((x - p) / 1.5) ** 2) for p, d in [(30, 0.1), (80, 0.3), (120, 0.05), (170, 0.2)])
    decomposer = VoigtLineDecomposer(n_lines=2).fit(flux[None])
    np.testing.assert_array_equal(decomposer.line_catalog_, [80, 170])
