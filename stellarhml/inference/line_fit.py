"""LineFit: the fit of a star whose lines differ from the grid's: abundances, turbulence, and faults of single lines."""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.signal import find_peaks

from stellarhml.inference.likelihood import Likelihood
from stellarhml.inference.line_faults import LARGEST, Faults, FaultSystem, Solved
from stellarhml.inference.parameter_set import ParameterSet
from stellarhml.synthesis.line_changes import LineChanges, atoms_of

_ROUNDS, _MAX_ROUNDS = 12, 20  # of a fit that settles slowly, and of one that does not
_SETTLED = 0.1  # of a standard deviation: steps at which the fit ends
_UNSETTLED, _DIVERGING = 1.0, 3.0  # of a standard deviation: last steps of a fit that is flagged, and that has failed
_SURE = 5.0  # ln evidence by which faults must be more likely than the grid's own lines
_OF_NOISE = 2.5  # decrease of chi-square for each fault: 1 for noise, up to 2 for the generator's own errors
_FIRST_TERM = 2  # round from which saturation counts: before, faults are not settled
_REJECT = 5.0  # standard deviations of the residuals
_MISSING, _FAINTEST, _MOST_MISSING = 6.0, 0.005, 300  # significance, depth and number of lines that the model lacks
_LONGEST = 0.2  # of the scale of a variable: longest step, beyond which spectra are not linear
_BACK = 0.3  # of the step before, in the other direction: then the next is half as long at most
_MOST_POWER = 1.0  # largest change of ln resolving power
_CONTINUUM = 0.03  # uncertainty of a continuum that was fitted with the wrong lines
_FEW_LINES = 2.0  # lines, or their equivalent, that tell an abundance
_STEPS = {"teff": 20.0, "logg": 0.05, "feh": 0.02, "vmic": 0.05, "damping": 0.03}
"""Steps of the differences by which saturation is differentiated."""


class LineSettings(NamedTuple):
    """What a line fit may change: see the parameters of `BayesianStellarRegressor.infer`."""

    line_errors: object  # "auto", True
    abundances: object  # "auto", sequence of elements, or None
    microturbulence: object  # "auto" or bool
    damping: bool
    reference: float  # microturbulence of the grid, km/s


def check_line_settings(generator, line_errors, abundances, microturbulence, damping, reference):
    """LineSettings of arguments of `infer`, or None if the lines of the grid are taken as they are.

    ValueError if an argument has no meaning, or an element no tagged lines.
    """
    if line_errors not in ("auto", True, False):
        raise ValueError(f"`line_errors` is {line_errors!r}; it needs True, False or 'auto'.")
    if microturbulence not in ("auto", True, False):
        raise ValueError(f"`microturbulence` is {microturbulence!r}; it needs True, False or 'auto'.")
    if not isinstance(damping, (bool, np.bool_)):
        raise ValueError(f"`damping` is {damping!r}; it needs True or False.")
    # numpy's booleans too
    line_errors, microturbulence = (
        value if isinstance(value, str) else bool(value) for value in (line_errors, microturbulence)
    )
    if not (abundances is None or isinstance(abundances, Iterable)):
        raise ValueError(f"`abundances` is {abundances!r}; it needs 'auto', None, or elements such as ['Si', 'Ca'].")
    if abundances is not None and not (isinstance(abundances, str) and abundances == "auto"):
        known = _elements_of(generator)
        abundances = (abundances,) if isinstance(abundances, str) else tuple(abundances)
        for element in abundances:
            if element not in known:
                raise ValueError(
                    f"`abundances` names {element!r}, but the tagged lines are of {', '.join(sorted(known)) or 'none'} "
                    "(iron is [Fe/H], and elements that are labels do not count). Call "
                    "SpectrumGenerator.tag_lines(line_list) on the generator, with a list that has the element."
                )
    if generator.resolving_power is not None:  # its lines have the widths of the spectrograph, and are blends
        if microturbulence is True or damping or isinstance(abundances, tuple):
            raise ValueError(
                "`abundances`, `microturbulence` and `damping` need lines at full resolution, but this generator was "
                f"built for a resolving power of {generator.resolving_power:g}. Leave them out, or use a generator "
                "built without --resolving-power."
            )
        abundances, microturbulence = None, False
    settings = LineSettings(line_errors, abundances, microturbulence, bool(damping), float(reference))
    return without_faults(settings) if line_errors is False else settings


