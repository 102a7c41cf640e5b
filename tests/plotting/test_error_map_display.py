"""ErrorMapDisplay: error of a generator at held-out nodes."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from stellarhml import SpectrumGenerator
from stellarhml.datasets import make_stellar_grid
from stellarhml.plotting import ErrorMapDisplay


@pytest.fixture(scope="module")
def grid():
    return make_stellar_grid(random_state=0)


@pytest.fixture(scope="module")
def generator(grid):
    return SpectrumGenerator(wavelength=grid.wavelength, verbose=False).fit(grid.labels, grid.flux)


def _axes(n):
    return np.ravel(Figure().subplots(1, n, squeeze=False))


def test_points_are_the_samples_of_the_error_map(generator):
    display = ErrorMapDisplay.from_estimator(generator, ax=_axes(4))
    table = generator.error_map_.to_frame()
    assert [axes.get_xlabel().split(" [")[0] for axes in display.ax_[:3]] == [
        r"$T_\mathrm{eff}$",
        r"$\log g$",
        "[Fe/H]",
    ]
    for name, points in zip(("teff", "logg", "feh"), display.points_, strict=True):
        assert set(points) == set(table["along"])
        for along, line in points.items():
            rows = table[table["along"] == along]
            np.testing.assert_array_equal(line.get_ydata(), rows["rms"])
            # samples of several labels are drawn side by side, by a hundredth of the range
            np.testing.assert_allclose(line.get_xdata(), rows[name], atol=0.01 * np.ptp(table[name]))


def test_middles_have_open_markers_and_a_legend(generator):
    display = ErrorMapDisplay.from_estimator(generator, ax=_axes(4))
    table = generator.error_map_.to_frame()
    assert set(table.loc[~table["measured"], "along"]) == {"feh"}
    points = display.points_[0]
    assert points["feh"].get_markerfacecolor() == "none"
    assert points["teff"].get_markerfacecolor() == points["teff"].get_color()
    texts = [text.get_text() for text in display.ax_[0].get_legend().get_texts()]
    assert texts[2] == "middle between the only two [Fe/H], not held out"
    assert texts[1] == r"held out along $\log g$"


def test_pixels_have_the_error_of_predict(generator):
    """The mean over the nodes of the variance of `predict`, pixel by pixel."""
    display = ErrorMapDisplay.from_estimator(generator, ax=_axes(4))
    _, std = generator.predict(generator.interpolator_.nodes_, return_std=True)
    np.testing.assert_allclose(display.median_line_.get_ydata(), np.sqrt((std**2).mean(axis=0)))
    np.testing.assert_array_equal(display.median_line_.get_xdata(), generator.wavelength_)


def test_windows_have_the_errors_within_a_cell(generator):
    display = ErrorMapDisplay.from_estimator(generator, ax=_axes(4))
    table = generator.error_map_.to_frame()
    for name, error in display.window_error.items():
        expected = table.loc[table["along"] == name, "expected"]
        # windows have 16 or 17 pixels
        assert np.sqrt(np.mean(error**2)) == pytest.approx(np.sqrt(np.mean(expected**2)), rel=0.05)
        np.testing.assert_array_equal(display.window_lines_[name].get_data().values, error)
    assert display.edges[0] == generator.wavelength_[0]
    assert display.edges[-1] == generator.wavelength_[-1]


def test_many_pixels_are_averaged_in_bins(generator):
    table = generator.error_map_.to_frame()
    wavelength = np.linspace(8000.0, 9000.0, 30_000)
    std = np.repeat(np.geomspace(1e-5, 1e-2, 600), 50)
    std[::50] = 1.0  # 2 % of each bin, beyond its 95th percentile
    display = ErrorMapDisplay.from_arrays(table, wavelength, std, [8000.0, 9000.0], {"teff": [1e-3]}, ax=_axes(4))
    assert display.std.shape == (600, 3)
    np.testing.assert_allclose(display.std, np.tile(np.geomspace(1e-5, 1e-2, 600)[:, None], (1, 3)))
    np.testing.assert_allclose(display.wavelength, wavelength.reshape(600, 50).mean(axis=1))


def test_map_has_the_values_of_the_table_and_holes(generator, grid):
    display = ErrorMapDisplay.from_estimator(generator, labels=("teff", "logg"), fixed={"feh": -0.5}, ax=_axes(2))
    table = generator.error_map_.to_frame()
    teff, logg = (np.unique(grid.labels[:, k]) for k in (0, 1))
    assert list(display.maps_) == ["teff", "logg"]
    for name, values in display.maps_.items():
        assert values.shape == (len(logg), len(teff))
        here = table[(table["along"] == name) & (table["feh"] == -0.5)]
        assert np.isfinite(values).sum() == len(here)
        for _, row in here.iterrows():
            assert values[np.searchsorted(logg, row["logg"]), np.searchsorted(teff, row["teff"])] == row["rms"]
        np.testing.assert_array_equal(np.ma.filled(display.meshes_[name].get_array(), np.nan), values)
    # the ends of a label cannot be held out along it
    assert np.isnan(display.maps_["teff"][:, [0, -1]]).all()
    assert np.isnan(display.maps_["logg"][[0, -1]]).all()


def test_map_of_middles_and_of_the_expected_error(generator):
    display = ErrorMapDisplay.from_estimator(generator, fixed={"feh": -0.25}, ax=_axes(1))
    table = generator.error_map_.to_frame()
    middles = table[table["along"] == "feh"]
    assert list(display.maps_) == ["feh"]
    np.testing.assert_array_equal(np.sort(display.maps_["feh"], axis=None), np.sort(middles["rms"]))
    display.plot_map(fixed={"feh": -0.25}, value="expected", ax=_axes(1))
    np.testing.assert_array_equal(np.sort(display.maps_["feh"], axis=None), np.sort(middles["expected"]))
    assert "not held out" in display.ax_[0].get_title()


def test_scattered_nodes_have_panels_but_no_map():
    labels = np.random.default_rng(0).uniform((5000.0, 4.0), (6000.0, 5.0), (5, 2))
    table = pd.DataFrame(labels, columns=["teff", "logg"])
    table = table.assign(along="all", measured=True, rms=1e-3, expected=2.5e-4)
    given = table, np.arange(3.0), np.full(3, 1e-4), [0.0, 2.0], {"all": [1e-4]}
    display = ErrorMapDisplay.from_arrays(*given, ax=_axes(3))
    np.testing.assert_array_equal(display.points_[1]["all"].get_xdata(), labels[:, 1])
    with pytest.raises(ValueError, match="scattered"):
        ErrorMapDisplay.from_arrays(*given, labels=("teff", "logg"))


def test_it_makes_its_own_figures(generator):
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    display = ErrorMapDisplay.from_estimator(generator)
    assert len(display.figure_.axes) == 4
    display.figure_.draw_without_rendering()
    maps = display.plot_map().figure_
    assert len(maps.axes) == 3  # held out along two labels, and the scale of colours
    plt.close("all")


def test_a_generator_without_spectra_has_no_error_to_draw(grid):
    generator = SpectrumGenerator(wavelength=grid.wavelength, n_factors=None, residual_rank=None, verbose=False)
    generator.error_map_, generator.wavelength_ = None, grid.wavelength
    with pytest.raises(ValueError, match="`error_map_` of the generator is None"):
        ErrorMapDisplay.from_estimator(generator)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"labels": ("teff", "alpha")}, "Name two of them"),
        ({"fixed": {"feh": -0.1}}, "no error estimate"),
        ({"fixed": {"feh": 1.0}}, "Stay inside"),
        ({"ax": [None]}, "4 are needed"),
        ({"labels": ("teff", "logg"), "ax": [None]}, "2 are needed"),
    ],
)
def test_it_refuses_what_it_cannot_draw(generator, wrong, text):
    with pytest.raises(ValueError, match=text):
        ErrorMapDisplay.from_estimator(generator, **wrong)


def test_it_refuses_arrays_that_do_not_fit(generator):
    table = generator.error_map_.to_frame()
    with pytest.raises(ValueError, match="both need"):
        ErrorMapDisplay.from_arrays(table, np.arange(3.0), np.ones(4), [0, 2], {})
    with pytest.raises(ValueError, match="no rows"):
        ErrorMapDisplay.from_arrays(table.iloc[:0], np.arange(3.0), np.ones(3), [0, 2], {})
    display = ErrorMapDisplay.from_estimator(generator, ax=_axes(4))
    with pytest.raises(ValueError, match="must be one of"):
        display.plot_map(value="mean")
