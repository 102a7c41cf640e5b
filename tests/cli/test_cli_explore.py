"""`stellarhml explore` before it serves anything, and who may talk to what it serves."""

import socket
import subprocess
import sys
import urllib.request
from types import SimpleNamespace

import pytest

from stellarhml import SpectrumGenerator, load, save
from stellarhml.cli.explore import _free_port, _warn_of_access
from stellarhml.cli.main import main
from stellarhml.datasets import make_stellar_grid


def test_broken_generator_is_an_error_of_one_line(tmp_path, one_error):
    pytest.importorskip("bokeh")
    (tmp_path / "broken.asdf").write_bytes(b"no generator")
    assert main(["explore", "--generator", str(tmp_path / "broken.asdf"), "--no-browser"]) == 2
    assert "broken.asdf" in one_error()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port", "70000"], "70000 is not a port"),
        (["--port", "x"], "x is not a port, 0 to 65535"),
        (["--origin", "http://x:1"], "http://x:1 is not the name of one host"),
        (["--origin", "*"], "* is not the name of one host"),
        (["--origin", "*.example:80"], "*.example:80 is not the name of one host"),
        (["--resolving-power", "3"], "3 is not from 1000 to 500000"),
        (["--resolving-power", "abc"], "abc is not from 1000 to 500000"),
        (["--medium", "water"], "water"),
        (["--companion", "--spots"], "not allowed with"),
        (["--resolving-power-error", "-1"], "-1"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, text, exit_code, one_error):
    assert exit_code(["explore", *arguments]) == 2
    assert text in one_error()


def test_generator_without_wavelengths_is_refused(tmp_path, one_error):
    pytest.importorskip("bokeh")
    grid = make_stellar_grid(n_teff=3, n_logg=3, n_feh=3, n_pixels=1500, n_lines=20, random_state=0)
    save(SpectrumGenerator().fit(grid.labels, grid.flux), tmp_path / "pixels.asdf")
    assert main(["explore", "--generator", str(tmp_path / "pixels.asdf"), "--no-browser"]) == 2
    assert "without wavelengths" in one_error()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tellurics-medium", "air"], "--tellurics-medium needs --tellurics FILE"),
        (["--tellurics", "nowhere.csv"], "nowhere.csv"),
        (["--resolving-power-error", "3"], "`resolving_power_error` is 3"),
    ],
)
def test_effect_that_cannot_be_is_an_error_of_one_line(options, said, generator_file, one_error):
    pytest.importorskip("bokeh")
    assert main(["explore", "--generator", str(generator_file), "--no-browser", *options]) == 2
    assert said in one_error()


@pytest.mark.parametrize(
    ("origins", "said"), [([], "are refused until you give these: --origin"), (["star.example:80"], "as star.example")]
)
def test_address_that_others_reach_is_warned_of(origins, said, capsys):
    arguments = SimpleNamespace(address="0.0.0.0", origin=origins)
    _warn_of_access(arguments, 5006)
    text = capsys.readouterr().err
    assert "Whoever has the address with its code can use the page" in text
    assert said in text


def test_without_bokeh_the_message_says_how_to_install_it(monkeypatch, one_error):
    import builtins

    real = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.split(".")[0] == "bokeh":
            raise ModuleNotFoundError("No module named 'bokeh'", name="bokeh")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert main(["explore", "--no-browser"]) == 2
    assert 'pip install "stellarhml[explore]"' in one_error()


def test_server_listens_here_alone(generator_file):
    pytest.importorskip("bokeh")
    from stellarhml.explore.server import make_server
    from stellarhml.explore.session import ExplorerSession

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        assert _free_port("127.0.0.1", busy) != busy
    port = _free_port("127.0.0.1", 0)
    server = make_server(ExplorerSession(load(generator_file), "small"), port, origins=["star.example:80"])
    try:
        assert server.address == "127.0.0.1"
        own = {f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"}
        assert server._tornado.access.names == own | {"star.example"}
        assert server._tornado.websocket_origins == own | {"star.example:80"}  # Bokeh's check, as a second layer
    finally:
        server.stop()
        server.unlisten()


@pytest.mark.slow
def test_address_of_ipv6_is_listened_on_and_printed_in_brackets(generator_file):
    pytest.importorskip("bokeh")
    try:
        port = _free_port("::1", 0)
    except OSError:
        pytest.skip("needs IPv6")
    command = [
        sys.executable,
        "-m",
        "stellarhml.cli",
        "explore",
        "--no-browser",
        "--address",
        "::1",
        "--port",
        str(port),
    ]
    with subprocess.Popen([*command, "--generator", str(generator_file)], stdout=subprocess.PIPE, text=True) as server:
        try:
            address = server.stdout.readline().split()[2]
            assert address.startswith(f"http://[::1]:{port}/")
            with urllib.request.urlopen(address) as answer:
                assert answer.status == 200
        finally:
            server.terminate()


def test_address_that_is_not_known_here_is_one_line():
    pytest.importorskip("bokeh")
    with pytest.raises(OSError, match=r"nowhere.invalid is not known here .*Give another --address"):
        _free_port("nowhere.invalid", 0)
    with pytest.raises(OSError, match=r"192.0.2.1 cannot be listened on"):
        _free_port("192.0.2.1", 0)