def without_faults(settings):
    """LineSettings without faults of single lines: only the changes that were asked for; None if there are none."""
    if settings is None:
        return None
    settings = settings._replace(
        line_errors=False,
        abundances=None if isinstance(settings.abundances, str) else settings.abundances,
        microturbulence=settings.microturbulence is True,
    )
    return settings if settings.abundances or settings.microturbulence or settings.damping else None


def limits_of_changes(generator):
    """Bounds of all parameters that changes of lines may have, by name."""
    elements = tuple(sorted(_elements_of(generator)))
    own = "vmic" not in generator.label_names_
    molecules = () if generator.tags_ is None else tuple(filter(_is_molecule, generator.tags_.species))
    every = LineChanges(generator, elements=elements, molecules=molecules, microturbulence=own, damping=True)
    return {parameter.name: parameter.bounds for parameter in every.parameters}


def _is_molecule(species):
    """Whether a species is a molecule: it has no stage of ionisation."""
    return len(species.split()) == 1


def _elements_of(generator):
    """Elements of the tagged lines other than iron, hydrogen, and those that are labels, such as "si_fe"."""
    if generator.tags_ is None:
        return set()
    found = {element for name in generator.tags_.species for element in atoms_of(name)} - {"Fe", "H"}
    labels = {name.lower().strip("[]").replace("/", "_") for name in generator.label_names_}
    return {element for element in found if f"{element.lower()}_fe" not in labels}


class MissingLines(NamedTuple):
    """Lines of one order that the model lacks, as the residuals show them; arrays (n,).

    `center`, their ln wavelengths as observed; `depth`, in units of the flux that other lines leave, with its standard
    deviation `depth_std`; `sigma`, the width of a narrow line in this order, in ln wavelength.
    """

    center: np.ndarray
    depth: np.ndarray
    depth_std: np.ndarray
    sigma: float


class LineSolution(NamedTuple):
    """Result of a LineFit: what the report needs, at the last linearisation."""

    parameters: ParameterSet
    likelihood: Likelihood
    variables: np.ndarray
    system: FaultSystem
    solved: Solved
    faults: Faults
    saturation: np.ndarray  # optical depth at the center of each line of the catalogue
    reduced_chi2: float
    converged: bool
    missing: dict  # MissingLines by the number of the order

    @property
    def every_line(self):
        """True for each line of the catalogue, (n_lines,)."""
        return np.ones(len(self.saturation), dtype=bool)


def make_changes(generator, settings, elements, molecules=()):
    """LineChanges of LineSettings with given elements and molecules."""
    return LineChanges(
        generator,
        elements=elements,
        molecules=molecules,
        microturbulence=bool(settings.microturbulence) and "vmic" not in generator.label_names_,
        damping=settings.damping,
        reference=settings.reference,
    )


