"""What is said of labels outside the grid."""

import warnings

from stellarhml.exceptions import ExtrapolationWarning, LabelsOutsideGridError


def report_outside(labels, outside, bounds, names, extrapolate):
    """Raise or warn.

    Parameters
    ----------
    labels : ndarray of shape (n, n_labels)
        Labels.
    outside : ndarray of shape (n,), bool
        Which lie outside; one at least.
    bounds : ndarray of shape (n_labels, 2)
        Bounds of the grid.
    names : tuple of str
        Names of the labels.
    extrapolate : {"raise", "nan", "nearest"}
        What happens to them.

    Raises
    ------
    LabelsOutsideGridError
        If `extrapolate` is "raise".

    Warns
    -----
    ExtrapolationWarning
        Otherwise, with their number.
    """
    limits = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in zip(names, bounds, strict=True))
    first = {name: float(value) for name, value in zip(names, labels[outside.argmax()], strict=True)}
    found = f"{outside.sum()} of {len(labels)} labels lie outside the grid ({limits}), first {first}"
    if extrapolate == "raise":
        raise LabelsOutsideGridError(
            f"{found}. Stay inside, or set extrapolate='nearest' or 'nan' on the LineManifoldInterpolator."
        )
    fate = "set to NaN" if extrapolate == "nan" else "moved to the nearest point of the grid"
    warnings.warn(f"{found}; they were {fate}.", ExtrapolationWarning, stacklevel=4)
