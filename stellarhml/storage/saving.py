"""Save a fitted estimator and load it again: a .shml file, or a joblib file and a JSON file that says what it is.

The suffix decides. A .shml file (:mod:`stellarhml.storage.safe_file`) holds no code; a joblib file is a pickle. The
JSON file `<path>.json` holds the versions of everything the pickle depends on and a SHA-256 of it, so that a cut or
changed file is refused and a change of version is told before it bites.
"""

import hashlib
import json
import warnings
from pathlib import Path

from stellarhml.exceptions import PersistenceError
from stellarhml.storage import safe_file
from stellarhml.storage._object_tree import class_name
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.storage.versions import find_versions, warn_of_versions

SCHEMA = 1


def save(estimator, path, *, compress: int = 0) -> Path:
    """Save an estimator.

    A name that ends in `.shml` gives a file that is safe to pass on: **a .shml file holds no code, a joblib file is a
    pickle and runs the code of its author.** Any other name gives a joblib file with a JSON sidecar.

    Parameters
    ----------
    estimator : object
        Fitted estimator or pipeline. A .shml file takes those of this package, and pipelines of them.
    path : str or path-like
        File to write, `.shml` or by custom `.joblib`. It appears under its name only when it is whole.
    compress : int, default=0
        joblib's level of compression, 0 to 9. Only an uncompressed file can be memory-mapped by `load`. A .shml file
        is never compressed.

    Returns
    -------
    path : pathlib.Path
        The file. The sidecar of a joblib file is `<path>.json`; a .shml file needs none.

    Raises
    ------
    PersistenceError
        If a .shml file cannot hold something in the estimator. The attribute is named, and no file appears.

    See Also
    --------
    load : Read it again.
    """
    path = Path(path)
    if _is_safe(path):
        if compress:
            raise ValueError(
                f"`compress` is {compress}, but a .shml file is not compressed. Leave it out, or save to a name that "
                "ends in .joblib."
            )
        safe_file.write_safe(estimator, path)
        return path
    import joblib

    with atomic_path(path) as temporary:
        joblib.dump(estimator, temporary, compress=compress)
        record = {
            "schema": SCHEMA,
            "class": class_name(estimator),
            "versions": find_versions(),
            "compress": compress,
            "n_bytes": temporary.stat().st_size,
            "sha256": _sha256(temporary),
        }
    with atomic_path(_sidecar(path)) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def load(path, *, mmap_mode: str | None = None, verify: bool = True):
    """Load an estimator that `save` wrote.

    **Only load joblib files that you trust: they are pickles, and opening one runs whatever code its author put into
    it.** The checksum guards against accidents, not against an author. **A .shml file runs no code**: it is data, from
    which only classes of this package are made. Whether its numbers make sense is not checked.

    Parameters
    ----------
    path : str or path-like
        The .shml file; or the joblib file, whose sidecar `<path>.json` must lie beside it.
    mmap_mode : {None, "r", "c"}, default=None
        Keep the large arrays on disk and map them ("r" read-only, "c" copy on write), so that several processes
        share them. Needs a file saved with `compress=0`.
    verify : bool, default=True
        Whether to compare the arrays of a .shml file with their checksums, for which all of them must be read, at some
        800 MB/s. Its header always is, and so is all of a joblib file.

    Returns
    -------
    estimator : object
        The estimator.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    PersistenceError
        If the file is damaged, its schema is newer than this version, it names a class that may not be in a .shml
        file, the sidecar of a joblib file is missing or unreadable, or the pickle cannot be opened.

    Warns
    -----
    VersionWarning
        Once, if packages have other versions than when the file was written.
    """
    path = _require_file(path)
    if mmap_mode not in (None, "r", "c"):
        raise ValueError(f'`mmap_mode` is {mmap_mode!r}; it must be None, "r" (read-only) or "c" (copy on write).')
    if _is_safe(path):
        return safe_file.read_safe(path, mmap_mode=mmap_mode, verify=verify, stacklevel=2)
    import joblib
    from sklearn.exceptions import InconsistentVersionWarning

    record = _read_record(path)
    if record["compress"] and mmap_mode is not None:
        raise PersistenceError(
            f"{path} was saved with compress={record['compress']}, and a compressed file cannot be mapped. Load it "
            "with mmap_mode=None, or save it again with compress=0."
        )
    _verify_pickle(path, record)
    differ = warn_of_versions(path, record["versions"], stacklevel=2)
    try:
        with warnings.catch_warnings():
            # scikit-learn would repeat the same for every estimator inside.
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            return joblib.load(path, mmap_mode=mmap_mode)
    except MemoryError:
        raise
    except Exception as error:  # a pickle of another version can fail with anything
        raise PersistenceError(
            f"{path} is whole, but cannot be opened here ({type(error).__name__}: {error}). It holds a "
            f"{record['class']}; "
            + (f"it was saved by other versions: {', '.join(differ)}. Install those." if differ else "save it again.")
        ) from error


