"""Which of several generators a star belongs to: the packaged grid cut in two, and stars that neither has seen."""

import numpy as np
import pytest
from mock_star import Star, between_nodes, packaged

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid
from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.flags import InferenceFlag
from stellarhml.inference import infer_best, infer_best_each, results_table
from stellarhml.inference.best_generator import _choose, _compare, _fit, _in_common, _sorted
from stellarhml.inference.trial_fit import Outcome

POWER = 40_000
PLAIN = {"resolving_power": POWER, "line_errors": False}


def make_regressor(chosen, names=("teff", "logg", "feh")):
    grid = load_mini_grid()
    rows = chosen(*grid.labels.T)
    columns = [grid.label_names.index(name) for name in names]
    scale = PhoenixPreprocessor(degree=2, peak_distance=1667)
    generator = SpectrumGenerator(wavelength=grid.wavelength[::3], preprocessor=scale, label_names=names)
    return BayesianStellarRegressor.from_generator(generator.fit(grid.labels[rows][:, columns], grid.flux[rows, ::3]))


@pytest.fixture(scope="module")
def two():
    """Generators of 5000 to 5500 K and of 5400 to 6000 K."""
    return {
        "cool": make_regressor(lambda teff, logg, feh: teff <= 5500),
        "hot": make_regressor(lambda teff, logg, feh: teff >= 5400),
    }


@pytest.mark.parametrize(("number", "name"), [(0, "cool"), (1, "hot"), (3, "hot"), (4, "hot"), (5, "hot")])
def test_a_star_of_one_grid_is_fitted_with_it(two, number, name):
    star = Star(labels=tuple(between_nodes()[number]), seed=number)
    result = infer_best(two, star.spectrum, **PLAIN)
    assert result.generator_name == name
    assert result.generator_margin > 50
    assert f"generator {name}: ln evidence +{result.generator_margin:.1f} over" in result.messages[-1]
    assert not result.flags & InferenceFlag.NO_GRID_FITS
    assert np.abs(star.off(result)).max() < 4.5
    trials = result.generator_trials.set_index("generator_name")
    assert trials["ln_evidence"].max() == 0 == trials["ln_evidence"][name]
    assert trials["ln_evidence"].min() == -result.generator_margin
    assert trials["reduced_chi2"][name] == trials["reduced_chi2"].min() < 1.1
    assert trials["n_compared"].nunique() == 1
    # the same as with this generator alone
    alone = two[name].infer(star.spectrum, **PLAIN)
    assert alone.values == result.values
    assert alone.generator_name is None
    assert "generator_name" not in alone.to_row()


def test_both_fit_where_they_overlap(two):
    star = Star(labels=tuple(between_nodes()[2]), seed=2)
    result = infer_best(two, star.spectrum, **PLAIN)
    assert 0 <= result.generator_margin < 10
    assert "less than 10: both fit" in result.messages[-1]
    assert np.abs(star.off(result)).max() < 4.5
    assert result.good
    other = infer_best(dict(reversed(two.items())), star.spectrum, **PLAIN)
    assert (other.generator_name, other.values) == (result.generator_name, result.values)


@pytest.mark.parametrize(("teff", "outside"), [(5400.0, False), (6000.0, True)])
def test_a_star_outside_all_is_said(two, teff, outside):
    cool, hot = (two[name].generator_ for name in ("cool", "hot"))
    narrow = {
        "coolest": BayesianStellarRegressor.from_generator(cool, bounds={"teff": (5000, 5300)}),
        "cool": BayesianStellarRegressor.from_generator(hot, bounds={"teff": (5400, 5500)}),
    }
    result = infer_best(narrow, Star(labels=(teff, 4.5, 0.0), seed=5).spectrum, **PLAIN)
    assert bool(result.flags & InferenceFlag.NO_GRID_FITS) == outside
    assert outside == any("the star lies beyond the edge of the best grid in teff" in m for m in result.messages)
    if outside:
        assert result.status == "flagged"
        assert result.generator_name == "cool"


