"""Prediction from files, called from Python."""

import json

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from matplotlib import pyplot

from stellarhml import BayesianStellarRegressor, SpectrumGenerator
from stellarhml.datasets import make_stellar_grid
from stellarhml.spectra import ObservedSpectrum, read_spectrum
from stellarhml.storage.result_store import ResultStore
from stellarhml.workflows import predicting
from stellarhml.workflows.tables import format_table, json_text, write_table

WAVE = np.arange(8503.0, 8513.0, 0.02)
POWER, RV, VSINI = 30_000.0, 31.0, 12.0


@pytest.fixture(scope="module")
def generator():
    grid = make_stellar_grid(n_teff=3, n_logg=3, n_feh=3, n_pixels=300, n_lines=12, random_state=3)
    return SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)


@pytest.fixture(scope="module")
def files(generator, tmp_path_factory):
    """A moving star that states its resolving power, and two files that fail."""
    folder = tmp_path_factory.mktemp("files")
    (flux,) = generator.observe([[5310.0, 3.9, -0.2]], WAVE, resolving_power=POWER, rv=RV, vsini=VSINI)
    error = np.full(len(WAVE), 1 / 300)
    flux = flux + error * np.random.default_rng(0).normal(size=len(WAVE))
    for name, meta in (("star.fits", {"resolving_power": POWER}), ("silent.ecsv", {})):
        ObservedSpectrum([(WAVE, flux, error)], meta).write(folder / name)
    (folder / "none.txt").write_text("no spectrum\nat all\n")
    return [folder / name for name in ("star.fits", "silent.ecsv", "none.txt")]


@pytest.fixture(scope="module")
def predicted(generator, files):
    return predicting.predict_files(generator, files)


def test_one_row_for_each_file(predicted, files, generator):
    table = predicted.table
    parameters = [c for name in ("teff", "logg", "feh", "rv", "vsini") for c in (name, f"{name}_std")]
    last = ["reduced_chi2", "n_pixels", "n_rejected", "rv_frame", "seconds", "flags", "message"]
    assert table.columns.tolist() == ["star", "status", *parameters, *last]
    assert table["star"].tolist() == [str(path) for path in files]
    assert table["status"].tolist() == ["ok", "failed", "failed"]
    star, silent, none = table.to_dict("records")
    regressor = BayesianStellarRegressor.from_generator(generator)
    alone = regressor.infer(read_spectrum(files[0]), resolving_power=POWER)
    for name, truth in (("teff", 5310.0), ("logg", 3.9), ("feh", -0.2), ("rv", RV), ("vsini", VSINI)):
        assert abs(star[name] - truth) < 4.5 * star[f"{name}_std"], name
        assert star[name] == alone.values[name]
    assert "give --resolving-power" in silent["message"].lower()
    assert silent["flags"] == none["flags"] == "FAILED"
    assert np.isnan(none["teff"])
    assert none["n_pixels"] == 0


def test_failures_alone_have_the_same_columns(predicted, generator, files):
    table = predicting.predict_files(generator, files[1:]).table
    assert table.columns.tolist() == predicted.table.columns.tolist()
    assert table["status"].tolist() == ["failed", "failed"]


def test_macroturbulence_is_a_column_of_every_file(generator, files, tmp_path):
    found = predicting.predict_files(generator, files, macroturbulence="gaussian")
    table = found.table
    assert table["status"].tolist()[1:] == ["failed", "failed"]
    place = table.columns.get_loc("vmac")
    assert table.columns[place - 2 : place + 2].tolist() == ["vsini", "vsini_std", "vmac", "vmac_std"]
    assert table["vmac"].notna().tolist() == [True, False, False]
    write_table(table, tmp_path / "t.ecsv")
    assert Table.read(tmp_path / "t.ecsv")["vmac"].unit == "km / s"
    with pytest.raises(ValueError, match="needs 'radial-tangential' or 'gaussian'"):
        predicting.predict_files(generator, files, macroturbulence="isotropic")


