"""Fixtures for all tests."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _no_figure_stays_open():
    """Close what pyplot keeps: matplotlib warns at the 21st figure, which fails whichever test makes that one."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(scope="session")
def shared_data():
    """The module ../shared/tools/shared_data.py, which reads the project's test data."""
    path = Path(__file__).resolve().parents[2] / "shared" / "tools" / "shared_data.py"
    if not path.is_file():
        pytest.skip(f"needs the shared test data, and {path} is not there")
    spec = importlib.util.spec_from_file_location("shared_data", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def phoenix_folder(tmp_path):
    """A folder in PHOENIX's layout: Teff 5000, 5100, 5200 x log g 4, 4.5 x [Fe/H] -0.5, 0, and 80 pixels from 8030 A.

    The flux of a node is teff + 10 logg + feh + pixel / 1000, so that every value says where it belongs. The names are
    spelt out here, not taken from the package.
    """
    from itertools import product

    from astropy.io import fits

    root = tmp_path / "phoenix"
    root.mkdir()
    wave = fits.PrimaryHDU(8030.0 + 0.5 * np.arange(80))
    wave.header["UNIT"] = "Angstrom"
    wave.writeto(root / "WAVE_PHOENIX-ACES-AGSS-COND-2011.fits")
    for teff, logg, feh in product((5000, 5100, 5200), (4.0, 4.5), (-0.5, 0.0)):
        hdu = fits.PrimaryHDU((teff + 10 * logg + feh + np.arange(80) / 1000).astype(np.float32))
        hdu.header.update(PHXTEFF=float(teff), PHXLOGG=logg, PHXM_H=feh, PHXALPHA=0.0)
        abundances = fits.ImageHDU(np.zeros(10, dtype=np.float32))
        z = "-0.5" if feh else "-0.0"
        path = (
            root / f"PHOENIX-ACES-AGSS-COND-2011/Z{z}/lte0{teff}-{logg:.2f}{z}.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        fits.HDUList([hdu, abundances]).writeto(path)
    return root


@pytest.fixture(scope="session")
def make_hpf():
    """Write a file as HPF's pipelines do, of 28 orders with 60 pixels, changed as asked."""
    from astropy.io import fits

    def write(path, *, kind="Variance", change=None, drop=(), n_orders=28):
        order, pixel = np.mgrid[:n_orders, :60]
        images = {}
        for fibre, level, shift in (("Sci", 100.0, 0.0), ("Sky", 4.0, 0.01), ("Cal", 1.0, 0.0)):
            images[f"{fibre} Flux"] = np.full(order.shape, level, dtype=np.float32)
            images[f"{fibre} {kind}"] = np.full(order.shape, level / 4 if kind == "Variance" else level**0.5 / 2)
            images[f"{fibre} Wavl"] = 8079.0 + 168 * order + 0.06 * pixel + shift
        if change:
            change(images)
        header = fits.Header({"OBJECT": "star", "DATE-OBS": "2026-01-02T03:04:05", "INSTRUME": "HPF"})
        hdus = [fits.ImageHDU(image, name=name) for name, image in images.items() if name not in drop]
        for hdu in hdus:  # as the pipelines do, not in upper case
            hdu.header["EXTNAME"] = next(name for name in images if name.upper() == hdu.header["EXTNAME"].upper())
        fits.HDUList([fits.PrimaryHDU(header=header), *hdus]).writeto(path, overwrite=True)
        return path

    return write


@pytest.fixture(scope="session")
def make_igrins():
    """Write a spec_a0v file as IGRINS' pipeline does, of 3 orders with 60 pixels, and files of errors beside it."""
    from astropy.io import fits

    def write(folder, *, beside=("variance",), variance_inside=False, change=None, drop=()):
        order, pixel = np.mgrid[:3, :60]
        wave = 1.80 - 0.02 * order + 1e-5 * pixel
        target = np.full(order.shape, 400.0) + pixel
        images = {
            "SPEC_DIVIDE_A0V": 0.5 * target,
            "WAVELENGTH": wave,
            "TGT_SPEC": target,
            "A0V_SPEC": np.full(order.shape, 2.0),
        }
        if variance_inside:
            images["SPEC_DIVIDE_A0V_VARIANCE"] = np.full(order.shape, 9.0)
        variance = np.full(order.shape, 16.0)
        pixels_in_element = wave / 40000 / 1e-5
        errors = {"variance": variance, "sn": target / np.sqrt(variance) * np.sqrt(pixels_in_element)}
        if change:
            change(images, errors)
        hdus = [fits.ImageHDU(image, name=name) for name, image in images.items() if name not in drop]
        header = fits.Header({"OBJECT": "star", "INSTRUME": "IGRINS"})
        path = folder / "SDCH_20260102_0003.spec_a0v.fits"
        fits.HDUList([fits.PrimaryHDU(header=header), *hdus]).writeto(path, overwrite=True)
        for kind in beside:
            fits.PrimaryHDU(errors[kind]).writeto(folder / f"SDCH_20260102_0003.{kind}.fits", overwrite=True)
        return path

    return write


@pytest.fixture(scope="session")
def grid():
    from stellarhml.datasets import make_stellar_grid

    return make_stellar_grid(random_state=0)


@pytest.fixture(scope="session")
def generator(grid):
    """A generator of it: factors and residuals, as the defaults choose them."""
    from stellarhml import SpectrumGenerator

    return SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)


@pytest.fixture(scope="session")
def lines_alone(grid):
    """All lines, nothing else."""
    from stellarhml import SpectrumGenerator

    model = SpectrumGenerator(wavelength=grid.wavelength, n_factors=None, residual_rank=None)
    return model.fit(grid.labels, grid.flux)


@pytest.fixture(scope="session")
def whole_windows(grid):
    """Lines on all pixels, so that no window moves with the labels."""
    from stellarhml import SpectrumGenerator, VoigtLineDecomposer

    decomposer = VoigtLineDecomposer(n_rounds=0, subsample=6, wing_cut=400)
    return SpectrumGenerator(wavelength=grid.wavelength, decomposer=decomposer).fit(grid.labels, grid.flux)


@pytest.fixture(scope="session")
def mini_generator():
    """All nodes and every third pixel of the packaged grid, 8450 to 8700 angstrom."""
    from stellarhml import PhoenixPreprocessor, SpectrumGenerator
    from stellarhml.datasets import load_mini_grid

    grid = load_mini_grid()
    scale = PhoenixPreprocessor(degree=2, peak_distance=1667)
    generator = SpectrumGenerator(wavelength=grid.wavelength[::3], preprocessor=scale)
    return generator.fit(grid.labels, grid.flux[:, ::3])


@pytest.fixture(scope="session")
def regressor(mini_generator):
    """A regressor on the packaged grid."""
    from stellarhml import BayesianStellarRegressor

    return BayesianStellarRegressor.from_generator(mini_generator)
