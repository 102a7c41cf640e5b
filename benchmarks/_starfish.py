"""Starfish, on one order: an emulator of the grid, made as its documentation tells, and the cost of its likelihood.

Labels are not fitted: hundreds of likelihoods by Nelder-Mead, or thousands by MCMC, are minutes to hours for a star.

PyPI has it as astrostarfish. Version 0.4.0 asks for old versions of everything, but works with NumPy 1.26, SciPy 1.12
and scikit-learn 1.7 if installed with `pip install --no-deps astrostarfish`, beside extinction, flatdict, `nptyping<2`
and toml.
"""

import sys
import time
from types import SimpleNamespace

import numpy as np
from _templates import polynomials, with_continuum

VARIANCE = 0.999  # that the components explain; its default of 0.99 keeps three
N_CHEB = 5
TRAININGS = 1  # of 10,000 iterations each, its default
LABELS = ("T", "logg", "Z")


class Starfish:
    """Emulator of one order, trained on spectra at the resolving power of the data."""

    def __init__(self, log_wavelength, flux, labels, pixels):
        try:
            from Starfish.emulator import Emulator
        except ImportError:
            sys.exit("Starfish is not installed here, and `--tools starfish` needs it: see _starfish.py for how.")
        if len(pixels) > 1:
            sys.exit(f"Starfish fits single orders, and {len(pixels)} were given: choose one, as in --orders 14.")
        self.pixels = pixels
        wavelength = np.exp(log_wavelength)
        near = (wavelength > pixels.min() - 15) & (wavelength < pixels.max() + 15)
        grid = SimpleNamespace(
            fluxes=flux[:, near].astype(float), grid_points=labels, param_names=list(LABELS), wl=wavelength[near]
        )
        begin = time.process_time()
        self.emulator = Emulator.from_grid(grid, n_components=VARIANCE)
        for _ in range(TRAININGS):  # each takes up where the last one ended
            self.emulator.train()
            if self.emulator._trained:
                break
        ended = "" if self.emulator._trained else ", not converged"
        self.emulator._trained = True
        seconds = time.process_time() - begin
        self.size = len(grid.wl)
        self.told = f"{self.emulator.ncomps} components, trained in {seconds:.0f} s{ended}"

    def spectrum(self, labels):
        mean, _ = self.emulator(np.asarray(labels))
        return mean @ (self.emulator.eigenspectra * self.emulator.flux_std) + self.emulator.flux_mean

    def _model(self, flux, error, start, **parts):
        from Starfish.models import SpectrumModel
        from Starfish.spectrum import Spectrum

        data = Spectrum(self.pixels[0], flux[0], error[0])
        return SpectrumModel(self.emulator, data, grid_params=list(start[:3]), cheb=[0.0] * N_CHEB, **parts)

    def observe(self, labels, flux):
        """Its model at rest, times the polynomial that fits best."""
        model = self._model(flux, np.full_like(flux, 0.01), labels)
        return with_continuum(flux, model()[0][None], np.ones_like(flux), polynomials(self.pixels))

    def likelihood_seconds(self, labels, flux, error):
        """Median seconds of one likelihood."""
        model, seconds = self._model(flux, error, labels, vz=0.0, vsini=8.0), []
        for _ in range(3):
            begin = time.process_time()
            model.log_likelihood()
            seconds.append(time.process_time() - begin)
        return float(np.median(seconds))
