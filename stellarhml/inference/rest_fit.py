"""The fit of one spectrum of a star at rest, on the generator's own pixels: by the paper's search or that of nodes."""

import numpy as np

from stellarhml.inference.fitting import grid_ends_near, minimise, some_runs
from stellarhml.inference.likelihood import Likelihood, cut_pieces
from stellarhml.inference.models import RestModel
from stellarhml.inference.parameters import Parameters
from stellarhml.inference.search import bayes_search, node_search
from stellarhml.inference.spread import covariance_of, generator_covariance
from stellarhml.synthesis.evaluation import expected_error

_MANY_PIXELS = 32768  # from which several starts are told apart on some of them


def infer_at_rest(regressor, with_covariance, item):
    """Infer the labels of one spectrum.

    Parameters
    ----------
    regressor : BayesianStellarRegressor
        Fitted.
    with_covariance : bool
        Whether the covariance is wanted.
    item : tuple of ndarray
        Normalised flux, shape (n_pixels,), and its standard deviations, infinite where a pixel is masked, or None.

    Returns
    -------
    labels : ndarray of shape (n_labels,)
        The labels.
    covariance : ndarray of shape (n_labels, n_labels)
        Their covariance; NaN if it is not wanted.
    converged : bool
        Whether the fit met its tolerance.
    at_edge : bool
        Whether the grid ends there.
    """
    flux, error = item
    generator = regressor.generator_
    parameters = Parameters(generator.label_names_, regressor.bounds_, regressor.priors)
    if error is not None and regressor.generator_error and generator.error_map_ is not None:
        # of the grid's middle: the size matters little, where it is large does
        error = np.hypot(error, np.nan_to_num(expected_error(generator, regressor.bounds_.mean(axis=1)[None])[0]))
    known = np.ones(len(flux)) if error is None else error
    pieces = cut_pieces([np.asarray(generator.wavelength_)], [flux], [known], regressor.continuum_degree)
    likelihood = Likelihood(RestModel(generator), parameters, pieces)
    free = parameters.free
    if regressor.search == "bayes":
        points, _ = bayes_search(
            lambda labels: likelihood.rms(parameters.variables(_complete(parameters, labels))),
            regressor.bounds_[free],
            n_initial_points=regressor.n_initial_points,
            n_calls=regressor.n_calls,
            seed=regressor._seed,
        )
    else:
        pixels = regressor._scan_pixels
        weight = np.ones(len(pixels)) if error is None else 1 / error[pixels] ** 2
        points, _ = node_search(flux[pixels], weight, regressor._nodes[:, free], regressor._scan_flux)
    starts = [_complete(parameters, point) for point in points[: regressor.n_starts]]
    labels, converged = starts[0], True
    if regressor.polish:
        if len(starts) > 1 and likelihood.n_pixels > _MANY_PIXELS:
            starts = [_best_start(generator, parameters, flux, known, starts, regressor.continuum_degree)]
        solution = minimise(likelihood, starts)
        labels, converged = parameters.values(solution.variables), solution.converged
    covariance = np.full((len(labels), len(labels)), np.nan)
    if with_covariance:
        covariance = _covariance(regressor, likelihood, labels, error is not None)
    return labels, covariance, converged, grid_ends_near(generator, labels, regressor.bounds_)


def _best_start(generator, parameters, flux, error, starts, degree):
    """Where a fit of some runs of pixels ends from the best of several starts."""
    runs = [span for _, span in some_runs([error])]
    parts = [[part[run] for run in runs] for part in (np.asarray(generator.wavelength_), flux, error)]
    pieces = cut_pieces(*parts, None if degree is None else min(degree, 1))
    solution = minimise(Likelihood(RestModel(generator, runs), parameters, pieces), starts, tolerance=1e-4)
    return parameters.values(solution.variables)


def _complete(parameters, values):
    """All labels from the free ones."""
    labels = parameters.bounds[:, 0].copy()
    labels[parameters.free] = values
    return labels


def _covariance(regressor, likelihood, labels, errors_known):
    """Covariance of the labels; zero for those that are fixed."""
    parameters, error_map = likelihood.parameters, regressor.generator_.error_map_
    linear = likelihood.linearise(parameters.variables(labels))
    covariance = covariance_of(linear.jacobian)
    own = np.zeros_like(covariance)
    if regressor.generator_error and error_map is not None and error_map.shifts is not None:
        own = generator_covariance(linear, covariance, error_map.shifts, labels)
    if not errors_known:
        residuals = linear.residuals
        covariance = covariance * (residuals @ residuals) / max(len(residuals) - covariance.shape[0], 1)
    whole = np.zeros((len(labels), len(labels)))
    whole[np.ix_(parameters.free, parameters.free)] = covariance + own
    return whole
