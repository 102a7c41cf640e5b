"""The numbers on a page: the pixels of a window, thinned to the columns of the screen, and its lines."""

from typing import NamedTuple

import numpy as np

from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation
from stellarhml.physics.wavelength import doppler_shift
from stellarhml.synthesis.evaluation import expected_error, generate
from stellarhml.synthesis.line_table import slope_of, tag_columns
from stellarhml.synthesis.line_values import QUANTITIES, line_values


class ScreenSpectrum(NamedTuple):
    """A model spectrum as it is drawn: `wavelength` [angstrom, observed] and `flux`, shape (n_points,).

    Points are all pixels (`run` is 1), or the lowest and the highest of each run of pixels. `lower` and `upper` are the
    flux less and plus the generator's own error, in a run the lowest and the highest; NaN if it is unknown. `n_blank`
    of the `n_pixels` in the window have no flux, because they need light from outside the band. `outside`: the labels
    lie outside the grid and were moved to its nearest point.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    n_pixels: int
    n_blank: int
    run: int
    outside: bool


class ScreenLines(NamedTuple):
    """Lines with centers in a window, in order of wavelength; all arrays have shape (n_lines,).

    `index` in the catalogue and `name`, the wavelength there; observed `center` [angstrom] and `depth` of the line in
    units of the continuum; `species`, "" where it is not known.
    """

    index: np.ndarray
    name: np.ndarray
    center: np.ndarray
    depth: np.ndarray
    species: np.ndarray


class LineResponse(NamedTuple):
    """One line at given labels, and how it changes with each label.

    `name` is its catalogue wavelength [angstrom]; `values` are its parameters, `depth`, `equivalent_width` [angstrom]
    and `saturation`, empty if the line is absent; `tag` has its `species`, the `share` of that in the line, and
    `excitation` [eV] and `log_gf` of its strongest transition, empty if it is not tagged. By label: `slopes`, the
    derivatives of `equivalent_width` and of `depth` per unit; and `curves`, values over its range in the grid and
    equivalent widths there, all other labels as given. `corrections` has what a calibration changed, by kind: value and
    standard deviation, in dex for "strength" and "wing", km/s for "velocity" and percent for "width".
    """

    name: float
    values: dict
    tag: dict
    slopes: dict
    curves: dict
    corrections: dict

    def scaled_curves(self, labels):
        """Curves of the labels that vary, on one scale: by label, (fractions, equivalent widths, current fraction).

        Fractions of the label's range go from 0 to 1; equivalent widths are in mÅ; `labels` are the current values by
        name.
        """
        varying = {name: curve for name, curve in self.curves.items() if curve[0][-1] > curve[0][0]}
        return {
            name: ((x - x[0]) / np.ptp(x), 1e3 * widths, float((labels[name] - x[0]) / np.ptp(x)))
            for name, (x, widths) in varying.items()
        }


def spectrum_in_window(
    generator,
    labels,
    window,
    *,
    rv=0.0,
    vsini=0.0,
    resolving_power=None,
    stages=(),
    effects=None,
    n_columns=None,
):
    """ScreenSpectrum in a `window` of observed wavelengths [angstrom], on the generator's own shifted pixels.

    `rv` and `vsini` [km/s]; `resolving_power` None is the generator's own resolution, as is a higher one. Labels
    outside the grid are moved to its nearest point. `stages` are those of the forward model, and `effects` has the
    values of their parameters. Fluxes are those of `predict` without broadening and stages, else those of `observe`.
    More than two pixels for each of `n_columns` are thinned, see `thin_pixels`; None keeps all.

    Examples
    --------
    >>> from stellarhml import SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> from stellarhml.explore.screen_data import spectrum_in_window
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    >>> seen = spectrum_in_window(generator, [5300.0, 3.8, -0.2], (8505.0, 8515.0), rv=30.0, n_columns=20)
    >>> seen.n_pixels, seen.run, len(seen.flux)
    (200, 11, 38)
    """
    shift = doppler_shift(1.0, rv)
    pixels = _pixels_of(generator, window, shift)
    rest = np.asarray(generator.wavelength_)[pixels]
    resolving_power = power_shown(generator, resolving_power)
    X = np.reshape(np.asarray(labels, dtype=np.float64), (1, -1))
    weights, outside = generator.interpolator_.locate(X)
    has_error = generator.error_map_ is not None
    if resolving_power is None and not vsini and not stages:
        flux, *std = (part[0] for part in generate(generator, X, weights, pixels, None, has_error))
    else:
        motion = {"rv": rv, "vsini": vsini} | (effects or {})
        flux = _broadened(generator, X[0], rest * shift, resolving_power, motion, stages)
        std = [expected_error(generator, X, pixels)[0]] if has_error else []
    ends = np.divide(window, shift)
    inside = flux[np.searchsorted(rest, ends[0]) : np.searchsorted(rest, ends[1], side="right")]
    n_pixels, n_blank = len(inside), int(np.isnan(inside).sum())
    shown, run = thin_pixels(flux, n_columns)
    # in place: for a whole band, new arrays take as long as the arithmetic
    ends = [flux - std[0], np.add(flux, std[0], out=std[0])] if std else np.full((2, len(flux)), np.nan)
    if run > 1:
        starts = np.arange(0, len(flux), run)
        ends = [far.reduceat(part, starts) for far, part in zip((np.fmin, np.fmax), ends, strict=True)]
    lower, upper = (part[shown // run] for part in ends)
    return ScreenSpectrum(rest[shown] * shift, flux[shown], lower, upper, n_pixels, n_blank, run, bool(outside[0]))


def thin_pixels(flux, n_columns):
    """Choose the pixels of `flux` (n_pixels,) to draw, so that no line and no peak is lost.

    Returns their increasing indices (all, or the lowest and the highest of each run of pixels) and the number of pixels
    in a run. A flux that is not finite is chosen only if its whole run is not. `n_columns` None keeps all pixels.
    """
    n = len(flux)
    if n_columns is None or n <= 2 * n_columns:
        return np.arange(n), 1
    run = -(-n // n_columns)
    whole = n // run * run
    pieces = [(0, flux[:whole].reshape(-1, run))] + ([(whole, flux[None, whole:])] if whole < n else [])
    shown = []
    for first, rows in pieces:
        low = high = rows
        if np.isnan(rows.sum()):
            low, high = (np.where(np.isnan(rows), far, rows) for far in (np.inf, -np.inf))
        place = first + run * np.arange(len(rows))
        shown += [place + low.argmin(axis=1), place + high.argmax(axis=1)]
    return np.unique(np.concatenate(shown)), run


def lines_in_window(generator, labels, window, *, rv=0.0, n_lines=None):
    """ScreenLines of a window, the deepest `n_lines` or all; other arguments as in `spectrum_in_window`."""
    shift = doppler_shift(1.0, rv)
    weights, _ = generator.interpolator_.locate(np.reshape(np.asarray(labels, dtype=np.float64), (1, -1)))
    index, theta, _ = generator.lines_.lines(weights, pixels=_pixels_of(generator, window, shift))
    center = theta[:, 0] * shift
    inside = (center >= window[0]) & (center <= window[1])
    index, theta, center = index[inside], theta[inside], center[inside]
    depth = QUANTITIES["depth"](theta, generator.decomposer_.profile)
    chosen = np.argsort(-depth, kind="stable")[:n_lines]
    chosen = chosen[np.argsort(center[chosen], kind="stable")]
    name = np.asarray(generator.decomposer_.line_catalog_)[index[chosen]]
    species = tag_columns(generator, index[chosen]).get("species", np.full(len(chosen), ""))
    return ScreenLines(index[chosen], name, center[chosen], depth[chosen], species)


def line_at(lines, wavelength, reach):
    """Position in `lines` of the line that was clicked: the deepest within `reach` [angstrom], or else the nearest.

    There must be at least one line.
    """
    distance = np.abs(lines.center - wavelength)
    near = np.flatnonzero(distance <= reach)
    return int(near[lines.depth[near].argmax()] if len(near) else distance.argmin())


def lines_to_name(lines, width, window):
    """Choose lines to name, the deepest first, so that names do not overlap and none is cut off.

    Returns increasing positions in `lines`. `width` of a name and ends of the `window` are in angstrom. No line with
    less than a tenth of the largest depth is named.
    """
    chosen = []
    for k in np.argsort(-lines.depth, kind="stable"):
        x = lines.center[k]
        inside = window[0] + width / 2 <= x <= window[1] - width / 2
        if lines.depth[k] < 0.1 * lines.depth.max():
            break
        if inside and all(abs(x - lines.center[other]) >= width for other in chosen):
            chosen.append(k)
    return np.sort(np.array(chosen, dtype=int))


def line_response(generator, labels, index, *, n_points=25):
    """LineResponse of the line `index` in the catalogue, with `n_points` for each curve.

    Labels outside the grid are moved to its nearest point.
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
    tag = {name: column[0] for name, column in tag_columns(generator, [index]).items()}
    tag = tag if tag.get("species") else {}
    corrections = {}
    if generator.calibration_ is not None:
        units = {"strength": np.log(10), "wing": np.log(10), "width": 0.01}
        found = generator.calibration_.of_line(index)
        corrections = {kind: (x / units.get(kind, 1.0), std / units.get(kind, 1.0)) for kind, (x, std) in found.items()}
    return LineResponse(float(decomposer.line_catalog_[index]), values, tag, responses, curves, corrections)


def _pixels_of(generator, window, shift):
    """Pixels in a window and one neighbour on each side, as a slice."""
    wavelength = generator.wavelength_
    first, last = np.searchsorted(wavelength, [window[0] / shift, window[1] / shift])
    return slice(max(int(first) - 1, 0), min(int(last) + 1, len(wavelength)))


def power_shown(generator, resolving_power):
    """Resolving power of a picture: None, the generator's own, where that is not higher."""
    own = generator.resolving_power
    return None if None not in (own, resolving_power) and resolving_power >= own else resolving_power


def _broadened(generator, labels, wavelength, resolving_power, motion, stages):
    """Fluxes behind rotation, stages and line spread; NaN where light from beyond the band is needed."""
    if len(wavelength) < 2:
        return np.full(len(wavelength), np.nan)
    chain = ForwardChain(generator, Observation(wavelength, resolving_power=resolving_power), stages=stages)
    values = dict(zip(generator.label_names_, labels, strict=True)) | motion
    try:
        return chain.flux(values)[0]
    except WavelengthCoverageError:
        return np.full(len(wavelength), np.nan)
