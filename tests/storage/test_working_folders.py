"""Locks that end with their process, and folders that killed processes have left."""

import os
import signal
import subprocess
import sys

import pytest

from stellarhml.exceptions import StoreError
from stellarhml.storage.working_folders import locked, scratch_folder

pytest.importorskip("fcntl", reason="this system has no locks of files")

HOLD = """
import sys
import time
from stellarhml.storage.working_folders import locked, scratch_folder

with scratch_folder(sys.argv[1]) as folder, locked(sys.argv[1]):
    (folder / "large").touch()
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that works in tmp_path, and the name of its scratch folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    yield process, process.stdout.readline().strip()
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_lock_lasts_as_long_as_its_process(holder, tmp_path):
    process, _ = holder
    with pytest.raises(StoreError, match="Another process works in"), locked(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with locked(tmp_path) as sure:
        assert sure
    with locked(tmp_path):  # and again
        pass


def test_only_the_scratch_of_the_dead_is_removed(holder, tmp_path):
    process, theirs = holder
    with scratch_folder(tmp_path) as ours:
        assert os.path.isdir(theirs)
        assert ours.is_dir()
        assert ours.parent == tmp_path
    assert not ours.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert os.path.isdir(theirs)
    with scratch_folder(tmp_path):
        assert not os.path.exists(theirs)


def test_a_folder_that_cannot_be_written_is_an_error():
    with pytest.raises(StoreError, match="Nothing can be written to /proc"), locked("/proc"):
        pass
