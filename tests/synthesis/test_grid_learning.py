"""Numbers of factors that represent the lines of a grid."""

import numpy as np
import pytest

from stellarhml.manifold.lattice import LatticeWeights
from stellarhml.manifold.line_tables import choose_rank
from stellarhml.synthesis.grid_learning import _enough_factors

NODES = np.arange(64.0)[:, None]


@pytest.fixture(scope="module")
def samples():
    return LatticeWeights(NODES, smooth=True).leave_one_out()


@pytest.mark.parametrize(("strength", "extent", "more"), [(2e-3, 1.0, 0), (1e-2, 1.0, 30), (1e-2, 100.0, 0)])
def test_factors_that_change_the_flux_are_kept(samples, strength, extent, more):
    """Ten smooth factors, and 30 of noise from node to node, which add up to an RMS of `strength` on one angstrom."""
    t = np.linspace(0, np.pi, len(NODES))[:, None]
    smooth = np.cos(t * np.arange(1, 11)) * 0.3 ** np.arange(10)
    noise = np.random.default_rng(0).normal(size=(len(NODES), 30))
    noise *= strength / np.sqrt((noise**2).sum(axis=1).mean())
    scores = np.column_stack([smooth, noise])
    fewest = choose_rank(scores, samples, slack=1.5)
    assert fewest <= 10
    kept = _enough_factors(scores, samples, extent)
    assert kept >= 10 + more if more else kept == fewest
