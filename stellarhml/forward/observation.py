"""Observation: the pixels of a spectrograph and its resolving power, for one order or several."""

from typing import NamedTuple

import numpy as np

from stellarhml._validation import check_wavelength
from stellarhml.forward.line_spread import LineSpread, ResolutionMatrix
from stellarhml.kernels.fourier_broadening import GAUSS_REACH
from stellarhml.physics.broadening import line_spread_sigma
from stellarhml.physics.wavelength import air_to_vacuum

_ROUNDING = 1e-9  # resolving powers that differ by less are the same
_LEAST = 1e-3  # of sigma: smallest line spread of a pixel where others have more, whose logarithm must be finite


class DetectorOrder(NamedTuple):
    """One run of pixels of a detector.

    Centers `wavelength` (n_pixels,), strictly increasing, and `edges` (n_pixels + 1,) [vacuum angstrom];
    `resolving_power` is a number, an array (n_pixels,), a LineSpread, or None for the generator's own; `own_power` is
    that which the generator's spectra already have, or None.
    """

    wavelength: np.ndarray
    edges: np.ndarray
    resolving_power: object
    own_power: float | None = None

    @property
    def sigma(self):
        """Sigma in ln wavelength of the line spread that the generator's spectra lack, or None.

        That of an equivalent Gaussian where the line-spread function is not Gaussian.
        """
        if self.resolving_power is None:
            return None
        if isinstance(self.resolving_power, LineSpread):
            return self.resolving_power.sigma
        if self.own_power is None:
            return line_spread_sigma(self.resolving_power)
        whole = line_spread_sigma(self.resolving_power)
        lacking = whole**2 - line_spread_sigma(self.own_power) ** 2
        return np.sqrt(np.maximum(lacking, (_LEAST * whole) ** 2 if np.ndim(whole) else 0.0))

    @property
    def median_sigma(self):
        """Median of `sigma`, zero for None."""
        return 0.0 if self.resolving_power is None else float(np.median(self.sigma))

    @property
    def total_sigma(self):
        """Sigma in ln wavelength of the whole line spread, of the middle of the order; zero where there is none."""
        own = 0.0 if self.own_power is None else line_spread_sigma(self.own_power)
        return float(np.hypot(self.median_sigma, own))

    @property
    def reach(self):
        """Largest offset of the line-spread function in ln wavelength: a number, or an array (n_pixels,)."""
        if isinstance(self.resolving_power, LineSpread):
            return self.resolving_power.reach
        return 0.0 if self.resolving_power is None else GAUSS_REACH * self.sigma

    @property
    def can_be_sharpened(self):
        """Whether the resolving power can be multiplied by a factor: not beyond that of the generator's spectra."""
        exact = self.resolving_power is None or isinstance(self.resolving_power, ResolutionMatrix)
        return not exact and self.own_power is None

    def part(self, pixels):
        """Some of the pixels (slice)."""
        edges = self.edges[pixels.start : pixels.stop + 1]
        power = take_pixels(self.resolving_power, pixels)
        return DetectorOrder(self.wavelength[pixels], edges, power, self.own_power)

    def at(self, factor, values, shift=1.0):
        """The order with another line spread, and pixels whose true wavelengths are the stated ones over `shift`.

        `factor` is that of the resolving power; `values` by name are those of parameters of a LineSpread.
        """
        power, edges = self.resolving_power, self.edges
        if isinstance(power, LineSpread):
            power = power.at(factor, values)
        elif power is not None and factor != 1:
            power = power * factor
        if shift != 1:
            edges = edges / shift
            power = power.shifted(shift) if hasattr(power, "shifted") else power
        return DetectorOrder(self.wavelength, edges, power, self.own_power)


