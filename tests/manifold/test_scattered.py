"""Interpolation among scattered nodes."""

import numpy as np
import pytest
from scipy.interpolate import LinearNDInterpolator
from threadpoolctl import threadpool_limits

from stellarhml import LineManifoldInterpolator
from stellarhml.exceptions import LabelsOutsideGridError
from stellarhml.manifold.scattered import node_spacings

LOW, HIGH = np.array([5000.0, 3.0, -0.5]), np.array([5900.0, 5.0, 0.2])


@pytest.fixture(autouse=True)
def single_thread():
    """One BLAS thread: qhull's matrices are 3 x 3, and on busy cores threads make them a hundred times slower."""
    with threadpool_limits(1):
        yield


@pytest.mark.parametrize("n_labels", [2, 3])
def test_scattered_nodes_are_exact_for_linear_functions_and_equal_scipy(n_labels):
    rng = np.random.default_rng(5)
    nodes = rng.uniform(LOW[:n_labels], HIGH[:n_labels], (60, n_labels))
    slopes = rng.normal(size=n_labels) / (HIGH - LOW)[:n_labels]
    x = nodes[:40] * 0.5 + nodes[10:50] * 0.3 + nodes[20:60] * 0.2  # inside the hull
    ours = LineManifoldInterpolator().fit(nodes, nodes @ slopes)
    np.testing.assert_allclose(ours.predict(x), x @ slopes, rtol=1e-10)
    noise = rng.normal(size=60)
    low, span = nodes.min(axis=0), np.ptp(nodes, axis=0)
    scipy = LinearNDInterpolator((nodes - low) / span, noise)  # the same triangulation: labels over their ranges
    np.testing.assert_allclose(ours.fit(nodes, noise).predict(x), scipy((x - low) / span), rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_labels", [4, 5])
def test_many_scattered_labels_stay_within_their_neighbours(n_labels):
    rng = np.random.default_rng(6)
    nodes = rng.uniform(size=(80, n_labels))
    values = rng.normal(size=80)
    ours = LineManifoldInterpolator().fit(nodes, values)
    np.testing.assert_allclose(ours.predict(nodes), values, rtol=1e-12)
    got = ours.predict(rng.uniform(0.3, 0.7, (50, n_labels)))
    assert np.all((got > values.min()) & (got < values.max()))
    np.testing.assert_allclose(ours.fit(nodes, np.ones(80)).predict(nodes * 0.5 + 0.25), 1, rtol=1e-12)


def test_scattered_nodes_have_their_hull_for_a_border():
    nodes = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.2, 0.2], [0.1, 0.6]])
    ours = LineManifoldInterpolator(method="scattered").fit(nodes, nodes[:, 0])
    assert ours.predict([[0.3, 0.3]]) == pytest.approx(0.3)
    with pytest.raises(LabelsOutsideGridError):
        ours.predict([[0.8, 0.8]])  # inside the ranges, outside the hull


def test_scattered_nodes_of_one_metallicity_know_no_other():
    nodes = np.append(np.random.default_rng(0).uniform([5000, 3], [6000, 5], (30, 2)), np.zeros((30, 1)), axis=1)
    ours = LineManifoldInterpolator().fit(nodes, nodes[:, 0])
    with pytest.raises(LabelsOutsideGridError):
        ours.predict([[5500.0, 4.0, 0.9]])


def test_distance_of_nodes():
    nodes = np.array([[teff, logg, 0.0] for teff in (5000, 5100, 5200, 5400) for logg in (3.0, 3.5, 4.0)])
    np.testing.assert_allclose(node_spacings(nodes), [100, 0.5, 1])
    nodes = np.random.default_rng(0).uniform(size=(27, 3)) * [1000, 1, 2]
    np.testing.assert_allclose(node_spacings(nodes), [500, 0.5, 1.0], rtol=0.2)
