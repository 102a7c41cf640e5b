r"""Tellurics: absorption by the Earth's atmosphere whose amounts are fitted together with the star.

The atmosphere is given as the transmission :math:`T_s` of each species at the resolution of its lines. Optical depth is
proportional to the column, so that with amounts :math:`a_s` in units of the given ones

.. math:: T(x) = \exp\Big(-\sum_s a_s\, \tau_s(x - \ln(1 + v / c))\Big), \quad \tau_s = -\ln T_s, \quad x = \ln \lambda,

where v is the velocity of the air in the frame of the spectrum.
"""

import numpy as np
from scipy.interpolate import CubicSpline

from stellarhml._units import plain_array
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.stages import Parameter, Rows, Stage
from stellarhml.forward.transmission import checked_table
from stellarhml.kernels.fourier_broadening import broaden_rows, light_reach, resample_rows
from stellarhml.physics.wavelength import SPEED_OF_LIGHT

AMOUNT = "a_"
"""Beginning of the names of amounts."""
AMOUNTS = 0.0, 20.0
"""Lowest and highest amount, in units of the table."""

_VARIABLE = ("H2O", "air")  # species whose column changes with the weather, or is not known
_WIDE, _NARROW = 3.0, 0.7  # standard deviations of the priors of amounts: of the weather, and of airmass
_WIND = 0.3  # km/s: winds, and errors of the wavelengths of observatories and line lists
_FLOOR = 1e-6  # smallest transmission: beyond, the optical depth is unknown
_GAP = 10.0  # median steps: the transmission is unknown in wider gaps
_REACH = 4.0  # sigmas of the extra width
_NARROWEST = 1.0 / 30  # km/s: see `Parameter.slope`
_EDGE = 20  # points of the table beyond wavelengths that are not evenly spaced
_ENDS = 40  # points that a featureless spectrum needs beyond its pixels


