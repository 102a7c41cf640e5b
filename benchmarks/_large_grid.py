"""A grid of any size in PHOENIX's own layout, made of `wide_grid` (../shared/data).

The spectra of `wide_grid` up to 10,500 K are interpolated (the last 200 K extrapolated) by cubic splines in Teff, log g
and [Fe/H]. Five panels of 420 angstrom, every other one in reverse and each with its own strength of lines, give a
spectrum of 126,000 pixels; [alpha/Fe] strengthens the lines of two of them. Noise of 5e-4 that differs from node to
node is added, and black bodies give the level. The whole grid has as many spectra as the paper's: 73 Teff x 6 log g x 3
[Fe/H].
"""

from itertools import product
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.interpolate import CubicSpline
from shared import load_tool

from stellarhml.grids.phoenix_files import WAVE_NAME, phoenix_file_name
from stellarhml.physics.blackbody import blackbody_flux

TEFF = np.arange(3500.0, 10701.0, 100.0)  # K
LOGG = np.array([2.0, 2.6, 3.2, 3.8, 4.4, 5.0])
FEH = np.array([-1.0, -0.5, 0.0])
START, STOP = 8440.0, 8860.0  # angstrom: ends of the first panel
STRENGTHS = (1.0, 0.7, 1.2, 0.85, 1.1)  # of the lines of each panel, as powers of the flux
PANEL = 25_200  # pixels, of 1/60 angstrom
NOISE = 5e-4  # of the continuum
_HOTTEST = 10_500.0  # K: above, wide_grid has holes
_DARKEST = 1e-3


def lattice(teff=TEFF, logg=LOGG, feh=FEH, alpha=(0.0,)):
    """Labels of the nodes of a lattice: teff [K], logg, feh and alpha [dex], (n_nodes, 4)."""
    return np.array(list(product(teff, logg, feh, alpha)))


class LargeGrid:
    """Spectra of the grid, on `wavelength` (n_pixels,) [vacuum angstrom]."""

    def __init__(self):
        source = load_tool("shared_data").wide_grid()
        cool = source["labels"][:, 0] <= _HOTTEST
        labels, flux = source["labels"][cool], source["flux"][cool]
        panel = np.linspace(START, STOP, PANEL, endpoint=False)
        self._axes = [np.unique(column) for column in labels.T]
        self._flux = np.stack([np.interp(panel, source["wavelength"], flux[row]) for row in np.lexsort(labels.T[::-1])])
        self.wavelength = START + np.arange(len(STRENGTHS) * PANEL) * (STOP - START) / PANEL

    def spectrum(self, labels, noise=NOISE):
        """Spectrum (n_pixels,) at `labels` (4,) in the unit of PHOENIX, erg/s/cm2/cm."""
        weights = np.ones(1)
        for axis, value in zip(self._axes, labels[:3], strict=True):
            weights = np.kron(weights, CubicSpline(axis, np.eye(len(axis)))(value))
        flux = np.clip(weights @ self._flux, _DARKEST, None)
        parts = []
        for k, strength in enumerate(STRENGTHS):
            part = flux ** (strength * (1 + labels[3] * (k % 2)))
            parts.append(part[::-1] if k % 2 else part)
        seed = [round(1000 * value) + 10_000 for value in labels]
        rough = np.random.default_rng(seed).standard_normal(self.wavelength.size + 2)
        smooth = np.convolve(rough, np.array([1.0, 2.0, 1.0]) / np.sqrt(6), mode="valid")
        normalised = np.clip(np.concatenate(parts) + noise * smooth, _DARKEST, None)
        return normalised * blackbody_flux(self.wavelength, labels[0])

    def write(self, folder, nodes):
        """Write the spectra of `nodes` (n_nodes, 4) as PHOENIX's files; those that are there are left as they are."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / WAVE_NAME).exists():
            fits.PrimaryHDU(self.wavelength).writeto(folder / WAVE_NAME)
        for labels in nodes:
            path = folder / phoenix_file_name(*labels)
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            hdu = fits.PrimaryHDU(self.spectrum(labels).astype(np.float32))
            hdu.header.update(PHXTEFF=labels[0], PHXLOGG=labels[1], PHXM_H=labels[2], PHXALPHA=labels[3])
            hdu.header["BUNIT"] = "erg/s/cm^2/cm"
            hdu.writeto(path)
