r"""LineChanges: what the physics of a star changes about the lines of its grid, as parameters of the forward model.

A line model knows which lines belong to which species, so that effects which the grid does not have can be computed
from its lines. With the share :math:`s` of a species in a line and the number :math:`n` of atoms of element X in it,

.. math:: \Delta \ln \tau = \ln 10 \sum_X s\, n\, [\mathrm{X/Fe}].

Microturbulence :math:`\xi` in place of the grid's :math:`\xi_0` widens the core, :math:`b'^2 = b^2 + \xi^2 - \xi_0^2`
with :math:`b = \sqrt 2 \sigma` in km/s, and leaves the strength integrated over the core nearly unchanged,
:math:`\Delta \ln \tau = -(1 - \kappa) \Delta \ln b`. The small :math:`\kappa` depends on the optical depth of the
center: it makes equivalent widths grow as those of SME spectra with different microturbulence do, in which lines
saturate earlier and more gently than a single profile of this form. Damping multiplies the wings. All three stand for
the true derivative of a spectrum: they leave out what an abundance does to the atmosphere and to the continuous
opacity.
"""

import numpy as np

from stellarhml.forward.stages import Parameter
from stellarhml.lines.species import atoms_of
from stellarhml.physics.wavelength import SPEED_OF_LIGHT

ABUNDANCE_PRIOR, ABUNDANCE_LIMIT = 0.1, 1.5  # dex
MICROTURBULENCE_PRIOR = 0.3  # km/s
DAMPING_PRIOR, DAMPING_LIMIT = 0.1, 1.0  # dex
_HIGHEST = 8.0  # km/s
# measured on isolated Fe I lines of SME spectra, 5500 to 6100 K, 6000 to 6320 angstrom, microturbulence 0.7 to 2 km/s
_DEPTH = np.log([0.02, 0.05, 0.15, 0.35, 0.75, 1.5, 3.0, 6.0, 15.0])
_KAPPA = np.array([0.0, 0.035, 0.09, 0.11, 0.075, -0.035, -0.13, -0.12, 0.2])
_KAPPA_SLOPE = np.concatenate([[0.0], np.diff(_KAPPA) / np.diff(_DEPTH), [0.0]])
_NARROWEST = 0.1  # smallest factor of a squared width


