"""The packaged grid: 66 solar-type spectra around the infrared calcium triplet, and twelve stars to try it on."""

from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from stellarhml._validation import LABELS
from stellarhml.lines.line_lists import LineList

MINI_GRID_FILE = Path(__file__).parent / "data" / "mini_grid.npz"


def load_mini_grid(*, return_X_y=False):
    """Load the packaged grid of 66 solar-type spectra, 8450-8700 angstrom, and twelve spectra between its nodes.

    Six of these have the physics of the grid; six have other line strengths, microturbulence and abundances, as real
    stars have.

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
        flux_other : ndarray of shape (6, 25001), dtype float32
            Spectra of other physics, at random labels inside the grid. For testing only.
        labels_other : ndarray of shape (6, 3)
            Their labels.
        vmic_other : ndarray of shape (6,)
            Their microturbulence in km/s; that of the grid is 1 km/s.
        x_fe_other : dict of str to ndarray of shape (6,)
            Their abundances [X/Fe] in dex by element; those of the grid are 0.
        line_list : LineList
            Transitions of the lines of the grid, for :meth:`stellarhml.SpectrumGenerator.tag_lines`.
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
    >>> grid.flux.shape, grid.flux_offgrid.shape, grid.flux_other.shape
    ((66, 25001), (6, 25001), (6, 25001))
    >>> grid.line_list.species[:3].tolist()
    ['Cr I', 'Y I', 'Ti I']
    """
    wavelength = mini_grid_wavelength()
    with np.load(MINI_GRID_FILE, allow_pickle=False) as data:
        knots = wavelength[data["knot"]]
        stars = {
            which: decode(data["code" + which], data["continuum" + which], knots, wavelength)
            for which in ("", *(() if return_X_y else ("_offgrid", "_other")))
        }
        if return_X_y:
            return stars[""], data["labels"]
        return Bunch(
            **{f"flux{which}": flux for which, flux in stars.items()},
            **{f"labels{which}": data[f"labels{which}"] for which in stars},
            wavelength=wavelength,
            vmic_other=data["vmic_other"],
            x_fe_other=dict(zip(data["elements"].tolist(), data["x_fe_other"].T, strict=True)),
            line_list=LineList(*(data[f"line_{name}"] for name in LineList._fields)),
            label_names=LABELS,
            DESCR=_DESCR,
        )


def mini_grid_wavelength():
    """The 25,001 native PHOENIX pixels from 8450 to 8700 angstrom (vacuum)."""
    return np.round(np.arange(845000, 870001) * 0.01, 2)


def decode(code, continuum, knots, wavelength):
    """Flux from second differences of 16-bit fractions of the continuum, which is stored at knots."""
    # tools/make_mini_grid.py took the differences modulo 2**16; summing twice undoes them exactly.
    for _ in range(2):
        code = np.cumsum(code, axis=1, dtype=np.uint16)
    flux = code.astype(np.float32) / np.float32(65535.0)
    for row, level in zip(flux, continuum, strict=True):
        row *= np.interp(wavelength, knots, level).astype(np.float32)
    return flux


_DESCR = """Mini grid: solar-type synthetic spectra, 8450-8700 angstrom

66 spectra at the nodes Teff 5000-6000 K (step 100), log g 4, 4.5, 5, [Fe/H] -0.5, 0; six at random labels between the
nodes (flux_offgrid, labels_offgrid); and six of other physics (flux_other, labels_other). Absolute flux in
erg/s/cm^2/cm against vacuum wavelength, step 0.01 angstrom, no rotation, no instrument.

How they were computed
    SME (pysme-astro 1.2.0) on ATLAS9 model atmospheres, interpolated cubically in Teff, log g and [M/H]; VALD atomic
    lines and C2, CN, CO, CH, OH and NH lines; microturbulence 1 km/s, LTE, plane-parallel. Stored as 16-bit fractions
    of the continuum: steps of 1.5e-5 of it. tools/make_mini_grid.py of the source tree cuts them from the full band.

Stars of other physics
    The same code, with a line list that is wrong as lists are: log gf off by 0.12 dex (standard deviation; 8 % of the
    lines by 0.4), that of each molecule by 0.1, damping by 0.1 dex, wavelengths by 0.15 km/s, and 3 % of the lines
    missing; the same in all stars. Microturbulence (vmic_other) is 0.9 km/s + 0.4 km/s (Teff - 5000 K) / 1000 K, with a
    scatter of 0.1 km/s, and [X/Fe] (x_fe_other) scatters by 0.05 dex, that of C and N more, with a trend of the alpha
    elements: different in each star. They are those of 24 that lie inside the grid by 100 K, 0.1 and 0.05 dex.

Line list
    The transitions (line_list) that have 1 % or more of the strength of a line of the grid: species, vacuum wavelength,
    excitation and log gf. From the lists of VALD (Ryabchikova et al. 2015, doi:10.1088/0031-8949/90/5/054005), Kurucz
    and linemake, as packages of MIT licence distribute them; cite these sources where you use it. It is no list for
    computing spectra.

Caveats
    No TiO and no H2O: only solar-type stars are realistic. The line list is limited (22,727 lines over 8038-12849
    angstrom). The spectra were computed in chunks of 150 angstrom with a margin of 8, so that the far wings of strong
    lines stop there. This is not PHOENIX: do not mix the two in one grid.

The spectra between the nodes are for testing only: nothing may be fitted to them.
"""
