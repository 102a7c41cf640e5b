"""`stellarhml calibrate`: corrections of lines from files of reference stars."""

import numpy as np
import pandas as pd
import pytest
from mock_line_list import mock_line_list, write_line_list

from stellarhml import LineCalibrator, load
from stellarhml.cli.main import main
from stellarhml.synthesis.shifted_lines import shift_lines
from stellarhml.workflows import calibrating

LABELS = {"a.txt": (5250.0, 4.0, 0.0), "b.txt": (5400.0, 3.8, -0.2)}
POWER = "40000"


@pytest.fixture(scope="module")
def stars(tmp_path_factory, generator_file):
    """Folder with two stars, whose lines are stronger and weaker than the generator's, and a table of their labels."""
    folder, generator = tmp_path_factory.mktemp("stars"), load(generator_file)
    n = len(generator.decomposer_.line_catalog_)
    star = shift_lines(generator, {"strength": np.where(np.arange(n) % 2, 0.3, -0.3)})
    rng, pixels = np.random.default_rng(0), generator.wavelength_[25:-25]
    for name, labels in LABELS.items():
        flux = star.observe([labels], pixels, resolving_power=float(POWER), rv=10.0, vsini=4.0)[0]
        noisy = flux + rng.normal(scale=0.003, size=len(pixels))
        np.savetxt(folder / name, np.column_stack([pixels, noisy, np.full(len(pixels), 0.003)]), fmt="%.9e")
    rows = [f"{folder / 'a.txt'},5250,4.0,0.0", "b.txt,5400,,-0.2"]
    (folder / "labels.csv").write_text("star,teff,logg,feh\n" + "\n".join(rows) + "\n")
    return folder


def _calibrate(generator, out, *arguments):
    given = ["--generator", generator, "--out", out, "--resolving-power", POWER, "--medium", "vacuum", "--rounds", "2"]
    return main(["calibrate", *map(str, given), *map(str, arguments)])


def test_it_does_what_the_estimator_does(generator_file, stars, tmp_path, capsys):
    out, table = tmp_path / "new" / "g.asdf", tmp_path / "lines.csv"
    names = [stars / name for name in LABELS]
    before = generator_file.read_bytes()
    assert _calibrate(generator_file, out, "--labels", stars / "labels.csv", "--table", table, *names) == 0
    assert generator_file.read_bytes() == before
    labels = [LABELS["a.txt"], (5400.0, np.nan, -0.2)]
    spectra = [tuple(np.loadtxt(name).T) for name in names]
    calibrator = LineCalibrator(load(generator_file), n_rounds=2, verbose=False)
    calibrator.fit(spectra, labels, resolving_power=float(POWER))
    corrected = load(out)
    point = [[5300.0, 3.9, -0.1]]
    np.testing.assert_allclose(corrected.predict(point), calibrator.generator_.predict(point), atol=1e-8)
    written = pd.read_csv(table)
    assert written["wavelength"].tolist() == calibrator.corrections_.index.tolist()
    np.testing.assert_allclose(written["strength"], calibrator.corrections_["strength"], atol=1e-6)
    shown = written[written["n_stars"] == 2]
    assert len(shown) > 3
    # every second line is stronger by 0.13 dex
    assert (np.abs(shown["strength"]) < 0.25).all()
    assert np.ptp(shown["strength"]) > 0.15
    text = capsys.readouterr().out
    n_shown = (written["n_stars"] > 0).sum()
    assert f"2 stars, 2 with known labels: {n_shown} of {len(written)} lines are shown, 0 of them" in text
    assert f"generator: {out}" in text
    assert f"table: {table}" in text


def test_options_are_those_of_the_estimator(generator_file, stars, tmp_path, monkeypatch, capsys):
    given = {}

    class Recorder(LineCalibrator):
        def __init__(self, generator, **parameters):
            given.update(parameters)
            super().__init__(generator, **parameters)

    monkeypatch.setattr(calibrating, "LineCalibrator", Recorder)
    monkeypatch.setattr(calibrating, "SUN", 5250.0)  # which this star has
    star, out = stars / "a.txt", tmp_path / "g.asdf"
    options = ["--grid-microturbulence", "1.4", "--macroturbulence", "gaussian", "--sun", star]
    assert _calibrate(generator_file, out, *options) == 0
    expected = {"grid_microturbulence": 1.4, "macroturbulence": "gaussian", "abundance_scatter": 0.0}
    assert {name: given[name] for name in expected} == expected
    assert "warning" not in capsys.readouterr().err
    assert _calibrate(generator_file, out, star) == 0
    expected = {"grid_microturbulence": 1.0, "macroturbulence": None, "abundance_scatter": 0.05}
    assert {name: given[name] for name in expected} == expected
    assert "warning" not in capsys.readouterr().err
    monkeypatch.setattr(calibrating, "SUN", 9000.0)
    assert _calibrate(generator_file, out, "--sun", star) == 0
    doubt = capsys.readouterr().err
    assert f"warning: {star}: with the generator's lines as they are it has 5" in doubt
    assert "and the Sun 9000 K: check that it is a spectrum of the Sun" in doubt


