"""Two photospheres in one spectrum against sums of separately observed ones, differences, and laws."""

import numpy as np
import pytest
from mock_star import C, observe
from scipy import constants

from stellarhml.forward.blends import Companion, Spots
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation
from stellarhml.forward.veiling import Veiling
from stellarhml.physics.blackbody import blackbody_flux, blackbody_slope

PIXELS = np.arange(8540.0, 8640.0, 0.05)
STAR = {"teff": 5420.0, "feh": -0.2, "rv": 21.0, "vsini": 6.0}
SECOND = {"flux_ratio": 0.4, "teff_2": 4810.0, "rv_2": -30.0, "vsini_2": 9.0}
SPOTS = {"teff_spot": 4600.0, "f_spot": 0.35}
STEPS = {"teff": 1.0, "teff_2": 1.0, "teff_spot": 1.0, "feh": 1e-3, "rv": 0.02, "vsini": 0.02}
STEPS |= {"rv_2": 0.02, "vsini_2": 0.02}


class Photospheres:
    """What the forward model asks of a generator: lines and levels that are smooth functions of two labels."""

    label_names_ = ("teff", "feh")

    def __init__(self, *, levels=True):
        self.wavelength_ = 8500 * np.exp(0.35 / C * np.arange(20_001))
        self.interpolator_ = type("Bounds", (), {"bounds_": np.array([[4000.0, 6000.0], [-1.0, 0.5]])})
        self.level_ = "known" if levels else None
        rng = np.random.default_rng(0)
        center, width = rng.uniform(8505, 8695, 150), rng.uniform(0.05, 0.2, 150)
        self._lines = np.exp(-0.5 * ((self.wavelength_ - center[:, None]) / width[:, None]) ** 2)
        self._strength, self._slope = rng.uniform(0.1, 1.5, 150), rng.normal(0, 8e-4, 150)

    def flux(self, teff, feh):
        return np.exp(-(self._strength * np.exp(self._slope * (teff - 5000) + feh)) @ self._lines)

    def render_rows(self, labels, pixels, *, tangents=False, change=None):
        strength = self._strength * np.exp(self._slope * (labels[0] - 5000) + labels[1])
        lines = self._lines[:, pixels]
        flux = np.exp(-strength @ lines)
        if not tangents:
            return flux[None]
        return np.stack([flux, -flux * ((strength * self._slope) @ lines), -flux * (strength @ lines)])

    def log_level(self, labels, wavelength, *, derivatives=False):
        x = (wavelength - 8600) / 1000
        level = 5 * np.log(labels[0] / 5000) * (1 - 0.4 * x) + 0.1 * labels[1] * x - 3 * x
        slopes = np.stack([5 / labels[0] * (1 - 0.4 * x), 0.1 * x])
        return (level, slopes) if derivatives else level


@pytest.fixture(scope="module")
def photospheres():
    return Photospheres()


def chain_of(generator, *stages, power=55_000.0):
    return ForwardChain(generator, Observation(PIXELS, resolving_power=power), stages=stages)


def observed(generator, teff, feh, rv, vsini):
    flux = generator.flux(teff, feh)
    return observe(generator.wavelength_, flux, PIXELS, rv=rv, vsini=vsini, resolving_power=55_000.0)


def test_companion_is_the_sum_of_two_observed_stars(photospheres):
    (got,) = chain_of(photospheres, Companion(photospheres)).flux(STAR | SECOND)
    one = observed(photospheres, 5420.0, -0.2, 21.0, 6.0)
    two = observed(photospheres, 4810.0, -0.2, -30.0, 9.0)
    middle = photospheres.wavelength_[[0, -1]].mean()
    levels = [
        np.exp(photospheres.log_level([teff, -0.2], PIXELS) - photospheres.log_level([teff, -0.2], middle))
        for teff in (5420.0, 4810.0)
    ]
    light = 0.4 * levels[1] / levels[0]
    # the tolerance of the comparisons of the chain with this code
    np.testing.assert_allclose(got, (one + light * two) / (1 + light), rtol=0, atol=3e-5)
    assert np.ptp(light) > 1e-3  # the color of the pair matters
    assert np.abs(got - one).max() > 0.1


def test_spots_are_weighted_by_surface_fluxes(photospheres):
    (got,) = chain_of(photospheres, Spots(photospheres)).flux(STAR | SPOTS)
    light = [
        share * np.exp(photospheres.log_level([teff, -0.2], PIXELS)) for share, teff in ((0.65, 5420.0), (0.35, 4600.0))
    ]
    fluxes = [observed(photospheres, teff, -0.2, 21.0, 6.0) for teff in (5420.0, 4600.0)]
    expected = (light[0] * fluxes[0] + light[1] * fluxes[1]) / (light[0] + light[1])
    np.testing.assert_allclose(got, expected, rtol=0, atol=3e-5)


def test_levels_of_black_bodies_where_the_grid_has_none():
    dark = Photospheres(levels=False)
    stage = Spots(dark)
    assert not stage.levels_known
    (got,) = chain_of(dark, stage).flux(STAR | SPOTS)
    # Planck's law with the constants of scipy
    k = constants.h * constants.c / (constants.k * PIXELS * 1e-10)
    ratio = 0.35 / 0.65 * np.expm1(k / 5420.0) / np.expm1(k / 4600.0)
    fluxes = [observed(dark, teff, -0.2, 21.0, 6.0) for teff in (5420.0, 4600.0)]
    np.testing.assert_allclose(got, (fluxes[0] + ratio * fluxes[1]) / (1 + ratio), rtol=0, atol=3e-5)