class LineFit:
    """Fit of a spectrum (`data`, FitData) by a ForwardChain with changed lines.

    `bounds`, `fixed` and `priors` as of `ParameterSet`; `errors` of the data, before any pixel was rejected. `n_masked`
    pixels are left out, in the cores of strong lines.
    """

    def __init__(self, generator, chain, data, settings, *, bounds, fixed, priors, degree, errors):
        self._generator, self._chain, self._data, self._settings = generator, chain, data, settings
        self._bounds, self._fixed, self._priors, self._degree, self._errors = bounds, fixed, priors, degree, errors
        self.too_different, self.n_evaluations, self.n_masked = False, 0, 0
        self._missing, self._n_missing = {}, 0  # pixels of missing lines by the number of the order
        self._lines_of = {}  # number of lines of each species that the star shows, by name
        self._n_lines = len(generator.decomposer_.line_catalog_)
        self._every_line = np.ones(self._n_lines, dtype=bool)

    def run(self, values):
        """Fit from the `values` of a fit without changes.

        Returns a LineSolution; None if "auto" settings find that the grid's own lines explain the star better, or if
        faults cannot describe how the star's lines differ: then `too_different` is True.
        """
        changes = self._changes(())
        parameters = self._parameters(changes)
        faults, noise, gradient = Faults.none(self._n_lines, self._generator.calibration_), 1.0, None
        values = parameters.start(values)
        solved, ln_power, stated = None, 0.0, self._chain
        for k in range(_MAX_ROUNDS):
            if ln_power:
                self._chain = stated.sharpened(np.exp(ln_power))
            if k == 1:
                changes = self._changes(self._elements(solved))
                parameters = self._parameters(changes)
                values = parameters.start(values)
            if k:
                saturation = self._saturation(changes, values, faults)
                render = partial(self._with_faults, changes, saturation, faults)
            # at first, the grid's own lines
            chain = render(faults.values) if k else self._chain.with_changes(changes)
            likelihood = Likelihood(chain, parameters, self._data.pieces(self._degree))
            variables = parameters.variables(values)
            linear = likelihood.linearise(variables)
            self.n_evaluations += 1
            columns = chain.line_columns(linear.values, self._every_line)
            if not k:
                shapes = chain.wide_shapes(linear.values)
                n_wide = [table.shape[1] for table in shapes]
            system = FaultSystem(likelihood, linear, columns, shapes, faults, noise=noise, ln_power=ln_power)
            if k >= _FIRST_TERM and k % 2 == 0:
                gradient = system.saturation_gradient(
                    system.solve(),
                    lambda moved, at, render=render: render(moved).line_columns(at, self._every_line),
                    linear.values,
                    _STEPS,
                )
            if gradient is not None:
                system.add_gradient(gradient)
            low, high = parameters.limits.T
            limits = np.stack([low - variables, high - variables], axis=1)
            limits = np.vstack([limits, [-_MOST_POWER - ln_power, _MOST_POWER - ln_power]])
            if k < 2:  # the parameters change
                longest, before = np.full(len(limits), _LONGEST), np.zeros(len(limits))
            solved = system.solve(np.clip(limits, -longest[:, None], longest[:, None]))
            taken = np.append(solved.step, system.ln_power_after(solved) - ln_power)
            # parameters that are nearly degenerate, such as vsini and the resolving power, may step to and fro
            back = (taken * before < 0) & (np.abs(taken) > _BACK * np.abs(before))
            longest = np.where(back, np.abs(taken) / 2, np.minimum(2 * longest, _LONGEST))
            before = taken
            after = system.residuals_after(solved)
            if not k:
                n_pixels, cost = likelihood.n_pixels, _misfit(system.linear_residuals(solved), 0)
                told = solved.told().sum()
                gain = cost - _misfit(after, 0)
                if self._settings.line_errors == "auto" and 2 * gain < _OF_NOISE * told + 5 * np.sqrt(2 * told):
                    return None  # faults fit the noise
            chi2 = noise * sum(float(part @ part) for part in after.values())
            free = likelihood.n_pixels - likelihood.n_terms - len(parameters.free) - solved.told().sum()
            reduced = chi2 / max(free, 1.0)
            if k == 2 and self._settings.line_errors == "auto":
                scaled = {number: part * np.sqrt(noise) for number, part in after.items()}
                misfit = _misfit(scaled, n_pixels - likelihood.n_pixels)
                if cost < misfit + _SURE + solved.cost(np.isin(parameters.free, changes.names)):
                    return None
            error = np.sqrt(np.diag(solved.inverse)[: len(parameters.free)])
            # a parameter rests at a physical limit, such as no rotation, but not at an end of the grid
            floor = np.array([parameters.physical_floor(name) for name in parameters.free], dtype=bool)
            largest = np.max(np.abs(np.where(floor, solved.step, solved.outward)) / error, initial=0.0)
            if (k >= 5 and largest < _SETTLED) or (k >= _ROUNDS - 1 and largest < _UNSETTLED):
                break
            values = parameters.values(np.clip(variables + solved.step, low, high))
            faults, noise = solved.move(faults), max(reduced, 1.0)
            if stated.can_be_sharpened:
                ln_power = system.ln_power_after(solved)
            if k == _FIRST_TERM:  # faults are accepted
                self._mask(chain.strong_cores(linear.values))
            if k:
                shapes = self._with_missing(shapes, after, system, linear)
                self._reject(after)
        at_limit = any(faults.typical(kind) >= (1 - 1e-9) * LARGEST[kind] for kind in ("strength", "width"))
        if at_limit or largest > _DIVERGING:
            self.too_different = True
            if self._settings.line_errors == "auto":
                return None
        return LineSolution(
            parameters,
            likelihood,
            variables,
            system,
            solved,
            faults,
            saturation,
            reduced,
            largest < _UNSETTLED,
            self._found_missing(n_wide, after, system, solved, linear),
        )

    def _changes(self, elements):
        """Parameters of the lines: those of the settings, abundances of `elements`, and their molecules."""
        molecules = [
            name
            for name, n in self._lines_of.items()
            if n > _FEW_LINES and _is_molecule(name) and set(atoms_of(name)) & set(elements)
        ]
        return make_changes(self._generator, self._settings, elements, molecules)

    def _elements(self, solved):
        """Elements other than iron whose abundance the spectrum can tell, or those of the settings."""
        tags, wanted = self._generator.tags_, self._settings.abundances
        if wanted is None or tags is None:
            return ()
        told, system = np.zeros(self._n_lines), solved.system
        strengths = system.kind == 0
        told[system.line[strengths]] = solved.told()[strengths]
        lines = tags.shares.T @ told
        self._lines_of = dict(zip(tags.species, lines.tolist(), strict=True))
        if wanted != "auto":
            return tuple(wanted)
        total = {}
        for species, n in self._lines_of.items():
            for element in atoms_of(species):
                total[element] = total.get(element, 0.0) + n
        known = _elements_of(self._generator)
        return tuple(element for element, n in total.items() if n > _FEW_LINES and element in known)

    def _parameters(self, changes):
        chain = self._chain.with_changes(changes)
        return ParameterSet(chain.parameters, bounds=self._bounds, fixed=self._fixed, priors=self._priors)

    def _with_faults(self, changes, saturation, faults, values):
        """The forward model with given values of the faults."""
        return self._chain.with_changes(changes.with_offsets(faults._replace(values=values).offsets(saturation)))

    def _saturation(self, changes, values, faults):
        """Optical depth at the center of each line, (n_lines,)."""
        generator, found = self._generator, np.ones(self._n_lines)
        change = partial(changes.with_offsets(faults.values).apply, values=values)
        labels = [values[name] for name in generator.label_names_]
        lines, components, _ = generator.line_components(labels, slice(0, len(generator.wavelength_)), change=change)
        found[lines] = components[:, 1] + components[:, 3]
        return found

    def _with_missing(self, shapes, after, system, linear):
        """Shapes of wide lines, and those of lines that residuals show and the model lacks."""
        weights, more = system.weights(), []
        for number, (table, rows) in enumerate(zip(shapes, linear.orders, strict=True)):
            if number in after and self._n_missing < _MOST_MISSING:
                sigma = self._chain.line_sigma(number, linear.values)
                level = weights[number] * np.nan_to_num(rows.flux)
                found = missing_lines(np.log(rows.wavelength), after[number], level, sigma)
                new = found[~np.isin(found, self._missing.setdefault(number, []))]
                self._missing[number] += new.tolist()
                self._n_missing += len(new)
                x = np.log(rows.wavelength)
                table = np.column_stack([table, *(-np.exp(-0.5 * ((x - x[p]) / sigma) ** 2) for p in new)])
            more.append(table)
        return more

    def _found_missing(self, n_wide, after, system, solved, linear):
        """MissingLines of each order, at the end of the fit."""
        weights, std, found = system.weights(), np.sqrt(np.diag(solved.inverse)), {}
        for number, places in system.shape_places.items():
            places = places[n_wide[number] :]
            pixels = self._missing.get(number, [])[: len(places)]
            if not pixels:
                continue
            rows, sigma = linear.orders[number], self._chain.line_sigma(number, linear.values)
            x, level = np.log(rows.wavelength), weights[number] * np.nan_to_num(rows.flux)
            depth = solved.border_step[places]
            center = [
                line_center(x, after[number], level, sigma, x[pixel], own)
                for pixel, own in zip(pixels, depth, strict=True)
            ]
            found[number] = MissingLines(np.array(center), depth, std[places], sigma)
        return found

    def _mask(self, cores):
        """Leave out the cores of strong lines, bool arrays (n_pixels,): no change of a line describes their faults."""
        for error, core in zip(self._errors, cores, strict=True):
            self.n_masked += int(np.count_nonzero(np.isfinite(error[core])))
            error[core] = np.inf

    def _reject(self, after):
        """Reject pixels whose residuals are outliers, and take others back."""
        for number, (error, given) in enumerate(zip(self._data.errors, self._errors, strict=True)):
            error[:] = given
            if number in after:
                error[np.abs(after[number]) > _REJECT] = np.inf


