"""Colours and axis labels that all displays share."""

# Okabe and Ito (2008), told apart by readers with any colour vision
OBSERVED, MODEL, RESIDUAL, NOISE = "#000000", "#D55E00", "#56B4E9", "#000000"
COLOUR_MAP = "cividis"

_LABEL_TEXT = {
    "teff": r"$T_\mathrm{eff}$ [K]",
    "logg": r"$\log g$ [dex(cm s$^{-2}$)]",
    "feh": "[Fe/H] [dex]",
    "alpha": r"[$\alpha$/Fe] [dex]",
}
_PARAMETER_TEXT = {
    "center": "center [Å]",
    "log_sigma": r"$\ln(\sigma$ / Å)",
    "log_gamma": r"$\ln(\gamma$ / Å)",
    "logit_depth": "logit of the limiting depth",
    "log_wing": "ln(wing / core)",
}


def label_text(name):
    """Axis label of a stellar label, with its unit where it is known."""
    return _LABEL_TEXT.get(name, name)


def parameter_text(name, *, saturates):
    """Axis label of a line parameter; the amplitude of a profile that saturates is an optical depth."""
    if name == "log_amplitude":
        return "ln(optical depth)" if saturates else "ln(equivalent width / Å)"
    return _PARAMETER_TEXT.get(name, name)
