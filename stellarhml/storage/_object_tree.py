"""Fitted estimators as JSON and arrays, and back again, in a form that cannot hold code.

A value becomes a node: None, bool, int, finite float, str and list stand for themselves; everything else is an object
of one key, its tag, such as ``{"tuple": [1, 2]}`` or ``{"array": 3}``. Instances are listed apart, so that one that
occurs twice stays one: ``{"object": 0}``. Only classes of :mod:`stellarhml.storage._whitelist` are stored and made
again.
"""

import importlib
import math
import re
from pathlib import Path, PurePath

import numpy as np
from scipy import sparse

from stellarhml.exceptions import PersistenceError
from stellarhml.storage._whitelist import CLASSES

_DTYPES = re.compile(r"\|[biu]1|<[iu][248]|<f[248]|<c8|<c16|<U[1-9]\d{0,5}|\|S[1-9]\d{0,5}")
_SPARSE = {"csr_matrix": sparse.csr_matrix, "csr_array": sparse.csr_array}
_PACKED_FROM = 32  # length from which a list of numbers is stored as an array


def class_name(value) -> str:
    """Full dotted name of the class of a value."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def portable_dtype(name) -> np.dtype:
    """Return the dtype of a name, if it is one whose bytes mean the same everywhere.

    Parameters
    ----------
    name : str
        As ``dtype.str`` gives it.

    Returns
    -------
    dtype : dtype
        Booleans, little-endian numbers of at most 64 bits (complex: 128), or text.

    Raises
    ------
    ValueError
        If it is another.
    """
    if not isinstance(name, str) or not _DTYPES.fullmatch(name):
        raise ValueError(f"{name!r:.100} is not a dtype of booleans, numbers or text")
    return np.dtype(name)


class Encoder:
    """Turns values into nodes, and collects their arrays and instances.

    Attributes
    ----------
    arrays : list of (str, ndarray)
        Attribute path and content of each array, little-endian and contiguous: in Fortran order if it was, else in C
        order.
    objects : list of dict
        Class and state of each instance.
    grid : str or None
        The first `grid_id_` that an instance has.
    """

    def __init__(self):
        self.arrays, self.objects, self.grid = [], [], None
        self._known = {}  # id -> (value, node); the value is kept so that its id stays its own

    def encode(self, value, where):
        """Turn a value into a node.

        Parameters
        ----------
        value : object
            What to store.
        where : str
            Its attribute path, for messages.

        Returns
        -------
        node : None, bool, int, float, str, list or dict
            What JSON can hold.

        Raises
        ------
        PersistenceError
            If a part of it cannot be stored.
        """
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": value.hex()}
        if kind is list:
            return self._list(value, where)
        if kind is tuple:
            return {"tuple": self._list(value, where)}
        if kind is dict:
            pairs = value.items()
            return {"dict": [[self.encode(k, f"{where} key"), self.encode(v, f"{where}[{k!r}]")] for k, v in pairs]}
        if kind is slice:
            return {"slice": [self.encode(part, where) for part in (value.start, value.stop, value.step)]}
        if isinstance(value, np.generic):
            content = _portable(value, where)
            return {"scalar": [content.dtype.str, content.tobytes().hex()]}
        if isinstance(value, PurePath):
            return {"path": str(value)}
        if id(value) not in self._known:
            self._known[id(value)] = value, self._shared(value, where)
        return self._known[id(value)][1]

    def _list(self, value, where):
        """A list as a list of nodes, or as an array if it is long and of one kind of number."""
        kinds = set(map(type, value)) if len(value) >= _PACKED_FROM else ()
        if len(kinds) == 1:
            kind = kinds.pop()
            if kind is float or (kind is int and all(-(2**63) <= v < 2**63 for v in value)):
                return {"packed": [self._append(np.array(value), where), "python"]}
            if issubclass(kind, np.number):
                return {"packed": [self._append(np.array(value), where), "numpy"]}
        return [self.encode(v, f"{where}[{i}]") for i, v in enumerate(value)]

    def _shared(self, value, where):
        """Node of what may occur more than once."""
        kind = type(value)
        if kind in (np.ndarray, np.memmap):
            return self._array(value, where)
        if kind in _SPARSE.values():
            parts = [self.encode(getattr(value, name), f"{where}.{name}") for name in ("data", "indices", "indptr")]
            return {kind.__name__: [*parts, [int(n) for n in value.shape]]}
        name = class_name(value)
        if name not in CLASSES:
            raise _refusal(where, f"a {name}")
        entry = {"class": name}
        node = {"object": len(self.objects)}
        self._known[id(value)] = value, node  # before its state, which may refer back to it
        self.objects.append(entry)
        if isinstance(value, tuple):
            fields = zip(value._fields, value, strict=True)
            entry["items"] = [self.encode(item, f"{where}.{field}") for field, item in fields]
            return node
        state = value.to_plain_state() if hasattr(value, "to_plain_state") else value.__dict__
        if self.grid is None and isinstance(state.get("grid_id_"), str):
            self.grid = state["grid_id_"]
        entry["state"] = {key: self.encode(part, f"{where}.{key}") for key, part in state.items()}
        return node

    def _array(self, value, where):
        if value.dtype == object and value.ndim == 1 and all(type(item) is str for item in value):
            return {"names": list(value)}  # such as `feature_names_in_`
        return {"array": self._append(value, where)}

    def _append(self, array, where):
        self.arrays.append((where, _portable(array, where)))
        return len(self.arrays) - 1


class Decoder:
    """Turns nodes into values.

    Parameters
    ----------
    objects : list of dict
        Class and state of each instance.
    arrays : list of ndarray
        The arrays, in the order in which `Encoder` collected them.

    Raises
    ------
    PersistenceError
        If a class is not in `CLASSES`. Nothing has been imported then.
    """

    def __init__(self, objects, arrays):
        for entry in objects:
            if entry["class"] not in CLASSES:
                raise PersistenceError(
                    f"it names the class {entry['class']!r:.200}, which is not among the {len(CLASSES)} that this "
                    "version of stellarhml opens. If a newer stellarhml wrote it, upgrade; else do not trust it"
                )
        self._objects, self._arrays, self._made = objects, arrays, {}

    def decode(self, node):
        """Turn a node into a value.

        Parameters
        ----------
        node : None, bool, int, float, str, list or dict
            What `Encoder.encode` returned.

        Returns
        -------
        value : object
            The value.

        Raises
        ------
        ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError
            If the node is none that `Encoder` makes.
        """
        if isinstance(node, list):
            return [self.decode(part) for part in node]
        if not isinstance(node, dict):
            return node
        ((tag, content),) = node.items()
        if tag in _SPARSE:
            return self._sparse(_SPARSE[tag], *content)
        return _TAGS[tag](self, content)

    def _sparse(self, kind, data, indices, indptr, shape):
        data, indices, indptr = map(self.decode, (data, indices, indptr))
        # scipy's own check leaves this out where the last is 0
        if len(indptr) != shape[0] + 1 or np.any(np.diff(indptr) < 0):
            raise ValueError(f"the {len(indptr)} row pointers of a matrix of shape {shape} are no row pointers")
        matrix = kind(tuple(shape))  # the constructor would take int32 for int64 indices, and copy them
        matrix.data, matrix.indices, matrix.indptr = data, indices, indptr
        # indices beyond the shape would let scipy read and write beyond its arrays
        matrix.check_format(full_check=True)
        return matrix

    def _dict(self, pairs):
        return {self.decode(key): self.decode(value) for key, value in pairs}

    def _scalar(self, content):
        name, digits = content
        (value,) = np.frombuffer(bytes.fromhex(digits), dtype=portable_dtype(name))
        return value

    def _array(self, index):
        return self._arrays[_checked(index)]

    def _packed(self, content):
        index, kind = content
        array = np.asarray(self._array(index))
        return array.tolist() if kind == "python" else list(array)

    def _object(self, index):
        if index not in self._made:
            entry = self._objects[_checked(index)]
            module, _, name = entry["class"].rpartition(".")
            kind = getattr(importlib.import_module(module), name)
            if issubclass(kind, tuple):
                self._made[index] = kind._make(self.decode(entry["items"]))
            elif hasattr(kind, "from_plain_state"):
                self._made[index] = kind.from_plain_state(self._state(entry))
            else:
                self._made[index] = kind.__new__(kind)
                self._made[index].__dict__.update(self._state(entry))
        return self._made[index]

    def _state(self, entry):
        return {key: self.decode(part) for key, part in entry["state"].items()}


_TAGS = {
    "float": lambda _, text: float.fromhex(text),
    "tuple": lambda decoder, node: tuple(decoder.decode(node)),
    "dict": Decoder._dict,
    "slice": lambda decoder, parts: slice(*decoder.decode(parts)),
    "scalar": Decoder._scalar,
    "path": lambda _, text: Path(text),
    "array": Decoder._array,
    "names": lambda _, names: np.array([str(name) for name in names], dtype=object),
    "packed": Decoder._packed,
    "object": Decoder._object,
}


def _checked(index):
    """An index of a list; a negative one would count from its end."""
    if type(index) is not int or index < 0:
        raise ValueError(f"{index!r:.100} is not an index")
    return index


def is_fortran(array) -> bool:
    """Whether an array is in Fortran order, and not in C order too."""
    return array.flags.f_contiguous and not array.flags.c_contiguous


def _portable(value, where):
    """Array or scalar as a little-endian array, in Fortran order if it is in that, else in C order."""
    array = np.asarray(value)
    # another order could change the last bit of a matrix product
    array = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="F" if is_fortran(array) else "C")
    if not _DTYPES.fullmatch(array.dtype.str):
        raise _refusal(where, f"a {type(value).__name__} of dtype {array.dtype}")
    return array


def _refusal(where, found):
    return PersistenceError(
        f"{where} is {found}, which a .shml file cannot hold. It holds None, bool, int, float, str, list, tuple, dict, "
        "slice, paths, NumPy arrays and scalars of booleans, numbers or text, CSR matrices, and the estimators of "
        "stellarhml. Set it to one of these, or save to a name that ends in .joblib."
    )
