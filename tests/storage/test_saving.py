"""Files by their suffix; pickles only with trust; a file is whole or not there."""

import os
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from stellarhml import PhoenixPreprocessor
from stellarhml.exceptions import PersistenceError
from stellarhml.storage import asdf_files
from stellarhml.storage.saving import inspect, load, save

WAVELENGTH = np.linspace(8500, 8510, 2000)
FLUX = 1 - 0.3 * np.random.default_rng(0).random((2, 2000)) ** 4


@pytest.fixture
def preprocessor():
    scaler = PhoenixPreprocessor(wavelength=WAVELENGTH, peak_distance=50, degree=3, window=(8501.0, 8509.0))
    return scaler.fit(FLUX)


@pytest.fixture
def saved(tmp_path):
    rng = np.random.default_rng(0)
    model = Ridge().fit(rng.normal(size=(20, 300)), rng.normal(size=(20, 400)))
    return model, save(model, tmp_path / "model.joblib")


@pytest.mark.parametrize("compress", [0, 3])
def test_joblib_round_trip(tmp_path, saved, compress):
    model, _ = saved
    path = save(model, tmp_path / "new" / "again.joblib", compress=compress)
    np.testing.assert_array_equal(load(path).coef_, model.coef_)
    assert [p.name for p in path.parent.iterdir()] == ["again.joblib"]


def test_joblib_files_can_be_mapped(tmp_path, saved):
    model, path = saved
    mapped = load(path, mmap_mode="r").coef_
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, model.coef_)


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["STELLARHML_BOMB"],)


@pytest.mark.parametrize("name", ["model.joblib", "model.pkl", "model.asdf", "model"])
def test_pickles_are_opened_with_trust_only(tmp_path, monkeypatch, name):
    ran = tmp_path / "ran"
    monkeypatch.setenv("STELLARHML_BOMB", str(ran))
    path = tmp_path / name
    joblib.dump(Bomb(), path)
    with pytest.raises(PersistenceError, match="--trust-pickle" if not name.endswith(".asdf") else "not an ASDF file"):
        load(path, trust_pickle=False)
    if name.endswith(".asdf"):
        with pytest.raises(PersistenceError, match="not an ASDF file"):
            load(path, trust_pickle=True)
    else:
        assert inspect(path)["format"] == "joblib"
    assert not ran.exists()


def test_asdf_files_need_no_trust_whatever_their_name(tmp_path, preprocessor):
    path = save(preprocessor, tmp_path / "p.asdf").rename(tmp_path / "p.dat")
    got = load(path, trust_pickle=False)
    np.testing.assert_array_equal(got.transform(FLUX), preprocessor.transform(FLUX))


@pytest.mark.parametrize("content", [b"", b"cno_such_module\nThing\n.", b"\x80\x05garbage"])
def test_pickles_that_cannot_be_opened(tmp_path, content):
    path = tmp_path / "model.joblib"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(PersistenceError, match=r"cannot be opened as a joblib file|is not a saved estimator"):
            load(path)


def test_missing_files_and_wrong_calls(tmp_path, preprocessor):
    for function in (load, inspect):
        with pytest.raises(FileNotFoundError, match=r"lost\.asdf does not exist"):
            function(tmp_path / "lost.asdf")
    with pytest.raises(ValueError, match="not compressed"):
        save(preprocessor, tmp_path / "p.asdf", compress=3)
    with pytest.raises(ValueError, match='None, "r"'):
        load(save(preprocessor, tmp_path / "p.asdf"), mmap_mode="r+")


def test_inspect(tmp_path, preprocessor, saved):
    path = save(make_pipeline(preprocessor), tmp_path / "p.asdf")
    record = inspect(path)
    assert record == {
        "format": "asdf",
        "n_bytes": path.stat().st_size,
        "tag": "pipeline-1.0.0",
        "class": "Pipeline",
        "versions": record["versions"],
        "n_arrays": 2,
        "grid": None,
    }
    assert set(record["versions"]) == {"python", "stellarhml", "scikit-learn", "numpy", "scipy"}
    assert {key for key, value in inspect(saved[1]).items() if value is not None} == {"format", "n_bytes"}


def test_inspect_imports_no_class(tmp_path, preprocessor):
    path = save(preprocessor, tmp_path / "p.asdf")
    code = (
        "import sys\nfrom stellarhml.storage.saving import inspect\n"
        "assert inspect(sys.argv[1])['class'] == 'PhoenixPreprocessor'\n"
        "assert not {'sklearn', 'joblib', 'pickle5', 'asdf', 'stellarhml.preprocessing'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


@pytest.mark.parametrize("name", ["model.joblib", "model.asdf"])
def test_a_failed_save_keeps_the_old_file(tmp_path, preprocessor, name):
    path = save(preprocessor, tmp_path / name)
    before = path.read_bytes()
    with pytest.raises(Exception, match=r"pickle|cannot hold"):
        save(make_pipeline(lambda: None), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, preprocessor, monkeypatch):
    path = save(preprocessor, tmp_path / "p.asdf")
    before = path.read_bytes()

    def half(*arguments):
        yield before[:300]
        raise KeyboardInterrupt

    monkeypatch.setattr(asdf_files, "pack", half)
    with pytest.raises(KeyboardInterrupt):
        save(preprocessor, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.asdf"]


def test_content_is_on_the_disk_before_the_name_and_the_name_at_the_end(tmp_path, preprocessor, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, original=original: (order.append(name), original(*a))[1])
    for suffix in ("asdf", "joblib"):
        order.clear()
        save(preprocessor, tmp_path / f"p.{suffix}")
        assert order == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"window": lambda: None}, r"parameters\.window is a builtins\.function"),
        ({"window": np.array([1 + 2j])}, r"parameters\.window is a ndarray of dtype complex128"),
        ({"window": 10**30}, r"parameters\.window is a builtins\.int"),
        ({"window": {"_a": 1}}, r"parameters\.window is a mapping with the keys \['_a'\]"),
        ({"window": {1: 2}}, r"parameters\.window is a mapping"),
        ({"window": "\ud800"}, "cannot be an ASDF file"),
        ({"degree": -1}, "A parameter of PhoenixPreprocessor is wrong"),
        ({"window": ("x",) * 30_000}, "over 20000 values"),
    ],
)
def test_what_a_file_cannot_hold_is_named(tmp_path, change, match):
    with pytest.raises(PersistenceError, match=match) as caught:
        save(PhoenixPreprocessor(**change), tmp_path / "p.asdf")
    assert "joblib" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_values_that_contain_themselves(tmp_path):
    loop = []
    loop.append(loop)
    with pytest.raises(PersistenceError, match="inside itself"):
        save(PhoenixPreprocessor(window=loop), tmp_path / "p.asdf")


def test_pipelines_with_a_cache_are_refused(tmp_path, preprocessor):
    with pytest.raises(PersistenceError, match="`memory`"):
        save(make_pipeline(preprocessor, memory=str(tmp_path)), tmp_path / "p.asdf")


def test_requested_metadata_come_back(tmp_path):
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        asking = PhoenixPreprocessor().set_transform_request(teff=True)
        got = load(save(asking, tmp_path / "r.asdf"))
        assert got.get_metadata_routing().transform.requests["teff"] is True
