"""LineCalibrator on stars whose lines differ from the generator's by known amounts."""

import pickle

import numpy as np
import pytest
from mock_line_list import mock_line_list
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from stellarhml import BayesianStellarRegressor, LineCalibrator, SpectrumGenerator, load, save
from stellarhml._state import StateError
from stellarhml.calibration.directions import label_directions
from stellarhml.exceptions import InferenceWarning
from stellarhml.inference.line_fit import LineFit

LABELS = np.array([[5300, 4.0, -0.2], [5150, 4.3, -0.1], [5600, 3.8, -0.3], [5450, 4.2, -0.4]])
POWER = 50_000
DEX = np.log(10)


@pytest.fixture(scope="module")
def calibrator(generator, stars):
    return LineCalibrator(generator, verbose=False).fit(stars, LABELS, resolving_power=POWER)


def _infer(generator, star, **settings):
    regressor = BayesianStellarRegressor.from_generator(generator)
    return regressor.infer(star, resolving_power=POWER, **settings)


def _off(result, labels):
    """Errors of the labels, in units of 100 K, 0.1 dex and 0.1 dex."""
    found = np.array([result.values[name] for name in ("teff", "logg", "feh")])
    return np.abs((found - labels) / [100, 0.1, 0.1])


def test_corrections_are_found_within_their_errors(calibrator, truth):
    table = calibrator.corrections_
    shown = table["n_stars"] == 4
    assert shown.sum() > 15
    assert table.index.tolist() == calibrator.generator.decomposer_.line_catalog_.tolist()
    for kind, unit, left in (("strength", DEX, 0.35), ("velocity", 1.0, 0.5)):
        off = table[kind] * unit - truth[kind]
        if kind == "velocity":  # that of all lines together is the star's
            off -= off[shown].mean()
        assert off[shown].std() < left * truth[kind][shown].std()
        # twice the quoted errors: those of a linear fit, without what all lines share
        assert np.sqrt(np.mean((off / (table[f"{kind}_std"] * unit))[shown] ** 2)) < 2
    assert not table["absent"].any()
    assert not table["added"].any()
    assert "species" not in table
    assert calibrator.species_.empty


def test_the_corrected_generator_fits_a_star_that_it_has_not_seen(generator, calibrator, observe, truth):
    labels = np.array([5400, 4.1, -0.25])
    star = observe(truth, labels, seed=50)
    before, after = (_infer(model, star, line_errors=False) for model in (generator, calibrator.generator_))
    assert before.reduced_chi2 > 1.5
    assert after.reduced_chi2 < 1.15
    assert _off(before, labels).max() > 3 * _off(after, labels).max()
    assert _off(after, labels).max() < 0.6


def test_lines_that_no_star_shows_stay_as_they_are(generator, observe, truth):
    """A spectrum of half of the lines."""
    star = observe(truth, LABELS[0], seed=0, part=slice(60, 500))
    found = LineCalibrator(generator, n_rounds=1, verbose=False).fit([star], LABELS[:1], resolving_power=POWER)
    table = found.corrections_
    unseen = table.index > generator.wavelength_[500] + 2
    assert unseen.sum() > 8
    assert (table["n_stars"][unseen] == 0).all()
    assert (table[["strength", "velocity", "width", "wing"]][unseen] == 0).all(axis=None)
    theta, before = (
        model.line_table(LABELS[0])[["center", "log_amplitude", "log_sigma", "log_wing"]]
        for model in (found.generator_, generator)
    )
    np.testing.assert_array_equal(theta[unseen], before[unseen])
    assert (theta[~unseen] != before[~unseen]).any(axis=None)
    # the scatter of the corrections is the error of a line that was not seen
    assert table["strength_std"][unseen].nunique() == 1
    assert table["strength_std"][unseen].max() > 2 * table["strength_std"][table["n_stars"] > 0].median()


