"""Columns of a table of a spectrum: which is the wavelength, the flux, its error, and the marks of bad pixels.

Names are compared in lower case, with blanks and hyphens as underscores. A unit in brackets counts (`wave (nm)`), and
so do `air` and `vac` in the name of the wavelengths. Nothing is guessed from values.
"""

import re
import warnings
from typing import NamedTuple

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.orders import OrderBuilder, to_vacuum
from stellarhml.spectra.statements import (
    Statement,
    by_format,
    check_frame,
    check_medium,
    split_medium,
    stated_by_ucd,
    stated_frame,
    stated_medium,
)

_WAVELENGTH = (
    "wavelength",
    "wave",
    "lambda",
    "wavelengths",
    "waves",
    "lam",
    "wl",
    "wls",
    "wavel",
    "wav",
    "wvl",
    "waveobs",
)
_LOGARITHMS = {
    **dict.fromkeys(("loglam", "log_lam", "log_lambda", "log_wave", "log_wavelength", "log10_wavelength"), 10.0),
    **dict.fromkeys(("lnlam", "ln_lam", "ln_lambda", "ln_wave", "ln_wavelength"), np.e),
}
_FLUX = ("flux", "fluxes", "fl", "fls", "flux_density", "flam", "f_lambda")
_OTHER_FLUX = (
    "intensity",
    "counts",
    "flux_normalized",
    "flux_normalised",
    "normalized_flux",
    "normalised_flux",
    "norm_flux",
    "flux_norm",
    "nflux",
    "sflux",
    "spectrum",
)
_POWERS = {  # of a standard deviation
    **dict.fromkeys(
        (
            *("error", "errors", "err", "errs", "flux_error", "flux_err", "fluxerr", "fluxerror", "error_flux"),
            *("err_flux", "e_flux", "eflux", "dflux", "sigma", "sigmas", "sig", "sigma_flux", "flux_sigma"),
            *("uncertainty", "uncertainties", "unc", "flux_unc", "flux_uncertainty", "noise", "std", "stddev"),
            *("std_dev", "stdev", "flux_std", "standard_deviation"),
        ),
        1,
    ),
    **dict.fromkeys(("variance", "var", "stat", "flux_var", "flux_variance", "var_flux"), 2),
    **dict.fromkeys(("ivar", "invvar", "inverse_variance", "inv_var", "flux_ivar", "ivar_flux"), -2),
}
_KINDS = {1: "standard deviations", 2: "variances", -2: "inverse variances"}
_QUALITY = (
    *(
        "mask",
        "masks",
        "dq",
        "quality",
        "qual",
        "flag",
        "flags",
        "data_quality",
        "and_mask",
        "andmask",
        "bitmask",
        "pixmask",
        "badpix",
    ),
    *("bad", "badmask", "pixel_mask", "quality_flag", "bad_pixel", "bad_pixels", "bad_pixel_mask", "bpm"),
    *("flux_flag", "flux_flags", "qual_flag", "dq_flag"),
)
_ORDER = ("order",)
_LIKE_ERRORS = re.compile(r"err|sig|unc|var|noise|std|rms|snr|s_?/?_?n$|weight|^[deu]_?fl|^delta|_[deu]$|^efl")
_UNIT_WORDS = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), "nm"),
    **dict.fromkeys(("um", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"), "um"),
    **dict.fromkeys(("angstrom", "angstroms", "ang", "aa"), "Angstrom"),
}
_OTHER_AXIS = re.compile(r"wave_?numbers?|wn|nu|freq(uency)?|energy|velocity|vel|rv|pix(el)?s?|index|spectral_axis")
_NO_NAMES = {"in", "is", "are", "of", "the", "from", "by", "and", "to", "with"}  # of a sentence


class Column(NamedTuple):
    """One column: its name ("" if the file gives none), its values, its unit as text or None, and its UCD or None."""

    name: str
    values: np.ndarray
    unit: str | None = None
    ucd: str | None = None


class ChosenColumns(NamedTuple):
    """Columns of a spectrum by what they are, each (n_pixels,).

    `wavelength` [angstrom] in the `medium` that the Statements `stated` name; `error` has standard deviations in the
    unit of the flux, or is None; `bad` marks pixels (bool), or is None; `order` has the number of the order of each
    pixel, or is None; `notes` say what was used and what was not.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    error: np.ndarray | None
    bad: np.ndarray | None
    order: np.ndarray | None
    flux_unit: str | None
    stated: list
    notes: list
    like_errors: list


def orders_of_columns(columns, headers, medium, source, *, format_name=None, rows=None):
    """Orders and meta of a table of one spectrum; messages name its `source`.

    `headers` belong to the table, each a mapping of keywords (upper case) to values; `medium` is what the caller
    states. `format_name`: that of a format in vacuum and in the frame of the telescope. `rows` (n_pixels,) numbers the
    orders where no column does.
    """
    chosen = choose_columns(columns, source, medium)
    by_name = [] if format_name is None else [by_format(format_name)]
    medium = check_medium(medium, [*by_name, *stated_medium(headers), *chosen.stated])
    frame = check_frame([*(by_format(format_name, "telescope") for _ in by_name), *stated_frame(headers)])
    grid = to_vacuum(chosen.wavelength, medium, source)
    labels = rows if chosen.order is None else chosen.order
    groups = [(0, slice(None))] if labels is None else split_orders(source, labels)
    builder = OrderBuilder(source, chosen.like_errors)
    for number, pixels in groups:
        parts = (None if part is None else part[pixels] for part in (chosen.error, chosen.bad))
        builder.add(number, grid[pixels], chosen.flux[pixels], *parts)
    return builder.orders, {
        "format": "table",
        "medium": medium,
        "frame": frame,
        "errors_known": builder.errors_known,
        "flux_unit": known_unit(chosen.flux_unit),
        "order_numbers": builder.numbers,
        "notes": [*chosen.notes, *builder.notes()],
    }


def split_orders(path, labels):
    """Number and indices of each order, in order of first appearance, from the order number of each pixel (n_pixels,).

    SpectrumFileError if these are not whole numbers.
    """
    with np.errstate(all="ignore"):
        whole = labels.astype(np.float64)
        good = np.isfinite(whole) & (np.abs(whole) < 2**31) & (whole == np.round(whole))
    if not good.all():
        raise SpectrumFileError(
            f"{path} has {labels[~good][0]} as the number of an order, but a whole number is needed for each pixel."
        )
    values, first, member = np.unique(whole, return_index=True, return_inverse=True)
    sizes = np.bincount(member.ravel(), minlength=len(values))
    ends = np.cumsum(sizes)
    rows = np.argsort(member.ravel(), kind="stable")
    return [(int(values[k]), rows[ends[k] - sizes[k] : ends[k]]) for k in np.argsort(first)]


def role_of(name):
    """What a column is by its name: "wavelength", "flux", "error", "quality", "order" or None."""
    bare = _plain(name)[0]
    roles = {"flux": (*_FLUX, *_OTHER_FLUX), "error": _POWERS, "quality": _QUALITY, "order": _ORDER}
    if _wavelength_name(name)[0] in (*_WAVELENGTH, *_LOGARITHMS):
        return "wavelength"
    return next((role for role, names in roles.items() if bare in names), None)


def is_header(words):
    """Whether words, one for each column, name at least a wavelength and a flux."""
    return {"wavelength", "flux"} <= set(map(role_of, words))


def looks_like_names(words):
    """Whether words of a comment, one for each column, are meant as their names, known or not."""
    if _NO_NAMES & {word.lower() for word in words}:
        return False
    axis = role_of(words[0]) == "wavelength" or _OTHER_AXIS.fullmatch(_plain(words[0])[0].partition("_ghz")[0])
    return bool(axis) or sum(role_of(word) is not None for word in words) > 1


def may_be_text(name):
    """Whether a column may have True and False."""
    return role_of(name) == "quality"


def choose_columns(columns, source, medium=None) -> ChosenColumns:
    """Choose the columns of a spectrum by name, or by position in a file without names.

    Of two columns of wavelengths in air and in vacuum that of `medium` is taken (None: vacuum). Standard deviations are
    made from variances and inverse variances. Columns of data quality mark pixels where they are not 0.
    SpectrumFileError, which names the `source`, if a column is missing, ambiguous, not numerical, or in an unknown
    unit.
    """
    if len(columns) < 2 and not any(column.name for column in columns):
        raise SpectrumFileError(
            f"{source} has {len(columns)} column, but at least two are needed: wavelength and flux, separated by white "
            "space or commas."
        )
    if not any(column.name for column in columns):
        columns = _named_by_position(columns, source)
    names = [_plain(column.name)[0] for column in columns]
    grid = _choose_wavelength(columns, source, medium)
    flux = _only(columns, names, _FLUX, "flux", source) or _only(columns, names, _OTHER_FLUX, "flux", source)
    if flux is None:
        raise SpectrumFileError(
            f"{source} has the columns {_list(columns)}, but one named {_FLUX[0]} is needed. Rename it."
        )
    error, power = _choose_error(columns, names, source)
    order = _only(columns, names, _ORDER, "order", source)
    marked = [(column, _bad_pixels(column)) for column, name in zip(columns, names, strict=True) if name in _QUALITY]
    marks, bad = ([pair[k] for pair in marked if pair[1] is not None] for k in (0, 1))
    used = [column for column in (grid, flux, error, order, *marks) if column is not None]
    ignored = [column.name or "(no name)" for column in columns if all(column is not other for other in used)]
    wavelength, unit, stated = in_angstrom(grid, source)
    flux_unit = flux.unit or _plain(flux.name)[1]
    if error is not None:
        error = _standard_deviation(error._replace(unit=error.unit or _plain(error.name)[1]), power, flux_unit, source)
    return ChosenColumns(
        wavelength,
        numbers(flux, source),
        error,
        np.any(bad, axis=0) if bad else None,
        None if order is None else numbers(order, source),
        flux_unit,
        stated,
        list(_notes(used, ignored, marks, unit)),
        [name for name in ignored if _LIKE_ERRORS.search(_plain(name)[0])],
    )


def numbers(column, source):
    """Values of a column as float64 (n_pixels,); SpectrumFileError if they are not one real number for each pixel."""
    values = np.asarray(column.values)
    if not _is_numerical(column):
        raise SpectrumFileError(
            f"{source} has a column {column.name!r} of shape {values.shape} and type {values.dtype}, but one real "
            "number for each pixel is needed. Write one row for each pixel."
        )
    return values.astype(np.float64)


def _is_numerical(column):
    """Whether a column has one number for each pixel."""
    values = np.asarray(column.values)
    return values.ndim == 1 and values.dtype.kind in "iuf"


def truth(word):
    """1 or 0 of a word such as True and F, or the word itself."""
    return {"true": "1", "false": "0", "t": "1", "f": "0"}.get(word.strip().lower(), word)


def _bad_pixels(column):
    """Pixels that a column of data quality marks: not 0, True, or any of their bits. None if it has other things."""
    values = np.asarray(column.values)
    if values.dtype.kind in "US" and values.ndim == 1:
        words = [truth(word.decode() if isinstance(word, bytes) else word) for word in values.tolist()]
        return np.array(words) == "1" if set(words) <= {"0", "1"} else None
    if values.dtype.kind in "iufb" and values.ndim == 1:
        return values != 0  # NaN is bad
    return values.any(axis=1) if values.dtype.kind == "b" and values.ndim == 2 else None


def in_angstrom(column, source):
    """Wavelengths of a column [angstrom], their unit as text or None, and Statements of their medium.

    Without a unit they are taken to be in angstrom. SpectrumFileError if the unit is unknown, or not a length.
    """
    from astropy import units as u

    name, named_unit, medium = _wavelength_name(column.name)
    stated = [Statement(medium, f"the column {column.name!r}")] if medium else []
    stated += stated_by_ucd(column.ucd)
    text = column.unit
    if text:
        words, medium = split_medium(re.split(r"[\s()\[\],_]+", text))
        stated += [Statement(medium, f"the unit {text!r}")] if medium else []
        text = " ".join(filter(None, words)) if medium else text
    text = text or named_unit
    inner = re.fullmatch(r"(log10|log|dex|ln)\s*\(\s*(.*?)\s*\)", text or "", re.IGNORECASE)
    base, values = _LOGARITHMS.get(name), numbers(column, source)
    if inner:
        base, text = np.e if inner[1].lower() == "ln" else 10.0, inner[2]
    if base:
        with np.errstate(all="ignore"):
            values = np.power(base, values)
    if not text:
        return values, None, stated
    try:
        # many files have the plural, which astropy does not know
        unit = u.AA if text.lower() == "a" else u.Unit(_UNIT_WORDS.get(text.lower(), text))
        return unit.to(u.AA, values), text, stated
    except (ValueError, TypeError) as error:
        raise SpectrumFileError(
            f"{source} has wavelengths in {text!r}, but a unit of length that astropy knows is needed. "
            "Convert the column to angstrom."
        ) from error


def _named_by_position(columns, source):
    """Columns of a file without names: wavelength, flux and, if there is a third, its error."""
    if len(columns) > 3:
        raise SpectrumFileError(
            f"{source} has {len(columns)} columns without names, and more than three are not guessed: the third may be "
            "an error, a continuum or a polarisation. Write a first line with their names, such as '# wavelength flux "
            "error continuum'."
        )
    return [column._replace(name=name) for column, name in zip(columns, ("wavelength", "flux", "error"), strict=False)]


def _choose_wavelength(columns, source, medium):
    """The column of wavelengths."""
    found = [column for column in columns if role_of(column.name) == "wavelength"]
    if len(found) > 1:  # the same wavelengths in air and in vacuum
        media = [_wavelength_name(column.name)[2] for column in found]
        fitting = [column for column, own in zip(found, media, strict=True) if own == (medium or "vacuum")]
        found = fitting if len(fitting) == 1 else found
    if len(found) > 1:
        raise _ambiguous(found, "wavelength", columns, source)
    if not found:
        raise SpectrumFileError(
            f"{source} has the columns {_list(columns)}, but one named {' or '.join(_WAVELENGTH[:3])} is needed. "
            "Rename it; without a unit it must be in angstrom. Convert wave numbers, frequencies and energies."
        )
    return found[0]


def _choose_error(columns, names, source):
    """The column of errors, and its power of a standard deviation; None and 1 if there is none."""
    for power in _KINDS:  # standard deviations first
        accepted = [name for name, own in _POWERS.items() if own == power]
        error = _only(columns, names, accepted, "error", source)
        if error is not None:
            return error, power
    return None, 1


def _only(columns, names, accepted, role, source):
    """The one column with an accepted name, or None."""
    found = [column for column, name in zip(columns, names, strict=True) if name in accepted]
    if len(found) > 1:
        raise _ambiguous(found, role, columns, source)
    return found[0] if found else None


def _ambiguous(found, role, columns, source):
    return SpectrumFileError(
        f"{source} has {len(found)} columns that could be the {role} among {_list(columns)}, but one is needed. Rename "
        "the others."
    )


def _standard_deviation(column, power, flux_unit, source):
    """Standard deviations in the unit of the flux, (n_pixels,); what is not positive gives NaN or infinity."""
    from astropy import units as u

    values, unit = numbers(column, source), column.unit
    own = u.Unit(unit or "", parse_strict="silent")
    if not flux_unit and own.is_equivalent(u.one) and own != u.one:
        raise SpectrumFileError(
            f"{source} has errors ({column.name!r}) in {unit!r} and fluxes without a unit, to which they may be "
            "relative. Write errors as numbers like the fluxes."
        )
    try:
        if unit and flux_unit and not _same_unit(unit, flux_unit, power):
            values = u.Unit(unit).to(u.Unit(flux_unit) ** power, values)
    except (ValueError, TypeError) as error:
        raise SpectrumFileError(
            f"{source} has errors ({column.name!r}, {_KINDS[power]}) in {column.unit!r} and fluxes in {flux_unit!r}, "
            "but the two must convert into each other: a variance has the square of the unit of the flux. Correct the "
            "units."
        ) from error
    with np.errstate(all="ignore"):
        return np.where(values > 0, np.power(values, 1 / power), np.nan)


def _same_unit(unit, flux_unit, power):
    """Whether a unit of errors is that of the flux to a power by its text, which astropy may not know."""
    powers = {1: ("",), 2: ("2", "^2", "**2"), -2: ("-2", "^-2", "**-2")}[power]
    return unit.strip().lower() in {flux_unit.strip().lower() + text for text in powers}


def _notes(used, ignored, marks, unit):
    """Sentences on the columns in use, and on those that are not."""
    texts = [
        f"{column.name} (pixels where it is not 0 are left out)"
        if any(column is mark for mark in marks)
        else column.name
        for column in used
    ]
    yield f"Columns used: {', '.join(texts)}; wavelengths in {unit or 'angstrom (no unit given)'}."
    if ignored:
        yield f"Columns ignored: {', '.join(ignored)}."


def _plain(name):
    """A name in lower case with underscores, and the unit in brackets behind it, or None."""
    match = re.fullmatch(r"\s*(.*?)\s*[\[(]([^\[\]]*)[\])]\s*", name)
    bare, unit = match.groups() if match else (name, None)
    return re.sub(r"[\s\-.]+", "_", bare.strip().lower()), (unit or "").strip() or None


def _wavelength_name(name):
    """Plain name of wavelengths, and their unit and medium by the name, or None."""
    bare, inside = _plain(name)
    words, medium = split_medium(bare.split("_"))
    unit = None
    if inside:
        rest, medium_inside = split_medium(re.split(r"[\s,;]+", inside))
        unit, medium = " ".join(rest) or None, medium or medium_inside
    elif len(words) > 1 and words[-1] in (*_UNIT_WORDS, "a"):
        unit = "Angstrom" if words[-1] == "a" else _UNIT_WORDS[words[-1]]
        words = words[:-1]
    return "_".join(words), unit, medium


def _list(columns):
    return ", ".join(repr(column.name) for column in columns)


def known_unit(text):
    """The unit in the notation of astropy, or None if astropy does not know it."""
    from astropy import units as u

    try:
        with warnings.catch_warnings():  # "erg/s/cm2" has several slashes
            warnings.simplefilter("ignore")
            return u.Unit(text).to_string() or None if text else None
    except (ValueError, TypeError):
        return None
