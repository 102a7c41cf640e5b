"""Large grids, many stars and several grids: what a build takes, how good generators are, which grid a star is of.

Run: python benchmarks/scale.py [--parts which scattered regression wide survey] [--seeds 2] [--jobs 2] [--every 1]
     [--stars 200] [--plain 24] [--nodes 99] [--folder FOLDER]

which  three generators: SME, 8445 to 8855 angstrom, of 5000 to 5500 K and of 5400 to 6000 K, and PHOENIX in H, which
       does not cover the stars. 24 SME stars between the nodes for each seed, as HPF would see them (R 55,000, S/N 100,
       velocities within +-50 km/s, vsini 2 to 15 km/s), and six stars of 3500 and 9000 K that are outside all: how many
       are fitted with a generator that has their temperature, and for how many none is said to fit.
scattered  600 spectra at Sobol points of eight labels, 6000 to 6320 angstrom, by regression: RMS of the flux of 40
       others, half of which served to choose settings; mock stars of them (R 50,000, S/N 100, rv, vsini); the same with
       The Payne's method.
regression  a grid by regression and by cubics: planes of `optical_grid` that are left out, and spectra between nodes.
wide   518 SME spectra of 3500 to 12000 K: 24 spectra between the nodes by the generator, its lines alone, and pixels
       that are interpolated linearly and cubically; labels of mock stars from [Fe/H] of -0.5 and 0. Fitting takes
       about 15 minutes of processor time, half of it with --every 2.
big    `stellarhml build` of 1,314 nodes and 126,000 pixels (_large_grid.py), killed twice on the way: hours, memory of
       a process, size of the file, time and error of a spectrum. Only if asked for.
same   `stellarhml build` of 54 nodes, in one process, in two and killed twice, and on dask: whether bits are the same.
exponents  time and memory of `stellarhml build` against the number of nodes, pixels, lines and labels.
survey  --stars mock observations of the 24 SME stars between the nodes on the same pixels, S/N 100, velocities within
       +-50 km/s, vsini 2 to 15 km/s: 8,575 pixels at R 22,500 from 8450 angstrom on, like APOGEE's in number, and 2,401
       from 8450 to 8700 at R 11,500, like those of Gaia's RVS. `infer_many` with --jobs workers, which start anew:
       seconds, stars a second, processor-seconds a star, coverage of the 68 % intervals; and --plain of the stars by
       `infer` alone, in the same run: processor-seconds, and the differences in standard deviations.

Generators are fitted once and kept in --folder; the survey's has --nodes of the SME grid, full band.
"""

import argparse
import resource
import time
import warnings
from pathlib import Path

import numpy as np
from _large_build import big, exponents, same
from _wide import wide
from inference import RESOLVING_POWER, observe_stars, read_hband, sme_generator
from joblib.externals.loky import get_reusable_executor
from scipy import stats
from shared import finish, load_tool

from stellarhml import BayesianStellarRegressor, LineManifoldInterpolator, SpectrumGenerator, load, save
from stellarhml.exceptions import StellarHMLWarning
from stellarhml.flags import InferenceFlag
from stellarhml.inference import infer_best_each
from stellarhml.synthesis.decomposed_grid import decompose_grid

RESULTS = Path(__file__).parent / "results"
WINDOW, EDGE = (8450.0, 8850.0), 5.0  # angstrom
RANGES = {"cool": (5000, 5500), "hot": (5400, 6000)}  # K
OUTSIDE = [(3500, 3.0), (3500, 4.0), (3500, 5.0), (9000, 3.0), (9000, 4.0), (9000, 5.0)]  # Teff in K, log g


def generators(args):
    """Regressors by name, of generators that are fitted once."""

    def sme(low, high):
        grid = load_tool("shared_data").sme_hpf_grid(normalised=True)
        rows = (grid["labels"][:, 0] >= low) & (grid["labels"][:, 0] <= high)
        inside = (grid["wavelength"] > WINDOW[0] - EDGE) & (grid["wavelength"] < WINDOW[1] + EDGE)
        return grid["wavelength"][inside], grid["labels"][rows], grid["flux"][rows][:, inside]

    def phoenix():
        wavelength, labels, flux = read_hband()
        rows, inside = labels[:, 0] <= np.unique(labels[:, 0])[2], (wavelength > 15_500) & (wavelength < 15_600)
        return wavelength[inside], labels[rows], flux[rows][:, inside]

    found = {}
    for name, make in {**{name: lambda ends=ends: sme(*ends) for name, ends in RANGES.items()}, "H": phoenix}.items():
        path = args.folder / f"which_{name}.asdf"
        if not path.is_file():
            wavelength, labels, flux = make()
            save(SpectrumGenerator(wavelength=wavelength, n_jobs=args.jobs).fit(labels, flux), path)
        found[name] = BayesianStellarRegressor.from_generator(load(path))
    return found


