"""What a decomposer knows before it has seen a spectrum, and the identity of what it has learnt."""

import numpy as np

from stellarhml.lines.catalog import velocity_scale
from stellarhml.lines.line_fitting import FIT_VERSION
from stellarhml.storage.result_store import digest

_NO_MATTER = {"wavelength", "n_jobs", "verbose", "sparse_output", "store", "subsample", "n_rounds", "rms_tol"}


def prepare(decomposer, wavelength):
    """Set what follows from the wavelengths and parameters alone.

    Parameters
    ----------
    decomposer : VoigtLineDecomposer
        Gets `wavelength_`, `n_iter_` and what is private.
    wavelength : ndarray of shape (n_pixels,)
        Checked wavelengths, or the pixel index.

    Raises
    ------
    ValueError
        If `loss_margin` leaves no pixel.
    """
    decomposer.wavelength_ = wavelength
    decomposer._scale = velocity_scale(wavelength.size if decomposer.wavelength is None else wavelength)
    first = np.searchsorted(wavelength, wavelength[0] + decomposer.loss_margin)
    last = np.searchsorted(wavelength, wavelength[-1] - decomposer.loss_margin, side="right")
    if last <= first:
        raise ValueError(
            f"`loss_margin`={decomposer.loss_margin} at either end leaves nothing of the spectra, which cover "
            f"{wavelength[0]:.2f} to {wavelength[-1]:.2f} angstrom. Lower it."
        )
    decomposer._loss_pixels = slice(int(first), int(last))
    decomposer._prior, decomposer._typical_rms = None, np.inf
    decomposer.n_iter_ = decomposer.max_iter


def settings_digest(decomposer, task):
    """Hash all that the fit of a spectrum depends on, besides the spectrum.

    Parameters
    ----------
    decomposer : VoigtLineDecomposer
        With its catalogue.
    task : str
        What is done with the spectrum.

    Returns
    -------
    key : str
        Hexadecimal digits.
    """
    parameters = {name: value for name, value in decomposer.get_params(deep=False).items() if name not in _NO_MATTER}
    learnt = [getattr(decomposer, name) for name in ("_catalog", "_prominence", "_width", "_added", "_typical_rms")]
    prior = None if decomposer._prior is None else [decomposer._known, *decomposer._prior]
    pixels = [decomposer._loss_pixels.start, decomposer._loss_pixels.stop]
    return digest(task, FIT_VERSION, parameters, decomposer.wavelength_, decomposer._scale, learnt, prior, pixels)


def as_labels(y, n_spectra):
    """Take labels where there are any.

    Parameters
    ----------
    y : object
        What the caller of `fit` passed.
    n_spectra : int
        Number of spectra.

    Returns
    -------
    labels : ndarray of shape (n_spectra, n_labels) or None
        None if `y` holds no finite numbers, one row a spectrum.
    """
    try:
        labels = np.asarray(y)
        if labels.dtype.kind not in "fiubO":
            return None
        labels = labels.astype(np.float64)
    except (TypeError, ValueError):  # ragged, or objects that are no numbers
        return None
    if not labels.size or not np.isfinite(labels).all():
        return None
    return labels.reshape(n_spectra, -1)
