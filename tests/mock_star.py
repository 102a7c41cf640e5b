"""Stars that no code of the package has seen: packaged spectra between the nodes, observed step by step.

The steps, each as its definition says: a cubic spline onto a fine grid, even in velocity; Gray's rotation profile and a
Gaussian line spread, sampled and convolved; the Doppler shift; the integral over each pixel; a throughput; noise.
"""

from functools import lru_cache

import numpy as np
from scipy.integrate import cumulative_trapezoid
from scipy.interpolate import CubicSpline
from scipy.signal import oaconvolve

from stellarhml.datasets import load_mini_grid

C = 299_792.458  # km/s
STEP = 0.02  # km/s; a pixel of the packaged spectra has 0.35 km/s


@lru_cache
def packaged():
    """Wavelengths in angstrom; flux over its 99th percentile by labels, at all nodes and between them."""
    grid = load_mini_grid()
    flux = {}
    for label, row in zip([*grid.labels, *grid.labels_offgrid], [*grid.flux, *grid.flux_offgrid], strict=True):
        flux[tuple(label)] = row / np.percentile(row.astype(float), 99)
    return grid.wavelength, flux


def between_nodes():
    """Labels of the six packaged spectra between nodes."""
    return load_mini_grid().labels_offgrid


def rotation_profile(vsini, limb_darkening=0.6):
    """Gray's profile of a star that rotates, sampled every STEP; its sum is 1."""
    x = np.arange(-int(vsini / STEP) - 1, int(vsini / STEP) + 2) * STEP / vsini
    root = np.sqrt(np.clip(1 - x**2, 0, None))
    profile = 2 * (1 - limb_darkening) * root / np.pi + limb_darkening * root**2 / 2
    return profile / profile.sum()


def gaussian(fwhm):
    """A Gaussian of a full width in km/s, sampled every STEP; its sum is 1."""
    sigma = fwhm / np.sqrt(8 * np.log(2))
    reach = int(7 * sigma / STEP) + 1
    profile = np.exp(-0.5 * (np.arange(-reach, reach + 1) * STEP / sigma) ** 2)
    return profile / profile.sum()


def observe(wavelength, flux, pixels, *, rv=0.0, vsini=0.0, resolving_power=None, transmission=None):
    """Mean flux in each pixel, without noise.

    `wavelength` (vacuum, angstrom) and `flux` of the star; `pixels`: centres, as the observatory sees them; `rv` and
    `vsini` in km/s; `transmission`: a pair (wavelength of the observatory, transmission), which the light passes before
    the spectrograph.
    """
    at_rest = np.arange(np.log(wavelength[0]), np.log(wavelength[-1]), STEP / C)
    seen = at_rest + np.log1p(rv / C)
    light = CubicSpline(np.log(wavelength), flux)(at_rest)
    if vsini > STEP:
        light = _convolve(light, rotation_profile(vsini))
    if transmission is not None:
        light = light * CubicSpline(*transmission)(np.exp(seen))
    if resolving_power is not None:
        light = _convolve(light, gaussian(C / resolving_power))
    middle = 0.5 * (pixels[1:] + pixels[:-1])
    edges = np.concatenate([[2 * pixels[0] - middle[0]], middle, [2 * pixels[-1] - middle[-1]]])
    integral = cumulative_trapezoid(light, np.exp(seen), initial=0)
    return np.diff(np.interp(edges, np.exp(seen), integral)) / np.diff(edges)


def _convolve(light, profile):
    """Convolve rows with a profile of odd length; beyond the ends, the light is as at the ends."""
    reach = len(profile) // 2
    return oaconvolve(np.pad(light, reach, mode="edge"), profile, mode="valid")


class OneSpectrum:
    """What the forward model asks of a generator, of one spectrum."""

    label_names_ = ("teff",)

    def __init__(self, wavelength, flux):
        self.wavelength_, self._flux = wavelength, flux
        self.interpolator_ = type("Bounds", (), {"bounds_": np.array([[0.0, 1.0]])})

    def render_rows(self, labels, pixels, *, tangents=False, change=None):
        row = self._flux[pixels]
        return np.stack([row, 0 * row]) if tangents else row[None]


@lru_cache
def _orders(labels, rv, vsini, power):
    """Spectra of one packaged star in the orders of Star."""
    wavelength, flux = packaged()
    if labels not in flux:
        raise KeyError(f"no packaged spectrum has the labels {labels}; those between nodes are {between_nodes()}")
    return [
        observe(wavelength, flux[labels], pixels, rv=rv, vsini=vsini, resolving_power=power) for pixels in Star.pixels
    ]


class Star:
    """A packaged spectrum as a spectrograph records it: two orders with throughput and noise, at R 40,000.

    Its labels are those of a packaged spectrum between the nodes, or of a node. Where a test is about the fit and the
    generator's own error would hide what it looks for, `model` is a pair (wavelength, flux) to observe instead, and
    `labels` are its own.
    """

    pixels = (np.arange(8456.0, 8575.0, 0.08), np.arange(8570.0, 8694.0, 0.1))
    names = ("teff", "logg", "feh", "rv", "vsini")

    def __init__(
        self, *, labels=None, rv=33.0, vsini=9.0, power=40_000, snr=100.0, seed=0, model=None, transmission=None
    ):
        self.labels = np.array(between_nodes()[2] if labels is None else labels, dtype=float)
        self.rv, self.vsini, self.power = rv, vsini, power
        self.wavelength = [pixels.copy() for pixels in self.pixels]
        if transmission is not None:
            wavelength, flux = packaged()
            star = {"rv": rv, "vsini": vsini, "resolving_power": power, "transmission": transmission}
            rows = [observe(wavelength, flux[tuple(self.labels)], pixels, **star) for pixels in self.pixels]
        elif model is None:
            rows = _orders(tuple(self.labels), rv, vsini, power)
        else:
            rows = [observe(*model, pixels, rv=rv, vsini=vsini, resolving_power=power) for pixels in self.pixels]
        rng = np.random.default_rng(seed)
        self.flux, self.error = [], []
        for k, (x, row) in enumerate(zip(self.wavelength, rows, strict=True)):
            t = np.linspace(-1, 1, len(x))
            level = (300 + 100 * k) * (1 - 0.3 * t**2 + 0.05 * t)
            self.error.append(level / snr)
            self.flux.append(level * row + rng.normal(size=len(x)) * level / snr)

    @property
    def spectrum(self):
        return self.wavelength, self.flux, self.error

    @property
    def truth(self):
        return np.array([*self.labels, self.rv, self.vsini])

    def off(self, result):
        """Errors of a result in its own standard deviations."""
        pairs = zip(self.names, self.truth, strict=True)
        return np.array([(result.values[name] - true) / result.errors[name] for name, true in pairs])
