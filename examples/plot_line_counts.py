"""
How many lines show
===================

How many lines show in stars of different temperature, gravity and metallicity? A generator follows every line over the
whole grid, most of them too weak to show in most stars. Lines count if they are deep enough to stand out of the noise.
"""

import matplotlib.pyplot as plt
import numpy as np

from stellarhml import PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid
from stellarhml.plotting import LineCountDisplay

# %%
# All 250 angstrom of the packaged grid, every third pixel.
grid = load_mini_grid()
generator = SpectrumGenerator(
    wavelength=grid.wavelength[::3],
    preprocessor=PhoenixPreprocessor(degree=2, peak_distance=1000),
    label_names=grid.label_names,
)
generator.fit(grid.labels, grid.flux[:, ::3])
print(f"{len(generator.decomposer_.line_catalog_)} lines in the catalogue")

# %%
# Lines at least 1 % deep at each node.
display = LineCountDisplay.from_estimator(generator, depth=0.01)
print(f"{display.counts.min():.0f} to {display.counts.max():.0f} lines at least {display.depth:g} deep")

# %%
# How many lines are deeper than the noise of a spectrum? Down to a hundredth, half a dex of metals is worth as much as
# 1000 K: the curves of cool stars with few metals and of hot stars with many lie on each other.
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
depths = np.geomspace(0.002, 0.5, 60)
for (teff, feh), look in {
    (5000, 0.0): {"color": "#D55E00"},
    (6000, 0.0): {"color": "#0072B2"},
    (5000, -0.5): {"color": "#D55E00", "ls": "--"},
    (6000, -0.5): {"color": "#0072B2", "ls": "--"},
}.items():
    table = generator.line_table([teff, 4.5, feh])
    counts = (table["depth"].to_numpy()[:, None] >= depths).sum(axis=0)
    ax.plot(depths, counts, label=f"{teff} K, [Fe/H] = {feh:g}".replace("-", "\N{MINUS SIGN}"), **look)
    print(f"{teff} K, {feh:4.1f}: {counts[0]} lines over {depths[0]:g}, {(table['depth'] >= 0.1).sum()} over 0.1")
ax.set(xscale="log", yscale="log", xlabel="depth [continuum]", ylabel="lines at least so deep")
ax.legend(frameon=False)
plt.show()
