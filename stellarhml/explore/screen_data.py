"""What a screen shows of a generator: the pixels of a window, thinned to its columns, and the lines in it."""

from typing import NamedTuple

import numpy as np

from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.forward.observation import Observation, observe
from stellarhml.physics.wavelength import doppler_shift
from stellarhml.synthesis.evaluation import expected_error, generate
from stellarhml.synthesis.line_values import QUANTITIES


class View(NamedTuple):
    """A spectrum as it is drawn; all arrays have shape (n_points,).

    Attributes
    ----------
    wavelength : ndarray
        Observed vacuum wavelengths, in angstrom.
    flux : ndarray
        Fluxes of pixels: of all pixels, or of the lowest and the highest of each run of pixels.
    lower, upper : ndarray
        The band of the generator's own error, over a run its lowest and highest values; NaN where it is not known.
    n_pixels, n_blank, run : int
        Pixels in the window, those of them that need light from beyond the generator's band and have no flux, and how
        many stand in one run (1: all are drawn).
    outside : bool
        Whether the labels lie outside the grid, and its nearest point is drawn.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    n_pixels: int
    n_blank: int
    run: int
    outside: bool


class ViewLines(NamedTuple):
    """Lines whose centers lie in a window, by wavelength; all arrays have shape (n_lines,).

    Attributes
    ----------
    index : ndarray of int
        Numbers in the catalogue.
    name : ndarray
        Wavelengths in angstrom by which the lines are known.
    center, depth : ndarray
        Observed wavelengths of the centers, in angstrom, and depths in units of the continuum.
    """

    index: np.ndarray
    name: np.ndarray
    center: np.ndarray
    depth: np.ndarray


def view_spectrum(generator, labels, window, *, rv=0.0, vsini=0.0, resolving_power=None, n_columns=None):
    """Generate the part of a spectrum that lies in a window, on the generator's own pixels as the star moves them.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    labels : array-like of shape (n_labels,)
        Labels; outside the grid its nearest point is taken.
    window : tuple of (float, float)
        Observed wavelengths between which to look, in angstrom.
    rv, vsini : float, default=0.0
        Radial velocity and projected rotational velocity, in km/s.
    resolving_power : float, default=None
        Wavelength over the full width at half maximum of the line spread. None: as sharp as the generator.
    n_columns : int, default=None
        Columns of the screen. More than two pixels to each are thinned, see `thin_pixels`. None keeps all.

    Returns
    -------
    view : View
        Without broadening what `predict` gives on these pixels, otherwise what `observe` does.

    Examples
    --------
    >>> from stellarhml import SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> from stellarhml.explore.screen_data import view_spectrum
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    >>> view = view_spectrum(generator, [5300.0, 3.8, -0.2], (8505.0, 8515.0), rv=30.0, n_columns=20)
    >>> view.n_pixels, view.run, len(view.flux)
    (200, 11, 38)
    """
    shift = doppler_shift(1.0, rv)
    pixels = _pixels_of(generator, window, shift)
    rest = np.asarray(generator.wavelength_)[pixels]
    X = np.reshape(np.asarray(labels, dtype=np.float64), (1, -1))
    weights, outside = generator.interpolator_.locate(X)
    known = generator.error_map_ is not None
    if resolving_power is None and not vsini:
        flux, *std = (part[0] for part in generate(generator, X, weights, pixels, None, known))
    else:
        flux = _broadened(generator, X[0], rest * shift, resolving_power, rv, vsini)
        std = [expected_error(generator, X, pixels)[0]] if known else []
    ends = np.divide(window, shift)
    inside = flux[np.searchsorted(rest, ends[0]) : np.searchsorted(rest, ends[1], side="right")]
    n_pixels, n_blank = len(inside), int(np.isnan(inside).sum())
    shown, run = thin_pixels(flux, n_columns)
    # a whole band is long, and new arrays of its length take as much time as what is put into them
    ends = [flux - std[0], np.add(flux, std[0], out=std[0])] if std else np.full((2, len(flux)), np.nan)
    if run > 1:
        starts = np.arange(0, len(flux), run)
        ends = [far.reduceat(part, starts) for far, part in zip((np.fmin, np.fmax), ends, strict=True)]
    lower, upper = (part[shown // run] for part in ends)
    return View(rest[shown] * shift, flux[shown], lower, upper, n_pixels, n_blank, run, bool(outside[0]))


def thin_pixels(flux, n_columns):
    """Choose the pixels that a screen can tell apart, so that no line and no peak is lost.

    Parameters
    ----------
    flux : ndarray of shape (n_pixels,)
        Fluxes; those that are not finite are chosen only where there is nothing else.
    n_columns : int or None
        Columns of the screen. None keeps all pixels.

    Returns
    -------
    shown : ndarray of int
        Indices of pixels, increasing: all, or of each run of pixels the lowest and the highest.
    run : int
        Number of pixels in a run.
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


def view_lines(generator, labels, window, *, rv=0.0, n_lines=None):
    """List the lines in a window.

    Parameters
    ----------
    generator, labels, window, rv : object
        As in `view_spectrum`.
    n_lines : int, default=None
        How many of the deepest to list. None: all.

    Returns
    -------
    lines : ViewLines
        The lines, by wavelength.
    """
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
    return ViewLines(index[chosen], name, center[chosen], depth[chosen])


def line_at(lines, wavelength, reach):
    """Find the line that was meant: the deepest nearby, or else the nearest.

    Parameters
    ----------
    lines : ViewLines
        Lines, one at least.
    wavelength : float
        Where to look, in angstrom.
    reach : float
        What counts as nearby, in angstrom.

    Returns
    -------
    place : int
        Place in `lines`.
    """
    away = np.abs(lines.center - wavelength)
    near = np.flatnonzero(away <= reach)
    return int(near[lines.depth[near].argmax()] if len(near) else away.argmin())


def spread_names(lines, width, window):
    """Choose lines to name, the deepest first, so that no two names meet and none is cut off.

    Parameters
    ----------
    lines : ViewLines
        Lines.
    width : float
        Space that a name takes, in angstrom.
    window : tuple of (float, float)
        Where there is space, in angstrom.

    Returns
    -------
    chosen : ndarray of int
        Places in `lines`, increasing; none of less than a tenth of the largest depth.
    """
    chosen = []
    for place in np.argsort(-lines.depth, kind="stable"):
        x = lines.center[place]
        inside = window[0] + width / 2 <= x <= window[1] - width / 2
        if lines.depth[place] < 0.1 * lines.depth.max():
            break
        if inside and all(abs(x - lines.center[other]) >= width for other in chosen):
            chosen.append(place)
    return np.sort(np.array(chosen, dtype=int))


def _pixels_of(generator, window, shift):
    """Pixels that a window shows, with a neighbour to each side, as a slice."""
    wavelength = generator.wavelength_
    first, last = np.searchsorted(wavelength, [window[0] / shift, window[1] / shift])
    return slice(max(int(first) - 1, 0), min(int(last) + 1, len(wavelength)))


def _broadened(generator, labels, wavelength, resolving_power, rv, vsini):
    """Fluxes of pixels; NaN where light from beyond the band is needed."""
    if len(wavelength) < 2:
        return np.full(len(wavelength), np.nan)
    observation = Observation(wavelength, resolving_power=resolving_power)
    try:
        return observe(generator, labels, observation, rv=rv, vsini=vsini, nearest=True)[0]
    except WavelengthCoverageError:
        return np.full(len(wavelength), np.nan)
