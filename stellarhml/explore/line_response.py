"""One line at given labels: what it is there, and how it changes with each label."""

from typing import NamedTuple

import numpy as np

from stellarhml.synthesis.line_table import slope_of
from stellarhml.synthesis.line_values import QUANTITIES, line_values


class LineResponse(NamedTuple):
    """One line.

    Attributes
    ----------
    name : float
        Wavelength in angstrom by which it is known.
    values : dict of str to float
        Its parameters, then `depth`, `equivalent_width` [angstrom] and `saturation`, as in
        `SpectrumGenerator.line_table`; empty where it is absent.
    slopes : dict of str to dict
        By label: derivatives of `equivalent_width` and of `depth` per unit of the label.
    curves : dict of str to tuple of ndarray of shape (n_points,)
        By label: its values over the grid, and equivalent widths there with the other labels as given.
    """

    name: float
    values: dict
    slopes: dict
    curves: dict

    def along(self, labels):
        """Bring the curves of labels that vary to one scale.

        Parameters
        ----------
        labels : dict of str to float
            Current values by name.

        Returns
        -------
        curves : dict of str to tuple of (ndarray, ndarray, float)
            By label: fractions of its range, from 0 to 1, equivalent widths in mÅ, and the fraction at which the label
            stands.
        """
        varying = {name: curve for name, curve in self.curves.items() if curve[0][-1] > curve[0][0]}
        return {
            name: ((x - x[0]) / np.ptp(x), 1e3 * widths, float((labels[name] - x[0]) / np.ptp(x)))
            for name, (x, widths) in varying.items()
        }


def respond(generator, labels, index, *, n_points=25):
    """Tell how one line responds to the labels.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    labels : array-like of shape (n_labels,)
        Labels; outside the grid its nearest point is taken.
    index : int
        Number of the line in the catalogue.
    n_points : int, default=25
        Points of each curve.

    Returns
    -------
    response : LineResponse
        What was found.
    """
    labels = np.asarray(labels, dtype=np.float64).ravel()
    decomposer, interpolator = generator.decomposer_, generator.interpolator_
    names, bounds = generator.label_names_, interpolator.bounds_
    weights, _, slopes = interpolator.locate(labels[None], derivatives=True)
    lines, theta, change = interpolator.lines_at(weights, slopes, wanted=np.array([index]))
    values, responses = {}, {name: {} for name in names}
    if len(lines):
        values = dict(zip(decomposer.line_parameters, theta[0].tolist(), strict=True))
        values |= {name: float(quantity(theta, decomposer.profile)[0]) for name, quantity in QUANTITIES.items()}
        for name, slope, ends in zip(names, change, bounds, strict=True):
            for what in ("equivalent_width", "depth"):
                responses[name][what] = float(slope_of(QUANTITIES[what], theta, slope, ends, decomposer.profile)[0])
    points = np.tile(labels, (len(names), n_points, 1))
    ranges = [np.linspace(*ends, n_points) for ends in bounds]
    for k, along in enumerate(ranges):
        points[k, :, k] = along
    widths = line_values(generator, points.reshape(-1, len(names)), "equivalent_width", [index])
    curves = dict(zip(names, zip(ranges, widths.reshape(len(names), n_points), strict=True), strict=True))
    return LineResponse(float(decomposer.line_catalog_[index]), values, responses, curves)
