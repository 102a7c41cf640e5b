"""Lines of many nodes in compact tables, against the same in plain NumPy."""

import numpy as np
import pytest
from scipy import sparse

from stellarhml.lines.decomposition import dense_row, rows_to_csr
from stellarhml.manifold.line_tables import LineBank

N_NODES, N_LINES, AMPLITUDE = 9, 12, 1


def make_table(share, seed=0):
    """Lines of all nodes, shape (N_NODES, N_LINES, 4), NaN where absent."""
    rng = np.random.default_rng(seed)
    theta = np.stack(
        [
            9000.0 + 7 * np.arange(N_LINES) + 0.03 * rng.normal(size=(N_NODES, N_LINES)),
            rng.uniform(-5, -1, (N_NODES, N_LINES)),
            rng.uniform(-3, -2, (N_NODES, N_LINES)),
            rng.uniform(-4, -3, (N_NODES, N_LINES)),
        ],
        axis=2,
    )
    absent = rng.random((N_NODES, N_LINES)) >= share
    absent[:, 0] = False
    theta[absent] = np.nan
    return theta


def bank_of(table):
    return LineBank.from_table(table.reshape(N_NODES, -1), 4)


def stored(bank):
    """What the bank holds, shape (N_NODES, N_LINES, 4), NaN where absent."""
    out = np.full((bank.n_nodes, bank.n_lines, 4), np.nan)
    for node in range(bank.n_nodes):
        lines, theta = bank.at_node(node)
        out[node, lines] = theta
    return out


def plainly(table, nodes, weights, absent):
    """Weighted means as the documentation says them."""
    lines, thetas = [], []
    for line in range(N_LINES):
        here = table[nodes, line]
        there = np.isfinite(here[:, 0])
        w = np.asarray(weights, dtype=float)
        if not there.all():  # smooth weights can be negative, which has no meaning where a line is absent
            w = np.where(w > 0, w, 0)
            w = w / w.sum()
        share = w[there].sum()
        if share <= 0:
            continue
        theta = w[there] @ here[there] / share
        if absent == "fade":
            theta[AMPLITUDE] += np.log(min(share, 1))
        else:
            theta[AMPLITUDE] = theta[AMPLITUDE] * share - 1000 * (1 - share)
            if theta[AMPLITUDE] < -100:
                continue
        lines.append(line)
        thetas.append(theta)
    return np.array(lines), np.array(thetas)


WEIGHTS = {
    "linear": ([1, 4, 7], [0.2, 0.5, 0.3]),
    "cubic": ([0, 2, 3, 8], [-0.08, 0.6, 0.55, -0.07]),
    "one node": ([5], [1.0]),
    "nearly a node": ([5, 6], [0.97, 0.03]),
}


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_round_trip(share, kind):
    table = make_table(share)
    flat = table.reshape(N_NODES, -1)
    if kind == "sparse":
        bank = LineBank.from_table(rows_to_csr([dense_row(row, 4) for row in flat], N_LINES, 4), 4)
    else:
        bank = bank_of(table)
    # at most 2 from the mean, in single precision
    np.testing.assert_allclose(stored(bank), table, rtol=0, atol=2 * 2.0**-24)
    assert (bank.n_nodes, bank.n_lines) == (N_NODES, N_LINES)
    assert bank.share == np.isfinite(table[:, :, 0]).mean()
    np.testing.assert_allclose(bank.origin, np.nanmean(table, axis=0), rtol=1e-14)
    assert bank.nbytes == sum(part.nbytes for part in (bank.indptr, bank.line, bank.values, bank.origin))


def test_centers_are_good_to_their_distance_from_the_mean():
    table = make_table(1.0)
    error = np.abs(stored(bank_of(table))[:, :, 0] - table[:, :, 0]).max()
    # 0.1 angstrom in single precision, and 9000 in double
    assert error < 0.1 * 2.0**-24 + 2e-12
    assert np.abs(table[:, :, 0].astype(np.float32) - table[:, :, 0]).max() > 1e5 * error


def test_zero_is_a_value_and_no_entry_no_line():
    matrix = sparse.csr_matrix(([0.0, -1.0, 0.0, 0.0], [4, 5, 6, 7], [0, 0, 4]), shape=(2, 8))
    bank = LineBank.from_table(matrix, 4)
    assert bank.at_node(0)[0].tolist() == []
    lines, theta = bank.at_node(1)
    assert lines.tolist() == [1]
    np.testing.assert_array_equal(theta, [[0.0, -1.0, 0.0, 0.0]])


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("absent", ["fade", "vanish"])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_lines_are_the_weighted_means(share, absent, weights):
    bank = bank_of(make_table(share))
    lines, theta, slopes = bank.lines_at(*weights, amplitude=AMPLITUDE, absent=absent)
    want_lines, want = plainly(stored(bank), *weights, absent)
    np.testing.assert_array_equal(lines, want_lines)
    # sums in another order; up to -1000 in the paper's rule
    np.testing.assert_allclose(theta, want, rtol=0, atol=1e-11)
    assert slopes.shape == (0, len(lines), 4)


