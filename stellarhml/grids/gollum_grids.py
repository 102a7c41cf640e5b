"""Spectra of the package gollum to arrays, and arrays to its spectra.

gollum (https://github.com/BrownDwarf/gollum) holds one PHOENIX spectrum as a `PHOENIXSpectrum` with
`meta["teff"], meta["logg"], meta["Z"]`, and a grid of them as a `PHOENIXGrid`.
"""

import warnings

import numpy as np
from sklearn.utils import Bunch

from stellarhml._grid_faults import check_grid_spectra, check_nodes_given_twice
from stellarhml._validation import LABELS, check_wavelength
from stellarhml.grids.phoenix_files import missing_nodes

_META = ("teff", "logg", "Z")


def from_gollum(spectra) -> Bunch:
    """Turn gollum's spectra, a PHOENIXSpectrum, a PHOENIXGrid or a sequence of the former, into arrays.

    All must have labels, share their wavelengths and be either all absolute or all normalised, no node may have two
    different spectra, and no spectrum a stretch of pixels that are zero, negative or constant, else ValueError.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        flux : ndarray of shape (n_spectra, n_pixels), dtype float64
            erg/s/cm^2/cm, or dimensionless if gollum's spectra are; rows sorted by teff, then logg, then feh.
        labels : ndarray of shape (n_spectra, 3)
            teff [K], logg [dex(cm/s2)], feh [dex].
        wavelength : ndarray of shape (n_pixels,)
            Vacuum wavelengths in angstrom.
        label_names : tuple of str
            ("teff", "logg", "feh").
        missing : ndarray of shape (n_missing, 3)
            Nodes that are missing from the full grid of the label values.
        normalised : bool
            Whether the flux is dimensionless.
        DESCR : str
            Description of the spectra.
    """
    parts = list(_parts(spectra))
    if not parts:
        raise ValueError("`spectra` is empty, but at least one spectrum of gollum is needed.")
    axes, fluxes, labels = zip(*parts, strict=True)
    wavelength = check_wavelength(_in_angstrom(axes[0]))
    for number, axis in enumerate(axes):
        other = _in_angstrom(axis)
        if not np.array_equal(other, wavelength):
            raise ValueError(
                f"Spectrum {number} of `spectra` has {other.size} pixels from {other[0]:g} angstrom, spectrum 0 has "
                f"{wavelength.size} from {wavelength[0]:g}, and the wavelengths must be equal. Read all spectra with "
                "the same wl_lo and wl_hi."
            )
    kinds = {_is_dimensionless(flux) for flux in fluxes}
    if len(kinds) > 1:
        raise ValueError(
            "`spectra` mixes absolute and normalised fluxes, but all must be of one kind. Normalise all of them or "
            "none."
        )
    labels = np.array(labels, dtype=np.float64) + 0.0
    order = np.lexsort(labels.T[::-1])
    flux, labels = np.array([_in_native_unit(fluxes[row]) for row in order]), labels[order]
    check_nodes_given_twice(labels, flux, LABELS)
    check_grid_spectra(flux, wavelength, normalised=False, nodes=(labels, LABELS))
    return Bunch(
        flux=flux,
        labels=labels,
        wavelength=wavelength,
        label_names=LABELS,
        missing=missing_nodes(labels),
        normalised=kinds.pop(),
        DESCR=f"{len(order)} spectra read by gollum. Flux in erg/s/cm^2/cm, or dimensionless if `normalised`.",
    )


def to_gollum(wavelength, flux, labels, *, normalised: bool) -> list:
    """Turn arrays into a list of gollum's PHOENIXSpectrum, one for each row, with teff, logg and Z in `meta`.

    `wavelength` (n_pixels,) [vacuum angstrom], strictly increasing; `flux` (n_spectra, n_pixels), dimensionless if
    `normalised`, else in erg/s/cm^2/cm; `labels` (n_spectra, 3): teff [K], logg [dex(cm/s2)], feh [dex]. ImportError if
    gollum is not installed.
    """
    from astropy import units as u
    from astropy.utils.exceptions import AstropyDeprecationWarning

    PHOENIXSpectrum = _import_gollum()
    flux = np.atleast_2d(np.asarray(flux, dtype=np.float64))
    labels = np.atleast_2d(np.asarray(labels, dtype=np.float64))
    wavelength = check_wavelength(wavelength, n_pixels=flux.shape[1])
    if labels.shape != (len(flux), 3):
        raise ValueError(
            f"`labels` has shape {labels.shape}, but {len(flux)} spectra need ({len(flux)}, 3): teff, logg, feh."
        )
    native = u.erg / u.s / u.cm**2 / u.cm
    unit = u.dimensionless_unscaled if normalised else native
    with warnings.catch_warnings():
        # gollum derives from a class that specutils has deprecated, which no caller can change.
        warnings.simplefilter("ignore", AstropyDeprecationWarning)
        return [
            PHOENIXSpectrum(
                spectral_axis=wavelength * u.AA,
                flux=row * unit,
                meta={
                    # gollum formats teff as an integer; labels between the nodes stay as they are.
                    "teff": int(teff) if teff == int(teff) else float(teff),
                    "logg": float(logg),
                    "Z": float(feh),
                    "native_flux_unit": native,
                },
            )
            for row, (teff, logg, feh) in zip(flux, labels, strict=True)
        ]


def _import_gollum():
    """Class PHOENIXSpectrum, without the warning filters that gollum sets on import."""
    try:
        # gollum silences RuntimeWarning and astropy's warnings for the whole process; the block undoes that.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from gollum.phoenix import PHOENIXSpectrum
    except ImportError as error:
        raise ImportError(
            'to_gollum needs the package gollum. Install it with: pip install "stellarhml[gollum]"'
        ) from error
    return PHOENIXSpectrum


def _parts(spectra):
    """Yield (wavelengths, flux, labels) of each spectrum, the first two as astropy quantities."""
    if hasattr(spectra, "grid_points"):
        yield from zip(spectra.spectral_axis, spectra.flux, spectra.grid_points, strict=True)
        return
    for number, spectrum in enumerate([spectra] if hasattr(spectra, "meta") else spectra):
        labels = [spectrum.meta.get(key) for key in _META]
        if None in labels:
            raise ValueError(
                f"Spectrum {number} of `spectra` has meta {sorted(map(str, spectrum.meta))}, but {', '.join(_META)} "
                "are needed. Set them, as gollum does when it reads a file."
            )
        yield spectrum.spectral_axis, spectrum.flux, labels


def _in_angstrom(axis):
    """Values of a spectral axis in angstrom."""
    from astropy import units as u

    return np.asarray(u.Quantity(axis).to_value(u.AA), dtype=np.float64)


def _is_dimensionless(flux):
    from astropy import units as u

    return flux.unit == u.dimensionless_unscaled


def _in_native_unit(flux):
    """Values in PHOENIX's erg/s/cm^2/cm, or as they are if dimensionless."""
    from astropy import units as u

    values = flux.value if _is_dimensionless(flux) else flux.to_value(u.erg / u.s / u.cm**2 / u.cm)
    return np.asarray(values, dtype=np.float64)
