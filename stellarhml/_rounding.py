"""Numbers as text, to as many digits as their error allows."""

import numpy as np


def rounded(value, error):
    """Round a value to two digits of its error.

    Parameters
    ----------
    value, error : float
        Value and standard deviation; an error of zero is that of what was fixed.

    Returns
    -------
    value, error : str
        As text; the error is "fixed", or "?" where it is not known.

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
    """Decimals that show two digits of a positive number, 0 at least."""
    return max(0, 1 - int(np.floor(np.log10(float(f"{error:.1e}")))))
