"""A folder with the files that the pages of the documentation name.

The pictures of the pages are what their code draws: `pytest tests/docs -k tutorial --basetemp=DIR` leaves them in DIR.
"""

import itertools
import shutil
import warnings
from pathlib import Path

import grid_files
import numpy as np
import pytest
from astropy.io import fits
from sklearn.utils import Bunch

from stellarhml.cli.main import main
from stellarhml.datasets import load_mini_grid, make_stellar_grid
from stellarhml.grids.blase_states import state_name, write_state_dict
from stellarhml.spectra import ObservedSpectrum

POWER, VELOCITY, C = 55_000, 25.0, 299_792.458


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, make_hpf, make_igrins):
    """Every file that a page needs, made once."""
    folder = tmp_path_factory.mktemp("prepared")
    grid = load_mini_grid()
    _write_phoenix(folder / "PHOENIX", grid.wavelength[::5], grid.labels, grid.flux[:, ::5])
    _write_star(folder / "star.ecsv", grid)
    _write_archive(folder / "emulator_states")
    _write_other_grids(folder)
    make_hpf(folder / "hpf_GJ699.fits")
    make_hpf(folder / "hpf_A0V.fits")
    make_igrins(folder)
    wavelength = 8500 + 0.05 * np.arange(200)
    rows = np.column_stack([wavelength, 1 + 0.1 * np.sin(wavelength), np.full(200, 0.01)])
    fine = np.arange(8440.0, 8710.0, 0.05)
    np.savetxt(folder / "atmosphere.txt", np.column_stack([fine, 1 - 0.3 * ((fine % 7) < 0.1)]))
    np.savetxt(folder / "star.csv", rows, delimiter=",", header="wavelength,flux,error", comments="")
    command = f"build --phoenix {folder / 'PHOENIX'} --out {folder / 'generator.asdf'}"
    assert main([*command.split(), "--jobs", "2"]) == 0
    return folder


@pytest.fixture
def real_star(workspace, shared_data):
    """The same, with S1063 as IGRINS saw it, and part of PHOENIX in H, which has the resolving power of IGRINS."""
    grid = shared_data.phoenix_hband()
    kept = (grid["labels"][:, 0] >= 4300) & (grid["labels"][:, 0] <= 5000)
    band = (grid["wavelength"] > 15530) & (grid["wavelength"] < 15850)
    _write_phoenix(workspace / "PHOENIX-H", grid["wavelength"][band], grid["labels"][kept], grid["flux"][kept][:, band])
    shutil.copyfile(shared_data.observed("igrins_S1063.npz"), workspace / "igrins_S1063.npz")


@pytest.fixture
def muler_file(workspace, shared_data):
    """The same, with a file of HPF that muler knows by its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it and its dependencies use what others deprecate
        try:
            import muler.hpf
        except ImportError as error:
            pytest.skip(f'needs muler, from pip install "stellarhml[muler]" ({error})')
        shutil.copyfile(shared_data.observed("hpf_goldilocks_A0V_HR4829.fits"), workspace / "Goldilocks_star.fits")
        yield muler.hpf


@pytest.fixture
def workspace(prepared, tmp_path, monkeypatch):
    """A copy of them, which is the working folder."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_phoenix(root, wavelength, labels, flux):
    """Write a grid in PHOENIX's layout."""
    root.mkdir()
    fits.PrimaryHDU(wavelength).writeto(root / "WAVE_PHOENIX-ACES-AGSS-COND-2011.fits")
    for (teff, logg, feh), spectrum in zip(labels, flux, strict=True):
        hdu = fits.PrimaryHDU(np.asarray(spectrum, dtype=np.float32))
        hdu.header.update(PHXTEFF=teff, PHXLOGG=logg, PHXM_H=feh, PHXALPHA=0.0)
        z = "-0.0" if feh == 0 else f"{feh:+.1f}"
        name = f"lte{teff:05.0f}-{logg:.2f}{z}.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits"
        path = Path(root, "PHOENIX-ACES-AGSS-COND-2011", f"Z{z}", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        hdu.writeto(path)


def _write_star(path, grid):
    """Write an observation of a star between the nodes: broadened, moving, with noise; in two orders."""
    flux = grid.flux_offgrid[2] / np.median(grid.flux_offgrid[2])
    sigma = np.median(grid.wavelength) / POWER / 2.3548 / 0.01  # pixels
    kernel = np.exp(-0.5 * (np.arange(-30, 31) / sigma) ** 2)
    seen = np.convolve(flux, kernel / kernel.sum(), mode="same")
    rng = np.random.default_rng(0)
    orders = []
    for pixels in (np.arange(8460.0, 8560.0, 0.05), np.arange(8575.0, 8680.0, 0.05)):
        values = np.interp(pixels, grid.wavelength * (1 + VELOCITY / C), seen)
        orders.append((pixels, values + rng.normal(scale=0.01, size=values.size), np.full(values.size, 0.01)))
    ObservedSpectrum(orders).write(path)
    np.savetxt(path.with_name("star1.txt"), np.column_stack(orders[0]))
    ObservedSpectrum(orders[1:]).write(path.with_name("star2.fits"))


def _write_other_grids(folder):
    """Write small grids of other families than PHOENIX."""
    grid = make_stellar_grid(n_teff=3, n_logg=2, n_feh=2, n_pixels=300, n_lines=8, random_state=2)
    with_vmic = Bunch(**grid | {"labels": grid.labels + [0, 0, 1.5]})
    header = grid_files.linear_axis(grid)
    grid_files.write_fits_folder(folder / "SPECTRA", with_vmic, keys=("TEFF", "LOGG", "XI"), header=header)
    grid_files.write_fits_tables(folder / "TABLES", grid)
    grid_files.write_starfish(folder / "starfish.hdf5", grid)
    cool = Bunch(**grid | {"labels": 0.4 * (grid.labels - [5000, 0, 0]) + [1500, 0, 0], "flux": 1e14 * grid.flux})
    cool.labels[:, 1:] = grid.labels[:, 1:]
    grid_files.write_sonora_bobcat(folder / "BOBCAT", cool)


def _write_archive(folder):
    """Write states as gully/blase does."""
    folder.mkdir()
    centers = 8500 + 0.05 * np.array([60, 130, 300])
    for teff, logg, feh in itertools.product((5000, 5400), (3.5, 4.5), (-0.5, 0.0)):
        state = {
            "lam_centers": centers + teff / 1e6,
            "amplitudes": np.array([-2.0, -3.0, -4.0]) + 0.3 * feh,
            "sigma_widths": np.full(3, -2.5) + 0.1 * logg,
            "gamma_widths": np.full(3, -3.0),
            "pre_line_centers": centers,
        }
        write_state_dict(folder / state_name(teff, logg, feh), state)
