"""Two stars in one spectrum, and spots: mock stars of known truth, and two spotted stars that were observed.

pairs           24 pairs of stars between the nodes of the SME grid, flux ratios 0.05 to 0.8, velocities 5 to 60 km/s
                apart, and the same 24 primaries alone. Both have their own [Fe/H], and both are free.
siblings        the same with second stars whose [Fe/H] differs by less than 0.06 dex, and a prior of this (`alike`).
spots           24 stars of log g 4.5 at nodes of the grid, of which 10 to 60 % are covered by the spectrum of a node
                that is 500 to 1000 K cooler, and the same stars without spots.
observed_spots  LkCa 4 and S1063 with the PHOENIX grid of the H band.

Mock stars are observed by ../shared/tools/mock_observation.py: 28 orders like HPF's, or six with --six-orders, R
55,000, S/N 100. The generator of normalised SME spectra learns its flux levels from the raw ones; --black-body takes
black bodies instead. Errors are those of fits with two components, of the stars in which the data show the second.
quoted_over_alone is what the data allow: the ratio of the quoted errors of labels to those of the stars alone.
"""

import numpy as np
from inference import sme_generator
from shared import load_tool

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator, load, save
from stellarhml.inference.second_component import WORTH
from stellarhml.spectra import read_spectrum

NAMES = ("teff", "logg", "feh", "rv")
WINDOW = (15_550.0, 16_250.0)  # vacuum angstrom, of the observed stars
ORDERS = (2, 6, 11, 15, 20, 25)
N_STARS = 24
ALIKE = 0.05  # dex: standard deviation of the difference of [Fe/H] of siblings
POWER, SNR = 55_000, 100.0


class Mocks:
    """Spectra between the nodes of the SME grid: physical flux, and the continuum at a wavelength."""

    def __init__(self, args):
        stars, flat = (load_tool("shared_data").sme_hpf_offgrid(normalised=flag) for flag in (False, True))
        self.wavelength, self.flux, self.labels = stars["wavelength"], stars["flux"], stars["labels"]
        self.middle = float(self.wavelength[[0, -1]].mean())
        at = np.abs(self.wavelength - self.middle) < 2.0
        self.level = np.median(self.flux[:, at] / flat["flux"][:, at], axis=1)
        self.observe = load_tool("mock_observation").observe
        self.pixels = load_tool("mock_observation").hpf_pixels()
        if args.six_orders:
            self.pixels = self.pixels[list(ORDERS)]

    def spectrum(self, flux, **star):
        """Orders of a mock star: wavelength, flux, error."""
        observed = self.observe(self.wavelength, flux, self.pixels, resolving_power=POWER, snr=SNR, **star)
        return (self.pixels, *observed)


def pairs(args):
    """Pairs of stars with [Fe/H] of their own, and the same primaries alone."""
    return _pairs(args, 7000, {"tied": ()}, 10.0)


def siblings(args):
    """Pairs of stars of nearly the same [Fe/H], and the same primaries alone."""
    return _pairs(args, 7500, {"alike": {"feh": ALIKE}}, 1.2 * ALIKE)


def _pairs(args, seed, companion, most):
    """Pairs of stars whose [Fe/H] differs by `most` dex at most, fitted with options of the `companion`."""
    mocks, regressor = Mocks(args), _regressor(args)
    blends, single, truth = [], [], []
    for first in range(N_STARS):
        rng = np.random.default_rng(seed + args.seed + first)
        others = np.flatnonzero(np.abs(mocks.labels[:, 2] - mocks.labels[first, 2]) < most)
        others = others[others != first]
        cooler = others[mocks.labels[others, 0] < mocks.labels[first, 0] + 100]
        second = rng.choice(cooler if len(cooler) else others)
        ratio, apart = np.exp(rng.uniform(np.log(0.05), np.log(0.8))), rng.uniform(5, 60) * rng.choice([-1, 1])
        star = {"rv": rng.uniform(-50, 50), "vsini": rng.uniform(2, 10), "seed": args.seed + first}
        scale = ratio * mocks.level[first] / mocks.level[second]
        other = {"flux": mocks.flux[second] * scale, "rv": star["rv"] + apart, "vsini": rng.uniform(2, 10)}
        blends.append(mocks.spectrum(mocks.flux[first], companion=other, **star))
        single.append(mocks.spectrum(mocks.flux[first], **star))
        truth.append([*mocks.labels[first], star["rv"], ratio, *mocks.labels[second, [0, 2]], other["rv"]])
    truth = np.array(truth)
    print(f"difference of [Fe/H], root mean square: {np.sqrt(np.mean((truth[:, 6] - truth[:, 2]) ** 2)):.3f} dex")
    names = (*NAMES, "flux_ratio", "teff_2", "feh_2", "rv_2")
    return _judge(args, regressor, blends, single, truth, names, {"companion": companion})


