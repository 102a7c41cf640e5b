import gc
import json
import os
import tracemalloc
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from astropy.io import fits

from stellarhml.datasets import load_phoenix
from stellarhml.exceptions import (
    GridIncompleteError,
    GridNotFoundError,
    SpectrumFileError,
    StellarHMLWarning,
    StoreError,
    WavelengthCoverageError,
)
from stellarhml.grids import phoenix_grid, spectra_cache
from stellarhml.grids.phoenix_files import WAVE_NAME, phoenix_file_name
from stellarhml.storage.atomic_files import atomic_path

GRID = "PHOENIX-ACES-AGSS-COND-2011"


def test_everything_that_is_there(phoenix_folder):
    grid = load_phoenix(phoenix_folder)
    assert grid.label_names == ("teff", "logg", "feh")
    assert grid.labels.tolist() == [[t, g, z] for t in (5000, 5100, 5200) for g in (4, 4.5) for z in (-0.5, 0)]
    # 8030 to 8069.5 angstrom are there; the default range begins at 8038, closed.
    np.testing.assert_array_equal(grid.wavelength, 8038 + 0.5 * np.arange(64))
    expected = grid.labels @ [1, 10, 1] + (16 + np.arange(64))[:, None] / 1000
    np.testing.assert_array_equal(grid.flux, expected.T.astype(np.float32))
    assert grid.flux.dtype == np.float32
    assert grid.missing.shape == (0, 3)
    assert grid.filenames[1].endswith(f"{GRID}/Z-0.0/lte05000-4.00-0.0.{GRID}-HiRes.fits")
    assert "Husser" in grid.DESCR
    flux, labels = load_phoenix(phoenix_folder, return_X_y=True)
    np.testing.assert_array_equal(flux, grid.flux)
    np.testing.assert_array_equal(labels, grid.labels)


def test_equals_gollum_pixel_for_pixel(tmp_path, shared_data):
    pytest.importorskip("gollum")
    folder = shared_data.write_phoenix_layout(tmp_path, every=20, wavelength_range=(8500, 9000))
    grid = load_phoenix(folder, teff=(5000, 5500), wavelength=(8550.0, 8800.0))
    assert len(grid.labels) == 6 * 3 * 3
    with warnings.catch_warnings():  # gollum leaves files open and builds on a deprecated class
        warnings.simplefilter("ignore")
        from gollum.phoenix import PHOENIXSpectrum

        for row in (0, 17, 53):
            teff, logg, feh = grid.labels[row]
            theirs = PHOENIXSpectrum(teff=int(teff), logg=logg, Z=feh, path=f"{folder}/", wl_lo=8550, wl_hi=8800)
            np.testing.assert_array_equal(grid.flux[row], theirs.flux.value.astype(np.float32))
            np.testing.assert_array_equal(grid.wavelength, theirs.wavelength.value)
        gc.collect()


@pytest.mark.parametrize(
    ("selection", "n_teff"),
    [(None, 3), ((5050, 5200), 2), ((5100, 5100), 1), ([5000, 5200], 2), (np.array([5100]), 1), (5200, 1)],
)
def test_selection_of_labels(phoenix_folder, selection, n_teff):
    grid = load_phoenix(phoenix_folder, teff=selection, logg=4.5)
    assert len(np.unique(grid.labels[:, 0])) == n_teff
    assert len(grid.labels) == 2 * n_teff
    assert set(grid.labels[:, 1]) == {4.5}


def test_values_are_those_that_occur_in_the_selection(phoenix_folder):
    # A log g that exists for other temperatures only is no missing node of this selection.
    path = phoenix_folder / phoenix_file_name(5300, 3.0, 0.0)
    (phoenix_folder / phoenix_file_name(5200, 4.0, 0.0)).rename(path)
    for key, value in (("PHXTEFF", 5300.0), ("PHXLOGG", 3.0)):
        fits.setval(path, key, value=value)
    assert len(load_phoenix(phoenix_folder, teff=(5000, 5100)).labels) == 8
    assert load_phoenix(phoenix_folder, teff=[5300]).labels.tolist() == [[5300, 3, 0]]


