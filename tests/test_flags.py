"""Flags: bits with names and meanings."""

import pickle

import numpy as np
import pytest

from stellarhml.flags import LineFlag, SpectrumFlag, name_flags

REGISTRIES = [LineFlag, SpectrumFlag]


@pytest.mark.parametrize("registry", REGISTRIES)
def test_each_flag_is_one_bit_of_a_byte_with_a_meaning(registry):
    values = [int(flag) for flag in registry]
    assert values == [1 << i for i in range(len(values))]  # in order, and none twice
    assert max(values) < 256  # they are kept as uint8
    meanings = [flag.meaning for flag in registry]
    assert all(len(meaning) > 10 for meaning in meanings)
    assert len(set(meanings)) == len(meanings)


@pytest.mark.parametrize("registry", REGISTRIES)
def test_names_of_all_combinations(registry):
    flags = list(registry)
    for value in range(1 << len(flags)):
        names = name_flags(value, registry)
        assert names == "|".join(flag.name for i, flag in enumerate(flags) if value >> i & 1)
        assert names == name_flags(np.uint8(value), registry)
        assert sum(registry[name] for name in names.split("|") if name) == value


@pytest.mark.parametrize("registry", REGISTRIES)
def test_flags_combine_with_arrays_and_survive_pickling(registry):
    table = np.zeros(3, np.uint8)
    for flag in registry:
        table[1] |= np.uint8(flag)
        assert pickle.loads(pickle.dumps(flag)) is flag
        assert registry(int(flag)) is flag
        assert (table & flag).astype(bool).tolist() == [False, True, False]
    everything = registry(int(table[1]))
    assert all(flag in everything for flag in registry)
    assert pickle.loads(pickle.dumps(everything)) == everything
    assert table.dtype == np.uint8
