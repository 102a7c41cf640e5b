"""The README's commands are the ones that CI runs, and its example runs as it stands."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_two_setup_commands_near_the_top():
    blocks = _blocks("bash")
    assert len(blocks) == 2
    assert all(block.count("\n") == 1 for block in blocks)
    first, second = (block.strip() for block in blocks)
    assert first.endswith("stellarhml demo")
    assert second.split(" && ")[-1].startswith("pytest")
    assert all(command.startswith("pip install -c constraints.txt") for command in (first, second))
    assert README[: README.index(second)].count("\n") < 40


def test_ci_runs_the_very_commands_of_the_readme():
    script = ROOT / ".ci" / "run"
    done = subprocess.run(["bash", script, "--print"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [block.strip() for block in _blocks("bash")]
    # and it spells out none of its own
    assert "pip install" not in script.read_text()


def test_example_prints_what_the_readme_shows(capsys):
    (code,) = _blocks("python")
    shown = _blocks("text")[0]
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len([line for line in code.splitlines() if line]) <= 16
    out = capsys.readouterr().out
    # numbers differ in their last digits between machines, and a velocity of zero in all of them
    rows = [re.findall(r"^ *(\w+) +(\S+) \+- (\S+) +(.*)$", text, flags=re.MULTILINE) for text in (shown, out)]
    assert [(name, unit) for name, *_, unit in rows[0]] == [(name, unit) for name, *_, unit in rows[1]]
    assert len(rows[0]) == 5
    for (_, value, std, _), (_, found, found_std, _) in zip(*rows, strict=True):
        assert abs(float(value) - float(found)) < 0.1 * float(std)
        assert abs(float(std) - float(found_std)) < 0.1 * float(std)
    assert shown.splitlines()[-1] == out.splitlines()[-1]
    truth = dict(zip(names["grid"].label_names, names["grid"].labels_offgrid[2], strict=True))
    for name, value, std, _ in rows[0][:3]:
        assert abs(float(value) - truth[name]) < 3 * float(std), name
    assert names["sun"].shape == names["sun_std"].shape == (1, 8000)
    assert {"center", "depth", "equivalent_width"} <= set(names["lines"].columns)


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
