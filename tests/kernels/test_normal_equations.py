"""Block-sparse normal equations against dense NumPy."""

import numpy as np
import pytest

from stellarhml.kernels import second_order

N_PIXELS, N_PARAMETERS = 120, 3  # an odd number: products are formed two by two


@pytest.fixture(params=[0, 1, 2])
def problem(request):
    """Windows (one empty, one of a pixel), their Jacobian, and the same Jacobian dense."""
    rng = np.random.default_rng(request.param)
    start = np.sort(rng.integers(0, 100, 12))
    stop = np.minimum(start + rng.integers(5, 60, 12), N_PIXELS)
    stop[3], stop[5] = start[3], start[5] + 1
    jac = rng.normal(size=(N_PARAMETERS, (stop - start).sum()))
    dense = np.zeros((N_PIXELS, 12 * N_PARAMETERS))
    row = 0
    for j in range(12):
        length = stop[j] - start[j]
        dense[start[j] : stop[j], j * N_PARAMETERS : (j + 1) * N_PARAMETERS] = jac[:, row : row + length].T
        row += length
    return start, stop, jac, dense, rng.normal(size=N_PIXELS)


def to_dense(diagonal, upper, ahead):
    n, p = diagonal.shape[:2]
    matrix = np.zeros((n, p, n, p))
    matrix[np.arange(n), :, np.arange(n), :] = diagonal
    row = 0
    for i, width in enumerate(ahead):
        block = upper[row : row + width * p * p].reshape(p, width, p)
        matrix[i, :, i + 1 : i + 1 + width, :] = block
        matrix[i + 1 : i + 1 + width, :, i, :] = block.transpose(1, 2, 0)
        row += width * p * p
    assert row == len(upper)
    return matrix.reshape(n * p, n * p)


def test_neighbours_are_all_pairs_of_windows_that_share_a_pixel(problem):
    start, stop, *_ = problem
    found = {
        (i, j) for i, ahead in enumerate(second_order.neighbours(start, stop)) for j in range(i + 1, i + 1 + ahead)
    }
    pixels = [set(range(a, b)) for a, b in zip(start, stop, strict=True)]
    share = {(i, j) for i in range(12) for j in range(i + 1, 12) if pixels[i] & pixels[j]}
    assert share <= found
    # pairs beyond these cost time, not correctness; they arise from empty windows only
    assert all(start[j] == stop[j] for _, j in found - share)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_assembled_blocks_equal_the_dense_product(problem, n_threads):
    start, stop, jac, dense, residual = problem
    ahead = second_order.neighbours(start, stop)
    diagonal, upper, rhs = second_order.assemble(jac, start, stop, residual, ahead, n_threads=n_threads)
    # sums of at most 60 products
    np.testing.assert_allclose(to_dense(diagonal, upper, ahead), dense.T @ dense, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(rhs.ravel(), dense.T @ residual, rtol=1e-12, atol=1e-12)


def test_solution_equals_the_dense_one(problem):
    start, stop, jac, dense, residual = problem
    ahead = second_order.neighbours(start, stop)
    diagonal, upper, rhs = second_order.assemble(jac, start, stop, residual, ahead)
    diagonal += 0.5 * np.eye(N_PARAMETERS)
    step = second_order.solve(diagonal, upper, ahead, rhs, 500, 1e-13)
    exact = np.linalg.solve(dense.T @ dense + 0.5 * np.eye(dense.shape[1]), dense.T @ residual)
    # condition number of about 1e3 times the solver's 1e-13
    np.testing.assert_allclose(step.ravel(), exact, rtol=1e-8, atol=1e-10)


def test_tolerance_stops_early_and_no_right_hand_side_gives_no_step(problem):
    start, stop, jac, _, residual = problem
    ahead = second_order.neighbours(start, stop)
    diagonal, upper, rhs = second_order.assemble(jac, start, stop, residual, ahead)
    diagonal += 0.5 * np.eye(N_PARAMETERS)
    rough, fine = (second_order.solve(diagonal, upper, ahead, rhs, 500, tol) for tol in (0.3, 1e-13))
    assert np.abs(rough - fine).max() > 1e-6
    np.testing.assert_array_equal(second_order.solve(diagonal, upper, ahead, 0 * rhs, 500, 1e-3), 0 * rhs)
