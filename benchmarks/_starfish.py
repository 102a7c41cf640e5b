"""Starfish, on one order, as its documentation tells: an emulator of the grid, then a maximum-likelihood fit.

Its `SpectrumModel.train` wraps `scipy.optimize.minimize`, by Nelder-Mead unless told otherwise; here it is L-BFGS-B,
which needs fewer calls. Errors come from the Hessian of its likelihood; its documentation samples the posterior by
MCMC, which would take hours a star.

PyPI has it as astrostarfish. Version 0.4.0 asks for old versions of everything, but works with NumPy 1.26, SciPy 1.12
and scikit-learn 1.7 if installed with `pip install --no-deps astrostarfish`, beside extinction, flatdict, `nptyping<2`
and toml.
"""

import sys
import time
from types import SimpleNamespace

import numpy as np
from _templates import polynomials, with_continuum
from scipy.optimize import minimize

C_KMS = 299792.458
VARIANCE = 0.999  # that the components explain; its default of 0.99 keeps three
N_CHEB = 5
TRAININGS = 2  # of 10,000 iterations, its default
STEPS = np.array([2.0, 0.005, 0.005, 0.02, 0.05])
LABELS = ("T", "logg", "Z")


def hessian(function, at, steps):
    """Second derivatives by central differences."""
    shifts = np.diag(steps)
    plus_minus = {(i, s): function(at + s * shifts[i]) for i in range(len(at)) for s in (1, -1)}
    center, out = function(at), np.zeros((len(at), len(at)))
    for i in range(len(at)):
        out[i, i] = plus_minus[i, 1] + plus_minus[i, -1] - 2 * center
        for j in range(i):
            both = function(at + shifts[i] + shifts[j]) + function(at - shifts[i] - shifts[j])
            singles = sum(plus_minus[k, s] for k in (i, j) for s in (1, -1))
            out[i, j] = out[j, i] = 0.5 * (both - singles + 2 * center)
    return out / np.outer(steps, steps)


class Starfish:
    """Emulator of one order, trained on spectra at the resolving power of the data."""

    warm_up = False

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

    def fit(self, flux, error):
        """Values and errors of labels, velocity, vsini; seconds."""
        begin = time.process_time()
        low, high = self.emulator.min_params, self.emulator.max_params
        center = 0.5 * (low + high)
        rv, cheb = self._start(flux[0], error[0], center)
        # without `log_scale` it takes the ratio of the fluxes, as its documentation does
        model = self._model(flux, error, center, vz=rv, vsini=8.0)
        names = [*LABELS, "vz", "vsini"]

        def log_likelihood(values):
            model.set_param_dict(dict(zip(names, values[:5], strict=True)))
            model["cheb"] = list(values[5:])
            return model.log_likelihood()

        values = np.array([*center, rv, 8.0, *cheb])
        steps = np.append(STEPS, np.full(N_CHEB, 1e-3))
        margin = 2.1 * steps[:3]  # for the derivatives: it refuses labels outside
        bounds = [*zip(low + margin, high - margin, strict=True), (-200, 200), (0.5, 50), *N_CHEB * [(-2, 2)]]
        found = minimize(
            lambda scaled: -log_likelihood(scaled * steps),
            values / steps,
            method="L-BFGS-B",
            bounds=[(a / step, b / step) for (a, b), step in zip(bounds, steps, strict=True)],
            options={"eps": 0.1, "ftol": 1e-7},
        )
        values = found.x * steps
        self.calls = found.nfev
        with np.errstate(invalid="ignore"):
            std = np.sqrt(np.diag(np.linalg.inv(-hessian(log_likelihood, values, steps))))[:5]
        beta = values[3] / C_KMS
        # it shifts by the relativistic formula, the mock observations by 1 + v/c
        values[3] = C_KMS * (np.sqrt((1 + beta) / (1 - beta)) - 1)
        return values[:5], std, time.process_time() - begin

    def _start(self, flux, error, labels):
        """Velocity of the best match with one spectrum, and the polynomial over its constant term."""
        template, tried = self.spectrum(labels), np.arange(-99.0, 100.0, 3.0)
        basis, fits = polynomials(self.pixels, N_CHEB + 1), []
        for rv in tried:
            model = np.interp(self.pixels[0], self.emulator.wl * (1 + rv / C_KMS), template)
            fits.append(np.linalg.lstsq((basis * model / error).T, flux / error, rcond=None))
        best = int(np.argmin([fit[1][0] for fit in fits]))
        return tried[best], fits[best][0][1:] / fits[best][0][0]
