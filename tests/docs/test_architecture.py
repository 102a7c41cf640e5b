"""The page on the architecture names files that exist, and the rooms as the tests hold them."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_files_that_the_page_names_exist():
    names = set(re.findall(r"`([\w/]+\.(?:py|md))`", PAGE))
    named = {name for name in names if "NAME" not in name}
    assert len(named) > 50
    missing = {name for name in named if not (ROOT / name).exists() and not (ROOT / "stellarhml" / name).exists()}
    assert not missing, missing


def test_rooms_import_what_the_page_says():
    spec = importlib.util.spec_from_file_location("layers", ROOT / "tests" / "test_layers.py")
    layers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layers)
    rows = re.findall(r"^\| (`[\w`, ]+`) \| .* \| ([\w, ]+) \|$", PAGE, flags=re.MULTILINE)
    found = {}
    for rooms, imports in rows:
        floors = set() if imports == "nothing" else set(imports.split(", "))
        found |= dict.fromkeys(re.findall(r"`(\w+)`", rooms), floors)
    assert set(found) == set(layers.FLOORS)
    for room, floors in found.items():
        if "everything below" not in floors:
            assert layers.FLOORS[room] <= floors, room
