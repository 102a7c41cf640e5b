"""ParameterSet: which parameters of the forward model are fitted, with bounds and priors, by name."""

import numpy as np

from stellarhml._units import plain_number
from stellarhml.forward.chain import RV, VSINI
from stellarhml.forward.macroturbulence import VMAC
from stellarhml.forward.stages import LABEL_UNITS
from stellarhml.forward.tellurics import RV_AIR, WIDTH_AIR

UNITS = LABEL_UNITS | {velocity.name: velocity.unit for velocity in (RV, VSINI, VMAC)} | {"vmic": "km/s"}
UNITS |= {f"{name}_2": unit for name, unit in UNITS.items()} | {"teff_spot": "K"}
UNITS |= {velocity.name: velocity.unit for velocity in (RV_AIR, WIDTH_AIR)}
"""Units of the labels and velocities, of a second star, of spots and of the air too."""

_ALSO = {"logg": ("dex",), "logg_2": ("dex",)}  # other units in which a value has the same number


class ParameterSet:
    """Parameters of a fit, and the map between their values and the variables of the optimiser.

    `bounds` narrow those of the parameters; `priors`, mean and standard deviation by name, replace their own, also
    those of differences (`Parameter.alike`). Names of absent parameters, and of priors of fixed ones, are ignored.

    Attributes
    ----------
    names, free : tuple of str
        Names of all parameters, and of those that are fitted.
    bounds : dict of str to tuple of (float, float)
        Bounds by name; both ends are equal for a fixed parameter.
    units, descriptions : dict of str to str
        By name.
    prior_names : tuple of str
        Fitted parameters with a prior.
    nuisances : tuple of str
        Fitted parameters that results leave out.
    prior_scale : ndarray of shape (n_priors,)
        Factors of the prior residuals. They match the inflation of the likelihood's errors, so that priors keep their
        weight.
    """

    def __init__(self, parameters, *, bounds=None, fixed=None, priors=None):
        self._parameters = {parameter.name: parameter for parameter in parameters}
        self.names = tuple(self._parameters)
        self.units = {name: parameter.unit for name, parameter in self._parameters.items()}
        self.descriptions = {name: parameter.description for name, parameter in self._parameters.items()}
        own = {name: parameter.bounds for name, parameter in self._parameters.items()}
        self.bounds = own | {name: tuple(map(float, pair)) for name, pair in (bounds or {}).items() if name in own}
        self.bounds |= {name: (float(value), float(value)) for name, value in (fixed or {}).items() if name in own}
        self.free = tuple(name for name, (low, high) in self.bounds.items() if high > low)
        self.nuisances = tuple(name for name in self.free if self._parameters[name].nuisance)
        # origin and unit of each variable: the scale of a velocity, the range of the grid for a label
        self._origin, self._unit = {}, {}
        for name in self.free:
            scale, (low, high) = self._parameters[name].scale, self.bounds[name]
            finite = np.isfinite(high - low)
            self._origin[name] = low if scale is None and finite else 0.0
            self._unit[name] = scale or (high - low if finite else 1.0)
        declared = {name: parameter.prior for name, parameter in self._parameters.items() if parameter.prior}
        given, alike = priors or {}, {name: parameter.alike for name, parameter in self._parameters.items()}
        priors = {name: prior for name, prior in (declared | given).items() if name in self.free}
        self.prior_names = tuple(name for name in self.free if name in priors)
        # parameters to whose values the means of priors are relative, or None
        self._alike = tuple(None if name in given else alike[name] for name in self.prior_names)
        self._prior = np.array([priors[name] for name in self.prior_names], dtype=np.float64).reshape(-1, 2)
        self.prior_scale = np.ones(len(self.prior_names))

    @property
    def limits(self):
        """Bounds of the variables, shape (n_free, 2)."""
        return np.stack([self.variables({n: self.bounds[n][side] for n in self.free}) for side in (0, 1)], axis=1)

    def start(self, values):
        """Starting values of all parameters: the given ones, else those of the parameters, clipped to the bounds."""
        found = {}
        for name, parameter in self._parameters.items():
            low, high = self.bounds[name]
            value = values.get(name, parameter.start)
            found[name] = float(np.clip((low + high) / 2 if value is None else value, low, high))
        return found

    def variables(self, values):
        """Variables of the fitted parameters, shape (n_free,), from values by name."""
        moved = [self._parameters[name].variable(values[name]) - self._origin[name] for name in self.free]
        return np.array([x / self._unit[name] for x, name in zip(moved, self.free, strict=True)], dtype=np.float64)

    def values(self, variables):
        """Values of all parameters by name, from the variables of the fitted ones, shape (n_free,)."""
        found = {name: low for name, (low, _) in self.bounds.items()}
        for variable, name in zip(variables, self.free, strict=True):
            value = self._parameters[name].value(float(variable) * self._unit[name] + self._origin[name])
            low, high = self.bounds[name]
            found[name] = min(max(float(value), low), high)
        return found

    def slopes(self, values):
        """Derivatives of the fitted parameters with respect to their variables, shape (n_free,)."""
        return np.array([self._parameters[name].slope(values[name]) * self._unit[name] for name in self.free])

    def prior_std(self, name):
        """Standard deviation of the prior of a fitted parameter, infinite if it has none."""
        return float(self._prior[self.prior_names.index(name), 1]) if name in self.prior_names else np.inf

    def prior_residuals(self, values):
        """Deviations from the prior means in standard deviations, times `prior_scale`, shape (n_priors,)."""
        pairs = zip(self.prior_names, self._alike, strict=True)
        at = np.array([values[name] - (values[other] if other else 0.0) for name, other in pairs])
        return (at - self._prior[:, 0]) / self._prior[:, 1] * self.prior_scale

    def prior_jacobian(self):
        """Derivatives of `prior_residuals` with respect to the fitted parameters, shape (n_priors, n_free)."""
        jacobian = np.zeros((len(self.prior_names), len(self.free)))
        for row, name in enumerate(self.prior_names):
            jacobian[row, self.free.index(name)] = self.prior_scale[row] / self._prior[row, 1]
            if self._alike[row] in self.free:
                jacobian[row, self.free.index(self._alike[row])] = -self.prior_scale[row] / self._prior[row, 1]
        return jacobian

    def physical_floor(self, name):
        """Whether the lower bound of a parameter is a physical limit."""
        return self._parameters[name].physical_floor and self.bounds[name][0] == self._parameters[name].bounds[0]

    def prior_is_of(self, names):
        """Which prior residuals belong to some parameters, shape (n_priors,), bool."""
        return np.isin(self.prior_names, names) if self.prior_names else np.zeros(0, dtype=bool)

    def shown(self):
        """The parameters that results have."""
        kept = [parameter for parameter in self._parameters.values() if not parameter.nuisance]
        rows = zip(self.prior_names, self._alike, map(tuple, self._prior.tolist()), strict=True)
        priors = {name: prior for name, other, prior in rows if other is None}
        return ParameterSet(kept, bounds=self.bounds, priors=priors)

    def shown_matrix(self, block):
        """As `matrix`, for the parameters that results have."""
        kept = [k for k, name in enumerate(self.names) if name not in self.nuisances]
        return self.matrix(block)[np.ix_(kept, kept)]

    def matrix(self, block):
        """Extend a matrix over fitted parameters, shape (n_free, n_free), to all parameters, zero for fixed ones."""
        whole = np.zeros((len(self.names),) * 2)
        at = [self.names.index(name) for name in self.free]
        whole[np.ix_(at, at)] = block
        return whole


