"""The page of `stellarhml explore` in a real browser."""

import csv

import numpy as np
import pytest
from astropy.table import Table

from stellarhml import BayesianStellarRegressor
from stellarhml.spectra import read_spectrum
from stellarhml.synthesis.line_values import line_values

# a server, a browser and a fit: a minute and more
pytestmark = pytest.mark.slow

POWER = 40_000
SET = "([name, value]) => { Bokeh.documents[0].get_model_by_name(name).value = value; }"
TEXT = "name => Bokeh.documents[0].get_model_by_name(name).text"
MODEL = "([name, key]) => Bokeh.documents[0].get_model_by_name(name)[key]"
# where on the page a point of the upper plot is
PLACE = """([x, y]) => {
  const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name("flux"));
  const box = view.el.getBoundingClientRect();
  return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)];
}"""


def url(page):
    return page.evaluate("() => location.href")


def predicted(generator, labels, wavelength):
    """What the generator predicts at some of its pixels, of a star at rest."""
    pixels = np.searchsorted(generator.wavelength_, wavelength - 1e-6)
    np.testing.assert_allclose(generator.wavelength_[pixels], wavelength, rtol=1e-12)
    return generator.predict([labels], pixels=slice(pixels[0], pixels[-1] + 1))[0, pixels - pixels[0]]


def test_slider_moves_the_curve_to_what_the_generator_predicts(open_page, read, until, generator):
    page = open_page("?low=8510&high=8530&teff=5200&logg=4&feh=0&power=none")
    before = read(page, "curve")
    page.evaluate(SET, ["slider-teff", 5417.0])
    until(lambda: not np.array_equal(read(page, "curve")["y"], before["y"]))
    after = read(page, "curve")
    np.testing.assert_allclose(after["y"], predicted(generator, [5417.0, 4.0, 0.0], after["x"]), atol=1e-12)
    assert page.evaluate(MODEL, ["field-teff", "value"]) == 5417.0
    band, (flux, std) = read(page, "band"), generator.predict([[5417.0, 4.0, 0.0]], return_std=True)
    pixels = np.searchsorted(generator.wavelength_, band["x"] - 1e-6)
    np.testing.assert_allclose(band["upper"], (flux + std)[0, pixels], atol=1e-6)
    # the address restores the page
    until(lambda: "teff=5417" in url(page))
    again = open_page("?" + url(page).split("?")[1])
    np.testing.assert_array_equal(read(again, "curve")["y"], after["y"])


def test_velocity_rotation_and_resolving_power_are_those_of_observe(open_page, read, until, generator):
    page = open_page(f"?low=8520&high=8540&teff=5200&logg=4&feh=0&rv=25&power={POWER}")
    page.evaluate(SET, ["field-vsini", 9.5])
    until(lambda: "vsini=9.5" in url(page))
    curve = read(page, "curve")
    wavelength = generator.wavelength_ * (1 + 25 / 299792.458)
    flux = generator.observe([[5200.0, 4.0, 0.0]], wavelength, rv=25.0, vsini=9.5, resolving_power=POWER)[0]
    pixels = np.searchsorted(wavelength, curve["x"] - 1e-6)
    np.testing.assert_allclose(curve["x"], wavelength[pixels], rtol=1e-12)
    np.testing.assert_allclose(curve["y"], flux[pixels], atol=2e-6)


def test_keyboard_moves_a_slider_to_the_edge_of_the_grid(open_page, until):
    page = open_page()
    page.get_by_role("slider", name="log g").focus()
    page.keyboard.press("End")
    until(lambda: "edge of the grid" in page.evaluate(TEXT, "status"))
    assert page.evaluate(MODEL, ["slider-logg", "title"]) == "log g: edge of the grid"
    assert page.get_by_text("log g at the edge of the grid").is_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    until(lambda: "edge of the grid" not in page.evaluate(TEXT, "status"))


