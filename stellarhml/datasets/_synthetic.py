r"""A small computed grid: saturated Voigt lines whose strengths vary smoothly with the labels.

.. math:: F(\lambda) = \prod_j 1 - D_j \left(1 - e^{-\tau_j V_j(\lambda) / V_j(\lambda_j)}\right)

with ln tau a smooth function of 5040 K / Teff, log g and [Fe/H], and V the Voigt profile.
"""

import numpy as np
from scipy.special import voigt_profile
from sklearn.utils import Bunch, check_random_state

from stellarhml._validation import LABELS

_FIRST_WAVELENGTH = 8500.0  # angstrom, vacuum
_STEP = 0.05  # angstrom
_MIN_DISTANCE = 8.0  # pixels between two line centres, and between a line and either end


def make_stellar_grid(
    *,
    n_teff=4,
    n_logg=3,
    n_feh=2,
    n_pixels=400,
    n_lines=8,
    noise=0.0,
    random_state=None,
    return_X_y=False,
):
    """Compute a small grid of normalised spectra with known lines.

    Parameters
    ----------
    n_teff : int, default=4
        Number of Teff values: 5000 K and up in steps of 250 K.
    n_logg : int, default=3
        Number of log g values: 3.5 and up in steps of 0.5 dex.
    n_feh : int, default=2
        Number of [Fe/H] values: -0.5 and up in steps of 0.5 dex.
    n_pixels : int, default=400
        Number of pixels: 8500 angstrom and up in steps of 0.05.
    n_lines : int, default=8
        Number of lines. Their centres are at least 8 pixels apart and as far from the ends.
    noise : float, default=0.0
        Standard deviation of Gaussian noise to add, in units of the continuum.
    random_state : int, RandomState instance or None, default=None
        Seed of the lines and the noise.
    return_X_y : bool, default=False
        Whether to return `(flux, labels)` in place of the Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        flux : ndarray of shape (n_spectra, n_pixels)
            Normalised: the continuum is 1, and without noise every value is in [0, 1].
        labels : ndarray of shape (n_spectra, 3)
            teff [K], logg [dex(cm/s2)], feh [dex]; every node, sorted in this order.
        wavelength : ndarray of shape (n_pixels,)
            Angstrom.
        label_names : tuple of str
            ("teff", "logg", "feh").
        line_centers : ndarray of shape (n_lines,)
            Wavelengths of the lines in angstrom, sorted, the same in all spectra.
        DESCR : str
            Description of the spectra.

    Raises
    ------
    ValueError
        If a number is below 1, the noise is negative, or the lines do not fit into the pixels.

    Examples
    --------
    >>> from stellarhml.datasets import make_stellar_grid
    >>> grid = make_stellar_grid(n_pixels=200, n_lines=3, random_state=0)
    >>> grid.flux.shape, grid.labels[0].tolist()
    ((24, 200), [5000.0, 3.5, -0.5])
    """
    counts = {"n_teff": n_teff, "n_logg": n_logg, "n_feh": n_feh, "n_pixels": n_pixels, "n_lines": n_lines}
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` is {count}, but it must be at least 1.")
    if not noise >= 0:
        raise ValueError(f"`noise` is {noise}, but a standard deviation must be zero or positive.")
    rng = check_random_state(random_state)
    wavelength = _FIRST_WAVELENGTH + _STEP * np.arange(n_pixels)
    axes = (5000.0 + 250.0 * np.arange(n_teff), 3.5 + 0.5 * np.arange(n_logg), -0.5 + 0.5 * np.arange(n_feh))
    labels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)

    centers = _draw_centers(rng, n_lines, n_pixels)
    lines = _draw_lines(rng, centers, labels)
    flux = np.ones((len(labels), n_pixels))
    for center, depth, log_tau, sigma, gamma in zip(centers, *lines, strict=True):
        profile = voigt_profile(wavelength - center, sigma[:, None], gamma[:, None])
        profile /= voigt_profile(0.0, sigma, gamma)[:, None]
        flux *= 1 + depth * np.expm1(-np.exp(log_tau)[:, None] * profile)
    if noise:
        flux += rng.normal(scale=noise, size=flux.shape)
    if return_X_y:
        return flux, labels
    return Bunch(
        flux=flux,
        labels=labels,
        wavelength=wavelength,
        label_names=LABELS,
        line_centers=centers,
        DESCR=_DESCR.format(n_spectra=len(labels), n_lines=n_lines, noise=noise),
    )


def _draw_centers(rng, n_lines, n_pixels):
    """Line centres in angstrom, at least `_MIN_DISTANCE` apart, not on pixel centres."""
    slack = (n_pixels - 1) - _MIN_DISTANCE * (n_lines + 1)
    if slack < 0:
        need = int(np.ceil(_MIN_DISTANCE * (n_lines + 1))) + 1
        raise ValueError(
            f"`n_lines` is {n_lines}, but so many lines {_MIN_DISTANCE:g} pixels apart need at least {need} pixels, "
            f"and `n_pixels` is {n_pixels}. Lower n_lines or increase n_pixels."
        )
    pixel = np.sort(rng.uniform(0, slack, n_lines)) + _MIN_DISTANCE * np.arange(1, n_lines + 1)
    return _FIRST_WAVELENGTH + _STEP * pixel


def _draw_lines(rng, centers, labels):
    """Limiting depth (n_lines,), and ln tau, sigma and gamma [angstrom], each (n_lines, n_spectra)."""
    n_lines = len(centers)
    # Offsets from the Sun, each of order one over the grid; the Boltzmann factor depends on 5040 K / Teff.
    heat, gravity, metals = (5040.0 / labels[:, 0] - 5040.0 / 5777.0) / 0.1, labels[:, 1] - 4.44, labels[:, 2]
    column = rng.uniform
    log_tau = (
        column(-1.5, 2.0, n_lines)[:, None]
        + column(-0.3, 0.6, n_lines)[:, None] * heat
        + column(-0.1, 0.1, n_lines)[:, None] * heat**2
        + column(-0.2, 0.2, n_lines)[:, None] * gravity
        + column(1.0, 2.0, n_lines)[:, None] * metals
    )
    depth = column(0.5, 0.9, n_lines)
    thermal = 0.5 * np.log(labels[:, 0] / 5777.0)
    sigma = np.exp(np.log(column(0.06, 0.09, n_lines))[:, None] + thermal)
    gamma = np.exp(np.log(column(0.01, 0.03, n_lines))[:, None] + 0.3 * gravity)
    return depth, log_tau, sigma, gamma


_DESCR = """A computed grid of stellar-like spectra

{n_spectra} normalised spectra with {n_lines} saturated Voigt lines each and Gaussian noise of {noise} of the continuum.
The logarithm of every line's optical depth is smooth in 5040 K / Teff, log g and [Fe/H]; no real element is meant.
For tests and examples.
"""