@pytest.fixture(scope="module")
def warmer(generator, observe):
    """Stars whose lines are those of stars warmer by 120 K, at all labels: their faults have a label's direction."""
    kinds = ("strength", "velocity", "width", "wing")
    shifts = dict(zip(kinds, 120 * label_directions(generator, LABELS.mean(axis=0))[0], strict=True))
    return [observe(shifts, labels, seed, snr=500) for seed, labels in enumerate(LABELS)]


def _like_teff(calibrator):
    """Temperature [K] for which corrections of strength would be taken, lines of equal weight."""
    table = calibrator.corrections_
    direction = label_directions(calibrator.generator, LABELS.mean(axis=0))[0, 0]
    shown = (table["n_stars"] == 4).to_numpy()
    return float(direction[shown] @ table["strength"][shown] * DEX / (direction[shown] @ direction[shown]))


def test_without_labels_corrections_do_not_move_labels(generator, warmer):
    known = LineCalibrator(generator, verbose=False).fit(warmer, LABELS, resolving_power=POWER)
    # corrections are shrunken, and microturbulence takes its part
    assert _like_teff(known) == pytest.approx(120, abs=35)
    unknown = LineCalibrator(generator, verbose=False).fit(warmer, resolving_power=POWER)
    assert _like_teff(unknown) == pytest.approx(0, abs=5)
    # it is the stars that are warmer
    found = np.array([result.values["teff"] for result in unknown.results_])
    np.testing.assert_allclose(found - LABELS[:, 0], 120, atol=35)


def test_one_star_with_labels_is_enough_to_calibrate_the_others(generator, warmer):
    labels = np.where(np.arange(4)[:, None] == 0, LABELS, np.nan)
    found = LineCalibrator(generator, verbose=False).fit(warmer, labels, resolving_power=POWER)
    assert 60 < _like_teff(found) < 150


def test_without_labels_the_mean_shift_of_labels_is_zero(generator, stars):
    found = LineCalibrator(generator, verbose=False).fit(stars, resolving_power=[POWER] * 4)
    shifts, errors = [], []
    for star in stars:
        before, after = (_infer(model, star, line_errors=True) for model in (generator, found.generator_))
        shifts.append([after.values[name] - before.values[name] for name in ("teff", "logg", "feh")])
        errors.append([before.errors[name] for name in ("teff", "logg", "feh")])
    # faults of the same lines: errors of the stars do not average out
    assert (np.abs(np.mean(shifts, axis=0)) < 1.5 * np.mean(errors, axis=0)).all()


def test_a_line_that_the_stars_do_not_have_is_absent(generator, observe):
    table = generator.line_table(LABELS[0])
    line = int(np.argsort(table["depth"].to_numpy())[-8])
    shifts = {"strength": np.where(np.arange(len(table)) == line, -8.0, 0.0)}
    stars = [observe(shifts, labels, seed) for seed, labels in enumerate(LABELS)]
    found = LineCalibrator(generator, verbose=False).fit(stars, LABELS, resolving_power=POWER).corrections_
    assert found["absent"].tolist() == [k == line for k in range(len(table))]
    assert found["strength"].iloc[line] < -1
    assert found["strength"].drop(table.index[line]).abs().max() < 0.05


def test_lines_of_an_element_have_a_zero_point(generator, observe, tmp_path):
    lines = mock_line_list(generator)
    tagged = load(save(generator, tmp_path / "g.asdf")).tag_lines(
        lines._replace(species=np.where(lines.species == "CN", "Ti I", lines.species))
    )
    titanium = tagged.tags_.names() == "Ti I"
    shifts = {"strength": np.where(titanium, 0.12 * DEX, 0.0)}
    stars = [observe(shifts, labels, seed) for seed, labels in enumerate(LABELS)]
    found = LineCalibrator(tagged, verbose=False).fit(stars, LABELS, resolving_power=POWER)
    zero = found.species_.loc["Ti"]
    assert found.species_.index.tolist() == ["Ti"]  # iron is [Fe/H]
    assert zero["n_stars"] == 4
    assert 0.01 < zero["zero_point_std"] < 0.03  # stars scatter by 0.02 dex at least
    assert zero["zero_point"] == pytest.approx(0.12, abs=3 * zero["zero_point_std"])
    # every line of titanium has it, and no line of iron
    by_species = found.corrections_.groupby("species")["strength"].median()
    assert by_species["Ti I"] == pytest.approx(0.12, abs=0.02)
    assert by_species["Fe I"] == pytest.approx(0.0, abs=0.02)
    assert {"excitation", "log_gf"} <= set(found.corrections_)
    again = load(save(found.generator_, tmp_path / "corrected.asdf"))
    assert again.tags_.names().tolist() == tagged.tags_.names().tolist()
    np.testing.assert_array_equal(again.predict(LABELS), found.generator_.predict(LABELS))


