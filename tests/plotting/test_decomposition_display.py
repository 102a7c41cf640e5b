"""DecompositionDisplay: a spectrum, its line model and its lines."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from mock_line_list import mock_line_list

from stellarhml import SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid
from stellarhml.flags import LineFlag
from stellarhml.plotting import DecompositionDisplay

WAVELENGTH = np.arange(8500.0, 8550.0)
FLUX = np.linspace(0.5, 1, 50)
MODEL = np.where(WAVELENGTH < 8520, FLUX + 0.003, FLUX)
CENTERS = np.array([8501.5, 8505.2, 8512.0, 8515.0, 8518.0, 8544.0])
FLAGS = [
    0,
    LineFlag.UNDETECTED | LineFlag.AT_EDGE,
    LineFlag.SATURATED,
    LineFlag.ADDED | LineFlag.UNDETECTED,
    LineFlag.ADDED,
    0,
]


@pytest.fixture(scope="module")
def grid():
    return make_stellar_grid(random_state=0)


def draw(**options):
    return DecompositionDisplay.from_arrays(WAVELENGTH, FLUX, MODEL, CENTERS, FLAGS, ax=axes(), **options)


def axes():
    return Figure().subplots(2, 1)


def legend(display):
    return [text.get_text() for text in display.ax_[0].get_legend().get_texts()]


def ticks(display):
    return {kind: line.get_xdata().tolist() for kind, line in display.ticks_.items()}


def test_it_draws_its_arrays():
    display = draw(title="a star")
    np.testing.assert_array_equal(display.flux_line_.get_ydata(), FLUX)
    np.testing.assert_array_equal(display.model_line_.get_ydata(), MODEL)
    np.testing.assert_array_equal(display.residual_line_.get_ydata(), FLUX - MODEL)
    top, bottom = display.ax_
    assert top.get_title(loc="left") == "a star"
    assert (top.get_ylabel(), bottom.get_xlabel()) == ("Normalised flux", "Vacuum wavelength [Å]")
    assert display.figure_ is top.figure


def test_ticks_are_lines_by_kind_with_their_number():
    display = draw()
    expected = {"detected": [8501.5, 8512.0, 8544.0], "undetected": [8505.2], "added": [8515.0, 8518.0]}
    assert ticks(display) == expected
    assert legend(display) == ["spectrum", "model", "detected (3)", "undetected (1)", "added (2)"]
    assert len({to_hex(line.get_color()) for line in display.ticks_.values()}) == 3
    # one row for each kind, above the spectra
    rows = [line.get_ydata()[0] for line in display.ticks_.values()]
    top = display.ax_[0]
    highest = top.transAxes.inverted().transform(top.transData.transform((8500.0, FLUX.max())))[1]
    assert highest < rows[0] < rows[1] < rows[2] < 1


def test_a_window_shows_and_counts_its_own_lines():
    display = draw(window=(8503.0, 8516.0))
    assert ticks(display) == {"detected": [8512.0], "undetected": [8505.2], "added": [8515.0]}
    assert legend(display)[2:] == ["detected (1)", "undetected (1)", "added (1)"]
    np.testing.assert_array_equal(display.flux_line_.get_xdata(), np.arange(8503.0, 8517.0))
    assert display.ax_[0].get_xlim() == display.ax_[1].get_xlim() == (8503.0, 8516.0)


def test_rms_of_the_window_and_of_all():
    whole = 0.003 * np.sqrt(20 / 50)
    display = draw(window=(8503.0, 8516.0))
    assert display.rms((8503.0, 8516.0)) == pytest.approx(0.003)
    assert display.rms() == pytest.approx(whole)
    assert display.rms_text_.get_text() == f"RMS 0.003 in this window, {whole:.2g} in all"
    assert draw().rms_text_.get_text() == f"RMS {whole:.2g} in all"


def test_a_pixel_without_flux_is_masked():
    flux = FLUX.copy()
    flux[[0, 30]] = np.nan
    display = DecompositionDisplay.from_arrays(WAVELENGTH, flux, MODEL, CENTERS, FLAGS, ax=axes())
    assert display.rms() == pytest.approx(0.003 * np.sqrt(19 / 48))
    assert np.isfinite(display.ax_[0].get_ylim()).all()


def test_ticks_become_finer_as_they_crowd():
    centers = np.linspace(8500, 8549, 3000)
    display = DecompositionDisplay.from_arrays(WAVELENGTH, FLUX, MODEL, centers, np.zeros(3000, int), ax=axes())
    few, many = draw().ticks_["detected"], display.ticks_["detected"]
    assert many.get_markeredgewidth() < 0.2 < 1 < few.get_markeredgewidth()
    assert many.get_markersize() < few.get_markersize()
    # the legend's do not
    assert display.ax_[0].get_legend().legend_handles[2].get_markeredgewidth() > 1


@pytest.mark.parametrize(("centers", "flags"), [([], []), ([8400.0], [0])])
def test_without_lines_there_are_no_ticks(centers, flags):
    display = DecompositionDisplay.from_arrays(WAVELENGTH, np.ones(50), np.ones(50), centers, flags, ax=axes())
    assert legend(display)[2:] == ["detected (0)", "undetected (0)", "added (0)"]
    assert display.rms_text_.get_text() == "RMS 0 in all"


def test_arrays_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="one value for each pixel"):
        DecompositionDisplay.from_arrays(WAVELENGTH, FLUX, MODEL[1:], CENTERS, FLAGS)
    with pytest.raises(ValueError, match="one value for each line"):
        DecompositionDisplay.from_arrays(WAVELENGTH, FLUX, MODEL, CENTERS, FLAGS[1:])
    with pytest.raises(ValueError, match=r"holds no pixel.*8500.00 to 8549.00 angstrom"):
        draw(window=(8600.0, 8700.0))


def test_it_makes_its_own_figure():
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    display = DecompositionDisplay.from_arrays(WAVELENGTH, FLUX, MODEL, CENTERS, FLAGS)
    assert len(display.figure_.axes) == 2
    plt.close(display.figure_)


def test_an_estimator_gives_lines_flags_and_model(grid):
    """The undetected lines come from spectra with more prominent ones: a high prominence leaves some out of this."""
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength, prominence=0.2, verbose=False).fit(grid.flux)
    found = [decomposer.decompose(row[None]) for row in grid.flux]
    k = int(np.argmax([np.count_nonzero(one.line_flags & LineFlag.UNDETECTED) for one in found]))
    display = DecompositionDisplay.from_estimator(decomposer, grid.flux[k], ax=axes(), title="a node")
    np.testing.assert_array_equal(display.flux, grid.flux[k])
    np.testing.assert_array_equal(display.model, decomposer.inverse_transform(found[k].theta)[0])
    assert display.rms() == pytest.approx(found[k].rms[0], rel=1e-6)

    theta = decomposer.transform(grid.flux[k][None]).toarray().reshape(len(decomposer.line_catalog_), -1)
    fitted = theta[:, 0] != 0
    np.testing.assert_array_equal(display.centers, theta[fitted, 0])
    np.testing.assert_array_equal(display.line_flags, found[k].line_flags[0, fitted])
    counted = {kind: len(x) for kind, x in ticks(display).items()}
    assert counted["undetected"] + counted["added"] > 0
    assert sum(counted.values()) == np.count_nonzero(fitted)


def test_pixels_outside_the_fit_are_not_drawn(grid):
    decomposer = VoigtLineDecomposer(wavelength=grid.wavelength, loss_margin=3.0, verbose=False).fit(grid.flux)
    display = DecompositionDisplay.from_estimator(decomposer, grid.flux[0], ax=axes())
    assert display.wavelength[0] == pytest.approx(grid.wavelength[0] + 3, abs=0.1)
    assert display.wavelength[-1] == pytest.approx(grid.wavelength[-1] - 3, abs=0.1)
    assert display.flux.shape == display.model.shape == display.wavelength.shape


def test_the_deepest_lines_are_labelled(grid):
    generator = SpectrumGenerator(wavelength=grid.wavelength, verbose=False).fit(grid.labels, grid.flux)
    generator.tag_lines(mock_line_list(generator, left_out=[3]))
    decomposer, k, window = generator.decomposer_, 5, (8503.0, 8516.0)
    given = {"window": window, "ax": axes(), "n_lines": 4}
    display = DecompositionDisplay.from_estimator(decomposer, grid.flux[k], tags=generator.tags_, **given)
    found = {text.get_position()[0]: text.get_text() for text in display.line_texts_}
    # of well separated lines, those with the lowest flux
    inside = display.centers[(display.centers > window[0]) & (display.centers < window[1])]
    depth = 1 - np.interp(inside, grid.wavelength, grid.flux[k])
    assert sorted(found) == sorted(inside[np.argsort(-depth)[:4]])
    catalog, names = decomposer.line_catalog_, generator.tags_.names()
    for center, text in found.items():
        line = np.abs(catalog - center).argmin()
        assert text == f"{names[line]} {catalog[line]:.2f}".strip()
    assert any(text.startswith("CN ") for text in found.values())
    # below the ticks, above the spectrum
    top = display.ax_[0]
    assert top.transData.transform((8510.0, grid.flux[k].max()))[1] < top.transAxes.transform((0, 0.62))[1]
    bare = DecompositionDisplay.from_estimator(decomposer, grid.flux[k], **given | {"ax": axes()})
    assert [text.get_text() for text in bare.line_texts_] == [
        text.get_text().rsplit(" ", 1)[-1] for text in display.line_texts_
    ]
    assert DecompositionDisplay.from_estimator(decomposer, grid.flux[k], ax=axes()).line_texts_ == []
    one = DecompositionDisplay.from_estimator(
        decomposer, grid.flux[k], **given | {"window": (8510.01, 8510.06), "ax": axes()}
    )
    assert one.line_texts_ == []


def test_tags_of_another_decomposer_are_refused(grid):
    generator = SpectrumGenerator(wavelength=grid.wavelength, verbose=False).fit(grid.labels, grid.flux)
    tags = generator.tag_lines(mock_line_list(generator)).tags_
    other = VoigtLineDecomposer(wavelength=grid.wavelength, prominence=0.2, verbose=False).fit(grid.flux)
    with pytest.raises(ValueError, match="of the same generator"):
        DecompositionDisplay.from_estimator(other, grid.flux[0], n_lines=2, tags=tags)
