"""Inference of spectra at rest on the generator's own pixels, for the demo and the benchmark."""

import time
import warnings
from functools import partial

import numpy as np
import pandas as pd

from stellarhml._bounds import near_bound
from stellarhml._parallel import map_items
from stellarhml.exceptions import InferenceWarning
from stellarhml.flags import InferenceFlag, name_flags
from stellarhml.plotting._spectrum_fit import compare


def add_noise(flux, *, snr, seed):
    """Fluxes (n_stars, n_pixels) with Gaussian noise added, and its standard deviations, of the same shape.

    `snr` is the ratio of the median flux of each spectrum to the standard deviation of its noise.
    """
    rng = np.random.default_rng(seed)
    flux = flux.astype(np.float64)
    error = np.repeat(np.median(flux, axis=1, keepdims=True) / snr, flux.shape[1], axis=1)
    return flux + error * rng.normal(size=flux.shape), error


def infer_rows(regressor, flux, error=None, *, n_jobs=None, verbose=None):
    """Infer labels of spectra, each with its time and messages; a failure does not stop the others.

    `flux` and `error` (n_stars, n_pixels), as `predict` of the regressor takes them, whose own `n_jobs` should be None;
    without errors all pixels have equal weights. The DataFrame has one row for each: `status` (ok, flagged or failed),
    `NAME` and `NAME_std` for each label, `rms` (residual RMS in units of the continuum), `reduced_chi2`, `seconds`,
    `flags`, `message`.
    """
    items = [(row, None if error is None else error[i]) for i, row in enumerate(flux)]
    task = partial(_infer_row, regressor)
    return pd.DataFrame(map_items(task, items, n_jobs=n_jobs, verbose=verbose, description="Inferring labels"))


def _infer_row(regressor, item):
    """Row of the table for one spectrum."""
    flux, error = item
    names, start = regressor.generator_.label_names_, time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            errors = None if error is None else error[None]
            labels, std = (row[0] for row in regressor.predict(flux[None], flux_error=errors, return_std=True))
            fit = compare(regressor, flux, labels, flux_error=error)
    except ValueError as problem:
        message = " ".join(str(problem).split())
        nothing = dict.fromkeys([column for name in names for column in (name, f"{name}_std")], np.nan)
        last = {"rms": np.nan, "reduced_chi2": np.nan, "seconds": np.nan, "flags": InferenceFlag.FAILED.name}
        return {"status": "failed"} | nothing | last | {"message": message}
    flags, messages = _judge(regressor, labels, caught)
    row = {"status": "flagged" if messages else "ok"}
    for name, value, sigma in zip(names, labels, std, strict=True):
        row |= {name: value, f"{name}_std": sigma}
    row |= {"rms": fit.rms, "reduced_chi2": fit.chi2, "seconds": time.perf_counter() - start}
    return row | {"flags": name_flags(flags, InferenceFlag), "message": "; ".join(messages)}


def _judge(regressor, labels, caught):
    """Flags and messages of one spectrum."""
    flags, messages = 0, []
    names = regressor.generator_.label_names_
    near = [name for name, value in zip(names, labels, strict=True) if any(near_bound(value, *regressor.bounds_[name]))]
    if near:
        flags |= InferenceFlag.AT_BOUND
        messages.append(f"{', '.join(near)} at a bound, the star may lie outside")
    elif any(issubclass(warning.category, InferenceWarning) for warning in caught):
        flags |= InferenceFlag.NOT_CONVERGED
        messages.append("did not converge")
    others = [warning for warning in caught if not issubclass(warning.category, InferenceWarning)]
    return flags, messages + [" ".join(str(warning.message).split()) for warning in others]
