"""From labels to the pixels of a spectrograph."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import make_interp_spline

from stellarhml import SpectrumGenerator
from stellarhml.exceptions import LabelsOutsideGridError, WavelengthCoverageError
from stellarhml.forward.observation import Observation, observe
from stellarhml.kernels.fourier_broadening import observe_rows
from stellarhml.physics.broadening import line_spread_sigma, observe_quadrature
from stellarhml.physics.wavelength import SPEED_OF_LIGHT

STAR = np.array([5320.0, 4.1, -0.2])


@pytest.fixture(scope="module")
def arms(grid):
    """Two arms that overlap, one of them with a table of resolving powers."""
    low, high = grid.wavelength[[0, -1]]
    span = high - low
    first = np.linspace(low + 0.1 * span, low + 0.6 * span, 60)
    second = np.linspace(low + 0.5 * span, low + 0.9 * span, 41)
    return Observation([first, second], resolving_power=[20000.0, np.linspace(15000, 16000, 41)])


def test_equals_quadrature_of_the_generated_spectrum(generator, arms):
    flux = generator.predict(STAR[None])[0]
    curve = make_interp_spline(generator.wavelength_, flux, k=7)
    got = observe(generator, STAR, arms, rv=15.0, vsini=12.0)
    expected = observe_quadrature(
        lambda x: curve(np.exp(x)),
        arms.orders[0].edges,
        ratio=1 + 15.0 / SPEED_OF_LIGHT,
        step=6 / SPEED_OF_LIGHT,
        vsini_c=12.0 / SPEED_OF_LIGHT,
        limb_darkening=0.6,
        sigma=line_spread_sigma(20000.0),
    )
    # pixels of 1.8 km/s leave open what is between them: a spline and polynomials differ by this
    np.testing.assert_allclose(got[0], expected, rtol=0, atol=1e-4)


def test_long_orders_are_observed_in_parts(generator, arms, monkeypatch):
    star = {"rv": 15.0, "vsini": 12.0, "derivatives": True}
    whole = observe(generator, STAR, arms, **star)
    monkeypatch.setattr("stellarhml.forward.observation._LONGEST", 23)
    for one, parts in zip(whole, observe(generator, STAR, arms, **star), strict=True):
        assert [part.shape for part in parts] == [row.shape for row in one]
        for a, b in zip(one, parts, strict=True):
            scale = np.maximum(np.abs(a).max(axis=0), 1e-300)
            # each part has its own points between pixels, which leave some of a line open (see above)
            np.testing.assert_allclose(b / scale, a / scale, rtol=0, atol=1e-4 if a.ndim == 1 else 5e-4)


def test_derivatives_equal_differences(whole_windows, arms):
    generator = whole_windows  # whose lines are rendered to the end, so that differences are not disturbed
    star = {"rv": 8.0, "vsini": 6.0}
    fluxes, jacobians = observe(generator, STAR, arms, derivatives=True, **star)
    for got, expected in zip(fluxes, observe(generator, STAR, arms, **star), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)

    def difference(high, low, step):
        return [(a - b) / (2 * step) for a, b in zip(high, low, strict=True)]

    expected = []
    for k, step in enumerate((0.5, 2e-3, 2e-3)):
        move = np.eye(3)[k] * step
        pair = [observe(generator, STAR + sign * move, arms, **star) for sign in (1, -1)]
        expected.append(difference(*pair, step))
    for name in ("rv", "vsini"):
        pair = [observe(generator, STAR, arms, **star | {name: star[name] + sign * 0.05}) for sign in (1, -1)]
        expected.append(difference(*pair, 0.05))
    pair = []
    for sign in (1, -1):
        powers = [order.resolving_power * np.exp(sign * 1e-3) for order in arms.orders]
        sharper = Observation([order.wavelength for order in arms.orders], resolving_power=powers)
        pair.append(observe(generator, STAR, sharper, **star))
    expected.append(difference(*pair, 1e-3))
    for column, rows in enumerate(expected):
        for jacobian, row in zip(jacobians, rows, strict=True):
            np.testing.assert_allclose(jacobian[:, column], row, rtol=0, atol=1e-4 * np.abs(row).max())


def test_method_takes_one_order_or_several(generator, arms):
    pixels = [order.wavelength for order in arms.orders]
    labels = np.stack([STAR, STAR + [20.0, 0.1, 0.05]])
    one = generator.observe(labels, pixels[0], resolving_power=20000.0, rv=[5.0, 7.0], vsini=3.0)
    both = generator.observe(labels, pixels, resolving_power=20000.0, rv=[5.0, 7.0], vsini=3.0)
    assert one.shape == (2, 60)
    assert [part.shape for part in both] == [(2, 60), (2, 41)]
    # which lines are near enough to matter depends on the window
    np.testing.assert_allclose(one, both[0], rtol=0, atol=1e-5)
    expected = observe(generator, labels[1], arms, rv=7.0, vsini=3.0)[0]
    np.testing.assert_allclose(one[1], expected, rtol=0, atol=1e-5)


def test_pixels_that_need_light_from_beyond_the_band_are_nan(generator):
    wavelength = generator.wavelength_
    sharp = generator.observe(STAR[None], wavelength)[0]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(sharp)), [0, 1, len(wavelength) - 2, len(wavelength) - 1])
    wide = np.isnan(generator.observe(STAR[None], wavelength, vsini=100.0)[0])
    reach = wavelength[0] * 100 / SPEED_OF_LIGHT
    inside = (wavelength > wavelength[2] + reach) & (wavelength < wavelength[-3] - 1.01 * reach)
    assert wide.sum() > 4
    assert not wide[inside].any()
    assert wide[wavelength < wavelength[1] + reach].all()
    beyond = [wavelength[100:200], wavelength[-1] + np.arange(1.0, 5.0)]
    part, nothing = generator.observe(STAR[None], beyond, resolving_power=30000.0)
    assert np.isfinite(part).all()
    assert np.isnan(nothing).all()


def test_labels_outside_follow_the_generator(generator, grid):
    outside = [9000.0, 4.1, -0.2]
    observation = Observation(grid.wavelength[50:90])
    with pytest.raises(LabelsOutsideGridError, match="teff"):
        observe(generator, outside, observation)
    edge = observe(generator, [grid.labels[:, 0].max(), 4.1, -0.2], observation)[0]
    np.testing.assert_allclose(observe(generator, outside, observation, nearest=True)[0], edge, rtol=0, atol=1e-12)


def test_messages_say_what_is_wrong(generator, grid):
    good = grid.wavelength[50:90]
    with pytest.raises(WavelengthCoverageError, match=r"pixels lie from 19999.74"):
        observe(generator, STAR, Observation(np.linspace(20000, 20010, 20)))
    with pytest.raises(ValueError, match=r"Order 1: .*increase strictly"):
        Observation([good, good[::-1]])
    with pytest.raises(ValueError, match=r"Order 0: [\s\S]*NaN"):
        Observation(np.append(good, np.nan))
    with pytest.raises(ValueError, match="width is not known"):
        Observation([8500.0])
    with pytest.raises(ValueError, match="center between"):
        Observation(good, edges=good)
    with pytest.raises(ValueError, match="3 parts but `wavelength` has 2 orders"):
        Observation([good, good], resolving_power=[1e4, 2e4, 3e4])
    with pytest.raises(ValueError, match=r"`resolving_power` has shape \(3,\)"):
        Observation(good, resolving_power=np.full(3, 1e4))
    for name, value in (("rv", np.nan), ("vsini", -1.0), ("limb_darkening", 1.2)):
        with pytest.raises(ValueError, match=f"`{name}` is {value}"):
            observe(generator, STAR, Observation(good), **{name: value})
    with pytest.raises(ValueError, match="X has 1 rows"):
        generator.observe(STAR[None], good, rv=[1.0, 2.0])
    without = SpectrumGenerator().fit(grid.labels, grid.flux)
    with pytest.raises(ValueError, match="Fit it with `wavelength`"):
        observe(without, STAR, Observation(good))


def test_agrees_with_an_independent_simulator(shared_data):
    """The mock interpolates linearly, so it gets the model on pixels eight times as fine, and a fine step."""
    path = Path(shared_data.__file__).parent / "mock_observation.py"
    spec = importlib.util.spec_from_file_location("mock_observation", path)
    mock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mock)
    data = shared_data.sme_hpf_offgrid(normalised=True)
    window = slice(*np.searchsorted(data["wavelength"], [9990.0, 10012.0]))
    wavelength, flux = data["wavelength"][window], data["flux"][0, window].astype(float)
    fine = np.interp(np.arange(0, len(wavelength) - 1, 0.125), np.arange(len(wavelength)), wavelength)
    curve = make_interp_spline(wavelength, flux, k=7)
    pixels = Observation(np.linspace(9995.0, 10007.0, 190)).orders[0]
    for rv, vsini, power in ((0.0, 0.0, 55000.0), (30.0, 8.0, 55000.0), (-20.0, 40.0, 1e5)):
        options = {"rv": rv, "vsini": vsini, "resolving_power": power, "throughput": False, "oversample_kms": 0.02}
        expected, _ = mock.observe(fine, curve(fine), pixels.wavelength, **options)
        edges = pixels.edges / (1 + rv / SPEED_OF_LIGHT)
        got = observe_rows(wavelength, flux[None], edges, vsini=vsini / SPEED_OF_LIGHT, sigma=line_spread_sigma(power))[
            0
        ]
        np.testing.assert_allclose(got / np.median(got), expected, rtol=0, atol=3e-5)
