"""A generator built for one resolving power, against one at full resolution of the same grid."""

import grid_files
import numpy as np
import pytest

from stellarhml import BayesianStellarRegressor, SpectrumGenerator, load, save
from stellarhml.datasets import load_grid, make_stellar_grid
from stellarhml.forward.blends import Companion
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.line_spread import GaussHermite
from stellarhml.forward.observation import Observation
from stellarhml.forward.stages import Stage
from stellarhml.forward.tellurics import Tellurics
from stellarhml.forward.transmission import Transmission

POWER = 20_000
STAR = {"teff": 5330.0, "logg": 3.8, "feh": -0.2}
LABELS = [list(STAR.values())]
NODE = [[5250.0, 4.0, 0.0]]


@pytest.fixture(scope="module")
def full():
    """At full resolution, 60 angstrom in 1,200 pixels."""
    grid = make_stellar_grid(n_teff=4, n_logg=3, n_feh=3, n_pixels=1200, n_lines=25, random_state=4)
    return SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux), grid


@pytest.fixture(scope="module")
def low(full, tmp_path_factory):
    """The same grid for a resolving power of 20,000."""
    path = tmp_path_factory.mktemp("grid") / "grid.npz"
    np.savez(path, **grid_files.arrays_of(full[1], label_names=["teff", "logg", "feh"]))
    grid = load_grid(path, medium="vacuum", unit="angstrom", resolving_power=POWER, dtype=np.float64)
    assert grid.resolving_power == POWER
    assert grid.wavelength.size < 700
    generator = SpectrumGenerator(wavelength=grid.wavelength, resolving_power=grid.resolving_power)
    return generator.fit(grid.labels, grid.flux)


@pytest.fixture(scope="module")
def pixels():
    return np.arange(8506.0, 8553.0, 0.12)


@pytest.mark.parametrize(
    "power", [POWER, 12_000, np.linspace(10_000, POWER, 392)], ids=["the same", "lower", "for each pixel"]
)
@pytest.mark.parametrize("vsini", [0.0, 15.0])
def test_equals_full_resolution(full, low, pixels, power, vsini):
    moving = {"rv": 20.0, "vsini": vsini}
    expected = full[0].observe(NODE, pixels, resolving_power=power, **moving)
    # both reproduce a node but for residuals of high order; without the difference in quadrature it is off by 0.02
    np.testing.assert_allclose(low.observe(NODE, pixels, resolving_power=power, **moving), expected, atol=5e-4)


def test_between_nodes_it_differs_by_its_own_error(full, low, pixels):
    """Broadened lines follow the labels less simply than sharp ones."""
    expected = full[0].observe(LABELS, pixels, resolving_power=POWER)[0]
    found = low.observe(LABELS, pixels, resolving_power=POWER)[0]
    _, std = low.predict(LABELS, return_std=True)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 2 * np.sqrt(np.mean(std**2)) < 5e-3


def test_without_a_resolving_power_it_has_its_own(full, low, pixels):
    own = low.observe(LABELS, pixels, rv=20.0)
    np.testing.assert_allclose(own, low.observe(LABELS, pixels, rv=20.0, resolving_power=POWER), atol=1e-12)
    assert np.abs(full[0].observe(LABELS, pixels, rv=20.0) - own).max() > 0.02


def test_higher_is_refused(full, low, pixels):
    for power in (20_001, np.linspace(10_000, 25_000, pixels.size)):
        with pytest.raises(ValueError, match=r"`resolving_power` is 2\d+, but the generator was built for 20000"):
            low.observe(LABELS, pixels, resolving_power=power)
    flux = full[0].observe(LABELS, pixels, resolving_power=30_000)[0]
    regressor = BayesianStellarRegressor.from_generator(low)
    with pytest.raises(ValueError, match=r"Order 0: .*is 30000, but .* Build a generator without --resolving-power"):
        regressor.infer((pixels, flux, 0.01 + 0 * flux), resolving_power=30_000)


def test_two_photospheres_need_one_resolution(full, low, pixels):
    with pytest.raises(ValueError, match=r"resolving powers 20000.* and None.* need the same"):
        Companion(low, primary=full[0])
    values = dict(zip(("teff", "logg", "feh"), NODE[0], strict=True)) | {"rv": 5.0, "vsini": 4.0}
    values |= {"flux_ratio": 0.4, "teff_2": 5000.0, "logg_2": 4.0, "rv_2": 60.0, "vsini_2": 6.0}
    seen = [
        ForwardChain(
            generator, Observation(pixels, resolving_power=12_000), stages=[Companion(generator, reference=8530.0)]
        ).flux(values)[0]
        for generator in (full[0], low)
    ]
    np.testing.assert_allclose(seen[1], seen[0], atol=5e-4)


