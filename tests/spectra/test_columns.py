import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra import ObservedSpectrum, read_spectrum

WAVE = np.linspace(8500.0, 8510.0, 40)
FLUX = np.linspace(1.0, 2.0, 40)
ERROR = np.linspace(0.01, 0.03, 40)
STANDARD_DEVIATIONS = (
    *("error", "err", "ERR", "errors", "fluxerr", "flux_err", "FLUX_ERR", "Flux Error", "flux-err", "e_flux", "sigma"),
    *("sigma_flux", "unc", "uncertainty", "flux_unc", "noise", "std", "stddev", "Error [counts]"),
)
VARIANCES = ("variance", "var", "flux_var", "FLUX_VARIANCE")
INVERSE_VARIANCES = ("ivar", "IVAR", "invvar", "inverse_variance", "flux_ivar")
QUALITY = ("mask", "dq", "DQ", "quality", "flags", "and_mask", "bad_pixel_mask", "QUAL")


def write(path, **columns):
    """A table in CSV, ECSV, FITS or npz, by the suffix; names may have blanks."""
    if path.suffix == ".npz":
        np.savez(path, **columns)
    else:
        Table(columns).write(path, format={".csv": "ascii.csv", ".ecsv": "ascii.ecsv"}.get(path.suffix))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".fits", ".npz"])
@pytest.mark.parametrize(
    ("names", "power"), [(STANDARD_DEVIATIONS, 1), (VARIANCES, 2), (INVERSE_VARIANCES, -2)], ids=["std", "var", "ivar"]
)
def test_errors_are_taken_by_what_they_are(tmp_path, suffix, names, power):
    for number, name in enumerate(names):
        columns = {"wavelength": WAVE, "flux": FLUX, name: ERROR**power}
        got = read_spectrum(write(tmp_path / f"{number}{suffix}", **columns), medium="vacuum")
        assert got.meta["errors_known"], name
        np.testing.assert_allclose(got.orders[0].error, ERROR, rtol=1e-14, err_msg=name)  # a root and a square
        assert "ignored" not in " ".join(got.meta["notes"])


@pytest.mark.parametrize("name", QUALITY)
@pytest.mark.parametrize("suffix", [".csv", ".fits", ".npz"])
def test_data_quality_masks_where_it_is_not_zero(tmp_path, suffix, name):
    quality = np.where(np.arange(40) % 10 == 3, 2**17, 0)
    path = write(tmp_path / f"star{suffix}", wavelength=WAVE, flux=FLUX, err=ERROR, **{name: quality})
    got = read_spectrum(path, medium="vacuum")
    assert np.flatnonzero(np.isinf(got.orders[0].error)).tolist() == [3, 13, 23, 33]
    assert f"{name} (pixels where it is not 0 are left out)" in got.meta["notes"][0]


def test_two_columns_of_quality_both_count(tmp_path):
    one, other = (np.arange(40) == k for k in (3, 5))
    path = write(tmp_path / "star.csv", wavelength=WAVE, flux=FLUX, mask=one.astype(int), dq=other.astype(int))
    assert np.flatnonzero(np.isinf(read_spectrum(path, medium="vacuum").orders[0].error)).tolist() == [3, 5]


def test_what_is_not_used_is_named(tmp_path):
    path = write(tmp_path / "star.csv", wavelength=WAVE, flux=FLUX, continuum=FLUX, model_err=ERROR)
    notes = read_spectrum(path, medium="vacuum").meta["notes"]
    assert "Columns ignored: continuum, model_err." in notes
    assert "No errors given" not in " ".join(notes)
    assert "model_err may be errors, but are not known by name" in notes[-1]
    path = write(tmp_path / "bare.csv", wavelength=WAVE, flux=FLUX, continuum=FLUX)
    assert "No errors given" in read_spectrum(path, medium="vacuum").meta["notes"][-1]


def test_standard_deviations_win_over_variances(tmp_path):
    path = write(tmp_path / "star.csv", wavelength=WAVE, flux=FLUX, ivar=np.ones(40), err=ERROR)
    got = read_spectrum(path, medium="vacuum")
    np.testing.assert_array_equal(got.orders[0].error, ERROR)
    assert "Columns ignored: ivar." in got.meta["notes"]


