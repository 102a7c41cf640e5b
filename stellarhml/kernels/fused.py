r"""Product of spectral lines and its derivatives, compiled by numba.

Every profile of the package is, per line, one Lorentzian plus one Gaussian,

.. math:: v(\lambda) = \frac{A_L}{1 + (x/g)^2} + A_G\,e^{-x^2/2s^2}, \qquad x = \lambda - c,

and enters the spectrum :math:`S = \prod_j f_j` in one of three forms: `THIN`, :math:`f = 1 - v` with f at least 1e-9;
`EXPONENTIAL`, an optical depth under a limiting depth D, :math:`f = 1 - D (1 - e^{-v})`; `MINNAERT`,
:math:`f = 1 - D\,v / (1 + v)`. The six numbers (c, A_L, g, A_G, s, D) of a line are its *components*; how a profile
turns its own parameters into components is in `kernels.line_profiles`.

A line is evaluated on its window of pixels only, its Gaussian only where it exceeds e^-40 of its peak, and far from its
center the line is interpolated (`kernels.cells`), which changes ln S by at most 1e-11. Pixels are processed in blocks
of about 4,096, which stay in the processor's cache. One thread sums each block in a fixed order, so that the result has
the same bits for any number of threads. Memory is linear in pixels plus lines.

Where the components of all lines follow from a few scalars (the labels of a star),

.. math:: \frac{dS}{dt_k} = S \sum_j \sum_c \frac{\partial \ln f_j}{\partial q_{jc}} \frac{dq_{jc}}{dt_k}

is a sum over the same lines as the product S, so that the value and all derivatives of a pixel share exponentials and
divisions: nodes of cells gather a product for S and a sum for each derivative of ln S.
"""

from concurrent.futures import ThreadPoolExecutor

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
    spread,
)
from stellarhml.kernels.forms import (
    CHEBYSHEV,
    EXPONENTIAL,
    NODES,
    compiled,
    exp,
    gradient_of,
    inlined,
    multiply_core,
    multiply_nodes,
    multiply_wing,
    rational,
    slopes,
    sum_core,
    sum_nodes,
    sum_wing,
)


def in_threads(work, n_items, n_threads):
    """Run `work(first, last)` on parts of range(n_items).

    Python's own threads rather than numba's: these need no threading layer, which forks of joblib may break. The items
    must not share output; then the result does not depend on the number of threads.
    """
    if n_threads == 1:
        work(0, n_items)
        return
    # lines crowd in the blue: several parts per thread balance the work
    cuts = np.linspace(0, n_items, 8 * n_threads + 1).astype(int)
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, cuts[:-1], cuts[1:]))


def render(wavelength, components, start, stop, form, *, n_threads=1, every_pixel=False, tolerance=0.0):
    """Multiply all lines into a spectrum, (n_pixels,), float64: 1 where there is no line.

    Rows of `components` (n_lines, 6) are center [angstrom], Lorentz peak, Lorentz half width [angstrom], Gauss peak,
    Gauss standard deviation [angstrom], limiting depth. `wavelength` (n_pixels,) [angstrom] increases; [start, stop),
    int64, is the window of pixels of each line; `form` is THIN, EXPONENTIAL or MINNAERT. `every_pixel` evaluates lines
    on every pixel instead of interpolating far wings. `tolerance` is that of the flux for one line, where its Gaussian
    ends and its wings are interpolated, for speed; 0: the precision of float64, as in `gradient`. The result does not
    depend on `n_threads`.
    """
    blocks = Blocks(wavelength, components, start, stop, every_pixel, tolerance)
    flux = np.ones(blocks.wavelength.size)
    blocks.run(_render, n_threads, form, flux)
    return flux


def gradient(wavelength, components, start, stop, weight, form, *, n_threads=1, every_pixel=False):
    """Gradient of a scalar loss with respect to the components of every line, (n_lines, 6), float64.

    `weight` (n_pixels,), float64, is dloss/dflux times flux, pixel by pixel; the rest as in `render`.
    """
    blocks = Blocks(wavelength, components, start, stop, every_pixel)
    sums = np.zeros((blocks.lines.size, 7))
    blocks.run(_sum, n_threads, form, np.require(weight, np.float64, ["C", "W"]), sums)
    n_lines = len(blocks.components)
    return gradient_of(blocks.components, [np.bincount(blocks.lines, part, n_lines) for part in sums.T])


class Blocks:
    """Blocks of pixels, and the lines with pixels in each."""

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
    """Widen windows, unless empty, to blocks of pixels: large cells take less time than small ones at the ends."""
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

    `chain` (n_lines, 6, n_parameters) has the derivatives of components by parameters, `flux` (n_pixels,) is from
    `render`. Result (n_parameters, sum of window lengths), float64: the windows of all lines, one after the
    other.
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


