"""Damaged and crafted files: a clear error or the same numbers; no signal, no more than 1 s or 200 MB.

Each file is loaded and used in a process of its own kind (see attack_worker.py), whose memory is limited.
"""

import itertools
import time
from pathlib import Path

import attacks
import numpy as np
import pytest
from attack_worker import numbers, use

from stellarhml import load
from stellarhml.exceptions import PersistenceError
from stellarhml.storage.asdf_files import read_record
from stellarhml.storage.asdf_text import Array, Tagged
from stellarhml.storage.registry import READERS

FIXTURES = Path(__file__).parent / "fixtures"
N_PIXELS = 120


@pytest.mark.filterwarnings("ignore")  # of stars that are none
@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.asdf")), ids=lambda path: path.stem)
@pytest.mark.parametrize("mode", [None, "r"])
def test_stored_files_open_for_all_time(path, mode):
    value = load(path, mmap_mode=mode)
    found, kept = numbers(use(value, N_PIXELS)), np.load(path.with_suffix(".npz"))
    assert len(found) == len(kept.files)
    for got, name in zip(found, kept.files, strict=True):
        if kept[name].dtype.kind == "f":
            # processors round differently
            np.testing.assert_allclose(got, kept[name], rtol=1e-6, atol=1e-9)
        else:
            np.testing.assert_array_equal(got, kept[name])
    assert path.stem.startswith(read_record(path)["tag"])


def _nodes(*axes, share=1.0):
    nodes = np.array(list(itertools.product(*(np.arange(1.0, n + 1) for n in axes))))
    return nodes[np.random.default_rng(0).random(len(nodes)) < share]


@pytest.mark.parametrize(
    ("tag", "nodes"),
    [
        ("lattice_weights", _nodes(30, 30, 30, share=0.6)),
        ("lattice_weights", _nodes(20_000)),
        ("lattice_weights", np.random.default_rng(0).random((20_000, 3)) + 1),
        ("scattered_weights", _nodes(2_000, 2)),
        ("scattered_weights", np.linspace(1, 6, 2_500)[:, None] ** [1, 2, 3]),  # a simplex for each pair of nodes
        ("scattered_weights", np.random.default_rng(0).random((20_000, 3)) + 1),
    ],
    ids=["holes", "axis", "scattered", "thin", "curve", "many"],
)
def test_nodes_that_would_take_too_long(tmp_path, tag, nodes):
    tree, _ = attacks.unpack(FIXTURES / f"{tag}-1.0.0.asdf")
    nodes = np.unique(nodes, axis=0)
    state = tree["estimator"].state | {"nodes": Array(0, nodes.dtype, nodes.shape, "C"), "variables": None}
    state |= {"breaks": None} if "breaks" in state else {}
    path = tmp_path / "nodes.asdf"
    path.write_bytes(attacks.pack(tree | {"estimator": Tagged(f"{tag}-1.0.0", state)}, [nodes]))
    assert path.stat().st_size < 1e6
    began = time.process_time()
    with pytest.raises(PersistenceError):
        load(path)
    assert time.process_time() - began < 1


def _attack(tmp_path, tags, n_damaged, n_crafted, seed):
    """What is wrong, in words."""
    rng, wrong, n_files = np.random.default_rng(seed), [], 0
    for tag in tags:
        fixture = FIXTURES / f"{tag}.asdf"
        content, names, same = fixture.read_bytes(), {}, set()
        every = list(attacks.crafted(fixture, rng, min(1.0, n_crafted / 1000)))
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
