r"""Line-spread functions that are not Gaussian, by their Fourier transforms.

A form L of the offset u in :math:`\ln \lambda`, positive to longer wavelengths, with the integral 1, has the transform
:math:`\hat L(k) = \int L(u)\,e^{-i k u}\,du`. Forms with a scale :math:`\sigma` are functions of :math:`q = k \sigma`.

`observe_rows` takes an object with these attributes:

reach
    Offset beyond which the function is zero.
least
    Sigma of a Gaussian whose transform reaches as far: it sets the sampling.
faint
    Wave number from which on the transform is zero.
terms(x)
    Pairs of a function and of its weight at the ln wavelengths `x` (n,), an array or a number. The function takes wave
    numbers k (m,) and returns the transform and its derivatives, (1 + n_derivatives, m): by ln resolving power, and by
    the parameters of the form. The line-spread function is the sum.
"""

import numpy as np
from scipy.interpolate import make_interp_spline

from stellarhml.kernels.fourier_broadening import FAINTEST, between_widths, few_widths

_OVERSAMPLING = 16  # points of a transform for each period of its fastest oscillation, over two
_FINE = 8  # points for each sample of a kernel, of the integral that transforms it
_VANISHED = 1e-7  # transform that is taken as zero
_GAUSS_VANISHED = np.sqrt(-2 * np.log(_VANISHED))  # k sigma at which a Gaussian has that transform


def gauss_hermite(q, h3, h4):
    r"""Transform of a Gauss-Hermite series at q (n,), its derivative by q, and those by h3 and h4, (2, n).

    With y the offset over sigma, the series is the unit Gaussian times :math:`1 + h_3 H_3(y) + h_4 H_4(y)`, divided by
    its integral, with :math:`H_3 = (2 y^3 - 3 y) / \sqrt 3` and :math:`H_4 = (4 y^4 - 12 y^2 + 3) / \sqrt{24}`.
    """
    gauss, norm = np.exp(-q * q / 2), 1 + 3 * h4 / np.sqrt(24)
    third, fourth = 1j * (2 * q**3 - 3 * q) / np.sqrt(3), (4 * q**4 - 12 * q**2 + 3) / np.sqrt(24)
    series = 1 + h3 * third + h4 * fourth
    slope = h3 * 1j * (6 * q**2 - 3) / np.sqrt(3) + h4 * (16 * q**3 - 24 * q) / np.sqrt(24)
    by_h4 = gauss * (fourth - series * 3 / np.sqrt(24) / norm) / norm
    return gauss * series / norm, gauss * (slope - q * series) / norm, np.stack([gauss * third / norm, by_h4])


def two_gaussians(q, wide_ratio, wide_share):
    """Transform of two Gaussians at q (n,), its derivative by q, and those by ratio and share, (2, n).

    The second has `wide_ratio` times the sigma of the first, and `wide_share` of the integral.
    """
    first, second = np.exp(-q * q / 2), np.exp(-((q * wide_ratio) ** 2) / 2)
    slope = -q * ((1 - wide_share) * first + wide_share * wide_ratio**2 * second)
    by_ratio = -wide_share * wide_ratio * q * q * second
    return (1 - wide_share) * first + wide_share * second, slope, np.stack([by_ratio, second - first])


class ScaledForm:
    """A form whose sigma, in ln wavelength, is one number, or one for each of the ln wavelengths `at` (n,).

    `form` takes q and returns the transform, its derivative by q, and those by parameters, of which the rows `wanted`
    are kept. `reach` is in ln wavelength.
    """

    def __init__(self, form, sigma, at, *, reach, wanted):
        self._form, self._at, self._wanted = form, at, list(wanted)
        self._sigma = sigma if np.ndim(sigma) and np.ptp(sigma) > 0 else float(np.max(sigma))
        self.reach, self.least = reach, float(np.min(sigma))
        self.faint = np.sqrt(2 * FAINTEST) / self.least

    def terms(self, x):
        """Functions and weights, see the module."""
        if np.ndim(self._sigma) == 0:
            yield self._function(self._sigma), 1.0
            return
        square = np.interp(x, self._at, self._sigma) ** 2
        widths = few_widths(square.min(), square.max())
        for width, weight in zip(widths, between_widths(widths, square), strict=True):
            yield self._function(np.sqrt(width)), weight

    def _function(self, sigma):
        def function(k):
            q = k * sigma
            transform, slope, own = self._form(q)
            return np.stack([transform, -q * slope, *own[self._wanted]])

        return function


class SampledTransform:
    """Transform of a sampled kernel: a cubic spline between the `offsets` (n,) in ln wavelength, zero beyond.

    The integral is normalised.

    Attributes
    ----------
    reach, vanished : float
        Largest offset, and wave number from which on the transform is below 1e-7.
    square : float
        Integral of the squared kernel.
    """

    def __init__(self, offsets, kernel):
        step = np.diff(offsets).min()
        n_fine = int(np.ceil((offsets[-1] - offsets[0]) / step * _FINE))
        u = np.linspace(offsets[0], offsets[-1], n_fine + 1)
        values = make_interp_spline(offsets, kernel, k=3)(u)
        values[[0, -1]] /= 2  # trapezium rule
        density = values / values.sum()
        self.reach, self.square = float(np.abs(u).max()), float((density**2).sum() / (u[1] - u[0]))
        k = np.arange(0, 2 * np.pi / step, np.pi / self.reach / _OVERSAMPLING)
        transform = np.array([density @ np.exp(-1j * number * u) for number in k])
        self._curve = make_interp_spline(k, np.column_stack([transform.real, transform.imag]), k=5)
        self._slope, self._last = self._curve.derivative(), k[-1]
        seen = np.flatnonzero(np.abs(transform) > _VANISHED)
        self.vanished = float(k[min(seen[-1] + 1, len(k) - 1)])

    def __call__(self, k):
        """Transform at wave numbers (m,), and its derivative by them."""
        inside = k < self._last
        found = np.zeros((2, len(k)), dtype=complex)
        for row, curve in zip(found, (self._curve, self._slope), strict=True):
            parts = curve(k[inside])
            row[inside] = parts[:, 0] + 1j * parts[:, 1]
        return found


class SampledForms:
    """Sampled kernels by ln wavelength, each stretched by 1 / `factor`, with linear interpolation between them.

    `transforms` (SampledTransform) belong to the ln wavelengths `at` (n,), increasing.
    """

    def __init__(self, transforms, at, factor):
        self._transforms, self._at, self._factor = transforms, at, factor
        self.reach = max(transform.reach for transform in transforms) / factor
        last = factor * max(transform.vanished for transform in transforms)
        self.least, self.faint = _GAUSS_VANISHED / last, np.inf

    def terms(self, x):
        """Functions and weights, see the module."""
        if len(self._at) == 1:
            yield self._function(self._transforms[0]), 1.0
            return
        for number, transform in enumerate(self._transforms):
            weight = np.interp(x, self._at, np.arange(len(self._at)) == number)
            if weight.any():
                yield self._function(transform), weight

    def _function(self, transform):
        def function(k):
            value, slope = transform(k / self._factor)
            return np.stack([value, -k / self._factor * slope])

        return function