def outside():
    """Stars that no generator has, of solar [Fe/H]."""
    grid, mock = load_tool("shared_data").wide_grid(), load_tool("mock_observation")
    pixels, spectra = np.arange(WINDOW[0] + EDGE, WINDOW[1] - EDGE, 0.07), []
    for k, (teff, logg) in enumerate(OUTSIDE):
        (row,) = np.flatnonzero((grid["labels"] == [teff, logg, 0.0]).all(axis=1))
        star = {"rv": 20.0, "vsini": 6.0, "resolving_power": RESOLVING_POWER, "snr": 100, "seed": k}
        flux, error = mock.observe(grid["wavelength"], grid["flux"][row], pixels[None], **star)
        spectra.append((pixels, flux[0], error[0]))
    return spectra


def which(args):
    regressors = generators(args)
    spectra, truth = observe_stars(args, snr=100.0, window=WINDOW)
    settings = {"resolving_power": RESOLVING_POWER, "n_jobs": args.jobs}
    right, said, margins, seconds = 0, 0, [], []
    for result, (teff, *_) in zip(infer_best_each(regressors, spectra, **settings), truth, strict=True):
        low, high = RANGES[result.generator_name]
        right += low <= teff <= high
        said += bool(result.flags & InferenceFlag.NO_GRID_FITS)
        overlap = RANGES["hot"][0] <= teff <= RANGES["cool"][1]
        margins.append((overlap, result.generator_margin))
        seconds.append(result.seconds)
        if not low <= teff <= high or result.flags & InferenceFlag.NO_GRID_FITS:
            print(f"{teff:.0f} K with {result.generator_name}: {'; '.join(result.messages)}")
    overlap, margin = np.array(margins).T
    figures = {
        "n_stars": len(truth),
        "right": int(right),
        "none_fits": said,
        "least_margin": float(margin[overlap == 0].min()),
        "n_in_overlap": int(overlap.sum()),
        "median_margin_in_overlap": float(np.median(margin[overlap == 1])),
        "median_seconds": float(np.median(seconds)),
    }
    results = list(infer_best_each(regressors, outside(), **settings))
    for (teff, logg), result in zip(OUTSIDE, results, strict=True):
        print(f"{teff} K, log g {logg}: {result.flag_names}; {'; '.join(result.messages)}")
    none = sum(bool(result.flags & InferenceFlag.NO_GRID_FITS) for result in results)
    print(f"right in {right} of {len(truth)}; none said to fit for {none} of {len(results)} outside")
    return figures | {"n_outside": len(results), "none_fits_outside": none}


POWER, SNR = 50_000.0, 100.0
STARTS, LENGTH, STEP = (6011.0, 6111.0, 6211.0), 98.0, 0.04  # orders of the mock stars, in angstrom
PAYNE = {"checks": (4000, 16000), "at_most": 200}


def scattered(args):
    data = load_tool("shared_data").scattered()
    begin = time.process_time()
    path = args.folder / "scattered.asdf"
    if not path.is_file():
        options = {"label_names": list(data["label_names"]), "n_jobs": args.jobs}
        interpolator = LineManifoldInterpolator(method="regression")
        generator = SpectrumGenerator(wavelength=data["wavelength"], interpolator=interpolator, **options)
        save(generator.fit(data["labels"], data["flux"]), path)
    generator = load(path)
    print(f"generator ready after {time.process_time() - begin:.0f} s of this process")
    figures = {"ours": {}, "payne": {}}
    flux, std = generator.predict(data["labels_test"], return_std=True)
    figures["ours"] |= flux_errors("regression", flux - data["flux_test"])
    quoted = np.sqrt(np.mean(std**2, axis=1)) / np.sqrt(np.mean((flux - data["flux_test"]) ** 2, axis=1))
    figures["ours"]["median_quoted_over_error"] = float(np.median(quoted))
    payne, fitter = fit_payne_to(data, args)
    figures["payne"] |= flux_errors("The Payne's method", payne(data["labels_test"]) - data["flux_test"])
    spectra, truth = scattered_stars(data)
    names = [*data["label_names"], "rv", "vsini"]
    regressor = BayesianStellarRegressor.from_generator(generator)
    begin = time.process_time()
    results = [regressor.infer(spectrum, resolving_power=POWER) for spectrum in spectra]
    seconds = (time.process_time() - begin) / len(results)
    found = np.array([[result.values[name] for name in names] for result in results])
    std = np.array([[result.errors[name] for name in names] for result in results])
    figures["ours"] |= label_errors("regression", names, found - truth, std) | {"seconds_a_star": seconds}
    fits = [fitter.fit(*spectrum[1:]) for spectrum in spectra]
    found, std, seconds = (np.array(part) for part in zip(*fits, strict=True))
    figures["payne"] |= label_errors("The Payne's method", names, found - truth, std)
    return figures | {"flags": [result.flag_names for result in results if result.flags]}