def plain_values(given, argument):
    """Convert values with units, by name, to plain numbers in the units of the parameters.

    A value may be a sequence, and `given` None. ValueError, which names the `argument`, if a unit does not convert.
    """
    plain = {}
    if not isinstance(given, (dict, type(None))):
        raise ValueError(f"`{argument}` is a {type(given).__name__}; it needs a dictionary of values by name.")
    for name, value in (given or {}).items():
        units = [UNITS[name], *_ALSO.get(name, ())] if name in UNITS else []
        where = f"`{argument}` of {name!r}"
        if isinstance(value, (tuple, list)):
            plain[name] = type(value)(plain_number(part, units, where) for part in value)
        elif getattr(value, "unit", None) is not None and np.ndim(value):
            plain[name] = tuple(plain_number(part, units, where) for part in value)
        else:
            plain[name] = plain_number(value, units, where)
    return plain


def check_bounds(given, limits, labels=LABEL_UNITS):
    """Narrow the bounds `limits` to those that a user gives; returns bounds of all names.

    `labels` are the names whose limits are those of the grid. ValueError if a name is unknown, or a range does not
    increase or exceeds the limits.
    """
    bounds = dict(limits)
    for name, pair in plain_values(given, "bounds").items():
        if not _are_numbers(pair, 2):
            raise ValueError(
                f"`bounds` of {name!r} is {pair!r}; it needs a lowest and a highest value, which must increase."
            )
        low, high = pair
        if name not in limits:
            raise ValueError(f"`bounds` names {name!r}, but the parameters are {', '.join(limits)}.")
        least, most = limits[name]
        if not least <= low < high <= most:
            within = "the grid's " if name in labels else ""
            raise ValueError(
                f"`bounds` of {name!r} are ({low}, {high}); they must increase and lie within {within}{least:g} to "
                f"{most:g}."
            )
        bounds[name] = float(low), float(high)
    return bounds


def check_priors(given, names):
    """Check priors that a user gives; returns them without units.

    ValueError if a name is unknown, or a prior is not a pair of a finite mean and a positive standard deviation.
    """
    priors = plain_values(given, "priors")
    for name, prior in priors.items():
        if name not in names:
            raise ValueError(f"`priors` names {name!r}, but the parameters are {', '.join(names)}.")
        if not _are_numbers(prior, 2) or prior[1] <= 0:
            raise ValueError(
                f"`priors` of {name!r} is {prior!r}; it needs a finite mean and a positive standard deviation."
            )
    return priors


def check_fixed(given, bounds):
    """Check values that a user fixes; returns them without units. `bounds` are those of all parameters.

    ValueError if a name is unknown, or a value lies out of bounds.
    """
    fixed = plain_values(given, "fixed")
    for name, value in fixed.items():
        if name not in bounds:
            raise ValueError(f"`fixed` names {name!r}, but the parameters are {', '.join(bounds)}.")
        low, high = bounds[name]
        if not _are_numbers([value], 1):
            raise ValueError(f"`fixed` sets {name!r} to {value!r}; it needs one finite number.")
        if not low <= value <= high:
            raise ValueError(f"`fixed` sets {name!r} to {value}, which is not within {low:g} to {high:g}.")
    return fixed


def _are_numbers(values, n):
    """Whether values are n finite numbers."""
    try:
        return np.shape(values) == (n,) and bool(np.isfinite(np.asarray(values, dtype=np.float64)).all())
    except (TypeError, ValueError):
        return False
