"""Conversion of values with astropy units, or with masks, to plain numbers."""

import numpy as np


def plain_array(values, unit, name, *, spectral=False):
    """Numbers in a unit, from an array that may have a unit and a mask.

    Parameters
    ----------
    values : array-like, Quantity, Column or masked array
        The values. Those without a unit are taken to be in `unit`.
    unit : str, astropy unit or None
        Unit of the result. None: plain numbers.
    name : str
        Name of the values, for messages, such as "`wavelength`".
    spectral : bool, default=False
        Whether frequencies, wave numbers and energies are converted to lengths.

    Returns
    -------
    numbers : ndarray, dtype float64
        NaN where masked.

    Raises
    ------
    ValueError
        If the unit of the values does not convert.
    """
    own = getattr(values, "unit", None)
    mask = getattr(values, "mask", None)
    bare = getattr(values, "unmasked", values)  # astropy's Masked
    # a Dex has `value`, but no plain view
    numbers = np.array(getattr(bare, "value", bare) if own is not None else bare, dtype=np.float64)
    if mask is not None and np.shape(mask) == numbers.shape:
        numbers[np.asarray(mask, dtype=bool)] = np.nan
    if own is None:
        return numbers
    equivalencies = []
    if spectral:
        from astropy import units

        equivalencies = units.spectral()
    try:
        with np.errstate(all="ignore"):
            return np.asarray(own.to(unit or "", numbers, equivalencies=equivalencies), dtype=np.float64)
    except (ValueError, TypeError) as error:  # astropy's own is both
        target = f"'{unit}'" if unit else "a plain number"
        raise ValueError(
            f"{name} has the unit '{own}', which does not convert to {target}. Give it one that does, or numbers "
            "without a unit."
        ) from error


def plain_number(value, units, name):
    """Convert a number that may have a unit to a plain number.

    Parameters
    ----------
    value : float or Quantity
        The value.
    units : sequence of str
        Units to try, that of the result first. In the others the value has the same number. Empty: no unit is accepted.
    name : str
        Name of the value, for messages.

    Returns
    -------
    number : object
        A float in the first unit, or `value` if it has no unit.

    Raises
    ------
    ValueError
        If the unit does not convert.
    """
    if getattr(value, "unit", None) is None:
        return value
    problem = None
    for unit in units or ("",):
        try:
            return float(plain_array(value, unit, name))
        except ValueError as error:
            problem = problem or error
    raise problem
