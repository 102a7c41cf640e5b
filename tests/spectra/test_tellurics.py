import numpy as np
import pytest

from stellarhml.spectra import (
    ObservedSpectrum,
    divide_standard,
    divide_tellurics,
    hydrogen_windows,
    mask_tellurics,
    read_spectrum,
)

WAVE = 10000 + 0.1 * np.arange(200)
CLEAR = np.ones(200)


def _line(center, depth, width=0.3, grid=WAVE):
    return 1 - depth * np.exp(-(((grid - center) / width) ** 2) / 2)


def _spectrum(flux=CLEAR, error=0.1, grid=WAVE, **meta):
    return ObservedSpectrum([(grid, flux, np.broadcast_to(error, flux.shape))], meta)


def test_masks_where_the_atmosphere_absorbs():
    transmission = _line(10010, 0.5)
    before = _spectrum()
    after = mask_tellurics(before, WAVE, transmission, threshold=0.9)
    masked = np.isinf(after.orders[0].error)
    np.testing.assert_array_equal(masked, transmission < 0.9)
    np.testing.assert_array_equal(after.orders[0].flux, CLEAR)
    assert before.n_masked == 0  # left as it is
    assert after.meta["notes"][-1].startswith(f"{masked.sum()} pixels masked where the transmission")


def test_a_narrow_line_between_pixels_is_found():
    fine = np.linspace(9990, 10030, 40001)
    after = mask_tellurics(_spectrum(), fine, _line(WAVE[50] + 0.03, 0.5, 0.004, fine))
    assert np.flatnonzero(np.isinf(after.orders[0].error)).tolist() == [50]


def test_what_the_transmission_does_not_cover_is_masked():
    half = slice(100, None)
    after = mask_tellurics(_spectrum(), WAVE[half], CLEAR[half])
    np.testing.assert_array_equal(np.isinf(after.orders[0].error), np.arange(200) < 100)


def test_dividing_restores_the_flux_and_raises_the_error():
    transmission = _line(10010, 0.95)
    after = divide_tellurics(_spectrum(3 * transmission), WAVE, transmission)
    order = after.orders[0]
    good = transmission >= 0.1
    np.testing.assert_array_equal(np.isfinite(order.error), good)
    np.testing.assert_allclose(order.flux[good], 3, rtol=1e-14)
    np.testing.assert_allclose(order.error[good], 0.1 / transmission[good], rtol=1e-14)
    assert np.all(np.isfinite(order.flux))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((WAVE, CLEAR[:-1]), "one length"),
        ((WAVE[::-1], CLEAR), "increase strictly"),
        ((WAVE[:1], CLEAR[:1]), "at least two"),
        ((WAVE / 1e4, CLEAR), "Check the unit"),
        ((WAVE, np.nan * CLEAR), "No pixel of"),
    ],
)
@pytest.mark.parametrize("function", [mask_tellurics, divide_tellurics])
def test_bad_transmission(function, arrays, message):
    with pytest.raises(ValueError, match=message):
        function(_spectrum(), *arrays)


def test_minimum_must_be_positive():
    with pytest.raises(ValueError, match="`minimum` is 0"):
        divide_tellurics(_spectrum(), WAVE, CLEAR, minimum=0)


def test_windows_hold_the_lines_of_hydrogen():
    windows = hydrogen_windows(50.0)
    # Paschen beta and delta, Brackett gamma and 10, vacuum (NIST)
    for line in (12821.58, 10052.13, 21661.2, 17366.9):
        assert any(low < line < high for low, high in windows), line
    assert not any(low < 10830.0 < high for low, high in windows)
    assert windows == sorted(windows)


