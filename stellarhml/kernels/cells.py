r"""Interpolation of far line wings from a few nodes instead of evaluation on every pixel: a tree of cells.

Pixels are grouped in blocks of `LEAVES` cells of about 32 pixels, the leaves of a binary tree of cells. Away from the
line, :math:`\ln f` is smooth: on a cell of half width h, whose middle lies D from the line, interpolation from
`NODES` Chebyshev nodes has an error of about :math:`v\,(h/2D)^8`. A line is therefore multiplied into the nodes of
cells that grow with the distance, and into pixels only near its center. Once per block the logarithms of the nodes are
interpolated down to the leaves and from there to the pixels; the gradient passes the pixels' weights up the same way,
which is the exact adjoint. Cells have equal widths in wavelength for any increasing wavelengths; leaves hold more
pixels where these are dense.
"""

import math

import numpy as np

from stellarhml.kernels.forms import CHEBYSHEV, GAUSS_REACH, NODES, compiled, exp, log

DEPTH = 7
LEAVES = 1 << DEPTH
LEAF_PIXELS = 32
_ABSOLUTE, _RELATIVE = 1e-14, 1e-11  # tolerance of one line in ln f, and in its derivative relative to the peak
_SHARE = 1e-2  # share of the tolerance of the flux for one line, since lines overlap

_TO_POWERS = np.linalg.inv(
    np.vander(CHEBYSHEV, increasing=True)
)  # (power, node): polynomial through values on the nodes
# value of each parent node's polynomial at the nodes of the left and the right child, (side, child node, parent node)
_SPLIT = np.stack([np.vander((CHEBYSHEV + side) / 2, increasing=True) @ _TO_POWERS for side in (-1, 1)])
_BOTH = np.ascontiguousarray(np.concatenate(_SPLIT).T)  # (parent node, child node of left and right)
_FROM_POWERS = np.ascontiguousarray(_TO_POWERS.T)


@compiled
def far_from(components, width, tolerance, far):
    """Fill `far` (n_lines, DEPTH + 2) with the distances, in angstrom, from which cells are far from lines.

    Column k has the smallest distance between a line and the middle of a cell of 2^k leaves on which it is
    interpolated, infinite where there is none (a NaN in the components, say); the last column has the distance at which
    its Gaussian ends. `components` (n_lines, 6) are as in `kernels.fused`, `width` is that of a leaf [angstrom], and
    `tolerance` that of the flux for one line, 0 for the precision of float64.
    """
    absolute, relative = max(_ABSOLUTE, _SHARE * tolerance), max(_RELATIVE, _SHARE * tolerance)
    power = NODES / (NODES + 2)
    for j in range(len(components)):
        _, al, g, ag, s, d = components[j]
        reach = GAUSS_REACH
        if tolerance > 0.0:
            peak = ag * d if d > 0.0 else ag
            reach = min(GAUSS_REACH, math.sqrt(2.0 * math.log(max(peak / (_SHARE * tolerance), 1.0))))
        reach *= abs(s)
        singular = abs(g) * math.sqrt(1.0 + al)  # ln f has its poles and branch points within
        spread = exp(log(singular**2 / (1.0 + al) * max(al / absolute, 1.0 / relative)) / (NODES + 2))
        sound = al >= 0.0 and 0.0 <= d <= 1.0 and math.isfinite(singular + spread + reach + ag)
        for k in range(DEPTH + 1):
            half = 0.5 * width * 2.0**k
            value = max(
                singular + max(1.5 * half, spread * (0.5 * half) ** power), (reach if ag != 0.0 else 0.0) + half
            )
            far[j, k] = value if sound else math.inf
        far[j, DEPTH + 1] = reach


