"""The former name of `stellarhml.spectra`: scripts that import from it go on working."""

import warnings

from stellarhml import spectra
from stellarhml.spectra import __all__  # noqa: F401

warnings.warn("stellarhml.io is now called stellarhml.spectra", DeprecationWarning, stacklevel=2)


def __getattr__(name):
    """Take every name from `stellarhml.spectra`."""
    return getattr(spectra, name)
