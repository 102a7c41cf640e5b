"""Rendering of lines: windows of pixels, flux, derivatives with respect to labels, and quantities of single lines."""

import numpy as np
from scipy.integrate import trapezoid

from stellarhml.kernels import forms, fused
from stellarhml.kernels.cells import edge_of
from stellarhml.kernels.forms import compiled
from stellarhml.kernels.fused import render_tangents
from stellarhml.kernels.line_profiles import component_rows, components_and_chain, get_profile

WING_TOLERANCE = 1e-7
"""Effect on the flux at which adaptive windows cut the wing of a line."""

_COARSE = 1 << 12  # steps of a first search


def line_windows(wavelength, components, wing_cut, *, as_blase=False, tolerance=WING_TOLERANCE):
    """Windows around line centers, within the spectrum: first pixels, and one past the last, (n_lines,), int64.

    `components` (n_lines, 6) are as in `kernels.fused`. `wing_cut` is the width in pixels, the same for all lines
    (moved inwards at the ends of the spectrum; a spectrum that is shorter is used whole); None: each line as far as it
    changes the flux by more than `tolerance`. With `as_blase` the pixels are those of gully/blase, whose windows skip
    their last pixel and take the next: the second half of (2 n_lines,) holds each line's extra pixel.
    """
    if wing_cut is None:
        return _adaptive(wavelength, components, tolerance)
    n_pixels, width = wavelength.size, min(int(wing_cut), wavelength.size)
    first = np.searchsorted(wavelength, components[:, 0]).astype(np.int64) - width // 2
    if not as_blase or width == n_pixels:
        start = np.clip(first, 0, n_pixels - width)
        return start, start + width
    start = np.clip(first, 0, n_pixels - width - 1)
    return np.concatenate([start, start + width]), np.concatenate([start + width - 1, start + width + 1])


def _adaptive(wavelength, components, tolerance):
    """Windows in which Lorentzian plus Gaussian, times the limiting depth, exceed the tolerance."""
    center, lorentz, gamma, gauss, sigma, depth = components.T
    depth = np.where(depth > 0, depth, 1.0)
    wing = gamma * np.sqrt(np.maximum(lorentz * depth / tolerance - 1, 0))
    core = sigma * np.sqrt(2 * np.log(np.maximum(gauss * depth / tolerance, 1)))
    reach = np.maximum(wing, core)
    # the next number, for pixels that lie on the end itself belong to the line
    ends = np.stack([center - reach, np.nextafter(center + reach, np.inf)])
    if not wavelength.size or not np.isfinite(ends).all():
        start, stop = np.searchsorted(wavelength, ends)
        return start.astype(np.int64), np.maximum(stop, start).astype(np.int64)
    wavelength = np.require(wavelength, np.float64, ["C", "W"])  # as in `fused`
    coarse = np.linspace(wavelength[0], wavelength[-1], min(wavelength.size, _COARSE, ends.size) + 1)
    pixels = np.empty(ends.shape, np.int64)
    _search(wavelength, np.searchsorted(wavelength, coarse), ends.ravel(), pixels.ravel())
    return pixels[0], np.maximum(pixels[1], pixels[0])


@compiled
def _search(wavelength, table, values, pixels):
    """Fill the first pixel at each value or beyond; table[i] is that of the i-th of equal steps over the spectrum."""
    n_pixels, n_steps = len(wavelength), len(table) - 1
    origin, extent = wavelength[0], wavelength[-1] - wavelength[0]
    per_step = n_steps / extent if extent > 0.0 else 0.0
    for i in range(len(values)):
        value = values[i]
        position = min(max((value - origin) * per_step, 0.0), n_steps - 0.5)
        step = int(position)
        # a pixel more on either side, for rounding; a value outside of the spectrum is beyond its last step
        lo, hi = max(table[step] - 1, 0), min(table[step + 1] + 1, n_pixels)
        if value > wavelength[-1]:
            lo = hi = n_pixels
        # pixels are nearly equally spaced in a step: try to come close at once
        guess = lo + int((position - step) * (hi - lo))
        low, high = max(guess - 3, lo), min(guess + 3, hi)
        if low > lo and wavelength[low - 1] < value:
            lo = low
        if high < hi and not wavelength[high] < value:
            hi = high
        pixels[i] = edge_of(wavelength, lo, hi, value)


