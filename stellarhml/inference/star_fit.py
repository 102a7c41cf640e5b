"""StarFit: fit of one observed spectrum: starting point, fit, outliers, errors and flags."""

import time
from typing import NamedTuple

import numpy as np

from stellarhml._bounds import near_bound
from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.flags import InferenceFlag
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.line_spread import is_factor, order_factors
from stellarhml.forward.observation import Observation
from stellarhml.forward.tellurics import Tellurics
from stellarhml.inference._inference_result import InferenceResult
from stellarhml.inference.calibration_moves import influence_of, line_moves, shared_covariance, single_covariance
from stellarhml.inference.fit_data import FitData
from stellarhml.inference.likelihood import Likelihood, fit_continua, minimise
from stellarhml.inference.line_errors import fault_table, floor_of, line_uncertainty, missing_table
from stellarhml.inference.line_fit import LineFit, impossible, make_changes
from stellarhml.inference.order_velocities import order_shifts, velocities_of_fit, velocities_of_line_fit
from stellarhml.inference.parameter_set import ParameterSet
from stellarhml.inference.quality import (
    bound_flags,
    fit_flags,
    fitted_power_flags,
    instrument_flags,
    line_fit_flags,
    line_instrument_flags,
    rejection_flags,
)
from stellarhml.inference.telluric_pixels import TelluricPixels
from stellarhml.inference.uncertainty import prior_scales, uncertainty_of

_ROUNDS = 3  # maximum number of fits with clipping between them
_REACH = 30.0  # km/s: margin at the ends of the band for changes of the velocities during the fit
MAX_EVALUATIONS = 60
_INSIDE = 0.5  # of the distance from the edge of the grid to its middle: start of a second fit of labels at the edge
_FEW_EVALUATIONS = 8  # from each of many starts, of which the best go on


class FitSettings(NamedTuple):
    """Settings of the fit of a spectrum, with the names of the regressor and of its `infer`."""

    bounds: dict
    priors: dict
    fixed: dict
    stages: tuple
    limb_darkening: float
    continuum_degree: object
    jitter: bool
    generator_error: bool
    n_starts: int
    callback: object
    lines: object  # LineSettings; None: lines are those of the grid
    barycentric: float | None = None  # km/s, of the observatory towards the star; None: not known
    resolving_power_error: float | None = None
    resolving_power_scatter: float | None = None
    wavelength_error: float | None = None
    second: object = None  # Companion or Spots among the stages
    components: object = "auto"  # 1, 2 or "auto": see stellarhml.inference.second_component


