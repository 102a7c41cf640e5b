"""The spectrum generator: accuracy, size, time and memory, beside interpolation of the pixels of the same spectra.

Run: python benchmarks/generator.py [--parts sme hband map gpu] [--low 14424 --high 18187] [--jobs 2] [--folder FOLDER]

sme    66 full-band SME spectra: 24 stars between the nodes, size of the tables, time to open, milliseconds a spectrum,
       a window, a Jacobian, and the memory that each takes. Fitting takes three minutes on two cores.
hband  PHOENIX spectra: built on every second Teff plane, 108 nodes, the planes between predicted. The whole band takes
       15 minutes; `--low`, `--high` choose a window.
map    the same, all 216 nodes: the error of every node that can be left out.
gpu    spectra a second in batches, with `device="cuda"`; needs a GPU, and the generator that `sme` left in the folder.

Fitted generators and pictures go to `--folder`. Times are medians on one core.
"""

import argparse
import subprocess
import sys
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
from shared import finish, load_tool, peak_memory_mb

from stellarhml import LineManifoldInterpolator, PhoenixPreprocessor, SpectrumGenerator, VoigtLineDecomposer, load, save
from stellarhml.exceptions import StellarHMLWarning
from stellarhml.kernels.rendering import render_lines

PAPER_NODES, PAPER_LINES = 1314, 128723
FACTORS, RANK = 32, 64  # supposed for the paper's grid
OPEN = """
import time, warnings
import numpy, joblib, torch, stellarhml, stellarhml.storage.saving
from stellarhml import SpectrumGenerator, load
import stellarhml.storage.asdf_files, stellarhml.kernels.rendering
begin = time.perf_counter()
load({path!r}, mmap_mode="r")
print(time.perf_counter() - begin)
"""


def rms(a, b):
    return np.sqrt(np.mean((np.asarray(a, dtype=np.float64) - b) ** 2, axis=1))


def median_time(function, n=15):
    """Median seconds of a call, and the megabytes that it allocates at most."""
    function()
    seconds = []
    for _ in range(n):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return float(np.median(seconds)), peak


def pixel_errors(labels, flux, wanted, truth):
    """Errors of linear and of cubic interpolation of the pixels."""
    linear = LineManifoldInterpolator(method="linear").fit(labels, flux)
    cubic = LineManifoldInterpolator(variables={}).fit(labels, flux)
    return {
        "pixel-linear": rms(linear.predict(wanted), truth),
        "pixel-cubic": rms(cubic.predict(wanted), truth),
    }


def table_bytes(generator):
    return generator.interpolator_.table_.nbytes, generator.residual_.nbytes


def open_seconds(path):
    """Seconds to open a generator memory-mapped, in a process that has the packages loaded."""
    code = OPEN.format(path=str(path))
    runs = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in "123"]
    return float(np.median(runs))


def sme(args):
    tool = load_tool("shared_data")
    grid, stars = tool.sme_hpf_grid(normalised=True), tool.sme_hpf_offgrid(normalised=True)
    kept = grid["labels"][:, 2] < 0.25
    labels, flux, wavelength = grid["labels"][kept], grid["flux"][kept], grid["wavelength"]
    begin = time.perf_counter()
    generator = SpectrumGenerator(wavelength=wavelength, n_jobs=args.jobs).fit(labels, flux)
    fit_s = time.perf_counter() - begin
    for suffix in ("joblib", "asdf"):
        save(generator, args.folder / f"sme.{suffix}")
    wanted, truth = stars["labels"], stars["flux"]
    flux_of, std = generator.predict(wanted, return_std=True)
    lines_alone = np.stack([generator.lines_.render(generator.interpolator_.locate(x[None])[0]) for x in wanted])
    errors = {
        "generator": rms(flux_of, truth),
        "its lines alone": rms(lines_alone, truth),
        **pixel_errors(labels, flux, wanted, truth),
    }
    print(
        f"SME: {len(labels)} nodes of {len(wavelength)} pixels, fitted in {fit_s:.0f} s on {args.jobs} cores; ", end=""
    )
    print(f"{generator.interpolator_.table_.n_lines} lines, rank of residuals {generator.residual_.rank}")
    print("24 stars between the nodes, flux RMS: median, largest")
    for name, value in errors.items():
        print(f"{name:>18} {np.median(value):.5f} {value.max():.5f}")
    expected = float(np.median(np.sqrt((std**2).mean(axis=1))))
    miss = np.abs(flux_of - truth)
    within = [float(np.mean(miss < k * std)) for k in (1, 2)]
    print(f"expected error {expected:.5f}; {within[0]:.0%} of pixels within one, {within[1]:.0%} within two std")

    bank, residual = table_bytes(generator)
    ratio = flux.nbytes / (bank + residual)
    opened = {suffix: open_seconds(args.folder / f"sme.{suffix}") for suffix in ("joblib", "asdf")}
    print(f"tables {bank / 1e6:.2f} + {residual / 1e6:.2f} MB, 1/{ratio:.1f} of the float32 grid; ", end="")
    print("memory-mapped open " + ", ".join(f"{name} {1e3 * s:.0f} ms" for name, s in opened.items()))
    n_parameters = len(generator.decomposer_.line_parameters)
    projected = PAPER_LINES * n_parameters * (2 * FACTORS + 12) + residual * RANK / generator.residual_.rank
    print(f"projected for {PAPER_NODES} nodes, {PAPER_LINES} lines, {FACTORS} factors, rank {RANK}: ", end="")
    print(f"{projected / 1e6:.0f} MB (published: 13,200 MB; float32 grid {PAPER_NODES * flux[0].nbytes / 1e6:.0f} MB)")

    return {
        "median_rms": {name: float(np.median(value)) for name, value in errors.items()},
        "largest_rms": float(errors["generator"].max()),
        "expected_rms": expected,
        "within_std": within,
        "fit_s": fit_s,
        "table_mb": [bank / 1e6, residual / 1e6],
        "grid_over_tables": ratio,
        "open_s": opened,
        "projected_mb": projected / 1e6,
        **speed(args, generator, wanted),
    }


