"""The error that a generator expects of itself."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from stellarhml import LineManifoldInterpolator, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.exceptions import LineDetectionWarning
from stellarhml.kernels.rendering import render_lines
from stellarhml.manifold.leave_one_out import ErrorSamples
from stellarhml.synthesis.error_model import ErrorModel, thin
from stellarhml.synthesis.evaluation import TOLERANCE
from stellarhml.synthesis.grid_learning import Grid

BETWEEN = np.array([[5120.0, 3.7, -0.35], [5480.0, 4.2, -0.1]])
QUICK = VoigtLineDecomposer(n_rounds=0, subsample=6)


class NoLines:
    """A model whose lines absorb nothing."""

    def render(self, weights, pixels):
        return np.zeros(pixels.stop - pixels.start)


def learn(flux, samples, labels):
    grid = Grid(NoLines(), flux, sparse.identity(len(flux), format="csr"))
    return ErrorModel.learn(grid, samples, None, labels, ("a", "b"), n_jobs=None, verbose=False)


@pytest.fixture(scope="module")
def made():
    """Fluxes that are all error, where they come from, and the model of it."""
    rng = np.random.default_rng(0)
    labels = np.array(list(itertools.product([0.0, 1, 2, 3], [0.0, 1])))
    flux = rng.normal(size=(8, 9000)) * np.geomspace(1e-4, 1e-2, 9000) * np.linspace(1, 3, 8)[:, None]
    samples = LineManifoldInterpolator(variables={}).fit(labels, labels).error_samples()
    return labels, flux, samples, learn(flux, samples, labels)


def variance_by_hand(flux, samples):
    variance = (flux**2).mean(axis=0)
    for axis in (0, 1):
        chosen = samples.axis == axis
        error = samples.targets[chosen] @ flux
        variance = variance + ((samples.scale[chosen, None] * error) ** 2).mean(axis=0)
    return variance


def test_errors_along_different_labels_add_in_squares(made):
    _, flux, samples, model = made
    std = model.std(sparse.csr_matrix(np.full((1, 8), 1 / 8)))[0]
    want = np.sqrt(variance_by_hand(flux, samples))
    # a mean of the gain over all rows, and steps of exp(1 / 18) in the table of pixels
    ratio = std / want
    assert np.abs(np.log(ratio / np.median(ratio))).max() < 0.5 / 18 + 1e-6 + 0.5 / 18
    assert np.exp(np.abs(np.log(np.median(ratio)))) < 1.2
    assert model.code.dtype == np.uint8


def test_the_gain_follows_the_rows(made):
    """It is even where all nodes err alike, and greater at nodes that err more and beside them."""
    labels, _, samples, _ = made
    flux = 1e-3 * np.random.default_rng(1).normal(size=(8, 9000))
    even = learn(flux, samples, labels)
    # mean squares of 9,000 random numbers scatter by 1.5 %
    np.testing.assert_allclose(even.gain, 1, atol=0.05)
    larger = labels[:, 1] == 1
    uneven = learn(flux * np.where(larger, 3.0, 1.0)[:, None], samples, labels)
    # nine times the variance along a and at the nodes, but what is probed between b = 0 and 1 belongs to both
    ratio = uneven.gain[larger] / uneven.gain[~larger]
    assert (ratio > 3).all()
    assert (ratio < 9).all()
    assert uneven.gain.mean() == pytest.approx(1, abs=0.05)
    one = uneven.std(sparse.csr_matrix(np.eye(8)))
    np.testing.assert_allclose(one / one[0], np.sqrt(uneven.gain / uneven.gain[0])[:, None] * np.ones((1, 9000)))


def test_the_error_scales_with_the_residuals(made):
    labels, flux, samples, model = made
    weights = sparse.csr_matrix([[0.2, 0.8, 0, 0, 0, 0, 0, 0]])
    # rounding of both to steps of exp(1 / 18)
    np.testing.assert_allclose(
        learn(2 * flux, samples, labels).std(weights), 2 * model.std(weights), rtol=np.expm1(1 / 18)
    )
    none = learn(0 * flux, samples, labels)
    assert none.std(weights).max() <= 1.1e-6
    np.testing.assert_array_equal(none.gain, 1)


def test_windows_and_workers_change_nothing(made, monkeypatch):
    labels, flux, samples, model = made
    from stellarhml.synthesis import grid_learning

    monkeypatch.setattr(grid_learning, "_WINDOW", 1024)
    again = learn(flux, samples, labels)
    np.testing.assert_array_equal(again.code, model.code)
    np.testing.assert_allclose(again.window_rms, model.window_rms, rtol=1e-6)
    np.testing.assert_allclose(again.gain, model.gain, rtol=1e-12)


def test_pixels_are_cut_from_the_whole(made):
    model = made[-1]
    weights = sparse.csr_matrix(np.eye(8)[:2])
    whole = model.std(weights)
    for pixels in (slice(5, 90), np.array([3, 3, 8000])):
        np.testing.assert_array_equal(model.std(weights, pixels), whole[:, pixels])


def test_the_table_of_the_map(made):
    _, flux, samples, model = made
    table = model.to_frame()
    assert list(table.columns) == ["a", "b", "along", "measured", "rms", "expected"]
    np.testing.assert_array_equal(table[["a", "b"]], samples.labels)
    assert table["along"].tolist() == [("a", "b")[k] for k in samples.axis]
    np.testing.assert_array_equal(table["measured"], samples.axis == 0)
    np.testing.assert_allclose(table["rms"], np.sqrt(np.mean((samples.targets @ flux) ** 2, axis=1)), rtol=1e-6)
    np.testing.assert_allclose(table["expected"], table["rms"] * samples.scale, rtol=1e-12)


def test_scattered_nodes_are_held_out_along_all_labels():
    labels = np.random.default_rng(0).uniform(size=(30, 2))
    samples = LineManifoldInterpolator(method="scattered").fit(labels, labels).error_samples()
    table = learn(np.ones((30, 50)), samples, labels).to_frame()
    assert set(table["along"]) == {"all"}
    assert table["measured"].all()


def test_many_samples_are_thinned_evenly():
    n = 1300
    samples = ErrorSamples(
        np.linspace(0, 1, n)[:, None] * [1, 0],
        np.zeros(n, dtype=np.int64),
        sparse.csr_matrix(np.ones((n, 1))),
        sparse.csr_matrix(np.ones((n, 1))),
        np.full(n, 0.25),
        np.full(n, np.nan),
    )
    table = learn(np.ones((1, 40)), thin(samples), np.zeros((1, 2))).to_frame()
    assert len(table) == 512
    assert (table["a"].min(), table["a"].max()) == (0, 1)


@pytest.fixture(scope="module")
def lattice():
    """Lines alone on five Teff and two log g."""
    from stellarhml.datasets import make_stellar_grid

    data = make_stellar_grid(n_teff=5, n_logg=2, n_feh=1, n_pixels=300, n_lines=6, random_state=1)
    labels = data.labels[:, :2]
    options = {"label_names": ("teff", "logg"), "n_factors": None, "residual_rank": None, "decomposer": QUICK}
    return data, labels, SpectrumGenerator(wavelength=data.wavelength, **options).fit(labels, data.flux)


def test_the_error_at_a_node_is_that_of_lines_interpolated_without_it(lattice):
    data, labels, model = lattice
    bank = model.interpolator_.table_
    theta = np.stack([bank.at_node(node)[1].ravel() for node in range(len(labels))])
    table = model.error_map_.to_frame()
    compared = 0
    for _, sample in table[table["along"] == "teff"].iterrows():
        node = np.flatnonzero((labels == [sample["teff"], sample["logg"]]).all(axis=1))[0]
        others = np.delete(np.arange(len(labels)), node)
        # a hole in a grid is filled by the neighbours along Teff
        without = LineManifoldInterpolator(label_names=("teff", "logg")).fit(labels[others], theta[others])
        lines = without.predict(labels[[node]]).reshape(bank.n_lines, -1)
        flux = render_lines(data.wavelength, lines, profile=model.decomposer_.profile, wing_cut=None)
        want = np.sqrt(np.mean((flux - data.flux[node]) ** 2))
        assert sample["measured"]
        # the generator renders to TOLERANCE
        assert sample["rms"] == pytest.approx(want, abs=2 * TOLERANCE)
        assert want > 50 * TOLERANCE
        compared += 1
    assert compared == 6


def test_middles_are_compared_with_the_mean_of_the_pixels(lattice):
    data, labels, model = lattice
    table = model.error_map_.to_frame()
    for _, sample in table[table["along"] == "logg"].iterrows():
        ends = labels[:, 0] == sample["teff"]
        flux = model.predict([[sample["teff"], sample["logg"]]])[0]
        want = np.sqrt(np.mean((flux - data.flux[ends].mean(axis=0)) ** 2))
        assert not sample["measured"]
        assert sample["rms"] == pytest.approx(want, abs=2 * TOLERANCE)


def test_return_std(generator, lines_alone):
    flux, std = generator.predict(BETWEEN, return_std=True)
    assert std.shape == flux.shape == (2, 400)
    assert np.all(std > 0)
    assert np.all(np.isfinite(std))
    np.testing.assert_array_equal(flux, generator.predict(BETWEEN))
    # what residuals take up is no error any more
    assert np.median(std) < 0.5 * np.median(lines_alone.predict(BETWEEN, return_std=True)[1])
    empty = generator.predict(BETWEEN, pixels=[], return_std=True)
    assert [part.shape for part in empty] == [(2, 0), (2, 0)]


def test_errors_between_nodes_are_as_expected(grid):
    # truth at nodes that were not trained on; the map says how far off to be, within a factor of four: on
    # this grid without noise, its factors for noise are large
    from stellarhml.datasets import make_stellar_grid

    truth = make_stellar_grid(n_teff=7, random_state=0)
    coarse = np.isin(truth.labels[:, 0], np.unique(truth.labels[:, 0])[::2])
    model = SpectrumGenerator(wavelength=grid.wavelength, decomposer=QUICK)
    flux, std = model.fit(truth.labels[coarse], truth.flux[coarse]).predict(truth.labels[~coarse], return_std=True)
    ratio = np.sqrt(np.mean((flux - truth.flux[~coarse]) ** 2) / np.mean(std**2))
    assert 1 / 4 < ratio < 4


def test_one_output_gives_one_number(grid):
    with pytest.warns(LineDetectionWarning, match="24 of 24"):  # on one pixel
        model = SpectrumGenerator().fit(grid.labels, grid.flux[:, 120])
    flux, std = model.predict(BETWEEN, return_std=True)
    assert flux.shape == std.shape == (2,)


def test_without_places_to_probe_the_error_is_unknown(grid):
    model = SpectrumGenerator(wavelength=grid.wavelength, decomposer=QUICK).fit(grid.labels[:1], grid.flux[:1])
    assert len(model.error_map_.to_frame()) == 0
    flux, std = model.predict(grid.labels[:1], return_std=True)
    assert np.isfinite(flux).all()
    assert std.shape == flux.shape
    assert np.isnan(std).all()


def test_filled_nodes_have_a_larger_error():
    """A node that stands in with all its weight along a label errs as it did when it was held out."""
    rng = np.random.default_rng(0)
    labels = np.array(list(itertools.product([0.0, 1, 2, 3, 4], [0.0, 1])))
    flux = rng.normal(size=(10, 2000)) * 1e-3
    samples = LineManifoldInterpolator(variables={}).fit(labels, labels).error_samples()
    model = learn(flux, samples, labels)
    weights = sparse.csr_matrix(np.full((2, 10), 0.1))
    std = model.std(weights, fill_weights=np.array([[0.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_array_equal(std[0], model.std(weights)[0])
    held_out = np.mean((samples.targets[samples.axis == 0] @ flux) ** 2)
    added = np.mean(std[1] ** 2) - np.mean(std[0] ** 2)
    # on random rows, whose gain is a mean over all of them
    assert added == pytest.approx(held_out, rel=0.25)


def test_the_error_grows_beside_a_missing_node():
    from stellarhml.datasets import make_stellar_grid

    data = make_stellar_grid(n_teff=5, n_logg=3, n_feh=3, n_pixels=300, n_lines=6, random_state=1)
    teff, logg, feh = (np.unique(column) for column in data.labels.T)
    keep = ~(data.labels == [teff[2], logg[1], feh[1]]).all(axis=1)
    model = SpectrumGenerator(wavelength=data.wavelength, decomposer=QUICK).fit(data.labels[keep], data.flux[keep])
    hole, corner = [teff[2], logg[1], feh[1]], [teff[0], logg[0], feh[0]]
    std = model.predict([hole, corner], return_std=True)[1]
    without = model.error_map_.std(model.interpolator_.locate(np.array([hole, corner]))[0])
    np.testing.assert_array_equal(std[1], without[1])
    # errors along Teff, a small part of all on this grid, grow by 1 / 0.6, all others stay
    assert 1.005 < std[0, 0] / without[0, 0] < 1 / 0.6
    shifts = model.error_map_.shifts
    assert shifts.interpolator is model.interpolator_
    far = (shifts.near(np.array(corner)) ** 2).sum(axis=0)
    assert np.isfinite(far).all()
    along = shifts.axis == 0
    with_hole = (shifts.near(np.array(hole))[along] ** 2).sum()
    shifts.interpolator = LineManifoldInterpolator().fit(data.labels, data.labels)  # of the full grid
    without = (shifts.near(np.array(hole))[along] ** 2).sum()
    assert with_hole > 2 * without