def test_field_brings_what_is_typed_into_its_range(open_page, until, generator):
    page = open_page("?teff=5200&logg=4&feh=0&low=8510&high=8530")
    ends = generator.interpolator_.bounds_[0]

    def enter(label, typed, shown):
        field = page.locator(f"input[aria-label='{label}']")
        field.fill(typed)
        field.press("Enter")
        until(lambda: field.input_value() == shown)

    enter("Teff [K]", "5321.5", "5321.5")
    enter("Teff [K]", "", "5321.5")
    enter("Teff [K]", "99999", f"{ends[1]:.0f}")
    enter("Teff [K]", "-7", f"{ends[0]:.0f}")
    enter("Teff [K]", "-8", f"{ends[0]:.0f}")  # once more, though nothing changes
    until(lambda: f"teff={ends[0]:.0f}&" in url(page))
    assert [page.evaluate(MODEL, ["slider-teff", end]) for end in ("start", "end")] == list(ends)
    enter("Radial velocity [km/s]", "1000", "500")
    enter("from wavelength", "8560", "8560.00")
    until(lambda: "low=8560&high=8580&" in url(page))  # the window moves along
    enter("to wavelength", "", "8580.00")
    enter("to wavelength", "8550", "8550.00")
    until(lambda: "low=8530&high=8550&" in url(page))
    enter("Line near [Å]", "1", f"{generator.decomposer_.line_catalog_[0]:.2f}")


def test_zoom_samples_the_window_in_view(open_page, read, until, generator):
    page = open_page()
    page.get_by_role("button", name="Whole band").click()
    until(lambda: np.ptp(read(page, "curve")["x"]) > 0.99 * np.ptp(generator.wavelength_))
    whole = read(page, "curve")
    columns = page.evaluate(MODEL, ["flux", "inner_width"])
    assert 400 < len(whole["x"]) <= 2 * columns < len(generator.wavelength_)
    labels = generator.interpolator_.bounds_.mean(axis=1)
    x, y = page.evaluate(PLACE, [float(np.median(whole["x"])), 0.5])
    page.mouse.move(x, y)
    for _ in range(8):
        page.mouse.wheel(0, -240)
        page.wait_for_timeout(60)
    until(lambda: "4,000 pixels" not in page.evaluate(TEXT, "status"))
    page.wait_for_timeout(500)
    low, high = (page.evaluate(MODEL, ["window", end]) for end in ("start", "end"))
    near = read(page, "curve")
    inside = (generator.wavelength_ >= low) & (generator.wavelength_ <= high)
    assert 0 < inside.sum() < 1500
    assert near["x"][0] <= generator.wavelength_[inside][0]
    assert near["x"][-1] >= generator.wavelength_[inside][-1]
    assert len(near["x"]) <= inside.sum() + 2
    assert f"power={POWER}" in url(page)
    page.get_by_label("No line spread").check()
    until(lambda: "power=none" in url(page))
    near = read(page, "curve")
    np.testing.assert_allclose(near["y"], predicted(generator, labels, near["x"]), atol=1e-12)


def test_click_on_a_line_shows_its_parameters_and_its_manifold(open_page, read, until, generator):
    page = open_page("?low=8510&high=8540&teff=5200&logg=4&feh=0")
    ticks = read(page, "ticks")
    deepest = int(np.argmax(ticks["y"]))
    x, y = page.evaluate(PLACE, [float(ticks["x"][deepest]), 1.07])
    page.mouse.click(x + 3, y)  # within reach of the line
    until(lambda: len(page.evaluate("() => Bokeh.documents[0].get_model_by_name('manifold').data.image")))
    until(lambda: "line=" in url(page))
    index = int(url(page).split("line=")[1].split("&")[0])
    table = generator.line_table([5200.0, 4.0, 0.0])
    row = table.iloc[np.abs(table["center"] - ticks["x"][deepest]).argmin()]
    assert generator.decomposer_.line_catalog_[index] == row.name
    text = page.evaluate(TEXT, "line")
    for name in ("depth", "equivalent_width", "saturation"):
        assert f"{row[name]:.5g}" in text
    assert f"{1e5 * row['equivalent_width_per_teff']:+.3g}" in text
    image = "() => Array.from(Bokeh.documents[0].get_model_by_name('manifold').data.image[0])"
    drawn = np.array(page.evaluate(image)).reshape(30, 30)
    bounds = generator.interpolator_.bounds_
    points = [[teff, logg, 0.0] for logg in np.linspace(*bounds[1], 30) for teff in np.linspace(*bounds[0], 30)]
    np.testing.assert_allclose(drawn.ravel(), line_values(generator, points, "equivalent_width", [index])[:, 0])
    assert page.get_by_text(f"Line at {row.name:.2f}").is_visible()
    assert (read(page, "point")["x"], read(page, "point")["y"]) == ([5200.0], [4.0])
    page.evaluate(SET, ["slider-teff", 5300.0])
    until(lambda: read(page, "point")["x"] == [5300.0])
    page.get_by_role("button", name="next line").click()
    until(lambda: f"line={index}&" not in url(page))


