r"""Rotation, line spread and integration over pixels, for a spectrum and its derivatives.

Rotation and line spread are convolutions in :math:`x = \ln \lambda` with analytic Fourier transforms: with
q = k v sin i / c,

.. math::
    \hat G(q) = \frac{2 (1 - \epsilon) J_1(q) / q + 2 \epsilon\, j_1(q) / q}{1 - \epsilon / 3}, \quad
    \hat L(k) = e^{-k^2 \sigma^2 / 2},

so that only the spectrum is sampled, widths may go to zero, and derivatives with respect to the widths are transforms
too. For a line-spread function whose width changes with wavelength, a polynomial in :math:`\sigma^2` interpolates
between spectra of a few widths.

The spectrum is interpolated to a uniform grid, and from there to the pixels, by polynomials through eight points: a
Gaussian line of sigma 3 pixels is then accurate to 1.2e-5 of its depth, with a cubic to 8e-4.
"""

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import j0, j1

from stellarhml.kernels.forms import compiled

POINTS = 8
"""Points of an interpolating polynomial."""

_MIDDLE = 3  # the polynomial is used between its points 3 and 4, except at the ends
# value of the polynomial at tau: sum over m of tau^m (_POWERS[m] @ values), tau = 0 at point 3; its integral from 0
_POWERS = np.linalg.inv(np.vander(np.arange(POINTS) - float(_MIDDLE), increasing=True))
_POWERS = np.hstack([_POWERS, _POWERS / np.arange(1, POINTS + 1)[:, None]])
_BARYCENTRIC = np.array([-1.0, 7.0, -21.0, 35.0, -35.0, 21.0, -7.0, 1.0]) / 5040


def resample_rows(x, rows, at):
    """Interpolate rows (m, n) by the polynomial through the eight nearest points, four on each side if possible.

    `x` (n,) increases strictly, by eight points or more of any spacing; `at` (p,) increases and lies within `x`. Result
    (m, p).
    """
    values = np.empty((len(rows), len(at)))
    x, rows, at = (np.require(part, np.float64, ["C", "W"]) for part in (x, rows, at))
    _resample(x, rows, at, values, _BARYCENTRIC)
    return values


def integrate_pixels(rows, position):
    """Integrate rows (m, n), at the points 0, 1, ..., n - 1 (eight at least), between neighbouring edges.

    `position` (p + 1,) are increasing edges in units of the step, from 0 to n - 1. Returns the integrals (m, p), in
    units of the step, of the polynomials through the eight nearest points, and the values at the edges (m, p + 1): the
    derivatives of the integrals.
    """
    rows, position = (np.require(part, np.float64, ["C", "W"]) for part in (rows, position))
    integral, value = np.empty((len(rows), len(position) - 1)), np.empty((len(rows), len(position)))
    _integrate(rows, position, _POWERS, integral, value)
    return integral, value


@compiled
def _resample(x, rows, at, values, barycentric):
    n, last = len(x), -1
    weight, below, base = np.empty(POINTS), np.empty(POINTS), np.empty(POINTS)
    i = 0
    scale = 1.0
    for p in range(len(at)):
        while i < n - 2 and x[i + 1] <= at[p]:
            i += 1
        start = min(max(i - _MIDDLE, 0), n - POINTS)
        if start != last:
            last = start
            step = (x[start + POINTS - 1] - x[start]) / (POINTS - 1)
            even = True
            for j in range(1, POINTS - 1):
                even &= abs(x[start + j] - x[start] - j * step) < 1e-7 * step
            scale = 1 / step
            if even:
                for j in range(POINTS):
                    base[j] = barycentric[j]
            else:
                for j in range(POINTS):
                    product = 1.0
                    for k in range(POINTS):
                        if k != j:
                            product *= (x[start + j] - x[start + k]) * scale
                    base[j] = 1 / product
        product = 1.0
        for j in range(POINTS):
            below[j] = product
            product *= (at[p] - x[start + j]) * scale
        product = 1.0
        for j in range(POINTS - 1, -1, -1):
            weight[j] = base[j] * below[j] * product
            product *= (at[p] - x[start + j]) * scale
        for m in range(len(rows)):
            total = 0.0
            for j in range(POINTS):
                total += weight[j] * rows[m, start + j]
            values[m, p] = total