def test_alpha_selects_its_own_files(phoenix_folder):
    path = phoenix_folder / phoenix_file_name(5000, 4.0, 0.0, 0.2)
    path.parent.mkdir()
    hdu = fits.PrimaryHDU(np.ones(80, dtype=np.float32))
    hdu.header["PHXALPHA"] = 0.2
    hdu.writeto(path)
    assert len(load_phoenix(phoenix_folder).labels) == 12
    assert load_phoenix(phoenix_folder, alpha=0.2).filenames == [str(path)]
    with pytest.raises(GridNotFoundError, match=r"alpha/Fe\] = 0.4, only 0, 0.2"):
        load_phoenix(phoenix_folder, alpha=0.4)


def test_wavelength_range_and_dtype(phoenix_folder):
    grid = load_phoenix(phoenix_folder, wavelength=(8040.2, 8041.0), dtype=np.float64)
    assert grid.wavelength.tolist() == [8040.5, 8041.0]
    assert grid.flux.dtype == np.float64
    assert load_phoenix(phoenix_folder, wavelength=None).wavelength.size == 80
    with pytest.raises(WavelengthCoverageError, match=r"they go from 8030 to 8069\.5 angstrom"):
        load_phoenix(phoenix_folder, wavelength=(9000, 9100))


def test_node_missing_inside_the_grid(phoenix_folder):
    (phoenix_folder / phoenix_file_name(5100, 4.5, 0.0)).unlink()
    with pytest.raises(GridIncompleteError, match=r"1 of the 12 selected nodes.*\(5100, 4\.5, 0\).*missing='report'"):
        load_phoenix(phoenix_folder)
    with pytest.warns(StellarHMLWarning, match="1 of the 12 selected nodes") as caught:
        grid = load_phoenix(phoenix_folder, missing="report")
    assert caught[0].filename == __file__
    assert grid.missing.tolist() == [[5100, 4.5, 0]]
    assert len(grid.flux) == len(grid.labels) == len(grid.filenames) == 11
    assert [5100, 4.5, 0] not in grid.labels.tolist()


def test_exact_values_that_are_nowhere_are_missing_nodes(phoenix_folder):
    with pytest.raises(GridIncompleteError, match="4 of the 8 selected nodes"):
        load_phoenix(phoenix_folder, teff=[5000, 9000])
    with pytest.raises(GridNotFoundError, match="no spectrum with `teff`"):
        load_phoenix(phoenix_folder, teff=[9000], missing="report")
    with pytest.raises(GridNotFoundError, match=r"the grid has 5000, 5100, 5200"):
        load_phoenix(phoenix_folder, teff=(6000, 7000))


def test_folders_without_a_grid(phoenix_folder, tmp_path):
    with pytest.raises(GridNotFoundError, match="is not a folder"):
        load_phoenix(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(GridNotFoundError, match="holds no spectrum"):
        load_phoenix(tmp_path / "empty")
    (phoenix_folder / WAVE_NAME).unlink()
    with pytest.raises(GridNotFoundError, match="WAVE_PHOENIX"):
        load_phoenix(phoenix_folder)


def test_damaged_files_are_named(phoenix_folder):
    path = phoenix_folder / phoenix_file_name(5200, 4.0, -0.5)
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    with pytest.raises(SpectrumFileError, match=r"lte05200-4\.00-0\.5.*truncated"):
        load_phoenix(phoenix_folder)
    path.write_bytes(whole)
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[40] = np.nan
    with pytest.raises(SpectrumFileError, match=r"lte05200-4\.00-0\.5.*NaN"):
        load_phoenix(phoenix_folder)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "zero"), (-1.0, "zero or negative"), (3e-5, "the same number, 3e-05,"), (9e9, "the same number, 9e\\+09,")],
)
def test_a_file_that_was_cut_and_filled_up_is_named(phoenix_folder, value, text):
    path = phoenix_folder / phoenix_file_name(5200, 4.0, -0.5)
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[29:] = value
    with pytest.raises(SpectrumFileError, match=rf"lte05200-4\.00-0\.5.* is {text}.* from 8044\.50 to 8069\.50 "):
        load_phoenix(phoenix_folder, wavelength=None)
    assert len(load_phoenix(phoenix_folder, wavelength=(8030, 8044)).labels) == 12  # before the cut


@pytest.mark.parametrize("alpha", ["0.2", np.nan, True])
def test_alpha_is_a_number_or_a_selection(phoenix_folder, alpha):
    with pytest.raises(
        ValueError, match=r"`alpha` is .* must be a number for one value of \[alpha/Fe\].* which make it one"
    ):
        load_phoenix(phoenix_folder, alpha=alpha)