class Observation:
    """Pixels and resolving powers of a spectrograph, for one order or several.

    Parameters
    ----------
    wavelength : array-like of shape (n_pixels,), or sequence of those
        Vacuum wavelengths of the pixels' centers in angstrom, strictly increasing: one order, or several orders or
        arms, of any lengths.
    edges : array-like of shape (n_pixels + 1,), or sequence of those, default=None
        Wavelengths of the pixels' edges. None: half way between the centers. Keep bad pixels and mask them later:
        removing them makes their neighbours too wide.
    resolving_power : float, array-like, LineSpread, or sequence of one for each order, default=None
        Wavelength over the full width at half maximum of the Gaussian line-spread function: a number, or a value for
        each pixel. A :class:`stellarhml.forward.line_spread.LineSpread` is one that is not Gaussian. None: the
        generator's own resolution.
    medium : {"vacuum", "air"}, default="vacuum"
        Medium of `wavelength` and `edges`; air is converted to vacuum.

    Attributes
    ----------
    orders : list of DetectorOrder
        The orders.
    single : bool
        Whether `wavelength` was one order rather than a sequence of orders.

    Raises
    ------
    ValueError
        If wavelengths are not finite and increasing, or lengths do not match.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.forward.observation import Observation
    >>> arms = Observation([np.linspace(8400, 8410, 100), np.linspace(8600, 8620, 150)], resolving_power=[3e4, 5e4])
    >>> [order.resolving_power for order in arms.orders]
    [30000.0, 50000.0]
    """

    def __init__(self, wavelength, *, edges=None, resolving_power=None, medium="vacuum"):
        if medium not in ("vacuum", "air"):
            raise ValueError(f"`medium` is {medium!r}; it needs 'vacuum' or 'air', the medium of the wavelengths.")
        self.single = len(wavelength) > 0 and np.ndim(wavelength[0]) == 0
        pixels = [wavelength] if self.single else list(wavelength)
        edges = self._each(edges, len(pixels), "edges")
        if np.isscalar(resolving_power) or resolving_power is None or isinstance(resolving_power, LineSpread):
            powers = [resolving_power] * len(pixels)
        else:
            powers = self._each(resolving_power, len(pixels), "resolving_power")
        parts = zip(pixels, edges, powers, strict=True)
        self.orders = [_check_order(i, *part, medium == "air") for i, part in enumerate(parts)]

    def seen_from(self, own_power):
        """The same observation of spectra that have a resolving power already.

        Parameters
        ----------
        own_power : float or None
            Resolving power of the spectra of a generator; None: they are as computed.

        Returns
        -------
        observation : Observation
            With line spreads that are the difference in quadrature.

        Raises
        ------
        ValueError
            If an order has a higher resolving power than the spectra, or a line spread that is not Gaussian.
        """
        seen = object.__new__(Observation)
        seen.single = self.single
        seen.orders = [order._replace(own_power=own_power) for order in self.orders]
        for number, order in enumerate(seen.orders):
            if own_power is None or order.resolving_power is None:
                continue
            if isinstance(order.resolving_power, LineSpread):
                raise ValueError(
                    f"Order {number}: `resolving_power` is a {type(order.resolving_power).__name__}, but the generator "
                    f"was built for {own_power:g} with a Gaussian line spread. Build one without --resolving-power, or "
                    "state a number."
                )
            highest = np.max(order.resolving_power)
            if highest > own_power * (1 + _ROUNDING):
                raise ValueError(
                    f"Order {number}: `resolving_power` is {highest:g}, but the generator was built for {own_power:g}, "
                    "and its spectra cannot be sharpened. Build a generator without --resolving-power, or with a "
                    "higher one."
                )
        return seen

    def part(self, runs):
        """Select some runs of pixels.

        Parameters
        ----------
        runs : sequence of (int, slice)
            Index of the order, and its pixels.

        Returns
        -------
        observation : Observation
            Each run is an order.
        """
        taken = object.__new__(Observation)
        taken.single = False
        taken.orders = [self.orders[i].part(span) for i, span in runs]
        return taken

    def sharpened(self, factor):
        """The same pixels with resolving powers times a factor.

        Parameters
        ----------
        factor : float
            Factor of the resolving powers. A resolution matrix, and the generator's own resolution, stay as they are.

        Returns
        -------
        observation : Observation
            The changed observation.
        """
        taken = object.__new__(Observation)
        taken.single = self.single
        taken.orders = [order.at(factor, {}) if order.can_be_sharpened else order for order in self.orders]
        return taken

    def _each(self, values, n_orders, name):
        """One value for each order."""
        if values is None:
            return [None] * n_orders
        values = [values] if self.single else list(values)
        if len(values) != n_orders:
            raise ValueError(
                f"`{name}` has {len(values)} parts but `wavelength` has {n_orders} orders. Pass one for each order."
            )
        return values


def take_pixels(resolving_power, pixels):
    """Resolving power, or LineSpread, of some of the pixels (slice)."""
    if isinstance(resolving_power, LineSpread):
        return resolving_power.part(pixels)
    return resolving_power if np.ndim(resolving_power) == 0 else resolving_power[pixels]


def _check_order(i, wavelength, edges, resolving_power, air):
    """Make a DetectorOrder of float64 arrays, after checks."""
    try:
        wavelength = check_wavelength(wavelength)
        if len(wavelength) < 2 and edges is None:
            raise ValueError("`wavelength` has one pixel, of unknown width. Pass its `edges`.")
        if edges is None:
            middle = (wavelength[1:] + wavelength[:-1]) / 2
            edges = np.concatenate([[2 * wavelength[0] - middle[0]], middle, [2 * wavelength[-1] - middle[-1]]])
        else:
            edges = check_wavelength(edges)
        if air:
            wavelength, edges = air_to_vacuum(wavelength), air_to_vacuum(edges)
    except ValueError as error:
        raise ValueError(f"Order {i}: {error}") from error
    if len(edges) != len(wavelength) + 1 or (edges[1:] <= wavelength).any() or (edges[:-1] >= wavelength).any():
        raise ValueError(
            f"Order {i}: `edges` has {len(edges)} values for {len(wavelength)} pixels; it needs {len(wavelength) + 1}, "
            "with the center of each pixel between its two edges."
        )
    if isinstance(resolving_power, LineSpread):
        try:
            resolving_power = resolving_power.bind(wavelength, edges)
        except ValueError as error:
            raise ValueError(f"Order {i}: {error}") from error
    elif resolving_power is not None:
        power = np.asarray(resolving_power, dtype=np.float64)
        if power.shape not in ((), wavelength.shape) or not (power > 1).all() or not np.isfinite(power).all():
            values = np.array2string(power, threshold=4)
            raise ValueError(
                f"Order {i}: `resolving_power` has shape {power.shape} and values {values}; "
                f"it needs a finite number over 1, or one for each of the {len(wavelength)} pixels. None means the "
                "generator's own resolution."
            )
        resolving_power = power if power.ndim else float(power)
    return DetectorOrder(wavelength, edges, resolving_power)
