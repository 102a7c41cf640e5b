"""Weighted sums over compact tables: lines of nodes, factors of lines, rows of pixels in eight bits.

Tables keep their stored types, which are smaller than those of the sums; memory-mapped tables are read only where
needed.
"""

import numpy as np

from stellarhml.kernels.forms import compiled

BLOCK = 32
"""Pixels that share a scale in a table of eight bits."""


def frozen(*tables):
    """Read-only views of arrays: numba would compile again for writable ones."""
    views = [np.asarray(table).view() for table in tables]
    for view in views:
        view.flags.writeable = False
    return views


@compiled
def count_lines(indptr, line, nodes, place, count):
    """Add to `count` the number of nodes that have each line; ``place[line]`` is its index, negative to skip it."""
    for k in range(nodes.size):
        for e in range(indptr[nodes[k]], indptr[nodes[k] + 1]):
            if place[line[e]] >= 0:
                count[place[line[e]]] += 1


@compiled
def add_lines(indptr, line, values, nodes, place, complete, weights, partial, share, total):
    """Sum the lines of nodes, each with `weights`, or `partial` ones where not all nodes have the line.

    Parameters
    ----------
    indptr, line, values : ndarray
        As in `manifold.line_tables.LineBank`.
    nodes : ndarray of shape (k,), int64
        Nodes to sum over.
    place : ndarray of shape (n_catalog_lines,), int64
        Row of each line in the sums, negative to leave it out.
    complete : ndarray of shape (n,), bool
        Whether all nodes have a line.
    weights, partial : ndarray of shape (n_sums, k)
        The weights.
    share : ndarray of shape (n_sums, n)
        Filled with the sums of the weights.
    total : ndarray of shape (n_sums, n, n_parameters)
        Filled with the weighted sums of the values.
    """
    n_sums = weights.shape[0]
    n_parameters = values.shape[1]
    for k in range(nodes.size):
        for e in range(indptr[nodes[k]], indptr[nodes[k] + 1]):
            j = place[line[e]]
            if j < 0:
                continue
            for m in range(n_sums):
                w = weights[m, k] if complete[j] else partial[m, k]
                share[m, j] += w
                for p in range(n_parameters):
                    total[m, j, p] += w * values[e, p]


@compiled
def add_factors(lines, factors, unit, scores, total):
    """Add factors of lines, total[m, i, p] += unit[l, p] * sum_r scores[m, r] * factors[l, p, r] with l = lines[i].

    Parameters
    ----------
    lines : ndarray of shape (n,), int64
        Lines to compute.
    factors : ndarray of shape (n_catalog_lines, n_parameters, n_factors), int16
        The factors.
    unit : ndarray of shape (n_catalog_lines, n_parameters), float32
        Units of the factors.
    scores : ndarray of shape (n_sums, n_factors), float64
        Weights of the factors.
    total : ndarray of shape (n_sums, n, n_parameters), float64
        The sums.
    """
    n_parameters, n_factors = factors.shape[1], factors.shape[2]
    for i in range(lines.size):
        line = lines[i]
        for p in range(n_parameters):
            for m in range(scores.shape[0]):
                value = 0.0
                for r in range(n_factors):
                    value += scores[m, r] * factors[line, p, r]
                total[m, i, p] += unit[line, p] * value


@compiled
def add_blocks(indptr, row, exponent, code, coefficients, scales, blocks, total):
    """Add rows of pixels that are stored in eight bits, times coefficients.

    Parameters
    ----------
    indptr : ndarray of shape (n_blocks + 1,), int64
        The entries of block b are ``indptr[b]:indptr[b + 1]``.
    row : ndarray of shape (n_entries,), uint16
        Row to which an entry belongs.
    exponent : ndarray of shape (n_entries,), int8
        Index of its scale in `scales`, minus 128.
    code : ndarray of shape (n_entries, BLOCK), int8
        Its pixels.
    coefficients : ndarray of shape (n, n_rows), float32
        Weights of the rows.
    scales : ndarray of shape (256,), float32
        Scales.
    blocks : ndarray of shape (n_wanted,), int64
        Blocks to compute.
    total : ndarray of shape (n, n_wanted, BLOCK), float32
        The sums.
    """
    for i in range(blocks.size):
        b = blocks[i]
        for e in range(indptr[b], indptr[b + 1]):
            scale = scales[np.int64(exponent[e]) + 128]
            for m in range(coefficients.shape[0]):
                factor = coefficients[m, row[e]] * scale
                for p in range(BLOCK):
                    total[m, i, p] += factor * np.float32(code[e, p])
