"""FitData: the pixels of a spectrum that are used in a fit, and their errors."""

import itertools

import numpy as np
from numpy.polynomial import legendre
from scipy.optimize import brentq

from stellarhml.inference._inference_result import OrderFit
from stellarhml.inference.node_spectra import first_continuum
from stellarhml.physics.wavelength import SPEED_OF_LIGHT

_REJECT = 5.0  # standard deviations, or robust scatters if these are larger
_FEW_IN_ORDER = 8  # an order with fewer good pixels is left out: its continuum cannot be found
_LIGHT_PER_TERM = 1000.0  # km/s for each coefficient of a continuum
_LIGHT_PER_PIECE = 6000.0  # km/s: longer orders have several polynomials
_LEAST_DEGREE = 5  # of the continuum of an order: enough for the blaze that a flat field leaves
_FEW_PER_TERM = 20  # minimum number of pixels for each coefficient
_LOWEST = 1e-60  # fluxes between it and its inverse are not scaled
_RUN, _N_RUNS = 2048, 4  # pixels of a run, and number of runs, of a first fit


class Piece:
    """Pixels that share a continuum: those in use of one order, `order` being its index.

    `flux` and `weight`, one over the standard deviations, (n_pixels_in_use,); `basis` (n_pixels_in_use, n_terms), the
    terms of the polynomial of degree `degree`, None if no continuum is fitted; `first` pixel of the piece, and the
    first after it, `last`.
    """

    def __init__(self, order, pixels, flux, weight, basis, first, last, degree):
        self.order, self.pixels, self.flux, self.weight, self.basis = order, pixels, flux, weight, basis
        self._first, self._last, self._degree = first, last, degree

    def continuum(self, terms):
        """Pixels of the piece and the polynomial on them; ones if `terms` is None."""
        pixels = np.arange(self._first, self._last)
        if terms is None:
            return pixels, np.ones(len(pixels))
        return pixels, _legendre(pixels, self._first, self._last, self._degree) @ terms


