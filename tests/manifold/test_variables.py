"""Variables of labels between which weights are computed."""

import itertools

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator
from sklearn.base import clone

from stellarhml import LineManifoldInterpolator
from stellarhml.manifold.variables import DEFAULT_VARIABLES, VARIABLES
from stellarhml.pipeline import PAPER_SETTINGS

AXES = (np.array([5000.0, 5100, 5300, 5700, 5900]), np.array([3.0, 3.5, 4.5, 5.0]), np.array([-0.5, 0.0, 0.2, 0.5]))
NODES = np.array(list(itertools.product(*AXES)))
LOW, HIGH = NODES.min(axis=0), NODES.max(axis=0)
CORNERS = np.array(list(itertools.product(*zip(LOW, HIGH, strict=True))))
CHOICES = [{}, DEFAULT_VARIABLES, {"teff": "inverse"}, {"teff": "log", "logg": "saturating", "feh": "linear"}]


def inside(n, seed=0):
    return np.random.default_rng(seed).uniform(LOW, HIGH, (n, 3))


def unit(labels, variables):
    """Variables from 0 to 1."""
    columns = []
    for k, name in enumerate(("teff", "logg", "feh")):
        value = VARIABLES[variables.get(name, "linear")].value
        columns.append((value(labels[:, k]) - value(LOW[k])) / (value(HIGH[k]) - value(LOW[k])))
    return np.stack(columns, axis=1)


def bent(labels, variables):
    # degree two in each variable, with every product of them
    u = unit(labels, variables)
    return (1 + u[:, 0] - 2 * u[:, 0] ** 2) * (0.5 - u[:, 1] + u[:, 1] ** 2) * (2 + u[:, 2] + 3 * u[:, 2] ** 2)


@pytest.mark.parametrize("name", VARIABLES)
def test_variables_increase_and_slopes_are_their_derivatives(name):
    x = np.linspace(0.5, 9.0, 60)
    variable, h = VARIABLES[name], 1e-5
    assert np.all(np.diff(variable.value(x)) > 0)
    central = (variable.value(x + h) - variable.value(x - h)) / (2 * h)
    # values up to 1e4 are known to 1e-12, so their differences over 2e-5 to 1e-7; third derivatives add h^2
    np.testing.assert_allclose(variable.slope(x), central, rtol=1e-7, atol=1e-7)


def test_formulae():
    assert VARIABLES["inverse"].value(5040.0) == -1
    assert VARIABLES["log"].value(1.0) == 0
    assert VARIABLES["saturating"].value(0.0) == -1
    np.testing.assert_allclose(VARIABLES["saturating"].value(5.0), -np.exp(-1), rtol=1e-15)


@pytest.mark.parametrize("variables", CHOICES, ids=str)
def test_cubic_is_exact_for_quadratics_in_the_variables(variables):
    x = np.concatenate([inside(200), NODES])
    ours = LineManifoldInterpolator(variables=variables).fit(NODES, bent(NODES, variables))
    np.testing.assert_allclose(ours.predict(x), bent(x, variables), rtol=0, atol=1e-12)
    # a control: they are not quadratic in other variables
    other = LineManifoldInterpolator(variables={"logg": "inverse"})
    assert np.abs(other.fit(NODES, bent(NODES, variables)).predict(x) - bent(x, variables)).max() > 1e-3


