"""Judging: what a reader must know of a fit before taking its result as it stands."""

import numpy as np

from stellarhml.flags import InferenceFlag
from stellarhml.forward.observation import refraction
from stellarhml.inference.fitting import grid_ends_near
from stellarhml.inference.spread import covariance_of

_EDGE = 1e-3  # share of a range within which a result counts as being at its bound
_POOR = 1.3  # reduced chi-square
_MANY_REJECTED = 0.01
_SURE = 5.0  # standard deviations from which a hint becomes a flag
_LEAST_POWER = 0.05  # change of ln resolving power that is worth a word


def judge(generator, likelihood, linear, reduced, raised):
    """What the fit says of itself.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    likelihood : Likelihood
        The likelihood.
    linear : Linear
        It near its minimum.
    reduced : float
        Reduced chi-square.
    raised : ndarray of shape (n_free,)
        By how much errors were raised because residuals go together.

    Yields
    ------
    flag, message : InferenceFlag, str
        What to know.
    """
    parameters, values = likelihood.parameters, linear.values
    low, high = parameters.bounds.T
    near = parameters.free & (
        (values <= low + _EDGE * (high - low)) | ((values >= high - _EDGE * (high - low)) & (high > low))
    )
    if parameters.names[-1] == "vsini":
        near[-1] &= low[-1] > 0 or values[-1] > high[-1] / 2  # no rotation is no fault
    at = [name for name, there in zip(parameters.names, near, strict=True) if there]
    n_labels = len(generator.label_names_)
    if not at and grid_ends_near(generator, values[:n_labels], parameters.bounds[:n_labels]):
        at = ["the labels"]
    if at:
        yield InferenceFlag.AT_BOUND, f"{', '.join(at)} at a bound, the star may lie beyond"
    if reduced > _POOR:
        yield InferenceFlag.POOR_FIT, f"reduced chi-square {reduced:.3g}, errors raised by what residuals show"
    elif raised.max(initial=1.0) > 1:
        yield InferenceFlag.POOR_FIT, f"residuals go together, errors raised by up to {raised.max():.2g}"
    n_numbers = int(parameters.free.sum()) + likelihood.n_terms
    if likelihood.n_pixels < 20 * n_numbers:
        yield InferenceFlag.FEW_PIXELS, f"{likelihood.n_pixels} pixels for {n_numbers} numbers"
    if linear.line_signal() < _SURE**2 * (1 + len(parameters.names)):
        yield InferenceFlag.WEAK_LINES, "lines hardly stand out of the noise"


def judge_rejected(pixels):
    """What the rejected pixels say.

    Parameters
    ----------
    pixels : Pixels
        The data.

    Yields
    ------
    flag, message : InferenceFlag, str
        What to know.
    """
    if pixels.n_rejected > max(_MANY_REJECTED * pixels.n_given, 3):
        share = 100 * pixels.n_rejected / pixels.n_given
        yield InferenceFlag.REJECTED_PIXELS, f"{pixels.n_rejected} pixels rejected, {share:.1f} %"


def judge_instrument(linear, wavelengths, reduced, *, turning=True):
    """What the lines say of resolving power and wavelengths, by a score test of one more parameter each.

    Parameters
    ----------
    linear : Linear
        A likelihood near its minimum.
    wavelengths : list of ndarray of shape (n_pixels,)
        Of each order, in angstrom.
    reduced : float
        Reduced chi-square.
    turning : bool, default=True
        Whether the last column, the rotation, can take up what lines ask for: not where there is none to take away.

    Returns
    -------
    factor : tuple of float
        Factor by which the resolving power would change, and the standard deviation of its logarithm.
    found : list of (InferenceFlag, str)
        What to know.
    """
    found, scale = [], max(reduced, 1.0)
    sharpness = linear.project([part[:, None] for part in linear.evaluation.sharpness])[:, 0]
    change, sigma = _score(linear, sharpness, scale, slice(None) if turning else slice(-1))
    factor = float(np.exp(np.clip(change, -5, 5))), sigma
    if abs(change) > max(_SURE * sigma, _LEAST_POWER):
        # a score test is linear: beyond a factor e it tells the direction only
        wanted = f"{factor[0]:.3g} times the" if abs(change) < 1 else f"a far {'higher' if change > 0 else 'lower'}"
        found.append((InferenceFlag.RESOLVING_POWER, f"lines ask for {wanted} resolving power"))
    directions = zip(linear.evaluation.directions, wavelengths, strict=True)
    drift = linear.project([-(part[:, -2] * refraction(wavelength))[:, None] for part, wavelength in directions])[:, 0]
    change, sigma = _score(linear, drift, scale)
    if abs(change) > _SURE * sigma and abs(abs(change) - 1) < min(_SURE * sigma, 0.5):
        medium = "air" if change > 0 else "vacuum, not in air"
        found.append((InferenceFlag.AIR_OR_VACUUM, f"wavelengths look as if they were in {medium}"))
    return factor, found


def _score(linear, column, scale, others=slice(None)):
    """By how much one more parameter would move beside others, and its standard deviation."""
    jacobian = linear.jacobian[: len(column), others]
    inside = covariance_of(jacobian)
    inside = np.where(np.isfinite(inside), inside, 0.0)
    column = column - jacobian @ (inside @ (jacobian.T @ column))
    size = column @ column
    if not size > 0:
        return 0.0, np.inf
    return float(-(column @ linear.residuals[: len(column)]) / size), float(np.sqrt(scale / size))