@compiled
def _integrate(rows, position, table, integral, value):
    n = rows.shape[1]
    inner, near, far = np.empty(2 * POINTS), np.zeros(2 * POINTS), np.empty(2 * POINTS)
    sums = np.zeros((len(rows), n))
    _weights(1.0, table, inner)
    for m in range(len(rows)):
        for k in range(n - 1):
            start = min(max(k - _MIDDLE, 0), n - POINTS)
            total = 0.0
            if start == k - _MIDDLE:
                for j in range(POINTS):
                    total += inner[POINTS + j] * rows[m, start + j]
            else:
                _weights(k - start - _MIDDLE, table, near)
                _weights(k + 1 - start - _MIDDLE, table, far)
                for j in range(POINTS):
                    total += (far[POINTS + j] - near[POINTS + j]) * rows[m, start + j]
            sums[m, k + 1] = sums[m, k] + total
    before = np.zeros(len(rows))
    for p in range(len(position)):
        k = min(max(int(position[p]), 0), n - 2)
        start = min(max(k - _MIDDLE, 0), n - POINTS)
        # 0 but for the stencils at the ends
        if start != k - _MIDDLE:
            _weights(k - start - _MIDDLE, table, near)
        _weights(position[p] - start - _MIDDLE, table, far)
        for m in range(len(rows)):
            total, level = sums[m, k], 0.0
            for j in range(POINTS):
                level += far[j] * rows[m, start + j]
                total += far[POINTS + j] * rows[m, start + j]
            if start != k - _MIDDLE:
                for j in range(POINTS):
                    total -= near[POINTS + j] * rows[m, start + j]
            value[m, p] = level
            if p:
                integral[m, p - 1] = total - before[m]
            before[m] = total


@compiled
def _weights(tau, table, weights):
    """Weights of the eight values in the polynomial at tau, and in its integral from 0 to tau."""
    for j in range(2 * POINTS):
        weights[j] = table[POINTS - 1, j]
    for m in range(POINTS - 2, -1, -1):
        for j in range(2 * POINTS):
            weights[j] = weights[j] * tau + table[m, j]
    for j in range(POINTS):
        weights[POINTS + j] *= tau


GAUSS_REACH = 6.0
"""Sigmas at which the line-spread function is cut: 2e-9 of it lie outside."""

FAINTEST = 40.0
"""k^2 sigma^2 / 2 above which the transform of a Gaussian is taken as zero."""

_STEP = 0.8  # step of the uniform grid, in units of the shortest step of the model
_STEP_MIN = 0.25  # smallest step, in units of the median step of the model
_STEPS_PER_OCTAVE = 4  # steps are rounded to so many values per factor of two
_PAD = 64  # points that join the ends of a window, since transforms are periodic
_SPREAD_TOL = 1e-7  # tolerance of the interpolation between widths
_SMALL = 0.3  # arguments below which Bessel functions are computed from their series
_STEPS_PER_SIGMA = 4.5  # sampling that represents a broadened spectrum to 1e-7


def light_reach(vsini, sigma):
    """Largest distance over which broadening moves light; like `sigma` in ln wavelength, `vsini` in units of c."""
    return vsini + GAUSS_REACH * sigma


def rotation_transform(q, limb_darkening):
    """Fourier transform of the rotation profile, 1 at zero, and its derivative by `q`.

    `q` are non-negative wave numbers times the largest shift, `limb_darkening` the linear coefficient, from 0 to 1.
    """
    safe = np.maximum(q, _SMALL)
    bessel, sine, cosine = j1(safe), np.sin(safe), np.cos(safe)
    disk = bessel / safe
    disk_slope = (j0(safe) - 2 * disk) / safe
    ball = (sine - safe * cosine) / safe**3
    ball_slope = (sine / safe - 3 * ball) / safe
    low = q < _SMALL
    z = (q[low] / 2) ** 2
    disk[low] = (1 - z / 2 + z**2 / 12 - z**3 / 144 + z**4 / 2880) / 2
    disk_slope[low] = -q[low] / 4 * (1 / 2 - z / 6 + z**2 / 48 - z**3 / 720)
    z = q[low] ** 2
    ball[low] = 1 / 3 - z / 30 + z**2 / 840 - z**3 / 45360 + z**4 / 3991680
    ball_slope[low] = -q[low] * (1 / 15 - z / 210 + z**2 / 7560 - z**3 / 498960)
    flat, dark = 2 * (1 - limb_darkening) / (1 - limb_darkening / 3), 2 * limb_darkening / (1 - limb_darkening / 3)
    return flat * disk + dark * ball, flat * disk_slope + dark * ball_slope


