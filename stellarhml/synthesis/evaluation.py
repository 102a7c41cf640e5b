"""A fitted generator at given weights of its nodes: flux, error and derivatives on the pixels wanted."""

import numpy as np

from stellarhml.kernels.interpolation import interpolate_cubic
from stellarhml.physics.wavelength import doppler_shift
from stellarhml.synthesis.line_model import split_rows


def generate(generator, labels, weights, pixels=None, rv=None, return_std=False):
    """Generate spectra.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    labels : ndarray of shape (n, n_labels)
        Labels.
    weights : csr_matrix of shape (n, n_rows)
        Weights of the training rows.
    pixels, rv, return_std : object
        As in `SpectrumGenerator.predict`.

    Returns
    -------
    results : list of ndarray of shape (n, n_wanted), float64
        Fluxes, and standard deviations with `return_std`.
    """
    pixels, rv = _check_pixels(generator, pixels), _check_rv(rv, weights.shape[0])
    if return_std and generator.error_map_ is None:
        raise ValueError(
            "`return_std` needs the generator's error, but this one has none: it was built from lines without spectra "
            "to compare them with. Fit a generator to spectra, or leave `return_std` out."
        )
    mixture = generator.interpolator_.split_at_breaks(labels)
    if mixture is None:
        return _generate(generator, labels, weights, pixels, rv, return_std)
    weights, _ = generator.interpolator_.locate(mixture.labels)
    parts = _generate(generator, mixture.labels, weights, pixels, rv[mixture.row], return_std)
    return [mixture.mix(part) for part in parts]


def _generate(generator, labels, weights, pixels, rv, return_std):
    """`generate` where no cell is broken."""
    rows = split_rows(weights)
    flux = _lines(generator, weights, rows, pixels, rv)
    for i, row in enumerate(rows):
        flux[i] += _residual(generator, row, pixels, rv[i])
    if not return_std:
        return [flux]
    filled = generator.interpolator_.fill_weights(labels)[:, None]
    std = [_std(generator, row, pixels, *rest) for row, *rest in zip(rows, rv, filled, strict=True)]
    return [flux, np.concatenate(std or [flux])]


def expected_error(generator, labels, pixels=slice(None)):
    """Standard deviations of generated spectra alone, at the nearest point of the grid.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted, with an error map.
    labels : ndarray of shape (n, n_labels)
        Labels.
    pixels : slice or ndarray of int, default=slice(None)
        Pixels wanted.

    Returns
    -------
    std : ndarray of shape (n, n_wanted)
        As of `ErrorModel.std`.
    """
    interpolator = generator.interpolator_
    return generator.error_map_.std(interpolator.locate(labels)[0], pixels, interpolator.fill_weights(labels))


def generate_jacobian(generator, labels, pixels=None, rv=None):
    """Differentiate spectra with respect to the labels.

    Parameters
    ----------
    generator, labels, pixels, rv : object
        As in `generate`.

    Returns
    -------
    jacobian : ndarray of shape (n, n_wanted, n_labels), float64
        Derivatives.
    """
    return generate_with_jacobian(generator, labels, pixels, rv)[1]


def generate_with_jacobian(generator, labels, pixels=None, rv=None):
    """Generate spectra and differentiate them with respect to the labels.

    Parameters
    ----------
    generator, labels, pixels, rv : object
        As in `generate`.

    Returns
    -------
    flux : ndarray of shape (n, n_wanted), float64
        Fluxes.
    jacobian : ndarray of shape (n, n_wanted, n_labels), float64
        Derivatives.
    """
    pixels, rv = _check_pixels(generator, pixels), _check_rv(rv, len(labels))
    interpolator = generator.interpolator_
    mixture = interpolator.split_at_breaks(labels)
    if mixture is None:
        return _jacobian(generator, interpolator.locate(labels, derivatives=True), pixels, rv)
    rv = rv[mixture.row]
    flux, jacobian = _jacobian(generator, interpolator.locate(mixture.labels, derivatives=True), pixels, rv)
    return mixture.mix(flux), mixture.mix_jacobian(flux, jacobian)


