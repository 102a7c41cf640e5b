"""Results on a real dask cluster are those of one process, to the last bit."""

import subprocess
import sys

import pytest

pytest.importorskip("distributed")

# In a process of its own: what dask's event loop says while the cluster closes must not become an error of this one.
ON_A_CLUSTER = """
import os
import sys

import joblib
import numpy as np
from dask.distributed import Client, LocalCluster

from stellarhml import BayesianStellarRegressor, SpectrumGenerator, VoigtLineDecomposer
from stellarhml._parallel import map_items, map_stored
from stellarhml.storage.result_store import ResultStore
from stellarhml.datasets import make_stellar_grid


def spectrum(row):
    return np.fft.rfft(np.cumsum(row)) @ np.exp(row[: row.size // 2 + 1])


def process(_):
    return os.getpid()


def pack(value):
    return {"value": value}


def unpack(arrays):
    return complex(arrays["value"])


def results(regressor):
    rows = np.random.default_rng(0).normal(size=(12, 4000))
    grid = make_stellar_grid(random_state=0)
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength, sparse_output=False)
    store = ResultStore(sys.argv[1])
    functions = {"pack": pack, "unpack": unpack, "settings": "x"}
    pixels = grid.wavelength[20:-20:2]
    stars = regressor.generator_.observe(grid.labels[:6], pixels, resolving_power=3e4, rv=3.0)
    spectra = [(pixels, flux, np.full(len(flux), 0.01)) for flux in stars]
    survey = regressor.infer_many(spectra, resolving_power=3e4, survey=True, verbose=False)
    return {
        "plain": list(map_items(spectrum, rows)),
        "stored": list(map_stored(spectrum, rows, store=store, **functions)),
        "again": list(map_stored(spectrum, iter(rows), store=store, **functions)),
        "lines": decomposer.fit_transform(grid.flux[:6]),
        "survey": [list(result.values.values()) for result in survey],
    }


if __name__ == "__main__":
    grid = make_stellar_grid(random_state=0)
    generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    regressor = BayesianStellarRegressor.from_generator(generator)
    with (
        LocalCluster(n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        with joblib.parallel_config(backend="dask"):
            there = results(regressor)
            assert os.getpid() not in map_items(process, range(8))
    sys.argv[1] += "_local"
    for name, here in results(regressor).items():
        assert np.asarray(there[name]).tobytes() == np.asarray(here).tobytes(), name
    print("same")
"""


@pytest.mark.slow
def test_a_cluster_changes_nothing(tmp_path):
    script = tmp_path / "on_a_cluster.py"
    script.write_text(ON_A_CLUSTER)
    command = [sys.executable, str(script), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "same"
