"""The command line, in process but where a fresh process is what counts."""

import re
import subprocess
import sys

import numpy as np
import pytest

from stellarhml import __version__
from stellarhml.cli.main import COMMANDS, _parser, main
from stellarhml.workflows.predicting import open_generator


def test_help_names_input_output_examples_and_exit_codes(capsys, exit_code):
    for command in ([], *([name] for name in COMMANDS)):
        assert exit_code([*command, "--help"]) == 0
        text = capsys.readouterr().out
        assert "examples:" in text
        assert f"stellarhml {command[0] if command else 'demo'}" in text
        if command not in ([], ["explore"]):
            assert "output" in text
        if command != ["demo"]:
            assert "exit codes:" in text
        assert max(map(len, text.splitlines())) <= 120


def test_version(capsys, exit_code):
    assert exit_code(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"stellarhml {__version__}"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_loads_nothing_heavy(command):
    code = (
        "import sys\nfrom stellarhml.cli.main import main\n"
        "try:\n    main([*sys.argv[1:], '--help'])\nexcept SystemExit as done:\n    assert done.code == 0\n"
        "heavy = {'torch', 'matplotlib', 'astropy', 'bokeh', 'numba', 'numpy', 'pandas', 'scipy', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *command.split()], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "COMMAND"),
        (["nonsense"], "nonsense"),
        (["demo", "--jobs", "0"], "-1 for one per core"),
        (["demo", "--snr", "-3"], "positive"),
        (["demo", "--seed", "-1"], "between 0 and"),
        (["demo", "--search", "magic"], "magic"),
        (["build", "--out", "g.joblib"], "GRID --phoenix is required"),
        (["predict", "--generator", "g", "--resolving-power", "sharp", "s"], "neither a positive number nor"),
        (["predict", "--generator", "g.joblib", "--medium", "water", "star.txt"], "water"),
        (["predict", "--generator", "g", "--paper", "s"], "--paper"),
        (["predict", "star.txt"], "--generator"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_with_2(arguments, text, one_error, exit_code):
    assert exit_code(arguments) == 2
    assert text in one_error()


def test_only_the_command_that_runs_is_imported():
    code = (
        "import sys\nfrom stellarhml.cli.main import main\n"
        "try:\n    main(['inspect', '--help'])\nexcept SystemExit:\n    pass\n"
        "commands = {name for name in sys.modules if name.startswith('stellarhml.cli.')}\n"
        "assert commands == {'stellarhml.cli.main', 'stellarhml.cli.terminal', 'stellarhml.cli.inspect'}, commands"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_examples_of_the_help_are_valid_commands(capsys, exit_code):
    for command in ([], *([name] for name in COMMANDS)):
        exit_code([*command, "--help"])
        examples = capsys.readouterr().out.split("examples:")[1].split("exit codes:")[0]
        calls = [line.split() for line in examples.splitlines() if line.strip()]
        assert calls
        for call in calls:
            assert call[0] == "stellarhml"
            if "--help" not in call:
                _parser().parse_args(call[1:])


def test_build_reports_and_saves(grid, folder, tmp_path, capsys):
    path = tmp_path / "new" / "g.joblib"
    arguments = ["build", "--phoenix", str(folder), "--out", str(path), "--wavelength", "8500", "8510"]
    assert main([*arguments, "--teff", "5000", "5250", "--prominence", "0.02"]) == 0
    out = capsys.readouterr().out
    generator = open_generator(path, trust_pickle=True)
    assert generator.interpolator_.bounds_[0].tolist() == [5000.0, 5250.0]
    assert generator.wavelength_[[0, -1]].tolist() == pytest.approx([8500.0, 8510.0])
    assert generator.decomposer_.prominence == 0.02
    n_lines = len(generator.decomposer_.line_catalog_)
    assert f"18 spectra of {generator.wavelength_.size} pixels" in out
    assert f"{n_lines} lines" in out
    # every line was detected; more may have been added, for the shape of the synthetic ones is another
    assert np.count_nonzero(generator.decomposer_.n_detected_) == np.sum(grid.line_centers < 8510) <= n_lines
    # lines and residual reproduce the nodes themselves
    assert float(re.search(r"Residual RMS at the nodes ([\d.]+)", out)[1]) < 1e-3


def test_build_with_the_papers_settings(folder, tmp_path):
    # its margins leave nothing of 15 angstrom, which must be an error that says so
    path = tmp_path / "g.joblib"
    assert main(["build", "--phoenix", str(folder), "--out", str(path), "--wavelength", "8500", "8520", "--paper"]) == 2
    assert not path.exists()


def test_paper_settings_reach_the_generator():
    from stellarhml.workflows.generators import make_generator

    generator = make_generator(np.arange(100.0), paper=True, prominence=0.01)
    assert generator.decomposer.profile == "pseudo-voigt"
    assert generator.decomposer.prominence == 0.01
    assert generator.interpolator.absent == "vanish"
    assert generator.residual_rank is None
    assert generator.preprocessor.continuum == "each"


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (["--phoenix", "/nonexistent"], "/nonexistent"),
        (["--teff", "9000", "9500"], "teff"),
        (["--wavelength", "9000", "9100"], "9000"),
        (["--out", "."], "folder"),
        (["--out", "/proc/none/g.joblib"], "/proc/none"),
    ],
)
def test_build_errors_are_one_line(folder, tmp_path, extra, text, one_error):
    path = tmp_path / "g.joblib"
    assert main(["build", "--phoenix", str(folder), "--out", str(path), "--wavelength", "8500", "8520", *extra]) == 2
    assert text in one_error()
    assert not list(tmp_path.iterdir())


def test_build_on_missing_nodes(phoenix_folder, tmp_path, capsys, one_error):
    """Refused without --allow-missing; with it a warning of one line."""
    next(phoenix_folder.rglob("lte05100-4.50-0.0*")).unlink()
    arguments = ["build", "--phoenix", str(phoenix_folder), "--out", str(tmp_path / "g.joblib")]
    assert main(arguments) == 2
    assert "1 of the 12 selected nodes" in one_error()
    # which leaves spectra without a line
    assert main([*arguments, "--allow-missing"]) == 2
    *shown, error = capsys.readouterr().err.strip().splitlines()
    warned = [line for line in shown if line.startswith("stellarhml: warning: ")]
    assert any("1 of the 12 selected nodes" in line for line in warned)
    assert error.startswith("stellarhml: error: The spectra have no line")


def test_interruption_is_one_line(monkeypatch, capsys):
    from stellarhml.datasets import _mini_grid

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(_mini_grid, "load_mini_grid", interrupt)
    assert main(["demo", "--out", "stellarhml-demo"]) == 130
    assert capsys.readouterr().err.strip() == "stellarhml: interrupted"
