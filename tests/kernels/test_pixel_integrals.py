"""Polynomials through eight points: exact for polynomials, and good for lines."""

import numpy as np
import pytest

from stellarhml.kernels.fourier_broadening import integrate_pixels, resample_rows

UNEVEN = np.concatenate([np.linspace(-2, 0, 30, endpoint=False), np.linspace(0, 3, 20)])  # the step grows by 2.4


@pytest.mark.parametrize("degree", range(8))
def test_polynomials_are_reproduced(degree):
    at = np.linspace(-2, 3, 333)
    rows = np.stack([UNEVEN**degree, -2 * UNEVEN**degree])
    got = resample_rows(UNEVEN, rows, at)
    np.testing.assert_allclose(got, np.stack([at**degree, -2 * at**degree]), rtol=0, atol=1e-9 * 3**degree)


@pytest.mark.parametrize("degree", range(8))
def test_integrals_of_polynomials_are_exact(degree):
    x = np.arange(20.0) / 10
    position = np.array([0.0, 0.3, 2.5, 2.6, 9.0, 15.7, 18.2, 19.0])
    integral, value = integrate_pixels(x[None] ** degree, position)
    edges = position / 10
    np.testing.assert_allclose(value[0], edges**degree, rtol=0, atol=1e-10)
    np.testing.assert_allclose(integral[0] / 10, np.diff(edges ** (degree + 1)) / (degree + 1), rtol=0, atol=1e-10)


def test_integrals_of_pixels_add_up():
    rows = np.random.default_rng(0).normal(size=(3, 50))
    fine, _ = integrate_pixels(rows, np.linspace(4.2, 44.1, 31))
    whole, _ = integrate_pixels(rows, np.array([4.2, 44.1]))
    np.testing.assert_allclose(fine.sum(axis=1), whole[:, 0], rtol=0, atol=1e-12)


def test_a_line_of_three_pixels_is_known_between_them():
    x = np.arange(-20.0, 21.0)
    at = np.linspace(-12, 12, 500)
    got = resample_rows(x, np.exp(-0.5 * (x[None] / 3) ** 2), at)
    np.testing.assert_allclose(got[0], np.exp(-0.5 * (at / 3) ** 2), rtol=0, atol=2e-5)
