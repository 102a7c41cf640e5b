"""A small generator, and stars whose lines differ from its own by known amounts."""

import numpy as np
import pytest

from stellarhml import SpectrumGenerator, VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid
from stellarhml.synthesis.shifted_lines import shift_lines

LABELS = np.array([[5300, 4.0, -0.2], [5150, 4.3, -0.1], [5600, 3.8, -0.3], [5450, 4.2, -0.4]])
POWER = 50_000


@pytest.fixture(scope="package")
def generator():
    """24 lines, one for each line of the grid's spectra."""
    grid = make_stellar_grid(n_pixels=1000, n_lines=24, random_state=1)
    decomposer = VoigtLineDecomposer(n_rounds=0)
    return SpectrumGenerator(wavelength=grid.wavelength, decomposer=decomposer).fit(grid.labels, grid.flux)


@pytest.fixture(scope="package")
def truth(generator):
    """Shifts of the lines by kind: faults of strengths have tails."""
    rng, n = np.random.default_rng(0), len(generator.decomposer_.line_catalog_)
    strength = 0.2 * rng.standard_t(4, size=n)
    return {"strength": strength, "velocity": 0.15 * rng.normal(size=n), "width": 0.03 * rng.normal(size=n)}


@pytest.fixture(scope="package")
def observe(generator):
    """Make (wavelength, flux, error) of a star with shifted lines, from R 50,000 and S/N 200."""

    def make(shifts, labels, seed, *, part=slice(60, -60), snr=200, nature=generator):
        rng, pixels = np.random.default_rng(seed), generator.wavelength_[part]
        velocities = {"rv": rng.uniform(-30, 30), "vsini": rng.uniform(2, 6)}
        star = shift_lines(nature, shifts)
        flux = star.observe(np.reshape(labels, (1, -1)), pixels, resolving_power=POWER, **velocities)[0]
        return pixels, flux + rng.normal(size=len(pixels)) / snr, np.full(len(pixels), 1 / snr)

    return make


@pytest.fixture(scope="package")
def stars(observe, truth):
    return [observe(truth, labels, seed) for seed, labels in enumerate(LABELS)]
