"""Atmosphere: the transmission of the Earth's atmosphere, species by species, at the resolution of its lines."""

from typing import NamedTuple

import numpy as np


class Atmosphere(NamedTuple):
    """Transmission of the atmosphere by species.

    Attributes
    ----------
    wavelength : ndarray of shape (n,)
        Vacuum wavelengths in angstrom, strictly increasing, in the frame of the observatory.
    transmissions : dict of str to ndarray of shape (n,)
        Transmission of each species, such as "H2O", at these wavelengths; 1 where the air is clear, NaN where it is
        unknown. One spectrum of all species together is called "air".
    """

    wavelength: np.ndarray
    transmissions: dict

    @property
    def species(self):
        """Names of the species."""
        return tuple(self.transmissions)

    def total(self, amounts=None):
        """Transmission of all species together.

        Parameters
        ----------
        amounts : dict of str to float, default=None
            Amounts by species, in units of those of the table. A species that is not named has the amount 1.

        Returns
        -------
        transmission : ndarray of shape (n,)
            Product of the transmissions, each to the power of its amount.
        """
        total = np.ones(len(self.wavelength))
        for name, column in self.transmissions.items():
            total = total * np.maximum(column, 0.0) ** (amounts or {}).get(name, 1.0)
        return total
