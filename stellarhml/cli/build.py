"""The command `stellarhml build`."""

import argparse
import time
from pathlib import Path

from stellarhml.cli.terminal import (
    DONE,
    add_jobs,
    add_ranges,
    positive,
    ranges_of,
    refuse_input,
    report,
    require_file,
)
from stellarhml.grids.family_names import GRID_FAMILIES

DESCRIPTION = """\
Read the spectra of a model grid, decompose them into lines, and save a spectrum generator.
"""

EPILOG = """\
input:
  GRID is a folder or a file, whose family is recognised, or stated with --family:
    phoenix         PHOENIX's own layout: WAVE_PHOENIX-ACES-AGSS-COND-2011.fits and, below it, files like
                    PHOENIX-ACES-AGSS-COND-2011/Z-0.0/lte05800-4.50-0.0.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits, also .gz
    phoenix-medres  unpacked archives of PHOENIX's MedResFITS; --medium is needed
    fits            any folder of FITS spectra with labels in their headers: --labels teff=TEFF,logg=LOGG,feh=FEH
    starfish        HDF5 grid of Starfish
    arrays          .npz, .h5 or .zarr with arrays labels, wavelength, flux, and perhaps label_names, unit, medium
    sonora-bobcat, sonora-diamondback, cool-tlusty
                    folders that the package gollum reads; --medium is needed
  Unit (--unit) and medium (--medium) of wavelengths, and names of labels (--labels), are never guessed: where files do
  not state them, an error says what to state. Ranges include their ends, and select values that the grid has.

resolving power:
  By default spectra are used as they are, and the generator serves any spectrograph. With --resolving-power R they are
  broadened to R and have five pixels to a resolution element: a smaller generator, built in less time, for resolving
  powers of R or less. It refuses higher ones, and transmissions of the atmosphere.

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
  zero, negative or constant are an error; spectra that seem to belong to other nodes are named in a warning. Fluxes in
  any unit are divided by a black body of the label teff, if there is one, and by a continuum; --normalised leaves them.

method:
  The defaults differ from the paper: saturating line profiles, fitted by Levenberg-Marquardt; a low-rank basis for the
  residuals of the line model; piecewise cubic interpolation. --paper takes the paper's settings; they need a band of
  more than 120 angstrom, and leave out lines within 30 angstrom of either end.

examples:
  stellarhml build PHOENIX/ --out generator.asdf
  stellarhml build PHOENIX/ --teff 5000 6000 --logg 4 5 --feh -0.5 0 --wavelength 8450 8700 --out g.asdf
  stellarhml build PHOENIX/ --alpha 0 0.4 --wavelength 8460 8700 --resolving-power 11500 --out rvs.asdf
  stellarhml build SPECTRA/ --labels teff=TEFF,logg=LOGG,vmic=XI --medium air --unit nm --select vmic 1 2 --out g.asdf
  stellarhml build grid.hdf5 --out generator.asdf

exit codes:
  0 done, 2 error, 130 interrupted, 143 ended by SIGTERM
"""


def add_arguments(parser):
    """Add the arguments of the command."""
    grid = parser.add_mutually_exclusive_group(required=True)
    grid.add_argument("grid", metavar="GRID", nargs="?", help="folder or file of the grid")
    grid.add_argument("--phoenix", metavar="FOLDER", help="the same as GRID --family phoenix")
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write: NAME.asdf or NAME.joblib")
    parser.add_argument("--store", metavar="FOLDER", help="folder of what is done, to go on from [NAME.store]")
    chosen = parser.add_argument_group("selection")
    add_ranges(chosen)
    chosen.add_argument(
        "--select",
        nargs=3,
        action="append",
        default=[],
        metavar=("LABEL", "LO", "HI"),
        help="range of any other label; may be given again",
    )
    chosen.add_argument(
        "--wavelength",
        nargs=2,
        type=float,
        metavar=("LO", "HI"),
        help="range in vacuum angstrom [phoenix: 8038 12849, others: all]",
    )
    chosen.add_argument("--allow-missing", action="store_true", help="go on if grid nodes have no file")
    files = parser.add_argument_group("what the files hold")
    files.add_argument(
        "--family", metavar="NAME", choices=GRID_FAMILIES, help=f"{', '.join(GRID_FAMILIES)} [recognised]"
    )
    files.add_argument(
        "--labels",
        metavar="LIST",
        type=label_list,
        help="fits: keywords of labels, teff=TEFF,logg=LOGG; arrays: names, teff,logg",
    )
    files.add_argument(
        "--medium", choices=("vacuum", "air"), help="medium of the wavelengths, where files do not state it"
    )
    files.add_argument(
        "--unit", choices=("angstrom", "nm", "um", "m"), help="unit of the wavelengths, where files do not state it"
    )
    files.add_argument(
        "--axis", choices=("linear", "log10", "ln"), help="fits: wavelengths or logarithms in headers [as they state]"
    )
    files.add_argument("--wavelength-file", metavar="FILE", help="fits: file of the wavelengths that all spectra share")
    files.add_argument("--wavelength-column", metavar="NAME", help="fits: column of tables [found by its name]")
    files.add_argument("--flux-column", metavar="NAME", help="fits: column of tables [found by its name]")
    files.add_argument("--normalised", action="store_true", help="fluxes are divided by their continuum already")
    files.add_argument(
        "--grid-resolving-power", metavar="R", type=positive, help="resolving power that the spectra have [unlimited]"
    )
    method = parser.add_argument_group("method")
    method.add_argument(
        "--resolving-power", metavar="R", type=positive, help="broaden to R, for one spectrograph [as they are]"
    )
    method.add_argument("--prominence", metavar="X", type=positive, help="prominence of the weakest line [0.005]")
    method.add_argument("--paper", action="store_true", help="the paper's settings in place of the defaults")
    add_jobs(method, 1)


