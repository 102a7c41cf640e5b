"""The explorer: time from a slider to its picture in a real Chromium, and the server's memory over many moves.

Run: python benchmarks/explore.py [--generator FILE] [--moves 2000] [--repeats 60] [--resolving-power R]

Without --generator that of the packaged grid, which is built when it is first asked for. A slider's value is set in the
browser; the picture is there when the new curve has arrived, has been drawn, and the browser has shown a frame after
it. Three windows are timed: one line (4 angstrom), 60 angstrom, and the whole band. --moves sets sliders at random,
as fast as the pictures come, and reads the server's memory before and after. Needs bokeh, playwright and a chromium.
"""

import argparse
import re
import shutil
import subprocess
import sys

import numpy as np
from shared import finish

MOVE = """async ([name, part]) => {
  const model = Bokeh.documents[0].get_model_by_name(`slider-${name}`);
  const curve = Bokeh.documents[0].get_model_by_name("curve").properties.data.change;
  const value = model.start + part * (model.end - model.start);
  if (value == model.value) return 0;
  const begin = performance.now();
  await new Promise((ok) => {
    const arrived = () => {
      curve.disconnect(arrived);
      // a frame that begins after the plot was told, and a task after that frame
      requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(ok)));
    };
    curve.connect(arrived);
    model.value = value;
  });
  return performance.now() - begin;
}"""
READY = "() => window.Bokeh?.documents[0]?.is_idle && Bokeh.documents[0].get_model_by_name('curve').data.x.length > 0"
SCREEN = {"width": 1280, "height": 900}


def serve(args):
    """Start the command; give the process and the address of its page."""
    command = [sys.executable, "-m", "stellarhml.cli.main", "explore", "--no-browser", "--port", "0"]
    command += ["--generator", args.generator] if args.generator else []
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in server.stdout:
        if found := re.search(r"http://\S+(?=/ )", line):
            return server, found.group()
    sys.exit("The server did not start.")


def memory_mb(pid):
    """Resident memory of a process now, in MB."""
    with open(f"/proc/{pid}/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def heap_mb(page):
    """Heap of a page after its garbage was collected, in MB."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return used / 1e6


def open_page(browser, address):
    page = browser.new_page(viewport=SCREEN)
    page.on("pageerror", lambda error: sys.exit(f"The page has an error: {error}"))
    page.goto(address)
    page.wait_for_function(READY)
    page.wait_for_timeout(1000)
    return page


def latency(page, names, repeats, rng):
    """Milliseconds of moves, with rests between, as of a hand that stops to look."""
    times = []
    for k in range(repeats + 5):
        times.append(page.evaluate(MOVE, [names[k % len(names)], float(rng.uniform(0.02, 0.98))]))
        page.wait_for_timeout(250)
    return np.array(times[5:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", help="file [packaged grid]")
    parser.add_argument("--moves", type=int, default=0, help="moves over which memory is watched [0]")
    parser.add_argument("--repeats", type=int, default=60, help="moves that are timed in each window [60]")
    parser.add_argument("--resolving-power", type=float, help="of the line spread [none]")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    rng, figures = np.random.default_rng(0), {}
    path = shutil.which("chromium") or shutil.which("google-chrome")
    server, address = serve(args)
    power = f"&power={args.resolving_power:g}" if args.resolving_power else ""
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
            page = open_page(browser, f"{address}/")
            names = page.evaluate("() => [...new URLSearchParams(location.search).keys()]")
            names = names[: names.index("low")]
            low, high = page.evaluate("() => Bokeh.documents[0].get_model_by_name('window').bounds")
            page.close()
            middle = (low + high) / 2
            windows = {"line": (middle - 2, middle + 2), "60A": (middle - 30, middle + 30), "band": (low, high)}
            for name, (first, last) in windows.items():
                page = open_page(browser, f"{address}/?low={first}&high={last}{power}")
                times = latency(page, names, args.repeats, rng)
                figures[f"median_ms_{name}"] = round(float(np.median(times)), 1)
                figures[f"p90_ms_{name}"] = round(float(np.quantile(times, 0.9)), 1)
                print(f"{name:>5}: median {np.median(times):.0f} ms, 90 % within {np.quantile(times, 0.9):.0f} ms")
                page.close()
            if args.moves:
                page = open_page(browser, f"{address}/")
                for k in range(100):
                    page.evaluate(MOVE, [names[k % len(names)], float(rng.uniform())])
                before, heap = memory_mb(server.pid), heap_mb(page)
                times = [page.evaluate(MOVE, [names[k % len(names)], float(rng.uniform())]) for k in range(args.moves)]
                after, heap_after = memory_mb(server.pid), heap_mb(page)
                figures |= {"moves": args.moves, "server_mb": round(after, 1), "growth_mb": round(after - before, 1)}
                figures |= {"page_mb": round(heap_after, 1), "page_growth_mb": round(heap_after - heap, 1)}
                first, last = (np.median(part) for part in (times[:200], times[-200:]))
                figures |= {"first_moves_ms": round(float(first), 1), "last_moves_ms": round(float(last), 1)}
                print(f"{args.moves} moves: {before:.0f} MB before, {after:.0f} MB after; ", end="")
                print(f"heap of the page {heap:.1f}, {heap_after:.1f} MB; {first:.0f}, {last:.0f} ms a move")
            browser.close()
    finally:
        server.terminate()
        server.wait(20)
        server.stdout.close()
    finish(generator=args.generator or "packaged", resolving_power=args.resolving_power, **figures)


if __name__ == "__main__":
    main()
