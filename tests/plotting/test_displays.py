"""SpectrumFitDisplay, ManifoldDisplay, and what all displays share."""

import copy
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from mock_line_list import mock_line_list

from stellarhml import BayesianStellarRegressor, PhoenixPreprocessor, SpectrumGenerator
from stellarhml.datasets import make_stellar_grid
from stellarhml.plotting import ManifoldDisplay, SpectrumFitDisplay
from stellarhml.plotting._spectrum_fit import compare


@pytest.fixture(scope="module")
def grid():
    return make_stellar_grid(random_state=0)


@pytest.fixture(scope="module")
def generator(grid):
    return SpectrumGenerator(wavelength=grid.wavelength, verbose=False).fit(grid.labels, grid.flux)


@pytest.fixture(scope="module")
def regressor(generator):
    return BayesianStellarRegressor.from_generator(generator, search="nodes", random_state=0, verbose=False)


def _axes(rows, columns):
    return Figure().subplots(rows, columns).ravel()


def test_importing_displays_loads_no_matplotlib():
    code = (
        "import sys\nfrom stellarhml.plotting import CornerDisplay, DecompositionDisplay, ErrorMapDisplay\n"
        "from stellarhml.plotting import InferenceDisplay, InferenceErrorDisplay, LineCountDisplay\n"
        "from stellarhml.plotting import LineCorrectionDisplay, ManifoldDisplay, SpectrumFitDisplay\n"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fit_draws_its_arrays():
    wavelength, flux, fitted = np.arange(8500.0, 8550.0), np.linspace(0.5, 1, 50), np.ones(50)
    display = SpectrumFitDisplay.from_arrays(wavelength, flux, fitted, np.full(50, 0.01), "a star", ax=_axes(2, 1))
    np.testing.assert_array_equal(display.flux_line_.get_ydata(), flux)
    np.testing.assert_array_equal(display.fitted_line_.get_ydata(), fitted)
    np.testing.assert_array_equal(display.residual_line_.get_ydata(), flux - fitted)
    top, bottom = display.ax_
    assert top.get_title(loc="left") == "a star"
    assert top.get_ylabel() == "Normalised flux"
    assert bottom.get_xlabel() == "Vacuum wavelength [Å]"
    assert [text.get_text() for text in top.get_legend().get_texts()] == ["spectrum", "model", "noise, 1 std"]


def test_fit_shows_a_window_only():
    wavelength = np.arange(8500.0, 8550.0)
    display = SpectrumFitDisplay.from_arrays(
        wavelength, np.ones(50), np.ones(50), ax=_axes(2, 1), window=(8510.0, 8520.0)
    )
    np.testing.assert_array_equal(display.flux_line_.get_xdata(), np.arange(8510.0, 8521.0))
    assert display.ax_[1].get_xlim() == (8510.0, 8520.0)


def test_fit_refuses_arrays_that_do_not_match():
    with pytest.raises(ValueError, match="one value for each pixel"):
        SpectrumFitDisplay.from_arrays(np.arange(3.0), np.ones(3), np.ones(4))


def test_fit_makes_its_own_figure(monkeypatch):
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    display = SpectrumFitDisplay.from_arrays(np.arange(3.0), np.ones(3), np.ones(3))
    assert len(display.figure_.axes) == 2
    plt.close(display.figure_)


def test_fit_of_an_estimator_infers_and_follows_the_continuum(regressor, grid):
    """The continuum takes a slope of the spectrum, so that the residual is the noise."""
    rng = np.random.default_rng(0)
    error = np.full(grid.wavelength.size, 0.004)
    flux = grid.flux[10] * np.linspace(0.9, 1.1, error.size) + error * rng.normal(size=error.size)
    display = SpectrumFitDisplay.from_estimator(regressor, flux, flux_error=error, ax=_axes(2, 1))
    # 400 pixels determine the noise to 3.5 %
    assert display.residual.std() == pytest.approx(0.004, rel=0.2)
    wrong = SpectrumFitDisplay.from_estimator(regressor, flux, flux_error=error, labels=grid.labels[0], ax=_axes(2, 1))
    assert wrong.residual.std() > 2 * display.residual.std()


def test_fit_leaves_masked_pixels_out_and_scales_errors(grid):
    generator = SpectrumGenerator(
        wavelength=grid.wavelength,
        preprocessor=PhoenixPreprocessor(degree=0, window=(8502.0, 8515.0)),
        verbose=False,
    ).fit(grid.labels, 7e14 * grid.flux)
    regressor = BayesianStellarRegressor.from_generator(generator, search="nodes", random_state=0, verbose=False)
    error = np.full(grid.wavelength.size, 0.01 * 3e-5)
    error[100:110] = np.inf
    fit = compare(regressor, 3e-5 * grid.flux[10], grid.labels[10], flux_error=error)
    masked = np.isinf(error[(grid.wavelength >= 8502.0) & (grid.wavelength <= 8515.0)])
    np.testing.assert_array_equal(np.isnan(fit.flux), masked)
    np.testing.assert_array_equal(np.isinf(fit.flux_error), masked)
    assert np.isfinite(fit.fitted).all()
    # the continuum is near 1, so errors are near 1 % of it
    assert np.median(fit.flux_error) == pytest.approx(0.01, rel=0.05)
    assert fit.rms < 1e-3
    assert fit.chi2 == pytest.approx((fit.rms / 0.01) ** 2, rel=0.2)


def test_manifold_has_the_values_of_the_line_table(generator, grid):
    display = ManifoldDisplay.from_estimator(generator, fixed={"feh": 0.0}, n_fine=5, ax=_axes(1, 2))
    middle = generator.interpolator_.bounds_.mean(axis=1)
    line = generator.line_table(middle)["equivalent_width"].idxmax()
    assert f"{line:.2f}" in display.title
    for values, x, y in (
        (display.node_values, display.node_x, display.node_y),
        (display.fine_values, display.fine_x, display.fine_y),
    ):
        assert values.shape == (len(y), len(x))
        for i, j in ((0, 0), (len(y) - 1, 1), (1, len(x) - 1)):
            table = generator.line_table([x[j], y[i], 0.0])
            assert values[i, j] == pytest.approx(table.loc[line, "log_amplitude"])
    np.testing.assert_array_equal(display.node_x, np.unique(grid.labels[:, 0]))
    # one scale of colours for both
    assert display.node_mesh_.get_clim() == display.fine_mesh_.get_clim()
    left, right = display.ax_
    assert left.get_xlabel() == right.get_xlabel() == r"$T_\mathrm{eff}$ [K]"
    assert "dex" in left.get_ylabel()


def test_manifold_names_a_line_by_its_species(generator):
    tagged = copy.copy(generator).tag_lines(mock_line_list(generator, left_out=[2]))
    for line, start in ((1, "CN "), (2, "line at ")):
        wavelength = generator.decomposer_.line_catalog_[line]
        title = ManifoldDisplay.measure(tagged, line=wavelength, fixed={"feh": 0.0}, n_fine=2).title
        assert title == f"{start}{wavelength:.2f} Å, [Fe/H] = 0"


def test_manifold_of_any_labels(generator):
    line = generator.decomposer_.line_catalog_[2]
    display = ManifoldDisplay.from_estimator(
        generator, line=line + 0.01, parameter="log_sigma", labels=("feh", "teff"), n_fine=4, ax=_axes(1, 2)
    )
    assert display.node_values.shape == (4, 2)
    assert f"{line:.2f}" in display.title
    assert "log" in display.title
    expected = generator.line_table([5000.0, 4.5, -0.5]).loc[line, "log_sigma"]
    assert display.node_values[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("parameter", ["depth", "equivalent_width", "saturation", "center"])
def test_manifold_of_any_number_of_the_line_table(generator, parameter):
    line = generator.decomposer_.line_catalog_[1]
    given = {"line": line, "parameter": parameter, "fixed": {"feh": -0.25}, "n_fine": 4, "ax": _axes(1, 2)}
    display = ManifoldDisplay.from_estimator(generator, **given)
    for i, j in ((0, 0), (1, 2), (3, 3)):
        table = generator.line_table([display.fine_x[j], display.fine_y[i], -0.25])
        assert display.fine_values[i, j] == pytest.approx(table.loc[line, parameter], rel=1e-12)
    # between the only two values of [Fe/H] there is no node
    assert np.isnan(display.node_values).all()
    assert "not at any node" in [text.get_text() for text in display.ax_[0].texts]
    display.figure_.set_layout_engine("constrained")
    display.figure_.draw_without_rendering()
    # an empty line in place of dots would have made the axes shrink
    assert min(axes.get_position().width for axes in display.ax_) > 0.2


def test_manifold_takes_the_labels_that_vary(grid):
    kept = grid.labels[:, 1] == 4.0
    generator = SpectrumGenerator(wavelength=grid.wavelength, verbose=False).fit(grid.labels[kept], grid.flux[kept])
    assert ManifoldDisplay.from_estimator(generator, n_fine=2, ax=_axes(1, 2)).axes == ("teff", "feh")
    with pytest.raises(ValueError, match=r"only .* vary"):
        ManifoldDisplay.from_estimator(generator, labels=("teff", "logg"))
    kept &= grid.labels[:, 2] == 0.0
    generator.fit(grid.labels[kept], grid.flux[kept])
    with pytest.raises(ValueError, match="needs two labels"):
        ManifoldDisplay.from_estimator(generator)


def test_manifold_shows_absent_lines_as_holes(grid):
    """Under the paper's rules a line that a node does not show has no value there."""
    from stellarhml import LineManifoldInterpolator, VoigtLineDecomposer

    generator = SpectrumGenerator(
        wavelength=grid.wavelength,
        decomposer=VoigtLineDecomposer(prominence=0.2, fit_undetected=False, max_iter=30),
        interpolator=LineManifoldInterpolator(absent="vanish"),
        verbose=False,
    ).fit(grid.labels, grid.flux)
    present = np.array([len(generator.line_table(label)) for label in grid.labels])
    assert present.min() < present.max()
    missing = next(
        line
        for line in generator.decomposer_.line_catalog_
        if line not in generator.line_table([5750.0, 4.5, -0.5]).index
    )
    display = ManifoldDisplay.from_estimator(generator, line=missing, fixed={"feh": -0.5}, n_fine=3, ax=_axes(1, 2))
    assert np.isnan(display.node_values[-1, -1])
    # what interpolating every line gives
    index = int(np.flatnonzero(generator.decomposer_.line_catalog_ == missing)[0])
    column = index * len(generator.decomposer_.line_parameters) + 1
    x, y = (values.ravel() for values in np.meshgrid(display.fine_x, display.fine_y))
    theta = generator.interpolator_.predict(np.column_stack([x, y, np.full(9, -0.5)])).toarray()
    np.testing.assert_allclose(np.nan_to_num(display.fine_values.ravel()), theta[:, column], rtol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"line": 9000.0}, "nearest line"),
        ({"parameter": "colour"}, "colour"),
        ({"labels": ("teff", "alpha")}, "alpha"),
        ({"labels": ("teff", "teff")}, "Name two"),
        ({"fixed": {"alpha": 0.4}}, "alpha"),
        ({"fixed": {"feh": 0.4}}, "Stay inside"),
    ],
)
def test_manifold_refuses_what_it_cannot_draw(generator, wrong, text):
    with pytest.raises(ValueError, match=text):
        ManifoldDisplay.from_estimator(generator, ax=_axes(1, 2), **wrong)


def test_one_axes_are_too_few(generator):
    axes = Figure().subplots()
    with pytest.raises(ValueError, match="`ax` has 1 axes; 2 are needed, for the nodes and between them"):
        ManifoldDisplay.from_estimator(generator, ax=axes)
    with pytest.raises(ValueError, match="`ax` has 1 axes; 2 are needed, for fluxes and residuals"):
        SpectrumFitDisplay.from_arrays(np.arange(5.0), np.ones(5), np.ones(5), ax=axes)