def test_fit_of_a_star_gives_what_infer_gives(open_page, until, generator, star, tmp_path):
    page = open_page()
    page.get_by_role("button", name="Fit the spectrum").click()
    until(lambda: "evaluations" in page.evaluate(TEXT, "fit-text"))
    until(lambda: "Result" in page.evaluate(TEXT, "fit-text"), 60)
    regressor = BayesianStellarRegressor.from_generator(generator, verbose=False)
    expected = regressor.infer(read_spectrum(star, medium="vacuum"), resolving_power=POWER)
    until(lambda: f"rv={expected.values['rv']:.10g}"[:8] in url(page))
    for name, value in expected.values.items():
        assert page.evaluate(MODEL, [f"slider-{name}", "value"]) == pytest.approx(value, rel=1e-9, abs=1e-9)
    text = page.evaluate(TEXT, "fit-text")
    assert f"{expected.reduced_chi2:.3g}" in text
    assert f"Flags: {expected.flag_names.replace('|', ', ') or 'none'}" in text
    with page.expect_download() as download:
        page.get_by_role("button", name="Result as ECSV").click()
    download.value.save_as(tmp_path / "result.ecsv")
    table = Table.read(tmp_path / "result.ecsv")
    assert table["teff"][0] == pytest.approx(expected.values["teff"])
    assert table["rv_std"].unit == "km / s"


def test_fit_can_be_stopped(open_page, until):
    page = open_page()
    # one right after the other: this small fit is over before a pointer is at the other button
    click = "name => Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name(name)).click()"
    page.evaluate(f"() => ['fit', 'stop'].forEach({click})")
    until(lambda: "Stopped" in page.evaluate(TEXT, "fit-text") or "Result" in page.evaluate(TEXT, "fit-text"))
    assert "Stopped" in page.evaluate(TEXT, "fit-text")
    assert page.get_by_role("button", name="Fit the spectrum").is_enabled()


def test_broken_file_has_an_alert_and_others_are_shown(open_page, read):
    page = open_page()
    alert = page.get_by_role("alert")
    assert "broken.fits" in alert.inner_text()
    assert "damaged" in alert.inner_text()
    assert np.isfinite(read(page, "data")["y"]).sum() > 500


def test_invalid_address_has_alerts(open_page):
    page = open_page("?teff=99999&logg=<b>x</b>&low=8530&high=8510&line=-3")
    text = " ".join(page.get_by_role("alert").all_inner_texts())
    for part in ("teff=99999", "logg=<b>x</b>", "narrower than", "line=-3"):
        assert part in text


def test_two_pages_do_not_disturb_each_other(open_page, read, until, generator):
    query = "?low=8510&high=8530&teff=5200&logg=4&feh=0&power=none"
    one, two = open_page(query), open_page(query)
    before = read(two, "curve")
    one.evaluate(SET, ["slider-teff", 5300.0])
    two.evaluate(SET, ["slider-logg", 4.2])
    until(lambda: "teff=5300" in url(one))
    until(lambda: "logg=4.2" in url(two))
    assert not np.array_equal(read(two, "curve")["y"], before["y"])
    for page, labels in ((one, [5300.0, 4.0, 0.0]), (two, [5200.0, 4.2, 0.0])):
        curve = read(page, "curve")
        np.testing.assert_allclose(curve["y"], predicted(generator, labels, curve["x"]), atol=1e-12)
    assert one.evaluate(MODEL, ["slider-logg", "value"]) == 4.0


def test_order_is_shown_with_its_residuals(open_page, read, until, generator, star):
    page = open_page("?teff=5200&logg=4&feh=0&rv=12")
    page.get_by_label("Order").select_option(index=1)
    until(lambda: read(page, "data")["x"][0] < 8501.2)
    order = read_spectrum(star, medium="vacuum").orders[0]
    data, rest = read(page, "data"), read(page, "residuals")
    model = generator.observe([[5200.0, 4.0, 0.0]], order.wavelength, rv=12.0, resolving_power=POWER)[0]
    np.testing.assert_array_equal(data["x"][:-1], order.wavelength)
    seen = np.isfinite(data["y"][:-1])
    assert seen.mean() > 0.99
    np.testing.assert_allclose((data["y"] - rest["y"])[:-1][seen], model[seen], atol=2e-6)
    assert np.nanmedian(data["y"]) == pytest.approx(np.median(model), abs=0.01)


