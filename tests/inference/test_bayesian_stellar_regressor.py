"""BayesianStellarRegressor: flux to labels."""

import itertools
import warnings

import numpy as np
import pytest
from numpy.polynomial import Polynomial
from sklearn.base import clone

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid
from stellarhml.exceptions import InferenceWarning

TRUTH = np.array([[5310.0, 3.9, -0.2], [5620.0, 4.2, -0.35]])
SPAN = np.array([750.0, 1.0, 0.5])
QUICK = VoigtLineDecomposer(n_rounds=0, subsample=6)  # for tests that do not ask how well lines were learnt


@pytest.fixture(scope="module")
def grid():
    return make_stellar_grid(random_state=0)


@pytest.fixture(scope="module")
def generator(grid):
    return SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)


@pytest.fixture(scope="module")
def nodes(generator):
    """A regressor with the quick search."""
    return BayesianStellarRegressor.from_generator(generator, search="nodes", n_starts=1, random_state=0)


def toy(n_labels, n_values=3):
    """A grid with one line per label, whose depth is that label, and one that stays."""
    wavelength = 8500 + 0.05 * np.arange(40 * (n_labels + 1))
    labels = np.array(list(itertools.product(np.linspace(0, 1, n_values), repeat=n_labels)))
    return wavelength, labels, toy_flux(wavelength, labels)


def toy_flux(wavelength, labels):
    flux = 1 - 0.5 * np.exp(-0.5 * ((wavelength - 8501.0) / 0.1) ** 2) + np.zeros((len(labels), 1))
    for k, column in enumerate(labels.T):
        flux = flux - (0.2 + 0.4 * column)[:, None] * np.exp(-0.5 * ((wavelength - 8503.0 - 2 * k) / 0.1) ** 2)
    return flux


def fitted_toy(n_labels, **parameters):
    wavelength, labels, flux = toy(n_labels)
    generator = SpectrumGenerator(wavelength=wavelength)
    options = {"search": "nodes", "n_starts": 1, "random_state": 0, **parameters}
    return BayesianStellarRegressor(generator=generator, **options).fit(flux, labels), wavelength


@pytest.mark.parametrize(
    "parameters",
    [
        {"search": "nodes"},
        {"search": "nodes", "continuum_degree": None, "n_starts": 1},
        {"search": "bayes", "n_initial_points": 8, "n_calls": 9, "n_starts": 2},
    ],
    ids=["nodes", "no continuum", "bayes"],
)
def test_spectra_of_the_generator_give_their_labels_back(generator, parameters):
    regressor = BayesianStellarRegressor.from_generator(generator, random_state=0, **parameters)
    # a least-squares minimum without noise: only the tolerance of the polish (1e-8) and the ends of wings are left,
    # 1e-7 in flux, over derivatives of 0.05 and more
    np.testing.assert_allclose(regressor.predict(generator.predict(TRUTH)) / SPAN, TRUTH / SPAN, rtol=0, atol=1e-5)


def test_the_search_alone_is_as_coarse_as_its_points(generator):
    flux = generator.predict(TRUTH)
    with pytest.warns(InferenceWarning, match="2 have a label at a bound"):  # as most nodes have
        scan = BayesianStellarRegressor.from_generator(generator, search="nodes", polish=False).predict(flux)
    assert all(any(np.array_equal(row, node) for node in generator.interpolator_.nodes_) for row in scan)
    # the node that is chosen has the spectrum most like the given one
    distance = ((generator.predict(generator.interpolator_.nodes_)[:, None] - flux) ** 2).sum(axis=2)
    np.testing.assert_array_equal(scan, generator.interpolator_.nodes_[distance.argmin(axis=0)])
    paper = {
        "search": "bayes",
        "polish": False,
        "continuum_degree": None,
        "n_initial_points": 10,
        "n_calls": 12,
        "random_state": 0,
    }
    few = BayesianStellarRegressor.from_generator(generator, **paper).predict(flux[:1])
    # log g shows least: a call in the wrong half of it may be the best of 12
    assert np.abs((few - TRUTH[:1]) / SPAN)[:, [0, 2]].max() < 0.2
    assert np.abs((few - TRUTH[:1]) / SPAN).max() > 1e-3  # not polished


