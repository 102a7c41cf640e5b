"""What `fit` learns from a grid: lines that move, lines that were missed, lines that do nothing."""

import numpy as np
import pandas as pd
import pytest

from stellarhml import VoigtLineDecomposer
from stellarhml.flags import LineFlag
from stellarhml.kernels.rendering import line_depths
from stellarhml.lines._voigt_line_decomposer import labels_of
from stellarhml.lines.catalog_learning import choose_training_rows

STEPS = np.arange(8.0)


def decomposer_of(known, **parameters):
    return VoigtLineDecomposer(wavelength=known.wavelength, **{"noise": 0.003, **parameters})


@pytest.fixture(scope="module")
def moving(known):
    """Two lines that move by 6.3 pixels, 0.9 (1.6 km/s) a step, 12 pixels apart, and one that does not."""
    line = known.line
    theta = [
        [
            line(8504 + 0.045 * k, 0.8 + 0.05 * k),
            line(8504.6 + 0.045 * k, 0.5, log_gamma=-2.0),
            line(8509, 0.3 + 0.1 * k),
        ]
        for k in STEPS
    ]
    return np.array(theta), np.array([known.render(*row) for row in theta])


@pytest.fixture(scope="module")
def blended(known):
    """A line whose companion has no minimum of its own, and one that stands alone."""
    line = known.line
    strength = 0.15 * (1 + 0.5 * np.cos(2 * STEPS))
    theta = [[line(8504, 0.8 + 0.1 * k), line(8504.4, strength[int(k)]), line(8510, 0.3 + 0.1 * k)] for k in STEPS]
    return np.array(theta), np.array([known.render(*row) for row in theta])


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_rounds": 0},
        {},
        {"n_rounds": 0, "noise": 0.03},
        {"noise": 0.003},
    ],
    ids=str,
)
def test_a_line_that_moves_is_one_line(known, moving, parameters):
    theta, flux = moving
    decomposer = decomposer_of(known, **parameters).fit(flux, STEPS[:, None])
    # where they are in the middle of the grid, to half a pixel
    np.testing.assert_allclose(decomposer.line_catalog_, np.median(theta[:, :, 0], axis=0), atol=0.026)
    np.testing.assert_array_equal(decomposer.n_detected_, 8)


def test_a_line_that_moves_is_followed(known, moving):
    theta, flux = moving
    result = decomposer_of(known).fit(flux, STEPS[:, None]).decompose(flux)
    assert not result.line_flags.any()
    np.testing.assert_allclose(result.theta.toarray()[:, ::6], theta[:, :, 0], atol=0.01)  # of 0.3 angstrom


def test_scattered_order_of_labels(known, moving):
    theta, flux = moving
    order = np.random.default_rng(0).permutation(8)
    decomposer = decomposer_of(known).fit(flux[order], STEPS[order])
    np.testing.assert_allclose(decomposer.line_catalog_, np.median(theta[:, :, 0], axis=0), atol=0.026)


def test_without_labels_no_two_lines_become_one(known, moving):
    theta, flux = moving
    decomposer = decomposer_of(known, n_rounds=0).fit(flux)
    found, seen = decomposer.line_catalog_, decomposer.n_detected_
    lowest, highest = theta[:, :, 0].min(axis=0) - 0.026, theta[:, :, 0].max(axis=0) + 0.026
    member = (found[:, None] > lowest) & (found[:, None] < highest)
    np.testing.assert_array_equal(member.sum(axis=1), 1)  # each is of one true line, as their ranges do not meet
    np.testing.assert_array_equal(seen @ member, 8)  # and each detection in one of them
    assert (seen <= 8).all()
    # the clones show both lines wherever they stand
    clones = decomposer.inverse_transform(decomposer.transform(flux))
    assert np.abs(clones - flux).max() < 0.01


def test_tolerances_are_pixels_without_wavelengths(known, moving):
    _, flux = moving
    for tolerance, is_one in [(1.2, True), (0.6, False)]:
        decomposer = VoigtLineDecomposer(match_tolerance=tolerance, n_rounds=0).fit(flux, STEPS[:, None])
        assert (len(decomposer.line_catalog_) == 3) == is_one
        assert decomposer.n_detected_.sum() == 3 * 8


