"""By how much a generator's error moves what is inferred with it."""

import numpy as np
import pytest

from stellarhml import LineManifoldInterpolator, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import load_mini_grid


@pytest.fixture(scope="module")
def made():
    """A generator of a coarse part of the packaged grid, and the stars between its nodes."""
    grid = load_mini_grid()
    kept = grid.labels[:, 0] % 200 == 0

    def normalised(flux):
        return flux / np.percentile(flux, 99, axis=1)[:, None]

    flux = normalised(grid.flux[kept, ::3].astype(float))
    quick = VoigtLineDecomposer(n_rounds=0, subsample=6)
    generator = SpectrumGenerator(wavelength=grid.wavelength[::3], decomposer=quick).fit(grid.labels[kept], flux)
    return generator, grid.labels_offgrid, normalised(grid.flux_offgrid[:, ::3].astype(float))


def test_counts_and_shapes(made):
    generator, _, _ = made
    shifts = generator.error_map_.shifts
    n_held_out = len(generator.error_map_.labels)
    assert shifts.values.shape == (n_held_out + 36, len(shifts.edges) - 1, 5)
    assert shifts.values.dtype == np.float32
    np.testing.assert_array_equal(shifts.edges, [0, 4096, 8192, 8334])
    assert set(shifts.axis) == {-2, 0, 1, 2}
    np.testing.assert_allclose(shifts.steps, [200, 0.5, 0.5])
    assert np.isfinite(shifts.values).all()


def test_weights_of_each_label_add_up_to_one(made):
    generator, _, _ = made
    shifts = generator.error_map_.shifts
    for labels in ([5532.0, 4.4, -0.2], [5000.0, 4.0, -0.5], [6000.0, 5.0, 0.0]):
        near = shifts.near(np.array(labels))
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.nanmax(np.where(shifts.values != 0, near / shifts.values, np.nan) ** 2, axis=(1, 2))
        for axis in (-2, 0, 1, 2):
            assert weight[shifts.axis == axis].sum() == pytest.approx(1, rel=1e-5)


def test_shifts_predict_the_size_of_errors_between_the_nodes(made):
    """In least squares of the whole window, against stars that the generator has not seen."""
    generator, labels, flux = made
    shifts = generator.error_map_.shifts
    ratios = []
    for label, row in zip(labels, flux, strict=True):
        jacobian = generator.jacobian(label[None])[0]
        scale = np.polynomial.polynomial.polyvander(np.linspace(-1, 1, len(row)), 2) * row[:, None]
        model = generator.predict(label[None])[0]
        level = scale @ np.linalg.lstsq(scale, row - model, rcond=None)[0]
        move = np.linalg.lstsq(jacobian, row - model - level, rcond=None)[0]
        normal = np.linalg.inv(jacobian.T @ jacobian)
        expected = np.zeros((len(shifts.values), 3))
        for k, (start, stop) in enumerate(zip(shifts.edges[:-1], shifts.edges[1:], strict=True)):
            part = jacobian[start:stop]
            expected += shifts.near(label)[:, k, :3] @ (part.T @ part)
        ratios.append(move / np.sqrt(((expected @ normal) ** 2).sum(axis=0)))
    # six stars, three labels: their root mean square is of the expected size, give or take a factor of two and a half
    size = np.sqrt(np.mean(np.square(ratios)))
    assert 0.4 < size < 2.5


def test_a_label_of_three_values_is_expected_to_be_better_than_a_line():
    """Held out is a line through two values; the parabola through three misses less, the less it is bent."""
    axis = np.array([0.0, 1.0, 2.0])
    samples = LineManifoldInterpolator(variables={}).fit(axis[:, None], axis[:, None]).error_samples()
    np.testing.assert_array_equal(samples.reach, [1.0])
    linear = LineManifoldInterpolator(variables={}, method="linear").fit(axis[:, None], axis[:, None])
    assert np.isnan(linear.error_samples().reach).all()
    four = np.array([0.0, 1.0, 2.0, 3.0])
    cubic = LineManifoldInterpolator(variables={}).fit(four[:, None], four[:, None])
    assert np.isnan(cubic.error_samples().reach).all()


def test_errors_across_a_jump_count_in_the_cells_that_have_it_and_nowhere_else():
    """A grid of one label that jumps by a fifth of its range between 3 and 4."""
    wavelength = 8500 + 0.05 * np.arange(300)
    labels = np.arange(8.0)
    depth = 0.2 + 0.05 * labels + 0.08 * (labels > 3.5)
    flux = 1 - depth[:, None] * np.exp(-0.5 * ((wavelength - 8507.0) / 0.4) ** 2)
    interpolator = LineManifoldInterpolator(breaks={"x": [3.5]})
    generator = SpectrumGenerator(wavelength=wavelength, interpolator=interpolator, label_names=("x",))
    shifts = generator.fit(labels[:, None], flux).error_map_.shifts
    np.testing.assert_array_equal(shifts.broken[0], [[3, 4]])
    np.testing.assert_array_equal(shifts.labels[shifts.across, 0], [3, 4])
    sizes = [np.sqrt((shifts.near(np.array([x]))[:, :, 0] ** 2).sum()) for x in (1.5, 2.8, 3.5, 4.2, 5.5)]
    # across it, a line through 2 and 4 misses by half of the jump, 0.8 steps, and its neighbours by none
    assert 0.4 < sizes[2] < 1.6
    assert max(sizes[:2] + sizes[3:]) < 0.1 * sizes[2]
