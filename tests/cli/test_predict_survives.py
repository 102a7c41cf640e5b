"""`stellarhml predict` keeps each star as it is done, whatever ends it, and the same command goes on from there."""

import errno
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from killed import kill, needs_groups, start, times, wait_until

from stellarhml import BayesianStellarRegressor, load, save
from stellarhml.cli.main import main
from stellarhml.storage.journal import open_journal
from stellarhml.workflows import tables

N_STARS = 6
SETTINGS = ["--medium", "vacuum", "--resolving-power", "grid", "--at-rest"]

# The command with a reader that waits, and that kills its process where the name of the file says so: "once", or
# "always". A function of a function travels to the workers by value.
COMMAND = """
import os
import signal
import sys
import time
from pathlib import Path

from stellarhml.cli.main import main
from stellarhml.workflows import predicting

make_reader = predicting.make_reader


def make_slow_reader(**reading):
    read = make_reader(**reading)

    def slow(path):
        mark = Path(f"{path}.was_read")
        if "always" in path or ("once" in path and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.25)
        return read(path)

    return slow


predicting.make_reader = make_slow_reader
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def generator_copy(generator_file, tmp_path_factory):
    """A generator in a file that a test may change."""
    return shutil.copy(generator_file, tmp_path_factory.mktemp("copy") / "generator.asdf")


@pytest.fixture(scope="module")
def stars(star, tmp_path_factory):
    """Files of the same star with different noise."""
    wavelength, flux, error, _ = star
    rng, folder = np.random.default_rng(5), tmp_path_factory.mktemp("stars")
    files = [folder / f"star_{k}.txt" for k in range(N_STARS)]
    for file in files:
        noisy = flux + error * rng.normal(size=flux.size)
        np.savetxt(file, np.stack([wavelength, noisy, error], axis=1), fmt="%.12e")
    return [str(file) for file in files]


@pytest.fixture(scope="module")
def arguments(generator_file):
    """The command but for its files."""
    return ["predict", "--generator", str(generator_file), *SETTINGS]


@pytest.fixture(scope="module")
def expected(arguments, stars, tmp_path_factory):
    """Table of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("expected") / "t.csv"
    assert main([*arguments, "--out", str(out), *stars]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["t.csv"]
    return pd.read_csv(out)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "t.csv"


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "t.csv.partial"


@pytest.fixture
def fits(monkeypatch):
    """Fits in this process so far; the list may be told to stop at one of them."""
    infer, calls = BayesianStellarRegressor.infer, []

    def counted(self, *arguments, **settings):
        calls.append(1)
        if calls[0] is None and len(calls) == 5:
            raise KeyboardInterrupt
        return infer(self, *arguments, **settings)

    monkeypatch.setattr(BayesianStellarRegressor, "infer", counted)
    return calls


@pytest.fixture
def interrupted(arguments, stars, out, journal, fits, capsys):
    """A run that Ctrl-C ended at the fourth star."""
    fits[:] = [None]
    assert main([*arguments, "--out", str(out), *stars]) == 130
    assert "3 of 6 spectra were done" in capsys.readouterr().err
    assert len(times(journal)) == 3
    out.unlink()
    fits.clear()


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "command.py"
    path.write_text(COMMAND)
    return path


def _messages(errors):
    """Lines of standard error but for the progress bar."""
    return [line for line in errors.splitlines() if line.startswith("stellarhml: ")]


def assert_same(out, expected):
    """All numbers but the computing time, to the last bit: CSV has all digits."""
    pd.testing.assert_frame_equal(
        pd.read_csv(out).drop(columns="seconds"), expected.drop(columns="seconds"), check_exact=True
    )


def assert_finished(out, expected):
    """The table is that of an undisturbed run, and nothing else is left."""
    assert_same(out, expected)
    assert not out.with_name(f"{out.name}.partial").exists()
    assert not list(out.parent.glob(".*.tmp*"))


# --- ended


@needs_groups
@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_kill_9_of_everything(arguments, stars, expected, out, journal, script, n_jobs, capsys):
    process = start([script, *arguments, "--jobs", n_jobs, "--out", out, *stars], out.parent)
    wait_until(process, lambda: len(times(journal)) >= 2)
    kill(process)
    kept = times(journal)
    assert 2 <= len(kept) < N_STARS
    assert not out.exists()
    assert main([*arguments, "--out", str(out), "--jobs", str(3 - n_jobs), *stars]) == 0
    assert f"{len(kept)} of 6 stars were done before" in capsys.readouterr().err
    assert_finished(out, expected)


@needs_groups
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code", "n_jobs"), [("SIGTERM", 143, 1), ("SIGTERM", 143, 2), ("SIGINT", 130, 2)])
def test_sigterm_and_ctrl_c_of_a_real_process(
    arguments, stars, expected, out, journal, script, number, code, n_jobs, capsys
):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start([script, *arguments, "--jobs", n_jobs, "--out", out, *stars], out.parent, **options)
    wait_until(process, lambda: len(times(journal)) >= 2)
    if number == "SIGINT":  # a terminal sends it to all processes
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    if number == "SIGTERM":  # at Ctrl-C a worker that has not had its first star yet may print one
        assert "Traceback" not in errors
    kept = len(times(journal))
    assert 2 <= kept < N_STARS
    assert f"stellarhml: {kept} stars are kept in {journal}" in errors
    if out.exists():  # not if those that are done have not yet been handed over by their workers
        table = pd.read_csv(out)
        done = table["message"] != "interrupted before it was done"
        pd.testing.assert_frame_equal(
            table[done].drop(columns="seconds"), expected[done].drop(columns="seconds"), check_dtype=False
        )
    assert main([*arguments, "--out", str(out), *stars]) == 0
    assert "were done before" in capsys.readouterr().err
    assert_finished(out, expected)


@needs_groups
@pytest.mark.slow
def test_a_dead_worker_costs_its_star_a_second_try(arguments, stars, expected, out, script):
    once = [os.path.join(os.path.dirname(stars[0]), "once.txt")]
    shutil.copy(stars[2], once[0])
    files = [*stars[:2], *once, *stars[3:]]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start([script, *arguments, "--jobs", 2, "--out", out, *files], out.parent, **options)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert not _messages(errors)
    assert_finished(out, expected.assign(star=files))


@needs_groups
@pytest.mark.slow
def test_a_star_that_kills_its_worker_twice_is_failed(arguments, stars, expected, out, journal, script, capsys):
    """One line, no traceback; the others are done, and the next run tries this one again."""
    always = os.path.join(os.path.dirname(stars[0]), "always.txt")
    shutil.copy(stars[2], always)
    files = [*stars[:2], always, *stars[3:]]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start([script, *arguments, "--jobs", 2, "--out", out, *files], out.parent, **options)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    assert len(_messages(errors)) == 2, errors
    first, second = _messages(errors)
    assert first.startswith(f"stellarhml: error: {always}: the process that fitted it was killed, and again when")
    assert "5 stars are kept in" in second
    table = pd.read_csv(out)
    assert table["status"].tolist() == [*expected["status"][:2], "failed", *expected["status"][3:]]
    others = np.arange(N_STARS) != 2
    pd.testing.assert_frame_equal(
        table[others].drop(columns="seconds"), expected[others].drop(columns="seconds"), check_dtype=False
    )
    assert len(times(journal)) == 5
    assert main([*arguments, "--out", str(out), *files]) == 0
    assert "5 of 6 stars were done before" in capsys.readouterr().err
    assert_finished(out, expected.assign(star=files))


def test_ctrl_c(interrupted, arguments, stars, expected, out, fits, capsys):
    assert main([*arguments, "--out", str(out), *stars]) == 0
    assert len(fits) == 3
    assert "3 of 6 stars were done before and read" in capsys.readouterr().err
    assert_finished(out, expected)


def test_what_is_done_is_not_written_again(interrupted, arguments, stars, out, journal, monkeypatch, capsys):
    kept = times(journal)
    monkeypatch.setattr(tables, "write_table", _full)  # so that the folder stays
    assert main([*arguments, "--out", str(out), *stars]) == 3
    assert kept.items() < times(journal).items()


def test_restart(interrupted, arguments, stars, expected, out, fits, capsys):
    assert main([*arguments, "--out", str(out), "--restart", *stars]) == 0
    assert len(fits) == N_STARS
    assert "done before" not in capsys.readouterr().err
    assert_finished(out, expected)
    assert main([*arguments, "--restart", *stars]) == 2
    assert "--restart needs --out" in capsys.readouterr().err


def test_without_out_nothing_is_stored(arguments, stars, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, *stars[:1]]) == 0
    assert not list(tmp_path.iterdir())


