"""Cut the packaged mini grid out of the shared SME spectra.

    python tools/make_mini_grid.py --shared ../shared --out stellarhml/datasets/data/mini_grid.npz

Keeps the pixels from 8450 to 8700 angstrom, the nodes at [Fe/H] -0.5 and 0, and every fourth off-grid spectrum. The
16-bit fractions are stored as second differences modulo 2**16, which halves the compressed size and is exact.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np

from stellarhml.datasets._mini_grid import mini_grid_wavelength
from stellarhml.storage.atomic_files import atomic_path

MAX_BYTES = 3_000_000  # what the package may carry


def main():
    """Read, cut, encode, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and tools/")
    parser.add_argument("--out", type=Path, default=Path("stellarhml/datasets/data/mini_grid.npz"))
    arguments = parser.parse_args()

    spec = importlib.util.spec_from_file_location("shared_data", arguments.shared / "tools" / "shared_data.py")
    shared_data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shared_data)
    window = _window(shared_data.phoenix_wavelength(), mini_grid_wavelength())

    arrays = {}
    for name, which in (("sme_hpf_grid", ""), ("sme_hpf_offgrid", "_offgrid")):
        with np.load(arguments.shared / "data" / f"{name}.npz", allow_pickle=False) as data:
            labels = data["labels"]
            rows = slice(None, None, 4) if which else np.isin(labels[:, 2], (-0.5, 0.0))
            knots = data["knot"]
            inside = (knots >= window.start) & (knots < window.stop)
            if knots[inside][0] != window.start or knots[inside][-1] != window.stop - 1:
                raise SystemExit(f"{name}: the window must begin and end at a knot of the continuum.")
            arrays["knot"] = knots[inside] - window.start
            arrays["labels" + which] = labels[rows]
            arrays["continuum" + which] = data["continuum"][rows][:, inside]
            arrays["code" + which] = _difference(_difference(data["code"][rows, window]))

    with atomic_path(arguments.out) as temporary:
        np.savez_compressed(temporary, **arrays)
    size = arguments.out.stat().st_size
    print(f"{arguments.out}: {size} bytes, " + ", ".join(f"{k} {v.shape}" for k, v in arrays.items()))
    if size > MAX_BYTES:
        raise SystemExit(f"{size} bytes are more than the {MAX_BYTES} that the package may carry.")


def _window(wavelength, cut):
    """Slice of `wavelength` that equals `cut`."""
    start = int(np.searchsorted(wavelength, cut[0]))
    window = slice(start, start + cut.size)
    if not np.array_equal(wavelength[window], cut):
        raise SystemExit("The pixels of the mini grid are not a run of the pixels of the shared grid.")
    return window


def _difference(code):
    """Differences along each row, modulo 2**16, beginning with the first value itself."""
    return np.diff(code, axis=1, prepend=np.uint16(0))


if __name__ == "__main__":
    main()
