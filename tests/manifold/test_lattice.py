"""Interpolation weights on grids, full and with holes."""

import itertools

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator
from threadpoolctl import threadpool_limits

from stellarhml import LineManifoldInterpolator
from stellarhml.exceptions import ExtrapolationWarning, GridIncompleteError, LabelsOutsideGridError

TEFF, LOGG, FEH = np.array([5000.0, 5100, 5300, 5700, 5900]), np.array([3.0, 3.5, 4.5, 5.0]), np.array([-0.5, 0.0, 0.2])
AXES = (TEFF, LOGG, FEH)
NODES = np.array(list(itertools.product(*AXES)))
LOW, HIGH = NODES.min(axis=0), NODES.max(axis=0)


@pytest.fixture(autouse=True)
def single_thread():
    """One BLAS thread: qhull's matrices are 3 x 3, and on busy cores threads make them a hundred times slower."""
    with threadpool_limits(1):
        yield


def inside(n, low=LOW, high=HIGH, seed=0):
    return np.random.default_rng(seed).uniform(low, high, (n, len(low)))


def unit(labels):
    return (labels - LOW) / (HIGH - LOW)


def plain(**parameters):
    """An interpolator in the labels themselves: what is linear in [Fe/H] is not in the default variable of [Fe/H]."""
    return LineManifoldInterpolator(variables={}, **parameters)


def linear(labels):
    return 1 + unit(labels) @ [0.3, -2.0, 0.7]


def quadratic(labels):
    # degree two in each label, with every product of them
    u = unit(labels)
    return (1 + u[:, 0] - 2 * u[:, 0] ** 2) * (0.5 - u[:, 1] + u[:, 1] ** 2) * (2 + u[:, 2] + 3 * u[:, 2] ** 2)


def test_linear_equals_scipy_on_a_full_grid():
    theta = np.random.default_rng(1).normal(size=(len(NODES), 4))
    order = np.random.default_rng(2).permutation(len(NODES))  # nodes come in any order
    ours = LineManifoldInterpolator(method="linear").fit(NODES[order], theta[order])
    scipy = RegularGridInterpolator(AXES, theta.reshape(5, 4, 3, 4))
    x = np.concatenate([inside(200), NODES])
    # sums of eight products of order one
    np.testing.assert_allclose(ours.predict(x), scipy(x), rtol=0, atol=1e-13)


def test_cubic_is_exact_for_quadratics_on_uneven_axes():
    ours = plain().fit(NODES, quadratic(NODES))
    x = inside(200)
    np.testing.assert_allclose(ours.predict(x), quadratic(x), rtol=0, atol=1e-12)
    # a control: multilinear interpolation is not
    line = LineManifoldInterpolator(method="linear").fit(NODES, quadratic(NODES))
    assert np.abs(line.predict(x) - quadratic(x)).max() > 0.1


def test_cubic_has_a_continuous_derivative_where_linear_has_not():
    theta = np.random.default_rng(3).normal(size=len(NODES))
    jumps = {}
    for method in ("auto", "linear"):
        ours = LineManifoldInterpolator(method=method).fit(NODES, theta)
        jumps[method] = 0
        for k, axis in enumerate(AXES):
            for value in axis[1:-1]:
                x = np.tile(inside(1, seed=4), (5, 1))
                h = 1e-4 * (HIGH[k] - LOW[k])
                x[:, k] = value + h * np.arange(-2, 3)
                y = ours.predict(x)
                # one-sided slopes by the three-point formula, in units of the label's range
                left, right = (3 * y[2] - 4 * y[1] + y[0]) / 2e-4, (-3 * y[2] + 4 * y[3] - y[4]) / 2e-4
                jumps[method] = max(jumps[method], abs(right - left))
    assert jumps["linear"] > 1
    # the formula's own error is of order h^2 f''', 1e-8 times slopes of some tens; rounding adds 1e-16 / 1e-4
    assert jumps["auto"] < 1e-4


@pytest.mark.parametrize("method", ["auto", "linear", "scattered"])
def test_weights_sum_to_one_and_reproduce_the_nodes(method):
    ours = LineManifoldInterpolator(method=method).fit(NODES, np.eye(len(NODES)))
    weights, outside = ours.node_weights(inside(100))
    assert not outside.any()
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(ours.predict(NODES), np.eye(len(NODES)), atol=1e-9)
    if method != "scattered":
        np.testing.assert_allclose(ours.predict(NODES), np.eye(len(NODES)), atol=1e-14)


def test_two_values_of_a_label_are_interpolated_linearly():
    nodes = np.array(list(itertools.product([0.0, 1.0, 3.0], [0.0, 2.0])))
    values = nodes[:, 0] ** 2 * (1 + nodes[:, 1])
    x = inside(50, np.zeros(2), np.array([3.0, 2.0]))
    np.testing.assert_allclose(LineManifoldInterpolator().fit(nodes, values).predict(x), x[:, 0] ** 2 * (1 + x[:, 1]))


