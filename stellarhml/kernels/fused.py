r"""Product of spectral lines and its derivatives, compiled by numba.

Every profile of the package is, per line, one Lorentzian plus one Gaussian,

.. math:: v(\lambda) = \frac{A_L}{1 + (x/g)^2} + A_G\,e^{-x^2/2s^2}, \qquad x = \lambda - c,

and enters the spectrum :math:`S = \prod_j f_j` in one of three forms: `THIN`, :math:`f = 1 - v` with f at least 1e-9;
`EXPONENTIAL`, an optical depth under a limiting depth D, :math:`f = 1 - D (1 - e^{-v})`; `MINNAERT`,
:math:`f = 1 - D\,v / (1 + v)`. The six numbers (c, A_L, g, A_G, s, D) of a line are its *components*; how a profile
turns its own parameters into components is said in `kernels.profiles`.

A line is evaluated on its window of pixels only, its Gaussian only where it exceeds e^-40 of its peak, and far from its
center the line is interpolated (`kernels.cells`), which changes ln S by 1e-11 or less. Work goes block by block, of
about 4,096 pixels that stay in the processor's cache. Each block is summed up in one fixed order by one thread, so that
the result has the same bits for any number of threads. Memory is linear in pixels plus lines.
"""

import numpy as np

from stellarhml.kernels.cells import (
    DEPTH,
    LEAF_PIXELS,
    LEAVES,
    core_of,
    cover,
    far_from,
    pass_down,
    pass_up,
    place,
)
from stellarhml.kernels.forms import (
    NODES,
    compiled,
    exp,
    gradient_of,
    multiply_core,
    multiply_nodes,
    multiply_wing,
    rational,
    slopes,
    sum_core,
    sum_nodes,
    sum_wing,
)
from stellarhml.kernels.threads import in_threads


def render(wavelength, components, start, stop, form, *, n_threads=1, every_pixel=False, tolerance=0.0):
    """Multiply all lines into a spectrum.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,), float64
        Increasing wavelengths in angstrom.
    components : ndarray of shape (n_lines, 6), float64
        Center [angstrom], Lorentz peak, Lorentz half width [angstrom], Gauss peak,
        Gauss standard deviation [angstrom], limiting depth.
    start, stop : ndarray of shape (n_lines,), int64
        Window of pixels of each line, [start, stop).
    form : {THIN, EXPONENTIAL, MINNAERT}
        How a line enters the product.
    n_threads : int, default=1
        Threads; the result does not depend on it.
    every_pixel : bool, default=False
        Whether to evaluate lines on every pixel, instead of interpolating far wings.
    tolerance : float, default=0.0
        Change of the flux that is allowed to one line, where its Gaussian ends and its wings are interpolated, for
        speed. 0: the last digits of float64, as in `gradient`.

    Returns
    -------
    flux : ndarray of shape (n_pixels,), float64
        The product, 1 where there is no line.
    """
    blocks = Blocks(wavelength, components, start, stop, every_pixel, tolerance)
    flux = np.ones(blocks.wavelength.size)
    blocks.run(_render, n_threads, form, flux)
    return flux


def gradient(wavelength, components, start, stop, weight, form, *, n_threads=1, every_pixel=False):
    """Gradient of a scalar loss with respect to the components of every line.

    Parameters
    ----------
    wavelength, components, start, stop, form, n_threads, every_pixel : ndarray, int, bool
        As in `render`.
    weight : ndarray of shape (n_pixels,), float64
        dloss/dflux times flux, pixel by pixel.

    Returns
    -------
    grad : ndarray of shape (n_lines, 6), float64
        dloss/dcomponents.
    """
    blocks = Blocks(wavelength, components, start, stop, every_pixel)
    sums = np.zeros((blocks.lines.size, 7))
    blocks.run(_sum, n_threads, form, np.require(weight, np.float64, ["C", "W"]), sums)
    n_lines = len(blocks.components)
    return gradient_of(blocks.components, [np.bincount(blocks.lines, part, n_lines) for part in sums.T])


class Blocks:
    """Blocks of pixels, and which lines have pixels in each."""

    def __init__(self, wavelength, components, start, stop, every_pixel, tolerance=0.0):
        # joblib hands read-only arrays to its workers, for which numba would compile everything again
        self.wavelength = np.require(wavelength, np.float64, ["C", "W"])
        self.components = np.require(components, np.float64, ["C", "W"])
        self.start, self.stop = (np.require(part, np.int64, ["C", "W"]) for part in (start, stop))
        self.origin, self.width, self.bounds = _blocks_of(self.wavelength)
        self.offset, self.lines = _lines_of_blocks(self.start, self.stop, self.bounds)
        self.far = np.empty((len(self.components), DEPTH + 2))
        far_from(self.components, self.width, tolerance, self.far)
        if every_pixel:
            self.far[:, :-1] = np.inf

    def run(self, kernel, n_threads, form, *arrays):
        """Run a kernel on all blocks."""

        def some(first, last):
            kernel(
                self.wavelength,
                self.components,
                self.start,
                self.stop,
                self.far,
                self.bounds,
                self.offset,
                self.lines,
                self.origin,
                self.width,
                form,
                *arrays,
                first,
                last,
            )

        in_threads(some, len(self.bounds) - 1, n_threads)


