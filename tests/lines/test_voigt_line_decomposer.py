"""VoigtLineDecomposer: flux to lines and back."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from stellarhml import VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid
from stellarhml.exceptions import LineDetectionWarning
from stellarhml.kernels.rendering import line_depths, line_equivalent_widths, render_lines

LAM = 8500 + 0.05 * np.arange(400)
PAPER = {"solver": "adam", "profile": "pseudo-voigt", "match_tolerance": 0, "fit_undetected": False}
# isolated lines between pixels: center, ln amplitude, ln sigma, ln gamma, logit depth, ln wing
TRUTH = np.array(
    [
        [8504.02, -2.6, -2.4, -2.6, 1.0, -2.0],
        [8510.01, -3.2, -2.2, -3.0, 0.6, -3.0],
        [8516.03, -2.9, -2.5, -2.4, 0.8, -2.5],
    ]
)


@pytest.fixture(scope="module")
def grid():
    return make_stellar_grid(n_teff=2, n_logg=2, n_feh=2, random_state=0)


def saturating(theta):
    """The same lines as optical depths of order one."""
    theta = theta.copy()
    theta[:, 1] = [0.0, -1.0, 0.5]
    return theta


@pytest.mark.parametrize(
    ("parameters", "depth_error", "width_error", "center_error"),
    [
        # 600 epochs of Adam at learning rate 0.02 come to rest within a percent, wings last
        ({"solver": "adam", "profile": "pseudo-voigt", "max_iter": 600, "learning_rate": 0.02}, 0.01, 0.03, 0.005),
        ({"solver": "adam", "profile": "blase", "max_iter": 600, "learning_rate": 0.02}, 0.01, 0.03, 0.005),
        # priors made weak: second order recovers the lines
        ({"solver": "lm", "profile": "pseudo-voigt", "noise": 1e-4, "tol": 1e-9}, 0.002, 0.01, 0.001),
        ({"solver": "lm", "profile": "saturated-voigt", "noise": 1e-4, "tol": 1e-9}, 0.002, 0.01, 0.001),
        ({"solver": "lm", "profile": "minnaert", "noise": 1e-4, "tol": 1e-9}, 0.002, 0.01, 0.001),
    ],
    ids=["adam pseudo-voigt", "adam blase", "lm pseudo-voigt", "lm saturated-voigt", "lm minnaert"],
)
def test_isolated_lines_are_recovered(parameters, depth_error, width_error, center_error):
    decomposer = VoigtLineDecomposer(wavelength=LAM, **parameters)
    n_parameters = len(decomposer.line_parameters)
    truth = (TRUTH if n_parameters == 4 else saturating(TRUTH))[:, :n_parameters]
    flux = render_lines(LAM, truth, profile=decomposer.profile, wing_cut=None)
    theta = decomposer.fit_transform(flux[None]).toarray().reshape(-1, n_parameters)
    assert len(theta) == 3
    np.testing.assert_allclose(theta[:, 0], truth[:, 0], atol=center_error)  # angstrom; a pixel has 0.05
    profile = decomposer.profile
    np.testing.assert_allclose(line_depths(theta, profile), line_depths(truth, profile), rtol=depth_error)
    np.testing.assert_allclose(
        line_equivalent_widths(theta, profile), line_equivalent_widths(truth, profile), rtol=width_error
    )


@pytest.mark.parametrize(
    ("parameters", "tolerance"),
    [
        ({"solver": "adam", "profile": "pseudo-voigt", "max_iter": 700, "learning_rate": 0.02}, 0.07),
        ({"solver": "lm", "profile": "pseudo-voigt", "noise": 1e-4, "tol": 1e-9}, 0.01),
    ],
    ids=["adam", "lm"],
)
def test_round_trip_keeps_every_parameter(parameters, tolerance):
    # lines rendered by inverse_transform are fitted with what made them; in logs the tolerance is a relative error
    first = VoigtLineDecomposer(wavelength=LAM, **parameters)
    theta = first.fit_transform(render_lines(LAM, TRUTH[:, :4], profile="pseudo-voigt", wing_cut=None)[None])
    again = first.transform(first.inverse_transform(theta))
    np.testing.assert_array_equal(again.indices, theta.indices)
    difference = np.abs(again.toarray() - theta.toarray()).reshape(-1, 4)
    assert difference[:, 0].max() < 0.005  # angstrom
    assert difference[:, 1:].max() < tolerance


@pytest.mark.parametrize("parameters", [{}, {**PAPER, "max_iter": 20}], ids=["lm", "paper"])
def test_rows_are_independent(grid, parameters):
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength, **parameters).fit(grid.flux)
    everything = decomposer.transform(grid.flux)
    some = decomposer.transform(grid.flux[[6, 1]])
    assert (everything[[6, 1]] != some).nnz == 0
    assert (everything[[3]] != decomposer.transform(grid.flux[[3]])).nnz == 0


@pytest.mark.slow
def test_result_does_not_depend_on_n_jobs(grid):
    one = VoigtLineDecomposer(wavelength=grid.wavelength, n_jobs=1).fit_transform(grid.flux[:3])
    two = VoigtLineDecomposer(wavelength=grid.wavelength, n_jobs=2).fit_transform(grid.flux[:3])
    np.testing.assert_array_equal(one.indices, two.indices)
    np.testing.assert_allclose(one.data, two.data, rtol=1e-9)  # other processes may have other compiled kernels


@pytest.mark.parametrize("parameters", [{}, {**PAPER, "max_iter": 10}], ids=["lm", "paper"])
def test_sparse_and_dense_output_hold_the_same_lines(grid, parameters):
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength, **parameters)
    flux = grid.flux.copy()
    flux[0, :200] = 1  # no line is detected here
    table = decomposer.fit_transform(flux)
    assert sparse.issparse(table)
    assert table.format == "csr"
    dense = decomposer.set_params(sparse_output=False).transform(flux)
    present = np.zeros(table.shape, dtype=bool)
    present[np.repeat(np.arange(table.shape[0]), np.diff(table.indptr)), table.indices] = True
    np.testing.assert_array_equal(np.isfinite(dense), present)
    np.testing.assert_array_equal(dense[present], table.toarray()[present])
    np.testing.assert_array_equal(decomposer.inverse_transform(dense), decomposer.inverse_transform(table))
    if parameters:
        assert not present.all()  # so that the test has an absent line in it


def test_names_of_columns_and_pandas_output(grid):
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength, sparse_output=False).set_output(transform="pandas")
    frame = decomposer.fit_transform(grid.flux)
    names = decomposer.get_feature_names_out()
    assert list(frame.columns) == list(names)
    assert names[1] == f"log_amplitude@{decomposer.line_catalog_[0]:.3f}"
    assert len(set(names)) == len(names) == 6 * len(decomposer.line_catalog_)
    np.testing.assert_array_equal(
        decomposer.inverse_transform(frame.to_numpy()), decomposer.inverse_transform(np.asarray(frame))
    )
    # column n_parameters * i + j is parameter j of line i
    np.testing.assert_allclose(
        frame[[n for n in names if n.startswith("center")]].iloc[0], decomposer.line_catalog_, atol=0.2
    )


def test_single_precision_in_gives_double_precision_lines(grid):
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength)
    theta = decomposer.fit_transform(grid.flux.astype(np.float32))
    assert theta.dtype == np.float64
    assert decomposer.inverse_transform(theta).dtype == np.float64


def test_single_precision_does_not_cost_accuracy(grid):
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength)
    double = decomposer.inverse_transform(decomposer.fit_transform(grid.flux))
    single = decomposer.inverse_transform(decomposer.fit_transform(grid.flux.astype(np.float32)))
    # flux of single precision is known to 1e-7; fits of both agree to their own tolerance
    np.testing.assert_allclose(single, double, atol=2e-5)


def test_spectra_without_lines_warn_and_render_the_continuum(grid):
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength, fit_undetected=False).fit(grid.flux)
    flux = np.stack([grid.flux[0], np.ones(400), np.full(400, 0.7)])
    with pytest.warns(LineDetectionWarning, match="2 of 3 spectra have no line of the catalogue"):
        theta = decomposer.transform(flux)
    rendered = decomposer.inverse_transform(theta)
    np.testing.assert_array_equal(rendered[1:], 1)
    assert rendered[0].min() < 0.9


@pytest.mark.parametrize("sparse_output", [True, False])
def test_a_grid_without_any_line_has_an_empty_catalogue(sparse_output):
    decomposer = VoigtLineDecomposer(sparse_output=sparse_output).fit(np.ones((3, 50)))
    with pytest.warns(LineDetectionWarning, match="3 of 3 spectra"):
        theta = decomposer.transform(np.ones((3, 50)))
    assert theta.shape == (3, 0)
    assert len(decomposer.get_feature_names_out()) == 0
    np.testing.assert_array_equal(decomposer.inverse_transform(theta), np.ones((3, 50)))


def test_fits_that_ran_out_of_steps_are_counted(grid):
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength, max_iter=1).fit(grid.flux)
    flux = np.concatenate([grid.flux[:3], np.ones((1, 400))])
    with pytest.warns(ConvergenceWarning, match=r"[34] of 4 spectra did not converge in max_iter=1 steps"):
        decomposer.transform(flux)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VoigtLineDecomposer(wavelength=grid.wavelength).fit_transform(grid.flux)


def test_more_steps_fit_better(grid):
    def rms(max_iter):
        decomposer = VoigtLineDecomposer(wavelength=grid.wavelength, **{**PAPER, "max_iter": max_iter})
        theta = decomposer.fit_transform(grid.flux)
        return np.sqrt(np.mean((decomposer.inverse_transform(theta) - grid.flux) ** 2))

    assert rms(100) < 0.5 * rms(1)


@pytest.mark.parametrize("margin", [11.0, 1e3])
def test_a_loss_margin_that_leaves_nothing_is_refused(grid, margin):
    with pytest.raises(ValueError, match=r"`loss_margin`=.* leaves nothing of the spectra"):
        VoigtLineDecomposer(wavelength=grid.wavelength, loss_margin=margin).fit(grid.flux)


@pytest.mark.parametrize("solver", ["lm", "adam"])
def test_pixels_in_the_loss_margin_do_not_count(grid, solver):
    # 2.52 angstrom are 50.4 pixels; line_margin keeps the detection away from where the flux is spoilt
    decomposer = VoigtLineDecomposer(
        wavelength=grid.wavelength, loss_margin=2.52, line_margin=3.0, solver=solver, max_iter=30, fit_undetected=False
    )
    decomposer.fit(grid.flux)
    spoilt = grid.flux[:2].copy()
    spoilt[:, :40] += 0.01 * np.arange(40)  # no new minimum, no new prominence
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert (decomposer.transform(spoilt) != decomposer.transform(grid.flux[:2])).nnz == 0


def test_the_loss_margin_is_the_same_at_both_ends():
    lam = 1 + np.arange(11.0)
    counted = lam[
        VoigtLineDecomposer(wavelength=lam, loss_margin=2.5).fit(np.ones((1, 11)))._fit_settings().loss_pixels
    ]
    np.testing.assert_array_equal(counted, [4, 5, 6, 7, 8])


def test_lines_of_a_catalogue_are_rendered_and_fitted_without_training(grid):
    pixels = VoigtLineDecomposer(wavelength=grid.wavelength).fit(grid.flux)._catalog.pixels
    decomposer = VoigtLineDecomposer.from_catalog(
        grid.wavelength, pixels, profile="pseudo-voigt", solver="adam", max_iter=50
    )
    np.testing.assert_array_equal(decomposer.line_catalog_, grid.wavelength[pixels])
    assert decomposer.n_features_in_ == 400
    theta = decomposer.transform(grid.flux)
    assert np.sqrt(np.mean((decomposer.inverse_transform(theta) - grid.flux) ** 2)) < 0.02
    given = np.array([[8504.0, -2.6, -2.4, -2.6]])
    alone = VoigtLineDecomposer.from_catalog(grid.wavelength, [80], profile="pseudo-voigt")
    np.testing.assert_array_equal(
        alone.inverse_transform(given)[0], render_lines(grid.wavelength, given, profile="pseudo-voigt", wing_cut=None)
    )


def test_wrong_number_of_columns_is_refused(grid):
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength).fit(grid.flux)
    with pytest.raises(ValueError, match=r"X has 7 columns, but \d+ lines of 6 parameters need \d+"):
        decomposer.inverse_transform(np.ones((1, 7)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_flux_that_is_not_finite_is_refused(grid, bad):
    flux = grid.flux.copy()
    flux[0, 3] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        VoigtLineDecomposer(wavelength=grid.wavelength).fit(flux)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        VoigtLineDecomposer(wavelength=grid.wavelength).fit(grid.flux).transform(flux)


def test_unsorted_wavelengths_are_refused(grid):
    with pytest.raises(ValueError, match="increase strictly"):
        VoigtLineDecomposer(wavelength=grid.wavelength[::-1]).fit(grid.flux)


def test_undetected_lines_of_the_catalogue_are_fitted_where_asked(grid):
    weak = grid.flux.copy()
    weak[0] = 1 - 0.02 * (1 - grid.flux[0])  # most of its lines fall under the prominence
    found = {}
    for fit_undetected in (True, False):
        decomposer = VoigtLineDecomposer(wavelength=grid.wavelength, fit_undetected=fit_undetected).fit(weak)
        found[fit_undetected] = decomposer.transform(weak)[[0]]
    assert found[True].nnz == 6 * len(decomposer.line_catalog_)
    assert 0 < found[False].nnz < found[True].nnz
    # what is fitted is as weak as the flux says
    assert np.abs(decomposer.inverse_transform(found[True])[0] - weak[0]).max() < 0.005
