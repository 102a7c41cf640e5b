"""Grid: the spectra of a grid and their lines, window by window."""

from typing import NamedTuple

import numpy as np

_WINDOW = 8192
"""Pixels of a window, a multiple of `kernels.combine.BLOCK`."""


class Grid(NamedTuple):
    """What the passes over a grid need.

    Attributes
    ----------
    lines : LineModel
        The lines.
    flux : ndarray of shape (n_rows, n_pixels)
        Normalised fluxes; may be a memory map.
    weights : csr_matrix of shape (n_rows, n_rows)
        Weights at the labels of the rows themselves.
    """

    lines: object
    flux: np.ndarray
    weights: object

    def windows(self):
        """Windows of pixels, as slices."""
        n_pixels = self.flux.shape[1]
        return [slice(first, min(first + _WINDOW, n_pixels)) for first in range(0, n_pixels, _WINDOW)]

    def render(self, weights, pixels):
        """Lines at several weights on a window, shape (n, n_wanted)."""
        rows = [self.lines.render(weights[i], pixels) for i in range(weights.shape[0])]
        return np.stack(rows) if rows else np.empty((0, pixels.stop - pixels.start))

    def left_over(self, pixels):
        """Flux less lines of all rows on a window, shape (n_rows, n_wanted), float64."""
        return self.flux[:, pixels] - self.render(self.weights, pixels)
