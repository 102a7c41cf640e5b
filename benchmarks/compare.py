"""stellarhml beside rvspecfit, Starfish, The Payne's method and interpolation of pixels, on the same grid and spectra.

Run: python benchmarks/compare.py [--tools stellarhml rvspecfit payne pixels] [--stars 24] [--nodes 66] [--orders 14]
     [--seeds 1] [--folder FOLDER]

Grid and stars are those of `inference.py --parts mock`: SME spectra on nodes, and mock observations of 24 stars between
the nodes (28 orders like HPF's, R 55,000, S/N 100, velocity, rotation, throughput). All tools run on one core.

stellarhml  as shipped: `BayesianStellarRegressor.from_generator(...).infer(...)`.
rvspecfit   its own package (`pip install rvspecfit`), multilinear interpolation, 28 spectral configurations.
            `--interpolation triangulation` for its default.
starfish    its own package (astrostarfish, needs NumPy < 2: an environment of its own). One order only
            (`--orders`), its emulator and the cost of its likelihood, without labels.
payne       the method of The Payne, our implementation (_payne.py), on all nodes of the grid.
pixels      linear and cubic interpolation of every pixel.

Seconds are those of the processor, of one core, so that others on the machine disturb them less.
payne and pixels share a fit of ours (_templates.py): least squares, continua solved for, errors from the noise alone.
Spectra are compared at rest, noise-free, on the detector's pixels, after the polynomials that every fit has anyway.
Tools are run apart, each beside stellarhml, where they cannot share an environment.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import threadpoolctl
import torch
from _templates import Fitter, Model, degrade, grid_weights, pixel_edges, polynomials, with_continuum
from inference import RESOLVING_POWER, RESULTS, observe_stars, sme_generator
from scipy import stats
from shared import finish, load_tool

NAMES = ("teff", "logg", "feh", "rv", "vsini")
SNR = 100.0
HEADER = f"{'':24} RMS      largest       ms     Teff  log g [Fe/H]     RV vsini  inside 68 %          s a star"


class Data:
    """The grid, the stars, and their mock observations."""

    def __init__(self, args):
        tool, mock = load_tool("shared_data"), load_tool("mock_observation")
        grid, stars = tool.sme_hpf_grid(normalised=True), tool.sme_hpf_offgrid(normalised=True)
        kept = grid["labels"][:, 2] < (1 if args.nodes == 99 else 0.25)
        self.labels, self.flux, self.wavelength = grid["labels"][kept], grid["flux"][kept], grid["wavelength"]
        self.mock, self.n_stars = mock, args.stars
        orders = args.orders if args.orders else range(28)
        self.pixels = mock.hpf_pixels()[list(orders)]
        spectra, truth = observe_stars(args, snr=SNR)
        chosen = np.arange(len(spectra)) % len(stars["labels"]) < args.stars
        self.truth = truth[chosen]
        self.observed = [
            (flux[list(orders)], error[list(orders)])
            for (_, flux, error), use in zip(spectra, chosen, strict=True)
            if use
        ]
        self.star_labels = stars["labels"][: args.stars]
        self.at_rest = np.array([self.at_detector(row) for row in stars["flux"][: args.stars]])

    def at_detector(self, flux):
        """A native spectrum as the spectrograph sees it, at rest, without noise."""
        settings = {"resolving_power": RESOLVING_POWER, "snr": None, "throughput": False}
        return self.mock.observe(self.wavelength, flux, self.pixels, **settings)[0]


class Stellarhml:
    """The package as shipped."""

    def __init__(self, args, data):
        from stellarhml import BayesianStellarRegressor

        self.data, self.generator = data, sme_generator(args)
        self.regressor = BayesianStellarRegressor.from_generator(self.generator)
        self.size = len(self.generator.wavelength_)

    def spectrum(self, labels):
        """Normalised spectrum, as the tool has it."""
        return self.generator.predict([labels])[0]

    def observe(self, labels, flux):
        """Its model of a spectrum at rest, continua included."""
        model = self.data.at_detector(self.spectrum(labels))
        return with_continuum(flux, model, np.ones_like(flux), polynomials(self.data.pixels))

    def fit(self, flux, error):
        """Values, errors, seconds."""
        begin = time.process_time()
        result = self.regressor.infer((self.data.pixels, flux, error), resolving_power=RESOLVING_POWER)
        seconds = time.process_time() - begin
        return *(np.array([part[name] for name in NAMES]) for part in (result.values, result.errors)), seconds


class Templates:
    """Weighted sums of spectra, with the fit of `_templates`."""

    def __init__(self, data, model):
        self.model, self.data = model, data
        self.fitter = Fitter(model, data.pixels, data.labels)
        self.size = len(model.log_wavelength)

    def spectrum(self, labels):
        """Normalised spectrum, as the tool has it."""
        return self.model.template(labels)

    def observe(self, labels, flux):
        """Its model of a spectrum at rest, continua included."""
        model = self.model.integrate(self.spectrum(labels), pixel_edges(self.data.pixels), 0.0)
        return with_continuum(flux, model, np.ones_like(flux), polynomials(self.data.pixels))

    def fit(self, flux, error):
        """Values, errors, seconds."""
        return self.fitter.fit(flux, error)


def make_pixels(args, data):
    log_wavelength, flux = degrade(data.wavelength, data.flux, RESOLVING_POWER)
    for name, degree in (("pixels, linear", 1), ("pixels, cubic", 3)):
        yield name, Templates(data, Model(log_wavelength, flux, grid_weights(data.labels, degree=degree)))


def make_payne(args, data):
    from _payne import fit_payne

    log_wavelength, flux = degrade(data.wavelength, data.flux, RESOLVING_POWER)
    begin = time.process_time()
    basis, mean, weights, chosen, tried = fit_payne(data.labels, flux, store=args.folder / f"payne{args.nodes}.pt")
    print(f"payne: {chosen}, of " + "; ".join(f"{key}: {value:.5f}" for key, value in tried.items()))
    print(
        f"payne: {time.process_time() - begin:.0f} s of training on {len(data.labels)} spectra (or read from --folder)"
    )
    yield "payne", Templates(data, Model(log_wavelength, basis, weights, mean))


def make_stellarhml(args, data):
    yield "stellarhml", Stellarhml(args, data)


def make_rvspecfit(args, data):
    import shutil

    from _rvspecfit import Rvspecfit

    def write_grid(folder):
        load_tool("shared_data").write_phoenix_layout(folder)
        if args.nodes == 66:
            shutil.rmtree(folder / "PHOENIX-ACES-AGSS-COND-2011" / "Z+0.5")

    settings = {"resolving_power": RESOLVING_POWER, "interpolation": args.interpolation, "n_nodes": args.nodes}
    tool = Rvspecfit(args.folder, write_grid, data.pixels, **settings)
    tool.size = sum(len(part) for part in tool.spectrum(data.labels.mean(axis=0)))
    print(f"rvspecfit {tool.version}: library made in {tool.seconds_to_build:.0f} s (0: was there)")
    yield f"rvspecfit, {args.interpolation}", tool


def make_starfish(args, data):
    from _starfish import Starfish

    # it does not integrate over pixels: their width counts as resolution
    width = np.ptp(data.pixels) / (data.pixels.size - 1) / data.pixels.mean()
    resolving_power = (RESOLVING_POWER**-2 + 8 * np.log(2) / 12 * width**2) ** -0.5
    log_wavelength, flux = degrade(data.wavelength, data.flux, resolving_power)
    tool = Starfish(log_wavelength, flux, data.labels, data.pixels)
    print(f"starfish: {tool.told}")
    yield "starfish", tool


TOOLS = {
    "stellarhml": make_stellarhml,
    "rvspecfit": make_rvspecfit,
    "starfish": make_starfish,
    "payne": make_payne,
    "pixels": make_pixels,
}


def predict(tool, data):
    """Errors of noise-free spectra, and milliseconds a spectrum."""
    miss = [truth - tool.observe(labels, truth) for labels, truth in zip(data.star_labels, data.at_rest, strict=True)]
    rms = np.sqrt(np.mean(np.square(miss), axis=(1, 2)))
    seconds = []
    for shift in np.linspace(-20, 20, 21):  # labels of their own, so that nothing is remembered
        begin = time.process_time()
        tool.spectrum(data.star_labels[0] + [shift + 100, 0, -0.1])
        seconds.append(time.process_time() - begin)
    return {
        "rms_median": float(np.median(rms)),
        "rms_largest": float(rms.max()),
        "ms_a_spectrum": 1e3 * float(np.median(seconds)),
        "pixels_a_spectrum": int(tool.size),
    }


def infer(tool, data):
    """Errors of the labels, share inside the tool's own intervals, seconds a star."""
    if not hasattr(tool, "fit"):
        return {"seconds_a_likelihood": tool.likelihood_seconds(data.star_labels[0], *data.observed[0])}
    tool.fit(*data.observed[0])  # compiles, opens files
    found = [tool.fit(*spectrum) for spectrum in data.observed]
    values, errors, seconds = (np.array(part) for part in zip(*found, strict=True))
    difference = values - data.truth
    inside = np.abs(difference) < stats.norm.ppf(0.84) * errors
    known = np.isfinite(errors).any(axis=0)
    return {
        "mean_absolute_error": np.abs(difference).mean(axis=0).tolist(),
        "median_absolute_error": np.median(np.abs(difference), axis=0).tolist(),
        "largest_error": np.abs(difference).max(axis=0).tolist(),
        "inside_68": [float(share) if use else None for share, use in zip(inside.mean(axis=0), known, strict=True)],
        "median_error_bar": [float(bar) for bar in np.nanmedian(np.where(known, errors, 0), axis=0)],
        "seconds_a_star": float(np.median(seconds)),
        "seconds_longest": float(seconds.max()),
    }


