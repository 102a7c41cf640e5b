"""How accuracy, size and time of a generator go with the number of nodes and with the prominence of lines.

Run: python benchmarks/generator_scaling.py [--low 8400 --high 8800] [--jobs 2] [--out generator_scaling.png]

A window of the SME grid: 18, 36 and 66 nodes (every fifth, every second, every Teff), and a prominence of 0.01, 0.005
and 0.0025 of the continuum on all 66. Errors are those of 24 stars between the nodes, beside interpolation of pixels.
"""

import argparse
import time
import warnings

import numpy as np
from generator import median_time, pixel_errors, rms, table_bytes
from shared import finish, load_tool

from stellarhml import SpectrumGenerator, VoigtLineDecomposer
from stellarhml.exceptions import StellarHMLWarning

STEPS = {18: 500.0, 36: 200.0, 66: 100.0}
PROMINENCES = (0.01, 0.005, 0.0025)


def measure(wavelength, labels, flux, stars, truth, prominence, jobs):
    """Fit a generator; what it costs and what it gives."""
    decomposer = VoigtLineDecomposer(prominence=prominence)
    begin = time.perf_counter()
    generator = SpectrumGenerator(wavelength=wavelength, decomposer=decomposer, n_jobs=jobs).fit(labels, flux)
    fit_s = time.perf_counter() - begin
    lines = np.stack([generator.lines_.render(generator.interpolator_.locate(x[None])[0]) for x in stars])
    pixels = pixel_errors(labels, flux, stars, truth)
    return {
        "nodes": len(labels),
        "prominence": prominence,
        "lines": generator.interpolator_.table_.n_lines,
        "rms": float(np.median(rms(generator.predict(stars), truth))),
        "lines_alone": float(np.median(rms(lines, truth))),
        **{name: float(np.median(value)) for name, value in pixels.items()},
        "table_kb": sum(table_bytes(generator)) / 1e3,
        "fit_s": fit_s,
        "ms": 1e3 * median_time(lambda: generator.predict(stars[:1]))[0],
    }


def draw(rows, path):
    """Errors, size and time against nodes and against prominence."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 2, figsize=(8, 8), sharex="col", layout="constrained")
    series = (
        ("nodes", [r for r in rows if r["prominence"] == 0.005]),
        ("prominence", [r for r in rows if r["nodes"] == 66]),
    )
    for column, (name, chosen) in zip(axes.T, series, strict=True):
        chosen = sorted(chosen, key=lambda row: row[name])
        x = [row[name] for row in chosen]
        for key, style in (("rms", "o-"), ("lines_alone", "s--"), ("pixel-linear", "^:"), ("pixel-cubic", "v:")):
            column[0].plot(
                x, [row[key] for row in chosen], style, label={"rms": "generator"}.get(key, key.replace("_", " "))
            )
        column[1].plot(x, [row["table_kb"] for row in chosen], "o-", label="tables [kB]")
        column[1].plot(x, [row["lines"] for row in chosen], "s--", label="lines")
        column[2].plot(x, [row["fit_s"] for row in chosen], "o-", label="fit [s]")
        column[2].plot(x, [row["ms"] for row in chosen], "s--", label="a spectrum [ms]")
        for axis in column:
            axis.set(xscale="log", ylim=(0, None))
            axis.set_xticks(x, [f"{value:g}" for value in x], minor=False)
            axis.minorticks_off()
            axis.legend(fontsize="small")
        column[2].set_xlabel({"nodes": "Nodes", "prominence": "Prominence [continuum]"}[name])
    axes[0, 0].set_ylabel("Median flux RMS between nodes")
    figure.savefig(path, dpi=150)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--low", type=float, default=8400.0, help="first wavelength [vacuum angstrom]")
    parser.add_argument("--high", type=float, default=8800.0, help="last wavelength [vacuum angstrom]")
    parser.add_argument("--jobs", type=int, default=2, help="workers for fitting")
    parser.add_argument("--out", default="generator_scaling.png", help="picture")
    args = parser.parse_args()
    warnings.simplefilter("ignore", StellarHMLWarning)
    tool = load_tool("shared_data")
    grid, stars = tool.sme_hpf_grid(normalised=True), tool.sme_hpf_offgrid(normalised=True)
    inside = (grid["wavelength"] >= args.low) & (grid["wavelength"] <= args.high)
    wavelength, truth = grid["wavelength"][inside], stars["flux"][:, inside]
    kept = grid["labels"][:, 2] < 0.25
    labels, flux = grid["labels"][kept], grid["flux"][kept][:, inside]
    plans = [(nodes, 0.005) for nodes in STEPS] + [(66, p) for p in PROMINENCES if p != 0.005]
    rows = []
    for nodes, prominence in plans:
        use = (labels[:, 0] - 5000.0) % STEPS[nodes] == 0
        rows.append(measure(wavelength, labels[use], flux[use], stars["labels"], truth, prominence, args.jobs))
        if len(rows) == 1:
            print(" ".join(f"{name:>13}" for name in rows[0]))
        print(" ".join(f"{value:13.5g}" for value in rows[-1].values()), flush=True)
    draw(rows, args.out)
    finish(benchmark="generator_scaling", window=[args.low, args.high], rows=rows)


if __name__ == "__main__":
    main()