@pytest.mark.parametrize("name", ["linear", "cubic", "nearly a node"])
@pytest.mark.parametrize("absent", ["fade", "vanish"])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_derivatives_are_finite_differences(share, absent, name):
    nodes, weights = np.array(WEIGHTS[name][0]), np.array(WEIGHTS[name][1])
    bank = bank_of(make_table(share))
    rng = np.random.default_rng(0)
    change = rng.normal(size=(2, len(nodes)))
    change -= change.mean(axis=1, keepdims=True)
    options = {"amplitude": AMPLITUDE, "absent": absent}
    lines, theta, slopes = bank.lines_at(nodes, weights, change, **options)
    plain = bank.lines_at(nodes, weights, **options)
    np.testing.assert_array_equal(lines, plain[0])
    np.testing.assert_array_equal(theta, plain[1])
    h = 1e-6
    for k in range(2):
        up, down = (bank.lines_at(nodes, weights + s * h * change[k], **options) for s in (1, -1))
        np.testing.assert_array_equal(up[0], lines)
        numeric = (up[1] - down[1]) / (2 * h)
        # 1e4 in double precision over a step of 2e-6; 1 / w^2 of weights of 0.03 in the second derivatives' places
        np.testing.assert_allclose(slopes[k], numeric, rtol=1e-6, atol=1e-5)
        assert np.abs(numeric).max() > 0.1


def test_a_node_that_only_the_derivative_touches_counts_as_missing_where_it_lacks_the_line():
    table = make_table(1.0)
    table[2, 3:] = np.nan
    bank = bank_of(table)
    lines, theta, slopes = bank.lines_at([1, 2], [1.0, 0.0], [[-1.0, 1.0]], amplitude=AMPLITUDE, absent="fade")
    np.testing.assert_allclose(theta, stored(bank)[1], rtol=0, atol=1e-11)
    assert lines.tolist() == list(range(N_LINES))
    # the shape of a line that is here only does not change, its amplitude is that of the weight that is left
    np.testing.assert_allclose(slopes[0, 3:], np.tile([0, -1.0, 0, 0], (N_LINES - 3, 1)), atol=1e-12)
    np.testing.assert_allclose(slopes[0, :3], (stored(bank)[2] - stored(bank)[1])[:3], atol=1e-11)


@pytest.mark.parametrize("absent", ["fade", "vanish"])
@pytest.mark.parametrize("wanted", [[], [0], [2, 3, 11], list(range(N_LINES))], ids=len)
def test_wanted_lines_are_those_of_all(wanted, absent):
    bank = bank_of(make_table(0.6))
    change = [[0.3, -0.1, -0.2]]
    options = {"amplitude": AMPLITUDE, "absent": absent}
    lines, theta, slopes = bank.lines_at(*WEIGHTS["linear"], change, **options)
    some = bank.lines_at(*WEIGHTS["linear"], change, **options, wanted=np.array(wanted, dtype=np.int64))
    kept = np.isin(lines, wanted)
    np.testing.assert_array_equal(some[0], lines[kept])
    np.testing.assert_array_equal(some[1], theta[kept])
    np.testing.assert_array_equal(some[2], slopes[:, kept])


def test_maps_of_files_serve(tmp_path):
    bank = bank_of(make_table(0.6))
    tables = []
    for name in ("indptr", "line", "values", "origin"):
        np.save(tmp_path / name, getattr(bank, name))
        tables.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    for ours, theirs in zip(
        LineBank(*tables).lines_at(*WEIGHTS["cubic"], amplitude=AMPLITUDE, absent="fade"),
        bank.lines_at(*WEIGHTS["cubic"], amplitude=AMPLITUDE, absent="fade"),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_absent_lines_are_made_up_of_the_mean_shape_at_the_least_amplitude():
    table = make_table(0.6)
    bank = bank_of(table)
    filled = bank.to_array(AMPLITUDE) + bank.origin
    absent = np.isnan(table[:, :, 0])
    np.testing.assert_allclose(filled[~absent], table[~absent], rtol=0, atol=1e-6)
    shape = np.broadcast_to(np.nanmean(table, axis=0), table.shape)[absent]
    np.testing.assert_allclose(filled[absent][:, [0, 2, 3]], shape[:, [0, 2, 3]], rtol=0, atol=1e-9)
    least = np.broadcast_to(np.nanmin(table[:, :, AMPLITUDE], axis=0), absent.shape)[absent]
    np.testing.assert_allclose(filled[absent][:, AMPLITUDE], least, rtol=0, atol=1e-6)


def test_no_lines_and_no_nodes():
    empty = LineBank.from_table(sparse.csr_matrix((3, 0)), 4)
    assert (empty.n_nodes, empty.n_lines, empty.share) == (3, 0, 1.0)
    lines, theta, slopes = empty.lines_at([0, 1], [0.5, 0.5], [[1.0, -1.0]], amplitude=1, absent="fade")
    assert (lines.shape, theta.shape, slopes.shape) == ((0,), (0, 4), (1, 0, 4))
    nowhere = LineBank.from_table(sparse.csr_matrix((3, 8)), 4)
    assert nowhere.share == 0
    assert len(nowhere.lines_at([0, 1], [0.5, 0.5], amplitude=1, absent="vanish")[0]) == 0
