"""Files of rows: the same as NumPy's, mapped, and an error where the disk is full."""

import pickle
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest

from stellarhml.exceptions import StoreError
from stellarhml.storage.row_files import GrowingArray, is_mapped, release, write_rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
def test_rows_are_an_ordinary_file(tmp_path, dtype):
    table = np.arange(35.0).reshape(5, 7)
    write_rows(tmp_path / "rows.npy", [table[0], table[1:4], table[4]], table.shape, dtype)
    found = np.load(tmp_path / "rows.npy", mmap_mode="r", allow_pickle=False)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, table)
    np.save(tmp_path / "numpy.npy", table.astype(dtype))
    assert (tmp_path / "rows.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_a_full_disk_is_an_error():
    with pytest.raises(StoreError, match=r"2 spectra, 0\.0 MB, could not be written to /dev .*Make room"):
        write_rows("/dev/full", np.ones((2, 3)), (2, 3), np.float32)


def test_errors_of_the_source_stay_what_they_are(tmp_path):
    def rows():
        yield np.ones(3)
        raise FileNotFoundError("node")

    with pytest.raises(FileNotFoundError, match=r"^node$"):
        write_rows(tmp_path / "rows.npy", rows(), (2, 3), np.float32)


def test_views_of_maps_are_mapped(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((4, 6)))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for view in (mapped, np.asarray(mapped), mapped[1:3, ::2], np.asarray(mapped).reshape(6, 4)):
        assert is_mapped(view)
    for array in (np.ones(3), mapped[[0, 2]], mapped + 1, np.array(mapped)):
        assert not is_mapped(np.asarray(array))


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_growing_array_is_the_concatenation(tmp_path, on_disk):
    parts = [np.arange(n, dtype=np.float64) for n in (3, 0, 1, 2000, 7)]
    with GrowingArray(np.int32, on_disk=on_disk, folder=tmp_path) as growing:
        for part in parts:
            growing.extend(part)
        array = growing.finish()
    assert list(tmp_path.iterdir()) == []  # the file has no name
    assert array.dtype == np.int32
    np.testing.assert_array_equal(array, np.concatenate(parts))
    array[2] = 5  # a table of lines may be changed
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array)), array)
    with GrowingArray(float, on_disk=on_disk) as growing:
        assert len(growing.finish()) == 0


def test_a_growing_array_on_a_full_disk(tmp_path, monkeypatch):
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 (closed by the array)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: full)
    with (
        GrowingArray(float, on_disk=True, folder=tmp_path) as growing,
        pytest.raises(StoreError, match=r"lines of the spectra could not be written .*No space left"),
    ):
        growing.extend(np.ones(3))


def _mapped_mb():
    """Memory of this process that holds pages of files, in MB."""
    return int(re.search(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_released_maps_take_no_memory_and_keep_their_values(tmp_path):
    values = np.arange(4_000_000.0)  # 32 MB
    with GrowingArray(np.float64, on_disk=True, folder=tmp_path) as growing:
        growing.extend(values)
        grown = growing.finish()
    np.save(tmp_path / "values.npy", values)
    for mapped in (grown, np.load(tmp_path / "values.npy", mmap_mode="r")):
        before = _mapped_mb()
        total = mapped.sum()
        assert _mapped_mb() > before + 25
        release(mapped)
        assert _mapped_mb() < before + 5
        assert mapped.sum() == total
    grown[7] = -1.0
    release(grown)
    assert grown[7] == -1.0


def test_changed_maps_and_arrays_in_memory_are_left_alone(tmp_path):
    np.save(tmp_path / "values.npy", np.ones(5000))
    for array in (np.ones(5000), np.load(tmp_path / "values.npy", mmap_mode="c")):
        array[3] = 2.0
        release(array)
        assert array[3] == 2.0
