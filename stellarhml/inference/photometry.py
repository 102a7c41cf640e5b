r"""Priors from photometry: effective temperature from color.

.. math:: 5040 / T_{eff} = b_0 + b_1 C + b_2 C^2 + b_3 [Fe/H] + b_4 [Fe/H]^2 + b_5 [Fe/H]\, C

with C the dereddened color BP - RP of Gaia (E)DR3 (Mucciarelli, Bellazzini & Massari 2021, Table 1).

References
----------
.. [1] Mucciarelli, A., Bellazzini, M. & Massari, D. (2021), "Exploiting the Gaia EDR3 photometry to derive stellar
   temperatures", A&A 653, A90. doi:10.1051/0004-6361/202140979
"""

import numpy as np

_DWARF = (0.4929, 0.5092, -0.0353, 0.0192, -0.0020, -0.0395), (0.39, 1.50), 61.0  # coefficients, range, scatter [K]
_GIANT = (0.5323, 0.4775, -0.0344, -0.0110, -0.0020, -0.0009), (0.33, 1.81), 83.0


def teff_from_gaia(bp_rp, feh=0.0, *, bp_rp_error=0.0, feh_error=0.0, giant=False):
    """Effective temperature from the Gaia color, as a prior.

    Parameters
    ----------
    bp_rp : float
        Dereddened BP - RP of Gaia EDR3 or DR3, in mag.
    feh : float, default=0.0
        Expected [Fe/H], in dex.
    bp_rp_error, feh_error : float, default=0.0
        Their standard deviations.
    giant : bool, default=False
        Whether the star is a giant (log g below 3 or so).

    Returns
    -------
    mean, std : float
        Teff in K and its standard deviation with the scatter of the relation, as ``priors={"teff": ...}`` takes them.

    Raises
    ------
    ValueError
        If the color lies outside of the range of the relation, or an error is negative.

    Examples
    --------
    >>> from stellarhml.inference import teff_from_gaia
    >>> teff, std = teff_from_gaia(0.82)
    >>> round(teff), round(std)
    (5684, 61)
    """
    (b0, b1, b2, b3, b4, b5), (low, high), scatter = _GIANT if giant else _DWARF
    if not low <= bp_rp <= high:
        kind = "giants" if giant else "dwarfs"
        raise ValueError(
            f"`bp_rp` is {bp_rp}, but the relation for {kind} holds from {low} to {high} mag. Give your own prior: a "
            "mean and a standard deviation."
        )
    if not (bp_rp_error >= 0 and feh_error >= 0):
        raise ValueError(f"`bp_rp_error` is {bp_rp_error} and `feh_error` {feh_error}; neither may be negative.")
    theta = b0 + b1 * bp_rp + b2 * bp_rp**2 + b3 * feh + b4 * feh**2 + b5 * feh * bp_rp
    teff = 5040.0 / theta
    by_color = (b1 + 2 * b2 * bp_rp + b5 * feh) * bp_rp_error * teff / theta
    by_metals = (b3 + 2 * b4 * feh + b5 * bp_rp) * feh_error * teff / theta
    return float(teff), float(np.sqrt(scatter**2 + by_color**2 + by_metals**2))
