"""Loops that link detections of many spectra: mutual nearest ones, union-find that keeps spectra apart, medians."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def mutual_nearest(position, start, pairs, tolerance, first, second, distance):
    """Find detections of two spectra that are each other's nearest, for many pairs; return the number of links.

    `position` (n_detections,) [km/s] increases within each spectrum, whose detections begin at `start` (n_spectra +
    1,); `pairs` (n_pairs, 2) are the spectra to compare, `tolerance` is the largest distance [km/s]. Overwrites
    `first`, `second` and `distance` [km/s] with the links. Of two detections at the same distance the bluer counts as
    nearer.
    """
    n_links = 0
    for p in range(len(pairs)):
        a_begin, a_end = start[pairs[p, 0]], start[pairs[p, 0] + 1]
        b_begin, b_end = start[pairs[p, 1]], start[pairs[p, 1] + 1]
        if b_begin == b_end:
            continue
        b = b_begin
        for a in range(a_begin, a_end):
            while b + 1 < b_end and abs(position[b + 1] - position[a]) < abs(position[b] - position[a]):
                b += 1
            gap = abs(position[b] - position[a])
            if gap > tolerance:
                continue
            # positions increase, so that the neighbours of `a` show whether it is the nearest of `b`
            if a > a_begin and abs(position[b] - position[a - 1]) <= gap:
                continue
            if a + 1 < a_end and abs(position[b] - position[a + 1]) < gap:
                continue
            first[n_links], second[n_links], distance[n_links] = a, b, gap
            n_links += 1
    return n_links


@njit(cache=True, nogil=True)
def _disjoint(bits, i, j):
    """Whether two groups share no spectrum."""
    shared = np.uint64(0)
    for word in range(bits.shape[1]):
        shared |= bits[i, word] & bits[j, word]
    return shared == 0


@njit(cache=True, nogil=True)
def _root(parent, i):
    """Root of a tree of the union-find; halves the path on its way."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def link_apart(first, second, order, bits):
    """Join detections link by link, unless two of one spectrum would join; return the root of each (n_detections,).

    The links `first` to `second` (n_links,) are taken in `order`. `bits` (n_detections, n_words), uint64, is the set of
    spectra of each detection, one bit per spectrum, and is overwritten: the row of a root is that of its group.
    """
    n = len(bits)
    parent = np.empty(n, np.int32)
    for i in range(n):
        parent[i] = i
    for k in order:
        i, j = _root(parent, first[k]), _root(parent, second[k])
        if i == j or not _disjoint(bits, i, j):
            continue
        i, j = min(i, j), max(i, j)
        parent[j] = i  # halving alone keeps the paths short
        for word in range(bits.shape[1]):
            bits[i, word] |= bits[j, word]
    for i in range(n):
        parent[i] = _root(parent, i)
    return parent


@njit(cache=True, nogil=True)
def nearest_apart(position, bits, tolerance):
    """Nearest group that shares no spectrum, for each group: its index, or the group's own if none is in reach.

    `position` (n_groups,) [km/s] increases, `bits` (n_groups, n_words), uint64, is the set of spectra of each group,
    `tolerance` the largest distance [km/s]. Of two groups at the same distance the bluer is taken.
    """
    n = len(position)
    nearest = np.arange(n)
    for i in range(n):
        reach = tolerance
        j = i - 1
        while j >= 0 and position[i] - position[j] <= reach:
            if _disjoint(bits, i, j):
                nearest[i], reach = j, position[i] - position[j]
                break
            j -= 1
        j = i + 1
        while j < n and position[j] - position[i] <= reach:
            if _disjoint(bits, i, j):
                if nearest[i] == i or position[j] - position[i] < reach:
                    nearest[i] = j
                break
            j += 1
    return nearest


@njit(cache=True, nogil=True)
def group_medians(values, group, n_groups):
    """Median of each group, (n_groups,), of `values` that do not decrease; the mean of the middle two if even.

    `group` (n,) is in [0, n_groups); no group is empty.
    """
    count = np.zeros(n_groups, np.int64)
    for g in group:
        count[g] += 1
    seen = np.zeros(n_groups, np.int64)
    median = np.zeros(n_groups)
    for k in range(len(values)):
        g = group[k]
        if seen[g] == (count[g] - 1) // 2:
            median[g] = values[k]
        if seen[g] == count[g] // 2:
            median[g] = 0.5 * (median[g] + values[k])
        seen[g] += 1
    return median
