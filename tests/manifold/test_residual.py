"""The low-rank basis of what lines leave over."""

import numpy as np
import pytest
from scipy import sparse

from stellarhml.manifold.residual import ResidualBasis


@pytest.fixture
def residual():
    rng = np.random.default_rng(0)
    scale = np.array([5.0, 4, 3, 2.5, 2, 1.5, 1.2, 1, 0.8, 0.6])
    return rng.normal(size=(10, 10)) * scale @ rng.normal(size=(10, 300)) / 100


def at_rows(basis, n_rows):
    return basis.at(sparse.csr_matrix(np.eye(n_rows)))


def test_full_rank_is_exact(residual):
    # mean and basis are kept in float32
    np.testing.assert_allclose(at_rows(ResidualBasis.learn(residual.copy(), 10), 10), residual, atol=1e-6)
    np.testing.assert_allclose(at_rows(ResidualBasis.learn(residual.copy(), 99), 10), residual, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_low_rank_leaves_over_what_the_singular_values_say(residual, rank):
    learnt = ResidualBasis.learn(residual.copy(), rank)
    assert learnt.basis.shape == (rank, 300)
    np.testing.assert_allclose(learnt.basis @ learnt.basis.T, np.eye(rank), atol=1e-5)  # float32
    centred = residual - residual.mean(axis=0)
    u, s, v = np.linalg.svd(centred, full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ v[:rank] + residual.mean(axis=0)
    # Eckart and Young: no approximation of that rank is nearer
    np.testing.assert_allclose(at_rows(learnt, 10), best, atol=2e-6)


def test_interpolation_is_linear_in_the_weights(residual):
    learnt = ResidualBasis.learn(residual.copy(), 10)
    weights = sparse.csr_matrix(np.array([[0.3, 0.7] + [0.0] * 8, [-0.1, 0, 0, 1.1] + [0.0] * 6]))
    np.testing.assert_allclose(learnt.at(weights), weights @ residual, atol=2e-6)


def test_equal_rows_need_no_basis():
    learnt = ResidualBasis.learn(np.tile(np.linspace(0, 1, 50), (4, 1)), 3)
    np.testing.assert_allclose(at_rows(learnt, 4), np.tile(np.linspace(0, 1, 50), (4, 1)), atol=1e-7)
    zero = ResidualBasis.learn(np.zeros((3, 20), np.float32), 2)
    np.testing.assert_array_equal(at_rows(zero, 3), 0)


def test_a_single_row_is_its_own_mean():
    np.testing.assert_allclose(
        at_rows(ResidualBasis.learn(np.linspace(0, 1, 9)[None].copy(), 4), 1)[0], np.linspace(0, 1, 9), atol=1e-7
    )


def test_signs_do_not_depend_on_the_order_of_the_pixels(residual):
    # what eigh leaves free is fixed, so that files of the same grid are the same
    forward = ResidualBasis.learn(residual.copy(), 3)
    backward = ResidualBasis.learn(residual[:, ::-1].copy(), 3)
    np.testing.assert_allclose(forward.basis, backward.basis[:, ::-1], atol=1e-5)
