"""Grids of all families, written by code of their own, and what each bad input says."""

import tracemalloc
import zipfile

import grid_files
import numpy as np
import pytest
from astropy.io import fits
from sklearn.utils import Bunch

from stellarhml.datasets import load_grid, load_phoenix, make_stellar_grid
from stellarhml.exceptions import (
    GridIncompleteError,
    GridNotFoundError,
    SpectrumFileError,
    StellarHMLWarning,
    StoreError,
    WavelengthCoverageError,
)
from stellarhml.physics.wavelength import air_to_vacuum
from stellarhml.storage import file_sizes

KEYS = {"teff": "TEFF", "logg": "LOGG", "feh": "FEH"}
VACUUM = {"medium": "vacuum", "unit": "angstrom"}


@pytest.fixture(scope="module")
def truth():
    """12 nodes of 120 pixels."""
    return make_stellar_grid(n_teff=3, n_logg=2, n_feh=2, n_pixels=120, n_lines=4, random_state=1)


def some(grid, rows):
    """A grid of some rows."""
    return Bunch(**grid | {"labels": grid.labels[rows], "flux": grid.flux[rows]})


def check(loaded, truth, rtol=3e-7):
    """The same nodes in order, wavelengths and fluxes."""
    np.testing.assert_array_equal(loaded.labels, truth.labels)
    np.testing.assert_allclose(loaded.wavelength, truth.wavelength, rtol=1e-10)
    np.testing.assert_allclose(loaded.flux, truth.flux, rtol=rtol)
    assert loaded.flux.dtype == np.float32
    assert len(loaded.filenames) == len(truth.labels)
    assert loaded.missing.shape == (0, truth.labels.shape[1])
    assert (loaded.resolving_power, loaded.binning) == (None, 1.0)


# --- FITS folders


@pytest.mark.parametrize("packed", [False, True])
def test_fits_with_a_linear_axis(truth, tmp_path, packed):
    header = grid_files.linear_axis(truth)
    folder = grid_files.write_fits_folder(tmp_path / "a", truth, medium="vac", header=header, packed=packed)
    grid = load_grid(folder, labels=KEYS)
    check(grid, truth)
    assert grid.label_names == ("teff", "logg", "feh")
    assert grid.filenames[3] == str(folder / f"model03.fits{'.gz' if packed else ''}")


def test_fits_rows_are_sorted_whatever_the_names(truth, tmp_path):
    shuffled = some(truth, np.random.default_rng(0).permutation(12))
    folder = grid_files.write_fits_folder(tmp_path / "a", shuffled, header=grid_files.linear_axis(truth))
    check(load_grid(folder, labels=KEYS, medium="vacuum"), truth)


@pytest.mark.parametrize(
    ("cards", "axis"),
    [({"CTYPE1": "LOGLAM"}, None), ({"DC-FLAG": 1, "CTYPE1": "LINEAR"}, None), ({}, "log10"), ({}, "ln")],
)
def test_fits_with_a_logarithmic_axis(truth, tmp_path, cards, axis):
    log = np.log if axis == "ln" else np.log10
    step = 5e-6
    own = np.exp(step * np.arange(120)) * 8500 if axis == "ln" else 10 ** (log(8500) + step * np.arange(120))
    header = {"CRVAL1": float(log(own[0])), "CDELT1": step, "CUNIT1": "Angstrom"} | cards
    folder = grid_files.write_fits_folder(tmp_path / "a", truth, header=header)
    grid = load_grid(folder, labels=KEYS, medium="vacuum", axis=axis)
    np.testing.assert_allclose(grid.wavelength, own, rtol=1e-12)


def test_fits_in_air_and_nanometre(truth, tmp_path):
    axis = grid_files.linear_axis(truth, unit=None)
    axis |= {"CRVAL1": axis["CRVAL1"] / 10, "CDELT1": axis["CDELT1"] / 10}
    folder = grid_files.write_fits_folder(tmp_path / "a", truth, header=axis)
    grid = load_grid(folder, labels=KEYS, medium="air", unit="nm")
    np.testing.assert_allclose(grid.wavelength, air_to_vacuum(truth.wavelength), rtol=1e-12)
    with pytest.raises(SpectrumFileError, match=r"model00\.fits.*--medium"):
        load_grid(folder, labels=KEYS, unit="nm")
    with pytest.raises(SpectrumFileError, match=r"model00\.fits .*(unit|CUNIT1)"):
        load_grid(folder, labels=KEYS, medium="air")


