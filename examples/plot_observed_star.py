"""
A star as a spectrograph sees it
================================

What can be learnt from three orders of a spectrograph, when the star moves and rotates, the blaze is still in, and some
pixels are bad? The star is one of the packaged spectra that lie between the nodes of the grid. NumPy alone makes the
observation from it, so that only the inference uses the generator.
"""

import matplotlib.pyplot as plt
import numpy as np

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid
from stellarhml.plotting import CornerDisplay, InferenceDisplay
from stellarhml.spectra import ObservedSpectrum

SPEED_OF_LIGHT = 299_792.458  # km/s


# %%
# Rotation, with linear limb darkening, broadens the lines; so does the spectrograph; the velocity shifts them; and
# each pixel integrates the light that falls on it.
def observe(wavelength, flux, pixel_edges, *, rv, vsini, resolving_power, limb_darkening=0.6):
    step = 1e-6  # of ln wavelength: 0.3 km/s
    ln_wavelength = np.arange(np.log(wavelength[0]), np.log(wavelength[-1]), step)
    light = np.interp(ln_wavelength, np.log(wavelength), flux)
    velocity = SPEED_OF_LIGHT * step * np.arange(-300, 301)
    inside = np.maximum(1 - (velocity / vsini) ** 2, 0)
    rotation = 2 * (1 - limb_darkening) * np.sqrt(inside) + np.pi / 2 * limb_darkening * inside
    spread = np.exp(-4 * np.log(2) * (velocity * resolving_power / SPEED_OF_LIGHT) ** 2)
    for kernel in (rotation, spread):
        light = np.convolve(light, kernel / kernel.sum(), mode="same")
    arriving = np.exp(ln_wavelength) * (1 + rv / SPEED_OF_LIGHT)
    summed = np.append(0.0, np.cumsum((light[1:] + light[:-1]) / 2 * np.diff(arriving)))
    return np.diff(np.interp(pixel_edges, arriving, summed)) / np.diff(pixel_edges)


# %%
# Three orders with a blaze, a signal-to-noise ratio of 100 at most, 40 pixels that are masked as bad, and three
# cosmic rays that are not masked.
grid = load_mini_grid()
labels = dict(zip(grid.label_names, grid.labels_offgrid[2].tolist(), strict=True))
truth = labels | {"rv": -31.7, "vsini": 6.5}
rng = np.random.default_rng(0)
orders = []
for start in (8456.0, 8536.0, 8616.0):
    edges = start + 0.055 * np.arange(1346)
    star = {"rv": truth["rv"], "vsini": truth["vsini"]}
    flux = observe(grid.wavelength, grid.flux_offgrid[2], edges, resolving_power=55_000, **star)
    blaze = np.sinc(np.linspace(-0.4, 0.4, len(flux))) ** 2
    electrons = 1e4 * blaze * flux / flux.max()
    error = np.sqrt(electrons)
    electrons += error * rng.normal(size=len(flux))
    bad = np.zeros(len(flux), dtype=bool)
    if start == 8536.0:
        bad[600:640] = True
        electrons[bad] = 15_000 * rng.uniform(size=40)
    electrons[rng.integers(len(flux), size=1)] += 6000
    orders.append(((edges[1:] + edges[:-1]) / 2, electrons, np.where(bad, np.inf, error)))
spectrum = ObservedSpectrum(orders)
print(spectrum)

# %%
# The generator learns from every third pixel of the 66 nodes: native pixels are five times as fine as these. `infer`
# needs the resolving power, and finds the continuum of each order itself.
generator = SpectrumGenerator(
    wavelength=grid.wavelength[::3],
    preprocessor=PhoenixPreprocessor(degree=2, peak_distance=1000),
    label_names=grid.label_names,
)
generator.fit(grid.labels, grid.flux[:, ::3])
regressor = BayesianStellarRegressor.from_generator(generator)
result = regressor.infer(spectrum, resolving_power=55_000)

# %%
# Flags first, then values beside the truth. Errors include noise and the generator's own error.
print("flags:", result.flag_names or "none", "; pixels rejected:", result.n_rejected)
table = result.to_frame()
table.insert(0, "truth", [truth[name] for name in table.index])
table["off by, in errors"] = (table["value"] - table["truth"]) / table["std"]
print(table.drop(columns="unit").round(3).to_string())

# %%
# The order with the bad pixels, which are grey, with its deepest lines by their wavelengths at rest; and the
# posterior of each pair of parameters, with the truth.
InferenceDisplay.from_result(result, orders=[1], generator=generator, n_lines=20)
CornerDisplay.from_result(result, truths=truth)
plt.show()
