"""Tables of species."""

import pandas as pd
import pytest
from mock_line_list import mock_line_list

from stellarhml import SpectrumGenerator
from stellarhml.datasets import make_stellar_grid
from stellarhml.workflows.tagging import format_species, tag_generator


@pytest.fixture(scope="module")
def generator():
    grid = make_stellar_grid(random_state=0)
    return SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)


def test_species_of_most_lines_come_first(generator, tmp_path):
    found = tag_generator(generator, mock_line_list(generator, left_out=[0, 2]), tmp_path / "g.asdf")
    n_lines = len(generator.decomposer_.line_catalog_)
    assert (found.n_tagged, found.n_lines) == (n_lines - 2, n_lines)
    assert found.table["species"].tolist() == ["CN", "Fe I"]
    assert found.table["n_lines"].tolist() == [n_lines // 2, (n_lines + 1) // 2 - 2]
    zero = dict(zip(generator.tags_.species, generator.tags_.zero_points, strict=True))
    assert found.table["zero_point"].tolist() == [zero["CN"], zero["Fe I"]]


def test_text_of_the_table():
    table = pd.DataFrame({"species": ["Fe I", "CN"], "n_lines": [12, 1], "zero_point": [5.5049, float("nan")]})
    assert format_species(table).splitlines() == [
        "species lines zero point [dex]",
        "Fe I       12             5.50",
        "CN          1       not learnt",
    ]
