"""Spectra with something wrong: refused, or flagged, never a confident wrong answer."""

import numpy as np
import pytest

from stellarhml.flags import InferenceFlag
from stellarhml.physics.wavelength import vacuum_to_air
from stellarhml.spectra import ObservedSpectrum

LIMIT = 4.5  # standard deviations


def infer(regressor, star, spectrum=None, **settings):
    return regressor.infer(star.spectrum if spectrum is None else spectrum, resolving_power=star.power, **settings)


def test_all_pixels_masked(regressor, make_star):
    star = make_star()
    with pytest.raises(ValueError, match="All 2728 pixels of the spectrum are masked"):
        infer(regressor, star, mask=[np.ones(len(x), dtype=bool) for x in star.wavelength])


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_errors_that_are_not_positive(regressor, make_star, bad):
    star = make_star()
    star.error[1][5:8] = bad
    with pytest.raises(ValueError, match="Order 1: 3 of 1240 errors are zero or negative"):
        infer(regressor, star)


def test_an_order_outside_the_band(regressor, make_star):
    star = make_star()
    x = np.arange(9000.0, 9050.0, 0.1)
    spectrum = ([*star.wavelength, x], [*star.flux, np.ones(len(x))], [*star.error, np.full(len(x), 0.01)])
    result = infer(regressor, star, spectrum)
    assert result.flags == InferenceFlag.ORDER_OUTSIDE
    assert "orders 2 lie more than half outside" in result.messages[0]
    # by the numbers that a file gives them, if there is one
    named = ObservedSpectrum(list(zip(*spectrum, strict=True)), {"order_numbers": [104, 105, 98]})
    of_file = infer(regressor, star, named)
    assert "orders 98 lie more than half outside" in of_file.messages[0]
    assert [order.number for order in of_file.orders] == [104, 105, 98]
    assert np.isnan(result.orders[2].model).all()
    assert result.values == infer(regressor, star).values


def test_wavelengths_that_do_not_increase(regressor, make_star):
    star = make_star()
    star.wavelength[0] = star.wavelength[0][::-1]
    with pytest.raises(ValueError, match=r"Order 0: .* must increase strictly, but decreases from .* Reverse it"):
        infer(regressor, star)
    star.wavelength[0] = star.wavelength[0][::-1]
    star.wavelength[0][7] = star.wavelength[0][6]
    with pytest.raises(ValueError, match=r"Order 0: `wavelength` must increase strictly, but pixel 7"):
        infer(regressor, star)


def test_a_cosmic_ray(regressor, make_star):
    star = make_star()
    clean = infer(regressor, star)
    star.flux[0][700] += 1000 * star.error[0][700]
    star.flux[1][300:303] += 50 * star.error[1][300]
    hit = infer(regressor, star)
    assert hit.n_rejected == 4
    assert not np.isfinite(hit.orders[0].error[700])
    for name in clean.names:
        assert abs(hit.values[name] - clean.values[name]) < 0.3 * clean.errors[name]


def test_emission_lines(regressor, make_star):
    star = make_star()
    for k, center in ((0, 8500.9), (0, 8544.4), (1, 8664.5)):
        # the calcium triplet in emission, at the velocity of the star
        apart = (star.wavelength[k] / (1 + star.rv / 299792.458) - center) / 1.2
        star.flux[k] += 0.8 * np.median(star.flux[k]) * np.exp(-0.5 * apart**2)
    result = infer(regressor, star)
    assert result.flags & (InferenceFlag.REJECTED_PIXELS | InferenceFlag.LINES_DIFFER)
    assert result.flags & (InferenceFlag.POOR_FIT | InferenceFlag.AT_BOUND) or np.abs(star.off(result)).max() < LIMIT


@pytest.mark.parametrize("labels", [[6000.0, 4.5, 0.0], [5000.0, 4.0, -0.5]])
def test_a_star_outside_the_grid(regressor, make_star, labels):
    # lines half as deep again as the richest spectrum has them, or two thirds of the poorest
    star = make_star(labels=np.array(labels))
    factor = 1.5 if labels[2] == 0 else 0.6
    for k, (flux, error) in enumerate(zip(star.flux, star.error, strict=True)):
        level = 100 * error
        star.flux[k] = level * (1 - factor * (1 - flux / level))
    assert infer(regressor, star).flags & (InferenceFlag.AT_BOUND | InferenceFlag.POOR_FIT)


