"""Sampled posteriors beside the Gaussian one."""

import numpy as np
import pytest

from stellarhml import BayesianStellarRegressor
from stellarhml.flags import InferenceFlag
from stellarhml.inference._inference_result import draw_within


@pytest.fixture
def window(make_star):
    """One short order, of which a sampler can evaluate many models."""
    star = make_star(snr=60.0)
    use = (star.wavelength[0] > 8490) & (star.wavelength[0] < 8512)
    return tuple(part[0][use] for part in star.spectrum)


@pytest.mark.parametrize("method", ["emcee", "dynesty"])
@pytest.mark.slow
def test_samplers_agree_with_the_gaussian(regressor, window, method):
    pytest.importorskip(method)
    known = {"logg": 4.4, "feh": -0.2}
    gauss = regressor.infer(window, resolving_power=40_000, fixed=known)
    result = regressor.infer(
        window, resolving_power=40_000, fixed=known, posterior=method, n_draws=1500, random_state=0
    )
    assert result.diagnostics["method"] == method
    assert result.diagnostics["converged"]
    assert result.draws.shape == (1500, 5)
    for name in ("teff", "rv", "vsini"):
        assert result.errors[name] == pytest.approx(gauss.errors[name], rel=0.2)
        low, high = result.interval(0.68)[name]
        assert abs(0.5 * (low + high) - gauss.values[name]) < 0.3 * gauss.errors[name]
    assert np.all(result.draws[:, 1] == 4.4)
    assert result.errors["logg"] == 0
    if method == "emcee":
        assert result.diagnostics["split_r_hat"] < 1.05
        assert 0.1 < result.diagnostics["acceptance"] < 0.9


@pytest.mark.slow
def test_shifts_of_orders_are_sampled_and_left_out(regressor, window):
    pytest.importorskip("emcee")
    settings = {"resolving_power": 40_000, "fixed": {"logg": 4.4, "feh": -0.2}, "wavelength_error": 0.5}
    gauss = regressor.infer(window, **settings)
    result = regressor.infer(window, posterior="emcee", n_draws=1500, random_state=0, **settings)
    assert result.draws.shape == (1500, 5)
    assert gauss.errors["rv"] > 0.5
    for name in ("teff", "rv", "vsini"):
        assert result.errors[name] == pytest.approx(gauss.errors[name], rel=0.2)


def test_what_is_fixed_has_no_error_after_sampling(regressor, window, monkeypatch):
    def sampler(log_density, at, width, limits, n_draws, seed):
        rng = np.random.default_rng(seed)
        return np.clip(at + 0.1 * width * rng.normal(size=(n_draws, len(at))), *limits.T), {"converged": True}

    # fixed at numbers whose mean over the draws is rounded
    monkeypatch.setattr("stellarhml.inference.posterior._by_emcee", sampler)
    known = {"logg": 4.4, "feh": -0.2}
    result = regressor.infer(window, resolving_power=40_000, fixed=known, posterior="emcee", n_draws=1500)
    free = np.array([name not in known for name in result.names])
    assert [result.errors[name] for name in known] == [0, 0]
    assert np.all(result.covariance[~free] == 0)
    assert np.all(np.diag(result.covariance)[free] > 0)
    assert result.errors["teff"] == pytest.approx(result.draws[:, 0].std(ddof=1))


def test_an_unknown_sampler_is_refused(regressor, window):
    with pytest.raises(ValueError, match="it needs 'laplace', 'emcee' or 'dynesty'"):
        regressor.infer(window, resolving_power=40_000, posterior="metropolis")


def test_a_sampler_that_is_not_installed(regressor, window, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "emcee", None)
    with pytest.raises(ImportError, match=r"pip install \"stellarhml\[samplers\]\""):
        regressor.infer(window, resolving_power=40_000, posterior="emcee")


def test_draws_within_bounds():
    rng = np.random.default_rng(0)
    covariance = np.array([[1.0, 0.5, 0], [0.5, 1.0, 0], [0, 0, np.inf]])
    bounds = np.array([[0.0, 9], [-9, 9], [2, 3]])
    draws = draw_within(rng, np.array([0.0, 0.0, 2.5]), covariance, bounds, 4000)
    assert np.all((draws >= bounds[:, 0]) & (draws <= bounds[:, 1]))
    # half a Gaussian has the mean sqrt(2 / pi), and pulls the other along by the correlation
    assert draws[:, 0].mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.05)
    assert draws[:, 1].mean() == pytest.approx(0.5 * np.sqrt(2 / np.pi), abs=0.06)
    assert draws[:, 2].std() == pytest.approx(np.sqrt(1 / 12), rel=0.1)


def test_what_is_sampled_is_as_wide_as_the_quoted_errors(mini_generator, make_star, monkeypatch):
    star = make_star(snr=1000)
    # lines that the model does not have: errors are inflated by the scatter of the residuals
    rng = np.random.default_rng(2)
    for wavelength, flux in zip(star.wavelength, star.flux, strict=True):
        for center in rng.uniform(wavelength[0], wavelength[-1], 60):
            flux *= 1 - rng.uniform(0, 0.1) * np.exp(-0.5 * ((wavelength - center) / 0.15) ** 2)
    drops = []

    def sampler(log_density, at, width, limits, n_draws, seed):
        there = log_density(at)
        drops.extend(there - log_density(at + step * width) for step in (-1, 1))
        return np.tile(at, (n_draws, 1)), {"converged": True}

    monkeypatch.setattr("stellarhml.inference.posterior._by_emcee", sampler)
    known = {"logg": 4.4, "feh": -0.2, "rv": 33.0, "vsini": 9.0}
    sigma = BayesianStellarRegressor.from_generator(mini_generator).infer(
        star.spectrum, resolving_power=star.power, fixed=known
    )
    mean, std = sigma.values["teff"], sigma.noise_errors["teff"]
    for priors in (None, {"teff": (mean, std)}):
        drops.clear()
        regressor = BayesianStellarRegressor.from_generator(mini_generator, priors=priors)
        result = regressor.infer(star.spectrum, resolving_power=star.power, fixed=known, posterior="emcee", n_draws=5)
        assert result.flags & InferenceFlag.POOR_FIT
        # a step of one standard deviation to either side of a Gaussian
        assert np.mean(drops) == pytest.approx(0.5, rel=0.25)
