"""Save a fitted estimator and load it again: an ASDF file, which holds no code, or a joblib file, a pickle.

The suffix decides. A file that ends in `.asdf` (:mod:`stellarhml.storage.asdf_files`) is data, and outlives versions of
this package; a joblib file runs the code of its author when it is opened, and suits the versions that wrote it.
"""

from pathlib import Path

from stellarhml.exceptions import PersistenceError
from stellarhml.storage import asdf_files
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.storage.registry import find_class_name

SUFFIX = ".asdf"

# first bytes of a pickle, and of what joblib compresses: zlib, gzip, bz2, xz, lzma, lz4
_PICKLES = (b"\x80", b"x", b"\x1f\x8b", b"BZ", b"\xfd7zXZ", b"]\x00\x00", b"\x04\x22\x4d\x18")


def save(estimator, path, *, compress: int = 0) -> Path:
    """Save an estimator.

    A name that ends in `.asdf` gives a file that is safe to share and that later versions open: **an ASDF file holds no
    code; a joblib file is a pickle and runs the code of its author.** Any other name gives a joblib file.

    Parameters
    ----------
    estimator : object
        Fitted estimator or pipeline. An ASDF file takes those of this package, and pipelines of them.
    path : str or path-like
        File to write, `.asdf` or `.joblib`. It appears under its name only when it is complete.
    compress : int, default=0
        joblib's level of compression, 0 to 9. Only an uncompressed file can be memory-mapped by `load`. An ASDF file
        is never compressed.

    Returns
    -------
    path : pathlib.Path
        The file.

    Raises
    ------
    PersistenceError
        If an ASDF file cannot hold something in the estimator. It is named, and no file appears.

    See Also
    --------
    load : Read it again.
    """
    path = Path(path)
    if path.suffix.lower() == SUFFIX:
        if compress:
            raise ValueError(
                f"`compress` is {compress}, but an ASDF file is not compressed. Leave it out, or save to a name that "
                "ends in .joblib."
            )
        asdf_files.write_asdf(estimator, path)
        return path
    import joblib

    with atomic_path(path, sync=True) as temporary:
        joblib.dump(estimator, temporary, compress=compress)
    return path


def load(path, *, mmap_mode: str | None = None, verify: bool = True, trust_pickle: bool = True):
    """Load an estimator that `save` wrote.

    **Only load joblib files that you trust: they are pickles, and opening one runs whatever code its author put into
    it. An ASDF file runs no code**: it is data, all of which is checked before estimators are made of it. A damaged or
    forged one is refused, and one under 1 MB costs at most 1 s and 200 MB.

    Parameters
    ----------
    path : str or path-like
        The file. Its first bytes show whether it is ASDF or joblib.
    mmap_mode : {None, "r", "c"}, default=None
        Keep the large arrays on disk and map them ("r" read-only, "c" copy on write), so that several processes
        share them. A joblib file must have been saved with `compress=0`.
    verify : bool, default=True
        Whether to compare the blocks of an ASDF file with their checksums, for which all of them must be read, at some
        600 MB/s. Its header always is.
    trust_pickle : bool, default=True
        Whether a joblib file is opened. False refuses it, for programs that open files of unknown origin.

    Returns
    -------
    estimator : object
        The estimator.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    PersistenceError
        If the file is damaged, a newer version of the package wrote it, the pickle cannot be opened, or it is a
        pickle and `trust_pickle` is False.
    """
    path = _require_file(path)
    if mmap_mode not in (None, "r", "c"):
        raise ValueError(f'`mmap_mode` is {mmap_mode!r}; it must be None, "r" (read-only) or "c" (copy on write).')
    if _is_asdf(path):
        return asdf_files.read_asdf(path, mmap_mode=mmap_mode, verify=verify)
    with open(path, "rb") as file:
        head = file.read(6)
    if not head.startswith(_PICKLES):
        raise PersistenceError(
            f"{path} is not a saved estimator: it begins with {head!r}. Pass a file that stellarhml.save, "
            "build or demo wrote."
        )
    if not trust_pickle:
        raise PersistenceError(
            f"{path} is a pickle, which runs the code of its author when it is opened. Use an .asdf file or, if you "
            "trust its author, `--trust-pickle` (in Python: trust_pickle=True)."
        )
    import joblib

    try:
        return joblib.load(path, mmap_mode=mmap_mode)
    except MemoryError:
        raise
    except Exception as error:  # a pickle of another version can fail with anything
        raise PersistenceError(
            f"{path} cannot be opened as a joblib file ({type(error).__name__}: {error!s:.300}). If other versions of "
            "the packages wrote it, install those, and save it there to a name that ends in .asdf."
        ) from error


def inspect(path) -> dict:
    """Describe a saved estimator without opening it: no object is made, and no code runs.

    Parameters
    ----------
    path : str or path-like
        File that `save` wrote.

    Returns
    -------
    record : dict
        "format" ("asdf" or "joblib") and "n_bytes". For an ASDF file also "tag", "class", "versions" of the packages
        that wrote it, "n_arrays" and "grid", the identity of the training grid; None for joblib, a pickle, which must
        be opened to be read.

    Raises
    ------
    FileNotFoundError, PersistenceError
        As `load`; all checksums are compared.
    """
    path = _require_file(path)
    found = {"format": "joblib", "n_bytes": path.stat().st_size}
    found |= dict.fromkeys(("tag", "class", "versions", "n_arrays", "grid"))
    if _is_asdf(path):
        record = asdf_files.read_record(path)
        found |= {"format": "asdf", **record, "class": find_class_name(record["tag"])}
    return found


def _is_asdf(path):
    """Whether a file is an ASDF file, or has the name of one."""
    with open(path, "rb") as file:
        return file.read(len(asdf_files.MAGIC)) == asdf_files.MAGIC or path.suffix.lower() == SUFFIX


def _require_file(path):
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Pass the path that stellarhml.save was given.")
    return path
