"""Normal equations of all lines of a spectrum, block-sparse because lines only meet their neighbours."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def overlaps(start, stop):
    """Pairs of lines whose windows overlap.

    Parameters
    ----------
    start, stop : ndarray of shape (n_lines,), int64
        Windows, `start` not decreasing.

    Returns
    -------
    first, second : ndarray of shape (n_pairs,), int64
        Pairs with first < second.
    """
    n_pairs = 0
    for i in range(len(start)):
        j = i + 1
        while j < len(start) and start[j] < stop[i]:
            n_pairs += 1
            j += 1
    first, second = np.empty(n_pairs, np.int64), np.empty(n_pairs, np.int64)
    n_pairs = 0
    for i in range(len(start)):
        j = i + 1
        while j < len(start) and start[j] < stop[i]:
            first[n_pairs], second[n_pairs] = i, j
            n_pairs += 1
            j += 1
    return first, second


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def assemble(jac, start, stop, residual, first, second):
    """Blocks of J^T J and J^T r.

    Parameters
    ----------
    jac : ndarray of shape (sum of window lengths, n_parameters)
        Windows of all lines, one after the other, as `fused.jacobian` returns them.
    start, stop : ndarray of shape (n_lines,), int64
        Windows.
    residual : ndarray of shape (n_pixels,)
        Weighted residual r.
    first, second : ndarray of shape (n_pairs,), int64
        Overlapping pairs.

    Returns
    -------
    diagonal : ndarray of shape (n_lines, n_parameters, n_parameters)
        Blocks of each line with itself.
    pairs : ndarray of shape (n_pairs, n_parameters, n_parameters)
        Blocks of each pair.
    rhs : ndarray of shape (n_lines, n_parameters)
        J^T r.
    """
    n_lines, n_par = len(start), jac.shape[1]
    offset = np.zeros(n_lines + 1, np.int64)
    for i in range(n_lines):
        offset[i + 1] = offset[i] + stop[i] - start[i]
    diagonal, rhs = np.zeros((n_lines, n_par, n_par)), np.zeros((n_lines, n_par))
    for i in range(n_lines):
        for p in range(start[i], stop[i]):
            row = jac[offset[i] + p - start[i]]
            for a in range(n_par):
                rhs[i, a] += row[a] * residual[p]
                for b in range(n_par):
                    diagonal[i, a, b] += row[a] * row[b]
    pairs = np.zeros((len(first), n_par, n_par))
    for k in range(len(first)):
        i, j = first[k], second[k]
        block = pairs[k]
        for p in range(start[j], min(stop[i], stop[j])):
            row_i, row_j = jac[offset[i] + p - start[i]], jac[offset[j] + p - start[j]]
            for a in range(n_par):
                for b in range(n_par):
                    block[a, b] += row_i[a] * row_j[b]
    return diagonal, pairs, rhs


@njit(cache=True, nogil=True)
def solve(diagonal, pairs, first, second, rhs, max_iter, tol):
    """Conjugate gradients on the block-sparse normal equations, preconditioned by the diagonal blocks.

    Parameters
    ----------
    diagonal : ndarray of shape (n_lines, n_parameters, n_parameters)
        Diagonal blocks, damping and prior included.
    pairs, first, second : ndarray
        Off-diagonal blocks, see `assemble`.
    rhs : ndarray of shape (n_lines, n_parameters)
        Right-hand side.
    max_iter : int
        Largest number of iterations.
    tol : float
        Relative size of the residual at which to stop.

    Returns
    -------
    step : ndarray of shape (n_lines, n_parameters)
        The solution.
    """
    n_lines, n_par = rhs.shape
    inverse = np.empty(diagonal.shape)
    for i in range(n_lines):
        _invert(diagonal[i], inverse[i])
    step, left, image = np.zeros(rhs.shape), rhs.copy(), np.empty(rhs.shape)
    z, direction = np.empty(rhs.shape), np.zeros(rhs.shape)
    rho, goal, beta = 0.0, 0.0, 0.0
    # loops rather than array expressions: each of those costs a second of compilation
    for k_iter in range(max_iter + 1):
        _multiply(inverse, left, z)
        rho_new = _dot(left, z)
        if k_iter == 0:
            goal = tol * tol * rho_new
        else:
            beta = rho_new / rho
        rho = rho_new
        if rho <= goal or k_iter == max_iter:
            break
        for i in range(n_lines):
            for a in range(n_par):
                direction[i, a] = z[i, a] + beta * direction[i, a]
        _multiply(diagonal, direction, image)
        for k in range(len(first)):
            i, j = first[k], second[k]
            for a in range(n_par):
                for b in range(n_par):
                    image[i, a] += pairs[k, a, b] * direction[j, b]
                    image[j, b] += pairs[k, a, b] * direction[i, a]
        alpha = rho / _dot(direction, image)
        for i in range(n_lines):
            for a in range(n_par):
                step[i, a] += alpha * direction[i, a]
                left[i, a] -= alpha * image[i, a]
    return step


@njit(cache=True, nogil=True)
def _invert(block, out):
    """Invert a small positive definite matrix into `out`, by elimination without pivots."""
    n = block.shape[0]
    left = block.copy()
    for i in range(n):
        for j in range(n):
            out[i, j] = 1.0 if i == j else 0.0
    for k in range(n):
        pivot = 1.0 / left[k, k]
        for j in range(n):
            left[k, j] *= pivot
            out[k, j] *= pivot
        for i in range(n):
            factor = left[i, k]
            if i != k:
                for j in range(n):
                    left[i, j] -= factor * left[k, j]
                    out[i, j] -= factor * out[k, j]


@njit(cache=True, nogil=True)
def _multiply(blocks, vectors, out):
    """Block-diagonal matrix times vectors, into `out`."""
    for i in range(len(blocks)):
        for a in range(vectors.shape[1]):
            total = 0.0
            for b in range(vectors.shape[1]):
                total += blocks[i, a, b] * vectors[i, b]
            out[i, a] = total


@njit(cache=True, nogil=True)
def _dot(left, right):
    total = 0.0
    for i in range(left.shape[0]):
        for a in range(left.shape[1]):
            total += left[i, a] * right[i, a]
    return total
