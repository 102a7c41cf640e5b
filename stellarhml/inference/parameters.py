"""Parameters: what is fitted to a spectrum, with bounds and priors, and the variables in which the fit moves."""

import numpy as np

from stellarhml._units import plain_number
from stellarhml.inference._inference_result import UNITS

RV_BOUNDS = (-500.0, 500.0)  # km/s
VSINI_BOUNDS = (0.0, 300.0)  # km/s
_VELOCITY_UNIT = 10.0  # km/s, the unit of velocities in a fit; a label's is the width of its bounds
_SOFT = 3.0  # km/s, see `_bend`
_ALSO = {"logg": ("dex",)}  # units that stand for the same number
SLOWEST = 0.1  # km/s: slower rotation changes no spectrum by more than 1e-5


class Parameters:
    r"""Names, bounds and priors, and the map between them and the variables of a fit.

    Labels and the radial velocity are scaled. Lines widen with the square of a small vsini v, so that its derivative
    is zero at zero; the fit moves in :math:`w = \sqrt{v^2 + v_0^2} - v_0`, in which a spectrum is nearly linear.

    Parameters
    ----------
    names : sequence of str
        Names: those of the labels, and "rv" and "vsini" in km/s if these are fitted.
    bounds : ndarray of shape (n, 2)
        Lowest and highest values. A parameter whose bounds agree is fixed.
    priors : dict, default=None
        Mean and standard deviation of a normal prior by name. Others are flat between their bounds.
    """

    def __init__(self, names, bounds, priors=None):
        self.names, self.bounds = tuple(names), np.asarray(bounds, dtype=np.float64)
        self.free = self.bounds[:, 1] > self.bounds[:, 0]
        self._unit = np.where(self.free, np.ptp(self.bounds, axis=1), 1.0)
        velocity = np.array([name in ("rv", "vsini") for name in self.names])
        self._unit[velocity] = _VELOCITY_UNIT
        self._origin = np.where(velocity, 0.0, self.bounds[:, 0])
        self._bent = np.array([name == "vsini" for name in self.names])
        priors = {name: prior for name, prior in plain_values(priors, "priors").items() if name in self.names}
        chosen = [k for k, name in enumerate(self.names) if name in priors and self.free[k]]
        self.prior_index = np.array(chosen, dtype=np.int64)
        self.prior = np.array([priors[self.names[k]] for k in chosen], dtype=np.float64).reshape(-1, 2)
        # by how much errors of the likelihood were raised: priors count as much more against it
        self.prior_scale = np.ones(len(chosen))

    @property
    def limits(self):
        """Bounds of the variables, shape (n_free, 2)."""
        return np.stack([self.variables(self.bounds[:, side]) for side in (0, 1)], axis=1)

    def variables(self, values):
        """Variables of the free parameters, shape (n_free,), from all values of shape (n,)."""
        values = np.asarray(values, dtype=np.float64)
        bent = np.where(self._bent, _bend(values), values - self._origin)
        return (bent / self._unit)[self.free]

    def values(self, variables):
        """All values, shape (n,), from the variables of the free ones, shape (n_free,)."""
        values = self.bounds[:, 0].copy()
        moved = np.asarray(variables) * self._unit[self.free]
        bent = self._bent[self.free]
        moved = np.where(bent, _unbend(np.maximum(moved, 0.0)), moved + self._origin[self.free])
        values[self.free] = np.clip(moved, self.bounds[self.free, 0], self.bounds[self.free, 1])
        return values

    def slopes(self, values):
        """Derivatives of the free values by their variables, shape (n_free,)."""
        v = np.maximum(values, SLOWEST)
        return np.where(self._bent, np.sqrt(v**2 + _SOFT**2) / v, 1.0)[self.free] * self._unit[self.free]

    def prior_residuals(self, values):
        """Distances from the means of the priors in standard deviations, times `prior_scale`, shape (n_priors,)."""
        return (values[self.prior_index] - self.prior[:, 0]) / self.prior[:, 1] * self.prior_scale

    def prior_jacobian(self):
        """Derivatives of `prior_residuals` by the free values, shape (n_priors, n_free)."""
        jacobian = np.zeros((len(self.prior_index), len(self.names)))
        jacobian[np.arange(len(self.prior_index)), self.prior_index] = self.prior_scale / self.prior[:, 1]
        return jacobian[:, self.free]


def plain_values(given, what):
    """Take the units off values by name.

    Parameters
    ----------
    given : dict or None
        A number, or a sequence of numbers, by name. Those with a unit are converted to that of the parameter.
    what : str
        Name of the argument, for messages.

    Returns
    -------
    plain : dict
        The same without units.

    Raises
    ------
    ValueError
        If a unit is another.
    """
    plain = {}
    for name, value in (given or {}).items():
        units = [UNITS[name], *_ALSO.get(name, ())] if name in UNITS else []
        where = f"`{what}` of {name!r}"
        if isinstance(value, (tuple, list)):
            plain[name] = type(value)(plain_number(part, units, where) for part in value)
        elif getattr(value, "unit", None) is not None and np.ndim(value):
            plain[name] = tuple(plain_number(part, units, where) for part in value)
        else:
            plain[name] = plain_number(value, units, where)
    return plain


def check_ranges(ranges, names, limits, *, what="bounds"):
    """Narrow limits by ranges that a user gives by name.

    Parameters
    ----------
    ranges : dict or None
        Lowest and highest value by name.
    names : sequence of str
        Names.
    limits : ndarray of shape (n, 2)
        What is possible.
    what : str, default="bounds"
        Name of the parameter, for messages.

    Returns
    -------
    limits : ndarray of shape (n, 2)
        The narrower ones.

    Raises
    ------
    ValueError
        If a name is not known, or a range does not increase or leaves the limits.
    """
    limits = limits.copy()
    for name, (low, high) in plain_values(ranges, what).items():
        if name not in names:
            raise ValueError(f"`{what}` names {name!r}, but the labels are {tuple(names)}.")
        k = names.index(name)
        if not limits[k, 0] <= low < high <= limits[k, 1]:
            within = "the grid's " if name not in ("rv", "vsini") else ""
            raise ValueError(
                f"`{what}` of {name!r} are ({low}, {high}); they must increase and lie within {within}"
                f"{limits[k, 0]:g} to {limits[k, 1]:g}."
            )
        limits[k] = low, high
    return limits


def check_priors(priors, names):
    """Raise if priors are not pairs of a finite mean and a positive standard deviation by known names.

    Parameters
    ----------
    priors : dict or None
        Mean and standard deviation by name.
    names : sequence of str
        Names.

    Raises
    ------
    ValueError
        If a name is not known, or a prior is no such pair.
    """
    for name, prior in plain_values(priors, "priors").items():
        if name not in names:
            raise ValueError(f"`priors` names {name!r}, but the parameters are {tuple(names)}.")
        if np.shape(prior) != (2,) or not np.isfinite(prior).all() or prior[1] <= 0:
            raise ValueError(
                f"`priors` of {name!r} is {prior!r}; it needs a finite mean and a positive standard deviation."
            )


def _bend(v):
    return np.sqrt(v**2 + _SOFT**2) - _SOFT


def _unbend(w):
    return np.sqrt((w + _SOFT) ** 2 - _SOFT**2)