def test_fits_statements_that_contradict(truth, tmp_path):
    header = grid_files.linear_axis(truth)
    folder = grid_files.write_fits_folder(tmp_path / "a", truth, medium="vac", header=header)
    with pytest.raises(SpectrumFileError, match=r"model00.fits: `medium` is 'air', but .*AIRORVAC = 'vac'"):
        load_grid(folder, labels=KEYS, medium="air")
    with pytest.raises(SpectrumFileError, match=r"`unit` is 'nm', but .*model00\.fits states 'Angstrom'"):
        load_grid(folder, labels=KEYS, unit="nm")


@pytest.mark.parametrize("kind", ["fits", "npy", "txt"])
def test_fits_with_a_file_of_wavelengths(truth, tmp_path, kind):
    folder = grid_files.write_fits_folder(tmp_path / "a", truth)
    path = folder / f"wave.{kind}"  # not a spectrum
    if kind == "fits":
        hdu = fits.PrimaryHDU(truth.wavelength)
        hdu.header["UNIT"] = "Angstrom"
        hdu.writeto(path)
    elif kind == "npy":
        np.save(path, truth.wavelength)
    else:
        np.savetxt(path, truth.wavelength)
    unit = None if kind == "fits" else "angstrom"
    check(load_grid(folder, labels=KEYS, wavelength_file=path, medium="vacuum", unit=unit), truth)
    if unit:
        with pytest.raises(SpectrumFileError, match=rf"wave\.{kind} does not state the unit .*State `unit` \(--unit\)"):
            load_grid(folder, labels=KEYS, wavelength_file=path, medium="vacuum")
    path.unlink()
    with pytest.raises(SpectrumFileError, match=r"model00\.fits has no wavelengths.*--wavelength-file"):
        load_grid(folder, labels=KEYS, **VACUUM)
    with pytest.raises(FileNotFoundError, match=rf"wave\.{kind} does not exist"):
        load_grid(folder, labels=KEYS, wavelength_file=path, **VACUUM)


def test_fits_tables(truth, tmp_path):
    folder = grid_files.write_fits_tables(tmp_path / "a", truth)
    check(load_grid(folder, labels=KEYS, medium="vacuum"), truth)
    other = grid_files.write_fits_tables(tmp_path / "b", truth, names=("x", "y"))
    columns = {"wavelength_column": "x", "flux_column": "Y"}
    check(load_grid(other, labels=KEYS, medium="vacuum", **columns), truth)
    with pytest.raises(SpectrumFileError, match=r"model00\.fits has the columns x, y, but one column of the flux"):
        load_grid(other, labels=KEYS, medium="vacuum")
    with pytest.raises(SpectrumFileError, match=r"a column 'z' is needed.*--wavelength-column"):
        load_grid(other, labels=KEYS, medium="vacuum", **columns | {"wavelength_column": "z"})
    named = grid_files.write_fits_tables(tmp_path / "c", truth, names=("wave_vac", "flux"))
    check(load_grid(named, labels=KEYS), truth)


def test_fits_bad_labels(truth, tmp_path):
    folder = grid_files.write_fits_folder(tmp_path / "a", truth, header=grid_files.linear_axis(truth))
    with pytest.raises(ValueError, match=r"keywords of the headers .*--labels teff=TEFF"):
        load_grid(folder, medium="vacuum")
    with pytest.raises(SpectrumFileError, match=r"model00\.fits has no XI .*numbers are TEFF, LOGG, FEH\..*--labels"):
        load_grid(folder, labels=KEYS | {"vmic": "XI"}, medium="vacuum")
    with pytest.raises(SpectrumFileError, match=r"model00\.fits and .*model01\.fits both have the node \(5000, 3\.5\)"):
        load_grid(folder, labels={"teff": "TEFF", "logg": "LOGG"}, medium="vacuum")
    fits.setval(folder / "model04.fits", "TEFF", value="hot")
    with pytest.raises(SpectrumFileError, match=r"model04\.fits has TEFF = 'hot'.* a number is needed"):
        load_grid(folder, labels=KEYS, medium="vacuum")


