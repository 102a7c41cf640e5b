import logging
import socket

import numpy as np
import pooch.core
import pytest
from killed import kill, needs_groups, start, wait_until
from phoenix_server import serve

from stellarhml.datasets import fetch_phoenix, get_data_home, load_phoenix
from stellarhml.exceptions import DownloadError, GridIncompleteError, StellarHMLWarning
from stellarhml.grids.phoenix_files import WAVE_NAME, phoenix_file_name

NODES = {"teff": [5000, 5100], "logg": 4.5, "feh": 0.0}
FIRST = phoenix_file_name(5000, 4.5, 0.0)
SECOND = phoenix_file_name(5100, 4.5, 0.0)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)


@pytest.fixture
def server(phoenix_folder):
    with serve(phoenix_folder) as server:
        yield server


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def _gets(server):
    return [path for command, path in server.requests if command == "GET"]


def _files(home):
    return {path.relative_to(home / "phoenix").as_posix() for path in home.rglob("*") if path.is_file()}


def test_fetched_spectra_equal_the_served_ones_and_are_not_fetched_again(server, home, caplog):
    with caplog.at_level(logging.INFO):
        grid = fetch_phoenix(**NODES, base_url=server.url, data_home=home)
    assert "3 files, 0.0 MB" in caplog.text
    expected = load_phoenix(server.folder, **NODES)
    np.testing.assert_array_equal(grid.flux, expected.flux)
    np.testing.assert_array_equal(grid.labels, expected.labels)
    np.testing.assert_array_equal(grid.wavelength, expected.wavelength)
    assert _files(home) == {WAVE_NAME, FIRST.as_posix(), SECOND.as_posix()}
    for name in (WAVE_NAME, FIRST, SECOND):
        assert (home / "phoenix" / name).read_bytes() == (server.folder / name).read_bytes()
    assert len(_gets(server)) == 3

    server.requests.clear()
    fetch_phoenix(**NODES, base_url=server.url, data_home=home)
    assert server.requests == []
    flux, labels = fetch_phoenix(
        **NODES | {"teff": (5000, 5200)}, base_url=server.url + "/", data_home=home, return_X_y=True
    )
    assert labels[:, 0].tolist() == [5000, 5100, 5200]
    assert len(flux) == 3
    assert _gets(server) == [phoenix_file_name(5200, 4.5, 0.0).as_posix()]


def test_progress_counts_bytes(server, home, capfd):
    fetch_phoenix(**NODES, base_url=server.url, data_home=home, verbose=True)
    n_bytes = sum((server.folder / name).stat().st_size for name in (WAVE_NAME, FIRST, SECOND))
    assert f"{n_bytes}/{n_bytes}" in capfd.readouterr().err


def test_dry_run_gives_the_size_and_downloads_nothing(server, home):
    n_bytes = sum((server.folder / name).stat().st_size for name in (WAVE_NAME, FIRST, SECOND))
    plan = fetch_phoenix(**NODES, base_url=server.url, data_home=home, dry_run=True)
    assert plan.n_bytes == n_bytes
    assert plan.urls[1] == f"{server.url}/{FIRST.as_posix()}"
    assert plan.folder == home / "phoenix"
    assert not _gets(server)
    assert not (home / "phoenix").exists()


def test_cut_body_is_fetched_again(server, home):
    server.cuts[FIRST.as_posix()] = [1000, 500]
    fetch_phoenix(**NODES, base_url=server.url, data_home=home)
    assert _gets(server).count(FIRST.as_posix()) == 3
    assert (home / "phoenix" / FIRST).read_bytes() == (server.folder / FIRST).read_bytes()
    assert _files(home) == {WAVE_NAME, FIRST.as_posix(), SECOND.as_posix()}


def test_next_call_fetches_what_is_missing(server, home):
    """A cut file leaves no part behind; complete ones are kept."""
    server.cuts[SECOND.as_posix()] = [1000]
    with pytest.raises(DownloadError, match=r"lte05100.* could not be downloaded: .*IncompleteRead.*load_phoenix"):
        fetch_phoenix(**NODES, base_url=server.url, data_home=home, n_retries=0)
    assert _files(home) == {WAVE_NAME, FIRST.as_posix()}
    server.requests.clear()
    plan = fetch_phoenix(**NODES, base_url=server.url, data_home=home, dry_run=True)
    assert plan.n_bytes == (server.folder / SECOND).stat().st_size
    fetch_phoenix(**NODES, base_url=server.url, data_home=home)
    assert _gets(server) == [SECOND.as_posix()]
    assert _files(home) == {WAVE_NAME, FIRST.as_posix(), SECOND.as_posix()}


