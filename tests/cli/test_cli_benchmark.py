"""`stellarhml benchmark`, on a small computed grid in place of the packaged one."""

import json

import pandas as pd
import pytest
from astropy.io import fits

from stellarhml import BayesianStellarRegressor, __version__
from stellarhml.cli.main import main
from stellarhml.datasets import make_stellar_grid


@pytest.fixture(scope="module")
def grid():
    return make_stellar_grid(n_teff=4, n_logg=3, n_feh=2, n_pixels=300, n_lines=12, random_state=3)


@pytest.fixture
def packaged(grid, monkeypatch):
    """The computed grid in place of the packaged one, and no progress bars."""
    monkeypatch.setattr("stellarhml.datasets._mini_grid.load_mini_grid", lambda: grid)


def test_table_files_and_figure(packaged, tmp_path, capsys):
    from matplotlib.image import imread

    files = {name: tmp_path / "new" / f"errors.{name}" for name in ("csv", "json", "png")}
    options = ["--out", str(files["csv"]), "--json", str(files["json"]), "--figure", str(files["png"])]
    searches = ["--search", "nodes", "--search", "bayes", "--paper", "--calls", "4", "--initial", "3"]
    assert main(["benchmark", *searches, *options]) == 0
    out = capsys.readouterr().out
    table = pd.read_csv(files["csv"])
    assert table["search"].tolist() == 4 * ["nodes"] + 4 * ["paper"]
    assert table["star"].nunique() == 4
    record = json.loads(files["json"].read_text())
    assert record["stellarhml"] == __version__
    assert record["settings"]["teff_known"] == 500.0
    assert record["settings"]["searches"]["paper"]["n_calls"] == 4
    assert not record["settings"]["searches"]["paper"]["polish"]
    for row in record["summary"]:
        errors = table.loc[table["search"] == row["search"], "teff_difference"].abs()
        assert row["errors"]["teff"]["mean"] == pytest.approx(errors.mean())
        assert f"{errors.mean():.1f}" in out
    # four random and one guided call cannot do what the search of the nodes and a polish do
    nodes, paper = (row["errors"]["teff"]["mean"] for row in record["summary"])
    assert nodes < 60 < paper
    assert "as published: below 7000 K, seen nodes" in out
    assert "No star lies at 7000 K and above." in out
    assert "4 in feh lie at an edge of the grid" in out
    assert imread(files["png"]).shape[0] > 800


def test_a_phoenix_folder(grid, tmp_path, capsys):
    fits.PrimaryHDU(grid.wavelength).writeto(tmp_path / "WAVE_PHOENIX-ACES-AGSS-COND-2011.fits")
    for (teff, logg, feh), flux in zip(grid.labels, grid.flux, strict=True):
        hdu = fits.PrimaryHDU((1e14 * flux).astype("f4"))
        hdu.header.update(PHXTEFF=teff, PHXLOGG=logg, PHXM_H=feh, PHXALPHA=0.0)
        z = "-0.0" if feh == 0 else f"{feh:+.1f}"
        name = f"lte{teff:05.0f}-{logg:.2f}{z}.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits"
        path = tmp_path / "PHOENIX-ACES-AGSS-COND-2011" / f"Z{z}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        hdu.writeto(path)
    arguments = ["benchmark", "--phoenix", str(tmp_path), "--teff", "5000", "5500", "--wavelength", "8500", "8512"]
    assert main([*arguments, "--search", "nodes", "--snr", "200", "--teff-known", "none", "--nodes", "seen"]) == 0
    out = capsys.readouterr().out
    assert "Grid: 18 spectra of 241 pixels, 8500-8512 angstrom. Stars: 18 nodes (seen), S/N 200 per pixel" in out
    assert "Teff free" in out


def test_some_failed_is_1_and_all_failed_is_2(packaged, grid, tmp_path, monkeypatch, capsys):
    predict = BayesianStellarRegressor.predict
    monkeypatch.setattr(
        BayesianStellarRegressor,
        "predict",
        lambda self, X, **parameters: _fail() if (grid.flux[8] == X).all() else predict(self, X, **parameters),
    )
    assert main(["benchmark", "--search", "nodes", "--out", str(tmp_path / "t.csv")]) == 1
    captured = capsys.readouterr()
    assert "stellarhml: error: node 8, nodes: nothing fits" in captured.err
    assert "1 failed" in captured.out
    assert (pd.read_csv(tmp_path / "t.csv")["status"] == "failed").sum() == 1
    monkeypatch.setattr(BayesianStellarRegressor, "predict", lambda self, X, **parameters: _fail())
    assert main(["benchmark", "--search", "nodes", "--out", str(tmp_path / "none.csv")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert not (tmp_path / "none.csv").exists()


def _fail():
    raise ValueError("nothing fits")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nodes", "all"], "all"),
        (["--search", "nodes,magic"], "'magic' is not one of nodes, bayes"),
        (["--teff-known", "soon"], "neither a positive number nor none"),
        (["--snr", "-3"], "positive"),
        (["--folds", "1"], "1 is less than 2"),
        (["--max-nodes", "0"], "0 is less than 1"),
        (["--jobs", "0"], "-1 for one per core"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_with_2(arguments, text, one_error, exit_code):
    assert exit_code(["benchmark", *arguments]) == 2
    assert text in one_error()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--search", "nodes", "--paper"], "Add bayes"),
        (["--calls", "20"], "30 would be random"),
        (["--teff", "5000", "6000"], "Give --phoenix"),
        (["--allow-missing"], "--allow-missing chooses"),
        (["--phoenix", "/nonexistent"], "/nonexistent"),
        (["--figure", "errors.doc"], "ending must be one of"),
        (["--out", "."], "--out needs the name"),
        (["--json", "/proc/none/e.json"], "Choose another --json"),
        (["--paper-generator"], "Leave out planes"),
    ],
)
def test_errors_are_one_line(packaged, arguments, text, one_error):
    assert main(["benchmark", *arguments]) == 2
    assert text in one_error()
