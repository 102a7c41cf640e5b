"""LineCountDisplay: number of lines over a grid."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from stellarhml import LineManifoldInterpolator, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid
from stellarhml.plotting import LineCountDisplay


@pytest.fixture(scope="module")
def grid():
    return make_stellar_grid(random_state=0)


@pytest.fixture(scope="module")
def generator(grid):
    return SpectrumGenerator(wavelength=grid.wavelength, verbose=False).fit(grid.labels, grid.flux)


def _axes(n):
    return np.ravel(Figure().subplots(1, n, squeeze=False))


def _counts(generator, nodes, depth):
    return np.array([np.count_nonzero(generator.line_table(node)["depth"] >= depth) for node in nodes])


@pytest.mark.parametrize("depth", [0.005, 0.1])
def test_counts_are_those_of_the_line_table(generator, grid, depth):
    display = LineCountDisplay.from_estimator(generator, depth=depth, ax=_axes(2))
    # panels are [Fe/H], rows log g, columns Teff
    expected = _counts(generator, grid.labels, depth).reshape(4, 3, 2).transpose(2, 1, 0)
    np.testing.assert_array_equal(display.counts, expected)
    assert expected.min() < expected.max()
    for mesh, counts in zip(display.meshes_, expected, strict=True):
        np.testing.assert_array_equal(mesh.get_array(), counts)
        assert mesh.get_clim() == (expected.min(), expected.max())
    assert [int(text.get_text()) for text in display.numbers_] == expected.ravel().tolist()
    assert display.titles == ("[Fe/H] = \N{MINUS SIGN}0.5", "[Fe/H] = 0")
    assert f"{depth:g} deep" in display.colorbar_.ax.get_ylabel()


def test_labels_and_fixed_choose_the_panels(generator, grid):
    given = {"labels": ("feh", "logg"), "fixed": {"teff": 5250.0}, "depth": 0.05}
    display = LineCountDisplay.from_estimator(generator, **given, ax=_axes(1))
    nodes = grid.labels[grid.labels[:, 0] == 5250.0]
    np.testing.assert_array_equal(display.counts[0], _counts(generator, nodes, 0.05).reshape(3, 2))
    assert display.ax_[0].get_xlabel() == "[Fe/H] [dex]"
    assert not display.plot(ax=_axes(1), numbers=False).numbers_


def test_lines_that_are_absent_do_not_count(grid):
    """Without factors, a node has only the lines that were found in it; nodes that are missing are holes."""
    kept = np.arange(len(grid.labels)) != 5
    generator = SpectrumGenerator(
        wavelength=grid.wavelength,
        decomposer=VoigtLineDecomposer(prominence=0.2, fit_undetected=False, max_iter=30),
        interpolator=LineManifoldInterpolator(),
        n_factors=None,
        residual_rank=None,
        verbose=False,
    ).fit(grid.labels[kept], grid.flux[kept])
    display = LineCountDisplay.from_estimator(generator, depth=0.0, ax=_axes(2))
    counts = display.counts.transpose(2, 1, 0).ravel()
    table = generator.interpolator_.table_
    assert np.isnan(counts[5])
    # the entries of a bank are the lines of a node
    np.testing.assert_array_equal(counts[kept], np.diff(table.indptr))
    assert counts[kept].min() < counts[kept].max()
    assert table.only([1]).at_node(0)[0].tolist() == [line for line in table.at_node(0)[0] if line == 1]


def test_it_makes_its_own_figure(generator):
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    figure = LineCountDisplay.from_estimator(generator, labels=("teff", "feh")).figure_
    figure.draw_without_rendering()
    assert len(figure.axes) == 4  # three log g, and the scale of colours
    plt.close(figure)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"labels": ("teff", "alpha")}, "Name two of them"),
        ({"fixed": {"feh": -0.1}}, "no node of the grid"),
        ({"fixed": {"teff": 5000.0}}, "Name two of them"),
        ({"ax": [None]}, "2 are needed"),
    ],
)
def test_it_refuses_what_it_cannot_draw(generator, wrong, text):
    with pytest.raises(ValueError, match=text):
        LineCountDisplay.from_estimator(generator, **wrong)
