"""ForwardChain: from the parameters of a star to the flux in the pixels of a spectrograph, stage by stage.

    star (labels, changes of lines) -> rotation and velocity -> [stages: transmission, ...] -> line spread -> pixels

Without stages in the middle, rotation, velocity, line spread and pixels are applied in one Fourier transform.
"""

from functools import partial
from itertools import pairwise

import numpy as np

from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.forward.line_columns import columns_of_order, cores_of_strong_lines, shapes_of_wide_lines
from stellarhml.forward.line_spread import FACTOR, LineSpread, ResolutionMatrix, factor_parameter
from stellarhml.forward.stages import Parameter, Rows, SecondLight, Stage, label_parameters
from stellarhml.kernels.fourier_broadening import light_reach, observe_rows
from stellarhml.physics.broadening import line_spread_sigma
from stellarhml.physics.wavelength import SPEED_OF_LIGHT, doppler_shift

RV = Parameter("rv", "km/s", (-500.0, 500.0), "radial velocity, positive away from the observer", start=0.0, scale=10.0)
VSINI = Parameter(
    "vsini",
    "km/s",
    (0.0, 300.0),
    "projected rotational velocity",
    start=5.0,  # not zero, where its derivative vanishes
    scale=10.0,
    softening=3.0,
    physical_floor=True,
)
ERROR_DIRECTIONS = ("ln_wavelength", "line_variance")
"""Modes of the generator's own error besides the labels, see `Rows.modes`."""

_SLOWEST = 0.1  # km/s: derivatives vanish without rotation; this changes fluxes by 2e-4, at R 55,000 by 5e-5
_ROTATION = 0.225  # variance over vsini squared of Gray's rotation profile with limb darkening 0.6
_THERMAL = 1.5  # km/s, of a weak line
_MARGIN = 12  # pixels of the generator at each end of a window: two interpolation stencils
_LONGEST = 2**16  # pixels of one Fourier transform, whose sampling is set by the finest of them
_GRAIN = 64  # pixels: windows end at multiples, so that they rarely change with velocity (the end moves fluxes by 1e-6)


