"""A star and the atmosphere before it, fitted together: amounts, frames, wrong tables, and what is written."""

import numpy as np
import pytest

from stellarhml import BayesianStellarRegressor
from stellarhml.flags import InferenceFlag
from stellarhml.forward.tellurics import Tellurics
from stellarhml.inference import fit_tellurics, results_table
from stellarhml.spectra import Atmosphere, ObservedSpectrum, read_spectrum

C = 299_792.458
LIMIT = 4.5  # standard deviations, for the largest of some ten numbers
AMOUNTS = {"H2O": 2.6, "O2": 0.7}


@pytest.fixture(scope="module")
def regressor(mini_generator):
    return BayesianStellarRegressor.from_generator(mini_generator)


def _air(scatter=0.0):
    """Water lines all over, and a band of oxygen, of sigma 0.8 km/s every 0.15 km/s; with lines of wrong strengths."""
    x = np.arange(8430.0, 8720.0, 0.004)
    rng, wrong = np.random.default_rng(3), np.random.default_rng(4)
    depth = {"H2O": np.zeros(x.size), "O2": np.zeros(x.size)}
    for name, n, low, high in (("H2O", 120, 8440, 8710), ("O2", 30, 8600, 8660)):
        for center, tau in zip(rng.uniform(low, high, n), rng.exponential(0.25, n), strict=True):
            strength = tau * np.exp(scatter * wrong.normal())
            depth[name] += strength * np.exp(-0.5 * ((x - center) / 0.023) ** 2)
    return Atmosphere(x, {name: np.exp(-value) for name, value in depth.items()})


@pytest.fixture(scope="module")
def air():
    return _air()


@pytest.fixture
def through_air(make_star, air):
    """A star through 2.6 times the water and 0.7 times the oxygen of the table."""
    return make_star(transmission=(air.wavelength, air.total(AMOUNTS)))


@pytest.fixture
def result(regressor, through_air, air):
    return regressor.infer(through_air.spectrum, resolving_power=through_air.power, tellurics=air)


def test_a_table_at_other_wavelengths_is_said(regressor, through_air, air, result):
    """A table in air that is taken for one in vacuum has no line where the spectrum has one."""
    moved = Atmosphere(air.wavelength + 2.3, air.transmissions)
    wrong = regressor.infer(through_air.spectrum, resolving_power=through_air.power, tellurics=moved)
    assert wrong.flags & InferenceFlag.TELLURICS
    assert any("no telluric lines where the table has them" in text for text in wrong.messages)
    nothing = Tellurics(air.wavelength, np.ones(len(air.wavelength)))
    clear = regressor.infer(through_air.spectrum, resolving_power=through_air.power, tellurics=nothing)
    assert not clear.flags & InferenceFlag.TELLURICS  # a table without lines says nothing of wavelengths


def test_bounds_and_priors_of_the_air(regressor, through_air, air):
    """Of species that only the star's atmosphere has, with units."""
    from astropy import units as u

    given = {
        "bounds": {"a_H2O": (1.0, 2.0), "rv_air": (-100, 100) * u.m / u.s},
        "priors": {"a_O2": (0.9, 1e-4), "rv_air": (0.05, 1e-4)},
    }
    own = BayesianStellarRegressor.from_generator(regressor.generator_, **given)
    result = own.infer(through_air.spectrum, resolving_power=through_air.power, tellurics=air)
    assert result.values["a_H2O"] == pytest.approx(2.0, abs=1e-6)  # 2.6, cut
    assert result.flags & InferenceFlag.AT_BOUND
    assert result.bounds["rv_air"] == pytest.approx((-0.1, 0.1))
    assert result.values["a_O2"] == pytest.approx(0.9, abs=1e-3)
    assert result.values["rv_air"] == pytest.approx(0.05, abs=1e-3)
    with pytest.raises(ValueError, match=r"`bounds` of 'a_CO2' .* lie within 0 to 20"):
        BayesianStellarRegressor.from_generator(regressor.generator_, bounds={"a_CO2": (0, 30)})
    with pytest.raises(ValueError, match=r"`priors` names 'water', but the parameters are .*rv_air"):
        BayesianStellarRegressor.from_generator(regressor.generator_, priors={"water": (1, 0.1)})


