"""Flags: bits with names and meanings."""

import pickle

import numpy as np
import pytest

from stellarhml.flags import InferenceFlag, LineFlag, SpectrumFlag, name_flags

# tables and saved generators hold these numbers: they stay
VALUES = {
    LineFlag: {"UNDETECTED": 1, "ABSENT": 2, "AT_BOUND": 4, "SATURATED": 8, "ADDED": 16, "AT_EDGE": 32},
    SpectrumFlag: {"NOT_CONVERGED": 1, "NO_LINES": 2, "POOR_FIT": 4},
    InferenceFlag: {
        "FAILED": 1,
        "NOT_CONVERGED": 2,
        "AT_BOUND": 4,
        "POOR_FIT": 8,
        "FEW_PIXELS": 16,
        "WEAK_LINES": 32,
        "REJECTED_PIXELS": 64,
        "ORDER_OUTSIDE": 128,
        "RESOLVING_POWER": 256,
        "AIR_OR_VACUUM": 512,
        "NOISE_ALONE": 2048,
        "SLOW_ROTATION": 1024,
        "LINES_DIFFER": 4096,
        "TELLURICS": 32768,
        "SECOND_IN_DOUBT": 8192,
        "NO_GRID_FITS": 16384,
    },
}


@pytest.mark.parametrize("registry", VALUES)
def test_numbers_of_flags_stay(registry):
    assert {flag.name: int(flag) for flag in registry} == VALUES[registry]


@pytest.mark.parametrize("registry", VALUES)
def test_each_flag_has_its_own_meaning(registry):
    meanings = [flag.meaning for flag in registry]
    assert all(len(meaning) > 10 for meaning in meanings)
    assert len(set(meanings)) == len(meanings)


@pytest.mark.parametrize("registry", [LineFlag, SpectrumFlag])
def test_flags_of_lines_and_spectra_fit_into_a_byte(registry):
    assert max(registry) < 256


@pytest.mark.parametrize(
    ("value", "registry", "names"),
    [
        (0, LineFlag, ""),
        (np.uint8(5), LineFlag, "UNDETECTED|AT_BOUND"),
        (63, LineFlag, "UNDETECTED|ABSENT|AT_BOUND|SATURATED|ADDED|AT_EDGE"),
        (SpectrumFlag.POOR_FIT | SpectrumFlag.NO_LINES, SpectrumFlag, "NO_LINES|POOR_FIT"),
        (InferenceFlag.SLOW_ROTATION | InferenceFlag.NOISE_ALONE, InferenceFlag, "NOISE_ALONE|SLOW_ROTATION"),
    ],
)
def test_names_of_flags_that_are_set(value, registry, names):
    assert name_flags(value, registry) == names


@pytest.mark.parametrize("registry", VALUES)
def test_a_pickled_combination_keeps_its_flags(registry):
    first, *_, last = registry
    both = pickle.loads(pickle.dumps(first | last))
    assert isinstance(both, registry)
    assert name_flags(both, registry) == f"{first.name}|{last.name}"