class ForwardChain:
    """The forward model of one star and one spectrograph.

    Parameters
    ----------
    generator : SpectrumGenerator
        A fitted generator with wavelengths in vacuum angstrom.
    observation : Observation
        Pixels and resolving powers.
    changes : LineChanges, default=None
        What the physics of the star changes about the grid's lines, see `stellarhml.synthesis.line_changes`.
    stages : sequence of Stage, default=()
        Stages between rotation and line spread, from the star outwards.
    limb_darkening : float, default=0.6
        Linear coefficient of limb darkening, from 0 to 1, of the rotation profile.
    watch : callable, default=None
        Called without arguments before each evaluation; an exception that it raises stops the fit.
    resolving_power_error : float, default=None
        Relative standard deviation of the resolving power, of which one factor for all orders is a parameter. None: the
        resolving power is exact.
    order_factors : sequence of Parameter, default=None
        For each order a factor of its resolving power, beside that of all. None: there is none.
    order_shifts : sequence of Parameter, default=None
        For each order a parameter in km/s, by which its stated wavelengths are too long. None: they are exact.

    Attributes
    ----------
    parameters : tuple of Parameter
        Labels, those of the changes of lines, rv, vsini, those of the stages, of the line spread, and the shifts.

    Raises
    ------
    ValueError
        If two parameters have the same name, or a resolving power with an error cannot be scaled.

    Examples
    --------
    >>> from stellarhml import SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> from stellarhml.forward.chain import ForwardChain
    >>> from stellarhml.forward.observation import Observation
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    >>> chain = ForwardChain(generator, Observation(grid.wavelength[100:200], resolving_power=5e4))
    >>> [parameter.name for parameter in chain.parameters]
    ['teff', 'logg', 'feh', 'rv', 'vsini']
    >>> chain.flux({"teff": 5300.0, "logg": 3.8, "feh": -0.2, "rv": 10.0, "vsini": 3.0})[0].shape
    (100,)
    """

    def __init__(
        self,
        generator,
        observation,
        *,
        changes=None,
        stages=(),
        limb_darkening=0.6,
        watch=None,
        resolving_power_error=None,
        order_factors=None,
        order_shifts=None,
    ):
        self._generator, self._stages = generator, tuple(stages)
        self._observation = observation.seen_from(_own_power(generator))
        _refuse_sharp_stages(generator, self._stages)
        _refuse_free_power(generator, resolving_power_error, order_factors)
        self._changes = changes
        self._limb_darkening = _check("limb_darkening", limb_darkening, 0.0, 1.0, "")
        self._watch = watch
        labels = label_parameters(generator.label_names_, generator.interpolator_.bounds_)
        labels += () if changes is None else changes.parameters
        self._of_star = tuple(parameter.name for parameter in labels)
        own = [parameter for stage in self._stages for parameter in stage.parameters]
        before = (*labels, RV, VSINI, *own)
        self._before = tuple(parameter.name for parameter in before)
        self._power_error = resolving_power_error
        self._order_factors, self._order_shifts = order_factors, order_shifts
        factors = () if resolving_power_error is None else (factor_parameter(resolving_power_error),)
        # an order may have several runs of pixels
        factors = {parameter.name: parameter for parameter in (*factors, *(order_factors or ()))}
        if factors and not all(order.can_be_sharpened for order in observation.orders):
            argument = "resolving_power_scatter" if resolving_power_error is None else "resolving_power_error"
            raise ValueError(
                f"`{argument}` asks for a factor of the resolving power, but an order has a resolution matrix, or the "
                "generator's own resolution (None), which cannot be scaled. Leave it out, or state a resolving power "
                "or kernels."
            )
        shapes = {p.name: p for power in _line_spreads(observation) for p in power.parameters}
        self._shapes = tuple(shapes)
        shifts = {} if order_shifts is None else {parameter.name: parameter for parameter in order_shifts}
        self.parameters = (*before, *factors.values(), *shapes.values(), *shifts.values())
        self._is_exact = not (factors or shapes or shifts)
        names = [parameter.name for parameter in self.parameters]
        if len(set(names)) < len(names):
            raise ValueError(
                f"The parameters of the forward model are {', '.join(names)}, but each name may occur once. Rename a "
                "label (`label_names`), or a parameter of a stage."
            )
        self._max_step = min((stage.step for stage in self._stages), default=np.inf)
        self._more = ()  # tangents of stages that are no parameters

    def part(self, runs):
        """Restrict the model to some runs of pixels, for a first fit.

        Parameters
        ----------
        runs : sequence of (int, slice)
            Index of the order, and its pixels.

        Returns
        -------
        chain : ForwardChain
            The same model with each run as an order.
        """
        return self._as(self._observation.part(runs), self._changes, self.parameters, orders=[i for i, _ in runs])

    def with_changes(self, changes):
        """The same model with other changes of lines (LineChanges)."""
        return self._as(self._observation, changes)

    def sharpened(self, factor):
        """The same model with resolving powers times a factor, see `Observation.sharpened`."""
        return self._as(self._observation.sharpened(factor), self._changes)

    @property
    def can_be_sharpened(self):
        """Whether the resolving power of each order can be multiplied by a factor."""
        return all(order.can_be_sharpened for order in self._observation.orders)

    def without(self, kind):
        """The same model without the stages of a class."""
        kept = [s for s in self._stages if not isinstance(s, kind)]
        return self._as(self._observation, self._changes, stages=kept)

    def _as(self, observation, changes, parameters=None, stages=None, orders=None):
        """The same model of another observation, of whose `orders` (indices; None: all) it has the parameters."""

        def of_orders(own):
            return own if own is None or orders is None else [own[i] for i in orders]

        chain = ForwardChain(
            self._generator,
            observation,
            changes=changes,
            stages=self._stages if stages is None else stages,
            limb_darkening=self._limb_darkening,
            watch=self._watch,
            resolving_power_error=self._power_error,
            order_factors=of_orders(self._order_factors),
            order_shifts=of_orders(self._order_shifts),
        )
        if parameters is not None:  # of orders that are left out, too
            chain.parameters = parameters
        return chain

    def flux(self, values):
        """Evaluate the model.

        Parameters
        ----------
        values : dict of str to float
            Values of all parameters. Labels outside the grid are moved to its edge.

        Returns
        -------
        fluxes : list of ndarray of shape (n_pixels,)
            For each order, the mean flux density in each pixel. NaN where light from outside the band is needed.

        Raises
        ------
        ValueError
            If a velocity is not finite or out of range, or a flux of the generator is not finite.
        WavelengthCoverageError
            If no order overlaps the band.
        """
        return [rows.flux for rows in self._evaluate(values, tangents=False)]

    def evaluate(self, values):
        """Evaluate the model and its derivatives.

        Parameters
        ----------
        values : dict of str to float
            As in `flux`.

        Returns
        -------
        orders : list of Rows
            Model of each order. Tangents are the derivatives with respect to each parameter, and to
            "ln_resolving_power" (one factor for all pixels; zero without line spread).
        """
        return self._evaluate(values, tangents=True)

    def second_lights(self, values):
        """The light of further photospheres, such as of a second star.

        Parameters
        ----------
        values : dict of str to float
            As in `flux`.

        Returns
        -------
        lights : list of SecondLight
            One for each stage that adds such light.
        """
        found = []
        for stage in (stage for stage in self._stages if hasattr(stage, "second_modes")):
            names, (generator, labels, rv) = stage.second_modes, stage.second_light(values)
            chain = self._as(self._observation, self._changes, self.parameters)
            chain._more = tuple(names.values())
            modes = [{name: rows.tangents[own] for name, own in names.items()} for rows in chain.evaluate(values)]
            found.append(SecondLight(generator, labels, _nearest_pixels(generator, self._observation, rv), modes))
        return found

    def line_columns(self, values, lines):
        """Differentiate the model with respect to single lines.

        Parameters
        ----------
        values : dict of str to float
            As in `flux`.
        lines : ndarray of shape (n_lines,), bool
            Lines of the catalogue that are wanted.

        Returns
        -------
        columns : list of LineColumns
            For each order, the derivatives of its lines. Stages that move light are left out, others act before
            rotation, and the resolving power is that of the middle of the order.
        """
        wavelength, shift, found = np.asarray(self._generator.wavelength_), doppler_shift(1.0, values["rv"]), []
        for order, window, own in self._lines_of_orders(values):
            if window is None:
                found.append(None)
                continue
            (good, pixels), (numbers, components, form) = window, own
            wanted = lines[numbers]
            flux = self._rendered(values, pixels, False)[0]
            flux = self._through_slopes(values, wavelength[pixels] * shift, flux)
            columns = columns_of_order(
                numbers[wanted],
                components[wanted],
                form,
                wavelength[pixels],
                flux,
                order.edges[good.start : good.stop + 1] / shift,
                vsini=values["vsini"] / SPEED_OF_LIGHT,
                limb_darkening=self._limb_darkening,
                sigma=order.median_sigma,
            )
            found.append(columns._replace(start=columns.start + good.start, stop=columns.stop + good.start))
        return found

    def _through_slopes(self, values, wavelength, flux):
        """A small change of the star's light, in proportion to its flux, behind the stages that do not move it."""
        rows = Rows(wavelength, flux, {"change": flux})
        for stage in self._stages:
            if stage.local or type(stage).margin is Stage.margin:  # one that has a margin may move it
                rows = stage.apply(rows, values)
        return rows.tangents["change"]

    def line_sigma(self, number, values):
        """Standard deviation of a narrow line, as observed in an order, in ln wavelength.

        Parameters
        ----------
        number : int
            Index of the order.
        values : dict of str to float
            As in `flux`.

        Returns
        -------
        sigma : float
            Of rotation, line spread, pixels and a width of 1.5 km/s together.
        """
        order = self._orders(values)[number]
        spread = order.total_sigma
        pixel = float(np.median(np.diff(np.log(order.edges))))
        squared = spread**2 + pixel**2 / 12 + _ROTATION * (values["vsini"] / SPEED_OF_LIGHT) ** 2
        return float(np.sqrt(squared + (_THERMAL / SPEED_OF_LIGHT) ** 2))

    def wide_shapes(self, values):
        """Derivatives of the model with respect to relative errors of the profiles of wide lines.

        They are smooth in wavelength, and hardly depend on the parameters: once is enough for a star.

        Parameters
        ----------
        values : dict of str to float
            As in `flux`.

        Returns
        -------
        shapes : list of ndarray of shape (n_pixels, n)
            For each order, minus the depth of a wide line over the flux that it leaves, times triangles that divide its
            reach: the flux multiplies them. They are smooth, so that broadening and pixels are left out.
        """
        return self._of_strong_lines(values, shapes_of_wide_lines, lambda n: np.empty((n, 0)))

    def strong_cores(self, values):
        """Pixels in the cores of strong lines, such as those of the calcium triplet.

        Parameters
        ----------
        values : dict of str to float
            As in `flux`.

        Returns
        -------
        cores : list of ndarray of shape (n_pixels,), bool
            For each order.
        """
        return self._of_strong_lines(values, cores_of_strong_lines, lambda n: np.zeros(n, dtype=bool))

    def _of_strong_lines(self, values, function, nothing):
        """What a function of the lines tells of each order; `nothing` of the number of pixels outside the band."""
        shift, found = doppler_shift(1.0, values["rv"]), []
        for order, window, own in self._lines_of_orders(values):
            if window is None:
                found.append(nothing(len(order.wavelength)))
                continue
            _, components, form = own
            broad = light_reach(values["vsini"] / SPEED_OF_LIGHT, order.median_sigma)
            found.append(function(components, form, order.wavelength / shift, broad))
        return found

    def _lines_of_orders(self, values):
        """Each order with its window, and its lines as of `line_components`; None and None outside the band."""
        wavelength = np.asarray(self._generator.wavelength_)
        change = None if self._changes is None else partial(self._changes.apply, values=values)
        labels = [values[name] for name in self._generator.label_names_]
        speed = values["vsini"] + sum(stage.margin(values) for stage in self._stages)
        for order in self._orders(values):
            window = _window(wavelength, order, values["rv"], speed)
            lines = None if window is None else self._generator.line_components(labels, window[1], change=change)
            yield order, window, lines

    def generator_pixels(self, values):
        """Index of the generator's pixel nearest to each pixel of the spectrograph.

        Parameters
        ----------
        values : dict of str to float
            As in `flux`.

        Returns
        -------
        pixels : list of ndarray of shape (n_pixels,), int
            Indices for each order.
        """
        return _nearest_pixels(self._generator, self._observation, values["rv"])

    def _orders(self, values):
        """Orders with the line spread and the wavelengths at these values."""
        orders = self._observation.orders
        if self._is_exact:
            return orders
        shifts, factors = [0.0] * len(orders), [values.get(FACTOR, 1.0)] * len(orders)
        if self._order_shifts is not None:
            shifts = [values[parameter.name] for parameter in self._order_shifts]
        if self._order_factors is not None:
            factors = [factors[0] * values[parameter.name] for parameter in self._order_factors]
        rows = zip(orders, factors, shifts, strict=True)
        return [order.at(factor, values, doppler_shift(1.0, shift)) for order, factor, shift in rows]

    def _evaluate(self, values, *, tangents):
        if self._watch is not None:
            self._watch()
        rv = _check("rv", values["rv"], -3e4, 3e4)
        vsini = _check("vsini", values["vsini"], 0.0, 3e3)
        if tangents:
            vsini = max(vsini, _SLOWEST)
        wavelength = np.asarray(self._generator.wavelength_)
        whole = self._orders(values)
        cuts = [_cut(len(order.wavelength)) for order in whole]
        runs = [(i, span) for i, spans in enumerate(cuts) for span in spans]
        orders = [whole[i].part(span) for i, span in runs]
        margin = sum(stage.margin(values) for stage in self._stages)
        windows = [_window(wavelength, order, rv, vsini + margin) for order in orders]
        _require_overlap(wavelength, self._observation.orders, windows, rv)
        rendered = self._render(values, windows, tangents)
        parts = []
        for (number, _), order, window in zip(runs, orders, windows, strict=True):
            own = None if window is None else next(run for run in reversed(rendered) if run[0] <= window[1].start)
            parts.append(self._observe(values, number, order, window, own, rv, vsini, margin, tangents))
        ends = np.cumsum([0, *map(len, cuts)])
        return [_join(parts[a:b]) if b - a > 1 else parts[a] for a, b in pairwise(ends)]

    def _render(self, values, windows, tangents):
        """Flux and its derivatives by the labels in the windows, overlapping ones joined: (first pixel, rows)."""
        runs = []
        for start, stop in sorted((window[1].start, window[1].stop) for window in windows if window is not None):
            if runs and start <= runs[-1][1]:
                runs[-1][1] = max(stop, runs[-1][1])
            else:
                runs.append([start, stop])
        return [(first, self._rendered(values, slice(first, last), tangents)) for first, last in runs]

    def _rendered(self, values, pixels, tangents):
        return _rendered(self._generator, values, pixels, tangents, self._changes)

    def _observe(self, values, number, order, window, run, rv, vsini, margin, tangents):
        """One run of pixels of an order, as Rows."""
        names = [*self._before, *self._more, "line_variance"] if self._stages else self._of_star
        names = [*names, "shift", *([] if self._stages else ["by_vsini"]), "ln_resolving_power", *self._shapes]
        table = np.full((1 + len(names) if tangents else 1, len(order.wavelength)), np.nan)
        power, spread, edges = order.resolving_power, None, order.edges
        matrix = power if isinstance(power, ResolutionMatrix) else None
        if window is not None:
            (good, pixels), (first, part) = window, run
            shift = doppler_shift(1.0, rv)

            def between(x, rows):
                return self._through_stages(values, np.exp(x) * shift, rows, rv)

            if matrix is not None:
                edges = matrix.part(good).edges / shift
            else:
                edges = order.edges[good.start : good.stop + 1] / shift
                if isinstance(power, LineSpread):
                    spread = power.part(good).broadening(np.log((edges[1:] + edges[:-1]) / 2), shift)
            gaussian = power is not None and not isinstance(power, LineSpread)
            rows = observe_rows(
                np.asarray(self._generator.wavelength_)[pixels],
                part[:, pixels.start - first : pixels.stop - first],
                edges,
                vsini=vsini / SPEED_OF_LIGHT,
                limb_darkening=self._limb_darkening,
                sigma=None if not gaussian else order.sigma if np.ndim(order.sigma) == 0 else order.sigma[good],
                spread=spread,
                derivatives=tangents,
                between=between if self._stages else None,
                max_step=self._max_step,
                margin=margin / SPEED_OF_LIGHT,
            )
            table[: len(rows), good] = rows if matrix is None else matrix.part(good).apply(rows)
            table[len(rows) :, good] = 0.0
        if not tangents:
            return Rows(order.wavelength, table[0])
        named = dict(zip(names, table[1:], strict=True))
        by_shift, by_power = named.pop("shift"), named.pop("ln_resolving_power")
        by_vsini, by_variance = named.pop("by_vsini", None), named.pop("line_variance", None)
        if spread is not None:
            own = [parameter.name for parameter in power.parameters]
            shapes = dict(zip(own, table[len(table) - len(self._shapes) :], strict=False))
            named |= {name: shapes.get(name, np.zeros(len(order.wavelength))) for name in self._shapes}
        if by_variance is None:
            if power is not None and matrix is None and np.min(order.sigma) > 0:
                by_variance = -by_power / (2 * order.sigma**2)
            else:
                by_variance = by_vsini / (2 * _ROTATION * vsini) * SPEED_OF_LIGHT
            named |= {"rv": by_shift / (SPEED_OF_LIGHT + rv), "vsini": by_vsini / SPEED_OF_LIGHT}
        if matrix is not None:  # as if the matrix were a Gaussian, to test its width
            by_power = -2 * order.sigma**2 * by_variance
        if order.own_power is not None and power is not None:
            # of the whole line spread, not of the part that the generator's spectra lack
            by_power = -2 * line_spread_sigma(power) ** 2 * by_variance
        if FACTOR in values and self._power_error is not None:
            named[FACTOR] = by_power / values[FACTOR]
        if self._order_shifts is not None or self._order_factors is not None:
            nothing = np.zeros(len(order.wavelength))
            named |= {parameter.name: nothing for parameter in self.parameters if parameter.name not in named}
        if self._order_shifts is not None:
            name = self._order_shifts[number].name
            named[name] = by_shift / (SPEED_OF_LIGHT + values[name])
        if self._order_factors is not None:
            name = self._order_factors[number].name
            named[name] = by_power / values[name]
        modes = {name: named[name] for name in self._generator.label_names_}
        modes |= {"ln_wavelength": named["rv"] * (SPEED_OF_LIGHT + rv), "line_variance": by_variance}
        return Rows(order.wavelength, table[0], named | {"ln_resolving_power": by_power}, modes)

    def _through_stages(self, values, wavelength, table, rv):
        """Apply all stages to the rows; returns flux, tangents of each parameter, and line variance."""
        tangents, modes = {}, {}
        if len(table) > 1:
            tangents = dict(zip(self._of_star, table[1:], strict=False))
            tangents |= {"rv": table[-3] / (SPEED_OF_LIGHT + rv), "vsini": table[-2] / SPEED_OF_LIGHT}
            modes = {"line_variance": table[-1]}
        rows = Rows(wavelength, table[0], tangents, modes)
        for stage in self._stages:
            rows = _checked_rows(stage, rows, stage.apply(rows, values))
        if not tangents:
            return rows.flux[None]
        missing = [name for name in self._before if name not in rows.tangents]
        if missing:
            raise ValueError(
                f"The stages declare {', '.join(missing)} without a derivative. Pass it to `Rows.through`."
            )
        named = (rows.tangents[name] for name in (*self._before, *self._more))
        return np.stack([rows.flux, *named, rows.modes["line_variance"]])


