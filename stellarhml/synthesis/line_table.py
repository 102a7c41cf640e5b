"""Lines at given labels as a table that people read."""

import numpy as np
import pandas as pd

from stellarhml.kernels.rendering import line_depths, line_equivalent_widths


def make_line_table(line, theta, *, parameters, profile):
    """Tabulate lines.

    Parameters
    ----------
    line : ndarray of shape (n_lines,)
        Wavelength by which each line is known, in angstrom.
    theta : ndarray of shape (n_lines, n_parameters)
        Their parameters.
    parameters : tuple of str
        Names of the parameters.
    profile : str
        Name of the profile.

    Returns
    -------
    table : DataFrame
        One row per line, indexed by `line` [angstrom]: the parameters, `depth` (of the line alone, at its center,
        in units of the continuum), `equivalent_width` [angstrom].
    """
    table = pd.DataFrame(theta, columns=list(parameters), index=pd.Index(line, name="line"))
    table["depth"] = line_depths(theta, profile)
    table["equivalent_width"] = line_equivalent_widths(theta, profile)
    return table


def archive_lines(states, wavelength):
    """Identify the lines of blase states by the pixel on which blase found them.

    Parameters
    ----------
    states : list of dict of ndarray
        State dictionaries as `stellarhml.io.blase.read_state_dict` returns them.
    wavelength : ndarray of shape (n_pixels,)
        Wavelengths in angstrom.

    Returns
    -------
    catalog : ndarray of shape (n_lines,), int64
        Pixels of all lines, increasing.
    rows : list of (lines, theta)
        Catalogue indices and parameters (center, log_amplitude, log_sigma, log_gamma) of the lines of each state.
    n_dropped : int
        Lines left out: parameters that are not finite, or the second of two lines on one pixel.
    """
    pixels, thetas, n_dropped = [], [], 0
    for state in states:
        keys = ("lam_centers", "amplitudes", "sigma_widths", "gamma_widths")
        theta = np.stack([state[key] for key in keys], axis=1)
        found = state.get("pre_line_centers", state["lam_centers"])
        right = np.clip(np.searchsorted(wavelength, found), 1, len(wavelength) - 1)
        pixel = right - (found - wavelength[right - 1] < wavelength[right] - found)
        finite = np.isfinite(theta).all(axis=1)
        unique, first = np.unique(pixel[finite], return_index=True)
        n_dropped += len(theta) - len(unique)
        pixels.append(unique)
        thetas.append(theta[finite][first])
    catalog = np.unique(np.concatenate(pixels))
    return catalog, [(np.searchsorted(catalog, p), t) for p, t in zip(pixels, thetas, strict=True)], n_dropped
