"""Transmission: absorption by the Earth's atmosphere, applied before the line spread of the spectrograph."""

import numpy as np

from stellarhml._units import plain_array
from stellarhml.forward.stages import Stage
from stellarhml.kernels.interpolation import interpolate_cubic

_FEW = 16  # minimum number of points of a table
_NOISE = 0.5  # by which a measured transmission may exceed the range from 0 to 1


class Transmission(Stage):
    """Multiply by the transmission of the atmosphere, in the frame of the observatory.

    The multiplication comes before the line spread: where telluric and stellar lines overlap, the product of two
    spectra that were each convolved differs by up to 0.028 of the continuum at a resolving power of 55,000.

    Parameters
    ----------
    wavelength : array-like of shape (n,)
        Vacuum wavelengths in angstrom, strictly increasing, in the frame of the observatory. They must resolve the
        lines: a table at the resolution of the spectrograph is already convolved.
    transmission : array-like of shape (n,)
        Transmission at these wavelengths, 1 where the air is clear.

    Raises
    ------
    ValueError
        If the arrays do not match, are not finite, or wavelengths do not increase.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.forward.transmission import Transmission
    >>> air = Transmission(np.linspace(8500, 8510, 1001), np.ones(1001))
    >>> air.covers(np.array([8499.0, 8505.0])).tolist()
    [False, True]
    """

    before_line_spread = True

    def __init__(self, wavelength, transmission):
        wavelength, transmission = checked_table(wavelength, transmission)
        self._wavelength, self._transmission = wavelength, transmission
        self.step = float(np.median(np.diff(np.log(wavelength))))

    def covers(self, wavelength):
        """Whether the table reaches given wavelengths, see `Stage.covers`."""
        return (wavelength >= self._wavelength[0]) & (wavelength <= self._wavelength[-1])

    def apply(self, rows, values):
        """Multiply by the transmission, see `Stage.apply`; it is 1 outside the table."""
        inside = self.covers(rows.wavelength)
        transmission = np.ones(len(rows.wavelength))
        transmission[inside] = interpolate_cubic(self._wavelength, self._transmission, rows.wavelength[inside])
        return rows.through(rows.flux * transmission, transmission)


def checked_table(wavelength, transmission, name="`transmission`"):
    """A table of vacuum angstrom and transmissions (n,) as float64; ValueError, with its `name`, if it is none."""
    wavelength = plain_array(wavelength, "angstrom", f"The wavelength of {name}", spectral=True)
    transmission = plain_array(transmission, "", name)
    if wavelength.ndim != 1 or wavelength.shape != transmission.shape or len(wavelength) < _FEW:
        raise ValueError(
            f"{name} has arrays of the shapes {wavelength.shape} and {transmission.shape}; it needs a "
            f"table (wavelength, transmission) of one length, {_FEW} points at least, that resolves the lines of "
            "the atmosphere. Use a transmission on the pixels of the spectrum to mask or divide it: see "
            "stellarhml.spectra.mask_tellurics."
        )
    if not (np.isfinite(wavelength).all() and np.isfinite(transmission).all()):
        raise ValueError(f"{name} has values that are masked or not finite. Leave those points out of the table.")
    if wavelength[0] <= 0 or (np.diff(wavelength) <= 0).any():
        raise ValueError(
            f"{name} has wavelengths that do not increase strictly, in angstrom. Sort the table by wavelength."
        )
    if transmission.min() < -_NOISE or transmission.max() > 1 + _NOISE or not transmission.max() > 0:
        raise ValueError(
            f"{name} has values from {transmission.min():g} to {transmission.max():g}; it needs 1 where "
            "the air is clear and 0 where it is opaque. Divide by the level of clear air."
        )
    return wavelength, transmission