def speed(args, generator, stars):
    """Time and memory of rendering."""
    generator = load(args.folder / "sme.asdf", mmap_mode="r")
    x, wavelength = stars[:1], generator.wavelength_
    batch = np.resize(stars, (60, stars.shape[1]))
    windows = [slice(*np.searchsorted(wavelength, (low, low + 200.0))) for low in (8400.0, 9600.0, 10400.0, 12200.0)]
    calls = {
        "full band": lambda: generator.predict(x),
        "batch of 60": lambda: generator.predict(batch),
        "Jacobian": lambda: generator.jacobian(x),
        "1,000 pixels": lambda: generator.predict(x, pixels=np.arange(0, 300_000, 300)),
        "full band, rv": lambda: generator.predict(x, rv=30.0),
    }
    measured = {name: median_time(call, 5 if "60" in name else 15) for name, call in calls.items()}
    whole = measured["full band"][0]
    for name, (seconds, peak) in measured.items():
        each = seconds / (60 if "60" in name else 1)
        print(f"{name:>18} {1e3 * each:6.2f} ms a spectrum, {peak:6.1f} MB")
    shares = []
    for window in windows:
        seconds, peak = median_time(lambda window=window: generator.predict(x, pixels=window), 50)
        share = (window.stop - window.start) / len(wavelength)
        shares.append(seconds / whole / share)
        print(f"200 angstrom from {wavelength[window.start]:8.0f} {1e3 * seconds:6.2f} ms, {peak:.1f} MB: ", end="")
        print(f"{shares[-1]:.2f} times the share of its {window.stop - window.start} pixels")
    # the same model with every line on fixed windows, every pixel by itself
    _, theta, _ = generator.lines_.lines(generator.interpolator_.locate(x)[0])
    lines = generator.lines_.render(generator.interpolator_.locate(x)[0])
    apart = {}
    for wing_cut in (6000, 2 * len(wavelength)):
        fixed = render_lines(wavelength, theta, profile=generator.lines_.profile, wing_cut=wing_cut)
        apart[wing_cut] = float(np.abs(lines - fixed).max())
    jacobian = measured["Jacobian"][0] / whole
    print(f"largest difference from windows of 6,000 pixels {apart[6000]:.1e}, ", end="")
    print(f"from whole spectra {apart[2 * len(wavelength)]:.1e}; Jacobian over forward {jacobian:.2f}")
    return {
        "ms": {name: 1e3 * seconds / (60 if "60" in name else 1) for name, (seconds, _) in measured.items()},
        "mb": {name: peak for name, (_, peak) in measured.items()},
        "window_over_share": shares,
        "jacobian_over_forward": jacobian,
        "difference_from_6000_px": apart[6000],
        "difference_from_whole": apart[2 * len(wavelength)],
        "process_mb": peak_memory_mb(),
    }


def read_hband(args):
    """Spectra, normalised once, the same for all that is compared."""
    data = load_tool("shared_data").phoenix_hband()
    inside = (data["wavelength"] >= args.low) & (data["wavelength"] <= args.high)
    wavelength, labels = data["wavelength"][inside], data["labels"]
    preprocessor = PhoenixPreprocessor(wavelength=wavelength)
    flux = preprocessor.fit_transform(data["flux"][:, inside].astype(np.float64), teff=labels[:, 0])
    return wavelength, labels, flux.astype(np.float32)


