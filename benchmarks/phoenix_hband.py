"""Real PHOENIX spectra, H band: held-out planes and nodes against pixel-by-pixel linear interpolation.

Run: python benchmarks/phoenix_hband.py [--low 15500 --high 16000] [--jobs 2] [--paper]

1. The generator is built on every second Teff plane of a window, the planes between are predicted.
2. Ten interior nodes are held out at once, and their labels inferred from their noise-free spectra by a regressor that
   is fitted on all others. (`cross_val_predict` itself demands that every node be held out, the edges too.)

The first beside linear interpolation of the pixels of the same normalised spectra between the same nodes.
"""

import argparse
import time
import warnings

import numpy as np
from shared import finish, load_tool
from sklearn.base import clone

from stellarhml import (
    BayesianStellarRegressor,
    LineManifoldInterpolator,
    PhoenixPreprocessor,
    SpectrumGenerator,
    VoigtLineDecomposer,
)
from stellarhml.exceptions import StellarHMLWarning
from stellarhml.model_selection import LeaveOneNodeOut
from stellarhml.pipeline import PAPER_SETTINGS

N_NODES = 10


def rms(a, b):
    return np.sqrt(np.mean((a - b) ** 2, axis=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--low", type=float, default=15500, help="first wavelength [vacuum angstrom]")
    parser.add_argument("--high", type=float, default=16000, help="last wavelength [vacuum angstrom]")
    parser.add_argument("--search", default="bayes", choices=["bayes", "nodes"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--paper", action="store_true", help="the paper's settings, margins scaled to the window")
    args = parser.parse_args()
    warnings.simplefilter("ignore", StellarHMLWarning)

    data = load_tool("shared_data").phoenix_hband()
    inside = (data["wavelength"] >= args.low) & (data["wavelength"] <= args.high)
    wavelength, raw, labels = data["wavelength"][inside], data["flux"][:, inside].astype(np.float64), data["labels"]
    settings = {name: dict(values) for name, values in PAPER_SETTINGS.items()} if args.paper else {}
    settings.setdefault("decomposer", {})
    if args.paper:
        settings["decomposer"] |= {"line_margin": 0.0, "loss_margin": 0.0}
    preprocessor = PhoenixPreprocessor(
        wavelength=wavelength, **{**settings.get("preprocessor", {}), "degree": 2, "peak_distance": 800}
    )
    generator = SpectrumGenerator(
        preprocessor=preprocessor,
        decomposer=VoigtLineDecomposer(**settings["decomposer"]),
        interpolator=LineManifoldInterpolator(**settings.get("interpolator", {})),
        n_jobs=args.jobs,
        **settings.get("generator", {}),
    )
    print(f"{len(labels)} spectra of {wavelength.size} pixels, {args.low:g}-{args.high:g} angstrom; paper={args.paper}")

    planes = np.unique(labels[:, 0])
    out = np.isin(labels[:, 0], planes[1:-1:2])
    kept = ~out & (labels[:, 0] <= planes[-1 if len(planes) % 2 else -2])
    begin = time.perf_counter()
    model = clone(generator).fit(labels[kept], raw[kept])
    build_s = time.perf_counter() - begin
    use = out & (labels[:, 0] < labels[kept, 0].max())
    truth = model.normalise(raw[use], labels[use])
    linear = LineManifoldInterpolator(method="linear").fit(labels[kept], model.normalise(raw[kept], labels[kept]))
    lines_only = model.decomposer_.inverse_transform(model.interpolator_.predict(labels[use]))
    errors = {
        "generator": rms(model.predict(labels[use]), truth),
        "its lines alone": rms(lines_only, truth),
        "pixel-linear": rms(linear.predict(labels[use]), truth),
    }
    print(f"built on {kept.sum()} nodes in {build_s:.0f} s: {len(model.decomposer_.line_catalog_)} lines")
    print(f"{'left-out plane [K]':>20}" + "".join(f"{name:>18}" for name in errors) + "   (median flux RMS)")
    for teff in np.unique(labels[use, 0]):
        at = labels[use, 0] == teff
        print(f"{teff:20.0f}" + "".join(f"{np.median(value[at]):18.5f}" for value in errors.values()))
    medians = {name: float(np.median(value)) for name, value in errors.items()}
    print(f"{'all':>20}" + "".join(f"{value:18.5f}" for value in medians.values()))

    folds = [test for _, test in LeaveOneNodeOut().split(raw, labels)]
    held_out = np.concatenate(folds[:: max(len(folds) // N_NODES, 1)][:N_NODES])
    rest = np.setdiff1d(np.arange(len(labels)), held_out)
    search = {**settings.get("regressor", {}), "search": args.search}
    regressor = BayesianStellarRegressor(generator=generator, random_state=0, n_jobs=args.jobs, **search)
    # a node that is missing from the grid is interpolated between its neighbours: no full grid can be asked for
    regressor.set_params(generator__interpolator__method="auto")
    regressor.fit(raw[rest], labels[rest])
    begin = time.perf_counter()
    found = regressor.predict(raw[held_out])
    seconds = (time.perf_counter() - begin) / len(held_out)
    difference = found - labels[held_out]
    for label, row in zip(labels[held_out], difference, strict=True):
        print("held out {:.0f} {:.1f} {:+.1f}: error {:+7.1f} K {:+.3f} {:+.3f}".format(*label, *row))
    mae = np.abs(difference).mean(axis=0)
    print("mean absolute error {:.1f} K, {:.3f}, {:.3f}; {:.1f} s a star".format(*mae, seconds))
    finish(
        benchmark="phoenix_hband",
        median_rms=medians,
        ratio_to_pixel_linear=medians["generator"] / medians["pixel-linear"],
        mean_absolute_error=mae.tolist(),
        seconds_a_star=seconds,
        build_seconds=build_s,
        paper=args.paper,
    )


if __name__ == "__main__":
    main()
