"""Files as archives and pipelines write them, made from the descriptions of their formats and not from the readers.

`wavelength` is always the truth, in vacuum angstrom: shape (n_pixels,), or (n_orders, n_pixels) where a format has
orders. Each function writes the file with the format's own keywords, units, media and data types, and returns its path.
"""

import gzip

import numpy as np
from astropy.io import fits
from astropy.io.votable import from_table as votable_from_table
from astropy.table import Table


def to_air(vacuum):
    """Air wavelengths [angstrom] (Ciddor 1996, Eq. 1), written out here and not taken from the package."""
    s2 = (1e4 / np.asarray(vacuum)) ** 2
    return vacuum / (1 + 0.05792105 / (238.0185 - s2) + 0.00167917 / (57.362 - s2))


def _write(path, *hdus):
    fits.HDUList(list(hdus)).writeto(path, overwrite=True)
    return path


def _primary(data=None, **cards):
    return _with(fits.PrimaryHDU(data), cards)


def _image(data, name=None, **cards):
    return _with(fits.ImageHDU(data, name=name), cards)


def _with(hdu, cards):
    """Add header cards; an underscore stands for a blank in a name (HIERARCH), and two for a hyphen."""
    for key, value in cards.items():
        key = key.replace("__", "-").replace("_", " ")
        hdu.header["HIERARCH " + key if len(key) > 8 else key] = value
    return hdu


def _table(columns, name=None, **cards):
    """A table of (name, FITS format, unit, values)."""
    made = [fits.Column(name=key, format=form, unit=unit, array=values) for key, form, unit, values in columns]
    return _with(fits.BinTableHDU.from_columns(made, name=name), cards)


_ERG = "erg.cm**(-2).s**(-1).angstrom**(-1)"

# For each column of a product: name, letter of the format, unit, TUTYP, TUCD, and what it holds.
_ESO = {
    "HARPS": [
        ("WAVE", "D", "angstrom", "Spectrum.Data.SpectralAxis.Value", "em.wl;obs.atmos", "air"),
        (
            "FLUX",
            "E",
            "adu",
            "Spectrum.Data.FluxAxis.Value",
            "phot.flux.density;em.wl;stat.uncalib",
            "flux",
        ),
        (
            "ERR",
            "E",
            "adu",
            "Spectrum.Data.FluxAxis.Accuracy.StatError",
            "stat.error;phot.flux.density;em.wl;stat.uncalib",
            "nan",
        ),
    ],
    "UVES": [
        ("WAVE", "D", "angstrom", "Spectrum.Data.SpectralAxis.Value", "em.wl;obs.atmos", "air"),
        ("BGFLUX_REDUCED", "E", "adu", "eso:Data.BackgroundModel.Value", "phot.flux.density;em.wl;stat.uncalib", "sky"),
        ("FLUX_REDUCED", "E", "adu", "eso:Data.FluxAxis.Value", "phot.flux.density;em.wl;stat.uncalib", "raw"),
        ("ERR_REDUCED", "E", "adu", "eso:Data.FluxAxis.Accuracy.StatError", "stat.error;phot.flux.density", "raw_err"),
        ("FLUX", "E", _ERG, "Spectrum.Data.FluxAxis.Value", "phot.flux.density;em.wl;src.net;meta.main", "flux"),
        (
            "ERR",
            "E",
            _ERG,
            "Spectrum.Data.FluxAxis.Accuracy.StatError",
            "stat.error;phot.flux.density;meta.main",
            "error",
        ),
    ],
    "XSHOOTER": [
        ("WAVE", "D", "nm", "spec:Data.SpectralAxis.Value", "em.wl;obs.atmos", "air"),
        ("FLUX_REDUCED", "E", "adu", "eso:Data.FluxAxis.Value", "phot.flux.density;em.wl;stat.uncalib", "raw"),
        ("ERR_REDUCED", "E", "adu", "eso:Data.FluxAxis.Accuracy.StatError", "stat.error;phot.flux.density", "raw_err"),
        ("FLUX", "E", _ERG, "spec:Data.FluxAxis.Value", "phot.flux.density;em.wl;src.net;meta.main", "flux"),
        ("ERR", "E", _ERG, "spec:Data.FluxAxis.Accuracy.StatError", "stat.error;phot.flux.density;meta.main", "error"),
        ("QUAL", "J", None, "spec:Data.FluxAxis.Accuracy.QualityStatus", "meta.code.qual;meta.main", "qual"),
        ("SNR", "E", None, "eso:Data.FluxAxis.Accuracy.SNR", "stat.snr;meta.main", "snr"),
    ],
    "ESPRESSO": [
        ("WAVE", "D", "angstrom", "spec:Data.SpectralAxis.Value", "em.wl;meta.main", "vacuum"),
        ("FLUX", "D", _ERG, "spec:Data.FluxAxis.Value", "phot.flux.density;em.wl;meta.main", "flux"),
        ("ERR", "D", _ERG, "spec:Data.FluxAxis.Accurancy.StatError", "stat.error;phot.flux.density;meta.main", "error"),
        ("QUAL", "J", None, "spec:Data.FluxAxis.Accurancy.QualityStatus", "meta.code.qual;meta.main", "qual"),
        ("SNR", "D", None, "eso:Data.FluxAxis.Accurancy.SNR", "stat.snr", "snr"),
        ("WAVE_AIR", "D", "angstrom", "eso:Data.SpectralAxis.Value", "em.wl;obs.atmos", "air"),
        ("FLUX_EL", "D", None, "eso:Data.FluxAxis.Value", "", "raw"),
        ("ERR_EL", "D", None, "eso:Data.FluxAxis.Accuracy.StatError", "", "raw_err"),
        ("QUAL_EL", "J", None, "eso:Data.FluxAxis.Accuracy.QualityStatus", "meta.code.qual", "zero"),
    ],
}
_ESO["FEROS"] = _ESO["HARPS"]
_ESO_CARDS = {
    "HARPS": {"TELESCOP": "ESO-3.6", "SPECSYS": "BARYCENT", "SPEC_RES": 115000.0},
    "FEROS": {"TELESCOP": "MPG/ESO-2.2", "SPECSYS": "BARYCENT", "SPEC_RES": 48000.0},
    "UVES": {"TELESCOP": "ESO-VLT-U2", "SPECSYS": "TOPOCENT", "SPEC_RES": 42310.0},
    "XSHOOTER": {"TELESCOP": "ESO-VLT-U2", "SPECSYS": "TOPOCENT", "SPEC_RES": 11333.0},
    "ESPRESSO": {"TELESCOP": "ESO-VLT-U1", "SPECSYS": "BARYCENT", "SPEC_RES": 140000.0},
}