def test_no_weight_is_a_mask(tmp_path):
    ivar = np.where(np.arange(40) < 2, 0.0, ERROR**-2)
    got = read_spectrum(write(tmp_path / "star.fits", loglam=np.log10(WAVE), flux=FLUX, ivar=ivar), medium="vacuum")
    assert np.isinf(got.orders[0].error[:2]).all()
    assert got.n_masked == 2
    np.testing.assert_allclose(got.orders[0].wavelength, WAVE, rtol=1e-14)


def test_units_of_variances(tmp_path):
    columns = [
        fits.Column("wave", "D", unit="nm", array=WAVE / 10),
        fits.Column("flux", "D", unit="Jy", array=FLUX),
        fits.Column("variance", "D", unit="mJy2", array=(1e3 * ERROR) ** 2),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "star.fits")
    np.testing.assert_allclose(
        read_spectrum(tmp_path / "star.fits", medium="vacuum").orders[0].error, ERROR, rtol=1e-13
    )
    columns[2] = fits.Column("variance", "D", unit="Jy", array=ERROR**2)
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "other.fits")
    with pytest.raises(SpectrumFileError, match=r"variances.*must convert into each other"):
        read_spectrum(tmp_path / "other.fits", medium="vacuum")


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("wavelength [nm]", 0.1),
        ("wave (um)", 1e-4),
        ("lambda_nm", 0.1),
        ("wavelength_A", 1.0),
        ("Wavelength(Angstroms)", 1.0),
        ("wave_micron", 1e-4),
    ],
)
def test_a_unit_in_the_name_counts(tmp_path, name, factor):
    path = tmp_path / "star.csv"
    np.savetxt(path, np.column_stack([WAVE * factor, FLUX]), delimiter=",", header=f"{name},flux", comments="")
    np.testing.assert_allclose(read_spectrum(path, medium="vacuum").orders[0].wavelength, WAVE, rtol=1e-14)


def test_air_and_vacuum_side_by_side(tmp_path):
    from stellarhml.physics.wavelength import vacuum_to_air

    path = write(tmp_path / "star.fits", wave_air=vacuum_to_air(WAVE), wave_vac=WAVE, flux=FLUX)
    for medium in (None, "air", "vacuum"):
        got = read_spectrum(path, medium=medium)
        assert got.meta["medium"] == (medium or "vacuum")
        np.testing.assert_allclose(got.orders[0].wavelength, WAVE, rtol=0, atol=1e-7)


def test_more_than_three_columns_without_names_are_not_guessed(tmp_path):
    path = tmp_path / "star.s"
    np.savetxt(path, np.column_stack([WAVE, FLUX, 0.001 * FLUX, ERROR]))
    with pytest.raises(SpectrumFileError, match="4 columns without names, and more than three are not guessed"):
        read_spectrum(path, medium="vacuum")
    np.savetxt(path, np.column_stack([WAVE, FLUX, ERROR]))
    assert read_spectrum(path, medium="vacuum").meta["errors_known"]


@pytest.mark.parametrize(
    "text",
    [
        '"wavelength","flux","err"\n"8500.1","1.0","0.01"\n"8500.2","0.5","0.02"\n',
        '"8500.1","1.0","0.01"\n"8500.2","0.5","0.02"\n',
        "wavelength;flux;err\n8500.1;1.0;0.01\n8500.2;0.5;0.02\n",
        "# a star\n# wavelength [Angstrom]  flux err\n8500.1 1 .01\n8500.2 .5 .02\n",
    ],
)
def test_quotes_semicolons_and_units_in_text(tmp_path, text):
    path = tmp_path / "star.csv"
    path.write_text(text)
    (order,) = read_spectrum(path, medium="vacuum").orders
    assert [part.tolist() for part in order] == [[8500.1, 8500.2], [1.0, 0.5], [0.01, 0.02]]


def test_columns_that_no_spectrum_needs_may_have_any_shape(tmp_path):
    table = Table({"WAVE": WAVE, "FLUX": FLUX, "ERR": ERROR, "NAME": ["a"] * 40, "LSF": np.ones((40, 3))})
    table.write(tmp_path / "star.fits")
    got = read_spectrum(tmp_path / "star.fits", medium="vacuum")
    assert got.meta["errors_known"]
    assert "Columns ignored: NAME, LSF." in got.meta["notes"]
    assert ObservedSpectrum.from_table(table, medium="vacuum").meta["errors_known"]