# --- never another star's row


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [["--resolving-power", "90000"], ["--orders", "0", "--sky", "none"], ["--medium", "air"]]
)
def test_other_settings_are_computed_anew(interrupted, arguments, stars, out, journal, fits, change, capsys):
    """Unless they give the fit the same spectrum, as another way to the same orders does."""
    n_read = 3 if "--orders" in change else 0
    assert main([*arguments, *change, "--out", str(out), *stars]) == 0
    assert len(fits) == N_STARS - n_read
    captured = capsys.readouterr().err
    assert ("done before" in captured) == bool(n_read)
    # the stars that the other settings left are not lost
    assert len(times(journal)) == 3 - n_read
    assert ("3 stars are kept in" in captured) == (not n_read)


def test_free_velocities_are_other_settings(interrupted, arguments, stars, out, fits):
    main([*(a for a in arguments if a != "--at-rest"), "--out", str(out), *stars[:3]])
    assert len(fits) == 3


def test_another_generator_is_computed_anew(interrupted, arguments, stars, out, fits, generator_copy):
    """Even one that differs in nothing that changes a result."""
    save(load(generator_copy).set_params(verbose=False), generator_copy)
    assert main(["predict", "--generator", str(generator_copy), *arguments[3:], "--out", str(out), *stars]) == 0
    assert len(fits) == N_STARS


