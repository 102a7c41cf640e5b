"""Normal equations of parameters, continua and line faults against the same least-squares problem, dense."""

import numpy as np
import pytest
from numpy.polynomial import legendre

from stellarhml.forward.line_columns import LineColumns
from stellarhml.forward.stages import Parameter, Rows
from stellarhml.inference import line_faults
from stellarhml.inference.fit_data import FitData
from stellarhml.inference.likelihood import Likelihood
from stellarhml.inference.line_faults import LINE_SPREAD, SHAPE, START, Faults, FaultSystem, _step_within
from stellarhml.inference.parameter_set import ParameterSet
from stellarhml.kernels.line_columns import KINDS

X = [np.linspace(8500.0, 8520.0, 150), np.linspace(8516.0, 8531.0, 120)]
NAMES, N_LINES, DEGREE = ("a", "b"), 14, 2
AT = {"a": 0.45, "b": 0.6}
NOISE = 1.7  # factor of the variances
# first and last pixel of each line in the orders; two lines are in both, one is in none, one is wide
WINDOWS = [
    {0: (5, 16), 1: (12, 30), 2: (25, 40), 3: (28, 36), 4: (30, 145), 5: (60, 75), 6: (100, 112), 7: (118, 135),
     8: (125, 141)},
    {7: (2, 9), 8: (3, 20), 9: (15, 27), 10: (40, 60), 11: (58, 66), 12: (90, 118)},
]  # fmt: skip


class ToyChain:
    """Two labels, the depths of lines of two kinds; no model in the first pixels of an order."""

    parameters = Parameter("a", bounds=(0.0, 2.0)), Parameter("b", bounds=(0.0, 2.0), prior=(0.5, 0.2))
    centers = (8506, 8518, 8525), (8512, 8528)

    def evaluate(self, values):
        orders = []
        for k, x in enumerate(X):
            one, two = (sum(np.exp(-0.5 * ((x - c) / 0.4) ** 2) for c in centers) for centers in self.centers)
            flux = np.exp(-values["a"] * one - values["b"] ** 2 * two)
            if k:
                flux[:2] = np.nan
            tangents = {"a": -one * flux, "b": -2 * values["b"] * two * flux}
            tangents["ln_resolving_power"] = np.gradient(np.gradient(flux, x), x)
            orders.append(Rows(x, flux, tangents, {}))
        return orders