def test_hardly_any_signal(regressor, make_star):
    for seed in range(4):
        star = make_star(snr=3.0, seed=seed)
        result = infer(regressor, star)
        if not result.flags & (InferenceFlag.WEAK_LINES | InferenceFlag.AT_BOUND):
            assert np.abs(star.off(result)).max() < LIMIT
        # at S/N 3, some 2,700 pixels know Teff to hundreds of kelvin, not to tens
        assert result.errors["teff"] > 150 or result.flags


def test_noise_alone(regressor, make_star):
    star = make_star()
    rng = np.random.default_rng(0)
    noise = [100 * error * (1 + 0.1 * rng.normal(size=len(error))) for error in star.error]
    result = infer(regressor, star, (star.wavelength, noise, [10 * error for error in star.error]))
    assert result.flags & (InferenceFlag.WEAK_LINES | InferenceFlag.AT_BOUND)


def test_fast_rotation(regressor, make_star):
    star = make_star(vsini=150.0)
    result = infer(regressor, star)
    assert np.abs(star.off(result)).max() < LIMIT
    assert result.errors["teff"] > infer(regressor, make_star()).errors["teff"]


@pytest.mark.parametrize("factor", [0.6, 1.7])
def test_a_wrong_resolving_power(regressor, make_star, factor):
    star = make_star(snr=200.0, vsini=3.0)
    result = regressor.infer(star.spectrum, resolving_power=factor * star.power)
    labels = np.abs(star.off(result))[:4]
    doubtful = InferenceFlag.RESOLVING_POWER | InferenceFlag.POOR_FIT
    # stated too low: the lines are sharper than it allows. Too high: rotation takes up the rest, and what it does not
    # take up shows in the shape of the lines
    assert result.flags & doubtful or labels.max() < LIMIT
    if factor < 1:
        assert result.flags & InferenceFlag.RESOLVING_POWER
        change, sigma = result.resolving_power_factor
        assert 1.2 < change < 2
        assert sigma < 0.1


def test_macroturbulence_does_not_hide_a_resolving_power_that_is_too_low(regressor, make_star):
    """Without any, it cannot narrow the lines."""
    star = make_star(snr=200.0, vsini=3.0)
    settings = {"resolving_power": 0.7 * star.power, "macroturbulence": "gaussian", "fixed": {"vsini": 3.0}}
    result = regressor.infer(star.spectrum, **settings)
    assert result.values["vmac"] < 0.3
    assert result.flags & InferenceFlag.RESOLVING_POWER
    change, sigma = result.resolving_power_factor
    assert 1.2 < change < 2
    assert sigma < 0.1


@pytest.mark.parametrize("seed", range(4))
def test_the_right_resolving_power_of_a_star_at_rest_is_not_doubted(regressor, make_star, seed):
    star = make_star(snr=200.0, vsini=0.0, seed=seed)
    result = infer(regressor, star)
    assert not result.flags & InferenceFlag.RESOLVING_POWER


def test_air_taken_for_vacuum_moves_the_velocity_and_nothing_else(regressor, make_star):
    # over 250 angstrom the refractive index is one number: no spectrum can tell it from a velocity of -82 km/s
    star = make_star()
    air = [vacuum_to_air(x) for x in star.wavelength]
    result = infer(regressor, star, (air, star.flux, star.error))
    assert np.abs(star.off(result))[[0, 1, 2, 4]].max() < LIMIT
    assert result.values["rv"] == pytest.approx(star.rv - 82, abs=1)


