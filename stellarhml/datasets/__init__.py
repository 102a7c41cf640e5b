"""Grids of spectra: `load_` reads local files, `make_` computes, `fetch_` downloads.

Names load when they are first used, so that `import stellarhml.datasets` stays light.
"""

import importlib

_PUBLIC = {
    "load_mini_grid": "stellarhml.datasets._mini_grid",
    "make_stellar_grid": "stellarhml.datasets._synthetic",
    "load_grid": "stellarhml.grids.loading",
    "load_phoenix": "stellarhml.grids.phoenix_grid",
    "fetch_phoenix": "stellarhml.grids.fetch",
    "get_data_home": "stellarhml.grids.fetch",
}

__all__ = [*_PUBLIC]


def __getattr__(name):
    """Import a public name on first use."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names are {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
