"""Parts of beyond_the_star.py: stars seen through the atmosphere, and the atmosphere in the spectrum of an A0V star."""

import numpy as np
from inference import sme_generator
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks
from shared import FOLDER, load_tool

from stellarhml import BayesianStellarRegressor
from stellarhml.calibration import resolve_tellurics
from stellarhml.flags import InferenceFlag
from stellarhml.inference import fit_tellurics
from stellarhml.spectra import Atmosphere, ObservedSpectrum, mask_tellurics, read_atmosphere, read_spectrum

NAMES = ("teff", "logg", "feh", "rv", "vsini")
BAND = 8100.0, 9250.0  # angstrom: the table ends at 9274
POWER, SNR = 55_000, 100
WATER, AIRMASS = (0.5, 4.0), (1.0, 2.0)  # amounts of water: 1 to 8 mm where the table has 2 mm
STRENGTHS, WIDTH = 0.05, 1.0  # of the wrong atlas: scatter of the lines, sigma in km/s
DEGREE = 25  # of the continuum of an order of an A0V star, whose hydrogen lines it follows
LINES = 0.3, 0.95  # transmissions of pixels with telluric lines


def atlas():
    """Transmission of O2 and H2O by species."""
    return read_atmosphere(FOLDER.parent / "data/telluric_atlas.npz", medium="vacuum")


def wrong_atlas(atmosphere):
    """The same with other strengths, line by line, and wider lines."""
    rng, table = np.random.default_rng(11), {}
    steps = np.median(np.diff(np.log(atmosphere.wavelength))) * 299_792.458
    for name, column in atmosphere.transmissions.items():
        depth = -np.log(np.clip(column, 1e-6, 1.0))
        lines, _ = find_peaks(depth)
        middle = (lines[1:] + lines[:-1]) // 2
        line = np.searchsorted(middle, np.arange(len(depth)))
        factor = np.exp(STRENGTHS * rng.normal(size=len(lines)))[line] if len(lines) else 1.0
        table[name] = np.exp(-gaussian_filter1d(depth * factor, WIDTH / steps))
    return Atmosphere(atmosphere.wavelength, table)


def stars_through_air(rows, seed=7000):
    """For each star: its labels and velocities, amounts, and its spectra without air, with it, and with it masked."""
    mock, stars, air = load_tool("mock_observation"), load_tool("shared_data").sme_hpf_offgrid(), atlas()
    pixels = mock.hpf_pixels()
    pixels = pixels[(pixels[:, 0] > BAND[0]) & (pixels[:, -1] < BAND[1])]
    near = stars["wavelength"] < BAND[1] + 100
    fine = np.arange(BAND[0] - 50, BAND[1] + 50, 0.01)
    at = np.arange(BAND[0] - 20, BAND[1] + 20, 0.04)
    for i in rows:
        rng = np.random.default_rng(seed + i)
        velocity = {"rv": rng.uniform(-50, 50), "vsini": rng.uniform(2, 15)}
        amounts = {"H2O": rng.uniform(*WATER), "O2": rng.uniform(*AIRMASS)}
        table = air.wavelength, air.total(amounts)
        see = {"resolving_power": POWER, "snr": SNR, "seed": seed + 1000 + i, **velocity}
        star = stars["wavelength"][near], stars["flux"][i][near]
        clear, seen = (
            ObservedSpectrum(
                list(zip(pixels, *mock.observe(*star, pixels, **see, transmission=t), strict=True)),
                {"frame": "telescope"},
            )
            for t in (None, table)
        )
        # masks need the transmission as the spectrograph sees it: the true one, which observers rarely have
        flat = mock.observe(fine, np.ones(len(fine)), at, resolving_power=POWER, transmission=table, throughput=False)[
            0
        ]
        masked = mask_tellurics(seen, at, flat / flat.max())
        truth = dict(zip(NAMES, [*stars["labels"][i], velocity["rv"], velocity["vsini"]], strict=True))
        yield truth | {f"a_{name}": value for name, value in amounts.items()}, clear, seen, masked


def tellurics(args, n_stars=24):
    """Stars seen through 1 to 8 mm of water at airmass 1 to 2: amounts fitted with the star, and otherwise."""
    regressor = BayesianStellarRegressor.from_generator(sme_generator(args))
    truth, *spectra = zip(*stars_through_air(range(n_stars)), strict=True)
    right, found = atlas(), {}
    parts = {
        "without air": (spectra[0], {}),
        "fitted": (spectra[1], {"tellurics": right}),
        "masked": (spectra[2], {}),
        "wrong atlas": (spectra[1], {"tellurics": wrong_atlas(right)}),
    }
    for name, (seen, settings) in parts.items():
        results = regressor.infer_many(seen, resolving_power=POWER, n_jobs=args.jobs, **settings)
        found[name] = _judge(name, results, truth)
    fitted, mean = found["fitted"], "mean_absolute_error"
    for other in ("without air", "masked"):
        ratio = np.divide(fitted[mean], found[other][mean])
        fitted[f"over_{other}"] = ratio.tolist()
        print(f"fitted over {other}: {ratio.round(2).tolist()}")
    ratio = np.divide(found["wrong atlas"][mean], found["without air"][mean])
    found["wrong atlas"]["over_without air"] = ratio.tolist()
    print(f"wrong atlas over without air: {ratio.round(2).tolist()}")
    return found


