"""Models of a spectrum as the likelihood sees them: fluxes on the data's pixels and their derivatives."""

import numpy as np

from stellarhml.forward.observation import SPEED_OF_LIGHT, observe, to_model
from stellarhml.inference.parameters import SLOWEST
from stellarhml.synthesis.evaluation import generate_with_jacobian

_ROTATION = 0.225  # variance of a rotation profile with limb darkening 0.6 over vsini squared: Gray's, integrated


class Evaluation:
    """Model and derivatives at one place, for each order.

    Parameters
    ----------
    fluxes : list of ndarray of shape (n_pixels,)
        The model.
    jacobians : list of ndarray of shape (n_pixels, n_parameters)
        Derivatives by the parameters.
    directions : list of ndarray of shape (n_pixels, n_labels + 2)
        Derivatives by the labels, by ln wavelength and by the variance of a broadening in ln wavelength.
    sharpness : list of ndarray of shape (n_pixels,)
        Derivatives by ln of the resolving power.
    """

    def __init__(self, fluxes, jacobians, directions, sharpness):
        self.fluxes, self.jacobians, self.directions, self.sharpness = fluxes, jacobians, directions, sharpness


class RestModel:
    """The generator's own pixels, of a star at rest.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    runs : sequence of slice, default=None
        Runs of pixels, each an order. None: all pixels are one.
    """

    def __init__(self, generator, runs=None):
        self._generator = generator
        self._runs = [slice(0, len(generator.wavelength_))] if runs is None else list(runs)
        self.names = generator.label_names_

    def flux(self, values):
        """Fluxes, a list of arrays of shape (n_pixels,)."""
        return [self._generator.predict_nearest(values[None], pixels=run)[0][0] for run in self._runs]

    def evaluate(self, values):
        """Fluxes and derivatives, see `Evaluation`."""
        fluxes, jacobians = zip(
            *(generate_with_jacobian(self._generator, values[None], run) for run in self._runs), strict=True
        )
        fluxes, jacobians = [flux[0] for flux in fluxes], [jacobian[0] for jacobian in jacobians]
        nothing = [np.zeros((len(flux), 2)) for flux in fluxes]
        directions = [np.hstack(parts) for parts in zip(jacobians, nothing, strict=True)]
        return Evaluation(fluxes, jacobians, directions, [part[:, 0] for part in nothing])

    def places(self, values):
        """Pixels of the generator at each pixel of the data, a list of arrays."""
        return [np.arange(run.start, run.stop) for run in self._runs]


class ObservedModel:
    """A star as a spectrograph records it.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    observation : Observation
        Pixels and resolving powers.
    limb_darkening : float
        Linear coefficient.
    transmission : list of ndarray of shape (n_pixels,) or None
        What the model is multiplied by, such as the transmission of the atmosphere.
    watch : callable, default=None
        Called without arguments before each evaluation; what it raises stops the fit.
    """

    def __init__(self, generator, observation, limb_darkening, transmission=None, watch=None):
        self._generator, self._observation = generator, observation
        self._limb_darkening, self._transmission, self._watch = limb_darkening, transmission, watch
        self.names = (*generator.label_names_, "rv", "vsini")

    def flux(self, values):
        """Fluxes, a list of arrays of shape (n_pixels,)."""
        return self._through_air(self._observe(values, derivatives=False))

    def evaluate(self, values):
        """Fluxes and derivatives, see `Evaluation`."""
        fluxes, tables = self._observe(values, derivatives=True)
        n = len(values) - 2
        jacobians, directions, sharpness = [], [], []
        for order, table in zip(self._observation.orders, tables, strict=True):
            by_rv, by_vsini, by_power = table[:, n], table[:, n + 1], table[:, n + 2]
            if order.resolving_power is not None:
                by_variance = -by_power / (2 * order.sigma**2)
            else:
                by_variance = by_vsini / (2 * _ROTATION * max(values[-1], SLOWEST)) * SPEED_OF_LIGHT**2
            jacobians.append(table[:, : n + 2])
            directions.append(np.column_stack([table[:, :n], by_rv * (SPEED_OF_LIGHT + values[-2]), by_variance]))
            sharpness.append(by_power)
        return Evaluation(*map(self._through_air, (fluxes, jacobians, directions, sharpness)))

    def places(self, values):
        """The generator's pixel nearest to each pixel of the data, a list of arrays."""
        return to_model(self._generator, self._observation, values[-2])

    def _observe(self, values, derivatives):
        if self._watch is not None:
            self._watch()
        return observe(
            self._generator,
            values[:-2],
            self._observation,
            rv=values[-2],
            vsini=max(values[-1], SLOWEST) if derivatives else values[-1],
            limb_darkening=self._limb_darkening,
            derivatives=derivatives,
            nearest=True,
        )

    def _through_air(self, parts):
        if self._transmission is None:
            return parts
        return [part * (t if part.ndim == 1 else t[:, None]) for part, t in zip(parts, self._transmission, strict=True)]
