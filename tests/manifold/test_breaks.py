"""Breaks: where a grid jumps, nothing is interpolated across."""

import itertools

import numpy as np
import pytest

from stellarhml import LineManifoldInterpolator

TEFF = np.array([4000.0, 4100, 4200, 4300, 4500, 4700, 4900])
LOGG = np.array([3.0, 3.5, 4.0])
NODES = np.array(list(itertools.product(TEFF, LOGG)))


def parabolas(labels, at):
    """One parabola below a Teff, another above."""
    x = (labels[:, 0] - 4000) / 1000
    return np.where(labels[:, 0] < at, 1 + x - x**2 + labels[:, 1], 7 - 2 * x + 3 * x**2 + labels[:, 1])


@pytest.mark.parametrize("at", [4050.0, 4250.0, 4400.0, 4600.0, 4850.0])
def test_each_side_is_interpolated_by_itself(at):
    y = parabolas(NODES, at)
    fitted = LineManifoldInterpolator(breaks={"a": [at]}, label_names=("a", "b"), variables={}).fit(NODES, y)
    labels = np.array(list(itertools.product(np.linspace(4000, 4900, 91), [3.0, 3.3])))
    lower = TEFF[np.searchsorted(TEFF, at) - 1]
    upper = TEFF[np.searchsorted(TEFF, at)]
    # sides of one node or two cannot hold a parabola
    whole = [(at > TEFF).sum() >= 3, (at < TEFF).sum() >= 3]
    for side, good in (((labels[:, 0] <= lower), whole[0]), ((labels[:, 0] >= upper), whole[1])):
        if good:
            np.testing.assert_allclose(fitted.predict(labels[side]), parabolas(labels[side], at), atol=1e-10)
    # linear across
    share = (at - lower) / (upper - lower)
    ends = fitted.predict([[lower, 3.3], [upper, 3.3]])
    np.testing.assert_allclose(fitted.predict([[at, 3.3]]), (1 - share) * ends[0] + share * ends[1], atol=1e-10)


def test_two_breaks_beside_each_other_and_the_ends():
    y = np.arange(len(NODES), dtype=float)
    fitted = LineManifoldInterpolator(
        breaks={"teff": [3000.0, 4050.0, 4150.0, 4250.0, 4350.0, 4550.0, 4750.0, 9000.0]}, label_names=("teff", "logg")
    ).fit(NODES, y)
    linear = LineManifoldInterpolator(method="linear", label_names=("teff", "logg")).fit(NODES, y)
    labels = np.random.default_rng(0).uniform([4000, 3.0], [4900, 4.0], (50, 2))
    labels[:, 1] = 3.5  # the other label stays cubic
    np.testing.assert_allclose(fitted.predict(labels), linear.predict(labels), atol=1e-10)


def test_derivatives_with_breaks_are_those_of_the_values():
    y = parabolas(NODES, 4400.0) ** 2
    fitted = LineManifoldInterpolator(breaks={"teff": [4400.0]}, label_names=("teff", "logg")).fit(NODES, y)
    labels = np.random.default_rng(1).uniform([4001, 3.01], [4899, 3.99], (40, 2))
    _, _, slopes = fitted.locate(labels, derivatives=True)
    for k, step in ((0, 1e-2), (1, 1e-5)):
        shift = step * np.eye(2)[k]
        numeric = (fitted.predict(labels + shift) - fitted.predict(labels - shift)) / (2 * step)
        np.testing.assert_allclose(slopes[k] @ y, numeric, rtol=1e-6, atol=1e-6)


def test_breaks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`breaks` has \\['tef'\\]"):
        LineManifoldInterpolator(breaks={"tef": [5000]}, label_names=("teff", "logg")).fit(NODES, NODES[:, 0])
    with pytest.raises(ValueError, match="finite values"):
        LineManifoldInterpolator(breaks={"teff": [np.nan]}, label_names=("teff", "logg")).fit(NODES, NODES[:, 0])


def test_a_missing_node_is_filled_from_its_own_side():
    y = parabolas(NODES, 4400.0)
    kept = (NODES[:, 0] != 4100) | (NODES[:, 1] != 3.5)
    fitted = LineManifoldInterpolator(breaks={"teff": [4400.0]}, label_names=("teff", "logg")).fit(NODES[kept], y[kept])
    np.testing.assert_allclose(
        fitted.predict([[4100.0, 3.5]]), parabolas(np.array([[4100.0, 3.5]]), 4400.0), atol=1e-10
    )
    samples = fitted.error_samples()
    inside = (
        (samples.axis == 0) & ~np.isin(samples.labels[:, 0], [4300.0, 4500.0, 4700.0]) & (samples.labels[:, 1] != 3.5)
    )
    assert inside.sum() == 2 * 2  # 4100 and 4200, which have three on their side
    np.testing.assert_allclose((samples.weights @ y[kept])[inside], (samples.targets @ y[kept])[inside], atol=1e-10)
    # beside the jump nothing else is left than the line across
    edge = (samples.axis == 0) & (samples.labels[:, 0] == 4300.0) & (samples.labels[:, 1] == 3.0)
    assert samples.weights[edge].nnz == 2


def test_a_missing_node_is_filled_along_an_axis_that_does_not_jump():
    """At the upper end of the smooth side of a jump, neighbours in the other label stand for it."""
    nodes = np.array([[x, y] for x in range(8) for y in range(3)], dtype=float)
    kept = ~np.all(nodes == [3.0, 1.0], axis=1)
    values = nodes[:, 0] + 0.5 * nodes[:, 1] + 100.0 * (nodes[:, 0] > 3.5)
    model = LineManifoldInterpolator(breaks={"x": [3.5]}, label_names=("x", "y"), variables={})
    found = model.fit(nodes[kept], values[kept, None]).predict(np.array([[3.0, 1.0], [2.5, 1.0]]))
    # along x, a line through 2 and 4 would be off by 50; both directions are linear but for the jump
    np.testing.assert_allclose(np.ravel(found), [3.5, 3.0], atol=1e-6)
