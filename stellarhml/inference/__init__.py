"""Inference: stellar labels, velocities and their errors from observed spectra."""

from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor
from stellarhml.inference._inference_result import InferenceResult, results_table
from stellarhml.inference.best_generator import infer_best, infer_best_each
from stellarhml.inference.photometry import teff_from_gaia
from stellarhml.inference.telluric_fit import fit_tellurics

__all__ = [
    "BayesianStellarRegressor",
    "InferenceResult",
    "fit_tellurics",
    "infer_best",
    "infer_best_each",
    "results_table",
    "teff_from_gaia",
]
