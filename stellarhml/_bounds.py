"""The criterion for a value at a bound."""

import numpy as np

AT_BOUND = 1e-3
"""Share of a range within which a value counts as being at its end."""


def near_bound(value, low, high):
    """Whether a value lies at an end of its range.

    Parameters
    ----------
    value, low, high : float or ndarray
        Value, and ends of its range.

    Returns
    -------
    at_low, at_high : bool or ndarray of bool
        Whether it lies within 0.1 % of the range of either end; False for a range of zero width, that
        is, a fixed parameter.
    """
    width = np.asarray(high) - low
    edge = AT_BOUND * np.where(np.isfinite(width), width, 0.0)
    return (edge > 0) & (value <= low + edge), (edge > 0) & (value >= high - edge)