def test_dividing_by_a_standard_takes_atmosphere_and_blaze_away():
    air, blaze, star = _line(10005, 0.6), _line(10010, 0.5, 8), _line(10012, 0.3)
    target = _spectrum(50 * star * air * blaze, 1.0)
    standard = _spectrum(100 * air * blaze, 2.0, object="HR 1")
    order = divide_standard(target, standard, windows=[(10018, 10019)]).orders[0]
    np.testing.assert_array_equal(np.isinf(order.error), (WAVE >= 10018) & (WAVE <= 10019))
    np.testing.assert_allclose(order.flux, star / 2, rtol=1e-13)
    good = np.isfinite(order.error)
    relative = np.hypot(1.0 / target.orders[0].flux, 2.0 / standard.orders[0].flux)
    np.testing.assert_allclose((order.error / order.flux)[good], relative[good], rtol=1e-13)
    assert "Divided by HR 1" in divide_standard(target, standard).meta["notes"][-1]


def test_the_standard_is_interpolated_and_its_masks_spread():
    grid = WAVE + 0.025
    error = np.where(np.arange(200) == 100, np.inf, 4.0)
    standard = _spectrum(2 * (grid - 9900), error, grid)
    order = divide_standard(_spectrum(WAVE - 9900, 1e-9), standard, windows=[]).orders[0]
    assert np.flatnonzero(np.isinf(order.error)).tolist() == [100, 101]
    np.testing.assert_allclose(order.flux[1:100], 0.5, rtol=1e-12)
    # two pixels of the standard, of weights 0.25 and 0.75, share the noise
    expected = 0.5 * 4 * np.hypot(0.25, 0.75) / (2 * (WAVE[1:100] - 9900))
    np.testing.assert_allclose(order.error[1:100], expected, rtol=1e-6)


def test_each_order_finds_its_own_in_the_standard():
    orders = [(WAVE + k * 15, (k + 1) * CLEAR, CLEAR) for k in range(3)]
    target = ObservedSpectrum([(w, 6 * f, e) for w, f, e in orders[::-1]], {"order_numbers": [2, 1, 0]})
    got = divide_standard(target, ObservedSpectrum(orders[:2]), windows=[])
    assert got.meta["order_numbers"] == [2, 1, 0]
    # the third is missing: its first pixels are in the second order of the standard, the rest are masked
    assert np.isfinite(got.orders[0].error).sum() == 50
    assert set(got.orders[1].flux) == {6.0}
    assert set(got.orders[2].flux) == {6.0}


def test_a_standard_of_another_band():
    with pytest.raises(ValueError, match="No pixel of"):
        divide_standard(_spectrum(), _spectrum(grid=WAVE + 5000))


def test_real_tellurics_on_real_hpf(shared_data):
    star = read_spectrum(shared_data.observed("hpf_goldilocks_A0V_HR4829.fits"))
    with np.load(shared_data.observed("telluric_hpf.npz")) as data:
        grid, transmission = data["wavelength_A"], data["transmission"]
    masked = mask_tellurics(star, grid, transmission, threshold=0.9)
    assert star.n_masked < masked.n_masked < 0.5 * star.n_pixels
    # order 20, 11010-11150 angstrom: water lines that the template has are shallower after division
    number, inner = 20, slice(300, 1700)
    before, after = star.orders[number], divide_tellurics(star, grid, transmission).orders[number]
    lines = np.interp(before.wavelength, grid, transmission)[inner]
    shallow = (lines > 0.5) & (lines < 0.95)

    def depth(order):
        flux = order.flux[inner]
        return 1 - np.median(flux[shallow]) / np.median(flux[lines > 0.99])

    assert depth(before) > 0.1
    assert abs(depth(after)) < 0.5 * depth(before)
    assert np.all(after.error[inner] >= before.error[inner])


def test_real_standard(shared_data):
    target = read_spectrum(shared_data.observed("hpf_GJ699.fits"))
    standard = read_spectrum(shared_data.observed("hpf_goldilocks_A0V_HR4829.fits"))
    got = divide_standard(target, standard)
    assert len(got.orders) == 28
    assert target.n_masked < got.n_masked < 0.4 * got.n_pixels
    # the blaze goes: an order free of strong lines is flat to a few per cent, from a factor two
    flat, curved = got.orders[5], target.orders[5]
    good = np.isfinite(flat.error)

    def spread(flux):
        return np.ptp([np.percentile(part, 90) for part in np.array_split(flux[good], 8)]) / np.median(flux[good])

    assert spread(flat.flux) < 0.5 * spread(curved.flux)
