"""`infer` on stars that the generator itself made: what it finds, and that nothing is passed over in silence."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import StdDevUncertainty, VarianceUncertainty
from astropy.table import Table
from specutils import Spectrum

from stellarhml import BayesianStellarRegressor
from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.flags import InferenceFlag
from stellarhml.inference import results_table, star_fit
from stellarhml.physics.wavelength import vacuum_to_air

LIMIT = 4.5  # standard deviations; of all the comparisons of this file, chance alone brings one there in 10,000 runs


def test_a_star_is_found_with_its_velocities(regressor, make_star):
    star = make_star()
    result = regressor.infer(star.spectrum, resolving_power=star.power)
    assert result.names == star.names
    assert np.abs(star.off(result)).max() < LIMIT
    assert not result.flags
    assert result.good
    assert result.reduced_chi2 == pytest.approx(1, abs=0.15)
    # the noise of some 2,700 pixels, and not just any errors: what the lines allow at S/N 100
    assert 5 < result.errors["teff"] < 80
    assert result.errors["rv"] < 0.2
    for name in result.names:
        parts = result.noise_errors[name], result.generator_errors[name]
        assert result.errors[name] == pytest.approx(np.hypot(*parts))
    assert all(part > 0 for part in result.generator_errors.values())


@pytest.mark.slow
def test_no_rotation_is_no_bound(regressor, make_star):
    results = [regressor.infer(make_star(seed=s, vsini=0.0).spectrum, resolving_power=40_000) for s in range(6)]
    found = np.array([result.values["vsini"] for result in results])
    assert found.min() < 0.3, found  # a thousandth of its range: where other parameters count as being at a bound
    for result in results:
        assert not result.flags & InferenceFlag.AT_BOUND, result.messages
        assert result.flags & InferenceFlag.SLOW_ROTATION
    bounded = BayesianStellarRegressor.from_generator(regressor.generator_, bounds={"vsini": (5.0, 30.0)})
    result = bounded.infer(make_star(vsini=0.0).spectrum, resolving_power=40_000)
    assert result.flags & InferenceFlag.AT_BOUND


@pytest.mark.slow
def test_errors_are_the_scatter_over_noise(mini_generator, make_model_star):
    regressor = BayesianStellarRegressor.from_generator(mini_generator, generator_error=False)
    stars = [make_model_star(seed=seed) for seed in range(16)]
    off = np.array([star.off(regressor.infer(star.spectrum, resolving_power=star.power)) for star in stars])
    # the scatter of 16 draws is known to 18 %: three times that; each of five parameters
    assert np.all(np.abs(off.std(axis=0, ddof=1) - 1) < 0.55)
    assert np.abs(off.mean(axis=0)).max() < 4 / np.sqrt(16)


def test_without_noise_the_truth_comes_out(regressor, make_model_star):
    star = make_model_star(snr=1e6)
    result = regressor.infer(star.spectrum, resolving_power=star.power, line_errors=False)
    found = np.array(list(result.values.values()))
    # the noise of the fluxes is 1e-6, and the continuum polynomials are of the degree of the true ones; between its
    # pixels of 1 km/s the star was interpolated by a spline, and the model is by polynomials
    assert np.all(np.abs(found - star.truth) < [0.5, 1e-3, 1e-3, 1e-3, 5e-3])


@pytest.mark.parametrize("kind", ["arrays", "stacked", "spectra", "variances", "one spectrum", "units"])
def test_every_kind_of_spectrum_gives_the_same(regressor, make_star, kind):
    star = make_star()
    wavelength, flux, error = (part[0] for part in star.spectrum)
    reference = regressor.infer((wavelength, flux, error), resolving_power=star.power)
    given = {
        "arrays": ([wavelength], [flux], [error]),
        "stacked": (wavelength[None], flux[None], error[None]),
        "spectra": [_spectrum(wavelength, flux, StdDevUncertainty(error))],
        "variances": _spectrum(wavelength, flux, VarianceUncertainty(error**2)),
        "one spectrum": _spectrum(wavelength, flux, StdDevUncertainty(error)),
        "units": (wavelength / 1e4 * u.um, flux, error),
    }[kind]
    result = regressor.infer(given, resolving_power=star.power)
    for name, value in reference.values.items():
        assert result.values[name] == pytest.approx(value, rel=1e-6, abs=1e-5)


def _spectrum(wavelength, flux, uncertainty, **more):
    return Spectrum(spectral_axis=wavelength * u.AA, flux=flux * u.ct, uncertainty=uncertainty, **more)


def test_masks_and_nans_leave_pixels_out(regressor, make_star):
    star = make_star()
    bad = [np.arange(len(x)) % 11 == 3 for x in star.wavelength]
    clean = regressor.infer(star.spectrum, resolving_power=star.power, mask=bad)
    spoilt = [np.where(mask, 1e9, flux) for mask, flux in zip(bad, star.flux, strict=True)]
    masked = regressor.infer((star.wavelength, spoilt, star.error), resolving_power=star.power, mask=bad)
    holes = [np.where(mask, np.nan, flux) for mask, flux in zip(bad, star.flux, strict=True)]
    nans = regressor.infer((star.wavelength, holes, star.error), resolving_power=star.power)
    infinite = [np.where(mask, np.inf, error) for mask, error in zip(bad, star.error, strict=True)]
    errors = regressor.infer((star.wavelength, spoilt, infinite), resolving_power=star.power)
    for other in (masked, nans, errors):
        assert other.values == clean.values
        assert other.n_pixels == clean.n_pixels == sum(int((~mask).sum()) for mask in bad)


def test_errors_need_not_be_given(regressor, make_star):
    star = make_star()
    known = regressor.infer(star.spectrum, resolving_power=star.power)
    found = regressor.infer((star.wavelength, star.flux), resolving_power=star.power)
    assert np.isnan(found.reduced_chi2)
    for name in known.names:
        # noise measured from some thousand residuals
        assert found.errors[name] == pytest.approx(known.errors[name], rel=0.15)
        assert abs(found.values[name] - known.values[name]) < 0.5 * known.errors[name]


def test_air_wavelengths_are_converted_when_they_are_said_to_be_air(regressor, make_star):
    star = make_star()
    air = [vacuum_to_air(x) for x in star.wavelength]
    reference = regressor.infer(star.spectrum, resolving_power=star.power)
    result = regressor.infer((air, star.flux, star.error), resolving_power=star.power, medium="air")
    for name, value in reference.values.items():
        assert result.values[name] == pytest.approx(value, rel=1e-5, abs=1e-3)


def test_what_is_fixed_stays_and_helps(regressor, make_star):
    star = make_star()
    free = regressor.infer(star.spectrum, resolving_power=star.power)
    result = regressor.infer(star.spectrum, resolving_power=star.power, fixed={"logg": 4.4, "vsini": 9.0})
    assert (result.values["logg"], result.values["vsini"]) == (4.4, 9.0)
    assert (result.errors["logg"], result.errors["vsini"]) == (0, 0)
    assert result.errors["teff"] < free.errors["teff"]
    with pytest.raises(ValueError, match="`fixed` names 'age'"):
        regressor.infer(star.spectrum, resolving_power=star.power, fixed={"age": 1})
    with pytest.raises(ValueError, match="which is not within 4 to 5"):
        regressor.infer(star.spectrum, resolving_power=star.power, fixed={"logg": 2})


def test_a_prior_pulls(mini_generator, make_star):
    star = make_star(snr=20.0)
    plain = BayesianStellarRegressor.from_generator(mini_generator)
    free = plain.infer(star.spectrum, resolving_power=star.power)
    # a prior as wide as the data's own error, one of them off: half way between, error over the root of two
    sigma = free.noise_errors["logg"]
    prior = {"logg": (free.values["logg"] + sigma, sigma)}
    held = BayesianStellarRegressor.from_generator(mini_generator, priors=prior)
    result = held.infer(star.spectrum, resolving_power=star.power)
    assert (result.values["logg"] - free.values["logg"]) / sigma == pytest.approx(0.5, abs=0.1)
    assert result.noise_errors["logg"] / sigma == pytest.approx(np.sqrt(0.5), rel=0.1)


def test_a_prior_counts_against_the_quoted_errors(mini_generator, make_star):
    star = make_star(snr=1000)
    # lines that the model does not have, each order with its own: residuals go together, as those of real stars do
    rng = np.random.default_rng(2)
    for wavelength, flux in zip(star.wavelength, star.flux, strict=True):
        for center in rng.uniform(wavelength[0], wavelength[-1], 60):
            flux *= 1 - rng.uniform(0, 0.1) * np.exp(-0.5 * ((wavelength - center) / 0.15) ** 2)
    lines = {"line_errors": False}  # the inflation is what is tested
    free = BayesianStellarRegressor.from_generator(mini_generator, **lines)
    free = free.infer(star.spectrum, resolving_power=star.power)
    assert free.flags & InferenceFlag.POOR_FIT
    sigma = free.errors["logg"]
    assert sigma > 4 * 0.005  # of the noise alone
    mean = free.values["logg"] - 2 * sigma
    held = BayesianStellarRegressor.from_generator(mini_generator, priors={"logg": (mean, sigma / 4)}, **lines)
    result = held.infer(star.spectrum, resolving_power=star.power)
    # 1 / sigma^2 of the data and 16 / sigma^2 of the prior: the mean is off by 2 / 17, were the likelihood a Gaussian
    assert result.errors["logg"] == pytest.approx(sigma / np.sqrt(17), rel=0.2)
    assert result.values["logg"] - mean == pytest.approx(2 * sigma / 17, abs=0.12 * sigma)


@pytest.mark.parametrize(
    ("priors", "message"),
    [({"age": (1, 2)}, "names 'age'"), ({"logg": (4, 0)}, "positive standard deviation"), ({"logg": 4}, "finite mean")],
)
def test_bad_priors_are_refused(mini_generator, priors, message):
    with pytest.raises(ValueError, match=message):
        BayesianStellarRegressor.from_generator(mini_generator, priors=priors)


def test_a_telluric_transmission_is_taken_into_account(regressor, make_star):
    """Narrow telluric lines in front of the spectrograph, by code that is not the package's."""
    x = np.arange(8440.0, 8710.0, 0.002)
    air = x, 1 - 0.6 * np.exp(-0.5 * ((x % 9.0 - 4.5) / 0.04) ** 2)
    star = make_star(transmission=air)
    blind = regressor.infer(star.spectrum, resolving_power=star.power, line_errors=False)
    result = regressor.infer(star.spectrum, resolving_power=star.power, transmission=air)
    assert np.abs(star.off(result)).max() < LIMIT
    assert result.reduced_chi2 < 1.15
    assert blind.flags & (InferenceFlag.POOR_FIT | InferenceFlag.REJECTED_PIXELS)
    with pytest.raises(ValueError, match=r"needs a table \(wavelength, transmission\)"):
        regressor.infer(star.spectrum, resolving_power=star.power, transmission=star.flux[0])
    short = x[x < 8600], air[1][x < 8600]
    part = regressor.infer(star.spectrum, resolving_power=star.power, transmission=short)
    assert "pixels outside the range of Transmission masked" in part.messages[0]
    assert part.n_pixels < 0.7 * result.n_pixels


