"""A fitted pipeline written here gives the same answers in another process."""

import subprocess
import sys

import joblib
import numpy as np
import pytest
from killed import needs_groups

from stellarhml import PhoenixPreprocessor, load, make_stellar_pipeline, save
from stellarhml.datasets import make_stellar_grid

READ_AND_PREDICT = """
import sys
import joblib
import numpy as np

folder = sys.argv[1]
for mmap_mode in (None, "r"):
    pipeline = joblib.load(folder + "/pipeline.joblib", mmap_mode=mmap_mode)
    labels, std = pipeline.predict(np.load(folder + "/flux.npy"), return_std=True)
    flux = pipeline[-1].generator_.predict(labels)
    np.savez(f"{folder}/result_{mmap_mode}.npz", labels=labels, std=std, flux=flux)
"""


@pytest.mark.slow
def test_pipeline_in_a_new_process(tmp_path):
    grid = make_stellar_grid(random_state=0)
    raw = grid.flux * 3e14
    settings = {
        "preprocessor": {"peak_distance": 40, "degree": 2},
        "regressor": {"search": "nodes", "n_starts": 1},
    }
    pipeline = make_stellar_pipeline(wavelength=grid.wavelength, settings=settings, random_state=0)
    pipeline.fit(raw, grid.labels)
    star = raw[[8, 9]].mean(axis=0) + raw.std() * 0.01 * np.random.default_rng(0).normal(size=(1, 400))
    labels, std = pipeline.predict(star, return_std=True)
    np.save(tmp_path / "flux.npy", star)
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    command = [sys.executable, "-W", "error", "-c", READ_AND_PREDICT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for mmap_mode in (None, "r"):
        result = np.load(tmp_path / f"result_{mmap_mode}.npz")
        # it takes kernels from numba's cache, which another process may have compiled in another order
        np.testing.assert_allclose(result["labels"], labels, rtol=0, atol=1e-6 * std.min())
        np.testing.assert_allclose(result["std"], std, rtol=1e-6)
        np.testing.assert_allclose(result["flux"], pipeline[-1].generator_.predict(result["labels"]), rtol=1e-12)


KILLED_WHILE_WRITING = """
import os
import signal
import sys

from stellarhml import PhoenixPreprocessor, save
from stellarhml.storage import asdf_files

pack = asdf_files.pack


def half(*arguments):
    yield b"".join(pack(*arguments))[:100]
    os.kill(os.getpid(), signal.SIGKILL)


asdf_files.pack = half
save(PhoenixPreprocessor(degree=7), sys.argv[1])
"""


@needs_groups
def test_kill_9_while_writing_leaves_the_old_file(tmp_path):
    path = save(PhoenixPreprocessor(degree=2), tmp_path / "p.asdf")
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_bytes() == before
    assert load(path).degree == 2
    save(PhoenixPreprocessor(degree=7), path)
    assert load(path).degree == 7
