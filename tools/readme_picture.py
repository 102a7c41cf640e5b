"""Draw the picture of the README from the example of an observed star.

    python tools/readme_picture.py --out docs/_static/overview.png

Left one order and its model, right the posterior of the labels, all from examples/plot_observed_star.py, which uses
packaged data.
"""

import argparse
import runpy
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from stellarhml.plotting import CornerDisplay, InferenceDisplay
from stellarhml.plotting._result_text import parameter_value
from stellarhml.storage.atomic_files import atomic_path

EXAMPLE = Path(__file__).parent.parent / "examples" / "plot_observed_star.py"
MAX_BYTES = 150_000
LABELS = ("teff", "logg", "feh")


def main():
    """Run the example and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/_static/overview.png"))
    out = parser.parse_args().out
    star = runpy.run_path(str(EXAMPLE))
    plt.close("all")
    figure = draw(star["result"], star["generator"], star["truth"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        # 256 colours are enough and a third of the bytes
        figure.savefig(temporary, dpi=140, format="png", pil_kwargs={"optimize": True})
        _reduce(temporary)
    size = out.stat().st_size
    print(f"{out}: {size} bytes")
    if size > MAX_BYTES:
        raise SystemExit(f"The picture has {size} bytes, but at most {MAX_BYTES} are allowed. Draw less.")


def draw(result, generator, truth):
    """Draw spectrum and labels side by side; returns the figure."""
    with plt.rc_context({"font.size": 9}):
        figure = plt.figure(figsize=(10, 5), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(5.2, 4.8))
        top, bottom = left.subplots(2, 1, height_ratios=(3, 1))
        shown = {"orders": [1], "generator": generator, "n_lines": 9, "window": (8581, 8606), "title": ""}
        display = InferenceDisplay.from_result(result, ax=(top, bottom), **shown)
        # one order of three: its text and two entries of the legend are left out
        for text in top.texts:
            text.set_visible(text in display.line_texts_[0])
            text.set_fontsize(8)
        handles = [display.flux_lines_[0], display.model_lines_[0]]
        place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.0, "ncols": 2}
        for handle in top.legend(handles=handles, frameon=False, **place).legend_handles:
            handle.set_linewidth(1.5)
        left.suptitle(_values(result), fontsize=9.5, x=0.02, ha="left")
        corner = CornerDisplay.from_result(result, names=LABELS, truths=truth, ax=right.subplots(3, 3), title="")
        for axes in corner.ax_.ravel():
            axes.title.set_fontsize(8)
            axes.set(xlabel=axes.get_xlabel().replace("(cm s$^{-2}$)", ""))
            axes.set(ylabel=axes.get_ylabel().replace("(cm s$^{-2}$)", ""))
        right.align_labels()
    return figure


def _values(result):
    """Velocity and rotation; the panels beside have the labels."""
    rv, vsini = (parameter_value(result, name) for name in ("rv", "vsini"))
    return f"a mock observation: one of three orders, R 55,000, S/N 100\n{rv},  {vsini}"


def _reduce(path):
    """Rewrite a picture with a palette."""
    from PIL import Image

    with Image.open(path) as picture:
        reduced = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    reduced.save(path, format="png", optimize=True)


if __name__ == "__main__":
    main()
