"""Regression of the nodes on the labels."""

import joblib
import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from stellarhml import LineManifoldInterpolator, load, save
from stellarhml.exceptions import ExtrapolationWarning, LabelsOutsideGridError, PersistenceError
from stellarhml.manifold import regression
from stellarhml.manifold.regression import RegressionWeights, inner_nodes

LENGTHS = np.array([1.5, 4.0, 2.5])
SETTINGS = [
    {"kernel": "matern", "lengths": LENGTHS, "noise": 1e-4, "degree": 1},
    {"kernel": "matern", "lengths": LENGTHS, "noise": 1e-2, "degree": 0},
    {"kernel": None, "lengths": np.ones(3), "noise": 1.0, "degree": 2},
]
NAMES = ["process", "noisy process", "polynomials"]
LOW, HIGH = np.array([5000.0, 3.0, -1.0]), np.array([7000.0, 5.0, 0.5])


def by_regression(**parameters):
    return LineManifoldInterpolator(**{"method": "regression"} | parameters)


@pytest.fixture(scope="module")
def nodes():
    return np.unique(np.random.default_rng(0).uniform(LOW, HIGH, (60, 3)), axis=0)


@pytest.fixture(scope="module")
def many():
    """Labels, five of each of 150 nodes, and three smooth functions of the first four of them."""
    labels = np.random.default_rng(1).uniform(-1, 1, (150, 5))
    return labels, smooth(labels)


def smooth(x):
    strong = np.exp(1.2 * x[:, 0] + 0.5 * x[:, 1] * x[:, 0] - 0.4 * x[:, 2])
    return np.stack([strong, np.sin(2 * x[:, 0] + x[:, 2]), x[:, 3] * (1 + x[:, 0])], axis=1)


@pytest.mark.parametrize("setting", SETTINGS, ids=NAMES)
def test_weights_and_their_derivatives(nodes, setting):
    weights = RegressionWeights(nodes, ("inverse", "linear", "saturating"), **setting)
    labels = np.random.default_rng(1).uniform(LOW + 0.2 * (HIGH - LOW), HIGH - 0.2 * (HIGH - LOW), (5, 3))
    found, outside, slopes = weights.weights(labels, derivatives=True)
    assert not outside.any()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)
    for k, step in enumerate(1e-5 * np.diag(HIGH - LOW)):
        ahead, behind = (weights.weights(labels + sign * step)[0].toarray() for sign in (1, -1))
        reference = (ahead - behind) / (2 * step[k])
        # central differences: rounding of weights of up to 1 by 1e-10, over the step
        np.testing.assert_allclose(slopes[k].toarray() * (HIGH - LOW)[k], reference * (HIGH - LOW)[k], atol=2e-4)
        np.testing.assert_allclose(slopes[k].sum(axis=1) * (HIGH - LOW)[k], 0, atol=1e-8)


@pytest.mark.parametrize("setting", SETTINGS, ids=NAMES)
def test_held_out_nodes_are_predicted_as_if_they_had_never_been_there(nodes, setting):
    samples = RegressionWeights(nodes, **setting).leave_one_out()
    held_out = samples.targets.indices
    assert set(held_out) == set(np.flatnonzero(inner_nodes(nodes)))
    for i in (0, 20, 40):
        others = np.delete(np.arange(len(nodes)), held_out[i])
        alone = RegressionWeights(nodes[others], **setting).weights(nodes[held_out[i]][None])[0].toarray()[0]
        np.testing.assert_allclose(samples.weights[i].toarray()[0, others], alone, atol=1e-8)
        assert samples.weights[i, held_out[i]] == 0


def test_the_gaussian_process_is_that_of_scikit_learn(nodes):
    """Ordinary kriging is the limit of a process with a constant of large variance."""
    points = 2 * (nodes - nodes.min(axis=0)) / np.ptp(nodes, axis=0) - 1
    values, noise = smooth(np.pad(points, ((0, 0), (0, 1)))), 1e-3
    reference = GaussianProcessRegressor(ConstantKernel(1e5) + Matern(LENGTHS, nu=3.5), alpha=noise, optimizer=None)
    x = np.random.default_rng(2).uniform(-0.9, 0.9, (9, 3))
    labels = nodes.min(axis=0) + (x + 1) / 2 * np.ptp(nodes, axis=0)
    ours = RegressionWeights(nodes, kernel="matern", lengths=LENGTHS, noise=noise, degree=0)
    want, std = reference.fit(points, values).predict(x, return_std=True)
    np.testing.assert_allclose(ours.weights(labels)[0] @ values, want, atol=1e-4)
    # ours is of a node, with its noise
    np.testing.assert_allclose(ours._solve(x)[1], std[:, 0] ** 2 + noise, rtol=1e-3, atol=1e-5)


