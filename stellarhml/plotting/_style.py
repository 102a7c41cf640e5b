"""Colours, axis labels and names of lines that all displays share."""

# Okabe and Ito (2008), distinct with any colour vision
OBSERVED, MODEL, RESIDUAL, NOISE = "#000000", "#D55E00", "#56B4E9", "#000000"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
COLOUR_MAP = "cividis"
MISSING = "0.88"  # cells of a map without a value
UNUSED = "0.65"  # pixels that a fit did not use

_LABEL_TEXT = {
    "teff": r"$T_\mathrm{eff}$ [K]",
    "logg": r"$\log g$ [dex(cm s$^{-2}$)]",
    "feh": "[Fe/H] [dex]",
    "alpha": r"[$\alpha$/Fe] [dex]",
    "rv": "RV [km/s]",
    "vsini": r"$v\,\sin i$ [km/s]",
    "vmac": r"$v_\mathrm{mac}$ [km/s]",
    "vmic": r"$v_\mathrm{mic}$ [km/s]",
}
_PARAMETER_TEXT = {
    "center": "center [Å]",
    "log_sigma": r"$\ln(\sigma$ / Å)",
    "log_gamma": r"$\ln(\gamma$ / Å)",
    "logit_depth": "logit of the limiting depth",
    "log_wing": "ln(wing / core)",
    "depth": "depth [continuum]",
    "equivalent_width": "equivalent width [Å]",
    "saturation": "saturation (0 none, 1 full)",
}

PLAIN_TEXT = {
    "teff": "Teff [K]",
    "logg": "log g [dex(cm/s²)]",
    "feh": "[Fe/H] [dex]",
    "alpha": "[alpha/Fe] [dex]",
    "rv": "Radial velocity [km/s]",
    "vsini": "v sin i [km/s]",
    "power": "Resolving power",
    "resolving_power_factor": "Factor of resolving power",
    "vmac": "Macroturbulence [km/s]",
    "flux_ratio": "Flux ratio, star 2 to 1",
    "teff_2": "Teff, star 2 [K]",
    "logg_2": "log g, star 2 [dex(cm/s²)]",
    "rv_2": "RV, star 2 [km/s]",
    "vsini_2": "v sin i, star 2 [km/s]",
    "teff_spot": "Teff of spots [K]",
    "f_spot": "Spots, share of surface",
    "veiling": "Veiling",
    "veiling_slope": "Veiling slope [1/1000 Å]",
    "rv_air": "Velocity of the air [km/s]",
    "center": "center [Å]",
    "log_amplitude": "ln amplitude",
    "log_sigma": "ln(sigma / Å)",
    "log_gamma": "ln(gamma / Å)",
    "logit_depth": "logit of limiting depth",
    "log_wing": "ln(wing / core)",
    "equivalent_width": "equivalent width [Å]",
}
"""Names with units in plain text: labels, and line parameters. Others have their own name."""


def plain_symbol(name):
    """A name of `PLAIN_TEXT` without its unit."""
    text = PLAIN_TEXT.get(name, name)
    return text.rsplit(" [", 1)[0] if text.endswith("]") else text


def line_name(wavelength, species=""):
    """Name of a line by its catalogue wavelength [angstrom] and, where it is known, its species: "Fe I 8516.41"."""
    return f"{species} {wavelength:.2f}".strip()


def label_text(name):
    """Axis label of a parameter of a star, with its unit where it is known."""
    return _LABEL_TEXT.get(name, name)


def label_symbol(name):
    """Symbol of a parameter of a star, without its unit."""
    return label_text(name).split(" [")[0]


def parameter_text(name, *, saturates):
    """Axis label of a line parameter; the amplitude of a saturating profile is an optical depth."""
    if name == "log_amplitude":
        return "ln(optical depth)" if saturates else "ln(equivalent width / Å)"
    return _PARAMETER_TEXT.get(name, name)
