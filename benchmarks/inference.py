"""Inference from spectra of stars that the generator has not seen: accuracy, coverage and time.

Run: python benchmarks/inference.py [--parts rest mock window faint cost hband star] [--seeds 2] [--nodes 99] [--jobs 2]
     [--folder FOLDER]

rest    24 off-grid SME stars at rest, without noise, full band: `predict` on the generator's own pixels.
mock    the same stars through ../shared/tools/mock_observation.py (28 orders like HPF's, R 55,000, S/N 100, velocities
        within +-50 km/s, vsini 2 to 15 km/s, throughput curves), with other velocities and noise for each seed: errors,
        coverage of the 68 % and 95 % intervals, ranks of the truth among draws from the posterior, seconds a star; and
        what the intervals hold without the generator's own error.
window  the same on 8450 to 8850 angstrom alone.
faint   the same at S/N 30.
cost    seconds a star against the number of pixels and the number of free parameters.
hband   real PHOENIX spectra of the H band: nodes held out of the grid, as IGRINS would see them, S/N 100, velocity and
        rotation free. Lines are decomposed once for all nodes; interpolation, residuals and errors are learnt anew
        without the held-out nodes, which are never neighbours of each other.
star    a real star, S1063 as IGRINS saw it, with a picture.

Generators are fitted once and kept in --folder; --nodes 66 leaves out the plane of [Fe/H] = 0.5 of the SME grid.
"""

import argparse
import itertools
import time
import warnings
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.interpolate import CubicSpline
from shared import finish, load_tool, peak_memory_mb

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator, VoigtLineDecomposer, load, save
from stellarhml.exceptions import StellarHMLWarning
from stellarhml.inference import results_table
from stellarhml.spectra import read_spectrum
from stellarhml.synthesis.decomposed_grid import decompose_grid

RESULTS = Path(__file__).parent / "results"
RESOLVING_POWER, HBAND_POWER = 55_000, 45_000
N_FOLDS = 6
N_BINS = 8


def sme_generator(args):
    """Generator of the full band, fitted once."""
    path = args.folder / f"sme{args.nodes}.asdf"
    if not path.is_file():
        grid = load_tool("shared_data").sme_hpf_grid(normalised=True)
        kept = grid["labels"][:, 2] < (1 if args.nodes == 99 else 0.25)
        generator = SpectrumGenerator(wavelength=grid["wavelength"], n_jobs=args.jobs)
        save(generator.fit(grid["labels"][kept], grid["flux"][kept]), path)
    return load(path)


def rest(args):
    stars = load_tool("shared_data").sme_hpf_offgrid(normalised=True)
    begin = time.perf_counter()
    regressor = BayesianStellarRegressor.from_generator(sme_generator(args), n_jobs=args.jobs)
    print(f"regressor ready after {time.perf_counter() - begin:.1f} s")
    begin = time.perf_counter()
    found, std = regressor.predict(stars["flux"], return_std=True)
    seconds = (time.perf_counter() - begin) / len(found)
    difference = found - stars["labels"]
    mae = np.abs(difference).mean(axis=0)
    text = "at rest, no noise: mean absolute error {:.2f} K, {:.4f}, {:.4f}; worst {:.1f} K, {:.3f}, {:.3f}; {:.2f} s"
    print(text.format(*mae, *np.abs(difference).max(axis=0), seconds))
    within = np.mean(np.abs(difference) < std, axis=0)
    print("within one standard deviation: " + ", ".join(f"{100 * share:.0f} %" for share in within))
    return {"mean_absolute_error": mae.tolist(), "within_std": within.tolist(), "seconds_a_star": seconds}


