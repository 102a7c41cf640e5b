"""
A grid of one's own
===================

Must a grid be PHOENIX, be complete, and have three labels? No: any two arrays do. Here spectra come from a formula,
with [alpha/Fe] as a fourth label, and a corner of the grid is missing, as if its models had not converged.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np

from stellarhml import BayesianStellarRegressor, SpectrumGenerator
from stellarhml.exceptions import InferenceWarning

NAMES = ("teff", "logg", "feh", "alpha")

# %%
# Twelve lines, every third of an alpha element. Their optical depths follow the labels smoothly, and the continuum is
# one, so that no preprocessor is needed.
wavelength = np.arange(8500.0, 8530.0, 0.05)
rng = np.random.default_rng(0)
centers = np.linspace(8502, 8528, 12) + rng.uniform(-0.5, 0.5, 12)
strength, heat, gravity = rng.uniform(-1.0, 1.5, 12), rng.uniform(-1.5, 0.5, 12), rng.uniform(-0.4, 0.4, 12)
is_alpha = np.arange(12) % 3 == 0


def spectra(labels):
    teff, logg, feh, alpha = np.asarray(labels, dtype=float).T[:, :, None]
    log_depth = strength + heat * (teff - 5500) / 500 + gravity * (logg - 4.5) + 2.3 * (feh + is_alpha * alpha)
    sigma = 0.09 * np.sqrt(teff / 5500)
    x = (wavelength[:, None] - centers) / sigma[..., None]
    return np.exp(-np.exp(log_depth)[:, None] * np.exp(-0.5 * x**2)).prod(axis=2)


axes = ([5000, 5250, 5500, 5750, 6000], [4.0, 4.5, 5.0], [-0.5, -0.25, 0.0], [0.0, 0.2, 0.4])
labels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 4)
failed = (labels[:, 0] >= 5750) & (labels[:, 1] == 4.0)
grids = {"complete": labels, "with a hole": labels[~failed]}

# %%
# Names are free; only "teff" has a meaning, to a preprocessor. Nothing is extrapolated: stars in the
# missing corner are outside, and `predict` would refuse them.
stars = np.array([np.quantile(axis, rng.uniform(0.1, 0.9, 40)) for axis in axes]).T
generators = {
    name: SpectrumGenerator(wavelength=wavelength, label_names=NAMES).fit(nodes, spectra(nodes))
    for name, nodes in grids.items()
}
_, outside = generators["with a hole"].predict_nearest(stars)
print(f"{len(grids['with a hole'])} of {len(labels)} nodes, and {outside.sum()} of {len(stars)} stars are outside")
stars = stars[~outside]

# %%
# The first line, which is one of an alpha element: how its equivalent width [angstrom] grows.
table = generators["complete"].line_table([5500, 4.5, -0.25, 0.2])
print(table.iloc[np.argmin(np.abs(table.index - centers[0]))].filter(like="equivalent_width").round(5).to_string())

# %%
# Spectra of the stars, and their labels from spectra with a signal-to-noise ratio of 200. Beside the hole, slopes come
# from one side, as at the ends of a label: what is left of the grid is as good as the complete one. A star may still be
# pulled to where the nodes end: `predict` warns of those, and `infer` flags them.
true_flux = spectra(stars)
noise = np.full(true_flux.shape, 0.005)
seen = true_flux + noise * rng.normal(size=noise.shape)
figure, panels = plt.subplots(1, 4, figsize=(12, 3.6), layout="constrained")
for (name, generator), colour in zip(generators.items(), ("#0072B2", "#D55E00"), strict=True):
    flux, std = generator.predict(stars, return_std=True)
    rms, expected = (np.sqrt(np.mean(part**2)) for part in (flux - true_flux, std))
    print(f"{name}: spectra are off by {rms:.5f}, expected {expected:.5f}")
    regressor = BayesianStellarRegressor.from_generator(generator)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InferenceWarning)
        found, sigma = regressor.predict(seen, flux_error=noise, return_std=True)
    print(*(f"warning: {warning.message}" for warning in caught), sep="\n", end="\n" if caught else "")
    for k, (ax, label) in enumerate(zip(panels, NAMES, strict=True)):
        error = found[:, k] - stars[:, k]
        share = (np.abs(error) < sigma[:, k]).mean()
        print(f"{label:>8}: mean error {np.abs(error).mean():6.3f}, {share:.0%} within one standard deviation")
        ax.errorbar(stars[:, k], error, sigma[:, k], fmt="o", color=colour, ms=3, lw=0.7, label=name)
units = (r"$T_\mathrm{eff}$ [K]", r"$\log g$ [dex]", "[Fe/H] [dex]", r"[$\alpha$/Fe] [dex]")
for ax, text in zip(panels, units, strict=True):
    ax.axhline(0, color="0.4", lw=0.8)
    ax.set_xlabel(f"true {text}")
    ax.set_title(f"found less true {text}", fontsize="medium")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
plt.show()
