"""The command `stellarhml fetch`."""

from pathlib import Path

from stellarhml.cli.terminal import DONE, add_ranges, at_least, positive, ranges_of

DESCRIPTION = """\
Download PHOENIX-ACES spectra, about 6 MB each, into a folder in PHOENIX's own layout, for `stellarhml build FOLDER`.
"""

EPILOG = """\
ranges:
  They include their ends, and select values of the library: Teff 2300 to 12000 K, log g 0 to 6, [Fe/H] -4 to 1. A range
  that is left out selects all values. One value of --alpha is no label of the grid; two are a range of values, which
  is. Not every combination exists: nodes that the server lacks are an error before anything is downloaded, or with
  --allow-missing left out.

output:
  FOLDER: WAVE_PHOENIX-ACES-AGSS-COND-2011.fits and PHOENIX-ACES-AGSS-COND-2011/, as on the server.

interruptions:
  The number of files and their size are printed first. A file gets its name when it is complete and has been read; the
  same command goes on with those that are missing. Files that are there are not downloaded again.

examples:
  stellarhml fetch phoenix --teff 5000 6000 --logg 4 5 --feh -0.5 0 --out PHOENIX/
  stellarhml fetch phoenix --teff 5000 6000 --logg 4 5 --feh -0.5 0 --out PHOENIX/ --dry-run

exit codes:
  0 done, 2 error, 130 interrupted, 143 ended by SIGTERM
"""


def add_arguments(parser):
    """Add the arguments of the command."""
    parser.add_argument("library", metavar="LIBRARY", choices=("phoenix",), help="phoenix: PHOENIX-ACES, HiResFITS")
    add_ranges(parser)
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder of the grid; created if needed")
    parser.add_argument("--allow-missing", action="store_true", help="go on if the server lacks nodes")
    parser.add_argument("--dry-run", action="store_true", help="print number and size of the files, download nothing")
    parser.add_argument("--base-url", metavar="URL", help="address of the folder [University of Goettingen]")
    parser.add_argument("--retries", metavar="N", type=at_least(0), default=3, help="repetitions of a request [3]")
    parser.add_argument("--timeout", metavar="S", type=positive, default=30, help="seconds without an answer [30]")


def run(arguments):
    """Download spectra."""
    from stellarhml.grids.fetch import PHOENIX_URL, PhoenixDownload

    folder = Path(arguments.out)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, but --out needs a folder. Choose another name.")
    download = PhoenixDownload(
        folder,
        dict.fromkeys(("teff", "logg", "feh")) | {"alpha": 0.0} | ranges_of(arguments),
        base_url=arguments.base_url or PHOENIX_URL,
        n_retries=arguments.retries,
        timeout=arguments.timeout,
        missing="report" if arguments.allow_missing else "raise",
        verbose=True,
    )
    there = f"; {download.n_there} spectra are there already" if download.n_there else ""
    print(f"to download: {download.announcement}{there}", flush=True)
    if arguments.dry_run:
        return DONE
    if download.n_files:
        download.run(verbose=True)
    print(f"complete: {folder}")
    return DONE
