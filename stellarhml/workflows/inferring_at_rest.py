"""Labels of many observed spectra, one by one, each with its time and what was wrong with it."""

import time
import warnings
from functools import partial
from typing import NamedTuple

import numpy as np

from stellarhml._parallel import map_items
from stellarhml.cli.terminal import until_interrupted
from stellarhml.exceptions import InferenceWarning
from stellarhml.plotting._spectrum_fit import compare

_LITTLE = 0.2  # share of the window below which a result is flagged
_AT_BOUND = 1e-6  # share of a label's range


class Inference(NamedTuple):
    """What was found for one spectrum.

    Parameters
    ----------
    labels, std : ndarray of shape (n_labels,)
        Labels and standard deviations.
    rms : float
        Root mean square of flux minus model, in units of the continuum.
    chi2 : float
        Mean squared residual in units of the errors; NaN if these were not known.
    seconds : float
        Time of this spectrum.
    note : str
        What a reader must know, empty if nothing.
    """

    labels: np.ndarray
    std: np.ndarray
    rms: float
    chi2: float
    seconds: float
    note: str


def infer_observations(regressor, observations, *, n_jobs=None, verbose=None):
    """Infer the labels of observations.

    Parameters
    ----------
    regressor : BayesianStellarRegressor
        Fitted regressor; its own `n_jobs` should be None.
    observations : list of Observation
        Spectra on the pixels of the regressor's generator.
    n_jobs, verbose : int, bool, default=None
        Workers over observations, and progress bar.

    Returns
    -------
    inferences : list of Inference or str
        In the order of the observations; text is why one could not be done, which does not stop the others. After
        Ctrl-C it is INTERRUPTED for those not done.
    """
    task = partial(_infer, regressor)
    found = map_items(task, observations, n_jobs=n_jobs, verbose=verbose, description="Inferring labels")
    return until_interrupted(found, len(observations))


def _infer(regressor, observation):
    """Labels of one observation, or why there are none."""
    try:
        return _infer_one(regressor, observation)
    except ValueError as error:
        return " ".join(str(error).split())


def _infer_one(regressor, observation):
    start = time.perf_counter()
    error = None if observation.flux_error is None else observation.flux_error[None]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        labels, std = regressor.predict(observation.flux[None], flux_error=error, return_std=True)
        comparison = compare(regressor, observation.flux, labels[0], flux_error=observation.flux_error)
        chi2 = comparison.chi2
        if error is not None and not observation.errors_known:
            # the scatter of the residuals takes the place of the errors
            error = error * np.sqrt(chi2)
            labels, std = regressor.predict(observation.flux[None], flux_error=error, return_std=True)
            comparison, chi2 = compare(regressor, observation.flux, labels[0], flux_error=error[0]), np.nan
    note = "; ".join(_notes(regressor, observation, labels[0], caught))
    return Inference(labels[0], std[0], comparison.rms, chi2, time.perf_counter() - start, note)


def _notes(regressor, observation, labels, caught):
    """Yield what a reader must know of an inference."""
    if observation.coverage < _LITTLE:
        yield f"covers {100 * observation.coverage:.1f} % of the generator's pixels"
    low, high = regressor.bounds_.T
    slack = _AT_BOUND * (high - low)
    at_bound = ((labels <= low + slack) | (labels >= high - slack)) & (high > low)
    names = regressor.generator_.label_names_
    if at_bound.any():
        yield f"{', '.join(np.array(names)[at_bound])} at the edge of the grid, may lie outside"
    elif any(issubclass(warning.category, InferenceWarning) for warning in caught):
        yield "did not converge"
    for warning in caught:
        if not issubclass(warning.category, InferenceWarning):
            yield " ".join(str(warning.message).split())