class Problem:
    """A likelihood with faults of lines, and the dense problem that it stands for."""

    def __init__(self, seed=0, *, shapes=True):
        rng = np.random.default_rng(seed)
        chain, fluxes, errors = ToyChain(), [], []
        for k, rows in enumerate(chain.evaluate({"a": 0.4, "b": 0.7})):
            level = (3 + k) * (1 + 0.2 * np.linspace(-1, 1, len(rows.flux)))
            errors.append(level / 50 * rng.uniform(0.8, 1.2, len(level)))
            fluxes.append(level * np.nan_to_num(rows.flux, nan=0.9) + rng.normal(size=len(level)) * errors[-1])
        errors[0][70:74] = np.inf
        self.parameters = ParameterSet(chain.parameters)
        self.likelihood = Likelihood(chain, self.parameters, FitData(X, fluxes, errors).pieces(DEGREE))
        self.linear = self.likelihood.linearise(self.parameters.variables(AT))
        self.columns = [_columns(rng, windows) for windows in WINDOWS]
        self.shapes = [rng.normal(size=(len(X[0]), 3 if shapes else 0)), np.empty((len(X[1]), 0))]
        self.faults = Faults(
            {kind: 0.3 * rng.normal(size=N_LINES) for kind in KINDS},
            {kind: 0.05 * rng.random(N_LINES) for kind in KINDS},
            {kind: rng.random(N_LINES) < 0.8 for kind in KINDS},
            {kind: rng.uniform(0.1, 0.4) for kind in KINDS},
            {kind: rng.uniform(1, 3, N_LINES) for kind in KINDS},
        )
        self.system = FaultSystem(self.likelihood, self.linear, self.columns, self.shapes, self.faults, noise=NOISE)
        self.fluxes, self.errors = fluxes, errors

    def dense(self):
        """Columns (n_pixels, n), residual, Hessian, gradient; unknowns are variables, faults, and the rest."""
        system, blocks, residuals = self.system, [], []
        for k, rows in enumerate(self.linear.orders):
            model, good = np.nan_to_num(rows.flux), np.isfinite(self.errors[k])
            basis = legendre.legvander(np.linspace(-1, 1, len(X[k])), DEGREE)
            per_error = np.where(good, 1 / self.errors[k], 0) / np.sqrt(NOISE)
            terms = basis * (model * per_error)[:, None]
            best = np.linalg.lstsq(terms, per_error * self.fluxes[k], rcond=None)[0]
            level = basis @ best * per_error
            seen = np.isfinite(rows.flux)
            residuals.append(np.where(seen, level * model - per_error * self.fluxes[k], 0.0))
            slopes = self.parameters.slopes(AT)
            labels = [np.nan_to_num(rows.tangents[name]) * slope for name, slope in zip(NAMES, slopes, strict=True)]
            lines = [self._column(k, line, kind) for line, kind in zip(system.line, system.kind, strict=True)]
            spread = np.nan_to_num(rows.tangents["ln_resolving_power"])
            own = [np.zeros((len(X[k]), DEGREE + 1))] * len(X)
            own[k] = terms
            shapes = [np.zeros((len(X[k]), table.shape[1])) for table in self.shapes]
            shapes[k] = self.shapes[k] * (level * model)[:, None]
            weighted = np.column_stack([*labels, *lines, spread]) * level[:, None]
            blocks.append(np.hstack([weighted, *shapes, *own]))
        table, residual = np.vstack(blocks), np.concatenate(residuals)
        kinds = np.array(KINDS)[system.kind]
        value, variance = (
            np.array([part[kind][line] for kind, line in zip(kinds, system.line, strict=True)])
            for part in (self.faults.values, self.faults.variances)
        )
        scale = np.array(
            [
                self.faults.scales[kind] * self.faults.spread[kind][line]
                for kind, line in zip(kinds, system.line, strict=True)
            ]
        )
        precision = np.zeros(table.shape[1])
        faults = slice(2, 2 + len(kinds))
        # Student's distribution with four degrees of freedom, as a Gaussian with its slope
        precision[faults] = 5 / (4 * scale**2 + value**2 + variance)
        precision[faults.stop] = 1 / LINE_SPREAD**2
        n_shapes = sum(part.shape[1] for part in self.shapes)
        precision[faults.stop + 1 : faults.stop + 1 + n_shapes] = 1 / SHAPE**2
        gradient = table.T @ residual
        gradient[faults] += precision[faults] * value
        # the prior of b in units of its variable, which runs from 0 to 1 between bounds of 0 and 2
        precision[1] = (2 / 0.2) ** 2
        gradient[1] += (AT["b"] - 0.5) / 0.2 * (2 / 0.2)
        return table, residual, precision, table.T @ table + np.diag(precision), gradient, faults

    def _column(self, order, line, kind):
        """Derivative of an order by one fault."""
        columns, whole = self.columns[order], np.zeros(len(X[order]))
        for i in np.flatnonzero(columns.line == line):
            n = columns.stop[i] - columns.start[i]
            whole[columns.start[i] : columns.stop[i]] = columns.table[columns.offset[i] :][:n, kind]
        return whole


def _columns(rng, windows):
    """Smooth columns of all kinds in windows of pixels."""
    start, stop = np.array(list(windows.values())).T
    offset = np.concatenate([[0], np.cumsum(stop - start)])
    table = np.empty((offset[-1], 4))
    for i, (a, b) in enumerate(windows.values()):
        x = np.linspace(-1, 1, b - a)[:, None]
        size = 0.01 if i % 4 == 3 else 0.3
        table[offset[i] : offset[i + 1]] = (1 - x**2) * np.cos(x * rng.uniform(0, 6, 4) + rng.uniform(0, 6, 4)) * size
    return LineColumns(np.array(list(windows)), start, stop, offset[:-1], table)


