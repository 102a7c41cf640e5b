"""Checked reading of states: what is right passes as it is, all else is a StateError."""

import numpy as np
import pytest

from stellarhml import PhoenixPreprocessor, VoigtLineDecomposer
from stellarhml._state import (
    Sizes,
    StateError,
    check_keys,
    estimator_state,
    make_estimator,
    take,
    take_array,
    take_list,
    take_number,
)


def test_keys():
    check_keys({"a": 1, "b": 2}, ("a",), ("b",))
    for state in ({}, {"a": 1, "c": 1}, [1], None):
        with pytest.raises(StateError):
            check_keys(state, ("a",))


def test_values_of_one_type():
    assert take({"a": None}, "a", (int, type(None))) is None
    for value, kind in ((True, int), (1, float), (None, int), ("1", int)):
        with pytest.raises(StateError, match="`a` is a"):
            take({"a": value}, "a", kind)
    with pytest.raises(StateError, match="`b` is missing"):
        take({"a": 1}, "b", int)


def test_numbers():
    assert take_number({"a": 3}, "a", low=0, high=3) == 3
    assert isinstance(take_number({"a": 3}, "a"), float)
    assert take_number({"a": np.inf}, "a", finite=False) == np.inf
    for value in (np.nan, np.inf, -1, 4, True, "1", 10**400):
        with pytest.raises(StateError):
            take_number({"a": value}, "a", low=0, high=3)
    with pytest.raises(StateError):
        take_number({"a": 1.0}, "a", integer=True)


def test_lists():
    sizes = Sizes()
    assert take_list({"a": ("x", "y")}, "a", str, length="n", sizes=sizes) == ["x", "y"]
    assert sizes == {"n": 2}
    for value in (["x"], ["x", 1], ["x", "x"], "xy", None):
        with pytest.raises(StateError):
            take_list({"a": value}, "a", str, length="n", sizes=sizes, distinct=True)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_pass_as_they_are(order):
    array = np.asarray(np.arange(6.0).reshape(2, 3), order=order)
    sizes = Sizes(n=3)
    assert take_array({"a": array}, "a", dtype="f8", shape=("m", "n"), sizes=sizes, low=0, high=5) is array
    assert sizes["m"] == 2
    swapped = take_array({"a": array.astype(">f8")}, "a", dtype=("f4", "f8"), shape=(2, 3), increasing="strictly")
    assert swapped.dtype.isnative
    np.testing.assert_array_equal(swapped, array)
    huge = np.full(3, 1.7e308)  # finite, though the sum is not
    assert take_array({"a": huge}, "a", dtype="f8", shape=(None,)) is huge


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "f4"},
        {"shape": (2, 2)},
        {"shape": (6,)},
        {"shape": ("n", "n")},
        {"low": 1},
        {"high": 4},
    ],
    ids=str,
)
def test_wrong_arrays(change):
    call = {"dtype": "f8", "shape": (2, 3)} | change
    with pytest.raises(StateError, match="`a` has"):
        take_array({"a": np.arange(6.0).reshape(2, 3)}, "a", **call)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bounds", [{}, {"low": -np.inf}])
def test_values_that_are_not_finite(bad, bounds):
    array = np.arange(6.0)
    array[3] = bad
    with pytest.raises(StateError):
        take_array({"a": array}, "a", dtype="f8", shape=(None,), **bounds)


def test_orders_of_values():
    unsigned = np.array([1, 0], dtype="u1")
    for array, increasing in ((unsigned, True), (np.array([1, 1], dtype="u1"), "strictly")):
        with pytest.raises(StateError, match="sorted"):
            take_array({"a": array}, "a", dtype="u1", shape=(None,), increasing=increasing)


def test_parameters_of_estimators():
    estimator = PhoenixPreprocessor(window=(5000.0, 6000.0), degree=3)
    state = estimator_state(estimator, None)
    state["parameters"]["window"] = [5000.0, 6000.0]  # as a file gives it
    got, fitted = make_estimator(PhoenixPreprocessor, state)
    assert fitted is None
    assert got.get_params() == estimator.get_params()
    long = estimator_state(PhoenixPreprocessor(wavelength=[1.0] * 1001), None)["parameters"]["wavelength"]
    assert isinstance(long, np.ndarray)
    for change in ({"degree": -1}, {"degree": "x"}, {"continuum": np.zeros(3)}, {"unknown": 1}):
        with pytest.raises(StateError):
            make_estimator(PhoenixPreprocessor, state | {"parameters": state["parameters"] | change})


@pytest.mark.parametrize("change", [{"n_jobs": 1000}, {"store": "folder"}])
def test_files_start_no_processes_and_name_no_folders(change):
    estimator = VoigtLineDecomposer(n_jobs=2)
    state = estimator_state(estimator, None)
    assert state["parameters"]["n_jobs"] is None
    with pytest.raises(StateError, match="must be None in a file"):
        make_estimator(VoigtLineDecomposer, state | {"parameters": state["parameters"] | change})


def test_requested_metadata():
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        estimator = PhoenixPreprocessor().set_transform_request(teff=True)
        state = estimator_state(estimator, None)
        assert state["requests"]["transform"] == {"teff": True}
        got, _ = make_estimator(PhoenixPreprocessor, state)
        assert got.get_metadata_routing().transform.requests["teff"] is True
    for wrong in (
        {"transform": {"x": True}},
        {"get_params": {}},
        {"transform": [1]},
        [1],
        {"transform": {"teff": 3.0}},
    ):
        with pytest.raises(StateError):
            make_estimator(PhoenixPreprocessor, state | {"requests": wrong})
