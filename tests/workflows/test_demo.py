"""The demo on a small computed grid; .ci/run runs the real one."""

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from stellarhml import BayesianStellarRegressor
from stellarhml.datasets import make_stellar_grid
from stellarhml.lines.line_lists import LineList
from stellarhml.spectra import read_spectrum
from stellarhml.workflows.demo import AFTER, BEFORE, OWN, require_unseen, run_demo
from stellarhml.workflows.demo_figure import Shown, part_to_draw
from stellarhml.workflows.generators import continuum_settings
from stellarhml.workflows.own_pixels import add_noise, infer_rows
from stellarhml.workflows.predicting import open_generator, predict_files
from stellarhml.workflows.tables import MEAN_ROW, format_truth_table


@pytest.fixture(scope="module")
def grid():
    """A computed grid of which two inner nodes are the test stars."""
    full = make_stellar_grid(n_teff=5, n_logg=3, n_feh=3, n_pixels=400, n_lines=15, random_state=1)
    held_out = np.isin(full.labels[:, 0], [5250.0, 5750.0]) & np.all(full.labels[:, 1:] == [4.0, 0.0], axis=1)
    return Bunch(
        flux=full.flux[~held_out],
        labels=full.labels[~held_out],
        flux_offgrid=full.flux[held_out],
        labels_offgrid=full.labels[held_out],
        wavelength=full.wavelength,
        label_names=full.label_names,
    )


@pytest.fixture(scope="module")
def result(grid, tmp_path_factory):
    return run_demo(grid, tmp_path_factory.mktemp("demo") / "new", search="nodes", snr=200, verbose=False)


def test_table_is_what_was_computed(result, grid):
    table = pd.read_csv(result.files["table"])
    parts = ("{}_true", "{}", "{}_std", "{}_difference")
    columns = [part.format(name) for name in grid.label_names for part in parts]
    assert table.columns.tolist() == ["star", *columns, "reduced_chi2", "seconds", "flags", "message", "group"]
    assert set(table["group"]) == {OWN}
    assert table["star"].tolist() == ["star 1", "star 2", MEAN_ROW]
    stars, mean = table.iloc[:2], table.iloc[2]
    for k, name in enumerate(grid.label_names):
        np.testing.assert_allclose(stars[f"{name}_true"], grid.labels_offgrid[:, k])
        difference = stars[name] - stars[f"{name}_true"]
        np.testing.assert_allclose(stars[f"{name}_difference"], difference, atol=1e-9)
        assert mean[f"{name}_difference"] == pytest.approx(difference.abs().mean())
        assert (stars[f"{name}_std"] > 0).all()
    assert (stars["seconds"] > 0).all()
    np.testing.assert_allclose(stars["reduced_chi2"], 1, atol=0.3)
    # a tenth of the grid's steps, 250 K and 0.5 dex
    assert mean["teff_difference"] < 25
    assert mean["feh_difference"] < 0.05


@pytest.fixture(scope="module")
def others(grid):
    """The held-out stars with lines that are stronger or weaker than the grid's, at random, and its line list."""
    rng = np.random.default_rng(2)
    full = make_stellar_grid(n_teff=5, n_logg=3, n_feh=3, n_pixels=400, n_lines=15, random_state=1)
    strength = np.exp(rng.normal(scale=0.12, size=len(full.line_centers)))
    nearest = np.abs(grid.wavelength[:, None] - full.line_centers).argmin(axis=1)
    n = len(full.line_centers)
    species = np.array(["Fe I", "Ti I", "Ti I"])[np.arange(n) % 3]
    return Bunch(
        **grid,
        flux_other=grid.flux_offgrid ** strength[nearest],
        labels_other=grid.labels_offgrid,
        vmic_other=np.array([1.0, 1.1]),
        x_fe_other={"Ti": np.array([0.0, 0.1])},
        line_list=LineList(species, full.line_centers, np.full(n, 2.0), np.zeros(n)),
    )


def test_stars_of_other_physics_are_inferred_with_the_lines_as_they_are_and_uncertain(others, result, tmp_path):
    demo = run_demo(others, tmp_path, snr=200, verbose=False)
    table = pd.read_csv(demo.files["table"])
    assert table["group"].tolist() == [OWN] * 3 + [BEFORE] * 3 + [AFTER] * 3
    assert table["star"].tolist() == ["star 1", "star 2", MEAN_ROW] + ["star 3", "star 4", MEAN_ROW] * 2
    same = [name for name in result.table if name != "seconds"]
    pd.testing.assert_frame_equal(demo.table.loc[:2, same], result.table[same])
    before, after = (table[table["group"] == group] for group in (BEFORE, AFTER))
    assert before["vmic"].isna().all()
    np.testing.assert_allclose(after["vmic_true"][:2], others.vmic_other)
    np.testing.assert_allclose(after["vmic_difference"][:2], (after["vmic"] - after["vmic_true"])[:2], atol=1e-9)
    for rows in (before, after):
        np.testing.assert_allclose(rows["teff_true"][:2], others.labels_other[:, 0])
        stars, mean = rows.iloc[:2], rows.iloc[2]
        assert mean["teff_difference"] == pytest.approx(stars["teff_difference"].abs().mean())
    # optical depths off by 12 %, at a signal-to-noise ratio of 200: the lines of the grid do not fit, uncertain ones do
    assert (before["reduced_chi2"][:2] > 2).all()
    assert (after["reduced_chi2"][:2] < 1.3).all()
    for name in (*others.label_names, "vmic", "[Ti/Fe]"):
        assert (after[f"{name}_difference"][:2].abs() < 3 * after[f"{name}_std"][:2]).all(), name
    (order,) = read_spectrum(demo.files["other"]).orders
    assert np.median(order.flux / order.error) == pytest.approx(200, rel=0.01)
    assert open_generator(demo.files["generator"]).tags_.tagged.any()
    assert demo.other_seconds > 0


