r"""Line profiles by name: from a line's own parameters to the components that the kernels evaluate.

A profile defines the parameters of a line, and converts them to rows (center, Lorentz peak, Lorentz half width, Gauss
peak, Gauss sigma, limiting depth) of `kernels.fused`: arrays, or tensors, through which gradients flow. For arrays,
torch is not imported, which would take seconds.

``"pseudo-voigt"`` is Eq. 2 of the paper: :math:`V = a\,[\eta L(x; f) + (1 - \eta) G(x; f)]` with

.. math::
    \eta = 1.36603\,r - 0.47719\,r^2 + 0.11116\,r^3, \quad r = f_L / f, \quad
    f_G = 2\sqrt{2 \ln 2}\,\sigma, \quad f_L = 2 \gamma,

    f^5 = f_G^5 + 2.69269 f_G^4 f_L + 2.42843 f_G^3 f_L^2 + 4.47163 f_G^2 f_L^3 + 0.07842 f_G f_L^4 + f_L^5,

where L and G are of unit area and share the full width f. ``"blase"`` is what the code of gully/blase
computes instead: gamma in L, sigma in G, and f_G = 2.3548 sigma. In both, `a` is an equivalent width in angstrom.
``"saturated-voigt"`` takes the shape of Eq. 2, scaled to unit peak, as an optical depth :math:`v = \tau V(x)/V(0)` of a
line that cannot become deeper than D: :math:`1 - D\,(1 - e^{-v})`. ``"minnaert"`` saturates more gently, as emergent
lines of real atmospheres do, :math:`1 - D\,v / (1 + v)`, and lets core and damping wings have their own strengths,
:math:`v = \tau\,[e^{-x^2/2\sigma^2} + w / (1 + x^2/\gamma^2)]`.

References
----------
.. [1] Ida, T., Ando, M. and Toraya, H. (2000), "Extended pseudo-Voigt function for approximating the Voigt
   profile", J. Appl. Cryst. 33, 1311 (the coefficients, from Thompson et al. 1987). doi:10.1107/S0021889800010219
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from stellarhml.kernels.forms import EXPONENTIAL, MINNAERT, THIN

LINE_PARAMETERS = ("center", "log_amplitude", "log_sigma", "log_gamma")
"""Parameters that every profile begins with: angstrom, then natural logarithms of angstrom."""

_FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))
_SQRT_2PI = math.sqrt(2 * math.pi)
# blase's own constants, kept to reproduce its output to 1e-10
_BLASE_FWHM_PER_SIGMA = 2.3548
_BLASE_PI = 3.141592654


@dataclass(frozen=True)
class Profile:
    """A line profile."""

    name: str  # name for estimators
    parameters: tuple  # names of the parameters of a line, in order
    components: callable  # from an array or tensor (n_lines, n_parameters) to one of shape (n_lines, 6)
    form: int  # form of the line in the product, see `kernels.fused`
    chain: callable = None  # from components to derivatives (n_lines, 6, n_parameters); None: automatic


def get_profile(name):
    """The profile "pseudo-voigt", "blase", "saturated-voigt" or "minnaert"; KeyError if there is none of that name."""
    return PROFILES[name]


def component_rows(profile, theta):
    """Parameters `theta` (n_lines, n_parameters) to components (n_lines, 6), float64, see `kernels.fused`."""
    with np.errstate(over="ignore", invalid="ignore"):  # as torch does; the fits have bounds
        return profile.components(theta)


def components_and_chain(profile, theta):
    """Components (n_lines, 6) of `theta` (n_lines, n_parameters), and their derivatives (n_lines, 6, n_parameters)."""
    if profile.chain is not None:
        components = component_rows(profile, theta)
        return components, profile.chain(components)
    import torch

    n_lines, n_components = len(theta), 6
    # one copy of the lines per component, so that a single backward pass gives all rows of the Jacobian
    copies = torch.tensor(theta).repeat(n_components, 1).requires_grad_()
    components = profile.components(copies).reshape(n_components, n_lines, n_components)
    (grad,) = torch.autograd.grad(torch.einsum("klk->", components), copies)
    chain = grad.reshape(n_components, n_lines, -1).transpose(0, 1)
    return components[0].detach().numpy().copy(), np.ascontiguousarray(chain.numpy())


def _exp(values):
    return np.exp(values) if isinstance(values, np.ndarray) else values.exp()


def _sigmoid(values):
    return expit(values) if isinstance(values, np.ndarray) else values.sigmoid()


def _columns(*columns):
    if isinstance(columns[0], np.ndarray):
        return np.stack(columns, axis=1)
    import torch

    return torch.stack(columns, dim=1)


def _mixing(f_gauss, f_lorentz):
    """Common full width f and Lorentz share eta of a pseudo-Voigt profile."""
    f = (
        f_gauss**5
        + 2.69269 * f_gauss**4 * f_lorentz
        + 2.42843 * f_gauss**3 * f_lorentz**2
        + 4.47163 * f_gauss**2 * f_lorentz**3
        + 0.07842 * f_gauss * f_lorentz**4
        + f_lorentz**5
    ) ** 0.2
    r = f_lorentz / f
    return f, 1.36603 * r - 0.47719 * r**2 + 0.11116 * r**3


def _pseudo_voigt(theta):
    """Eq. 2 of the paper: Lorentzian and Gaussian of the common full width."""
    center, area = theta[:, 0], _exp(theta[:, 1])
    f, eta = _mixing(_FWHM_PER_SIGMA * _exp(theta[:, 2]), 2 * _exp(theta[:, 3]))
    sigma = f / _FWHM_PER_SIGMA
    lorentz_peak = area * eta / (math.pi * f / 2)
    gauss_peak = area * (1 - eta) / (_SQRT_2PI * sigma)
    return _columns(center, lorentz_peak, f / 2, gauss_peak, sigma, 0 * center)


def _blase(theta):
    """Profile of gully/blase: Lorentzian and Gaussian each with their own width."""
    center, area = theta[:, 0], _exp(theta[:, 1])
    sigma, gamma = _exp(theta[:, 2]), _exp(theta[:, 3])
    _, eta = _mixing(_BLASE_FWHM_PER_SIGMA * sigma, 2 * gamma)
    lorentz_peak = area * eta / (_BLASE_PI * gamma)
    gauss_peak = area * (1 - eta) / (_SQRT_2PI * sigma)
    return _columns(center, lorentz_peak, gamma, gauss_peak, sigma, 0 * center)


def _saturated_voigt(theta):
    """Optical depth exp(log_amplitude) at the center, limiting depth 1 / (1 + exp(-logit_depth))."""
    center, tau = theta[:, 0], _exp(theta[:, 1])
    f, eta = _mixing(_FWHM_PER_SIGMA * _exp(theta[:, 2]), 2 * _exp(theta[:, 3]))
    sigma = f / _FWHM_PER_SIGMA
    lorentz_peak = eta / (math.pi * f / 2)
    gauss_peak = (1 - eta) / (_SQRT_2PI * sigma)
    total = lorentz_peak + gauss_peak
    depth = _sigmoid(theta[:, 4])
    return _columns(center, tau * lorentz_peak / total, f / 2, tau * gauss_peak / total, sigma, depth)


def _minnaert(theta):
    """Gauss core of optical depth exp(log_amplitude), Lorentz wings exp(log_wing) times as strong at the center."""
    center, tau = theta[:, 0], _exp(theta[:, 1])
    sigma, gamma = _exp(theta[:, 2]), _exp(theta[:, 3])
    return _columns(center, tau * _exp(theta[:, 5]), gamma, tau, sigma, _sigmoid(theta[:, 4]))


def _minnaert_chain(components):
    """Derivatives of `_minnaert`: for few lines, automatic differentiation would dominate the time of a step."""
    _, wing, gamma, tau, sigma, depth = components.T
    chain = np.zeros((len(components), 6, 6))
    chain[:, 0, 0] = 1.0
    chain[:, 1, 1] = chain[:, 1, 5] = wing
    chain[:, 2, 3] = gamma
    chain[:, 3, 1] = tau
    chain[:, 4, 2] = sigma
    chain[:, 5, 4] = depth * (1 - depth)
    return chain


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("pseudo-voigt", LINE_PARAMETERS, _pseudo_voigt, THIN),
        Profile("blase", LINE_PARAMETERS, _blase, THIN),
        Profile("saturated-voigt", (*LINE_PARAMETERS, "logit_depth"), _saturated_voigt, EXPONENTIAL),
        Profile("minnaert", (*LINE_PARAMETERS, "logit_depth", "log_wing"), _minnaert, MINNAERT, _minnaert_chain),
    )
}
"""Profiles by name."""
