"""
A spectrum as lines
===================

How well do spectral lines reproduce a spectrum, and how large are the residuals? A solar-type spectrum of the packaged
grid is decomposed with two line profiles: the paper's, which cannot saturate, and the default, which can.
"""

import matplotlib.pyplot as plt
import numpy as np

from stellarhml import PhoenixPreprocessor, VoigtLineDecomposer
from stellarhml.datasets import load_mini_grid
from stellarhml.plotting import DecompositionDisplay, SpectrumFitDisplay

# %%
# One spectrum, 80 angstrom between two lines of the calcium triplet, normalised by its own maxima.
grid = load_mini_grid()
band = (grid.wavelength > 8560) & (grid.wavelength < 8640)
wavelength = grid.wavelength[band]
row = np.flatnonzero((grid.labels == [5800, 4.5, 0.0]).all(axis=1))
preprocessor = PhoenixPreprocessor(wavelength=wavelength, degree=1, peak_distance=1500)
flux = preprocessor.fit_transform(grid.flux[row][:, band], teff=grid.labels[row, 0])

# %%
# Fit and render. The second-order solver is used for both, so that only the profile differs. The residuals, on one
# scale, are smaller where lines may saturate: in the strong ones.
figure = plt.figure(figsize=(10, 7), layout="constrained")
panels = figure.add_gridspec(4, 1, height_ratios=(3, 1, 3, 1))
for k, profile in enumerate(("pseudo-voigt", "minnaert")):
    decomposer = VoigtLineDecomposer(wavelength=wavelength, profile=profile)
    theta = decomposer.fit_transform(flux)
    model = decomposer.inverse_transform(theta)
    rms = np.sqrt(np.mean((model - flux) ** 2))
    print(f"{profile}: {len(decomposer.line_catalog_)} lines, RMS {rms:.5f}")
    display = SpectrumFitDisplay.from_arrays(
        wavelength,
        flux[0],
        model[0],
        title=f"{profile}, RMS {rms:.4f} over all 80 angstrom",
        window=(8610, 8627),
        ax=[figure.add_subplot(panels[2 * k + i]) for i in range(2)],
    )
    display.ax_[1].set_ylim(-0.06, 0.06)

# %%
# The same spectrum with a tick for each line of the default decomposition: detected in this spectrum, or added from
# the residuals.
DecompositionDisplay.from_estimator(decomposer, flux[0], window=(8590, 8627))

# %%
# The five deepest lines, by the wavelengths in the names of the columns of `theta`.
depth = 1 - flux[0, np.searchsorted(wavelength, decomposer.line_catalog_)]
for line in np.sort(decomposer.line_catalog_[np.argsort(-depth)[:5]]):
    print(f"{line:.2f} angstrom")
print(f"{theta.shape[1]} columns, such as {decomposer.get_feature_names_out()[1]}")
plt.show()
