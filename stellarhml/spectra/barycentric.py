"""Velocity of the observatory towards a star, from the header of its file: time, place and target.

Nothing is downloaded: places come from geodetic keywords of the header or a short list of observatories, and the
rotation of the Earth from the tables that astropy has; without them, the error is below 1 m/s.
"""

import json
import warnings
from itertools import chain
from pathlib import Path

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.tables import META_KEY

# Longitude [degrees east], latitude [degrees], height [m]; 0.01 degrees change velocities by less than 0.1 m/s
_SITES = {
    "het": (-104.0147, 30.6814, 2026.0),
    "mcdonald": (-104.0217, 30.6716, 2075.0),
    "keck": (-155.4747, 19.8260, 4160.0),
    "cfht": (-155.4681, 19.8253, 4204.0),
    "gemini-north": (-155.4690, 19.8238, 4213.0),
    "gemini-south": (-70.7367, -30.2407, 2722.0),
    "subaru": (-155.4761, 19.8255, 4163.0),
    "irtf": (-155.4719, 19.8262, 4168.0),
    "tng": (-17.8892, 28.7540, 2387.0),
    "eso-vlt": (-70.4032, -24.6270, 2648.0),
    "eso-3.6": (-70.7317, -29.2612, 2400.0),
    "eso-3p6": (-70.7317, -29.2612, 2400.0),
    "calar alto": (-2.5468, 37.2208, 2168.0),
    "ca 3.5": (-2.5468, 37.2208, 2168.0),
    "lick": (-121.6429, 37.3414, 1283.0),
    "sloan 2.5": (-105.8203, 32.7803, 2788.0),
    "dct": (-111.4223, 34.7444, 2361.0),
    "magellan": (-70.6926, -29.0146, 2380.0),
}
# keywords of barycentric corrections in km/s that pipelines computed
_STATED = ("ESO QC BERV", "ESO DRS BERV", "TNG DRS BERV", "CARACAL BERV", "BERV")
_GEODETIC = (
    ("ESO TEL GEOLON", "ESO TEL GEOLAT", "ESO TEL GEOELEV"),
    ("TNG TEL GEOLON", "TNG TEL GEOLAT", "TNG TEL GEOELEV"),
    ("CAHA TEL GEOLON", "CAHA TEL GEOLAT", "CAHA TEL GEOELEV"),
    ("OBSGEO-L", "OBSGEO-B", "OBSGEO-H"),
    ("GEOLON", "GEOLAT", "GEOELEV"),
)
_EXPOSURES = ("EXPTIME", "EXPOSURE", "ITIME", "DARKTIME")
_GEOCENTRIC, _NAMES = ("OBSGEO-X", "OBSGEO-Y", "OBSGEO-Z"), ("TELESCOP", "OBSERVAT")
_TARGETS, _TIMES = (("QRA", "QDEC"), ("RA", "DEC")), ("DATE-OBS", "MJD-OBS")
_USED = {*_STATED, *_EXPOSURES, *_GEOCENTRIC, *_NAMES, *_TIMES, *chain(*_GEODETIC), *chain(*_TARGETS)}


