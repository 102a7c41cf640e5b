"""Rows of pixels in eight bits: what the tolerance promises, and pieces that equal the whole."""

import numpy as np
import pytest

from stellarhml.kernels.combine import BLOCK
from stellarhml.manifold.residual import CodedRows

TABLES = ("indptr", "row", "exponent", "code")


def decode(coded):
    """All rows, in double precision, as the documentation of the tables says."""
    rows = np.zeros((coded.n_rows, len(coded.indptr) - 1, BLOCK))
    for block in range(len(coded.indptr) - 1):
        for entry in range(coded.indptr[block], coded.indptr[block + 1]):
            scale = 2.0 ** ((int(coded.exponent[entry]) + 128) / 4 - 48)
            rows[coded.row[entry], block] += scale * coded.code[entry]
    return rows.reshape(coded.n_rows, -1)[:, : coded.n_pixels]


def lines_of_noise(n_rows=5, n_pixels=300, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_rows, n_pixels)) * np.exp(rng.uniform(-12, 0, (n_rows, n_pixels)))


@pytest.fixture(scope="module")
def coded():
    return CodedRows.encode(lines_of_noise(), 1e-4)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-4, 1e-9])
@pytest.mark.parametrize("size", [1e-30, 1e-8, 1.0, 9e5])
@pytest.mark.parametrize("n_pixels", [1, 31, 32, 33, 200])
def test_no_pixel_errs_by_more_than_the_tolerance(size, n_pixels, tolerance):
    rows = size * lines_of_noise(4, n_pixels) / 6
    coded = CodedRows.encode(rows, tolerance * size) if size * tolerance > 1e-14 else CodedRows.encode(rows, tolerance)
    bound = tolerance * size if size * tolerance > 1e-14 else tolerance
    # sums of the entries of a pixel are rounded, at 1e-16 of the largest
    assert np.abs(decode(coded) - rows).max() <= bound + 1e-15 * size
    # what comes out is the sum in single precision, of entries that are at most the value each
    np.testing.assert_allclose(coded.combine(np.eye(4)), decode(coded), rtol=1e-6, atol=1e-6 * np.abs(rows).max())


def test_each_row_has_its_own_tolerance():
    rows = lines_of_noise()
    tolerance = 10.0 ** -np.arange(1, 6)
    coded = CodedRows.encode(rows, tolerance)
    error = np.abs(decode(coded) - rows).max(axis=1)
    assert np.all(error <= tolerance)
    assert np.all(error > tolerance / 300)  # and no more is stored than was asked for
    entries = np.bincount(coded.row, minlength=5)
    assert np.all(np.diff(entries) >= 0)


def test_values_of_the_tolerance_take_no_memory():
    rows = np.zeros((3, 100))
    rows[1] = 1e-4
    rows[2, 40] = 1.1e-4
    coded = CodedRows.encode(rows, 1e-4)
    assert coded.row.tolist() == [2]
    assert np.diff(coded.indptr).tolist() == [0, 1, 0, 0]
    np.testing.assert_array_equal(coded.combine(np.ones((1, 3)))[0, :40], 0)


def test_one_high_pixel_in_a_block_of_low_ones():
    # more than 8 bits between them: the rest is another entry
    rows = np.full((1, 64), 3e-4)
    rows[0, 5] = 8e5
    coded = CodedRows.encode(rows, 1e-4)
    assert np.abs(decode(coded) - rows).max() <= 1e-4
    assert np.diff(coded.indptr)[0] > 1 == np.diff(coded.indptr)[1]


@pytest.mark.parametrize(
    "pixels",
    [slice(0, 300), slice(0, 1), slice(31, 33), slice(32, 64), slice(40, 250), slice(299, 300), slice(280, 999)],
    ids=str,
)
def test_a_window_is_cut_from_the_whole(coded, pixels):
    weights = np.random.default_rng(1).normal(size=(7, 5))
    np.testing.assert_array_equal(coded.combine(weights, pixels), coded.combine(weights)[:, pixels])


@pytest.mark.parametrize("pixels", [[0], [31, 32], [5, 6, 299], [299, 3, 3, 64], list(range(300)), []], ids=len)
def test_lists_of_pixels_are_cut_from_the_whole(coded, pixels):
    weights = np.random.default_rng(1).normal(size=(2, 5))
    pixels = np.array(pixels, dtype=np.int64)
    np.testing.assert_array_equal(coded.combine(weights, pixels), coded.combine(weights)[:, pixels])


def test_a_sum_is_that_of_its_rows(coded):
    weights = np.random.default_rng(1).normal(size=(3, 5))
    whole = coded.combine(weights)
    assert whole.dtype == np.float32
    assert whole.shape == (3, 300)
    np.testing.assert_allclose(whole, weights @ decode(coded), rtol=0, atol=1e-6)  # five terms of order one, in float32
    # rows of coefficients know nothing of each other
    np.testing.assert_array_equal(coded.combine(weights[1:2]), whole[1:2])


@pytest.mark.parametrize("cuts", [[32], [64, 96, 288], [0, 32, 32]])
def test_pieces_side_by_side_are_the_whole(cuts):
    rows = lines_of_noise()
    pieces = [CodedRows.encode(part, 1e-4) for part in np.split(rows, cuts, axis=1)]
    joined, whole = CodedRows.join(pieces), CodedRows.encode(rows, 1e-4)
    assert joined.n_pixels == whole.n_pixels
    for name in TABLES:
        assert getattr(joined, name).dtype == getattr(whole, name).dtype
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


def test_maps_of_files_serve(coded, tmp_path):
    tables = []
    for name in TABLES:
        np.save(tmp_path / name, getattr(coded, name))
        tables.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
        assert not tables[-1].flags.writeable
    mapped = CodedRows(5, 300, *tables)
    weights = np.eye(5)
    weights.flags.writeable = False
    np.testing.assert_array_equal(mapped.combine(weights, slice(3, 77)), coded.combine(np.eye(5), slice(3, 77)))
    pixels = np.array([4, 90])
    pixels.flags.writeable = False
    np.testing.assert_array_equal(mapped.combine(weights, pixels), coded.combine(np.eye(5), pixels))
    assert mapped.nbytes == coded.nbytes


@pytest.mark.parametrize("shape", [(3, 0), (0, 50), (0, 0), (3, 50)])
def test_nothing_is_stored_of_nothing(shape):
    coded = CodedRows.encode(np.zeros(shape), 1e-4)
    assert len(coded.row) == 0
    assert coded.code.shape == (0, BLOCK)
    for n in (0, 2):
        got = coded.combine(np.ones((n, shape[0])))
        assert got.shape == (n, shape[1])
        np.testing.assert_array_equal(got, 0)


def test_no_coefficients_and_no_pixels_give_no_sums(coded):
    assert coded.combine(np.ones((0, 5))).shape == (0, 300)
    assert coded.combine(np.ones((0, 5)), np.array([3, 4])).shape == (0, 2)
    assert coded.combine(np.ones((2, 5)), slice(40, 40)).shape == (2, 0)
    assert coded.combine(np.ones((2, 5)), slice(40, 20)).shape == (2, 0)
