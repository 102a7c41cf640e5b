"""LineModel: the lines at given weights of the nodes, rendered on any pixels."""

import numpy as np

from stellarhml.kernels.rendering import line_components, line_windows, render_lines, render_lines_tangents, render_many
from stellarhml.physics.wavelength import doppler_shift

TOLERANCE = 1e-6
"""Error of the flux that rendering may make."""

SPAN_TOLERANCE = 1e-7
"""Effect of a line at which its span ends: what all lines beyond the span of a window do to it adds up to 1e-6."""

_REACH_NODES = 8  # nodes at which the reach of each line is measured
_REACH_MARGIN = 1.3  # lines may reach further between them


class LineModel:
    """Lines of a grid, interpolated and rendered.

    Parameters
    ----------
    interpolator : LineManifoldInterpolator
        Fitted on lines.
    wavelength : ndarray of shape (n_pixels,), float64
        Wavelengths of the grid's pixels, in angstrom.
    profile : str
        Name of the line profile.
    wing_cut : int or None
        Pixels on which a line is evaluated. None: as far as the tolerance of rendering requires.
    span : ndarray of shape (n_lines, 2), default=None
        Wavelengths between which each line has an effect at any node. None measures it, where there is no `wing_cut`.
    """

    def __init__(self, interpolator, wavelength, *, profile, wing_cut, span=None):
        self.interpolator, self.wavelength, self.profile, self.wing_cut = interpolator, wavelength, profile, wing_cut
        self.span = span
        if span is None and wing_cut is None and len(wavelength):
            self.span = self._measure_span()

    def lines(self, weights, slopes=None, pixels=None, rv=0.0):
        """Lines that have an effect on given pixels.

        Parameters
        ----------
        weights : csr_matrix of shape (1, n_rows)
            Weights of the training rows.
        slopes : list of csr_matrix of shape (1, n_rows), default=None
            Derivatives of the weights with respect to each label.
        pixels : slice or ndarray of int, default=None
            Pixels, in increasing order. None: all lines, wherever they are.
        rv : float, default=0.0
            Radial velocity in km/s.

        Returns
        -------
        lines, theta, slopes : ndarray
            As from `LineBank.lines_at`.
        """
        wanted = None
        if self.span is not None and pixels is not None:
            wavelength = self._rest(pixels, rv)
            low, high = (wavelength[0], wavelength[-1]) if len(wavelength) else (0.0, 0.0)
            wanted = np.flatnonzero((self.span[:, 1] >= low) & (self.span[:, 0] <= high))
        return self.interpolator.lines_at(weights, slopes, wanted=wanted)

    def render(self, weights, pixels=slice(None), rv=0.0):
        """Render the lines.

        Parameters
        ----------
        weights, pixels, rv : csr_matrix, slice or ndarray of int, float
            As in `lines`.

        Returns
        -------
        flux : ndarray of shape (n_wanted,), float64
            Product of the lines.
        """
        _, theta, _ = self.lines(weights, pixels=pixels, rv=rv)
        if self.wing_cut is not None:  # windows are counted in pixels of the whole grid
            return self._render(render_lines, self._rest(slice(None), rv), theta)[pixels]
        return self._render(render_lines, self._rest(pixels, rv), theta)

    def render_many(self, weights, pixels, device):
        """Render the lines of many spectra on a GPU.

        Parameters
        ----------
        weights : csr_matrix of shape (n, n_rows)
            Weights of the training rows.
        pixels : slice or ndarray of int
            As in `lines`.
        device : str
            Where to render, such as "cuda".

        Returns
        -------
        flux : ndarray of shape (n, n_wanted), float64
            Products of the lines, to rounding those of `render`.
        """
        whole = self.wing_cut is not None
        wavelength = self.wavelength if whole else self.wavelength[pixels]
        thetas = [self.lines(weights[i], pixels=None if whole else pixels)[1] for i in range(weights.shape[0])]
        flux = render_many(
            wavelength, thetas, profile=self.profile, wing_cut=self.wing_cut, tolerance=TOLERANCE, device=device
        )
        return flux[:, pixels] if whole else flux

    def render_jacobian(self, weights, slopes, pixels=slice(None), rv=0.0):
        """Render the lines and their derivatives with respect to the labels.

        Parameters
        ----------
        weights, slopes, pixels, rv : csr_matrix, list of csr_matrix, slice or ndarray of int, float
            As in `lines`.

        Returns
        -------
        flux : ndarray of shape (n_wanted,), float64
            Product of the lines.
        jacobian : ndarray of shape (n_labels, n_wanted), float64
            Its derivatives.
        """
        _, theta, change = self.lines(weights, slopes, pixels, rv)
        if self.wing_cut is not None:
            flux, jacobian = self._render(render_lines_tangents, self._rest(slice(None), rv), theta, change)
            return flux[pixels], jacobian[:, pixels]
        return self._render(render_lines_tangents, self._rest(pixels, rv), theta, change)

    def _render(self, function, wavelength, *lines):
        return function(wavelength, *lines, profile=self.profile, wing_cut=self.wing_cut, tolerance=TOLERANCE)

    def _rest(self, pixels, rv):
        """Wavelengths of pixels in the frame of the star."""
        wavelength = np.asarray(self.wavelength)[pixels]  # indexing a memory map takes microseconds more
        return wavelength / doppler_shift(1.0, rv) if rv else wavelength

    def _measure_span(self):
        """Wavelengths between which each line has an effect at any node, with a margin, shape (n_lines, 2)."""
        table = self.interpolator.table_
        center = table.origin[:, 0]
        reach = np.zeros(len(center))
        last = len(self.wavelength) - 1
        for node in np.unique(np.linspace(0, table.n_nodes - 1, _REACH_NODES).round().astype(int)):
            lines, theta = table.at_node(node)
            components = line_components(theta, self.profile)
            start, stop = line_windows(self.wavelength, components, None, tolerance=SPAN_TOLERANCE)
            edges = self.wavelength[np.clip(np.stack([start - 1, stop]), 0, last)]
            reach[lines] = np.maximum(reach[lines], np.abs(edges - center[lines]).max(axis=0))
        reach *= _REACH_MARGIN
        return np.stack([center - reach, center + reach], axis=1)


def split_rows(table):
    """Rows of a sparse matrix, each of shape (1, n_columns)."""
    return [table] if table.shape[0] == 1 else [table[i] for i in range(table.shape[0])]