def spots(args):
    """Spotted stars, and the same stars without spots."""
    mocks, regressor, grid = Mocks(args), _regressor(args), load_tool("shared_data").sme_hpf_grid()
    spotted, single, truth = [], [], []
    for i in range(N_STARS):
        rng = np.random.default_rng(8000 + args.seed + i)
        labels = grid["labels"]
        inside = (labels[:, 1] == 4.5) & (labels[:, 2] == rng.choice([-0.5, 0.0, 0.5]))
        first = rng.choice(np.flatnonzero(inside & (labels[:, 0] >= 5600)))
        cooler = labels[first, 0] - labels[:, 0]
        second = rng.choice(np.flatnonzero(inside & (cooler >= 500) & (cooler <= 1000)))
        filling = rng.uniform(0.1, 0.6)
        star = {"rv": rng.uniform(-50, 50), "vsini": rng.uniform(2, 15), "seed": args.seed + i}
        spotted.append(mocks.spectrum((1 - filling) * grid["flux"][first] + filling * grid["flux"][second], **star))
        single.append(mocks.spectrum(grid["flux"][first], **star))
        truth.append([*labels[first], star["rv"], filling, labels[second, 0]])
    return _judge(args, regressor, spotted, single, np.array(truth), (*NAMES, "f_spot", "teff_spot"), {"spots": True})


def _regressor(args):
    """Regressor on the 99 nodes of the HPF band, with flux levels."""
    generator = sme_generator(args)
    if not args.black_body:
        grid = load_tool("shared_data").sme_hpf_grid()
        generator.learn_level(grid["labels"], grid["flux"])
    return BayesianStellarRegressor.from_generator(generator)


def observed_spots(args):
    """Spots of two observed stars, beside what is published."""
    regressor, found = BayesianStellarRegressor.from_generator(_hband(args)), {}
    low, high = WINDOW
    lkca4 = load_tool("shared_data").real_star("lkca4")
    rows = [np.flatnonzero(lkca4["order"] == number) for number in np.unique(lkca4["order"])]
    rows = [row for row in rows if low < lkca4["wavelength"][row[0]] and lkca4["wavelength"][row[-1]] < high]
    lkca4 = tuple([lkca4[key][row] for row in rows] for key in ("wavelength", "flux", "sigma"))
    s1063 = read_spectrum(load_tool("shared_data").observed("igrins_S1063.npz"), format="igrins")
    s1063 = s1063.select(
        [k for k, order in enumerate(s1063.orders) if low < order.wavelength[0] and order.wavelength[-1] < high]
    )
    published = {
        "LkCa 4": "4100 K with 2700 to 3000 K on 74 to 86 % (Gully-Santiago et al. 2017)",
        "S1063": "5200 K with 4000 +- 200 K on 32 +- 7 % (Gosnell et al. 2022)",
    }
    for name, spectrum in {"LkCa 4": lkca4, "S1063": s1063}.items():
        # the grid has the resolving power of IGRINS already
        common = {"resolving_power": None, "line_errors": False}
        one = regressor.infer(spectrum, **common)
        two = regressor.infer(spectrum, spots=True, components=2, **common)
        print(f"{name}, published: {published[name]}")
        print(f"one temperature: {one}\ntwo: {two}\n{'; '.join(two.messages)}", flush=True)
        found[name] = {
            "one": {key: (one.values[key], one.errors[key]) for key in one.names},
            "two": {key: (two.values[key], two.errors[key]) for key in two.names},
            "reduced_chi2": [one.reduced_chi2, two.reduced_chi2],
            "log_evidence": two.log_evidence,
            "flags": two.flag_names,
        }
        _draw(args.folder / f"spots_{name.replace(' ', '').lower()}.png", name, one, two)
    return found


def _hband(args):
    """Generator of raw PHOENIX fluxes of a part of the H band, fitted once."""
    path = args.folder / "hband_spots.asdf"
    if not path.is_file():
        data = load_tool("shared_data").phoenix_hband()
        inside = (data["wavelength"] > WINDOW[0] - 50) & (data["wavelength"] < WINDOW[1] + 50)
        wavelength = data["wavelength"][inside]
        scaler = PhoenixPreprocessor(wavelength=wavelength, degree=3, peak_distance=1500)
        generator = SpectrumGenerator(wavelength=wavelength, preprocessor=scaler, residual_rank=64, n_jobs=args.jobs)
        save(generator.fit(data["labels"], data["flux"][:, inside]), path)
    return load(path)


