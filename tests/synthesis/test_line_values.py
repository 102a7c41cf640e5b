import numpy as np
import pytest

from stellarhml import SpectrumGenerator
from stellarhml.datasets import make_stellar_grid
from stellarhml.synthesis.line_values import count_lines, line_values


@pytest.fixture(scope="module")
def generator():
    grid = make_stellar_grid(random_state=0)
    return SpectrumGenerator(wavelength=grid.wavelength, verbose=False).fit(grid.labels, grid.flux)


@pytest.mark.parametrize("name", ["log_sigma", "depth", "equivalent_width", "saturation"])
def test_values_are_those_of_the_line_table(generator, name):
    labels = np.array([[5300.0, 3.8, -0.2], [5000.0, 4.5, 0.0]])
    expected = np.stack([generator.line_table(row)[name] for row in labels])
    # derivatives beside the values, and one line at a time, may be summed in another order
    np.testing.assert_allclose(line_values(generator, labels, name), expected, rtol=1e-13)
    np.testing.assert_allclose(line_values(generator, labels, name, [1, 3]), expected[:, [1, 3]], rtol=1e-13)


def test_there_are_no_lines_outside_the_grid(generator):
    labels = np.array([[5300.0, 3.8, -0.2], [9000.0, 3.8, -0.2]])
    assert np.isnan(line_values(generator, labels, "depth")).all(axis=1).tolist() == [False, True]
    assert count_lines(generator, labels, depth=0.0).tolist() == [len(generator.decomposer_.line_catalog_), 0]
