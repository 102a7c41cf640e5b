"""Derivatives of an observed spectrum with respect to single lines, as short runs of the detector's pixels.

They serve to linearise the faults of lines, and are computed line by line, in less time than one spectrum with its
derivatives: rotation, line spread and pixels act on them, stages in between do not.
"""

from typing import NamedTuple

import numpy as np
from scipy.fft import irfft

from stellarhml.kernels.forms import EXPONENTIAL, THIN
from stellarhml.kernels.fourier_broadening import GAUSS_REACH, light_reach, rotation_transform
from stellarhml.kernels.line_columns import KINDS, line_columns

_FAINT = 3e-4  # effect, in units of the continuum, at which the wing of a line is cut
_SHALLOW, _DEEP, _WIDE = 0.01, 3.0, 3.0  # depth at which a wide line ends; its optical depth; reach over broadening
_CORE, _STRONG = 0.3, 5e-5  # depth from which on a line is core; half width of this core in ln wavelength, if strong
_N_SHAPES = 8
_N_TABLE = 2048
_GROUP = 0.4  # pixels of the model within so many sigmas of the broadening are broadened as one
_GRAIN = 0.5  # pixels of the model: smallest sigma, so that points which stand for pixels do not show


class LineColumns(NamedTuple):
    """Derivatives of one order with respect to its lines.

    Line `line[i]` of the catalogue changes the pixels [start[i], stop[i]) of the order by the rows of `table` from
    `offset[i]` on, shape (n_values, 4): per unit of ln strength, of velocity [km/s], ln width and ln wing.
    """

    line: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    offset: np.ndarray
    table: np.ndarray

    def lines(self):
        """Line of each row of the table."""
        return np.repeat(self.line, self.stop - self.start)

    def pixels(self):
        """Pixel of each row of the table."""
        return np.repeat(self.start - self.offset, self.stop - self.start) + np.arange(len(self.table))

    def column(self, i, kind, n_pixels):
        """Derivative of all pixels with respect to one kind of the i-th line, (n_pixels,)."""
        column = np.zeros(n_pixels)
        n = self.stop[i] - self.start[i]
        column[self.start[i] : self.stop[i]] = self.table[self.offset[i] : self.offset[i] + n, kind]
        return column


def columns_of_order(lines, components, form, wavelength, flux, edges, *, vsini, limb_darkening, sigma):
    """LineColumns of one run of pixels.

    `lines` (n,) of the catalogue have `components` (n, 6), see `kernels.fused`, at the `wavelength` (n_model,) of the
    model `flux`; `edges` (n_pixels + 1,) are those of the detector in the same frame [angstrom]. `vsini` in units of c,
    `sigma` of the line-spread function in ln wavelength.
    """
    order = np.argsort(components[:, 0], kind="stable")
    lines, components = lines[order], components[order]
    center, lorentz, gamma, gauss, width, depth = components.T
    limit = np.where(depth > 0, depth, 1.0) / _FAINT
    reach = np.maximum(
        gamma * np.sqrt(np.maximum(lorentz * limit - 1, 0)),
        width * np.sqrt(2 * np.log(np.maximum(gauss * limit, 1))),
    )
    first, last = np.searchsorted(wavelength, [center - reach, center + reach])
    x, log_edges = np.log(wavelength), np.log(edges)
    pixel = np.median(np.diff(x))
    sigma = max(sigma, _GRAIN * pixel)
    broad = light_reach(vsini, sigma)
    start = np.searchsorted(log_edges, np.log(center - reach) - broad) - 1
    stop = np.searchsorted(log_edges, np.log(center + reach) + broad)
    start, stop = np.clip(start, 0, len(edges) - 1), np.clip(stop, 0, len(edges) - 1)
    kept = (last > first) & (stop > start)
    lines, components, first, last, start, stop = (a[kept] for a in (lines, components, first, last, start, stop))
    offset = np.concatenate([[0], np.cumsum(stop - start)]).astype(np.int64)
    table, step = _broadening(vsini, sigma, limb_darkening, broad)
    out = np.empty((offset[-1], len(KINDS)))
    group = max(int(_GROUP * sigma / pixel), 1)
    line_columns(
        x, flux, components, first, last, form, log_edges, broad, group, table, step, start, stop, offset[:-1], out
    )
    return LineColumns(lines, start, stop, offset[:-1], out)