class FitData:
    """Pixels of a spectrum with their errors; an infinite error marks a pixel that is left out.

    `wavelengths` [vacuum angstrom], `fluxes` and `errors` have an array (n_pixels,) for each order. If errors are not
    known, they are estimated from the scatter of neighbouring pixels. `numbers` of the orders as in their file; None:
    0, 1, 2, ...

    Fluxes whose level is extreme are scaled by a power of two, since their squares would not be numbers.

    Attributes
    ----------
    fluxes, errors : list of ndarray of shape (n_pixels,)
        Scaled fluxes; standard deviations of the data, infinite where a pixel is left out.
    extra : list of ndarray of shape (n_pixels,)
        Additional variances: the generator's own error and jitter.
    n_given, n_rejected : int
        Number of good pixels at the beginning, and number of those rejected since.
    jitter : float
        Standard deviation added in quadrature, in units of the continuum.
    """

    def __init__(self, wavelengths, fluxes, errors, *, errors_known=True, numbers=None):
        self._scale = _scale(fluxes, errors)
        self.wavelengths, self.errors_known = wavelengths, errors_known
        self.fluxes = [flux * self._scale for flux in fluxes]
        self.errors = [error * self._scale for error in errors]
        self.extra = [np.zeros(len(error)) for error in errors]
        self.numbers = list(range(len(errors))) if numbers is None else list(numbers)
        self.n_given, self.n_rejected, self.jitter = self.count(), 0, 0.0
        if not errors_known:
            for flux, error in zip(self.fluxes, self.errors, strict=True):
                _set_errors(flux, error, np.diff(flux[np.isfinite(error)], 2) / np.sqrt(6))

    @classmethod
    def of(cls, spectrum):
        """Make FitData from an ObservedSpectrum."""
        columns = zip(*spectrum.orders, strict=True)
        known, numbers = spectrum.meta["errors_known"], spectrum.meta["order_numbers"]
        return cls(*map(list, columns), errors_known=known, numbers=numbers)

    def count(self):
        """Number of pixels in use."""
        return sum(int(np.isfinite(error).sum()) for error in self.errors)

    def total_errors(self):
        """Standard deviations of the data, the generator and jitter together."""
        return [np.sqrt(error**2 + extra) for error, extra in zip(self.errors, self.extra, strict=True)]

    def normalise(self, left_out=None):
        """Reject spikes, and divide each order by a rough continuum; ValueError if no order has enough pixels.

        Pixels `left_out`, a bool array (n_pixels,) for each order, do not count in what is returned; None: all do.

        Returns ln wavelength, depth and weight of the good pixels of each order, as `Templates.find_start` takes them.
        """
        orders = []
        left_out = [np.zeros(len(flux), dtype=bool) for flux in self.fluxes] if left_out is None else left_out
        for wavelength, flux, error, out in zip(self.wavelengths, self.fluxes, self.errors, left_out, strict=True):
            if np.isfinite(error).sum() < _FEW_IN_ORDER:
                error[:] = np.inf
                continue
            continuum, spikes = first_continuum(flux, error)
            error[spikes] = np.inf
            self.n_rejected += int(spikes.sum())
            good = np.isfinite(error) & (continuum > 0)
            if (good & ~out).any():
                good &= ~out
                depth, weight = 1 - flux[good] / continuum[good], (continuum[good] / error[good]) ** 2
                # limit the influence of pixels with a tiny error or a flux far from the rest
                weight = np.minimum(weight, np.median(weight))
                orders.append((np.log(wavelength[good]), np.clip(depth, -0.3, 1.3), weight))
            elif not good.any():  # the order has no light
                self.n_rejected += int(np.isfinite(error).sum())
                error[:] = np.inf
        if not orders:
            raise ValueError(
                f"The spectrum has {self.n_given} good pixels, at most {_FEW_IN_ORDER - 1} in an order or none with "
                "positive flux: too few for a fit."
            )
        return orders

    def keep(self, reached):
        """Leave out pixels that the model does not cover; `reached` has an array (n_pixels,) of bool for each order.

        Returns the numbers of the orders that lost more than half of their good pixels.
        """
        outside = []
        for number, error, there in zip(self.numbers, self.errors, reached, strict=True):
            good = np.isfinite(error)
            if good.any() and (good & there).sum() < 0.5 * good.sum():
                outside.append(number)
            error[~there] = np.inf
        return outside

    def compare(self, fluxes, continua, model_errors):
        """Combine the data with a model: an OrderFit for each order.

        Lists have an array (n_pixels,) for each order: model in units of the continuum, continuum, and the generator's
        own error.
        """
        parts = (self.numbers, self.wavelengths, self.fluxes, self.errors, fluxes, continua, model_errors)
        return [
            OrderFit(wavelength, flux, error, model * continuum, continuum, own, number)
            for number, wavelength, flux, error, model, continuum, own in zip(*parts, strict=True)
        ]

    def in_own_unit(self, orders):
        """Orders (OrderFit) in the unit of the spectrum, which the fit may have scaled."""
        if self._scale == 1.0:
            return orders
        scaled = ("flux", "error", "model", "continuum", "model_error")
        return [order._replace(**{name: getattr(order, name) / self._scale for name in scaled}) for order in orders]

    def reject(self, orders):
        """Clip pixels whose residuals exceed five standard deviations, or five robust scatters if these are larger.

        `orders` are data and model (OrderFit). Returns whether any pixel was clipped.
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
        """Set errors from the residuals of a model and the error of the generator (`orders`, OrderFit).

        With `jitter` a term is added to the errors, so that the mean squared residual does not exceed 1.
        """
        if not self.errors_known:
            for order, error in zip(orders, self.errors, strict=True):
                _set_errors(order.flux, error, np.diff(order.residual[np.isfinite(error)]) / np.sqrt(2))
        self.extra = [order.model_error**2 for order in orders]
        if jitter:
            self.jitter = self._find_jitter(orders)
            for extra, order in zip(self.extra, orders, strict=True):
                extra += (self.jitter * np.nan_to_num(order.continuum)) ** 2

    def pieces(self, degree, runs=None):
        """Cut orders into pieces, each with its own continuum.

        Pieces with enough pixels for their polynomial are returned. `degree` is that of the polynomial of each order;
        "auto": one degree for each 1,000 km/s, five at least, and several polynomials where an order is longer than
        6,000 km/s; None: no polynomial. `runs` of pixels are treated as orders: index of the order, and its pixels;
        None: whole orders.
        """
        columns = self.wavelengths, self.fluxes, self.total_errors()
        if runs is not None:
            columns = [[column[i][span] for i, span in runs] for column in columns]
        pieces = []
        for i, (wavelength, flux, error) in enumerate(zip(*columns, strict=True)):
            good = np.flatnonzero(np.isfinite(error))
            if not len(good):
                continue
            n_pieces, degree_of_piece = 1, degree
            if degree == "auto":
                light = SPEED_OF_LIGHT * np.log(wavelength[good[-1]] / wavelength[good[0]])
                n_pieces = max(int(np.ceil(light / _LIGHT_PER_PIECE)), 1)
                degree_of_piece = max(round(light / n_pieces / _LIGHT_PER_TERM), _LEAST_DEGREE)
            bounds = np.linspace(good[0], good[-1] + 1, n_pieces + 1).round().astype(int)
            for first, last in itertools.pairwise(bounds):
                used = good[(good >= first) & (good < last)]
                limit = len(used) // _FEW_PER_TERM if degree == "auto" else max(len(used) - 2, 0)
                if not len(used) or (degree == "auto" and limit < 1):
                    continue
                own = 0 if degree is None else min(degree_of_piece, limit)
                basis = None if degree is None else _legendre(used, first, last, own)
                pieces.append(Piece(i, used, flux[used], 1 / error[used], basis, first, last, own))
        return pieces

    def some_runs(self):
        """Choose runs of pixels, (index of the order, slice), spread over the spectrum, for a first fit.

        All pixels of a short spectrum are chosen.
        """
        runs = []
        for i, error in enumerate(self.errors):
            good = np.flatnonzero(np.isfinite(error))
            if len(good):
                end = int(good[-1]) + 1
                runs += [(i, slice(first, min(first + _RUN, end))) for first in range(int(good[0]), end, _RUN)]
        if len(runs) <= _N_RUNS:
            return runs
        return [runs[k] for k in np.linspace(0, len(runs) - 1, 2 * _N_RUNS + 1).round().astype(int)[1::2]]

    def _find_jitter(self, orders):
        parts = []
        for order, error, extra in zip(orders, self.errors, self.extra, strict=True):
            good = np.isfinite(error) & np.isfinite(order.model)
            parts.append((order.residual[good], (error**2 + extra)[good], order.continuum[good]))
        residual, variance, continuum = (np.concatenate(column) for column in zip(*parts, strict=True))

        def excess(jitter):
            return np.mean(residual**2 / (variance + (jitter * continuum) ** 2)) - 1

        return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, 10 * np.std(residual / continuum) + 1e-12))


def _scale(fluxes, errors):
    """Factor, a power of two, by which fluxes and errors are scaled; 1 unless their level is extreme."""
    good = [np.abs(flux[np.isfinite(error)]) for flux, error in zip(fluxes, errors, strict=True)]
    level = np.median(np.concatenate(good)) if any(map(len, good)) else 1.0
    if level == 0 or _LOWEST < level < 1 / _LOWEST:
        return 1.0
    return float(2.0 ** -np.round(np.log2(level)))


def _legendre(pixels, first, last, degree):
    """Legendre polynomials over the pixels of a piece, shape (n_pixels, degree + 1)."""
    return legendre.legvander(2 * (pixels - first) / max(last - 1 - first, 1) - 1, degree)


def _set_errors(flux, error, scatter):
    """Set the errors of good pixels to the robust standard deviation of differences."""
    good = np.isfinite(error)
    if good.sum() > 2:
        noise = 1.4826 * np.nanmedian(np.abs(scatter))
        error[good] = max(noise, 1e-6 * np.median(np.abs(flux[good])), 1e-300)
