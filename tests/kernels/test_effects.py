"""What the parameters of a line do to the flux, against direct numerical integration."""

import numpy as np
import pytest
from scipy.integrate import simpson

from stellarhml.kernels.line_profiles import PROFILES
from stellarhml.kernels.rendering import line_depths, line_effects, render_lines


def some_lines(profile, n=6, seed=0):
    """Weak and strong, narrow and wide lines."""
    rng = np.random.default_rng(seed)
    theta = np.stack(
        [rng.uniform(8500, 8600, n), rng.uniform(-4, -1, n), rng.uniform(-4, -1, n), rng.uniform(-4, -1.5, n)], axis=1
    )
    if profile in ("pseudo-voigt", "blase"):  # their amplitude is an area: depths below one
        theta[:, 1] = theta[:, 2:4].max(axis=1) + rng.uniform(-4, 0, n)
    more = [rng.uniform(0.5, 3, n), rng.uniform(-3, 0, n)][: len(PROFILES[profile].parameters) - 4]
    return np.hstack([theta, *(part[:, None] for part in more)])


def directly(line, profile):
    """Central differences of the rendered line, squared and integrated by Simpson's rule."""
    width = np.exp(line[2:4]).max()
    # sinh-spaced: a hundredth of the width in the core, to 3000 widths; the core of a narrow Gauss has 50 points
    wing_cut = None if profile == "blase" else 2 * 20001  # blase's windows are pixels, whatever their width
    wavelength = line[0] + 1e-3 * width * np.sinh(np.linspace(-np.arcsinh(3e6), np.arcsinh(3e6), 20001))
    effects = []
    for k in range(len(line)):
        step = 1e-3 * (np.exp(line[2:4]).min() if k == 0 else 1)
        up, down = line.copy(), line.copy()
        up[k] += step
        down[k] -= step
        high, low = (render_lines(wavelength, moved[None], profile=profile, wing_cut=wing_cut) for moved in (up, down))
        effects.append(np.sqrt(simpson(((high - low) / (up[k] - down[k])) ** 2, x=wavelength)))
    return np.array(effects)


@pytest.mark.parametrize("profile", list(PROFILES))
def test_effects_are_the_integrals_of_the_squared_derivatives(profile):
    theta = some_lines(profile)
    want = np.array([directly(line, profile) for line in theta])
    # 401 points over the line
    np.testing.assert_allclose(line_effects(theta, profile), want, rtol=5e-3)


def test_lines_know_nothing_of_each_other_and_of_where_they_are():
    theta = some_lines("minnaert", 7)
    together = line_effects(np.tile(theta, (100, 1)), "minnaert")  # more than are computed at once
    np.testing.assert_array_equal(together, np.tile(line_effects(theta, "minnaert"), (100, 1)))
    moved = theta + [100.0, 0, 0, 0, 0, 0]
    # centers of 1e4 are good to 2e-12, over steps of 1e-6
    np.testing.assert_allclose(line_effects(moved, "minnaert"), line_effects(theta, "minnaert"), rtol=1e-4)


def test_a_line_of_no_depth_does_nothing_and_no_lines_have_no_effects():
    line = np.array([[8500.0, -60.0, -2.0, -3.0]])
    assert line_effects(line, "pseudo-voigt").max() < 1e-20
    assert line_effects(np.empty((0, 4)), "pseudo-voigt").shape == (0, 4)


def test_a_gauss_line_as_in_the_books():
    # f = 1 - a exp(-x^2 / 2 s^2): the integral of (df / d ln a)^2 is a^2 s sqrt(pi), of (df / dx0)^2 half that over s^2
    log_amplitude, sigma = np.log(0.1), 0.2
    line = np.array([[8500.0, log_amplitude, np.log(sigma), -12.0]])
    effect = line_effects(line, "pseudo-voigt")[0]
    want = line_depths(line, "pseudo-voigt")[0] * np.sqrt(sigma * np.sqrt(np.pi))
    assert effect[1] == pytest.approx(want, rel=2e-3)
    assert effect[0] == pytest.approx(want / (np.sqrt(2) * sigma), rel=2e-3)
