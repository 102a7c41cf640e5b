"""From labels to the pixels of a spectrograph."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import make_interp_spline

from stellarhml import SpectrumGenerator
from stellarhml.exceptions import LabelsOutsideGridError, WavelengthCoverageError
from stellarhml.forward.chain import ForwardChain, RestChain
from stellarhml.forward.observation import Observation
from stellarhml.forward.stages import Parameter, Stage
from stellarhml.kernels.fourier_broadening import observe_rows
from stellarhml.physics.broadening import line_spread_sigma, observe_quadrature
from stellarhml.physics.wavelength import SPEED_OF_LIGHT

STAR = {"teff": 5320.0, "logg": 4.1, "feh": -0.2}
LABELS = list(STAR.values())
MOVING = STAR | {"rv": 8.0, "vsini": 6.0}


class Nothing(Stage):
    """A stage that changes nothing, so that rotation and line spread are two transforms."""


@pytest.fixture(scope="module")
def arms(grid):
    """Two arms that overlap, one of them with a table of resolving powers."""
    low, high = grid.wavelength[[0, -1]]
    span = high - low
    first = np.linspace(low + 0.1 * span, low + 0.6 * span, 60)
    second = np.linspace(low + 0.5 * span, low + 0.9 * span, 41)
    return Observation([first, second], resolving_power=[20000.0, np.linspace(15000, 16000, 41)])


def test_equals_quadrature_of_the_generated_spectrum(generator, arms):
    flux = generator.predict([LABELS])[0]
    curve = make_interp_spline(generator.wavelength_, flux, k=7)
    got = ForwardChain(generator, arms).flux(STAR | {"rv": 15.0, "vsini": 12.0})
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


@pytest.mark.parametrize("stages", [(), (Nothing(),)], ids=["fused", "staged"])
def test_long_orders_are_observed_in_parts(generator, arms, monkeypatch, stages):
    chain = ForwardChain(generator, arms, stages=stages)
    whole = chain.evaluate(MOVING)
    monkeypatch.setattr("stellarhml.forward.chain._LONGEST", 23)
    for one, parts in zip(whole, chain.evaluate(MOVING), strict=True):
        np.testing.assert_array_equal(parts.wavelength, one.wavelength)
        # each part has its own points between pixels, which leave some of a line open (see above)
        np.testing.assert_allclose(parts.flux, one.flux, rtol=0, atol=1e-4)
        for name, row in one.tangents.items():
            np.testing.assert_allclose(parts.tangents[name], row, rtol=0, atol=5e-4 * max(np.abs(row).max(), 1e-300))


@pytest.mark.parametrize("stages", [(), (Nothing(),)], ids=["fused", "staged"])
def test_tangents_equal_differences(whole_windows, arms, stages):
    generator = whole_windows  # whose lines are rendered to the end, so that differences are not disturbed

    def flux(values, observation=arms):
        return ForwardChain(generator, observation, stages=stages).flux(values)

    orders = ForwardChain(generator, arms, stages=stages).evaluate(MOVING)
    for rows, expected in zip(orders, flux(MOVING), strict=True):
        np.testing.assert_allclose(rows.flux, expected, rtol=0, atol=1e-12)
    expected = {}
    for name, step in {"teff": 0.5, "logg": 2e-3, "feh": 2e-3, "rv": 0.05, "vsini": 0.05}.items():
        high, low = (flux(MOVING | {name: MOVING[name] + sign * step}) for sign in (1, -1))
        expected[name] = [(a - b) / (2 * step) for a, b in zip(high, low, strict=True)]
    pair = []
    for sign in (1, -1):
        powers = [order.resolving_power * np.exp(sign * 1e-3) for order in arms.orders]
        pair.append(flux(MOVING, Observation([order.wavelength for order in arms.orders], resolving_power=powers)))
    expected["ln_resolving_power"] = [(a - b) / 2e-3 for a, b in zip(*pair, strict=True)]
    assert set(expected) == set(orders[0].tangents)
    for name, parts in expected.items():
        for rows, row in zip(orders, parts, strict=True):
            np.testing.assert_allclose(rows.tangents[name], row, rtol=0, atol=1e-4 * np.abs(row).max())


def test_stages_that_do_nothing_change_nothing(generator, arms):
    """Rotation and line spread in one transform, or in two with a stage between them."""
    fused, staged = (ForwardChain(generator, arms, stages=stages).evaluate(MOVING) for stages in ((), (Nothing(),)))
    for one, two in zip(fused, staged, strict=True):
        np.testing.assert_allclose(two.flux, one.flux, rtol=0, atol=1e-12)
        for group in ("tangents", "modes"):
            for name, row in getattr(one, group).items():
                # the shift of a pixel is found from its edges or from a derivative: at the ends of orders, 1e-5 apart;
                # a variance is divided by that of the line spread in the middle of the pixel, or nowhere
                apart = (1e-3 if name == "line_variance" else 2e-5) * np.abs(row).max()
                np.testing.assert_allclose(getattr(two, group)[name], row, rtol=0, atol=apart)


def test_modes_of_the_error_are_shifts_and_widths_of_lines(whole_windows, arms):
    chain = ForwardChain(whole_windows, arms)
    rows = chain.evaluate(MOVING)[0]
    assert set(rows.modes) == {*STAR, "ln_wavelength", "line_variance"}
    step = 1e-7
    high, low = (chain.flux(MOVING | {"rv": 8.0 + sign * step * (SPEED_OF_LIGHT + 8.0)})[0] for sign in (1, -1))
    by_shift = (high - low) / (2 * step)
    np.testing.assert_allclose(rows.modes["ln_wavelength"], by_shift, rtol=0, atol=1e-3 * np.abs(by_shift).max())
    # a Gaussian of a small variance: the line spread's own, made wider
    order, variance = arms.orders[0], 1e-12
    power = order.resolving_power / np.sqrt(1 + variance / order.sigma**2)
    wider = ForwardChain(whole_windows, Observation(order.wavelength, edges=order.edges, resolving_power=power))
    change = (wider.flux(MOVING)[0] - chain.flux(MOVING)[0]) / variance
    np.testing.assert_allclose(rows.modes["line_variance"], change, rtol=0, atol=0.01 * np.abs(change).max())


class Scaling(Stage):
    """A stage with a parameter, and one mistake if it is asked for."""

    def __init__(self, name="level", *, forgets=False):
        self.parameters, self._forgets = (Parameter(name, bounds=(0.0, 9.0)),), forgets

    def apply(self, rows, values):
        level = values[self.parameters[0].name]
        own = {} if self._forgets else {self.parameters[0].name: rows.flux}
        return rows.through(level * rows.flux, level, **own)


def test_stages_add_their_parameters_by_name(generator, arms):
    chain = ForwardChain(generator, arms, stages=(Scaling("first"), Scaling("second")))
    assert [parameter.name for parameter in chain.parameters] == [*MOVING, "first", "second"]
    rows = chain.evaluate(MOVING | {"first": 2.0, "second": 0.25})[1]
    plain = ForwardChain(generator, arms).evaluate(MOVING)[1]
    np.testing.assert_allclose(rows.flux, 0.5 * plain.flux, rtol=1e-12)
    np.testing.assert_allclose(rows.tangents["teff"], 0.5 * plain.tangents["teff"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(rows.tangents["first"], 0.25 * plain.flux, rtol=1e-12)
    np.testing.assert_allclose(rows.tangents["second"], 2.0 * plain.flux, rtol=1e-12)
    with pytest.raises(ValueError, match="declare level without a derivative"):
        ForwardChain(generator, arms, stages=[Scaling(forgets=True)]).evaluate(MOVING | {"level": 1.0})
    with pytest.raises(ValueError, match="each name may occur once"):
        ForwardChain(generator, arms, stages=[Scaling("vsini")])


def test_a_star_at_rest_is_the_generator_itself(generator):
    runs = [slice(20, 90), slice(200, 260)]
    chain = RestChain(generator, runs)
    for rows, run in zip(chain.evaluate(STAR), runs, strict=True):
        np.testing.assert_allclose(rows.flux, generator.predict([LABELS], pixels=run)[0], rtol=0, atol=1e-14)
        np.testing.assert_allclose(rows.tangents["logg"], generator.jacobian([LABELS], pixels=run)[0][:, 1], rtol=1e-12)
    (part,) = chain.part([(1, slice(10, 30))]).flux(STAR)
    np.testing.assert_allclose(part, generator.predict([LABELS], pixels=slice(210, 230))[0], rtol=0, atol=2e-6)


def test_method_takes_one_order_or_several(generator, arms):
    pixels = [order.wavelength for order in arms.orders]
    labels = np.stack([LABELS, np.add(LABELS, [20.0, 0.1, 0.05])])
    one = generator.observe(labels, pixels[0], resolving_power=20000.0, rv=[5.0, 7.0], vsini=3.0)
    both = generator.observe(labels, pixels, resolving_power=20000.0, rv=[5.0, 7.0], vsini=3.0)
    assert one.shape == (2, 60)
    assert [part.shape for part in both] == [(2, 60), (2, 41)]
    # which lines are near enough to matter depends on the window
    np.testing.assert_allclose(one, both[0], rtol=0, atol=1e-5)
    second = dict(zip(STAR, labels[1], strict=True))
    expected = ForwardChain(generator, arms).flux(second | {"rv": 7.0, "vsini": 3.0})[0]
    np.testing.assert_allclose(one[1], expected, rtol=0, atol=1e-5)


def test_pixels_that_need_light_from_beyond_the_band_are_nan(generator):
    wavelength = generator.wavelength_
    sharp = generator.observe([LABELS], wavelength)[0]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(sharp)), [0, 1, len(wavelength) - 2, len(wavelength) - 1])
    wide = np.isnan(generator.observe([LABELS], wavelength, vsini=100.0)[0])
    reach = wavelength[0] * 100 / SPEED_OF_LIGHT
    inside = (wavelength > wavelength[2] + reach) & (wavelength < wavelength[-3] - 1.01 * reach)
    assert wide.sum() > 4
    assert not wide[inside].any()
    assert wide[wavelength < wavelength[1] + reach].all()
    beyond = [wavelength[100:200], wavelength[-1] + np.arange(1.0, 5.0)]
    part, nothing = generator.observe([LABELS], beyond, resolving_power=30000.0)
    assert np.isfinite(part).all()
    assert np.isnan(nothing).all()


def test_labels_outside_are_refused_by_the_generator_and_moved_by_the_chain(generator, grid):
    outside, pixels = {"teff": 9000.0, "logg": 4.1, "feh": -0.2}, grid.wavelength[50:90]
    with pytest.raises(LabelsOutsideGridError, match="teff"):
        generator.observe([list(outside.values())], pixels)
    chain, still = ForwardChain(generator, Observation(pixels)), {"rv": 0.0, "vsini": 0.0}
    edge = chain.flux(outside | {"teff": grid.labels[:, 0].max()} | still)[0]
    np.testing.assert_allclose(chain.flux(outside | still)[0], edge, rtol=0, atol=1e-12)


def test_messages_say_what_is_wrong(generator, grid):
    good = grid.wavelength[50:90]
    with pytest.raises(WavelengthCoverageError, match=r"pixels lie from 19999.74"):
        generator.observe([LABELS], np.linspace(20000, 20010, 20))
    with pytest.raises(ValueError, match=r"Order 1: .*increase strictly"):
        Observation([good, good[::-1]])
    with pytest.raises(ValueError, match=r"Order 0: [\s\S]*NaN"):
        Observation(np.append(good, np.nan))
    with pytest.raises(ValueError, match="of unknown width"):
        Observation([8500.0])
    with pytest.raises(ValueError, match="center of each pixel between"):
        Observation(good, edges=good)
    with pytest.raises(ValueError, match="3 parts but `wavelength` has 2 orders"):
        Observation([good, good], resolving_power=[1e4, 2e4, 3e4])
    with pytest.raises(ValueError, match=r"`resolving_power` has shape \(3,\)"):
        Observation(good, resolving_power=np.full(3, 1e4))
    for name, value in (("rv", np.nan), ("vsini", -1.0), ("limb_darkening", 1.2)):
        with pytest.raises(ValueError, match=f"`{name}` is {value}"):
            generator.observe([LABELS], good, **{name: value})
    with pytest.raises(ValueError, match="X has 1 rows"):
        generator.observe([LABELS], good, rv=[1.0, 2.0])
    without = SpectrumGenerator().fit(grid.labels, grid.flux)
    with pytest.raises(ValueError, match="Fit it with `wavelength`"):
        without.observe([LABELS], good)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("row", "what"), [(0, "flux"), (2, "derivative by logg")])
def test_a_generator_that_is_not_finite_is_named(generator, monkeypatch, value, row, what):
    whole = SpectrumGenerator.render_rows

    def broken(self, labels, pixels, *, tangents=False, change=None):
        rows = whole(self, labels, pixels, tangents=tangents, change=change)
        rows[row, 3:5] = value
        return rows

    monkeypatch.setattr(SpectrumGenerator, "render_rows", broken)
    values = {"teff": 5300.0, "logg": 3.8, "feh": -0.2, "rv": 0.0, "vsini": 0.0}
    text = rf"The {what} of the generator is not finite in 2 of \d+ pixels at teff 5300, logg 3\.8, feh -0\.2, "
    for chain in (ForwardChain(generator, Observation(generator.wavelength_[100:200])), RestChain(generator)):
        with pytest.raises(ValueError, match=text):
            chain.evaluate(values)


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
