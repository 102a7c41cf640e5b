"""Parameter, Rows and Stage: what a stage of the forward model depends on, and what passes through it.

A parameter is known by its name everywhere. A stage stands between rotation and line spread, where spectra are sampled
finely in the frame of the observer. It declares its parameters and maps rows to rows.
"""

from dataclasses import dataclass, field

import numpy as np

LABEL_UNITS = {"teff": "K", "logg": "dex(cm/s2)", "feh": "dex"}
"""Units of the labels that have customary names; others have none."""

LABEL_DESCRIPTIONS = {
    "teff": "effective temperature",
    "logg": "log10 of the surface gravity in cm/s2, in dex",
    "feh": "metallicity [Fe/H], in dex",
}


@dataclass(frozen=True)
class Parameter:
    r"""A parameter of the forward model.

    A fit moves in a variable in which spectra are nearly linear. With `softening` :math:`s` it is
    :math:`w = \sqrt{x^2 + s^2} - s`: lines widen with the square of a small vsini, whose derivative vanishes at zero,
    and with :math:`w` in proportion. Without it the variable is the value itself.

    Parameters
    ----------
    name : str
        Name, unique in a chain: `fixed`, `bounds`, `priors`, results and tables use it.
    unit : str, default=""
        Unit, as astropy writes it.
    bounds : tuple of (float, float), default=(-inf, inf)
        Lowest and highest value.
    description : str, default=""
        One line for tables.
    start : float, default=None
        Where a fit begins. None: the middle of the bounds.
    scale : float, default=None
        Typical size of a change. None: the width of the bounds.
    softening : float, default=0.0
        See above, in `unit`.
    prior : tuple of (float, float), default=None
        Mean and standard deviation of a normal prior. None: flat between the bounds.
    physical_floor : bool, default=False
        Whether the lower bound is a limit of nature (no rotation), so that a value there is no warning.
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

    def variable(self, value):
        """Variable of a fit at a value, before scaling."""
        return np.sqrt(value**2 + self.softening**2) - self.softening if self.softening else value

    def value(self, variable):
        """Value at a variable: the inverse of `variable`."""
        if not self.softening:
            return variable
        return np.sqrt((max(variable, 0.0) + self.softening) ** 2 - self.softening**2)

    def slope(self, value):
        """Derivative of the value by the variable, at a value or, nearer to zero, at a thirtieth of the softening."""
        if not self.softening:
            return 1.0
        value = max(value, self.softening / 30)
        return np.sqrt(value**2 + self.softening**2) / value


def label_parameters(names, bounds):
    """Declare the labels of a generator as parameters.

    Parameters
    ----------
    names : sequence of str
        Names of the labels.
    bounds : ndarray of shape (n_labels, 2)
        Lowest and highest value of each in the grid.

    Returns
    -------
    parameters : tuple of Parameter
        One for each label.
    """
    return tuple(
        Parameter(name, LABEL_UNITS.get(name, ""), (float(low), float(high)), LABEL_DESCRIPTIONS.get(name, "label"))
        for name, (low, high) in zip(names, bounds, strict=True)
    )


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
        Derivatives of the flux by each parameter, by its name. Empty where derivatives are not needed.
    modes : dict of str to ndarray of shape (n,)
        Directions in which the generator's own error moves the flux, by name: labels, "ln_wavelength" and
        "line_variance" (of a Gaussian broadening in ln wavelength).
    """

    wavelength: np.ndarray
    flux: np.ndarray
    tangents: dict = field(default_factory=dict)
    modes: dict = field(default_factory=dict)

    def through(self, flux, slope, **own):
        """Pass rows through a change of the flux, wavelength by wavelength.

        Parameters
        ----------
        flux : ndarray of shape (n,)
            The changed flux.
        slope : float or ndarray of shape (n,)
            Its derivative by the flux before: tangents and modes are multiplied by it.
        **own : ndarray of shape (n,)
            Derivatives of the changed flux by the parameters of the stage, by name.

        Returns
        -------
        rows : Rows
            The changed rows.
        """
        tangents = {name: slope * row for name, row in self.tangents.items()}
        if tangents:
            tangents |= own
        return Rows(self.wavelength, flux, tangents, {name: slope * row for name, row in self.modes.items()})


class Stage:
    """Base of all stages: one that changes nothing and has no parameters.

    A stage overrides `apply`, declares `parameters`, and, where it needs to, the other three.

    Attributes
    ----------
    parameters : tuple of Parameter
        What it depends on.
    step : float
        Sampling that it needs, in ln wavelength.
    """

    parameters = ()
    step = np.inf

    def margin(self, values):
        """Distance in km/s from which light reaches a pixel by this stage.

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
        """Whether the stage knows what to do at given wavelengths.

        Parameters
        ----------
        wavelength : ndarray of shape (n,)
            Vacuum wavelengths in angstrom, as observed.

        Returns
        -------
        known : ndarray of shape (n,), bool
            Pixels that are not covered are masked in a fit.
        """
        return np.ones(len(wavelength), dtype=bool)

    def apply(self, rows, values):
        """Change a spectrum and its derivatives.

        Parameters
        ----------
        rows : Rows
            What reaches the stage.
        values : dict of str to float
            Values of all parameters, by name.

        Returns
        -------
        rows : Rows
            What leaves it, at the same wavelengths.
        """
        return rows
