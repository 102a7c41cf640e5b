"""A job that keeps its results goes on where it was cut, and never takes a wrong one."""

import errno
import os
import time

import numpy as np
import pytest
from killed import kill, needs_groups, start, times, wait_until

import stellarhml._parallel as parallel
from stellarhml._parallel import map_stored
from stellarhml.exceptions import StoreError, StoreWarning
from stellarhml.storage.result_store import ResultStore, digest

ROWS = np.random.default_rng(0).normal(size=(9, 50))
SETTINGS = digest({"solver": "lm", "tol": 1e-4})

SLOW_JOB = """
import sys
import time
import uuid
from pathlib import Path

import numpy as np

from stellarhml._parallel import map_stored
from stellarhml.storage.result_store import ResultStore, digest

folder = Path(sys.argv[1])
rows = np.random.default_rng(0).normal(size=(30, 1000))


def slow(row):
    (folder / "calls" / uuid.uuid4().hex).touch()
    time.sleep(0.1)
    return np.cumsum(np.sin(row))


def pack(value):
    return {"value": value}


def unpack(arrays):
    return arrays["value"]


if __name__ == "__main__":
    (folder / "calls").mkdir(exist_ok=True)
    settings = digest("slow")
    store = ResultStore(folder / "store")
    job = map_stored(slow, rows, store=store, settings=settings, pack=pack, unpack=unpack, n_jobs=2)
    np.save(folder / "results.npy", list(job))
"""


class _Job:
    """The same small job again and again, which counts what it computes in this process."""

    def __init__(self, store):
        self.store = store
        self.computed = []

    def run(self, items=ROWS, *, settings=SETTINGS, **options):
        computed = self.computed

        # Functions of a function travel to the workers by value: these cannot import a test.
        def compute(row):
            computed.append(row)
            return np.cumsum(row)

        def pack(value):
            return {"value": value}

        def unpack(arrays):
            return arrays["value"]

        options |= {"store": self.store, "settings": settings, "pack": pack, "unpack": unpack}
        return list(map_stored(compute, items, **options))


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path / "results")


@pytest.fixture
def job(store):
    return _Job(store)


EXPECTED = np.cumsum(ROWS, axis=1)


def _path(store, key):
    return store.folder / f"{key}.result"


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.5, np.nan, -0.0, np.inf, 5e-324]),
        np.array([0x7FF8000000000123], dtype=np.int64).view(np.float64),  # a NaN that is not numpy's
        np.zeros((0, 6)),
        np.arange(-3, 3),
        np.array([True, False]),
        np.array(True),
        np.float64(0.1),
        np.arange(12.0).reshape(3, 4)[:, ::-2],
        np.float32([1, 2]),
        np.array([1, 2], dtype=">i4"),
        np.array("text"),
    ],
)
def test_round_trip(store, array):
    key = digest("key")
    assert store.read(key) is None
    assert key not in store
    store.write(key, {"array": array, "file": np.arange(2)})
    assert key in store
    assert len(store) == 1
    found = store.read(key)
    assert list(found) == ["array", "file"]
    expected = np.asarray(array)
    assert found["array"].dtype == expected.dtype
    assert found["array"].shape == expected.shape
    assert found["array"].tobytes() == expected.tobytes()


def test_no_arrays(store):
    store.write("key", {})
    assert store.read("key") == {}


def test_objects_are_refused(store):
    with pytest.raises(ValueError, match="Object arrays"):
        store.write("key", {"array": np.array([None])})
    assert len(store) == 0


def test_equal_results_are_equal_files(store):
    for key in ("first", "second"):
        store.write(key, {"theta": ROWS, "converged": True})
    first, second = (_path(store, key).read_bytes().partition(b"\n")[2] for key in ("first", "second"))
    assert first == second


def test_cut_anywhere(store):
    store.write("key", {"theta": ROWS[0], "converged": True})
    content = _path(store, "key").read_bytes()
    for length in range(len(content)):
        _path(store, "key").write_bytes(content[:length])
        assert store.read("key") is None
    _path(store, "key").write_bytes(content + b"\n")
    assert store.read("key") is None
    _path(store, "key").write_bytes(content)
    assert store.read("key") is not None


