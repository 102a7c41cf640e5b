"""Survey: fits of many stars on the same pixels, with what they share computed once.

Shared are the transforms of the templates from which searches start (`StartSearch`) and a table of model spectra
(`SpectrumTable`), of which each process computes the parts that its stars need. A fit first uses the table alone. Near
its minimum the exact model is evaluated once, and its difference to the table, to first order, is added from then on:
the fit goes on as that of one star does, with the same clipping, errors and flags. Where it moves by more than a
fraction of a standard deviation from there the exact model is evaluated anew. A fit that does not settle is done once
more without the table.
"""

import threading
from collections import OrderedDict
from numbers import Real
from uuid import uuid4

import numpy as np

from stellarhml.forward.observation import Observation
from stellarhml.forward.tabulated_chain import SpectrumTable, TabulatedChain
from stellarhml.inference.likelihood import descend
from stellarhml.inference.line_fit import make_changes
from stellarhml.inference.node_spectra import StartSearch
from stellarhml.inference.star_fit import MAX_EVALUATIONS, StarFit
from stellarhml.inference.uncertainty import covariance_of

LEAST_STARS = 16
"""Number of stars from which on their pixels are compared: the first stars pay for the table."""

_KEPT = 2  # surveys whose tables a process keeps
_NEAR = (
    0.3  # standard deviations from where the exact model was evaluated, within which its difference to the table holds
)
_SMOOTH = 0.3  # standard deviations by which the table alone may be wrong
_MOST_ANCHORS = 5
_GOOD = 1.5  # mean square of the residuals, in units of the errors, below which a first fit needs no other start
_QUICK, _SETTLED = 0.5, 1e-3  # standard deviations of the last step of a first fit, and of the others


def check_survey(survey):
    """Raise ValueError if the argument `survey` has no meaning."""
    if survey not in (True, False, "auto"):
        raise ValueError(f"`survey` is {survey!r}; it needs True, False or 'auto'.")


def is_survey(n_stars, survey):
    """Whether the pixels of so many stars are compared, with an argument `survey` of True, False or "auto"."""
    return n_stars >= (2 if survey is True else LEAST_STARS) and survey is not False