_PIECE = 128
"""Pixels done together. Their basis functions lie in one array at fixed distances: were it one array each, too many
pairs of them might overlap for the compiler to test, and it would not vectorise."""


def render_tangents(
    wavelength, components, tangents, start, stop, form, *, n_threads=1, every_pixel=False, tolerance=0.0
):
    """Multiply all lines into a spectrum (n_pixels,), and differentiate it along tangents, (n_tangents, n_pixels).

    `tangents` (n_tangents, n_lines, 6), float64, are the derivatives of the components with respect to each of
    n_tangents scalars; the rest as in `render`. Where a line of the thin form is clamped it adds nothing to the
    derivative. The error of a derivative due to `tolerance` is of the order of `tolerance` times the change that the
    scalar makes in logarithms of strengths and widths.
    """
    blocks = Blocks(wavelength, components, start, stop, every_pixel, tolerance)
    rows = np.empty((1 + len(tangents), blocks.wavelength.size))
    tangents = np.require(tangents, np.float64, ["C", "W"])
    blocks.run(_render_tangents, n_threads, form, tangents, rows)
    return rows[0], rows[1:]


@compiled
def _render_tangents(
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
    tangents,
    rows,
    first_block,
    last_block,
):
    """`render_tangents` on some blocks; the rows are flux, then derivatives."""
    n_tangents, n_nodes = len(tangents), 2 * LEAVES * NODES
    edge, cells, runs = np.empty(LEAVES + 1, np.int64), np.empty(LEAVES, np.int64), np.empty((3, 2), np.int64)
    where, nodes, basis = np.empty((2 * LEAVES, 2)), np.empty((1 + n_tangents, n_nodes)), np.empty(7 * _PIECE)
    slope, parabola = np.empty((n_tangents, 7)), np.empty((n_tangents, 3))
    beginning = np.uint64(0)
    for b in range(first_block, last_block):
        left = origin + b * LEAVES * width
        place(wavelength, bounds[b], bounds[b + 1], left, width, edge, where)
        for row in range(1 + n_tangents):
            nothing = 1.0 if row == 0 else 0.0
            for n in range(n_nodes):
                nodes[row, n] = nothing
            for p in range(bounds[b], bounds[b + 1]):
                rows[row, p] = nothing
        n_used = 0
        for entry in range(offset[b], offset[b + 1]):
            j = lines[entry]
            c, al, g, ag, s, d = components[j]
            for k in range(n_tangents):
                _slopes_along(components[j], tangents[k, j], form, slope[k], parabola[k])
            lo, hi = max(start[j], bounds[b]), min(stop[j], bounds[b + 1])
            core = core_of(wavelength, edge, left, width, lo, hi, c, far[j, DEPTH + 1])
            n_cells, n_runs = cover(edge, left, width, lo, hi, c, far[j], cells, runs)
            n_used += n_cells
            for k in range(n_runs):
                lo, hi = runs[k, 0], runs[k, 1]
                first, last = min(max(core[0], lo), hi), min(max(core[1], lo), hi)
                # inlined once for each form, so that no branch is left in a loop
                if form != EXPONENTIAL:
                    _add_line(wavelength, beginning, rows, first, last, c, al, g, ag, s, d, form, slope, basis)
                    for side in range(2):
                        low, high = (lo, last)[side], (first, hi)[side]
                        _add_wing(wavelength, beginning, rows, low, high, c, al, g, d, form, parabola, basis)
                else:
                    known = np.int64(EXPONENTIAL)
                    for part in range(3):
                        low, high = (lo, first, last)[part], (first, last, hi)[part]
                        bell = ag if part == 1 else 0.0
                        _add_line(wavelength, beginning, rows, low, high, c, al, g, bell, s, d, known, slope, basis)
            for k in range(n_cells):
                cell = cells[k]
                lo, at, per_half = cell * NODES, np.uint64(cell * NODES), 1.0 / where[cell, 1]
                x, scale = (c - where[cell, 0]) * per_half, g * per_half
                if form != EXPONENTIAL:
                    _add_wing(CHEBYSHEV, at, nodes, lo, lo + NODES, x, al, scale, d, form, parabola, basis)
                else:
                    known, sigma = np.int64(EXPONENTIAL), s * per_half
                    _add_line(CHEBYSHEV, at, nodes, lo, lo + NODES, x, al, scale, 0.0, sigma, d, known, slope, basis)
        if n_used > 0:
            pass_down(nodes[0], wavelength, edge, left, width, rows[0])
        for row in range(1, 1 + n_tangents):
            level, own = rows[0, bounds[b] : bounds[b + 1]], rows[row, bounds[b] : bounds[b + 1]]
            if n_used > 0:
                spread(nodes[row], wavelength[bounds[b] : bounds[b + 1]], edge, left, width, own)
            for p in range(len(own)):
                own[p] *= level[p]


