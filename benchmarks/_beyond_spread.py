"""Stars whose spectrograph is not known well: its resolving power, and its wavelengths order by order.

spread      24 off-grid SME stars as HPF would see them (R 55,000, S/N 100, vsini 2 to 15 km/s), with a resolving power
            that is stated 20 % too low or too high: taken as it is, and with its factor fitted, prior 25 %.
velocities  the same stars, the wavelengths of each order off by 0.2 km/s (standard deviation): the errors of rv.

--stars takes the first ones only. Other --seed have other velocities and noise.
"""

import numpy as np
from inference import sme_generator
from shared import load_tool

from stellarhml import BayesianStellarRegressor

NAMES = ("teff", "logg", "feh")
POWER, WRONG_BY, PRIOR = 55_000, 1.2, 0.25
SHIFT = 0.2  # km/s, standard deviation of the wavelengths of an order
SLOW = 5.0  # km/s, vsini below which results are listed by themselves
C = 299_792.458


def spread(args):
    """A resolving power stated 20 % too high or too low: taken as it is, and with its factor fitted."""
    stars, truth, spectra = _observed(args, shift=0.0)
    regressor = BayesianStellarRegressor.from_generator(sme_generator(args))
    right = regressor.infer_many(spectra, resolving_power=POWER, n_jobs=args.jobs)
    wrong, fitted, factors = [], [], []
    for number, spectrum in enumerate(spectra):
        stated = POWER * (WRONG_BY if number % 2 else 1 / WRONG_BY)
        wrong.append(regressor.infer(spectrum, resolving_power=stated))
        fitted.append(regressor.infer(spectrum, resolving_power=stated, resolving_power_error=PRIOR))
        factors.append(POWER / stated)
    slow = truth["vsini"] < SLOW
    found = {}
    for name, rows in (("vsini below 5", slow), ("vsini above 5", ~slow)):
        if rows.any():
            found[name] = _spread_summary(name, rows, stars, truth, factors, right, wrong, fitted)
    for vsini, true, result in zip(truth["vsini"], factors, fitted, strict=True):
        pairs = [(result.values[n], result.errors[n]) for n in ("resolving_power_factor", "vsini")]
        text = ", ".join(f"{value:.3f} +- {error:.3f}" for value, error in pairs)
        print(f"  factor and vsini: true {true:.3f}, {vsini:.2f}; found {text}; {result.flag_names}")
    return found


def _spread_summary(name, rows, stars, truth, factors, right, wrong, fitted):
    """Figures of some of the stars."""
    kept = np.flatnonzero(rows)
    results = [fitted[i] for i in kept]
    factor = np.array([r.values["resolving_power_factor"] for r in results]) / np.array(factors)[kept] - 1
    error = np.array([r.errors["resolving_power_factor"] for r in results]) / np.array(factors)[kept]
    found = {
        "n_stars": len(kept),
        "factor_off": _absolute(factor),
        "factor_over_error": _rms(factor / error),
        "factor_error": float(np.median(error)),
        "flagged": float(np.mean(["RESOLVING_POWER" in r.flag_names for r in results])),
        "flagged_as_stated": float(np.mean(["RESOLVING_POWER" in wrong[i].flag_names for i in kept])),
    }
    for title, some in (("right", right), ("wrong", wrong), ("fitted", fitted)):
        off = np.array([some[i].values["vsini"] - truth["vsini"][i] for i in kept])
        quoted = np.array([some[i].errors["vsini"] for i in kept])
        found[f"vsini_off_{title}"] = _absolute(off) | {"over_error": _rms(off / quoted)}
        labels = np.array([[some[i].values[n] for n in NAMES] for i in kept]) - stars["labels"][kept]
        quoted = np.array([[some[i].errors[n] for n in NAMES] for i in kept])
        found[f"labels_{title}"] = {
            "mean_absolute_error": np.abs(labels).mean(axis=0).tolist(),
            "over_error": np.sqrt(np.mean((labels / quoted) ** 2, axis=0)).tolist(),
        }
    moved = [[fitted[i].values[n] - right[i].values[n] for n in NAMES] for i in kept]
    found["labels_moved_over_error"] = float(
        np.max(np.abs(moved) / np.array([[right[i].errors[n] for n in NAMES] for i in kept]))
    )
    found["labels_moved"] = np.abs(moved).max(axis=0).tolist()
    print(f"{name}: {found}")
    return found


def velocities(args):
    """Wavelengths of each order off by 0.2 km/s (standard deviation): velocities and errors, stated or not."""
    _, truth, spectra = _observed(args, shift=SHIFT)
    regressor = BayesianStellarRegressor.from_generator(sme_generator(args))
    found = {}
    for name, error in (("stated", SHIFT), ("not stated", None)):
        results = regressor.infer_many(spectra, resolving_power=POWER, wavelength_error=error, n_jobs=args.jobs)
        off = np.array([r.values["rv"] for r in results]) - truth["rv"]
        quoted = np.array([r.errors["rv"] for r in results])
        found[name] = {
            "n_stars": len(results),
            "rv_rms": _rms(off),
            "rv_error": float(np.median(quoted)),
            "over_error": _rms(off / quoted),
            "inside_68": float(np.mean(np.abs(off) < quoted)),
            "scatter_between_orders": float(np.median([r.rv_scatter for r in results])),
        }
        if error is not None:
            parts = [r.error_budget().loc["rv"] for r in results]
            found[name] |= {part: float(np.median([row[part] for row in parts])) for part in ("noise", "wavelength")}
        orders = [
            (row.rv - truth["rv"][i] - truth["shifts"][i][int(row.order)]) / row.rv_std
            for i, result in enumerate(results)
            for row in result.order_velocities.itertuples()
        ]
        found[name]["orders_over_error"] = _rms(orders)
        print(f"velocities, wavelength error {name}: {found[name]}")
    return found


def _observed(args, *, shift):
    """Off-grid stars, their true velocities by name, and their spectra as HPF would see them."""
    tool, mock = load_tool("shared_data"), load_tool("mock_observation")
    stars, pixels = tool.sme_hpf_offgrid(), mock.hpf_pixels()
    truth, spectra = {"rv": [], "vsini": [], "shifts": []}, []
    for i in range(min(args.stars, len(stars["labels"]))):
        seed = 1700 + 1000 * args.seed + i
        rng = np.random.default_rng(seed)
        velocity = {"rv": rng.uniform(-50, 50), "vsini": rng.uniform(2, 15)}
        observed = mock.observe(
            stars["wavelength"],
            stars["flux"][i],
            pixels,
            **velocity,
            resolving_power=POWER,
            snr=100,
            seed=seed,
        )
        shifts = shift * rng.normal(size=len(pixels))
        spectra.append((list(pixels * (1 + shifts[:, None] / C)), *map(list, observed)))
        for name, value in (velocity | {"shifts": shifts}).items():
            truth[name].append(value)
    return stars, {name: np.array(values) for name, values in truth.items()}, spectra


def _absolute(values):
    """Median and largest absolute value."""
    return {"median": float(np.median(np.abs(values))), "largest": float(np.max(np.abs(values)))}


def _rms(values):
    return float(np.sqrt(np.mean(np.square(values))))
