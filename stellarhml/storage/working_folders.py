"""Folders that a process works in: locked while it lives, and cleared of what a killed one has left."""

import errno
import shutil
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from stellarhml.exceptions import StoreError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK_NAME = "lock"
_PREFIX = "stellarhml-"


@contextmanager
def locked(folder):
    """Work in a folder alone: hold a lock on a file in it, which the system releases however the process ends.

    Writing the file also shows that the folder can be written. It stays, so that all processes lock the same file.
    Where there are no locks (Windows, some network disks), nothing is locked. StoreError if another process works in
    the folder, or it cannot be written.

    Yields
    ------
    sure : bool
        Whether no other process works in the folder; False where there are no locks.
    """
    path = Path(folder) / LOCK_NAME
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "ab", buffering=0))
            sure = _lock(file, folder)
            file.write(b"\n")
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(
                f"Nothing can be written to {folder} ({error.strerror}). Make room there, make it writable, or choose "
                "another folder."
            ) from error
        yield sure


@contextmanager
def scratch_folder(parent=None):
    """Make a temporary folder, removed at the end; those that killed processes left in `parent` are removed first.

    None: in the system's folder for temporary files.
    """
    if parent is None:
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
            yield Path(name)
        return
    clear_scratch(parent)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent) as name, locked(name):
        yield Path(name)


def clear_scratch(parent):
    """Remove the scratch folders of processes that are gone."""
    for path in Path(parent).glob(f"{_PREFIX}*/{LOCK_NAME}"):
        with suppress(OSError), locked(path.parent) as sure:
            if sure:
                shutil.rmtree(path.parent, ignore_errors=True)


def _lock(file, folder):
    """Whether the lock on a file was taken; StoreError if another process has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise StoreError(
                f"Another process works in {folder}. Wait until it is done, end it, or choose another folder."
            ) from error
        return False  # a disk without locks
    return True
