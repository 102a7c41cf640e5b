"""`stellarhml predict`: files of stars, at rest and moving, good and bad."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from stellarhml import PhoenixPreprocessor, __version__, load, save
from stellarhml.cli.main import main
from stellarhml.physics.wavelength import vacuum_to_air
from stellarhml.spectra import ObservedSpectrum

AT_REST = ("--resolving-power", "grid", "--at-rest")


def _predict(generator_file, *arguments, medium="vacuum"):
    return main(["predict", "--generator", str(generator_file), "--medium", medium, *map(str, arguments)])


def test_a_star_at_rest(generator_file, star, write_star, tmp_path, capsys):
    """In vacuum with errors, and in air without."""
    wavelength, flux, error, labels = star
    write_star(tmp_path / "star.txt", wavelength, flux, error)
    write_star(tmp_path / "air.txt", vacuum_to_air(wavelength), flux)
    out = tmp_path / "new" / "labels.csv"
    assert _predict(generator_file, *AT_REST, "--out", out, tmp_path / "star.txt") == 0
    assert _predict(generator_file, *AT_REST, "--out", tmp_path / "air.csv", tmp_path / "air.txt", medium="air") == 0
    printed = capsys.readouterr().out
    for path in (out, tmp_path / "air.csv"):
        table = pd.read_csv(path)
        assert len(table) == 1
        # noise alone, at a node; four standard deviations are exceeded once in 10,000 draws
        for name, truth in zip(("teff", "logg", "feh"), labels, strict=True):
            assert abs(table[name][0] - truth) < 4 * table[f"{name}_std"][0], name
        # twelve lines at a signal-to-noise ratio of 200
        assert 1 < table["teff_std"][0] < 40
        assert f"{table['teff'][0]:.1f}" in printed
        assert table[["rv", "rv_std", "vsini", "vsini_std"]].to_numpy().tolist() == [[0, 0, 0, 0]]
    assert pd.read_csv(out)["reduced_chi2"][0] == pytest.approx(1.0, abs=0.3)
    assert np.isnan(pd.read_csv(tmp_path / "air.csv")["reduced_chi2"][0])


def test_the_resolving_power_must_be_known(generator_file, star, write_star, tmp_path, one_error):
    write_star(tmp_path / "star.txt", *star[:3])
    assert _predict(generator_file, tmp_path / "star.txt") == 2
    assert "states no resolving power. Give --resolving-power R" in one_error()


def test_a_moving_star(generator_file, write_star, tmp_path, capsys):
    """Velocity, rotation, throughput and a line spread; a table and a figure; a file that is none beside it."""
    generator = load(generator_file)
    labels, rv, vsini, power = np.array([[5310.0, 3.9, -0.2]]), 31.0, 12.0, 30_000
    # the toy grid has twelve lines within 20 angstrom
    x = np.arange(8504.0, 8518.0, 0.03)
    flux = generator.observe(labels, x, resolving_power=power, rv=rv, vsini=vsini)[0]
    level = 70 * (1 + 0.1 * np.linspace(-1, 1, len(x)))
    error = level / 300
    flux = level * flux + np.random.default_rng(0).normal(size=len(x)) * error
    write_star(tmp_path / "star.txt", x, flux, error)
    (tmp_path / "none.csv").write_text("wavelength,flux\n")
    arguments = ["--resolving-power", power, "--out", tmp_path / "t.json", "--figures", tmp_path / "figures"]
    assert _predict(generator_file, *arguments, tmp_path / "star.txt", tmp_path / "none.csv") == 1
    printed = capsys.readouterr()
    table = pd.read_json(tmp_path / "t.json")
    assert list(table["status"]) == ["ok", "failed"]
    for name, truth in zip(("teff", "logg", "feh", "rv", "vsini"), [*labels[0], rv, vsini], strict=True):
        assert abs(table[name][0] - truth) < 4.5 * table[f"{name}_std"][0], name
    assert table["rv_std"][0] < 0.5
    assert (tmp_path / "figures" / "star.png").stat().st_size > 10_000
    assert "none.csv" in printed.err
    assert "figures/star.png" in printed.out


def test_macroturbulence_is_fitted_where_it_is_asked_for(generator_file, star, write_star, tmp_path, exit_code, capsys):
    file = write_star(tmp_path / "star.txt", *star[:3])
    out = tmp_path / "t.csv"
    assert _predict(generator_file, *AT_REST, "--macroturbulence", "radial-tangential", "--out", out, file) == 0
    table = pd.read_csv(out)
    assert 0 <= table["vmac"][0] < 3  # a star without
    assert table["vmac_std"][0] > 0
    assert table["vsini_std"][0] == 0
    assert f"{table['vmac'][0]:.2f}" in capsys.readouterr().out
    assert exit_code(["predict", "--generator", str(generator_file), "--macroturbulence", "isotropic", file]) == 2


def test_errors_of_the_spectrograph(generator_file, write_star, tmp_path, exit_code):
    x, rng = np.arange(8504.0, 8518.0, 0.03), np.random.default_rng(0)
    labels = np.array([[5310.0, 3.9, -0.2]])
    flux = load(generator_file).observe(labels, x, resolving_power=30_000, rv=31.0, vsini=12.0)[0]
    file, out = tmp_path / "star.txt", tmp_path / "t.csv"
    write_star(file, x, flux + rng.normal(size=len(x)) / 300, np.full(len(x), 1 / 300))
    errors = ["--resolving-power", "33000", "--resolving-power-error", "0.2", "--wavelength-error", "0.5"]
    errors += ["--resolving-power-scatter", "0.02"]
    assert _predict(generator_file, *errors, "--out", out, file) == 0
    table = pd.read_csv(out)
    assert abs(table["resolving_power_factor"][0] - 30 / 33) < 4.5 * table["resolving_power_factor_std"][0] < 0.9
    assert 0.5 <= table["rv_std"][0] < 0.6  # one order
    assert abs(table["resolving_power_factor_0"][0] - 1) < 0.02  # which follows the prior
    assert exit_code(["predict", "--generator", str(generator_file), "--wavelength-error", "0", str(file)]) == 2


def test_spots_and_veiling_have_columns_where_they_are_asked_for(
    generator_file, star, write_star, tmp_path, exit_code, capsys
):
    file = write_star(tmp_path / "star.txt", *star[:3])
    out = tmp_path / "t.ecsv"
    ask = ("--spots", "--veiling", "constant", "--components")
    assert _predict(generator_file, *AT_REST, *ask, 2, "--out", out, file) == 0
    table = Table.read(out)
    assert {"teff_spot", "f_spot", "veiling", "log_evidence"} <= set(table.colnames)
    assert table["teff_spot"].unit == "K"
    assert table["log_evidence"][0] < 10  # a star without
    assert "SECOND_IN_DOUBT" in table["flags"][0]
    assert _predict(generator_file, *AT_REST, *ask, "auto", "--out", tmp_path / "u.csv", file) == 0
    table = pd.read_csv(tmp_path / "u.csv")
    assert "teff_spot" not in table
    assert "left out" in table["message"][0]
    assert exit_code(["predict", "--generator", str(generator_file), "--spots", "--companion", str(file)]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_vacuum_declared_as_air_does_not_fit(generator_file, star, write_star, tmp_path):
    """The wavelengths are then off by 2.3 angstrom."""
    write_star(tmp_path / "star.txt", *star[:3])
    chi2 = {}
    for medium in ("vacuum", "air"):
        _predict(generator_file, *AT_REST, "--out", tmp_path / "t.csv", tmp_path / "star.txt", medium=medium)
        chi2[medium] = pd.read_csv(tmp_path / "t.csv")["reduced_chi2"][0]
    assert chi2["air"] > 25 * chi2["vacuum"]


def test_one_bad_file_does_not_stop_the_others(generator_file, star, write_star, tmp_path, capsys):
    wavelength, flux, error, labels = star
    write_star(tmp_path / "good.txt", wavelength, flux, error)
    (tmp_path / "text.txt").write_text("this is no spectrum\nat all, no\n")
    write_star(tmp_path / "far.txt", wavelength + 500, flux, error)
    names = ["text.txt", "good.txt", "missing.csv", "far.txt"]
    assert _predict(generator_file, *AT_REST, "--out", tmp_path / "t.csv", *(tmp_path / n for n in names)) == 1
    captured = capsys.readouterr()
    table = pd.read_csv(tmp_path / "t.csv").set_index("star")
    table.index = [name.rsplit("/", 1)[1] for name in table.index]
    assert table.index.tolist() == names
    assert table["status"].tolist() == ["failed", "ok", "failed", "failed"]
    assert table["flags"].fillna("").tolist() == ["FAILED", "", "FAILED", "FAILED"]
    assert abs(table.loc["good.txt", "teff"] - labels[0]) < 25
    assert table.loc[["text.txt", "missing.csv", "far.txt"], "teff"].isna().all()
    assert "does not exist" in table.loc["missing.csv", "message"]
    errors = [line for line in captured.err.splitlines() if "error:" in line]
    assert len(errors) == 3
    assert all(line.startswith("stellarhml: error: ") for line in errors)
    assert captured.out.count("\n") == 1 + len(names)


def test_no_spectrum_done_is_2(generator_file, star, write_star, tmp_path, one_error):
    write_star(tmp_path / "far.txt", star[0] - 500, star[1])
    assert _predict(generator_file, *AT_REST, tmp_path / "far.txt") == 2
    assert f"{tmp_path / 'far.txt'}: " in one_error()


def test_a_star_that_cannot_be_inferred_does_not_stop_the_others(
    generator_file, star, write_star, tmp_path, monkeypatch, capsys, one_error
):
    from stellarhml import BayesianStellarRegressor

    wavelength, flux, error, _ = star
    infer = BayesianStellarRegressor.infer

    def fail_on_large_flux(self, spectrum, **parameters):
        if spectrum.orders[0].flux.max() > 1:
            raise ValueError("nothing fits")
        return infer(self, spectrum, **parameters)

    monkeypatch.setattr(BayesianStellarRegressor, "infer", fail_on_large_flux)
    large = write_star(tmp_path / "large.txt", wavelength, 1e9 * flux, 1e9 * error)
    small = write_star(tmp_path / "small.txt", wavelength, flux, error)
    assert _predict(generator_file, *AT_REST, "--out", tmp_path / "t.csv", large, small) == 1
    table = pd.read_csv(tmp_path / "t.csv")
    assert table["status"].tolist() == ["failed", "ok"]
    assert table["message"][0] == "nothing fits"
    assert f"stellarhml: error: {large}: nothing fits" in capsys.readouterr().err
    assert _predict(generator_file, *AT_REST, large) == 2
    assert "nothing fits" in one_error()


def test_masked_pixels_do_not_count(generator_file, star, tmp_path):
    wavelength, flux, error, labels = star
    hit = np.random.default_rng(1).choice(wavelength.size, 60, replace=False)
    spoilt, masked = flux.copy(), error.copy()
    spoilt[hit] *= 0.3
    masked[hit] = np.inf
    ObservedSpectrum([(wavelength, spoilt, masked)]).write(tmp_path / "masked.fits")
    _predict(generator_file, *AT_REST, "--out", tmp_path / "t.csv", tmp_path / "masked.fits")
    table = pd.read_csv(tmp_path / "t.csv")
    assert abs(table["teff"][0] - labels[0]) < 4 * table["teff_std"][0]
    assert table["n_pixels"][0] <= wavelength.size - 60
    assert table["reduced_chi2"][0] < 1.5


@pytest.mark.slow
def test_predict_in_a_new_process_gives_the_same(generator_file, star, write_star, tmp_path):
    file = write_star(tmp_path / "star.txt", *star[:3])
    start = ["predict", "--generator", str(generator_file), "--medium", "vacuum", *AT_REST, file, "--out"]
    command = [sys.executable, "-m", "stellarhml.cli", *start, str(tmp_path / "there.csv")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert main([*start, str(tmp_path / "here.csv")]) == 0
    here, there = pd.read_csv(tmp_path / "here.csv"), pd.read_csv(tmp_path / "there.csv")
    pd.testing.assert_frame_equal(here.drop(columns="seconds"), there.drop(columns="seconds"))


def test_a_pickle_needs_trust(generator_file, pickle_file, star, write_star, tmp_path, capsys, one_error):
    """Refused without --trust-pickle; with it, the labels of the file without code."""
    file = write_star(tmp_path / "star.txt", *star[:3])
    for command in (["predict", file, "--generator"], ["inspect"], ["explore", "--no-browser", "--generator"]):
        assert main([*command, str(pickle_file)]) == 2
        assert "--trust-pickle" in one_error()
    for name, arguments in (("safe", [generator_file]), ("pickle", [pickle_file, "--trust-pickle"])):
        assert _predict(*arguments, *AT_REST, "--out", tmp_path / f"{name}.csv", file) == 0
    got, expected = (pd.read_csv(tmp_path / f"{name}.csv").drop(columns="seconds") for name in ("pickle", "safe"))
    pd.testing.assert_frame_equal(got, expected)
    capsys.readouterr()
    for arguments, parts in (
        ([generator_file], ("holds no code", f"stellarhml {__version__}")),
        ([pickle_file, "--trust-pickle"], ("a pickle",)),
    ):
        assert main(["inspect", *map(str, arguments)]) == 0
        text = capsys.readouterr().out
        for part in (*parts, "SpectrumGenerator", "nodes      27"):
            assert part in text


def test_predict_refuses_what_is_no_generator(tmp_path, one_error):
    save(PhoenixPreprocessor(), tmp_path / "p.joblib")
    assert _predict(tmp_path / "p.joblib", "--trust-pickle", tmp_path / "star.csv") == 2
    assert "PhoenixPreprocessor" in one_error()
    assert _predict(tmp_path / "nothing.joblib", tmp_path / "star.csv") == 2
    assert "nothing.joblib does not exist" in one_error()
    (tmp_path / "notes.txt").write_text("no generator")
    assert _predict(tmp_path / "notes.txt", tmp_path / "star.csv") == 2
    assert "notes.txt" in one_error()


def test_an_interruption_keeps_what_is_done(generator_file, star, write_star, tmp_path, capsys, monkeypatch):
    from stellarhml import BayesianStellarRegressor

    infer, calls = BayesianStellarRegressor.infer, []

    def interrupt_at_the_third(self, *arguments, **settings):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return infer(self, *arguments, **settings)

    monkeypatch.setattr(BayesianStellarRegressor, "infer", interrupt_at_the_third)
    files = 4 * [write_star(tmp_path / "star.txt", *star[:3])]
    options = [*AT_REST, "--figures", tmp_path / "figures"]
    assert _predict(generator_file, "--out", tmp_path / "t.csv", *options, *files) == 130
    captured = capsys.readouterr()
    assert "stellarhml: interrupted: 2 of 4 spectra were done" in captured.err
    assert "error" not in captured.err
    table = pd.read_csv(tmp_path / "t.csv")
    assert (table["message"] == "interrupted before it was done").tolist() == [False, False, True, True]
    assert table["teff"].notna().tolist() == [True, True, False, False]
    assert len(list((tmp_path / "figures").iterdir())) == 2
    # with nothing done there is nothing to write
    calls[:] = [1, 1]
    assert _predict(generator_file, "--out", tmp_path / "none.csv", *options, *files) == 130
    assert not (tmp_path / "none.csv").exists()
    assert capsys.readouterr().err.strip().endswith("stellarhml: interrupted")


def test_files_that_are_read_are_not_overwritten(generator_file, star, write_star, tmp_path, one_error):
    path = tmp_path / "star.csv"
    write_star(path, *star[:3])
    (tmp_path / "link.csv").symlink_to(path)
    before = path.read_bytes()
    for out in (path, tmp_path / "link.csv"):
        assert _predict(generator_file, "--out", out, path) == 2
        assert "would overwrite" in one_error()
    assert path.read_bytes() == before
    assert _predict(generator_file, "--out", tmp_path / "table.xls", path) == 2
    assert "ends in none of .csv" in one_error()


def test_a_link_stays_a_link_and_a_device_is_refused(generator_file, star, write_star, tmp_path, capsys, one_error):
    path, target, link = tmp_path / "star.txt", tmp_path / "far.csv", tmp_path / "out.csv"
    write_star(path, *star[:3])
    target.write_text("old")
    link.symlink_to(target)
    assert _predict(generator_file, *AT_REST, "--out", link, path) == 0
    assert link.is_symlink()
    assert len(pd.read_csv(target)) == 1
    capsys.readouterr()
    (tmp_path / "null.csv").symlink_to("/dev/null")
    assert _predict(generator_file, *AT_REST, "--out", tmp_path / "null.csv", path) == 2
    assert "null.csv is a device or a pipe" in one_error()


def test_json_of_a_star_at_rest(star, generator_file, write_star, tmp_path, capsys):
    file = write_star(tmp_path / "star.txt", *star[:3])
    capsys.readouterr()
    assert _predict(generator_file, *AT_REST, "--json", file) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert abs(row["teff"] - star[3][0]) < 4 * row["teff_std"]
    assert "figure" not in row


def test_of_several_generators_the_best_is_taken(grid, generator_file, star, write_star, tmp_path, capsys, one_error):
    from stellarhml import SpectrumGenerator

    rows = (grid.labels[:, 0] < 5200) | (grid.labels[:, 2] < 0)  # not the star's
    generator = SpectrumGenerator(wavelength=grid.wavelength, label_names=("teff", "logg", "m_h"))
    other = save(generator.fit(grid.labels[rows], grid.flux[rows]), tmp_path / "other.asdf")
    good = write_star(tmp_path / "good.txt", *star[:3])
    far = write_star(tmp_path / "far.txt", star[0] + 500, *star[1:3])
    capsys.readouterr()
    several = ["--generator", other, *AT_REST, "--out", tmp_path / "t.csv"]
    assert _predict(generator_file, *several, good, far) == 1
    table = pd.read_csv(tmp_path / "t.csv")
    assert table["generator_name"].fillna("").tolist() == [str(generator_file), ""]
    assert table["generator_margin"][0] > 10
    assert f"over that of {other}" in table["message"][0]
    assert "None of 2 generators covers the star" in table["message"][1]
    assert abs(table["teff"][0] - star[3][0]) < 4 * table["teff_std"][0]
    assert table["m_h"].isna().all()
    assert "feh" in table
    # a row that is kept is that of these generators
    captured = capsys.readouterr()
    assert "1 stars are kept" in captured.err
    assert _predict(generator_file, *several, good, far) == 1
    assert "1 of 2 stars were done before" in capsys.readouterr().err
    save(load(generator_file), other)
    assert _predict(generator_file, *several, good) == 0
    assert "done before" not in capsys.readouterr().err
    assert "both fit" in pd.read_csv(tmp_path / "t.csv")["message"][0]
    before = other.read_bytes()
    assert _predict(generator_file, "--generator", other, "--out", other, good) == 2
    assert "would overwrite" in one_error()
    assert other.read_bytes() == before
