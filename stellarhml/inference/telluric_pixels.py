"""TelluricPixels: which pixels the atmosphere absorbs in, and how well its lines fit there."""

import numpy as np
from scipy.optimize import brentq

from stellarhml.flags import InferenceFlag
from stellarhml.forward.tellurics import AMOUNT, AirChain, Tellurics
from stellarhml.physics.broadening import FWHM_PER_SIGMA

_IN_SEARCH, _AMOUNT_IN_SEARCH = 0.1, 2.0  # optical depth, at this amount, of pixels that a search leaves out
_LEFT = 0.3  # share of the pixels that a search needs
_RUN, _RUNS_OF_SPECIES = 1024, 3  # pixels of a run, and number of runs, from which amounts are estimated
_ABSORBED, _CLEAR = 0.03, 0.005  # optical depths of pixels with telluric lines, and of those without
_FEW = 30  # pixels
_CLIP = 5.0  # standard deviations: larger residuals count as these
_WORSE = 1.3  # chi-square in telluric lines over that elsewhere
_MOST = 1.0  # largest relative error of optical depths
_KNOWN, _SURE = 0.05, 5.0  # error of an amount that the spectrum tells, and standard deviations of one that is not 0


class TelluricPixels:
    """The atmosphere (`stage`, a Tellurics) in the pixels of an Observation.

    Attributes
    ----------
    names : tuple of str
        Names of the parameters.
    error : float
        Relative error of the optical depths, such that telluric lines fit no worse than the rest.
    excess : float
        Mean squared residual in telluric lines over that elsewhere, without this error.
    n_pixels : int
        Number of pixels with telluric lines that were compared.
    """

    def __init__(self, stage, observation):
        self._chain = AirChain(stage, observation)
        self._species, self._sizes = stage.species, [len(order.wavelength) for order in observation.orders]
        self._together = [_pixels_of_a_line(order) for order in observation.orders]
        self.names = tuple(parameter.name for parameter in stage.parameters)
        self._start = {parameter.name: parameter.start for parameter in stage.parameters}
        self.error, self.excess, self.n_pixels = 0.0, 1.0, 0

    @classmethod
    def of(cls, stages, observation):
        """TelluricPixels of the Tellurics among stages, or None if there is none."""
        found = next((stage for stage in stages if isinstance(stage, Tellurics)), None)
        return None if found is None else cls(found, observation)

    def depths(self, values):
        """Optical depth of each order, -ln of the transmission convolved with the line spread: arrays (n_pixels,)."""
        return [-np.log(np.clip(np.nan_to_num(flux, nan=1.0), 1e-4, None)) for flux in self._chain.flux(values)]

    def left_out(self, errors):
        """Pixels that a search for the star leaves out, a bool array (n_pixels,) for each order.

        `errors` (n_pixels,) of each order are infinite where pixels are not used.
        """
        values = self._start | {AMOUNT + name: _AMOUNT_IN_SEARCH for name in self._species}
        masks = [depth > _IN_SEARCH for depth in self.depths(values)]
        good = [np.isfinite(error) for error in errors]
        left = sum(int((part & ~mask).sum()) for part, mask in zip(good, masks, strict=True))
        if left < _LEFT * sum(int(part.sum()) for part in good):
            return [np.zeros(len(mask), dtype=bool) for mask in masks]
        return masks

    def runs(self, errors):
        """Runs of pixels, (index of the order, slice), in which each species absorbs most."""
        chosen = set()
        for name in self._species:
            alone = self._start | {AMOUNT + other: float(other == name) for other in self._species}
            runs = []
            for i, (depth, error) in enumerate(zip(self.depths(alone), errors, strict=True)):
                lost = np.where(np.isfinite(error), -np.expm1(-depth), 0.0) ** 2
                for first in range(0, self._sizes[i], _RUN):
                    last = min(first + _RUN, self._sizes[i])
                    runs.append((float(lost[first:last].sum()), i, first, last))
            chosen |= {run[1:] for run in sorted(runs)[-_RUNS_OF_SPECIES:] if run[0] > 0}
        return [(i, slice(first, last)) for i, first, last in sorted(chosen)]

    def compare(self, orders, values):
        """Find the relative error of the optical depths; returns the orders (OrderFit) with it in `model_error`.

        A wrong line is wrong in all of its pixels together, so that their errors there are larger by the square root of
        their number: what many lines tell then has the error that it would have with correlated ones.
        """
        depths = self.depths(values)
        inside, outside = [], []
        for order, depth in zip(orders, depths, strict=True):
            good = np.isfinite(order.error) & np.isfinite(order.model)
            variance = order.error**2 + order.model_error**2
            for mask, parts in ((good & (depth > _ABSORBED), inside), (good & (depth < _CLEAR), outside)):
                with np.errstate(invalid="ignore"):
                    parts.append(np.stack([order.residual**2, variance, (order.model * depth) ** 2])[:, mask])
        inside, outside = (np.concatenate(parts, axis=1) for parts in (inside, outside))
        self.n_pixels = inside.shape[1]
        if self.n_pixels < _FEW:
            return orders
        usual = max(_mean_square(outside, 0.0), 1.0) if outside.shape[1] >= _FEW else 1.0
        self.excess = _mean_square(inside, 0.0) / usual
        self.error = 0.0
        if self.excess > 1:
            found = _mean_square(inside, _MOST) < usual
            self.error = brentq(lambda x: _mean_square(inside, x) - usual, 0.0, _MOST, xtol=1e-5) if found else _MOST
        own = [np.nan_to_num(order.model * depth) for order, depth in zip(orders, depths, strict=True)]
        return [
            order._replace(model_error=np.hypot(order.model_error, self.error * np.sqrt(n) * part))
            for order, part, n in zip(orders, own, self._together, strict=True)
        ]

    def transmission_errors(self, values):
        """Standard deviation of the transmission of each order, (n_pixels,), by the error of the optical depths."""
        pairs = zip(self.depths(values), self._together, strict=True)
        return [self.error * np.sqrt(n) * depth * np.exp(-depth) for depth, n in pairs]

    def flags(self, values, errors):
        """Flag of an atmosphere whose lines fit worse than those of the star, or are not there, with a message.

        `values` and `errors`, standard deviations, of the fitted parameters by name.
        """
        amounts = [AMOUNT + name for name in self._species]
        seen = [(values[name], errors[name]) for name in amounts if 0 < errors.get(name, 0.0) < _KNOWN]
        if seen and all(value < _SURE * error for value, error in seen):
            yield (
                InferenceFlag.TELLURICS,
                "no telluric lines where the table has them: see whether it is in air or vacuum, and whether the "
                "spectrum is in the frame of the barycenter",
            )
        if self.excess > _WORSE + 3 * np.sqrt(2 / max(self.n_pixels, 1)):
            yield (
                InferenceFlag.TELLURICS,
                f"telluric lines fit worse than the rest, chi-square times {self.excess:.3g}: optical depths are taken "
                f"as uncertain by {100 * self.error:.2g} %",
            )


def _pixels_of_a_line(order):
    """Number of pixels of a DetectorOrder in the full width of a narrow line, 1 at least."""
    if order.resolving_power is None:
        return 1.0
    return max(FWHM_PER_SIGMA * float(np.median(order.sigma / np.diff(np.log(order.edges)))), 1.0)


def _mean_square(parts, error):
    """Mean square of residuals in standard deviations, clipped, with a relative error of the optical depths."""
    squared, variance, size = parts
    return float(np.mean(np.minimum(squared / (variance + error**2 * size), _CLIP**2)))
