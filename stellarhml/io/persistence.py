"""Save a fitted estimator and load it again: a joblib file and, beside it, a JSON file that says what it is.

The JSON file `<path>.json` holds the versions of everything the pickle depends on and a SHA-256 of it, so that a cut or
changed file is refused and a change of version is told before it bites.
"""

import hashlib
import json
import platform
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stellarhml._atomic import atomic_path
from stellarhml.exceptions import PersistenceError, VersionWarning

SCHEMA = 1
_PACKAGES = ("stellarhml", "scikit-learn", "torch", "numpy", "scipy", "joblib")


def save(estimator, path, *, compress: int = 0) -> Path:
    """Save an estimator as a joblib file with a JSON sidecar.

    Parameters
    ----------
    estimator : object
        Fitted estimator or pipeline.
    path : str or path-like
        File to write, by custom `.joblib`. It appears under its name only when it is whole.
    compress : int, default=0
        joblib's level of compression, 0 to 9. Only an uncompressed file can be memory-mapped by `load`.

    Returns
    -------
    path : pathlib.Path
        The file. The sidecar is `<path>.json`.

    See Also
    --------
    load : Read it again.
    """
    import joblib

    path = Path(path)
    with atomic_path(path) as temporary:
        joblib.dump(estimator, temporary, compress=compress)
        record = {
            "schema": SCHEMA,
            "class": f"{type(estimator).__module__}.{type(estimator).__qualname__}",
            "versions": _versions(),
            "compress": compress,
            "n_bytes": temporary.stat().st_size,
            "sha256": _sha256(temporary),
        }
    with atomic_path(_sidecar(path)) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def load(path, *, mmap_mode: str | None = None):
    """Load an estimator that `save` wrote.

    **Only load files that you trust: joblib files are pickles, and opening one runs whatever code its author put
    into it.** The checksum guards against accidents, not against an author.

    Parameters
    ----------
    path : str or path-like
        The joblib file; its sidecar `<path>.json` must lie beside it.
    mmap_mode : {None, "r", "c"}, default=None
        Keep the large arrays on disk and map them ("r" read-only, "c" copy on write), so that several processes
        share them. Needs a file saved with `compress=0`.

    Returns
    -------
    estimator : object
        The estimator.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    PersistenceError
        If the sidecar is missing or unreadable, the schema is newer than this version, the checksum differs, or
        the pickle cannot be opened.

    Warns
    -----
    VersionWarning
        Once, if packages have other versions than when the file was written.
    """
    import joblib
    from sklearn.exceptions import InconsistentVersionWarning

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Pass the path that stellarhml.save was given.")
    record = _read_record(path)
    if record["compress"] and mmap_mode is not None:
        raise PersistenceError(
            f"{path} was saved with compress={record['compress']}, and a compressed file cannot be mapped. Load it "
            "with mmap_mode=None, or save it again with compress=0."
        )
    n_bytes = path.stat().st_size
    if n_bytes != record["n_bytes"] or _sha256(path) != record["sha256"]:
        raise PersistenceError(
            f"{path} has {n_bytes} bytes and another checksum than {_sidecar(path).name} ({record['n_bytes']} bytes) "
            "says: it is cut short or was changed. Copy both files again, or save the estimator anew."
        )
    here = _versions()
    differ = [
        f"{name} {then} -> {here.get(name)}" for name, then in record["versions"].items() if here.get(name) != then
    ]
    if differ:
        warnings.warn(
            f"{path} was saved by other versions: {', '.join(differ)}. Results may differ or loading fail; install "
            "those versions, or fit and save again.",
            VersionWarning,
            stacklevel=2,
        )
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
            f"{sidecar} does not exist, but the file that says what {path.name} is must lie beside it. Copy it too, "
            "or save the estimator anew with stellarhml.save."
        ) from error
    except PersistenceError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise PersistenceError(
            f"{sidecar} cannot be read as the record of a saved estimator ({type(error).__name__}: {error}). Copy "
            "both files again, or save the estimator anew."
        ) from error
    return record


def _versions():
    """Versions of Python and the packages that a pickle depends on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


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