def observe_stars(args, *, snr, window=None):
    """Mock observations: spectra, true parameters."""
    tool, mock = load_tool("shared_data"), load_tool("mock_observation")
    stars, pixels = tool.sme_hpf_offgrid(), mock.hpf_pixels()
    if window is not None:
        pixels = [order[(order > window[0]) & (order < window[1])] for order in pixels]
        pixels = [order for order in pixels if len(order) > 100]
    spectra, truth = [], []
    for seed in range(args.seeds):
        rng = np.random.default_rng(1000 + seed)
        for i, (labels, flux) in enumerate(zip(stars["labels"], stars["flux"], strict=True)):
            rv, vsini = rng.uniform(-50, 50), rng.uniform(2, 15)
            star = {"rv": rv, "vsini": vsini, "resolving_power": RESOLVING_POWER, "snr": snr}
            if window is None:
                parts = mock.observe(stars["wavelength"], flux, pixels, **star, seed=1000 * seed + i)
                spectra.append((pixels, *parts))
            else:
                # the tool takes orders of one length: one after the other, each with noise of its own
                parts = [
                    mock.observe(stars["wavelength"], flux, order, **star, seed=100_000 * (k + 1) + 1000 * seed + i)
                    for k, order in enumerate(pixels)
                ]
                spectra.append((pixels, [part[0] for part in parts], [part[1] for part in parts]))
            truth.append([*labels, rv, vsini])
    return spectra, np.array(truth)


def judge(results, truth, *, without=True):
    """Print and return errors, coverage and ranks."""
    names = results[0].names
    found, std, noise = (
        np.array([[getattr(result, what)[name] for name in names] for result in results])
        for what in ("values", "errors", "noise_errors")
    )
    difference = found - truth
    mae = np.abs(difference).mean(axis=0)
    figures = {"mean_absolute_error": dict(zip(names, mae.tolist(), strict=True))}
    ranks = np.array(
        [(result.sample(999, random_state=0) < row).mean(axis=0) for result, row in zip(results, truth, strict=True)]
    )
    counts = np.array([np.histogram(column, bins=N_BINS, range=(0, 1))[0] for column in ranks.T])
    # lower and upper end of central intervals
    inside = {level: (np.abs(ranks - 0.5) < level / 2).mean(axis=0) for level in (0.68, 0.95)}
    figures |= {f"inside_{100 * level:.0f}": share.tolist() for level, share in inside.items()}
    bare = [(np.abs(difference) < stats.norm.ppf(0.5 + level / 2) * noise).mean(axis=0) for level in (0.68, 0.95)]
    figures["inside_without_generator_error"] = [share.tolist() for share in bare]
    print(f"{len(results)} spectra{'':12}" + "".join(f"{name:>11}" for name in names))
    rows = {
        "mean absolute error": mae,
        "mean error": difference.mean(axis=0),
        "median quoted std": np.median(std, axis=0),
        "in 68 % interval": inside[0.68],
        "in 95 % interval": inside[0.95],
    }
    if without:
        rows |= {"68 %, noise alone": bare[0], "95 %, noise alone": bare[1]}
    for name, row in rows.items():
        print(f"{name:>23}" + "".join(f"{value:11.4f}" for value in row))
    for name, row in zip(names, counts, strict=True):
        p = stats.chisquare(row).pvalue
        print(f"ranks of {name:>6}: {' '.join(f'{n:3d}' for n in row)}   p of even ranks {p:.2f}")
        figures[f"ranks_{name}"] = row.tolist()
    seconds = np.array([result.seconds for result in results])
    flags = results_table(results)["flags"].value_counts().to_dict()
    print(f"median {np.median(seconds):.2f} s a star, longest {seconds.max():.2f}; flags {flags}")
    return figures | {"median_seconds": float(np.median(seconds)), "flags": flags}


def run_mock(args, *, snr=100.0, window=None):
    spectra, truth = observe_stars(args, snr=snr, window=window)
    regressor = BayesianStellarRegressor.from_generator(sme_generator(args))
    results = regressor.infer_many(spectra, resolving_power=RESOLVING_POWER, n_jobs=args.jobs)
    n_pixels = sum(len(order) for order in spectra[0][0])
    print(f"S/N {snr:g}, {n_pixels} pixels, {args.nodes} nodes, {args.jobs} processes, {peak_memory_mb():.0f} MB")
    figures = judge(results, truth)
    plain = BayesianStellarRegressor.from_generator(sme_generator(args), generator_error=False)
    results = plain.infer_many(spectra, resolving_power=RESOLVING_POWER, n_jobs=args.jobs)
    print("the same with the generator's error left out altogether:")
    return figures | {"without": judge(results, truth, without=False)}


