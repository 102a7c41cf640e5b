"""The form of a stored file: what the asdf library reads in it, and that predictions are the same to the last bit."""

import io
import itertools
import mmap
import re
import subprocess
import sys
from pathlib import Path

import asdf
import attacks
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

import stellarhml
from stellarhml import PhoenixPreprocessor, SpectrumGenerator, VoigtLineDecomposer, load, save
from stellarhml.exceptions import PersistenceError
from stellarhml.storage import asdf_files
from stellarhml.storage.asdf_text import Array, HeaderError, Root, Tagged, from_text, to_text
from stellarhml.storage.registry import READERS, find_class, find_class_name, find_tag

LABELS = pd.DataFrame([[5300.0, 3.8, -0.2], [5100.0, 3.6, -0.4], [5250.0, 4.0, -0.3]], columns=["teff", "logg", "feh"])
GENERATORS = ("plain", "normalising", "scattered", "holed", "archived")


def _predict(generator):
    return generator.predict(LABELS if hasattr(generator, "feature_names_in_") else LABELS.to_numpy())


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(2**62),
        0.1 + 0.2,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        1e16,
        -1e-5,
        float("nan"),
        -float("inf"),
        "plain",
        'é\n"',
        "",
        *(
            "1",
            "1.5",
            "1e5",
            "null",
            "~",
            "yes",
            ".nan",
            "0x1f",
            "1:30",
            "2001-01-01",
            "# x",
            "- x",
            "a: b",
            "...",
            "\x1b",
        ),
        " blank ",
        "x" * 300,
        "two words " * 30,
        [1, [2.5, None], [], {}],
        {"a": 1, "b c": ["x"], "1": {"true": 2}},
        Array(3, np.dtype("<f8"), (2, 3), "C"),
        Array(0, np.dtype("<i4"), (2, 3), "F"),
        Array(0, np.dtype("b1"), (), "C"),
        Tagged("line_bank-1.0.0", {"values": [Array(1, np.dtype("<f4"), (0, 3), "C")]}),
    ],
    ids=lambda value: f"{str(value)!r:.30}",
)
def test_text_comes_back_exactly(value):
    got = from_text(to_text(Root({"value": value})))
    assert repr(got) == repr({"value": value})


def test_every_class_is_there():
    public = [getattr(stellarhml, name) for name in stellarhml.__all__]
    for kind in public:
        if isinstance(kind, type):
            assert find_tag(kind), f"{kind} has no tag in registry.py"
    for tag, reader in READERS.items():
        kind = find_class(tag)
        assert callable(getattr(kind, reader.rpartition(".")[2]))
        assert callable(kind.to_state)
        assert find_class_name(tag) == kind.__qualname__.removesuffix("State")


def test_every_tag_has_a_schema_and_a_stored_file():
    folder = Path(asdf_files.__file__).parent / "schemas"
    stored = {path.stem for path in (Path(__file__).parent / "fixtures").glob("*.asdf")}
    assert {path.stem for path in folder.glob("*.yaml")} == set(READERS)
    assert stored >= set(READERS)


@pytest.mark.parametrize("name", GENERATORS)
def test_predictions_are_equal_to_the_last_bit(tmp_path, name, request):
    generator = request.getfixturevalue(name)
    path = save(generator, tmp_path / "generator.asdf")
    want, table = _predict(generator), generator.line_table([5300.0, 3.8, -0.2])
    assert np.isfinite(want).all()
    for mode in (None, "r", "c"):
        got = load(path, mmap_mode=mode)
        np.testing.assert_array_equal(_predict(got), want)
        pd.testing.assert_frame_equal(got.line_table([5300.0, 3.8, -0.2]), table, check_exact=True)
        assert type(got.wavelength) is np.ndarray or name == "archived"
        if isinstance(generator.wavelength, np.ndarray):  # a list becomes an array
            assert repr(got) == repr(generator)
    # and once more through the format: the very same file
    again = save(got, tmp_path / "again.asdf")
    assert again.read_bytes() == path.read_bytes()


def test_steps_work_as_before(tmp_path, grid, normalising):
    raw = 3e14 * grid.flux[:2] * np.linspace(1, 1.1, 200)
    got = load(save(normalising, tmp_path / "generator.asdf"), mmap_mode="r")
    want = normalising.normalise(raw)
    np.testing.assert_array_equal(got.normalise(raw), want)
    np.testing.assert_array_equal(got.decomposer_.transform(want), normalising.decomposer_.transform(want))
    assert got.feature_names_in_.tolist() == ["teff", "logg", "feh"]
    alone = load(save(normalising.preprocessor_, tmp_path / "p.asdf"))
    np.testing.assert_array_equal(alone.transform(raw), want)