def test_macroturbulence_is_part_of_what_a_stored_row_depends_on(generator, files, tmp_path):
    options = {"store": ResultStore(tmp_path / "store"), "generator_digest": "a generator"}
    keys = [
        predicting.predict_files(generator, files[:1], macroturbulence=profile, **options).keys
        for profile in (None, "gaussian", "radial-tangential")
    ]
    assert len({key for (key,) in keys}) == 3
    assert predicting.predict_files(generator, files[:1], macroturbulence="gaussian", **options).n_read == 1


def test_errors_of_the_spectrograph_are_settings_of_every_file(generator, files, tmp_path):
    options = {"store": ResultStore(tmp_path / "store"), "generator_digest": "a generator"}
    options |= {"resolving_power": 20_000, "resolving_power_error": 0.1}
    found = predicting.predict_files(generator, files, wavelength_error=0.3, **options)
    place = found.table.columns.get_loc("resolving_power_factor")
    assert found.table.columns[place - 1 : place + 2].tolist() == [
        "vsini_std",
        "resolving_power_factor",
        "resolving_power_factor_std",
    ]
    assert found.table["resolving_power_factor"].notna().tolist() == [True, True, False]
    exact = predicting.predict_files(generator, files[:1], **options)
    assert exact.n_read == 0
    assert exact.table["rv_std"][0] < found.table["rv_std"][0]
    write_table(found.table, tmp_path / "t.ecsv")
    with pytest.raises(ValueError, match="`wavelength_error` is -1"):
        predicting.predict_files(generator, files, wavelength_error=-1)


def test_at_rest_fixes_velocity_and_rotation(generator, tmp_path):
    """A star at rest at the generator's resolution is fitted as well as the truth allows, without their freedom."""
    (flux,) = generator.observe([[5310.0, 3.9, -0.2]], WAVE)
    error = np.full(len(WAVE), 1 / 300)
    flux = flux + error * np.random.default_rng(1).normal(size=len(WAVE))
    np.savetxt(tmp_path / "star.txt", np.stack([WAVE, flux, error], axis=1))
    path, options = [tmp_path / "star.txt"], {"resolving_power": "grid", "medium": "vacuum"}
    free = predicting.predict_files(generator, path, **options).table
    rest = predicting.predict_files(generator, path, at_rest=True, **options).table
    assert rest[["rv", "rv_std", "vsini", "vsini_std"]].to_numpy().tolist() == [[0.0, 0.0, 0.0, 0.0]]
    assert free["rv_std"][0] > 0
    for name, truth in (("teff", 5310.0), ("logg", 3.9), ("feh", -0.2)):
        assert abs(rest[name][0] - truth) < 4.5 * rest[f"{name}_std"][0], name
        assert rest[f"{name}_std"][0] <= free[f"{name}_std"][0] * 1.001


def test_figures_have_the_names_of_the_files(generator, files, tmp_path):
    found = predicting.predict_files(generator, [files[0], files[1], files[0]], figures=tmp_path)
    assert found.figures == [tmp_path / "star.png", None, tmp_path / "star-2.png"]
    assert all(path.stat().st_size > 10_000 for path in found.figures if path)
    assert pyplot.get_fignums() == []  # thousands would fill the memory


def test_a_figure_that_cannot_be_drawn_costs_no_row(generator, files, tmp_path):
    (tmp_path / "star.png").mkdir()
    found = predicting.predict_files(generator, files[:1], figures=tmp_path)
    assert found.table["status"].tolist() == ["ok"]
    assert found.figures == [None]
    assert "IsADirectoryError" in found.problems[str(files[0])]


def test_files_of_a_table_say_the_same(predicted, tmp_path):
    table = predicted.table
    for suffix in ("csv", "json", "ecsv", "fits"):
        write_table(table, tmp_path / f"t.{suffix}")
    read = pd.read_csv(tmp_path / "t.csv").fillna({"rv_frame": "", "flags": "", "message": ""})
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    rows = json.loads((tmp_path / "t.json").read_text(), parse_constant=pytest.fail)
    assert rows[1]["teff"] is None
    assert rows[0]["teff"] == table["teff"][0]
    for suffix in ("ecsv", "fits"):
        read = Table.read(tmp_path / f"t.{suffix}")
        assert read["teff_std"].unit == "K"
        assert read["rv"].unit == "km/s"
        assert read["rv"][0] == table["rv"][0]


