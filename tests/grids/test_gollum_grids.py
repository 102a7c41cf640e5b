import gc
import sys
import warnings

import numpy as np
import pytest
from astropy.utils.exceptions import AstropyDeprecationWarning

from stellarhml.datasets import load_phoenix
from stellarhml.grids.gollum_grids import from_gollum, to_gollum


@pytest.fixture(scope="module")
def gollum():
    """The module gollum.phoenix; its import sets warning filters for the whole process, which are undone here."""
    pytest.importorskip("gollum")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import gollum.phoenix
    return gollum.phoenix


def _read(cls, folder, **selection):
    """A spectrum or grid as gollum reads it; its class is deprecated in specutils, and it leaves its files open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyDeprecationWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        spectrum = cls(path=f"{folder}/", **selection)
        gc.collect()
    return spectrum


@pytest.mark.slow
def test_spectrum_list_and_grid_equal_the_files(gollum, phoenix_folder):
    ours = load_phoenix(phoenix_folder, teff=[5100, 5200], feh=0.0)
    # In the wrong order: rows must come out sorted.
    nodes = [(5200, 4.5, 0.0), (5100, 4.5, 0.0), (5200, 4.0, 0.0), (5100, 4.0, 0.0)]
    theirs = from_gollum([_read(gollum.PHOENIXSpectrum, phoenix_folder, teff=t, logg=g, Z=z) for t, g, z in nodes])
    np.testing.assert_array_equal(theirs.flux.astype(np.float32), ours.flux)
    np.testing.assert_array_equal(theirs.labels, ours.labels)
    np.testing.assert_array_equal(theirs.wavelength, ours.wavelength)
    assert theirs.missing.shape == (0, 3)
    assert not theirs.normalised

    one = from_gollum(_read(gollum.PHOENIXSpectrum, phoenix_folder, teff=5100, logg=4.5, Z=0.0))
    np.testing.assert_array_equal(one.flux, theirs.flux[1:2])

    limits = {"teff_range": (5100, 5200), "logg_range": (4.0, 4.5), "Z_range": (-0.1, 0.1)}
    grid = _read(gollum.PHOENIXGrid, phoenix_folder, **limits)
    np.testing.assert_array_equal(from_gollum(grid).flux, theirs.flux)
    np.testing.assert_array_equal(from_gollum(grid).labels, theirs.labels)


def test_missing_nodes_are_listed(gollum, phoenix_folder):
    nodes = [(5100, 4.0), (5100, 4.5), (5200, 4.0)]
    data = from_gollum([_read(gollum.PHOENIXSpectrum, phoenix_folder, teff=t, logg=g) for t, g in nodes])
    assert data.missing.tolist() == [[5200, 4.5, 0.0]]


@pytest.mark.parametrize("normalised", [True, False])
def test_there_and_back(gollum, normalised):
    wavelength = np.linspace(8500, 8510, 6)
    flux = np.arange(12.0).reshape(2, 6)
    labels = np.array([[5000, 4.0, -0.5], [5123.5, 4.1, 0.0]])
    spectra = to_gollum(wavelength, flux, labels, normalised=normalised)
    assert all(isinstance(spectrum, gollum.PHOENIXSpectrum) for spectrum in spectra)
    assert (spectra[1].teff, spectra[1].logg, spectra[1].Z) == (5123.5, 4.1, 0.0)
    assert spectra[0].flux.unit.to_string() == ("" if normalised else "erg / (s cm3)")
    back = from_gollum(spectra)
    np.testing.assert_array_equal(back.flux, flux)
    np.testing.assert_array_equal(back.labels, labels)
    np.testing.assert_array_equal(back.wavelength, wavelength)
    assert back.normalised is normalised


def test_spectra_that_do_not_fit_together(gollum):
    wavelength, flux, labels = np.linspace(8500, 8510, 6), np.ones((1, 6)), [[5000, 4.0, 0.0]]
    absolute = to_gollum(wavelength, flux, labels, normalised=False)
    with pytest.raises(ValueError, match="mixes absolute and normalised"):
        from_gollum(absolute + to_gollum(wavelength, flux, labels, normalised=True))
    with pytest.raises(ValueError, match="wavelengths must be equal"):
        from_gollum(absolute + to_gollum(wavelength + 1, flux, labels, normalised=False))
    with pytest.raises(ValueError, match="is empty"):
        from_gollum([])
    del absolute[0].meta["logg"]
    with pytest.raises(ValueError, match="teff, logg, Z are needed"):
        from_gollum(absolute)
    with pytest.raises(ValueError, match=r"need \(1, 3\)"):
        to_gollum(wavelength, flux, [[5000, 4.0]], normalised=True)


def test_import_leaves_the_warning_filters_alone(gollum):
    before = list(warnings.filters)
    to_gollum([1.0, 2.0], [[1.0, 1.0]], [[5000, 4.0, 0.0]], normalised=True)
    assert warnings.filters == before


def test_without_gollum_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gollum.phoenix", None)
    with pytest.raises(ImportError, match=r'pip install "stellarhml\[gollum\]"'):
        to_gollum([1.0, 2.0], [[1.0, 1.0]], [[5000, 4.0, 0.0]], normalised=True)


def test_a_node_given_twice_or_without_light(gollum):
    wavelength = np.linspace(8500, 8510, 101)
    flux = np.stack([np.linspace(1, 2, 101), np.linspace(2, 1, 101)])
    labels = np.array([[5000.0, 4.0, 0.0], [5100.0, 4.0, 0.0]])
    with pytest.raises(ValueError, match=r"teff 5000, logg 4, feh 0 is given 2 times, .* different spectra"):
        from_gollum(to_gollum(wavelength, flux, labels[[0, 0]], normalised=False))
    flux[1, 40:] = 0
    with pytest.raises(ValueError, match=r"spectrum 1 \(teff 5100, logg 4, feh 0\) is zero from 8504\.00"):
        from_gollum(to_gollum(wavelength, flux, labels, normalised=False))
