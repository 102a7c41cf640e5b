r"""LineSpread: line-spread functions that are not Gaussian, and the factor of a resolving power that is not known well.

An order of an `Observation` has a resolving power, which means a Gaussian, or one of these classes. All are functions
of the offset from a line in :math:`\ln \lambda`, positive to longer wavelengths, with the integral 1; a line is at
their zero, so that a function whose mean is not zero moves lines.

Where one width is needed, such as in the fit of line faults, it is that of the Gaussian whose square has the same
integral.
"""

import copy
from functools import partial

import numpy as np

from stellarhml._validation import check_wavelength
from stellarhml.forward.stages import Parameter, numbered_names
from stellarhml.kernels.fourier_broadening import GAUSS_REACH
from stellarhml.kernels.line_spread import SampledForms, SampledTransform, ScaledForm, gauss_hermite, two_gaussians
from stellarhml.physics.broadening import line_spread_sigma
from stellarhml.physics.wavelength import SPEED_OF_LIGHT

FACTOR = "resolving_power_factor"
"""Name of the factor by which the resolving power differs from the stated one."""
FACTOR_BOUNDS = 0.2, 5.0
"""Lowest and highest value of such a factor."""

_HERMITE_REACH = 7.5  # sigmas: the polynomials make 1e-9 of the function lie further
_LARGEST_END = 0.02  # of the peak: value of a kernel at the ends of its table, beyond which it is zero


def factor_parameter(error):
    """The factor of the resolving power as a Parameter, with a prior of 1 +- `error`; ValueError if it is wrong."""
    if isinstance(error, (bool, str)) or np.ndim(error) or not 0 < error <= 1:
        raise ValueError(
            f"`resolving_power_error` is {error!r}; it needs the relative standard deviation of the resolving power, "
            "over 0 and up to 1, such as 0.1 for 10 %. None takes the resolving power as exact."
        )
    text = "resolving power over the stated one"
    return Parameter(FACTOR, "", FACTOR_BOUNDS, text, start=1.0, scale=0.1, prior=(1.0, float(error)))


def order_factors(numbers, scatter):
    """Factor of the resolving power of each order as a Parameter with a prior of 1 +- `scatter`; None if that is None.

    It multiplies that of all orders. `numbers` of orders may occur twice. ValueError if the scatter is wrong.
    """
    if scatter is None:
        return None
    if isinstance(scatter, (bool, str)) or np.ndim(scatter) or not 0 < scatter <= 1:
        raise ValueError(
            f"`resolving_power_scatter` is {scatter!r}; it needs the relative standard deviation between orders of the "
            "resolving power, over 0 and up to 1, such as 0.03 for 3 %. None takes its changes with order as stated."
        )
    names = numbered_names([f"{FACTOR}_{number}" for number in numbers])
    limits = {"bounds": FACTOR_BOUNDS, "start": 1.0, "scale": 0.1, "prior": (1.0, float(scatter))}
    text = "resolving power of one order over the stated one, and over the factor of all"
    return tuple(Parameter(name, description=text, **limits) for name in names)


def is_factor(name):
    """Whether a parameter is a factor of the resolving power, of all orders or of one."""
    return name.startswith(FACTOR)


class LineSpread:
    """Base class of line-spread functions.

    Attributes
    ----------
    parameters : tuple of Parameter
        Parameters of the form that are fitted, with priors about the stated values.
    """

    parameters = ()

    @property
    def sigma(self):
        """Sigma of the equivalent Gaussian in ln wavelength: a number, or an array of shape (n_pixels,)."""
        raise NotImplementedError

    @property
    def reach(self):
        """Largest offset in ln wavelength: a number, or an array of shape (n_pixels,)."""
        raise NotImplementedError

    def bind(self, wavelength, edges):
        """The function for the pixels of an order, after checks.

        Parameters
        ----------
        wavelength : ndarray of shape (n_pixels,)
            Vacuum wavelengths of the pixels in angstrom.
        edges : ndarray of shape (n_pixels + 1,)
            Vacuum wavelengths of their edges in angstrom.

        Returns
        -------
        spread : LineSpread
            A copy that knows the pixels.
        """
        return self

    def part(self, pixels):
        """The function for some of the pixels.

        Parameters
        ----------
        pixels : slice
            The pixels; a step of -1 reverses them.

        Returns
        -------
        spread : LineSpread
            The function for these pixels.
        """
        return self

    def at(self, factor, values):
        """The function at other values of its parameters.

        Parameters
        ----------
        factor : float
            Factor of the resolving power.
        values : dict of str to float
            Values of `parameters` by name; others are ignored.

        Returns
        -------
        spread : LineSpread
            The changed function.
        """
        raise NotImplementedError

    def broadening(self, at, shift):
        """What `kernels.fourier_broadening.observe_rows` applies, for ln wavelengths in the frame of the star.

        Parameters
        ----------
        at : ndarray of shape (n_pixels,)
            Ln wavelengths of the pixels in the frame of the star.
        shift : float
            Observed wavelengths over those of the star.

        Returns
        -------
        form : ScaledForm or SampledForms
            See `stellarhml.kernels.line_spread`.
        """
        raise NotImplementedError

    def _with(self, **changes):
        other = copy.copy(self)
        vars(other).update(changes)
        return other


