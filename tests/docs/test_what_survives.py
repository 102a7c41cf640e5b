"""Each line of *What survives what* names tests, and they exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "what-survives.md"


def _rows():
    """Cells of each row of the tables, without their heads."""
    for line in PAGE.read_text().splitlines():
        if line.startswith("|") and not re.match(r"\|(-+\||[^|]*\|[^|]*\| test \|)", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def _tests(path):
    """Names of the tests of a file: of its functions that pytest collects."""
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_line_names_tests_that_exist():
    rows = list(_rows())
    assert len(rows) > 25
    for row in rows:
        assert len(row) == 3, row
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row[2])
        assert named, row
        assert re.sub(r"`[^`]*`|[, ]", "", row[2]) == "", row
        for path, name in named:
            assert name in _tests(path), f"{path}::{name}"


def test_every_test_of_what_predict_survives_is_on_the_page():
    path = "tests/cli/test_predict_survives.py"
    named = set(re.findall(rf"{path}::(test_\w+)", PAGE.read_text()))
    elsewhere = {
        "test_what_is_done_is_not_written_again",
        "test_without_out_nothing_is_stored",
        "test_free_velocities_are_other_settings",
        "test_rows_are_in_the_order_of_the_arguments",
    }
    assert _tests(path) == named | elsewhere
