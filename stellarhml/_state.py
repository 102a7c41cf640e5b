"""Checked reading of the state of an object, as `to_state` returns it and a file stores it.

A state is a dictionary of public names. A file may be damaged or forged, so `from_state` reads every value through
these functions, which raise only `StateError`, before it makes the object: compiled kernels then index the arrays
without checks.
"""

import math
from inspect import signature

import numpy as np


class StateError(ValueError):
    """The state of an object is invalid for its class."""


LARGE = 1e100
"""Bound of stored numbers whose squares and products must stay finite."""


class Sizes(dict):
    """Lengths of axes by name, such as ``sizes["n_lines"]``: bound by the first array that has the axis."""


def check_keys(state, required, optional=()):
    """Raise if a state is not a dictionary, lacks a key or has an unknown one.

    Parameters
    ----------
    state : object
        Supposedly a state.
    required, optional : sequence of str
        Required and optional keys.

    Raises
    ------
    StateError
        If a key is missing or unknown.
    """
    if not isinstance(state, dict):
        raise StateError(f"A state is a {type(state).__name__}; it must be a mapping of names to values.")
    missing = [key for key in required if key not in state]
    unknown = [key for key in state if key not in required and key not in optional]
    if missing or unknown:
        raise StateError(
            f"A state lacks {_short(missing)} and has the unknown {_short(unknown)}; it must have {list(required)}"
            + (f" and may have {list(optional)}." if optional else ".")
        )


