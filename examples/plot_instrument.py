"""
What a lower resolving power costs
==================================

What does the same star look like at resolving powers of 115,000, 55,000 and 20,000, and how do the errors of its labels
grow as lines are broadened? All spectrographs get the same light here: a signal-to-noise ratio of 300 for each 0.05
angstrom.
"""

import matplotlib.pyplot as plt
import numpy as np

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import load_mini_grid
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation

COLOURS = {115_000: "#0072B2", 55_000: "#D55E00", 20_000: "#009E73"}

# %%
# A generator of 80 angstrom, and a star that rotates once slowly and once fast. Pixels are a third of the width of
# the line-spread function.
grid = load_mini_grid()
band = (grid.wavelength > 8560) & (grid.wavelength < 8640)
generator = SpectrumGenerator(
    wavelength=grid.wavelength[band][::2],
    preprocessor=PhoenixPreprocessor(degree=1, peak_distance=750),
    label_names=grid.label_names,
)
generator.fit(grid.labels, grid.flux[:, band][:, ::2])
star = [5777, 4.44, -0.1]


def pixels(power):
    return np.arange(8566, 8634, 8600 / power / 3)


figure, axes = plt.subplots(2, 1, figsize=(9, 6), layout="constrained", sharex=True, sharey=True)
for ax, vsini in zip(axes, (2.0, 10.0), strict=True):
    for power, colour in COLOURS.items():
        flux = generator.observe([star], pixels(power), resolving_power=power, vsini=vsini)[0]
        ax.step(pixels(power), flux, where="mid", color=colour, lw=1.1, label=f"R = {power:,}")
    ax.set(xlim=(8594, 8620), ylabel="Flux / continuum")
    ax.set_title(rf"$v\,\sin i$ = {vsini:g} km/s", fontsize="medium", loc="left")
axes[0].legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
axes[1].set_xlabel("Vacuum wavelength [Å]")


# %%
# Errors without a fit. The derivatives of the recorded fluxes give the smallest possible errors: the inverse of the
# Fisher matrix is the covariance of the labels. Velocity, rotation and a continuum of third degree are free too.
def expected_errors(power, vsini):
    wavelength = pixels(power)
    chain = ForwardChain(generator, Observation(wavelength, resolving_power=power))
    values = dict(zip(generator.label_names_, star, strict=True)) | {"rv": 0.0, "vsini": vsini}
    [rows] = chain.evaluate(values)
    error = 0.0033 * np.sqrt(0.05 / np.diff(wavelength)[0])
    continuum = rows.flux[:, None] * np.polynomial.legendre.legvander(np.linspace(-1, 1, len(wavelength)), 3)
    jacobian = np.stack([rows.tangents[name] for name in values], axis=1)
    columns = np.hstack([jacobian, continuum]) / error
    return np.sqrt(np.diag(np.linalg.inv(columns.T @ columns)))[:5]


powers = np.geomspace(8_000, 120_000, 12)
slow, fast = (np.array([expected_errors(power, vsini) for power in powers]) for vsini in (2.0, 10.0))
for power in COLOURS:
    for vsini in (2.0, 10.0):
        errors = expected_errors(power, vsini)
        print(
            f"R {power:7,}, vsini {vsini:2.0f}: {errors[0]:4.1f} K, {errors[1]:.3f} dex, {errors[2]:.4f} dex,", end=""
        )
        print(f" {errors[3]:.3f} km/s, {errors[4]:.2f} km/s")

# %%
# Does a fit agree? `infer` gets the slow star with noise. The spectra come from the generator, so that its own error
# is left out for once.
regressor = BayesianStellarRegressor.from_generator(generator, generator_error=False)
rng = np.random.default_rng(0)
found = {}
for power in COLOURS:
    wavelength = pixels(power)
    flux = generator.observe([star], wavelength, resolving_power=power, vsini=2.0)[0]
    error = np.full(len(flux), 0.0033 * np.sqrt(0.05 / np.diff(wavelength)[0]))
    spectrum = (wavelength, flux + error * rng.normal(size=len(flux)), error)
    found[power] = regressor.infer(spectrum, resolving_power=power, continuum_degree=3)
    print(f"R {power:,}", found[power], sep="\n")

# %%
# The fast star's lines are wide anyway, and beyond a resolving power of some 40,000 its errors hardly improve. Those
# of the slow star improve throughout. Dots are single fits: their errors are taken at the labels and the vsini that
# they found.
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
titles = (r"$T_\mathrm{eff}$ [K]", r"$\log g$ [dex]", "[Fe/H] [dex]")
for k, (ax, title, name) in enumerate(zip(axes, titles, generator.label_names_, strict=True)):
    ax.plot(powers, slow[:, k], color="#0072B2", label="expected, 2 km/s")
    ax.plot(powers, fast[:, k], color="#D55E00", ls="--", label="expected, 10 km/s")
    errors = [result.errors[name] for result in found.values()]
    ax.plot(list(found), errors, "o", color="#0072B2", label="infer, 2 km/s")
    ax.set(xscale="log", xlabel="resolving power", title=f"error of {title}", ylim=(0, None))
    ax.set_xticks([1e4, 3e4, 1e5], ["10,000", "30,000", "100,000"])
axes[0].legend(frameon=False)
plt.show()
