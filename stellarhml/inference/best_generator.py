"""Which of several generators a star belongs to, and its fit with that one."""

import time
from functools import partial
from inspect import signature
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from stellarhml._parallel import map_items, one_thread
from stellarhml._text import one_line
from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.flags import InferenceFlag
from stellarhml.inference._bayesian_stellar_regressor import (
    BayesianStellarRegressor,
    failed_result,
    infer_or_report,
    require_many,
)
from stellarhml.inference.second_component import WORTH
from stellarhml.inference.telluric_frame import as_tellurics, in_frame_of
from stellarhml.inference.trial_fit import TrialFit
from stellarhml.spectra.conversion import as_observed_spectrum

_COVERS = 0.5  # of the pixels that another generator covers, for a generator to be tried
_COMMON = 0.25  # of the same, that all generators must have in common
_LEAST_PIXELS = 100  # in common
_UNEXPLAINED = 0.3  # share of the lines' signal
_UNEXPLAINED_AT_BOUND = 0.1
_POOR = 1.5  # reduced chi-square


def infer_best(regressors, spectrum, *, resolving_power, **settings):
    r"""Infer labels, radial velocity and vsini of an observed star with the generator that it fits best.

    Parameters
    ----------
    regressors : dict of str to BayesianStellarRegressor, or sequence of BayesianStellarRegressor
        One for each generator, by name; those of a sequence are "0", "1", ... Their labels may differ.
    spectrum : object
        As in :meth:`stellarhml.BayesianStellarRegressor.infer`.
    resolving_power : object
        As in `infer`.
    **settings : dict
        Other parameters of `infer`, the same for all generators.

    Returns
    -------
    result : InferenceResult
        That of the generator with the highest evidence, or within 10 of it, if the star is at the edge of the grid of
        the highest alone. `generator_name` is its name, `generator_margin` its ln evidence over the highest of the
        others, None if it was the only one that covers the star, and `generator_trials` has a row for each generator.
        With the flag NO_GRID_FITS no generator describes the star. A margin below 10, and generators that were not
        tried, are in `messages`.

    Raises
    ------
    TypeError, ValueError
        If there is no regressor, or as from `infer`.
    WavelengthCoverageError
        If no generator covers the star.

    Notes
    -----
    A generator is tried if it covers at least half of the pixels that the widest one covers, and the pixels that all
    have in common are at least a quarter of those, and 100. Each is tried by a quick fit, with the lines of its grid,
    of the same runs of pixels: at most four, of 2,048 pixels each, of those in common. The evidence of generator g is
    estimated by the Bayesian information criterion,

    .. math:: \ln Z_g = -\frac{1}{2} \sum_i \left(\frac{r_{gi}^2}{s} + \ln \sigma_{gi}^2\right) - P_g
       - \frac{k_g}{2} \ln n,

    over the n pixels i. :math:`r_{gi}` is data minus model over its standard deviation :math:`\sigma_{gi}`, the noise
    of the data and the generator's own error together; :math:`P_g` is half the sum of squares of the priors and
    :math:`k_g` the number of fitted parameters, labels and velocities. s is the least reduced chi-square of all, 1 at
    least: what no generator describes is no evidence. The polynomials of the continuum are the same for all. Pixels
    that every generator would clip are left out. Errors that are not given are estimated from the data alone, and are
    too large where lines are dense.

    Line faults, second stars and spots are fitted with the best generator alone, after the choice.

    NO_GRID_FITS is set where a label at the edge of the best grid tends outwards, by over five standard deviations
    (which the reduced chi-square inflates), two nodes and a fifth of the grid's range; or where the model leaves over
    30 % of the lines' signal, the chi-square of a continuum without any, or 10 % with a label at the edge. A star that
    lies less far outside has the flag AT_BOUND alone.

    Examples
    --------
    >>> from stellarhml import BayesianStellarRegressor, load
    >>> from stellarhml.inference import infer_best
    >>> regressors = {
    ...     name: BayesianStellarRegressor.from_generator(load(f"{name}.asdf")) for name in ("cool", "hot")
    ... }  # doctest: +SKIP
    >>> infer_best(regressors, (wavelength, flux, error), resolving_power=55_000).generator_name  # doctest: +SKIP
    'cool'
    """
    regressors = name_regressors(regressors)
    settings["resolving_power"], begin = resolving_power, time.perf_counter()
    with one_thread():
        choice = _choose(regressors, spectrum, settings)
    best = choice.order[0]
    result = regressors[best].infer(spectrum, **settings)
    result.generator_name, result.generator_trials = best, choice.table
    result.messages += tuple(choice.messages)
    if len(choice.order) > 1:
        result.generator_margin = float(-choice.table.set_index("generator_name")["ln_evidence"][choice.order[1]])
    if choice.none_fits:
        result.flags |= InferenceFlag.NO_GRID_FITS
    result.seconds = time.perf_counter() - begin
    return result


