"""A second star, spots and veiling: packaged spectra, mixed and observed by independent code."""

import numpy as np
import pytest
from mock_star import Star, between_nodes, observe

from stellarhml import BayesianStellarRegressor
from stellarhml.datasets import load_mini_grid
from stellarhml.flags import InferenceFlag
from stellarhml.forward.blends import Companion, Spots
from stellarhml.inference import results_table, second_component
from stellarhml.inference.second_component import WORTH, _exchanged

POWER, NARROW = 40_000, {"rv_2": (-100.0, 100.0)}
PAIR = {"rv": 30.0, "rv_2": -15.0, "flux_ratio": 0.5, "vsini": 6.0, "vsini_2": 4.0}


def raw(labels):
    """Physical flux of a packaged spectrum, and its wavelengths."""
    grid = load_mini_grid()
    every = zip([*grid.labels, *grid.labels_offgrid], [*grid.flux, *grid.flux_offgrid], strict=True)
    return grid.wavelength, next(flux for label, flux in every if np.allclose(label, labels)).astype(float)


def noisy(rows, seed, snr=100.0):
    """Orders of Star with throughput and noise."""
    rng, flux, error = np.random.default_rng(seed), [], []
    for row in rows:
        level = 300 * (1 - 0.3 * np.linspace(-1, 1, len(row)) ** 2)
        error.append(level / snr)
        flux.append(level * row / np.percentile(row, 99) + rng.normal(size=len(row)) * level / snr)
    return [pixels.copy() for pixels in Star.pixels], flux, error


@pytest.fixture(scope="module")
def pair():
    """Two stars between nodes, and the values that a fit should find."""
    first, second = between_nodes()[3], between_nodes()[2]
    (wavelength, one), (_, two) = raw(first), raw(second)
    at = np.abs(wavelength - wavelength[[0, -1]].mean()) < 60
    two *= PAIR["flux_ratio"] * np.percentile(one[at], 99) / np.percentile(two[at], 99)
    rows = [
        observe(wavelength, one, pixels, rv=PAIR["rv"], vsini=PAIR["vsini"], resolving_power=POWER)
        + observe(wavelength, two, pixels, rv=PAIR["rv_2"], vsini=PAIR["vsini_2"], resolving_power=POWER)
        for pixels in Star.pixels
    ]
    names = ("teff", "logg", "feh")
    labels = dict(zip(names, first, strict=True)) | dict(zip((f"{n}_2" for n in names), second, strict=True))
    return noisy(rows, 1), labels | PAIR


@pytest.fixture(scope="module")
def lone(regressor):
    """A single star, its fit, and the fit that looks for a second star."""
    star = Star(seed=3).spectrum
    return star, regressor.infer(star, resolving_power=POWER)


def test_a_pair_is_found_with_its_errors(regressor, pair):
    spectrum, truth = pair
    result = regressor.infer(spectrum, resolving_power=POWER, companion={"tied": (), "bounds": NARROW})
    assert result.log_evidence > 100
    assert set(truth) == set(result.names)
    for name, value in truth.items():
        assert abs(result.values[name] - value) < 4 * result.errors[name], name
    # the continuum of the pair is taken as a percentile here: good to one percent
    assert result.errors["flux_ratio"] < 0.1
    assert result.errors["rv_2"] < 0.5
    alone = regressor.infer(spectrum, resolving_power=POWER, line_errors=False)
    assert alone.reduced_chi2 > result.reduced_chi2 + 0.5
    row = results_table([result, alone])
    assert row.columns.tolist().index("log_evidence") == row.columns.tolist().index("reduced_chi2") - 1
    assert np.isnan(row["log_evidence"][1])


def test_stars_of_one_cloud(regressor):
    """A prior of the difference of [Fe/H] brings the two together, and makes the errors of both smaller."""
    generator, light = regressor.generator_, {"resolving_power": POWER, "vsini": 5.0}
    stars = ([5500.0, 4.35, -0.2], 30.0), ([5200.0, 4.45, -0.2], -20.0)
    rows = zip(*(generator.observe([labels], Star.pixels, rv=rv, **light) for labels, rv in stars), strict=True)
    spectrum = noisy([a[0] + 0.6 * b[0] for a, b in rows], 2)
    settings = {"resolving_power": POWER, "components": 2, "line_errors": False}
    free = regressor.infer(spectrum, companion={"tied": (), "bounds": NARROW}, **settings)
    near = regressor.infer(spectrum, companion={"alike": {"feh": 0.01}, "bounds": NARROW}, **settings)
    for result in (free, near):
        assert abs(result.values["feh"] + 0.2) < 4 * result.errors["feh"]
        i, k = (result.names.index(name) for name in ("feh", "feh_2"))
        difference = result.covariance[i, i] + result.covariance[k, k] - 2 * result.covariance[i, k]
        # the generator's error at both labels is independent, and not the prior's to reduce
        assert (np.sqrt(difference) < 0.03) == (result is near)
    assert abs(near.values["feh_2"] - near.values["feh"]) < 0.02
    assert near.errors["feh"] < 0.9 * free.errors["feh"]
    assert near.errors["feh_2"] < 0.6 * free.errors["feh_2"]