def test_velocities_of_the_air_with_units(regressor, through_air, air, result):
    from astropy import units as u

    settings = {"resolving_power": through_air.power, "tellurics": air}
    fixed = regressor.infer(through_air.spectrum, fixed={"rv_air": 120 * u.m / u.s}, **settings)
    assert fixed.values["rv_air"] == pytest.approx(0.12)
    both = regressor.infer(through_air.spectrum, barycentric=9 * u.km / u.s, **settings).rv_by_frame
    assert both == regressor.infer(through_air.spectrum, barycentric=9.0, **settings).rv_by_frame


@pytest.mark.parametrize(
    ("transmissions", "message"),
    [
        ({1: np.ones(20)}, "has the species .1."),
        ({"H2O": np.ones(20), "O2": np.full(20, np.nan)}, "The transmission of O2 has no finite value"),
    ],
)
def test_tables_without_a_species(transmissions, message):
    with pytest.raises(ValueError, match=message):
        Tellurics(np.arange(8500.0, 8520.0), transmissions)


def test_amounts_are_found_and_labels_are_those_without_air(regressor, make_star, through_air, air, result):
    assert np.abs(through_air.off(result)).max() < LIMIT
    for name, amount in AMOUNTS.items():
        assert abs(result.values[f"a_{name}"] - amount) < LIMIT * result.errors[f"a_{name}"]
        assert result.errors[f"a_{name}"] < 0.04 * amount
    assert abs(result.values["rv_air"]) < LIMIT * result.errors["rv_air"] < 1.0
    assert 0.85 < result.reduced_chi2 < 1.15
    assert result.n_rejected < 10
    assert result.line_faults is None  # the air is no fault of the star's lines
    assert not result.flags & InferenceFlag.TELLURICS
    clear = regressor.infer(make_star().spectrum, resolving_power=through_air.power)
    assert result.errors["teff"] < 1.3 * clear.errors["teff"]
    table = results_table([result])
    assert {"a_H2O", "a_H2O_std", "rv_air"} <= set(table.columns)


def test_the_transmission_is_that_of_the_pixels(through_air, make_star, result, tmp_path):
    """Divided by it, the data are those of a star without air; they are written and read back."""
    clean, clear = result.without_tellurics(), make_star()
    for order, flux, error in zip(clean.orders, clear.flux, clear.error, strict=True):
        good = np.isfinite(order.error)
        # the noise is the same but for its division
        t = result.orders[0].transmission if len(flux) == len(result.orders[0].flux) else result.orders[1].transmission
        assert t[good].min() >= 0.3
        np.testing.assert_allclose(order.error[good], (error / t)[good])
        off = (order.flux - flux)[good] / error[good]
        # the same draws of noise: what is left is noise times (1/T - 1), and the error of the amounts
        assert np.sqrt(np.mean(off**2)) < 0.4
    assert result.without_tellurics(minimum=0.9).n_masked > clean.n_masked
    clean.write(tmp_path / "clean.fits")
    again = read_spectrum(tmp_path / "clean.fits")
    np.testing.assert_array_equal(again.orders[0].flux, clean.orders[0].flux)
    assert "transmission of the atmosphere" in again.meta["notes"][-1]
    with pytest.raises(ValueError, match="minimum"):
        result.without_tellurics(minimum=0.0)


@pytest.mark.parametrize("amount", [0.4, 5.0])
def test_the_start_holds_for_dry_and_wet_nights(regressor, make_star, air, amount):
    star = make_star(transmission=(air.wavelength, air.total({"H2O": amount, "O2": amount})))
    result = regressor.infer(star.spectrum, resolving_power=star.power, tellurics=air)
    assert np.abs(star.off(result)).max() < LIMIT
    assert result.values["a_H2O"] == pytest.approx(amount, rel=0.03)
    assert result.n_rejected < 10


def test_a_wrong_table_is_flagged_and_does_little_harm(regressor, through_air, result):
    wrong = regressor.infer(through_air.spectrum, resolving_power=through_air.power, tellurics=_air(0.25))
    assert wrong.flags & InferenceFlag.TELLURICS
    assert "optical depths are taken as uncertain" in "; ".join(wrong.messages)
    # lines of wrong strengths lose weight, and are not rejected
    assert wrong.n_rejected < 0.02 * wrong.n_pixels
    assert np.abs(through_air.off(wrong)).max() < LIMIT
    assert wrong.errors["teff"] < 2 * result.errors["teff"]


