"""Values at a bound."""

import numpy as np
import pytest

from stellarhml._bounds import near_bound


@pytest.mark.parametrize(
    ("value", "near"),
    [
        (4999.0, (True, False)),
        (5000.0, (True, False)),
        (5000.9, (True, False)),
        (5001.1, (False, False)),
        (5500.0, (False, False)),
        (5998.9, (False, False)),
        (5999.1, (False, True)),
        (6001.0, (False, True)),
    ],
)
def test_a_thousandth_of_the_range_is_at_the_bound(value, near):
    assert near_bound(value, 5000.0, 6000.0) == near


def test_a_fixed_parameter_is_never_at_a_bound():
    low, high = near_bound(np.array([4.5, 4.5]), np.array([4.5, 4.5]), np.array([4.5, 5.0]))
    assert low.tolist() == [False, True]
    assert high.tolist() == [False, False]


def test_an_infinite_range_has_no_bounds():
    for value in (0.0, 1e30, np.nan):
        assert not np.any(near_bound(value, -np.inf, np.inf))
