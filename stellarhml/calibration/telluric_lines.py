"""Lines of the atmosphere from a transmission at the resolution of a spectrograph: optical depths that scale."""

from itertools import pairwise, product

import numpy as np
from scipy.special import voigt_profile

from stellarhml._units import plain_array
from stellarhml.forward.observation import Observation
from stellarhml.forward.tellurics import AMOUNT, RV_AIR, AirChain, Tellurics
from stellarhml.lines._voigt_line_decomposer import VoigtLineDecomposer
from stellarhml.physics.broadening import line_spread_sigma
from stellarhml.physics.wavelength import SPEED_OF_LIGHT
from stellarhml.spectra.atmosphere import Atmosphere

_THERMAL = 0.35  # km/s: sigma of water at 260 K
_SIGMAS, _GAMMAS = (0.35, 0.7, 1.2), (0.0, 0.4, 0.9, 1.8)  # km/s: widths of the lines of a gas that are tried
_STEP = 0.25  # km/s of the table
_DARK = 0.02  # transmission below which depths are not known
_FEW = 64  # pixels of a run that is decomposed
_GAP = 3.0  # median steps at which a run ends
_N_ROUNDS, _STRETCH = 12, 2.0  # rounds of corrections of the strengths, and the largest factor in one
_REACH = 300.0  # km/s at which wings are cut
_DEEPEST = 50.0  # optical depth
_STILL = {AMOUNT + "air": 1.0, RV_AIR.name: 0.0}


def resolve_tellurics(wavelength, transmissions, *, resolving_power, prominence=0.005, noise=0.003):
    r"""Turn a transmission that a spectrograph has convolved into lines of the atmosphere.

    Lines of each species are found and fitted by :class:`stellarhml.VoigtLineDecomposer`. The variances of line spread
    and pixels are subtracted from those of the Gaussian widths, down to that of the thermal motion of water; instead,
    all lines of a run of pixels share one width, where that describes the transmission better. The optical depths of
    the lines are corrected until the transmission, convolved again, is the given one at their centers. Unlike the given
    one it can be raised to the power of an amount before it is convolved.

    Parameters
    ----------
    wavelength : array-like of shape (n_pixels,)
        Vacuum wavelengths in angstrom, increasing, in the frame of the observatory. There may be gaps.
    transmissions : dict of str to array-like of shape (n_pixels,), or array-like of shape (n_pixels,)
        Transmission of each species, over the continuum, NaN where it is unknown; an array is that of "air": such as
        the spectrum of a telluric standard over its continuum.
    resolving_power : float
        Wavelength over the full width at half maximum of the line-spread function of the transmission.
    prominence : float, default=0.005
        Smallest prominence of a line, in units of the continuum: above the noise.
    noise : float, default=0.003
        Standard deviation of the transmission, see `VoigtLineDecomposer`.

    Returns
    -------
    atmosphere : Atmosphere
        Transmissions from lines alone, every 0.25 km/s; NaN where the given ones are not known, and where they are
        below 0.02 and tell no optical depth.

    Raises
    ------
    ValueError
        If shapes do not match, or no run of 64 pixels has light.

    Notes
    -----
    Where lines of a blend are not resolved, their sum is found with one amount alone: a blend of a weak and a saturated
    line, or of two species, does not scale as its parts.

    Examples
    --------
    >>> from stellarhml.calibration import resolve_tellurics
    >>> air = resolve_tellurics(wavelength, transmission, resolving_power=55_000)  # doctest: +SKIP
    >>> regressor.infer(star, resolving_power=55_000, tellurics=air)  # doctest: +SKIP
    """
    wavelength = plain_array(wavelength, "angstrom", "`wavelength`", spectral=True)
    columns = transmissions if isinstance(transmissions, dict) else {"air": transmissions}
    columns = {name: plain_array(column, "", f"The transmission of {name}") for name, column in columns.items()}
    for name, column in columns.items():
        if column.shape != wavelength.shape or wavelength.ndim != 1:
            raise ValueError(
                f"The transmission of {name} has the shape {column.shape} and `wavelength` {wavelength.shape}; they "
                "need one value for each pixel."
            )
    runs = _runs(wavelength, columns)
    step = _STEP / SPEED_OF_LIGHT
    n = int(np.log(wavelength[-1] / wavelength[0]) / step) + 1
    x = np.log(wavelength[0]) + step * np.arange(n)
    known = np.zeros(n, dtype=bool)
    for run in runs:
        known |= (x >= np.log(wavelength[run.start])) & (x <= np.log(wavelength[run.stop - 1]))
    table = {}
    for name, column in columns.items():
        depth = np.zeros(n)
        for run in runs:
            depth += _depth_of_run(x, wavelength[run], column[run], resolving_power, prominence, noise)
        table[name] = np.where(known, np.exp(-depth), np.nan)
    return Atmosphere(np.exp(x), table)


