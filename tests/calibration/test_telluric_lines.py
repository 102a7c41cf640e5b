"""Lines of the atmosphere from a transmission that a spectrograph has convolved."""

import numpy as np
import pytest
from mock_star import observe

from stellarhml.calibration import resolve_tellurics
from stellarhml.inference import fit_tellurics

C, POWER = 299_792.458, 50_000


@pytest.fixture(scope="module")
def water():
    """Lines of sigma 0.6 km/s, some of them saturated."""
    x = np.arange(8435.0, 8565.0, 0.003)
    rng, depth = np.random.default_rng(0), np.zeros(x.size)
    for center in np.arange(8441.0, 8560.0, 1.7) + rng.uniform(-0.4, 0.4, 70):
        depth += rng.exponential(1.5) * np.exp(-0.5 * ((x - center) / (0.6 * center / C)) ** 2)
    return x, np.exp(-depth)


def _seen(table, amount, pixels):
    flat = np.arange(8430.0, 8570.0, 0.01)
    return observe(flat, np.ones(flat.size), pixels, resolving_power=POWER, transmission=(table[0], table[1] ** amount))


def test_the_lines_scale_with_the_amount(water):
    """A template scaled after the convolution is wrong where lines saturate; its lines are not."""
    pixels = np.arange(8440.0, 8560.0, 0.06)
    template = _seen(water, 1.0, pixels)
    air = resolve_tellurics(pixels, template, resolving_power=POWER)
    assert air.species == ("air",)
    target = _seen(water, 2.5, pixels)
    inner = slice(40, -40)
    result = fit_tellurics(
        (pixels[inner], target[inner], np.full(len(pixels), 0.003)[inner]),
        air,
        resolving_power=POWER,
        fixed={"rv_air": 0},
    )
    # widths of unresolved lines, on which saturation depends, are among a few that are tried: 0.7 for 0.6 km/s
    assert result.values["a_air"] == pytest.approx(2.5, rel=0.15)
    left = target[inner] / result.orders[0].transmission - 1
    deep = result.orders[0].transmission > 0.3
    raised = template[inner] ** 2.5
    assert np.std(left[deep]) < 0.03
    assert np.std(left[deep]) < 0.3 * np.std((target[inner] / raised - 1)[deep])


def test_what_tells_no_lines(water):
    pixels = np.arange(8440.0, 8560.0, 0.06)
    with pytest.raises(ValueError, match="one value"):
        resolve_tellurics(pixels, np.ones(5), resolving_power=POWER)
    with pytest.raises(ValueError, match="No run of 64 pixels"):
        resolve_tellurics(pixels, np.zeros(len(pixels)), resolving_power=POWER)
    # bands without light are unknown
    dark = np.where((pixels > 8500) & (pixels < 8520), 0.0, _seen(water, 1.0, pixels))
    found = resolve_tellurics(pixels, dark, resolving_power=POWER)
    unknown = np.isnan(found.transmissions["air"])
    assert unknown[(found.wavelength > 8501) & (found.wavelength < 8519)].all()
    assert not unknown[found.wavelength < 8499].any()
