"""backend="blase": the right package is asked for, and used as its own code is."""

import sys
import textwrap

import numpy as np
import pytest

from stellarhml import VoigtLineDecomposer
from stellarhml.datasets import make_stellar_grid
from stellarhml.exceptions import BlaseNotInstalledError

# A stand-in with the interface of gully/blase's emulator: constructor, lam_centers, optimize, state_dict.
STAND_IN = """
import numpy as np
import torch
from scipy.signal import find_peaks

class SparseLinearEmulator:
    calls = []

    def __init__(self, wl_native, flux_native=None, prominence=None, device=None, wing_cut_pixels=None):
        self.calls.append((prominence, device, wing_cut_pixels))
        peaks = find_peaks(-flux_native, distance=4, prominence=prominence)[0]
        self.lam_centers = torch.tensor(wl_native[peaks])
        self.amplitudes = torch.full((len(peaks),), -3.0, dtype=torch.float64)

    def optimize(self, epochs=100, LR=0.01):
        self.calls.append((epochs, LR))
        self.lam_centers = self.lam_centers + 0.001
        self.amplitudes = self.amplitudes - 0.5

    def state_dict(self):
        width = torch.full_like(self.amplitudes, -2.0)
        return dict(lam_centers=self.lam_centers, amplitudes=self.amplitudes, sigma_widths=width, gamma_widths=width)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Put a package named blase, with given modules, on the path."""

    def install(**modules):
        folder = tmp_path / "blase"
        folder.mkdir()
        (folder / "__init__.py").touch()
        for name, code in modules.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(code))
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    for name in [name for name in sys.modules if name.split(".")[0] == "blase"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def grid():
    return make_stellar_grid(random_state=0)


def _decomposer(grid, **parameters):
    return VoigtLineDecomposer(
        wavelength=grid.wavelength, backend="blase", profile="blase", solver="adam", match_tolerance=0, **parameters
    )


def test_the_blazar_tool_is_refused(package, grid):
    package(blazar_sed="")
    with pytest.raises(BlaseNotInstalledError, match="not gully/blase but most likely the unrelated tool for blazars"):
        _decomposer(grid).fit(grid.flux)


def test_a_missing_package_is_named(grid):
    with pytest.raises(BlaseNotInstalledError, match="No package `blase` is installed"):
        _decomposer(grid).fit(grid.flux)


def test_other_profiles_are_refused(package, grid):
    package(emulator=STAND_IN)
    with pytest.raises(ValueError, match="profile='blase' by solver='adam' only"):
        _decomposer(grid).set_params(profile="minnaert").fit(grid.flux)


def test_the_emulator_is_used_with_our_parameters(package, grid):
    package(emulator=STAND_IN)
    decomposer = _decomposer(grid, max_iter=7, learning_rate=0.02, prominence=0.01, wing_cut=100)
    theta = decomposer.fit_transform(grid.flux[:2])
    from blase.emulator import SparseLinearEmulator

    assert SparseLinearEmulator.calls[:2] == [(0.01, "cpu", 100), (7, 0.02)]
    centers = theta[0].toarray().reshape(-1, 4)
    found = centers[centers[:, 0] > 0]
    assert len(found)
    np.testing.assert_allclose(found[:, 1:], [[-3.5, -2.0, -2.0]] * len(found))
    # the stand-in moves each center by 0.001 angstrom from the pixel that names the line
    named = decomposer.line_catalog_[centers[:, 0] > 0]
    np.testing.assert_allclose(found[:, 0], named + 0.001, rtol=1e-12)