class RestChain:
    """The forward model of a star at rest on the generator's own pixels: no rotation, velocity or line spread.

    `runs` are slices of pixels, each an order; None: one order with all pixels. `parameters` are the labels.
    """

    def __init__(self, generator, runs=None):
        self._generator = generator
        self._runs = [slice(0, len(generator.wavelength_))] if runs is None else list(runs)
        self.parameters = label_parameters(generator.label_names_, generator.interpolator_.bounds_)

    def part(self, runs):
        """Restrict the model to some runs of pixels, as `ForwardChain.part`."""
        starts = [self._runs[i].start for i, _ in runs]
        spans = [slice(start + span.start, start + span.stop) for start, (_, span) in zip(starts, runs, strict=True)]
        return RestChain(self._generator, spans)

    def flux(self, values):
        """Evaluate the model, as `ForwardChain.flux`."""
        return [_rendered(self._generator, values, run, tangents=False)[0] for run in self._runs]

    def evaluate(self, values):
        """Evaluate the model and its derivatives, as `ForwardChain.evaluate`."""
        names, orders = self._generator.label_names_, []
        for run in self._runs:
            table = _rendered(self._generator, values, run, tangents=True)
            nothing = np.zeros(table.shape[1])
            tangents = dict(zip(names, table[1:], strict=True))
            modes = tangents | dict.fromkeys(ERROR_DIRECTIONS, nothing)
            rows = Rows(self._generator.wavelength_[run], table[0], tangents | {"ln_resolving_power": nothing}, modes)
            orders.append(rows)
        return orders

    def generator_pixels(self, values):
        """Pixels of the generator, as `ForwardChain.generator_pixels`."""
        return [np.arange(run.start, run.stop) for run in self._runs]


