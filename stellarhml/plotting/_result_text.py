"""Texts of figures that show an InferenceResult."""

import numpy as np

from stellarhml._rounding import rounded
from stellarhml.plotting._style import label_symbol, label_text

_A_LINE = 5  # parameters


def number_text(value, error):
    """Value and error, such as "5856.5 ± 3.7"."""
    number, std = rounded(value, error)
    text = f"{number} (fixed)" if error == 0 else f"{number} ± {std}"
    return text.replace("-", "\N{MINUS SIGN}")


def parameter_value(result, name):
    """Symbol, value, error and unit of one parameter as text."""
    unit = label_text(name).partition(" [")[2].removesuffix("]")
    # an axis has dex(cm s-2), a number only dex
    unit = unit.partition("(")[0] or result.units.get(name) or ""
    return f"{label_symbol(name)} = {number_text(result.values[name], result.errors[name])} {unit}".rstrip()


def quality_text(result):
    """Reduced chi-square, numbers of pixels, and flags, as one or two lines of text."""
    chi2 = "errors not given" if np.isnan(result.reduced_chi2) else rf"reduced $\chi^2$ = {result.reduced_chi2:.3g}"
    text = f"{chi2}, {result.n_pixels:,} pixels, {result.n_rejected:,} rejected"
    return f"{text}\nflags: {result.flag_names.replace('|', ', ')}" if result.flags else text


def result_title(result):
    """Parameters, quality and flags of a result, as lines of text."""
    texts = [parameter_value(result, name) for name in result.names]
    rows = [",  ".join(texts[k : k + _A_LINE]) for k in range(0, len(texts), _A_LINE)]
    return "\n".join([*rows, quality_text(result)])


def check_result(result):
    """Raise if a result has no spectra to draw."""
    if not len(result.orders):
        raise ValueError(
            f"The result has no spectra to draw; its flags are {result.flag_names or 'none'}, and its messages "
            f"{'; '.join(result.messages) or 'none'}. Draw a result that did not fail."
        )
