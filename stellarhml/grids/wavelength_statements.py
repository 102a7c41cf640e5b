"""Wavelengths of a grid's files to vacuum angstrom: unit and medium are stated, by the file or by the caller."""

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.orders import to_vacuum
from stellarhml.spectra.statements import check_medium, stated_medium
from stellarhml.spectra.wavelength_axes import angstroms_in, require_plausible


def in_vacuum_angstrom(values, name, where, *, unit, stated_unit, medium, headers=(), statements=()):
    """Wavelengths in vacuum angstrom, in the order of the file.

    Parameters
    ----------
    values : ndarray of shape (n_pixels,)
        Wavelengths in the file.
    name : str or path-like
        The file, for messages.
    where : str
        The part of it that has the wavelengths, for messages.
    unit : str or None
        Unit that the caller states: angstrom, nm, um or m.
    stated_unit : str or None
        Unit that the file states.
    medium : str or None
        "vacuum" or "air" that the caller states.
    headers : sequence of dict
        Keywords of the file, in upper case, that may state the medium.
    statements : sequence of Statement
        Further statements of the file.

    Returns
    -------
    wavelength : ndarray of shape (n_pixels,), dtype float64
        Vacuum wavelengths in angstrom.

    Raises
    ------
    SpectrumFileError
        If nobody states unit or medium, or file and caller contradict each other.
    """
    size = chosen_unit(unit, stated_unit, name, where)
    grid = np.asarray(values, dtype=np.float64) * size
    require_plausible(grid, str(name), where)
    return to_vacuum(grid, chosen_medium(medium, name, headers, statements), name)


def chosen_unit(unit, stated_unit, name, where):
    """Size of the unit of wavelengths in angstrom, stated by the file or the caller."""
    if unit is None and not stated_unit:
        raise SpectrumFileError(
            f"{name} does not state the unit of its wavelengths ({where}), and it is not guessed. State `unit` "
            "(--unit): angstrom, nm, um or m."
        )
    sizes = [angstroms_in(text, name, source) for text, source in ((unit, "`unit`"), (stated_unit, where)) if text]
    if len(set(sizes)) > 1:
        raise SpectrumFileError(
            f"`unit` is {unit!r}, but {name} states {stated_unit!r} for its wavelengths ({where}). Leave `unit` "
            "(--unit) out, or correct the file."
        )
    return sizes[0]


def chosen_medium(medium, name, headers=(), statements=()):
    """Medium of wavelengths, stated by the file or the caller."""
    try:
        return check_medium(medium, [*statements, *stated_medium(headers)])
    except ValueError as error:
        raise SpectrumFileError(f"{name}: {error}") from error
