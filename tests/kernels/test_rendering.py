"""Depths and equivalent widths."""

import numpy as np
import pytest
from scipy.integrate import quad

from stellarhml.kernels.rendering import line_depths, line_equivalent_widths, render_lines

ROWS = {
    # weak, strong (saturated or clamped), broad wings; wings narrower and wider than the core
    "pseudo-voigt": [[8500, -5, -2.5, -3.5], [8500, 1.0, -2.0, -2.0], [8500, -2.0, -2.5, -1.0]],
    "blase": [[8500, -5, -2.5, -3.5], [8500, 1.0, -2.0, -2.0], [8500, -2.0, -2.5, -1.0]],
    "saturated-voigt": [[8500, -3, -2.5, -3.5, 1.0], [8500, 3.0, -2.0, -2.0, 0.5], [8500, 5.0, -2.5, -1.0, 2.0]],
    "minnaert": [[8500, -3, -2.5, -1.5, 1.0, -3], [8500, 3.0, -2.0, -3.0, 0.5, -1], [8500, 6.0, -2.5, -1.0, 2.0, -3]],
}
CASES = [(name, np.array(row, dtype=float)) for name, rows in ROWS.items() for row in rows]


def one_line(row, profile, wavelength):
    """Depth of a single line, rendered on all of its pixels."""
    return 1 - render_lines(wavelength, row[None], profile=profile, wing_cut=wavelength.size)


@pytest.mark.parametrize(("profile", "row"), CASES)
def test_depth_is_that_of_the_rendered_line_at_its_center(profile, row):
    rendered = one_line(row, profile, row[0] + np.array([-0.5, 0.0, 0.5]))[1]
    np.testing.assert_allclose(line_depths(row[None], profile), rendered, rtol=1e-14)


@pytest.mark.parametrize(("profile", "row"), CASES)
def test_equivalent_width_is_the_integral_of_the_rendered_line(profile, row):
    scale = np.exp(max(row[2], row[3]))

    def integrand(t):  # x = scale sinh(t) carries the wings far out
        x = scale * np.sinh(t)
        return one_line(row, profile, row[0] + np.array([x]))[0] * scale * np.cosh(t)

    kinks = np.arcsinh(np.array([0.3, 1, 3, 10]))
    area = 2 * quad(integrand, 0, np.arcsinh(1e4), points=kinks, epsabs=0, epsrel=1e-6, limit=400)[0]
    # the docstring's promise for its own quadrature
    np.testing.assert_allclose(line_equivalent_widths(row[None], profile), area, rtol=1e-3)


@pytest.mark.parametrize("profile", ["pseudo-voigt"])
def test_equivalent_width_of_a_thin_line_is_its_amplitude(profile):
    row = np.array([[8500.0, -5.0, -2.5, -3.5]])
    # unit area of Eq. 2; 1e-3 for the quadrature
    np.testing.assert_allclose(line_equivalent_widths(row, profile), np.exp(-5.0), rtol=1e-3)
