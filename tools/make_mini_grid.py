"""Cut the packaged mini grid out of the shared SME spectra.

    python tools/make_mini_grid.py --shared ../shared --out stellarhml/datasets/data/mini_grid.npz

Keeps the pixels from 8450 to 8700 angstrom, the nodes at [Fe/H] -0.5 and 0, every fourth off-grid spectrum, and those
of other physics (mismatch_dev) that lie well inside these nodes. The 16-bit fractions are stored as second differences
modulo 2**16, which halves the compressed size and is exact. Of the line list behind the grid it keeps the transitions
that make the lines of the grid's generator, which it fits for this.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from stellarhml._validation import LABELS
from stellarhml.datasets._mini_grid import decode, mini_grid_wavelength
from stellarhml.lines.line_lists import LineList, read_line_list
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.workflows.generators import build_generator

MAX_BYTES = 3_000_000  # what the package may carry
MARGIN = (100.0, 0.1, 0.05)  # K, dex, dex: stars of other physics are at least this far inside the grid
LEAST = 0.01  # a transition with less than this of the strength of the strongest in its line is left out
REACH, SCALE = 0.09, 0.03  # angstrom: transitions of a line, and the width of their weight, as when lines are tagged


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
    arrays |= _other_stars(arguments.shared / "data" / "mismatch_dev.npz", window, arrays["labels"], arrays["knot"])
    transitions = _transitions(arrays, shared_data.line_list("hpf"))
    arrays |= {f"line_{name}": column for name, column in transitions._asdict().items()}

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


def _other_stars(path, window, nodes, knots):
    """Arrays of the stars of other physics inside the nodes (n_nodes, 3), their continua at `knots` (n_knots,)."""
    with np.load(path, allow_pickle=False) as data:
        labels = data["labels"]
        inside = (labels >= nodes.min(axis=0) + MARGIN) & (labels <= nodes.max(axis=0) - MARGIN)
        rows = inside.all(axis=1)
        differ = data["x_fe"].any(axis=0)  # [Fe/Fe] is zero
        levels = [np.interp(knots + window.start, data["knot"], level) for level in data["continuum"][rows]]
        return {
            "labels_other": labels[rows],
            "continuum_other": np.array(levels),
            "code_other": _difference(_difference(data["code"][rows, window])),
            "vmic_other": data["vmic"][rows],
            "x_fe_other": data["x_fe"][rows][:, differ],
            "elements": data["elements"][differ],
        }


def _transitions(arrays, path):
    """LineList of the transitions that make the lines of a generator of the grid."""
    wavelength, labels = mini_grid_wavelength(), arrays["labels"]
    flux = decode(arrays["code"], arrays["continuum"], wavelength[arrays["knot"]], wavelength)
    generator = build_generator(Bunch(flux=flux, labels=labels, wavelength=wavelength, label_names=LABELS), n_jobs=2)
    transitions = read_line_list(path)
    tags = generator.tag_lines(transitions).tags_
    zero_points = dict(zip(tags.species, np.nan_to_num(tags.zero_points), strict=True))
    kept = np.zeros(len(transitions.wavelength), dtype=bool)
    for center in generator.decomposer_.line_catalog_[tags.tagged]:
        near = slice(*np.searchsorted(transitions.wavelength, (center - REACH, center + REACH)))
        distance = (transitions.wavelength[near] - center) / SCALE
        strength = transitions.log_gf[near] - 5040.0 / labels[:, 0].mean() * transitions.excitation[near]
        strength += [zero_points[species] for species in transitions.species[near]]
        strength -= 0.5 * distance**2 / np.log(10)
        kept[near] |= strength >= strength.max(initial=-np.inf) + np.log10(LEAST)
    return LineList(*(column[kept] for column in transitions))


def _difference(code):
    """Differences along each row, modulo 2**16, beginning with the first value itself."""
    return np.diff(code, axis=1, prepend=np.uint16(0))


if __name__ == "__main__":
    main()
