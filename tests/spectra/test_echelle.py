"""Files as the pipelines of HPF and IGRINS write them."""

import numpy as np
import pytest
from astropy.io import fits

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra import read_spectrum


def test_hpf_of_the_instrument_team(tmp_path, make_hpf):
    got = read_spectrum(make_hpf(tmp_path / "any_name.fits"), sky=None)
    assert (len(got.orders), got.n_pixels, got.n_masked) == (28, 28 * 60, 0)
    np.testing.assert_array_equal(got.orders[2].wavelength, 8079.0 + 168 * 2 + 0.06 * np.arange(60))
    assert set(got.orders[0].flux) == {100.0}
    assert set(got.orders[0].error) == {5.0}  # the square root of a variance of 25
    meta = got.meta
    assert (meta["instrument"], meta["format"]) == ("HPF", "hpf (instrument team)")
    assert (meta["medium"], meta["resolving_power"]) == ("vacuum", 55000.0)
    assert (meta["object"], meta["date"]) == ("star", "2026-01-02T03:04:05")
    assert "Sky not subtracted." in meta["notes"]


def test_hpf_of_goldilocks_has_errors_not_variances(tmp_path, make_hpf):
    got = read_spectrum(make_hpf(tmp_path / "a.fits", kind="Error"), sky=None)
    assert set(got.orders[0].error) == {5.0}
    assert got.meta["format"] == "hpf (Goldilocks)"


@pytest.mark.parametrize("kind", ["Variance", "Error"])
def test_sky_is_subtracted_by_default_and_its_variance_added(tmp_path, make_hpf, kind):
    def slope(images):  # a sky that is linear in wavelength tells whether it is interpolated
        images["Sky Flux"] = images["Sky Wavl"] - 8000.0

    got = read_spectrum(make_hpf(tmp_path / "a.fits", kind=kind, change=slope))
    wavelength, flux, error = got.orders[3]
    # the first pixel lies beyond the first of the sky, whose value it takes; the flux of the file is float32
    np.testing.assert_allclose(flux[1:], 100 - (wavelength[1:] - 8000), rtol=0, atol=1e-9)
    weight = 1 / 6  # the sky is shifted by 0.01 of 0.06 angstrom
    np.testing.assert_allclose(error[1:], np.sqrt(25 + (weight**2 + (1 - weight) ** 2) * 1.0), rtol=1e-6)
    assert "Sky fibre subtracted, times 1." in got.meta["notes"]


def test_hpf_faults_are_masked(tmp_path, make_hpf):
    def blank(images):
        images["Sci Flux"][:, :4] = np.nan
        images["Sci Variance"][5, 10] = 0.0
        images["Sci Variance"][5, 11] = -1.0
        images["Sky Flux"][6, 30] = np.nan

    path = make_hpf(tmp_path / "a.fits", change=blank)
    without, got = read_spectrum(path, sky=None), read_spectrum(path)
    assert np.flatnonzero(np.isinf(without.orders[5].error)).tolist() == [0, 1, 2, 3, 10, 11]
    assert not np.isinf(without.orders[6].error[30])
    assert np.flatnonzero(np.isinf(got.orders[6].error)).tolist() == [0, 1, 2, 3, 30, 31]
    assert without.meta["notes"][-1] == (
        "114 pixels masked: 112 flux NaN or infinite, 2 error or variance not finite, zero or negative."
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": ["Sci Wavl"]}, "'Sci Wavl' is needed"),
        ({"drop": ["Sci Variance"]}, "'Sci Error' is needed|'Sky Error'"),
        ({"drop": ["Sky Flux"]}, "'Sky Flux' is needed"),
        ({"n_orders": 27}, "27 orders, but HPF has 28"),
        ({"change": lambda i: i.update({"Sci Flux": i["Sci Flux"][:, :50]})}, "one shape"),
        ({"change": lambda i: i.update({"Sci Flux": i["Sci Flux"][0]})}, "row for each order"),
        ({"change": lambda i: i.update({"Sci Wavl": i["Sci Wavl"] / 1e4})}, "in angstrom, between 7500"),
        ({"change": lambda i: i["Sci Wavl"].fill(np.nan)}, "nowhere finite"),
        ({"change": lambda i: i["Sci Flux"].fill(np.nan)}, "no good pixel"),
        ({"change": lambda i: i["Sci Wavl"].__setitem__((3, 30), 9000.0)}, "order 3, .*do not increase"),
    ],
)
def test_hpf_that_is_not_as_the_pipeline_writes_it(tmp_path, make_hpf, change, message):
    with pytest.raises(SpectrumFileError, match=rf"(?s)bad\.fits.*({message})"):
        read_spectrum(make_hpf(tmp_path / "bad.fits", **change))


