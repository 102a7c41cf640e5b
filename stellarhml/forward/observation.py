"""The forward model of an observation: from labels to what the pixels of a spectrograph record."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from stellarhml._validation import check_wavelength
from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.kernels.fourier_broadening import light_reach, observe_rows
from stellarhml.physics.broadening import line_spread_sigma
from stellarhml.physics.wavelength import SPEED_OF_LIGHT, air_to_vacuum, doppler_shift, vacuum_to_air

_MARGIN = 12  # pixels of the model beyond those from which light comes: two stencils
_LONGEST = 2**16  # pixels that are observed at once: points lie as close as the finest pixels among them ask for
_GRAIN = 64  # pixels by which windows grow: few velocities change them, for where they end changes the flux by 1e-6


class Order(NamedTuple):
    """One run of pixels of a detector.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,)
        Vacuum wavelengths of the centers in angstrom, strictly increasing.
    edges : ndarray of shape (n_pixels + 1,)
        Wavelengths of the edges.
    resolving_power : float or ndarray of shape (n_pixels,) or None
        Wavelength over the full width at half maximum of the line-spread function. None: as sharp as the model.
    """

    wavelength: np.ndarray
    edges: np.ndarray
    resolving_power: object

    @property
    def sigma(self):
        """Sigma of the line-spread function in ln wavelength, or None."""
        return None if self.resolving_power is None else line_spread_sigma(self.resolving_power)


class Observation:
    """What a spectrograph looks with: pixels and resolving powers, of one order or of several.

    Parameters
    ----------
    wavelength : array-like of shape (n_pixels,), or sequence of those
        Vacuum wavelengths of the pixels' centers in angstrom, strictly increasing: one order, or several orders or
        arms, of any lengths.
    edges : array-like of shape (n_pixels + 1,), or sequence of those, default=None
        Wavelengths of the pixels' edges. None: half way between the centers. Where pixels are left out, the edges half
        way make their neighbours too wide; leave them in and mask them later.
    resolving_power : float, array-like, or sequence of one for each order, default=None
        Wavelength over the full width at half maximum of the Gaussian line-spread function: a number, or a value for
        each pixel. None: the spectrograph is as sharp as the model.
    medium : {"vacuum", "air"}, default="vacuum"
        What `wavelength` and `edges` are measured in; from air they are converted to vacuum.

    Attributes
    ----------
    orders : list of Order
        The orders.
    single : bool
        Whether `wavelength` was one order, not a sequence of them.

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
            raise ValueError(f"`medium` is {medium!r}; it needs 'vacuum' or 'air', as the wavelengths are measured in.")
        self.single = len(wavelength) > 0 and np.ndim(wavelength[0]) == 0
        pixels = [wavelength] if self.single else list(wavelength)
        edges = self._each(edges, len(pixels), "edges")
        if np.isscalar(resolving_power) or resolving_power is None:
            powers = [resolving_power] * len(pixels)
        else:
            powers = self._each(resolving_power, len(pixels), "resolving_power")
        parts = zip(pixels, edges, powers, strict=True)
        self.orders = [_check_order(i, *part, medium == "air") for i, part in enumerate(parts)]

    def part(self, runs):
        """Take some runs of pixels.

        Parameters
        ----------
        runs : sequence of (int, slice)
            Number of the order, and its pixels.

        Returns
        -------
        observation : Observation
            With each run as an order.
        """
        taken = object.__new__(Observation)
        taken.single, taken.orders = False, []
        for i, span in runs:
            wavelength, edges, power = self.orders[i]
            power = power if np.ndim(power) == 0 else power[span]
            taken.orders.append(Order(wavelength[span], edges[span.start : span.stop + 1], power))
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