def test_a_file_with_another_spelling_of_zero_is_not_fetched_again(server, home):
    fetch_phoenix(**NODES, base_url=server.url, data_home=home)
    old = home / "phoenix" / FIRST
    new = old.parent.with_name(old.parent.name.replace("-0.0", "+0.0")) / old.name.replace("-0.0.PH", "+0.0.PH")
    assert new != old
    new.parent.mkdir()
    old.rename(new)
    server.requests.clear()
    assert str(new) in fetch_phoenix(**NODES, base_url=server.url, data_home=home).filenames
    assert _gets(server) == []


@needs_groups
def test_kill_9_keeps_the_files_that_were_complete(server, home):
    server.cuts[SECOND.as_posix()] = [1000]
    server.stalled.add(SECOND.as_posix())
    code = "import sys; from stellarhml.datasets import fetch_phoenix\n"
    code += f"fetch_phoenix(**{NODES!r}, base_url={server.url!r}, data_home={str(home)!r}, verbose=False)"
    process = start(["-c", code], home.parent)
    wait_until(process, lambda: SECOND.as_posix() in _gets(server))
    kill(process)
    server.stalled.clear()
    server.go_on.set()
    names = {WAVE_NAME, FIRST.as_posix()}
    assert {name for name in _files(home) if name.endswith(".fits")} == names
    server.requests.clear()
    fetch_phoenix(**NODES, base_url=server.url, data_home=home)
    assert _gets(server) == [SECOND.as_posix()]
    for name in (*names, SECOND):
        assert (home / "phoenix" / name).read_bytes() == (server.folder / name).read_bytes()


def test_server_that_states_no_sizes(server, home):
    server.knows_head = False
    assert fetch_phoenix(**NODES, base_url=server.url, data_home=home, dry_run=True).n_bytes == 0
    fetch_phoenix(**NODES, base_url=server.url, data_home=home)
    assert _files(home) == {WAVE_NAME, FIRST.as_posix(), SECOND.as_posix()}


def test_nothing_is_printed_for_each_file(server, home, capfd):
    fetch_phoenix(**NODES, base_url=server.url, data_home=home, verbose=False)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("knows_head", [True, False])
def test_node_that_the_server_lacks(server, home, knows_head):
    server.knows_head = knows_head
    with pytest.raises(GridIncompleteError, match=r"does not have 1 of the chosen nodes.*\(5300, 4\.5, 0\)"):
        fetch_phoenix(**NODES | {"teff": [5000, 5300]}, base_url=server.url, data_home=home)
    if knows_head:  # before anything is downloaded
        assert not _gets(server)


@pytest.mark.parametrize("knows_head", [True, False])
def test_nodes_that_the_server_lacks_may_be_left_out(server, home, knows_head):
    server.knows_head = knows_head
    with pytest.warns(StellarHMLWarning, match=r"does not have 1 of .*; they are left out|1 of the 2 sel"):
        grid = fetch_phoenix(**NODES | {"teff": [5000, 5300]}, missing="report", base_url=server.url, data_home=home)
    assert grid.labels.tolist() == [[5000, 4.5, 0]]
    assert grid.missing.tolist() == [[5300, 4.5, 0]]
    assert _files(home) == {WAVE_NAME, FIRST.as_posix()}


def test_alpha_as_a_label(server, home):
    from astropy.io import fits

    for teff in (5000, 5100):
        path = server.folder / phoenix_file_name(teff, 4.5, 0.0, 0.2)
        path.parent.mkdir(exist_ok=True)
        hdu = fits.PrimaryHDU(np.arange(80, dtype=np.float32) + 1)
        hdu.header["PHXALPHA"] = 0.2
        hdu.writeto(path)
    grid = fetch_phoenix(**NODES, alpha=(0, 0.2), base_url=server.url, data_home=home)
    assert grid.labels.tolist() == [[5000, 4.5, 0, 0], [5000, 4.5, 0, 0.2], [5100, 4.5, 0, 0], [5100, 4.5, 0, 0.2]]
    assert fetch_phoenix(**NODES, alpha=0.2, base_url=server.url, data_home=home).labels.shape == (2, 3)
    with pytest.raises(GridIncompleteError, match=r"\(teff, logg, feh, alpha\) = \(5000, 4\.5, 0, 0\.4\)"):
        fetch_phoenix(**NODES, alpha=0.4, base_url=server.url, data_home=home)