def test_it_does_not_depend_on_the_number_of_workers(generator, stars, calibrator):
    found = LineCalibrator(generator, n_jobs=2, verbose=False).fit(stars, LABELS, resolving_power=POWER)
    np.testing.assert_array_equal(found.corrections_, calibrator.corrections_)


def test_a_clone_keeps_the_generator_and_a_pickle_all(generator, calibrator):
    given = {
        "generator": generator,
        "n_rounds": 2,
        "grid_microturbulence": 1.2,
        "macroturbulence": "gaussian",
        "damping": True,
        "bounds": {"vsini": (0, 20)},
        "abundance_scatter": 0.0,
        "n_jobs": 3,
        "verbose": None,
    }
    copy = clone(LineCalibrator(**given))
    assert copy.generator is generator
    assert copy.get_params(deep=False) == given
    again = pickle.loads(pickle.dumps(calibrator))
    assert again.corrections_.equals(calibrator.corrections_)
    np.testing.assert_array_equal(again.generator_.predict(LABELS), calibrator.generator_.predict(LABELS))


def test_a_star_that_cannot_be_fitted_is_left_out(generator, stars):
    far = (stars[0][0] + 1000, *stars[0][1:])
    with pytest.warns(InferenceWarning, match=r"1 of 2 stars could not be fitted .* star 0"):
        found = LineCalibrator(generator, n_rounds=1).fit([far, stars[1]], LABELS[:2], resolving_power=POWER)
    alone = LineCalibrator(generator, n_rounds=1).fit([stars[1]], LABELS[1:2], resolving_power=POWER)
    assert found.corrections_.equals(alone.corrections_)
    assert [result.status for result in found.results_] == ["failed", alone.results_[0].status]
    with pytest.raises(ValueError, match="1 of 1 stars could not be fitted"):
        LineCalibrator(generator).fit([far], LABELS[:1], resolving_power=POWER)


def test_a_star_whose_faults_cannot_be_solved_is_left_out(generator, stars, monkeypatch):
    original, calls = LineFit.run, []

    def run(self, values):
        calls.append(values)
        if len(calls) == 1:
            raise np.linalg.LinAlgError
        return original(self, values)

    monkeypatch.setattr(LineFit, "run", run)
    with pytest.warns(InferenceWarning, match=r"1 of 2 stars could not be fitted .* star 0"):
        found = LineCalibrator(generator, n_rounds=1).fit(stars[:2], LABELS[:2], resolving_power=POWER)
    assert found.corrections_["n_stars"].max() == 1


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"spectra": []}, ValueError, "`spectra` is empty"),
        ({"labels": LABELS[:3]}, ValueError, r"shape \(3, 3\); it needs a row for each of the 4 stars"),
        ({"labels": LABELS + [0, 0, 3]}, ValueError, "star 0 .* feh = 2.8, but the grid has -0.5 to 0"),
        ({"resolving_power": [5e4, 6e4]}, ValueError, "2 values for 4 stars"),
        ({"medium": "water"}, ValueError, "`medium` is 'water'"),
        ({"fixed": [{"vmic": 1.0}] * 3}, ValueError, "`fixed` has 3 values for 4 stars"),
        ({"fixed": {"vmic": 9.0}}, ValueError, "`fixed` sets 'vmic' to 9"),
    ],
)
def test_messages_say_what_to_do(generator, stars, change, error, text):
    given = {"spectra": stars, "labels": LABELS, "resolving_power": POWER} | change
    spectra, labels = given.pop("spectra"), given.pop("labels")
    with pytest.raises(error, match=text):
        LineCalibrator(generator).fit(spectra, labels, **given)


