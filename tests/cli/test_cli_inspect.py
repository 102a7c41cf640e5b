"""`stellarhml inspect`: generators and spectra, as text and as JSON."""

import json
import os

import numpy as np
import pytest
from mock_line_list import mock_line_list

from stellarhml import PhoenixPreprocessor, __version__, load, save
from stellarhml.cli.main import main
from stellarhml.spectra import ObservedSpectrum


@pytest.fixture(scope="module")
def safe_file(generator_file):
    return generator_file


@pytest.fixture
def spectrum_file(tmp_path):
    """Two orders of 100 and 80 pixels at a signal-to-noise ratio of 50 and 20; three pixels masked."""
    first, second = 8500 + 0.1 * np.arange(100), 8520 + 0.1 * np.arange(80)
    error = np.full(100, 2.0)
    error[:3] = np.inf
    orders = [(first, np.full(100, 100.0), error), (second, np.full(80, 100.0), np.full(80, 5.0))]
    meta = {"instrument": "HPF", "object": "a star", "order_numbers": [4, 7], "resolving_power": 55000.0}
    ObservedSpectrum(orders, meta).write(tmp_path / "star.ecsv")
    return tmp_path / "star.ecsv"


def _json(capsys):
    captured = capsys.readouterr()
    return json.loads(captured.out, parse_constant=pytest.fail), captured.err


def test_a_generator(safe_file, grid, capsys):
    assert main(["inspect", "--json", str(safe_file)]) == 0
    (record,), err = _json(capsys)
    assert err == ""
    generator = load(safe_file)
    assert record["file"] == str(safe_file)
    assert record["kind"] == "estimator"
    units = {"teff": "K", "logg": "dex(cm/s2)", "feh": "dex"}
    for label, column in zip(record["labels"], grid.labels.T, strict=True):
        assert (label["low"], label["high"]) == (column.min(), column.max())
        assert (label["n_values"], label["unit"]) == (3, units[label["name"]])
    assert record["n_nodes"] == 27
    assert record["n_pixels"] == len(generator.wavelength_)
    assert record["wavelength"] == generator.wavelength_[[0, -1]].tolist()
    assert record["n_lines"] == len(generator.decomposer_.line_catalog_)
    assert record["n_tagged"] is None
    assert record["residual_rank"] == (None if generator.residual_ is None else generator.residual_.rank)
    assert record["breaks"] == {}
    assert record["versions"]["stellarhml"] == __version__
    # the map of errors says the same, sample by sample
    expected = generator.error_map_.to_frame()["expected"]
    assert 0 < record["error"]["median"] < record["error"]["percentile_95"] < 10 * expected.max()
    assert main(["inspect", str(safe_file)]) == 0
    text = capsys.readouterr().out
    assert f"lines      {record['n_lines']}, in" in text
    assert "teff       5000 to 5500 K, 3 values" in text
    assert f"tagged     none of {record['n_lines']} lines" in text
    assert "jumps      none found" in text
    assert f"error      {record['error']['median']:.2g} of the continuum in the median pixel" in text


def test_jumps_are_listed(safe_file, tmp_path, capsys):
    generator = load(safe_file)
    generator.interpolator_.breaks = {"teff": [5050.0]}
    save(generator, tmp_path / "g.asdf")
    assert main(["inspect", str(tmp_path / "g.asdf")]) == 0
    assert "jumps      teff at 5050\n" in capsys.readouterr().out


def test_tagged_lines_are_counted(safe_file, tmp_path, capsys):
    generator = load(safe_file)
    n_lines = len(generator.decomposer_.line_catalog_)
    save(generator.tag_lines(mock_line_list(generator, left_out=[0, 1, 5])), tmp_path / "g.asdf")
    assert main(["inspect", "--json", str(tmp_path / "g.asdf")]) == 0
    assert _json(capsys)[0][0]["n_tagged"] == n_lines - 3
    assert main(["inspect", str(tmp_path / "g.asdf")]) == 0
    assert f"tagged     {n_lines - 3} of {n_lines} lines\n" in capsys.readouterr().out


