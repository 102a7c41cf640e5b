"""
Labels of stars between the nodes
=================================

How well are labels recovered from noisy spectra that no node of the grid can give, and what does a line look like
over the grid? The six spectra of the packaged data that lie between the nodes are the truth.
"""

import matplotlib.pyplot as plt
import numpy as np

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid
from stellarhml.plotting import ManifoldDisplay, SpectrumFitDisplay

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
# Inference. The standard deviations count the noise and the generator's own error, as its held-out nodes tell it.
regressor = BayesianStellarRegressor.from_generator(generator)
labels, std = regressor.predict(flux, flux_error=error, return_std=True)
for truth, found, s in zip(grid.labels_offgrid, labels, std, strict=True):
    print("  ".join(f"{t:9.3f} {f:9.3f} ± {e:.3f}" for t, f, e in zip(truth, found, s, strict=True)))
print("mean absolute errors:", np.abs(labels - grid.labels_offgrid).mean(axis=0).round(3).tolist())

# %%
# The first star and its model, and the manifold of the strongest line.
SpectrumFitDisplay.from_estimator(regressor, flux[0], flux_error=error[0], labels=labels[0])
ManifoldDisplay.from_estimator(generator)
plt.show()
