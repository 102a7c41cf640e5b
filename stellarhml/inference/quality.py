"""Quality: the flags of a fit, each with a message about the star."""

import numpy as np

from stellarhml._bounds import AT_BOUND, near_bound
from stellarhml.flags import InferenceFlag
from stellarhml.forward.line_spread import FACTOR, is_factor
from stellarhml.forward.macroturbulence import VMAC
from stellarhml.forward.veiling import SLOPE, VEILING
from stellarhml.inference.uncertainty import covariance_of
from stellarhml.physics.wavelength import SPEED_OF_LIGHT, refraction

_POOR = 1.3  # reduced chi-square
_POOR_WITH_FLOOR = 10.0  # reduced chi-square of a fit whose lines differ
_POOR_WITH_FAULTS = 2.0  # reduced chi-square of a fit with line faults
_LEAST_POWER_WITH_FAULTS = 0.1  # as `_LEAST_POWER`, where the grid's own line widths are in doubt
_MANY_REJECTED = 0.01  # share of the pixels
_SURE = 5.0  # standard deviations at which a score test raises a flag
_LEAST_POWER = 0.05  # change of ln resolving power below which no flag is raised
_DRIFT = 0.02  # km/s: drift of the wavelengths of lists and spectrographs over a band
_BROADENING = ("vsini", "vmac")
_OF_AMOUNT = {SLOPE.name: VEILING.name}
_DETECTED = 3.0  # standard deviations
_LEAST_BROADENING = 0.5  # km/s; slower rotation or macroturbulence cannot decrease enough to narrow the lines


def fit_flags(generator, likelihood, linear, uncertainty, *, lines_differ=False):
    """Flags of the fit itself, each with a message about this star, from the likelihood linearised at the best fit.

    `lines_differ`: faults of single lines were tried, and do not describe how the star's lines differ from the grid's.
    """
    parameters = likelihood.parameters
    # that of a shift of an order, which is another part, may be below zero by rounding
    variances = np.maximum(np.diag(uncertainty.noise + uncertainty.generator), 0.0)
    errors = dict(zip(parameters.free, np.sqrt(variances).tolist(), strict=True))
    yield from bound_flags(generator, likelihood, linear.values, errors)
    inflation = uncertainty.inflation.max(initial=1.0)
    if lines_differ:
        yield InferenceFlag.LINES_DIFFER, "many lines differ from the grid's: errors include a floor"
    if uncertainty.reduced_chi2 > (_POOR_WITH_FLOOR if lines_differ else _POOR):
        yield InferenceFlag.POOR_FIT, f"reduced chi-square {uncertainty.reduced_chi2:.3g}, errors inflated"
    elif inflation > 1 and not lines_differ:
        yield InferenceFlag.POOR_FIT, f"residuals are correlated, errors inflated by up to {inflation:.2g}"
    n_numbers = len(parameters.free) + likelihood.n_terms
    if likelihood.n_pixels < 20 * n_numbers:
        yield InferenceFlag.FEW_PIXELS, f"{likelihood.n_pixels} pixels for {n_numbers} free parameters"
    if linear.line_signal() < _SURE**2 * (1 + len(parameters.names)):
        yield InferenceFlag.WEAK_LINES, "lines are hardly detected above the noise"


def bound_flags(generator, likelihood, values, errors=None):
    """Flag of parameters (`values` and `errors` by name) at a bound, with a message about this star."""
    parameters = likelihood.parameters
    at = [name for name in parameters.free if _at_bound(parameters, name, values[name])]
    at = [name for name in at if not _means_nothing(name, values, errors or {})]
    if not at and grid_ends_near(generator, values, parameters):
        at = ["the labels"]
    if at:
        yield InferenceFlag.AT_BOUND, f"{', '.join(at)} at a bound, the star may lie outside"


def line_fit_flags(found):
    """Flags of a fit with line faults (LineSolution), each with a message about this star."""
    parameters = found.parameters
    if found.reduced_chi2 > _POOR_WITH_FAULTS:
        yield InferenceFlag.POOR_FIT, f"reduced chi-square {found.reduced_chi2:.3g} beyond line faults, errors inflated"
    n_numbers = len(parameters.free) + found.likelihood.n_terms
    if found.likelihood.n_pixels < 20 * n_numbers:
        yield InferenceFlag.FEW_PIXELS, f"{found.likelihood.n_pixels} pixels for {n_numbers} free parameters"
    if found.likelihood.linearise(found.variables).line_signal() < _SURE**2 * (1 + len(parameters.names)):
        yield InferenceFlag.WEAK_LINES, "lines are hardly detected above the noise"


def line_instrument_flags(found):
    """As `instrument_flags`, for a fit with line faults (LineSolution), whose widths and velocities are uncertain."""
    linear, flags = found.likelihood.linearise(found.variables), []
    change, sigma = found.system.line_spread(found.solved)
    factor = float(np.exp(found.system.ln_power_after(found.solved))), float(np.sqrt(found.solved.inverse[-1, -1]))
    # broader lines may be those of macroturbulence, unless it is fitted
    broad = change < 0 and VMAC.name not in found.parameters.names
    if abs(change) > max(_SURE * sigma, _LEAST_POWER_WITH_FAULTS) and not broad:
        flags.append((InferenceFlag.RESOLVING_POWER, f"lines fit better at {_better(change)} resolving power"))
    drifts = [-rows.modes["ln_wavelength"] * refraction(rows.wavelength) for rows in linear.orders]
    change, sigma = found.system.score(found.solved, drifts)
    of_medium = np.concatenate([refraction(rows.wavelength) for rows in linear.orders])
    sigma = np.hypot(sigma, _DRIFT / SPEED_OF_LIGHT / max(np.std(of_medium), 1e-12))
    if abs(change) > _SURE * sigma and abs(abs(change) - 1) < min(_SURE * sigma, 0.5):
        medium = "air" if change > 0 else "vacuum, not in air"
        flags.append((InferenceFlag.AIR_OR_VACUUM, f"wavelengths look as if they were in {medium}"))
    return factor, flags