class _Marks:
    """A pickle of it makes a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["g.joblib", "g.pkl", "compressed.joblib"])
def test_a_pickle_is_not_opened_unless_it_is_trusted(tmp_path, name, capsys, one_error):
    marked = tmp_path / "code ran"
    save(_Marks(marked), tmp_path / name, compress=3 if name == "compressed.joblib" else 0)
    assert main(["inspect", str(tmp_path / name)]) == 2
    assert "--trust-pickle" in one_error()
    assert not marked.exists()
    assert main(["inspect", "--trust-pickle", str(tmp_path / name)]) == 0
    assert marked.is_dir()
    text = capsys.readouterr().out
    assert "contents   no fitted generator" in text
    assert "a pickle, which runs the code of its author" in text


def test_a_pickle_has_the_contents_of_a_file_without_code(pickle_file, safe_file, capsys):
    assert main(["inspect", "--json", "--trust-pickle", str(pickle_file), str(safe_file)]) == 0
    (pickled, safe), _ = _json(capsys)
    for key in ("labels", "n_nodes", "wavelength", "n_lines", "n_factors", "residual_rank", "breaks", "error"):
        assert pickled[key] == safe[key]


def test_a_regressor_shows_its_generator(generator_file, tmp_path, capsys):
    from stellarhml import BayesianStellarRegressor

    save(BayesianStellarRegressor.from_generator(load(generator_file)), tmp_path / "r.asdf")
    save(PhoenixPreprocessor(), tmp_path / "p.asdf")
    assert main(["inspect", "--json", str(tmp_path / "r.asdf"), str(tmp_path / "p.asdf")]) == 0
    (regressor, bare), _ = _json(capsys)
    assert regressor["n_nodes"] == 27
    assert "n_nodes" not in bare


def test_a_spectrum(spectrum_file, capsys):
    assert main(["inspect", "--json", "--orders", str(spectrum_file)]) == 0
    (record,), _ = _json(capsys)
    expected = {"kind": "spectrum", "instrument": "HPF", "object": "a star", "date": None, "medium": "vacuum"}
    expected |= {"resolving_power": 55000.0, "n_orders": 2, "n_pixels": 180, "n_masked": 3, "errors_known": True}
    expected |= {"wavelength": [8500.0, 8520 + 0.1 * 79], "median_snr": 50.0}
    for key, value in expected.items():
        assert record[key] == value, key
    assert [order["order"] for order in record["orders"]] == [4, 7]
    assert [order["median_snr"] for order in record["orders"]] == [50.0, 20.0]
    assert [order["n_masked"] for order in record["orders"]] == [3, 0]
    assert main(["inspect", str(spectrum_file)]) == 0
    text = capsys.readouterr().out
    assert "pixels     180 in 2 orders, 3 masked" in text
    assert "S/N        50 per pixel in the median" in text
    assert "R          55000" in text
    assert "order 4" not in text


def test_wavelengths_of_an_unknown_medium_stay_as_they_are(tmp_path, capsys):
    (tmp_path / "star.txt").write_text("5000.0 1.0\n5000.1 0.9\n5000.2 1.0\n")
    ends = {}
    for medium in (None, "vacuum", "air"):
        assert main(["inspect", "--json", str(tmp_path / "star.txt"), *(["--medium", medium] if medium else [])]) == 0
        (record,), _ = _json(capsys)
        assert record["medium"] == medium
        assert record["median_snr"] is None
        ends[medium] = record["wavelength"][0]
    assert ends[None] == ends["vacuum"] == 5000.0
    assert ends["air"] == pytest.approx(5001.39, abs=0.01)
    assert main(["inspect", str(tmp_path / "star.txt")]) == 0
    text = capsys.readouterr().out
    assert "medium not stated: predict needs --medium" in text
    assert "S/N        unknown\n" in text


def test_files_that_are_neither(tmp_path, safe_file, spectrum_file, capsys):
    (tmp_path / "notes.md").write_text("# Notes\n\nNothing of interest, really.\nOr so.\n")
    np.savez(tmp_path / "air.npz", wavelength=[1.0, 2.0], transmission=[1.0, 0.5])
    (tmp_path / "empty").touch()
    (tmp_path / "cut.asdf").write_bytes(safe_file.read_bytes()[:-7])
    (tmp_path / "lonely.joblib").write_bytes(b"\x80\x04N.")
    bad = {
        "notes.md": "is neither a saved generator nor a spectrum that can be read",
        "air.npz": "a transmission of the atmosphere",
        "empty": "it is empty, but a spectrum is needed",
        "cut.asdf": "cut short or was changed",
        "lonely.joblib": "--trust-pickle",
        "nothing": "does not exist or is not a file",
        ".": "does not exist or is not a file",
    }
    files = [str(tmp_path / name) for name in bad]
    assert main(["inspect", "--json", *files, str(safe_file), str(spectrum_file)]) == 1
    records, err = _json(capsys)
    assert [record["kind"] for record in records] == [*["failed"] * len(bad), "estimator", "spectrum"]
    lines = err.splitlines()
    assert len(lines) == len(bad)
    for record, line, text in zip(records, lines, bad.values(), strict=False):
        assert text in record["error"]
        assert line.startswith("stellarhml: error: ")
        assert text in line
    assert main(["inspect", *files]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == len(bad)
    assert main(["inspect", "--json", *files]) == 2
    assert len(_json(capsys)[0]) == len(bad)


def test_text_of_several_files_is_in_blocks(safe_file, spectrum_file, capsys):
    assert main(["inspect", str(safe_file), str(spectrum_file)]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [f"file       {name}" for name in (safe_file, spectrum_file)]


def test_files_of_telescopes(shared_data, capsys):
    folder = shared_data.DATA / "observed"
    files = ["hpf_GJ699.fits", "hpf_goldilocks_A0V_HR4829.fits", "igrins_S1063.npz"]
    assert main(["inspect", "--json", *(str(folder / name) for name in files)]) == 0
    (star, standard, igrins), _ = _json(capsys)
    for record, name in ((star, "GJ_699"), (standard, "HR4829_tell_std")):
        assert (record["instrument"], record["object"], record["n_orders"]) == ("HPF", name, 28)
        assert record["n_pixels"] == 28 * 2048
        assert (record["medium"], record["resolving_power"]) == ("vacuum", 55000.0)
        assert record["median_snr"] > 100
    assert (igrins["n_orders"], igrins["medium"], igrins["resolving_power"]) == (28, None, None)
    assert main(["inspect", "--json", "--format", "igrins", str(folder / files[2])]) == 0
    (igrins,), _ = _json(capsys)
    assert (igrins["instrument"], igrins["medium"], igrins["resolving_power"]) == ("IGRINS", "vacuum", 45000.0)