def observe(
    generator,
    labels,
    observation,
    *,
    rv=0.0,
    vsini=0.0,
    limb_darkening=0.6,
    derivatives=False,
    nearest=False,
):
    """Generate what a spectrograph records of a star: rotation, velocity, line spread and pixels.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted, with wavelengths in vacuum angstrom.
    labels : array-like of shape (n_labels,)
        Labels of the star.
    observation : Observation
        Pixels and resolving powers.
    rv : float, default=0.0
        Radial velocity in km/s, positive away from the observer: wavelengths are multiplied by 1 + rv / c.
    vsini : float, default=0.0
        Projected rotational velocity in km/s.
    limb_darkening : float, default=0.6
        Linear coefficient of limb darkening, from 0 to 1.
    derivatives : bool, default=False
        Whether to return derivatives too.
    nearest : bool, default=False
        Whether labels outside the grid are moved to its edge without a word, as in `predict_nearest`.

    Returns
    -------
    fluxes : list of ndarray of shape (n_pixels,)
        For each order, the mean flux per wavelength in each pixel. NaN where light from beyond the band is needed.
    jacobians : list of ndarray of shape (n_pixels, n_labels + 3)
        Derivatives with respect to the labels, `rv`, `vsini`, and ln of the resolving power (all pixels' powers times
        the same factor; zero where it is None). Only with `derivatives`.

    Raises
    ------
    ValueError
        If a parameter is not finite or out of range.
    WavelengthCoverageError
        If no order overlaps the band.
    LabelsOutsideGridError
        If labels lie outside the grid, unless the generator or `nearest` allows it.
    """
    check_is_fitted(generator)
    X = np.reshape(np.asarray(labels, dtype=np.float64), (1, -1))
    rv, vsini, limb_darkening = _check_star(rv, vsini, limb_darkening)
    interpolator = generator.interpolator_
    outside = (interpolator.locate if nearest else interpolator.node_weights)(X)[1]
    wavelength = np.asarray(generator.wavelength_)
    cuts = [_cut(len(order.wavelength)) for order in observation.orders]
    orders = observation.part([(i, span) for i, spans in enumerate(cuts) for span in spans]).orders
    windows = [_window(wavelength, order, rv, vsini) for order in orders]
    _check_overlap(wavelength, observation.orders, windows, rv)
    n_rows = X.shape[1] + 1 if derivatives else 1
    rows = _generate_windows(generator, X, windows, n_rows)
    if outside.any() and not nearest and interpolator.extrapolate == "nan":
        rows = [(first, np.full_like(part, np.nan)) for first, part in rows]
    results = []
    for order, window in zip(orders, windows, strict=True):
        result = np.full((n_rows + 3 if derivatives else 1, len(order.wavelength)), np.nan)
        results.append(result)
        if window is None:
            continue
        good, pixels = window
        first, part = next(found for found in reversed(rows) if found[0] <= pixels.start)
        sigma = order.sigma if np.ndim(order.resolving_power) == 0 else order.sigma[good]
        result[:, good] = observe_rows(
            wavelength[pixels],
            part[:, pixels.start - first : pixels.stop - first],
            order.edges[good.start : good.stop + 1] / doppler_shift(1.0, rv),
            vsini=vsini / SPEED_OF_LIGHT,
            limb_darkening=limb_darkening,
            sigma=sigma,
            derivatives=derivatives,
        )
    ends = np.cumsum([0, *map(len, cuts)])
    results = [np.concatenate(results[a:b], axis=1) if b - a > 1 else results[a] for a, b in pairwise(ends)]
    fluxes = [result[0] for result in results]
    if not derivatives:
        return fluxes
    unit = np.ones(n_rows + 2)
    unit[-3:] = 1 / (SPEED_OF_LIGHT + rv), 1 / SPEED_OF_LIGHT, 1.0
    return fluxes, [result[1:].T * unit for result in results]


def to_model(generator, observation, rv=0.0):
    """Find the generator's pixel nearest to each pixel of a spectrograph.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    observation : Observation
        Pixels.
    rv : float, default=0.0
        Radial velocity of the star in km/s.

    Returns
    -------
    pixels : list of ndarray of shape (n_pixels,), int
        For each order.
    """
    wavelength = np.asarray(generator.wavelength_)
    middle = (wavelength[1:] + wavelength[:-1]) / 2
    return [np.searchsorted(middle, order.wavelength / doppler_shift(1.0, rv)) for order in observation.orders]


def refraction(wavelength):
    """Refractive index of standard air, less one.

    Parameters
    ----------
    wavelength : ndarray
        Vacuum wavelengths in angstrom.

    Returns
    -------
    excess : ndarray
        By how much vacuum wavelengths are the longer, relatively.
    """
    return wavelength / vacuum_to_air(wavelength) - 1