def hband(args):
    wavelength, labels, flux = read_hband(args)
    planes = np.unique(labels[:, 0])
    out, kept = np.isin(labels[:, 0], planes[1:-2:2]), np.isin(labels[:, 0], planes[:-1:2])
    truth = flux[out]
    errors, tables = {}, {}
    # the grid jumps between 5000 and 5100 K, as its own third differences show where every plane is there
    jump = {"interpolator": LineManifoldInterpolator(breaks={"teff": [5050.0]})}
    variants = {"generator": {}, "rank 64": {"residual_rank": 64}, "rank 64, break": {"residual_rank": 64, **jump}}
    for name, settings in variants.items():
        # lines are fitted once: the next generator finds them in the store
        decomposer = VoigtLineDecomposer(store=args.folder / "fits")
        begin = time.perf_counter()
        generator = SpectrumGenerator(wavelength=wavelength, decomposer=decomposer, n_jobs=args.jobs, **settings)
        errors[name] = rms(generator.fit(labels[kept], flux[kept]).predict(labels[out]), truth)
        tables[name] = sum(table_bytes(generator))
        print(
            f"{name}: fitted in {time.perf_counter() - begin:.0f} s, {generator.interpolator_.table_.n_lines} lines, ",
            end="",
        )
        print(
            f"rank {generator.residual_.rank}, 1/{flux[kept].nbytes / tables[name]:.1f} of the float32 grid", flush=True
        )
    errors |= pixel_errors(labels[kept], flux[kept], labels[out], truth)
    better = np.minimum(errors["pixel-linear"], errors["pixel-cubic"])
    print(f"PHOENIX, {kept.sum()} nodes of {len(wavelength)} pixels: median flux RMS by left-out plane")
    print(f"{'Teff [K]':>10}" + "".join(f"{name:>16}" for name in errors))
    ratios = {name: {} for name in variants}
    for teff in np.unique(labels[out, 0]):
        at = labels[out, 0] == teff
        row = {name: float(np.median(value[at])) for name, value in errors.items()}
        print(f"{teff:10.0f}" + "".join(f"{value:16.5f}" for value in row.values()))
        for name in variants:
            ratios[name][teff] = row[name] / min(row["pixel-linear"], row["pixel-cubic"])
    found = {}
    for name in variants:
        found[name] = [float(np.median(errors[name] / better)), max(ratios[name].values())]
        print("{}: ratio to the better of the pixels: median {:.2f}, worst plane {:.2f}".format(name, *found[name]))
    return {
        "median_rms": {name: float(np.median(value)) for name, value in errors.items()},
        "median_and_worst_ratio": found,
        "ratio_by_plane": ratios,
        "grid_over_tables": {name: flux[kept].nbytes / value for name, value in tables.items()},
    }


def error_map(args):
    wavelength, labels, flux = read_hband(args)
    generator = SpectrumGenerator(wavelength=wavelength, n_jobs=args.jobs).fit(labels, flux)
    save(generator, args.folder / "hband.asdf")
    table = generator.error_map_.to_frame()
    table = table[table["measured"]]
    print(f"PHOENIX, 216 nodes of {len(wavelength)} pixels: RMS of nodes that are predicted without themselves")
    print(table.groupby("along")["rms"].describe()[["count", "50%", "max"]].to_string())
    along = table[table["along"] == "teff"]
    print("along Teff, median of the planes: ", end="")
    planes = along.groupby("teff")["rms"].median()
    print(", ".join(f"{teff:.0f} K {value:.5f}" for teff, value in planes.items()))
    draw(generator, args.folder / "hband_errors.png")
    return {"left_out_rms": table.groupby("along")["rms"].median().to_dict(), "along_teff": planes.to_dict()}


def draw(generator, path):
    import matplotlib

    matplotlib.use("Agg")
    from stellarhml.plotting import ErrorMapDisplay

    ErrorMapDisplay.from_estimator(generator).figure_.savefig(path, dpi=150)
    print(f"map of the error: {path}")


def gpu(args):
    import torch

    if not torch.cuda.is_available():
        print("gpu: no GPU here")
        return {"skipped": "no GPU"}
    generator = load(args.folder / "sme.asdf").set_params(device="cuda")
    low, high = generator.interpolator_.bounds_.T
    labels = np.random.default_rng(0).uniform(low, high, (64, len(low)))
    found = {}
    for n in (1, 8, 64):
        seconds, _ = median_time(lambda n=n: generator.predict(labels[:n]), 5)
        found[n] = n / seconds
        print(f"gpu: batches of {n}: {found[n]:.1f} spectra a second")
    apart = np.abs(generator.predict(labels[:8]) - generator.set_params(device=None).predict(labels[:8])).max()
    print(f"gpu: largest difference from the CPU {apart:.1e}")
    return {"device": torch.cuda.get_device_name(), "spectra_per_second": found, "difference_from_cpu": float(apart)}


PARTS = {"sme": sme, "hband": hband, "map": error_map, "gpu": gpu}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--low", type=float, default=14424, help="first wavelength of the H band [vacuum angstrom]")
    parser.add_argument("--high", type=float, default=18187, help="last wavelength of the H band [vacuum angstrom]")
    parser.add_argument("--jobs", type=int, default=2, help="workers for fitting")
    parser.add_argument("--folder", type=Path, default=Path("generator-benchmark"), help="where results go")
    args = parser.parse_args()
    warnings.simplefilter("ignore", StellarHMLWarning)
    args.folder.mkdir(parents=True, exist_ok=True)
    finish(benchmark="generator", **{part: PARTS[part](args) for part in args.parts})


if __name__ == "__main__":
    main()
