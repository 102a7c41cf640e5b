"""VoigtLineDecomposer with a store: a job goes on where it was cut, and its results are those of one that was not."""

import mmap
from pathlib import Path

import joblib
import numpy as np
import pytest
from killed import kill, needs_groups, start, times, wait_until

import stellarhml.lines.catalog_learning as learning
import stellarhml.lines.decomposition as decomposition
from stellarhml import VoigtLineDecomposer
from stellarhml._parallel import map_stored
from stellarhml.exceptions import StoreWarning

JOB = """
import sys
import time
import uuid
from pathlib import Path

import numpy as np

import stellarhml.lines.decomposition as decomposition
import stellarhml.lines.catalog_learning as learning
from stellarhml import VoigtLineDecomposer

folder = Path(sys.argv[1])


def counted(function):
    def slow(decomposer, row):
        (folder / "calls" / uuid.uuid4().hex).touch()
        time.sleep(0.1)
        return function(decomposer, row)

    return slow


if __name__ == "__main__":
    (folder / "calls").mkdir(exist_ok=True)
    # functions of a function travel to the workers by value
    learning.fit_and_search = counted(learning.fit_and_search)
    decomposition.decompose_row = counted(decomposition.decompose_row)
    data = np.load(folder / "data.npz")
    decomposer = VoigtLineDecomposer(
        wavelength=data["wavelength"], noise=5e-4, store=folder / "store", n_jobs=2, verbose=False
    )
    decomposer.fit_transform(data["flux"], data["labels"])
    (folder / "finished").touch()
"""


@pytest.fixture
def count(monkeypatch):
    """Number of fits in this process."""
    calls = []

    def counted(function):
        def call(*args):
            calls.append(1)
            return function(*args)

        return call

    monkeypatch.setattr(learning, "fit_and_search", counted(learning.fit_and_search))
    monkeypatch.setattr(decomposition, "decompose_row", counted(decomposition.decompose_row))

    def since_last():
        n_calls = len(calls)
        calls.clear()
        return n_calls

    return since_last


@pytest.fixture
def run(known, tmp_path):
    """Fit and decompose the grid with a store."""

    def run(flux=known.flux, store=tmp_path / "store", **parameters):
        decomposer = VoigtLineDecomposer(**{**known.options, "store": store, **parameters})
        return decomposer, decomposer.fit(flux, known.labels[: len(flux)]).decompose(flux)

    return run


def files(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).iterdir()}


def assert_same(one, other):
    for name in ("line_flags", "flags", "n_iter", "windows", "window_rms", "rms"):
        ours, theirs = getattr(one, name), getattr(other, name)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(one.theta, name), getattr(other.theta, name))


def test_a_second_start_reads_everything(known, run, count, tmp_path):
    decomposer, first = run()
    n_rounds = 2  # a line is added in the first
    assert decomposer._catalog.added.any()
    assert count() == len(files(tmp_path / "store")) == 12 * (n_rounds + 2)  # passes of `fit`, and the fits
    before = files(tmp_path / "store")
    again, second = run(store=str(tmp_path / "store"))
    assert count() == 0
    assert files(tmp_path / "store") == before
    assert_same(first, second)
    np.testing.assert_array_equal(again.line_catalog_, decomposer.line_catalog_)
    # and neither differs from what is had without a store
    assert_same(first, known.result)
    assert (decomposer.transform(known.flux) != known.result.theta).nnz == 0
    assert count() == 0


def test_what_does_not_change_a_fit_does_not_ask_for_another(known, run, count):
    run()
    count()
    for parameters in ({"verbose": False}, {"n_jobs": 1}, {"sparse_output": False}, {"n_rounds": 7}, {"subsample": 50}):
        run(**parameters)
        assert count() == 0
    run(wavelength=known.wavelength.tolist())
    assert count() == 0


def test_more_spectra_cost_only_themselves(known, run, count):
    decomposer, _ = run()
    count()
    more = np.concatenate([known.flux, known.render(*known.lines_of(5300.0, 0.2))[None]])
    result = decomposer.decompose(more)
    assert count() == 1
    assert_same(decomposer.set_params(store=None).decompose(more), result)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {"noise": 1e-3},
        {"tol": 1e-3},
        {"max_iter": 150},
        {"prominence": 0.006},
        {"distance": 5},
        {"profile": "saturated-voigt"},
        {"wing_cut": 100},
        {"line_margin": 1.0},
        {"loss_margin": 1.0},
        {"match_tolerance": 1.9},
        {"fit_undetected": False},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_other_settings_use_nothing_that_was_kept(known, run, count, parameters):
    few = known.flux[:4]
    _, one = run(few, n_rounds=0)
    assert count() == 12  # two passes over the training spectra, then the fits
    _, other = run(few, n_rounds=0, **parameters)
    assert count() == 12  # two passes over the training spectra, then the fits
    assert_same(other, run(few, n_rounds=0, store=None, **parameters)[1])
    count()
    assert_same(one, run(few, n_rounds=0)[1])
    assert count() == 0


