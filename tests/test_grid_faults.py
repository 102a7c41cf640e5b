"""Faults of the spectra of a grid: no light, no normalisation, nodes given twice."""

import numpy as np
import pytest

from stellarhml._grid_faults import check_grid_spectra, check_nodes_given_twice, same_spectrum_at_two_nodes
from stellarhml._grid_faults import stretch_without_light as found_in
from stellarhml.exceptions import GridWarning

N = 400
SLOPE = 3e14 * np.linspace(1.1, 0.9, N)
X = 8500 + 0.05 * np.arange(N)


def changed(pixels, value):
    flux = SLOPE.copy()
    flux[pixels] = value
    return flux


@pytest.mark.parametrize(
    ("pixels", "value", "kind"),
    [
        (slice(200, N), 0.0, "zero"),
        (slice(0, 50), 0.0, "zero"),
        (slice(100, 160), -1e10, "zero or negative"),
        (slice(100, 160), np.linspace(-1e10, 0, 60), "zero or negative"),
        (slice(300, N), 1e14, "the same number, 1e+14,"),
        (slice(300, N), 1e30, "the same number, 1e+30,"),
        (slice(0, N), 0.0, "zero"),
    ],
)
def test_stretches_that_no_model_spectrum_has(pixels, value, kind):
    first, stop, _ = pixels.indices(N)
    assert found_in(changed(pixels, value)) == (first, stop, kind)
    assert found_in(changed(pixels, value).astype(np.float32)) == (first, stop, kind)


def test_true_spectra_are_accepted():
    rng = np.random.default_rng(0)
    noisy = 1 + 0.5 * rng.normal(size=N)
    noisy[100:200] -= 1  # half of the pixels of a black band are below zero, never fifty in a row
    lines = np.ones(N)
    lines[20:30] = 0.2  # saturated cores, and a continuum in 16 bits
    emission = SLOPE * (1 + 80 * np.exp(-0.5 * ((X - 8510) / 0.3) ** 2))
    # 2300 K: Planck's law from 500 angstrom on, in float32, with denormal numbers and zeros at the blue end
    wavelength = np.linspace(500, 9000, 20_000)
    with np.errstate(under="ignore"):
        cool = (1e30 / wavelength**5 / np.expm1(1.4388e8 / wavelength / 1000)).astype(np.float32)
    assert (cool == 0).sum() > 50
    # the maximum between two hydrogen lines, in steps of 16 bits; the end of a spectrum is no maximum
    between = np.round((0.9 - 1e-8 * np.arange(-N // 2, N // 2) ** 2) * 65535 / 1.3) * (1.3 / 65535)
    between[:20] = between[-20:] = 1.0
    assert (np.diff(between) == 0).sum() > 60
    assert found_in(between[: N // 2 + 30]) is not None
    for flux in (SLOPE, noisy, lines, np.ones(N), emission, cool, 1e-200 * SLOPE, np.zeros(49), between):
        assert found_in(flux) is None


def test_the_range_without_light_is_named():
    flux = np.stack([SLOPE, changed(slice(200, N), 0.0)])
    with pytest.raises(ValueError, match=r"spectrum 1 is zero from 8510\.00 to 8519\.95 angstrom \(200 pixels\)"):
        check_grid_spectra(flux, X, normalised=False)
    nodes = np.array([[5000.0], [5100.0]]), ("teff",)
    with pytest.raises(ValueError, match=r"spectrum 1 \(teff 5100\) is zero in pixels 200 to 399"):
        check_grid_spectra(flux, None, normalised=False, nodes=nodes)


@pytest.mark.parametrize("scale", [1e-200, 1e-17, 1e-3, 100, 1e6, 1e8, 1e14, 1e160])
def test_fluxes_far_from_one_are_not_normalised(scale, grid):
    with pytest.raises(ValueError, match=r"not normalised: spectrum 0 has a level .*preprocessor=PhoenixPreprocessor"):
        check_grid_spectra(scale * grid.flux, grid.wavelength, normalised=True)
    check_grid_spectra(scale * grid.flux, grid.wavelength, normalised=False)


def test_normalised_fluxes_are_accepted(grid):
    rng = np.random.default_rng(0)
    emission = 80 * np.exp(-0.5 * ((grid.wavelength - 8510) / 0.3) ** 2)
    for flux in (grid.flux, 0.1 * grid.flux, grid.flux + emission, grid.flux + 0.3 * rng.normal(size=grid.flux.shape)):
        check_grid_spectra(flux, grid.wavelength, normalised=True)


def test_a_wild_pixel_is_named(grid):
    flux = grid.flux.copy()
    flux[3, 40] = -1e10
    text = r"spectrum 3 has a flux of -1e\+10 at 8502\.\d\d angstrom, but .* must not exceed 1e\+06"
    with pytest.raises(ValueError, match=text):
        check_grid_spectra(flux, grid.wavelength, normalised=True)
    with pytest.raises(ValueError, match="in pixel 40"):
        check_grid_spectra(flux, None, normalised=True)
    check_grid_spectra(flux, grid.wavelength, normalised=False)


def test_few_pixels_are_not_judged():
    check_grid_spectra(1e14 * np.ones((3, 49)), None, normalised=True)
    with pytest.raises(ValueError, match="not normalised"):
        check_grid_spectra(1e14 * np.ones((3, 50)), None, normalised=True)


def test_a_node_given_twice(grid):
    labels = np.vstack([grid.labels, grid.labels[3:4]])
    with pytest.raises(ValueError, match=r"teff 5000, logg 4, feh 0 is given 2 times, in rows 3, 24, .* up to 0\.\d+"):
        check_nodes_given_twice(labels, np.vstack([grid.flux, grid.flux[4:5]]), grid.label_names)
    # rounding to float32 makes no other spectrum
    same = np.vstack([grid.flux, grid.flux[3:4].astype(np.float32)])
    with pytest.warns(GridWarning, match=r"1 nodes are given more than once.*rows 3, 24"):
        check_nodes_given_twice(labels, same, grid.label_names)
    few = np.vstack([grid.flux, grid.flux[4:5]])[:, :49]
    few[24] += 0.1
    with pytest.warns(GridWarning, match="they are averaged"):
        check_nodes_given_twice(labels, few, grid.label_names)
    check_nodes_given_twice(grid.labels, grid.flux, grid.label_names)


def test_the_same_spectrum_at_two_nodes():
    labels = np.array([[0.0], [1.0], [2.0], [0.0]])
    assert same_spectrum_at_two_nodes(labels, ["a", "b", "a", "a"]) == [[0, 2, 3]]
    assert same_spectrum_at_two_nodes(labels, ["a", "b", "c", "a"]) == []
