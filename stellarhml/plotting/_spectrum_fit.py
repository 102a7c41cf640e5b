"""A spectrum at rest and a regressor's model of it."""

from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre


class SpectrumFit(NamedTuple):
    """One spectrum and its model; all arrays have shape (n_pixels,).

    `wavelength` [vacuum angstrom]; normalised `flux`, NaN where a pixel is masked; `flux_error`, its standard
    deviation, infinite there, or None; `fitted`, model times the best continuum.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    flux_error: np.ndarray | None
    fitted: np.ndarray

    @property
    def rms(self):
        """RMS of flux minus model over the pixels that are not masked."""
        return float(np.sqrt(np.nanmean((self.flux - self.fitted) ** 2)))

    @property
    def chi2(self):
        """Mean squared residual in units of the errors; NaN without errors."""
        if self.flux_error is None:
            return np.nan
        return float(np.nanmean(((self.flux - self.fitted) / self.flux_error) ** 2))


def compare(regressor, flux, labels, *, flux_error=None):
    """SpectrumFit of a spectrum and a fitted regressor's model of it at `labels` (n_labels,).

    `flux` (n_pixels,) is as the regressor's `predict` takes it; an infinite `flux_error` masks a pixel.
    """
    generator = regressor.generator_
    raw = np.asarray(flux, dtype=np.float64)
    normalised = np.asarray(generator.normalise(raw[None]), dtype=np.float64)[0]
    error = None if flux_error is None else np.asarray(flux_error, dtype=np.float64)
    if generator.preprocessor_ is not None:
        kept = np.searchsorted(generator.preprocessor_.wavelength_, generator.wavelength_)
        # flux and error are divided by the same positive continuum
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = normalised / raw[kept]
        error = None if error is None else error[kept] * np.where(np.isfinite(scale), scale, np.nanmedian(scale))
    used = np.ones(normalised.size, dtype=bool) if error is None else np.isfinite(error)
    model = np.reshape(generator.predict(np.reshape(labels, (1, -1))), -1)
    weight = np.ones(normalised.size) if error is None else 1 / error
    fitted = model * _continuum(model, normalised, weight, used, regressor.continuum_degree)
    return SpectrumFit(generator.wavelength_, np.where(used, normalised, np.nan), error, fitted)


def _continuum(model, flux, weight, used, degree):
    """Polynomial that fits model times polynomial to the flux, shape (n_pixels,)."""
    if degree is None:
        return np.ones(model.size)
    basis = legendre.legvander(np.linspace(-1, 1, model.size), min(degree, max(int(used.sum()) - 2, 0)))
    design = basis[used] * (model * weight)[used, None]
    return basis @ np.linalg.lstsq(design, (flux * weight)[used], rcond=None)[0]
