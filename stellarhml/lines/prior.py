r"""Where a fit begins, learnt from spectra that were fitted already.

The parameters of all lines of a spectrum are predicted from a few numbers that describe the spectrum as a whole: the
scores :math:`z_m` of its leading principal components (of the logarithm of the flux at the lines that were detected),
:math:`\theta_{jk} \approx A_{jk} + \sum_m z_m B_{mjk}`. As spectra vary smoothly over a grid, so does the prediction.
As a prior it makes the fitted parameters smooth, and as a start it takes the place of a neighbour's solution, for any
spectrum and without its labels.
"""

from typing import NamedTuple

import numpy as np

MAX_SCORES = 4
_DARKEST = 0.02  # flux below which the logarithm is cut
_SMALLEST = 1e-3  # of the largest singular value: components below are noise
_BEYOND = 0.1  # how far scores may leave the range of the training spectra, in units of that range


class LinePrior(NamedTuple):
    """A linear prediction of line parameters."""

    pixels: np.ndarray
    """Pixels whose flux describes a spectrum, shape (n_features,)."""
    mean: np.ndarray
    """Mean logarithm of the flux there, shape (n_features,)."""
    components: np.ndarray
    """Principal components, scaled so that the scores have unit variance, shape (n_scores, n_features)."""
    bounds: np.ndarray
    """Smallest and largest score allowed, shape (2, n_scores)."""
    coefficients: np.ndarray
    """A and B, shape (1 + n_scores, n_lines, n_parameters)."""
    leverage: float
    """Share that a training spectrum has in its own prediction: 1 says that the prediction teaches nothing."""

    @classmethod
    def learn(cls, pixels, flux, theta):
        """Learn from fitted spectra.

        Parameters
        ----------
        pixels : ndarray of shape (n_features,), int64
            Pixels that describe a spectrum.
        flux : ndarray of shape (n_spectra, n_features)
            Flux there.
        theta : ndarray of shape (n_spectra, n_lines, n_parameters)
            Fitted parameters.

        Returns
        -------
        prior : LinePrior
            The prediction, by least squares.
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

    def predict(self, flux):
        """Line parameters of a spectrum.

        Parameters
        ----------
        flux : ndarray of shape (n_pixels,)
            Normalised flux.

        Returns
        -------
        theta : ndarray of shape (n_lines, n_parameters)
            Predicted parameters.
        """
        features = np.log(np.maximum(flux[self.pixels], _DARKEST)) - self.mean
        scores = np.clip(self.components @ features, *self.bounds)
        return self.coefficients[0] + np.tensordot(scores, self.coefficients[1:], axes=1)
