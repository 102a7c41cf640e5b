import numpy as np
import pytest

from stellarhml.datasets import load_mini_grid
from stellarhml.datasets._mini_grid import MINI_GRID_FILE
from stellarhml.grids.phoenix_files import missing_nodes


@pytest.fixture(scope="module")
def grid():
    return load_mini_grid()


def test_shapes_and_labels(grid):
    assert grid.flux.shape == (66, 25001)
    assert grid.flux.dtype == grid.flux_offgrid.dtype == np.float32
    assert grid.flux_offgrid.shape == (6, 25001)
    assert grid.wavelength[[0, -1]].tolist() == [8450, 8700]
    np.testing.assert_allclose(np.diff(grid.wavelength), 0.01, rtol=1e-6)
    assert np.unique(grid.labels[:, 0]).tolist() == list(range(5000, 6001, 100))
    assert np.unique(grid.labels[:, 1]).tolist() == [4, 4.5, 5]
    assert np.unique(grid.labels[:, 2]).tolist() == [-0.5, 0]
    assert grid.labels.tolist() == sorted(grid.labels.tolist())
    flux, labels = load_mini_grid(return_X_y=True)
    np.testing.assert_array_equal(flux, grid.flux)
    np.testing.assert_array_equal(labels, grid.labels)


def test_nodes_are_rectilinear_and_off_grid_labels_lie_between(grid):
    assert missing_nodes(grid.labels).shape == (0, 3)
    assert len(np.unique(grid.labels, axis=0)) == 66
    for row in grid.labels_offgrid:
        assert row.tolist() not in grid.labels.tolist()
        assert np.all((row > grid.labels.min(axis=0)) & (row < grid.labels.max(axis=0)))


def test_flux_is_that_of_stars(grid):
    # Flux at the surface in erg/s/cm2/cm: within 15 % of a black body's at the same temperature (measured: 7 %).
    level = np.percentile(grid.flux, 99, axis=1)
    center = 8575e-8  # cm
    c1, c2 = 2 * np.pi * 6.62607e-27 * 2.99792e10**2, 1.438777  # 2 pi h c^2 [erg cm2/s] and h c / k [cm K]
    black_body = c1 / center**5 / np.expm1(c2 / (center * grid.labels[:, 0]))
    np.testing.assert_allclose(level, black_body, rtol=0.15)
    hotter = level.reshape(11, 3, 2)
    assert np.all(np.diff(hotter, axis=0) > 0)
    # Ca II 8542.09 in air is the strongest line of the window but for its neighbour at 8662, which is left out.
    deepest = grid.wavelength[np.argmin(grid.flux[:, :15000], axis=1)]
    assert np.all(np.abs(deepest - 8544.44) < 0.05)
    assert np.isfinite(grid.flux).all()
    assert np.isfinite(grid.flux_offgrid).all()


def test_equals_the_shared_arrays(grid, shared_data):
    for ours, labels, name in (
        (grid.flux, grid.labels, "sme_hpf_grid"),
        (grid.flux_offgrid, grid.labels_offgrid, "sme_hpf_offgrid"),
    ):
        with np.load(shared_data.DATA / f"{name}.npz") as data:
            rows = slice(None, None, 4) if "off" in name else data["labels"][:, 2] < 0.25
            np.testing.assert_array_equal(labels, data["labels"][rows])
            code, knots, continuum = data["code"], data["knot"], data["continuum"][rows]
        wavelength = shared_data.phoenix_wavelength()
        window = slice(41200, 66201)
        np.testing.assert_array_equal(grid.wavelength, wavelength[window])
        # As shared_data does it, in the window only: the whole arrays would take 130 MB.
        theirs = code[rows, window].astype(np.float32) / np.float32(65535.0)
        for row, level in zip(theirs, continuum, strict=True):
            row *= np.interp(wavelength, wavelength[knots], level)[window].astype(np.float32)
        np.testing.assert_array_equal(ours, theirs)


def test_file_is_small_and_holds_no_pickle():
    assert MINI_GRID_FILE.stat().st_size < 3_000_000
    assert sum(path.stat().st_size for path in MINI_GRID_FILE.parent.iterdir()) < 3_000_000
    with np.load(MINI_GRID_FILE, allow_pickle=False) as data:
        assert all(data[key].dtype.kind in "fiu" for key in data.files)


def test_description_warns_about_the_off_grid_spectra(grid):
    for words in ("pysme-astro 1.2.0", "ATLAS9", "VALD", "for testing only", "not PHOENIX"):
        assert words in grid.DESCR
