"""SpectrumComparison: an observed spectrum and the model at given parameters; only continua are fitted."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.explore.screen_data import power_shown, thin_pixels
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation
from stellarhml.forward.tellurics import Tellurics
from stellarhml.inference._inference_result import OrderFit
from stellarhml.inference.fit_data import FitData
from stellarhml.inference.likelihood import fit_continua
from stellarhml.spectra.conversion import as_observed_spectrum


class ComparedOrders(NamedTuple):
    """Observed orders and the model, as OrderFit by their position in the spectrum.

    `chi2` is the mean squared residual of the `n_pixels` pixels in use, in units of the errors of the data; NaN if
    there is none, or if the data came without errors.
    """

    orders: dict
    chi2: float
    n_pixels: int

    def thinned(self, window, n_columns):
        """Data, residuals, noise and transmission in a `window` [angstrom], thinned to the columns of the screen.

        Each has shape (2, n_points): wavelengths, and fluxes, residuals or standard deviations of the data in units of
        the continuum, or the transmission of the atmosphere (no points without one), see `thin_pixels`. Orders follow
        each other with a NaN between; pixels that are not used are NaN.
        """
        parts = [[], [], [], []]
        for order in self.orders.values():
            seen = (order.wavelength >= window[0]) & (order.wavelength <= window[1])
            good = np.where(np.isfinite(order.error[seen]), 1.0, np.nan) / order.continuum[seen]
            x, gap = order.wavelength[seen], np.full((2, 1), np.nan)
            for part, values in zip(parts, (order.flux, order.residual, order.error), strict=False):
                y = np.where(np.isfinite(good), values[seen], 0.0) * good
                shown, _ = thin_pixels(y, n_columns)
                part += [np.stack([x[shown], y[shown]]), gap]
            if order.transmission is not None:
                y = order.transmission[seen]
                shown, _ = thin_pixels(y, n_columns)
                parts[3] += [np.stack([x[shown], y[shown]]), gap]
        return [np.concatenate(part, axis=1) if part else np.empty((2, 0)) for part in parts]

    def table(self):
        """DataFrame of all pixels: `order`, `wavelength` [angstrom], `model`, `flux`, `flux_std`.

        The last three are in units of the continuum; `flux_std` is infinite where a pixel is not used. With an
        atmosphere, there is its `transmission`, too.
        """
        parts = [
            pd.DataFrame(
                {
                    "order": order.number,
                    "wavelength": order.wavelength,
                    "model": order.model / order.continuum,
                    "flux": order.flux / order.continuum,
                    "flux_std": order.error / order.continuum,
                }
                | ({} if order.transmission is None else {"transmission": order.transmission})
            )
            for order in self.orders.values()
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


class SpectrumComparison:
    """One observed spectrum, to be compared with a generator at many parameters.

    `spectrum` is as `BayesianStellarRegressor.infer` takes it; wavelengths of both are in vacuum. `stages` are those of
    the forward model, in the frame of the spectrum; pixels outside their range are not used. Attributes: `ranges`, the
    first and last wavelength of each order [angstrom], and `numbers` of the orders in their file.

    Examples
    --------
    >>> from stellarhml import SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> from stellarhml.explore.comparison import SpectrumComparison
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    >>> comparison = SpectrumComparison(generator, (grid.wavelength, 3.0 * grid.flux[0], 0.03 + 0 * grid.flux[0]))
    >>> compared = comparison.at(grid.labels[0])
    >>> round(float(compared.orders[0].continuum[200]), 1), compared.chi2 < 0.1
    (3.0, True)
    """

    def __init__(self, generator, spectrum, *, stages=(), limb_darkening=0.6):
        self._generator, self._stages, self._limb_darkening = generator, tuple(stages), limb_darkening
        self._has_air = any(isinstance(stage, Tellurics) for stage in self._stages)
        self._data = FitData.of(as_observed_spectrum(spectrum)[0])
        self._data.normalise()
        for stage in self._stages:
            self._data.keep([stage.covers(wavelength) for wavelength in self._data.wavelengths])
        self._pieces = self._data.pieces("auto")
        self._pixels = Observation(self._data.wavelengths).orders
        self.numbers = self._data.numbers
        self.ranges = [(float(part[0]), float(part[-1])) for part in self._data.wavelengths]

    def orders_in(self, window):
        """Positions in the spectrum of the orders that overlap a `window` [angstrom]."""
        return [i for i, (low, high) in enumerate(self.ranges) if high >= window[0] and low <= window[1]]

    def at(self, labels, *, rv=0.0, vsini=0.0, resolving_power=None, effects=None, orders=None):
        """Compare with the model at given parameters; returns ComparedOrders.

        Continua are polynomials as in a fit. Labels outside the grid are moved to its nearest point; `rv` and `vsini`
        [km/s]; `resolving_power` None is the generator's own, as is a higher one; `effects` has the values of the
        parameters of stages; `orders` are positions, None for all. The model is NaN in orders outside the generator's
        band. With an atmosphere among the stages, orders have its transmission, as those of `InferenceResult`.
        """
        orders = range(len(self.ranges)) if orders is None else orders
        if not len(orders):
            return ComparedOrders({}, np.nan, 0)
        chosen = [self._pixels[i] for i in orders]
        resolving_power = power_shown(self._generator, resolving_power)
        edges, powers = [order.edges for order in chosen], [resolving_power] * len(chosen)
        observation = Observation([order.wavelength for order in chosen], edges=edges, resolving_power=powers)
        look = {"stages": self._stages, "limb_darkening": self._limb_darkening}
        chain = ForwardChain(self._generator, observation, **look)
        values = dict(zip(self._generator.label_names_, map(float, np.ravel(labels)), strict=True))
        values |= {"rv": rv, "vsini": vsini} | (effects or {})
        try:
            fluxes = chain.flux(values)
            clear = chain.without(Tellurics).flux(values) if self._has_air else fluxes
        except WavelengthCoverageError:
            fluxes = clear = [np.full(len(order.wavelength), np.nan) for order in chosen]
        with np.errstate(divide="ignore", invalid="ignore"):
            air = list(map(np.divide, fluxes, clear)) if self._has_air else [None] * len(fluxes)
        fluxes, air = (dict(zip(orders, parts, strict=True)) for parts in (fluxes, air))
        continua = {i: np.full(len(flux), np.nan) for i, flux in fluxes.items()}
        pieces = [piece for piece in self._pieces if piece.order in fluxes]
        for piece, (pixels, level) in zip(pieces, fit_continua(pieces, fluxes), strict=True):
            continua[piece.order][pixels] = level
        found, squares = {}, []
        for i, flux in fluxes.items():
            arrays = (part[i] for part in (self._data.wavelengths, self._data.fluxes, self._data.errors))
            no_model_error = np.zeros(len(flux))
            found[i] = OrderFit(*arrays, flux * continua[i], continua[i], no_model_error, self.numbers[i], air[i])
            squares.append((found[i].residual / found[i].error) ** 2)
        squares = np.concatenate(squares)
        squares = squares[np.isfinite(squares)]
        known = self._data.errors_known and len(squares)
        return ComparedOrders(found, float(squares.mean()) if known else np.nan, len(squares))
