"""Stars on the same pixels against `infer` of each alone."""

import numpy as np
import pytest
from mock_star import between_nodes

from stellarhml import BayesianStellarRegressor
from stellarhml.flags import InferenceFlag
from stellarhml.inference import survey
from stellarhml.spectra.conversion import as_observed_spectrum

NAMES = ("teff", "logg", "feh", "rv", "vsini")
ALIKE = 0.05  # standard deviations: the generator's error is that at the values of a first fit, which differ


@pytest.fixture(scope="module")
def stars():
    """Spectra: one with cosmic rays and masked pixels, one at the edge of the grid among them."""
    from mock_star import Star

    some = [
        Star(labels=labels, rv=rv, vsini=vsini, seed=seed, power=power)
        for seed, (labels, rv, vsini, power) in enumerate(
            zip(between_nodes()[:4], (-40.0, 3.0, 25.0, 60.0), (3.0, 8.0, 12.0, 30.0), [40_000] * 4, strict=True)
        )
    ]
    spectra = [star.spectrum for star in some]
    _, flux, error = spectra[1]
    flux[0][100:104] *= 3
    error[1][50:60] = np.inf
    return spectra


@pytest.fixture(scope="module")
def found(regressor, stars):
    return regressor.infer_many(stars, resolving_power=40_000, survey=True, verbose=False)


def _numbers(results, what="values"):
    return np.array([[getattr(result, what)[name] for name in NAMES] for result in results])


def test_results_are_those_of_each_star_alone(regressor, stars, found):
    alone = [regressor.infer(star, resolving_power=40_000) for star in stars]
    assert (np.abs(_numbers(found) - _numbers(alone)) < ALIKE * _numbers(alone, "errors")).all()
    assert _numbers(found, "errors") == pytest.approx(_numbers(alone, "errors"), rel=0.02)
    assert [result.flags for result in found] == [result.flags for result in alone]
    assert [result.n_rejected for result in found] == [result.n_rejected for result in alone]
    for one, other in zip(found, alone, strict=True):
        assert one.orders[0].model == pytest.approx(other.orders[0].model, rel=1e-3, nan_ok=True)
    assert not (_numbers(found) == _numbers(alone)).any()  # the table was used


def test_results_do_not_depend_on_the_other_stars(regressor, stars, found):
    some = regressor.infer_many(stars[:0:-1], resolving_power=40_000, survey=True, verbose=False)
    assert np.array_equal(_numbers(some), _numbers(found[:0:-1]))
    assert np.array_equal(_numbers(some, "errors"), _numbers(found[:0:-1], "errors"))


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_workers(regressor, stars, found):
    some = regressor.infer_many(stars, resolving_power=40_000, survey=True, n_jobs=2, verbose=False)
    assert np.array_equal(_numbers(some), _numbers(found))
    assert np.array_equal(_numbers(some, "errors"), _numbers(found, "errors"))


def test_rounding_does_not_matter(regressor, stars, found):
    rng = np.random.default_rng(0)
    moved = [
        (wavelength, [row * (1 + 4e-16 * rng.normal(size=len(row))) for row in flux], error)
        for wavelength, flux, error in stars
    ]
    assert not np.array_equal(moved[0][1][0], stars[0][1][0])
    some = regressor.infer_many(moved, resolving_power=40_000, survey=True, verbose=False)
    assert (np.abs(_numbers(some) - _numbers(found)) < 1e-6 * _numbers(found, "errors")).all()


def test_a_star_on_other_pixels_is_fitted_alone_and_one_that_fails_is_failed(regressor, stars, found):
    wavelength, flux, error = stars[2]
    other = [x[3:] for x in wavelength], [x[3:] for x in flux], [x[3:] for x in error]
    broken = wavelength, [np.full(len(x), np.nan) for x in flux], error
    many = [stars[0], other, broken, stars[3]]
    results = regressor.infer_many(many, resolving_power=40_000, survey=True, verbose=False)
    assert results[1].values == regressor.infer(other, resolving_power=40_000).values
    assert results[2].flags == InferenceFlag.FAILED
    assert np.array_equal(_numbers([results[0], results[3]]), _numbers([found[0], found[3]]))


def test_few_stars_other_settings_and_false_leave_each_star_alone(regressor, stars):
    (alone,) = regressor.infer_many(stars[:1], resolving_power=40_000, verbose=False)
    for many, settings in (
        (stars[:2], {}),
        (stars[:2] * 8, {"survey": False}),
        (stars[:2], {"survey": True, "macroturbulence": "gaussian", "fixed": {"vmac": 0.0}}),
    ):
        first = next(regressor.infer_each(many, resolving_power=40_000, verbose=False, **settings))
        if "fixed" not in settings:
            assert first.values == alone.values
        else:
            assert "vmac" in first.values
    with pytest.raises(ValueError, match="`survey` is 'yes'; it needs True, False or 'auto'"):
        regressor.infer_many(stars, resolving_power=40_000, survey="yes")


def test_fixed_parameters_and_priors_are_kept(mini_generator, stars):
    regressor = BayesianStellarRegressor.from_generator(mini_generator, priors={"logg": (4.4, 0.01)})
    settings = {"resolving_power": 40_000, "fixed": {"vsini": 7.0}}
    results = regressor.infer_many(stars[:2], survey=True, verbose=False, **settings)
    alone = [regressor.infer(star, **settings) for star in stars[:2]]
    assert all(result.values["vsini"] == 7.0 for result in results)
    for one, other in zip(results, alone, strict=True):
        for name in ("teff", "logg", "feh", "rv"):
            assert abs(one.values[name] - other.values[name]) < ALIKE * other.errors[name], name


@pytest.mark.parametrize("name", ["_SMOOTH", "_NEAR"])
def test_where_the_table_is_not_right_a_star_is_fitted_alone(regressor, stars, monkeypatch, name):
    """As next to a jump of the grid: here no table is right enough."""
    monkeypatch.setattr(survey, name, 0.0)
    results = regressor.infer_many([stars[0], stars[0]], resolving_power=40_000, survey=True, verbose=False)
    assert results[0].values == regressor.infer(stars[0], resolving_power=40_000).values


def test_pixels_and_resolving_powers_must_be_those_of_another_star(regressor, stars):
    def survey_of(*powers):
        some = [as_observed_spectrum(star, resolving_power=p) for star, p in zip(stars, powers, strict=False)]
        return regressor.with_survey(some, {"resolving_power": None})[1]

    assert np.array_equal(survey_of(40_000, 30_000, 30_000).wavelengths[1], stars[0][0][1])
    assert survey_of(40_000, 30_000) is None
    assert survey_of(None, None) is None
    for_each_pixel = [np.full(len(x), 4e4) for x in stars[0][0]]
    assert survey_of(for_each_pixel, for_each_pixel) is None


def test_sixteen_stars_are_a_survey(regressor, stars, found):
    first = next(regressor.infer_each(stars * 4, resolving_power=40_000, verbose=False))
    assert first.values == found[0].values
