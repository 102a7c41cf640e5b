"""Atomic writing of files: under a temporary name, then renamed, so that no incomplete file has the final name."""

import os
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(path, *, sync=False):
    """Give a temporary path in the folder of `path`, and rename it to `path` when the block ends without an error.

    Of a symbolic link the target is written, and the link stays. OSError if `path` is a device or a pipe.

    Parameters
    ----------
    path : str or path-like
        Final path of the file. Its folder is created if needed.
    sync : bool, default=False
        Whether to wait until the content and then the name are on the disk: otherwise a crash of the machine could
        leave an empty file, or the old one after the sources of the new one have been removed.

    Yields
    ------
    temporary : pathlib.Path
        Path to write to, in the same folder (a rename across disks would not be atomic) and with the
        same suffix (writers choose the format by it).
    """
    path, suffix = final_path(path), Path(path).suffix
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path, suffix)
    try:
        yield temporary
        if sync:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if sync:
            _sync_folder(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def check_writable(path, n_bytes=4096):
    """Write a temporary file where `atomic_path` would, and remove it; OSError if that fails.

    Permissions alone do not tell: the disk may be full or mounted read-only, or the name too long.
    """
    path, suffix = final_path(path), Path(path).suffix
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path, suffix)
    try:
        with open(temporary, "wb") as file:
            file.write(bytes(n_bytes))
            file.flush()
            os.fsync(file.fileno())  # a network disk may report only now that it is full
    finally:
        with suppress(OSError):
            temporary.unlink()


def final_path(path):
    """The file that `atomic_path` replaces: of symbolic links the target. OSError if it is a device or a pipe."""
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(
            f"{path} is a device or a pipe, which would be replaced by a file. Give the name of a file; copy it to the "
            "other place afterwards."
        )
    return Path(os.path.realpath(path))


def _sync_folder(folder):
    """Wait until the names of a folder are on the disk, where the system can."""
    with suppress(OSError):  # Windows opens no folders
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _temporary(path, suffix):
    """A name beside `path` that no other process uses."""
    return path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{suffix}")
