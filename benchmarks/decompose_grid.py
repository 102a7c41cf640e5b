"""A whole grid as a job: the 66 full-band SME nodes at [Fe/H] -0.5 and 0, default settings, two processes.

Run: python benchmarks/decompose_grid.py [--nodes 66] [--jobs 2] [--kill]

Prints wall time, lines, the share of them that were tracked over the whole grid, errors of the clones, peak memory of a
process, and the time projected for the paper's 1,314 nodes (limit: 4 hours on two cores). The fluxes lie in a memory
map and the fits in a store, both in a temporary folder. With --kill the job is killed (SIGKILL) when half of its fits
are there, started again, and compared with the job that was not.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
from shared import finish, load_tool

from stellarhml import VoigtLineDecomposer

PAPER_NODES = 1314


def prepare(folder, n_nodes):
    data = load_tool("shared_data").sme_hpf_grid(normalised=True)
    keep = np.flatnonzero(data["labels"][:, 2] < 0.25)
    # the same share of every axis, for a try on fewer nodes
    keep = keep[np.linspace(0, len(keep) - 1, min(n_nodes, len(keep))).round().astype(int)]
    np.save(folder / "flux.npy", data["flux"][keep])
    np.savez(folder / "grid.npz", wavelength=data["wavelength"], labels=data["labels"][keep])


def job(folder, store, n_jobs):
    """Decompose the grid; what `--kill` kills."""
    flux = np.load(folder / "flux.npy", mmap_mode="r")
    grid = np.load(folder / "grid.npz")
    begin = time.perf_counter()
    decomposer = VoigtLineDecomposer(wavelength=grid["wavelength"], store=str(store), n_jobs=n_jobs)
    decomposer.fit(flux, grid["labels"])
    learnt = time.perf_counter()
    result = decomposer.decompose(flux)
    joblib.dump((decomposer, result, learnt - begin, time.perf_counter() - learnt), folder / f"{store.name}.joblib")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=66)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        job(args.folder, args.store, args.jobs)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, args.nodes)
        begin = time.perf_counter()
        run(folder, "whole", args.jobs).wait()
        figures = summarise(folder, time.perf_counter() - begin)
        if args.kill:
            figures["kill"] = kill_and_resume(folder, args.jobs)
    finish(benchmark="decompose_grid", **figures)


def run(folder, store, n_jobs):
    """Start the job in a process group of its own."""
    command = [sys.executable, __file__, "--folder", folder, "--store", folder / store, "--jobs", str(n_jobs)]
    return subprocess.Popen([str(part) for part in command], start_new_session=True)


def summarise(folder, seconds):
    decomposer, result, learning, fitting = joblib.load(folder / "whole.joblib")
    n_nodes = len(result.rms)
    detected = decomposer.n_detected_[decomposer.n_detected_ > 0]
    everywhere = np.all((result.line_flags & 2) == 0, axis=0)
    kept = list((folder / "whole").iterdir())
    # learning takes a fixed number of spectra; only detection and the last fits grow with the grid
    projected = learning + fitting * PAPER_NODES / n_nodes
    figures = {
        "nodes": n_nodes,
        "wall_s": seconds,
        "learning_s": learning,
        "fitting_s": fitting,
        "fit_s_per_node": fitting / n_nodes,
        "lines": len(decomposer.line_catalog_),
        "lines_detected": len(detected),
        "share_detected_in_all_nodes": float(np.mean(detected == n_nodes)),
        "share_detected_in_90_percent": float(np.mean(detected >= 0.9 * n_nodes)),
        "share_of_detections_in_lines_of_90_percent": float(detected[detected >= 0.9 * n_nodes].sum() / detected.sum()),
        "share_of_lines_fitted_in_all_nodes": float(np.mean(everywhere)),
        "rms_median": float(np.median(result.rms)),
        "rms_largest": float(result.rms.max()),
        "flagged_spectra": int(np.count_nonzero(result.flags)),
        "store_mb": sum(path.stat().st_size for path in kept) / 2**20,
        "peak_memory_mb_of_a_process": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "hours_for_1314_nodes_all_scaled": seconds * PAPER_NODES / n_nodes / 3600,
        "hours_for_1314_nodes": projected / 3600,
    }
    for key, value in figures.items():
        print(f"{key}: {value:.5g}")
    return figures


def kill_and_resume(folder, n_jobs):
    n_whole = len(list((folder / "whole").glob("[!.]*.result")))
    process = run(folder, "killed", n_jobs)
    store = folder / "killed"
    while not store.is_dir() or len(list(store.glob("[!.]*.result"))) < n_whole // 2:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in store.glob("[!.]*.result")}
    run(folder, "killed", n_jobs).wait()
    after = {path: path.stat().st_mtime_ns for path in store.glob("[!.]*.result")}
    one, two = (joblib.load(folder / f"{name}.joblib")[1] for name in ("whole", "killed"))
    same = all(
        np.array_equal(a, b)
        for a, b in [(getattr(one.theta, k), getattr(two.theta, k)) for k in ("indptr", "indices", "data")]
        + [(getattr(one, k), getattr(two, k)) for k in ("line_flags", "flags", "n_iter", "window_rms")]
    )
    figures = {
        "fits": n_whole,
        "kept_before_the_kill": len(before),
        "computed_again": sum(after[path] != before[path] for path in before),
        "computed_afterwards": len(after) - len(before),
        "identical_to_the_last_bit": same,
    }
    print("kill:", figures)
    return figures


if __name__ == "__main__":
    main()