def test_pipelines_and_regressors(tmp_path, grid, plain, regressor):
    star = plain.predict(LABELS.to_numpy()[:1]) + 0.01 * np.random.default_rng(0).normal(size=(1, 200))
    pipeline = make_pipeline(PhoenixPreprocessor(wavelength=grid.wavelength, continuum="none").fit(star), regressor)
    want = pipeline.predict(star, return_std=True)
    observed = (grid.wavelength[20:-20], star[0, 20:-20], np.full(160, 0.01))
    fitted = regressor.infer(observed, resolving_power=50_000)
    path = save(pipeline, tmp_path / "pipeline.asdf")
    for mode in (None, "r"):
        got = load(path, mmap_mode=mode)
        np.testing.assert_array_equal(got.predict(star, return_std=True), want)
        result = got[-1].infer(observed, resolving_power=50_000)
        assert (result.values, result.errors) == (fitted.values, fitted.errors)


def test_a_generator_stands_once_in_a_regressor(tmp_path, plain, regressor):
    got = load(save(regressor, tmp_path / "r.asdf"))
    assert got.generator is got.generator_
    tree, _ = attacks.unpack(tmp_path / "r.asdf")
    assert str(tree).count("tag='spectrum_generator-1.5.0'") == 1


def test_unfitted_estimators_come_back(tmp_path):
    estimator = VoigtLineDecomposer(store=str(tmp_path / "store"), wavelength=[1.0, 2.0])
    got = load(save(estimator, tmp_path / "d.asdf")).get_params()
    np.testing.assert_array_equal(got.pop("wavelength"), [1.0, 2.0])
    want = {name: value for name, value in estimator.get_params().items() if name != "wavelength"}
    assert got == want | {"store": None}  # a file does not say where to write


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


@pytest.mark.parametrize("order", ["C", "F"])
def test_mapped_arrays_reach_other_processes(tmp_path, order):
    """joblib maps them anew by offset, shape and order: a view of one map of the whole file would come out garbled."""
    array = np.asarray(np.arange(2000.0).reshape(4, 500), order=order)
    path = save(PhoenixPreprocessor(wavelength=array), tmp_path / "p.asdf")
    mapped = load(path, mmap_mode="r").wavelength
    assert isinstance(mapped.base, mmap.mmap)
    assert mapped.strides == array.strides
    for got in joblib.Parallel(n_jobs=2)(joblib.delayed(np.array)(mapped) for _ in range(2)):
        np.testing.assert_array_equal(got, array)
    buffer = io.BytesIO()
    joblib.dump(mapped, buffer)  # as dask sends it
    np.testing.assert_array_equal(joblib.load(io.BytesIO(buffer.getvalue())), array)


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
found = {(name, mode): stellarhml.load(f"{folder}/{name}.asdf", mmap_mode=mode) for name, mode in keys}
assert not unpickled, unpickled
assert "asdf" not in sys.modules
for (name, mode), generator in found.items():
    inputs = labels if hasattr(generator, "feature_names_in_") else labels.to_numpy()
    np.save(f"{folder}/{name}-{mode}.npy", generator.predict(inputs))
