"""PhoenixPreprocessor: black body, percentile, continuum, window, and what it refuses."""

import warnings

import numpy as np
import pytest
from numpy.polynomial import Polynomial
from scipy.signal import find_peaks
from sklearn.base import clone

from stellarhml import PhoenixPreprocessor
from stellarhml.exceptions import ContinuumWarning, WavelengthCoverageError
from stellarhml.physics.blackbody import blackbody_flux

N_PIXELS = 1200
LAM = 8500 + 0.05 * np.arange(N_PIXELS)
X = np.linspace(-1, 1, N_PIXELS)


def raw_spectra(n_spectra=5, seed=0):
    """Lines that deepen from spectrum to spectrum, over a sloping continuum, in units of no meaning."""
    rng = np.random.default_rng(seed)
    centers, depths = rng.uniform(LAM[0], LAM[-1], 60), rng.uniform(0.05, 0.5, 60)
    flux = np.ones((n_spectra, N_PIXELS))
    for k in range(n_spectra):
        for center, depth in zip(centers, depths, strict=True):
            flux[k] *= 1 - depth * (1 + 0.3 * k) / (1 + 0.3 * n_spectra) / (1 + ((LAM - center) / 0.15) ** 2)
        flux[k] *= 3e14 * (1 + 0.2 * X + 0.1 * k * X**2)
    return flux


def quiet(**parameters):
    return PhoenixPreprocessor(wavelength=LAM, **{"peak_distance": 101, **parameters})


def test_black_body_is_divided_where_teff_is_known():
    teff = np.array([4500.0, np.nan, 6000.0])
    planck = np.stack([blackbody_flux(LAM, 4500.0), np.ones(N_PIXELS), blackbody_flux(LAM, 6000.0)])
    lines = raw_spectra(3) / 3e14
    got = quiet(continuum="none").fit_transform(lines * planck, teff=teff)
    # what remains is the spectrum over its own percentile
    np.testing.assert_allclose(got, lines / np.percentile(lines, 99, axis=1, keepdims=True), rtol=1e-12)
    # None stands for unknown too
    as_none = quiet(continuum="none").fit_transform(lines * planck, teff=[4500.0, None, 6000.0])
    np.testing.assert_array_equal(as_none, got)
    # and transform divides by it where it is told, not where fit was
    fitted = quiet(continuum="none").fit(lines)
    np.testing.assert_array_equal(fitted.transform(lines * planck, teff=teff), got)
    assert np.abs(fitted.transform(lines * planck) - got).max() > 0.005