def shapes_of_wide_lines(components, form, wavelength, broad):
    """Relative changes of the flux by errors of the profiles of wide lines, (n_pixels, n).

    Each column, which the flux multiplies, is minus the depth of a line over the flux that it leaves, times a triangle:
    an eighth of the line's reach wide on each side of its middle. Lines are wide if they reach far compared with
    rotation and line spread, which extend to `broad` in ln wavelength. `components` and `wavelength` in the same frame.
    """
    center, lorentz, gamma, gauss, width, depth = components.T
    deep = np.where(depth > 0, depth, 1.0)
    reach = gamma * np.sqrt(np.maximum(lorentz * deep / _SHALLOW - 1, 0))
    wide = (lorentz + gauss > _DEEP) & (reach > _WIDE * broad * center)
    wide &= (center + reach > wavelength[0]) & (center - reach < wavelength[-1])
    columns = []
    for i in np.flatnonzero(wide):
        inside = slice(*np.searchsorted(wavelength, [center[i] - reach[i], center[i] + reach[i]]))
        x = wavelength[inside] - center[i]
        v = lorentz[i] / (1 + (x / gamma[i]) ** 2) + gauss[i] * np.exp(-0.5 * (x / width[i]) ** 2)
        # the depth of the line over the flux that it leaves
        relative = line_ratio(v, depth[i], form)
        step = reach[i] / _N_SHAPES
        for k in range(-_N_SHAPES, _N_SHAPES + 1):
            triangle = np.maximum(1 - np.abs(x / step - k), 0.0)
            if np.count_nonzero(triangle) > 2:
                column = np.zeros(len(wavelength))
                column[inside] = -relative * triangle
                columns.append(column)
    return np.column_stack(columns) if columns else np.empty((len(wavelength), 0))


def cores_of_strong_lines(components, form, wavelength, broad):
    """Pixels in the cores of strong lines, (n_pixels,) bool, such as those of the calcium triplet.

    Strong is a line that is deeper than 0.3 of the continuum over 30 km/s; its core extends further by half of `broad`.
    Arguments as of `shapes_of_wide_lines`.
    """
    center, lorentz, gamma, gauss, width, depth = components.T
    core, half = np.zeros(len(wavelength), dtype=bool), np.zeros(len(center))
    for step in np.arange(_STRONG, 100 * _STRONG, _STRONG / 10):
        x = step * center
        v = lorentz / (1 + (x / gamma) ** 2) + gauss * np.exp(-0.5 * (x / width) ** 2)
        ratio = line_ratio(v, depth, form)
        inside = ratio > _CORE * (1 + ratio)
        if not inside.any():
            break
        half[inside] = step
    for i in np.flatnonzero(half):
        ends = center[i] * np.exp(np.array([-1, 1]) * (half[i] + broad / 2))
        core[slice(*np.searchsorted(wavelength, ends))] = True
    return core


def line_ratio(v, depth, form):
    """Depth of a line with optical depth v, in units of the flux that it leaves."""
    if form == THIN:
        return v / np.maximum(1 - v, 1e-3)
    if form == EXPONENTIAL:
        lost = depth * -np.expm1(-v)
    else:
        lost = depth * v / (1 + v)
    return lost / np.maximum(1 - lost, 1e-3)


def _broadening(vsini, sigma, limb_darkening, reach):
    """Integral of rotation and line spread from -`reach` to `reach`, at equal steps, and the step."""
    sigma = max(sigma, reach / GAUSS_REACH / 50)
    step = 2 * reach / _N_TABLE
    k = 2 * np.pi * np.arange(_N_TABLE + 1) / (4 * reach)
    waves = np.exp(-0.5 * (k * sigma) ** 2)
    if vsini:
        waves = waves * rotation_transform(k * vsini, limb_darkening)[0]
    density = np.fft.fftshift(irfft(waves, 2 * _N_TABLE))[_N_TABLE // 2 : _N_TABLE // 2 + _N_TABLE + 1]
    total = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return total / total[-1], step
