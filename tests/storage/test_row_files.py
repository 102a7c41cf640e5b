"""Files of rows: the same as NumPy's, mapped, and an error where the disk is full."""

import numpy as np
import pytest

from stellarhml.exceptions import StoreError
from stellarhml.storage.row_files import is_mapped, write_rows


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
    with pytest.raises(StoreError, match=r"The 2 spectra, 0\.0 MB, could not be written to /dev .*Make room"):
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