def test_fits_wavelengths_that_differ(truth, tmp_path):
    folder = grid_files.write_fits_folder(tmp_path / "a", truth, header=grid_files.linear_axis(truth))
    fits.setval(folder / "model05.fits", "CRVAL1", value=8500.02)
    with pytest.raises(SpectrumFileError, match=r"model05\.fits has 120 .*8500\.0200.*model00\.fits has .*8500\.0000"):
        load_grid(folder, labels=KEYS, medium="vacuum")
    # those that are not selected may differ
    assert len(load_grid(folder, labels=KEYS, medium="vacuum", teff=[5000, 5500]).flux) == 8
    # resampled to common pixels they may differ: at R 20,000 the spectra of the others are as before
    moved = load_grid(folder, labels=KEYS, medium="vacuum", resolving_power=20_000, wavelength=(8501.5, 8504.5))
    fits.setval(folder / "model05.fits", "CRVAL1", value=8500.0)
    same = load_grid(folder, labels=KEYS, medium="vacuum", resolving_power=20_000, wavelength=(8501.5, 8504.5))
    np.testing.assert_array_equal(moved.wavelength, same.wavelength)
    np.testing.assert_array_equal(np.delete(moved.flux, 5, axis=0), np.delete(same.flux, 5, axis=0))
    # of the moved one, the flux is that of a wavelength 0.02 angstrom bluer
    shift = np.interp(same.wavelength[5:-5] - 0.02, same.wavelength, same.flux[5])
    np.testing.assert_allclose(moved.flux[5, 5:-5], shift, atol=2e-3)


def test_fits_whose_first_file_is_another(truth, tmp_path):
    folder = grid_files.write_fits_folder(tmp_path / "a", truth, header=grid_files.linear_axis(truth))
    fits.setval(folder / "model00.fits", "CRVAL1", value=8500.02)
    assert load_grid(folder, labels=KEYS, medium="vacuum", teff=(5200, 5600)).wavelength[0] == 8500.0


def test_fits_damage(truth, tmp_path):
    folder = grid_files.write_fits_folder(tmp_path / "a", truth, header=grid_files.linear_axis(truth))
    path = folder / "model07.fits"
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    with pytest.raises(SpectrumFileError, match=r"model07\.fits.*truncated"):
        load_grid(folder, labels=KEYS, medium="vacuum")
    path.write_bytes(whole)
    for value, text in ((np.nan, r"model07\.fits has 60 pixels that are NaN"), (0, r"model07\.fits is zero from 8503")):
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[60:] = value
        with pytest.raises(SpectrumFileError, match=text):
            load_grid(folder, labels=KEYS, medium="vacuum")
        assert len(load_grid(folder, labels=KEYS, medium="vacuum", wavelength=(8500, 8502.9)).flux) == 12
    fits.PrimaryHDU(np.ones((2, 120))).writeto(folder / "image.fits")
    fits.setval(folder / "image.fits", "TEFF", value=1.0)
    with pytest.raises(SpectrumFileError, match=r"image\.fits has no LOGG"):
        load_grid(folder, labels=KEYS, medium="vacuum")
    for key in ("LOGG", "FEH"):
        fits.setval(folder / "image.fits", key, value=1.0)
    with pytest.raises(SpectrumFileError, match=r"image\.fits holds an array of shape \(2, 120\)"):
        load_grid(folder, labels=KEYS, medium="vacuum", missing="report", teff=(0, 2))


# --- selection, cache


