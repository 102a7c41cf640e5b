r"""Second component: whether a second star, or spots, are in a spectrum, and the fit with them.

The spectrum is fitted by one photosphere and by two. The evidence of two over that of one is estimated by the Bayesian
information criterion on the same pixels with the same errors,

.. math:: \Delta \ln Z = \frac{\chi^2_1 - \chi^2_2}{2 s} - \frac{k}{2} \ln n,

with k more parameters, n pixels, and s the reduced chi-square of the better fit, 1 at least: what neither model
describes is no evidence.
"""

import time

import numpy as np

from stellarhml.flags import InferenceFlag
from stellarhml.forward.blends import Companion
from stellarhml.inference.likelihood import Likelihood, minimise
from stellarhml.inference.line_fit import without_faults
from stellarhml.inference.star_fit import StarFit

WORTH = 10.0
"""Difference of ln evidence from which two components are taken."""

_N_PAIRS = 3  # pairs of the cross-correlation from which the fit starts
_NEAR = 6.0  # km/s, from the velocity of one star, of starts at which two are not resolved
_COOLER = 300.0  # K, of the second star at those starts
_FAINT = 0.02, 1.0  # range of flux ratios of a start
_SPOTTED = ((100.0, -700.0, 0.2), (50.0, -400.0, 0.3), (300.0, -300.0, 0.5), (500.0, -100.0, 0.8))
"""Starts of spots: changes of teff and teff_spot [K] from the temperature of one photosphere, and f_spot."""


def fit_second(generator, templates, spectrum, powers, settings):
    """Fit a spectrum with one and with two photospheres; arguments as of `StarFit`, with a `second` stage.

    Returns the StarFit and the InferenceResult of two components, or of one if `components` is "auto" and the data do
    not show the second.
    """
    begin, star = time.perf_counter(), (generator, templates, spectrum, powers)
    both = settings._replace(lines=without_faults(settings.lines))
    alone = settings._replace(second=None, stages=tuple(stage for stage in settings.stages if stage is not both.second))
    single = StarFit(*star, alone._replace(lines=both.lines))
    one = single.run()
    double = StarFit(*star, both)
    names = generator.label_names_
    two = double.run(lambda orders: _starts(templates, orders, both.second, one.values, names, double.parameters))
    if two.values.get("teff_spot", 0.0) > two.values["teff"]:
        exchanged = _exchanged(two.values)
        double = StarFit(*star, both)
        two = double.run(lambda _: [exchanged])
    gain, better = log_evidence(single, double)
    name = "a second star" if isinstance(both.second, Companion) else "spots"
    if gain <= WORTH and settings.components == "auto":
        fit, result = single, one
        if alone.lines != both.lines or better is not None:
            fit = StarFit(*star, alone)
            result = fit.run() if better is None else fit.run(lambda _: [better])
        result.messages += (f"{name} would change ln evidence by {gain:+.1f}, less than {WORTH:g}: left out",)
    else:
        fit, result = double, two
        if gain <= WORTH:
            result.flags |= InferenceFlag.SECOND_IN_DOUBT
        result.messages += (f"ln evidence of {name}: {gain:+.1f}",)
        if not both.second.levels_known:
            result.messages += ("flux levels of the two photospheres are those of black bodies",)
        if both.lines != settings.lines:
            result.messages += ("lines are taken as those of the grid",)
    result.log_evidence, result.seconds = gain, time.perf_counter() - begin
    return fit, result


def log_evidence(single, double):
    """Difference of ln evidence of two fits (StarFit) that have run, on the pixels and errors of the second.

    One photosphere is fitted once more, also from the first of the two: a fit that ended far from the minimum would
    count as evidence. Returns the difference, and values by name if that found a better minimum, else None.
    """
    likelihood = double.likelihood
    cost = 0.5 * float(np.sum(likelihood.residuals(double.parameters.variables(double.values)) ** 2))
    simple = Likelihood(single.likelihood.chain, single.parameters, likelihood.pieces)
    ended, found = (minimise(simple, [start]) for start in (single.values, double.values))
    better = single.parameters.values(found.variables) if found.cost < ended.cost - WORTH else None
    other = min(ended.cost, found.cost)
    n, n_more = likelihood.n_pixels, len(double.parameters.free) - len(single.parameters.free)
    scale = max(2 * cost / max(n - likelihood.n_terms - len(double.parameters.free), 1), 1.0)
    return (other - cost) / scale - 0.5 * n_more * np.log(n), better


def _starts(templates, orders, stage, values, names, parameters):
    """Starting values of a fit with two photospheres, from the `values` of one and the spectrum's `orders`.

    `names` are those of the labels, `parameters` those of the fit (ParameterSet), which leave out what is tied.
    """
    if not isinstance(stage, Companion):
        changes = (dict(zip(("teff", "teff_spot", "f_spot"), change, strict=True)) for change in _SPOTTED)
        return [
            values
            | {
                "teff": values["teff"] + change["teff"],
                "teff_spot": values["teff"] + change["teff_spot"],
                "f_spot": change["f_spot"],
            }
            for change in changes
        ]
    starts = []
    for pair in templates.find_pairs(orders, values["rv"], parameters.bounds["rv_2"], _N_PAIRS):
        second = {f"{name}_2": value for name, value in zip(names, pair.nodes[1].tolist(), strict=True)}
        light = {"rv": pair.rv[0], "rv_2": pair.rv[1], "vsini": 5.0, "flux_ratio": float(np.clip(pair.ratio, *_FAINT))}
        starts.append(values | second | light)
    for apart in (-_NEAR, _NEAR):
        second = {f"{name}_2": values[name] for name in names}
        if "teff_2" in second:
            second["teff_2"] -= _COOLER
        starts.append(values | second | {"rv": values["rv"] - apart / 3, "rv_2": values["rv"] + apart})
    return starts


def _exchanged(values):
    """Values of the same star with the photosphere and the spots exchanged."""
    return values | {
        "teff": values["teff_spot"],
        "teff_spot": values["teff"],
        "f_spot": 1 - values["f_spot"],
    }
