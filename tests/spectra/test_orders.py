import numpy as np
import pytest

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.orders import OrderBuilder

WAVE = 5000 + 0.1 * np.arange(100)
ONES = np.ones(100)


def _build(wavelength=WAVE, flux=ONES, error=0.1 * ONES, bad=None):
    builder = OrderBuilder("star")
    builder.add(5, wavelength, flux, error, bad)
    return builder


def _changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("index", "value", "kept"),
    [
        (slice(0, 30), np.nan, slice(30, 100)),  # padding, as long as it likes
        (slice(60, 100), 0.0, slice(0, 60)),
        ([0, 1, 98, 99], -1.0, slice(2, 98)),
        (99, 4000.0, slice(0, 99)),  # runs backwards in the last pixels
        (2, 6000.0, slice(3, 100)),
        (97, np.nan, slice(0, 97)),
    ],
)
def test_edges_are_trimmed(index, value, kept):
    builder = _build(_changed(WAVE, index, value))
    np.testing.assert_array_equal(builder.orders[0].wavelength, WAVE[kept])
    assert f"{100 - len(WAVE[kept])} pixels without increasing wavelengths trimmed" in builder.notes()[-1]


@pytest.mark.parametrize(("index", "value"), [(50, np.nan), (50, 4000.0), (50, WAVE[49]), (10, np.inf), (10, 0.0)])
def test_the_middle_is_an_error(index, value):
    with pytest.raises(SpectrumFileError, match=r"star, order 5, .*inside the order.*Sort the pixels"):
        _build(_changed(WAVE, index, value))


def test_faults_mask_pixels_and_are_counted():
    flux = _changed(_changed(ONES, [3, 4], np.nan), 5, np.inf)
    error = _changed(_changed(_changed(0.1 * ONES, 4, np.nan), [10, 11], 0.0), 12, -1.0)
    builder = _build(flux=flux, error=error, bad=_changed(ONES < 0, 20, True))
    order = builder.orders[0]
    assert np.flatnonzero(np.isinf(order.error)).tolist() == [3, 4, 5, 10, 11, 12, 20]
    assert np.all(np.isfinite(order.flux))
    assert builder.notes() == [
        "7 pixels masked: 1 marked in the file, 3 flux NaN or infinite, "
        "3 error or variance not finite, zero or negative."
    ]


def test_decreasing_orders_are_reversed():
    builder = _build(WAVE[::-1], np.arange(100.0))
    np.testing.assert_array_equal(builder.orders[0].wavelength, WAVE)
    assert builder.orders[0].flux[0] == 99
    assert builder.notes() == ["Orders 5 reversed: their wavelengths decreased."]


def test_empty_orders_are_left_out():
    builder = _build()
    builder.add(6, WAVE, np.nan * ONES, ONES)
    builder.add(7, np.nan * WAVE, ONES, ONES)
    assert builder.numbers == [5]
    assert builder.notes()[-1] == "Orders 6, 7 left out: no good pixel."


def test_nothing_left_is_an_error():
    with pytest.raises(SpectrumFileError, match="no good pixel in any of them: 100 error or variance"):
        _build(error=0 * ONES).notes()
    with pytest.raises(SpectrumFileError, match="one shape"):
        _build(flux=ONES[:-1])


def test_missing_errors_have_a_stand_in():
    builder = _build(flux=_changed(3 * ONES, 2, np.nan), error=None)
    assert not builder.errors_known
    np.testing.assert_allclose(np.delete(builder.orders[0].error, 2), 0.03)
    assert np.isinf(builder.orders[0].error[2])
