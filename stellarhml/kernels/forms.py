r"""The three forms of a line, evaluated on a run of pixels: the innermost loops of all kernels.

A line is :math:`v = A_L / (1 + u^2) + A_G e^{-z^2/2}` with u = x / g, z = x / s, and a factor f of the spectrum. `THIN`
and `MINNAERT` are one rational function, :math:`f = 1 - D v / (1 + m v)`, with m = 0 and D = 1, or m = 1; `THIN` alone
is clamped from below. All sums of a gradient are over weight times d ln f, and one division per pixel gives them:
:math:`d \ln f / dv = -D / [(1 + m v) (1 + (m - D) v)]`.
"""

import math

import numpy as np
from numba import njit

THIN, EXPONENTIAL, MINNAERT = 0, 1, 2
DEPTH_MAX = 1 - 1e-9
"""Largest depth of one line in the thin form (blase's clamp)."""

GAUSS_REACH = math.sqrt(80.0)
"""|x| / s where exp(-x^2 / 2 s^2) = e^-40 = 4e-18, below the precision of float64 at 1."""

# Loops over pixels count in unsigned numbers: a signed index might be negative, which numba would have to test for, and
# a loop with a test in it does not vectorise.
NODES = 8
"""Nodes of a cell of `kernels.cells`, a compile-time constant."""

CHEBYSHEV = np.cos((2 * np.arange(NODES) + 1) * np.pi / (2 * NODES))
"""Positions of the nodes, in half widths of the cell from its middle."""

# Sums may be reordered and divisors are not tested for zero, so that loops vectorise; NaN and infinity keep their
# meaning.
_OPTIONS = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy", "nogil": True}
compiled = njit(cache=True, **_OPTIONS)
inlined = njit(forceinline=True, **_OPTIONS)

_LN2_HIGH, _LN2_LOW, _LOG2E = 6.93147180369123816490e-01, 1.90821492927058770002e-10, 1.0 / math.log(2.0)
_SQRT_HALF_BITS = int(np.array(math.sqrt(0.5)).view(np.int64))


@inlined
def exp(y):
    """e^y, relative error 2e-15 near 0 and 1e-13 at 700; e^-700 below -700. Vectorises, unlike `math.exp`."""
    y = -700.0 if y < -700.0 else y  # NaN stays
    k = math.floor(y * _LOG2E + 0.5)
    r = (y - k * _LN2_HIGH) - k * _LN2_LOW
    q = 1 / 39916800 + r * (1 / 479001600)
    q = 1 / 362880 + r * (1 / 3628800 + r * q)
    q = 1 / 5040 + r * (1 / 40320 + r * q)
    q = 1 / 120 + r * (1 / 720 + r * q)
    q = 1 / 6 + r * (1 / 24 + r * q)
    q = 1.0 + r * (1.0 + r * (0.5 + r * q))
    return q * np.int64((np.int64(k) + 1023) << 52).view(np.float64)


@inlined
def log(y):
    """Natural logarithm of y to 1e-15 for normal positive y; some number below -700 for smaller ones."""
    bits = np.float64(y).view(np.int64)
    k = (bits - _SQRT_HALF_BITS) >> 52
    m = np.int64(bits - (k << 52)).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    t = s * s
    q = 1 / 15 + t * (1 / 17 + t * (1 / 19))
    q = 1 / 9 + t * (1 / 11 + t * (1 / 13 + t * q))
    q = 1 / 3 + t * (1 / 5 + t * (1 / 7 + t * q))
    return k * _LN2_HIGH + (2.0 * s * (1.0 + t * q) + k * _LN2_LOW)


@inlined
def rational(d, form):
    """m, D and the smallest f of a rational form."""
    return (0.0, 1.0, 1.0 - DEPTH_MAX) if form == THIN else (1.0, d, -math.inf)


@compiled
def multiply_wing(lam, out, lo, hi, c, al, g, d, form):
    """Multiply out[lo:hi] by a line without its Gaussian."""
    _multiply_wing(lam, np.uint64(0), out, lo, hi, c, al, 1.0 / g, d, form)


@compiled
def multiply_nodes(nodes, lo, middle, half, c, al, g, d, form):
    """As `multiply_wing`, for the nodes of a cell, eight from `lo`: unrolled."""
    at, x, scale = np.uint64(lo), (c - middle) * (1.0 / half), half * (1.0 / g)
    _multiply_wing(CHEBYSHEV, at, nodes, lo, lo + NODES, x, al, scale, d, form)


@inlined
def _multiply_wing(lam, at, out, lo, hi, c, al, per_g, d, form):
    """Multiply out[lo:hi] by a line without its Gaussian."""
    if form == EXPONENTIAL:
        for p in range(np.uint64(lo), np.uint64(hi)):
            u = (lam[p - at] - c) * per_g
            out[p] *= 1.0 - d * (1.0 - exp(-al / (1.0 + u * u)))
    else:
        m, deep, floor = rational(d, form)
        for p in range(np.uint64(lo), np.uint64(hi)):
            u = (lam[p - at] - c) * per_g
            f = 1.0 - deep * al / (1.0 + u * u + m * al)
            out[p] *= floor if f < floor else f


