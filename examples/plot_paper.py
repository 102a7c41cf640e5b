"""
The paper's settings and the defaults
=====================================

What does each change to the paper's method gain? Generators are fitted to one grid, from the paper's own settings to
the defaults, with one more step exchanged each time, and compared with the nodes that they were fitted to and with
spectra between the nodes.
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np

from stellarhml import (
    BayesianStellarRegressor,
    LineManifoldInterpolator,
    PhoenixPreprocessor,
    SpectrumGenerator,
    VoigtLineDecomposer,
)
from stellarhml.datasets import load_mini_grid
from stellarhml.exceptions import InferenceWarning
from stellarhml.pipeline import PAPER_SETTINGS

# %%
# The paper's settings suit its band of 4,811 angstrom. For these 40 angstrom the margins at its ends and the distance
# between maxima of the continuum are made smaller, and its degree lower. Hotter half of the grid only: the paper's fit
# takes its time.
grid = load_mini_grid()
pixels = np.flatnonzero((grid.wavelength > 8590) & (grid.wavelength < 8630))
nodes, between = grid.labels[:, 0] >= 5700, grid.labels_offgrid[:, 0] >= 5700
labels, flux = grid.labels[nodes], grid.flux[nodes][:, pixels]
labels_between, flux_between = grid.labels_offgrid[between], grid.flux_offgrid[between][:, pixels]
print(f"{len(labels)} nodes, {len(labels_between)} spectra between them")
small = {"peak_distance": 1000, "degree": 1}
paper = {step: dict(settings) for step, settings in PAPER_SETTINGS.items()}
paper["preprocessor"] |= small
paper["decomposer"] |= {"line_margin": 0.5, "loss_margin": 1.0}

# %%
# Steps from the paper to the defaults. An empty dictionary is the default of a class.
steps = {
    "paper": paper,
    "saturating lines,\nshared continuum": {"decomposer": {}, "preprocessor": small},
    "cubic interpolation": {"interpolator": {}},
    "factors, residuals\n= default": {"generator": {}},
}
settings, generators, rms = {}, {}, {}
inside = slice(150, -150)  # the paper leaves out pixels at the ends
for name, changed in steps.items():
    settings |= changed
    begin = time.perf_counter()
    generators[name] = generator = SpectrumGenerator(
        wavelength=grid.wavelength[pixels],
        preprocessor=PhoenixPreprocessor(**settings["preprocessor"]),
        decomposer=VoigtLineDecomposer(**settings["decomposer"]),
        interpolator=LineManifoldInterpolator(**settings["interpolator"]),
        label_names=grid.label_names,
        **settings["generator"],
    ).fit(labels, flux)
    seconds = time.perf_counter() - begin
    errors = [
        generator.predict(x)[:, inside] - generator.normalise(y, labels=x)[:, inside]
        for x, y in ((labels, flux), (labels_between, flux_between))
    ]
    rms[name] = [np.sqrt(np.mean(error**2)) for error in errors]
    text = " ".join(name.split())
    print(f"{text:36} rms at nodes {rms[name][0]:.5f}, between {rms[name][1]:.5f}; fitted in {seconds:.1f} s")

# %%
# How far the spectra are off, at each step.
figure, ax = plt.subplots(figsize=(9, 3.6), layout="constrained")
place, (at_nodes, beside) = np.arange(len(rms)), np.transpose(list(rms.values()))
ax.plot(at_nodes, place, "o", color="#0072B2", label="at the nodes")
ax.plot(beside, place, "s", color="#D55E00", mfc="none", label="between the nodes")
ax.set(yticks=place, yticklabels=list(rms), ylim=(-0.5, len(rms) - 0.5), xscale="log", xlabel="rms error / continuum")
ax.grid(axis="x", which="both", color="0.92")
ax.set_axisbelow(True)
ax.invert_yaxis()
ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)

# %%
# Where the paper's spectra are off: in strong lines, because a pseudo-Voigt line cannot saturate, and in some weak
# lines, which are absent from one of the nodes around and then vanish.
figure, axes = plt.subplots(2, 1, figsize=(9, 4.5), layout="constrained", sharex=True, height_ratios=(2, 1))
seen = generators[name].normalise(flux_between[:1], labels=labels_between[:1])[0]
axes[0].plot(grid.wavelength[pixels], seen, color="k", lw=1.2, label="spectrum between the nodes")
for which, colour in (("paper", "#D55E00"), (name, "#0072B2")):
    made = generators[which].predict(labels_between[:1])[0]
    own = generators[which].normalise(flux_between[:1], labels=labels_between[:1])[0]
    text = "paper" if which == "paper" else "default"
    axes[0].plot(grid.wavelength[pixels], made, color=colour, lw=0.9, ls="--", label=text)
    axes[1].plot(grid.wavelength[pixels], own - made, color=colour, lw=0.9)
axes[0].set(xlim=(8611, 8627), ylabel="Flux / continuum")
axes[1].set(ylim=(-0.05, 0.05), xlabel="Vacuum wavelength [Å]", ylabel="Residual")
axes[0].legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)

# %%
# Labels of one star between the nodes, without noise: by the paper's search, 50 calls of its generator within a range
# of Teff as wide as this grid; and by the default one. (Where a search ends at the edge of the grid, a warning would
# say so.)
warnings.simplefilter("ignore", InferenceWarning)
print("truth: {:.0f} K, {:.3f} dex, {:.3f} dex".format(*labels_between[1]))
for which, own in (("paper", PAPER_SETTINGS["regressor"]), (name, {})):
    regressor = BayesianStellarRegressor.from_generator(generators[which], random_state=0, **own)
    begin = time.perf_counter()
    found = regressor.predict(flux_between[1:2])[0]
    text = "paper" if which == "paper" else "default"
    print("{}: {:.0f} K, {:.3f} dex, {:.3f} dex".format(text, *found), f"in {time.perf_counter() - begin:.1f} s")
plt.show()
