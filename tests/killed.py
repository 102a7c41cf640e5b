"""Processes that are really started and really killed, with their workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

needs_groups = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX process groups")


def start(arguments, folder, **options):
    """Start Python in a process group of its own; joblib's files are in `folder`."""
    environment = {**os.environ, "JOBLIB_TEMP_FOLDER": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, start_new_session=True, text=True, **options)


def wait_until(process, condition, seconds=120):
    """Wait until `condition()` holds, while the process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill(process):
    """Kill the process and all its workers at once, as a power cut does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    time.sleep(0.2)  # the workers were killed too, but only their parent can wait for them
    for leftover in Path("/dev/shm").glob(f"sem.loky-{process.pid}-*"):
        leftover.unlink()


def times(folder):
    """When each result of a store was written, in nanoseconds; half-written ones do not count."""
    return {path: path.stat().st_mtime_ns for path in Path(folder).glob("[!.]*.result")}
