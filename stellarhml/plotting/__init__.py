"""Displays: figures that keep their arrays, and import matplotlib only when they draw."""

import importlib

_PUBLIC = {
    "CornerDisplay": "stellarhml.plotting._corner_display",
    "DecompositionDisplay": "stellarhml.plotting._decomposition_display",
    "ErrorMapDisplay": "stellarhml.plotting._error_map_display",
    "InferenceDisplay": "stellarhml.plotting._inference_display",
    "InferenceErrorDisplay": "stellarhml.plotting._inference_error_display",
    "LineCorrectionDisplay": "stellarhml.plotting._line_correction_display",
    "LineCountDisplay": "stellarhml.plotting._line_count_display",
    "ManifoldDisplay": "stellarhml.plotting._manifold_display",
    "SpectrumFitDisplay": "stellarhml.plotting._spectrum_fit_display",
}

__all__ = [*_PUBLIC]


def __getattr__(name):
    """Import a public name on first use."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names are {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
