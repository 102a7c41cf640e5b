"""Velocities and nearest nodes by cross-correlation, and the first continuum."""

import numpy as np
import pytest

from stellarhml.inference.node_spectra import NodeSpectra, Templates, first_continuum


def orders_of(star):
    parts = []
    for x, flux, error in zip(*star.spectrum, strict=True):
        # where light from beyond the generator's band would be needed
        there = np.isfinite(flux)
        x, flux, error = x[there], flux[there], error[there]
        continuum, spikes = first_continuum(flux, error)
        good = ~spikes
        parts.append((np.log(x[good]), 1 - flux[good] / continuum[good], (continuum[good] / error[good]) ** 2))
    return parts


@pytest.mark.parametrize(
    ("rv", "vsini", "snr"),
    [
        *((rv, vsini, snr) for rv, vsini in ((33.0, 5.0), (-240.0, 20.0), (410.0, 60.0)) for snr in (100.0, 10.0)),
        (0.0, 150.0, 100.0),  # lines this broad do not stand out at S/N 10
    ],
)
def test_velocity_is_found(regressor, make_star, rv, vsini, snr):
    star = make_star(rv=rv, vsini=vsini, snr=snr)
    start = regressor.node_spectra_.templates.find_start(orders_of(star), (-500, 500), (0, 300), 3)
    # within the lines, from where a fit finds the rest
    assert abs(start.rv - rv) < 4 + 0.2 * vsini
    assert abs(start.vsini - vsini) < 15 + 0.7 * vsini
    assert start.nodes.shape == (3, 3)


def test_the_nearest_node_comes_first(regressor, make_star):
    for node in regressor.generator_.interpolator_.nodes_[[4, 15, 29]]:
        start = regressor.node_spectra_.templates.find_start(
            orders_of(make_star(labels=node, vsini=1.0)), (-500, 500), (0, 300), 1
        )
        assert np.all(np.abs(start.nodes[0] - node) <= [200, 0.5, 0])


def test_known_velocities_are_kept(regressor, make_star):
    start = regressor.node_spectra_.templates.find_start(orders_of(make_star()), (12.0, 12.0), (7.0, 7.0), 1)
    assert (start.rv, start.vsini) == (12.0, 7.0)


def test_a_first_continuum_goes_over_lines_and_under_spikes():
    rng = np.random.default_rng(0)
    t = np.linspace(-1, 1, 2000)
    level = 40 * (1 - 0.3 * t**2 + 0.2 * t)
    lines = sum(0.6 * np.exp(-0.5 * ((t - c) / 0.004) ** 2) for c in rng.uniform(-1, 1, 60))
    flux, error = level * np.maximum(1 - lines, 0.05) + rng.normal(size=2000) * level / 100, level / 100
    flux[[50, 51, 800]] += 200 * error[0]
    flux[900] = -3 * level[900]
    continuum, spikes = first_continuum(flux, error)
    np.testing.assert_array_equal(np.flatnonzero(spikes), [50, 51, 800, 900])
    assert np.abs(continuum / level - 1).max() < 0.06


def test_templates_need_wavelengths():
    assert Templates.make(np.arange(50.0), np.zeros((1, 1)), np.ones((1, 50))) is None


def test_templates_of_few_nodes_are_enough():
    class ManyNodes:
        wavelength_ = np.linspace(8500.0, 8510.0, 60)

        def predict_nearest(self, labels):
            return 1 - labels[:, :1] * np.exp(-0.5 * ((self.wavelength_ - 8505) / 0.2) ** 2), None

    nodes = np.linspace(0, 0.9, 900)[:, None]
    chosen = NodeSpectra.render(ManyNodes(), nodes).templates.nodes
    assert len(chosen) == 400
    assert (chosen[0], chosen[-1]) == (nodes[0], nodes[-1])
    assert len(NodeSpectra.render(ManyNodes(), nodes[:99]).templates.nodes) == 99


def test_the_ends_of_a_steep_blaze_are_no_spikes():
    rng = np.random.default_rng(0)
    pixel = np.arange(2048)
    blaze = np.sinc(0.75 * np.linspace(-1, 1, 2048)) ** 2  # 9 % at the ends
    lines = sum(0.5 * np.exp(-0.5 * ((pixel - center) / 3) ** 2) for center in rng.uniform(0, 2048, 30))
    error = 10.0 * np.sqrt(blaze)
    flux = 1000 * blaze * np.clip(1 - lines, 0.05, 1) + rng.normal(scale=error)
    hit = [300, 900, 2030]
    flux[hit] += 1500
    _, spikes = first_continuum(flux, error)
    np.testing.assert_array_equal(np.flatnonzero(spikes), hit)
