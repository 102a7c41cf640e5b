"""Every block of code in the documentation runs as it stands, and so does every command."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from stellarhml.cli.main import _parser, main
from stellarhml.flags import InferenceFlag, LineFlag, SpectrumFlag

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for page in (ROOT / "docs").rglob("*.md")
    if not {"_build", "auto_examples"} & set(page.relative_to(ROOT).parts)
)
# Pages that need more than the package: test data, or another package.
ALONE = {"tutorial.md"}  # from an empty folder: the reader has what the page makes, and nothing else
NEEDED = {"real-star.md": "real_star", "how-to/muler.md": "muler_file"}
LANGUAGES = {"python", "bash", "text", ""}


def _name(page):
    return page.relative_to(ROOT / "docs").as_posix()


def _blocks(page):
    """Language, first line and text of each fenced block."""
    text = page.read_text()
    for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        yield match[1].strip(), text[: match.start()].count("\n") + 2, match[2]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_blocks_are_of_a_kind_that_is_run_or_no_code(page):
    for language, line, _ in _blocks(page):
        assert language in LANGUAGES or language.startswith("{"), f"{page}:{line} {language}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=_name(page))
        for page in PAGES
        if any(kind in ("python", "bash") for kind, *_ in _blocks(page))
    ],
)
def test_code_and_commands_run(page, workspace, capsys, request):
    if fixture := NEEDED.get(_name(page)):
        request.getfixturevalue(fixture)
    if _name(page) in ALONE:
        for path in workspace.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    names, printed = {"__name__": "__main__"}, ""
    for language, line, text in _blocks(page):
        if language == "text":
            assert _alike(text, printed), f"{page}:{line} shows\n{text}\nbut this is printed:\n{printed}"
        elif language == "python":
            exec(compile("\n" * (line - 1) + text, str(page), "exec"), names)
        elif language == "bash":
            for command in text.splitlines():
                _run(shlex.split(command, comments=True), capsys)
        printed = capsys.readouterr().out


def _alike(shown, printed):
    """Whether two texts have the same words, and numbers that differ by 2 % or 0.02 at most, as machines may."""
    shown, printed = shown.split(), printed.split()
    return len(shown) == len(printed) and all(map(_same, shown, printed))


def _same(shown, printed):
    try:
        return abs(float(shown) - float(printed)) <= 0.02 * (1 + abs(float(shown)))
    except ValueError:
        return shown == printed


@pytest.mark.slow
def test_commands_of_the_readme_run(workspace, capsys):
    commands = re.findall(r"^stellarhml .*$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        _run(shlex.split(command), capsys)


def _run(words, capsys):
    """Run a command of the package; of others, check that what they name is there."""
    if not words:
        return
    if words[:2] == ["stellarhml", "explore"]:
        _parser().parse_args(words[1:])  # a server, which tests/explore runs
    elif words[0] == "stellarhml":
        assert main(words[1:]) == 0, capsys.readouterr().err
    elif words[:2] == ["pip", "install"]:
        extras = {extra for word in words for extra in re.findall(r"\[(.*)\]", word)}
        known = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
        assert extras <= set(known), words
    else:
        assert words[0] == "python", words
        assert (ROOT / words[1]).is_file(), words


def test_pages_with_code_are_found():
    kinds = [kind for page in PAGES for kind, *_ in _blocks(page)]
    assert kinds.count("python") > 25
    assert kinds.count("bash") > 3


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not link.startswith("http") and "auto_examples" not in link:  # the gallery is made when the docs are built
            assert (page.parent / link).exists(), link


def test_flags_that_pages_name_exist():
    names = {flag.name for registry in (LineFlag, SpectrumFlag, InferenceFlag) for flag in registry}
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    named = {
        name for row in re.findall(r"^\| (`[A-Z_`, ]+`) \|", text, flags=re.M) for name in re.findall("`(.*?)`", row)
    }
    assert len(named) >= 10
    assert named <= names, named - names