def test_a_pair_with_wavelengths_that_may_be_off(regressor, pair):
    spectrum, truth = pair
    settings = {"resolving_power": POWER, "companion": {"bounds": NARROW}, "fixed": {"teff_2": truth["teff_2"]}}
    result = regressor.infer(spectrum, wavelength_error=0.2, resolving_power_error=0.05, **settings)
    assert result.log_evidence > 100
    assert result.errors["rv"] > regressor.infer(spectrum, **settings).errors["rv"]


@pytest.mark.parametrize("known", [{"fixed": {"rv_2": -15.0}}, {"companion": {"bounds": {"rv_2": (-17.0, -14.0)}}}])
def test_a_velocity_that_is_known(regressor, pair, known):
    """From an orbit, better than a pixel of the templates."""
    settings = {"companion": {"bounds": NARROW}} | known
    result = regressor.infer(pair[0], resolving_power=POWER, **settings)
    assert result.log_evidence > 100
    assert abs(result.values["rv_2"] + 15.0) < max(4 * result.errors["rv_2"], 1e-9)


def test_a_poor_fit_of_one_star_is_no_evidence_of_two(regressor, lone, monkeypatch):
    """The fit of one star ends far from its minimum; that from the first of the two does not."""
    star, plain = lone
    whole, costs = second_component.minimise, []

    def stuck(likelihood, starts, **options):
        solution = whole(likelihood, starts, **options)
        costs.append(solution.cost)
        return solution._replace(cost=solution.cost + 1000) if len(costs) == 1 else solution

    monkeypatch.setattr(second_component, "minimise", stuck)
    result = regressor.infer(star, resolving_power=POWER, companion={"bounds": NARROW})
    assert result.log_evidence < 0
    assert result.values["teff"] == pytest.approx(plain.values["teff"], abs=1.0)


def test_stars_that_are_alike_have_the_same_errors(regressor):
    """Two stars of the same labels, light and rotation, far apart in velocity: neither is better known."""
    generator, labels = regressor.generator_, [5400.0, 4.35, -0.2]
    light = {"resolving_power": POWER, "vsini": 5.0}
    rows = zip(*(generator.observe([labels], Star.pixels, rv=rv, **light) for rv in (40.0, -40.0)), strict=True)
    flux = [a[0] + b[0] for a, b in rows]
    error = [row / 300 for row in flux]
    settings = {"companion": {"tied": (), "bounds": NARROW}, "fixed": {"flux_ratio": 1.0}}
    result = regressor.infer((Star.pixels, flux, error), resolving_power=POWER, **settings)
    budget = result.error_budget()
    for part in ("noise", "generator"):
        for name in ("teff", "logg", "feh", "rv"):
            assert budget.loc[f"{name}_2", part] == pytest.approx(budget.loc[name, part], rel=0.3), (part, name)


def test_starts_of_a_pair_have_its_velocities(regressor, pair):
    (wavelengths, fluxes, errors), _ = pair
    orders = [
        (np.log(x), 1 - flux / (300 * (1 - 0.3 * np.linspace(-1, 1, len(x)) ** 2)), np.ones(len(x)))
        for x, flux, _ in zip(wavelengths, fluxes, errors, strict=True)
    ]
    found = regressor.node_spectra_.templates.find_pairs(orders, 20.0, (-100.0, 100.0), 3)
    assert len(found) == 3
    # a pixel of the templates has 8 km/s
    np.testing.assert_allclose(found[0].rv, [PAIR["rv"], PAIR["rv_2"]], atol=8.0)
    assert 0.2 < found[0].ratio <= 1


def test_a_star_alone_keeps_its_result(regressor, lone):
    star, plain = lone
    result = regressor.infer(star, resolving_power=POWER, companion={"bounds": NARROW})
    assert result.names == plain.names
    assert result.log_evidence < 0
    assert "left out" in result.messages[-1]
    assert result.values == plain.values
    assert result.errors == plain.errors
    one = regressor.infer(star, resolving_power=POWER, spots=True, components=1)
    assert one.values == plain.values
    assert one.log_evidence is None


def test_a_second_component_that_the_data_do_not_show_is_said(regressor, lone):
    star, plain = lone
    result = regressor.infer(star, resolving_power=POWER, spots=True, components=2)
    assert {"teff_spot", "f_spot"} <= set(result.names)
    assert result.log_evidence < WORTH
    assert result.flags & InferenceFlag.SECOND_IN_DOUBT
    assert not result.good
    assert result.values["teff_spot"] <= result.values["teff"]
    assert result.errors["teff"] > plain.errors["teff"]