@pytest.mark.slow
@pytest.mark.parametrize("n_labels", [1, 2, 4])
@pytest.mark.parametrize("search", ["nodes", "bayes"])
def test_any_names_and_number_of_labels(n_labels, search):
    wavelength, labels, flux = toy(n_labels)
    names = ("alpha", "c_over_o", "teff", "logg")[:n_labels]
    regressor = BayesianStellarRegressor(
        generator=SpectrumGenerator(wavelength=wavelength, label_names=names),
        search=search,
        n_initial_points=5,
        n_calls=6,
        n_starts=1,
        random_state=0,
        bounds={names[-1]: (0.1, 0.9)},
    ).fit(flux, labels)
    want = np.array([[0.3, 0.45, 0.62, 0.7][:n_labels]])
    got = regressor.predict(toy_flux(wavelength, want))
    assert regressor.generator_.label_names_ == names
    # cubic interpolation of optical depths between three nodes
    np.testing.assert_allclose(got, want, atol=0.03)


def test_one_dimensional_labels_give_one_dimensional_results():
    wavelength, labels, flux = toy(1)
    regressor = BayesianStellarRegressor(generator=SpectrumGenerator(wavelength=wavelength), search="nodes")
    regressor.fit(flux, labels[:, 0])
    got, std = regressor.predict(toy_flux(wavelength, np.array([[0.3], [0.6]])), return_std=True)
    assert got.shape == std.shape == (2,)
    np.testing.assert_allclose(got, [0.3, 0.6], atol=0.03)


def test_bounds_by_name_hold(generator):
    bounds = {"teff": (5400.0, 5700.0), "feh": (-0.3, 0.0)}
    for search in ("nodes", "bayes"):
        regressor = BayesianStellarRegressor.from_generator(
            generator, bounds=bounds, search=search, n_initial_points=4, n_calls=5, n_starts=1, random_state=0
        )
        low, high = np.array([regressor.bounds_[name] for name in generator.label_names_]).T
        np.testing.assert_array_equal([low, high], [[5400, 3.5, -0.3], [5700, 4.5, 0]])
        with pytest.warns(InferenceWarning, match="have a label at a bound"):
            got = regressor.predict(generator.predict(TRUTH))
        assert np.all((got >= low) & (got <= high))


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"age": (0, 1)}, "`bounds` names 'age', but the parameters are"),
        ({"teff": (4000, 5500)}, "lie within the grid's 5000 to 5750"),
        ({"teff": (5500, 5100)}, "must increase"),
        ({"teff": (5500, 5500)}, "must increase"),
        ({"teff": (np.nan, 5500)}, "must increase"),
    ],
)
def test_bad_bounds_are_refused(generator, bounds, message):
    with pytest.raises(ValueError, match=message):
        BayesianStellarRegressor.from_generator(generator, bounds=bounds)


def test_labels_at_a_bound_are_said(grid):
    # trained without the hottest plane, shown two stars of it and one from inside
    cool = grid.labels[:, 0] < 5700
    regressor = BayesianStellarRegressor(generator=SpectrumGenerator(wavelength=grid.wavelength), search="nodes")
    regressor.fit(grid.flux[cool], grid.labels[cool])
    between = regressor.generator_.predict([[5310.0, 3.9, -0.2]])
    with pytest.warns(InferenceWarning, match=r"Of 3 spectra, 2 have a label at a bound of the grid, 0 did not"):
        labels = regressor.predict(np.concatenate([grid.flux[~cool][2:4], between]))
    np.testing.assert_allclose(labels[:2, 0], 5500, atol=1)


def test_standard_deviations_are_the_scatter_over_noise():
    regressor, wavelength = fitted_toy(2, generator_error=False)
    sigma, n_draws = 0.01, 40
    star = toy_flux(wavelength, np.array([[0.4, 0.6]]))
    noise = np.random.default_rng(0).normal(scale=sigma, size=(n_draws, wavelength.size))
    labels, std = regressor.predict(star + noise, flux_error=np.full(noise.shape, sigma), return_std=True)
    assert labels.shape == std.shape == (n_draws, 2)
    # the scatter of 40 draws is known to 1 / sqrt(2 * 39) = 11 %: three times that is 34 %
    np.testing.assert_allclose(std.mean(axis=0), labels.std(axis=0, ddof=1), rtol=0.34)
    # without errors they are estimated from what the fit leaves over: the same, as the noise is what it was said to be
    _, estimated = regressor.predict((star + noise)[:5], return_std=True)
    np.testing.assert_allclose(estimated, std[:5], rtol=0.3)
    # errors said to be twice as large give twice the standard deviations, and the same labels
    double, double_std = regressor.predict(
        (star + noise)[:5], flux_error=np.full((5, wavelength.size), 2 * sigma), return_std=True
    )
    np.testing.assert_allclose(double_std, 2 * std[:5], rtol=1e-3)
    np.testing.assert_allclose(double, labels[:5], atol=1e-3)