@pytest.mark.parametrize("percentile", [50, 90, 100])
def test_percentile_becomes_one(percentile):
    got = quiet(continuum="none", percentile=percentile).fit_transform(raw_spectra())
    np.testing.assert_allclose(np.percentile(got, percentile, axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("continuum", ["shared", "each"])
def test_result_does_not_depend_on_the_scale_of_the_flux(continuum):
    flux = raw_spectra()
    base = quiet(continuum=continuum).fit_transform(flux)
    np.testing.assert_allclose(quiet(continuum=continuum).fit_transform(flux * 1e-20), base, rtol=1e-11)


def test_percentile_changes_nothing_before_a_continuum_of_each():
    # the authors' own finding (DESIGN.md, section 2); shared maxima are those of a mean, in which it is a weight
    flux = raw_spectra()
    base = quiet(continuum="each").fit_transform(flux)
    np.testing.assert_allclose(quiet(continuum="each", percentile=70).fit_transform(flux), base, rtol=1e-11)


@pytest.mark.parametrize("anchor_width", [1, 5])
def test_shared_continuum_is_linear_in_the_flux(anchor_width):
    flux = raw_spectra()
    fitted = quiet(anchor_width=anchor_width).fit(flux)
    first, second = flux[1], flux[4]
    mixture = 0.3 * first + 0.7 * second
    normalised = fitted.transform(np.stack([first, second, mixture]))
    continuum = np.stack([first, second, mixture]) / normalised
    np.testing.assert_allclose(continuum[2], 0.3 * continuum[0] + 0.7 * continuum[1], rtol=1e-11)
    # which is not so with maxima of each spectrum's own
    own = np.stack([first, second, mixture]) / quiet(continuum="each").fit(flux).transform(
        np.stack([first, second, mixture])
    )
    assert np.abs(own[2] / (0.3 * own[0] + 0.7 * own[1]) - 1).max() > 1e-6


def test_continuum_of_each_equals_peaks_and_polyfit():
    # gollum: peaks of the flux at least so many pixels apart, then np.polyfit through them
    flux = raw_spectra()
    got = quiet(continuum="each", degree=4).fit_transform(flux)
    for row, normalised in zip(flux, got, strict=True):
        peaks = find_peaks(row, distance=101)[0]
        continuum = Polynomial.fit(LAM[peaks], row[peaks], 4)(LAM)
        np.testing.assert_allclose(normalised, row / continuum, rtol=1e-9)


def test_shared_continuum_is_the_polynomial_through_the_maxima_of_the_mean():
    flux = raw_spectra()
    fitted = quiet(degree=3).fit(flux)
    scaled = flux / np.percentile(flux, 99, axis=1, keepdims=True)
    anchors = find_peaks(scaled.mean(axis=0), distance=101)[0]
    np.testing.assert_array_equal(fitted.anchors_, anchors)
    for row, normalised in zip(flux, fitted.transform(flux), strict=True):
        continuum = Polynomial.fit(LAM[anchors], row[anchors], 3)(LAM)
        np.testing.assert_allclose(normalised, row / continuum, rtol=1e-9)


def test_an_exact_polynomial_continuum_is_taken_out():
    # anchors free of absorption on a polynomial of the fitted degree: the continuum is exactly one there
    continuum = 2 + 0.5 * X - 0.3 * X**2 + 0.2 * X**3
    notch = np.ones(N_PIXELS)
    notch[50::100] = 0.4
    bump = np.zeros(N_PIXELS)
    bump[20::100] = 0.1  # maxima to hold on to
    got = quiet(degree=3, peak_distance=90).fit_transform((continuum * (notch + bump))[None])
    np.testing.assert_allclose(got[0], (notch + bump) / 1.1, rtol=1e-11)


def test_shared_maxima_vary_more_smoothly_with_the_labels_than_each_spectrums_own():
    # two rows of maxima of nearly equal height, one of which wins at low temperature and the other at high: each
    # spectrum's own set of maxima changes over half-way
    heat = np.linspace(0, 1, 21)
    flux = np.empty((len(heat), N_PIXELS))
    wiggle = np.sin(2 * np.pi * np.arange(N_PIXELS) / 60)
    tilt = np.where(np.arange(N_PIXELS) % 120 < 60, 1.0, -1.0)
    for k, t in enumerate(heat):
        flux[k] = (
            1 - 0.1 * (1 - wiggle) * (1 + 0.3 * (t - 0.5) * tilt * (1 + X)) + 0.05 * (t - 0.5) * tilt * (wiggle > 0)
        )

    def roughness(continuum):
        normalised = quiet(continuum=continuum, degree=5, peak_distance=110).fit_transform(flux)
        return np.abs(np.diff(normalised, n=2, axis=0)).max()

    assert roughness("each") > 5 * roughness("shared")


def test_window_crops_before_anything_else():
    flux = raw_spectra()
    window = (8510.0, 8540.02)
    inside = (window[0] <= LAM) & (window[1] >= LAM)
    got = quiet(window=window).fit(flux)
    np.testing.assert_array_equal(got.wavelength_out_, LAM[inside])
    np.testing.assert_array_equal(
        got.transform(flux),
        PhoenixPreprocessor(wavelength=LAM[inside], peak_distance=101).fit_transform(flux[:, inside]),
    )
    assert got.get_feature_names_out()[0] == f"{LAM[inside][0]:.3f}"
    assert len(got.get_feature_names_out()) == inside.sum()


def test_ends_of_the_window_are_included():
    fitted = quiet(window=(LAM[3], LAM[900]), continuum="none").fit(raw_spectra())
    assert (fitted.wavelength_out_[0], fitted.wavelength_out_[-1]) == (LAM[3], LAM[900])


@pytest.mark.parametrize("window", [(9000.0, 9100.0), (100.0, 200.0), (8540.0, 8510.0), (8510.01, 8510.02)])
def test_window_without_a_pixel_is_refused(window):
    with pytest.raises(WavelengthCoverageError, match="overlaps"):
        quiet(window=window).fit(raw_spectra())


def test_unsorted_wavelengths_are_refused():
    shuffled = LAM.copy()
    shuffled[[10, 11]] = shuffled[[11, 10]]
    with pytest.raises(ValueError, match=r"increase strictly, but pixel 11 .* np.argsort"):
        PhoenixPreprocessor(wavelength=shuffled).fit(raw_spectra())
    with pytest.raises(ValueError, match="increase strictly"):
        PhoenixPreprocessor(wavelength=np.repeat(LAM[::2], 2)).fit(raw_spectra())


def test_wavelengths_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"`wavelength` has shape \(1199,\) but X has 1200 pixels"):
        PhoenixPreprocessor(wavelength=LAM[1:]).fit(raw_spectra())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_flux_that_is_not_finite_is_refused(bad):
    flux = raw_spectra()
    fitted = quiet().fit(flux)
    flux[2, 7] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        quiet().fit(flux)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        fitted.transform(flux)


def test_wavelengths_that_are_not_finite_are_refused():
    lam = LAM.copy()
    lam[5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        PhoenixPreprocessor(wavelength=lam).fit(raw_spectra())


def test_teff_needs_wavelengths():
    with pytest.raises(ValueError, match="black body needs wavelengths"):
        PhoenixPreprocessor(peak_distance=101).fit(raw_spectra(), teff=np.full(5, 5000.0))


@pytest.mark.parametrize("teff", [np.full(4, 5000.0), np.zeros(5), np.full((5, 1), 5000.0), 5000.0])
def test_teff_of_wrong_shape_or_sign_is_refused(teff):
    fitted = quiet().fit(raw_spectra())
    with pytest.raises(ValueError, match="one positive temperature in K"):
        fitted.transform(raw_spectra(), teff=teff)


def test_too_few_maxima_lower_the_degree_with_a_warning():
    flux = raw_spectra()
    with pytest.warns(ContinuumWarning, match=r"too few for degree=5: degree \d is used. Lower `peak_distance`"):
        few = PhoenixPreprocessor(wavelength=LAM, peak_distance=400).fit(flux)
    assert len(few.anchors_) <= 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ContinuumWarning)
        np.testing.assert_array_equal(
            few.transform(flux), clone(few).set_params(degree=len(few.anchors_) - 1).fit(flux).transform(flux)
        )


def test_flux_without_a_positive_continuum_is_counted_and_left_in_its_shape():
    flux = raw_spectra()
    fitted = quiet().fit(flux)
    flux[1] *= -1
    flux[3] = 0
    with pytest.warns(ContinuumWarning, match="2 of 5 spectra have no positive continuum"):
        got = fitted.transform(flux)
    np.testing.assert_allclose(got[1], flux[1] / np.abs(flux[1]).max(), rtol=1e-12)
    np.testing.assert_array_equal(got[3], 0)
    np.testing.assert_array_equal(got[[0, 2, 4]], fitted.transform(flux[[0, 2, 4]]))


@pytest.mark.parametrize(
    "percentile",
    [
        100,
        50,
    ],
)
def test_a_polynomial_that_dips_below_zero_is_said_too(percentile):
    # positive flux, but the straight line through the maxima of the blue half falls below zero in the red
    flux = np.full((1, 200), 1.0)
    flux[0, 10:61:25] = [100.0, 60.0, 20.0]
    scaler = PhoenixPreprocessor(degree=1, peak_distance=10, percentile=percentile).fit(flux)
    with pytest.warns(ContinuumWarning, match="1 of 1 spectra have no positive continuum"):
        got = scaler.transform(flux)
    np.testing.assert_allclose(got[0], flux[0] / 100, rtol=1e-12)


def test_each_spectrum_is_treated_alone_once_fitted():
    flux = raw_spectra()
    fitted = quiet(continuum="each").fit(flux)
    np.testing.assert_array_equal(fitted.transform(flux)[[3, 1]], fitted.transform(flux[[3, 1]]))


def test_single_precision_stays_and_is_computed_in_double():
    flux = raw_spectra()
    single = quiet().fit_transform(flux.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, quiet().fit_transform(flux), rtol=1e-6)  # rounding of input and output


def test_pandas_output_is_labelled_by_wavelength():
    frame = quiet().set_output(transform="pandas").fit_transform(raw_spectra())
    assert list(frame.columns[:2]) == ["8500.000", "8500.050"]


def test_inverse_transform_keeps_normalised_flux():
    fitted = quiet().fit(raw_spectra())
    normalised = fitted.transform(raw_spectra())
    np.testing.assert_array_equal(fitted.inverse_transform(normalised), normalised)
