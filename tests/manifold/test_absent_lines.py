"""Lines that are absent from part of the grid: how they fade, and the paper's way of dropping them."""

import itertools

import numpy as np
import pytest
from scipy import sparse
from scipy.interpolate import RegularGridInterpolator

from stellarhml import LineManifoldInterpolator
from stellarhml.lines.decomposition import csr_row, dense_row, rows_to_csr

AXES = (np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0]))
NODES = np.array(list(itertools.product(*AXES)))
N_LINES = 6


@pytest.fixture(scope="module")
def table():
    """Lines of all nodes, NaN where absent: line 0 is everywhere, the last one nowhere but at a node."""
    rng = np.random.default_rng(0)
    theta = np.stack(
        [
            np.broadcast_to(8500.0 + np.arange(N_LINES), (len(NODES), N_LINES))
            + rng.normal(size=(len(NODES), N_LINES)) / 50,
            rng.uniform(-5, -1, (len(NODES), N_LINES)),
            rng.uniform(-3, -2, (len(NODES), N_LINES)),
            rng.uniform(-4, -3, (len(NODES), N_LINES)),
        ],
        axis=2,
    )
    absent = rng.random((len(NODES), N_LINES)) < 0.4
    absent[:, 0], absent[:, -1], absent[5, -1] = False, True, False
    theta[absent] = np.nan
    return theta.reshape(len(NODES), -1)


def as_csr(table):
    return rows_to_csr([dense_row(row, 4) for row in table], N_LINES, 4)


def inside(n, seed=1):
    return np.random.default_rng(seed).uniform([0, 0, 0], [3, 2, 1], (n, 3))


