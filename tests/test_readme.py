"""The README's commands are the ones that CI runs, and its example runs as it stands."""

import re
import subprocess
from pathlib import Path

import pytest

from stellarhml.flags import LineFlag, SpectrumFlag

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_two_setup_commands_near_the_top():
    blocks = _blocks("bash")
    assert len(blocks) == 2
    assert all(block.count("\n") == 1 for block in blocks)
    first, second = (block.strip() for block in blocks)
    assert first.endswith("stellarhml demo")
    assert second.endswith("pytest")
    assert all(command.startswith("pip install -c constraints.txt") for command in (first, second))
    assert README[: README.index(second)].count("\n") < 40


def test_ci_runs_the_very_commands_of_the_readme():
    script = ROOT / ".ci" / "run"
    done = subprocess.run(["bash", script, "--print"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [block.strip() for block in _blocks("bash")]
    # and it spells out none of its own
    assert "pip install" not in script.read_text()


def test_example_runs_and_is_accurate(capsys):
    (code,) = _blocks("python")
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(code.strip().splitlines()) <= 25
    out = capsys.readouterr().out
    assert f"{len(names['lines'])} lines; mean errors" in out
    # noise-free: within a tenth of the grid's steps of 100 K, 0.5 and 0.5 dex
    assert (names["errors"] < [10, 0.05, 0.05]).all()
    assert names["sun"].shape == (1, names["band"].sum())


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_code_of_the_docs_compiles_and_imports_what_exists(page):
    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL):
        compile(block, str(page), "exec")
        for line in block.splitlines():
            if line.startswith(("from stellarhml", "import stellarhml")):
                exec(line, {})


def test_flags_of_the_docs_are_the_registry():
    table = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \| (.*) \|$", (ROOT / "docs" / "how-to.md").read_text(), flags=re.M)
    assert table == [(flag.name, str(int(flag)), flag.meaning) for flag in (*LineFlag, *SpectrumFlag)]


def test_constraints_meet_the_requirements():
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {requirement.name: next(iter(requirement.specifier)).version for requirement in pinned}
    assert all(next(iter(requirement.specifier)).operator == "==" for requirement in pinned)
    text = (ROOT / "pyproject.toml").read_text()
    needed = re.findall(r'^  "([^"]+)",$', text[text.index("\ndependencies") : text.index("[project.optional")], re.M)
    assert len(needed) >= 10
    for requirement in map(Requirement, needed):
        assert requirement.specifier.contains(versions[requirement.name]), requirement
    assert versions["torch"] == "2.13.0"
