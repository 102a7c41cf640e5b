"""Parameter: one number that a stage of the forward model depends on, known by its name everywhere."""

from dataclasses import dataclass

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
