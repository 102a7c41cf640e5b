"""Corrections: shifts of the lines of a generator, improved by each round of fits of the reference stars."""

import copy

import numpy as np
import pandas as pd

from stellarhml.calibration.combination import combine, prior_precision, without_shifts
from stellarhml.calibration.directions import label_directions
from stellarhml.calibration.missing_lines import find_new_lines
from stellarhml.calibration.shared_errors import common_modes, star_modes, strength_modes
from stellarhml.calibration.star_estimates import KINDS, line_estimates, species_information, species_parameters
from stellarhml.physics.wavelength import SPEED_OF_LIGHT
from stellarhml.synthesis.added_lines import add_lines
from stellarhml.synthesis.calibration_errors import CalibrationErrors
from stellarhml.synthesis.line_changes import ABUNDANCE_PRIOR, LineChanges
from stellarhml.synthesis.line_values import line_values
from stellarhml.synthesis.shifted_lines import shift_lines

_STRENGTH = KINDS.index("strength")
_VELOCITY_REACH = 1.0  # km/s: scatter of the velocity that all lines of a star share
_LIMIT = {"strength": np.log(1000), "velocity": 3.0, "width": 1.0, "wing": 3.0}  # largest correction
_ABSENT = 10.0  # factor of a strength
_NEW = {"strength": 0.3, "velocity": 0.3, "width": 0.1, "wing": 0.3}  # scatter of lines that were added, as first found


