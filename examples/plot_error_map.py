"""
How far a generator can be trusted
==================================

A generator interpolates spectra that were never computed. How large is its error there, and does it estimate it
rightly? In `fit` it holds nodes out, and from their errors estimates a standard deviation for each pixel. Here that is
compared with six spectra between the nodes, which it has not seen.
"""

import matplotlib.pyplot as plt
import numpy as np

from stellarhml import PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid
from stellarhml.plotting import ErrorMapDisplay

# %%
# A generator of 66 nodes, of every fourth pixel.
grid = load_mini_grid()
wavelength = grid.wavelength[::4]
generator = SpectrumGenerator(
    wavelength=wavelength,
    preprocessor=PhoenixPreprocessor(degree=2, peak_distance=750),
    label_names=grid.label_names,
)
generator.fit(grid.labels, grid.flux[:, ::4])

# %%
# Above, each point is a node that was predicted from the others, by the label along which it was held out. [Fe/H] has
# two values only: nothing can be held out, and the open markers are a guess. Below, the error of each pixel within a
# cell of the grid, and which label it comes from.
ErrorMapDisplay.from_estimator(generator)

# %%
# The same over Teff and log g, for the metal-rich half of the grid.
ErrorMapDisplay.from_estimator(generator, labels=("teff", "logg"), fixed={"feh": 0.0})

# %%
# Now the test: the six spectra. The ratio of real to expected errors is one if the expectation is right, and below one
# if it is too large.
flux, std = generator.predict(grid.labels_offgrid, return_std=True)
error = flux - generator.normalise(grid.flux_offgrid[:, ::4], labels=grid.labels_offgrid)
for labels, real, expected in zip(grid.labels_offgrid, error, std, strict=True):
    real, expected = (np.sqrt(np.mean(values**2)) for values in (real, expected))
    print(
        "{:6.0f} K {:5.2f} {:6.2f}".format(*labels),
        f"  rms {real:.5f}, expected {expected:.5f}, ratio {real / expected:.2f}",
    )
print(f"all: ratio {np.sqrt(np.mean(error**2) / np.mean(std**2)):.2f}")

# %%
# Is the expected error large where the real one is? Pixels are sorted by the expected error and grouped in twenty bins.
order = np.argsort(std.ravel())
expected, real = (
    [np.sqrt(np.mean(part**2)) for part in np.array_split(values.ravel()[order], 20)] for values in (std, error)
)
figure, ax = plt.subplots(figsize=(5.5, 4.5), layout="constrained")
ends = [0.8 * min(expected + real), 1.25 * max(expected + real)]
ax.plot(ends, ends, color="0.6", lw=1, label="equal")
ax.plot(expected, real, "o", color="#0072B2", label="a twentieth of all pixels")
ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
ax.set(xlabel="expected error / continuum", ylabel="real error / continuum, rms")
ax.legend(frameon=False)
plt.show()