def close(got, want, scale=None):
    """Equal up to rounding in the solution of some seventy equations."""
    size = np.abs(want).max() if scale is None else scale
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8 * size)


@pytest.fixture(params=["band", "wide lines", "all wide", "no shapes"])
def problem(request, monkeypatch):
    """With lines in the band, or those that overlap more than five unknowns, or all, in the border."""
    longest = {"wide lines": 5, "all wide": -1}.get(request.param, 120)
    monkeypatch.setattr(line_faults, "_LONGEST_BAND", longest)
    problem = Problem(shapes=request.param != "no shapes")
    n, n_wide = len(problem.system.line), problem.system.n_wide
    assert n > 30
    assert {"wide lines": 0 < n_wide < n, "all wide": n_wide == n}.get(request.param, n_wide == 0)
    return problem


def test_one_solution_is_that_of_the_dense_problem(problem):
    _, _, _, hessian, gradient, faults = problem.dense()
    solved, inverse = problem.system.solve(), np.linalg.inv(hessian)
    step = -inverse @ gradient
    close(solved.step, step[:2])
    close(solved.change, step[faults])
    close(solved.variances, np.diag(inverse)[faults])
    close(solved.inverse[:2, :2], inverse[:2, :2])
    n_narrow = len(problem.system.line) - problem.system.n_wide
    kinds = np.array(KINDS)[problem.system.kind]
    present = [problem.faults.values[kind][line] for kind, line in zip(kinds, problem.system.line, strict=True)]
    np.testing.assert_array_equal(solved.present, present)
    assert len(set(zip(problem.system.line, problem.system.kind, strict=True))) == len(kinds)
    assert problem.system.n_wide + n_narrow == len(kinds)


def test_unknowns_are_the_faults_that_were_seen(problem):
    """But for line 13, which is in no order."""
    found = set(zip(problem.system.line.tolist(), problem.system.kind.tolist(), strict=True))
    seen = {(line, k) for k, kind in enumerate(KINDS) for line in np.flatnonzero(problem.faults.seen[kind]).tolist()}
    assert found == {(line, k) for line, k in seen if line != 13}
    assert found != seen


def test_parts_of_the_covariance(problem):
    table, _, precision, hessian, _, faults = problem.dense()
    solved, inverse = problem.system.solve(), np.linalg.inv(hessian)
    parts = problem.system.parts(solved)
    rows = inverse[:2]
    fault = precision.copy()
    fault[1] = 0.0
    close(parts["noise"], rows @ table.T @ table @ rows.T)
    close(parts["line_faults"], rows @ np.diag(fault) @ rows.T)
    close(parts["prior"], rows @ np.diag(precision - fault) @ rows.T)
    close(sum(parts.values()), inverse[:2, :2])
    assert all(part[0, 0] > 0 for name, part in parts.items())
    # the effect of a fault that the fit takes for something else
    close(problem.system.pulls(solved), -(rows[:, faults] * precision[faults]).T)


def test_residuals_and_influence(problem):
    table, residual, _, hessian, gradient, faults = problem.dense()
    system, solved, inverse = problem.system, problem.system.solve(), np.linalg.inv(hessian)
    step, ends = -inverse @ gradient, [0, 150, 270]
    used = np.abs(table).any(axis=1)
    after = residual + table @ step
    influence = -(inverse[:2] @ table.T).T
    n_narrow = len(system.line) - system.n_wide
    present = np.zeros(table.shape[1])
    present[faults.start : faults.start + n_narrow] = solved.present[:n_narrow]
    without = residual - table @ present
    found = system.residuals_after(solved), system.influence(solved), system.linear_residuals(solved), system.weights()
    for k in range(2):
        own = slice(ends[k], ends[k + 1])
        close(found[0][k], np.where(used, after, 0)[own])
        close(found[1][k], influence[own])
        close(found[2][k], without[own])
        np.testing.assert_array_equal(found[3][k] != 0, np.isfinite(problem.errors[k]))
    # the part of noise is the sum of what each pixel moves
    close(problem.system.parts(solved)["noise"], influence.T @ influence)


