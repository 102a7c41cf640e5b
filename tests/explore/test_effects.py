"""Effects on a page: tellurics, a second star, spots, veiling, macroturbulence, the factor of the resolving power."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from explorer_server import READY, serve

pytest.importorskip("bokeh", reason="needs bokeh")

from opened_page import Opened

from stellarhml.explore.effects import Effects
from stellarhml.explore.session import ExplorerSession
from stellarhml.forward.chain import ForwardChain
from stellarhml.physics.wavelength import SPEED_OF_LIGHT
from stellarhml.spectra import read_atmosphere, read_spectrum

POWER = 40_000.0
LABELS = {"teff": "5200", "logg": "4", "feh": "0", "low": "8510", "high": "8530", "power": f"{POWER:.0f}"}
ALL = {"veiling": True, "macroturbulence": "gaussian", "companion": True, "resolving_power_error": 0.1}


def seen(generator, effects, query):
    """Curve of a page with effects, at a query of its address; no value of the query may have been ignored."""
    session = ExplorerSession(generator, "small", **effects)
    state, problems = session.read_address(LABELS | query)
    assert not problems
    return session.spectrum(state)


def observed(generator, wavelength, labels=(5200.0, 4.0, 0.0), power=POWER, **motion):
    return generator.observe([labels], wavelength, resolving_power=power, **motion)[0]


def test_veiling_fills_the_lines(generator):
    curve = seen(generator, {"veiling": True}, {"veiling": "0.5"})
    expected = (observed(generator, curve.wavelength) + 0.5) / 1.5
    np.testing.assert_allclose(curve.flux[1:-1], expected[1:-1], atol=2e-6)


def test_second_star_adds_its_light(generator):
    """Of the same temperature, so that the ratio of the lights does not depend on wavelength."""
    query = {"flux_ratio": "0.4", "teff_2": "5200", "logg_2": "4.4", "rv_2": "60", "vsini_2": "8"}
    curve = seen(generator, {"companion": True}, query)
    parts = (
        observed(generator, curve.wavelength),
        observed(generator, curve.wavelength, (5200.0, 4.4, 0.0), rv=60.0, vsini=8.0),
    )
    np.testing.assert_allclose(curve.flux[1:-1], ((parts[0] + 0.4 * parts[1]) / 1.4)[1:-1], atol=5e-5)


@pytest.mark.parametrize(("filling", "teff"), [("0", 5200.0), ("1", 5050.0)])
def test_surface_without_and_full_of_spots(generator, filling, teff):
    curve = seen(generator, {"spots": True}, {"teff_spot": "5050", "f_spot": filling})
    np.testing.assert_allclose(
        curve.flux[1:-1], observed(generator, curve.wavelength, (teff, 4.0, 0.0))[1:-1], atol=5e-5
    )


def test_macroturbulence_is_a_wider_line_spread(generator):
    """The variances of two Gaussians add up."""
    curve = seen(generator, {"macroturbulence": "gaussian"}, {"vmac": "6"})
    spread = (SPEED_OF_LIGHT / POWER / np.sqrt(8 * np.log(2))) ** 2 + 6.0**2 / 2
    power = SPEED_OF_LIGHT / np.sqrt(8 * np.log(2) * spread)
    np.testing.assert_allclose(curve.flux[1:-1], observed(generator, curve.wavelength, power=power)[1:-1], atol=2e-5)


def test_factor_multiplies_the_resolving_power(generator):
    curve = seen(generator, {"resolving_power_error": 0.1}, {"resolving_power_factor": "0.8"})
    expected = observed(generator, curve.wavelength, power=0.8 * POWER)
    np.testing.assert_allclose(curve.flux[1:-1], expected[1:-1], atol=2e-6)
    without = seen(generator, {"resolving_power_error": 0.1}, {"resolving_power_factor": "0.8", "power": "none"})
    assert without.flux.min() < curve.flux.min()


def test_amount_is_a_power_of_the_transmission(generator, air):
    path, wavelength, water, oxygen = air
    effects = {"tellurics": read_atmosphere(path, medium="vacuum")}
    query = {"a_H2O": "2.5", "a_O2": "0.5", "rv_air": "-0.4", "power": "none"}
    curve = seen(generator, effects, query)
    clear = seen(generator, {}, {"power": "none"})
    at_rest = curve.wavelength * (1 + 0.4 / SPEED_OF_LIGHT)
    transmission = np.interp(at_rest, wavelength, water) ** 2.5 * np.interp(at_rest, wavelength, oxygen) ** 0.5
    assert transmission.min() < 0.3
    # the mean over a pixel of 0.05 angstrom, of lines with a sigma of 0.07
    np.testing.assert_allclose((curve.flux / clear.flux)[1:-1], transmission[1:-1], atol=0.03)


def test_atmosphere_is_at_rest_at_the_observatory(generator, star, air):
    spectrum = read_spectrum(star, medium="vacuum")
    moved = spectrum.replace(spectrum.orders, frame="barycenter")
    effects = {"tellurics": read_atmosphere(air[0], medium="vacuum")}
    without = ExplorerSession(generator, "small", [("star.txt", moved)], **effects)
    assert not without.spectra
    assert "star.txt" in without.problems[0]
    assert "barycentric" in without.problems[0]
    session = ExplorerSession(generator, "small", [("star.txt", moved)], **effects, barycentric=20.0)
    state, _ = session.read_address({"power": f"{POWER:.0f}", "a_O2": "0"})
    order = next(iter(session.compare(state).orders.values()))
    line = 8503.3 + 7.7 * np.round((order.wavelength.mean() - 8503.3) / 7.7)
    near = np.abs(order.wavelength - line * (1 + 20 / SPEED_OF_LIGHT)) < 3
    deepest = order.wavelength[near][np.argmin(order.transmission[near])]
    assert deepest == pytest.approx(line * (1 + 20 / SPEED_OF_LIGHT), abs=0.05)  # a pixel; the shift is 0.57


def test_pixels_outside_the_table_are_not_compared(generator, star, air):
    _, wavelength, water, _ = air
    part = wavelength < 8550
    air = wavelength[part], {"H2O": water[part]}
    session = ExplorerSession(generator, "small", [("star.txt", read_spectrum(star, medium="vacuum"))], tellurics=air)
    state, _ = session.read_address({"low": "8500", "high": "8700"})
    first, second = session.compare(state).orders.values()
    assert np.isinf(first.error[first.wavelength > 8550]).all()
    assert np.isfinite(first.error[first.wavelength < 8549]).mean() > 0.95
    assert np.isinf(second.error).all()


def test_addresses_hold_the_effects(generator):
    session = ExplorerSession(generator, "small", **ALL)
    state, problems = session.read_address({"veiling": "0.25", "rv_2": "-40", "resolving_power_factor": "1.1"})
    assert not problems
    assert session.read_address(dict(session.address(state))) == (state, [])
    assert (state.effects["veiling"], state.effects["rv_2"]) == (0.25, -40.0)
    changed, problems = session.read_address({"veiling": "-1", "f_spot": "0.5"})
    assert changed == session.read_address({})[0]  # f_spot is none of this page
    assert len(problems) == 1
    assert "veiling=-1" in problems[0]


@pytest.mark.parametrize(("effects", "name"), [({"companion": True}, "teff_2"), ({"spots": True}, "teff_spot")])
def test_the_edge_of_the_grid_is_marked_for_a_second_photosphere_too(generator, effects, name):
    opened = Opened(ExplorerSession(generator, "small", **effects))
    slider, inside = opened[f"slider-{name}"], opened[f"slider-{name}"].bar_color
    slider.value = generator.interpolator_.bounds_[0, 1]
    opened.settle()
    assert slider.title.endswith(": edge of the grid")
    assert slider.bar_color != inside
    assert f"{slider.title.removesuffix(': edge of the grid')} at the edge of the grid" in opened["status"].text
    slider.value -= 40.0
    opened.settle()
    assert slider.bar_color == inside
    assert "edge of the grid" not in slider.title + opened["status"].text


def test_effects_that_exclude_each_other_are_refused(generator):
    with pytest.raises(ValueError, match="`companion` and `spots`"):
        Effects(generator, companion=True, spots=True)
    with pytest.raises(ValueError, match="`resolving_power_error` is 2"):
        Effects(generator, resolving_power_error=2.0)


def test_component_that_a_fit_leaves_out_has_no_light(generator):
    effects = Effects(generator, companion=True, veiling=True)
    result = SimpleNamespace(values={"teff": 5200.0, "veiling": 0.3})
    assert effects.fitted(effects.start, result) == effects.start | {"flux_ratio": 0.0, "veiling": 0.3}


def test_plain_page_has_no_sliders_of_effects(generator, star):
    opened = Opened(ExplorerSession(generator, "small", [("star.txt", read_spectrum(star, medium="vacuum"))]))
    assert set(opened.page.controls.sliders) == {"teff", "logg", "feh", "rv", "vsini", "power"}
    assert opened["transmission"] is None
    assert len(opened["root-view"].children) == 2


def test_each_parameter_has_a_slider_in_its_limits(generator):
    session = ExplorerSession(generator, "small", **ALL)
    opened = Opened(session)
    for name, (low, high) in session.effects.limits.items():
        slider, number = opened[f"slider-{name}"], opened[f"field-{name}"]
        assert low <= slider.start < slider.end <= high
        assert slider.value == number.value == session.effects.start[name]
    opened["field-rv_2"].value = 1000.0
    opened.settle()
    assert opened.page.state.effects["rv_2"] == opened["slider-rv_2"].end == 300.0
    assert opened["slider-resolving_power_factor"].disabled  # no resolving power is set
    opened["field-power"].value = POWER
    opened.settle()
    assert not opened["slider-resolving_power_factor"].disabled


def test_move_of_a_slider_evaluates_the_model_once(generator, humid_star, air, monkeypatch):
    spectrum = read_spectrum(humid_star, medium="vacuum")
    atmosphere = read_atmosphere(air[0], medium="vacuum")
    session = ExplorerSession(generator, "small", [("humid.txt", spectrum)], tellurics=atmosphere, **ALL)
    opened = Opened(session)
    opened.settle()
    calls, own = [], ForwardChain.flux
    monkeypatch.setattr(ForwardChain, "flux", lambda chain, values: calls.append(values) or own(chain, values))
    before = opened.data("curve")["y"]
    opened["slider-a_H2O"].value = 2.0
    opened.page._draw()
    assert len(calls) == 1
    assert calls[0]["a_H2O"] == 2.0
    assert not np.array_equal(opened.data("curve")["y"], before)


@pytest.fixture(scope="module")
def fitted(generator, humid_star, air):
    """A page with an atmosphere and veiling, after a fit."""
    spectrum = read_spectrum(humid_star, medium="vacuum")
    spectrum = spectrum.replace(spectrum.orders, resolving_power=POWER)
    atmosphere = read_atmosphere(air[0], medium="vacuum")
    session = ExplorerSession(generator, "small", [("humid.txt", spectrum)], tellurics=atmosphere, veiling=True)
    opened = Opened(session)
    opened.settle()
    opened.click("fit")
    end = time.monotonic() + 120
    while "Result" not in opened["fit-text"].text and time.monotonic() < end:
        time.sleep(0.05)
        opened.settle()
    opened.settle()
    yield opened
    session.close()


def test_fit_uses_the_effects_and_moves_their_sliders(fitted):
    result = fitted.page.fit.result
    assert {"a_H2O", "a_O2", "rv_air", "veiling"} <= set(result.names)
    for name, value in result.values.items():
        assert fitted[f"slider-{name}"].value == pytest.approx(value, rel=1e-9, abs=1e-9)
    for name, truth in {"a_H2O": 1.4, "a_O2": 0.8, "rv_air": 0.0, "rv": 12.0}.items():
        assert abs(result.values[name] - truth) < 4 * result.errors[name] + 0.01
        assert result.errors[name] < 0.2


def test_residuals_and_transmission_are_those_of_the_fit(fitted):
    result, state = fitted.page.fit.result, fitted.page.state
    air, residuals = fitted.data("air"), fitted.data("residuals")
    order = next(order for order in result.orders if order.wavelength[0] == pytest.approx(state.low, abs=0.1))
    np.testing.assert_allclose(air["x"][:-1], order.wavelength)
    known = np.isfinite(order.transmission)
    assert np.nanmin(order.transmission) < 0.7
    np.testing.assert_allclose(air["y"][:-1][known], order.transmission[known], atol=1e-4)
    expected = (order.residual / order.continuum)[np.isfinite(order.residual)]
    shown = residuals["y"][:-1][np.isfinite(order.residual)]
    # the continuum of the page is fitted with the errors of the data alone
    assert np.nanstd(shown - expected) < 0.2 * np.nanstd(expected)
    assert np.nanstd(shown) < 1.2 * 0.005


def test_window_of_a_page_with_an_atmosphere_is_exported(fitted):
    fitted.click("csv")
    header, *rows = fitted["file"].data["text"][0].splitlines()
    assert header == "order,wavelength,model,model_std,flux,flux_std,transmission"
    column = [row.split(",")[-1] for row in rows if not row.startswith("generator")]
    assert min(map(float, filter(None, column))) < 0.7


VALUE = "([name, key]) => Bokeh.documents[0].get_model_by_name(name)[key]"
SET = "([name, value]) => { Bokeh.documents[0].get_model_by_name(name).value = value; }"
NARROW = """() => [...document.querySelectorAll("section")].map((part) => part.getBoundingClientRect().right)"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_page_with_all_effects_in_a_browser(folder, generator, humid_star, air, browser, read, until, width):
    options = ["--medium", "vacuum", "--generator", "generator.asdf", "--resolving-power", f"{POWER:.0f}"]
    options += ["--tellurics", "air.csv", "--tellurics-medium", "vacuum", "--companion", "--veiling", "sloped"]
    options += ["--macroturbulence", "gaussian", "--resolving-power-error", "0.1", "humid.txt"]
    errors = []
    with serve(folder, *options) as (_, address):
        page = browser.new_context(viewport={"width": width, "height": 844}).new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/")
        page.wait_for_function(READY, timeout=30_000)
        until(lambda: len(read(page, "air")["x"]) > 100)
        before = read(page, "air")["y"]
        page.get_by_role("slider", name="a_H2O").focus()
        page.keyboard.press("ArrowRight")
        until(lambda: page.evaluate(VALUE, ["field-a_H2O", "value"]) == pytest.approx(1.01))
        page.evaluate(SET, ["slider-a_H2O", 2.0])
        until(lambda: np.nanmin(read(page, "air")["y"]) < np.nanmin(before) - 0.05)
        until(lambda: "a_H2O=2" in page.evaluate("() => location.href"))
        page.wait_for_timeout(500)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        assert max(page.evaluate(NARROW)) <= width
        page.context.close()
    assert not errors, errors
