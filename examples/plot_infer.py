"""
Labels of stars between the nodes
=================================

How well are labels recovered from noisy spectra between the nodes of the grid, and are the quoted errors right? The
six packaged spectra between the nodes are the truth. They are at rest and at the grid's resolution; see
:ref:`sphx_glr_auto_examples_plot_observed_star.py` for a star as a spectrograph sees it.
"""

import matplotlib.pyplot as plt
import numpy as np

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid
from stellarhml.plotting import SpectrumFitDisplay

# %%
# The generator learns the lines of 66 spectra, here of 80 angstrom only.
grid = load_mini_grid()
band = (grid.wavelength > 8560) & (grid.wavelength < 8640)
generator = SpectrumGenerator(
    wavelength=grid.wavelength[band],
    preprocessor=PhoenixPreprocessor(degree=1, peak_distance=1500, anchor_width=11),
    label_names=grid.label_names,
)
generator.fit(grid.labels, grid.flux[:, band])

# %%
# Noise: a signal-to-noise ratio of 100 in each pixel.
rng = np.random.default_rng(0)
flux = grid.flux_offgrid[:, band].astype(float)
error = np.repeat(np.median(flux, axis=1, keepdims=True) / 100, flux.shape[1], axis=1)
flux += error * rng.normal(size=flux.shape)

# %%
# Inference. The standard deviations count the noise and the generator's own error, measured on held-out nodes.
regressor = BayesianStellarRegressor.from_generator(generator)
labels, std = regressor.predict(flux, flux_error=error, return_std=True)
for truth, found, s in zip(grid.labels_offgrid, labels, std, strict=True):
    print("  ".join(f"{t:9.3f} {f:9.3f} ± {e:.3f}" for t, f, e in zip(truth, found, s, strict=True)))
print("mean absolute errors:", np.abs(labels - grid.labels_offgrid).mean(axis=0).round(3).tolist())

# %%
# Found minus true labels in units of the standard deviations. If these are right, two in three lie in the grey band;
# here more do, because the generator expects larger errors of itself than it has, see
# :ref:`sphx_glr_auto_examples_plot_error_map.py`.
figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
ax.axhspan(-1, 1, color="0.9")
ax.axhline(0, color="0.5", lw=0.8)
scaled = (labels - grid.labels_offgrid) / std
for k, (name, marker, colour) in enumerate(
    zip(grid.label_names, "os^", ("#0072B2", "#D55E00", "#009E73"), strict=True)
):
    ax.plot(np.arange(1, 7) + 0.12 * (k - 1), scaled[:, k], marker, color=colour, label=name)
print(f"{(np.abs(scaled) < 1).mean():.0%} within one standard deviation")
ax.set(xlabel="star", ylabel="(found - true) / standard deviation", ylim=(-3, 3))
ax.legend(frameon=False, ncols=3)

# %%
# A part of the first star's spectrum, its model, and the noise.
SpectrumFitDisplay.from_estimator(regressor, flux[0], flux_error=error[0], labels=labels[0], window=(8590, 8627))
plt.show()
