"""ParameterSet: variables of a fit, bounds and priors, by name."""

import numpy as np
import pytest

from stellarhml.forward.chain import RV, VSINI
from stellarhml.forward.stages import Parameter
from stellarhml.inference.parameter_set import ParameterSet, check_bounds

PARAMETERS = (
    Parameter("teff", "K", (5000.0, 6000.0)),
    Parameter("logg", bounds=(4.0, 5.0)),
    RV,
    VSINI,
    Parameter("veiling", bounds=(0.0, np.inf), start=0.1, prior=(0.0, 0.5), physical_floor=True),
)


@pytest.fixture
def parameters():
    return ParameterSet(PARAMETERS, bounds={"rv": (-300, 300), "age": (0, 1)}, fixed={"logg": 4.4})


def test_variables_and_values_are_inverse(parameters):
    assert parameters.free == ("teff", "rv", "vsini", "veiling")
    for pair in ([5321.0, -12.5, 7.0, 0.3], [5000.0, 0.0, 0.0, 0.0], [6000.0, 300.0, 200.0, 2.0]):
        values = dict(zip(parameters.free, pair, strict=True)) | {"logg": 4.4}
        assert parameters.values(parameters.variables(values)) == pytest.approx(values, rel=0, abs=1e-9)


def test_slopes_are_derivatives(parameters):
    at = parameters.variables({"teff": 5321.0, "rv": -12.5, "vsini": 7.0, "veiling": 0.2})
    slopes = parameters.slopes(parameters.values(at))
    for k, name in enumerate(parameters.free):
        step = 1e-6 * np.eye(len(at))[k]
        change = (parameters.values(at + step)[name] - parameters.values(at - step)[name]) / 2e-6
        assert slopes[k] == pytest.approx(change, rel=1e-6)


def test_the_variable_of_slow_rotation_goes_with_its_square():
    """Lines widen with the square of a small vsini: in the variable they do so evenly."""
    parameters = ParameterSet([VSINI])
    w = np.array([parameters.variables({"vsini": v})[0] for v in (0.0, 0.2, 0.4)])
    # (w2 - w0) / (w1 - w0) is 4 for a square and 2 for a straight line
    assert (w[2] - w[0]) / (w[1] - w[0]) == pytest.approx(4, rel=0.02)
    fast = np.array([parameters.variables({"vsini": v})[0] for v in (100.0, 110.0, 120.0)])
    assert np.diff(fast)[1] / np.diff(fast)[0] == pytest.approx(1, rel=1e-3)


def test_values_stay_within_bounds(parameters):
    high = parameters.values(np.where(np.isfinite(parameters.limits[:, 1]), parameters.limits[:, 1] + 5, 1.0))
    assert (high["teff"], high["rv"], high["vsini"]) == (6000.0, 300.0, 300.0)
    low = parameters.values(parameters.limits[:, 0] - 5)
    assert low == {"teff": 5000.0, "logg": 4.4, "rv": -300.0, "vsini": 0.0, "veiling": 0.0}


def test_a_fit_begins_at_what_is_known_and_at_what_parameters_say(parameters):
    start = parameters.start({"teff": 7000.0, "rv": 12.0})
    assert start == {"teff": 6000.0, "logg": 4.4, "rv": 12.0, "vsini": VSINI.start, "veiling": 0.1}


def test_priors_are_in_standard_deviations():
    priors = {"teff": (5500, 50), "logg": (4.0, 0.1), "vsini": (5, 2), "feh": (0, 1)}
    parameters = ParameterSet(PARAMETERS, fixed={"logg": 4.4}, priors=priors)
    # log g is fixed and [Fe/H] is none of the parameters: neither counts; veiling brings its own
    assert parameters.prior_names == ("teff", "vsini", "veiling")
    values = {"teff": 5600.0, "logg": 4.4, "rv": 0.0, "vsini": 4.0, "veiling": 1.0}
    np.testing.assert_allclose(parameters.prior_residuals(values), [2.0, -0.5, 2.0])
    np.testing.assert_allclose(parameters.prior_jacobian(), [[1 / 50, 0, 0, 0], [0, 0, 0.5, 0], [0, 0, 0, 2.0]])


def test_only_a_bound_of_nature_is_a_physical_floor(parameters):
    assert parameters.physical_floor("vsini")
    assert not parameters.physical_floor("teff")
    assert not ParameterSet(PARAMETERS, bounds={"vsini": (3, 20)}).physical_floor("vsini")


def test_a_block_of_the_fitted_parameters_is_put_where_they_are(parameters):
    whole = parameters.matrix(np.arange(16.0).reshape(4, 4))
    assert np.all(whole[1] == 0)
    assert np.all(whole[:, 1] == 0)
    np.testing.assert_array_equal(whole[0], [0, 0, 1, 2, 3])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rv": (-600, 0)}, "lie within -500 to 500"),
        ({"vsini": (5, 5)}, "must increase"),
        ({"teff": (1, 2)}, "the grid's 5000"),
        ({"x": (1, 2)}, "names 'x'"),
    ],
)
def test_bounds_that_cannot_be(given, message):
    with pytest.raises(ValueError, match=message):
        check_bounds(given, {"teff": (5000.0, 6000.0), "rv": (-500.0, 500.0), "vsini": (0.0, 300.0)})


def test_bounds_narrow_a_copy():
    limits = {"teff": (5000.0, 6000.0), "rv": (-500.0, 500.0)}
    assert check_bounds({"rv": (-20, 20)}, limits) == {"teff": (5000.0, 6000.0), "rv": (-20.0, 20.0)}
    assert limits["rv"] == (-500.0, 500.0)


@pytest.mark.parametrize("fixed", [{}, {"feh": -0.3}])
def test_a_prior_of_a_difference(fixed):
    """Its residual is the difference from the other parameter, with derivatives for those that are free."""
    both = Parameter("feh", bounds=(-1.0, 0.5)), Parameter("feh_2", "", (-1.0, 0.5), prior=(0.0, 0.05), alike="feh")
    parameters = ParameterSet(both, fixed=fixed)
    values = {"feh": -0.3, "feh_2": -0.2}
    assert parameters.prior_residuals(values) == pytest.approx([2.0])
    for name in parameters.free:
        change = parameters.prior_residuals(values | {name: values[name] + 1e-3}) - parameters.prior_residuals(values)
        assert parameters.prior_jacobian()[0, parameters.free.index(name)] == pytest.approx(change[0] / 1e-3)
    assert parameters.shown().prior_residuals(values) == pytest.approx([2.0])
    absolute = ParameterSet(both, fixed=fixed, priors={"feh_2": (-0.25, 0.1)})
    assert absolute.prior_residuals(values) == pytest.approx([0.5])
    assert np.count_nonzero(absolute.prior_jacobian()) == 1