def test_jitter_makes_up_for_errors_that_are_too_small(regressor, make_star):
    star = make_star()
    small = [error / 3 for error in star.error]
    result = regressor.infer((star.wavelength, star.flux, small), resolving_power=star.power, jitter=True)
    # S/N 100: of 0.01, a ninth of the variance was stated
    assert result.jitter == pytest.approx(0.01 * np.sqrt(8 / 9), rel=0.1)
    assert not result.flags & InferenceFlag.POOR_FIT
    poor = regressor.infer((star.wavelength, star.flux, small), resolving_power=star.power)
    assert poor.flags & InferenceFlag.POOR_FIT
    # inflated by the root of the reduced chi-square, or by the scatter of 24 groups, known to 15 %, if that is larger
    assert 0.9 < poor.errors["teff"] / result.errors["teff"] < 1.5


@pytest.mark.slow
def test_many_stars_one_of_them_bad(regressor, make_star, tmp_path):
    star = make_star()
    bad = (star.wavelength, [flux * np.nan for flux in star.flux], star.error)
    spectra = [star.spectrum, bad, make_star(seed=1).spectrum]
    results = regressor.infer_many(spectra, resolving_power=star.power, verbose=False)
    assert [bool(result.flags & InferenceFlag.FAILED) for result in results] == [False, True, False]
    assert "masked" in results[1].messages[0]
    table = results_table(results, names=["a", "b", "c"])
    assert list(table["star"]) == ["a", "b", "c"]
    assert np.isnan(table["teff"][1])
    assert table["teff"][2] == results[2].values["teff"]
    units = results_table(results, names=["a", "b", "c"], kind="astropy")
    units.write(tmp_path / "stars.ecsv")
    units.write(tmp_path / "stars.fits")
    for name in ("stars.ecsv", "stars.fits"):
        again = Table.read(tmp_path / name)
        found = [str(again[column].unit) for column in ("teff", "teff_std", "logg", "rv")]
        assert found == ["K", "K", "None", "km / s"]
        np.testing.assert_array_equal(np.ma.filled(again["rv"], np.nan), table["rv"])
        assert list(again["flags"])[1] == "FAILED"
    assert units["logg"].description.endswith("in dex")
    assert units["logg_std"].description.startswith("standard deviation of the log10 of the surface gravity")
    with pytest.raises(ValueError, match="it needs 'pandas' or 'astropy'"):
        results_table(results, kind="polars")
    with_two = regressor.infer_many(spectra, resolving_power=star.power, n_jobs=2, verbose=False)
    for found, expected in zip(with_two[::2], results[::2], strict=True):
        assert found.values == pytest.approx(expected.values, rel=1e-9)  # other processes, other compiled kernels
    assert regressor.infer(spectra[0], resolving_power=star.power).values == results[0].values


