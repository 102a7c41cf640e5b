"""Decomposition: flags that say what is so, and errors that are those of the clones."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from stellarhml import VoigtLineDecomposer
from stellarhml.exceptions import LineDetectionWarning
from stellarhml.flags import LineFlag, SpectrumFlag, name_flags
from stellarhml.kernels.rendering import line_depths

STRONG, SATURATED, WEAK, BLENDED, ADDED = range(5)  # lines of the catalogue of `known`, in the order of the lines
PAPER = {
    "solver": "adam",
    "profile": "pseudo-voigt",
    "match_tolerance": 0,
    "fit_undetected": False,
    "max_iter": 3,
    "noise": 0.03,
}


def adjusted(known, **parameters):
    """The fitted decomposer with other parameters of `decompose`."""
    return copy.deepcopy(known.decomposer).set_params(**parameters)


def has(result, flag):
    return (result.line_flags & flag).astype(bool)


def present(result):
    """Which lines are in theta."""
    n_spectra, n_lines = result.line_flags.shape
    table = np.zeros((n_spectra, n_lines), bool)
    table[np.repeat(np.arange(n_spectra), np.diff(result.theta.indptr)), result.theta.indices // 6] = True
    return table


def lines(result, i=0):
    """Parameters of the lines of a spectrum, NaN where there is none, shape (n_lines, 6)."""
    table = result.theta[[i]].toarray().reshape(-1, 6)
    return np.where(present(result)[i][:, None], table, np.nan)


def window_means(square, edges):
    return np.array([part.mean() for part in np.split(square, edges)[1:-1]])


def test_the_catalogue_holds_the_true_lines(known):
    catalog = known.decomposer.line_catalog_
    assert len(catalog) == 5
    np.testing.assert_allclose(catalog[:ADDED], known.theta[0, :ADDED, 0], atol=0.026)  # half a pixel
    assert catalog[ADDED] == pytest.approx(known.theta[0, ADDED, 0], abs=0.11)
    n_seen = np.count_nonzero(line_depths(known.theta[:, WEAK], "minnaert") > 0.005)
    np.testing.assert_array_equal(known.decomposer.n_detected_, [12, 12, n_seen, 12, 0])


def test_lines_of_the_grid_have_the_flags_that_are_true(known):
    depths = line_depths(known.theta[:, WEAK], "minnaert")
    assert depths.min() < 5e-5
    assert depths.max() > 0.1
    wanted = np.zeros((12, 5), np.uint8)
    wanted[:, SATURATED] = LineFlag.SATURATED
    wanted[:, ADDED] = LineFlag.ADDED | LineFlag.UNDETECTED
    wanted[depths < 0.005, WEAK] = LineFlag.UNDETECTED
    wanted[depths < 5e-5, WEAK] = LineFlag.ABSENT
    np.testing.assert_array_equal(known.result.line_flags, wanted)
    assert known.result.line_flags.dtype == known.result.flags.dtype == np.uint8
    np.testing.assert_array_equal(known.result.flags, 0)


def test_absent_lines_are_those_without_parameters(known):
    np.testing.assert_array_equal(present(known.result), ~has(known.result, LineFlag.ABSENT))
    flux = np.concatenate([known.flux, [known.render(known.theta[0, 0]), known.render()]])
    for options in ({}, {"fit_undetected": False}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LineDetectionWarning)
            result = adjusted(known, **options).decompose(flux)
        np.testing.assert_array_equal(present(result), ~has(result, LineFlag.ABSENT))


def test_lines_that_are_fitted_only_where_detected(known):
    result = adjusted(known, fit_undetected=False).decompose(known.flux)
    seen = np.zeros((12, 5), bool)
    seen[:, [STRONG, SATURATED, BLENDED]] = True
    seen[:, WEAK] = line_depths(known.theta[:, WEAK], "minnaert") > 0.005
    np.testing.assert_array_equal(present(result), seen)
    assert not has(result, LineFlag.UNDETECTED).any()
    # the blend's companion cannot be fitted without a minimum of its own
    assert has(result, LineFlag.ABSENT)[:, ADDED].all()


@pytest.mark.parametrize("fit_undetected", [False, True])
def test_flags_of_the_solver_of_the_paper(known, fit_undetected):
    decomposer = VoigtLineDecomposer(wavelength=known.wavelength, **{**PAPER, "fit_undetected": fit_undetected})
    result = decomposer.fit(known.flux).decompose(known.flux)
    detected = np.zeros((12, len(decomposer.line_catalog_)), bool)
    for i, row in enumerate(known.flux):
        detected[i, np.searchsorted(decomposer._catalog.pixels, decomposer.detect(row)[0])] = True
    assert not detected.all()
    want = np.where(detected, 0, LineFlag.UNDETECTED if fit_undetected else LineFlag.ABSENT)
    np.testing.assert_array_equal(result.line_flags, want)
    np.testing.assert_array_equal(result.flags, 0)
    np.testing.assert_array_equal(result.n_iter, 3)
    n_lines = np.diff(result.theta.indptr) // 4
    np.testing.assert_array_equal(n_lines, detected.shape[1] if fit_undetected else detected.sum(axis=1))


def test_lines_that_the_bounds_hold_are_flagged(known):
    spectrum = known.lines_of(5300, 0.0)
    # farther than a width to either side; much weaker, much stronger, and much narrower than any training spectrum
    for column, change in [(0, 0.4), (0, -0.4), (1, -6), (1, 4.5), (2, -1.5)]:
        changed = spectrum.copy()
        changed[STRONG, column] += change
        result = known.decomposer.decompose(known.render(*changed)[None])
        assert np.flatnonzero(has(result, LineFlag.AT_BOUND)[0]).tolist() == [STRONG]
        predicted = known.decomposer._prior.predict(known.render(*changed))
        # it ended on the way to where the line is
        assert 0.1 < (lines(result)[STRONG, column] - predicted[STRONG, column]) / change < 0.99
    result = known.decomposer.decompose(known.render(*spectrum)[None])
    assert not has(result, LineFlag.AT_BOUND).any()


def test_lines_are_detected_where_the_fit_has_put_them(known):
    # 0.1 angstrom from the catalogue are 3.5 km/s, where 2 km/s are allowed: it is the same line all the same
    changed = known.lines_of(5300, 0.0)
    changed[STRONG, 0] += 0.1
    result = known.decomposer.decompose(known.render(*changed)[None])
    assert lines(result)[STRONG, 0] == pytest.approx(changed[STRONG, 0], abs=0.01)
    assert not has(result, LineFlag.UNDETECTED)[0, STRONG]


@pytest.mark.parametrize("margin", [2.0, 3.0])
def test_lines_at_the_edge(known, margin):
    # the first pixel that counts is 8502.00 or 8503.00, a tenth of a width from the first line or beyond it, the last
    # 8513.95, far from the lines at 8512.92 and 8512.52, or 8512.95, a third of a width and three of them away
    decomposer = VoigtLineDecomposer(**known.options, loss_margin=margin).fit(known.flux, known.labels)
    result = decomposer.decompose(known.flux)
    assert len(decomposer.line_catalog_) == 5
    wanted = np.zeros((12, 5), bool)
    wanted[:, STRONG] = True
    wanted[:, ADDED] = margin == 3.0
    np.testing.assert_array_equal(has(result, LineFlag.AT_EDGE), wanted)
    assert not has(known.result, LineFlag.AT_EDGE).any()


def test_the_red_edge():
    lam = 8500 + 0.05 * np.arange(100)
    flux = 1 - 0.3 * np.exp(-0.5 * ((lam - lam[[50, 94]][:, None]) / 0.15) ** 2).sum(axis=0)
    decomposer = VoigtLineDecomposer(wavelength=lam, loss_margin=0.2, n_rounds=0).fit(flux[None])
    result = decomposer.decompose(flux[None])
    assert decomposer._catalog.pixels.tolist() == [50, 94]
    assert has(result, LineFlag.AT_EDGE).tolist() == [[False, True]]


def test_flags_of_spectra(known):
    other = [known.line(8508.0, 1.0)]  # a strong line that no training spectrum has
    flux = np.concatenate([known.flux[[3, 7]], [known.render(*known.theta[3], *other)]])
    result = known.decomposer.decompose(flux)
    np.testing.assert_array_equal(result.flags, [0, 0, SpectrumFlag.POOR_FIT])
    assert (result.rms[:2] < 3 * known.decomposer._typical_rms).all()
    assert result.rms[2] > 3 * known.decomposer._typical_rms
    with pytest.warns(ConvergenceWarning, match="3 of 3 spectra did not converge in max_iter=1 steps"):
        result = adjusted(known, max_iter=1).decompose(flux)
    assert (result.flags & SpectrumFlag.NOT_CONVERGED).all()
    assert not (result.flags & SpectrumFlag.NO_LINES).any()
    np.testing.assert_array_equal(result.n_iter, 1)


def test_only_spectra_without_lines_are_flagged_so(known):
    decomposer = adjusted(known, fit_undetected=False)
    flux = np.stack([known.flux[0], np.ones(320), known.flux[1], np.full(320, 0.9)])
    with pytest.warns(LineDetectionWarning, match=r"2 of 4 spectra have no line"):
        result = decomposer.decompose(flux)
    np.testing.assert_array_equal((result.flags & SpectrumFlag.NO_LINES).astype(bool), [False, True, False, True])
    # a clone without lines is the continuum, which is right for the one and wrong for the other
    np.testing.assert_allclose(result.rms[[1, 3]], [0, 0.1], atol=1e-12)
    assert not result.flags[1] & SpectrumFlag.POOR_FIT
    assert result.flags[3] & SpectrumFlag.POOR_FIT
    assert not present(result)[[1, 3]].any()
    np.testing.assert_array_equal(result.n_iter[[1, 3]], 0)
    assert result.line_flags[1].tolist() == [LineFlag.ABSENT] * 4 + [LineFlag.ABSENT | LineFlag.ADDED]


@pytest.mark.parametrize(("loss_margin", "n_pixels"), [(0.0, 320), (1.53, 258)])
def test_errors_are_those_of_the_clone(known, loss_margin, n_pixels):
    decomposer = VoigtLineDecomposer(**{**known.options, "noise": 0.03}, loss_margin=loss_margin, line_margin=1.6)
    decomposer.fit(known.flux, known.labels)
    result = decomposer.decompose(known.flux)
    square = (decomposer.inverse_transform(result.theta) - known.flux) ** 2
    assert result.windows.shape == (21,)
    assert (np.diff(result.windows) > 0).all()
    inside = decomposer._fit_settings().loss_pixels
    edges = np.searchsorted(known.wavelength, result.windows)
    edges[-1] = inside.stop
    assert edges[0] == inside.start
    assert np.ptp(np.diff(edges)) <= 1
    assert edges[-1] - edges[0] == n_pixels
    # they are not equal, so that a mean over windows is not a mean over pixels
    assert np.ptp(np.diff(edges)) == (n_pixels % 20 > 0)
    wanted = np.sqrt([window_means(row, edges) for row in square])
    np.testing.assert_allclose(result.window_rms, wanted, rtol=1e-9)
    np.testing.assert_allclose(result.rms, np.sqrt(square[:, inside].mean(axis=1)), rtol=1e-9)


def test_fewer_pixels_than_windows():
    flux = np.ones((2, 9))
    flux[:, 4] -= [0.3, 0.2]
    flux[:, [3, 5]] -= 0.05
    decomposer = VoigtLineDecomposer().fit(flux)
    result = decomposer.decompose(flux)
    assert result.window_rms.shape == (2, 9)
    np.testing.assert_allclose(
        result.window_rms, np.abs(decomposer.inverse_transform(result.theta) - flux), rtol=1e-9, atol=1e-15
    )
    assert result.windows.shape == (10,)


def test_the_table_of_spectra(known):
    flux = np.concatenate([known.flux[:2], np.ones((1, 320))])
    with pytest.warns(LineDetectionWarning):
        result = adjusted(known, fit_undetected=False).decompose(flux)
    frame = result.to_frame()
    assert list(frame.columns) == ["rms", "worst_window", "n_lines", "n_iter", "flags"]
    np.testing.assert_array_equal(frame["rms"], result.rms)
    np.testing.assert_array_equal(frame["worst_window"], result.window_rms.max(axis=1))
    np.testing.assert_array_equal(frame["n_lines"], present(result).sum(axis=1))
    np.testing.assert_array_equal(frame["n_iter"], result.n_iter)
    assert frame["flags"].tolist() == [name_flags(int(flag), SpectrumFlag) for flag in result.flags]
    assert frame["flags"].iloc[2] == "NO_LINES"
    assert (frame["worst_window"] >= frame["rms"]).all()


def test_the_table_of_spectra_without_a_catalogue():
    decomposer = VoigtLineDecomposer().fit(np.ones((2, 50)))
    with pytest.warns(LineDetectionWarning):
        result = decomposer.decompose(np.ones((2, 50)))
    assert result.line_flags.shape == (2, 0)
    assert result.to_frame()["n_lines"].tolist() == [0, 0]
    assert result.to_frame()["flags"].tolist() == ["NO_LINES"] * 2


def test_transform_gives_the_lines_of_decompose(known):
    table = known.decomposer.transform(known.flux)
    assert (table != known.result.theta).nnz == 0
    np.testing.assert_array_equal(table.indices, known.result.theta.indices)


def assert_same(one, other, rows=slice(None)):
    """Equal to the last bit."""
    for name in ("line_flags", "flags", "n_iter", "window_rms", "rms"):
        np.testing.assert_array_equal(getattr(one, name)[rows], getattr(other, name))
    ours, theirs = one.theta[rows], other.theta
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_rows_are_independent_of_each_other(known):
    assert known.decomposer._catalog.added.any()  # after a round
    for rows in ([0], [11, 2, 7], [4, 4]):
        assert_same(known.result, known.decomposer.decompose(known.flux[rows]), rows)


@pytest.mark.slow
def test_nothing_depends_on_n_jobs(known):
    decomposer = VoigtLineDecomposer(**known.options, n_jobs=2).fit(known.flux, known.labels)
    np.testing.assert_array_equal(decomposer.line_catalog_, known.decomposer.line_catalog_)
    assert_same(known.result, decomposer.decompose(known.flux))


def test_the_order_of_training_spectra_does_not_matter(known):
    order = np.random.default_rng(0).permutation(12)
    decomposer = VoigtLineDecomposer(**known.options).fit(known.flux[order], known.labels[order])
    np.testing.assert_array_equal(decomposer.line_catalog_, known.decomposer.line_catalog_)
    np.testing.assert_array_equal(decomposer.n_detected_, known.decomposer.n_detected_)
    result = decomposer.decompose(known.flux)
    # the prior is the same but for rounding, the fits but for their tolerance
    np.testing.assert_allclose(result.rms, known.result.rms, atol=2e-5)
    np.testing.assert_array_equal(result.line_flags, known.result.line_flags)


def test_a_memory_map_of_single_precision(known, tmp_path):
    single = known.flux.astype(np.float32)
    np.save(tmp_path / "flux.npy", single)
    mapped = np.load(tmp_path / "flux.npy", mmap_mode="r")
    ours = VoigtLineDecomposer(**known.options, subsample=8).fit(mapped, known.labels)
    theirs = VoigtLineDecomposer(**known.options, subsample=8).fit(single, known.labels)
    np.testing.assert_array_equal(ours.line_catalog_, theirs.line_catalog_)
    in_memory = theirs.decompose(single)
    assert_same(ours.decompose(mapped), in_memory)
    # fits are in double precision, whatever the flux
    assert_same(theirs.decompose(single.astype(np.float64)), in_memory)
    assert in_memory.theta.dtype == np.float64


def test_pickled_and_cloned(known):
    again = pickle.loads(pickle.dumps(known.decomposer))
    assert_same(known.result, again.decompose(known.flux[:3]), slice(3))
    np.testing.assert_array_equal(
        again.inverse_transform(known.result.theta[:2]), known.decomposer.inverse_transform(known.result.theta[:2])
    )
    fresh = clone(known.decomposer)
    assert not hasattr(fresh, "line_catalog_")
    ours, theirs = known.decomposer.get_params(), fresh.get_params()
    np.testing.assert_array_equal(ours.pop("wavelength"), theirs.pop("wavelength"))
    assert ours == theirs
    assert_same(known.result, fresh.fit(known.flux, known.labels).decompose(known.flux[[5]]), [5])
    assert known.decomposer.noise == 5e-4
