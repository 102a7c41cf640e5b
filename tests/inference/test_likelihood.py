"""The likelihood against dense algebra, and the covariances that follow from it."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.polynomial import legendre

from stellarhml.forward.stages import Parameter, Rows
from stellarhml.inference.fit_data import FitData
from stellarhml.inference.likelihood import Likelihood, descend, minimise
from stellarhml.inference.parameter_set import ParameterSet
from stellarhml.inference.uncertainty import covariance_of, generator_covariance, inflation_by_groups

X = [np.linspace(8500.0, 8520.0, 150), np.linspace(8530.0, 8545.0, 120)]
NAMES = ("a", "b")
TRUTH = {"a": 0.4, "b": 0.7}


class ToyChain:
    """Two labels: the depths of lines of two kinds, which saturate."""

    parameters = tuple(Parameter(name, bounds=(0.0, 2.0)) for name in NAMES)

    def _lines(self, x):
        return [
            sum(np.exp(-0.5 * ((x - c) / 0.4) ** 2) for c in centers) for centers in ((8506, 8533, 8537), (8512, 8541))
        ]

    def flux(self, values):
        return [rows.flux for rows in self.evaluate(values)]

    def evaluate(self, values):
        orders = []
        for x in X:
            one, two = self._lines(x)
            flux = np.exp(-values["a"] * one - values["b"] ** 2 * two)
            tangents = {"a": -one * flux, "b": -2 * values["b"] * two * flux}
            orders.append(Rows(x, flux, tangents, tangents | {"ln_wavelength": np.gradient(flux, x)}))
        return orders

    def generator_pixels(self, values):
        return [np.arange(150), 150 + np.arange(120)]


def make(*, degree=2, snr=50.0, seed=0, priors=None, mask=True):
    rng = np.random.default_rng(seed)
    chain = ToyChain()
    fluxes, errors = [], []
    for k, flux in enumerate(chain.flux(TRUTH)):
        level = (3 + k) * (1 + 0.2 * np.linspace(-1, 1, len(flux)))
        errors.append(level / snr)
        fluxes.append(level * flux + rng.normal(size=len(flux)) * errors[-1])
    if mask:
        errors[0][40:45] = np.inf
    parameters = ParameterSet(chain.parameters, priors=priors)
    return Likelihood(chain, parameters, FitData(X, fluxes, errors).pieces(degree)), fluxes, errors


def dense(fluxes, errors, values, degree):
    """Data, noise and terms of the continua times the model, all good pixels in one."""
    data, noise, terms = [], [], []
    for k, (flux, error, model) in enumerate(zip(fluxes, errors, ToyChain().flux(values), strict=True)):
        good = np.isfinite(error)
        basis = legendre.legvander(np.linspace(-1, 1, len(flux)), degree) * model[:, None]
        wide = np.zeros((len(flux), 2 * (degree + 1)))
        wide[:, k * (degree + 1) : (k + 1) * (degree + 1)] = basis
        data.append(flux[good])
        noise.append(error[good])
        terms.append(wide[good])
    return np.concatenate(data), np.concatenate(noise), np.vstack(terms)


def test_the_marginal_likelihood_is_that_of_dense_gaussians():
    likelihood, fluxes, errors = make()
    ours, theirs = [], []
    for pair in ([0.4, 0.7], [0.5, 0.6], [0.35, 0.8]):
        values = dict(zip(NAMES, pair, strict=True))
        data, noise, terms = dense(fluxes, errors, values, 2)
        # coefficients of a variance so large that the prior is flat
        covariance = np.diag(noise**2) + 1e5 * terms @ terms.T
        theirs.append(-0.5 * (np.linalg.slogdet(covariance)[1] + data @ np.linalg.solve(covariance, data)))
        ours.append(likelihood.log_likelihood(likelihood.parameters.variables(values)))
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=0, atol=1e-3)


def test_residuals_are_what_the_best_continuum_leaves_over():
    likelihood, fluxes, errors = make()
    values = {"a": 0.5, "b": 0.6}
    data, noise, terms = dense(fluxes, errors, values, 2)
    best = np.linalg.lstsq(terms / noise[:, None], data / noise, rcond=None)[0]
    residuals = likelihood.residuals(likelihood.parameters.variables(values))
    np.testing.assert_allclose(residuals, (terms @ best - data) / noise, rtol=0, atol=1e-9)
    assert likelihood.n_pixels == len(data) == 265
    assert likelihood.n_terms == 6


def test_the_jacobian_is_the_derivative_where_the_model_fits():
    # Kaufman's approximation leaves out a term of the order of the residuals: without noise it is exact
    likelihood, _, _ = make(snr=1e9)
    at = likelihood.parameters.variables(TRUTH)
    jacobian = likelihood.jacobian(at)
    for k in range(2):
        step = 1e-6 * np.eye(2)[k]
        change = (likelihood.residuals(at + step) - likelihood.residuals(at - step)) / 2e-6
        np.testing.assert_allclose(jacobian[:, k], change, rtol=0, atol=1e-5 * np.abs(change).max())


def test_priors_are_rows_of_the_residuals():
    likelihood, _, _ = make(priors={"b": (0.5, 0.1)})
    at = likelihood.parameters.variables(TRUTH)
    assert likelihood.residuals(at)[-1] == pytest.approx(2.0)
    # the variable of a label is its share of the bounds, of width 2
    np.testing.assert_allclose(likelihood.jacobian(at)[-1], [0, 20.0])


def test_fit_and_covariance():
    found = []
    for seed in range(40):
        likelihood, _, _ = make(seed=seed)
        solution = minimise(likelihood, [{"a": 0.8, "b": 0.3}])
        assert solution.converged
        found.append(list(likelihood.parameters.values(solution.variables).values()))
    covariance = covariance_of(likelihood.linearise(solution.variables).jacobian)
    # scatter of 40 draws, known to 11 %: three times that
    np.testing.assert_allclose(np.std(found, axis=0, ddof=1), np.sqrt(np.diag(covariance)), rtol=0.34)
    assert np.all(np.abs(np.mean(found, axis=0) - list(TRUTH.values())) < 4 * np.sqrt(np.diag(covariance) / 40))


@pytest.mark.parametrize("priors", [None, {"b": (0.5, 0.1)}])
def test_a_descent_ends_at_the_minimum_of_least_squares(priors):
    likelihood, _, _ = make(priors=priors)
    expected = minimise(likelihood, [{"a": 0.8, "b": 0.3}], tolerance=1e-14)
    found = descend(likelihood, {"a": 1.9, "b": 0.1}, max_evaluations=30, settled=1e-4)
    assert found.converged
    sigma = np.sqrt(np.diag(covariance_of(likelihood.jacobian(expected.variables))))
    assert (np.abs(found.variables - expected.variables) < 1e-5 * sigma).all()
    assert not descend(likelihood, {"a": 1.9, "b": 0.1}, max_evaluations=2, settled=1e-4).converged


def test_a_descent_stops_at_a_bound_and_moves_along_it():
    likelihood, _, _ = make()
    parameters = ParameterSet(ToyChain.parameters, bounds={"a": (0.5, 2.0)})
    bounded = Likelihood(ToyChain(), parameters, likelihood.pieces)
    held = Likelihood(ToyChain(), ParameterSet(ToyChain.parameters, fixed={"a": 0.5}), likelihood.pieces)
    found = descend(bounded, {"a": 1.5, "b": 1.5}, max_evaluations=30, settled=1e-4)
    expected = minimise(held, [{"a": 0.5, "b": 0.3}], tolerance=1e-14)
    values = parameters.values(found.variables)
    assert values["a"] == 0.5
    assert values["b"] == pytest.approx(held.parameters.values(expected.variables)["b"], abs=1e-6)


def test_the_generators_error_is_diagonal_plus_low_rank():
    """Added to the covariance of the fit it is what a likelihood with a covariance D + J B J^T would give."""
    likelihood, _, _ = make()
    linear = likelihood.linearise(likelihood.parameters.variables(TRUTH))
    noise = covariance_of(linear.jacobian)
    rng = np.random.default_rng(0)
    edges = np.array([0, 70, 150, 200, 270])
    values, names = 1e-2 * rng.normal(size=(3, 4, 3)), (*NAMES, "ln_wavelength")
    shifts = SimpleNamespace(edges=edges, names=names, near=lambda labels: values)
    own = generator_covariance(linear, noise, shifts)
    # the moves by hand: an error spectrum of each sample, and how it moves the minimum
    moves = []
    for sizes in values:
        errors = [
            sum(
                rows.modes[name] * sizes[np.searchsorted(edges, place, side="right") - 1, k]
                for k, name in enumerate(names)
            )[:, None]
            for rows, place in zip(linear.orders, likelihood.chain.generator_pixels(TRUTH), strict=True)
        ]
        moves.append(noise @ linear.jacobian.T @ linear.project(errors)[:, 0])
    np.testing.assert_allclose(own, np.transpose(moves) @ moves, rtol=1e-9)
    # Woodbury: (J^T (1 + J B J^T)^-1 J)^-1 = (J^T J)^-1 + B
    jacobian = linear.jacobian
    inverse = np.linalg.inv(np.eye(len(jacobian)) + jacobian @ own @ jacobian.T)
    np.testing.assert_allclose(np.linalg.inv(jacobian.T @ inverse @ jacobian), noise + own, rtol=1e-8)


def test_a_parameter_without_a_trace_has_no_finite_variance():
    covariance = covariance_of(np.array([[1.0, 0.0], [2.0, 0.0]]))
    np.testing.assert_allclose(covariance, [[0.2, 0.0], [0.0, np.inf]])


def test_pieces_follow_the_width_of_orders():
    # 8000 to 8400 angstrom: 14,600 km/s, three pieces of five coefficients
    x, errors = [np.linspace(8000.0, 8400.0, 3000)], [np.ones(3000)]
    pieces = FitData(x, errors, errors).pieces("auto")
    assert [piece.basis.shape for piece in pieces] == [(1000, 6)] * 3
    assert [piece.basis.shape for piece in FitData(x, errors, errors).pieces(3)] == [(3000, 4)]
    assert FitData(x, errors, errors).pieces(None)[0].basis is None
    masked = np.full(3000, np.inf)
    masked[100:130] = 1
    assert [piece.basis.shape for piece in FitData(x, errors, [masked]).pieces("auto")] == [(30, 2)]
    assert FitData(x, errors, [np.full(3000, np.inf)]).pieces("auto") == []


def test_runs_for_a_first_fit_are_spread():
    errors = [np.ones(2048) for _ in range(28)]
    errors[3][:] = np.inf
    runs = FitData(errors, errors, errors).some_runs()
    assert len(runs) == 4
    assert all(span == slice(0, 2048) for _, span in runs)
    assert np.ptp([order for order, _ in runs]) > 15
    short = [np.ones(100)]
    assert FitData(short, short, short).some_runs() == [(0, slice(0, 100))]


def test_groups_of_residuals_widen_errors_by_what_goes_together_in_them():
    rng = np.random.default_rng(0)
    x = rng.normal(size=24 * 50)
    jacobian = np.stack([np.ones(x.size), x], axis=1)
    plain = covariance_of(jacobian)
    spread, shown = [], []
    for _ in range(200):
        # the first parameter sees an offset of each group of 50, as large as the noise; the second sees none
        residuals = rng.normal(size=x.size) + np.repeat(rng.normal(size=24), 50)
        best = np.linalg.lstsq(jacobian, residuals, rcond=None)[0]
        spread.append(best)
        left = residuals - jacobian @ best
        shown.append(np.diag(plain) * inflation_by_groups(plain, jacobian, left, [600, 600]) ** 2)
    # 200 draws know a standard deviation to 5 %, the widened one is biased by 24 groups and never below the plain one
    ratio = np.sqrt(np.mean(shown, axis=0)) / np.std(spread, axis=0)
    assert ratio[0] == pytest.approx(1, abs=0.15)
    assert np.sqrt(np.mean(shown, axis=0))[0] > 6 * np.sqrt(plain[0, 0])
    n_raised = 0
    for _ in range(200):
        noise = rng.normal(size=x.size)
        left = noise - jacobian @ np.linalg.lstsq(jacobian, noise, rcond=None)[0]
        n_raised += (inflation_by_groups(plain, jacobian, left, [1200]) > 1).sum()
    assert n_raised == 0
