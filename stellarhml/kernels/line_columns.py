r"""Derivatives of an observed spectrum with respect to single lines, and least squares with one unknown set for each.

With a line's factor :math:`f(v)`, :math:`v = A_L / (1 + x^2/g^2) + A_G e^{-x^2/2s^2}`, the four derivatives are those
with respect to the logarithm of its strength (:math:`v`), its velocity in km/s, the logarithm of the width of its core
and that of the strength of its wings. Each is a short run of the detector's pixels: sums over all lines take memory
proportional to their number, and normal equations of lines in the order of their wavelengths are a banded matrix.
"""

import math

import numpy as np

from stellarhml.kernels.forms import EXPONENTIAL, THIN, compiled

KINDS = ("strength", "velocity", "width", "wing")
"""Changes of a line: ln strength, velocity [km/s], ln width of the core, ln strength of the wings."""

_SPEED_OF_LIGHT = 299792.458  # km/s


@compiled
def line_columns(x, flux, components, first, last, form, edges, reach, group, table, step, start, stop, offset, out):
    """Fill derivatives (n_values, 4) of the pixels [start, stop) of each line, from `offset` on in `out`.

    `x` (n,), ln wavelength of the model, and `flux` (n,), the model; `components` (n_lines, 6), as in
    `kernels.fused`, in units of the model's wavelengths e^x, and the model's pixels [first, last) in which each line is
    evaluated; `edges` (n_pixels + 1,) of the detector, in ln wavelength. `table` is the integral of the broadening
    from -`reach` to `reach`, in steps of `step`; `group` pixels of the model are broadened as one.
    """
    values = np.empty(4)
    for j in range(len(components)):
        c, al, g, ag, s, d = components[j]
        base = offset[j]
        for p in range(start[j], stop[j]):
            for k in range(4):
                out[base + p - start[j], k] = 0.0
        q, lowest = first[j], start[j]
        while q < last[j]:
            end = min(q + group, last[j])
            for k in range(4):
                values[k] = 0.0
            center, norm = 0.0, 0.0
            for i in range(q, end):
                lam = math.exp(x[i])
                u, z = (lam - c) / g, (lam - c) / s
                lorentz = al / (1.0 + u * u)
                gauss = ag * math.exp(-0.5 * z * z)
                v = lorentz + gauss
                if form == THIN:
                    slope = -1.0 / max(1.0 - v, 1e-3)
                elif form == EXPONENTIAL:
                    e = math.exp(-v)
                    slope = -d * e / max(1.0 - d * (1.0 - e), 1e-9)
                else:
                    slope = -d / ((1.0 + v) * max(1.0 + (1.0 - d) * v, 1e-9))
                lo, hi = max(i - 1, 0), min(i + 1, len(x) - 1)
                weight = flux[i] * slope * (x[hi] - x[lo]) / (hi - lo)
                by_center = gauss * z / s + 2.0 * lorentz * u / g / (1.0 + u * u)
                values[0] += weight * v
                values[1] += weight * by_center * c / _SPEED_OF_LIGHT
                values[2] += weight * gauss * z * z
                values[3] += weight * lorentz
                center += x[i]
                norm += 1.0
            center /= norm
            q = end
            while lowest < stop[j] and edges[lowest + 1] < center - reach:
                lowest += 1
            before = _integral(edges[lowest] - center, reach, table, step)
            for p in range(lowest, stop[j]):
                if edges[p] > center + reach:
                    break
                after = _integral(edges[p + 1] - center, reach, table, step)
                share = (after - before) / (edges[p + 1] - edges[p])
                before = after
                for k in range(4):
                    out[base + p - start[j], k] += share * values[k]


@compiled
def _integral(at, reach, table, step):
    position = (at + reach) / step
    if position <= 0.0:
        return 0.0
    if position >= len(table) - 1:
        return 1.0
    k = int(position)
    return table[k] + (position - k) * (table[k + 1] - table[k])


@compiled
def band_products(unknown, start, stop, offset, columns, kind, weight, dense, band, border):
    """Add products of the columns of one order to normal equations.

    Column i is that of `unknown[i]`, increasing: `columns[offset[i] + p - start[i], kind[i]]` at the pixels p in
    [start, stop), each times `weight` (n_pixels,). `band[a - b, b]` gets the products of unknowns a >= b, `border`
    (n, m), a row for each column here, those with `dense` (n_pixels, m), which is weighted already.
    """
    n, m = len(unknown), dense.shape[1]
    for i in range(n):
        for p in range(start[i], stop[i]):
            value = columns[offset[i] + p - start[i], kind[i]] * weight[p]
            for k in range(m):
                border[i, k] += value * dense[p, k]
        for j in range(i, min(n, i + len(band))):
            lo, hi = max(start[i], start[j]), min(stop[i], stop[j])
            if lo >= hi:
                continue
            total = 0.0
            for p in range(lo, hi):
                total += (
                    columns[offset[i] + p - start[i], kind[i]]
                    * columns[offset[j] + p - start[j], kind[j]]
                    * weight[p]
                    * weight[p]
                )
            distance = unknown[j] - unknown[i]
            if distance < len(band):
                band[distance, unknown[i]] += total


@compiled
def add_columns(unknown, start, stop, offset, columns, kind, weight, change, out):
    """Add the columns of one order, as in `band_products`, times `change` (n_unknowns, m) to `out` (n_pixels, m)."""
    for i in range(len(unknown)):
        for p in range(start[i], stop[i]):
            value = columns[offset[i] + p - start[i], kind[i]] * weight[p]
            for k in range(change.shape[1]):
                out[p, k] += value * change[unknown[i], k]


@compiled
def band_inverse_diagonal(factor):
    """Diagonal of the inverse of a banded matrix from its Cholesky factor in lower form (n_bands, n), see Takahashi."""
    n_bands, n = factor.shape
    inverse = np.zeros((n_bands, n))  # inverse[k, j]: element (j + k, j)
    for j in range(n - 1, -1, -1):
        last = min(n_bands - 1, n - 1 - j)
        for i in range(last, -1, -1):
            total = 1.0 / factor[0, j] if i == 0 else 0.0
            for k in range(1, last + 1):
                value = inverse[abs(i - k), j + min(i, k)]
                total -= factor[k, j] * value
            inverse[i, j] = total / factor[0, j]
    return inverse[0].copy()
