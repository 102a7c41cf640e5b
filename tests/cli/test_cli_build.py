"""`stellarhml build` on grids that lack something."""

import shutil

import grid_files
import numpy as np
import pytest
from astropy.io import fits
from sklearn.utils import Bunch

from stellarhml import load
from stellarhml.cli.main import main
from stellarhml.grids.phoenix_files import phoenix_file_name

BAND = ("--wavelength", 8500, 8520)


@pytest.fixture
def build(tmp_path, folder, capsys):
    """Build with a changed copy of the grid: exit code, standard output and error, and whether a file was written."""

    def run(*arguments, change=None):
        grid = shutil.copytree(folder, tmp_path / "phoenix")
        if change is not None:
            change(grid)
        out = tmp_path / "generator.asdf"
        code = main(["build", "--phoenix", str(grid), "--out", str(out), *map(str, arguments)])
        return code, *capsys.readouterr(), out.exists()

    return run


def test_one_node_is_no_grid(build):
    code, _, text, written = build("--teff", 5000, 5100, "--logg", 3.5, 3.5, "--feh", 0, 0, *BAND)
    assert (code, written) == (2, False)
    assert "one node, teff 5000, logg 3.5, feh 0, but at least two are needed" in text


def test_a_band_without_lines(build, grid):
    far = grid.wavelength[np.argmax(np.abs(grid.wavelength[:, None] - grid.line_centers).min(axis=1))]
    code, _, text, written = build("--wavelength", far - 0.1, far + 0.1)
    assert (code, written) == (2, False)
    assert "no line of prominence 0.005 of the continuum between" in text
    assert "wider or another range" in text


def test_a_label_with_one_value_is_named(build):
    code, text, _, written = build("--feh", 0, 0, "--logg", 4, 4, *BAND)
    assert (code, written) == (0, True)
    assert "note: the grid has one value only of logg (4), feh (0)" in text


def test_a_damaged_file_is_named(build):
    def cut(grid):
        with fits.open(grid / phoenix_file_name(5250, 4.0, 0.0), mode="update") as hdus:
            hdus[0].data[200:] = 0

    code, _, text, written = build(*BAND, change=cut)
    assert (code, written) == (2, False)
    assert "lte05250-4.00-0.0.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits is zero from 8510.00 to 8514.95 angstrom" in text


@pytest.mark.slow
def test_swapped_files_are_named(build):
    def swap(grid):
        one, two = (grid / phoenix_file_name(5250, 4.0, feh) for feh in (0.0, 0.5))
        fluxes = [fits.getdata(path, memmap=False) for path in (one, two)]
        for path, flux in zip((two, one), fluxes, strict=True):
            with fits.open(path, mode="update") as hdus:
                hdus[0].data[:] = flux

    code, _, text, written = build(*BAND, change=swap)
    assert (code, written) == (0, True)
    assert "(teff 5250, logg 4, feh 0) and (teff 5250, logg 4, feh 0.5) seem to be swapped" in text


# --- any grid


KEYS = ["--labels", "teff=TEFF,logg=LOGG,feh=FEH"]


@pytest.fixture
def small(grid):
    """12 of the nodes: two of each label but Teff."""
    keep = (grid.labels[:, 1] < 4.2) & (grid.labels[:, 2] < 0.2)
    return Bunch(**grid | {"labels": grid.labels[keep], "flux": grid.flux[keep]})


def test_a_folder_of_fits_spectra(small, tmp_path, capsys):
    folder = grid_files.write_fits_folder(tmp_path / "spectra", small, header=grid_files.linear_axis(small))
    out = tmp_path / "g.asdf"
    command = ["build", str(folder), *KEYS, "--teff", "5000", "5250", "--out", str(out)]
    assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert "model00.fits" in error[0]
    assert "--medium" in error[0]
    assert main([*command, "--medium", "vacuum", "--normalised"]) == 0
    generator = load(out)
    assert generator.preprocessor_ is None
    assert generator.interpolator_.nodes_.tolist() == small.labels[:8].tolist()
    np.testing.assert_allclose(generator.predict(small.labels[:8]), small.flux[:8], atol=2e-3)


def test_arrays_and_a_label_of_another_name(small, tmp_path, capsys):
    path = tmp_path / "grid.npz"
    np.savez_compressed(path, **grid_files.arrays_of(small))
    out = tmp_path / "g.asdf"
    command = ["build", str(path), "--labels", "teff,logg,vmic", "--unit", "angstrom", "--medium", "vacuum"]
    command += ["--select", "vmic", "0", "0", "--select", "logg", "3", "5", "--out", str(out)]
    assert main(command) == 0
    assert load(out).label_names_ == ("teff", "logg", "vmic")
    assert "6 spectra of 300 pixels" in capsys.readouterr().out
    assert main([*command, "--select", "xi", "0", "0"]) == 2
    assert "`xi` is neither a parameter nor a label" in capsys.readouterr().err
    assert main([*command, "--select", "vmic", "low", "high"]) == 2
    assert "--select vmic low high needs a name and two numbers" in capsys.readouterr().err


def test_for_one_resolving_power_and_again_from_the_store(small, tmp_path, capsys):
    folder = grid_files.write_fits_folder(tmp_path / "spectra", small, header=grid_files.linear_axis(small))
    out, store = tmp_path / "g.asdf", tmp_path / "kept"
    command = ["build", str(folder), *KEYS, "--medium", "vacuum", "--resolving-power", "15000", "--normalised"]
    command += ["--store", str(store), "--out", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "resolving power of the generator: 15000; spectra of a higher one are refused" in said
    generator, first = load(out), out.read_bytes()
    assert generator.resolving_power == 15_000
    np.testing.assert_allclose(np.diff(np.log(generator.wavelength_)), 1 / 75_000)
    assert main(command) == 0
    assert "resumed: the spectra and " in capsys.readouterr().out
    assert out.read_bytes() == first
    assert main([*command, "--resolving-power", "14000"]) == 0
    assert "the spectra and" not in capsys.readouterr().out
    pixels = np.arange(8502.0, 8512.0, 0.3)
    table = np.column_stack([pixels, generator.observe(small.labels[:1], pixels)[0], 0.01 + 0 * pixels])
    star = tmp_path / "star.txt"
    np.savetxt(star, table)
    out.write_bytes(first)
    predict = ["predict", "--generator", str(out), "--medium", "vacuum", str(star), "--resolving-power"]
    main([*predict, "20000"])
    assert "but the generator was built for 15000" in "".join(capsys.readouterr())
    assert main([*predict, "15000"]) == 0
    assert "was built for" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (["--labels", "teff=TEFF,logg"], "mixes NAME=KEYWORD"),
        (["--labels", "teff=TEFF,teff=T"], "one twice"),
        (["--labels", "teff=TEFF,,"], "empty name"),
        (["--phoenix", "PHOENIX"], "not allowed with"),
        (["--family", "marcs"], "marcs"),
        (["--unit", "mm"], "mm"),
    ],
)
def test_wrong_arguments(extra, text, exit_code, one_error):
    assert exit_code(["build", "GRID", "--out", "g.asdf", *extra]) == 2
    assert text in one_error()


def test_normalised_and_paper_contradict(folder, tmp_path, one_error):
    assert main(["build", str(folder), "--normalised", "--paper", "--out", str(tmp_path / "g.asdf")]) == 2
    assert "--paper includes the paper's normalisation" in one_error()
