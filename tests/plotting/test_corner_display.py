"""CornerDisplay: the posterior of parameters, in pairs."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import norm

from stellarhml.flags import InferenceFlag
from stellarhml.inference import InferenceResult
from stellarhml.plotting import CornerDisplay

NAMES = ("teff", "logg", "rv", "vsini")
MEAN = np.array([5800.0, 4.4, 30.0, 5.0])
SIGMA = np.array([20.0, 0.1, 0.0, 0.3])  # rv was fixed
BOUNDS = np.array([[5000.0, 6500.0], [3.5, 5.0], [-100.0, 100.0], [0.0, 100.0]])


def result(*, sigma=SIGMA, mean=MEAN, draws=None, **changes):
    correlation = np.eye(4)
    correlation[0, 1] = correlation[1, 0] = 0.8
    finite = np.isfinite(sigma).all()
    covariance = correlation * sigma[:, None] * sigma if finite else np.diag(sigma**2)
    units = dict.fromkeys(NAMES, "")
    given = {
        "parameters": SimpleNamespace(
            names=NAMES, units=units, descriptions=units, bounds=dict(zip(NAMES, BOUNDS, strict=True))
        ),
        "values": dict(zip(NAMES, mean.tolist(), strict=True)),
        "covariances": {"noise": covariance, "generator": np.zeros((4, 4))},
        "reduced_chi2": 1.02,
        "n_pixels": 2000,
        "orders": ["one"],
    }
    found = InferenceResult(**(given | changes))
    found.draws = draws
    return found


def axes(n):
    return Figure().subplots(n, n, squeeze=False)


def test_fixed_parameters_are_left_out():
    display = CornerDisplay.from_result(result(), ax=axes(3))
    assert display.names == ("teff", "logg", "vsini")
    assert display.draws.shape == (2000, 3)
    assert list(display.contours_) == [("teff", "logg"), ("teff", "vsini"), ("logg", "vsini")]
    labels = [panel.get_xlabel() for panel in display.ax_[-1]]
    assert labels == [r"$T_\mathrm{eff}$ [K]", r"$\log g$ [dex(cm s$^{-2}$)]", r"$v\,\sin i$ [km/s]"]
    assert [panel.get_ylabel() for panel in display.ax_[:, 0]] == ["", labels[1], labels[2]]
    assert not display.ax_[0, 1].axison
    assert "2,000 pixels" in display.figure_.get_suptitle()


def test_draws_are_those_of_the_result():
    display = CornerDisplay.from_result(result(), names=["vsini", "teff"], n_draws=50, random_state=3, ax=axes(2))
    np.testing.assert_array_equal(display.draws, result().sample(50, random_state=3)[:, [3, 0]])


def test_ellipses_are_those_of_the_covariance():
    display = CornerDisplay.from_result(result(), ax=axes(3))
    inverse = np.linalg.inv([[400.0, 1.6], [1.6, 0.01]])
    for sigma, line in zip((1, 2), display.contours_["teff", "logg"], strict=True):
        offset = np.array(line.get_data()) - MEAN[:2, None]
        np.testing.assert_allclose(np.einsum("ik,ij,jk->k", offset, inverse, offset), sigma**2, rtol=1e-9)


def inside(display, pair, contour):
    """Share of draws within the paths of a contour."""
    columns = [display.names.index(name) for name in pair]
    points = display.draws[:, columns]
    shares = []
    for path in contour.get_paths():
        polygons = path.to_polygons(closed_only=True)
        shares.append(sum(np.count_nonzero(_contains(polygon, points)) for polygon in polygons) / len(points))
    return shares


def _contains(polygon, points):
    from matplotlib.path import Path

    return Path(polygon).contains_points(points)


def test_contours_of_draws_hold_39_and_86_percent():
    display = CornerDisplay.from_result(result(), n_draws=20000, contours="draws", ax=axes(3))
    assert display.covariance is None
    (contour,) = display.contours_["logg", "vsini"]
    # smoothing over 1.5 bins widens them a little
    assert inside(display, ("logg", "vsini"), contour) == pytest.approx([1 - np.exp(-2), 1 - np.exp(-0.5)], abs=0.05)


def test_a_posterior_cut_by_a_bound_has_no_ellipses():
    mean = np.array([5800.0, 5.0, 30.0, 5.0])
    display = CornerDisplay.from_result(result(mean=mean), ax=axes(3))
    assert display.covariance is None
    (contour,) = display.contours_["teff", "logg"]
    # no axis and no contour beyond the bound, and both reach it
    assert display.ax_[1, 0].get_ylim()[1] == 5.0
    assert max(path.vertices[:, 1].max() for path in contour.get_paths()) == pytest.approx(5.0)


def test_a_sampled_posterior_has_contours_of_draws():
    draws = np.random.default_rng(0).normal(MEAN, SIGMA, size=(300, 4))
    display = CornerDisplay.from_result(result(draws=draws), ax=axes(3))
    assert display.covariance is None
    assert np.isin(display.draws[:, 0], draws[:, 0]).all()


def test_an_unconstrained_parameter_is_drawn_over_its_bounds():
    sigma = np.array([20.0, np.inf, 0.0, 0.3])
    display = CornerDisplay.from_result(result(sigma=sigma), ax=axes(3))
    assert display.ax_[1, 1].get_xlim() == (3.5, 5.0)
    with pytest.raises(ValueError, match="Use contours='draws'"):
        CornerDisplay.from_result(result(sigma=sigma), contours="covariance", ax=axes(3))


def test_true_values_are_lines_within_the_axes():
    truths = {"teff": 5990.0, "logg": 3.9, "rv": 30.0}
    display = CornerDisplay.from_result(result(), truths=truths, ax=axes(3))
    assert display.truths == {"teff": 5990.0, "logg": 3.9}
    # teff: a column of three; logg: a row of one, and a column of two
    at = [(np.unique(line.get_xdata()).tolist(), np.unique(line.get_ydata()).tolist()) for line in display.truth_lines_]
    assert sorted(x[0] for x, _ in at if len(x) == 1) == [3.9, 3.9, 5990.0, 5990.0, 5990.0]
    assert [y for _, y in at if len(y) == 1] == [[3.9]]
    assert display.ax_[2, 0].get_xlim()[1] > 5990.0
    assert display.ax_[2, 1].get_xlim()[0] < 3.9
    texts = [text.get_text() for text in display.ax_[0, 2].get_legend().get_texts()]
    assert texts == ["1 sigma, 39 %", "2 sigma, 86 %", "truth"]


def test_titles_have_mean_and_interval():
    # quantiles of a Gaussian in place of random draws
    quantiles = norm.ppf((np.arange(20000) + 0.5) / 20000)[:, None]
    display = CornerDisplay(names=("teff", "vsini"), draws=[5800.0, 5.0] + quantiles * [20.0, 0.3]).plot(ax=axes(2))
    assert display.summary("teff") == "T_eff: 5800 +20 -20"
    assert display.ax_[1, 1].get_title() == r"$v\,\sin i$ = $5.00^{+0.30}_{-0.30}$"


def test_one_parameter_and_no_title():
    display = CornerDisplay.from_result(result(), names=["logg"], title="", ax=axes(1))
    assert display.contours_ == {}
    assert display.ax_[0, 0].get_legend() is None
    assert display.figure_.get_suptitle() == ""
    assert display.ax_[0, 0].get_xlabel() == r"$\log g$ [dex(cm s$^{-2}$)]"


def test_draws_without_bounds_or_spread():
    draws = np.column_stack([np.zeros(100), np.linspace(0, 1, 100)])
    display = CornerDisplay(names=("a", "b"), draws=draws).plot(ax=axes(2))
    assert display.ax_[0, 0].get_xlim() == (-1, 1)
    assert display.summary("a").startswith("a: 0.0")


def test_it_makes_its_own_figure():
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    figure = CornerDisplay.from_result(result(flags=InferenceFlag.POOR_FIT)).figure_
    figure.draw_without_rendering()
    assert len(figure.axes) == 9
    assert "POOR_FIT" in figure.get_suptitle()
    plt.close(figure)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"names": ["teff", "rv"]}, r"free parameters are \('teff', 'logg', 'vsini'\)"),
        ({"names": ["teff", "teff"]}, "once"),
        ({"names": []}, "Name each"),
        ({"truths": {"age": 4.5}}, "but the parameters are"),
        ({"contours": "kde"}, "must be one of"),
        ({"ax": axes(2)}, "3 x 3 are needed"),
    ],
)
def test_it_refuses_what_it_cannot_draw(wrong, text):
    with pytest.raises(ValueError, match=text):
        CornerDisplay.from_result(result(), **wrong)


def test_a_star_that_failed_is_refused():
    with pytest.raises(ValueError, match="no spectra to draw"):
        CornerDisplay.from_result(result(orders=[], flags=InferenceFlag.FAILED))