def test_selection_by_any_label(truth, tmp_path):
    labels = np.column_stack([truth.labels[:, 0], truth.labels[:, 1], 1 + truth.labels[:, 2]])
    other = Bunch(**truth | {"labels": labels})
    folder = grid_files.write_fits_folder(
        tmp_path / "a", other, keys=("TEFF", "LOGG", "XI"), header=grid_files.linear_axis(truth)
    )
    labels = {"teff": "TEFF", "logg": "LOGG", "vmic": "XI"}
    grid = load_grid(folder, labels=labels, medium="vacuum", vmic=(0.9, 1.1), teff=[5000, 5250])
    assert grid.labels.tolist() == [[t, g, 1.0] for t in (5000, 5250) for g in (3.5, 4.0)]
    with pytest.raises(ValueError, match=r"`feh` is neither a parameter nor a label .* the labels teff, logg, vmic"):
        load_grid(folder, labels=labels, medium="vacuum", feh=0)
    with pytest.raises(GridNotFoundError, match=r"no spectrum with `vmic` = \[3\].*values of vmic are 0\.5, 1"):
        load_grid(folder, labels=labels, medium="vacuum", vmic=[3])
    (folder / "model05.fits").unlink()
    with pytest.raises(GridIncompleteError, match=r"1 of the 12 .*\(5250, 3\.5, 1\)\. Add them, .*--allow-missing"):
        load_grid(folder, labels=labels, medium="vacuum")
    with pytest.warns(StellarHMLWarning, match="1 of the 12") as caught:
        grid = load_grid(folder, labels=labels, medium="vacuum", missing="report")
    assert caught[0].filename == __file__
    assert grid.missing.tolist() == [[5250, 3.5, 1]]


def test_scattered_labels_miss_no_node(truth, tmp_path):
    rng = np.random.default_rng(0)
    moved = truth.labels + rng.uniform(0, [10, 0.1, 0.1], size=truth.labels.shape)
    path = tmp_path / "grid.npz"
    np.savez(path, **grid_files.arrays_of(Bunch(**truth | {"labels": moved}), label_names=["teff", "logg", "feh"]))
    assert len(load_grid(path, **VACUUM).labels) == 12


def test_cache(truth, tmp_path):
    folder = grid_files.write_fits_folder(tmp_path / "a", truth, header=grid_files.linear_axis(truth))
    cache = tmp_path / "grid.npy"

    def load(**changes):
        return load_grid(folder, labels=KEYS, medium="vacuum", cache=cache, **changes).flux

    def written():
        return cache.stat().st_ino

    first = load()
    assert isinstance(first, np.memmap)
    number = written()
    np.testing.assert_array_equal(load(), first)
    assert written() == number
    low = load(resolving_power=15_000)
    assert written() != number
    assert low.shape[1] < first.shape[1]
    number = written()
    assert not np.array_equal(load(resolving_power=15_001), low)
    assert written() != number
    np.testing.assert_array_equal(load(teff=5000), first[:4])
    with fits.open(folder / "model00.fits", mode="update") as hdus:
        hdus[0].data[3] += 1
    assert (load(teff=5000) != first[:4]).sum() == 1
    foreign = tmp_path / "mine.npy"
    np.save(foreign, np.arange(3))
    with pytest.raises(StoreError, match=r"mine\.npy was not written by load_phoenix or load_grid"):
        load_grid(folder, labels=KEYS, medium="vacuum", cache=foreign)