def cost(args):
    spectra, truth = observe_stars(argparse.Namespace(seeds=1), snr=100.0)
    regressor = BayesianStellarRegressor.from_generator(sme_generator(args))
    table = {}
    for n_orders in (1, 2, 4, 7, 14, 28):
        at = np.linspace(0, 27, n_orders).round().astype(int)
        seconds = []
        for wavelength, flux, error in spectra[:5]:
            result = regressor.infer((wavelength[at], flux[at], error[at]), resolving_power=RESOLVING_POWER)
            seconds.append(result.seconds)
        table[2048 * n_orders] = float(np.median(seconds))
        print(f"{2048 * n_orders:7d} pixels: {table[2048 * n_orders]:.2f} s")
    labels = {}
    for n_fixed in range(5):
        seconds = []
        for spectrum, row in zip(spectra[:5], truth, strict=False):
            known = dict(zip(("teff", "logg", "feh", "rv", "vsini"), row.tolist(), strict=True))
            fixed = {name: known[name] for name in ("feh", "logg", "vsini", "rv")[:n_fixed]}
            seconds.append(regressor.infer(spectrum, resolving_power=RESOLVING_POWER, fixed=fixed).seconds)
        labels[5 - n_fixed] = float(np.median(seconds))
        print(f"{5 - n_fixed} parameters free: {labels[5 - n_fixed]:.2f} s")
    print(f"{peak_memory_mb():.0f} MB")
    return {"seconds_by_pixels": table, "seconds_by_parameters": labels, "peak_mb": peak_memory_mb()}


def read_hband():
    """Spectra, normalised once, the same for all folds."""
    data = load_tool("shared_data").phoenix_hband()
    inside = (data["wavelength"] >= 14424) & (data["wavelength"] <= 18187)
    wavelength = data["wavelength"][inside]
    preprocessor = PhoenixPreprocessor(wavelength=wavelength)
    flux = preprocessor.fit_transform(data["flux"][:, inside].astype(np.float64), teff=data["labels"][:, 0])
    return wavelength, data["labels"], flux.astype(np.float32)


def hband_generator(args, wavelength):
    """Not fitted; its lines are kept, so that they are fitted once."""
    decomposer = VoigtLineDecomposer(store=args.folder / "fits216")
    return SpectrumGenerator(wavelength=wavelength, decomposer=decomposer, residual_rank=64, n_jobs=args.jobs)


def folds_of(labels):
    """Interior nodes in folds without neighbours: numbers of rows."""
    grid = [np.unique(column) for column in labels.T]
    place = np.stack([np.searchsorted(axis, column) for axis, column in zip(grid, labels.T, strict=True)], axis=1)
    inside = np.all((place > 0) & (place < [len(axis) - 1 for axis in grid]), axis=1)
    fold = np.where(inside, place[:, 0] % N_FOLDS, -1)
    return [np.flatnonzero(fold == k) for k in range(N_FOLDS)]


def hband(args):
    wavelength, labels, flux = read_hband()
    results, truth = [], []
    with decompose_grid(hband_generator(args, wavelength), labels, flux) as grid:
        for held_out in folds_of(labels):
            found, true = infer_held_out(args, grid, held_out)
            for result, row in zip(found, true, strict=True):
                error = [result.values[name] - value for name, value in zip(result.names, row, strict=True)]
                text = "{:.0f} {:.1f} {:+.1f}: {:+7.1f} K {:+.3f} {:+.3f} {:+.3f} {:+.2f} km/s"
                std = " ".join(f"{value:.3g}" for value in result.errors.values())
                print(text.format(*row[:3], *error), f"  std {std}  {result.flag_names}", flush=True)
            results, truth = results + found, truth + true
    figures = judge(results, np.array(truth))
    # the grid itself jumps between 5000 and 5100 K: what is held out there is not between its neighbours
    smooth = np.array([row[0] not in (4900, 5000, 5100, 5200) for row in truth])
    difference = [
        [result.values[name] - value for name, value in zip(result.names, row, strict=True)]
        for result, row in zip(results, truth, strict=True)
    ]
    mae = np.abs(difference)[smooth].mean(axis=0)
    print("without the four values of Teff at the grid's jump: {:.1f} K, {:.3f}, {:.3f}".format(*mae))
    return figures | {"mean_absolute_error_off_the_jump": mae.tolist()}


