"""InferenceDisplay: an observed spectrum, its best model, and the residuals."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from stellarhml import BayesianStellarRegressor, SpectrumGenerator
from stellarhml.datasets import make_stellar_grid
from stellarhml.flags import InferenceFlag
from stellarhml.inference import InferenceResult
from stellarhml.inference._inference_result import OrderFit
from stellarhml.plotting import InferenceDisplay
from stellarhml.plotting._residual_curves import break_gaps, running_rms
from stellarhml.plotting._result_text import number_text, result_title

NAMES = ("teff", "logg", "feh", "rv", "vsini")
SPIKE, GAP = 20, 50  # pixels: rejected, and before which detector pixels are missing


def order(start, n_pixels=100, continuum=3.0, seed=0, number=0):
    """One order: a line, noise of 1 % of the continuum, one pixel rejected, and a gap of 20 steps."""
    wavelength = start + 0.1 * (np.arange(n_pixels) + 20 * (np.arange(n_pixels) >= GAP))
    model = continuum * (1 - 0.5 * np.exp(-0.5 * ((wavelength - start - 4.0) / 0.3) ** 2))
    error = np.full(n_pixels, 0.008 * continuum)
    flux = model + 0.01 * continuum * np.random.default_rng(seed).normal(size=n_pixels)
    flux[SPIKE], error[SPIKE] = 5 * continuum, np.inf
    columns = {"wavelength": wavelength, "flux": flux, "error": error, "model": model}
    rest = {"continuum": np.full(n_pixels, continuum), "model_error": np.full(n_pixels, 0.006 * continuum)}
    return OrderFit(**columns, **rest, number=number)


def beyond_the_generator(start, n_pixels=10):
    """An order without model or continuum."""
    nothing = np.full(n_pixels, np.nan)
    columns = {"wavelength": start + np.arange(n_pixels), "flux": np.ones(n_pixels)}
    return OrderFit(
        **columns, error=np.full(n_pixels, np.inf), model=nothing, continuum=nothing, model_error=np.zeros(n_pixels)
    )


def result(orders=None, **changes):
    nothing = dict.fromkeys(NAMES)
    given = {
        "parameters": SimpleNamespace(names=NAMES, units=nothing, descriptions=nothing, bounds=nothing),
        "values": dict(zip(NAMES, (5856.53, 4.2243, -0.1, 30.0, 6.0), strict=True)),
        "covariances": {"noise": np.diag(np.square([3.7, 0.0082, 0.0, 0.02, 0.5])), "generator": np.zeros((5, 5))},
        "reduced_chi2": 0.9968,
        "n_pixels": 1234,
        "n_rejected": 2,
        "orders": [beyond_the_generator(8000.0), order(8500.0, number=1), order(8530.0, seed=1, number=2)]
        if orders is None
        else orders,
    }
    return InferenceResult(**(given | changes))


def axes(n_rows=1):
    return Figure().subplots(2 * n_rows, 1)


def finite(line):
    x, y = line.get_data()
    return x[np.isfinite(y)], y[np.isfinite(y)]


def test_an_overview_has_all_orders_along_one_axis():
    found = result()
    display = InferenceDisplay.from_result(found, ax=axes())
    top, bottom = display.ax_
    used = np.isfinite(found.orders[1].error)
    x, flux = finite(display.flux_lines_[0])
    assert len(x) == 2 * used.sum()
    np.testing.assert_allclose(flux[: used.sum()], (found.orders[1].flux / 3.0)[used], rtol=1e-15)
    np.testing.assert_allclose(finite(display.model_lines_[0])[1][:100], found.orders[1].model / 3.0, rtol=1e-15)
    # the error is that of the noise and of the model: 0.008 and 0.006
    residual = finite(display.residual_lines_[0])[1][: used.sum()]
    np.testing.assert_allclose(residual, found.orders[1].residual[used] / 0.03, rtol=1e-12)
    assert top.get_ylabel() == "Flux / continuum"
    assert (bottom.get_xlabel(), bottom.get_ylabel()) == ("Vacuum wavelength [Å]", "Residual /\nerror")
    assert top.get_title(loc="left") == result_title(found)
    assert display.figure_ is top.figure
    texts = [text.get_text() for text in top.get_legend().get_texts()]
    assert texts == ["spectrum", "not used", "model", "rms of 32 pixels", "1 std"]


def test_gaps_are_not_joined():
    display = InferenceDisplay.from_result(result(), ax=axes())
    x = display.model_lines_[0].get_xdata()
    steps = np.diff(x)
    # NaN in both detector gaps, between the orders, and at the end
    assert np.isnan(x).sum() == 4
    assert np.nanmax(steps) < 0.11


def test_pixels_that_were_not_used_are_grey_dots_within_the_panel():
    orders = [order(8500.0)]
    orders[0].flux[30], orders[0].error[30] = 0.0, np.inf  # as `infer` has them where the flux is missing
    display = InferenceDisplay.from_result(result(orders), ax=axes())
    x, y = finite(display.unused_lines_[0])
    assert x.tolist() == [orders[0].wavelength[SPIKE]]
    assert y[0] == pytest.approx(display.ax_[0].get_ylim()[1])
    assert display.unused_lines_[0].get_color() != display.flux_lines_[0].get_color()
    for panel in display.ax_:
        bars = panel.collections[-1].get_paths()
        assert len(bars) == 2
        np.testing.assert_allclose(bars[0].vertices[:, 0].min(), orders[0].wavelength[SPIKE] - 0.05)
        np.testing.assert_allclose(bars[0].vertices[:, 0].max(), orders[0].wavelength[SPIKE] + 0.05)


def test_the_legend_has_only_what_is_drawn():
    whole = order(8500.0)
    whole.flux[SPIKE], whole.error[SPIKE] = whole.model[SPIKE], 0.024
    display = InferenceDisplay.from_result(result([whole]), ax=axes())
    assert "not used" not in [text.get_text() for text in display.ax_[0].get_legend().get_texts()]


def test_orders_in_detail():
    found = result(jitter=0.01)
    display = InferenceDisplay.from_result(found, orders=[2, 1], residual="continuum", title="", ax=axes(2))
    assert len(display.ax_) == 4
    assert display.ax_[0].get_title(loc="left") == ""
    np.testing.assert_array_equal(finite(display.model_lines_[1])[0], found.orders[1].wavelength)
    used = np.isfinite(found.orders[2].error)
    np.testing.assert_allclose(
        finite(display.residual_lines_[0])[1], found.orders[2].residual[used] / 3.0, rtol=1e-9, atol=1e-15
    )
    assert display.ax_[1].get_ylabel() == "Residual /\ncontinuum"
    # 0.8 % noise, 0.6 % of the model, and 1 % of jitter
    scale = display.error[2][0]
    assert scale == pytest.approx(np.sqrt(2) * 0.01)
    left = found.orders[2].residual / 3.0
    rms, scatter = np.sqrt(np.nanmean(left**2)), 1.4826 * np.nanmedian(np.abs(left))
    text = display.ax_[0].texts[0].get_text()
    assert text == f"order 2: residual rms {rms / scale:.2f} x error, scatter {scatter:.2g} x continuum"


def test_orders_have_the_numbers_of_their_file():
    found = result([order(8500.0, number=98), order(8530.0, number=104)])
    display = InferenceDisplay.from_result(found, orders=[104], ax=axes())
    np.testing.assert_array_equal(finite(display.model_lines_[0])[0], found.orders[1].wavelength)
    assert display.ax_[0].texts[0].get_text().startswith("order 104:")
    with pytest.raises(ValueError, match=r"orders with pixels in use are \[98, 104\]"):
        InferenceDisplay.from_result(found, orders=[1], ax=axes())


def test_a_window_shows_its_own_pixels():
    display = InferenceDisplay.from_result(result(), window=(8531.0, 8532.95), ax=axes())
    x = finite(display.model_lines_[0])[0]
    assert (x[0], x[-1]) == pytest.approx((8531.0, 8532.9))
    low, high = display.ax_[1].get_xlim()
    assert 8530.9 < low < 8531.0 < 8532.9 < high < 8533.0


class Lines:
    """A generator with nothing but a line table."""

    label_names_ = ("teff", "logg", "feh")

    def __init__(self, species=None):
        self.species = species

    def line_table(self, labels):
        import pandas as pd

        assert list(labels) == [5856.53, 4.2243, -0.1]
        rest = [8502.0, 8502.05, 8503.2, 8506.0, 8530.5, 8600.0, 8501.0]
        columns = {"center": rest, "depth": [0.1, 0.4, 0.2, 0.6, 0.5, 0.9, 0.0]}
        if self.species:  # of all lines but one
            columns["species"] = ["" if x == 8503.2 else self.species for x in rest]
        return pd.DataFrame(columns, index=rest)


def test_the_deepest_lines_are_labelled_where_they_are_observed():
    display = InferenceDisplay.from_result(result(), orders=[1, 2], generator=Lines(), n_lines=3, ax=axes(2))
    first, second = display.line_texts_
    # 8506 lies in the gap, 8502 would overlap the label of a deeper line, 8501 is absent
    assert [text.get_text() for text in first] == ["8502.05", "8503.20"]
    assert [text.get_text() for text in second] == ["8530.50"]
    assert first[0].get_position()[0] == pytest.approx(8502.05 * (1 + 30 / 299792.458), rel=1e-12)
    # spectra leave room
    high = np.nanmax(display.flux_lines_[0].get_ydata())
    assert display.ax_[0].transData.transform((8502.0, high))[1] < display.ax_[0].transAxes.transform((0, 0.73))[1]
    named = InferenceDisplay.from_result(result(), generator=Lines("Fe I"), orders=[1], n_lines=3, ax=axes())
    assert [text.get_text() for text in named.line_texts_[0]] == ["Fe I 8502.05", "8503.20"]
    few = InferenceDisplay.from_result(result(), generator=Lines(), n_lines=1, ax=axes())
    assert [text.get_text() for text in few.line_texts_[0]] == ["8530.50"]


def test_many_pixels_become_an_image():
    wavelength = np.linspace(8000.0, 9000.0, 6000)
    ones = np.ones(6000)
    display = InferenceDisplay(wavelength=[wavelength], flux=[ones], model=[ones], error=[0.1 * ones]).plot(ax=axes())
    assert display.flux_lines_[0].get_rasterized()
    assert display.residual("error")[0].max() == 0


def test_title_has_numbers_and_flags():
    title = result_title(result(flags=InferenceFlag.AT_BOUND | InferenceFlag.POOR_FIT))
    first, second, third = title.split("\n")
    assert first.startswith(r"$T_\mathrm{eff}$ = 5856.5 ± 3.7 K,  $\log g$ = 4.2243 ± 0.0082 dex,")
    assert "[Fe/H] = \N{MINUS SIGN}0.1 (fixed) dex" in first
    assert "RV = 30.000 ± 0.020 km/s" in first
    assert second == r"reduced $\chi^2$ = 0.997, 1,234 pixels, 2 rejected"
    assert third == "flags: AT_BOUND, POOR_FIT"
    assert "errors not given" in result_title(result(reduced_chi2=np.nan))


def test_numbers_have_two_digits_of_their_error():
    assert number_text(1234.5678, 123.0) == "1235 ± 123"
    assert number_text(-0.12345, 0.00999) == "\N{MINUS SIGN}0.123 ± 0.010"
    assert number_text(4.5, np.inf) == "4.5 ± ?"


def test_running_rms_of_each_stretch():
    x = np.concatenate([np.arange(64.0), 1e5 + np.arange(33.0)])
    centers, size, length = running_rms(x, np.where(np.arange(97) < 32, 3.0, 1.0))
    np.testing.assert_array_equal(size, [3.0, 1.0, np.nan, 1.0, np.nan])
    assert centers[:2].tolist() == [15.5, 47.5]
    assert length == 32
    one = running_rms(np.array([5.0]), np.array([-2.0]))
    assert (one[0][0], one[1][0]) == (5.0, 2.0)
    assert break_gaps(np.array([[5.0], [1.0]])).shape == (2, 2)


def test_one_pixel_can_be_drawn():
    one = {"flux": [np.ones(1)], "model": [np.full(1, 0.5)], "error": [np.ones(1)]}
    display = InferenceDisplay(wavelength=[np.array([8500.0])], **one)
    window = display.plot(ax=axes(), window=(8499.0, 8501.0)).ax_[0].get_xlim()
    assert window[0] < 8500 < window[1]


def test_it_makes_its_own_figures():
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    display = InferenceDisplay.from_result(result())
    figures = [display.figure_, display.plot(orders=[1, 2]).figure_]
    for figure, n_axes in zip(figures, (2, 4), strict=True):
        figure.draw_without_rendering()
        assert len(figure.axes) == n_axes
        plt.close(figure)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"orders": [0, 1]}, r"orders with pixels in use are \[1, 2\]"),
        ({"orders": []}, "Choose one or more"),
        ({"window": (8600.0, 8700.0)}, r"no pixel in use of 2 orders, which is from 8500.00 to 8541.90 angstrom"),
        ({"window": (8501.95, 8502.05), "orders": [1]}, "no pixel in use of order 1"),
        ({"residual": "percent"}, "must be one of"),
        ({"n_lines": 3}, "Pass `generator`"),
        ({"ax": [None]}, "2 are needed"),
    ],
)
def test_it_refuses_what_it_cannot_draw(wrong, text):
    with pytest.raises(ValueError, match=text):
        InferenceDisplay.from_result(result(), **wrong)


def test_a_star_that_failed_is_refused():
    failed = result([], flags=InferenceFlag.FAILED, messages=("all pixels are masked",))
    with pytest.raises(ValueError, match=r"FAILED.*all pixels are masked"):
        InferenceDisplay.from_result(failed)
    nothing = result([beyond_the_generator(8000.0)])
    with pytest.raises(ValueError, match=r"in use are \[\]"):
        InferenceDisplay.from_result(nothing)


def test_what_was_inferred_is_drawn():
    """A spectrum of the generator with a slope and noise: the residual is the noise, over the continuum."""
    grid = make_stellar_grid(random_state=0)
    generator = SpectrumGenerator(wavelength=grid.wavelength, verbose=False).fit(grid.labels, grid.flux)
    regressor = BayesianStellarRegressor.from_generator(generator, search="nodes", random_state=0, verbose=False)
    rng = np.random.default_rng(0)
    error = np.full(grid.wavelength.size, 0.004)
    flux = grid.flux[10] * np.linspace(0.9, 1.1, error.size) + error * rng.normal(size=error.size)
    fixed = {"rv": 0.0, "vsini": 0.0}
    found = regressor.infer((grid.wavelength, flux, error), resolving_power=None, fixed=fixed)
    display = InferenceDisplay.from_result(found, orders=[0], generator=generator, n_lines=4, ax=axes())
    # 400 pixels determine the noise to 3.5 %, and the model has an error, too
    assert np.nanstd(display.residual("continuum")[0]) == pytest.approx(0.004, rel=0.2)
    assert 0.5 < np.nanstd(display.residual("error")[0]) < 1.2
    depths = generator.line_table([found.values[name] for name in generator.label_names_])["depth"]
    assert display.line_texts_[0][0].get_text() == f"{depths.idxmax():.2f}"
