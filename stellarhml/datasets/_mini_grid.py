"""The packaged grid: 66 solar-type spectra around the infrared calcium triplet."""

from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from stellarhml._validation import LABELS

MINI_GRID_FILE = Path(__file__).parent / "data" / "mini_grid.npz"


def load_mini_grid(*, return_X_y=False):
    """Load the packaged grid of 66 solar-type spectra, 8450-8700 angstrom, and six spectra between its nodes.

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return `(flux, labels)` of the nodes in place of the Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        flux : ndarray of shape (66, 25001), dtype float32
            Flux at the nodes in erg/s/cm^2/cm; rows sorted by teff, then logg, then feh.
        labels : ndarray of shape (66, 3)
            teff 5000-6000 K by 100, logg 4, 4.5, 5 dex(cm/s2), feh -0.5, 0 dex: every combination.
        wavelength : ndarray of shape (25001,)
            Vacuum wavelengths in angstrom, step 0.01.
        flux_offgrid : ndarray of shape (6, 25001), dtype float32
            Spectra computed at random labels inside the grid. For testing only.
        labels_offgrid : ndarray of shape (6, 3)
            Their labels.
        label_names : tuple of str
            ("teff", "logg", "feh").
        DESCR : str
            How the spectra were computed, and their caveats.

    See Also
    --------
    make_stellar_grid : A computed grid of any size.
    load_phoenix : The full library from a local folder.

    Examples
    --------
    >>> from stellarhml.datasets import load_mini_grid
    >>> grid = load_mini_grid()
    >>> grid.flux.shape, grid.flux_offgrid.shape
    ((66, 25001), (6, 25001))
    """
    with np.load(MINI_GRID_FILE, allow_pickle=False) as data:
        wavelength = mini_grid_wavelength()
        flux, flux_offgrid = (
            _decode(data["code" + which], data["continuum" + which], wavelength[data["knot"]], wavelength)
            for which in ("", "_offgrid")
        )
        labels, labels_offgrid = data["labels"], data["labels_offgrid"]
    if return_X_y:
        return flux, labels
    return Bunch(
        flux=flux,
        labels=labels,
        wavelength=wavelength,
        flux_offgrid=flux_offgrid,
        labels_offgrid=labels_offgrid,
        label_names=LABELS,
        DESCR=_DESCR,
    )


def mini_grid_wavelength():
    """The 25,001 native PHOENIX pixels from 8450 to 8700 angstrom (vacuum)."""
    return np.round(np.arange(845000, 870001) * 0.01, 2)


def _decode(code, continuum, knots, wavelength):
    """Flux from second differences of 16-bit fractions of the continuum, which is stored at knots."""
    # tools/make_mini_grid.py took the differences modulo 2**16; summing twice undoes them exactly.
    for _ in range(2):
        code = np.cumsum(code, axis=1, dtype=np.uint16)
    flux = code.astype(np.float32) / np.float32(65535.0)
    for row, level in zip(flux, continuum, strict=True):
        row *= np.interp(wavelength, knots, level).astype(np.float32)
    return flux


_DESCR = """Mini grid: solar-type synthetic spectra, 8450-8700 angstrom

66 spectra at the nodes Teff 5000-6000 K (step 100), log g 4, 4.5, 5, [Fe/H] -0.5, 0, and six at random labels between
the nodes (flux_offgrid, labels_offgrid). Absolute flux in erg/s/cm^2/cm against vacuum wavelength, step 0.01 angstrom,
no rotation, no instrument.

How they were computed
    SME (pysme-astro 1.2.0) on ATLAS9 model atmospheres, interpolated cubically in Teff, log g and [M/H]; VALD atomic
    lines and C2, CN, CO, CH, OH and NH lines; microturbulence 1 km/s, LTE, plane-parallel. Stored as 16-bit fractions
    of the continuum: steps of 1.5e-5 of it. tools/make_mini_grid.py of the source tree cuts them from the full band.

Caveats
    No TiO and no H2O: only solar-type stars are realistic. The line list is limited (22,727 lines over 8038-12849
    angstrom). The spectra were computed in chunks of 150 angstrom with a margin of 8, so that the far wings of strong
    lines stop there. This is not PHOENIX: do not mix the two in one grid.

The off-grid spectra are for testing only: nothing may be fitted to them.
"""
