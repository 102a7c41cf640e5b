r"""Wavelengths that a FITS header gives for the pixels of an image.

One axis of wavelengths (Greisen et al. 2006, doi:10.1051/0004-6361:20053818, and the conventions of IRAF, SDSS and
others beside it), with :math:`x = \mathrm{CRVAL1} + (p - \mathrm{CRPIX1})\,\mathrm{CDELT1}` at pixel
:math:`p = 1, 2, ...`:

* linear: :math:`\lambda = x`;
* logarithmic: :math:`\lambda = 10^x` (`DC-FLAG` = 1, `CTYPE1` = LOGLAM or LOG-LINEAR), or :math:`\lambda = e^x`
  (LN-LINEAR);
* WAVE-LOG and AWAV-LOG of the FITS standard: :math:`\lambda = \lambda_r \exp((p - \mathrm{CRPIX1})\,
  \mathrm{CDELT1} / \lambda_r)` with :math:`\lambda_r = \mathrm{CRVAL1}` in `CUNIT1`.

An axis for each row, `multispec` of IRAF (specwcs.hlp of noao.onedspec): :math:`\lambda = \sum_i w_i (\lambda_i +
W_i(p)) / (1 + z)` with Chebyshev or Legendre polynomials :math:`W_i`, or a linear or log10 axis, in `WAT2_nnn`.
"""

import re
from typing import NamedTuple

import numpy as np

from stellarhml.exceptions import SpectrumFileError