@pytest.fixture(scope="module")
def wide():
    """A regressor of one label on a band over which the refractive index of air drifts by 0.3 km/s."""
    from stellarhml import BayesianStellarRegressor, SpectrumGenerator, VoigtLineDecomposer

    wavelength = np.arange(8100.0, 12700.0, 0.08)
    flux = np.ones((4, len(wavelength)))
    for center, depth in zip(
        np.linspace(8150.0, 12650.0, 120), np.random.default_rng(0).uniform(0.2, 0.7, 120), strict=True
    ):
        flux *= 1 - depth * np.linspace(0.7, 1.0, 4)[:, None] * np.exp(-0.5 * ((wavelength - center) / 0.25) ** 2)
    quick = VoigtLineDecomposer(n_rounds=0)
    generator = SpectrumGenerator(wavelength=wavelength, decomposer=quick, label_names=("teff",))
    return BayesianStellarRegressor.from_generator(generator.fit(np.arange(4.0)[:, None], flux))


@pytest.mark.parametrize("medium", ["vacuum", "air"])
def test_air_taken_for_vacuum_shows_over_a_wide_band(wide, medium):
    x = np.arange(8110.0, 12690.0, 0.15)
    flux = wide.generator_.observe([[1.6]], x, resolving_power=50_000, rv=10.0, vsini=4.0)[0]
    error = np.full(len(x), 0.005)
    flux = flux + np.random.default_rng(1).normal(scale=0.005, size=len(x))
    right = wide.infer((x, flux, error), resolving_power=50_000)
    assert not right.flags & InferenceFlag.AIR_OR_VACUUM
    # what is air is said to be vacuum, or what is vacuum to be air
    given = vacuum_to_air(x) if medium == "air" else x
    stated = "vacuum" if medium == "air" else "air"
    wrong = wide.infer((given, flux, error), resolving_power=50_000, medium=stated)
    assert wrong.flags & InferenceFlag.AIR_OR_VACUUM
    assert any(f"as if they were in {medium}" in message for message in wrong.messages)
    assert abs(wrong.values["rv"] - 10) > 70


def test_a_generator_that_does_not_know_its_error_is_said(regressor, make_star):
    star = make_star()
    shifts, regressor.generator_.error_map_.shifts = regressor.generator_.error_map_.shifts, None
    try:
        result = infer(regressor, star)
    finally:
        regressor.generator_.error_map_.shifts = shifts
    assert result.flags == InferenceFlag.NOISE_ALONE
    assert result.errors == result.noise_errors


@pytest.mark.parametrize(
    ("spectrum", "message"),
    [
        ("a file", "is a str; it needs what stellarhml.spectra.read_spectrum or"),
        ((np.arange(5.0), np.ones(4), np.ones(5)), r"shapes \(5,\), \(4,\), \(5,\)"),
        (([np.arange(1.0, 9)] * 2, [np.ones(8)]), "have 2, 1, 2 orders"),
        (([np.arange(1.0, 9)] * 2, [np.ones(8)] * 2, [np.ones(8), None]), "Of 2 orders, 1 have errors"),
        ((8500 + np.arange(5.0), np.ones(5), np.ones(5)), "too few for a fit"),
    ],
)
def test_what_is_no_spectrum_is_refused(regressor, spectrum, message):
    with pytest.raises((TypeError, ValueError), match=message):
        regressor.infer(spectrum, resolving_power=40_000)


def test_a_generator_without_wavelengths_cannot_observe(make_star):
    from stellarhml import BayesianStellarRegressor, SpectrumGenerator

    flux = 1 - np.linspace(0.1, 0.5, 3)[:, None] * np.exp(-0.5 * ((np.arange(80) - 40) / 3) ** 2)
    regressor = BayesianStellarRegressor(generator=SpectrumGenerator()).fit(flux, np.arange(3.0))
    with pytest.raises(ValueError, match="needs a generator with wavelengths in angstrom"):
        regressor.infer(make_star().spectrum, resolving_power=40_000)


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_orders_without_light_are_left_out_and_counted(regressor, make_star, level):
    star = make_star()
    alone = infer(regressor, star, tuple(part[:1] for part in star.spectrum))
    star.flux[1] = level * np.abs(star.flux[1])
    result = infer(regressor, star)
    assert result.n_rejected == alone.n_rejected + len(star.flux[1])
    assert result.flags & InferenceFlag.REJECTED_PIXELS
    assert result.values == pytest.approx(alone.values, rel=1e-6, abs=1e-6)
    star.flux[0] = star.flux[0] * level
    with pytest.raises(ValueError, match="none with positive flux: too few for a fit"):
        infer(regressor, star)


