"""A resolving power with an error, wavelengths with an error, and the velocities of single orders."""

import numpy as np
import pandas as pd
import pytest
from mock_star import C

from stellarhml import BayesianStellarRegressor
from stellarhml.flags import InferenceFlag
from stellarhml.forward.line_spread import GaussHermite
from stellarhml.inference import results_table
from stellarhml.inference._inference_result import scatter_between
from stellarhml.spectra import ObservedSpectrum

LIMIT = 4.5  # standard deviations
FACTOR = "resolving_power_factor"


def shifted(star, shifts):
    """The spectrum of a star with wavelengths of its orders that are too long by shifts in km/s."""
    return [x * (1 + shift / C) for x, shift in zip(star.wavelength, shifts, strict=True)], star.flux, star.error


def cut(star, n):
    """The spectrum of a star, each order cut in n."""
    return tuple([part for row in column for part in np.array_split(row, n)] for column in star.spectrum)


@pytest.mark.parametrize("wrong", [0.7, 1.4])
def test_the_factor_of_a_wrong_resolving_power_is_found(regressor, make_star, wrong):
    star = make_star(snr=200.0)
    result = regressor.infer(star.spectrum, resolving_power=wrong * star.power, resolving_power_error=0.25)
    assert abs(result.values[FACTOR] - 1 / wrong) < LIMIT * result.errors[FACTOR]
    assert result.errors[FACTOR] < 0.08
    assert np.abs(star.off(result)).max() < LIMIT
    assert result.resolving_power_factor[0] == result.values[FACTOR]
    assert result.flags & InferenceFlag.RESOLVING_POWER
    assert f"{result.values[FACTOR]:.3g} times the stated one" in "; ".join(result.messages)
    i, k = result.names.index("vsini"), result.names.index(FACTOR)
    correlation = result.covariance[i, k] / (result.errors["vsini"] * result.errors[FACTOR])
    assert correlation > 0.5  # a sharper spectrograph, and a star that rotates faster
    # taken as exact, vsini is wrong by many of its errors, and its error is smaller
    exact = regressor.infer(star.spectrum, resolving_power=wrong * star.power)
    assert FACTOR not in exact.names
    assert np.abs(star.off(exact)[4]) > LIMIT
    assert result.errors["vsini"] > 1.4 * exact.errors["vsini"]


def test_a_right_resolving_power_raises_no_flag(regressor, make_star):
    star = make_star()
    result = regressor.infer(star.spectrum, resolving_power=star.power, resolving_power_error=0.1)
    assert not result.flags, result.messages
    assert abs(result.values[FACTOR] - 1) < 3 * result.errors[FACTOR] < 0.3
    table = results_table([result, result], kind="astropy")
    assert f"{FACTOR}_std" in table.colnames
    fixed = regressor.infer(
        star.spectrum, resolving_power=star.power, resolving_power_error=0.1, fixed={FACTOR: 0.9, "vsini": 9.0}
    )
    assert fixed.values[FACTOR] == 0.9
    assert fixed.errors[FACTOR] == 0


def test_factors_of_orders(regressor, make_star):
    """Each order has a resolving power that is stated wrong by another factor."""
    star = make_star(snr=200.0)
    wrong = [0.65, 1.1]
    stated = [factor * star.power for factor in wrong]
    result = regressor.infer(star.spectrum, resolving_power=stated, resolving_power_scatter=0.25)
    names = [f"{FACTOR}_{number}" for number in range(len(wrong))]
    assert result.names[-2:] == tuple(names)
    for name, factor in zip(names, wrong, strict=True):
        assert abs(result.values[name] - 1 / factor) < LIMIT * result.errors[name] < 0.5
    assert result.values[names[0]] - result.values[names[1]] > 0.25
    assert np.abs(star.off(result)).max() < LIMIT
    assert result.flags & InferenceFlag.RESOLVING_POWER
    text = f"the resolving power of some orders differs: {result.values[names[0]]:.3g} times in 0"
    assert text in "; ".join(result.messages)
    # with a factor of both orders beside them, theirs are relative to it
    both = regressor.infer(
        star.spectrum, resolving_power=stated, resolving_power_error=0.3, resolving_power_scatter=0.25
    )
    for name in names:
        assert both.values[FACTOR] * both.values[name] == pytest.approx(result.values[name], rel=0.03)
        assert both.errors[name] > 1.2 * result.errors[name]
    assert both.resolving_power_factor[0] == both.values[FACTOR]


