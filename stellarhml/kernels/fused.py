r"""Product of spectral lines and its derivatives, compiled by numba.

Every profile of the package is, per line, one Lorentzian plus one Gaussian,

.. math:: v(\lambda) = \frac{A_L}{1 + (x/g)^2} + A_G\,e^{-x^2/2s^2}, \qquad x = \lambda - c,

and enters the spectrum :math:`S = \prod_j f_j` in one of three forms: `THIN`, :math:`f = 1 - v` with v clamped to
[0, 1 - 1e-9]; `EXPONENTIAL`, an optical depth under a limiting depth D, :math:`f = 1 - D (1 - e^{-v})`; `MINNAERT`,
:math:`f = 1 - D\,v / (1 + v)`. The six numbers (c, A_L, g, A_G, s, D) of a line are its *components*; how a profile
turns its own parameters into components is said in `kernels.profiles`.

Memory is linear in pixels plus lines. A line is evaluated on its window of pixels only, and its Gaussian
only where it exceeds e^-40 of its peak (4e-18, below the resolution of float64 beside 1).
"""

import math

import numpy as np
from numba import njit

THIN, EXPONENTIAL, MINNAERT = 0, 1, 2
DEPTH_MAX = 1 - 1e-9
"""Largest depth of one line in the thin form (blase's clamp)."""

_GAUSS_REACH = math.sqrt(80.0)  # |x| / s where exp(-x^2 / 2 s^2) = e^-40
_MATH = {"contract", "reassoc", "nsz", "arcp"}  # vector sums; NaN and infinity keep their meaning


@njit(cache=True, nogil=True, fastmath=_MATH)
def render(wavelength, components, start, stop, form):
    """Multiply all lines into a spectrum.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,), float64
        Increasing wavelengths in angstrom.
    components : ndarray of shape (n_lines, 6), float64
        Center [angstrom], Lorentz peak, Lorentz half width [angstrom], Gauss peak,
        Gauss standard deviation [angstrom], limiting depth.
    start, stop : ndarray of shape (n_lines,), int64
        Window of pixels of each line, [start, stop).
    form : {THIN, EXPONENTIAL, MINNAERT}
        How a line enters the product.

    Returns
    -------
    flux : ndarray of shape (n_pixels,), float64
        The product, 1 where there is no line.
    """
    flux = np.ones(wavelength.size)
    for j in range(components.shape[0]):
        c, al, g, ag, s, d = components[j]
        lo, hi = start[j], stop[j]
        core_lo, core_hi = _core(wavelength, c, s, lo, hi)
        # one loop per form and part: they vectorise without a branch inside
        for first, last in ((lo, core_lo), (core_hi, hi)):
            if form == THIN:
                for p in range(first, last):
                    u = (wavelength[p] - c) / g
                    flux[p] *= 1.0 - min(al / (1.0 + u * u), DEPTH_MAX)
            elif form == EXPONENTIAL:
                for p in range(first, last):
                    u = (wavelength[p] - c) / g
                    flux[p] *= 1.0 + d * math.expm1(-al / (1.0 + u * u))
            else:
                for p in range(first, last):
                    u = (wavelength[p] - c) / g
                    flux[p] *= 1.0 - d * al / (1.0 + u * u + al)
        for p in range(core_lo, core_hi):
            x = wavelength[p] - c
            u, z = x / g, x / s
            flux[p] *= _factor(al / (1.0 + u * u) + ag * math.exp(-0.5 * z * z), d, form)[0]
    return flux


