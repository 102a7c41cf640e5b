r"""Far wings on a few nodes instead of on every pixel: a tree of cells in wavelength.

Pixels are grouped in blocks of `LEAVES` cells of about 16 pixels, the leaves of a binary tree of cells. Away from the
line, :math:`\ln f` is smooth: on a cell of half width h, whose middle lies D from the line, interpolation from
`NODES` Chebyshev nodes leaves about :math:`v\,(h/2D)^8`. So a line multiplies its factors into the nodes of cells that
grow with the distance, and only its neighbourhood into pixels. Once per block the logarithms of the nodes are passed
down to the leaves and from there to the pixels; the gradient passes the pixels' weights up the same way, which is the
exact adjoint. All cells are the same in wavelength, so any increasing wavelengths will do; leaves hold more
pixels where these are dense.
"""

import numpy as np

from stellarhml.kernels.forms import GAUSS_REACH, NODES, compiled, exp, log

DEPTH = 7
LEAVES = 1 << DEPTH
LEAF_PIXELS = 16
_ABSOLUTE, _RELATIVE = 1e-14, 1e-11  # error allowed to one line in ln f, and in its derivative beside its peak

_T = np.cos((2 * np.arange(NODES) + 1) * np.pi / (2 * NODES))
_TO_POWERS = np.linalg.inv(np.vander(_T, increasing=True))  # (power, node): polynomial through values on the nodes
# value of each parent node's polynomial at the nodes of the left and the right child, (side, child node, parent node)
_SPLIT = np.stack([np.vander((_T + side) / 2, increasing=True) @ _TO_POWERS for side in (-1, 1)])
_SPLIT_T = np.ascontiguousarray(_SPLIT.transpose(0, 2, 1))
_FROM_POWERS = np.ascontiguousarray(_TO_POWERS.T)


def far_from(components, width):
    """Distances that make cells far from lines.

    Parameters
    ----------
    components : ndarray of shape (n_lines, 6)
        Rows as in `kernels.fused`.
    width : float
        Width of a leaf, in angstrom.

    Returns
    -------
    far : ndarray of shape (n_lines, DEPTH + 1)
        Smallest distance, in angstrom, between a line and the middle of a cell of 2^k leaves on which it is
        interpolated. Infinite for a line that has no such distance, in whose components there is a NaN, say.
    """
    _, al, g, ag, s, d = components.T
    with np.errstate(all="ignore"):
        singular = np.abs(g) * np.sqrt(1 + al)  # ln f has its poles and branch points within
        spread = (singular**2 / (1 + al) * np.maximum(al / _ABSOLUTE, 1 / _RELATIVE)) ** (1 / (NODES + 2))
        reach = np.where(ag == 0, 0.0, GAUSS_REACH * np.abs(s))
        sound = (al >= 0) & (d >= 0) & (d <= 1) & np.isfinite(singular + spread + reach + ag)
        half = 0.5 * width * 2.0 ** np.arange(DEPTH + 1)
        far = singular[:, None] + np.maximum(1.5 * half, spread[:, None] * (half / 2) ** (NODES / (NODES + 2)))
        far = np.maximum(far, reach[:, None] + half)
    return np.where(sound[:, None], far, np.inf)


