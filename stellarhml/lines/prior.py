r"""First guesses and priors of line fits, learnt from fitted training spectra.

The parameters of all lines of a spectrum are predicted from the scores :math:`z_m` of its leading principal components
(of the logarithm of the flux at the detected lines), :math:`\theta_{jk} \approx A_{jk} + \sum_m z_m B_{mjk}`. As
spectra vary smoothly over a grid, so does the prediction. As a prior it makes the fitted parameters smooth, and as a
first guess it replaces the solution of a neighbouring node, for any spectrum and without its labels.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from stellarhml._state import Sizes, StateError, check_keys, take_array, take_number
from stellarhml.kernels.second_order import Start

MAX_SCORES = 4
_DARKEST = 0.02  # smaller fluxes are set to this before the logarithm
_SMALLEST = 1e-3  # of the largest singular value: smaller components are noise
_BEYOND = 0.1  # scores may exceed the range of the training spectra by this share of it

# Start values of gully/blase, determined there empirically: a = 0.14 prominence [angstrom],
# sigma = 1.28 w / sqrt(2), gamma = 1.52 w / sqrt(2), w = half-prominence width / 2.355
AMPLITUDE_FACTOR = 0.14
SIGMA_FACTOR = 1.28 / math.sqrt(2)
GAMMA_FACTOR = 1.52 / math.sqrt(2)

STRONG = 0.3  # prominence of strong lines, whose saturation and damping wings are measurable: looser priors
_LIMITING_DEPTH = 0.65  # prior of unsaturated lines, which do not constrain it; metal lines of the SME grid: 0.6 to 0.8
_LOG_WING = -3.0  # wings of a twentieth of the core, as in weak lines of the SME grid
# Per parameter: center [in line widths], log_amplitude, log_sigma, log_gamma, logit_depth, log_wing. Chosen by the
# error at held-out nodes of the SME grid (windows of 50 to 400 angstrom) and of the PHOENIX H band. Looser priors of
# amplitude and depth let one broad line absorb a blend at some nodes
_PRIOR_WEAK, _PRIOR_STRONG = (0.3, 3.0, 0.3, 0.5, 0.25, 1.0), (0.5, 1.5, 0.4, 0.7, 0.12, 1.0)
_REACH_WEAK, _REACH_STRONG = (1.0, 3.0, 1.0, 2.0, 3.0, 3.0), (1.0, 4.0, 2.0, 3.0, 5.0, 4.0)
# of hydrogen, whose centers are known: in cool stars they would become wings of other lines
_PRIOR_WIDE, _REACH_WIDE = (0.03, 1.5, 0.7, 0.7, 0.5, 1.0), (0.15, 6.0, 3.0, 3.0, 5.0, 4.0)
_SHRINK = 0.1  # factor on the prior's widths once it is centred on the prediction
_NARROW, _WIDER = 4.0, 1.0  # widths of the usual line, and ln of how much wider such lines become beside hydrogen
_AROUND = 25  # widths of the usual line to either side of it, within which the flux reaches its level
_STEP = (0.5, 0.7, 0.7, 0.7, 0.7, 0.7)


class LinePrior(NamedTuple):
    """A linear prediction of line parameters."""

    pixels: np.ndarray  # pixels whose flux describes a spectrum, (n_features,), int64
    mean: np.ndarray  # mean logarithm of the flux there, (n_features,)
    components: np.ndarray  # principal, scaled so that scores have unit variance, (n_scores, n_features)
    bounds: np.ndarray  # smallest and largest score allowed, (2, n_scores)
    coefficients: np.ndarray  # A and B, (1 + n_scores, n_lines, n_parameters)
    leverage: float  # share of a training spectrum in its own prediction: at 1 this holds no information

    @classmethod
    def learn(cls, pixels, flux, theta):
        """Learn by least squares from fitted parameters `theta` (n_spectra, n_lines, n_parameters).

        `pixels` (n_features,) describe a spectrum; `flux` (n_spectra, n_features) is the flux there.
        """
        features = np.log(np.maximum(flux, _DARKEST))
        mean = features.mean(axis=0)
        features = features - mean
        # the Gram matrix is small; the signs of its vectors do not matter
        values, vectors = np.linalg.eigh(features @ features.T)
        keep = np.argsort(values)[::-1][: min(MAX_SCORES, len(values) - 1)]
        keep = keep[values[keep] > max(_SMALLEST**2 * values.max(), 1e-20)]
        scores = vectors[:, keep] * np.sqrt(len(flux))
        components = (scores / values[keep]).T @ features
        low, high = scores.min(axis=0, initial=0), scores.max(axis=0, initial=0)
        room = _BEYOND * (high - low)
        design = np.column_stack([np.ones(len(flux)), scores])
        coefficients = np.linalg.lstsq(design, theta.reshape(len(theta), -1), rcond=None)[0]
        coefficients = coefficients.reshape(design.shape[1], *theta.shape[1:])
        return cls(
            pixels, mean, components, np.stack([low - room, high + room]), coefficients, design.shape[1] / len(flux)
        )

    def to_state(self) -> dict:
        """State for a file: the fields by their names."""
        return self._asdict()

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        check_keys(state, cls._fields)
        sizes = Sizes()
        pixels = take_array(state, "pixels", dtype="i8", shape=("n_features",), sizes=sizes, low=0)
        mean = take_array(state, "mean", dtype="f8", shape=("n_features",), sizes=sizes)
        components = take_array(state, "components", dtype="f8", shape=("n_scores", "n_features"), sizes=sizes)
        bounds = take_array(state, "bounds", dtype="f8", shape=(2, "n_scores"), sizes=sizes)
        shape = (1 + sizes["n_scores"], None, None)
        coefficients = take_array(state, "coefficients", dtype="f8", shape=shape)
        leverage = take_number(state, "leverage", low=0)
        if (bounds[0] > bounds[1]).any():
            raise StateError("`bounds` has a lowest score above the highest; it must be the other way round.")
        return cls(pixels, mean, components, bounds, coefficients, leverage)

    def only(self, lines):
        """Select lines by a boolean mask or by indices."""
        return self._replace(coefficients=np.ascontiguousarray(self.coefficients[:, lines]))

    def predict(self, flux):
        """Line parameters (n_lines, n_parameters) of a spectrum, from its normalised flux (n_pixels,)."""
        features = np.log(np.maximum(flux[self.pixels], _DARKEST)) - self.mean
        scores = np.clip(self.components @ features, *self.bounds)
        return self.coefficients[0] + np.tensordot(scores, self.coefficients[1:], axes=1)


def blase_start(centers, prominences, widths, parameters):
    """Start values as in blase (n_lines, n_parameters), from wavelengths, prominences and widths of minima (n_lines,).

    Centers and widths (standard deviations) are in angstrom. For profiles with a limiting depth, the amplitude is the
    optical depth that gives the prominence.
    """
    widths = np.maximum(widths, np.finfo(np.float64).tiny)
    theta = [
        centers,
        np.log(AMPLITUDE_FACTOR * prominences),
        np.log(SIGMA_FACTOR * widths),
        np.log(GAMMA_FACTOR * widths),
    ]
    if "logit_depth" in parameters:
        depth = limiting_depth(prominences)
        share = np.clip(prominences / depth, 1e-9, 0.95)
        theta[1] = np.log(share / (1 - share))
        theta.append(np.log(depth / (1 - depth)))
    if "log_wing" in parameters:
        theta.append(np.full(len(centers), _LOG_WING))
    return np.stack(theta, axis=1)


def limiting_depth(depth):
    """Start value of the limiting depth of lines that are `depth` deep, dimensionless, shape (n_lines,)."""
    return np.maximum(_LIMITING_DEPTH, np.minimum(depth + 0.05, 0.97))


def second_order_start(centers, depths, prominences, widths, parameters, wide=False):
    """Start, prior and bounds of the second-order fit, each of shape (n_lines, n_parameters).

    `centers` (n_lines,) are in angstrom, `depths` those of this spectrum at the lines, `prominences` the largest of
    each line over all spectra, `widths` its median width [angstrom]; `wide` (n_lines,) are as wide as hydrogen's.
    """
    n_parameters = len(parameters)
    theta = blase_start(centers, np.clip(np.minimum(prominences, depths), 1e-3, 0.95), widths, parameters)
    if "log_wing" in parameters:
        limit = limiting_depth(np.clip(depths, 1e-3, 0.95))
        depth = np.clip(np.minimum(prominences, depths), 1e-3, 0.95)
        theta[:, 1] = np.log(depth / (limit - depth))
        theta[:, 2], theta[:, 3] = np.log(0.9 * widths), np.log(widths) + 1
        theta[:, 4] = np.log(limit / (1 - limit))
    strong, wide = (prominences > STRONG)[:, None], np.broadcast_to(wide, len(centers))[:, None]
    prior = np.where(wide, _PRIOR_WIDE, np.where(strong, _PRIOR_STRONG, _PRIOR_WEAK))[:, :n_parameters]
    reach = np.where(wide, _REACH_WIDE, np.where(strong, _REACH_STRONG, _REACH_WEAK))[:, :n_parameters]
    step = np.tile(_STEP, (len(centers), 1))[:, :n_parameters]
    for scale in (prior, reach, step):
        scale[:, 0] *= widths
    return Start(theta, prior, step, reach)


def first_guess(settings, flux):
    """Start, prior and bounds of all lines of the catalogue, (n_catalog_lines, n_parameters).

    They are from the prior for the lines that it predicts.
    """
    catalog, prior, wide = settings.catalog, settings.prior, settings.wide_lines
    depths, theta = 1 - flux[catalog.pixels], None
    if wide.any():
        depths = _depths_beside_wide_lines(settings, flux, wide)
    if prior is not None:
        theta = prior.predict(flux)
        if not catalog.predicted.all():
            # the depth of a new line is that of the residuals of the predicted lines
            residual = settings.render(theta) - flux
            depths = np.where(catalog.predicted, depths, residual[catalog.pixels])
    centers = settings.wavelength[catalog.pixels]
    start = second_order_start(centers, depths, catalog.prominences, catalog.widths, settings.line_parameters, wide)
    if wide.any():
        # narrow lines would widen from pass to pass, and share the profile of a wide one
        narrow = catalog.widths < _NARROW * np.median(catalog.widths)
        start.reach[narrow, 2:4] = np.minimum(start.reach[narrow, 2:4], _WIDER)
        if prior is not None:
            limit = np.where(narrow[:, None], start.theta[:, 2:4] + _WIDER, np.inf)[catalog.predicted]
            theta[:, 2:4] = np.minimum(theta[:, 2:4], limit)
    if prior is not None:
        start.theta[catalog.predicted] = theta
        start.prior_width[catalog.predicted] *= max(_SHRINK, prior.leverage)
    return start


def _depths_beside_wide_lines(settings, flux, wide):
    """Depths of the lines of the catalogue (n_catalog_lines,), where some are `wide`, in a spectrum (n_pixels,).

    Those of weak lines are relative to the flux around them, which wide lines lower. Wide lines, all of hydrogen, grow
    and fade together: the weakest one, which nothing else deepens, tells how strong they are.
    """
    pixels, prominences = settings.catalog.pixels, settings.catalog.prominences
    reach = _AROUND * np.median(settings.catalog.widths) / np.median(np.diff(settings.wavelength))
    size = 2 * int(reach) + 1
    level = uniform_filter1d(maximum_filter1d(flux, size), size)[pixels]
    depths = np.where(prominences > STRONG, 1 - flux[pixels], 1 - flux[pixels] / np.maximum(level, _DARKEST))
    depths[wide] = np.clip(np.min((1 - level[wide]) / prominences[wide]), 0, 1) * prominences[wide]
    return depths
