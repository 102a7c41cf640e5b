"""The YAML header of an ASDF file: trees of plain values, arrays and tagged mappings, as text and back.

Text is read event by event, without recursion and without a constructor of YAML: there are no anchors, no references,
no tags but those of `CORE_TAGS` and our own, and limits on everything that costs time or memory.
"""

import math
import re
from typing import NamedTuple

import numpy as np
import yaml

from stellarhml.exceptions import PersistenceError
from stellarhml.storage.registry import READERS, TAGS

MAX_TEXT = 1 << 18
"""Bytes of the header."""

MAX_VALUES, MAX_OBJECTS, MAX_DEPTH, MAX_SCALAR = 20_000, 500, 30, 4_000
"""Values in a header, tagged objects among them, nesting, and characters of one value."""

_CORE = "tag:stsci.edu:asdf/core/"
_ARRAY = _CORE + "ndarray-1.0.0"
_ROOT = _CORE + "asdf-1.1.0"
_CORE_TAGS = re.compile(re.escape(_CORE) + r"(asdf|software|history_entry|extension_metadata)-1\.\d\.\d")
_OWN_TAG = re.compile(re.escape(TAGS) + r"([a-z][a-z0-9_]*-\d{1,3}\.\d{1,3}\.\d{1,3})")

DTYPES = {
    "bool8": "b1",
    "int8": "i1",
    "uint8": "u1",
    "int16": "<i2",
    "uint16": "<u2",
    "int32": "<i4",
    "uint32": "<u4",
    "int64": "<i8",
    "uint64": "<u8",
    "float32": "<f4",
    "float64": "<f8",
}
"""Dtypes by their name in ASDF; all little-endian."""

