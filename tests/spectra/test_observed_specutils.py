import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from spectra.archive_files import make_image

from stellarhml.exceptions import SpectrumFileError
from stellarhml.physics.wavelength import vacuum_to_air
from stellarhml.spectra import ObservedSpectrum, read_spectrum

specutils = pytest.importorskip("specutils")
Spectrum = getattr(specutils, "Spectrum", None) or specutils.Spectrum1D

WAVE = 5000 + 0.1 * np.arange(6)
FLUX = np.linspace(1, 2, 6)
ERROR = np.linspace(0.1, 0.2, 6)
JY = u.Jy


def _read(axis=WAVE * u.AA, medium="vacuum", **more):
    more.setdefault("flux", FLUX * JY)
    return ObservedSpectrum.from_specutils(Spectrum(spectral_axis=axis, **more), medium=medium)


def test_there_and_back_is_exact():
    error = np.where(np.arange(6) == 2, np.inf, ERROR)
    meta = {"flux_unit": "Jy", "order_numbers": [4, 5], "object": "star", "resolving_power": 55000.0}
    spectrum = ObservedSpectrum([(WAVE, FLUX, error), (WAVE + 1, FLUX, ERROR)], meta)
    spectra = spectrum.to_specutils()
    assert [one.meta["order"] for one in spectra] == [4, 5]
    assert spectra[0].spectral_axis.unit == u.AA
    assert spectra[0].flux.unit == JY
    assert isinstance(spectra[0].uncertainty, StdDevUncertainty)
    assert spectra[0].mask.tolist() == [False, False, True, False, False, False]
    again = ObservedSpectrum.from_specutils(specutils.SpectrumList(spectra), medium="vacuum")
    for a, b in zip(again.orders, spectrum.orders, strict=True):
        for part, whole in zip(a, b, strict=True):
            np.testing.assert_array_equal(part, whole)
    assert again.meta["flux_unit"] == "Jy"
    assert again.meta["object"] == "star"
    assert (again.meta["order_numbers"], again.meta["resolving_power"]) == ([4, 5], 55000.0)


@pytest.mark.parametrize(
    "uncertainty",
    [
        StdDevUncertainty(ERROR),
        StdDevUncertainty(1000 * ERROR * u.mJy),
        VarianceUncertainty(ERROR**2),
        VarianceUncertainty(1e6 * ERROR**2 * u.mJy**2),
        InverseVariance(ERROR**-2.0),
        InverseVariance(1e-6 * ERROR**-2.0 / u.mJy**2),
    ],
)
def test_kinds_of_uncertainty(uncertainty):
    got = _read(uncertainty=uncertainty)
    np.testing.assert_allclose(got.orders[0].error, ERROR, rtol=1e-14)  # a few roundings
    assert got.meta["errors_known"]


def test_no_weight_is_a_mask():
    got = _read(uncertainty=InverseVariance(np.array([0, 1, 4, -1, np.nan, 1])))
    assert got.orders[0].error.tolist() == [np.inf, 1, 0.5, np.inf, np.inf, 1]


def test_units_of_the_axis():
    for axis in (WAVE / 10 * u.nm, WAVE / 1e4 * u.um, (WAVE * u.AA).to(u.THz, u.spectral())[::-1]):
        flux = FLUX if axis.unit != u.THz else FLUX[::-1]
        got = _read(axis, flux=flux * JY)
        np.testing.assert_allclose(got.orders[0].wavelength, WAVE, rtol=1e-14)
        np.testing.assert_allclose(got.orders[0].flux, FLUX)


def test_air_and_the_need_to_say_it():
    got = _read(vacuum_to_air(WAVE) * u.AA, medium="air")
    np.testing.assert_allclose(got.orders[0].wavelength, WAVE, rtol=1e-14)
    assert got.meta["medium"] == "air"
    with pytest.raises(ValueError, match="`medium` is None"):
        ObservedSpectrum.from_specutils(Spectrum(spectral_axis=WAVE * u.AA, flux=FLUX * JY))
    with pytest.raises(ValueError, match="`medium` is None"):
        _read(medium=None)
    with pytest.raises(ValueError, match="same in air and vacuum"):
        _read((WAVE * u.AA).to(u.THz, u.spectral())[::-1], medium="air")