@pytest.mark.parametrize("kind", ["fits", "npz", "hdf5"])
def test_with_a_cache_one_spectrum_at_a_time_is_in_memory(tmp_path, kind):
    """40 spectra of 0.4 MB: all of them would be 16 MB."""
    rng = np.random.default_rng(0)
    labels = np.column_stack([np.arange(40.0), np.ones(40), np.zeros(40)])
    big = Bunch(labels=labels, wavelength=8000 + 0.02 * np.arange(50_000), flux=1 + rng.random((40, 50_000)))
    options = {"labels": ("teff", "logg", "feh"), **VACUUM}
    if kind == "fits":
        path = grid_files.write_fits_folder(tmp_path / "a", big, header=grid_files.linear_axis(big))
        options["labels"] = KEYS
    elif kind == "npz":
        path = tmp_path / "a.npz"
        np.savez_compressed(path, **grid_files.arrays_of(big))
    else:
        path = grid_files.write_hdf5_arrays(tmp_path / "a.h5", big, attributes={}, chunks=(1, 50_000))
    load_grid(path, **options, teff=[0, 1], cache=tmp_path / "warm.npy")  # imports
    tracemalloc.start()
    try:
        grid = load_grid(path, **options, cache=tmp_path / "grid.npy", resolving_power=20_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert grid.flux.shape[0] == 40
    assert peak < 8e6, peak


# --- PHOENIX


def test_phoenix(phoenix_folder):
    grid, expected = load_grid(phoenix_folder), load_phoenix(phoenix_folder)
    np.testing.assert_array_equal(grid.flux, expected.flux)
    np.testing.assert_array_equal(grid.wavelength, expected.wavelength)
    assert grid.wavelength[0] == 8038
    assert load_grid(phoenix_folder, wavelength=None).wavelength.size == 80
    assert load_grid(phoenix_folder, alpha=None).label_names == ("teff", "logg", "feh", "alpha")
    with pytest.raises(ValueError, match=r"`medium` is 'air', but .* 'phoenix', which does not use it"):
        load_grid(phoenix_folder, medium="air")


@pytest.fixture
def medium_resolution(truth):
    """12 nodes at the sampling of R10000FITS, ten pixels to a resolution element."""
    wavelength = np.exp(np.log(8500) + 1e-5 * np.arange(1200))
    smooth = np.array([np.interp(wavelength, truth.wavelength * 1.003, row) for row in truth.flux])
    return Bunch(**truth | {"wavelength": wavelength, "flux": smooth})


def test_phoenix_medres(medium_resolution, tmp_path):
    folder = grid_files.write_medres(tmp_path, medium_resolution, alphas=(0.0, 0.2))
    grid = load_grid(folder, medium="vacuum")
    np.testing.assert_allclose(grid.wavelength, medium_resolution.wavelength, rtol=1e-10)
    np.testing.assert_allclose(grid.flux, medium_resolution.flux, rtol=3e-7)
    assert grid.resolving_power == 10_000
    both = load_grid(folder, medium="air", alpha=(0, 0.2), teff=5000)
    assert both.labels.shape == (8, 4)
    np.testing.assert_allclose(both.flux[1], 1.2 * both.flux[0], rtol=3e-7)
    np.testing.assert_allclose(both.wavelength, air_to_vacuum(medium_resolution.wavelength), rtol=1e-10)
    lower = load_grid(folder, medium="vacuum", resolving_power=5000)
    assert lower.resolving_power == 5000
    with pytest.raises(ValueError, match=r"`resolving_power` is 20000, but the spectra of .* have 10000 only"):
        load_grid(folder, medium="vacuum", resolving_power=20_000)
    with pytest.raises(ValueError, match=r"headers of .*fits state air \(CTYPE1\), and Husser.*vacuum"):
        load_grid(folder)


def test_phoenix_medres_a1(medium_resolution, tmp_path):
    linear = Bunch(**medium_resolution | {"wavelength": 8500 + 0.1 * np.arange(1200)})
    folder = grid_files.write_medres(tmp_path, linear, kind="A1FITS")
    grid = load_grid(folder, medium="vacuum", grid_resolving_power=8560)
    assert grid.resolving_power == 8560
    np.testing.assert_allclose(grid.wavelength, linear.wavelength, rtol=1e-10)
    with pytest.raises(ValueError, match=r"A1FITS, whose resolution is 1 angstrom .*--grid-resolving-power"):
        load_grid(folder, medium="vacuum")


# --- arrays


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_npz(truth, tmp_path, save, dtype):
    path = tmp_path / "grid.npz"
    order = np.random.default_rng(0).permutation(12)
    arrays = grid_files.arrays_of(some(truth, order)) | {"flux": truth.flux[order].astype(dtype)}
    save(path, **arrays, label_names=["teff", "logg", "feh"], unit="nm", medium="vacuum")
    with pytest.raises(SpectrumFileError, match=r"`unit` is 'angstrom', but .*grid\.npz states 'nm'"):
        load_grid(path, unit="angstrom")
    save(path, **arrays, label_names=["teff", "logg", "feh"], unit="Angstrom", medium="vacuum")
    grid = load_grid(path)
    check(grid, truth)
    assert grid.filenames[0] == f"{path}, spectrum {np.argmin(order)} (teff 5000, logg 3.5, feh -0.5)"
    part = load_grid(path, teff=5250, wavelength=(8502, 8503))
    pixels = (truth.wavelength >= 8502) & (truth.wavelength <= 8503)
    np.testing.assert_allclose(part.flux, truth.flux[4:8, pixels], rtol=3e-7)


def test_npz_is_mapped_where_it_is_wanted_as_it_is(truth, tmp_path):
    path = tmp_path / "grid.npz"
    np.savez(path, **grid_files.arrays_of(truth) | {"flux": truth.flux.astype(np.float32)})
    options = {"labels": ["teff", "logg", "feh"], **VACUUM}
    grid = load_grid(path, **options, wavelength=(8501, 8503), teff=(5000, 5250))
    base = grid.flux
    while not isinstance(base, np.memmap):
        base = base.base
    check(load_grid(path, **options), truth)
    assert not isinstance(load_grid(path, **options, dtype=np.float64).flux, np.memmap)


def test_npz_of_decreasing_wavelengths_and_columns_first(truth, tmp_path):
    path = tmp_path / "grid.npz"
    arrays = {"labels": truth.labels, "wavelength": truth.wavelength[::-1]}
    options = {"labels": ["teff", "logg", "feh"], **VACUUM}
    np.savez(path, **arrays, flux=np.asfortranarray(truth.flux[:, ::-1]))
    check(load_grid(path, **options), truth)
    np.savez_compressed(path, **arrays, flux=np.asfortranarray(truth.flux[:, ::-1]))
    with pytest.raises(SpectrumFileError, match=r"grid\.npz .* column by column: write it with np\.savez"):
        load_grid(path, **options)


def test_hdf5_and_zarr_arrays(truth, tmp_path):
    pytest.importorskip("h5py")
    names = {"label_names": ["teff", "logg", "feh"], "unit": "angstrom", "medium": "vacuum"}
    path = grid_files.write_hdf5_arrays(tmp_path / "a.h5", truth, attributes=names, chunks=(5, 40))
    check(load_grid(path), truth)
    check(load_grid(path, teff=[5000, 5500]), some(truth, [0, 1, 2, 3, 8, 9, 10, 11]))
    text = np.array([b"teff", b"logg", b"feh"])
    path = grid_files.write_hdf5_arrays(tmp_path / "b.h5", truth, attributes={}, label_names=text)
    check(load_grid(path, **VACUUM), truth)
    with pytest.raises(SpectrumFileError, match=r"b\.h5 does not state the unit"):
        load_grid(path)
    with pytest.raises(SpectrumFileError, match=r"`labels` is a, b, c, but .*b\.h5 names its labels teff, logg, feh"):
        load_grid(path, labels=["a", "b", "c"], **VACUUM)


def test_zarr(truth, tmp_path):
    pytest.importorskip("zarr", reason="needs zarr, of the extra zarr")
    names = {"label_names": ["teff", "logg", "feh"], "unit": "angstrom", "medium": "vacuum"}
    path = grid_files.write_zarr(tmp_path / "a.zarr", truth, attributes=names)
    check(load_grid(path), truth)
    check(load_grid(path, teff=5250), some(truth, [4, 5, 6, 7]))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"flux": None}, r"has the arrays labels, wavelength, label_names, but labels, wavelength, flux are needed"),
        ({"flux": np.ones((12, 119))}, r"flux \(12, 119\).* are needed"),
        ({"labels": np.full((12, 3), np.nan)}, "labels that are not finite"),
        ({"labels": np.ones((12, 3))}, r"spectrum 0 and .*spectrum 1 both have the node"),
        ({"wavelength": np.full(120, 8500.0)}, "wavelengths that do not increase"),
        ({"label_names": ["teff", "logg"]}, r"has 3 labels, but the names are teff, logg\."),
        ({"label_names": ["teff", "logg", "teff"]}, "One distinct name"),
        ({"flux": np.array([[None] * 120] * 12)}, "cannot be read as an npz file"),
    ],
)
def test_npz_bad_arrays(truth, tmp_path, changes, text):
    path = tmp_path / "grid.npz"
    arrays = grid_files.arrays_of(truth, label_names=["teff", "logg", "feh"]) | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(SpectrumFileError, match=rf"grid\.npz.*{text}"):
        load_grid(path, **VACUUM)


