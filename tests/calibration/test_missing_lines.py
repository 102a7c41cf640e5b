"""Lines that stars show and their generator lacks: found in the stars, and added."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from stellarhml import BayesianStellarRegressor, LineCalibrator, load, save
from stellarhml.calibration.missing_lines import find_new_lines
from stellarhml.inference._inference_result import OrderFit
from stellarhml.physics.wavelength import doppler_shift
from stellarhml.synthesis.added_lines import add_lines

LABELS = np.array([[5300, 4.0, -0.2], [5150, 4.3, -0.1], [5600, 3.8, -0.3], [5450, 4.2, -0.4]])
POWER = 50_000
SIZES = np.array([0.012, 0.03])  # equivalent widths, angstrom
NOTHING = {}


@pytest.fixture(scope="module")
def nature(generator):
    """The generator with two lines more, far from the others; and their wavelengths."""
    catalog = generator.decomposer_.line_catalog_
    inside = np.flatnonzero((catalog[:-1] > generator.wavelength_[100]) & (catalog[1:] < generator.wavelength_[-100]))
    gaps = inside[np.argsort(np.diff(catalog)[inside])[-2:]]
    at = np.sort(0.5 * (catalog[gaps] + catalog[gaps + 1]) + 0.013)
    return add_lines(generator, at, SIZES, LABELS.mean(axis=0))[0], at


def test_a_star_shows_its_missing_lines(generator, nature, observe):
    star = observe(NOTHING, LABELS[0], 0, nature=nature[0])
    regressor = BayesianStellarRegressor.from_generator(generator, line_errors=True)
    result = regressor.infer(star, resolving_power=POWER, fixed={"teff": 5300, "logg": 4.0, "feh": -0.2})
    table = result.missing_lines
    np.testing.assert_allclose(table["wavelength"], nature[1], atol=0.015)
    # equivalent widths of this star, which is not that of the mean labels
    true = nature[0].line_table(LABELS[0])
    true = true["equivalent_width"].iloc[[np.argmin(np.abs(true["center"] - x)) for x in nature[1]]]
    # their profiles are those of narrow lines, and these are a little wider
    np.testing.assert_allclose(table["equivalent_width"], true, rtol=0.25)
    assert (table["equivalent_width"] > 6 * table["equivalent_width_std"]).all()
    assert table["order"].tolist() == [0, 0]
    # none without a fit of lines
    plain = BayesianStellarRegressor.from_generator(generator, line_errors=False)
    assert plain.infer(star, resolving_power=POWER).missing_lines is None


@pytest.mark.parametrize("n_rounds", [1, 3])
def test_lines_that_stars_share_are_added(generator, nature, observe, tmp_path, n_rounds):
    stars = [observe(NOTHING, labels, seed, nature=nature[0]) for seed, labels in enumerate(LABELS)]
    found = LineCalibrator(generator, n_rounds=n_rounds, verbose=False).fit(stars, LABELS, resolving_power=POWER)
    table, catalog = found.corrections_, generator.decomposer_.line_catalog_
    assert len(table) == len(catalog) + 2
    assert table.index[~table["added"]].tolist() == catalog.tolist()
    new = table[table["added"]]
    np.testing.assert_allclose(new.index, nature[1], atol=0.05)
    assert (new["n_stars"] == 4).all()
    assert (new["strength_std"] < 0.1).all()
    assert not new["absent"].any()
    lines = found.generator_.line_table(LABELS.mean(axis=0))
    assert lines.index.tolist() == table.index.tolist()
    sizes = lines["equivalent_width"][table["added"].to_numpy()]
    assert (np.abs(np.log10(sizes / SIZES)) < (3 if n_rounds > 1 else 4) * new["strength_std"]).all()
    np.testing.assert_allclose(lines["center"][table["added"].to_numpy()], nature[1], atol=0.015)
    # the other lines stay
    assert table["strength"][~table["added"]].abs().max() < 0.02
    # and the corrected generator fits another star
    star = observe(NOTHING, [5350, 4.1, -0.25], 9, nature=nature[0])
    again = load(save(found.generator_, tmp_path / "g.asdf"))
    before, after = (
        BayesianStellarRegressor.from_generator(model).infer(star, resolving_power=POWER, line_errors=False)
        for model in (generator, again)
    )
    assert before.n_rejected > after.n_rejected + 5
    assert after.reduced_chi2 < 1.2


def test_a_line_that_is_not_shared_is_not_added(generator, nature, observe):
    """A line of one star of four, such as one of the Earth's atmosphere."""
    stars = [observe(NOTHING, row, i, nature=nature[0] if i == 1 else generator) for i, row in enumerate(LABELS)]
    found = LineCalibrator(generator, n_rounds=2, verbose=False).fit(stars, LABELS, resolving_power=POWER)
    assert len(found.results_[1].missing_lines) == 2
    assert not found.corrections_["added"].any()


@pytest.mark.parametrize("snr", [50, 1000])
def test_nothing_is_added_for_stars_of_the_grids_own_physics(generator, observe, snr):
    stars = [observe(NOTHING, labels, seed, snr=snr) for seed, labels in enumerate(LABELS)]
    found = LineCalibrator(generator, n_rounds=2, verbose=False).fit(stars, LABELS, resolving_power=POWER)
    assert not found.corrections_["added"].any()
    assert len(found.corrections_) == len(generator.decomposer_.line_catalog_)


def _result(lines, *, rv=0.0, span=(8500.0, 8520.0), snr=100.0):
    """A star with (wavelength, equivalent width, its error) of missing lines, as they are at rest."""
    x = np.arange(*span, 0.05) * doppler_shift(1.0, rv)
    one = np.ones_like(x)
    order = OrderFit(x, one, one / snr, one, one, 0 * one)
    table = pd.DataFrame(lines, columns=["wavelength", "equivalent_width", "equivalent_width_std"])
    table = table.assign(width=3.0, order=0)
    return SimpleNamespace(missing_lines=table, orders=[order], values={"rv": rv}, reduced_chi2=1.0)


def test_which_lines_are_taken():
    line = (8510.0, 0.03, 0.003)
    near, far = (8510.03, 0.02, 0.003), (8510.12, 0.03, 0.003)  # 0.3 widths at half maximum are 0.06 angstrom

    def taken(*stars):
        return [(round(x.wavelength, 3), round(x.equivalent_width, 3), x.n_stars) for x in find_new_lines(stars)]

    assert taken(_result([line]), _result([near], rv=50.0)) == [(8510.009, 0.024, 2)]
    assert taken(_result([line]), _result([far])) == []
    # twice in one star, as where orders overlap
    assert taken(_result([line, near])) == [(8510.0, 0.03, 1)]
    # one star is enough if no other could show it, and it is sure
    assert taken(_result([line]), _result([], span=(8512.0, 8530.0))) == [(8510.0, 0.03, 1)]
    assert taken(_result([line]), _result([], snr=5.0)) == [(8510.0, 0.03, 1)]
    assert taken(_result([(8510.0, 0.03, 0.0031)])) == []
    assert taken(_result([line]), _result([])) == []
    # half of the stars that could
    assert len(taken(_result([line]), _result([line]), _result([]), _result([]))) == 1
    assert taken(_result([line]), _result([line]), *[_result([])] * 3) == []
    # too much absorption in the model
    assert taken(_result([(8510.0, -0.03, 0.003)]), _result([(8510.0, -0.03, 0.003)])) == []
    assert find_new_lines([SimpleNamespace(missing_lines=None)]) == []
