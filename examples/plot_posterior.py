"""
Is a Gaussian good enough?
==========================

By default `infer` takes the posterior for a Gaussian about the best fit, which costs next to nothing. A star that does
not rotate is where this must fail: vsini cannot be negative, and near zero it hardly changes the spectrum. How wrong
is its error then, and does that harm the labels?
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.interpolate import CubicSpline

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid
from stellarhml.plotting import CornerDisplay

# %%
# The generator of 80 angstrom, and a star from between the nodes that does not rotate, at R = 55,000 and a
# signal-to-noise ratio of 200, on two nights that differ in their noise.
grid = load_mini_grid()
band = (grid.wavelength > 8560) & (grid.wavelength < 8640)
generator = SpectrumGenerator(
    wavelength=grid.wavelength[band][::2],
    preprocessor=PhoenixPreprocessor(degree=1, peak_distance=750),
    label_names=grid.label_names,
)
generator.fit(grid.labels, grid.flux[:, band][:, ::2])
regressor = BayesianStellarRegressor.from_generator(generator)

truths = dict(zip(grid.label_names, grid.labels_offgrid[2].tolist(), strict=True)) | {"rv": 0.0, "vsini": 0.0}
kernel = np.exp(-0.5 * (np.arange(-30, 31) * 0.01 / (8600 / 55_000 / 2.3548)) ** 2)
kernel = np.convolve(kernel, np.ones(5))  # pixels of 0.05 angstrom, five of the grid's
light = np.convolve(grid.flux_offgrid[2] / grid.flux_offgrid[2].max(), kernel / kernel.sum(), mode="same")
wavelength = np.arange(8562, 8638, 0.05)
error = np.full(len(wavelength), 0.005)
noise = [error * np.random.default_rng(night).normal(size=len(error)) for night in range(2)]
nights = [np.interp(wavelength, grid.wavelength, light) + part for part in noise]

# %%
# The Gaussians. SLOW_ROTATION says that vsini is to be taken as an upper limit.
results = [regressor.infer((wavelength, flux, error), resolving_power=55_000) for flux in nights]
print(*results, sep="\n")
CornerDisplay.from_result(results[1], truths=truths)

# %%
# The posterior of vsini without that assumption: vsini is held at one value after the other, and all else is fitted.
# Each fit has its chi-square, and a covariance for the volume of the other parameters.
values, fine = np.linspace(0, 3, 11), np.linspace(0, 3, 3001)


def exact(flux):
    fits = [regressor.infer((wavelength, flux, error), resolving_power=55_000, fixed={"vsini": v}) for v in values]
    chi2 = np.array([fit.reduced_chi2 for fit in fits]) * (fits[0].n_pixels - 4)
    room = np.array([np.linalg.slogdet(fit.covariance[:4, :4])[1] for fit in fits])
    log_density = CubicSpline(values, (room - chi2) / 2)(fine)
    density = np.exp(log_density - log_density.max())
    return density / (density.sum() * (fine[1] - fine[0])), np.array([fit.values["teff"] for fit in fits])


# %%
# On the first night noise looks like some rotation, and the Gaussian is not bad. On the second the best fit is at
# zero, where the spectrum does not change with vsini to first order, and the Gaussian is far too wide. The posterior
# falls where the lines become too wide. Its upper limit is printed beside the Gaussian's. Teff,
# below, moves less with vsini than its own error, the grey band, as far as the posterior reaches.
figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained", sharex=True)
for k, (flux, result) in enumerate(zip(nights, results, strict=True)):
    density, teff = exact(flux)
    limit = fine[np.searchsorted(np.cumsum(density) * (fine[1] - fine[0]), 0.95)]
    draws = result.sample(20_000, random_state=0)[:, -1]
    print(f"night {k + 1}: vsini < {limit:.2f} km/s with 95 %, by the Gaussian < {np.percentile(draws, 95):.2f} km/s")
    top, bottom = axes[:, k]
    top.hist(draws, bins=np.linspace(0, 20, 201), density=True, color="#0072B2", alpha=0.5, label="Gaussian")
    top.plot(fine, density, color="#D55E00", label="posterior")
    top.axvline(limit, color="#D55E00", ls=":", label="95 % lie below")
    top.set_title(f"night {k + 1}", loc="left", fontsize="medium")
    low, high = (result.values["teff"] + sign * result.errors["teff"] for sign in (-1, 1))
    bottom.axhspan(low, high, color="0.88", label="Gaussian, 68 %")
    bottom.axhline(truths["teff"], color="0.3", lw=1, ls="--", label="truth")
    bottom.plot(values, teff, "o-", ms=3, color="#0072B2", label="fit with vsini held")
    bottom.axvline(limit, color="#D55E00", ls=":")
    bottom.set(xlim=(0, 3), xlabel=r"$v\,\sin i$ [km/s]")
axes[0, 0].set_ylabel("probability density")
axes[1, 0].set_ylabel(r"$T_\mathrm{eff}$ [K]")
for ax in axes[:, 1]:
    ax.legend(framealpha=1)

# %%
# ``infer(..., posterior="emcee")`` (``pip install "stellarhml[samplers]"``) samples all of the posterior at once, and
# `interval`, `sample` and CornerDisplay then use its draws. It takes a minute or more.
plt.show()
