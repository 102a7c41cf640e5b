"""Fits of stars whose lines differ from the grid's: abundances, microturbulence, and faults of single lines."""

import copy
from pathlib import Path

import numpy as np
import pytest
from mock_line_grid import make_line_generator, tag_in_turn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from stellarhml import BayesianStellarRegressor, SpectrumGenerator, load, save
from stellarhml.datasets import make_stellar_grid
from stellarhml.explore.fit_jobs import STAGES
from stellarhml.flags import InferenceFlag
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation
from stellarhml.inference import results_table
from stellarhml.inference.line_errors import LEAST_INFLATION
from stellarhml.kernels.line_columns import KINDS
from stellarhml.synthesis.line_changes import LineChanges

N_LINES, SPECIES, POWER, SNR = 60, ["Fe I", "Si I", "Ca I"], 60_000, 150
TRUTH = {"teff": 5420.0, "logg": 4.05, "feh": -0.12, "rv": 3.0, "vsini": 4.0}
PIXELS = [np.arange(8504.0, 8535.0, 0.06), np.arange(8534.0, 8571.0, 0.06)]
SCATTER = {"strength": 0.2, "velocity": 0.2, "width": 0.04, "wing": 0.1}  # of the lines of other stars


@pytest.fixture(scope="module")
def generator():
    """Sixty lines of three species; one is strong."""
    return tag_in_turn(make_line_generator(N_LINES, strongest=2.0), SPECIES)


@pytest.fixture(scope="module")
def regressor(generator):
    """Stars here are of the generator's own physics, so that its error is left out."""
    return BayesianStellarRegressor.from_generator(generator, generator_error=False)


@pytest.fixture(scope="module")
def regressor_of_grid(mini_generator):
    """A regressor on the packaged grid, which has the calcium triplet."""
    return BayesianStellarRegressor.from_generator(mini_generator)


def star(generator, seed, changes=None, *, snr=SNR, pixels=PIXELS, **values):
    """Two orders of a star with noise, rendered by the forward model, as `infer` takes them."""
    rng = np.random.default_rng(seed)
    chain = ForwardChain(generator, Observation(pixels, resolving_power=POWER), changes=changes)
    fluxes = chain.flux(TRUTH | values)
    flux = [np.nan_to_num(flux, nan=1.0) + rng.normal(size=len(flux)) / snr for flux in fluxes]
    return list(pixels), flux, [np.full(len(x), 1 / snr) for x in flux]


def faulty(generator, seed):
    """Changes of lines at random."""
    rng = np.random.default_rng(1000 + seed)
    return LineChanges(generator, offsets={kind: SCATTER[kind] * rng.normal(size=N_LINES) for kind in KINDS})


def infer(regressor, spectrum, **settings):
    return regressor.infer(spectrum, resolving_power=POWER, **settings)


def off(result, **more):
    """Errors of the parameters in standard deviations."""
    truth = TRUTH | more
    return np.array([(result.values[name] - true) / result.errors[name] for name, true in truth.items()])


@pytest.fixture(scope="module")
def faulty_stars(generator):
    """Stars whose lines differ."""
    return [star(generator, seed, faulty(generator, seed)) for seed in range(10)]


@pytest.fixture(scope="module")
def fits(regressor, faulty_stars):
    """Results of these by the setting of line errors."""
    return {setting: [infer(regressor, s, line_errors=setting) for s in faulty_stars] for setting in ("auto", False)}


@pytest.mark.parametrize("snr", [50, 150, 2000])
def test_a_star_of_the_grids_own_physics_has_no_faults(generator, regressor, snr):
    """The result is that without line errors, to the last bit."""
    for seed in range(3):
        spectrum = star(generator, seed, snr=snr)
        found, plain = infer(regressor, spectrum), infer(regressor, spectrum, line_errors=False)
        assert plain.line_faults is None
        assert np.abs(off(plain)).max() < 4
        assert_same(found, plain)


