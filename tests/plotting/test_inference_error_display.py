"""InferenceErrorDisplay: inferred minus true labels."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from stellarhml.plotting import InferenceErrorDisplay

NAMES = ("teff", "logg", "feh")


@pytest.fixture
def stars():
    """True and inferred labels of 40 stars on both sides of 7000 K, and the methods."""
    rng = np.random.default_rng(0)
    truth = np.stack([np.linspace(6000, 8000, 40), rng.uniform(3, 5, 40), rng.uniform(-0.5, 0, 40)], axis=1)
    inferred = truth + rng.normal(size=(40, 3)) * [50, 0.1, 0.05]
    inferred[5] = np.nan
    return truth, inferred, np.array(["nodes", "paper"])[np.arange(40) % 2]


def _frame(truth, inferred, method):
    columns = {"search": method}
    for k, name in enumerate(NAMES):
        columns[f"{name}_true"], columns[name] = truth[:, k], inferred[:, k]
        columns[f"{name}_std"], columns[f"{name}_difference"] = 0.1, inferred[:, k] - truth[:, k]
    return pd.DataFrame(columns)


def test_it_draws_the_differences(stars):
    truth, inferred, method = stars
    display = InferenceErrorDisplay.from_predictions(truth, inferred, method=method, ax=Figure(layout="constrained"))
    np.testing.assert_array_equal(display.difference, inferred - truth)
    for k, points in enumerate(display.points_):
        assert list(points) == ["nodes", "paper"]
        for name, line in points.items():
            rows = (method == name) & (np.arange(40) != 5)
            np.testing.assert_array_equal(line.get_ydata(), (inferred - truth)[rows, k])
            # beside each other, by a percent of the range of 2000 K
            np.testing.assert_allclose(line.get_xdata(), truth[rows, 0], atol=15)
            error = line.get_ydata()
            text = f"mean {error.mean():+.3f}, std {error.std():.3f} dex" if k else f"mean {error.mean():+.1f}"
            assert text.replace("-", "\N{MINUS SIGN}") in line.get_label()
        markers = {line.get_marker() for line in points.values()}
        assert len(markers) == 2
    assert [axes.get_ylabel() for axes in display.ax_] == [
        r"Δ $T_\mathrm{eff}$ [K]",
        r"Δ $\log g$ [dex(cm s$^{-2}$)]",
        "Δ [Fe/H] [dex]",
    ]
    assert display.ax_[-1].get_xlabel() == r"true $T_\mathrm{eff}$ [K]"
    display.figure_.draw_without_rendering()


def test_histograms_hold_every_star(stars):
    truth, inferred, method = stars
    display = InferenceErrorDisplay.from_predictions(truth, inferred, method=method, ax=Figure())
    for axes, panel in zip(display.histogram_ax_, display.ax_, strict=True):
        assert sum(patch.get_data().values.sum() for patch in axes.patches) == 39
        assert axes.get_ylim() == panel.get_ylim()
        low, high = axes.get_ylim()
        assert low == -high  # zero is in the middle


def test_a_table_of_the_command_gives_the_same(stars):
    display = InferenceErrorDisplay.from_frame(_frame(*stars), ax=Figure())
    other = InferenceErrorDisplay.from_predictions(*stars[:2], method=stars[2], ax=Figure())
    assert display.names == NAMES
    for a, b in zip(display.points_, other.points_, strict=True):
        assert list(a) == list(b) == ["nodes", "paper"]
        for name in a:
            np.testing.assert_allclose(a[name].get_xydata(), b[name].get_xydata())
    one = InferenceErrorDisplay.from_frame(_frame(*stars).drop(columns="search"), ax=Figure())
    assert list(one.points_[0]) == ["inferred"]


def test_7000_k_is_marked_where_stars_lie_on_both_sides(stars):
    truth, inferred, _ = stars
    assert len(InferenceErrorDisplay.from_predictions(truth, inferred, ax=Figure()).split_lines_) == 3
    cool = truth[:, 0] < 6900
    display = InferenceErrorDisplay.from_predictions(truth[cool], inferred[cool], ax=Figure())
    assert not display.split_lines_
    assert list(display.points_[0]) == ["inferred"]


def test_given_axes_are_drawn_on(stars):
    truth, inferred, _ = stars
    axes = Figure().subplots(1, 3)
    display = InferenceErrorDisplay.from_predictions(truth, inferred, ax=axes)
    assert display.ax_ == tuple(axes)
    assert display.histogram_ax_ is None


def test_other_labels_and_failed_inferences():
    truth = np.array([[4.0, 0.1], [4.5, 0.2]])
    display = InferenceErrorDisplay.from_predictions(
        truth, np.full((2, 2), np.nan), names=("logg", "alpha"), ax=Figure()
    )
    assert not display.split_lines_
    assert display.ax_[1].get_xlabel() == r"true $\log g$ [dex(cm s$^{-2}$)]"
    display.figure_.draw_without_rendering()


def test_it_makes_its_own_figure(stars):
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    display = InferenceErrorDisplay.from_predictions(*stars[:2])
    assert len(display.figure_.axes) == 6
    plt.close(display.figure_)


def test_it_refuses_what_it_cannot_draw(stars):
    truth, inferred, _ = stars
    with pytest.raises(ValueError, match=r"shapes \(40, 3\), \(40, 2\)"):
        InferenceErrorDisplay.from_predictions(truth, inferred[:, :2])
    with pytest.raises(ValueError, match="Name other labels"):
        InferenceErrorDisplay.from_predictions(truth[:, :2], inferred[:, :2])
    with pytest.raises(ValueError, match="3 are needed"):
        InferenceErrorDisplay.from_predictions(truth, inferred, ax=Figure().subplots(1, 2))
    with pytest.raises(ValueError, match="Read a table"):
        InferenceErrorDisplay.from_frame(_frame(*stars).drop(columns="logg_true"))
    with pytest.raises(ValueError, match="Read a table"):
        InferenceErrorDisplay.from_frame(pd.DataFrame({"star": [1]}))