@compiled
def multiply_core(lam, out, lo, hi, c, al, g, ag, s, d, form):
    """Multiply out[lo:hi] by a line."""
    m, deep, floor = rational(d, form)
    for p in range(np.uint64(lo), np.uint64(hi)):
        x = lam[p] - c
        u, z = x / g, x / s
        v = al / (1.0 + u * u) + ag * exp(-0.5 * z * z)
        if form == EXPONENTIAL:
            out[p] *= 1.0 - d * (1.0 - exp(-v))
        else:
            f = 1.0 - deep * v / (1.0 + m * v)
            out[p] *= floor if f < floor else f


@compiled
def sum_wing(lam, weight, lo, hi, c, al, g, d, form, sums):
    """Add the sums of weight times d ln f of a line without its Gaussian to `sums`, in the order of `gradient_of`."""
    _sum_wing(lam, np.uint64(0), weight, lo, hi, c, al, 1.0 / g, d, form, sums)


@compiled
def sum_nodes(nodes, lo, middle, half, c, al, g, d, form, sums):
    """As `sum_wing`, for the nodes of a cell, eight from `lo`: unrolled."""
    at, x, scale = np.uint64(lo), (c - middle) * (1.0 / half), half * (1.0 / g)
    _sum_wing(CHEBYSHEV, at, nodes, lo, lo + NODES, x, al, scale, d, form, sums)


@inlined
def _sum_wing(lam, at, weight, lo, hi, c, al, per_g, d, form, sums):
    """Add the sums of weight times d ln f of a line without its Gaussian to `sums`, in the order of `gradient_of`."""
    s0 = s1 = s2 = sd = 0.0
    if form == EXPONENTIAL:
        for p in range(np.uint64(lo), np.uint64(hi)):
            u = (lam[p - at] - c) * per_g
            lor = 1.0 / (1.0 + u * u)
            e = exp(-al * lor)
            w = weight[p] / (1.0 - d * (1.0 - e))
            sd += w * (e - 1.0)
            w *= e * lor * lor
            s0 += w
            s1 += w * u
            s2 += w * u * u
    else:
        m, d, floor = rational(d, form)
        for p in range(np.uint64(lo), np.uint64(hi)):
            u = (lam[p - at] - c) * per_g
            r = 1.0 + u * u + m * al
            left = r - d * al
            w = weight[p] / (r * left)
            w = 0.0 if left < floor * r else w
            s0 += w
            s1 += w * u
            s2 += w * u * u
        sd = -m * al * (s0 + s2 + m * al * s0)
    sums[0] -= d * s1
    sums[1] -= d * (s0 + s2)
    sums[2] -= d * s2
    sums[6] += sd


@compiled
def sum_core(lam, weight, lo, hi, c, al, g, ag, s, d, form, sums):
    """Add the sums of weight times d ln f to `sums`, in the order of `gradient_of`."""
    # inlined twice, with the form known, so that no branch is left in the loop; as a plain constant, it would also be
    # compiled twice
    if form == EXPONENTIAL:
        _sum_core(lam, weight, lo, hi, c, al, g, ag, s, d, np.int64(EXPONENTIAL), sums)
    else:
        _sum_core(lam, weight, lo, hi, c, al, g, ag, s, d, form, sums)


@inlined
def _sum_core(lam, weight, lo, hi, c, al, g, ag, s, d, form, sums):
    """Add the sums of weight times d ln f to `sums`, in the order of `gradient_of`."""
    s0 = s1 = s2 = sd = g0 = g1 = g2 = 0.0
    m, deep, floor = rational(d, form)
    for p in range(np.uint64(lo), np.uint64(hi)):
        x = lam[p] - c
        u, z = x / g, x / s
        lor, gau = 1.0 / (1.0 + u * u), exp(-0.5 * z * z)
        w, per_depth = slopes(al * lor + ag * gau, d, m, deep, floor, form)
        w *= weight[p]
        sd += weight[p] * per_depth
        s0 += w * lor
        s1 += w * lor * lor * u
        s2 += w * lor * lor * u * u
        g0 += w * gau
        g1 += w * gau * z
        g2 += w * gau * z * z
    sums[0] += s1
    sums[1] += s0
    sums[2] += s2
    sums[3] += g0
    sums[4] += g1
    sums[5] += g2
    sums[6] += sd


@inlined
def slopes(v, d, m, deep, floor, form):
    """Derivatives of ln f with respect to v and to D."""
    if form == EXPONENTIAL:
        e = exp(-v)
        inverse = 1.0 / (1.0 - d * (1.0 - e))
        return -d * e * inverse, (e - 1.0) * inverse
    a, b = 1.0 + m * v, 1.0 + (m - deep) * v
    inverse = 1.0 / (a * b)
    slope = -deep * inverse
    return 0.0 if b < floor * a else slope, -m * v * a * inverse


def gradient_of(components, sums):
    """Gradient (n_lines, 6) with respect to the components of every line, from its sums over pixels.

    `sums` (7, n_lines) are those of w L^2 u, w L, w L^2 u^2, w G, w G z, w G z^2 and weight * d ln f / dD, where w =
    weight * d ln f / dv, L = 1 / (1 + u^2) and G = exp(-z^2 / 2).
    """
    _, al, g, ag, s, _ = components.T
    with np.errstate(all="ignore"):  # widths of zero and infinities give NaN, as they do in the kernels
        center = ag * sums[4] / s + 2.0 * al * sums[0] / g
        return np.stack([center, sums[1], 2.0 * al * sums[2] / g, sums[3], ag * sums[5] / s, sums[6]], axis=1)