@pytest.mark.parametrize("settings", [{}, {"jitter": True}, {"errors": None}, {"continuum_degree": None}], ids=str)
def test_a_fit_that_is_dropped_leaves_no_trace(generator, settings):
    """With the generator's own error, a jitter, or errors from the residuals; the star has some wild pixels."""
    regressor = BayesianStellarRegressor.from_generator(generator)
    wavelength, flux, error = star(generator, 1)
    flux[0][[100, 200, 300]] += 0.7
    error = [0.7 * part for part in error]  # so that there is a jitter to find
    spectrum = (wavelength, flux) if settings.pop("errors", error) is None else (wavelength, flux, error)
    found, plain = (infer(regressor, spectrum, **settings, line_errors=value) for value in ("auto", False))
    assert plain.n_rejected >= 3
    assert_same(found, plain)
    if settings.get("jitter"):
        assert found.jitter > 0


def assert_same(found, plain):
    """Both are results without line faults, equal to the last bit."""
    assert found.line_faults is None
    for name in ("names", "values", "errors", "flags", "messages", "n_pixels", "n_rejected", "jitter"):
        assert getattr(found, name) == getattr(plain, name), name
    for one, other in zip(found.orders, plain.orders, strict=True):
        for name in ("error", "model", "continuum", "model_error"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_faults_where_there_are_none_cost_little(generator, regressor):
    """All lines uncertain: the truth is found, and their scales vanish: errors grow by the least inflation, and by a
    free microturbulence."""
    for seed in range(3):
        spectrum = star(generator, seed)
        plain, found = infer(regressor, spectrum, line_errors=False), infer(regressor, spectrum, line_errors=True)
        assert np.abs(off(found, vmic=1.0)).max() < 4
        assert found.line_faults is not None
        assert plain.errors["teff"] < found.errors["teff"] < 1.6 * LEAST_INFLATION * plain.errors["teff"]
        assert found.line_faults["strength"].abs().max() < 0.1
        assert not found.flags & InferenceFlag.NOT_CONVERGED


def test_stars_with_other_lines_are_found_within_their_errors(fits):
    found, plain = (np.array([off(result) for result in fits[setting]]) for setting in ("auto", False))
    # the root mean square of fifty errors is known to 10 %, and labels of a star are correlated
    assert 0.4 < np.sqrt(np.mean(found**2)) < 1.4
    assert np.abs(found).max() < 4.5
    assert np.sqrt(np.mean(found**2)) < 0.8 * np.sqrt(np.mean(plain**2))
    for result, other in zip(fits["auto"], fits[False], strict=True):
        assert result.line_faults is not None
        assert result.reduced_chi2 < 1.2 < 1.5 < other.reduced_chi2
        assert other.flags & InferenceFlag.POOR_FIT
        assert not result.flags & (InferenceFlag.POOR_FIT | InferenceFlag.NOT_CONVERGED)


def test_parts_of_the_covariance_and_the_table(fits):
    for result in fits["auto"][:3]:
        assert set(result.covariances) == {"noise", "line_faults", "prior", "jackknife"}
        np.testing.assert_allclose(sum(result.covariances.values()), result.covariance, rtol=1e-9, atol=1e-15)
        i = result.names.index("teff")
        assert result.covariances["line_faults"][i, i] > 0
        assert result.noise_errors["teff"] < result.errors["teff"]
        assert np.linalg.eigvalsh(result.covariance / np.outer(*[list(result.errors.values())] * 2)).min() > 0
    table = results_table([fits["auto"][0], fits[False][0]])
    assert np.isfinite(table["vmic"][0])
    assert np.isnan(table["vmic"][1])
    assert table["teff"].notna().all()


def test_faults_are_those_of_the_lines(generator, fits):
    pulls, pairs = [], []
    for seed, result in enumerate(fits["auto"]):
        table = result.line_faults
        true = faulty(generator, seed).offsets
        assert set(table["species"]) <= set(SPECIES)
        np.testing.assert_allclose(table.index, generator.decomposer_.line_catalog_[table["line"]])
        assert len(table) > 40
        for kind in ("strength", "velocity"):
            own = table[table[f"{kind}_told"] > 0.5]
            pairs += [(kind, *pair) for pair in zip(own[kind], true[kind][own["line"]], strict=True)]
            pulls += ((own[kind] - true[kind][own["line"]]) / own[f"{kind}_std"]).tolist()
    for kind in ("strength", "velocity"):
        found, wanted = np.array([pair[1:] for pair in pairs if pair[0] == kind]).T
        assert len(found) > 100
        assert np.corrcoef(found, wanted)[0, 1] > 0.8
    # some hundred faults; non-linear ones of saturated lines are less Gaussian
    assert 0.7 < np.sqrt(np.mean(np.clip(pulls, -5, 5) ** 2)) < 1.4


@pytest.mark.parametrize("line_errors", [False, True])
@pytest.mark.parametrize("abundance", [-0.25, 0.3])
def test_an_abundance_is_found(generator, regressor, line_errors, abundance):
    changes = LineChanges(generator, elements=("Si",))
    spectrum = star(generator, 3, changes, **{"[Si/Fe]": abundance})
    settings = {"line_errors": line_errors, "abundances": ["Si"] if line_errors is False else "auto"}
    result = infer(regressor, spectrum, **settings)
    assert result.errors["[Si/Fe]"] < 0.05
    # its prior, of 0.1 dex, moves it by 3 (s / 0.1)^2: a quarter of its error at 0.03
    assert np.abs(off(result, **{"[Si/Fe]": abundance})).max() < 4
    assert abs(result.values["[Si/Fe]"]) > 4 * result.errors["[Si/Fe]"]
    assert result.units["[Si/Fe]"] == "dex"
    # without it, other parameters or faults take its place
    blind = infer(regressor, spectrum, line_errors=line_errors, abundances=None)
    assert not any(name.endswith("/Fe]") for name in blind.names)
    if line_errors is False:
        assert blind.reduced_chi2 > 1.5 * result.reduced_chi2
    else:
        assert {"[Si/Fe]", "[Ca/Fe]", "vmic"} <= set(result.names)
        assert blind.line_faults["strength"].std() > 2 * result.line_faults["strength"].std()


def test_abundances_and_microturbulence_without_line_errors(generator, regressor):
    changes = LineChanges(generator, elements=("Si",), microturbulence=True)
    spectrum = star(generator, 4, changes, **{"[Si/Fe]": 0.2, "vmic": 1.5})
    result = infer(regressor, spectrum, line_errors=False, abundances=["Si"], microturbulence=True)
    assert result.names == ("teff", "logg", "feh", "[Si/Fe]", "vmic", "rv", "vsini")
    assert np.abs(off(result, **{"[Si/Fe]": 0.2, "vmic": 1.5})).max() < 4
    assert result.errors["vmic"] < 0.15
    assert result.line_faults is None
    assert result.reduced_chi2 == pytest.approx(1, abs=0.15)
    # a name alone is one element
    assert infer(regressor, spectrum, line_errors=False, abundances="Si").names == (*TRUTH,)[:3] + (
        "[Si/Fe]",
        "rv",
        "vsini",
    )


def test_damping_is_found(generator, regressor):
    spectrum = star(generator, 5, LineChanges(generator, damping=True), damping=0.15)
    result = infer(regressor, spectrum, line_errors=False, damping=True, fixed={"logg": TRUTH["logg"]})
    assert abs(result.values["damping"] - 0.15) < 4 * result.errors["damping"] < 0.15


@pytest.mark.slow
def test_abundances_are_sampled(generator, regressor):
    """With the lines of the grid, which "auto" takes: line errors are marginalised with the Laplace approximation."""
    wavelength, flux, error = star(generator, 7, LineChanges(generator, elements=("Si",)), **{"[Si/Fe]": 0.2})
    order = wavelength[0], flux[0], error[0]
    settings = {"abundances": ["Si"], "fixed": TRUTH}
    plain = infer(regressor, order, **settings, line_errors=False)
    result = infer(regressor, order, **settings, posterior="emcee", n_draws=500, random_state=0)
    assert result.names == plain.names == ("teff", "logg", "feh", "[Si/Fe]", "rv", "vsini")
    draws = result.draws[:, result.names.index("[Si/Fe]")]
    assert np.mean(draws) == pytest.approx(0.2, abs=4 * plain.errors["[Si/Fe]"])
    assert np.std(draws) == pytest.approx(plain.errors["[Si/Fe]"], rel=0.3)
    assert result.line_faults is None


@pytest.mark.parametrize("line_errors", [False, True])
def test_what_is_fixed_stays(regressor, faulty_stars, line_errors):
    settings = {"line_errors": line_errors, "abundances": ["Si"], "microturbulence": True}
    free = infer(regressor, faulty_stars[0], **settings)
    for name, value in {"vmic": 1.0, "[Si/Fe]": 0.0, "logg": 4.0}.items():
        result = infer(regressor, faulty_stars[0], **settings, fixed={name: value})
        assert result.names == free.names
        assert result.values[name] == value
        assert result.errors[name] == 0
        assert free.errors[name] > 0
        assert all(result.errors[other] > 0 for other in free.names if other != name)
    with pytest.raises(ValueError, match=r"`fixed` sets '\[Si/Fe\]' to 9"):
        infer(regressor, faulty_stars[0], **settings, fixed={"[Si/Fe]": 9.0})


def test_all_labels_may_be_fixed(regressor, faulty_stars):
    fixed = {name: value for name, value in TRUTH.items() if name != "rv"}
    result = infer(regressor, faulty_stars[0], line_errors=True, abundances=None, microturbulence=False, fixed=fixed)
    assert [name for name, error in result.errors.items() if error > 0] == ["rv"]
    assert abs(result.values["rv"] - TRUTH["rv"]) < 4 * result.errors["rv"]


def test_messages_say_what_is_wrong(generator, regressor):
    spectrum = star(generator, 0)
    for name, value in (("line_errors", "yes"), ("microturbulence", "no"), ("damping", "auto"), ("abundances", 7)):
        with pytest.raises(ValueError, match=f"`{name}` is {value!r}; it needs"):
            infer(regressor, spectrum, **{name: value})
    with pytest.raises(ValueError, match=r"names 'Eu', but the tagged lines are of Ca, Si \(iron is \[Fe/H\], and"):
        infer(regressor, spectrum, abundances=["Si", "Eu"])
    with pytest.raises(ValueError, match="names 'Fe'"):
        infer(regressor, spectrum, abundances=["Fe"])
    bare = copy.copy(generator)
    bare.tags_ = None
    with pytest.raises(ValueError, match=r"tagged lines are of none .*Call SpectrumGenerator\.tag_lines"):
        infer(BayesianStellarRegressor.from_generator(bare), spectrum, abundances=["Si"])
    with pytest.raises(ValueError, match=r"`posterior` is 'emcee', but line errors .*line_errors=False"):
        infer(regressor, spectrum, line_errors=True, posterior="emcee")
    with pytest.raises(ValueError, match=r"`line_errors` is 'yes'"):
        list(regressor.infer_each([spectrum], resolving_power=POWER, line_errors="yes"))
    for parameters in ({"line_errors": "yes"}, {"grid_microturbulence": -1.0}):
        with pytest.raises(ValueError, match=next(iter(parameters))):
            BayesianStellarRegressor.from_generator(generator, **parameters)


def test_lines_without_species_have_faults_too(generator, faulty_stars, fits):
    bare = copy.copy(generator)
    bare.tags_ = None
    result = infer(BayesianStellarRegressor.from_generator(bare, generator_error=False), faulty_stars[0])
    assert result.names == ("teff", "logg", "feh", "vmic", "rv", "vsini")
    assert "species" not in result.line_faults
    assert np.abs(off(result)).max() < 4.5
    assert len(result.line_faults) == pytest.approx(len(fits["auto"][0].line_faults), abs=3)


def test_the_microturbulence_of_the_grid_is_that_of_the_regressor(generator, faulty_stars):
    regressor = BayesianStellarRegressor.from_generator(generator, generator_error=False, grid_microturbulence=1.8)
    result = infer(regressor, faulty_stars[0])
    # the lines tell its change from the grid's alone
    assert abs(result.values["vmic"] - 1.8) < 4 * result.errors["vmic"]
    assert result.errors["vmic"] < 0.3


def test_the_regressor_has_a_default_and_infer_another(generator, faulty_stars):
    careless = BayesianStellarRegressor.from_generator(generator, generator_error=False, line_errors=False)
    assert infer(careless, faulty_stars[0]).line_faults is None
    assert infer(careless, faulty_stars[0], line_errors=True).line_faults is not None


@pytest.mark.parametrize("value", [False, True])
def test_booleans_of_numpy_are_booleans(regressor, faulty_stars, value):
    settings = {"abundances": None, "microturbulence": True}
    plain = infer(regressor, faulty_stars[0], **settings, line_errors=value)
    settings["microturbulence"] = np.bool_(True)
    found = infer(regressor, faulty_stars[0], **settings, line_errors=np.bool_(value))
    assert found.values == plain.values
    assert (found.line_faults is None) == (plain.line_faults is None) == (not value)
    assert "vmic" in found.names


def test_molecules_have_a_factor_of_their_own(generator):
    """Lines of CN tell [C/Fe], [N/Fe] and that factor together: their sum is found, each alone is not."""
    carbon = tag_in_turn(copy.copy(generator), ["Fe I", "CN", "Si I"])
    spectrum = star(carbon, 6, LineChanges(carbon, elements=("N",)), **{"[N/Fe]": 0.3})
    regressor = BayesianStellarRegressor.from_generator(carbon, generator_error=False)
    result = infer(regressor, spectrum, line_errors=True)
    names = ["[C/Fe]", "[N/Fe]", "CN strength"]
    assert set(names) <= set(result.names)
    at = [result.names.index(name) for name in names]
    error = np.sqrt(result.covariance[np.ix_(at, at)].sum())
    total = sum(result.values[name] for name in names)
    # three priors of 0.1 dex each hold the sum with a standard deviation of 0.17
    assert abs(total - 0.3) < 4 * error < 0.3
    assert all(result.errors[name] > 0.05 for name in names)
    fixed = infer(regressor, spectrum, line_errors=True, fixed={"[C/Fe]": 0.0, "CN strength": 0.0})
    assert fixed.values["CN strength"] == fixed.errors["CN strength"] == 0
    assert abs(fixed.values["[N/Fe]"] - 0.3) < 4 * fixed.errors["[N/Fe]"]
    assert fixed.errors["[N/Fe]"] < 0.7 * result.errors["[N/Fe]"]


def test_a_label_may_be_the_microturbulence():
    """A grid in it: its spectra tell "vmic", and lines get no second one."""
    wavelength = 8500 + 0.03 * np.arange(700)
    labels = np.array([[t, v] for t in (5000.0, 5500.0, 6000.0) for v in (0.5, 1.5, 2.5)])
    rng = np.random.default_rng(0)
    flux = np.ones((9, 700))
    for center in np.arange(8501.0, 8520.0, 1.3):
        strength, heat = rng.uniform(0.2, 1.5), rng.uniform(-1, 1)
        for row, (teff, vmic) in zip(flux, labels, strict=True):
            width = center * np.sqrt(1.2**2 + 0.5 * vmic**2) / 299_792.458
            v = strength * np.exp(heat * (teff - 5500) / 500 - 0.5 * ((wavelength - center) / width) ** 2)
            row *= 1 - 0.8 * v / (1 + v)
    names = ("teff", "vmic")
    generator = SpectrumGenerator(wavelength=wavelength, label_names=names, residual_rank=None).fit(labels, flux)
    regressor = BayesianStellarRegressor.from_generator(generator, generator_error=False)
    pixels = np.arange(8502.0, 8519.0, 0.06)
    chain = ForwardChain(generator, Observation(pixels, resolving_power=POWER))
    (model,) = chain.flux({"teff": 5300.0, "vmic": 1.2, "rv": 0.0, "vsini": 3.0})
    noise = rng.normal(size=len(pixels)) / SNR
    spectrum = (pixels, model + noise, np.full(len(pixels), 1 / SNR))
    for line_errors in (True, False):
        result = infer(regressor, spectrum, line_errors=line_errors, microturbulence=True)
        assert result.names == (*names, "rv", "vsini")
        assert abs(result.values["vmic"] - 1.2) < 4 * result.errors["vmic"]


def test_the_generators_own_error_is_a_part(generator, faulty_stars, fits):
    result = infer(BayesianStellarRegressor.from_generator(generator), faulty_stars[1])
    assert result.generator_errors["teff"] > 0
    assert set(result.covariances) == {"noise", "line_faults", "prior", "generator", "jackknife"}
    assert np.abs(off(result)).max() < 4.5
    assert fits["auto"][1].generator_errors["teff"] == 0


def test_orders_beyond_the_band_and_wild_pixels(generator, regressor, faulty_stars, fits):
    wavelength, flux, error = (list(part) for part in faulty_stars[0])
    rng = np.random.default_rng(0)
    flux[0] = flux[0].copy()
    wild = rng.choice(len(flux[0]), 5, replace=False)
    flux[0][wild] += 0.5
    beyond = 9000 + PIXELS[0] - PIXELS[0][0]
    spectrum = ([*wavelength, beyond], [*flux, np.ones(len(beyond))], [*error, np.full(len(beyond), 0.01)])
    result = infer(regressor, spectrum)
    assert result.line_faults is not None
    assert result.flags & InferenceFlag.ORDER_OUTSIDE
    assert np.isinf(result.orders[0].error[wild]).all()
    assert result.n_rejected >= 5
    for name, value in fits["auto"][0].values.items():
        assert abs(result.values[name] - value) < result.errors[name]


def test_errors_need_not_be_given(regressor, faulty_stars, fits):
    result = infer(regressor, faulty_stars[0][:2])
    assert np.isnan(result.reduced_chi2)
    for name, value in fits["auto"][0].values.items():
        assert abs(result.values[name] - value) < result.errors[name]
        # noise measured from a thousand residuals
        assert result.errors[name] == pytest.approx(fits["auto"][0].errors[name], rel=0.3)


@pytest.mark.parametrize("factor", [0.75, 1.5])
@pytest.mark.parametrize("vsini", [0.0, 2.0])
def test_a_slow_rotator_with_another_line_spread_settles(generator, regressor, vsini, factor):
    """Rotation and line spread are nearly degenerate, and one of them may rest at its bound."""
    rows = star(generator, 3, faulty(generator, 3), vsini=vsini)
    found = regressor.infer(rows, resolving_power=factor * POWER, line_errors=True)
    assert not found.flags & (InferenceFlag.NOT_CONVERGED | InferenceFlag.LINES_DIFFER)
    labels = [(found.values[name] - TRUTH[name]) / found.errors[name] for name in ("teff", "logg", "feh")]
    assert np.abs(labels).max() < 4
    if factor < 1:  # stated too low: rotation cannot make lines narrower
        assert found.flags & InferenceFlag.RESOLVING_POWER
        # a rotation of 2 km/s that is taken as none counts as line spread, and the prior has a width of 5 %
        assert abs(np.log(found.resolving_power_factor[0] * factor)) < 0.15


@pytest.mark.parametrize("name", ["gaia_rvs_kepler-93", "gaia_rvs_kepler-409"])
def test_cores_of_strong_lines_are_left_out_where_lines_differ(regressor_of_grid, shared_data, name):
    """Observed cores of the calcium triplet are shallower than those of the grid, which took log g to its bound of 5.

    Both stars have log g 4.5 in the literature, within 0.03.
    """
    star = shared_data.real_star(name)
    spectrum = star["wavelength"], star["flux"], star["sigma"]
    found = infer_gaia(regressor_of_grid, spectrum)
    assert found.flags & InferenceFlag.LINES_DIFFER
    assert any("cores of strong lines masked" in message for message in found.messages)
    assert abs(found.values["logg"] - 4.5) < found.errors["logg"]
    assert infer_gaia(regressor_of_grid, spectrum, line_errors=False).values["logg"] > 4.9


def test_cores_of_strong_lines_are_left_out_of_a_line_fit(mini_generator):
    """Strengths of lines scatter, and the triplet is weak, as the first star of other physics has it."""
    rng, catalog = np.random.default_rng(3), np.asarray(mini_generator.decomposer_.line_catalog_)
    offsets = {kind: SCATTER[kind] * rng.normal(size=len(catalog)) for kind in KINDS}
    triplet = [np.abs(catalog - center).argmin() for center in (8500.35, 8544.43, 8664.52)]
    offsets["strength"][triplet], offsets["wing"][triplet] = -0.3, 0.0
    pixels, labels = np.arange(8460.0, 8690.0, 0.06), [5650.0, 4.6, -0.2]
    chain = ForwardChain(
        mini_generator,
        Observation([pixels], resolving_power=POWER),
        changes=LineChanges(mini_generator, offsets=offsets),
    )
    truth = dict(zip(mini_generator.label_names_, labels, strict=True)) | {"rv": 0.0, "vsini": 4.0}
    flux, error = chain.flux(truth)[0] + rng.normal(size=len(pixels)) / SNR, np.full(len(pixels), 1 / SNR)
    found = BayesianStellarRegressor.from_generator(mini_generator).infer((pixels, flux, error), resolving_power=POWER)
    assert found.line_faults is not None
    masked = ~np.isfinite(found.orders[0].error)
    assert f"{masked.sum() - found.n_rejected} pixels in the cores of strong lines masked" in found.messages
    core = chain.strong_cores(truth)[0]
    assert 30 < core.sum() < 150
    assert np.count_nonzero(core & ~masked) < 5  # the mask has the velocity and labels of the fit
    assert found.n_rejected < 10
    assert abs(found.values["logg"] - truth["logg"]) < 2.5 * found.errors["logg"]


def test_the_floor_is_at_most_a_prior(mini_generator, shared_data):
    star = shared_data.real_star("gaia_rvs_kepler-93")
    regressor = BayesianStellarRegressor.from_generator(mini_generator, priors={"logg": (4.47, 0.03)})
    found = infer_gaia(regressor, (star["wavelength"], star["flux"], star["sigma"]))
    assert found.flags & InferenceFlag.LINES_DIFFER
    budget = found.error_budget()["floor"]
    assert budget["logg"] == pytest.approx(0.03)
    assert budget["teff"] == pytest.approx(120.0)


def infer_gaia(regressor, spectrum, **settings):
    return regressor.infer(spectrum, resolving_power=11_500, **settings)


def test_progress_is_told(regressor, faulty_stars):
    stages = []
    infer(regressor, faulty_stars[0], callback=lambda stage, n: stages.append(stage))
    assert list(dict.fromkeys(stages))[-2:] == ["line fit", "errors"]
    assert set(stages) <= set(STAGES)  # the explorer shows the progress by them

    def stop(stage, n):
        if stage == "line fit":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        infer(regressor, faulty_stars[0], callback=stop)


def test_any_number_of_workers_gives_the_same(regressor, faulty_stars):
    one, two = (
        regressor.infer_many(faulty_stars[:4], resolving_power=POWER, n_jobs=n_jobs, verbose=False) for n_jobs in (1, 2)
    )
    for a, b in zip(one, two, strict=True):
        assert a.line_faults is not None
        assert a.values == b.values
        assert a.errors == b.errors
        np.testing.assert_array_equal(a.covariance, b.covariance)
        assert a.line_faults.equals(b.line_faults)


def test_a_result_does_not_depend_on_the_stars_before(regressor, faulty_stars, fits):
    again = infer(regressor, faulty_stars[3])
    assert again.values == fits["auto"][3].values
    assert again.errors == fits["auto"][3].errors


@pytest.mark.filterwarnings("ignore:.*label at a bound:stellarhml.exceptions.InferenceWarning")
def test_line_errors_are_a_parameter_of_the_estimator():
    grid = make_stellar_grid(n_lines=4, n_pixels=200, random_state=0)
    generator = SpectrumGenerator(wavelength=grid.wavelength)
    regressor = BayesianStellarRegressor(generator=generator, line_errors=True, n_starts=1, random_state=0)
    assert clone(regressor).get_params()["line_errors"] is True
    search = GridSearchCV(regressor, {"line_errors": [True, False, "auto"]}, cv=[(np.arange(24), np.arange(8, 12))])
    search.fit(grid.flux, grid.labels)
    # labels by `predict` take the lines as they are
    assert np.ptp(search.cv_results_["mean_test_score"]) == 0
    assert search.best_estimator_.line_errors is True


def test_a_saved_regressor_keeps_its_line_errors(tmp_path, generator, faulty_stars):
    regressor = BayesianStellarRegressor.from_generator(
        generator, generator_error=False, line_errors=True, grid_microturbulence=1.5
    )
    again = load(save(regressor, tmp_path / "regressor.asdf"))
    assert (again.line_errors, again.grid_microturbulence) == (True, 1.5)
    assert infer(again, faulty_stars[0]).values == infer(regressor, faulty_stars[0]).values


def test_a_regressor_of_version_1_0_loads():
    path = Path(__file__).parents[1] / "storage" / "fixtures" / "bayesian_stellar_regressor-1.0.0.asdf"
    regressor = load(path)
    assert (regressor.line_errors, regressor.grid_microturbulence) == ("auto", 1.0)
    generator = regressor.generator_
    labels = generator.interpolator_.nodes_.mean(axis=0)
    flux = generator.predict(labels[None])[0]
    inside = slice(20, -20)
    result = regressor.infer((generator.wavelength_[inside], flux[inside]), resolving_power=100_000)
    assert np.isfinite(list(result.values.values())).all()
    state = regressor.to_state()
    with pytest.raises(Exception, match="no parameters of line errors"):
        BayesianStellarRegressor.from_state_1_0(state)


def test_bounds_and_priors_of_changes_of_lines(generator, faulty_stars):
    """They narrow and replace those that the parameters declare, and do not touch the labels."""
    settings = {"abundances": ["Si"], "microturbulence": True, "damping": True, "line_errors": True}
    bounds = {"vmic": (0.2, 0.7), "[Si/Fe]": (0.1, 0.4), "damping": (-0.5, -0.3)}
    bounded = BayesianStellarRegressor.from_generator(generator, bounds=bounds)
    assert list(bounded.bounds_) == ["teff", "logg", "feh", "rv", "vsini", "vmic", "[Si/Fe]", "damping"]
    result = infer(bounded, faulty_stars[0], **settings)
    for name, (low, high) in bounds.items():
        assert low <= result.values[name] <= high
        assert result.bounds[name] == (low, high)
    held = BayesianStellarRegressor.from_generator(generator, priors={"vmic": (1.6, 1e-3), "[Si/Fe]": (0.3, 1e-3)})
    result = infer(held, faulty_stars[0], **settings)
    assert result.values["vmic"] == pytest.approx(1.6, abs=0.01)
    assert result.values["[Si/Fe]"] == pytest.approx(0.3, abs=0.01)
    alone = BayesianStellarRegressor.from_generator(generator, bounds={"vmac": (1.0, 1.5)})
    result = infer(alone, faulty_stars[0], macroturbulence="gaussian", line_errors=False)
    assert 1.0 <= result.values["vmac"] <= 1.5
    with pytest.raises(ValueError, match=r"not within 1 to 1\.5"):
        infer(alone, faulty_stars[0], macroturbulence="gaussian", fixed={"vmac": 2.0})
    with pytest.raises(ValueError, match=r"`bounds` of '\[Si/Fe\]'.* lie within -1.5 to 1.5"):
        BayesianStellarRegressor.from_generator(generator, bounds={"[Si/Fe]": (-2, 0)})
    for argument in ("bounds", "priors"):
        with pytest.raises(ValueError, match=r"names '\[Mg/Fe\]', but the parameters are .*\[Si/Fe\]"):
            BayesianStellarRegressor.from_generator(generator, **{argument: {"[Mg/Fe]": (0.0, 0.1)}})
