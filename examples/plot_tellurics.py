"""
Lines of the Earth's atmosphere
===============================

A spectrum from the ground has telluric lines. How do they affect the labels, and what is better: to mask them, to
divide them out, or to include them in the model? The atmosphere here is simulated: forty lines at random wavelengths.
The star is a packaged spectrum from between the nodes.
"""

import matplotlib.pyplot as plt
import numpy as np

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid
from stellarhml.inference import results_table
from stellarhml.spectra import ObservedSpectrum, divide_tellurics, mask_tellurics

# %%
# Light of a star that moves by 20 km/s goes through the atmosphere, and then through a spectrograph of R = 55,000.
grid = load_mini_grid()
truth = dict(zip(grid.label_names, grid.labels_offgrid[2].tolist(), strict=True)) | {"rv": 20.0}
rng = np.random.default_rng(0)
fine = grid.wavelength
centers, depths = rng.uniform(8560, 8640, 40), rng.uniform(0.02, 0.6, 40)
transmission = np.prod(1 - depths[:, None] * np.exp(-0.5 * ((fine - centers[:, None]) / 0.05) ** 2), axis=0)
star = np.interp(fine, fine * (1 + truth["rv"] / 299_792.458), grid.flux_offgrid[2] / grid.flux_offgrid[2].max())


def record(light, wavelength, *, resolving_power=55_000):
    x = np.arange(-30, 31) * 0.01 / (8600 / resolving_power / 2.3548)
    kernel = np.convolve(np.exp(-0.5 * x**2), np.ones(5))  # pixels of 0.05 angstrom, five of the grid's
    return np.interp(wavelength, fine, np.convolve(light, kernel / kernel.sum(), mode="same"))


wavelength = np.arange(8564, 8636, 0.05)
error = np.full(len(wavelength), 0.01)
noise = error * rng.normal(size=len(error))
seen = record(star * transmission, wavelength) + noise
spectrum = ObservedSpectrum([(wavelength, seen, error)])
through = record(transmission, wavelength)
print(f"{(through < 0.99).mean():.0%} of the pixels have lost more than 1 % of their light")

# %%
# The same photons, used in five ways. The first is a telescope in space, for comparison. Masking loses the pixels of
# telluric lines. Dividing keeps them, with errors that grow with the lost light. A model that includes the transmission
# needs no change of the data.
ways = {
    "no atmosphere": (ObservedSpectrum([(wavelength, record(star, wavelength) + noise, error)]), {}),
    "ignored": (spectrum, {}),
    "masked": (mask_tellurics(spectrum, wavelength, through, threshold=0.99), {}),
    "divided out": (divide_tellurics(spectrum, wavelength, through), {}),
    "in the model": (spectrum, {"transmission": (fine, transmission)}),
}
band = (grid.wavelength > 8560) & (grid.wavelength < 8640)
generator = SpectrumGenerator(
    wavelength=grid.wavelength[band][::2],
    preprocessor=PhoenixPreprocessor(degree=1, peak_distance=750),
    label_names=grid.label_names,
)
generator.fit(grid.labels, grid.flux[:, band][:, ::2])
regressor = BayesianStellarRegressor.from_generator(generator)
results = {
    way: regressor.infer(given, resolving_power=55_000, fixed={"vsini": 0.0}, **settings)
    for way, (given, settings) in ways.items()
}
table = results_table(results.values(), list(results)).set_index("star")
print("truth:", truth)
print(table[["teff", "teff_std", "logg", "feh", "rv", "reduced_chi2", "n_pixels", "flags"]].round(3).to_string())

# %%
# The spectrum and its residuals.
figure, axes = plt.subplots(3, 1, figsize=(10, 7), layout="constrained", sharex=True, height_ratios=(2, 1, 1))
axes[0].step(wavelength, seen, where="mid", color="k", lw=0.7, label="spectrum")
axes[0].plot(wavelength, through + 0.5, color="#56B4E9", lw=0.9, label="transmission + 0.5")
axes[0].legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
axes[0].set_ylabel("Flux")
for ax, way in zip(axes[1:], ("ignored", "divided out"), strict=True):
    order = results[way].orders[0]
    ax.step(wavelength, order.residual / order.error, where="mid", color="#0072B2", lw=0.7)
    ax.set(ylabel="Residual / error", ylim=(-8, 8))
    ax.set_title(way, fontsize="medium", loc="left")
axes[2].set_xlabel("Vacuum wavelength [Å]")

# %%
# Values and their errors; the line is the truth. All have the same noise. Ignored tellurics are flagged and make
# errors much larger. Masking costs a little of the precision; dividing them out, or including them in the model,
# hardly any.
figure, axes = plt.subplots(1, 4, figsize=(10, 3.2), layout="constrained", sharey=True)
titles = {"teff": r"$T_\mathrm{eff}$ [K]", "logg": r"$\log g$ [dex]", "feh": "[Fe/H] [dex]", "rv": "RV [km/s]"}
for ax, (name, title) in zip(axes, titles.items(), strict=True):
    ax.axvline(truth[name], color="#D55E00", lw=1)
    for row, result in enumerate(results.values()):
        ax.errorbar(result.values[name], row, xerr=result.errors[name], fmt="o", color="#0072B2", capsize=3)
    ax.set(xlabel=title, yticks=range(len(results)), yticklabels=list(results))
axes[0].invert_yaxis()
plt.show()
