"""The low-rank basis of what lines leave over, as it is learnt window by window and stored in eight bits."""

import numpy as np
import pytest
from scipy import sparse

from stellarhml.manifold.residual import CodedRows, ResidualBasis
from stellarhml.synthesis import grid_learning
from stellarhml.synthesis.grid_learning import TOLERANCE, Grid, learn_residual


class NoLines:
    """A model whose lines absorb nothing: the flux is the residual."""

    def render(self, weights, pixels):
        return np.zeros(pixels.stop - pixels.start)


@pytest.fixture
def residual():
    rng = np.random.default_rng(0)
    scale = np.array([5.0, 4, 3, 2.5, 2, 1.5, 1.2, 1, 0.8, 0.6])
    return rng.normal(size=(10, 10)) * scale @ rng.normal(size=(10, 300)) / 100


def learn(residual, rank):
    grid = Grid(NoLines(), residual, sparse.identity(len(residual), format="csr"))
    return learn_residual(grid, None, rank, n_jobs=None, verbose=False)


def at_rows(basis, n_rows):
    return basis.at(sparse.csr_matrix(np.eye(n_rows)))


def stored_to(basis):
    """Largest error that storing allows, at each row: the mean and each component are good to TOLERANCE."""
    # single precision of the sums beside it
    return (1 + np.abs(basis.coefficients).sum(axis=1))[:, None] * TOLERANCE + 1e-6


@pytest.mark.parametrize("rank", [9, 10, 99])
def test_full_rank_is_as_exact_as_it_is_stored(residual, rank):
    learnt = learn(residual, rank)
    assert learnt.rank == 9  # a mean was taken of ten rows
    error = np.abs(at_rows(learnt, 10) - residual)
    assert np.all(error <= stored_to(learnt))
    assert np.sqrt(np.mean(error**2)) < 1.5 * TOLERANCE


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_low_rank_leaves_over_what_the_singular_values_say(residual, rank):
    learnt = learn(residual, rank)
    assert learnt.rank == rank
    assert np.abs(learnt.coefficients).max(axis=0) == pytest.approx(1, rel=1e-12)
    centred = residual - residual.mean(axis=0)
    u, s, v = np.linalg.svd(centred, full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ v[:rank] + residual.mean(axis=0)
    # Eckart and Young: no approximation of that rank is nearer
    assert np.all(np.abs(at_rows(learnt, 10) - best) <= stored_to(learnt))


def test_interpolation_is_linear_in_the_weights(residual):
    learnt = learn(residual, 10)
    weights = sparse.csr_matrix(np.array([[0.3, 0.7] + [0.0] * 8, [-0.1, 0, 0, 1.1] + [0.0] * 6]))
    np.testing.assert_allclose(learnt.at(weights), weights @ at_rows(learnt, 10), atol=2e-6)
    slope = sparse.csr_matrix(weights[0] - weights[1])
    np.testing.assert_allclose(
        learnt.at(slope, slopes=True)[0], learnt.at(weights)[0] - learnt.at(weights)[1], atol=2e-6
    )


def test_equal_rows_need_no_components():
    row = np.linspace(0, 1, 50)
    learnt = learn(np.tile(row, (4, 1)), 3)
    assert learnt.rank == 0
    np.testing.assert_allclose(at_rows(learnt, 4), np.tile(row, (4, 1)), atol=TOLERANCE)
    zero = learn(np.zeros((3, 20), np.float32), 2)
    assert zero.rank == 0
    np.testing.assert_array_equal(at_rows(zero, 3), 0)


def test_a_single_row_is_its_own_mean():
    row = np.linspace(0, 1, 9)
    np.testing.assert_allclose(at_rows(learn(row[None].copy(), 4), 1)[0], row, atol=TOLERANCE)


def test_signs_do_not_depend_on_the_order_of_the_pixels(residual):
    # what eigh leaves free is fixed, so that files of the same grid are the same
    forward, backward = learn(residual, 3), learn(residual[:, ::-1].copy(), 3)
    np.testing.assert_allclose(forward.coefficients, backward.coefficients, atol=1e-12)


def test_windows_change_nothing(residual, monkeypatch):
    whole = learn(residual, 4)
    monkeypatch.setattr(grid_learning, "_WINDOW", 64)
    pieces = learn(residual, 4)
    np.testing.assert_allclose(pieces.coefficients, whole.coefficients, atol=1e-12)
    assert np.all(np.abs(at_rows(pieces, 10) - at_rows(whole, 10)) <= 2 * stored_to(whole))
    assert pieces.rows.n_pixels == 300


def test_pixels_are_cut_from_the_whole(residual):
    learnt = learn(residual, 4)
    weights = sparse.csr_matrix(np.full((2, 10), 0.1))
    whole = learnt.at(weights)
    np.testing.assert_array_equal(learnt.at(weights, slice(35, 70)), whole[:, 35:70])
    np.testing.assert_array_equal(learnt.at(weights, np.array([3, 99, 299])), whole[:, [3, 99, 299]])


def test_memory_is_that_of_its_tables():
    rows = CodedRows.encode(np.ones((2, 64)), TOLERANCE)
    basis = ResidualBasis(rows, np.zeros((5, 1)))
    assert basis.nbytes == rows.nbytes + 40
    assert basis.rank == 1