def infer_held_out(args, grid, held_out):
    """Results and true parameters of nodes that a generator does not know."""
    mock = load_tool("mock_observation")
    edges = np.geomspace(14600, 18000, 29)
    pixels = np.array([np.linspace(a, b, 2048) for a, b in itertools.pairwise(edges)])
    wavelength = grid.decomposer.wavelength_
    fine = np.interp(np.arange(0, len(wavelength) - 1, 0.125), np.arange(len(wavelength)), wavelength)
    kept = np.setdiff1d(np.arange(len(grid.labels)), held_out)
    regressor = BayesianStellarRegressor.from_generator(grid.fit(kept))
    spectra, truth = [], []
    for i in held_out:
        rng = np.random.default_rng(int(i))
        rv, vsini = rng.uniform(-50, 50), rng.uniform(2, 15)
        # the grid is at R 45,000 itself: as through a spectrograph of twice that
        star = {"rv": rv, "vsini": vsini, "resolving_power": 2 * HBAND_POWER, "snr": 100}
        # the tool interpolates linearly, which smears spectra of 1 km/s a pixel: finer ones are made for it
        flux = CubicSpline(wavelength, grid.normalised[i])(fine)
        spectra.append((pixels, *mock.observe(fine, flux, pixels, **star, seed=int(i))))
        truth.append([*grid.labels[i], rv, vsini])
    return regressor.infer_many(spectra, resolving_power=2 * HBAND_POWER, n_jobs=args.jobs), truth


def star(args):
    from stellarhml.plotting import InferenceDisplay

    path = args.folder / "hband216.asdf"
    if not path.is_file():
        wavelength, labels, flux = read_hband()
        save(hband_generator(args, wavelength).fit(labels, flux), path)
    regressor = BayesianStellarRegressor.from_generator(load(path))
    spectrum = read_spectrum(load_tool("shared_data").observed("igrins_S1063.npz"), format="igrins")
    # the grid has the resolving power of IGRINS already
    result = regressor.infer(spectrum, resolving_power=None)
    print(result)
    print("; ".join(result.messages))
    figure = InferenceDisplay.from_result(result).plot().figure_
    figure.savefig(args.folder / "s1063.png", dpi=120)
    print(f"picture: {args.folder / 's1063.png'}")
    scaled = [order.residual / order.continuum for order in result.orders]
    rms = [float(np.sqrt(np.nanmean(part**2))) if np.isfinite(part).any() else np.nan for part in scaled]
    for order, value in zip(result.orders, rms, strict=True):
        used = int(np.isfinite(order.error).sum())
        print(f"{order.wavelength[0]:8.0f}-{order.wavelength[-1]:6.0f}: {used:5d} pixels, residual {value:.4f}")
    # a star with spots has no single temperature: what do parts of the band say?
    parts = {}
    for name, chosen in (("long", range(3, 11)), ("middle", range(11, 19)), ("short", range(19, 26))):
        part = regressor.infer(spectrum.select(chosen), resolving_power=None)
        parts[name] = {key: (part.values[key], part.errors[key]) for key in part.names}
        text = ", ".join(f"{key} {value:.4g} +- {error:.2g}" for key, (value, error) in parts[name].items())
        print(f"orders of {name} wavelengths: {text}; {part.flag_names}")
    held = BayesianStellarRegressor.from_generator(load(path), priors={"logg": (3.8, 0.05)})
    held = held.infer(spectrum, resolving_power=None, jitter=True)
    print(f"with a prior of log g 3.8 +- 0.05, and a jitter of {held.jitter:.4f} of the continuum: {held}")
    return {
        "parts": parts,
        "values": result.values,
        "errors": result.errors,
        "reduced_chi2": result.reduced_chi2,
        "flags": result.flag_names,
    }


PARTS = {
    "rest": rest,
    "mock": run_mock,
    "window": lambda args: run_mock(args, window=(8450, 8850)),
    "faint": lambda args: run_mock(args, snr=30.0),
    "cost": cost,
    "hband": hband,
    "star": star,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=2, help="mock observations of each star")
    parser.add_argument("--nodes", type=int, choices=(66, 99), default=99, help="of the SME grid")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where generators are kept")
    args = parser.parse_args()
    warnings.simplefilter("ignore", StellarHMLWarning)
    args.folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    for part in args.parts:
        print(f"--- {part}", flush=True)
        figures[part] = PARTS[part](args)
    finish(benchmark="inference", nodes=args.nodes, seeds=args.seeds, jobs=args.jobs, **figures)


if __name__ == "__main__":
    main()
