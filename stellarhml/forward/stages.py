"""Stage: one effect in the forward model, its parameters, and the spectrum with derivatives (rows) that it changes.

Parameters are identified by name. A stage stands between rotation and line spread, where spectra are finely sampled in
the frame of the observer. It declares its parameters and maps rows to rows.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

LABEL_UNITS = {"teff": "K", "logg": "dex(cm/s2)", "feh": "dex"}
"""Units of the usual labels; other labels have none."""

LABEL_DESCRIPTIONS = {
    "teff": "effective temperature",
    "logg": "log10 of the surface gravity in cm/s2, in dex",
    "feh": "metallicity [Fe/H], in dex",
}


@dataclass(frozen=True)
class Parameter:
    r"""A parameter of the forward model.

    The optimiser uses a variable in which spectra are nearly linear. With `softening` :math:`s` it is
    :math:`w = \sqrt{x^2 + s^2} - s`: lines widen with the square of a small vsini, so that the derivative vanishes at
    zero, but linearly with :math:`w`. Without softening the variable is the value itself.

    Parameters
    ----------
    name : str
        Name, unique in a chain; `fixed`, `bounds`, `priors`, results and tables use it.
    unit : str, default=""
        Unit in the notation of astropy.
    bounds : tuple of (float, float), default=(-inf, inf)
        Lowest and highest value.
    description : str, default=""
        One line for tables.
    start : float, default=None
        Starting value of a fit. None: the middle of the bounds.
    scale : float, default=None
        Typical size of a change. None: the width of the bounds.
    softening : float, default=0.0
        The :math:`s` above, in `unit`.
    prior : tuple of (float, float), default=None
        Mean and standard deviation of a normal prior. None: flat between the bounds.
    physical_floor : bool, default=False
        Whether the lower bound is a physical limit (no rotation), so that a value at it raises no flag.
    nuisance : bool, default=False
        Whether it is fitted and marginalised, and left out of results.
    alike : str, default=None
        Name of another parameter: the prior is then that of the difference from its value.
    """

    name: str
    unit: str = ""
    bounds: tuple = (-np.inf, np.inf)
    description: str = ""
    start: float | None = None
    scale: float | None = None
    softening: float = 0.0
    prior: tuple | None = None
    physical_floor: bool = False
    nuisance: bool = False
    alike: str | None = None

    def __post_init__(self):
        low, high = self.bounds
        finite = np.isfinite(low) and np.isfinite(high)
        problems = {
            f"bounds {self.bounds}, which decrease": not low <= high,
            f"scale {self.scale}, which is not positive": self.scale is not None and not self.scale > 0,
            f"softening {self.softening}, which is negative": not self.softening >= 0,
            f"prior {self.prior}, whose standard deviation is not positive": self.prior and not self.prior[1] > 0,
            f"start {self.start}, which is not within {self.bounds}": (
                self.start is not None and not low <= self.start <= high
            ),
            "an infinite bound and no start: state a starting value": self.start is None and not finite,
        }
        for problem, there in problems.items():
            if there:
                raise ValueError(f"The parameter {self.name!r} has {problem}.")

    def variable(self, value):
        """Variable of a fit at a value, before scaling."""
        return np.sqrt(value**2 + self.softening**2) - self.softening if self.softening else value

    def value(self, variable):
        """Value at a variable: the inverse of `variable`."""
        if not self.softening:
            return variable
        return np.sqrt((max(variable, 0.0) + self.softening) ** 2 - self.softening**2)

    def slope(self, value):
        """Derivative of the value with respect to the variable; the value is at least a thirtieth of the softening."""
        if not self.softening:
            return 1.0
        value = max(value, self.softening / 30)
        return np.sqrt(value**2 + self.softening**2) / value


def label_parameters(names, bounds):
    """Declare the labels of a generator as parameters; `bounds` (n_labels, 2) are their ranges in the grid."""
    return tuple(
        Parameter(name, LABEL_UNITS.get(name, ""), (float(low), float(high)), LABEL_DESCRIPTIONS.get(name, "label"))
        for name, (low, high) in zip(names, bounds, strict=True)
    )


def numbered_names(names):
    """Names by which orders differ, also those that occur twice, as of two arms."""
    return [f"{name}, {k + 1} of {len(names)}" if names.count(name) > 1 else name for k, name in enumerate(names)]


@dataclass(frozen=True)
class Rows:
    """A spectrum with its derivatives, on one set of wavelengths.

    Attributes
    ----------
    wavelength : ndarray of shape (n,)
        Vacuum wavelengths in angstrom, as observed.
    flux : ndarray of shape (n,)
        Flux in units of the continuum.
    tangents : dict of str to ndarray of shape (n,)
        Derivatives of the flux with respect to each parameter, by name. Empty where derivatives are not needed.
    modes : dict of str to ndarray of shape (n,)
        Modes of the generator's own error, by name: derivatives of the flux with respect to the labels,
        "ln_wavelength" and "line_variance" (of a Gaussian broadening in ln wavelength).
    """

    wavelength: np.ndarray
    flux: np.ndarray
    tangents: dict = field(default_factory=dict)
    modes: dict = field(default_factory=dict)

    def through(self, flux, slope, **own):
        """Change the flux wavelength by wavelength, with the chain rule for its derivatives.

        Parameters
        ----------
        flux : ndarray of shape (n,)
            The changed flux.
        slope : float or ndarray of shape (n,)
            Derivative of the changed flux with respect to the original; multiplies tangents and modes.
        **own : ndarray of shape (n,)
            Derivatives of the changed flux with respect to the parameters of the stage, by name.

        Returns
        -------
        rows : Rows
            The changed rows.
        """
        tangents = {name: slope * row for name, row in self.tangents.items()}
        if tangents:
            tangents |= own
        return Rows(self.wavelength, flux, tangents, {name: slope * row for name, row in self.modes.items()})


class SecondLight(NamedTuple):
    """The light of a second photosphere in a spectrum, for the errors of its generator.

    Its `generator` and `labels` (n_labels,); `places`, the index of its pixel nearest to each pixel of an order
    (n_pixels,); `modes` of each order, as `Rows.modes`, of this light alone.
    """

    generator: object
    labels: np.ndarray
    places: list
    modes: list


class Stage:
    """Base class of stages: changes nothing and has no parameters.

    A subclass overrides `apply`, and, where needed, `parameters`, `step`, `margin` and `covers`.

    Attributes
    ----------
    parameters : tuple of Parameter
        Parameters of the stage.
    step : float
        Largest sampling step that the stage allows, in ln wavelength.
    local : bool
        Whether the stage leaves the star's light at its wavelength although it has a margin, which other light needs.
    before_line_spread : bool
        Whether the result is wrong if spectra are broadened by the line spread first, as where lines of the atmosphere
        multiply those of the star. A generator built for one resolving power refuses such a stage.
    """

    parameters = ()
    step = np.inf
    local = False
    before_line_spread = False

    def margin(self, values):
        """Largest distance in km/s over which the stage moves light.

        Parameters
        ----------
        values : dict of str to float
            Values of all parameters, by name.

        Returns
        -------
        margin : float
            Zero unless the stage broadens.
        """
        return 0.0

    def covers(self, wavelength):
        """Whether the stage is defined at given wavelengths.

        Parameters
        ----------
        wavelength : ndarray of shape (n,)
            Vacuum wavelengths in angstrom, as observed.

        Returns
        -------
        known : ndarray of shape (n,), bool
            False where it is not; a fit masks these pixels.
        """
        return np.ones(len(wavelength), dtype=bool)

    def apply(self, rows, values):
        """Change a spectrum and its derivatives.

        Parameters
        ----------
        rows : Rows
            The spectrum before the stage.
        values : dict of str to float
            Values of all parameters, by name.

        Returns
        -------
        rows : Rows
            The spectrum after the stage, at the same wavelengths.
        """
        return rows