def test_one_byte_changed_anywhere(store):
    store.write("key", {"theta": ROWS[0], "converged": True})
    content = bytearray(_path(store, "key").read_bytes())
    for i in range(len(content)):
        for flip in (1, 128):
            content[i] ^= flip
            _path(store, "key").write_bytes(content)
            assert store.read("key") is None
            content[i] ^= flip


def test_foreign_files(store, monkeypatch):
    np.savez(store.folder / "key.npz", theta=ROWS[0])
    (store.folder / "key.npz").rename(_path(store, "key"))
    assert store.read("key") is None
    _path(store, "key").write_bytes(b"")
    assert store.read("key") is None
    store.write("other", {"theta": ROWS[0]})
    _path(store, "other").rename(_path(store, "key"))
    assert store.read("key") is None
    store.write("key", {"theta": ROWS[0]})
    assert store.read("key") is not None
    monkeypatch.setattr("stellarhml.storage.result_store.SCHEMA", 2)
    assert store.read("key") is None


def test_leftovers(tmp_path):
    store = ResultStore(tmp_path)
    store.write("key", {"theta": ROWS})
    old, live, foreign = (tmp_path / name for name in (".a.01234567.tmp.result", ".b.01234567.tmp.result", ".c.tmp"))
    for path in (old, live, foreign, _path(store, "key")):
        path.touch()
    for path in (old, foreign, _path(store, "key")):
        os.utime(path, (time.time() - 1e5,) * 2)
    assert len(store) == 1
    ResultStore(tmp_path)
    assert not old.exists()
    assert live.exists()
    assert foreign.exists()
    assert _path(store, "key").exists()


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used as a folder"):
        ResultStore(tmp_path / "file")


def test_digest_tells_values_apart():
    scalars = [None, False, True, 0, 1, -1, 2**70, 0.0, -0.0, 1.0, float("nan"), 1j, "", "1", "None", b"1"]
    nested = [[], [[]], [1, 2], [[1], 2], ["ab", "c"], ["a", "bc"], {}, {"a": 1}, {"a": 1.0}, {"b": 1}, {"a": [1]}]
    shapes = [ROWS, ROWS.T, ROWS[:, :0], ROWS[:0], ROWS.ravel(), ROWS.astype(np.float32), ROWS.tolist()]
    small = [np.array(1), np.array([1]), np.array([1.0]), np.array([True]), np.array(1j)]
    keys = [digest(value) for value in scalars + nested + shapes + small] + [digest(), digest(1, 2), digest([1], [2])]
    assert len(set(keys)) == len(keys)


def test_digest_is_the_same_everywhere():
    settings = {"b": 2, "a": np.arange(3.0)}
    expected = "30eb78474a97baec857fa2a9871da58206536d51"
    assert digest("stellarhml", 1, 0.5, [True, None], settings) == expected
    settings = {"a": np.arange(3, dtype=">f8"), "b": np.int64(2)}
    assert digest("stellarhml", np.int32(1), np.float64(0.5), (np.True_, None), settings) == expected


def test_digest_sees_no_layout(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert digest(ROWS) == digest(np.asfortranarray(ROWS)) == digest(mapped)
    assert digest(ROWS[3]) == digest(mapped[3]) == digest(np.asfortranarray(ROWS)[3])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, r"A builtins.set cannot be hashed"),
        (slice(3), "slice"),
        ({1: 2}, "Keys of a dictionary"),
        (np.array([None]), "dtype object"),
        (np.ma.masked_invalid([np.nan]), "MaskedArray"),
        (np.array(["a"]), "dtype <U1"),
        ([{"a": object()}], "object"),
    ],
)
def test_digest_refuses(value, message):
    with pytest.raises(TypeError, match=message):
        digest(value)


def test_nothing_is_computed_twice(job, store):
    first = job.run(ROWS[:4])
    assert len(job.computed) == len(store) == 4
    second = job.run()
    assert len(job.computed) == len(store) == 9
    np.testing.assert_array_equal(second, EXPECTED)
    np.testing.assert_array_equal(first, EXPECTED[:4])
    assert [type(value) for value in first] == [type(value) for value in second[:4]]