SHORTEST, LONGEST = 1e3, 3e6  # angstrom: far ultraviolet to 300 micron, where stars are observed
_LINEAR = ("", "WAVE", "AWAV", "LINEAR", "LAMBDA", "WAVELENGTH", "ANGSTROM", "ANGSTROMS", "NM", "MICRON", "AIR", "VAC")
_LOG10 = ("LOGLAM", "LOG-LINEAR", "LOGLAMBDA", "LOG-LAM", "LOGWAVE", "LOG10LAM", "WAVE-LOG10")
_LN = ("LN-LINEAR", "LNLAM", "LNLAMBDA", "LNWAVE", "LN-WAVE")
_FITS_LOG = ("WAVE-LOG", "AWAV-LOG")
_UNITS = {  # angstrom
    **dict.fromkeys(("a", "aa", "ang", "angstrom", "angstroms"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 10.0),
    **dict.fromkeys(("um", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e4),
    **dict.fromkeys(("m", "meter", "meters", "metre"), 1e10),
}
_SPEC = re.compile(r'spec(\d+)\s*=\s*"([^"]*)"')
_POLYNOMIALS = {1: np.polynomial.Chebyshev, 2: np.polynomial.Legendre}
_OTHER_FUNCTIONS = {3: "a cubic spline", 4: "a linear spline", 5: "a table of pixels", 6: "a sampled table"}


class Axis(NamedTuple):
    """Wavelengths [angstrom] of the pixels of a row, the keywords and the `unit` that give them, and its `number`."""

    wavelength: np.ndarray
    keywords: str
    unit: str
    number: int = 0


def angstroms_in(unit, source, where) -> float:
    """Size of a unit of length in angstrom; 1 if `unit` is empty. SpectrumFileError names where it stands."""
    text = str(unit or "angstrom").strip().lower()
    if text not in _UNITS:
        raise SpectrumFileError(
            f"{source} has wavelengths in {unit!r} ({where}), but angstrom, nm, um or m is needed. Correct the header, "
            "or write a table of wavelength, flux and error."
        )
    return _UNITS[text]


def header_axis(header, n_pixels, source) -> Axis:
    """Axis of an image of one spectrum by its header, a mapping of keywords to values.

    SpectrumFileError, which names the `source` and the keywords, if these give no wavelengths, contradict each other,
    or lead to wavelengths at which no star is observed.
    """
    kind = str(header.get("CTYPE1", "")).strip().upper()
    flag = _number(header, "DC-FLAG", source, 0.0)
    unit, where = _unit(header, kind)
    inner = re.fullmatch(r"(log10|log|dex|ln)\s*\(\s*(.*?)\s*\)", unit, re.IGNORECASE)
    start = _number(header, "CRVAL1", source)
    step = _number(header, "CD1_1", source, None)
    plain_step = _number(header, "CDELT1", source, None)
    if None not in (step, plain_step) and plain_step != 1 and not np.isclose(step, plain_step, rtol=1e-6):
        raise SpectrumFileError(
            f"{source} has CD1_1 = {step:g} and CDELT1 = {plain_step:g}, but the step of its wavelengths must be one "
            "number. Correct the one that is wrong."
        )
    step = plain_step if step is None else step
    if step is None:
        raise SpectrumFileError(
            f"{source} has CRVAL1 and neither CDELT1 nor CD1_1, but the step of its wavelengths is needed. Add it."
        )
    origin = _number(header, "CRPIX1", source, 1.0)
    pixels = np.arange(1, n_pixels + 1) - origin
    cards = [f"{key} = {header[key]}" for key in ("CRVAL1", "CDELT1", "CD1_1", "CRPIX1", "DC-FLAG") if key in header]
    cards += [f"{key} = {header[key]!r}" for key in ("CTYPE1", "CUNIT1") if str(header.get(key, "")).strip()]
    keywords = ", ".join(cards)
    logarithm = np.e if kind in _LN else 10.0 if kind in _LOG10 or flag == 1 else None
    if inner:
        logarithm, unit = np.e if inner[1].lower() == "ln" else 10.0, inner[2]
    if kind in _FITS_LOG:
        if flag == 1:
            raise SpectrumFileError(
                f"{source} has CTYPE1 = {kind!r}, where CRVAL1 is a wavelength, and DC-FLAG = 1, where it is a "
                "logarithm. Correct the one that is wrong."
            )
        with np.errstate(all="ignore"):
            values = start * np.exp(pixels * step / start)
    elif kind in (*_LINEAR, *_LOG10, *_LN):
        values = start + pixels * step
        if logarithm:
            with np.errstate(all="ignore"):
                values = np.power(logarithm, values)
    else:
        raise SpectrumFileError(
            f"{source} has CTYPE1 = {kind!r}, but wavelengths that are linear, log10 (LOGLAM), ln (LN-LINEAR) or "
            "WAVE-LOG are needed. Write a table of wavelength, flux and error."
        )
    values = values * angstroms_in(unit, source, where)
    require_plausible(values, source, keywords)
    return Axis(values, keywords, unit)


def multispec_axes(header, n_pixels, source) -> list[Axis]:
    """Axis of each row of an image of IRAF's multispec; pixels beyond the length of a row have no wavelength (NaN).

    SpectrumFileError, which names the `source`, if `WAT2_nnn` is damaged, or has functions that are not read here.
    """
    cards = sorted(key for key in header if re.fullmatch(r"WAT2_\d{3}", key))
    # FITS drops blanks at the end of a card, and a card holds 68 characters
    text = "".join(f"{header[key]!s:68s}" for key in cards)
    found = _SPEC.findall(text)
    if not found:
        raise SpectrumFileError(
            f"{source} has CTYPE1 = 'MULTISPE', but no entries spec1 = \"...\" in WAT2_001 and on. Write it again with "
            "IRAF, or as a table of wavelength, flux and error."
        )
    unit = _wat_unit(header)
    size = angstroms_in(unit, source, "WAT1_001")
    # coordinates belong to pixels before trimming and binning: logical = LTM physical + LTV
    scale, shift = (_number(header, key, source, default) for key, default in (("LTM1_1", 1.0), ("LTV1", 0.0)))
    pixels = (np.arange(1, n_pixels + 1) - shift) / (scale or 1.0)
    axes = []
    for name, entry in found:
        where = f"{source}, spec{name} of WAT2,"
        try:
            fields = [float(word) for word in entry.split()]
            beam, kind, first, step, n_valid, z = int(fields[1]), int(fields[2]), *fields[3:6], fields[6]
        except (IndexError, ValueError) as error:
            raise SpectrumFileError(
                f"{where} is {entry!r}, but aperture, beam, type, first wavelength, step, number of pixels, z, limits "
                "and functions are needed. The header may be truncated; copy the file again."
            ) from error
        if kind in (0, 1):
            values = first + (pixels - 1) * step
            with np.errstate(all="ignore"):
                values = np.power(10.0, values) if kind == 1 else values
        elif kind == 2:
            values = _sum_of_functions(fields[9:], pixels, where)
        else:
            raise SpectrumFileError(
                f"{where} has the type {kind}, but 0 (linear), 1 (log10) or 2 (functions) is needed: the row has no "
                "wavelengths. Calibrate it first."
            )
        values = values / (1 + z) * size
        values[int(n_valid) :] = np.nan
        require_plausible(values, source, f"spec{name} of WAT2")
        axes.append(Axis(values, "WAT2", unit, beam))
    return axes


def require_plausible(wavelength, source, keywords):
    """Refuse wavelengths [angstrom] at which no star is observed, or that do not change; names the `keywords`."""
    with np.errstate(all="ignore"):
        known = wavelength[np.isfinite(wavelength)]
        steps = np.diff(known)
    if not known.size or not (known.min() >= SHORTEST and known.max() <= LONGEST):
        found = f"{known[0]:.6g} to {known[-1]:.6g} angstrom" if known.size else "that are not finite"
        raise SpectrumFileError(
            f"{source} has wavelengths {found} by {keywords}, but {SHORTEST:g} to {LONGEST:g} angstrom are needed. "
            "They may be in another unit, or logarithms: state CUNIT1, or CTYPE1 = 'LOGLAM' or DC-FLAG = 1 for log10 "
            "values, or write a table of wavelength, flux and error."
        )
    if steps.size and not (np.all(steps > 0) or np.all(steps < 0)):
        first = int(np.argmax(steps <= 0 if steps[0] > 0 else steps >= 0))
        raise SpectrumFileError(
            f"{source} has wavelengths that do not increase by {keywords}: {known[first]:.6g} and then "
            f"{known[first + 1]:.6g} angstrom. Correct the header."
        )


def _sum_of_functions(fields, pixels, where):
    """Wavelengths of a row: the weighted sum of its functions of the pixel."""
    total, rest = np.zeros(len(pixels)), list(fields)
    try:
        while rest:
            weight, zero, kind, order = rest[0], rest[1], int(rest[2]), int(rest[3])
            if kind not in _POLYNOMIALS:
                raise SpectrumFileError(
                    f"{where} has {_OTHER_FUNCTIONS.get(kind, f'the function {kind}')}, but a Chebyshev (1) or "
                    "Legendre (2) polynomial is needed. Resample the spectrum with dispcor of IRAF, or write a table."
                )
            low, high, terms = rest[4], rest[5], rest[6 : 6 + order]
            if len(terms) != order or order < 1 or not high > low:
                raise IndexError
            total += weight * (zero + _POLYNOMIALS[kind](terms, domain=(low, high))(pixels))
            rest = rest[6 + order :]
    except IndexError as error:
        raise SpectrumFileError(
            f"{where} has a function with too few numbers; the header may be truncated. Copy the file again."
        ) from error
    return total


def _unit(header, kind):
    """Unit of the wavelengths as text, empty if none is stated, and the keyword that states it."""
    for key in ("CUNIT1", "WAT1_001"):
        text = _wat_unit(header) if key == "WAT1_001" else str(header.get(key, "")).strip()
        if text:
            return text, key
    return (kind, "CTYPE1") if kind.lower() in _UNITS else ("", "")


def _wat_unit(header):
    match = re.search(r"units=([^\s\"]+)", str(header.get("WAT1_001", "")))
    return match[1] if match else ""


def _number(header, key, source, *default):
    """A number of a header; SpectrumFileError if it is missing without a default, or not a finite number."""
    if key not in header and default:
        return default[0]
    value = header.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise SpectrumFileError(
            f"{source} has {key} = {value!r}, but a number is needed for its wavelengths. Correct the header, or write "
            "a table of wavelength, flux and error."
        )
    return float(value)
