"""
A grid of one's own
===================

Must a grid be PHOENIX, be complete, and have three labels? No: any two arrays do. Here spectra come from a formula, with
[alpha/Fe] as a fourth label, and a seventh of the nodes are missing, as if their models had not converged.
"""

import matplotlib.pyplot as plt
import numpy as np

from stellarhml import BayesianStellarRegressor, SpectrumGenerator

NAMES = ("teff", "logg", "feh", "alpha")

# %%
# Twelve lines, every third of an alpha element. Their optical depths follow the labels smoothly, and the continuum is one, so
# that no preprocessor is needed.
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
labels = labels[rng.uniform(size=len(labels)) > 1 / 7]
print(f"{len(labels)} of {np.prod([len(axis) for axis in axes])} nodes")

# %%
# Names are free; "teff" alone means something, and only to a preprocessor. Holes between nodes are interpolated over. Nothing
# is extrapolated: stars in a hole at the edge of the grid are outside, and `predict` would refuse them.
generator = SpectrumGenerator(wavelength=wavelength, label_names=NAMES)
generator.fit(labels, spectra(labels))
stars = np.array([np.quantile(axis, rng.uniform(0.05, 0.95, 60)) for axis in axes]).T
_, outside = generator.predict_nearest(stars)
print(f"{outside.sum()} of {len(stars)} stars are outside")
stars = stars[~outside]

# %%
# How well are the others predicted, and what did it learn of the first line, which is one of an alpha element?
flux, std = generator.predict(stars, return_std=True)
error = flux - spectra(stars)
print(f"rms error {np.sqrt(np.mean(error**2)):.5f}, expected {np.sqrt(np.mean(std**2)):.5f}")
line = generator.decomposer_.line_catalog_[np.argmin(np.abs(generator.decomposer_.line_catalog_ - centers[0]))]
print(generator.line_table([5500, 4.5, -0.25, 0.2]).loc[line].filter(like="equivalent_width").round(5).to_string())

# %%
# Labels of these stars from spectra with a signal-to-noise ratio of 200.
regressor = BayesianStellarRegressor.from_generator(generator)
noise = 0.005 * rng.normal(size=flux.shape)
found, sigma = regressor.predict(spectra(stars) + noise, flux_error=np.full(flux.shape, 0.005), return_std=True)
inside = (np.abs(found - stars) < sigma).mean(axis=0)
for k, name in enumerate(NAMES):
    off = np.abs(found - stars).mean(axis=0)[k]
    print(f"{name:6} mean error {off:8.3f}, expected std {sigma.mean(axis=0)[k]:8.3f}, within 1 std: {inside[k]:.0%}")

figure, panels = plt.subplots(1, 4, figsize=(12, 3.3), layout="constrained")
units = (r"$T_\mathrm{eff}$ [K]", r"$\log g$ [dex]", "[Fe/H] [dex]", r"[$\alpha$/Fe] [dex]")
for k, (ax, text) in enumerate(zip(panels, units, strict=True)):
    ax.axhline(0, color="0.6", lw=0.8)
    look = {"fmt": "o", "color": "#0072B2", "ms": 3.5, "lw": 0.8}
    ax.errorbar(stars[:, k], found[:, k] - stars[:, k], sigma[:, k], **look)
    ax.set(xlabel=f"true {text}", title=f"found less true {text}")
    ax.title.set_fontsize("medium")
plt.show()
