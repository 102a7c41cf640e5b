import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra import read_spectrum

WAVE = np.array([8500.1, 8500.2, 8500.30000000001])
FLUX = np.array([1.0, 0.5, 1 / 3])
ERROR = np.array([0.01, 0.02, 0.03])


def read(path, medium="vacuum"):
    """The one order of a table."""
    (order,) = read_spectrum(path, medium=medium).orders
    return order


def table_of(error=None, flux=FLUX, wavelength=WAVE):
    """A table of astropy, its wavelengths with their unit."""
    columns = {"wavelength": wavelength * u.AA, "flux": flux} | ({} if error is None else {"error": error})
    return Table(columns)


def _write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", [".ecsv", ".csv", ".fits", ".FITS"])
@pytest.mark.parametrize("with_error", [True, False])
def test_round_trip_is_exact(tmp_path, suffix, with_error):
    path = tmp_path / f"star{suffix}"
    error = np.array([0.01, np.inf, 0.03]) if with_error else None
    flux = np.array([1.0, 0.0, 1 / 3])
    writer = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv"}.get(suffix, "fits")
    table_of(error, flux).write(path, format=writer)
    got = read(path)
    np.testing.assert_array_equal(got.wavelength, WAVE)
    np.testing.assert_array_equal(got.flux, flux)
    if with_error:
        np.testing.assert_array_equal(got.error, error)
    else:
        assert not read_spectrum(path, medium="vacuum").meta["errors_known"]


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
    got = read(path)
    assert got.wavelength.tolist() == [8500.1, 8500.2]
    assert got.flux.tolist() == [1.0, 0.5]
    assert got.error.tolist() == [0.01, 0.02]


def test_comment_in_another_encoding(tmp_path):
    path = tmp_path / "star.txt"
    path.write_bytes("# Wellenlänge in Å\n8500.1 1.0\n8500.2 0.5\n".encode("latin-1"))
    assert read(path).flux.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("suffix", [".ecsv", ".fits"])
@pytest.mark.parametrize("unit", ["nm", "um", "Angstrom"])
def test_units_of_a_column_are_converted(tmp_path, suffix, unit):
    table = Table({"lambda": (WAVE * u.AA).to(unit), "flux": FLUX * u.Jy, "error": ERROR * 1e3 * u.mJy})
    table.write(tmp_path / f"star{suffix}")
    got = read(tmp_path / f"star{suffix}")
    # The conversion there and back costs a few roundings of float64.
    np.testing.assert_allclose(got.wavelength, WAVE, rtol=1e-15)
    np.testing.assert_array_equal(got.flux, FLUX)
    np.testing.assert_allclose(got.error, ERROR, rtol=1e-15)


def test_plural_of_angstrom_in_fits(tmp_path):
    columns = [fits.Column("WAVE", "D", unit="Angstroms", array=WAVE), fits.Column("FLUX", "D", array=FLUX)]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "star.fits")
    np.testing.assert_array_equal(read(tmp_path / "star.fits").wavelength, WAVE)


def test_air_is_converted_and_vacuum_is_not(tmp_path):
    # Ca II 8542 of the NIST database: 8542.09 in air, 8544.44 in vacuum, two decimals each.
    path = _write(tmp_path / "star.txt", "8542.09 1.0\n8543.09 1.0\n")
    assert read(path).wavelength[0] == 8542.09
    assert abs(read(path, "air").wavelength[0] - 8544.44) < 0.01


def test_medium_must_be_stated(tmp_path):
    path = _write(tmp_path / "star.txt", "8542.09 1.0\n8543.09 1.0\n")
    with pytest.raises(ValueError, match="does not state whether"):
        read_spectrum(path)
    with pytest.raises(ValueError, match="'vacuum' or 'air'"):
        read_spectrum(path, medium="Vacuum?")


def test_masked_pixels(tmp_path):
    text = "5001 1 .1\n5002 nan .1\n5003 1 0\n5004 1 nan\n5005 1 inf\n5006 inf .1\n5007 2 .2\n"
    got = read(_write(tmp_path / "star.txt", text))
    np.testing.assert_array_equal(got.flux, [1, 0, 1, 1, 1, 0, 2])
    np.testing.assert_array_equal(got.error, [0.1, *[np.inf] * 5, 0.2])