def test_score_is_one_more_column(problem):
    table, residual, _, hessian, gradient, _ = problem.dense()
    rng, weights = np.random.default_rng(3), problem.system.weights()
    tangents = [np.cumsum(rng.normal(size=len(x))) for x in X]
    column = np.concatenate([tangent * weights[k] for k, tangent in enumerate(tangents)])
    larger = np.block([[hessian, (table.T @ column)[:, None]], [(column @ table)[None], np.array([[column @ column]])]])
    inverse = np.linalg.inv(larger)
    expected = -inverse[-1] @ np.append(gradient, column @ residual), np.sqrt(inverse[-1, -1])
    solved = problem.system.solve()
    np.testing.assert_allclose(problem.system.score(solved, tangents), expected, rtol=1e-6)
    # a parameter that the others stand for already, and one that changes nothing
    known = [rows.tangents["a"] for rows in problem.linear.orders]
    for nothing in (known, [np.zeros(len(x)) for x in X]):
        assert problem.system.score(solved, nothing) == (0.0, np.inf)


def test_resolving_power_without_its_prior(problem):
    _, _, _, hessian, gradient, faults = problem.dense()
    free = hessian.copy()
    free[faults.stop, faults.stop] -= 1 / LINE_SPREAD**2
    inverse = np.linalg.inv(free)
    expected = -(inverse @ gradient)[faults.stop], np.sqrt(inverse[faults.stop, faults.stop])
    np.testing.assert_allclose(problem.system.line_spread(problem.system.solve()), expected, rtol=1e-6)


def test_gradients_of_other_terms_move_the_step(problem):
    before = problem.system.solve()
    gradient = np.array([3.0, -2.0])
    problem.system.add_gradient(gradient)
    after = problem.system.solve()
    close(after.step - before.step, -before.inverse[:2, :2] @ gradient)
    close(after.variances, before.variances)


def test_evidence_of_the_faults(problem):
    """Laplace's approximation of the dense problem, over that of a fit without faults, and without "b"."""
    table, _, precision, hessian, gradient, faults = problem.dense()
    solved = problem.system.solve()
    step = -np.linalg.solve(hessian, gradient)
    added = precision > 0  # "b" has a prior, too, which its variable needs to be one of those
    others = table[:, ~added]
    volume = np.linalg.slogdet(hessian)[1] - np.log(precision[added]).sum() - np.linalg.slogdet(others.T @ others)[1]
    squared = precision[faults] @ (solved.present + solved.change) ** 2
    squared += precision[faults.stop :] @ step[faults.stop :] ** 2 + ((AT["b"] - 0.5) / 0.2) ** 2
    assert solved.cost(np.array([False, True])) == pytest.approx(0.5 * (squared + volume))
    np.testing.assert_allclose(solved.told(), 1 - precision[faults] * solved.variances, rtol=1e-9)
    assert 0 < solved.told().min() < solved.told().max() < 1


def test_faults_after_a_step():
    problem = Problem()
    solved = problem.system.solve()
    faults = solved.move(problem.faults)
    for k, kind in enumerate(KINDS):
        own = problem.system.kind == k
        line, change = problem.system.line[own], solved.change[own]
        if kind in ("strength", "wing"):  # a step of a strength is linear in the strength, not in its logarithm
            change = np.log(np.maximum(1 + change, 0.1))
        limit = {"strength": 2.5, "velocity": 0.5, "width": 0.3, "wing": 1.0}[kind]
        expected = solved.present[own] + np.clip(change, -limit, limit)
        np.testing.assert_allclose(faults.values[kind][line], expected, rtol=1e-12)
        np.testing.assert_allclose(faults.variances[kind][line], solved.variances[own], rtol=1e-12)
        np.testing.assert_array_equal(np.flatnonzero(faults.seen[kind]), np.sort(line))
        unseen = ~faults.seen[kind]
        np.testing.assert_array_equal(faults.values[kind][unseen], problem.faults.values[kind][unseen])
        assert faults.scales[kind] != problem.faults.scales[kind]


