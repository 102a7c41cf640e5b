"""Principal components and how many of them can be interpolated."""

import itertools

import numpy as np
import pytest

from stellarhml import LineManifoldInterpolator
from stellarhml.manifold.line_tables import choose_rank, principal_components


def samples_of(*axes, **parameters):
    nodes = np.array(list(itertools.product(*axes)))
    return nodes, LineManifoldInterpolator(**parameters).fit(nodes, np.zeros(len(nodes))).error_samples()


def smooth(nodes, k):
    """Functions of the labels, all of them on a scale of the whole grid."""
    u = 2 * (nodes - nodes.min(axis=0)) / np.ptp(nodes, axis=0) - 1
    terms = [u[:, 0], u[:, 1], u[:, 0] * u[:, 1], u[:, 0] ** 2, u[:, 1] ** 2, np.exp(u[:, 0])]
    return np.stack(terms[:k], axis=1)


def centred(table):
    return table - table.mean(axis=0)


def test_components_are_those_of_the_singular_value_decomposition():
    rows = centred(np.random.default_rng(0).normal(size=(9, 40)) * np.arange(1, 41))
    vectors, sizes = principal_components(rows @ rows.T)
    u, s, _ = np.linalg.svd(rows, full_matrices=False)
    assert vectors.shape == (9, 8)  # the mean is not there
    np.testing.assert_allclose(sizes, s[:8], rtol=1e-10)
    assert np.all(np.diff(sizes) < 0)
    np.testing.assert_allclose(np.abs(np.sum(vectors * u[:, :8], axis=0)), 1, rtol=1e-10)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(8), atol=1e-12)
    np.testing.assert_allclose(vectors @ vectors.T @ rows, rows, atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(vectors.T @ rows, axis=1), sizes, rtol=1e-10)


def test_signs_are_fixed_by_the_largest_weight():
    rows = centred(np.random.default_rng(0).normal(size=(7, 30)))
    vectors, sizes = principal_components(rows @ rows.T)
    assert np.all(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])] > 0)
    # the same products, summed in another order, as another processor would
    again, same = principal_components(sum(np.outer(column, column) for column in -rows.T[::-1]))
    np.testing.assert_allclose(again, vectors, atol=1e-12)
    np.testing.assert_allclose(same, sizes, rtol=1e-12)
    # the order of the rows is that of their weights
    order = np.random.default_rng(1).permutation(7)
    mixed = principal_components((rows @ rows.T)[np.ix_(order, order)])[0]
    np.testing.assert_allclose(mixed, vectors[order], atol=1e-10)


def test_rounding_decides_no_sign_and_no_rank():
    # symmetric patterns over the nodes: each has its largest weight twice, with opposite signs
    rng = np.random.default_rng(0)
    patterns = np.array([[-1.0, -0.3, 0.0, 0.3, 1.0], [1.0, -1.0, 0.0, -1.0, 1.0]]).T
    rows = patterns @ rng.normal(size=(2, 50))
    vectors, sizes = principal_components(rows @ rows.T)
    assert vectors.shape == (5, 2)
    for _ in range(20):
        noise = 1e-15 * rng.normal(size=(5, 5)) * sizes[0] ** 2
        again, same = principal_components(rows @ rows.T + noise + noise.T)
        np.testing.assert_allclose(again, vectors, atol=1e-12)
        np.testing.assert_allclose(same, sizes, rtol=1e-12)


@pytest.mark.parametrize("n_rows", [1, 4])
def test_equal_rows_have_no_components(n_rows):
    vectors, sizes = principal_components(np.zeros((n_rows, n_rows)))
    assert vectors.shape == (n_rows, 0)
    assert sizes.shape == (0,)


def test_rounding_is_no_component():
    rng = np.random.default_rng(0)
    rows = centred(rng.normal(size=(30, 2)) @ rng.normal(size=(2, 5000)))
    assert principal_components(rows @ rows.T)[0].shape == (30, 2)


def test_small_components_are_found_beside_large_ones():
    # a ten thousandth of the largest, which is a part in 1e8 of the scalar products
    u, _, v = np.linalg.svd(centred(np.random.default_rng(0).normal(size=(40, 90))), full_matrices=False)
    want = np.geomspace(1.0, 1e-4, 10)
    rows = (u[:, :10] * want) @ v[:10]
    np.testing.assert_allclose(principal_components(rows @ rows.T)[1][:10], want, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4, 6])
@pytest.mark.parametrize("noise", [1e-5, 1e-3, 1e-2])
def test_smooth_components_are_separated_from_noise(k, noise):
    nodes, samples = samples_of(np.linspace(0, 1, 9), np.linspace(0, 1, 8))
    rng = np.random.default_rng(0)
    # a table of many columns: k patterns that go with smooth functions, and noise of rank 72
    table = smooth(nodes, k) @ rng.normal(size=(k, 400)) + noise * rng.normal(size=(72, 400))
    table = centred(table)
    vectors, sizes = principal_components(table @ table.T)
    assert len(sizes) == 71
    assert choose_rank(vectors * sizes, samples) == k


def test_noise_alone_is_left_out():
    _, samples = samples_of(np.linspace(0, 1, 9), np.linspace(0, 1, 8))
    noise = centred(np.random.default_rng(0).normal(size=(72, 400)))
    vectors, sizes = principal_components(noise @ noise.T)
    assert choose_rank(vectors * sizes, samples) == 0


@pytest.mark.parametrize("n_labels", [1, 2])
def test_what_shows_at_other_nodes_only_is_kept(n_labels):
    # the middle one of three in a row does not show what is linear: it is at the mean, whatever is left out
    axes = ([0.0, 1.0, 2.0], [0.0, 1.0])[:n_labels]
    nodes, samples = samples_of(*axes)
    np.testing.assert_array_equal(samples.labels[samples.measured, 0], 1.0)
    table = centred(nodes[:, :1] * np.linspace(0.5, 1, 20))
    vectors, sizes = principal_components(table @ table.T)
    assert choose_rank(vectors * sizes, samples) == 1


@pytest.mark.parametrize("axes", [([5000.0], [4.0]), ([0.0, 1.0], [0.0, 1.0])], ids=["one node", "middles only"])
def test_without_nodes_to_hold_out_there_are_32_at_most(axes):
    _, samples = samples_of(*axes)
    assert not samples.measured.any()
    n = samples.weights.shape[1]
    assert choose_rank(np.ones((n, 3)), samples) == 3
    assert choose_rank(np.ones((n, 99)), samples) == 32
    assert choose_rank(np.ones((n, 0)), samples) == 0


def test_no_components_have_no_rank():
    _, samples = samples_of(np.arange(12.0), np.arange(4.0))
    assert choose_rank(np.zeros((48, 0)), samples) == 0
    assert choose_rank(np.zeros((48, 40)), samples) == 0


def test_few_components_are_all_kept():
    _, samples = samples_of(np.arange(4.0), np.arange(3.0))
    assert choose_rank(np.random.default_rng(0).normal(size=(12, 11)), samples) == 11
