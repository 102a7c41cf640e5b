import numpy as np
import pytest
from astropy.io import fits

from stellarhml.exceptions import GridNotFoundError, SpectrumFileError
from stellarhml.grids.phoenix_files import (
    WAVE_NAME,
    list_phoenix_files,
    list_phoenix_nodes,
    missing_nodes,
    phoenix_file_name,
    read_phoenix_spectrum,
    read_phoenix_wavelength,
)

SUFFIX = ".PHOENIX-ACES-AGSS-COND-2011-HiRes.fits"


@pytest.mark.parametrize(
    ("labels", "folder", "name"),
    [
        ((5800, 4.5, 0.0), "Z-0.0", "lte05800-4.50-0.0"),
        ((5800, 4.5, -0.0), "Z-0.0", "lte05800-4.50-0.0"),
        ((12000, 0, 1), "Z+1.0", "lte12000-0.00+1.0"),
        ((2300, 6.0, -4.0), "Z-4.0", "lte02300-6.00-4.0"),
        ((5800, 4.5, -0.5, 0.2), "Z-0.5.Alpha=+0.20", "lte05800-4.50-0.5.Alpha=+0.20"),
        ((5800, 4.5, 0.0, -0.2), "Z-0.0.Alpha=-0.20", "lte05800-4.50-0.0.Alpha=-0.20"),
    ],
)
def test_file_name_is_that_of_the_library(labels, folder, name):
    assert phoenix_file_name(*labels).as_posix() == f"PHOENIX-ACES-AGSS-COND-2011/{folder}/{name}{SUFFIX}"


@pytest.mark.parametrize("labels", [(5800.5, 4.5, 0), (5800, 4.123, 0), (5800, 4.5, -0.25), (5800, 4.5, 0, 0.123)])
def test_file_name_refuses_labels_that_no_name_can_hold(labels):
    with pytest.raises(ValueError, match="file names hold"):
        phoenix_file_name(*labels)


def test_nodes_are_listed_from_the_names_and_sorted(phoenix_folder):
    extra = phoenix_folder / phoenix_file_name(4900, 0.0, 0.5, 0.4)
    extra.parent.mkdir(parents=True)
    extra.touch()
    (extra.parent / "notes.fits").touch()
    labels = list_phoenix_nodes(phoenix_folder)
    assert labels.shape == (13, 4)
    assert labels[0].tolist() == [4900, 0.0, 0.5, 0.4]
    assert labels[1].tolist() == [5000, 4.0, -0.5, 0.0]
    assert labels[-1].tolist() == [5200, 4.5, 0.0, 0.0]
    # -0.0 sorts and prints unlike 0.0
    assert not np.any(np.signbit(labels[labels == 0]))


def test_every_listed_node_has_the_file_that_its_name_says(phoenix_folder):
    assert all((phoenix_folder / phoenix_file_name(*row)).is_file() for row in list_phoenix_nodes(phoenix_folder))


@pytest.mark.parametrize(
    ("folder", "name", "labels"),
    [
        ("Z+0.0", "lte04900-0.00+0.0", [4900, 0, 0, 0]),
        ("Z-0.0", "lte04900+0.00-0.0", [4900, 0, 0, 0]),
        ("Z+0.0.Alpha=-0.20", "lte04900-4.50+0.0.Alpha=-0.20", [4900, 4.5, 0, -0.2]),
        ("Z+0.5.Alpha=+0.00", "lte04900-4.50+0.5.Alpha=+0.00", [4900, 4.5, 0.5, 0]),
    ],
)
def test_spellings_of_zero(phoenix_folder, folder, name, labels):
    path = phoenix_folder / "PHOENIX-ACES-AGSS-COND-2011" / folder / f"{name}{SUFFIX}"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert list_phoenix_nodes(phoenix_folder)[0].tolist() == labels
    assert list_phoenix_files(phoenix_folder)[0] == (tuple(labels), path)


def test_missing_nodes():
    full = np.array([[t, g] for t in (1, 2, 3) for g in (4, 5)], dtype=float)
    assert missing_nodes(full).shape == (0, 2)
    assert missing_nodes(np.delete(full, [1, 4], axis=0)).tolist() == [[1, 5], [3, 4]]