def test_first_unknowns_are_what_one_scale_makes_visible():
    problem = Problem()
    nothing = Faults.none(N_LINES)
    system = FaultSystem(problem.likelihood, problem.linear, problem.columns, problem.shapes, nothing, noise=NOISE)
    expected = set()
    for line in range(N_LINES):
        for k, kind in enumerate(KINDS):
            weighted = [problem._column(order, line, k) * weight for order, weight in system.weights().items()]
            if START[kind] * np.sqrt(sum(part @ part for part in weighted)) > 0.3:
                expected.add((line, k))
    assert set(zip(system.line.tolist(), system.kind.tolist(), strict=True)) == expected
    assert 0 < len(expected) < 13 * len(KINDS)


@pytest.mark.parametrize("optical_depth", [0.02, 0.5, 1.0, 4.0, 30.0])
def test_offsets_hold_the_mean_flux(optical_depth):
    """Of a line v / (1 + v) whose ln v has a variance; the mean is by quadrature, the offset of second order in it."""
    variance, mean = 0.04, 0.1
    faults = Faults.none(2)
    faults.values["strength"][:] = mean
    faults.variances["strength"][0] = variance
    faults.seen["strength"][0] = True
    offsets = faults.offsets(np.full(2, optical_depth))
    node, weight = np.polynomial.hermite_e.hermegauss(30)

    def depth(fault):
        return optical_depth * np.exp(fault - mean) / (1 + optical_depth * np.exp(fault - mean))

    average = weight @ depth(mean + np.sqrt(variance) * node) / weight.sum()
    moved = depth(offsets["strength"][0])
    shift = abs(average - depth(mean))
    assert abs(moved - average) < 0.05 * shift + 1e-6
    # a line that was not seen has the variance of Student's distribution of the present scale
    unseen = offsets["strength"][1] - mean
    np.testing.assert_allclose(unseen * variance, (offsets["strength"][0] - mean) * 2 * START["strength"] ** 2)
    assert all((offsets[kind] == 0).all() for kind in KINDS[1:])
    assert faults.values["strength"][0] == mean


def test_scales_are_those_of_the_star():
    """Faults of four hundred lines, drawn with known scales, and none: what the fixed point finds after some rounds."""
    rng = np.random.default_rng(0)
    for scale in (0.3, 0.1, 0.0):
        found = _scale_of(rng, scale)
        # 400 faults tell a scale to 4 %, and a Gaussian has thinner tails than Student's distribution, of 0.8 of its
        # standard deviation as scale
        low, high = (0.65 * scale, 1.1 * scale) if scale else (0.0, 0.01)
        assert low < found < high, scale


def _scale_of(rng, scale, n_lines=400):
    """Scale of strengths that a spectrum of separate weak lines shows, whose faults have a standard deviation."""
    x = np.arange(20.0 * n_lines)
    profile = 0.3 * np.exp(-0.5 * (np.arange(-9, 10) / 3.0) ** 2)
    start = 20 * np.arange(n_lines)
    true, flux = scale * rng.normal(size=n_lines), np.ones(len(x))
    for j in range(n_lines):
        flux[start[j] : start[j] + 19] -= (1 + true[j]) * profile
    error = np.full(len(x), 0.01)
    data = FitData([x + 1], [flux + error * rng.normal(size=len(x))], [error])

    class Chain:
        parameters = (Parameter("a", bounds=(0.0, 2.0)),)

        def __init__(self, strength):
            self._strength = strength

        def evaluate(self, values):
            model = np.ones(len(x))
            for j in range(n_lines):
                model[start[j] : start[j] + 19] -= self._strength[j] * profile
            nothing = np.zeros(len(x))
            return [Rows(x, model, {"a": nothing, "ln_resolving_power": nothing}, {})]

    faults = Faults.none(n_lines)
    offset = 19 * np.arange(n_lines)
    for _ in range(12):
        strength = np.exp(faults.values["strength"])
        likelihood = Likelihood(Chain(strength), ParameterSet(Chain.parameters), data.pieces(0))
        table = np.zeros((19 * n_lines, 4))
        table[:, 0] = -(strength[:, None] * profile).ravel()
        columns = LineColumns(np.arange(n_lines), start, start + 19, offset, table)
        linear = likelihood.linearise(likelihood.parameters.variables({"a": 1.0}))
        system = FaultSystem(likelihood, linear, [columns], [np.empty((len(x), 0))], faults)
        faults = system.solve().move(faults)
    return faults.scales["strength"]