@compiled
def cover(edge, left, width, lo, hi, center, far, cells, runs):
    """Split the pixels of a line in a block into cells that are far from it, and runs of pixels.

    Parameters
    ----------
    edge : ndarray of shape (LEAVES + 1,), int64
        First pixel of each leaf of the block.
    left, width : float
        Where the block begins, and width of a leaf, in angstrom.
    lo, hi : int
        Pixels of the line in this block.
    center : float
        Its center, in angstrom.
    far : ndarray of shape (DEPTH + 1,)
        See `far_from`.
    cells : ndarray of shape (LEAVES,), int64
        Filled with cells: 1 is the block, 2 i and 2 i + 1 are the halves of i.
    runs : ndarray of shape (LEAVES + 1, 2), int64
        Filled with runs of pixels.

    Returns
    -------
    n_cells, n_runs : int
        How many of them there are.
    """
    i, last = 0, LEAVES
    while edge[i] < lo:
        i += 1
    while edge[last] > hi:
        last -= 1
    n_cells = n_runs = 0
    done = lo
    while i < last:
        k = DEPTH
        while k >= 0:
            size = 1 << k
            if i & (size - 1) == 0 and i + size <= last and abs(left + (i + 0.5 * size) * width - center) >= far[k]:
                break
            k -= 1
        if k < 0:
            i += 1
            continue
        if done < edge[i]:
            runs[n_runs, 0], runs[n_runs, 1] = done, edge[i]
            n_runs += 1
        cells[n_cells] = (LEAVES + i) >> k
        n_cells += 1
        i += 1 << k
        done = edge[i]
    if done < hi:
        runs[n_runs, 0], runs[n_runs, 1] = done, hi
        n_runs += 1
    return n_cells, n_runs


@compiled
def place(wavelength, first, last, left, width, edge, where):
    """Fill the first pixels `edge` of the leaves of a block, and the wavelengths `where` of all nodes."""
    for i in range(1, LEAVES):
        edge[i] = edge_of(wavelength, first, last, left + i * width)
    edge[0], edge[LEAVES] = first, last
    for k in range(DEPTH + 1):
        half = 0.5 * width * (1 << k)
        for i in range(LEAVES >> k):
            for n in range(NODES):
                where[((LEAVES >> k) + i) * NODES + n] = left + half * (2 * i + 1 + _T[n])


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
def pass_down(nodes, wavelength, edge, left, width, flux):
    """Multiply the pixels by the product of the factors gathered on nodes.

    Parameters
    ----------
    nodes : ndarray of shape (2 * LEAVES * NODES,)
        Product of the factors on each node; overwritten.
    wavelength, edge, left, width : ndarray, ndarray, float, float
        The block, as in `cover`.
    flux : ndarray of shape (n_pixels,)
        Multiplied on the block.
    """
    for n in range(NODES, nodes.size):
        nodes[n] = log(nodes[n])
    for cell in range(2, 2 * LEAVES):
        parent = (cell >> 1) * NODES
        for n in range(NODES):
            value = nodes[parent + n]
            for i in range(NODES):
                nodes[cell * NODES + i] += _SPLIT_T[cell & 1, n, i] * value
    power, total = np.empty(NODES), np.empty(edge[LEAVES] - edge[0])
    lam, flux = wavelength[edge[0] : edge[LEAVES]], flux[edge[0] : edge[LEAVES]]
    for leaf in range(LEAVES):
        middle, scale = left + (leaf + 0.5) * width, 2.0 / width
        for m in range(NODES):
            power[m] = 0.0
        for n in range(NODES):
            value = nodes[(LEAVES + leaf) * NODES + n]
            for m in range(NODES):
                power[m] += _FROM_POWERS[n, m] * value
        # names rather than an array: the loop vectorises only if nothing it reads may change
        a, b, c, d, e, f, g, h = power[0], power[1], power[2], power[3], power[4], power[5], power[6], power[7]
        for p in range(np.uint64(edge[leaf] - edge[0]), np.uint64(edge[leaf + 1] - edge[0])):
            t = (lam[p] - middle) * scale
            total[p] = a + t * (b + t * (c + t * (d + t * (e + t * (f + t * (g + t * h))))))
    for p in range(len(total)):
        flux[p] *= exp(total[p])


@compiled
def pass_up(weight, wavelength, edge, left, width, nodes):
    """Adjoint of `pass_down`: gather the weights of pixels on the nodes of all cells.

    Parameters
    ----------
    weight : ndarray of shape (n_pixels,)
        dloss / dlog flux.
    wavelength, edge, left, width : ndarray, ndarray, float, float
        The block, as in `cover`.
    nodes : ndarray of shape (2 * LEAVES * NODES,)
        Filled.
    """
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