@pytest.fixture
def enhanced(phoenix_folder):
    """The folder with the same nodes at [alpha/Fe] = 0.2, compressed by gzip, with fluxes of their own."""
    for path in list((phoenix_folder / GRID).rglob("*.fits")):
        flux, header = fits.getdata(path), fits.getheader(path)
        teff, logg, feh = (header[key] for key in ("PHXTEFF", "PHXLOGG", "PHXM_H"))
        z = f"{path.parent.name[1:]}.Alpha=+0.20"
        new = phoenix_folder / GRID / f"Z{z}" / f"lte{teff:05.0f}-{logg:.2f}{z}.{GRID}-HiRes.fits.gz"
        new.parent.mkdir(exist_ok=True)
        hdu = fits.PrimaryHDU(2 * flux)
        hdu.header.update(PHXTEFF=teff, PHXLOGG=logg, PHXM_H=feh, PHXALPHA=0.2)
        hdu.writeto(new)
    return phoenix_folder


@pytest.mark.parametrize(
    ("alpha", "values"), [((0, 0.2), [0, 0.2]), ([0.2], [0.2]), (None, [0, 0.2]), ((0.1, 1), [0.2])]
)
def test_alpha_as_a_label(enhanced, alpha, values):
    grid = load_phoenix(enhanced, alpha=alpha)
    assert grid.label_names == ("teff", "logg", "feh", "alpha")
    assert grid.labels.tolist() == [
        [t, g, z, a] for t in (5000, 5100, 5200) for g in (4, 4.5) for z in (-0.5, 0) for a in values
    ]
    expected = grid.labels[:, :3] @ [1, 10, 1] + (16 + np.arange(64))[:, None] / 1000
    np.testing.assert_allclose(grid.flux, expected.T * np.where(grid.labels[:, 3:] == 0, 1, 2), rtol=1e-6)
    assert len(load_phoenix(enhanced).labels) == 12


def test_nodes_that_lack_one_alpha(enhanced):
    next(enhanced.rglob("lte05100-4.50-0.0.Alpha*")).unlink()
    with pytest.raises(
        GridIncompleteError, match=r"1 of the 24 .*\(teff, logg, feh, alpha\) = \(5100, 4\.5, 0, 0\.2\)"
    ):
        load_phoenix(enhanced, alpha=None)
    assert len(load_phoenix(enhanced, alpha=0).labels) == 12


