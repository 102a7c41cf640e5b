"""What a .shml file is not: cut short, changed, forged, of other classes; and what cannot be stored in one."""

import hashlib
import importlib
import json
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from stellarhml import (
    BayesianStellarRegressor,
    LineManifoldInterpolator,
    PhoenixPreprocessor,
    SpectrumGenerator,
    load,
    save,
)
from stellarhml.exceptions import PersistenceError, VersionWarning
from stellarhml.storage import safe_file
from stellarhml.storage._whitelist import CLASSES


def _refused(path, content):
    path.write_bytes(content)
    for mode in (None, "r"):
        with pytest.raises(PersistenceError, match=re_path(path)) as caught:
            load(path, mmap_mode=mode)
    return str(caught.value)


def re_path(path):
    return str(path).replace(".", r"\.")


def test_every_flipped_byte_is_found(tmp_path, small):
    _, whole = small
    path = tmp_path / "flipped.shml"
    n_head = whole.index(b"\n") + 1 + int(whole.split(b" ", 3)[2])
    rng = np.random.default_rng(0)
    places = [*range(n_head + 64), *rng.integers(n_head, len(whole), 300), len(whole) - 1]
    for place in places:
        flip = 1 << int(rng.integers(8))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
        with pytest.raises(PersistenceError, match=r"flipped\.shml"):
            load(path, mmap_mode="r" if place % 2 else None)


