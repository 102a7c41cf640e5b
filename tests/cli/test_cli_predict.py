"""`stellarhml predict`: files of spectra at rest, and of stars that move."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from stellarhml import __version__
from stellarhml.cli.main import main
from stellarhml.physics.wavelength import vacuum_to_air
from stellarhml.spectra.table_columns import write_spectrum_table
from stellarhml.storage.saving import load


def _predict(generator_file, *arguments, medium="vacuum"):
    start = ["predict", "--generator", str(generator_file), "--medium", medium]
    search = [] if "--paper" in arguments else ["--search", "nodes"]
    return main([*start, *search, *map(str, arguments)])


def test_help_of_predict_states_what_a_spectrum_must_be(capsys, exit_code):
    exit_code(["predict", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "must be at rest" in text
    assert "resolution" in text


def test_examples_of_the_help_are_valid_commands(capsys, exit_code):
    from stellarhml.cli.main import _parser

    for command in ([], ["demo"], ["build"], ["predict"], ["benchmark"], ["inspect"]):
        exit_code([*command, "--help"])
        examples = capsys.readouterr().out.split("examples:")[1].split("exit codes:")[0]
        calls = [line.split() for line in examples.splitlines() if line.strip()]
        assert calls
        for call in calls:
            assert call[0] == "stellarhml"
            if "--help" not in call:
                _parser().parse_args(call[1:])


def test_predict_recovers_a_star(generator_file, star, tmp_path, capsys):
    wavelength, flux, error, labels = star
    write_spectrum_table(tmp_path / "star.csv", wavelength, flux, error)
    # the same in air, without errors
    np.savetxt(tmp_path / "air.txt", np.stack([vacuum_to_air(wavelength), flux], axis=1), fmt="%.6f %.8e")
    out = tmp_path / "new" / "labels.csv"
    assert _predict(generator_file, "--out", out, tmp_path / "star.csv") == 0
    assert _predict(generator_file, "--out", tmp_path / "air.csv", tmp_path / "air.txt", medium="air") == 0
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
    assert pd.read_csv(out)["coverage"][0] == 1.0
    assert pd.read_csv(out)["chi2"][0] == pytest.approx(1.0, abs=0.3)
    assert np.isnan(pd.read_csv(tmp_path / "air.csv")["chi2"][0])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["star.txt"], "--medium is needed"),
        (["--medium", "air", "--figures", "f", "star.txt"], "--figures needs --resolving-power"),
        (["--resolving-power", "file", "--paper", "star.fits"], "leave it out for spectra at rest"),
        (["--resolving-power", "file", "--search", "bayes", "star.fits"], "leave it out for spectra at rest"),
    ],
)
def test_predict_says_which_arguments_do_not_go_together(arguments, text, tmp_path, monkeypatch, one_error):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "--generator", "g.joblib", *arguments]) == 2
    assert text in one_error()
    assert not list(tmp_path.iterdir())


def test_predict_of_a_moving_star(generator_file, tmp_path, capsys):
    """Velocity, rotation, throughput and a line spread; a table and a picture; a file that is none beside it."""
    generator = load(generator_file)
    labels, rv, vsini, power = np.array([[5310.0, 3.9, -0.2]]), 31.0, 12.0, 30_000
    # the toy grid has twelve lines within 20 angstrom
    x = np.arange(8504.0, 8518.0, 0.03)
    flux = generator.observe(labels, x, resolving_power=power, rv=rv, vsini=vsini)[0]
    level = 70 * (1 + 0.1 * np.linspace(-1, 1, len(x)))
    error = level / 300
    flux = level * flux + np.random.default_rng(0).normal(size=len(x)) * error
    write_spectrum_table(tmp_path / "star.csv", x, flux, error)
    (tmp_path / "none.csv").write_text("wavelength,flux\n")
    arguments = ["predict", "--generator", str(generator_file), "--medium", "vacuum", "--resolving-power", str(power)]
    arguments += ["--out", str(tmp_path / "t.json"), "--figures", str(tmp_path / "pictures")]
    assert main([*arguments, str(tmp_path / "star.csv"), str(tmp_path / "none.csv")]) == 1
    printed = capsys.readouterr()
    table = pd.read_json(tmp_path / "t.json")
    assert list(table["status"]) == ["ok", "failed"]
    for name, truth in zip(("teff", "logg", "feh", "rv", "vsini"), [*labels[0], rv, vsini], strict=True):
        assert abs(table[name][0] - truth) < 4.5 * table[f"{name}_std"][0], name
    assert table["rv_std"][0] < 0.5
    assert (tmp_path / "pictures" / "star.png").stat().st_size > 10_000
    assert "none.csv" in printed.err
    assert "pictures/star.png" in printed.out


def test_predict_takes_air_for_what_it_is(generator_file, star, tmp_path):
    """Vacuum wavelengths declared as air are off by 2.3 angstrom, and the fit shows it."""
    wavelength, flux, error, _ = star
    write_spectrum_table(tmp_path / "star.csv", wavelength, flux, error)
    rms = {}
    for medium in ("vacuum", "air"):
        _predict(generator_file, "--out", tmp_path / "t.csv", tmp_path / "star.csv", medium=medium)
        rms[medium] = pd.read_csv(tmp_path / "t.csv")["rms"][0]
    assert rms["air"] > 5 * rms["vacuum"]


def test_one_bad_file_does_not_stop_the_others(generator_file, star, tmp_path, capsys):
    wavelength, flux, error, labels = star
    write_spectrum_table(tmp_path / "good.fits", wavelength, flux, error)
    (tmp_path / "text.txt").write_text("this is no spectrum\nat all, no\n")
    write_spectrum_table(tmp_path / "far.csv", wavelength + 500, flux, error)
    part = slice(0, 40)
    write_spectrum_table(tmp_path / "part.ecsv", wavelength[part], flux[part], error[part])
    names = ["text.txt", "good.fits", "missing.csv", "far.csv", "part.ecsv"]
    assert _predict(generator_file, "--out", tmp_path / "t.csv", *(tmp_path / name for name in names)) == 1
    captured = capsys.readouterr()
    table = pd.read_csv(tmp_path / "t.csv", keep_default_na=True).set_index("spectrum")
    table.index = [name.rsplit("/", 1)[1] for name in table.index]
    assert table.index.tolist() == names
    assert table["status"].tolist() == ["failed", "ok", "failed", "failed", "flagged"]
    assert abs(table.loc["good.fits", "teff"] - labels[0]) < 25
    assert table.loc[["text.txt", "missing.csv", "far.csv"], "teff"].isna().all()
    assert "does not exist" in table.loc["missing.csv", "note"]
    assert "share none" in table.loc["far.csv", "note"]
    assert "covers 13.3 %" in table.loc["part.ecsv", "note"]
    errors = [line for line in captured.err.splitlines() if "error:" in line]
    assert len(errors) == 3
    assert all(line.startswith("stellarhml: error: ") for line in errors)
    assert captured.out.count("\n") == 1 + len(names)


def test_no_spectrum_done_is_2(generator_file, star, tmp_path, one_error):
    wavelength, flux, _, _ = star
    write_spectrum_table(tmp_path / "far.csv", wavelength - 500, flux)
    assert _predict(generator_file, tmp_path / "far.csv") == 2
    assert "share none" in one_error()


def test_a_spectrum_that_cannot_be_inferred_does_not_stop_the_others(
    generator_file, star, tmp_path, monkeypatch, capsys, one_error
):
    from stellarhml import BayesianStellarRegressor

    wavelength, flux, error, _ = star
    predict = BayesianStellarRegressor.predict

    def fail_on_large_flux(self, X, **parameters):
        if X.max() > 1:
            raise ValueError("nothing fits")
        return predict(self, X, **parameters)

    monkeypatch.setattr(BayesianStellarRegressor, "predict", fail_on_large_flux)
    write_spectrum_table(tmp_path / "large.csv", wavelength, 1e9 * flux, 1e9 * error)
    write_spectrum_table(tmp_path / "small.csv", wavelength, flux, error)
    assert _predict(generator_file, "--out", tmp_path / "t.csv", tmp_path / "large.csv", tmp_path / "small.csv") == 1
    table = pd.read_csv(tmp_path / "t.csv")
    assert table["status"].tolist() == ["failed", "ok"]
    assert table["note"][0] == "nothing fits"
    assert f"stellarhml: error: {tmp_path / 'large.csv'}: nothing fits" in capsys.readouterr().err
    assert _predict(generator_file, tmp_path / "large.csv") == 2
    assert "nothing fits" in one_error()


def test_masked_pixels_do_not_count(generator_file, star, tmp_path):
    """Cosmic rays, marked or not: only the marked ones do no harm."""
    wavelength, flux, error, labels = star
    hit = np.random.default_rng(1).choice(wavelength.size, 60, replace=False)
    spoilt, masked = flux.copy(), error.copy()
    spoilt[hit] *= 0.3
    masked[hit] = np.inf
    write_spectrum_table(tmp_path / "masked.fits", wavelength, spoilt, masked)
    write_spectrum_table(tmp_path / "plain.fits", wavelength, spoilt, error)
    _predict(generator_file, "--out", tmp_path / "t.csv", tmp_path / "masked.fits", tmp_path / "plain.fits")
    table = pd.read_csv(tmp_path / "t.csv")
    assert abs(table["teff"][0] - labels[0]) < 30
    assert table["coverage"][0] == pytest.approx(0.8)
    assert table["chi2"][0] < 1.5 < table["chi2"][1]


def test_paper_inference_is_the_papers(generator_file, star, tmp_path, monkeypatch):
    from stellarhml.pipeline import PAPER_SETTINGS
    from stellarhml.workflows import inferring_at_rest as inferring

    used = []

    def note_the_regressor(regressor, observations, **_):
        used.append(regressor)
        raise ValueError("enough")

    monkeypatch.setattr(inferring, "infer_observations", note_the_regressor)
    write_spectrum_table(tmp_path / "star.csv", *star[:3])
    _predict(generator_file, "--paper", tmp_path / "star.csv")
    _predict(generator_file, tmp_path / "star.csv")
    paper, default = (regressor.get_params(deep=False) for regressor in used)
    assert PAPER_SETTINGS["regressor"].items() <= paper.items()
    assert default["search"] == "nodes"
    assert default["polish"]


def test_predict_in_a_new_process_gives_the_same(generator_file, star, tmp_path, capsys):
    wavelength, flux, error, _ = star
    write_spectrum_table(tmp_path / "star.fits", wavelength, flux, error)
    arguments = ["--generator", str(generator_file), "--medium", "vacuum", "--search", "nodes"]
    files = [str(tmp_path / "star.fits")]
    command = [sys.executable, "-m", "stellarhml.cli", "predict", *arguments, "--out", str(tmp_path / "there.csv")]
    done = subprocess.run([*command, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert main(["predict", *arguments, "--out", str(tmp_path / "here.csv"), *files]) == 0
    here, there = pd.read_csv(tmp_path / "here.csv"), pd.read_csv(tmp_path / "there.csv")
    pd.testing.assert_frame_equal(here.drop(columns="seconds"), there.drop(columns="seconds"))


def test_build_predict_and_inspect_a_file_without_code(folder, generator_file, star, tmp_path, capsys, one_error):
    """The same labels as from a joblib file."""
    path = tmp_path / "generator.shml"
    assert main(["build", "--phoenix", str(folder), "--out", str(path), "--wavelength", "8500", "8520"]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["generator.shml"]
    write_spectrum_table(tmp_path / "star.fits", *star[:3])
    for name, file in (("shml", path), ("joblib", generator_file)):
        assert _predict(file, "--out", tmp_path / f"{name}.csv", tmp_path / "star.fits") == 0
    got, want = (pd.read_csv(tmp_path / f"{name}.csv").drop(columns="seconds") for name in ("shml", "joblib"))
    pd.testing.assert_frame_equal(got, want)
    capsys.readouterr()
    for file, kind in ((path, "holds no code"), (generator_file, "runs the code of its author")):
        assert main(["inspect", str(file)]) == 0
        text = capsys.readouterr().out
        assert kind in text
        for part in ("SpectrumGenerator", f"stellarhml {__version__}", "grid ", f"{file.stat().st_size / 1e6:.2f} MB"):
            assert part in text
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["inspect", str(path)]) == 2
    assert "cut short" in one_error()


def test_predict_refuses_what_is_no_generator(tmp_path, one_error):
    from stellarhml import PhoenixPreprocessor, save

    save(PhoenixPreprocessor(), tmp_path / "p.joblib")
    assert _predict(tmp_path / "p.joblib", tmp_path / "star.csv") == 2
    assert "PhoenixPreprocessor" in one_error()
    assert _predict(tmp_path / "nothing.joblib", tmp_path / "star.csv") == 2
    assert "nothing.joblib does not exist" in one_error()


def _left(table, done):
    """Whether the first spectra of a table were done and the rest left."""
    left = table["note"] == "interrupted before it was done"
    return left.tolist() == [False] * done + [True] * (len(table) - done)


@pytest.mark.parametrize("observed", [True, False])
def test_an_interruption_keeps_what_is_done(generator_file, star, tmp_path, capsys, monkeypatch, observed):
    from stellarhml.inference import observing
    from stellarhml.workflows import inferring_at_rest as inferring

    module, name = (observing, "_infer_or_tell") if observed else (inferring, "_infer")
    work, calls = getattr(module, name), []

    def interrupt_at_the_third(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(*arguments)

    monkeypatch.setattr(module, name, interrupt_at_the_third)
    write_spectrum_table(tmp_path / "star.csv", *star[:3])
    options = ["--resolving-power", "grid", "--figures", tmp_path / "pictures"] if observed else []
    files = [tmp_path / "star.csv", tmp_path / "star.csv", tmp_path / "star.csv", tmp_path / "star.csv"]
    assert _predict(generator_file, "--out", tmp_path / "t.csv", *options, *files) == 130
    captured = capsys.readouterr()
    assert "stellarhml: interrupted: 2 of 4 spectra were done" in captured.err
    assert "error" not in captured.err
    table = pd.read_csv(tmp_path / "t.csv")
    assert _left(table, 2)
    assert table["teff"].notna().tolist() == [True, True, False, False]
    if observed:
        assert len(list((tmp_path / "pictures").iterdir())) == 2
    # with nothing done there is nothing to write
    calls[:] = [1, 1]
    assert _predict(generator_file, "--out", tmp_path / "none.csv", *options, *files) == 130
    assert not (tmp_path / "none.csv").exists()
    assert capsys.readouterr().err.strip().endswith("stellarhml: interrupted")


def test_an_interruption_keeps_what_was_done_at_another_resolving_power(monkeypatch):
    from stellarhml.workflows import predicting

    def infer_each(regressor, spectra, *, resolving_power, **settings):
        if resolving_power == 50_000:
            raise KeyboardInterrupt
        yield from (SimpleNamespace(flags=0) for _ in spectra)

    monkeypatch.setattr(predicting, "infer_each", infer_each)
    spectra = [SimpleNamespace(meta={"resolving_power": power}) for power in (50_000.0, 30_000.0)]
    found = predicting.infer_spectra(None, [*spectra, "is damaged"], resolving_power="file")
    assert found[0] == predicting.INTERRUPTED
    assert found[1].flags == 0
    assert found[2] == "is damaged"


def test_files_that_are_read_are_not_overwritten(generator_file, star, tmp_path, one_error):
    path = tmp_path / "star.csv"
    write_spectrum_table(path, *star[:3])
    (tmp_path / "link.csv").symlink_to(path)
    before = path.read_bytes()
    for out in (path, tmp_path / "link.csv"):
        assert _predict(generator_file, "--out", out, path) == 2
        assert "would overwrite" in one_error()
    assert path.read_bytes() == before
    assert _predict(generator_file, "--out", tmp_path / "table.xls", path) == 2
    assert "ends in none of .csv" in one_error()