def test_factors_of_orders_that_are_right_raise_no_flag(regressor, make_star):
    """And with line faults they take the place of the common change of the line spread."""
    star = make_star()
    settings = {"resolving_power": star.power, "resolving_power_scatter": 0.05}
    for line_errors in (False, True):
        result = regressor.infer(star.spectrum, line_errors=line_errors, **settings)
        assert not result.flags & InferenceFlag.RESOLVING_POWER, result.messages
        for number in range(len(star.wavelength)):
            name = f"{FACTOR}_{number}"
            assert abs(result.values[name] - 1) < 3 * result.errors[name] < 0.2
        assert np.abs(star.off(result)).max() < LIMIT


def test_bounds_and_priors_of_the_factor(regressor, make_star):
    star = make_star()
    given = {"bounds": {FACTOR: (0.9, 1.1)}, "priors": {FACTOR: (1.05, 1e-4), f"{FACTOR}_1": (0.97, 1e-4)}}
    own = BayesianStellarRegressor.from_generator(regressor.generator_, **given)
    settings = {"resolving_power_error": 0.2, "resolving_power_scatter": 0.2}
    result = own.infer(star.spectrum, resolving_power=star.power, **settings)
    assert result.bounds[FACTOR] == (0.9, 1.1)
    assert result.values[FACTOR] == pytest.approx(1.05, abs=1e-3)
    assert result.values[f"{FACTOR}_1"] == pytest.approx(0.97, abs=1e-3)
    assert FACTOR not in own.infer(star.spectrum, resolving_power=star.power).names
    with pytest.raises(ValueError, match=r"`bounds` of 'resolving_power_factor' .* lie within 0.2 to 5"):
        BayesianStellarRegressor.from_generator(regressor.generator_, bounds={FACTOR: (0.1, 1)})


def test_of_a_slow_rotator_the_prior_remains(regressor, make_star):
    """Without rotation only a product of widths is known: a narrow prior narrows the factor."""
    star = make_star(vsini=2.0)
    wide, narrow = (
        regressor.infer(star.spectrum, resolving_power=star.power, resolving_power_error=error) for error in (0.3, 0.02)
    )
    assert wide.errors[FACTOR] > 1.5 * narrow.errors[FACTOR]
    assert narrow.errors[FACTOR] < 0.021
    assert wide.flags & InferenceFlag.SLOW_ROTATION


def test_the_shape_of_the_line_spread_is_fitted(regressor, make_star):
    star = make_star(snr=300.0)
    power = GaussHermite(star.power, errors={"h4": 0.1})
    result = regressor.infer(star.spectrum, resolving_power=power, fixed={"vsini": star.vsini})
    assert "h4" in result.names
    assert abs(result.values["h4"]) < LIMIT * result.errors["h4"] < 0.2


def test_an_error_of_the_wavelengths_is_in_that_of_the_velocity(regressor, make_star):
    star, error = make_star(), 0.5
    spectrum = shifted(star, (0.4, -0.6))
    plain = regressor.infer(star.spectrum, resolving_power=star.power)
    result = regressor.infer(spectrum, resolving_power=star.power, wavelength_error=error)
    assert result.names == plain.names  # shifts are marginalised
    budget = result.error_budget()
    # the mean of two shifts, whose velocities have nearly equal weights
    assert budget.loc["rv", "wavelength"] == pytest.approx(error / np.sqrt(2), rel=0.05)
    assert result.errors["rv"] == pytest.approx(np.hypot(plain.errors["rv"], error / np.sqrt(2)), rel=0.1)
    np.testing.assert_allclose(sum(result.covariances.values()), result.covariance, rtol=1e-9, atol=1e-15)
    assert np.abs(star.off(result)).max() < LIMIT
    for name in plain.values:
        if name != "rv":
            # the same light, but noise between two velocities, which are known better than the labels
            assert abs(result.values[name] - plain.values[name]) < 0.2 * plain.errors[name], name
            assert result.errors[name] < 1.2 * plain.errors[name]
    one = regressor.infer(tuple(column[:1] for column in spectrum), resolving_power=star.power, wavelength_error=error)
    assert one.errors["rv"] == pytest.approx(error, rel=0.05)
    assert one.flags == InferenceFlag(0)


