"""Stellar parameters from high-resolution spectra, by treating spectra as sets of spectral lines.

Names load when they are first used: `import stellarhml` alone loads neither torch nor matplotlib nor astropy.
"""

import importlib

__version__ = "0.2.0.dev0"

_PUBLIC = {
    "PhoenixPreprocessor": "stellarhml.preprocessing._phoenix_preprocessor",
    "VoigtLineDecomposer": "stellarhml.lines._voigt_line_decomposer",
    "LineManifoldInterpolator": "stellarhml.manifold._line_manifold_interpolator",
    "SpectrumGenerator": "stellarhml.synthesis._spectrum_generator",
    "BayesianStellarRegressor": "stellarhml.inference._bayesian_stellar_regressor",
    "LineCalibrator": "stellarhml.calibration._line_calibrator",
    "make_stellar_pipeline": "stellarhml.pipeline",
    "save": "stellarhml.storage.saving",
    "load": "stellarhml.storage.saving",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name):
    """Import a public name on first use."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'stellarhml' has no attribute {name!r}; public names are {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
