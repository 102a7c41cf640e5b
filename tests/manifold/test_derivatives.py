"""Derivatives of interpolation weights by the labels."""

import itertools

import numpy as np
import pytest

from stellarhml import LineManifoldInterpolator

ALL_AXES = (
    np.array([5000.0, 5100, 5300, 5700, 5900]),
    np.array([3.0, 3.5, 4.5]),
    np.array([-0.5, 0.0]),
    np.array([1.0, 1.5, 2.5, 3.0]),
)
ORDERS = [(0,), (2,), (1, 2), (3, 0), (0, 1, 2), (0, 1, 2, 3)]  # four, three, two values and more, in 1 to 4 labels


def grid(order):
    return np.array(list(itertools.product(*(ALL_AXES[k] for k in order))))


def without(nodes, share, seed=0):
    return nodes[np.random.default_rng(seed).uniform(size=len(nodes)) >= share]


def around(nodes, n=60, seed=0, margin=0.1):
    """Labels inside and, a tenth of the range, outside."""
    low, high = nodes.min(axis=0), nodes.max(axis=0)
    return np.random.default_rng(seed).uniform(low - margin * (high - low), high + margin * (high - low), (n, len(low)))


def check(ours, x, rtol=1e-6):
    """Compare with central differences, per range of each label."""
    weights, outside, slopes = ours.locate(x, derivatives=True)
    plain = ours.locate(x)
    np.testing.assert_array_equal(plain[0].toarray(), weights.toarray())
    np.testing.assert_array_equal(plain[1], outside)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    assert len(slopes) == x.shape[1]
    span = np.ptp(ours.nodes_, axis=0)
    for k, slope in enumerate(slopes):
        assert slope.shape == weights.shape
        np.testing.assert_allclose(slope.sum(axis=1) * span[k], 0, atol=1e-9)
        if span[k] == 0:
            assert slope.nnz == 0 or np.abs(slope.data).max() == 0
            continue
        h = 1e-6 * span[k] * (np.arange(x.shape[1]) == k)
        central = (ours.locate(x + h)[0] - ours.locate(x - h)[0]).toarray() / 2e-6
        # weights of order one, known to 1e-16, over a step of 2e-6; third derivatives of 1e2 add 1e-10
        np.testing.assert_allclose(slope.toarray() * span[k], central, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("variables", [None, {}])
@pytest.mark.parametrize("method", ["auto", "linear"])
@pytest.mark.parametrize("order", ORDERS)
def test_grids(order, method, variables):
    nodes = grid(order)
    ours = LineManifoldInterpolator(method=method, variables=variables).fit(nodes, nodes)
    x = around(nodes)
    assert ours.locate(x)[1].any()
    check(ours, x)


@pytest.mark.parametrize("variable", ["inverse", "log", "saturating"])
@pytest.mark.parametrize("method", ["auto", "linear", "scattered"])
def test_variables(method, variable):
    nodes = grid((3, 1))
    ours = LineManifoldInterpolator(method=method, variables={"label0": variable}).fit(nodes, nodes)
    check(ours, around(nodes))


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("order", [(1, 2), (3, 0), (0, 1, 2), (0, 1, 2, 3)])
def test_holes(order, share):
    nodes = without(grid(order), share)
    ours = LineManifoldInterpolator().fit(nodes, nodes)
    check(ours, around(nodes, margin=0.0))


def test_single_value():
    nodes = np.insert(grid((0, 1)), 1, 4.0, axis=1)
    for method in ("auto", "linear", "scattered"):
        check(LineManifoldInterpolator(method=method).fit(nodes, nodes), np.insert(around(nodes[:, [0, 2]]), 1, 4.0, 1))
    one = LineManifoldInterpolator().fit(nodes[:1], nodes[:1])
    assert all(slope.nnz == 0 for slope in one.locate(nodes[:1], derivatives=True)[2])


@pytest.mark.parametrize("n_labels", [1, 2, 3, 4])
def test_scattered(n_labels):
    nodes = np.random.default_rng(3).uniform(size=(50, n_labels)) * 10.0 ** np.arange(n_labels)
    check(LineManifoldInterpolator(method="scattered").fit(nodes, nodes), around(nodes, 40))
    flat = nodes.copy()
    flat[:, -1] = 2.0
    if n_labels > 1:
        x = np.append(around(nodes)[:, :-1], np.full((60, 1), 2.0), axis=1)
        # inverse squares at a distance d of 1e-3 from a node: differences err by (h / d)^2
        check(LineManifoldInterpolator(method="scattered").fit(flat, flat), x, rtol=1e-5)


def test_scattered_at_a_node_without_triangulation_is_flat():
    nodes = np.random.default_rng(3).uniform(size=(50, 4))
    ours = LineManifoldInterpolator(method="scattered").fit(nodes, nodes)
    weights, _, slopes = ours.locate(nodes[4:5], derivatives=True)
    assert weights.nnz == 1
    assert all(np.all(slope.data == 0) for slope in slopes)


def test_kinks_take_the_right_hand_side_and_the_upper_bound_the_left():
    nodes = grid((0, 1))
    ours = LineManifoldInterpolator(method="linear").fit(nodes, nodes)
    slope = ours.locate([[5100.0, 3.0], [5900.0, 3.0]], derivatives=True)[2][0].toarray()
    want = np.zeros((2, 5, 3))
    want[0, [1, 2], 0] = [-1 / 200, 1 / 200]
    want[1, [3, 4], 0] = [-1 / 200, 1 / 200]
    np.testing.assert_allclose(slope.reshape(2, 5, 3), want, rtol=1e-15)


def test_bounds_belong_to_the_grid():
    nodes = grid((0, 1))
    ours = LineManifoldInterpolator().fit(nodes, nodes)
    corner = np.array([[5900.0, 4.5]])
    on, rounded, moved = (ours.locate(corner * f, derivatives=True) for f in (1, 1 + 1e-12, 1 + 1e-6))
    for k in range(2):
        np.testing.assert_array_equal(on[2][k].toarray(), rounded[2][k].toarray())
        assert on[2][k].nnz == 3
        assert moved[2][k].nnz == 0
    assert not rounded[1][0]
    assert moved[1][0]


def test_next_to_a_cell_that_is_outside_the_cell_below_counts():
    nodes = grid((0, 1))
    nodes = nodes[~(nodes == [5900.0, 4.5]).all(axis=1)]
    ours = LineManifoldInterpolator().fit(nodes, nodes)
    x = np.array([[5700.0, 4.2]])  # on the left side of the cell with the missing corner
    _, outside, slopes = ours.locate(x, derivatives=True)
    assert not outside[0]
    h = np.array([1e-2, 0])
    at, near, far = (ours.locate(x - i * h)[0].toarray() for i in range(3))
    # weights are cubic in the cell below: the three-point formula errs by h^2 / 3 times third derivatives, 100 / 400^3
    np.testing.assert_allclose(slopes[0].toarray(), (3 * at - 4 * near + far) / 2e-2, rtol=0, atol=1e-9)
    assert slopes[0].nnz
    h = np.array([0, 1e-6])
    central = (ours.locate(x + h)[0] - ours.locate(x - h)[0]).toarray() / 2e-6
    np.testing.assert_allclose(slopes[1].toarray(), central, rtol=0, atol=1e-8)


def test_where_the_nearest_node_stands_in_nothing_changes():
    nodes = grid((0, 1))
    nodes = nodes[~(nodes == [5900.0, 4.5]).all(axis=1)]
    ours = LineManifoldInterpolator().fit(nodes, nodes)
    weights, outside, slopes = ours.locate([[5850.0, 4.2]], derivatives=True)
    assert outside[0]
    assert weights.nnz == 1
    assert all(slope.nnz == 0 for slope in slopes)


def test_labels_that_were_moved_have_no_slope_and_the_others_have():
    nodes = grid((0, 1, 2))
    ours = LineManifoldInterpolator().fit(nodes, nodes)
    _, outside, slopes = ours.locate([[5200.0, 5.0, -0.2]], derivatives=True)
    assert outside[0]
    assert [slope.nnz > 0 for slope in slopes] == [True, False, True]


def test_many_rows_are_as_rows_one_by_one():
    nodes = grid((0, 1, 2, 3))
    ours = LineManifoldInterpolator().fit(without(nodes, 0.02), without(nodes, 0.02))
    x = around(nodes, 12_000)  # more than one batch
    weights, outside, slopes = ours.locate(x, derivatives=True)
    some = np.arange(0, 12_000, 500)
    for i in some:
        one, out, by_label = ours.locate(x[i : i + 1], derivatives=True)
        assert out[0] == outside[i]
        for many, single in zip([weights, *slopes], [one, *by_label], strict=True):
            # rows are multiplied in blocks of their own
            np.testing.assert_allclose(many[i].toarray(), single.toarray(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", ["auto", "scattered"])
def test_rows_of_the_same_node_share_its_derivative(method):
    nodes = grid((0, 1))
    twice = LineManifoldInterpolator(method=method).fit(np.concatenate([nodes, nodes[:7]]), np.zeros(len(nodes) + 7))
    once = LineManifoldInterpolator(method=method).fit(nodes, np.zeros(len(nodes)))
    x = around(nodes)
    for two, one in zip(twice.locate(x, derivatives=True)[2], once.locate(x, derivatives=True)[2], strict=True):
        two, one = two.toarray(), one.toarray()
        np.testing.assert_allclose(two[:, :7], one[:, :7] / 2, rtol=1e-14)
        np.testing.assert_allclose(two[:, len(nodes) :], one[:, :7] / 2, rtol=1e-14)
        np.testing.assert_allclose(two[:, 7 : len(nodes)], one[:, 7:], rtol=1e-14)


def test_rows_in_any_order():
    nodes = grid((0, 1, 2))
    order = np.random.default_rng(2).permutation(len(nodes))
    x = around(nodes)
    for method in ("auto", "scattered"):
        first = LineManifoldInterpolator(method=method).fit(nodes, nodes).locate(x, derivatives=True)
        mixed = LineManifoldInterpolator(method=method).fit(nodes[order], nodes[order]).locate(x, derivatives=True)
        for one, other in zip([first[0], *first[2]], [mixed[0], *mixed[2]], strict=True):
            np.testing.assert_array_equal(one.toarray()[:, order], other.toarray())
