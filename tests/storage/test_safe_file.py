"""The file format .shml: exact, whole or refused, and without code."""

import ast
import importlib
import inspect
import itertools
import json
import mmap
import pickle
import subprocess
import sys
from pathlib import Path, PurePath

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.pipeline import make_pipeline

import stellarhml
from stellarhml import (
    BayesianStellarRegressor,
    LineManifoldInterpolator,
    PhoenixPreprocessor,
    VoigtLineDecomposer,
    load,
    save,
)
from stellarhml.exceptions import PersistenceError
from stellarhml.storage import _object_tree, safe_file
from stellarhml.storage import saving as persistence
from stellarhml.storage._object_tree import Decoder, Encoder
from stellarhml.storage._whitelist import CLASSES

LABELS = pd.DataFrame([[5300.0, 3.8, -0.2], [5100.0, 3.6, -0.4], [5250.0, 4.0, -0.3]], columns=["teff", "logg", "feh"])


def _predict(generator):
    return generator.predict(LABELS if hasattr(generator, "feature_names_in_") else LABELS.to_numpy())


GENERATORS = ("plain", "normalising", "scattered", "holed", "archived")


def _there_and_back(value):
    encoder = Encoder()
    node = json.loads(json.dumps(encoder.encode(value, "value"), allow_nan=False))
    objects = json.loads(json.dumps(encoder.objects, allow_nan=False))
    return Decoder(objects, [array for _, array in encoder.arrays]).decode(node)


def _assert_same(got, want):
    """Equal, of equal types, to the last bit."""
    assert type(got) is type(want)
    if isinstance(want, (list, tuple)):
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            _assert_same(a, b)
    elif isinstance(want, dict):
        assert list(got) == list(want)
        for key in want:
            _assert_same(got[key], want[key])
    elif isinstance(want, (np.ndarray, np.generic)):
        assert got.dtype == want.dtype.newbyteorder("=")
        assert got.shape == want.shape
        np.testing.assert_array_equal(got, want)
        assert np.ndim(want) < 2 or got.strides == want.strides
    else:
        assert repr(got) == repr(want)  # -0.0 and nan too


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(10**30),
        0.1 + 0.2,
        -0.0,
        float("nan"),
        -float("inf"),
        'é\n"\ud800',
        [1, [2.5, None], (), {}],
        (1, (2, [3])),
        {"a": 1, 2: "b", (np.int64(3), None): [4]},
        {"tuple": 1, "array": 0, "object": 0},
        slice(None, 3),
        np.float32(0.1),
        np.bool_(True),
        np.int64(-3),
        np.float64("nan"),
        np.str_("x"),
        1e-3 * np.arange(50.0),
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4.0).astype(">f8"),
        np.zeros((3, 0, 2)),
        np.array(2.5),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.array(["ab", "c"]),
        np.array([np.nan, -np.inf, -0.0]),
        list(map(float, np.linspace(-1, 1, 40))) + [float("nan")],
        list(range(2**62, 2**62 + 40)),
        tuple(np.linspace(0, 1, 40, dtype=np.float32)),
        [0.5] * 40 + [1],
        [10**30] * 40,
        PurePath("a") / "b",
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)!r:.20}",
)
def test_values_come_back_exactly(value):
    want = Path(value) if isinstance(value, PurePath) else value
    _assert_same(_there_and_back(value), want)


def test_text_arrays_of_objects_come_back():
    names = np.array(["teff", "logg"], dtype=object)
    got = _there_and_back(names)
    assert got.dtype == object
    assert got.tolist() == names.tolist()


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_sparse_matrices_come_back(kind, index):
    matrix = kind(np.array([[0, 1.5, 0], [0, 0, 0], [2, 0, -3]]))
    matrix.indices, matrix.indptr = matrix.indices.astype(index), matrix.indptr.astype(index)
    got = _there_and_back(matrix)
    assert type(got) is kind
    assert got.indices.dtype == got.indptr.dtype == index
    np.testing.assert_array_equal(got.toarray(), matrix.toarray())


def test_what_is_one_stays_one(tmp_path, plain, regressor):
    encoder = Encoder()
    array = np.arange(3.0)
    encoder.encode([array, {"again": array}, array.copy()], "value")
    assert len(encoder.arrays) == 2
    save(regressor, tmp_path / "r.shml")
    save(plain, tmp_path / "g.shml")
    got = load(tmp_path / "r.shml")
    assert got.generator is got.generator_
    # the scan of the nodes comes on top, a second generator does not
    scan = sum(part.nbytes for part in (regressor._scan_flux, regressor._scan_pixels, regressor._templates.depth))
    assert (tmp_path / "r.shml").stat().st_size < (tmp_path / "g.shml").stat().st_size + scan + 5000


