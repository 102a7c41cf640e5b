"""A generator from gully/blase's archive of state dictionaries."""

import warnings

import numpy as np

from stellarhml._validation import check_label_names, check_wavelength
from stellarhml.exceptions import LineDetectionWarning
from stellarhml.lines._voigt_line_decomposer import VoigtLineDecomposer
from stellarhml.lines.decomposition import rows_to_csr
from stellarhml.synthesis.decomposed_grid import FittedParts, fit_interpolator
from stellarhml.synthesis.evaluation import LineModel
from stellarhml.synthesis.grid_faults import warn_of_equal_states


def parts_of_archive(folder, wavelength, wing_cut, interpolator):
    """FittedParts of a generator with lines only; arguments as in `SpectrumGenerator.from_blase_archive`."""
    # the one place where an estimator reads files: the archive *is* the training set
    from stellarhml.grids.blase_states import list_states, read_state_dict

    labels, paths = list_states(folder)
    wavelength = check_wavelength(wavelength)
    states = [read_state_dict(path) for path in paths]
    warn_of_equal_states(labels, states)
    catalog, rows, n_dropped = archive_lines(states, wavelength)
    if n_dropped:
        warnings.warn(
            f"{n_dropped} lines of the archive were left out: their parameters are not finite, or an earlier line "
            "of the same spectrum has the same pixel.",
            LineDetectionWarning,
            stacklevel=3,
        )
    decomposer = VoigtLineDecomposer.from_catalog(
        wavelength, catalog, profile="blase", solver="adam", wing_cut=wing_cut, match_tolerance=0
    )
    names = check_label_names(None, labels.shape[1])
    theta = rows_to_csr(rows, len(catalog), len(decomposer.line_parameters))
    interpolator = fit_interpolator(interpolator, labels, theta, decomposer.line_parameters, names)
    lines = LineModel(interpolator, decomposer.wavelength_, profile=decomposer.profile, wing_cut=wing_cut)
    return FittedParts(names, None, decomposer, interpolator, lines)


def archive_lines(states, wavelength):
    """Identify the lines of blase states by the pixel on which blase found them.

    `states` as from `read_state_dict`, `wavelength` (n_pixels,) [angstrom]. Returns the pixels of all lines (n_lines,)
    int64, increasing; for each state the catalogue indices and parameters (center, log_amplitude, log_sigma, log_gamma)
    of its lines; and the number of lines left out: parameters that are not finite, or the second of two lines on one
    pixel.
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
