"""The former name of `stellarhml.spectra`: scripts that import from it go on working."""

import importlib
import warnings

_SPECTRA = importlib.import_module("stellarhml.spectra")
__all__ = [*_SPECTRA.__all__]


def __getattr__(name):
    """Take every name from `stellarhml.spectra`."""
    found = getattr(_SPECTRA, name)
    warnings.warn("stellarhml.io is now called stellarhml.spectra", DeprecationWarning, stacklevel=2)
    return found