@pytest.mark.parametrize("name", GENERATORS)
def test_predictions_are_equal_to_the_last_bit(tmp_path, name, request):
    generator = request.getfixturevalue(name)
    path = save(generator, tmp_path / "generator.shml")
    assert [p.name for p in tmp_path.iterdir()] == ["generator.shml"]
    want, table = _predict(generator), generator.line_table([5300.0, 3.8, -0.2])
    assert np.isfinite(want).all()
    for mode in (None, "r", "c"):
        got = load(path, mmap_mode=mode)
        np.testing.assert_array_equal(_predict(got), want)
        pd.testing.assert_frame_equal(got.line_table([5300.0, 3.8, -0.2]), table, check_exact=True)
        assert repr(got) == repr(generator)
    # and once more through the format
    again = save(got, tmp_path / "again.shml")
    np.testing.assert_array_equal(_predict(load(again)), want)


def test_steps_work_as_before(tmp_path, grid, normalising):
    raw = 3e14 * grid.flux[:2] * np.linspace(1, 1.1, 200)
    got = load(save(normalising, tmp_path / "generator.shml"), mmap_mode="r")
    want = normalising.normalise(raw)
    np.testing.assert_array_equal(got.normalise(raw), want)
    np.testing.assert_array_equal(got.decomposer_.transform(want), normalising.decomposer_.transform(want))
    assert got.feature_names_in_.tolist() == ["teff", "logg", "feh"]
    alone = load(save(normalising.preprocessor_, tmp_path / "p.shml"))
    np.testing.assert_array_equal(alone.transform(raw), want)


def test_pipelines_and_regressors(tmp_path, grid, plain, regressor):
    star = plain.predict(LABELS.to_numpy()[:1]) + 0.01 * np.random.default_rng(0).normal(size=(1, 200))
    pipeline = make_pipeline(PhoenixPreprocessor(wavelength=grid.wavelength, continuum="none").fit(star), regressor)
    want = pipeline.predict(star, return_std=True)
    path = save(pipeline, tmp_path / "pipeline.shml")
    for mode in (None, "r"):
        np.testing.assert_array_equal(load(path, mmap_mode=mode).predict(star, return_std=True), want)


def test_requested_metadata_come_back(tmp_path):
    with sklearn.config_context(enable_metadata_routing=True):
        asking = BayesianStellarRegressor().set_predict_request(flux_error=True)
        got = load(save(asking, tmp_path / "r.shml"))
        assert got.get_metadata_routing().predict.requests["flux_error"] is True


def test_unfitted_estimators_come_back(tmp_path):
    estimator = VoigtLineDecomposer(store=tmp_path / "store", wavelength=[1.0, 2.0])
    assert load(save(estimator, tmp_path / "d.shml")).get_params() == estimator.get_params()


def test_large_arrays_are_mapped_read_only(small):
    path, _ = small
    mapped, read = load(path, mmap_mode="r"), load(path)
    assert isinstance(mapped.table_, np.memmap)
    assert not mapped.table_.flags.writeable
    assert mapped.table_.ctypes.data % 64 == 0
    assert type(mapped.nodes_) is type(read.table_) is np.ndarray
    assert read.table_.flags.writeable
    changed = load(path, mmap_mode="c")
    changed.table_[0, 0] += 1
    assert load(path).table_[0, 0] == read.table_[0, 0]
    with pytest.raises(ValueError, match='None, "r"'):
        load(path, mmap_mode="r+")


@pytest.mark.parametrize("order", ["C", "F"])
def test_mapped_arrays_reach_other_processes(tmp_path, order):
    """joblib maps them anew by offset, shape and order: a view of one map of the whole file would come out garbled."""
    array = np.asarray(np.arange(2000.0).reshape(4, 500), order=order)
    mapped = load(save([np.arange(7), array], tmp_path / "list.shml"), mmap_mode="r")[1]
    assert isinstance(mapped.base, mmap.mmap)
    assert mapped.strides == array.strides
    for got in joblib.Parallel(n_jobs=2)(joblib.delayed(np.array)(mapped) for _ in range(2)):
        np.testing.assert_array_equal(got, array)


READ_AND_PREDICT = """
import sys
import numpy as np
import pandas as pd
import stellarhml

folder, names = sys.argv[1], sys.argv[2:]
labels = pd.read_csv(folder + "/labels.csv")
unpickled = []
sys.addaudithook(lambda event, args: unpickled.append(args) if event == "pickle.find_class" else None)
keys = [(name, mode) for name in names for mode in ("r", None)]
found = {(name, mode): stellarhml.load(f"{folder}/{name}.shml", mmap_mode=mode) for name, mode in keys}
assert not unpickled, unpickled
for (name, mode), generator in found.items():
    inputs = labels if hasattr(generator, "feature_names_in_") else labels.to_numpy()
    np.save(f"{folder}/{name}-{mode}.npy", generator.predict(inputs))
"""


