"""Splitters that hold out nodes of a label grid, interior ones only: a node at the edge would test extrapolation."""

from numbers import Integral

import numpy as np
from sklearn.model_selection import BaseCrossValidator


class LeaveOneNodeOut(BaseCrossValidator):
    """Leave out one interior node of the label grid at a time.

    All samples with the labels of the node are held out together. A node is interior if each of its labels lies
    strictly between the smallest and the largest of that label. A label with fewer than three distinct values has
    nothing between them and restricts nothing: held-out nodes then sit at one of its values, and are
    interpolated along the other labels.

    Parameters
    ----------
    labels : {"y", "X"}, default="y"
        Argument of `split` that holds the labels: "y" for regressors from flux to labels, "X" for generators from
        labels to flux.

    See Also
    --------
    LeavePlaneOut : Hold out all nodes with one value of a label.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.model_selection import LeaveOneNodeOut
    >>> y = np.array([[5000.0], [5100.0], [5200.0], [5300.0]])
    >>> [test.tolist() for train, test in LeaveOneNodeOut().split(np.zeros((4, 2)), y)]
    [[1], [2]]
    """

    def __init__(self, *, labels="y"):
        self.labels = labels

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of interior nodes.

        Parameters
        ----------
        X, y : array-like
            As in `split`; the one that holds the labels is needed.
        groups : None
            Ignored, present for the protocol.

        Returns
        -------
        n_splits : int
            Number of splits.
        """
        return len(self._held_out(_pick_labels(self.labels, X, y)))

    def _iter_test_indices(self, X=None, y=None, groups=None):
        yield from self._held_out(_pick_labels(self.labels, X, y))

    def _held_out(self, labels):
        """Rows of each interior node, a list of index arrays."""
        nodes, member = np.unique(labels, axis=0, return_inverse=True)
        wide = np.array([np.unique(column).size >= 3 for column in nodes.T])
        inside = np.all(((nodes > nodes.min(axis=0)) & (nodes < nodes.max(axis=0)))[:, wide], axis=1)
        if not wide.any() or not inside.any():
            raise ValueError(
                f"LeaveOneNodeOut found no interior node among {len(nodes)} nodes: the labels take {_counts(nodes)} "
                "distinct values. At least one label needs three values or more, and a node strictly between the "
                "extremes of every such label; load more of the grid."
            )
        return [np.flatnonzero(member.ravel() == node) for node in np.flatnonzero(inside)]


class LeavePlaneOut(BaseCrossValidator):
    """Leave out all nodes with one interior value of a label at a time.

    Parameters
    ----------
    axis : int, default=0
        Column of the labels. 0 is Teff in the default order (teff, logg, feh).
    labels : {"y", "X"}, default="y"
        Argument of `split` that holds the labels.

    See Also
    --------
    LeaveOneNodeOut : Hold out single nodes.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.model_selection import LeavePlaneOut
    >>> y = np.array([[5000.0, 4.0], [5000.0, 4.5], [5100.0, 4.0], [5100.0, 4.5], [5200.0, 4.0], [5200.0, 4.5]])
    >>> [test.tolist() for train, test in LeavePlaneOut(axis=0).split(np.zeros((6, 2)), y)]
    [[2, 3]]
    """

    def __init__(self, axis=0, *, labels="y"):
        self.axis = axis
        self.labels = labels

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of interior values of the label.

        Parameters
        ----------
        X, y : array-like
            As in `split`; the one that holds the labels is needed.
        groups : None
            Ignored, present for the protocol.

        Returns
        -------
        n_splits : int
            Number of splits.
        """
        return len(self._held_out(_pick_labels(self.labels, X, y)))

    def _iter_test_indices(self, X=None, y=None, groups=None):
        yield from self._held_out(_pick_labels(self.labels, X, y))

    def _held_out(self, labels):
        """Rows of each interior plane, a list of index arrays."""
        n_labels = labels.shape[1]
        if not isinstance(self.axis, Integral) or not -n_labels <= self.axis < n_labels:
            raise ValueError(
                f"`axis` is {self.axis!r}, but it must be the column of one of the {n_labels} labels, 0 to "
                f"{n_labels - 1}."
            )
        column = labels[:, self.axis]
        values = np.unique(column)
        if values.size < 3:
            raise ValueError(
                f"LeavePlaneOut(axis={self.axis}) found no interior value: label {self.axis} takes {values.size} "
                "distinct values, and at least 3 are needed. Choose another axis, or load more of the grid."
            )
        return [np.flatnonzero(column == value) for value in values[1:-1]]


def _pick_labels(which, X, y):
    """The array of labels, shape (n_samples, n_labels)."""
    if which not in ("X", "y"):
        raise ValueError(
            f"`labels` is {which!r}, but it must be 'y' or 'X': the argument of split that holds the labels."
        )
    labels = X if which == "X" else y
    if labels is None:
        raise ValueError(f"`{which}` is None, but the splits depend on the labels. Pass the labels as `{which}`.")
    labels = np.asarray(labels, dtype=np.float64)
    if labels.ndim not in (1, 2) or not np.all(np.isfinite(labels)):
        raise ValueError(
            f"`{which}` has shape {labels.shape}, but labels must be finite, of shape (n_samples,) or (n_samples, "
            "n_labels)."
        )
    return labels.reshape(len(labels), -1)


def _counts(nodes):
    """Distinct values of each column, as text."""
    return " x ".join(str(np.unique(column).size) for column in nodes.T)