def test_rows_are_orders_and_units_are_those_of_the_first():
    both = Spectrum(spectral_axis=WAVE * u.AA, flux=np.stack([FLUX, 2 * FLUX]) * JY)
    other = Spectrum(spectral_axis=WAVE * u.AA, flux=3000 * FLUX * u.mJy)
    got = ObservedSpectrum.from_specutils([both, other], medium="vacuum", resolving_power=1000)
    for k, order in enumerate(got.orders, start=1):
        np.testing.assert_allclose(order.flux, k * FLUX)
    assert not got.meta["errors_known"]
    assert got.meta["resolving_power"] == 1000
    assert "No errors given" in got.meta["notes"][-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axis": np.arange(1.0, 7) * u.km / u.s}, "spectral axis in km / s, but a length"),
        ({"uncertainty": UnknownUncertainty(ERROR)}, "kind UnknownUncertainty"),
        ({"flux": FLUX * np.nan * JY}, "no good pixel"),
    ],
)
def test_what_cannot_be_converted(change, message):
    with pytest.raises(ValueError, match=message):
        _read(**change)


def test_fluxes_that_do_not_convert():
    spectra = [Spectrum(spectral_axis=WAVE * u.AA, flux=FLUX * unit) for unit in (JY, u.ct)]
    with pytest.raises(ValueError, match="fluxes in ct and in Jy"):
        ObservedSpectrum.from_specutils(spectra, medium="vacuum")
    for wrong in ([], [1], WAVE):
        with pytest.raises(ValueError, match="is needed"):
            ObservedSpectrum.from_specutils(wrong, medium="vacuum")


def test_read_by_specutils_where_asked(tmp_path):
    from astropy.table import QTable

    path = tmp_path / "star.fits"
    spectrum = Spectrum(spectral_axis=WAVE * u.AA, flux=FLUX * JY, uncertainty=StdDevUncertainty(ERROR))
    spectrum.write(path, format="tabular-fits")
    got = read_spectrum(path, format="specutils", medium="vacuum")
    np.testing.assert_allclose(got.orders[0].wavelength, WAVE)
    np.testing.assert_allclose(got.orders[0].error, ERROR)
    assert got.meta["file"] == str(path)
    QTable({"a": [1, 2]}).write(tmp_path / "other.fits")
    with pytest.raises(SpectrumFileError, match=r"other\.fits cannot be read by specutils"):
        read_spectrum(tmp_path / "other.fits", format="specutils", medium="vacuum")
    with pytest.raises(ValueError, match="`medium` is None"):
        read_spectrum(path, format="specutils")


def _stating(header, k=0):
    return Spectrum(spectral_axis=(WAVE + 10 * k) * u.AA, flux=FLUX * JY, meta={"header": header})


@pytest.mark.parametrize(
    ("what", "first", "second"),
    [
        ("medium", {"AIRORVAC": "vac"}, {"AIRORVAC": "air"}),
        ("frame", {"AIRORVAC": "vac", "SPECSYS": "TOPOCENT"}, {"AIRORVAC": "vac", "SPECSYS": "BARYCENT"}),
        ("frame", {"AIRORVAC": "vac", "SPECSYS": "TOPOCENT"}, {"AIRORVAC": "vac"}),
    ],
)
def test_the_headers_of_all_orders_are_read(what, first, second):
    from stellarhml.spectra.conversion import as_observed_spectrum

    spectra = [_stating(first), _stating(first, 1), _stating(second, 2)]
    for convert in (ObservedSpectrum.from_specutils, as_observed_spectrum):
        with pytest.raises(ValueError, match=f"the {what} of the wavelengths is .* for order 0 and .* for order 2"):
            convert(spectra)
    agreeing = ObservedSpectrum.from_specutils(spectra[:2])
    assert agreeing.meta["frame"] == ("telescope" if "SPECSYS" in first else None)


@pytest.mark.parametrize("header", ["text", [{"AIRORVAC": "air"}], {1: 2}, {(1, 2): "x"}, 3.5])
def test_a_header_that_is_none_is_ignored(header):
    spectrum = Spectrum(spectral_axis=WAVE * u.AA, flux=FLUX * JY, meta={"header": header, 3: "X"})
    assert ObservedSpectrum.from_specutils(spectrum, medium="vacuum").meta["frame"] is None


def test_a_header_of_astropy_is_read():
    from astropy.io import fits

    header = fits.Header({"AIRORVAC": "air"})
    header.add_comment("one")
    header.add_comment("two")
    assert ObservedSpectrum.from_specutils(_stating(header)).meta["medium"] == "air"


def test_a_file_that_needs_no_specutils_is_said(tmp_path):
    path = make_image(tmp_path / "i.fits", 8500 + 0.1 * np.arange(50), np.ones(50), axis="loglam")
    with pytest.raises(SpectrumFileError, match="leave `format` out"):
        read_spectrum(path, format="specutils", medium="vacuum")
    (tmp_path / "star.txt").write_text("# wavelength flux\n" + "".join(f"{x} 1.0\n" for x in range(8500, 8510)))
    with pytest.raises(SpectrumFileError, match="leave `format` out"):
        read_spectrum(tmp_path / "star.txt", format="specutils", medium="vacuum")