def test_a_truncated_gz_file_is_named(enhanced):
    path = next(enhanced.rglob("lte05100-4.50-0.0.Alpha*"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SpectrumFileError, match=r"lte05100-4\.50-0\.0\.Alpha=.*\.fits\.gz .*truncated"):
        load_phoenix(enhanced, alpha=None)


@pytest.mark.parametrize("wavelength", [(8040,), 8040, (8040, 8050, 8060), ("a", "b")])
def test_a_range_of_wavelengths_has_two_ends(phoenix_folder, wavelength):
    with pytest.raises(ValueError, match=r"`wavelength` is .* range"):
        load_phoenix(phoenix_folder, wavelength=wavelength)


@pytest.mark.parametrize("selection", ["hot", [[5000], [5000, 5100]], {"teff": 5000}])
def test_selections_that_are_no_numbers(phoenix_folder, selection):
    with pytest.raises(ValueError, match="`teff` is"):
        load_phoenix(phoenix_folder, teff=selection)


def test_a_metallicity_of_zero_may_have_either_sign(phoenix_folder):
    grid = load_phoenix(phoenix_folder)
    old = phoenix_folder / GRID / "Z-0.0"
    new = old.rename(old.with_name("Z+0.0"))
    for path in list(new.iterdir()):
        path.rename(path.with_name(path.name.replace("-0.0.PHOENIX", "+0.0.PHOENIX")))
    again = load_phoenix(phoenix_folder)
    np.testing.assert_array_equal(again.labels, grid.labels)
    np.testing.assert_array_equal(again.flux, grid.flux)
    assert again.filenames[1].endswith(f"{GRID}/Z+0.0/lte05000-4.00+0.0.{GRID}-HiRes.fits")
    assert load_phoenix(phoenix_folder, feh=0.0, teff=5000, logg=4.0).labels.tolist() == [[5000, 4, 0]]


@pytest.mark.parametrize("name", ["Z+0.0/lte05000-4.00+0.0", "Z-0.0.Alpha=+0.00/lte05000-4.00-0.0.Alpha=+0.00"])
def test_two_files_of_one_node(phoenix_folder, name):
    one = phoenix_folder / phoenix_file_name(5000, 4.0, 0.0)
    two = phoenix_folder / GRID / f"{name}.{GRID}-HiRes.fits"
    two.parent.mkdir()
    two.write_bytes(one.read_bytes())
    with pytest.raises(
        SpectrumFileError, match=r"both have the node \(5000, 4, 0\) in teff, logg, feh.*Delete one"
    ) as caught:
        load_phoenix(phoenix_folder)
    assert all(str(path) in str(caught.value) for path in (one, two))
    assert len(load_phoenix(phoenix_folder, teff=(5100, 5200)).labels) == 8


def test_wave_file_of_another_length(phoenix_folder):
    fits.PrimaryHDU(8030.0 + 0.5 * np.arange(90)).writeto(phoenix_folder / WAVE_NAME, overwrite=True)
    with pytest.raises(SpectrumFileError, match="holds 80 pixels, but the WAVE file of its folder has 90"):
        load_phoenix(phoenix_folder)


@pytest.mark.parametrize("selection", [(5000,), (5200, 5000), (1, 2, 3), [], [np.nan]])
def test_selections_that_mean_nothing(phoenix_folder, selection):
    with pytest.raises(ValueError, match="`teff` is"):
        load_phoenix(phoenix_folder, teff=selection)
    with pytest.raises(ValueError, match="'raise' or 'report'"):
        load_phoenix(phoenix_folder, missing="ignore")


@pytest.fixture
def reads(monkeypatch):
    """Names of the spectra that load_phoenix reads."""
    seen = []
    original = phoenix_grid.read_phoenix_spectrum

    def counting(path, *args):
        seen.append(path.name)
        return original(path, *args)

    monkeypatch.setattr(phoenix_grid, "read_phoenix_spectrum", counting)
    return seen


def test_cache_is_a_memory_map_that_is_not_read_again(phoenix_folder, tmp_path, reads):
    cache = tmp_path / "cache" / "grid.npy"
    expected = load_phoenix(phoenix_folder).flux
    reads.clear()
    first = load_phoenix(phoenix_folder, cache=cache)
    assert len(reads) == 12
    second = load_phoenix(phoenix_folder, cache=cache)
    assert len(reads) == 12
    for grid in (first, second):
        assert isinstance(grid.flux, np.memmap)
        assert not grid.flux.flags.writeable
        np.testing.assert_array_equal(grid.flux, expected)
    np.testing.assert_array_equal(second.wavelength, first.wavelength)
    assert {path.name for path in cache.parent.iterdir()} == {"grid.npy", "grid.npy.json"}


def test_cache_is_written_anew_when_it_does_not_fit(phoenix_folder, tmp_path, reads):
    cache = tmp_path / "grid.npy"
    load_phoenix(phoenix_folder, cache=cache)

    def n_read(**changes):
        reads.clear()
        flux = load_phoenix(phoenix_folder, cache=cache, **changes).flux
        np.testing.assert_array_equal(flux, load_phoenix(phoenix_folder, **changes).flux)
        return len(reads) // 2 if len(reads) == 2 * len(flux) else 0

    assert n_read() == 0
    assert n_read(teff=5000) == 4  # another selection
    assert n_read(teff=5000, wavelength=(8040, 8050)) == 4  # another range
    assert n_read(teff=5000, wavelength=(8040, 8050), dtype=np.float64) == 4  # another type
    assert n_read() == 12
    path = phoenix_folder / phoenix_file_name(5200, 4.0, -0.5)
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[40] = 7.0
    assert n_read() == 12  # a changed source
    cache.write_bytes(cache.read_bytes()[:-10])
    assert n_read() == 12  # a cut cache
    content = bytearray(cache.read_bytes())
    content[-3] ^= 1
    cache.write_bytes(content)
    assert n_read() == 12  # a damaged cache
    (tmp_path / "grid.npy.json").write_text("{")
    assert n_read() == 12  # a damaged sidecar
    assert n_read() == 0


def test_a_file_of_the_same_size_and_time_is_another(phoenix_folder, tmp_path):
    cache, path = tmp_path / "grid.npy", phoenix_folder / phoenix_file_name(5200, 4.0, -0.5)
    before = load_phoenix(phoenix_folder, cache=cache).flux.copy()
    status = path.stat()
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[40] = 7.0
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert (load_phoenix(phoenix_folder, cache=cache).flux != before).sum() == 1


def test_a_full_disk_is_an_error_and_leaves_no_cache(phoenix_folder, tmp_path, monkeypatch):
    @contextmanager
    def full(path, **options):
        with atomic_path(path, **options) as temporary:
            temporary.symlink_to("/dev/full")
            yield temporary

    monkeypatch.setattr(spectra_cache, "atomic_path", full)
    with pytest.raises(StoreError, match=r"12 spectra, .* could not be written .*No space left"):
        load_phoenix(phoenix_folder, cache=tmp_path / "cache" / "grid.npy")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_of_others_is_not_replaced(phoenix_folder, tmp_path, reads):
    cache, sidecar = tmp_path / "mine.npy", tmp_path / "mine.npy.json"
    np.save(cache, np.arange(3))
    content = cache.read_bytes()
    with pytest.raises(StoreError, match=r"mine\.npy was not written by load_phoenix.*another name"):
        load_phoenix(phoenix_folder, cache=cache)
    sidecar.write_text('{"mine": 1}')
    with pytest.raises(StoreError, match=r"mine\.npy\.json was not written by load_phoenix"):
        load_phoenix(phoenix_folder, cache=cache)
    assert cache.read_bytes() == content
    assert sidecar.read_text() == '{"mine": 1}'
    with pytest.raises(ValueError, match=r"`cache` is the folder .*Pass a name in it, such as .*phoenix\.npy"):
        load_phoenix(phoenix_folder, cache=tmp_path)
    assert reads == []


def test_an_interruption_between_the_files_of_a_cache_does_no_harm(phoenix_folder, tmp_path, monkeypatch):
    cache = tmp_path / "grid.npy"
    load_phoenix(phoenix_folder, cache=cache, teff=5000)

    @contextmanager
    def stops(path, **options):
        with atomic_path(path, **options) as temporary:
            yield temporary
            if path == cache:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(spectra_cache, "atomic_path", stops)
        with pytest.raises(KeyboardInterrupt):
            load_phoenix(phoenix_folder, cache=cache)
    np.testing.assert_array_equal(load_phoenix(phoenix_folder, cache=cache).flux, load_phoenix(phoenix_folder).flux)


def test_alpha_may_be_an_array_without_axes(phoenix_folder):
    assert len(load_phoenix(phoenix_folder, alpha=np.array(0.0)).flux) == 12


def test_failed_reading_leaves_no_cache(phoenix_folder, tmp_path):
    path = phoenix_folder / phoenix_file_name(5200, 4.0, -0.5)
    path.write_bytes(path.read_bytes()[:3000])
    cache = tmp_path / "cache" / "grid.npy"
    with pytest.raises(SpectrumFileError):
        load_phoenix(phoenix_folder, cache=cache)
    assert list(cache.parent.iterdir()) == []


def test_with_a_cache_one_spectrum_at_a_time_is_in_memory(tmp_path):
    n_pixels, n_nodes = 100_000, 60
    fits.PrimaryHDU(np.linspace(8038, 12849, n_pixels)).writeto(tmp_path / WAVE_NAME)
    for number in range(n_nodes):
        path = tmp_path / phoenix_file_name(3000 + 100 * number, 4.5, 0.0)
        path.parent.mkdir(parents=True, exist_ok=True)
        fits.PrimaryHDU(np.ones(n_pixels, dtype=np.float32)).writeto(path)
    load_phoenix(tmp_path, teff=3000, cache=tmp_path / "warm.npy")  # imports
    tracemalloc.start()
    try:
        grid = load_phoenix(tmp_path, cache=tmp_path / "grid.npy")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Reading the wavelengths needs a few arrays of 0.8 MB; all fluxes together are 24 MB.
    assert grid.flux.nbytes == 4 * n_pixels * n_nodes
    assert peak < 0.25 * grid.flux.nbytes


def test_sidecar_names_the_sources(phoenix_folder, tmp_path):
    load_phoenix(phoenix_folder, cache=tmp_path / "grid.npy", teff=5000)
    sources = json.loads((tmp_path / "grid.npy.json").read_text())["sources"]
    assert len(sources) == 5
    assert sources[0][0].endswith(WAVE_NAME)