@pytest.mark.parametrize("holes", [[(2, 1, 1)], [(2, 1, 1), (2, 2, 1)], [(0, 1, 0), (4, 3, 1), (1, 2, 2)]])
def test_missing_nodes_inside_are_filled_exactly_for_linear_functions(holes):
    keep = np.ones((5, 4, 3), bool)
    for hole in holes:
        keep[hole] = False
    keep = keep.ravel()
    ours = plain().fit(NODES[keep], linear(NODES[keep]))
    x = np.concatenate([inside(200), NODES])
    np.testing.assert_allclose(ours.predict(x), linear(x), rtol=0, atol=1e-12)


def test_a_missing_corner_makes_its_cells_the_outside():
    keep = ~(NODES == [5900.0, 5.0, 0.2]).all(axis=1)
    ours = plain(extrapolate="nan").fit(NODES[keep], linear(NODES[keep]))
    x = inside(300)
    touches = (x > [5700.0, 4.5, 0.0]).all(axis=1)
    far = (x[:, 0] < 5300) | (x[:, 1] < 3.5)  # two cells away, no stencil reaches the corner
    with pytest.warns(ExtrapolationWarning, match="labels lie outside the grid"):
        got = ours.predict(x)
    assert touches.any()
    assert np.isnan(got[touches]).all()
    np.testing.assert_allclose(got[far], linear(x[far]), rtol=0, atol=1e-12)


def test_only_the_cells_that_touch_a_missing_corner_are_outside():
    keep = ~(NODES == [5900.0, 5.0, 0.2]).all(axis=1)
    ours = plain(extrapolate="nan").fit(NODES[keep], linear(NODES[keep]))
    x = inside(300)
    x = x[~(x >= [5700.0, 4.5, 0.0]).all(axis=1)]
    np.testing.assert_allclose(ours.predict(x), linear(x), rtol=0, atol=1e-12)


def corners(x, keep):
    """Which of the eight corners of the cells of x are nodes, shape (n, 8)."""
    low = [
        np.clip(np.searchsorted(axis, column, side="right") - 1, 0, len(axis) - 2)
        for axis, column in zip(AXES, x.T, strict=True)
    ]
    return np.stack(
        [
            keep.reshape(5, 4, 3)[tuple(i + s for i, s in zip(low, step, strict=True))]
            for step in itertools.product((0, 1), repeat=3)
        ],
        axis=1,
    )


def with_holes(share, seed):
    """Mask of nodes that are there, and labels of which none is outside."""
    keep = np.random.default_rng(seed).uniform(size=60) >= share
    x = inside(400, seed=seed + 100)
    ours = plain().fit(NODES[keep], NODES[keep])
    return keep, x[~ours.locate(x)[1]]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.05, 0.1])
def test_cells_with_all_corners_are_exact_for_quadratics_beside_holes(share, seed):
    keep, x = with_holes(share, seed)
    ours = plain().fit(NODES[keep], quadratic(NODES[keep]))
    whole = corners(x, keep).all(axis=1)
    assert whole.sum() > 20
    np.testing.assert_allclose(ours.predict(x[whole]), quadratic(x[whole]), rtol=0, atol=1e-10)
    # somewhere in them a hole is within reach
    assert (ours.fill_weights(x[whole]) > 0).any()


def test_beside_a_missing_corner_quadratics_are_exact():
    keep = ~((NODES[:, 0] >= 5700) & (NODES[:, 1] == 3.0))  # as where hot models of low gravity did not converge
    ours = plain(extrapolate="nan").fit(NODES[keep], quadratic(NODES[keep]))
    x = inside(400)
    outside = (x[:, 0] > 5300) & (x[:, 1] < 3.5)
    with pytest.warns(ExtrapolationWarning):
        got = ours.predict(x)
    np.testing.assert_array_equal(np.isnan(got), outside)
    np.testing.assert_allclose(got[~outside], quadratic(x[~outside]), rtol=0, atol=1e-10)