def observe_rows(
    wavelength,
    rows,
    edges,
    *,
    vsini=0.0,
    limb_darkening=0.6,
    sigma=None,
    derivatives=False,
    spread=None,
    between=None,
    max_step=np.inf,
    margin=0.0,
):
    """Broaden spectra and integrate them over pixels.

    `rows` (m, n) are a flux, and other rows that transform linearly with it, at `wavelength` (n,), strictly increasing,
    eight points or more of any spacing. The `edges` (p + 1,) of the pixels are in the frame of the star, at a distance
    of at least `light_reach` plus `margin` plus one step from the ends of `wavelength`. `vsini` is in units of c;
    `sigma`, of all pixels or of each (p,), is that of the line-spread function in ln wavelength, None for no line
    spread. A function that is not Gaussian is given by `spread` instead, see `kernels.line_spread`.

    Rotation and line spread are applied in one transform, unless `between` is given. It takes ln wavelengths in the
    frame of the star (k,), at even steps of `max_step` or less, and rows there, (m, k) or, with `derivatives`,
    (m + 3, k): derivatives of the first with respect to ln of the ratio of observed wavelengths to those of the star,
    to `vsini`, and to the variance of a Gaussian broadening in ln wavelength. It returns rows (m', k), the flux first,
    for which it moves light by `margin` in ln wavelength at most.

    Returns means over the pixels per wavelength, (m, p) or (m', p). With `derivatives` those of the first row follow:
    with respect to ln of the ratio of wavelengths, to `vsini`, which is absent after `between`, to -ln `sigma`, and to
    the parameters of `spread`.
    """
    sigma = np.asarray(0.0 if sigma is None else sigma)
    if spread is None:
        reach, least = light_reach(vsini, sigma.max()) + margin, sigma.min()
    else:
        reach, least = vsini + spread.reach + margin, spread.least
    x, step, values, thin = uniform_rows(wavelength, rows, edges, reach, least, max_step)
    n = len(x)
    if between is not None:
        values = between(x, _rotate(values, step, n, vsini, limb_darkening, derivatives))
        values, vsini = _join_ends(values, thin), 0.0
    x = x[::thin]
    if spread is not None:
        smooth, drift = _convolve_form(values, step, x, thin, vsini, limb_darkening, spread, derivatives)
        step *= thin
    else:
        varies = sigma.ndim and np.ptp(sigma) > 0
        sigma = np.interp(x, np.log((edges[1:] + edges[:-1]) / 2), sigma) if varies else sigma.max()
        smooth = _convolve(values, step, len(x), thin, vsini, limb_darkening, sigma, derivatives)
        step *= thin
        drift = smooth[-1:] * -np.gradient(np.log(sigma), step) if varies and derivatives else None
    if drift is not None:
        # a spectrum that is shifted meets the same widths at the same pixels
        smooth = np.concatenate([smooth, drift])
    integral, value = integrate_pixels(smooth * np.exp(x), np.clip((np.log(edges) - x[0]) / step, 0, len(x) - 1))
    pixels = integral * (step / np.diff(edges))
    if not derivatives:
        return pixels
    shifted = pixels[:1] - np.diff(value[:1], axis=1) / np.diff(edges)
    if drift is not None:
        shifted += pixels[-1:]
        pixels = pixels[:-1]
    n_rows = len(values)
    by_vsini = pixels[n_rows : n_rows + (between is None)]  # else rotation is already applied
    return np.concatenate([pixels[:n_rows], shifted, by_vsini, pixels[n_rows + 1 :]])


def broaden_rows(rows, step, transform):
    """Convolve rows (m, n), at points that are a `step` apart, with a kernel.

    `transform` gives the Fourier transform of the kernel, or its derivative by a width, at wave numbers in units of
    1 / `step`. Within the reach of the kernel from the ends, light from beyond is missing.
    """
    values = _join_ends(rows, 1)
    n_points = values.shape[1]
    return irfft(rfft(values) * transform(wave_numbers(n_points, step)), n_points)[:, : rows.shape[1]]


def uniform_rows(wavelength, rows, edges, reach, sigma, max_step):
    """Uniform points in ln wavelength around pixels, their step, and rows on them, padded to be periodic.

    Also the thinning factor: one of so many points is enough once rows are broadened by `sigma`.
    """
    spacing = np.diff(wavelength) / wavelength[1:]
    step = min(max(_STEP * spacing.min(), _STEP_MIN * np.median(spacing)), max_step)
    # the points do not depend on the velocities, so that the result is smooth in the velocities
    step = 2.0 ** (np.floor(_STEPS_PER_OCTAVE * np.log2(step)) / _STEPS_PER_OCTAVE)
    thin = _fast_len(max(int(sigma / (_STEPS_PER_SIGMA * step)), 1))
    reach += POINTS * step
    first = np.ceil(max(np.log(wavelength[0]), np.log(edges[0]) - reach) / (thin * step)) * thin
    last = np.floor(min(np.log(wavelength[-1]), np.log(edges[-1]) + reach) / step)
    x = np.arange(first, last + 1) * step
    at = np.clip(np.exp(x), wavelength[0], wavelength[-1])
    return x, step, _join_ends(resample_rows(wavelength, rows, at), thin), thin