def make_eso(path, wavelength, flux, error, *, instrument="XSHOOTER", bad=None, change=None):
    """A product of ESO phase 3: one row of arrays, columns identified by TUTYP.

    Traps: errors of HARPS and FEROS are all NaN; the sky of UVES has the UCD of the flux of HARPS; X-shooter is in nm;
    ESPRESSO has two wavelengths and misspells TUTYP ("Accurancy").

    Source: ESO Science Data Products Standard; headers in molecfit's Reflex workflow (instruments/harps, docstring of
    check_format) and the products listed on archive.eso.org/cms/eso-data/help/1dspectra.html.
    """
    n = len(wavelength)
    content = {
        "vacuum": wavelength,
        "air": to_air(wavelength),
        "flux": flux,
        "error": error,
        "raw": 1e17 * np.asarray(flux),
        "raw_err": 7e17 * np.asarray(error),
        "sky": np.full(n, 3.0),
        "nan": np.full(n, np.nan),
        "qual": np.zeros(n) if bad is None else np.where(bad, 16, 0),
        "snr": np.asarray(flux) / error,
        "zero": np.zeros(n),
    }
    rows = _ESO[instrument]
    factor = {"nm": 0.1}
    table = _table(
        [(name, f"{n}{form}", unit, [content[what] * factor.get(unit, 1)]) for name, form, unit, *_, what in rows],
        "SPECTRUM",
        VOCLASS="SPECTRUM v1.0",
        NELEM=n,
    )
    for k, (*_, utype, ucd, _what) in enumerate(rows, start=1):
        table.header[f"TUTYP{k}"], table.header[f"TUCD{k}"] = utype, ucd
    primary = _primary(
        ORIGIN="ESO", INSTRUME=instrument, OBJECT="star", DATE__OBS="2026-01-02T03:04:05", PRODCATG="SCIENCE.SPECTRUM"
    )
    primary.header.update(_ESO_CARDS[instrument])
    if change:
        change(primary.header, table)
    return _write(path, primary, table)


def _log_cards(wavelength):
    """FITS cards of a uniform grid of log10 wavelengths [angstrom]."""
    start, stop = np.log10(wavelength[[0, -1]])
    return {"CRVAL1": start, "CDELT1": (stop - start) / (len(wavelength) - 1), "CRPIX1": 1}


def make_apstar(path, wavelength, flux, error, *, bits=None, n_visits=2, change=None):
    """apStar of SDSS: combined spectra in the first two rows, then visits; log10 wavelengths at rest, in vacuum.

    With one visit the images have one dimension. Traps: rows that are visits; bits that do not mean a bad pixel.

    Source: data.sdss.org/datamodel/files/APOGEE_REDUX/.../apStar.html; www.sdss4.org/dr16/irspec/spectra.
    """
    flux, error = np.asarray(flux, dtype="f4"), np.asarray(error, dtype="f4")
    bits = np.zeros(flux.shape, dtype="i2") if bits is None else np.asarray(bits, dtype="i2")
    if n_visits > 1:
        flux = np.stack([flux, 1.01 * flux, *(k * flux for k in range(3, 3 + n_visits))])
        error = np.stack([error, error, *(5 * error for _ in range(n_visits))])
        bits = np.stack([bits] * (2 + n_visits))
    axis = {**_log_cards(wavelength), "CTYPE1": "LOG-LINEAR", "DC__FLAG": 1}
    images = [
        _image(flux, BUNIT="Flux (10^-17 erg/s/cm^2/Ang)", **axis),
        _image(error, BUNIT="Err (10^-17 erg/s/cm^2/Ang)", **axis),
        _image(bits, BUNIT="Pixel mask", **axis),
        *(_image(np.ones_like(flux), BUNIT=unit, **axis) for unit in ("Sky (10^-17 erg/s/cm^2/Ang)", "Sky err")),
        *(_image(np.ones_like(flux), BUNIT=unit, **axis) for unit in ("Telluric", "Telluric error")),
        _image(np.zeros((27, 3)), BUNIT="LSF coefficients"),
        _table([("VREL", "E", "km/s", np.zeros(1))]),
    ]
    primary = _primary(OBJID="2M00000000+0000000", NVISITS=n_visits, APRED="r12", SFILE1="apVisit-r12-1.fits", **axis)
    primary.header["HISTORY"] = "APOGEE Reduction Pipeline"
    hdus = [primary, *images]
    if change:
        change(hdus)
    return _write(path, *hdus)


