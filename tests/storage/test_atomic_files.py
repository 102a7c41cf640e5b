import os

import pytest

from stellarhml.storage.atomic_files import atomic_path, check_writable


@pytest.mark.parametrize("there", [True, False])
def test_the_target_of_a_link_is_written(tmp_path, there):
    target, link, second = tmp_path / "far" / "data.txt", tmp_path / "out.csv", tmp_path / "second.csv"
    target.parent.mkdir()
    if there:
        target.write_text("old")
    link.symlink_to(target)
    second.symlink_to("out.csv")
    check_writable(second)
    with atomic_path(second, sync=True) as temporary:
        assert (temporary.parent, temporary.suffix) == (target.parent, ".csv")  # writers go by the suffix
        temporary.write_text("new")
    assert link.is_symlink()
    assert second.is_symlink()
    assert target.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data.txt", "far", "out.csv", "second.csv"]


@pytest.mark.parametrize("linked", [True, False])
def test_a_pipe_is_not_replaced(tmp_path, linked):
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        path = tmp_path / "out.csv"
        path.symlink_to(pipe)
    with pytest.raises(OSError, match="is a device or a pipe"):
        check_writable(path)
    with pytest.raises(OSError, match="is a device or a pipe"), atomic_path(path) as temporary:
        temporary.write_text("new")
    assert pipe.is_fifo()