def test_species_and_units_in_a_table(generator_file, stars, tmp_path, capsys):
    from astropy.table import Table

    lines = mock_line_list(load(generator_file))
    titanium = write_line_list(tmp_path / "l.csv", lines._replace(species=np.full(len(lines.species), "Ti I")))
    table = tmp_path / "lines.ecsv"
    arguments = ["--lines", titanium, "--lines-medium", "vacuum", "--table", table, stars / "a.txt", stars / "b.txt"]
    assert _calibrate(generator_file, tmp_path / "g.asdf", *arguments) == 0
    # a row for titanium, which both stars show
    assert [row.split()[-1] for row in capsys.readouterr().out.splitlines() if row.startswith("Ti ")] == ["2"]
    written = Table.read(table)
    assert written["wavelength"].unit == "Angstrom"
    assert written["velocity_std"].unit == "km / s"
    assert "zero point" in written["strength"].description
    assert set(written["species"]) == {"Ti I"}
    assert load(tmp_path / "g.asdf").tags_.tagged.all()


def test_a_star_that_cannot_be_used_does_not_stop_the_others(generator_file, stars, tmp_path, capsys):
    (tmp_path / "bad.txt").write_text("no spectrum\n")
    far = np.loadtxt(stars / "a.txt") + [1000, 0, 0]
    np.savetxt(tmp_path / "far.txt", far)
    out = tmp_path / "g.asdf"
    names = [tmp_path / "bad.txt", stars / "a.txt", tmp_path / "far.txt"]
    assert _calibrate(generator_file, out, *names) == 1
    captured = capsys.readouterr()
    errors = captured.err.strip().splitlines()
    assert len(errors) == 2
    assert "bad.txt" in errors[0]
    assert "far.txt: None of the" in errors[1]
    assert out.exists()
    assert "0 with known labels" in captured.out


def test_errors_write_nothing(generator_file, stars, tmp_path, one_error):
    star, out = stars / "a.txt", tmp_path / "g.asdf"
    (tmp_path / "other.csv").write_text("star,teff\nc.txt,5000\n")
    (tmp_path / "hot.csv").write_text("star,teff\na.txt,9000\n")
    (tmp_path / "words.csv").write_text("star,teff\na.txt,warm\n")
    (tmp_path / "columns.csv").write_text("name,temperature\na.txt,5000\n")
    (tmp_path / "bad.txt").write_text("no spectrum\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    for arguments, text in (
        (["--labels", tmp_path / "other.csv", star], "'c.txt', which is none of the 1 spectra"),
        (["--labels", tmp_path / "hot.csv", star], "teff = 9000, but the grid has"),
        (["--labels", tmp_path / "words.csv", star], "teff = 'warm' for star 'a.txt', which is no number"),
        (["--labels", tmp_path / "columns.csv", star], "but `star` is needed"),
        (["--labels", tmp_path / "none.csv", star], "none.csv"),
        (["--lines", tmp_path / "none.lin", star], "none.lin does not exist"),
        (["--lines-medium", "air", star], "needs --lines FILE"),
        (["--table", tmp_path / "table.doc", star], "its name ends in none of"),
        (["--table", star, star], "--table"),
        (["--tellurics-limit", "0.9", star], "needs --tellurics"),
        ([tmp_path / "bad.txt"], "None of the 1 spectra can be used"),
        (["--generator", tmp_path / "none.asdf", star], "none.asdf does not exist"),
        (["--out", generator_file, star], "would overwrite"),
    ):
        assert _calibrate(generator_file, out, *arguments) == 2
        assert text in one_error()
    assert sorted(path.name for path in tmp_path.iterdir()) == before
