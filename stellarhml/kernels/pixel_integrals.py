"""From a model's pixels to a uniform grid, and from there to a detector's: polynomials through eight points.

Eight, because line cores are narrow: a Gaussian line of sigma 3 pixels is interpolated to 1.2e-5 of its depth, where
the cubic is off by 8e-4.
"""

import numpy as np

from stellarhml.kernels.forms import compiled

POINTS = 8
"""Points through which a polynomial goes."""

_MIDDLE = 3  # the polynomial is used between its points 3 and 4, where there are enough on both sides
# value of the polynomial at tau: sum over m of tau^m (_POWERS[m] @ values), tau = 0 at point 3; its integral from 0
_POWERS = np.linalg.inv(np.vander(np.arange(POINTS) - float(_MIDDLE), increasing=True))
_POWERS = np.hstack([_POWERS, _POWERS / np.arange(1, POINTS + 1)[:, None]])
_BARYCENTRIC = np.array([-1.0, 7.0, -21.0, 35.0, -35.0, 21.0, -7.0, 1.0]) / 5040


def resample_rows(x, rows, at):
    """Interpolate many functions by the polynomial through the eight points around, four to each side where there are.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Strictly increasing points, eight at least; their spacing may change.
    rows : ndarray of shape (m, n)
        Values there.
    at : ndarray of shape (p,)
        Increasing points at which to interpolate, none beyond the ends of `x`.

    Returns
    -------
    values : ndarray of shape (m, p)
        Values.
    """
    values = np.empty((len(rows), len(at)))
    x, rows, at = (np.require(part, np.float64, ["C", "W"]) for part in (x, rows, at))
    _resample(x, rows, at, values, _BARYCENTRIC)
    return values


def integrate_pixels(rows, position):
    """Integrate functions on a uniform grid between neighbouring edges.

    Parameters
    ----------
    rows : ndarray of shape (m, n)
        Values at the points 0, 1, ..., n - 1; eight at least.
    position : ndarray of shape (p + 1,)
        Increasing edges in units of the grid's step, from 0 to n - 1.

    Returns
    -------
    integral : ndarray of shape (m, p)
        Integrals in units of the step, of the polynomials through the eight points around.
    value : ndarray of shape (m, p + 1)
        Values at the edges: the derivatives of the integrals.
    """
    rows, position = (np.require(part, np.float64, ["C", "W"]) for part in (rows, position))
    integral, value = np.empty((len(rows), len(position) - 1)), np.empty((len(rows), len(position)))
    _integrate(rows, position, _POWERS, integral, value)
    return integral, value


@compiled
def _resample(x, rows, at, values, barycentric):
    n, last = len(x), -1
    weight, below, base = np.empty(POINTS), np.empty(POINTS), np.empty(POINTS)
    i = 0
    scale = 1.0
    for p in range(len(at)):
        while i < n - 2 and x[i + 1] <= at[p]:
            i += 1
        start = min(max(i - _MIDDLE, 0), n - POINTS)
        if start != last:
            last = start
            step = (x[start + POINTS - 1] - x[start]) / (POINTS - 1)
            even = True
            for j in range(1, POINTS - 1):
                even &= abs(x[start + j] - x[start] - j * step) < 1e-7 * step
            scale = 1 / step
            if even:
                for j in range(POINTS):
                    base[j] = barycentric[j]
            else:
                for j in range(POINTS):
                    product = 1.0
                    for k in range(POINTS):
                        if k != j:
                            product *= (x[start + j] - x[start + k]) * scale
                    base[j] = 1 / product
        product = 1.0
        for j in range(POINTS):
            below[j] = product
            product *= (at[p] - x[start + j]) * scale
        product = 1.0
        for j in range(POINTS - 1, -1, -1):
            weight[j] = base[j] * below[j] * product
            product *= (at[p] - x[start + j]) * scale
        for m in range(len(rows)):
            total = 0.0
            for j in range(POINTS):
                total += weight[j] * rows[m, start + j]
            values[m, p] = total


@compiled
def _integrate(rows, position, table, integral, value):
    n = rows.shape[1]
    inner, near, far = np.empty(2 * POINTS), np.zeros(2 * POINTS), np.empty(2 * POINTS)
    sums = np.zeros((len(rows), n))
    _weights(1.0, table, inner)
    for m in range(len(rows)):
        for k in range(n - 1):
            start = min(max(k - _MIDDLE, 0), n - POINTS)
            total = 0.0
            if start == k - _MIDDLE:
                for j in range(POINTS):
                    total += inner[POINTS + j] * rows[m, start + j]
            else:
                _weights(k - start - _MIDDLE, table, near)
                _weights(k + 1 - start - _MIDDLE, table, far)
                for j in range(POINTS):
                    total += (far[POINTS + j] - near[POINTS + j]) * rows[m, start + j]
            sums[m, k + 1] = sums[m, k] + total
    before = np.zeros(len(rows))
    for p in range(len(position)):
        k = min(max(int(position[p]), 0), n - 2)
        start = min(max(k - _MIDDLE, 0), n - POINTS)
        # 0 but for the stencils at the ends
        if start != k - _MIDDLE:
            _weights(k - start - _MIDDLE, table, near)
        _weights(position[p] - start - _MIDDLE, table, far)
        for m in range(len(rows)):
            total, level = sums[m, k], 0.0
            for j in range(POINTS):
                level += far[j] * rows[m, start + j]
                total += far[POINTS + j] * rows[m, start + j]
            if start != k - _MIDDLE:
                for j in range(POINTS):
                    total -= near[POINTS + j] * rows[m, start + j]
            value[m, p] = level
            if p:
                integral[m, p - 1] = total - before[m]
            before[m] = total


@compiled
def _weights(tau, table, weights):
    """Weights of the eight values in the polynomial at tau, and in its integral from 0 to tau."""
    for j in range(2 * POINTS):
        weights[j] = table[POINTS - 1, j]
    for m in range(POINTS - 2, -1, -1):
        for j in range(2 * POINTS):
            weights[j] = weights[j] * tau + table[m, j]
    for j in range(POINTS):
        weights[POINTS + j] *= tau
