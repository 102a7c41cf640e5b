r"""A spectrum together with its derivatives along a few directions of its lines, in one pass.

Where the components of all lines follow from a few scalars (the labels of a star),

.. math:: \frac{dS}{dt_k} = S \sum_j \sum_c \frac{\partial \ln f_j}{\partial q_{jc}} \frac{dq_{jc}}{dt_k}

is a sum over the same lines as the product S is one over, so that value and all derivatives of a pixel share its
exponential and its divisions. Windows, blocks and cells are those of `kernels.fused`: nodes of cells gather a product
for S and a sum for each derivative of ln S.
"""

import numpy as np

from stellarhml.kernels.cells import DEPTH, LEAVES, core_of, cover, pass_down, place, spread
from stellarhml.kernels.forms import CHEBYSHEV, EXPONENTIAL, NODES, compiled, exp, inlined, rational, slopes
from stellarhml.kernels.fused import Blocks

_PIECE = 128
"""Pixels done together. Their basis functions lie in one array at fixed distances: were it one array each, there would
be too many pairs of them that may overlap, which the compiler would have to test for, and it would not vectorise."""


def render_tangents(
    wavelength, components, tangents, start, stop, form, *, n_threads=1, every_pixel=False, tolerance=0.0
):
    """Multiply all lines into a spectrum, and differentiate it along tangents.

    Parameters
    ----------
    wavelength, components, start, stop, form : ndarray, int
        As in `fused.render`.
    tangents : ndarray of shape (n_tangents, n_lines, 6), float64
        Derivatives of the components with respect to each of n_tangents scalars.
    n_threads, every_pixel, tolerance : int, bool, float
        As in `fused.render`; the result does not depend on `n_threads`. What a derivative loses to `tolerance` is of
        the order of `tolerance` times the change that the scalar makes in logarithms of strengths and widths.

    Returns
    -------
    flux : ndarray of shape (n_pixels,), float64
        The product, 1 where there is no line.
    derivative : ndarray of shape (n_tangents, n_pixels), float64
        Derivative of the flux with respect to each scalar. None from pixels where a line of the thin form is clamped.
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
                    known = np.int64(EXPONENTIAL)
                    _add_line(CHEBYSHEV, at, nodes, lo, lo + NODES, x, al, scale, 0.0, 1.0, d, known, slope, basis)
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
