"""FITS files of archives and pipelines: how each format is recognised, and what its documentation states.

A format is a row of `ARCHIVES`: its name is that of ``format=`` of `read_spectrum`. Recognition goes by extensions,
columns and keywords, never by the name of the file. Readers return a RawSpectrum.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.columns import is_header, role_of
from stellarhml.spectra.raw_spectrum import RawOrder, RawSpectrum
from stellarhml.spectra.statements import stated_by_ucd
from stellarhml.spectra.wavelength_axes import header_axis, multispec_axes
from stellarhml.storage.fits_files import read_fits

_CURE = "Copy or download it again."
# Bits of APOGEE_PIXMASK that mark a bad pixel (bitmask.py of sdss/apogee, level 1): BADPIX, CRPIX, SATPIX, UNFIXABLE,
# BADDARK, BADFLAT, BADERR, NOSKY and NOT_ENOUGH_PSF; the others are warnings.
_APOGEE_BAD = 0b0100_0000_1111_1111
_APOGEE_NO_ERROR = 1e9  # aspcapStar has 1e10 in bad pixels and between the detectors
_APOGEE_POWER = 22500.0  # Majewski et al. (2017), doi:10.3847/1538-3881/aa784d
_GALAH_POWER = 28000.0  # De Silva et al. (2015), doi:10.1093/mnras/stv327
_SPIROU_POWER = 70000.0  # Donati et al. (2020), doi:10.1093/mnras/staa2569
_ESPADONS_RANGE = (360.0, 1060.0)  # nm; files of SPIRou in the same format are in vacuum
_ERG = "1e-17 erg / (s cm2 Angstrom)"


class Archive(NamedTuple):
    """A format: what it is, a test of the content that `list_extensions` returned, and its reader(path, content)."""

    title: str
    matches: Callable
    read: Callable


# What a file has


def _columns(header):
    """Names of the columns of a table by its header."""
    return [str(header.get(f"TTYPE{k}", "")).strip() for k in range(1, _count(header, "TFIELDS") + 1)]


def _count(header, key):
    """A number of things by a header; 0 if it is not one."""
    value = header.get(key, 0)
    return max(value, 0) if isinstance(value, int) and not isinstance(value, bool) else 0


def _number(path, header, key, default=None):
    """A number of a header; SpectrumFileError if it is not one."""
    value = header.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise SpectrumFileError(f"{path} has {key} = {value!r}, but a number is needed. Copy it again.")
    return value


def _unit_of(header, name):
    return header.get(f"TUNIT{_columns(header).index(name) + 1}")


def _text(header, key):
    return str(header.get(key, "")).strip()


def _first_columns(content):
    """Names of the columns of the first table; empty if there is none."""
    tables = content["tables"]
    return _columns(content["headers"][tables.index(True)]) if any(tables) else []


def _arrays(path, wanted):
    """Images (number, None) and columns (number, name) of a file, in this sequence, as they are stored."""

    def extract(hdus):
        return [np.array(hdus[k].data if name is None else hdus[k].data[name]) for k, name in wanted]

    return read_fits(path, extract, _CURE)


def _numerical(arrays, path, names):
    """Arrays as float64; SpectrumFileError if one has no numbers, or shapes differ."""
    shapes = {name: np.shape(array) for name, array in zip(names, arrays, strict=True)}
    wrong = [name for name, array in zip(names, arrays, strict=True) if np.asarray(array).dtype.kind not in "biuf"]
    if wrong or len(set(shapes.values())) > 1:
        raise SpectrumFileError(
            f"{path} has arrays of the shapes {shapes}{f', and no numbers in {wrong[0]}' if wrong else ''}, but "
            "numbers of one shape are needed. Use the file as the archive gives it."
        )
    with np.errstate(all="ignore"):
        return [np.asarray(array).astype(np.float64) for array in arrays]


def _images(path, content, names, optional=()):
    """Images by the names of their extensions, as rows of orders, (n_orders, n_pixels); optional ones may be None."""
    present = [name for name in (*names, *optional) if name in content["names"]]
    missing = [name for name in names if name not in content["names"]]
    if missing:
        raise SpectrumFileError(
            f"{path} has the extensions {', '.join(map(repr, content['names']))}, but {', '.join(map(repr, missing))} "
            "is needed too. Use the file as the pipeline wrote it."
        )
    numbers = [content["names"].index(name) for name in present]
    arrays = _numerical(_arrays(path, [(number, None) for number in numbers]), path, present)
    found = {name: np.atleast_2d(array) for name, array in zip(present, arrays, strict=True)}
    return [found.get(name) for name in (*names, *optional)]


def _used_headers(content, *numbers):
    """Header of the file and of the extensions in use."""
    return [content["headers"][k] for k in sorted({0, *numbers})]


def _from_inverse_variance(values):
    with np.errstate(all="ignore"):
        return np.where(values > 0, 1 / np.sqrt(values), np.nan)


def _cells(path, content, number, names):
    """Columns of a table, each (n_rows, n_pixels) float64 if cells are arrays, and (1, n_pixels) if rows are pixels."""
    arrays = _arrays(path, [(number, name) for name in names])
    arrays = [np.atleast_2d(array) for array in arrays]
    return _numerical(arrays, path, names)


def _only_row(path, arrays, what):
    """The one row of arrays of a table; SpectrumFileError if there are more."""
    if len(arrays[0]) != 1:
        raise SpectrumFileError(
            f"{path} has {len(arrays[0])} rows of arrays ({what}), which are {len(arrays[0])} spectra, but one is "
            "needed: visits are not orders. Write the one that you mean to a file of its own, or use the combined one."
        )
    return [array[0] for array in arrays]


# ESO phase 3


def _is_eso(content):
    return any(
        "SpectralAxis.Value" in _text(header, f"TUTYP{k}")
        for header in content["headers"]
        for k in range(1, _count(header, "TFIELDS") + 1)
    )


def _read_eso(path, content):
    """One row of arrays; columns are what TUTYP says, and those marked meta.main in TUCD come first.

    Flux and errors have one origin: calibrated fluxes do not get errors in detector counts.
    """
    number = next(k for k, header in enumerate(content["headers"]) if _is_eso({"headers": [header]}))
    header = content["headers"][number]
    columns = []
    for k, name in enumerate(_columns(header), start=1):
        # ESPRESSO and GIRAFFE write Accurancy
        utype = _text(header, f"TUTYP{k}").replace("Accurancy", "Accuracy")
        space, _, kind = utype.partition("Data.")
        columns.append((name, space, kind, _text(header, f"TUCD{k}"), header.get(f"TUNIT{k}")))

    def choose(kind):
        found = [column for column in columns if column[2] == kind]
        found = [column for column in found if "meta.main" in column[3]] or found
        if len(found) > 1:
            raise SpectrumFileError(
                f"{path} has the columns {', '.join(repr(c[0]) for c in found)} of TUTYP {kind}, and none or several "
                "are marked meta.main in TUCD, but one is needed. Write the one that you mean to a table."
            )
        return found[0] if found else None

    def of_the_flux(kind):
        found = [column for column in columns if column[2] == kind]
        same_name = [column for column in found if _stem(column[0]) == _stem(flux[0])]  # ERR_EL belongs to FLUX_EL
        same_space = [column for column in found if column[1] == flux[1]]
        return (same_name or same_space or [None])[0]

    grid, flux = choose("SpectralAxis.Value"), choose("FluxAxis.Value")
    if flux is None:
        raise SpectrumFileError(
            f"{path} has the columns {', '.join(c[0] for c in columns)}, and none is a flux by its TUTYP "
            "(Data.FluxAxis.Value). Write a table of wavelength, flux and error."
        )
    if not grid[3].startswith("em.wl"):
        raise SpectrumFileError(
            f"{path} has a spectral axis {grid[0]!r} that is no wavelength (TUCD {grid[3]!r}), but wavelengths are "
            "needed. Convert it, and write a table of wavelength, flux and error."
        )
    error = of_the_flux("FluxAxis.Accuracy.StatError")
    quality = of_the_flux("FluxAxis.Accuracy.QualityStatus")
    used = [column for column in (grid, flux, error, quality) if column is not None]
    names = [column[0] for column in used]
    wavelength, values, *rest = _only_row(path, _cells(path, content, number, names), ", ".join(names))
    errors = rest.pop(0) if error else None
    bad = rest.pop(0) != 0 if quality else None
    notes = []
    if bad is not None and bad.all():
        bad = None
        notes.append(f"{quality[0]} is nowhere 0, the value of a good pixel: it is not used.")
    media = stated_by_ucd(grid[3])
    # in ESO's standard em.wl alone is vacuum (1dspectrum.py of archive.eso.org); others leave it open
    vacuum = not media and _text(content["headers"][0], "ORIGIN").upper().startswith("ESO")
    power = content["headers"][0].get("SPEC_RES")
    return RawSpectrum(
        [RawOrder(0, wavelength, values, errors, bad)],
        ", ".join(names) + (f" (pixels where {quality[0]} is not 0 are left out)" if bad is not None else ""),
        unit=grid[4] or "angstrom",
        medium="vacuum" if vacuum else None,
        stated=media,
        resolving_power=float(power) if isinstance(power, int | float) and power > 0 else None,
        flux_unit=flux[4],
        headers=_used_headers(content, number),
        notes=notes,
    )


def _stem(name):
    """Name of a column of ESO without what it is: "_REDUCED" of FLUX_REDUCED and of ERR_REDUCED."""
    return re.sub("^(FLUX|ERROR|ERR|QUAL)", "", name.upper())


# APOGEE and other spectra of SDSS


def _bunit(content, number, start):
    return number < len(content["headers"]) and _text(content["headers"][number], "BUNIT").lower().startswith(start)


def _is_apogee(content):
    """Whether the first images are fluxes and errors in log10 wavelengths."""
    headers = content["headers"]
    return len(headers) > 4 and all(_text(headers[k], "CTYPE1") == "LOG-LINEAR" for k in (1, 2))


def _is_apstar(content):
    return _is_apogee(content) and _bunit(content, 1, "flux") and _bunit(content, 2, "err")


def _is_aspcapstar(content):
    return _is_apogee(content) and any("PARAM" in _columns(header) for header in content["headers"])


def _is_apvisit(content):
    return _bunit(content, 1, "flux") and _bunit(content, 2, "flux") and _bunit(content, 4, "wave")


def _read_apstar(path, content):
    """Combined spectrum, the first row; the others are another combination and the visits."""
    flux, error, bits = (np.atleast_2d(a)[0] for a in _arrays(path, [(1, None), (2, None), (3, None)]))
    flux, error = _numerical([flux, error], path, ["flux", "error"])
    rows = _count(content["headers"][1], "NAXIS2") or 1
    axis = header_axis(content["headers"][1], flux.size, path)
    notes = [f"The combined spectrum is read, the first of {rows} rows; the visits are not."] if rows > 1 else []
    return RawSpectrum(
        [RawOrder(0, axis.wavelength, flux, error, _apogee_bad(bits))],
        "extension 1 (flux), 2 (error), 3 (mask: bits 0 to 7 and 14 mark bad pixels), " + axis.keywords,
        medium="vacuum",
        frame="star",
        resolving_power=_APOGEE_POWER,
        flux_unit=_ERG,
        headers=_used_headers(content, 1),
        notes=notes,
    )


def _read_aspcapstar(path, content):
    """Normalised spectrum and its errors; the third image is the best fit."""
    flux, error = _numerical(_arrays(path, [(1, None), (2, None)]), path, ["flux", "error"])
    axis = header_axis(content["headers"][1], flux.size, path)
    return RawSpectrum(
        [RawOrder(0, axis.wavelength, flux.ravel(), error.ravel(), error.ravel() >= _APOGEE_NO_ERROR)],
        "extension 1 (normalised flux), 2 (error), " + axis.keywords,
        medium="vacuum",
        frame="star",
        resolving_power=_APOGEE_POWER,
        headers=_used_headers(content, 1),
    )


def _read_apvisit(path, content):
    """One visit: a row for each of three detectors, the red one first."""
    flux, error, bits, wavelength = (np.atleast_2d(a) for a in _arrays(path, [(k, None) for k in (1, 2, 3, 4)]))
    flux, error, wavelength = _numerical([flux, error, wavelength], path, ["flux", "error", "wavelength"])
    bad = _apogee_bad(bits)
    return RawSpectrum(
        [RawOrder(k, wavelength[k], flux[k], error[k], bad[k]) for k in range(len(flux))],
        "extension 1 (flux), 2 (error), 3 (mask: bits 0 to 7 and 14 mark bad pixels), 4 (wavelength)",
        medium="vacuum",
        frame="telescope",
        resolving_power=_APOGEE_POWER,
        flux_unit=_ERG,
        headers=_used_headers(content),
    )


def _apogee_bad(bits):
    return (np.asarray(bits).astype(np.int64) & _APOGEE_BAD) != 0


def _is_mwm(content):
    columns = [_columns(header) for header in content["headers"]]
    return "SDSS_ID" in content["headers"][0] and any({"flux", "ivar", "pixel_flags"} <= set(c) for c in columns)


def _read_mwm(path, content):
    """Combined spectrum of the first of the instruments and telescopes that have one, APOGEE before BOSS."""
    filled = [
        k
        for k, header in enumerate(content["headers"])
        if "ivar" in _columns(header) and _count(header, "NAXIS2") and "model_flux" not in _columns(header)
    ]
    if not filled:
        raise SpectrumFileError(f"{path} has no spectrum: all of its tables are empty. Choose a star with one.")
    names = content["names"]
    number = min(filled, key=lambda k: (not names[k].startswith("APOGEE"), k))
    header = content["headers"][number]
    in_column = "wavelength" in _columns(header)
    wanted = ["flux", "ivar", *(["wavelength"] if in_column else [])]
    flux, ivar, *rest = _only_row(path, _cells(path, content, number, wanted), names[number])
    apogee = names[number].startswith("APOGEE")
    bad = None
    if apogee:
        (bits,) = _arrays(path, [(number, "pixel_flags")])
        bad = _apogee_bad(np.atleast_2d(bits)[0])
    if in_column:
        wavelength, keywords = rest[0], "wavelength"
    else:  # mwmVisit of one visit
        axis = header_axis(
            {"CTYPE1": "LOGLAM", "CRPIX1": 1.0, "CRVAL1": header.get("CRVAL"), "CDELT1": header.get("CDELT")},
            flux.size,
            path,
        )
        wavelength, keywords = axis.wavelength, "CRVAL, CDELT (log10)"
    others = [names[k] for k in filled if k != number]
    return RawSpectrum(
        [RawOrder(0, wavelength, flux, _from_inverse_variance(ivar), bad)],
        f"{names[number]}: flux, ivar, {keywords}"
        + (", pixel_flags (bits 0 to 7 and 14 mark bad pixels)" if apogee else "; pixel_flags are not used"),
        medium="vacuum",
        frame="star",
        resolving_power=_APOGEE_POWER if apogee else None,
        flux_unit=_ERG,
        headers=_used_headers(content),
        notes=[f"The spectra in {', '.join(others)} are not read."] if others else [],
    )


def _is_sdss(content):
    return {"flux", "loglam", "ivar", "and_mask"} <= {name.lower() for name in _first_columns(content)}


def _read_sdss(path, content):
    """Combined spectrum of the first table; single exposures follow."""
    number = content["tables"].index(True)
    own = {name.lower(): name for name in _columns(content["headers"][number])}
    names = [own[name] for name in ("loglam", "flux", "ivar", "and_mask")]
    logarithm, flux, ivar, mask = _only_row(path, _cells(path, content, number, names), "spectra")
    n_more = sum(content["tables"][number + 1 :])
    return RawSpectrum(
        [RawOrder(0, np.power(10.0, logarithm), flux, _from_inverse_variance(ivar), mask != 0)],
        "loglam (log10), flux, ivar, and_mask (pixels where it is not 0 are left out)",
        medium="vacuum",
        frame="heliocenter",
        flux_unit=_ERG,
        headers=_used_headers(content, number),
        notes=[f"The combined spectrum is read; {n_more} further tables are not."] if n_more else [],
    )


# LAMOST


def _is_lamost(content):
    header = content["headers"][0]
    rows = _count(header, "NAXIS") == 2 and _count(header, "NAXIS2") == 5 and "COEFF0" in header
    cells = {"FLUX", "IVAR", "WAVELENGTH", "ANDMASK"} <= set(_first_columns(content))
    return _text(header, "TELESCOP").upper() == "LAMOST" and (rows or cells)


def _read_lamost(path, content):
    """Five rows (flux, inverse variance, wavelength, and-mask, or-mask), or one row of arrays in tables COADD."""
    if any(content["tables"]) and "ANDMASK" in _first_columns(content):
        names = ["FLUX", "IVAR", "WAVELENGTH", "ANDMASK"]
        numbers = [k for k, header in enumerate(content["headers"]) if set(names) <= set(_columns(header))]
        # the arms of one star, COADD_B and COADD_R; single exposures are not read
        numbers = [k for k in numbers if content["names"][k].startswith("COADD")] or numbers[:1]
        arms = [_only_row(path, _cells(path, content, number, names), "spectra") for number in numbers]
        return RawSpectrum(
            [
                RawOrder(k, wavelength, flux, _from_inverse_variance(ivar), mask != 0)
                for k, (flux, ivar, wavelength, mask) in enumerate(arms)
            ],
            f"{', '.join(names)} of {', '.join(content['names'][k] for k in numbers)}; pixels where ANDMASK is not 0 "
            "are left out",
            medium="vacuum",
            frame="heliocenter",
            headers=_used_headers(content, *numbers),
        )
    ((flux, ivar, _, mask, _),) = _numerical(_arrays(path, [(0, None)]), path, ["the image"])
    # not the row of wavelengths, which has single precision
    header = content["headers"][0]
    axis = header_axis(
        {"CTYPE1": "LOGLAM", "CRPIX1": 1.0, "CRVAL1": header.get("COEFF0"), "CDELT1": header.get("COEFF1")},
        flux.size,
        path,
    )
    return RawSpectrum(
        [RawOrder(0, axis.wavelength, flux, _from_inverse_variance(ivar), mask != 0)],
        "rows 1 (flux), 2 (inverse variance), 4 (pixels where it is not 0 are left out), COEFF0, COEFF1 (log10)",
        medium="vacuum",
        frame="heliocenter",
        headers=_used_headers(content),
    )


# Echelle spectra with images of wavelengths


def _is_carmenes(content):
    return {"SPEC", "SIG", "WAVE"} <= set(content["names"])


def _read_carmenes(path, content):
    """SPEC, SIG and WAVE; pipelines of other instruments write these, too, and state neither medium nor frame."""
    own = "CARMENES" in (content["instrument"] or "").upper() or any(
        key.startswith("CARACAL") for key in content["headers"][0]
    )
    flux, error, wavelength = _images(path, content, ["SPEC", "SIG", "WAVE"])
    return RawSpectrum(
        [RawOrder(k, wavelength[k], flux[k], error[k]) for k in range(len(flux))],
        "SPEC, SIG, WAVE",
        medium="vacuum" if own else None,
        frame="telescope" if own else None,
        headers=_used_headers(content),
        notes=["The blaze is not removed."],
    )


def _is_spirou(content):
    return {"FLUXAB", "WAVEAB"} <= set(content["names"])


def _read_spirou(path, content):
    """Fibres A and B together; fluxes have no errors."""
    flux, wavelength = _images(path, content, ["FLUXAB", "WAVEAB"])
    corrected = "RECON" in content["names"]
    return RawSpectrum(
        [RawOrder(k, wavelength[k], flux[k]) for k in range(len(flux))],
        "FluxAB, WaveAB",
        unit="nm",
        medium="vacuum",
        frame="telescope",
        resolving_power=_SPIROU_POWER,
        headers=_used_headers(content),
        notes=[f"{'Corrected for tellurics by the pipeline; t' if corrected else 'T'}he blaze is not removed."],
    )


def _is_s2d(content):
    return {"SCIDATA", "WAVEDATA_VAC_BARY"} <= set(content["names"])


def _read_s2d(path, content):
    flux, wavelength, error, quality = _images(path, content, ["SCIDATA", "WAVEDATA_VAC_BARY"], ["ERRDATA", "QUALDATA"])
    orders = [
        RawOrder(
            k, wavelength[k], flux[k], None if error is None else error[k], None if quality is None else quality[k] != 0
        )
        for k in range(len(flux))
    ]
    return RawSpectrum(
        orders,
        "SCIDATA, WAVEDATA_VAC_BARY"
        + ("" if error is None else ", ERRDATA")
        + ("" if quality is None else ", QUALDATA (pixels where it is not 0 are left out)"),
        medium="vacuum",
        frame="barycenter",
        headers=_used_headers(content),
        notes=["The blaze is not removed."] if "BLAZE" in _text(content["headers"][0], "ESO PRO CATG") else [],
    )


def _is_s1d(content):
    return {"wavelength", "wavelength_air", "flux", "error", "quality"} <= set(_first_columns(content))


def _read_s1d(path, content):
    number = content["tables"].index(True)
    names = ["wavelength", "flux", "error", "quality"]
    wavelength, flux, error, quality = _only_row(path, _cells(path, content, number, names), "spectra")
    header = content["headers"][number]
    return RawSpectrum(
        [RawOrder(0, wavelength, flux, error, quality != 0)],
        "wavelength, flux, error, quality (pixels where it is not 0 are left out)",
        unit=_unit_of(header, "wavelength") or "angstrom",
        medium="vacuum",
        frame="barycenter",
        flux_unit=_unit_of(header, "flux"),
        headers=_used_headers(content, number),
    )


# The old pipeline of HARPS and HARPS-N

_OLD_DRS = re.compile(r"(ESO|TNG) DRS CAL TH COEFF LL(\d+)")


def _is_e2ds(content):
    return _count(content["headers"][0], "NAXIS") == 2 and any(map(_OLD_DRS.fullmatch, content["headers"][0]))


def _is_harps_s1d(content):
    header = content["headers"][0]
    old = any(f"{name} DRS VERSION" in header for name in ("ESO", "TNG"))
    return _count(header, "NAXIS") == 1 and old and "CRVAL1" in header


def _read_harps(path, content):
    """e2ds, a row for each order and polynomials of the pixel from 0 in the header, or s1d, one linear axis."""
    header = content["headers"][0]
    (flux,) = _numerical(_arrays(path, [(0, None)]), path, ["flux"])
    if _is_e2ds(content):
        terms = {int(m[2]): _number(path, header, m[0]) for m in map(_OLD_DRS.fullmatch, header) if m}
        degree = next((key for key in header if re.fullmatch(r"(ESO|TNG) DRS CAL TH DEG LL", key)), "DEG LL")
        n_terms = int(_number(path, header, degree)) + 1
        if sorted(terms) != list(range(len(flux) * n_terms)):
            raise SpectrumFileError(
                f"{path} has {len(terms)} coefficients of wavelengths (DRS CAL TH COEFF LL) for {len(flux)} orders of "
                f"degree {n_terms - 1}, but {len(flux) * n_terms} are needed. Copy it again."
            )
        table = np.array([terms[k] for k in sorted(terms)], dtype=np.float64).reshape(len(flux), n_terms)
        wavelength = np.polynomial.polynomial.polyval(np.arange(flux.shape[1]), table.T)
        return RawSpectrum(
            [RawOrder(k, wavelength[k], flux[k]) for k in range(len(flux))],
            "the image, DRS CAL TH COEFF LL",
            medium="air",
            frame="telescope",
            headers=_used_headers(content),
            notes=["The blaze is not removed."],
        )
    axis = header_axis(header, flux.size, path)
    return RawSpectrum(
        [RawOrder(0, axis.wavelength, flux.ravel())],
        f"the image, {axis.keywords}",
        medium="air",
        frame="barycenter",
        headers=_used_headers(content),
    )


# ESPaDOnS and NARVAL


def _is_espadons(content):
    header = content["headers"][0]
    return (
        _text(header, "INSTRUME").upper() == "ESPADONS"
        and _count(header, "NAXIS") == 2
        and _count(header, "NAXIS2") in (6, 12, 24)
    )


def _read_espadons(path, content):
    """Blocks of wavelength, intensity, (Stokes V, two null spectra,) error; the first block is normalised."""
    (rows,) = _numerical(_arrays(path, [(0, None)]), path, ["rows"])
    low, high = _ESPADONS_RANGE
    is_grid = np.all((rows >= low) & (rows <= high), axis=1)
    size = next((size for size in (3, 6) if len(rows) % size == 0 and is_grid[::size].all()), None)
    if size is None:
        raise SpectrumFileError(
            f"{path} has {len(rows)} rows, but wavelengths of ESPaDOnS ({low:g} to {high:g} nm) in every third or "
            "sixth of them are needed. Copy it again."
        )
    used = f"rows 1 (wavelength), 2 (normalised intensity), {size} (error)"
    return libre_esprit_spectrum(
        path, rows[0], rows[1], rows[size - 1], used, ["Rows ignored: all others."], _used_headers(content)
    )


def libre_esprit_spectrum(path, wavelength, flux, error, used, notes, headers=()):
    """Raw spectrum of Libre-ESpRIT: nm, air, orders one after the other, of increasing wavelength each."""
    low, high = _ESPADONS_RANGE
    if not np.all((wavelength >= low) & (wavelength <= high)):
        raise SpectrumFileError(
            f"{path} has wavelengths from {wavelength.min():g} to {wavelength.max():g}, but ESPaDOnS and NARVAL have "
            f"{low:g} to {high:g} nm, and only theirs are known to be in air. Write a first line with the names and "
            "units of the columns, such as '# wavelength(nm) flux error', and pass medium."
        )
    starts = np.flatnonzero(np.diff(wavelength) <= 0) + 1
    parts = list(zip(*(np.split(array, starts) for array in (wavelength, flux, error)), strict=True))
    shortest = min(len(part[0]) for part in parts)
    if shortest < 10:
        raise SpectrumFileError(
            f"{path} has an order of {shortest} pixels: wavelengths go back too often, and a row may be damaged. Copy "
            "it again."
        )
    return RawSpectrum(
        [RawOrder(k, *part) for k, part in enumerate(parts)],
        used,
        unit="nm",
        medium="air",
        frame="heliocenter",
        headers=list(headers),
        notes=notes,
    )


# GALAH


def _is_galah(content):
    return "GALAH" in _text(content["headers"][0], "ORIGIN").upper() and "INPUT_SIGMA" in content["names"]


def _read_galah(path, content):
    """Flux in the first image, its relative error in INPUT_SIGMA."""
    number = content["names"].index("INPUT_SIGMA")
    flux, relative = _numerical(_arrays(path, [(0, None), (number, None)]), path, ["flux", "relative error"])
    axis = header_axis(content["headers"][0], flux.size, path)
    return RawSpectrum(
        [RawOrder(0, axis.wavelength, flux.ravel(), np.abs(relative * flux).ravel())],
        f"the first image, INPUT_SIGMA times the flux, {axis.keywords}",
        medium="air",
        frame="barycenter",
        resolving_power=_GALAH_POWER,
        headers=_used_headers(content),
    )


# Keck


def _is_hires(content):
    return {"wave", "Flux", "Error", "Sig_to_Noise", "Arc_Lamp"} <= set(_first_columns(content))


def _read_hires(path, content):
    number = content["tables"].index(True)
    wavelength, flux, error = _only_row(path, _cells(path, content, number, ["wave", "Flux", "Error"]), "spectra")
    return hires_spectrum(wavelength, flux, error, _used_headers(content, number))


def hires_spectrum(wavelength, flux, error, headers=()):
    """Raw spectrum of one order of HIRES (KOA), from a table in FITS or in text."""
    return RawSpectrum(
        [RawOrder(0, wavelength, flux, error)],
        "wave, Flux, Error",
        medium="vacuum",
        frame="heliocenter",
        headers=list(headers),
    )


# CRIRES+

_CRIRES = re.compile(r"(\d\d)_(\d\d)_WL")


def _is_crires(content):
    return any(name.startswith("CHIP") for name in content["names"]) and any(
        map(_CRIRES.match, _first_columns(content))
    )


def _read_crires(path, content):
    """A table for each of three detectors, with columns for each order; orders are numbered detector by detector."""
    wanted, traces = [], set()
    for number, header in enumerate(content["headers"]):
        for match in filter(None, map(_CRIRES.fullmatch, _columns(header))):
            wanted.append((number, match[0].removesuffix("WL")))
            traces.add(match[2])
    if len(traces) > 1:
        raise SpectrumFileError(
            f"{path} has the traces {', '.join(sorted(traces))}, which are spectra of several positions on the slit "
            "and not orders. Write the one that you mean to a file of its own."
        )
    names = ("WL", "SPEC", "ERR")
    found = _arrays(path, [(number, stem + name) for number, stem in wanted for name in names])
    orders = []
    for k, (_number, stem) in enumerate(wanted):
        orders.append(RawOrder(k, *_numerical(found[3 * k : 3 * k + 3], path, [stem + name for name in names])))
    return RawSpectrum(
        orders,
        "SPEC, ERR and WL of each order and detector",
        unit=_unit_of(content["headers"][wanted[0][0]], wanted[0][1] + "WL") or "nm",
        medium="vacuum",
        frame="telescope",
        headers=_used_headers(content),
    )


# HST


def _is_stis(content):
    return _text(content["headers"][0], "TELESCOP") == "HST" and {
        "SPORDER",
        "WAVELENGTH",
        "FLUX",
        "ERROR",
        "DQ",
    } <= set(_first_columns(content))


def _read_stis(path, content):
    """A row of arrays for each order; the header says which bits of DQ are serious."""
    tables = [k for k, is_table in enumerate(content["tables"]) if is_table]
    if len(tables) > 1:
        raise SpectrumFileError(
            f"{path} has {len(tables)} exposures, but one is needed: exposures are not orders. Write the one that you "
            "mean to a file of its own."
        )
    (number,) = tables
    names = ["WAVELENGTH", "FLUX", "ERROR", "DQ"]
    wavelength, flux, error, quality = _cells(path, content, number, names)
    (order,) = _arrays(path, [(number, "SPORDER")])
    header = content["headers"][number]
    serious = int(_number(path, header, "SDQFLAGS", 31743))  # the default of calstis
    bad = (quality.astype(np.int64) & serious) != 0
    corrected = _text(content["headers"][0], "HELCORR").upper() == "COMPLETE"
    return RawSpectrum(
        [RawOrder(int(order[k]), wavelength[k], flux[k], error[k], bad[k]) for k in range(len(flux))],
        f"WAVELENGTH, FLUX, ERROR, DQ (pixels with bits of SDQFLAGS = {serious} are left out)",
        unit=_unit_of(header, "WAVELENGTH") or "angstrom",
        medium="vacuum",
        frame="heliocenter" if corrected else "telescope",
        flux_unit=_unit_of(header, "FLUX"),
        headers=_used_headers(content, number),
    )


# Images with wavelengths in the header

_FLUX_NAMES = ("FLUX", "SCI", "SPEC", "SPECTRUM", "DATA")


def _error_power(name):
    """Power of a standard deviation that an extension has by its name: 1, 2, -2, or None if it has no errors."""
    name = name.lower().replace("stat_", "")
    if name != "uncert" and role_of(name) != "error":
        return None
    return -2 if re.search("inv|ivar", name) else 2 if "var" in name else 1


def _flux_image(content):
    """Number of the image of fluxes: one with such a name, else the first; None if there is none."""
    images = [
        k
        for k, header in enumerate(content["headers"])
        if not content["tables"][k] and _count(header, "NAXIS") and _count(header, "NAXIS1") > 1
    ]
    named = [k for k in images if content["names"][k] in _FLUX_NAMES]
    return (named or images or [None])[0]


def _is_multispec(content):
    number = _flux_image(content)
    return number is not None and _text(content["headers"][number], "CTYPE1").upper().startswith("MULTISPE")


def _read_multispec(path, content):
    """A row for each aperture; of several planes BANDIDn says which are spectrum and sigma."""
    number = _flux_image(content)
    header = content["headers"][number]
    (data,) = _numerical(_arrays(path, [(number, None)]), path, ["flux"])
    bands = data.reshape((-1, *((1,) * (2 - data.ndim)), *data.shape[-2:]))
    names = [_text(header, f"BANDID{k}").lower() for k in range(1, len(bands) + 1)]
    first = next((k for k, name in enumerate(names) if name.startswith("spectrum")), 0 if len(bands) == 1 else None)
    if first is None:
        raise SpectrumFileError(
            f"{path} has {len(bands)} planes, and no BANDIDn says which is the spectrum, but one is needed: the first "
            "may be the sky. Write the spectrum and its errors to a table."
        )
    flux = bands[first]
    error = next((bands[k] for k, name in enumerate(names) if name.startswith("sigma")), None)
    axes = multispec_axes(header, flux.shape[1], path)
    if len(axes) != len(flux):
        raise SpectrumFileError(
            f"{path} has {len(flux)} rows and wavelengths for {len(axes)} of them in WAT2, but one is needed for each. "
            "The header may be truncated; copy the file again."
        )
    beams = [axis.number for axis in axes]
    numbers = beams if len(set(beams)) == len(beams) else range(len(axes))
    orders = [
        RawOrder(k, axis.wavelength, flux[i], None if error is None else error[i])
        for i, (k, axis) in enumerate(zip(numbers, axes, strict=True))
    ]
    what = ", ".join(name.split(" ")[0] for name in names if name.startswith(("spectrum", "sigma"))) or "the image"
    return RawSpectrum(
        orders,
        f"{what}, {axes[0].keywords}",
        notes=_unit_note(axes[0]),
        headers=[_without_axes(h) for h in _used_headers(content, number)],
    )


def _is_image(content):
    number = _flux_image(content)
    return number is not None and "CRVAL1" in content["headers"][number] and not is_header(_first_columns(content))


def _read_image(path, content):
    """One spectrum in one image; images with a known name are its errors and its bad pixels, others are named."""
    number = _flux_image(content)
    header = content["headers"][number]
    axes = [_count(header, f"NAXIS{k}") for k in range(1, _count(header, "NAXIS") + 1)]
    if np.prod(axes[1:], dtype=int) != 1:
        raise SpectrumFileError(
            f"{path} has an image of {' x '.join(map(str, axes))} pixels in {content['names'][number]!r} with one axis "
            "of wavelengths, so that its rows are several spectra or planes, but one spectrum is needed. Write the one "
            "that you mean, with its errors, to a table."
        )
    others = [k for k, own in enumerate(content["headers"]) if k != number and _count(own, "NAXIS")]
    images = [k for k in others if not content["tables"][k]]
    errors = [k for k in images if _error_power(content["names"][k])]
    masks = [k for k in images if role_of(content["names"][k]) == "quality"]
    if len(errors) > 1:
        found = ", ".join(content["names"][k] for k in errors)
        raise SpectrumFileError(
            f"{path} has {len(errors)} images of errors ({found}), but one is needed. Write a table of wavelength, "
            "flux and error."
        )
    wanted = [number, *errors, *masks]
    arrays = [array.ravel() for array in _arrays(path, [(k, None) for k in wanted])]
    flux, *rest = _numerical(arrays, path, [content["names"][k] for k in wanted])
    error, power = (rest.pop(0), _error_power(content["names"][errors[0]])) if errors else (None, 1)
    if error is not None:
        with np.errstate(all="ignore"):
            error = np.where(error > 0, np.power(error, 1 / power), np.nan)
    axis = header_axis(header, flux.size, path)
    ignored = [content["names"][k] or f"extension {k}" for k in others if k not in wanted]
    used = [content["names"][number] or "the image", *(content["names"][k] for k in errors)]
    used += [f"{content['names'][k]} (pixels where it is not 0 are left out)" for k in masks]
    return RawSpectrum(
        [RawOrder(0, axis.wavelength, flux, error, np.any([m != 0 for m in rest], axis=0) if rest else None)],
        f"{', '.join(used)}, {axis.keywords}",
        flux_unit=header.get("BUNIT"),
        headers=_used_headers(content, number),
        notes=[*_unit_note(axis), *([f"Extensions ignored: {', '.join(ignored)}."] if ignored else [])],
    )


def _unit_note(axis):
    """Note on wavelengths of a header without a unit."""
    return [] if axis.unit else ["The header gives no unit of the wavelengths: they are taken to be in angstrom."]


def _without_axes(header):
    """A header without CTYPEn: those of multispec state no medium."""
    return {key: value for key, value in header.items() if not key.startswith("CTYPE")}


# The first that fits is taken: those with an unmistakable mark stand first, structures that many files have last.
ARCHIVES = {
    "carmenes": Archive("CARMENES (SPEC, SIG, WAVE)", _is_carmenes, _read_carmenes),
    "spirou": Archive("SPIRou (APERO: e.fits, t.fits)", _is_spirou, _read_spirou),
    "s2d": Archive("S2D of ESPRESSO, HARPS, HARPS-N, NIRPS", _is_s2d, _read_s2d),
    "s1d": Archive("S1D of ESPRESSO, HARPS, HARPS-N, NIRPS", _is_s1d, _read_s1d),
    "harps": Archive("e2ds and s1d of HARPS' old pipeline", lambda c: _is_e2ds(c) or _is_harps_s1d(c), _read_harps),
    "eso": Archive("ESO phase 3 (one row of arrays)", _is_eso, _read_eso),
    "apstar": Archive("APOGEE apStar", _is_apstar, _read_apstar),
    "aspcapstar": Archive("APOGEE aspcapStar", _is_aspcapstar, _read_aspcapstar),
    "apvisit": Archive("APOGEE apVisit", _is_apvisit, _read_apvisit),
    "mwm": Archive("SDSS-V mwmStar", _is_mwm, _read_mwm),
    "sdss": Archive("SDSS and BOSS spec", _is_sdss, _read_sdss),
    "lamost": Archive("LAMOST", _is_lamost, _read_lamost),
    "espadons": Archive("ESPaDOnS of CFHT (i.fits, p.fits)", _is_espadons, _read_espadons),
    "galah": Archive("GALAH", _is_galah, _read_galah),
    "hires": Archive("HIRES of KOA", _is_hires, _read_hires),
    "crires": Archive("CRIRES+", _is_crires, _read_crires),
    "stis": Archive("HST/STIS x1d", _is_stis, _read_stis),
    "multispec": Archive("IRAF multispec", _is_multispec, _read_multispec),
    "image": Archive("image of one dimension with wavelengths in its header", _is_image, _read_image),
}