def test_text_of_a_table(predicted):
    table = predicted.table
    lines = format_table(table).splitlines()
    assert lines[0].split() == table.columns.tolist()
    assert len(lines) == 4
    assert f"{table['teff'][0]:.1f}" in lines[1]
    # aligned: texts at the left, numbers at the right
    end = lines[0].index(" teff_std")
    assert lines[1][:end].endswith(f"{table['teff'][0]:.1f}")
    assert lines[1].index("ok") == lines[2].index("failed") == lines[0].index("status")
    assert "nan" not in "".join(lines).lower()


def test_json_has_null_for_what_is_not_finite():
    value = {"a": [np.float32(1.5), np.nan, np.int64(3)], "b": {"c": float("inf"), "d": None, "e": np.bool_(True)}}
    assert json.loads(json_text(value)) == {"a": [1.5, None, 3], "b": {"c": None, "d": None, "e": True}}


def test_chosen_orders():
    orders = [(5000.0 + 100 * k + np.arange(3.0), np.ones(3), np.ones(3)) for k in range(3)]
    spectrum = ObservedSpectrum(orders, {"order_numbers": [11, 12, 15], "file": "star.fits"})
    assert predicting.choose_orders(spectrum, [15, 11]).meta["order_numbers"] == [11, 15]
    with pytest.raises(ValueError, match=r"star\.fits has no order 1, 13: its 3 orders have the numbers 11 to 15"):
        predicting.choose_orders(spectrum, [13, 12, 1])


@pytest.fixture(scope="module")
def survey_files(generator, tmp_path_factory):
    """Three stars on the same pixels, the last of four on others."""
    folder = tmp_path_factory.mktemp("survey")
    rng = np.random.default_rng(5)
    for k, teff in enumerate((5150.0, 5310.0, 5420.0, 5260.0)):
        pixels = WAVE + 0.007 * (k == 3)
        (flux,) = generator.observe([[teff, 3.9, -0.2]], pixels, resolving_power=POWER, rv=RV - 9 * k, vsini=VSINI)
        error = np.full(len(pixels), 1 / 300)
        spectrum = ObservedSpectrum([(pixels, flux + error * rng.normal(size=len(pixels)), error)], {})
        spectrum.write(folder / f"star{k}.fits")
    return [folder / f"star{k}.fits" for k in range(4)]


def test_files_on_the_same_pixels_are_a_survey(generator, survey_files):
    options = {"resolving_power": POWER}
    alone = predicting.predict_files(generator, survey_files, survey=False, **options).table
    found = predicting.predict_files(generator, survey_files, survey=True, **options).table
    assert found["status"].tolist() == alone["status"].tolist()
    for name in ("teff", "logg", "feh", "rv", "vsini"):
        assert (np.abs(found[name] - alone[name]) <= 0.05 * alone[f"{name}_std"]).all(), name
    assert (found["teff"] == alone["teff"]).tolist() == [False, False, False, True]
    assert predicting.predict_files(generator, survey_files, **options).table["teff"].equals(alone["teff"])
    with pytest.raises(ValueError, match="`survey` is 'no'"):
        predicting.predict_files(generator, survey_files, survey="no")


def test_a_survey_goes_on_where_it_was_interrupted(generator, survey_files, tmp_path):
    options = {"store": ResultStore(tmp_path / "store"), "generator_digest": "a generator", "resolving_power": POWER}
    first = predicting.predict_files(generator, survey_files[:2], survey=True, **options)
    found = predicting.predict_files(generator, survey_files[:3], survey=True, n_jobs=2, **options)
    assert (first.n_read, found.n_read) == (0, 2)
    fresh = predicting.predict_files(generator, survey_files[:3], survey=True, resolving_power=POWER)
    columns = [column for column in fresh.table if column != "seconds"]
    pd.testing.assert_frame_equal(found.table[columns], fresh.table[columns], check_exact=True)
    assert predicting.predict_files(generator, survey_files[:2], survey=False, **options).n_read == 0
