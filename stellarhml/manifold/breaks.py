"""Where a grid jumps: spectra that change between two nodes as they do nowhere else along a label."""

import numpy as np

_FEWEST = 8  # values of a label from which its usual changes can be told
_UNUSUAL = 5.0  # third differences that are so many times the median of those that have no part in them
_BESIDE = 0.75  # of the largest: a jump leaves half on either side, a single odd node as much again on one
_PIXELS = 8192  # that are looked at


def find_breaks(labels, flux, names):
    """Find the jumps of a grid.

    Along each label, the third differences of the spectra are small where these change smoothly: a jump of J between
    two nodes shows as (J, -2 J, J).

    Parameters
    ----------
    labels : ndarray of shape (n_nodes, n_labels)
        Labels of the spectra.
    flux : ndarray of shape (n_nodes, n_pixels)
        Spectra; may be a memory map.
    names : tuple of str
        Names of the labels.

    Returns
    -------
    breaks : dict of str to list of float
        Middles of the cells with a jump, for labels that have any. Labels of fewer than eight values have none.
    """
    flux = np.asarray(flux[:, :: max(flux.shape[1] // _PIXELS, 1)], dtype=np.float64)
    found = {}
    for k, name in enumerate(names):
        axis = np.unique(labels[:, k])
        if len(axis) < _FEWEST:
            continue
        size = _third_differences(labels, flux, k, axis)
        if size is None:
            continue
        # at either end of the label it cannot be told which of two cells jumps, or whether changes just grow
        inner, beside = size[1:-1], np.maximum(size[:-2], size[2:])
        usual = [np.median(np.delete(size, (i, i + 1, i + 2))) for i in range(len(inner))]
        jumps = (inner > _UNUSUAL * np.array(usual)) & (beside < _BESIDE * inner)
        if jumps.any():
            middles = (axis[2:-3] + axis[3:-2]) / 2
            found[name] = middles[jumps].tolist()
    return found


def _third_differences(labels, flux, k, axis):
    """Root mean square of third divided differences, over all lines of nodes along label k that are whole."""
    others, member = np.unique(np.delete(labels, k, axis=1), axis=0, return_inverse=True)
    lines = [np.flatnonzero(member.ravel() == i) for i in range(len(others))]
    lines = [line[np.argsort(labels[line, k])] for line in lines]
    lines = [line for line in lines if np.array_equal(labels[line, k], axis)]
    if not lines:
        return None
    # on an uneven axis: the value that the cubic's third derivative has, times the width of the middle cell, cubed
    four = np.stack([axis[i : len(axis) - 3 + i] for i in range(4)], axis=1)
    apart = four[:, :, None] - four[:, None, :] + np.eye(4)
    weights = 6 / apart.prod(axis=2) * (four[:, 2] - four[:, 1])[:, None] ** 3
    squares = 0.0
    for line in lines:
        windows = np.stack([flux[line[i : len(axis) - 3 + i]] for i in range(4)], axis=1)
        squares = squares + (np.einsum("ci,cip->cp", weights, windows) ** 2).mean(axis=1)
    return np.sqrt(squares / len(lines))
