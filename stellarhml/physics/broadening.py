r"""Rotation and line spread by quadrature: slow and simple, the reference for tests of the kernels.

A star in rigid rotation with limb darkening :math:`I(\mu) / I(1) = 1 - \epsilon + \epsilon \mu` has the rotation
profile, over the velocities :math:`u\,v \sin i` (Gray 2005, Eq. 18.14),

.. math::
    G(u) = \frac{2 (1 - \epsilon) \sqrt{1 - u^2} + \frac{\pi}{2} \epsilon (1 - u^2)}{\pi (1 - \epsilon / 3)},
    \quad |u| \le 1.

The line-spread function at resolving power R is a Gaussian whose full width at half maximum is :math:`\lambda / R`.
Both act on :math:`\ln \lambda`, which is shifted by v / c: the relativistic shift to second order in v / c.

References
----------
.. [1] Gray, D. F. (2005), "The Observation and Analysis of Stellar Photospheres", 3rd edition, Cambridge University
   Press, chapter 18. doi:10.1017/CBO9781316036570
"""

import numpy as np

FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))
"""Full width at half maximum of a Gaussian, in units of its sigma: 2.3548."""

_REACH = 8.0  # sigmas at which a Gaussian is cut


def rotation_profile(velocity, vsini, limb_darkening):
    """Rotation profile with linear limb darkening, from 0 to 1: a density in s/km whose integral is 1.

    `velocity` and `vsini`, which is positive, are in km/s.
    """
    inside = np.clip(1 - (np.asarray(velocity) / vsini) ** 2, 0, None)
    disk = 2 * (1 - limb_darkening) * np.sqrt(inside) + 0.5 * np.pi * limb_darkening * inside
    return disk / (np.pi * (1 - limb_darkening / 3) * vsini)


def line_spread_sigma(resolving_power):
    """Sigma of the line-spread function in ln wavelength; the resolving power is the wavelength over its FWHM."""
    return 1 / (resolving_power * FWHM_PER_SIGMA)


def broaden_quadrature(spectrum, x, *, vsini_c, limb_darkening, sigma, step):
    """Broaden a spectrum by rotation and line spread, by quadrature at each point `x` in ln wavelength.

    `spectrum` is a function of ln wavelength, `vsini_c` the projected rotational velocity over the speed of light and
    `sigma` that of the line-spread function in ln wavelength, each 0 for none. `step` is the largest spacing of the
    nodes of a quadrature: a third of the spectrum's narrowest sigma.
    """
    shift, weight = np.zeros(1), np.ones(1)
    if vsini_c:
        # u = sin(angle) removes the square root at the edges
        angle, weight = _legendre(np.pi / 2, np.pi / 2 * vsini_c, step)
        weight = weight * np.cos(angle) * rotation_profile(np.sin(angle), 1.0, limb_darkening)
        shift = vsini_c * np.sin(angle)
    if sigma:
        y, spread = _legendre(_REACH, _REACH * sigma, min(step, sigma / 3))
        spread = spread * np.exp(-(y**2) / 2) / np.sqrt(2 * np.pi)
        shift = np.add.outer(shift, sigma * y).ravel()
        weight = np.multiply.outer(weight, spread).ravel()
    return np.array([weight @ spectrum(point - shift) for point in np.ravel(x)]).reshape(np.shape(x))


def observe_quadrature(spectrum, edges, *, ratio=1.0, step, pixel_nodes=10, **broadening):
    """Mean flux per wavelength of a broadened spectrum in each pixel, (n_pixels,).

    `spectrum` is a function of ln wavelength in the frame of the star; `edges` (n_pixels + 1,) are observed
    wavelengths, and `ratio` is the observed wavelength over that of the star, 1 + rv / c. The rest is as for
    `broaden_quadrature`.
    """
    node, weight = np.polynomial.legendre.leggauss(pixel_nodes)
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    x = np.log((middle[:, None] + half[:, None] * node) / ratio)
    return broaden_quadrature(spectrum, x, step=step, **broadening) @ weight / 2


def _legendre(half, length, step):
    """Gauss-Legendre nodes and weights on [-half, half], one for each `step` of `length`, 24 at least."""
    node, weight = np.polynomial.legendre.leggauss(24 + int(2 * length / step))
    return half * node, half * weight