def test_other_wavelengths_or_flux_use_nothing_that_was_kept(known, run, count):
    few = known.flux[:4]
    run(few, n_rounds=0)
    assert count() == 12  # two passes over the training spectra, then the fits
    run(few, n_rounds=0, wavelength=known.wavelength + 1e-9)
    assert count() == 12  # two passes over the training spectra, then the fits
    changed = few.copy()
    changed[0, 7] += 1e-12  # teaches the prior nothing else, and detects nothing else
    run(changed, n_rounds=0)
    assert 1 < count() <= 12
    run(few[[1, 0, 2, 3]], n_rounds=0)
    n_fits = count()
    assert n_fits <= 8  # the prior may differ by rounding


def test_mapped_spectra_have_the_same_lines_on_the_disk(known, tmp_path):
    np.save(tmp_path / "flux.npy", known.flux)
    result = known.decomposer.decompose(np.load(tmp_path / "flux.npy", mmap_mode="r"))
    assert_same(result, known.result)
    base = result.theta.data
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(getattr(base, "obj", base), mmap.mmap)
    # the table goes to workers like any other
    sums = joblib.Parallel(n_jobs=2)(joblib.delayed(np.sum)(result.theta[i].data) for i in range(3))
    assert sums == [known.result.theta[i].data.sum() for i in range(3)]


def test_damaged_fits_are_computed_again(run, count, tmp_path):
    _, first = run()
    count()
    before = files(tmp_path / "store")
    paths = sorted(before)
    cut, changed, empty = paths[3], paths[17], paths[30]
    cut.write_bytes(cut.read_bytes()[:-1])
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 4
    changed.write_bytes(content)
    empty.write_bytes(b"")
    with pytest.warns(StoreWarning) as caught:
        _, second = run()
    assert sum(int(str(warning.message).split()[0]) for warning in caught) == 3
    assert count() == 3
    assert_same(first, second)
    after = files(tmp_path / "store")
    assert {path for path in after if after[path] != before[path]} == {cut, changed, empty}
    run()
    assert count() == 0


def test_a_job_that_failed_goes_on(known, run, count, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        done = []

        def fails(decomposer, row, function=decomposition.decompose_row):
            if len(done) == 5:
                raise KeyboardInterrupt
            done.append(1)
            return function(decomposer, row)

        patch.setattr(decomposition, "decompose_row", fails)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert len(files(tmp_path / "store")) == 36 + 5
    assert count() == 36 + 5
    assert_same(run()[1], known.result)
    assert count() == 7


def test_the_paper_keeps_its_fits_too(known, count, tmp_path):
    settings = {"solver": "adam", "profile": "pseudo-voigt", "match_tolerance": 0, "fit_undetected": False}
    decomposer = VoigtLineDecomposer(wavelength=known.wavelength, **settings, max_iter=3, store=tmp_path)
    first = decomposer.fit(known.flux[:3]).decompose(known.flux[:3])
    assert count() == len(files(tmp_path)) == 3
    assert_same(first, decomposer.fit(known.flux[:3]).decompose(known.flux[:3]))
    assert count() == 0
    assert_same(first, decomposer.set_params(store=None).decompose(known.flux[:3]))


def test_both_places_keep_what_they_compute():
    # else the counts above would not be those of all fits
    assert learning.map_stored is decomposition.map_stored is map_stored


@needs_groups
@pytest.mark.slow
def test_killed_and_started_again(known, run, count, tmp_path):
    script = tmp_path / "job.py"
    script.write_text(JOB)
    np.savez(tmp_path / "data.npz", wavelength=known.wavelength, flux=known.flux, labels=known.labels)
    process = start([script, tmp_path], tmp_path)
    wait_until(process, lambda: len(times(tmp_path / "store")) >= 16)  # in the second of three passes
    kill(process)
    kept = times(tmp_path / "store")
    n_calls = len(list(tmp_path.glob("calls/*")))
    assert 16 <= len(kept) <= n_calls < 48
    assert not (tmp_path / "finished").exists()

    # another process, and another number of workers
    decomposer, result = run()
    assert count() == 48 - len(kept)  # three passes over 12 training spectra, then the fits
    assert kept.items() <= times(tmp_path / "store").items()
    np.testing.assert_array_equal(decomposer.line_catalog_, known.decomposer.line_catalog_)
    assert_same(result, known.result)