def test_derivatives_of_the_likelihood(nodes):
    points = 2 * (nodes - LOW) / (HIGH - LOW) - 1
    values = smooth(np.pad(points, ((0, 0), (0, 1))))
    powers = regression._orthonormal(points, 1)[1]

    def loss(x):
        return regression._likelihood(points, values @ values.T, powers, np.exp(x[:-1]), np.exp(x[-1]))

    at = np.log([*LENGTHS, 1e-3])
    reference = [(loss(at + step)[0] - loss(at - step)[0]) / 2e-5 for step in 1e-5 * np.eye(4)]
    np.testing.assert_allclose(loss(at)[1], reference, rtol=1e-5)


def test_many_labels_are_learnt_from_few_nodes(many):
    labels, values = many
    x = np.random.default_rng(3).uniform(labels.min(axis=0), labels.max(axis=0), (100, 5))
    ours, plain = by_regression().fit(labels, values), LineManifoldInterpolator().fit(labels, values)
    error, usual = (np.sqrt(np.mean((model.predict(x) - smooth(x)) ** 2)) for model in (ours, plain))
    assert error < 0.05 * usual
    lengths = ours._weights.lengths
    assert np.argmax(lengths) == 4  # the label without effect
    assert np.argmin(lengths) == 0
    # what it says of itself, from held-out nodes, of which those near the corners have the largest errors
    samples = ours.error_samples()
    told = samples.scale[:, None] * ((samples.weights - samples.targets) @ values)
    assert 0.5 < np.sqrt(np.mean(told**2)) / error < 2


def test_polynomials_with_interactions_are_exact(nodes):
    x = (nodes - LOW) / (HIGH - LOW)
    cubic = 1 + x[:, 0] ** 3 - 2 * x[:, 0] * x[:, 1] * x[:, 2] + x[:, 2] ** 2
    ours = by_regression().fit(nodes, cubic)
    assert (ours._weights.kernel, ours._weights.degree) == (None, 3)
    np.testing.assert_allclose(ours.predict(nodes), cubic, rtol=1e-9)


def test_labels_far_from_all_nodes_are_outside(many):
    labels, values = many
    ours = by_regression().fit(labels, values)
    assert not ours.locate(labels)[1].any()
    with pytest.raises(LabelsOutsideGridError, match="1 of 2 labels"):
        ours.predict([[0.0] * 5, [1.2, 0, 0, 0, 0]])
    # nodes along a diagonal: the other corners are inside the ranges
    diagonal = np.sort(np.random.default_rng(0).uniform(0, 1, (40, 1)), axis=0) + [0.0, 0.0]
    diagonal = diagonal + np.random.default_rng(1).normal(scale=0.03, size=diagonal.shape)
    narrow = by_regression(extrapolate="nan").fit(diagonal, np.sin(3 * diagonal[:, 0]) + diagonal[:, 1] ** 2)
    assert narrow.locate([[0.5, 0.5], [0.05, 0.95], [0.95, 0.05]])[1].tolist() == [False, True, True]
    with pytest.warns(ExtrapolationWarning):
        assert np.isnan(narrow.predict([[0.5, 0.5], [0.05, 0.95]])).tolist() == [False, True]


def test_labels_outside_are_moved_to_the_edge(many):
    labels, values = many
    ours = by_regression(extrapolate="nearest").fit(labels, values)
    edge = [[labels[:, 0].max(), 0.0, 0.0, 0.0, 0.0]]
    beyond = [[2.0, 0.0, 0.0, 0.0, 0.0]]
    with pytest.warns(ExtrapolationWarning):
        np.testing.assert_allclose(ours.predict(beyond), ours.predict(edge), rtol=1e-12)
    assert not ours.locate(beyond, derivatives=True)[2][0].toarray().any()


def test_degenerate_nodes():
    x = np.linspace(0, 1, 12)
    rng = np.random.default_rng(0)
    tied = np.stack([x, 2 * x, np.full(12, 3.0), rng.permutation(x)], axis=1)  # two labels are one, one has one value
    ours = by_regression().fit(tied, np.sin(x))
    np.testing.assert_allclose(ours.predict(tied), np.sin(x), atol=1e-3)
    assert ours.locate([[0.5, 1.0, 4.0, 0.5]])[1].all()
    assert by_regression().fit([[1.0, 2.0]], [5.0]).predict([[1.0, 2.0]]) == 5
    # spectra of one node are averaged
    twice = by_regression().fit(np.repeat(tied, 2, axis=0), np.repeat(np.sin(x), 2) + np.tile([0.1, -0.1], 12))
    np.testing.assert_allclose(twice.predict(tied), ours.predict(tied), atol=1e-9)


def test_absent_lines_have_their_mean_shape_and_smallest_amplitude(many):
    labels, values = many
    theta = np.column_stack([values, values[:, 0], 0.1 * values, values[:, 1]])
    theta[labels[:, 0] < -0.5, 4:] = np.nan
    got = by_regression().fit(labels, theta).predict(labels)
    assert got.shape == theta.shape
    assert np.isfinite(got).all()
    there = np.isfinite(theta).all(axis=1)
    np.testing.assert_allclose(got[:, :4], theta[:, :4], atol=0.05)
    np.testing.assert_allclose(got[~there, 5].mean(), theta[there, 5].min(), atol=0.02)