def test_the_result_holds_the_model_on_the_pixels_of_the_data(regressor, make_star):
    star = make_star()
    result = regressor.infer(star.spectrum, resolving_power=star.power)
    for order, wavelength, flux, error in zip(result.orders, *star.spectrum, strict=True):
        np.testing.assert_array_equal(order.wavelength, wavelength)
        np.testing.assert_array_equal(order.flux, flux)
        scatter = np.nanstd(order.residual / error)
        assert scatter == pytest.approx(1, abs=0.12)
        # a continuum lies over the lines; between them a normalised spectrum may exceed one
        assert np.nanmax(order.model / order.continuum) < 1.01
        assert np.nanmin(order.model / order.continuum) < 0.8
    table = result.to_frame()
    assert list(table["unit"]) == ["K", "dex(cm/s2)", "dex", "km/s", "km/s"]
    assert "teff" in repr(result)


def test_intervals_and_draws_follow_the_covariance(regressor, make_star):
    star = make_star()
    result = regressor.infer(star.spectrum, resolving_power=star.power)
    draws = result.sample(4000, random_state=1)
    np.testing.assert_allclose(
        np.cov(draws.T) / np.outer(*[list(result.errors.values())] * 2), _correlation(result), atol=0.1
    )
    low, high = result.interval(0.68)["teff"]
    assert (high - low) / 2 == pytest.approx(result.errors["teff"], rel=0.08)
    np.testing.assert_array_equal(result.sample(5, random_state=3), result.sample(5, random_state=3))


