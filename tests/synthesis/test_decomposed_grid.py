"""Generators of parts of a grid whose lines are found once."""

import numpy as np
import pytest

from stellarhml import LineManifoldInterpolator, PhoenixPreprocessor, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid
from stellarhml.exceptions import GridIncompleteError
from stellarhml.synthesis.decomposed_grid import decompose_grid


@pytest.fixture(scope="module")
def grid():
    return make_stellar_grid(n_teff=5, n_logg=3, n_feh=2, random_state=0)


@pytest.fixture(scope="module")
def template(grid):
    preprocessor = PhoenixPreprocessor(wavelength=grid.wavelength, degree=0, peak_distance=50)
    return SpectrumGenerator(preprocessor=preprocessor, verbose=False)


def test_of_all_nodes_it_is_the_generator(grid, template):
    between = [[5100.0, 3.8, -0.2], [5900.0, 4.3, -0.4]]
    want = template.fit(grid.labels, 1e14 * grid.flux)
    with decompose_grid(template, grid.labels, 1e14 * grid.flux) as decomposed:
        got = decomposed.fit(np.arange(len(grid.labels)))
    for a, b in zip(got.predict(between, return_std=True), want.predict(between, return_std=True), strict=True):
        np.testing.assert_array_equal(a, b)
    assert got.grid_id_ == want.grid_id_
    assert vars(got).keys() == vars(want).keys()


def test_a_generator_does_not_know_what_was_held_out(grid, template):
    """What the held-out spectra are has no effect, once the lines are found."""
    out = 14
    rest = np.delete(np.arange(len(grid.labels)), out)
    with decompose_grid(template, grid.labels, grid.flux) as decomposed:
        first = decomposed.fit(rest).predict(grid.labels[out : out + 1])
        full = decomposed.fit(np.arange(len(grid.labels))).predict(grid.labels[out : out + 1])
        normalised, theta = decomposed.normalised.copy(), decomposed.theta.copy()
        normalised[out], theta[out] = 7.0, theta[0]
        spoilt = decomposed._replace(normalised=normalised, theta=theta)
        np.testing.assert_array_equal(spoilt.fit(rest).predict(grid.labels[out : out + 1]), first)
        truth = decomposed.normalised[out]
    error, error_full = (np.sqrt(np.mean((flux - truth) ** 2)) for flux in (first, full))
    # interpolation over twice the step errs, and less than the lines are deep
    assert 2 * error_full < error < 0.05


def test_lines_that_only_held_out_nodes_have_do_no_harm(grid):
    template = SpectrumGenerator(
        wavelength=grid.wavelength,
        decomposer=VoigtLineDecomposer(prominence=0.2, fit_undetected=False, max_iter=40),
        verbose=False,
    )
    with decompose_grid(template, grid.labels, grid.flux) as decomposed:
        present = decomposed.theta.toarray() != 0
        rarest = present[:, np.argmin(present.sum(axis=0))]
        assert 0 < rarest.sum() < 15
        rest = np.flatnonzero(~rarest)
        flux = decomposed.fit(rest).predict(grid.labels[rest])
    assert np.sqrt(np.mean((flux - grid.flux[rest]) ** 2)) < 0.02


def test_a_full_grid_stays_demanded(grid):
    template = SpectrumGenerator(wavelength=grid.wavelength, interpolator=LineManifoldInterpolator(method="linear"))
    with (
        decompose_grid(template, grid.labels, grid.flux) as decomposed,
        pytest.raises(GridIncompleteError, match="1 are missing"),
    ):
        decomposed.fit(np.arange(1, len(grid.labels)))
