"""An observed spectrum beside the model at given parameters, fits that are followed, and fits in threads."""

import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from stellarhml.explore.comparison import SpectrumComparison
from stellarhml.explore.fit_jobs import STAGES, FitRunner, FitStoppedError

POWER = 30_000.0


@pytest.fixture(scope="module")
def star(regressor):
    """Two orders of a star with a continuum that is not flat."""
    generator = regressor.generator_
    first, last = generator.wavelength_[[0, -1]]
    middle = (first + last) / 2
    wavelengths = [np.linspace(first + 0.5, middle, 300), np.linspace(middle + 0.1, last - 0.5, 300)]
    labels = generator.interpolator_.bounds_.mean(axis=1)
    fluxes = generator.observe(labels[None], wavelengths, resolving_power=POWER, rv=5.0, vsini=8.0)
    rng = np.random.default_rng(1)
    levels = [np.linspace(2.0, 3.0, 300), np.linspace(5.0, 4.0, 300)]
    data = [level * (flux[0] + 0.005 * rng.normal(size=300)) for flux, level in zip(fluxes, levels, strict=True)]
    return labels, wavelengths, data, [0.005 * level for level in levels], levels


def test_comparison_at_a_result_is_that_of_the_result(regressor, star):
    _, *spectrum, _ = star
    result = regressor.infer(tuple(spectrum), resolving_power=POWER)
    values = [result.values[name] for name in regressor.generator_.label_names_]
    motion = {name: result.values[name] for name in ("rv", "vsini")}
    compared = SpectrumComparison(regressor.generator_, tuple(spectrum)).at(values, resolving_power=POWER, **motion)
    for i, order in enumerate(result.orders):
        both = np.isfinite(order.model) & np.isfinite(compared.orders[i].model)
        assert both.mean() > 0.95
        np.testing.assert_allclose(compared.orders[i].model[both], order.model[both], rtol=2e-3)
        np.testing.assert_array_equal(compared.orders[i].flux, order.flux)


def test_comparison_finds_the_continuum_and_the_noise(regressor, star):
    labels, wavelengths, data, errors, levels = star
    comparison = SpectrumComparison(regressor.generator_, (wavelengths, data, errors))
    compared = comparison.at(labels, rv=5.0, vsini=8.0, resolving_power=POWER)
    for order, level in zip(compared.orders.values(), levels, strict=True):
        known = np.isfinite(order.continuum)
        assert known.mean() > 0.98
        np.testing.assert_allclose(order.continuum[known], level[known], rtol=5e-3)
    assert compared.chi2 == pytest.approx(1.0, abs=0.15)
    assert 590 <= compared.n_pixels <= 600
    # where the file has no errors the noise is estimated, and there is no chi-square
    mute = SpectrumComparison(regressor.generator_, (wavelengths, data)).at(
        labels, rv=5.0, vsini=8.0, resolving_power=POWER
    )
    assert np.isnan(mute.chi2)
    assert mute.n_pixels > 500
    moved = comparison.at(labels, rv=60.0, vsini=8.0, resolving_power=POWER)
    assert moved.chi2 > 5
    one = comparison.at(labels, rv=5.0, vsini=8.0, resolving_power=POWER, orders=[1])
    assert list(one.orders) == [1]
    np.testing.assert_allclose(one.orders[1].model, compared.orders[1].model, rtol=1e-5)
    assert comparison.orders_in((wavelengths[1][5], wavelengths[1][9])) == [1]
    assert comparison.at(labels, orders=[]).n_pixels == 0


def test_comparison_beyond_the_band_has_no_model(regressor, star):
    labels, wavelengths, data, errors, _ = star
    far = [wavelengths[0], wavelengths[1] + 5000.0]
    compared = SpectrumComparison(regressor.generator_, (far, data, errors)).at(labels, rv=5.0, resolving_power=POWER)
    assert np.isfinite(compared.orders[0].model).any()
    assert np.isnan(compared.orders[1].model).all()
    alone = SpectrumComparison(regressor.generator_, (far[1:], data[1:], errors[1:])).at(labels, resolving_power=POWER)
    assert np.isnan(alone.chi2)


