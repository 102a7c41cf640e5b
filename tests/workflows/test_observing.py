import numpy as np
import pytest

from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.workflows.resampling import resample

TARGET = np.linspace(100.0, 110.0, 101)


def _line(wavelength):
    return 2.0 + 0.1 * wavelength


def test_same_pixels_are_kept_as_they_are():
    rng = np.random.default_rng(0)
    flux, error = rng.normal(5, 1, TARGET.size), rng.uniform(0.1, 0.2, TARGET.size)
    got = resample(TARGET, flux, error, TARGET)
    np.testing.assert_array_equal(got.flux, flux)
    # steps of linspace differ in their last bits, and errors follow the ratio of steps
    np.testing.assert_allclose(got.flux_error, error, rtol=1e-9)
    assert got.coverage == 1.0
    assert got.errors_known


def test_interpolation_is_linear_and_masks_what_is_not_covered():
    wavelength = np.arange(103.0, 120.0, 0.07)
    got = resample(wavelength, _line(wavelength), np.full(wavelength.size, 0.5), TARGET)
    covered = TARGET >= 103.0
    np.testing.assert_allclose(got.flux[covered], _line(TARGET[covered]), rtol=1e-12)
    np.testing.assert_array_equal(np.isinf(got.flux_error), ~covered)
    assert got.coverage == covered.mean()
    assert np.isfinite(got.flux).all()


def test_masked_pixels_mask_their_neighbourhood_only():
    wavelength = np.arange(99.0, 111.0, 0.25)
    flux, error = _line(wavelength), np.full(wavelength.size, 0.5)
    bad = np.argmin(abs(wavelength - 105.0))
    flux[bad], error[bad] = 0.0, np.inf
    got = resample(wavelength, flux, error, TARGET)
    touched = abs(TARGET - wavelength[bad]) < 0.25 - 1e-9
    np.testing.assert_array_equal(np.isinf(got.flux_error), touched)
    # the flux of 0 has gone into nothing
    np.testing.assert_allclose(got.flux, _line(TARGET), rtol=0.02)


def test_gaps_between_orders_are_not_bridged():
    wavelength = np.concatenate([np.arange(99.05, 104.0, 0.1), np.arange(106.05, 111.0, 0.1)])
    got = resample(wavelength, _line(wavelength), None, TARGET)
    inside = (TARGET > 103.95) & (TARGET < 106.05)
    np.testing.assert_array_equal(np.isinf(got.flux_error), inside)
    assert not got.errors_known


def test_coarser_pixels_share_their_noise():
    """Four target pixels for each of the spectrum's: a mean over them must not be twice as good as it is."""
    wavelength = np.arange(99.0, 111.0, 0.4)
    got = resample(wavelength, _line(wavelength), np.full(wavelength.size, 0.5), TARGET)
    np.testing.assert_allclose(got.flux_error, 0.5 * np.sqrt(4), rtol=1e-9)
    finer = np.arange(99.0, 111.0, 0.02)
    got = resample(finer, _line(finer), np.full(finer.size, 0.5), TARGET)
    np.testing.assert_allclose(got.flux_error, 0.5, rtol=1e-9)


@pytest.mark.parametrize(
    ("wavelength", "error"),
    [
        (TARGET + 50, None),
        (TARGET - 50, None),
        (TARGET, np.full(TARGET.size, np.inf)),
        (TARGET[:1], None),
        (TARGET[:0], None),
    ],
)
def test_nothing_in_common_is_an_error(wavelength, error):
    with pytest.raises(WavelengthCoverageError, match=r"share none|at least two"):
        resample(wavelength, np.ones(wavelength.size), error, TARGET)