def _correlation(result):
    std = np.sqrt(np.diag(result.covariance))
    return result.covariance / np.outer(std, std)


def test_warnings_are_not_needed(regressor, make_star):
    star = make_star()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regressor.infer(star.spectrum, resolving_power=star.power)


def test_a_spectrum_elsewhere_is_refused(regressor, make_star):
    star = make_star()
    with pytest.raises(WavelengthCoverageError, match="Check that"):
        regressor.infer(([x + 900 for x in star.wavelength], star.flux, star.error), resolving_power=star.power)


@pytest.mark.parametrize("suffix", ["asdf", "joblib"])
def test_a_saved_regressor_infers_the_same(regressor, make_star, tmp_path, suffix):
    from stellarhml import load, save

    star = make_star()
    save(regressor, tmp_path / f"r.{suffix}")
    again = load(tmp_path / f"r.{suffix}").infer(star.spectrum, resolving_power=star.power)
    assert again.values == regressor.infer(star.spectrum, resolving_power=star.power).values
    assert again.errors == regressor.infer(star.spectrum, resolving_power=star.power).errors


def test_the_continuum_is_as_free_as_asked_for(regressor, make_star, mini_generator):
    star = make_star(snr=200.0)
    # of a normalised spectrum, and with the true degree of the throughput
    flux = mini_generator.observe(
        star.labels[None], star.wavelength, resolving_power=star.power, rv=star.rv, vsini=star.vsini
    )
    error = [np.full(len(x), 0.005) for x in star.wavelength]
    bare = regressor.infer(
        (star.wavelength, [row[0] for row in flux], error), resolving_power=star.power, continuum_degree=None
    )
    # without noise: the tolerance of the fit
    assert bare.values["teff"] == pytest.approx(star.labels[0], abs=0.5)
    assert all(np.nanmax(order.continuum) == 1 for order in bare.orders)
    free = regressor.infer(star.spectrum, resolving_power=star.power, continuum_degree=2)
    assert np.abs(star.off(free)).max() < LIMIT
    stiff = regressor.infer(star.spectrum, resolving_power=star.power, continuum_degree=0)
    assert stiff.flags & InferenceFlag.POOR_FIT
    for wrong in (-1, "spline", 2.5):
        with pytest.raises(ValueError, match="`continuum_degree` is"):
            regressor.infer(star.spectrum, resolving_power=star.power, continuum_degree=wrong)


def test_a_fit_that_ends_at_the_edge_of_the_grid_tries_once_more(regressor, make_star, monkeypatch):
    """As where other parameters were far off when log g reached its bound, and it stayed."""
    star = make_star()
    settings = {"resolving_power": star.power, "line_errors": False}
    plain, whole, ended = regressor.infer(star.spectrum, **settings), star_fit.minimise, []

    def stuck(likelihood, starts, **options):
        solution = whole(likelihood, starts, **options)
        if options == {"max_evaluations": 60} and not ended:  # the first fit of all pixels
            values = likelihood.parameters.values(solution.variables) | {"logg": 4.0}
            at = likelihood.parameters.variables(values)
            cost = 0.5 * float(np.sum(likelihood.residuals(at) ** 2))
            ended.append(cost)
            return solution._replace(variables=at, cost=cost)
        return solution

    monkeypatch.setattr(star_fit, "minimise", stuck)
    found = regressor.infer(star.spectrum, **settings)
    assert ended
    assert found.values["logg"] == pytest.approx(plain.values["logg"], abs=1e-3)
    assert found.n_pixels == plain.n_pixels