def take(state, key, kind):
    """Value of a key, of one type.

    Parameters
    ----------
    state : dict
        The state.
    key : str
        The key.
    kind : type or tuple of type
        Types allowed. Here True is not an int, and an int is not a float; None is allowed only with ``type(None)``.

    Returns
    -------
    value : object
        The value.

    Raises
    ------
    StateError
        If there is no such key, or its value is of another type.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    value = _value(state, key)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join("None" if k is type(None) else k.__name__ for k in kinds)
        raise StateError(f"`{key}` is a {type(value).__name__}; it must be a {names}.")
    return value


def take_number(state, key, *, low=-math.inf, high=math.inf, integer=False, finite=True, optional=False):
    """A number within bounds.

    Parameters
    ----------
    state : dict
        The state.
    key : str
        The key.
    low, high : float
        Bounds, inclusive.
    integer : bool, default=False
        Whether it must be an int. Otherwise an int is made a float.
    finite : bool, default=True
        Whether infinity and NaN are refused. NaN passes only without bounds.
    optional : bool, default=False
        Whether None is allowed.

    Returns
    -------
    value : int, float or None
        The number.

    Raises
    ------
    StateError
        If it is not such a number.
    """
    value = _value(state, key)
    if value is None and optional:
        return None
    kind = int if integer else (int, float)
    value = take(state, key, kind)
    try:
        value = value if integer else float(value)
    except OverflowError:
        raise StateError(f"`{key}` is an integer of {value.bit_length()} bits; it must fit a float.") from None
    bounded = low > -math.inf or high < math.inf
    if (finite and not math.isfinite(value)) or (bounded and not low <= value <= high):
        raise StateError(f"`{key}` is {_short(value)}; it must be finite and from {low:g} to {high:g}.")
    return value


def take_list(state, key, kind, *, length=None, sizes=None, distinct=False, optional=False):
    """A list of values of one type, such as names.

    Parameters
    ----------
    state : dict
        The state.
    key : str
        The key.
    kind : type or tuple of type
        Types of the items, as in `take`.
    length : int, str or None
        Number of items, or the name of it in `sizes`; None is any.
    sizes : Sizes, default=None
        Lengths known so far; a new name is added.
    distinct : bool, default=False
        Whether no item may occur twice.
    optional : bool, default=False
        Whether None is allowed.

    Returns
    -------
    items : list or None
        The items.

    Raises
    ------
    StateError
        If it is not such a list.
    """
    items = _value(state, key)
    if items is None and optional:
        return None
    items = take(state, key, (list, tuple))
    _check_shape(key, (len(items),), (length,), sizes)
    items = [take({f"{key}[{i}]": item}, f"{key}[{i}]", kind) for i, item in enumerate(items)]
    if distinct and len(set(items)) < len(items):
        raise StateError(f"`{key}` has an item twice; all must differ.")
    return items


def take_array(
    state,
    key,
    *,
    dtype,
    shape,
    sizes=None,
    low=None,
    high=None,
    finite=True,
    increasing=False,
    optional=False,
):
    """Array of a key, checked.

    Parameters
    ----------
    state : dict
        The state.
    key : str
        The key.
    dtype : str or tuple of str
        Dtypes allowed, exactly: "f8", "f4", "i8", "i4", "u1", "b1", ...
    shape : tuple of (int, str or None)
        Length of each axis: a number, the name of one in `sizes`, or None for any.
    sizes : Sizes, default=None
        Lengths known so far; a new name is added. None: names must agree within this array.
    low, high : float, default=None
        Bounds of all values, inclusive.
    finite : bool, default=True
        Whether NaN and infinity are refused. With bounds, NaN is refused even if this is False.
    increasing : bool or "strictly", default=False
        Whether values must not decrease, or must increase, along the last axis.
    optional : bool, default=False
        Whether None is allowed.

    Returns
    -------
    array : ndarray or None
        The array itself, mapped if it was; aligned, in C or Fortran order and in the machine's byte order.

    Raises
    ------
    StateError
        If it is not such an array.
    """
    array = _value(state, key)
    if array is None and optional:
        return None
    array = take(state, key, np.ndarray)
    allowed = [np.dtype(name) for name in (dtype if isinstance(dtype, tuple) else (dtype,))]
    if array.dtype.newbyteorder("=") not in allowed:
        found, needed = array.dtype, " or ".join(map(str, allowed))
        raise StateError(f"`{key}` has dtype {found!s:.60}; it must be {needed}.")
    _check_shape(key, array.shape, shape, sizes)
    flags = array.flags
    if not (array.dtype.isnative and flags.aligned and (flags.c_contiguous or flags.f_contiguous)):
        array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    _check_values(key, array, low, high, finite)
    if increasing and array.size:
        # compared, not subtracted: differences of unsigned integers wrap
        before, after = array[..., :-1], array[..., 1:]
        if not np.all(after > before if increasing == "strictly" else after >= before):
            raise StateError(
                f"`{key}` decreases somewhere; it must be sorted{' without ties' * (increasing == 'strictly')}."
            )
    return array


def estimator_state(estimator, fitted):
    """State of a scikit-learn estimator.

    Parameters
    ----------
    estimator : BaseEstimator
        The estimator.
    fitted : dict or None
        Fitted values by public names; None if the estimator is not fitted.

    Returns
    -------
    state : dict
        "parameters", "fitted" and, where metadata were requested with `set_predict_request` or similar, "requests".
    """
    parameters = {name: _compact(value) for name, value in estimator.get_params(deep=False).items()}
    if "n_jobs" in parameters:  # a file must not state how many processes to start
        parameters["n_jobs"] = None
    state = {"parameters": parameters, "fitted": fitted}
    requests = getattr(estimator, "_metadata_request", None)
    if requests is not None:
        chosen = {
            method: dict(getattr(requests, method).requests)
            for method in ("fit", "predict", "score", "transform", "inverse_transform", "partial_fit")
            if hasattr(requests, method)
        }
        state["requests"] = {method: choices for method, choices in chosen.items() if choices}
    return state


def make_estimator(cls, state):
    """Unfitted estimator from a state, its parameters checked by the rules of scikit-learn.

    Parameters
    ----------
    cls : type
        Class of the estimator.
    state : dict
        As `estimator_state` returns it.

    Returns
    -------
    estimator : object of class `cls`
        The estimator. A list becomes a tuple where the default or the rule is a tuple.
    fitted : dict or None
        The "fitted" of the state, not yet checked.

    Raises
    ------
    StateError
        If a parameter is missing, unknown or of the wrong kind.
    """
    check_keys(state, ("parameters", "fitted"), ("requests",))
    parameters = dict(take(state, "parameters", dict))
    for name in ("n_jobs", "store"):  # a file must not start processes, or state where to write
        if parameters.get(name) is not None:
            raise StateError(f"`{name}` is {_short(parameters[name])}; it must be None in a file.")
    known = {name: given.default for name, given in signature(cls).parameters.items()}
    check_keys(parameters, known)
    rules = getattr(cls, "_parameter_constraints", {})
    for name, value in parameters.items():
        if isinstance(value, list) and (isinstance(known[name], tuple) or tuple in rules.get(name, ())):
            parameters[name] = tuple(value)
    estimator = cls(**parameters)
    try:
        estimator._validate_params()
    except Exception as error:  # scikit-learn's rules compare values, which can fail in any way with strange ones
        raise StateError(f"A parameter of {cls.__name__} is wrong: {error!s:.300}") from None
    _request(estimator, state.get("requests"))
    return estimator, take(state, "fitted", (dict, type(None)))


def _request(estimator, requests):
    """Repeat the calls of `set_predict_request` and similar methods."""
    if not requests:
        return
    import sklearn

    for method, choices in take({"requests": requests}, "requests", dict).items():
        setter = getattr(estimator, f"set_{method}_request", None) if isinstance(method, str) else None
        plain = isinstance(choices, dict) and all(
            isinstance(name, str) and (value is None or isinstance(value, (bool, str)))
            for name, value in choices.items()
        )
        if setter is None or not plain:
            raise StateError(f"`requests` has {_short(method)}: {_short(choices)}, which no method here takes.")
        try:
            with sklearn.config_context(enable_metadata_routing=True):
                setter(**choices)
        except (TypeError, ValueError) as error:
            raise StateError(f"`requests` of {method} are wrong: {error!s:.300}") from None


def _compact(value):
    """A long list of numbers as an array."""
    if isinstance(value, (list, tuple)) and len(value) > 1000 and all(isinstance(v, (int, float)) for v in value):
        return np.asarray(value, dtype=np.float64)
    return value


def _value(state, key):
    if not isinstance(state, dict):
        raise StateError(f"A state is a {type(state).__name__}; it must be a mapping of names to values.")
    if key not in state:
        raise StateError(f"`{key}` is missing; the state has {_short(list(state))}.")
    return state[key]


def _check_shape(key, found, needed, sizes):
    sizes = {} if sizes is None else sizes
    shape = tuple(sizes.get(n, n) if isinstance(n, str) else n for n in needed)
    if len(found) != len(needed) or any(isinstance(n, int) and n != size for n, size in zip(shape, found, strict=True)):
        raise StateError(f"`{key}` has shape {_short(found)}; it must be {needed}, that is {shape}.")
    for name, size in zip(needed, found, strict=True):
        if isinstance(name, str) and sizes.setdefault(name, size) != size:
            raise StateError(f"`{key}` has shape {_short(found)}; axes {name!r} must have one length.")


def _check_values(key, array, low, high, finite):
    if not array.size or array.dtype.kind == "b":
        return
    if low is not None or high is not None:
        least, most = array.min(), array.max()  # NaN if one is NaN
        if not ((low is None or least >= low) and (high is None or most <= high)) or np.isnan(least):
            raise StateError(f"`{key}` has values from {least} to {most}; they must lie from {low} to {high}.")
        if finite and not (np.isfinite(least) and np.isfinite(most)):
            raise StateError(f"`{key}` has values that are not finite; all must be.")
    elif finite and array.dtype.kind in "fc":
        with np.errstate(all="ignore"):
            total = array.sum()  # one pass and no copy; large values alone can make it infinite
        if not np.isfinite(total) and not all(np.isfinite(part).all() for part in _pieces(array)):
            raise StateError(f"`{key}` has values that are not finite; all must be.")


def _pieces(array):
    flat = array.reshape(-1, order="A")
    return (flat[i : i + 2**20] for i in range(0, flat.size, 2**20))


def _short(value):
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."
