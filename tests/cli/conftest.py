"""What the tests of the command line share: a small grid in PHOENIX's layout, its generator, a star, and messages."""

import numpy as np
import pytest
from astropy.io import fits

from stellarhml import load, save
from stellarhml.cli.main import main
from stellarhml.datasets import make_stellar_grid


@pytest.fixture(scope="module")
def grid():
    """27 nodes, 300 pixels, 12 lines."""
    return make_stellar_grid(n_teff=3, n_logg=3, n_feh=3, n_pixels=300, n_lines=12, random_state=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, grid):
    """The grid in PHOENIX's layout, on fluxes of an arbitrary unit."""
    root = tmp_path_factory.mktemp("phoenix")
    fits.PrimaryHDU(grid.wavelength).writeto(root / "WAVE_PHOENIX-ACES-AGSS-COND-2011.fits")
    for (teff, logg, feh), flux in zip(grid.labels, grid.flux, strict=True):
        hdu = fits.PrimaryHDU((1e14 * flux).astype(np.float32))
        hdu.header.update(PHXTEFF=teff, PHXLOGG=logg, PHXM_H=feh, PHXALPHA=0.0)
        z = "-0.0" if feh == 0 else f"{feh:+.1f}"
        name = f"lte{teff:05.0f}-{logg:.2f}{z}.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits"
        path = root / "PHOENIX-ACES-AGSS-COND-2011" / f"Z{z}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        hdu.writeto(path)
    return root


@pytest.fixture(scope="module")
def generator_file(tmp_path_factory, folder):
    """A generator that `build` wrote, without code."""
    path = tmp_path_factory.mktemp("generator") / "generator.asdf"
    assert main(["build", "--phoenix", str(folder), "--out", str(path), "--wavelength", "8500", "8520"]) == 0
    return path


@pytest.fixture(scope="module")
def pickle_file(tmp_path_factory, generator_file):
    """The same generator as a pickle."""
    return save(load(generator_file), tmp_path_factory.mktemp("pickle") / "generator.joblib")


@pytest.fixture(scope="module")
def star(grid):
    """Wavelength, flux, error and labels of the node in the middle of the grid; its continuum has a slope."""
    row = np.flatnonzero((grid.labels == [5250.0, 4.0, 0.0]).all(axis=1))[0]
    slope = 3e-5 * (1 + 0.01 * (grid.wavelength - grid.wavelength[0]))
    noise = np.random.default_rng(0).normal(scale=0.005, size=grid.wavelength.size)
    return grid.wavelength, slope * (grid.flux[row] + noise), 0.005 * slope, grid.labels[row]


@pytest.fixture
def write_star():
    """Write a table of wavelength, flux and, if given, error."""

    def write(path, *columns):
        np.savetxt(path, np.stack(columns, axis=1), fmt="%.12e")
        return str(path)

    return write


@pytest.fixture
def exit_code():
    """Run a command that leaves by SystemExit, and give its code."""

    def run(arguments):
        with pytest.raises(SystemExit) as raised:
            main(arguments)
        return raised.value.code

    return run


@pytest.fixture
def one_error(capsys):
    """Give the one line on standard error; nothing may be on standard output."""

    def read():
        captured = capsys.readouterr()
        lines = captured.err.strip().splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("stellarhml: error: ")
        assert captured.out == ""
        return lines[0]

    return read