def test_another_version_is_computed_anew(interrupted, arguments, stars, out, fits, monkeypatch):
    monkeypatch.setattr("stellarhml.workflows.predicting.__version__", "99.0")
    assert main([*arguments, "--out", str(out), *stars]) == 0
    assert len(fits) == N_STARS


def test_a_changed_file_is_computed_anew(interrupted, arguments, stars, out, fits):
    file = Path(stars[0])
    text = file.read_text()
    lines = text.splitlines()
    lines[40] = lines[40].replace("e-05", "1e-05")  # a digit more, in one pixel
    try:
        file.write_text("\n".join(lines))
        assert main([*arguments, "--out", str(out), *stars]) == 0
    finally:
        file.write_text(text)
    assert len(fits) == 4


def test_damaged_and_half_written_rows_are_computed_again(
    interrupted, arguments, stars, expected, out, journal, fits, capsys
):
    one, two, three = sorted(times(journal))
    one.write_bytes(one.read_bytes()[:-1])
    content = bytearray(two.read_bytes())
    content[len(content) // 2] ^= 4
    two.write_bytes(content)
    three.rename(journal / f".{three.stem}.01234567.tmp.result")  # as kill -9 leaves it
    assert main([*arguments, "--out", str(out), *stars]) == 0
    assert len(fits) == N_STARS
    assert "warning: 2 stars in" in capsys.readouterr().err
    assert_finished(out, expected)


def test_stars_that_failed_are_tried_again(arguments, stars, expected, out, journal, fits, tmp_path, capsys):
    bad = tmp_path / "star_1.txt"
    bad.write_text("no spectrum\n")
    files = [stars[0], str(bad), *stars[2:]]
    assert main([*arguments, "--out", str(out), *files]) == 1
    assert f"5 stars are kept in {journal}: the same command again reads them" in capsys.readouterr().err
    shutil.copy(stars[1], bad)
    fits.clear()
    assert main([*arguments, "--out", str(out), *files]) == 0
    assert len(fits) == 1
    assert_finished(out, expected.assign(star=files))


@pytest.mark.slow
def test_figures_go_on_with_their_stars(arguments, stars, expected, out, journal, fits, tmp_path):
    figures = tmp_path / "figures"
    fits[:] = [None]
    command = [*arguments, "--out", str(out), "--figures", str(figures), *stars]
    assert main(command) == 130
    drawn = sorted(figures.iterdir())
    assert [path.name for path in drawn] == ["star_0.png", "star_1.png", "star_2.png"]
    drawn[0].unlink()
    drawn[1].write_bytes(b"the figure of another run")
    fits.clear()
    assert main(command) == 0
    assert len(fits) == N_STARS - 1
    assert len(list(figures.iterdir())) == N_STARS
    assert drawn[1].stat().st_size > 10_000
    assert_finished(out, expected)


def test_two_at_once_are_refused(interrupted, arguments, stars, out, journal, one_error):
    kept = times(journal)
    with open_journal(out):
        assert main([*arguments, "--out", str(out), "--restart", *stars]) == 2
        assert "Another process works in" in one_error()
    assert times(journal) == kept


# --- the disk


def _full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk(arguments, stars, expected, out, journal, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        synced = []

        def fsync(descriptor):
            synced.append(descriptor)
            if len(synced) == 4:  # the first is of the test of the folder
                _full()

        patch.setattr(os, "fsync", fsync)
        assert main([*arguments, "--out", str(out), *stars]) == 2
    assert "No space left on device). The 2 results that are there are kept" in capsys.readouterr().err
    assert len(times(journal)) == 2
    assert main([*arguments, "--out", str(out), *stars]) == 0
    assert "2 of 6 stars were done before" in capsys.readouterr().err
    assert_finished(out, expected)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("may not mount a disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_really_full(arguments, stars, expected, small_disk, capsys):
    out, filler = small_disk / "t.csv", small_disk / "filler"
    filler.write_bytes(bytes(44_000))
    assert main([*arguments, "--out", str(out), *stars]) == 2
    assert "No space left on device" in capsys.readouterr().err
    kept = times(small_disk / "t.csv.partial")
    assert 0 < len(kept) < N_STARS
    filler.unlink()
    assert main([*arguments, "--out", str(out), *stars]) == 0
    assert f"{len(kept)} of 6 stars were done before" in capsys.readouterr().err
    assert_finished(out, expected)
    filler.write_bytes(bytes(64 * 1024 - 4096))
    assert main([*arguments, "--out", str(out), *stars]) == 2
    assert f"{out} cannot be written (No space left on device)" in capsys.readouterr().err


def test_rows_and_table_are_on_the_disk_before_their_names(arguments, stars, out, monkeypatch):
    """And the name of the table before the rows are removed: a power cut loses neither."""
    order = []
    for name in ("fsync", "replace", "unlink"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, original=original: (order.append(name), original(*a))[1])
    unlink = Path.unlink

    def removed(path, missing_ok=False):
        if path.suffix == ".result" and not path.name.startswith("."):
            order.append("row removed")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", removed)
    assert main([*arguments, "--out", str(out), *stars[:2]]) == 0
    order = [name for name in order if name != "unlink"]
    assert order == ["fsync", *["fsync", "replace"] * 2, "fsync", "replace", "fsync", "row removed", "row removed"]


def test_out_that_cannot_be_written_is_found_out_before_any_work(arguments, stars, tmp_path, one_error, monkeypatch):
    monkeypatch.setattr("stellarhml.workflows.predicting.open_generator", _not_reached)
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    for name, text in (
        ("file/t.csv", "cannot be created"),
        ("folder.csv", "is a folder"),
        ("t.xls", "ends in none of .csv"),
        ("n" * 250 + ".csv", "File name too long"),
        ("n" * 245 + ".csv", "File name too long"),  # only that of the folder is
    ):
        assert main([*arguments, "--out", str(tmp_path / name), *stars]) == 2
        assert text in one_error()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        assert main([*arguments, "--out", str(tmp_path / "t.csv"), *stars]) == 2
        assert "cannot be written (No space left on device)" in one_error()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


@pytest.mark.skipif(os.name != "posix", reason="needs permissions of POSIX")
def test_a_read_only_folder_is_found_out_before_any_work(arguments, stars, tmp_path, one_error, monkeypatch):
    monkeypatch.setattr("stellarhml.workflows.predicting.open_generator", _not_reached)
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o555)
    else:  # root writes everywhere but on a disk mounted read-only
        folder = "/proc"
    assert main([*arguments, "--out", f"{folder}/t.csv", *stars]) == 2
    assert f"{folder}/t.csv cannot be written (" in one_error()


def _not_reached(*_, **__):
    raise AssertionError("work has begun")


def test_a_table_that_cannot_be_written_at_the_end_is_printed(
    arguments, stars, expected, out, journal, fits, tmp_path, monkeypatch, capsys
):
    for error in (_full, lambda *_: "\udce9".encode()):  # of any kind
        with monkeypatch.context() as patch:
            patch.setattr(tables, "write_table", error)
            assert main([*arguments, "--out", str(out), *stars]) == 3
        captured = capsys.readouterr()
        assert "t.csv could not be written" in captured.err
        (tmp_path / "printed.csv").write_text(captured.out)
        assert_same(tmp_path / "printed.csv", expected)
        assert len(times(journal)) == N_STARS
    (tmp_path / "printed.csv").unlink()
    assert len(fits) == N_STARS
    assert main([*arguments, "--out", str(out), *stars]) == 0
    assert len(fits) == N_STARS
    assert_finished(out, expected)


# --- names and order


@pytest.mark.slow
def test_rows_are_in_the_order_of_the_arguments(arguments, stars, expected, out):
    """Whatever the number of processes; the first star takes longest."""
    files = [stars[k] for k in (3, 0, 5, 1)]
    assert main([*arguments, "--out", str(out), "--jobs", "2", *files]) == 0
    assert_finished(out, expected.iloc[[3, 0, 5, 1]].reset_index(drop=True))


def test_a_file_given_twice_or_by_two_names_has_a_row_each(arguments, stars, expected, out, tmp_path):
    link = tmp_path / "link.txt"
    link.symlink_to(stars[0])
    files = [stars[0], str(link), stars[1], stars[0]]
    assert main([*arguments, "--out", str(out), *files]) == 0
    assert_finished(out, expected.iloc[[0, 0, 1, 0]].reset_index(drop=True).assign(star=files))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes only on POSIX")
def test_names_of_any_kind_lose_nothing(arguments, stars, tmp_path, monkeypatch, capsys):
    names = [
        b"\xe9toile.txt",
        "étoile.txt".encode(),
        b"a\nb.txt",
        b'a,"b".txt',
        b"=1+2.txt",
        b"#c.txt",
        b"\x1b[31m.txt",
    ]
    shown = [r"\udce9toile.txt", "étoile.txt", r"a\nb.txt", 'a,"b".txt', "=1+2.txt", "#c.txt", r"\x1b[31m.txt"]
    monkeypatch.chdir(tmp_path)
    files = [os.fsdecode(name) for name in names]
    for file in files:
        shutil.copy(stars[0], file)
    for suffix in ("csv", "json", "ecsv", "fits"):
        drawn = ["--figures", "figures"] if suffix == "csv" else []
        assert main([*arguments, "--out", f"t.{suffix}", *drawn, *files]) == 0
        printed = capsys.readouterr().out
        assert all(name in printed for name in shown)
        assert "\x1b" not in printed
        assert not os.path.exists(f"t.{suffix}.partial")
    assert len(os.listdir("figures")) == len(names)
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + len(names)
    assert pd.read_csv("t.csv")["star"].tolist() == shown
    assert [row["star"] for row in json.loads((tmp_path / "t.json").read_text())] == files
    shown[5] = r"\x23c.txt"  # astropy would take the line for a comment
    assert Table.read("t.ecsv")["star"].tolist() == shown
    shown[1] = r"\xe9toile.txt"  # FITS has ASCII alone
    assert Table.read("t.fits")["star"].tolist() == shown


# --- many


def test_many_stars_need_memory_for_their_rows_alone(generator_file, tmp_path, monkeypatch):
    """What is kept of a star in this process is its row; here 300 stars with fits of 1 MB, and time for a store."""
    import tracemalloc

    from stellarhml.storage.result_store import ResultStore
    from stellarhml.workflows import predicting

    class Fit:
        flags, status = 0, "ok"

        def __init__(self):
            self.orders = np.ones(125_000)

        def to_row(self):
            return {"teff": 5000.0, "teff_std": 10.0, "message": ""}

    spectrum = load_spectrum()
    monkeypatch.setattr(predicting, "make_reader", lambda **_: lambda path: spectrum)
    monkeypatch.setattr(predicting, "infer_or_report", lambda *_: Fit())
    generator = load(generator_file)
    store = ResultStore(tmp_path)
    peaks = []
    for n_stars in (10, 300):
        tracemalloc.start()
        found = predicting.predict_files(
            generator, range(n_stars), resolving_power="grid", store=store, generator_digest="x", verbose=False
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(found.table) == n_stars
    # 2 kB for each row: a dictionary of the row, and its key
    assert peaks[1] - peaks[0] < 290 * 4e3


def load_spectrum():
    from stellarhml.spectra import ObservedSpectrum

    x = np.arange(8503.0, 8513.0, 0.02)
    return ObservedSpectrum([(x, np.ones(x.size), np.ones(x.size))])