def _own_power(generator):
    """Resolving power that the spectra of a generator have, or None."""
    return getattr(generator, "resolving_power", None)


def _refuse_sharp_stages(generator, stages):
    """Raise ValueError if a stage needs light before the line spread, and the generator's is after it."""
    sharp = [type(stage).__name__ for stage in stages if stage.before_line_spread]
    if sharp and _own_power(generator) is not None:
        raise ValueError(
            f"{sharp[0]} acts on the light before the line spread, but the spectra of this generator are broadened to "
            f"a resolving power of {_own_power(generator):g} already. Use a generator built without --resolving-power, "
            "or mask or divide by the transmission."
        )


def _refuse_free_power(generator, resolving_power_error, order_factors):
    """Raise ValueError if the resolving power is free, which may then exceed that of the generator's spectra."""
    if (resolving_power_error is None and order_factors is None) or _own_power(generator) is None:
        return
    given = "`resolving_power_scatter` is given"
    if resolving_power_error is not None:
        given = f"`resolving_power_error` is {resolving_power_error}"
    raise ValueError(
        f"{given}, but the spectra of this generator are broadened to a resolving power of {_own_power(generator):g}, "
        "which a free one may exceed. Use a generator built without --resolving-power, or leave it out."
    )


def _rendered(generator, values, pixels, tangents, changes=None):
    """Rows of a generator, all finite: from here on, NaN means that light from outside the band is needed."""
    labels = [values[name] for name in generator.label_names_]
    change = None if changes is None else partial(changes.apply, values=values)
    rows = generator.render_rows(labels, pixels, tangents=tangents, change=change)
    bad = ~np.isfinite(rows)
    if bad.any():
        row, pixel = np.argwhere(bad)[0]
        names = (*generator.label_names_, *(() if changes is None else changes.names))
        what = "flux" if row == 0 else f"derivative by {names[row - 1]}"
        node = ", ".join(f"{name} {value:g}" for name, value in zip(generator.label_names_, labels, strict=True))
        raise ValueError(
            f"The {what} of the generator is not finite in {bad[row].sum()} of {rows.shape[1]} pixels at {node}, the "
            f"first at {generator.wavelength_[pixels.start + pixel]:.2f} angstrom. A line of a node there has not been "
            "fitted well, or the grid has a fault: check the spectra around these labels, and build the generator "
            "again."
        )
    return rows