@pytest.mark.parametrize(
    "comments",
    [
        "wave flux ivar\nreduced by me",
        "wave flux ivar\nAngstrom counts counts-2",
        "wave flux ivar\n---- ---- ----",
        "1 wave\n2 flux\n3 ivar",
        "col1: wave\ncol2: flux\ncol3: ivar",
        "columns: wave flux ivar\nS/N = 100",
        "wave | flux | ivar",
        "wave, flux, ivar\n2026",
    ],
)
def test_names_in_any_comment_above_the_data(tmp_path, comments):
    np.savetxt(tmp_path / "star.txt", np.column_stack([WAVE, FLUX, ERROR**-2]), header=comments)
    got = read_spectrum(tmp_path / "star.txt", medium="vacuum")
    np.testing.assert_allclose(got.orders[0].error, ERROR, rtol=1e-12)  # text of 18 digits


@pytest.mark.parametrize(
    "names",
    ["lambda signal snr", "lambda I/Ic V/Ic", "wavenumber(cm-1) flux error", "pixel flux error", "nu flux sigma"],
)
def test_names_that_are_not_known_are_not_replaced_by_positions(tmp_path, names):
    np.savetxt(tmp_path / "star.txt", np.column_stack([WAVE, FLUX, ERROR]), header=f"{names}\nHD 1")
    with pytest.raises(SpectrumFileError, match=r"names its columns .* in a comment, but wavelength and flux"):
        read_spectrum(tmp_path / "star.txt", medium="vacuum")


@pytest.mark.parametrize("comment", ["a good star", "HD 12345 R=60000", "wavelength in nanometres", "spectrum of Vega"])
def test_comments_that_are_no_names(tmp_path, comment):
    np.savetxt(tmp_path / "star.txt", np.column_stack([WAVE, FLUX, ERROR]), header=comment)
    assert read_spectrum(tmp_path / "star.txt", medium="vacuum").meta["errors_known"]


def test_relative_errors_do_not_become_absolute(tmp_path):
    columns = [
        fits.Column("WAVE", "D", array=WAVE),
        fits.Column("FLUX", "D", array=1000 * FLUX),
        fits.Column("ERR", "D", unit="percent", array=np.ones(40)),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "star.fits")
    with pytest.raises(SpectrumFileError, match="'percent'"):
        read_spectrum(tmp_path / "star.fits", medium="vacuum")


@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".fits"])
def test_marks_as_words(tmp_path, suffix):
    words = np.where(np.arange(40) == 3, "True", "False")
    for mask in (words, np.where(np.arange(40) == 3, "T", "F")):
        path = tmp_path / f"star_{len(mask[0])}{suffix}"
        got = read_spectrum(write(path, wavelength=WAVE, flux=FLUX, mask=mask), medium="vacuum")
        assert np.flatnonzero(np.isinf(got.orders[0].error)).tolist() == [3]


def test_columns_of_bits(tmp_path):
    bits = np.zeros((40, 8), dtype=bool)
    bits[3, 5] = True
    columns = [
        fits.Column("WAVE", "D", array=WAVE),
        fits.Column("FLUX", "D", array=FLUX),
        fits.Column("DQ", "8X", array=bits),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "star.fits")
    got = read_spectrum(tmp_path / "star.fits", medium="vacuum")
    assert np.flatnonzero(np.isinf(got.orders[0].error)).tolist() == [3]


def test_marks_that_mean_good_pixels_are_suspected(tmp_path):
    good = np.ones(40, dtype=int)
    path = write(tmp_path / "all.csv", wavelength=WAVE, flux=FLUX, mask=good)
    with pytest.raises(SpectrumFileError, match="if yours mean good ones, invert them"):
        read_spectrum(path, medium="vacuum")
    good[:5] = 0
    path = write(tmp_path / "most.csv", wavelength=WAVE, flux=FLUX, mask=good)
    assert "Most pixels are marked" in " ".join(read_spectrum(path, medium="vacuum").meta["notes"])


def test_the_table_with_a_spectrum_is_read_and_others_are_named(tmp_path):
    tables = [
        fits.BinTableHDU(Table(columns), name=name)
        for name, columns in (
            ("META", {"key": [1, 2]}),
            ("ARM_B", {"wave": WAVE, "flux": FLUX}),
            ("ARM_R", {"wave": WAVE + 9, "flux": FLUX}),
        )
    ]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(tmp_path / "star.fits")
    got = read_spectrum(tmp_path / "star.fits", medium="vacuum")
    assert got.orders[0].wavelength[0] == WAVE[0]
    assert "Tables not read, though they have a spectrum: ARM_R." in got.meta["notes"]