class _Scaled(LineSpread):
    """A form whose width follows from a resolving power, a number or an array (n_pixels,)."""

    _limits = {}  # lowest and highest value of each parameter
    _descriptions = {}

    def __init__(self, resolving_power, shape, errors):
        power = np.asarray(resolving_power, dtype=np.float64)
        if power.ndim > 1 or not (power > 1).all() or not np.isfinite(power).all():
            raise ValueError(
                f"`resolving_power` has shape {power.shape} and values {np.array2string(power, threshold=4)}; it needs "
                "a finite number over 1, or one for each pixel."
            )
        self.resolving_power = power if power.ndim else float(power)
        self._shape, errors = {name: float(value) for name, value in shape.items()}, errors or {}
        for name, value in self._shape.items():
            low, high = self._limits[name]
            if not low <= value <= high:
                raise ValueError(f"`{name}` is {value}; it needs a number from {low:g} to {high:g}.")
        for name, error in errors.items():
            if name not in self._shape or not 0 < error < np.inf:
                raise ValueError(
                    f"`errors` has {name!r}: {error!r}; it needs positive standard deviations of "
                    f"{' or '.join(self._shape)}."
                )
        self.parameters = tuple(
            Parameter(
                name,
                "",
                self._limits[name],
                self._descriptions[name],
                start=value,
                scale=0.1,
                prior=(value, float(errors[name])),
            )
            for name, value in self._shape.items()
            if name in errors
        )

    def bind(self, wavelength, edges):
        if np.ndim(self.resolving_power) and len(self.resolving_power) != len(wavelength):
            raise ValueError(
                f"`resolving_power` of the line-spread function has {len(self.resolving_power)} values for "
                f"{len(wavelength)} pixels; it needs a number, or one for each pixel."
            )
        return self

    def part(self, pixels):
        if np.ndim(self.resolving_power) == 0:
            return self
        return self._with(resolving_power=self.resolving_power[pixels])

    def at(self, factor, values):
        shape = {name: float(values.get(name, value)) for name, value in self._shape.items()}
        return self._with(resolving_power=self.resolving_power * factor, _shape=shape)

    def broadening(self, at, shift):
        names = list(self._shape)
        wanted = [names.index(parameter.name) for parameter in self.parameters]
        form, sigma = partial(type(self)._form, **self._shape), line_spread_sigma(self.resolving_power)
        return ScaledForm(form, sigma, at, reach=float(np.max(self.reach)), wanted=wanted)


