"""Parameters: variables of a fit, bounds and priors."""

import numpy as np
import pytest

from stellarhml.inference.parameters import Parameters, check_ranges

NAMES = ("teff", "logg", "rv", "vsini")
BOUNDS = np.array([[5000.0, 6000], [4.4, 4.4], [-300, 300], [0, 200]])


def test_variables_and_values_are_inverse():
    parameters = Parameters(NAMES, BOUNDS)
    np.testing.assert_array_equal(parameters.free, [True, False, True, True])
    for values in ([5321.0, 4.4, -12.5, 7.0], [5000.0, 4.4, 0.0, 0.0], [6000.0, 4.4, 300.0, 200.0]):
        np.testing.assert_allclose(parameters.values(parameters.variables(values)), values, rtol=0, atol=1e-9)


def test_slopes_are_derivatives():
    parameters = Parameters(NAMES, BOUNDS)
    at = parameters.variables([5321.0, 4.4, -12.5, 7.0])
    slopes = parameters.slopes(parameters.values(at))
    for k, column in enumerate((0, 2, 3)):
        step = 1e-6 * np.eye(3)[k]
        change = (parameters.values(at + step) - parameters.values(at - step))[column] / 2e-6
        assert slopes[k] == pytest.approx(change, rel=1e-6)


def test_the_variable_of_slow_rotation_goes_with_its_square():
    """Lines widen with the square of a small vsini: in the variable they do so evenly."""
    parameters = Parameters(("vsini",), [[0.0, 200.0]])
    w = np.array([parameters.variables([v])[0] for v in (0.0, 0.2, 0.4)])
    # (w2 - w0) / (w1 - w0) is 4 for a square and 2 for a straight line
    assert (w[2] - w[0]) / (w[1] - w[0]) == pytest.approx(4, rel=0.02)
    fast = np.array([parameters.variables([v])[0] for v in (100.0, 110.0, 120.0)])
    assert np.diff(fast)[1] / np.diff(fast)[0] == pytest.approx(1, rel=1e-3)


def test_values_stay_within_bounds():
    parameters = Parameters(NAMES, BOUNDS)
    outside = parameters.limits[:, 1] + 5
    np.testing.assert_array_equal(parameters.values(outside), BOUNDS[:, 1])
    np.testing.assert_array_equal(parameters.values(parameters.limits[:, 0] - 5), BOUNDS[:, 0])


def test_priors_are_in_standard_deviations():
    parameters = Parameters(NAMES, BOUNDS, {"teff": (5500, 50), "logg": (4.0, 0.1), "vsini": (5, 2), "feh": (0, 1)})
    # log g is fixed and [Fe/H] is none of the parameters: neither counts
    np.testing.assert_allclose(parameters.prior_residuals(np.array([5600.0, 4.4, 0.0, 4.0])), [2.0, -0.5])
    np.testing.assert_allclose(parameters.prior_jacobian(), [[1 / 50, 0, 0], [0, 0, 0.5]])


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"rv": (-600, 0)}, "lie within -500 to 500"),
        ({"vsini": (5, 5)}, "must increase"),
        ({"teff": (1, 2)}, "the grid's 5000"),
        ({"x": (1, 2)}, "names 'x'"),
    ],
)
def test_ranges_that_cannot_be(ranges, message):
    limits = np.array([[5000.0, 6000], [-500, 500], [0, 300]])
    with pytest.raises(ValueError, match=message):
        check_ranges(ranges, ("teff", "rv", "vsini"), limits)


def test_ranges_narrow_a_copy():
    limits = np.array([[5000.0, 6000], [-500, 500]])
    narrow = check_ranges({"rv": (-20, 20)}, ("teff", "rv"), limits)
    np.testing.assert_array_equal(narrow, [[5000, 6000], [-20, 20]])
    assert limits[1, 0] == -500
