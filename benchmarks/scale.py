"""Many stars and several grids: which grid a star belongs to.

Run: python benchmarks/scale.py [--parts which] [--seeds 2] [--jobs 2] [--folder FOLDER]

which  three generators: SME, 8445 to 8855 angstrom, of 5000 to 5500 K and of 5400 to 6000 K, and PHOENIX in H, which
       does not cover the stars. 24 SME stars between the nodes for each seed, as HPF would see them (R 55,000, S/N 100,
       velocities within +-50 km/s, vsini 2 to 15 km/s), and six stars of 3500 and 9000 K that are outside all: how many
       are fitted with a generator that has their temperature, and for how many none is said to fit.

Generators are fitted once and kept in --folder.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from inference import RESOLVING_POWER, observe_stars, read_hband
from shared import finish, load_tool

from stellarhml import BayesianStellarRegressor, SpectrumGenerator, load, save
from stellarhml.exceptions import StellarHMLWarning
from stellarhml.flags import InferenceFlag
from stellarhml.inference import infer_best_each

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


PARTS = {function.__name__: function for function in (which,)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=2, help="mock observations of each star")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where generators are kept")
    args = parser.parse_args()
    warnings.simplefilter("ignore", StellarHMLWarning)
    args.folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    figures = {part: PARTS[part](args) for part in args.parts}
    finish(benchmark="scale", seeds=args.seeds, **figures, seconds=time.perf_counter() - begin)


if __name__ == "__main__":
    main()
