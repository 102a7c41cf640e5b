"""The paper's experiment on a small computed grid."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from stellarhml import BayesianStellarRegressor, SpectrumGenerator
from stellarhml.datasets import make_stellar_grid
from stellarhml.pipeline import PAPER_SETTINGS
from stellarhml.workflows import benchmarking
from stellarhml.workflows.benchmark_tables import PAPER_ERRORS, as_record, edge_note, format_summary, summarise
from stellarhml.workflows.benchmarking import run_benchmark, search_settings
from stellarhml.workflows.generators import make_generator

NAMES = ("teff", "logg", "feh")


@pytest.fixture(scope="module")
def grid():
    """36 nodes of which two are inner, 300 pixels, 12 lines."""
    return make_stellar_grid(n_teff=4, n_logg=3, n_feh=3, n_pixels=300, n_lines=12, random_state=3)


@pytest.fixture(scope="module")
def result(grid):
    return run_benchmark(grid, search_settings(["nodes"]), verbose=False)


def _same(a, b):
    pd.testing.assert_frame_equal(a.table.drop(columns="seconds"), b.table.drop(columns="seconds"))


def test_left_out_nodes_are_found_again(result, grid):
    table = result.table
    assert table["search"].tolist() == ["nodes", "nodes"]
    assert result.n_folds == table["fold"].nunique() == 2  # the two are neighbours
    for name, k, most in zip(NAMES, range(3), (60, 0.15, 0.1), strict=True):
        np.testing.assert_array_equal(table[f"{name}_true"], grid.labels[table["star"], k])
        np.testing.assert_allclose(table[f"{name}_difference"], table[f"{name}"] - table[f"{name}_true"])
        # a quarter of the steps, 250 K and 0.5 dex, between nodes that are two of them apart
        assert table[f"{name}_difference"].abs().max() < most
    assert (table["seconds"] > 0).all()


def test_it_is_the_plain_way_of_holding_out(result, grid):
    """Up to what the catalogue and the prior of the lines owe to the held-out spectrum itself."""
    row = result.table.iloc[0]
    rest = np.delete(np.arange(len(grid.labels)), row["star"])
    generator = SpectrumGenerator(preprocessor=make_generator(grid.wavelength).preprocessor, verbose=False).fit(
        grid.labels[rest], grid.flux[rest]
    )
    low, high = max(5000.0, row["teff_true"] - 500), min(5750.0, row["teff_true"] + 500)
    regressor = BayesianStellarRegressor.from_generator(generator, bounds={"teff": (low, high)}, verbose=False)
    found = regressor.predict(grid.flux[[row["star"]]])[0]
    inferred = [row[f"{name}"] for name in NAMES]
    np.testing.assert_allclose(found, inferred, atol=5e-3, rtol=1e-3)


def test_seen_nodes_are_found_better(result, grid):
    seen = run_benchmark(grid, search_settings(["nodes"]), kind="seen", max_nodes=4, verbose=False)
    assert seen.n_folds == 1
    assert len(seen.table) == 4
    assert seen.table["teff_difference"].abs().max() < result.table["teff_difference"].abs().max()


@pytest.mark.slow
def test_planes_with_the_papers_generator(grid, monkeypatch):
    """In all but the degree of the continuum, for which this window has too few maxima."""
    settings = {**PAPER_SETTINGS, "preprocessor": {**PAPER_SETTINGS["preprocessor"], "degree": 0}}
    monkeypatch.setattr("stellarhml.workflows.generators.PAPER_SETTINGS", settings)
    options = {"kind": "planes", "n_folds": 2, "max_nodes": 2, "paper_generator": True, "verbose": False}
    table = run_benchmark(grid, search_settings(["nodes"]), **options).table
    assert len(table) == 2
    assert table["teff_difference"].abs().max() < 125
    with pytest.raises(ValueError, match="full grid"):
        run_benchmark(grid, search_settings(["nodes"]), **options | {"kind": "left-out"})


@pytest.mark.slow
def test_workers_do_not_change_results(grid):
    searches = search_settings(["nodes", "bayes"], n_calls=6, n_initial_points=5)
    options = {"kind": "seen", "max_nodes": 3, "snr": 100.0, "seed": 5, "verbose": False}
    one = run_benchmark(grid, searches, n_jobs=1, **options)
    two = run_benchmark(grid, searches, n_jobs=2, **options)
    _same(one, two)
    assert one.table["search"].tolist() == 3 * ["nodes"] + 3 * ["bayes"]


@pytest.mark.slow
def test_noise_and_search_are_each_stars_own(grid):
    """A star is the same, whichever others there are."""
    searches = search_settings(["bayes"], paper=True, n_calls=4, n_initial_points=3)
    options = {"snr": 30.0, "teff_known": None, "verbose": False}
    one = run_benchmark(grid, searches, max_nodes=1, **options).table
    both = run_benchmark(grid, searches, **options).table
    alone = both[both["star"].isin(one["star"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(one.drop(columns=["seconds", "fold"]), alone.drop(columns=["seconds", "fold"]))
    # the points that are tried differ from star to star
    assert both["teff"].nunique() == 2


@pytest.mark.slow
def test_teff_is_known_as_asked(grid, monkeypatch):
    used = []
    make = BayesianStellarRegressor.from_generator

    def note(generator, **parameters):
        used.append(parameters)
        return make(generator, **parameters)

    monkeypatch.setattr(benchmarking.BayesianStellarRegressor, "from_generator", note)
    searches = search_settings(["nodes"])
    table = run_benchmark(grid, searches, teff_known=100.0, verbose=False).table
    assert (table["teff_difference"].abs() <= 100.0).all()
    assert [parameters["bounds"] for parameters in used] == [{"teff": (5150.0, 5350.0)}, {"teff": (5400.0, 5600.0)}]
    used.clear()
    run_benchmark(grid, searches, teff_known=400.0, kind="seen", max_nodes=4, verbose=False)
    assert [parameters["bounds"]["teff"] for parameters in used] == [
        (5000.0, 5400.0),
        (5000.0, 5650.0),
        (5100.0, 5750.0),
        (5350.0, 5750.0),
    ]
    used.clear()
    run_benchmark(grid, searches, teff_known=None, verbose=False)
    assert [parameters["bounds"] for parameters in used] == [None, None]


def test_one_star_that_fails_does_not_stop_the_others(grid, monkeypatch):
    predict = BayesianStellarRegressor.predict

    def fail_once(self, X, **parameters):
        if np.allclose(X[0], grid.flux[13]):
            raise ValueError("nothing\nfits")
        return predict(self, X, **parameters)

    monkeypatch.setattr(BayesianStellarRegressor, "predict", fail_once)
    result = run_benchmark(grid, search_settings(["nodes"]), verbose=False)
    table = result.table.set_index("star")
    assert table["status"].to_dict()[13] == "failed"
    assert table.loc[13, "message"] == "nothing fits"
    assert np.isnan(table.loc[13, "teff"])
    assert np.isfinite(table.drop(index=13)["teff_difference"]).all()
    (record,) = summarise(result.table, NAMES)
    assert (record["n_stars"], record["n_failed"]) == (2, 1)
    assert "1 failed" in format_summary([record], NAMES)


def test_searches_are_what_was_asked_for():
    settings = search_settings(["nodes", "bayes"], paper=True, n_calls=120, n_initial_points=100)
    published = {"n_initial_points": 100, "n_calls": 120}
    assert settings == {"nodes": {"search": "nodes"}, "paper": PAPER_SETTINGS["regressor"] | published}
    assert search_settings(["bayes"], paper=True) == {"paper": PAPER_SETTINGS["regressor"]}
    assert search_settings(["bayes"]) == {"bayes": {"search": "bayes"}}
    with pytest.raises(ValueError, match="Add bayes"):
        search_settings(["nodes"], paper=True)
    with pytest.raises(ValueError, match="Of 30 calls 30 would be random"):
        search_settings(["bayes"], n_calls=30)


@pytest.fixture
def table():
    """Two methods, three cool stars and one hot one."""
    teff = np.array([5000.0, 6000.0, 6990.0, 7000.0])
    frames = []
    for search, error in (("nodes", [1.0, -2.0, 6.0, 10.0]), ("paper", [10.0, -20.0, np.nan, 300.0])):
        frame = pd.DataFrame({"star": range(4), "fold": 1, "search": search, "status": "ok", "teff_true": teff})
        frame["teff_difference"], frame["seconds"] = error, np.where(np.isnan(error), np.nan, 2.0)
        frame.loc[np.isnan(error), "status"] = "failed"
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def test_summary_is_of_absolute_errors_below_and_from_7000(table):
    summary = summarise(table, ("teff",))
    assert [(r["search"], r["stars"], r["n_stars"], r["n_failed"]) for r in summary] == [
        ("nodes", "below 7000 K", 3, 0),
        ("nodes", "7000 K and above", 1, 0),
        ("paper", "below 7000 K", 3, 1),
        ("paper", "7000 K and above", 1, 0),
    ]
    assert summary[0]["errors"]["teff"] == pytest.approx({"mean": 3.0, "median": 2.0, "std": np.std([1, 2, 6])})
    assert summary[2]["errors"]["teff"] == pytest.approx({"mean": 15.0, "median": 15.0, "std": 5.0})
    assert summary[2]["seconds"] == 2.0
    text = format_summary(summary, ("teff",))
    lines = text.splitlines()
    assert len(lines) == 2 + 4 + 2
    assert "347.0" in lines[-1]
    assert "93.0" in lines[-2]
    assert "No star" not in text


def test_an_empty_range_is_told(table):
    cool, hot = table[table["teff_true"] < 7000], table[table["teff_true"] >= 7000]
    assert format_summary(summarise(cool, ("teff",)), ("teff",)).endswith("No star lies at 7000 K and above.")
    text = format_summary(summarise(hot, ("teff",)), ("teff",))
    assert text.endswith("No star lies below 7000 K.")
    assert "93.0" not in text


def test_json_holds_it_all(result, grid):
    record = as_record(grid, result, summarise(result.table, NAMES))
    again = json.loads(json.dumps(record, allow_nan=False))
    assert again["grid"]["labels"]["teff"] == [5000.0, 5750.0]
    assert again["summary"][0]["errors"]["teff"]["mean"] == pytest.approx(result.table["teff_difference"].abs().mean())
    assert again["paper_errors"] == PAPER_ERRORS


def test_stars_at_an_end_of_the_grid_are_told(grid):
    inner = pd.DataFrame({"star": [13, 22]})
    assert edge_note(inner, grid.labels, NAMES) == ""
    assert "1 in teff, 1 in logg, 1 in feh" in edge_note(pd.DataFrame({"star": [0, 13, 13]}), grid.labels, NAMES)


def test_other_labels_do(grid):
    """Without Teff, the search is not bounded, and all stars are in one range."""
    rows = grid.labels[:, 0] == 5000.0
    other = Bunch(
        flux=grid.flux[rows],
        labels=grid.labels[rows, 1:],
        wavelength=grid.wavelength,
        label_names=("logg", "feh"),
    )
    result = run_benchmark(other, search_settings(["nodes"]), verbose=False)
    (record,) = summarise(result.table, result.label_names)
    assert (record["stars"], record["n_stars"]) == ("all", 1)
    assert "all, 1 star" in format_summary([record], result.label_names)
