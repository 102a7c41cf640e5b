"""A running server, on a small grid, with a mock star and a broken file beside it, and pages in a real browser."""

import copy
import shutil
import time

import numpy as np
import pytest
from explorer_server import READY, serve
from mock_line_list import mock_line_list
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from stellarhml import BayesianStellarRegressor, SpectrumGenerator, load, save
from stellarhml.datasets import make_stellar_grid

TRUTH = {"teff": 5230.0, "logg": 4.13, "feh": -0.11, "rv": 12.0, "vsini": 6.0}
POWER = 40_000
# data of a source in the browser
READ = """name => {
  const data = Bokeh.documents[0].get_model_by_name(name).data;
  return Object.fromEntries(Object.entries(data).map(([key, part]) => [key, Array.from(part)]));
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("explore")


@pytest.fixture(scope="module")
def generator(folder):
    """27 nodes, 4,000 pixels, 60 lines; loaded from the file that the server loads."""
    grid = make_stellar_grid(n_teff=3, n_logg=3, n_feh=3, n_pixels=4000, n_lines=60, random_state=3)
    made = SpectrumGenerator(wavelength=grid.wavelength, label_names=grid.label_names).fit(grid.labels, grid.flux)
    save(made, folder / "generator.asdf")
    return load(folder / "generator.asdf")


@pytest.fixture(scope="module")
def tagged(generator):
    """The same generator with species of all lines but the fifth."""
    return copy.copy(generator).tag_lines(mock_line_list(generator, left_out=[4]))


@pytest.fixture(scope="module")
def regressor(generator):
    return BayesianStellarRegressor.from_generator(generator, verbose=False)


@pytest.fixture(scope="module")
def star(folder, generator):
    """A file with two orders of a mock star, with a continuum and noise."""
    rng = np.random.default_rng(0)
    first, last = generator.wavelength_[[0, -1]]
    middle = (first + last) / 2
    orders = [np.linspace(first + 1, middle - 1, 1500), np.linspace(middle + 1, last - 1, 1500)]
    labels = [[TRUTH[name] for name in generator.label_names_]]
    motion = {name: TRUTH[name] for name in ("rv", "vsini")}
    lines = ["# wavelength flux error order"]
    for i, flux in enumerate(generator.observe(labels, orders, resolving_power=POWER, **motion)):
        level = 100 + 20 * np.sin(np.linspace(0, 2, flux.shape[1]))
        seen = level * (flux[0] + 0.005 * rng.normal(size=flux.shape[1]))
        table = zip(orders[i], seen, 0.005 * level, strict=True)
        lines += [f"{x:.5f} {y:.5f} {error:.5f} {i}" for x, y, error in table]
    path = folder / "star.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def air(folder):
    """A file with the transmission of two species, which resolves their lines."""
    wavelength = np.exp(np.arange(np.log(8490), np.log(8710), 3e-7))
    sigma = 2.5 / 299792.458
    columns = [np.ones_like(wavelength) for _ in range(2)]
    for column, lines in zip(columns, (np.arange(8503.3, 8700, 7.7), np.arange(8506.1, 8700, 12.3)), strict=True):
        for line in lines:
            column *= np.exp(-0.6 * np.exp(-0.5 * (np.log(wavelength / line) / sigma) ** 2))
    path = folder / "air.csv"
    rows = "\n".join(f"{x:.5f},{a:.6f},{b:.6f}" for x, a, b in zip(wavelength, *columns, strict=True))
    path.write_text(f"wavelength,H2O,O2\n{rows}\n")
    return path, wavelength, *columns


AMOUNTS = {"H2O": 1.4, "O2": 0.8}


@pytest.fixture(scope="module")
def humid_star(folder, generator, air):
    """A file with two orders of the mock star behind the atmosphere: fine spectra that are multiplied and convolved."""
    rng, (_, fine, water, oxygen) = np.random.default_rng(1), air
    labels = [[TRUTH[name] for name in generator.label_names_]]
    motion = {name: TRUTH[name] for name in ("rv", "vsini")}
    sharp = generator.observe(labels, fine, **motion)[0]
    light = np.nan_to_num(sharp, nan=1.0) * water ** AMOUNTS["H2O"] * oxygen ** AMOUNTS["O2"]
    seen = gaussian_filter1d(light, 1 / (POWER * 2.3548200450309493 * 3e-7), mode="nearest")
    lines = ["# wavelength flux error order"]
    for i, (low, high) in enumerate([(8503, 8597), (8603, 8697)]):
        pixels = np.linspace(low, high, 1500)
        width = (pixels[1] - pixels[0]) / pixels.mean() / 3e-7
        level = 100 + 20 * np.sin(np.linspace(0, 2, len(pixels)))
        flux = np.interp(pixels, fine, uniform_filter1d(seen, round(width)))
        flux = level * (flux + 0.005 * rng.normal(size=len(pixels)))
        table = zip(pixels, flux, 0.005 * level, strict=True)
        lines += [f"{x:.5f} {y:.5f} {error:.5f} {i}" for x, y, error in table]
    path = folder / "humid.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def address(folder, generator, star):
    """Address of a server that the command line started."""
    pytest.importorskip("bokeh", reason="needs bokeh")
    (folder / "broken.fits").write_text("no spectrum\n")
    options = ["--medium", "vacuum", "--generator", "generator.asdf", "--resolving-power", str(POWER)]
    with serve(folder, *options, "star.txt", "broken.fits") as (_, page):
        yield page


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs a chromium on the path")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, address):
    """Open a page; at the end, no page may have had an error in its console."""
    errors, contexts = [], []

    def open_one(query="", width=1280, height=900):
        context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/{query}")
        page.wait_for_function(READY, timeout=30_000)
        page.wait_for_timeout(400)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not errors, errors


@pytest.fixture
def read():
    """Read the columns of a source of data in a page."""

    def columns(page, name):
        return {key: np.array(part, dtype=float) for key, part in page.evaluate(READ, name).items()}

    return columns


@pytest.fixture
def until():
    """Wait until a function returns a true value, and return it."""

    def wait(function, seconds=20.0):
        end = time.monotonic() + seconds
        while True:
            found = function()
            if found or time.monotonic() > end:
                assert found
                return found
            time.sleep(0.05)

    return wait
