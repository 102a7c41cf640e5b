"""How the lines of a generator change with labels, with a velocity, and with microturbulence, by kind."""

import numpy as np

from stellarhml.calibration.star_estimates import KINDS
from stellarhml.physics.wavelength import SPEED_OF_LIGHT
from stellarhml.synthesis.line_changes import LineChanges, wing_parameter


def label_directions(generator, labels):
    """Changes of the lines with the labels, and with a velocity [km/s], by kind: (n_labels + 1, n_kinds, n_lines)."""
    weights, _, slopes = generator.interpolator_.locate(labels[None], derivatives=True)
    lines, theta, slopes = generator.lines_.lines(weights, slopes)
    directions = np.zeros((len(labels) + 1, len(KINDS), len(generator.decomposer_.line_catalog_)))
    directions[:-1, :, lines] = _by_kind(generator, theta, slopes)
    directions[-1, KINDS.index("velocity")] = 1.0
    return directions


def change_directions(generator, labels, values, reference):
    """Changes of the lines with microturbulence and damping at `values` by name, (n_values, n_kinds, n_lines).

    `reference` is the microturbulence of the grid [km/s].
    """
    options = {"microturbulence": "vmic" in values, "damping": "damping" in values, "reference": reference}
    changes = LineChanges(generator, **options)
    weights, _ = generator.interpolator_.locate(labels[None])
    lines, theta, _ = generator.lines_.lines(weights)
    changed, slopes = changes.apply(lines, theta, np.zeros((1, *theta.shape)), values)
    directions = np.zeros((len(values), len(KINDS), len(generator.decomposer_.line_catalog_)))
    order = [changes.names.index(name) for name in values]
    directions[:, :, lines] = _by_kind(generator, changed, slopes[1:][order])
    return directions


def _by_kind(generator, theta, slopes):
    """Derivatives (n, n_lines, n_parameters) of line parameters theta (n_lines, n_parameters), by kind."""
    wing = wing_parameter(generator.decomposer_.line_parameters)
    changes = {
        "strength": slopes[:, :, 1],
        "velocity": slopes[:, :, 0] / theta[:, 0] * SPEED_OF_LIGHT,
        "width": slopes[:, :, 2],
        "wing": slopes[:, :, wing],
    }
    return np.stack([changes[kind] for kind in KINDS], axis=1)