def impossible(order):
    """Pixels of an OrderFit that no change of lines explains: above the continuum, or below zero, (n_pixels,) bool."""
    with np.errstate(invalid="ignore"):
        noise = _REJECT * np.hypot(order.error, order.model_error)
        above = order.flux > (1 + _CONTINUUM) * order.continuum + noise
        return above | (order.flux < -noise - _CONTINUUM * order.continuum)


def _misfit(residuals, n_rejected):
    """Negative logarithm of the likelihood of residuals, up to a constant.

    The noise is as large as most residuals show, if that is more than stated. Outliers, and pixels that were rejected,
    contribute as much as those that are just accepted.
    """
    used = np.concatenate([part[part != 0] for part in residuals.values()])
    variance = max((1.4826 * np.median(np.abs(used))) ** 2, 1.0) if len(used) else 1.0
    squares = np.minimum(used**2 / variance, _REJECT**2).sum() + n_rejected * _REJECT**2
    return 0.5 * float(squares + len(used) * np.log(variance))


def missing_lines(x, residual, level, sigma):
    """Pixels at which an absorption line of the width of the broadening is missing, (n,) int.

    `residual` (n_pixels,) is the weighted model minus data at ln wavelengths `x`, and `level` the weight times the
    flux; `sigma` of the line in ln wavelength. Lines are at least three sigmas apart, and highly significant.
    """
    half = max(int(np.ceil(3 * sigma / np.median(np.diff(x)))), 1)
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) * np.median(np.diff(x)) / sigma) ** 2)
    if len(x) <= 2 * half:
        return np.zeros(0, dtype=np.int64)
    signal = np.convolve(residual * level, kernel, mode="same")
    size = np.convolve((level * (residual != 0)) ** 2, kernel**2, mode="same")
    significance = signal / np.sqrt(np.where(size > 0, size, np.inf))
    significance[signal < _FAINTEST * size] = 0.0
    peaks, _ = find_peaks(significance, height=_MISSING, distance=half)
    return peaks


