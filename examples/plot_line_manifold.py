"""
One line over the grid
======================

How does a spectral line change with temperature, gravity and metallicity, and which line constrains which of them? The
generator has each line at every node and interpolates between them: its manifold. The equivalent width of a line is an
area, which rotation and line spread leave as it is.
"""

import matplotlib.pyplot as plt

from stellarhml import PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid
from stellarhml.plotting import ManifoldDisplay

# %%
# Eighty angstrom between two lines of the calcium triplet.
grid = load_mini_grid()
band = (grid.wavelength > 8560) & (grid.wavelength < 8640)
generator = SpectrumGenerator(
    wavelength=grid.wavelength[band][::2],
    preprocessor=PhoenixPreprocessor(degree=1, peak_distance=750),
    label_names=grid.label_names,
)
generator.fit(grid.labels, grid.flux[:, band][:, ::2])

# %%
# The lines of the Sun, the strongest first. The last columns say by how many milliangstrom the equivalent width grows
# over 100 K, and over 0.1 dex of log g and of [Fe/H].
table = generator.line_table([5777, 4.44, 0.0]).nlargest(12, "equivalent_width")
shown = 1e3 * table[["equivalent_width"]]
for name, step in (("teff", 100), ("logg", 0.1), ("feh", 0.1)):
    shown[f"per {step:g} {name}"] = 1e3 * step * table[f"equivalent_width_per_{name}"]
shown["depth"], shown["saturation"] = table["depth"], table["saturation"]
print(shown.round(2).to_string())

# %%
# The strongest line: its equivalent width over Teff and log g, and over Teff and [Fe/H].
line = table.index[0]
ManifoldDisplay.from_estimator(generator, line=line, parameter="equivalent_width")
ManifoldDisplay.from_estimator(generator, line=line, parameter="equivalent_width", labels=("teff", "feh"))

# %%
# Its core is saturated: from hot to cool the line grows in its wings, and its depth hardly changes.
hot, cool = (generator.line_table([teff, 4.5, 0.0]).loc[line] for teff in (6000, 5000))
for name in ("equivalent_width", "depth", "saturation"):
    print(f"{name} from 6000 to 5000 K: {hot[name]:.3f} to {cool[name]:.3f}, {cool[name] / hot[name] - 1:+.0%}")
ManifoldDisplay.from_estimator(generator, line=line, parameter="depth")

# %%
# Which lines constrain which label? Each point is one of the lines above. Lines on one straight line through the origin
# cannot separate two labels, for both change them in the same proportion. Lines in different directions can, such as
# the two with their names here.
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
apart = shown.index[[0, 4]]
for ax, name, text in zip(axes, ("logg", "feh"), (r"0.1 dex of $\log g$", "0.1 dex of [Fe/H]"), strict=True):
    x, y = shown[f"per 0.1 {name}"], shown["per 100 teff"]
    ax.axhline(0, color="0.7", lw=0.8, zorder=0)
    ax.axvline(0, color="0.7", lw=0.8, zorder=0)
    ax.plot(x, y, "o", color="#0072B2")
    for k in apart:
        ax.plot([0, x[k]], [0, y[k]], color="#0072B2", lw=0.8, alpha=0.5)
        ax.annotate(f"{k:.2f} Å", (x[k], y[k]), (0, -14), textcoords="offset points", ha="center")
    ax.set_xlabel(f"change of the equivalent width over {text} [mÅ]")
    ax.margins(0.15)
axes[0].set_ylabel("change over 100 K [mÅ]")
plt.show()
