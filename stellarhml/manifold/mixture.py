"""Labels between two nodes that a grid's jump divides, as mixtures of the labels on either side.

Line parameters on the two sides of a jump are those of different atmospheres. Between them, what is linear is the flux.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse


class Mixture(NamedTuple):
    """Labels, and how much of each is in which row.

    Attributes
    ----------
    labels : ndarray of shape (m, n_labels)
        Labels at which nothing is divided.
    row : ndarray of shape (m,), int
        Row to which each belongs, increasing.
    share : ndarray of shape (m,)
        How much of it is in the row; the shares of a row add up to 1.
    slopes : ndarray of shape (m, n_labels)
        Derivatives of the shares by the labels of the row.
    moves : ndarray of shape (m, n_labels), bool
        Which labels follow those of the row; the others are on the edge of a jump and stay.
    """

    labels: np.ndarray
    row: np.ndarray
    share: np.ndarray
    slopes: np.ndarray
    moves: np.ndarray

    def mix(self, values):
        """Add up the shares of each row.

        Parameters
        ----------
        values : ndarray of shape (m, ...)
            What was computed at `labels`.

        Returns
        -------
        mixed : ndarray of shape (n, ...)
            The same at the rows.
        """
        return self._matrix(self.share) @ values.reshape(len(values), -1)

    def mix_jacobian(self, values, jacobian):
        """Derivatives of the mixed values.

        Parameters
        ----------
        values : ndarray of shape (m, n_pixels)
            Values at `labels`.
        jacobian : ndarray of shape (m, n_pixels, n_labels)
            Their derivatives.

        Returns
        -------
        jacobian : ndarray of shape (n, n_pixels, n_labels)
            Derivatives by the labels of the rows.
        """
        columns = []
        for k in range(self.labels.shape[1]):
            followed = self._matrix(self.share * self.moves[:, k]) @ jacobian[:, :, k]
            columns.append(followed + self._matrix(self.slopes[:, k]) @ values)
        return np.stack(columns, axis=2)

    def _matrix(self, weights):
        n_rows = self.row[-1] + 1 if len(self.row) else 0
        return sparse.csr_matrix((weights, (self.row, np.arange(len(self.row)))), shape=(n_rows, len(self.row)))


def split_at_breaks(labels, axes, variables, broken):
    """Divide labels in broken cells.

    Parameters
    ----------
    labels : ndarray of shape (n, n_labels)
        Labels within the grid.
    axes : list of ndarray
        Values of each label.
    variables : list of Variable
        Variable of each label.
    broken : list of ndarray of bool
        Which cells of each axis hold a jump.

    Returns
    -------
    mixture : Mixture
        The labels; those that are in no broken cell are by themselves.
    """
    found = Mixture(
        labels.copy(), np.arange(len(labels)), np.ones(len(labels)), np.zeros(labels.shape), np.full(labels.shape, True)
    )
    for k, (axis, variable, gaps) in enumerate(zip(axes, variables, broken, strict=True)):
        if not gaps.any():
            continue
        x = found.labels[:, k]
        cell = np.clip(np.searchsorted(axis, x, side="right") - 1, 0, len(gaps) - 1)
        inside = gaps[cell] & (x > axis[cell]) & (x < axis[cell + 1])
        if not inside.any():
            continue
        low, high = axis[cell[inside]], axis[cell[inside] + 1]
        width = variable.value(high) - variable.value(low)
        upper = (variable.value(x[inside]) - variable.value(low)) / width
        rate = variable.slope(x[inside]) / width
        found = _both_sides(found, inside, k, (low, 1 - upper, -rate), (high, upper, rate))
    return found


def _both_sides(found, inside, k, *sides):
    """The mixture with the rows `inside` replaced by two: label k on a side, and the share and slope of that side."""
    parts = [Mixture(*(part[~inside] for part in found))]
    for edge, share, rate in sides:
        labels, row, weight, slopes, moves = (part[inside] for part in found)
        slopes *= share[:, None]
        slopes[:, k] += weight * rate
        labels[:, k], moves[:, k] = edge, False
        parts.append(Mixture(labels, row, weight * share, slopes, moves))
    together = [np.concatenate(part) for part in zip(*parts, strict=True)]
    order = np.argsort(together[1], kind="stable")
    return Mixture(*(part[order] for part in together))