class LineChanges:
    """Changes of lines, with the parameters that they depend on.

    Parameters
    ----------
    generator : SpectrumGenerator
        A fitted generator, tagged if there are `elements` or `molecules`.
    elements : sequence of str, default=()
        Elements other than iron whose [X/Fe] is a parameter, named such as "[Si/Fe]" [dex].
    molecules : sequence of str, default=()
        Molecules with a zero point, such as "CN" [dex]: an error that all their lines share.
    microturbulence : bool, default=False
        Whether there is a parameter "vmic" [km/s].
    damping : bool, default=False
        Whether there is a parameter "damping" [dex].
    reference : float, default=1.0
        Microturbulence of the grid [km/s].
    offsets : dict of str to ndarray of shape (n_lines,), default=None
        Changes of single lines of the catalogue: ln "strength", "velocity" [km/s], ln "width" of the core, ln strength
        of the "wing".
    """

    def __init__(
        self,
        generator,
        *,
        elements=(),
        molecules=(),
        microturbulence=False,
        damping=False,
        reference=1.0,
        offsets=None,
    ):
        self.elements, self.molecules, self.reference = tuple(elements), tuple(molecules), float(reference)
        self._generator, self._vmic, self._damping, self.offsets = generator, microturbulence, damping, offsets
        strengths = {
            abundance_name(element): f"abundance of {element} relative to iron and the Sun, from line strengths"
            for element in self.elements
        } | {
            f"{molecule} strength": f"log10 of the factor of all lines of {molecule} beyond its elements' abundances"
            for molecule in self.molecules
        }
        limits, prior = (-ABUNDANCE_LIMIT, ABUNDANCE_LIMIT), (0.0, ABUNDANCE_PRIOR)
        self.parameters = tuple(
            Parameter(name, "dex", limits, text, start=0.0, scale=0.3, prior=prior) for name, text in strengths.items()
        )
        if microturbulence:
            self.parameters += (
                Parameter(
                    "vmic",
                    "km/s",
                    (0.0, _HIGHEST),
                    "microturbulence",
                    start=self.reference,
                    scale=1.0,
                    prior=(self.reference, MICROTURBULENCE_PRIOR),
                    physical_floor=True,
                ),
            )
        if damping:
            self.parameters += (
                Parameter(
                    "damping",
                    "dex",
                    (-DAMPING_LIMIT, DAMPING_LIMIT),
                    "log10 of the factor of all damping wings",
                    start=0.0,
                    scale=0.3,
                    prior=(0.0, DAMPING_PRIOR),
                ),
            )
        self.names = tuple(parameter.name for parameter in self.parameters)
        self._response = self._responses()

    def with_offsets(self, offsets):
        """The same changes with other offsets of single lines."""
        changed = object.__new__(LineChanges)
        vars(changed).update(vars(self), offsets=offsets)
        return changed

    def _responses(self):
        """Derivatives of ln tau per dex of each element and molecule, (n_elements + n_molecules, n_lines)."""
        tags = self._generator.tags_
        n_lines = len(self._generator.decomposer_.line_catalog_)
        rows = np.zeros((len(self.elements) + len(self.molecules), n_lines))
        if not len(rows):
            return rows
        atoms = [atoms_of(name) for name in tags.species]
        for row, element in zip(rows, self.elements, strict=False):
            row += tags.shares @ np.array([own.get(element, 0) for own in atoms], dtype=np.float64)
        for row, molecule in zip(rows[len(self.elements) :], self.molecules, strict=True):
            row += tags.shares @ np.array([float(name == molecule) for name in tags.species])
        return rows * np.log(10)

    def apply(self, lines, theta, slopes, values):
        """Change lines.

        Parameters
        ----------
        lines : ndarray of shape (n,)
            Their numbers in the catalogue.
        theta : ndarray of shape (n, n_parameters)
            Their parameters.
        slopes : ndarray of shape (n_slopes, n, n_parameters)
            Derivatives of these with respect to the labels; there may be none.
        values : dict of str to float
            Values of `parameters` by name.

        Returns
        -------
        theta : ndarray of shape (n, n_parameters)
            Changed parameters.
        slopes : ndarray of shape (n_slopes + n_names, n, n_parameters)
            Derivatives with respect to the labels and `names`; empty if no slopes were given.
        """
        names = self._generator.decomposer_.line_parameters
        wing = wing_parameter(names)
        theta, tangents = theta.copy(), len(slopes) > 0
        if tangents:
            slopes = np.concatenate([slopes, np.zeros((len(self.names), *theta.shape))])
        own = iter(slopes[len(slopes) - len(self.names) :] if tangents else ())
        for name, response in zip(self.names, self._response, strict=False):
            theta[:, 1] += response[lines] * values[name]
            if tangents:
                next(own)[:, 1] = response[lines]
        if self._vmic:
            squared = 2 * (np.exp(theta[:, 2]) / theta[:, 0] * SPEED_OF_LIGHT) ** 2
            widened = np.maximum(squared + values["vmic"] ** 2 - self.reference**2, _NARROWEST * squared)
            half = 0.5 * np.log(widened / squared)
            kept = 1 - np.interp(theta[:, 1], _DEPTH, _KAPPA)
            steepness = _KAPPA_SLOPE[np.searchsorted(_DEPTH, theta[:, 1])]
            self._widen(theta, half, kept, names)
            if tangents:
                slopes[:, :, 1] *= 1 + half * steepness
                # the narrower the core, the more it gains: changes of the grid's width shrink by the ratio
                lost = slopes[:, :, 2] * (1 - squared / widened)
                self._widen(slopes.transpose(1, 2, 0), -lost.T, kept[:, None], names)
                self._widen(next(own), values["vmic"] / widened, kept, names)
        if self._damping:
            theta[:, wing] += np.log(10) * values["damping"]
            if tangents:
                next(own)[:, wing] = np.log(10)
        if self.offsets is not None:
            theta[:, 0] *= 1 + self.offsets["velocity"][lines] / SPEED_OF_LIGHT
            theta[:, 1] += self.offsets["strength"][lines]
            theta[:, 2] += self.offsets["width"][lines]
            theta[:, wing] += self.offsets["wing"][lines]
        return theta, slopes

    @staticmethod
    def _widen(theta, change, kept, names):
        """Add a change of ln width, at constant strength of the wings, and of the core if `kept` (1 - kappa) is 1."""
        theta[:, 2] += change
        theta[:, 1] -= change * kept
        if "log_wing" in names:
            theta[:, names.index("log_wing")] += change


def abundance_name(element):
    """Name of the abundance of an element, such as "[Si/Fe]"."""
    return f"[{element}/Fe]"


def wing_parameter(names):
    """Place among a line's parameters of the strength of its wings, or of their width where they have no strength."""
    return names.index("log_wing") if "log_wing" in names else names.index("log_gamma")
