r"""Levenberg-Marquardt for all lines of a spectrum at once.

Minimises :math:`\sum_p (S_p - F_p)^2 / s^2 + \sum_{jk} (\theta_{jk} - \theta^0_{jk})^2 / \kappa_{jk}^2`: the second
sum is a weak prior for parameters that a line does not constrain (such as the limiting depth of a weak line), so that
the parameters of a line vary smoothly from spectrum to spectrum. Parameters stay within a box around the prior.

The normal equations are block-sparse, because lines only overlap their neighbours. Lines are in the order of the first
pixels of their windows, so that the neighbours of line i are the `ahead[i]` lines after it. The blocks of J^T J above
the diagonal are one flat array, which conjugate gradients read from front to back: for each line a matrix of shape
(n_parameters, ahead * n_parameters).
"""

from typing import NamedTuple

import numpy as np

from stellarhml.kernels import fused
from stellarhml.kernels.forms import compiled, inlined
from stellarhml.kernels.fused import in_threads
from stellarhml.kernels.line_profiles import component_rows, components_and_chain, get_profile
from stellarhml.kernels.rendering import line_windows


def neighbours(start, stop):
    """Number of lines after each whose windows begin before its own ends, (n_lines,); `start` does not decrease."""
    return np.maximum(np.searchsorted(start, stop) - np.arange(1, len(start) + 1), 0)


def assemble(jac, start, stop, residual, ahead, *, n_threads=1):
    """Blocks of J^T J, and J^T r.

    `jac` (n_parameters, sum of window lengths) is as from `fused.jacobian`, of two parameters at least; `residual`
    (n_pixels,) is the weighted r, `ahead` (n_lines,) is from `neighbours`. Returns the blocks of each line with itself
    (n_lines, n_parameters, n_parameters), those with its neighbours, (sum of ahead * n_parameters**2,), and J^T r
    (n_lines, n_parameters). The result does not depend on `n_threads`.
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

    `diagonal` (damping and prior included), `upper` and `ahead` are as in `assemble`; the step has the shape of `rhs`
    (n_lines, n_parameters). Stops after `max_iter` iterations, or at a residual of `tol`, relatively.
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


_SOLVER_TOLERANCE = 1e-4  # wings of the Jacobian: it steers the steps, the model itself has its full wings
_MAX_DAMPING = 1e8


def fit_lines(wavelength, flux, start, *, profile, wing_cut, pixels, noise, max_iter, tol, n_threads=1):
    """Fit lines to a spectrum by Levenberg-Marquardt: parameters, steps taken, and whether it converged.

    The normalised `flux` (n_pixels,) counts on the slice `pixels`. `start` has start values, which are the prior's
    means, its standard deviations, the largest step and the box. `wing_cut` is as in `line_windows`. `noise` is the s
    of the sum: the standard deviation of the flux, which weighs the data against the prior. The fit ends once a
    step lowers the sum by less than `tol`, relatively, or, not converged, after `max_iter` steps. Parameters (n_lines,
    n_parameters) are float64, in the order of the start values.
    """
    prior, prior_width, step_limit, reach = start
    theta = prior
    weight = np.zeros(wavelength.size)
    weight[pixels] = 1 / noise
    model = _Model(wavelength, profile, wing_cut, n_threads)

    def cost_of(theta):
        model_flux = model.render(theta)
        residual = (flux - model_flux) * weight
        return model_flux, residual, residual @ residual + np.sum(((theta - prior) / prior_width) ** 2)

    model_flux, residual, cost = cost_of(theta)
    damping = 1e-2
    for n_iter in range(1, max_iter + 1):
        diagonal, upper, ahead, rhs, order = model.normal_equations(theta, model_flux, residual * weight, weight)
        rhs += ((prior - theta) / prior_width**2)[order]
        index = np.arange(theta.shape[1])
        diagonal[:, index, index] += 1 / prior_width[order] ** 2
        scale = diagonal[:, index, index].copy()
        improved = False
        while damping < _MAX_DAMPING:
            diagonal[:, index, index] = scale * (1 + damping)
            step = np.empty_like(theta)
            step[order] = solve(diagonal, upper, ahead, rhs, 200, 1e-3)
            trial = np.clip(theta + np.clip(step, -step_limit, step_limit), prior - reach, prior + reach)
            trial_flux, trial_residual, trial_cost = cost_of(trial)
            if trial_cost < cost:
                improved = True
                break
            damping *= 10
        if not improved:
            return theta, n_iter, True
        gain = (cost - trial_cost) / cost
        theta, model_flux, residual, cost = trial, trial_flux, trial_residual, trial_cost
        damping = max(damping * 0.2, 1e-6)
        if gain < tol:
            return theta, n_iter, True
    return theta, max_iter, False


class Start(NamedTuple):
    """Start values, priors and limits of a fit; all arrays have shape (n_lines, n_parameters)."""

    theta: np.ndarray  # start values, the means of the prior
    prior_width: np.ndarray  # standard deviations of the prior
    step_limit: np.ndarray  # largest step
    reach: np.ndarray  # half width of the box around the prior


class _Model:
    """The spectrum as a function of line parameters, and its normal equations."""

    def __init__(self, wavelength, profile, wing_cut, n_threads):
        self.wavelength = np.require(wavelength, np.float64, ["C", "W"])  # as in `fused`
        self.wing_cut, self.n_threads = wing_cut, n_threads
        self.profile = get_profile(profile)

    def render(self, theta):
        components = component_rows(self.profile, theta)
        start, stop = line_windows(self.wavelength, components, self.wing_cut)
        return fused.render(self.wavelength, components, start, stop, self.profile.form, n_threads=self.n_threads)

    def normal_equations(self, theta, model_flux, residual, weight):
        """Blocks of J^T W J and J^T W r for lines[order]; `residual` carries the weight twice."""
        components, chain = components_and_chain(self.profile, theta)
        start, stop = line_windows(self.wavelength, components, self.wing_cut, tolerance=_SOLVER_TOLERANCE)
        order = np.argsort(start, kind="stable")
        start, stop = start[order], stop[order]
        jac = fused.jacobian(
            self.wavelength,
            components[order],
            chain[order],
            start,
            stop,
            model_flux,
            self.profile.form,
            n_threads=self.n_threads,
        )
        inside = weight > 0
        # weights are one constant on the pixels that count, so J^T W J needs no weighting inside them
        if not inside.all():
            jac *= np.concatenate([inside[a:b] for a, b in zip(start, stop, strict=True)])
        ahead = neighbours(start, stop)
        diagonal, upper, rhs = assemble(jac, start, stop, residual, ahead, n_threads=self.n_threads)
        w2 = weight.max() ** 2
        diagonal *= w2
        upper *= w2
        return diagonal, upper, ahead, rhs, order