class Tellurics(Stage):
    r"""Multiply by the transmission of the atmosphere, with the amount of each species as a parameter.

    The parameters are `a_NAME` for each species, the amount in units of that of the table; `rv_air`, the velocity of
    the air in km/s beyond `velocity`; and `width_air` if `width`, the sigma in km/s of a Gaussian by which the lines of
    the air are wider than in the table.

    Parameters
    ----------
    wavelength : array-like of shape (n,)
        Vacuum wavelengths in angstrom, strictly increasing, in the frame of the observatory. They must resolve the
        lines: a table at the resolution of the spectrograph is already convolved.
    transmissions : dict of str to array-like of shape (n,), or array-like of shape (n,)
        Transmission of each species at these wavelengths, 1 where the air is clear, NaN where it is unknown. An array
        is that of one species called "air".
    velocity : float, default=0.0
        Velocity of the observatory in km/s, by which the wavelengths of the spectrum were shifted: the barycentric
        correction for a spectrum in the frame of the barycenter, 0 in that of the telescope.
    width : bool, default=False
        Whether lines may be wider than in the table.

    Attributes
    ----------
    species : tuple of str
        Names of the species.
    velocity : float
        As given.

    Raises
    ------
    ValueError
        If the arrays do not match, have too few finite values or wavelengths that do not increase.

    See Also
    --------
    stellarhml.forward.transmission.Transmission : A fixed transmission, without parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.forward.tellurics import Tellurics
    >>> wavelength = np.linspace(8500, 8510, 1001)
    >>> stage = Tellurics(wavelength, {"H2O": 1 - 0.5 * np.exp(-((wavelength - 8505) ** 2) / 0.01)})
    >>> [parameter.name for parameter in stage.parameters]
    ['a_H2O', 'rv_air']
    >>> stage.transmission(np.array([8505.0]), {"a_H2O": 2.0, "rv_air": 0.0}).round(3)
    array([0.25])
    """

    local = True

    before_line_spread = True

    def __init__(self, wavelength, transmissions, *, velocity=0.0, width=False):
        columns = dict(transmissions) if isinstance(transmissions, dict) else {"air": transmissions}
        if not columns:
            raise ValueError("`transmissions` is empty; it needs the transmission of one species at least.")
        if not all(isinstance(name, str) for name in columns):
            raise ValueError(f"`transmissions` has the species {list(columns)}; it needs their names, such as 'H2O'.")
        wavelength = plain_array(wavelength, "angstrom", "The wavelength of the transmissions", spectral=True)
        columns = {name: plain_array(column, "", f"The transmission of {name}") for name, column in columns.items()}
        for name, column in columns.items():
            if column.size and not np.isfinite(column).any():
                raise ValueError(f"The transmission of {name} has no finite value. Leave out this species.")
        same = [column for column in columns.values() if column.shape == wavelength.shape]
        known = np.all(np.isfinite(same), axis=0) if len(same) == len(columns) else slice(None)
        tables = [
            checked_table(wavelength[known], column[known], f"The transmission of {name}")
            for name, column in columns.items()
        ]
        self._wavelength = tables[0][0]
        depths = -np.log(np.clip([table[1] for table in tables], _FLOOR, None))
        x = np.log(self._wavelength)
        steps = np.diff(x)
        self.step = float(np.median(steps))
        self._gap = steps > _GAP * self.step
        self._depths = CubicSpline(x, depths, axis=1)
        self._slopes = self._depths.derivative()
        self.species, self.velocity, self._width = tuple(columns), float(velocity), bool(width)
        self.parameters = (*map(_amount, self.species), RV_AIR, *((WIDTH_AIR,) if width else ()))

    def moved(self, velocity):
        """The same atmosphere for spectra whose wavelengths were shifted by another velocity.

        Parameters
        ----------
        velocity : float
            Velocity in km/s, see the parameter of the class.

        Returns
        -------
        stage : Tellurics
            The stage, which shares its tables with this one.
        """
        stage = object.__new__(Tellurics)
        stage.__dict__ = self.__dict__ | {"velocity": float(velocity)}
        return stage

    def margin(self, values):
        """Distance in km/s from which absorption is spread, see `Stage.margin`."""
        return _REACH * max(values[WIDTH_AIR.name], _NARROWEST) if self._width else 0.0

    def covers(self, wavelength):
        """Whether the table reaches given wavelengths, see `Stage.covers`."""
        at = np.asarray(wavelength) / (1 + self.velocity / SPEED_OF_LIGHT)
        place = np.searchsorted(self._wavelength, at)
        inside = (at >= self._wavelength[0]) & (at <= self._wavelength[-1])
        return inside & ~self._gap[np.clip(place - 1, 0, len(self._gap) - 1)]

    def transmission(self, wavelength, values):
        """Transmission at given wavelengths, before the line spread.

        Parameters
        ----------
        wavelength : ndarray of shape (n,)
            Vacuum wavelengths in angstrom, in the frame of the spectrum, increasing.
        values : dict of str to float
            Values of its parameters.

        Returns
        -------
        transmission : ndarray of shape (n,)
            1 outside the table.
        """
        return self.apply(Rows(wavelength, np.ones(len(wavelength))), values).flux

    def apply(self, rows, values):
        """Multiply by the transmission, see `Stage.apply`; it is 1 outside the table."""
        amounts = np.array([values[AMOUNT + name] for name in self.species])
        wind = values[RV_AIR.name]
        if not (np.isfinite(amounts).all() and np.isfinite(wind)):
            raise ValueError(f"The amounts of the atmosphere are {amounts}, its velocity {wind}; they must be finite.")
        tangents = bool(rows.tangents)
        x = np.log(rows.wavelength) - np.log1p(self.velocity / SPEED_OF_LIGHT) - np.log1p(wind / SPEED_OF_LIGHT)
        own, by_width = {}, None
        if self._width:
            depths, by_width = self._widened(x, values[WIDTH_AIR.name], amounts, tangents)
        else:
            depths = self._depths_at(x, amounts, tangents)
        transmission = np.exp(-amounts @ depths[: len(self.species)])
        flux = rows.flux * transmission
        if tangents:
            own = {AMOUNT + name: -flux * depth for name, depth in zip(self.species, depths, strict=False)}
            own[RV_AIR.name] = flux * depths[-1] / (SPEED_OF_LIGHT + wind)
            if self._width:
                own[WIDTH_AIR.name] = -flux * by_width
        return rows.through(flux, transmission, **own)

    def _depths_at(self, x, amounts, tangents):
        """Optical depth of each species at ln wavelengths `x`; then, with tangents, the slope of their sum."""
        inside = slice(np.searchsorted(x, self._depths.x[0]), np.searchsorted(x, self._depths.x[-1], side="right"))
        depths = np.zeros((len(self.species) + tangents, len(x)))
        depths[: len(self.species), inside] = self._depths(x[inside])
        if tangents:
            depths[-1, inside] = amounts @ self._slopes(x[inside])
        return depths

    def _widened(self, x, width, amounts, tangents):
        """As `_depths_at`, convolved; and the derivative of the sum with respect to the width in km/s."""
        step = (x[-1] - x[0]) / (len(x) - 1)
        if np.abs(np.diff(x) - step).max(initial=0.0) > 1e-3 * step:  # as between the pixels of a generator
            even = np.arange(x[0] - _EDGE * self.step, x[-1] + _EDGE * self.step, 0.5 * self.step)
            depths, by_width = self._widened(even, width, amounts, tangents)
            *depths, by_width = resample_rows(even, np.vstack([depths, by_width]), x)
            return np.array(depths), by_width
        depths = self._depths_at(x, amounts, tangents)
        sigma, least = width / SPEED_OF_LIGHT, max(width, _NARROWEST) / SPEED_OF_LIGHT
        total = (amounts @ depths[: len(amounts)])[None]
        if width:
            depths = broaden_rows(depths, step, lambda k: np.exp(-0.5 * (k * sigma) ** 2))
        by_width = broaden_rows(total, step, lambda k: -(k**2) * least * np.exp(-0.5 * (k * least) ** 2))
        return depths, by_width[0] / SPEED_OF_LIGHT


