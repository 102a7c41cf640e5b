"""The one registry of flags: what may be wrong with a line, with a spectrum, or with an inference.

Flags are bits, so that one integer holds any number of them; 0 means that nothing is to be said. The meaning of each
is its attribute `meaning`.
"""

from enum import IntFlag


class _Flag(IntFlag):
    """A flag that knows its meaning."""

    def __new__(cls, value, meaning=""):
        flag = int.__new__(cls, value)
        flag._value_, flag.meaning = value, meaning
        return flag


class LineFlag(_Flag):
    """Of one line in one spectrum."""

    UNDETECTED = 1, "fitted, though this spectrum has no minimum of the asked prominence there"
    ABSENT = 2, "left out of this spectrum: changes it nowhere by 1e-4, or not detected and fit_undetected=False"
    AT_BOUND = 4, "a parameter ended at the limit that the fit sets to it"
    SATURATED = 8, "deeper than nine tenths of its limiting depth: its strength shows in its wings only"
    ADDED = 16, "a minimum of no spectrum: added where the residuals asked for it"
    AT_EDGE = 32, "its center lies within one width of the ends of the pixels that count, or beyond them"


class SpectrumFlag(_Flag):
    """Of one spectrum."""

    NOT_CONVERGED = 1, "the fit ran out of steps"
    NO_LINES = 2, "no line of the catalogue was fitted"
    POOR_FIT = 4, "the clone is off by more than three times what the training spectra have in the median"


class InferenceFlag(_Flag):
    """Of one inference."""

    FAILED = 1, "nothing could be inferred; the message says why"
    NOT_CONVERGED = 2, "the fit ran out of steps"
    AT_BOUND = 4, "a parameter ended at a bound, where the grid, or what was allowed, ends: the star may lie beyond"
    POOR_FIT = 8, "residuals are larger than noise and the generator's error, or go together: errors were raised"
    FEW_PIXELS = 16, "fewer good pixels than 20 for each free number"
    WEAK_LINES = 32, "the lines of the star do not stand out of the noise: velocity and labels may be any"
    REJECTED_PIXELS = 64, "over 1 % of the pixels look like no star: cosmic rays, emission, bad pixels"
    ORDER_OUTSIDE = 128, "an order lies outside of the generator's band, wholly or by half, and was not used there"
    RESOLVING_POWER = 256, "the lines ask for another resolving power, by more than 5 %"
    AIR_OR_VACUUM = 512, "wavelengths drift as if air and vacuum had been mixed up: rv is off by some 80 km/s"
    NOISE_ALONE = 2048, "the generator does not know its own error: errors are those of the noise alone"
    SLOW_ROTATION = 1024, "rotation cannot be told from none by three standard deviations: take vsini as an upper limit"


def name_flags(value, registry):
    """Names of the flags that are set.

    Parameters
    ----------
    value : int
        Any combination of flags.
    registry : {LineFlag, SpectrumFlag, InferenceFlag}
        What they are flags of.

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
    'a parameter ended at the limit that the fit sets to it'
    """
    return "|".join(flag.name for flag in registry if value & flag)