def _draw(path, name, one, two):
    """Data, fits with one and two temperatures, and residuals of a stretch of one order."""
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(2, sharex=True, figsize=(10, 5), height_ratios=(2, 1), layout="constrained")
    order = len(one.orders) // 2
    for result, color, text in ((one, "tab:orange", "one temperature"), (two, "tab:blue", "two temperatures")):
        fit = result.orders[order]
        shown = slice(len(fit.wavelength) // 3, 2 * len(fit.wavelength) // 3)
        level = one.orders[order].continuum[shown]
        if result is one:
            good = np.where(np.isfinite(fit.error), fit.flux, np.nan)
            top.plot(fit.wavelength[shown], good[shown] / level, color="0.4", lw=0.8, label=name)
        top.plot(fit.wavelength[shown], fit.model[shown] / level, color=color, lw=0.8, label=text)
        bottom.plot(fit.wavelength[shown], fit.residual[shown] / level, color=color, lw=0.8)
    top.set_ylabel("flux over continuum of one")
    bottom.set_ylabel("data - model")
    bottom.set_xlabel("wavelength [vacuum angstrom]")
    top.legend(ncols=3, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"picture: {path}")


def _judge(args, regressor, blends, single, truth, names, options):
    """Print and return errors with two components beside those of the same stars alone, and what is found."""
    common = {"resolving_power": POWER, "line_errors": False, "n_jobs": args.jobs}
    results = regressor.infer_many(blends, components=2, **options, **common)
    asked = regressor.infer_many(single, components=2, **options, **common)
    alone = regressor.infer_many(single, **common)
    off, quoted = _errors(results, truth, names)
    off_alone, quoted_alone = _errors(alone, truth, NAMES)
    for row, std, result in zip(off, quoted, results, strict=True):
        text = ", ".join(f"{name} {a:+.3g} +- {b:.2g}" for name, a, b in zip(names, row, std, strict=True))
        print(f"  {text}; ln evidence {result.log_evidence:.0f} {result.flag_names}")
    gain, false = (np.array([result.log_evidence for result in part]) for part in (results, asked))
    shown = gain > WORTH
    mean, mean_alone = (np.abs(part[shown][:, :3]).mean(axis=0) for part in (off, off_alone))
    limit, limit_alone = (part[shown][:, :3].mean(axis=0) for part in (quoted, quoted_alone))
    found = {
        "n_stars": len(results),
        "labels_over_alone": np.round(mean / mean_alone, 2).tolist(),
        "quoted_over_alone": np.round(limit / limit_alone, 2).tolist(),
        "found": int(shown.sum()),
        "found_wrongly": int((false > WORTH).sum()),
        "log_evidence": gain.round(1).tolist(),
        "log_evidence_alone": false.round(1).tolist(),
        "seconds": float(np.median([result.seconds for result in results])),
        "seconds_alone": float(np.median([result.seconds for result in alone])),
        "median_absolute_error": dict(zip(names, np.median(np.abs(off[shown]), axis=0).tolist(), strict=True)),
        "mean_absolute_error": dict(zip(names, np.abs(off[shown]).mean(axis=0).tolist(), strict=True)),
        "alone": dict(zip(NAMES, np.abs(off_alone[shown]).mean(axis=0).tolist(), strict=True)),
        "quoted": dict(zip(names, np.median(quoted[shown], axis=0).tolist(), strict=True)),
        "quoted_alone": dict(zip(NAMES, np.median(quoted_alone[shown], axis=0).tolist(), strict=True)),
        "inside_68": dict(zip(names, (np.abs(off) < quoted)[shown].mean(axis=0).tolist(), strict=True)),
        "inside_68_labels": float((np.abs(off) < quoted)[shown][:, :3].mean()),
        "inside_68_labels_alone": float((np.abs(off_alone) < quoted_alone)[shown][:, :3].mean()),
        "rms_over_quoted": dict(zip(names, np.sqrt(np.mean((off / quoted)[shown] ** 2, axis=0)).tolist(), strict=True)),
    }
    for key, value in found.items():
        print(f"  {key}: {value}")
    return found


def _errors(results, truth, names):
    """Found minus true values and their quoted errors, each (n_stars, n_names)."""
    values, quoted = (np.array([[part[n] for n in names] for part in parts]) for parts in _columns(results))
    return values - truth[:, : len(names)], quoted


def _columns(results):
    return [result.values for result in results], [result.errors for result in results]
