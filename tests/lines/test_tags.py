import numpy as np
import pytest

from stellarhml._state import StateError
from stellarhml.lines.line_lists import LineList
from stellarhml.lines.tags import LineTags, tag_lines

TEFF = 5500.0
ZERO_POINTS = {"CN": 0.9, "Fe I": 5.5, "Ti I": 2.2}


@pytest.fixture(scope="module")
def sky():
    """300 lines of known species at random places, in a list that is displaced by 5 mA and has a weak line beside each.

    A line at 9000.5 is not in the list; another, at 9001.5, is 3 dex stronger than its only candidate.
    """
    rng = np.random.default_rng(0)
    species = rng.choice(list(ZERO_POINTS), size=300)
    wavelength = np.sort(rng.choice(np.arange(8000.0, 8900.0, 0.5), size=300, replace=False))
    excitation, log_gf = rng.uniform(0, 5, 300), rng.uniform(-4, 0, 300)
    zero = np.array([ZERO_POINTS[name] for name in species])
    depth = log_gf - 5040 / TEFF * excitation + zero + 0.1 * rng.normal(size=300)
    weak = np.array(["Ti I" if name != "Ti I" else "CN" for name in species])
    weak_gf = depth - 2.5 - np.array([ZERO_POINTS[name] for name in weak]) + 5040 / TEFF * 1.0
    transitions = LineList(
        np.concatenate([species, weak, ["Fe I"]]),
        np.concatenate([wavelength + 0.005, wavelength - 0.02, [9001.5]]),
        np.concatenate([excitation, np.ones(300), [1.0]]),
        np.concatenate([log_gf, weak_gf, [-9.0]]),
    )
    order = np.argsort(transitions.wavelength)
    transitions = LineList(*(column[order] for column in transitions))
    centers = np.concatenate([wavelength, [9000.5, 9001.5, np.nan]])
    depths = np.concatenate([depth, [0.0, -0.5, np.nan]])
    return centers, depths, transitions, species


def test_species_and_zero_points_are_found(sky):
    centers, depths, transitions, species = sky
    tags = tag_lines(centers, depths, transitions, TEFF)
    assert tags.names()[:300].tolist() == species.tolist()
    assert tags.names()[300:].tolist() == ["", "", ""]
    assert tags.tagged.tolist() == 300 * [True] + 3 * [False]
    found = dict(zip(tags.species, tags.zero_points, strict=True))
    for name, value in ZERO_POINTS.items():
        # 100 lines with a scatter of 0.1 dex: the median is good to 0.0125; four of these
        assert found[name] == pytest.approx(value, abs=0.05)
    total = np.asarray(tags.shares.sum(axis=1)).ravel()
    np.testing.assert_allclose(total[:300], 1)
    assert (total[300:] == 0).all()
    assert np.isnan(tags.log_gf[300:]).all()
    np.testing.assert_allclose(tags.wavelength[:300], centers[:300] + 0.005)


def test_shares_of_a_blend(sky):
    """Two transitions of known strengths in one line: shares are their strengths."""
    centers, depths, transitions, _ = sky
    extra = LineList(
        np.array(["Fe I", "Ti I"]),
        np.array([9500.0, 9500.0]),
        np.array([2.0, 2.0]),
        np.array([-2.0, -2.0 + ZERO_POINTS["Fe I"] - ZERO_POINTS["Ti I"] - np.log10(3)]),
    )
    both = LineList(*(np.concatenate(parts) for parts in zip(transitions, extra, strict=True)))
    total = -2.0 - 2 * 5040 / TEFF + ZERO_POINTS["Fe I"] + np.log10(4 / 3)
    tags = tag_lines(np.append(centers, 9500.0), np.append(depths, total), both, TEFF)
    share = dict(zip(tags.species, tags.shares[-1].toarray()[0], strict=True))
    # zero points are good to 0.05 dex, 12 %
    assert share["Fe I"] == pytest.approx(0.75, abs=0.03)
    assert share["Ti I"] == pytest.approx(0.25, abs=0.03)


def test_tags_of_chosen_lines(sky):
    centers, depths, transitions, species = sky
    tags = tag_lines(centers, depths, transitions, TEFF)
    found = tags.of_lines([7, 301])
    assert found["species"].tolist() == [species[7], ""]
    # the weak transition beside each line is 2.5 dex weaker, and farther away
    assert 0.99 < found["share"][0] < 1
    assert found["share"][1] == 0
    np.testing.assert_array_equal(found["excitation"], tags.excitation[[7, 301]])
    np.testing.assert_array_equal(found["log_gf"], tags.log_gf[[7, 301]])
    assert all(len(column) == 0 for column in tags.of_lines(np.array([], dtype=int)).values())


def test_a_temperature_for_each_line(sky):
    centers, depths, transitions, _ = sky
    one = tag_lines(centers, depths, transitions, TEFF)
    each = tag_lines(centers, depths, transitions, np.full(len(centers), TEFF))
    np.testing.assert_array_equal(one.zero_points, each.zero_points)


def test_state_and_its_checks(sky):
    tags = tag_lines(*sky[:3], TEFF)
    n_lines = len(sky[0])
    state = tags.to_state()
    again = LineTags.from_state(state, n_lines)
    assert again.names().tolist() == tags.names().tolist()
    np.testing.assert_array_equal(again.shares.toarray(), tags.shares.toarray())
    for change in (
        {"species": ["Fe I", "Fe I", "CN"]},
        {"species": ["Fe I", "Qq I", "CN"]},
        {"line": state["line"] + n_lines},
        {"number": state["number"] + 3},
        {"share": 2 * state["share"]},
        {"zero_points": state["zero_points"][:-1]},
        {"log_gf": state["log_gf"][:-1]},
        {"more": 1},
    ):
        with pytest.raises(StateError):
            LineTags.from_state(state | change, n_lines)