def test_arrays_without_names_of_labels(truth, tmp_path):
    np.savez(tmp_path / "grid.npz", **grid_files.arrays_of(truth))
    with pytest.raises(SpectrumFileError, match=r"does not name its 3 labels.*--labels teff,logg,feh"):
        load_grid(tmp_path / "grid.npz", **VACUUM)
    with pytest.raises(ValueError, match=r"labels of .*grid\.npz are columns of an array"):
        load_grid(tmp_path / "grid.npz", labels=KEYS, **VACUUM)


def test_labels_that_claim_too_much(truth, tmp_path, monkeypatch):
    np.savez(tmp_path / "grid.npz", **grid_files.arrays_of(truth, label_names=["teff", "logg", "feh"]))
    monkeypatch.setitem(file_sizes.LIMITS, "binary", 200)
    with pytest.raises(SpectrumFileError, match=r"grid\.npz claims .* for its array labels"):
        load_grid(tmp_path / "grid.npz", **VACUUM)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncated_arrays(truth, tmp_path, save):
    path = tmp_path / "grid.npz"
    save(path, **grid_files.arrays_of(truth, label_names=["teff", "logg", "feh"]))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SpectrumFileError, match=r"grid\.npz .*damaged, truncated"):
        load_grid(path, **VACUUM)