def test_the_part_of_the_spectrum_is_where_the_better_model_fits():
    wavelength = 8500 + 0.01 * np.arange(5000)
    near = [np.exp(-(((wavelength - center) / 0.5) ** 2)) for center in (8510.0, 8530.0)]
    flux = 1 - 0.5 * near[0] - 0.3 * near[1]
    models = {"first": np.ones(5000), "last": 1 - 0.3 * near[1]}  # misses the deeper line, too
    shown = Shown("star", wavelength, flux, np.full(5000, 0.01), models, np.zeros(3), 0.0)
    low, high = part_to_draw(shown, None)
    assert low < 8529 < 8531 < high < low + 11
    assert abs((low + high) / 2 - 8530) < 1.5


def test_printed_table_has_the_same_numbers(result):
    text = format_truth_table(result.table, result.label_names)
    lines = text.splitlines()
    assert len(lines) == 2 + len(result.table)
    assert lines[-1].startswith(MEAN_ROW)
    for line, (_, row) in zip(lines[2:-1], result.table.iterrows(), strict=False):
        for name, digits in zip(result.label_names, (1, 3, 3), strict=True):
            assert f"{row[f'{name}_true']:.{digits}f}" in line
            assert f"{row[f'{name}_difference']:+.{digits}f}" in line
    assert f"{result.table.iloc[-1]['teff_difference']:.1f}" in lines[-1]
    assert "+" not in lines[-1]


def test_generator_and_spectrum_can_be_used_again(result):
    """The files give the row of the table."""
    generator = open_generator(result.files["generator"])
    (order,) = read_spectrum(result.files["spectrum"]).orders
    regressor = BayesianStellarRegressor.from_generator(generator, search="nodes", random_state=0, verbose=False)
    labels = regressor.predict(order.flux[None], flux_error=order.error[None])[0]
    row = result.table.iloc[0]
    np.testing.assert_allclose(labels, row[list(result.label_names)].astype(float), rtol=1e-6)


def test_predict_at_rest_finds_the_star_of_the_demo(result):
    generator = open_generator(result.files["generator"])
    options = {"resolving_power": "grid", "at_rest": True}
    table = predict_files(generator, [result.files["spectrum"]], **options).table
    for name in result.label_names:
        assert abs(table[name][0] - result.table[f"{name}_true"][0]) < 4 * table[f"{name}_std"][0]


def test_figure_is_a_figure(result):
    from matplotlib.image import imread

    image = imread(result.files["figure"])
    assert image.shape[0] > 800
    assert image[..., :3].std() > 0.1


def test_a_star_of_the_training_grid_is_refused(grid):
    require_unseen(grid.flux, grid.labels, grid.flux_offgrid, grid.labels_offgrid)
    seen_labels = grid.labels_offgrid.copy()
    seen_labels[1] = grid.labels[7]
    with pytest.raises(ValueError, match="Test star 2 is row 7"):
        require_unseen(grid.flux, grid.labels, grid.flux_offgrid, seen_labels)
    seen_flux = grid.flux_offgrid.copy()
    seen_flux[0] = grid.flux[3]
    with pytest.raises(ValueError, match="Test star 1 is row 3"):
        require_unseen(grid.flux, grid.labels, seen_flux, grid.labels_offgrid)


def test_noise_has_the_ratio_that_is_given():
    flux = np.stack([np.full(4000, 3.0), np.full(4000, 1e14)])
    noisy, errors = add_noise(flux, snr=50, seed=1)
    for level, star, error in zip((3.0, 1e14), noisy, errors, strict=True):
        # 4000 draws know their standard deviation to 1.1 %
        assert ((star - level) / error).std() == pytest.approx(1, abs=0.05)
        np.testing.assert_allclose(error, level / 50)
    assert not np.allclose(noisy[0] / 3.0, noisy[1] / 1e14)
    np.testing.assert_array_equal(add_noise(flux, snr=50, seed=1)[0], noisy)


def test_rows_are_what_predict_gives(result, grid):
    generator = open_generator(result.files["generator"])
    regressor = BayesianStellarRegressor.from_generator(generator, random_state=0, verbose=False)
    flux, error = add_noise(grid.flux_offgrid, snr=100, seed=0)
    names = list(grid.label_names)
    rows = infer_rows(regressor, flux, error)
    labels, std = regressor.predict(flux, flux_error=error, return_std=True)
    np.testing.assert_array_equal(rows[names], labels)
    np.testing.assert_array_equal(rows[[f"{name}_std" for name in names]], std)
    edge = infer_rows(BayesianStellarRegressor.from_generator(generator, bounds={"teff": (5000, 5100)}), flux[1:])
    assert edge["status"].tolist() == ["flagged"]
    assert edge["flags"].tolist() == ["AT_BOUND"]
    assert edge["message"][0] == "teff at a bound, the star may lie outside"
    assert np.isnan(edge["reduced_chi2"][0])


def test_degree_of_the_continuum_follows_the_length():
    assert continuum_settings(400)["degree"] == 0
    assert continuum_settings(25_001)["degree"] == 2
    assert continuum_settings(338_651)["degree"] == 5
    # pixels ten times as wide: the same continuum
    assert continuum_settings(33_865, 10.0) == {"degree": 5, "peak_distance": 500, "anchor_width": 3}