def few_of(n_stars):
    """Numbers of a few of the stars, whose pixels stand for those of all."""
    return sorted({0, n_stars // 2, n_stars - 1})


class Survey:
    """Stars on the same pixels.

    Parameters
    ----------
    wavelengths : list of ndarray of shape (n_pixels,)
        Vacuum wavelengths of each order, in angstrom.
    resolving_powers : list
        Of each order, a number.
    """

    def __init__(self, wavelengths, resolving_powers):
        self.wavelengths, self.resolving_powers, self._token = wavelengths, resolving_powers, uuid4().hex

    @classmethod
    def of(cls, generator, settings, stars):
        """The survey of some stars, which stand for many.

        Parameters
        ----------
        generator : SpectrumGenerator
            A fitted generator.
        settings : FitSettings
            Of the fits.
        stars : list of (ObservedSpectrum, list)
            Spectra, and the resolving powers of their orders.

        Returns
        -------
        survey : Survey or None
            None if no two of the stars have the same pixels, or a table does not serve the settings.
        """
        if not _is_plain(settings):
            return None
        stars = [star for star in stars if all(isinstance(power, Real) for power in star[1])]
        for i, (spectrum, powers) in enumerate(stars):
            survey = cls([order.wavelength for order in spectrum.orders], powers)
            if any(survey.has(*other) for other in stars[i + 1 :]):
                observation = Observation(survey.wavelengths, resolving_power=powers)
                return survey if SpectrumTable.serves(generator, observation) else None
        return None

    def has(self, spectrum, resolving_powers):
        """Whether a star is on the survey's pixels."""
        return (
            len(spectrum.orders) == len(self.wavelengths)
            and all(isinstance(power, Real) for power in resolving_powers)
            and self.resolving_powers == resolving_powers
            and all(
                np.array_equal(order.wavelength, own)
                for order, own in zip(spectrum.orders, self.wavelengths, strict=True)
            )
        )

    def fit(self, generator, templates, spectrum, resolving_powers, settings):
        """Fit a star like StarFit, whose arguments these are.

        Returns
        -------
        result : InferenceResult or None
            None if the table does not serve this star, or its fit did not settle.
        """
        if not _is_plain(settings) or not self.has(spectrum, resolving_powers):
            return None
        fit = _SurveyFit(self._shared(), generator, templates, spectrum, resolving_powers, settings)
        result = fit.run()
        return result if fit.settled else None

    def _shared(self):
        """What the fits of this survey share in this process."""
        with _LOCK:
            shared = _SHARED.setdefault(self._token, _Shared())
            _SHARED.move_to_end(self._token)
            while len(_SHARED) > _KEPT:
                _SHARED.popitem(last=False)
            return shared


class _Shared:
    """What the fits of a survey share in a process; made by the first star."""

    def __init__(self):
        self.table, self.search, self.lock = None, None, threading.Lock()


_SHARED, _LOCK = OrderedDict(), threading.Lock()


class _SurveyFit(StarFit):
    """The fit of one star of a survey. Attribute `settled`: whether it is as good as that of StarFit."""

    def __init__(self, shared, *star):
        self._shared, self.settled = shared, True
        super().__init__(*star)

    def _make_chain(self):
        shared, settings = self._shared, self._settings
        with shared.lock:
            if shared.table is None:
                shared.table = SpectrumTable(self._generator, self._observation, settings.bounds["rv"])
        return TabulatedChain(
            shared.table,
            self._generator,
            self._observation,
            limb_darkening=settings.limb_darkening,
            watch=None if settings.callback is None else self._watch,
        )

    def _find_start(self, orders):
        shared, bounds = self._shared, self.parameters.bounds
        with shared.lock:
            if shared.search is None:
                pixels = self._data.wavelengths
                ends = np.log(min(x[0] for x in pixels)), np.log(max(x[-1] for x in pixels))
                shared.search = StartSearch(self._templates, ends, bounds["rv"], bounds["vsini"])
        return shared.search.find_start(orders, self._settings.n_starts)

    def _first_fit(self, starts):
        """Values of a fit to all pixels by the table alone, near which the exact model is then known."""
        likelihood, solutions = self._likelihood(), []
        for start in starts:
            start = self.parameters.start(start)
            solution = descend(likelihood, start, max_evaluations=MAX_EVALUATIONS, settled=_QUICK)
            solutions.append(solution)
            self._n_evaluations += solution.n_evaluations
            if solution.converged and 2 * solution.cost < _GOOD * likelihood.n_pixels:
                break  # no other minimum is much better
        values = self.parameters.values(min(solutions, key=lambda solution: solution.cost).variables)
        self._anchor(values)
        return values

    def _anchor(self, values):
        lines = self._settings.lines
        self._chain.anchor(values, None if lines is None else make_changes(self._generator, lines, ()))
        self._anchored = values
        self._n_evaluations += 1

    def _fit_rounds(self, values):
        for _ in range(_MOST_ANCHORS):
            solution = super()._fit_rounds(values)
            values = self.parameters.values(solution.variables)
            if not solution.converged or self._is_near(solution):
                break
            self._anchor(values)
        self.settled = solution.converged and self._is_near(solution) and self._is_smooth(solution)
        return solution

    def _is_near(self, solution):
        """Whether the exact model is known near a solution of the last fit."""
        linear, parameters = self.likelihood.linearise(solution.variables), self.parameters
        moved = solution.variables - parameters.variables(self._anchored)
        moved = linear.jacobian @ (parameters.slopes(linear.values) * moved)
        return float(moved @ moved) < _NEAR**2

    def _is_smooth(self, solution):
        """Whether the table was right by itself: where the grid has a jump it is not, and there may be two minima."""
        linear, n = self.likelihood.linearise(solution.variables), self.likelihood.n_pixels
        missed = linear.project([difference[:, None] for difference in self._chain.difference])[:, 0]
        jacobian = linear.jacobian[:n]
        gradient = jacobian.T @ missed
        return float(gradient @ covariance_of(jacobian) @ gradient) < _SMOOTH**2

    def _minimise(self, starts):
        tried = [descend(self.likelihood, start, max_evaluations=MAX_EVALUATIONS, settled=_SETTLED) for start in starts]
        self._n_evaluations += sum(solution.n_evaluations for solution in tried)
        solution = min(tried, key=lambda solution: solution.cost)
        self.likelihood.linearise(solution.variables)  # the flux is asked for next
        return solution


def _is_plain(settings):
    """Whether the settings of a fit are those that a table serves."""
    lines = settings.lines is None or settings.lines.line_errors is not False
    free = settings.resolving_power_error, settings.resolving_power_scatter, settings.wavelength_error
    return lines and free == (None, None, None) and not settings.stages