def test_beside_a_hole_that_a_parabola_reaches_slopes_are_those_at_the_end_of_an_axis():
    nodes = np.array(list(itertools.product(TEFF, [0.0, 1.0])))
    keep = ~((nodes[:, 0] == 5900) & (nodes[:, 1] == 0))
    values = np.random.default_rng(5).normal(size=10)
    holed = plain().fit(nodes[keep], values[keep])
    ended = plain().fit(nodes[nodes[:, 0] < 5900], values[nodes[:, 0] < 5900])
    x = np.stack([np.linspace(5000, 5700, 50), np.zeros(50)], axis=1)
    np.testing.assert_allclose(holed.predict(x), ended.predict(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_weights_beside_holes_sum_to_one_and_have_no_jump(share, seed):
    keep, x = with_holes(share, seed)
    ours = plain().fit(NODES[keep], np.random.default_rng(seed).normal(size=keep.sum()))
    weights, _ = ours.locate(x)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    for k, axis in enumerate(AXES):
        step = 1e-9 * (HIGH - LOW) * (np.arange(3) == k)
        for value in axis[1:-1]:
            at = inside(100, seed=seed)
            at[:, k] = value
            (below, lost), (above, gone) = ours.locate(at - step), ours.locate(at + step)
            jump = np.abs((above - below) @ ours.table_)[~(lost | gone)]
            # slopes of some tens per range, over 2e-9 of it
            assert jump.max(initial=0) < 1e-6


def test_holes_beside_a_break_are_predicted_from_their_own_side():
    nodes = np.array(list(itertools.product(np.arange(8.0), [0.0, 1.0, 2.0])))

    def function(labels):
        return np.where(labels[:, 0] > 3.5, 5 + labels[:, 0] ** 2, labels[:, 0]) * (1 + labels[:, 1] ** 2)

    keep = ~((nodes[:, 0] == 4) & (nodes[:, 1] == 2)) & ~((nodes[:, 0] == 3) & (nodes[:, 1] == 0))
    ours = plain(breaks={"label0": [3.5]}, extrapolate="nan").fit(nodes[keep], function(nodes[keep]))
    x = inside(300, np.zeros(2), np.array([7.0, 2.0]))
    near = (x[:, 0] > 2) & (x[:, 0] < 5)
    weights, outside = ours.locate(x)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    assert not outside[~near].any()
    whole = ~near | ((x[:, 0] < 3) & (x[:, 1] > 1)) | ((x[:, 0] > 4) & (x[:, 1] < 1))
    np.testing.assert_allclose((weights @ ours.table_)[whole], function(x[whole]), rtol=0, atol=1e-10)


def test_a_full_grid_fills_no_nodes():
    ours = plain().fit(NODES, NODES)
    np.testing.assert_array_equal(ours.fill_weights(inside(20)), 0)


def test_how_much_rests_on_missing_nodes():
    nodes = np.array(list(itertools.product(np.arange(12.0), [0.0, 1.0])))
    keep = ~(nodes == [6.0, 1.0]).all(axis=1)
    ours = plain().fit(nodes[keep], nodes[keep])
    at = np.array([[6.0, 1.0], [1.5, 1.0], [4.5, 1.0]])
    # at the hole, all of it, as good as a node held out; far away nothing; a cell away the slope's 1 / 16
    np.testing.assert_allclose(ours.fill_weights(at), [[1, 0], [0, 0], [1 / 16, 0]], atol=1e-12)
    keep &= ~(nodes == [7.0, 1.0]).all(axis=1)
    wide = plain().fit(nodes[keep], nodes[keep])
    # a gap of two: 2 * 1 * 2 * 3 over 2 * 1 * 1 * 2
    np.testing.assert_allclose(wide.fill_weights(at)[:, 0], [3, 0, 3 / 16], atol=1e-12)


def test_a_node_beyond_a_parabola_has_three_times_the_error():
    nodes = np.array(list(itertools.product([0.0, 1, 2, 3, 4], [0.0, 1])))
    keep = ~(nodes == [4.0, 1.0]).all(axis=1)
    ours = plain().fit(nodes[keep], nodes[keep])
    np.testing.assert_allclose(ours.fill_weights([[2.5, 1.0]]), [[3 / 16, 0]], atol=1e-12)
    np.testing.assert_allclose(ours.fill_weights([[2.5, 0.0]]), 0, atol=1e-12)


def test_linear_names_the_missing_node():
    keep = ~(NODES == [5300.0, 4.5, 0.0]).all(axis=1)
    with pytest.raises(
        GridIncompleteError,
        match=r"all 60 nodes of the 5 x 4 x 3 grid of \(teff, logg, feh\), but 1 are missing, first "
        r"\{'teff': 5300.0, 'logg': 4.5, 'feh': 0.0\}",
    ):
        LineManifoldInterpolator(method="linear").fit(NODES[keep], linear(NODES[keep]))


def test_linear_refuses_scattered_nodes_without_counting_out_their_grid():
    nodes = np.random.default_rng(0).uniform(size=(3000, 3))  # whose grid would take 648 GB
    with pytest.raises(GridIncompleteError, match="26999997000 are missing"):
        LineManifoldInterpolator(method="linear").fit(nodes, nodes)


@pytest.mark.parametrize("n_labels", [1, 4])
@pytest.mark.parametrize("method", ["auto", "linear"])
def test_grids_of_one_and_of_four_labels(n_labels, method):
    axes = [np.array([0.0, 1.0, 2.5, 3.0])[: 4 if n_labels == 1 else 3] + k for k in range(n_labels)]
    nodes = np.array(list(itertools.product(*axes)))
    values = np.random.default_rng(7).normal(size=len(nodes))
    x = inside(40, nodes.min(axis=0), nodes.max(axis=0))
    ours = LineManifoldInterpolator(method=method).fit(nodes, values)
    slopes = np.arange(1.0, n_labels + 1)
    np.testing.assert_allclose(
        LineManifoldInterpolator(method=method).fit(nodes, nodes @ slopes).predict(x), x @ slopes, rtol=1e-12
    )
    if method == "linear":
        scipy = RegularGridInterpolator(axes, values.reshape([len(axis) for axis in axes]))
        np.testing.assert_allclose(ours.predict(x), scipy(x), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.predict(nodes), values, rtol=1e-12)


@pytest.mark.parametrize("method", ["auto", "linear", "scattered"])
def test_rows_of_the_same_node_are_averaged(method):
    values = np.random.default_rng(8).normal(size=(len(NODES), 2))
    twice = LineManifoldInterpolator(method=method).fit(
        np.concatenate([NODES, NODES[:7]]), np.concatenate([values, values[:7] + 2.0])
    )
    assert len(twice.nodes_) == len(NODES)
    mean = values.copy()
    mean[:7] += 1.0
    once = LineManifoldInterpolator(method=method).fit(NODES, mean)
    x = inside(30)
    np.testing.assert_allclose(twice.predict(x), once.predict(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["auto", "linear", "scattered"])
def test_a_single_node_is_a_grid_of_one_point(method):
    ours = LineManifoldInterpolator(method=method).fit([[5000.0, 4.0]], [[1.0, 2.0]])
    np.testing.assert_array_equal(ours.predict([[5000.0, 4.0]]), [[1.0, 2.0]])
    with pytest.raises(LabelsOutsideGridError):
        ours.predict([[5001.0, 4.0]])


OUTSIDE = np.array([[5200.0, 4.0, -0.1], [4900.0, 4.0, -0.1], [5200.0, 5.5, 0.3]])


def test_labels_outside_raise_with_the_bounds_and_the_first():
    ours = LineManifoldInterpolator().fit(NODES, linear(NODES))
    with pytest.raises(
        LabelsOutsideGridError,
        match=r"2 of 3 labels lie outside the grid \(teff 5000 to 5900, logg 3 to 5, feh -0.5 to 0.2\), first "
        r"\{'teff': 4900.0, 'logg': 4.0, 'feh': -0.1\}",
    ):
        ours.predict(OUTSIDE)


@pytest.mark.parametrize("method", ["auto", "linear"])
def test_nearest_moves_labels_to_the_edge_and_warns(method):
    ours = plain(method=method, extrapolate="nearest").fit(NODES, linear(NODES))
    with pytest.warns(ExtrapolationWarning, match="2 of 3 labels .* moved to the nearest point of the grid"):
        got = ours.predict(OUTSIDE)
    np.testing.assert_allclose(got, linear(np.clip(OUTSIDE, LOW, HIGH)), rtol=1e-12)


def test_nan_marks_labels_outside_and_warns():
    ours = plain(extrapolate="nan").fit(NODES, np.stack([linear(NODES)] * 2, axis=1))
    with pytest.warns(ExtrapolationWarning, match="2 of 3 labels .* set to NaN"):
        got = ours.predict(OUTSIDE)
    np.testing.assert_allclose(got[0], linear(OUTSIDE[:1])[0], rtol=1e-12)
    assert np.isnan(got[1:]).all()


def test_rounding_at_the_edge_is_inside():
    ours = plain().fit(NODES, linear(NODES))
    x = np.array([np.nextafter(HIGH, np.inf), np.nextafter(LOW, -np.inf)])
    np.testing.assert_allclose(ours.predict(x), linear(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_labels_that_are_not_finite_are_refused(bad):
    ours = LineManifoldInterpolator().fit(NODES, linear(NODES))
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        ours.predict([[bad, 4.0, 0.0]])


def test_names_of_other_labels_are_used_in_messages():
    ours = LineManifoldInterpolator(label_names=("alpha", "c_over_o")).fit([[0.0, 0.5], [1.0, 1.0]], [0.0, 1.0])
    with pytest.raises(LabelsOutsideGridError, match=r"alpha 0 to 1, c_over_o 0\.5 to 1"):
        ours.predict([[2.0, 0.7]])
    with pytest.raises(ValueError, match="3 names of which 3 differ, but there are 2"):
        LineManifoldInterpolator(label_names=("a", "b", "c")).fit([[0.0, 0.5], [1.0, 1.0]], [0.0, 1.0])