def test_read_wavelength_and_spectrum(phoenix_folder):
    wavelength = read_phoenix_wavelength(phoenix_folder)
    np.testing.assert_array_equal(wavelength, 8030 + 0.5 * np.arange(80))
    flux, labels = read_phoenix_spectrum(phoenix_folder / phoenix_file_name(5100, 4.5, -0.5), 80, slice(10, 12))
    assert labels.tolist() == [5100, 4.5, -0.5, 0]
    np.testing.assert_array_equal(flux, np.float32([5100 + 45 - 0.5 + 0.010, 5100 + 45 - 0.5 + 0.011]))
    assert flux.dtype == np.float32
    assert flux.dtype.isnative


def test_no_grid_in_the_folder(tmp_path):
    with pytest.raises(GridNotFoundError, match="fetch_phoenix"):
        list_phoenix_nodes(tmp_path / "nowhere")
    with pytest.raises(GridNotFoundError, match="holds no spectrum named like"):
        list_phoenix_nodes(tmp_path)
    with pytest.raises(GridNotFoundError, match="WAVE_PHOENIX"):
        read_phoenix_wavelength(tmp_path)


# A cut inside the data, the header, the padding at the end, the second header: astropy treats each differently.
@pytest.mark.parametrize("n_bytes", [3000, 1000, 8640 + 2880 - 100, 8600, 0])
def test_truncated_file(phoenix_folder, n_bytes):
    path = phoenix_folder / phoenix_file_name(5000, 4.0, 0.0)
    whole = path.read_bytes()
    assert len(whole) > n_bytes
    path.write_bytes(whole[:n_bytes])
    with pytest.raises(SpectrumFileError, match=r"lte05000-4\.00-0\.0.*truncated.*download it again"):
        read_phoenix_spectrum(path)


def test_file_that_is_not_fits(phoenix_folder):
    path = phoenix_folder / phoenix_file_name(5000, 4.0, 0.0)
    path.write_text("<html>503 Service unavailable</html>" * 100)
    with pytest.raises(SpectrumFileError, match="cannot be read as a FITS file"):
        read_phoenix_spectrum(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lost\.fits"):
        read_phoenix_spectrum(tmp_path / "lost.fits")


def test_two_dimensional_file(tmp_path):
    fits.PrimaryHDU(np.ones((2, 5))).writeto(tmp_path / "image.fits")
    with pytest.raises(SpectrumFileError, match=r"shape \(2, 5\)"):
        read_phoenix_spectrum(tmp_path / "image.fits")


def test_length_unlike_the_wave_file(phoenix_folder):
    with pytest.raises(SpectrumFileError, match="holds 80 pixels, but the WAVE file of its folder has 81"):
        read_phoenix_spectrum(phoenix_folder / phoenix_file_name(5000, 4.0, 0.0), 81)


def test_flux_that_is_not_finite(phoenix_folder):
    path = phoenix_folder / phoenix_file_name(5000, 4.0, 0.0)
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[[3, 7]] = np.nan, np.inf
    with pytest.raises(SpectrumFileError, match=r"lte05000.*2 pixels that are NaN"):
        read_phoenix_spectrum(path)
    # A bad pixel outside the requested band is none of the caller's concern.
    assert np.isfinite(read_phoenix_spectrum(path, pixels=slice(8, None))[0]).all()


def test_header_that_contradicts_the_name(phoenix_folder):
    path = phoenix_folder / phoenix_file_name(5000, 4.0, 0.0)
    fits.setval(path, "PHXLOGG", value=4.5)
    with pytest.raises(SpectrumFileError, match=r"PHXLOGG = 4\.5 in its header, but its name says 4\.0"):
        read_phoenix_spectrum(path)


def test_header_without_labels_falls_back_on_the_name(phoenix_folder):
    path = phoenix_folder / phoenix_file_name(5000, 4.0, 0.0)
    fits.delval(path, "PHXTEFF")
    assert read_phoenix_spectrum(path)[1].tolist() == [5000, 4, 0, 0]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("AIRORVAC", "air", "air wavelengths"), ("CTYPE1", "AWAV", "air wavelengths"), ("UNIT", "nm", "in angstrom")],
)
def test_wave_file_in_another_medium_or_unit(phoenix_folder, key, value, message):
    fits.setval(phoenix_folder / WAVE_NAME, key, value=value)
    with pytest.raises(SpectrumFileError, match=message):
        read_phoenix_wavelength(phoenix_folder)


@pytest.mark.parametrize("value", [8030.0, np.nan])
def test_wave_file_that_does_not_increase(phoenix_folder, value):
    with fits.open(phoenix_folder / WAVE_NAME, mode="update") as hdus:
        hdus[0].data[5] = value
    with pytest.raises(SpectrumFileError, match="increase strictly, but pixel 5 is"):
        read_phoenix_wavelength(phoenix_folder)