@inlined
def _slopes_along(line, tangent, form, slope, parabola):
    r"""Fill the derivatives of ln f along a tangent by powers of u and z.

    Of v it is :math:`L (a_0 + L u (a_1 + u a_2)) + G (a_3 + z (a_4 + z a_5))`, and a_6 is that of D. Without G, the
    rational forms make of it a parabola in u over r (r - D A_L), where r = 1 + u^2 + m A_L.
    """
    steep, bell = 2.0 * line[1] / line[2], line[3] / line[4]
    slope[0], slope[1], slope[2] = tangent[1], steep * tangent[0], steep * tangent[2]
    slope[3], slope[4], slope[5] = tangent[3], bell * tangent[0], bell * tangent[4]
    slope[6] = tangent[5]
    m, deep, _ = rational(line[5], form)
    depth = m * line[1] * slope[6]
    parabola[0] = -deep * slope[0] - depth * (1.0 + m * line[1])
    parabola[1] = -deep * slope[1]
    parabola[2] = -deep * (slope[0] + slope[2]) - depth


@inlined
def _add_line(lam, at, rows, lo, hi, c, al, g, ag, s, d, form, slope, basis):
    """Multiply rows[0, lo:hi] by a line, and add its derivatives of ln f to the other rows; lam[0] at `at`."""
    m, deep, floor = rational(d, form)
    for first in range(lo, hi, _PIECE):
        last = min(first + _PIECE, hi)
        for p in range(np.uint64(first), np.uint64(last)):
            x, i = lam[p - at] - c, p - np.uint64(first)
            u, z = x / g, x / s
            lor, gau = 1.0 / (1.0 + u * u), exp(-0.5 * z * z)
            v = al * lor + ag * gau
            w, per_depth = slopes(v, d, m, deep, floor, form)
            f = 1.0 - d * (1.0 - exp(-v)) if form == EXPONENTIAL else 1.0 - deep * v / (1.0 + m * v)
            rows[0, p] *= floor if f < floor else f
            steep, bell = w * lor * lor * u, w * gau
            basis[i], basis[i + 1 * _PIECE], basis[i + 2 * _PIECE] = w * lor, steep, steep * u
            basis[i + 3 * _PIECE], basis[i + 4 * _PIECE], basis[i + 5 * _PIECE] = bell, bell * z, bell * z * z
            basis[i + 6 * _PIECE] = per_depth
        for k in range(len(slope)):
            a0, a1, a2, a3 = slope[k, 0], slope[k, 1], slope[k, 2], slope[k, 3]
            a4, a5, a6 = slope[k, 4], slope[k, 5], slope[k, 6]
            for p in range(np.uint64(first), np.uint64(last)):
                i = p - np.uint64(first)
                wing = a0 * basis[i] + a1 * basis[i + 1 * _PIECE] + a2 * basis[i + 2 * _PIECE]
                bell = a3 * basis[i + 3 * _PIECE] + a4 * basis[i + 4 * _PIECE] + a5 * basis[i + 5 * _PIECE]
                rows[1 + k, p] += wing + bell + a6 * basis[i + 6 * _PIECE]


@inlined
def _add_wing(lam, at, rows, lo, hi, c, al, g, d, form, parabola, basis):
    """As `_add_line`, for a line of a rational form without its Gaussian."""
    m, deep, floor = rational(d, form)
    share, per_g = m * al, 1.0 / g
    for first in range(lo, hi, _PIECE):
        last = min(first + _PIECE, hi)
        for p in range(np.uint64(first), np.uint64(last)):
            u, i = (lam[p - at] - c) * per_g, p - np.uint64(first)
            r = 1.0 + u * u + share
            left = r - deep * al
            inverse = 1.0 / (r * left)
            clamped = left < floor * r
            rows[0, p] *= floor if clamped else left * left * inverse
            inverse = 0.0 if clamped else inverse
            basis[i], basis[i + 1 * _PIECE], basis[i + 2 * _PIECE] = inverse, inverse * u, inverse * u * u
        for k in range(len(parabola)):
            a0, a1, a2 = parabola[k, 0], parabola[k, 1], parabola[k, 2]
            for p in range(np.uint64(first), np.uint64(last)):
                i = p - np.uint64(first)
                rows[1 + k, p] += a0 * basis[i] + a1 * basis[i + 1 * _PIECE] + a2 * basis[i + 2 * _PIECE]
