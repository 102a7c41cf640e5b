"""Pixels: the data of a fit, which of them count, and with what errors."""

import numpy as np
from scipy.optimize import brentq

from stellarhml.inference._inference_result import OrderFit
from stellarhml.inference.templates import first_continuum

_REJECT = 5.0  # standard deviations, or robust scatters if these are larger
_FEW = 8  # pixels of an order that are too few to find its continuum


class Pixels:
    """Pixels of a spectrum, with what is left out and how large errors are.

    Parameters
    ----------
    wavelengths : list of ndarray of shape (n_pixels,)
        Vacuum wavelengths in angstrom of each order.
    data : ObservedData
        The spectrum.

    Attributes
    ----------
    errors : list of ndarray of shape (n_pixels,)
        Standard deviations of the data, infinite where a pixel is left out.
    extra : list of ndarray of shape (n_pixels,)
        Variances by the generator's own error and by jitter.
    n_given, n_rejected : int
        Good pixels at the beginning, and how many of them were rejected since.
    jitter : float
        Standard deviation that was added, in units of the continuum.
    """

    def __init__(self, wavelengths, data):
        self.wavelengths, self.fluxes, self._known = wavelengths, data.fluxes, data.errors_known
        self.errors = [error.copy() for error in data.errors]
        self.extra = [np.zeros(len(error)) for error in data.errors]
        self.n_given, self.n_rejected, self.jitter = self.count(), 0, 0.0
        if not self._known:
            for flux, error in zip(self.fluxes, self.errors, strict=True):
                _set_errors(flux, error, np.diff(flux[np.isfinite(error)], 2) / np.sqrt(6))

    def count(self):
        """Number of pixels that count."""
        return sum(int(np.isfinite(error).sum()) for error in self.errors)

    def total_errors(self):
        """Standard deviations with those of the generator and of jitter."""
        return [np.sqrt(error**2 + extra) for error, extra in zip(self.errors, self.extra, strict=True)]

    def normalise(self):
        """Reject what no star emits and bring the rest to a rough continuum of one.

        Returns
        -------
        orders : list of tuple of ndarray
            ln wavelength, depth and weight of the good pixels of each order, as `find_start` takes them.

        Raises
        ------
        ValueError
            If no order has enough pixels.
        """
        orders = []
        for wavelength, flux, error in zip(self.wavelengths, self.fluxes, self.errors, strict=True):
            if np.isfinite(error).sum() < _FEW:
                error[:] = np.inf
                continue
            continuum, spikes = first_continuum(flux, error)
            error[spikes] = np.inf
            self.n_rejected += int(spikes.sum())
            good = np.isfinite(error) & (continuum > 0)
            if good.any():
                depth, weight = 1 - flux[good] / continuum[good], (continuum[good] / error[good]) ** 2
                # a pixel that is too good, or far off, must not decide alone
                weight = np.minimum(weight, np.median(weight))
                orders.append((np.log(wavelength[good]), np.clip(depth, -0.3, 1.3), weight))
            else:  # no light
                self.n_rejected += int(np.isfinite(error).sum())
                error[:] = np.inf
        if not orders:
            raise ValueError(
                f"The spectrum has {self.n_given} good pixels, at most {_FEW - 1} in an order or none with positive "
                "flux: too few to fit anything."
            )
        return orders

    def keep(self, reached):
        """Leave out pixels that the generator does not reach.

        Parameters
        ----------
        reached : list of ndarray of shape (n_pixels,), bool
            Pixels that it reaches.

        Returns
        -------
        outside : list of int
            Orders that lost more than half of their good pixels.
        """
        outside = []
        for i, (error, there) in enumerate(zip(self.errors, reached, strict=True)):
            good = np.isfinite(error)
            if good.any() and (good & there).sum() < 0.5 * good.sum():
                outside.append(i)
            error[~there] = np.inf
        return outside

    def compare(self, model, continua, model_error):
        """Data beside a model, a list of `OrderFit`.

        Parameters
        ----------
        model, continua, model_error : list of ndarray of shape (n_pixels,)
            Model without continuum, continuum, and the generator's own error.
        """
        model = [flux * continuum for flux, continuum in zip(model, continua, strict=True)]
        parts = zip(self.wavelengths, self.fluxes, self.errors, model, continua, model_error, strict=True)
        return [OrderFit(*part) for part in parts]

    def reject(self, orders):
        """Leave out pixels that a model misses by far.

        Parameters
        ----------
        orders : list of OrderFit
            Data beside the model.

        Returns
        -------
        new : bool
            Whether there were any.
        """
        scaled = [np.abs(order.residual) / np.hypot(order.error, order.model_error) for order in orders]
        limit = _REJECT * max(1.0, 1.4826 * np.nanmedian(np.concatenate(scaled)))
        n_new = 0
        for error, part in zip(self.errors, scaled, strict=True):
            wrong = np.nan_to_num(part) > limit
            n_new += int(wrong.sum())
            error[wrong] = np.inf
        self.n_rejected += n_new
        return n_new > 0

    def weigh(self, orders, *, jitter):
        """Set errors from what a model leaves over.

        Parameters
        ----------
        orders : list of OrderFit
            Data beside the model, with the error of the generator.
        jitter : bool
            Whether to add a constant to the errors, such that residuals have their size.
        """
        if not self._known:
            for order, error in zip(orders, self.errors, strict=True):
                _set_errors(order.flux, error, np.diff(order.residual[np.isfinite(error)]) / np.sqrt(2))
        self.extra = [order.model_error**2 for order in orders]
        if jitter:
            self.jitter = self._find_jitter(orders)
            for extra, order in zip(self.extra, orders, strict=True):
                extra += (self.jitter * np.nan_to_num(order.continuum)) ** 2

    def _find_jitter(self, orders):
        parts = []
        for order, error, extra in zip(orders, self.errors, self.extra, strict=True):
            good = np.isfinite(error) & np.isfinite(order.model)
            parts.append((order.residual[good], (error**2 + extra)[good], order.continuum[good]))
        residual, variance, continuum = (np.concatenate(column) for column in zip(*parts, strict=True))

        def excess(jitter):
            return np.mean(residual**2 / (variance + (jitter * continuum) ** 2)) - 1

        return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, 10 * np.std(residual / continuum) + 1e-12))


def _set_errors(flux, error, scatter):
    """Set the errors of good pixels to the robust standard deviation of differences."""
    good = np.isfinite(error)
    if good.sum() > 2:
        noise = 1.4826 * np.nanmedian(np.abs(scatter))
        error[good] = max(noise, 1e-6 * np.median(np.abs(flux[good])), 1e-300)
