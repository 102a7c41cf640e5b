r"""Blends: a second star, or the spots of a star, in the same spectrum.

With the normalised fluxes :math:`F_1, F_2` of two photospheres, the light of both is

.. math:: F = (1 - w)\,F_1 + w\,F_2,

where w is the share of the second in the continuum. With the levels :math:`L_1, L_2` of the continua,

companion
    :math:`w / (1 - w) = q\,r(\lambda) / r(\lambda_0)` with :math:`r = L_2 / L_1`, and `flux_ratio` q at the reference
    wavelength :math:`\lambda_0`.
spots
    :math:`w / (1 - w) = r\,f / (1 - f)`, with the filling factor f, a share of the surface as seen.

Levels are those of the grid, where the generator knows them, else black bodies at both temperatures. They are computed
at the observed wavelengths: a shift of 100 km/s changes r by less than 1e-4 in the optical and infrared.
"""

from dataclasses import replace

import numpy as np

from stellarhml.forward.stages import LABEL_DESCRIPTIONS, LABEL_UNITS, Parameter, Rows, Stage
from stellarhml.kernels.fourier_broadening import broaden_rows, light_reach, resample_rows, rotation_transform
from stellarhml.physics.blackbody import blackbody_flux, blackbody_slope
from stellarhml.physics.wavelength import SPEED_OF_LIGHT, doppler_shift

FLUX_RATIO = Parameter(
    "flux_ratio",
    bounds=(0.0, 1.2),
    start=0.3,
    physical_floor=True,
    description="light of the second star over the first's, in the continuum at the reference wavelength",
)
FILLING = Parameter(
    "f_spot", bounds=(0.0, 1.0), start=0.3, physical_floor=True, description="share of the surface that spots fill"
)

_MARGIN = 12  # pixels of the generator on each side: two interpolation stencils
_SLOWEST = 0.1  # km/s: as for the star, derivatives vanish without rotation
_FASTEST = 50.0  # km/s: rotation of a second star that pixels at the ends of its band allow for
_GRAIN = 64  # pixels: windows end at multiples, so that they rarely change with velocity


