"""Missing lines in residuals: found where they were injected, and nowhere else."""

import numpy as np
import pytest

from stellarhml.inference.line_fit import line_center, missing_lines

X = np.log(8500.0) + 4e-6 * np.arange(4000)
SIGMA, SNR = 9e-6, 150.0


def _noise(seed):
    return np.random.default_rng(seed).normal(size=len(X))


def _residual(lines, level, noise):
    """Weighted model minus data: lines that the model lacks, at ln wavelengths, with depths."""
    return noise + level * sum(depth * np.exp(-0.5 * ((X - x) / SIGMA) ** 2) for x, depth in lines)


def _level(seed=0):
    """Weight times flux: of a spectrum with lines of its own."""
    return SNR * np.random.default_rng(seed).uniform(0.5, 1.0, len(X))


def test_injected_lines_are_found():
    level, pixels = _level(), np.array([300, 1200, 1211, 2500, 3300])
    depths = [0.1, 0.08, 0.08, 0.3, 0.09]
    residual = _residual(zip(X[pixels], depths, strict=True), level, _noise(1))
    found = missing_lines(X, residual, level, SIGMA)
    assert len(found) == 5
    assert np.abs(found - pixels).max() <= 1
    # emission is no line, nor is a line of half a percent in a spectrum without noise
    assert len(missing_lines(X, -residual, level, SIGMA)) == 0
    perfect = 1e4 * np.ones_like(X)
    for depth, expected in ((0.004, []), (0.006, [1500])):
        faint = _residual([(X[1500], depth)], perfect, 0 * X)
        assert missing_lines(X, faint, perfect, SIGMA).tolist() == expected


@pytest.mark.parametrize("ratio", [0.8, 1.3])
def test_significance_is_that_of_the_matched_filter(ratio):
    """A line at the threshold of six standard deviations, a little fainter and a little stronger, without noise."""
    level = np.full(len(X), SNR)
    profile = np.exp(-0.5 * ((X - X[2000]) / SIGMA) ** 2)
    depth = ratio * 6 / (SNR * np.sqrt(np.sum(profile**2)))
    found = missing_lines(X, _residual([(X[2000], depth)], level, 0 * X), level, SIGMA)
    assert found.tolist() == ([2000] if ratio > 1 else [])


def test_noise_alone_gives_none():
    """A million pixels; the rate of Gaussian noise above six standard deviations is 1e-9."""
    for seed in range(250):
        assert len(missing_lines(X, _noise(seed), _level(seed), SIGMA)) == 0


def test_pixels_that_are_not_used_do_not_count():
    level, residual = _level(), _residual([(X[1000], 0.3)], _level(), _noise(2))
    residual[980:1021] = 0.0
    assert len(missing_lines(X, residual, level, SIGMA)) == 0
    # nor does a spectrum shorter than a line
    assert len(missing_lines(X[:10], residual[:10], level[:10], SIGMA)) == 0


def test_centers_are_found_to_a_fraction_of_a_pixel():
    """From a line that was fitted at the nearest pixel, or two away from it."""
    level, off = _level(), []
    for seed in range(60):
        true = X[1000] + np.random.default_rng(seed).uniform(-0.5, 0.5) * 4e-6
        start, depth = X[1000 + seed % 3 - 1], 0.25
        residual = _residual([(true, depth)], level, _noise(seed)) - level * depth * np.exp(
            -0.5 * ((X - start) / SIGMA) ** 2
        )
        off.append((line_center(X, residual, level, SIGMA, start, depth) - true) / SIGMA)
    # sigma over the signal-to-noise ratio of the line, at most a few percent
    expected = 1 / (0.25 * 0.75 * SNR * np.sqrt(np.sqrt(np.pi) * SIGMA / 4e-6)) * np.sqrt(2)
    assert np.sqrt(np.mean(np.square(off))) == pytest.approx(expected, rel=0.4)
    assert line_center(X, _noise(3), level, SIGMA, X[1000], -0.2) == X[1000]
