"""PageState of a page, and its address."""

import pytest

from stellarhml.explore.page_state import LIMITS, NARROWEST, PageState, first_state, from_query, to_query

NAMES, BOUNDS = ("teff", "logg"), [(5000.0, 6000.0), (4.0, 5.0)]
START = PageState((5500.0, 4.5), 8450.0, 8510.0, power=55_000.0)
ALLOWED = dict(zip(NAMES, BOUNDS, strict=True)) | LIMITS
ALLOWED |= {"low": (8450.0, 8700.0), "high": (8450.0, 8700.0), "line": (0, 99), "spectrum": (0, 2)}


def back(query, **settings):
    return from_query(query, START, ALLOWED, NAMES, **settings)


@pytest.mark.parametrize(
    "state",
    [
        START,
        PageState(
            (5123.456789, 4.0), 8451.25, 8452.5, rv=-12.25, vsini=0.5, power=None, line=7, quantity="depth", spectrum=2
        ),
        PageState((6000.0, 5.0), 8450.0, 8700.0, power=1000.0, line=0),
    ],
)
def test_address_brings_a_state_back(state):
    query = to_query(state, NAMES, "abcdef0123")
    assert all(isinstance(text, str) for text in query.values())
    assert back(query, grid_id="abcdef0123") == (state, [])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"teff": "4000"}, "teff=4000"),
        ({"logg": "nan"}, "logg=nan"),
        ({"rv": "1e999"}, "rv=1e999"),
        ({"line": "100"}, "0 to 99"),
        ({"vsini": "<script>"}, "vsini=<script>"),
        ({"low": "8600", "high": "8500"}, "narrower than"),
        ({"grid": "12345678"}, "another grid"),
        ({"power": "inf"}, "1000 to 500000"),
        ({"spectrum": ""}, "0 to 2"),
    ],
)
def test_invalid_values_are_ignored_with_a_message(query, message):
    state, problems = back(query, grid_id="abcdef0123")
    assert state == START
    assert len(problems) == 1
    assert message in problems[0]


def test_unknown_names_in_an_address_are_ignored():
    assert back({"quantity": "__class__", "labels": "1", "window": "2", "set": "3"}) == (START, [])


def test_window_moves_within_the_band():
    band = (8450.0, 8700.0)
    assert START.zoom(0.0, 0.5, band).window == (8465.0, 8495.0)
    assert START.zoom(-0.5, 1.0, band).window == (8450.0, 8510.0)
    assert START.zoom(0.5, 1.0, band).window == (8480.0, 8540.0)
    assert START.zoom(0.0, 1e9, band).window == band


def test_window_moves_to_a_line_outside_it():
    assert START.at_line(3, 8500.0).window == START.window
    assert START.at_line(3, 8600.0).window == (8570.0, 8630.0)


def test_first_window_is_an_order_in_the_band():
    band = (8450.0, 8700.0)
    assert first_state((1.0,), band).window == (8545.0, 8605.0)
    assert first_state((1.0,), (8450.0, 8460.0)).window == (8450.0, 8460.0)
    orders = [(8000.0, 8100.0), (8440.0, 8480.0), (8500.0, 8550.0), (8600.0, 8750.0)]
    assert first_state((1.0,), band, orders).window == (8500.0, 8550.0)
    assert first_state((1.0,), band, orders[:2], 3e4) == PageState((1.0,), 8450.0, 8480.0, power=3e4)


def test_edges_of_the_grid():
    ranges = dict(zip(("teff", "logg"), BOUNDS, strict=True))
    assert START.edges(ranges) == []
    assert PageState((6000.0, 4.001), 0.0, 1.0).edges(ranges) == ["teff", "logg"]
    # of a second star, whose label is among the effects; others of these have no edge
    pair = PageState((5500.0, 4.5), 0.0, 1.0, effects={"teff_2": 5000.0, "flux_ratio": 0.0})
    assert pair.edges(ranges | {"teff_2": (5000.0, 6000.0)}) == ["teff_2"]
    # a label with one value has no edge
    assert PageState((5500.0, 4.0), 0.0, 1.0).edges({"teff": (5000.0, 6000.0), "logg": (4.0, 4.0)}) == []


@pytest.mark.parametrize(
    ("k", "value", "window"),
    [
        (0, 8460.0, (8460.0, 8510.0)),
        (1, 8460.0, (8450.0, 8460.0)),
        (0, 8600.0, (8600.0, 8660.0)),  # the other end moves along
        (1, 8450.0, (8400.0, 8450.0)),
        (0, 0.0, (8400.0, 8510.0)),
        (0, 1e9, (8699.95, 8700.0)),
        (1, -5.0, (8400.0, 8400.05)),
    ],
)
def test_end_of_the_window_that_is_typed_is_taken(k, value, window):
    assert START.with_end(k, value, (8400.0, 8700.0)).window == pytest.approx(window)


def test_window_that_is_zoomed_in_for_ever_can_be_brought_back():
    state = START
    for _ in range(40):
        state = state.zoom(0.0, 0.5, (8450.0, 8700.0))
    assert state.high - state.low == pytest.approx(NARROWEST)
    again, problems = back(to_query(state, NAMES))
    assert (again.window, problems) == (pytest.approx(state.window), [])
