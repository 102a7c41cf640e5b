"""
Errors over held-out nodes
==========================

How good are labels over a whole grid, and not for a few chosen stars? All nodes of one Teff are left out in turn, a regressor is
fitted to the others, and is asked for the labels of those that it has not seen. All parts are scikit-learn
estimators, and splitters of nodes go with them.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid
from stellarhml.exceptions import InferenceWarning
from stellarhml.model_selection import LeavePlaneOut
from stellarhml.plotting import InferenceErrorDisplay

# %%
# A short window, for everything is learnt anew for each node.
grid = load_mini_grid()
band = (grid.wavelength > 8596) & (grid.wavelength < 8626)
flux = grid.flux[:, band][:, ::4].astype(float)
regressor = BayesianStellarRegressor(
    generator=SpectrumGenerator(
        wavelength=grid.wavelength[band][::4],
        preprocessor=PhoenixPreprocessor(degree=1, peak_distance=150, anchor_width=3),
        label_names=grid.label_names,
    )
)

# %%
# The first and the last Teff stay in, for nothing is extrapolated. Held-out stars lie in a gap of 200 K, twice as wide as those
# of the whole grid. They are nodes in log g and [Fe/H], which is kind to these labels, most of all at the ends of the grid.
splits = LeavePlaneOut(axis=0)
rows = np.concatenate([test for _, test in splits.split(flux, grid.labels)])
print(f"{len(rows)} of {len(grid.labels)} nodes are held out, in {splits.get_n_splits(flux, grid.labels)} fits")

# %%
# Spectra without noise, and with a signal-to-noise ratio of 100. Each prediction at an end of a label comes with the warning
# that it is at a bound, which is no news here. (`cross_val_predict` refuses splits that do not hold out each sample once.)
warnings.simplefilter("ignore", InferenceWarning)
noisy = flux * (1 + 0.01 * np.random.default_rng(0).normal(size=flux.shape))
inferred = {"no noise": [], "S/N 100": []}
for train, test in splits.split(flux, grid.labels):
    regressor.fit(flux[train], grid.labels[train])
    inferred["no noise"].append(regressor.predict(flux[test]))
    inferred["S/N 100"].append(regressor.predict(noisy[test]))
truth = np.tile(grid.labels[rows], (2, 1))
method = np.repeat(list(inferred), len(rows))
display = InferenceErrorDisplay.from_predictions(truth, np.vstack(sum(inferred.values(), [])), method=method)
for name in inferred:
    print(name, "mean absolute errors:", np.abs(display.error[method == name]).mean(axis=0).round(4).tolist())
plt.show()
