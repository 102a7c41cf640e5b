"""`stellarhml fetch` from a server on this machine, and the generator that is built of what it brings."""

import pooch.core
import pytest
from phoenix_server import serve

from stellarhml import load
from stellarhml.cli.main import main
from stellarhml.grids.phoenix_files import WAVE_NAME, phoenix_file_name

RANGES = ["--teff", "5000", "5250", "--logg", "3.5", "4", "--feh", "0", "0"]
NAMES = [phoenix_file_name(teff, logg, 0.0).as_posix() for teff in (5000, 5250) for logg in (3.5, 4.0)]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)


@pytest.fixture(autouse=True)
def _values_of_the_library(monkeypatch):
    """Those of the test's grid, whose Teff are 5000, 5250 and 5500 K."""
    from stellarhml.grids import fetch

    monkeypatch.setitem(fetch.PHOENIX_VALUES, "teff", [5000.0, 5250.0, 5500.0, 5750.0])


@pytest.fixture
def server(folder):
    with serve(folder) as server:
        yield server


@pytest.fixture
def fetch(server, tmp_path):
    """Run the command into tmp_path/grid."""

    def run(*arguments):
        out = ["--out", str(tmp_path / "grid"), "--base-url", server.url, "--timeout", "5"]
        return main(["fetch", "phoenix", *RANGES, *out, *arguments])

    return run


def files(tmp_path):
    grid = tmp_path / "grid"
    return {path.relative_to(grid).as_posix() for path in grid.rglob("*") if path.is_file()}


def gets(server):
    return [path for command, path in server.requests if command == "GET"]


def test_from_nothing_to_a_generator(server, fetch, tmp_path, capsys):
    n_bytes = sum((server.folder / name).stat().st_size for name in (WAVE_NAME, *NAMES))
    assert fetch("--dry-run") == 0
    assert capsys.readouterr().out == f"to download: 5 files, {n_bytes / 1e6:.1f} MB into {tmp_path / 'grid'}\n"
    assert files(tmp_path) == set()
    assert fetch() == 0
    assert capsys.readouterr().out.splitlines()[1] == f"complete: {tmp_path / 'grid'}"
    assert files(tmp_path) == {WAVE_NAME, *NAMES}
    server.requests.clear()
    assert fetch() == 0
    assert "0 files, 0.0 MB" in capsys.readouterr().out
    assert server.requests == []
    out = tmp_path / "g.asdf"
    assert main(["build", str(tmp_path / "grid"), "--wavelength", "8500", "8510", "--out", str(out)]) == 0
    assert load(out).interpolator_.nodes_.tolist() == [[t, g, 0] for t in (5000, 5250) for g in (3.5, 4)]


def test_a_cut_is_tried_again_and_resumed(server, fetch, tmp_path, capsys, one_error):
    server.cuts[NAMES[2]] = [1000]
    assert fetch() == 0
    assert gets(server).count(NAMES[2]) == 2
    (tmp_path / "grid" / NAMES[2]).unlink()
    server.cuts[NAMES[2]] = [1000]
    capsys.readouterr()
    assert fetch("--retries", "0") == 2
    said = capsys.readouterr()
    assert "to download: 1 files" in said.out
    assert "3 spectra are there already" in said.out
    errors = [line for line in said.err.splitlines() if line.startswith("stellarhml: error: ")]
    assert len(errors) == 1
    assert NAMES[2] in errors[0]
    assert NAMES[2] not in files(tmp_path)
    assert fetch() == 0
    assert files(tmp_path) == {WAVE_NAME, *NAMES}


def test_nodes_that_the_server_lacks(server, fetch, tmp_path, capsys):
    assert fetch("--teff", "5500", "5750") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "does not have 2 of the chosen nodes (404), first (teff, logg, feh) = (5750, 3.5, 0)" in error
    assert "--allow-missing" in error
    assert gets(server) == []
    assert fetch("--teff", "5500", "5750", "--allow-missing") == 0
    assert "stellarhml: warning: " in capsys.readouterr().err
    assert len(files(tmp_path)) == 3


def test_a_wrong_length(server, fetch, tmp_path, capsys):
    server.lengths[NAMES[1]] = 3000
    assert fetch("--retries", "1") == 2
    assert NAMES[1] in capsys.readouterr().err.strip().splitlines()[-1]
    assert files(tmp_path) == {WAVE_NAME, NAMES[0]}


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (["--teff", "5300", "5400"], "no node in it"),
        (["--teff", "6000", "5000"], "lo <= hi"),
        (["--base-url", "ftp://example.org"], "http"),
        (["--alpha", "0", "0.2", "0.4"], "closed range"),
    ],
)
def test_errors_are_one_line(fetch, one_error, extra, text):
    assert fetch(*extra) == 2
    assert text in one_error()


def test_a_file_in_the_place_of_the_folder(fetch, tmp_path, one_error):
    (tmp_path / "grid").write_text("mine")
    assert fetch() == 2
    assert "is a file, but --out needs a folder" in one_error()
