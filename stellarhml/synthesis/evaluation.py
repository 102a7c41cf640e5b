"""Evaluation of a fitted generator at given weights of its nodes: lines, flux, error and derivatives."""

import numpy as np

from stellarhml.kernels.interpolation import interpolate_cubic
from stellarhml.kernels.rendering import line_components, line_windows, render_lines, render_lines_tangents, render_many
from stellarhml.physics.wavelength import doppler_shift

TOLERANCE = 1e-6
"""Largest error of rendering, in units of the continuum."""

SPAN_TOLERANCE = 1e-7
"""Effect of a line at the ends of its span, in units of the continuum: all lines left out add up to 1e-6."""

_REACH_NODES = 8  # nodes at which the extent of each line is measured
_REACH_MARGIN = 1.3  # factor, since lines may extend further between these nodes


class LineModel:
    """Lines of a grid, interpolated by `interpolator` and rendered on `wavelength` (n_pixels,) float64 [angstrom].

    `wing_cut` is the number of pixels on which a line is evaluated; None takes as many as `TOLERANCE` requires. `span`
    (n_lines, 2) [angstrom] is the range in which each line has an effect at any node; None measures it if there is no
    `wing_cut`.
    """

    def __init__(self, interpolator, wavelength, *, profile, wing_cut, span=None):
        self.interpolator, self.wavelength, self.profile, self.wing_cut = interpolator, wavelength, profile, wing_cut
        self.span = span
        if span is None and wing_cut is None and len(wavelength):
            self.span = self._measure_span()

    def lines(self, weights, slopes=None, pixels=None, rv=0.0, change=None):
        """Lines that have an effect on given pixels, as `LineBank.lines_at` returns them: lines, theta, slopes.

        `weights` of the training rows, csr_matrix (1, n_rows); `slopes`, one such matrix for each label; `pixels`, a
        slice or increasing indices, None for all lines; `rv` [km/s]; `change` takes lines, theta and slopes, and
        returns changed theta and slopes.
        """
        wanted = None
        if self.span is not None and pixels is not None:
            wavelength = self._rest(pixels, rv)
            low, high = (wavelength[0], wavelength[-1]) if len(wavelength) else (0.0, 0.0)
            wanted = np.flatnonzero((self.span[:, 1] >= low) & (self.span[:, 0] <= high))
        lines, theta, slopes = self.interpolator.lines_at(weights, slopes, wanted=wanted)
        return (lines, theta, slopes) if change is None else (lines, *change(lines, theta, slopes))

    def render(self, weights, pixels=slice(None), rv=0.0, change=None):
        """Product of the lines, shape (n_wanted,) float64; arguments as in `lines`."""
        _, theta, _ = self.lines(weights, pixels=pixels, rv=rv, change=change)
        if self.wing_cut is not None:  # the window of a line is counted in pixels of the whole grid
            return self._render(render_lines, self._rest(slice(None), rv), theta)[pixels]
        return self._render(render_lines, self._rest(pixels, rv), theta)

    def render_many(self, weights, pixels, device):
        """Products of the lines of many spectra on a GPU, shape (n, n_wanted) float64; as `render` up to rounding.

        `weights` of the training rows, csr_matrix (n, n_rows); `device` such as "cuda".
        """
        whole = self.wing_cut is not None
        wavelength = self.wavelength if whole else self.wavelength[pixels]
        thetas = [self.lines(weights[i], pixels=None if whole else pixels)[1] for i in range(weights.shape[0])]
        flux = render_many(
            wavelength, thetas, profile=self.profile, wing_cut=self.wing_cut, tolerance=TOLERANCE, device=device
        )
        return flux[:, pixels] if whole else flux

    def render_jacobian(self, weights, slopes, pixels=slice(None), rv=0.0, change=None):
        """Product of the lines (n_wanted,), and its derivatives (n_slopes, n_wanted), both float64.

        Derivatives are those with respect to the labels, and to what else `change` depends on.
        """
        _, theta, slopes = self.lines(weights, slopes, pixels, rv, change)
        if self.wing_cut is not None:
            flux, jacobian = self._render(render_lines_tangents, self._rest(slice(None), rv), theta, slopes)
            return flux[pixels], jacobian[:, pixels]
        return self._render(render_lines_tangents, self._rest(pixels, rv), theta, slopes)

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


