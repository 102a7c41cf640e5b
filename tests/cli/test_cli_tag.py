"""`stellarhml tag`: species of the lines of a generator, by a list of transitions."""

import numpy as np
import pytest
from mock_line_list import ZERO_POINTS, mock_line_list, write_line_list

from stellarhml import PhoenixPreprocessor, SpectrumGenerator, load, save
from stellarhml.cli.main import main
from stellarhml.datasets import load_mini_grid, make_stellar_grid
from stellarhml.lines.line_lists import LineList


@pytest.fixture(scope="module")
def lines_file(tmp_path_factory, generator_file):
    """A list in vacuum of all lines of the generator but the third."""
    lines = mock_line_list(load(generator_file), left_out=[2])
    return write_line_list(tmp_path_factory.mktemp("lists") / "lines.csv", lines)


def _tag(generator, lines, out, *arguments):
    return main(["tag", *map(str, ["--generator", generator, "--lines", lines, "--out", out, *arguments])])


def _rows(text):
    """Cells of the rows of the printed table, by species."""
    head, *rows = text.split("lines are tagged")[0].splitlines()[:-1]
    assert head.split() == ["species", "lines", "zero", "point", "[dex]"]
    # names have at most two words
    return {row[:7].strip(): row[7:].split() for row in rows}


