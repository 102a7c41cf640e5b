"""When a value counts as being at a bound: one threshold for fits, flags and the explorer."""

import numpy as np

AT_BOUND = 3e-3
"""Share of the range between two bounds: a value nearer than this to one of them is at it."""


def near_bound(value, low, high):
    """Whether values lie at, or beyond, a bound.

    Parameters
    ----------
    value, low, high : array-like of any shape
        Values and their bounds, broadcast against each other. Without a finite range only the bound itself counts.

    Returns
    -------
    near : ndarray of bool
        True up to `AT_BOUND` of the range from a bound. A parameter with `low == high` is fixed and never counts.

    Examples
    --------
    >>> from stellarhml._bounds import near_bound
    >>> near_bound([5500.0, 5997.5, 4.0], [5000.0, 5000.0, 4.0], [6000.0, 6000.0, 4.0])
    array([False,  True, False])
    """
    value, low, high = (np.asarray(part, dtype=np.float64) for part in (value, low, high))
    extent = high - low
    margin = np.where(np.isfinite(extent), AT_BOUND * extent, 0.0)
    return (extent > 0) & (np.minimum(value - low, high - value) <= margin)
