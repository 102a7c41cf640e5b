"""A generator of a grid that jumps: beside the jump, spectra are mixed, not lines."""

import numpy as np
import pytest

from stellarhml import LineManifoldInterpolator, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid

AT = 5600.0  # between 5500 and 5750 K


@pytest.fixture(scope="module")
def grid():
    return make_stellar_grid(n_teff=5, random_state=0)


@pytest.fixture(scope="module")
def broken(grid):
    flux = grid.flux.copy()
    flux[grid.labels[:, 0] > AT] = flux[grid.labels[:, 0] > AT] ** 1.2
    model = SpectrumGenerator(
        wavelength=grid.wavelength,
        decomposer=VoigtLineDecomposer(n_rounds=0, subsample=8),
        interpolator=LineManifoldInterpolator(breaks={"teff": [AT]}),
    )
    return model.fit(grid.labels, flux)


def sides(model):
    teff = np.unique(model.interpolator_.nodes_[:, 0])
    return teff[teff < AT].max(), teff[teff > AT].min()


def test_beside_a_jump_the_flux_is_linear(broken):
    low, high = sides(broken)
    ends = broken.predict([[low, 3.8, -0.2], [high, 3.8, -0.2]])
    np.testing.assert_allclose(
        broken.predict([[0.7 * low + 0.3 * high, 3.8, -0.2]])[0], 0.7 * ends[0] + 0.3 * ends[1], atol=1e-12
    )
    # elsewhere nothing is mixed
    assert len(broken.interpolator_.split_at_breaks(np.array([[low - 10, 3.8, -0.2], [low, 3.8, -0.2]])).row) == 2


def test_windows_velocities_and_errors_are_mixed_too(broken):
    low, high = sides(broken)
    labels = np.array([[low - 20, 3.8, -0.2], [0.5 * (low + high), 3.9, -0.3], [high, 4.0, -0.1]])
    flux, std = broken.predict(labels, return_std=True)
    assert flux.shape == std.shape == (3, len(broken.wavelength_))
    window = broken.predict(labels, pixels=slice(50, 90))
    np.testing.assert_allclose(window, flux[:, 50:90], atol=1e-6)  # rendering is good to 1e-6
    rv = np.array([0.0, 20.0, -20.0])
    alone = np.stack([broken.predict(row[None], rv=velocity)[0] for row, velocity in zip(labels, rv, strict=True)])
    np.testing.assert_allclose(broken.predict(labels, rv=rv), alone, atol=1e-12)


def test_jacobian_beside_a_jump(broken):
    low, high = sides(broken)
    labels = np.array([[0.6 * low + 0.4 * high, 3.8, -0.2], [low - 30, 3.8, -0.2]])
    jacobian = broken.jacobian(labels)
    span = np.ptp(broken.interpolator_.bounds_, axis=1)
    for k in range(3):
        step = 1e-3 * span * np.eye(3)[k]
        numeric = (broken.predict(labels + step) - broken.predict(labels - step)) / (2e-3 * span[k])
        # rendering jumps by 1e-8 between cells and pixels, over a step of 2e-3; third derivatives
        np.testing.assert_allclose(jacobian[..., k] * span[k], numeric * span[k], atol=1e-4)
    # along the jump itself the flux is linear
    ends = broken.predict([[low, 3.8, -0.2], [high, 3.8, -0.2]])
    np.testing.assert_allclose(jacobian[0, :, 0], (ends[1] - ends[0]) / (high - low), atol=1e-12)


def test_a_generator_finds_the_jump_by_itself():
    grid = make_stellar_grid(n_teff=9, n_logg=2, n_feh=1, random_state=0)
    flux = grid.flux.copy()
    flux[grid.labels[:, 0] > 5900] = flux[grid.labels[:, 0] > 5900] ** 1.5
    decomposer = VoigtLineDecomposer(n_rounds=0, subsample=8)
    model = SpectrumGenerator(wavelength=grid.wavelength, decomposer=decomposer)
    teff = np.unique(grid.labels[:, 0])
    middle = (teff[teff < 5900].max() + teff[teff > 5900].min()) / 2
    assert model.fit(grid.labels, flux).interpolator_.breaks == {"teff": [middle]}
    assert model.interpolator is None  # what was passed in stays as it was
    asked = model.set_params(interpolator=LineManifoldInterpolator(breaks={})).fit(grid.labels, flux)
    assert asked.interpolator_.breaks == {}