def _runs(wavelength, columns):
    """Runs of pixels (slices) with light, and without gaps."""
    known = np.isfinite(wavelength) & np.all([column > _DARK for column in columns.values()], axis=0)
    steps = np.diff(wavelength)
    # a line that is dark at its center alone belongs to its run: its wings tell its depth
    kept = known.copy()
    for first, last in _stretches(~known):
        if first > 0 and last < len(known) and wavelength[last] - wavelength[first - 1] < 20 * np.median(steps):
            kept[first:last] = np.all([np.isfinite(column[first:last]) for column in columns.values()], axis=0)
    breaks = np.flatnonzero(steps > _GAP * np.median(steps)) + 1
    runs = []
    for first, last in _stretches(kept):
        inner = breaks[(breaks > first) & (breaks < last)]
        ends = [first, *inner.tolist(), last]
        runs += [slice(a, b) for a, b in pairwise(ends) if b - a >= _FEW]
    if not runs:
        raise ValueError(
            f"No run of {_FEW} pixels has a transmission above {_DARK:g}. Give a wider range, or one between the bands."
        )
    return runs


def _stretches(mask):
    """Pairs of the first index and the one after the last of each stretch of a mask."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _depth_of_run(x, wavelength, transmission, resolving_power, prominence, noise):
    """Optical depths at ln wavelengths `x` from the lines of one run of pixels."""
    flux = np.clip(transmission, 1e-3, None)[None]
    decomposer = VoigtLineDecomposer(
        wavelength=wavelength, profile="saturated-voigt", prominence=prominence, noise=noise, distance=2, verbose=False
    )
    theta = decomposer.set_params(sparse_output=False).fit(flux).transform(flux).reshape(-1, 5)
    theta = theta[np.isfinite(theta[:, 0])]
    depth = np.zeros(len(x))
    if not len(theta):
        return depth
    center = theta[:, 0]
    peak, sigma, gamma = np.exp(theta[:, 1:4]).T / np.array([np.ones_like(center), center, center])
    strength = peak / (1 + np.exp(-theta[:, 4]))
    pixel = np.median(np.diff(np.log(wavelength)))
    spread = line_spread_sigma(resolving_power) ** 2 + pixel**2 / 12
    own = np.sqrt(np.maximum(sigma**2 - spread, (_THERMAL / SPEED_OF_LIGHT) ** 2))
    fit = _Strengths(x, wavelength, transmission, resolving_power, np.log(center))
    start = strength * voigt_profile(0.0, own, gamma) / voigt_profile(0.0, sigma, gamma)
    found = [fit.run(start, own, gamma)]
    for pair in product(_SIGMAS, _GAMMAS):  # widths that all lines share, as those of one gas nearly do
        shared = [np.full(len(center), width / SPEED_OF_LIGHT) for width in pair]
        found.append(fit.run(start, *shared))
    return min(found, key=lambda pair: pair[0])[1]


class _Strengths:
    """Optical depths of lines of given widths, such that the convolved transmission is that of the pixels.

    `x` are ln wavelengths of the result, `lines` (n_lines,) those of the centers.
    """

    def __init__(self, x, wavelength, transmission, resolving_power, lines):
        reach = _REACH / SPEED_OF_LIGHT
        inside = (x > np.log(wavelength[0]) - 2 * reach) & (x < np.log(wavelength[-1]) + 2 * reach)
        self._part = slice(*(np.flatnonzero(inside)[[0, -1]] + [0, 1]))
        self._size, self._x, self._lines = len(x), x[self._part], lines
        self._observation = Observation(wavelength, resolving_power=resolving_power)
        self._transmission = transmission
        at = np.clip(np.searchsorted(np.log(wavelength), lines), 1, len(wavelength) - 1)
        self._at = at - (lines - np.log(wavelength[at - 1]) < np.log(wavelength[at]) - lines)
        self._wanted = -np.log(np.clip(transmission[self._at], _DARK, 1.0))

    def run(self, strength, sigma, gamma):
        """Residual rms, and optical depths at all `x`, from starting values and widths (n_lines,) in ln wavelength."""
        shapes = []
        for line, width, wing in zip(self._lines, sigma, gamma, strict=True):
            near = slice(*np.searchsorted(self._x, line + np.array([-1, 1]) * _REACH / SPEED_OF_LIGHT))
            shapes.append((near, voigt_profile(self._x[near] - line, width, wing) / voigt_profile(0.0, width, wing)))
        for _ in range(_N_ROUNDS):
            strength = np.clip(strength, 0.0, _DEEPEST)
            depth = np.zeros(len(self._x))
            for (near, shape), size in zip(shapes, strength, strict=True):
                depth[near] += size * shape
            (seen,) = AirChain(Tellurics(np.exp(self._x), np.exp(-depth)), self._observation).flux(_STILL)
            found = -np.log(np.clip(seen[self._at], _DARK, 1.0))
            strength = strength * np.clip((self._wanted + 1e-5) / (found + 1e-5), 1 / _STRETCH, _STRETCH)
        whole = np.zeros(self._size)
        whole[self._part] = depth
        return float(np.sqrt(np.mean((seen - self._transmission) ** 2))), whole