class _Blend(Stage):
    """What the light of a second photosphere has in common: its spectrum, and the mixture with the star's.

    A subclass has `_second`, labels and velocities of the second photosphere by name of the parameter that it has them
    from, and `_share`, its share of the light.
    """

    def __init__(self, generator, primary, limb_darkening):
        _require_generator(generator)
        self._generator, self._primary = generator, generator if primary is None else primary
        self._limb_darkening = limb_darkening
        powers = [getattr(part, "resolving_power", None) for part in (generator, self._primary)]
        if powers[0] != powers[1]:
            raise ValueError(
                f"The generators of the two photospheres have the resolving powers {powers[0]} and {powers[1]}, where "
                "None is full resolution, but both need the same. Build one of them again."
            )
        teff = "teff" in generator.label_names_ and "teff" in self._primary.label_names_
        if not teff and not self.levels_known:
            raise ValueError(
                f"The generators have the labels {', '.join(generator.label_names_)} and "
                f"{', '.join(self._primary.label_names_)}, and no flux levels. The light of two photospheres is "
                "compared by their flux levels, or else by black bodies: build the generators from raw flux, or with "
                "a label teff in K."
            )

    @property
    def levels_known(self):
        """Whether flux levels are those of the grid; otherwise those of black bodies are taken."""
        return all(getattr(part, "level_", None) is not None for part in (self._generator, self._primary))

    def apply(self, rows, values):
        """Mix the light of the second photosphere in, see `Stage.apply`."""
        own = bool(rows.tangents)
        second = self._spectrum(rows, values, own)
        share, slopes = self._share(rows.wavelength, values, own)
        difference = second.flux - rows.flux
        mixed = rows.through(rows.flux + share * difference, 1 - share)
        for name, slope in slopes.items():
            mixed.tangents[name] = mixed.tangents.get(name, 0.0) + slope * difference
        for name, row in second.tangents.items():
            mixed.tangents[name] = mixed.tangents.get(name, 0.0) + share * row
        if "line_variance" in mixed.modes:
            mixed.modes["line_variance"] = mixed.modes["line_variance"] + share * second.modes["line_variance"]
        for name, row in second.modes.items():
            mixed.tangents[self.second_modes[name]] = share * row
        return mixed

    @property
    def second_modes(self):
        """Modes of the second photosphere's error, by name as in `Rows.modes`: their names among the tangents."""
        names = (*self._generator.label_names_, "ln_wavelength", "line_variance")
        return {name: f"{name} of {type(self).__name__}" for name in names}

    @property
    def second_labels(self):
        """Names of the parameters that are labels of the second photosphere, also those that both share."""
        return self._labels

    def second_light(self, values):
        """Generator of the second photosphere, its labels (n_labels,), and its velocity in km/s."""
        labels, rv, _ = self._second(values)
        return self._generator, np.array([values[name] for name in labels]), values[rv]

    def _spectrum(self, rows, values, own):
        """Rows of the second photosphere, rotated and shifted to the wavelengths of the star's rows."""
        labels, rv, vsini = self._second(values)
        shift, slowest = doppler_shift(1.0, values[rv]), _SLOWEST if own else 0.0
        speed = max(values[vsini], slowest) / SPEED_OF_LIGHT
        x = np.log(rows.wavelength)
        step = (x[-1] - x[0]) / (len(x) - 1)
        n_more = int(np.ceil(light_reach(speed, 0.0) / step)) + 1
        x = (x[0] - np.log(shift)) + step * np.arange(-n_more, len(x) + n_more)
        band = np.asarray(self._generator.wavelength_)
        at = np.clip(np.exp(x), band[0], band[-1])
        first, last = np.searchsorted(band, at[[0, -1]])
        first, last = (first - _MARGIN) // _GRAIN * _GRAIN, -(-(last + _MARGIN) // _GRAIN) * _GRAIN
        pixels = slice(int(np.clip(first, 0, len(band) - _MARGIN)), int(np.clip(last, _MARGIN, len(band))))
        given = [values[name] for name in labels]
        table = self._generator.render_rows(given, pixels, tangents=own)[: 1 + len(labels)]
        table = resample_rows(band[pixels], table, at)
        inside = slice(n_more, n_more + len(rows.wavelength))

        if not own:
            if speed:
                table = broaden_rows(table, step, lambda k: rotation_transform(k * speed, self._limb_darkening)[0])
            return Rows(rows.wavelength, table[0, inside])

        def transforms(k):
            turned, slope = rotation_transform(k * speed, self._limb_darkening)
            return np.stack([*[turned] * len(table), -1j * k * turned, k * slope, -k * k / 2 * turned])

        more = np.concatenate([table, table[[0, 0, 0]]])
        flux, *by_label, by_shift, by_speed, by_variance = broaden_rows(more, step, transforms)[:, inside]
        tangents = dict(zip(labels, by_label, strict=True))
        tangents[rv] = by_shift / (SPEED_OF_LIGHT + values[rv])
        tangents[vsini] = by_speed / SPEED_OF_LIGHT
        modes = dict(zip(self._generator.label_names_, by_label, strict=True))
        modes |= {"ln_wavelength": by_shift, "line_variance": by_variance}
        return Rows(rows.wavelength, flux, tangents, modes)

    def _ln_ratio(self, wavelength, values, own):
        """Logarithm of the ratio of the second level to the first (n,), and its derivatives (n,) by name."""
        labels, _, _ = self._second(values)
        total, slopes = 0.0, {}
        sides = (self._generator, labels, 1.0), (self._primary, self._primary.label_names_, -1.0)
        for generator, names, sign in sides:
            level, by_label = self._ln_level(generator, [values[name] for name in names], wavelength, own)
            total = total + sign * level
            for name, row in zip(names, by_label, strict=False):
                slopes[name] = slopes.get(name, 0.0) + sign * row
        return total, slopes

    def _ln_level(self, generator, labels, wavelength, own):
        """Logarithm of the level of a generator (n,), and its derivatives by the labels (n_labels, n)."""
        if self.levels_known:
            found = generator.log_level(labels, wavelength, derivatives=own)
            return found if own else (found, ())
        k, slopes = generator.label_names_.index("teff"), np.zeros((len(labels), len(wavelength)))
        low, high = generator.interpolator_.bounds_[k]
        teff = float(np.clip(labels[k], low, high))
        if own and low <= labels[k] <= high:
            slopes[k] = blackbody_slope(wavelength, teff)
        return np.log(blackbody_flux(wavelength, teff)), slopes


