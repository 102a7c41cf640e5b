"""Jumps of a grid: cells of a label in which spectra change abruptly, and interpolation within these cells.

Line parameters on the two sides of a jump belong to different kinds of model atmosphere. Between them the flux is
interpolated linearly, not the line parameters.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

_FEWEST = 8  # minimum number of values of a label: fewer do not show its usual changes
_UNUSUAL = 5.0  # a jump has a third difference of this many times the median of the others
_BESIDE = 0.75  # of the third difference: a jump has half of it on both sides, an outlying node as much on one side
_PIXELS = 8192  # about so many pixels are compared


def find_breaks(labels, flux, names):
    """Find the jumps of a grid: middles of the cells with a jump, by label, for labels that have any.

    Along each label, the third differences of the spectra are small where they change smoothly: a jump of J between two
    nodes has the third differences (J, -2 J, J). Labels with fewer than eight values are not tested. `flux` (n_nodes,
    n_pixels) may be a memory map.
    """
    axes = [np.unique(column) for column in labels.T]
    found = {}
    if all(len(axis) < _FEWEST for axis in axes):
        return found
    flux = np.asarray(flux[:, :: max(flux.shape[1] // _PIXELS, 1)], dtype=np.float64)
    for k, (axis, name) in enumerate(zip(axes, names, strict=True)):
        if len(axis) < _FEWEST:
            continue
        size = _third_differences(labels, flux, k, axis)
        if size is None:
            continue
        # at the ends of a label, a jump cannot be distinguished from a steep change, nor assigned to a cell
        inner, beside = size[1:-1], np.maximum(size[:-2], size[2:])
        usual = [np.median(np.delete(size, (i, i + 1, i + 2))) for i in range(len(inner))]
        jumps = (inner > _UNUSUAL * np.array(usual)) & (beside < _BESIDE * inner)
        if jumps.any():
            middles = (axis[2:-3] + axis[3:-2]) / 2
            found[name] = middles[jumps].tolist()
    return found


def _third_differences(labels, flux, k, axis):
    """RMS of third divided differences, over all complete lines of nodes along label k; None without any."""
    others, member = np.unique(np.delete(labels, k, axis=1), axis=0, return_inverse=True)
    lines = [np.flatnonzero(member.ravel() == i) for i in range(len(others))]
    lines = [line[np.argsort(labels[line, k])] for line in lines]
    lines = [line for line in lines if np.array_equal(labels[line, k], axis)]
    if not lines:
        return None
    # on an uneven axis: third derivative of the cubic times the cube of the middle cell's width
    four = np.stack([axis[i : len(axis) - 3 + i] for i in range(4)], axis=1)
    apart = four[:, :, None] - four[:, None, :] + np.eye(4)
    weights = 6 / apart.prod(axis=2) * (four[:, 2] - four[:, 1])[:, None] ** 3
    squares = 0.0
    for line in lines:
        windows = np.stack([flux[line[i : len(axis) - 3 + i]] for i in range(4)], axis=1)
        squares = squares + (np.einsum("ci,cip->cp", weights, windows) ** 2).mean(axis=1)
    return np.sqrt(squares / len(lines))


class Mixture(NamedTuple):
    """Labels whose spectra are averaged, with weights, to give the spectrum of each row."""

    labels: np.ndarray  # (m, n_labels): labels outside broken cells
    row: np.ndarray  # (m,), int: row to which each belongs, increasing
    share: np.ndarray  # (m,): weight of each in its row; the weights of a row add up to 1
    slopes: np.ndarray  # (m, n_labels): derivatives of the shares by the labels of the row
    moves: np.ndarray  # (m, n_labels), bool: True where a label equals that of the row, False at the edge of a jump

    def mix(self, values):
        """Average values (m, ...) at `labels` to those (n, ...) at the rows."""
        return self._matrix(self.share) @ values.reshape(len(values), -1)

    def mix_jacobian(self, values, jacobian):
        """Derivatives of the mixed values by the labels of the rows, (n, n_pixels, n_labels or more).

        `values` (m, n_pixels) are those at `labels`, `jacobian` (m, n_pixels, n_labels or more) their derivatives;
        those after the labels are with respect to parameters that do not change the shares.
        """
        columns = []
        for k in range(jacobian.shape[2]):
            if k >= self.labels.shape[1]:
                columns.append(self._matrix(self.share) @ jacobian[:, :, k])
                continue
            followed = self._matrix(self.share * self.moves[:, k]) @ jacobian[:, :, k]
            columns.append(followed + self._matrix(self.slopes[:, k]) @ values)
        return np.stack(columns, axis=2)

    def _matrix(self, weights):
        n_rows = self.row[-1] + 1 if len(self.row) else 0
        return sparse.csr_matrix((weights, (self.row, np.arange(len(self.row)))), shape=(n_rows, len(self.row)))


def split_at_breaks(labels, axes, variables, broken):
    """Replace labels (n, n_labels) in broken cells by the edges of the cell; others are unchanged.

    `broken` is True for cells of each axis with a jump.
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
    """Replace each row of `inside` by two, with label k at either edge and the weight and slope of that edge."""
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
