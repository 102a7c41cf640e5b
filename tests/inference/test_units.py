"""`infer` and the regressor with units of astropy, masked arrays and table columns: converted, or refused."""

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import InverseVariance, StdDevUncertainty, VarianceUncertainty
from astropy.table import MaskedColumn, QTable, Table
from astropy.utils.masked import Masked
from specutils import Spectrum

from stellarhml import BayesianStellarRegressor
from stellarhml._units import plain_array
from stellarhml._validation import check_wavelength
from stellarhml.inference.parameter_set import plain_values
from stellarhml.spectra.conversion import as_observed_spectrum

WAVE = 8500 + 0.1 * np.arange(5)
FLUX = np.linspace(1, 2, 5)
ERROR = np.linspace(0.1, 0.2, 5)
BAD = np.arange(5) == 2


def _same(spectrum, *, masked=False, scale=1.0):
    (order,) = as_observed_spectrum(spectrum)[0].orders
    np.testing.assert_allclose(order.wavelength, WAVE, rtol=1e-14)
    good = ~BAD if masked else np.ones(5, dtype=bool)
    np.testing.assert_allclose(order.flux[good], scale * FLUX[good], rtol=1e-14)
    np.testing.assert_allclose(order.error, np.where(good, scale * ERROR, np.inf), rtol=1e-14)


def test_arrays_with_units():
    _same((WAVE / 10 * u.nm, FLUX * u.Jy, 1000 * ERROR * u.mJy))
    _same(([WAVE / 1e4 * u.um], [FLUX * u.ct], [ERROR]))
    _same(((WAVE / 10 * u.nm)[None], FLUX[None] * u.one, ERROR[None]))
    _same(([wave / 10 * u.nm for wave in WAVE], FLUX, ERROR * u.one))
    thz = (WAVE * u.AA).to(u.THz, u.spectral())
    _same((thz, FLUX, ERROR))


def test_masks_of_arrays_and_columns():
    _same((WAVE, np.ma.array(FLUX, mask=BAD), ERROR), masked=True)
    _same((WAVE, FLUX, np.ma.array(ERROR, mask=BAD)), masked=True)
    _same((WAVE * u.AA, Masked(FLUX * u.Jy, mask=BAD), Masked(1000 * ERROR * u.mJy, mask=BAD)), masked=True)
    table = Table({"w": WAVE / 10, "f": MaskedColumn(FLUX, mask=BAD), "e": ERROR}, units={"w": "nm", "f": "Jy"})
    _same((table["w"], table["f"], table["e"]), masked=True)
    table = QTable({"w": WAVE / 10 * u.nm, "f": Masked(FLUX * u.Jy, mask=BAD), "e": ERROR * u.Jy})
    _same((table["w"], table["f"], table["e"]), masked=True)


@pytest.mark.parametrize(
    ("spectrum", "message"),
    [
        ((WAVE * u.km / u.s, FLUX, ERROR), "`wavelength` has the unit 'km / s', which does not convert to 'angstrom'"),
        (([WAVE * u.K], [FLUX], [ERROR]), "`wavelength` has the unit 'K'"),
        ((WAVE, FLUX * u.Jy, ERROR * u.ct), "`error` has the unit 'ct', which does not convert to 'Jy'"),
        ((WAVE, FLUX, ERROR * u.Jy), "`error` has the unit 'Jy', which does not convert to a plain number"),
    ],
)
def test_wrong_units_are_refused(spectrum, message):
    with pytest.raises(ValueError, match=message):
        as_observed_spectrum(spectrum)


@pytest.mark.parametrize(
    "uncertainty",
    [
        StdDevUncertainty(np.where(BAD, 0, ERROR)),  # zero where masked: what to_specutils and HPF's pipelines write
        StdDevUncertainty(1000 * np.where(BAD, np.nan, ERROR) * u.mJy),
        VarianceUncertainty(1e6 * ERROR**2 * u.mJy**2),
        InverseVariance(1e-6 * ERROR**-2.0 / u.mJy**2),
    ],
)
def test_uncertainties_of_specutils_in_other_units(uncertainty):
    _same(Spectrum(spectral_axis=WAVE / 10 * u.nm, flux=FLUX * u.Jy, uncertainty=uncertainty, mask=BAD), masked=True)


def test_bad_uncertainties_of_pixels_in_use_are_refused():
    with pytest.raises(ValueError, match="1 of 5 errors are zero or negative"):
        as_observed_spectrum(
            Spectrum(spectral_axis=WAVE * u.AA, flux=FLUX * u.Jy, uncertainty=StdDevUncertainty(ERROR * ~BAD))
        )


