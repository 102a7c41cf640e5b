"""`build` and its store: it goes on after a kill to the same bits, and nothing of other settings or files is used."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import stellarhml.lines.decomposition as decomposition
from stellarhml.cli.main import main
from stellarhml.storage.result_store import ResultStore
from stellarhml.storage.working_folders import locked

RANGE = ["--teff", "5000", "5250", "--logg", "4", "4.5", "--wavelength", "8500", "8506"]


@pytest.fixture
def command(folder, tmp_path):
    """Arguments of a build of 12 nodes and 120 pixels into tmp_path/g.asdf."""
    return ["build", "--phoenix", str(folder), *RANGE, "--out", str(tmp_path / "g.asdf")]


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    """The file of that build."""
    path = tmp_path_factory.mktemp("undisturbed") / "g.asdf"
    assert main(["build", "--phoenix", str(folder), *RANGE, "--out", str(path)]) == 0
    assert [other.name for other in path.parent.iterdir()] == ["g.asdf"]  # the store is gone
    return path.read_bytes()


def n_results(store):
    return len(list(store.glob("[!.]*.result")))


@contextlib.contextmanager
def files_of_at_most(n_bytes):
    """No file may grow beyond a size: writes then fail as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
@pytest.mark.parametrize("n_written", [0, 1, 17, 50, 61])
def test_an_interrupted_build_goes_on(command, undisturbed, tmp_path, monkeypatch, capsys, n_written):
    store, out = tmp_path / "g.store", tmp_path / "g.asdf"
    with monkeypatch.context() as patch:
        written = []

        def stops(self, key, arrays, write=ResultStore.write):
            if len(written) == n_written:
                raise KeyboardInterrupt
            written.append(key)
            write(self, key, arrays)

        patch.setattr(ResultStore, "write", stops)
        assert main(command) == 130
    assert n_results(store) == n_written
    assert not out.exists()
    assert not [path for path in store.iterdir() if path.is_dir()]  # normalised spectra
    assert f"what is done is kept in {store}" in capsys.readouterr().err
    assert main(command) == 0
    assert out.read_bytes() == undisturbed
    assert not store.exists()
    shown = capsys.readouterr()
    assert f"resumed: the spectra and {n_written} of 62 results were in {store}" in shown.out
    assert ("from the store" in shown.err) == (n_written > 0)


def test_a_store_that_is_given_is_kept(command, undisturbed, tmp_path, capsys):
    store, out = tmp_path / "kept", tmp_path / "g.asdf"
    assert main([*command, "--store", str(store)]) == 0
    assert out.read_bytes() == undisturbed
    last = capsys.readouterr().out.strip().splitlines()[-1]
    size = sum(path.stat().st_size for path in store.iterdir() if path.name != "lock")
    assert last.startswith(f"store: {store} ({size / 1e6:.1f} MB)")
    before = {path: path.stat().st_mtime_ns for path in store.glob("*.result")}
    out.unlink()
    assert main([*command, "--store", str(store)]) == 0
    assert out.read_bytes() == undisturbed
    assert {path: path.stat().st_mtime_ns for path in store.glob("*.result")} == before
    assert "resumed: the spectra and 62 of 62 results" in capsys.readouterr().out


@pytest.mark.slow
def test_other_settings_and_other_files_are_never_reused(command, folder, tmp_path, capsys):
    """With a store of another build the generator is that of none."""

    def build(name, *extra):
        out = tmp_path / name
        assert main([*command, "--out", str(out), *extra]) == 0
        return out.read_bytes()

    store = ["--store", str(tmp_path / "kept")]
    first = build("a.asdf", *store)
    for change in (["--prominence", "0.02"], ["--wavelength", "8500", "8505"], ["--teff", "5000", "5100"]):
        capsys.readouterr()
        assert build("b.asdf", *change, *store) == build("c.asdf", *change)
        assert "of 62 results" not in capsys.readouterr().out
    assert build("d.asdf", *store) == first
    # a source file with other content, of the same size and time
    path = next(folder.rglob("lte05250-4.00-0.0*"))
    content, status = path.read_bytes(), path.stat()
    try:
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[20:24] *= 0.9
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        changed = build("e.asdf", *store)
        assert changed == build("f.asdf")
        assert changed != first
    finally:
        path.write_bytes(content)
    assert build("g.asdf", *store) == first


def test_damaged_spectra_in_the_store_are_read_again(command, undisturbed, tmp_path):
    store = tmp_path / "kept"
    assert main([*command, "--store", str(store)]) == 0
    content = bytearray((store / "stellarhml-spectra.npy").read_bytes())
    content[-7] ^= 1
    (store / "stellarhml-spectra.npy").write_bytes(content)
    assert main([*command, "--store", str(store)]) == 0
    assert (tmp_path / "g.asdf").read_bytes() == undisturbed


