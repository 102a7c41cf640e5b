"""`read_spectrum` on tables, archives, HDF5, and on what is none of these."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from stellarhml.exceptions import SpectrumFileError
from stellarhml.physics.wavelength import vacuum_to_air
from stellarhml.spectra import ObservedSpectrum, read_spectrum

WAVE = 5000 + 0.1 * np.arange(40)
FLUX = np.linspace(1, 2, 40)
ERROR = np.full(40, 0.1)


def _text(path, columns, header):
    np.savetxt(path, np.column_stack(columns), header=header, fmt="%.17g")
    return path


@pytest.mark.parametrize("name", ["star.txt", "star.dat", "star.fits.txt", "no_suffix"])
def test_text(tmp_path, name):
    got = read_spectrum(_text(tmp_path / name, [WAVE, FLUX, ERROR], "wavelength flux error"), medium="vacuum")
    np.testing.assert_array_equal(got.orders[0].wavelength, WAVE)
    np.testing.assert_array_equal(got.orders[0].flux, FLUX)
    np.testing.assert_array_equal(got.orders[0].error, ERROR)
    assert (got.meta["format"], got.meta["medium"], got.meta["resolving_power"]) == ("table", "vacuum", None)


def test_air_is_converted_and_never_guessed(tmp_path):
    path = _text(tmp_path / "star.txt", [vacuum_to_air(WAVE), FLUX, ERROR], "wavelength flux error")
    got = read_spectrum(path, medium="air")
    np.testing.assert_allclose(got.orders[0].wavelength, WAVE, rtol=1e-14)
    assert got.meta["medium"] == "air"
    with pytest.raises(ValueError, match="whether the wavelengths are in vacuum or in air"):
        read_spectrum(path)
    low = _text(tmp_path / "low.txt", [WAVE / 10, FLUX], "")
    with pytest.raises(SpectrumFileError, match=r"low\.txt cannot be converted from air"):
        read_spectrum(low, medium="air")


@pytest.mark.parametrize("suffix", ["txt", "fits", "ecsv"])
def test_a_column_of_orders(tmp_path, suffix):
    order = np.repeat([12, 11], 40)
    columns = {
        "wavelength": np.r_[WAVE, WAVE - 3],
        "flux": np.r_[FLUX, FLUX],
        "error": np.r_[ERROR, ERROR],
        "order": order,
    }
    path = tmp_path / f"star.{suffix}"
    if suffix == "txt":
        _text(path, list(columns.values()), " ".join(columns))
    else:
        Table(columns, units={"wavelength": "Angstrom", "flux": "Jy", "error": "Jy"}).write(path)
    got = read_spectrum(path, medium="vacuum")
    assert got.meta["order_numbers"] == [12, 11]  # overlapping, in the order of the file
    np.testing.assert_array_equal(got.orders[1].wavelength, WAVE - 3)
    assert got.meta["flux_unit"] == (None if suffix == "txt" else "Jy")


def test_units_are_converted(tmp_path):
    table = Table({"wave": WAVE / 1e4, "flux": FLUX, "sigma": 1000 * ERROR})
    table["wave"].unit, table["flux"].unit, table["sigma"].unit = "micron", "Jy", "mJy"
    table.write(tmp_path / "star.ecsv")
    got = read_spectrum(tmp_path / "star.ecsv", medium="vacuum")
    np.testing.assert_allclose(got.orders[0].wavelength, WAVE, rtol=1e-14)
    np.testing.assert_allclose(got.orders[0].error, ERROR, rtol=1e-14)
    assert "wavelengths in " in got.meta["notes"][0]


def test_fits_tables_by_content_and_gzipped(tmp_path):
    Table({"wavelength": WAVE, "flux": FLUX, "error": ERROR}).write(tmp_path / "star.fits")
    (tmp_path / "star.data").write_bytes((tmp_path / "star.fits").read_bytes())
    (tmp_path / "star.fits.gz").write_bytes(gzip.compress((tmp_path / "star.fits").read_bytes()))
    for name in ("star.data", "star.fits.gz"):
        got = read_spectrum(tmp_path / name, medium="vacuum")
        np.testing.assert_array_equal(got.orders[0].flux, FLUX)


def test_tables_without_errors(tmp_path):
    flux = np.where(np.arange(40) == 7, np.nan, 4.0)
    got = read_spectrum(_text(tmp_path / "star.txt", [WAVE, flux], ""), medium="vacuum")
    assert not got.meta["errors_known"]
    assert set(np.delete(got.orders[0].error, 7)) == {0.04}
    assert np.isinf(got.orders[0].error[7])
    assert "No errors given" in got.meta["notes"][-1]


def test_faults_of_a_table(tmp_path):
    wave, error = WAVE.copy(), ERROR.copy()
    wave[[0, -1]] = np.nan
    error[[5, 6]] = -1, 0
    got = read_spectrum(_text(tmp_path / "star.txt", [wave, FLUX, error], ""), medium="vacuum")
    np.testing.assert_array_equal(got.orders[0].wavelength, WAVE[1:-1])
    assert np.flatnonzero(np.isinf(got.orders[0].error)).tolist() == [4, 5]
    assert got.meta["notes"][1:] == [
        "2 pixels masked: 2 error or variance not finite, zero or negative.",
        "2 pixels without increasing wavelengths trimmed at the ends of orders.",
    ]


def _masked_table(path):
    """A table with a column `mask`, True at pixel 3: bool, whole numbers, or words as pandas writes them."""
    mask = np.arange(40) == 3
    if path.suffix == ".txt":
        words = np.where(mask, "True", "False")
        path.write_text("wavelength,flux,error,mask\n" + "".join(
            f"{w},{f},{e},{m}\n" for w, f, e, m in zip(WAVE, FLUX, ERROR, words, strict=True)))  # fmt: skip
        return path
    table = Table({"wavelength": WAVE, "flux": FLUX, "error": ERROR, "mask": mask})
    if path.suffix == ".csv":
        table["mask"] = mask.astype(int)
    table.write(path)
    return path


@pytest.mark.parametrize("name", ["star.ecsv", "star.fits", "star.csv", "star.txt"])
def test_a_column_of_masks(tmp_path, name):
    path = _masked_table(tmp_path / name)
    got = read_spectrum(path, medium="vacuum")
    assert np.flatnonzero(np.isinf(got.orders[0].error)).tolist() == [3]
    assert "mask (pixels where it is not 0 are left out)" in got.meta["notes"][0]
    assert got.meta["notes"][1] == "1 pixels masked: 1 marked in the file."


def test_a_single_array_of_numpy_is_told(tmp_path):
    np.save(tmp_path / "star.npy", np.stack([WAVE, FLUX]))
    with pytest.raises(SpectrumFileError, match="single array of NumPy without a name"):
        read_spectrum(tmp_path / "star.npy", medium="vacuum")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n", "is empty, but at least two columns"),
        ("1 2 3\n2 2\n", "in row 2"),
        ("5000\n5001\n", "at least two are needed"),
        ("a b\n1 2\n", "one named wavelength"),
        ("wavelength[nm],flux\n850,2\n", "no good pixel"),
        ("wavelength;flux\n8500,5;2\n", "in row 1, but a number is needed. Columns are separated by commas"),
        ("wavelength flux err std\n1 2 3 4\n", "2 columns that could be the error"),
        ("wavelength flux\n1 2\n3 True\n", "'True' in row 2"),
        ("wavelength [furlong] flux\n1 2\n2 2\n", "a unit of length that astropy knows"),
        ("wave flux error order\n1 2 3 1.5\n2 2 3 1\n", "1.5 as the number of an order"),
        ("wave flux error order order\n1 2 3 1 1\n2 2 3 1 1\n", "2 columns that could be the order"),
        ("5000 1 1\n5001 1 1\n5000 1 1\n5001 1 1\n", "do not increase"),
        ("5000 nan 1\n5001 1 0\n", "no good pixel in any of them: 1 flux NaN"),
        ("\0\1\2", "not a text file"),
    ],
)
def test_bad_text(tmp_path, text, message):
    path = tmp_path / "star.txt"
    path.write_text(text)
    with pytest.raises(SpectrumFileError, match=rf"(?s)star\.txt.*{message}"):
        read_spectrum(path, medium="vacuum")


def test_npz(tmp_path):
    path = tmp_path / "star.npz"
    np.savez(path, wavelength=WAVE, flux=FLUX, sigma=ERROR, order=np.repeat([3, 9], 20), mask=np.arange(40) == 1)
    got = read_spectrum(path, medium="vacuum")
    assert got.meta["order_numbers"] == [3, 9]
    assert np.flatnonzero(np.isinf(got.orders[0].error)).tolist() == [1]
    assert (got.meta["format"], got.meta["instrument"]) == ("npz", None)
    with pytest.raises(ValueError, match="`medium` is None"):
        read_spectrum(path)
    stated = read_spectrum(path, format="igrins")
    assert (stated.meta["medium"], stated.meta["resolving_power"]) == ("vacuum", 45000.0)
    np.savez(path, wavelength=np.stack([WAVE, WAVE + 9]), flux=np.stack([FLUX, FLUX]))
    assert len(read_spectrum(path, medium="vacuum").orders) == 2
    np.savez(path, wavelength=WAVE, flux=np.stack([FLUX, FLUX]))
    assert len(read_spectrum(path, medium="vacuum").orders) == 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"flux": FLUX}, "'flux', but one named wavelength"),
        ({"wavelength": WAVE, "flux": FLUX[:-1]}, "one shape is needed"),
        ({"wavelength": WAVE, "flux": FLUX, "sigma": ERROR, "error": ERROR}, "2 columns that could be the error among"),
        ({"wavelength": WAVE, "flux": FLUX.astype(complex)}, "real numbers"),
        ({"wavelength": WAVE, "flux": np.array(["a"] * 40)}, "real numbers"),
        ({"wavelength": WAVE, "flux": FLUX.astype(object)}, "cannot be read as an npz"),  # a pickle
        ({"wavelength": WAVE, "flux": FLUX, "order": FLUX / 3}, "a whole number is needed"),
        ({"wavelength": WAVE[::-1] * np.where(np.arange(40) == 9, -1, 1), "flux": FLUX}, "inside the order"),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "star.npz", **arrays)
    with pytest.raises(SpectrumFileError, match=rf"star\.npz.*{message}"):
        read_spectrum(tmp_path / "star.npz", medium="vacuum")


def test_real_igrins(shared_data):
    path = shared_data.observed("igrins_S1063.npz")
    got = read_spectrum(path, format="igrins")
    assert got.meta["order_numbers"] == list(range(98, 126))
    assert got.n_pixels == 39178
    with np.load(path) as data:
        rows = data["order"] == 110
        np.testing.assert_array_equal(got.orders[12].wavelength, data["wavelength"][rows])
        np.testing.assert_array_equal(got.orders[12].error, data["sigma"][rows])


def test_starfish_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    good = np.ones((2, 40), dtype=bool)
    good[1, 3] = False
    for number, names in enumerate([("waves", "fluxes", "sigmas", "masks"), ("wls", "fls", "sigmas", "masks")]):
        path = tmp_path / f"{number}.hdf5"
        arrays = np.stack([WAVE, WAVE + 9]), np.stack([FLUX, FLUX]), np.stack([ERROR, ERROR]), good
        with h5py.File(path, "w") as file:
            file.attrs["name"] = "WASP-14"
            for name, array in zip(names, arrays, strict=True):
                file[name] = array.astype(int) if name == "masks" and number else array
        got = read_spectrum(path, medium="vacuum")
        assert [len(order.flux) for order in got.orders] == [40, 40]
        assert np.flatnonzero(np.isinf(got.orders[1].error)).tolist() == [3]  # Starfish masks are True where good
        assert got.meta["object"] == "WASP-14"
        with pytest.raises(ValueError, match="`medium` is None"):
            read_spectrum(path)
    with h5py.File(tmp_path / "2.hdf5", "w") as file:
        file["waves"], file["spectrum"] = WAVE, FLUX
    with pytest.raises(SpectrumFileError, match=r"2\.hdf5 has the columns 'waves', but one named flux"):
        read_spectrum(tmp_path / "2.hdf5", medium="vacuum")


def test_hdf5_without_h5py_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    path = tmp_path / "star.hdf5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ImportError, match=r"stellarhml\[hdf5\]"):
        read_spectrum(path, medium="vacuum")
    monkeypatch.setitem(sys.modules, "specutils", None)
    with pytest.raises(ImportError, match=r"stellarhml\[specutils\]"):
        read_spectrum(path, medium="vacuum", format="specutils")


def test_files_that_are_not_there_or_not_spectra(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_spectrum(tmp_path / "nothing.fits")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        read_spectrum(tmp_path)
    fits.HDUList([fits.PrimaryHDU(np.ones((3, 4))), fits.ImageHDU(np.ones(3), name="SKY")]).writeto(tmp_path / "a.fits")
    with pytest.raises(SpectrumFileError, match=r"(?s)a\.fits .*'PRIMARY', 'SKY', but .*\(HPF\)"):
        read_spectrum(tmp_path / "a.fits")
    with pytest.raises(SpectrumFileError, match="but a table is needed"):
        read_spectrum(tmp_path / "a.fits", format="table", medium="vacuum")
    (tmp_path / "b.fits").write_text("not a FITS file at all")
    with pytest.raises(SpectrumFileError, match=r"b\.fits begins with b'not a FITS file "):
        read_spectrum(tmp_path / "b.fits", medium="vacuum")
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04" + bytes(50))
    with pytest.raises(SpectrumFileError, match=r"c\.npz \(54 bytes\) cannot be read as an npz"):
        read_spectrum(tmp_path / "c.npz", medium="vacuum")
    _text(tmp_path / "d.txt", [WAVE, FLUX], "")
    with pytest.raises(SpectrumFileError, match=r"d\.txt is a text file, but format='hpf'"):
        read_spectrum(tmp_path / "d.txt", format="hpf")


@pytest.mark.parametrize("wrong", [{"format": "hpf2"}, {"sky": "divide"}, {"medium": "water"}])
def test_wrong_arguments(tmp_path, wrong):
    path = _text(tmp_path / "star.txt", [WAVE, FLUX], "")
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` is '{next(iter(wrong.values()))}'"):
        read_spectrum(path, **{"medium": "vacuum", **wrong})


def test_import_is_light():
    code = (
        "import sys; from stellarhml.spectra import read_spectrum, ObservedSpectrum, mask_tellurics\n"
        "heavy = {'torch', 'matplotlib', 'astropy', 'numba', 'specutils', 'h5py'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", ["Table", "QTable"])
def test_a_table_in_memory_is_the_same_as_in_a_file(tmp_path, kind):
    from astropy import table, units

    data = {"order": [1, 1, 1, 2, 2, 2], "wavelength": [500.0, 500.1, 500.2, 510.0, 510.1, 510.2], "flux": [1.0] * 6}
    made = getattr(table, kind)({**data, "error": np.full(6, 0.1)}, units={"wavelength": units.nm})
    if kind == "Table":
        made["flux"] = np.ma.array(made["flux"], mask=[0, 1, 0, 0, 0, 0])
    made.write(tmp_path / "star.ecsv")
    in_memory = ObservedSpectrum.from_table(made, medium="air")
    in_file = read_spectrum(tmp_path / "star.ecsv", medium="air")
    assert in_memory.n_masked == in_file.n_masked == (kind == "Table")
    assert in_memory.meta == {**in_file.meta, "file": None}
    assert len(in_memory.orders) == 2
    for order, same in zip(in_memory.orders, in_file.orders, strict=True):
        for part, other in zip(order, same, strict=True):
            np.testing.assert_array_equal(part, other)
    assert in_memory.orders[0].wavelength[0] == pytest.approx(5000 * 1.000279, abs=0.01)
    with pytest.raises(ValueError, match="vacuum or in air"):
        ObservedSpectrum.from_table(made, medium=None)
    made.remove_column("flux")
    with pytest.raises(SpectrumFileError, match="the table"):
        ObservedSpectrum.from_table(made, medium="air")


def test_its_own_table_comes_back_whole():
    error = np.array([0.1, np.inf, 0.1])
    orders = [([5000.0, 5000.1, 5000.2], [1.0, 0.9, 1.0], error), ([5100.0, 5100.1], [2.0, 2.1], [0.2, 0.2])]
    spectrum = ObservedSpectrum(orders, {"resolving_power": 55000.0, "order_numbers": [7, 9], "flux_unit": "Jy"})
    back = ObservedSpectrum.from_table(spectrum.to_table(), medium="vacuum")
    assert back.meta == spectrum.meta
    for order, same in zip(back.orders, spectrum.orders, strict=True):
        for part, other in zip(order, same, strict=True):
            np.testing.assert_array_equal(part, other)
    with pytest.raises(ValueError, match="in vacuum"):
        ObservedSpectrum.from_table(spectrum.to_table(), medium="air")
    with pytest.raises(SpectrumFileError, match="of 5 rows"):
        ObservedSpectrum.from_table(spectrum.to_table()[:-1], medium="vacuum")