def test_values_by_name_are_converted():
    given = {
        "teff": (5 * u.kK, 5500),
        "logg": [4, 4.5] * u.dex(u.cm / u.s**2),
        "feh": 0.1 * u.dex,
        "rv": [-1000, 2000] * u.m / u.s,
        "alpha": (0.1, 0.2),
    }
    wanted = {"teff": (5000.0, 5500), "logg": (4, 4.5), "feh": 0.1, "rv": (-1, 2), "alpha": (0.1, 0.2)}
    assert plain_values(given, "bounds") == wanted
    # a gravity in other units is another number; a bare dex is taken for the usual one
    assert plain_values({"logg": 2.4 * u.dex(u.m / u.s**2)}, "fixed")["logg"] == pytest.approx(4.4)
    assert plain_values({"logg": (4.4 * u.dex, 0.1 * u.dex)}, "priors") == {"logg": (4.4, 0.1)}
    for name, wrong in (("teff", 5 * u.km), ("logg", 4 * u.m), ("rv", 3 * u.dex), ("alpha", 3 * u.K)):
        with pytest.raises(ValueError, match=f"`bounds` of '{name}' has the unit"):
            plain_values({name: wrong}, "bounds")


def test_a_dex_keeps_its_number():
    assert plain_array(4.5 * u.dex(u.cm / u.s**2), "dex(cm/s2)", "`logg`") == 4.5


def test_all_arguments_of_infer_take_units(mini_generator, make_star):
    star = make_star()
    settings = {"bounds": {"teff": (5200, 5800), "rv": (-100, 100)}, "priors": {"logg": (4.4, 0.2)}}
    plain = BayesianStellarRegressor.from_generator(mini_generator, **settings)
    settings = {
        "bounds": {"teff": (5.2 * u.kK, 5.8 * u.kK), "rv": [-1e5, 1e5] * u.m / u.s},
        "priors": {"logg": (4.4 * u.dex, 0.2 * u.dex)},
    }
    with_units = BayesianStellarRegressor.from_generator(mini_generator, **settings)
    wanted = plain.infer(star.spectrum, resolving_power=star.power, fixed={"vsini": 9.0})
    got = with_units.infer(
        ([x / 10 * u.nm for x in star.wavelength], [f * u.ct for f in star.flux], [e * u.ct for e in star.error]),
        resolving_power=star.power * u.one,
        fixed={"vsini": 9000 * u.m / u.s},
    )
    for name, value in wanted.values.items():
        # wavelengths differ by a rounding
        assert got.values[name] == pytest.approx(value, rel=1e-6, abs=1e-5)
    for power in (4e4 * u.K, [4e4 * u.AA, 4e4]):
        with pytest.raises(ValueError, match="`resolving_power` has the unit"):
            plain.infer(star.spectrum, resolving_power=power)


def test_a_generator_takes_units(mini_generator):
    x = 8500 + 0.1 * np.arange(200)
    plain = mini_generator.observe([[5532.0, 4.4, -0.2]], x, resolving_power=4e4, rv=20.0, vsini=9.0)
    unit = u.m / u.s
    got = mini_generator.observe(
        [[5532.0, 4.4, -0.2]], x / 10 * u.nm, resolving_power=4e4, rv=2e4 * unit, vsini=[9000] * unit
    )
    np.testing.assert_allclose(got, plain, rtol=1e-9)  # wavelengths differ by a rounding
    with pytest.raises(ValueError, match="`wavelength` has the unit 's'"):
        mini_generator.observe([[5532.0, 4.4, -0.2]], x * u.s)
    with pytest.raises(ValueError, match="`rv` has the unit 'K'"):
        mini_generator.observe([[5532.0, 4.4, -0.2]], x, rv=3 * u.K)
    for wrong in ({"wavelength": x / 10 * u.nm}, {"wavelength": x * u.AA}):
        assert check_wavelength(**wrong)[0] == pytest.approx(8500)


def test_what_is_given_by_pixel_follows_decreasing_wavelengths(mini_generator, make_star):
    """Frequencies increase where wavelengths decrease: masks and resolving powers go with the pixels as given."""
    regressor, star = BayesianStellarRegressor.from_generator(mini_generator), make_star()
    x, flux, error = (part[0] for part in star.spectrum)
    mask = np.arange(len(x)) < 400
    power = np.linspace(35_000, 45_000, len(x))
    spectrum = Spectrum(
        spectral_axis=(x * u.AA).to(u.THz, u.spectral()), flux=flux * u.Jy, uncertainty=StdDevUncertainty(error)
    )
    wanted = regressor.infer((x, flux, error), resolving_power=power, mask=mask)
    got = regressor.infer(spectrum, resolving_power=power, mask=mask)
    turned = regressor.infer([spectrum], resolving_power=[power], mask=[mask])
    for result in (got, turned):
        assert result.n_pixels == wanted.n_pixels
        assert result.reduced_chi2 == pytest.approx(wanted.reduced_chi2, rel=1e-6)
        assert result.values == pytest.approx(wanted.values, rel=1e-5, abs=1e-4)


def test_frequencies_are_not_measured_in_air(mini_generator):
    regressor = BayesianStellarRegressor.from_generator(mini_generator)
    thz = (np.linspace(8690, 8460, 500) * u.AA).to(u.THz, u.spectral())
    spectrum = Spectrum(spectral_axis=thz, flux=np.ones(500) * u.Jy)
    for given in (spectrum, [spectrum], (thz[::-1], np.ones(500)), ([thz[::-1]], [np.ones(500)])):
        with pytest.raises(ValueError, match="in THz, which is the same in air and vacuum"):
            regressor.infer(given, resolving_power=4e4, medium="air")
