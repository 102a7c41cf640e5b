"""Spectra as weighted sums of templates, and the least squares that `compare.py` gives to all models of that kind.

The fit is the same for all of them: labels, velocity and vsini by least squares, in every order a polynomial that is
solved for exactly, errors from the covariance of the noise alone. Pixels and rotation are treated exactly, so that
what remains is the interpolation.
"""

import time

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.interpolate import make_interp_spline
from scipy.optimize import least_squares
from scipy.special import j1

C_KMS = 299792.458
STEP_KMS = 1.0
N_TERMS = 6  # of the polynomial of an order
SCALES = [100.0, 0.1]  # of Teff in K, and of all other labels
STEPS = [1.0, 0.002]
FWHM = 2 * np.sqrt(2 * np.log(2))


def degrade(wavelength, flux, resolving_power, *, fine=0.25):
    """Spectra at a resolving power, on a grid of equal velocity steps: ln(wavelength), flux as float32."""
    every = round(STEP_KMS / fine)
    log_wavelength = np.arange(np.log(wavelength[0]), np.log(wavelength[-1]), fine / C_KMS)
    at = np.exp(log_wavelength)
    frequency = np.fft.rfftfreq(2 * len(at))
    sigma = C_KMS / resolving_power / FWHM / fine
    kernel = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    out = []
    for row in flux:
        native = np.interp(at, wavelength, row)
        mirrored = np.concatenate([native, native[::-1]])  # without jumps at the ends
        out.append(np.fft.irfft(np.fft.rfft(mirrored) * kernel)[: len(at) : every].astype(np.float32))
    return log_wavelength[::every], np.array(out)


def grid_weights(labels, *, degree):
    """Function from labels to weights of the nodes of a full grid: splines of a degree along every axis in turn."""
    axes = [np.unique(column) for column in labels.T]
    splines = [make_interp_spline(x, np.eye(len(x)), k=min(degree, len(x) - 1)) for x in axes]
    place = [np.searchsorted(x, column) for x, column in zip(axes, labels.T, strict=True)]

    def weights(row):
        parts = [spline(value)[at] for spline, value, at in zip(splines, row, place, strict=True)]
        return np.prod(parts, axis=0)

    return weights


class Model:
    """Spectra that are weighted sums of `basis`, at R as `degrade` leaves them, on equal steps of velocity.

    Parameters
    ----------
    log_wavelength : ndarray of shape (n_pixels,)
    basis : ndarray of shape (n_basis, n_pixels)
    weights : callable
        From labels to an array of shape (n_basis,).
    offset : ndarray of shape (n_pixels,) or float
    """

    def __init__(self, log_wavelength, basis, weights, offset=0.0):
        self.log_wavelength, self.basis, self.weights, self.offset = log_wavelength, basis, weights, offset
        self.step = log_wavelength[1] - log_wavelength[0]
        self.wave = np.exp(log_wavelength)
        self.n_padded = next_fast_len(len(log_wavelength) + 200, real=True)
        self.frequency = 2 * np.pi * np.fft.rfftfreq(self.n_padded, d=STEP_KMS)

    def template(self, labels):
        """Spectrum at rest without rotation."""
        return np.asarray(self.weights(labels), dtype=np.float32) @ self.basis + self.offset

    def rotate(self, flux, vsini):
        """Rotation with a limb darkening of 0.6, as a product in Fourier space."""
        x = np.maximum(np.abs(vsini) * self.frequency, 1e-3)
        kernel = 2 * 0.4 * np.pi * j1(x) / x + 2 * np.pi * 0.6 * (np.sin(x) / x - np.cos(x)) / x**2
        padded = np.concatenate([flux, np.linspace(flux[-1], flux[0], self.n_padded - len(flux))])
        return irfft(rfft(padded) * (kernel / kernel[0]), self.n_padded)[: len(flux)]

    def integrate(self, flux, edges, rv):
        """Means over pixels between `edges`, of shape (n_orders, n_pixels + 1), at a velocity."""
        step = self.step
        density = flux * self.wave  # per unit of log wavelength
        slope = np.gradient(density, step)
        parts = 0.5 * step * (density[1:] + density[:-1]) - step**2 / 12 * np.diff(slope)
        total = np.concatenate([[0.0], np.cumsum(parts)])
        at_rest = edges / (1 + rv / C_KMS)
        place = (np.log(at_rest) - self.log_wavelength[0]) / step
        i = np.clip(place.astype(int), 0, len(density) - 2)
        t = place - i
        # cubic between the nodes: values are the integral, slopes are the spectrum
        rise = total[i + 1] - total[i]
        value = total[i] + t * (
            step * density[i]
            + t * (3 * rise - step * (2 * density[i] + density[i + 1]))
            + t**2 * (step * (density[i] + density[i + 1]) - 2 * rise)
        )
        return np.diff(value, axis=1) / np.diff(at_rest, axis=1)

    def observe(self, labels, rv, vsini, edges):
        """Spectrum on the pixels of a star."""
        return self.integrate(self.rotate(self.template(labels), vsini), edges, rv)


