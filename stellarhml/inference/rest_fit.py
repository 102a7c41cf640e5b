"""Fit of a spectrum of a star at rest, on the generator's own pixels, with the paper's search or that of nodes."""

import time
import warnings
from typing import NamedTuple

import numpy as np

from stellarhml._bounds import near_bound
from stellarhml.flags import InferenceFlag
from stellarhml.forward.chain import RestChain
from stellarhml.inference._inference_result import InferenceResult
from stellarhml.inference.fit_data import FitData
from stellarhml.inference.likelihood import Likelihood, minimise
from stellarhml.inference.parameter_set import ParameterSet
from stellarhml.inference.quality import grid_ends_near
from stellarhml.inference.uncertainty import covariance_of, generator_covariance

_MANY_PIXELS = 32768  # with more pixels, several starts are compared on some of them


class RestSettings(NamedTuple):
    """Settings of a fit at rest, with the names of `BayesianStellarRegressor`; `seed` is that of the search."""

    search: str
    n_initial_points: int
    n_calls: int
    polish: bool
    n_starts: int
    continuum_degree: int | None
    generator_error: bool
    bounds: dict
    priors: dict
    seed: int


def fit_at_rest(generator, node_spectra, settings, with_covariance, item):
    """Infer the labels of one spectrum; returns an InferenceResult whose `orders` is empty.

    `node_spectra` are for search="nodes"; without `with_covariance` errors are NaN. `item` is the normalised flux
    (n_pixels,) and its standard deviations, infinite where a pixel is masked, or None.
    """
    begin, (flux, error) = time.perf_counter(), item
    chain = RestChain(generator)
    parameters = ParameterSet(chain.parameters, bounds=settings.bounds, priors=settings.priors)
    if error is not None and settings.generator_error and generator.error_map_ is not None:
        # evaluated at the middle of the grid: it depends more on wavelength than on the labels
        middle = np.array([np.mean(settings.bounds[name]) for name in parameters.names])
        error = np.hypot(error, np.nan_to_num(generator.expected_error(middle)))
    known = np.ones(len(flux)) if error is None else error
    data = FitData([np.asarray(generator.wavelength_)], [flux], [known])
    likelihood = Likelihood(chain, parameters, data.pieces(settings.continuum_degree))
    starts = _search(node_spectra, likelihood, settings, flux, error)[: settings.n_starts]
    values, converged = parameters.start(starts[0]), True
    if settings.polish:
        if len(starts) > 1 and likelihood.n_pixels > _MANY_PIXELS:
            starts = [_best_start(chain, parameters, data, starts, settings.continuum_degree)]
        solution = minimise(likelihood, starts)
        values, converged = parameters.values(solution.variables), solution.converged
    flags = InferenceFlag(0) if converged else InferenceFlag.NOT_CONVERGED
    at_bound = any(np.any(near_bound(values[name], *parameters.bounds[name])) for name in parameters.free)
    if at_bound or grid_ends_near(generator, values, parameters):
        flags |= InferenceFlag.AT_BOUND
    noise = own = np.full((len(parameters.names),) * 2, np.nan)
    if with_covariance:
        noise, own = _covariance(generator, likelihood, values, settings.generator_error, error is not None)
    return InferenceResult(
        parameters=parameters,
        values=values,
        covariances={"noise": noise, "generator": own},
        n_pixels=likelihood.n_pixels,
        flags=flags,
        seconds=time.perf_counter() - begin,
    )


def _search(node_spectra, likelihood, settings, flux, error):
    """Starting labels by name, the best first."""
    parameters = likelihood.parameters
    if settings.search == "nodes":
        weight = np.ones(len(flux)) if error is None else 1 / error**2
        nodes = node_spectra.nearest(flux, weight)
        return [dict(zip(parameters.names, node.tolist(), strict=True)) for node in nodes]
    free = parameters.free

    def loss(labels):
        return likelihood.rms(parameters.variables(dict(zip(free, labels, strict=True))))

    points = _minimise_by_gaussian_process(
        loss,
        [parameters.bounds[name] for name in free],
        n_initial_points=settings.n_initial_points,
        n_calls=settings.n_calls,
        seed=settings.seed,
    )
    return [parameters.start(dict(zip(free, point, strict=True))) for point in points]


def _minimise_by_gaussian_process(loss, bounds, *, n_initial_points, n_calls, seed):
    """Points at which the paper's search evaluated a loss, the best first."""
    from skopt import gp_minimize

    with warnings.catch_warnings():
        # harmless: the optimiser proposes a point twice, or its Gaussian process meets a bound of a length scale
        warnings.filterwarnings("ignore", message="The objective has been evaluated", category=UserWarning)
        warnings.filterwarnings("ignore", module="sklearn.gaussian_process")
        result = gp_minimize(
            lambda x: float(loss(x)),
            bounds,
            n_initial_points=min(n_initial_points, n_calls),
            n_calls=n_calls,
            random_state=seed,
        )
    return [result.x_iters[k] for k in np.argsort(result.func_vals, kind="stable")]


def _best_start(chain, parameters, data, starts, degree):
    """Values of a first fit to some runs of pixels, from the best of several starts."""
    runs = data.some_runs()
    pieces = data.pieces(None if degree is None else min(degree, 1), runs)
    solution = minimise(Likelihood(chain.part(runs), parameters, pieces), starts, tolerance=1e-4)
    return parameters.values(solution.variables)


def _covariance(generator, likelihood, values, generator_error, errors_known):
    """Covariances of the labels due to noise and due to the generator's error; zero for fixed labels."""
    parameters, error_map = likelihood.parameters, generator.error_map_
    linear = likelihood.linearise(parameters.variables(values))
    covariance = covariance_of(linear.jacobian)
    own = np.zeros_like(covariance)
    if generator_error and error_map is not None and error_map.shifts is not None:
        own = generator_covariance(linear, covariance, error_map.shifts)
    if not errors_known:
        residuals = linear.residuals
        covariance = covariance * (residuals @ residuals) / max(len(residuals) - covariance.shape[0], 1)
    return parameters.matrix(covariance), parameters.matrix(own)