def make_aspcapstar(path, wavelength, flux, error):
    """aspcapStar of SDSS: normalised flux, its errors, and the best fit; log10 wavelengths at rest, in vacuum.

    Source: data.sdss.org/datamodel/files/APOGEE_REDUX/.../aspcapStar.html.
    """
    axis = {**_log_cards(wavelength), "CTYPE1": "LOG-LINEAR", "DC__FLAG": 1}
    images = [_image(np.asarray(a, dtype="f4"), **axis) for a in (flux, error, np.ones(len(flux)))]
    table = _table([("PARAM", "7E", None, np.zeros((1, 7))), ("ASPCAPFLAG", "J", None, np.zeros(1))])
    return _write(path, _primary(OBJID="2M00000000+0000000"), *images, table)


def make_apvisit(path, wavelength, flux, error, *, bits=None):
    """apVisit of SDSS: three rows, one for each detector, the red one first, wavelengths decreasing in each.

    `wavelength` has the shape (3, n), increasing everywhere. In vacuum, in the frame of the telescope.

    Source: data.sdss.org/datamodel/files/APOGEE_REDUX/.../apVisit.html.
    """
    bits = np.zeros(np.shape(flux)) if bits is None else bits
    turn = [np.asarray(a)[::-1, ::-1] for a in (flux, error, bits, wavelength)]
    units = [
        "Flux (10^-17 erg/s/cm^2/Ang)",
        "Flux Error (10^-17 erg/s/cm^2/Ang)",
        "Flag Mask",
        "Wavelength (Angstrom)",
    ]
    images = [
        _image(a.astype(form), BUNIT=unit) for a, form, unit in zip(turn, ("f4", "f4", "i2", "f8"), units, strict=True)
    ]
    primary = _primary(OBJID="2M00000000+0000000", SURVEY="apogee2")
    primary.header["HISTORY"] = "APOGEE Reduction Pipeline"
    return _write(path, primary, *images, _image(np.ones((3, 4), dtype="f4"), BUNIT="Sky (10^-17 erg/s/cm^2/Ang)"))


def make_mwmstar(path, wavelength, flux, error, *, bits=None, boss=None, visits=1):
    """mwmStar of SDSS-V: tables of one row for BOSS and APOGEE at two observatories, most of them empty.

    `boss` has wavelength, flux and error of a BOSS spectrum. With `visits` above 1 it is an mwmVisit: rows are visits.
    Inverse variances; log10 wavelengths also in a column; at rest, in vacuum.

    Source: gist.github.com/andycasey/c28d73ca3f51ae26c787dd8957cc58b6; specutils/io/default_loaders/sdss_v.py;
    sdss-astra.readthedocs.io (data models).
    """

    def table(name, spectrum, flags):
        n = 4 if spectrum is None else len(spectrum[0])
        rows = 0 if spectrum is None else visits
        wave, flux, error = (np.ones(4),) * 3 if spectrum is None else spectrum
        start, stop = np.log10(np.asarray(wave)[[0, -1]])
        columns = [
            ("telescope", "6A", None, np.array(["apo25m"] * rows, dtype="S6")),
            ("snr", "E", None, np.full(rows, 100.0)),
            ("v_rad", "E", "km/s", np.full(rows, -30.0)),
            ("wavelength", f"{n}D", "Angstrom", np.tile(wave, (rows, 1))),
            ("flux", f"{n}E", None, np.array([(k + 1) * np.asarray(flux) for k in range(rows)]).reshape(rows, n)),
            ("ivar", f"{n}E", None, np.tile(1 / np.asarray(error) ** 2, (rows, 1))),
            ("pixel_flags", f"{n}K", None, np.tile(np.zeros(n) if flags is None or not rows else flags, (rows, 1))),
            ("continuum", f"{n}E", None, np.full((rows, n), 7.0)),
        ]
        hdu = _table(columns, name, CRVAL=start, CDELT=(stop - start) / (n - 1), NPIXELS=n, CTYPE="LOG10")
        hdu.header["DC-FLAG"] = 1
        return hdu

    names = {"BOSS/APO": boss, "BOSS/LCO": None, "APOGEE/APO": None, "APOGEE/LCO": None}
    if wavelength is not None:
        names["APOGEE/LCO"] = (wavelength, flux, error)
    primary = _primary()
    primary.header["V_ASTRA"] = "0.6.0"
    primary.header["SDSS_ID"] = 42
    hdus = [table(name, spectrum, bits if "APOGEE" in name else None) for name, spectrum in names.items()]
    return _write(path, primary, *hdus)


