"""Versions of Python and the packages on which a saved estimator depends."""

import platform
import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from stellarhml.exceptions import VersionWarning

_PACKAGES = ("stellarhml", "scikit-learn", "torch", "numpy", "scipy", "joblib")


def find_versions() -> dict:
    """Versions of what is installed here; None for a package that is not."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}


def warn_of_versions(path, versions, *, stacklevel) -> list:
    """Warn once if versions differ from those here.

    Parameters
    ----------
    path : str or path-like
        File that was saved.
    versions : dict
        What `find_versions` returned when it was.
    stacklevel : int
        As for :func:`warnings.warn`, seen from the caller.

    Returns
    -------
    differ : list of str
        The differences, in words.
    """
    here = find_versions()
    differ = [f"{name} {then} -> {here.get(name)}" for name, then in versions.items() if here.get(name) != then]
    if differ:
        warnings.warn(
            f"{path} was saved by other versions: {', '.join(differ)}. Results may differ or loading fail; install "
            "those versions, or fit and save again.",
            VersionWarning,
            stacklevel=stacklevel + 1,
        )
    return differ


@cache  # a look at the disk, and a process does not change its packages
def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
