"""Versions of Python and the packages by which a file was written."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("stellarhml", "scikit-learn", "numpy", "scipy")


def find_versions() -> dict:
    """Versions of what is installed here; None for a package that is not."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}


@cache  # a look at the disk, and a process does not change its packages
def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