def test_slope_of_a_black_body():
    change = np.log(blackbody_flux(PIXELS, 5001.0) / blackbody_flux(PIXELS, 4999.0)) / 2
    np.testing.assert_allclose(blackbody_slope(PIXELS, 5000.0), change, rtol=1e-6)


@pytest.mark.parametrize("power", [None, 55_000.0])
@pytest.mark.parametrize("levels", [True, False], ids=["levels", "black bodies"])
@pytest.mark.parametrize(
    "make",
    [
        lambda generator: ([Companion(generator)], SECOND),
        lambda generator: ([Companion(generator, tied=())], SECOND | {"feh_2": -0.4}),
        lambda generator: ([Spots(generator)], SPOTS),
        lambda generator: ([Veiling(sloped=True, reference=8600.0)], {"veiling": 0.4, "veiling_slope": 2.0}),
        lambda generator: (
            [Spots(generator), Companion(generator), Veiling()],
            SPOTS | SECOND | {"veiling": 0.4},
        ),
    ],
    ids=["companion", "free companion", "spots", "veiling", "all"],
)
def test_tangents_equal_differences(make, levels, power):
    generator = Photospheres(levels=levels)
    stages, values = make(generator)
    chain, values = chain_of(generator, *stages, power=power), STAR | values
    (rows,) = chain.evaluate(values)
    np.testing.assert_allclose(rows.flux, chain.flux(values)[0], rtol=0, atol=1e-12)
    assert set(values) <= set(rows.tangents)
    for name, value in values.items():
        step = STEPS.get(name, 1e-3)
        high, low = (chain.flux(values | {name: value + sign * step})[0] for sign in (1, -1))
        change = (high - low) / (2 * step)
        # narrow lines change by more than the first order over the steps, by their square over the widths
        np.testing.assert_allclose(rows.tangents[name], change, rtol=0, atol=2e-4 * np.abs(change).max(), err_msg=name)


def test_errors_of_widths_pass_through_both_photospheres(photospheres):
    chain = chain_of(photospheres, Companion(photospheres))
    (rows,) = chain.evaluate(STAR | SECOND)
    sigma = Observation(PIXELS, resolving_power=55_000.0).orders[0].sigma
    # a higher resolving power is a negative variance of both stars' light, whose shares hardly change over a line
    np.testing.assert_allclose(
        rows.tangents["ln_resolving_power"], -2 * sigma**2 * rows.modes["line_variance"], rtol=0, atol=3e-6
    )


def test_what_changes_nothing(photospheres):
    plain = chain_of(photospheres).flux(STAR)[0]
    for stage, values in (
        (Companion(photospheres), SECOND | {"flux_ratio": 0.0}),
        (Spots(photospheres), SPOTS | {"f_spot": 0.0}),
        (Spots(photospheres), {"teff_spot": STAR["teff"], "f_spot": 0.8}),
        (Veiling(), {"veiling": 0.0}),
    ):
        np.testing.assert_allclose(chain_of(photospheres, stage).flux(STAR | values)[0], plain, rtol=0, atol=1e-9)


def test_spots_and_photosphere_may_be_exchanged(photospheres):
    chain = chain_of(photospheres, Spots(photospheres))
    exchanged = {"teff": SPOTS["teff_spot"], "teff_spot": STAR["teff"], "f_spot": 1 - SPOTS["f_spot"]}
    np.testing.assert_allclose(chain.flux(STAR | SPOTS)[0], chain.flux(STAR | exchanged)[0], rtol=0, atol=1e-9)


def test_pixels_without_the_light_of_the_second_star_are_not_covered(photospheres):
    stage = Companion(photospheres, bounds={"rv_2": (-100.0, 40.0)})
    low, high = photospheres.wavelength_[[0, -1]]
    edges = np.array([low * (1 + 85 / C), low * (1 + 95 / C), high * (1 - 155 / C), high * (1 - 145 / C)])
    assert stage.covers(edges).tolist() == [False, True, True, False]
    assert stage.margin(STAR | SECOND) == 0


def test_wrong_arguments_are_named(photospheres):
    with pytest.raises(ValueError, match=r"`tied` names 'logg'; the labels of both stars are teff, feh"):
        Companion(photospheres, tied=["logg"])
    with pytest.raises(ValueError, match=r"`alike` names 'logg'; the labels of both stars are teff, feh"):
        Companion(photospheres, alike={"logg": 0.1})
    with pytest.raises(ValueError, match=r"`alike` has 'feh': 0.05; .* labels that are not in `tied`"):
        Companion(photospheres, tied=["feh"], alike={"feh": 0.05})
    with pytest.raises(ValueError, match=r"`alike` has 'feh': -1; it needs the standard deviation"):
        Companion(photospheres, alike={"feh": -1})
    with pytest.raises(ValueError, match=r"`bounds` of 'teff_2' are .*within 4000 to 6000"):
        Companion(photospheres, bounds={"teff_2": (3000, 5000)})
    with pytest.raises(ValueError, match=r"`bounds` names 'teff', but the parameters are teff_spot, f_spot"):
        Spots(photospheres, bounds={"teff": (4000, 5000)})
    with pytest.raises(ValueError, match=r"`priors` names 'logg_2', but the parameters are flux_ratio, teff_2"):
        Companion(photospheres, priors={"logg_2": (4.5, 0.1)})
    with pytest.raises(ValueError, match="standard deviation is not positive"):
        Spots(photospheres, priors={"teff_spot": (4500.0, 0.0)})
    with pytest.raises(ValueError, match="needs a wavelength in angstrom"):
        Companion(photospheres, reference=-1.0)
    with pytest.raises(ValueError, match="a sloped veiling needs the wavelength"):
        Veiling(sloped=True)
    with pytest.raises(ValueError, match="needs a fitted SpectrumGenerator"):
        Spots(object())