def infer_best_each(regressors, spectra, *, resolving_power, n_jobs=None, verbose=None, **settings):
    """Infer many stars like `infer_best`, and yield each result as soon as it is ready.

    Parameters
    ----------
    regressors : dict of str to BayesianStellarRegressor, or sequence of BayesianStellarRegressor
        As in `infer_best`.
    spectra, resolving_power, n_jobs, verbose, **settings : object
        As in :meth:`stellarhml.BayesianStellarRegressor.infer_many`.

    Yields
    ------
    result : InferenceResult
        In the order of the spectra. A star that failed has the flag FAILED, NaN values, and a message; a table of
        :func:`stellarhml.inference.results_table` has the labels of all generators.
    """
    regressors = name_regressors(regressors)
    require_many(spectra)
    settings["resolving_power"] = resolving_power
    if settings.get("tellurics") is not None:
        settings["tellurics"] = as_tellurics(settings["tellurics"])  # a file is read once
    check_settings(regressors, settings)
    first = next(iter(regressors.values()))
    yield from map_items(
        partial(infer_best_or_report, regressors, settings),
        spectra,
        n_jobs=n_jobs,
        verbose=verbose,
        description="Inferring stars",
        on_death=lambda _, error: failed_result(first, settings, str(error)),
    )


def infer_best_or_report(regressors, settings, spectrum):
    """Result of one star from named regressors, or a failed result with the reason."""
    first = next(iter(regressors.values()))
    return infer_or_report(first, settings, spectrum, infer=partial(infer_best, regressors))


def check_settings(regressors, settings):
    """Raise what `infer` would raise for a mistake in its settings, of any of the named regressors."""
    for regressor in regressors.values():
        signature(regressor.infer).bind(None, **settings)
        regressor._fit_settings(**settings)


def name_regressors(regressors):
    """Fitted regressors by name; TypeError or ValueError for anything else, or none."""
    if not isinstance(regressors, dict):
        regressors = {str(number): regressor for number, regressor in enumerate(regressors)}
    for name, regressor in regressors.items():
        if not isinstance(regressor, BayesianStellarRegressor):
            raise TypeError(
                f"`regressors` has a {type(regressor).__name__} at {name!r}, but needs BayesianStellarRegressors, such "
                "as from BayesianStellarRegressor.from_generator."
            )
        check_is_fitted(regressor)
    if not regressors:
        raise ValueError("`regressors` is empty; it needs a regressor for each generator.")
    return regressors


class _Choice(NamedTuple):
    """Names of the generators that were tried, the best first; a table of all; messages; whether none fits."""

    order: list
    table: pd.DataFrame
    messages: list
    none_fits: bool


def _choose(regressors, spectrum, settings):
    """Try generators (regressors by name) on a spectrum, with settings of `infer`; returns a _Choice."""
    of_spectrum = {name: settings.get(name) for name in ("medium", "mask", "resolving_power")}
    spectrum, powers = as_observed_spectrum(spectrum, **of_spectrum)
    trials, covered, reasons = {}, {}, {}
    for name, regressor in regressors.items():
        low, high = regressor.generator_.wavelength_[[0, -1]]
        if not any(((x > low) & (x < high) & np.isfinite(error)).any() for x, _, error in spectrum.orders):
            reasons[name] = f"its band, {low:.2f} to {high:.2f} angstrom, has none of the star's good pixels"
            continue
        try:
            trials[name] = _trial(regressor, spectrum, powers, settings)
            covered[name] = trials[name].begin()
        except ValueError as error:  # too few pixels are left, or its resolving power is too low
            reasons[name] = one_line(error)
    counts = {name: _count(pixels) for name, pixels in covered.items()}
    names, common = _in_common(covered, counts, reasons, trials)
    if not names:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise WavelengthCoverageError(f"None of {len(regressors)} generators covers the star. {told}")
    trials = {name: trials[name] for name in names}
    outcomes = _fit(trials, common)
    evidence, reduced = _compare(outcomes)
    order = _sorted(trials, evidence, list(regressors))
    best = order[0]
    table = pd.DataFrame(
        {
            "generator_name": list(regressors),
            "n_covered": [counts.get(name, 0) for name in regressors],
            "n_compared": [len(outcomes[best].residual) if name in evidence else 0 for name in regressors],
            "ln_evidence": [evidence.get(name, np.nan) - evidence[best] for name in regressors],
            "reduced_chi2": [reduced.get(name, np.nan) for name in regressors],
        }
    )
    misfit = _misfit(trials[best], outcomes[best], reduced[best])
    messages = [misfit] if misfit else []
    if len(order) > 1:
        margin = evidence[best] - evidence[order[1]]
        doubt = f", less than {WORTH:g}: both fit" if margin < WORTH else ""
        doubt += ", but with that one the star is at the edge of its grid" if margin < 0 else ""
        messages.append(f"generator {best}: ln evidence {margin:+.1f} over that of {order[1]}{doubt}")
    messages += [f"generator {name} not tried: {reason}" for name, reason in reasons.items()]
    return _Choice(order, table, messages, bool(misfit))


