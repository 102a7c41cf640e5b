"""Damaged and crafted files: a clear error or the same numbers; no signal, no more than 1 s or 200 MB.

Each file is loaded and used in another process (attack_worker.py), whose memory is limited. Times are the processor's,
as wall time depends on what else the machine does.
"""

import itertools
import sys
import time
from collections import Counter
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
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured as Linux does it")


@pytest.mark.filterwarnings("ignore")  # of the random spectra
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
        ("regression_weights", np.random.default_rng(0).random((20_000, 3)) + 1),
    ],
    ids=["holes", "axis", "scattered", "thin", "curve", "many", "regression"],
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


def _attack(tmp_path, n_damaged, n_crafted, seed):
    """Attack with files made of fixtures, by name of the fixture.

    Returns
    -------
    wrong, figures : list of str
        What must not be, and what became of the files.
    """
    rng, files, names, plain = np.random.default_rng(seed), {}, {}, set()
    for tag in n_damaged | n_crafted:
        fixture = FIXTURES / f"{tag}.asdf"
        content = fixture.read_bytes()
        damaged = [attacks.damage(content, rng) for _ in range(n_damaged.get(tag, 0))]
        crafted = [(f"crafted {name}", data) for name, data in attacks.draw(fixture, n_crafted.get(tag, 0), seed)]
        for name, data in damaged + crafted:
            path = str(tmp_path / f"{tag}-{len(files)}.asdf")
            Path(path).write_bytes(data)
            assert len(data) < 1e6
            files[path], names[path] = fixture, name
            plain.update([path] if not name.startswith("crafted") and "repaired" not in name else [])
    sound, reports = attacks.attack(files, N_PIXELS)
    assert reports.keys() == files.keys()
    wrong, counts = [], Counter()
    for path, report in reports.items():
        kind = attacks.kind_of(report, sound[str(files[path])])
        what = "crafted" if names[path].startswith("crafted") else "damaged" if path in plain else "repaired"
        counts[f"{what}, {kind}"] += 1
        # where checksums are not repaired, nothing but the sound file's numbers may come out
        if kind == "wrong" or (path in plain and kind not in ("refused by load", "same numbers")):
            wrong.append(f"{files[path].stem} {names[path]}: {report}")
        Path(path).unlink()
    largest = {key: max(report[key] for report in reports.values()) for key in ("seconds", "memory")}
    own = max(report["seconds"] for report in sound.values())
    figures = [f"{n} {text}" for text, n in sorted(counts.items())]
    figures += [
        f"largest time {largest['seconds']:.2f} s (sound file: {own:.2f} s)",
        f"{largest['memory'] / 1e6:.0f} MB",
    ]
    return wrong, figures


@pytest.mark.slow
@LINUX
def test_a_few_files_of_a_generator_and_a_pipeline(tmp_path):
    tags = ("spectrum_generator-1.0.0", "pipeline-1.0.0")
    wrong, _ = _attack(tmp_path, dict.fromkeys(tags, 50), dict.fromkeys(tags, 30), 0)
    assert not wrong, "\n".join(wrong)


@LINUX
@pytest.mark.slow
def test_2000_damaged_and_2100_crafted_files(tmp_path):
    """Checksums are repaired in half of the damaged files. ``pytest -s`` prints what became of all."""
    whole = ("spectrum_generator-1.0.0", "bayesian_stellar_regressor-1.0.0")
    crafted = dict.fromkeys(READERS, 100) | dict.fromkeys(whole, 300)
    wrong, figures = _attack(tmp_path, dict.fromkeys(whole, 1000), crafted, 1)
    print(*figures, sep="\n")
    assert not wrong, f"{len(wrong)} files:\n" + "\n".join(wrong[:50])
