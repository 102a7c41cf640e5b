"""What wavelengths are measured in: stated by the caller or by the format, never guessed."""

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.physics.wavelength import air_to_vacuum


def check_medium(medium, *, by_format=None):
    """The medium of a file.

    Parameters
    ----------
    medium : {"vacuum", "air"} or None
        What the caller says.
    by_format : str, default=None
        Name of a format whose wavelengths are in vacuum always.

    Returns
    -------
    medium : {"vacuum", "air"}
        What is true.

    Raises
    ------
    ValueError
        If nobody says it, or both do and differ.
    """
    if by_format is not None:
        if medium not in (None, "vacuum"):
            raise ValueError(
                f"`medium` is {medium!r}, but wavelengths of the format {by_format} are in vacuum. Leave it out."
            )
        return "vacuum"
    if medium is None:
        raise ValueError(
            "`medium` is None, and nothing else says whether the wavelengths are measured in vacuum or in air. Pass "
            "'vacuum' or 'air', on the command line with --medium."
        )
    if medium not in ("vacuum", "air"):
        raise ValueError(
            f"`medium` is {medium!r}, but it must be 'vacuum' or 'air': what the wavelengths of the file are measured "
            "in."
        )
    return medium


def to_vacuum(wavelength, medium, source):
    """Vacuum wavelengths; those that are not finite or not positive stay as they are.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,)
        Wavelengths in angstrom.
    medium : {"vacuum", "air"}
        What they are measured in.
    source : str or path-like
        Where they are from, the first word of an error.

    Returns
    -------
    wavelength : ndarray of shape (n_pixels,)
        Vacuum wavelengths in angstrom.

    Raises
    ------
    SpectrumFileError
        If there are air wavelengths below 2000 angstrom.
    """
    if medium == "vacuum":
        return wavelength
    vacuum = np.array(wavelength, dtype=np.float64)
    with np.errstate(all="ignore"):
        known = np.isfinite(vacuum) & (vacuum > 0)
    try:
        vacuum[known] = air_to_vacuum(vacuum[known])
    except ValueError as error:
        raise SpectrumFileError(f"{source} cannot be converted from air to vacuum: {error}") from error
    return vacuum