class Corrections:
    """Corrections of the lines of a `generator`, and of the zero points of its species; none at the beginning.

    `abundance_scatter` [dex] of [X/Fe] between stars, and of the mean of the reference stars about the Sun;
    `grid_microturbulence` [km/s].

    Attributes
    ----------
    generator : SpectrumGenerator
        The generator with corrected lines.
    """

    def __init__(self, generator, *, abundance_scatter=0.05, grid_microturbulence=1.0):
        self._original = copy.copy(generator)
        self._original.calibration_ = None
        self.generator = self._original
        self._abundance_scatter, self._grid_microturbulence = abundance_scatter, grid_microturbulence
        n_lines = len(generator.decomposer_.line_catalog_)
        self._added = np.zeros(n_lines, dtype=bool)
        self._between = None  # scatter between stars by kind, in the last round
        self._modes = np.zeros((0, len(KINDS), n_lines))  # errors that lines share, without those of the zero points
        self._own = np.zeros((len(KINDS), n_lines))  # of each line, without the zero points
        self._weights = np.zeros((len(KINDS), n_lines))  # of the first round that shows the line
        self._scatter = None  # of the corrections of each kind, in the first round
        self._n_stars = np.zeros(n_lines, dtype=np.int64)  # that show the strength of a line, in any round
        self._labels = None  # means of the stars
        self._species = pd.DataFrame({"name": [], "zero_point": [], "zero_point_std": [], "n_stars": []})
        self._species_covariance = np.zeros((0, 0))  # of the zero points
        self._responses = np.zeros((0, n_lines))  # d ln strength of each line per dex of each zero point

    def improve(self, results, unknown):
        """Learn from fits of stars (InferenceResult) with the corrected generator.

        `unknown` (n_stars, n_labels), bool, is True where a label of a star was fitted.
        """
        names = self.generator.label_names_
        labels = np.array([[result.values[name] for name in names] for result in results])
        # the velocity that all lines share is unknown for every star
        unknown = np.column_stack([unknown, np.ones(len(results), dtype=bool)])
        reach = np.append(np.maximum(np.ptp(self.generator.interpolator_.bounds_, axis=1), 1e-3), _VELOCITY_REACH)
        self._learn_species(results)
        estimates = line_estimates(results, self._own.shape[1])
        directions = np.stack([label_directions(self.generator, row) for row in labels]) * unknown[:, :, None, None]
        combined = combine(estimates, directions, reach, self._least())
        if self._scatter is None:
            per_star = star_modes(estimates, directions, reach, unknown)
            shared = common_modes(self.generator, results, unknown, self._grid_microturbulence)
            self._modes = np.concatenate([per_star, shared])
        self._between = combined.between
        self._own += combined.values
        self._weights = np.where(self._weights > 0, self._weights, combined.weights)
        self._scatter = combined.scatter if self._scatter is None else self._scatter
        self._n_stars = np.maximum(self._n_stars, np.count_nonzero(estimates.precisions[:, _STRENGTH], axis=0))
        self._labels = labels.mean(axis=0)
        # what no star knows stays what it was on the average over the lines
        nowhere = unknown.all(axis=0)
        mean = label_directions(self.generator, self._labels)[nowhere]
        prior = prior_precision(self._scales(), self._own, self._own_variances())
        self._own = without_shifts(self._own, self._weights, prior, mean, reach[nowhere])
        limit = np.array([_LIMIT[kind] for kind in KINDS])[:, None]
        self._own += np.clip(self._total(), -limit, limit) - self._total()
        self.generator = shift_lines(self._original, dict(zip(KINDS, self._total(), strict=True)))

    def add_missing(self, results):
        """Add the lines that fits of stars (InferenceResult) show and the generator lacks."""
        lines = find_new_lines(results)
        wavelength, wavelength_std, size, size_std, n_stars = np.array(lines).reshape(-1, 5).T
        found = add_lines(self._original, wavelength, size, self._labels)
        self._original, places, new, kept = found
        n_lines = len(places) + len(new)

        def moved(table, value=0):
            wider = np.full((*table.shape[:-1], n_lines), value, dtype=table.dtype)
            wider[..., places] = table
            return wider

        self._own, self._weights, self._modes = map(moved, (self._own, self._weights, self._modes))
        self._n_stars, self._added = moved(self._n_stars), moved(self._added, True)
        self._n_stars[new] = n_stars[kept]
        self._weights[_STRENGTH, new] = (size / size_std)[kept] ** 2
        self._weights[KINDS.index("velocity"), new] = (wavelength / wavelength_std / SPEED_OF_LIGHT)[kept] ** 2
        self._responses = species_responses(self._original, self._species["name"].to_dict())
        self.generator = shift_lines(self._original, dict(zip(KINDS, self._total(), strict=True)))

    def finished(self):
        """The generator with corrected lines and its `calibration_`."""
        generator = copy.copy(self.generator)
        elements = np.array([name.startswith("[") for name in self._species["name"]], dtype=float)
        covariance = self._species_covariance + np.diag(elements * self._abundance_scatter**2)
        modes = np.concatenate([self._modes, strength_modes(covariance, self._responses)])
        errors = self._between, self._own_variances(), modes.astype(np.float32)
        generator.calibration_ = CalibrationErrors(*errors, shifts=self._total())
        return generator

    def species(self):
        """Table of the zero points, see `LineCalibrator.species_`."""
        return self._species.drop(columns="name")

    def table(self):
        """Table of the lines, see `LineCalibrator.corrections_`."""
        generator = self._original
        table = pd.DataFrame(index=pd.Index(generator.decomposer_.line_catalog_, name="wavelength"))
        if generator.tags_ is not None:
            tags = generator.tags_.of_lines(np.arange(len(table)))
            table = table.assign(**{name: tags[name] for name in ("species", "excitation", "log_gf")})
        table["equivalent_width"] = line_values(generator, self._labels[None], "equivalent_width")[0]
        table["n_stars"] = self._n_stars
        for kind, shift, variance in zip(KINDS, self._total(), self._variances(), strict=True):
            unit = np.log(10) if kind in ("strength", "wing") else 1.0
            table[kind], table[f"{kind}_std"] = shift / unit, np.sqrt(variance) / unit
        table["absent"] = self._total()[_STRENGTH] < -np.log(_ABSENT)
        table["added"] = self._added
        return table

    def _learn_species(self, results):
        """Zero points: shrunken means over the stars of abundances, and of factors of molecules."""
        known = dict(zip(self._species["name"], self._species.index, strict=True)) | species_parameters(results)
        names = list(known)
        before = self._species.set_index("name").reindex(names)
        zero_points = before["zero_point"].fillna(0.0).to_numpy()
        matrix, right = np.zeros((len(names), len(names))), np.zeros(len(names))
        for information, product in (species_information(result, names) for result in results):
            # abundances of stars scatter
            own = np.linalg.inv(np.eye(len(names)) + self._abundance_scatter**2 * information)
            matrix += own @ information
            right += own @ (product + information @ zero_points)
        # of what no star was fitted with this time, the zero point stays
        lost = ~np.diag(matrix).astype(bool)
        std = np.where(lost, before["zero_point_std"].fillna(ABUNDANCE_PRIOR), ABUNDANCE_PRIOR)
        right += np.where(lost, zero_points, 0.0) / std**2
        self._species_covariance = np.linalg.inv(matrix + np.diag(std**-2.0))
        columns = {
            "name": names,
            "zero_point": self._species_covariance @ right,
            "zero_point_std": np.sqrt(np.diag(self._species_covariance)),
            "n_stars": np.array([sum(name in result.names for result in results) for name in names], dtype=np.int64),
        }
        self._species = pd.DataFrame(columns, index=pd.Index(list(known.values()), name="species", dtype=object))
        self._responses = species_responses(self._original, self._species["name"].to_dict())

    def _total(self):
        """Shifts of the lines by kind, with the zero points, (n_kinds, n_lines)."""
        total = self._own.copy()
        total[_STRENGTH] += self._species["zero_point"].to_numpy() @ self._responses
        return total

    def _own_variances(self):
        """Variances of the corrections of each line, without the zero points, (n_kinds, n_lines)."""
        scales = self._scales()
        variances = scales**2
        for _ in range(20):  # to the fixed point
            variances = 1 / (self._weights + prior_precision(scales, self._own, variances))
        return variances

    def _least(self):
        """Smallest scale of the corrections of each line, (n_kinds, n_lines): lines that were added have one."""
        return np.array([_NEW[kind] for kind in KINDS])[:, None] * self._added

    def _scales(self):
        """Scale of the corrections of each line, (n_kinds, n_lines)."""
        return np.maximum(self._scatter[:, None], self._least())

    def _variances(self):
        """Variances of `_total`."""
        variances = self._own_variances()
        variances[_STRENGTH] += np.einsum("ij,il,jl->l", self._species_covariance, self._responses, self._responses)
        return variances


def species_responses(generator, parameters):
    """Change of ln strength of each line per dex of each zero point, (n_species, n_lines).

    `parameters` are the names of the parameters by element or molecule, such as {"Si": "[Si/Fe]"}.
    """
    molecules = [species for species, name in parameters.items() if not name.startswith("[")]
    elements = [species for species in parameters if species not in molecules]
    changes = LineChanges(generator, elements=elements, molecules=molecules)
    lines = np.arange(len(generator.decomposer_.line_catalog_))
    nothing = np.zeros((len(lines), len(generator.decomposer_.line_parameters)))
    rows = np.zeros((len(parameters), len(lines)))
    for row, name in zip(rows, parameters.values(), strict=True):
        row[:] = changes.apply(lines, nothing, (), dict.fromkeys(changes.names, 0.0) | {name: 1.0})[0][:, 1]
    return rows
