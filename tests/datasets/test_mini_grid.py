import numpy as np
import pytest

from stellarhml.datasets import load_mini_grid
from stellarhml.datasets._mini_grid import MINI_GRID_FILE
from stellarhml.grids.phoenix_files import missing_nodes
from stellarhml.lines.line_lists import read_line_list
from stellarhml.synthesis.line_table import tags_of


@pytest.fixture(scope="module")
def grid():
    return load_mini_grid()


def test_shapes_and_labels(grid):
    assert grid.flux.shape == (66, 25001)
    assert grid.flux.dtype == grid.flux_offgrid.dtype == grid.flux_other.dtype == np.float32
    assert grid.flux_offgrid.shape == grid.flux_other.shape == (6, 25001)
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
    for row in (*grid.labels_offgrid, *grid.labels_other):
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
    assert np.isfinite(grid.flux_other).all()


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


def test_other_stars_are_those_well_inside_the_grid(grid, shared_data):
    with np.load(shared_data.DATA / "mismatch_dev.npz") as data:
        labels = data["labels"]
        margin = np.minimum(labels - grid.labels.min(axis=0), grid.labels.max(axis=0) - labels)
        rows = np.all(margin >= (100, 0.1, 0.05), axis=1)
        np.testing.assert_array_equal(grid.labels_other, labels[rows])
        np.testing.assert_array_equal(grid.vmic_other, data["vmic"][rows])
        x_fe = dict(zip(data["elements"].tolist(), data["x_fe"][rows].T, strict=True))
        assert set(x_fe) - set(grid.x_fe_other) == {"H", "He", "Fe"}
        for element, values in grid.x_fe_other.items():
            np.testing.assert_array_equal(values, x_fe[element])
        code, knots, continuum = data["code"][rows], data["knot"], data["continuum"][rows]
    wavelength = shared_data.phoenix_wavelength()
    window = slice(41200, 66201)
    for ours, fraction, level in zip(grid.flux_other, code[:, window], continuum, strict=True):
        theirs = fraction / 65535.0 * np.interp(wavelength, wavelength[knots], level)[window]
        np.testing.assert_allclose(ours, theirs, rtol=5e-7)  # of single precision


def test_other_stars_have_other_physics(grid):
    assert np.all(np.abs(grid.vmic_other - 1.0) > 0.05)  # that of the grid is 1 km/s
    assert {"Mg", "Si", "Ca", "Ti", "Cr", "Ni"} <= set(grid.x_fe_other)
    scatter = [values.std() for values in grid.x_fe_other.values()]
    assert 0.03 < np.median(scatter) < 0.08  # 0.05 dex of six stars


def test_line_list_gives_the_tags_of_the_whole_list(grid, mini_generator, shared_data):
    whole = read_line_list(shared_data.line_list("hpf"))
    keys = [list(zip(*lines, strict=True)) for lines in (grid.line_list, whole)]
    assert set(keys[0]) <= set(keys[1])
    in_band = (whole.wavelength > grid.wavelength[0]) & (whole.wavelength < grid.wavelength[-1])
    assert len(keys[0]) < 0.4 * in_band.sum()
    # every third pixel: other lines than those that the list was chosen for
    few, every = (tags_of(mini_generator, lines) for lines in (grid.line_list, whole))
    assert every.tagged.sum() > 200
    assert np.mean(few.names() == every.names()) > 0.97
    columns = [every.species.index(name) for name in few.species]
    # transitions of less than 1 % of a line are left out, and zero points of rare species move
    assert np.abs(few.shares - every.shares[:, columns]).sum(axis=1).mean() < 0.05


def test_file_is_small_and_holds_no_pickle():
    assert MINI_GRID_FILE.stat().st_size < 3_000_000
    assert sum(path.stat().st_size for path in MINI_GRID_FILE.parent.iterdir()) < 3_000_000
    with np.load(MINI_GRID_FILE, allow_pickle=False) as data:
        assert all(data[key].dtype.kind in "fiuU" for key in data.files)


def test_description_warns_about_the_spectra_between_the_nodes(grid):
    for words in (
        "Ryabchikova",
        "Kurucz",
        "linemake",
        "MIT licence",
        "pysme-astro 1.2.0",
        "ATLAS9",
        "VALD",
        "for testing only",
        "not PHOENIX",
    ):
        assert words in grid.DESCR
