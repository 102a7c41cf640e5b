"""Spectra at the wrong nodes: found on real grids, and not found where there are none."""

import warnings

import numpy as np
import pytest

from stellarhml import PhoenixPreprocessor
from stellarhml.datasets import load_mini_grid, make_stellar_grid
from stellarhml.exceptions import ContinuumWarning
from stellarhml.manifold.misplaced import _cycles
from stellarhml.synthesis.grid_faults import misplaced_nodes

# name: band in angstrom, and whether it is normalised already. The steps of PHOENIX from 5000 to 5100 K are a jump.
BANDS = {
    "mini": (8490, 8560, False),
    "sme_hpf_grid": (10450, 10500, False),
    "phoenix_hband": (15800, 15900, False),
    "optical_grid": (6100, 6160, True),
    "wide_grid": (8500, 8600, True),
}


@pytest.fixture(scope="module", params=BANDS)
def spectra(request):
    """Labels and normalised fluxes of a grid in a narrow band."""
    low, high, normalised = BANDS[request.param]
    data = (
        load_mini_grid()
        if request.param == "mini"
        else getattr(request.getfixturevalue("shared_data"), request.param)()
    )
    band = (data["wavelength"] >= low) & (data["wavelength"] <= high)
    labels, flux = data["labels"], data["flux"][:, band]
    if normalised:
        return labels, flux
    scale = PhoenixPreprocessor(wavelength=data["wavelength"][band], degree=1, peak_distance=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ContinuumWarning)
        return labels, scale.fit_transform(flux, teff=labels[:, 0])


def inner_nodes(labels):
    """Rows of nodes with neighbours on both sides along Teff and log g, away from the jump of PHOENIX."""
    teff, logg = (np.unique(column) for column in labels[:, :2].T)
    inner = np.isin(labels[:, 0], teff[2:-2]) & np.isin(labels[:, 1], logg[1:-1])
    return np.flatnonzero(inner & (np.abs(labels[:, 0] - 5050) > 250))


def step(labels, row, axis):
    """Row of the next node along a label."""
    values = np.unique(labels[:, axis])
    place = int(np.searchsorted(values, labels[row, axis]))
    wanted = labels[row].copy()
    wanted[axis] = values[place + 1 if place + 1 < len(values) else place - 1]
    return np.flatnonzero((labels == wanted).all(axis=1))


@pytest.mark.slow
def test_good_grids_are_silent(spectra):
    labels, flux = spectra
    assert misplaced_nodes(labels, flux) == []
    # nor with noise, or with holes
    rng = np.random.default_rng(0)
    assert misplaced_nodes(labels, flux + 0.01 * rng.normal(size=flux.shape)) == []
    keep = rng.random(len(labels)) > 0.2
    assert misplaced_nodes(labels[keep], flux[keep]) == []


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_two_swapped_neighbours_are_named(spectra, axis):
    labels, flux = spectra
    for row in np.random.default_rng(axis).choice(inner_nodes(labels), 4, replace=False):
        (other,) = step(labels, row, axis)
        wrong = flux.copy()
        wrong[[row, other]] = flux[[other, row]]
        assert misplaced_nodes(labels, wrong) == [(True, tuple(sorted((row, other))))]


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_node_with_the_spectrum_of_a_neighbour_is_named(spectra, axis):
    labels, flux = spectra
    rng = np.random.default_rng(axis)
    for row in rng.choice(inner_nodes(labels), 4, replace=False):
        (other,) = step(labels, row, axis)
        wrong = flux.copy()
        wrong[row] = flux[other] * (1 + 1e-4 * rng.normal(size=flux.shape[1]))
        assert row in {named for pair in misplaced_nodes(labels, wrong) for named in pair.rows}