def _check_order(i, wavelength, edges, resolving_power, air):
    """One order as arrays of float64."""
    try:
        wavelength = check_wavelength(wavelength)
        if len(wavelength) < 2 and edges is None:
            raise ValueError("`wavelength` has one pixel, whose width is not known. Pass its `edges`.")
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
            f"Order {i}: `edges` has {len(edges)} values for {len(wavelength)} pixels; it needs one more than there "
            "are pixels, with each pixel's center between its two edges."
        )
    if resolving_power is not None:
        power = np.asarray(resolving_power, dtype=np.float64)
        if power.shape not in ((), wavelength.shape) or not (power > 1).all() or not np.isfinite(power).all():
            values = np.array2string(power, threshold=4)
            raise ValueError(
                f"Order {i}: `resolving_power` has shape {power.shape} and values {values}; "
                f"it needs a finite number over 1, or one for each of the {len(wavelength)} pixels. None stands for a "
                "spectrograph as sharp as the model."
            )
        resolving_power = power if power.ndim else float(power)
    return Order(wavelength, edges, resolving_power)


def _check_star(rv, vsini, limb_darkening):
    """Velocities and limb darkening as floats within their ranges."""
    ranges = (("rv", rv, -3e4, 3e4), ("vsini", vsini, 0.0, 3e3), ("limb_darkening", limb_darkening, 0.0, 1.0))
    for name, value, low, high in ranges:
        if np.ndim(value) or not low <= value <= high:
            unit = "" if name == "limb_darkening" else " km/s"
            raise ValueError(f"`{name}` is {value}; it needs one number from {low:g} to {high:g}{unit}.")
    return float(rv), float(vsini), float(limb_darkening)


def _cut(n_pixels):
    """Pixels of an order, as slices of which none is long."""
    ends = np.linspace(0, n_pixels, -(-n_pixels // _LONGEST) + 1).astype(int)
    return [slice(*pair) for pair in pairwise(ends.tolist())]


def _window(wavelength, order, rv, vsini):
    """Pixels of an order that the band can tell, and the model's pixels that light them, as slices; or None."""
    sigma = np.broadcast_to(0.0 if order.resolving_power is None else order.sigma, order.wavelength.shape)
    reach = np.exp(light_reach(vsini / SPEED_OF_LIGHT, sigma))
    rest = order.edges / doppler_shift(1.0, rv)
    good = np.flatnonzero((rest[:-1] / reach >= wavelength[1]) & (rest[1:] * reach <= wavelength[-2]))
    if not len(good):
        return None
    good = slice(good[0], good[-1] + 1)
    first, last = np.searchsorted(
        wavelength, [rest[good.start] / reach[good].max(), rest[good.stop] * reach[good].max()]
    )
    start, stop = (first - _MARGIN) // _GRAIN * _GRAIN, -(-(last + _MARGIN) // _GRAIN) * _GRAIN
    return good, slice(max(start, 0), min(stop, len(wavelength)))


def _check_overlap(wavelength, orders, windows, rv):
    if wavelength[0] <= 0 or len(wavelength) < 2 * _MARGIN:
        raise ValueError(
            f"The generator has {len(wavelength)} pixels, the first at {wavelength[0]:g}; to be observed it needs "
            f"wavelengths in angstrom, and {2 * _MARGIN} pixels at least. Fit it with `wavelength`."
        )
    if any(windows):
        return
    low, high = min(order.edges[0] for order in orders), max(order.edges[-1] for order in orders)
    band = doppler_shift(wavelength[[0, -1]], rv)
    raise WavelengthCoverageError(
        f"The pixels lie from {low:.2f} to {high:.2f} angstrom, and the generator knows {band[0]:.2f} to {band[1]:.2f} "
        "(as shifted by `rv`), of which rotation and line spread take some at both ends: no pixel is left. Check that "
        "the wavelengths are in vacuum angstrom, or build a generator for this range."
    )


def _generate_windows(generator, X, windows, n_rows):
    """Flux and, with n_rows > 1, its derivatives on the pixels that windows need: (first pixel, rows) of runs."""
    runs = []
    for start, stop in sorted((window[1].start, window[1].stop) for window in windows if window is not None):
        if runs and start <= runs[-1][1]:
            runs[-1][1] = max(stop, runs[-1][1])
        else:
            runs.append([start, stop])
    return [(start, generator.render_rows(X[0], slice(start, stop), tangents=n_rows > 1)) for start, stop in runs]