def pixel_edges(pixels):
    middle = 0.5 * (pixels[:, 1:] + pixels[:, :-1])
    first, last = 2 * pixels[:, :1] - middle[:, :1], 2 * pixels[:, -1:] - middle[:, -1:]
    return np.concatenate([first, middle, last], axis=1)


def polynomials(pixels, n_terms=N_TERMS):
    x = np.linspace(-1, 1, pixels.shape[1])
    return np.polynomial.chebyshev.chebvander(x, n_terms - 1).T


def with_continuum(flux, model, error, basis):
    """Model times the polynomials that fit best, order by order."""
    terms = basis * (model / error)[:, None]
    normal = terms @ terms.transpose(0, 2, 1)
    right = terms @ (flux / error)[:, :, None]
    return ((np.linalg.solve(normal, right).transpose(0, 2, 1) @ terms)[:, 0]) * error


class Fitter:
    """Least squares of observed spectra with a `Model`."""

    def __init__(self, model, pixels, labels):
        self.model, self.edges, self.basis = model, pixel_edges(pixels), polynomials(pixels)
        self.bounds = np.array([labels.min(axis=0), labels.max(axis=0)])
        others = labels.shape[1] - 1
        self.scales = np.array([SCALES[0], *SCALES[1:] * others, 1.0, 1.0])
        self.steps = np.array([STEPS[0], *STEPS[1:] * others, 0.02, 0.02])

    def residuals(self, values, flux, error):
        model = self.model.observe(values[:-2], values[-2], values[-1], self.edges)
        return ((flux - with_continuum(flux, model, error, self.basis)) / error).ravel()

    def jacobian(self, values, flux, error):
        ends = np.append(self.bounds[1], [np.inf, np.inf])
        steps = np.where(values + self.steps > ends, -self.steps, self.steps)
        start = self.residuals(values, flux, error)
        moved = [self.residuals(values + row, flux, error) for row in np.diag(steps)]
        return (np.array(moved) - start).T / steps

    def first_velocity(self, labels, flux, error):
        """Velocity of the best match of one spectrum of slow rotation."""
        template = self.model.rotate(self.model.template(labels), 8.0)
        tried = np.arange(-99.0, 100.0, 3.0)
        miss = []
        for rv in tried:
            model = self.model.integrate(template, self.edges, rv)
            miss.append(np.sum(((flux - with_continuum(flux, model, error, self.basis)) / error) ** 2))
        return tried[np.argmin(miss)]

    def fit(self, flux, error):
        """Values and errors of labels, velocity, vsini; seconds."""
        begin = time.process_time()
        center = self.bounds.mean(axis=0)
        start = np.array([*center, self.first_velocity(center, flux, error), 8.0])
        low, high = [*self.bounds[0], -200, 0.1], [*self.bounds[1], 200, 50]
        found = least_squares(
            self.residuals, start, self.jacobian, bounds=(low, high), x_scale=self.scales, xtol=1e-6, args=(flux, error)
        )
        std = np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac)))
        return found.x, std, time.process_time() - begin