def test_masked_pixels_without_errors(tmp_path):
    got = read(_write(tmp_path / "star.csv", "5001,1\n5002,\n5003,5\n"))
    assert got.wavelength.tolist() == [5001, 5002, 5003]
    assert np.isinf(got.error).tolist() == [False, True, False]


def test_masked_cells_of_ecsv(tmp_path):
    table = Table({"wavelength": WAVE, "flux": MaskedColumn([1, 2, 3], mask=[False, True, False]), "error": ERROR})
    table.write(tmp_path / "star.ecsv")
    got = read(tmp_path / "star.ecsv")
    np.testing.assert_array_equal(got.flux, [1, 0, 3])
    assert got.error[1] == np.inf


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("wave flux\n", "no rows"),
        ("8500\n8501\n", "has 1 column, but at least two"),
        ("8500,5;1\n8501,5;1\n", "but a number is needed"),
        ("8500 1\n8501 bad\n", "'bad' in row 2, but a number"),
        ("8500 1\n8501 1 3\n", "another number of columns in row 2 than 2"),
        ("8500 1 .1\n8501 1\n", "truncated"),
        ("8500 1\nnan 1\n", "no good pixel"),
        ("8500 1\ninf 1\n", "no good pixel"),
        ("-1 1\n8500 1\n", "no good pixel"),
        ("854.209 1\n854.309 1\n", r"around 854.259 angstrom, but 900 to 1e\+07 are needed"),  # nm without a unit
        ("8500 1\n8502 1\n8501 1\n8503 1\n", r"pixel 1 \(8502\.0000.*Sort the pixels"),
        ("8500 1\n8500 1\n8501 1\n", "must increase strictly"),
        ("8500 1 -1\n8501 1 -.1\n", "2 error or variance not finite, zero or negative"),
        ("pixel intensity\n8500 1\n8501 1\n", "'pixel', 'intensity', but one named wavelength or wave or lambda"),
        ("8500 1 .1 1\n8501 1 .1 1\n", "4 columns without names, and more than three are not guessed"),
        ("wave lambda flux\n1 1 1\n", "2 columns that could be the wavelength"),
    ],
)
def test_bad_text(tmp_path, text, message):
    path = _write(tmp_path / "star.txt", text)
    with pytest.raises(SpectrumFileError, match=rf"(?s)star\.txt.*({message})"):
        read(path)


def test_missing_file_and_binary_text(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lost\.txt"):
        read(tmp_path / "lost.txt")
    (tmp_path / "star.txt").write_bytes(bytes(range(256)))
    with pytest.raises(SpectrumFileError, match=r"star\.txt is not a text file"):
        read(tmp_path / "star.txt")


@pytest.mark.parametrize("fraction", [0.3, 0.9, 0.999, 0.0])
def test_truncated_fits(tmp_path, fraction):
    path = tmp_path / "star.fits"
    table_of(np.ones(2000), np.ones(2000), np.arange(1, 2001.0)).write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * fraction)])
    with pytest.raises(SpectrumFileError, match=r"star\.fits.*(truncated|is empty)"):
        read(path)


def test_fits_without_a_usable_table(tmp_path):
    path = tmp_path / "star.fits"
    fits.PrimaryHDU(np.ones(5)).writeto(path)
    with pytest.raises(SpectrumFileError, match=r"a table, an image .* is needed"):
        read(path)
    Table({"wavelength": np.ones((3, 4)), "flux": np.ones((3, 4))}).write(path, overwrite=True)
    with pytest.raises(SpectrumFileError, match="3 rows of arrays of 4 pixels"):
        read(path)
    Table({"wavelength": WAVE * u.Hz, "flux": FLUX}).write(path, overwrite=True)
    with pytest.raises(SpectrumFileError, match="'Hz', but a unit of length"):
        read(path)
    Table({"wavelength": WAVE, "flux": FLUX * u.Jy, "error": ERROR * u.m}).write(path, overwrite=True)
    with pytest.raises(SpectrumFileError, match="must convert into each other"):
        read(path)


def test_damaged_ecsv(tmp_path):
    path = tmp_path / "star.ecsv"
    table_of().write(path)
    path.write_text(path.read_text()[:60])
    with pytest.raises(SpectrumFileError, match=r"star\.ecsv cannot be read as ECSV"):
        read(path)
