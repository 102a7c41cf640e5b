"""Journal of a long command: the results that are done, beside the file that all of them will be written to."""

from contextlib import contextmanager, suppress
from pathlib import Path

from stellarhml.storage.result_store import ResultStore
from stellarhml.storage.working_folders import LOCK_NAME, locked


@contextmanager
def open_journal(out, *, restart=False):
    """Open the store ``OUT.partial`` beside the file `out` for this process alone, and remove it at the end if empty.

    Parameters
    ----------
    out : str or path-like
        File that will be written when all is done.
    restart : bool, default=False
        Whether what an earlier run left is removed.

    Yields
    ------
    store : ResultStore
        The results of earlier runs; results that are still in it at the end stay for the next.

    Raises
    ------
    StoreError
        If the folder cannot be made, or another process uses it.
    """
    out = Path(out)
    store = ResultStore(out.with_name(f"{out.name}.partial"))
    with locked(store.folder):
        if restart:
            store.clear()
        try:
            yield store
        finally:
            if not len(store):
                with suppress(OSError):  # a file of someone else is in it
                    store.clear()
                    (store.folder / LOCK_NAME).unlink()
                    store.folder.rmdir()
