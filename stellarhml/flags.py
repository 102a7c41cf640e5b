"""Quality flags of lines, of decomposed spectra, and of inferences.

Flags are bits, so that one integer holds any number of them; 0 means that no flag is set. The attribute `meaning` of a
flag explains it.
"""

from enum import IntFlag


class _Flag(IntFlag):
    """A flag with its meaning."""

    def __new__(cls, value, meaning=""):
        flag = int.__new__(cls, value)
        flag._value_, flag.meaning = value, meaning
        return flag


class LineFlag(_Flag):
    """Flags of one line in one spectrum."""

    UNDETECTED = 1, "fitted, but this spectrum has no minimum of the required prominence there"
    ABSENT = 2, "left out of this spectrum: it changes no pixel by 1e-4, or is undetected with fit_undetected=False"
    AT_BOUND = 4, "a parameter ended at a limit of the fit"
    SATURATED = 8, "deeper than nine tenths of its limiting depth: only its wings still grow with its strength"
    ADDED = 16, "undetected line, added from the residuals of the line model"
    AT_EDGE = 32, "its center lies less than one line width inside the fitted pixels, or outside them"


class SpectrumFlag(_Flag):
    """Flags of one decomposed spectrum."""

    NOT_CONVERGED = 1, "the fit reached its maximum number of steps"
    NO_LINES = 2, "no line of the catalogue was fitted"
    POOR_FIT = 4, "the residual RMS of the line model is over three times the median of the training spectra"


class InferenceFlag(_Flag):
    """Flags of one inference."""

    FAILED = 1, "no parameters were inferred: see the message"
    NOT_CONVERGED = 2, "the fit reached its maximum number of steps"
    AT_BOUND = 4, "a parameter is at a bound of the fit or the edge of the grid: the star may lie outside"
    POOR_FIT = 8, "reduced chi-square above 1.3 (2 with line faults, 10 where lines differ), or correlated residuals"
    FEW_PIXELS = 16, "fewer than 20 pixels in use for each free parameter and continuum coefficient"
    WEAK_LINES = 32, "the lines hardly exceed the noise: velocity and labels are poorly constrained"
    REJECTED_PIXELS = 64, "over 1 % of the pixels were clipped: cosmic rays, emission or bad pixels"
    ORDER_OUTSIDE = 128, "more than half of an order lies outside the generator's band; those pixels were not used"
    RESOLVING_POWER = 256, "the line widths fit a resolving power that differs by over 5 % (10 % with line faults)"
    AIR_OR_VACUUM = 512, "wavelengths look like air instead of vacuum, or the reverse: rv may be off by some 80 km/s"
    NOISE_ALONE = 2048, "the generator's own error is unknown: errors include noise only"
    LINES_DIFFER = 4096, "lines differ from the grid's beyond what faults of single lines describe: errors have a floor"
    TELLURICS = (
        32768,
        "telluric lines fit worse than the rest, chi-square over 1.3 times, or none are there: the atlas is not this "
        "night's air, or at other wavelengths",
    )
    SECOND_IN_DOUBT = 8192, "one star explains the spectrum as well as the second star or the spots that were asked for"
    NO_GRID_FITS = 16384, "none of several generators describes the star's lines: its labels are not to be used"
    SLOW_ROTATION = 1024, "rotation is detected at less than three standard deviations: vsini is an upper limit"


def name_flags(value, registry):
    """Names of the flags that are set.

    Parameters
    ----------
    value : int
        Any combination of flags.
    registry : {LineFlag, SpectrumFlag, InferenceFlag}
        Registry of the flags.

    Returns
    -------
    names : str
        Such as ``"UNDETECTED|AT_BOUND"``, empty if none is set.

    Examples
    --------
    >>> from stellarhml.flags import LineFlag, name_flags
    >>> name_flags(5, LineFlag)
    'UNDETECTED|AT_BOUND'
    >>> LineFlag.AT_BOUND.meaning
    'a parameter ended at a limit of the fit'
    """
    return "|".join(flag.name for flag in registry if value & flag)