def test_other_physics_is_not_outside(two):
    """Lines as wrong as in real stars: each up to 40 % stronger or weaker, reduced chi-square 2 to 5."""
    wavelength, flux = packaged()
    labels = tuple(between_nodes()[5])
    rng = np.random.default_rng(0)
    knots = np.linspace(wavelength[0], wavelength[-1], 500)
    strength = np.interp(wavelength, knots, rng.uniform(0.6, 1.4, len(knots)))
    star = Star(labels=labels, model=(wavelength, np.clip(flux[labels], 0.02, None) ** strength), seed=1)
    result = infer_best(two, star.spectrum, **PLAIN)
    assert result.generator_name == "hot"
    assert 2 < result.generator_trials["reduced_chi2"].min() < 5
    assert not result.flags & InferenceFlag.NO_GRID_FITS


def test_lines_that_are_not_those_of_a_star(two):
    """A star whose lines are at other wavelengths, which no label explains."""
    wavelength, flux = packaged()
    labels = tuple(between_nodes()[5])
    star = Star(labels=labels, model=(wavelength, flux[labels][::-1]), seed=1)
    result = infer_best(two, star.spectrum, **PLAIN)
    assert result.flags & InferenceFlag.NO_GRID_FITS
    assert any("% of the lines' signal" in m or "beyond the edge" in m for m in result.messages)


def test_generators_that_do_not_cover_the_star_are_named(two, generator):
    toy = BayesianStellarRegressor.from_generator(generator)
    star = Star(labels=tuple(between_nodes()[0])).spectrum
    result = infer_best({"toy": toy, **two}, star, **PLAIN)
    assert result.generator_name == "cool"
    (message,) = [m for m in result.messages if "generator toy not tried: it covers" in m]
    assert "good pixels" in message
    alone = infer_best([two["cool"]], star, **PLAIN)
    assert (alone.generator_name, alone.generator_margin) == ("0", None)
    assert np.isnan(alone.to_row()["generator_margin"])
    far = [x + 5000 for x in star[0]], *star[1:]
    with pytest.raises(
        WavelengthCoverageError, match=r"None of 2 generators covers the star\. cool: its band, 8450\.\d+ to"
    ):
        infer_best(two, far, **PLAIN)


def test_labels_may_differ(two):
    fixed = make_regressor(lambda teff, logg, feh: logg == 4.5, ("teff", "feh"))
    regressors = {"dwarfs": fixed, **two}
    stars = [Star(labels=tuple(between_nodes()[4])).spectrum, Star(labels=(5700.0, 4.5, 0.0)).spectrum]
    results = list(infer_best_each(regressors, [*stars, ([8500.0], [1.0])], **PLAIN))
    table = results_table(results, status=True)
    assert table["generator_name"].iloc[:2].tolist() == ["hot", "dwarfs"]  # one parameter fewer
    assert table["status"].iloc[2] == "failed"
    assert table["logg"].isna().tolist() == [False, True, True]
    assert {"teff", "feh", "logg", "generator_margin"} <= set(table.columns)
    place = table.columns.get_loc("generator_name")
    assert table.columns[place + 1 : place + 3].tolist() == ["generator_margin", "reduced_chi2"]
    units = results_table(results, kind="astropy")
    assert "highest of the others" in units["generator_margin"].description


def test_pixels_that_all_would_clip_do_not_count(two):
    star = Star(labels=tuple(between_nodes()[2]), seed=2)
    before = infer_best(two, star.spectrum, **PLAIN)
    low = np.arange(100, 1400, 100)
    star.flux[0][low] -= 20 * star.error[0][low]
    after = infer_best(two, star.spectrum, **PLAIN)
    counts = [result.generator_trials["n_compared"].iloc[0] for result in (before, after)]
    assert counts[0] - counts[1] == pytest.approx(len(low), abs=3)
    assert after.generator_trials["reduced_chi2"].max() < 1.1
    assert after.generator_margin < 10