def generate(generator, labels, weights, pixels=None, rv=None, return_std=False, change=None):
    """Fluxes and, with `return_std`, standard deviations: a list of arrays of shape (n, n_wanted) float64.

    `labels` (n, n_labels); `weights` of the training rows, csr_matrix (n, n_rows); `change` of the lines as in
    `LineModel.lines`; the rest as in `SpectrumGenerator.predict`.
    """
    pixels, rv = _check_pixels(generator, pixels), _check_rv(rv, weights.shape[0])
    if return_std and generator.error_map_ is None:
        raise ValueError(
            "`return_std` needs the generator's error, but this generator was built from lines without spectra, and "
            "its error is unknown. Fit a generator to spectra, or leave `return_std` out."
        )
    mixture = generator.interpolator_.split_at_breaks(labels)
    if mixture is None:
        return _generate(generator, labels, weights, pixels, rv, return_std, change)
    weights, _ = generator.interpolator_.locate(mixture.labels)
    parts = _generate(generator, mixture.labels, weights, pixels, rv[mixture.row], return_std, change)
    return [mixture.mix(part) for part in parts]


def _generate(generator, labels, weights, pixels, rv, return_std, change):
    """As `generate`, for labels outside cells with a jump."""
    rows = split_rows(weights)
    flux = _lines(generator, weights, rows, pixels, rv, change)
    for i, row in enumerate(rows):
        flux[i] += _residual(generator, row, pixels, rv[i])
    if not return_std:
        return [flux]
    filled = generator.interpolator_.fill_weights(labels)[:, None]
    std = [_std(generator, row, pixels, *rest) for row, *rest in zip(rows, rv, filled, strict=True)]
    return [flux, np.concatenate(std or [flux])]


def expected_error(generator, labels, pixels=slice(None)):
    """Standard deviations of spectra at `labels` (n, n_labels), shape (n, n_wanted).

    Labels outside the grid are moved to its nearest point. The generator must have an error map.
    """
    interpolator = generator.interpolator_
    return generator.error_map_.std(interpolator.locate(labels)[0], pixels, interpolator.fill_weights(labels))


def generate_jacobian(generator, labels, pixels=None, rv=None):
    """Derivatives of spectra with respect to the labels, shape (n, n_wanted, n_labels) float64."""
    return generate_with_jacobian(generator, labels, pixels, rv)[1]


def generate_with_jacobian(generator, labels, pixels=None, rv=None, change=None):
    """Fluxes (n, n_wanted) and their derivatives with respect to the labels (n, n_wanted, n_labels), both float64.

    Derivatives with respect to what else a `change` of the lines depends on follow those of the labels.
    """
    pixels, rv = _check_pixels(generator, pixels), _check_rv(rv, len(labels))
    interpolator = generator.interpolator_
    mixture = interpolator.split_at_breaks(labels)
    if mixture is None:
        return _jacobian(generator, interpolator.locate(labels, derivatives=True), pixels, rv, change)
    rv = rv[mixture.row]
    flux, jacobian = _jacobian(generator, interpolator.locate(mixture.labels, derivatives=True), pixels, rv, change)
    return mixture.mix(flux), mixture.mix_jacobian(flux, jacobian)


def _jacobian(generator, located, pixels, rv, change):
    """Fluxes and their derivatives, for labels outside cells with a jump."""
    weights, _, slopes = located
    fluxes, jacobians = [], []
    for i, (row, *own) in enumerate(zip(split_rows(weights), *map(split_rows, slopes), strict=True)):
        flux, jacobian = generator.lines_.render_jacobian(row, own, pixels, rv[i], change)
        fluxes.append(flux + _residual(generator, row, pixels, rv[i]))
        for k, slope in enumerate(own):
            jacobian[k] += _residual(generator, slope, pixels, rv[i], slopes=True)
        jacobians.append(jacobian.T)
    if not fluxes:
        n_wanted = len(generator.wavelength_[pixels])
        return np.empty((0, n_wanted)), np.empty((0, n_wanted, len(slopes)))
    return np.stack(fluxes), np.stack(jacobians)