def barycentric_velocity(source):
    """Compute the velocity of an observatory towards its target, with respect to the barycenter of the solar system.

    It is the barycentric correction: to be added to a velocity that was measured at the observatory (with the product
    of both over the speed of light).

    Parameters
    ----------
    source : ObservedSpectrum, str, path-like, or mapping
        A spectrum that was read from a FITS file, also one that `ObservedSpectrum.write` wrote since, such a file, or
        its header. A correction that a pipeline stated
        (`BERV`) is taken as it is. Else it is computed from the middle of the exposure (`DATE-OBS`, or `MJD-OBS`,
        and `EXPTIME`; its beginning where there is none), the place (geodetic keywords, `OBSGEO-X` to `OBSGEO-Z`, or
        an observatory of a short list) and the target (`RA` and `DEC`, in degrees or sexagesimal; `QRA` and `QDEC` of
        the Hobby-Eberly telescope).

    Returns
    -------
    velocity : float
        In km/s, positive towards the star.

    Raises
    ------
    SpectrumFileError
        If the header has no time, place or target, or there is no header.

    Examples
    --------
    >>> from stellarhml.spectra import barycentric_velocity
    >>> header = {"DATE-OBS": "2021-05-17T05:44:33", "TELESCOP": "HET", "RA": "12:41:57", "DEC": "+06:48:24"}
    >>> round(barycentric_velocity(header), 1)
    -21.9
    """
    header, name = _header(source)
    for key in _STATED:
        if key in header:
            return float(header[key])
    from astropy import units as u
    from astropy.coordinates import SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    place = _place(header, name)
    ra, dec = next(
        ((header[a], header[b]) for a, b in _TARGETS if a in header and b in header),
        (None, None),
    )
    if ra is None:
        raise _missing(name, "target (RA and DEC)")
    unit = u.hourangle if isinstance(ra, str) and not _is_number(ra) else u.deg
    target = SkyCoord(ra, dec, unit=(unit, u.deg))
    seconds = next((float(header[key]) for key in _EXPOSURES if _is_number(header.get(key))), 0.0)
    with warnings.catch_warnings(), iers.conf.set_temp("auto_download", False):
        warnings.simplefilter("ignore")  # leap seconds and rotation of the Earth in years to come: below 1 m/s
        try:
            if "T" in str(header.get("DATE-OBS", "")):
                time = Time(str(header["DATE-OBS"]), scale="utc")
            else:
                time = Time(float(header["MJD-OBS"]), format="mjd", scale="utc")
        except (KeyError, ValueError) as error:
            raise _missing(name, "time (DATE-OBS with date and time, or MJD-OBS)") from error
        offline = iers.conf.set_temp("iers_degraded_accuracy", "ignore"), iers.conf.set_temp("auto_max_age", None)
        with offline[0], offline[1]:
            correction = target.radial_velocity_correction(obstime=time + seconds / 2 * u.s, location=place)
    return float(correction.to_value(u.km / u.s))


def used_cards(headers):
    """Cards of the headers (dicts) of a file from which the velocity is computed, by keyword; the first counts."""
    return {key: value for header in reversed(headers) for key, value in header.items() if key in _USED}


def _header(source):
    """The header of a file, with the keywords of all extensions, and the name of the file."""
    meta = getattr(source, "meta", None)
    if isinstance(meta, dict) and "frame" in meta:
        if meta.get("header"):
            return meta["header"], meta.get("file") or "The header"
        source = meta.get("file")
        if source is None:
            raise SpectrumFileError(
                "The spectrum is not that of a file with a header: it was made in memory. State the velocity in km/s."
            )
    if not isinstance(source, (str, Path)):
        return source, "The header"
    from astropy.io import fits

    try:
        with fits.open(source) as file:
            headers = [dict(part.header) for part in file]
    except OSError as error:
        raise SpectrumFileError(f"{source} is no FITS file, so it has no header. State the velocity.") from error
    headers += [json.loads(header[META_KEY])["meta"].get("header", {}) for header in headers if META_KEY in header]
    return used_cards(headers), str(source)


def _place(header, name):
    """EarthLocation of the observatory."""
    from astropy import units as u
    from astropy.coordinates import EarthLocation

    for keys in _GEODETIC:
        if all(_is_number(header.get(key)) for key in keys):
            longitude, latitude, height = (float(header[key]) for key in keys)
            return EarthLocation.from_geodetic(longitude * u.deg, latitude * u.deg, height * u.m)
    geocentric = [header.get(key) for key in _GEOCENTRIC]
    if all(map(_is_number, geocentric)):
        return EarthLocation.from_geocentric(*(float(x) for x in geocentric), unit=u.m)
    words = " ".join(str(header.get(key, "")) for key in _NAMES).lower()
    found = next((site for site in _SITES if site in words), None)
    if found is None:
        raise _missing(name, f"place (OBSGEO-X, -Y and -Z, or a TELESCOP among {', '.join(_SITES)})")
    longitude, latitude, height = _SITES[found]
    return EarthLocation.from_geodetic(longitude * u.deg, latitude * u.deg, height * u.m)


def _missing(name, what):
    return SpectrumFileError(f"{name} states no {what} to compute the velocity from. State the velocity in km/s.")


def _is_number(value):
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)
