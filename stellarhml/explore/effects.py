"""Effects: what a page models besides labels, velocities and line spread, such as tellurics or a second star."""

import numpy as np

from stellarhml.forward.blends import FILLING, FLUX_RATIO
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.line_spread import FACTOR, factor_parameter
from stellarhml.forward.observation import Observation
from stellarhml.forward.tellurics import Tellurics
from stellarhml.inference._bayesian_stellar_regressor import own_stages
from stellarhml.inference.telluric_frame import as_tellurics, frame_of_air

_FEW = 30  # pixels of a chain that is made for its checks alone
_LIGHTS = (FLUX_RATIO.name, FILLING.name)  # of a second photosphere, which a fit may leave out


class Effects:
    """Stages of the forward model between rotation and line spread, and a factor of the resolving power.

    The arguments are those of `BayesianStellarRegressor.infer`; what is left out is not modelled.

    Attributes
    ----------
    settings : dict
        Arguments of `infer` for a fit with these effects.
    stages : tuple of Stage
        The stages, for spectra in the frame of the telescope.
    parameters : tuple of Parameter
        Their parameters, and the factor of the resolving power.

    Raises
    ------
    ValueError
        If effects exclude each other, or the generator cannot have one.

    Examples
    --------
    >>> from stellarhml import SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> from stellarhml.explore.effects import Effects
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    >>> Effects(generator, veiling=True, resolving_power_error=0.1).start
    {'veiling': 0.1, 'resolving_power_factor': 1.0}
    """

    def __init__(
        self,
        generator,
        *,
        companion=None,
        spots=None,
        veiling=None,
        macroturbulence=None,
        tellurics=None,
        barycentric=None,
        resolving_power_error=None,
    ):
        own = {"companion": companion, "spots": spots, "veiling": veiling, "macroturbulence": macroturbulence}
        air = None if tellurics is None else as_tellurics(tellurics)
        others = {"tellurics": air, "barycentric": barycentric, "resolving_power_error": resolving_power_error}
        self.settings = {name: value for name, value in (own | others).items() if value is not None}
        self.stages = own_stages(generator, 0.6, **own) + (() if air is None else (air,))
        factor = () if resolving_power_error is None else (factor_parameter(resolving_power_error),)
        self.parameters = tuple(p for stage in self.stages for p in stage.parameters) + factor
        if self.settings:  # a chain refuses what does not go together
            power = generator.resolving_power or 1e4
            pixels = Observation(generator.wavelength_[:_FEW], resolving_power=power)
            ForwardChain(generator, pixels, stages=self.stages, resolving_power_error=resolving_power_error)

    @property
    def limits(self):
        """Lowest and highest value of each parameter by name."""
        return {parameter.name: tuple(map(float, parameter.bounds)) for parameter in self.parameters}

    @property
    def start(self):
        """Value of each parameter by name on a new page, as in a fit: the middle where a parameter has no other."""
        starts = {parameter.name: parameter.start for parameter in self.parameters}
        return {n: float(np.mean(self.limits[n])) if value is None else float(value) for n, value in starts.items()}

    @property
    def labels(self):
        """Ranges by name of the labels of a second photosphere, which end where the grid does."""
        names = {name for stage in self.stages for name in getattr(stage, "second_labels", ())}
        return {name: ends for name, ends in self.limits.items() if name in names}

    @property
    def tellurics(self):
        """Whether the atmosphere is modelled."""
        return any(isinstance(stage, Tellurics) for stage in self.stages)

    def stages_of(self, spectrum):
        """The stages in the frame of an ObservedSpectrum; ValueError if the air's velocity there is not known."""
        velocity = self.settings.get("barycentric")
        return tuple(
            frame_of_air(spectrum, stage, velocity)[0] if isinstance(stage, Tellurics) else stage
            for stage in self.stages
        )

    def fitted(self, values, result):
        """Values by name after a fit: those of the result, and no light of a component that it left out."""
        without = {name: 0.0 for name in _LIGHTS if name in values}
        return values | without | {name: result.values[name] for name in values if name in result.values}


def shown_factor(values):
    """Factor of the resolving power among the values of effects, 1 if it is none of them."""
    return values.get(FACTOR, 1.0)