def _join_ends(rows, thin):
    """Rows extended by points that join their ends smoothly, to a length with a fast transform.

    The length is a multiple of `thin`.
    """
    n = rows.shape[1]
    values = np.empty((len(rows), thin * next_fast_len(-(-(n + _PAD) // thin), real=True)))
    values[:, :n] = rows
    t = np.arange(1, values.shape[1] - n + 1) / (values.shape[1] - n + 1)
    t = t**3 * (10 - 15 * t + 6 * t**2)
    values[:, n:] = values[:, n - 1 : n] * (1 - t) + values[:, :1] * t
    return values


def wave_numbers(n_points, step):
    """Wave numbers of the transform of real rows of `n_points` at a `step`."""
    return 2 * np.pi / (n_points * step) * np.arange(n_points // 2 + 1)


def _rotate(values, step, n, vsini, limb_darkening, derivatives):
    """Rows broadened by rotation, and derivatives of the first by ln of a shift, by vsini and by a variance."""
    n_points = values.shape[1]
    k = wave_numbers(n_points, step)
    waves = rfft(values)
    turned, slope = np.ones(len(k)), np.zeros(len(k))
    if vsini:
        turned, slope = rotation_transform(k * vsini, limb_darkening)
    rotated = waves * turned
    if derivatives:
        # a shift to longer wavelengths by a step is the spectrum before less the spectrum there
        by_shift, by_variance = -1j * k * rotated[:1], -k * k / 2 * rotated[:1]
        rotated = np.concatenate([rotated, by_shift, waves[:1] * (slope * k), by_variance])
    return irfft(rotated, n_points)[:, :n]


def _fast_len(n):
    """The largest length up to n that transforms like."""
    while next_fast_len(n, real=True) != n:
        n -= 1
    return n


def _convolve(values, step, n, thin, vsini, limb_darkening, spread, derivatives):
    """Rows broadened, and the derivatives of the first by vsini and by -ln sigma, shape (m or m + 2, n).

    Of `thin` points one is kept.
    """
    n_points = values.shape[1]
    k = wave_numbers(n_points, step)
    square = k * k / 2
    low, high = spread.min() ** 2, spread.max() ** 2
    live = len(k) if not low else int(np.searchsorted(square * low, FAINTEST))
    k, square = k[:live], square[:live]
    waves = rfft(values)
    waves = waves[:, :live]
    turned, slope = np.ones(live), np.zeros(live)
    if vsini:
        turned, slope = rotation_transform(k * vsini, limb_darkening)
    if derivatives:
        both = [waves * turned, waves[:1] * (slope * k), waves[:1] * (turned * 2 * square)]
        waves = np.concatenate(both)
    elif vsini:
        waves = waves * turned
    total = 0.0
    widths = few_widths(low, high)
    for width, weight in zip(widths, between_widths(widths, spread**2), strict=True):
        part = waves * np.exp(-square * width) if width else waves.copy()
        if derivatives:
            part[-1] *= width
        total = total + irfft(part, n_points // thin)[:, :n] * (weight / thin)
    return total


def _convolve_form(values, step, x, thin, vsini, limb_darkening, spread, derivatives):
    """As `_convolve`, for a line-spread function of any form; derivatives by its parameters follow, by one row each.

    Also what the first row gains by a shift that moves it to where the function is another one, or None.
    """
    n_points, n = values.shape[1], len(x)
    k = wave_numbers(n_points, step)
    k = k[: np.searchsorted(k, spread.faint)]
    waves = rfft(values)[:, : len(k)]
    turned, slope = np.ones(len(k)), np.zeros(len(k))
    if vsini:
        turned, slope = rotation_transform(k * vsini, limb_darkening)
    total, drift = 0.0, None
    for function, weight in spread.terms(x):
        form = function(k)
        part = waves * (turned * form[0])
        if derivatives:
            part = np.concatenate([part, waves[:1] * (slope * k * form[0]), waves[:1] * (turned * form[1:])])
        part = irfft(part, n_points // thin)[:, :n] / thin
        total = total + part * weight
        if derivatives and np.ndim(weight):
            drift = (0.0 if drift is None else drift) + part[:1] * np.gradient(weight, step * thin)
    return total, drift


def few_widths(low, high):
    """Squares of sigma between low and high, from which a polynomial interpolates."""
    if high - low <= 1e-12 * high:
        return np.array([high])
    ratio, n = (high - low) / (high + low), 2
    while ratio**n / (2 ** (n - 1) * np.sqrt(2 * np.pi * n)) > _SPREAD_TOL:
        n += 1
    return (high + low) / 2 + (high - low) / 2 * np.cos((2 * np.arange(n) + 1) * np.pi / (2 * n))


def between_widths(nodes, at):
    """Weights of Lagrange's polynomial, one row or 1 for each node."""
    if len(nodes) == 1:
        yield 1.0
        return
    for j, node in enumerate(nodes):
        others = np.delete(nodes, j)
        weight = np.ones(len(at))
        for other in others:
            weight *= (at - other) / (node - other)
        yield weight
