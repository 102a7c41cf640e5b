"""Make the pictures of the explorer in docs/_static: wide, narrow, after a fit, and with a selected line.

Run: python tools/explorer_screenshots.py [--out docs/_static]

On the packaged grid, with a mock star at a resolving power of 55,000. Needs bokeh, playwright and a chromium.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from stellarhml.workflows.generators import packaged_generator

STAR = {"rv": 18.0, "vsini": 5.0, "resolving_power": 55_000.0}
LABELS = [5640.0, 4.4, -0.15]
READY = "() => window.Bokeh?.documents[0]?.is_idle && Bokeh.documents[0].get_model_by_name('curve').data.x.length > 0"
PLACE = """() => {
  const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name("flux"));
  const { x, y } = Bokeh.documents[0].get_model_by_name("ticks").data;
  const deepest = Array.from(y).indexOf(Math.max(...y));
  const box = view.el.getBoundingClientRect();
  return [box.x + view.frame.x_scale.compute(x[deepest]), box.y + view.frame.y_scale.compute(1.07)];
}"""
FITTED = "() => Bokeh.documents[0].get_model_by_name('fit-text').text.includes('Result')"
MAPPED = "() => Bokeh.documents[0].get_model_by_name('manifold').data.image.length > 0"


def write_star(path):
    """A mock star of two orders, with noise and continua."""
    rng, generator = np.random.default_rng(0), packaged_generator()
    orders = [np.linspace(8455, 8570, 2048), np.linspace(8580, 8695, 2048)]
    fluxes = generator.observe([LABELS], orders, **STAR)
    lines = ["# wavelength flux error order"]
    for i, (x, flux) in enumerate(zip(orders, fluxes, strict=True)):
        level = 1000 * (1 + 0.3 * np.sin(np.linspace(0, 3, len(x))))
        seen = level * (flux[0] + 0.01 * rng.normal(size=len(x)))
        lines += [f"{a:.5f} {b:.3f} {c:.3f} {i}" for a, b, c in zip(x, seen, 0.01 * level, strict=True)]
    path.write_text("\n".join(lines) + "\n")


def take(browser, address, out):
    """Take the four pictures."""

    def open_page(query="", width=1280, height=900):
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(f"{address}/{query}")
        page.wait_for_function(READY)
        page.wait_for_timeout(1500)
        return page

    def keep(page, name, **options):
        page.wait_for_timeout(1200)
        path = out / f"explorer-{name}.png"
        page.screenshot(path=path, **options)
        with Image.open(path) as picture:  # 256 colours are enough, and a third of the size
            picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        size = path.stat().st_size
        print(f"{path}: {size / 1e3:.0f} kB")
        if size > 200_000:
            sys.exit("A picture is over 200 kB.")

    query = "?teff=5400&logg=4.5&feh=-0.3&low=8490&high=8520"
    page = open_page(query)
    keep(page, "wide")
    page.mouse.click(*page.evaluate(PLACE))
    page.wait_for_function(MAPPED)
    keep(page, "line", full_page=True)
    page.close()
    page = open_page(query)
    page.get_by_role("button", name="Fit the spectrum").click()
    page.wait_for_function(FITTED, timeout=120_000)
    keep(page, "fit")
    page.close()
    keep(open_page(query, 390, 844), "narrow")


def main():
    """Serve, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "_static", help="folder")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        write_star(Path(folder) / "star.txt")
        command = [sys.executable, "-m", "stellarhml.cli.main", "explore", "--no-browser", "--port", "0"]
        command += ["--medium", "vacuum", "--resolving-power", f"{STAR['resolving_power']:g}", "star.txt"]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            address = next(found.group() for line in server.stdout if (found := re.search(r"http://\S+(?=/ )", line)))
            with sync_playwright() as driver:
                path = shutil.which("chromium") or shutil.which("google-chrome")
                browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
                take(browser, address, args.out)
                browser.close()
        finally:
            server.terminate()
            server.wait(20)
            server.stdout.close()


if __name__ == "__main__":
    main()