def fit_payne_to(data, args):
    """The Payne's method: a function from labels (n, n_labels) to spectra, and the fit of mock stars."""
    from _payne import fit_payne
    from _templates import Fitter, Model, degrade

    store = args.folder / "payne_scattered.pt"
    basis, mean, weights, chosen, tried = fit_payne(data["labels"], data["flux"], store=store, **PAYNE)
    print(f"payne: {chosen}, of " + "; ".join(f"{key}: {value:.5f}" for key, value in tried.items()))
    log_wavelength, (mean_seen, *basis_seen) = degrade(data["wavelength"], [mean, *basis], POWER)
    model = Model(log_wavelength, np.array(basis_seen), weights, mean_seen)
    return lambda labels: np.stack([weights(row) for row in labels]) @ basis + mean, Fitter(
        model, mock_pixels(), data["labels"]
    )


def mock_pixels():
    return np.array([np.arange(start, start + LENGTH, STEP) for start in STARTS])


def scattered_stars(data):
    """Mock observations of the spectra that are held out, and their true parameters."""
    mock, pixels, spectra, truth = load_tool("mock_observation"), mock_pixels(), [], []
    for i, (labels, flux) in enumerate(zip(data["labels_test"], data["flux_test"], strict=True)):
        rng = np.random.default_rng(i)
        rv, vsini = rng.uniform(-50, 50), rng.uniform(2, 15)
        star = {"rv": rv, "vsini": vsini, "resolving_power": POWER, "snr": SNR, "seed": i}
        spectra.append((pixels, *mock.observe(data["wavelength"], flux, pixels, **star)))
        truth.append([*labels, rv, vsini])
    return spectra, np.array(truth)


def flux_errors(name, error):
    rms = np.sqrt(np.mean(error**2, axis=1))
    halves = [float(np.median(part)) for part in np.array_split(rms, 2)]
    print(f"{name}: median RMS of flux {np.median(rms):.5f}, of the halves {halves[0]:.5f} and {halves[1]:.5f}")
    return {"rms_median": float(np.median(rms)), "rms_halves": halves, "rms_largest": float(rms.max())}


def label_errors(name, names, difference, std):
    inside = np.abs(difference) < stats.norm.ppf(0.84) * std
    figures = {
        "mean_absolute_error": np.abs(difference).mean(axis=0),
        "median_error_bar": np.median(std, axis=0),
        "inside_68": inside.mean(axis=0),
        "rms_over_quoted": np.sqrt(np.mean((difference / std) ** 2, axis=0)),
    }
    print(f"{name:>22}" + "".join(f"{label:>9}" for label in names))
    for what, row in figures.items():
        print(f"{what:>22}" + "".join(f"{value:9.4g}" for value in row))
    print(f"inside 68 % of all labels: {inside[:, :-2].mean():.2f}")
    return {what: row.tolist() for what, row in figures.items()} | {"inside_68_all": float(inside[:, :-2].mean())}


METHODS = "auto", "regression"
PLANES = {0: (5500.0, 6250.0), 1: (4.0,), 2: (-0.5,)}  # of `optical_grid`, left out one at a time


def regression(args):
    grid, figures = load_tool("shared_data").optical_grid(), {}
    for method in METHODS:
        generator = SpectrumGenerator(
            wavelength=grid["wavelength"], interpolator=LineManifoldInterpolator(method=method), n_jobs=args.jobs
        )
        with decompose_grid(generator, grid["labels"], grid["flux"]) as decomposed:
            whole = decomposed.fit(slice(None))
            error = whole.predict(grid["labels_offgrid"]) - grid["flux_offgrid"]
            figures[method] = {"between": flux_errors(f"{method}, between the nodes", error)}
            for axis, values in PLANES.items():
                for value in values:
                    out = grid["labels"][:, axis] == value
                    error = decomposed.fit(~out).predict(grid["labels"][out]) - grid["flux"][out]
                    name = f"{whole.label_names_[axis]} {value:g}"
                    figures[method][name] = flux_errors(f"{method}, without {name}", error)
    return figures


