"""A generator whose lines are shifted: other strengths, velocities and widths than those of its grid."""

import copy

import numpy as np

from stellarhml.physics.wavelength import SPEED_OF_LIGHT
from stellarhml.synthesis.evaluation import LineModel
from stellarhml.synthesis.line_changes import wing_parameter


def shift_lines(generator, shifts):
    """Build a generator from a fitted one, with lines that are shifted by the same amount at all labels.

    Residuals of the line model, species, the preprocessor and the error model stay: the error is that of interpolation
    between the nodes, which the shifts do not change.

    Parameters
    ----------
    generator : SpectrumGenerator
        A fitted generator; it is not changed.
    shifts : dict of str to ndarray of shape (n_lines,)
        Shifts of the lines of the catalogue by kind, any of `stellarhml.kernels.line_columns.KINDS`: ln "strength",
        "velocity" [km/s], ln "width" of the core, ln strength of the "wing" (ln of its width where a profile has no
        strength of its own for it).

    Returns
    -------
    shifted : SpectrumGenerator
        The new generator.
    """
    table = generator.interpolator_.table_
    column = {"velocity": 0, "strength": 1, "width": 2, "wing": wing_parameter(generator.decomposer_.line_parameters)}
    change = np.zeros_like(table.origin)
    for kind, shift in shifts.items():
        change[:, column[kind]] = shift
    change[:, 0] *= table.origin[:, 0] / SPEED_OF_LIGHT
    shifted = copy.copy(generator)
    shifted.interpolator_ = generator.interpolator_.with_table(table.shifted(change))
    lines = generator.lines_
    # the range in which a line has an effect is measured anew
    shifted.lines_ = LineModel(shifted.interpolator_, lines.wavelength, profile=lines.profile, wing_cut=lines.wing_cut)
    if generator.error_map_ is not None:
        shifted.error_map_ = generator.error_map_.with_interpolator(shifted.interpolator_)
    return shifted