def test_a_compressed_flux_that_is_damaged(truth, tmp_path):
    path = tmp_path / "grid.npz"
    np.savez_compressed(path, **grid_files.arrays_of(truth, label_names=["teff", "logg", "feh"]))
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("flux.npy").header_offset
    content = bytearray(path.read_bytes())
    content[place + 3000] ^= 255
    path.write_bytes(content)
    with pytest.raises(SpectrumFileError, match=r"grid\.npz .*damaged"):
        load_grid(path, **VACUUM)


# --- Starfish


def test_starfish(truth, tmp_path):
    pytest.importorskip("h5py")
    path = grid_files.write_starfish(tmp_path / "grid.hdf5", truth)
    grid = load_grid(path)
    check(grid, truth)
    assert grid.label_names == ("teff", "logg", "feh")  # T, logg, Z of Starfish
    assert grid.filenames[0] == f"{path}, T5000_g3.50_Z-0.50"
    check(load_grid(path, logg=(4, 5)), some(truth, truth.labels[:, 1] == 4))
    in_air = grid_files.write_starfish(tmp_path / "air.hdf5", truth, air=True)
    np.testing.assert_allclose(load_grid(in_air).wavelength, air_to_vacuum(truth.wavelength), rtol=1e-12)
    with pytest.raises(SpectrumFileError, match=r"`medium` is 'vacuum', but .*air = True of wl"):
        load_grid(in_air, medium="vacuum")


def test_starfish_damage(truth, tmp_path):
    h5py = pytest.importorskip("h5py")
    path = grid_files.write_starfish(tmp_path / "grid.hdf5", truth)
    content = path.read_bytes()
    with h5py.File(path, "a") as file:
        del file["flux/T5250_g4.00_Z0.00"]
    with pytest.raises(SpectrumFileError, match=r"lists 12 nodes, but 1 of them .* first T5250_g4\.00_Z0\.00"):
        load_grid(path)
    path.write_bytes(content)
    with h5py.File(path, "a") as file:
        file["flux"].attrs["key_name"] = "{0.__class__}"
    with pytest.raises(SpectrumFileError, match=r"key_name = '\{0\.__class__\}'.* a pattern such as"):
        load_grid(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SpectrumFileError, match=r"grid\.hdf5 \(\d+ bytes\) cannot be read as an HDF5 grid .*truncated"):
        load_grid(path)


# --- families of gollum


@pytest.fixture(scope="module")
def absolute(truth):
    """Fluxes in erg/s/cm^2/cm, as gollum's families give them, at temperatures of brown dwarfs."""
    labels = truth.labels.copy()
    labels[:, 0] = 1500 + 0.4 * (truth.labels[:, 0] - 5000)  # 1500, 1600, 1700 K
    return Bunch(**truth | {"labels": labels, "flux": 1e14 * truth.flux})


