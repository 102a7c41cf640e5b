"""Fitting with an installed gully/blase, after a check that it is this package.

gully/blase is not on PyPI; the package `blase` on PyPI is an unrelated tool for blazars.
"""

from importlib.util import find_spec

import numpy as np

from stellarhml.exceptions import BlaseNotInstalledError


def require_blase():
    """Raise BlaseNotInstalledError if no package `blase` is installed, or one without `blase.emulator`."""
    cure = (
        "backend='blase' needs the code of the repository gully/blase on GitHub: install it from there, or use the "
        "default backend='native', which computes the same model with profile='blase'."
    )
    if find_spec("blase") is None:
        raise BlaseNotInstalledError(f"No package `blase` is installed. {cure} Do not install `blase` from PyPI.")
    if find_spec("blase.emulator") is None:
        raise BlaseNotInstalledError(
            "The package `blase` that is installed has no module `blase.emulator`: it is not gully/blase but most "
            f"likely the unrelated tool for blazars that has this name on PyPI. Uninstall it. {cure}"
        )


def fit_with_blase(settings, flux):
    """Fit one spectrum `flux` (n_pixels,), float64, by `blase.emulator.SparseLinearEmulator`.

    blase leaves out lines within 30 angstrom, and pixels within 60 angstrom, of either end. Returns the pixels
    (n_lines,), int64, on which it found the lines, and their center [angstrom] and logarithms of amplitude, sigma and
    gamma, (n_lines, 4), float64.
    """
    from blase.emulator import SparseLinearEmulator

    wavelength = settings.wavelength
    wing_cut = min(settings.wing_cut or wavelength.size - 1, wavelength.size - 1)
    emulator = SparseLinearEmulator(
        wavelength, flux, prominence=settings.prominence, device="cpu", wing_cut_pixels=wing_cut
    )
    found = emulator.lam_centers.detach().cpu().numpy().copy()
    emulator.optimize(epochs=settings.max_iter, LR=settings.learning_rate)
    state = {key: value.detach().cpu().numpy() for key, value in emulator.state_dict().items()}
    keys = ("lam_centers", "amplitudes", "sigma_widths", "gamma_widths")
    theta = np.stack([state[key] for key in keys], axis=1).astype(np.float64)
    return np.searchsorted(wavelength, found).astype(np.int64), theta
