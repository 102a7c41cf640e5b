"""Observed spectra: reading and writing files, conversion from specutils and astropy, telluric correction.

Names load when they are first used, so that `import stellarhml.spectra` stays light.
"""

import importlib

_PUBLIC = {
    "ObservedSpectrum": "stellarhml.spectra.observed_spectrum",
    "read_spectrum": "stellarhml.spectra.reading",
    "read_transmission": "stellarhml.spectra.transmissions",
    "read_atmosphere": "stellarhml.spectra.transmissions",
    "Atmosphere": "stellarhml.spectra.atmosphere",
    "barycentric_velocity": "stellarhml.spectra.barycentric",
    "mask_tellurics": "stellarhml.spectra.tellurics",
    "divide_tellurics": "stellarhml.spectra.tellurics",
    "divide_standard": "stellarhml.spectra.tellurics",
    "hydrogen_windows": "stellarhml.spectra.tellurics",
}

__all__ = [*_PUBLIC]


def __getattr__(name):
    """Import a public name on first use."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names are {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