def test_standard_deviations_include_the_freedom_of_the_continuum():
    # a line so broad that a cubic takes up part of it: what the label shows beside the continuum is less
    wavelength = 8500 + 0.05 * np.arange(80)
    labels = np.linspace(0, 1, 4)

    def spectra(labels):
        return 1 - (0.2 + 0.4 * labels)[:, None] * np.exp(-0.5 * ((wavelength - 8502.01) / 0.5) ** 2)

    noise = np.random.default_rng(0).normal(scale=0.01, size=(40, 80))
    error, quoted = np.full(noise.shape, 0.01), {}
    for degree in (None, 3):
        regressor = BayesianStellarRegressor(
            generator=SpectrumGenerator(wavelength=wavelength),
            search="nodes",
            n_starts=1,
            continuum_degree=degree,
            generator_error=False,
        ).fit(spectra(labels), labels)
        found, std = regressor.predict(spectra(np.array([0.45])) + noise, flux_error=error, return_std=True)
        quoted[degree] = std.mean()
        # the scatter of 40 draws is known to 11 %: three times that
        assert quoted[degree] == pytest.approx(found.std(ddof=1), rel=0.34)
    assert quoted[3] > 1.6 * quoted[None]


def test_draws_have_the_standard_deviations_and_stay_in_bounds():
    regressor, wavelength = fitted_toy(2)
    truth = np.array([[0.4, 0.6], [0.02, 0.5]])
    star = toy_flux(wavelength, truth) + np.random.default_rng(1).normal(scale=0.01, size=(2, wavelength.size))
    error = np.full(star.shape, 0.01)
    labels, std = regressor.predict(star, flux_error=error, return_std=True)
    draws = regressor.sample_posterior(star, flux_error=error, n_draws=4000, random_state=0)
    assert draws.shape == (2, 4000, 2)
    # 4000 draws know a standard deviation to 1.1 % and a mean to 1.6 % of it: five times that
    np.testing.assert_allclose(draws[0].std(axis=0), std[0], rtol=0.06)
    assert np.all(np.abs(draws[0].mean(axis=0) - labels[0]) < 0.08 * std[0])
    assert draws[1, :, 0].min() >= 0
    np.testing.assert_array_equal(
        draws, regressor.sample_posterior(star, flux_error=error, n_draws=4000, random_state=0)
    )


def test_a_label_without_a_trace_has_an_infinite_standard_deviation():
    wavelength, labels, flux = toy(1)
    labels = np.array([[a, b] for a in labels[:, 0] for b in (0.0, 1.0)])
    regressor = BayesianStellarRegressor(generator=SpectrumGenerator(wavelength=wavelength), search="nodes", n_starts=1)
    regressor.fit(np.repeat(flux, 2, axis=0), labels)
    star = toy_flux(wavelength, np.array([[0.4]])) + np.random.default_rng(0).normal(scale=0.01, size=wavelength.size)
    with warnings.catch_warnings():
        # where a search over nodes begins with this label, at one of its bounds, it may remain
        warnings.simplefilter("ignore", InferenceWarning)
        _, std = regressor.predict(star, return_std=True)
    assert 0 < std[0, 0] < 0.2
    assert std[0, 1] > 1e3  # infinite, or so large that rounding is all it rests on


def test_a_fixed_label_has_no_standard_deviation(grid):
    one = grid.labels[:, 2] == 0
    regressor = BayesianStellarRegressor(generator=SpectrumGenerator(wavelength=grid.wavelength), search="nodes")
    regressor.fit(grid.flux[one], grid.labels[one])
    star = regressor.generator_.predict([[5310.0, 3.9, 0.0]])
    labels, std = regressor.predict(star, return_std=True)
    assert (labels[0, 2], std[0, 2]) == (0.0, 0.0)
    assert np.all(std[0, :2] > 0)


