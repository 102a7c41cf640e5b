"""The observer of the tests obeys the laws of an observation; nothing of the package is needed for that."""

import numpy as np
import pytest
from mock_star import STEP, C, Star, between_nodes, observe, packaged, rotation_profile

WAVELENGTH = np.arange(8540.0, 8580.0, 0.01)
CENTER, SIGMA = 8560.0, 0.03  # angstrom
LINE = 1 - 0.5 * np.exp(-0.5 * ((WAVELENGTH - CENTER) / SIGMA) ** 2)
PIXELS = np.arange(8550.0, 8570.0, 0.05)


def moments(flux):
    """Equivalent width, center and variance of a line in pixels of 0.05 angstrom."""
    depth = 1 - flux
    width = depth.sum() * 0.05
    center = (depth * PIXELS).sum() * 0.05 / width
    return width, center, (depth * (PIXELS - center) ** 2).sum() * 0.05 / width


def test_a_line_keeps_its_area_and_moves_by_its_velocity():
    width, center, _ = moments(observe(WAVELENGTH, LINE, PIXELS, rv=30.0, vsini=12.0, resolving_power=40_000))
    # sampling by 0.02 km/s; a moving source's wavelengths stretch by 1 + rv / c
    assert width == pytest.approx(0.5 * SIGMA * np.sqrt(2 * np.pi) * (1 + 30.0 / C), rel=1e-5)
    assert (center / CENTER - 1) * C == pytest.approx(30.0, abs=0.01)


@pytest.mark.parametrize(("vsini", "power"), [(0.0, None), (0.0, 40_000), (12.0, None), (12.0, 40_000)])
def test_variances_add(vsini, power):
    *_, variance = moments(observe(WAVELENGTH, LINE, PIXELS, vsini=vsini, resolving_power=power))
    epsilon = 0.6
    # second moment of Gray's profile in units of vsini squared, and that of a pixel
    rotation = (CENTER * vsini / C) ** 2 * ((1 - epsilon) / 4 + 2 * epsilon / 15) / (1 - epsilon / 3)
    spread = 0.0 if power is None else (CENTER / power) ** 2 / (8 * np.log(2))
    # where pixels are wider than the line, sums over them are off by 0.3 %
    assert variance == pytest.approx(SIGMA**2 + rotation + spread + 0.05**2 / 12, rel=4e-3)


def test_rotation_has_no_light_beyond_vsini():
    profile = rotation_profile(10.0)
    velocity = (np.arange(len(profile)) - len(profile) // 2) * STEP
    assert profile.sum() == pytest.approx(1)
    assert not profile[np.abs(velocity) > 10.0].any()


def test_the_air_is_blurred_with_the_star_and_does_not_move_with_it():
    air = 1 - 0.8 * np.exp(-0.5 * ((WAVELENGTH - CENTER) / SIGMA) ** 2)
    got = observe(
        WAVELENGTH, np.ones_like(air), PIXELS, rv=50.0, resolving_power=40_000, transmission=(WAVELENGTH, air)
    )
    expected = observe(WAVELENGTH, air, PIXELS, resolving_power=40_000)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    # the star's line under a telluric line takes less light than both blurred by themselves would
    both = observe(WAVELENGTH, air, PIXELS, resolving_power=40_000, transmission=(WAVELENGTH, air))
    assert np.abs(both - expected**2).max() > 0.05


def test_packaged_stars_lie_between_the_nodes():
    wavelength, flux = packaged()
    assert len(flux) == 72
    assert all(len(row) == len(wavelength) for row in flux.values())
    star = Star(labels=between_nodes()[5], rv=-20.0, seed=3)
    assert [len(row) for row in star.flux] == [len(x) for x in star.wavelength] == [1488, 1240]
    assert star.truth[:3] == pytest.approx(between_nodes()[5])
    with pytest.raises(KeyError, match="those between nodes"):
        Star(labels=(5555.0, 4.4, 0.0))