def test_every_byte_of_the_gaps_counts(tmp_path, small):
    """All bytes after the header, one bit each: arrays by their checksums, gaps by being empty."""
    header, start = json.loads(small[1].split(b"\n")[1].split(b"\0")[0]), small[1].index(b"\0") // 64 * 64 + 64
    ends = [start + record["offset"] + record["n_bytes"] for record in header["arrays"]]
    gaps = [place for end in ends[:-1] for place in range(end, -(-end // 64) * 64)]
    assert gaps
    for place in gaps:
        message = _refused(tmp_path / "gap.shml", small[1][:place] + b"\1" + small[1][place + 1 :])
        assert "gap" in message


def test_every_length_but_the_whole_is_refused(tmp_path, small):
    _, whole = small
    path = tmp_path / "cut.shml"
    n_head = whole.index(b"\n") + 1 + int(whole.split(b" ", 3)[2])
    for length in [*range(200), *range(200, n_head, 17), *range(n_head - 2, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(PersistenceError, match="cut short or was changed"):
            load(path)
    assert "says" in _refused(path, whole + b"\0")


def test_what_is_no_such_file(tmp_path, plain):
    for content in (b"\x80\x04\x95", b"PK\x03\x04" + bytes(100), b"stellarhml-result 1 ab", bytes(1000)):
        assert "is not a .shml file" in _refused(tmp_path / "other.shml", content)
    joblib.dump(plain, tmp_path / "pickle.shml")
    with pytest.raises(PersistenceError, match=r"is not a \.shml file"):
        load(tmp_path / "pickle.shml")
    with pytest.raises(FileNotFoundError, match=r"lost\.shml"):
        load(tmp_path / "lost.shml")


def test_newer_schema(tmp_path, small):
    path = tmp_path / "new.shml"
    message = _refused(path, b"stellarhml-shml 2 and what it likes\n" + bytes(500))
    assert "schema 2, but this version of stellarhml reads up to 1. Upgrade" in message


def _forge(small, change):
    """The small file with another header, whose checksum is right."""
    header = json.loads(small[1].split(b"\n")[1].split(b"\0")[0])
    old = len(small[1].split(b"\0")[0])
    data = small[1][-(-old // 64) * 64 :]
    header = change(header) or header
    text = json.dumps(header).encode()
    digest = hashlib.blake2b(text, digest_size=20).hexdigest()
    head = f"stellarhml-shml 1 {len(text)} {digest}\n".encode() + text
    return head + bytes(-len(head) % 64) + data


def _set(**changes):
    return lambda header: header["arrays"][1].update(changes)


def _state(**nodes):
    return lambda header: header["objects"][0]["state"].update(nodes)


NONSENSE = {
    "beyond": _set(offset=10**9),
    "overlap": lambda header: header["arrays"][1].update(offset=header["arrays"][0]["offset"]),
    "negative": _set(offset=-64),
    "too long": _set(n_bytes=10**12, shape=[10**12 // 8]),
    "shape": _set(shape=[3]),
    "huge shape": _set(shape=[0, 10**30], n_bytes=0),
    "negative shape": _set(shape=[-1, -6]),
    "float shape": _set(shape=[4.0, 2]),
    "order": _set(order="K"),
    "no checksum": lambda header: header["arrays"][0].pop("blake2b"),
    "no name": lambda header: header["arrays"][0].pop("name"),
    "object dtype": _set(dtype="|O"),
    "other dtype": _set(dtype="<M8[s]"),
    "dtype of no text": _set(dtype=7),
    "no arrays": lambda header: header.pop("arrays"),
    "text for arrays": lambda header: header.update(arrays="abc"),
    "array of text": lambda header: header["arrays"].__setitem__(0, "abc"),
    "root missing": lambda header: header.pop("root"),
    "other class": lambda header: header.update({"class": "builtins.dict"}),
    "escape sequence": lambda header: header.update(grid="\x1b[2J"),
    "no such array": _state(nodes_={"array": 99}),
    "array from the end": _state(nodes_={"array": -1}),
    "no such object": _state(nodes_={"object": 99}),
    "unknown tag": _state(nodes_={"code": "print(1)"}),
    "two tags": _state(nodes_={"array": 0, "tuple": []}),
    "scalar": _state(nodes_={"scalar": ["|O", "00" * 8]}),
    "unhashable key": _state(nodes_={"dict": [[[], 1]]}),
    "class of no text": lambda header: header["objects"][0].update({"class": ["a"]}),
    "no state": lambda header: header["objects"][0].pop("state"),
    "list of a list": lambda header: ["header"],
    "deep": _state(nodes_=json.loads("[" * 900 + "]" * 900)),
    "row pointers": _state(nodes_={"csr_matrix": [{"array": 0}, {"array": 0}, {"array": 0}, [10**12, 2]]}),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused(tmp_path, small, name):
    message = _refused(tmp_path / "forged.shml", _forge(small, NONSENSE[name]))
    assert "is whole, but is not what stellarhml.save writes" in message or "says" in message


def test_the_forger_changes_only_what_he_means(tmp_path, small):
    (tmp_path / "same.shml").write_bytes(_forge(small, lambda header: None))
    np.testing.assert_array_equal(load(tmp_path / "same.shml").table_, load(small[0]).table_)


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "stellarhml.cli.main.main", "no_such_module.Thing"])
def test_other_classes_are_refused_before_any_import(tmp_path, small, name, monkeypatch):
    imported = []
    monkeypatch.setattr(importlib, "import_module", imported.append)

    def change(header):
        header["objects"].append({"class": name, "state": {}})
        header["objects"][0]["state"]["_weights"] = {"object": len(header["objects"]) - 1}

    message = _refused(tmp_path / "evil.shml", _forge(small, change))
    assert f"names the class '{name}', which is not among the {len(CLASSES)}" in message
    assert not imported


def test_verify_can_be_left_out_for_arrays(tmp_path, small):
    path = tmp_path / "last.shml"
    path.write_bytes(small[1][:-1] + bytes([small[1][-1] ^ 1]))
    assert isinstance(load(path, verify=False), LineManifoldInterpolator)
    with pytest.raises(PersistenceError, match="another checksum"):
        load(path)


class _Own(SpectrumGenerator):
    pass


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (Ridge(), r"Ridge is a sklearn\.linear_model\._ridge\.Ridge"),
        (_Own(), r"_Own is a .*_Own, which"),
        (SpectrumGenerator(decomposer=Ridge()), r"SpectrumGenerator\.decomposer is a sklearn.*Ridge"),
        (
            SpectrumGenerator(label_names=["a", {"b": print}]),
            r"SpectrumGenerator\.label_names\[1\]\['b'\] is a builtins",
        ),
        (
            BayesianStellarRegressor(random_state=np.random.RandomState(0)),
            r"Regressor\.random_state is a numpy\.random",
        ),
        (SpectrumGenerator(wavelength=np.array([1, None])), r"wavelength is a ndarray of dtype object"),
        (SpectrumGenerator(wavelength=np.ma.array([1.0])), r"wavelength is a numpy\.ma\.\S*MaskedArray"),
        (SpectrumGenerator(wavelength=pd.Series([1.0])), r"wavelength is a pandas"),
        (SpectrumGenerator(wavelength=np.array([1], dtype=np.longdouble)), r"wavelength is a ndarray of dtype"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_stored_is_named(tmp_path, estimator, message):
    with pytest.raises(PersistenceError, match=message) as caught:
        save(estimator, tmp_path / "folder" / "x.shml")
    assert ".joblib" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_list_in_itself_is_refused(tmp_path):
    names = ["a"]
    names.append(names)
    with pytest.raises(PersistenceError, match="contains itself"):
        save(SpectrumGenerator(label_names=names), tmp_path / "x.shml")
    assert not list(tmp_path.iterdir())


def test_a_failed_save_keeps_the_old_file(tmp_path, small, monkeypatch):
    path = tmp_path / "x.shml"
    path.write_bytes(small[1])

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(safe_file.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save(PhoenixPreprocessor(), path)
    assert path.read_bytes() == small[1]
    assert [p.name for p in tmp_path.iterdir()] == ["x.shml"]
    with pytest.raises(ValueError, match="`compress` is 3"):
        save(PhoenixPreprocessor(), path, compress=3)


def test_other_versions_are_told_once(tmp_path, small):
    path = tmp_path / "old.shml"
    path.write_bytes(_forge(small, lambda header: header["versions"].update(numpy="1.0.0", torch=None)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(path)
    assert [w.category for w in caught] == [VersionWarning]
    assert "numpy 1.0.0 -> " in str(caught[0].message)
    assert "torch None ->" in str(caught[0].message)
    assert "scipy" not in str(caught[0].message)
    assert caught[0].filename == __file__
