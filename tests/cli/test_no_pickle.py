"""No command runs the code in a pickle without --trust-pickle, whatever the file is called and however it is packed."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import shutil
import socket
import zipfile
import zlib

import joblib
import numpy as np
import pytest

from stellarhml import SpectrumGenerator
from stellarhml.cli.main import COMMANDS, _parser, main
from stellarhml.exceptions import PersistenceError


class Evil:
    """Makes a folder when it is opened."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def _npz(evil):
    buffer = io.BytesIO()
    array = np.empty(1, dtype=object)
    array[0] = evil
    np.savez(buffer, wavelength=array, flux=array, transmission=array)
    return buffer.getvalue()


def _npy(evil):
    buffer = io.BytesIO()
    array = np.empty(1, dtype=object)
    array[0] = evil
    np.save(buffer, array)
    return buffer.getvalue()


def _torch(evil):
    """An archive as torch.save writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(evil, 2))
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def _joblib(evil, compress):
    buffer = io.BytesIO()
    joblib.dump(evil, buffer, compress=compress)
    return buffer.getvalue()


FORMS = {
    "pickle": lambda evil: pickle.dumps(evil),
    "pickle of protocol 0": lambda evil: pickle.dumps(evil, 0),
    "joblib": lambda evil: _joblib(evil, 0),
    "joblib, zlib": lambda evil: _joblib(evil, ("zlib", 3)),
    "joblib, lzma": lambda evil: _joblib(evil, ("lzma", 3)),
    "gzip": lambda evil: gzip.compress(pickle.dumps(evil)),
    "bz2": lambda evil: bz2.compress(pickle.dumps(evil)),
    "xz": lambda evil: lzma.compress(pickle.dumps(evil)),
    "zlib": lambda evil: zlib.compress(pickle.dumps(evil)),
    "npz": _npz,
    "npy": _npy,
    "torch": _torch,
    "behind the mark of ASDF": lambda evil: b"#ASDF 1.0.0\n" + pickle.dumps(evil),
}
SUFFIXES = (".joblib", ".pkl", ".asdf", ".fits", ".fits.gz", ".txt", ".npz", ".hdf5", ".pt", "")

VACUUM = ("--medium", "vacuum", "--unit", "angstrom")
KEYS = ("--family", "fits", "--labels", "teff=PHXTEFF,logg=PHXLOGG,feh=PHXM_H")

# The commands by each of their arguments that names a file to read: {} is the file.
READ = {
    "fetch": {},
    "build": {
        "--phoenix": ["build", "--phoenix", "{folder}", "--out", "{out}.asdf", "--wavelength", "8500", "8520"],
        "GRID": ["build", "{}", "--labels", "teff,logg,feh", *VACUUM, "--out", "{out}.asdf"],
        "--wavelength-file": ["build", "{spectra}", *KEYS, *VACUUM, "--wavelength-file", "{}", "--out", "{out}.asdf"],
    },
    "tag": {
        "--generator": ["tag", "--generator", "{}", "--lines", "{lines}", "--out", "{out}.asdf"],
        "--lines": ["tag", "--generator", "{good}", "--lines", "{}", "--out", "{out}.asdf"],
    },
    "calibrate": {
        "--generator": ["calibrate", "--generator", "{}", "--out", "{out}.asdf", "{star}"],
        "SPECTRUM": ["calibrate", "--generator", "{good}", "--medium", "vacuum", "--out", "{out}.asdf", "{}"],
        "--labels": ["calibrate", "--generator", "{good}", "--labels", "{}", "--out", "{out}.asdf", "{star}"],
        "--lines": ["calibrate", "--generator", "{good}", "--lines", "{}", "--out", "{out}.asdf", "{star}"],
        "--tellurics": ["calibrate", "--generator", "{good}", "--tellurics", "{}", "--out", "{out}.asdf", "{star}"],
        "--standard": ["calibrate", "--generator", "{good}", "--standard", "{}", "--out", "{out}.asdf", "{star}"],
    },
    "predict": {
        "--generator": ["predict", "--generator", "{}", "{star}"],
        "SPECTRUM": ["predict", "--generator", "{good}", "--medium", "vacuum", "{}"],
        "--tellurics": ["predict", "--generator", "{good}", "--medium", "vacuum", "--tellurics", "{}", "{star}"],
        "--standard": ["predict", "--generator", "{good}", "--medium", "vacuum", "--standard", "{}", "{star}"],
    },
    "inspect": {"FILE": ["inspect", "--medium", "vacuum", "{}"]},
    "benchmark": {"--phoenix": ["benchmark", "--phoenix", "{folder}", "--wavelength", "8500", "8520"]},
    "explore": {
        "--generator": ["explore", "--no-browser", "--generator", "{}"],
        "SPECTRUM": ["explore", "--no-browser", "--generator", "{good}", "--medium", "vacuum", "{}"],
        "--tellurics": ["explore", "--no-browser", "--generator", "{good}", "--tellurics", "{}"],
    },
    "demo": {},
}
WRITTEN = {"--out-spectra", "--out", "--table", "--figures", "--figure", "--json", "--store"}


def test_every_argument_that_names_a_file_is_tried():
    assert set(READ) == set(COMMANDS)
    for command, tried in READ.items():
        actions = _parser(command)._subparsers._group_actions[0].choices[command]._actions
        files = [action for action in actions if action.metavar in ("FILE", "FOLDER", "DIR", "SPECTRUM", "GRID")]
        names = {action.option_strings[-1] if action.option_strings else action.metavar for action in files}
        assert names - WRITTEN == set(tried), command


@pytest.fixture
def star_file(tmp_path, star, write_star):
    return write_star(tmp_path / "star.txt", *star[:3])


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    """Where `explore` would serve, it ends."""
    try:
        from stellarhml.explore import server
    except ImportError:  # without bokeh `explore` opens nothing
        return

    def stop(*arguments, **settings):
        raise OSError("would serve")

    monkeypatch.setattr(server, "make_server", stop)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "argument"), [(command, argument) for command, tried in READ.items() for argument in tried]
)
def test_no_pickle_is_run(command, argument, tmp_path, folder, generator_file, star_file, capsys):
    mark, place = tmp_path / "run", tmp_path / "files"
    words = {"spectra": str(folder / "PHOENIX-ACES-AGSS-COND-2011")}
    words |= {"good": str(generator_file), "star": star_file, "lines": star_file, "out": str(tmp_path / "out")}
    for k, (form, make) in enumerate(FORMS.items()):
        content = make(Evil(mark))
        if argument == "--phoenix":
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(folder, place)
            spectra = sorted(place.glob("PHOENIX*/Z*/*.fits"))
            spectra[0].write_bytes(content)
            files = ["WAVE", "spectrum"]
        else:
            place.mkdir(exist_ok=True)
            files = [place / f"evil{k}{suffix}" for suffix in SUFFIXES]
        for file in files:
            if file == "WAVE":
                next(place.glob("WAVE*")).write_bytes(content)
            elif file == "spectrum":
                shutil.copy(next(folder.glob("WAVE*")), place)
            else:
                file.write_bytes(content)
            code = main([word.format(file, folder=place, **words) for word in READ[command][argument]])
            assert not mark.exists(), f"{form} as {file}"
            assert code in (1, 2), f"{form} as {file}"
            said = capsys.readouterr()
            assert "Traceback" not in said.out + said.err


@pytest.mark.parametrize("command", ["inspect", "tag", "calibrate", "predict", "explore"])
def test_trusted_pickle_is_run(command, tmp_path, star_file):
    """The marks of the test above do appear where a pickle is run."""
    mark = tmp_path / "run"
    (tmp_path / "evil.joblib").write_bytes(FORMS["joblib"](Evil(mark)))
    words = READ[command]["FILE" if command == "inspect" else "--generator"]
    names = {"star": star_file, "lines": star_file, "out": str(tmp_path / "out")}
    main([word.format(tmp_path / "evil.joblib", **names) for word in words] + ["--trust-pickle"])
    assert mark.exists()


def test_kept_generator_that_is_a_pickle_is_built_anew(tmp_path, monkeypatch):
    """`explore` and `demo` open what lies in the folder of downloads, where anything may have been put."""
    from stellarhml import __version__
    from stellarhml.workflows import generators

    monkeypatch.setenv("STELLARHML_DATA", str(tmp_path))
    built = []

    def build(grid, **settings):
        built.append(grid)
        raise OSError("would build")

    monkeypatch.setattr(generators, "build_generator", build)
    for form, make in FORMS.items():
        (tmp_path / f"packaged-{__version__}.asdf").write_bytes(make(Evil(tmp_path / "run")))
        assert main(["explore", "--no-browser"]) == 2
        assert not (tmp_path / "run").exists(), form
    assert len(built) == len(FORMS)


def test_commands_connect_to_nowhere(tmp_path, folder, generator_file, star_file, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    ends = ["--wavelength", "8500", "8520"]
    assert main(["build", "--phoenix", str(folder), "--out", str(tmp_path / "g.asdf"), *ends]) == 0
    options = ["--medium", "vacuum", "--resolving-power", "grid", "--at-rest"]
    assert main(["predict", "--generator", str(generator_file), *options, star_file]) == 0
    assert main(["inspect", "--medium", "vacuum", str(generator_file), star_file]) == 0


def test_archive_of_blase_runs_no_code(tmp_path):
    pytest.importorskip("torch")
    for form, make in FORMS.items():
        (tmp_path / "T4700G4.5Z0.0.pt").write_bytes(make(Evil(tmp_path / "run")))
        with pytest.raises(ValueError, match=r"T4700G4\.5Z0\.0\.pt"):
            SpectrumGenerator.from_blase_archive(tmp_path, wavelength=np.linspace(8500, 8600, 100))
        assert not (tmp_path / "run").exists(), form


def test_pickle_is_refused_by_name(tmp_path):
    from stellarhml.workflows.predicting import open_generator

    (tmp_path / "evil.asdf.gz").write_bytes(FORMS["gzip"](Evil(tmp_path / "run")))
    with pytest.raises(PersistenceError, match="--trust-pickle"):
        open_generator(tmp_path / "evil.asdf.gz")