"""


@pytest.mark.slow
def test_a_new_process_gives_the_same_numbers(tmp_path, request):
    LABELS.to_csv(tmp_path / "labels.csv", index=False)
    for name in GENERATORS:
        save(request.getfixturevalue(name), tmp_path / f"{name}.asdf")
    command = [sys.executable, "-W", "error", "-c", READ_AND_PREDICT, str(tmp_path), *GENERATORS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, mode in itertools.product(GENERATORS, (None, "r")):
        got, expected = np.load(tmp_path / f"{name}-{mode}.npy"), _predict(request.getfixturevalue(name))
        # it takes kernels from numba's cache, which another process may have compiled in another order
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("name", [*GENERATORS, "regressor"])
def test_files_hold_public_names_only(tmp_path, name, request):
    text = save(request.getfixturevalue(name), tmp_path / "file.asdf").read_bytes()
    header = text[: text.index(b"\n...\n")].decode()
    assert not re.search(r"stellarhml\.|sklearn\.|numpy\.|scipy\.|__", header.replace("stellarhml.org", ""))
    keys = re.findall(r"^ *(?:- )*([^ :]+):", header, flags=re.MULTILINE)
    assert not [key for key in keys if key.startswith("_") or key.endswith("_")]


def test_the_identity_of_the_grid_is_in_the_record(tmp_path, plain):
    known = load(save(plain, tmp_path / "g.asdf"))
    known.grid_id_ = "0123abcd"
    assert stellarhml.storage.saving.inspect(save(known, tmp_path / "g.asdf"))["grid"] == "0123abcd"


@pytest.mark.parametrize("name", [*GENERATORS, "regressor"])
def test_the_asdf_library_reads_our_files(tmp_path, name, request, with_extension):
    """It validates checksums and schemas, and its arrays lie elsewhere in memory."""
    value = request.getfixturevalue(name)
    path = save(value, tmp_path / "file.asdf")
    with asdf.open(path, validate_checksums=True) as file:
        got = file["estimator"]
        generator, want = (v.generator_ if name == "regressor" else v for v in (got, value))
        np.testing.assert_array_equal(_predict(generator), _predict(want))
    with asdf.open(path, validate_checksums=True, memmap=True, lazy_tree=True) as file:
        assert type(file["estimator"]) is type(value)


def test_an_estimator_in_somebodys_own_file(tmp_path, plain, with_extension):
    asdf.AsdfFile({"mine": {"generator": plain, "note": "x"}}).write_to(tmp_path / "own.asdf")
    with asdf.open(tmp_path / "own.asdf", validate_checksums=True) as file:
        np.testing.assert_array_equal(_predict(file["mine"]["generator"]), _predict(plain))
    with pytest.raises(PersistenceError, match="not an ASDF file of stellarhml"):
        load(tmp_path / "own.asdf")


@pytest.mark.parametrize("mode", [None, "r"])
def test_changed_files_are_refused(small, tmp_path, mode):
    content, path = small[1], tmp_path / "changed.asdf"
    end = content.index(b"\n...\n")
    for place in (0, 40, end // 2, end + 10, content.index(b"\xd3BLK") + 60, len(content) - 300, len(content) - 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(PersistenceError, match=r"cut short or was changed|not an ASDF file"):
            load(path, mmap_mode=mode)
        path.write_bytes(content[:place])
        with pytest.raises(PersistenceError, match=r"cut short or was changed|not an ASDF file"):
            load(path, mmap_mode=mode)


def test_blocks_are_compared_unless_that_is_left_out(small, tmp_path):
    content, path = bytearray(small[1]), tmp_path / "changed.asdf"
    content[content.rindex(b"\xd3BLK") + 60] ^= 1
    path.write_bytes(content)
    with pytest.raises(PersistenceError, match="does not match its checksum"):
        load(path)
    load(path, verify=False)


def test_newer_tags_ask_for_an_upgrade(small, tmp_path):
    tree, arrays = attacks.unpack(small[0])
    tree["estimator"] = Tagged("line_manifold_interpolator-1.2.0", tree["estimator"].state)
    (tmp_path / "new.asdf").write_bytes(attacks.pack(tree, arrays))
    with pytest.raises(PersistenceError, match="upgrade stellarhml"):
        load(tmp_path / "new.asdf")


@pytest.mark.parametrize("device", ["", "x", "meta", "cuda:x", "cuda\n"])
def test_devices_in_a_file(tmp_path, device):
    tree, arrays = attacks.unpack(save(SpectrumGenerator(device="cuda:1"), tmp_path / "g.asdf"))
    assert load(tmp_path / "g.asdf").device == "cuda:1"
    tree["estimator"].state["parameters"]["device"] = device
    (tmp_path / "g.asdf").write_bytes(attacks.pack(tree, arrays))
    with pytest.raises(PersistenceError, match="`device` is"):
        load(tmp_path / "g.asdf")


def test_shared_arrays_are_stored_once(tmp_path):
    array = np.arange(5.0)
    path = save(PhoenixPreprocessor(wavelength=[array, array], window=(array.copy(),)), tmp_path / "p.asdf")
    assert len(attacks.unpack(path)[1]) == 2
    got = load(path)
    assert got.wavelength[0] is got.wavelength[1]


def test_large_arrays_of_the_same_content_are_stored_once(tmp_path):
    wavelength = np.linspace(8000.0, 8001.0, 512)  # 4096 bytes
    other = wavelength.copy()
    other[-1] += 1e-9
    steps = [PhoenixPreprocessor(wavelength=w) for w in (wavelength, wavelength.copy(), other, wavelength[:511].copy())]
    steps += [PhoenixPreprocessor(wavelength=wavelength[:511].copy())]
    path = save(make_pipeline(*steps), tmp_path / "five.asdf")
    assert len(attacks.unpack(path)[1]) == 4
    for (_, got), step in zip(load(path).steps, steps, strict=True):
        np.testing.assert_array_equal(got.wavelength, step.wavelength)


@pytest.mark.parametrize("text", [b"", b"a", b"[1]", b"--- {}\n--- {}\n", b"!!set {a}", b"{a: &x 1}", b"? [a]\n: 1"])
def test_text_that_is_not_a_header(text):
    with pytest.raises(HeaderError):
        from_text(text)
