"""Lines of all nodes in terms of a few factors."""

import numpy as np
import pytest

from stellarhml.kernels.rendering import line_effects, render_lines
from stellarhml.manifold.line_tables import LineBank, LineFactors

N_NODES, N_LINES = 20, 15


def make_table(noise=0.01, seed=0):
    """Lines that go with two labels, weak and strong ones, shape (N_NODES, N_LINES, 4)."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (N_NODES, 2))
    terms = np.concatenate([x, x**2], axis=1)
    mean = np.stack(
        [
            9000.0 + 5 * np.arange(N_LINES),
            rng.uniform(-7, -2.5, N_LINES),
            rng.uniform(-2.5, -2, N_LINES),
            rng.uniform(-3, -2.5, N_LINES),
        ],
        axis=1,
    )
    pattern = rng.normal(size=(4, N_LINES, 4)) * [0.01, 0.3, 0.1, 0.1]
    return mean + np.tensordot(terms, pattern, 1) + noise * rng.normal(size=(N_NODES, N_LINES, 4)) * [0.1, 1, 1, 1]


def bank_of(table):
    return LineBank.from_table(table.reshape(len(table), -1), 4)


def effects_of(table):
    return line_effects(np.nanmean(table, axis=0), "pseudo-voigt")


def everything(scores):
    return scores.shape[1]


def all_nodes(factors):
    return np.stack([factors.at_node(node)[1] for node in range(factors.n_nodes)])


def test_all_factors_are_the_bank():
    table = make_table()
    bank, effect = bank_of(table), effects_of(table)
    factors = LineFactors.learn(bank, effect, everything, 1)
    assert factors.factors.shape == (N_LINES, 4, N_NODES - 1)
    assert factors.factors.dtype == np.int16
    assert (factors.n_lines, factors.n_nodes, factors.share) == (N_LINES, N_NODES, 1.0)
    change = (table - table.mean(axis=0)) * effect
    error = (all_nodes(factors) - table) * effect
    # 16 bits of each factor
    assert np.abs(error).max() < 1e-4 * np.abs(change).max()
    wavelength = np.arange(8995.0, 9080.0, 0.02)
    options = {"profile": "pseudo-voigt", "wing_cut": len(wavelength)}
    for node in (0, 7):
        ours = render_lines(wavelength, factors.at_node(node)[1], **options)
        np.testing.assert_allclose(ours, render_lines(wavelength, table[node], **options), rtol=0, atol=2e-5)


@pytest.mark.parametrize("n", [0, 1, 2, 4, 8])
def test_fewer_factors_lose_least_of_what_matters_to_the_flux(n):
    table = make_table(noise=0.05)
    bank, effect = bank_of(table), effects_of(table)
    factors = LineFactors.learn(bank, effect, lambda scores: n, 1)
    assert factors.factors.shape == (N_LINES, 4, n)
    centred = (table - table.mean(axis=0)).reshape(N_NODES, -1)
    in_flux = centred * effect.ravel()
    lost = ((all_nodes(factors) - table) * effect).ravel()
    # Eckart and Young, in units of the flux; 16 bits add 1e-4 of what is there
    singular = np.linalg.svd(in_flux, compute_uv=False)
    least = np.sqrt((singular[n:] ** 2).sum())
    assert np.linalg.norm(lost) == pytest.approx(least, rel=1e-3)
    if n:
        # components of the parameters as they are lose more
        u, s, v = np.linalg.svd(centred, full_matrices=False)
        blind = ((u[:, :n] * s[:n]) @ v[:n] - centred) * effect.ravel()
        assert np.linalg.norm(blind) > 1.2 * least


def test_scores_are_those_that_are_chosen_from():
    table, seen = make_table(), []

    def choose(scores):
        seen.append(scores)
        return 3

    bank = bank_of(table)
    effect = effects_of(table)
    LineFactors.learn(bank, effect, choose, 1)
    (scores,) = seen
    assert scores.shape == (N_NODES, N_NODES - 1)
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-6)
    sizes = np.linalg.norm(scores, axis=0)
    assert np.all(np.diff(sizes) < 0)
    in_flux = ((table - table.mean(axis=0)) * effect).reshape(N_NODES, -1)
    # the table is in single precision
    np.testing.assert_allclose(sizes, np.linalg.svd(in_flux, compute_uv=False)[:-1], rtol=1e-4)


def test_interpolation_is_that_of_the_scores_and_derivatives_are_exact():
    table = make_table()
    factors = LineFactors.learn(bank_of(table), effects_of(table), everything, 1)
    nodes = np.array([0, 3, 11, 19])
    weights = np.array([-0.1, 0.7, 0.5, -0.1])
    change = np.array([[1.0, -2.0, 0.5, 0.5], [0.3, 0.3, -0.6, 0.0]])
    lines, theta, slopes = factors.lines_at(nodes, weights, change)
    np.testing.assert_array_equal(lines, np.arange(N_LINES))
    rows = all_nodes(factors)[nodes]
    np.testing.assert_allclose(theta, np.tensordot(weights, rows, 1), rtol=1e-12)
    # 9000 angstrom cancel in the weights of the reference
    np.testing.assert_allclose(slopes, np.tensordot(change, rows, 1), rtol=0, atol=1e-11)
    up, down = (factors.lines_at(nodes, weights + s * change[0])[1] for s in (0.5, -0.5))
    np.testing.assert_allclose(slopes[0], up - down, rtol=0, atol=1e-11)
    assert factors.lines_at(nodes, weights)[2].shape == (0, N_LINES, 4)


@pytest.mark.parametrize("wanted", [[], [4], [0, 3, 14]], ids=len)
def test_wanted_lines_are_those_of_all(wanted):
    table = make_table()
    factors = LineFactors.learn(bank_of(table), effects_of(table), everything, 1)
    wanted = np.array(wanted, dtype=np.int64)
    lines, theta, slopes = factors.lines_at([1, 2], [0.4, 0.6], [[1.0, -1.0]], wanted=wanted)
    whole = factors.lines_at([1, 2], [0.4, 0.6], [[1.0, -1.0]])
    np.testing.assert_array_equal(lines, wanted)
    np.testing.assert_array_equal(theta, whole[1][wanted])
    np.testing.assert_array_equal(slopes, whole[2][:, wanted])


def test_absent_lines_are_made_up():
    table = make_table()
    table[3, 2] = table[9, 2] = np.nan
    bank = bank_of(table)
    factors = LineFactors.learn(bank, effects_of(table), everything, 1)
    lines, theta = factors.at_node(3)
    assert lines.tolist() == list(range(N_LINES))
    want = np.nanmean(table[:, 2], axis=0)
    want[1] = np.nanmin(table[:, 2, 1])
    np.testing.assert_allclose(theta[2], want, rtol=0, atol=1e-3)
    np.testing.assert_allclose(np.delete(theta, 2, axis=0), np.delete(table[3], 2, axis=0), rtol=0, atol=1e-3)


def test_lines_without_an_effect_and_nodes_that_are_equal():
    table = make_table()
    effect = effects_of(table)
    effect[4] = 0.0
    factors = LineFactors.learn(bank_of(table), effect, everything, 1)
    assert np.isfinite(all_nodes(factors)).all()
    # a line that does nothing comes back as far as it shows: not at all, but somewhere in its range
    assert np.abs(all_nodes(factors)[:, 4] - table[:, 4].mean(axis=0)).max() < 10
    same = np.tile(table[:1], (5, 1, 1))
    constant = LineFactors.learn(bank_of(same), effect, everything, 1)
    assert constant.factors.shape[2] == 0
    np.testing.assert_allclose(all_nodes(constant), same, rtol=0, atol=1e-11)
    assert LineFactors.learn(bank_of(table), np.zeros_like(effect), everything, 1).factors.dtype == np.int16


def test_memory_is_a_fraction_of_the_bank():
    table = np.tile(make_table(noise=0.0), (10, 1, 1))
    bank = bank_of(table)
    factors = LineFactors.learn(bank, effects_of(table), lambda scores: 4, 1)
    assert factors.nbytes < 0.2 * bank.nbytes
    # four factors are all there is without noise; 16 bits
    np.testing.assert_allclose(all_nodes(factors)[:N_NODES], table[:N_NODES], rtol=0, atol=3e-3)
