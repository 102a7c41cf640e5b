"""Quality: the flags of a fit, and what each means for this star."""

import numpy as np

from stellarhml._bounds import AT_BOUND, near_bound
from stellarhml.flags import InferenceFlag
from stellarhml.inference.uncertainty import covariance_of
from stellarhml.physics.wavelength import refraction

_POOR = 1.3  # reduced chi-square
_MANY_REJECTED = 0.01
_SURE = 5.0  # standard deviations at which a score test raises a flag
_LEAST_POWER = 0.05  # change of ln resolving power below which none is raised
_LEAST_VSINI = 0.5  # km/s; slower rotation cannot make room for lines that are too narrow for the resolving power


def fit_flags(generator, likelihood, linear, uncertainty):
    """Flags of the fit itself.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    likelihood : Likelihood
        The likelihood.
    linear : Linear
        It near its minimum.
    uncertainty : Uncertainty
        Of the fitted parameters.

    Yields
    ------
    flag, message : InferenceFlag, str
        Flag, and its meaning here.
    """
    parameters = likelihood.parameters
    at = [name for name in parameters.free if _at_bound(parameters, name, linear.values[name])]
    if not at and grid_ends_near(generator, linear.values, parameters):
        at = ["the labels"]
    if at:
        yield InferenceFlag.AT_BOUND, f"{', '.join(at)} at a bound, the star may lie beyond"
    inflation = uncertainty.inflation.max(initial=1.0)
    if uncertainty.reduced_chi2 > _POOR:
        yield InferenceFlag.POOR_FIT, f"reduced chi-square {uncertainty.reduced_chi2:.3g}, errors inflated"
    elif inflation > 1:
        yield InferenceFlag.POOR_FIT, f"residuals are correlated, errors inflated by up to {inflation:.2g}"
    n_numbers = len(parameters.free) + likelihood.n_terms
    if likelihood.n_pixels < 20 * n_numbers:
        yield InferenceFlag.FEW_PIXELS, f"{likelihood.n_pixels} pixels for {n_numbers} free numbers"
    if linear.line_signal() < _SURE**2 * (1 + len(parameters.names)):
        yield InferenceFlag.WEAK_LINES, "lines hardly stand out of the noise"


def rejection_flags(data):
    """Flags of the rejected pixels.

    Parameters
    ----------
    data : FitData
        The data.

    Yields
    ------
    flag, message : InferenceFlag, str
        Flag, and its meaning here.
    """
    if data.n_rejected > max(_MANY_REJECTED * data.n_given, 3):
        share = 100 * data.n_rejected / data.n_given
        yield InferenceFlag.REJECTED_PIXELS, f"{data.n_rejected} pixels rejected, {share:.1f} %"


def instrument_flags(linear, parameters, reduced_chi2):
    """Score tests of resolving power and wavelengths: one more parameter each.

    Parameters
    ----------
    linear : Linear
        A likelihood near its minimum.
    parameters : ParameterSet
        What was fitted.
    reduced_chi2 : float
        Reduced chi-square.

    Returns
    -------
    factor : tuple of float
        Factor by which the resolving power would change, and the standard deviation of its logarithm.
    found : list of (InferenceFlag, str)
        Flags, and their meaning here.
    """
    found, scale = [], max(reduced_chi2, 1.0)
    # rotation can take up a change of the resolving power, unless there is none to take away
    others = [k for k, name in enumerate(parameters.free) if name != "vsini" or linear.values[name] > _LEAST_VSINI]
    sharpness = linear.project([rows.tangents["ln_resolving_power"][:, None] for rows in linear.orders])[:, 0]
    change, sigma = _score(linear, sharpness, scale, others)
    factor = float(np.exp(np.clip(change, -5, 5))), sigma
    if abs(change) > max(_SURE * sigma, _LEAST_POWER):
        # a score test is linear: beyond a factor e only its direction counts
        wanted = f"{factor[0]:.3g} times the" if abs(change) < 1 else f"a far {'higher' if change > 0 else 'lower'}"
        found.append((InferenceFlag.RESOLVING_POWER, f"lines fit better at {wanted} resolving power"))
    drifts = [-(rows.modes["ln_wavelength"] * refraction(rows.wavelength))[:, None] for rows in linear.orders]
    change, sigma = _score(linear, linear.project(drifts)[:, 0], scale)
    if abs(change) > _SURE * sigma and abs(abs(change) - 1) < min(_SURE * sigma, 0.5):
        medium = "air" if change > 0 else "vacuum, not in air"
        found.append((InferenceFlag.AIR_OR_VACUUM, f"wavelengths look as if they were in {medium}"))
    return factor, found


def grid_ends_near(generator, values, parameters):
    """Whether the grid ends within 0.1 % of its range around labels.

    A grid with missing corners, or scattered nodes, ends before the ranges of its labels do.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    values : dict of str to float
        Values of the parameters.
    parameters : ParameterSet
        Their bounds.

    Returns
    -------
    near : bool
        Whether it does, within the bounds.
    """
    names = generator.label_names_
    labels = np.array([values[name] for name in names])
    bounds = np.array([parameters.bounds[name] for name in names])
    free = bounds[:, 1] > bounds[:, 0]
    step = (AT_BOUND * np.ptp(bounds, axis=1) * np.eye(len(labels)))[free]
    around = np.clip(np.concatenate([labels[None], labels + step, labels - step]), bounds[:, 0], bounds[:, 1])
    return bool(generator.interpolator_.locate(around)[1].any())


def _at_bound(parameters, name, value):
    """Whether a value at an end of its range is worth a flag."""
    low, high = parameters.bounds[name]
    at_low, at_high = near_bound(value, low, high)
    return bool(at_high or (at_low and not parameters.physical_floor(name)))


def _score(linear, column, scale, others=slice(None)):
    """Change of one more parameter beside others, and its standard deviation."""
    jacobian = linear.jacobian[: len(column), others]
    inside = covariance_of(jacobian)
    inside = np.where(np.isfinite(inside), inside, 0.0)
    column = column - jacobian @ (inside @ (jacobian.T @ column))
    size = column @ column
    if not size > 0:
        return 0.0, np.inf
    return float(-(column @ linear.residuals[: len(column)]) / size), float(np.sqrt(scale / size))