def test_a_line_without_a_minimum_of_its_own_is_added(known, blended):
    theta, flux = blended
    without = decomposer_of(known, n_rounds=0).fit(flux)
    decomposer = decomposer_of(known).fit(flux)
    # it has none anywhere
    assert all(len(decomposer.detect(row)[0]) == 2 for row in flux)
    assert len(without.line_catalog_) == 2
    assert len(decomposer.line_catalog_) == 3
    assert decomposer.line_catalog_[1] == pytest.approx(8504.4, abs=0.11)
    np.testing.assert_array_equal(decomposer.n_detected_, [8, 0, 8])
    before, after = without.decompose(flux), decomposer.decompose(flux)
    assert (after.rms < 0.25 * before.rms).all()
    np.testing.assert_array_equal(after.line_flags & LineFlag.ADDED, [[0, LineFlag.ADDED, 0]] * 8)
    assert not (before.line_flags & LineFlag.ADDED).any()
    # it is the line that was put there
    found = after.theta.toarray().reshape(8, 3, 6)
    np.testing.assert_allclose(
        [line_depths(row, "minnaert")[1] for row in found],
        [line_depths(row, "minnaert")[1] for row in theta],
        atol=0.03,
    )


@pytest.mark.parametrize("parameters", [{"n_rounds": 0}, {"n_lines": 2}, {"rms_tol": 0.05}, {"prominence": 0.1}])
def test_no_lines_are_added_where_none_are_asked_for(known, blended, parameters):
    decomposer = decomposer_of(known, **parameters).fit(blended[1])
    np.testing.assert_allclose(decomposer.line_catalog_, [8504, 8510], atol=0.06)


@pytest.mark.parametrize(("n_spectra", "is_added"), [(1, False), (4, True)])
def test_a_line_that_few_spectra_ask_for_is_not_added(known, n_spectra, is_added):
    # a tenth of the spectra must
    line = known.line
    flux = [
        known.render(
            line(8504, 0.8 + 0.05 * k), line(8510, 0.3 + 0.05 * k), line(8504.4, 0.15 if k < n_spectra else 1e-9)
        )
        for k in range(20)
    ]
    assert len(decomposer_of(known, rms_tol=0).fit(flux).line_catalog_) == 2 + is_added
    # nor by those alone, if most are fitted well enough
    assert len(decomposer_of(known).fit(flux).line_catalog_) == 2


def test_no_lines_are_added_in_the_core_of_a_broad_line(known, blended):
    # a trough that no line of ours has the shape of, and a blend elsewhere
    x = known.wavelength - 8513.0
    line = known.line
    flux = []
    for k in STEPS:
        trough = 1 - 0.7 * np.exp(-0.5 * np.abs(x / (0.7 + 0.03 * k)) ** 3)
        alone = [line(8501, 0.3), line(8507, 0.4), line(8509.5, 0.3 + 0.05 * k)]
        flux.append(trough * known.render(*alone, line(8504, 0.8 + 0.1 * k), line(8504.4, 0.15 + 0.02 * np.cos(2 * k))))
    flux = np.array(flux)
    without = decomposer_of(known, n_rounds=0, noise=0.03).fit(flux)
    residual = flux - without.inverse_transform(without.transform(flux))
    assert len(without.line_catalog_) == 5
    width = without._catalog.widths[4]
    assert width > 0.5
    inside = [
        np.abs(known.wavelength[without.detect(1 + row)[0]] - without.line_catalog_[4]) < width for row in residual
    ]
    assert all(row.any() for row in inside)  # the residuals do ask for lines there
    decomposer = decomposer_of(known, noise=0.03).fit(flux)
    added = decomposer.line_catalog_[decomposer.n_detected_ == 0]
    assert np.abs(added - 8504.4).min() < 0.11
    assert np.abs(added - without.line_catalog_[4]).min() >= width
    # nor closer than three pixels to any line that was detected
    detected = decomposer.line_catalog_[decomposer.n_detected_ > 0]
    assert np.abs(added[:, None] - detected).min() > 0.149


def test_lines_that_do_nothing_are_dropped(known):
    # a dip in one of thirty spectra, which is not among those that `fit` learns from
    line = known.line
    flux = np.array([known.render(line(8504, 0.3 + 0.1 * k), line(8510, 1 - 0.02 * k)) for k in range(30)])
    flux[14] *= 1 - 0.007 * np.exp(-0.5 * ((known.wavelength - 8507) / 0.1) ** 2)
    everything = decomposer_of(known, noise=5e-4, n_rounds=0, subsample=None).fit(flux)
    assert len(everything.line_catalog_) == 3
    assert 14 not in choose_training_rows(flux, everything._catalog.pixels, 6)
    decomposer = decomposer_of(known, noise=5e-4, n_rounds=0, subsample=6).fit(flux)
    np.testing.assert_allclose(decomposer.line_catalog_, [8504, 8510], atol=0.03)
    np.testing.assert_array_equal(decomposer.n_detected_, 30)
    assert len(decomposer.get_feature_names_out()) == 12
    result = decomposer.decompose(flux)
    assert result.theta.shape == (30, 12)
    assert not result.line_flags.any()
    # the rest is as it was
    assert np.delete(result.rms, 14).max() < 1e-4