SPECTROGRAPHS = {
    "apogee": (8450.0 * np.exp(4.14 / 299792.458 * np.arange(8575)), 22_500),
    "rvs": (np.linspace(8450.0, 8700.0, 2401), 11_500),
}
"""Pixels in angstrom, and resolving power."""


def observe_survey(n_stars, pixels, power):
    """Mock observations on the same pixels, and their true parameters."""
    stars, mock = load_tool("shared_data").sme_hpf_offgrid(), load_tool("mock_observation")
    near = (stars["wavelength"] > pixels[0] - 30) & (stars["wavelength"] < pixels[-1] + 30)
    spectra, truth = [], []
    for seed in range(n_stars):
        rng, i = np.random.default_rng(seed), seed % len(stars["labels"])
        rv, vsini = rng.uniform(-50, 50), rng.uniform(2, 15)
        star = {"rv": rv, "vsini": vsini, "resolving_power": power, "snr": 100, "seed": seed}
        flux, error = mock.observe(stars["wavelength"][near], stars["flux"][i][near], pixels, **star)
        spectra.append((pixels, flux, error))
        truth.append([*stars["labels"][i], rv, vsini])
    return spectra, np.array(truth)


def processor_seconds():
    """Of this process, and of its workers, which are ended to be counted."""
    get_reusable_executor().shutdown(wait=True)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in usage)


def survey(args):
    regressor, figures = BayesianStellarRegressor.from_generator(sme_generator(args)), {}
    for name, (pixels, power) in SPECTROGRAPHS.items():
        spectra, truth = observe_survey(args.stars, pixels, power)
        regressor.infer(spectra[0], resolving_power=power)  # what is compiled is loaded

        def timed(spectra, *, power=power, **options):
            begin, before = time.perf_counter(), processor_seconds()
            results = regressor.infer_many(spectra, resolving_power=power, verbose=False, **options)
            return results, time.perf_counter() - begin, (processor_seconds() - before) / len(spectra)

        results, seconds, own = timed(spectra, n_jobs=args.jobs)
        alone, _, plain = timed(spectra[: args.plain], n_jobs=1, survey=False)
        columns = results[0].names
        found, std, of_alone, error = (
            np.array([[getattr(result, what)[column] for column in columns] for result in some])
            for some in (results, alone)
            for what in ("values", "errors")
        )
        difference = np.abs(found[: len(alone)] - of_alone) / error
        inside = (np.abs(found - truth) < std).mean(axis=0)
        text = (
            "{}, {} pixels: {} stars in {:.1f} s with {} jobs, {:.1f} a second, {:.3f} processor-seconds a star; alone "
            "{:.3f}, {:.1f} times as much"
        )
        rate = len(spectra) / seconds
        print(text.format(name, len(pixels), len(spectra), seconds, args.jobs, rate, own, plain, plain / own))
        print("in 68 % intervals: " + ", ".join(f"{n} {100 * x:.0f} %" for n, x in zip(columns, inside, strict=True)))
        print(f"from `infer` alone: median {np.median(difference):.4f}, at most {difference.max():.3f} sigma")
        figures[name] = {
            "n_stars": len(spectra),
            "seconds": seconds,
            "stars_a_second": rate,
            "processor_seconds_a_star": own,
            "alone": plain,
            "ratio": plain / own,
            "inside_68": dict(zip(columns, inside.tolist(), strict=True)),
            "median_difference": float(np.median(difference)),
            "largest_difference": float(difference.max()),
        }
    return figures


PARTS = {function.__name__: function for function in (which, scattered, regression, wide, survey, big, same, exponents)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    short = [name for name in PARTS if name != "big"]
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=short, help="[all but big, which takes hours]")
    parser.add_argument("--seeds", type=int, default=2, help="mock observations of each star")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="take each n-th pixel of the wide grid")
    parser.add_argument("--stars", type=int, default=200, help="of each survey")
    parser.add_argument("--plain", type=int, default=24, help="stars of a survey that are fitted alone, too")
    parser.add_argument("--nodes", type=int, choices=(66, 99), default=99, help="of the SME grid")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where generators are kept")
    args = parser.parse_args()
    warnings.simplefilter("ignore", StellarHMLWarning)
    args.folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    figures = {part: PARTS[part](args) for part in args.parts}
    finish(benchmark="scale", seeds=args.seeds, **figures, seconds=time.perf_counter() - begin)


if __name__ == "__main__":
    main()
