"""What `fit` says about a grid with a fault."""

import warnings

import numpy as np
import pytest

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.exceptions import GridWarning, LineDetectionWarning

QUICK = VoigtLineDecomposer(n_rounds=0, subsample=6)
SCALE = PhoenixPreprocessor(peak_distance=40, degree=2)
SLOPE = 3e14 * np.linspace(1.1, 0.9, 400)


def fit(grid, flux, labels=None, **parameters):
    generator = SpectrumGenerator(wavelength=grid.wavelength, decomposer=QUICK, **parameters)
    return generator.fit(grid.labels if labels is None else labels, flux)


def changed(flux, row, pixels, value):
    flux = flux.copy()
    flux[row, pixels] = value
    return flux


@pytest.mark.parametrize("scale", [1e-200, 1e-17, 100, 1e6, 1e8, 1e14])
def test_absolute_fluxes_need_a_preprocessor(grid, scale):
    text = r"not normalised: spectrum 0 \(teff 5000, logg 3\.5, feh -0\.5\).*preprocessor=PhoenixPreprocessor"
    with pytest.raises(ValueError, match=text):
        fit(grid, scale * grid.flux)
    with pytest.raises(ValueError, match="not normalised: spectrum 0"):
        VoigtLineDecomposer(wavelength=grid.wavelength).fit(scale * grid.flux)
    regressor = BayesianStellarRegressor(generator=SpectrumGenerator(wavelength=grid.wavelength))
    with pytest.raises(ValueError, match="not normalised: spectrum 0"):
        regressor.fit(scale * grid.flux, grid.labels)


def test_a_preprocessor_that_does_not_normalise_is_named(grid):
    class Same(PhoenixPreprocessor):
        def transform(self, X, teff=None):
            return np.asarray(X)

        def fit_transform(self, X, y=None, teff=None):
            return self.fit(X, teff=teff).transform(X)

    text = r"not normalised by Same: spectrum 0 \(teff 5000, .*parameters of the preprocessor"
    with pytest.raises(ValueError, match=text) as caught:
        fit(grid, SLOPE * grid.flux, preprocessor=Same(peak_distance=40, degree=2))
    assert "preprocessor=" not in str(caught.value)


def test_a_wild_pixel_names_the_node(grid):
    text = r"spectrum 5 \(teff 5000, logg 4\.5, feh 0\) has a flux of 1e\+10 at 8502\.00 angstrom"
    with pytest.raises(ValueError, match=text):
        fit(grid, changed(grid.flux, 5, 40, 1e10))


def test_a_bad_spectrum_is_named_without_its_neighbours(grid):
    text = r"predict: \(teff 5250, logg 4, feh -0\.5\) does not fit its neighbours\. Check"
    with pytest.warns(GridWarning, match=text):
        fit(grid, changed(grid.flux, 8, slice(200, None), 1.0))


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e160])
def test_with_one_they_may_have_any_scale(grid, scale):
    want = fit(grid, SLOPE * grid.flux, preprocessor=SCALE).predict([[5300.0, 3.8, -0.2]])
    got = fit(grid, scale * SLOPE * grid.flux, preprocessor=SCALE).predict([[5300.0, 3.8, -0.2]])
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)  # rounding of the fits


@pytest.mark.parametrize(("value", "text"), [(0.0, "is zero"), (-1.0, "zero or negative"), (0.3, r"same number, 0\.3")])
def test_a_stretch_without_light(grid, value, text):
    text = rf"spectrum 5 \(teff 5000, logg 4\.5, feh 0\) .*{text}.* 8510\.00 to 8519\.95 angstrom"
    with pytest.raises(ValueError, match=text):
        fit(grid, changed(grid.flux, 5, slice(200, None), value))
    with pytest.raises(ValueError, match=text):
        fit(grid, changed(SLOPE * grid.flux, 5, slice(200, None), value), preprocessor=SCALE)
    with pytest.raises(ValueError, match="spectrum 5"):
        VoigtLineDecomposer(wavelength=grid.wavelength).fit(changed(grid.flux, 5, slice(200, None), value))


def test_outside_the_window_of_the_preprocessor_it_does_no_harm(grid):
    scale = PhoenixPreprocessor(peak_distance=40, degree=0, window=(8500.0, 8509.0))
    fit(grid, changed(SLOPE * grid.flux, 5, slice(200, None), 0.0), preprocessor=scale)


def test_a_node_given_twice(grid):
    labels = np.vstack([grid.labels, grid.labels[3:4]])
    with pytest.raises(ValueError, match=r"teff 5000, logg 4, feh 0 is given 2 times, in rows 3, 24"):
        fit(grid, np.vstack([grid.flux, grid.flux[4:5]]), labels)
    with pytest.warns(GridWarning, match="given more than once, with the same spectrum"):
        twice = fit(grid, np.vstack([grid.flux, grid.flux[3:4]]), labels)
    between = [[5120.0, 3.7, -0.35]]
    # the catalogue and the components of the residuals may differ a little
    np.testing.assert_allclose(twice.predict(between), fit(grid, grid.flux).predict(between), rtol=0, atol=2e-3)


def test_a_copied_spectrum_names_both_nodes(grid):
    flux = grid.flux.copy()
    flux[5] = flux[9]
    text = r"exactly the same spectrum: \(teff 5000, logg 4\.5, feh 0\) and \(teff 5250, logg 4, feh 0\)\."
    with pytest.warns(GridWarning, match=text) as caught:
        fit(grid, flux)
    assert len(caught) == 1


def test_swapped_spectra_name_both_nodes(grid):
    flux = grid.flux.copy()
    flux[[8, 9]] = flux[[9, 8]]
    text = r"\(teff 5250, logg 4, feh -0\.5\) and \(teff 5250, logg 4, feh 0\) seem to be swapped"
    with pytest.warns(GridWarning, match=text) as caught:
        fit(grid, flux)
    assert len(caught) == 1


def test_a_label_without_effect_is_no_fault(grid):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(grid, np.repeat(grid.flux[::2], 2, axis=0))
    with pytest.warns(LineDetectionWarning) as caught:
        fit(grid, np.ones_like(grid.flux))
    assert not any(issubclass(warning.category, GridWarning) for warning in caught)