def _blocks_of(wavelength):
    """First wavelength, width of a leaf, and the pixels at which blocks begin."""
    n_pixels = wavelength.size
    origin = wavelength[0] if n_pixels else 0.0
    extent = wavelength[-1] - origin if n_pixels > 1 else 1.0
    width = LEAF_PIXELS * extent / max(n_pixels - 1, 1)
    n_blocks = int(extent / (width * LEAVES)) + 1
    bounds = np.searchsorted(wavelength, origin + width * LEAVES * np.arange(n_blocks + 1))
    bounds[0], bounds[-1] = 0, n_pixels
    return origin, width, bounds


def whole_blocks(wavelength, start, stop):
    """Widen windows to blocks of pixels: large cells take less time than the small ones at the end of a window.

    Parameters
    ----------
    wavelength, start, stop : ndarray
        As in `render`.

    Returns
    -------
    start, stop : ndarray of shape (n_lines,), int64
        The windows, where they are not empty, up to the next ends of blocks.
    """
    _, _, bounds = _blocks_of(wavelength)
    if not wavelength.size:
        return start, stop
    first = bounds[np.searchsorted(bounds, np.minimum(start, wavelength.size - 1), side="right") - 1]
    return np.where(start < stop, first, start), np.where(start < stop, bounds[np.searchsorted(bounds, stop)], stop)


@compiled
def _lines_of_blocks(start, stop, bounds):
    """Lines with pixels in block b, lines[offset[b]:offset[b + 1]], in increasing order."""
    first, last = np.zeros(len(start), np.int64), np.zeros(len(start), np.int64)
    offset = np.zeros(len(bounds), np.int64)
    b, end = 0, 1
    for line in range(len(start)):  # most are in order, so that the block of one is next to that of the one before
        if start[line] < stop[line]:
            while bounds[b + 1] <= start[line]:
                b += 1
            while bounds[b] > start[line]:
                b -= 1
            while bounds[end] < stop[line]:
                end += 1
            while bounds[end - 1] >= stop[line]:
                end -= 1
            for block in range(b, end):
                offset[block + 1] += 1
            first[line], last[line] = b, end
    for block in range(1, len(bounds)):
        offset[block] += offset[block - 1]
    filled, lines = offset.copy(), np.empty(offset[-1], np.int64)
    for line in range(len(start)):
        if start[line] < stop[line]:
            for block in range(first[line], last[line]):
                lines[filled[block]] = line
                filled[block] += 1
    return offset, lines


@compiled
def _render(
    wavelength, components, start, stop, far, bounds, offset, lines, origin, width, form, flux, first_block, last_block
):
    """`render` on some blocks."""
    edge, cells, runs = np.empty(LEAVES + 1, np.int64), np.empty(LEAVES, np.int64), np.empty((3, 2), np.int64)
    where, nodes = np.empty((2 * LEAVES, 2)), np.empty(2 * LEAVES * NODES)
    for b in range(first_block, last_block):
        left = origin + b * LEAVES * width
        place(wavelength, bounds[b], bounds[b + 1], left, width, edge, where)
        for n in range(nodes.size):
            nodes[n] = 1.0
        n_used = 0
        for entry in range(offset[b], offset[b + 1]):
            j = lines[entry]
            c, al, g, ag, s, d = components[j]
            lo, hi = max(start[j], bounds[b]), min(stop[j], bounds[b + 1])
            core = core_of(wavelength, edge, left, width, lo, hi, c, far[j, DEPTH + 1])
            n_cells, n_runs = cover(edge, left, width, lo, hi, c, far[j], cells, runs)
            n_used += n_cells
            for k in range(n_runs):
                lo, hi = runs[k, 0], runs[k, 1]
                first, last = min(max(core[0], lo), hi), min(max(core[1], lo), hi)
                multiply_core(wavelength, flux, first, last, c, al, g, ag, s, d, form)
                multiply_wing(wavelength, flux, lo, first, c, al, g, d, form)
                multiply_wing(wavelength, flux, last, hi, c, al, g, d, form)
            for k in range(n_cells):
                cell = cells[k]
                multiply_nodes(nodes, cell * NODES, where[cell, 0], where[cell, 1], c, al, g, d, form)
        if n_used > 0:
            pass_down(nodes, wavelength, edge, left, width, flux)


