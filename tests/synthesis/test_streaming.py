"""Grids that are larger than the memory: windows, memory maps, workers, and files of normalised spectra."""

import pickle
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from stellarhml import PhoenixPreprocessor, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid
from stellarhml.manifold import misplaced
from stellarhml.storage.row_files import is_mapped
from stellarhml.storage.saving import load, save
from stellarhml.synthesis import decomposed_grid, grid_learning

BETWEEN = np.array([[5120.0, 3.7, -0.35], [5480.0, 4.2, -0.1]])
QUICK = {"n_rounds": 0, "subsample": 4}


def same(one, two):
    """Everything a generator says, to the last bit."""
    for ours, theirs in zip(one.predict(BETWEEN, return_std=True), two.predict(BETWEEN, return_std=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    options = {"pixels": slice(30, 180), "rv": [-20.0, 35.0]}
    np.testing.assert_array_equal(one.predict(BETWEEN, **options), two.predict(BETWEEN, **options))
    np.testing.assert_array_equal(one.jacobian(BETWEEN, **options), two.jacobian(BETWEEN, **options))
    assert one.line_table(BETWEEN[0]).equals(two.line_table(BETWEEN[0]))
    assert one.error_map_.to_frame().equals(two.error_map_.to_frame())
    assert one.grid_id_ == two.grid_id_


@pytest.fixture(scope="module")
def long_grid():
    """24 spectra of 40,000 pixels, in single precision."""
    data = make_stellar_grid(n_pixels=40_000, n_lines=5, random_state=0)
    return data.labels, data.flux.astype(np.float32), data.wavelength


@pytest.fixture
def narrow_windows(monkeypatch):
    """Windows, and pixels on which nodes are compared, in proportion to 40,000 pixels."""
    monkeypatch.setattr(grid_learning, "_WINDOW", 2048)
    monkeypatch.setattr(misplaced, "_PIXELS", 512)


@pytest.mark.slow
def test_fit_never_holds_the_grid(long_grid, narrow_windows, generator, tmp_path):
    # `generator` is asked for so that all is compiled and imported before memory is counted
    labels, flux, wavelength = long_grid
    np.save(tmp_path / "flux.npy", flux)
    mapped = np.load(tmp_path / "flux.npy", mmap_mode="r")
    model = SpectrumGenerator(wavelength=wavelength, decomposer=VoigtLineDecomposer(max_iter=5, **QUICK))
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # five iterations are few
            model.fit(labels, mapped)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # a copy of the grid in its own single precision would be 3.8 MB, in the double precision of the sums twice that
    assert peak < 0.9 * flux.nbytes
    assert model.residual_ is not None
    assert np.isfinite(model.predict(labels[:1], return_std=True)).all()


@pytest.mark.slow
def test_raw_spectra_on_disk_are_not_held_either(long_grid, narrow_windows, generator, monkeypatch, tmp_path):
    """Twice as many spectra need less than a quarter of what these take, in their own single precision and once."""
    labels, flux, wavelength = long_grid
    np.save(tmp_path / "flux.npy", 1e14 * flux)
    mapped = np.load(tmp_path / "flux.npy", mmap_mode="r")
    monkeypatch.setattr(decomposed_grid, "_AT_ONCE", 1)

    def peak(n):
        model = SpectrumGenerator(
            wavelength=wavelength,
            preprocessor=PhoenixPreprocessor(degree=1, peak_distance=4000),
            decomposer=VoigtLineDecomposer(max_iter=5, **QUICK),
        )
        tracemalloc.start()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(labels[:n], mapped[:n])
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(12)  # compiles and imports
    assert peak(24) - peak(12) < 0.25 * flux[12:].nbytes


@pytest.mark.parametrize(
    ("n_jobs", "backend"),
    [(None, "loky"), (2, "threading"), pytest.param(2, "loky", marks=pytest.mark.slow)],
    ids=["alone", "threads", "processes"],
)
def test_maps_of_files_and_workers_change_nothing(grid, monkeypatch, tmp_path, n_jobs, backend):
    monkeypatch.setattr(grid_learning, "_WINDOW", 128)
    flux = grid.flux.astype(np.float32)
    np.save(tmp_path / "flux.npy", flux)
    mapped = np.load(tmp_path / "flux.npy", mmap_mode="r")
    model = SpectrumGenerator(wavelength=grid.wavelength, decomposer=VoigtLineDecomposer(**QUICK))
    plain = clone(model).fit(grid.labels, flux)
    with joblib.parallel_config(backend=backend):
        same(clone(model).set_params(n_jobs=n_jobs).fit(grid.labels, mapped), plain)


def test_normalised_spectra_on_disk_are_those_in_memory(grid, monkeypatch, tmp_path):
    raw = grid.flux * 3e14 * (1 + 0.2 * np.linspace(-1, 1, 400))
    model = SpectrumGenerator(
        wavelength=grid.wavelength,
        preprocessor=PhoenixPreprocessor(peak_distance=40, degree=2),
        decomposer=VoigtLineDecomposer(**QUICK),
    )
    in_memory = clone(model).fit(grid.labels, raw)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    def watched(path, *rest, write=decomposed_grid.write_rows):
        seen.append(Path(path))
        write(path, *rest)

    monkeypatch.setattr(decomposed_grid, "write_rows", watched)
    monkeypatch.setattr(decomposed_grid, "_IN_MEMORY", 100)
    # steps of two spectra, which do not divide their number evenly, and of one
    for step in (2 * raw[:1].nbytes, 100):
        monkeypatch.setattr(decomposed_grid, "_AT_ONCE", step)
        same(clone(model).fit(grid.labels, raw), in_memory)
    assert len(seen) == 2
    assert all(path.is_relative_to(tmp_path) for path in seen)
    assert list(tmp_path.iterdir()) == []  # nothing stays
    # a store takes the file too, and keeps the fits only
    model.set_params(decomposer__store=tmp_path / "store")
    for _ in range(2):
        same(clone(model).fit(grid.labels, raw), in_memory)
    assert all(path.is_relative_to(tmp_path / "store") for path in seen[2:])
    assert {path.suffix for path in (tmp_path / "store").iterdir()} == {".result"}


def test_a_fit_that_fails_leaves_no_file(grid, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(decomposed_grid, "_IN_MEMORY", 100)
    preprocessor = PhoenixPreprocessor(wavelength=grid.wavelength, peak_distance=40, degree=2)
    preprocessor.fit(grid.flux, teff=grid.labels[:, 0])

    def fail():
        with decomposed_grid.normalised_rows(preprocessor, grid.flux, grid.labels[:, 0]) as normalised:
            assert isinstance(normalised, np.memmap)
            assert len(list(tmp_path.iterdir())) == 1
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["generator", "lines_alone", "whole_windows"])
def test_files_give_the_same_bits(request, name, tmp_path):
    model = request.getfixturevalue(name)
    joblib.dump(model, tmp_path / "generator.joblib")
    save(model, tmp_path / "generator.asdf")
    for mode in (None, "r"):
        same(joblib.load(tmp_path / "generator.joblib", mmap_mode=mode), model)
        same(load(tmp_path / "generator.asdf", mmap_mode=mode), model)


def test_clones_keep_parameters_and_forget_the_fit(generator):
    again = clone(generator.set_params(n_factors="auto"))
    assert not [name for name in vars(again) if name.endswith("_") and not name.startswith("_")]
    assert not hasattr(again, "lines_")
    ours, theirs = again.get_params(), generator.get_params()
    assert ours.keys() == theirs.keys() >= {"n_factors", "residual_rank", "device", "n_jobs"}
    np.testing.assert_array_equal(ours.pop("wavelength"), theirs.pop("wavelength"))
    assert ours == theirs


@pytest.mark.parametrize(
    ("part", "folder", "by_path"),
    [
        (np.s_[:], "store", True),
        (np.s_[:], "elsewhere", False),
        (np.s_[:], None, False),
        (np.s_[1:], "store", False),
        (np.s_[:, :-1], "store", False),
    ],
)
def test_workers_get_the_path_of_spectra_in_the_store(tmp_path, part, folder, by_path):
    """Else each task on dask would take the spectra along."""
    (tmp_path / "store" / "scratch").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    flux = np.random.default_rng(0).normal(size=(4, 9000)).astype(np.float32)
    np.save(tmp_path / "store" / "scratch" / "flux.npy", flux)
    mapped = np.load(tmp_path / "store" / "scratch" / "flux.npy", mmap_mode="r")[part]
    for table in (mapped, np.asarray(mapped)):
        grid = grid_learning.Grid("lines", table, "weights", None if folder is None else tmp_path / folder)
        content = pickle.dumps(grid)
        assert (len(content) < 1000) == by_path
        again = pickle.loads(content)
        np.testing.assert_array_equal(again.flux, flux[part])
        assert (again.lines, again.weights, again.folder) == (grid.lines, grid.weights, grid.folder)
        assert is_mapped(again.flux) or not by_path