def render_lines(wavelength, theta, *, profile, wing_cut, device=None, n_threads=1, tolerance=None):
    """Render lines `theta` (n_lines, n_parameters) into a spectrum (n_pixels,), float64: 1 where there is no line.

    `wing_cut` is as in `line_windows`. `device` is a torch device, such as "cuda"; None: the compiled kernels of the
    CPU, whose result does not depend on `n_threads`. One spectrum does not fill a GPU; see `render_many`. `tolerance`
    is that of the flux, compared with infinite wings if `wing_cut` is None; None: wings end where a line changes the
    flux by `WING_TOLERANCE`, and everything else is as accurate as in a fit.
    """
    components = line_components(theta, profile)
    of_wings, of_line = _shares(tolerance)
    start, stop = profile_windows(wavelength, components, profile, wing_cut, of_wings)
    if tolerance is not None and wing_cut is None:
        start, stop = fused.whole_blocks(wavelength, start, stop)
    if len(start) != len(components):
        components = np.tile(components, (2, 1))
    form = get_profile(profile).form
    if device is not None:
        from stellarhml.kernels import gpu

        return gpu.render_batch(wavelength, [components], [start], [stop], form, device=device)[0]
    return fused.render(wavelength, components, start, stop, form, n_threads=n_threads, tolerance=of_line)


def render_lines_tangents(wavelength, theta, dtheta, *, profile, wing_cut, n_threads=1, tolerance=None):
    """`render_lines`, and the derivatives (n_tangents, n_pixels) of the flux by scalars that all lines depend on.

    `dtheta` (n_tangents, n_lines, n_parameters) are the derivatives of the line parameters with respect to each scalar,
    such as a label. Windows are taken as fixed.
    """
    theta, profile_of = np.array(theta, dtype=np.float64), get_profile(profile)
    components, chain = components_and_chain(profile_of, theta)
    tangents = np.ascontiguousarray((chain @ np.asarray(dtheta, dtype=np.float64)[..., None])[..., 0])
    of_wings, of_line = _shares(tolerance)
    start, stop = profile_windows(wavelength, components, profile, wing_cut, of_wings)
    if tolerance is not None and wing_cut is None:
        start, stop = fused.whole_blocks(wavelength, start, stop)
    if len(start) != len(components):
        components, tangents = np.tile(components, (2, 1)), np.tile(tangents, (1, 2, 1))
    how = {"n_threads": n_threads, "tolerance": of_line}
    return render_tangents(wavelength, components, tangents, start, stop, profile_of.form, **how)