def _lines(generator, weights, rows, pixels, rv, change):
    """Product of the lines, shape (n, n_wanted)."""
    n_wanted = len(generator.wavelength_[pixels])
    if generator.device is not None and n_wanted and not rv.any() and change is None:
        return generator.lines_.render_many(weights, pixels, generator.device)
    flux = np.empty((len(rows), n_wanted))
    for i, row in enumerate(rows):
        flux[i] = generator.lines_.render(row, pixels, rv[i], change)
    return flux


def _residual(generator, weights, pixels, rv, *, slopes=False):
    """Residual of the line model, shape (n_wanted,); NaN outside the band."""
    residual, wavelength = generator.residual_, generator.wavelength_
    if not rv:
        return 0.0 if residual is None else residual.at(weights, pixels, slopes=slopes)[0]
    rest = wavelength[pixels] / doppler_shift(1.0, rv)
    outside = (rest < wavelength[0]) | (rest > wavelength[-1])
    if residual is None:
        return np.where(outside, np.nan, 0.0)
    near = _around(wavelength, rest)
    values = residual.at(weights, near, slopes=slopes)[0].astype(np.float64)
    return np.where(outside, np.nan, interpolate_cubic(wavelength[near], values, rest))


def _std(generator, weights, pixels, rv, filled):
    """Standard deviations, shape (1, n_wanted); with a radial velocity, those of the nearest pixels."""
    if not rv:
        return generator.error_map_.std(weights, pixels, filled)
    wavelength = generator.wavelength_
    rest = wavelength[pixels] / doppler_shift(1.0, rv)
    nearest = np.searchsorted((wavelength[1:] + wavelength[:-1]) / 2, rest)
    std = generator.error_map_.std(weights, nearest, filled)
    std[:, (rest < wavelength[0]) | (rest > wavelength[-1])] = np.nan
    return std


def _around(wavelength, rest):
    """Pixels that surround given wavelengths, two to each side, as a slice."""
    if not len(rest):
        return slice(0, 0)
    first, last = np.searchsorted(wavelength, rest[[0, -1]])
    return slice(max(min(first, len(wavelength)) - 3, 0), last + 3)


def _check_pixels(generator, pixels):
    """Pixels as a slice of step 1 or increasing indices."""
    n_pixels = len(generator.wavelength_)
    if pixels is None:
        return slice(0, n_pixels)
    if isinstance(pixels, slice):
        first, last, step = pixels.indices(n_pixels)
        if step == 1:
            return slice(first, max(first, last))
        pixels = np.arange(n_pixels)[pixels]
    pixels = np.asarray(pixels)
    if pixels.dtype == bool and pixels.shape == (n_pixels,):
        pixels = np.flatnonzero(pixels)
    if pixels.ndim != 1 or (len(pixels) and not np.issubdtype(pixels.dtype, np.integer)):
        raise ValueError(
            f"`pixels` has shape {pixels.shape} and dtype {pixels.dtype}; it needs a slice, indices, or a mask of the "
            f"{n_pixels} pixels of `wavelength_`."
        )
    if len(pixels) and (pixels[0] < 0 or pixels[-1] >= n_pixels or (np.diff(pixels) <= 0).any()):
        raise ValueError(
            f"`pixels` must increase strictly from 0 to at most {n_pixels - 1}, but they go from {pixels[0]} to "
            f"{pixels[-1]}. Sort them, and leave out duplicates."
        )
    return pixels.astype(np.int64)


def _check_rv(rv, n):
    """Radial velocities, shape (n,)."""
    rv = np.asarray(0.0 if rv is None else rv, dtype=np.float64)
    if rv.shape not in ((), (n,)) or not np.isfinite(rv).all() or (np.abs(rv) > 3e4).any():
        raise ValueError(
            f"`rv` has shape {rv.shape} and values {np.array2string(rv, threshold=4)}; it needs one finite radial "
            f"velocity in km/s, of at most 30,000, for all or for each of the {n} spectra."
        )
    return np.broadcast_to(rv, (n,))