class StarFit:
    """The fit of one ObservedSpectrum, with the resolving power of each order: a number, an array (n_pixels,) or None.

    `templates` are those of the generator's nodes. Attributes: `parameters` (ParameterSet); `likelihood` of the last
    fit, and `values` of all parameters; `inflation` of the standard deviations, root mean square over the fitted
    parameters.
    """

    def __init__(self, generator, templates, spectrum, resolving_powers, settings):
        self._begin = time.perf_counter()
        self._generator, self._templates, self._settings = generator, templates, settings
        self._stage, self._n_watched = "start", 0
        self._data, self._frame = FitData.of(spectrum), spectrum.meta.get("frame")
        self._observation = Observation(self._data.wavelengths, resolving_power=resolving_powers)
        self._chain = self._make_chain()
        self.parameters = ParameterSet(
            self._chain.parameters, bounds=settings.bounds, fixed=settings.fixed, priors=settings.priors
        )
        self._air = TelluricPixels.of(settings.stages, self._observation)
        self.inflation = 1.0
        self._flags, self._messages, self._n_evaluations = InferenceFlag(0), [], 0
        self._known = None  # values and the generator's own error there
        self._too_different = False  # whether line faults do not describe how the star's lines differ

    def run(self, find_starts=None):
        """Fit the spectrum and return an InferenceResult.

        `find_starts` takes ln wavelength, depth and weight of the good pixels of each order, and returns starting
        values by name, a list of dictionaries; None: those of the nearest nodes.

        WavelengthCoverageError if no order overlaps the generator's band, ValueError if too few pixels are left.
        """
        self._watch(0)
        start = self._start()
        self._given, self._n_spikes = [error.copy() for error in self._data.errors], self._data.n_rejected
        self._stage = "first fit"
        values = self._first_fit(self._starts(start) if find_starts is None else find_starts(self._depths))
        self._data.reject(self._compare(values))
        solution = self._fit_rounds(values)
        found = self._fit_lines(self.parameters.values(solution.variables))
        if found is not None:
            self._stage = "errors"
            return self._report_lines(found)
        if self._too_different:
            solution = self._fit_without_cores(solution)
        if not solution.converged:
            self._flag([(InferenceFlag.NOT_CONVERGED, f"no convergence in {MAX_EVALUATIONS} evaluations")])
        self._stage = "errors"
        return self._report(solution)

    def _make_chain(self):
        """The forward model of the star."""
        settings, changes = self._settings, None
        if settings.lines is not None and settings.lines.line_errors is False:
            changes = make_changes(self._generator, settings.lines, settings.lines.abundances or ())
        return ForwardChain(
            self._generator,
            self._observation,
            changes=changes,
            stages=settings.stages,
            limb_darkening=settings.limb_darkening,
            watch=None if settings.callback is None else self._watch,
            resolving_power_error=settings.resolving_power_error,
            order_factors=order_factors(self._data.numbers, settings.resolving_power_scatter),
            order_shifts=order_shifts(self._data.numbers, settings.wavelength_error),
        )

    def _fit_rounds(self, values):
        """Solution of fits with clipping between them, from given values."""
        for k in range(_ROUNDS):
            self._stage = f"fit {k + 1}"
            self._data.weigh(self._compare(values), jitter=self._settings.jitter)
            self.likelihood = self._likelihood()
            found = self._minimise([values])
            solution = self._off_the_edge(found) if k == 0 else found
            values = self.parameters.values(solution.variables)
            rejected = k < _ROUNDS - 1 and self._data.reject(self._compare(values))
            if k == _ROUNDS - 1 or not (rejected or solution is not found):
                break
        if self.parameters.prior_names:
            # weigh priors against the inflated errors of the likelihood, not against those of noise alone
            linear = self.likelihood.linearise(solution.variables)
            self.parameters.prior_scale = prior_scales(linear, self.likelihood, self._shifts())
            solution = self._minimise([values])
        return solution

    def _fit_without_cores(self, solution):
        """Solution of a fit without the cores of strong lines, if the star has any.

        They form in the upper photosphere and in the chromosphere, which the grid lacks.
        """
        values = self.parameters.values(solution.variables)
        cores = self._chain.strong_cores(values)
        n_before = self._data.count()
        self._data.keep([~core for core in cores])
        n_masked = n_before - self._data.count()
        if not n_masked:
            return solution
        self._tell_masked(n_masked)
        return self._fit_rounds(values)

    def _tell_masked(self, n):
        if n:
            self._messages.append(f"{n} pixels in the cores of strong lines masked")

    def _fit_lines(self, values):
        """Result of the fit with changed lines (LineSolution), or None if the settings or the star need none."""
        settings = self._settings
        if settings.lines is None or settings.lines.line_errors is False:
            return None
        self._stage = "line fit"
        given = [error.copy() for error in self._data.errors], self._data.extra, self._data.jitter
        n_good = sum(int(np.isfinite(error).sum()) for error in self._given)
        for error, before in zip(self._data.errors, self._given, strict=True):
            error[:] = before
        orders = self._compare(values)
        self._data.weigh(orders, jitter=settings.jitter)
        for order, error in zip(orders, self._data.errors, strict=True):
            error[impossible(order)] = np.inf
        self._n_impossible = sum(map(np.count_nonzero, map(impossible, orders)))
        fit = LineFit(
            self._generator,
            self._chain,
            self._data,
            settings.lines,
            bounds=settings.bounds,
            fixed=settings.fixed,
            priors=settings.priors,
            degree=settings.continuum_degree,
            errors=[error.copy() for error in self._data.errors],
        )
        try:
            found = fit.run(values)
        except np.linalg.LinAlgError:  # normal equations of a spectrum that is far from the model
            found, fit.too_different = None, True
        self._too_different = fit.too_different
        self._n_evaluations += fit.n_evaluations
        if found is None:
            self._data.errors, self._data.extra, self._data.jitter = given
        else:
            self._data.n_rejected = self._n_spikes + n_good - self._data.count() - fit.n_masked
            self._tell_masked(fit.n_masked)
        return found

    def _watch(self, n=1):
        """Report progress; an exception of the callback ends the fit."""
        self._n_watched += n
        if self._settings.callback is not None:
            self._settings.callback(self._stage, self._n_watched)

    def _start(self):
        """Starting velocities and nodes; also masks pixels outside the generator's band."""
        self._mask_beyond_stages()
        self._depths = orders = self._data.normalise(self._air and self._air.left_out(self._data.errors))
        bounds = self.parameters.bounds
        low, high = np.log(self._generator.wavelength_[[0, -1]])
        self._require_pixels(sum(int(((x > low) & (x < high)).sum()) for x, _, _ in orders))
        start = self._find_start(orders)
        names = self._generator.label_names_
        values = self.parameters.start(dict(zip(names, start.nodes[0].tolist(), strict=True)))
        values["vsini"] = min(start.vsini + _REACH, bounds["vsini"][1])
        velocities = {max(start.rv - _REACH, bounds["rv"][0]), min(start.rv + _REACH, bounds["rv"][1])}
        reached = [[np.isfinite(flux) for flux in self._flux(values | {"rv": rv})] for rv in velocities]
        outside = self._data.keep([np.logical_and.reduce(parts) for parts in zip(*reached, strict=True)])
        self._require_pixels(self._data.count())
        if outside:
            text = f"orders {', '.join(map(str, outside))} lie more than half outside the generator's band"
            self._flag([(InferenceFlag.ORDER_OUTSIDE, text)])
        return start

    def _find_start(self, orders):
        """Start of the star, whose depths `orders` has as `Templates.find_start` takes them."""
        bounds = self.parameters.bounds
        return self._templates.find_start(orders, bounds["rv"], bounds["vsini"], self._settings.n_starts)

    def _mask_beyond_stages(self):
        """Mask pixels that receive light from wavelengths outside the range of a stage."""
        for stage in self._settings.stages:
            n_before, covered = self._data.count(), []
            for order in self._observation.orders:
                ends = (order.wavelength * np.exp(sign * order.reach) for sign in (-1, 1))
                covered.append(np.logical_and(*map(stage.covers, ends)))
            self._data.keep(covered)
            n_left = self._data.count()
            if n_left < n_before:
                self._messages.append(f"{n_before - n_left} pixels outside the range of {type(stage).__name__} masked")
            if not n_left:
                raise WavelengthCoverageError(
                    f"None of the {n_before} good pixels lies within the range of {type(stage).__name__}. Define it on "
                    "the wavelengths of the spectrum, in vacuum angstrom."
                )

    def _require_pixels(self, n):
        if n:
            return
        ends = self._data.wavelengths[0][0], self._data.wavelengths[-1][-1]
        band = self._generator.wavelength_[[0, -1]]
        raise WavelengthCoverageError(
            f"None of the {self._data.n_given} good pixels, {ends[0]:.2f} to {ends[1]:.2f} angstrom, lies within the "
            f"generator's band, {band[0]:.2f} to {band[1]:.2f}. Check that wavelengths are in vacuum angstrom, or "
            "build a generator for this range."
        )

    def _starts(self, start):
        """Starting values at the nearest nodes of a Start."""
        velocities = {"rv": start.rv, "vsini": max(start.vsini, self.parameters.start({})["vsini"])}
        names = self._generator.label_names_
        return [dict(zip(names, node.tolist(), strict=True)) | velocities for node in start.nodes]

    def _first_fit(self, starts):
        """Values of a first fit from the best of several starts, to some runs of pixels."""
        starts = [self.parameters.start(start) for start in starts]
        air = {}
        if self._air is not None:  # amounts first: the pixels of the fit of the star may tell little about them
            runs = self._air.runs(self._data.errors)
            air = self._fit_some(runs, self._air.names, starts[:1])
            air = {name: air[name] for name in self._air.names}
        names = [name for name in self.parameters.free if name not in air]
        values = self._fit_some(self._data.some_runs(), names, [start | air for start in starts])
        return values if self._air is None else self._fit_some(runs, self._air.names, [values])

    def _fit_some(self, runs, names, starts):
        """Values of a quick fit of some parameters to some runs of pixels, from the best of several starts."""
        held = {name: starts[0][name] for name in self.parameters.free if name not in names}
        if not runs or len(held) == len(self.parameters.free):
            return starts[0]
        settings = self._settings
        parameters = self.parameters
        if held:
            fixed = (settings.fixed or {}) | held
            parameters = ParameterSet(
                self._chain.parameters, bounds=settings.bounds, fixed=fixed, priors=settings.priors
            )
        likelihood = self._likelihood(runs, parameters)
        if len(starts) > settings.n_starts:
            tried = [minimise(likelihood, [start], max_evaluations=_FEW_EVALUATIONS) for start in starts]
            self._n_evaluations += sum(solution.n_evaluations for solution in tried)
            best = sorted(tried, key=lambda solution: solution.cost)[: settings.n_starts]
            starts = [parameters.values(solution.variables) for solution in best]
        solution = minimise(likelihood, starts, max_evaluations=30, tolerance=1e-4)
        self._n_evaluations += solution.n_evaluations
        return parameters.values(solution.variables)

    def _off_the_edge(self, solution):
        """The better of a solution and, if labels are at the edge of the grid, one from a start away from it.

        A fit that reaches the edge early, while other parameters are far off, may stay there.
        """
        values, moved = self.parameters.values(solution.variables), {}
        for name in (name for name in self._generator.label_names_ if name in self.parameters.free):
            low, high = self.parameters.bounds[name]
            if any(near_bound(values[name], low, high)):
                moved[name] = values[name] + _INSIDE * ((low + high) / 2 - values[name])
        if not moved:
            return solution
        other = self._minimise([values | moved])
        return other if other.cost < solution.cost else solution

    def _minimise(self, starts):
        solution = minimise(self.likelihood, starts, max_evaluations=MAX_EVALUATIONS)
        self._n_evaluations += solution.n_evaluations
        return solution

    def _likelihood(self, runs=None, parameters=None):
        """The likelihood of all pixels, or of some runs of them, and of other parameters (ParameterSet)."""
        parameters = parameters or self.parameters
        chain = self._chain if runs is None else self._chain.part(runs)
        likelihood = Likelihood(chain, parameters, self._data.pieces(self._settings.continuum_degree, runs))
        n_free = len(parameters.free)
        if likelihood.n_pixels <= likelihood.n_terms + n_free:
            raise ValueError(
                f"{likelihood.n_pixels} of {self._data.n_given} good pixels are left, too few for {n_free} "
                f"parameters and {likelihood.n_terms} continuum coefficients; orders too short for a continuum "
                "are left out. Unmask pixels, take longer orders, or fix parameters."
            )
        return likelihood

    def _flux(self, values):
        self._n_evaluations += 1
        return self._chain.flux(values)

    def _compare(self, values):
        """Data and model of each order, with the generator's own error."""
        fluxes = self._flux(values)
        continua = [np.full(len(flux), np.nan) for flux in fluxes]
        pieces = self._likelihood().pieces
        for piece, (pixels, level) in zip(pieces, fit_continua(pieces, fluxes), strict=True):
            continua[piece.order][pixels] = level
        errors = [np.zeros(len(flux)) for flux in fluxes]
        if self._settings.generator_error and self._generator.error_map_ is not None:
            for own, continuum, error in zip(self._expected_errors(values), continua, errors, strict=True):
                error[:] = own * np.abs(np.nan_to_num(continuum))
        orders = self._data.compare(fluxes, continua, errors)
        return orders if self._air is None else self._air.compare(orders, values)

    def _expected_errors(self, values):
        """The generator's own error in the pixels of each order, in units of the continuum."""
        if self._known is None or self._known[0] != values:
            places = self._chain.generator_pixels(values)
            first, last = min(place[0] for place in places), max(place[-1] for place in places)
            labels = np.array([values[name] for name in self._generator.label_names_])
            std = np.nan_to_num(self._generator.expected_error(labels, slice(first, last + 1)))
            self._known = dict(values), [std[place - first] for place in places]
        return self._known[1]

    def _orders(self, values):
        """Data and model of each order, in the unit of the spectrum, with the transmission of the air."""
        orders = self._data.in_own_unit(self._compare(values))
        if self._air is None:
            return orders
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = map(np.divide, self._chain.flux(values), self._chain.without(Tellurics).flux(values))
            parts = list(zip(orders, ratios, self._air.transmission_errors(values), strict=True))
        return [order._replace(transmission=ratio, transmission_error=error) for order, ratio, error in parts]

    def _shifts(self):
        """Errors of the generator in label space; None if unknown or switched off."""
        error_map = self._generator.error_map_ if self._settings.generator_error else None
        return None if error_map is None else error_map.shifts

    def _report(self, solution):
        """Make the result, with errors and flags."""
        likelihood, parameters, shifts = self.likelihood, self.parameters, self._shifts()
        linear = likelihood.linearise(solution.variables)
        self.values = linear.values
        if shifts is None and self._settings.generator_error:
            self._flag([(InferenceFlag.NOISE_ALONE, "errors include noise only")])
        found = uncertainty_of(linear, likelihood, shifts)
        if len(found.inflation):
            self.inflation = float(np.sqrt(max(found.reduced_chi2, 1.0) * np.mean(found.inflation**2)))
        self._flag(fit_flags(self._generator, likelihood, linear, found, lines_differ=self._too_different))
        self._flag(rejection_flags(self._data, self._n_impossible if self._too_different else self._data.n_rejected))
        parts = {"noise": found.noise, "generator": found.generator}
        total = sum(parts.values())
        factor, flags = instrument_flags(linear, parameters, found.reduced_chi2, lines_differ=self._too_different)
        if any(map(is_factor, parameters.free)):
            factor, fitted = fitted_power_flags(linear.values, parameters, total, lines_differ=self._too_different)
            flags += fitted
        self._flag(flags)
        if parameters.nuisances:
            parts["wavelength"] = found.wavelength
        if self._generator.calibration_ is not None:
            parts["calibration"] = self._of_calibration(linear)
        covariances = {name: parameters.shown_matrix(part) for name, part in parts.items()}
        shown = parameters.shown()
        if self._too_different:
            covariances["floor"] = floor_of(shown)
        if "vsini" in parameters.free:
            # lines widen with vsini squared, whose standard deviation is 2 vsini sigma: three of them for a detection
            k = parameters.free.index("vsini")
            if linear.values["vsini"] < 6 * np.sqrt(total[k, k]):
                self._flag([(InferenceFlag.SLOW_ROTATION, "vsini is an upper limit")])
        orders = self._orders(linear.values)
        self._flag_air(linear.values, parameters, total)
        return InferenceResult(
            parameters=shown,
            values={name: linear.values[name] for name in shown.names},
            covariances=covariances,
            order_velocities=velocities_of_fit(linear, likelihood, self._data.numbers, found.reduced_chi2),
            reduced_chi2=found.reduced_chi2 if self._data.errors_known else np.nan,
            n_pixels=likelihood.n_pixels,
            n_rejected=self._data.n_rejected,
            resolving_power_factor=factor,
            jitter=self._data.jitter,
            flags=self._flags,
            messages=self._messages,
            orders=orders,
            frame=self._frame,
            barycentric=self._settings.barycentric,
            n_evaluations=self._n_evaluations,
            seconds=time.perf_counter() - self._begin,
        )

    def _of_calibration(self, linear):
        """Covariance of the fitted parameters by the errors of corrected lines, without faults of lines."""
        generator, likelihood = self._generator, self.likelihood
        n_lines = len(generator.decomposer_.line_catalog_)
        columns = likelihood.chain.line_columns(linear.values, np.ones(n_lines, dtype=bool))
        moves = line_moves(columns, *influence_of(linear, likelihood), n_lines)
        errors = generator.calibration_
        return shared_covariance(moves, errors) + single_covariance(moves, errors)

    def _report_lines(self, found):
        """Make the result of a fit with changed lines."""
        self.parameters, self.likelihood = found.parameters, found.likelihood
        self._chain = found.likelihood.chain
        parameters, values = found.parameters, found.parameters.values(found.variables)
        parts = line_uncertainty(self._generator, found, self._shifts())
        if not found.converged:
            self._flag([(InferenceFlag.NOT_CONVERGED, "the fit with line faults did not settle")])
        if self._too_different:
            self._flag(
                [(InferenceFlag.LINES_DIFFER, "many lines differ from the grid's by more than their faults tell")]
            )
        if self._shifts() is None and self._settings.generator_error:
            self._flag([(InferenceFlag.NOISE_ALONE, "errors do not include the generator's own")])
        self._flag(bound_flags(self._generator, found.likelihood, values))
        self._flag(line_fit_flags(found))
        self._flag(rejection_flags(self._data, self._data.n_rejected))
        total = sum(parts.values())
        factor, flags = line_instrument_flags(found)
        if any(map(is_factor, parameters.free)):
            factor, fitted = fitted_power_flags(values, parameters, total, line_faults=True)
            flags += fitted
        self._flag(flags)
        covariances, shown = {name: parameters.shown_matrix(part) for name, part in parts.items()}, parameters.shown()
        if "vsini" in parameters.free:
            k = parameters.free.index("vsini")
            if values["vsini"] < 6 * np.sqrt(total[k, k]):
                self._flag([(InferenceFlag.SLOW_ROTATION, "vsini is an upper limit")])
        orders = self._orders(values)
        self._flag_air(values, parameters, total)
        return InferenceResult(
            parameters=shown,
            values={name: values[name] for name in shown.names},
            covariances=covariances,
            order_velocities=velocities_of_line_fit(found, self._data.numbers),
            reduced_chi2=found.reduced_chi2 if self._data.errors_known else np.nan,
            n_pixels=found.likelihood.n_pixels,
            n_rejected=self._data.n_rejected,
            resolving_power_factor=factor,
            jitter=self._data.jitter,
            flags=self._flags,
            messages=self._messages,
            orders=orders,
            frame=self._frame,
            barycentric=self._settings.barycentric,
            n_evaluations=self._n_evaluations,
            seconds=time.perf_counter() - self._begin,
            line_faults=fault_table(self._generator, found),
            missing_lines=missing_table(found),
        )

    def _flag_air(self, values, parameters, covariance):
        """Add the flags of the atmosphere; `covariance` (n_free, n_free) of the fitted parameters."""
        if self._air is not None:
            errors = dict(zip(parameters.free, np.sqrt(np.diag(covariance)).tolist(), strict=True))
            self._flag(self._air.flags(values, errors))

    def _flag(self, found):
        """Add flags and their messages."""
        for flag, message in found:
            self._flags |= flag
            self._messages.append(message)