def _sorted(trials, evidence, names):
    """Names of TrialFits, the best first; `names` is the sequence of those with the same evidence.

    Of those that fit as well as the first, the best is the first that does not end at a bound.
    """
    order = sorted(trials, key=lambda name: (-evidence[name], names.index(name)))
    fit = [name for name in order if evidence[name] > evidence[order[0]] - WORTH]
    inside = [name for name in fit if not trials[name].bound_flags()]
    best = inside[0] if inside else order[0]
    return [best, *(name for name in order if name != best)]


def _trial(regressor, spectrum, powers, settings):
    """TrialFit of one regressor: its settings without faults of lines, changes of them, and second components."""
    settings = in_frame_of(spectrum, regressor._fit_settings(**settings))
    settings = settings._replace(
        stages=tuple(stage for stage in settings.stages if stage is not settings.second),
        second=None,
        lines=None,
        callback=None,
    )
    return TrialFit(regressor.generator_, regressor.node_spectra_.templates, spectrum, powers, settings)


def _in_common(covered, counts, reasons, trials):
    """Names of the generators that cover enough, and the pixels that they have in common; adds `reasons` of others.

    The widest come first, so that a narrow one cannot leave too few pixels for them.
    """
    names, common = [], None
    most = max(counts.values(), default=0)
    for name in sorted(counts, key=lambda name: -counts[name]):
        both = covered[name] if common is None else [a & b for a, b in zip(common, covered[name], strict=True)]
        if counts[name] < max(_COVERS * most, _LEAST_PIXELS):
            reasons[name] = f"it covers {counts[name]} of {trials[name].n_given} good pixels, another one {most}"
        elif _count(both) < max(_COMMON * most, _LEAST_PIXELS):
            reasons[name] = f"it has {_count(both)} pixels in common with {', '.join(names)}, too few to compare"
        else:
            names, common = [*names, name], both
    return names, common


def _fit(trials, common):
    """Outcomes by name of TrialFits on the pixels in common, without those that all would clip."""
    for trial in trials.values():
        trial.keep(common)
        trial.choose_runs()
        trial.fit()
    accepted = [trial.accepted() for trial in trials.values()]
    kept = [np.logical_or.reduce(parts) for parts in zip(*accepted, strict=True)]
    for trial in trials.values():
        trial.keep(kept)
        trial.fit()
    return {name: trial.outcome() for name, trial in trials.items()}


def _compare(outcomes):
    """Dictionaries by name of the ln evidence, up to a constant, and the reduced chi-square of outcomes."""
    there = np.logical_and.reduce([np.isfinite(outcome.residual) for outcome in outcomes.values()])
    n, reduced = int(there.sum()), {}
    for name, outcome in outcomes.items():
        reduced[name] = float(np.sum(outcome.residual[there] ** 2) / max(n - outcome.n_terms - outcome.n_free, 1))
    scale = max(min(reduced.values()), 1.0)
    evidence = {}
    for name, outcome in outcomes.items():
        terms = outcome.residual[there] ** 2 / scale + np.log(outcome.variance[there])
        evidence[name] = float(-0.5 * terms.sum() - outcome.prior - 0.5 * outcome.n_free * np.log(max(n, 1)))
    return evidence, reduced


def _misfit(trial, outcome, reduced_chi2):
    """Message if the best generator does not describe the star; empty if it does."""
    beyond = trial.beyond_the_grid(reduced_chi2)
    if beyond:
        return f"no generator fits: the star lies beyond the edge of the best grid in {', '.join(beyond)}"
    there = np.isfinite(outcome.residual)
    left, signal = (float(np.sum(part[there] ** 2 - 1)) for part in (outcome.residual, outcome.flat))
    if reduced_chi2 < _POOR or not signal > 0:
        return ""
    share, bound = left / signal, [message for _, message in trial.bound_flags()]
    if share < (_UNEXPLAINED_AT_BOUND if bound else _UNEXPLAINED):
        return ""
    at = f"; {bound[0]}" if bound else ""
    return f"no generator fits: the best leaves {100 * share:.0f} % of the lines' signal{at}"


def _count(pixels):
    return sum(int(part.sum()) for part in pixels)