class Companion(_Blend):
    r"""Add the light of a second star, such as of a spectroscopic binary.

    The second star has its own labels, velocity and rotation. Its parameters are `flux_ratio`, the light of the second
    star over that of the first in the continuum at the reference wavelength; `teff_2`, `logg_2` and the like, of those
    labels that are not tied to the first star; `rv_2` and `vsini_2` in km/s. At other wavelengths the ratio changes as
    that of the flux levels of both stars.

    Parameters
    ----------
    generator : SpectrumGenerator
        Model of the second star.
    primary : SpectrumGenerator, default=None
        Model of the first star. None: `generator`.
    tied : sequence of str, default=None
        Labels that both stars have in common. None: all labels of both generators but teff and logg, such as [Fe/H],
        and but those in `alike`.
    alike : dict of str to float, default=None
        Labels in which both stars differ little, as stars of one cloud do in [Fe/H]: standard deviation of a normal
        prior of the difference by name, such as ``{"feh": 0.05}``.
    bounds : dict of str to tuple of (float, float), default=None
        Lowest and highest value of parameters by name, within those that they have: the grid's for labels, 0 to 1.2 for
        flux_ratio, -300 to 300 km/s for rv_2, 0 to 200 km/s for vsini_2.
    priors : dict of str to tuple of (float, float), default=None
        Mean and standard deviation of normal priors of these parameters, by name.
    reference : float, default=None
        Wavelength in angstrom of `flux_ratio`. None: the middle of the band of `generator`.
    limb_darkening : float, default=0.6
        Linear coefficient of limb darkening of the second star, from 0 to 1.

    Raises
    ------
    ValueError
        If a name is unknown, bounds are out of range, the generator has no wavelengths, or levels cannot be compared.

    Notes
    -----
    Macroturbulence, changed lines and abundances are those of the first star alone. Pixels to which rv_2 could bring
    light from outside the band of `generator` are masked, see `covers`.

    Examples
    --------
    >>> from stellarhml import SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> from stellarhml.forward.blends import Companion
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    >>> [parameter.name for parameter in Companion(generator).parameters]
    ['flux_ratio', 'teff_2', 'logg_2', 'rv_2', 'vsini_2']
    """

    def __init__(
        self,
        generator,
        *,
        primary=None,
        tied=None,
        alike=None,
        bounds=None,
        priors=None,
        reference=None,
        limb_darkening=0.6,
    ):
        super().__init__(generator, primary, limb_darkening)
        names, alike = generator.label_names_, dict(alike or {})
        common = [name for name in names if name in self._primary.label_names_]
        tied = [name for name in common if name not in ("teff", "logg", *alike)] if tied is None else list(tied)
        for argument, given in (("tied", tied), ("alike", alike)):
            strange = [name for name in given if name not in common]
            if strange:
                known = ", ".join(common)
                raise ValueError(f"`{argument}` names {strange[0]!r}; the labels of both stars are {known}.")
        for name, difference in alike.items():
            if name in tied or isinstance(difference, (bool, str)) or np.ndim(difference) or not difference > 0:
                raise ValueError(
                    f"`alike` has {name!r}: {difference!r}; it needs the standard deviation of the difference, a "
                    "positive number, of labels that are not in `tied`."
                )
        self._labels = tuple(name if name in tied else f"{name}_2" for name in names)
        self.reference = float(np.mean(generator.wavelength_[[0, -1]]) if reference is None else reference)
        if not 0 < self.reference < np.inf:
            raise ValueError(f"`reference` is {reference}; it needs a wavelength in angstrom.")
        own = [FLUX_RATIO]
        for name, (low, high) in zip(names, generator.interpolator_.bounds_, strict=True):
            if name not in tied:
                text = f"{LABEL_DESCRIPTIONS.get(name, name)}, of the second star"
                near = {"prior": (0.0, float(alike[name])), "alike": name} if name in alike else {}
                own.append(Parameter(f"{name}_2", LABEL_UNITS.get(name, ""), (float(low), float(high)), text, **near))
        speeds = {"start": 0.0, "scale": 10.0}
        own.append(Parameter("rv_2", "km/s", (-300.0, 300.0), "radial velocity of the second star", **speeds))
        speeds = {"start": 5.0, "scale": 10.0, "softening": 3.0, "physical_floor": True}
        own.append(Parameter("vsini_2", "km/s", (0.0, 200.0), "rotation of the second star", **speeds))
        self.parameters = tuple(_narrowed(own, bounds, priors))

    def covers(self, wavelength):
        """Whether the second star's light is known at all of its velocities, see `Stage.covers`."""
        low, high = next(parameter.bounds for parameter in self.parameters if parameter.name == "rv_2")
        ends, room = self._generator.wavelength_[[0, -1]], 1 + _FASTEST / SPEED_OF_LIGHT
        first, last = ends[0] * doppler_shift(1.0, high) * room, ends[1] * doppler_shift(1.0, low) / room
        return (wavelength >= first) & (wavelength <= last)

    def _second(self, values):
        return self._labels, "rv_2", "vsini_2"

    def _share(self, wavelength, values, own):
        both = np.append(wavelength, self.reference)
        ratio, slopes = self._ln_ratio(both, values, own)
        color = np.exp(ratio[:-1] - ratio[-1])
        light = values["flux_ratio"] * color
        share = light / (1 + light)
        found = {name: share * (1 - share) * (row[:-1] - row[-1]) for name, row in slopes.items()}
        return share, found | {"flux_ratio": color / (1 + light) ** 2}


