import pytest
from mock_line_list import mock_line_list

from stellarhml import SpectrumGenerator, load, save
from stellarhml.datasets import make_stellar_grid


@pytest.fixture(scope="module")
def generator():
    grid = make_stellar_grid(random_state=0)
    return SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)


def test_lines_have_species_in_tables_and_files(generator, tmp_path):
    lines = mock_line_list(generator)
    assert generator.tags_ is None
    assert "species" not in generator.line_table([5300, 4.0, -0.2])
    assert generator.tag_lines(lines) is generator
    table = generator.line_table([5300, 4.0, -0.2])
    known = dict(zip(lines.wavelength, lines.species, strict=True))
    for center, name in zip(table["center"], table["species"], strict=True):
        nearest = min(known, key=lambda x: abs(x - center))
        assert name == known[nearest]
    assert (table["share"] > 0.99).all()
    again = load(save(generator, tmp_path / "generator.asdf"))
    assert again.line_table([5300, 4.0, -0.2]).equals(table)
    generator.tags_ = None


def test_lists_that_do_not_suit(generator):
    lines = mock_line_list(generator)
    with pytest.raises(ValueError, match="none of them in the generator's band"):
        generator.tag_lines(lines._replace(wavelength=lines.wavelength + 1000))
    grid = make_stellar_grid(random_state=0)
    other = SpectrumGenerator(wavelength=grid.wavelength, label_names=("t", "logg", "feh"))
    with pytest.raises(ValueError, match="needs 'teff', in K"):
        other.fit(grid.labels, grid.flux).tag_lines(lines)


@pytest.mark.slow
def test_the_packaged_grid(shared_data):
    """Zero points are abundances less ionisation: iron above titanium, neutral titanium below ionised."""
    from stellarhml.workflows.generators import packaged_generator

    generator = packaged_generator(verbose=False).tag_lines(shared_data.line_list("hpf"))
    table = generator.line_table([5500, 4.5, -0.25])
    strong = table[table["depth"] > 0.1]
    assert (strong["species"] != "").mean() > 0.95
    # the calcium triplet
    assert strong.nlargest(3, "equivalent_width")["species"].tolist() == ["Ca II"] * 3
    zero = dict(zip(generator.tags_.species, generator.tags_.zero_points, strict=True))
    assert zero["Fe I"] > zero["Ti I"] + 2