@njit(cache=True, nogil=True, fastmath=_MATH)
def gradient(wavelength, components, start, stop, weight, form):
    """Gradient of a scalar loss with respect to the components of every line.

    Parameters
    ----------
    wavelength, components, start, stop, form : ndarray, int
        As in `render`.
    weight : ndarray of shape (n_pixels,), float64
        dloss/dflux times flux, pixel by pixel.

    Returns
    -------
    grad : ndarray of shape (n_lines, 6), float64
        dloss/dcomponents.
    """
    grad = np.empty(components.shape)
    for j in range(components.shape[0]):
        c, al, g, ag, s, d = components[j]
        lo, hi = start[j], stop[j]
        core_lo, core_hi = _core(wavelength, c, s, lo, hi)
        sum_c = sum_al = sum_g = sum_ag = sum_s = sum_d = sum_bell = 0.0
        for first, last in ((lo, core_lo), (core_hi, hi)):
            if form == THIN and al < DEPTH_MAX:  # the paper's form, and its wings are most of its pixels
                for p in range(first, last):
                    u = (wavelength[p] - c) / g
                    lor = 1.0 / (1.0 + u * u)
                    w = lor * weight[p] / (al * lor - 1.0)
                    steep = lor * u * w
                    sum_al += w
                    sum_g += steep * u
                    sum_c += steep
                continue
            for p in range(first, last):
                u = (wavelength[p] - c) / g
                lor = 1.0 / (1.0 + u * u)
                f, slope, per_depth = _factor(al * lor, d, form)
                w = weight[p] * slope / f
                sum_d += weight[p] * per_depth / f
                steep = lor * lor * u * w
                sum_al += lor * w
                sum_g += steep * u
                sum_c += steep
        for p in range(core_lo, core_hi):
            x = wavelength[p] - c
            u, z = x / g, x / s
            lor, gau = 1.0 / (1.0 + u * u), math.exp(-0.5 * z * z)
            f, slope, per_depth = _factor(al * lor + ag * gau, d, form)
            w = weight[p] * slope / f
            sum_d += weight[p] * per_depth / f
            steep = lor * lor * u * w
            sum_al += lor * w
            sum_g += steep * u
            sum_c += steep
            sum_ag += gau * w
            sum_bell += gau * z * w
            sum_s += gau * z * z * w
        grad[j, 0] = ag * sum_bell / s + 2.0 * al * sum_c / g
        grad[j, 1] = sum_al
        grad[j, 2] = 2.0 * al * sum_g / g
        grad[j, 3] = sum_ag
        grad[j, 4] = ag * sum_s / s
        grad[j, 5] = sum_d
    return grad


@njit(cache=True, nogil=True, fastmath=_MATH)
def jacobian(wavelength, components, chain, start, stop, flux, form):
    """Derivative of the flux with respect to the parameters of every line, on its window.

    Parameters
    ----------
    wavelength, components, start, stop, form : ndarray, int
        As in `render`.
    chain : ndarray of shape (n_lines, 6, n_parameters), float64
        Derivative of each line's components with respect to its parameters.
    flux : ndarray of shape (n_pixels,), float64
        What `render` returned.

    Returns
    -------
    jac : ndarray of shape (sum of window lengths, n_parameters), float64
        The windows of all lines, one after the other.
    """
    n_parameters = chain.shape[2]
    jac = np.empty((np.sum(stop - start), n_parameters))
    row = 0
    for j in range(components.shape[0]):
        c, al, g, ag, s, d = components[j]
        core_lo, core_hi = _core(wavelength, c, s, start[j], stop[j])
        for p in range(start[j], stop[j]):
            x = wavelength[p] - c
            u, z = x / g, x / s
            lor = 1.0 / (1.0 + u * u)
            gau = math.exp(-0.5 * z * z) if core_lo <= p < core_hi else 0.0
            f, slope, per_depth = _factor(al * lor + ag * gau, d, form)
            w = flux[p] * slope / f
            steep = 2.0 * al * lor * lor * u / g * w
            bell = ag * gau * z / s * w
            for k in range(n_parameters):
                jac[row, k] = (
                    (steep + bell) * chain[j, 0, k]
                    + lor * w * chain[j, 1, k]
                    + steep * u * chain[j, 2, k]
                    + gau * w * chain[j, 3, k]
                    + bell * z * chain[j, 4, k]
                    + flux[p] * per_depth / f * chain[j, 5, k]
                )
            row += 1
    return jac


@njit(cache=True, nogil=True, inline="always")
def _factor(v, d, form):
    """Factor of one line in the product, and its derivatives with respect to v and to the limiting depth."""
    if form == THIN:
        return (1.0 - v, -1.0, 0.0) if v < DEPTH_MAX else (1.0 - DEPTH_MAX, 0.0, 0.0)
    if form == EXPONENTIAL:
        e = math.exp(-v)
        return 1.0 - d * (1.0 - e), -d * e, e - 1.0
    q = 1.0 / (1.0 + v)
    return 1.0 - d * v * q, -d * q * q, -v * q


@njit(cache=True, nogil=True)
def _core(wavelength, c, s, lo, hi):
    """Pixels of [lo, hi) where the Gaussian counts."""
    reach = _GAUSS_REACH * s
    core_lo = lo + np.searchsorted(wavelength[lo:hi], c - reach)
    core_hi = lo + np.searchsorted(wavelength[lo:hi], c + reach)
    return core_lo, core_hi
