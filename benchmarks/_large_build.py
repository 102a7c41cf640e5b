"""Parts `big`, `same` and `exponents` of scale.py: what `stellarhml build` takes for large grids.

Builds run in processes of their own, whose memory and processor time are read from /proc, so Linux is needed. The
memory of a process is that of its own (RssAnon); its peak with pages of mapped files (VmHWM), which the system can drop
at any time, is given too. Processor seconds are those of all processes together.
"""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from _large_grid import FEH, LOGG, START, TEFF, LargeGrid, lattice

from stellarhml import load

_INTERVAL = 0.2  # s
_WHOLE = ("--wavelength", 8000, 12000)  # all pixels


class Watched:
    """A process and all that it starts: peaks of memory in MB, and processor seconds."""

    def __init__(self, command):
        self.process = subprocess.Popen([str(part) for part in command])
        self.begin, self.peaks, self.seconds = time.perf_counter(), {}, {}

    def watch(self, stop=lambda: False):
        """Watch until the end, or kill the process with signal 9 once `stop()`; returns its exit code."""
        while self.process.poll() is None:
            for pid in _family(self.process.pid):
                self._read(pid)
            if stop():
                self.process.kill()
            time.sleep(_INTERVAL)
        self.wall_s = time.perf_counter() - self.begin
        return self.process.returncode

    @property
    def figures(self):
        """Figures of the processes, as a dict."""
        own, everything = np.max(list(self.peaks.values()), axis=0).tolist()
        return {"cpu_s": sum(self.seconds.values()), "wall_s": self.wall_s, "own_mb": own, "all_mb": everything}

    def _read(self, pid):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            return
        found = [re.search(rf"{name}:\s+(\d+) kB", status) for name in ("RssAnon", "VmHWM")]
        if all(found):
            now = [int(match[1]) / 1024 for match in found]
            self.peaks[pid] = np.maximum(now, self.peaks.get(pid, 0.0))
            self.seconds[pid] = (int(times[11]) + int(times[12])) / 100  # user and system, in ticks of 10 ms


def _family(pid):
    """Numbers of a process and of all below it."""
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    except OSError:
        pass
    return found


def build(folder, out, *options, jobs=1, kills=(), dask=False):
    """Build a generator of a grid; the process is killed whenever its store has as many results as `kills` state.

    Returns the figures of each run.
    """
    command = [sys.executable, *([__file__] if dask else ["-m", "stellarhml.cli"])]
    command += ["build", folder, "--out", out, "--jobs", jobs, *options]
    store, runs = out.with_suffix(".store"), []
    for limit in (*kills, np.inf):
        run = Watched(command)
        code = run.watch(lambda limit=limit: len(list(store.glob("[!.]*.result"))) >= limit)
        if code != (0 if limit == np.inf else -signal.SIGKILL):
            sys.exit(f"the build ended with {code}")
        runs.append(run.figures)
    return runs


def big(args):
    """1,314 nodes, 126,000 pixels."""
    from generator import median_time, rms

    grid, folder, out = LargeGrid(), args.folder / "large", args.folder / "large.asdf"
    nodes = lattice()
    grid.write(folder, nodes)
    runs = build(folder, out, *_WHOLE, jobs=args.jobs, kills=(20, 800))
    generator, grid_mb = load(out), 4 * len(nodes) * grid.wavelength.size / 1e6
    rng = np.random.default_rng(0)
    low, high = generator.interpolator_.bounds_.T
    between = rng.uniform(low, high, (24, 3))
    truth = generator.normalise([grid.spectrum((*labels, 0.0), noise=0.0) for labels in between], between)
    return {
        "nodes": len(nodes),
        "pixels": grid.wavelength.size,
        "lines": generator.interpolator_.table_.n_lines,
        "wall_h": sum(run["wall_s"] for run in runs) / 3600,
        "cpu_h": sum(run["cpu_s"] for run in runs) / 3600,
        "own_mb": max(run["own_mb"] for run in runs),
        "all_mb": max(run["all_mb"] for run in runs),
        "file_mb": out.stat().st_size / 1e6,
        "grid_over_file": grid_mb / (out.stat().st_size / 1e6),
        "ms": 1e3 * median_time(lambda: generator.predict(between[:1]))[0],
        "median_rms": float(np.median(rms(generator.predict(between), truth))),
    }


