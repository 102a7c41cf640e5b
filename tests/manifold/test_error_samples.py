"""Places where the error of interpolation is probed."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from stellarhml import LineManifoldInterpolator
from stellarhml.manifold.lattice import LatticeWeights
from stellarhml.manifold.leave_one_out import MIDDLE_SCALE, ErrorSamples
from stellarhml.manifold.scattered import ScatteredWeights

TEFF, LOGG, FEH = np.array([5000.0, 5100, 5300, 5700]), np.array([3.0, 3.5, 4.5]), np.array([-0.5, 0.5])
NODES = np.array(list(itertools.product(TEFF, LOGG, FEH)))  # 4 x 3 x 2
LONG = np.array(list(itertools.product([0.0, 1, 2.5, 3, 4.5, 6], [0.0, 1.0])))


def samples_of(nodes, **parameters):
    return LineManifoldInterpolator(**parameters).fit(nodes, np.zeros(len(nodes))).error_samples()


def only(samples, keep):
    return ErrorSamples(*(part[keep] for part in samples))


def test_counts_on_a_grid_of_4_by_3_by_2():
    samples = samples_of(NODES)
    # inner Teff: 2 of 4, times 3 x 2; inner log g: 1 of 3, times 4 x 2; middles of [Fe/H]: 4 x 3
    np.testing.assert_array_equal(np.bincount(samples.axis), [12, 8, 12])
    assert samples.labels.shape == (32, 3)
    assert samples.weights.shape == samples.targets.shape == (32, 24)
    assert samples.scale.shape == (32,)
    assert sparse.issparse(samples.weights)
    assert samples.axis.dtype == np.int64
    np.testing.assert_allclose(samples.weights.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(samples.targets.sum(axis=1), 1, rtol=1e-12)
    # no axis has two nodes on each side
    np.testing.assert_array_equal(samples.scale, np.where(samples.axis < 2, 0.25, MIDDLE_SCALE))
    np.testing.assert_array_equal(samples.measured, samples.axis < 2)
    assert np.all(np.isin(samples.labels[samples.axis == 0, 0], TEFF[1:-1]))
    assert np.all(samples.labels[samples.axis == 1, 1] == LOGG[1])
    assert np.all(samples.labels[samples.axis == 2, 2] == 0.0)


def test_nodes_are_predicted_along_their_axis_without_themselves():
    samples = samples_of(NODES, variables={})
    first = only(samples, np.flatnonzero((samples.labels == [5100.0, 3.5, -0.5]).all(axis=1) & (samples.axis == 0)))
    weights = first.weights.toarray().reshape(4, 3, 2)
    # the parabola through 5000, 5300 and 5700 at 5100
    np.testing.assert_allclose(weights[[0, 2, 3], 1, 0], [4 / 7, 1 / 2, -1 / 14])
    assert np.count_nonzero(weights) == 3
    targets = first.targets.toarray().reshape(4, 3, 2)
    assert targets[1, 1, 0] == 1
    assert np.count_nonzero(targets) == 1


def test_six_in_a_row():
    samples = samples_of(LONG)
    along = only(samples, np.flatnonzero((samples.axis == 0) & (samples.labels[:, 1] == 0)))
    np.testing.assert_array_equal(along.labels[:, 0], [1, 2.5, 3, 4.5])
    np.testing.assert_array_equal(along.scale, [0.25, 0.6, 0.6, 0.25])
    np.testing.assert_array_equal(np.diff(along.weights.indptr), [3, 4, 4, 3])
    line = samples_of(LONG, method="linear")
    along = only(line, np.flatnonzero((line.axis == 0) & (line.labels[:, 1] == 0)))
    np.testing.assert_array_equal(along.scale, 0.25)
    np.testing.assert_array_equal(np.diff(along.weights.indptr), 2)


@pytest.mark.parametrize("variables", [("linear", "linear", "linear"), ("inverse", "log", "saturating")])
@pytest.mark.parametrize("smooth", [True, False])
def test_weights_are_those_of_a_grid_without_the_node(smooth, variables):
    axes = (TEFF, LOGG, [-0.5, 0.0, 0.5, 1.0, 1.2])
    nodes = np.array(list(itertools.product(*axes)))
    samples = LatticeWeights(nodes, smooth=smooth, variables=variables).leave_one_out()
    checked = 0
    for node in range(len(nodes)):
        here = np.flatnonzero(samples.targets[:, node].toarray().ravel())
        others = np.delete(np.arange(len(nodes)), node)
        holed = LatticeWeights(nodes[others], smooth=smooth, variables=variables)
        weights, outside = holed.weights(nodes[node : node + 1])
        # the hole is filled along the axis with most values among those on which it has both neighbours
        if not len(here):
            assert outside[0]
            continue
        longest = here[np.argmax([len(axes[samples.axis[i]]) for i in here])]
        want = np.zeros(len(nodes))
        want[others] = weights.toarray()[0]
        np.testing.assert_allclose(samples.weights[longest].toarray()[0], want, rtol=0, atol=1e-15)
        checked += 1
    assert checked > 30


@pytest.mark.parametrize("variable", ["linear", "saturating"])
def test_middles_have_the_weights_of_the_interpolation(variable):
    ours = LineManifoldInterpolator(variables={"feh": variable}).fit(NODES, np.zeros(len(NODES)))
    samples = ours.error_samples()
    middle = only(samples, np.flatnonzero(samples.axis == 2))
    weights, outside = ours.locate(middle.labels)
    assert not outside.any()
    np.testing.assert_allclose(middle.weights.toarray(), weights.toarray(), rtol=0, atol=1e-15)
    if variable != "linear":
        assert np.abs(middle.weights.data - 0.5).min() > 0.01
    np.testing.assert_array_equal(middle.targets.data, 0.5)
    np.testing.assert_allclose(middle.targets @ NODES, middle.labels, rtol=1e-15)
    np.testing.assert_array_equal(middle.scale, MIDDLE_SCALE)


def test_missing_nodes_are_neither_predicted_nor_used():
    keep = np.ones((4, 3, 2), dtype=bool)
    keep[1, 1, 0] = False
    nodes = NODES[keep.ravel()]
    samples = samples_of(nodes)
    # Teff: 2 of 4 in 5 lines, and 5300 between 5000 and 5700; log g: 7 of 8 lines; [Fe/H]: 11 of 12
    np.testing.assert_array_equal(np.bincount(samples.axis), [11, 7, 11])
    over = only(samples, np.flatnonzero((samples.labels == [5300.0, 3.5, -0.5]).all(axis=1) & (samples.axis == 0)))
    used = nodes[over.weights.indices]
    np.testing.assert_array_equal(np.sort(used[:, 0]), [5000.0, 5700.0])
    assert not (samples.labels == [5100.0, 3.5, -0.5]).all(axis=1).any()


@pytest.mark.parametrize("method", ["auto", "scattered"])
def test_rows_of_the_same_node_share_its_weight(method):
    order = np.random.default_rng(1).permutation(24)
    nodes = NODES[order]
    once = samples_of(nodes, method=method)
    twice = samples_of(np.concatenate([nodes, nodes[:5]]), method=method)
    assert len(once.axis) == len(twice.axis)
    for one, two in ((once.weights, twice.weights), (once.targets, twice.targets)):
        assert two.shape[1] == 29
        one, two = one.toarray(), two.toarray()
        np.testing.assert_allclose(two[:, :5], one[:, :5] / 2, rtol=1e-15)
        np.testing.assert_allclose(two[:, 24:], one[:, :5] / 2, rtol=1e-15)
        np.testing.assert_allclose(two[:, 5:24], one[:, 5:], rtol=1e-15)


def test_rows_in_any_order():
    order = np.random.default_rng(1).permutation(24)
    first, mixed = samples_of(NODES), samples_of(NODES[order])
    np.testing.assert_array_equal(first.labels, mixed.labels)
    np.testing.assert_array_equal(first.weights.toarray()[:, order], mixed.weights.toarray())
    np.testing.assert_array_equal(first.targets.toarray()[:, order], mixed.targets.toarray())


@pytest.mark.parametrize("n_labels", [2, 3, 4])
def test_scattered_nodes(n_labels):
    nodes = np.random.default_rng(2).uniform(size=(60, n_labels))
    samples = samples_of(nodes, method="scattered")
    assert 10 < len(samples.axis) < 60
    assert np.all(samples.axis == -1)
    assert np.all(samples.scale == 0.25)
    np.testing.assert_allclose(samples.targets @ nodes, samples.labels, rtol=1e-15)
    np.testing.assert_allclose(samples.weights.sum(axis=1), 1, rtol=1e-12)
    assert samples.weights.multiply(samples.targets).nnz == 0  # without themselves
    if n_labels < 4:
        np.testing.assert_allclose(samples.weights @ nodes, samples.labels, rtol=0, atol=1e-10)
    # the neighbours alone say what a triangulation of all others would
    for i, node in enumerate(samples.targets.indices):
        want = ScatteredWeights(np.delete(nodes, node, axis=0)).weights(nodes[node : node + 1])[0].toarray()[0]
        np.testing.assert_allclose(np.delete(samples.weights[i].toarray()[0], node), want, rtol=0, atol=1e-10)


def test_many_scattered_nodes_are_thinned_evenly():
    nodes = np.random.default_rng(2).uniform(size=(400, 2))
    samples = samples_of(nodes, method="scattered")
    assert len(samples.axis) == 256
    assert len(np.unique(samples.targets.indices)) == 256
    assert np.ptp(samples.targets.indices) > 350


@pytest.mark.parametrize("method", ["auto", "linear", "scattered"])
@pytest.mark.parametrize("nodes", [[[5000.0, 4.0]], [[5000.0, 4.0], [5000.0, 4.0]]])
def test_one_node_has_no_samples(method, nodes):
    samples = samples_of(np.array(nodes), method=method)
    assert samples.labels.shape == (0, 2)
    assert samples.axis.shape == samples.scale.shape == (0,)
    assert samples.weights.shape == samples.targets.shape == (0, len(nodes))


def test_a_triangle_has_no_samples():
    samples = samples_of(np.array([[0.0, 0.0], [1.0, 0.0], [0.3, 1.0]]), method="scattered")
    assert samples.weights.shape == (0, 3)


def test_an_error_in_the_square_of_one_label_is_found():
    # three nodes on a line predict the middle linearly where method is linear: the error is the square's, h^2
    axis = np.array([0.0, 1.0, 2.0])
    nodes = np.array(list(itertools.product(axis, [0.0, 1.0])))
    samples = samples_of(nodes, method="linear")
    error = (samples.weights - samples.targets) @ nodes[:, 0] ** 2
    np.testing.assert_allclose(error[samples.axis == 0], 1.0)
    # inside a cell of half the gap it is t (1 - t), whose root mean square is 0.18: scale is on the safe side
    t = np.linspace(0, 1, 1001)
    inside = np.sqrt(np.mean((t * (1 - t)) ** 2))
    assert inside < (samples.scale * error)[samples.axis == 0].min() < 1.5 * inside
