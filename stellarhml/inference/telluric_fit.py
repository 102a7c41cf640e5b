"""fit_tellurics: the atmosphere alone, in the spectrum of a star without narrow lines, such as an A0V star."""

import time

import numpy as np

from stellarhml._parallel import one_thread
from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.flags import InferenceFlag
from stellarhml.forward.observation import Observation
from stellarhml.forward.tellurics import AirChain
from stellarhml.inference._inference_result import InferenceResult
from stellarhml.inference.fit_data import FitData
from stellarhml.inference.likelihood import Likelihood, fit_continua, minimise
from stellarhml.inference.parameter_set import ParameterSet, check_fixed
from stellarhml.inference.quality import instrument_flags
from stellarhml.inference.telluric_frame import as_tellurics, frame_of_air
from stellarhml.inference.telluric_pixels import TelluricPixels
from stellarhml.inference.uncertainty import uncertainty_of
from stellarhml.spectra.conversion import as_observed_spectrum

_ROUNDS = 4  # fits with clipping between them
_REACH = 6.0  # sigmas of the line spread


def fit_tellurics(
    spectrum,
    atmosphere,
    *,
    resolving_power,
    medium=None,
    mask=None,
    barycentric=None,
    fixed=None,
    continuum_degree="auto",
):
    """Fit the atmosphere alone to the spectrum of a star on a smooth continuum, such as an A0V star.

    Parameters
    ----------
    spectrum : ObservedSpectrum, Spectrum, sequence of Spectrum, or tuple of arrays
        As `BayesianStellarRegressor.infer` takes it.
    atmosphere : Atmosphere, str, path-like, tuple or Tellurics
        As the `tellurics` of `infer`.
    resolving_power, medium, mask, barycentric, fixed : object
        As in `infer`; `fixed` of parameters such as "a_H2O" and "rv_air".
    continuum_degree : int, "auto" or None, default="auto"
        As in `infer`. The lines of hydrogen are part of the continuum here: a degree of some tens for an order follows
        them, where they are wide.

    Returns
    -------
    result : InferenceResult
        With the amounts and velocity of the air. `orders` have the transmission, and
        `InferenceResult.without_tellurics` divides by it.

    Raises
    ------
    ValueError
        If arguments do not match, or too few pixels are left.
    WavelengthCoverageError
        If the table of the atmosphere does not cover the spectrum.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.inference import fit_tellurics
    >>> wavelength = np.arange(8500, 8530, 0.01)
    >>> water = 1 - 0.6 * np.exp(-0.5 * ((wavelength % 5 - 2.5) / 0.2) ** 2)
    >>> pixels = np.arange(8502, 8528, 0.05)
    >>> star = pixels, np.interp(pixels, wavelength, water**1.5), np.full(len(pixels), 0.01)
    >>> result = fit_tellurics(star, (wavelength, {"H2O": water}), resolving_power=1e6)
    >>> round(result.values["a_H2O"], 1)
    1.5
    """
    begin = time.perf_counter()
    spectrum, powers = as_observed_spectrum(spectrum, medium=medium, mask=mask, resolving_power=resolving_power)
    stage, velocity = frame_of_air(spectrum, as_tellurics(atmosphere), barycentric)
    data = FitData.of(spectrum)
    observation = Observation(data.wavelengths, resolving_power=powers)
    limits = {parameter.name: parameter.bounds for parameter in stage.parameters}
    parameters = ParameterSet(stage.parameters, fixed=check_fixed(fixed, limits))
    with one_thread():
        return _Fit(stage, observation, data, parameters, continuum_degree).run(spectrum, velocity, begin)


