import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.table_columns import read_spectrum_table, write_spectrum_table

WAVE = np.array([8500.1, 8500.2, 8500.30000000001])
FLUX = np.array([1.0, 0.5, 1 / 3])
ERROR = np.array([0.01, 0.02, 0.03])


def _write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", [".ecsv", ".csv", ".fits", ".FITS"])
@pytest.mark.parametrize("with_error", [True, False])
def test_round_trip_is_exact(tmp_path, suffix, with_error):
    path = tmp_path / f"star{suffix}"
    error = np.array([0.01, np.inf, 0.03]) if with_error else None
    flux = np.array([1.0, 0.0, 1 / 3])
    write_spectrum_table(path, WAVE, flux, error)
    got = read_spectrum_table(path, medium="vacuum")
    np.testing.assert_array_equal(got.wavelength, WAVE)
    np.testing.assert_array_equal(got.flux, flux)
    if with_error:
        np.testing.assert_array_equal(got.flux_error, error)
    else:
        assert got.flux_error is None
    assert got.path == path
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "text",
    [
        "8500.1 1.0 0.01\n8500.2 0.5 0.02\n",
        "# a comment\n\n8500.1\t1.0  0.01\n8500.2 0.5 0.02  # remark\n",
        "8500.1,1.0,0.01\n8500.2, 0.5, 0.02\n",
        "wave flux sigma\n8500.1 1.0 0.01\n8500.2 0.5 0.02\n",
        "Sigma,Wave,FLUX,order\n0.01,8500.1,1.0,3\n0.02,8500.2,0.5,3\n",
        "# flux error wavelength\n1.0 0.01 8500.1\n0.5 0.02 8500.2\n",
        "# flux of a star\n8500.1 1.0 0.01\n8500.2 0.5 0.02\n",
        "\ufeffwavelength,flux,uncertainty\r\n8500.1,1.0,0.01\r\n8500.2,0.5,0.02\r\n",
    ],
)
def test_text_in_many_forms(tmp_path, text):
    path = tmp_path / "star.txt"
    path.write_bytes(text.encode())
    got = read_spectrum_table(path, medium="vacuum")
    assert got.wavelength.tolist() == [8500.1, 8500.2]
    assert got.flux.tolist() == [1.0, 0.5]
    assert got.flux_error.tolist() == [0.01, 0.02]


def test_comment_in_another_encoding(tmp_path):
    path = tmp_path / "star.txt"
    path.write_bytes("# Wellenlänge in Å\n8500.1 1.0\n8500.2 0.5\n".encode("latin-1"))
    assert read_spectrum_table(path, medium="vacuum").flux.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("suffix", [".ecsv", ".fits"])
@pytest.mark.parametrize("unit", ["nm", "um", "Angstrom"])
def test_units_of_a_column_are_converted(tmp_path, suffix, unit):
    table = Table({"lambda": (WAVE * u.AA).to(unit), "flux": FLUX * u.Jy, "error": ERROR * 1e3 * u.mJy})
    table.write(tmp_path / f"star{suffix}")
    got = read_spectrum_table(tmp_path / f"star{suffix}", medium="vacuum")
    # The conversion there and back costs a few roundings of float64.
    np.testing.assert_allclose(got.wavelength, WAVE, rtol=1e-15)
    np.testing.assert_array_equal(got.flux, FLUX)
    np.testing.assert_allclose(got.flux_error, ERROR, rtol=1e-15)


def test_plural_of_angstrom_in_fits(tmp_path):
    columns = [fits.Column("WAVE", "D", unit="Angstroms", array=WAVE), fits.Column("FLUX", "D", array=FLUX)]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "star.fits")
    np.testing.assert_array_equal(read_spectrum_table(tmp_path / "star.fits", medium="vacuum").wavelength, WAVE)


def test_air_is_converted_and_vacuum_is_not(tmp_path):
    # Ca II 8542 of the NIST database: 8542.09 in air, 8544.44 in vacuum, two decimals each.
    path = _write(tmp_path / "star.txt", "8542.09 1.0\n8543.09 1.0\n")
    assert read_spectrum_table(path, medium="vacuum").wavelength[0] == 8542.09
    assert abs(read_spectrum_table(path, medium="air").wavelength[0] - 8544.44) < 0.01


def test_medium_must_be_stated(tmp_path):
    path = _write(tmp_path / "star.txt", "8542.09 1.0\n8543.09 1.0\n")
    with pytest.raises(TypeError):
        read_spectrum_table(path)
    with pytest.raises(ValueError, match="'vacuum' or 'air'"):
        read_spectrum_table(path, medium="Vacuum?")


def test_masked_pixels(tmp_path):
    text = "1 1 .1\n2 nan .1\n3 1 0\n4 1 nan\n5 1 inf\n6 inf .1\n7 2 .2\n"
    got = read_spectrum_table(_write(tmp_path / "star.txt", text), medium="vacuum")
    np.testing.assert_array_equal(got.flux, [1, 0, 0, 0, 0, 0, 2])
    np.testing.assert_array_equal(got.flux_error, [0.1, *[np.inf] * 5, 0.2])


def test_masked_pixels_without_errors_are_left_out(tmp_path):
    got = read_spectrum_table(_write(tmp_path / "star.csv", "1,1\n2,\n3,5\n"), medium="vacuum")
    assert got.wavelength.tolist() == [1, 3]
    assert got.flux.tolist() == [1, 5]