@compiled
def cover(edge, left, width, lo, hi, center, far, cells, runs):
    """Split the pixels [lo, hi) of a line in a block into cells that are far from it, and runs of pixels.

    `edge` (LEAVES + 1,) has the first pixel of each leaf, `left` is where the block begins and `width` that of a leaf
    [angstrom], `far` (DEPTH + 2,) a row of `far_from`. Fills `cells` (LEAVES,), where 1 is the block, 2 i and 2 i + 1
    are the halves of i, and `runs` (3, 2); returns how many there are of each.
    """
    # leaves of the window, from a guess at equally spaced pixels
    span = max(edge[LEAVES] - edge[0], 1)
    first, last = (lo - edge[0]) * LEAVES // span, (hi - edge[0]) * LEAVES // span
    while first > 0 and edge[first - 1] >= lo:
        first -= 1
    while edge[first] < lo:
        first += 1
    while last < LEAVES and edge[last + 1] <= hi:
        last += 1
    while edge[last] > hi:
        last -= 1
    last = max(first, last)
    # leaves [near, beyond) are too near; comparisons are such that NaN makes all of them so. A cell that is far has
    # halves that are, so that the largest cells are found by going away from the line and trying the next size only.
    center = (center - left) / width
    near, beyond = first, last
    value = center - far[0] / width + 0.5
    if value > first:
        near = int(min(value, last))
    value = center + far[0] / width - 0.5
    if value < last:
        beyond = math.ceil(max(value, near))
    n_cells = n_runs = k = 0
    i = near
    while i > first:
        size = 2 << k
        while (
            k < DEPTH and i & (size - 1) == 0 and i - size >= first and (center - i + size // 2) * width >= far[k + 1]
        ):
            k, size = k + 1, 2 * size
        while i - (1 << k) < first:
            k -= 1
        i -= 1 << k
        cells[n_cells] = (LEAVES + i) >> k
        n_cells += 1
    i, k = beyond, 0
    while i < last:
        size = 2 << k
        while k < DEPTH and i & (size - 1) == 0 and i + size <= last and (i + size // 2 - center) * width >= far[k + 1]:
            k, size = k + 1, 2 * size
        while i + (1 << k) > last:
            k -= 1
        cells[n_cells] = (LEAVES + i) >> k
        n_cells += 1
        i += 1 << k
    done = lo
    if near > first:
        if lo < edge[first]:
            runs[n_runs, 0], runs[n_runs, 1] = lo, edge[first]
            n_runs += 1
        done = edge[near]
    if beyond < last:
        if done < edge[beyond]:
            runs[n_runs, 0], runs[n_runs, 1] = done, edge[beyond]
            n_runs += 1
        done = edge[last]
    if done < hi:
        runs[n_runs, 0], runs[n_runs, 1] = done, hi
        n_runs += 1
    return n_cells, n_runs


@compiled
def place(wavelength, first, last, left, width, edge, where):
    """Fill the first pixels `edge` of the leaves of a block, and middles and half widths `where` of all cells."""
    for i in range(1, LEAVES):
        edge[i] = edge_of(wavelength, first, last, left + i * width)
    edge[0], edge[LEAVES] = first, last
    for k in range(DEPTH + 1):
        half = 0.5 * width * (1 << k)
        for i in range(LEAVES >> k):
            cell = (LEAVES >> k) + i
            where[cell, 0], where[cell, 1] = left + half * (2 * i + 1), half


@compiled
def edge_of(wavelength, lo, hi, value):
    """First pixel of [lo, hi) at `value` or beyond: NumPy's search takes a second to compile."""
    while lo < hi:
        middle = (lo + hi) // 2
        if wavelength[middle] < value:
            lo = middle + 1
        else:
            hi = middle
    return lo


@compiled
def core_of(wavelength, edge, left, width, lo, hi, center, reach):
    """Pixels of [lo, hi) in a block that are within `reach` of a line."""
    first = _near(wavelength, edge, left, width, center - reach)
    last = _near(wavelength, edge, left, width, center + reach)
    first = min(max(first, lo), hi)
    return first, min(max(last, first), hi)


@compiled
def _near(wavelength, edge, left, width, value):
    """First pixel of a block at `value` or beyond: a guess at equally spaced pixels of a leaf, and steps from there."""
    position = (value - left) / width
    position = min(position if position > 0.0 else 0.0, LEAVES - 1e-9)  # NaN is 0
    leaf = int(position)
    lo, hi = edge[leaf], edge[leaf + 1]
    if hi - lo > 8 * LEAF_PIXELS:
        return edge_of(wavelength, lo, hi, value)
    pixel = lo + int((position - leaf) * (hi - lo))
    while pixel > lo and not wavelength[pixel - 1] < value:
        pixel -= 1
    while pixel < hi and wavelength[pixel] < value:
        pixel += 1
    return pixel


@compiled
def pass_down(nodes, wavelength, edge, left, width, flux):
    """Multiply `flux` (n_pixels,), on a block as in `cover`, by the product of the factors gathered on nodes.

    `nodes` (2 * LEAVES * NODES,) has the product of the factors on each node; it is overwritten.
    """
    for n in range(np.uint64(NODES), np.uint64(nodes.size)):
        nodes[n] = log(nodes[n])
    first, last = edge[0], edge[LEAVES]
    total = np.zeros(last - first)
    spread(nodes, wavelength[first:last], edge, left, width, total)
    flux = flux[first:last]
    for p in range(len(total)):
        flux[p] *= exp(total[p])


@compiled
def spread(nodes, wavelength, edge, left, width, total):
    """Interpolate sums gathered on nodes, and add them to the pixels `total` of a block of these wavelengths."""
    for parent in range(1, LEAVES):
        # names rather than an array: a loop vectorises only if nothing it reads may change
        at, s = parent * NODES, _BOTH
        a, b, c, d = nodes[at], nodes[at + 1], nodes[at + 2], nodes[at + 3]
        e, f, g, h = nodes[at + 4], nodes[at + 5], nodes[at + 6], nodes[at + 7]
        children = nodes[2 * at : 2 * at + 2 * NODES]
        for i in range(np.uint64(2 * NODES)):
            low = s[0, i] * a + s[1, i] * b + s[2, i] * c + s[3, i] * d
            children[i] += low + (s[4, i] * e + s[5, i] * f + s[6, i] * g + s[7, i] * h)
    power = np.empty(NODES)
    for leaf in range(LEAVES):
        at = (LEAVES + leaf) * NODES
        a, b, c, d = nodes[at], nodes[at + 1], nodes[at + 2], nodes[at + 3]
        e, f, g, h = nodes[at + 4], nodes[at + 5], nodes[at + 6], nodes[at + 7]
        s = _FROM_POWERS
        for i in range(np.uint64(NODES)):
            low = s[0, i] * a + s[1, i] * b + s[2, i] * c + s[3, i] * d
            power[i] = low + (s[4, i] * e + s[5, i] * f + s[6, i] * g + s[7, i] * h)
        a, b, c, d, e, f, g, h = power[0], power[1], power[2], power[3], power[4], power[5], power[6], power[7]
        middle, scale = left + (leaf + 0.5) * width, 2.0 / width
        for p in range(np.uint64(edge[leaf] - edge[0]), np.uint64(edge[leaf + 1] - edge[0])):
            t = (wavelength[p] - middle) * scale
            total[p] += a + t * (b + t * (c + t * (d + t * (e + t * (f + t * (g + t * h))))))


@compiled
def pass_up(weight, wavelength, edge, left, width, nodes):
    """Adjoint of `pass_down`: gather weights of pixels, dloss / dlog flux (n_pixels,), on the nodes of all cells."""
    power = np.empty(NODES)
    for n in range(LEAVES * NODES):
        nodes[n] = 0.0
    for leaf in range(LEAVES):
        middle, scale = left + (leaf + 0.5) * width, 2.0 / width
        a = b = c = d = e = f = g = h = 0.0
        for p in range(np.uint64(edge[leaf]), np.uint64(edge[leaf + 1])):
            t, w = (wavelength[p] - middle) * scale, weight[p]
            a += w
            b += w * t
            t2 = t * t
            c += w * t2
            d += w * t2 * t
            w *= t2 * t2
            e += w
            f += w * t
            g += w * t2
            h += w * t2 * t
        power[0], power[1], power[2], power[3], power[4], power[5], power[6], power[7] = a, b, c, d, e, f, g, h
        for n in range(NODES):
            total = 0.0
            for m in range(NODES):
                total += _TO_POWERS[m, n] * power[m]
            nodes[(LEAVES + leaf) * NODES + n] = total
    for cell in range(2 * LEAVES - 1, 1, -1):
        parent = (cell >> 1) * NODES
        for i in range(NODES):
            value = nodes[cell * NODES + i]
            for n in range(NODES):
                nodes[parent + n] += _SPLIT[cell & 1, i, n] * value