def line_center(x, residual, level, sigma, start, depth):
    """Center of a missing line in ln wavelength, from one that was fitted at `start` with its `depth`.

    `x`, `residual` (with that line in the model) and `level` as in `missing_lines`.
    """
    near = slice(*np.searchsorted(x, [start - 3 * sigma, start + 3 * sigma]))
    u = (x[near] - start) / sigma
    own = level[near] * np.exp(-0.5 * u**2)
    used = residual[near] != 0
    table = np.column_stack([own, own * u])[used]
    # depth times the derivative of a Gaussian by its center, in sigmas
    change, moved = np.linalg.lstsq(table, residual[near][used], rcond=None)[0]
    whole = depth + change
    return float(start + sigma * np.clip(moved / whole, -1, 1)) if whole > 0 else float(start)


def line_groups(generator, system, saturation):
    """Group of each unknown: lines of one species and similar saturation, (n_unknowns,) int."""
    names = np.full(len(saturation), "", dtype=object) if generator.tags_ is None else generator.tags_.names()
    strength = np.digitize(saturation, (0.3, 1.0, 3.0))
    keys = [(names[line], strength[line]) for line in system.line]
    number = {key: i for i, key in enumerate(sorted(set(keys)))}
    return np.array([number[key] for key in keys], dtype=np.int64)
