"""Damaged and crafted files: a clear error or the same numbers; no signal, no more than 1 s or 200 MB.

Each file is loaded and used in a process of its own kind (see attack_worker.py), whose memory is limited.
"""

from pathlib import Path

import attacks
import numpy as np
import pytest
from attack_worker import numbers, use

from stellarhml import load
from stellarhml.storage.asdf_files import read_record
from stellarhml.storage.registry import READERS

FIXTURES = Path(__file__).parent / "fixtures"
N_PIXELS = 120


@pytest.mark.parametrize("tag", READERS)
@pytest.mark.parametrize("mode", [None, "r"])
def test_stored_files_open_for_all_time(tag, mode, tmp_path):
    path = FIXTURES / f"{tag}.asdf"
    value = load(path, mmap_mode=mode)
    found, kept = numbers(use(value, N_PIXELS)), np.load(path.with_suffix(".npz"))
    assert len(found) == len(kept.files)
    for got, name in zip(found, kept.files, strict=True):
        if kept[name].dtype.kind == "f":
            # processors round differently
            np.testing.assert_allclose(got, kept[name], rtol=1e-6, atol=1e-9)
        else:
            np.testing.assert_array_equal(got, kept[name])
    assert read_record(path)["tag"] == tag


def _attack(tmp_path, tags, n_damaged, n_crafted, seed):
    """What is wrong, in words."""
    rng, wrong, n_files = np.random.default_rng(seed), [], 0
    for tag in tags:
        fixture = FIXTURES / f"{tag}.asdf"
        content, names, same = fixture.read_bytes(), {}, set()
        every = list(attacks.crafted(fixture, rng))
        chosen = [every[i] for i in rng.permutation(len(every))[:n_crafted]]
        for i, (name, data) in enumerate([attacks.damage(content, rng) for _ in range(n_damaged)] + chosen):
            path = tmp_path / f"{tag}-{i}.asdf"
            path.write_bytes(data)
            names[str(path)] = name
            if i < n_damaged and "repaired" not in name:
                same.add(str(path))
        attack = attacks.Attack(fixture, N_PIXELS)
        reports = attack.run(names)
        assert len(reports) == len(names)
        n_files += len(names)
        wrong += [f"{tag} {names[path]}: {report}" for path, report in attack.faults(reports, same=same)]
        for path in names:
            Path(path).unlink()
    return wrong, n_files


def test_a_few_files_of_every_class(tmp_path):
    wrong, n_files = _attack(tmp_path, ["spectrum_generator-1.0.0", "pipeline-1.0.0"], 50, 30, 0)
    assert n_files == 160
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("tag", READERS)
def test_damaged_and_crafted_files(tmp_path, tag):
    """2,000 damaged files in all, and every crafted one, some thousands for each class."""
    wrong, _ = _attack(tmp_path, [tag], -(-2000 // len(READERS)), 10**6, 1)
    assert not wrong, f"{len(wrong)} files:\n" + "\n".join(wrong[:50])
