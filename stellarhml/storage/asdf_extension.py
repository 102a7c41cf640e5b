"""Extension of the `asdf` library for our files: a converter for each tag, and the schemas.

The library finds it by the entry points `asdf.extensions` and `asdf.resource_mappings`. An estimator can then also be
part of any other ASDF file. This package does not need the library to read and write its own files.
"""

from importlib.resources import files

import numpy as np
from asdf.extension import Converter, Extension, TagDefinition
from asdf.resource import DirectoryResourceMapping

from stellarhml.storage.asdf_files import plain_state
from stellarhml.storage.registry import READERS, SCHEMAS, TAGS, find_tag, find_type_names, read_state


class _StateConverter(Converter):
    """Between an object and its state."""

    tags = [TAGS + tag for tag in READERS]
    types = find_type_names()

    def to_yaml_tree(self, obj, tag, ctx):
        return plain_state(obj)

    def from_yaml_tree(self, node, tag, ctx):
        return read_state(tag.removeprefix(TAGS), _read(node))

    def select_tag(self, obj, tags, ctx):
        return TAGS + find_tag(type(obj))


class _StellarExtension(Extension):
    """All our tags."""

    extension_uri = "asdf://stellarhml.org/extensions/stellarhml-1.0.0"
    converters = [_StateConverter()]
    tags = [TagDefinition(TAGS + tag, schema_uris=[SCHEMAS + tag]) for tag in READERS]


def get_extensions():
    """Extensions for the entry point `asdf.extensions`.

    Returns
    -------
    extensions : list of Extension
        Ours.
    """
    return [_StellarExtension()]


def get_resource_mappings():
    """Schemas for the entry point `asdf.resource_mappings`.

    Returns
    -------
    mappings : list of Mapping
        From the identifier of a schema to its text.
    """
    folder = files("stellarhml.storage") / "schemas"
    return [DirectoryResourceMapping(folder, SCHEMAS, filename_pattern="*.yaml", stem_filename=True)]


def _read(node):
    """The node with plain lists and dictionaries, and aligned arrays, for the library gives others."""
    if isinstance(node, dict) or hasattr(node, "items"):
        return {key: _read(value) for key, value in node.items()}
    if isinstance(node, list) or type(node).__name__ in ("AsdfListNode", "TaggedList"):
        return [_read(value) for value in node]
    if isinstance(node, np.ndarray) or type(node).__name__ == "NDArrayType":
        array = np.asarray(node)
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        return np.array(array, dtype=array.dtype.newbyteorder("="), order="F" if fortran else "C")
    return node