def test_only_its_own_files_are_removed(command, tmp_path):
    store = tmp_path / "g.store"
    store.mkdir()
    (store / "notes.txt").write_text("mine")
    assert main(command) == 0
    assert [path.name for path in store.iterdir() if path.name != "lock"] == ["notes.txt"]


def test_what_a_killed_build_left_is_removed(command, tmp_path):
    store = tmp_path / "kept"
    (store / "stellarhml-abc").mkdir(parents=True)
    (store / "stellarhml-abc" / "lock").touch()
    (store / "stellarhml-abc" / "normalised.npy").write_bytes(b"x")
    (store / ".stellarhml-spectra.0123abcd.tmp.npy").write_bytes(b"x")
    assert main([*command, "--store", str(store)]) == 0
    names = {path.name for path in store.iterdir()}
    assert {name for name in names if not name.endswith(".result")} == {
        "lock",
        "stellarhml-spectra.npy",
        "stellarhml-spectra.npy.json",
    }


def test_two_builds_do_not_share_a_store(command, tmp_path, one_error):
    store = tmp_path / "kept"
    store.mkdir()
    with locked(store):
        assert main([*command, "--store", str(store)]) == 2
    assert "Another process works in" in one_error()


@pytest.mark.parametrize("place", ["/proc/none", "a file", "the grid", "the generator"])
def test_a_store_that_cannot_be_written_is_found_before_any_work(command, folder, tmp_path, one_error, place):
    (tmp_path / "file").touch()
    places = {"a file": tmp_path / "file", "the grid": folder, "the generator": tmp_path / "g.asdf"}
    store = str(places.get(place, place))
    assert main([*command, "--store", store]) == 2
    assert store in one_error()
    assert not list(tmp_path.glob("*.npy"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_from_the_start(command, tmp_path, one_error):
    store = tmp_path / "kept"
    store.mkdir()
    (store / "lock").symlink_to("/dev/full")
    assert main([*command, "--store", str(store)]) == 2
    assert f"Nothing can be written to {store} (No space left on device)" in one_error()


@pytest.fixture
def last_error(capsys):
    """Give the error, which stands in one line below the progress bars."""

    def read():
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("stellarhml: error: ")
        return line

    return read


@pytest.mark.parametrize(("n_bytes", "what"), [(5_500, "spectra"), (None, "result"), (28_000, "g.asdf")])
def test_a_disk_that_gets_full(command, undisturbed, tmp_path, monkeypatch, last_error, n_bytes, what):
    """One line, what is done is kept, and the same command goes on."""

    def full(settings, row, function=decomposition.decompose_row):
        if n_bytes is None and n_results(tmp_path / "g.store") == 52:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
        return function(settings, row)

    with monkeypatch.context() as patch, files_of_at_most(n_bytes or resource.RLIM_INFINITY):
        patch.setattr(decomposition, "decompose_row", full)
        assert main(command) == 2
    assert n_results(tmp_path / "g.store") == {"spectra": 0, "result": 52, "g.asdf": 62}[what]
    message = last_error()
    assert what in message
    assert "could not be written" in message
    assert "Make room" in message
    assert not (tmp_path / "g.asdf").exists()
    assert main(command) == 0
    assert (tmp_path / "g.asdf").read_bytes() == undisturbed


def kills_in_worker(monkeypatch, row_sum, marks, n_deaths):
    """Let the process that decomposes a spectrum die, `n_deaths` times."""
    parent = os.getpid()

    # a function of a function travels to the workers by value: these cannot import a test
    def dies(settings, row, function=decomposition.decompose_row):
        if abs(float(np.sum(row)) - row_sum) < 1e-9 and os.getpid() != parent:
            for n in range(n_deaths):
                mark = marks / str(n)
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return function(settings, row)

    monkeypatch.setattr(decomposition, "decompose_row", dies)


@pytest.fixture
def sum_of_a_row(command, tmp_path, monkeypatch):
    """Sum of the normalised spectrum of node 5, which identifies it."""
    rows = []

    def seen(settings, row, function=decomposition.decompose_row):
        rows.append(float(np.sum(row)))
        return function(settings, row)

    with monkeypatch.context() as patch:
        patch.setattr(decomposition, "decompose_row", seen)
        assert main(command) == 0
    (tmp_path / "g.asdf").unlink()
    return rows[5]


@pytest.mark.slow
def test_a_dead_worker_costs_its_spectrum_a_second_try(command, undisturbed, tmp_path, monkeypatch, sum_of_a_row):
    (tmp_path / "marks").mkdir()
    kills_in_worker(monkeypatch, sum_of_a_row, tmp_path / "marks", 1)
    assert main([*command, "--jobs", "2"]) == 0
    assert len(list((tmp_path / "marks").iterdir())) == 1
    assert (tmp_path / "g.asdf").read_bytes() == undisturbed


@pytest.mark.slow
def test_a_worker_that_dies_twice_names_the_node(command, undisturbed, tmp_path, monkeypatch, sum_of_a_row, last_error):
    (tmp_path / "marks").mkdir()
    with monkeypatch.context() as patch:
        kills_in_worker(patch, sum_of_a_row, tmp_path / "marks", 2)
        assert main([*command, "--jobs", "2"]) == 2
    # nodes by teff, logg, feh: the sixth of 2 x 2 x 3 is (5000, 4.5, 0)
    message = last_error()
    assert "lte05000-4.50-0.0" in message or "lte05000-4.50+0.5" in message
    assert "spectrum 6 was killed, and again" in message
    assert main(command) == 0
    assert (tmp_path / "g.asdf").read_bytes() == undisturbed


def start(command, *extra):
    """Start the command in a process group of its own."""
    call = [sys.executable, "-m", "stellarhml.cli", *command, *extra]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(call, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, **silent)


def wait_until(condition, process):
    """Wait until a condition of the seconds since now is true, or the process has ended."""
    begin = time.monotonic()
    while process.poll() is None and not condition(time.monotonic() - begin):
        assert time.monotonic() < begin + 120
        time.sleep(0.002)


def end_all(process):
    """Kill the process and its workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for leftover in Path("/dev/shm").glob(f"sem.loky-{process.pid}-*"):
        leftover.unlink()


@pytest.mark.slow
def test_killed_at_any_moment(command, undisturbed, tmp_path):
    """Killed while spectra are read, in each pass of the fits, and at random moments, with one process and two."""
    store, out = tmp_path / "g.store", tmp_path / "g.asdf"
    random = np.random.default_rng(15)
    moments = [lambda seconds: store.exists(), lambda seconds: (store / "stellarhml-spectra.npy").exists()]
    moments += [lambda seconds, n=n: n_results(store) >= n for n in (1, 13, 25, 37, 49, 55, 61, 62)]
    moments += [lambda seconds, end=end: seconds > end for end in random.uniform(2, 8, 3)]
    n_kills = 0
    for number, moment in enumerate(moments):
        process = start(command, "--jobs", str(1 + number % 2))
        wait_until(moment, process)
        n_kills += process.poll() is None
        end_all(process)
        if out.exists():  # the kill came too late
            assert out.read_bytes() == undisturbed
            out.unlink()
    assert n_kills >= 8
    assert main(command) == 0
    assert out.read_bytes() == undisturbed
    # a process that is killed while it writes the generator leaves its temporary file
    kept = [path.name for path in tmp_path.iterdir() if not path.name.startswith(".g.")]
    assert kept == ["g.asdf"]


@pytest.mark.slow
def test_ended_by_sigterm(command, undisturbed, tmp_path):
    store = tmp_path / "g.store"
    for _ in range(10):  # on a busy machine the build may be over before this process sees the store
        process = start(command)
        wait_until(lambda seconds: n_results(store) >= 20, process)
        process.send_signal(signal.SIGSTOP)
        if process.poll() is None and n_results(store) <= 60:
            break
        end_all(process)
        (tmp_path / "g.asdf").unlink(missing_ok=True)
        shutil.rmtree(store, ignore_errors=True)
    else:
        pytest.fail("the build was over each time before it could be ended")
    process.terminate()
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 143
    assert not [path for path in store.iterdir() if path.is_dir()]
    assert main([*command, "--jobs", "2"]) == 0
    assert (tmp_path / "g.asdf").read_bytes() == undisturbed


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_file(command, undisturbed, tmp_path):
    assert main([*command, "--jobs", "2"]) == 0
    assert (tmp_path / "g.asdf").read_bytes() == undisturbed


def test_files_of_others_in_the_store_stay(command, tmp_path):
    store = tmp_path / "mine"
    store.mkdir()
    for name in ("flux.npy", "stellarhml-spectra.npy.old"):
        np.save(store / name, np.arange(3))
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    assert main([*command, "--store", str(store)]) == 0
    assert before.items() <= {path.name: path.read_bytes() for path in store.iterdir()}.items()
    (store / "stellarhml-spectra.npy.json").unlink()
    assert main([*command, "--store", str(store)]) == 2
