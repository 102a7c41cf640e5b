r"""Levenberg-Marquardt for all lines of a spectrum at once.

Minimises :math:`\sum_p (S_p - F_p)^2 / s^2 + \sum_{jk} (\theta_{jk} - \theta^0_{jk})^2 / \kappa_{jk}^2`: the second
sum is a weak prior that holds what a line does not show (the limiting depth of a weak line, say), so that the
parameters of a line stay smooth from spectrum to spectrum. Parameters stay within a box around the prior.
"""

from typing import NamedTuple

import numpy as np

from stellarhml.kernels import fused, normal_equations
from stellarhml.kernels.line_profiles import component_rows, components_and_chain, get_profile
from stellarhml.kernels.windows import line_windows

_SOLVER_TOLERANCE = 1e-4  # wings of the Jacobian: it steers the steps, the model itself has its full wings
_MAX_DAMPING = 1e8


def fit_lines(wavelength, flux, start, *, profile, wing_cut, pixels, noise, max_iter, tol, n_threads=1):
    """Fit lines to a spectrum by Levenberg-Marquardt.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,)
        Increasing wavelengths in angstrom.
    flux : ndarray of shape (n_pixels,), float64
        Normalised flux.
    start : Start
        Start values, which are the prior's means, its standard deviations, the largest step and the box.
    profile : str
        Name of the profile.
    wing_cut : int or None
        Pixels on which a line is evaluated; None adapts them to each line.
    pixels : slice
        Pixels that count.
    noise : float
        The s of the sum: deviation of the flux that weighs as much as a parameter one prior_width off.
    max_iter : int
        Largest number of steps.
    tol : float
        Relative decrease of the sum at which to stop.
    n_threads : int, default=1
        Threads; the result does not depend on it.

    Returns
    -------
    theta : ndarray of shape (n_lines, n_parameters), float64
        Fitted parameters, in the order of the start values.
    n_iter : int
        Steps taken.
    converged : bool
        Whether the sum stopped decreasing before `max_iter`.
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
            step[order] = normal_equations.solve(diagonal, upper, ahead, rhs, 200, 1e-3)
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
    """Where a fit begins and how far it may go; all arrays have shape (n_lines, n_parameters)."""

    theta: np.ndarray
    prior_width: np.ndarray
    step_limit: np.ndarray
    reach: np.ndarray


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
        ahead = normal_equations.neighbours(start, stop)
        diagonal, upper, rhs = normal_equations.assemble(jac, start, stop, residual, ahead, n_threads=self.n_threads)
        w2 = weight.max() ** 2
        diagonal *= w2
        upper *= w2
        return diagonal, upper, ahead, rhs, order
