"""LineCorrectionDisplay: corrections of line strengths by species."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from stellarhml.plotting import LineCorrectionDisplay


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    species = np.array(["Fe I"] * 8 + ["Ti I"] * 6 + ["CN"] * 4 + [""] * 2)
    return pd.DataFrame(
        {
            "wavelength": 8500.0 + np.arange(20),
            "species": species,
            "equivalent_width": np.where(np.arange(20) == 3, np.nan, rng.uniform(0.01, 0.2, 20)),
            "n_stars": np.where(np.arange(20) < 5, 1, 2),
            "strength": np.where(np.arange(20) == 9, -3.0, rng.normal(scale=0.1, size=20)),
            "strength_std": np.full(20, 0.02),
            "absent": np.arange(20) == 9,
        }
    )


def _heights(points):
    return points.lines[0].get_ydata()


def test_corrections_are_drawn_by_species(table):
    display = LineCorrectionDisplay.from_frame(table, species=["Ti I", "CN"], ax=Figure().subplots())
    assert list(display.points_) == ["other species", "Ti I", "CN"]
    # without the absent line of titanium, and one of iron without a width
    titanium = (table["species"] == "Ti I") & ~table["absent"]
    np.testing.assert_array_equal(_heights(display.points_["Ti I"]), table["strength"][titanium])
    assert len(_heights(display.points_["other species"])) == 9
    np.testing.assert_allclose(
        display.points_["Ti I"].lines[0].get_xdata(),
        np.log10(table["equivalent_width"] / table["wavelength"])[titanium],
    )
    assert len(display.absent_.get_xdata()) == 1
    low, high = display.ax_.get_ylim()
    assert low > -1 < high
    assert display.absent_.get_ydata()[0] == low
    assert "[dex]" in display.ax_.get_ylabel()


def test_lines_and_species_can_be_chosen(table):
    display = LineCorrectionDisplay.from_frame(table, min_stars=2, ax=Figure().subplots())
    assert display.names == ("Ti I", "CN", "Fe I")
    assert len(display.width) == 15
    plain = LineCorrectionDisplay.from_frame(table.drop(columns="species"), ax=Figure().subplots())
    assert list(plain.points_) == ["lines"]


def test_a_calibrator_is_drawn_in_its_own_figure(table):
    class Calibrator:
        corrections_ = table.set_index("wavelength")

    figure = LineCorrectionDisplay.from_estimator(Calibrator()).figure_
    figure.draw_without_rendering()
    assert len(figure.axes[0].get_legend().get_texts()) == 5


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"species": ["Cr I"]}, "at most 6 can be drawn, of CN, Fe I, Ti I"),
        ({"min_stars": 3}, "No line is shown by 3 stars"),
        ({"table": pd.DataFrame({"wavelength": [1.0]})}, "no columns absent, equivalent_width"),
    ],
)
def test_it_refuses_what_it_cannot_draw(table, wrong, text):
    given = {"table": table} | wrong
    with pytest.raises(ValueError, match=text):
        LineCorrectionDisplay.from_frame(given.pop("table"), **given)
