"""Folder in which a build keeps what it has computed, so that the same build goes on after an interruption."""

from contextlib import contextmanager, suppress

from stellarhml.storage.result_store import ResultStore
from stellarhml.storage.working_folders import LOCK_NAME, clear_scratch, locked

_CACHE = "stellarhml-spectra.npy"  # a name that no file of the user has


class BuildStore:
    """Folder of a build: the spectra cut to the band, and results.

    Attributes
    ----------
    results : ResultStore
        The results in it.
    folder : pathlib.Path
        The folder.
    cache : pathlib.Path
        File of the spectra, for `load_phoenix`.
    """

    def __init__(self, folder):
        self.results = ResultStore(folder)
        self.folder = self.results.folder
        self.cache = self.folder / _CACHE

    @property
    def cache_version(self):
        """Time and size of the file of the spectra, or None without one; the same as long as it is not written anew."""
        if not self.cache.exists():
            return None
        status = self.cache.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns

    @property
    def n_bytes(self):
        """Size of all that a build has put into the folder, in bytes."""
        return sum(path.stat().st_size for path in self._files())

    def remove(self):
        """Remove all that a build has put into the folder, and the folder if nothing else is in it."""
        clear_scratch(self.folder)
        self.results.clear()
        for path in self._files():
            path.unlink(missing_ok=True)
        self.remove_if_empty()

    def remove_if_empty(self):
        """Remove the folder if nothing but the lock is in it."""
        with suppress(OSError):
            if [path.name for path in self.folder.iterdir()] == [LOCK_NAME]:
                (self.folder / LOCK_NAME).unlink()
            self.folder.rmdir()

    def clear_leftovers(self):
        """Remove what a killed build has left half-written."""
        clear_scratch(self.folder)
        for path in self.folder.glob(f".{self.cache.stem}*.tmp.*"):
            path.unlink(missing_ok=True)

    def _files(self):
        spectra = (self.folder / name for name in (_CACHE, f"{_CACHE}.json"))
        return [*self.results.files(), *(path for path in spectra if path.exists())]


@contextmanager
def open_build_store(folder):
    """Create the folder if needed, and work in it alone; yields a BuildStore.

    StoreError if the folder cannot be created or written, or another process works in it. If nothing came of it, the
    folder is removed.
    """
    store = BuildStore(folder)
    try:
        with locked(store.folder):
            store.clear_leftovers()
            yield store
    finally:
        store.remove_if_empty()
