"""Reading of observed spectra from files of all supported formats."""

from pathlib import Path

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.archive_texts import TEXTS, read_archive_text, read_gaia_fits, recognise_text
from stellarhml.spectra.archives import ARCHIVES
from stellarhml.spectra.array_files import read_hdf5, read_npz
from stellarhml.spectra.barycentric import used_cards
from stellarhml.spectra.echelle import list_extensions
from stellarhml.spectra.format_names import FORMATS
from stellarhml.spectra.hpf import is_hpf, read_hpf
from stellarhml.spectra.igrins import is_igrins, read_igrins
from stellarhml.spectra.observed_spectrum import ObservedSpectrum
from stellarhml.spectra.raw_spectrum import convert
from stellarhml.spectra.specutils_objects import read_specutils
from stellarhml.spectra.statements import by_format, check_frame, check_medium, stated_frame, stated_medium
from stellarhml.spectra.tables import META_KEY, is_own_text, read_own_table, read_table
from stellarhml.storage.packed_files import read_bytes


def read_spectrum(
    path,
    *,
    format: str | None = None,
    medium: str | None = None,
    sky: str | None = "subtract",
    sky_scale: float = 1.0,
    error_file=None,
) -> ObservedSpectrum:
    r"""Read an observed spectrum, of one order or many.

    The format is recognised from the content of the file, not from its name:

    =========== ============================================================================== ==========
    format      file                                                                           medium
    =========== ============================================================================== ==========
    hpf         FITS of HPF's instrument team (variances) or of Goldilocks (errors)            vacuum
    igrins      FITS `spec_a0v` of IGRINS; an npz only where this format is stated             vacuum
    table       text, CSV, ECSV, FITS table: `wavelength`, `flux`; `error`, `order`, `mask`    required
    npz         arrays `wavelength` (angstrom), `flux`; `sigma`, `order`, `mask`               required
    hdf5        of Starfish: `waves` or `wls` (angstrom), `fluxes`, `sigmas`, `masks`          required
    eso         ESO phase 3: one row of arrays, columns identified by `TUTYP`                  by `TUCD`
    s1d, s2d    pipeline of ESPRESSO, HARPS, HARPS-N and NIRPS                                 vacuum
    harps       `e2ds` and `s1d` of the old pipeline of HARPS and HARPS-N; no errors           air
    carmenes    `SPEC`, `SIG`, `WAVE`                                                          vacuum
    spirou      `FluxAB`, `WaveAB` of APERO; no errors                                         vacuum
    espadons    text of Libre-ESpRIT (ESPaDOnS, NARVAL), `i.fits` and `p.fits`                 air
    crires      extracted spectra of CRIRES+                                                   vacuum
    apstar      APOGEE: the combined spectrum, at rest; also aspcapstar, apvisit               vacuum
    mwm         SDSS-V mwmStar, at rest: APOGEE, else BOSS                                     vacuum
    sdss        SDSS and BOSS spec: the combined spectrum                                      vacuum
    lamost      LAMOST, low resolution                                                         vacuum
    galah       GALAH DR2 and DR3                                                              air
    gaia        Gaia RVS, at rest; a table of one row for each pixel only where stated         vacuum
    hires       HIRES of KOA, a table of an order                                              vacuum
    stis        HST/STIS `x1d`                                                                 vacuum
    multispec   IRAF: linear, log10, Chebyshev, Legendre                                       required
    image       FITS image of one dimension: linear, log10 or ln wavelengths in its header     required
    ipac        IPAC table; also votable: columns as in a table                                required
    specutils   what else a loader of specutils reads; only where this format is stated        required
    =========== ============================================================================== ==========

    Tables written by `ObservedSpectrum.write` need no `medium`, nor do files that state it: `AIRORVAC`, `VACUUM`,
    `CTYPE1 = 'AWAV'`, `TUCD1 = 'em.wl;obs.atmos'`, a column `wave_vac`, or a comment ``# medium: air``. The frame of
    the wavelengths is read from `SPECSYS`. Columns and arrays after the semicolon are optional, and are found by name
    in any case: errors as `error`, `err`, `flux_err`, `e_flux`, `sigma`, `unc`, `noise`, `std` and the like; variances
    as `variance`, `var`; inverse variances as `ivar`; marks of bad pixels as `mask`, `dq`, `quality`, `flags`,
    `and_mask`. Columns that are not known are named in the notes. Two or three columns without names are wavelength,
    flux and error; more are refused. A `mask` is True, or not 0, where a pixel is bad, as in NumPy; `masks` of
    Starfish are the other way round. Pixels
    whose flux is not finite, or whose error or variance is not finite or not positive, are masked: their error is
    infinite, and their flux 0 where it was not finite. Pixels without increasing wavelengths at the ends of an order
    are trimmed. Both are counted in `meta["notes"]`. Where a file has no errors, 1 % of the median flux of each order
    is used in their place, and `meta["errors_known"]` is False.

    Parameters
    ----------
    path : str or path-like
        The file.
    format : str, default=None
        Format of the file, one of those above. None: recognised from its content.
    medium : {"vacuum", "air"}, default=None
        Medium of the wavelengths; required where the format does not state it. Air is converted to vacuum.
    sky : {"subtract", None}, default="subtract"
        HPF only: whether the flux of the sky fibre is subtracted, and its variance added.
    sky_scale : float, default=1.0
        HPF only: factor of the sky flux before subtraction, the throughput of the science fibre over that of the sky
        fibre, positive. It depends on the order and the night; choose it so that airglow lines vanish.
    error_file : str or path-like, default=None
        IGRINS only: the ``variance.fits`` or ``sn.fits``. None: the extension of variances in the file, or one of
        the two in its folder.

    Returns
    -------
    spectrum : ObservedSpectrum
        The checked spectrum.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SpectrumFileError
        If it cannot be read as a spectrum: damaged, truncated, another format, wavelengths that do not increase.
    ValueError
        If an argument has another value, or `medium` is missing or contradicts the format.
    ImportError
        If the format needs a package that is not installed (hdf5: h5py; specutils).

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from stellarhml.spectra import read_spectrum
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name) / "star.txt"
    >>> _ = path.write_text("# wavelength flux error\n5000.0 1.0 0.1\n5000.1 nan 0.1\n5000.2 0.9 0.1\n")
    >>> spectrum = read_spectrum(path, medium="vacuum")
    >>> spectrum
    <ObservedSpectrum: 1 order, 5000.0-5000.2 angstrom, 3 pixels, 1 masked>
    >>> spectrum.meta["notes"][-1]
    '1 pixels masked: 1 flux NaN or infinite.'
    >>> folder.cleanup()
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"`format` is {format!r}, but it must be one of {', '.join(FORMATS)}, or None.")
    if sky not in ("subtract", None):
        raise ValueError(f"`sky` is {sky!r}, but it must be 'subtract' or None.")
    if not 0 < sky_scale < np.inf:
        raise ValueError(f"`sky_scale` is {sky_scale}, but it must be positive and finite; sky=None subtracts nothing.")
    if medium not in ("vacuum", "air", None):
        raise ValueError(f"`medium` is {medium!r}, but it must be 'vacuum' or 'air', or None where the file states it.")
    path = Path(path)
    error_file = None if error_file is None else Path(error_file)
    for file in (path, error_file):
        if file is not None and not file.is_file():
            raise FileNotFoundError(f"{file} does not exist or is not a file. Pass the path of a spectrum.")
    orders, meta = _read(path, format, medium, (sky, sky_scale), error_file)
    return ObservedSpectrum(orders, meta)


def _read(path, format, medium, sky, error_file):
    """Orders and meta of a file of the stated or recognised format."""
    container = _container(path)
    if format == "specutils":
        known = _is_known(path, container)
        try:
            return read_specutils(path, medium)
        except SpectrumFileError as error:
            if not known:
                raise
            raise SpectrumFileError(f"{error} Or leave `format` out: this kind of file needs no specutils.") from error
    if container == "fits":
        content = list_extensions(path)
        orders, meta = _read_fits(path, content, format, medium, sky, error_file)
        cards = used_cards(content["headers"])
        return orders, {"header": cards} | meta if cards else meta
    accepted = {"npz": ("npz", "igrins"), "hdf5": ("hdf5",), "text": ("table", *TEXTS)}[container]
    if format is not None and format not in accepted:
        raise SpectrumFileError(
            f"{path} is {_CONTAINERS[container]}, but format={format!r} is another kind of file. Leave `format` out, "
            "or pass the file that you mean."
        )
    if container == "npz":
        return read_npz(path, medium=medium, igrins=format == "igrins")
    if container == "hdf5":
        return read_hdf5(path, medium=medium)
    if is_own_text(path):
        return read_own_table(path, medium=medium, fits=False)
    found = format or recognise_text(read_bytes(path, 4096)) or "table"
    if found != "table":
        with np.errstate(all="ignore"):
            return read_archive_text(path, found, medium)
    return read_table(path, medium=medium, fits=False)


def _is_known(path, container):
    """Whether this package may read a file without specutils.

    SpectrumFileError if it knows medium, frame and errors of the file, and specutils does not.
    """
    if container != "fits":
        return True
    content = list_extensions(path)
    found = next((name for name, archive in ARCHIVES.items() if archive.matches(content)), None)
    if found and found != "image":
        raise SpectrumFileError(
            f"{path} is a file of {ARCHIVES[found].title}, but format='specutils' loses its medium, frame, errors or "
            "orders. Leave `format` out."
        )
    return found is not None or is_hpf(content) or is_igrins(content) or any(content["tables"])


def _read_fits(path, content, format, medium, sky, error_file):
    """Orders and meta of a FITS file, by its extensions (`list_extensions`)."""
    if format == "gaia":
        return read_gaia_fits(path, medium)
    own = META_KEY in content["keys"]
    known = {"hpf": is_hpf(content), "igrins": is_igrins(content)}
    known |= {name: not own and archive.matches(content) for name, archive in ARCHIVES.items()}
    known["table"] = any(content["tables"])
    found = format or next((name for name, there in known.items() if there), None)
    if not known.get(found, False):
        needed = {"hpf": "'Sci Flux'", "igrins": "'SPEC_DIVIDE_A0V'", "table": "a table"}
        needed |= {name: f"those of {entry.title}" for name, entry in ARCHIVES.items()}
        required = needed.get(found) or (
            f"{needed['hpf']} (HPF), {needed['igrins']} (IGRINS), a table, an image with wavelengths in its header, or "
            "another format of an archive"
        )
        raise SpectrumFileError(
            f"{path} is a FITS file of {content['instrument'] or 'an unnamed instrument'} with the extensions "
            f"{', '.join(map(repr, content['names']))}, but {required} is needed. Pass the right file and `format`, "
            "try format='specutils', or write it as a table of wavelength, flux and error."
        )
    if found in ARCHIVES:
        with np.errstate(all="ignore"):  # damaged values overflow
            return convert(ARCHIVES[found].read(path, content), path, found, medium, content)
    if found == "table":
        if own:
            return read_own_table(path, medium=medium, fits=True)
        orders, meta = read_table(path, medium=medium, fits=True)
        return orders, {key: content[key] for key in ("instrument", "object", "date")} | meta
    # both are in vacuum and in the frame of the telescope, unless the header says other things
    headers = content["headers"][:1]
    check_medium(medium, [by_format(found), *stated_medium(headers)])
    frame = check_frame([by_format(found, "telescope"), *stated_frame(headers)])
    if found == "hpf":
        orders, meta = read_hpf(path, content, sky=sky[0], sky_scale=sky[1])
    else:
        orders, meta = read_igrins(path, content, error_file=error_file)
    return orders, meta | {"frame": frame}


_CONTAINERS = {"npz": "a NumPy archive", "hdf5": "an HDF5 file", "text": "a text file"}


def _container(path):
    """Kind of a file by its first bytes."""
    with open(path, "rb") as file:
        head = file.read(16)
    if not head:
        raise SpectrumFileError(f"{path} is empty, but a spectrum is needed. Copy it again.")
    if head.startswith(b"\x1f\x8b"):  # astropy unpacks gzip
        return "fits" if read_bytes(path, 9) == b"SIMPLE  =" else "text"
    if head.startswith(b"SIMPLE  ="):
        return "fits"
    if head.startswith(b"PK\x03\x04"):
        return "npz"
    if head.startswith(b"\x93NUMPY"):
        raise SpectrumFileError(
            f"{path} is a single array of NumPy without a name, but wavelength and flux are needed. Write them with "
            "np.savez(path, wavelength=..., flux=..., sigma=...)."
        )
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if path.suffix.lower() in (".fits", ".fit", ".fts", ".npz", ".h5", ".hdf5"):
        raise SpectrumFileError(
            f"{path} begins with {head!r}, unlike any {path.suffix} file; it is damaged, or its name is wrong. Copy it "
            "again."
        )
    return "text"
