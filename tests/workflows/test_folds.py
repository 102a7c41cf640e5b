"""Which nodes are held out together."""

from itertools import product

import numpy as np
import pytest

from stellarhml.workflows.folds import choose_folds

NAMES = ("teff", "logg", "feh")
AXES = (np.r_[6600:7000:100, 7000:8000:200], np.arange(3.0, 5.5, 0.5), np.array([-0.5, 0.0]))
LABELS = np.array(list(product(*AXES)), dtype=np.float64)
INNER = np.all((LABELS[:, :2] > LABELS[:, :2].min(axis=0)) & (LABELS[:, :2] < LABELS[:, :2].max(axis=0)), axis=1)


def _steps(labels):
    return np.stack([np.searchsorted(axis, column) for axis, column in zip(AXES, labels.T, strict=True)], axis=1)


@pytest.mark.parametrize("n_folds", [2, 3, 4, 5, 7])
def test_every_inner_node_is_held_out_once_and_never_with_a_neighbour(n_folds):
    folds = choose_folds(LABELS, NAMES, n_folds=n_folds)
    assert len(folds) == n_folds
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.flatnonzero(INNER))
    for known, test in folds:
        np.testing.assert_array_equal(np.sort(np.concatenate([known, test])), np.arange(len(LABELS)))
        apart = np.abs(_steps(LABELS[test])[:, None] - _steps(LABELS[test]))
        assert not (apart.sum(axis=2) == 1).any()


def test_planes_are_held_out_whole_and_never_with_the_next():
    folds = choose_folds(LABELS, NAMES, kind="planes", n_folds=2)
    held_out = [np.unique(LABELS[test, 0]) for _, test in folds]
    np.testing.assert_array_equal(np.sort(np.concatenate(held_out)), AXES[0][1:-1])
    for (known, test), values in zip(folds, held_out, strict=True):
        assert not np.isin(values, LABELS[known, 0]).any()
        assert len(test) == len(values) * len(AXES[1]) * len(AXES[2])
        assert (np.diff(np.searchsorted(AXES[0], values)) == 2).all()


def test_seen_nodes_are_known():
    ((known, test),) = choose_folds(LABELS, NAMES, kind="seen")
    np.testing.assert_array_equal(known, np.arange(len(LABELS)))
    np.testing.assert_array_equal(test, known)


@pytest.mark.parametrize("kind", ["left-out", "planes", "seen"])
def test_some_nodes_are_spread_over_the_first_label(kind):
    folds, others = (choose_folds(LABELS, NAMES, kind=kind, max_nodes=7, seed=seed) for seed in (3, 4))
    stars = np.concatenate([test for _, test in folds])
    assert len(stars) == len(set(stars)) == 7
    assert len(np.unique(LABELS[stars, 0])) >= 5
    assert set(stars) != set(np.concatenate([test for _, test in others]))
    again = choose_folds(LABELS, NAMES, kind=kind, max_nodes=7, seed=3)
    for (known, test), (known_again, test_again) in zip(folds, again, strict=True):
        np.testing.assert_array_equal(known, known_again)
        np.testing.assert_array_equal(test, test_again)
        assert len(test)
        # nothing is held out for nothing
        if kind == "left-out":
            assert len(known) + len(test) == len(LABELS)


def test_two_spectra_of_a_node_are_held_out_together():
    labels = np.repeat(np.array([[5000.0], [5100.0], [5200.0], [5300.0]]), 2, axis=0)
    folds = choose_folds(labels, ("teff",), n_folds=2)
    assert [test.tolist() for _, test in folds] == [[4, 5], [2, 3]]


def test_a_grid_without_an_inner_node_is_refused():
    with pytest.raises(ValueError, match="no interior node"):
        choose_folds(LABELS[:4], NAMES)