def test_sonora_bobcat(absolute, tmp_path):
    pytest.importorskip("gollum")
    folder = grid_files.write_sonora_bobcat(tmp_path / "bobcat", absolute)
    grid = load_grid(folder, medium="vacuum")
    check(grid, absolute, rtol=2e-6)
    assert grid.label_names == ("teff", "logg", "feh")
    with pytest.raises(SpectrumFileError, match="--medium"):
        load_grid(folder)
    damaged = folder / "sp_t1600g31nc_m-0.5"
    damaged.write_text("nothing\n")
    with pytest.raises(SpectrumFileError, match=r"sp_t1600g31nc_m-0\.5 cannot be read by gollum.*Copy it again"):
        load_grid(folder, medium="vacuum")


def test_sonora_diamondback(absolute, tmp_path):
    pytest.importorskip("gollum")
    folder = grid_files.write_sonora_diamondback(tmp_path / "diamondback", some(absolute, [0, 1, 2, 3]), (0, 1, 8))
    grid = load_grid(folder, medium="vacuum", fsed=[0, 8])
    assert grid.label_names == ("teff", "logg", "feh", "fsed")
    assert grid.labels.tolist() == [[1500, g, z, f] for g in (3.5, 4) for z in (-0.5, 0) for f in (0, 8)]
    np.testing.assert_allclose(grid.flux[1], 9 * absolute.flux[0], rtol=2e-6)


def test_cool_tlusty_whose_wavelengths_differ(absolute, tmp_path):
    pytest.importorskip("gollum")
    teff, logg, feh = absolute.labels.T
    labels = np.column_stack([250 + (teff - 1500) / 4, logg, np.where(feh == 0, 1.0, 0.316)])
    cold = Bunch(**absolute | {"labels": labels})
    folder = grid_files.write_cool_tlusty(tmp_path / "same", cold)
    grid = load_grid(folder, medium="vacuum")
    check(grid, Bunch(**cold | {"flux": 1e8 * cold.flux}), rtol=2e-6)  # per angstrom to per cm
    assert grid.label_names == ("teff", "logg", "z")
    folder = grid_files.write_cool_tlusty(tmp_path / "other", cold, shift=0.03)
    with pytest.raises(SpectrumFileError, match=r"a grid needs the same wavelengths.*--resolving-power"):
        load_grid(folder, medium="vacuum")
    grid = load_grid(folder, medium="vacuum", resolving_power=15_000, wavelength=(8501.5, 8504.3))
    assert np.isfinite(grid.flux).all()


# --- what is no grid


def test_what_is_no_grid(truth, tmp_path):
    with pytest.raises(GridNotFoundError, match="nowhere does not exist"):
        load_grid(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(GridNotFoundError, match=r"holds no file named \*\.fits"):
        load_grid(tmp_path / "empty", labels=KEYS)
    (tmp_path / "text.txt").write_text("1 2\n")
    with pytest.raises(GridNotFoundError, match=r"text\.txt is not a grid that is known.*--family"):
        load_grid(tmp_path / "text.txt")
    with pytest.raises(ValueError, match=r"`family` is 'marcs', but it must be one of phoenix, "):
        load_grid(tmp_path / "empty", "marcs")
    folder = grid_files.write_fits_folder(tmp_path / "a", truth, header=grid_files.linear_axis(truth))
    for wrong, text in (("all", "'auto' or None"), ((1, 2, 3), "range")):
        with pytest.raises(ValueError, match=rf"`wavelength` is .*{text}"):
            load_grid(folder, labels=KEYS, medium="vacuum", wavelength=wrong)
    with pytest.raises(WavelengthCoverageError, match=r"they go from 8500 to 8505\.95"):
        load_grid(folder, labels=KEYS, medium="vacuum", wavelength=(9000, 9100))
    with pytest.raises(ValueError, match="`missing` is 'skip'"):
        load_grid(folder, labels=KEYS, medium="vacuum", missing="skip")
