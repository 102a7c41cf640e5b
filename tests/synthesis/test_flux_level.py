"""Physical fluxes of a generator, against those of its grid."""

from pathlib import Path

import numpy as np
import pytest

from stellarhml import PhoenixPreprocessor, SpectrumGenerator, VoigtLineDecomposer, load, save
from stellarhml.datasets import load_mini_grid, make_stellar_grid
from stellarhml.manifold._line_manifold_interpolator import LineManifoldInterpolator

FIXTURES = Path(__file__).parents[1] / "storage" / "fixtures"
INSIDE = np.array([5432.0, 4.3, -0.21])


@pytest.fixture(scope="module")
def raw():
    """Labels and raw fluxes between the nodes of the packaged grid, and at them."""
    grid = load_mini_grid()
    return grid.labels_offgrid, grid.flux_offgrid[:, ::3], grid.labels, grid.flux[:, ::3]


def rms(ratio):
    return np.sqrt(np.mean((ratio - 1) ** 2, axis=1))


def test_fluxes_of_the_grid_are_as_good_as_normalised_ones(mini_generator, raw):
    _, _, labels, flux = raw
    got = rms(mini_generator.predict(labels, absolute=True) / flux)
    own = rms(mini_generator.predict(labels) / mini_generator.normalise(flux, labels))
    np.testing.assert_allclose(got, own, rtol=1e-3)
    assert flux.max() > 1e13  # physical units


def test_fluxes_between_the_nodes(mini_generator, raw):
    labels, flux, _, _ = raw
    got = rms(mini_generator.predict(labels, absolute=True) / flux)
    # log g of this grid has two or three nodes: levels are wrong by up to 1.6e-3, independent of wavelength
    assert got.max() < 3e-3
    level = np.exp([mini_generator.log_level(row) for row in labels])
    off = flux / mini_generator.normalise(flux, labels) / level
    assert np.ptp(off, axis=1).max() < 1e-4


def test_derivatives_of_the_level_equal_differences(mini_generator):
    level, slopes = mini_generator.log_level(INSIDE, derivatives=True)
    np.testing.assert_array_equal(level, mini_generator.log_level(INSIDE))
    for slope, step in zip(slopes, np.diag([0.5, 1e-3, 1e-3]), strict=True):
        change = (mini_generator.log_level(INSIDE + step) - mini_generator.log_level(INSIDE - step)) / (2 * step.max())
        np.testing.assert_allclose(slope, change, rtol=0, atol=1e-6 * np.abs(change).max() + 1e-12)


def test_a_label_outside_has_the_level_of_the_edge(mini_generator):
    high = mini_generator.interpolator_.bounds_[:, 1]
    beyond, edge = high + [100.0, 0.0, 0.0], mini_generator.log_level(high)
    level, slopes = mini_generator.log_level(beyond, derivatives=True)
    np.testing.assert_array_equal(level, edge)
    assert not slopes[0].any()


def test_pixels_velocities_and_errors(mini_generator):
    labels = [INSIDE]
    flux, std = mini_generator.predict(labels, absolute=True, return_std=True, pixels=slice(100, 200))
    level = np.exp(mini_generator.log_level(INSIDE))[100:200]
    plain, plain_std = mini_generator.predict(labels, return_std=True, pixels=slice(100, 200))
    np.testing.assert_allclose(flux, plain * level)
    np.testing.assert_allclose(std, plain_std * level)
    moved = mini_generator.predict(labels, absolute=True, rv=[100.0])[0]
    seen = mini_generator.wavelength_ / (1 + 100 / 299_792.458)
    np.testing.assert_allclose(
        moved, mini_generator.predict(labels, rv=100.0)[0] * np.exp(mini_generator.log_level(INSIDE, seen))
    )


def test_it_is_stored_and_older_files_say_that_they_have_none(mini_generator, tmp_path):
    again = load(save(mini_generator, tmp_path / "generator.asdf"))
    np.testing.assert_array_equal(
        again.predict([INSIDE], absolute=True), mini_generator.predict([INSIDE], absolute=True)
    )
    old = load(FIXTURES / "spectrum_generator-1.2.0.asdf")
    assert old.level_ is None
    with pytest.raises(ValueError, match=r"no flux level: .*saved by an earlier version.*Build it again from raw flux"):
        old.predict(old.interpolator_.nodes_[:1], absolute=True)


def test_a_generator_of_normalised_flux_learns_its_level_from_raw_flux():
    grid = make_stellar_grid(random_state=0)
    generator = SpectrumGenerator(wavelength=grid.wavelength, decomposer=VoigtLineDecomposer(n_rounds=0))
    generator.fit(grid.labels, grid.flux)
    with pytest.raises(ValueError, match="normalised already"):
        generator.log_level(grid.labels[0])
    level = grid.labels[:, :1] ** 4 * (1 + 0.3 * np.linspace(-1, 1, 400) ** 3)
    order = np.random.default_rng(0).permutation(len(grid.labels))
    assert generator.learn_level(grid.labels[order], (grid.flux * level)[order]) is generator
    # lines of the generator's own error average out
    np.testing.assert_allclose(np.exp([generator.log_level(row) for row in grid.labels]), level, rtol=1e-3)
    with pytest.raises(ValueError, match="lacks 1 of the"):
        generator.learn_level(grid.labels[1:], (grid.flux * level)[1:])
    rough = level * np.random.default_rng(0).uniform(0.5, 2.0, level.shape)
    with pytest.raises(ValueError, match="not a smooth function"):
        generator.learn_level(grid.labels, grid.flux * rough)


def test_a_level_that_is_not_smooth_is_none():
    grid = make_stellar_grid(random_state=0)
    steps = np.where(np.arange(400) < 200, 1.0, 1.5)

    class Steps(PhoenixPreprocessor):
        def transform(self, X, teff=None):
            return X / steps

    generator = SpectrumGenerator(
        wavelength=grid.wavelength,
        preprocessor=Steps(peak_distance=40, degree=2),
        decomposer=VoigtLineDecomposer(n_rounds=0),
    )
    assert generator.fit(grid.labels, grid.flux * steps).level_ is None


def test_levels_in_a_cell_with_a_jump_are_between_those_of_its_ends():
    grid = make_stellar_grid(random_state=0)
    level = 1e14 * np.where(grid.labels[:, :1] < 5300, 1.0, 2.0)
    generator = SpectrumGenerator(
        wavelength=grid.wavelength,
        preprocessor=PhoenixPreprocessor(peak_distance=40, degree=2),
        decomposer=VoigtLineDecomposer(n_rounds=0),
        interpolator=LineManifoldInterpolator(breaks={"teff": [5300.0]}),
    ).fit(grid.labels, grid.flux * level)
    axis = np.unique(grid.labels[:, 0])
    low, high = axis[axis < 5300].max(), axis[axis >= 5300].min()
    at = [np.array([teff, *grid.labels[0, 1:]]) for teff in (low, high, 0.5 * (low + high))]
    ends = [generator.log_level(labels).mean() for labels in at]
    assert ends[1] - ends[0] == pytest.approx(np.log(2), abs=0.1)
    assert ends[0] < ends[2] < ends[1]
    _, slopes = generator.log_level(at[2], derivatives=True)
    step = np.array([0.5, 0.0, 0.0])
    change = generator.log_level(at[2] + step) - generator.log_level(at[2] - step)
    np.testing.assert_allclose(slopes[0], change, rtol=1e-5)