def test_masked_cells_of_ecsv(tmp_path):
    table = Table({"wavelength": WAVE, "flux": MaskedColumn([1, 2, 3], mask=[False, True, False]), "error": ERROR})
    table.write(tmp_path / "star.ecsv")
    got = read_spectrum_table(tmp_path / "star.ecsv", medium="vacuum")
    np.testing.assert_array_equal(got.flux, [1, 0, 3])
    assert got.flux_error[1] == np.inf


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("wave flux\n", "no rows"),
        ("8500\n8501\n", "has 1 column, but at least two"),
        ("8500;1\n8501;1\n", "but a number is needed"),
        ("8500 1\n8501 bad\n", "'bad' in line 2, but a number"),
        ("8500 1\n8501 1 3\n", "has 3 columns in line 2, but 2"),
        ("8500 1 .1\n8501 1\n", "cut short"),
        ("8500 1\nnan 1\n", "1 wavelengths that are NaN"),
        ("8500 1\ninf 1\n", "1 wavelengths that are NaN or infinite"),
        ("-1 1\n2 1\n", "must be positive"),
        ("8501 1\n8500 1\n", "decrease throughout: reverse the rows"),
        ("8500 1\n8502 1\n8501 1\n", r"row 2 \(8501\.0000.*Sort the rows"),
        ("8500 1\n8500 1\n", "do not increase strictly"),
        ("8500 1 .1\n8501 1 -.1\n", "1 negative errors"),
        ("wave flux ivar\n8500 1 100\n8501 1 100\n", r"column 'ivar'.*1 / sqrt\(ivar\)"),
        ("# wave flux ivar\n8500 1 100\n8501 1 100\n", r"column 'ivar'.*1 / sqrt\(ivar\)"),
        ("lam intensity\n8500 1\n8501 1\n", "'lam', 'intensity', but one named wavelength or wave or lambda"),
        ("wave lambda flux\n1 1 1\n", "2 columns that could be the wavelength"),
    ],
)
def test_bad_text(tmp_path, text, message):
    path = _write(tmp_path / "star.txt", text)
    with pytest.raises(SpectrumFileError, match=rf"(?s)star\.txt.*({message})"):
        read_spectrum_table(path, medium="vacuum")


def test_missing_file_and_binary_text(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lost\.txt"):
        read_spectrum_table(tmp_path / "lost.txt", medium="vacuum")
    (tmp_path / "star.txt").write_bytes(bytes(range(256)))
    with pytest.raises(SpectrumFileError, match=r"star\.txt is not a text file"):
        read_spectrum_table(tmp_path / "star.txt", medium="vacuum")


@pytest.mark.parametrize("fraction", [0.3, 0.9, 0.999, 0.0])
def test_truncated_fits(tmp_path, fraction):
    path = tmp_path / "star.fits"
    write_spectrum_table(path, np.arange(1, 2001.0), np.ones(2000), np.ones(2000))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * fraction)])
    with pytest.raises(SpectrumFileError, match=r"star\.fits.*truncated"):
        read_spectrum_table(path, medium="vacuum")


def test_fits_without_a_usable_table(tmp_path):
    path = tmp_path / "star.fits"
    fits.PrimaryHDU(np.ones(5)).writeto(path)
    with pytest.raises(SpectrumFileError, match="holds no table"):
        read_spectrum_table(path, medium="vacuum")
    Table({"wavelength": np.ones((3, 4)), "flux": np.ones((3, 4))}).write(path, overwrite=True)
    with pytest.raises(SpectrumFileError, match=r"column 'wavelength' of shape \(3, 4\)"):
        read_spectrum_table(path, medium="vacuum")
    Table({"wavelength": WAVE * u.Hz, "flux": FLUX}).write(path, overwrite=True)
    with pytest.raises(SpectrumFileError, match="'Hz', but a unit of length"):
        read_spectrum_table(path, medium="vacuum")
    Table({"wavelength": WAVE, "flux": FLUX * u.Jy, "error": ERROR * u.m}).write(path, overwrite=True)
    with pytest.raises(SpectrumFileError, match="must convert into each other"):
        read_spectrum_table(path, medium="vacuum")


def test_damaged_ecsv(tmp_path):
    path = tmp_path / "star.ecsv"
    write_spectrum_table(path, WAVE, FLUX)
    path.write_text(path.read_text()[:60])
    with pytest.raises(SpectrumFileError, match=r"star\.ecsv cannot be read as ECSV"):
        read_spectrum_table(path, medium="vacuum")


def test_write_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(ValueError, match="suffix must be one of"):
        write_spectrum_table(tmp_path / "star.dat", WAVE, FLUX)
    with pytest.raises(ValueError, match="of one length"):
        write_spectrum_table(tmp_path / "star.csv", WAVE, FLUX[:2])
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "star.csv"
    write_spectrum_table(path, WAVE, FLUX)
    before = path.read_bytes()

    def fail(self, file, **kwargs):
        with open(file, "w") as half:
            half.write("wave")
        raise OSError("disk full")

    monkeypatch.setattr(Table, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        write_spectrum_table(path, WAVE, FLUX * 2)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["star.csv"]