def test_a_new_process_gives_the_same_bits(tmp_path, request):
    LABELS.to_csv(tmp_path / "labels.csv", index=False)
    for name in GENERATORS:
        save(request.getfixturevalue(name), tmp_path / f"{name}.shml")
    command = [sys.executable, "-W", "error", "-c", READ_AND_PREDICT, str(tmp_path), *GENERATORS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, mode in itertools.product(GENERATORS, (None, "r")):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}-{mode}.npy"), _predict(request.getfixturevalue(name)))


def test_no_pickle_is_used(small, monkeypatch):
    for module in (safe_file, _object_tree):
        tree = ast.parse(Path(module.__file__).read_text())
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not used & {"pickle", "joblib", "marshal", "eval", "exec", "compile", "__import__"}

    def refuse(*_, **__):
        raise AssertionError("a pickle was opened")

    for module, name in ((pickle, "load"), (pickle, "loads"), (joblib, "load"), (np, "load"), (np, "fromfile")):
        monkeypatch.setattr(module, name, refuse)
    assert isinstance(load(small[0]), LineManifoldInterpolator)


def test_equal_estimators_give_equal_files(tmp_path, plain):
    one, two = (save(plain, tmp_path / f"{name}.shml").read_bytes() for name in "ab")
    assert one == two


def test_inspect(tmp_path, small, plain, regressor):
    record = persistence.inspect(small[0])
    assert record["format"] == "shml"
    assert record["class"].endswith("LineManifoldInterpolator")
    assert record["n_bytes"] == len(small[1])
    assert record["grid"] is None
    assert record["versions"]["stellarhml"] == stellarhml.__version__
    known = BayesianStellarRegressor.from_generator(load(save(plain, tmp_path / "g.shml")), random_state=0)
    known.generator_.grid_id_ = "0123abcd"
    assert persistence.inspect(save(known, tmp_path / "r.shml"))["grid"] == "0123abcd"
    assert persistence.inspect(save(regressor, tmp_path / "r.joblib"))["format"] == "joblib"
    _set_byte(tmp_path / "r.shml", -1)
    _set_byte(tmp_path / "r.joblib", -1)
    for name in ("r.shml", "r.joblib"):
        with pytest.raises(PersistenceError, match="cut short or was changed"):
            persistence.inspect(tmp_path / name)


def _set_byte(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def _classes_in(value, seen):
    """Full names of all classes of this package in the object graph of a value."""
    if id(value) in seen or isinstance(value, (str, np.ndarray)):
        return
    seen[id(value)] = value
    if type(value).__module__.split(".")[0] == "stellarhml":
        yield f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, dict):
        yield from (name for part in (*value, *value.values()) for name in _classes_in(part, seen))
    elif isinstance(value, (list, tuple, set)):
        yield from (name for part in value for name in _classes_in(part, seen))
    if hasattr(value, "__dict__") and not hasattr(value, "to_plain_state"):
        yield from _classes_in(value.__dict__, seen)


@pytest.mark.parametrize("name", [*GENERATORS, "regressor"])
def test_every_class_in_a_fitted_estimator_is_on_the_list(name, request):
    missing = set(_classes_in(request.getfixturevalue(name), {})) - CLASSES
    assert not missing, f"add to stellarhml/io/_whitelist.py: {sorted(missing)}"


def test_every_public_estimator_is_on_the_list():
    public = [getattr(stellarhml, name) for name in stellarhml.__all__]
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in public if inspect.isclass(kind)}
    assert len(names) == 5
    assert not names - CLASSES, f"add to stellarhml/io/_whitelist.py: {sorted(names - CLASSES)}"


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_name_on_the_list_is_a_plain_class(name):
    module, _, qualname = name.rpartition(".")
    kind = getattr(importlib.import_module(module), qualname)
    assert f"{kind.__module__}.{kind.__qualname__}" == name
    assert kind.__new__ is object.__new__ or issubclass(kind, tuple)
    assert hasattr(kind, "to_plain_state") == hasattr(kind, "from_plain_state")


@pytest.mark.parametrize("place", [-1, 3])
def test_sparse_indices_beyond_the_matrix_are_refused(place):
    matrix = sparse.csr_matrix(np.eye(3))
    matrix.indices[1] = place
    with pytest.raises(ValueError, match="indices"):
        _there_and_back(matrix)


def test_row_pointers_that_decrease_are_refused():
    matrix = sparse.csr_matrix(np.eye(3))
    matrix.indptr[:] = 0, 10**6, 10**6, 0  # scipy would read there
    with pytest.raises(ValueError, match="row pointers"):
        _there_and_back(matrix)
