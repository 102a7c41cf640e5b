"""Spectra of muler, the real package where it is installed, and of stand-ins that are made as muler makes them."""

import shutil
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import StdDevUncertainty

from stellarhml.spectra import ObservedSpectrum, read_spectrum
from stellarhml.spectra.conversion import as_observed_spectrum

specutils = pytest.importorskip("specutils")
Spectrum = getattr(specutils, "Spectrum", None) or specutils.Spectrum1D


@pytest.fixture(scope="module")
def muler_hpf():
    """The module muler.hpf."""
    with warnings.catch_warnings():  # it and its dependencies use what others deprecate
        warnings.simplefilter("ignore")
        try:
            import muler.hpf
        except ImportError as error:
            # muler 0.5 does not declare astroquery and tynt, which it imports
            pytest.skip(f'needs muler, from pip install "stellarhml[muler]" ({error})')
        return muler.hpf


@pytest.mark.parametrize(
    ("name", "named"),
    # muler tells the two pipelines apart by the names that they give to their files
    [("hpf_goldilocks_A0V_HR4829.fits", "Goldilocks_HR4829.fits"), ("hpf_GJ699.fits", "Slope-GJ699.fits")],
)
def test_spectra_of_hpf_go_in_as_they_are(muler_hpf, shared_data, tmp_path, name, named):
    path = shared_data.DATA / "observed" / name
    shutil.copyfile(path, tmp_path / named)
    with warnings.catch_warnings():  # it leaves the file open
        warnings.simplefilter("ignore")
        spectra = muler_hpf.HPFSpectrumList.read(str(tmp_path / named))
        got = ObservedSpectrum.from_specutils(spectra, medium="vacuum")
    wanted = read_spectrum(path, sky=None)
    inferred, _ = as_observed_spectrum(spectra)  # what `infer` makes of the same objects
    for order, same in zip(inferred.orders, wanted.orders, strict=True):
        np.testing.assert_array_equal(order.wavelength, same.wavelength)
        np.testing.assert_array_equal(np.isinf(order.error), np.isinf(same.error))
    assert got.meta["instrument"] == "HPF"
    assert got.meta["object"] == wanted.meta["object"]
    assert len(got.orders) == 28
    for order, same in zip(got.orders, wanted.orders, strict=True):
        np.testing.assert_array_equal(order.wavelength, same.wavelength)
        masked = np.isinf(order.error)
        np.testing.assert_array_equal(masked, np.isinf(same.error))
        np.testing.assert_allclose(order.flux[~masked], same.flux[~masked], rtol=1e-6)  # of float32
        np.testing.assert_allclose(order.error[~masked], same.error[~masked], rtol=1e-6)


def test_what_muler_did_to_a_spectrum_stays(muler_hpf, shared_data, tmp_path):
    path = tmp_path / "Goldilocks_HR4829.fits"
    shutil.copyfile(shared_data.DATA / "observed" / "hpf_goldilocks_A0V_HR4829.fits", path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spectrum = muler_hpf.HPFSpectrum(file=str(path), order=5)
        cleaned = spectrum.remove_nans().trim_edges().normalize()
        got = ObservedSpectrum.from_specutils(cleaned, medium="vacuum")
    (order,) = got.orders
    assert len(order.wavelength) == len(cleaned.flux) < 2048
    np.testing.assert_array_equal(order.wavelength, cleaned.spectral_axis.to_value("angstrom"))
    np.testing.assert_allclose(order.flux, cleaned.flux.value)
    assert np.median(order.flux) == pytest.approx(1, abs=0.1)


class _Stands(Spectrum):
    """A subclass with more in its meta, among it other spectra, as muler has them."""


def test_a_subclass_with_spectra_in_its_meta():
    x, flux = 8600 + 0.1 * np.arange(5), np.arange(5.0)
    error = np.array([0, 1, 1, np.nan, 1.0])
    mask = np.isnan(flux) | np.isnan(error) | (error <= 0)
    parts = {"spectral_axis": x * u.AA, "flux": flux * u.ct, "uncertainty": StdDevUncertainty(error), "mask": mask}
    meta = {"header": {"INSTRUME": "HPF", "OBJECT": "star"}, "m": 5, "sky": _Stands(**parts), "pipeline": "HPF"}
    got = ObservedSpectrum.from_specutils([_Stands(**parts, meta=meta)], medium="vacuum")
    assert np.isinf(got.orders[0].error).tolist() == mask.tolist()
    assert (got.meta["instrument"], got.meta["object"]) == ("HPF", "star")
    assert got.meta["flux_unit"] == "ct"