def test_vacuum_is_not_converted_to_vacuum(regressor, make_star):
    """Said to be in air, a spectrum that was read and converted would be off by 82 km/s."""
    star = make_star()
    spectrum = ObservedSpectrum(list(zip(*star.spectrum, strict=True)), {"medium": "air"})
    with pytest.raises(ValueError, match="wavelengths of an ObservedSpectrum are in vacuum"):
        infer(regressor, star, spectrum, medium="air")


@pytest.mark.parametrize("scale", [1e-200, 1e-17, 1e160])
def test_the_unit_of_the_flux_does_not_matter(regressor, make_star, scale):
    """Powers of ten beyond 1e60, whose squares are no numbers, are scaled inside."""
    star = make_star()
    one = infer(regressor, star)
    x, flux, error = star.spectrum
    result = infer(regressor, star, (x, [scale * part for part in flux], [scale * part for part in error]))
    for name, value in one.values.items():
        # the last bits of the products, and the stopping rule of the fit
        assert abs(result.values[name] - value) < 1e-4 * one.errors[name]
        assert result.errors[name] == pytest.approx(one.errors[name], rel=1e-4)
    assert result.reduced_chi2 == pytest.approx(one.reduced_chi2, rel=1e-6)
    for order, same in zip(result.orders, one.orders, strict=True):
        for part in ("flux", "error", "model", "continuum", "model_error"):
            np.testing.assert_allclose(getattr(order, part) / scale, getattr(same, part), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-200, 1e160])
def test_the_unit_of_the_flux_does_not_matter_at_rest(regressor, scale):
    from stellarhml.datasets import load_mini_grid

    grid = load_mini_grid()
    # the mean of two neighbours: [Fe/H] lies inside the grid, which has two values of it
    rows = np.flatnonzero((grid.labels[:, :2] == [5400, 4.5]).all(axis=1))
    flux = grid.flux[rows, ::3].astype(np.float64).mean(axis=0, keepdims=True)
    noise = 0.01 * flux * np.random.default_rng(0).normal(size=flux.shape)
    one, one_std = regressor.predict(flux + noise, flux_error=0.01 * flux, return_std=True)
    far, far_std = regressor.predict(scale * (flux + noise), flux_error=0.01 * scale * flux, return_std=True)
    assert (np.abs(far - one) < 1e-4 * one_std).all()
    np.testing.assert_allclose(far_std, one_std, rtol=1e-4)


@pytest.mark.parametrize("spectrum", [([], [], []), ([], []), ([[]], [[]], [[]]), (np.empty(0),) * 3])
def test_nothing_is_no_spectrum(regressor, spectrum):
    with pytest.raises(ValueError, match=r"0 pixels, but at least two are needed|has no orders"):
        regressor.infer(spectrum, resolving_power=40_000)


def test_no_wavelengths_at_the_ends_are_trimmed_as_in_files(regressor, make_star, tmp_path):
    from astropy.table import Table

    from stellarhml.spectra import read_spectrum

    star = make_star()
    x, flux, error = (np.concatenate([[np.nan], part[0], [np.nan, np.nan]]) for part in star.spectrum)
    flux[[0, -2, -1]] = error[[0, -2, -1]] = 1.0
    Table({"wavelength": x, "flux": flux, "error": error}).write(tmp_path / "star.fits")
    power = star.power[0] if np.ndim(star.power) and not np.isscalar(star.power[0]) else star.power
    power = power if np.ndim(power) == 0 else power[0]
    in_arrays = regressor.infer((x, flux, error), resolving_power=power, mask=np.arange(len(x)) == 100)
    in_file = regressor.infer(
        read_spectrum(tmp_path / "star.fits", medium="vacuum"),
        resolving_power=power,
        mask=[np.arange(len(x) - 3) == 99],
    )
    assert in_arrays.values == in_file.values
    assert in_arrays.errors == in_file.errors
    x[500] = np.nan
    with pytest.raises(ValueError, match=r"Order 0: .*NaN"):
        regressor.infer((x, flux, error), resolving_power=power)


