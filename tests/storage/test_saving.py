import json
import warnings

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from stellarhml.exceptions import PersistenceError, VersionWarning
from stellarhml.storage.saving import load, save


@pytest.fixture
def saved(tmp_path):
    rng = np.random.default_rng(0)
    model = Ridge().fit(rng.normal(size=(20, 300)), rng.normal(size=(20, 400)))
    return model, save(model, tmp_path / "model.joblib")


def _edit(path, **changes):
    sidecar = path.with_name(path.name + ".json")
    record = json.loads(sidecar.read_text())
    record.update(changes)
    sidecar.write_text(json.dumps(record))
    return record


@pytest.mark.parametrize("compress", [0, 3])
def test_round_trip(tmp_path, saved, compress):
    model, _ = saved
    path = save(model, tmp_path / "again.joblib", compress=compress)
    np.testing.assert_array_equal(load(path).coef_, model.coef_)
    record = json.loads((tmp_path / "again.joblib.json").read_text())
    assert record["schema"] == 1
    assert record["class"].endswith("Ridge")
    assert set(record["versions"]) == {"python", "stellarhml", "scikit-learn", "torch", "numpy", "scipy", "joblib"}
    assert all(record["versions"].values())
    assert {p.name for p in tmp_path.glob("again*")} == {"again.joblib", "again.joblib.json"}
    assert not list(tmp_path.glob(".*"))


def test_memory_map(tmp_path, saved):
    model, path = saved
    mapped = load(path, mmap_mode="r").coef_
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, model.coef_)
    with pytest.raises(PersistenceError, match="compressed file cannot be mapped"):
        load(save(model, tmp_path / "small.joblib", compress=3), mmap_mode="r")


def test_other_versions_are_told_once(saved):
    _, path = saved
    versions = json.loads(path.with_name("model.joblib.json").read_text())["versions"]
    now = versions["numpy"]
    _edit(path, versions=versions | {"numpy": "1.0.0", "torch": "0.4"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(path)
    assert [w.category for w in caught] == [VersionWarning]
    assert f"numpy 1.0.0 -> {now}" in str(caught[0].message)
    assert "torch 0.4 ->" in str(caught[0].message)
    assert "scipy" not in str(caught[0].message)
    assert caught[0].filename == __file__


def test_sklearns_own_version_warning_is_not_repeated(tmp_path, monkeypatch):
    import sklearn.base

    model = Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    monkeypatch.setattr(sklearn.base, "__version__", "1.0.old")  # what Ridge pickles as its version
    path = save(model, tmp_path / "model.joblib")
    monkeypatch.undo()
    versions = json.loads((tmp_path / "model.joblib.json").read_text())["versions"]
    _edit(path, versions=versions | {"scikit-learn": "1.0.old"})
    with pytest.warns(VersionWarning, match=r"scikit-learn 1\.0\.old"):
        load(path)


def test_truncated_and_changed_file(saved):
    _, path = saved
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    with pytest.raises(PersistenceError, match="cut short or was changed"):
        load(path)
    path.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    with pytest.raises(PersistenceError, match="another checksum"):
        load(path)


def test_changed_file_is_not_unpickled(tmp_path, saved):
    class Bomb:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",))

    import joblib

    _, path = saved
    joblib.dump(Bomb(), path)
    with pytest.raises(PersistenceError):
        load(path)
    assert not (tmp_path / "ran").exists()


def test_newer_schema(saved):
    _, path = saved
    _edit(path, schema=2)
    with pytest.raises(PersistenceError, match=r"schema 2, but this version of stellarhml reads up to 1\. Upgrade"):
        load(path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema": 1, "class": 3}', "{"])
def test_unreadable_sidecar(saved, text):
    _, path = saved
    path.with_name("model.joblib.json").write_text(text)
    with pytest.raises(PersistenceError, match="cannot be read as the record"):
        load(path)


def test_missing_sidecar_and_missing_file(tmp_path, saved):
    _, path = saved
    path.with_name("model.joblib.json").unlink()
    with pytest.raises(PersistenceError, match=r"model\.joblib\.json does not exist"):
        load(path)
    with pytest.raises(FileNotFoundError, match=r"lost\.joblib"):
        load(tmp_path / "lost.joblib")


def test_pickle_that_cannot_be_opened_though_whole(tmp_path):
    import hashlib

    _, path = None, save({"a": 1}, tmp_path / "model.joblib")
    content = b"cno_such_module\nThing\n."  # a pickle that names a module that is not there
    path.write_bytes(content)
    _edit(path, n_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(PersistenceError, match="cannot be opened here"):
        load(path)


def test_failed_save_keeps_the_old_file(saved):
    model, path = saved
    with pytest.raises(Exception, match="pickle"):
        save(lambda: None, path)
    np.testing.assert_array_equal(load(path).coef_, model.coef_)
