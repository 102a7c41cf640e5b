"""Memory of `stellarhml build` against the number of nodes: 33, 66 and 99 full-band SME spectra, one process.

Run: python benchmarks/build_memory.py [--nodes 33 66 99] [--band LO HI] [--folder FOLDER]

Writes the SME grid (338,651 pixels a spectrum) as a PHOENIX folder, and builds a generator of one, two and three
metallicities, each in a process of its own. Prints the peak of the process's own memory (RssAnon of Linux) and of all
its memory (VmHWM), which includes pages of the memory-mapped spectra that the system can drop at any time; what both
grow by for each node; and the memory that the spectra would take. With --folder, the stores stay there, and a build
that was interrupted goes on; its memory is then that of what was left to do.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from shared import finish, load_tool

METALLICITIES = {33: -0.5, 66: 0.0, 99: 0.5}  # nodes up to this [Fe/H] [dex]
_INTERVAL = 0.02  # s


def memory(name):
    """A memory figure of this process, in MB, by its name in /proc."""
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def job(arguments):
    """Run a build, and print the peaks of its memory."""
    from stellarhml.cli.main import main

    peak, done = [0.0], threading.Event()

    def watch():
        while not done.wait(_INTERVAL):
            peak[0] = max(peak[0], memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        code = main(["build", *arguments])
    finally:
        done.set()
        watcher.join()
    print(f"PEAK {peak[0]:.1f} {memory('VmHWM'):.1f}")
    return code


def measure(folder, n_nodes, band):
    """Peaks of a build of `n_nodes`, in MB: its own memory, and all."""
    out = folder / f"generator{n_nodes}.asdf"
    arguments = ["--phoenix", folder / "phoenix", "--feh", -0.5, METALLICITIES[n_nodes], "--out", out]
    arguments += ["--store", folder / f"store{n_nodes}", "--wavelength", *band, "--jobs", 1]
    command = [sys.executable, __file__, "--job", *arguments]
    text = subprocess.run([str(part) for part in command], check=True, text=True, stdout=subprocess.PIPE).stdout
    print(text, end="", flush=True)
    return tuple(float(value) for value in re.search(r"PEAK (\S+) (\S+)", text).groups())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", choices=METALLICITIES, default=list(METALLICITIES))
    parser.add_argument("--band", type=float, nargs=2, metavar=("LO", "HI"), default=(8038.0, 12849.0))
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        if not (folder / "phoenix").exists():
            load_tool("shared_data").write_phoenix_layout(folder / "phoenix")
        begin = time.perf_counter()
        peaks = np.array([measure(folder, n_nodes, args.band) for n_nodes in args.nodes])
        n_bytes = np.load(folder / f"store{args.nodes[-1]}" / "flux.npy", mmap_mode="r").nbytes
    slope = np.polyfit(args.nodes, peaks, 1)[0].tolist() if len(args.nodes) > 1 else None
    for n_nodes, (own, everything) in zip(args.nodes, peaks, strict=True):
        print(f"{n_nodes} nodes: {own:.0f} MB of its own, {everything:.0f} MB with mapped files")
    if slope is not None:
        print(f"each node: {slope[0]:.2f} MB of its own, {slope[1]:.2f} MB with mapped files")
    finish(
        benchmark="build_memory",
        nodes=args.nodes,
        own_mb=peaks[:, 0].tolist(),
        all_mb=peaks[:, 1].tolist(),
        mb_per_node=slope,
        mb_of_a_spectrum=n_bytes / args.nodes[-1] / 2**20,
        wall_s=time.perf_counter() - begin,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        sys.exit(job(sys.argv[2:]))
    main()