def test_other_line_spreads_and_a_free_one_are_refused(low, pixels):
    spread = GaussHermite(15_000, h3=0.05, h4=0.0)
    with pytest.raises(ValueError, match=r"is a GaussHermite, but the generator was built for 20000 with a Gaussian"):
        low.observe(LABELS, pixels, resolving_power=spread)
    star = (pixels, low.observe(LABELS, pixels)[0], np.full(pixels.size, 0.01))
    with pytest.raises(ValueError, match=r"`resolving_power_error` is 0\.1, but .* 20000, which a free one may exceed"):
        BayesianStellarRegressor.from_generator(low).infer(star, resolving_power=15_000, resolving_power_error=0.1)


@pytest.mark.parametrize("more", [{"microturbulence": True}, {"damping": True}])
def test_physics_of_single_lines_is_refused(low, pixels, more):
    regressor = BayesianStellarRegressor.from_generator(low)
    flux = low.observe(LABELS, pixels)[0]
    star = (pixels, flux, np.full(pixels.size, 0.01))
    with pytest.raises(ValueError, match=r"need lines at full resolution, but this generator was built for .* 20000"):
        regressor.infer(star, resolving_power=POWER, **more)
    assert "vmic" not in regressor.infer(star, resolving_power=POWER, line_errors=True).values


def test_transmission_is_refused(low, pixels):
    fine = np.arange(8490.0, 8570.0, 0.01)
    air = Transmission(fine, np.ones(fine.size))
    for stage in (air, Tellurics(fine, np.ones(fine.size))):
        with pytest.raises(ValueError, match=r"acts on the light before the line spread.*20000 already"):
            ForwardChain(low, Observation(pixels, resolving_power=15_000), stages=[stage])
    ForwardChain(low, Observation(pixels, resolving_power=15_000), stages=[Stage()])


@pytest.mark.parametrize("stages", [(), (Stage(),)], ids=["fused", "staged"])
@pytest.mark.parametrize("power", [14_000.0, POWER * 0.999999])
def test_tangent_by_the_resolving_power_equals_differences(low, pixels, power, stages):
    values = STAR | {"rv": 5.0, "vsini": 8.0}

    def flux(value):
        return ForwardChain(low, Observation(pixels, resolving_power=value), stages=stages).flux(values)[0]

    (rows,) = ForwardChain(low, Observation(pixels, resolving_power=power), stages=stages).evaluate(values)
    low_power, high_power = power * np.exp([-2e-3, 0.0])
    slope = (flux(high_power) - flux(low_power)) / 2e-3
    middle = np.sqrt(low_power * high_power)
    (rows,) = ForwardChain(low, Observation(pixels, resolving_power=middle), stages=stages).evaluate(values)
    np.testing.assert_allclose(rows.tangents["ln_resolving_power"], slope, atol=3e-3 * np.abs(slope).max())


@pytest.mark.parametrize("power", [POWER, 14_000])
def test_infers_the_same(full, low, pixels, power):
    seen = full[0].observe(NODE, pixels, resolving_power=power, rv=-12.0, vsini=10.0)[0]
    error = np.full(pixels.size, 0.01)
    star = (pixels, seen + np.random.default_rng(3).normal(scale=error), error)
    one, two = (
        BayesianStellarRegressor.from_generator(generator).infer(star, resolving_power=power)
        for generator in (full[0], low)
    )
    for name, error in one.errors.items():
        assert abs(one.values[name] - two.values[name]) < 0.7 * error, name  # the same noise
        assert two.errors[name] == pytest.approx(error, rel=0.25), name
    assert "RESOLVING_POWER" not in two.flag_names


def test_none_is_the_generators_own(low, pixels):
    seen = low.observe(LABELS, pixels, rv=3.0)[0]
    star = (pixels, seen, np.full(pixels.size, 0.005))
    regressor = BayesianStellarRegressor.from_generator(low)
    one, two = (regressor.infer(star, resolving_power=power) for power in (None, POWER))
    for name in ("teff", "logg", "feh", "rv"):
        assert abs(one.values[name] - two.values[name]) < 0.05 * one.errors[name], name
        assert abs(one.values[name] - (STAR | {"rv": 3.0})[name]) < one.errors[name]


def test_saved_and_loaded(low, tmp_path, pixels):
    again = load(save(low, tmp_path / "low.asdf"))
    assert again.resolving_power == POWER
    np.testing.assert_array_equal(
        again.observe(LABELS, pixels, resolving_power=15_000), low.observe(LABELS, pixels, resolving_power=15_000)
    )


@pytest.mark.parametrize("power", [0, -1.0, 1, "sharp", [2e4]])
def test_no_resolving_power(full, power):
    grid = full[1]
    with pytest.raises(ValueError, match="'resolving_power' parameter of SpectrumGenerator"):
        SpectrumGenerator(wavelength=grid.wavelength, resolving_power=power).fit(grid.labels, grid.flux)