def test_an_error_that_is_stated_and_not_there_costs_little(regressor, make_star):
    star = make_star()
    plain = regressor.infer(cut(star, 3), resolving_power=star.power)
    result = regressor.infer(cut(star, 3), resolving_power=star.power, wavelength_error=0.3)
    assert not result.flags, result.messages
    assert result.errors["rv"] > np.hypot(plain.errors["rv"], 0.3 / np.sqrt(6))
    assert result.errors["rv"] < 1.3 * np.hypot(plain.errors["rv"], 0.3 / np.sqrt(6))
    for name in ("teff", "logg", "feh", "vsini"):
        assert result.errors[name] == pytest.approx(plain.errors[name], rel=0.1)


def test_shifts_beyond_the_stated_error_inflate_that_of_the_velocity(regressor, make_star):
    star = make_star()
    wavelength, flux, errors = cut(star, 4)
    wavelength = [x * (1 + shift / C) for x, shift in zip(wavelength, (3, -3, 2, -2, 3, -3, 1, -1), strict=True)]
    settings = {"resolving_power": star.power, "line_errors": False}
    honest, small = (
        regressor.infer((wavelength, flux, errors), wavelength_error=error, **settings) for error in (2.5, 0.4)
    )
    assert not honest.flags, honest.messages
    assert small.flags & InferenceFlag.POOR_FIT
    assert small.errors["rv"] > 0.5 * honest.errors["rv"] > 1.5 * 0.4 / np.sqrt(8)


def test_velocities_of_orders_are_those_of_fits_of_each(regressor, make_star):
    star = make_star(snr=150.0)
    spectrum = shifted(star, (0.8, -0.8))
    settings = {"resolving_power": star.power, "line_errors": False}
    result = regressor.infer(spectrum, **settings)
    table = result.order_velocities
    assert table.columns.tolist() == ["order", "rv", "rv_std"]
    assert table["order"].tolist() == [0, 1]
    others = {name: result.values[name] for name in ("teff", "logg", "feh", "vsini")}
    for row, pixels in zip(table.itertuples(), zip(*spectrum, strict=True), strict=True):
        alone = regressor.infer(tuple([part] for part in pixels), **settings, fixed=others)
        # the errors of labels, which are fixed in the fit of one order, hardly matter; a step of 0.8 km/s is not linear
        assert abs(row.rv - alone.values["rv"]) < 0.3 * row.rv_std
        assert row.rv_std == pytest.approx(alone.noise_errors["rv"], rel=0.15)
    assert result.rv_scatter == pytest.approx(1.6 / np.sqrt(2), rel=0.1)
    # the same table where the shifts are free
    free = regressor.infer(spectrum, **settings, wavelength_error=1.0).order_velocities
    np.testing.assert_allclose(free["rv"], table["rv"], rtol=0, atol=0.2 * table["rv_std"].max())
    # without them residuals are larger, and the reduced chi-square counts
    np.testing.assert_allclose(free["rv_std"], table["rv_std"], rtol=0.15)
    still = regressor.infer(star.spectrum, resolving_power=star.power, fixed={"rv": 33.0})
    assert still.order_velocities is None
    assert np.isnan(still.rv_scatter)