def test_lines_get_species_in_the_new_file(generator_file, lines_file, tmp_path, capsys):
    before, out = generator_file.read_bytes(), tmp_path / "new" / "tagged.asdf"
    assert _tag(generator_file, lines_file, out, "--medium", "vacuum") == 0
    text = capsys.readouterr().out
    old, new = load(generator_file), load(out)
    assert generator_file.read_bytes() == before
    assert old.tags_ is None
    n_lines = len(old.decomposer_.line_catalog_)
    assert new.tags_.tagged.tolist() == [k != 2 for k in range(n_lines)]
    assert new.tags_.names().tolist() == old.tag_lines(lines_file, medium="vacuum").tags_.names().tolist()
    np.testing.assert_array_equal(new.predict([[5210.0, 3.7, 0.1]]), old.predict([[5210.0, 3.7, 0.1]]))
    rows = _rows(text)
    # the third line would be of iron
    assert {name: int(n) for name, (n, _) in rows.items()} == {"Fe I": -(-n_lines // 2) - 1, "CN": n_lines // 2}
    for name, (_, zero) in rows.items():
        # the list is as strong as the lines in the mean of the nodes, of which the node in the middle is near
        assert float(zero) == pytest.approx(ZERO_POINTS[name], abs=0.1)
    assert f"{n_lines - 1} of {n_lines} lines are tagged; 1 stay untagged." in text
    assert f"generator: {out}" in text


def test_an_older_file_is_replaced_and_tags_too(generator_file, lines_file, tmp_path):
    out = tmp_path / "tagged.asdf"
    out.write_text("old")
    assert _tag(generator_file, lines_file, out, "--medium", "vacuum") == 0
    again = tmp_path / "again.joblib"
    lines = write_line_list(tmp_path / "all.csv", mock_line_list(load(generator_file)))
    assert _tag(out, lines, again, "--medium", "vacuum") == 0
    assert load(out).tags_.tagged.sum() == load(again).tags_.tagged.sum() - 1


def test_files_that_are_read_are_not_overwritten(generator_file, lines_file, tmp_path, one_error):
    (tmp_path / "link.asdf").symlink_to(generator_file)
    before = generator_file.read_bytes()
    for out in (generator_file, tmp_path / "link.asdf", lines_file):
        assert _tag(generator_file, lines_file, out, "--medium", "vacuum") == 2
        assert "would overwrite" in one_error()
    assert generator_file.read_bytes() == before


def test_what_fails_writes_nothing(generator_file, lines_file, tmp_path, one_error):
    (tmp_path / "notes.txt").write_text("no line list\n")
    vald = "Spec Ion WL_air(A) Excit(eV) Vmic log gf* Rad. Stark Waals factor depth\n'Fe 1', 8510.0, 1.0, 1.0, -1.0,\n"
    (tmp_path / "vald.lin").write_text(vald)
    generator = load(generator_file)
    lines, wavelength = mock_line_list(generator), generator.wavelength_[1:-1]
    far = write_line_list(tmp_path / "far.csv", lines._replace(wavelength=lines.wavelength + 1000))
    # one transition, between the lines
    distance = np.abs(wavelength[:, None] - generator.decomposer_.line_catalog_).min(axis=1)
    one = LineList(*(column[:1] for column in lines))._replace(wavelength=wavelength[[distance.argmax()]])
    apart = write_line_list(tmp_path / "apart.csv", one)
    before = sorted(path.name for path in tmp_path.iterdir())
    for path, arguments, text in (
        (tmp_path / "none.csv", [], "none.csv does not exist"),
        (tmp_path / "notes.txt", [], "notes.txt is not a line list of a known format"),
        (tmp_path / "vald.lin", ["--medium", "vacuum"], "vald.lin states air"),
        (far, ["--medium", "vacuum"], "none of them in the generator's band"),
        (apart, ["--medium", "vacuum"], "None of the generator's"),
        (lines_file, ["--generator", lines_file], "is not a saved estimator"),
        (lines_file, ["--generator", tmp_path / "none.asdf"], "none.asdf does not exist"),
        (lines_file, ["--out", tmp_path], "is a folder, but --out needs"),
        (lines_file, ["--out", "/proc/none/g.asdf"], "/proc/none"),
    ):
        assert _tag(generator_file, path, tmp_path / "out.asdf", *arguments) == 2
        assert text in one_error()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_wrong_arguments(generator_file, lines_file, exit_code, one_error):
    assert exit_code(["tag", "--generator", "g.asdf", "--out", "t.asdf"]) == 2
    assert "--lines" in one_error()
    arguments = ["--generator", str(generator_file), "--lines", lines_file, "--out", "t.asdf", "--medium", "water"]
    assert exit_code(["tag", *arguments]) == 2
    assert "water" in one_error()


def test_a_pickle_needs_trust(pickle_file, lines_file, tmp_path, one_error):
    out = tmp_path / "tagged.asdf"
    assert _tag(pickle_file, lines_file, out, "--medium", "vacuum") == 2
    assert "--trust-pickle" in one_error()
    assert not out.exists()
    assert _tag(pickle_file, lines_file, out, "--medium", "vacuum", "--trust-pickle") == 0
    assert load(out).tags_ is not None


def test_a_generator_without_a_temperature(lines_file, tmp_path, one_error):
    grid = make_stellar_grid(n_pixels=300, n_lines=6, random_state=0)
    other = SpectrumGenerator(wavelength=grid.wavelength, label_names=("t", "logg", "feh"))
    save(other.fit(grid.labels, grid.flux), tmp_path / "g.asdf")
    assert _tag(tmp_path / "g.asdf", lines_file, tmp_path / "t.asdf") == 2
    assert "needs 'teff', in K" in one_error()


def test_the_list_behind_the_packaged_grid(shared_data, tmp_path, capsys):
    """37 angstrom with strong lines of iron, whose list is in air."""
    grid = load_mini_grid()
    band = (grid.wavelength > 8590) & (grid.wavelength < 8627)
    scale = PhoenixPreprocessor(degree=1, peak_distance=1500)
    generator = SpectrumGenerator(wavelength=grid.wavelength[band], preprocessor=scale, label_names=grid.label_names)
    save(generator.fit(grid.labels, grid.flux[:, band]), tmp_path / "g.asdf")
    assert _tag(tmp_path / "g.asdf", shared_data.line_list("hpf"), tmp_path / "t.asdf") == 0
    rows = _rows(capsys.readouterr().out)
    assert {"Fe I", "Si I", "Ca I"} <= set(rows)
    table = load(tmp_path / "t.asdf").line_table([5500, 4.5, -0.25])
    strong = table.nlargest(4, "equivalent_width")
    # Fe I 8614.17, 8623.97, 8601.19 and 8618.65 in vacuum
    assert strong["species"].tolist() == ["Fe I"] * 4
    assert strong["share"].min() > 0.9