def test_other_settings_are_another_job(job):
    job.run()
    job.run(settings=digest({"solver": "lm", "tol": 1e-5}))
    assert len(job.computed) == 18


def test_without_a_store(job):
    job.store = None
    np.testing.assert_array_equal(job.run(), EXPECTED)
    np.testing.assert_array_equal(job.run(), EXPECTED)
    assert len(job.computed) == 18


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_any_number_of_workers(job, store, n_jobs):
    np.testing.assert_array_equal(job.run(n_jobs=n_jobs), EXPECTED)
    assert len(store) == 9
    times = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    np.testing.assert_array_equal(job.run(n_jobs=3 - n_jobs), EXPECTED)
    assert {path: path.stat().st_mtime_ns for path in store.folder.iterdir()} == times


def test_damaged_results_are_computed_again(job, store):
    job.run()
    paths = sorted(store.folder.iterdir())
    paths[2].write_bytes(paths[2].read_bytes()[:100])
    content = bytearray(paths[5].read_bytes())
    content[-30] ^= 1
    paths[5].write_bytes(content)
    with pytest.warns(StoreWarning, match="2 of the results kept in .* have been computed again") as caught:
        found = job.run(n_jobs=2)
    assert len(caught) == 1
    np.testing.assert_array_equal(found, EXPECTED)
    np.testing.assert_array_equal(job.run(), EXPECTED)
    assert len(job.computed) == 9


def test_full_disk(job, store, monkeypatch):
    with monkeypatch.context() as patch:
        synced = []

        def fsync(descriptor):
            synced.append(descriptor)
            if len(synced) == 4:
                raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "fsync", fsync)
        with pytest.raises(StoreError, match=r"No space left.* The 3 results that are there are kept.*goes on"):
            job.run()
    assert len(list(store.folder.iterdir())) == 3
    np.testing.assert_array_equal(job.run(), EXPECTED)
    assert len(job.computed) == 4 + 6


def test_items_are_handed_out_lazily(store, tmp_path, monkeypatch):
    """However many items there are, a few per worker are alive, and none is copied to shared memory."""
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(tmp_path / "joblib"))
    ahead, copies = [], []

    def rows():
        for i in range(40):
            ahead.append(i - len(store))
            copies.extend(tmp_path.glob("joblib/*/*.pkl"))
            yield np.full(200_000, float(i))  # 1.6 MB; joblib copies from 1 MB

    functions = {"pack": lambda value: {"value": value}, "unpack": lambda arrays: float(arrays["value"])}
    assert list(map_stored(np.max, rows(), store=store, settings="max", **functions, n_jobs=2)) == list(range(40))
    assert max(ahead) <= 6
    assert not copies


def test_time_left_counts_computed_items_only(job, monkeypatch):
    bars = []

    class Bar(parallel.tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            bars.append(self)

    job.run(ROWS[:6])
    monkeypatch.setattr(parallel, "tqdm", Bar)
    job.run(verbose=True)
    assert (bars[0].n, bars[0].total, bars[0].initial) == (9, 9, 6)
    assert bars[0].format_dict["rate"] is None  # so that tqdm takes (n - initial) / elapsed


@pytest.mark.slow
@needs_groups
def test_killed_and_started_again(tmp_path):
    script = tmp_path / "slow_job.py"
    script.write_text(SLOW_JOB)
    process = start([script, tmp_path], tmp_path)
    wait_until(process, lambda: len(times(tmp_path / "store")) >= 8)
    kill(process)
    kept = times(tmp_path / "store")
    n_calls = len(list(tmp_path.glob("calls/*")))
    assert 8 <= len(kept) <= n_calls < 30
    assert not (tmp_path / "results.npy").exists()

    assert start([script, tmp_path], tmp_path).wait(120) == 0
    assert len(list(tmp_path.glob("calls/*"))) - n_calls == 30 - len(kept)
    assert kept.items() <= times(tmp_path / "store").items()
    rows = np.random.default_rng(0).normal(size=(30, 1000))
    np.testing.assert_array_equal(np.load(tmp_path / "results.npy"), np.cumsum(np.sin(rows), axis=1))
