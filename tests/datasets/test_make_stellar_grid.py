import numpy as np
import pytest
from scipy.signal import find_peaks

from stellarhml.datasets import make_stellar_grid


def test_every_node_is_there_in_order():
    grid = make_stellar_grid(random_state=0)
    expected = [[t, g, z] for t in (5000, 5250, 5500, 5750) for g in (3.5, 4, 4.5) for z in (-0.5, 0)]
    assert grid.labels.tolist() == expected
    assert grid.flux.shape == (24, 400)
    np.testing.assert_allclose(grid.wavelength, np.linspace(8500, 8519.95, 400), rtol=1e-15)
    assert make_stellar_grid(n_teff=2, n_logg=1, n_feh=3, random_state=0).labels[-1].tolist() == [5250, 3.5, 0.5]


def test_seed_decides():
    a, b, c = (make_stellar_grid(noise=0.01, random_state=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.flux, b.flux)
    assert not np.array_equal(a.line_centers, c.line_centers)
    flux, labels = make_stellar_grid(noise=0.01, random_state=1, return_X_y=True)
    np.testing.assert_array_equal(flux, a.flux)
    np.testing.assert_array_equal(labels, a.labels)


@pytest.mark.parametrize("seed", range(5))
def test_flux_is_normalised_and_bounded(seed):
    flux = make_stellar_grid(random_state=seed).flux
    assert flux.min() >= 0
    assert flux.max() <= 1
    # Lorentz wings fall with the square of the distance, so that no pixel but the best is quite at the continuum.
    assert np.all(flux.max(axis=1) > 0.99)
    assert np.all(flux.min(axis=1) < 0.9)


@pytest.mark.parametrize(("n_lines", "n_pixels"), [(8, 400), (20, 400), (48, 400)])
def test_lines_are_apart_and_inside(n_lines, n_pixels):
    grid = make_stellar_grid(n_lines=n_lines, n_pixels=n_pixels, random_state=3)
    pixel = (grid.line_centers - 8500) / 0.05
    # 1e-6 of a pixel for the rounding of wavelengths near 8500.
    assert np.diff(np.concatenate([[0], pixel, [n_pixels - 1]])).min() >= 8 - 1e-6
    assert len(pixel) == n_lines


def test_lines_are_where_the_centers_say():
    grid = make_stellar_grid(n_lines=6, n_pixels=1000, random_state=0)
    strongest = grid.flux[1]  # coolest, metal-rich: every line is visible
    found = grid.wavelength[find_peaks(-strongest, prominence=0.01)[0]]
    assert len(found) == 6
    # Within two pixels of 0.05 angstrom: one of sampling, one by which a neighbour may pull a minimum.
    np.testing.assert_allclose(found, grid.line_centers, rtol=0, atol=0.1)


def test_lines_follow_the_labels_smoothly():
    grid = make_stellar_grid(n_teff=9, n_logg=1, n_feh=1, random_state=0)
    steps = np.diff(grid.flux, axis=0)
    # Smooth: along Teff the second difference is small beside the first, where the flux changes at all.
    assert np.abs(np.diff(steps, axis=0)).max() < 0.3 * np.abs(steps).max()
    metals = make_stellar_grid(n_teff=1, n_logg=1, n_feh=3, random_state=0).flux.mean(axis=1)
    assert np.all(np.diff(metals) < 0)  # more metals, more absorption


def test_noise_has_the_size_that_was_asked_for():
    clean, noisy = (make_stellar_grid(noise=noise, random_state=0) for noise in (0.0, 0.02))
    np.testing.assert_array_equal(clean.line_centers, noisy.line_centers)
    # 9600 draws: the estimate of a standard deviation is good to 0.7 %.
    assert abs(np.std(noisy.flux - clean.flux) / 0.02 - 1) < 0.03


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_teff": 0}, "`n_teff` is 0, but it must be at least 1"),
        ({"noise": -1.0}, "`noise` is -1.0"),
        ({"n_lines": 50}, "need at least 409 pixels, and `n_pixels` is 400"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_stellar_grid(**arguments)


def test_smallest_grid_that_is_said_to_fit_does():
    assert make_stellar_grid(n_lines=50, n_pixels=409, random_state=0).line_centers.shape == (50,)
