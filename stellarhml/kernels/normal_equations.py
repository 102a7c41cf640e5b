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
    inverse = np.empty_like(diagonal)
    for i in range(len(diagonal)):
        inverse[i] = np.linalg.inv(diagonal[i])
    step = np.zeros_like(rhs)
    left = rhs.copy()
    z = _times(inverse, left)
    direction = z.copy()
    rho = np.sum(left * z)
    goal = tol * tol * rho
    for _ in range(max_iter):
        if rho <= goal:
            break
        image = _times(diagonal, direction)
        for k in range(len(first)):
            i, j = first[k], second[k]
            for a in range(rhs.shape[1]):
                for b in range(rhs.shape[1]):
                    image[i, a] += pairs[k, a, b] * direction[j, b]
                    image[j, b] += pairs[k, a, b] * direction[i, a]
        alpha = rho / np.sum(direction * image)
        step += alpha * direction
        left -= alpha * image
        z = _times(inverse, left)
        rho_new = np.sum(left * z)
        direction = z + rho_new / rho * direction
        rho = rho_new
    return step


@njit(cache=True, nogil=True)
def _times(blocks, vectors):
    out = np.zeros_like(vectors)
    for i in range(len(blocks)):
        for a in range(vectors.shape[1]):
            for b in range(vectors.shape[1]):
                out[i, a] += blocks[i, a, b] * vectors[i, b]
    return out