RV_AIR = Parameter("rv_air", "km/s", (-5.0, 5.0), "velocity of the air", start=0.0, scale=1.0, prior=(0.0, _WIND))
WIDTH_AIR = Parameter(
    "width_air",
    "km/s",
    (0.0, 10.0),
    "Gaussian sigma by which telluric lines are wider than in the table",
    start=0.3,  # not zero, where its derivative vanishes
    scale=1.0,
    softening=30 * _NARROWEST,
    physical_floor=True,
)


def _amount(name):
    """Parameter of the amount of a species."""
    prior = 1.0, _WIDE if name in _VARIABLE else _NARROW
    described = f"amount of {name} in the atmosphere, in units of its table"
    return Parameter(AMOUNT + name, "", AMOUNTS, described, start=1.0, scale=1.0, prior=prior, physical_floor=True)


class AirChain:
    """The forward model of featureless light through the atmosphere alone, as `ForwardChain` for a star.

    `stage` is a Tellurics, `observation` an Observation; `parameters` are those of the stage. The flux is the
    transmission convolved with the line-spread function.
    """

    def __init__(self, stage, observation):
        self._chain = ForwardChain(_Featureless(stage, observation), observation, stages=[stage])
        self._stage, self._observation, self.parameters = stage, observation, stage.parameters

    def part(self, runs):
        """Restrict the model to some runs of pixels, as `ForwardChain.part`."""
        return AirChain(self._stage, self._observation.part(runs))

    def flux(self, values):
        """Evaluate the model, as `ForwardChain.flux`."""
        return self._chain.flux(values | _STILL)

    def evaluate(self, values):
        """Evaluate the model and its derivatives, as `ForwardChain.evaluate`."""
        return self._chain.evaluate(values | _STILL)


_STILL = {"rv": 0.0, "vsini": 0.0}


class _Featureless:
    """A generator of light without lines, on all wavelengths that an observation needs."""

    label_names_ = ()
    interpolator_ = type("Nothing", (), {"bounds_": np.empty((0, 2))})

    def __init__(self, stage, observation):
        first = min(order.edges[0] for order in observation.orders)
        last = max(order.edges[-1] for order in observation.orders)
        sigma = max(0.0 if order.resolving_power is None else np.max(order.sigma) for order in observation.orders)
        reach = 2 * light_reach(2 * _REACH * WIDTH_AIR.bounds[1] / SPEED_OF_LIGHT, sigma) + _ENDS * stage.step
        n = int(np.ceil((np.log(last / first) + 2 * reach) / stage.step)) + 1
        self.wavelength_ = np.exp(np.linspace(np.log(first) - reach, np.log(last) + reach, n))

    def render_rows(self, labels, pixels, *, tangents, change=None):
        return np.ones((1, pixels.stop - pixels.start))
