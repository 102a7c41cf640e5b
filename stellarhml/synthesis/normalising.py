"""Normalised spectra of a grid, on disk where they would fill the memory."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_IN_MEMORY = 1 << 29
"""Bytes of normalised spectra up to which they are held in memory."""


@contextmanager
def normalised_rows(preprocessor, flux, teff):
    """Normalise the spectra of a grid, spectrum by spectrum.

    Parameters
    ----------
    preprocessor : PhoenixPreprocessor or None
        Fitted. None: they are normalised already.
    flux : ndarray of shape (n_spectra, n_pixels)
        Raw fluxes; may be a memory map.
    teff : ndarray of shape (n_spectra,) or None
        Effective temperatures in K.

    Yields
    ------
    flux : ndarray of shape (n_spectra, n_pixels_out)
        Normalised fluxes; a memory map of a temporary file where they are large.
    """
    if preprocessor is None:
        yield flux
        return
    if flux.nbytes <= _IN_MEMORY:
        yield preprocessor.transform(flux, teff=teff)
        return
    with tempfile.TemporaryDirectory(prefix="stellarhml-") as folder:
        path = Path(folder) / "normalised.npy"
        shape = (len(flux), len(preprocessor.wavelength_out_))
        table = np.lib.format.open_memmap(path, mode="w+", dtype=flux.dtype, shape=shape)
        step = max(int(_IN_MEMORY // 8 // max(flux[:1].nbytes, 1)), 1)
        for first in range(0, len(flux), step):
            rows = slice(first, first + step)
            table[rows] = preprocessor.transform(flux[rows], teff=None if teff is None else teff[rows])
        yield table
        del table  # an open map would keep the file from being removed on some systems
