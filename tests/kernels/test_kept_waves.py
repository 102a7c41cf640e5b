"""Spectra from kept Fourier transforms against the whole calculation, and weights of cells against polynomials."""

import numpy as np
import pytest

from stellarhml.kernels.fourier_broadening import observe_rows
from stellarhml.kernels.kept_waves import hermite_weights, keep_waves, observe_waves

SPEED = 299_792.458
SIGMA, OWN = 12 / SPEED, 3 / SPEED


@pytest.fixture(scope="module")
def star():
    wavelength = 8500 * np.exp(0.35 / SPEED * np.arange(12_001))
    rng = np.random.default_rng(0)
    rows = np.ones((2, len(wavelength)))
    for center, width in zip(rng.uniform(8505, 8615, 80), rng.uniform(0.1, 0.3, 80), strict=True):
        rows[0] *= 1 - rng.uniform(0.1, 0.8) * np.exp(-0.5 * ((wavelength - center) / width) ** 2)
    rows[1] = np.gradient(rows[0])
    return wavelength, rows


def _observed(star, edges, *, vsini, shift=0.0, sigma=SIGMA):
    wavelength, rows = star
    points, waves = keep_waves(
        wavelength, rows, wavelength[[0, -1]], sigma=sigma, own_sigma=OWN, pixel=np.median(np.diff(np.log(edges)))
    )
    at = np.log((edges[1:] + edges[:-1]) / 2) - shift
    assert waves.shape == (2, len(points.k))
    return observe_waves(points, waves, at, vsini=vsini, limb_darkening=0.6, derivatives=True)


@pytest.mark.parametrize("vsini", [1.0, 40.0])
def test_equal_the_whole_calculation(star, vsini):
    edges = np.linspace(8520, 8600, 401)
    found = _observed(star, edges, vsini=vsini / SPEED)
    options = {"vsini": vsini / SPEED, "sigma": SIGMA, "limb_darkening": 0.6, "derivatives": True}
    expected = observe_rows(*star, edges, **options)
    expected[4] /= -2 * SIGMA**2  # by the variance, not by ln of the resolving power
    apart = np.abs(found - expected).max(axis=1) / np.abs(expected).max(axis=1)
    assert apart[0] < 3e-5
    assert (apart < 1e-3).all()


def test_derivatives_are_those_of_the_flux(star):
    edges, v, step = np.linspace(8520, 8600, 301), 30 / SPEED, 0.1 / SPEED
    _, _, by_shift, by_vsini, by_variance = _observed(star, edges, vsini=v)
    flux = {(a, b): _observed(star, edges, vsini=v + a, shift=b)[0] for a in (-step, 0, step) for b in (-step, 0, step)}
    assert by_shift == pytest.approx((flux[0, step] - flux[0, -step]) / (2 * step), abs=2e-3 * np.abs(by_shift).max())
    assert by_vsini == pytest.approx((flux[step, 0] - flux[-step, 0]) / (2 * step), abs=2e-3 * np.abs(by_vsini).max())
    wide, narrow = (_observed(star, edges, vsini=v, sigma=np.sqrt(SIGMA**2 + x))[0] for x in (1e-11, -1e-11))
    assert by_variance == pytest.approx((wide - narrow) / 2e-11, abs=5e-3 * np.abs(by_variance).max())


def test_weights_are_exact_for_cubics_along_each_label():
    low, length = np.array([5000.0, 4.0, -0.5]), np.array([100.0, 0.5, 0.25])

    def value(x):
        a, b, c = (x - low) / length
        return 1 + a**3 - 2 * a * b + b**3 * c + a * b * c - c**2 * a

    def slopes(x):
        a, b, c = (x - low) / length
        return (
            np.array([3 * a**2 - 2 * b + b * c - c**2, -2 * a + 3 * b**2 * c + a * c, b**3 + a * b - 2 * c * a])
            / length
        )

    for position in ([0.3, 0.8, 0.1], [0.0, 1.0, 0.5]):
        weights = np.empty((8, 4, 4))
        hermite_weights(np.array(position), length, weights)
        total = np.zeros(4)
        for corner in range(8):
            x = low + length * [corner >> a & 1 for a in range(3)]
            total += weights[corner] @ np.concatenate([[value(x)], slopes(x)])
        x = low + length * position
        assert total == pytest.approx(np.concatenate([[value(x)], slopes(x)]), rel=1e-12, abs=1e-12)


def test_a_label_with_one_value_has_no_weight_at_its_other_end():
    weights = np.empty((4, 3, 3))
    hermite_weights(np.array([0.4, 0.0]), np.array([2.0, 0.0]), weights)
    assert not weights[2:].any()
    assert not weights[:, 2].any()
    assert not weights[:, :, 2].any()
    assert weights[:2, 0, 0].sum() == pytest.approx(1)