@pytest.mark.parametrize("variables", CHOICES, ids=str)
def test_holes_are_filled_in_the_variables(variables):
    keep = np.ones((5, 4, 4), bool)
    keep[(2, 1, 1, 3), (1, 0, 2, 3), (1, 1, 2, 2)] = False
    keep = keep.ravel()

    def theta(x):
        return unit(x, variables) @ [0.3, -2.0, 0.7]

    ours = LineManifoldInterpolator(variables=variables).fit(NODES[keep], theta(NODES[keep]))
    x = np.concatenate([inside(200), NODES])
    np.testing.assert_allclose(ours.predict(x), theta(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("variables", CHOICES, ids=str)
def test_linear_and_scattered_obey_explicit_variables(variables):
    def theta(x):
        return unit(x, variables) @ [0.3, -2.0, 0.7]

    x = inside(100)
    grid = LineManifoldInterpolator(method="linear", variables=variables).fit(NODES, theta(NODES))
    np.testing.assert_allclose(grid.predict(x), theta(x), rtol=0, atol=1e-12)
    nodes = np.concatenate([inside(50, seed=3), CORNERS])
    scattered = LineManifoldInterpolator(method="scattered", variables=variables).fit(nodes, theta(nodes))
    np.testing.assert_allclose(scattered.predict(x), theta(x), rtol=0, atol=1e-10)


def test_defaults_by_method():
    theta = np.random.default_rng(1).normal(size=len(NODES))
    x = inside(50)

    def predict(nodes=NODES, theta=theta, **parameters):
        return LineManifoldInterpolator(**parameters).fit(nodes, theta).predict(x)

    np.testing.assert_array_equal(predict(), predict(variables={"feh": "saturating"}))
    assert np.abs(predict() - predict(variables={})).max() > 1e-3
    np.testing.assert_array_equal(predict(method="linear"), predict(method="linear", variables={}))
    np.testing.assert_array_equal(predict(method="scattered"), predict(method="scattered", variables={}))
    # other labels know nothing of [Fe/H]
    names = ("a", "b", "c")
    np.testing.assert_array_equal(predict(label_names=names), predict(variables={}))
    # scattered nodes that "auto" finds
    nodes = np.concatenate([inside(60, seed=2), CORNERS])
    few = theta[: len(nodes)]
    np.testing.assert_array_equal(predict(nodes, few), predict(nodes, few, variables={}))


def test_the_paper_is_multilinear_in_the_labels():
    theta = np.random.default_rng(2).normal(size=(len(NODES), 3))
    ours = LineManifoldInterpolator(**PAPER_SETTINGS["interpolator"]).fit(NODES, theta)
    x = np.concatenate([inside(200), NODES])
    want = RegularGridInterpolator(AXES, theta.reshape(5, 4, 4, 3))(x)
    np.testing.assert_allclose(ours.predict(x), want, rtol=0, atol=1e-13)  # the same products, added in another order
    # to the last bit: the sum over the corners, the last one first
    corners = np.zeros((len(x), 3))
    cell = [np.clip(np.searchsorted(axis, x[:, k], side="right") - 1, 0, len(axis) - 2) for k, axis in enumerate(AXES)]
    t = [(x[:, k] - axis[cell[k]]) / (axis[cell[k] + 1] - axis[cell[k]]) for k, axis in enumerate(AXES)]
    for up in itertools.product((1, 0), repeat=3):
        a, b, c = (t[k] if up[k] else 1 - t[k] for k in range(3))
        place = np.ravel_multi_index([np.minimum(cell[k] + up[k], len(AXES[k]) - 1) for k in range(3)], (5, 4, 4))
        corners += (a * b * c)[:, None] * theta[place]
    np.testing.assert_array_equal(ours.predict(x), corners)


def test_bounds_and_nodes_stay_in_the_labels():
    ours = LineManifoldInterpolator(variables={"teff": "inverse"}).fit(NODES, NODES)
    np.testing.assert_array_equal(ours.bounds_, np.stack([LOW, HIGH], axis=1))
    np.testing.assert_array_equal(ours.nodes_, NODES)
    np.testing.assert_array_equal(ours.locate([[4999.0, 3.0, 0.0], [5900.0, 5.0, 0.5]])[1], [True, False])
    # where a logarithm is not defined, labels are outside, and no warning is raised
    scattered = LineManifoldInterpolator(method="scattered", variables={"logg": "log"}).fit(NODES, NODES)
    np.testing.assert_array_equal(scattered.locate([[5200.0, -1.0, 0.0], [5200.0, 4.0, 0.1]])[1], [True, False])


@pytest.mark.parametrize(
    ("variables", "nodes", "message"),
    [
        ({"fe": "log"}, NODES, r"`variables` has \['fe'\], but the labels are \['teff', 'logg', 'feh'\]"),
        ({"feh": "square"}, NODES, r"sets 'feh' to 'square', but there are only \['inverse', 'linear', 'log', 'satura"),
        ({"feh": "log"}, NODES, r"'log' of 'feh' needs positive labels, but there is -0\.5.*variables=\{\}"),
        ({"feh": "inverse"}, NODES, r"'inverse' of 'feh' needs positive labels, but there is -0\.5"),
        ({"feh": "saturating"}, NODES * [1, 1, 1e4], r"'saturating' of 'feh' is not finite at -5000"),
        ({"teff": "saturating"}, NODES, r"'saturating' of 'teff' has the same value at 5000 and 5100"),
        (None, NODES * [1, 1, 1e4], r"'saturating' of 'feh' is not finite at -5000.*variables=\{\}"),
    ],
)
def test_errors(variables, nodes, message):
    with pytest.raises(ValueError, match=message):
        LineManifoldInterpolator(variables=variables).fit(nodes, nodes)


@pytest.mark.parametrize("variables", [None, *CHOICES], ids=str)
def test_clone_keeps_the_variables(variables):
    ours = LineManifoldInterpolator(variables=variables)
    assert ours.get_params()["variables"] == variables
    fitted = ours.fit(NODES, NODES)
    assert fitted.variables is variables  # as it was given
    again = clone(fitted)
    assert again.variables == variables
    np.testing.assert_array_equal(again.fit(NODES, NODES).predict(inside(5)), fitted.predict(inside(5)))


@pytest.mark.parametrize("method", ["auto", "scattered"])
def test_weights_are_made_again_from_their_state(method):
    nodes = NODES[:-1]
    ours = LineManifoldInterpolator(method=method, variables={"teff": "log"}).fit(nodes, nodes)._weights
    again = type(ours).from_state(ours.to_state())
    x = inside(30)
    (weights, outside, slopes), (weights_2, outside_2, slopes_2) = ours.weights(x, True), again.weights(x, True)
    np.testing.assert_array_equal(outside, outside_2)
    for one, two in zip([weights, *slopes], [weights_2, *slopes_2], strict=True):
        np.testing.assert_array_equal(one.toarray(), two.toarray())
