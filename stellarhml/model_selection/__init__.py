"""Cross-validation over the nodes of a label grid."""

import importlib

_PUBLIC = {
    "LeaveOneNodeOut": "stellarhml.model_selection._splitters",
    "LeavePlaneOut": "stellarhml.model_selection._splitters",
}

__all__ = [*_PUBLIC]


def __getattr__(name):
    """Import a public name on first use."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names are {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
