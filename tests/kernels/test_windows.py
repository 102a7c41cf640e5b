"""Windows of pixels: which they are, and that what they leave out does not matter."""

import numpy as np
import pytest

from stellarhml.kernels import forms, fused
from stellarhml.kernels.rendering import WING_TOLERANCE, line_components, line_windows, render_lines

LAM = 8500 + 0.05 * np.arange(1000)


def component_rows(centers, lorentz=0.2, gamma=0.05, gauss=0.3, sigma=0.1, depth=0.0):
    rows = np.empty((len(centers), 6))
    rows[:] = np.stack(np.broadcast_arrays(centers, lorentz, gamma, gauss, sigma, depth), axis=1)
    return rows


def test_fixed_windows_are_centred_and_moved_inwards_at_the_ends():
    centers = np.array([LAM[0] - 3, LAM[10], LAM[500], LAM[990], LAM[-1] + 3])
    start, stop = line_windows(LAM, component_rows(centers), 100)
    np.testing.assert_array_equal(stop - start, 100)
    np.testing.assert_array_equal(start, [0, 0, 450, 900, 900])


@pytest.mark.parametrize("as_blase", [False, True])
@pytest.mark.parametrize("wing_cut", [1000, 1001, 6000])
def test_a_spectrum_shorter_than_the_window_is_used_whole(wing_cut, as_blase):
    start, stop = line_windows(LAM, component_rows(LAM[[3, 500]]), wing_cut, as_blase=as_blase)
    np.testing.assert_array_equal(start, 0)
    np.testing.assert_array_equal(stop, 1000)


def test_windows_of_blase_skip_their_last_pixel_and_take_the_next():
    start, stop = line_windows(LAM, component_rows(LAM[[2, 500, 998]]), 100, as_blase=True)
    pixels = [sorted({*range(start[j], stop[j]), *range(start[j + 3], stop[j + 3])}) for j in range(3)]
    for line, first in zip(pixels, [0, 450, 899], strict=True):
        assert line == [*range(first, first + 99), first + 100]


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("form", [forms.THIN, forms.EXPONENTIAL, forms.MINNAERT])
def test_adaptive_windows_leave_out_less_than_twice_the_tolerance(form, tolerance):
    rng = np.random.default_rng(0)
    n = 200
    rows = np.stack(
        [
            rng.uniform(LAM[0] - 2, LAM[-1] + 2, n),
            np.exp(rng.uniform(-12, 1, n)) * rng.integers(0, 2, n),
            np.exp(rng.uniform(-4, 0, n)),
            np.exp(rng.uniform(-12, 1, n)) * rng.integers(0, 2, n),
            np.exp(rng.uniform(-4, 0, n)),
            rng.uniform(0.3, 0.9, n) if form != forms.THIN else np.zeros(n),
        ],
        axis=1,
    )
    start, stop = line_windows(LAM, rows, None, tolerance=tolerance)
    for j in range(n):
        alone = rows[j : j + 1]
        whole = fused.render(LAM, alone, np.array([0]), np.array([len(LAM)]), form)
        cut = fused.render(LAM, alone, start[j : j + 1], stop[j : j + 1], form)
        # Gauss and Lorentz part each stay below the tolerance
        assert np.abs(cut - whole).max() <= 2 * tolerance
    # and they are no larger than needed: the pixel before a window of a line of one component is below tolerance,
    # its first pixel is at it or above
    single = (rows[:, 1] > 0) != (rows[:, 3] > 0)
    for j in np.flatnonzero(single & (start > 0) & (stop > start)):
        depth = rows[j, 5] if rows[j, 5] > 0 else 1.0
        x = LAM[start[j]] - rows[j, 0]
        value = rows[j, 1] / (1 + (x / rows[j, 2]) ** 2) + rows[j, 3] * np.exp(-0.5 * (x / rows[j, 4]) ** 2)
        assert value * depth >= tolerance * (1 - 1e-6)


def test_weaker_than_the_tolerance_needs_no_pixel_of_its_own():
    rows = component_rows(np.array([LAM[500] + 0.02]), lorentz=1e-9, gauss=1e-9)
    start, stop = line_windows(LAM, rows, None)
    assert stop[0] - start[0] <= 1


def test_a_line_outside_the_spectrum_has_an_empty_window_or_its_wing():
    start, stop = line_windows(LAM, component_rows(np.array([LAM[0] - 100, LAM[-1] + 100]), lorentz=1e-3), None)
    np.testing.assert_array_equal(stop - start, 0)
    start, stop = line_windows(LAM, component_rows(np.array([LAM[0] - 1.0]), lorentz=0.2, gamma=0.5), None)
    assert start[0] == 0
    assert stop[0] > 100


@pytest.mark.parametrize("profile", ["pseudo-voigt", "blase"])
def test_wide_fixed_windows_and_adaptive_ones_agree(profile):
    rng = np.random.default_rng(1)
    theta = np.stack(
        [rng.uniform(LAM[5], LAM[-5], 20), rng.uniform(-4, -2, 20), rng.uniform(-3, -2, 20), rng.uniform(-4, -3, 20)], 1
    )
    adaptive = render_lines(LAM, theta, profile=profile, wing_cut=None)
    whole = render_lines(LAM, theta, profile=profile, wing_cut=len(LAM))
    # each of 20 lines may leave out the tolerance twice
    np.testing.assert_allclose(adaptive, whole, atol=40 * WING_TOLERANCE)
    components = line_components(theta, profile)
    assert components.flags.c_contiguous
