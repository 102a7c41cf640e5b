"""The forward model from a table against that of one star."""

import numpy as np
import pytest

from stellarhml.forward import tabulated_chain
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.line_spread import TwoGaussians
from stellarhml.forward.observation import Observation
from stellarhml.forward.tabulated_chain import SpectrumTable, TabulatedChain
from stellarhml.synthesis.line_changes import LineChanges

STAR = {"teff": 5432.0, "logg": 4.31, "feh": -0.17, "rv": 21.0, "vsini": 8.0}
PIXELS = [np.arange(8460.0, 8570.0, 0.1), np.arange(8565.0, 8690.0, 0.12)]


@pytest.fixture(scope="module")
def observation():
    return Observation(PIXELS, resolving_power=[20_000.0, 25_000.0])


@pytest.fixture(scope="module")
def exact(mini_generator, observation):
    return ForwardChain(mini_generator, observation)


@pytest.fixture
def chain(mini_generator, observation):
    return TabulatedChain(SpectrumTable(mini_generator, observation, (-500, 500)), mini_generator, observation)


def _apart(chain, exact, values):
    """Largest difference of the fluxes."""
    pairs = list(zip(chain.flux(values), exact.flux(values), strict=True))
    assert all(np.array_equal(np.isnan(a), np.isnan(b)) for a, b in pairs)
    return max(np.nanmax(np.abs(a - b)) for a, b in pairs)


def test_the_table_is_near_the_model(chain, exact):
    for values in (STAR, STAR | {"teff": 5210.0, "feh": 0.1}, STAR | {"vsini": 60.0, "rv": -250.0}):
        assert 1e-9 < _apart(chain, exact, values) < 1e-3


def test_anchored_it_is_the_model_to_second_order(chain, exact):
    chain.anchor(STAR)
    for found, expected in zip(chain.evaluate(STAR), exact.evaluate(STAR), strict=True):
        assert found.flux == pytest.approx(expected.flux, abs=1e-13, nan_ok=True)
        for name, row in expected.tangents.items():
            assert found.tangents[name] == pytest.approx(row, rel=1e-9, abs=1e-12, nan_ok=True), name
        for name, row in expected.modes.items():
            assert found.modes[name] == pytest.approx(row, rel=1e-9, abs=1e-9, nan_ok=True), name
    step = {"teff": 20.0, "logg": 0.04, "feh": 0.02, "rv": 0.5, "vsini": 0.5}
    near, far = (_apart(chain, exact, {k: x + f * step[k] for k, x in STAR.items()}) for f in (0.25, 1.0))
    assert far < 5e-5
    assert near < far / 8
    chain.anchor(STAR | {"teff": 5300.0})
    assert _apart(chain, exact, STAR | {"teff": 5300.0}) < 1e-12


def test_what_it_returns_does_not_depend_on_the_stars_before(chain, mini_generator, observation, monkeypatch):
    expected = chain.flux(STAR)[0].copy()
    n_cell = chain._table.n_computed
    monkeypatch.setattr(tabulated_chain, "_MEMORY", 1)  # room for one cell
    table = SpectrumTable(mini_generator, observation, (-500, 500))
    other = TabulatedChain(table, mini_generator, observation)
    for teff in (5150.0, 5850.0, 5450.0):
        other.flux(STAR | {"teff": teff})
    assert np.array_equal(other.flux(STAR)[0], expected, equal_nan=True)
    assert table.n_computed > n_cell
    assert len(table._kept) <= 2 ** len(table.axes)


def test_changes_of_lines_take_their_derivatives_from_the_anchor(chain, exact, mini_generator):
    changes = LineChanges(mini_generator, microturbulence=True)
    chain.anchor(STAR, changes)
    changed, whole = chain.with_changes(changes), exact.with_changes(changes)
    values = STAR | {"vmic": 1.0}
    for found, expected in zip(changed.evaluate(values), whole.evaluate(values), strict=True):
        assert found.tangents["vmic"] == pytest.approx(expected.tangents["vmic"], rel=1e-9, abs=1e-12, nan_ok=True)
    lines = np.ones(len(mini_generator.decomposer_.line_catalog_), dtype=bool)
    for found, expected in zip(changed.line_columns(values, lines), whole.line_columns(values, lines), strict=True):
        assert np.array_equal(found.line, expected.line)
        assert found.table == pytest.approx(expected.table, abs=1e-6)  # as exact as lines are rendered
    moved = values | {"vmic": 1.6}
    for found, expected in zip(changed.flux(moved), whole.flux(moved), strict=True):
        assert np.array_equal(found, expected, equal_nan=True)


def test_which_generators_and_pixels_a_table_serves(mini_generator):
    assert SpectrumTable.serves(mini_generator, Observation(PIXELS, resolving_power=30_000))
    assert not SpectrumTable.serves(mini_generator, Observation(PIXELS))
    spread = TwoGaussians(30_000, wide_ratio=3.0, wide_share=0.1)
    assert not SpectrumTable.serves(mini_generator, Observation(PIXELS, resolving_power=spread))