def _as_text(x, flux, error):
    return np.round(x, 3), np.round(flux, 3), np.round(error, 3)


COPIES = {
    "the same": lambda x, flux, error: (x, flux, error),
    "rounded": _as_text,
    "float32": lambda *parts: tuple(part.astype(np.float32) for part in parts),
    "from nm": lambda x, flux, error: ((x / 10) * 10, flux, error),
    "twice the flux": lambda x, flux, error: (x, 2 * flux, 2 * error),
    "normalised": lambda x, flux, error: (x, *(part / (1 + np.sin((x - 8500) / 80) ** 2) for part in (flux, error))),
    "another mask": lambda x, flux, error: (x, flux, np.where(np.arange(len(x)) % 3, error, np.inf)),
    "cut": lambda x, flux, error: (x[100:900], flux[100:900], error[100:900]),
}


@pytest.mark.parametrize("errors", [True, False])
@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_an_order_given_twice_is_refused(regressor, make_star, copy, errors):
    """It would be counted twice: errors shrink by 0.7."""
    star = make_star()
    first = [part[0] for part in star.spectrum]
    if copy is _as_text:  # a flux of some thousand counts
        first[1], first[2] = 1000 * first[1], 1000 * first[2]
    orders = [first, [part[1] for part in star.spectrum], copy(*first)]
    twice = tuple(map(list, zip(*(order[: 3 if errors else 2] for order in orders), strict=True)))
    with pytest.raises(
        ValueError, match=r"Order 2 has \d+ pixels with the wavelengths of order 0 .* copies of the same"
    ):
        regressor.infer(twice, resolving_power=40_000)


@pytest.mark.parametrize("errors", [True, False])
@pytest.mark.parametrize("smoothing", [0, 2])
def test_two_exposures_on_the_same_pixels_are_not_copies(make_star, errors, smoothing):
    """Also if the noise of neighbours is correlated, as after resampling."""
    from scipy.ndimage import gaussian_filter1d

    from stellarhml.spectra.conversion import as_observed_spectrum

    first, second = (make_star(seed=seed).spectrum for seed in (0, 1))
    parts = [[first[k][0], second[k][0]] for k in range(3 if errors else 2)]
    if smoothing:
        noise = np.random.default_rng(2).normal(size=(2, len(parts[0][0])))
        parts[1] = [1 + 0.01 * gaussian_filter1d(row, smoothing) for row in noise]
        if errors:
            parts[2] = [np.full(len(row), np.std(row)) for row in parts[1]]
    spectrum, _ = as_observed_spectrum(tuple(parts))
    assert len(spectrum.orders) == 2


def test_an_error_of_nothing_is_refused(regressor, make_star):
    """Its pixel would outweigh all others, and rounding lose them."""
    star = make_star()
    star.error[1][200] *= 1e-300
    with pytest.raises(ValueError, match=r"Order 1: 1 of 1240 errors are below 1e-12 of their median"):
        infer(regressor, star)


@pytest.mark.parametrize("nothing", [0.0, -1.0, np.nan])
def test_ends_without_a_wavelength_are_trimmed_in_arrays(nothing):
    from stellarhml.spectra.conversion import as_observed_spectrum

    x = np.concatenate([[nothing], 8500 + 0.1 * np.arange(20), [nothing, nothing]])
    spectrum, _ = as_observed_spectrum((x, np.ones(23), np.ones(23)))
    np.testing.assert_array_equal(spectrum.orders[0].wavelength, x[1:-2])
    assert "3 pixels without a wavelength trimmed" in spectrum.meta["notes"][0]
    with pytest.raises(ValueError, match="0 pixels, but at least two"):
        as_observed_spectrum((np.full(5, nothing), np.ones(5), np.ones(5)))