def test_view_is_exported(open_page, generator, tmp_path):
    page = open_page("?low=8510&high=8515&teff=5200&logg=4&feh=0")
    for name in ("PNG", "CSV"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        download.value.save_as(tmp_path / name)
    assert (tmp_path / "PNG").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "CSV").read_text().splitlines()))
    own = [row for row in rows if row["order"] == "generator"]
    x = np.array([float(row["wavelength"]) for row in own])
    assert len(x) == ((generator.wavelength_ >= 8510) & (generator.wavelength_ <= 8515)).sum()
    assert len(rows) > len(own)


@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_its_width(open_page, until, width):
    page = open_page("?line=5", width=width, height=844)
    until(lambda: page.evaluate(MODEL, ["flux", "inner_width"]) > 200)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    boxes = page.evaluate(BOXES)
    assert len(boxes) > 20
    assert all(left >= -1 and right <= width + 1 for left, right in boxes), boxes


WALK = """
function* walk(root) {
  for (const element of root.querySelectorAll("*")) {
    yield element;
    if (element.shadowRoot) yield* walk(element.shadowRoot);
  }
}
function shown(element) {
  const box = element.getBoundingClientRect();
  return box.width > 0 && box.height > 0 && getComputedStyle(element).visibility != "hidden";
}
"""
BOXES = f"""() => {{ {WALK}
  const found = [];
  for (const element of walk(document)) {{
    if (!shown(element) || !element.matches("input, button, select, td, p, .noUi-target")) continue;
    const box = element.getBoundingClientRect();
    found.push([box.left, box.right]);
  }}
  return found;
}}"""
NAMES = f"""() => {{ {WALK}
  const found = [];
  for (const element of walk(document)) {{
    if (!shown(element) || !element.matches("button, input, select, [tabindex='0'], .bk-events")) continue;
    if (element.matches("[aria-hidden='true'][tabindex='-1']")) continue;  // arrow keys in the field do the same
    const label = element.labels?.length ? element.labels[0].innerText : "";
    const name = element.getAttribute("aria-label") || label || element.innerText || element.title;
    found.push([element.outerHTML.slice(0, 80), name]);
  }}
  return found;
}}"""
CONTRAST = f"""() => {{ {WALK}
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const part = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const found = [];
  for (const element of walk(document)) {{
    const own = [...element.childNodes].some((node) => node.nodeType == 3 && node.textContent.trim());
    if (!(own || element.matches("input")) || !shown(element) || element.matches("style, script, option")) continue;
    let below = element, back = [255, 255, 255];
    while (below) {{
      const color = parse(getComputedStyle(below).backgroundColor);
      if (color.length == 3 || color[3] > 0.99) {{ back = color; break; }}
      below = below.parentElement ?? below.getRootNode().host;
    }}
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(back)];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML.slice(0, 90)]);
  }}
  return found;
}}"""


def test_controls_have_names_and_texts_have_contrast(open_page, until):
    page = open_page("?line=5&logg=4.5")
    until(lambda: len(page.evaluate(NAMES)) > 25)
    until(lambda: not [html for html, name in page.evaluate(NAMES) if not name.strip()])
    contrast = page.evaluate(CONTRAST)
    assert len(contrast) > 40
    assert not [found for found in contrast if found[0] < 4.5]
    assert page.evaluate("() => document.documentElement.lang") == "en"


def test_tab_reaches_every_control_and_shows_where_it_is(open_page):
    page = open_page()
    reached, hidden = set(), set()
    focused = """() => {
      let element = document.activeElement;
      while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
      if (!element || element == document.body) return ["", ""];
      const name = element.getAttribute("aria-label") || element.innerText || element.labels?.[0]?.innerText;
      return [name || element.title || element.outerHTML, getComputedStyle(element).outline];
    }"""
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(focused)
        reached.add(name)
        if name and outline != "rgb(0, 90, 156) solid 3px":
            hidden.add((name, outline))
    wanted = {"Teff [K]", "Radial velocity [km/s]", "Fit the spectrum", "Zoom in", "next line", "PNG", "CSV"}
    assert wanted <= reached, reached
    assert not hidden