def test_hpf_cut_short(tmp_path, make_hpf):
    path = make_hpf(tmp_path / "a.fits")
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(SpectrumFileError, match=r"a\.fits"):
            read_spectrum(path)


def test_a_negative_size_does_not_make_it_go_round_for_ever(tmp_path, make_hpf):
    path = make_hpf(tmp_path / "a.fits")
    whole = path.read_bytes()
    place = whole.index(b"NAXIS1  =                   60", 40000) + 27
    path.write_bytes(whole[:place] + b"-60" + whole[place + 3 :])
    with pytest.raises(SpectrumFileError, match=r"a\.fits"):
        read_spectrum(path)


@pytest.mark.parametrize("format", ["hpf", "igrins"])
def test_formats_of_pipelines_are_in_vacuum(tmp_path, make_hpf, make_igrins, format):
    path = make_hpf(tmp_path / "a.fits") if format == "hpf" else make_igrins(tmp_path)
    assert read_spectrum(path, medium="vacuum", format=format).meta["medium"] == "vacuum"
    with pytest.raises(ValueError, match=f"in vacuum by the format {format}"):
        read_spectrum(path, medium="air")
    other = "igrins" if format == "hpf" else "hpf"
    with pytest.raises(SpectrumFileError, match=r"is needed\. Pass the right file"):
        read_spectrum(path, format=other)


@pytest.mark.parametrize("kind", ["variance", "sn"])
def test_igrins_and_the_errors_beside_it(tmp_path, make_igrins, kind):
    got = read_spectrum(make_igrins(tmp_path, beside=[kind]))
    wavelength, flux, error = got.orders[0]
    np.testing.assert_allclose(wavelength, 18000 + 0.1 * np.arange(60), rtol=1e-14)  # micron in the file
    np.testing.assert_array_equal(flux, 0.5 * (400 + np.arange(60)))
    # the target has 4, and was divided by 2; of S/N, in a resolution element, the same comes out
    np.testing.assert_allclose(error, 2.0, rtol=1e-9)
    assert (got.meta["instrument"], got.meta["resolving_power"], got.meta["object"]) == ("IGRINS", 45000.0, "star")
    assert f"errors from SDCH_20260102_0003.{kind}.fits" in got.meta["notes"][0]


def test_igrins_with_variances_inside(tmp_path, make_igrins):
    got = read_spectrum(make_igrins(tmp_path, variance_inside=True))
    assert set(got.orders[0].error) == {3.0}
    assert "SPEC_DIVIDE_A0V_VARIANCE" in got.meta["notes"][0]


def test_igrins_with_the_file_of_errors_named(tmp_path, make_igrins):
    path = make_igrins(tmp_path, beside=["variance", "sn"], variance_inside=True)
    error_file = (tmp_path / "SDCH_20260102_0003.variance.fits").rename(tmp_path / "of_mine_variance.fits")
    assert set(read_spectrum(path, error_file=error_file).orders[0].error.round(9)) == {2.0}
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_spectrum(path, error_file=tmp_path / "nothing.variance.fits")
    with pytest.raises(SpectrumFileError, match=r"must end in 'variance\.fits' or 'sn\.fits'"):
        read_spectrum(path, error_file=error_file.rename(tmp_path / "errors.fits"))


