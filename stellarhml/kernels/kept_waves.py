r"""Fourier transforms of spectra that are kept, and observed with any velocity and rotation.

A spectrum behind a Gaussian line spread has few Fourier components: a factor of ten less than the model has pixels.
Line spread and a mean pixel are applied once, in `keep_waves`; rotation, velocity and the places of the pixels for each
star, in `observe_waves`. All pixels of an order count as equally wide in ln wavelength, with one line spread.
"""

from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, rfft

from stellarhml.kernels.forms import compiled
from stellarhml.kernels.fourier_broadening import (
    resample_rows,
    rotation_transform,
    uniform_rows,
    wave_numbers,
)

_FAINT = 14.0  # k^2 sigma^2 / 2 above which components are left out: 1e-6 of the flux
_DENSER = 1.4  # sampling of the result, coarser than that of `fourier_broadening` by this factor


class Points(NamedTuple):
    """Even points in ln wavelength at which spectra of an order are computed.

    `first` of `n`, `n_periodic` with the padding, a `step` apart; `k` (n_waves,) are the wave numbers that are kept.
    """

    first: float
    step: float
    n: int
    n_periodic: int
    k: np.ndarray


def keep_waves(wavelength, rows, ends, *, sigma, own_sigma, pixel):
    """Points, and transforms of rows after line spread and pixels, (m, n_waves) complex.

    `rows` (m, n) at `wavelength` (n,) [angstrom], of which those within `ends` (low, high) [angstrom] are taken. In ln
    wavelength, `sigma` of the line spread, `own_sigma` of that which the rows have already, and the width of a
    `pixel`.
    """
    whole = np.hypot(sigma, own_sigma)
    x, step, values, thin = uniform_rows(wavelength, rows, ends, 0.0, _DENSER * whole, np.inf)
    n_periodic = values.shape[1] // thin
    k = wave_numbers(values.shape[1], step)
    live = min(n_periodic // 2, int(np.searchsorted(k * whole, np.sqrt(2 * _FAINT))))
    k = k[:live]
    waves = rfft(values)[:, :live] * (np.exp(-((k * sigma) ** 2) / 2) * np.sinc(k * pixel / (2 * np.pi)) / thin)
    return Points(float(x[0]), step * thin, len(x[::thin]), n_periodic, k), waves


def observe_waves(points, waves, at, *, vsini, limb_darkening, derivatives):
    """Rows in pixels whose middles are `at` (p,), ln wavelengths in the frame of the star, (m, p).

    With `derivatives` those of the first row follow, with respect to ln of the ratio of wavelengths, to `vsini` [c],
    and to the variance of a broadening in ln wavelength.
    """
    k = points.k
    turned, slope = rotation_transform(k * vsini, limb_darkening) if vsini else (np.ones(len(k)), np.zeros(len(k)))
    rotated = waves * turned
    if derivatives:
        first = rotated[:1]
        rotated = np.concatenate([rotated, first * (-1j * k), waves[:1] * (slope * k), first * (-k * k / 2)])
    # what lies between two kept wave numbers is above a spectrum's own
    even = irfft(rotated, points.n_periodic)[:, : points.n]
    x = points.first + points.step * np.arange(points.n)
    return resample_rows(x, even, np.clip(at, x[0], x[-1]))


@compiled
def hermite_weights(position, length, weights):
    """Fill weights (2^n, 1 + n, 1 + n) of the spectra at the corners of a cell of n labels.

    `position` (n,) in the cell, from 0 to 1, and `length` (n,) of its sides; 0 for a label with one value. The weight
    of a corner takes the flux there and its derivatives to the flux and its derivatives at the position: along each
    label the flux is Hermite's cubic, and linear along the others. Bit a of a corner's number is its end along label a.
    """
    n = len(position)
    # of each label and end: linear weight of a value, what the cubic adds to it, the cubic's weight of a slope; and the
    # derivatives of the three
    part = np.zeros((n, 2, 3, 2))
    for a in range(n):
        t, h = position[a], length[a]
        if h > 0:
            bend, bent = t * (1 - t) * (2 * t - 1), (6 * t - 6 * t * t - 1) / h
            part[a, 0, 0, 0], part[a, 0, 0, 1], part[a, 1, 0, 0], part[a, 1, 0, 1] = 1 - t, -1 / h, t, 1 / h
            part[a, 0, 1, 0], part[a, 0, 1, 1], part[a, 1, 1, 0], part[a, 1, 1, 1] = -bend, -bent, bend, bent
            part[a, 0, 2, 0], part[a, 0, 2, 1] = h * t * (1 - t) ** 2, (1 - t) * (1 - 3 * t)
            part[a, 1, 2, 0], part[a, 1, 2, 1] = -h * t * t * (1 - t), t * (3 * t - 2)
        else:
            part[a, 0, 0, 0] = 1.0
    for corner in range(2**n):
        for by in range(n + 1):  # the value, then its derivative by each label
            for along in range(n + 1):  # linear in all labels, then the cubic's parts of each
                for kind in range(1, 3):
                    product = 1.0
                    for a in range(n):
                        chosen = kind if a + 1 == along else 0
                        product *= part[a, (corner >> a) & 1, chosen, 1 if a + 1 == by else 0]
                    if along == 0:
                        weights[corner, by, 0] = product if kind == 1 else weights[corner, by, 0]
                    elif kind == 1:
                        weights[corner, by, 0] += product
                    else:
                        weights[corner, by, along] = product