def test_saturation_is_differentiated_at_given_strengths(problem):
    """Lines whose effects depend on their strength and on a parameter by known powers, and dense normal equations."""
    rng, system, solved = np.random.default_rng(4), problem.system, problem.system.solve()
    by_strength, by_a = rng.normal(size=(2, N_LINES))
    present = problem.faults.values["strength"]

    def columns_at(values, at):
        ln_factor = by_strength * (values["strength"] - present) + by_a * (at["a"] - AT["a"])
        found = []
        for own in problem.columns:
            table = own.table.copy()
            table[:, 0] *= np.exp(ln_factor[own.lines()])
            found.append(own._replace(table=table))
        return found

    _, _, _, hessian, _, faults = problem.dense()
    narrow = faults.start + np.arange(len(system.line) - system.n_wide)
    # faults at a given spectrum if the variable moves, all else in the border being fixed
    moved = -np.linalg.solve(hessian[np.ix_(narrow, narrow)], hessian[narrow, 0])
    told = np.zeros(N_LINES)
    strengths = system.kind == 0
    told[system.line[strengths]] = (1 - solved.precision * solved.variances)[strengths]
    change = np.zeros(N_LINES)
    own = strengths[: len(narrow)]
    change[system.line[: len(narrow)][own]] = moved[own]
    counted = told > 0.2
    assert 5 < counted.sum() < N_LINES
    slope = system.slopes[0]  # of a with respect to its variable
    expected = np.sum((told * by_a * slope + by_strength * change)[counted])
    gradient = system.saturation_gradient(solved, columns_at, AT, {"a": 1e-4, "vmic": 0.05})
    assert gradient[0] == pytest.approx(expected, rel=2e-3, abs=1e-3)
    assert gradient[1] == 0  # b is not among the parameters that change profiles
    # compensation of a strength is bounded, so that lines do not leave the range in which they are linear
    step = 50.0
    far = system.saturation_gradient(solved, columns_at, AT, {"a": step})
    change = np.clip(change * step / slope / np.maximum(told, 0.2), -0.3, 0.3)
    bounded = np.sum((told * (by_a * step + by_strength * change))[counted]) / step * slope
    assert far[0] == pytest.approx(bounded, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_a_step_at_a_limit_is_the_best_one_there(seed):
    """Against the minimum of the same quadratic form with the variable fixed; other steps stay within their limits."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 8))
    matrix, gradient = root @ root.T, 3 * rng.normal(size=6)
    inverse = np.linalg.inv(matrix)
    step = -inverse @ gradient
    places, wide = np.array([0, 1, 5]), np.full(3, 1e3)
    # one limit is active
    worst = int(np.argmax(np.abs(step[places])))
    limits = np.stack([-wide, wide], axis=1)
    limits[worst] = np.sort([0.0, step[places[worst]] / 2])
    found = _step_within(step, inverse, places, limits)
    rest = np.arange(6) != places[worst]
    fixed = step[places[worst]] / 2
    best = np.linalg.solve(matrix[np.ix_(rest, rest)], -gradient[rest] - matrix[rest, places[worst]] * fixed)
    np.testing.assert_allclose(found[rest], best, rtol=1e-9, atol=1e-10)
    # many are
    limits = np.stack([-np.abs(step[places]) / 4, np.abs(step[places]) / 4], axis=1)
    found = _step_within(step, inverse, places, limits)
    assert np.all(np.abs(found[places]) <= np.abs(step[places]) / 4 * (1 + 1e-9))
    free = np.setdiff1d(np.arange(6), places)
    # whatever is not limited has no gradient left
    assert np.abs((matrix @ found + gradient)[free]).max() < 1e-8