class GaussHermite(_Scaled):
    r"""A Gauss-Hermite series: a Gaussian with asymmetry h3 and symmetric deviation h4.

    With y the offset over :math:`\sigma`, the density is proportional to
    :math:`e^{-y^2/2} [1 + h_3 (2 y^3 - 3 y) / \sqrt 3 + h_4 (4 y^4 - 12 y^2 + 3) / \sqrt{24}]` [1]_.

    Parameters
    ----------
    resolving_power : float or array-like of shape (n_pixels,)
        Wavelength over the full width at half maximum of the Gaussian.
    h3 : float, default=0.0
        Asymmetry, from -0.3 to 0.3; positive: a wing to longer wavelengths. It moves the mean by :math:`\sqrt 3 h_3`
        sigma.
    h4 : float, default=0.0
        Symmetric deviation, from -0.2 to 0.3; positive: a sharper peak and extended wings.
    errors : dict, default=None
        Standard deviations of normal priors about the stated values, of those of "h3" and "h4" that are to be fitted.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    .. [1] van der Marel, R. P. and Franx, M. (1993), "A new method for the identification of non-Gaussian line profiles
       in elliptical galaxies", ApJ 407, 525. doi:10.1086/172534

    Examples
    --------
    >>> from stellarhml.forward.line_spread import GaussHermite
    >>> GaussHermite(55_000, h3=0.03, errors={"h4": 0.05}).parameters[0].name
    'h4'
    """

    _limits = {"h3": (-0.3, 0.3), "h4": (-0.2, 0.3)}
    _descriptions = {"h3": "asymmetry of the line spread", "h4": "symmetric deviation of the line spread"}
    _form = staticmethod(gauss_hermite)

    def __init__(self, resolving_power, *, h3=0.0, h4=0.0, errors=None):
        super().__init__(resolving_power, {"h3": h3, "h4": h4}, errors)

    @property
    def sigma(self):
        """As `LineSpread.sigma`."""
        h3, h4 = self._shape.values()
        return line_spread_sigma(self.resolving_power) * (1 + 3 * h4 / np.sqrt(24)) ** 2 / (1 + h3**2 + h4**2)

    @property
    def reach(self):
        """As `LineSpread.reach`."""
        return _HERMITE_REACH * line_spread_sigma(self.resolving_power)


class TwoGaussians(_Scaled):
    """Two Gaussians with the same center: a core, and a wider one, such as scattered light.

    Parameters
    ----------
    resolving_power : float or array-like of shape (n_pixels,)
        Wavelength over the full width at half maximum of the narrow Gaussian.
    wide_ratio : float
        Width of the wide Gaussian over that of the narrow one, from 1 to 20.
    wide_share : float
        Share of the light in the wide Gaussian, from 0 to 0.9.
    errors : dict, default=None
        Standard deviations of normal priors about the stated values, of those of "wide_ratio" and "wide_share" that are
        to be fitted.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from stellarhml.forward.line_spread import TwoGaussians
    >>> wide = TwoGaussians(55_000, wide_ratio=3.0, wide_share=0.1)
    >>> round(float(wide.sigma * 299_792.458), 2)
    2.59
    """

    _limits = {"wide_ratio": (1.0, 20.0), "wide_share": (0.0, 0.9)}
    _descriptions = {
        "wide_ratio": "width of the wide part of the line spread over that of its core",
        "wide_share": "share of light in the wide part of the line spread",
    }
    _form = staticmethod(two_gaussians)

    def __init__(self, resolving_power, *, wide_ratio, wide_share, errors=None):
        super().__init__(resolving_power, {"wide_ratio": wide_ratio, "wide_share": wide_share}, errors)

    @property
    def sigma(self):
        """As `LineSpread.sigma`."""
        ratio, share = self._shape.values()
        square = (1 - share) ** 2 + share**2 / ratio + 2 * share * (1 - share) * np.sqrt(2 / (1 + ratio**2))
        return line_spread_sigma(self.resolving_power) / square

    @property
    def reach(self):
        """As `LineSpread.reach`."""
        return GAUSS_REACH * self._shape["wide_ratio"] * line_spread_sigma(self.resolving_power)


