r"""Macroturbulence: Doppler shifts by motions on scales that are larger than the depth of formation of the lines.

Spectra are convolved in :math:`x = \ln \lambda` with the distribution of velocities, by its Fourier transform at the
wave number :math:`k`. With :math:`\zeta` the `vmac` in units of c and :math:`a = k^2 \zeta^2 / 4`, the profiles are

gaussian
    Velocities v along the line of sight have the density :math:`e^{-v^2 / \zeta^2} / (\sqrt\pi\,\zeta)` everywhere on
    the disc, with a standard deviation of :math:`\zeta / \sqrt 2`. The transform is :math:`e^{-a}`.
radial-tangential
    Half of the surface moves along the radius of the star and half along its surface (Gray 2005), each with that
    density. At :math:`\mu = \cos\theta` from the center of the disc, shifts are those velocities times :math:`\mu` and
    :math:`\sqrt{1 - \mu^2}`. The average over the disc, without limb darkening, is

    .. math::
        \int_0^1 \frac{e^{-a \mu^2} + e^{-a (1 - \mu^2)}}{2}\,2 \mu\,d\mu = \frac{1 - e^{-a}}{a}.

    The standard deviation is :math:`\zeta / 2`. Lines have pointed cores, and extended wings for their width.

References
----------
.. [1] Gray, D. F. (2005), "The Observation and Analysis of Stellar Photospheres", 3rd edition, Cambridge University
   Press, chapter 17. doi:10.1017/CBO9781316036570
"""

import numpy as np

from stellarhml.forward.stages import Parameter, Rows, Stage
from stellarhml.kernels.fourier_broadening import broaden_rows
from stellarhml.physics.wavelength import SPEED_OF_LIGHT

VMAC = Parameter(
    "vmac",
    "km/s",
    (0.0, 50.0),
    "macroturbulent velocity",
    start=3.0,  # not zero, where its derivative vanishes
    scale=10.0,
    softening=3.0,
    physical_floor=True,
)

_SLOWEST = VMAC.softening / 30  # km/s: the slowest at which `Parameter.slope` multiplies the vanishing derivative
_REACH = 3.5  # in units of vmac: 7e-7 of the light is shifted further
_UNEVEN = 1e-4  # largest relative change of the step, which changes widths by as much
_SMALL = 1e-2  # arguments below which a difference is computed from its series


class Macroturbulence(Stage):
    r"""Convolve with the velocities of macroturbulence, after rotation.

    Its parameter is `vmac`, :math:`\zeta` in km/s; the standard deviation of the shifts is :math:`\zeta / 2` for the
    radial-tangential profile, and :math:`\zeta / \sqrt 2` for the Gaussian one.

    Parameters
    ----------
    profile : {"radial-tangential", "gaussian"}, default="radial-tangential"
        Profile of the convolution. "radial-tangential": half of the surface moves along the radius, half along the
        surface, each with velocities of the density :math:`e^{-v^2 / \zeta^2} / (\sqrt\pi\,\zeta)`; integrated over
        the disc without limb darkening. "gaussian": this density along the line of sight.

    Raises
    ------
    ValueError
        If there is no such profile.

    Notes
    -----
    Rotation and macroturbulence are two convolutions: that their mixture changes over the disc, and that macroturbulent
    lines are limb-darkened, is neglected.

    `vmac`, `vsini` and the resolving power all broaden lines, and differ in the shape of the lines alone. At moderate
    resolving power, where the line-spread function is wider than both, they are nearly degenerate: fix `vsini` or give
    it a prior, or fix `vmac` to a value for stars of its kind. A `vmac` below six times its standard deviation is an
    upper limit, as for `vsini`.

    Examples
    --------
    >>> from stellarhml.forward.macroturbulence import Macroturbulence
    >>> stage = Macroturbulence("gaussian")
    >>> stage.parameters[0].name, stage.margin({"vmac": 4.0})
    ('vmac', 14.0)
    """

    parameters = (VMAC,)

    def __init__(self, profile="radial-tangential"):
        if not isinstance(profile, str) or profile not in _TRANSFORMS:
            raise ValueError(
                f"The profile of macroturbulence is {profile!r}; it needs {' or '.join(map(repr, _TRANSFORMS))}."
            )
        self._transform = _TRANSFORMS[profile]

    def margin(self, values):
        """Distance in km/s over which light is moved, see `Stage.margin`."""
        return _REACH * _speed(values)

    def apply(self, rows, values):
        """Convolve the rows, see `Stage.apply`; they must be evenly spaced in ln wavelength."""
        speed, step = _speed(values), _even_step(rows.wavelength)
        table = np.stack([rows.flux, *rows.tangents.values(), *rows.modes.values()])
        if speed:
            table = broaden_rows(table, step, lambda k: self._broadening(k, speed)[0])
        flux, *others = table
        n = len(rows.tangents)
        tangents = dict(zip(rows.tangents, others[:n], strict=True))
        if tangents:
            by_speed = broaden_rows(rows.flux[None], step, lambda k: self._broadening(k, max(speed, _SLOWEST))[1])
            tangents[VMAC.name] = by_speed[0]
        return Rows(rows.wavelength, flux, tangents, dict(zip(rows.modes, others[n:], strict=True)))

    def _broadening(self, k, speed):
        """Fourier transform at wave numbers `k`, and its derivative by the speed in km/s."""
        transform, slope = self._transform((k * (speed / SPEED_OF_LIGHT) / 2) ** 2)
        return transform, slope * k**2 * (speed / SPEED_OF_LIGHT**2) / 2


def _gaussian(a):
    """Transform of the Gaussian profile at a, and its derivative by a."""
    transform = np.exp(-a)
    return transform, -transform


def _radial_tangential(a):
    """Transform of the radial-tangential profile at a, and its derivative by a."""
    safe = np.maximum(a, _SMALL)
    transform = -np.expm1(-safe) / safe
    slope = (np.exp(-safe) - transform) / safe
    low = a < _SMALL
    z = a[low]
    transform[low] = 1 - z / 2 + z**2 / 6 - z**3 / 24 + z**4 / 120
    slope[low] = -1 / 2 + z / 3 - z**2 / 8 + z**3 / 30 - z**4 / 144
    return transform, slope


_TRANSFORMS = {"radial-tangential": _radial_tangential, "gaussian": _gaussian}


def _speed(values):
    """The vmac among the values of all parameters, in km/s."""
    speed = values[VMAC.name]
    if np.ndim(speed) or not 0 <= speed < np.inf:
        raise ValueError(f"`{VMAC.name}` is {speed}; it needs one number of 0 km/s or more.")
    return float(speed)


def _even_step(wavelength):
    """Step of wavelengths (n,) that are evenly spaced in ln wavelength."""
    steps = np.diff(np.log(wavelength))
    if not len(steps) or not np.ptp(steps) <= _UNEVEN * abs(steps.mean()):
        raise ValueError(
            f"Macroturbulence was given {len(wavelength)} wavelengths that are not evenly spaced in ln wavelength. It "
            "needs rows as ForwardChain makes them; resample them before."
        )
    return float(steps.mean())
