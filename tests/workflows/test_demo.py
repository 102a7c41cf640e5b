"""The demo on a small computed grid; .ci/run runs the real one."""

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from stellarhml import BayesianStellarRegressor
from stellarhml.datasets import make_stellar_grid
from stellarhml.spectra.table_columns import read_spectrum_table
from stellarhml.storage.saving import load
from stellarhml.workflows.building import continuum_settings
from stellarhml.workflows.demo import add_noise, require_unseen, run_demo
from stellarhml.workflows.inferring_at_rest import infer_observations
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
    assert table["star"].tolist() == ["star 1", "star 2", MEAN_ROW]
    stars, mean = table.iloc[:2], table.iloc[2]
    for k, name in enumerate(grid.label_names):
        np.testing.assert_allclose(stars[f"{name}_true"], grid.labels_offgrid[:, k])
        error = stars[f"{name}_inferred"] - stars[f"{name}_true"]
        np.testing.assert_allclose(stars[f"{name}_error"], error, atol=1e-9)
        assert mean[f"{name}_error"] == pytest.approx(error.abs().mean())
        assert (stars[f"{name}_std"] > 0).all()
    assert (stars["seconds"] > 0).all()
    # a tenth of the grid's steps, 250 K and 0.5 dex
    assert mean["teff_error"] < 25
    assert mean["feh_error"] < 0.05


def test_printed_table_has_the_same_numbers(result):
    text = format_truth_table(result.table, result.label_names)
    lines = text.splitlines()
    assert len(lines) == 2 + len(result.table)
    assert lines[-1].startswith(MEAN_ROW)
    for line, (_, row) in zip(lines[2:-1], result.table.iterrows(), strict=False):
        for name, digits in zip(result.label_names, (1, 3, 3), strict=True):
            assert f"{row[f'{name}_true']:.{digits}f}" in line
            assert f"{row[f'{name}_error']:+.{digits}f}" in line
    assert f"{result.table.iloc[-1]['teff_error']:.1f}" in lines[-1]
    assert "+" not in lines[-1]


def test_generator_and_spectrum_can_be_used_again(result):
    """The files give the row of the table."""
    generator = load(result.files["generator"])
    star = read_spectrum_table(result.files["spectrum"], medium="vacuum")
    regressor = BayesianStellarRegressor.from_generator(generator, search="nodes", random_state=0, verbose=False)
    labels = regressor.predict(star.flux[None], flux_error=star.flux_error[None])[0]
    row = result.table.iloc[0]
    np.testing.assert_allclose(labels, [row[f"{name}_inferred"] for name in result.label_names], rtol=1e-6)


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


def test_noise_is_as_asked():
    flux = np.stack([np.full(4000, 3.0), np.full(4000, 1e14)])
    observations = add_noise(flux, snr=50, seed=1)
    for level, observation in zip((3.0, 1e14), observations, strict=True):
        scatter = (observation.flux - level) / observation.flux_error
        # 4000 draws know their standard deviation to 1.1 %
        assert scatter.std() == pytest.approx(1, abs=0.05)
        np.testing.assert_allclose(observation.flux_error, level / 50)
    assert not np.allclose(observations[0].flux / 3.0, observations[1].flux / 1e14)
    np.testing.assert_array_equal(add_noise(flux, snr=50, seed=1)[0].flux, observations[0].flux)


def test_unknown_errors_are_taken_from_the_scatter(result, grid):
    """Without errors, a standard deviation is that of the noise that is there, whatever constant stands in for it."""
    generator = load(result.files["generator"])
    regressor = BayesianStellarRegressor.from_generator(generator, search="nodes", random_state=0, verbose=False)
    known = add_noise(grid.flux_offgrid, snr=100, seed=0)[0]
    unknown = [known._replace(errors_known=False, flux_error=factor * known.flux_error) for factor in (1, 30)]
    first, *others = infer_observations(regressor, [known, *unknown])
    for other in others:
        # 400 pixels know the noise to 3.5 %
        np.testing.assert_allclose(other.std, first.std, rtol=0.15)
        # a metallicity of zero, at the edge of the grid, has no relative error
        np.testing.assert_allclose(other.labels, first.labels, rtol=1e-4, atol=1e-4)
        assert np.isnan(other.chi2)
    assert first.chi2 == pytest.approx(1, abs=0.3)


def test_degree_of_the_continuum_follows_the_length():
    assert continuum_settings(400)["degree"] == 0
    assert continuum_settings(25_001)["degree"] == 2
    assert continuum_settings(338_651)["degree"] == 5