@pytest.mark.slow
def test_a_fit_with_line_faults_has_them_too(regressor, make_star):
    star = make_star()
    spectrum = shifted(star, (0.4, -0.6))
    settings = {"resolving_power": 0.85 * star.power, "line_errors": True, "resolving_power_error": 0.25}
    result = regressor.infer(spectrum, wavelength_error=0.5, **settings)
    assert result.line_faults is not None
    budget = result.error_budget()
    assert budget.loc["rv", "wavelength"] == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    np.testing.assert_allclose(sum(result.covariances.values()), result.covariance, rtol=1e-9, atol=1e-15)
    assert np.abs(star.off(result)).max() < LIMIT
    assert abs(result.values[FACTOR] - 1 / 0.85) < LIMIT * result.errors[FACTOR] < 1.1
    table = result.order_velocities
    off = (table["rv"] - star.rv - [0.4, -0.6]) / table["rv_std"]
    assert np.abs(off).max() < LIMIT
    # shifts that are not stated are faults of lines, whose scale is then another one
    exact = regressor.infer(spectrum, **settings)
    np.testing.assert_allclose(exact.order_velocities["rv"], table["rv"], rtol=0, atol=1.0 * table["rv_std"].max())


@pytest.mark.slow
def test_errors_of_the_velocity_hold(mini_generator, make_model_star):
    """Shifts of eight orders, each with its own."""
    regressor = BayesianStellarRegressor.from_generator(mini_generator, generator_error=False, line_errors=False)
    off, error = [], 0.4
    for seed in range(24):
        star, rng = make_model_star(seed=seed), np.random.default_rng(seed)
        wavelength, flux, errors = cut(star, 4)
        wavelength = [x * (1 + error * rng.normal() / C) for x in wavelength]
        result = regressor.infer((wavelength, flux, errors), resolving_power=star.power, wavelength_error=error)
        off.append(star.off(result)[3])
    # the rms of 24 draws is known to 14 %: three times that
    assert 0.58 < np.sqrt(np.mean(np.square(off))) < 1.42


def test_scatter_between_values():
    rng = np.random.default_rng(1)
    errors = rng.uniform(0.05, 0.3, 4000)
    for true in (0.0, 0.2, 1.0):
        values = 5 + true * rng.normal(size=4000) + errors * rng.normal(size=4000)
        assert scatter_between(values, errors) == pytest.approx(true, abs=0.05)
    assert np.isnan(scatter_between(np.ones(1), np.ones(1)))


@pytest.mark.parametrize("error", [0.0, -1.0, 100.0, np.nan, True, "a"])
def test_errors_of_wavelengths_are_in_reason(regressor, make_star, error):
    with pytest.raises(ValueError, match=r"`wavelength_error` is .*it needs a standard deviation in km/s"):
        regressor.infer(make_star().spectrum, resolving_power=40_000, wavelength_error=error)


def test_errors_of_wavelengths_may_have_a_unit(regressor, make_star):
    import astropy.units as u

    star = make_star()
    pair = [
        regressor.infer(star.spectrum, resolving_power=star.power, wavelength_error=error)
        for error in (0.5, 500 * u.m / u.s)
    ]
    assert pair[0].errors["rv"] == pytest.approx(pair[1].errors["rv"], rel=1e-9)


def test_failures_have_the_same_columns(regressor, make_star):
    star = make_star()
    settings = {"resolving_power": star.power, "resolving_power_error": 0.1}
    results = regressor.infer_many([star.spectrum, ([1.0], [1.0])], **settings)
    assert pd.isna(results_table(results).loc[1, FACTOR])
    with pytest.raises(ValueError, match="`resolving_power_error` is 7"):
        regressor.infer_many([star.spectrum], resolving_power=star.power, resolving_power_error=7)


def test_orders_of_the_same_number_have_shifts_of_their_own(regressor, make_star):
    """As those of two arms."""
    star = make_star()
    orders = list(zip(star.wavelength, star.flux, star.error, strict=True))
    settings = {"resolving_power": star.power, "wavelength_error": 0.3}
    apart = regressor.infer(ObservedSpectrum(orders), **settings)
    same = regressor.infer(ObservedSpectrum(orders, {"order_numbers": [1] * len(orders)}), **settings)
    assert len(orders) > 1
    assert same.errors == apart.errors
    assert same.order_velocities["rv"].tolist() == apart.order_velocities["rv"].tolist()