class _Fit:
    """The fit of one spectrum."""

    def __init__(self, stage, observation, data, parameters, degree):
        self._data, self._parameters, self._degree = data, parameters, degree
        self._chain, self._air = AirChain(stage, observation), TelluricPixels(stage, observation)
        n_before = data.count()
        ends = [[o.wavelength * np.exp(s * _REACH * (o.sigma or 0.0)) for s in (-1, 1)] for o in _scalar(observation)]
        data.keep([np.logical_and(*map(stage.covers, pair)) for pair in ends])
        if not data.count():
            raise WavelengthCoverageError(
                f"None of the {n_before} good pixels lies within the table of the atmosphere. Give one that covers the "
                "spectrum, in vacuum angstrom."
            )
        self._messages = []
        if data.count() < n_before:
            self._messages.append(f"{n_before - data.count()} pixels outside the range of Tellurics masked")

    def run(self, spectrum, velocity, begin):
        values = self._parameters.start({})
        runs, n_evaluations, evidence = self._air.runs(self._data.errors), 0, InferenceFlag(0)
        if runs:
            solution = minimise(self._likelihood(runs), [values], max_evaluations=30, tolerance=1e-4)
            values, n_evaluations = self._parameters.values(solution.variables), solution.n_evaluations
        self._data.reject(self._compare(values))
        for _ in range(_ROUNDS):
            self._data.weigh(self._compare(values), jitter=False)
            likelihood = self._likelihood()
            solution = minimise(likelihood, [values])
            n_evaluations += solution.n_evaluations
            values = self._parameters.values(solution.variables)
            if not self._data.reject(self._compare(values)):
                break
        if not solution.converged:
            evidence |= InferenceFlag.NOT_CONVERGED
            self._messages.append("the fit did not converge")
        linear = likelihood.linearise(solution.variables)
        found = uncertainty_of(linear, likelihood, None)
        factor, flags = instrument_flags(linear, self._parameters, found.reduced_chi2)
        orders = self._data.in_own_unit(self._compare(values))
        errors = dict(zip(self._parameters.free, np.sqrt(np.diag(found.noise)).tolist(), strict=True))
        for flag, message in (*flags, *self._air.flags(values, errors)):
            evidence |= flag
            self._messages.append(message)
        air = zip(orders, self._chain.flux(values), self._air.transmission_errors(values), strict=True)
        return InferenceResult(
            parameters=self._parameters,
            values=values,
            covariances={"noise": self._parameters.matrix(found.noise)},
            reduced_chi2=found.reduced_chi2 if self._data.errors_known else np.nan,
            n_pixels=likelihood.n_pixels,
            n_rejected=self._data.n_rejected,
            resolving_power_factor=factor,
            flags=evidence,
            messages=self._messages,
            orders=[order._replace(transmission=t, transmission_error=error) for order, t, error in air],
            frame=spectrum.meta.get("frame"),
            barycentric=velocity,
            n_evaluations=n_evaluations,
            seconds=time.perf_counter() - begin,
        )

    def _likelihood(self, runs=None):
        chain = self._chain if runs is None else self._chain.part(runs)
        likelihood = Likelihood(chain, self._parameters, self._data.pieces(self._degree, runs))
        if likelihood.n_pixels <= likelihood.n_terms + len(self._parameters.free):
            raise ValueError(
                f"{likelihood.n_pixels} good pixels are left, too few for {len(self._parameters.free)} parameters and "
                f"{likelihood.n_terms} continuum coefficients. Unmask pixels, or lower `continuum_degree`."
            )
        return likelihood

    def _compare(self, values):
        fluxes = self._chain.flux(values)
        continua = [np.full(len(flux), np.nan) for flux in fluxes]
        pieces = self._likelihood().pieces
        for piece, (pixels, level) in zip(pieces, fit_continua(pieces, fluxes), strict=True):
            continua[piece.order][pixels] = level
        orders = self._data.compare(fluxes, continua, [np.zeros(len(flux)) for flux in fluxes])
        return self._air.compare(orders, values)


def _scalar(observation):
    """Orders with one sigma each, the largest."""
    return [
        order if np.ndim(order.resolving_power) == 0 else order._replace(resolving_power=np.min(order.resolving_power))
        for order in observation.orders
    ]