def test_a_masked_pixel_changes_nothing(nodes, generator):
    flux = generator.predict(TRUTH)
    error = np.full(flux.shape, 0.01)
    error[:, ::7] = np.inf
    spoilt = flux.copy()
    spoilt[:, ::7] = 1e6
    clean = nodes.predict(flux, flux_error=error, return_std=True)
    for ours, theirs in zip(nodes.predict(spoilt, flux_error=error, return_std=True), clean, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(clean[0] / SPAN, TRUTH / SPAN, atol=1e-3)


@pytest.mark.filterwarnings("ignore:Of 1 spectra, 1 have a label at a bound")  # the spectrum is that of a node
def test_a_masked_pixel_changes_nothing_in_the_normalisation_either(grid):
    preprocessor = PhoenixPreprocessor(peak_distance=40, degree=3)
    generator = SpectrumGenerator(wavelength=grid.wavelength, preprocessor=preprocessor, decomposer=QUICK)
    regressor = BayesianStellarRegressor(generator=generator, search="nodes", n_starts=1, continuum_degree=None)
    regressor.fit(grid.flux, grid.labels)
    masked = regressor.generator_.preprocessor_.anchors_[2]
    flux = grid.flux[[9]].copy()
    error = np.full(flux.shape, 0.01)
    error[0, masked] = np.inf
    clean = regressor.predict(flux, flux_error=error)
    flux[0, masked] = 1.5
    np.testing.assert_allclose(regressor.predict(flux, flux_error=error) / SPAN, clean / SPAN, atol=1e-3)


def test_errors_of_raw_flux_are_scaled_with_it(grid):
    preprocessor = PhoenixPreprocessor(peak_distance=40, degree=3, window=(8500.5, 8519.0))
    generator = SpectrumGenerator(wavelength=grid.wavelength, preprocessor=preprocessor, decomposer=QUICK)
    regressor = BayesianStellarRegressor(generator=generator, search="nodes", n_starts=1).fit(grid.flux, grid.labels)
    star = regressor.generator_.predict(TRUTH[:1])
    raw = np.pad(star, ((0, 0), (10, 400 - 10 - star.shape[1])), constant_values=1.0)
    labels, std = regressor.predict(raw, flux_error=np.full((1, 400), 0.01), return_std=True)
    scaled, scaled_std = regressor.predict(raw * 1e15, flux_error=np.full((1, 400), 1e13), return_std=True)
    np.testing.assert_allclose(scaled / SPAN, labels / SPAN, atol=1e-6)
    np.testing.assert_allclose(scaled_std, std, rtol=1e-4)


def test_all_pixels_masked_is_refused(nodes, generator):
    flux = generator.predict(TRUTH)
    error = np.full(flux.shape, 0.01)
    error[1] = np.inf
    with pytest.raises(ValueError, match="All pixels of spectrum 1 that the generator uses are masked"):
        nodes.predict(flux, flux_error=error)


@pytest.mark.parametrize("bad", [0.0, -0.01, np.nan, -np.inf])
def test_errors_that_are_not_positive_are_refused(nodes, generator, bad):
    flux = generator.predict(TRUTH)
    error = np.full(flux.shape, 0.01)
    error[0, 5] = bad
    with pytest.raises(ValueError, match=r"needs a positive error for each flux"):
        nodes.predict(flux, flux_error=error)


def test_errors_of_another_shape_are_refused(nodes, generator):
    with pytest.raises(ValueError, match=r"`flux_error` has shape \(1, 400\)"):
        nodes.predict(generator.predict(TRUTH), flux_error=np.full((1, 400), 0.01))


def test_a_wrong_number_of_pixels_is_refused(nodes):
    with pytest.raises(ValueError, match="X has 399 features, but BayesianStellarRegressor is expecting 400"):
        nodes.predict(np.ones((1, 399)))


def test_one_node_only_is_refused(grid):
    with pytest.raises(ValueError, match="one node only"):
        BayesianStellarRegressor().fit(grid.flux[[0, 0, 0]], grid.labels[[0, 0, 0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_flux_that_is_not_finite_is_refused(nodes, generator, bad):
    flux = generator.predict(TRUTH)
    flux[0, 9] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        nodes.predict(flux)


@pytest.mark.parametrize("search", ["nodes", "bayes"])
def test_same_seed_same_result_and_rows_are_independent(generator, search):
    options = {"search": search, "n_initial_points": 3, "n_calls": 4, "n_starts": 1, "random_state": 3}
    flux = generator.predict(TRUTH) + np.random.default_rng(0).normal(scale=0.005, size=(2, 400))
    first = BayesianStellarRegressor.from_generator(generator, **options)
    everything = first.predict(flux)
    np.testing.assert_array_equal(first.predict(flux), everything)
    np.testing.assert_array_equal(
        BayesianStellarRegressor.from_generator(generator, **options).predict(flux), everything
    )
    np.testing.assert_array_equal(first.predict(flux[[1]]), everything[[1]])


@pytest.mark.slow
def test_result_does_not_depend_on_n_jobs(generator):
    flux = generator.predict(TRUTH) + np.random.default_rng(0).normal(scale=0.005, size=(2, 400))
    results = [
        BayesianStellarRegressor.from_generator(generator, search="nodes", n_starts=1, n_jobs=n_jobs).predict(flux)
        for n_jobs in (1, 2)
    ]
    np.testing.assert_array_equal(*results)


def test_another_seed_searches_elsewhere(generator):
    options = {"search": "bayes", "n_initial_points": 3, "n_calls": 3, "polish": False}
    flux = generator.predict(TRUTH[:1])
    one, other = (
        BayesianStellarRegressor.from_generator(generator, random_state=seed, **options).predict(flux)
        for seed in (0, 1)
    )
    assert not np.array_equal(one, other)


def test_a_free_continuum_takes_up_a_polynomial(generator):
    slope = Polynomial([1.0, 0.08, -0.05, 0.04])(np.linspace(-1, 1, 400))
    # model times cubic is what is given: found exactly
    flux = generator.predict(TRUTH) * slope
    free = BayesianStellarRegressor.from_generator(generator, search="nodes", continuum_degree=3)
    np.testing.assert_allclose(free.predict(flux) / SPAN, TRUTH / SPAN, rtol=0, atol=1e-3)
    stiff = BayesianStellarRegressor.from_generator(generator, search="nodes", continuum_degree=None, n_starts=1)
    assert np.abs((stiff.predict(flux) - TRUTH) / SPAN).max() > 0.05


def test_from_generator_equals_fit(grid, generator):
    options = {"search": "nodes", "n_starts": 1, "random_state": 0}
    fitted = BayesianStellarRegressor(generator=SpectrumGenerator(wavelength=grid.wavelength), **options)
    fitted.fit(grid.flux, grid.labels)
    adopted = BayesianStellarRegressor.from_generator(generator, **options)
    flux = generator.predict(TRUTH) + np.random.default_rng(0).normal(scale=0.005, size=(2, 400))
    for ours, theirs in zip(fitted.predict(flux, return_std=True), adopted.predict(flux, return_std=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert adopted.n_features_in_ == fitted.n_features_in_ == 400
    assert clone(adopted).get_params()["search"] == "nodes"


def test_from_generator_checks_its_parameters(generator, grid):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(ValueError, match="The 'search' parameter"):
        BayesianStellarRegressor.from_generator(generator, search="grid")
    with pytest.raises(NotFittedError):
        BayesianStellarRegressor.from_generator(SpectrumGenerator(wavelength=grid.wavelength))


def test_a_window_without_a_pixel_left_is_refused(grid):
    low, high = grid.wavelength[100], grid.wavelength[300]
    preprocessor = PhoenixPreprocessor(window=(low, high), peak_distance=40, degree=1)
    generator = SpectrumGenerator(wavelength=grid.wavelength, preprocessor=preprocessor, decomposer=QUICK)
    generator.fit(grid.labels, grid.flux)
    error = np.full((1, grid.wavelength.size), 0.01)
    error[0, 90:310] = np.inf
    regressor = BayesianStellarRegressor.from_generator(generator, search="nodes")
    with pytest.raises(ValueError, match="All pixels of spectrum 0 that the generator uses are masked"):
        regressor.predict(grid.flux[:1], flux_error=error)
