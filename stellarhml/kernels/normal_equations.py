"""Normal equations of all lines of a spectrum, block-sparse because lines only meet their neighbours.

Lines are in the order of the first pixels of their windows, so that the neighbours of line i are the `ahead[i]` lines
after it. The blocks of J^T J above the diagonal are one flat array: for each line a matrix of shape (n_parameters,
ahead * n_parameters), one after the other, which conjugate gradients go through from front to back.
"""

import numpy as np

from stellarhml.kernels.forms import compiled, inlined
from stellarhml.kernels.threads import in_threads


def neighbours(start, stop):
    """Count the neighbours after each line.

    Parameters
    ----------
    start, stop : ndarray of shape (n_lines,), int64
        Windows, `start` not decreasing.

    Returns
    -------
    ahead : ndarray of shape (n_lines,), int64
        Number of lines after each whose windows begin before its own ends.
    """
    return np.maximum(np.searchsorted(start, stop) - np.arange(1, len(start) + 1), 0)


def assemble(jac, start, stop, residual, ahead, *, n_threads=1):
    """Blocks of J^T J and J^T r.

    Parameters
    ----------
    jac : ndarray of shape (n_parameters, sum of window lengths)
        Windows of all lines, one after the other, as `fused.jacobian` returns them. At least two parameters.
    start, stop : ndarray of shape (n_lines,), int64
        Windows.
    residual : ndarray of shape (n_pixels,)
        Weighted residual r.
    ahead : ndarray of shape (n_lines,), int64
        See `neighbours`.
    n_threads : int, default=1
        Threads; the result does not depend on it.

    Returns
    -------
    diagonal : ndarray of shape (n_lines, n_parameters, n_parameters)
        Blocks of each line with itself.
    upper : ndarray of shape (sum of ahead * n_parameters**2,)
        Blocks of each line with its neighbours.
    rhs : ndarray of shape (n_lines, n_parameters)
        J^T r.
    """
    n_lines, n_par = len(start), jac.shape[0]
    edge = np.concatenate([[0], np.cumsum(stop - start)])
    rows = np.concatenate([[0], np.cumsum(ahead)]) * n_par**2
    diagonal, rhs = np.empty((n_lines, n_par, n_par)), np.empty((n_lines, n_par))
    upper = np.empty(rows[-1])

    def some(first, last):
        _assemble(jac, start, stop, residual, ahead, edge, rows, diagonal, upper, rhs, first, last)

    in_threads(some, n_lines, n_threads)
    return diagonal, upper, rhs


@compiled
def _assemble(jac, start, stop, residual, ahead, edge, rows, diagonal, upper, rhs, first_line, last_line):
    """Fill what `assemble` returns, for some lines; edge and rows are where each begins in `jac` and `upper`."""
    n_par = jac.shape[0]
    for i in range(first_line, last_line):
        length = stop[i] - start[i]
        for a in range(n_par):
            own, right = jac[a, edge[i] : edge[i + 1]], residual[start[i] : stop[i]]
            total = 0.0
            for p in range(length):
                total += own[p] * right[p]
            rhs[i, a] = total
        _products(jac, edge[i], edge[i], length, diagonal[i, :, :n_par])  # a slice, as below: compiled once
        block = upper[rows[i] : rows[i + 1]].reshape((n_par, n_par * ahead[i]))
        for k in range(ahead[i]):
            j = i + 1 + k
            length = min(stop[i], stop[j]) - start[j]
            _products(jac, edge[i] + start[j] - start[i], edge[j], length, block[:, k * n_par : (k + 1) * n_par])


@inlined
def _products(jac, left, right, length, block):
    """Fill `block` with products of pixels from `left` with pixels from `right`, two by two parameters at a time."""
    n_par = jac.shape[0]
    for a in range(0, n_par, 2):
        a = min(a, n_par - 2)  # an odd last parameter is done together with the one before it, again
        for b in range(0, n_par, 2):
            b = min(b, n_par - 2)
            x0, x1 = jac[a, left : left + length], jac[a + 1, left : left + length]
            y0, y1 = jac[b, right : right + length], jac[b + 1, right : right + length]
            s00 = s01 = s10 = s11 = 0.0
            for p in range(length):
                s00 += x0[p] * y0[p]
                s01 += x0[p] * y1[p]
                s10 += x1[p] * y0[p]
                s11 += x1[p] * y1[p]
            block[a, b], block[a, b + 1], block[a + 1, b], block[a + 1, b + 1] = s00, s01, s10, s11


@compiled
def solve(diagonal, upper, ahead, rhs, max_iter, tol):
    """Conjugate gradients on the block-sparse normal equations, preconditioned by the diagonal blocks.

    Parameters
    ----------
    diagonal : ndarray of shape (n_lines, n_parameters, n_parameters)
        Diagonal blocks, damping and prior included.
    upper, ahead : ndarray
        Blocks above the diagonal, see `assemble`.
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
    inverse, z, image = np.empty(diagonal.shape), np.empty(rhs.shape), np.empty(rhs.shape)
    _invert(diagonal, inverse)
    step, left, direction = np.zeros(rhs.shape), rhs.copy(), np.zeros(rhs.shape)
    _multiply(inverse, left, z)
    rho = _dot(left, z)
    goal, beta = tol**2 * rho, 0.0
    for _ in range(max_iter):
        if rho <= goal:
            break
        direction *= beta
        direction += z
        _multiply(diagonal, direction, image)
        _add_upper(upper, ahead, direction, image)
        alpha = rho / _dot(direction, image)
        step += alpha * direction
        left -= alpha * image
        _multiply(inverse, left, z)
        rho, before = _dot(left, z), rho
        beta = rho / before
    return step


@compiled
def _add_upper(upper, ahead, vectors, image):
    """Add the blocks above the diagonal and their transposes, times vectors, to `image`."""
    n_lines, n_par = vectors.shape
    flat, out = vectors.reshape(n_lines * n_par), image.reshape(n_lines * n_par)
    row = 0
    for i in range(n_lines):
        width = ahead[i] * n_par
        behind = (i + 1) * n_par
        vector, result = flat[behind : behind + width], out[behind : behind + width]
        for a in range(n_par):
            block, value, total = upper[row : row + width], vectors[i, a], 0.0
            for q in range(width):
                total += block[q] * vector[q]
                result[q] += block[q] * value
            image[i, a] += total
            row += width


@compiled
def _invert(blocks, inverse):
    """Invert small positive definite matrices into `inverse`, by elimination without pivots."""
    n = blocks.shape[1]
    left = np.empty((n, n))
    for block in range(len(blocks)):
        out = inverse[block]
        for i in range(n):
            for j in range(n):
                left[i, j] = blocks[block, i, j]
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


@compiled
def _multiply(blocks, vectors, out):
    """Block-diagonal matrix times vectors, into `out`."""
    for i in range(len(blocks)):
        for a in range(vectors.shape[1]):
            total = 0.0
            for b in range(vectors.shape[1]):
                total += blocks[i, a, b] * vectors[i, b]
            out[i, a] = total


@compiled
def _dot(left, right):
    total = 0.0
    for i in range(left.shape[0]):
        for a in range(left.shape[1]):
            total += left[i, a] * right[i, a]
    return total