def _checked_rows(stage, before, rows):
    """Rows that a stage returned, after a check of their wavelengths: a shift of a pixel would change the velocity."""
    name, shape = type(stage).__name__, before.flux.shape
    if not isinstance(rows, Rows):
        raise ValueError(f"{name}.apply returned a {type(rows).__name__}; it needs Rows, such as from `Rows.through`.")
    parts = {"wavelength": rows.wavelength, "flux": rows.flux, **rows.tangents, **rows.modes}
    wrong = [key for key, row in parts.items() if np.shape(row) != shape]
    wrong += [key for key in before.modes if key not in rows.modes]
    if wrong or not np.array_equal(rows.wavelength, before.wavelength):
        raise ValueError(
            f"{name}.apply returned rows that do not match: {', '.join(wrong) or 'wavelength'}. They need the "
            f"{shape[0]} wavelengths that the stage was given; use `Rows.through`."
        )
    if not np.isfinite(rows.flux[np.isfinite(before.flux)]).all():
        raise ValueError(f"{name}.apply returned fluxes that are not finite. Bound its parameters.")
    return rows


def _check(name, value, low, high, unit=" km/s"):
    """A number within its range."""
    if np.ndim(value) or not low <= value <= high:
        raise ValueError(f"`{name}` is {value}; it needs one number from {low:g} to {high:g}{unit}.")
    return float(value)