def test_the_flux_decides_what_is_learnt(many):
    labels, values = many
    ours = by_regression().fit(labels, values, flux=np.cos(2 * labels[:, [3]] + labels[:, [4]]))
    assert np.argmax(ours._weights.lengths[:3]) >= 0
    assert ours._weights.lengths[3:].max() < ours._weights.lengths[:3].min()
    with pytest.raises(ValueError, match="`flux` has 3 rows, but X has 150"):
        by_regression().fit(labels, values, flux=values[:3])


@pytest.mark.parametrize(
    ("regressor", "at_most"),
    [
        (make_pipeline(PolynomialFeatures(3), Ridge(1e-6)), 0.1),
        (GaussianProcessRegressor(Matern(2.0 * np.ones(5), nu=2.5), alpha=1e-6, optimizer=None), 0.1),
        (ExtraTreesRegressor(50, random_state=0), 0.5),
    ],
    ids=["polynomials", "process", "trees"],
)
def test_regressors_of_scikit_learn(many, regressor, at_most):
    labels, values = many
    x = np.random.default_rng(3).uniform(-0.8, 0.8, (50, 5))
    ours = by_regression(regressor=regressor).fit(labels, values)
    assert np.sqrt(np.mean((ours.predict(x) - smooth(x)) ** 2)) < at_most
    weights, outside, slopes = ours.locate(x[:4], derivatives=True)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-9)
    assert not outside.any()
    step = np.array([0, 1e-3, 0, 0, 0])
    if at_most < 0.5:  # trees have steps
        reference = (ours.locate(x[:4] + step)[0] - ours.locate(x[:4] - step)[0]) / 2e-3
        np.testing.assert_allclose((slopes[1] - reference) @ values, 0, atol=1e-3)
    samples = ours.error_samples()
    told = np.sqrt(np.mean(((samples.weights - samples.targets) @ values) ** 2))
    found = np.sqrt(np.mean((ours.predict(x) - smooth(x)) ** 2))
    assert 0.5 < told / found < 4  # in five parts, of nodes that reach farther out than x
    assert ours.locate([[1.5, 0, 0, 0, 0]])[1].all()
    # it is fitted on a clone
    assert not hasattr(ours.regressor, "n_features_in_")


def test_a_linear_regressor_equals_polynomials_of_degree_one(nodes):
    values = np.random.default_rng(0).normal(size=(60, 4))
    theirs = by_regression(regressor=LinearRegression()).fit(nodes, values)
    want = LinearRegression().fit(nodes, values).predict(nodes[10:20])
    np.testing.assert_allclose(theirs.predict(nodes[10:20]), want, atol=1e-9)


def test_regressors_can_be_searched(many):
    labels, values = many
    search = GridSearchCV(
        by_regression(extrapolate="nearest"),
        {"regressor": [None, LinearRegression(), make_pipeline(PolynomialFeatures(2), LinearRegression())]},
        cv=2,
        error_score="raise",
    )
    with pytest.warns(ExtrapolationWarning):
        assert search.fit(labels, values).best_params_["regressor"] is None


def test_files(tmp_path, many):
    labels, values = many
    ours = by_regression().fit(labels, values)
    again = load(save(ours, tmp_path / "ours.asdf"))
    np.testing.assert_array_equal(again.predict(labels), ours.predict(labels))
    np.testing.assert_array_equal(again.error_samples().weights.toarray(), ours.error_samples().weights.toarray())
    theirs = by_regression(regressor=LinearRegression())
    for interpolator in (theirs, theirs.fit(labels, values)):
        with pytest.raises(PersistenceError, match=r"`regressor` LinearRegression.*\.joblib"):
            save(interpolator, tmp_path / "theirs.asdf")
    np.testing.assert_array_equal(load(save(theirs, tmp_path / "t.joblib")).predict(labels), theirs.predict(labels))
    assert joblib.hash(again.nodes_) == joblib.hash(ours.nodes_)


def test_what_a_regression_does_not_take(many):
    labels, values = many
    with pytest.raises(ValueError, match="`regressor` is set, but method='auto'"):
        LineManifoldInterpolator(regressor=LinearRegression()).fit(labels, values)
    with pytest.raises(ValueError, match="`breaks` is set, but a regression is smooth"):
        by_regression(breaks={"x": [0.0]}, label_names=list("xyzab")).fit(labels, values)
    too_many = np.random.default_rng(0).uniform(size=(regression.MOST_NODES + 1, 2))
    with pytest.raises(ValueError, match="at most 3000"):
        by_regression().fit(too_many, too_many[:, 0])