def test_one_spectrum_is_no_list_of_them_and_a_generator_must_be_fitted(generator, stars):
    with pytest.raises(TypeError, match="a list of spectra is needed"):
        LineCalibrator(generator).fit(stars[0], LABELS[:1], resolving_power=POWER)
    with pytest.raises(NotFittedError):
        LineCalibrator(SpectrumGenerator()).fit(stars, LABELS, resolving_power=POWER)


def test_options_reach_the_fits(generator, stars):
    options = {"macroturbulence": "gaussian", "damping": True, "bounds": {"vmac": (1, 9)}}
    calibrator = LineCalibrator(generator, n_rounds=1, **options)
    own = [{"vsini": 2.0}, {"vsini": 3.0, "rv": 1.0}]
    found = calibrator.fit(stars[:2], LABELS[:2], resolving_power=POWER, fixed=own).results_
    for result, known in zip(found, own, strict=True):
        assert {name: result.values[name] for name in known} == known
        assert result.bounds["vmac"] == (1.0, 9.0)
        assert result.errors["damping"] > 0
    same = LineCalibrator(generator, n_rounds=1, grid_microturbulence=1.4).fit(
        stars[:1], LABELS[:1], resolving_power=POWER, fixed={"vmic": 1.5}
    )
    assert same.results_[0].values["vmic"] == 1.5
    other = LineCalibrator(generator, n_rounds=1, grid_microturbulence=0.6).fit(
        stars[:1], LABELS[:1], resolving_power=POWER, fixed={"vmic": 1.5}
    )
    assert not same.corrections_.equals(other.corrections_)


def test_a_file_keeps_all_but_the_fits(calibrator, generator, tmp_path):
    path = save(calibrator, tmp_path / "c.asdf")
    again = load(path)
    assert again.corrections_.equals(calibrator.corrections_)
    assert again.species_.equals(calibrator.species_)
    assert again.n_rounds == 3
    assert not hasattr(again, "results_")
    np.testing.assert_array_equal(again.generator_.predict(LABELS), calibrator.generator_.predict(LABELS))
    np.testing.assert_array_equal(again.generator.predict(LABELS), generator.predict(LABELS))
    for found, expected in zip(again.generator_.calibration_, calibrator.generator_.calibration_, strict=True):
        np.testing.assert_array_equal(found, expected)
    unfitted = load(save(LineCalibrator(generator, damping=True), tmp_path / "u.asdf"))
    assert unfitted.damping
    assert not hasattr(unfitted, "generator_")
    state = calibrator.to_state()
    for wrong in (
        state["fitted"] | {"generator": SpectrumGenerator()},
        state["fitted"] | {"corrections": state["fitted"]["corrections"] | {"added": np.zeros(3, dtype=bool)}},
        state["fitted"] | {"species": {}},
    ):
        with pytest.raises(StateError):
            LineCalibrator.from_state(state | {"fitted": wrong})


def test_a_generator_of_version_1_4_has_no_corrections(calibrator):
    state = calibrator.generator_.to_state()
    calibration = dict(state["fitted"]["calibration"])
    with pytest.raises(StateError, match="has no `shifts`"):
        SpectrumGenerator.from_state_1_4(state)
    del calibration["shifts"]
    before = SpectrumGenerator.from_state_1_4(state | {"fitted": state["fitted"] | {"calibration": calibration}})
    assert before.calibration_.shifts is None
    np.testing.assert_array_equal(before.calibration_.variances, calibrator.generator_.calibration_.variances)
    with pytest.raises(StateError):
        SpectrumGenerator.from_state(state | {"fitted": state["fitted"] | {"calibration": calibration}})