class SampledKernels(LineSpread):
    """Kernels as an instrument's model or lines of a lamp give them, at one or several wavelengths.

    Between samples a kernel is a cubic spline, and beyond them it is zero. Between wavelengths kernels are interpolated
    linearly in ln wavelength; beyond the first and the last they stay as they are. Take kernels so near to each other
    that their widths differ by a few percent.

    Parameters
    ----------
    wavelength : array-like of shape (n_wavelengths,)
        Vacuum wavelengths of the kernels in angstrom, increasing, in the frame of the spectrum.
    offset : array-like of shape (n_offsets,)
        Offsets from the line, increasing, positive to longer wavelengths, in `unit`: eight at least, in steps that
        sample the kernel.
    kernel : array-like of shape (n_wavelengths, n_offsets)
        The kernels, in any unit: their integrals are normalised. They must fall to 2 % of their peak at both ends.
    unit : {"km/s", "angstrom"}
        Unit of `offset`.

    Raises
    ------
    ValueError
        If shapes do not match, values do not increase, or a kernel is cut off at an end.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.forward.line_spread import SampledKernels
    >>> offset = np.linspace(-15, 15, 31)
    >>> kernels = SampledKernels([8600.0], offset, np.exp(-0.5 * (offset[None] / 2.5) ** 2), unit="km/s")
    >>> round(float(kernels.sigma * 299_792.458), 3)
    2.5
    """

    def __init__(self, wavelength, offset, kernel, *, unit):
        if unit not in ("km/s", "angstrom"):
            raise ValueError(f"`unit` is {unit!r}; it needs 'km/s' or 'angstrom', the unit of `offset`.")
        wavelength, offset = (np.array(part, dtype=np.float64, ndmin=1) for part in (wavelength, offset))
        kernel = np.array(kernel, dtype=np.float64, ndmin=2)
        if kernel.shape != (len(wavelength), len(offset)) or len(offset) < 8:
            raise ValueError(
                f"`kernel` has shape {kernel.shape} for {len(wavelength)} wavelengths and {len(offset)} offsets; it "
                "needs a row for each wavelength, and eight offsets at least."
            )
        for name, values in (("wavelength", wavelength), ("offset", offset)):
            if not np.isfinite(values).all() or not (np.diff(values) > 0).all():
                raise ValueError(f"`{name}` must be finite and increase strictly. Sort it, and the kernels with it.")
        ends, peak = np.abs(kernel[:, [0, -1]]).max(axis=1), kernel.max(axis=1)
        if not np.isfinite(kernel).all() or not (ends <= _LARGEST_END * peak).all() or not (peak > 0).all():
            raise ValueError(
                f"A kernel has {np.nanmax(ends / peak):.2g} of its peak at an end of `offset`; all need finite values, "
                f"a positive peak, and at most {_LARGEST_END:g} of it at both ends. Subtract a background, or take "
                "kernels to larger offsets."
            )
        scales = np.full(len(wavelength), SPEED_OF_LIGHT) if unit == "km/s" else wavelength
        self._at = np.log(wavelength)
        self._transforms = [SampledTransform(offset / scale, row) for scale, row in zip(scales, kernel, strict=True)]
        self._factor, self._pixels = 1.0, None

    @property
    def sigma(self):
        """As `LineSpread.sigma`."""
        squares = np.array([transform.square for transform in self._transforms])
        at = self._at[:1] if self._pixels is None else self._pixels
        sigma = np.interp(at, self._at, 1 / (2 * np.sqrt(np.pi) * squares * self._factor))
        return float(sigma[0]) if len(squares) == 1 or self._pixels is None else sigma

    @property
    def reach(self):
        """As `LineSpread.reach`."""
        return max(transform.reach for transform in self._transforms) / self._factor

    def bind(self, wavelength, edges):
        """As `LineSpread.bind`."""
        return self._with(_pixels=np.log(wavelength))

    def part(self, pixels):
        """As `LineSpread.part`."""
        return self if self._pixels is None else self._with(_pixels=self._pixels[pixels])

    def at(self, factor, values):
        """As `LineSpread.at`."""
        return self._with(_factor=self._factor * factor)

    def broadening(self, at, shift):
        """As `LineSpread.broadening`."""
        return SampledForms(self._transforms, self._at - np.log(shift), self._factor)


