"""ObservedFit: from one observed spectrum to an InferenceResult: start, fit, outliers, errors and flags."""

import time

import numpy as np

from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.flags import InferenceFlag
from stellarhml.inference._inference_result import InferenceResult
from stellarhml.inference.fitting import minimise, some_runs
from stellarhml.inference.judging import judge, judge_instrument, judge_rejected
from stellarhml.inference.likelihood import Likelihood, cut_pieces
from stellarhml.inference.models import ObservedModel
from stellarhml.inference.parameters import Parameters
from stellarhml.inference.pixels import Pixels
from stellarhml.inference.spread import prior_scales, spread_of
from stellarhml.inference.templates import find_start
from stellarhml.synthesis.evaluation import expected_error

_ROUNDS = 3  # of rejection
_REACH = 30.0  # km/s by which a fit may move before pixels at the ends of the band lack light
_FIRST_VSINI = 5.0  # km/s, at least, where a fit begins: at none its effect cannot be seen
_LEAST_VSINI = 0.5  # km/s; what is slower cannot make room for lines that ask for a higher resolving power
_MAX_EVALUATIONS = 60


class ObservedFit:
    """The fit of one spectrum.

    Parameters
    ----------
    regressor : BayesianStellarRegressor
        Fitted; its generator, bounds, priors and templates are used.
    data : ObservedData
        The spectrum.
    observation : Observation
        Its pixels and resolving powers.
    settings : dict
        `fixed`, `limb_darkening`, `transmission`, `continuum_degree`, `jitter`, and, if wanted, `callback`, as in
        `infer`.

    Attributes
    ----------
    parameters : Parameters
        What is fitted.
    likelihood : Likelihood
        That of the last fit.
    raised : float
        By how much its standard deviations were raised, in the mean of the free parameters.
    """

    def __init__(self, regressor, data, observation, settings):
        self._begin = time.perf_counter()
        self._regressor, self._observation, self._settings = regressor, observation, settings
        self.raised = 1.0
        self._generator, self._known, self._numbers = regressor.generator_, data.errors_known, data.numbers
        self._callback, self._stage, self._n_watched = settings.get("callback"), "start", 0
        self._model = self._model_of(observation, settings["transmission"])
        bounds = regressor.observed_bounds_.copy()
        for name, value in settings["fixed"].items():
            bounds[self._model.names.index(name)] = value
        self.parameters = Parameters(self._model.names, bounds, regressor.priors)
        self._pixels = Pixels([order.wavelength for order in observation.orders], data)
        self._flags, self._messages, self._n_evaluations = InferenceFlag(0), [], 0

    def run(self):
        """Fit.

        Returns
        -------
        result : InferenceResult
            What was found.

        Raises
        ------
        WavelengthCoverageError
            If no order overlaps the generator's band.
        ValueError
            If too few pixels are left.
        """
        self._watch(0)
        start = self._start()
        self._stage = "first fit"
        values = self._first_fit(start)
        self._pixels.reject(self._compare(values))
        for k in range(_ROUNDS):
            self._stage = f"fit {k + 1}"
            self._pixels.weigh(self._compare(values), jitter=self._settings["jitter"])
            self.likelihood = self._likelihood()
            solution = minimise(self.likelihood, [values], max_evaluations=_MAX_EVALUATIONS)
            self._n_evaluations += solution.n_evaluations
            values = self.parameters.values(solution.variables)
            if k == _ROUNDS - 1 or not self._pixels.reject(self._compare(values)):
                break
        if self._weigh_priors(solution):
            solution = minimise(self.likelihood, [values], max_evaluations=_MAX_EVALUATIONS)
            self._n_evaluations += solution.n_evaluations
        if not solution.converged:
            self._tell([(InferenceFlag.NOT_CONVERGED, f"no convergence in {_MAX_EVALUATIONS} evaluations")])
        self._stage = "errors"
        return self._report(solution)

    def _watch(self, n=1):
        """Tell how far the fit is; what the callback raises stops it."""
        self._n_watched += n
        if self._callback is not None:
            self._callback(self._stage, self._n_watched)

    def _model_of(self, observation, transmission):
        watch = None if self._callback is None else self._watch
        return ObservedModel(self._generator, observation, self._settings["limb_darkening"], transmission, watch)

    def _start(self):
        """Velocities and nodes to begin with; leaves out what the band does not reach."""
        orders = self._pixels.normalise()
        names, bounds = self.parameters.names, self.parameters.bounds
        rv_bounds, vsini_bounds = (tuple(bounds[names.index(name)]) for name in ("rv", "vsini"))
        low, high = np.log(self._generator.wavelength_[[0, -1]])
        self._require_pixels(sum(int(((x > low) & (x < high)).sum()) for x, _, _ in orders))
        start = find_start(self._regressor._templates, orders, rv_bounds, vsini_bounds, self._regressor.n_starts)
        vsini = min(start.vsini + _REACH, vsini_bounds[1])
        reached = [
            [np.isfinite(flux) for flux in self._flux(np.array([*start.nodes[0], rv, vsini]))]
            for rv in {max(start.rv - _REACH, rv_bounds[0]), min(start.rv + _REACH, rv_bounds[1])}
        ]
        outside = self._pixels.keep([np.logical_and.reduce(parts) for parts in zip(*reached, strict=True)])
        self._require_pixels(self._pixels.count())
        if outside:
            numbers = ", ".join(str(self._numbers[k]) for k in outside)
            text = f"orders {numbers} lie outside of the generator's band, by half or more"
            self._tell([(InferenceFlag.ORDER_OUTSIDE, text)])
        return start

    def _require_pixels(self, n):
        if n:
            return
        ends = self._pixels.wavelengths[0][0], self._pixels.wavelengths[-1][-1]
        band = self._generator.wavelength_[[0, -1]]
        raise WavelengthCoverageError(
            f"None of the {self._pixels.n_given} good pixels, {ends[0]:.2f} to {ends[1]:.2f} angstrom, lies within "
            f"what the generator knows, {band[0]:.2f} to {band[1]:.2f}. Check that wavelengths are in vacuum angstrom, "
            "or build a generator for this range."
        )

    def _first_fit(self, start):
        """The best of several starts, on part of the pixels where there are many."""
        bounds = self.parameters.bounds
        vsini = max(start.vsini, _FIRST_VSINI)
        starts = [np.clip([*node, start.rv, vsini], *bounds.T) for node in start.nodes]
        solution = minimise(
            self._likelihood(some_runs(self._pixels.errors)), starts, max_evaluations=30, tolerance=1e-4
        )
        self._n_evaluations += solution.n_evaluations
        return self.parameters.values(solution.variables)

    def _likelihood(self, runs=None):
        """The likelihood of all pixels, or of some runs of them."""
        model, parts = self._model, (self._pixels.wavelengths, self._pixels.fluxes, self._pixels.total_errors())
        if runs is not None:
            parts = [[part[i][span] for i, span in runs] for part in parts]
            transmission = self._settings["transmission"]
            if transmission is not None:
                transmission = [transmission[i][span] for i, span in runs]
            model = self._model_of(self._observation.part(runs), transmission)
        likelihood = Likelihood(model, self.parameters, cut_pieces(*parts, self._settings["continuum_degree"]))
        n_free = int(self.parameters.free.sum())
        if likelihood.n_pixels <= likelihood.n_terms + n_free:
            raise ValueError(
                f"{likelihood.n_pixels} of {self._pixels.n_given} good pixels are left, too few for {n_free} "
                f"parameters and {likelihood.n_terms} coefficients of continua; orders too short for a continuum "
                "are left out. Unmask pixels, take longer orders, or fix parameters."
            )
        return likelihood

    def _flux(self, values):
        self._n_evaluations += 1
        return self._model.flux(values)

    def _compare(self, values):
        """Data beside the model, with the generator's own error, order by order."""
        fluxes = self._flux(values)
        likelihood = self._likelihood()
        continua = [np.full(len(flux), np.nan) for flux in fluxes]
        for piece, (pixels, level) in zip(likelihood.pieces, likelihood.continua(fluxes), strict=True):
            continua[piece.order][pixels] = level
        errors = [np.zeros(len(flux)) for flux in fluxes]
        if self._regressor.generator_error and self._generator.error_map_ is not None:
            std = np.nan_to_num(expected_error(self._generator, values[None, :-2])[0])
            for place, continuum, error in zip(self._model.places(values), continua, errors, strict=True):
                error[:] = std[place] * np.abs(np.nan_to_num(continuum))
        return self._pixels.compare(fluxes, continua, errors)

    def _weigh_priors(self, solution):
        """Let priors count against the errors that will be told of the likelihood, not against those of noise alone."""
        if not len(self.parameters.prior_index):
            return False
        linear = self.likelihood.linearise(solution.variables)
        self.parameters.prior_scale = prior_scales(linear, self.likelihood, self._shifts())
        return True

    def _shifts(self):
        """Errors of the generator, if it knows them and they count."""
        error_map = self._generator.error_map_ if self._regressor.generator_error else None
        return None if error_map is None else error_map.shifts

    def _report(self, solution):
        """Errors, flags and the model beside the data."""
        likelihood, parameters = self.likelihood, self.parameters
        linear = likelihood.linearise(solution.variables)
        shifts = self._shifts()
        if shifts is None and self._regressor.generator_error:
            self._tell([(InferenceFlag.NOISE_ALONE, "errors are those of the noise alone")])
        found = spread_of(linear, likelihood, shifts)
        if len(found.raised):
            self.raised = float(np.sqrt(max(found.reduced, 1.0) * np.mean(found.raised**2)))
        parts = np.zeros((2, len(parameters.names), len(parameters.names)))
        free = np.ix_(parameters.free, parameters.free)
        parts[0][free], parts[1][free] = found.noise, found.generator
        reduced, raised = found.reduced, found.raised
        self._tell(judge(self._generator, likelihood, linear, reduced, raised))
        self._tell(judge_rejected(self._pixels))
        turning = not parameters.free[-1] or linear.values[-1] > _LEAST_VSINI
        factor, found = judge_instrument(linear, self._pixels.wavelengths, reduced, turning=turning)
        self._tell(found)
        covariance = parts.sum(axis=0)
        values, *errors = (
            dict(zip(parameters.names, column.tolist(), strict=True))
            for column in (linear.values, *(np.sqrt(np.diag(part)) for part in (covariance, *parts)))
        )
        # lines widen with the square of vsini, which must stand out by three of its own standard deviations, 2 v sigma
        if parameters.free[-1] and values["vsini"] < 6 * errors[0]["vsini"]:
            self._tell([(InferenceFlag.SLOW_ROTATION, "vsini is an upper limit")])
        return InferenceResult(
            names=parameters.names,
            values=values,
            errors=errors[0],
            noise_errors=errors[1],
            generator_errors=errors[2],
            covariance=covariance,
            generator_covariance=parts[1],
            bounds=parameters.bounds.copy(),
            reduced_chi2=reduced if self._known else np.nan,
            n_pixels=likelihood.n_pixels,
            n_rejected=self._pixels.n_rejected,
            resolving_power_factor=factor,
            jitter=self._pixels.jitter,
            flags=self._flags,
            messages=tuple(self._messages),
            orders=[
                order._replace(number=number)
                for number, order in zip(self._numbers, self._compare(linear.values), strict=True)
            ],
            n_evaluations=self._n_evaluations,
            seconds=time.perf_counter() - self._begin,
        )

    def _tell(self, found):
        """Note flags and what they mean here."""
        for flag, message in found:
            self._flags |= flag
            self._messages.append(message)
