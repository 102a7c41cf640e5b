"""What a caller of `infer` and `infer_many` can get wrong is an error before any fit; what a star has wrong is not."""

import astropy.units as u
import numpy as np
import pytest

from stellarhml.forward.stages import Parameter, Rows, Stage
from stellarhml.inference import results_table

POWER = 40_000


class Level(Stage):
    """A factor of the flux, which any continuum takes up."""

    parameters = (Parameter("level", bounds=(0.5, 2.0), start=1.0, prior=(1.0, 0.1), description="factor of the flux"),)

    def apply(self, rows, values):
        return rows.through(values["level"] * rows.flux, values["level"], level=rows.flux)


class Cut(Stage):
    """A stage that loses pixels."""

    def apply(self, rows, values):
        parts = ({name: row[20:] for name, row in part.items()} for part in (rows.tangents, rows.modes))
        return Rows(rows.wavelength[20:], rows.flux[20:], *parts)


class Broken(Stage):
    """A stage with a mistake that is no ValueError."""

    def apply(self, rows, values):
        raise KeyError("missing")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fixed": {"Teff": 3}}, "`fixed` names 'Teff'"),
        ({"fixed": {"teff": None}}, "needs one finite number"),
        ({"fixed": {"teff": (1, 2)}}, "needs one finite number"),
        ({"fixed": ["rv"]}, "needs a dictionary"),
        ({"continuum_degree": True}, "`continuum_degree` is True"),
        ({"posterior": "metropolis"}, "it needs 'laplace'"),
        ({"n_draws": 0}, "`n_draws` is 0"),
        ({"macroturbulence": "isotropic"}, "'isotropic'; it needs 'radial-tangential' or 'gaussian'"),
        ({"macroturbulence": True}, "macroturbulence is True"),
        ({"fixed": {"vmac": 3.0}}, "`fixed` names 'vmac'"),
        ({"macroturbulence": "gaussian", "fixed": {"vmac": 51.0}}, "'vmac' to 51.0, which is not within 0 to 50"),
        ({"stages": Level}, "needs instances"),
        ({"stages": [Level]}, "needs instances"),
        ({"transmission": (np.arange(1.0, 30.0), np.zeros(29))}, "1 where the air is clear"),
        ({"transmission": (np.arange(1.0, 30.0), np.ma.array(np.ones(29), mask=np.arange(29) == 3))}, "masked or not"),
    ],
)
def test_mistakes_of_the_caller_are_one_error(regressor, make_star, settings, message):
    spectrum = make_star().spectrum
    with pytest.raises(ValueError, match=message):
        regressor.infer(spectrum, resolving_power=POWER, **settings)
    with pytest.raises(ValueError, match=message):
        regressor.infer_many([spectrum, spectrum], resolving_power=POWER, verbose=False, **settings)


def test_an_unknown_argument_is_an_error_and_no_failure_of_each_star(regressor, make_star):
    with pytest.raises(TypeError, match="foo"):
        regressor.infer_many([make_star().spectrum], resolving_power=POWER, verbose=False, foo=3)


def test_a_degree_may_be_an_integer_of_numpy(regressor, make_star):
    spectrum, fixed = make_star().spectrum, {"vsini": 9.0}
    got, expected = (
        regressor.infer(spectrum, resolving_power=POWER, continuum_degree=degree, fixed=fixed)
        for degree in (np.int64(3), 3)
    )
    assert got.values == expected.values


def test_a_failed_star_stops_no_other_and_has_no_numbers(regressor, make_star):
    spectrum = make_star().spectrum
    empty = (spectrum[0], [flux * np.nan for flux in spectrum[1]], spectrum[2])
    bad, good = regressor.infer_many([empty, spectrum], resolving_power=POWER, verbose=False)
    assert bad.status == "failed"
    assert good.status == "ok"
    assert np.isnan(bad.sample(3)).all()
    assert np.isnan(list(bad.interval().values())).all()
    (broken,) = regressor.infer_many([spectrum], resolving_power=POWER, verbose=False, stages=[Broken()])
    assert broken.messages == ("KeyError: 'missing'",)


def test_stages_of_an_iterator_serve_every_star(regressor, make_star):
    spectrum = make_star().spectrum
    results = regressor.infer_many(
        [spectrum, spectrum], resolving_power=POWER, verbose=False, stages=(stage for stage in [Level()])
    )
    assert [result.names[-1] for result in results] == ["level", "level"]
    # any continuum takes up a factor: the prior alone knows it
    assert results[0].values["level"] == pytest.approx(1.0, abs=1e-3)
    assert results[0].errors["level"] == pytest.approx(0.1, rel=0.05)
    assert (
        results_table(results, kind="astropy")["level_std"].description
        == "standard deviation of the factor of the flux"
    )


def test_macroturbulence_comes_before_other_stages_and_is_listed(regressor, make_star):
    star = make_star()
    empty = (star.wavelength, [flux * np.nan for flux in star.flux], star.error)
    settings = {"macroturbulence": "radial-tangential", "stages": [Level()], "fixed": {"vmac": 3_000 * u.m / u.s}}
    good, bad = regressor.infer_many([star.spectrum, empty], resolving_power=POWER, verbose=False, **settings)
    assert good.names == bad.names == (*star.names, "vmac", "level")
    assert (good.values["vmac"], good.errors["vmac"]) == (3.0, 0.0)
    assert (bad.status, bad.values["vmac"]) == ("failed", pytest.approx(np.nan, nan_ok=True))
    column = results_table([good, bad], kind="astropy")["vmac"]
    assert (column.unit, column.description) == (u.km / u.s, "macroturbulent velocity")
    # rotation makes up for what macroturbulence has: variances of 0.225 vsini^2 and 0.25 vmac^2, of other shapes
    plain = regressor.infer(star.spectrum, resolving_power=POWER).values["vsini"]
    less = plain - np.sqrt(plain**2 - 0.25 / 0.225 * 3.0**2)
    assert plain - good.values["vsini"] == pytest.approx(less, rel=0.4)
    # what the air absorbs is not broadened by the star
    air = np.arange(8400.0, 8800.0), np.ones(400)
    stages = regressor._fit_settings(macroturbulence="gaussian", stages=[Level()], transmission=air).stages
    assert [type(stage).__name__ for stage in stages] == ["Macroturbulence", "Level", "Transmission"]


def test_a_stage_that_loses_pixels_is_refused(regressor, make_star):
    with pytest.raises(ValueError, match=r"Cut.apply returned rows that do not match: wavelength, flux"):
        regressor.infer(make_star().spectrum, resolving_power=POWER, stages=[Cut()])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bounds": (5, 0)}, "which decrease"),
        ({"bounds": (0, np.inf)}, "state a starting value"),
        ({"bounds": (0, 1), "start": 2.0}, "which is not within"),
        ({"bounds": (0, 1), "scale": -1.0}, "which is not positive"),
        ({"bounds": (0, 1), "prior": (0.3, 0.0)}, "standard deviation is not positive"),
    ],
)
def test_parameters_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Parameter("level", **settings)
