"""Checks of input that several estimators share; every message has a cure."""

import numpy as np
from sklearn.utils import check_array

from stellarhml._state import StateError, take_array, take_list
from stellarhml._units import plain_array


def check_wavelength(wavelength, *, n_pixels=None):
    """Return a float64 copy of a strictly increasing wavelength grid, in angstrom.

    Parameters
    ----------
    wavelength : array-like of shape (n_pixels,) or None
        Vacuum wavelengths in angstrom, unless they carry a unit. None: the pixel index.
    n_pixels : int, default=None
        Required length. None accepts any length.

    Returns
    -------
    wavelength : ndarray of shape (n_pixels,), dtype float64
        The checked copy.

    Raises
    ------
    ValueError
        If the length or the unit is wrong, a value is not finite or not positive, or the order is not strictly
        increasing.
    """
    if wavelength is None:
        return np.arange(n_pixels, dtype=np.float64)
    if getattr(wavelength, "unit", None) is not None:
        wavelength = plain_array(wavelength, "angstrom", "`wavelength`")
    grid = check_array(wavelength, ensure_2d=False, dtype=np.float64, copy=True, input_name="wavelength")
    if n_pixels is not None and grid.shape != (n_pixels,):
        raise ValueError(
            f"`wavelength` has shape {grid.shape} but X has {n_pixels} pixels (columns). "
            "Pass the wavelengths of exactly those columns; after PhoenixPreprocessor these are its `wavelength_out_`."
        )
    if grid[0] <= 0:
        raise ValueError(
            f"`wavelength` begins at {grid[0]:g}, but wavelengths are positive, in angstrom. Pass wavelength=None if "
            "the columns of X have pixel indices only."
        )
    steps = np.diff(grid)
    if np.any(steps <= 0):
        first = int(np.argmax(steps <= 0))
        raise ValueError(
            f"`wavelength` must increase strictly, but pixel {first + 1} ({grid[first + 1]:.4f} angstrom) "
            f"does not exceed pixel {first} ({grid[first]:.4f} angstrom). "
            "Sort the columns of X with np.argsort(wavelength)."
        )
    return grid


def stored_wavelength(wavelength, used=None):
    """Wavelengths that were passed to a constructor, in the form for a file.

    Parameters
    ----------
    wavelength : object
        The parameter: None, or array-like, with or without a unit.
    used : ndarray of shape (n_pixels,), default=None
        Wavelengths in use after `fit`.

    Returns
    -------
    wavelength : None, ndarray or object
        `used` itself if it is equal, so that it is stored once; else a plain array in angstrom; else the parameter
        unchanged.
    """
    if wavelength is None:
        return None
    try:
        plain = check_wavelength(wavelength)
    except (TypeError, ValueError):
        return wavelength
    return used if used is not None and np.array_equal(plain, used) else plain


def take_wavelength(state, key):
    """Take wavelengths, or pixel indices, from a state.

    Parameters
    ----------
    state : dict
        The state.
    key : str
        Its key.

    Returns
    -------
    wavelength : ndarray of shape (n_pixels,), float64
        Increasing wavelengths within the range of safe arithmetic.

    Raises
    ------
    StateError
        If it is not one.
    """
    wavelength = take_array(state, key, dtype="f8", shape=(None,), low=0, high=1e12, increasing="strictly")
    if not len(wavelength) or (len(wavelength) > 1 and np.diff(wavelength).min() < 1e-9):
        raise StateError(f"`{key}` has {len(wavelength)} values; it needs one at least, in steps above 1e-9 angstrom.")
    return wavelength


def take_feature_names(fitted, n_features):
    """Column names that `fit` saw, as scikit-learn keeps them.

    Parameters
    ----------
    fitted : dict
        State with "feature_names".
    n_features : int
        Number of columns.

    Returns
    -------
    attributes : dict
        "n_features_in_", and "feature_names_in_" where there are names.
    """
    names = take_list(fitted, "feature_names", str, length=n_features, distinct=True, optional=True)
    known = {} if names is None else {"feature_names_in_": np.array(names, dtype=object)}
    return {"n_features_in_": n_features, **known}


def feature_names(estimator):
    """Column names that `fit` saw, as a list of str, or None."""
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def check_label_names(label_names, n_labels):
    """Return the names of the label columns as a tuple of length `n_labels`.

    Parameters
    ----------
    label_names : sequence of str or None
        Names in the order of the columns. None names them ("teff", "logg", "feh") if there are
        three of them, and "label0", "label1", ... otherwise.
    n_labels : int
        Number of label columns.

    Returns
    -------
    names : tuple of str
        The names.

    Raises
    ------
    ValueError
        If the number of names is wrong or one occurs twice.
    """
    if label_names is None:
        return LABELS if n_labels == len(LABELS) else tuple(f"label{i}" for i in range(n_labels))
    names = tuple(str(name) for name in label_names)
    if len(names) != n_labels or len(set(names)) != len(names):
        raise ValueError(
            f"`label_names` is {names}, {len(names)} names of which {len(set(names))} differ, but there are {n_labels} "
            "label columns. Give one distinct name for each column."
        )
    return names


LABELS = ("teff", "logg", "feh")
"""Default names of the labels: K, dex(cm/s2), dex."""


def is_plain(estimator, X):
    """Whether labels need no validation: a finite float64 array of the right shape, without column names.

    Validation takes 0.1 ms, more than everything else in a small request.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator.
    X : object
        Labels, to be of shape (n, n_labels).

    Returns
    -------
    plain : bool
        False if `validate_data` must check them.
    """
    return (
        type(X) is np.ndarray
        and X.dtype == np.float64
        and X.ndim == 2
        and len(X) > 0
        and X.shape[1] == getattr(estimator, "n_features_in_", None)
        and not hasattr(estimator, "feature_names_in_")
        and bool(np.isfinite(X).all())
    )