def show(name, figures):
    print(f"{name:>24} {figures['rms_median']:.5f}  {figures['rms_largest']:.5f} ", end="")
    print(f"{figures['ms_a_spectrum']:7.1f}", end="")
    if "seconds_a_likelihood" in figures:
        print(f"   labels not fitted: one likelihood takes {figures['seconds_a_likelihood']:.2f} s", flush=True)
        return
    mae, inside = figures["mean_absolute_error"], figures["inside_68"]
    print(" {:8.2f} {:6.4f} {:6.4f} {:6.4f} {:5.3f}  ".format(*mae), end="")
    print(" ".join("  - " if share is None else f"{100 * share:3.0f}%" for share in inside), end="")
    print(f" {figures['seconds_a_star']:7.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=["stellarhml", "rvspecfit", "payne", "pixels"])
    parser.add_argument("--stars", type=int, default=24, help="the first of the 24 stars")
    parser.add_argument("--seeds", type=int, default=1, help="mock observations of each star")
    parser.add_argument("--nodes", type=int, choices=(66, 99), default=66, help="of the SME grid")
    parser.add_argument("--orders", nargs="+", type=int, help="of the 28, from 0; default all")
    parser.add_argument("--interpolation", choices=("regulargrid", "triangulation"), default="regulargrid")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where generators and libraries are kept")
    args = parser.parse_args()
    args.jobs = 1
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    args.folder.mkdir(parents=True, exist_ok=True)

    data = Data(args)
    print(f"{len(data.observed)} spectra of {data.pixels.size} pixels, {args.nodes} nodes, S/N {SNR:g}, one core")
    tools = {}
    for chosen in args.tools:
        for name, tool in TOOLS[chosen](args, data):
            tools[name] = predict(tool, data) | infer(tool, data)
            print(HEADER)
            show(name, tools[name])
    ratios = {}
    if "stellarhml" in tools:
        ours = tools["stellarhml"]
        for name in tools:
            parts = [part for part in ("rms_median", "ms_a_spectrum", "seconds_a_star") if part in tools[name]]
            ratios[name] = {part: tools[name][part] / ours[part] for part in parts}
            pairs = zip(tools[name].get("mean_absolute_error", []), ours["mean_absolute_error"], strict=False)
            ratios[name]["mean_absolute_error"] = [theirs / mine for theirs, mine in pairs]
    finish(benchmark="compare", nodes=args.nodes, spectra=len(data.observed), tools=tools, ratios_to_stellarhml=ratios)


if __name__ == "__main__":
    main()
