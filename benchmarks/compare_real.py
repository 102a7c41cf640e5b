"""stellarhml beside The Payne's method and interpolation of pixels, on stars whose physics is not that of the grid.

Run: python benchmarks/compare_real.py [--parts mismatch optical] [--stars 12] [--folder FOLDER]

mismatch  synthetic stars of other line data, microturbulence and abundances (mismatch_dev), as HPF would see them, and
          the SME grid of 99 nodes: see `real_stars.py`. stellarhml has chosen its settings on the first half: only the
          second is reported.
optical   four observed stars, 6000 to 6320 angstrom, and an SME grid of 250 nodes; literature errors are added.

stellarhml as shipped, with species; the same calibrated on the Sun (optical; the Sun itself is left out of its row).
The Payne's method and pixels with the fit of `_templates.py`: least squares, continua solved for, errors from the noise
alone. All on one core. For each: mean absolute errors, root mean square of error over quoted error, and share inside
the 68 % interval, of Teff, log g and [Fe/H]; median seconds of the processor a star.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import threadpoolctl
import torch
from _payne import fit_payne
from _templates import Fitter, Model, degrade, grid_weights
from real_stars import OPTICAL, RESULTS, hpf_regressor, mock_spectra, observed_star, optical_regressor
from shared import finish, load_tool

from stellarhml import BayesianStellarRegressor, LineCalibrator

HPF_POWER = 55_000
RUN = 1000  # pixels of an order of an optical star, for a polynomial of six terms


def models(labels, wavelength, flux, power, store):
    """Models of the three methods at a resolving power, by name."""
    log_wavelength, spectra = degrade(wavelength, flux, power)
    basis, mean, weights, chosen, _ = fit_payne(labels, spectra, store=store)
    print(f"payne: {chosen}", flush=True)
    found = {"payne": Model(log_wavelength, basis, weights, mean)}
    for name, degree in (("pixels, linear", 1), ("pixels, cubic", 3)):
        found[name] = Model(log_wavelength, spectra, grid_weights(labels, degree=degree))
    return found


def timed(regressor, spectrum, power):
    """Labels, errors and processor seconds of stellarhml."""
    begin = time.process_time()
    result = regressor.infer(spectrum, resolving_power=power)
    seconds = time.process_time() - begin
    names = regressor.generator_.label_names_
    return [result.values[n] for n in names], [result.errors[n] for n in names], seconds


def summary(name, found, truth, own=0.0):
    """Print and return the figures of one tool."""
    values, errors, seconds = (np.array([part[k] for part in found]) for k in range(3))
    difference, quoted = values[:, :3] - truth, np.hypot(errors[:, :3], own)
    figures = {
        "mean_absolute_error": np.abs(difference).mean(axis=0).tolist(),
        "rms_over_quoted": np.sqrt(np.mean((difference / quoted) ** 2, axis=0)).tolist(),
        "inside_68": (np.abs(difference) < quoted).mean(axis=0).tolist(),
        "seconds": float(np.median(seconds)),
    }
    error, ratio, inside = (np.round(figures[k], 3) for k in ("mean_absolute_error", "rms_over_quoted", "inside_68"))
    print(f"{name:>26}: {error} {ratio} {inside} {figures['seconds']:.2f} s", flush=True)
    return figures


def mismatch(args):
    tool = load_tool("shared_data")
    grid, stars = tool.sme_hpf_grid(normalised=True), tool.mismatch_dev()
    rows = slice(12, 12 + args.stars)
    spectra, truth = mock_spectra(stars, rows), stars["labels"][rows, :3]
    regressor = hpf_regressor(args)
    regressor.infer(spectra[0], resolving_power=HPF_POWER)  # compiles
    found = {"stellarhml": summary("stellarhml", [timed(regressor, s, HPF_POWER) for s in spectra], truth)}
    store = args.folder / "payne99.pt"
    for name, model in models(grid["labels"], grid["wavelength"], grid["flux"], HPF_POWER, store).items():
        fitter = Fitter(model, np.array(spectra[0][0]), grid["labels"])
        fits = [fitter.fit(np.array(flux), np.array(error)) for _, flux, error in spectra]
        found[name] = summary(name, fits, truth)
    return found


def cut(spectrum, low, high):
    """Runs of one length of an observed star's pixels: wavelengths, fluxes and errors, (n_runs, RUN) each."""
    parts = []
    for order in zip(*spectrum, strict=True):
        inside = (order[0] > low) & (order[0] < high)
        kept = [np.asarray(column)[inside] for column in order]
        n = len(kept[0]) // RUN
        parts.append([column[: n * RUN].reshape(n, RUN) for column in kept])
    pixels, flux, error = (np.concatenate(column) for column in zip(*parts, strict=True))
    bad = ~np.isfinite(flux) | ~np.isfinite(error) | (error <= 0)
    return pixels, np.where(bad, 1.0, flux), np.where(bad, 1e6, error)


def optical(args):
    grid = load_tool("shared_data").optical_grid()
    regressor = optical_regressor(args)
    stars = [observed_star(name) for name in OPTICAL]
    truth, own = (np.array([star[k] for star in stars]) for k in (2, 3))
    regressor.infer(stars[0][0], resolving_power=stars[0][1])  # compiles
    found = {"stellarhml": summary("stellarhml", [timed(regressor, s[0], s[1]) for s in stars], truth, own)}
    sun = stars[0]
    calibrator = LineCalibrator(regressor.generator_, n_rounds=3).fit([sun[0]], sun[2][None], resolving_power=sun[1])
    corrected = BayesianStellarRegressor.from_generator(calibrator.generator_)
    fits = [timed(corrected, s[0], s[1]) for s in stars[1:]]
    found["calibrated, without the Sun"] = summary("calibrated, without the Sun", fits, truth[1:], own[1:])
    low, high = grid["wavelength"][[0, -1]] + np.array([3.0, -3.0])  # for velocities of the search
    methods = {}
    for spectrum, power, *_ in stars:
        pixels, flux, error = cut(spectrum, low, high)
        # amplitudes do not depend on the resolving power: one network for all
        store = args.folder / "payne_optical.pt"
        for name, model in models(grid["labels"], grid["wavelength"], grid["flux"], power, store).items():
            methods.setdefault(name, []).append(Fitter(model, pixels, grid["labels"]).fit(flux, error))
    for name, fits in methods.items():
        found[name] = summary(name, fits, truth, own)
        found[f"{name}, without the Sun"] = summary(f"{name}, without the Sun", fits[1:], truth[1:], own[1:])
    return found


def main():
    parts = {"mismatch": mismatch, "optical": optical}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--stars", type=int, default=12, help="of the second half of mismatch_dev")
    parser.add_argument("--folder", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.nodes, args.lines, args.jobs = 99, "auto", 1
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    finish(**{name: parts[name](args) for name in args.parts})


if __name__ == "__main__":
    main()
