"""Local cubic interpolation on uneven points."""

import numpy as np

from stellarhml.kernels.forms import compiled


def interpolate_cubic(x, y, at):
    """Interpolate `y` (n,) by the cubic through the four nearest points of `x` (n,), two on each side if possible.

    `x`, four points at least, and `at` increase; the outermost cubic extrapolates.
    """
    values = np.empty(len(at))
    if len(x) < 4:
        return np.interp(at, x, y) if len(x) else np.zeros(len(at))
    _interpolate(*(np.require(part, np.float64, ["C", "W"]) for part in (x, y, at)), values)
    return values


@compiled
def _interpolate(x, y, at, values):
    i = 1
    for p in range(len(at)):
        t = at[p]
        while i < len(x) - 3 and x[i + 1] < t:
            i += 1
        a, b, c, d = x[i - 1], x[i], x[i + 1], x[i + 2]
        values[p] = (
            y[i - 1] * (t - b) * (t - c) * (t - d) / ((a - b) * (a - c) * (a - d))
            + y[i] * (t - a) * (t - c) * (t - d) / ((b - a) * (b - c) * (b - d))
            + y[i + 1] * (t - a) * (t - b) * (t - d) / ((c - a) * (c - b) * (c - d))
            + y[i + 2] * (t - a) * (t - b) * (t - c) / ((d - a) * (d - b) * (d - c))
        )
