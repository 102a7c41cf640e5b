from itertools import product

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score

from stellarhml.datasets import make_stellar_grid
from stellarhml.model_selection import LeaveOneNodeOut, LeavePlaneOut

LABELS = np.array(list(product((5000.0, 5100.0, 5200.0, 5300.0), (4.0, 4.5, 5.0), (-0.5, 0.0, 0.5))))
X = np.random.default_rng(0).normal(size=(len(LABELS), 5))


def test_interior_nodes_only_each_once():
    held_out = []
    for train, test in LeaveOneNodeOut().split(X, LABELS):
        assert len(test) == 1
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(LABELS)))
        # Interpolation, not extrapolation: what is left still spans the node on every axis.
        node = LABELS[test[0]]
        assert np.all((LABELS[train].min(axis=0) < node) & (node < LABELS[train].max(axis=0)))
        held_out.append(node.tolist())
    assert held_out == [[5100, 4.5, 0], [5200, 4.5, 0]]
    assert LeaveOneNodeOut().get_n_splits(X, LABELS) == 2


def test_all_samples_of_a_node_leave_together():
    twice = np.concatenate([LABELS, LABELS])
    splits = list(LeaveOneNodeOut().split(np.concatenate([X, X]), twice))
    assert len(splits) == 2
    for train, test in splits:
        assert len(test) == 2
        assert not {tuple(row) for row in twice[test]} & {tuple(row) for row in twice[train]}


def test_axis_with_two_values_restricts_nothing():
    labels = make_stellar_grid(n_pixels=100, random_state=0).labels  # 4 x 3 x 2
    nodes = [labels[test[0]].tolist() for _, test in LeaveOneNodeOut().split(labels, labels)]
    assert nodes == [[t, 4.0, z] for t in (5250, 5500) for z in (-0.5, 0)]


def test_planes():
    splits = list(LeavePlaneOut(axis=0).split(X, LABELS))
    assert [np.unique(LABELS[test, 0]).tolist() for _, test in splits] == [[5100], [5200]]
    for train, test in splits:
        assert len(test) == 9
        assert not set(LABELS[train, 0]) & set(LABELS[test, 0])
    assert LeavePlaneOut(axis=2).get_n_splits(X, LABELS) == 1
    assert LeavePlaneOut(axis=-1).get_n_splits(X, LABELS) == 1


def test_labels_in_x_for_generators():
    a = list(LeaveOneNodeOut(labels="X").split(LABELS, X))
    b = list(LeaveOneNodeOut().split(X, LABELS))
    assert [test.tolist() for _, test in a] == [test.tolist() for _, test in b]
    assert LeavePlaneOut(1, labels="X").get_n_splits(LABELS) == 1


def test_one_label():
    y = np.array([3.0, 1.0, 2.0, 2.0])
    assert [test.tolist() for _, test in LeaveOneNodeOut().split(y, y)] == [[2, 3]]
    assert [test.tolist() for _, test in LeavePlaneOut().split(y, y)] == [[2, 3]]


@pytest.mark.parametrize("cv", [LeaveOneNodeOut(), LeavePlaneOut(1)])
def test_in_cross_validation_with_several_outputs(cv):
    X = LABELS @ np.random.default_rng(1).normal(size=(3, 6))
    scores = cross_val_score(LinearRegression(), X, LABELS, cv=cv, scoring="neg_mean_absolute_error")
    assert len(scores) == cv.get_n_splits(X, LABELS)
    np.testing.assert_allclose(scores, 0, atol=1e-6)  # a linear problem, up to rounding of labels near 5000
    search = GridSearchCV(LinearRegression(), {"fit_intercept": [True, False]}, cv=clone(cv, safe=False))
    search.set_params(scoring="neg_mean_absolute_error").fit(X, LABELS)
    assert search.best_score_ > -1e-6
    with sklearn.config_context(enable_metadata_routing=True):
        assert len(cross_val_score(LinearRegression(), X, LABELS, cv=cv, scoring="neg_mean_absolute_error")) == len(
            scores
        )
    with pytest.raises(ValueError, match="partitions"):  # edges are never held out
        cross_val_predict(LinearRegression(), X, LABELS, cv=cv)


def test_repr_shows_the_parameters():
    assert repr(LeavePlaneOut(2)) == "LeavePlaneOut(axis=2, labels='y')"


def test_no_interior_node():
    with pytest.raises(ValueError, match=r"no interior node among 4 nodes: the labels take 2 x 2 distinct"):
        next(LeaveOneNodeOut().split(np.zeros((4, 1)), np.array(list(product((0, 1), (0, 1))))))
    # Three values of each label, but along a diagonal edge of the box: nothing is inside.
    with pytest.raises(ValueError, match="no interior node"):
        LeaveOneNodeOut().get_n_splits(None, np.array([[0, 1], [1, 0], [2, 1], [1, 2]]))
    with pytest.raises(ValueError, match=r"axis=2.*takes 2 distinct values, and at least 3"):
        LeavePlaneOut(2).get_n_splits(None, LABELS[LABELS[:, 2] < 0.25])


@pytest.mark.parametrize(
    ("cv", "y", "message"),
    [
        (LeaveOneNodeOut(), None, "`y` is None"),
        (LeaveOneNodeOut(labels="Y"), LABELS, "`labels` is 'Y'"),
        (LeaveOneNodeOut(), np.full((3, 2), np.nan), "must be finite"),
        (LeaveOneNodeOut(), np.zeros((3, 2, 2)), r"shape \(3, 2, 2\)"),
        (LeavePlaneOut(3), LABELS, "`axis` is 3.*3 labels, 0 to 2"),
        (LeavePlaneOut("teff"), LABELS, "`axis` is 'teff'"),
    ],
)
def test_bad_input(cv, y, message):
    with pytest.raises(ValueError, match=message):
        cv.get_n_splits(None, y)