def label_list(text):
    """Convert names of labels: a dict of name=KEYWORD, or a list of names."""
    parts = [part.strip() for part in text.split(",")]
    pairs = [part.partition("=") for part in parts]
    if not all(name for name, *_ in pairs) or len({name for name, *_ in pairs}) < len(pairs):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name, or one twice")
    if all(mark and key for _, mark, key in pairs):
        return {name.strip(): key.strip() for name, _, key in pairs}
    if any(mark for _, mark, _ in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} mixes NAME=KEYWORD (for headers) and NAME (for arrays)")
    return parts


def _selection(arguments):
    """Ranges of all labels by name."""
    chosen = ranges_of(arguments)
    for name, low, high in arguments.select:
        try:
            chosen[name] = float(low), float(high)
        except ValueError as error:
            raise ValueError(f"--select {name} {low} {high} needs a name and two numbers.") from error
    return chosen


def _read_grid(arguments, cache):
    """Load the grid that the arguments choose, to the file `cache`."""
    from stellarhml.grids.loading import load_grid

    named = ("labels", "medium", "unit", "axis", "wavelength_file", "wavelength_column", "flux_column")
    return load_grid(
        arguments.grid,
        "phoenix" if arguments.phoenix is not None else arguments.family,
        wavelength="auto" if arguments.wavelength is None else tuple(arguments.wavelength),
        resolving_power=arguments.resolving_power,
        grid_resolving_power=arguments.grid_resolving_power,
        **{name: getattr(arguments, name) for name in named},
        missing="report" if arguments.allow_missing else "raise",
        cache=cache,
        verbose=True,
        **_selection(arguments),
    )


def run(arguments):
    """Build a generator and save it."""
    from stellarhml.workflows.build_store import open_build_store

    if arguments.normalised and arguments.paper:
        raise ValueError("--paper includes the paper's normalisation, which --normalised leaves out. Give one of them.")
    arguments.grid = arguments.grid or arguments.phoenix
    out = Path(arguments.out)
    require_file(out)
    refuse_input(out, [arguments.grid])
    folder = out.with_suffix(".store") if arguments.store is None else Path(arguments.store)
    for path, read in ((out, "--out"), (Path(arguments.grid), "the grid")):
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
    grid = _read_grid(arguments, store.cache)
    again = before is not None and store.cache_version == before
    settings = {"paper": arguments.paper, "prominence": arguments.prominence, "n_jobs": arguments.jobs}
    settings["normalised"] = arguments.normalised
    with tally_stored() as tally:
        generator = build_generator(grid, out, **settings, store=store.folder, verbose=True)
    rms = reproduction_rms(generator, grid.flux, grid.labels)
    print(
        f"{len(grid.labels)} spectra of {grid.wavelength.size} pixels, {grid.wavelength[0]:.2f}-"
        f"{grid.wavelength[-1]:.2f} angstrom: {len(generator.decomposer_.line_catalog_)} lines. Residual RMS at the "
        f"nodes {rms:.5f} of the continuum. {time.perf_counter() - start:.1f} s."
    )
    if grid.resolving_power is not None:
        print(f"resolving power of the generator: {grid.resolving_power:g}; spectra of a higher one are refused")
    if note := constant_labels(grid):
        print(f"note: the grid has {note}")
    if again or tally["read"]:
        spectra = "the spectra and " if again else ""
        print(f"resumed: {spectra}{tally['read']} of {sum(tally.values())} results were in {store.folder}")
    print(f"generator: {out} ({out.stat().st_size / 1e6:.1f} MB)")