def same(args):
    """54 nodes, 2,520 pixels: one process, two that are killed twice, and dask give the same file."""
    folder, nodes = args.folder / "small", lattice(TEFF[:60:20], LOGG, FEH)
    LargeGrid().write(folder, nodes)
    options = ("--wavelength", START, START + 42)
    plans = {"one": {}, "killed": {"jobs": 2, "kills": (10, 190)}, "dask": {"jobs": 2, "dask": True}}
    files = {}
    for name, plan in plans.items():
        out = args.folder / f"small_{name}.asdf"
        build(folder, out, *options, **plan)
        files[name] = out.read_bytes()
    figures = {f"{name}_same": files[name] == files["one"] for name in plans if name != "one"}
    print(f"{len(nodes)} nodes: {figures}")
    return figures


def _plans():
    """Series of builds: name, nodes, and options for each build."""
    band, few = ("--wavelength", START, START + 70), lattice(TEFF[:64:8], LOGG[::2], FEH)
    yield "nodes", [(lattice(TEFF[:64:step], LOGG[::2], FEH), band) for step in (8, 4, 2, 1)]
    yield "pixels", [(few, ("--wavelength", START, START + width)) for width in (70, 140, 280, 560)]
    yield "lines", [(few, (*band, "--prominence", limit)) for limit in (0.3, 0.1, 0.03, 0.005)]
    yield (
        "labels",
        [
            (lattice(TEFF[:64], [4.4], [0.0]), band),
            (lattice(TEFF[:64:8], np.linspace(2, 5, 8).round(2), [0.0]), band),
            (lattice(TEFF[:64:16], LOGG[:4], [-1.0, -0.6, -0.3, 0.0]), band),
            (lattice(TEFF[:64:16], LOGG[:4], [-0.5, 0.0], (0.0, 0.4)), (*band, "--alpha", 0, 0.4)),
        ],
    )


def exponents(args):
    """Memory and time of one process against nodes, pixels, lines and labels, and exponents of power laws."""
    grid, rows, slopes = LargeGrid(), [], {}
    grid.write(args.folder / "warm", lattice(TEFF[:2], LOGG[:2], FEH))
    build(args.folder / "warm", args.folder / "warm.asdf", "--wavelength", START, START + 10)  # compiles the kernels
    for series, plans in _plans():
        chosen = []
        for number, (nodes, options) in enumerate(plans):
            folder, out = args.folder / f"{series}{number}", args.folder / f"{series}{number}.asdf"
            grid.write(folder, nodes)
            (figures,) = build(folder, out, *options)
            generator = load(out)
            sizes = {
                "nodes": len(nodes),
                "pixels": generator.wavelength_.size,
                "lines": generator.interpolator_.table_.n_lines,
                "labels": int(sum(np.ptp(column) > 0 for column in nodes.T)),
                "file_mb": out.stat().st_size / 1e6,
            }
            chosen.append({"series": series} | sizes | figures)
            print(" ".join(f"{name} {value:.4g}" if name != "series" else value for name, value in chosen[-1].items()))
        x = np.log([row[series] for row in chosen])
        slopes[series] = {
            name: float(np.polyfit(x, np.log([row[name] for row in chosen]), 1)[0])
            for name in ("cpu_s", "own_mb", "file_mb")
        }
        print(f"exponents with {series}: {slopes[series]}", flush=True)
        rows += chosen
    return {"builds": rows, "exponents": slopes}


def _on_dask(arguments):
    """The command line of stellarhml on a cluster of two processes."""
    import joblib
    from dask.distributed import Client

    from stellarhml.cli.main import main

    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None), joblib.parallel_config(backend="dask"):
        return main(arguments)


if __name__ == "__main__":
    sys.exit(_on_dask(sys.argv[1:]))
