"""Stage and Rows: what changes the light of a star between the star and the spectrograph, and what passes through.

A stage stands between rotation and line spread, where spectra are sampled finely in the frame of the observer. It
declares its parameters by name and maps rows to rows.
"""

from dataclasses import dataclass, field

import numpy as np


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
