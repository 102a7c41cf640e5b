"""
Errors over held-out nodes
==========================

How good are labels over a whole grid, and not for a few chosen stars? All nodes of some Teff are left out, a regressor
is fitted to the others, and infers the labels of those that it has not seen.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import PredefinedSplit

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid
from stellarhml.exceptions import InferenceWarning
from stellarhml.plotting import InferenceErrorDisplay

# %%
# Eighty angstrom, and every fourth pixel: everything is learnt anew for each fold.
grid = load_mini_grid()
band = (grid.wavelength > 8560) & (grid.wavelength < 8640)
flux = grid.flux[:, band][:, ::4].astype(float)
regressor = BayesianStellarRegressor(
    generator=SpectrumGenerator(
        wavelength=grid.wavelength[band][::4],
        preprocessor=PhoenixPreprocessor(degree=1, peak_distance=375, anchor_width=5),
        label_names=grid.label_names,
    )
)

# %%
# Three folds, of every third Teff each. The first and the last stay in, for nothing is extrapolated. Held-out stars
# lie in a gap of 200 K, twice as wide as those of the whole grid. They are nodes in log g and [Fe/H], which is kind to
# these labels, most of all at the ends of the grid. (`LeaveOneNodeOut` and `LeavePlaneOut` of
# `stellarhml.model_selection` fit once for each node or Teff.)
teff, place = np.unique(grid.labels[:, 0], return_inverse=True)
inner = (place > 0) & (place < len(teff) - 1)
splits = PredefinedSplit(np.where(inner, place % 3, -1))
print(f"{inner.sum()} of {len(grid.labels)} nodes are held out, in {splits.get_n_splits()} fits")

# %%
# Spectra without noise, and with a signal-to-noise ratio of 100. Each prediction at an end of a label comes with the
# warning that it is at a bound, which is expected here.
warnings.simplefilter("ignore", InferenceWarning)
noisy = flux * (1 + 0.01 * np.random.default_rng(0).normal(size=flux.shape))
inferred = {"no noise": [], "S/N 100": []}
for train, test in splits.split():
    regressor.fit(flux[train], grid.labels[train])
    inferred["no noise"].append(regressor.predict(flux[test]))
    inferred["S/N 100"].append(regressor.predict(noisy[test]))
rows = np.concatenate([test for _, test in splits.split()])
truth = np.tile(grid.labels[rows], (2, 1))
method = np.repeat(list(inferred), len(rows))
found = np.vstack([part for parts in inferred.values() for part in parts])
display = InferenceErrorDisplay.from_predictions(truth, found, method=method)
for name in inferred:
    error = np.abs(display.difference[method == name])
    for kind in (np.mean, np.median, np.max):
        print(f"{name}, {kind.__name__:6} of the absolute errors:", *(f"{value:8.4f}" for value in kind(error, axis=0)))
plt.show()