@compiled
def _sum(
    wavelength,
    components,
    start,
    stop,
    far,
    bounds,
    offset,
    lines,
    origin,
    width,
    form,
    weight,
    sums,
    first_block,
    last_block,
):
    """Sums of `gradient` on some blocks, for each line of each block."""
    edge, cells, runs = np.empty(LEAVES + 1, np.int64), np.empty(LEAVES, np.int64), np.empty((3, 2), np.int64)
    where, nodes = np.empty((2 * LEAVES, 2)), np.empty(2 * LEAVES * NODES)
    for b in range(first_block, last_block):
        left = origin + b * LEAVES * width
        place(wavelength, bounds[b], bounds[b + 1], left, width, edge, where)
        gathered = False
        for entry in range(offset[b], offset[b + 1]):
            j = lines[entry]
            c, al, g, ag, s, d = components[j]
            lo, hi = max(start[j], bounds[b]), min(stop[j], bounds[b + 1])
            own = sums[entry]
            core = core_of(wavelength, edge, left, width, lo, hi, c, far[j, DEPTH + 1])
            n_cells, n_runs = cover(edge, left, width, lo, hi, c, far[j], cells, runs)
            for k in range(n_runs):
                lo, hi = runs[k, 0], runs[k, 1]
                first, last = min(max(core[0], lo), hi), min(max(core[1], lo), hi)
                sum_core(wavelength, weight, first, last, c, al, g, ag, s, d, form, own)
                sum_wing(wavelength, weight, lo, first, c, al, g, d, form, own)
                sum_wing(wavelength, weight, last, hi, c, al, g, d, form, own)
            if n_cells > 0 and not gathered:
                pass_up(weight, wavelength, edge, left, width, nodes)
                gathered = True
            for k in range(n_cells):
                cell = cells[k]
                sum_nodes(nodes, cell * NODES, where[cell, 0], where[cell, 1], c, al, g, d, form, own)


def jacobian(wavelength, components, chain, start, stop, flux, form, *, n_threads=1):
    """Derivative of the flux with respect to the parameters of every line, on its window, on every pixel.

    Parameters
    ----------
    wavelength, components, start, stop, form, n_threads : ndarray, int
        As in `render`.
    chain : ndarray of shape (n_lines, 6, n_parameters), float64
        Derivative of each line's components with respect to its parameters.
    flux : ndarray of shape (n_pixels,), float64
        What `render` returned.

    Returns
    -------
    jac : ndarray of shape (n_parameters, sum of window lengths), float64
        The windows of all lines, one after the other.
    """
    edge = np.concatenate([[0], np.cumsum(stop - start)])
    # NumPy's memory comes in large pages, numba's in small ones, which take longer to get than to fill
    jac = np.empty((chain.shape[2], edge[-1]))

    def some(first, last):
        _jacobian(wavelength, components, chain, start, edge, flux, form, jac, first, last)

    in_threads(some, len(components), n_threads)
    return jac


@compiled
def _jacobian(wavelength, components, chain, start, edge, flux, form, jac, first_line, last_line):
    """Fill `jac` as `jacobian` returns it, for some lines; line j has the columns [edge[j], edge[j + 1])."""
    longest = 0
    for j in range(first_line, last_line):
        longest = max(longest, edge[j + 1] - edge[j])
    b0, b1, b2 = np.empty(longest), np.empty(longest), np.empty(longest)
    b3, b4, b5 = np.empty(longest), np.empty(longest), np.empty(longest)
    for j in range(first_line, last_line):
        c, al, g, ag, s, d = components[j]
        m, deep, floor = rational(d, form)
        length = edge[j + 1] - edge[j]
        lam, level = wavelength[start[j] : start[j] + length], flux[start[j] : start[j] + length]
        for i in range(length):
            x = lam[i] - c
            u, z = x / g, x / s
            lor, gau = 1.0 / (1.0 + u * u), exp(-0.5 * z * z)
            w, per_depth = slopes(al * lor + ag * gau, d, m, deep, floor, form)
            w *= level[i]
            steep, bell = 2.0 * al / g * lor * lor * u * w, ag / s * gau * z * w
            b0[i] = steep + bell
            b1[i] = lor * w
            b2[i] = steep * u
            b3[i] = gau * w
            b4[i] = bell * z
            b5[i] = level[i] * per_depth
        for k in range(chain.shape[2]):
            k0, k1, k2 = chain[j, 0, k], chain[j, 1, k], chain[j, 2, k]
            k3, k4, k5 = chain[j, 3, k], chain[j, 4, k], chain[j, 5, k]
            column = jac[k, edge[j] : edge[j + 1]]
            for i in range(length):
                column[i] = k0 * b0[i] + k1 * b1[i] + k2 * b2[i] + k3 * b3[i] + k4 * b4[i] + k5 * b5[i]