def _jacobian(generator, located, pixels, rv):
    """Fluxes and their derivatives where no cell is broken."""
    weights, _, slopes = located
    n_wanted = len(generator.wavelength_[pixels])
    flux, jacobian = np.empty((len(rv), n_wanted)), np.empty((len(rv), len(slopes), n_wanted))
    for i, (row, *change) in enumerate(zip(split_rows(weights), *map(split_rows, slopes), strict=True)):
        flux[i], derivatives = generator.lines_.render_jacobian(row, change, pixels, rv[i])
        flux[i] += _residual(generator, row, pixels, rv[i])
        for k, slope in enumerate(change):
            jacobian[i, k] = derivatives[k] + _residual(generator, slope, pixels, rv[i], slopes=True)
    return flux, jacobian.transpose(0, 2, 1)


def _lines(generator, weights, rows, pixels, rv):
    """Product of the lines, shape (n, n_wanted)."""
    n_wanted = len(generator.wavelength_[pixels])
    if generator.device is not None and n_wanted and not rv.any():
        return generator.lines_.render_many(weights, pixels, generator.device)
    flux = np.empty((len(rows), n_wanted))
    for i, row in enumerate(rows):
        flux[i] = generator.lines_.render(row, pixels, rv[i])
    return flux


def _residual(generator, weights, pixels, rv, *, slopes=False):
    """Residual of the line model, shape (n_wanted,); NaN beyond the band."""
    residual, wavelength = generator.residual_, generator.wavelength_
    if not rv:
        return 0.0 if residual is None else residual.at(weights, pixels, slopes=slopes)[0]
    rest = wavelength[pixels] / doppler_shift(1.0, rv)
    outside = (rest < wavelength[0]) | (rest > wavelength[-1])
    if residual is None:
        return np.where(outside, np.nan, 0.0)
    near = _around(wavelength, rest)
    values = residual.at(weights, near, slopes=slopes)[0].astype(np.float64)
    return np.where(outside, np.nan, interpolate_cubic(wavelength[near], values, rest))


def _std(generator, weights, pixels, rv, filled):
    """Standard deviations, shape (1, n_wanted): under a velocity, that of the nearest pixel."""
    if not rv:
        return generator.error_map_.std(weights, pixels, filled)
    wavelength = generator.wavelength_
    rest = wavelength[pixels] / doppler_shift(1.0, rv)
    nearest = np.searchsorted((wavelength[1:] + wavelength[:-1]) / 2, rest)
    std = generator.error_map_.std(weights, nearest, filled)
    std[:, (rest < wavelength[0]) | (rest > wavelength[-1])] = np.nan
    return std


def _around(wavelength, rest):
    """Pixels that surround given wavelengths, two to each side, as a slice."""
    if not len(rest):
        return slice(0, 0)
    first, last = np.searchsorted(wavelength, rest[[0, -1]])
    return slice(max(min(first, len(wavelength)) - 3, 0), last + 3)


def _check_pixels(generator, pixels):
    """Pixels as a slice of step 1 or increasing indices."""
    n_pixels = len(generator.wavelength_)
    if pixels is None:
        return slice(0, n_pixels)
    if isinstance(pixels, slice):
        first, last, step = pixels.indices(n_pixels)
        if step == 1:
            return slice(first, max(first, last))
        pixels = np.arange(n_pixels)[pixels]
    pixels = np.asarray(pixels)
    if pixels.dtype == bool and pixels.shape == (n_pixels,):
        pixels = np.flatnonzero(pixels)
    if pixels.ndim != 1 or (len(pixels) and not np.issubdtype(pixels.dtype, np.integer)):
        raise ValueError(
            f"`pixels` has shape {pixels.shape} and dtype {pixels.dtype}; it needs a slice, indices, or a mask of the "
            f"{n_pixels} pixels of `wavelength_`."
        )
    if len(pixels) and (pixels[0] < 0 or pixels[-1] >= n_pixels or (np.diff(pixels) <= 0).any()):
        raise ValueError(
            f"`pixels` must increase strictly from 0 to at most {n_pixels - 1}, but they go from {pixels[0]} to "
            f"{pixels[-1]}. Sort them, and leave out those that occur twice."
        )
    return pixels.astype(np.int64)


def _check_rv(rv, n):
    """Radial velocities, shape (n,)."""
    rv = np.asarray(0.0 if rv is None else rv, dtype=np.float64)
    if rv.shape not in ((), (n,)) or not np.isfinite(rv).all() or (np.abs(rv) > 3e4).any():
        raise ValueError(
            f"`rv` has shape {rv.shape} and values {np.array2string(rv, threshold=4)}; it needs one finite radial "
            f"velocity in km/s, of at most 30,000, for all or for each of the {n} spectra."
        )
    return np.broadcast_to(rv, (n,))