def inspect(path) -> dict:
    """Tell what a saved estimator is, without opening it: nothing is made, and no code runs.

    Parameters
    ----------
    path : str or path-like
        File that `save` wrote.

    Returns
    -------
    record : dict
        "format" ("shml" or "joblib"), "schema", "class", "versions", "n_bytes", "n_arrays" (None for joblib) and
        "grid": the identity of the training grid, if the estimator and the format carry one.

    Raises
    ------
    FileNotFoundError, PersistenceError
        As `load`; all checksums are compared.
    """
    path = _require_file(path)
    found = {"format": "joblib", "n_bytes": path.stat().st_size, "n_arrays": None, "grid": None}
    if _is_safe(path):
        record = safe_file.read_header(path)
        found |= {"format": "shml", "n_arrays": len(record["arrays"]), "grid": record.get("grid")}
    else:
        record = _read_record(path)
        _verify_pickle(path, record)
    return found | {key: record[key] for key in ("schema", "class", "versions")}


def _is_safe(path):
    return path.suffix.lower() == safe_file.SUFFIX


def _require_file(path):
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Pass the path that stellarhml.save was given.")
    return path


def _verify_pickle(path, record):
    """Raise if a joblib file is not the one that its sidecar describes."""
    n_bytes = path.stat().st_size
    if n_bytes != record["n_bytes"] or _sha256(path) != record["sha256"]:
        raise PersistenceError(
            f"{path} has {n_bytes} bytes and another checksum than {_sidecar(path).name} ({record['n_bytes']} bytes) "
            "says: it is cut short or was changed. Copy both files again, or save the estimator anew."
        )


def _read_record(path):
    """The checked content of the sidecar."""
    sidecar = _sidecar(path)
    try:
        record = json.loads(sidecar.read_text(encoding="utf-8"))
        schema = record["schema"]
        if isinstance(schema, int) and schema > SCHEMA:
            raise PersistenceError(
                f"{sidecar} has schema {schema}, but this version of stellarhml reads up to {SCHEMA}. Upgrade "
                "stellarhml."
            )
        for key, kind in (("class", str), ("versions", dict), ("compress", int), ("n_bytes", int), ("sha256", str)):
            if not isinstance(record[key], kind):
                raise TypeError(f"{key} is a {type(record[key]).__name__}")
    except FileNotFoundError as error:
        raise PersistenceError(
            f"{path} is no .shml file, and {sidecar} does not exist, which would say what it is. Copy that too, if "
            f"{path.name} is a saved estimator, or save it anew with stellarhml.save."
        ) from error
    except PersistenceError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise PersistenceError(
            f"{sidecar} cannot be read as the record of a saved estimator ({type(error).__name__}: {error}). Copy "
            "both files again, or save the estimator anew."
        ) from error
    return record


def _sha256(path):
    """Checksum of a file, read in pieces."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _sidecar(path):
    """Path of the JSON file beside a saved estimator."""
    return path.with_name(path.name + ".json")
