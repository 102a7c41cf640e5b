"""Fitted estimators that are saved."""

import itertools

import numpy as np
import pandas as pd
import pytest

from stellarhml import (
    BayesianStellarRegressor,
    LineManifoldInterpolator,
    PhoenixPreprocessor,
    SpectrumGenerator,
    VoigtLineDecomposer,
    save,
)
from stellarhml.datasets import make_stellar_grid

LABELS = pd.DataFrame([[5300.0, 3.8, -0.2], [5100.0, 3.6, -0.4], [5250.0, 4.0, -0.3]], columns=["teff", "logg", "feh"])


@pytest.fixture(scope="session")
def grid():
    return make_stellar_grid(n_lines=4, n_pixels=200, random_state=0)


@pytest.fixture(scope="session")
def plain(grid):
    return SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)


@pytest.fixture(scope="session")
def normalising(grid):
    """With a preprocessor, and the names of the labels' columns."""
    steps = {
        "preprocessor": PhoenixPreprocessor(peak_distance=20, degree=2, window=(8500.5, 8509.5)),
        "decomposer": VoigtLineDecomposer(n_rounds=0, sparse_output=False),
    }
    labels = pd.DataFrame(grid.labels, columns=LABELS.columns)
    generator = SpectrumGenerator(wavelength=list(grid.wavelength), **steps)
    return generator.fit(labels, 3e14 * grid.flux)


@pytest.fixture(scope="session")
def scattered(grid):
    rows = np.random.default_rng(0).permutation(len(grid.labels))[:20]
    labels = grid.labels + np.random.default_rng(1).uniform(0, [10, 0.02, 0.02], size=grid.labels.shape)
    generator = SpectrumGenerator(
        wavelength=grid.wavelength,
        decomposer=VoigtLineDecomposer(n_rounds=0),
        interpolator=LineManifoldInterpolator(method="scattered", extrapolate="nearest"),
    )
    return generator.fit(labels[rows], grid.flux[rows])


@pytest.fixture(scope="session")
def holed(grid):
    """A grid with a missing node, whose place others take."""
    keep = ~(grid.labels == [5250.0, 4.0, -0.5]).all(axis=1)
    decomposer = VoigtLineDecomposer(n_rounds=0, profile="pseudo-voigt")
    generator = SpectrumGenerator(wavelength=grid.wavelength, residual_rank=None, decomposer=decomposer)
    return generator.fit(grid.labels[keep], grid.flux[keep])


@pytest.fixture(scope="session")
def archived(tmp_path_factory):
    """From an archive of blase."""
    from stellarhml.io.blase import state_name, write_state_dict

    folder, wavelength = tmp_path_factory.mktemp("blase"), 8500 + 0.05 * np.arange(400)
    pixels = np.array([60, 130, 300])
    for teff, logg, feh in itertools.product((5000, 5400), (3.5, 4.5), (-0.5, 0.0)):
        state = {
            "lam_centers": wavelength[pixels] + teff / 1e6,
            "amplitudes": np.array([-2.0, -3.0, -4.0]) + 0.3 * feh,
            "sigma_widths": np.full(3, -2.5) + 0.1 * logg,
            "gamma_widths": np.full(3, -3.0),
            "pre_line_centers": wavelength[pixels],
        }
        write_state_dict(folder / state_name(teff, logg, feh), state)
    return SpectrumGenerator.from_blase_archive(folder, wavelength=wavelength)


@pytest.fixture(scope="session")
def regressor(plain):
    return BayesianStellarRegressor.from_generator(plain, random_state=0)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A file of few arrays, one large enough to be mapped, and its bytes."""
    theta = np.random.default_rng(0).normal(size=(4, 150))
    labels = np.array([[5000.0, 4.0], [5000.0, 5.0], [6000.0, 4.0], [6000.0, 5.0]])
    path = save(LineManifoldInterpolator().fit(labels, theta), tmp_path_factory.mktemp("small") / "small.shml")
    return path, path.read_bytes()


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
