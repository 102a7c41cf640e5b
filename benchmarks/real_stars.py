"""Stars whose physics is not that of the grid: synthetic ones of known truth, and observed ones with literature values.

Run: python benchmarks/real_stars.py [--parts mismatch triplet calibrated offgrid optical sun halves gaia]
     [--half all|first|second] [--before] [--references 12] [--leave-out 6] [--folds 4] [--jobs 2] [--folder FOLDER]

mismatch  24 synthetic stars of other line data, microturbulence and abundances (mismatch_dev), as HPF would see them:
          R 55,000, S/N 100, velocities within +-50 km/s, vsini 2 to 15 km/s. Choose settings on one half of them, and
          report the other: --half.
triplet   the same stars in a window around the calcium triplet, 8460 to 8690 angstrom, R 11,500, 2,401 pixels.
calibrated  the second half of mismatch with lines corrected from --references stars of the first, labels known or not.
          --leave-out N: all 24 in folds of N stars, with lines corrected from the others (at most --references of
          them); --folds: how many folds. All 24 stars share one wrong line list, which the corrections learn: this
          measures how well they do, and whether errors hold, not how another list would do.
offgrid   24 stars of the grid's own physics, observed in the same way: faults must switch themselves off.
optical   observed stars, 6000 to 6320 angstrom, with an SME grid of 250 nodes: found minus literature.
sun       the optical stars with lines corrected from the HARPS Sun alone.
halves    the same stars, the two halves of the window against each other.
gaia      Gaia RVS of Kepler-93 and -409 with the SME grid of the HPF band, calcium triplet in and out.

--before takes the lines of the grid as they are, as the package did before it knew faults of lines.

Error over quoted error is the decisive figure: its RMS is 1 where the error bars hold. Literature errors are added in
quadrature for observed stars. Generators are fitted once and kept in --folder.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from inference import sme_generator
from shared import FOLDER, finish, load_tool

from stellarhml import BayesianStellarRegressor, LineCalibrator, SpectrumGenerator, load, save

NAMES = ("teff", "logg", "feh")
RESULTS = Path(__file__).parent / "results"
OPTICAL = ("sun_harps", "procyon_harps", "wasp120_uves", "hd22072_hires")
GAIA = ("gaia_rvs_kepler-93", "gaia_rvs_kepler-409")
HALVES = {"all": slice(None), "first": slice(0, 12), "second": slice(12, None)}
ELEMENTS = ("Mg", "Si", "Ca", "Ti", "Cr", "Ni")
_FEW = 100  # pixels of an order that is not worth fitting
TRIPLET, WIDTH = (8500.35, 8544.44, 8664.52), 12.0  # vacuum angstrom; half width of what is left out around each


def optical_regressor(args):
    """Regressor on the 250 nodes of the optical grid, fitted once."""
    path = args.folder / "optical.asdf"
    if not path.is_file():
        grid = load_tool("shared_data").optical_grid()
        generator = SpectrumGenerator(wavelength=grid["wavelength"], n_jobs=args.jobs)
        save(generator.fit(grid["labels"], grid["flux"]), path)
    return BayesianStellarRegressor.from_generator(tagged(load(path), "optical"), line_errors=args.lines)


def tagged(generator, name):
    """A generator with species, by the list behind its grid."""
    return generator.tag_lines(load_tool("shared_data").line_list(name))


def calibrated(args):
    """Corrections learnt from some stars of `mismatch_dev`, tried on others, with labels known and without."""
    stars, found = load_tool("shared_data").mismatch_dev(), {}
    every = np.arange(len(stars["labels"]))
    folds = [(every[: args.references], every[12:])]
    if args.leave_out is not None:
        tests = [every[first : first + args.leave_out] for first in every[:: args.leave_out]]
        folds = [(np.setdiff1d(every, test)[: args.references], test) for test in tests[: args.folds]]
    spectra = mock_spectra(stars, slice(None))
    for name in ("labels known", "labels unknown"):
        results = []
        for train, test in folds:
            calibrator = LineCalibrator(tagged(sme_generator(args), "hpf"), n_rounds=2, n_jobs=args.jobs)
            labels = stars["labels"][train, :3] if name == "labels known" else None
            calibrator.fit([spectra[i] for i in train], labels, resolving_power=55_000)
            regressor = BayesianStellarRegressor.from_generator(calibrator.generator_)
            own = [spectra[i] for i in test]
            results += regressor.infer_many(own, resolving_power=55_000, n_jobs=args.jobs)
        rows = np.concatenate([test for _, test in folds])
        found[name] = summary(f"calibrated, {name}", results, stars["labels"][rows, :3])
        found[name]["beyond"] = beyond(results, truth_beyond(stars, rows))
        found[name]["references"] = [len(train) for train, _ in folds]
    return found


def sun(args):
    """Corrections learnt from the HARPS Sun alone, tried on the other optical stars."""
    generator = optical_regressor(args).generator_
    spectrum, power, values, _ = observed_star("sun_harps")
    calibrator = LineCalibrator(generator, n_rounds=3).fit([spectrum], values[None], resolving_power=power)
    return optical(args, BayesianStellarRegressor.from_generator(calibrator.generator_))


def hpf_regressor(args):
    """Regressor on the 99 nodes of the HPF band."""
    return BayesianStellarRegressor.from_generator(tagged(sme_generator(args), "hpf"), line_errors=args.lines)


def mock_spectra(stars, rows, pixels=None, resolving_power=55_000):
    """Synthetic spectra as HPF would see them, or on other pixels (n_orders, n_pixels)."""
    mock = load_tool("mock_observation")
    pixels, spectra = mock.hpf_pixels() if pixels is None else pixels, []
    for i in np.arange(len(stars["labels"]))[rows]:
        rng = np.random.default_rng(500 + i)
        velocity = {"rv": rng.uniform(-50, 50), "vsini": rng.uniform(2, 15)}
        settings = velocity | {"resolving_power": resolving_power, "snr": 100, "seed": 900 + i}
        observed = mock.observe(stars["wavelength"], stars["flux"][i], pixels, **settings)
        spectra.append((list(pixels), *map(list, observed)))
    return spectra


def mock_stars(args, stars, rows):
    """Results of `mock_spectra`."""
    spectra = mock_spectra(stars, rows)
    return hpf_regressor(args).infer_many(spectra, resolving_power=55_000, n_jobs=args.jobs)


def truth_beyond(stars, rows):
    """True microturbulence and abundances by name."""
    truth = {"vmic": stars["vmic"][rows]}
    return truth | {f"[{x}/Fe]": stars["x_fe"][rows, k] for k, x in enumerate(stars["elements"]) if x in ELEMENTS}


def mismatch(args):
    stars = load_tool("shared_data").mismatch_dev()
    rows = HALVES[args.half]
    results = mock_stars(args, stars, rows)
    found = summary("mismatch", results, stars["labels"][rows, :3])
    return found | {"beyond": beyond(results, truth_beyond(stars, rows))}


def triplet(args):
    stars, rows, power = load_tool("shared_data").mismatch_dev(), HALVES[args.half], 11_500
    spectra = mock_spectra(stars, rows, np.linspace(8460, 8690, 2401)[None], power)
    results = hpf_regressor(args).infer_many(spectra, resolving_power=power, n_jobs=args.jobs)
    return summary("triplet", results, stars["labels"][rows, :3])


def offgrid(args):
    stars = load_tool("shared_data").sme_hpf_offgrid()
    results = mock_stars(args, stars, slice(None))
    found = summary("offgrid", results, stars["labels"][:, :3])
    return found | {"with_faults": sum(result.line_faults is not None for result in results)}


def beyond(results, truth):
    """Print and return errors of what the grid does not have: `truth` of all stars by name."""
    found = {}
    for name, values in truth.items():
        pairs = [(r.values[name] - v, r.errors[name]) for r, v in zip(results, values, strict=True) if name in r.values]
        if not pairs:
            continue
        difference, quoted = np.array(pairs).T
        found[name] = {
            "n_stars": len(pairs),
            "mean_absolute_error": float(np.abs(difference).mean()),
            "mean": float(difference.mean()),
            "rms_over_quoted": float(np.sqrt(np.mean((difference / quoted) ** 2))),
            "inside_68": float((np.abs(difference) < quoted).mean()),
        }
        numbers = ", ".join(f"{key} {value:.3g}" for key, value in found[name].items())
        print(f"  {name}: {numbers}")
    return found


def observed_star(name, low=0.0, high=np.inf):
    """Orders of an observed star between two wavelengths [angstrom], its resolving power and its literature values."""
    star, table = load_tool("shared_data").real_star(name), pd.read_csv(FOLDER.parent / "data/real/stars.csv")
    entry = table.set_index("star").loc[name]
    inside = (star["wavelength"] > low) & (star["wavelength"] < high)
    rows = [inside & (star["order"] == number) for number in np.unique(star["order"])]
    orders = [[star[key][row] for key in ("wavelength", "flux", "sigma")] for row in rows if row.sum() > _FEW]
    spectrum = tuple(map(list, zip(*orders, strict=True)))
    return (
        spectrum,
        float(entry["R"]),
        entry[[*NAMES]].to_numpy(float),
        entry[[f"e_{n}" for n in NAMES]].to_numpy(float),
    )


def optical(args, regressor=None):
    regressor = regressor or optical_regressor(args)
    results, truth, errors = [], [], []
    for name in OPTICAL:
        spectrum, power, values, own = observed_star(name)
        results.append(regressor.infer(spectrum, resolving_power=power))
        truth.append(values)
        errors.append(own)
    return summary("optical", results, np.array(truth), np.array(errors), OPTICAL)


def halves(args):
    regressor, differences, middle = optical_regressor(args), [], 6160.0
    for name in OPTICAL:
        pair = []
        for low, high in ((0.0, middle), (middle, np.inf)):
            spectrum, power, *_ = observed_star(name, low, high)
            pair.append(regressor.infer(spectrum, resolving_power=power))
        a, b = pair
        differences.append([(a.values[n] - b.values[n]) / np.hypot(a.errors[n], b.errors[n]) for n in NAMES])
    rms = np.sqrt(np.mean(np.square(differences), axis=0))
    print(f"halves of the window: RMS of the difference over quoted errors {rms.round(2).tolist()}")
    return {"rms_over_quoted": rms.tolist()}


def gaia(args):
    regressor, found = hpf_regressor(args), {}
    for part, cut in (("triplet in", False), ("triplet out", True)):
        results, truth, errors = [], [], []
        for name in GAIA:
            spectrum, power, values, own = observed_star(name)
            mask = None
            if cut:
                mask = [np.min([np.abs(x - c) for c in TRIPLET], axis=0) < WIDTH for x in spectrum[0]]
            results.append(regressor.infer(spectrum, resolving_power=power, mask=mask))
            truth.append(values)
            errors.append(own)
        found[part] = summary(f"gaia, {part}", results, np.array(truth), np.array(errors), GAIA)
    return found


def summary(title, results, truth, own_errors=0.0, names=None):
    """Print and return errors, their ratio to the quoted ones, and flags."""
    values = np.array([[result.values[n] for n in NAMES] for result in results])
    quoted = np.hypot([[result.errors[n] for n in NAMES] for result in results], own_errors)
    difference = values - truth
    for name, row, error, result in zip(names or (), difference, quoted, results, strict=bool(names)):
        text = ", ".join(f"{d:+.4g} +- {e:.2g}" for d, e in zip(row, error, strict=True))
        print(f"  {name}: {text}; reduced chi-square {result.reduced_chi2:.2f}, {result.flag_names}")
    found = {
        "n_stars": len(results),
        "mean_absolute_error": np.abs(difference).mean(axis=0).tolist(),
        "rms_over_quoted": np.sqrt(np.mean((difference / quoted) ** 2, axis=0)).tolist(),
        "inside_68": (np.abs(difference) < quoted).mean(axis=0).tolist(),
        "reduced_chi2": [
            float(np.min([r.reduced_chi2 for r in results])),
            float(np.max([r.reduced_chi2 for r in results])),
        ],
        "flags": pd.Series([result.flag_names for result in results]).value_counts().to_dict(),
        "seconds": float(np.median([result.seconds for result in results])),
    }
    keys = ("mean_absolute_error", "rms_over_quoted", "inside_68")
    errors, ratio, inside = (np.round(found[key], 3).tolist() for key in keys)
    print(f"{title}: mean absolute errors {errors}; RMS of error over quoted error {ratio}; inside 68 % {inside}")
    return found


def main():
    parts = {
        function.__name__: function for function in (mismatch, triplet, calibrated, offgrid, optical, sun, halves, gaia)
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--half", choices=("all", "first", "second"), default="all")
    parser.add_argument("--before", action="store_true")
    parser.add_argument("--references", type=int, help="[12, with --leave-out all others]")
    parser.add_argument("--leave-out", type=int)
    parser.add_argument("--folds", type=int)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.nodes, args.lines = 99, False if args.before else "auto"
    if args.references is None and args.leave_out is None:
        args.references = 12
    args.folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    finish(
        **{name: parts[name](args) for name in args.parts},
        half=args.half,
        before=args.before,
        seconds=time.perf_counter() - begin,
    )


if __name__ == "__main__":
    main()