def test_pixels_that_one_alone_would_clip_are_evidence():
    class Trial:
        def __init__(self, *accepted):
            self.accepted, self.kept = lambda: [np.array(accepted)], []
            self.choose_runs = self.fit = lambda: None

        def keep(self, pixels):
            self.kept.append(pixels[0].tolist())

        def outcome(self):
            return self.kept

    outcomes = _fit({"a": Trial(True, True, False), "b": Trial(False, True, False)}, [np.ones(3, dtype=bool)])
    assert outcomes == {name: [[True, True, True], [True, True, False]] for name in "ab"}


def test_the_generators_own_error_is_in_the_variance(two):
    star = Star(labels=tuple(between_nodes()[5]), snr=3000.0).spectrum
    without = {
        name: BayesianStellarRegressor.from_generator(one.generator_, generator_error=False)
        for name, one in two.items()
    }
    reduced = [_choose(each, star, PLAIN).table["reduced_chi2"].min() for each in (two, without)]
    assert reduced[0] < 1.1 < 1.3 < reduced[1]


def test_of_those_that_fit_one_with_the_star_inside_its_grid_is_taken():
    class Trial:
        def __init__(self, at_bound):
            self.bound_flags = lambda: [1] if at_bound else []

    def order(evidence, at_bound):
        trials = {name: Trial(name in at_bound) for name in evidence}
        return "".join(_sorted(trials, evidence, list("abcd")))

    evidence = {"d": 5.0, "c": 9.0, "b": -2.0, "a": 5.0}
    assert order(evidence, "") == "cadb"
    assert order(evidence, "c") == "acdb"
    assert order(evidence, "ca") == "dcab"
    assert order(evidence, "cad") == "cadb"  # b is too far


def test_the_evidence_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    residuals, variances = rng.normal(scale=2.0, size=(2, 50)), rng.uniform(0.5, 2.0, size=(2, 50))
    residuals[0, 3], residuals[1, 7] = np.nan, np.nan
    outcomes = {
        k: Outcome(residuals[k], np.zeros(50), variances[k], prior=0.3 * k, n_free=5 - k, n_terms=4) for k in (0, 1)
    }
    evidence, reduced = _compare(outcomes)
    there = np.isfinite(residuals).all(axis=0)
    assert there.sum() == 48
    for k in (0, 1):
        assert reduced[k] == pytest.approx(np.sum(residuals[k, there] ** 2) / (48 - 4 - (5 - k)))
    scale = min(reduced.values())
    assert scale > 2
    gaussian = [np.sum(-0.5 * (residuals[k] ** 2 / scale + np.log(variances[k]))[there]) for k in (0, 1)]
    margin = gaussian[0] - gaussian[1] + 0.3 - 0.5 * np.log(48)
    assert evidence[0] - evidence[1] == pytest.approx(margin)


def test_pixels_in_common():
    def covers(first, last):
        pixels = np.zeros(1000, dtype=bool)
        pixels[first:last] = True
        return [pixels]

    class Trial:
        n_given = 1000

    covered = {"left": covers(0, 550), "all": covers(0, 1000), "right": covers(450, 1000), "few": covers(0, 450)}
    counts, reasons = {name: int(pixels[0].sum()) for name, pixels in covered.items()}, {}
    names, (common,) = _in_common(covered, counts, reasons, dict.fromkeys(covered, Trial))
    assert names == ["all", "left"]
    assert common.sum() == 550
    assert reasons == {
        "right": "it has 100 pixels in common with all, left, too few to compare",
        "few": "it covers 450 of 1000 good pixels, another one 1000",
    }


def test_mistakes_are_errors_of_the_caller(two):
    star = Star().spectrum
    with pytest.raises(ValueError, match="`regressors` is empty"):
        infer_best({}, star, **PLAIN)
    with pytest.raises(TypeError, match="has a SpectrumGenerator at 'a', but needs BayesianStellarRegressors"):
        infer_best({"a": two["cool"].generator_}, star, **PLAIN)
    with pytest.raises(TypeError, match="a list of spectra is needed"):
        list(infer_best_each(two, star, **PLAIN))
    with pytest.raises(ValueError, match="`components` is 3"):
        list(infer_best_each(two, [star], components=3, **PLAIN))