def rejection_flags(data, n_rejected):
    """Flags of the rejected pixels, each with a message about this star."""
    if n_rejected > max(_MANY_REJECTED * data.n_given, 3):
        share = 100 * n_rejected / data.n_given
        yield InferenceFlag.REJECTED_PIXELS, f"{n_rejected} pixels rejected, {share:.1f} %"


def instrument_flags(linear, parameters, reduced_chi2, *, lines_differ=False):
    """Score tests of resolving power and of the medium of the wavelengths, each as one more parameter.

    Where the star's lines differ from the grid's, broader lines say nothing of the spectrograph.

    Returns the factor by which the resolving power would change with the standard deviation of its logarithm, and a
    list of flags with messages about this star.
    """
    found, scale = [], max(reduced_chi2, 1.0)
    # vsini and vmac are degenerate with the resolving power, unless they are too small to decrease
    narrow = [name for name in _BROADENING if linear.values.get(name, 0.0) <= _LEAST_BROADENING]
    others = [k for k, name in enumerate(parameters.free) if name not in narrow]
    sharpness = linear.project([rows.tangents["ln_resolving_power"][:, None] for rows in linear.orders])[:, 0]
    fitted = any(map(is_factor, parameters.free))
    change, sigma = (0.0, np.inf) if fitted else _score(linear, sharpness, scale, others)
    factor = float(np.exp(np.clip(change, -5, 5))), sigma
    if abs(change) > max(_SURE * sigma, _LEAST_POWER) and not (lines_differ and change < 0):
        found.append((InferenceFlag.RESOLVING_POWER, f"lines fit better at {_better(change)} resolving power"))
    drifts = [-(rows.modes["ln_wavelength"] * refraction(rows.wavelength))[:, None] for rows in linear.orders]
    change, sigma = _score(linear, linear.project(drifts)[:, 0], scale)
    if abs(change) > _SURE * sigma and abs(abs(change) - 1) < min(_SURE * sigma, 0.5):
        medium = "air" if change > 0 else "vacuum, not in air"
        found.append((InferenceFlag.AIR_OR_VACUUM, f"wavelengths look as if they were in {medium}"))
    return factor, found


def fitted_power_flags(values, parameters, covariance, *, line_faults=False, lines_differ=False):
    """As the test of the resolving power in `instrument_flags`, where its factor or those of orders were fitted.

    `covariance` (n_free, n_free) is that of the fitted parameters. Returns the factor of all orders with the standard
    deviation of its logarithm, 1 and infinity if it was not fitted, and flags.
    """
    least, found, factor = _LEAST_POWER_WITH_FAULTS if line_faults else _LEAST_POWER, {}, (1.0, np.inf)
    for k, name in enumerate(parameters.free):
        if not is_factor(name):
            continue
        change, sigma = np.log(values[name]), float(np.sqrt(covariance[k, k])) / values[name]
        if name == FACTOR:
            factor = values[name], sigma
        if abs(change) > max(_SURE * sigma, least) and not (lines_differ and change < 0):
            found[name] = f"{values[name]:.3g} times"
    texts = [f"the resolving power is {found.pop(FACTOR)} the stated one"] if FACTOR in found else []
    if found:
        orders = ", ".join(f"{text} in {name.removeprefix(FACTOR + '_')}" for name, text in found.items())
        texts.append(f"the resolving power of some orders differs: {orders}")
    return factor, [(InferenceFlag.RESOLVING_POWER, text) for text in texts]


def grid_ends_near(generator, values, parameters):
    """Whether the grid ends within 0.1 % of its range around labels.

    A grid with missing corners, or scattered nodes, does not fill the ranges of its labels.
    """
    names = generator.label_names_
    labels = np.array([values[name] for name in names])
    bounds = np.array([parameters.bounds[name] for name in names])
    free = bounds[:, 1] > bounds[:, 0]
    step = (AT_BOUND * np.ptp(bounds, axis=1) * np.eye(len(labels)))[free]
    around = np.clip(np.concatenate([labels[None], labels + step, labels - step]), bounds[:, 0], bounds[:, 1])
    return bool(generator.interpolator_.locate(around)[1].any())


def _at_bound(parameters, name, value):
    """Whether a value lies at a bound that is not a physical limit."""
    low, high = parameters.bounds[name]
    at_low, at_high = near_bound(value, low, high)
    return bool(at_high or (at_low and not parameters.physical_floor(name)))


def _means_nothing(name, values, errors):
    """Whether the value of a parameter means nothing, since the amount to which it belongs may be zero."""
    amount = _OF_AMOUNT.get(name)
    return amount in errors and values[amount] < _DETECTED * errors[amount]


def _better(change):
    """By what a change of ln resolving power, from a linear test, improves it: above a factor e only its sign."""
    return f"{np.exp(change):.3g} times the" if abs(change) < 1 else f"a far {'higher' if change > 0 else 'lower'}"


def _score(linear, column, scale, others=slice(None)):
    """Best-fit change of one more parameter, marginalised over the others, and its standard deviation."""
    jacobian = linear.jacobian[: len(column), others]
    inside = covariance_of(jacobian)
    inside = np.where(np.isfinite(inside), inside, 0.0)
    column = column - jacobian @ (inside @ (jacobian.T @ column))
    size = column @ column
    if not size > 0:
        return 0.0, np.inf
    return float(-(column @ linear.residuals[: len(column)]) / size), float(np.sqrt(scale / size))