def test_corners_are_seen_in_a_swap():
    """Nothing predicts a corner, but a corner predicts its neighbours, so that a swap shows."""
    data = load_mini_grid()
    band = slice(4000, 11000)
    scale = PhoenixPreprocessor(wavelength=data.wavelength[band], degree=1, peak_distance=500)
    flux = scale.fit_transform(data.flux[:, band], teff=data.labels[:, 0])
    assert np.array_equal(data.labels[[0, 2]], [[5000, 4, -0.5], [5000, 4.5, -0.5]])
    wrong = flux.copy()
    wrong[[0, 2]] = flux[[2, 0]]
    assert misplaced_nodes(data.labels, wrong) == [(True, (0, 2))]


FAULTS = {
    "half one": lambda row: np.where(np.arange(row.size) < row.size // 2, row, 1.0),
    "all one": np.ones_like,
    "twice": lambda row: 2 * row,
    "45 zeros": lambda row: np.where(np.abs(np.arange(row.size) - 100) < 23, 0.0, row),
    "every second pixel zero": lambda row: np.where(np.arange(row.size) % 2, row, 0.0),
    "one pixel": lambda row: np.where(np.arange(row.size) == 150, 100.0, row),
    "reversed": lambda row: row[::-1],
}


@pytest.mark.slow
@pytest.mark.parametrize("row", [0, 3, 10, 22])  # a corner, two edges, and in the middle
@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_spectrum_is_named_alone(row, fault):
    grid = make_stellar_grid(n_teff=5, n_logg=3, n_feh=3, n_pixels=300, n_lines=6, random_state=0)
    flux = grid.flux.copy()
    flux[row] = FAULTS[fault](flux[row])
    assert misplaced_nodes(grid.labels, flux) == [(False, (row,))]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_spectrum_of_a_single_label_is_named_first(fault):
    grid = make_stellar_grid(n_teff=9, n_logg=2, n_feh=2, n_pixels=300, n_lines=6, random_state=0)
    line = (grid.labels[:, 1:] == grid.labels[0, 1:]).all(axis=1)
    flux = grid.flux[line]
    flux[4] = FAULTS[fault](flux[4])
    found = misplaced_nodes(grid.labels[line][:, :1], flux, ("teff",))
    assert [(pair.swapped, pair.rows[0]) for pair in found] == [(False, 4)]


@pytest.mark.parametrize("row", [0, 10])
def test_nearly_the_spectrum_of_a_far_node_is_named_with_it(row):
    grid = make_stellar_grid(n_teff=5, n_logg=3, n_feh=3, n_pixels=300, n_lines=6, random_state=0)
    flux = grid.flux.copy()
    flux[row] = flux[20] * (1 + 1e-9 * np.random.default_rng(0).normal(size=300))
    assert misplaced_nodes(grid.labels, flux) == [(False, (row, 20))]


def test_narrow_bands_are_silent(shared_data):
    """Of one line and no line, where spectra vary little and not smoothly."""
    data = shared_data.wide_grid()
    labels, n = data["labels"], len(data["wavelength"])
    for first in (n // 2, 16_000, 19_000):
        assert misplaced_nodes(labels, data["flux"][:, first : first + 60].astype(float)) == []


def test_scattered_nodes_and_small_grids_are_not_tested():
    rng = np.random.default_rng(0)
    assert misplaced_nodes(rng.uniform(size=(40, 2)), rng.random((40, 60))) == []
    assert misplaced_nodes(np.array([[1.0], [2.0]]), rng.random((2, 60))) == []
    assert misplaced_nodes(np.array([[1.0]]), rng.random((1, 60))) == []


def test_huge_fluxes_are_not_tested():
    flux = np.ones((9, 60))
    flux[4, 7] = 1e200
    assert misplaced_nodes(np.arange(9.0)[:, None], flux) == []


def test_cycles_of_a_permutation():
    assert _cycles(np.array([0, 3, 2, 1])) == [(1, 3)]
    assert _cycles(np.array([1, 2, 0, 3, 5, 4])) == [(0, 1, 2), (4, 5)]
    assert _cycles(np.arange(4)) == []