def make_carmenes(path, wavelength, flux, error):
    """CARMENES of CARACAL: SPEC, CONT, SIG and WAVE with a row for each order; vacuum angstrom, telescope.

    Source: serval, src/inst_CARM_VIS.py.
    """
    names = {"SPEC": flux, "CONT": np.ones(np.shape(flux)), "SIG": error, "WAVE": wavelength}
    images = [_image(np.asarray(a, dtype="f8" if name == "WAVE" else "f4"), name) for name, a in names.items()]
    primary = _primary(INSTRUME="CARMENES", OBJECT="star", CARACAL_BERV=12.3, CARACAL_FOX_XWD=11)
    return _write(path, primary, *images)


def make_spirou(path, wavelength, flux, *, kind="t"):
    """SPIRou of APERO: FluxAB, WaveAB (nm, vacuum, telescope) and BlazeAB, no errors; `kind` is "t" or "e".

    Source: apero-drs (postprocessed files e.fits, t.fits); specpolFlow/converters/spirou.py; lbl/instruments/spirou.py.
    """
    nm, blaze = np.asarray(wavelength) / 10, np.full(np.shape(flux), 0.8)
    images = {"FluxAB": flux, "WaveAB": nm, "BlazeAB": blaze}
    if kind == "t":
        images["Recon"] = np.ones(np.shape(flux))
    else:
        for fibre in "ABC":
            images |= {f"Flux{fibre}": 0.5 * np.asarray(flux), f"Wave{fibre}": nm + 1, f"Blaze{fibre}": blaze}
    hdus = [_image(np.asarray(a, dtype="f8"), name) for name, a in images.items()]
    for hdu in hdus:
        hdu.header["BERV"] = 12.3
    return _write(path, _primary(INSTRUME="SPIRou", OBJECT="star", TELESCOP="CFHT 3.6m"), *hdus)


