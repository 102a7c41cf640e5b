"""Lines of hydrogen in the catalogue."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from stellarhml import VoigtLineDecomposer
from stellarhml.kernels.rendering import render_lines
from stellarhml.lines.decomposition import NOISE, WIDE_NOISE
from stellarhml.lines.hydrogen import hydrogen_lines

WAVELENGTH = np.arange(8575.0, 8625.0, 0.05)
P14 = 8600.75  # angstrom, vacuum (NIST)


def test_wavelengths_are_those_of_laboratory():
    """Vacuum wavelengths of Paschen 12, 14 and beta, H alpha and Brackett gamma (NIST), to the fine structure."""
    for wanted in (8752.88, P14, 12821.58, 6564.61, 21661.2):
        found = hydrogen_lines(wanted - 5, wanted + 5)
        assert len(found) == 1
        assert abs(found[0] - wanted) < 0.15
    assert len(hydrogen_lines(8440.5, 8860)) == 6
    assert len(hydrogen_lines(6000, 6320)) == 0


@pytest.fixture(scope="module")
def hot():
    """Spectra of narrow lines that fade, and of a hydrogen line that grows, with the temperature."""
    rng = np.random.default_rng(0)
    centers, tau = np.sort(rng.uniform(8576, 8624, 30)), rng.uniform(-2, 0.5, 30)
    x = (WAVELENGTH - P14) / 4.0
    stark = 1 / (1 + np.abs(x) ** 2.5)  # no product of lines is exactly so
    teff = np.linspace(4000, 11000, 36)
    flux = []
    for t in (teff - 7500) / 3500:
        lines = np.column_stack([centers, tau - 2.5 * t, np.full(30, -2.6), np.full(30, -2.0)])
        lines = np.column_stack([lines, np.full(30, 0.6), np.full(30, -3.0)])
        v = np.exp(2.5 * t - 1.5) * stark
        flux.append(render_lines(WAVELENGTH, lines, profile="minnaert", wing_cut=None) * (1 - 0.6 * v / (1 + v)))
    return SimpleNamespace(teff=teff[:, None], flux=np.array(flux), centers=centers)


def test_hydrogen_is_one_wide_line(hot):
    decomposer = VoigtLineDecomposer(wavelength=WAVELENGTH).fit(hot.flux, hot.teff)
    settings = decomposer._fit_settings(learnt=True)
    wide, at = settings.wide_lines, decomposer.line_catalog_
    line = np.flatnonzero(wide & (np.abs(at - P14) < 0.3))
    assert len(line) == 1
    # others stand for the hydrogen beyond the ends, if they are needed
    assert set(np.flatnonzero(wide & (np.abs(at - P14) >= 0.3))) <= {0, len(at) - 1}
    assert settings.fit_noise == WIDE_NOISE
    result = decomposer.decompose(hot.flux)
    assert result.rms[-1] < 0.004  # the wings are no Lorentzian
    theta = decomposer.transform(hot.flux).toarray().reshape(len(hot.flux), -1, 6)
    # of the hottest spectrum, hydrogen has the wings, and the other lines have faded
    assert np.exp(theta[-1, line, 2:4].max()) > 3.0
    alone = render_lines(WAVELENGTH, theta[-1, line], profile="minnaert", wing_cut=None)
    wing = gaussian_filter1d(hot.flux[-1], 20)
    assert np.abs(alone - wing).max() < 0.03  # what is left of the others, smoothed, is 0.01
    assert 1 - wing.min() > 0.3


def test_nothing_changes_without_wide_minima(hot):
    """Narrow lines at the wavelength of hydrogen are no hydrogen, nor is anything in pixels without wavelengths."""
    cool = hot.flux[:12] * (1 - 0.5 * np.exp(-0.5 * ((WAVELENGTH - P14) / 0.1) ** 2))
    decomposer = VoigtLineDecomposer(wavelength=WAVELENGTH, n_rounds=0).fit(cool, hot.teff[:12])
    assert not decomposer._fit_settings(learnt=True).wide_lines.any()
    assert decomposer._fit_settings(learnt=True).fit_noise == NOISE
    pixels = VoigtLineDecomposer(n_rounds=0).fit(hot.flux, hot.teff)
    assert not pixels._fit_settings(learnt=True).wide_lines.any()


def test_a_line_beyond_the_end_has_its_wing(hot):
    """Paschen 15 is outside of the spectra, which are deeper at their blue end."""
    wing = 1 - 0.5 * np.exp((hot.teff - 11000) / 1500) / (1 + ((WAVELENGTH - 8547.7) / 20) ** 2)
    decomposer = VoigtLineDecomposer(wavelength=WAVELENGTH).fit(hot.flux * wing, hot.teff)
    assert decomposer._fit_settings(learnt=True).wide_lines[0]
    assert decomposer.line_pixels[0] == 0
    theta = decomposer.transform(hot.flux[-1:] * wing[-1]).toarray().reshape(-1, 6)
    alone = render_lines(WAVELENGTH, theta[:1], profile="minnaert", wing_cut=None)
    assert np.abs(alone - wing[-1])[:60].max() < 0.03
