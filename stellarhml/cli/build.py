"""The command `stellarhml build`."""

import time
from pathlib import Path

from stellarhml.cli.terminal import DONE, add_grid, add_jobs, positive, read_grid, refuse_input, report, require_file

DESCRIPTION = """\
Read PHOENIX-ACES spectra from a local folder, decompose them into lines, and save a spectrum generator.
"""

EPILOG = """\
input:
  FOLDER has PHOENIX's own layout: WAVE_PHOENIX-ACES-AGSS-COND-2011.fits and, below it, files like
  PHOENIX-ACES-AGSS-COND-2011/Z-0.0/lte05800-4.50-0.0.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits.
  Ranges include their ends. Spectra are used at their own resolution.

output:
  FILE: the generator. NAME.asdf holds no code and is safe to share and to open. NAME.joblib is a Python pickle, which
  runs the code of its author when it is opened. It is the same to the last bit for any --jobs.

interruptions:
  The store is a folder with the spectra cut to the band and every line fit, each written as soon as it is done. If the
  build is interrupted or killed, or the disk is full, start the same command again: it goes on from there, to the same
  generator. What depends on other settings or on changed files is never used. By default the store is NAME.store beside
  --out, and is removed once the generator is written; a folder given with --store is kept for further builds, and may
  be deleted at any time. For the full band it takes about 5 MB a spectrum while it works, and 3 MB if it is kept.
  A process that dies costs its spectrum a second try; if it dies again, the error names the file.

memory:
  Spectra stay on disk. The full band needs about 0.4 GB for 100 spectra and 1 MB for each further one, and each further
  process about 0.4 GB.

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
  0 done, 2 error, 130 interrupted, 143 ended by SIGTERM
"""


def add_arguments(parser):
    """Add the arguments of the command."""
    add_grid(parser, required=True)
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write: NAME.asdf or NAME.joblib")
    parser.add_argument("--store", metavar="FOLDER", help="folder of what is done, to go on from [NAME.store]")
    parser.add_argument("--prominence", metavar="X", type=positive, help="prominence of the weakest line [0.005]")
    parser.add_argument("--paper", action="store_true", help="the paper's settings in place of the defaults")
    add_jobs(parser, 1)


def run(arguments):
    """Build a generator and save it."""
    from stellarhml.workflows.build_store import open_build_store

    out = Path(arguments.out)
    require_file(out)
    refuse_input(out, [arguments.phoenix])
    folder = out.with_suffix(".store") if arguments.store is None else Path(arguments.store)
    for path, read in ((out, "--out"), (Path(arguments.phoenix), "--phoenix")):
        if folder.resolve() == path.resolve():
            raise ValueError(f"--store {folder} is also {read}. Choose another folder.")
    with open_build_store(folder) as store:
        try:
            _build(arguments, out, store)
        except KeyboardInterrupt:
            report(f"what is done is kept in {folder}; the same command goes on from there")
            raise
        if arguments.store is None:
            store.remove()
        else:
            print(f"store: {folder} ({store.n_bytes / 1e6:.1f} MB), kept for further builds; it may be deleted")
    return DONE


def _build(arguments, out, store):
    """Build a generator in a BuildStore, and save it."""
    from stellarhml._parallel import tally_stored
    from stellarhml.workflows.generators import build_generator, constant_labels, reproduction_rms

    start = time.perf_counter()
    before = store.cache_version
    grid = read_grid(arguments, store.cache)
    again = before is not None and store.cache_version == before
    settings = {"paper": arguments.paper, "prominence": arguments.prominence, "n_jobs": arguments.jobs}
    with tally_stored() as tally:
        generator = build_generator(grid, out, **settings, store=store.folder, verbose=True)
    rms = reproduction_rms(generator, grid.flux, grid.labels)
    print(
        f"{len(grid.labels)} spectra of {grid.wavelength.size} pixels, {grid.wavelength[0]:.2f}-"
        f"{grid.wavelength[-1]:.2f} angstrom: {len(generator.decomposer_.line_catalog_)} lines. Residual RMS at the "
        f"nodes {rms:.5f} of the continuum. {time.perf_counter() - start:.1f} s."
    )
    if note := constant_labels(grid):
        print(f"note: the grid has {note}")
    if again or tally["read"]:
        spectra = "the spectra and " if again else ""
        print(f"resumed: {spectra}{tally['read']} of {sum(tally.values())} results were in {store.folder}")
    print(f"generator: {out} ({out.stat().st_size / 1e6:.1f} MB)")