def test_few_training_spectra_serve_for_all(known):
    every = known.result
    decomposer = VoigtLineDecomposer(**known.options, subsample=6).fit(known.flux, known.labels)
    np.testing.assert_array_equal(decomposer.line_catalog_, known.decomposer.line_catalog_)
    # lines are detected in all of them
    np.testing.assert_array_equal(decomposer.n_detected_, known.decomposer.n_detected_)
    assert decomposer.decompose(known.flux).rms.max() < 3 * every.rms.max()


@pytest.mark.parametrize("subsample", [1, 2])
def test_hardly_any_training_spectra(known, subsample):
    decomposer = VoigtLineDecomposer(**known.options, subsample=subsample).fit(known.flux, known.labels)
    result = decomposer.decompose(known.flux)
    assert np.isfinite(result.rms).all()
    assert result.rms.max() < 0.01
    assert len(decomposer._prior.components) == subsample - 1


def test_the_spectra_to_learn_from_differ_most():
    rng = np.random.default_rng(0)
    flux = 1 - 0.01 * rng.uniform(size=(40, 30))
    features = np.arange(0, 30, 3)
    different = [3, 17, 31]
    for i, row in enumerate(different):
        flux[row, features[2 * i : 2 * i + 2]] -= 0.5
    flux[8, 1] -= 5  # not among the features
    chosen = choose_training_rows(flux, features, 4)
    assert set(different) < set(chosen)
    assert (np.diff(chosen) > 0).all()
    assert 8 not in chosen
    order = rng.permutation(40)
    assert set(order[choose_training_rows(flux[order], features, 4)]) == set(chosen)
    for n_rows in (None, 40, 100):
        np.testing.assert_array_equal(choose_training_rows(flux, features, n_rows), np.arange(40))


@pytest.mark.parametrize(
    "y",
    [
        None,
        ["a"] * 8,
        np.array(["5000", "5100"] * 4),
        [None] * 8,
        np.full((8, 2), np.nan),
        np.array([1.0, 2, 3, 4, 5, 6, 7, np.inf]),
        np.array([(1, "a")] * 8, dtype=object),
        np.arange(8) * 1j,
        np.empty((8, 0)),
    ],
    ids=["none", "strings", "digits", "nones", "nan", "inf", "objects", "complex", "no label"],
)
def test_labels_that_are_none_are_ignored(known, moving, y):
    assert labels_of(y, 8) is None
    decomposer = decomposer_of(known, n_rounds=0, max_iter=1, subsample=1).fit(moving[1], y)
    assert len(decomposer.line_catalog_) > 3


@pytest.mark.parametrize(
    "y",
    [
        STEPS,
        STEPS[:, None],
        STEPS.astype(int).tolist(),
        STEPS.astype(np.float32),
        np.column_stack([5000 + 100 * STEPS, np.full(8, 4.5)]),
        pd.DataFrame({"teff": 5000 + 100 * STEPS, "logg": 4.5}),
        pd.Series(STEPS, index=list("abcdefgh")),
    ],
    ids=["flat", "column", "list", "single", "constant label", "frame", "series"],
)
def test_labels_in_any_form_are_used(known, moving, y):
    labels = labels_of(y, 8)
    assert labels.dtype == np.float64
    assert labels.shape[0] == 8
    assert labels.ndim == 2
    decomposer = decomposer_of(known, n_rounds=0, max_iter=1, subsample=1).fit(moving[1], y)
    assert len(decomposer.line_catalog_) == 3


def test_a_second_fit_knows_nothing_of_the_first(known, blended):
    _, flux = blended
    fresh = decomposer_of(known).fit(known.flux, known.labels)
    again = decomposer_of(known).fit(flux).fit(known.flux, known.labels)
    np.testing.assert_array_equal(again.line_catalog_, fresh.line_catalog_)
    ours, theirs = again.transform(known.flux[:2]), fresh.transform(known.flux[:2])
    np.testing.assert_array_equal(ours.data, theirs.data)


@pytest.mark.parametrize("n_spectra", [1, 3])
def test_equal_spectra(known, n_spectra):
    flux = np.repeat(known.flux[[11]], n_spectra, axis=0)
    decomposer = decomposer_of(known).fit(flux)
    result = decomposer.decompose(flux)
    assert (result.rms < 1e-3).all()
    np.testing.assert_array_equal(result.rms, result.rms[0])
    # another spectrum has nothing to be predicted from but the mean
    assert np.isfinite(decomposer.decompose(known.flux[:1]).rms).all()


def test_a_constant_flux_teaches_nothing(known):
    decomposer = decomposer_of(known).fit(np.ones((4, 320)))
    assert decomposer.line_catalog_.shape == (0,)
    assert decomposer._prior is None


def test_labels_of_other_spectra_are_refused(known, moving):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        decomposer_of(known).fit(moving[1], np.arange(16.0))