def _cut(n_pixels):
    """Slices of the pixels of an order, each at most `_LONGEST` pixels long."""
    ends = np.linspace(0, n_pixels, -(-n_pixels // _LONGEST) + 1).astype(int)
    return [slice(*pair) for pair in pairwise(ends.tolist())]


def _window(wavelength, order, rv, speed):
    """Slices of the order's pixels within the band and of the generator's pixels they need, or None."""
    reach = np.exp(speed / SPEED_OF_LIGHT + np.broadcast_to(order.reach, order.wavelength.shape))
    rest = order.edges / doppler_shift(1.0, rv)
    good = np.flatnonzero((rest[:-1] / reach >= wavelength[1]) & (rest[1:] * reach <= wavelength[-2]))
    if not len(good):
        return None
    good = slice(good[0], good[-1] + 1)
    first, last = np.searchsorted(
        wavelength, [rest[good.start] / reach[good].max(), rest[good.stop] * reach[good].max()]
    )
    start, stop = (first - _MARGIN) // _GRAIN * _GRAIN, -(-(last + _MARGIN) // _GRAIN) * _GRAIN
    return good, slice(max(start, 0), min(stop, len(wavelength)))


def _nearest_pixels(generator, observation, rv):
    """Index of a generator's pixel, at a velocity, nearest to each pixel of the orders: int arrays (n_pixels,)."""
    wavelength, shift, found = np.asarray(generator.wavelength_), doppler_shift(1.0, rv), []
    for order in observation.orders:
        rest = order.wavelength / shift
        above = np.clip(np.searchsorted(wavelength, rest), 1, len(wavelength) - 1)
        middle = (wavelength[above] + wavelength[above - 1]) / 2
        found.append(above - (rest <= middle))
    return found


def _line_spreads(observation):
    """Line-spread functions of an observation that are not Gaussian."""
    return [order.resolving_power for order in observation.orders if isinstance(order.resolving_power, LineSpread)]


def _join(parts):
    """Concatenate the rows of the parts of a long order."""
    return Rows(
        np.concatenate([part.wavelength for part in parts]),
        np.concatenate([part.flux for part in parts]),
        {name: np.concatenate([part.tangents[name] for part in parts]) for name in parts[0].tangents},
        {name: np.concatenate([part.modes[name] for part in parts]) for name in parts[0].modes},
    )


def _require_overlap(wavelength, orders, windows, rv):
    if wavelength[0] <= 0 or len(wavelength) < 2 * _MARGIN:
        raise ValueError(
            f"The generator has {len(wavelength)} pixels, the first at {wavelength[0]:g}; the forward model needs "
            f"wavelengths in angstrom, and {2 * _MARGIN} pixels at least. Fit it with `wavelength`."
        )
    if any(windows):
        return
    low, high = min(order.edges[0] for order in orders), max(order.edges[-1] for order in orders)
    band = doppler_shift(wavelength[[0, -1]], rv)
    raise WavelengthCoverageError(
        f"The pixels lie from {low:.2f} to {high:.2f} angstrom, and the generator covers {band[0]:.2f} to "
        f"{band[1]:.2f} (shifted by `rv`), less a margin for rotation and line spread at both ends: no pixel is "
        "left. Check that the wavelengths are in vacuum angstrom, or build a generator for this range."
    )