def make_espadons(path, wavelength, flux, error, *, polarimetry=True, header=True):
    """Libre-ESpRIT text of ESPaDOnS and NARVAL (CFHT, PolarBase): nm, air, heliocentric, orders one after the other.

    Columns: wavelength, intensity, (Stokes V, two null spectra,) error; two lines of header, which may be missing.
    Traps: the third column is Stokes V; wavelengths go back where the next order begins.

    Source: www.cfht.hawaii.edu/Instruments/Spectroscopy/Espadons/Espadons_esprit.html; specpolFlow (obsSpec.py).
    """
    nm = to_air(np.asarray(wavelength)).ravel() / 10
    columns = [nm, np.ravel(flux)]
    if polarimetry:
        columns += [np.full(nm.size, 0.001), np.full(nm.size, -0.002), np.full(nm.size, 0.003)]
    columns.append(np.ravel(error))
    lines = ["***Reduced spectrum of 'star      '", f" {nm.size:6d} {len(columns) - 1}"] if header else []
    lines += [f" {row[0]:.10f} " + " ".join(f"{value:.10e}" for value in row[1:]) for row in zip(*columns, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def make_espadons_fits(path, wavelength, flux, error, *, polarimetry=True, blocks=4):
    """i.fits and p.fits of ESPaDOnS (CFHT, CADC): four blocks of rows, the first normalised; nm, air.

    Blocks: normalised or not, with wavelengths corrected by telluric lines or not. Rows of a block: wavelength,
    intensity, (Stokes V, two null spectra,) error.

    Source: specpolFlow/converters/espadons.py.
    """
    nm = to_air(np.asarray(wavelength)).ravel() / 10
    rows = []
    for block in range(blocks):
        rows += [nm * (1 + 1e-6 * block), np.ravel(flux) * (1 + block)]
        rows += [np.full(nm.size, 0.001)] * 3 if polarimetry else []
        rows.append(np.ravel(error) * (1 + block))
    return _write(path, _primary(np.array(rows, dtype="f8"), INSTRUME="ESPaDOnS", OBJECT="star", TELESCOP="CFHT 3.6m"))


def make_s1d(path, wavelength, flux, error, *, bad=None, instrument="ESPRESSO"):
    """S1D of the pipeline that ESPRESSO, HARPS, HARPS-N and NIRPS share: one row for each pixel, barycentric.

    Trap: two columns of wavelengths, vacuum and air.

    Source: ESPRESSO Pipeline User Manual (ESO-331895); molecfit's Reflex workflow (instruments/harps, PRO.CATG=S1D).
    """
    quality = np.zeros(len(flux)) if bad is None else np.where(bad, 16384, 0)
    columns = [
        ("wavelength", "1D", "angstrom", wavelength),
        ("wavelength_air", "1D", "angstrom", to_air(wavelength)),
        ("flux", "1D", "e-", flux),
        ("error", "1D", "e-", error),
        ("quality", "1J", None, quality),
    ]
    return _write(path, _primary(INSTRUME=instrument, OBJECT="star", ESO_PRO_CATG="S1D_A"), _table(columns))


def make_s2d(path, wavelength, flux, error, *, bad=None, instrument="HARPS"):
    """S2D of the same pipeline: SCIDATA, ERRDATA, QUALDATA and wavelengths in vacuum and air, barycentric.

    Source: ESPRESSO Pipeline User Manual (ESO-331895); S-BART (ESPRESSO.py); read_spec of public scripts.
    """
    quality = np.zeros(np.shape(flux)) if bad is None else np.where(bad, 16384, 0)
    images = {
        "SCIDATA": np.asarray(flux, dtype="f4"),
        "ERRDATA": np.asarray(error, dtype="f4"),
        "QUALDATA": quality.astype("i4"),
        "WAVEDATA_VAC_BARY": np.asarray(wavelength, dtype="f8"),
        "WAVEDATA_AIR_BARY": to_air(wavelength),
        "DLLDATA_VAC_BARY": np.gradient(wavelength, axis=1),
        "DLLDATA_AIR_BARY": np.gradient(wavelength, axis=1),
    }
    primary = _primary(INSTRUME=instrument, OBJECT="star", ESO_PRO_CATG="S2D_A", ESO_QC_BERV=12.3)
    return _write(path, primary, *(_image(a, name) for name, a in images.items()))


def make_harps_s1d(path, wavelength, flux, *, observatory="ESO"):
    """s1d of HARPS' old pipeline: an image of one dimension, air angstrom, barycentric, no errors.

    `wavelength` must be uniform in air. HARPS-N has TNG in place of ESO in its keywords.

    Source: HARPS DRS User Manual (3M6-MAN-HAR-33110-0016).
    """
    air = to_air(wavelength)
    cards = {
        f"{observatory}_DRS_VERSION": "HARPS_3.8",
        f"{observatory}_DRS_BERV": 12.3,
        "CRVAL1": air[0],
        "CDELT1": (air[-1] - air[0]) / (len(air) - 1),
        "CTYPE1": "Angstrom",
    }
    instrument = "HARPS" if observatory == "ESO" else "HARPN"
    return _write(path, _primary(np.asarray(flux, dtype="f4"), INSTRUME=instrument, OBJECT="star", CRPIX1=1.0, **cards))


def make_e2ds(path, coefficients, flux, *, observatory="ESO"):
    """e2ds of HARPS' old pipeline: a row for each order, polynomials of the pixel [air angstrom] in the header.

    `coefficients` has the shape (n_orders, degree + 1). In the frame of the telescope, no errors.

    Source: HARPS DRS User Manual (3M6-MAN-HAR-33110-0016); serval, src/inst_HARPS.py.
    """
    n_orders, n = np.shape(coefficients)
    cards = {f"{observatory}_DRS_CAL_TH_DEG_LL": n - 1, f"{observatory}_DRS_CAL_LOC_NBO": n_orders}
    cards |= {f"{observatory}_DRS_CAL_TH_COEFF_LL{k}": value for k, value in enumerate(np.ravel(coefficients))}
    instrument = "HARPS" if observatory == "ESO" else "HARPN"
    return _write(path, _primary(np.asarray(flux, dtype="f4"), INSTRUME=instrument, OBJECT="star", **cards))


def make_gaia(path, wavelength, flux, error, *, kind="votable", sources=1):
    """RVS mean spectrum of Gaia's DataLink: nm, vacuum, at rest, normalised.

    `kind`: "votable", "fits" and "csv" have one row for each pixel (INDIVIDUAL; no units in CSV); "raw_csv" has one row
    of arrays for each source and no wavelengths, which run from 846 to 870 nm in steps of 0.01 nm, and "raw_votable".

    Source: Gaia DR3 documentation, 20.12.1 rvs_mean_spectrum; cosmos.esa.int/web/gaia-users/archive/datalink-products.
    """
    nm = np.asarray(wavelength) / 10
    if kind.startswith("raw"):
        columns = {
            "source_id": np.arange(1, 1 + sources),
            "combined_transits": np.full(sources, 7),
            "flux": np.array([(k + 1) * np.asarray(flux) for k in range(sources)]),
            "flux_error": np.tile(error, (sources, 1)),
        }
        if kind == "raw_votable":
            votable_from_table(Table(columns)).to_xml(str(path))
            return path
        lines = [",".join(columns)]
        for row in zip(*columns.values(), strict=True):
            cells = [
                f'"[{", ".join(repr(float(v)) for v in cell)}]"' if np.ndim(cell) else str(int(cell)) for cell in row
            ]
            lines.append(",".join(cells))
        path.write_text("\n".join(lines) + "\n")
        return path
    table = Table({"wavelength": nm, "flux": flux, "flux_error": error})
    if kind == "csv":
        table.write(path, format="ascii.csv", overwrite=True)
        return path
    table["wavelength"].unit = "nm"
    if kind == "fits":
        table.write(path, format="fits", overwrite=True)
        return path
    votable = votable_from_table(table)
    (inner,) = votable.iter_tables()
    from astropy.io.votable.tree import Param

    for name, value in (("source_id", "30343944744320"), ("combined_transits", "7")):
        inner.params.append(Param(votable, name=name, datatype="long", value=value))
    votable.to_xml(str(path))
    return path


def make_galah(path, wavelength, flux, error, *, release="DR3"):
    """GALAH: five images of one dimension (DR2: four), linear air wavelengths, barycentric.

    `wavelength` must be uniform in air. Trap: the second image is the error over the flux.

    Source: docs.datacentral.org.au/galah/dr3/galah-dr3-spectra; specutils/io/default_loaders/galah.py.
    """
    air = to_air(wavelength)
    axis = {"CRVAL1": air[0], "CDELT1": (air[-1] - air[0]) / (len(air) - 1), "CRPIX1": 1, "CUNIT1": "Angstroms"}
    axis["CTYPE1"] = "Wavelength"
    relative = np.asarray(error) / flux
    images = [
        _image(np.asarray(a, dtype="f8"), name, **axis)
        for name, a in (
            ("input_sigma", relative),
            ("no_sky_spectrum", np.asarray(flux) + 50),
            ("no_sky_sigma", relative**2),
            ("normalised", np.ones(len(flux))),
        )
    ]
    primary = _primary(np.asarray(flux, dtype="f8"), ORIGIN="GALAH", INSTRUME="HERMES-2dF", OBJECT="star", **axis)
    return _write(path, primary, *images[: 4 if release == "DR3" else 3])


def make_hires(path, wavelength, flux, error, *, kind="tbl"):
    """HIRES of KOA (MAKEE): a table of one order, IPAC text ("tbl") or FITS ("fits"); vacuum, heliocentric.

    Source: www.astro.caltech.edu/~tb/makee/koa_tables.txt;
    koa.ipac.caltech.edu/UserGuide/HIRES/extracted_products.html.
    """
    n = len(flux)
    columns = {
        "col": np.arange(n),
        "row": np.full(n, 99.5),
        "raw_col": np.arange(n),
        "raw_row": np.full(n, 99.5),
        "wave": wavelength,
        "Flux": flux,
        "Error": error,
        "Background": np.full(n, 5.0),
        "Sig_to_Noise": np.asarray(flux) / error,
        "Flat": np.full(n, 1000.0),
        "Arc_Lamp": np.zeros(n),
        "Sum_Flux": 2 * np.asarray(flux),
    }
    Table(columns).write(path, format="ascii.ipac" if kind == "tbl" else "fits", overwrite=True)
    return path


def make_multispec(path, wavelength, flux, error=None, *, functions=None, units="angstroms", cards=None):
    """IRAF multispec: an image with a row for each aperture (and a plane for each band), wavelengths in WAT2_nnn.

    `functions` has one string for each row, after "aperture beam" ("0 6500.0 0.02 2048 0.0 1.0 9.0" for a linear one);
    None: linear ones through `wavelength`. With `error` there are four bands, as apall writes them; sigma is the last.
    WAT strings are cut into cards of 68 characters in the middle of numbers, and blanks at their ends are lost.

    Source: IRAF, noao$onedspec/doc/specwcs.hlp; apall.hlp (bands).
    """
    flux = np.atleast_2d(flux)
    if functions is None:
        step = [(row[-1] - row[0]) / (len(row) - 1) for row in np.atleast_2d(wavelength)]
        functions = [
            f"0 {row[0]!r} {dw!r} {len(row)} 0.0 1.0 9.0".replace("np.float64(", "").replace(")", "")
            for row, dw in zip(np.atleast_2d(wavelength), step, strict=True)
        ]
    text = "wtype=multispec " + " ".join(
        f'spec{k} = "{k} {60 - k} {function}"' for k, function in enumerate(functions, start=1)
    )
    data, bands = flux, []
    if error is not None:
        data = np.stack([flux, 1.1 * flux, np.full(flux.shape, 4.0), np.atleast_2d(error)])
        bands = ["spectrum - background fit, weights variance, clean no", "raw - background fit", "background", "sigma"]
    primary = _primary(np.asarray(data, dtype="f4"), INSTRUME="MIKE-Red", OBJECT="star")
    header = primary.header
    header["WCSDIM"] = data.ndim
    for k in range(1, data.ndim + 1):
        header[f"CTYPE{k}"] = "MULTISPE" if k < 3 else "LINEAR"
        header[f"CD{k}_{k}"] = 1.0
        header[f"LTM{k}_{k}"] = 1.0
    header["WAT0_001"] = "system=multispec"
    header["WAT1_001"] = f"wtype=multispec label=Wavelength units={units}"
    for k in range(0, len(text), 68):
        header[f"WAT2_{k // 68 + 1:03d}"] = text[k : k + 68]
    for k, band in enumerate(bands, start=1):
        header[f"BANDID{k}"] = band
    header.update(cards or {})
    return _write(path, primary)


def make_image(path, wavelength, flux, error=None, *, axis, mask=None, error_name="ERR", cards=None):
    """A 1-D image with wavelengths in its header, and extensions of errors and of a mask.

    `axis`: "linear" (angstrom), "nm", "dcflag" (log10, DC-FLAG of IRAF), "loglam" and "log-linear" (log10, CTYPE1),
    "wave-log" (FITS standard: CRVAL1 in CUNIT1, exponential), "awav" (linear, air), "ln".

    Source: FITS standard 4.0, section 8.4 (Greisen et al. 2006); IRAF, noao$onedspec/doc/specwcs.hlp (DC-FLAG).
    """
    w = np.asarray(wavelength, dtype="f8")
    n = len(w)

    def uniform(values, pixel=1.0):
        step = (values[-1] - values[0]) / (n - 1)
        return {"CRPIX1": pixel, "CRVAL1": values[0] + (pixel - 1) * step, "CDELT1": step}

    header = {
        "linear": lambda: uniform(w, 7.0) | {"CTYPE1": "LINEAR", "CUNIT1": "Angstrom"},
        "nm": lambda: uniform(w / 10) | {"CTYPE1": "WAVE", "CUNIT1": "nm"},
        "awav": lambda: uniform(to_air(w)) | {"CTYPE1": "AWAV", "CUNIT1": "Angstrom"},
        "dcflag": lambda: uniform(np.log10(w)) | {"CTYPE1": "LINEAR", "DC-FLAG": 1},
        "loglam": lambda: uniform(np.log10(w)) | {"CTYPE1": "LOGLAM"},
        "log-linear": lambda: uniform(np.log10(w), 5.0) | {"CTYPE1": "LOG-LINEAR"},
        "ln": lambda: uniform(np.log(w)) | {"CTYPE1": "LN-LINEAR"},
        "wave-log": lambda: {
            "CRPIX1": 1.0,
            "CRVAL1": w[0],
            "CDELT1": w[0] * np.log(w[-1] / w[0]) / (n - 1),
            "CTYPE1": "WAVE-LOG",
            "CUNIT1": "Angstrom",
        },
    }[axis]()
    primary = _primary(np.asarray(flux, dtype="f8"), OBJECT="star")
    primary.header.update(header | (cards or {}))
    hdus = [primary]
    if error is not None:
        hdus.append(_image(np.asarray(error, dtype="f8"), error_name))
    if mask is not None:
        hdus.append(_image(np.asarray(mask, dtype="i4"), "DQ"))
    return _write(path, *hdus)


def make_nirspec(path, wavelength, flux, error):
    """NIRSPEC of KOA (NSDRP): a table of one order with units in the names of its columns.

    Source: NIRSPEC-Data-Reduction-Pipeline, products.py (fluxFitsTable).
    """
    n = len(flux)
    columns = [
        ("col", "1I", None, np.arange(n)),
        ("wave (A)", "1D", None, wavelength),
        ("flux (cnts)", "1D", None, flux),
        ("noise (cnts)", "1D", None, error),
        ("sky (cnts)", "1D", None, np.full(n, 3.0)),
        ("synth_sky", "1D", None, np.zeros(n)),
        ("sig_to_noise", "1D", None, np.asarray(flux) / error),
        ("flat (cnts)", "1D", None, np.full(n, 900.0)),
        ("trace_upper (pix)", "1D", None, np.full(n, 90.0)),
    ]
    return _write(path, fits.PrimaryHDU(), _table(columns))


def make_xshooter(path, wavelength, flux, error, *, bad=None, cards=None):
    """X-shooter of its pipeline: FLUX in the primary image, ERRS and QUAL, linear in nm.

    Source: X-shooter Pipeline User Manual (VLT-MAN-ESO-14650-4840), SCI_SLIT_FLUX_MERGE1D.
    """
    nm = np.asarray(wavelength) / 10
    axis = {"CRVAL1": nm[0], "CDELT1": (nm[-1] - nm[0]) / (len(nm) - 1), "CRPIX1": 1.0, "CTYPE1": "LINEAR"}
    axis["CUNIT1"] = "nm"
    quality = np.zeros(len(flux)) if bad is None else np.where(bad, 1048576, 0)
    primary = _primary(
        np.asarray(flux, dtype="f8"),
        INSTRUME="XSHOOTER",
        OBJECT="star",
        ESO_PRO_CATG="SCI_SLIT_FLUX_MERGE1D_VIS",
        BUNIT="erg/s/cm2/Angstrom",
        EXTNAME="FLUX",
        **axis,
    )
    primary.header.update(cards or {})
    errors = _image(np.asarray(error, dtype="f8"), "ERRS", **axis)
    return _write(path, primary, errors, _image(quality.astype("i4"), "QUAL", **axis))


def make_ipac(path, wavelength, flux, error, *, unit="micron"):
    """A table of IPAC (IRSA): names, types and units between bars.

    Source: irsa.ipac.caltech.edu/applications/DDGEN/Doc/ipac_tbl.html.
    """
    table = Table({"wavelength": np.asarray(wavelength) * {"micron": 1e-4, "nm": 0.1}[unit], "flux": flux})
    table["error"] = error
    table["wavelength"].unit = unit
    table.write(path, format="ascii.ipac", overwrite=True)
    return path


def make_gzipped_text(path, wavelength, flux, error):
    """A text of three columns with a header, compressed by gzip."""
    lines = ["# wavelength flux error"]
    lines += [f"{w:.10f} {f:.12e} {e:.12e}" for w, f, e in zip(wavelength, flux, error, strict=True)]
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    return path


def make_sdss(path, wavelength, flux, error, *, and_mask=None):
    """spec file of SDSS and BOSS: the combined spectrum in COADD, single exposures behind it; vacuum, heliocentric.

    Traps: log10 wavelengths, inverse variances, OR_MASK, which marks pixels bad in any exposure.

    Source: data.sdss.org/datamodel/files/BOSS_SPECTRO_REDUX/RUN2D/spectra/PLATE4/spec.html.
    """
    n = len(flux)

    def table(name, factor):
        columns = [
            ("flux", "E", None, factor * np.asarray(flux)),
            ("loglam", "D" if name == "COADD" else "E", None, np.log10(wavelength)),
            ("ivar", "E", None, 1 / np.asarray(error) ** 2),
            ("and_mask", "J", None, np.zeros(n) if and_mask is None else and_mask),
            ("or_mask", "J", None, np.ones(n)),
            ("wdisp", "E", None, np.ones(n)),
            ("sky", "E", None, np.full(n, 4.0)),
            ("model", "E", None, np.full(n, 2.0)),
        ]
        return _table(columns, name)

    primary = _primary(TELESCOP="SDSS 2.5-M", FIBERID=3, VERS2D="v5_13_2", OBJECT="star", VERSUTIL="v5_5_34")
    spall = _table([("Z", "E", None, np.zeros(1))], "SPALL")
    return _write(path, primary, table("COADD", 1), spall, table("B1-00012345-00012346-00012347", 3))


def make_lamost(path, wavelength, flux, error, *, and_mask=None, kind="image"):
    """LAMOST, low resolution: five rows (before DR8) or one row of arrays in COADD; vacuum, heliocentric.

    Rows: flux, inverse variance, wavelength, and-mask, or-mask.

    Source: dr5.lamost.org/v3/doc/data-production-description; www.lamost.org/dr8.
    """
    n = len(flux)
    and_mask = np.zeros(n) if and_mask is None else and_mask
    cards = {"TELESCOP": "LAMOST", "OBSID": 101001, "DESIG": "LAMOST J000000.00+000000.0", "HELIO": True}
    rows = [flux, 1 / np.asarray(error) ** 2, wavelength, and_mask, np.ones(n)]
    if kind == "image":
        start, stop = np.log10(wavelength[[0, -1]])
        step = (stop - start) / (n - 1)
        cards |= {"VACUUM": True, "COEFF0": start, "COEFF1": step, "CRVAL1": start, "CRPIX1": 1}
        cards |= {"DC__FLAG": 1, "CTYPE1": "LINEAR", "NWORDER": 2}
        primary = _primary(np.array(rows, dtype="f4"), **cards)
        primary.header["CD1_1"] = step
        return _write(path, primary)
    names = ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK")
    columns = [
        (name, f"{n}{'D' if name == 'WAVELENGTH' else 'E'}", None, [a]) for name, a in zip(names, rows, strict=True)
    ]
    return _write(path, _primary(**cards), _table(columns, "COADD", VACUUM=True))


def make_crires(path, wavelength, flux, error, *, traces=1):
    """CRIRES+ of its pipeline: a table for each of three detectors; nm, vacuum, telescope.

    Columns are named ORDER_TRACE_WHAT. `wavelength` has the shape (n_orders, 3, n_pixels). Detectors have all orders.

    Source: CRIRES+ Pipeline User Manual (cr2res_obs_nodding, extracted spectra); pycrires.
    """
    hdus = []
    for detector in range(3):
        columns = []
        for order in range(len(wavelength)):
            for trace in range(1, 1 + traces):
                stem = f"{order + 2:02d}_{trace:02d}"
                columns += [
                    (f"{stem}_SPEC", "D", None, np.asarray(flux)[order, detector] * trace),
                    (f"{stem}_ERR", "D", None, np.asarray(error)[order, detector]),
                    (f"{stem}_WL", "D", "nm", np.asarray(wavelength)[order, detector] / 10),
                ]
        hdus.append(_table(columns, f"CHIP{detector + 1}.INT1"))
    primary = _primary(INSTRUME="CRIRES", OBJECT="star", ESO_PRO_CATG="OBS_NODDING_EXTRACTA")
    return _write(path, primary, *hdus)


def make_stis(path, wavelength, flux, error, *, quality=None, exposures=1):
    """x1d of HST/STIS: a row of arrays for each order, data quality bits; vacuum, heliocentric.

    Source: STIS Data Handbook, 2.3.1; specutils/io/default_loaders/hst_stis.py (SDQFLAGS).
    """
    n_orders, n = np.shape(flux)
    quality = np.zeros((n_orders, n)) if quality is None else quality
    columns = [
        ("SPORDER", "1I", None, 320 - np.arange(n_orders)),
        ("NELEM", "1I", None, np.full(n_orders, n)),
        ("WAVELENGTH", f"{n}D", "Angstroms", wavelength),
        ("GROSS", f"{n}E", "Counts/s", np.asarray(flux) * 3),
        ("BACKGROUND", f"{n}E", "Counts/s", np.zeros((n_orders, n))),
        ("NET", f"{n}E", "Counts/s", np.asarray(flux) * 2),
        ("FLUX", f"{n}E", "erg/s/cm**2/Angstrom", flux),
        ("ERROR", f"{n}E", "erg/s/cm**2/Angstrom", error),
        ("DQ", f"{n}I", None, quality),
    ]
    primary = _primary(
        TELESCOP="HST", INSTRUME="STIS", TARGNAME="star", X1DCORR="COMPLETE", HELCORR="COMPLETE", NEXTEND=exposures
    )
    return _write(path, primary, *(_table(columns, "SCI", SDQFLAGS=31743, EXTVER=k + 1) for k in range(exposures)))
