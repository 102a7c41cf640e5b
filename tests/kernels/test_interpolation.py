"""Local cubic interpolation on uneven points."""

import numpy as np
import pytest
from numpy.polynomial import Polynomial
from scipy.interpolate import BarycentricInterpolator

from stellarhml.kernels.interpolation import interpolate_cubic


def uneven(n, seed=0):
    return np.cumsum(np.random.default_rng(seed).uniform(0.2, 2.0, n))


@pytest.mark.parametrize("n", [4, 5, 40])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_exact_for_cubics(degree, n):
    x = uneven(n)
    cubic = Polynomial(np.random.default_rng(1).normal(size=degree + 1), domain=[x[0], x[-1]])
    step = x[1] - x[0]
    at = np.sort(np.concatenate([np.linspace(x[0] - step, x[-1] + step, 200), x]))
    # four terms, each of up to 10 times the values
    np.testing.assert_allclose(interpolate_cubic(x, cubic(x), at), cubic(at), rtol=0, atol=1e-12)


def test_points_are_reproduced():
    x, y = uneven(30), np.random.default_rng(1).normal(size=30)
    np.testing.assert_allclose(interpolate_cubic(x, y, x), y, rtol=0, atol=1e-15)


def test_the_four_points_around_are_used():
    x, y = uneven(12), np.random.default_rng(1).normal(size=12)
    at = np.linspace(x[0], x[-1], 300)
    cell = np.clip(np.searchsorted(x, at) - 1, 1, 9)
    want = [
        float(BarycentricInterpolator(x[i - 1 : i + 3], y[i - 1 : i + 3])(t)) for i, t in zip(cell, at, strict=True)
    ]
    np.testing.assert_allclose(interpolate_cubic(x, y, at), want, rtol=0, atol=1e-12)


def test_the_error_falls_with_the_fourth_power():
    errors = []
    for n in (40, 80):
        x = np.linspace(0, 3, n)
        at = np.linspace(0.5, 2.5, 999)
        errors.append(np.abs(interpolate_cubic(x, np.sin(x), at) - np.sin(at)).max())
    assert 14 < errors[0] / errors[1] < 18


def test_few_points_are_interpolated_linearly():
    at = np.array([-1.0, 0.5, 1.5, 9.0])
    np.testing.assert_array_equal(interpolate_cubic(np.empty(0), np.empty(0), at), 0)
    np.testing.assert_array_equal(interpolate_cubic(np.array([1.0]), np.array([7.0]), at), 7)
    x, y = np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 1.0])
    np.testing.assert_array_equal(interpolate_cubic(x, y, at), np.interp(at, x, y))


def test_nowhere():
    assert interpolate_cubic(uneven(9), uneven(9), np.empty(0)).shape == (0,)


def test_kinds_of_arrays():
    x, y = uneven(9), np.sin(uneven(9))
    want = interpolate_cubic(x, y, x[2:6] + 0.1)
    single = y.astype(np.float32)[::1]
    single.flags.writeable = False
    np.testing.assert_allclose(interpolate_cubic(x, single, x[2:6] + 0.1), want, atol=1e-6)
    np.testing.assert_array_equal(interpolate_cubic(np.repeat(x, 2)[::2], y, (x[2:6] + 0.1)[:]), want)
