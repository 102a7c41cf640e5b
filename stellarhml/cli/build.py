"""The command `stellarhml build`."""

import time
from pathlib import Path

from stellarhml.cli.terminal import DONE, add_grid, add_jobs, positive, read_grid, refuse_input, require_file

DESCRIPTION = """\
Read PHOENIX-ACES spectra from a local folder, decompose them into lines, and save a spectrum generator.
"""

EPILOG = """\
input:
  FOLDER has PHOENIX's own layout: WAVE_PHOENIX-ACES-AGSS-COND-2011.fits and, below it, files like
  PHOENIX-ACES-AGSS-COND-2011/Z-0.0/lte05800-4.50-0.0.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits.
  Ranges include their ends. Spectra are used at their own resolution. All spectra are in memory at once, 4 bytes a
  pixel.

output:
  FILE: the generator. NAME.asdf holds no code and is safe to share and to open. NAME.joblib is a Python pickle, which
  runs the code of its author when it is opened.

grid:
  Two nodes at least, each given once. A label with one value is not inferred. Files with a stretch of pixels that are
  zero, negative or constant are an error; spectra that seem to belong to other nodes are named in a warning.

method:
  The defaults differ from the paper: saturating line profiles, fitted by Levenberg-Marquardt; a low-rank basis for the
  residuals of the line model; piecewise cubic interpolation. --paper takes the paper's settings; they need a band of
  more than 120 angstrom, and leave out lines within 30 angstrom of either end.

examples:
  stellarhml build --phoenix PHOENIX/ --out generator.asdf
  stellarhml build --phoenix PHOENIX/ --teff 5000 6000 --logg 4 5 --feh -0.5 0 --wavelength 8450 8700 --out g.asdf

exit codes:
  0 done, 2 error
"""


def add_arguments(parser):
    """Add the arguments of the command."""
    add_grid(parser, required=True)
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write: NAME.asdf or NAME.joblib")
    parser.add_argument("--prominence", metavar="X", type=positive, help="prominence of the weakest line [0.005]")
    parser.add_argument("--paper", action="store_true", help="the paper's settings in place of the defaults")
    add_jobs(parser, 1)


def run(arguments):
    """Build a generator and save it."""
    from stellarhml.workflows.generators import build_generator, constant_labels, reproduction_rms

    out = Path(arguments.out)
    require_file(out)
    refuse_input(out, [arguments.phoenix])
    start = time.perf_counter()
    grid = read_grid(arguments)
    settings = {"paper": arguments.paper, "prominence": arguments.prominence, "n_jobs": arguments.jobs}
    generator = build_generator(grid, out, **settings, verbose=True)
    rms = reproduction_rms(generator, grid.flux, grid.labels)
    print(
        f"{len(grid.labels)} spectra of {grid.wavelength.size} pixels, {grid.wavelength[0]:.2f}-"
        f"{grid.wavelength[-1]:.2f} angstrom: {len(generator.decomposer_.line_catalog_)} lines. Residual RMS at the "
        f"nodes {rms:.5f} of the continuum. {time.perf_counter() - start:.1f} s."
    )
    if note := constant_labels(grid):
        print(f"note: the grid has {note}")
    print(f"generator: {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return DONE
