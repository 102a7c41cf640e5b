"""A stage as a newcomer would write it: the one of the page on the architecture, fitted to stars of other code."""

import re
from pathlib import Path

import numpy as np
import pytest
from mock_star import Star, between_nodes

from stellarhml.datasets import load_mini_grid

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
TRUE = 0.3


@pytest.fixture(scope="module")
def veiling():
    """The class of the page, and how many lines it takes."""
    text = PAGE.read_text()
    block = next(part for part in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "class Veiling" in part)
    names = {}
    exec(block, names)
    return names["Veiling"], len(block.splitlines())


def veiled_star(regressor, seed):
    """A packaged star between nodes, in units of the continuum that the grid was normalised by, and veiled by TRUE."""
    grid = load_mini_grid()
    flux = regressor.generator_.normalise(grid.flux_offgrid[:, ::3])[seed]
    star = Star(labels=between_nodes()[seed], seed=seed, snr=200.0, model=(grid.wavelength[::3], flux))
    for k, flux in enumerate(star.flux):
        t = np.linspace(-1, 1, len(flux))
        level = (300 + 100 * k) * (1 - 0.3 * t**2 + 0.05 * t)
        # the noise of the star, diluted with it, is made up for by more noise
        rng = np.random.default_rng(100 + seed)
        noise = rng.normal(size=len(flux)) * star.error[k] * np.sqrt(1 - 1 / (1 + TRUE) ** 2)
        star.flux[k] = (flux + TRUE * level) / (1 + TRUE) + noise
    return star


def test_it_takes_few_lines(veiling):
    assert veiling[1] <= 40


@pytest.mark.slow
def test_a_veiled_star_is_found_back_with_its_error(veiling, regressor):
    results = [
        regressor.infer(
            veiled_star(regressor, seed).spectrum, resolving_power=40_000, stages=[veiling[0]()], fixed={"logg": known}
        )
        for seed, known in zip(range(6), between_nodes()[:, 1], strict=True)
    ]
    off = np.array([(result.values["veiling"] - TRUE) / result.errors["veiling"] for result in results])
    # six stars: none beyond three standard deviations, and a scatter that six draws of a unit normal have in 99 of 100
    assert np.abs(off).max() < 3.5
    assert 0.3 < np.sqrt(np.mean(off**2)) < 1.8
    for result in results:
        assert 0 < result.errors["veiling"] < 0.1
        assert result.names[-1] == "veiling"
        assert {"veiling", "veiling_std"} <= set(result.to_row())


@pytest.mark.slow
def test_it_may_be_fixed_and_bounded_like_any_parameter(veiling, regressor):
    star = veiled_star(regressor, 0)
    fixed = {"logg": star.labels[1], "veiling": TRUE}
    known = regressor.infer(star.spectrum, resolving_power=40_000, stages=[veiling[0]()], fixed=fixed)
    assert known.errors["veiling"] == 0
    assert abs(known.values["feh"] - star.labels[2]) < 4 * known.errors["feh"]
    blind = regressor.infer(star.spectrum, resolving_power=40_000, fixed={"logg": star.labels[1]})
    assert blind.values["feh"] < known.values["feh"] - 5 * known.errors["feh"]
    with pytest.raises(ValueError, match="`fixed` sets 'veiling' to 7"):
        regressor.infer(star.spectrum, resolving_power=40_000, stages=[veiling[0]()], fixed={"veiling": 7.0})
