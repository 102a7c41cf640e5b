"""Choice of the test stars among the nodes of a grid, in folds that are held out together."""

import numpy as np

from stellarhml.model_selection._splitters import LeaveOneNodeOut, LeavePlaneOut

KINDS = ("left-out", "planes", "seen")


def choose_folds(labels, label_names, *, kind="left-out", n_folds=5, max_nodes=None, seed=0):
    """Choose test stars among the nodes of a grid, in folds: a list of (rows to train on, rows of the test stars).

    * "left-out": inner nodes, of which two that are neighbours along a label are never held out together;
    * "planes": all nodes of an inner value of Teff (of the first label, if none is called "teff") are held out
      together, those of the next value in another fold;
    * "seen": all nodes, and none is held out.

    There are `n_folds` folds, at least 2, and at most `max_nodes` test stars, drawn evenly along the first label and at
    random (`seed`) along the others. ValueError if the grid has no inner node.
    """
    everything = np.arange(len(labels))
    if kind == "seen":
        return [(everything, _thin(everything, labels, max_nodes, seed))]
    if kind == "planes":
        axis = label_names.index("teff") if "teff" in label_names else 0
        held_out = [test for _, test in LeavePlaneOut(axis=axis).split(labels, labels)]
        member = np.arange(len(held_out)) % n_folds
    else:
        held_out = [test for _, test in LeaveOneNodeOut().split(labels, labels)]
        member = _colours(labels, n_folds)[[rows[0] for rows in held_out]]
    kept = _thin(np.concatenate(held_out), labels, max_nodes, seed)
    folds = []
    for fold in range(n_folds):
        out = [rows for rows, own in zip(held_out, member, strict=True) if own == fold and np.isin(rows, kept).any()]
        if out:
            out = np.concatenate(out)
            folds.append((np.setdiff1d(everything, out), np.intersect1d(out, kept)))
    return folds


def _colours(labels, n_colours):
    """A number for each node such that neighbours along any label differ, shape (n_nodes,)."""
    steps = [np.unique(column, return_inverse=True)[1].ravel() for column in labels.T]
    # no factor is a multiple of n_colours; with five, diagonal neighbours in the first two labels differ too
    factors = [1 + k % (n_colours - 1) for k in range(len(steps))]
    return np.sum([factor * step for factor, step in zip(factors, steps, strict=True)], axis=0) % n_colours


def _thin(rows, labels, number, seed):
    """At most `number` rows, one from each of as many stretches of the rows in order of their labels."""
    if number is None or len(rows) <= number:
        return rows
    rng = np.random.default_rng(seed)
    ordered = rows[np.lexsort(labels[rows].T[::-1])]
    return np.array([rng.choice(part) for part in np.array_split(ordered, number)])