def test_igrins_padding_is_trimmed(tmp_path, make_igrins):
    def pad(images, errors):
        images["WAVELENGTH"][1, 40:] = 0.0
        images["WAVELENGTH"][2, :5] = np.nan
        images["SPEC_DIVIDE_A0V"][0, 3] = np.nan
        errors["variance"][0, 7] = 0.0

    got = read_spectrum(make_igrins(tmp_path, change=pad))
    assert [len(order.flux) for order in got.orders] == [60, 40, 55]
    assert np.flatnonzero(np.isinf(got.orders[0].error)).tolist() == [3, 7]
    assert "25 pixels without increasing wavelengths trimmed" in got.meta["notes"][-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beside": []}, "no SDCH_20260102_0003.variance.fits or SDCH_20260102_0003.sn.fits in its folder"),
        ({"drop": ["WAVELENGTH"]}, "'WAVELENGTH' is needed"),
        ({"drop": ["TGT_SPEC"]}, "no extension 'TGT_SPEC'"),
        ({"change": lambda i, e: e.update(variance=e["variance"][:2])}, r"\(2, 60\), but .* 3 orders of 60"),
        ({"change": lambda i, e: i["WAVELENGTH"].__imul__(1e4)}, "in micron, between 1.3 and 2.6"),
        ({"change": lambda i, e: e["variance"].fill(0)}, "no good pixel"),
    ],
)
def test_igrins_that_is_not_as_the_pipeline_writes_it(tmp_path, make_igrins, options, message):
    path = make_igrins(tmp_path, **options)
    with pytest.raises(SpectrumFileError, match=rf"(?s)SDCH_20260102_0003\.(spec_a0v|variance)\.fits.*{message}"):
        read_spectrum(path)


@pytest.mark.parametrize("name", ["hpf_GJ699.fits", "hpf_goldilocks_A0V_HR4829.fits"])
def test_real_hpf(shared_data, name):
    path = shared_data.observed(name)
    got, without = read_spectrum(path), read_spectrum(path, sky=None)
    assert len(got.orders) == 28
    assert {len(order.flux) for order in got.orders} == {2048}
    assert got.meta["resolving_power"] == 55000.0
    for order in got.orders:
        assert np.isinf(order.error[[0, 1, 2, 3, -4, -3, -2, -1]]).all()  # reference pixels, blank in both formats
        assert np.isfinite(order.error).mean() > 0.97
    with fits.open(path) as hdus:
        number, pixel = 18, 1000
        values = [float(hdus[k].data[number, pixel]) for k in (1, 4, 7)]
    variance = values[1] if "GJ699" in name else values[1] ** 2
    wavelength, flux, error = without.orders[number]
    assert (flux[pixel], wavelength[pixel]) == (values[0], values[2])
    assert error[pixel] ** 2 == pytest.approx(variance, rel=1e-12)
    assert got.orders[number].flux[pixel] != flux[pixel]
    assert got.orders[number].error[pixel] > error[pixel]


def test_the_sky_can_be_scaled(tmp_path, make_hpf):
    path = make_hpf(tmp_path / "a.fits")
    order = read_spectrum(path, sky_scale=0.5).orders[0]
    np.testing.assert_allclose(order.flux, 98.0)
    np.testing.assert_allclose(order.error[0], np.sqrt(25 + 0.25))
    for wrong in (0, -1, np.inf, np.nan):
        with pytest.raises(ValueError, match="`sky_scale`"):
            read_spectrum(path, sky_scale=wrong)


def test_subtracting_the_sky_removes_airglow(shared_data):
    """An emission line of OH, 7 % of the A0V star's light, goes."""
    path = shared_data.observed("hpf_goldilocks_A0V_HR4829.fits")
    number = 19
    wavelength = read_spectrum(path).orders[number].wavelength
    peak = int(np.argmin(np.abs(wavelength - 10834.25)))
    around = np.r_[peak - 20 : peak - 8, peak + 9 : peak + 21]

    def bump(**options):
        flux = read_spectrum(path, **options).orders[number].flux
        return flux[peak - 1 : peak + 2].mean() - np.median(flux[around])

    assert bump(sky=None) > 60
    assert abs(bump()) < 0.2 * bump(sky=None)
