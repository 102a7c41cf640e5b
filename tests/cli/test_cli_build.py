"""`stellarhml build` on grids that lack something."""

import shutil

import numpy as np
import pytest
from astropy.io import fits

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