def _judge(title, results, truth):
    """Print and return errors of labels and velocities, coverage, amounts and flags."""
    values, quoted, true = (
        np.array([[part[name] for name in NAMES] for part in source])
        for source in ([r.values for r in results], [r.errors for r in results], truth)
    )
    difference = values - true
    found = {
        "mean_absolute_error": np.abs(difference).mean(axis=0).tolist(),
        "rms_over_quoted": np.sqrt(np.mean((difference / quoted) ** 2, axis=0)).tolist(),
        "inside_68": (np.abs(difference) < quoted).mean(axis=0).tolist(),
        "inside_68_labels": float((np.abs(difference) < quoted)[:, :3].mean()),
        "reduced_chi2": float(np.median([r.reduced_chi2 for r in results])),
        "flagged": sum(bool(r.flags & InferenceFlag.TELLURICS) for r in results),
        "with_faults": sum(r.line_faults is not None for r in results),
        "seconds": float(np.median([r.seconds for r in results])),
    }
    text = ", ".join(f"{key} {np.round(value, 3).tolist()}" for key, value in found.items())
    print(f"{title}: {text}", flush=True)
    for name in ("a_H2O", "a_O2"):
        if name in results[0].values:
            ratio = np.array([r.values[name] / t[name] - 1 for r, t in zip(results, truth, strict=True)])
            pull = np.array([(r.values[name] - t[name]) / r.errors[name] for r, t in zip(results, truth, strict=True)])
            amounts = {"largest": float(np.abs(ratio).max()), "mean": float(ratio.mean()), "rms": float(np.std(ratio))}
            found[name] = amounts | {"rms_over_quoted": float(np.sqrt(np.mean(pull**2)))}
            print(f"  {name}, found over true minus 1: {found[name]}")
    return found


def standard(args):
    """Water lines of an observed A0V star, by the atlas and by lines of a template at R 55,000, with a picture."""
    import matplotlib.pyplot as plt

    shared = load_tool("shared_data")
    spectrum = read_spectrum(shared.observed("hpf_goldilocks_A0V_HR4829.fits")).select(range(10))
    with np.load(shared.observed("telluric_hpf.npz")) as file:
        near = file["wavelength_A"] < BAND[1] + 24
        template = file["wavelength_A"][near], file["transmission"][near]
    found = {}
    figure, axes = plt.subplots(4, 1, figsize=(12, 11), layout="constrained")
    for name, air in (("atlas", atlas()), ("lines of a template", resolve_tellurics(*template, resolving_power=POWER))):
        result = fit_tellurics(spectrum, air, resolving_power=POWER, continuum_degree=DEGREE)
        print(name, result, "; ".join(result.messages), sep="\n")
        left, clear, rows = [], [], []
        for order in result.orders:
            good = np.isfinite(order.error) & np.isfinite(order.model)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = order.flux / order.continuum / order.transmission - 1
            lines = good & (order.transmission > LINES[0]) & (order.transmission < LINES[1])
            left.append(ratio[lines])
            clear.append(ratio[good & (order.transmission > 0.99)])
            rows.append(
                (order.number, int(lines.sum()), float(np.sqrt(np.mean(ratio[lines] ** 2))) if lines.any() else 0.0)
            )
            if name == "atlas" and order.number in (1, 7, 8):
                ax = axes[(1, 7, 8).index(order.number)]
                seen = np.where(good, order.flux / order.continuum, np.nan)
                ax.plot(order.wavelength, seen, color="0.6", lw=0.7, label="A0V star")
                ax.plot(order.wavelength, order.transmission, color="C1", lw=0.7, label="fitted transmission")
                shown = np.where(good & (order.transmission > LINES[0]), ratio + 1, np.nan)
                ax.plot(order.wavelength, shown, color="C0", lw=0.7, label="star over transmission")
                ax.set(ylabel=f"order {order.number}", ylim=(-0.02, 1.2))
                ax.legend(loc="lower left", fontsize="small", ncols=3)
        rms, usual = (float(np.sqrt(np.mean(np.concatenate(part) ** 2))) for part in (left, clear))
        print(f"{name}: rms of what is left in {sum(map(len, left))} pixels of lines {rms:.4f}, elsewhere {usual:.4f}")
        print("  order, pixels, rms:", rows)
        found[name] = {"rms_in_lines": rms, "rms_elsewhere": usual, "values": result.values, "errors": result.errors}
        axes[3].hist(np.concatenate(left), bins=np.linspace(-0.1, 0.1, 81), histtype="step", label=name)
    axes[3].set_xlabel("star over transmission, minus 1, in telluric lines")
    axes[3].legend()
    figure.savefig(args.folder / "telluric_standard.png", dpi=110)
    print(f"picture: {args.folder / 'telluric_standard.png'}")
    return found
