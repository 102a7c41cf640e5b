"""Fitted estimators that are saved."""

import itertools
import sys
from pathlib import Path

import asdf
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
from stellarhml.storage.asdf_extension import get_extensions, get_resource_mappings

sys.path.insert(0, str(Path(__file__).parent))  # for the module `attacks`

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
    from stellarhml.grids.blase_states import state_name, write_state_dict

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


@pytest.fixture
def with_extension():
    """The asdf library with our tags and schemas, against which it checks what it reads."""
    with asdf.config_context() as config:
        config.validate_on_read = True
        for extension in get_extensions():
            config.add_extension(extension)
        for mapping in get_resource_mappings():
            config.add_resource_mapping(mapping)
        yield


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A file of few arrays, one large enough to be mapped, and its bytes."""
    theta = np.random.default_rng(0).normal(size=(4, 150))
    labels = np.array([[5000.0, 4.0], [5000.0, 5.0], [6000.0, 4.0], [6000.0, 5.0]])
    path = save(LineManifoldInterpolator().fit(labels, theta), tmp_path_factory.mktemp("small") / "small.asdf")
    return path, path.read_bytes()