class ResolutionMatrix(LineSpread):
    """A banded matrix for each order, as spectroperfectionism gives it (DESI): it acts on the pixels of the model.

    The model is integrated over pixels, and the flux of pixel i is the sum of `data` times those of its neighbours.
    Pixels whose neighbours lie beyond an end of the order are left out. A matrix has no width that could be changed: it
    cannot be given with `resolving_power_error`.

    Parameters
    ----------
    data : array-like of shape (n_diagonals, n_pixels)
        Diagonals as `scipy.sparse.dia_matrix` stores them: ``data[k, j]`` is the element (j - offsets[k], j). Rows of
        the matrix have the sum 1.
    offsets : array-like of shape (n_diagonals,), default=None
        Offsets of the diagonals, from -h to h in any sequence; None: from h down to -h, as in files of DESI.

    Raises
    ------
    ValueError
        If offsets do not match, or sums are far from 1.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.forward.line_spread import ResolutionMatrix
    >>> ResolutionMatrix(np.repeat([[0.25], [0.5], [0.25]], 100, axis=1)).n_pixels
    100
    """

    def __init__(self, data, offsets=None):
        data = np.array(data, dtype=np.float64, ndmin=2)
        n, n_pixels = data.shape
        half = n // 2
        offsets = half - np.arange(n) if offsets is None else np.asarray(offsets)
        if n % 2 == 0 or n_pixels < n or not np.array_equal(np.sort(offsets), np.arange(-half, half + 1)):
            raise ValueError(
                f"`data` has shape {data.shape} and the offsets {offsets}; it needs an odd number of diagonals, one "
                "for each offset from -h to h, and more pixels than diagonals."
            )
        rows = np.full((n_pixels, n), np.nan)
        for offset, diagonal in zip(offsets.tolist(), data, strict=True):
            first, last = max(-offset, 0), n_pixels - max(offset, 0)
            rows[first:last, half + offset] = diagonal[first + offset : last + offset]
        sums = rows[half : n_pixels - half].sum(axis=1)
        known = sums[np.isfinite(sums)]
        middle = float(np.median(known)) if len(known) else np.nan
        if not 0.8 < middle < 1.25:
            raise ValueError(
                f"The rows of the resolution matrix have a median sum of {middle:.3g}; it must be 1. "
                "Divide by it, and check that `offsets` are those of the diagonals."
            )
        rows[half : n_pixels - half][sums == 0] = np.nan  # pixels without light
        self._rows, self._edges = rows, None

    @property
    def n_pixels(self):
        """Number of pixels."""
        return len(self._rows)

    @property
    def half(self):
        """Number of neighbours on each side."""
        return self._rows.shape[1] // 2

    @property
    def sigma(self):
        """As `LineSpread.sigma`."""
        square = np.nansum(self._rows**2, axis=1) / np.maximum(np.nansum(self._rows, axis=1) ** 2, 1e-30)
        typical = np.median(square[square > 0])
        return np.diff(np.log(self.inner_edges)) / (2 * np.sqrt(np.pi) * np.where(square > 0, square, typical))

    @property
    def reach(self):
        """As `LineSpread.reach`."""
        x, half = np.log(self.edges), self.half
        left = x[half : len(x) - half - 1] - x[: len(x) - 2 * half - 1]
        right = x[2 * half + 1 :] - x[half + 1 : len(x) - half]
        return np.maximum(left, right)

    @property
    def edges(self):
        """Edges of the pixels and of their neighbours beyond the ends, (n_pixels + 2 half + 1,) in angstrom."""
        if self._edges is None:
            raise ValueError("The resolution matrix belongs to no pixels yet: pass it to an Observation.")
        return self._edges

    @property
    def inner_edges(self):
        """Edges of the pixels, (n_pixels + 1,) in angstrom."""
        return self.edges[self.half : len(self.edges) - self.half]

    def bind(self, wavelength, edges):
        """As `LineSpread.bind`."""
        if len(wavelength) != self.n_pixels:
            raise ValueError(
                f"The resolution matrix has {self.n_pixels} pixels for an order of {len(wavelength)}; it needs the "
                "columns of exactly these pixels."
            )
        first, last, beyond = edges[1] - edges[0], edges[-1] - edges[-2], np.arange(1, self.half + 1)
        whole = np.concatenate([edges[0] - first * beyond[::-1], edges, edges[-1] + last * beyond])
        return self._with(_edges=check_wavelength(whole))

    def part(self, pixels):
        """As `LineSpread.part`."""
        if pixels.step == -1:
            return self._with(_rows=self._rows[::-1, ::-1])
        start, stop, _ = pixels.indices(self.n_pixels)
        edges = None if self._edges is None else self._edges[start : stop + 2 * self.half + 1]
        return self._with(_rows=self._rows[start:stop], _edges=edges)

    def at(self, factor, values):
        """As `LineSpread.at`: a matrix has no parameters."""
        return self

    def shifted(self, ratio):
        """The matrix for pixels whose wavelengths are divided by a ratio."""
        return self._with(_edges=self.edges / ratio)

    def apply(self, rows):
        """Multiply rows (m, n_pixels + 2 half), means over pixels and their neighbours; returns (m, n_pixels)."""
        windows = np.lib.stride_tricks.sliding_window_view(rows, self._rows.shape[1], axis=1)
        return np.einsum("mpd,pd->mp", windows, self._rows)