@pytest.mark.parametrize("more", [-100, 100])
def test_a_length_that_is_wrong(server, home, more):
    server.lengths[SECOND.as_posix()] = (server.folder / SECOND).stat().st_size + more
    with pytest.raises(DownloadError, match=r"lte05100.* could not be downloaded: .*(truncated|IncompleteRead|bytes)"):
        fetch_phoenix(**NODES, base_url=server.url, data_home=home, n_retries=1, timeout=2)
    assert _files(home) == {WAVE_NAME, FIRST.as_posix()}


def test_no_room_on_the_disk(server, home, monkeypatch):
    from stellarhml.grids import fetch

    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(DownloadError, match=r"3 files, 0\.0 MB into .* but 0\.0 MB are free there\. Make room"):
        fetch_phoenix(**NODES, base_url=server.url, data_home=home)
    assert not _gets(server)


@pytest.mark.parametrize("knows_head", [True, False])
def test_address_without_a_grid(server, home, knows_head):
    server.knows_head = knows_head
    with pytest.raises(DownloadError, match=r"nowhere/WAVE_PHOENIX.*Check `base_url`"):
        fetch_phoenix(**NODES, base_url=f"{server.url}/nowhere", data_home=home)


def test_server_errors_are_tried_again(server, home):
    server.statuses[FIRST.as_posix()] = [500, 503]
    fetch_phoenix(**NODES, base_url=server.url, data_home=home, n_retries=2)
    server.statuses[phoenix_file_name(5200, 4.5, 0.0).as_posix()] = [500] * 9
    server.requests.clear()
    with pytest.raises(DownloadError, match=r"lte05200.* could not be downloaded: 500 .*Internal Server Error"):
        fetch_phoenix(**NODES | {"teff": 5200}, base_url=server.url, data_home=home, n_retries=2)
    assert len(_gets(server)) == 3


def test_refusal_is_not_tried_again(server, home):
    server.refused.add(WAVE_NAME)
    with pytest.raises(DownloadError, match=r"could not be downloaded: 403 .*Forbidden"):
        fetch_phoenix(**NODES, base_url=server.url, data_home=home)
    assert server.requests == [("HEAD", WAVE_NAME)]


def test_offline(home):
    with socket.socket() as unused:  # a port that nobody listens on
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(DownloadError) as caught:
            fetch_phoenix(**NODES, base_url=url, data_home=home, n_retries=1)
    message = str(caught.value)
    assert f"{url}/{WAVE_NAME}" in message
    assert "Check the network" in message
    assert f"by hand to {home / 'phoenix' / WAVE_NAME}" in message
    assert f"load_phoenix('{home / 'phoenix'}')" in message


@pytest.mark.parametrize("damage", ["text", "other length"])
def test_damaged_content_of_the_announced_length_is_not_kept(server, home, damage):
    path = server.folder / FIRST
    if damage == "text":
        path.write_bytes(b"<html>" + b" " * (path.stat().st_size - 6))
        message = "cannot be read as a FITS file"
    else:
        from astropy.io import fits

        fits.PrimaryHDU(np.ones(70, dtype=np.float32)).writeto(path, overwrite=True)
        message = "holds 70 pixels, but the WAVE file of its folder has 80"
    with pytest.raises(DownloadError, match=message):
        fetch_phoenix(**NODES, base_url=server.url, data_home=home, n_retries=1)
    assert _files(home) == {WAVE_NAME}
    assert _gets(server).count(FIRST.as_posix()) == 2


def test_data_home(tmp_path, monkeypatch):
    monkeypatch.setenv("STELLARHML_DATA", str(tmp_path / "a"))
    assert get_data_home() == tmp_path / "a"
    assert (tmp_path / "a").is_dir()
    assert get_data_home(tmp_path / "b") == tmp_path / "b"
    monkeypatch.delenv("STELLARHML_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert get_data_home() == tmp_path / ".cache" / "stellarhml"


@pytest.mark.parametrize(
    "arguments", [{"base_url": "www.example.org"}, {"base_url": "ftp://example.org"}, {"n_retries": -1}, {"timeout": 0}]
)
def test_bad_arguments(home, arguments):
    with pytest.raises(ValueError, match=r"base_url|n_retries"):
        fetch_phoenix(**NODES, data_home=home, **arguments)