def render_many(wavelength, thetas, *, profile, wing_cut, device, tolerance=None):
    """Render many spectra at once on a GPU, (n_spectra, n_pixels), float64; only the windows depend on `tolerance`.

    `thetas` is a list of line parameters (n_lines_of_spectrum, n_parameters), one array for each spectrum.
    """
    from stellarhml.kernels import gpu

    rows, edges = [], []
    for theta in thetas:
        components = line_components(theta, profile)
        edges.append(profile_windows(wavelength, components, profile, wing_cut, _shares(tolerance)[0]))
        rows.append(np.tile(components, (len(edges[-1][0]) // max(len(components), 1), 1)))
    start, stop = ([pair[k] for pair in edges] for k in (0, 1))
    return gpu.render_batch(wavelength, rows, start, stop, get_profile(profile).form, device=device)


def _shares(tolerance):
    """Tolerances of `line_windows` and of `fused.render` for that of a whole spectrum."""
    if tolerance is None:
        return WING_TOLERANCE, 0.0
    # the cut wings of many lines add up: for a solar PHOENIX spectrum of 9,068 lines, windows with a tolerance of 1e-8,
    # widened to blocks, leave an error of 1.6e-6
    return min(2e3 * tolerance**2, tolerance), 0.25 * tolerance


def line_components(theta, profile):
    """Components (n_lines, 6) as in `kernels.fused` of lines `theta` (n_lines, n_parameters)."""
    return component_rows(get_profile(profile), np.array(theta, dtype=np.float64))


def line_depths(theta, profile):
    """Depth of each line alone at its center, in units of the continuum, (n_lines,), in [0, 1]."""
    components = line_components(theta, profile)
    return line_losses(components, components[:, :1], get_profile(profile).form)[:, 0]


def line_equivalent_widths(theta, profile):
    """Equivalent width of each line alone, (n_lines,) [angstrom], by quadrature (to 1e-3) over 10^4 widths."""
    components = line_components(theta, profile)
    scale = np.maximum(components[:, 2], components[:, 4])[:, None]
    u = np.sinh(np.linspace(0, np.arcsinh(1e6), 801)) * 1e-2  # from a hundredth of the width to 10^4 of them
    depth = line_losses(components, components[:, :1] + u * scale, get_profile(profile).form)
    return (2 * scale * 0.5 * (depth[:, 1:] + depth[:, :-1]) * np.diff(u)).sum(axis=1)


def line_saturations(theta, profile):
    """Saturation of each line, (n_lines,): deviation from the linear part of the curve of growth.

    1 - d ln depth / d ln v at the line's center, with optical depth v: 0 for a weak line, near 1 for a line near its
    limiting depth. 0 for profiles that do not saturate.
    """
    components, form = line_components(theta, profile), get_profile(profile).form
    optical_depth = components[:, 1] + components[:, 3]
    if form == forms.THIN:
        return np.zeros(len(theta))
    if form == forms.MINNAERT:
        return optical_depth / (1 + optical_depth)
    # v / (e^v - 1), 1 at v = 0
    v = np.maximum(optical_depth, 1e-12)
    return 1 - v / np.expm1(np.minimum(v, 700.0))


def line_losses(components, wavelength, form):
    """1 - factor of each line at wavelengths of shape (n_lines, n)."""
    center, a_l, g, a_g, s, d = components.T[:, :, None]
    x = wavelength - center
    value = a_l / (1 + (x / g) ** 2) + a_g * np.exp(-0.5 * (x / s) ** 2)
    if form == forms.THIN:
        return np.minimum(value, forms.DEPTH_MAX)
    return d * (-np.expm1(-value) if form == forms.EXPONENTIAL else value / (1 + value))


def profile_windows(wavelength, components, profile, wing_cut, tolerance=WING_TOLERANCE):
    """`line_windows` of a profile, [start, stop): (n_lines,), or (2 n_lines,) with the exact pixels of blase."""
    as_blase = profile == "blase" and wing_cut is not None
    return line_windows(wavelength, components, wing_cut, as_blase=as_blase, tolerance=tolerance)


_STEP = 1e-4  # in the logarithms; in widths of the line for its center
_POINTS = np.sinh(np.linspace(-np.arcsinh(1e5), np.arcsinh(1e5), 401)) * 1e-2  # 10^3 widths to either side
_AT_ONCE = 512


def line_effects(theta, profile):
    r"""Effect of each parameter of a line on the flux: root of the integral of the squared derivative.

    :math:`[\int (\partial f / \partial \theta)^2 d\lambda]^{1/2}` of each line alone, (n_lines, n_parameters), in the
    root of angstroms over the unit of the parameter.
    """
    blocks = [_effects(theta[first : first + _AT_ONCE], profile) for first in range(0, len(theta), _AT_ONCE)]
    return np.concatenate(blocks) if blocks else np.empty(theta.shape)


def _effects(theta, profile):
    """Effects of some lines, by central differences and quadrature."""
    components, form = line_components(theta, profile), get_profile(profile).form
    width = np.maximum(components[:, 2], components[:, 4])
    wavelength = components[:, :1] + _POINTS * width[:, None]
    effect = np.empty(theta.shape)
    for k in range(theta.shape[1]):
        step = np.full(len(theta), _STEP) if k else _STEP * components[:, 4]
        losses = []
        for sign in (-1, 1):
            moved = theta.copy()
            moved[:, k] += sign * step
            losses.append(line_losses(line_components(moved, profile), wavelength, form))
        slope = (losses[1] - losses[0]) / (2 * step[:, None])
        effect[:, k] = np.sqrt(trapezoid(slope**2, wavelength, axis=1))
    return effect
