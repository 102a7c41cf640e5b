"""Names of labels, files and objects are text on the page, whatever they spell."""

import numpy as np
import pytest
from explorer_server import READY, serve

from stellarhml import SpectrumGenerator, save
from stellarhml.datasets import make_stellar_grid
from stellarhml.explore.widgets import symbol_of, title_of
from stellarhml.spectra.observed_spectrum import ObservedSpectrum

IMAGE = '<img src=x onerror="window.caught=1;alert(1)">'
SPELLS = (
    f"$$x$$ {IMAGE}",
    f"\\(x\\){IMAGE}</td><script>window.caught=1</script>",
    "\\[\\href{javascript:alert(1)}{x}\\]",
)
SET = "([name, value]) => { Bokeh.documents[0].get_model_by_name(name).value = value; }"
FOUND = """() => {
  const texts = [];
  let made = document.querySelectorAll("img, object, iframe, embed, mjx-container").length;
  const walk = (root) => {
    made += root == document ? 0 : root.querySelectorAll("img, script, object, iframe, embed, svg a").length;
    for (const element of root.querySelectorAll("*")) {
      texts.push(element.textContent);
      if (element.shadowRoot) walk(element.shadowRoot);
    }
  };
  walk(document);
  return [made, texts.join("\\n"), window.caught ?? 0];
}"""


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """A folder with a generator, its labels and its name, and a spectrum with an object, all with markup in them."""
    folder = tmp_path_factory.mktemp("strange")
    grid = make_stellar_grid(n_teff=3, n_logg=3, n_feh=3, n_pixels=1500, n_lines=20, random_state=3)
    made = SpectrumGenerator(wavelength=grid.wavelength, label_names=SPELLS).fit(grid.labels, grid.flux)
    save(made, folder / "<img src=x onerror=alert(2)>.asdf")
    flux = made.predict(grid.labels[13:14])[0]
    order = (grid.wavelength, flux, np.full(len(flux), 0.01))
    for name in ("<img src=x onerror=alert(3)>", "$$y$$<img src=x onerror=alert(4)>"):
        star = ObservedSpectrum([order], {"object": IMAGE, "medium": "vacuum", "resolving_power": 40_000.0})
        star.write(folder / f"{name}.ecsv")
    (folder / "<b onclick=alert(5)>.fits").write_text("no spectrum\n")
    return folder


@pytest.mark.slow
def test_names_with_markup_are_shown_as_text(strange, browser, until):
    alerts, errors = [], []
    files = sorted(path.name for path in strange.iterdir() if path.suffix in (".ecsv", ".fits"))
    with serve(strange, "--generator", "<img src=x onerror=alert(2)>.asdf", "--medium", "vacuum", *files) as (
        _,
        address,
    ):
        context = browser.new_context()
        page = context.new_page()
        page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/?line=2&low=<img src=x onerror=alert(6)>")
        page.wait_for_function(READY, timeout=30_000)
        page.get_by_role("button", name="Fit the spectrum").click()
        text = "() => Bokeh.documents[0].get_model_by_name('fit-text').text"
        until(lambda: "Result" in page.evaluate(text) or "failed" in page.evaluate(text), 90)
        page.evaluate(SET, [f"slider-{SPELLS[0]}", 1e9])
        page.wait_for_timeout(800)
        made, shown, caught = page.evaluate(FOUND)
        title = page.title()
        context.close()
    assert (made, caught, alerts, errors) == (0, 0, [], [])
    assert title.startswith("<img src=x onerror=alert(2)>.asdf")
    for name in (
        "<img src=x onerror=alert(2)>.asdf",
        "<b onclick=alert(5)>.fits",
        IMAGE,
        "low=<img src=x onerror",
        *files,
    ):
        assert name in shown, name
    assert "$\u2060$x" in shown


def test_text_with_marks_of_formulas_has_none_for_bokeh():
    for spell in SPELLS:
        for shown in (title_of(spell), symbol_of(spell)):
            assert not any(mark in shown for mark in ("$$", "\\(", "\\["))
            assert shown.replace("\u2060", "") == spell.removesuffix(" [")
    assert title_of("teff") == "Teff [K]"
    assert title_of("a$b\\c") == "a$b\\c"
