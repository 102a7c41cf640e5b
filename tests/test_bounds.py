"""Values at a bound."""

import numpy as np
import pytest

from stellarhml._bounds import near_bound


@pytest.mark.parametrize(
    ("value", "near"),
    [(5000.0, True), (5002.9, True), (5003.1, False), (5500.0, False), (5996.9, False), (5997.1, True), (6001.0, True)],
)
def test_three_thousandths_of_the_range_are_at_the_bound(value, near):
    assert near_bound(value, 5000.0, 6000.0) == near


def test_a_fixed_parameter_is_never_at_a_bound():
    assert near_bound([4.5, 4.5], [4.5, 4.5], [4.5, 5.0]).tolist() == [False, True]


def test_without_a_finite_range_only_the_bound_itself_counts():
    assert near_bound([0.0, 1e-9, -1.0, 1e30], 0.0, np.inf).tolist() == [True, False, True, False]
    assert not near_bound(0.0, -np.inf, np.inf)
    assert not near_bound(np.nan, 0.0, 1.0)
