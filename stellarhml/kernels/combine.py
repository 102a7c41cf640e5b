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

    `indptr`, `line` and `values` are those of `manifold.line_tables.LineBank`; `nodes` (k,) have `weights` and
    `partial` (n_sums, k). `place` (n_catalog_lines,) is the row of each line in the sums, negative to leave it out;
    `complete` (n,) is whether all nodes have the line. Fills `share` (n_sums, n) with the sums of the weights, and
    `total` (n_sums, n, n_parameters) with the weighted sums of the values.
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

    `lines` (n,) are catalogue indices, `factors` (n_catalog_lines, n_parameters, n_factors) is int16, `unit`
    (n_catalog_lines, n_parameters) float32; `scores` (n_sums, n_factors) and `total` (n_sums, n, n_parameters) are
    float64.
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

    The entries of block b are ``indptr[b]:indptr[b + 1]``; entry e has BLOCK pixels `code[e]`, int8, of the row
    `row[e]`, uint16, in units of `scales[exponent[e] + 128]`. `coefficients` (n, n_rows), float32, weigh the rows. The
    sums are added to `total` (n, len(blocks), BLOCK), float32, for those `blocks`.
    """
    for i in range(blocks.size):
        b = blocks[i]
        for e in range(indptr[b], indptr[b + 1]):
            scale = scales[np.int64(exponent[e]) + 128]
            for m in range(coefficients.shape[0]):
                factor = coefficients[m, row[e]] * scale
                for p in range(BLOCK):
                    total[m, i, p] += factor * np.float32(code[e, p])