class Spots(_Blend):
    r"""Replace a part of the surface by a cooler photosphere, that of spots.

    The parameters are `teff_spot` in K and `f_spot`, the share of the surface, as seen, that spots fill. Spots have the
    other labels, the velocity and the rotation of the star, whose `teff` is then that of the rest of its surface. Light
    is weighted by surface fluxes.

    Parameters
    ----------
    generator : SpectrumGenerator
        Model of the spots, with a label teff.
    primary : SpectrumGenerator, default=None
        Model of the rest of the surface. None: `generator`.
    bounds : dict of str to tuple of (float, float), default=None
        Lowest and highest value of teff_spot and f_spot, within those of the grid and 0 to 1.
    priors : dict of str to tuple of (float, float), default=None
        Mean and standard deviation of normal priors of these parameters, by name.
    limb_darkening : float, default=0.6
        Linear coefficient of limb darkening, from 0 to 1.

    Raises
    ------
    ValueError
        If bounds are out of range, or there is no label teff.

    Notes
    -----
    The star with `teff` and `teff_spot` exchanged and 1 - `f_spot` is the same star. A fit exchanges them where
    teff_spot exceeds teff. Spots are taken as spread evenly over the disc: bumps in the profiles of a fast rotator are
    not modelled.

    Examples
    --------
    >>> from stellarhml import SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> from stellarhml.forward.blends import Spots
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    >>> [parameter.name for parameter in Spots(generator).parameters]
    ['teff_spot', 'f_spot']
    """

    def __init__(self, generator, *, primary=None, bounds=None, priors=None, limb_darkening=0.6):
        super().__init__(generator, primary, limb_darkening)
        missing = [name for name in generator.label_names_ if name not in ("teff", *self._primary.label_names_)]
        if "teff" not in generator.label_names_ or missing:
            raise ValueError(
                f"The generator of the spots has the labels {', '.join(generator.label_names_)}; it needs teff, and "
                f"others that the star's has too: {', '.join(self._primary.label_names_)}."
            )
        self._labels = tuple("teff_spot" if name == "teff" else name for name in generator.label_names_)
        low, high = generator.interpolator_.bounds_[generator.label_names_.index("teff")]
        text = "effective temperature of the spots"
        own = [Parameter("teff_spot", "K", (float(low), float(high)), text), FILLING]
        self.parameters = tuple(_narrowed(own, bounds, priors))

    def _second(self, values):
        return self._labels, "rv", "vsini"

    def _share(self, wavelength, values, own):
        ratio, slopes = self._ln_ratio(wavelength, values, own)
        ratio, filling = np.exp(ratio), values["f_spot"]
        total = (1 - filling) + filling * ratio
        share = filling * ratio / total
        found = {name: share * (1 - share) * row for name, row in slopes.items()}
        return share, found | {"f_spot": ratio / total**2}


def _require_generator(generator):
    """Raise unless something is a fitted generator with wavelengths."""
    if not hasattr(generator, "interpolator_"):
        raise ValueError(f"`generator` is a {type(generator).__name__}; it needs a fitted SpectrumGenerator.")
    if generator.wavelength_[0] <= 0 or len(generator.wavelength_) < 2 * _MARGIN:
        raise ValueError(
            f"The generator has {len(generator.wavelength_)} pixels, the first at {generator.wavelength_[0]:g}; a "
            f"blend needs wavelengths in angstrom, and {2 * _MARGIN} pixels at least. Fit it with `wavelength`."
        )


def _narrowed(parameters, bounds, priors):
    """Parameters with narrower bounds and with priors, given by name."""
    names = [parameter.name for parameter in parameters]
    for argument, given in (("bounds", bounds), ("priors", priors)):
        strange = [name for name in given or {} if name not in names]
        if strange:
            raise ValueError(f"`{argument}` names {strange[0]!r}, but the parameters are {', '.join(names)}.")
    bounds, priors = dict(bounds or {}), dict(priors or {})
    for parameter in parameters:
        low, high = map(float, bounds.get(parameter.name, parameter.bounds))
        least, most = parameter.bounds
        if not least <= low < high <= most:
            raise ValueError(
                f"`bounds` of {parameter.name!r} are ({low}, {high}); they must increase and lie within {least:g} to "
                f"{most:g}."
            )
        start = None if parameter.start is None else float(np.clip(parameter.start, low, high))
        floor = parameter.physical_floor and low == least
        if parameter.name in priors:
            parameter = replace(parameter, prior=priors[parameter.name], alike=None)
        yield replace(parameter, bounds=(low, high), start=start, physical_floor=floor)
