r"""Veiling: light without lines that fills the lines of a star in, such as of hot gas that falls on a young star."""

import numpy as np

from stellarhml.forward.stages import Parameter, Stage

VEILING = Parameter(
    "veiling",
    bounds=(0.0, 10.0),
    start=0.1,
    scale=1.0,
    physical_floor=True,
    description="featureless light over the star's continuum",
)
SLOPE = Parameter(
    "veiling_slope",
    "",
    (-5.0, 5.0),
    "change of ln veiling over 1000 angstrom",
    start=0.0,
    scale=1.0,
)


class Veiling(Stage):
    r"""Add featureless light: :math:`F \to (F + r) / (1 + r)`, with r in units of the star's continuum.

    r is `veiling`, or if it is sloped :math:`r = v\,e^{s (\lambda - \lambda_0) / 1000\,\mathrm{A}}` with `veiling` v at
    the reference wavelength and `veiling_slope` s.

    Parameters
    ----------
    sloped : bool, default=False
        Whether the veiling changes with wavelength.
    reference : float, default=None
        Wavelength of `veiling`, in vacuum angstrom; needed if it is sloped.

    Raises
    ------
    ValueError
        If a sloped veiling has no reference wavelength.

    Notes
    -----
    Veiling weakens all lines alike, as do a lower [Fe/H] and, in part, another log g: they are correlated, and the
    errors show it. A prior or a fixed value of log g or [Fe/H] helps.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.forward.stages import Rows
    >>> from stellarhml.forward.veiling import Veiling
    >>> Veiling().apply(Rows(np.array([8500.0]), np.array([0.4])), {"veiling": 0.5}).flux
    array([0.6])
    """

    parameters = (VEILING,)

    def __init__(self, *, sloped=False, reference=None):
        if sloped and (reference is None or not 0 < reference < np.inf):
            raise ValueError(
                f"`reference` is {reference}; a sloped veiling needs the wavelength, in angstrom, at which `veiling` "
                "holds, such as the middle of the spectrum."
            )
        self.sloped, self.reference = bool(sloped), reference
        if sloped:
            self.parameters = (VEILING, SLOPE)

    def apply(self, rows, values):
        """Add the light, see `Stage.apply`."""
        own, color, distance = {}, 1.0, 0.0
        if self.sloped:
            distance = (rows.wavelength - self.reference) / 1000
            color = np.exp(values["veiling_slope"] * distance)
        light = values["veiling"] * color
        by_light = (1 - rows.flux) / (1 + light) ** 2
        own["veiling"] = by_light * color
        if self.sloped:
            own["veiling_slope"] = by_light * light * distance
        return rows.through((rows.flux + light) / (1 + light), 1 / (1 + light), **own)