def test_drawn_orders_have_gaps_between(regressor, star):
    labels, wavelengths, data, errors, _ = star
    errors = [errors[0].copy(), errors[1]]
    errors[0][100:120] = np.inf
    compared = SpectrumComparison(regressor.generator_, (wavelengths, data, errors)).at(labels, resolving_power=POWER)
    drawn, residuals, noise, air = compared.thinned((0.0, 1e9), 1000)
    assert air.shape == (2, 0)  # no atmosphere
    assert drawn.shape == residuals.shape == noise.shape == (2, 602)
    assert np.isnan(drawn[0]).sum() == 2
    assert np.isnan(drawn[1, 100:120]).all()
    assert np.isnan(drawn[1]).sum() < 30
    order = compared.orders[1]
    np.testing.assert_allclose((drawn - residuals)[1, 301:601], order.model / order.continuum)
    few, *_ = compared.thinned((wavelengths[0][10], wavelengths[0][19]), 1000)
    assert few.shape == (2, 11 + 1)
    assert len(compared.table()) == 600


def test_callback_follows_a_fit_and_changes_nothing(regressor, star):
    _, *spectrum, _ = star
    seen = []
    followed = regressor.infer(tuple(spectrum), resolving_power=POWER, callback=lambda *progress: seen.append(progress))
    alone = regressor.infer(tuple(spectrum), resolving_power=POWER)
    assert followed.values == alone.values
    assert [n for _, n in seen] == list(range(len(seen)))
    places = [STAGES.index(stage) for stage, _ in seen]
    assert places == sorted(places)
    assert seen[-1][0] == "errors"


def test_a_fit_runs_on_one_thread(regressor, star):
    _, *spectrum, _ = star
    seen = []

    def count(stage, n):
        seen.append([pool["num_threads"] for pool in threadpool_info()] if n == 3 else [])

    regressor.infer(tuple(spectrum), resolving_power=POWER, callback=count)
    assert seen[3]
    assert set(seen[3]) == {1}


def test_callback_stops_a_fit(regressor, star):
    _, *spectrum, _ = star

    def stop(stage, n):
        if n == 5:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        regressor.infer(tuple(spectrum), resolving_power=POWER, callback=stop)


def wait(job):
    end = time.monotonic() + 60
    while not job.done and time.monotonic() < end:
        time.sleep(0.01)
    return job


def test_fits_in_threads_do_not_disturb_each_other(regressor, star):
    _, wavelengths, data, errors, _ = star
    runner = FitRunner(regressor.generator_)
    other = [flux[::-1].copy() for flux in data]
    jobs = [
        runner.start("star", (wavelengths, data, errors), resolving_power=POWER),
        runner.start("none", (wavelengths, other, errors), resolving_power=POWER),
        runner.start("star", (wavelengths, data, errors), resolving_power=POWER),
    ]
    for job in jobs:
        wait(job)
    alone = regressor.infer((wavelengths, data, errors), resolving_power=POWER)
    assert jobs[0].result.values == jobs[2].result.values == alone.values
    assert jobs[1].result.values != alone.values
    assert jobs[0].n_evaluations == alone.n_evaluations


def test_fit_in_a_thread_that_is_stopped_or_fails(regressor, star):
    _, wavelengths, data, errors, _ = star
    runner = FitRunner(regressor.generator_)
    job = runner.start("star", (wavelengths, data, errors), resolving_power=POWER)
    job.stop()
    assert isinstance(wait(job).error, FitStoppedError)
    assert job.result is None
    wrong = wait(runner.start("star", (wavelengths, data, errors), resolving_power=-1.0))
    assert "resolving_power" in str(wrong.error)