def test_spectra_shifted_to_the_barycenter(regressor, through_air, air, result):
    """The air moves with the observatory, and both velocities are in the result."""
    shift = 1 + 25.0 / C
    orders = [(x * shift, *rest) for x, *rest in zip(*through_air.spectrum, strict=True)]
    spectrum = ObservedSpectrum(orders, {"frame": "barycenter"})
    moved = regressor.infer(spectrum, resolving_power=through_air.power, tellurics=air, barycentric=25.0)
    for name in ("teff", "a_H2O", "rv_air"):
        assert moved.values[name] == pytest.approx(result.values[name], abs=0.3 * result.errors[name])
    assert moved.rv_by_frame["telescope"] == pytest.approx(result.values["rv"], abs=0.3 * result.errors["rv"])
    assert moved.rv_by_frame["barycenter"] == moved.values["rv"]
    assert moved.to_row()["rv_telescope"] == moved.rv_by_frame["telescope"]
    with pytest.raises(ValueError, match="Pass `barycentric`"):
        regressor.infer(spectrum, resolving_power=through_air.power, tellurics=air)
    for strange in (1e5, True, "file"):
        with pytest.raises(ValueError, match="`barycentric`"):
            regressor.infer(spectrum, resolving_power=through_air.power, tellurics=air, barycentric=strange)


def test_velocities_of_the_telescope_are_converted(regressor, make_star):
    star = make_star(rv=33.0)
    result = regressor.infer(star.spectrum, resolving_power=star.power, barycentric=-20.0)
    assert result.rv_by_frame["telescope"] == result.values["rv"]
    # lambda (1 + rv / c) (1 + v / c)
    expected = C * ((1 + result.values["rv"] / C) * (1 - 20.0 / C) - 1)
    assert result.rv_by_frame["barycenter"] == pytest.approx(expected, abs=1e-9)


def test_many_stars_with_one_table(regressor, through_air, air):
    bad = (through_air.wavelength, [flux * np.nan for flux in through_air.flux], through_air.error)
    settings = {"resolving_power": through_air.power, "tellurics": air, "fixed": {"a_O2": 0.7}}
    results = regressor.infer_many([through_air.spectrum, bad], verbose=False, **settings)
    assert results[0].values["a_O2"] == 0.7
    assert results[0].errors["a_O2"] == 0.0
    assert results[1].flags & InferenceFlag.FAILED
    assert np.isnan(results[1].values["a_H2O"])
    with pytest.raises(ValueError, match="`tellurics` is a int"):
        regressor.infer_many([through_air.spectrum], resolving_power=4e4, tellurics=3)


def test_wider_lines_are_found(make_star, regressor, air):
    x, step = air.wavelength, 0.004
    wide = {}
    for name, column in air.transmissions.items():
        kernel = np.exp(-0.5 * (np.arange(-60, 61) * step / (2.0 * 8570 / C)) ** 2)
        wide[name] = np.exp(np.convolve(np.log(column), kernel / kernel.sum(), mode="same"))
    star = make_star(transmission=(x, Atmosphere(x, wide).total(AMOUNTS)))
    result = regressor.infer(star.spectrum, resolving_power=star.power, tellurics=Tellurics(*air, width=True))
    assert abs(result.values["width_air"] - 2.0) < LIMIT * result.errors["width_air"] < 2.0
    assert np.abs(star.off(result)).max() < LIMIT


def test_the_air_alone(air):
    """A star without lines: the same amounts, from a chain without a generator."""
    from mock_star import observe

    pixels = np.arange(8460.0, 8690.0, 0.09)
    flat = np.arange(8435.0, 8715.0, 0.01)
    rng = np.random.default_rng(0)
    seen = observe(
        flat, np.ones(flat.size), pixels, resolving_power=5e4, transmission=(air.wavelength, air.total(AMOUNTS))
    )
    level = 1 + 0.2 * np.linspace(-1, 1, pixels.size) ** 2
    noisy = level * (seen + 0.005 * rng.normal(size=pixels.size))
    noisy[1000] *= 3.0
    result = fit_tellurics((pixels, noisy, 0.005 * level), air, resolving_power=5e4)
    for name, amount in AMOUNTS.items():
        assert abs(result.values[f"a_{name}"] - amount) < LIMIT * result.errors[f"a_{name}"] < 0.02 * amount * LIMIT
    assert result.n_rejected == 1
    assert 0.9 < result.reduced_chi2 < 1.1
    clean = result.without_tellurics().orders[0]
    good = np.isfinite(clean.error)
    assert np.std((clean.flux / result.orders[0].continuum)[good]) < 0.01
    low = fit_tellurics((pixels, noisy, 0.005 * level), air, resolving_power=4e4)
    assert low.flags & InferenceFlag.RESOLVING_POWER