@pytest.mark.parametrize("absent", ["fade", "vanish"])
@pytest.mark.parametrize("method", ["auto", "linear"])
def test_dense_and_sparse_tables_give_the_same_lines(table, method, absent):
    x = inside(30)
    dense = LineManifoldInterpolator(method=method, absent=absent).fit(NODES, table).predict(x)
    csr = LineManifoldInterpolator(method=method, absent=absent).fit(NODES, as_csr(table)).predict(x)
    assert sparse.issparse(csr)
    assert csr.shape == dense.shape
    for i in range(len(x)):
        for ours, theirs in zip(csr_row(csr, i, 4), dense_row(dense[i], 4), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(np.isnan(dense).any(), True)


@pytest.mark.parametrize("absent", ["fade", "vanish"])
@pytest.mark.parametrize("method", ["auto", "linear"])
def test_nodes_are_reproduced_with_the_lines_they_have(table, method, absent):
    ours = LineManifoldInterpolator(method=method, absent=absent).fit(NODES, table)
    # parameters are kept in single precision about the mean of each line, from which they are at most 2 here
    np.testing.assert_allclose(ours.predict(NODES), table, rtol=0, atol=2 * 2.0**-24 * 1.01)


def test_vanish_is_the_papers_rule(table):
    # as the paper does it: a node without the line gets ln a = -1000, the manifold of each line is interpolated
    # linearly by scipy, and lines below -100 are dropped
    log_amplitude = np.nan_to_num(table[:, 1::4], nan=-1000.0).reshape(4, 3, 2, N_LINES)
    manifold = RegularGridInterpolator(AXES, log_amplitude)
    # random labels drop nearly every line that a corner lacks: stay near nodes too
    rng = np.random.default_rng(2)
    near = np.clip(NODES[rng.integers(0, len(NODES), 200)] + rng.normal(size=(200, 3)) * 0.03, 0, [3, 2, 1])
    x = np.concatenate([inside(50), near])
    paper = manifold(x)
    ours = LineManifoldInterpolator(method="linear", absent="vanish").fit(NODES, table).predict(x)[:, 1::4]
    kept = paper >= -100
    partly = kept & (paper < -6)  # no value of the table is as low: lines that are fading
    assert partly.sum() > 20
    np.testing.assert_array_equal(np.isfinite(ours), kept)
    # at most 2 from the mean of a line, in single precision
    np.testing.assert_allclose(ours[kept], paper[kept], rtol=0, atol=2 * 2.0**-24 * 1.01)


def line_that_ends(absent, method="linear", log_amplitude=-2.0):
    """A line present at 0 and 1, absent at 2 and 3; ln a and presence as functions of the label."""
    nodes = np.arange(4.0)[:, None]
    theta = np.tile([8500.0, log_amplitude, -2.0, -3.0], (4, 1))
    theta[2:] = np.nan
    ours = LineManifoldInterpolator(method=method, absent=absent).fit(nodes, theta)
    return lambda x: ours.predict(np.reshape(x, (-1, 1)))[:, 1]


def test_vanish_is_gone_at_a_tenth_of_the_way():
    log_amplitude = line_that_ends("vanish")
    # -2 (1 - t) - 1000 t = -100 at t = 98 / 998
    edge = 98 / 998
    got = log_amplitude(1 + np.array([0.0, 0.05, edge - 1e-6, edge + 1e-6, 0.5, 1.0]))
    np.testing.assert_allclose(got[:3], [-2.0, -2 * 0.95 - 50, -100], atol=2e-3)
    assert np.isnan(got[3:]).all()


@pytest.mark.parametrize("method", ["linear", "auto"])
def test_fade_takes_the_amplitude_to_zero_without_a_step(method):
    log_amplitude = line_that_ends("fade", method)
    # towards the node that lacks it, the amplitude falls in proportion to the weight that is left
    left = np.array([1e-2, 1e-4, 1e-6])
    amplitude = np.exp(log_amplitude(2 - left))
    weight = left if method == "linear" else None
    if weight is not None:
        np.testing.assert_allclose(amplitude, np.exp(-2.0) * weight, rtol=1e-6)
    assert np.all(amplitude < 3 * np.exp(-2.0) * left)
    assert np.all(amplitude > 0)
    # and from the node that has it there is no step either
    np.testing.assert_allclose(np.exp(log_amplitude(1 + np.array([0.0, 1e-6]))), np.exp(-2.0), rtol=3e-6)
    # between, it falls all the way
    fine = np.nan_to_num(np.exp(log_amplitude(np.linspace(1, 2, 401))))
    assert np.all(np.diff(fine) <= 0)
    assert np.abs(np.diff(fine)).max() < 0.01 * np.exp(-2.0)
    # beyond, there is no line
    assert np.isnan(log_amplitude([2.0, 2.5, 3.0])).all()


@pytest.mark.parametrize("method", ["linear", "auto"])
def test_fade_keeps_the_shape_of_the_nodes_that_have_the_line(table, method):
    # where all nodes that have a line agree on it, only its amplitude fades
    theta = table.copy().reshape(len(NODES), N_LINES, 4)
    theta[np.isfinite(theta[:, :, 0])] = [8500.0, -2.0, -2.5, -3.5]
    got = LineManifoldInterpolator(method=method).fit(NODES, theta.reshape(len(NODES), -1)).predict(inside(100))
    got = got.reshape(100, N_LINES, 4)
    here = np.isfinite(got[..., 0])
    np.testing.assert_allclose(got[here][:, [0, 2, 3]], np.tile([8500.0, -2.5, -3.5], (here.sum(), 1)), rtol=1e-12)
    assert np.all(got[here][:, 1] <= -2.0 + 1e-12)
    np.testing.assert_allclose(got[:, 0, 1], -2.0, rtol=1e-12)  # the line that is everywhere does not fade


@pytest.mark.parametrize("method", ["linear", "auto"])
def test_lines_are_continuous_across_cells(table, method):
    # along a path over the grid, the amplitudes of all lines change in proportion to the step
    ours = LineManifoldInterpolator(method=method).fit(NODES, table)
    path = np.linspace([0, 0.1, 0.2], [3, 1.9, 0.9], 3001)
    amplitude = np.nan_to_num(np.exp(ours.predict(path)[:, 1::4]))
    # slopes of order 1 per cell times 3 cells over 3000 steps; a step of the paper's cliff would be 0.1
    assert np.abs(np.diff(amplitude, axis=0)).max() < 5e-3


def test_columns_must_be_whole_lines(table):
    with pytest.raises(ValueError, match=r"must be a multiple of the 4 `parameters`"):
        LineManifoldInterpolator().fit(NODES, table[:, :-1])
    with pytest.raises(ValueError, match="must contain 'log_amplitude'"):
        LineManifoldInterpolator(parameters=("a", "b")).fit(NODES, table)


def test_predictions_outside_are_nan_for_sparse_tables_too(table):
    from stellarhml.exceptions import ExtrapolationWarning

    ours = LineManifoldInterpolator(extrapolate="nan").fit(NODES, as_csr(table))
    with pytest.warns(ExtrapolationWarning, match="1 of 2"):
        got = ours.predict([[1.5, 0.5, 0.5], [9.0, 0.5, 0.5]])
    first, second = got[0].data, got[1].data
    assert np.isfinite(first).all()
    assert len(second)
    assert np.isnan(second).all()


def test_infinite_parameters_are_refused(table):
    bad = table.copy()
    bad[0, 0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        LineManifoldInterpolator().fit(NODES, bad)


def test_set_output_is_available_as_on_every_transformer(table):
    LineManifoldInterpolator().set_output(transform="default").fit(NODES, table)
