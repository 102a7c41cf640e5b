"""Numbers as text, rounded to their errors."""

import numpy as np


def rounded(value, error):
    """Round a value to two digits of its error.

    Parameters
    ----------
    value, error : float
        Value and standard deviation, which is zero for a fixed parameter.

    Returns
    -------
    value, error : str
        As text; the error is "fixed" where it is zero, and "?" where it is not finite.

    Examples
    --------
    >>> rounded(5856.532, 3.71)
    ('5856.5', '3.7')
    >>> rounded(-3e-5, 2.9)
    ('0.0', '2.9')
    >>> rounded(0.0, 0.0)
    ('0', 'fixed')
    """
    if error == 0:
        return f"{value:g}", "fixed"
    if not np.isfinite(error):
        return f"{value:g}", "?"
    digits = decimals(error)
    # adding zero turns -0.0 into 0.0
    return f"{round(value, digits) + 0.0:.{digits}f}", f"{error:.{digits}f}"


def decimals(error):
    """Decimals that show two digits of a positive number, at least 0."""
    return max(0, 1 - int(np.floor(np.log10(float(f"{error:.1e}")))))
