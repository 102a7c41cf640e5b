"""Jumps of a grid are found, and nothing else is taken for one."""

import itertools

import numpy as np
import pytest

from stellarhml.manifold.breaks import find_breaks

NAMES = ("teff", "logg")
EVEN = np.arange(3000.0, 5400.0, 200)
UNEVEN = np.concatenate([np.arange(3000.0, 4200.0, 100), np.arange(4200.0, 6200.0, 200)])


def make(axis, seed=0, noise=1e-4):
    """Spectra that change smoothly with Teff and log g, and a little from node to node."""
    rng = np.random.default_rng(seed)
    labels = np.array(list(itertools.product(axis, [3.0, 3.5, 4.0])))
    x, y = (labels[:, 0] - 4000) / 2000, labels[:, 1] - 3.5
    shapes = rng.normal(size=(4, 300)) * 0.05
    flux = (
        np.outer(np.sin(2 * x), shapes[0])
        + np.outer(x**2, shapes[1])
        + np.outer(y, shapes[2])
        + np.outer(x * y, shapes[3])
    )
    return labels, 1 + flux + noise * rng.normal(size=flux.shape), rng


@pytest.mark.parametrize("axis", [EVEN, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("cell", [2, 4, -4])
def test_a_jump_is_found(axis, cell):
    labels, flux, rng = make(axis)
    i = np.arange(len(axis))[cell]
    flux[labels[:, 0] > axis[i]] += 0.01 * rng.normal(size=300)
    assert find_breaks(labels, flux, NAMES) == {"teff": [(axis[i] + axis[i + 1]) / 2]}


@pytest.mark.parametrize("axis", [EVEN, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("noise", [0.0, 1e-4, 1e-2])
def test_what_is_smooth_or_noisy_throughout_has_none(axis, noise):
    assert find_breaks(*make(axis, noise=noise)[:2], NAMES) == {}


def test_one_odd_node_is_no_jump():
    labels, flux, rng = make(EVEN)
    flux[labels[:, 0] == 4000] += 0.01 * rng.normal(size=300)
    assert find_breaks(labels, flux, NAMES) == {}


def test_few_values_and_holes_have_none_and_whole_lines_suffice():
    labels, flux, rng = make(EVEN)
    flux[labels[:, 0] > 4000] += 0.01 * rng.normal(size=300)
    few = labels[:, 0] < 4400
    assert find_breaks(labels[few], flux[few], NAMES) == {}
    holed = ~((labels[:, 0] == 3600) & (labels[:, 1] < 4))
    assert find_breaks(labels[holed], flux[holed], NAMES) == {"teff": [4100.0]}
    assert find_breaks(labels[labels[:, 0] != 3600], flux[labels[:, 0] != 3600], NAMES) == {"teff": [4100.0]}
    # every line of nodes lacks another one
    lacking = np.isin(labels @ [1, 1e4], np.array([[3200, 3.0], [3600, 3.5], [4800, 4.0]]) @ [1, 1e4])
    assert lacking.sum() == 3
    assert find_breaks(labels[~lacking], flux[~lacking], NAMES) == {}