@pytest.mark.slow
def test_spots_are_found_with_their_errors(regressor):
    off = []
    for seed, filling in enumerate((0.25, 0.4, 0.55)):
        wavelength, one = raw([5900.0, 4.5, 0.0])
        two = raw([5100.0, 4.5, 0.0])[1]
        flux = (1 - filling) * one + filling * two
        rows = [observe(wavelength, flux, pixels, rv=12.0, vsini=6.0, resolving_power=POWER) for pixels in Star.pixels]
        result = regressor.infer(noisy(rows, seed, snr=300.0), resolving_power=POWER, spots=True)
        assert result.log_evidence > WORTH
        truth = {"teff": 5900.0, "logg": 4.5, "feh": 0.0, "teff_spot": 5100.0, "f_spot": filling}
        off += [(result.values[name] - value) / result.errors[name] for name, value in truth.items()]
    assert np.abs(off).max() < 3.5


def test_a_veiled_star(regressor):
    star = Star(seed=5, snr=200.0)
    level = [
        (300 + 100 * k) * (1 - 0.3 * t**2 + 0.05 * t)
        for k, t in enumerate(np.linspace(-1, 1, len(flux)) for flux in star.flux)
    ]
    veiled = [(flux + 0.3 * one) / 1.3 for flux, one in zip(star.flux, level, strict=True)]
    settings = {"resolving_power": POWER, "fixed": {"logg": star.labels[1]}}
    result = regressor.infer((star.wavelength, veiled, [e / 1.3 for e in star.error]), veiling=True, **settings)
    # the level of a packaged star is its 99th percentile, 1 % from the generator's continuum
    assert abs(result.values["veiling"] - 0.3) < 0.03 + 3 * result.errors["veiling"]
    assert result.log_evidence is None
    assert result.line_faults is None
    steep = BayesianStellarRegressor.from_generator(regressor.generator_, bounds={"veiling_slope": (4, 5)})
    wrong = steep.infer((star.wavelength, veiled, [e / 1.3 for e in star.error]), veiling="sloped", **settings)
    assert "veiling_slope at a bound" in "; ".join(wrong.messages)


def test_the_slope_of_a_veiling_that_is_not_there(regressor):
    """It means nothing, and raises no flag at its bound."""
    star = Star(seed=2)
    settings = {"resolving_power": POWER, "veiling": "sloped"}
    result = regressor.infer(star.spectrum, fixed={"logg": star.labels[1]}, **settings)
    assert result.values["veiling"] < 3 * result.errors["veiling"]
    assert abs(result.values["veiling_slope"]) > 4.99
    assert not result.flags & InferenceFlag.AT_BOUND


def test_photosphere_and_spots_exchanged_are_the_same_star():
    values = {"teff": 5000.0, "teff_spot": 5600.0, "f_spot": 0.7, "rv": 3.0}
    assert _exchanged(values) == {"teff": 5600.0, "teff_spot": 5000.0, "f_spot": pytest.approx(0.3), "rv": 3.0}


def test_arguments_are_checked_before_the_fit(regressor, lone):
    star, _ = lone
    for settings, message in (
        ({"companion": True, "spots": True}, "two photospheres at a time"),
        ({"companion": True, "line_errors": True}, "`line_errors` is True, but with a companion"),
        ({"companion": True, "components": 3}, "`components` is 3; it needs 'auto', 1 or 2"),
        ({"companion": {"mass": 1.0}}, "`companion` has parameters that Companion does not know"),
        ({"spots": "many"}, "`spots` is 'many'; it needs True, a dictionary"),
        ({"companion": {"bounds": NARROW}, "fixed": {"teff_2": 9000.0}}, "`fixed` sets 'teff_2' to 9000"),
        ({"companion": True}, r"None of the \d+ good pixels lies within the range of Companion"),
    ):
        spectrum = star if "range" not in message else tuple([part[0][:40]] for part in star)
        with pytest.raises(ValueError, match=message):
            regressor.infer(spectrum, resolving_power=POWER, **settings)


def test_failed_stars_have_the_columns_of_what_was_asked_for(regressor):
    settings = {"resolving_power": POWER, "components": 2, "veiling": "sloped"}
    (failed,) = regressor.infer_many([([8500.0], [1.0])], companion={"tied": ()}, **settings)
    assert failed.flags & InferenceFlag.FAILED
    assert {"flux_ratio", "teff_2", "logg_2", "feh_2", "rv_2", "vsini_2", "veiling", "veiling_slope"} <= set(
        failed.names
    )


def test_stages_may_be_given_as_such(regressor):
    generator = regressor.generator_
    settings = regressor._fit_settings(
        spots=Spots(generator, bounds={"f_spot": (0.0, 0.5)}), macroturbulence="gaussian"
    )
    assert [type(stage).__name__ for stage in settings.stages] == ["Spots", "Macroturbulence"]
    assert settings.second is settings.stages[0]
    companion = Companion(generator)
    settings = regressor._fit_settings(companion=companion, veiling=True)
    assert [type(stage).__name__ for stage in settings.stages] == ["Companion", "Veiling"]
    assert settings.second is companion
    # with veiling, lines are those of the grid even if the star turns out to be alone
    assert settings.lines is None
    assert regressor._fit_settings(companion=companion).lines is not None