_DATATYPES = {np.dtype(name): word for word, name in DTYPES.items()}
_WORDS = {"null": None, "true": True, "false": False, ".inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
_INT = re.compile(r"-?(0|[1-9]\d{0,18})")
_FLOAT = re.compile(r"-?\d{1,400}\.\d{0,400}(e[-+]?\d{1,3})?")


class Array(NamedTuple):
    """Place and form of an array.

    Parameters
    ----------
    source : int
        Number of its block.
    dtype : dtype
        Of its values, little-endian.
    shape : tuple of int
        Its shape.
    order : {"C", "F"}
        Order in which its values lie in the block.
    """

    source: int
    dtype: np.dtype
    shape: tuple
    order: str

    @property
    def nbytes(self):
        """Bytes that it needs."""
        return self.dtype.itemsize * math.prod(self.shape)


class Tagged(NamedTuple):
    """An object of one of our tags.

    Parameters
    ----------
    tag : str
        Name and version.
    state : dict
        Its state.
    """

    tag: str
    state: dict


class HeaderError(ValueError):
    """The text is not a header that `to_text` writes."""


def to_text(tree):
    """Write a tree as the YAML document of an ASDF file.

    Parameters
    ----------
    tree : dict
        Of None, bool, int, float, str, list, dict, `Array` and `Tagged`.

    Returns
    -------
    text : bytes
        The document, with its end marker.
    """
    return yaml.dump(
        tree,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        explicit_start=True,
        explicit_end=True,
        version=(1, 1),
        tags={"!": "tag:stsci.edu:asdf/"},
        width=120,
        encoding="utf-8",
        allow_unicode=False,
    )


def from_text(text):
    """Read the YAML document of an ASDF file.

    Parameters
    ----------
    text : bytes
        The document.

    Returns
    -------
    tree : dict
        As `to_text` takes it.

    Raises
    ------
    HeaderError
        If the document breaks a limit, or has anything that `to_text` does not write.
    PersistenceError
        If it has an object of a version that is not known here.
    """
    if len(text) > MAX_TEXT:
        raise HeaderError(f"the header has {len(text)} bytes; at most {MAX_TEXT} are read")
    try:
        return _build(yaml.parse(text, Loader=_PARSER))
    except (yaml.YAMLError, UnicodeError) as error:
        raise HeaderError(f"the header is not YAML ({' '.join(str(error).split()):.200})") from None


def _build(events):
    root, n_values, n_objects = _Open("", []), 0, 0
    stack = [root]
    for event in events:
        kind = type(event)
        if kind is yaml.AliasEvent or getattr(event, "anchor", None):
            raise HeaderError("the header has anchors or references")
        if kind in (yaml.SequenceEndEvent, yaml.MappingEndEvent):
            closed = stack.pop()
            stack[-1].items.append(closed.value())
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        n_values += 1
        n_objects += bool(event.tag)
        if n_values > MAX_VALUES or n_objects > MAX_OBJECTS or len(stack) > MAX_DEPTH:
            raise HeaderError(
                f"the header has over {MAX_VALUES} values, {MAX_OBJECTS} objects or {MAX_DEPTH} levels of nesting"
            )
        if kind is yaml.ScalarEvent:
            if event.tag is not None or len(event.value) > MAX_SCALAR:
                raise HeaderError(f"{event.value!r:.100} has the tag {event.tag!r:.100} or is too long")
            stack[-1].items.append(_scalar(event.value) if event.implicit[0] else event.value)
        else:
            stack.append(_Open(event.tag, [], kind is yaml.MappingStartEvent))
    if len(root.items) != 1 or not isinstance(root.items[0], dict):
        raise HeaderError(f"the header has {len(root.items)} documents; it must have one, a mapping")
    return root.items[0]


class _Open(NamedTuple):
    """A list or mapping whose end is not reached yet."""

    tag: str | None
    items: list
    is_mapping: bool = False

    def value(self):
        if not self.is_mapping:
            if self.tag:
                raise HeaderError(f"a list has the tag {self.tag!r:.200}")
            return self.items
        keys, values = self.items[::2], self.items[1::2]
        if not all(type(key) is str for key in keys) or len(set(keys)) < len(keys) or {"$ref", "<<"} & set(keys):
            raise HeaderError(f"a mapping has the keys {keys!r:.200}; they must be distinct names")
        mapping = dict(zip(keys, values, strict=True))
        if not self.tag or _CORE_TAGS.fullmatch(self.tag):
            return mapping
        if self.tag == _ARRAY:
            return _array(mapping)
        own = _OWN_TAG.fullmatch(self.tag)
        if own is None:
            raise HeaderError(f"it has the tag {self.tag!r:.200}, which stellarhml does not know")
        if own[1] not in READERS:
            raise PersistenceError(
                f"it holds a {own[1]!r:.200}, which this version of stellarhml does not know. If a newer version wrote "
                "it, upgrade stellarhml; else do not trust it"
            )
        return Tagged(own[1], mapping)


def _scalar(text):
    """Value of plain text, in the forms in which values are written."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _array(node):
    """An array from its mapping: all of a block, and nothing else."""
    shape, strides, word = node.get("shape"), node.get("strides"), node.get("datatype")
    known = set(node) <= {"source", "datatype", "byteorder", "shape", "strides"}
    sizes = isinstance(shape, list) and len(shape) <= 8 and all(type(n) is int and 0 <= n < 2**40 for n in shape)
    if (
        not known
        or not sizes
        or not isinstance(word, str)
        or word not in DTYPES
        or node.get("byteorder") != "little"
        or type(node.get("source")) is not int
    ):
        raise HeaderError(f"an array is described by {node!r:.300}")
    dtype, order = np.dtype(DTYPES[word]), "C"
    if strides is not None:
        if strides != _fortran_strides(shape, dtype):
            raise HeaderError(f"an array of shape {shape} has strides {strides!r:.200}, in neither C nor Fortran order")
        order = "F"
    return Array(node["source"], dtype, tuple(shape), order)


def _fortran_strides(shape, dtype):
    return [dtype.itemsize * math.prod(shape[:axis]) for axis in range(len(shape))]


_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):
    """Dumper of our nodes."""

    def ignore_aliases(self, data):
        """Whether equal objects are written twice rather than referred to: always."""
        return True


def _represent_array(dumper, array):
    node = {
        "source": array.source,
        "datatype": _DATATYPES[array.dtype],
        "byteorder": "little",
        "shape": list(array.shape),
    }
    if array.order == "F":
        node["strides"] = _fortran_strides(array.shape, array.dtype)
    return dumper.represent_mapping(_ARRAY, node.items(), flow_style=True)


def _represent_tagged(dumper, tagged):
    return dumper.represent_mapping(TAGS + tagged.tag, tagged.state.items())


class Root(dict):
    """The whole tree."""


_Dumper.add_representer(Array, _represent_array)
_Dumper.add_representer(Tagged, _represent_tagged)
_Dumper.add_representer(Root, lambda dumper, tree: dumper.represent_mapping(_ROOT, tree.items()))
